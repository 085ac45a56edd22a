/* SPDX-License-Identifier: Apache-2.0 */
/* queue - events between workers, keeper and sender: parts.h */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

#define PARCEL_MALLOC 64u         /* what four allocations need besides, about */
#define SPILLED_ROW   (64u << 10) /* spilled chunks are put together up to this size */
/* In the top bits of ids: no worker has it; the rest is drawn, and so never repeats. */
#define OWN_NUMBER UINT64_C(0xFE)

/* ---- parcels --------------------------------------------------------------------------------- */

struct parcel *
parcel_new(struct endpoint *e, struct chunk *c)
{
	struct parcel *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		chunk_free(c);
		return NULL;
	}
	p->e = e;
	p->chunk = c;
	return p;
}

size_t
parcel_cost(const struct parcel *p)
{
	return sizeof(*p) + sizeof(*p->chunk) + PARCEL_MALLOC + p->chunk->len +
	    p->chunk->count * sizeof(struct item);
}

void
parcel_free(struct parcel *p)
{
	chunk_free(p->chunk);
	free(p->items);
	free(p);
}

void
queue_window_add(struct endpoint *e, struct parcel *p)
{
	p->in_window = true;
	p->next_window = NULL;
	if (e->window_last != NULL)
		e->window_last->next_window = p;
	else
		e->window = p;
	e->window_last = p;
	e->window_bytes += parcel_cost(p);
	e->window_events += p->chunk->count;
	if (p->row != 0) {
		e->window_stored += p->chunk->count;
		e->window_stored_bytes += p->chunk->len;
	}
	e->w->host->metric_add(e->w->self, e->w->m.memory, (int64_t)parcel_cost(p));
}

bool
queue_window_unwritten(struct endpoint *e)
{
	for (struct parcel *p = e->w->unwritten; p != NULL; p = p->next_unwritten) {
		if (p->e != e || p->in_window || p->done)
			continue;
		if (e->window_bytes > 0 && e->window_bytes + parcel_cost(p) > e->memory)
			return false;
		e->unwritten_events -= p->chunk->count;
		chunk_trim(p->chunk);
		queue_window_add(e, p);
	}
	return true;
}

void
queue_done_row(struct webhook *w, int64_t row)
{
	if (w->done_count == w->done_capacity) {
		size_t capacity = w->done_capacity > 0 ? w->done_capacity * 2 : 256;
		int64_t *rows = realloc(w->done_rows, capacity * sizeof(*rows));

		/* Without memory the row stays, and what is in it is sent once more after a restart. */
		if (rows == NULL)
			return;
		w->done_rows = rows;
		w->done_capacity = capacity;
	}
	w->done_rows[w->done_count++] = row;
}

/* What was in a file may have been counted wrongly. */
void
queue_unstore(struct endpoint *e, uint64_t bytes, uint64_t events)
{
	struct webhook *w = e->w;

	if (bytes > e->stored_bytes)
		bytes = e->stored_bytes;
	if (events > e->stored_events)
		events = e->stored_events;
	e->stored_bytes -= bytes;
	e->stored_events -= events;
	w->host->metric_add(w->self, w->m.outbox_bytes, -(int64_t)bytes);
	w->host->metric_add(w->self, w->m.outbox_events, -(int64_t)events);
}

void
queue_done(struct parcel *p)
{
	struct endpoint *e = p->e;
	struct webhook *w = e->w;

	p->done = true;
	p->in_window = false;
	e->window_bytes -= parcel_cost(p);
	e->window_events -= p->chunk->count;
	w->host->metric_add(w->self, w->m.memory, -(int64_t)parcel_cost(p));
	if (p->row != 0) {
		queue_unstore(e, p->chunk->len, p->chunk->count);
		e->window_stored -= p->chunk->count;
		e->window_stored_bytes -= p->chunk->len;
		queue_done_row(w, p->row);
		if (w->since_ms == 0)
			w->since_ms = w->host->now_ms();
	}
	if (e->spilling && e->window_bytes <= e->memory / 2 && !e->want_more) {
		e->want_more = true;
		keeper_call(w);
	}
	if (!p->unwritten)
		parcel_free(p);
	queue_room(w);
}

/* ---- in ---------------------------------------------------------------------------------------- */

