/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/common/grant.h"
#include "../../plugins/common/grant_time.h"
#include "core/acl.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_host host = {
	.size = sizeof(host),
	.rules_compile = acl_rules_compile,
	.rules_unref = acl_rules_unref,
};
static struct grant g;

static void
setup(void)
{
	grant_init(&g, &host);
}

static void
teardown(void)
{
	grant_fini(&g);
}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static bool
set(const char *name, const char *value)
{
	return grant_set(&g, str(name), str(value));
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static const struct grapnel_auth_answer *
answer(void)
{
	const struct grapnel_auth_answer *a = grant_answer(&g, str("test"));

	ck_assert_msg(a != NULL, "%s", g.error);
	return a;
}

/* What the rules so far say to user u with client id c and tenant t1. */
static enum grapnel_verdict
may_as(const char *user, enum grapnel_action action, const char *topic, unsigned qos, bool retain)
{
	struct grapnel_pair tenant = { { "tenant", 6 }, { "t1", 2 } };
	struct grapnel_rules_question q = { .size = sizeof(q),
		.action = action,
		.qos = (uint8_t)qos,
		.retain = retain,
		.topic = str(topic),
		.username = str(user),
		.client_id = str("c"),
		.attributes = &tenant,
		.attribute_count = 1 };
	struct grapnel_rules *rules = grant_compile(&g, str("test"));
	enum grapnel_verdict v;

	ck_assert_msg(rules != NULL, "%s", g.error);
	v = acl_rules_check(rules, &q, NULL, NULL);
	acl_rules_unref(rules);
	return v;
}

static enum grapnel_verdict
may(enum grapnel_action action, const char *topic)
{
	return may_as("u", action, topic, 0, false);
}

START_TEST(pairs_become_an_answer)
{
	const struct grapnel_auth_answer *a;

	ck_assert(set("username", "alice"));
	ck_assert(set("mountpoint", "m/"));
	ck_assert(set("superuser", "t"));
	ck_assert(set("valid_until", "1700000000"));
	ck_assert(set("max_qos", "1"));
	ck_assert(set("byte_rate", "18446744073709551615"));
	ck_assert(set("max_inflight", "7"));
	ck_assert(set("cache_ttl", "30"));
	ck_assert(set("tenant", "first"));
	ck_assert(set("role", ""));
	ck_assert(set("tenant", "t1"));
	ck_assert(set("absent", NULL));
	a = answer();
	ck_assert(is(a->username, "alice"));
	ck_assert(is(a->mountpoint, "m/"));
	ck_assert(a->superuser);
	ck_assert_int_eq(a->valid_until, 1700000000);
	ck_assert_uint_eq(a->limits->max_qos_plus_one, 2);
	ck_assert_uint_eq(a->limits->byte_rate, UINT64_MAX);
	ck_assert_uint_eq(a->limits->max_inflight, 7);
	ck_assert_uint_eq(a->cache_ttl_ms, 30000);
	ck_assert(!a->no_store);
	ck_assert_uint_eq(a->attribute_count, 2);
	ck_assert(is(a->attributes[0].name, "tenant") && is(a->attributes[0].value, "t1"));
	ck_assert(is(a->attributes[1].name, "role") && is(a->attributes[1].value, ""));
	ck_assert_ptr_null(a->rules);
}
END_TEST

START_TEST(nothing_said_is_an_answer_without_details)
{
	const struct grapnel_auth_answer *a = answer();

	ck_assert_uint_eq(a->size, sizeof(*a));
	ck_assert_ptr_null(a->username.data);
	ck_assert_ptr_null(a->limits);
	ck_assert_ptr_null(a->rules);
	ck_assert(!a->superuser && !a->no_store);
}
END_TEST

START_TEST(cache_ttl_0_is_not_to_be_kept_and_a_long_one_does_not_wrap)
{
	ck_assert(set("cache_ttl", "0"));
	ck_assert(g.answer.no_store);
	ck_assert(set("cache_ttl", "4294968"));
	ck_assert(!g.answer.no_store);
	ck_assert_uint_eq(g.answer.cache_ttl_ms, UINT32_MAX - 1);
}
END_TEST

static const char *const truths[] = { "t", "T", "true", "True", "yes", "Y", "1", "on" };
static const char *const lies[] = { "", "f", "false", "no", "0", "2", "truee", "01", " 1", "off" };

START_TEST(only_the_known_words_are_true)
{
	for (size_t i = 0; i < sizeof(truths) / sizeof(*truths); i++)
		ck_assert_msg(grant_is_true(str(truths[i])), "%s", truths[i]);
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++)
		ck_assert_msg(!grant_is_true(str(lies[i])), "%s", lies[i]);
	ck_assert(!grant_is_true(str(NULL)));
	ck_assert(!grant_is_true((struct grapnel_str){ "1\0", 2 }));
	ck_assert(set("superuser", "1") && set("superuser", "no"));
	ck_assert(!answer()->superuser);
}
END_TEST

