/* SPDX-License-Identifier: Apache-2.0 */
/* To whom a request goes, and who may know what: redirects, certificates, pinned keys. */
#include "http_asker.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- redirects ----------------------------------------------------------------------------- */

static struct curl_target_options
with_secrets(enum curl_redirects redirects)
{
	static const struct grapnel_str headers[] = { { "X-Key: k", 8 }, { "Cookie: c", 9 } };
	struct curl_target_options o = plain();

	o.bearer_token = str("t0ken");
	o.headers = headers;
	o.header_count = 2;
	o.redirects = redirects;
	return o;
}

static void
ask_with_own_headers(void)
{
	static const struct grapnel_str headers[] = { { "X-Sig: s", 8 },
		{ "Authorization: mine", 19 } };

	post_body("{}");
	a.request.headers = headers;
	a.request.header_count = 2;
	ask();
	ck_assert_msg(a.err == GRAPNEL_OK, "%s", a.error);
}

static const struct {
	enum curl_redirects redirects;
	const char *path;
	long status;
} same_host[] = {
	{ CURL_REDIRECTS_NONE, "/307//echo", 307 },
	{ CURL_REDIRECTS_SAME_HOST, "/307//echo", 200 },
	{ CURL_REDIRECTS_SAME_HOST, "/308//echo~part", 200 },
	{ CURL_REDIRECTS_SAME_HOST, "/301//echo", 301 }, /* would become a GET */
	{ CURL_REDIRECTS_SAME_HOST, "/302//echo", 302 },
	{ CURL_REDIRECTS_SAME_HOST, "/303//echo", 303 },
	{ CURL_REDIRECTS_SAME_HOST, "/307//307//308//echo", 200 },
	{ CURL_REDIRECTS_SAME_HOST, "/307//307//307//307//echo", 307 }, /* the fourth */
	{ CURL_REDIRECTS_ANY, "/307//echo", 200 },
	{ CURL_REDIRECTS_ANY, "/307/ftp://127.0.0.1/", 307 },
	{ CURL_REDIRECTS_ANY, "/307/file:///etc/passwd", 307 },
	{ CURL_REDIRECTS_ANY, "/307/http://user:secret@127.0.0.1/", 307 },
	{ CURL_REDIRECTS_ANY, "/307/http://127.0.0.1:99999/", 307 },
	{ CURL_REDIRECTS_ANY, "/307/", 307 },
};

START_TEST(redirects_within_the_host_keep_all)
{
	target(with_secrets(same_host[_i].redirects), server, "%s", same_host[_i].path);
	ask_with_own_headers();
	ck_assert_msg(a.status == same_host[_i].status, "%s: %ld", same_host[_i].path, a.status);
	if (a.status != 200) {
		if (strlen(same_host[_i].path) > 5)
			ck_assert_str_ne(a.location, "");
		ck_assert_str_eq(a.body, "elsewhere");
		return;
	}
	has("POST /echo HTTP/1.1\r\n");
	has("Content-Type: application/json\r\n");
	has("Content-Length: 2\r\n");
	has("X-Key: k\r\n");
	has("Authorization: Bearer t0ken\r\n");
	has("X-Sig: s\r\n");
	ck_assert_str_eq(a.location, "");
}
END_TEST

