/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/cache.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t secret[CACHE_KEY_SIZE] = { 7 };
static struct question_pool pool;
static struct cache_hasher *hasher;
static struct cache *c;

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static struct question *
login(const char *user, const char *password, const char *client_id, const char *peer)
{
	struct grapnel_client_info info = { .size = sizeof(info),
		.username = str(user),
		.client_id = str(client_id),
		.peer = str(peer) };
	struct grapnel_authenticate q = {
		.size = sizeof(q), .client = &info, .password = str(password)
	};
	struct question *copy = question_new(&pool, HOOK_AUTHENTICATE, &q);

	ck_assert_ptr_nonnull(copy);
	return copy;
}

#define BY_PASSWORD (GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_PASSWORD)

static struct cache_key
key_of(struct question *q, uint64_t depends)
{
	struct cache_key key;

	ck_assert(cache_key_make(hasher, HOOK_AUTHENTICATE, depends, q, &key));
	return key;
}

static void
setup(void)
{
	struct cache_limits limits = { .on = true,
		.ttl_ms = 1000,
		.negative_ttl_ms = 100,
		.stale_ms = 500,
		.max_entries = 3 };

	hasher = cache_hasher_new(secret);
	c = cache_new();
	ck_assert_ptr_nonnull(hasher);
	ck_assert_ptr_nonnull(c);
	cache_limit(c, &limits);
}

static void
teardown(void)
{
	cache_free(c);
	cache_hasher_free(hasher);
	question_pool_clear(&pool);
}

static enum cache_found
find(const char *user, uint64_t now_ms, struct cached *out)
{
	struct question *q = login(user, "pw", "c", "192.0.2.1:1");
	struct cache_key key = key_of(q, BY_PASSWORD);
	enum cache_found found = cache_find(c, &key, now_ms, NULL, false, NULL, 0, out);

	question_unref(&pool, q);
	if (found == CACHE_ASK) /* whoever is told so says how it ended: it was given up */
		cache_land(c, &key, BY_PASSWORD, NULL, now_ms, GRAPNEL_PENDING, NULL);
	return found;
}

/* Ask, and let it end so. */
static void
keep(const char *user, uint64_t now_ms, enum grapnel_verdict verdict)
{
	struct question *q = login(user, "pw", "c", "192.0.2.1:1");
	struct cache_key key = key_of(q, BY_PASSWORD);
	struct cached out;

	ck_assert_int_eq(cache_find(c, &key, now_ms, NULL, false, NULL, 0, &out), CACHE_ASK);
	cache_land(c, &key, BY_PASSWORD, q, now_ms, verdict, NULL);
	question_unref(&pool, q);
}

static bool
same(struct question *a, struct question *b, uint64_t depends)
{
	struct cache_key x = key_of(a, depends), y = key_of(b, depends);
	bool equal = memcmp(x.bytes, y.bytes, sizeof(x.bytes)) == 0;

	question_unref(&pool, a);
	question_unref(&pool, b);
	return equal;
}

START_TEST(a_key_has_all_that_counts_and_nothing_else)
{
	static const char here[] = "192.0.2.1:1", there[] = "192.0.2.2:1", v6[] = "[2001:db8::1]:7";
	struct question *q = login("u", "p", "c", here);
	struct cache_key key;

	ck_assert(same(login("u", "p", "c", here), login("u", "p", "d", there), BY_PASSWORD));
	ck_assert(!same(login("u", "p", "c", here), login("u", "q", "c", here), BY_PASSWORD));
	ck_assert(!same(login("XX", "X", "c", here), login("X", "XX", "c", here), BY_PASSWORD));
	ck_assert(!same(login("", "ab", "c", here), login("ab", "", "c", here), BY_PASSWORD));
	ck_assert(!same(login("u", NULL, "c", here), login("u", "", "c", here), BY_PASSWORD));
	ck_assert(!same(login("u", "p", "c", here), login("u", "p", "d", here),
	    BY_PASSWORD | GRAPNEL_DEPENDS_CLIENT_ID));
	ck_assert(same(login("u", "p", "c", here), login("u", "p", "c", "192.0.2.1:99"),
	    GRAPNEL_DEPENDS_ADDRESS));
	ck_assert(!same(
	    login("u", "p", "c", here), login("u", "p", "c", there), GRAPNEL_DEPENDS_ADDRESS));
	ck_assert(same(login("u", "p", "c", v6), login("u", "p", "c", "[2001:db8::1]:8"),
	    GRAPNEL_DEPENDS_ADDRESS));
	ck_assert(!cache_key_make(hasher, HOOK_AUTHENTICATE, GRAPNEL_DEPENDS_ALL, q, &key));
	question_unref(&pool, q);
}
END_TEST

