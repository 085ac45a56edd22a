/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/common/template.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_pair attributes[] = {
	{ { "cert.cn", 7 }, { "dev", 3 } },
	{ { "tenant", 6 }, { "t1", 2 } },
};
static const struct grapnel_client_info client = {
	.size = sizeof(client),
	.client_id = { "c-7", 3 },
	.username = { "al%uice", 7 },
	.peer = { "[2001:db8::1]:4", 15 },
	.listener = { "main", 4 },
	.attributes = attributes,
	.attribute_count = 2,
};

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static struct template *
parse(const char *text, unsigned allowed)
{
	char error[200] = "";
	struct template *t = template_parse(str(text), allowed, error, sizeof(error));

	ck_assert_msg(t != NULL, "%s: %s", text, error);
	return t;
}

static const struct {
	const char *text, *filled; /* NULL: absent */
} fills[] = {
	{ "", "" },
	{ "plain", "plain" },
	{ "%u", "al%uice" }, /* a value is not looked into */
	{ "%u%c", "al%uicec-7" },
	{ "a%%u%%", "a%u%" },
	{ "%t/%a/%q/%r", "a/b/subscribe/1/0" },
	{ "%h|%l|%m|", "2001:db8::1|main||" },
	{ "x%{tenant}y%{cert.cn}z", "xt1ydevz" },
	{ "x%{role}", NULL },
	{ "x%p", NULL },
};

START_TEST(places_are_filled_from_the_question)
{
	struct grapnel_acl_check q = { .size = sizeof(q),
		.client = &client,
		.action = GRAPNEL_SUBSCRIBE,
		.qos = 1,
		.topic = { "a/b", 3 } };
	struct template_values values = template_of_acl(&q);
	struct template *t = parse(fills[_i].text, TEMPLATE_ACL | TEMPLATE_PASSWORD);
	const char *why = NULL;
	size_t len = 0;
	char *got = template_fill(t, &values, NULL, &len, &why);

	if (fills[_i].filled == NULL) {
		ck_assert_ptr_null(got);
		ck_assert_ptr_nonnull(why);
	} else {
		ck_assert_str_eq(got, fills[_i].filled);
		ck_assert_uint_eq(len, strlen(got));
	}
	free(got);
	template_free(t);
}
END_TEST

START_TEST(an_absent_user_name_makes_the_text_absent_an_empty_one_does_not)
{
	struct grapnel_client_info nobody = { .size = sizeof(nobody) };
	struct grapnel_authenticate q = {
		.size = sizeof(q), .client = &nobody, .password = { "s\0t", 3 }
	};
	struct template_values values = template_of_login(&q);
	struct template *t = parse("u=%u", TEMPLATE_CLIENT), *p = parse("%p", TEMPLATE_PASSWORD);
	const char *why;
	size_t len;
	char *got;

	ck_assert_ptr_null(template_fill(t, &values, NULL, &len, &why));
	ck_assert_str_eq(why, "the client has no user name");
	nobody.username = (struct grapnel_str){ "", 0 };
	got = template_fill(t, &values, NULL, &len, &why);
	ck_assert_str_eq(got, "u=");
	free(got);
	/* any byte goes through when nothing is escaped */
	got = template_fill(p, &values, NULL, &len, &why);
	ck_assert_uint_eq(len, 3);
	ck_assert_mem_eq(got, "s\0t", 4);
	free(got);
	template_free(t);
	template_free(p);
}
END_TEST

static size_t
twice(char *out, size_t room, struct grapnel_str value)
{
	if (memchr(value.data, '!', value.len) != NULL)
		return SIZE_MAX;
	if (2 * value.len <= room)
		for (size_t i = 0; i < 2 * value.len; i++)
			out[i] = value.data[i / 2];
	return 2 * value.len;
}

START_TEST(values_are_escaped_literals_are_not)
{
	struct template_values values = { .client = &client, .topic = { "a/b", 3 } };
	struct template *t = parse("x%t%%%{tenant}", TEMPLATE_ACL);
	const char *why = NULL;
	size_t len;
	char *got = template_fill(t, &values, twice, &len, &why);

	ck_assert_str_eq(got, "xaa//bb%tt11");
	free(got);
	values.topic = str("a!");
	ck_assert_ptr_null(template_fill(t, &values, twice, &len, &why));
	ck_assert_ptr_nonnull(strstr(why, "cannot stand there"));
	template_free(t);
}
END_TEST

