/* SPDX-License-Identifier: Apache-2.0 */
#include "core/group.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMBERS 4u

static struct group g;
static struct group_terms terms;
static struct group_member *member[MEMBERS];
static char given[4096]; /* "B12 " : member B got message 12 */
static unsigned drops[METRIC_COUNT];
static int queued;
static bool full[MEMBERS], no_memory, at_once;

static uint32_t
number_of(const struct message *msg)
{
	uint32_t n;

	memcpy(&n, msg->payload, sizeof(n));
	return n;
}

static enum group_given
on_give(struct group *group, struct group_member *gm, struct message *msg, uint32_t seq,
    uint64_t address)
{
	size_t used = strlen(given);

	(void)seq;
	(void)address;
	if (no_memory)
		return GROUP_NO_MEMORY;
	if (full[gm->index])
		return GROUP_FULL;
	snprintf(
	    given + used, sizeof(given) - used, "%c%u ", 'A' + (char)gm->index, number_of(msg));
	if (at_once)
		group_credit(group, gm, gm->epoch, 1);
	return GROUP_GIVEN;
}

static void
on_queued(struct group *group, const struct message *msg, int sign)
{
	(void)group;
	(void)msg;
	queued += sign;
}

static void
on_dropped(struct group *group, const struct message *msg, uint64_t address, enum metric m,
    const char *why)
{
	(void)group;
	(void)address;
	(void)msg;
	ck_assert_ptr_nonnull(why);
	drops[m]++;
}

static const struct group_ops ops = { on_give, on_queued, on_dropped };

static void
setup(void)
{
	group_init(&g, &ops, 4711);
	memset(given, 0, sizeof(given));
	memset(drops, 0, sizeof(drops));
	memset(full, 0, sizeof(full));
	memset(member, 0, sizeof(member));
	no_memory = at_once = false;
	queued = 0;
	terms = (struct group_terms){
		.max_messages = 100, .max_bytes = 100000, .total_left = 100000, .now_ms = 1000
	};
}

static void
teardown(void)
{
	group_fini(&g);
	ck_assert_int_eq(queued, 0);
}

static void
join(unsigned i, uint8_t qos, uint32_t credit)
{
	struct group_member values = { .serial = 100 + i, .index = i, .qos = qos };

	ck_assert_ptr_nonnull(member[i] = group_join(&g, &values));
	if (credit > 0)
		group_state(&g, member[i], true, 1, credit);
}

static struct message
make(uint32_t *n, uint8_t qos)
{
	return (struct message){ .topic = "t",
		.topic_len = 1,
		.payload = (char *)n,
		.payload_len = sizeof(*n),
		.qos = qos };
}

static void
route_as(uint32_t n, uint8_t qos, uint64_t expires_at_ms, struct identity *author)
{
	struct message m = make(&n, qos);

	if (expires_at_ms != 0) {
		m.flags = MSG_EXPIRES;
		m.expires_at_ms = expires_at_ms;
	}
	m.author = author;
	group_route(&g, &terms, &m, 0);
	message_release_borrowed(&m);
}

static void
route(uint32_t n, uint8_t qos)
{
	route_as(n, qos, 0, NULL);
}

static void
give_back(uint32_t n, uint32_t seq)
{
	struct message m = make(&n, 1), *kept = message_keep(&m);

	message_release_borrowed(&m);
	group_return(&g, &terms, kept, seq, 0);
}

static void
credit(unsigned i, uint32_t n)
{
	group_credit(&g, member[i], member[i]->epoch, n);
}

static enum group_given
drain(void)
{
	return group_drain(&g, &terms, 1000);
}

/* What was given since the last time. */
#define ck_given(text)                           \
	do {                                     \
		ck_assert_str_eq(given, text);   \
		memset(given, 0, sizeof(given)); \
	} while (0)

/* ---- strategies ------------------------------------------------------------------------------- */

START_TEST(round_robin_gives_to_each_member_in_turn)
{
	for (unsigned i = 0; i < 3; i++)
		join(i, 1, 10);
	for (uint32_t n = 1; n <= 7; n++)
		route(n, 1);
	ck_given("A1 B2 C3 A4 B5 C6 A7 ");
}
END_TEST

