/* SPDX-License-Identifier: Apache-2.0 */
/* What is pure in core/overload.c: levels, and the shares that follow from them. */
#include "core/overload.h"

#include <check.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)
#define KIB (UINT64_C(1) << 10)

/* ---- levels ----------------------------------------------------------------------------------- */

static const struct {
	enum overload_level was;
	int64_t used; /* of 1000 */
	enum overload_level is;
} level_cases[] = {
	{ OVERLOAD_NONE, 0, OVERLOAD_NONE }, { OVERLOAD_NONE, 849, OVERLOAD_NONE },
	{ OVERLOAD_NONE, 850, OVERLOAD_PRESSED }, { OVERLOAD_NONE, 999, OVERLOAD_PRESSED },
	{ OVERLOAD_NONE, 1000, OVERLOAD_FULL }, /* at once */
	{ OVERLOAD_PRESSED, 849, OVERLOAD_PRESSED }, { OVERLOAD_PRESSED, 800, OVERLOAD_PRESSED },
	{ OVERLOAD_PRESSED, 799, OVERLOAD_NONE }, { OVERLOAD_PRESSED, 999, OVERLOAD_PRESSED },
	{ OVERLOAD_PRESSED, 1000, OVERLOAD_FULL }, { OVERLOAD_FULL, 5000, OVERLOAD_FULL },
	{ OVERLOAD_FULL, 950, OVERLOAD_FULL }, { OVERLOAD_FULL, 949, OVERLOAD_PRESSED },
	{ OVERLOAD_FULL, 800, OVERLOAD_PRESSED },
	{ OVERLOAD_FULL, 799, OVERLOAD_NONE }, /* at once, too */
	{ OVERLOAD_FULL, -1, OVERLOAD_NONE },  /* not known: nobody is to suffer from it */
};

START_TEST(the_level_follows_what_is_in_use_with_hysteresis)
{
	enum overload_level is = overload_next(level_cases[_i].was, level_cases[_i].used, 1000);

	ck_assert_msg(is == level_cases[_i].is, "row %d: %d", _i, is);
}
END_TEST

START_TEST(a_figure_that_swings_around_a_border_changes_the_level_once)
{
	enum overload_level level = OVERLOAD_NONE;
	unsigned changes = 0;

	for (int i = 0; i < 100; i++) {
		enum overload_level next = overload_next(level, i % 2 == 0 ? 860 : 840, 1000);

		changes += next != level;
		level = next;
	}
	ck_assert_uint_eq(changes, 1);
	ck_assert_int_eq(level, OVERLOAD_PRESSED);
}
END_TEST

START_TEST(large_limits_do_not_overflow)
{
	uint64_t limit = UINT64_C(1024) << 40;

	ck_assert_int_eq(overload_next(OVERLOAD_NONE, INT64_MAX, limit), OVERLOAD_FULL);
	ck_assert_int_eq(overload_next(OVERLOAD_NONE, 1 << 30, limit), OVERLOAD_NONE);
	ck_assert_uint_eq(
	    overload_allowance(OVERLOAD_ALL, UINT64_C(1) << 50, 2, true), OVERLOAD_ALL / 4 * 3);
}
END_TEST

START_TEST(it_is_looked_at_more_often_when_there_is_little_left_or_it_grows)
{
	ck_assert_uint_eq(overload_wait_ms(100, 100, 1000), OVERLOAD_LOOK_MS);
	ck_assert_uint_eq(overload_wait_ms(749, 749, 1000), OVERLOAD_LOOK_MS);
	ck_assert_uint_eq(overload_wait_ms(750, 750, 1000), OVERLOAD_NEAR_MS);
	ck_assert_uint_eq(overload_wait_ms(100, 60, 1000), OVERLOAD_NEAR_MS);
	ck_assert_uint_eq(overload_wait_ms(100, 90, 1000), OVERLOAD_LOOK_MS);
	ck_assert_uint_eq(overload_wait_ms(100, 700, 1000), OVERLOAD_LOOK_MS);
	ck_assert_uint_eq(overload_wait_ms(100, INT64_MAX, 1000), OVERLOAD_LOOK_MS); /* the first */
	ck_assert_uint_eq(overload_wait_ms(-1, -1, 1000), OVERLOAD_LOOK_MS);
}
END_TEST

/* ---- output ----------------------------------------------------------------------------------- */

START_TEST(output_has_a_quarter_and_less_when_memory_is_short)
{
	ck_assert_uint_eq(overload_output_share(OVERLOAD_NONE, 1024 * MIB, 4), 64 * MIB);
	ck_assert_uint_eq(overload_output_share(OVERLOAD_PRESSED, 1024 * MIB, 4), 16 * MIB);
	ck_assert_uint_eq(overload_output_share(OVERLOAD_FULL, 1024 * MIB, 4), 0);
	ck_assert_uint_eq(overload_output_max(64 * MIB, 0), 16 * MIB);
	ck_assert_uint_eq(overload_output_max(64 * MIB, 60 * MIB), MIB);
	ck_assert_uint_eq(overload_output_max(64 * MIB, 64 * MIB), OVERLOAD_OUTPUT);
	ck_assert_uint_eq(overload_output_max(64 * MIB, 900 * MIB), OVERLOAD_OUTPUT);
	ck_assert_uint_eq(overload_output_max(0, 0), OVERLOAD_OUTPUT);
	ck_assert_uint_eq(overload_output_max(64 * MIB, -5), 16 * MIB);
}
END_TEST

