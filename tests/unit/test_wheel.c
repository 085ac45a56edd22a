/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wheel.h"
#include <check.h>
#include <stdlib.h>

#define NOBODY 1000u

struct item {
	struct timer timer;
	uint64_t due_ms; /* what the model says; UINT64_MAX: not armed */
	unsigned fired;
	uint64_t fired_at;
};

static uint64_t clock_now;
static struct wheel *wheel;

static void
on_fire(struct timer *t, void *owner)
{
	struct item *it = (struct item *)(void *)t;

	if (owner != &clock_now)
		ck_abort_msg("another owner");
	if (it->due_ms > clock_now) /* asserts that hold are not free, and this runs often */
		ck_abort_msg(
		    "early: due %ju, now %ju", (uintmax_t)it->due_ms, (uintmax_t)clock_now);
	if (timer_armed(t))
		ck_abort_msg("armed while it fires");
	it->fired++;
	it->fired_at = clock_now;
	it->due_ms = UINT64_MAX;
}

static void
arm(struct item *it, uint64_t due_ms)
{
	it->due_ms = due_ms;
	timer_arm(wheel, &it->timer, due_ms);
	ck_assert(timer_armed(&it->timer));
}

static unsigned
advance(uint64_t now_ms, unsigned budget)
{
	clock_now = now_ms;
	return wheel_advance(wheel, now_ms, budget, &clock_now);
}

static uint64_t random_state = 88172645463325252u;
static uint64_t
random_below(uint64_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % n;
}

static void
setup(void)
{
	clock_now = 123456789;
	ck_assert_int_eq(wheel_new(&wheel, clock_now), 0);
}

static void
teardown(void)
{
	wheel_free(wheel);
}

START_TEST(a_timer_fires_once_and_never_early)
{
	struct item it = { 0 };

	timer_init(&it.timer, on_fire);
	arm(&it, clock_now + 25);
	ck_assert_uint_eq(advance(clock_now + 24, NOBODY), 0);
	ck_assert_uint_eq(advance(it.due_ms + 10, NOBODY), 1);
	ck_assert_uint_eq(it.fired, 1);
	ck_assert_uint_eq(advance(clock_now + 100000, NOBODY), 0);
	ck_assert_uint_eq(it.fired, 1);
	ck_assert(wheel_next_ms(wheel) == UINT64_MAX);
}
END_TEST

START_TEST(the_past_fires_at_the_next_advance)
{
	struct item it = { 0 };

	timer_init(&it.timer, on_fire);
	arm(&it, 0);
	ck_assert_uint_le(wheel_next_ms(wheel), clock_now);
	ck_assert_uint_eq(advance(clock_now, NOBODY), 1);
}
END_TEST

START_TEST(a_disarmed_timer_does_not_fire)
{
	struct item a = { 0 }, b = { 0 };

	timer_init(&a.timer, on_fire);
	timer_init(&b.timer, on_fire);
	timer_disarm(wheel, &a.timer); /* was never armed: nothing happens */
	arm(&a, clock_now + 500);
	arm(&b, clock_now + 500);
	timer_disarm(wheel, &a.timer);
	ck_assert(!timer_armed(&a.timer));
	ck_assert_uint_eq(advance(clock_now + 1000, NOBODY), 1);
	ck_assert_uint_eq(a.fired, 0);
	ck_assert_uint_eq(b.fired, 1);
}
END_TEST

START_TEST(the_last_timer_of_a_slot_takes_its_mark_along)
{
	static const uint64_t delays[] = { 15, 700, 50000, 3000000, 400000000, 90000000000,
		7000000000000 };
	struct item it = { 0 };

	timer_init(&it.timer, on_fire);
	for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
		arm(&it, clock_now + delays[i]);
		ck_assert(wheel_next_ms(wheel) != UINT64_MAX);
		timer_disarm(wheel, &it.timer);
		ck_assert(wheel_next_ms(wheel) == UINT64_MAX);
	}
}
END_TEST

START_TEST(arming_again_moves_a_timer)
{
	struct item it = { 0 };

	timer_init(&it.timer, on_fire);
	arm(&it, clock_now + 100);
	arm(&it, clock_now + 90000);
	ck_assert_uint_eq(advance(clock_now + 80000, NOBODY), 0);
	ck_assert_uint_eq(advance(clock_now + 20000, NOBODY), 1);
}
END_TEST