START_TEST(round_robin_keeps_the_turn_when_credit_comes_back_at_once)
{
	at_once = true;
	for (unsigned i = 0; i < 3; i++)
		join(i, 0, 5);
	for (uint32_t n = 1; n <= 6; n++)
		route(n, 0);
	ck_given("A1 B2 C3 A4 B5 C6 ");
}
END_TEST

START_TEST(round_robin_serves_everybody_once_though_members_drop_out_in_between)
{
	for (unsigned i = 0; i < 4; i++)
		join(i, 1, i == 0 ? 1 : 10);
	route(1, 1); /* takes A's only credit */
	route(2, 1);
	route(3, 1);
	route(4, 1);
	ck_assert(
	    strchr(given, 'B') != NULL && strchr(given, 'C') != NULL && strchr(given, 'D') != NULL);
}
END_TEST

START_TEST(a_member_that_leaves_when_all_were_served_leaves_the_others_in_turn)
{
	for (unsigned i = 0; i < 3; i++)
		join(i, 1, 10);
	for (uint32_t n = 1; n <= 3; n++)
		route(n, 1);
	group_leave(&g, member[0]);
	group_state(&g, member[2], false, 2, 0);
	route(4, 1);
	route(5, 1);
	ck_given("A1 B2 C3 B4 B5 ");
	group_leave(&g, member[1]);
	route(6, 1);
	ck_given("");
}
END_TEST

START_TEST(random_reaches_every_member)
{
	unsigned count[3] = { 0 };

	terms.strategy = SHARE_RANDOM;
	for (unsigned i = 0; i < 3; i++)
		join(i, 1, 1000);
	for (uint32_t n = 0; n < 300; n++) {
		route(n, 1);
		count[given[0] - 'A']++;
		given[0] = '\0';
	}
	for (unsigned i = 0; i < 3; i++)
		ck_assert_uint_gt(count[i], 50);
}
END_TEST

START_TEST(sticky_stays_with_one_member_while_that_is_online_and_has_credit)
{
	terms.strategy = SHARE_STICKY;
	join(0, 1, 2);
	join(1, 1, 10);
	route(1, 1);
	route(2, 1);
	route(3, 1); /* no credit: another helps out */
	credit(0, 2);
	route(4, 1);
	ck_given("A1 A2 B3 A4 ");
	group_state(&g, member[0], false, 2, 0);
	route(5, 1);
	group_state(&g, member[0], true, 3, 10);
	route(6, 1);
	ck_given("B5 B6 ");
}
END_TEST

START_TEST(by_publisher_gives_all_of_one_publisher_to_one_member)
{
	struct identity *who[8];
	char names[8][4], first[8];

	struct site *site = site_new(GRAPNEL_STR(""), GRAPNEL_STR("mqtt"));

	terms.strategy = SHARE_BY_PUBLISHER;
	for (unsigned i = 0; i < 4; i++)
		join(i, 1, 100);
	for (unsigned k = 0; k < 8; k++) {
		struct grapnel_client_info info = { .client_id = { names[k], 2 } };

		snprintf(names[k], sizeof(names[k]), "p%u", k);
		who[k] = identity_new(&info, site);
	}
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned k = 0; k < 8; k++) {
			route_as(k, 0, 0, who[k]);
			if (round == 0)
				first[k] = given[0];
			ck_assert_int_eq(given[0], first[k]);
			given[0] = '\0';
		}
	}
	ck_assert(memcmp(first, first + 1, 7) != 0); /* not all of them the same */
	/* Its member is offline: another, and back again. */
	group_state(&g, member[first[0] - 'A'], false, 2, 0);
	route_as(1, 0, 0, who[0]);
	ck_assert_int_ne(given[0], first[0]);
	ck_assert_int_ne(given[0], '\0');
	given[0] = '\0';
	group_state(&g, member[first[0] - 'A'], true, 3, 10);
	route_as(2, 0, 0, who[0]);
	ck_assert_int_eq(given[0], first[0]);
	/* From nobody: in turn. */
	route_as(3, 0, 0, NULL);
	for (unsigned k = 0; k < 8; k++)
		identity_unref(who[k]);
	site_unref(site);
}
END_TEST

/* ---- credit ------------------------------------------------------------------------------------- */

