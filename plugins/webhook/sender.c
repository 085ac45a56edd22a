/* SPDX-License-Identifier: Apache-2.0 */
/* sender - the loop that sends: takes what is in the windows, spreads it over the lanes, and lets them go */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define AGAIN_MS 100u /* when memory is short */

static void
lanes_go(struct endpoint *e)
{
	uint64_t now = e->w->host->now_ms(),
		 again = e->short_of_memory ? now + AGAIN_MS : UINT64_MAX, next;
	bool busy = true;

	for (uint32_t i = 0; i < e->lane_count; i++) {
		uint64_t at = lane_go(&e->lanes[i], now);

		if (at < again)
			again = at;
		busy = busy && e->lanes[i].call != NULL;
	}
	if (atomic_load_explicit(&e->paused, memory_order_relaxed)) {
		busy = true; /* whoever ends that calls */
	} else if ((next = url_next_ms(e)) > now) { /* no URL is up */
		busy = true;
		if (next < again)
			again = next;
	}
	/* Then nothing can be sent before an answer comes, or its time; and then we look again by ourselves. */
	(void)pthread_mutex_lock(&e->w->lock);
	e->sender_busy = busy;
	/* What came since we looked into the window has found all of them busy, and called nobody. */
	if (!busy && e->window != NULL && !e->short_of_memory)
		queue_call_sender(e->w);
	(void)pthread_mutex_unlock(&e->w->lock);
	if (again == UINT64_MAX)
		own_loop_host(e->w->loop)->timer_disarm(e->timer);
	else
		(void)own_loop_host(e->w->loop)
		    ->timer_arm(e->timer, again > now ? (uint32_t)(again - now) : 0);
}

/* ---- from the window to the lanes ------------------------------------------------------------ */

static struct parcel *
first_in_window(struct endpoint *e)
{
	struct parcel *p;

	(void)pthread_mutex_lock(&e->w->lock);
	p = e->window;
	(void)pthread_mutex_unlock(&e->w->lock);
	return p;
}

static void
take_from_window(struct endpoint *e, struct parcel *p)
{
	(void)pthread_mutex_lock(&e->w->lock);
	e->window = p->next_window;
	if (e->window == NULL)
		e->window_last = NULL;
	(void)pthread_mutex_unlock(&e->w->lock);
	p->prev = NULL;
	p->next = e->parcels;
	if (p->next != NULL)
		p->next->prev = p;
	e->parcels = p;
}

/* false: no memory; it stays where it is. */
static bool
spread(struct endpoint *e, struct parcel *p)
{
	struct chunk *c = p->chunk;
	struct record_view v;
	size_t at = 0, len;

	p->items = calloc(c->count, sizeof(*p->items));
	if (p->items == NULL)
		return false;
	take_from_window(e, p);
	p->left =
	    c->count; /* all of which can be read: they are a worker's, or were looked at by the keeper */
	for (uint32_t n = 0;
	     n < c->count && (len = record_read(&v, c->bytes + at, c->len - at)) > 0; n++) {
		struct item *it = &p->items[n];

		*it = (struct item){ .parcel = p, .at = (uint32_t)at, .len = (uint32_t)len };
		at += len;
		if (e->possible & GRAPNEL_EVENT_BIT(v.event.type))
			lane_add(&e->lanes[order_key(e, &v) % e->lane_count], it);
		else /* from the outbox, and from before another format was chosen */
			p->left--;
	}
	if (p->left == 0)
		lane_parcel_end(p);
	return true;
}

void
sender_pump(struct endpoint *e)
{
	struct parcel *p;

	e->short_of_memory = false;
	while (!e->short_of_memory && (p = first_in_window(e)) != NULL)
		e->short_of_memory = !spread(e, p);
	lanes_go(e);
}

static void
on_timer(void *endpoint)
{
	sender_pump(endpoint);
}

