/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/instance.h"
#include "plugin/trace.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS 60000u
#define MOST      32u
#define WALL_US   INT64_C(1700000000000000) /* 2023-11-14T22:13:20Z */

static const struct grapnel_str none = { "", 0 };

static struct traces *ts;
static struct instance first = { .name = (char *)"first" }, second = { .name = (char *)"second" };
static struct grapnel_client_info client;
static struct record acl;

static void
setup(void)
{
	ts = NULL;
	client = (struct grapnel_client_info){ .size = sizeof(client),
		.client_id = GRAPNEL_STR("c1"),
		.username = GRAPNEL_STR("u1"),
		.mountpoint = none,
		.peer = GRAPNEL_STR("192.0.2.1:1000") };
	acl = (struct record){ .hook = HOOK_ACL,
		.client = &client,
		.action = GRAPNEL_PUBLISH,
		.qos = 1,
		.topic = GRAPNEL_STR("a/b"),
		.verdict = GRAPNEL_DENY,
		.plugin = "second" };
}

static void
teardown(void)
{
	traces_free(&ts);
}

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, strlen(text) };
}

static void
start(const char *id, unsigned minutes, uint64_t now_ms)
{
	ck_assert_int_eq(
	    trace_start(&ts, none, str(id), MOST, minutes, now_ms, WALL_US), GRAPNEL_OK);
}

/* What is shown of it. */
static json_t *
shown(const char *id)
{
	json_t *o = json_object();

	trace_describe(ts, none, str(id), o);
	return o;
}

static size_t
kept(const char *id)
{
	json_t *o = shown(id);
	size_t n = json_array_size(json_object_get(o, "decisions"));

	json_decref(o);
	return n;
}

static const char *
text(const json_t *o, const char *key)
{
	const char *value = json_string_value(json_object_get(o, key));

	return value != NULL ? value : "(none)";
}

START_TEST(the_last_records_are_kept_oldest_first)
{
	json_t *o, *list;
	char topic[16];

	start("c1", 10, 0);
	for (unsigned i = 0; i < TRACE_KEPT * 2 + 3; i++) {
		snprintf(topic, sizeof(topic), "t/%u", i);
		acl.topic = str(topic);
		ck_assert(trace_add(&ts, &acl, i, WALL_US + i));
	}
	o = shown("c1");
	list = json_object_get(o, "decisions");
	ck_assert_uint_eq(json_array_size(list), TRACE_KEPT);
	for (unsigned i = 0; i < TRACE_KEPT; i++) {
		snprintf(topic, sizeof(topic), "t/%u", TRACE_KEPT + 3 + i);
		ck_assert_str_eq(text(json_array_get(list, i), "topic"), topic);
	}
	json_decref(o);
}
END_TEST

START_TEST(a_record_says_who_was_asked_and_what_decided)
{
	const struct decision_step steps[] = {
		{ .instance = &first, .verdict = GRAPNEL_NEXT, .microseconds = 7 },
		{ .instance = &second,
		    .verdict = GRAPNEL_DENY,
		    .microseconds = 1200,
		    .rule = GRAPNEL_STR("acl:12") },
	};
	json_t *o, *r, *step;

	acl.steps = steps;
	acl.step_count = 2;
	start("c1", 10, 0);
	ck_assert(trace_add(&ts, &acl, 1, WALL_US + 5));
	o = shown("c1");
	ck_assert_int_eq(
	    json_integer_value(json_object_get(o, "traced_until")), WALL_US / 1000000 + 600);
	r = json_array_get(json_object_get(o, "decisions"), 0);
	ck_assert_str_eq(text(r, "time"), "2023-11-14T22:13:20.000005Z");
	ck_assert_str_eq(text(r, "hook"), "acl_check");
	ck_assert_str_eq(text(r, "action"), "publish");
	ck_assert_str_eq(text(r, "topic"), "a/b");
	ck_assert_int_eq(json_integer_value(json_object_get(r, "qos")), 1);
	ck_assert_str_eq(text(r, "verdict"), "deny");
	ck_assert_str_eq(text(r, "plugin"), "second");
	ck_assert_ptr_null(json_object_get(r, "rule"));
	ck_assert_uint_eq(json_array_size(json_object_get(r, "steps")), 2);
	step = json_array_get(json_object_get(r, "steps"), 0);
	ck_assert_str_eq(text(step, "plugin"), "first");
	ck_assert_str_eq(text(step, "verdict"), "next");
	ck_assert_ptr_null(json_object_get(step, "rule"));
	step = json_array_get(json_object_get(r, "steps"), 1);
	ck_assert_str_eq(text(step, "verdict"), "deny");
	ck_assert_str_eq(text(step, "rule"), "acl:12");
	ck_assert_int_eq(json_integer_value(json_object_get(step, "microseconds")), 1200);
	json_decref(o);
}
END_TEST

