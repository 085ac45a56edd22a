/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker hands in comes back: batches through the real writer, and what the next start reads of it. */
#include "base/log.h"
#include "core/durable.h"
#include "store/batch.h"
#include "store_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct broker broker;
static struct settings settings = { .read_buffer = 4096 };
static struct store *store;
static struct store_batch *batch;
static char
    seen[1024]; /* "1.0 a: 7 8, ": message 0 of segment 1 with topic a waits for sessions 7 and 8 */
static uint64_t confirmed; /* of every session */
static unsigned came_back;

/* ---- what is read ------------------------------------------------------------------------------ */

static void
see(const char *format, ...)
{
	size_t len = strlen(seen);
	va_list ap;

	va_start(ap, format);
	vsnprintf(seen + len, sizeof(seen) - len, format, ap);
	va_end(ap);
}

static bool
on_session(void *arg, uint64_t id, const struct row_session *s, const struct row_clock *clock)
{
	(void)arg;
	(void)clock;
	see("%.*s=%u ", STR(s->who.client_id), (unsigned)id);
	return true;
}

static bool
on_subscription(void *arg, uint64_t id, struct grapnel_str filter, const struct row_subscription *s)
{
	(void)arg;
	see("%u:%.*s/%d ", (unsigned)id, STR(filter), s->qos);
	return true;
}

static bool
on_exchange(void *arg, uint64_t id, const struct row_exchange *x, struct row_in *rest)
{
	(void)arg;
	(void)id;
	(void)rest;
	confirmed = x->confirmed;
	return true;
}

static bool
on_retained(void *arg, const struct row_message *m, const struct row_clock *clock, uint64_t seq)
{
	(void)arg;
	(void)clock;
	see("%.*s='%.*s'%u ", STR(m->topic), STR(m->payload), (unsigned)seq);
	return true;
}

static bool
is_confirmed(void *arg, uint64_t id, uint64_t number, uint64_t address)
{
	(void)arg;
	(void)id;
	(void)address;
	return number <= confirmed;
}

static bool
on_message(void *arg, uint64_t address, const struct row_message *m, const struct row_receiver *r,
    const struct row_clock *clock, bool *known)
{
	(void)arg;
	(void)clock;
	*known = r->session < 10;
	if (*known)
		see("%u.%u %.*s>%u ", (unsigned)store_segment(address), store_index(address),
		    STR(m->topic), (unsigned)r->session);
	return true;
}

/* A start. @return what was read. */
static const char *
begin(void)
{
	static const struct store_loader loader = { on_session, on_subscription, on_exchange,
		on_retained, is_confirmed, on_message };
	char error[STORE_ERROR];

	seen[0] = '\0';
	confirmed = 0;
	ck_assert_msg(store_open(&store, &broker, "test", error) == GRAPNEL_OK, "%s", error);
	ck_assert_msg(store_load(store, &loader, NULL, error) == GRAPNEL_OK, "%s", error);
	return seen;
}

/* ---- what is written ------------------------------------------------------------------------------- */

static void
on_back(struct worker *w, struct mail *m)
{
	(void)w;
	came_back++;
	batch_free((struct store_batch *)(void *)m);
}

static void
nobody_to_ask(struct worker *w, struct mail *m)
{
	(void)w;
	(void)m;
}

static void
batch_begin(void)
{
	ck_assert((batch = batch_new(broker.workers[0])) != NULL);
	batch->mail.fn = on_back;
}

static void
submit(void)
{
	store_submit(store, batch);
}

/* All that was submitted is one transaction. */
static void
end(unsigned batches)
{
	came_back = 0;
	ck_assert_int_eq(store_start(store, nobody_to_ask), GRAPNEL_OK);
	ck_assert(store_stop(store));
	while (worker_drain(broker.workers[0]))
		;
	ck_assert_uint_eq(came_back, batches);
	store_free(store);
}

static struct message *
message(const char *topic, const char *payload)
{
	struct message view = { .topic = topic,
		.topic_len = (uint16_t)strlen(topic),
		.payload = payload,
		.payload_len = (uint32_t)strlen(payload),
		.qos = 1 };
	struct message *msg = message_keep(&view);

	message_release_borrowed(&view);
	ck_assert(msg != NULL);
	return msg;
}

static struct batch_segment *
segment(void)
{
	struct batch_segment *seg = batch_segment_add(batch, store_next_segment(store));

	ck_assert(seg != NULL);
	return seg;
}

/* For a and, if it is not 0, b. */
static struct batch_record *
record(struct batch_segment *seg, const char *topic, uint64_t a, uint64_t b)
{
	struct batch_record *rec = batch_record_add(seg);

