/* SPDX-License-Identifier: Apache-2.0 */
/* Which messages somebody waits for, and what of the log can go. */
#include "../../ctl/store.h"
#include "store/schema.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *db;
static char error[STORE_ERROR];
static char seen[1024], faults[1024];

static void
run(const char *sql)
{
	ck_assert_msg(sql_run(db, sql, error), "%s: %s", sql, error);
}

/* A row of bytes under a number: into `log`, column `what`, sealed under `table`. */
static void
put(const char *sql, uint64_t id, struct row_out *o, const char *table)
{
	struct row_key key = row_key_number(id);
	sqlite3_stmt *s = sql_prepare(db, sql, error);

	ck_assert_msg(s != NULL, "%s", error);
	row_seal(o, table, &key);
	ck_assert(!o->failed);
	sqlite3_bind_int64(s, 1, (sqlite3_int64)id);
	sql_bind_bytes(s, 2, (struct grapnel_str){ (char *)o->data, o->len });
	ck_assert_msg(sql_done(s, error), "%s", error);
	sqlite3_finalize(s);
	row_free(o);
}

static void
session(uint64_t id, char name, uint64_t confirmed)
{
	struct row_session s = { .who = { .client_id = { &name, 1 },
				     .mountpoint = GRAPNEL_STR(""),
				     .listener = GRAPNEL_STR(""),
				     .peer = GRAPNEL_STR("") },
		.auth_plugin = GRAPNEL_STR("") };
	struct row_exchange x = { .confirmed = confirmed };
	struct row_out o = { 0 };

	row_session(&o, &s);
	put("INSERT INTO session VALUES(?1, ?2)", id, &o, "session");
	row_exchange(&o, &x);
	put("INSERT INTO exchange VALUES(?1, ?2)", id, &o, "exchange");
}

/* One message with the topic that is its index, for up to two receivers. */
static void
message(struct row_out *o, uint32_t index, uint64_t origin, uint64_t number, uint64_t a, uint64_t b)
{
	const uint32_t ids[2] = { 7, 9 };
	char topic[2] = { (char)('a' + index), '\0' };
	struct row_record r = { .index = index,
		.origin = origin,
		.origin_number = number,
		.message = { .topic = { topic, 1 }, .payload = GRAPNEL_STR("p") },
		.receiver_count = b != 0 ? 2 : 1 };
	struct row_receiver one = { .session = a, .qos = 1, .id_count = 2, .ids = ids },
			    two = { .session = b, .qos = 2 };
	size_t at;

	row_record_begin(o, &r, false, &at);
	row_receiver(o, &one);
	if (b != 0)
		row_receiver(o, &two);
	row_record_end(o, at);
}

static void
finished(uint64_t segment, size_t count, const struct row_finished *list)
{
	struct row_finished before = { 0 };
	struct row_out o = { 0 };

	for (size_t i = 0; i < count; i++)
		row_finished(&o, &list[i], &before);
	put("INSERT INTO log(segment, finished) VALUES(?1, ?2)"
	    " ON CONFLICT(segment) DO UPDATE SET finished = excluded.finished",
	    segment, &o, "finished");
}

static void
segment(uint64_t number, struct row_out *o)
{
	put("INSERT INTO log(segment, messages) VALUES(?1, ?2)", number, o, "log");
}

static void
on_fault(const char *text, void *arg)
{
	(void)arg;
	strncat(faults, text, sizeof(faults) - strlen(faults) - 1);
	strncat(faults, "\n", sizeof(faults) - strlen(faults) - 1);
}

static bool
on_message(uint64_t address, const struct row_message *m, const struct row_receiver *waiting,
    size_t count, void *arg)
{
	size_t len = strlen(seen);

	(void)arg;
	snprintf(seen + len, sizeof(seen) - len, "%d.%d %.*s:", (int)store_segment(address),
	    (int)store_index(address), (int)m->topic.len, m->topic.data);
	for (size_t i = 0; i < count; i++) {
		len = strlen(seen);
		snprintf(seen + len, sizeof(seen) - len, " %d%s", (int)waiting[i].session,
		    waiting[i].id_count == 2 && waiting[i].ids[1] == 9 ? "+" : "");
	}
	strncat(seen, "\n", sizeof(seen) - strlen(seen) - 1);
	return true;
}

static const char *
walk(void)
{
	struct log_view v;

	seen[0] = faults[0] = '\0';
	ck_assert_msg(log_open(&v, db, on_fault, NULL, error), "%s", error);
	ck_assert_msg(log_each(&v, on_message, NULL, NULL, error), "%s", error);
	log_close(&v);
	return seen;
}

static uint64_t
number(const char *sql)
{
	uint64_t n;

	ck_assert_msg(sql_number(db, sql, &n, error), "%s", error);
	return n;
}

static void
setup(void)
{
	ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
	run(STORE_TABLES);
	session(1, 'c', 0);
	session(2, 'd', 5);
}

