/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper - the thread that writes the outbox and reads it back
 *
 * It takes what has come together, writes it with one commit, and then tells who waits for that: acknowledgements, endpoints
 * whose window has room, workers that had to stop. When the disk fails nothing is given up: it tries again.
 */
#include "keeper.h"
#include "place.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_MS      1000u
#define LOOK_MS       1000u /* for what has become too old, and for room that is not used */
#define LAST_TRIES    3u
#define TURN_MS       10000u /* who is to end waits no longer for the one before */
#define LOOK_ROUND_MS 100u   /* whether we are to end, meanwhile */

/* ---- waiting --------------------------------------------------------------------------------- */

static bool
wants_more(const struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (w->endpoints[i]->want_more)
			return true;
	return false;
}

/*
 * What waits may have been delivered by then, and need not be written. Behind the window nothing is: there a commit that is small
 * and comes soon is better where it does not give way, since a worker without another processor waits as long as it takes.
 */
static uint32_t
write_delay_ms(const struct keeper *k)
{
	const struct webhook *w = k->w;

	for (unsigned i = 0; i < w->endpoint_count && !k->can_be_calm; i++)
		if (w->endpoints[i]->spilling && w->write_delay_ms > SPILL_DELAY_MS)
			return SPILL_DELAY_MS;
	return w->write_delay_ms;
}

/* What was delivered meanwhile does not count. */
static bool
is_late(struct webhook *w)
{
	if (!queue_has(w, QUEUE_MUCH))
		return false;
	queue_sweep(w);
	return queue_has(w, QUEUE_MUCH);
}

/* Under the lock: when is there something to do? */
static uint64_t
due_ms(const struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t due = k->look_ms;

	if (w->jobs != NULL)
		return 0;
	if (w->held != NULL || w->dead != NULL || wants_more(w) || is_late(w) || w->ending)
		due = 0;
	else if (w->since_ms != 0 && w->since_ms + write_delay_ms(k) < due)
		due = w->since_ms + write_delay_ms(k);
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

bool
keeper_failed(struct keeper *k, const char *what)
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

static void
tell_of_damage(struct webhook *w, const char *aside)
{
	w->host->log(w->self, GRAPNEL_LOG_ERROR,
	    "the outbox was damaged; it is kept as %s, and a new one was begun", aside);
}

/* Whatever it holds is lost: what the outbox said it had, and what was in it alone. */
static void
set_damaged_aside(struct keeper *k)
{
	struct webhook *w = k->w;
	char aside[512];

	k->next_row = outbox_next_row(k->o);
	outbox_close(k->o);
	k->o = NULL;
	/* It might well open again, until somebody comes to where it is damaged. */
	if (w->path != NULL && outbox_set_aside(w->path, aside, sizeof(aside)))
		tell_of_damage(w, aside);
	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];
		uint64_t events = e->stored_events - e->window_stored;

		queue_lose(e, LOST_DAMAGED, events);
		queue_unstore(e, e->stored_bytes - e->window_stored_bytes, events);
	}
	k->row_count = w->done_count =
	    0; /* they went with it, and numbers of dead letters begin anew */
	(void)pthread_mutex_unlock(&w->lock);
}

static bool
open_outbox(struct keeper *k)
{
	struct webhook *w = k->w;
	char error[512], aside[512];

	k->o = outbox_open(w->path, error, sizeof(error), aside, sizeof(aside));
	if (aside[0] != '\0')
		tell_of_damage(w, aside);
	if (k->o == NULL)
		return keeper_failed(k, error);
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
	if (look_at_endpoints(k) && outbox_endpoints(k->o, tell_of_stranger, k->w)) {
		k->seen = true;
		return true;
	}
	(void)keeper_failed(k, outbox_error(k->o));
	if (outbox_damaged(k->o)) {
		set_damaged_aside(k);
		return false;
	}
	outbox_close(k->o);
	k->o = NULL;
	return false;
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
	bool written;

	if (w->host->now_ms() < k->retry_ms || !have_outbox(k))
		return false;
	if (k->look_ms > w->host->now_ms() && k->count == 0 && k->dead == NULL && k->row_count == 0)
		return true;
	if (k->row_count == 0 && k->untidy)
		tidy(k);
	k->untidy = k->untidy || k->row_count > 0;
	k->look_ms = w->host->now_ms() + LOOK_MS;
	keeper_calm(k);
	written = batch_write(k, trimmed);
	keeper_calm_end(k);
	if (!written) {
		(void)keeper_failed(k, outbox_error(k->o));
		outbox_rollback(k->o);
		if (outbox_damaged(k->o))
			set_damaged_aside(k);
		return false;
	}
	w->host->metric_add(w->self, w->m.writes, 1);
	(void)pthread_mutex_lock(&w->lock);
	batch_written(k, trimmed);
	(void)pthread_mutex_unlock(&w->lock);
	batch_free(k);
	k->retry_ms = 0;
	if (k->failing)
		w->host->log(w->self, GRAPNEL_LOG_NOTICE, "the outbox can be used again");
	k->failing = false;
	return true;
}

