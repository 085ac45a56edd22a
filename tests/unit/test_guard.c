/* SPDX-License-Identifier: Apache-2.0 */
#include "config/cidr.h"
#include "core/broker.h"
#include "net/guard.h"
#include "store/format.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct broker broker; /* its hash key */
static struct guard *g;
static const struct grapnel_str alice = { "alice", 5 }, bob = { "bob", 3 };

static struct guard_settings
settings(void)
{
	return (struct guard_settings){ .enabled = true,
		.failures = 3,
		.forgive_ms = 1000,
		.ban_ms = 10000,
		.ban_max_ms = 30000,
		.delay_after = 2,
		.delay_ms = 100,
		.delay_max_ms = 400,
		.addresses = 100 };
}

static void
setup(void)
{
	struct guard_settings s = settings();

	g = guard_new(&broker);
	ck_assert_ptr_nonnull(g);
	ck_assert(guard_apply(g, &s));
}

static void
teardown(void)
{
	guard_free(g);
}

static bool
admits(const char *host, uint64_t now_ms)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, host, &in.sin_addr) == 1)
		return guard_admits(g, (const struct sockaddr *)&in, now_ms);
	ck_assert_int_eq(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
	return guard_admits(g, (const struct sockaddr *)&in6, now_ms);
}

START_TEST(a_full_bucket_is_a_ban_and_the_next_one_lasts_twice_as_long)
{
	uint64_t now_ms = 1000;

	for (uint64_t expected = 10000; expected <= 40000; expected *= 2) {
		uint64_t ban_ms = expected < 30000 ? expected : 30000; /* ban_max */

		ck_assert_uint_eq(guard_failed(g, "192.0.2.1:1", alice, now_ms), 0);
		ck_assert_uint_eq(guard_failed(g, "192.0.2.1:2", bob, now_ms), 0);
		ck_assert_uint_eq(guard_failed(g, "192.0.2.1:3", alice, now_ms), ban_ms);
		ck_assert(!admits("192.0.2.1", now_ms));
		ck_assert(admits("192.0.2.2", now_ms));
		ck_assert(!admits("192.0.2.1", now_ms + ban_ms - 1));
		now_ms += ban_ms;
		ck_assert(admits("192.0.2.1", now_ms));
	}
}
END_TEST

START_TEST(failures_that_come_slowly_enough_are_forgiven)
{
	for (uint64_t i = 0; i < 100; i++)
		ck_assert_uint_eq(guard_failed(g, "192.0.2.1:1", alice, 1000 + i * 1000), 0);
	ck_assert(admits("192.0.2.1", 101000));
}
END_TEST

START_TEST(of_ipv6_the_network_counts)
{
	struct guard_counts n;
	json_t *list;

	for (unsigned i = 1; i <= 3; i++) {
		char peer[64];

		snprintf(peer, sizeof(peer), "[2001:db8::%x]:4711", i);
		(void)guard_failed(g, peer, alice, 1000);
	}
	ck_assert(!admits("2001:db8::ffff", 1000));
	ck_assert(admits("2001:db8:0:1::1", 1000));
	guard_counts(g, 1000, &n);
	ck_assert_uint_eq(n.banned, 1);
	ck_assert_uint_eq(n.failures, 3);
	list = guard_list(g, 1000, 10);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "address")),
	    "2001:db8::/64");
	json_decref(list);
	ck_assert_uint_eq(guard_lift(g, "2001:db9::1"), 0);
	ck_assert_uint_eq(guard_lift(g, "no address"), 0);
	ck_assert_uint_eq(guard_lift(g, "2001:db8::/64"), 1);
	ck_assert(admits("2001:db8::1", 1000));
}
END_TEST

START_TEST(who_is_no_address_or_an_exception_is_not_watched)
{
	struct guard_settings s = settings();
	struct cidr except;
	char why[64];

	ck_assert(cidr_parse("198.51.100.0/24", &except, why, sizeof(why)));
	s.excepted = &except;
	s.excepted_count = 1;
	ck_assert(guard_apply(g, &s));
	for (int i = 0; i < 10; i++) {
		ck_assert_uint_eq(guard_failed(g, "198.51.100.7:1", alice, 1000), 0);
		ck_assert_uint_eq(guard_failed(g, "unix:uid=7", alice, 1000), 0);
		ck_assert_uint_eq(guard_failed(g, "", alice, 1000), 0);
	}
	ck_assert(admits("198.51.100.7", 1000));
	ck_assert_uint_eq(guard_wait(g, "198.51.100.7:1", alice, 1000), 0);
	/* Even one that was banned before it became one. */
	for (int i = 0; i < 3; i++)
		(void)guard_failed(g, "203.0.113.9:1", alice, 1000);
	ck_assert(!admits("203.0.113.9", 1000));
	ck_assert(cidr_parse("203.0.113.9", &except, why, sizeof(why)));
	ck_assert(guard_apply(g, &s));
	ck_assert(admits("203.0.113.9", 1000));
}
END_TEST

