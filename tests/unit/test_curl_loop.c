/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are really sent, by curl_loops on threads of their own, to servers of the test. */
#include "http_asker.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- requests ------------------------------------------------------------------------------ */

START_TEST(headers_of_the_call_go_with_those_of_the_target)
{
	const struct grapnel_str mine[] = { str("X-Id: 7"), str("X-Sig: v1,a=") },
				 its = str("X-Key: k");
	struct curl_target_options o = plain();

	o.headers = &its;
	o.header_count = 1;
	target(o, server, "/echo");
	post_body("{}");
	a.request.headers = mine;
	a.request.header_count = 2;
	ask();
	ck_assert_msg(
	    a.err == GRAPNEL_OK && a.status == 200, "%d %ld %s", a.err, a.status, a.error);
	has("POST /echo HTTP/1.1\r\n");
	has("\r\nContent-Type: application/json\r\n");
	has("\r\nX-Id: 7\r\nX-Sig: v1,a=\r\nX-Key: k\r\n");
	has("\r\nContent-Length: 2\r\n");
	has_no("Expect");
	/* The next one on this connection has none of them. */
	a.request = (struct curl_request){ .method = "GET" };
	ask();
	has("GET /echo HTTP/1.1\r\n");
	has_no("X-Id");
	has_no("Content-");
	has("X-Key: k");
	ck_assert_uint_eq(http_server_connections(server), 1);
}
END_TEST

static const struct {
	const char *header;
	size_t len;
} bad_headers[] = {
#define BAD(text)                      \
	{                              \
		text, sizeof(text) - 1 \
	}
	BAD("X: a\r\nY: b"),
	BAD("X: a\nY: b"),
	BAD("X: a\0b"),
	BAD("X: \x7f"),
	BAD("X"),
	BAD("X;"),
	BAD("X: "),
	BAD("X Y: a"),
	BAD("content-length: 5"),
	BAD("Transfer-Encoding: chunked"),
	BAD("Connection: close"),
};

START_TEST(with_a_bad_header_nothing_is_sent)
{
	const struct grapnel_str header = { bad_headers[_i].header, bad_headers[_i].len };

	target(plain(), server, "/echo");
	post_body("{}");
	a.request.headers = &header;
	a.request.header_count = 1;
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_EINVAL);
	ck_assert_str_ne(a.error, "");
	post_body("{}");
	a.request.content_type = "text/plain\r\nX: y";
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_EINVAL);
	ck_assert_uint_eq(http_server_connections(server), 0);
}
END_TEST

START_TEST(a_body_can_be_given_away)
{
	const size_t size = 3u << 20;
	char *body = malloc(size);

	ck_assert_ptr_nonnull(body);
	memset(body, 'x', size);
	body[size - 1] = '!';
	target(plain(), server, "/length");
	post_body("");
	a.request.body = (struct grapnel_str){ body, size };
	a.request.take_body = true;
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
	ck_assert_str_eq(a.body, "3145728 !");
}
END_TEST

START_TEST(a_cancelled_call_takes_what_it_was_given_along)
{
	char *body = malloc(100);

	ck_assert_ptr_nonnull(body);
	memset(body, 'x', 100);
	target(plain(), server, "/echo");
	post_body("");
	a.request.body = (struct grapnel_str){ body, 100 };
	a.request.take_body = true;
	a.cancel = true;
	ask();
	a.cancel = false;
	post_body("{}");
	ask();
	ck_assert_uint_eq(a.answers, 1);
	ck_assert_int_eq(a.err, GRAPNEL_OK);
}
END_TEST

START_TEST(an_answer_that_breaks_off_is_none)
{
	target(plain(), server, "/half");
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_str_ne(a.error, "");
	target(plain(), server, "/hang");
	a.request.timeout_ms = 50;
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ETIMEOUT);
	target(plain(), server, "/echo");
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_OK);
}
END_TEST

static const struct {
	const char *path;
	uint32_t least, most;
} retries[] = {
	{ "/echo", UINT32_MAX, UINT32_MAX },
	{ "/retry/7", 7000, 7000 },
	{ "/retry/0", 0, 0 },
	{ "/retry/soon", UINT32_MAX, UINT32_MAX },
	{ "/retry/Fri,_31_Dec_2100_23:59:59_GMT", 86400000, 86400000 },
};