static const struct {
	const char *name, *value, *error;
} bad[] = {
	{ "username", "", "empty" },
	{ "username", "a\nb", "control" },
	{ "username", "a\xff", "UTF-8" },
	{ "mountpoint", "a/+/", "wildcard" },
	{ "mountpoint", "#", "wildcard" },
	{ "max_qos", "3", "max_qos" },
	{ "max_inflight", "4294967296", "max_inflight" },
	{ "max_inflight", "-1", "max_inflight" },
	{ "max_inflight", "1.0", "max_inflight" },
	{ "max_inflight", "", "max_inflight" },
	{ "byte_rate", "18446744073709551616", "byte_rate" },
	{ "valid_until", "tomorrow", "valid_until" },
	{ "cache_ttl", "1m", "cache_ttl" },
	{ "password", "secret", "password" },
	{ "cert.cn", "x", "connection" },
	{ "tls.sni", "x", "connection" },
	{ "a.b", "x", "connection" },
	{ "", "x", "a-z" },
	{ "Tenant", "x", "a-z" },
	{ "ten ant", "x", "ten?ant" },
	{ "?column?", "x", "a-z" },
	{ "role", "\xc0\x80", "UTF-8" },
	{ "role", "\xed\xa0\x80", "UTF-8" },
};

START_TEST(what_is_not_usable_spoils_the_answer)
{
	ck_assert(!set(bad[_i].name, bad[_i].value));
	ck_assert_msg(strstr(g.error, bad[_i].error) != NULL, "%s=%s: %s", bad[_i].name,
	    bad[_i].value, g.error);
	ck_assert_ptr_null(strstr(g.error, "secret"));
	ck_assert_ptr_null(grant_answer(&g, str("test")));
}
END_TEST

START_TEST(nul_is_in_no_text)
{
	ck_assert(!grant_set(&g, str("role"), (struct grapnel_str){ "a\0b", 3 }));
	ck_assert(!grant_set(&g, str("username"), (struct grapnel_str){ "a\0b", 3 }));
	ck_assert(!grant_set(&g, (struct grapnel_str){ "role\0", 5 }, str("x")));
}
END_TEST

START_TEST(attributes_and_bytes_are_bounded)
{
	static char big[60000];
	char name[20];

	memset(big, 'x', sizeof(big) - 1);
	for (unsigned i = 0; i < GRANT_MAX_ATTRIBUTES; i++) {
		snprintf(name, sizeof(name), "a%u", i);
		ck_assert(set(name, i < 8 ? big : "x"));
	}
	ck_assert(set("a0", "replaced"));
	ck_assert(!set("one-more", "x"));
	ck_assert_ptr_nonnull(strstr(g.error, "more than 32 attributes"));
	teardown();
	setup();
	for (unsigned i = 0; i < 17; i++)
		ck_assert(set("a", big));
	ck_assert(!set("a", big));
	ck_assert_ptr_nonnull(strstr(g.error, "1024 KiB"));
}
END_TEST

START_TEST(rules_are_bounded)
{
	struct grant_rule rule = { .topic = str("a") };

	for (unsigned i = 0; i < GRANT_MAX_RULES; i++)
		ck_assert(grant_add_rule(&g, &rule));
	ck_assert(!grant_add_rule(&g, &rule));
	ck_assert_ptr_nonnull(strstr(g.error, "10000 rules"));
}
END_TEST

