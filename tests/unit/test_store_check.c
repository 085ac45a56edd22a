/* SPDX-License-Identifier: Apache-2.0 */
/* Beside a running broker: reading, checking, copying. */
#include "store/checker.h"
#include "store/rows.h"
#include "store_files.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct store_rows before, now;
static char error[STORE_ERROR], lines[8192];

static void
keep_line(const char *text, void *arg)
{
	size_t len = strlen(lines);

	ck_assert_ptr_null(strchr(text, '\n'));
	snprintf(lines + len, sizeof(lines) - len, "%s\n", text);
	(*(long *)arg)++;
}

static long
check_all(sqlite3 *db, bool checksums)
{
	long told = 0, faults;

	lines[0] = '\0';
	faults = store_file_check(db, checksums, keep_line, &told);
	ck_assert(faults < 0 || faults == told);
	return faults;
}

/* ---- checking -------------------------------------------------------------------------------------- */

START_TEST(each_wrong_row_is_one_line_with_table_key_and_reason)
{
	static const struct {
		const char *sql, *line;
	} cases[] = {
		{ "UPDATE session SET row = row || x'00' WHERE id = 4",
		    "table session, key 4: the checksum is wrong\n" },
		{ "UPDATE exchange SET session = 5 WHERE session = 7",
		    "table exchange, key 5: the checksum is wrong\n" },
		{ "UPDATE subscription SET filter = x'0a2541' WHERE filter IN (SELECT filter FROM "
		  "subscription WHERE session > 0 "
		  "LIMIT 1)",
		    ", \\x0a%A: the checksum is wrong\n" },
		{ "UPDATE retained SET seq = 99999 WHERE topic IN (SELECT topic FROM retained "
		  "LIMIT 1)",
		    "/state/" },
		{ "UPDATE log SET finished = x'' WHERE segment = 3",
		    "table log, key 3: the checksum of `finished` is wrong\n" },
		{ "UPDATE log SET messages = 'text' WHERE segment = 3",
		    "table log, key 3: the checksum of `messages` is wrong\n" },
		{ "UPDATE log SET messages = NULL, finished = NULL WHERE segment = 3",
		    "table log, key 3: it has neither messages nor `finished`\n" },
		{ "UPDATE ban SET address = 'me' WHERE address IN (SELECT address FROM ban LIMIT "
		  "1)",
		    "table ban, key me: the checksum is wrong\n" },
		{ "UPDATE kv SET plugin = 'other' WHERE key IN (SELECT key FROM kv LIMIT 1)",
		    "table kv, key other, " },
		{ "INSERT INTO session VALUES(100000, x'')",
		    "table session, key 100000: the checksum is wrong\n" },
	};
	struct store_file f;

	store_files_open(&f);
	store_files_fill(f.db);
	ck_assert_int_eq(check_all(f.db, true), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		store_files_exec(f.db, "BEGIN");
		store_files_exec(f.db, cases[i].sql);
		ck_assert_msg(check_all(f.db, true) == 1, "%s: %s", cases[i].sql, lines);
		ck_assert_msg(strstr(lines, cases[i].line) != NULL, "%s: %s", cases[i].sql, lines);
		ck_assert_int_eq(check_all(f.db, false), 0);
		store_files_exec(f.db, "ROLLBACK");
	}
	store_file_close(&f);
}
END_TEST

START_TEST(a_damaged_page_is_a_fault_and_the_other_tables_are_checked)
{
	struct store_file f;
	struct store_bytes b;
	sqlite3 *db;
	uint64_t page;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_exec(
	    f.db, "UPDATE kv SET plugin = 'other' WHERE key IN (SELECT key FROM kv LIMIT 1)");
	page = store_files_number(
	    f.db, "SELECT max(pageno) FROM dbstat WHERE name = 'session' AND pagetype = 'leaf'");
	store_file_close(&f);
	b = store_files_get(STORE_DATABASE);
	memset(b.data + (page - 1) * 8192, 0xff, 16);
	store_files_put(STORE_DATABASE, b.data, b.len);
	free(b.data);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	ck_assert_int_ge(check_all(db, true), 3);
	ck_assert_msg(strstr(lines, "table session cannot be read") != NULL, "%s", lines);
	ck_assert_msg(strstr(lines, "table kv, key other") != NULL, "%s", lines);
	sqlite3_close(db);
}
END_TEST

/* ---- reading --------------------------------------------------------------------------------------- */