/* ---- who waited for it ----------------------------------------------------------------------- */

/*
 * What stands before the first that is not written is written, or was delivered, which is as safe; or it was refused, and is
 * safe when its dead letter is written.
 */
static void
resolve_held(struct keeper *k, bool ending)
{
	struct webhook *w = k->w;
	struct held *first = NULL, *last = NULL, *h;
	uint64_t safe;

	(void)pthread_mutex_lock(&w->lock);
	safe = w->unwritten != NULL ? w->unwritten->ticket - 1 : w->pushed;
	if (k->dead != NULL)
		safe = 0;
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

static void
refill(struct keeper *k, bool good)
{
	for (unsigned i = 0; i < k->w->endpoint_count; i++) {
		struct endpoint *e = k->w->endpoints[i];

		if (!good) {
			keeper_refill_unwritten(k, e);
		} else if (!keeper_refill(k, e) && outbox_damaged(k->o)) {
			set_damaged_aside(k);
			return;
		}
	}
}

static bool
turn(struct keeper *k)
{
	struct webhook *w = k->w;
	bool good;

	batch_take(k);
	(void)pthread_mutex_unlock(&w->lock);
	good = batch(k);
	resolve_held(k, false);
	run_jobs(k);
	if (good || k->seen)
		refill(k, good);
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

/* Nobody will send them. Parcels and dead letters that are not written stay the instance's, and end with it. */
static void
tell_what_is_lost(struct keeper *k, bool followed)
{
	struct webhook *w = k->w;
	uint64_t events = 0;

	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		const struct endpoint *e = w->endpoints[i];

		events += e->unwritten_events + e->dead_waiting;
		if (w->path == NULL && !followed)
			events += e->stored_events;
	}
	(void)pthread_mutex_unlock(&w->lock);
	if (events > 0)
		w->host->log(w->self, GRAPNEL_LOG_WARNING,
		    "%llu events were not sent before the end, and are lost: %s",
		    (unsigned long long)events,
		    w->path == NULL ? "the outbox is in memory" : "the outbox cannot be used");
}

/* What was lost and is not told yet is known to nobody but us. Room for that may be made of others: then once more. */
static void
leave_gaps(struct keeper *k)
{
	struct webhook *w = k->w;
	bool good = w->path != NULL || place_followed(w->place);

	for (unsigned i = 0; i < LAST_TRIES && good; i++) {
		(void)pthread_mutex_lock(&w->lock);
		if (!queue_leave_gaps(w)) {
			(void)pthread_mutex_unlock(&w->lock);
			return;
		}
		good = turn(k); /* unlocks */
	}
}

/* ours: it had its turn. */
static void
finish(struct keeper *k, bool ours)
{
	struct webhook *w = k->w;
	bool good = !ours, followed;

	sender_stop(w);
	for (unsigned i = 0; i < LAST_TRIES && !good; i++) {
		k->retry_ms = 0;
		(void)pthread_mutex_lock(&w->lock);
		good = turn(k);
	}
	if (ours && good)
		leave_gaps(k);
	resolve_held(k, true);
	followed = place_leave(w->place, k->o);
	if (!followed)
		outbox_close(k->o);
	w->place = NULL;
	tell_what_is_lost(k, followed);
	batch_free(k);
	free(k->rows);
	free(k->written);
}

/* The one before us goes for sure, unless something of it hangs, or the reload that made us has failed. */
static bool
wait_for_turn(struct keeper *k)
{
	struct webhook *w = k->w;
	uint64_t until = UINT64_MAX;
	bool idle;

	while (!place_wait(w->place, LOOK_ROUND_MS, &k->o)) {
		(void)pthread_mutex_lock(&w->lock);
		if (w->ending && until == UINT64_MAX)
			until = w->host->now_ms() + TURN_MS;
		idle = w->ending && w->pushed == 0;
		(void)pthread_mutex_unlock(&w->lock);
		if (w->host->now_ms() >= until || (idle && !place_is_near(w->place)))
			return false;
	}
	return true;
}

static void *
keeper_main(void *arg)
{
	struct keeper k = { .w = arg, .can_be_calm = keeper_can_be_calm() };
	struct webhook *w = k.w;
	bool ending = false;

	if (!wait_for_turn(&k)) {
		finish(&k, false);
		return NULL;
	}
	k.seen = k.o != NULL && look_at_endpoints(&k) && outbox_endpoints(k.o, tell_of_stranger, w);
	if (!k.seen) {
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
	finish(&k, true);
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
	keeper_call(w);
	(void)pthread_mutex_unlock(&w->lock);
	(void)pthread_join(w->keeper, NULL);
	w->keeping = false;
}
