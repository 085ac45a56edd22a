/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper - the thread that writes the outbox and reads it back
 *
 * It takes what has come together, writes it with one commit, and then tells who waits for that: acknowledgements, endpoints
 * whose window has room, workers that had to stop. When the disk fails nothing is given up: it tries again.
 */
#include "outbox.h"
#include "parts.h"
#include "place.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_MS   1000u
#define LOOK_MS    1000u /* for what has become too old, and for room that is not used */
#define LAST_TRIES 3u
#define AGAIN_MS   10u

struct keeper {
	struct webhook *w;
	struct outbox *o;  /* NULL: it could not be opened yet */
	int64_t next_row;  /* of an outbox that was damaged */
	uint64_t retry_ms; /* not before; 0: at once */
	uint64_t look_ms;
	bool failing; /* and it was said */
	bool untidy;  /* room may be given back, once the outbox is empty */
	/* the batch: what a commit that failed leaves is in the next one */
	struct parcel *last; /* in the queue, up to and with this one; NULL: none */
	size_t count;
	int64_t *written; /* their rows */
	size_t written_capacity;
	struct dead *dead, *dead_last;
	int64_t *rows; /* done */
	size_t row_count;
	uint64_t ticket;
	struct job *jobs;
};

/* ---- waiting --------------------------------------------------------------------------------- */

static bool
wants_more(const struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (w->endpoints[i]->want_more)
			return true;
	return false;
}

/* What was delivered meanwhile does not count. */
static bool
much_unwritten(struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];

		if (e->unwritten_bytes >= QUEUE_MUCH(e))
			queue_sweep(w);
		if (e->unwritten_bytes >= QUEUE_MUCH(e))
			return true;
	}
	return false;
}

/* Under the lock: when is there something to do? */
static uint64_t
due_ms(const struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t due = k->look_ms;

	if (w->jobs != NULL)
		return 0;
	if (w->held != NULL || w->dead != NULL || wants_more(w) || much_unwritten(w) || w->ending)
		due = 0;
	else if (w->since_ms != 0 && w->since_ms + w->write_delay_ms < due)
		due = w->since_ms + w->write_delay_ms;
	return due > k->retry_ms ? due : k->retry_ms;
}

static void
wait_for_work(struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t due;

	while (w->host->now_ms() < (due = due_ms(k))) {
		struct timespec ts = { (time_t)(due / 1000), (long)(due % 1000) * 1000000 };

		(void)pthread_cond_timedwait(&w->wake, &w->lock, &ts);
	}
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool
failed(struct keeper *k, const char *what)
{
	struct webhook *w = k->w;

	w->host->metric_add(w->self, w->m.write_failures, 1);
	if (!k->failing)
		w->host->log(w->self, GRAPNEL_LOG_ERROR,
		    "the outbox cannot be used: %s; events wait in memory, and it is tried again "
		    "each "
		    "second",
		    what);
	k->failing = true;
	k->retry_ms = w->host->now_ms() + RETRY_MS;
	return false;
}

/* Under the lock. sum: of what is not in the window. */
static void
set_stored(struct webhook *w, struct endpoint *e, const struct outbox_sum *sum, uint64_t dead)
{
	uint64_t bytes = sum->bytes + e->window_stored_bytes,
		 events = sum->events + e->window_stored;

	w->host->metric_add(w->self, w->m.outbox_bytes, (int64_t)bytes - (int64_t)e->stored_bytes);
	w->host->metric_add(
	    w->self, w->m.outbox_events, (int64_t)events - (int64_t)e->stored_events);
	e->stored_bytes = bytes;
	e->stored_events = events;
	e->dead = dead;
	e->spilling = true; /* until the refill finds nothing */
	e->want_more = true;
}

static bool
look_at_endpoint(struct keeper *k, struct endpoint *e)
{
	struct outbox_sum sum = { 0 };
	uint64_t dead = 0;

	e->id = outbox_endpoint(k->o, e->name);
	if (e->id == 0 || !outbox_sum(k->o, e->id, e->loaded_row, &sum) ||
	    !outbox_dead_count(k->o, e->id, &dead))
		return false;
	(void)pthread_mutex_lock(&k->w->lock);
	set_stored(k->w, e, &sum, dead);
	(void)pthread_mutex_unlock(&k->w->lock);
	return true;
}

static bool
look_at_endpoints(struct keeper *k)
{
	if (!outbox_begin(k->o))
		return false;
	for (unsigned i = 0; i < k->w->endpoint_count; i++)
		if (!look_at_endpoint(k, k->w->endpoints[i])) {
			outbox_rollback(k->o);
			return false;
		}
	return outbox_commit(k->o);
}

static void
tell_of_stranger(void *arg, int64_t id, const char *name, uint64_t events, uint64_t dead)
{
	struct webhook *w = arg;

	(void)id;
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (strcmp(w->endpoints[i]->name, name) == 0)
			return;
	if (events > 0 || dead > 0)
		w->host->log(w->self, GRAPNEL_LOG_NOTICE,
		    "%llu events and %llu dead letters of an endpoint \"%s\", which is not in the "
		    "configuration, stay in the outbox",
		    (unsigned long long)events, (unsigned long long)dead, name);
}

/* Whatever it holds is lost: what the outbox said it had, and what was in it alone. */
static void
set_damaged_aside(struct keeper *k)
{
	struct webhook *w = k->w;

	k->next_row = outbox_next_row(k->o);
	outbox_close(k->o);
	k->o = NULL;
	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];

		queue_lose(e, LOST_DAMAGED, e->stored_events - e->window_stored);
	}
	(void)pthread_mutex_unlock(&w->lock);
}

