/* SPDX-License-Identifier: Apache-2.0 */
#include "../../ctl/ctl.h"

#include <check.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *text, *shown;
	size_t width;
} cases[] = {
	{ "", "", 0 }, { "plain +#/id", "plain +#/id", 11 }, { "\x1b[31mred", "\\x1b[31mred", 11 },
	{ "line\nnext\ttab\r", "line\\x0anext\\x09tab\\x0d", 23 },
	{ "a\\x1b", "a\\\\x1b", 6 }, /* a real backslash is not taken for an escape */
	{ "\x7f\xc2\x9b"
	  "2J",
	    "\\x7f\\xc2\\x9b2J", 14 }, /* DEL and the 8-bit CSI */
	{ "d\xc3\xa9v", "d\xc3\xa9v", 3 },
	{ "\xe6\x97\xa5", "\xe6\x97\xa5", 2 }, /* two columns wide */
	{ "\xff\xc3", "\\xff\\xc3", 8 },       /* not UTF-8 */
	{ "abc\xe2\x80\xae"
	  "cba",
	    "abc\\xe2\\x80\\xae"
	    "cba",
	    18 },                                  /* U+202E turns the direction */
	{ "\xe2\x80\x8b", "\\xe2\\x80\\x8b", 12 }, /* U+200B is invisible */
};
START_TEST(nothing_of_a_peer_controls_the_terminal)
{
	size_t width = 99;
	char *shown = show_escape(cases[_i].text, &width);

	ck_assert_ptr_nonnull(shown);
	ck_assert_str_eq(shown, cases[_i].shown);
	ck_assert_uint_eq(width, cases[_i].width);
	free(shown);
}
END_TEST

static const struct {
	json_int_t seconds;
	const char *text;
} durations[] = {
	{ -5, "0s" },
	{ 0, "0s" },
	{ 59, "59s" },
	{ 60, "1m 0s" },
	{ 3599, "59m 59s" },
	{ 3600, "1h 0m" },
	{ 86399, "23h 59m" },
	{ 86400, "1d 0h" },
	{ 1000000, "11d 13h" },
};
START_TEST(duration_has_two_units)
{
	char text[48];

	show_duration(durations[_i].seconds, text, sizeof(text));
	ck_assert_str_eq(text, durations[_i].text);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

int
main(void)
{
	Suite *s = suite_create("show");
	TCase *t = tcase_create("show");
	SRunner *r;
	int failed;

	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
		fprintf(stderr, "the locale C.UTF-8 is missing\n");
		return 77; /* skipped */
	}
	tcase_add_loop_test(t, nothing_of_a_peer_controls_the_terminal, 0, ROWS(cases));
	tcase_add_loop_test(t, duration_has_two_units, 0, ROWS(durations));
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
