/* SPDX-License-Identifier: Apache-2.0 */
/* queue - questions on their way to the engine's thread: engine.h */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

struct call *
call_new(enum call_kind kind, const struct grapnel_host *host, size_t bytes)
{
	struct call *c = malloc(sizeof(*c) + bytes);

	if (c == NULL)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->kind = kind;
	c->host = host;
	c->size = bytes;
	c->end = c->bytes;
	return c;
}

char *
call_text(struct call *c, struct grapnel_str s)
{
	char *text = c->end;

	if (s.data == NULL)
		return NULL;
	if (s.len > 0)
		memcpy(text, s.data, s.len);
	text[s.len] = '\0';
	c->end += s.len + 1;
	return text;
}

void
call_free(struct call *c)
{
	if (c == NULL)
		return;
	client_unref(c->client);
	mosquitto_property_free_all(&c->properties);
	explicit_bzero(c->bytes, c->size); /* passwords, and what messages say */
	free(c);
}

static void
link_last(struct engine *e, struct call *c)
{
	c->next = NULL;
	*e->last = c;
	e->last = &c->next;
}

void
engine_unlink(struct engine *e, struct call *c)
{
	struct call **at = &e->first;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (e->last == &c->next)
		e->last = at;
	if (c->kind < CALL_DISCONNECT) {
		e->waiting--;
		engine_count_locked(e, METRIC_QUEUE, -1);
	}
}

enum grapnel_verdict
engine_ask(struct instance *in, struct grapnel_request *req, struct call *c)
{
	struct engine *e = in->engine;
	bool room;

	c->req = req;
	in->host->request_set_data(req, c);
	(void)pthread_mutex_lock(&e->lock);
	room = e->waiting < in->queue;
	if (room) {
		bool first = e->first == NULL;

		link_last(e, c);
		e->waiting++;
		engine_count_locked(e, METRIC_QUEUE, 1);
		if (first)
			(void)pthread_cond_broadcast(&e->changed);
	} else {
		engine_count_locked(e, METRIC_REFUSED, 1);
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (room)
		return GRAPNEL_PENDING;
	in->host->request_set_data(req, NULL);
	call_free(c);
	return GRAPNEL_UNAVAILABLE;
}

void
engine_tell(struct engine *e, struct call *c)
{
	bool room;

	(void)pthread_mutex_lock(&e->lock);
	/* What the foreign plugin has seen it must hear of; of others only when it keeps up. */
	room = atomic_load(&c->client->shown) ||
	    (e->current != NULL && e->waiting < e->current->queue && e->said_slow_ms == 0);
	if (room) {
		link_last(e, c);
		(void)pthread_cond_broadcast(&e->changed);
	}
	(void)pthread_mutex_unlock(&e->lock);
	if (!room)
		call_free(c);
}

struct grapnel_request *
engine_answer(struct engine *e, struct call *c)
{
	struct grapnel_request *req;

	(void)pthread_mutex_lock(&e->lock);
	req = c->req;
	c->req = NULL;
	if (req != NULL)
		c->host->request_set_data(req, NULL);
	engine_count_locked(e, req != NULL ? METRIC_CALLS : METRIC_CANCELLED, 1);
	(void)pthread_mutex_unlock(&e->lock);
	return req;
}

void
call_resolve(enum call_kind kind, const struct grapnel_host *host, struct grapnel_request *req,
    enum grapnel_verdict verdict)
{
	switch (kind) {
	case CALL_BASIC_AUTH:
	case CALL_EXT_AUTH:
		(void)host->auth_resolve(req, verdict, NULL);
		break;
	case CALL_ACL:
		(void)host->acl_resolve(req, verdict, NULL);
		break;
	case CALL_UNSUBSCRIBE:
		(void)host->subscribe_resolve(req, verdict, NULL);
		break;
	case CALL_MESSAGE:
	case CALL_CONTROL:
		(void)host->publish_resolve(req, verdict, NULL);
		break;
	case CALL_PSK:
		(void)host->psk_resolve(req, verdict, NULL);
		break;
	case CALL_DISCONNECT:
	case CALL_USERNAME:
		break;
	}
}

void
engine_cancel(struct instance *in, struct grapnel_request *req)
{
	struct engine *e = in->engine;
	enum call_kind kind = CALL_DISCONNECT;
	struct call *c, *unused = NULL;

	(void)pthread_mutex_lock(&e->lock);
	c = in->host->request_data(req);
	if (c != NULL) { /* else the engine's thread is about to resolve it */
		in->host->request_set_data(req, NULL);
		c->req = NULL;
		kind = c->kind;
		if (!c->running) { /* and it never will */
			engine_unlink(e, c);
			engine_count_locked(e, METRIC_CANCELLED, 1);
			unused = c;
		}
	}
	(void)pthread_mutex_unlock(&e->lock);
	call_free(unused);
	/* All that a running call looks at is its own: the host need not wait for it. */
	if (c != NULL)
		call_resolve(kind, in->host, req, GRAPNEL_UNAVAILABLE);
}
