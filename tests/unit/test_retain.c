/* SPDX-License-Identifier: Apache-2.0 */
#include "core/message.h"
#include "core/retain.h"
#include "core/retain_order.h"
#include "mqtt/topic.h"

#include <check.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STR(s)   ((struct grapnel_str){ (s), strlen(s) })
#define NO_LIMIT UINT64_MAX, UINT64_MAX

/* libcheck writes a record per ck_assert: what runs very often uses this. */
#define REQUIRE(condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			ck_abort_msg("not: %s", #condition); \
	} while (0)

static struct retain *st;

static void
setup(void)
{
	ck_assert_int_eq(retain_new(&st), GRAPNEL_OK);
}

static void
teardown(void)
{
	retain_free(st);
}

static int
set_expiring(const char *topic_name, const char *payload, uint64_t expires_at_ms,
    uint64_t max_messages, uint64_t max_bytes, bool *had)
{
	struct message msg = {
		.flags = expires_at_ms != 0 ? MSG_RETAIN | MSG_EXPIRES : MSG_RETAIN,
		.topic = topic_name,
		.topic_len = (uint16_t)strlen(topic_name),
		.payload = payload,
		.payload_len = (uint32_t)strlen(payload),
		.expires_at_ms = expires_at_ms,
	};
	int err = retain_set(st, &msg, max_messages, max_bytes, had, NULL);

	message_release_borrowed(&msg);
	return err;
}

static int
set(const char *topic_name, const char *payload, uint64_t max_messages, uint64_t max_bytes,
    bool *had)
{
	return set_expiring(topic_name, payload, 0, max_messages, max_bytes, had);
}

static struct retain_stats
stats(void)
{
	struct retain_stats out;

	retain_stats(st, &out);
	return out;
}

/* What a walk has seen, as "name=payload name=payload". */
struct seen {
	char text[1000];
	unsigned count;
	struct message *last;
};

static void
note(struct message *msg, void *arg)
{
	struct seen *seen = arg;
	size_t len = strlen(seen->text);

	snprintf(seen->text + len, sizeof(seen->text) - len, "%s%.*s=%.*s", len > 0 ? " " : "",
	    (int)msg->topic_len, msg->topic, (int)msg->payload_len, msg->payload);
	seen->count++;
	message_unref(seen->last);
	seen->last = message_ref(msg);
}

static const char *
all_of(const char *filter)
{
	static struct seen seen;
	struct retain_cursor c = { 0 };

	message_unref(seen.last);
	memset(&seen, 0, sizeof(seen));
	while (!c.done)
		ck_assert_int_eq(
		    retain_match(st, STR(filter), &c, 100, 1000, note, &seen), GRAPNEL_OK);
	retain_cursor_clear(&c);
	message_unref(seen.last);
	seen.last = NULL;
	return seen.text;
}

/* ---- one Topic Name ------------------------------------------------------------------------- */

START_TEST(the_last_message_of_a_topic_name_is_kept)
{
	bool had = true;

	ck_assert_int_eq(set("a/b", "1", NO_LIMIT, &had), GRAPNEL_OK);
	ck_assert(!had);
	ck_assert_int_eq(set("a/b", "22", NO_LIMIT, &had), GRAPNEL_OK);
	ck_assert(had);
	ck_assert_str_eq(all_of("a/b"), "a/b=22");
	ck_assert_str_eq(all_of("a"), "");
	ck_assert_str_eq(all_of("a/b/c"), "");
	ck_assert_uint_eq(stats().messages, 1);
	ck_assert_uint_eq(stats().bytes, sizeof(struct message) + 5);
}
END_TEST

