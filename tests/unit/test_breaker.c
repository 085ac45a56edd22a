/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/breaker.h"

#include <check.h>
#include <stdlib.h>

static struct breaker b;
static bool probe;

static void
setup(void)
{
	b = (struct breaker){ .failures_max = 3, .wait_first_ms = 100, .wait_max_ms = 300 };
}

static void
open_it(uint64_t now_ms)
{
	ck_assert_int_eq(breaker_ended(&b, false, false, now_ms), BREAKER_SAME);
	ck_assert_int_eq(breaker_ended(&b, false, false, now_ms), BREAKER_SAME);
	ck_assert_int_eq(breaker_ended(&b, false, false, now_ms), BREAKER_OPENED);
	ck_assert(breaker_open(&b));
}

START_TEST(only_failures_in_a_row_open_it)
{
	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(breaker_ended(&b, false, false, 1), BREAKER_SAME);
		ck_assert_int_eq(breaker_ended(&b, false, false, 1), BREAKER_SAME);
		ck_assert(!breaker_idle(&b));
		ck_assert_int_eq(breaker_ended(&b, true, false, 1), BREAKER_SAME);
		ck_assert(breaker_idle(&b));
		ck_assert(breaker_asks(&b, 1, &probe));
		ck_assert(!probe);
	}
	open_it(1000);
	ck_assert(!breaker_asks(&b, 1099, &probe));
}
END_TEST

START_TEST(one_question_at_a_time_finds_out)
{
	open_it(1000);
	ck_assert(breaker_asks(&b, 1100, &probe));
	ck_assert(probe);
	ck_assert(!breaker_asks(&b, 1100, &probe));
	/* Its end is lost: after another wait the next one finds out. */
	ck_assert(!breaker_asks(&b, 1199, &probe));
	ck_assert(breaker_asks(&b, 1200, &probe));
	ck_assert_int_eq(breaker_ended(&b, true, true, 1210), BREAKER_CLOSED);
	ck_assert(breaker_idle(&b));
	ck_assert(breaker_asks(&b, 1210, &probe));
}
END_TEST

START_TEST(the_wait_doubles_up_to_its_limit_by_questions_that_were_asked_since)
{
	static const uint64_t waits[] = { 100, 200, 300, 300 };
	uint64_t now_ms = 1000;

	open_it(now_ms);
	for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++) {
		ck_assert_int_eq(
		    breaker_ended(&b, false, false, now_ms), BREAKER_SAME); /* from before */
		ck_assert(!breaker_asks(&b, now_ms + waits[i] - 1, &probe));
		now_ms += waits[i];
		ck_assert(breaker_asks(&b, now_ms, &probe));
		ck_assert_int_eq(breaker_ended(&b, false, probe, now_ms), BREAKER_SAME);
	}
}
END_TEST

START_TEST(it_can_be_off)
{
	b.failures_max = 0;
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(breaker_ended(&b, false, false, 1), BREAKER_SAME);
	ck_assert(!breaker_open(&b));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("breaker");
	TCase *t = tcase_create("breaker");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, only_failures_in_a_row_open_it);
	tcase_add_test(t, one_question_at_a_time_finds_out);
	tcase_add_test(t, the_wait_doubles_up_to_its_limit_by_questions_that_were_asked_since);
	tcase_add_test(t, it_can_be_off);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