START_TEST(a_row_is_a_rule)
{
	ck_assert(grant_add_rule(&g,
	    &(struct grant_rule){
		.permission = str("DENY"), .action = str("publish"), .topic = str("a/secret") }));
	ck_assert(grant_add_rule(&g,
	    &(struct grant_rule){ .action = str("publish"),
		.topic = str("a/#"),
		.qos = str("1"),
		.retain = str("0") }));
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("%u/%{tenant}/x") }));
	ck_assert(grant_add_rule(
	    &g, &(struct grant_rule){ .action = str("read"), .topic = str("r"), .qos = str("0") }));
	ck_assert(grant_add_rule(&g,
	    &(struct grant_rule){ .action = str("subscribe"), .topic = str("sp ace/\"q\"/\\/#") }));
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "a/secret"), GRAPNEL_DENY);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "a/b"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may_as("u", GRAPNEL_PUBLISH, "a/b", 2, false), GRAPNEL_NEXT);
	ck_assert_int_eq(may_as("u", GRAPNEL_PUBLISH, "a/b", 1, true), GRAPNEL_NEXT);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "a/b"), GRAPNEL_NEXT);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "u/t1/x"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "u/t1/x"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_READ, "u/t1/x"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_READ, "r"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "r"), GRAPNEL_NEXT);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "sp ace/\"q\"/\\/#"), GRAPNEL_ALLOW);
}
END_TEST

static const struct {
	const char *access;
	bool read, publish, subscribe;
} accesses[] = {
	{ "1", true, false, false },
	{ "2", false, true, false },
	{ "3", true, true, false },
	{ "4", true, false, true }, /* subscribing includes reading */
	{ "5", true, false, true },
	{ "6", true, true, true },
	{ "7", true, true, true },
};

START_TEST(access_is_the_sum_of_mosquitto_go_auth)
{
	ck_assert(grant_add_rule(
	    &g, &(struct grant_rule){ .access = str(accesses[_i].access), .topic = str("a") }));
	ck_assert_int_eq(may(GRAPNEL_READ, "a") == GRAPNEL_ALLOW, accesses[_i].read);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "a") == GRAPNEL_ALLOW, accesses[_i].publish);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "a") == GRAPNEL_ALLOW, accesses[_i].subscribe);
}
END_TEST

START_TEST(access_0_denies)
{
	ck_assert(
	    grant_add_rule(&g, &(struct grant_rule){ .access = str("0"), .topic = str("a") }));
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("#") }));
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "a"), GRAPNEL_DENY);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "b"), GRAPNEL_ALLOW);
}
END_TEST

static const struct {
	struct grant_rule rule;
	const char *error;
} bad_rules[] = {
	{ { .topic = { NULL, 0 } }, "no topic" },
	{ { .topic = { "", 0 } }, "no topic" },
	{ { .topic = { "a\nallow all #", 13 } }, "control" },
	{ { .topic = { "a\rb", 3 } }, "control" },
	{ { .topic = { "a\0b", 3 } }, "control" },
	{ { .topic = { "a\x7f", 2 } }, "control" },
	{ { .topic = { "a\xc2\x85", 3 } }, "control" }, /* NEL */
	{ { .topic = { "a\xff", 2 } }, "UTF-8" },
	{ { .topic = { "a", 1 }, .permission = { "maybe", 5 } }, "permission" },
	{ { .topic = { "a", 1 }, .permission = { "", 0 } }, "permission" },
	{ { .topic = { "a", 1 }, .action = { "write", 5 } }, "action" },
	{ { .topic = { "a", 1 }, .action = { "all #\nallow all", 14 } }, "action" },
	{ { .topic = { "a", 1 }, .access = { "8", 1 } }, "access" },
	{ { .topic = { "a", 1 }, .access = { "", 0 } }, "access" },
	{ { .topic = { "a", 1 }, .access = { "1", 1 }, .action = { "read", 4 } }, "both" },
	{ { .topic = { "a", 1 }, .qos = { "3", 1 } }, "qos" },
	{ { .topic = { "a", 1 }, .retain = { "2", 1 } }, "retain" },
	{ { .topic = { "a", 1 }, .permission = { "deny", 4 }, .qos = { "1", 1 } }, "denies" },
	{ { .topic = { "a", 1 }, .permission = { "deny", 4 }, .retain = { "0", 1 } }, "denies" },
};