static const struct {
	const char *text, *error;
} faults[] = {
	{ "a%", "must be followed by" },
	{ "a%x", "must be followed by" },
	{ "%U", "must be followed by" },
	{ "%t", "%t has no meaning here" },
	{ "%{tenant}", "%{...} has no meaning here" },
	{ "%{", "needs the name" },
	{ "%{}", "needs the name" },
	{ "%{a b}", "is of a-z" },
	{ "%{A}", "is of a-z" },
};

START_TEST(what_has_no_meaning_is_an_error)
{
	unsigned allowed = TEMPLATE_USERNAME | (_i >= 5 ? TEMPLATE_ATTRIBUTE : 0);
	char error[200] = "";

	ck_assert_ptr_null(template_parse(str(faults[_i].text), allowed, error, sizeof(error)));
	ck_assert_msg(strstr(error, faults[_i].error) != NULL, "%s: %s", faults[_i].text, error);
}
END_TEST

START_TEST(the_number_of_places_is_bounded)
{
	char text[4 * TEMPLATE_MAX_PLACES + 8], error[200];
	struct template *t;
	size_t n = 0;

	for (unsigned i = 0; i < TEMPLATE_MAX_PLACES; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "x%%u");
	snprintf(text + n, sizeof(text) - n, "x");
	t = parse(text, TEMPLATE_CLIENT);
	ck_assert_uint_eq(template_count(t), 2 * TEMPLATE_MAX_PLACES + 1);
	ck_assert_int_eq(template_part(t, 1)->field, TEMPLATE_USERNAME);
	ck_assert_int_eq(template_part(t, 2)->field, 0);
	ck_assert_uint_eq(template_part(t, 2)->text.len, 1);
	template_free(t);
	snprintf(text + n, sizeof(text) - n, "x%%u");
	ck_assert_ptr_null(template_parse(str(text), TEMPLATE_CLIENT, error, sizeof(error)));
	ck_assert_ptr_nonnull(strstr(error, "more than 64 places"));
}
END_TEST

START_TEST(what_a_text_depends_on_is_known)
{
	struct template *t = parse("%u %h %{a} %t %q", TEMPLATE_ACL);

	ck_assert_uint_eq(template_depends(t),
	    GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_ADDRESS | GRAPNEL_DEPENDS_ATTRIBUTES);
	ck_assert_uint_eq(template_fields(t),
	    TEMPLATE_USERNAME | TEMPLATE_ADDRESS | TEMPLATE_ATTRIBUTE | TEMPLATE_TOPIC |
		TEMPLATE_QOS);
	template_free(t);
}
END_TEST

static const struct {
	const char *peer, *address;
} peers[] = {
	{ "192.0.2.7:51234", "192.0.2.7" },
	{ "[2001:db8::1]:4", "2001:db8::1" },
	{ "2001:db8::1", "2001:db8::1" },
	{ "192.0.2.7", "192.0.2.7" },
	{ "unix:", "unix:" },
	{ "[broken", "[broken" },
	{ "", "" },
};

START_TEST(an_address_has_no_port)
{
	struct grapnel_str got = template_address(str(peers[_i].peer));

	ck_assert_uint_eq(got.len, strlen(peers[_i].address));
	ck_assert_mem_eq(got.data, peers[_i].address, got.len);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int
main(void)
{
	Suite *s = suite_create("template");
	TCase *tc = tcase_create("template");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, places_are_filled_from_the_question, 0, ROWS(fills));
	tcase_add_test(tc, an_absent_user_name_makes_the_text_absent_an_empty_one_does_not);
	tcase_add_test(tc, values_are_escaped_literals_are_not);
	tcase_add_loop_test(tc, what_has_no_meaning_is_an_error, 0, ROWS(faults));
	tcase_add_test(tc, the_number_of_places_is_bounded);
	tcase_add_test(tc, what_a_text_depends_on_is_known);
	tcase_add_loop_test(tc, an_address_has_no_port, 0, ROWS(peers));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
