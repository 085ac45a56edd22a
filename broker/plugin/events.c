/* SPDX-License-Identifier: Apache-2.0 */
#include "events.h"
#include "base/log.h"
#include "copy.h"
#include "core/broker.h"
#include "request.h"
#include <stdlib.h>
#include <string.h>

#define FIRST_RING 64u

/* ---- copies ---------------------------------------------------------------------------------- */

static void
copy_put(struct layout *l, struct event_copy *c, const struct grapnel_event *ev)
{
	c->event = *ev;
	c->event.size = sizeof(c->event);
	if (ev->client != NULL) {
		layout_client(l, ev->client, &c->client);
		c->event.client = &c->client;
	}
	if (ev->message != NULL) {
		layout_message(l, ev->message, &c->message);
		c->event.message = &c->message;
	}
	c->event.filter = layout_str(l, ev->filter);
	c->event.reason = layout_str(l, ev->reason);
}

static struct event_copy *
copy_new(struct hook_state *hs, const struct grapnel_event *ev)
{
	struct event_copy scratch, *c;
	struct layout count = { NULL, 0 }, l;
	struct broker *b = hs->w->broker;

	copy_put(&count, &scratch, ev);
	c = malloc(sizeof(*c) + count.len);
	if (c == NULL)
		return NULL;
	c->refs = 0;
	c->handle = NULL;
	c->link = NULL;
	l.p = c->bytes;
	l.len = 0;
	copy_put(&l, c, ev);
	c->event.id.node = b->node_id;
	c->event.id.boot = b->boot_id;
	c->event.id.sequence = (uint64_t)hs->w->index << 56 | ++hs->sequence;
	c->event.time_us = clock_wall_us();
	if (ev->client != NULL && ev->client->client != NULL) {
		struct client_kept *k = client_kept(ev->client->client, 0);

		if (k == NULL) { /* then the event comes as if the client had gone meanwhile */
			c->client.client = NULL;
			return c;
		}
		c->handle = ev->client->client;
		c->next = k->events;
		c->link = &k->events;
		if (c->next != NULL)
			c->next->link = &c->next;
		k->events = c;
	}
	return c;
}

static void
copy_unlink(struct event_copy *c)
{
	if (c->link == NULL)
		return;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->link = NULL;
	c->handle = NULL;
	c->client.client = NULL;
}

static void
copy_unref(struct event_copy *c)
{
	if (--c->refs > 0)
		return;
	copy_unlink(c);
	free(c);
}

void
events_forget_client(struct client_kept *k)
{
	while (k->events != NULL)
		copy_unlink(k->events);
}

void
events_kept_moved(struct client_kept *k)
{
	if (k->events != NULL)
		k->events->link = &k->events;
}

void
events_move_client(struct grapnel_client *to, struct grapnel_client *from)
{
	struct client_kept *k = from->kept;
	struct event_copy *c, **end;

	for (c = k->events; c != NULL; c = c->next) {
		c->handle = to;
		c->client.client = to;
	}
	if (to->kept == NULL) /* all that `from` keeps becomes its own */
		return;
	end = &to->kept->events;
	while (*end != NULL)
		end = &(*end)->next;
	*end = k->events;
	if (*end != NULL)
		(*end)->link = end;
	k->events = NULL;
}

/* ---- queues ---------------------------------------------------------------------------------- */

static bool
ring_grow(struct event_queue *q, uint32_t limit)
{
	uint32_t size = q->size == 0 ? FIRST_RING : q->size * 2;
	struct event_copy **ring;

	if (q->count >= limit)
		return false;
	ring = malloc(size * sizeof(*ring));
	if (ring == NULL)
		return false;
	for (uint32_t i = 0; i < q->count; i++)
		ring[i] = q->ring[(q->head + i) & (q->size - 1)];
	free(q->ring);
	q->ring = ring;
	q->size = size;
	q->head = 0;
	return true;
}

static bool
queue_push(struct event_queue *q, struct event_copy *c, uint32_t limit)
{
	if (q->count >= limit || (q->count == q->size && !ring_grow(q, limit)))
		return false;
	q->ring[(q->head + q->count) & (q->size - 1)] = c;
	q->count++;
	c->refs++;
	return true;
}

