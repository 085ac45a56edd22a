/* SPDX-License-Identifier: Apache-2.0 */
#include "http_asker.h"

#include <check.h>
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

struct asker a;
struct http_server *server, *other, *third;
char pem[] = "/tmp/test_curl.XXXXXX", pin[64];

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

void
asker_start(struct asker *x)
{
	ck_assert_int_eq(sem_init(&x->done, 0, 0), 0);
	x->thread = own_loop_new(&host, NULL);
	ck_assert_ptr_nonnull(x->thread);
	ck_assert_int_eq(own_loop_start(x->thread, "asker"), GRAPNEL_OK);
	ck_assert_int_eq(own_loop_post(x->thread, begin, x), GRAPNEL_OK);
}

void
asker_stop(struct asker *x)
{
	ck_assert_int_eq(own_loop_post(x->thread, end, x), GRAPNEL_OK);
	own_loop_stop(x->thread);
	for (unsigned i = 0; i < ASKER_MAX_TARGETS; i++)
		curl_target_free(x->targets[i]);
	sem_destroy(&x->done);
}

void
asker_setup(void)
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

void
asker_teardown(void)
{
	asker_stop(&a);
	own_loop_free(worker);
	own_loop_free(a.thread);
	http_server_free(server);
	http_server_free(other);
	http_server_free(third);
	(void)unlink(pem);
}

struct grapnel_str
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
	struct curl_call *call = curl_loop_start(x->loop, x->target, &x->request, on_answer, x);

	ck_assert_ptr_nonnull(call);
	if (!x->cancel)
		return;
	curl_call_cancel(call);
	sem_post(&x->done);
}

void
asker_wait(struct asker *x)
{
	while (sem_wait(&x->done) != 0)
		;
}

void
ask(void)
{
	ck_assert_int_eq(own_loop_post(a.thread, start, &a), GRAPNEL_OK);
	asker_wait(&a);
}

/* What a target has if the test does not say otherwise. */
struct curl_target_options
plain(void)
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

void
target_of(struct asker *x, struct curl_target_options o, const struct http_server *s,
    const char *format, ...)
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
	while (at < ASKER_MAX_TARGETS && x->targets[at] != NULL)
		at++;
	ck_assert_uint_lt(at, ASKER_MAX_TARGETS);
	x->targets[at] = x->target;
}

void
has(const char *what)
{
	ck_assert_msg(strstr(a.body, what) != NULL, "no \"%s\" in: %s", what, a.body);
}

void
has_no(const char *what)
{
	ck_assert_msg(strstr(a.body, what) == NULL, "\"%s\" in: %s", what, a.body);
}

void
post_body(const char *body)
{
	a.request = (struct curl_request){
		.method = "POST", .body = str(body), .content_type = "application/json"
	};
}

struct curl_target_options
with_tls(void)
{
	struct curl_target_options o = plain();

	o.tls_ca = str(pem);
	return o;
}

void
start_tls(void)
{
	http_server_certificate(pem, pin);
	other = http_server_new(pem);
}