static bool
open_outbox(struct keeper *k)
{
	struct webhook *w = k->w;
	char error[512], aside[512];

	k->o = outbox_open(w->path, error, sizeof(error), aside, sizeof(aside));
	if (aside[0] != '\0')
		w->host->log(w->self, GRAPNEL_LOG_ERROR,
		    "the outbox was damaged; it is kept as %s, and a new one was begun", aside);
	if (k->o == NULL)
		return failed(k, error);
	outbox_start_at(k->o, k->next_row);
	return true;
}

/* false: not yet. */
static bool
have_outbox(struct keeper *k)
{
	bool new = k->o == NULL;

	if (new && !open_outbox(k))
		return false;
	if (!new)
		return true;
	if (look_at_endpoints(k) && outbox_endpoints(k->o, tell_of_stranger, k->w))
		return true;
	(void)failed(k, outbox_error(k->o));
	outbox_close(k->o);
	k->o = NULL;
	return false;
}

/* ---- the batch ------------------------------------------------------------------------------- */

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
static void
batch_take(struct keeper *k)
{
	struct webhook *w = k->w;

	queue_sweep(w);
	queue_room(w);
	k->last = w->unwritten_last;
	k->count = 0;
	for (struct parcel *p = w->unwritten; p != NULL; p = p->next_unwritten) {
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
	struct parcel *p = k->w->unwritten; /* only we take from its front */

	for (unsigned i = 0; i < k->w->endpoint_count; i++) {
		k->w->endpoints[i]->batch_row = k->w->endpoints[i]->loaded_row;
		k->w->endpoints[i]->batch_bytes_added = 0;
	}
	for (size_t i = 0; i < k->count; i++) {
		bool windowed;

		if ((k->written[i] = outbox_add(k->o, p->e->id, p->chunk)) == 0)
			return false;
		(void)pthread_mutex_lock(&k->w->lock);
		windowed = p->in_window || p->done;
		(void)pthread_mutex_unlock(&k->w->lock);
		if (windowed)
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
	uint64_t stored;

	(void)pthread_mutex_lock(&w->lock);
	stored = e->stored_bytes + e->batch_bytes_added;
	(void)pthread_mutex_unlock(&w->lock);
	if (e->when_full == DROP_OLDEST && stored > e->max_bytes &&
	    !outbox_remove_oldest(k->o, e->id, e->batch_row, stored - e->max_bytes, full))
		return false;
	return e->max_age_us == 0 ||
	    outbox_remove_before(
		k->o, e->id, e->batch_row, w->host->wall_us() - e->max_age_us, old);
}

struct trimmed {
	struct outbox_sum full, old;
	uint64_t dead, dead_lost;
};

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

static bool
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
	struct outbox_sum both = { 0, t->full.events + t->old.events,
		t->full.bytes + t->old.bytes };

	e->loaded_row = e->batch_row;
	e->stored_bytes -= both.bytes;
	e->stored_events -= both.events;
	w->host->metric_add(w->self, w->m.outbox_bytes, -(int64_t)both.bytes);
	w->host->metric_add(w->self, w->m.outbox_events, -(int64_t)both.events);
	queue_lose(e, LOST_FULL, t->full.events);
	queue_lose(e, LOST_OLD, t->old.events);
	if (!dead)
		return;
	e->dead = t->dead;
	if (t->dead_lost > 0)
		w->host->log(w->self, GRAPNEL_LOG_WARNING,
		    "endpoint \"%s\": more than dead_letters = %u are kept; the oldest were thrown "
		    "away",
		    e->name, (unsigned)e->dead_letters);
}

/* Under the lock. */
static void
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
	for (const struct dead *d = k->dead; d != NULL; d = d->next)
		w->dead_count--;
	queue_room(w);
}

