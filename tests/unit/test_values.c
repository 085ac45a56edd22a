/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/values.h"

#include "asked.h"
#include "plugin/instance.h"
#include "store/store.h"
#include "store_files.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct values *values;
static struct value_table *table;
static const struct value_limits plenty = { 1 << 30, 1 << 20 };

static void
setup(void)
{
	values = values_new(NULL);
	ck_assert_ptr_nonnull(values);
	table = values_of(values, "one");
	ck_assert_ptr_nonnull(table);
}

static void
teardown(void)
{
	values_free(values);
}

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, strlen(text) };
}

static int
set(const char *key, const char *value)
{
	return values_set(table, &plenty, str(key), str(value));
}

static const char *
get(struct value_table *t, const char *key)
{
	static char text[256];
	size_t len = 0;

	if (values_get(t, str(key), text, sizeof(text) - 1, &len) != GRAPNEL_OK)
		return "(none)";
	ck_assert_uint_lt(len, sizeof(text));
	text[len] = '\0';
	return text;
}

static void
counts_are(uint32_t count, uint64_t bytes, uint64_t refused)
{
	struct value_counts n;

	values_counts(table, &n);
	ck_assert_uint_eq(n.count, count);
	ck_assert_uint_eq(n.bytes, bytes);
	ck_assert_uint_eq(n.refused, refused);
}

START_TEST(what_was_set_last_is_what_is_got_until_it_is_deleted)
{
	ck_assert_str_eq(get(table, "a"), "(none)");
	ck_assert_int_eq(set("a", "first"), GRAPNEL_OK);
	ck_assert_int_eq(set("a", "2"), GRAPNEL_OK);
	ck_assert_int_eq(set("b", ""), GRAPNEL_OK);
	ck_assert_str_eq(get(table, "a"), "2");
	ck_assert_str_eq(get(table, "b"), "");
	counts_are(2, 3, 0);
	ck_assert_int_eq(values_delete(table, str("a")), GRAPNEL_OK);
	ck_assert_int_eq(values_delete(table, str("a")), GRAPNEL_ENOENT);
	ck_assert_str_eq(get(table, "a"), "(none)");
	counts_are(1, 1, 0);
}
END_TEST

START_TEST(a_value_that_is_longer_than_the_buffer_says_so)
{
	char buffer[4] = "....";
	size_t len = 7;

	ck_assert_int_eq(values_get(table, str("k"), buffer, sizeof(buffer), &len), GRAPNEL_ENOENT);
	ck_assert_uint_eq(len, 7);
	ck_assert_int_eq(set("k", "0123456789"), GRAPNEL_OK);
	ck_assert_int_eq(values_get(table, str("k"), buffer, 3, &len), GRAPNEL_OK);
	ck_assert_uint_eq(len, 10);
	ck_assert_mem_eq(buffer, "012.", 4);
	ck_assert_int_eq(values_get(table, str("k"), NULL, 0, &len), GRAPNEL_OK);
	ck_assert_uint_eq(len, 10);
}
END_TEST

START_TEST(keys_and_values_are_any_bytes_of_bounded_length)
{
	static char longest[VALUE_MAX + 1], back[VALUE_MAX];
	struct grapnel_str key = { longest, VALUE_KEY_MAX }, value = { longest, VALUE_MAX };
	const struct grapnel_str none = { NULL, 0 };
	size_t len;

	for (size_t i = 0; i < sizeof(longest); i++)
		longest[i] = (char)(i * 7);
	ck_assert_int_eq(values_set(table, &plenty, key, value), GRAPNEL_OK);
	ck_assert_int_eq(values_get(table, key, back, sizeof(back), &len), GRAPNEL_OK);
	ck_assert_uint_eq(len, VALUE_MAX);
	ck_assert_mem_eq(back, longest, VALUE_MAX);
	value.len++;
	ck_assert_int_eq(values_set(table, &plenty, key, value), GRAPNEL_EINVAL);
	key.len++;
	ck_assert_int_eq(values_set(table, &plenty, key, none), GRAPNEL_EINVAL);
	ck_assert_int_eq(values_get(table, key, NULL, 0, &len), GRAPNEL_EINVAL);
	ck_assert_int_eq(values_delete(table, key), GRAPNEL_EINVAL);
	ck_assert_int_eq(values_set(table, &plenty, none, str("v")), GRAPNEL_EINVAL);
	ck_assert_int_eq(set("", "v"), GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    values_set(table, &plenty, str("k"), (struct grapnel_str){ NULL, 1 }), GRAPNEL_EINVAL);
	ck_assert_int_eq(values_set(table, &plenty, str("k"), none), GRAPNEL_OK); /* empty */
	ck_assert_str_eq(get(table, "k"), "");
}
END_TEST

