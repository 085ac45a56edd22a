/* SPDX-License-Identifier: Apache-2.0 */
/* What may be asked over HTTP, and the small texts around it. Requests themselves: test_curl_loop.c. */
#include "../plugins/common/curl_private.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S(text) ((struct grapnel_str){ text, sizeof(text) - 1 })

static char error[256];

static struct curl_target *
target(struct grapnel_str url, const struct grapnel_str *headers, size_t header_count)
{
	const struct curl_target_options options = {
		.url = url,
		.headers = headers,
		.header_count = header_count,
		.user_agent = "test",
		.connect_timeout_ms = 1000,
		.timeout_ms = 1000,
		.max_answer = 1000,
	};

	error[0] = '\0';
	return curl_target_new(&options, error, sizeof(error));
}

static const struct {
	const char *url, *name;
} good_urls[] = {
	{ "http://127.0.0.1:8080/login", "http://127.0.0.1:8080/login" },
	{ "https://auth.example.org/a/b", "https://auth.example.org:443/a/b" },
	{ "http://auth.example.org", "http://auth.example.org:80/" },
	{ "http://[::1]:1/", "http://[::1]:1/" },
	{ "https://x/login?key=value%20x", "https://x:443/login" }, /* a query is not for the log */
};

START_TEST(a_url_of_http_or_https_is_taken)
{
	struct curl_target *t =
	    target((struct grapnel_str){ good_urls[_i].url, strlen(good_urls[_i].url) }, NULL, 0);

	ck_assert_msg(t != NULL, "%s: %s", good_urls[_i].url, error);
	ck_assert_str_eq(curl_target_name(t), good_urls[_i].name);
	curl_target_free(t);
}
END_TEST

static const char *const bad_urls[] = {
	"",
	"auth.example.org/login",
	"ftp://auth.example.org/",
	"file:///etc/passwd",
	"gopher://127.0.0.1:25/",
	"http://user@host/",
	"http://user:secret@host/",
	"http://host/#part",
	"http://%u/", /* nobody chooses whom is asked */
	"http://%u.example.org/",
	"http://example.org/%u",
	"http://example.org/%{tenant}/login",
	"http://host/a b",
	"http://host/\r\nHost: other",
	"http://k\xc3\xb6ln.example/",
	"http://host./",
	"http://host:99999/",
	"http:///",
};

START_TEST(other_urls_are_refused_with_a_reason)
{
	struct curl_target *t =
	    target((struct grapnel_str){ bad_urls[_i], strlen(bad_urls[_i]) }, NULL, 0);

	ck_assert_msg(t == NULL, "%s was taken", bad_urls[_i]);
	ck_assert_str_ne(error, "");
	ck_assert_ptr_null(strstr(error, "secret"));
}
END_TEST

START_TEST(a_url_with_a_nul_byte_is_refused)
{
	ck_assert_ptr_null(target(S("http://good.example\0.evil.example/"), NULL, 0));
}
END_TEST

static const struct {
	struct grapnel_str header;
	bool good;
} headers[] = {
	{ { "X-Api-Key: abc", 14 }, true },
	{ { "X:y", 3 }, true },
	{ { "X-Api-Key", 9 }, false },
	{ { ": abc", 5 }, false },
	{ { "X Y: abc", 8 }, false },
	{ { "X: a\r\nY: b", 10 }, false },
	{ { "X: a\nY: b", 9 }, false },
	{ { "X: a\0b", 6 }, false },
	{ { "X:", 2 }, false }, /* libcurl would leave it out */
	{ { "X;", 2 }, false },
};

START_TEST(a_header_is_one_line_with_a_name_and_a_value)
{
	struct curl_target *t = target(S("http://host/"), &headers[_i].header, 1);

	ck_assert_msg((t != NULL) == headers[_i].good, "row %d: %s", _i, error);
	ck_assert((error[0] == '\0') == headers[_i].good);
	curl_target_free(t);
}
END_TEST

static const struct {
	const char *field;
	bool no_store;
	uint32_t max_age_ms;
} cache_cases[] = {
	{ "", false, 0 },
	{ "max-age=60", false, 60000 },
	{ " private , Max-Age=\"7\"", false, 7000 },
	{ "no-store", true, 0 },
	{ "max-age=60,NO-STORE", true, 60000 },
	{ "no-cache", true, 0 },
	{ "no-cache=\"Set-Cookie\"", true, 0 },
	{ "max-age=0", true, 0 },
	{ "max-age", true, 0 },
	{ "max-age=-1", true, 0 },
	{ "max-age=1e9", true, 0 },
	{ "max-age=99999999999999999999999", false, 4294967000u },
	{ "xmax-age=60, no-stores", false, 0 },
	{ ",,,", false, 0 },
};

START_TEST(cache_control_is_read_as_rfc_9111_says)
{
	struct grapnel_str field = { cache_cases[_i].field, strlen(cache_cases[_i].field) };
	uint32_t max_age_ms;
	bool no_store;

	curl_cache_control(field, &no_store, &max_age_ms);
	ck_assert_msg(no_store == cache_cases[_i].no_store, "row %d", _i);
	ck_assert_msg(max_age_ms == cache_cases[_i].max_age_ms, "row %d: %u", _i, max_age_ms);
}
END_TEST

