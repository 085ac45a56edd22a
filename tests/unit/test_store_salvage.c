/* SPDX-License-Identifier: Apache-2.0 */
/* Whatever is where the database should be: the store opens, and says what was there. */
#include "store/rows.h"
#include "store_files.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE  8192u
#define FRAME (PAGE + 24u)

static struct store_rows before, now;
static char error[STORE_ERROR], text[2000];

static void
fill_and(void (*more)(sqlite3 *db), bool crash)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct store_file f;

		store_files_open(&f);
		store_files_fill(f.db);
		if (more != NULL)
			more(f.db);
		if (!crash)
			store_file_close(&f);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
make_filled(void)
{
	struct store_file f;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_rows(f.db, false, &before);
	store_file_close(&f);
}

static void
damage_first_page(void)
{
	struct store_bytes b = store_files_get(STORE_DATABASE);

	memset(b.data, 0xa5, PAGE);
	store_files_put(STORE_DATABASE, b.data, b.len);
	free(b.data);
}

static void
open_and_expect_all(const char *what)
{
	struct store_file f;

	ck_assert_msg(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error) == GRAPNEL_OK,
	    "%s: %s", what, error);
	store_files_rows(f.db, false, &now);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		ck_assert_msg(store_files_missing(&before, &now, t) == 0 &&
			store_files_missing(&now, &before, t) == 0,
		    "%s: table %u", what, t);
	ck_assert_msg(!store_files_exist(STORE_DATABASE ".salvage"), "%s", what);
	store_damage_text(&f.damage, text, sizeof(text));
	store_file_close(&f);
}

/* ---- what is no database ------------------------------------------------------------------------- */

START_TEST(an_empty_file_is_not_an_empty_store)
{
	struct store_file f;

	store_files_put(STORE_DATABASE, (const uint8_t *)"", 0);
	store_files_open(&f);
	ck_assert(!f.fresh);
	ck_assert(f.damage.aside[0] != '\0');
	ck_assert_uint_eq(f.damage.saved, 0);
	store_damage_text(&f.damage, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "all that it held is lost"));
	store_file_close(&f);
}
END_TEST

START_TEST(garbage_is_kept_and_said)
{
	static uint8_t garbage[100 * PAGE + 7];
	struct store_bytes kept;
	struct store_file f;
	uint32_t state = 7 + (uint32_t)_i;

	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
	/* So that pages look like some of a tree, and rows as if they went on elsewhere. */
	for (size_t i = 0; i < sizeof(garbage) && _i > 0; i += PAGE)
		garbage[i] = (uint8_t[]){ 2, 5, 10, 13 }[(i / PAGE) % 4];
	store_files_put(STORE_DATABASE, garbage, sizeof(garbage));
	store_files_open(&f);
	ck_assert_uint_eq(f.damage.saved, 0);
	store_damage_text(&f.damage, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "all that it held is lost"));
	kept = store_files_get(strrchr(f.damage.aside, '/') + 1);
	ck_assert_uint_eq(kept.len, sizeof(garbage));
	ck_assert_int_eq(memcmp(kept.data, garbage, sizeof(garbage)), 0);
	free(kept.data);
	store_file_close(&f);
}
END_TEST

START_TEST(a_wal_whose_database_is_gone_is_salvaged)
{
	struct store_file f;

	fill_and(NULL, true);
	ck_assert_int_eq(unlink(store_files_path(STORE_DATABASE)), 0);
	store_files_open(&f);
	ck_assert(!f.fresh);
	ck_assert_uint_gt(f.damage.saved, 100);
	store_file_close(&f);
}
END_TEST

START_TEST(what_was_set_aside_is_never_overwritten)
{
	static const uint8_t garbage[3][4] = { "one", "two", "six" };
	char asides[3][600];

	for (unsigned i = 0; i < 3; i++) {
		struct store_file f;

		store_files_put(STORE_DATABASE, garbage[i], 4);
		store_files_open(&f);
		snprintf(asides[i], sizeof(asides[i]), "%s", strrchr(f.damage.aside, '/') + 1);
		store_file_close(&f);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct store_bytes kept = store_files_get(asides[i]);

		ck_assert_uint_eq(kept.len, 4);
		ck_assert_int_eq(memcmp(kept.data, garbage[i], 4), 0);
		free(kept.data);
	}
}
END_TEST