START_TEST(at_a_limit_nothing_changes_and_nothing_is_lost)
{
	const struct value_limits two = { 12, 2 }, one = { 4, 1 };

	ck_assert_int_eq(values_set(table, &two, str("a"), str("12345")), GRAPNEL_OK);
	ck_assert_int_eq(values_set(table, &two, str("b"), str("123456")), GRAPNEL_EQUOTA);
	ck_assert_int_eq(values_set(table, &two, str("b"), str("12345")), GRAPNEL_OK);
	ck_assert_int_eq(values_set(table, &two, str("c"), str("")), GRAPNEL_EQUOTA); /* count */
	ck_assert_int_eq(values_set(table, &two, str("a"), str("123456")), GRAPNEL_EQUOTA);
	ck_assert_str_eq(get(table, "a"), "12345");
	counts_are(2, 12, 3);
	/* The operator has lowered it: what is there stays, and may shrink. */
	ck_assert_int_eq(values_set(table, &one, str("a"), str("1234")), GRAPNEL_OK);
	ck_assert_int_eq(values_set(table, &one, str("a"), str("12345")), GRAPNEL_EQUOTA);
	ck_assert_str_eq(get(table, "a"), "1234");
	ck_assert_str_eq(get(table, "b"), "12345");
}
END_TEST

START_TEST(each_name_has_a_table_of_its_own)
{
	struct value_table *other = values_of(values, "two");

	ck_assert_ptr_ne(other, table);
	ck_assert_ptr_eq(values_of(values, "one"), table);
	ck_assert_int_eq(set("k", "mine"), GRAPNEL_OK);
	ck_assert_str_eq(get(other, "k"), "(none)");
	ck_assert_int_eq(values_delete(other, str("k")), GRAPNEL_ENOENT);
	ck_assert_str_eq(get(table, "k"), "mine");
}
END_TEST

/* ---- walking ----------------------------------------------------------------------------------- */

struct walk {
	char seen[256];
	unsigned most;
	bool changes;
};

static bool
see(void *arg, struct grapnel_str key, struct grapnel_str value)
{
	struct walk *w = arg;
	size_t at = strlen(w->seen);

	snprintf(w->seen + at, sizeof(w->seen) - at, "%.*s=%.*s ", (int)key.len, key.data,
	    (int)value.len, value.data);
	if (w->changes) {
		ck_assert_int_eq(values_delete(table, str("c")), GRAPNEL_OK);
		ck_assert_int_eq(set("b", "new"), GRAPNEL_OK);
		ck_assert_int_eq(set("d", "4"), GRAPNEL_OK);
		w->changes = false;
	}
	return --w->most > 0;
}

static const char *
seen(const char *prefix, unsigned most, bool changes)
{
	static struct walk w;

	w = (struct walk){ .most = most, .changes = changes };
	ck_assert_int_eq(values_each(table, str(prefix), see, &w), GRAPNEL_OK);
	return w.seen;
}

