/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader refuses, and how it says so. */
#include "core_stubs.h"
#include "plugin/module.h"
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *module, *options;
	const char *says[4]; /* parts of the message */
} refusals[] = {
	{ "refuse-magic", "needed = x",
	    { "grapnel.conf:4: plugin \"x\"", "refuse-magic.so: ", "wrong magic number" } },
	{ "refuse-major", "needed = x",
	    { "plugin ABI 2.0, this broker has 1.0", "compile it again" } },
	{ "refuse-minor", "needed = x", { "needs plugin ABI 1.7 or newer, this broker has 1.0" } },
	{ "refuse-size", "needed = x", { "descriptor is too small: 64 bytes, ABI 1.0 has" } },
	{ "refuse-tiny", "", { "descriptor is too small: 8 bytes" } },
	{ "refuse-function", "", { "grapnel_plugin is a function" } },
	{ "refuse-no-descriptor", "", { "no symbol grapnel_plugin", "GRAPNEL_PLUGIN" } },
	{ "refuse-no-create", "needed = x", { "no create function" } },
	{ "refuse-unresolved", "needed = x",
	    { "cannot be loaded: undefined symbol: nobody_has_this_function" } },
	{ "refuse-create", "needed = x", { "plugin \"x\"", "cannot start" } },
	{ "refuse", "",
	    { "grapnel.conf:4: plugin \"x\"", "required option \"needed\" is missing",
		"something it cannot do without" } },
	{ "refuse", "needed = x nedeed = y",
	    { "grapnel.conf:4", "unknown option \"nedeed\"", "did you mean \"needed\"" } },
	{ "refuse", "needed = x count = many", { "grapnel.conf:4", "\"count\"", "how many" } },
	{ "refuse", "needed = x count = 10", { "grapnel.conf:4", "\"count\"" } },
	{ "refuse", "needed = x switch = 7", { "grapnel.conf:4", "\"switch\"" } },
	{ "no-such-module", "", { "no-such-module.so: No such file or directory" } },
	{ "../../nowhere/x", "", { "nowhere/x: No such file" } },
	{ "/dev/null", "", { "/dev/null: it is not a regular file" } },
	{ "/bin/sh", "", { "/bin/sh: it has no symbol grapnel_plugin" } },
};

START_TEST(a_refusal_names_the_section_and_the_reason)
{
	const char *message;
	char sections[512];

	snprintf(sections, sizeof(sections), "plugin \"x\" { enabled = yes module = \"%s\" %s }\n",
	    refusals[_i].module, refusals[_i].options);
	message = stub_refused(sections);
	ck_assert_msg(message != NULL, "%s was accepted", refusals[_i].module);
	if (strcmp(refusals[_i].module, "/bin/sh") ==
	    0) { /* some systems' programs cannot be loaded at all */
		ck_assert_ptr_nonnull(strstr(message, "/bin/sh: it "));
		return;
	}
	for (int i = 0; i < 4 && refusals[_i].says[i] != NULL; i++)
		ck_assert_msg(strstr(message, refusals[_i].says[i]) != NULL,
		    "row %d: \"%s\" is not in: %s", _i, refusals[_i].says[i], message);
}
END_TEST

static void
write_file(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fwrite(data, 1, len, f), len);
	fclose(f);
}

/* A module of the tests as bytes. */
static unsigned char *
read_module(const char *name, size_t *len)
{
	char path[512];
	struct stat st;
	unsigned char *data;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.so", stub_modules(), name);
	ck_assert_int_eq(stat(path, &st), 0);
	data = malloc((size_t)st.st_size);
	f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	*len = fread(data, 1, (size_t)st.st_size, f);
	fclose(f);
	return data;
}

static const char *
refused_bytes(const void *data, size_t len)
{
	static char path[] = "/tmp/grapnel-module-XXXXXX";
	char sections[256];
	const char *message;
	int fd;

	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	write_file(path, data, len);
	snprintf(sections, sizeof(sections),
	    "plugin \"x\" { enabled = yes module = \"%s\" needed = x }\n", path);
	message = stub_refused(sections);
	unlink(path);
	return message;
}

START_TEST(what_is_no_elf_file_is_refused_as_such)
{
	const char *message =
	    refused_bytes("#!/bin/sh\necho this is a script and not a shared object at all\n", 62);

	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "it is not an ELF file"));
	message = refused_bytes("", 0);
	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "it is not an ELF file"));
}
END_TEST

START_TEST(a_module_that_was_cut_off_is_refused)
{
	size_t len;
	unsigned char *data = read_module("refuse", &len);
	const char *message = refused_bytes(data, 200);

	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "it cannot be loaded: "));
	free(data);
}
END_TEST

START_TEST(a_module_for_another_machine_is_refused)
{
	size_t len;
	unsigned char *data = read_module("refuse", &len);
	const char *message;

	data[18] = 0x16; /* e_machine: S/390 */
	data[19] = 0;
	message = refused_bytes(data, len);
	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "another kind of machine"));
	free(data);
}
END_TEST

START_TEST(an_object_file_is_not_a_shared_object)
{
	size_t len;
	unsigned char *data = read_module("refuse", &len);
	const char *message;

	data[16] = 1; /* e_type: ET_REL */
	message = refused_bytes(data, len);
	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "not a shared object"));
	free(data);
}
END_TEST