static const struct {
	const char *address;
	bool is_private;
} addresses[] = {
	{ "0.0.0.0", true },
	{ "0.1.2.3", true },
	{ "1.1.1.1", false },
	{ "9.255.255.255", false },
	{ "10.0.0.0", true },
	{ "10.255.255.255", true },
	{ "11.0.0.0", false },
	{ "100.63.255.255", false },
	{ "100.64.0.0", true },
	{ "100.127.255.255", true },
	{ "100.128.0.0", false },
	{ "126.255.255.255", false },
	{ "127.0.0.1", true },
	{ "127.255.255.254", true },
	{ "128.0.0.1", false },
	{ "169.253.255.255", false },
	{ "169.254.169.254", true },
	{ "169.255.0.0", false },
	{ "172.15.255.255", false },
	{ "172.16.0.0", true },
	{ "172.31.255.255", true },
	{ "172.32.0.0", false },
	{ "192.0.0.8", true },
	{ "192.0.1.1", false },
	{ "192.0.2.1", true },
	{ "192.88.99.1", true },
	{ "192.167.255.255", false },
	{ "192.168.0.1", true },
	{ "192.168.255.255", true },
	{ "192.169.0.0", false },
	{ "198.17.255.255", false },
	{ "198.18.0.0", true },
	{ "198.19.255.255", true },
	{ "198.20.0.0", false },
	{ "198.51.100.7", true },
	{ "203.0.113.7", true },
	{ "203.0.114.7", false },
	{ "223.255.255.255", false },
	{ "224.0.0.1", true },
	{ "239.255.255.255", true },
	{ "240.0.0.1", true },
	{ "255.255.255.255", true },
	{ "::", true },
	{ "::1", true },
	{ "::7f00:1", true }, /* IPv4-compatible */
	{ "::ffff:127.0.0.1", true },
	{ "::ffff:10.1.2.3", true },
	{ "::ffff:169.254.169.254", true },
	{ "::ffff:1.1.1.1", false },
	{ "::ffff:0:127.0.0.1", true },
	{ "64:ff9b::127.0.0.1", true }, /* NAT64 */
	{ "64:ff9b::192.168.1.1", true },
	{ "64:ff9b::1.1.1.1", false },
	{ "64:ff9b:1::1.1.1.1", true },
	{ "100::1", true },
	{ "1fff::1", true },
	{ "2000::1", false },
	{ "2001::1", true }, /* Teredo */
	{ "2001:10::1", true },
	{ "2001:1ff::1", true },
	{ "2001:200::1", false },
	{ "2001:db8::1", true },
	{ "2001:db9::1", false },
	{ "2001:4860:4860::8888", false },
	{ "2002:7f00:1::1", true }, /* 6to4 */
	{ "2002:c0a8:101::1", true },
	{ "2002:101:101::1", false },
	{ "2606:4700::1111", false },
	{ "3ffe::1", false },
	{ "3fff::1", true },
	{ "3fff:fff::1", true },
	{ "3fff:1000::1", false },
	{ "4000::1", true },
	{ "fc00::1", true },
	{ "fdff::1", true },
	{ "fe80::1", true },
	{ "fe80::1%eth0", true },
	{ "fec0::1", true },
	{ "ff02::1", true },
	{ "nonsense", true },
};

START_TEST(addresses_that_are_not_of_the_internet_are_private)
{
	char url[100];
	bool v6 = strchr(addresses[_i].address, ':') != NULL;
	struct curl_target_options options = { .user_agent = "test",
		.connect_timeout_ms = 1,
		.timeout_ms = 1,
		.max_answer = 1,
		.no_private_addresses = true };
	struct curl_target *t;

	ck_assert_msg(curl_text_is_private(addresses[_i].address) == addresses[_i].is_private, "%s",
	    addresses[_i].address);
	if (!v6 && addresses[_i].address[0] == 'n')
		return;
	(void)snprintf(url, sizeof(url), v6 ? "http://[%s]/" : "http://%s/", addresses[_i].address);
	options.url = (struct grapnel_str){ url, strlen(url) };
	t = curl_target_new(&options, error, sizeof(error));
	ck_assert_msg((t == NULL) == addresses[_i].is_private, "%s", url);
	curl_target_free(t);
}
END_TEST

START_TEST(a_unix_socket_is_private)
{
	struct curl_target_options options = { .url = S("http://host/"),
		.unix_socket = S("/run/x"),
		.user_agent = "test",
		.no_private_addresses = true };

	error[0] = '\0';
	ck_assert_ptr_null(curl_target_new(&options, error, sizeof(error)));
	ck_assert_ptr_nonnull(strstr(error, "Unix socket"));
}
END_TEST