START_TEST(a_store_that_is_in_use_is_read_with_what_is_in_its_wal)
{
	struct store_file f;
	sqlite3 *db;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_rows(f.db, false, &before);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	store_files_rows(db, false, &now);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		ck_assert_uint_eq(store_files_missing(&before, &now, t), 0);
	ck_assert_int_ne(sqlite3_exec(db, "DELETE FROM kv", NULL, NULL, NULL), SQLITE_OK);
	/* The broker writes on meanwhile, and its WAL may begin anew when nobody reads. */
	store_files_exec(f.db, "DELETE FROM kv");
	ck_assert_int_eq(
	    sqlite3_wal_checkpoint_v2(f.db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL),
	    SQLITE_OK);
	sqlite3_close(db);
	store_file_close(&f);
}
END_TEST

START_TEST(reading_leaves_nothing_behind_and_changes_nothing)
{
	struct store_file f;
	struct store_bytes was, is;
	sqlite3 *db;

	store_files_open(&f);
	store_files_fill(f.db);
	store_file_close(&f);
	was = store_files_get(STORE_DATABASE);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	ck_assert_uint_eq(store_files_number(db, "SELECT count(*) FROM session"), 300);
	sqlite3_close(db);
	is = store_files_get(STORE_DATABASE);
	ck_assert_uint_eq(was.len, is.len);
	ck_assert_int_eq(memcmp(was.data, is.data, was.len), 0);
	ck_assert(!store_files_exist(STORE_DATABASE "-wal"));
	ck_assert(!store_files_exist(STORE_DATABASE "-shm"));
	free(was.data);
	free(is.data);
}
END_TEST

START_TEST(what_a_crashed_broker_left_is_read_and_stays)
{
	struct store_bytes was, is;
	sqlite3 *db;
	pid_t pid = fork();

	if (pid == 0) {
		struct store_file f;

		store_files_open(&f);
		store_files_fill(f.db);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	was = store_files_get(STORE_DATABASE "-wal");
	ck_assert_uint_gt(was.len, 8192);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	ck_assert_uint_eq(store_files_number(db, "SELECT count(*) FROM session"), 300);
	sqlite3_close(db);
	is = store_files_get(STORE_DATABASE "-wal");
	ck_assert_uint_eq(was.len, is.len);
	ck_assert_int_eq(memcmp(was.data, is.data, was.len), 0);
	free(was.data);
	free(is.data);
}
END_TEST

START_TEST(what_cannot_be_read_is_said)
{
	struct store_file f;
	sqlite3 *db;

	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_ENOENT);
	ck_assert_ptr_null(db);
	ck_assert_ptr_nonnull(strstr(error, store_files_path(STORE_DATABASE)));
	store_files_put(STORE_DATABASE, (const uint8_t *)"garbage garbage", 15);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_EFAULT);
	ck_assert_ptr_null(db);
	store_files_open(&f);
	store_files_exec(
	    f.db, "UPDATE meta SET value = 3 WHERE name = 'schema'; PRAGMA user_version = 3");
	ck_assert_int_eq(
	    store_file_read(&db, store_files_directory(), error), GRAPNEL_EUNSUPPORTED);
	ck_assert_ptr_null(db);
	ck_assert_ptr_nonnull(strstr(error, "grapnel 1.2.3"));
	store_file_close(&f);
}
END_TEST

/* ---- copying ---------------------------------------------------------------------------------------- */

struct writing {
	sqlite3 *db;
	atomic_bool stop;
	atomic_int commits;
};

static void *
write_always(void *arg)
{
	struct writing *w = arg;

	while (!w->stop) {
		/* Both or none of them are in a consistent copy. */
		if (sqlite3_exec(w->db,
			"BEGIN; INSERT INTO kv SELECT 'n', randomblob(16), zeroblob(9000);"
			"INSERT INTO ban SELECT hex(randomblob(16)), zeroblob(9000); COMMIT",
			NULL, NULL, NULL) == SQLITE_OK)
			w->commits++;
	}
	return NULL;
}

