/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is damaged is said, and what is not is kept: the same file, cut and changed at hundreds of places.
 */
#include "store/rows.h"
#include "store_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE         8192u
#define SECTOR_CASES 40u

static struct store_bytes whole;             /* a closed, filled store */
static struct store_rows before, now, plain; /* plain: what SQLite alone reads */
static unsigned page_count, *page_cells;     /* of each page: how many rows go with it at most */
static unsigned last_leaf;                   /* the last page with many rows */
static struct store_damage damage;           /* what the last case said */

static void
count_fault(const char *text, void *arg)
{
	(void)text;
	(*(unsigned *)arg)++;
}

static unsigned
faults_of(sqlite3 *db)
{
	unsigned faults = 0;

	store_file_check(db, true, count_fault, &faults);
	return faults;
}

/* dbstat knows where the rows are. A page of a long row's rest goes with that one row. */
static void
count_cells(sqlite3 *db)
{
	sqlite3_stmt *stmt;

	page_count = (unsigned)store_files_number(db, "PRAGMA page_count");
	page_cells = calloc(page_count + 1, sizeof(*page_cells));
	ck_assert_int_eq(sqlite3_prepare_v2(db,
			     "SELECT pageno, CASE pagetype WHEN 'overflow' THEN 1 ELSE ncell END "
			     "FROM dbstat WHERE name NOT IN ('sqlite_schema', 'meta')",
			     -1, &stmt, NULL),
	    SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW)
		page_cells[sqlite3_column_int(stmt, 0)] = (unsigned)sqlite3_column_int(stmt, 1);
	sqlite3_finalize(stmt);
	last_leaf = (unsigned)store_files_number(
	    db, "SELECT max(pageno) FROM dbstat WHERE pagetype = 'leaf' AND ncell >= 20");
	ck_assert_uint_gt(last_leaf, 3);
}

static void
setup(void)
{
	struct store_file f;

	store_files_begin();
	store_files_open(&f);
	store_files_fill(f.db);
	store_files_rows(f.db, false, &before);
	ck_assert(!before.broken);
	ck_assert_uint_eq(before.wrong, 0);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		ck_assert_uint_ge(before.count[t], 40);
	ck_assert_uint_eq(faults_of(f.db), 0);
	count_cells(f.db);
	store_file_close(&f);
	whole = store_files_get(STORE_DATABASE);
	ck_assert_uint_eq(whole.len, (size_t)page_count * PAGE);
}

static void
teardown(void)
{
	free(whole.data);
	free(page_cells);
	store_files_end();
}

/* ---- one case ------------------------------------------------------------------------------------- */