START_TEST(two_instances_need_two_names)
{
	const char *message = stub_refused("plugin \"a\" { enabled = yes module = slow }\nplugin "
					   "\"a\" { enabled = yes module = slow }\n");

	ck_assert_ptr_nonnull(message);
	ck_assert_msg(strstr(message, "grapnel.conf:5") != NULL && strstr(message, "\"a\"") != NULL,
	    "%s", message);
}
END_TEST

START_TEST(one_module_can_have_several_instances)
{
	ck_assert_ptr_null(stub_refused("plugin \"a\" { enabled = yes module = slow }\nplugin "
					"\"b\" { enabled = yes module = slow }\n"));
}
END_TEST

START_TEST(a_disabled_plugin_is_not_even_looked_at)
{
	ck_assert_ptr_null(stub_refused("plugin \"a\" { enabled = no module = no-such-module }\n"));
}
END_TEST

START_TEST(all_errors_are_reported_not_only_the_first)
{
	const char *message =
	    stub_refused("plugin \"a\" { enabled = yes module = refuse-magic }\n"
			 "plugin \"b\" { enabled = yes module = refuse }\n"
			 "plugin \"c\" { enabled = yes module = no-such-module }\n");

	ck_assert_ptr_nonnull(message);
	ck_assert_ptr_nonnull(strstr(message, "plugin \"a\""));
	ck_assert_ptr_nonnull(strstr(message, "plugin \"b\""));
	ck_assert_ptr_nonnull(strstr(message, "plugin \"c\""));
}
END_TEST

static unsigned created, destroyed;

static int
count_create(struct probe *p)
{
	(void)p;
	created++;
	return GRAPNEL_OK;
}

static void
count_destroy(struct probe *p)
{
	(void)p;
	destroyed++;
}

START_TEST(what_was_created_before_an_error_is_destroyed)
{
	struct probe p = { .create = count_create, .destroy = count_destroy };
	char sections[1024];

	created = destroyed = 0;
	snprintf(sections, sizeof(sections),
	    "%splugin \"b\" { enabled = yes module = refuse-magic }\n", stub_probe("a", &p, NULL));
	ck_assert_ptr_nonnull(stub_refused(sections));
	ck_assert_uint_eq(created, 1);
	ck_assert_uint_eq(destroyed, 1);
}
END_TEST

static int
complaining_create(struct probe *p)
{
	p->host->config_error(p->self, NULL, "note", "this note is %s", "no good");
	return GRAPNEL_OK; /* it said no all the same */
}

START_TEST(config_error_shows_the_options_place)
{
	struct probe p = { .create = complaining_create };
	const char *message = stub_refused(stub_probe("a", &p, "note = x"));

	ck_assert_ptr_nonnull(message);
	ck_assert_msg(strstr(message, "grapnel.conf:4: plugin \"a\": this note is no good") != NULL,
	    "%s", message);
}
END_TEST

START_TEST(the_copy_that_runs_is_not_the_file)
{
	char path[] = "/tmp/grapnel-module-XXXXXX", error[MODULE_ERROR_SIZE];
	struct module *loaded = NULL, *first, *again, *second;
	unsigned char *data;
	size_t len;
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	data = read_module("slow", &len);
	write_file(path, data, len);
	free(data);
	first = module_load(&loaded, path, error);
	ck_assert_msg(first != NULL, "%s", error);
	ck_assert_str_eq(first->descriptor.name, "slow");
	again = module_load(&loaded, path, error);
	ck_assert_ptr_eq(again, first); /* one file, one module */
	/* An upgrade in place: the old code goes on, a new load gets the new file. */
	data = read_module("acker", &len);
	write_file(path, data, len);
	free(data);
	ck_assert_str_eq(first->descriptor.name, "slow");
	ck_assert_ptr_nonnull(first->descriptor.client_authenticate);
	second = module_load(&loaded, path, error);
	ck_assert_msg(second != NULL, "%s", error);
	ck_assert_ptr_ne(second, first);
	ck_assert_str_eq(second->descriptor.name, "acker");
	module_unref(&loaded, again, true);
	module_unref(&loaded, first, true);
	module_unref(&loaded, second, true);
	ck_assert_ptr_null(loaded);
	unlink(path);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("loader");
	TCase *tc = tcase_create("loader");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_refusal_names_the_section_and_the_reason, 0,
	    sizeof(refusals) / sizeof(*refusals));
	tcase_add_test(tc, what_is_no_elf_file_is_refused_as_such);
	tcase_add_test(tc, a_module_that_was_cut_off_is_refused);
	tcase_add_test(tc, a_module_for_another_machine_is_refused);
	tcase_add_test(tc, an_object_file_is_not_a_shared_object);
	tcase_add_test(tc, two_instances_need_two_names);
	tcase_add_test(tc, one_module_can_have_several_instances);
	tcase_add_test(tc, a_disabled_plugin_is_not_even_looked_at);
	tcase_add_test(tc, all_errors_are_reported_not_only_the_first);
	tcase_add_test(tc, what_was_created_before_an_error_is_destroyed);
	tcase_add_test(tc, config_error_shows_the_options_place);
	tcase_add_test(tc, the_copy_that_runs_is_not_the_file);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
