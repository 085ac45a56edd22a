/* SPDX-License-Identifier: Apache-2.0 */
#include "store_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char error[STORE_ERROR];

static mode_t
mode_of(const char *path)
{
	struct stat st;

	ck_assert_msg(stat(path, &st) == 0, "%s is not there", path);
	return st.st_mode & 07777;
}

START_TEST(a_store_is_made_for_its_owner_alone_whatever_the_umask)
{
	struct store_file f;

	umask((mode_t)_i);
	store_files_open(&f);
	ck_assert(f.fresh);
	ck_assert(!f.unclean);
	ck_assert_str_eq(f.damage.aside, "");
	ck_assert_uint_eq(mode_of(store_files_directory()), 0700 & ~(mode_t)_i);
	ck_assert_uint_eq(mode_of(store_files_path(STORE_DATABASE)), 0600);
	ck_assert_uint_eq(mode_of(store_files_path(STORE_DATABASE "-wal")), 0600);
	ck_assert_uint_eq(mode_of(store_files_path(STORE_DATABASE "-shm")), 0600);
	ck_assert_uint_eq(mode_of(store_files_path(STORE_LOCK)), 0600);
	store_file_close(&f);
	umask(022);
}
END_TEST

START_TEST(the_database_is_set_up_as_the_writer_needs_it)
{
	static const struct {
		const char *sql;
		uint64_t value;
	} pragmas[] = {
		{ "PRAGMA page_size", 8192 },
		{ "PRAGMA auto_vacuum", 2 },
		{ "PRAGMA synchronous", 2 },
		{ "PRAGMA wal_autocheckpoint", 0 },
		{ "PRAGMA foreign_keys", 0 },
		{ "PRAGMA trusted_schema", 0 },
		{ "PRAGMA cell_size_check", 1 },
		{ "PRAGMA temp_store", 2 },
		{ "SELECT count(*) FROM pragma_journal_mode WHERE journal_mode = 'wal'", 1 },
		{ "SELECT count(*) FROM pragma_locking_mode WHERE locking_mode = 'normal'", 1 },
		{ "SELECT count(*) FROM meta WHERE name = 'program' AND value = 'grapnel 1.2.3'",
		    1 },
		{ "SELECT count(*) FROM sqlite_schema", 8 },
	};
	struct store_file f;

	store_files_open(&f);
	for (unsigned i = 0; i < sizeof(pragmas) / sizeof(pragmas[0]); i++)
		ck_assert_msg(store_files_number(f.db, pragmas[i].sql) == pragmas[i].value, "%s",
		    pragmas[i].sql);
	ck_assert_uint_eq(store_meta(f.db, "schema"), 1);
	ck_assert_uint_eq(store_meta(f.db, "next_id"), 1);
	ck_assert_uint_eq(store_meta(f.db, "clean"), 0);
	ck_assert_uint_gt(store_meta(f.db, "alive"), UINT64_C(1600000000000));
	ck_assert_uint_eq(store_meta(f.db, "no such name"), 0);
	store_file_close(&f);
}
END_TEST

START_TEST(a_store_that_is_closed_is_one_file_and_clean)
{
	struct store_file f;
	uint64_t alive;

	store_files_open(&f);
	store_files_exec(f.db,
	    "INSERT INTO kv VALUES('p', x'01', x'02');"
	    "UPDATE meta SET value = 5 WHERE name = 'alive'");
	store_file_close(&f);
	ck_assert_ptr_null(f.db);
	ck_assert(!store_files_exist(STORE_DATABASE "-wal"));
	ck_assert(!store_files_exist(STORE_DATABASE "-shm"));
	ck_assert(!store_files_exist(STORE_DATABASE ".new"));
	store_files_open(&f);
	ck_assert(!f.fresh);
	ck_assert(!f.unclean);
	alive = store_meta(f.db, "alive");
	ck_assert_uint_gt(alive, 5);
	ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM kv"), 1);
	store_file_close(&f);
}
END_TEST

/* In a process of its own that ends like a killed one. */
static void
leave_open(const char *sql)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct store_file f;

		store_files_open(&f);
		store_files_exec(f.db, sql);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(what_was_committed_is_there_after_a_crash_which_is_noticed)
{
	struct store_file f;

	leave_open("INSERT INTO kv VALUES('p', x'01', x'02')");
	ck_assert(store_files_exist(STORE_DATABASE "-wal"));
	store_files_open(&f);
	ck_assert(f.unclean);
	ck_assert(!f.fresh);
	ck_assert_str_eq(f.damage.aside, "");
	ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM kv"), 1);
	store_file_close(&f);
}
END_TEST