/* ---- what is nearly one --------------------------------------------------------------------------- */

START_TEST(without_its_first_page_all_rows_are_saved)
{
	make_filled();
	damage_first_page();
	open_and_expect_all("no first page");
	ck_assert_ptr_nonnull(strstr(text, "1 of its pages cannot be read"));
}
END_TEST

START_TEST(rows_that_are_in_the_wal_alone_are_saved_too)
{
	struct store_file f;
	struct store_bytes db, wal, kept;
	char name[700];

	fill_and(NULL, true);
	db = store_files_get(STORE_DATABASE);
	wal = store_files_get(STORE_DATABASE "-wal");
	ck_assert_uint_gt(wal.len, 20 * FRAME);
	store_files_open(&f);
	store_files_rows(f.db, false, &before);
	ck_assert_uint_gt(before.count[TABLE_KV], 10);
	ck_assert_int_eq(store_file_salvage(&f, error), GRAPNEL_OK);
	store_files_rows(f.db, false, &now);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		ck_assert_uint_eq(store_files_missing(&before, &now, t), 0);
	/* Both are kept as they were; what came to the WAL is that it was opened. */
	snprintf(name, sizeof(name), "%s-wal", strrchr(f.damage.aside, '/') + 1);
	kept = store_files_get(name);
	ck_assert_uint_ge(kept.len, wal.len);
	ck_assert_int_eq(memcmp(kept.data, wal.data, wal.len), 0);
	free(kept.data);
	kept = store_files_get(strrchr(f.damage.aside, '/') + 1);
	ck_assert_uint_eq(kept.len, db.len);
	ck_assert_int_eq(memcmp(kept.data, db.data, db.len), 0);
	free(kept.data);
	free(db.data);
	free(wal.data);
	store_file_close(&f);
}
END_TEST

static const char *const spoilers[] = {
	"CREATE TRIGGER t AFTER INSERT ON kv BEGIN DELETE FROM session; END",
	"CREATE VIEW v AS SELECT * FROM kv",
	"CREATE INDEX i ON kv(row)",
	"DROP TABLE ban",
	"ALTER TABLE kv ADD COLUMN more",
	"UPDATE meta SET value = 9 WHERE name = 'schema'",
	"PRAGMA user_version = 9",
	"UPDATE meta SET value = 'x' WHERE name = 'next_id'",
	"DELETE FROM meta",
};
static const char *spoiler;

static void
spoil(sqlite3 *db)
{
	store_files_exec(db, spoiler);
}

START_TEST(a_database_that_is_not_as_it_was_made_is_made_anew)
{
	struct store_file f;

	spoiler = spoilers[_i];
	fill_and(spoil, false);
	store_files_open(&f);
	ck_assert(f.damage.aside[0] != '\0');
	ck_assert_uint_gt(f.damage.saved, 1000);
	ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM sqlite_schema"), 8);
	ck_assert_uint_gt(store_meta(f.db, "next_id"), 898);
	ck_assert_uint_gt(store_meta(f.db, "next_segment"), 40);
	ck_assert_uint_eq(store_meta(f.db, "schema"), 1);
	ck_assert_uint_gt(store_meta(f.db, "alive"), UINT64_C(1600000000000));
	ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM session"), 300);
	store_file_close(&f);
}
END_TEST