#define DIGITS "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa+"
static const struct {
	struct grapnel_str pin;
	bool good;
} pins[] = {
#define PIN(text, good)                          \
	{                                        \
		{ text, sizeof(text) - 1 }, good \
	}
	PIN("sha256//" DIGITS "=", true), PIN("sha256//" DIGITS "=;sha256//" DIGITS "=", true),
	PIN("", false), PIN("sha256//" DIGITS, false), PIN("sha256//a" DIGITS "=", false),
	PIN("sha256//" DIGITS "==", false), PIN("sha256//" DIGITS "=;", false),
	PIN("sha256//" DIGITS "=,sha256//" DIGITS "=", false), PIN("sha256//" DIGITS "=\0", false),
	PIN("sha256/" DIGITS "=", false), PIN("sha1//" DIGITS "=", false),
	PIN("/etc/key.pem", false), /* libcurl would read that */
};

START_TEST(a_pin_is_hashes_of_keys)
{
	struct curl_target_options options = {
		.url = S("https://host/"), .user_agent = "test", .tls_pin = pins[_i].pin
	};
	struct curl_target *t = curl_target_new(&options, error, sizeof(error));

	ck_assert_msg((t != NULL) == pins[_i].good, "row %d: %s", _i, error);
	curl_target_free(t);
	options.url = S("http://host/"); /* where it would not be looked at */
	ck_assert_ptr_null(curl_target_new(&options, error, sizeof(error)));
}
END_TEST

static const struct {
	const char *field;
	uint32_t ms;
} retry_cases[] = {
	{ "0", 0 },
	{ "120", 120000 },
	{ "86400", 86400000 },
	{ "86401", 86400000 },
	{ "99999999999999999999999999", 86400000 },
	{ "Sun, 06 Nov 1994 08:49:37 GMT", 37000 }, /* the three forms of RFC 9110 */
	{ "Sunday, 06-Nov-94 08:49:37 GMT", 37000 },
	{ "Sun Nov  6 08:49:37 1994", 37000 },
	{ "Sun, 06 Nov 1994 08:48:00 GMT", 0 },
	{ "Sun, 06 Nov 2050 08:48:00 GMT", 86400000 },
	{ "", UINT32_MAX },
	{ "-5", UINT32_MAX },
	{ "1.5", UINT32_MAX },
	{ "soon", UINT32_MAX },
	{ "12 seconds", UINT32_MAX },
	{ "Someday", UINT32_MAX },
	{ "Sun, 99 Nov 1994 08:49:37 GMT", UINT32_MAX },
	{ "Sun, 06 Nov 1994 08:49:37 GMT and then some more text that is too long", UINT32_MAX },
};

START_TEST(retry_after_is_seconds_or_a_date)
{
	struct grapnel_str field = { retry_cases[_i].field, strlen(retry_cases[_i].field) };
	uint32_t ms = curl_retry_after(field, 784111740); /* Sun, 06 Nov 1994 08:49:00 GMT */

	ck_assert_msg(ms == retry_cases[_i].ms, "\"%s\": %u", field.data, ms);
}
END_TEST

START_TEST(all_but_unreserved_bytes_are_percent_encoded)
{
	char out[64];
	size_t len;

	len = curl_percent_encode(out, sizeof(out), S("a&is_admin=1"));
	ck_assert_uint_eq(len, strlen("a%26is_admin%3D1"));
	ck_assert_mem_eq(out, "a%26is_admin%3D1", len);
	len = curl_percent_encode(out, sizeof(out), S("\r\n \0+/?#%\xc3\xa4"));
	ck_assert_uint_eq(len, 33);
	ck_assert_mem_eq(out, "%0D%0A%20%00%2B%2F%3F%23%25%C3%A4", len);
	len = curl_percent_encode(out, sizeof(out), S("aZ09-._~"));
	ck_assert_uint_eq(len, 8);
	ck_assert_mem_eq(out, "aZ09-._~", len);
	ck_assert_uint_eq(curl_percent_encode(out, sizeof(out), S("")), 0);
	memset(out, '!', sizeof(out));
	ck_assert_uint_eq(curl_percent_encode(out, 2, S("&")), 3); /* no room: nothing is written */
	ck_assert_int_eq(out[0], '!');
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("curl_target");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
	tcase_add_loop_test(tc, a_url_of_http_or_https_is_taken, 0, ROWS(good_urls));
	tcase_add_loop_test(tc, other_urls_are_refused_with_a_reason, 0, ROWS(bad_urls));
	tcase_add_test(tc, a_url_with_a_nul_byte_is_refused);
	tcase_add_loop_test(tc, a_header_is_one_line_with_a_name_and_a_value, 0, ROWS(headers));
	tcase_add_loop_test(tc, cache_control_is_read_as_rfc_9111_says, 0, ROWS(cache_cases));
	tcase_add_loop_test(
	    tc, addresses_that_are_not_of_the_internet_are_private, 0, ROWS(addresses));
	tcase_add_test(tc, a_unix_socket_is_private);
	tcase_add_loop_test(tc, a_pin_is_hashes_of_keys, 0, ROWS(pins));
	tcase_add_loop_test(tc, retry_after_is_seconds_or_a_date, 0, ROWS(retry_cases));
	tcase_add_test(tc, all_but_unreserved_bytes_are_percent_encoded);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
