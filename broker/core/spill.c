/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spill - queues whose messages are left on the disk
 *
 * A queue is cold in the middle: what leaves next is in memory, what came last is until it has been written, and in between there is
 * where to find it. When the messages of a worker's queues take more than its part of memory_for_queues, queues that have grown are
 * cooled from their ends. What is read back is asked for ahead of its turn, in order, so that a receiver does not wait for the disk.
 *
 * Messages of shared groups, and those that are not in the store, stay in memory.
 */
#include "core/durable.h"

#include "base/log.h"
#include "store/batch.h"

#include <stdlib.h>

#define HEAD_HOT \
	64u /* entries of a queue whose receiver is there that are not cooled, and are read when they are cold */
#define READ_BYTES (1024 * 1024) /* at once */
#define RETRY_MS   1000u

static struct entry *
at(struct queue *q, uint32_t i)
{
	return &q->ring[(q->head + i) & (q->capacity - 1)];
}

/* So many of its head stay: a receiver that is not there waits for the disk anyway. */
static uint32_t
head_hot(const struct session *s)
{
	return s->conn != NULL ? HEAD_HOT : 0;
}

/* ---- to the disk -------------------------------------------------------------------------------- */

void
spill_popped(struct session *s, const struct entry *e)
{
	if (e->address != 0 && s->w->durable != NULL)
		s->w->durable->hot_bytes -= entry_size(e);
}

void
spill_check(struct session *s, size_t bytes)
{
	struct durable_worker *d = s->w->durable;
	uint64_t *p;

	if (d == NULL)
		return;
	d->hot_bytes += bytes;
	if (d->hot_bytes <= d->hot_max || s->flow->cooling || s->flow->queue.count <= head_hot(s))
		return;
	if (d->cool_count == d->cool_capacity) {
		uint32_t capacity = d->cool_capacity == 0 ? 64 : d->cool_capacity * 2;

		if ((p = realloc(d->cool, capacity * sizeof(*p))) == NULL)
			return;
		d->cool = p;
		d->cool_capacity = capacity;
	}
	d->cool[d->cool_count++] = session_generation(s);
	s->flow->cooling = true;
}

/* @return some of it is not on the disk yet. */
static bool
cool(struct session *s)
{
	struct durable_worker *d = s->w->durable;
	struct flow *f = s->flow;
	uint32_t head = head_hot(s);
	bool later = false;

	for (uint32_t i = f->queue.count; i-- > head;) {
		struct entry *e = at(&f->queue, i);
		size_t size = entry_size(e);

		if (e->flags & ENTRY_COLD)
			break;
		if (e->address == 0 || e->member != 0 || e->flags & (ENTRY_GROUP | ENTRY_HOOKED))
			continue;
		if (store_segment(e->address) > d->committed) {
			later = true;
			continue;
		}
		message_unref(e->msg);
		e->msg = NULL;
		e->flags |= ENTRY_COLD;
		e->seq = (uint32_t)size;
		f->cold++;
		d->hot_bytes -= size;
	}
	f->cooling = later;
	return later;
}

void
spill_committed(struct worker *w)
{
	struct durable_worker *d = w->durable;
	uint32_t count = d->cool_count;

	d->cool_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct session *s = session_by_generation(w, d->cool[i]);

		if (s != NULL && s->flow->session != NULL && cool(s))
			d->cool[d->cool_count++] = d->cool[i];
	}
}

/* ---- and back -------------------------------------------------------------------------------------- */

static bool
is_lost(struct entry *e, void *arg)
{
	struct session *s = arg;

	if (!(e->flags & ENTRY_COLD) || e->seq != 0)
		return false;
	s->flow->cold--;
	deliver_lost(s, e);
	return true;
}

/* It could not be read now. */
static void
again(struct session *s)
{
	unsigned suppressed;

	if (log_allowed("store_read", &suppressed))
		log_error("store: queued messages of client \"%.*s\" cannot be read now; it is "
			  "tried again",
		    STR(identity_client_id(s->identity)));
	if (!timer_armed(&s->flow->retry_timer))
		worker_timer(s->w, &s->flow->retry_timer, RETRY_MS);
}

static void
on_read(struct worker *w, struct mail *m)
{
	struct store_read *r = (struct store_read *)(void *)m;
	struct session *s = session_by_generation(w, r->generation);
	struct flow *f = s != NULL && s->flow->session != NULL ? s->flow : NULL;
	unsigned k = 0, lost = 0;
	bool failed;

	if (f != NULL)
		f->reading = false;
	for (uint32_t i = 0; f != NULL && i < f->queue.count && k < r->count; i++) {
		struct entry *e = at(&f->queue, i);

		if (r->failed && r->msg[k] == NULL)
			break;
		if (!(e->flags & ENTRY_COLD) || e->address != r->address[k])
			continue;
		if (r->msg[k] != NULL) {
			f->queue.bytes += message_size(r->msg[k]) - e->seq;
			e->msg = r->msg[k];
			e->flags &= (uint8_t)~ENTRY_COLD;
			e->seq = 0;
			f->cold--;
			w->durable->hot_bytes += entry_size(e);
		} else {
			queued_add(w, e->seq, -1);
			f->queue.bytes -= e->seq;
			e->seq = 0;
			lost++;
		}
		r->msg[k++] = NULL;
	}
	for (unsigned i = 0; i < r->count; i++)
		message_unref(r->msg[i]);
	failed = r->failed && k == 0;
	free(r);
	if (f != NULL && failed) {
		again(s);
		return;
	}
	if (lost > 0) {
		log_at(GRAPNEL_LOG_ERROR, "store_damaged",
		    "client \"%.*s\": %u queued messages cannot be read from the store and are "
		    "lost",
		    STR(identity_client_id(s->identity)), lost);
		queue_filter(&f->queue, is_lost, s);
	}
	if (f != NULL)
		deliver_pump(s);
}

void
spill_read(struct session *s)
{
	struct flow *f = s->flow;
	uint32_t i = 0, look = f->queue.count < HEAD_HOT ? f->queue.count : HEAD_HOT;
	struct store_read *r;
	size_t bytes = 0;

	if (f->reading || s->conn == NULL)
		return;
	while (i < look && !(at(&f->queue, i)->flags & ENTRY_COLD))
		i++;
	if (i == look)
		return;
	if ((r = malloc(sizeof(*r))) == NULL) {
		again(s);
		return;
	}
	r->failed = false;
	r->mail.fn = on_read;
	r->w = s->w;
	r->generation = session_generation(s);
	for (r->count = 0; i < f->queue.count && r->count < READ_MAX && bytes < READ_BYTES; i++) {
		const struct entry *e = at(&f->queue, i);

		if (!(e->flags & ENTRY_COLD))
			break;
		r->address[r->count++] = e->address;
		bytes += e->seq;
	}
	f->reading = true;
	store_read(s->w->broker->store, r);
}
