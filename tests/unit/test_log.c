/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/test_log.XXXXXX";
static char path[64], other[64];

/* All that was written to a file since it was made. */
static const char *
content(const char *file)
{
	static char buf[65536];
	FILE *f = fopen(file, "r");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(buf, 1, sizeof(buf) - 1, f);
	buf[n] = '\0';
	(void)fclose(f);
	return buf;
}

static void
setup(void)
{
	memcpy(folder, "/tmp/test_log.XXXXXX", sizeof(folder));
	ck_assert_ptr_nonnull(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/log", folder);
	(void)snprintf(other, sizeof(other), "%s/other", folder);
	ck_assert_int_eq(log_configure(GRAPNEL_LOG_INFO, LOG_TEXT, path), GRAPNEL_OK);
}

static void
teardown(void)
{
	log_close();
	(void)unlink(path);
	(void)unlink(other);
	(void)rmdir(folder);
}

static const struct {
	const char *bytes, *shown;
} escapes[] = {
	{ "plain text \"quoted\" \\", "plain text \"quoted\" \\" },
	{ "two\nlines\r", "two\\x0Alines\\x0D" }, { "\x1b[31mred\x7f\t", "\\x1B[31mred\\x7F\\x09" },
	{ "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x90\x99",
	    "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x90\x99" },
	{ "\xc3", "\\xC3" },          /* cut short */
	{ "\xc0\xaf", "\\xC0\\xAF" }, /* overlong */
	{ "\xe0\x80\xaf", "\\xE0\\x80\\xAF" },
	{ "\xed\xa0\x80", "\\xED\\xA0\\x80" },             /* surrogate */
	{ "\xf4\x90\x80\x80", "\\xF4\\x90\\x80\\x80" },    /* behind U+10FFFF */
	{ "\xff", "\\xFF" }, { "\xc2\x9b", "\\xC2\\x9B" }, /* C1: CSI for some terminals */
	{ "\xe2\x80\xa8", "\\xE2\\x80\\xA8" },             /* line separator */
	{ "\xe2\x80\xae", "\\xE2\\x80\\xAE" },             /* right-to-left override */
};

START_TEST(what_a_peer_sent_stays_one_line)
{
	const char *text, *at;

	log_at(GRAPNEL_LOG_NOTICE, "connect_refused", "client %.*s",
	    STR(((struct grapnel_str){ escapes[_i].bytes, strlen(escapes[_i].bytes) })));
	text = content(path);
	at = strstr(text, " notice connect_refused: client ");
	ck_assert_msg(at != NULL, "row %d: %s", _i, text);
	at += strlen(" notice connect_refused: client ");
	ck_assert_msg(
	    strncmp(at, escapes[_i].shown, strlen(escapes[_i].shown)) == 0, "row %d: %s", _i, text);
	ck_assert_str_eq(at + strlen(escapes[_i].shown), "\n");
}
END_TEST

START_TEST(a_json_line_is_json_whatever_is_in_it)
{
	char all[300];
	json_t *line;
	size_t n = 0;

	ck_assert_int_eq(log_configure(GRAPNEL_LOG_INFO, LOG_JSON, other), GRAPNEL_OK);
	for (int i = 1; i < 256; i++)
		all[n++] = (char)i;
	all[n] = '\0';
	log_at(GRAPNEL_LOG_WARNING, "odd_bytes", "%s %s", escapes[_i].bytes, all);
	line = json_loads(content(other), 0, NULL);
	ck_assert_ptr_nonnull(line);
	ck_assert_str_eq(json_string_value(json_object_get(line, "level")), "warning");
	ck_assert_str_eq(json_string_value(json_object_get(line, "event")), "odd_bytes");
	ck_assert_ptr_nonnull(json_object_get(line, "time"));
	ck_assert(strncmp(json_string_value(json_object_get(line, "message")), escapes[_i].shown,
		      strlen(escapes[_i].shown)) == 0);
	json_decref(line);
}
END_TEST

START_TEST(a_long_line_is_cut_and_says_so)
{
	char *longer = malloc(10001);
	json_t *line;

	/* Quotes double in JSON, escapes grow four times in text: the limit counts what is written. */
	memset(longer, _i == 0 ? 'a' : _i == 1 ? '"' : '\x01', 10000);
	longer[10000] = '\0';
	log_info("%s", longer);
	ck_assert_uint_le(strlen(content(path)), 4096);
	ck_assert_uint_gt(strlen(content(path)), 3900);
	ck_assert_ptr_nonnull(strstr(content(path), " [cut]\n"));

	ck_assert_int_eq(log_configure(GRAPNEL_LOG_INFO, LOG_JSON, other), GRAPNEL_OK);
	log_info("%s", longer);
	ck_assert_uint_le(strlen(content(other)), 4096);
	line = json_loads(content(other), 0, NULL);
	ck_assert_ptr_nonnull(line);
	ck_assert_ptr_nonnull(
	    strstr(json_string_value(json_object_get(line, "message")), " [cut]"));
	json_decref(line);
	free(longer);
}
END_TEST

START_TEST(levels_above_the_configured_one_are_not_written)
{
	int level = 0;

	log_debug("not this");
	log_info("but this");
	ck_assert_ptr_null(strstr(content(path), "not this"));
	ck_assert_ptr_nonnull(strstr(content(path), "but this"));
	ck_assert(log_level_from_name("debug", &level));
	ck_assert_int_eq(level, GRAPNEL_LOG_DEBUG);
	ck_assert(!log_level_from_name("loud", &level));
}
END_TEST

START_TEST(a_target_that_cannot_be_opened_changes_nothing)
{
	ck_assert_int_eq(log_check("/nonexistent/log"), GRAPNEL_ESYS);
	ck_assert_int_eq(
	    log_configure(GRAPNEL_LOG_ERROR, LOG_JSON, "/nonexistent/log"), GRAPNEL_ESYS);
	ck_assert_int_eq(errno, ENOENT);
	log_info("still here");
	ck_assert_ptr_nonnull(strstr(content(path), " info still here\n"));
}
END_TEST

START_TEST(after_rotation_lines_go_to_the_new_file)
{
	struct stat st;

	log_info("first");
	ck_assert_int_eq(rename(path, other), 0);
	log_info("second");
	ck_assert_ptr_nonnull(strstr(content(other), "second"));
	ck_assert_int_eq(log_reopen(), GRAPNEL_OK);
	log_info("third");
	ck_assert_ptr_null(strstr(content(other), "third"));
	ck_assert_ptr_nonnull(strstr(content(path), "third"));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07137, 0); /* 0640 at most */
}
END_TEST