START_TEST(a_decision_of_the_broker_itself_names_no_plugin)
{
	json_t *o, *r;

	acl.plugin = NULL;
	acl.rule = GRAPNEL_STR("superuser");
	start("c1", 10, 0);
	trace_add(&ts, &acl, 1, WALL_US);
	o = shown("c1");
	r = json_array_get(json_object_get(o, "decisions"), 0);
	ck_assert(json_is_null(json_object_get(r, "plugin")));
	ck_assert_str_eq(text(r, "rule"), "superuser");
	ck_assert_uint_eq(json_array_size(json_object_get(r, "steps")), 0);
	json_decref(o);
}
END_TEST

START_TEST(nothing_is_kept_after_the_time_is_over_but_what_was_kept_can_be_seen)
{
	start("c1", 10, 1000);
	ck_assert(trace_add(&ts, &acl, 1000 + 10 * MINUTE_MS - 1, WALL_US));
	ck_assert(!trace_add(&ts, &acl, 1000 + 10 * MINUTE_MS, WALL_US));
	ck_assert_uint_eq(kept("c1"), 1);
}
END_TEST

START_TEST(an_ended_trace_is_dropped_in_the_end_and_costs_nothing_again)
{
	start("c1", 10, 0);
	ck_assert(!trace_add(&ts, &acl, 10 * MINUTE_MS + TRACE_LOOK_MS - 1, WALL_US));
	ck_assert_ptr_nonnull(ts);
	ck_assert(!trace_add(&ts, &acl, 10 * MINUTE_MS + TRACE_LOOK_MS, WALL_US));
	ck_assert_ptr_null(ts);
}
END_TEST

START_TEST(starting_again_gives_it_new_time_and_keeps_its_records)
{
	start("c1", 1, 0);
	ck_assert(trace_add(&ts, &acl, 1, WALL_US));
	start("c1", 1, 2 * MINUTE_MS);
	ck_assert(trace_add(&ts, &acl, 3 * MINUTE_MS - 1, WALL_US));
	ck_assert_uint_eq(kept("c1"), 2);
}
END_TEST

START_TEST(stopping_forgets_everything)
{
	start("c1", 10, 0);
	trace_add(&ts, &acl, 1, WALL_US);
	ck_assert(trace_stop(&ts, none, str("c1")));
	ck_assert_ptr_null(ts);
	ck_assert(!trace_stop(&ts, none, str("c1")));
	ck_assert(!trace_add(&ts, &acl, 1, WALL_US));
}
END_TEST

START_TEST(another_client_or_mountpoint_is_not_recorded)
{
	start("c1", 10, 0);
	client.client_id = GRAPNEL_STR("c2");
	ck_assert(!trace_add(&ts, &acl, 1, WALL_US));
	client.client_id = GRAPNEL_STR("c1");
	client.mountpoint = GRAPNEL_STR("north/");
	ck_assert(!trace_add(&ts, &acl, 1, WALL_US));
	ck_assert_uint_eq(kept("c1"), 0);
	ck_assert_uint_eq(kept("c2"), 0);
}
END_TEST

START_TEST(a_login_is_recorded_before_its_mountpoint_is_known)
{
	struct record r = { .hook = HOOK_AUTHENTICATE,
		.client = &client,
		.verdict = GRAPNEL_DENY,
		.plugin = "first" };
	json_t *o, *shown_record;

	ck_assert_int_eq(
	    trace_start(&ts, str("north/"), str("c1"), MOST, 10, 0, WALL_US), GRAPNEL_OK);
	ck_assert(trace_add(&ts, &r, 1, WALL_US));
	o = json_object();
	trace_describe(ts, str("north/"), str("c1"), o);
	shown_record = json_array_get(json_object_get(o, "decisions"), 0);
	ck_assert_str_eq(text(shown_record, "hook"), "client_authenticate");
	ck_assert_str_eq(text(shown_record, "username"), "u1");
	ck_assert_str_eq(text(shown_record, "peer"), "192.0.2.1:1000");
	ck_assert_ptr_null(json_object_get(shown_record, "action"));
	ck_assert_ptr_null(json_object_get(shown_record, "topic"));
	json_decref(o);
}
END_TEST

