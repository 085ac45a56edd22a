/* SPDX-License-Identifier: Apache-2.0 */
/* What JSON bodies mean to auth-http, with the rules that come of them. Over the wire: tests/integration/test_auth_http.py. */
#include "../plugins/auth-http/parts.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	enum dialect dialect;
	const char *acl;
	const char *rules; /* NULL: unusable */
} rule_cases[] = {
	{ DIALECT_GRAPNEL, "[]", "" }, { DIALECT_GRAPNEL, "\"allow read a\"", "allow read a\n" },
	{ DIALECT_GRAPNEL, "[\"allow read a\",{\"topic\":\"b \\\" c\"}]",
	    "allow read a\neveryone\nallow all \"b \\\" c\"\n" },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"action\":\"publish\",\"qos\":1,\"retain\":false}]",
	    "allow publish \"b\" qos<=1 retain=no\n" },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"access\":5}]",
	    "allow read \"b\"\nallow subscribe \"b\"\n" },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"permission\":\"deny\"}]", "deny all \"b\"\n" },
	{ DIALECT_GRAPNEL, "{}", NULL }, { DIALECT_GRAPNEL, "[7]", NULL },
	{ DIALECT_GRAPNEL, "[{}]", NULL }, { DIALECT_GRAPNEL, "[{\"topic\":7}]", NULL },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"action\":1}]", NULL },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"qos\":[1]}]", NULL },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"qos\":3}]", NULL },
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\",\"who\":\"x\"}]", NULL }, /* a condition */
	{ DIALECT_GRAPNEL, "[{\"topic\":\"b\\nallow all #\"}]", NULL },
	{ DIALECT_EMQX, "[{\"permission\":\"allow\",\"action\":\"all\",\"topic\":\"t/#\"}]",
	    "allow all \"t/#\"\n" },
	{ DIALECT_EMQX,
	    "[{\"permission\":\"allow\",\"action\":\"subscribe\",\"topic\":\"t\",\"qos\":[1,0]}]",
	    "allow subscribe \"t\" qos<=1\nallow read \"t\"\n" },
	{ DIALECT_EMQX, "[{\"permission\":\"deny\",\"action\":\"subscribe\",\"topic\":\"t\"}]",
	    "deny subscribe \"t\"\ndeny read \"t\"\n" },
	{ DIALECT_EMQX,
	    "[{\"action\":\"publish\",\"topic\":\"${username}/${clientid}/${client_attrs.a}/"
	    "5%u\"}]",
	    "allow publish \"%u/%c/%{a}/5%%u\"\n" },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"qos\":0,\"retain\":\"false\"}]",
	    "allow publish \"a\" qos<=0 retain=no\n" },
	{ DIALECT_EMQX,
	    "[{\"action\":\"publish\",\"topic\":\"a\",\"qos\":[0,1,2],\"retain\":\"all\"}]",
	    "allow publish \"a\"\n" },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"eq a\"}]", "allow publish \"a\"\n" },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"eq a/+\"}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"qos\":1}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"qos\":[]}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"qos\":[0,3]}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"retain\":true}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"${password}\"}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"${username\"}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\"}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"access\":1}]", NULL },
	{ DIALECT_EMQX, "[{\"action\":\"publish\",\"topic\":\"a\",\"username_re\":\"x\"}]", NULL },
	{ DIALECT_EMQX, "[\"allow all #\"]", NULL }, /* no rule of theirs */
};

