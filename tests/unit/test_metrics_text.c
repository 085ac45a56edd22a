/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/metrics_text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static char *text;
static size_t len;
static FILE *out;

static void
open_text(void)
{
	out = open_memstream(&text, &len);
	ck_assert_ptr_nonnull(out);
}

static void
ck_text(const char *wanted)
{
	ck_assert_int_eq(fclose(out), 0);
	ck_assert_str_eq(text, wanted);
	free(text);
}

START_TEST(metric_has_help_type_and_sample)
{
	open_text();
	metrics_text_one(out, "grapnel_sessions", true, "Sessions that exist", 42);
	ck_text("# HELP grapnel_sessions Sessions that exist\n# TYPE grapnel_sessions "
		"gauge\ngrapnel_sessions 42\n");
}
END_TEST

START_TEST(counter_is_called_counter)
{
	open_text();
	metrics_text_begin(out, "x_total", false, "X");
	ck_text("# HELP x_total X\n# TYPE x_total counter\n");
}
END_TEST

START_TEST(label_value_cannot_end_its_line_or_its_quotes)
{
	open_text();
	metrics_text_sample(out, "m", "plugin", "a\"} 1\nfake{x=\"\\", 7);
	ck_text("m{plugin=\"a\\\"} 1\\nfake{x=\\\"\\\\\"} 7\n");
}
END_TEST

START_TEST(control_characters_of_a_label_become_blanks)
{
	open_text();
	metrics_text_escape(out,
	    "a\r\x1b\t\x7f"
	    "b");
	ck_text("a    b");
}
END_TEST

START_TEST(utf8_in_a_label_is_left_alone)
{
	open_text();
	metrics_text_escape(out, "d\xc3\xa9v");
	ck_text("d\xc3\xa9v");
}
END_TEST

START_TEST(help_escapes_newline_and_backslash_only)
{
	open_text();
	metrics_text_begin(out, "m", true, "a \"b\"\nc\\d");
	ck_text("# HELP m a \"b\"\\nc\\\\d\n# TYPE m gauge\n");
}
END_TEST

START_TEST(extreme_values_are_written_whole)
{
	open_text();
	metrics_text_sample(out, "m", NULL, NULL, INT64_MIN);
	metrics_text_sample(out, "m", NULL, NULL, INT64_MAX);
	metrics_text_sample_real(out, "r", 1795366598.75);
	ck_text("m -9223372036854775808\nm 9223372036854775807\nr 1795366598.750000\n");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("metrics_text");
	TCase *t = tcase_create("metrics_text");
	SRunner *r;
	int failed;

	tcase_add_test(t, metric_has_help_type_and_sample);
	tcase_add_test(t, counter_is_called_counter);
	tcase_add_test(t, label_value_cannot_end_its_line_or_its_quotes);
	tcase_add_test(t, control_characters_of_a_label_become_blanks);
	tcase_add_test(t, utf8_in_a_label_is_left_alone);
	tcase_add_test(t, help_escapes_newline_and_backslash_only);
	tcase_add_test(t, extreme_values_are_written_whole);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