START_TEST(those_that_begin_so_come_in_order)
{
	ck_assert_str_eq(seen("", 9, false), "");
	(void)set("a/b", "2");
	(void)set("b", "4");
	(void)set("a", "1");
	(void)set("a0", "3");
	ck_assert_str_eq(seen("", 9, false), "a=1 a/b=2 a0=3 b=4 ");
	ck_assert_str_eq(seen("a/", 9, false), "a/b=2 ");
	ck_assert_str_eq(seen("a", 2, false), "a=1 a/b=2 ");
	ck_assert_str_eq(seen("a/b/c", 9, false), "");
	ck_assert_int_eq(
	    values_each(table, (struct grapnel_str){ NULL, 1 }, see, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(values_each(table, str(""), NULL, NULL), GRAPNEL_EINVAL);
}
END_TEST

START_TEST(who_walks_may_change_what_it_walks)
{
	(void)set("a", "1");
	(void)set("b", "2");
	(void)set("c", "3");
	ck_assert_str_eq(seen("", 9, true), "a=1 b=2 c=3 ");
	ck_assert_str_eq(seen("", 9, false), "a=1 b=new d=4 ");
}
END_TEST

/* Random operations against a model that cannot be wrong: an array. */
START_TEST(many_values_are_what_an_array_would_be)
{
	enum { KEYS = 500 };
	static char model[KEYS][12];
	uint32_t random = 1, count = 0;
	struct value_counts n;

	for (unsigned i = 0; i < 20000; i++) {
		char key[16];
		unsigned k;

		random = random * 1664525u + 1013904223u;
		k = (random >> 8) % KEYS;
		snprintf(key, sizeof(key), "key-%u", k);
		if ((random >> 20) % 3 == 0) {
			ck_assert_int_eq(values_delete(table, str(key)),
			    model[k][0] != '\0' ? GRAPNEL_OK : GRAPNEL_ENOENT);
			model[k][0] = '\0';
		} else {
			snprintf(model[k], sizeof(model[k]), "%u", i);
			ck_assert_int_eq(set(key, model[k]), GRAPNEL_OK);
		}
	}
	for (unsigned k = 0; k < KEYS; k++) {
		char key[16];

		snprintf(key, sizeof(key), "key-%u", k);
		ck_assert_str_eq(get(table, key), model[k][0] != '\0' ? model[k] : "(none)");
		count += model[k][0] != '\0';
	}
	values_counts(table, &n);
	ck_assert_uint_eq(n.count, count);
}
END_TEST

static void *
hammer(void *arg)
{
	for (unsigned i = 0; i < 500; i++) {
		char key[16];
		struct walk w = { .most = 3 };

		snprintf(key, sizeof(key), "%u", i % 40);
		ck_assert_int_eq(set(key, arg), GRAPNEL_OK);
		(void)get(values_of(values, "other"), key);
		if (i % 7 == 0)
			(void)values_delete(table, str(key));
		if (i % 50 == 0)
			(void)values_each(table, str(""), see, &w);
	}
	return NULL;
}

START_TEST(threads_share_a_table)
{
	pthread_t threads[4];

	(void)values_of(values, "other");
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hammer, "value"), 0);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < 40; i++) {
		char key[16];

		snprintf(key, sizeof(key), "%u", i);
		(void)values_delete(table, str(key));
	}
	counts_are(0, 0, 0);
}
END_TEST

/* ---- and the store ------------------------------------------------------------------------------- */

static struct settings settings;
static struct broker broker = { .settings = &settings };
static struct store *store;

static void
nobody_to_ask(struct worker *w, struct mail *m)
{
	(void)w;
	(void)m;
	ck_abort();
}

static void
store_begin(void)
{
	char error[STORE_ERROR];

	atomic_store(&settings.refs, 1);
	settings.store.directory = (char *)(uintptr_t)store_files_directory();
	settings.store.max_bytes = 1 << 30;
	ck_assert_msg(store_open(&store, &broker, "test", error) == GRAPNEL_OK, "%s", error);
	values = values_new(store);
	ck_assert_ptr_nonnull(values);
	ck_assert_int_eq(values_load(values), GRAPNEL_OK);
	table = values_of(values, "one");
	ck_assert_ptr_nonnull(table);
}

static void
store_end(bool written)
{
	if (written) {
		ck_assert_int_eq(store_start(store, nobody_to_ask), GRAPNEL_OK);
		ck_assert(store_stop(store));
	}
	values_free(values);
	store_free(store);
}

