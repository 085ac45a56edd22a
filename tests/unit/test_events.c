/* SPDX-License-Identifier: Apache-2.0 */
/* Event queues: order, loss, back-pressure, and what events may point to. */
#include "core_stubs.h"
#include "plugin/events.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct probe first, second;

/* What one probe has seen; written on worker 0. */
#define SEEN_MAX 20000u
static struct seen {
	enum grapnel_event_type type;
	unsigned number; /* from reason_code and qos of the event */
	uint64_t lost, sequence;
} seen[SEEN_MAX];
static _Atomic unsigned seen_count, calls, stalled;
static uint64_t last_node, last_boot;
static char last_client[32], last_payload[32];
static bool last_had_handle;

static size_t
take_all(struct probe *p, const struct grapnel_event *const *events, size_t count)
{
	(void)p;
	atomic_fetch_add(&calls, 1);
	if (atomic_load(&stalled) != 0)
		return 0;
	for (size_t i = 0; i < count; i++) {
		const struct grapnel_event *ev = events[i];
		unsigned n = atomic_load(&seen_count);

		ck_assert_uint_eq(ev->size, sizeof(*ev));
		ck_assert_uint_lt(n, SEEN_MAX);
		seen[n].type = ev->type;
		seen[n].number = ev->reason_code | (unsigned)ev->qos << 8;
		seen[n].lost = ev->lost;
		seen[n].sequence = ev->id.sequence;
		last_node = ev->id.node;
		last_boot = ev->id.boot;
		ck_assert_int_gt(ev->time_us, 1500000000000000);
		if (ev->client != NULL) {
			snprintf(last_client, sizeof(last_client), "%.*s",
			    (int)ev->client->client_id.len, ev->client->client_id.data);
			last_had_handle = ev->client->client != NULL;
		}
		if (ev->message != NULL)
			snprintf(last_payload, sizeof(last_payload), "%.*s",
			    (int)ev->message->payload.len, ev->message->payload.data);
		atomic_store(&seen_count, n + 1);
	}
	return count;
}

static void
begin(const char *name, const char *more)
{
	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
	atomic_store(&seen_count, 0);
	atomic_store(&calls, 0);
	atomic_store(&stalled, 0);
	last_client[0] = last_payload[0] = '\0';
	first.events = take_all;
	stub_settings(stub_probe(name, &first, more));
	ck_assert_int_eq(stub_start(), GRAPNEL_OK);
}

/* Emit events first, first + 1, ... of one type. */
struct burst {
	enum grapnel_event_type type;
	unsigned first, count;
	bool blocked_after;
};

static void
emit_here(struct worker *w, void *arg)
{
	struct burst *b = arg;

	for (unsigned i = b->first; i < b->first + b->count; i++) {
		struct grapnel_event ev = {
			.type = b->type, .reason_code = (uint8_t)i, .qos = (uint8_t)(i >> 8)
		};

		if (event_wanted(w, b->type))
			event_emit(w, &ev);
	}
	b->blocked_after = events_blocked(w);
}

static void
emit(unsigned first_number, unsigned count)
{
	struct burst b = {
		.type = GRAPNEL_EVENT_MESSAGE_PUBLISHED, .first = first_number, .count = count
	};

	on_worker(0, emit_here, &b);
}

START_TEST(events_arrive_in_order_and_with_ids_that_do_not_repeat)
{
	begin("first", "");
	emit(0, 3000); /* more than a batch, and more than a turn */
	wait_for(&seen_count, 3000);
	for (unsigned i = 0; i < 3000; i++) {
		ck_assert_uint_eq(seen[i].number, i);
		if (i > 0)
			ck_assert_uint_gt(seen[i].sequence, seen[i - 1].sequence);
		ck_assert_uint_eq(seen[i].sequence >> 56, 0); /* the worker */
	}
	ck_assert_uint_eq(last_node, 7);
	ck_assert_uint_eq(last_boot, 8);
	ck_assert_uint_ge(
	    atomic_load(&calls), 3000 / EVENTS_BATCH); /* in batches, not one by one */
	ck_assert_uint_lt(atomic_load(&calls), 100);
	stub_stop();
}
END_TEST

