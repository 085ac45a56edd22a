/* SPDX-License-Identifier: Apache-2.0 */
/* curl_call - one request from its start to its answer: curl_loop.h */
#include "curl_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
give_easy_back(struct curl_call *c, bool good)
{
	struct curl_loop *loop = c->loop;

	if (c->easy == NULL)
		return;
	if (good && loop->spare_count < CURL_SPARE_MAX) {
		/* Else it would keep the pointer to the list of addresses until it is next used. */
		(void)curl_easy_setopt(c->easy, CURLOPT_RESOLVE, NULL);
		curl_easy_reset(c->easy);
		loop->spare[loop->spare_count++] = c->easy;
	} else {
		curl_easy_cleanup(c->easy);
	}
	c->easy = NULL;
	curl_slist_free_all(c->addresses);
	c->addresses = NULL;
}

static void
call_free(struct curl_call *c)
{
	c->loop->host->timer_free(c->timer);
	give_easy_back(c, false);
	curl_slist_free_all(c->addresses);
	curl_place_free(&c->hop);
	free(c->headers);
	if (c->url != NULL)
		explicit_bzero(c->url, c->url_len);
	free(c->url);
	if (c->wipe_body)
		explicit_bzero((char *)(uintptr_t)c->body.data, c->body.len);
	free((char *)(uintptr_t)c->body.data);
	curl_answer_reset(c);
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
	struct curl_answer answer = {
		.err = err, .error = error, .retry_after_ms = c->retry_after_ms
	};
	char *type = NULL;

	unlink_call(c);
	if (err != GRAPNEL_OK && err != GRAPNEL_ECANCELED)
		curl_loop_count(loop, loop->limits.metrics.failures_total, 1);
	if (err == GRAPNEL_ETIMEOUT)
		curl_loop_count(loop, loop->limits.metrics.timeouts_total, 1);
	if (err == GRAPNEL_OK || (err == GRAPNEL_EQUOTA && c->status_known))
		(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &answer.status);
	if (err == GRAPNEL_OK) {
		(void)curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
		answer.body =
		    (struct grapnel_str){ c->answer != NULL ? c->answer : "", c->answer_len };
		if (type != NULL)
			answer.content_type = (struct grapnel_str){ type, strlen(type) };
		if (c->cache_control[0] != '\0')
			answer.cache_control =
			    (struct grapnel_str){ c->cache_control, strlen(c->cache_control) };
		if (c->location != NULL)
			answer.location = (struct grapnel_str){ c->location, strlen(c->location) };
	}
	c->fn(c->arg, &answer);
	give_easy_back(c, err == GRAPNEL_OK);
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
	if (c->refused)
		curl_call_finish(c, GRAPNEL_EINVAL, c->error);
	else
		curl_call_finish(c, GRAPNEL_ETIMEOUT, text);
	curl_loop_advance(loop);
}

static bool
apply_request(struct curl_call *c)
{
	bool body = c->body.data != NULL;

	if (curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, curl_answer_on_body) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, curl_answer_on_header) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETFUNCTION, curl_loop_on_socket_open) !=
		CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_OPENSOCKETDATA, c) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CLOSESOCKETFUNCTION, curl_loop_on_socket_close) !=
		CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_CLOSESOCKETDATA, c->loop) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_MAXFILESIZE_LARGE,
		(curl_off_t)c->target->max_answer) != CURLE_OK ||
	    curl_easy_setopt(c->easy, CURLOPT_MAXAGE_CONN,
		(long)(c->loop->limits.idle_ms / 1000) + 1) != CURLE_OK)
		return false;
	if (c->hops == 0 && c->url != NULL &&
	    curl_easy_setopt(c->easy, CURLOPT_URL, c->url) != CURLE_OK)
		return false;
	if (curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, curl_headers_chain(c)) != CURLE_OK)
		return false;
	if (c->target->no_private &&
	    (curl_easy_setopt(c->easy, CURLOPT_PREREQFUNCTION, curl_guard_on_request) != CURLE_OK ||
		curl_easy_setopt(c->easy, CURLOPT_PREREQDATA, c) != CURLE_OK))
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
	struct curl_loop *loop = c->loop;

	if (!curl_loop_open(loop))
		return false;
	c->easy = loop->spare_count > 0 ? loop->spare[--loop->spare_count] : curl_easy_init();
	if (c->easy == NULL ||
	    !curl_target_apply(c->target, curl_call_place(c), c->foreign, c->easy) ||
	    !apply_request(c))
		return false;
	c->state = CALL_SENT;
	if (curl_multi_add_handle(loop->multi, c->easy) == CURLM_OK)
		return true;
	c->state = CALL_NAMING;
	return false;
}

static int
names_get(struct curl_call *c)
{
	return curl_names_get(&c->loop->names, curl_call_place(c), c->target->connect_timeout_ms,
	    &c->waiter, &c->addresses);
}

static void
on_name(struct curl_waiter *w, int err, const char *error)
{
	struct curl_call *c =
	    (struct curl_call *)(void *)((char *)w - offsetof(struct curl_call, waiter));
	struct curl_loop *loop = c->loop;

	if (err == GRAPNEL_OK) {
		if (names_get(c) == 1 && send_call(c))
			return;
		error = "no memory";
		err = GRAPNEL_ESYS;
	}
	curl_call_finish(c, err == GRAPNEL_ETIMEOUT ? err : GRAPNEL_ESYS, error);
	curl_loop_advance(loop);
}

/* To where it goes now. */
static bool
name_and_send(struct curl_call *c)
{
	if (curl_call_place(c)->look_up)
		switch (names_get(c)) {
		case 0:
			return true;
		case 1:
			break;
		default:
			return false;
		}
	return send_call(c);
}

void
curl_call_again(struct curl_call *c)
{
	(void)curl_multi_remove_handle(c->loop->multi, c->easy);
	c->state = CALL_NAMING;
	give_easy_back(c, true);
	curl_answer_reset(c);
	if (!name_and_send(c))
		curl_call_finish(c, GRAPNEL_ESYS, "no memory");
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
	/* One that is refused waits for its timer, which has no delay. */
	return c->refused || name_and_send(c);
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
	const struct curl_why why = { c->error, sizeof(c->error) };
	const char *url = c->target->place.url;
	size_t len = strlen(url);

	c->method = r->method;
	if (r->query.len > 0) {
		c->url_len = len + 1 + r->query.len;
		c->url = malloc(c->url_len + 1);
		if (c->url == NULL)
			return false;
		(void)snprintf(c->url, c->url_len + 1, "%s%c%.*s", url,
		    c->target->place.has_query ? '&' : '?', (int)r->query.len, r->query.data);
	}
	switch (curl_headers_copy(c, r, &why)) {
	case 0:
		c->refused = true;
		break;
	case 1:
		break;
	default:
		return false;
	}
	if (r->body.data == NULL || r->take_body)
		return true;
	c->body.data = text_copy(r->body);
	c->body.len = r->body.len;
	c->wipe_body = true;
	return c->body.data != NULL;
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
	c->retry_after_ms = UINT32_MAX;
	c->timer = loop->host->timer_new(loop->self, on_call_timeout, c);
	if (c->timer == NULL || !copy_request(c, request) ||
	    loop->host->timer_arm(c->timer, c->refused ? 0 : c->timeout_ms) != GRAPNEL_OK) {
		call_free(c);
		return NULL;
	}
	if (request->take_body)
		c->body = request->body;
	if (waits) {
		wait_in_line(c);
	} else if (!launch(c)) {
		unlink_call(c);
		if (request->take_body)
			c->body.data = NULL; /* still the caller's */
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