static void
add_name(void *arg, const char *name, const struct value_counts *n)
{
	char *names = arg;
	size_t at = strlen(names);

	snprintf(names + at, 64 - at, "%s:%u ", name, n->count);
}

START_TEST(values_come_back_from_the_store)
{
	static char longest[VALUE_KEY_MAX + 1];
	char names[64] = "";

	store_files_begin();
	store_begin();
	(void)set("a", "1");
	(void)set("a", "2");
	(void)set("b", "");
	(void)set("c", "3");
	(void)values_delete(table, str("c"));
	table = values_of(values, "two");
	(void)set("a", "other");
	memset(longest, 'k', sizeof(longest)); /* of a broker that allows more */
	ck_assert_int_eq(store_put_value(store, str("one"),
			     (struct grapnel_str){ longest, sizeof(longest) }, str("v")),
	    GRAPNEL_OK);
	store_end(true);
	store_begin();
	ck_assert_str_eq(seen("", 9, false), "a=2 b= ");
	ck_assert_str_eq(get(values_of(values, "two"), "a"), "other");
	counts_are(2, 3, 0);
	values_each_name(values, add_name, names);
	ck_assert_msg(
	    strcmp(names, "one:2 two:1 ") == 0 || strcmp(names, "two:1 one:2 ") == 0, "%s", names);
	store_end(false);
	store_files_end();
}
END_TEST

START_TEST(what_the_store_cannot_take_in_is_not_there)
{
	static char big[VALUE_MAX];
	char key[16] = "";
	struct value_counts n;
	unsigned kept = 0;

	store_files_begin();
	store_begin(); /* nobody writes: it waits */
	for (int err = GRAPNEL_OK; err == GRAPNEL_OK; kept += err == GRAPNEL_OK) {
		ck_assert_uint_lt(kept, 1000);
		snprintf(key, sizeof(key), "%03u", kept);
		err =
		    values_set(table, &plenty, str(key), (struct grapnel_str){ big, sizeof(big) });
		ck_assert(err == GRAPNEL_OK || err == GRAPNEL_EQUOTA);
	}
	ck_assert_uint_gt(kept, 200);
	ck_assert_str_eq(get(table, key), "(none)");
	ck_assert_int_eq(set("000", "short"), GRAPNEL_EQUOTA);
	ck_assert_int_eq(values_delete(table, str("001")), GRAPNEL_EQUOTA);
	ck_assert_int_eq(values_get(table, str("001"), NULL, 0, &(size_t){ 0 }), GRAPNEL_OK);
	values_counts(table, &n);
	ck_assert_uint_eq(n.count, kept);
	ck_assert_uint_eq(n.bytes, kept * (UINT64_C(3) + sizeof(big)));
	store_end(true);
	store_begin(); /* and what it took in is */
	values_counts(table, &n);
	ck_assert_uint_eq(n.bytes, kept * (UINT64_C(3) + sizeof(big)));
	ck_assert_int_eq(set("000", "short"), GRAPNEL_OK);
	ck_assert_int_eq(values_delete(table, str("001")), GRAPNEL_OK);
	store_end(false);
	store_files_end();
}
END_TEST

/* ---- as a plugin has them ------------------------------------------------------------------------ */

static int
keep_in_create(struct probe *p)
{
	char text[8] = "";
	size_t len = 0;

	if (p->host->value_get(p->self, GRAPNEL_STR("life"), text, sizeof(text), &len) !=
	    GRAPNEL_OK)
		len = 0;
	ck_assert_uint_lt(len, sizeof(text));
	text[len] = '+';
	return p->host->value_set(
	    p->self, GRAPNEL_STR("life"), (struct grapnel_str){ text, len + 1 });
}

static void
lives_are(struct probe *p, const char *expected)
{
	char text[8] = "";
	size_t len;

	ck_assert_int_eq(
	    p->host->value_get(p->self, GRAPNEL_STR("life"), text, sizeof(text) - 1, &len),
	    GRAPNEL_OK);
	ck_assert_str_eq(text, expected);
}