/* Follow wheel_next_ms only, as the loop does: how late is a timer at any distance? */
START_TEST(a_timer_at_any_distance_is_late_by_a_tick_at_most)
{
	static const uint64_t delays[] = { 1, 9, 10, 639, 640, 641, 40960, 2621440, 3600000,
		86400000, 14 * UINT64_C(86400000), UINT64_C(4294967295) * 1000, UINT64_C(1) << 53 };
	struct item it = { 0 };
	uint64_t due = clock_now + delays[_i];

	timer_init(&it.timer, on_fire);
	arm(&it, due);
	for (unsigned turns = 0; it.fired == 0; turns++) {
		uint64_t next = wheel_next_ms(wheel);

		ck_assert_uint_lt(turns, 20); /* one per level, not one per tick */
		ck_assert_uint_le(next, due + 10);
		(void)advance(next > clock_now ? next : clock_now, NOBODY);
	}
	ck_assert_uint_lt(it.fired_at, due + 10);
}
END_TEST

START_TEST(the_end_of_time_can_be_armed)
{
	struct item it = { 0 };

	timer_init(&it.timer, on_fire);
	arm(&it, UINT64_MAX);
	ck_assert_uint_eq(advance(clock_now + UINT64_C(1000000000000000), NOBODY), 0);
	ck_assert(timer_armed(&it.timer));
	timer_disarm(wheel, &it.timer);
}
END_TEST

START_TEST(no_more_fire_than_the_budget_and_the_rest_follows)
{
	enum { N = 1000 };
	struct item *items = calloc(N, sizeof(*items));
	uint64_t due = clock_now + 5000;

	for (unsigned i = 0; i < N; i++) {
		timer_init(&items[i].timer, on_fire);
		arm(&items[i], due);
	}
	ck_assert_uint_eq(advance(due + 10, 300), 300);
	ck_assert_uint_le(wheel_next_ms(wheel), clock_now);
	ck_assert_uint_eq(advance(due + 10, 300), 300);
	ck_assert_uint_eq(advance(due + 20, 300), 300);
	ck_assert_uint_eq(advance(due + 20, 300), 100);
	for (unsigned i = 0; i < N; i++)
		ck_assert_uint_eq(items[i].fired, 1);
	free(items);
}
END_TEST

START_TEST(a_crowd_on_its_way_down_a_level_is_moved_in_portions)
{
	enum { N = 5000, BUDGET = 10 };
	struct item *items = calloc(N, sizeof(*items));
	unsigned fired = 0, calls = 0;

	for (unsigned i = 0; i < N;
	     i++) { /* far enough to share a slot of a high level, each with its own tick */
		timer_init(&items[i].timer, on_fire);
		arm(&items[i], clock_now + 7200000 + i);
	}
	timer_disarm(wheel, &items[17].timer);
	while (fired < N - 1) {
		uint64_t next = wheel_next_ms(wheel);
		unsigned n = advance(next > clock_now ? next : clock_now, BUDGET);

		ck_assert_uint_le(n, BUDGET);
		fired += n;
		ck_assert_uint_lt(++calls, 10 * N);
		if (calls == 3) /* between two portions: taken out of the middle of them */
			for (unsigned i = 100; i < 200; i++)
				arm(&items[i], clock_now + 7300000);
	}
	ck_assert_uint_gt(calls, N / BUDGET);
	for (unsigned i = 0; i < N; i++)
		ck_assert_uint_eq(items[i].fired, i != 17);
	free(items);
}
END_TEST

static struct item *victim, *moved;
static void
on_fire_others(struct timer *t, void *owner)
{
	on_fire(t, owner);
	if (victim != NULL) {
		timer_disarm(wheel, &victim->timer);
		free(victim);
		victim = NULL;
	}
	if (moved != NULL)
		arm(moved, clock_now + 1000);
	free(t);
}

