/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/events/text.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static void
ck_text(struct text *t, const char *expected)
{
	ck_assert(!t->failed);
	text_char(t, '\0');
	ck_assert_str_eq(t->data, expected);
	text_free(t);
}

#define FFFD "\xef\xbf\xbd"

static const struct {
	const char *bytes, *escaped;
} escapes[] = {
	{ "", "" },
	{ "plain text of more than eight bytes", "plain text of more than eight bytes" },
	{ "a\"b\\c/d", "a\\\"b\\\\c/d" },
	{ "\"12345678", "\\\"12345678" },
	{ "12345678\"", "12345678\\\"" },
	{ "1234567\\", "1234567\\\\" },
	{ "\b\t\n\f\r", "\\b\\t\\n\\f\\r" },
	{ "a\x01z\x1f", "a\\u0001z\\u001f" },
	{ "\x7f", "\\u007f" },
	{ "\xc2\x80|\xc2\x9b|\xc2\x9f", "\\u0080|\\u009b|\\u009f" },
	{ "\xc2\xa0\xc3\xa9", "\xc2\xa0\xc3\xa9" },
	{ "smile \xf0\x9f\x98\x80 and go on", "smile \xf0\x9f\x98\x80 and go on" },
	{ "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac", "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac" },
	{ "\x80", FFFD }, /* a continuation alone */
	{ "a\xbf z", "a" FFFD " z" },
	{ "\xc0\xaf", FFFD FFFD }, /* overlong */
	{ "\xc1\x81", FFFD FFFD },
	{ "\xe0\x80\xaf", FFFD FFFD FFFD },
	{ "\xf0\x80\x80\xaf", FFFD FFFD FFFD FFFD },
	{ "\xed\xa0\x80", FFFD FFFD FFFD },          /* a surrogate */
	{ "\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD }, /* above U+10FFFF */
	{ "\xf5\xff\xfe", FFFD FFFD FFFD },
	{ "ends \xe2\x82", "ends " FFFD FFFD }, /* cut */
	{ "ends \xc2", "ends " FFFD },
	{ "\xc2\"", FFFD "\\\"" }, /* does not eat what follows */
	{ "\xe2\x82\n", FFFD FFFD "\\n" },
	{ "12345678\xff"
	  "12345678",
	    "12345678" FFFD "12345678" },
};

START_TEST(a_string_is_escaped)
{
	struct text t = { 0 };
	char quoted[200];

	json_escape(&t, str(escapes[_i].bytes));
	ck_text(&t, escapes[_i].escaped);
	json_text(&t, str(escapes[_i].bytes));
	(void)snprintf(quoted, sizeof(quoted), "\"%s\"", escapes[_i].escaped);
	ck_text(&t, quoted);
}
END_TEST

/* What stands for the byte c, alone in a string. */
static void
expect_of_byte(char out[8], unsigned c)
{
	static const char *const named[] = {
		[8] = "\\b", [9] = "\\t", [10] = "\\n", [12] = "\\f", [13] = "\\r"
	};

	if (c < 14 && named[c] != NULL)
		(void)strcpy(out, named[c]);
	else if (c < 0x20 || c == 0x7f)
		(void)snprintf(out, 8, "\\u%04x", c);
	else if (c == '"' || c == '\\')
		(void)snprintf(out, 8, "\\%c", (int)c);
	else if (c >= 0x80)
		(void)strcpy(out, FFFD);
	else
		(void)snprintf(out, 8, "%c", (int)c);
}

START_TEST(every_byte_is_escaped_wherever_it_stands)
{
	for (unsigned c = 0; c < 256; c++)
		for (size_t before = 0; before < 17; before++) {
			char bytes[32], one[8], expected[64];
			struct text t = { 0 };

			memset(bytes, 'x', sizeof(bytes));
			bytes[before] = (char)c;
			expect_of_byte(one, c);
			(void)snprintf(expected, sizeof(expected), "%.*s%sxxxxxxxxxx", (int)before,
			    "xxxxxxxxxxxxxxxxxxxxxxxx", one);
			json_escape(&t, (struct grapnel_str){ bytes, before + 11 });
			ck_text(&t, expected);
		}
}
END_TEST

START_TEST(absent_is_null_and_empty_is_not)
{
	struct text t = { 0 };

	json_text(&t, (struct grapnel_str){ NULL, 0 });
	json_text(&t, GRAPNEL_STR(""));
	ck_text(&t, "null\"\"");
}
END_TEST

START_TEST(commas_stand_between_members)
{
	struct text t = { 0 };

	json_name(&t, "a");
	text_char(&t, '{');
	json_name(&t, "b");
	json_bool(&t, true);
	json_name(&t, "c");
	text_char(&t, '[');
	text_char(&t, ']');
	json_name(&t, "d");
	json_text(&t, GRAPNEL_STR("{"));
	json_name(&t, "e");
	json_bool(&t, false);
	text_char(&t, '}');
	ck_text(&t, "\"a\":{\"b\":true,\"c\":[],\"d\":\"{\",\"e\":false}");
}
END_TEST

START_TEST(numbers_are_written_whole)
{
	struct text t = { 0 };

	text_uint(&t, 0);
	text_char(&t, ' ');
	text_uint(&t, UINT64_MAX);
	text_char(&t, ' ');
	text_int(&t, INT64_MIN);
	text_char(&t, ' ');
	text_int(&t, INT64_MAX);
	text_char(&t, ' ');
	text_int(&t, -7);
	ck_text(&t, "0 18446744073709551615 -9223372036854775808 9223372036854775807 -7");
}
END_TEST

/* RFC 4648 section 10, and bytes that use all of the alphabet's end. */
static const struct {
	struct grapnel_str bytes;
	const char *text;
} base64s[] = {
	{ { "", 0 }, "\"\"" },
	{ { "f", 1 }, "\"Zg==\"" },
	{ { "fo", 2 }, "\"Zm8=\"" },
	{ { "foo", 3 }, "\"Zm9v\"" },
	{ { "foob", 4 }, "\"Zm9vYg==\"" },
	{ { "fooba", 5 }, "\"Zm9vYmE=\"" },
	{ { "foobar", 6 }, "\"Zm9vYmFy\"" },
	{ { "\xff\xef\xbe\0\xfb\xff", 6 }, "\"/+++APv/\"" },
};

START_TEST(bytes_become_base64)
{
	struct text t = { 0 };

	json_base64(&t, base64s[_i].bytes);
	ck_text(&t, base64s[_i].text);
}
END_TEST

static const struct {
	struct grapnel_str bytes;
	bool is;
} utf8s[] = {
	{ { "", 0 }, true },
	{ { "plain, 16 bytes.", 16 }, true },
	{ { "\n\t\x1f\x7f", 4 }, true },
	{ { "1234567\xc3\xa9", 9 }, true },
	{ { "\xf0\x9f\x98\x80", 4 }, true },
	{ { "\0", 1 }, false },
	{ { "12345\0"
	    "7812345678",
	      16 },
	    false },
	{ { "1234567\xc3", 8 }, false },
	{ { "12345678\xff", 9 }, false },
	{ { "\xed\xa0\x80", 3 }, false },
	{ { "\xc0\x80", 2 }, false },
	{ { "\xf4\x90\x80\x80", 4 }, false },
};

START_TEST(utf8_is_told_from_other_bytes)
{
	ck_assert(text_is_utf8(utf8s[_i].bytes) == utf8s[_i].is);
}
END_TEST

START_TEST(a_text_grows_and_is_used_again)
{
	struct text t = { 0 };
	char *was;

	for (unsigned i = 0; i < 10000; i++)
		text_puts(&t, "0123456789abcdef");
	ck_assert(!t.failed);
	ck_assert_uint_eq(t.len, 160000);
	for (size_t i = 0; i < t.len; i++)
		ck_assert_int_eq(t.data[i], "0123456789abcdef"[i % 16]);
	was = t.data;
	text_clear(&t);
	ck_assert_uint_eq(t.len, 0);
	text_puts(&t, "again");
	ck_assert_ptr_eq(t.data, was);
	ck_text(&t, "again");
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

int
main(void)
{
	Suite *s = suite_create("event text");
	TCase *tc = tcase_create("event text");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_string_is_escaped, 0, ROWS(escapes));
	tcase_add_test(tc, every_byte_is_escaped_wherever_it_stands);
	tcase_add_test(tc, absent_is_null_and_empty_is_not);
	tcase_add_test(tc, commas_stand_between_members);
	tcase_add_test(tc, numbers_are_written_whole);
	tcase_add_loop_test(tc, bytes_become_base64, 0, ROWS(base64s));
	tcase_add_loop_test(tc, utf8_is_told_from_other_bytes, 0, ROWS(utf8s));
	tcase_add_test(tc, a_text_grows_and_is_used_again);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
