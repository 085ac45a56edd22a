/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory.h"

#include <check.h>
#include <stdlib.h>

#define MIB   (INT64_C(1) << 20)
#define QUIET (INT64_C(1000) * MEMORY_WATCH_MS / 100) /* a hundredth of a processor */
#define BUSY  (INT64_C(1000) * MEMORY_WATCH_MS / 2)

static struct memory_watch watch;
static int64_t cpu;
static uint64_t now;

static void
setup(void)
{
	watch = (struct memory_watch){ 0 };
	cpu = 0;
	now = 1000;
}

/* The next look. */
static bool
look(int64_t private_mib, int64_t used_mib, int64_t took)
{
	cpu += took;
	now += MEMORY_WATCH_MS;
	return memory_watch_due(&watch, private_mib * MIB, used_mib * MIB, cpu, now);
}

START_TEST(what_is_in_use_stays)
{
	ck_assert(!look(1, 0, QUIET));
	ck_assert(!look(20, 19, QUIET));
	ck_assert(!look(40, 38, QUIET));
	ck_assert(!look(40, 60, QUIET)); /* counted too high */
}
END_TEST

START_TEST(what_a_storm_has_left_is_given_back_once)
{
	ck_assert(!look(1, 0, QUIET));
	ck_assert(!look(20, 19, QUIET));
	ck_assert(look(20, 0, QUIET));
	ck_assert(!look(3, 0, QUIET));
	ck_assert(!look(3, 0, QUIET));
}
END_TEST

START_TEST(a_storm_between_two_looks_is_noticed)
{
	ck_assert(!look(1, 0, QUIET));
	ck_assert(look(20, 0, QUIET));
}
END_TEST

START_TEST(what_was_there_when_the_watch_began_counts_when_it_goes)
{
	ck_assert(!look(40, 38, QUIET));
	ck_assert(!look(41, 38, QUIET));
	ck_assert(look(41, 0, QUIET));
}
END_TEST

START_TEST(a_busy_broker_is_left_alone)
{
	ck_assert(!look(1, 0, QUIET));
	for (int i = 0; i < 20; i++)
		ck_assert(!look(20, 0, BUSY));
	ck_assert(look(20, 0, QUIET));
}
END_TEST

START_TEST(little_is_not_worth_it)
{
	ck_assert(!look(4, 0, QUIET));
	ck_assert(!memory_watch_due(&watch, 5 * MIB - 1, 0, cpu, now));
	ck_assert(!look(400, 396, QUIET));
	ck_assert(!look(400, 310, QUIET)); /* less than a quarter */
	ck_assert(look(400, 290, QUIET));
}
END_TEST

START_TEST(there_is_a_pause_between_two_times)
{
	uint64_t first;

	ck_assert(!look(1, 0, QUIET));
	ck_assert(look(20, 0, QUIET));
	first = now;
	ck_assert(!look(2, 0, QUIET));
	while (!look(20, 0, QUIET))
		ck_assert_uint_lt(now - first, MEMORY_PAUSE_MS);
	ck_assert_uint_ge(now - first, MEMORY_PAUSE_MS);
}
END_TEST

START_TEST(near_the_limit_it_is_given_back_even_when_busy)
{
	uint64_t limit = 320 * MIB;

	ck_assert(!memory_pressed_due(&watch, 300 * MIB, 0, limit, now)); /* not begun */
	ck_assert(!look(200, 190, BUSY));
	ck_assert(!memory_pressed_due(&watch, 300 * MIB, 290 * MIB, limit, now));
	ck_assert(!memory_pressed_due(&watch, 300 * MIB, 281 * MIB, limit, now)); /* 9 MiB */
	ck_assert(memory_pressed_due(&watch, 300 * MIB, 280 * MIB, limit, now));
	ck_assert(!look(295, 280, BUSY)); /* from here on anew: that is what it has */
	ck_assert(!memory_pressed_due(&watch, 295 * MIB, 280 * MIB, limit, now));
	ck_assert(memory_pressed_due(&watch, 295 * MIB, 200 * MIB, limit, now));
	ck_assert(!look(200, 190, BUSY));
	ck_assert(!memory_pressed_due(
	    &watch, 295 * MIB, 200 * MIB, limit, now - MEMORY_WATCH_MS + 1)); /* too soon */
	ck_assert(memory_pressed_due(
	    &watch, 295 * MIB, 200 * MIB, limit, now - MEMORY_WATCH_MS + MEMORY_PRESSED_MS));
}
END_TEST

START_TEST(the_kernel_tells_how_much_is_resident)
{
	struct memory_usage before, after;
	char *block = malloc(8 * MIB);

	ck_assert_ptr_nonnull(block);
	memory_usage(&before);
	for (int64_t i = 0; i < 8 * MIB; i += 1024)
		((volatile char *)block)[i] = 1;
	memory_usage(&after);
	ck_assert_int_gt(before.private_bytes, 0);
	ck_assert_int_gt(before.resident_bytes, before.private_bytes);
	ck_assert_int_ge(before.virtual_bytes, before.resident_bytes);
	ck_assert_int_gt(after.private_bytes, before.private_bytes + 6 * MIB);
	free(block);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("memory");
	TCase *tc = tcase_create("memory");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, what_is_in_use_stays);
	tcase_add_test(tc, what_a_storm_has_left_is_given_back_once);
	tcase_add_test(tc, a_storm_between_two_looks_is_noticed);
	tcase_add_test(tc, what_was_there_when_the_watch_began_counts_when_it_goes);
	tcase_add_test(tc, a_busy_broker_is_left_alone);
	tcase_add_test(tc, little_is_not_worth_it);
	tcase_add_test(tc, there_is_a_pause_between_two_times);
	tcase_add_test(tc, near_the_limit_it_is_given_back_even_when_busy);
	tcase_add_test(tc, the_kernel_tells_how_much_is_resident);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