void
queue_lose(struct endpoint *e, enum lost_why why, uint64_t events)
{
	static const char *const texts[LOST_WHY_COUNT] = {
		[LOST_FULL] =
		    "its outbox is full (max_bytes), or the disk is slower than the events",
		[LOST_OLD] = "they are older than max_age",
		[LOST_DAMAGED] = "the outbox is damaged",
		[LOST_MEMORY] = "memory is short",
	};
	struct webhook *w = e->w;

	if (events == 0)
		return;
	e->lost[why] += events;
	e->lost_untold += events;
	w->host->metric_add(w->self, w->m.lost, (int64_t)events);
	if (e->lost_logged || w->host->now_ms() < e->lost_log_ms)
		return;
	e->lost_log_ms = w->host->now_ms() + LOG_AGAIN_MS;
	e->lost_logged = true;
	w->host->log(w->self, GRAPNEL_LOG_WARNING,
	    "endpoint \"%s\": events are lost: %s; \"grapnelctl webhook status\" counts "
	    "them",
	    e->name, texts[why]);
}

bool
queue_must_wait(const struct endpoint *e)
{
	return e->when_full == STOP_PUBLISHERS &&
	    (e->unwritten_bytes >= e->memory ||
		e->stored_bytes + e->unwritten_bytes >= e->max_bytes);
}

/* With stop_publishers a batch that has begun is taken all the same. */
static bool
full(const struct endpoint *e)
{
	if (e->when_full == STOP_PUBLISHERS)
		return false;
	if (e->unwritten_bytes >= e->memory)
		return true;
	return e->when_full == DROP_NEW && e->stored_bytes + e->unwritten_bytes >= e->max_bytes;
}

bool
queue_has_room(const struct endpoint *e)
{
	return !queue_must_wait(e) && !full(e);
}

void
queue_call_sender(struct webhook *w)
{
	if (w->sender_called || w->sender_ended || w->loop == NULL)
		return;
	w->sender_called = true;
	w->call.fn = sender_call;
	w->call.arg = w;
	own_loop_call(w->loop, &w->call);
}

/* Spilled events need no chunk of their own: a row is cheaper the more is in it. */
static bool
put_to_last(struct endpoint *e, const struct chunk *c)
{
	struct parcel *p = e->w->unwritten_last;
	struct chunk *into;

	if (p == NULL || p->e != e || p->in_window || p->done || p->sealed ||
	    p->chunk->len + c->len > SPILLED_ROW)
		return false;
	into = p->chunk;
	if (into->capacity - into->len < c->len) {
		char *bytes = realloc(into->bytes, SPILLED_ROW);

		if (bytes == NULL)
			return false;
		into->bytes = bytes;
		into->capacity = SPILLED_ROW;
	}
	memcpy(into->bytes + into->len, c->bytes, c->len);
	into->len += c->len;
	into->count += c->count;
	into->newest_us = c->newest_us;
	return true;
}

static void
unwritten_add(struct webhook *w, struct parcel *p)
{
	p->unwritten = true;
	if (w->unwritten_last != NULL)
		w->unwritten_last->next_unwritten = p;
	else
		w->unwritten = p;
	w->unwritten_last = p;
}

void
queue_sweep(struct webhook *w)
{
	struct parcel **at = &w->unwritten, *p;

	w->unwritten_last = NULL;
	while ((p = *at) != NULL) {
		if (!p->done) {
			w->unwritten_last = p;
			at = &p->next_unwritten;
			continue;
		}
		*at = p->next_unwritten;
		p->e->unwritten_bytes -= parcel_cost(p);
		parcel_free(p);
	}
}

bool
queue_has(const struct webhook *w, unsigned part)
{
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (w->endpoints[i]->unwritten_bytes >= w->endpoints[i]->memory / part)
			return true;
	return false;
}

/* Whether it is just now that this part of its memory is unwritten. */
static bool
reached(const struct endpoint *e, size_t before, unsigned part)
{
	return before < e->memory / part && e->unwritten_bytes >= e->memory / part;
}

/* Whether there is room or not. */
static bool
append(struct endpoint *e, struct chunk *c)
{
	struct webhook *w = e->w;
	size_t cost = c->len + c->count * sizeof(struct item), before = e->unwritten_bytes;
	uint32_t count = c->count;
	struct parcel *p;

	w->pushed++;
	if (e->spilling && put_to_last(e, c)) {
		chunk_free(c);
		e->unwritten_events += count;
	} else {
		if ((p = parcel_new(e, c)) == NULL) {
			queue_lose(e, LOST_MEMORY, count);
			return false;
		}
		cost = parcel_cost(p);
		p->since_ms = w->host->now_ms();
		p->ticket = w->pushed;
		unwritten_add(w, p);
		if (!e->spilling && (e->window_bytes == 0 || e->window_bytes + cost <= e->memory)) {
			queue_window_add(e, p);
			if (!e->sender_busy)
				queue_call_sender(w);
		} else {
			e->spilling = true;
			e->unwritten_events += count;
		}
	}
	e->unwritten_bytes += cost;
	if (w->since_ms == 0 || reached(e, before, QUEUE_MUCH)) {
		if (w->since_ms == 0)
			w->since_ms = w->host->now_ms();
		(void)pthread_cond_signal(&w->wake);
	}
	if (reached(e, before, QUEUE_TOO_MUCH))
		keeper_call(w);
	return true;
}

