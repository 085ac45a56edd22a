/* SPDX-License-Identifier: Apache-2.0 */
/* curl_call - one request from its start to its answer: curl_loop.h */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX (64u << 10) /* bytes of all headers of an answer */
#define BODY_FIRST  1024u

/* -------------------------------------------------------------------------- answers */

static size_t
on_body(char *data, size_t one, size_t len, void *arg)
{
	struct curl_call *c = arg;
	size_t wanted = c->answer_len + len * one + 1;

	len *= one;
	if (len > c->target->max_answer - c->answer_len) {
		c->too_large = true;
		return 0;
	}
	if (wanted > c->answer_capacity) {
		size_t capacity = c->answer_capacity > 0 ? c->answer_capacity * 2 : BODY_FIRST;
		char *more;

		if (capacity < wanted)
			capacity = wanted;
		more = realloc(c->answer, capacity);
		if (more == NULL) {
			c->no_memory = true;
			return 0;
		}
		c->answer = more;
		c->answer_capacity = capacity;
	}
	memcpy(c->answer + c->answer_len, data, len);
	c->answer_len += len;
	c->answer[c->answer_len] = '\0';
	return len;
}

static void
keep_cache_control(struct curl_call *c, const char *data, size_t len)
{
	static const char name[] = "Cache-Control:";
	size_t have = strlen(c->cache_control);

	if (len < sizeof(name) - 1 || strncasecmp(data, name, sizeof(name) - 1) != 0)
		return;
	data += sizeof(name) - 1;
	len -= sizeof(name) - 1;
	while (len > 0 && (data[len - 1] == '\r' || data[len - 1] == '\n'))
		len--;
	/* More than is kept is more than anyone means: the strictest reading is the safe one. */
	if (have + len + 2 > sizeof(c->cache_control))
		(void)snprintf(c->cache_control, sizeof(c->cache_control), "no-store");
	else
		(void)snprintf(c->cache_control + have, sizeof(c->cache_control) - have, "%s%.*s",
		    have > 0 ? "," : "", (int)len, data);
}

static size_t
on_header(char *data, size_t one, size_t len, void *arg)
{
	struct curl_call *c = arg;

	len *= one;
	c->headers_len += len;
	if (c->headers_len > HEADERS_MAX) {
		c->too_large = true;
		return 0;
	}
	if (len > 5 && strncmp(data, "HTTP/", 5) == 0)
		c->cache_control[0] = '\0'; /* that was "100 Continue" or the like */
	else
		keep_cache_control(c, data, len);
	return len;
}

/* ------------------------------------------------------------------ a call from send to end */

static void
list_in(struct curl_call **first, struct curl_call *c)
{
	c->prev = NULL;
	c->next = *first;
	if (*first != NULL)
		(*first)->prev = c;
	*first = c;
}

static void
unlink_call(struct curl_call *c)
{
	struct curl_loop *loop = c->loop;
	struct curl_call **first = c->state == CALL_WAITING ? &loop->waiting : &loop->active;

	if (c->state == CALL_WAITING && loop->waiting_last == c)
		loop->waiting_last = c->prev;
	if (c->prev != NULL)
		c->prev->next = c->next;
	else
		*first = c->next;
	if (c->next != NULL)
		c->next->prev = c->prev;
	c->prev = c->next = NULL;
	if (c->state == CALL_WAITING)
		loop->waiting_count--;
	else
		loop->active_count--;
	curl_loop_count(loop,
	    c->state == CALL_WAITING ? loop->limits.metrics.calls_waiting
				     : loop->limits.metrics.calls_active,
	    -1);
	curl_names_leave(&c->waiter);
	if (c->state == CALL_SENT)
		(void)curl_multi_remove_handle(loop->multi, c->easy);
	c->state = CALL_ENDING;
}

static void
call_free(struct curl_call *c)
{
	c->loop->host->timer_free(c->timer);
	if (c->easy != NULL)
		curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->addresses);
	if (c->url != NULL)
		explicit_bzero(c->url, c->url_len);
	free(c->url);
	if (c->body.data != NULL)
		explicit_bzero((char *)(uintptr_t)c->body.data, c->body.len);
	free((char *)(uintptr_t)c->body.data);
	if (c->answer != NULL)
		explicit_bzero(c->answer, c->answer_len);
	free(c->answer);
	free(c);
}