START_TEST(a_member_gets_no_more_than_its_credit_and_the_rest_waits_in_order)
{
	join(0, 1, 2);
	for (uint32_t n = 1; n <= 5; n++)
		route(n, 1);
	ck_given("A1 A2 ");
	ck_assert_int_eq(queued, 3);
	credit(0, 1);
	ck_assert_int_eq(drain(), GROUP_FULL);
	ck_given("A3 ");
	credit(0, 5);
	drain();
	route(6, 1);
	ck_given("A4 A5 A6 ");
	ck_assert_int_eq(queued, 0);
}
END_TEST

START_TEST(a_new_message_does_not_overtake_those_that_wait)
{
	join(0, 1, 1);
	for (uint32_t n = 1; n <= 3; n++)
		route(n, 1);
	credit(0, 2);
	route(4, 1); /* there is credit, but 2 and 3 are older */
	ck_given("A1 ");
	drain();
	ck_given("A2 A3 ");
}
END_TEST

START_TEST(an_offline_or_full_member_is_skipped)
{
	for (unsigned i = 0; i < 3; i++)
		join(i, 1, 10);
	group_state(&g, member[1], false, 2, 0);
	full[2] = true;
	for (uint32_t n = 1; n <= 4; n++)
		route(n, 1);
	ck_given("A1 A2 A3 A4 ");
	full[2] = false;
	group_state(&g, member[2], true, 2, 10);
	route(5, 1);
	route(6, 1);
	ck_assert_ptr_nonnull(strchr(given, 'C'));
	ck_assert_ptr_null(strchr(given, 'B'));
}
END_TEST

START_TEST(credit_of_an_old_epoch_is_void)
{
	join(0, 1, 1);
	route(1, 1);
	route(2, 1);
	group_state(&g, member[0], true, 2, 0);
	group_credit(&g, member[0], 1, 5);
	drain();
	ck_given("A1 ");
	group_credit(&g, member[0], 2, 1);
	drain();
	ck_given("A2 ");
	group_state(&g, member[0], false, 3, 0);
	group_credit(&g, member[0], 3, 5); /* offline */
	route(3, 1);
	ck_given("");
}
END_TEST

START_TEST(without_memory_the_message_waits_and_the_credit_is_kept)
{
	join(0, 1, 1);
	no_memory = true;
	route(1, 1);
	ck_assert_int_eq(queued, 1);
	ck_assert_int_eq(drain(), GROUP_NO_MEMORY);
	no_memory = false;
	ck_assert_int_eq(drain(), GROUP_FULL);
	ck_given("A1 ");
}
END_TEST

START_TEST(a_budget_ends_a_turn_with_messages_left)
{
	at_once = true;
	join(0, 1, 0);
	for (uint32_t n = 1; n <= 5; n++)
		route(n, 1);
	group_state(&g, member[0], true, 1, 1);
	ck_assert_int_eq(group_drain(&g, &terms, 2), GROUP_GIVEN);
	ck_given("A1 A2 ");
	ck_assert_int_eq(group_drain(&g, &terms, 3), GROUP_FULL);
	ck_given("A3 A4 A5 ");
}
END_TEST

START_TEST(nothing_is_given_while_the_broker_stops)
{
	join(0, 1, 5);
	terms.hold = true;
	route(1, 1);
	drain();
	ck_given("");
	ck_assert_int_eq(queued, 1);
}
END_TEST

/* ---- what waits --------------------------------------------------------------------------------------- */

START_TEST(qos_0_waits_only_while_a_member_is_online)
{
	join(0, 1, 1);
	route(1, 1);
	route(2, 0); /* no credit, but online */
	route(3, 1);
	ck_assert_int_eq(queued, 2);
	group_state(&g, member[0], false, 2, 0);
	ck_assert_int_eq(queued, 1);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_OFFLINE], 1);
	route(4, 0);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_OFFLINE], 2);
	route(5, 2);
	group_state(&g, member[0], true, 3, 9);
	drain();
	ck_given("A1 A3 A5 ");
}
END_TEST

START_TEST(what_no_member_would_get_above_qos_0_is_qos_0)
{
	join(0, 0, 0);
	route(1, 2);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_OFFLINE], 1);
	group_qos(&g, member[0], 1);
	route(2, 2);
	ck_assert_int_eq(queued, 1);
}
END_TEST