bool
queue_push(struct endpoint *e, struct chunk *c)
{
	if (!full(e))
		return append(e, c);
	queue_lose(e, LOST_FULL, c->count);
	chunk_free(c);
	return false;
}

/* ---- acknowledgements that wait ---------------------------------------------------------------- */

void
held_add(struct held **first, struct held **last, struct held *h)
{
	h->first = first;
	h->last = last;
	h->next = NULL;
	h->prev = *last;
	if (*last != NULL)
		(*last)->next = h;
	else
		*first = h;
	*last = h;
}

void
held_remove(struct held *h)
{
	if (h->prev != NULL)
		h->prev->next = h->next;
	else
		*h->first = h->next;
	if (h->next != NULL)
		h->next->prev = h->prev;
	else
		*h->last = h->prev;
}

void
queue_hold(struct held *h, uint64_t ticket)
{
	struct webhook *w = h->w;

	h->ticket = ticket;
	held_add(&w->held, &w->held_last, h);
	keeper_call(w);
}

/* ---- the rest ---------------------------------------------------------------------------------- */

static void
resume(void *arg)
{
	struct worker_part *part = arg;

	part->w->host->events_resume(part->w->self);
}

void
queue_room(struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (queue_must_wait(w->endpoints[i]))
			return;
	for (unsigned i = 0; i < w->host->workers; i++) {
		struct worker_part *part = &w->parts[i];

		if (!part->stalled)
			continue;
		part->stalled = false;
		(void)w->host->post(
		    w->self, i, resume, part); /* else the broker asks again by itself */
	}
}

bool
queue_sender_may_stop(struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		const struct endpoint *e = w->endpoints[i];

		if ((e->window_events > 0 || e->spilling) && !e->paused)
			return false;
	}
	return true;
}

void
queue_job(struct webhook *w, struct job *job)
{
	(void)pthread_mutex_lock(&w->lock);
	job->next = NULL;
	if (w->jobs_last != NULL)
		w->jobs_last->next = job;
	else
		w->jobs = job;
	w->jobs_last = job;
	keeper_call(w);
	(void)pthread_mutex_unlock(&w->lock);
}

struct grapnel_event_id
queue_new_id(struct webhook *w)
{
	struct grapnel_event_id id = w->id;
	uint64_t random = 0;

	(void)w->host->random_bytes(&random, sizeof(random));
	id.sequence = OWN_NUMBER << 56 | (random & ((UINT64_C(1) << 56) - 1));
	return id;
}

/* Under the lock. last: there is no next time, and always room for one. */
static void
push_gap(struct endpoint *e, bool last)
{
	struct webhook *w = e->w;
	struct grapnel_event gap = { .size = sizeof(gap),
		.type = GRAPNEL_EVENT_GAP,
		.id = queue_new_id(w),
		.time_us = w->host->wall_us(),
		.lost = e->lost_untold,
		.reason = GRAPNEL_STR("lost by the webhook's outbox") };
	bool tellable = (e->possible & GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP)) != 0;
	struct chunk *c = NULL;

	if (tellable && ((!last && !queue_has_room(e)) || !chunk_add(&c, &gap, SIZE_MAX)))
		return; /* next time */
	if (c != NULL)
		chunk_trim(c);
	e->lost_untold = 0;
	if (tellable && !append(e, c)) {
		e->lost_untold = gap.lost; /* it is none of them */
		return;
	}
	if (e->lost_logged)
		w->host->log(w->self, GRAPNEL_LOG_NOTICE,
		    "endpoint \"%s\": goes on; %llu events were lost", e->name,
		    (unsigned long long)gap.lost);
	e->lost_logged = false;
}

void
queue_tell_gap(struct endpoint *e)
{
	(void)pthread_mutex_lock(&e->w->lock);
	if (e->lost_untold > 0)
		push_gap(e, false);
	(void)pthread_mutex_unlock(&e->w->lock);
}

bool
queue_leave_gaps(struct webhook *w)
{
	bool any = false;

	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];

		if (e->lost_untold == 0)
			continue;
		push_gap(e, true);
		any = any || e->lost_untold == 0;
	}
	return any;
}

void
queue_free(struct webhook *w)
{
	struct parcel *p;
	struct dead *d;

	while ((p = w->unwritten) != NULL) {
		w->unwritten = p->next_unwritten;
		parcel_free(p);
	}
	while ((d = w->dead) != NULL) {
		w->dead = d->next;
		free(d->record);
		free(d);
	}
	free(w->done_rows);
}
