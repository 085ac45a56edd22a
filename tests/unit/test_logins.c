/* SPDX-License-Identifier: Apache-2.0 */
#include "conf_files.h"
#include "config/logins.h"

#include <check.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct logins *
read_text(const char *text)
{
	static char path[4096];
	const char *main_file = conf_files_main();
	struct logins *l;

	conf_files_write("passwd", text);
	(void)snprintf(path, sizeof(path), "%.*spasswd", (int)(strrchr(main_file, '/') + 1 - main_file), main_file);
	l = logins_read(path);
	ck_assert_msg(l != NULL, "%s: %s", path, strerror(errno));
	return l;
}

static const char *
name(const struct logins *l, uid_t uid)
{
	const char *found = logins_find(l, uid);

	return found != NULL ? found : "-";
}

START_TEST(the_first_name_of_a_uid_is_found)
{
	struct logins *l = read_text("root:x:0:0:root:/root:/bin/sh\n"
				     "zoe:x:1002:1002::/home/zoe:/bin/sh\n"
				     "alice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
				     "toor:x:0:0:root:/root:/bin/sh\n"
				     "big:x:4294967294:1:::\n"
				     "last:x:7:1:::");

	ck_assert_str_eq(name(l, 0), "root");
	ck_assert_str_eq(name(l, 1000), "alice");
	ck_assert_str_eq(name(l, 1002), "zoe");
	ck_assert_str_eq(name(l, 4294967294u), "big");
	ck_assert_str_eq(name(l, 7), "last");
	ck_assert_str_eq(name(l, 1001), "-");
	ck_assert_str_eq(name(l, 1), "-");
	logins_free(l);
}
END_TEST

START_TEST(lines_that_make_no_sense_name_nobody)
{
	struct logins *l = read_text("\n:x:1:1:::\nnouid:x\nempty:x::1:::\nneg:x:-2:1:::\n"
				     "hex:x:0x3:1:::\nlong:x:99999999999999999999:1:::\n"
				     "none:x:4294967295:1:::\nopen:x:5\n space:x: 6:1:::\n"
				     "+nis:x:8:1:::\n-nis:x:9:1:::\n#old:x:10:1:::\n+::::::\n");

	for (uid_t uid = 0; uid < 20; uid++)
		ck_assert_str_eq(name(l, uid), "-");
	ck_assert_str_eq(name(l, (uid_t)-1), "-");
	ck_assert_str_eq(name(l, (uid_t)-2), "-");
	logins_free(l);
	l = read_text("");
	ck_assert_str_eq(name(l, 0), "-");
	logins_free(l);
}
END_TEST

START_TEST(the_file_of_this_machine_says_the_same)
{
	struct logins *l = logins_read("/etc/passwd");
	struct passwd *pw;
	FILE *f;

	ck_assert_ptr_nonnull(l);
	ck_assert_ptr_nonnull(f = fopen("/etc/passwd", "re"));
	while ((pw = fgetpwent(f)) != NULL)
		ck_assert_str_ne(name(l, pw->pw_uid), "-");
	fclose(f);
	logins_free(l);
	ck_assert_ptr_null(logins_read("/nowhere/passwd"));
	ck_assert_int_eq(errno, ENOENT);
	logins_free(NULL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("logins");
	TCase *tc = tcase_create("logins");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, conf_files_begin, conf_files_end);
	tcase_add_test(tc, the_first_name_of_a_uid_is_found);
	tcase_add_test(tc, lines_that_make_no_sense_name_nobody);
	tcase_add_test(tc, the_file_of_this_machine_says_the_same);
	suite_add_tcase(s, tc);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