START_TEST(waits_are_by_name_and_address_and_double)
{
	struct guard_settings s = settings();

	s.failures = 1000;
	ck_assert(guard_apply(g, &s));
	(void)guard_failed(g, "192.0.2.1:1", alice, 1000);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", alice, 1000), 0);
	(void)guard_failed(g, "192.0.2.1:1", alice, 1000);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", bob, 1000), 0);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.2:1", alice, 1000), 0);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:9", alice, 1000), 100);
	ck_assert_uint_eq(
	    guard_wait(g, "192.0.2.1:9", alice, 1000), 200); /* behind the other one */
	(void)guard_failed(g, "192.0.2.1:1", alice, 1000);
	(void)guard_failed(g, "192.0.2.1:1", alice, 1000);
	(void)guard_failed(g, "192.0.2.1:1", alice, 1000);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", alice, 1000), 400); /* delay_max */
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", alice, 1000), UINT32_MAX);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", alice, 1600), 0);
	guard_passed(g, "192.0.2.1:1", alice);
	(void)guard_failed(g, "192.0.2.1:1", alice, 1600);
	ck_assert_uint_eq(guard_wait(g, "192.0.2.1:1", alice, 1600), 0);
}
END_TEST

START_TEST(the_table_is_bounded_and_bans_go_last)
{
	struct guard_counts n;

	for (int i = 0; i < 3; i++)
		(void)guard_failed(g, "203.0.113.9:1", alice, 1000);
	for (unsigned i = 0; i < 5000; i++) {
		char peer[64];

		snprintf(peer, sizeof(peer), "10.0.%u.%u:1", i / 250, i % 250);
		(void)guard_failed(g, peer, alice, 1000);
	}
	guard_counts(g, 1000, &n);
	ck_assert_uint_eq(n.watched, 100);
	ck_assert_uint_eq(n.banned, 1);
	ck_assert(!admits("203.0.113.9", 1000));
	ck_assert_uint_eq(guard_lift(g, NULL), 1);
	guard_counts(g, 1000, &n);
	ck_assert_uint_eq(n.banned, 0);
}
END_TEST

START_TEST(it_can_be_off_and_forgets_then)
{
	struct guard_settings s = settings();
	struct guard_counts n;

	for (int i = 0; i < 3; i++)
		(void)guard_failed(g, "203.0.113.9:1", alice, 1000);
	s.enabled = false;
	ck_assert(guard_apply(g, &s));
	ck_assert(admits("203.0.113.9", 1000));
	guard_counts(g, 1000, &n);
	ck_assert_uint_eq(n.watched, 0);
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(guard_failed(g, "203.0.113.9:1", alice, 1000), 0);
	s = settings();
	s.ban_ms = 0;
	s.delay_ms = 0;
	ck_assert(guard_apply(g, &s));
	for (int i = 0; i < 10; i++)
		ck_assert_uint_eq(guard_failed(g, "203.0.113.9:1", alice, 1000), 0);
	ck_assert_uint_eq(guard_wait(g, "203.0.113.9:1", alice, 1000), 0);
}
END_TEST

START_TEST(a_ban_that_is_long_over_does_not_count)
{
	for (unsigned i = 0; i < 3; i++)
		(void)guard_failed(g, "192.0.2.1:1", alice, 1000); /* until 11000 */
	for (unsigned i = 0; i < 2; i++)
		(void)guard_failed(g, "192.0.2.1:1", alice, 41000); /* ban_max later */
	ck_assert_uint_eq(guard_failed(g, "192.0.2.1:1", alice, 41000), 20000);
	for (unsigned i = 0; i < 2; i++)
		(void)guard_failed(g, "192.0.2.1:1", alice, 91001); /* ended at 61000 */
	ck_assert_uint_eq(guard_failed(g, "192.0.2.1:1", alice, 91001), 10000);
}
END_TEST

/* ---- from the store ----------------------------------------------------------------------------- */

/* At 100 s it had `left_ms`; the broker then ran until 101 s. */
static bool
restored(const char *address, uint64_t left_ms, uint32_t bans, uint64_t wall_ms, uint64_t now_ms)
{
	const struct row_ban ban = {
		.until = { .set = true, .wall_ms = 100000 + left_ms, .left_ms = left_ms },
		.bans = bans
	};
	const struct row_clock clock = { .now_wall_ms = wall_ms, .alive_wall_ms = 101000 };

	return guard_restore(
	    g, (struct grapnel_str){ address, strlen(address) }, &ban, &clock, now_ms);
}