START_TEST(another_host_is_told_no_secrets)
{
	unsigned port, ours = http_server_port(server);

	third = http_server_new(NULL);
	port = http_server_port(third);

	/* Another port is another host. */
	target(
	    with_secrets(CURL_REDIRECTS_SAME_HOST), server, "/307/http://127.0.0.1:%u/echo", port);
	ask_with_own_headers();
	ck_assert_int_eq(a.status, 307);
	ck_assert_ptr_nonnull(strstr(a.location, "/echo"));
	ck_assert_uint_eq(http_server_connections(third), 0);

	target(with_secrets(CURL_REDIRECTS_ANY), server, "/307/http://127.0.0.1:%u/echo", port);
	ask_with_own_headers();
	ck_assert_int_eq(a.status, 200);
	ck_assert_uint_eq(http_server_connections(third), 1);
	has("X-Sig: s\r\n");
	has("Content-Type: application/json\r\n");
	has_no("t0ken");
	has_no("X-Key");
	has_no("Cookie");
	has_no("Authorization");

	/* Back again is not as if one had never left. */
	target(with_secrets(CURL_REDIRECTS_ANY), server,
	    "/307/http://127.0.0.1:%u/307/http://127.0.0.1:%u/echo", port, ours);
	ask_with_own_headers();
	ck_assert_int_eq(a.status, 200);
	has("X-Sig: s\r\n");
	has_no("t0ken");
	has_no("Authorization");

	/* A name is looked up by the host, here as there. */
	target(with_secrets(CURL_REDIRECTS_ANY), server, "/307/http://name.test:%u/echo", port);
	ask_with_own_headers();
	ck_assert_int_eq(a.status, 200);
	has("Host: name.test:");
	has_no("t0ken");
}
END_TEST

START_TEST(a_redirect_to_a_name_that_is_none_fails)
{
	target(with_secrets(CURL_REDIRECTS_ANY), server, "/307/http://no.test/echo");
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(a.error, "does not exist"));
}
END_TEST

/* ---- TLS ----------------------------------------------------------------------------------- */

START_TEST(a_pinned_key_must_be_the_servers)
{
	struct curl_target_options o;
	char two[200];

	start_tls();
	o = with_tls();
	o.tls_pin = str(pin);
	target(o, other, "/echo");
	post_body("{}");
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
	o.tls_pin = str("sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
	target(o, other, "/echo");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(a.error, "pinned"));
	(void)snprintf(two, sizeof(two), "%.*s;%s", (int)o.tls_pin.len, o.tls_pin.data, pin);
	o.tls_pin = str(two);
	target(o, other, "/echo");
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
}
END_TEST

START_TEST(a_client_certificate_is_shown_to_its_host_only)
{
	struct curl_target_options o;

	start_tls();
	third = http_server_new(pem);
	o = with_tls();
	o.tls_cert = str(pem);
	o.tls_key = str(pem);
	o.redirects = CURL_REDIRECTS_ANY;
	target(o, other, "/307//echo");
	post_body("{}");
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
	has("client-cert: yes");
	target(o, other, "/307/https://127.0.0.1:%u/echo", http_server_port(third));
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
	has("client-cert: no");
	/* And what was encrypted is not sent in the clear. */
	target(o, other, "/307/http://127.0.0.1:%u/echo", http_server_port(server));
	ask();
	ck_assert_int_eq(a.status, 307);
	ck_assert_uint_eq(http_server_connections(server), 0);
}
END_TEST

START_TEST(tls_is_checked_where_http_redirects_to)
{
	struct curl_target_options o = plain();

	start_tls();
	o.redirects = CURL_REDIRECTS_ANY; /* the certificate is of nobody whom the system knows */
	target(o, server, "/307/https://127.0.0.1:%u/echo", http_server_port(other));
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(a.error, "certificate"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("curl_redirect");
	TCase *tc = tcase_create("curl_redirect");
	SRunner *sr;
	int failed;

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
	tcase_add_checked_fixture(tc, asker_setup, asker_teardown);
	tcase_add_loop_test(tc, redirects_within_the_host_keep_all, 0, ROWS(same_host));
	tcase_add_test(tc, another_host_is_told_no_secrets);
	tcase_add_test(tc, a_redirect_to_a_name_that_is_none_fails);
	tcase_add_test(tc, a_pinned_key_must_be_the_servers);
	tcase_add_test(tc, a_client_certificate_is_shown_to_its_host_only);
	tcase_add_test(tc, tls_is_checked_where_http_redirects_to);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_fork_status(sr, CK_FORK); /* they leave things behind */
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