static void
read_plainly(const char *name)
{
	sqlite3 *db;

	ck_assert_int_eq(
	    sqlite3_open_v2(store_files_path(name), &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	sqlite3_exec(db, "PRAGMA cell_size_check = ON", NULL, NULL, NULL);
	store_files_rows(db, true, &plain);
	sqlite3_close(db);
}

static uint64_t
said_of(const struct store_damage *d, unsigned t)
{
	const uint64_t said[STORE_TABLE_COUNT] = { 0, d->sessions, d->subscriptions, d->exchanges,
		d->retained, d->segments, d->bans, d->values };

	return said[t];
}

static void
check_text(const struct store_damage *d, uint64_t lost, const char *what)
{
	char text[2000];

	store_damage_text(d, text, sizeof(text));
	ck_assert_msg(strstr(text, d->aside) != NULL, "%s: %s", what, text);
	ck_assert_msg((strstr(text, "nothing of it is known to be lost") == NULL) || lost == 0,
	    "%s: %llu lost, and it says %s", what, (unsigned long long)lost, text);
}

static void
check_kept(const char *aside, const uint8_t *data, size_t len, const char *what)
{
	struct store_bytes kept = store_files_get(strrchr(aside, '/') + 1);

	ck_assert_msg(kept.len == len && memcmp(kept.data, data, len) == 0,
	    "%s: the damaged file is not what it was", what);
	free(kept.data);
}

/* The store is these bytes. most: so many rows may be lost. @return how many are */
static uint64_t
try_bytes(const uint8_t *data, size_t len, uint64_t most, const char *what)
{
	struct store_file f;
	uint64_t lost = 0, said = 0;
	char error[STORE_ERROR] = "";

	store_files_empty();
	store_files_put("plain.db", data, len);
	read_plainly("plain.db");
	store_files_put(STORE_DATABASE, data, len);
	ck_assert_msg(
	    store_file_open(&f, store_files_directory(), "grapnel 1", error) == GRAPNEL_OK,
	    "%s: %s", what, error);
	store_files_rows(f.db, false, &now);
	if (now.broken) {
		ck_assert_msg(store_file_salvage(&f, error) == GRAPNEL_OK, "%s: %s", what, error);
		ck_assert(f.damage.aside[0] != '\0');
		store_files_rows(f.db, false, &now);
	}
	ck_assert_msg(!now.broken, "%s: damaged after it was salvaged", what);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++) {
		size_t here = store_files_missing(&before, &now, t);

		ck_assert_msg(store_files_missing(&plain, &now, t) == 0,
		    "%s: rows of table %u are lost that SQLite reads", what, t);
		ck_assert_msg(t == TABLE_LOG || store_files_missing(&now, &before, t) == 0,
		    "%s: table %u has rows that were not in it", what, t);
		lost += here;
		said += said_of(&f.damage, t);
		if (here > 0 && f.damage.aside[0] != '\0')
			ck_assert_msg(said_of(&f.damage, t) > 0 || f.damage.pages > 0,
			    "%s: nobody says that %zu rows of table %u are lost", what, here, t);
	}
	ck_assert_msg(lost <= most, "%s: %llu rows are lost, and %llu would do", what,
	    (unsigned long long)lost, (unsigned long long)most);
	if (f.damage.aside[0] != '\0') {
		check_text(&f.damage, lost, what);
		check_kept(f.damage.aside, data, len, what);
		ck_assert_uint_eq(now.wrong, 0);
		ck_assert_uint_eq(faults_of(f.db), 0);
		ck_assert_uint_gt(store_meta(f.db, "next_id"), 1000);
	} else if (lost > 0) {
		ck_assert_msg(said + now.wrong + faults_of(f.db) > 0,
		    "%s: %llu rows are lost and nobody says so", what, (unsigned long long)lost);
	}
	damage = f.damage;
	store_file_close(&f);
	return lost;
}

/* ---- cases ----------------------------------------------------------------------------------------- */

START_TEST(a_file_without_damage_is_salvaged_without_loss)
{
	struct store_file f;
	char error[STORE_ERROR], text[1000];

	store_files_open(&f);
	ck_assert_int_eq(store_file_salvage(&f, error), GRAPNEL_OK);
	store_files_rows(f.db, false, &now);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++) {
		ck_assert_uint_eq(store_files_missing(&before, &now, t), 0);
		ck_assert_uint_eq(store_files_missing(&now, &before, t), 0);
		ck_assert_uint_eq(said_of(&f.damage, t), 0);
	}
	ck_assert_uint_eq(f.damage.pages, 0);
	store_damage_text(&f.damage, text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "nothing of it is known to be lost"));
	store_file_close(&f);
}
END_TEST

START_TEST(a_file_that_is_cut_loses_what_was_behind_the_cut_and_no_more)
{
	uint64_t behind = 0, lost = 0, all = 0;

	for (unsigned page = page_count; page > 0; page--) {
		size_t len = (size_t)(page - 1) * PAGE;
		char what[64];

		behind += page_cells[page];
		snprintf(what, sizeof(what), "cut to %zu bytes", len);
		lost = try_bytes(whole.data, len, behind, what);
		if (page > 1)
			ck_assert_uint_ge(damage.pages, page_count - page + 1);
		len += 1 + (page * 1237u) % (PAGE - 2);
		snprintf(what, sizeof(what), "cut to %zu bytes", len);
		try_bytes(whole.data, len, behind, what);
	}
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		all += before.count[t];
	ck_assert_uint_eq(lost, all);
}
END_TEST

START_TEST(of_a_page_that_is_cut_what_is_there_counts)
{
	uint64_t behind = 0;

	for (unsigned page = page_count; page > last_leaf; page--)
		behind += page_cells[page];
	ck_assert_uint_ge(page_cells[last_leaf], 20);
	/* Two rows at the end of the page, which are the first that came there. */
	try_bytes(whole.data, (size_t)last_leaf * PAGE - 12, behind + 2, "cut within a page");
	ck_assert(damage.aside[0] != '\0');
}
END_TEST

/* SQLite sees nothing wrong then. */
START_TEST(a_page_that_hides_rows_is_said_when_it_is_salvaged)
{
	uint8_t *header = whole.data + (size_t)(last_leaf - 1) * PAGE;
	struct store_file f;
	char error[STORE_ERROR];
	uint64_t said = 0;

	header[4]--;
	store_files_put(STORE_DATABASE, whole.data, whole.len);
	store_files_open(&f);
	ck_assert_str_eq(f.damage.aside, "");
	ck_assert_int_eq(store_file_salvage(&f, error), GRAPNEL_OK);
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++)
		said += said_of(&f.damage, t);
	ck_assert_uint_eq(said, 1);
	store_file_close(&f);
}
END_TEST