/* ---- how many wait ----------------------------------------------------------------------------- */

static uint64_t taken_before, foretold;

static size_t
take_some(struct probe *p, const struct grapnel_event *const *events, size_t count)
{
	ck_assert_uint_ge(p->host->events_waiting(p->self), count);
	if (count > 3 && atomic_load(&calls) == 0)
		count = 3;
	count = take_all(p, events, count);
	taken_before += count;
	return count;
}

static void
foretell_here(struct worker *w, void *arg)
{
	struct burst b = { .type = GRAPNEL_EVENT_MESSAGE_PUBLISHED, .first = 10, .count = 7 };

	(void)arg;
	emit_here(w, &b);
	foretold = taken_before + first.host->events_waiting(first.self);
}

START_TEST(how_many_events_wait_is_known_to_the_plugin)
{
	begin("first", "event_queue = 20");
	first.events = take_some;
	taken_before = 0;
	ck_assert_uint_eq(first.host->events_waiting(first.self), 0); /* no worker */
	on_worker(0, foretell_here, NULL);
	ck_assert_uint_eq(foretold, 7);
	wait_for(&seen_count, 7);
	ck_assert_uint_eq(seen[6].number, 16);
	on_worker(0, foretell_here, NULL);
	ck_assert_uint_eq(foretold, 14);
	wait_for(&seen_count, 14);
	atomic_store(&stalled, 1);
	on_worker(0, foretell_here, NULL);
	on_worker(0, foretell_here, NULL);
	on_worker(0, foretell_here, NULL); /* the last of 35 - 14 had no room: GAP */
	ck_assert_uint_eq(foretold, 14 + 20 + 1);
	atomic_store(&stalled, 0);
	wait_for(&seen_count, 35);
	ck_assert_int_eq(seen[34].type, GRAPNEL_EVENT_GAP);
	ck_assert_uint_eq(seen[34].lost, 1);
	stub_stop();
}
END_TEST

static void
emit_details(struct worker *w, void *arg)
{
	struct grapnel_client *handle = arg;
	char id[] = "c9", payload[] = "bytes";
	struct grapnel_client_info client = stub_client;
	struct grapnel_message_info message = stub_message;
	struct grapnel_event ev = {
		.type = GRAPNEL_EVENT_CLIENT_CONNECTED, .client = &client, .message = &message
	};

	client.client = handle;
	client.client_id = (struct grapnel_str){ id, 2 };
	message.payload = (struct grapnel_str){ payload, 5 };
	event_emit(w, &ev);
	memset(id, 'x', sizeof(id));
	memset(payload, 'x', sizeof(payload));
	memset(&client, 0xee, sizeof(client));
	memset(&message, 0xee, sizeof(message));
}

START_TEST(what_an_event_says_is_copied)
{
	static struct grapnel_client handle;

	begin("first", "");
	on_worker(0, emit_details, &handle);
	wait_for(&seen_count, 1);
	ck_assert_str_eq(last_client, "c9");
	ck_assert_str_eq(last_payload, "bytes");
	ck_assert(last_had_handle);
	stub_stop();
	ck_assert_ptr_null(handle.kept->events); /* delivered: nothing points to it any more */
	free(handle.kept);
}
END_TEST

static void
emit_and_forget(struct worker *w, void *arg)
{
	struct grapnel_client *gone = malloc(sizeof(*gone)), *moved = malloc(sizeof(*moved));
	static struct grapnel_client stays;

	(void)arg;
	memset(gone, 0, sizeof(*gone));
	memset(moved, 0, sizeof(*moved));
	memset(&stays, 0, sizeof(stays));
	emit_details(w, gone);
	emit_details(w, gone);
	ck_assert_ptr_nonnull(gone->kept->events);
	client_slots_free(w, gone);
	free(gone);
	emit_details(w, moved);
	client_slots_move(w, &stays, moved);
	free(moved);
	emit_details(w, &stays);
}