/* The marker that stands where events were lost. */
static void
queue_push_gap(struct hook_state *hs, struct event_queue *q, uint32_t limit)
{
	struct grapnel_event gap = {
		.size = sizeof(gap), .type = GRAPNEL_EVENT_GAP, .lost = q->lost
	};
	struct event_copy *c;

	if (q->count >= limit || (c = copy_new(hs, &gap)) == NULL)
		return;
	if (queue_push(q, c, limit))
		q->lost = 0;
	else
		free(c);
}

static void
queue_ready(struct hook_state *hs, struct event_queue *q)
{
	if (q->ready || q->stalled)
		return;
	q->ready = true;
	q->next_ready = hs->ready;
	hs->ready = q;
}

static void
queue_lose(struct event_queue *q, bool lossless)
{
	q->lost++;
	stats_add(&q->iw->stats.events_lost, 1);
	if (lossless && q->lost == 1)
		log_error("plugin \"%s\": its lossless event queue is full beyond its reserve, or "
			  "memory is short; events are lost",
		    q->iw->in->name);
}

static void
queue_add(struct hook_state *hs, struct instance_worker *iw, struct event_copy *c)
{
	struct event_queue *q = &iw->events;
	bool lossless = iw->in->plugin->event_mode == GRAPNEL_EVENTS_LOSSLESS;
	uint32_t capacity = atomic_load_explicit(&iw->in->event_capacity, memory_order_relaxed);
	uint32_t limit = lossless ? capacity * EVENTS_OVERRUN : capacity;

	if (q->lost > 0)
		queue_push_gap(hs, q, limit);
	/* After a gap that found no room nothing may go in: order. */
	if (c == NULL || q->lost > 0 || !queue_push(q, c, limit))
		queue_lose(q, lossless);
	if (lossless && !q->blocking && q->count >= capacity) {
		q->blocking = true;
		hs->blocking_queues++;
		hs->head.events_blocked = true;
		log_info("plugin \"%s\": its event queue on worker %u is full; publishers wait",
		    iw->in->name, hs->w->index);
	}
	queue_ready(hs, q);
}

static bool
wants(const struct instance_worker *iw, enum grapnel_event_type type)
{
	return iw->state == INSTANCE_STARTED &&
	    (atomic_load_explicit(&iw->in->event_mask, memory_order_relaxed) &
		GRAPNEL_EVENT_BIT(type)) != 0;
}

/* Events of the main thread go to worker 0, where plugins can be called. */
struct event_mail {
	struct mail mail;
	struct event_copy *copy;
};

static void
event_on_mail(struct worker *w, struct mail *m)
{
	struct event_mail *em = (struct event_mail *)(void *)m;

	if (w->hooks != NULL && event_wanted(w, em->copy->event.type))
		event_emit(w, &em->copy->event);
	free(em->copy);
	free(em);
}

static void
event_forward(struct hook_state *hs, const struct grapnel_event *ev)
{
	struct event_mail *em = malloc(sizeof(*em));
	struct grapnel_event copied = *ev;
	struct grapnel_client_info client;

	if (em == NULL)
		return;
	if (ev->client != NULL) { /* a handle is for its own thread */
		client = *ev->client;
		client.client = NULL;
		copied.client = &client;
	}
	em->mail.fn = event_on_mail;
	em->copy = copy_new(hs, &copied);
	if (em->copy == NULL) {
		free(em);
		return;
	}
	worker_post(hs->w->broker->workers[0], &em->mail);
}

void
event_emit(struct worker *w, struct grapnel_event *ev)
{
	struct hook_state *hs = w->hooks;
	struct chain_set *set = hs->set;
	struct event_copy *c = NULL;
	bool tried = false;

	if (w == w->broker->main && w->broker->worker_count > 0) {
		event_forward(hs, ev);
		return;
	}
	for (unsigned i = 0; i < set->member_count; i++) {
		const struct chain_member *m = &set->members[i];
		struct instance_worker *iw = &m->in->workers[w->index];

		if (!wants(iw, ev->type) || !listeners_concern(m->listeners, ev->client))
			continue;
		if (!tried) {
			c = copy_new(hs, ev);
			tried = true;
			if (c != NULL)
				c->refs = 1; /* ours, until all have it */
		}
		queue_add(hs, iw, c);
	}
	if (c != NULL)
		copy_unref(c);
}

