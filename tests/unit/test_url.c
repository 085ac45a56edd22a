/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/api.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *text;
	unsigned count;
	const char *segments[3];
} path_cases[] = {
	{ "/", 0, { NULL } },
	{ "/metrics", 1, { "metrics" } },
	{ "/v1/clients/plain", 3, { "v1", "clients", "plain" } },
	{ "/v1/clients/a%2Fb%20c", 3,
	    { "v1", "clients", "a/b c" } },                     /* a '/' in an id stays in it */
	{ "/v1/clients/a+b", 3, { "v1", "clients", "a+b" } },   /* '+' is a blank in queries only */
	{ "/v1/clients/%252F", 3, { "v1", "clients", "%2F" } }, /* decoded once */
	{ "/v1/clients/d%C3%A9v", 3, { "v1", "clients", "d\xc3\xa9v" } },
	{ "/v1/clients/..", 3, { "v1", "clients", ".." } }, /* a client may be called so */
	{ "/v1/clients/%1b%5b31m", 3, { "v1", "clients", "\x1b[31m" } },
};
START_TEST(path_is_split_before_it_is_decoded)
{
	struct api_path p;

	ck_assert_int_eq(api_path_parse(&p, path_cases[_i].text), GRAPNEL_OK);
	ck_assert_uint_eq(p.count, path_cases[_i].count);
	for (unsigned i = 0; i < p.count; i++)
		ck_assert_str_eq(p.segments[i], path_cases[_i].segments[i]);
	api_path_clear(&p);
	ck_assert_uint_eq(p.count, 0);
}
END_TEST

static const char *const bad_paths[] = {
	NULL,
	"",
	"v1/status",
	"/v1/",
	"/v1//status",
	"//",
	"/v1/clients/a%00b", /* would reach client "a" */
	"/v1/clients/%",
	"/v1/clients/%4",
	"/v1/clients/%zz",
	"/v1/clients/%ff",       /* not UTF-8 */
	"/v1/clients/%c0%80",    /* U+0000, overlong */
	"/v1/clients/%ed%a0%80", /* a surrogate */
	"/1/2/3/4/5/6/7/8/9",
};
START_TEST(malformed_path_is_refused_and_nothing_is_held)
{
	struct api_path p;

	ck_assert_int_eq(api_path_parse(&p, bad_paths[_i]), GRAPNEL_EINVAL);
	ck_assert_uint_eq(p.count, 0);
}
END_TEST

START_TEST(query_gives_decoded_values_by_name)
{
	struct api_query q;

	ck_assert_int_eq(
	    api_query_parse(&q, "limit=10&after=a%2Fb%26c&username=two+words&empty="), GRAPNEL_OK);
	ck_assert_str_eq(api_query_get(&q, "limit"), "10");
	ck_assert_str_eq(api_query_get(&q, "after"), "a/b&c");
	ck_assert_str_eq(api_query_get(&q, "username"), "two words");
	ck_assert_str_eq(api_query_get(&q, "empty"), "");
	ck_assert_ptr_null(api_query_get(&q, "lim"));
	api_query_clear(&q);
	ck_assert_ptr_null(api_query_get(&q, "limit"));
}
END_TEST

START_TEST(no_query_has_no_values)
{
	struct api_query q;

	ck_assert_int_eq(api_query_parse(&q, NULL), GRAPNEL_OK);
	ck_assert_uint_eq(q.count, 0);
	ck_assert_int_eq(api_query_parse(&q, ""), GRAPNEL_OK);
	ck_assert_uint_eq(q.count, 0);
}
END_TEST

static const char *const bad_queries[] = {
	"limit",
	"=1",
	"a=1&a=2",
	"a=%00",
	"a=%f",
	"a=%ff",
	"a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1&j=1&k=1&l=1&m=1&n=1&o=1&p=1&q=1",
};
START_TEST(malformed_query_is_refused_and_nothing_is_held)
{
	struct api_query q;

	ck_assert_msg(
	    api_query_parse(&q, bad_queries[_i]) == GRAPNEL_EINVAL, "%s", bad_queries[_i]);
	ck_assert_uint_eq(q.count, 0);
}
END_TEST