START_TEST(no_more_than_the_limit_run_at_once_and_an_ended_one_makes_room)
{
	char id[16];

	for (unsigned i = 0; i < MOST; i++) {
		snprintf(id, sizeof(id), "m%u", i);
		start(id, i == 5 ? 1 : 10, 0);
	}
	ck_assert_int_eq(trace_start(&ts, none, str("c1"), MOST, 10, 0, WALL_US), GRAPNEL_EQUOTA);
	start("m0", 10, 0); /* one that runs may go on */
	start("c1", 10, MINUTE_MS);
	ck_assert(trace_add(&ts, &acl, MINUTE_MS, WALL_US));
	ck_assert(!trace_stop(&ts, none, str("m5")));
}
END_TEST

START_TEST(long_strings_are_cut_between_characters)
{
	char topic[2 * TRACE_TEXT + 2];
	json_t *o;

	topic[0] = 'x'; /* so that the limit is inside a character */
	for (unsigned i = 0; i < TRACE_TEXT; i++)
		memcpy(topic + 1 + 2 * i, "\xc3\xa9", 2);
	acl.topic = (struct grapnel_str){ topic, 1 + 2 * TRACE_TEXT };
	start("c1", 10, 0);
	trace_add(&ts, &acl, 1, WALL_US);
	o = shown("c1");
	ck_assert_uint_eq(strlen(text(json_array_get(json_object_get(o, "decisions"), 0), "topic")),
	    TRACE_TEXT - 1);
	json_decref(o);
}
END_TEST

START_TEST(a_client_without_a_session_is_described_by_its_trace)
{
	json_t *list = json_array();

	start("c1", 10, 0);
	ck_assert_int_eq(
	    trace_start(&ts, str("north/"), str("c1"), MOST, 10, 0, WALL_US), GRAPNEL_OK);
	start("c2", 10, 0);
	trace_add(&ts, &acl, 1, WALL_US);
	ck_assert(trace_describe_absent(ts, NULL, "c1", list));
	ck_assert_uint_eq(json_array_size(list), 2);
	json_array_clear(list);
	ck_assert(trace_describe_absent(ts, "", "c1", list));
	ck_assert_uint_eq(json_array_size(list), 1);
	ck_assert_str_eq(text(json_array_get(list, 0), "client_id"), "c1");
	ck_assert(json_is_false(json_object_get(json_array_get(list, 0), "session")));
	ck_assert_uint_eq(
	    json_array_size(json_object_get(json_array_get(list, 0), "decisions")), 1);
	json_array_clear(list);
	ck_assert(trace_describe_absent(ts, NULL, "c3", list));
	ck_assert_uint_eq(json_array_size(list), 0);
	json_decref(list);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("trace");
	TCase *t = tcase_create("trace");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, the_last_records_are_kept_oldest_first);
	tcase_add_test(t, a_record_says_who_was_asked_and_what_decided);
	tcase_add_test(t, a_decision_of_the_broker_itself_names_no_plugin);
	tcase_add_test(t, nothing_is_kept_after_the_time_is_over_but_what_was_kept_can_be_seen);
	tcase_add_test(t, an_ended_trace_is_dropped_in_the_end_and_costs_nothing_again);
	tcase_add_test(t, starting_again_gives_it_new_time_and_keeps_its_records);
	tcase_add_test(t, stopping_forgets_everything);
	tcase_add_test(t, another_client_or_mountpoint_is_not_recorded);
	tcase_add_test(t, a_login_is_recorded_before_its_mountpoint_is_known);
	tcase_add_test(t, no_more_than_the_limit_run_at_once_and_an_ended_one_makes_room);
	tcase_add_test(t, long_strings_are_cut_between_characters);
	tcase_add_test(t, a_client_without_a_session_is_described_by_its_trace);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
