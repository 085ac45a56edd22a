/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are really sent, by a curl_loop on an own_loop, to servers of the test. */
#include "../../plugins/common/curl_loop.h"
#include "../../plugins/common/own_loop.h"
#include "http_server.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- the host: a worker that knows one name ---------------------------------------------- */

static struct own_loop *worker;

static uint64_t
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int64_t
wall_us(void)
{
	return (int64_t)time(NULL) * 1000000;
}

static int
host_post(struct grapnel_instance *self, unsigned number, grapnel_call_fn fn, void *arg)
{
	(void)self;
	(void)number;
	return own_loop_post(worker, fn, arg);
}

static struct {
	grapnel_resolve_fn fn;
	void *arg;
	bool known;
} resolving;

static void
on_resolving(void *arg)
{
	const struct grapnel_str address = { "127.0.0.1", 9 };

	(void)arg;
	resolving.fn(resolving.arg, resolving.known ? GRAPNEL_OK : GRAPNEL_ENOENT,
	    resolving.known ? &address : NULL, resolving.known);
}

/* One at a time is enough. */
static struct grapnel_resolve *
host_dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	(void)self;
	(void)timeout_ms;
	resolving.fn = fn;
	resolving.arg = arg;
	resolving.known = name.len == 9 && memcmp(name.data, "name.test", 9) == 0;
	ck_assert_int_eq(own_loop_post(worker, on_resolving, NULL), GRAPNEL_OK);
	return (struct grapnel_resolve *)(void *)&resolving;
}

static const struct grapnel_host host = {
	.size = sizeof(host),
	.workers = 1,
	.now_ms = now_ms,
	.wall_us = wall_us,
	.post = host_post,
	.dns_lookup = host_dns_lookup,
};

/* ---- one who asks -------------------------------------------------------------------------- */

struct asker {
	struct own_loop *thread;
	struct curl_loop *loop;
	struct curl_target *target, *targets[6]; /* the last one, and all of them */
	struct curl_request request;
	struct curl_call *call;
	bool cancel;
	sem_t done;
	/* the answer: */
	unsigned answers;
	int err;
	long status;
	uint32_t retry_after_ms;
	char error[300], body[8000], location[300];
};

static struct asker a;
static struct http_server *server, *other, *third; /* other: with TLS */
static char pem[] = "/tmp/test_curl_loop.XXXXXX", pin[64];

static void
begin(void *arg)
{
	const struct curl_loop_limits limits = {
		.connections = 8, .waiting = 100, .idle_ms = 60000, .metrics = CURL_LOOP_NO_METRICS
	};
	struct asker *x = arg;

	x->loop = curl_loop_new(own_loop_host(x->thread), NULL, &limits);
	ck_assert_ptr_nonnull(x->loop);
}

static void
end(void *arg)
{
	struct asker *x = arg;

	curl_loop_free(x->loop);
}

static void
asker_start(struct asker *x)
{
	ck_assert_int_eq(sem_init(&x->done, 0, 0), 0);
	x->thread = own_loop_new(&host, NULL);
	ck_assert_ptr_nonnull(x->thread);
	ck_assert_int_eq(own_loop_start(x->thread, "asker"), GRAPNEL_OK);
	ck_assert_int_eq(own_loop_post(x->thread, begin, x), GRAPNEL_OK);
}

static void
asker_stop(struct asker *x)
{
	ck_assert_int_eq(own_loop_post(x->thread, end, x), GRAPNEL_OK);
	own_loop_stop(x->thread);
	for (unsigned i = 0; i < 6; i++)
		curl_target_free(x->targets[i]);
	sem_destroy(&x->done);
}

static void
setup(void)
{
	int fd = mkstemp(pem);

	ck_assert_int_ge(fd, 0);
	close(fd);
	worker = own_loop_new(&host, NULL);
	ck_assert_ptr_nonnull(worker);
	ck_assert_int_eq(own_loop_start(worker, "worker"), GRAPNEL_OK);
	server = http_server_new(NULL);
	asker_start(&a);
}

static void
teardown(void)
{
	asker_stop(&a);
	own_loop_free(worker);
	own_loop_free(a.thread);
	http_server_free(server);
	http_server_free(other);
	http_server_free(third);
	(void)unlink(pem);
}

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, strlen(text) };
}

static void
copy_text(char *out, size_t room, struct grapnel_str s)
{
	(void)snprintf(out, room, "%.*s", (int)s.len, s.data != NULL ? s.data : "");
}

static void
on_answer(void *arg, const struct curl_answer *answer)
{
	struct asker *x = arg;

	x->answers++;
	x->err = answer->err;
	x->status = answer->status;
	x->retry_after_ms = answer->retry_after_ms;
	(void)snprintf(x->error, sizeof(x->error), "%s", answer->error);
	copy_text(x->body, sizeof(x->body), answer->body);
	copy_text(x->location, sizeof(x->location), answer->location);
	sem_post(&x->done);
}

static void
start(void *arg)
{
	struct asker *x = arg;

	x->call = curl_loop_start(x->loop, x->target, &x->request, on_answer, x);
	ck_assert_ptr_nonnull(x->call);
	if (!x->cancel)
		return;
	curl_call_cancel(x->call);
	sem_post(&x->done);
}

static void
wait_for(struct asker *x)
{
	while (sem_wait(&x->done) != 0)
		;
}

static void
ask(void)
{
	ck_assert_int_eq(own_loop_post(a.thread, start, &a), GRAPNEL_OK);
	wait_for(&a);
}

