/* SPDX-License-Identifier: Apache-2.0 */
#include "config/cidr.h"
#include "net/websocket.h"
#include "upgrade_requests.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *request;
	int status;      /* of the answer */
	const char *has; /* in the answer */
	bool strict;     /* the listener with path and origins */
} request_cases[] = {
	/* the example of RFC 6455 section 1.3 */
	{ GET ALL END, 101, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", false },
	{ GET ALL END, 101, "Sec-WebSocket-Protocol: mqtt\r\n", false },
	{ "GET /any?token=x HTTP/1.1\r\n" ALL END, 101, "", false },
	{ "GET http://example.org/any HTTP/1.1\r\n" ALL END, 101, "", false },
	{ GET HOST UP VER KEY "Sec-WebSocket-Protocol: chat, mqttv3.1, mqtt\r\n" END, 101,
	    "Sec-WebSocket-Protocol: mqttv3.1\r\n", false },
	{ GET HOST UP VER KEY
	    "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: ,mqtt\r\n" END,
	    101, "Protocol: mqtt\r\n", false },
	{ GET HOST VER KEY SUB "upgrade: h2c, WebSocket\r\nCONNECTION:keep-alive, uPGRADE \r\n" END,
	    101, "", false },
	{ GET ALL "Sec-WebSocket-Extensions: permessage-deflate\r\n" END, 101, "", false },
	{ GET ALL "Content-Length: 0\r\n" END, 101, "", false },
	{ GET ALL "X-Empty:\r\n" END, 101, "", false },

	{ GET HOST END, 426, "Sec-WebSocket-Version: 13\r\n", false },
	{ GET HOST "Connection: Upgrade\r\n" VER KEY SUB END, 426, "Upgrade: websocket\r\n",
	    false },
	{ GET HOST "Upgrade: websocket\r\n" VER KEY SUB END, 426, "", false },
	{ GET HOST "Upgrade: websockets\r\nConnection: Upgrade\r\n" VER KEY SUB END, 426, "",
	    false },
	{ GET HOST UP KEY SUB END, 426, "must be 13", false },
	{ GET HOST UP "Sec-WebSocket-Version: 8\r\n" KEY SUB END, 426, "must be 13", false },
	{ GET HOST UP "Sec-WebSocket-Version: 13, 8\r\n" KEY SUB END, 426, "must be 13", false },
	{ GET HOST UP VER SUB END, 400, "Sec-WebSocket-Key", false },
	{ GET HOST UP VER "Sec-WebSocket-Key: \r\n" SUB END, 400, "Sec-WebSocket-Key", false },
	{ GET HOST UP VER "Sec-WebSocket-Key: c2hvcnQ=\r\n" SUB END, 400, "Sec-WebSocket-Key",
	    false },
	{ GET HOST UP VER "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=!\r\n" SUB END, 400,
	    "Sec-WebSocket-Key", false },
	{ GET HOST UP VER "Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\r\n" SUB END, 400,
	    "Sec-WebSocket-Key", false },
	{ GET HOST UP VER KEY END, 400, "Sec-WebSocket-Protocol is missing", false },
	{ GET HOST UP VER KEY "Sec-WebSocket-Protocol: MQTT, mqttv5, mqtt2\r\n" END, 400,
	    "none is mqtt", false },
	{ GET UP VER KEY SUB END, 400, "Host", false },
	{ GET ALL KEY END, 400, "twice", false },
	{ GET ALL VER END, 400, "twice", false },
	{ GET ALL HOST END, 400, "twice", false },
	{ GET ALL "Origin: a\r\norigin: b\r\n" END, 400, "twice", false },
	{ GET HOST UP VER "Sec-WebSocket-Key: dGhlIHNhbXBs\r\n ZSBub25jZQ==\r\n" SUB END, 400,
	    "second line", false },
	{ GET "Host : example.org\r\n" UP VER KEY SUB END, 400, "", false },
	{ GET ALL "X: a\rb\r\n" END, 400, "", false },
	{ GET ALL "X: a\001b\r\n" END, 400, "", false },
	{ GET ALL ": nameless\r\n" END, 400, "", false },
	{ GET ALL "Content-Length: 5\r\n" END "hello", 400, "no body", false },
	{ GET ALL "Transfer-Encoding: chunked\r\n" END, 400, "no body", false },
	{ "GET / HTTP/1.0\r\n" ALL END, 400, "HTTP/1.1", false },
	{ "POST / HTTP/1.1\r\n" ALL END, 405, "Allow: GET\r\n", false },
	{ "CONNECT a:1 HTTP/1.1\r\n" ALL END, 405, "", false },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "", false },
	{ "\x10\x12", 400, "", false },
	{ "\x16\x03\x01", 400, "", false },

	{ "GET /mqtt HTTP/1.1\r\n" ALL END, 101, "", true },
	{ "GET /mqtt?a/b HTTP/1.1\r\n" ALL END, 101, "", true },
	{ "GET /mqtt/ HTTP/1.1\r\n" ALL END, 404, "", true },
	{ "GET /MQTT HTTP/1.1\r\n" ALL END, 404, "", true },
	{ "GET /x/../mqtt HTTP/1.1\r\n" ALL END, 404, "", true },
	{ GET ALL END, 404, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: https://example.org\r\n" END, 101, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: https://EXAMPLE.org\r\n" END, 101, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: http://localhost:8080\r\n" END, 101, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: http://localhost\r\n" END, 403, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: http://example.org\r\n" END, 403, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: https://example.org.evil\r\n" END, 403, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: https://example.or\r\n" END, 403, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: null\r\n" END, 403, "", true },
	{ "GET /mqtt HTTP/1.1\r\n" ALL "Origin: \r\n" END, 403, "", true },
};

static struct upgrade *
asked(const struct listener_settings *ls, bool trusted, const char *request, size_t len,
    size_t portion)
{
	struct upgrade *u = malloc(sizeof(*u));

	ck_assert_ptr_nonnull(u);
	upgrade_init(u, ls, trusted);
	for (size_t off = 0; off < len && u->status == UPGRADE_MORE;) {
		size_t n = len - off < portion ? len - off : portion;

		memcpy(u->head + u->len, request + off, n);
		(void)upgrade_parse(u, n);
		off += n;
	}
	return u;
}

START_TEST(request_is_answered)
{
	const char *request = request_cases[_i].request;

	for (size_t portion = 1; portion <= strlen(request); portion = portion == 1 ? 7
		 : portion == 7 ? strlen(request)
				: strlen(request) + 1) {
		struct upgrade *u = asked(request_cases[_i].strict ? &strict : &plain, false,
		    request, strlen(request), portion);
		char first[32];

		ck_assert_int_ne(u->status, UPGRADE_MORE);
		u->answer[u->answer_len] = '\0';
		snprintf(first, sizeof(first), "HTTP/1.1 %d ", request_cases[_i].status);
		ck_assert_msg(
		    strncmp(u->answer, first, strlen(first)) == 0, "%s%s", request, u->answer);
		ck_assert_ptr_nonnull(strstr(u->answer, request_cases[_i].has));
		ck_assert_int_eq(u->status == UPGRADE_ACCEPTED, request_cases[_i].status == 101);
		if (u->status == UPGRADE_REFUSED) {
			const char *length = strstr(u->answer, "Content-Length: "),
				   *body = strstr(u->answer, "\r\n\r\n");

			ck_assert_ptr_nonnull(strstr(u->answer, "Connection: close\r\n"));
			ck_assert_ptr_nonnull(length);
			ck_assert_uint_eq(strtoul(length + 16, NULL, 10), strlen(body + 4));
			ck_assert_uint_gt(strlen(u->why), 0);
		}
		free(u);
	}
}
END_TEST

START_TEST(bytes_behind_the_request_are_kept)
{
	static const char request[] = GET ALL END "\x82\x80GET";
	struct upgrade *u = asked(&plain, false, request, sizeof(request) - 1, sizeof(request));

	ck_assert_int_eq(u->status, UPGRADE_ACCEPTED);
	ck_assert_uint_eq(u->len - u->used, 5);
	ck_assert_mem_eq(u->head + u->used, "\x82\x80GET", 5);
	free(u);
}
END_TEST

START_TEST(request_is_bounded)
{
	char request[UPGRADE_HEAD_MAX + 1];
	size_t len;
	struct upgrade *u;

	/* one byte less than too long: more is waited for, and all of it too long at once */
	len = (size_t)snprintf(request, sizeof(request), "GET / HTTP/1.1\r\nX: ");
	memset(request + len, 'a', sizeof(request) - len);
	u = asked(&plain, false, request, UPGRADE_HEAD_MAX - 1, 1000);
	ck_assert_int_eq(u->status, UPGRADE_MORE);
	free(u);
	u = asked(&plain, false, request, UPGRADE_HEAD_MAX, 1024);
	ck_assert_int_eq(u->status, UPGRADE_REFUSED);
	ck_assert_ptr_nonnull(strstr(u->answer, " 431 "));
	free(u);

	for (unsigned more = 0; more < 2; more++) {
		len = (size_t)snprintf(request, sizeof(request), GET ALL); /* 6 fields */
		for (unsigned i = 6; i < UPGRADE_FIELDS_MAX + more; i++)
			len += (size_t)snprintf(request + len, sizeof(request) - len, "X: y\r\n");
		len += (size_t)snprintf(request + len, sizeof(request) - len, END);
		u = asked(&plain, false, request, len, len);
		ck_assert_int_eq(u->status, more ? UPGRADE_REFUSED : UPGRADE_ACCEPTED);
		if (more)
			ck_assert_ptr_nonnull(strstr(u->answer, " 431 "));
		free(u);
	}
}
END_TEST

static const struct {
	const char *fields;
	const char *address; /* NULL: the peer's own */
} forwarded_cases[] = {
	{ "", NULL },
	{ "X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7" },
	{ "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\n", "192.0.2.7" },
	{ "X-Forwarded-For: 198.51.100.1, 192.0.2.7, 10.1.2.3\r\n", "192.0.2.7" },
	{ "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.7, 10.0.0.1\r\n",
	    "192.0.2.7" },
	{ "X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", NULL }, /* proxies all the way */
	{ "X-Forwarded-For: 192.0.2.7:4711\r\n", "192.0.2.7" },
	{ "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1" },
	{ "X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1" },
	{ "X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1" },
	{ "X-Forwarded-For: ::ffff:10.0.0.9\r\n", NULL }, /* a trusted one in other words */
	{ "X-Forwarded-For: 192.0.2.7, unknown\r\n", NULL },
	{ "X-Forwarded-For: unknown, 192.0.2.7\r\n", "192.0.2.7" },
	{ "X-Forwarded-For: 192.0.2.7, unknown, 10.0.0.1\r\n", NULL },
	{ "X-Forwarded-For: [192.0.2.7]\r\n", NULL },
	{ "X-Forwarded-For: 192.0.2.7:99999\r\n", NULL },
	{ "X-Forwarded-For: 192.0.2.7:\r\n", NULL },
	{ "X-Forwarded-For: [2001:db8::1\r\n", NULL },
	{ "X-Forwarded-For: 192.0.2\r\n", NULL },
	{ "X-Forwarded-For: "
	  "11111111111111111111111111111111111111111111111111111111111111111111\r\n",
	    NULL },
	{ "X-Forwarded-For: ,,\r\n", NULL },
};

START_TEST(forwarded_address_is_the_last_that_is_no_proxy)
{
	struct cidr ten;
	char why[64], request[1024];
	struct listener_settings ls = plain;
	char *text = (char *)(uintptr_t) "10.0.0.0/8";

	ck_assert(cidr_parse(text, &ten, why, sizeof(why)));
	ls.trusted = &ten;
	ls.trusted_proxies = (struct string_list){ &text, 1 };
	snprintf(request, sizeof(request), GET ALL "%s\r\n", forwarded_cases[_i].fields);
	for (unsigned trusted = 0; trusted < 2; trusted++) {
		struct upgrade *u = asked(&ls, trusted, request, strlen(request), 3);
		char shown[INET6_ADDRSTRLEN] = "";

		ck_assert_int_eq(u->status, UPGRADE_ACCEPTED);
		if (u->forwarded.ss_family == AF_INET)
			inet_ntop(AF_INET, &((struct sockaddr_in *)&u->forwarded)->sin_addr, shown,
			    sizeof(shown));
		else
			inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&u->forwarded)->sin6_addr,
			    shown, sizeof(shown));
		if (trusted && forwarded_cases[_i].address != NULL) {
			ck_assert_uint_gt(u->forwarded_len, 0);
			ck_assert_str_eq(shown, forwarded_cases[_i].address);
		} else {
			ck_assert_uint_eq(u->forwarded_len, 0);
		}
		free(u);
	}
}
END_TEST

#define ROWS(array) (int)(sizeof(array) / sizeof(*(array)))

int
main(void)
{
	Suite *s = suite_create("websocket_upgrade");
	TCase *t = tcase_create("websocket_upgrade");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, request_is_answered, 0, ROWS(request_cases));
	tcase_add_test(t, bytes_behind_the_request_are_kept);
	tcase_add_test(t, request_is_bounded);
	tcase_add_loop_test(
	    t, forwarded_address_is_the_last_that_is_no_proxy, 0, ROWS(forwarded_cases));
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