START_TEST(a_row_that_is_no_rule_spoils_all_of_them)
{
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("good") }));
	ck_assert(!grant_add_rule(&g, &bad_rules[_i].rule));
	ck_assert_msg(strstr(g.error, bad_rules[_i].error) != NULL, "row %d: %s", _i, g.error);
	ck_assert_ptr_null(grant_compile(&g, str("test")));
	ck_assert_ptr_null(grant_answer(&g, str("test")));
}
END_TEST

/* Each is one rule for one odd topic, and gives nothing else. */
static const char *const hostile[] = {
	"a\" retain=no",
	"\"",
	"\\",
	"a\\\"",
	"a\" qos<=0",
	"a # comment",
	"#a",
	"a b",
	"\\\" all #",
	"everyone",
	"%%u",
	"%{x}\"",
};

START_TEST(no_topic_adds_a_rule_or_a_word)
{
	struct grapnel_rules *rules;

	ck_assert(grant_add_rule(
	    &g, &(struct grant_rule){ .action = str("publish"), .topic = str(hostile[_i]) }));
	rules = grant_compile(&g, str("test"));
	if (rules == NULL) /* not a Topic Filter: "#a" */
		return;
	acl_rules_unref(rules);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "other"), GRAPNEL_NEXT);
	ck_assert_int_eq(may(GRAPNEL_SUBSCRIBE, "a"), GRAPNEL_NEXT);
	if (strchr(hostile[_i], '%') == NULL) /* and that topic is the one it says, retained too */
		ck_assert_int_eq(may_as("u", GRAPNEL_PUBLISH, hostile[_i], 2, true), GRAPNEL_ALLOW);
}
END_TEST

START_TEST(a_wildcard_in_a_user_name_gives_nothing)
{
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("home/%u/x") }));
	ck_assert_int_eq(may_as("u", GRAPNEL_PUBLISH, "home/u/x", 0, false), GRAPNEL_ALLOW);
	ck_assert_int_eq(may_as("+", GRAPNEL_PUBLISH, "home/u/x", 0, false), GRAPNEL_NEXT);
	ck_assert_int_eq(may_as("+", GRAPNEL_SUBSCRIBE, "home/+/x", 0, false), GRAPNEL_NEXT);
	ck_assert_int_eq(
	    may_as("u/x\"\nallow all #\n", GRAPNEL_PUBLISH, "y", 0, false), GRAPNEL_NEXT);
}
END_TEST

START_TEST(ready_made_rules_end_where_rows_begin)
{
	ck_assert(set("acl", "user bob\nallow all b/#"));
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("a") }));
	ck_assert(set("acl", "deny all c\nuser bob\nallow all c"));
	ck_assert(set("acl", "allow all c"));
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "a"), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "b/1"), GRAPNEL_NEXT);
	ck_assert_int_eq(may_as("bob", GRAPNEL_PUBLISH, "b/1", 0, false), GRAPNEL_ALLOW);
	ck_assert_int_eq(may(GRAPNEL_PUBLISH, "c"), GRAPNEL_DENY);
}
END_TEST

START_TEST(rules_that_do_not_compile_spoil_the_answer)
{
	ck_assert(set("acl", "allow all a\nallow nothing b"));
	ck_assert_ptr_null(grant_answer(&g, str("auth-x")));
	ck_assert_ptr_nonnull(strstr(g.error, "auth-x:2: "));
	teardown();
	setup();
	ck_assert(set("acl", "allow all \"a"));
	ck_assert(grant_add_rule(&g, &(struct grant_rule){ .topic = str("b") }));
	ck_assert_ptr_null(grant_answer(&g, str("auth-x")));
}
END_TEST

START_TEST(a_source_without_rules_allows_nothing)
{
	struct grapnel_rules_question q = {
		.size = sizeof(q), .action = GRAPNEL_PUBLISH, .topic = str("a")
	};
	const struct grapnel_auth_answer *a;

	grant_want_rules(&g);
	a = answer();
	ck_assert_ptr_nonnull(a->rules);
	ck_assert_int_eq(acl_rules_check(a->rules, &q, NULL, NULL), GRAPNEL_NEXT);
	teardown();
	setup();
	ck_assert(set("acl", ""));
	ck_assert_ptr_nonnull(answer()->rules);
}
END_TEST

