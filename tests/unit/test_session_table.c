/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_table.c with sessions that are nothing but found and forgotten: what ends them elsewhere is a double.
 */
#include "core/session.h"
#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY 5000u

static struct broker broker;
static struct worker w;
static uint64_t generations[MANY];
static unsigned visited;

uint64_t
broker_hash(const struct broker *b, struct grapnel_str s)
{
	uint64_t h = 0xcbf29ce484222325u;

	(void)b;
	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.data[i]) * 0x100000001b3u;
	return h;
}

void
session_free_all(struct session *s)
{
	struct identity *id = s->identity;

	session_table_remove(s);
	identity_unref(id);
}

static struct grapnel_str
name(unsigned i)
{
	static char text[32];
	int n = snprintf(text, sizeof(text), "client-%06u-abcdef", i); /* 20 bytes */

	return (struct grapnel_str){ text, (size_t)n };
}

static struct session *
add(const char *mountpoint, unsigned i)
{
	struct grapnel_client_info values = { .client_id = name(i),
		.peer = GRAPNEL_STR("127.0.0.1:12345") };
	struct site *site = session_site(
	    &w, (struct grapnel_str){ mountpoint, strlen(mountpoint) }, GRAPNEL_STR("mqtt"));
	struct session *s = session_table_add(&w, identity_new(&values, site));

	ck_assert_ptr_nonnull(s);
	return s;
}

static struct session *
find(const char *mountpoint, unsigned i)
{
	return session_find(&w, (struct grapnel_str){ mountpoint, strlen(mountpoint) }, name(i));
}

static void
setup(void)
{
	memset(&broker, 0, sizeof(broker));
	memset(&w, 0, sizeof(w));
	w.broker = &broker;
	ck_assert_int_eq(session_table_new(&w), GRAPNEL_OK);
	for (unsigned i = 0; i < MANY; i++)
		generations[i] = session_generation(add("", i));
}

static void
teardown(void)
{
	session_table_free(&w);
	ck_assert_ptr_null(w.sessions);
}

START_TEST(a_session_is_found_by_its_name_and_by_its_generation)
{
	for (unsigned i = 0; i < MANY; i++) {
		struct session *s = find("", i);

		ck_assert_ptr_nonnull(s);
		ck_assert_ptr_eq(session_by_generation(&w, generations[i]), s);
		ck_assert_uint_eq((uintptr_t)s % 64, 0);
		if (i > 0) /* it grows with each new session */
			ck_assert_uint_gt(generations[i], generations[i - 1]);
	}
	ck_assert_ptr_null(find("", MANY));
	ck_assert_ptr_null(find("tenant/", 0));
	ck_assert_ptr_null(session_by_generation(&w, 0));
	ck_assert_ptr_null(session_by_generation(&w, generations[0] + (UINT64_C(1) << 40)));
	ck_assert_ptr_null(session_by_generation(&w, UINT64_MAX));
}
END_TEST

START_TEST(one_name_behind_two_mountpoints_is_two_sessions)
{
	struct session *a = find("", 7), *b = add("tenant/", 7);

	ck_assert_ptr_ne(a, b);
	ck_assert_ptr_eq(find("", 7), a);
	ck_assert_ptr_eq(find("tenant/", 7), b);
	session_free_all(a);
	ck_assert_ptr_null(find("", 7));
	ck_assert_ptr_eq(find("tenant/", 7), b);
}
END_TEST

START_TEST(what_has_gone_is_not_found_and_its_place_gets_another_generation)
{
	for (unsigned i = 0; i < MANY; i += 3)
		session_free_all(find("", i));
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert((find("", i) != NULL) == (i % 3 != 0));
		ck_assert((session_by_generation(&w, generations[i]) != NULL) == (i % 3 != 0));
	}
	for (unsigned i = 0; i < MANY; i += 3)
		ck_assert_uint_ne(session_generation(add("", i)), generations[i]);
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_ptr_nonnull(find("", i));
		if (i % 3 == 0)
			ck_assert_ptr_null(session_by_generation(&w, generations[i]));
	}
}
END_TEST