START_TEST(a_full_queue_drops_the_newest)
{
	terms.max_messages = 3;
	join(0, 1, 0);
	for (uint32_t n = 1; n <= 5; n++)
		route(n, 1);
	ck_assert_int_eq(queued, 3);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_QUEUE_FULL], 2);
	group_state(&g, member[0], true, 1, 10);
	drain();
	ck_given("A1 A2 A3 ");
}
END_TEST

START_TEST(bytes_are_bounded_for_the_group_and_for_all)
{
	struct message m = { .topic_len = 1, .payload_len = 4 };

	terms.max_bytes = message_size(&m) * 2;
	join(0, 1, 0);
	for (uint32_t n = 1; n <= 3; n++)
		route(n, 1);
	ck_assert_int_eq(queued, 2);
	terms.max_bytes = 100000;
	terms.total_left = message_size(&m) - 1;
	route(4, 1);
	ck_assert_int_eq(queued, 2);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_QUEUE_FULL], 2);
}
END_TEST

START_TEST(expired_messages_make_room_and_are_not_given)
{
	terms.max_messages = 2;
	join(0, 1, 0);
	route_as(1, 1, 2000, NULL);
	route_as(2, 1, 5000, NULL);
	terms.now_ms = 2000;
	route(3, 1);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_EXPIRED], 1);
	ck_assert_int_eq(queued, 2);
	terms.now_ms = 5000;
	group_state(&g, member[0], true, 1, 10);
	drain();
	ck_given("A3 ");
	ck_assert_uint_eq(drops[METRIC_MESSAGES_EXPIRED], 2);
}
END_TEST

START_TEST(what_comes_back_goes_to_its_old_place)
{
	join(0, 1, 3);
	for (uint32_t n = 0; n < 5; n++) /* numbers of the group are 0, 1 ... too */
		route(n, 1);
	ck_given("A0 A1 A2 ");
	group_state(&g, member[0], false, 2, 0);
	give_back(2, 2);
	give_back(0, 0);
	give_back(1, 1); /* in whatever order */
	ck_assert_int_eq(queued, 5);
	join(1, 1, 10);
	drain();
	ck_given("B0 B1 B2 B3 B4 ");
}
END_TEST

START_TEST(the_old_place_is_found_when_numbers_wrap)
{
	g.next_seq = UINT32_MAX - 1;
	join(0, 1, 3);
	for (uint32_t n = 1; n <= 5; n++)
		route(n, 1);
	ck_given("A1 A2 A3 ");
	give_back(1, UINT32_MAX - 1);
	give_back(3, 0);
	give_back(2, UINT32_MAX);
	credit(0, 10);
	drain();
	ck_given("A1 A2 A3 A4 A5 ");
}
END_TEST

START_TEST(what_comes_back_is_not_refused_by_a_full_queue)
{
	terms.max_messages = 2;
	join(0, 1, 1);
	for (uint32_t n = 0; n < 3; n++)
		route(n, 1);
	give_back(0, 0);
	ck_assert_int_eq(queued, 3);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_QUEUE_FULL], 0);
}
END_TEST

START_TEST(the_end_of_a_group_drops_and_counts_its_queue)
{
	join(0, 1, 0);
	route(1, 1);
	route(2, 1);
	group_leave(&g, member[0]);
	ck_assert_uint_eq(g.count, 0);
	group_fini(&g);
	ck_assert_int_eq(queued, 0);
	ck_assert_uint_eq(drops[METRIC_MESSAGES_DROPPED_OFFLINE], 2);
}
END_TEST

/* ---- members -------------------------------------------------------------------------------------------- */

START_TEST(a_member_is_found_by_its_place_and_serial_and_by_nothing_else)
{
	uint32_t slot;

	for (unsigned i = 0; i < 4; i++)
		join(i, 1, 1);
	slot = member[1]->slot;
	ck_assert_ptr_eq(group_member(&g, slot, 101), member[1]);
	ck_assert_ptr_null(group_member(&g, slot, 102));
	ck_assert_ptr_null(group_member(&g, 4, 101));
	ck_assert_ptr_eq(group_by_serial(&g, 103), member[3]);
	group_leave(&g, member[1]);
	ck_assert_ptr_null(group_member(&g, slot, 101));
	ck_assert_ptr_null(group_by_serial(&g, 101));
	join(1, 1, 1); /* the hole is used again */
	ck_assert_uint_eq(member[1]->slot, slot);
	ck_assert_uint_eq(g.slots, 4);
}
END_TEST