START_TEST(a_client_may_go_before_its_events_are_taken)
{
	begin("first", "");
	atomic_store(&stalled, 1);
	on_worker(0, emit_and_forget, NULL);
	wait_for(&calls, 1);
	atomic_store(&stalled, 0);
	wait_for(&seen_count, 4);
	ck_assert(last_had_handle); /* the last one's stays */
	stub_stop();
}
END_TEST

START_TEST(a_full_lossy_queue_says_how_many_are_missing_and_where)
{
	begin("first", "event_queue = 100");
	atomic_store(&stalled, 1);
	emit(0, 150);
	pause_ms(20);
	atomic_store(&stalled, 0);
	wait_for(&seen_count, 101); /* the marker comes without another event */
	emit(1000, 5);
	wait_for(&seen_count, 106);
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_eq(seen[i].number, i);
	ck_assert_int_eq(seen[100].type, GRAPNEL_EVENT_GAP);
	ck_assert_uint_eq(seen[100].lost, 50);
	for (unsigned i = 0; i < 5; i++)
		ck_assert_uint_eq(seen[101 + i].number, 1000 + i);
	pause_ms(20);
	ck_assert_uint_eq(atomic_load(&seen_count), 106);
	stub_stop();
}
END_TEST

static size_t
take_three(struct probe *p, const struct grapnel_event *const *events, size_t count)
{
	return take_all(p, events, count < 3 ? count : 3);
}

START_TEST(what_is_not_taken_is_offered_again)
{
	begin("first", "");
	first.events = take_three;
	emit(0, 10);
	wait_for(&seen_count, 10); /* every 100 ms three */
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(seen[i].number, i);
	stub_stop();
}
END_TEST

static void
resume_here(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	first.host->events_resume(first.self);
}

START_TEST(events_resume_does_not_wait)
{
	uint64_t before;

	begin("first", "");
	atomic_store(&stalled, 1);
	emit(0, 10);
	wait_for(&calls, 1);
	atomic_store(&stalled, 0);
	before = clock_ms();
	on_worker(0, resume_here, NULL);
	wait_for(&seen_count, 10);
	ck_assert_uint_lt(clock_ms() - before, EVENTS_RETRY_MS);
	stub_stop();
}
END_TEST

START_TEST(a_full_lossless_queue_stops_publishers_and_loses_nothing)
{
	struct burst b = { .type = GRAPNEL_EVENT_MESSAGE_PUBLISHED, .count = 99 };

	begin("lossless", "event_queue = 100");
	atomic_store(&stalled, 1);
	on_worker(0, emit_here, &b);
	ck_assert(!b.blocked_after);
	b.first = 99;
	b.count = 30; /* what was under way when it became full */
	on_worker(0, emit_here, &b);
	ck_assert(b.blocked_after);
	ck_assert_uint_eq(atomic_load(&stub_counts.resumed), 0);
	atomic_store(&stalled, 0);
	wait_for(&seen_count, 129);
	for (unsigned i = 0; i < 129; i++) {
		ck_assert_int_eq(seen[i].type, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
		ck_assert_uint_eq(seen[i].number, i);
	}
	wait_for(&stub_counts.resumed, 1);
	b.first = 129;
	b.count = 1;
	on_worker(0, emit_here, &b);
	ck_assert(!b.blocked_after);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&stub_counts.resumed), 1);
}
END_TEST

