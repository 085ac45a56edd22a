/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"
#include "core/broker.h"
#include "net/addresses.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct broker broker; /* its hash key */
static struct metrics metrics;

static struct address_key
key(const char *peer)
{
	struct address_key k;

	ck_assert_msg(address_key_of_text(peer, &k), "%s", peer);
	return k;
}

static struct address_key
numbered(uint32_t n)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(n) };
	struct address_key k;

	ck_assert(address_key_of((const struct sockaddr *)&in, &k));
	return k;
}

static enum addresses_verdict
enter(struct addresses *a, const char *peer, uint32_t max, uint32_t rate, uint64_t now_ms)
{
	struct address_key k = key(peer);

	return addresses_enter(a, &k, max, rate, now_ms, &metrics);
}

static void
leave(struct addresses *a, const char *peer, uint64_t now_ms)
{
	struct address_key k = key(peer);

	addresses_leave(a, &k, now_ms, &metrics);
}

static struct addresses *
make(uint32_t capacity)
{
	struct addresses *a = addresses_new(&broker, capacity);

	ck_assert_ptr_nonnull(a);
	memset(&metrics, 0, sizeof(metrics));
	return a;
}

START_TEST(an_address_is_ipv4_or_a_64)
{
	static const struct {
		const char *a, *b;
		bool same;
	} cases[] = {
		{ "192.0.2.1:1", "192.0.2.1:65535", true },
		{ "192.0.2.1:1", "192.0.2.2:1", false },
		{ "192.0.2.1:1", "[::ffff:192.0.2.1]:7", true },
		{ "[2001:db8:0:1::1]:1", "[2001:db8:0:1:ffff:ffff:ffff:ffff]:2", true },
		{ "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", false },
		{ "[::1]:1", "[::2]:1", true },
		{ "[::1]:1", "192.0.2.1:1", false },
		{ "[::1]:1", "0.0.0.0:1", false },
	};
	struct sockaddr sa = { .sa_family = AF_UNIX };
	struct address_key k;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct address_key a = key(cases[i].a), b = key(cases[i].b);

		ck_assert_msg((memcmp(&a, &b, sizeof(a)) == 0) == cases[i].same, "%s and %s",
		    cases[i].a, cases[i].b);
	}
	ck_assert(!address_key_of(&sa, &k));
	ck_assert(!address_key_of_text("unix:uid=0,pid=1", &k));
	ck_assert(!address_key_of_text("", &k));
	ck_assert(!address_key_of_text("[", &k));
}
END_TEST

START_TEST(an_address_has_so_many_connections_and_a_place_that_is_free_again_is_taken)
{
	struct addresses *a = make(16);

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			ck_assert_int_eq(enter(a, "192.0.2.1:1", 3, 0, 1000), ADDRESSES_COUNTED);
		ck_assert_int_eq(enter(a, "192.0.2.1:9", 3, 0, 1000), ADDRESSES_TOO_MANY);
		ck_assert_int_eq(enter(a, "192.0.2.2:1", 3, 0, 1000), ADDRESSES_COUNTED);
		leave(a, "192.0.2.2:1", 1000);
		leave(a, "192.0.2.1:1", 1000);
		ck_assert_int_eq(enter(a, "192.0.2.1:1", 3, 0, 1000), ADDRESSES_COUNTED);
		ck_assert_int_eq(enter(a, "192.0.2.1:1", 3, 0, 1000), ADDRESSES_TOO_MANY);
		/* A listener that allows more counts the same ones. */
		ck_assert_int_eq(enter(a, "192.0.2.1:1", 4, 0, 1000), ADDRESSES_COUNTED);
		for (unsigned i = 0; i < 4; i++)
			leave(a, "192.0.2.1:5", 1000);
	}
	addresses_free(a);
}
END_TEST

START_TEST(an_address_connects_at_a_rate_with_one_second_in_a_burst)
{
	struct addresses *a = make(16);
	unsigned in = 0;

	for (unsigned i = 0; i < 10; i++)
		in += enter(a, "192.0.2.1:1", 0, 4, 5000) == ADDRESSES_COUNTED;
	ck_assert_uint_eq(in, 4);
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 4, 5249), ADDRESSES_TOO_FAST);
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 4, 5250), ADDRESSES_COUNTED);
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 4, 5250), ADDRESSES_TOO_FAST);
	/* Trying does not make it worse, and others are not in it. */
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 4, 5260), ADDRESSES_TOO_FAST);
	ck_assert_int_eq(enter(a, "192.0.2.2:1", 0, 4, 5260), ADDRESSES_COUNTED);
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 4, 5500), ADDRESSES_COUNTED);
	/* Over ten seconds as many as the rate says, and no more. */
	in = 0;
	for (uint64_t ms = 10000; ms < 20000; ms += 10)
		in += enter(a, "192.0.2.3:1", 0, 7, ms) == ADDRESSES_COUNTED;
	ck_assert_uint_ge(in, 70 + 6);
	ck_assert_uint_le(in, 70 + 7);
	/* The highest rate there can be, and the lowest. */
	for (unsigned i = 0; i < 1000; i++)
		ck_assert_int_eq(enter(a, "192.0.2.4:1", 0, 1000000, 30000), ADDRESSES_COUNTED);
	ck_assert_int_eq(enter(a, "192.0.2.5:1", 0, 1, 30000), ADDRESSES_COUNTED);
	ck_assert_int_eq(enter(a, "192.0.2.5:1", 0, 1, 30999), ADDRESSES_TOO_FAST);
	ck_assert_int_eq(enter(a, "192.0.2.5:1", 0, 1, 31000), ADDRESSES_COUNTED);
	/* Another worker's clock may be a little behind. */
	ck_assert_int_eq(enter(a, "192.0.2.5:1", 0, 1, 30990), ADDRESSES_TOO_FAST);
	addresses_free(a);
}
END_TEST