START_TEST(members_that_come_and_go_at_random_leave_the_tables_whole)
{
	struct group_member *all[64] = { 0 };
	uint32_t x = 12345, count = 0, online = 0;

	for (unsigned step = 0; step < 20000; step++) {
		unsigned i = (x = x * 1664525u + 1013904223u) >> 26;
		struct group_member values = {
			.serial = step + 1, .index = i % MEMBERS, .qos = (uint8_t)(i % 3)
		};

		if (all[i] == NULL) {
			ck_assert_ptr_nonnull(all[i] = group_join(&g, &values));
		} else if ((x >> 8 & 3) == 0) {
			group_leave(&g, all[i]);
			all[i] = NULL;
		} else {
			group_state(&g, all[i], (x >> 10 & 3) != 0, step, x >> 12 & 3);
		}
		route(step, x >> 14 & 1);
		given[0] = '\0';
		if (step % 16 == 0)
			drain();
		given[0] = '\0';
		for (uint32_t k = 0; k < g.ready_count; k++)
			ck_assert_uint_eq(g.ready[k]->ready, k);
	}
	for (unsigned i = 0; i < 64; i++) {
		count += all[i] != NULL;
		online += all[i] != NULL && all[i]->online;
		if (all[i] != NULL)
			ck_assert_int_eq(
			    all[i]->ready != GROUP_NOT_READY, all[i]->online && all[i]->credit > 0);
	}
	ck_assert_uint_eq(g.count, count);
	ck_assert_uint_eq(g.online, online);
	ck_assert_uint_eq(g.qos_count[0] + g.qos_count[1] + g.qos_count[2], count);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("group");
	TCase *tc = tcase_create("group");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, round_robin_gives_to_each_member_in_turn);
	tcase_add_test(tc, round_robin_keeps_the_turn_when_credit_comes_back_at_once);
	tcase_add_test(tc, round_robin_serves_everybody_once_though_members_drop_out_in_between);
	tcase_add_test(tc, a_member_that_leaves_when_all_were_served_leaves_the_others_in_turn);
	tcase_add_test(tc, random_reaches_every_member);
	tcase_add_test(tc, sticky_stays_with_one_member_while_that_is_online_and_has_credit);
	tcase_add_test(tc, by_publisher_gives_all_of_one_publisher_to_one_member);
	tcase_add_test(tc, a_member_gets_no_more_than_its_credit_and_the_rest_waits_in_order);
	tcase_add_test(tc, a_new_message_does_not_overtake_those_that_wait);
	tcase_add_test(tc, an_offline_or_full_member_is_skipped);
	tcase_add_test(tc, credit_of_an_old_epoch_is_void);
	tcase_add_test(tc, without_memory_the_message_waits_and_the_credit_is_kept);
	tcase_add_test(tc, a_budget_ends_a_turn_with_messages_left);
	tcase_add_test(tc, nothing_is_given_while_the_broker_stops);
	tcase_add_test(tc, qos_0_waits_only_while_a_member_is_online);
	tcase_add_test(tc, what_no_member_would_get_above_qos_0_is_qos_0);
	tcase_add_test(tc, a_full_queue_drops_the_newest);
	tcase_add_test(tc, bytes_are_bounded_for_the_group_and_for_all);
	tcase_add_test(tc, expired_messages_make_room_and_are_not_given);
	tcase_add_test(tc, what_comes_back_goes_to_its_old_place);
	tcase_add_test(tc, the_old_place_is_found_when_numbers_wrap);
	tcase_add_test(tc, what_comes_back_is_not_refused_by_a_full_queue);
	tcase_add_test(tc, the_end_of_a_group_drops_and_counts_its_queue);
	tcase_add_test(tc, a_member_is_found_by_its_place_and_serial_and_by_nothing_else);
	tcase_add_test(tc, members_that_come_and_go_at_random_leave_the_tables_whole);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