static void
dead_free(struct dead *d)
{
	while (d != NULL) {
		struct dead *next = d->next;

		free(d->record);
		free(d);
		d = next;
	}
}

/* The file shrinks when nothing is in it, not while rows come and go. */
static void
tidy(struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t stored = 0;

	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++)
		stored += w->endpoints[i]->stored_events;
	(void)pthread_mutex_unlock(&w->lock);
	if (stored == 0)
		k->untidy = outbox_tidy(k->o);
}

/* @return whether all of it is in the outbox now. */
static bool
batch(struct keeper *k)
{
	struct webhook *w = k->w;
	struct trimmed trimmed[MAX_ENDPOINTS];

	if (w->host->now_ms() < k->retry_ms || !have_outbox(k))
		return false;
	if (k->look_ms > w->host->now_ms() && k->count == 0 && k->dead == NULL && k->row_count == 0)
		return true;
	if (k->row_count == 0 && k->untidy)
		tidy(k);
	k->untidy = k->untidy || k->row_count > 0;
	k->look_ms = w->host->now_ms() + LOOK_MS;
	if (!batch_write(k, trimmed)) {
		(void)failed(k, outbox_error(k->o));
		outbox_rollback(k->o);
		if (outbox_damaged(k->o))
			set_damaged_aside(k);
		return false;
	}
	w->host->metric_add(w->self, w->m.writes, 1);
	(void)pthread_mutex_lock(&w->lock);
	batch_written(k, trimmed);
	(void)pthread_mutex_unlock(&w->lock);
	dead_free(k->dead);
	k->dead = k->dead_last = NULL;
	k->retry_ms = 0;
	if (k->failing)
		w->host->log(w->self, GRAPNEL_LOG_NOTICE, "the outbox can be used again");
	k->failing = false;
	return true;
}

/* ---- who waited for it ----------------------------------------------------------------------- */

/* What stands before the first that is not written is written, or was delivered, which is as safe. */
static void
resolve_held(struct webhook *w, bool ending)
{
	struct held *first = NULL, *last = NULL, *h;
	uint64_t safe;

	(void)pthread_mutex_lock(&w->lock);
	safe = w->unwritten != NULL ? w->unwritten->ticket - 1 : w->pushed;
	while ((h = w->held) != NULL && (h->ticket <= safe || ending)) {
		held_remove(h);
		w->host->request_set_data(h->req, NULL); /* a cancel finds nothing any more */
		held_add(&first, &last, h);
	}
	(void)pthread_mutex_unlock(&w->lock);
	while ((h = first) != NULL) {
		first = h->next;
		(void)w->host->ack_resolve(
		    h->req, h->ticket <= safe ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE, NULL);
		w->host->metric_add(w->self, w->m.held, -1);
		free(h);
	}
}