START_TEST(rules_are_taken_whole_or_not_at_all)
{
	struct outcome out = { 0 };
	struct grant g;
	char body[400];

	(void)snprintf(body, sizeof(body), "{\"result\":\"allow\",\"acl\":%s}", rule_cases[_i].acl);
	grant_init(&g, NULL);
	answer_read_json(rule_cases[_i].dialect, ABOUT_LOGIN,
	    (struct grapnel_str){ body, strlen(body) }, &g, &out);
	if (rule_cases[_i].rules == NULL) {
		ck_assert_msg(out.verdict == GRAPNEL_UNAVAILABLE, "row %d: %s", _i, body);
		ck_assert_str_ne(out.error, "");
	} else {
		ck_assert_msg(out.verdict == GRAPNEL_ALLOW, "row %d: %s", _i, out.error);
		ck_assert(out.details && g.has_rules);
		ck_assert_uint_eq(g.rules_len, strlen(rule_cases[_i].rules));
		ck_assert_msg(
		    g.rules_len == 0 || memcmp(g.rules, rule_cases[_i].rules, g.rules_len) == 0,
		    "row %d: %.*s", _i, (int)g.rules_len, g.rules);
	}
	grant_fini(&g);
}
END_TEST

static const struct {
	const char *body;
	enum grapnel_verdict verdict;
	uint8_t max_qos_plus_one;
} right_cases[] = {
	{ "{\"result\":\"allow\"}", GRAPNEL_ALLOW, 0 },
	{ "{\"result\":\"allow\",\"max_qos\":0}", GRAPNEL_ALLOW, 1 },
	{ "{\"result\":\"allow\",\"max_qos\":2,\"acl\":7}", GRAPNEL_ALLOW, 3 },
	{ "{\"result\":\"allow\",\"max_qos\":null}", GRAPNEL_ALLOW, 0 },
	{ "{\"result\":\"allow\",\"max_qos\":3}", GRAPNEL_UNAVAILABLE, 0 },
	{ "{\"result\":\"allow\",\"max_qos\":-1}", GRAPNEL_UNAVAILABLE, 0 },
	{ "{\"result\":\"allow\",\"max_qos\":\"1\"}", GRAPNEL_UNAVAILABLE, 0 },
	{ "{\"result\":\"deny\"}", GRAPNEL_DENY, 0 },
	{ "{\"result\":\"ignore\"}", GRAPNEL_NEXT, 0 },
	{ "{\"result\":null}", GRAPNEL_UNAVAILABLE, 0 },
	{ "{\"result\":[\"allow\"]}", GRAPNEL_UNAVAILABLE, 0 },
};

START_TEST(a_right_has_a_result_and_perhaps_a_qos)
{
	struct outcome out = { 0 };

	answer_read_json(DIALECT_GRAPNEL, ABOUT_ACL,
	    (struct grapnel_str){ right_cases[_i].body, strlen(right_cases[_i].body) }, NULL, &out);
	ck_assert_msg(out.verdict == right_cases[_i].verdict, "row %d: %s", _i, out.error);
	ck_assert_uint_eq(out.max_qos_plus_one, right_cases[_i].max_qos_plus_one);
	ck_assert((out.error[0] != '\0') == (out.verdict == GRAPNEL_UNAVAILABLE));
}
END_TEST

START_TEST(a_reason_is_taken_when_it_fits)
{
	struct outcome out = { 0 };
	char body[400];

	(void)snprintf(body, sizeof(body), "{\"result\":\"deny\",\"reason\":\"%0255d\"}", 0);
	answer_read_json(
	    DIALECT_GRAPNEL, ABOUT_LOGIN, (struct grapnel_str){ body, strlen(body) }, NULL, &out);
	ck_assert_uint_eq(strlen(out.reason), 255);
	memset(&out, 0, sizeof(out));
	(void)snprintf(body, sizeof(body), "{\"result\":\"deny\",\"reason\":\"%0256d\"}", 0);
	answer_read_json(
	    DIALECT_GRAPNEL, ABOUT_LOGIN, (struct grapnel_str){ body, strlen(body) }, NULL, &out);
	ck_assert_str_eq(out.reason, "");
	ck_assert_int_eq(out.verdict, GRAPNEL_DENY);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

int
main(void)
{
	Suite *s = suite_create("auth_http_answer");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, rules_are_taken_whole_or_not_at_all, 0, ROWS(rule_cases));
	tcase_add_loop_test(tc, a_right_has_a_result_and_perhaps_a_qos, 0, ROWS(right_cases));
	tcase_add_test(tc, a_reason_is_taken_when_it_fits);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