START_TEST(a_copy_is_consistent_while_the_broker_writes)
{
	char to[700];
	struct store_file f;
	struct writing w = { 0 };
	struct stat st;
	pthread_t thread;
	sqlite3 *db;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_rows(f.db, false, &before);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	w.db = f.db;
	ck_assert_int_eq(pthread_create(&thread, NULL, write_always, &w), 0);
	while (w.commits < 3)
		usleep(1000);
	snprintf(to, sizeof(to), "%s", store_files_path("copy.db"));
	umask(0);
	ck_assert_msg(store_file_backup(db, to, error) == GRAPNEL_OK, "%s", error);
	umask(022);
	ck_assert(sqlite3_get_autocommit(db));
	w.stop = true;
	pthread_join(thread, NULL);
	ck_assert_int_eq(stat(to, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert(!store_files_exist("copy.db.partial"));
	ck_assert_int_eq(store_file_backup(db, to, error), GRAPNEL_ESTATE);
	ck_assert_ptr_nonnull(strstr(error, to));
	sqlite3_close(db);
	store_file_close(&f);
	/* Put where a store is, it is one. */
	ck_assert_int_eq(rename(to, store_files_path(STORE_DATABASE)), 0);
	store_files_open(&f);
	ck_assert_str_eq(f.damage.aside, "");
	store_files_rows(f.db, false, &now);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		ck_assert_uint_eq(store_files_missing(&before, &now, t), 0);
	ck_assert_uint_ge(
	    store_files_number(f.db, "SELECT count(*) FROM kv WHERE plugin = 'n'"), 3);
	ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM kv WHERE plugin = 'n'"),
	    store_files_number(f.db, "SELECT count(*) FROM ban WHERE length(row) = 9000"));
	store_file_close(&f);
}
END_TEST

START_TEST(a_copy_that_cannot_be_written_leaves_nothing)
{
	struct store_file f;
	sqlite3 *db;

	store_files_open(&f);
	store_files_fill(f.db);
	ck_assert_int_eq(store_file_read(&db, store_files_directory(), error), GRAPNEL_OK);
	ck_assert_int_eq(store_file_backup(db, "/dev/full/copy", error), GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(error, "/dev/full/copy"));
	ck_assert(sqlite3_get_autocommit(db));
	sqlite3_close(db);
	store_file_close(&f);
}
END_TEST

/* ---- in the background ------------------------------------------------------------------------------ */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t called;
	unsigned calls;
	long faults;
	char first[STORE_ERROR];
} result = { .lock = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER };

static void
on_checked(long faults, const char *first, void *arg)
{
	ck_assert_ptr_eq(arg, &result);
	pthread_mutex_lock(&result.lock);
	result.calls++;
	result.faults = faults;
	snprintf(result.first, sizeof(result.first), "%s", first);
	pthread_cond_signal(&result.called);
	pthread_mutex_unlock(&result.lock);
}

static void
check_in_background(void)
{
	struct store_checker *c;

	result.calls = 0;
	ck_assert_int_eq(
	    store_checker_start(&c, store_files_directory(), on_checked, &result), GRAPNEL_OK);
	pthread_mutex_lock(&result.lock);
	while (result.calls == 0)
		pthread_cond_wait(&result.called, &result.lock);
	pthread_mutex_unlock(&result.lock);
	store_checker_stop(c);
	ck_assert_uint_eq(result.calls, 1);
}

START_TEST(a_check_in_the_background_tells_once_what_it_found)
{
	struct store_file f;

	store_files_open(&f);
	store_files_fill(f.db);
	check_in_background();
	ck_assert_int_eq(result.faults, 0);
	ck_assert_str_eq(result.first, "");
	store_files_exec(f.db, "UPDATE session SET row = x'00' WHERE id IN (4, 7)");
	check_in_background();
	ck_assert_int_eq(result.faults, 2);
	ck_assert_str_eq(result.first, "table session, key 4: the checksum is wrong");
	store_file_close(&f);
	store_files_put(STORE_DATABASE, (const uint8_t *)"garbage", 7);
	check_in_background();
	ck_assert_int_lt(result.faults, 0);
	ck_assert_ptr_nonnull(strstr(result.first, STORE_DATABASE));
}
END_TEST

START_TEST(a_check_that_is_stopped_ends_and_says_nothing_more)
{
	struct store_file f;
	struct store_checker *c;

	store_files_open(&f);
	store_files_fill(f.db);
	for (unsigned i = 0; i < 30; i++) {
		unsigned calls;

		result.calls = 0;
		ck_assert_int_eq(
		    store_checker_start(&c, store_files_directory(), on_checked, &result),
		    GRAPNEL_OK);
		usleep(i * 50);
		store_checker_stop(c);
		calls = result.calls;
		ck_assert_uint_le(calls, 1);
		ck_assert(calls == 0 || result.faults == 0);
	}
	store_checker_stop(NULL);
	store_file_close(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_check");
	TCase *tc = tcase_create("store_check");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, store_files_begin, store_files_end);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, each_wrong_row_is_one_line_with_table_key_and_reason);
	tcase_add_test(tc, a_damaged_page_is_a_fault_and_the_other_tables_are_checked);
	tcase_add_test(tc, a_store_that_is_in_use_is_read_with_what_is_in_its_wal);
	tcase_add_test(tc, reading_leaves_nothing_behind_and_changes_nothing);
	tcase_add_test(tc, what_a_crashed_broker_left_is_read_and_stays);
	tcase_add_test(tc, what_cannot_be_read_is_said);
	tcase_add_test(tc, a_copy_is_consistent_while_the_broker_writes);
	tcase_add_test(tc, a_copy_that_cannot_be_written_leaves_nothing);
	tcase_add_test(tc, a_check_in_the_background_tells_once_what_it_found);
	tcase_add_test(tc, a_check_that_is_stopped_ends_and_says_nothing_more);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
