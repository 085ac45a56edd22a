/* SPDX-License-Identifier: Apache-2.0 */
#include "core/queue.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct message *
message_numbered(uint32_t n, uint64_t expires_at_ms)
{
	char payload[16];
	struct message m = { .topic = "t", .topic_len = 1, .payload = payload };
	struct message *kept;

	memcpy(payload, &n, sizeof(n));
	m.payload_len = sizeof(n);
	if (expires_at_ms != 0) {
		m.flags = MSG_EXPIRES;
		m.expires_at_ms = expires_at_ms;
	}
	kept = message_keep(&m);
	ck_assert_ptr_nonnull(kept);
	message_release_borrowed(&m);
	return kept;
}

static uint32_t
number_of(const struct entry *e)
{
	uint32_t n;

	memcpy(&n, e->msg->payload, sizeof(n));
	return n;
}

static void
push(struct queue *q, uint32_t n, uint64_t expires_at_ms)
{
	struct entry e = { .msg = message_numbered(n, expires_at_ms), .qos = 1 };

	ck_assert_int_eq(queue_push(q, &e), GRAPNEL_OK);
}

START_TEST(a_queue_gives_back_what_it_got_in_order)
{
	struct queue q = { 0 };
	struct entry e;

	for (uint32_t i = 0; i < 1000; i++)
		push(&q, i, 0);
	ck_assert_uint_eq(q.count, 1000);
	for (uint32_t i = 0; i < 1000; i++) {
		ck_assert(queue_pop(&q, &e));
		ck_assert_uint_eq(number_of(&e), i);
		entry_clear(&e);
	}
	ck_assert(!queue_pop(&q, &e));
	ck_assert_uint_eq(q.bytes, 0);
	ck_assert_ptr_null(queue_peek(&q));
	queue_clear(&q);
}
END_TEST

START_TEST(a_full_queue_grows_wherever_its_head_is)
{
	struct entry e;

	for (uint32_t turned = 0; turned < 16; turned++) {
		struct queue q = { 0 };

		for (uint32_t i = 0; i < 16; i++)
			push(&q, 999, 0);
		for (uint32_t i = 0; i < turned; i++) {
			ck_assert(queue_pop(&q, &e));
			entry_clear(&e);
			push(&q, 999, 0);
		}
		for (uint32_t i = 0; i < 16; i++) {
			ck_assert(queue_pop(&q, &e));
			entry_clear(&e);
			push(&q, i, 0);
		}
		for (uint32_t i = 16; i < 40; i++)
			push(&q, i, 0);
		for (uint32_t i = 0; i < 40; i++) {
			ck_assert(queue_pop(&q, &e));
			ck_assert_uint_eq(number_of(&e), i);
			entry_clear(&e);
		}
		queue_clear(&q);
	}
}
END_TEST

START_TEST(what_is_put_back_at_the_head_comes_first)
{
	struct queue q = { 0 };
	struct entry e;

	for (uint32_t i = 10; i < 20; i++)
		push(&q, i, 0);
	for (uint32_t i = 10; i-- > 0;) {
		struct entry back = { .msg = message_numbered(i, 0) };

		ck_assert_int_eq(queue_push_head(&q, &back), GRAPNEL_OK);
	}
	for (uint32_t i = 0; i < 20; i++) {
		ck_assert(queue_pop(&q, &e));
		ck_assert_uint_eq(number_of(&e), i);
		entry_clear(&e);
	}
	queue_clear(&q);
}
END_TEST

static void
count_dropped(struct entry *e, void *arg)
{
	unsigned *n = arg;

	ck_assert_uint_eq(number_of(e) % 3, 0);
	entry_clear(e);
	(*n)++;
}

/* _i: how many entries are looked at; the head has wrapped around the ring's end before. */
START_TEST(expired_messages_leave_from_anywhere_and_the_rest_keeps_its_order)
{
	struct queue q = { 0 };
	struct entry e;
	unsigned dropped = 0, looked = (unsigned)_i < 30 ? (unsigned)_i : 30;
	uint32_t last = 0, seen = 0;

	for (uint32_t i = 0; i < 20; i++) {
		push(&q, 1000 + i, 0);
		ck_assert(queue_pop(&q, &e));
		entry_clear(&e);
	}
	for (uint32_t i = 0; i < 30; i++)
		push(&q, i + 3, (i + 3) % 3 == 0 ? 500 : i % 2 == 0 ? 5000 : 0);
	ck_assert_uint_eq(queue_expire(&q, 499, 1000, count_dropped, &dropped), 0);
	ck_assert_uint_eq(queue_expire(&q, 500, looked, count_dropped, &dropped), (looked + 2) / 3);
	ck_assert_uint_eq(dropped, (looked + 2) / 3);
	while (queue_pop(&q, &e)) {
		ck_assert_uint_gt(number_of(&e), last);
		last = number_of(&e);
		ck_assert(last % 3 != 0 || last - 3 >= looked);
		entry_clear(&e);
		seen++;
	}
	ck_assert_uint_eq(seen, 30 - dropped);
	ck_assert_uint_eq(q.bytes, 0);
	queue_clear(&q);
}
END_TEST

START_TEST(a_packet_identifier_is_not_used_again_while_it_is_unacknowledged)
{
	struct inflight f = { 0 };
	bool used[65536] = { false };
	struct entry none = { .qos = 1 };
	unsigned n;
	struct inflight_entry *ie, **all;

	/* One stays for ever; the others come and go, several times around all 65535 identifiers. */
	ck_assert_ptr_nonnull(ie = inflight_add(&f, &none, 10));
	used[ie->packet_id] = true;
	for (uint32_t round = 0; round < 200000; round++) {
		struct inflight_entry *other = inflight_add(&f, &none, 10);

		ck_assert_ptr_nonnull(other);
		ck_assert_uint_ne(other->packet_id, 0);
		ck_assert(!used[other->packet_id]);
		inflight_remove(&f, other);
	}
	all = inflight_sorted(&f, &n);
	ck_assert_uint_eq(n, 1);
	free(all);
	inflight_clear(&f);
}
END_TEST