START_TEST(ten_lines_about_an_address_then_one_a_second)
{
	unsigned left_out = 0, allowed = 0;
	uint64_t now = 1000000;

	for (unsigned i = 0; i < 100; i++)
		allowed += log_allowed_at("192.0.2.1:1000", now, &left_out);
	ck_assert_uint_eq(allowed, 10);
	ck_assert(!log_allowed_at("192.0.2.1:1000", now + 999, &left_out));
	ck_assert(log_allowed_at("192.0.2.1:1000", now + 1000, &left_out));
	ck_assert_uint_eq(left_out, 91);
	ck_assert(!log_allowed_at("192.0.2.1:1000", now + 1001, &left_out));
	ck_assert(log_allowed_at("192.0.2.2:1000", now, &left_out)); /* another one has its own */
	allowed = 0;
	for (unsigned i = 0; i < 100; i++) /* after a long silence ten again, not a thousand */
		allowed += log_allowed_at("192.0.2.1:1000", now + 1000000, &left_out);
	ck_assert_uint_eq(allowed, 10);
}
END_TEST

static const struct {
	const char *one, *two;
	bool same;
} addresses[] = {
	{ "198.51.100.1:1", "198.51.100.1:2", true },
	{ "198.51.100.3:1", "198.51.100.3", true },
	{ "198.51.100.4:1", "198.51.100.5:1", false },
	{ "[2001:db8:1:1::1]:1", "[2001:db8:1:1::ffff]:2",
	    true }, /* one customer has a whole /64 */
	{ "[2001:db8:1:2::1]:1", "2001:db8:1:2::1", true },
	{ "[2001:db8:1:3::1]:1", "[2001:db8:1:4::1]:1", false },
	{ "unix:uid=1,pid=2", "unix:uid=3,pid=4", false },
};

START_TEST(ports_and_hosts_of_a_network_are_one_address)
{
	unsigned left_out, allowed = 0;

	for (unsigned i = 0; i < 10; i++)
		ck_assert(log_allowed_at(addresses[_i].one, 5000, &left_out));
	for (unsigned i = 0; i < 10; i++)
		allowed += log_allowed_at(addresses[_i].two, 5000, &left_out);
	ck_assert_uint_eq(allowed, addresses[_i].same ? 0 : 10);
}
END_TEST

START_TEST(a_flood_of_addresses_does_not_silence_the_others)
{
	unsigned left_out;
	char address[32];

	for (unsigned i = 0; i < 100000; i++) {
		(void)snprintf(
		    address, sizeof(address), "10.%u.%u.%u:5", i >> 16, i >> 8 & 255, i & 255);
		ck_assert(log_allowed_at(address, 1000 + i, &left_out));
	}
	ck_assert(log_allowed_at("203.0.113.9:1", 200000, &left_out));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("log");
	TCase *tc = tcase_create("log");
	SRunner *sr = srunner_create(s);
	int failed, rows = (int)(sizeof(escapes) / sizeof(escapes[0]));

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, what_a_peer_sent_stays_one_line, 0, rows);
	tcase_add_loop_test(tc, a_json_line_is_json_whatever_is_in_it, 0, rows);
	tcase_add_loop_test(tc, a_long_line_is_cut_and_says_so, 0, 3);
	tcase_add_test(tc, levels_above_the_configured_one_are_not_written);
	tcase_add_test(tc, a_target_that_cannot_be_opened_changes_nothing);
	tcase_add_test(tc, after_rotation_lines_go_to_the_new_file);
	tcase_add_test(tc, ten_lines_about_an_address_then_one_a_second);
	tcase_add_loop_test(tc, ports_and_hosts_of_a_network_are_one_address, 0,
	    (int)(sizeof(addresses) / sizeof(addresses[0])));
	tcase_add_test(tc, a_flood_of_addresses_does_not_silence_the_others);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