/* Readers that never read, filled in turn as far as each may be, in pieces. */
START_TEST(readers_that_never_read_share_what_there_is)
{
	enum { READERS = 500, PIECE = 32 * 1024 };
	uint64_t waiting[READERS] = { 0 }, total = 0, share = 64 * MIB;
	bool more = true;

	while (more) {
		more = false;
		for (unsigned i = 0; i < READERS; i++) {
			if (waiting[i] >= overload_output_max(share, (int64_t)total))
				continue;
			waiting[i] += PIECE;
			total += PIECE;
			more = true;
		}
	}
	ck_assert_uint_le(total, share + READERS * (OVERLOAD_OUTPUT + PIECE));
	for (unsigned i = 0; i < READERS; i++) {
		ck_assert_uint_ge(waiting[i], OVERLOAD_OUTPUT);
		ck_assert_uint_le(waiting[i], waiting[0] + PIECE); /* nobody has more than others */
	}
}
END_TEST

/* ---- publishers --------------------------------------------------------------------------------- */

START_TEST(the_heaviest_get_the_average_and_the_light_do_not_notice)
{
	/* one sends 10 MiB, ninety-nine 10 KiB */
	uint64_t total = 10 * MIB + 99 * 10 * KIB;
	uint32_t allowance = overload_allowance(OVERLOAD_ALL, total, 100, true);

	ck_assert_uint_gt(allowance, 10 * KIB);
	ck_assert_uint_lt(allowance, 115 * KIB);
	/* it goes on: the heavy one has sent what it was allowed to */
	for (int i = 0; i < 20; i++)
		allowance = overload_allowance(allowance, allowance + 99 * 10 * KIB, 100, true);
	ck_assert_uint_eq(allowance, OVERLOAD_LEAST);
}
END_TEST

START_TEST(equals_are_slowed_down_together)
{
	uint32_t allowance = OVERLOAD_FIRST, before;

	for (int i = 0; i < 5; i++) {
		before = allowance;
		allowance = overload_allowance(allowance, (uint64_t)allowance * 50, 50, true);
		ck_assert_uint_lt(allowance, before);
	}
}
END_TEST

START_TEST(when_memory_grows_no_more_they_are_slowly_let_again)
{
	uint32_t allowance = OVERLOAD_LEAST, before;

	for (int i = 0; i < 100; i++) {
		before = allowance;
		allowance = overload_allowance(before, 100, 10, false);
		ck_assert(allowance > before || allowance == OVERLOAD_ALL - 1);
	}
	ck_assert_uint_eq(allowance, OVERLOAD_ALL - 1);
	ck_assert_uint_lt(overload_allowance(allowance, 10 * MIB, 10, true), MIB);
}
END_TEST

START_TEST(a_publisher_that_is_alone_is_the_heaviest)
{
	ck_assert_uint_eq(
	    overload_allowance(OVERLOAD_FIRST, OVERLOAD_FIRST, 1, true), OVERLOAD_FIRST / 4 * 3);
}
END_TEST

START_TEST(an_allowance_never_grows_and_never_ends)
{
	ck_assert_uint_eq(overload_allowance(OVERLOAD_LEAST, 1000 * MIB, 2, true), OVERLOAD_LEAST);
	ck_assert_uint_eq(overload_allowance(100 * 1024, 1000 * MIB, 2, true), 75 * 1024);
	ck_assert_uint_eq(overload_allowance(100 * 1024, 0, 0, true), 75 * 1024);
	ck_assert_uint_eq(overload_allowance(100 * 1024, 10, 10, true), OVERLOAD_LEAST);
	ck_assert_uint_eq(overload_allowance(0, 0, 0, true), OVERLOAD_LEAST); /* back from "full" */
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("overload");
	TCase *tc = tcase_create("overload");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, the_level_follows_what_is_in_use_with_hysteresis, 0,
	    (int)(sizeof(level_cases) / sizeof(level_cases[0])));
	tcase_add_test(tc, a_figure_that_swings_around_a_border_changes_the_level_once);
	tcase_add_test(tc, large_limits_do_not_overflow);
	tcase_add_test(tc, it_is_looked_at_more_often_when_there_is_little_left_or_it_grows);
	tcase_add_test(tc, output_has_a_quarter_and_less_when_memory_is_short);
	tcase_add_test(tc, readers_that_never_read_share_what_there_is);
	tcase_add_test(tc, the_heaviest_get_the_average_and_the_light_do_not_notice);
	tcase_add_test(tc, equals_are_slowed_down_together);
	tcase_add_test(tc, when_memory_grows_no_more_they_are_slowly_let_again);
	tcase_add_test(tc, a_publisher_that_is_alone_is_the_heaviest);
	tcase_add_test(tc, an_allowance_never_grows_and_never_ends);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