static uint64_t
next_ban(const char *peer, uint64_t now_ms)
{
	for (unsigned i = 0; i < 2; i++)
		ck_assert_uint_eq(guard_failed(g, peer, alice, now_ms), 0);
	return guard_failed(g, peer, alice, now_ms);
}

START_TEST(a_ban_goes_on_after_a_restart_and_the_time_between_counts)
{
	struct guard_counts n;

	ck_assert(restored("192.0.2.1", 10000, 1, 104000, 500)); /* 4 of 10 s are over */
	ck_assert(restored("2001:db8::/64", 10000, 1, 104000, 500));
	ck_assert(!admits("192.0.2.1", 6499));
	ck_assert(!admits("2001:db8::7", 6499));
	ck_assert(admits("192.0.2.2", 6499));
	guard_counts(g, 6499, &n);
	ck_assert_uint_eq(n.banned, 2);
	ck_assert_uint_eq(n.bans, 0); /* of this process */
	ck_assert(admits("192.0.2.1", 6500));
	ck_assert(admits("2001:db8::7", 6500));
	ck_assert_uint_eq(next_ban("192.0.2.1:1", 6500), 20000); /* it was not the first */
	ck_assert_uint_eq(guard_lift(g, NULL), 1);
}
END_TEST

START_TEST(one_that_ended_while_the_broker_was_down_is_remembered_for_a_while)
{
	ck_assert(restored("192.0.2.1", 10000, 2, 115000, 500)); /* over for 5 s */
	ck_assert(restored("192.0.2.2", 10000, 2, 115000, 500));
	ck_assert(admits("192.0.2.1", 500));
	ck_assert_uint_eq(next_ban("192.0.2.1:1", 500), 30000);   /* the third one: ban_max */
	ck_assert_uint_eq(next_ban("192.0.2.2:1", 25501), 10000); /* 30001 ms after its end */
	ck_assert(!restored("192.0.2.3", 10000, 2, 140001, 500)); /* of no use any more */
	ck_assert_uint_eq(next_ban("192.0.2.3:1", 500), 10000);
}
END_TEST

START_TEST(a_clock_that_went_back_neither_ends_a_ban_nor_makes_it_longer)
{
	ck_assert(restored("192.0.2.1", 10000, 1, 5000, 500));
	ck_assert(!admits("192.0.2.1", 500));
	ck_assert(admits("192.0.2.1", 10500));
}
END_TEST

START_TEST(what_is_restored_keeps_to_the_settings)
{
	struct guard_settings s = settings();
	struct guard_counts n;

	s.ban_max_ms = 2000;
	s.addresses = 2;
	ck_assert(guard_apply(g, &s));
	ck_assert(restored("192.0.2.1", 86400000, 9, 101000, 500));
	ck_assert(!admits("192.0.2.1", 2499));
	ck_assert(admits("192.0.2.1", 2500));
	ck_assert(restored("192.0.2.2", 10000, 1, 101000, 500));
	ck_assert(restored("192.0.2.3", 10000, 1, 101000, 500)); /* no place; its row stays */
	guard_counts(g, 500, &n);
	ck_assert_uint_eq(n.watched, 2);
	ck_assert(!restored("no address", 10000, 1, 101000, 500));
	ck_assert(!restored("192.0.2.4", 10000, 0, 101000, 500));
	ck_assert(!restored("", 10000, 1, 101000, 500));
	s.ban_ms = 0;
	s.addresses = 100;
	ck_assert(guard_apply(g, &s));
	ck_assert(restored("192.0.2.5", 10000, 1, 101000, 500));
	ck_assert(admits("192.0.2.5", 500));
	s.enabled = false;
	ck_assert(guard_apply(g, &s));
	ck_assert(restored("192.0.2.6", 10000, 1, 101000, 500));
	guard_counts(g, 500, &n);
	ck_assert_uint_eq(n.watched, 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("guard");
	TCase *t = tcase_create("guard");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_full_bucket_is_a_ban_and_the_next_one_lasts_twice_as_long);
	tcase_add_test(t, failures_that_come_slowly_enough_are_forgiven);
	tcase_add_test(t, of_ipv6_the_network_counts);
	tcase_add_test(t, who_is_no_address_or_an_exception_is_not_watched);
	tcase_add_test(t, waits_are_by_name_and_address_and_double);
	tcase_add_test(t, the_table_is_bounded_and_bans_go_last);
	tcase_add_test(t, it_can_be_off_and_forgets_then);
	tcase_add_test(t, a_ban_that_is_long_over_does_not_count);
	tcase_add_test(t, a_ban_goes_on_after_a_restart_and_the_time_between_counts);
	tcase_add_test(t, one_that_ended_while_the_broker_was_down_is_remembered_for_a_while);
	tcase_add_test(t, a_clock_that_went_back_neither_ends_a_ban_nor_makes_it_longer);
	tcase_add_test(t, what_is_restored_keeps_to_the_settings);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