START_TEST(a_table_whose_tree_does_not_begin_is_met_at_once)
{
	static const char *const names[] = { "session", "subscription", "exchange", "retained",
		"log", "ban", "kv" };
	struct store_file f;
	char sql[96];
	unsigned root;

	store_files_put(STORE_DATABASE, whole.data, whole.len);
	store_files_open(&f);
	snprintf(
	    sql, sizeof(sql), "SELECT rootpage FROM sqlite_schema WHERE name = '%s'", names[_i]);
	root = (unsigned)store_files_number(f.db, sql);
	store_file_close(&f);
	memset(whole.data + (size_t)(root - 1) * PAGE, 0x55, 20);
	store_files_put(STORE_DATABASE, whole.data, whole.len);
	store_files_open(&f);
	ck_assert(f.damage.aside[0] != '\0');
	ck_assert_uint_gt(said_of(&f.damage, (unsigned)_i + 1), 0);
	store_file_close(&f);
}
END_TEST

static void
flip(size_t at, unsigned bit)
{
	unsigned page = (unsigned)(at / PAGE) + 1;
	char what[64];

	snprintf(what, sizeof(what), "bit %u of byte %zu (page %u)", bit, at, page);
	whole.data[at] = (uint8_t)(whole.data[at] ^ 1u << bit);
	try_bytes(whole.data, whole.len, page_cells[page], what);
	whole.data[at] = (uint8_t)(whole.data[at] ^ 1u << bit);
}

START_TEST(one_bit_loses_not_more_than_the_rows_of_its_page)
{
	for (unsigned i = 0; i < 200; i++)
		flip(i * (whole.len - 1) / 199, (i * 5) % 8);
}
END_TEST

START_TEST(one_bit_where_a_page_says_what_is_in_it)
{
	for (unsigned page = 1; page <= page_count; page++)
		for (unsigned i = 0; i < 3; i++)
			flip((size_t)(page - 1) * PAGE + (page == 1 ? 100 : 0) +
				(page * 3 + i * 5) % 16,
			    (page + i) % 8);
}
END_TEST

START_TEST(sectors_that_are_lost_here_and_there_lose_not_more_than_their_pages)
{
	uint8_t *bytes = malloc(whole.len);
	uint32_t state = 5;

	ck_assert_ptr_nonnull(bytes);
	for (unsigned i = 0; i < SECTOR_CASES; i++) {
		uint64_t most = 0;
		unsigned last = 0;
		char what[64];

		memcpy(bytes, whole.data, whole.len);
		/* From the front to the end, so that no page counts twice. */
		for (unsigned page = 1 + i % 7; page <= page_count; page += 5 + (state >> 24) % 9) {
			state = state * 1664525u + 1013904223u;
			memset(bytes + (size_t)(page - 1) * PAGE + (state >> 16) % 16 * 512,
			    (state >> 9) % 3 == 0 ? 0 : (int)(state >> 11 & 0xff), 512);
			most += page_cells[page];
			last = page;
		}
		snprintf(what, sizeof(what), "sectors, case %u, up to page %u", i, last);
		try_bytes(bytes, whole.len, most, what);
	}
	free(bytes);
}
END_TEST

START_TEST(one_bit_of_the_first_bytes_of_the_file)
{
	for (unsigned i = 0; i < 100; i++)
		flip(i, (i * 3) % 8);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_damage");
	TCase *tc = tcase_create("store_damage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_file_without_damage_is_salvaged_without_loss);
	tcase_add_test(tc, a_file_that_is_cut_loses_what_was_behind_the_cut_and_no_more);
	tcase_add_test(tc, of_a_page_that_is_cut_what_is_there_counts);
	tcase_add_test(tc, a_page_that_hides_rows_is_said_when_it_is_salvaged);
	tcase_add_loop_test(tc, a_table_whose_tree_does_not_begin_is_met_at_once, 0, 7);
	tcase_add_test(tc, one_bit_loses_not_more_than_the_rows_of_its_page);
	tcase_add_test(tc, one_bit_where_a_page_says_what_is_in_it);
	tcase_add_test(tc, sectors_that_are_lost_here_and_there_lose_not_more_than_their_pages);
	tcase_add_test(tc, one_bit_of_the_first_bytes_of_the_file);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