static const struct {
	const char *query;
	bool good;
	unsigned value;
} number_cases[] = {
	{ "", true, 100 },
	{ "limit=1", true, 1 },
	{ "limit=1000", true, 1000 },
	{ "limit=0", false, 0 },
	{ "limit=1001", false, 0 },
	{ "limit=-1", false, 0 },
	{ "limit=", false, 0 },
	{ "limit=1x", false, 0 },
	{ "limit=%201", false, 0 },
	{ "limit=4294967297", false, 0 }, /* 1 when cut to 32 bits */
	{ "limit=18446744073709551617", false, 0 },
};
START_TEST(number_is_taken_only_within_its_range)
{
	struct api_query q;
	unsigned value = 7;

	ck_assert_int_eq(api_query_parse(&q, number_cases[_i].query), GRAPNEL_OK);
	ck_assert_msg(api_query_number(&q, "limit", 100, 1, 1000, &value) == number_cases[_i].good,
	    "%s", number_cases[_i].query);
	if (number_cases[_i].good)
		ck_assert_uint_eq(value, number_cases[_i].value);
	api_query_clear(&q);
}
END_TEST

static const struct {
	const char *query;
	bool good;
	int value;
} switch_cases[] = {
	{ "", true, -1 },
	{ "online=yes", true, 1 },
	{ "online=no", true, 0 },
	{ "online=true", true, 1 },
	{ "online=0", true, 0 },
	{ "online=", false, 0 },
	{ "online=YES", false, 0 },
	{ "online=2", false, 0 },
};
START_TEST(switch_knows_yes_and_no)
{
	struct api_query q;
	int value = 7;

	ck_assert_int_eq(api_query_parse(&q, switch_cases[_i].query), GRAPNEL_OK);
	ck_assert_msg(api_query_switch(&q, "online", &value) == switch_cases[_i].good, "%s",
	    switch_cases[_i].query);
	if (switch_cases[_i].good)
		ck_assert_int_eq(value, switch_cases[_i].value);
	api_query_clear(&q);
}
END_TEST

START_TEST(every_id_survives_encoding_and_decoding)
{
	static const char *const ids[] = { "a/b?c#d", "100%", "two words", "a&b=c+d", "..",
		"d\xc3\xa9v", "\x1b\x7f\n", "\"'<>" };
	char path[256];
	struct api_path p;
	char *encoded;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		ck_assert_ptr_nonnull(encoded = api_encode(ids[i]));
		snprintf(path, sizeof(path), "/v1/clients/%s", encoded);
		free(encoded);
		ck_assert_int_eq(api_path_parse(&p, path), GRAPNEL_OK);
		ck_assert_uint_eq(p.count, 3);
		ck_assert_str_eq(p.segments[2], ids[i]);
		api_path_clear(&p);
	}
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

int
main(void)
{
	Suite *s = suite_create("url");
	TCase *t = tcase_create("url");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, path_is_split_before_it_is_decoded, 0, ROWS(path_cases));
	tcase_add_loop_test(t, malformed_path_is_refused_and_nothing_is_held, 0, ROWS(bad_paths));
	tcase_add_test(t, query_gives_decoded_values_by_name);
	tcase_add_test(t, no_query_has_no_values);
	tcase_add_loop_test(
	    t, malformed_query_is_refused_and_nothing_is_held, 0, ROWS(bad_queries));
	tcase_add_loop_test(t, number_is_taken_only_within_its_range, 0, ROWS(number_cases));
	tcase_add_loop_test(t, switch_knows_yes_and_no, 0, ROWS(switch_cases));
	tcase_add_test(t, every_id_survives_encoding_and_decoding);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