/* Nothing is under way any more: connections may go after a while. */
static void
curl_loop_rest(struct curl_loop *loop)
{
	if (loop->active == NULL && loop->waiting == NULL && !loop->freeing)
		(void)loop->host->timer_arm(loop->idle, loop->limits.idle_ms);
}

void
curl_call_finish(struct curl_call *c, int err, const char *error)
{
	struct curl_loop *loop = c->loop;
	struct curl_answer answer = { .err = err, .error = error };
	char *type = NULL;

	unlink_call(c);
	if (err != GRAPNEL_OK && err != GRAPNEL_ECANCELED)
		curl_loop_count(loop, loop->limits.metrics.failures_total, 1);
	if (err == GRAPNEL_ETIMEOUT)
		curl_loop_count(loop, loop->limits.metrics.timeouts_total, 1);
	if (err == GRAPNEL_OK) {
		(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &answer.status);
		(void)curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
		answer.body =
		    (struct grapnel_str){ c->answer != NULL ? c->answer : "", c->answer_len };
		if (type != NULL)
			answer.content_type = (struct grapnel_str){ type, strlen(type) };
		if (c->cache_control[0] != '\0')
			answer.cache_control =
			    (struct grapnel_str){ c->cache_control, strlen(c->cache_control) };
	}
	c->fn(c->arg, &answer);
	call_free(c);
	curl_loop_rest(loop);
}

static void
on_call_timeout(void *arg)
{
	struct curl_call *c = arg;
	struct curl_loop *loop = c->loop;
	char text[64];

	(void)snprintf(text, sizeof(text), "no answer within %u ms", (unsigned)c->timeout_ms);
	curl_call_finish(c, GRAPNEL_ETIMEOUT, text);
	curl_loop_advance(loop);
}

static bool
apply_request(const struct curl_call *c)
{
	bool body = c->body.data != NULL;

	if (curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETFUNCTION, curl_loop_on_socket_open) !=
		CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETDATA, c->loop) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CLOSESOCKETFUNCTION, curl_loop_on_socket_close) !=
		CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CLOSESOCKETDATA, c->loop) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_MAXFILESIZE_LARGE,
		(curl_off_t)c->target->max_answer) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_MAXAGE_CONN,
		(long)(c->loop->limits.idle_ms / 1000) + 1) != CURLE_OK)
		return false;
	if (c->url != NULL && curl_easy_setopt(c->easy, CURLOPT_URL, c->url) != CURLE_OK)
		return false;
	if (c->headers.data != NULL &&
	    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, &c->headers) != CURLE_OK)
		return false;
	if (c->addresses != NULL &&
	    curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->addresses) != CURLE_OK)
		return false;
	/* POSTFIELDS is not copied: what it holds is wiped with the call. */
	if (body &&
	    (curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)c->body.len) !=
		    CURLE_OK ||
		curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, c->body.data) != CURLE_OK))
		return false;
	return curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, c->method) == CURLE_OK;
}

/* Its host's address is known. On failure the call is as before. */
static bool
send_call(struct curl_call *c)
{
	if (!curl_loop_open(c->loop) || (c->easy = curl_easy_init()) == NULL)
		return false;
	if (!curl_target_apply(c->target, c->easy) || !apply_request(c))
		return false;
	c->state = CALL_SENT;
	if (curl_multi_add_handle(c->loop->multi, c->easy) == CURLM_OK)
		return true;
	c->state = CALL_NAMING;
	return false;
}

static void
on_name(struct curl_waiter *w, int err, const char *error)
{
	struct curl_call *c =
	    (struct curl_call *)(void *)((char *)w - offsetof(struct curl_call, waiter));
	struct curl_loop *loop = c->loop;

	if (err == GRAPNEL_OK) {
		if (curl_names_get(&loop->names, c->target, w, &c->addresses) == 1 && send_call(c))
			return;
		error = "no memory";
		err = GRAPNEL_ESYS;
	}
	curl_call_finish(c, err == GRAPNEL_ETIMEOUT ? err : GRAPNEL_ESYS, error);
	curl_loop_advance(loop);
}