START_TEST(the_second_broker_is_refused_and_told_who_has_the_store)
{
	struct store_file f;
	int there[2], back[2];
	char pid_text[32], byte;
	pid_t pid;

	ck_assert_int_eq(pipe(there), 0);
	ck_assert_int_eq(pipe(back), 0);
	if ((pid = fork()) == 0) {
		close(back[1]);
		store_files_open(&f);
		if (write(there[1], "x", 1) == 1 && read(back[0], &byte, 1) == 0)
			_exit(0);
		_exit(1);
	}
	close(there[1]);
	ck_assert_int_eq(read(there[0], &byte, 1), 1);
	ck_assert_int_eq(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error), GRAPNEL_ESTATE);
	snprintf(pid_text, sizeof(pid_text), "process %ld;", (long)pid);
	ck_assert_ptr_nonnull(strstr(error, pid_text));
	ck_assert_ptr_nonnull(strstr(error, store_files_directory()));
	ck_assert_ptr_null(f.db);
	store_file_close(&f);
	close(back[1]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	store_files_open(&f);
	store_file_close(&f);
}
END_TEST

static void
make_newer(const char *set_meta)
{
	struct store_file f;

	store_files_open(&f);
	store_files_exec(f.db, "CREATE TABLE more(a)");
	store_files_exec(f.db, "UPDATE meta SET value = 'grapnel 9.0' WHERE name = 'program'");
	store_files_exec(f.db, set_meta);
	store_files_exec(f.db, "PRAGMA user_version = 7");
	store_file_close(&f);
}

START_TEST(a_newer_schema_is_refused_with_the_program_that_wrote_it)
{
	struct store_file f;

	make_newer("UPDATE meta SET value = 7 WHERE name = 'schema'");
	ck_assert_int_eq(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error), GRAPNEL_EUNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(error, "grapnel 9.0"));
	ck_assert_ptr_nonnull(strstr(error, "schema 7"));
	ck_assert_ptr_nonnull(strstr(error, "up to 1"));
	ck_assert_int_eq(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error), GRAPNEL_EUNSUPPORTED);
}
END_TEST

/* Root may do everything: then it is somebody else for a while. @return false: it is not possible here */
static bool
refused_as_somebody_else(const char *directory)
{
	struct store_file f;
	bool root = geteuid() == 0;

	if (root && seteuid(65534) != 0)
		return false;
	ck_assert_int_eq(store_file_open(&f, directory, "grapnel 1", error), GRAPNEL_ESYS);
	if (root)
		ck_assert_int_eq(seteuid(0), 0);
	ck_assert_ptr_null(f.db);
	ck_assert_msg(strstr(error, "denied") != NULL, "%s", error);
	ck_assert_msg(strstr(error, directory) != NULL, "%s", error);
	return true;
}

START_TEST(a_directory_that_may_not_be_written_is_an_error_that_says_so)
{
	char inner[700];

	ck_assert_int_eq(mkdir(store_files_directory(), 0500), 0);
	if (!refused_as_somebody_else(store_files_directory()))
		return;
	snprintf(inner, sizeof(inner), "%s/inner", store_files_directory());
	refused_as_somebody_else(inner);
}
END_TEST

START_TEST(a_directory_whose_parent_is_missing_is_an_error)
{
	struct store_file f;
	char path[700];

	snprintf(path, sizeof(path), "%s/missing/inner", store_files_directory());
	ck_assert_int_eq(store_file_open(&f, path, "grapnel 1", error), GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(error, path));
	ck_assert_ptr_nonnull(strstr(error, "No such file"));
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_file");
	TCase *tc = tcase_create("store_file");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, store_files_begin, store_files_end);
	tcase_add_loop_test(tc, a_store_is_made_for_its_owner_alone_whatever_the_umask, 0, 1);
	tcase_add_loop_test(tc, a_store_is_made_for_its_owner_alone_whatever_the_umask, 022, 023);
	tcase_add_loop_test(tc, a_store_is_made_for_its_owner_alone_whatever_the_umask, 077, 0100);
	tcase_add_test(tc, the_database_is_set_up_as_the_writer_needs_it);
	tcase_add_test(tc, a_store_that_is_closed_is_one_file_and_clean);
	tcase_add_test(tc, what_was_committed_is_there_after_a_crash_which_is_noticed);
	tcase_add_test(tc, the_second_broker_is_refused_and_told_who_has_the_store);
	tcase_add_test(tc, a_newer_schema_is_refused_with_the_program_that_wrote_it);
	tcase_add_test(tc, a_directory_that_may_not_be_written_is_an_error_that_says_so);
	tcase_add_test(tc, a_directory_whose_parent_is_missing_is_an_error);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
