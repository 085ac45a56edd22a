/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_refill - from the outbox back into the window of an endpoint */
#include "keeper.h"

#define AGAIN_MS 10u /* when memory is short */

struct refill {
	struct endpoint *e;
	struct parcel *first, *last;
	size_t bytes, room;
	int64_t row; /* the last one that was looked at */
	bool more;
};

static bool
is_whole(const struct chunk *c)
{
	struct record_view v;
	size_t at = 0, n;
	uint32_t count = 0;

	while (at < c->len && (n = record_read(&v, c->bytes + at, c->len - at)) > 0) {
		at += n;
		count++;
	}
	return at == c->len && count == c->count && count > 0;
}

static void
row_is_damaged(struct endpoint *e, int64_t row, const struct chunk *c)
{
	(void)pthread_mutex_lock(&e->w->lock);
	queue_lose(e, LOST_DAMAGED, c->count);
	queue_unstore(e, c->len, c->count);
	queue_done_row(e->w, row);
	(void)pthread_mutex_unlock(&e->w->lock);
}

static bool
refill_row(void *arg, int64_t row, const struct chunk *c)
{
	struct refill *r = arg;
	struct chunk *copy;
	struct parcel *p;

	if (r->bytes > 0 && r->bytes + c->len > r->room) {
		r->more = true;
		return false;
	}
	if (c->bytes == NULL || !is_whole(c)) {
		row_is_damaged(r->e, row, c);
		r->row = row;
		return true;
	}
	copy = chunk_of(c->bytes, c->len, c->count, c->oldest_us, c->newest_us);
	p = copy != NULL ? parcel_new(r->e, copy) : NULL;
	if (p == NULL) {
		r->more = true;
		return false;
	}
	p->row = r->row = row;
	p->since_ms = r->e->w->host->now_ms();
	if (r->last != NULL)
		r->last->next_window = p;
	else
		r->first = p;
	r->last = p;
	r->bytes += parcel_cost(p);
	return true;
}

/* What is in the outbox alone comes into the window, as far as there is room; then what is unwritten. */
bool
keeper_refill(struct keeper *k, struct endpoint *e)
{
	struct webhook *w = k->w;
	struct refill r = { .e = e, .row = e->loaded_row };
	struct parcel *p;
	bool wanted, good;

	(void)pthread_mutex_lock(&w->lock);
	wanted =
	    !w->sender_ended && e->spilling && e->want_more && e->window_bytes <= e->memory / 2;
	r.room = e->memory - (e->window_bytes < e->memory ? e->window_bytes : e->memory);
	e->want_more = false; /* queue_done says so again */
	(void)pthread_mutex_unlock(&w->lock);
	if (!wanted)
		return true;
	good = outbox_each(k->o, e->id, e->loaded_row, refill_row, &r);
	if (!good) {
		(void)keeper_failed(k, outbox_error(k->o));
		r.more = true;
	}
	e->loaded_row = r.row;
	(void)pthread_mutex_lock(&w->lock);
	while ((p = r.first) != NULL) {
		r.first = p->next_window;
		queue_window_add(e, p);
	}
	if (!r.more && queue_window_unwritten(e))
		e->spilling = false;
	/* It is asked for again when half of it is done; when nothing came, later. */
	e->want_more = r.bytes == 0 && e->spilling && e->window_bytes == 0;
	if (e->want_more && k->retry_ms < w->host->now_ms() + AGAIN_MS)
		k->retry_ms = w->host->now_ms() + AGAIN_MS;
	queue_call_sender(w);
	(void)pthread_mutex_unlock(&w->lock);
	return good;
}

/* The disk fails. What the outbox has is in the window already: what could not be written need not wait for it. */
void
keeper_refill_unwritten(struct keeper *k, struct endpoint *e)
{
	struct webhook *w = k->w;

	(void)pthread_mutex_lock(&w->lock);
	if (!w->sender_ended && e->want_more && e->stored_events == e->window_stored) {
		if (queue_window_unwritten(e))
			e->spilling = false;
		e->want_more = false;
		queue_call_sender(w);
	}
	(void)pthread_mutex_unlock(&w->lock);
}
