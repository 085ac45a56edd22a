/* SPDX-License-Identifier: Apache-2.0 */
#include "config/cidr.h"
#include "core/worker.h"
#include "net/handshake.h"
#include "net/websocket.h"
#include "upgrade_requests.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A frame with the mask 0, which is as good as any. @return its length. */
static size_t
masked(uint8_t *out, const char *payload)
{
	size_t len = strlen(payload);

	out[0] = 0x82;
	out[1] = (uint8_t)(0x80 | len);
	memset(out + 2, 0, 4);
	memcpy(out + 6, payload, len);
	return 6 + len;
}

struct pair {
	struct worker *worker;
	struct stream s;
	struct handshake *h;
	struct listener_settings ls;
	struct settings settings; /* that ls is part of */
	int peer;
};

static void
pair_init(struct pair *p, const struct listener_settings *ls)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int fds[2];

	ck_assert_int_eq(inet_pton(AF_INET, "10.0.0.1", &sa.sin_addr), 1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	ck_assert_ptr_nonnull(p->worker = calloc(1, sizeof(*p->worker)));
	p->peer = fds[1];
	stream_init_plain(&p->s, fds[0]);
	p->ls = *ls;
	p->ls.settings = &p->settings;
	atomic_init(&p->settings.refs, 1);
	p->h =
	    handshake_new(p->worker, &p->s, &p->ls, NULL, (const struct sockaddr *)&sa, sizeof(sa));
	ck_assert_ptr_nonnull(p->h);
}

static void
pair_fini(struct pair *p)
{
	handshake_free(p->h);
	stream_close(&p->s);
	close(p->peer);
	free(p->worker);
}

static void
say(struct pair *p, const void *data, size_t len)
{
	ck_assert_int_eq(write(p->peer, data, len), (ssize_t)len);
}

static void
hear(struct pair *p, const char *text)
{
	char buf[1024];
	ssize_t n = read(p->peer, buf, sizeof(buf) - 1);

	ck_assert_int_gt(n, 0);
	buf[n] = '\0';
	ck_assert_msg(strstr(buf, text) != NULL, "%s is not in:\n%s", text, buf);
}

START_TEST(upgrade_puts_the_layer_on_the_stream)
{
	static const char request[] = GET ALL END;
	uint8_t wire[16], buf[64];
	struct pair p;

	pair_init(&p, &plain);
	ck_assert(handshake_needed(&plain));
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_READ);
	ck_assert_ptr_null(p.h->state); /* nothing is held for one who says nothing */
	for (size_t i = 0; i < sizeof(request) - 2; i++) {
		say(&p, request + i, 1);
		ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_READ);
	}
	/* the last byte, and a frame behind it */
	wire[0] = '\n';
	say(&p, wire, 1 + masked(wire + 1, "hello"));
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_DONE);
	ck_assert_str_eq(p.s.ops->name, "websocket");
	hear(&p, "HTTP/1.1 101 ");
	ck_assert(stream_pending(&p.s));
	ck_assert_int_eq(stream_read(&p.s, buf, sizeof(buf)), 5);
	ck_assert_mem_eq(buf, "hello", 5);
	ck_assert_int_eq(
	    stream_writev(&p.s, &(struct iovec){ (void *)(uintptr_t) "there", 5 }, 1), 5);
	hear(&p, "\x82\5there");
	ck_assert_int_eq(stream_read(&p.s, buf, sizeof(buf)), -1);
	ck_assert_int_eq(errno, EAGAIN);
	pair_fini(&p);
}
END_TEST

START_TEST(auto_looks_at_the_first_byte)
{
	struct listener_settings ls = plain;
	struct pair p;
	char buf[8];

	ls.websocket = WEBSOCKET_AUTO;
	pair_init(&p, &ls);
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_READ);
	say(&p, "\x10\x0c", 2);
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_DONE);
	ck_assert_str_eq(p.s.ops->name, "plain");
	ck_assert_int_eq(stream_read(&p.s, buf, sizeof(buf)), 2); /* nothing was taken */
	pair_fini(&p);

	pair_init(&p, &ls);
	say(&p, GET ALL END, strlen(GET ALL END));
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_DONE);
	ck_assert_str_eq(p.s.ops->name, "websocket");
	pair_fini(&p);
}
END_TEST

START_TEST(refusal_is_answered_counted_and_explained)
{
	struct pair p;

	pair_init(&p, &strict);
	say(&p, "GET /x?secret HTTP/1.1\r\n" ALL END, strlen("GET /x?secret HTTP/1.1\r\n" ALL END));
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_FAILED);
	hear(&p, "HTTP/1.1 404 Not Found\r\n");
	ck_assert_str_eq(p.h->why,
	    "WebSocket: answered 404: there is no WebSocket at this path: \"/x\", but at "
	    "\"/mqtt\"");
	ck_assert_int_eq(metric_get(&p.worker->metrics, METRIC_WEBSOCKET_UPGRADES_REFUSED), 1);
	ck_assert_str_eq(p.s.ops->name, "plain");
	pair_fini(&p);

	pair_init(&p, &plain);
	say(&p, "\x10\x0c", 2);
	ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_FAILED);
	hear(&p, "HTTP/1.1 400 ");
	ck_assert_ptr_nonnull(strstr(p.h->why, "websocket = auto"));
	pair_fini(&p);
}
END_TEST

START_TEST(peer_that_leaves_early_fails)
{
	struct pair p;

	for (unsigned some = 0; some < 2; some++) {
		pair_init(&p, &plain);
		if (some)
			say(&p, GET, strlen(GET));
		ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_READ);
		shutdown(p.peer, SHUT_WR);
		ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_FAILED);
		ck_assert_ptr_nonnull(strstr(p.h->why, "gone"));
		pair_fini(&p);
	}
}
END_TEST

START_TEST(forwarded_address_replaces_the_peers)
{
	static const char request[] = GET ALL "X-Forwarded-For: 192.0.2.7\r\n" END;
	char why[64],
	    *text[] = { (char *)(uintptr_t) "10.0.0.0/8", (char *)(uintptr_t) "172.16.0.0/12" };

	for (unsigned i = 0; i < 2; i++) { /* 10.0.0.1 connects */
		struct listener_settings ls = plain;
		struct sockaddr_in *sa;
		struct cidr set;
		struct pair p;

		ck_assert(cidr_parse(text[i], &set, why, sizeof(why)));
		ls.trusted = &set;
		ls.trusted_proxies = (struct string_list){ &text[i], 1 };
		pair_init(&p, &ls);
		say(&p, request, sizeof(request) - 1);
		ck_assert_int_eq(handshake_run(p.h), HANDSHAKE_DONE);
		sa = (struct sockaddr_in *)&p.h->facts.address;
		ck_assert_str_eq(inet_ntoa(sa->sin_addr), i == 0 ? "192.0.2.7" : "10.0.0.1");
		pair_fini(&p);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("websocket");
	TCase *t = tcase_create("websocket");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, upgrade_puts_the_layer_on_the_stream);
	tcase_add_test(t, auto_looks_at_the_first_byte);
	tcase_add_test(t, refusal_is_answered_counted_and_explained);
	tcase_add_test(t, peer_that_leaves_early_fails);
	tcase_add_test(t, forwarded_address_replaces_the_peers);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
