/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <check.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS 20000

static const uint32_t sizes[] = { 16, 40, 64, 1024 };
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

static struct arena *arena;

static void
setup(void)
{
	ck_assert_ptr_nonnull(arena = arena_new(sizes, SIZES));
}

static void
teardown(void)
{
	arena_free(arena);
}

static uint32_t
random_below(uint32_t n)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 20) % n;
}

/* libcheck writes a record per ck_assert: what runs very often uses this. */
#define REQUIRE(condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			ck_abort_msg("not: %s", #condition); \
	} while (0)

struct object {
	unsigned char *p;
	unsigned cls;
	unsigned char fill;
};

static void
check_object(const struct object *o)
{
	for (uint32_t i = 0; i < sizes[o->cls]; i++)
		REQUIRE(o->p[i] == o->fill);
}

START_TEST(objects_keep_their_bytes_while_others_come_and_go)
{
	static struct object objects[OBJECTS];

	memset(objects, 0, sizeof(objects));
	for (unsigned step = 0; step < 200000; step++) {
		struct object *o = &objects[random_below(OBJECTS)];

		if (o->p != NULL) {
			check_object(o);
			arena_give(arena, o->p);
			o->p = NULL;
			continue;
		}
		o->cls = random_below(SIZES);
		o->fill = (unsigned char)step;
		REQUIRE((o->p = arena_take(arena, o->cls)) != NULL);
		REQUIRE(arena_number(o->p) != 0 && arena_number(o->p) >> 31 == 0);
		REQUIRE(arena_at(arena, arena_number(o->p)) == o->p);
		REQUIRE(sizes[o->cls] % 64 != 0 || (uintptr_t)o->p % 64 == 0);
		memset(o->p, o->fill, sizes[o->cls]);
	}
	for (unsigned i = 0; i < OBJECTS; i++) {
		if (objects[i].p != NULL) {
			check_object(&objects[i]);
			arena_give(arena, objects[i].p);
		}
	}
}
END_TEST

START_TEST(pages_that_are_empty_go_back_to_the_system)
{
	static void *objects[OBJECTS];
	uint64_t most;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < OBJECTS; i++)
			REQUIRE((objects[i] = arena_take(arena, 1)) != NULL);
		most = arena_bytes(arena);
		ck_assert_uint_ge(most, OBJECTS * 40);
		ck_assert_uint_le(most, OBJECTS * 41 + 8192);
		for (unsigned i = 0; i < OBJECTS; i++)
			arena_give(arena, objects[(i * 7919u) % OBJECTS]);
		ck_assert_uint_le(arena_bytes(arena), 20 * 4096);
	}
}
END_TEST

START_TEST(the_first_8_bytes_of_what_was_given_back_are_left_alone_or_zero)
{
	static uint64_t *objects[OBJECTS];

	for (unsigned i = 0; i < OBJECTS; i++) {
		REQUIRE((objects[i] = arena_take(arena, i % 2)) != NULL);
		*objects[i] = 1 + i;
	}
	for (unsigned i = 0; i < OBJECTS; i++)
		arena_give(arena, objects[i]);
	for (unsigned i = 0; i < OBJECTS; i++)
		REQUIRE(*objects[i] == 1 + i || *objects[i] == 0);
}
END_TEST

START_TEST(a_arena_with_objects_in_it_can_be_freed)
{
	for (unsigned i = 0; i < OBJECTS; i++)
		REQUIRE(arena_take(arena, 3) != NULL);
	arena_free(NULL);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("arena");
	TCase *tc = tcase_create("arena");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, objects_keep_their_bytes_while_others_come_and_go);
	tcase_add_test(tc, pages_that_are_empty_go_back_to_the_system);
	tcase_add_test(tc, the_first_8_bytes_of_what_was_given_back_are_left_alone_or_zero);
	tcase_add_test(tc, a_arena_with_objects_in_it_can_be_freed);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