/* From nowhere into loop->active. On failure it is there too. */
static bool
launch(struct curl_call *c)
{
	struct curl_loop *loop = c->loop;

	c->state = CALL_NAMING;
	list_in(&loop->active, c);
	loop->active_count++;
	curl_loop_count(loop, loop->limits.metrics.calls_active, 1);
	if (c->target->host != NULL)
		switch (curl_names_get(&loop->names, c->target, &c->waiter, &c->addresses)) {
		case 0:
			return true;
		case 1:
			break;
		default:
			return false;
		}
	return send_call(c);
}

/* Those who wait, as far as there is room. */
void
curl_loop_advance(struct curl_loop *loop)
{
	if (loop->advancing || loop->freeing)
		return;
	loop->advancing = true; /* an answer may start calls and end others */
	while (loop->waiting != NULL && loop->active_count < loop->limits.active) {
		struct curl_call *c = loop->waiting;

		unlink_call(c);
		if (!launch(c))
			curl_call_finish(c, GRAPNEL_ESYS, "no memory");
	}
	loop->advancing = false;
}

static void
wait_in_line(struct curl_call *c)
{
	struct curl_loop *loop = c->loop;

	c->state = CALL_WAITING;
	c->prev = loop->waiting_last;
	if (c->prev != NULL)
		c->prev->next = c;
	else
		loop->waiting = c;
	loop->waiting_last = c;
	loop->waiting_count++;
	curl_loop_count(loop, loop->limits.metrics.calls_waiting, 1);
}

static bool
copy_request(struct curl_call *c, const struct curl_request *r)
{
	const char *url = c->target->url;
	size_t len = strlen(url);

	c->method = r->method;
	if (r->query.len > 0) {
		c->url_len = len + 1 + r->query.len;
		c->url = malloc(c->url_len + 1);
		if (c->url == NULL)
			return false;
		(void)snprintf(c->url, c->url_len + 1, "%s%c%.*s", url,
		    c->target->has_query ? '&' : '?', (int)r->query.len, r->query.data);
	}
	if (r->body.data != NULL) {
		char *body = malloc(r->body.len + 1);

		if (body == NULL)
			return false;
		if (r->body.len > 0)
			memcpy(body, r->body.data, r->body.len);
		c->body = (struct grapnel_str){ body, r->body.len };
		(void)snprintf(c->type, sizeof(c->type), "Content-Type: %s", r->content_type);
		c->headers = (struct curl_slist){ .data = c->type, .next = c->target->headers };
	}
	return true;
}

struct curl_call *
curl_loop_start(struct curl_loop *loop, const struct curl_target *target,
    const struct curl_request *request, curl_answer_fn fn, void *arg)
{
	bool waits = loop->active_count >= loop->limits.active || loop->waiting != NULL;
	struct curl_call *c;

	if (loop->freeing)
		return NULL;
	if (waits && loop->waiting_count >= loop->limits.waiting) {
		curl_loop_count(loop, loop->limits.metrics.refused_total, 1);
		return NULL;
	}
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->loop = loop;
	c->target = target;
	c->waiter.fn = on_name;
	c->fn = fn;
	c->arg = arg;
	c->timeout_ms = request->timeout_ms > 0 && request->timeout_ms < target->timeout_ms
	    ? request->timeout_ms
	    : target->timeout_ms;
	c->timer = loop->host->timer_new(loop->self, on_call_timeout, c);
	if (c->timer == NULL || !copy_request(c, request) ||
	    loop->host->timer_arm(c->timer, c->timeout_ms) != GRAPNEL_OK) {
		call_free(c);
		return NULL;
	}
	if (waits) {
		wait_in_line(c);
	} else if (!launch(c)) {
		unlink_call(c);
		call_free(c);
		return NULL;
	}
	loop->host->timer_disarm(loop->idle);
	curl_loop_count(loop, loop->limits.metrics.calls_total, 1);
	return c;
}

void
curl_call_cancel(struct curl_call *c)
{
	struct curl_loop *loop = c->loop;

	unlink_call(c);
	call_free(c);
	curl_loop_rest(loop);
	curl_loop_advance(loop);
}
