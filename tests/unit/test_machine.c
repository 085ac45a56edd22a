/* SPDX-License-Identifier: Apache-2.0 */
#include "config/machine.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static char root[32];

/* A file below root, with the folders it is in. */
static void
put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = strchr(full + strlen(root) + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(full, 0700);
		*slash = '/';
	}
	f = fopen(full, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
}

static void
setup(void)
{
	(void)snprintf(root, sizeof(root), "/tmp/grapnel-unit-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
}

static void
teardown(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	ck_assert_int_eq(system(command), 0);
}

START_TEST(without_control_groups_there_is_no_limit)
{
	ck_assert_uint_eq(machine_cgroup_memory(root), UINT64_MAX);
	put("/proc/self/cgroup", "0::/system.slice/grapnel.service\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), UINT64_MAX);
	put("/proc/self/cgroup", "nonsense\n:\n0::\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), UINT64_MAX);
}
END_TEST

START_TEST(version_2_the_group_says_how_much)
{
	put("/proc/self/cgroup", "0::/system.slice/grapnel.service\n");
	put("/sys/fs/cgroup/system.slice/grapnel.service/memory.max", "134217728\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 128 * MIB);
	put("/sys/fs/cgroup/system.slice/grapnel.service/memory.max", "max\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), UINT64_MAX);
}
END_TEST

START_TEST(version_2_no_more_than_the_group_it_is_in)
{
	put("/proc/self/cgroup", "0::/a.slice/b.slice/c.service\n");
	put("/sys/fs/cgroup/a.slice/b.slice/c.service/memory.max", "max\n");
	put("/sys/fs/cgroup/a.slice/memory.max", "67108864\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 64 * MIB);
	put("/sys/fs/cgroup/a.slice/b.slice/memory.max", "268435456\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 64 * MIB);
	put("/sys/fs/cgroup/a.slice/b.slice/c.service/memory.max", "33554432\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 32 * MIB);
}
END_TEST

START_TEST(in_a_container_the_top_is_its_own_group)
{
	put("/sys/fs/cgroup/memory.max", "536870912\n");
	put("/proc/self/cgroup", "0::/\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 512 * MIB);
	put("/proc/self/cgroup", "0::/../../docker/0123\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 512 * MIB);
}
END_TEST

START_TEST(version_1_the_memory_controller_counts)
{
	put("/proc/self/cgroup",
	    "12:cpu,cpuacct:/x\n4:memory:/docker/0123\n1:name=systemd:/memory\n");
	put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "1073741824\n");
	ck_assert_uint_eq(machine_cgroup_memory(root), 1024 * MIB);
}
END_TEST

START_TEST(this_machine_has_some_memory)
{
	ck_assert_uint_gt(machine_memory(), 16 * MIB);
	ck_assert_uint_le(
	    machine_memory(), (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("machine");
	TCase *tc = tcase_create("machine");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, without_control_groups_there_is_no_limit);
	tcase_add_test(tc, version_2_the_group_says_how_much);
	tcase_add_test(tc, version_2_no_more_than_the_group_it_is_in);
	tcase_add_test(tc, in_a_container_the_top_is_its_own_group);
	tcase_add_test(tc, version_1_the_memory_controller_counts);
	tcase_add_test(tc, this_machine_has_some_memory);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