START_TEST(a_callback_may_free_itself_and_others_and_move_more)
{
	struct item *self = calloc(1, sizeof(*self)), later = { 0 };
	uint64_t due = clock_now + 300;

	victim = calloc(1, sizeof(*victim));
	moved = &later;
	timer_init(&victim->timer, on_fire);
	timer_init(&later.timer, on_fire);
	timer_init(&self->timer, on_fire_others);
	/* Of one slot the newest fires first; the test holds for any order but this one shows most. */
	arm(&later, due);
	arm(victim, due);
	arm(self, due);
	ck_assert_uint_eq(advance(due + 10, NOBODY), 1);
	ck_assert_uint_eq(later.fired, 0);
	ck_assert_uint_eq(advance(due + 1100, NOBODY), 1);
}
END_TEST

static unsigned storm;
static void
on_fire_again_at_once(struct timer *t, void *owner)
{
	(void)owner;
	storm++;
	timer_arm(wheel, t, 0);
}

START_TEST(a_timer_that_arms_itself_for_now_fires_once_per_advance)
{
	struct timer t;

	storm = 0;
	timer_init(&t, on_fire_again_at_once);
	timer_arm(wheel, &t, 0);
	for (unsigned i = 1; i <= 5; i++) {
		ck_assert_uint_eq(advance(clock_now + i * 7, NOBODY), 1);
		ck_assert_uint_eq(storm, i);
	}
	timer_disarm(wheel, &t);
}
END_TEST

START_TEST(random_use_agrees_with_a_model)
{
	enum { N = 300, STEPS = 30000 };
	struct item *items = calloc(N, sizeof(*items));

	random_state += (uint64_t)_i * 7919;
	for (unsigned i = 0; i < N; i++) {
		timer_init(&items[i].timer, on_fire);
		items[i].due_ms = UINT64_MAX;
	}
	for (unsigned step = 0; step < STEPS; step++) {
		struct item *it = &items[random_below(N)];
		uint64_t next, earliest = UINT64_MAX;

		switch (random_below(8)) {
		case 0:
			timer_disarm(wheel, &it->timer);
			it->due_ms = UINT64_MAX;
			break;
		case 1:
		case 2: /* any distance, each order of magnitude alike */
			arm(it, clock_now + random_below(UINT64_C(1) << random_below(40)));
			break;
		case 3:
			arm(it, clock_now - random_below(1000));
			break;
		default:
			(void)advance(clock_now +
				random_below(UINT64_C(1) << random_below(_i == 0 ? 12 : 24)),
			    random_below(5) == 0 ? 1 : NOBODY);
			if (random_below(3) == 0) {
				while (advance(clock_now, NOBODY) > 0)
					continue;
				for (unsigned i = 0; i < N; i++)
					if (items[i].due_ms <= clock_now - clock_now % 10)
						ck_abort_msg(
						    "step %u: timer %u is late by a whole tick",
						    step, i);
			}
			break;
		}
		for (unsigned i = 0; i < N; i++) {
			if (timer_armed(&items[i].timer) != (items[i].due_ms != UINT64_MAX))
				ck_abort_msg("step %u: timer %u differs from the model", step, i);
			if (items[i].due_ms < earliest)
				earliest = items[i].due_ms;
		}
		next = wheel_next_ms(wheel);
		if (earliest == UINT64_MAX)
			ck_assert(next == UINT64_MAX);
		else if (earliest > clock_now)
			ck_assert_uint_lt(next, earliest + 10);
		else
			ck_assert_uint_lt(next, clock_now + 10);
	}
	free(items);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("wheel");
	TCase *tc = tcase_create("wheel");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_timer_fires_once_and_never_early);
	tcase_add_test(tc, the_past_fires_at_the_next_advance);
	tcase_add_test(tc, a_disarmed_timer_does_not_fire);
	tcase_add_test(tc, the_last_timer_of_a_slot_takes_its_mark_along);
	tcase_add_test(tc, arming_again_moves_a_timer);
	tcase_add_loop_test(tc, a_timer_at_any_distance_is_late_by_a_tick_at_most, 0, 13);
	tcase_add_test(tc, the_end_of_time_can_be_armed);
	tcase_add_test(tc, no_more_fire_than_the_budget_and_the_rest_follows);
	tcase_add_test(tc, a_crowd_on_its_way_down_a_level_is_moved_in_portions);
	tcase_add_test(tc, a_callback_may_free_itself_and_others_and_move_more);
	tcase_add_test(tc, a_timer_that_arms_itself_for_now_fires_once_per_advance);
	tcase_add_loop_test(tc, random_use_agrees_with_a_model, 0, 2);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