	ck_assert(rec != NULL);
	rec->msg = message(topic, "x");
	rec->first = seg->receiver_count;
	seg->bytes += message_size(rec->msg);
	seg->alive++;
	ck_assert(batch_receiver_add(seg, rec, &(struct batch_receiver){ .session = a, .qos = 1 }));
	if (b != 0)
		ck_assert(batch_receiver_add(
		    seg, rec, &(struct batch_receiver){ .session = b, .qos = 2 }));
	return rec;
}

static void
finished(uint64_t receiver, uint64_t number, uint32_t index)
{
	ck_assert(batch_finished_add(
	    batch, &(struct row_finished){ receiver, store_address(number, index) }));
}

static void
retained(const char *topic, const char *payload, uint64_t seq)
{
	struct message *msg = message(topic, payload);

	ck_assert(batch_retained_add(batch, msg, seq));
	message_unref(msg);
}

static void
session(uint64_t id, const char *name)
{
	struct row_session s = { .who = { .client_id = { name, strlen(name) } } };
	struct row_out o = { 0 };

	row_session(&o, &s);
	batch_row(batch, BATCH_SESSION, false, id, (struct grapnel_str){ 0 },
	    (struct grapnel_str){ (char *)o.data, o.len });
	row_free(&o);
}

static void
exchange(uint64_t id, uint64_t number)
{
	struct row_out o = { 0 };

	row_exchange(&o, &(struct row_exchange){ .confirmed = number });
	batch_row(batch, BATCH_EXCHANGE, false, id, (struct grapnel_str){ 0 },
	    (struct grapnel_str){ (char *)o.data, o.len });
	row_free(&o);
}

static void
sql(const char *text)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(store_files_path(STORE_DATABASE), &db), SQLITE_OK);
	store_files_exec(db, text);
	sqlite3_close(db);
}

static uint64_t
log_rows(void)
{
	sqlite3 *db;
	uint64_t n;

	ck_assert_int_eq(sqlite3_open(store_files_path(STORE_DATABASE), &db), SQLITE_OK);
	n = store_files_number(db, "SELECT count(*) FROM log");
	sqlite3_close(db);
	return n;
}

/* A transaction with nothing in it but what can go. */
static void
tidy(void)
{
	(void)begin();
	batch_begin();
	retained("tidy", "", 1000000);
	submit();
	end(1);
}

/* ---- tests ---------------------------------------------------------------------------------------------- */

static void
setup(void)
{
	store_files_begin();
	atomic_store(&settings.refs, 1);
	settings.store.directory = (char *)(uintptr_t)store_files_directory();
	settings.store.max_bytes = 1 << 30;
	broker.settings = &settings;
	broker.worker_count = 1;
	ck_assert_int_eq(worker_new(&broker.workers[0], &broker, 0), GRAPNEL_OK);
}

static void
teardown(void)
{
	worker_free(broker.workers[0]);
	store_files_end();
}

START_TEST(a_message_comes_back_to_those_who_have_not_finished_it)
{
	struct batch_segment *seg;

	ck_assert_str_eq(begin(), "");
	batch_begin();
	session(7, "c");
	seg = segment();
	record(seg, "a", 7, 8);
	record(seg, "b", 7, 99); /* 99 is nobody */
	record(seg, "gone", 8, 0)->left = 0;
	message_unref(seg->records[2].msg);
	seg->records[2].msg = NULL;
	seg->alive--;
	submit();
	end(1);
	ck_assert_str_eq(begin(), "c=7 1.0 a>7 1.0 a>8 1.1 b>7 ");
	batch_begin();
	finished(7, 1, 0);
	submit();
	end(1);
	ck_assert_str_eq(begin(), "c=7 1.0 a>8 1.1 b>7 ");
	ck_assert_uint_eq(log_rows(), 2);
	batch_begin();
	finished(0, 1, 0);
	finished(7, 1, 1);
	submit();
	end(1);
	ck_assert_str_eq(begin(), "c=7 ");
	batch_begin();
	submit();
	end(1);
	tidy();
	ck_assert_uint_eq(log_rows(), 0);
}
END_TEST

START_TEST(what_its_publisher_has_not_confirmed_waits_for_being_finished)
{
	struct batch_record *rec;

	(void)begin();
	batch_begin();
	exchange(5, 3);
	rec = record(segment(), "early", 7, 0);
	rec->origin = 5;
	rec->origin_number = 3;
	rec = record(batch->last, "late", 7, 0);
	rec->origin = 5;
	rec->origin_number = 4;
	submit();
	end(1);
	ck_assert_str_eq(begin(), "1.0 early>7 ");
	batch_begin();
	finished(7, 1, 0);
	submit();
	end(1);
	ck_assert_str_eq(begin(), "");
	ck_assert_uint_ge(log_rows(), 1); /* it stays, since nobody said that it is over */
	batch_begin();
	finished(0, 1, 1);
	exchange(5, 4); /* another message: the number is used again */
	submit();
	end(1);
	ck_assert_str_eq(begin(), "");
	store_free(store);
	tidy();
	tidy();
	ck_assert_uint_eq(log_rows(), 0);
}
END_TEST