static void
teardown(void)
{
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

START_TEST(who_waits_is_there_and_not_finished)
{
	static const struct row_finished done[] = { { 2, 10 << STORE_INDEX_BITS | 1 },
		{ 1, 10 << STORE_INDEX_BITS | 2 }, { 2, 10 << STORE_INDEX_BITS | 2 } };
	struct row_out o = { 0 };

	message(&o, 0, 0, 0, 1, 2);
	message(&o, 1, 0, 0, 2, 1); /* 2 has it */
	message(&o, 2, 0, 0, 1, 2); /* both have it */
	message(&o, 3, 0, 0, 3, 1); /* there is no 3 */
	message(&o, 4, 0, 0, 3, 0);
	segment(10, &o);
	finished(11, 3, done);
	ck_assert_str_eq(walk(), "10.0 a: 1+ 2\n10.1 b: 1\n10.3 d: 1\n");
	ck_assert_str_eq(faults, "");
}
END_TEST

START_TEST(of_two_sessions_of_one_name_the_newer_waits)
{
	struct row_out o = { 0 };
	struct log_view v;

	session(5, 'c', 0); /* as 1 */
	message(&o, 0, 0, 0, 1, 2);
	message(&o, 1, 0, 0, 5, 1);
	segment(1, &o);
	ck_assert_str_eq(walk(), "1.0 a: 2\n1.1 b: 5+\n");
	/* A table of names that grows. */
	for (uint64_t i = 0; i < 3000; i++)
		session(i + 10, (char)i, 0);
	ck_assert(log_open(&v, db, on_fault, NULL, error));
	ck_assert_uint_eq(v.session_count, 256);
	ck_assert(!log_has_session(&v, 5) && log_has_session(&v, 3009));
	log_close(&v);
}
END_TEST

START_TEST(what_is_finished_with_receiver_0_is_finished_for_all)
{
	struct row_out o = { 0 };

	message(&o, 0, 0, 0, 1, 2);
	message(&o, 1, 0, 0, 1, 2);
	segment(1, &o);
	finished(2, 1, &(struct row_finished){ 0, 1 << STORE_INDEX_BITS });
	ck_assert_str_eq(walk(), "1.1 b: 1+ 2\n");
}
END_TEST

START_TEST(what_its_publisher_will_send_again_does_not_count)
{
	struct row_out o = { 0 };

	message(&o, 0, 2, 5, 1, 0);
	message(&o, 1, 2, 6, 1, 0); /* its identifier was not written */
	message(&o, 2, 4, 9, 1, 0); /* whose session is gone cannot send it again */
	segment(1, &o);
	ck_assert_str_eq(walk(), "1.0 a: 1+\n1.2 c: 1+\n");
}
END_TEST

START_TEST(what_is_damaged_is_told_and_left_out)
{
	struct row_out o = { 0 };

	message(&o, 0, 0, 0, 1, 0);
	segment(1, &o);
	message(&o, 0, 0, 0, 1, 0);
	segment(2, &o);
	finished(3, 1, &(struct row_finished){ 1, 2 << STORE_INDEX_BITS });
	run("UPDATE log SET messages = messages || x'00' WHERE segment = 1;"
	    "UPDATE log SET finished = x'00' WHERE segment = 3");
	ck_assert_str_eq(walk(), "2.0 a: 1+\n");
	ck_assert_str_eq(faults, "finished 3: checksum\nlog 1: checksum\n");
	/* And it stays: another program may know more. */
	ck_assert_msg(log_compact(db, on_fault, NULL, error), "%s", error);
	ck_assert_uint_eq(number("SELECT count(*) FROM log"), 3);
}
END_TEST

START_TEST(compact_keeps_what_somebody_waits_for_and_what_says_so)
{
	static const struct row_finished done[] = { { 1, 1 << STORE_INDEX_BITS },
		{ 1, 2 << STORE_INDEX_BITS }, { 2, 9 << STORE_INDEX_BITS } };
	struct row_out o = { 0 };

	message(&o, 0, 0, 0, 1, 0);
	segment(1, &o); /* nobody waits any more */
	message(&o, 0, 0, 0, 1, 2);
	segment(2, &o); /* 2 waits */
	message(&o, 0, 0, 0, 3, 0);
	segment(3, &o); /* there is no 3 */
	finished(3, 3, done);
	finished(4, 1, done); /* of segment 1 alone */
	ck_assert_str_eq(walk(), "2.0 a: 2\n");
	ck_assert_msg(log_compact(db, on_fault, NULL, error), "%s", error);
	ck_assert_str_eq(walk(), "2.0 a: 2\n");
	ck_assert_uint_eq(number("SELECT count(*) FROM log"), 2);
	ck_assert_uint_eq(number("SELECT value FROM meta WHERE name = 'next_segment'"), 5);
	ck_assert_uint_eq(number("SELECT count(*) FROM log WHERE messages IS NOT NULL"), 1);
	ck_assert_uint_eq(
	    number("SELECT segment FROM log WHERE finished IS NOT NULL AND messages IS NULL"), 3);
	/* Of its three one is left: two numbers and the checksum. */
	ck_assert_uint_lt(number("SELECT length(finished) FROM log WHERE segment = 3"), 16);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_log");
	TCase *tc = tcase_create("store_log");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, who_waits_is_there_and_not_finished);
	tcase_add_test(tc, of_two_sessions_of_one_name_the_newer_waits);
	tcase_add_test(tc, what_is_finished_with_receiver_0_is_finished_for_all);
	tcase_add_test(tc, what_its_publisher_will_send_again_does_not_count);
	tcase_add_test(tc, what_is_damaged_is_told_and_left_out);
	tcase_add_test(tc, compact_keeps_what_somebody_waits_for_and_what_says_so);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
