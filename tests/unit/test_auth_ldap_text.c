/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/auth-ldap/text.h"

#include <check.h>
#include <ldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE(s)                   \
	{                          \
		(s), sizeof(s) - 1 \
	}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static const struct {
	struct grapnel_str value;
	const char *filter;
} filters[] = {
	{ VALUE("alice"), "alice" },
	{ VALUE("*)(uid=*"), "\\2a\\29\\28uid=\\2a" },
	{ VALUE("a\\b"), "a\\5cb" },
	{ VALUE("a\0b"), "a\\00b" },
	{ VALUE(""), "" },
};

START_TEST(a_value_in_a_filter_is_only_a_value)
{
	char out[64];
	size_t n = text_escape_filter(out, sizeof(out), filters[_i].value);

	ck_assert_uint_eq(n, strlen(filters[_i].filter));
	out[n] = '\0';
	/* RFC 4515 takes both cases of a digit. */
	for (char *c = out; (c = strchr(c, '\\')) != NULL; c += 3)
		for (unsigned i = 1; i <= 2; i++)
			if (c[i] >= 'A' && c[i] <= 'F')
				c[i] = (char)(c[i] + 32);
	ck_assert_str_eq(out, filters[_i].filter);
	/* Without room it says how much it needs. */
	ck_assert_uint_eq(text_escape_filter(NULL, 0, filters[_i].value), n);
}
END_TEST

static const struct grapnel_str dn_values[] = {
	VALUE("alice"),
	VALUE("x,ou=y"),
	VALUE("x+cn=y"),
	VALUE("\"q\" \\ <a>; b"),
	VALUE("#616c"),
	VALUE(" leading"),
	VALUE("trailing "),
	VALUE(" "),
	VALUE("a=b"),
	VALUE("a\0b"),
	VALUE("\xc3\xbc"),
	VALUE("line\r\nline"),
};

/* Whatever it is: a parser finds one RDN of one attribute with this value. */
START_TEST(a_value_in_a_dn_is_only_a_value)
{
	char dn[256] = "uid=";
	size_t n = text_escape_dn(dn + 4, sizeof(dn) - 4 - 16, dn_values[_i]);
	LDAPDN parsed = NULL;

	ck_assert_uint_lt(n, 200);
	ck_assert_uint_eq(text_escape_dn(NULL, 0, dn_values[_i]), n);
	memcpy(dn + 4 + n, ",dc=test", sizeof(",dc=test"));
	ck_assert_uint_eq(strlen(dn), 4 + n + 8);
	ck_assert_int_eq(ldap_str2dn(dn, &parsed, LDAP_DN_FORMAT_LDAPV3), LDAP_SUCCESS);
	ck_assert_ptr_nonnull(parsed[0]);
	ck_assert_ptr_nonnull(parsed[1]);
	ck_assert_ptr_null(parsed[2]);
	ck_assert_ptr_null(parsed[0][1]);
	ck_assert_uint_eq(parsed[0][0]->la_value.bv_len, dn_values[_i].len);
	ck_assert_mem_eq(parsed[0][0]->la_value.bv_val, dn_values[_i].data, dn_values[_i].len);
	ldap_dnfree(parsed);
}
END_TEST

START_TEST(what_is_not_utf8_is_in_no_dn)
{
	char out[64];

	ck_assert_uint_eq(
	    text_escape_dn(out, sizeof(out), (struct grapnel_str)VALUE("a\xff")), SIZE_MAX);
}
END_TEST

static const struct {
	const char *a, *b;
	bool same;
} dns[] = {
	{ "cn=staff,ou=groups,dc=test", "CN=Staff, OU=groups , dc=TEST", true },
	{ "cn=a\\,b,dc=test", "cn=a\\2Cb,dc=test", true },
	{ "cn=a\\,b,dc=test", "cn=a,cn=b,dc=test", false },
	{ "cn=a,dc=test", "cn=a,dc=test,dc=x", false },
	{ "cn=a+ou=b,dc=test", "cn=a,ou=b,dc=test", false },
	{ "cn=staff,ou=groups,dc=test", "cn=staff2,ou=groups,dc=test", false },
};

START_TEST(equal_dns_have_equal_keys)
{
	char *a = text_dn_key(str(dns[_i].a)), *b = text_dn_key(str(dns[_i].b));

	ck_assert_ptr_nonnull(a);
	ck_assert_ptr_nonnull(b);
	ck_assert_msg((strcmp(a, b) == 0) == dns[_i].same, "%s, %s", a, b);
	free(a);
	free(b);
}
END_TEST

START_TEST(what_is_no_dn_has_no_key)
{
	static const struct grapnel_str wrong[] = { VALUE(""), VALUE("admins"), VALUE("cn=a,,dc=b"),
		VALUE("=x"), VALUE("cn=a\0,dc=b"), VALUE("cn=a\\"), VALUE("cn=\xff\\zz") };

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(text_dn_key(wrong[i]) == NULL, "row %zu", i);
}
END_TEST

static const struct {
	const char *template;
	bool is_dn;
	const char *names; /* joined by a space */
} names[] = {
	{ "(uid=%u)", false, "uid" },
	{ "(&(objectClass=person)(|(uid=%u)(mail=%u)(UID=%u)))", false, "uid mail" },
	{ "(mail=%u@example.com)", false, "" },
	{ "(uid=x%u)", false, "" },
	{ "(uid>=%u)", false, "" },
	{ "(uid:dn:=%u)", false, "" },
	{ "(uid=%c)", false, "" },
	{ "uid=%u,ou=people,dc=test", true, "uid" },
	{ "cn=x+uid=%u,dc=test", true, "uid" },
	{ "uid=%u", true, "uid" },
	{ "uid=dev-%u,dc=test", true, "" },
	{ "uid=%u.x,dc=test", true, "" },
};

START_TEST(the_attributes_that_a_name_is_compared_with)
{
	char *got[TEXT_MAX_NAMES], joined[128] = "", error[128];
	struct template *t =
	    template_parse(str(names[_i].template), TEMPLATE_CLIENT, error, sizeof(error));
	size_t n;

	ck_assert_ptr_nonnull(t);
	n = text_name_attributes(t, names[_i].is_dn, got);
	ck_assert_uint_le(n, TEXT_MAX_NAMES);
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(joined);

		snprintf(joined + len, sizeof(joined) - len, "%s%s", i > 0 ? " " : "", got[i]);
		free(got[i]);
	}
	ck_assert_str_eq(joined, names[_i].names);
	template_free(t);
}
END_TEST

#define COUNT(rows) ((int)(sizeof(rows) / sizeof((rows)[0])))

int
main(void)
{
	Suite *s = suite_create("auth-ldap");
	TCase *tc = tcase_create("text");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_value_in_a_filter_is_only_a_value, 0, COUNT(filters));
	tcase_add_loop_test(tc, a_value_in_a_dn_is_only_a_value, 0, COUNT(dn_values));
	tcase_add_test(tc, what_is_not_utf8_is_in_no_dn);
	tcase_add_loop_test(tc, equal_dns_have_equal_keys, 0, COUNT(dns));
	tcase_add_test(tc, what_is_no_dn_has_no_key);
	tcase_add_loop_test(tc, the_attributes_that_a_name_is_compared_with, 0, COUNT(names));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