static const struct {
	const char *text;
	int64_t seconds; /* -1: not a time */
} times[] = {
	{ "1893456000", 1893456000 },
	{ "0", 0 },
	{ "infinity", 0 },
	{ "2030-01-01 00:00:00", 1893456000 },
	{ "2030-01-01T00:00:00Z", 1893456000 },
	{ "2030-01-01T00:00:00.999999Z", 1893456000 },
	{ "2030-01-01 02:30:00+02:30", 1893456000 },
	{ "2030-01-01 02:00:00+02", 1893456000 },
	{ "2029-12-31 20:30:00-0330", 1893456000 },
	{ "2024-02-29 23:59:59+00", 1709251199 },
	{ "2000-03-01 00:00:00", 951868800 },
	{ "9999-12-31 23:59:59", 253402300799 },
	{ "1970-01-01 00:00:00", 1 }, /* over, not without end */
	{ "1969-12-31 23:59:59", 1 },
	{ "0001-01-01 00:00:00", 1 },
	{ "0000-00-00 00:00:00", -1 }, /* MySQL's nothing */
	{ "2023-02-29 00:00:00", -1 },
	{ "2100-02-29 00:00:00", -1 },
	{ "2030-13-01 00:00:00", -1 },
	{ "2030-01-01 24:00:00", -1 },
	{ "2030-01-01", -1 },
	{ "2030-01-01 00:00", -1 },
	{ "2030-01-01 00:00:00.", -1 },
	{ "2030-01-01 00:00:00 UTC", -1 },
	{ "2030-01-01 00:00:00+", -1 },
	{ "2030-01-01 00:00:00+25", -1 },
	{ "2030-01-01 00:00:00Zx", -1 },
	{ "-1", -1 },
	{ "1e9", -1 },
	{ " 1", -1 },
	{ "", -1 },
	{ "9999999999999999", -1 },
};

START_TEST(times_are_read_as_backends_write_them)
{
	int64_t got = -1;
	bool is_time = grant_time(str(times[_i].text), &got);

	ck_assert_msg(is_time == (times[_i].seconds >= 0), "%s", times[_i].text);
	if (is_time)
		ck_assert_msg(got == times[_i].seconds, "%s: %lld", times[_i].text, (long long)got);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int
main(void)
{
	Suite *s = suite_create("grant");
	TCase *tc = tcase_create("grant");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, pairs_become_an_answer);
	tcase_add_test(tc, nothing_said_is_an_answer_without_details);
	tcase_add_test(tc, cache_ttl_0_is_not_to_be_kept_and_a_long_one_does_not_wrap);
	tcase_add_test(tc, only_the_known_words_are_true);
	tcase_add_loop_test(tc, what_is_not_usable_spoils_the_answer, 0, ROWS(bad));
	tcase_add_test(tc, nul_is_in_no_text);
	tcase_add_test(tc, attributes_and_bytes_are_bounded);
	tcase_add_test(tc, rules_are_bounded);
	tcase_add_test(tc, a_row_is_a_rule);
	tcase_add_loop_test(tc, access_is_the_sum_of_mosquitto_go_auth, 0, ROWS(accesses));
	tcase_add_test(tc, access_0_denies);
	tcase_add_loop_test(tc, a_row_that_is_no_rule_spoils_all_of_them, 0, ROWS(bad_rules));
	tcase_add_loop_test(tc, no_topic_adds_a_rule_or_a_word, 0, ROWS(hostile));
	tcase_add_test(tc, a_wildcard_in_a_user_name_gives_nothing);
	tcase_add_test(tc, ready_made_rules_end_where_rows_begin);
	tcase_add_test(tc, rules_that_do_not_compile_spoil_the_answer);
	tcase_add_test(tc, a_source_without_rules_allows_nothing);
	tcase_add_loop_test(tc, times_are_read_as_backends_write_them, 0, ROWS(times));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