START_TEST(even_a_lossless_queue_has_an_end)
{
	struct burst b = { .type = GRAPNEL_EVENT_CLIENT_DISCONNECTED,
		.count = 100 * EVENTS_OVERRUN + 7 };

	begin("lossless", "event_queue = 100");
	atomic_store(&stalled, 1);
	on_worker(0, emit_here, &b);
	ck_assert(b.blocked_after);
	atomic_store(&stalled, 0);
	wait_for(&seen_count, 100 * EVENTS_OVERRUN + 1);
	ck_assert_int_eq(seen[100 * EVENTS_OVERRUN].type, GRAPNEL_EVENT_GAP);
	ck_assert_uint_eq(seen[100 * EVENTS_OVERRUN].lost, 7);
	stub_stop();
}
END_TEST

START_TEST(a_lossless_instance_that_goes_lets_publishers_on)
{
	struct burst b = { .type = GRAPNEL_EVENT_MESSAGE_PUBLISHED, .count = 200 };

	begin("lossless", "event_queue = 100");
	atomic_store(&stalled, 1);
	on_worker(0, emit_here, &b);
	ck_assert(b.blocked_after);
	ck_assert_int_eq(stub_reload(""), GRAPNEL_OK);
	wait_for(&stub_counts.resumed, 1); /* after its grace period: it takes nothing */
	b.count = 1;
	on_worker(0, emit_here, &b);
	ck_assert(!b.blocked_after);
	stub_stop();
}
END_TEST

START_TEST(only_selected_events_come)
{
	struct burst connected = { .type = GRAPNEL_EVENT_CLIENT_CONNECTED, .count = 1 };

	begin("first", "");
	ck_assert_int_eq(first.host->events_select(
			     first.self, GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED)),
	    GRAPNEL_OK);
	emit(0, 5); /* its mail comes after that of events_select */
	on_worker(0, emit_here, &connected);
	wait_for(&seen_count, 1);
	pause_ms(20);
	ck_assert_uint_eq(atomic_load(&seen_count), 1);
	ck_assert_int_eq(seen[0].type, GRAPNEL_EVENT_CLIENT_CONNECTED);
	ck_assert(!event_wanted(stub_broker.workers[0], GRAPNEL_EVENT_MESSAGE_PUBLISHED));
	stub_stop();
}
END_TEST

static void
emit_on_main(void *arg)
{
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_BROKER_READY,
		.reason = GRAPNEL_STR("x") };

	(void)arg;
	ck_assert(event_wanted(stub_broker.main, ev.type));
	event_emit(stub_broker.main, &ev);
}

START_TEST(events_of_the_main_thread_come_on_worker_0)
{
	begin("first", "");
	on_main(emit_on_main, NULL);
	wait_for(&seen_count, 1);
	ck_assert_int_eq(seen[0].type, GRAPNEL_EVENT_BROKER_READY);
	ck_assert_uint_eq(seen[0].sequence >> 56, 0);
	stub_stop();
}
END_TEST

START_TEST(the_last_events_are_delivered_before_a_plugin_stops)
{
	begin("first", "");
	emit(0, 2000);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&seen_count), 2000);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("events");
	TCase *tc = tcase_create("events");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, events_arrive_in_order_and_with_ids_that_do_not_repeat);
	tcase_add_test(tc, how_many_events_wait_is_known_to_the_plugin);
	tcase_add_test(tc, what_an_event_says_is_copied);
	tcase_add_test(tc, a_client_may_go_before_its_events_are_taken);
	tcase_add_test(tc, a_full_lossy_queue_says_how_many_are_missing_and_where);
	tcase_add_test(tc, what_is_not_taken_is_offered_again);
	tcase_add_test(tc, events_resume_does_not_wait);
	tcase_add_test(tc, a_full_lossless_queue_stops_publishers_and_loses_nothing);
	tcase_add_test(tc, even_a_lossless_queue_has_an_end);
	tcase_add_test(tc, a_lossless_instance_that_goes_lets_publishers_on);
	tcase_add_test(tc, only_selected_events_come);
	tcase_add_test(tc, events_of_the_main_thread_come_on_worker_0);
	tcase_add_test(tc, the_last_events_are_delivered_before_a_plugin_stops);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