START_TEST(instances_of_one_name_have_the_same_values)
{
	char sections[1024];

	first.create = second.create = keep_in_create;
	begin("max_values = 2", "max_values_bytes = 5");
	ck_assert_uint_ge(first.host->size, offsetof(struct grapnel_host, value_each));
	lives_are(&first, "+");
	lives_are(&second, "+");
	/* Other options: a new instance. The limits of the other one change, and it goes on. */
	snprintf(sections, sizeof(sections), "%s%s", stub_probe("first", &first, "note = new"),
	    stub_probe("second", &second, "max_values_bytes = 6"));
	ck_assert_int_eq(stub_reload(sections), GRAPNEL_OK);
	lives_are(&first, "++");
	lives_are(&second, "+");
	ck_assert_int_eq(
	    second.host->value_set(second.self, GRAPNEL_STR("l"), GRAPNEL_STR("")), GRAPNEL_OK);
	ck_assert_int_eq(
	    second.host->value_set(second.self, GRAPNEL_STR("m"), GRAPNEL_STR("")), GRAPNEL_EQUOTA);
	/* One that was away finds them, too. */
	ck_assert_int_eq(stub_reload(stub_probe("second", &second, "")), GRAPNEL_OK);
	snprintf(sections, sizeof(sections), "%s%s", stub_probe("first", &first, ""),
	    stub_probe("second", &second, ""));
	ck_assert_int_eq(stub_reload(sections), GRAPNEL_OK);
	lives_are(&first, "+++");
	stub_stop();
}
END_TEST

static _Atomic unsigned synced;

static void
on_synced(void *arg)
{
	ck_assert_ptr_eq(arg, &synced);
	ck_assert_int_eq(first.host->this_worker(), 0);
	atomic_fetch_add(&synced, 1);
}

static void
sync_here(struct worker *w, void *arg)
{
	unsigned before = atomic_load(&synced);

	(void)w;
	(void)arg;
	ck_assert_int_eq(first.host->value_sync(first.self, NULL, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(first.host->value_sync(first.self, on_synced, &synced), GRAPNEL_OK);
	ck_assert_uint_eq(atomic_load(&synced), before); /* never inside the call */
}

START_TEST(without_a_store_what_is_kept_is_as_safe_as_it_will_be)
{
	atomic_store(&synced, 0);
	begin("", NULL);
	ck_assert_int_eq(first.host->value_sync(first.self, on_synced, &synced), GRAPNEL_ESTATE);
	on_worker(0, sync_here, NULL);
	wait_for(&synced, 1);
	on_worker(0, sync_here, NULL);
	stub_stop(); /* whether it has come by then or not: nothing is left behind, says ASan */
	ck_assert_uint_le(atomic_load(&synced), 2);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("values");
	TCase *tc = tcase_create("table"), *stored = tcase_create("stored"),
	      *host = tcase_create("host");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, what_was_set_last_is_what_is_got_until_it_is_deleted);
	tcase_add_test(tc, a_value_that_is_longer_than_the_buffer_says_so);
	tcase_add_test(tc, keys_and_values_are_any_bytes_of_bounded_length);
	tcase_add_test(tc, at_a_limit_nothing_changes_and_nothing_is_lost);
	tcase_add_test(tc, each_name_has_a_table_of_its_own);
	tcase_add_test(tc, those_that_begin_so_come_in_order);
	tcase_add_test(tc, who_walks_may_change_what_it_walks);
	tcase_add_test(tc, many_values_are_what_an_array_would_be);
	tcase_add_test(tc, threads_share_a_table);
	suite_add_tcase(s, tc);
	tcase_add_test(stored, values_come_back_from_the_store);
	tcase_add_test(stored, what_the_store_cannot_take_in_is_not_there);
	suite_add_tcase(s, stored);
	tcase_add_checked_fixture(host, reset_probes, NULL);
	tcase_add_test(host, instances_of_one_name_have_the_same_values);
	tcase_add_test(host, without_a_store_what_is_kept_is_as_safe_as_it_will_be);
	suite_add_tcase(s, host);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