/* What a target has if the test does not say otherwise. */
static struct curl_target_options
options(void)
{
	return (struct curl_target_options){
		.user_agent = "test",
		.connect_timeout_ms = 30000,
		.timeout_ms = 60000,
		.max_answer = 100000,
	};
}

static const char *
scheme_of(const struct http_server *s)
{
	return s == other && other != NULL ? "https" : "http";
}

static void __attribute__((format(printf, 4, 5))) target_of(struct asker *x,
    struct curl_target_options o, const struct http_server *s, const char *format, ...)
{
	char url[1000], error[300];
	va_list arguments;
	unsigned at = 0;
	int len =
	    snprintf(url, sizeof(url), "%s://127.0.0.1:%u", scheme_of(s), http_server_port(s));

	va_start(arguments, format);
	(void)vsnprintf(url + len, sizeof(url) - (size_t)len, format, arguments);
	va_end(arguments);
	if (o.url.data == NULL)
		o.url = str(url);
	x->target = curl_target_new(&o, error, sizeof(error));
	ck_assert_msg(x->target != NULL, "%s: %s", url, error);
	while (x->targets[at] != NULL)
		at++;
	ck_assert_uint_lt(at, 6);
	x->targets[at] = x->target;
}
#define target(...) target_of(&a, __VA_ARGS__)

static void
has(const char *what)
{
	ck_assert_msg(strstr(a.body, what) != NULL, "no \"%s\" in: %s", what, a.body);
}

static void
has_no(const char *what)
{
	ck_assert_msg(strstr(a.body, what) == NULL, "\"%s\" in: %s", what, a.body);
}

static void
post_body(const char *body)
{
	a.request = (struct curl_request){
		.method = "POST", .body = str(body), .content_type = "application/json"
	};
}

/* ---- requests ------------------------------------------------------------------------------ */

START_TEST(headers_of_the_call_go_with_those_of_the_target)
{
	const struct grapnel_str mine[] = { str("X-Id: 7"), str("X-Sig: v1,a=") },
				 its = str("X-Key: k");
	struct curl_target_options o = options();

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

	target(options(), server, "/echo");
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
	target(options(), server, "/length");
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
	target(options(), server, "/echo");
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
	target(options(), server, "/half");
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_str_ne(a.error, "");
	target(options(), server, "/hang");
	a.request.timeout_ms = 50;
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ETIMEOUT);
	target(options(), server, "/echo");
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
	target(options(), server, "%s", retries[_i].path);
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_OK);
	ck_assert_uint_ge(a.retry_after_ms, retries[_i].least);
	ck_assert_uint_le(a.retry_after_ms, retries[_i].most);
}
END_TEST

/* ---- redirects ----------------------------------------------------------------------------- */

static struct curl_target_options
with_secrets(enum curl_redirects redirects)
{
	static const struct grapnel_str headers[] = { { "X-Key: k", 8 }, { "Cookie: c", 9 } };
	struct curl_target_options o = options();

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

static struct curl_target_options
with_tls(void)
{
	struct curl_target_options o = options();

	o.tls_ca = str(pem);
	return o;
}

static void
start_tls(void)
{
	http_server_certificate(pem, pin);
	other = http_server_new(pem);
}

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
	struct curl_target_options o = options();

	start_tls();
	o.redirects = CURL_REDIRECTS_ANY; /* the certificate is of nobody whom the system knows */
	target(o, server, "/307/https://127.0.0.1:%u/echo", http_server_port(other));
	post_body("{}");
	ask();
	ck_assert_int_eq(a.err, GRAPNEL_ESYS);
	ck_assert_ptr_nonnull(strstr(a.error, "certificate"));
}
END_TEST

/* ---- the guard ----------------------------------------------------------------------------- */

START_TEST(a_private_address_is_not_connected_to)
{
	char url[100];
	struct curl_target_options o = options();

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
		    &m[i].asker, i > 0 ? with_tls() : options(), i > 0 ? other : server, "/length");
		m[i].asker.request = (struct curl_request){ .method = "POST",
			.body = str("{\"a\": 1}"),
			.content_type = "application/json" };
		ck_assert_int_eq(own_loop_post(m[i].asker.thread, send_many, &m[i]), GRAPNEL_OK);
	}
	for (unsigned i = 0; i < 3; i++) {
		wait_for(&m[i].asker);
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
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, headers_of_the_call_go_with_those_of_the_target);
	tcase_add_loop_test(tc, with_a_bad_header_nothing_is_sent, 0, ROWS(bad_headers));
	tcase_add_test(tc, a_body_can_be_given_away);
	tcase_add_test(tc, a_cancelled_call_takes_what_it_was_given_along);
	tcase_add_test(tc, an_answer_that_breaks_off_is_none);
	tcase_add_loop_test(tc, retry_after_comes_with_the_answer, 0, ROWS(retries));
	tcase_add_loop_test(tc, redirects_within_the_host_keep_all, 0, ROWS(same_host));
	tcase_add_test(tc, another_host_is_told_no_secrets);
	tcase_add_test(tc, a_redirect_to_a_name_that_is_none_fails);
	tcase_add_test(tc, a_pinned_key_must_be_the_servers);
	tcase_add_test(tc, a_client_certificate_is_shown_to_its_host_only);
	tcase_add_test(tc, tls_is_checked_where_http_redirects_to);
	tcase_add_test(tc, a_private_address_is_not_connected_to);
	tcase_add_test(tc, loops_on_several_threads_do_not_meet);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