void
events_update_mask(struct hook_state *hs)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < hs->set->member_count; i++) {
		const struct instance *in = hs->set->members[i].in;

		if (in->plugin != NULL && in->plugin->on_events != NULL)
			mask |= atomic_load_explicit(&in->event_mask, memory_order_relaxed);
	}
	hs->head.event_mask = mask;
}

/* ---- handing on ------------------------------------------------------------------------------ */

static void
queue_unblock(struct hook_state *hs, struct event_queue *q, uint32_t at_most)
{
	if (!q->blocking || q->count > at_most)
		return;
	q->blocking = false;
	if (--hs->blocking_queues == 0) {
		hs->head.events_blocked = false;
		core_resume_publishers(hs->w);
	}
}

static void
queue_pop(struct event_queue *q, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		copy_unref(q->ring[q->head]);
		q->head = (q->head + 1) & (q->size - 1);
		q->count--;
	}
}

static void
queue_on_retry(struct timer *t, void *owner)
{
	struct event_queue *q =
	    (struct event_queue *)(void *)((char *)t - offsetof(struct event_queue, retry));

	(void)owner;
	events_resume(q->iw);
}

/* @return how many were taken. */
static uint32_t
queue_offer(struct hook_state *hs, struct event_queue *q)
{
	const struct grapnel_event *batch[EVENTS_BATCH];
	struct instance_worker *iw = q->iw;
	struct instance *in = iw->in;
	uint32_t capacity = atomic_load_explicit(&in->event_capacity, memory_order_relaxed);
	uint32_t n = q->count < EVENTS_BATCH ? q->count : EVENTS_BATCH;
	uint64_t entered;
	size_t taken;

	for (uint32_t i = 0; i < n; i++)
		batch[i] = &q->ring[(q->head + i) & (q->size - 1)]->event;
	entered = plugin_enter();
	taken = in->plugin->on_events(in->state, batch, n);
	plugin_leave(iw, entered, "on_events");
	if (taken > n) {
		log_error("plugin \"%s\": on_events took %zu of %u events", in->name, taken, n);
		taken = n;
	}
	queue_pop(q, (uint32_t)taken);
	stats_add(&iw->stats.events_taken, taken);
	queue_unblock(hs, q, capacity / 2);
	if (taken < n) {
		q->stalled = true;
		timer_init(&q->retry, queue_on_retry);
		timer_arm(hs->w->wheel, &q->retry, clock_ms() + EVENTS_RETRY_MS);
	}
	/* What was lost last has no later event that would bring its marker. */
	if (q->lost > 0 && q->count < capacity)
		queue_push_gap(hs, q, capacity);
	return (uint32_t)taken;
}

bool
events_flush(struct hook_state *hs)
{
	struct event_queue *q, *list = hs->ready;

	hs->ready = NULL;
	while ((q = list) != NULL) {
		uint32_t taken = 0;

		list = q->next_ready;
		q->ready = false;
		while (q->count > 0 && !q->stalled && taken < EVENTS_PER_TURN)
			taken += queue_offer(hs, q);
		if (q->count > 0)
			queue_ready(hs, q);
	}
	return hs->ready != NULL;
}

void
events_resume(struct instance_worker *iw)
{
	struct event_queue *q = &iw->events;

	if (!q->stalled)
		return;
	q->stalled = false;
	timer_disarm(iw->w->wheel, &q->retry);
	if (q->count > 0) {
		queue_ready(iw->w->hooks, q);
		iw->w->again = true;
	}
}

void
events_drop(struct instance_worker *iw)
{
	struct event_queue *q = &iw->events;
	struct hook_state *hs = iw->w->hooks;
	struct event_queue **at;

	if (q->count > 0)
		log_notice("plugin \"%s\": %u events were not taken before it left worker %u",
		    iw->in->name, q->count, iw->w->index);
	if (q->stalled)
		timer_disarm(iw->w->wheel, &q->retry);
	q->stalled = false;
	queue_pop(q, q->count);
	queue_unblock(hs, q, 0);
	for (at = &hs->ready; *at != NULL; at = &(*at)->next_ready) {
		if (*at == q) {
			*at = q->next_ready;
			break;
		}
	}
	q->ready = false;
	free(q->ring);
	q->ring = NULL;
	q->size = 0;
}
