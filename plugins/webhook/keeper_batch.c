/* SPDX-License-Identifier: Apache-2.0 */
/* keeper_batch - what one commit of the outbox has: new events, those that are done, dead letters, what is too much or too old */
#include "keeper.h"

#include <stdlib.h>
#include <string.h>

static bool
room_for_written(struct keeper *k)
{
	int64_t *more;

	if (k->count <= k->written_capacity)
		return true;
	more = realloc(k->written, k->count * sizeof(*more));
	if (more == NULL)
		return false;
	k->written = more;
	k->written_capacity = k->count;
	return true;
}

static void
take_done_rows(struct keeper *k)
{
	struct webhook *w = k->w;
	int64_t *more;

	if (k->row_count == 0) {
		free(k->rows);
		k->rows = w->done_rows;
		k->row_count = w->done_count;
		w->done_rows = NULL;
		w->done_count = w->done_capacity = 0;
		return;
	}
	more = realloc(k->rows, (k->row_count + w->done_count) * sizeof(*more));
	if (more == NULL)
		return; /* next time */
	if (w->done_count > 0)
		memcpy(more + k->row_count, w->done_rows, w->done_count * sizeof(*more));
	k->rows = more;
	k->row_count += w->done_count;
	w->done_count = 0;
}

/* Under the lock. Parcels stay in the queue until they are written: whoever comes meanwhile stands behind them. */
void
batch_take(struct keeper *k)
{
	struct webhook *w = k->w;

	queue_sweep(w);
	queue_room(w);
	k->last = w->unwritten_last;
	k->count = 0;
	for (struct parcel *p = w->unwritten; p != NULL; p = p->next_unwritten) {
		if (!p->sealed && !p->in_window)
			chunk_trim(p->chunk);
		p->sealed = true;
		k->count++;
	}
	if (w->dead != NULL) {
		if (k->dead_last != NULL)
			k->dead_last->next = w->dead;
		else
			k->dead = w->dead;
		k->dead_last = w->dead_last;
		w->dead = w->dead_last = NULL;
	}
	take_done_rows(k);
	k->jobs = w->jobs;
	w->jobs = w->jobs_last = NULL;
	w->since_ms = 0;
}

static bool
write_dead(struct keeper *k)
{
	for (struct dead *d = k->dead; d != NULL; d = d->next) {
		struct dead_letter letter = { .time_us = k->w->host->wall_us(),
			.event_id = d->id,
			.status = d->status,
			.response = d->response,
			.record = d->record,
			.record_len = d->record_len };

		if (!outbox_dead_add(k->o, d->e->id, &letter))
			return false;
	}
	return true;
}

static bool
write_parcels(struct keeper *k)
{
	/* Only we take from its front; one that is empty others may write to. */
	struct parcel *p = k->count > 0 ? k->w->unwritten : NULL;

	for (unsigned i = 0; i < k->w->endpoint_count; i++) {
		k->w->endpoints[i]->batch_row = k->w->endpoints[i]->loaded_row;
		k->w->endpoints[i]->batch_bytes_added = 0;
	}
	for (size_t i = 0; i < k->count; i++) {
		if ((k->written[i] = outbox_add(k->o, p->e->id, p->chunk)) == 0)
			return false;
		if (p->in_window || p->done) /* not under the lock: keeper_calm.c */
			p->e->batch_row = k->written[i];
		p->e->batch_bytes_added += p->chunk->len;
		if (p != k->last)
			p = p->next_unwritten;
	}
	return true;
}

/* Rows that are too many or too old, of those that are in the outbox alone. */
static bool
trim(struct keeper *k, struct endpoint *e, struct outbox_sum *full, struct outbox_sum *old)
{
	struct webhook *w = k->w;
	uint64_t stored =
	    e->stored_bytes + e->batch_bytes_added; /* not under the lock: keeper_calm.c */

	if (e->when_full == DROP_OLDEST && stored > e->max_bytes &&
	    !outbox_remove_oldest(k->o, e->id, e->batch_row, stored - e->max_bytes, full))
		return false;
	return e->max_age_us == 0 ||
	    outbox_remove_before(
		k->o, e->id, e->batch_row, w->host->wall_us() - e->max_age_us, old);
}