START_TEST(rows_with_a_wrong_checksum_are_left_behind_and_counted)
{
	struct store_file f;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_exec(f.db, "VACUUM; INSERT INTO meta VALUES('next_segment', 1 << 40)");
	store_files_exec(f.db,
	    "UPDATE session SET row = row || x'00' WHERE id < 10;"
	    "UPDATE kv SET plugin = 'other' WHERE key IN (SELECT key FROM kv LIMIT 2);"
	    "UPDATE retained SET seq = 12345 WHERE topic IN (SELECT topic FROM retained LIMIT 1);"
	    "UPDATE log SET finished = x'01' WHERE segment = 3;"
	    "UPDATE log SET messages = x'01' WHERE segment = 6;");
	ck_assert_int_eq(store_file_salvage(&f, error), GRAPNEL_OK);
	ck_assert_uint_gt(store_meta(f.db, "next_segment"), UINT64_C(1) << 40);
	ck_assert_uint_eq(f.damage.sessions, 3);
	ck_assert_uint_eq(f.damage.values, 2);
	ck_assert_uint_eq(f.damage.segments, 2);
	ck_assert_uint_eq(f.damage.retained, 0);
	ck_assert_uint_eq(f.damage.subscriptions, 0);
	ck_assert_uint_eq(f.damage.pages, 0);
	/* One part of a segment is not lost with the other. */
	ck_assert_uint_eq(store_files_number(f.db,
			      "SELECT count(*) FROM log WHERE segment = 3 AND finished IS NULL AND "
			      "messages NOT NULL"),
	    1);
	ck_assert_uint_eq(store_files_number(f.db,
			      "SELECT count(*) FROM log WHERE segment = 6 AND messages IS NULL AND "
			      "finished NOT NULL"),
	    1);
	store_files_rows(f.db, false, &now);
	ck_assert_uint_eq(now.wrong, 0);
	store_damage_text(&f.damage, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text,
	    "; about 3 sessions, 2 segments of queued messages, 2 values of plugins are lost"));
	store_file_close(&f);
}
END_TEST

START_TEST(what_was_deleted_does_not_come_back)
{
	struct store_file f;

	store_files_open(&f);
	store_files_fill(f.db);
	store_files_exec(f.db,
	    "PRAGMA secure_delete = OFF; DELETE FROM session WHERE id > 300; DELETE FROM log; "
	    "DELETE FROM kv");
	store_files_rows(f.db, false, &before);
	store_file_close(&f);
	damage_first_page();
	open_and_expect_all("deleted rows");
}
END_TEST

/* ---- the WAL -------------------------------------------------------------------------------------- */

#define COMMITS 12

static void
commit_often(sqlite3 *db)
{
	for (int i = 0; i < COMMITS; i++) {
		char sql[128];

		snprintf(sql, sizeof(sql), "INSERT INTO kv VALUES('n', x'%02x', zeroblob(%d))", i,
		    100 + i * 1500);
		store_files_exec(db, sql);
	}
}

/* How many transactions are whole in so many bytes of the WAL: their last frame says so. */
static unsigned
commits_in(const struct store_bytes *wal, size_t len)
{
	unsigned commits = 0;

	for (size_t at = 32; at + FRAME <= len; at += FRAME)
		commits += memcmp(wal->data + at + 4, "\0\0\0", 4) != 0;
	return commits;
}

START_TEST(a_wal_that_is_cut_keeps_the_transactions_before_the_cut)
{
	struct store_bytes db, wal;
	unsigned all;

	fill_and(commit_often, true);
	db = store_files_get(STORE_DATABASE);
	wal = store_files_get(STORE_DATABASE "-wal");
	all = commits_in(&wal, wal.len);
	ck_assert_uint_eq(all, COMMITS + 2);
	for (size_t i = 0; i < 100; i++) {
		size_t len = i % 4 == 0 ? wal.len - i / 4 * FRAME : wal.len * i / 100;
		unsigned commits = commits_in(&wal, len);
		uint64_t rows = commits > 2 ? commits - 2 : 0;
		struct store_file f;

		store_files_empty();
		store_files_put(STORE_DATABASE, db.data, db.len);
		store_files_put(STORE_DATABASE "-wal", wal.data, len);
		store_files_open(&f);
		ck_assert_str_eq(f.damage.aside, "");
		ck_assert_uint_eq(
		    store_files_number(f.db, "SELECT count(*) FROM kv WHERE plugin = 'n'"), rows);
		ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM session"),
		    commits >= 2 ? 300 : 0);
		/* The same without SQLite. */
		ck_assert_int_eq(store_file_salvage(&f, error), GRAPNEL_OK);
		ck_assert_uint_eq(f.damage.sessions + f.damage.pages, 0);
		ck_assert_uint_eq(store_files_number(f.db, "SELECT count(*) FROM session"),
		    commits >= 2 ? 300 : 0);
		store_file_close(&f);
	}
	free(db.data);
	free(wal.data);
}
END_TEST