START_TEST(retry_after_comes_with_the_answer)
{
	target(plain(), server, "%s", retries[_i].path);
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_OK);
	ck_assert_uint_ge(a.retry_after_ms, retries[_i].least);
	ck_assert_uint_le(a.retry_after_ms, retries[_i].most);
}
END_TEST

/* ---- the guard ----------------------------------------------------------------------------- */

START_TEST(a_private_address_is_not_connected_to)
{
	char url[100];
	struct curl_target_options o = plain();

	(void)snprintf(url, sizeof(url), "http://name.test:%u/echo", http_server_port(server));
	o.url = str(url);
	target(o, server, "x");
	post_body("{}");
	ask();
	ck_assert_msg(a.status == 200, "%s", a.error);
	ck_assert_uint_eq(http_server_connections(server), 1);
	/* Not even on that connection, which is open; nor on a new one. */
	o.no_private_addresses = true;
	for (unsigned i = 0; i < 2; i++) {
		target(o, server, "x");
		ask();
		ck_assert_int_eq(a.err, GRAPNEL_ESYS);
		ck_assert_msg(
		    strstr(a.error, "127.0.0.1 is a private address") != NULL, "%s", a.error);
		ck_assert_str_eq(a.body, "");
	}
	ck_assert_uint_eq(http_server_connections(server), 1);
}
END_TEST

/* ---- two of them at once ------------------------------------------------------------------- */

#define MANY 300u

struct many {
	struct asker asker;
	unsigned left, good;
};

static void send_one(struct many *m);

static void
on_one(void *arg, const struct curl_answer *answer)
{
	struct many *m = arg;

	m->good += answer->err == GRAPNEL_OK && answer->status == 200;
	if (m->left > 0)
		send_one(m);
	else if (--m->asker.answers == 0)
		sem_post(&m->asker.done);
}

static void
send_one(struct many *m)
{
	m->left--;
	ck_assert_ptr_nonnull(
	    curl_loop_start(m->asker.loop, m->asker.target, &m->asker.request, on_one, m));
}

static void
send_many(void *arg)
{
	struct many *m = arg;

	m->left = MANY;
	m->asker.answers = 4;
	for (unsigned i = 0; i < 4; i++)
		send_one(m);
}

START_TEST(loops_on_several_threads_do_not_meet)
{
	static struct many m[3];

	start_tls();
	for (unsigned i = 0; i < 3; i++) {
		asker_start(&m[i].asker);
		target_of(
		    &m[i].asker, i > 0 ? with_tls() : plain(), i > 0 ? other : server, "/length");
		m[i].asker.request = (struct curl_request){ .method = "POST",
			.body = str("{\"a\": 1}"),
			.content_type = "application/json" };
		ck_assert_int_eq(own_loop_post(m[i].asker.thread, send_many, &m[i]), GRAPNEL_OK);
	}
	for (unsigned i = 0; i < 3; i++) {
		asker_wait(&m[i].asker);
		asker_stop(&m[i].asker);
		own_loop_free(m[i].asker.thread);
		ck_assert_uint_eq(m[i].good, MANY);
	}
	ck_assert_uint_eq(http_server_connections(server), 4);
	ck_assert_uint_eq(http_server_connections(other), 8);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("curl_loop");
	TCase *tc = tcase_create("curl_loop");
	SRunner *sr;
	int failed;

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))
	tcase_add_checked_fixture(tc, asker_setup, asker_teardown);
	tcase_add_test(tc, headers_of_the_call_go_with_those_of_the_target);
	tcase_add_loop_test(tc, with_a_bad_header_nothing_is_sent, 0, ROWS(bad_headers));
	tcase_add_test(tc, a_body_can_be_given_away);
	tcase_add_test(tc, a_cancelled_call_takes_what_it_was_given_along);
	tcase_add_test(tc, an_answer_that_breaks_off_is_none);
	tcase_add_loop_test(tc, retry_after_comes_with_the_answer, 0, ROWS(retries));
	tcase_add_test(tc, a_private_address_is_not_connected_to);
	tcase_add_test(tc, loops_on_several_threads_do_not_meet);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_fork_status(sr, CK_FORK); /* they leave things behind */
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
