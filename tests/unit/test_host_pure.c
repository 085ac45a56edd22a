/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/host_pure.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(each_hook_is_found_by_its_name)
{
	for (unsigned i = 0; i < HOOK_COUNT; i++) {
		enum hook h = HOOK_COUNT;

		ck_assert(hook_find(hook_name((enum hook)i), &h));
		ck_assert_int_eq(h, (int)i);
	}
}
END_TEST

START_TEST(what_is_no_hook_is_not_found)
{
	enum hook h = HOOK_COUNT;

	ck_assert(!hook_find(NULL, &h));
	ck_assert(!hook_find("", &h));
	ck_assert(!hook_find("?", &h));
	ck_assert(!hook_find("authenticate", &h));
	ck_assert(!hook_find("client_authenticate ", &h));
	ck_assert_int_eq(h, HOOK_COUNT);
	ck_assert_str_eq(hook_name(HOOK_COUNT), "?");
}
END_TEST

START_TEST(secrets_are_equal_when_each_byte_is)
{
	struct grapnel_str absent = { NULL, 0 }, empty = { "", 0 };

	ck_assert(pure_secret_equal(GRAPNEL_STR("a\0b"), GRAPNEL_STR("a\0b")));
	ck_assert(!pure_secret_equal(GRAPNEL_STR("a\0b"), GRAPNEL_STR("a\0c")));
	ck_assert(!pure_secret_equal(GRAPNEL_STR("ab"), GRAPNEL_STR("abc")));
	ck_assert(!pure_secret_equal(GRAPNEL_STR("xb"), GRAPNEL_STR("ab")));
	ck_assert(pure_secret_equal(empty, empty));
	ck_assert(pure_secret_equal(absent, absent));
	ck_assert(!pure_secret_equal(absent, empty));
}
END_TEST

START_TEST(random_bytes_fill_all_of_it)
{
	unsigned char bytes[1000], zero[32] = { 0 };

	memset(bytes, 0, sizeof(bytes));
	ck_assert_int_eq(pure_random_bytes(bytes, sizeof(bytes)), GRAPNEL_OK);
	for (size_t i = 0; i + sizeof(zero) <= sizeof(bytes); i++)
		ck_assert(memcmp(bytes + i, zero, sizeof(zero)) != 0);
	ck_assert_int_eq(pure_random_bytes(bytes, 0), GRAPNEL_OK);
}
END_TEST

static const struct {
	const char *name;
	bool metric, plain;
} names[] = {
	{ "calls_total", true, true },
	{ "a", true, true },
	{ "a1", true, true },
	{ "", false, false },
	{ "1a", false, false },
	{ "_a", false, false },
	{ "A", false, false },
	{ "aB", false, false },
	{ "a b", false, false },
	{ "a\"", false, false },
	{ "auth-file", false, true },
};

START_TEST(names_are_small_letters_digits_and_what_is_allowed_besides)
{
	ck_assert_msg(metric_name_valid(names[_i].name) == names[_i].metric, "row %d", _i);
	ck_assert_msg(plain_name(names[_i].name, "_-") == names[_i].plain, "row %d", _i);
}
END_TEST

START_TEST(a_metric_has_a_name_of_100_bytes_at_most)
{
	char name[102];

	memset(name, 'a', sizeof(name));
	name[100] = '\0';
	ck_assert(metric_name_valid(name));
	name[100] = 'a';
	name[101] = '\0';
	ck_assert(!metric_name_valid(name));
	ck_assert(!metric_name_valid(NULL));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("host_pure");
	TCase *c = tcase_create("host_pure");
	SRunner *r;
	int failed;

	tcase_add_test(c, each_hook_is_found_by_its_name);
	tcase_add_test(c, what_is_no_hook_is_not_found);
	tcase_add_test(c, secrets_are_equal_when_each_byte_is);
	tcase_add_test(c, random_bytes_fill_all_of_it);
	tcase_add_loop_test(c, names_are_small_letters_digits_and_what_is_allowed_besides, 0,
	    (int)(sizeof(names) / sizeof(names[0])));
	tcase_add_test(c, a_metric_has_a_name_of_100_bytes_at_most);
	suite_add_tcase(s, c);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