START_TEST(what_is_finished_before_it_is_written_is_finished)
{
	struct store_batch *later;
	uint64_t number;

	(void)begin();
	batch_begin();
	record(segment(), "a", 7, 8);
	number = batch->last->number;
	later = batch;
	batch_begin(); /* another worker's */
	finished(7, number, 0);
	submit();
	batch = later;
	submit();
	end(2);
	ck_assert_str_eq(begin(), "1.0 a>8 ");
	/* And if that segment never came: nothing is kept because of it. */
	batch_begin();
	finished(7, store_next_segment(store), 3);
	submit();
	end(1);
	ck_assert_str_eq(begin(), "1.0 a>8 ");
	store_free(store);
	tidy();
	ck_assert_uint_eq(log_rows(), 2);
}
END_TEST

START_TEST(numbers_are_not_given_twice)
{
	uint64_t number, id;

	(void)begin();
	number = store_next_segment(store);
	batch_begin();
	record(batch_segment_add(batch, number), "a", 7, 0);
	id = store_next_id(store);
	session(id, "c");
	submit();
	end(1);
	sql("DELETE FROM log; DELETE FROM session");
	ck_assert_str_eq(begin(), "");
	ck_assert_uint_gt(store_next_segment(store), number);
	ck_assert_uint_gt(store_next_id(store), id);
	store_free(store);
}
END_TEST

START_TEST(a_row_that_is_lost_or_damaged_takes_no_other_along)
{
	struct store_figures figures;

	(void)begin();
	for (unsigned i = 0; i < 3; i++) {
		batch_begin();
		if (i == 2)
			finished(7, 1, 0);
		record(segment(), "a", 7, 0);
		submit();
	}
	end(3);
	ck_assert_str_eq(begin(), "2.0 a>7 3.0 a>7 ");
	store_free(store);
	sql("UPDATE log SET messages = messages || x'00' WHERE segment = 2");
	ck_assert_str_eq(begin(), "3.0 a>7 ");
	store_figures(store, &figures);
	ck_assert_uint_eq(figures.damaged, 1);
	store_free(store);
	sql("DELETE FROM log WHERE segment IN (1, 2)");
	ck_assert_str_eq(begin(), "3.0 a>7 ");
	store_free(store);
}
END_TEST

/* Workers set and clear in one order, and hand it in in another. */
START_TEST(the_last_retained_message_counts_whoever_was_slower)
{
	static const struct {
		const char *first;
		uint64_t first_seq;
		const char *second;
		uint64_t second_seq;
		const char *left;
	} cases[] = {
		{ "", 10, "old", 9, "" },
		{ "old", 9, "", 10, "" },
		{ "new", 10, "old", 9, "t='new'10 " },
		{ "old", 9, "new", 10, "t='new'10 " },
		{ "new", 10, "", 9, "t='new'10 " },
		{ "", 9, "new", 10, "t='new'10 " },
	};
	const bool apart = _i >= 6; /* two transactions */

	(void)begin();
	batch_begin();
	retained("t", "oldest", 8);
	submit();
	end(1);
	(void)begin();
	batch_begin();
	retained("t", cases[_i % 6].first, cases[_i % 6].first_seq);
	submit();
	if (apart &&
	    cases[_i % 6].first[0] !=
		'\0') { /* what was cleared is not known any more after a start */
		end(1);
		(void)begin();
	}
	batch_begin();
	retained("t", cases[_i % 6].second, cases[_i % 6].second_seq);
	submit();
	end(apart && cases[_i % 6].first[0] != '\0' ? 1 : 2);
	ck_assert_str_eq(begin(), cases[_i % 6].left);
	store_free(store);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_load");
	TCase *t = tcase_create("store_load");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_message_comes_back_to_those_who_have_not_finished_it);
	tcase_add_test(t, what_its_publisher_has_not_confirmed_waits_for_being_finished);
	tcase_add_test(t, what_is_finished_before_it_is_written_is_finished);
	tcase_add_test(t, numbers_are_not_given_twice);
	tcase_add_test(t, a_row_that_is_lost_or_damaged_takes_no_other_along);
	tcase_add_loop_test(t, the_last_retained_message_counts_whoever_was_slower, 0, 12);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