START_TEST(leaving_does_not_refill_the_bucket)
{
	struct addresses *a = make(16);

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 2, 1000), ADDRESSES_COUNTED);
		leave(a, "192.0.2.1:1", 1000);
	}
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 2, 1000), ADDRESSES_TOO_FAST);
	ck_assert_int_eq(metric_get(&metrics, METRIC_ADDRESSES), 1);
	ck_assert_int_eq(enter(a, "192.0.2.1:1", 0, 2, 3000), ADDRESSES_COUNTED);
	leave(a, "192.0.2.1:1", 4001);
	ck_assert_int_eq(metric_get(&metrics, METRIC_ADDRESSES), 0); /* nothing left to know */
	addresses_free(a);
}
END_TEST

START_TEST(a_full_table_forgets_idle_addresses_and_refuses_nobody)
{
	struct addresses *a = make(64);
	struct address_key k;

	for (uint32_t n = 0; n < 64; n++) {
		k = numbered(n);
		ck_assert_int_eq(addresses_enter(a, &k, 1, 1, 1000, &metrics), ADDRESSES_COUNTED);
	}
	ck_assert_int_eq(metric_get(&metrics, METRIC_ADDRESSES), 64);
	/* All have connections: others come in without being counted, those that are counted still are. */
	for (uint32_t n = 64; n < 100; n++) {
		k = numbered(n);
		ck_assert_int_eq(addresses_enter(a, &k, 1, 1, 1000, &metrics), ADDRESSES_UNCOUNTED);
	}
	ck_assert_int_eq(metric_get(&metrics, METRIC_ADDRESSES_UNCOUNTED), 36);
	k = numbered(7);
	ck_assert_int_eq(addresses_enter(a, &k, 1, 0, 9000, &metrics), ADDRESSES_TOO_MANY);
	/* Some leave, with buckets that are not full: they are not forgotten yet. */
	for (uint32_t n = 0; n < 10; n++) {
		k = numbered(n);
		addresses_leave(a, &k, 1000, &metrics);
	}
	k = numbered(64);
	ck_assert_int_eq(addresses_enter(a, &k, 1, 1, 1999, &metrics), ADDRESSES_UNCOUNTED);
	/* Then they are, the one that left first before the others. */
	ck_assert_int_eq(addresses_enter(a, &k, 1, 1, 2000, &metrics), ADDRESSES_COUNTED);
	ck_assert_int_le(metric_get(&metrics, METRIC_ADDRESSES), 64);
	/* As often as one likes, with new addresses each time. */
	for (uint32_t n = 1000; n < 20000; n++) {
		k = numbered(n);
		ck_assert_int_eq(
		    addresses_enter(a, &k, 1, 1, 1000 * (uint64_t)n, &metrics), ADDRESSES_COUNTED);
		addresses_leave(a, &k, 1000 * (uint64_t)n, &metrics);
		ck_assert_int_le(metric_get(&metrics, METRIC_ADDRESSES), 64);
	}
	for (uint32_t n = 10; n < 65; n++) {
		k = numbered(n);
		addresses_leave(a, &k, UINT64_C(100000000), &metrics);
	}
	ck_assert_int_eq(metric_get(&metrics, METRIC_ADDRESSES), 0);
	addresses_free(a);
}
END_TEST

#define THREADS 4
#define ROUNDS  20000

static struct addresses *shared;
static _Atomic int inside;
static struct metrics per_thread[THREADS];

static void *
hammer(void *arg)
{
	struct metrics *m = arg;
	struct address_key same = key("192.0.2.1:1");

	for (uint32_t i = 0; i < ROUNDS; i++) {
		struct address_key own = numbered(i * THREADS + (uint32_t)(m - per_thread));

		if (addresses_enter(shared, &same, 2, 0, 1000, m) == ADDRESSES_COUNTED) {
			if (atomic_fetch_add(&inside, 1) >= 2)
				abort(); /* more at once than there may be */
			atomic_fetch_sub(&inside, 1);
			addresses_leave(shared, &same, 1000, m);
		}
		if (addresses_enter(shared, &own, 1, 0, 1000, m) == ADDRESSES_COUNTED)
			addresses_leave(shared, &own, 1000, m);
	}
	return NULL;
}

START_TEST(workers_count_together)
{
	pthread_t threads[THREADS];
	int64_t left = 0;

	shared = make(64);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, &per_thread[i]), 0);
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < THREADS; i++)
		left += metric_get(&per_thread[i], METRIC_ADDRESSES);
	ck_assert_int_eq(left, 0);
	addresses_free(shared);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("addresses");
	TCase *tc = tcase_create("addresses");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, an_address_is_ipv4_or_a_64);
	tcase_add_test(
	    tc, an_address_has_so_many_connections_and_a_place_that_is_free_again_is_taken);
	tcase_add_test(tc, an_address_connects_at_a_rate_with_one_second_in_a_burst);
	tcase_add_test(tc, leaving_does_not_refill_the_bucket);
	tcase_add_test(tc, a_full_table_forgets_idle_addresses_and_refuses_nobody);
	tcase_add_test(tc, workers_count_together);
	suite_add_tcase(s, tc);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