static bool
trim_all(struct keeper *k, struct trimmed *t)
{
	struct webhook *w = k->w;

	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];

		t[i] = (struct trimmed){ 0 };
		if (!trim(k, e, &t[i].full, &t[i].old))
			return false;
		if (k->dead != NULL &&
		    (!outbox_dead_trim(k->o, e->id, e->dead_letters, &t[i].dead_lost) ||
			!outbox_dead_count(k->o, e->id, &t[i].dead)))
			return false;
	}
	return true;
}

bool
batch_write(struct keeper *k, struct trimmed *t)
{
	if (!room_for_written(k) || !outbox_begin(k->o))
		return false;
	if (!write_parcels(k) || !write_dead(k))
		return false;
	for (size_t i = 0; i < k->row_count; i++)
		if (k->rows[i] < 0 ? !outbox_dead_remove(k->o, -k->rows[i])
				   : !outbox_remove(k->o, k->rows[i]))
			return false;
	return trim_all(k, t) && outbox_commit(k->o);
}

/* Under the lock: it is in the outbox. */
static void
parcel_written(struct keeper *k, struct parcel *p, int64_t row)
{
	struct webhook *w = k->w;
	struct endpoint *e = p->e;

	p->unwritten = false;
	e->unwritten_bytes -= parcel_cost(p);
	if (p->done) { /* meanwhile */
		queue_done_row(w, row);
		parcel_free(p);
		return;
	}
	e->stored_bytes += p->chunk->len;
	e->stored_events += p->chunk->count;
	w->host->metric_add(w->self, w->m.outbox_bytes, (int64_t)p->chunk->len);
	w->host->metric_add(w->self, w->m.outbox_events, (int64_t)p->chunk->count);
	if (p->in_window) {
		p->row = row;
		e->window_stored += p->chunk->count;
		e->window_stored_bytes += p->chunk->len;
		return;
	}
	e->unwritten_events -= p->chunk->count;
	parcel_free(p);
}

static void
account(struct webhook *w, struct endpoint *e, const struct trimmed *t, bool dead)
{
	e->loaded_row = e->batch_row;
	queue_unstore(e, t->full.bytes + t->old.bytes, t->full.events + t->old.events);
	queue_lose(e, LOST_FULL, t->full.events);
	queue_lose(e, LOST_OLD, t->old.events);
	if (!dead)
		return;
	e->dead = t->dead;
	if (t->dead_lost == 0 || w->host->now_ms() < e->trimmed_log_ms)
		return;
	e->trimmed_log_ms = w->host->now_ms() + LOG_AGAIN_MS;
	w->host->log(w->self, GRAPNEL_LOG_WARNING,
	    "endpoint \"%s\": more than dead_letters = %u are kept; the oldest were thrown "
	    "away",
	    e->name, (unsigned)e->dead_letters);
}

/* Under the lock. */
void
batch_written(struct keeper *k, const struct trimmed *t)
{
	struct webhook *w = k->w;

	for (size_t i = 0; i < k->count; i++) {
		struct parcel *p = w->unwritten;

		w->unwritten = p->next_unwritten;
		if (w->unwritten == NULL)
			w->unwritten_last = NULL;
		parcel_written(k, p, k->written[i]);
	}
	for (unsigned i = 0; i < w->endpoint_count; i++)
		account(w, w->endpoints[i], &t[i], k->dead != NULL);
	k->row_count = 0;
	for (const struct dead *d = k->dead; d != NULL; d = d->next) {
		d->e->dead_waiting--;
		d->e->dead_waiting_bytes -= DEAD_COST(d);
	}
	w->replaying = false;
	queue_room(w);
}

void
batch_free(struct keeper *k)
{
	struct dead *d;

	while ((d = k->dead) != NULL) {
		k->dead = d->next;
		free(d->record);
		free(d);
	}
	k->dead_last = NULL;
}