static void
count(struct session *s, void *arg)
{
	visited++;
	if (arg != NULL)
		session_free_all(s);
}

START_TEST(a_walk_sees_each_and_may_end_each)
{
	visited = 0;
	session_each(&w, count, NULL);
	ck_assert_uint_eq(visited, MANY);
	visited = 0;
	session_each(&w, count, &visited);
	ck_assert_uint_eq(visited, MANY);
	visited = 0;
	session_each(&w, count, NULL);
	ck_assert_uint_eq(visited, 0);
	add("", 1);
	ck_assert_ptr_nonnull(find("", 1));
}
END_TEST

START_TEST(the_table_lets_go_of_its_memory)
{
	size_t full = mallinfo2().uordblks, empty;

	for (unsigned i = 0; i < MANY; i++)
		session_free_all(find("", i));
	empty = mallinfo2().uordblks;
	/* All of it in use means: an allocator that does not count, as that of a sanitizer. */
	if (full > 0)
		ck_assert_uint_gt(full - empty, MANY * sizeof(struct session));
}
END_TEST

/* The budget: everything the session's side keeps of an idle Client that came anonymously. */
START_TEST(an_idle_client_costs_what_was_planned)
{
	size_t before, after;

	ck_assert_uint_le(sizeof(struct session), 128);
	ck_assert_uint_le(offsetof(struct session, rights_cache), 64); /* the first cache line */
	ck_assert_uint_le(offsetof(struct identity, bytes), 32);
	ck_assert_uint_le(sizeof(struct session_extra), 128);
	ck_assert_uint_le(sizeof(struct grapnel_client), 8);
	teardown();
	before = mallinfo2().uordblks;
	setup();
	after = mallinfo2().uordblks;
	if (before > 0) {
		ck_assert_uint_le((after - before) / MANY, 225);
		ck_assert_uint_ge((after - before) / MANY, 128);
	}
}
END_TEST

START_TEST(names_of_plugins_are_kept_once)
{
	uint16_t a = session_plugin_number(&w, "file"), b = session_plugin_number(&w, "jwt");

	ck_assert_uint_ne(a, 0);
	ck_assert_uint_ne(a, b);
	ck_assert_uint_eq(session_plugin_number(&w, "file"), a);
	ck_assert_str_eq(session_plugin_name(&w, b), "jwt");
	ck_assert_ptr_null(session_plugin_name(&w, 0));
}
END_TEST

START_TEST(sites_are_shared)
{
	struct site *a = session_site(&w, GRAPNEL_STR("t/"), GRAPNEL_STR("mqtt")), *b;

	ck_assert_ptr_eq(session_site(&w, GRAPNEL_STR("t/"), GRAPNEL_STR("mqtt")), a);
	site_ref(a);
	for (unsigned i = 0; i < 100; i++) { /* more than are remembered */
		char text[16];
		size_t len = (size_t)snprintf(text, sizeof(text), "t%u/", i);

		b = session_site(&w, (struct grapnel_str){ text, len }, GRAPNEL_STR("mqtt"));
		ck_assert_uint_eq(b->mountpoint.len, len);
		ck_assert_mem_eq(b->mountpoint.data, text, len);
	}
	ck_assert_uint_eq(a->mountpoint.len, 2);
	site_unref(a);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("session_table");
	TCase *tc = tcase_create("table");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_session_is_found_by_its_name_and_by_its_generation);
	tcase_add_test(tc, one_name_behind_two_mountpoints_is_two_sessions);
	tcase_add_test(tc, what_has_gone_is_not_found_and_its_place_gets_another_generation);
	tcase_add_test(tc, a_walk_sees_each_and_may_end_each);
	tcase_add_test(tc, the_table_lets_go_of_its_memory);
	tcase_add_test(tc, an_idle_client_costs_what_was_planned);
	tcase_add_test(tc, names_of_plugins_are_kept_once);
	tcase_add_test(tc, sites_are_shared);
	suite_add_tcase(suite, tc);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