START_TEST(an_answer_is_fresh_then_stale_then_gone)
{
	struct question *q = login("u", "pw", "c", "192.0.2.1:1");
	struct cache_key key = key_of(q, BY_PASSWORD);
	struct cached out;

	question_unref(&pool, q);
	keep("u", 1000, GRAPNEL_ALLOW);
	ck_assert_int_eq(find("u", 1999, &out), CACHE_FRESH);
	ck_assert_int_eq(out.verdict, GRAPNEL_ALLOW);
	ck_assert_uint_eq(out.age_ms, 999);
	ck_assert_int_eq(find("u", 2000, &out), CACHE_ASK);
	ck_assert(cache_stale(c, &key, 2499, NULL, 0, &out));
	ck_assert(!cache_stale(c, &key, 2500, NULL, 0, &out));
}
END_TEST

START_TEST(a_refusal_ends_sooner_and_is_never_stale_and_trouble_is_not_kept)
{
	struct question *q = login("u", "pw", "c", "192.0.2.1:1");
	struct cache_key key = key_of(q, BY_PASSWORD);
	struct cached out;

	question_unref(&pool, q);
	keep("u", 1000, GRAPNEL_DENY);
	ck_assert_int_eq(find("u", 1099, &out), CACHE_FRESH);
	ck_assert_int_eq(out.verdict, GRAPNEL_DENY);
	ck_assert(!cache_stale(c, &key, 1100, NULL, 0, &out));
	keep("v", 1000, GRAPNEL_UNAVAILABLE);
	ck_assert_int_eq(find("v", 1000, &out), CACHE_ASK);
}
END_TEST

START_TEST(the_one_not_used_for_longest_goes)
{
	struct cache_counts n;
	struct cached out;

	keep("a", 1000, GRAPNEL_ALLOW);
	keep("b", 1000, GRAPNEL_ALLOW);
	keep("c", 1000, GRAPNEL_ALLOW);
	ck_assert_int_eq(find("a", 1000, &out), CACHE_FRESH);
	keep("d", 1000, GRAPNEL_ALLOW);
	cache_counts(c, &n);
	ck_assert_uint_eq(n.entries, 3);
	ck_assert_uint_eq(n.evicted, 1);
	ck_assert_int_eq(find("a", 1000, &out), CACHE_FRESH);
	ck_assert_int_eq(find("b", 1000, &out), CACHE_ASK);
}
END_TEST

START_TEST(a_purge_forgets_whom_it_names_and_what_is_under_way)
{
	struct question *q = login("w", "pw", "c", "192.0.2.1:1");
	struct cache_key key = key_of(q, BY_PASSWORD);
	struct cached out;

	keep("a", 1000, GRAPNEL_ALLOW);
	keep("b", 1000, GRAPNEL_ALLOW);
	ck_assert_int_eq(cache_find(c, &key, 1000, NULL, false, NULL, 0, &out), CACHE_ASK);
	ck_assert_uint_eq(cache_purge(c, str("a"), str(NULL)), 1);
	ck_assert_int_eq(find("b", 1000, &out), CACHE_FRESH);
	ck_assert_int_eq(find("a", 1000, &out), CACHE_ASK);
	cache_land(c, &key, BY_PASSWORD, q, 1000, GRAPNEL_ALLOW, NULL);
	ck_assert_int_eq(find("w", 1000, &out), CACHE_ASK);
	/* These answers are good for any client id, so each of them may be that one's. */
	ck_assert_uint_eq(cache_purge(c, str(NULL), str("other")), 1);
	question_unref(&pool, q);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("cache");
	TCase *t = tcase_create("cache");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_key_has_all_that_counts_and_nothing_else);
	tcase_add_test(t, an_answer_is_fresh_then_stale_then_gone);
	tcase_add_test(t, a_refusal_ends_sooner_and_is_never_stale_and_trouble_is_not_kept);
	tcase_add_test(t, the_one_not_used_for_longest_goes);
	tcase_add_test(t, a_purge_forgets_whom_it_names_and_what_is_under_way);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