START_TEST(every_identifier_can_be_in_flight_at_once)
{
	struct inflight f = { 0 };
	struct entry none = { .qos = 2 };
	uint8_t *seen = calloc(65536, 1);
	struct inflight_entry *ie;

	ck_assert_ptr_nonnull(seen);
	for (unsigned i = 0; i < 65535; i++) {
		ie = inflight_add(&f, &none, 65535);
		ck_assert_ptr_nonnull(ie);
		ck_assert_int_eq(ie->state, INFLIGHT_WAIT_PUBREC);
		ck_assert_int_eq(seen[ie->packet_id]++, 0);
	}
	ck_assert_ptr_null(inflight_add(&f, &none, 65535));
	for (unsigned i = 1; i < 65536; i++)
		ck_assert_ptr_nonnull(inflight_find(&f, (uint16_t)i));
	ck_assert_ptr_null(inflight_find(&f, 0));
	inflight_remove(&f, inflight_find(&f, 4711));
	ie = inflight_add(&f, &none, 65535);
	ck_assert_ptr_nonnull(ie);
	ck_assert_uint_eq(ie->packet_id, 4711);
	inflight_clear(&f);
	free(seen);
}
END_TEST

START_TEST(what_is_in_flight_is_sent_again_in_its_first_order)
{
	struct inflight f = { .next_seq = UINT32_MAX - 50 }; /* the counter wraps on the way */
	struct inflight_entry **all;
	unsigned n;

	for (uint32_t i = 0; i < 100; i++) {
		struct entry e = { .msg = message_numbered(i, 0), .qos = 1 };

		ck_assert_ptr_nonnull(inflight_add(&f, &e, 100));
	}
	ck_assert_ptr_null(inflight_add(&f, &(struct entry){ .qos = 1 }, 100));
	for (uint16_t id = 2; id <= 100; id += 2)
		inflight_remove(&f, inflight_find(&f, id));
	all = inflight_sorted(&f, &n);
	ck_assert_uint_eq(n, 50);
	for (unsigned i = 0; i < n; i++)
		ck_assert_uint_eq(number_of(&all[i]->e), 2 * i);
	free(all);
	inflight_clear(&f);
}
END_TEST

START_TEST(a_set_of_identifiers_knows_exactly_its_members)
{
	struct id_set s = { 0 };
	bool model[512] = { false };
	unsigned count = 0, r = 12345;

	ck_assert(!id_set_has(&s, 7));
	ck_assert(!id_set_remove(&s, 7));
	for (unsigned i = 0; i < 20000; i++) {
		uint16_t id = (uint16_t)(1 + (r = r * 1103515245u + 12345u) / 65536 % 500);

		if (r & 0x8000) {
			count += !model[id];
			model[id] = true;
			ck_assert_int_eq(id_set_add(&s, id), GRAPNEL_OK);
		} else {
			ck_assert_int_eq(id_set_remove(&s, id), model[id]);
			count -= model[id];
			model[id] = false;
		}
		ck_assert_uint_eq(s.count, count);
		if (i % 100 == 0)
			for (uint16_t k = 1; k < 501; k++)
				ck_assert_int_eq(id_set_has(&s, k), model[k]);
	}
	id_set_clear(&s);
}
END_TEST

START_TEST(subscription_identifiers_are_collected_in_order)
{
	uint32_t out[SUBIDS_MAX];
	subids ids = SUBIDS_NONE, shared;

	ck_assert_uint_eq(subids_get(ids, out, SUBIDS_MAX), 0);
	ids = subids_add(ids, 0); /* none */
	ck_assert(ids == SUBIDS_NONE);
	for (uint32_t i = 1; i <= 100; i++)
		ids = subids_add(ids, i * 1000);
	ck_assert_uint_eq(subids_get(ids, out, SUBIDS_MAX), SUBIDS_MAX);
	for (uint32_t i = 0; i < SUBIDS_MAX; i++)
		ck_assert_uint_eq(out[i], (i + 1) * 1000);
	ck_assert_uint_eq(subids_get(ids, out, 3), 3);
	shared = subids_ref(ids);
	subids_unref(ids);
	ck_assert_uint_eq(subids_get(shared, out, SUBIDS_MAX), SUBIDS_MAX);
	subids_unref(shared);
	ck_assert_uint_eq(subids_get(subids_one(268435455), out, SUBIDS_MAX), 1);
	ck_assert_uint_eq(out[0], 268435455);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("queue");
	TCase *tc = tcase_create("queue");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_queue_gives_back_what_it_got_in_order);
	tcase_add_test(tc, a_full_queue_grows_wherever_its_head_is);
	tcase_add_test(tc, what_is_put_back_at_the_head_comes_first);
	tcase_add_loop_test(
	    tc, expired_messages_leave_from_anywhere_and_the_rest_keeps_its_order, 0, 34);
	tcase_add_test(tc, a_packet_identifier_is_not_used_again_while_it_is_unacknowledged);
	tcase_add_test(tc, every_identifier_can_be_in_flight_at_once);
	tcase_add_test(tc, what_is_in_flight_is_sent_again_in_its_first_order);
	tcase_add_test(tc, a_set_of_identifiers_knows_exactly_its_members);
	tcase_add_test(tc, subscription_identifiers_are_collected_in_order);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