START_TEST(an_empty_payload_removes_and_is_not_kept)
{
	bool had = true;

	ck_assert_int_eq(set("a", "", NO_LIMIT, &had), GRAPNEL_OK);
	ck_assert(!had);
	ck_assert_uint_eq(stats().messages, 0);
	ck_assert_int_eq(set("a", "1", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("a", "", 0, 0, &had), GRAPNEL_OK);
	ck_assert(had);
	ck_assert_str_eq(all_of("#"), "");
	ck_assert_uint_eq(stats().messages, 0);
	ck_assert_uint_eq(stats().bytes, 0);
}
END_TEST

START_TEST(over_a_limit_the_old_message_stays)
{
	uint64_t two = 2 * (sizeof(struct message) + 2);

	ck_assert_int_eq(set("a", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("b", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("c", "1", 2, UINT64_MAX, NULL), GRAPNEL_EQUOTA);
	ck_assert_int_eq(set("c", "1", UINT64_MAX, two, NULL), GRAPNEL_EQUOTA);
	ck_assert_int_eq(set("b", "22", 2, two, NULL), GRAPNEL_EQUOTA);
	ck_assert_str_eq(all_of("#"), "a=1 b=1");
	ck_assert_int_eq(set("b", "3", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(
	    set("b", "4", 1, 1, NULL), GRAPNEL_OK); /* limits lowered: no growth, no refusal */
	ck_assert_str_eq(all_of("#"), "a=1 b=4");
	ck_assert_uint_eq(stats().bytes, two);
}
END_TEST

START_TEST(what_the_broker_keeps_in_sys_is_outside_of_the_limits)
{
	uint64_t two = 2 * (sizeof(struct message) + 2);

	ck_assert_int_eq(set("$SYS/broker/version", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("a", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("b", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("$SYS/broker/uptime", "1", 2, two, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("$SYSTEM", "1", 2, two, NULL), GRAPNEL_EQUOTA);
	ck_assert_int_eq(set("c", "1", 2, UINT64_MAX, NULL), GRAPNEL_EQUOTA);
	ck_assert_uint_eq(stats().messages, 2);
	ck_assert_uint_eq(stats().bytes, two);
	ck_assert_int_eq(set("$SYS/broker/uptime", "", 2, two, NULL), GRAPNEL_OK);
	ck_assert_str_eq(all_of("$SYS/#"), "$SYS/broker/version=1");
	ck_assert_uint_eq(stats().messages, 2);
}
END_TEST

START_TEST(a_message_is_removed_only_while_it_is_the_one)
{
	struct seen seen = { .count = 0 };
	struct retain_cursor c = { 0 };

	ck_assert_int_eq(set("a", "1", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_int_eq(retain_match(st, STR("a"), &c, 1, 1, note, &seen), GRAPNEL_OK);
	ck_assert(c.done);
	ck_assert_int_eq(set("a", "2", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert(!retain_remove(st, seen.last));
	ck_assert_str_eq(all_of("#"), "a=2");
	ck_assert_int_eq(set("a", "3", NO_LIMIT, NULL), GRAPNEL_OK);
	c.done = false;
	ck_assert_int_eq(retain_match(st, STR("a"), &c, 1, 1, note, &seen), GRAPNEL_OK);
	ck_assert(retain_remove(st, seen.last));
	ck_assert(!retain_remove(st, seen.last));
	ck_assert_uint_eq(stats().messages, 0);
	message_unref(seen.last);
	retain_cursor_clear(&c);
}
END_TEST

/* ---- wildcards ------------------------------------------------------------------------------ */

START_TEST(messages_come_level_by_level)
{
	static const char *const names[] = { "a!", "a/b", "a", "$S/x", "/", "a/", "a\x01", "b",
		"a/b/c" };

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		ck_assert_int_eq(set(names[i], "1", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_str_eq(all_of("#"), "/=1 a=1 a/=1 a/b=1 a/b/c=1 a\x01=1 a!=1 b=1");
	ck_assert_str_eq(all_of("+"), "a=1 a\x01=1 a!=1 b=1");
	ck_assert_str_eq(all_of("a/#"), "a=1 a/=1 a/b=1 a/b/c=1");
	ck_assert_str_eq(all_of("a/+"), "a/=1 a/b=1");
	ck_assert_str_eq(all_of("+/+"), "/=1 a/=1 a/b=1");
	ck_assert_str_eq(all_of("+/"), "/=1 a/=1");
	ck_assert_str_eq(all_of("+/x"), ""); /* [MQTT-4.7.2-1] */
	ck_assert_str_eq(all_of("$S/+"), "$S/x=1");
	ck_assert_str_eq(all_of("$S/#"), "$S/x=1");
}
END_TEST

static uint64_t state = 4711;

static uint32_t
random_below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 20) % n;
}

static const char *const words[] = { "", "a", "b", "ab", "$", "$a", "a!", "\x01" };

static void
random_text(char *buf, bool filter)
{
	unsigned levels = 1 + random_below(4);

	*buf = '\0';
	for (unsigned i = 0; i < levels; i++) {
		uint32_t pick = random_below(12);

		if (i > 0)
			strcat(buf, "/");
		if (filter && pick >= 10)
			strcat(buf, "+");
		else if (filter && pick == 9 && i == levels - 1)
			strcat(buf, "#");
		else
			strcat(buf, words[pick % 8]);
	}
	if (*buf == '\0')
		strcat(buf, "a");
}

#define NAMES 1500

/* The payload is the number of the name; visits[] counts. */
static char names[NAMES][32];
static unsigned visits[NAMES];
static bool kept[NAMES];

static void
visit_number(struct message *msg, void *arg)
{
	char number[12];

	snprintf(number, sizeof(number), "%.*s", (int)msg->payload_len, msg->payload);
	visits[strtoul(number, NULL, 10)]++;
	++*(unsigned *)arg;
}

static void
put_name(unsigned i)
{
	char number[12];

	snprintf(number, sizeof(number), "%u", i);
	REQUIRE(set(names[i], number, NO_LIMIT, NULL) == GRAPNEL_OK);
	kept[i] = true;
}

static void
fill(void)
{
	for (unsigned i = 0; i < NAMES; i++) {
		random_text(names[i], false);
		kept[i] = true;
		for (unsigned k = 0; k < i && kept[i]; k++)
			kept[i] = strcmp(names[k], names[i]) != 0;
		if (kept[i])
			put_name(i);
		else
			/* not in place, and unique */
			snprintf(names[i], sizeof(names[i]), "%s/u%u", words[i % 4], i);
	}
}

START_TEST(random_filters_find_like_brute_force_in_portions_of_any_size)
{
	char filter[64];

	fill();
	for (unsigned round = 0; round < 600; round++) {
		struct retain_cursor c = { 0 };
		unsigned max_visits = 1 + random_below(round % 2 ? 5 : 300),
			 max_nodes = 1 + random_below(round % 3 ? 5 : 600);
		unsigned before, found = 0;

		random_text(filter, true);
		memset(visits, 0, sizeof(visits));
		while (!c.done) {
			before = found;
			REQUIRE(retain_match(st, STR(filter), &c, max_visits, max_nodes,
				    visit_number, &found) == GRAPNEL_OK);
			REQUIRE(found - before <= max_visits && found - before <= max_nodes);
		}
		retain_cursor_clear(&c);
		for (unsigned i = 0; i < NAMES; i++)
			if (visits[i] != (kept[i] && topic_matches(STR(filter), STR(names[i]))))
				ck_abort_msg(
				    "%s: %s visited %u times", filter, names[i], visits[i]);
	}
}
END_TEST

START_TEST(what_stays_is_visited_once_while_other_messages_come_and_go)
{
	static bool touched[NAMES];
	char filter[64];

	fill();
	for (unsigned round = 0; round < 400; round++) {
		struct retain_cursor c = { 0 };
		unsigned found = 0;

		random_text(filter, true);
		memset(visits, 0, sizeof(visits));
		memset(touched, 0, sizeof(touched));
		while (!c.done) {
			REQUIRE(retain_match(st, STR(filter), &c, 1 + round % 3, 1 + round % 7,
				    visit_number, &found) == GRAPNEL_OK);
			for (unsigned k = 0; k < 4; k++) {
				unsigned i = random_below(NAMES);

				touched[i] = true;
				if (kept[i]) {
					REQUIRE(set(names[i], "", NO_LIMIT, NULL) == GRAPNEL_OK);
					kept[i] = false;
				} else {
					put_name(i);
				}
				i = random_below(NAMES);
				if (kept[i])
					put_name(i); /* replaced: stays in place */
			}
		}
		retain_cursor_clear(&c);
		for (unsigned i = 0; i < NAMES; i++) {
			bool expected = kept[i] && topic_matches(STR(filter), STR(names[i]));

			if (touched[i] ? visits[i] > 1 : visits[i] != expected)
				ck_abort_msg(
				    "%s: %s visited %u times", filter, names[i], visits[i]);
		}
	}
}
END_TEST

START_TEST(a_jump_is_always_forward_and_never_over_a_match)
{
	struct retain_jump jump;
	char filter[64], a[64], b[64], key[200], *exact;

	for (unsigned i = 0; i < 200000; i++) {
		enum retain_verdict verdict;
		struct grapnel_str k = { key, 0 };

		random_text(filter, true);
		random_text(a, false);
		random_text(b, false);
		exact = malloc(strlen(filter)); /* nothing behind it may be read */
		memcpy(exact, filter, strlen(filter));
		verdict =
		    retain_judge((struct grapnel_str){ exact, strlen(filter) }, STR(a), &jump);
		if (verdict == RETAIN_JUMP) {
			k.len = jump.head.len + jump.tail.len;
			if (jump.head.len > 0)
				memcpy(key, jump.head.data, jump.head.len);
			memcpy(key + jump.head.len, jump.tail.data, jump.tail.len);
			REQUIRE(retain_compare(k, STR(a)) > 0);
		}
		free(exact);
		REQUIRE((verdict == RETAIN_MATCH) == topic_matches(STR(filter), STR(a)));
		if (retain_compare(STR(b), STR(a)) <= 0 || !topic_matches(STR(filter), STR(b)))
			continue;
		if (verdict == RETAIN_END)
			ck_abort_msg("%s ends at %s, before %s", filter, a, b);
		if (verdict == RETAIN_MATCH)
			continue;
		if (retain_compare(STR(b), k) < 0)
			ck_abort_msg("%s jumps from %s over %s", filter, a, b);
	}
}
END_TEST

START_TEST(topic_names_of_the_greatest_depth_are_no_special_case)
{
	char *deep = malloc(65536), *filter = malloc(65536);
	struct retain_cursor c = { 0 };
	struct seen seen = { .count = 0 };
	unsigned calls = 0;

	memset(deep, '/', 65535);
	deep[65535] = '\0';
	ck_assert_int_eq(set(deep, "1", NO_LIMIT, NULL), GRAPNEL_OK);
	deep[65534] = 'x';
	ck_assert_int_eq(set(deep, "2", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_int_eq(set("a", "3", NO_LIMIT, NULL), GRAPNEL_OK);
	for (unsigned i = 0; i < 65535; i++)
		filter[i] = i % 2 ? '/' : '+';
	filter[65535] = '\0';
	for (; !c.done; calls++)
		ck_assert_int_eq(
		    retain_match(st, STR(filter), &c, 10, 10, note, &seen), GRAPNEL_OK);
	ck_assert_uint_eq(seen.count, 0);
	ck_assert_uint_gt(calls, 1); /* a long Topic Name costs its length */
	retain_cursor_clear(&c);
	while (!c.done)
		ck_assert_int_eq(retain_match(st, STR("+/#"), &c, 10, 10, note, &seen), GRAPNEL_OK);
	ck_assert_uint_eq(seen.count, 3);
	retain_cursor_clear(&c);
	message_unref(seen.last);
	free(deep);
	free(filter);
}
END_TEST

/* Most of the texts that are nowhere share no bits with those that are: by chance, one in fifty does. */
START_TEST(a_level_that_is_nowhere_ends_a_walk_at_once)
{
	unsigned calls, quick = 0, found = 0;
	char text[32];

	for (unsigned i = 0; i < 20000; i++) {
		snprintf(text, sizeof(text), "%u/%u/%c", i / 200, i % 200, "xyz"[i % 3]);
		REQUIRE(set(text, "1", NO_LIMIT, NULL) == GRAPNEL_OK);
	}
	for (unsigned i = 0; i < 40; i++) {
		struct retain_cursor c = { 0 };

		snprintf(text, sizeof(text), "+/+/none%u", i);
		for (calls = 0; !c.done; calls++)
			ck_assert_int_eq(
			    retain_match(st, STR(text), &c, 10, 10, visit_number, &found),
			    GRAPNEL_OK);
		retain_cursor_clear(&c);
		quick += calls == 1;
	}
	ck_assert_uint_eq(found, 0);
	ck_assert_uint_ge(quick, 30);
}
END_TEST

START_TEST(a_walk_needs_a_budget)
{
	struct retain_cursor c = { 0 };

	ck_assert_int_eq(retain_match(st, STR("#"), &c, 0, 1, note, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(retain_match(st, STR("#"), &c, 1, 0, note, NULL), GRAPNEL_EINVAL);
	ck_assert(!c.done);
}
END_TEST

static void
remove_it(struct message *msg, void *arg)
{
	(void)arg;
	ck_assert(retain_remove(st, msg));
}

START_TEST(a_visitor_may_change_the_index)
{
	struct retain_cursor c = { 0 };
	char name[16];

	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "v/%u", i);
		REQUIRE(set(name, "1", NO_LIMIT, NULL) == GRAPNEL_OK);
	}
	while (!c.done)
		ck_assert_int_eq(
		    retain_match(st, STR("v/+"), &c, 100, 100, remove_it, NULL), GRAPNEL_OK);
	retain_cursor_clear(&c);
	ck_assert_uint_eq(stats().messages, 0);
	ck_assert_uint_eq(stats().bytes, 0);
}
END_TEST

/* ---- expiry --------------------------------------------------------------------------------- */

static void
count_removed(struct message *msg, uint64_t seq, void *arg)
{
	(void)seq;
	REQUIRE(message_expired(msg, 1000));
	++*(unsigned *)arg;
}

START_TEST(a_sweep_removes_what_has_expired_in_portions)
{
	unsigned removed = 0, total = 0, calls = 0;
	char name[16];

	ck_assert_uint_eq(retain_sweep(st, 1000, 10, NULL, NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "e/%u", i);
		REQUIRE(set_expiring(name, "x",
			    i % 4 == 0       ? 0
				: i % 4 == 1 ? 1001
					     : 1000,
			    NO_LIMIT, NULL) == GRAPNEL_OK);
	}
	for (; stats().messages > 500; calls++) {
		unsigned n = retain_sweep(st, 1000, 100, count_removed, &removed);

		ck_assert_uint_le(n, 100);
		ck_assert_uint_lt(calls, 12);
		total += n;
	}
	ck_assert_uint_eq(total, 500);
	ck_assert_uint_eq(removed, 500);
	ck_assert_uint_ge(calls, 9);
	retain_sweep(st, 1000, 10000, NULL, NULL); /* to the end, wherever the last call stopped */
	ck_assert_uint_eq(stats().messages, 500);
	ck_assert_uint_eq(retain_sweep(st, 1001, 10000, NULL, NULL), 250);
	ck_assert_uint_eq(retain_sweep(st, UINT64_MAX, 10000, NULL, NULL), 0);
	ck_assert_uint_eq(stats().messages, 250);
}
END_TEST

START_TEST(a_sweep_goes_on_although_the_message_where_it_stopped_is_removed)
{
	static const char *const abc[] = { "a", "b", "c" };

	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(set_expiring(abc[i], "x", 5, NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_uint_eq(retain_sweep(st, 1, 1, NULL, NULL), 0); /* stops before b */
	ck_assert_int_eq(set("b", "", NO_LIMIT, NULL), GRAPNEL_OK);
	ck_assert_uint_eq(retain_sweep(st, 5, 1, NULL, NULL), 1);
	ck_assert_str_eq(all_of("#"), "a=x");
}
END_TEST

/* ---- threads -------------------------------------------------------------------------------- */

static _Atomic bool stop;

static void *
churn_main(void *arg)
{
	uint64_t x = 77 + (uint64_t)(uintptr_t)arg;
	char name[32];

	while (!stop) {
		unsigned i;

		x = x * 6364136223846793005u + 1442695040888963407u;
		i = (unsigned)(x >> 40) % 500;
		snprintf(name, sizeof(name), "t/%u/churn", i);
		if (set_expiring(name, (x >> 33) % 3 == 0 ? "" : "x", 1, NO_LIMIT, NULL) !=
		    GRAPNEL_OK)
			abort();
		if (i == 0)
			retain_sweep(st, 1, 50, NULL, NULL);
	}
	return NULL;
}

static void
count_stable(struct message *msg, void *arg)
{
	*(unsigned *)arg +=
	    msg->topic_len > 6 && memcmp(msg->topic + msg->topic_len - 6, "stable", 6) == 0;
}

static void *
walk_main(void *arg)
{
	while (!stop) {
		struct retain_cursor c = { 0 };
		unsigned found = 0;

		while (!c.done)
			if (retain_match(st, STR("t/+/#"), &c, 30, 40, count_stable, &found) !=
			    GRAPNEL_OK)
				abort();
		retain_cursor_clear(&c);
		if (found != 100)
			abort();
	}
	return arg;
}

START_TEST(walks_and_changes_of_several_threads_do_not_disturb_each_other)
{
	pthread_t threads[4];
	char name[32];

	stop = false;
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "t/%u/stable", i * 5);
		REQUIRE(set(name, "x", NO_LIMIT, NULL) == GRAPNEL_OK);
	}
	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, i < 2 ? churn_main : walk_main, (void *)i),
		    0);
	nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
	stop = true;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	retain_sweep(st, 1, 10000, NULL, NULL);
	retain_sweep(st, 1, 10000, NULL, NULL);
	ck_assert_uint_eq(stats().messages, 100);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("retain");
	TCase *tc = tcase_create("retain");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, the_last_message_of_a_topic_name_is_kept);
	tcase_add_test(tc, an_empty_payload_removes_and_is_not_kept);
	tcase_add_test(tc, over_a_limit_the_old_message_stays);
	tcase_add_test(tc, what_the_broker_keeps_in_sys_is_outside_of_the_limits);
	tcase_add_test(tc, a_message_is_removed_only_while_it_is_the_one);
	tcase_add_test(tc, messages_come_level_by_level);
	tcase_add_test(tc, random_filters_find_like_brute_force_in_portions_of_any_size);
	tcase_add_test(tc, what_stays_is_visited_once_while_other_messages_come_and_go);
	tcase_add_test(tc, a_jump_is_always_forward_and_never_over_a_match);
	tcase_add_test(tc, topic_names_of_the_greatest_depth_are_no_special_case);
	tcase_add_test(tc, a_level_that_is_nowhere_ends_a_walk_at_once);
	tcase_add_test(tc, a_walk_needs_a_budget);
	tcase_add_test(tc, a_visitor_may_change_the_index);
	tcase_add_test(tc, a_sweep_removes_what_has_expired_in_portions);
	tcase_add_test(tc, a_sweep_goes_on_although_the_message_where_it_stopped_is_removed);
	tcase_add_test(tc, walks_and_changes_of_several_threads_do_not_disturb_each_other);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
