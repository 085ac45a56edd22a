/* SPDX-License-Identifier: Apache-2.0 */
#include "../../ctl/passwd_edit.h"
#include "../../plugins/common/read_file.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define H1 "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
#define H2 "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"

#define KEY  "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define S256 "SCRAM-SHA-256$4096:c2FsdA==$" KEY ":" KEY

static char folder[] = "/tmp/grapnel-passwd-XXXXXX";
static char path[PATH_MAX];
static char error[8192];

static void
setup(void)
{
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/passwd", folder);
	error[0] = '\0';
}

static unsigned
files_in_folder(bool and_remove)
{
	DIR *d = opendir(folder);
	struct dirent *entry;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		n++;
		if (and_remove)
			ck_assert_int_eq(unlinkat(dirfd(d), entry->d_name, 0), 0);
	}
	closedir(d);
	return n;
}

static void
teardown(void)
{
	(void)files_in_folder(true);
	ck_assert_int_eq(rmdir(folder), 0);
}

static void
write_file(const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static bool
edit(enum passwd_edit_mode mode, const char *changes, struct passwd_edit_result *result)
{
	char *text = strdup(changes);
	struct passwd_file *f;
	bool good;

	ck_assert_ptr_nonnull(text);
	f = passwd_file_parse(text, strlen(text), "changes", error, sizeof(error));
	ck_assert_msg(f != NULL, "%s", error);
	good = passwd_edit(path, mode, f, result, error, sizeof(error));
	passwd_file_free(f);
	return good;
}

static void
assert_content(const char *want, mode_t mode)
{
	struct file_text text;

	ck_assert_msg(read_file(path, 1u << 20, &text, error, sizeof(error)), "%s", error);
	ck_assert_msg(text.len == strlen(want) && memcmp(text.data, want, text.len) == 0, "%.*s",
	    (int)text.len, text.data);
	ck_assert_uint_eq(text.mode, mode);
	file_text_free(&text);
	ck_assert_uint_eq(files_in_folder(false), 1); /* nothing temporary is left */
}

START_TEST(a_new_file_is_for_its_owner_only)
{
	struct passwd_edit_result r;
	mode_t before = umask(0);

	ck_assert_msg(edit(PASSWD_SET, "alice:" H1 "\n", &r), "%s", error);
	umask(before);
	ck_assert(r.created && r.added == 1 && r.changed == 0);
	assert_content("alice:" H1 "\n", 0600);
}
END_TEST

START_TEST(comments_order_and_other_users_stay)
{
	struct passwd_edit_result r;

	write_file("# ours\n\n bob : " H1 "\r\nalice:" H1 "\n#end", 0600);
	ck_assert_msg(edit(PASSWD_SET, "bob:" H2 "\ncarol:" H2 "\n", &r), "%s", error);
	ck_assert(!r.created && r.added == 1 && r.changed == 1);
	assert_content("# ours\n\nbob:" H2 "\nalice:" H1 "\n#end\ncarol:" H2 "\n", 0600);
}
END_TEST

START_TEST(no_line_with_an_old_password_stays)
{
	struct passwd_edit_result r;

	write_file("a:" H1 "\nb:" S256 "\na:" S256 "\n", 0600);
	ck_assert_msg(edit(PASSWD_SET, "a:" H2 "\n", &r), "%s", error);
	ck_assert(r.added == 0 && r.changed == 1);
	assert_content("a:" H2 "\nb:" S256 "\n", 0600);
	ck_assert_msg(
	    edit(PASSWD_SET, "a:" S256 "\na:" H1 "\nc:" H1 "\nc:" S256 "\n", &r), "%s", error);
	ck_assert(r.added == 1 && r.changed == 1);
	assert_content("a:" S256 "\na:" H1 "\nb:" S256 "\nc:" H1 "\nc:" S256 "\n", 0600);
	ck_assert_msg(edit(PASSWD_DELETE, "a:" H1 "\nc:" H1 "\n", &r), "%s", error);
	ck_assert_uint_eq(r.deleted, 2);
	assert_content("b:" S256 "\n", 0600);
}
END_TEST

START_TEST(others_lose_their_rights_and_the_group_may_still_read)
{
	struct passwd_edit_result r;

	write_file("a:" H1 "\n", 0664);
	ck_assert_msg(edit(PASSWD_SET, "a:" H2 "\n", &r), "%s", error);
	assert_content("a:" H2 "\n", 0640);
}
END_TEST

START_TEST(delete_removes_all_or_nothing)
{
	struct passwd_edit_result r;

	write_file("a:" H1 "\nb:" H1 "\nc:" H1 "\n", 0600);
	ck_assert(!edit(PASSWD_DELETE, "a:" H1 "\nx:" H1 "\n", &r));
	ck_assert_ptr_nonnull(strstr(error, "there is no user \"x\""));
	assert_content("a:" H1 "\nb:" H1 "\nc:" H1 "\n", 0600);
	ck_assert_msg(edit(PASSWD_DELETE, "a:" H1 "\nc:" H1 "\n", &r), "%s", error);
	ck_assert_uint_eq(r.deleted, 2);
	assert_content("b:" H1 "\n", 0600);
	unlink(path);
	ck_assert(!edit(PASSWD_DELETE, "a:" H1 "\n", &r));
}
END_TEST

START_TEST(create_refuses_a_file_that_exists)
{
	struct passwd_edit_result r;

	ck_assert_msg(edit(PASSWD_CREATE, "a:" H1 "\n", &r), "%s", error);
	ck_assert(!edit(PASSWD_CREATE, "b:" H1 "\n", &r));
	ck_assert_ptr_nonnull(strstr(error, "exists already"));
	assert_content("a:" H1 "\n", 0600);
}
END_TEST

START_TEST(a_malformed_file_is_not_touched)
{
	struct passwd_edit_result r;

	write_file("a:" H1 "\nnonsense\n", 0600);
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	ck_assert_ptr_nonnull(strstr(error, "/passwd:2: "));
	assert_content("a:" H1 "\nnonsense\n", 0600);
}
END_TEST

START_TEST(a_link_stays_a_link)
{
	struct passwd_edit_result r;
	char real[PATH_MAX + 8], link_path[PATH_MAX];
	struct stat st;

	write_file("a:" H1 "\n", 0600);
	snprintf(real, sizeof(real), "%s.real", path);
	strcpy(link_path, path);
	ck_assert_int_eq(rename(path, real), 0);
	ck_assert_int_eq(symlink("passwd.real", link_path), 0);
	ck_assert_msg(edit(PASSWD_SET, "b:" H1 "\n", &r), "%s", error);
	ck_assert_int_eq(lstat(link_path, &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	ck_assert_int_eq(unlink(link_path), 0);
	snprintf(path, sizeof(path), "%s/passwd.real", folder);
	assert_content("a:" H1 "\nb:" H1 "\n", 0600);
}
END_TEST

START_TEST(what_is_no_file_is_an_error)
{
	struct passwd_edit_result r;

	snprintf(path, sizeof(path), "%s", folder);
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	snprintf(path, sizeof(path), "%s/", folder);
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	snprintf(path, sizeof(path), "%s/missing/passwd", folder);
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	path[0] = '\0';
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	snprintf(path, sizeof(path), "%s/fifo", folder);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert(!edit(PASSWD_SET, "b:" H1 "\n", &r));
	ck_assert_ptr_nonnull(strstr(error, "not a regular file"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("passwd_edit");
	TCase *tc = tcase_create("passwd_edit");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_new_file_is_for_its_owner_only);
	tcase_add_test(tc, comments_order_and_other_users_stay);
	tcase_add_test(tc, no_line_with_an_old_password_stays);
	tcase_add_test(tc, others_lose_their_rights_and_the_group_may_still_read);
	tcase_add_test(tc, delete_removes_all_or_nothing);
	tcase_add_test(tc, create_refuses_a_file_that_exists);
	tcase_add_test(tc, a_malformed_file_is_not_touched);
	tcase_add_test(tc, a_link_stays_a_link);
	tcase_add_test(tc, what_is_no_file_is_an_error);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