struct refill {
	struct endpoint *e;
	struct parcel *first, *last;
	size_t bytes, room;
	uint64_t damaged;
	int64_t row; /* the last one that was looked at */
	bool more, no_memory;
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
		r->damaged += c->count;
		r->row = row;
		return true;
	}
	copy = chunk_of(c->bytes, c->len, c->count, c->oldest_us, c->newest_us);
	p = copy != NULL ? parcel_new(r->e, copy) : NULL;
	if (p == NULL) {
		r->more = r->no_memory = true;
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
static void
refill(struct keeper *k, struct endpoint *e)
{
	struct webhook *w = k->w;
	struct refill r = { .e = e, .row = e->loaded_row };
	struct parcel *p;
	bool wanted;

	(void)pthread_mutex_lock(&w->lock);
	wanted =
	    !w->sender_ended && e->spilling && e->want_more && e->window_bytes <= e->memory / 2;
	r.room = e->memory - (e->window_bytes < e->memory ? e->window_bytes : e->memory);
	e->want_more = false; /* queue_done says so again */
	(void)pthread_mutex_unlock(&w->lock);
	if (!wanted)
		return;
	if (!outbox_each(k->o, e->id, e->loaded_row, refill_row, &r)) {
		(void)failed(k, outbox_error(k->o));
		r.more = true;
	}
	e->loaded_row = r.row;
	(void)pthread_mutex_lock(&w->lock);
	while ((p = r.first) != NULL) {
		r.first = p->next_window;
		queue_window_add(e, p);
	}
	queue_lose(e, LOST_DAMAGED, r.damaged);
	if (!r.more && queue_window_unwritten(e))
		e->spilling = false;
	/* It is asked for again when half of it is done; when nothing came, later. */
	e->want_more = r.bytes == 0 && e->spilling && e->window_bytes == 0;
	if (e->want_more && k->retry_ms == 0)
		k->retry_ms = w->host->now_ms() + AGAIN_MS;
	queue_call_sender(w);
	(void)pthread_mutex_unlock(&w->lock);
}

static void
run_jobs(struct keeper *k)
{
	struct job *job;

	while ((job = k->jobs) != NULL) {
		k->jobs = job->next;
		job->run(job, k->o);
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool
turn(struct keeper *k)
{
	struct webhook *w = k->w;
	bool good;

	batch_take(k);
	(void)pthread_mutex_unlock(&w->lock);
	good = batch(k);
	resolve_held(w, false);
	run_jobs(k);
	for (unsigned i = 0; good && i < w->endpoint_count; i++)
		refill(k, w->endpoints[i]);
	return good;
}

/* Nobody comes after us: what can still be sent is, for a while. */
static void
send_the_rest(struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t until = w->host->now_ms() + w->stop_timeout_ms;
	bool done = false;

	while (!done && w->host->now_ms() < until && !place_followed(w->place)) {
		struct timespec pause = { 0, 5000000 };

		(void)nanosleep(&pause, NULL);
		(void)pthread_mutex_lock(&w->lock);
		done = queue_sender_may_stop(w);
		(void)turn(k); /* unlocks */
	}
}

static void
finish(struct keeper *k)
{
	struct webhook *w = k->w;
	bool good = false;
	uint64_t left = 0;

	sender_stop(w);
	for (unsigned i = 0; i < LAST_TRIES && !good; i++) {
		k->retry_ms = 0;
		(void)pthread_mutex_lock(&w->lock);
		good = turn(k);
	}
	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++)
		left += w->endpoints[i]->unwritten_events +
		    (w->path == NULL ? w->endpoints[i]->stored_events : 0);
	(void)pthread_mutex_unlock(&w->lock);
	resolve_held(w, true);
	if (!place_leave(w->place, k->o)) {
		outbox_close(k->o);
		if (left > 0)
			w->host->log(w->self, GRAPNEL_LOG_WARNING,
			    "%llu events were not sent before the end, and are lost: %s",
			    (unsigned long long)left,
			    w->path == NULL ? "the outbox is in memory"
					    : "the outbox cannot be used");
	}
	w->place = NULL;
	dead_free(k->dead);
	free(k->rows);
	free(k->written);
}

static void *
keeper_main(void *arg)
{
	struct keeper k = { .w = arg };
	struct webhook *w = k.w;
	bool ending = false;

	while (!place_wait(w->place, RETRY_MS, &k.o))
		continue; /* the one before us goes for sure */
	if (k.o != NULL && !look_at_endpoints(&k)) {
		outbox_close(k.o);
		k.o = NULL;
	}
	while (!ending) {
		(void)pthread_mutex_lock(&w->lock);
		wait_for_work(&k);
		ending = w->ending;
		(void)turn(&k); /* unlocks */
	}
	if (!place_followed(w->place))
		send_the_rest(&k);
	finish(&k);
	return NULL;
}

int
keeper_start(struct webhook *w)
{
	sigset_t all, old;
	int err;

	w->place = place_enter(w->key);
	if (w->place == NULL)
		return GRAPNEL_ENOMEM;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_BLOCK, &all, &old);
	err = pthread_create(&w->keeper, NULL, keeper_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (err == 0) {
		(void)pthread_setname_np(w->keeper, "webhook-outbox");
		w->keeping = true;
		return GRAPNEL_OK;
	}
	(void)place_leave(w->place, NULL);
	w->place = NULL;
	errno = err;
	return GRAPNEL_ESYS;
}

void
keeper_join(struct webhook *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->ending = true;
	(void)pthread_cond_signal(&w->wake);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_join(w->keeper, NULL);
	w->keeping = false;
}