START_TEST(a_transaction_that_is_not_whole_in_the_wal_is_not_salvaged)
{
	struct store_bytes wal;
	struct store_file f;
	size_t len;

	fill_and(NULL, true);
	damage_first_page();
	wal = store_files_get(STORE_DATABASE "-wal");
	ck_assert_uint_eq(commits_in(&wal, wal.len), 2);
	len = wal.len - FRAME;
	ck_assert_uint_eq(commits_in(&wal, len), 1);
	store_files_put(STORE_DATABASE "-wal", wal.data, len);
	store_files_open(&f);
	ck_assert(f.damage.aside[0] != '\0');
	ck_assert_uint_eq(f.damage.saved, 0);
	store_file_close(&f);
	free(wal.data);
}
END_TEST

/* ---- interrupted ----------------------------------------------------------------------------------- */

#define ASIDE STORE_DATABASE ".damaged-20200101T000000"

static void
mark(const char *to)
{
	ck_assert_int_eq(symlink(to, store_files_path(STORE_DATABASE ".salvage")), 0);
}

static void
move(const char *from, const char *to)
{
	ck_assert_int_eq(rename(store_files_path(from), store_files_path(to)), 0);
}

START_TEST(a_salvage_that_was_interrupted_is_done_again)
{
	make_filled();
	damage_first_page();
	mark(ASIDE);
	store_files_put(STORE_DATABASE "-wal", (const uint8_t *)"x", 1);
	if (_i >= 1)
		move(STORE_DATABASE "-wal", ASIDE "-wal");
	if (_i >= 2)
		move(STORE_DATABASE, ASIDE);
	if (_i >= 3)
		store_files_put(STORE_DATABASE ".new", (const uint8_t *)"part", 4);
	open_and_expect_all("interrupted");
	ck_assert(store_files_exist(ASIDE));
	ck_assert(store_files_exist(ASIDE "-wal"));
	ck_assert_ptr_nonnull(strstr(text, ASIDE));
	/* Once it is in place that was all. */
	mark(ASIDE);
	open_and_expect_all("complete");
	ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(a_mark_that_leads_elsewhere_is_not_followed)
{
	make_filled();
	mark(_i == 0 ? "/etc/passwd" : STORE_DATABASE ".damaged-/../x");
	open_and_expect_all("strange mark");
	ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(without_room_for_the_new_database_the_next_start_salvages)
{
	struct rlimit old, small = { 100000, RLIM_INFINITY };
	struct store_file f;

	make_filled();
	damage_first_page();
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	small.rlim_max = old.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	ck_assert_int_eq(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error), GRAPNEL_ESYS);
	ck_assert_msg(strstr(error, store_files_directory()) != NULL, "%s", error);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	open_and_expect_all("again");
	ck_assert_ptr_nonnull(strstr(text, "damaged"));
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_salvage");
	TCase *tc = tcase_create("store_salvage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, store_files_begin, store_files_end);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, an_empty_file_is_not_an_empty_store);
	tcase_add_loop_test(tc, garbage_is_kept_and_said, 0, 5);
	tcase_add_test(tc, a_wal_whose_database_is_gone_is_salvaged);
	tcase_add_test(tc, what_was_set_aside_is_never_overwritten);
	tcase_add_test(tc, without_its_first_page_all_rows_are_saved);
	tcase_add_test(tc, rows_that_are_in_the_wal_alone_are_saved_too);
	tcase_add_loop_test(tc, a_database_that_is_not_as_it_was_made_is_made_anew, 0,
	    (int)(sizeof(spoilers) / sizeof(spoilers[0])));
	tcase_add_test(tc, rows_with_a_wrong_checksum_are_left_behind_and_counted);
	tcase_add_test(tc, what_was_deleted_does_not_come_back);
	tcase_add_test(tc, a_wal_that_is_cut_keeps_the_transactions_before_the_cut);
	tcase_add_test(tc, a_transaction_that_is_not_whole_in_the_wal_is_not_salvaged);
	tcase_add_loop_test(tc, a_salvage_that_was_interrupted_is_done_again, 0, 4);
	tcase_add_loop_test(tc, a_mark_that_leads_elsewhere_is_not_followed, 0, 2);
	tcase_add_test(tc, without_room_for_the_new_database_the_next_start_salvages);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