void
sender_call(void *webhook)
{
	struct webhook *w = webhook;

	(void)pthread_mutex_lock(&w->lock);
	w->sender_called = false;
	(void)pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++)
		sender_pump(w->endpoints[i]);
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool
endpoint_begin(struct endpoint *e)
{
	struct webhook *w = e->w;
	const struct curl_loop_limits limits = { .connections = e->lane_count + 1,
		.active = e->lane_count + 1,
		.waiting = 1,
		.idle_ms = e->idle_ms,
		.metrics = w->m.curl };

	e->loop = curl_loop_new(own_loop_host(w->loop), w->self, &limits);
	e->timer = own_loop_host(w->loop)->timer_new(w->self, on_timer, e);
	return e->loop != NULL && e->timer != NULL;
}

struct begin {
	struct webhook *w;
	bool good, done;
	pthread_cond_t cond;
};

static void
begin(void *arg)
{
	struct begin *b = arg;
	bool good = true;

	for (unsigned i = 0; i < b->w->endpoint_count && good; i++)
		good = endpoint_begin(b->w->endpoints[i]);
	(void)pthread_mutex_lock(&b->w->lock);
	b->good = good;
	b->done = true;
	(void)pthread_cond_signal(&b->cond);
	(void)pthread_mutex_unlock(&b->w->lock);
}

int
sender_start(struct webhook *w)
{
	struct begin b = { .w = w, .cond = PTHREAD_COND_INITIALIZER };
	struct own_loop *loop = own_loop_new(w->host, w->self);
	int err;

	if (loop == NULL)
		return GRAPNEL_ENOMEM;
	(void)pthread_mutex_lock(&w->lock);
	w->loop = loop;
	w->sender_called = w->sender_ended = false; /* perhaps another worker's attempt failed */
	(void)pthread_mutex_unlock(&w->lock);
	if ((err = own_loop_start(loop, "webhook")) != GRAPNEL_OK ||
	    (err = own_loop_post(loop, begin, &b)) != GRAPNEL_OK)
		return err;
	(void)pthread_mutex_lock(&w->lock);
	while (!b.done)
		(void)pthread_cond_wait(&b.cond, &w->lock);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_cond_destroy(&b.cond);
	return b.good ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

/* What is not sent stays the queue's, as far as it is not in the outbox yet. */
static void
leave(struct endpoint *e, struct parcel *p)
{
	p->in_window = false;
	e->window_bytes -= parcel_cost(p);
	e->window_events -= p->chunk->count;
	if (p->row != 0) {
		e->window_stored -= p->chunk->count;
		e->window_stored_bytes -= p->chunk->len;
	}
	e->w->host->metric_add(e->w->self, e->w->m.memory, -(int64_t)parcel_cost(p));
	if (p->unwritten)
		e->unwritten_events += p->chunk->count;
	else
		parcel_free(p);
}

static void
endpoint_end(struct endpoint *e)
{
	struct parcel *p;

	curl_loop_free(e->loop); /* ends the calls */
	e->loop = NULL;
	own_loop_host(e->w->loop)->timer_free(e->timer);
	e->timer = NULL;
	(void)pthread_mutex_lock(&e->w->lock);
	while ((p = e->parcels) != NULL) {
		e->parcels = p->next;
		leave(e, p);
	}
	while ((p = e->window) != NULL) {
		e->window = p->next_window;
		leave(e, p);
	}
	e->window_last = NULL;
	e->spilling = true; /* whatever comes now is for the outbox */
	(void)pthread_mutex_unlock(&e->w->lock);
	for (uint32_t i = 0; i < e->lane_count; i++)
		e->lanes[i] = (struct lane){ .e = e };
}

static void
finish(void *webhook)
{
	struct webhook *w = webhook;

	for (unsigned i = 0; i < w->endpoint_count; i++)
		endpoint_end(w->endpoints[i]);
}

void
sender_stop(struct webhook *w)
{
	if (w->loop == NULL)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->sender_ended = true;
	(void)pthread_mutex_unlock(&w->lock);
	w->last_call = (struct own_loop_call){ .fn = finish, .arg = w };
	own_loop_call(w->loop, &w->last_call);
	own_loop_stop(w->loop);
	own_loop_free(w->loop);
	(void)pthread_mutex_lock(&w->lock);
	w->loop = NULL;
	(void)pthread_mutex_unlock(&w->lock);
}
