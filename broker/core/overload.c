/* SPDX-License-Identifier: Apache-2.0 */
#include "core/overload.h"

#include "base/log.h"
#include "core/conn.h"
#include "core/memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define VOLUME_PART \
	64 /* of max_memory: so much is taken in between two looks at most, by all workers together */
#define OUTPUT_PART    4
#define PRESSED_OUTPUT 16
#define GROWTH_PART    512 /* of max_memory, in one interval: less is standing still */
#define LEFT_PART      4

/* ---- pure ------------------------------------------------------------------------------------ */

static bool
at_least(int64_t used, uint64_t limit, unsigned percent)
{
	return used >= 0 && (uint64_t)used >= limit / 100 * percent;
}

enum overload_level
overload_next(enum overload_level now, int64_t used, uint64_t limit)
{
	if (at_least(used, limit, now == OVERLOAD_FULL ? 95 : 100))
		return OVERLOAD_FULL;
	if (at_least(used, limit, now == OVERLOAD_NONE ? 85 : 80))
		return OVERLOAD_PRESSED;
	return OVERLOAD_NONE;
}

unsigned
overload_wait_ms(int64_t used, int64_t before, uint64_t limit)
{
	bool grows = used > before && (uint64_t)(used - before) > limit / 32;

	return grows || at_least(used, limit, 75) ? OVERLOAD_NEAR_MS : OVERLOAD_LOOK_MS;
}

uint64_t
overload_output_share(enum overload_level level, uint64_t limit, unsigned workers)
{
	switch (level) {
	case OVERLOAD_NONE:
		return limit / OUTPUT_PART / workers;
	case OVERLOAD_PRESSED:
		return limit / PRESSED_OUTPUT / workers;
	case OVERLOAD_FULL:
		break;
	}
	return 0;
}

uint64_t
overload_output_max(uint64_t share, int64_t waiting)
{
	uint64_t left = waiting < 0     ? share
	    : (uint64_t)waiting < share ? share - (uint64_t)waiting
					: 0;

	/* A part of what is left, so that however many take theirs, some is left. */
	left /= LEFT_PART;
	return left < OVERLOAD_OUTPUT ? OVERLOAD_OUTPUT : left;
}

uint32_t
overload_allowance(uint32_t last, uint64_t total, uint32_t senders, bool grows)
{
	uint64_t next = senders > 0 ? total / senders : last;

	if (next > last || !grows)
		next = last;
	next = grows ? next / 4 * 3 : next / 4 * 5;
	if (next >= OVERLOAD_ALL)
		return OVERLOAD_ALL - 1;
	return next < OVERLOAD_LEAST ? OVERLOAD_LEAST : (uint32_t)next;
}

/* ---- on a worker ------------------------------------------------------------------------------ */

bool
overload_room(struct overload_worker *o, uint32_t from, uint32_t to)
{
	uint32_t *received = realloc(o->received, to * sizeof(*received));

	if (received == NULL)
		return false;
	memset(received + from, 0, (to - from) * sizeof(*received));
	o->received = received;
	return true;
}

/* The interval is over: how much did they send, and those that wait are read again. */
static void
count_and_resume(struct worker *w, uint64_t *total, uint32_t *senders)
{
	struct core_worker *cw = w->core;
	uint32_t *received = cw->overload.received;

	*total = *senders = 0;
	for (uint32_t i = 0; i < cw->conn_capacity; i++) {
		struct conn *c;

		if (received[i] == 0)
			continue;
		*total += received[i];
		++*senders;
		received[i] = 0;
		if ((c = cw->conns[i]) == NULL || !(c->pause & PAUSE_MEMORY))
			continue;
		c->last_packet_ms = w->now_ms; /* that it was not read is not its fault */
		conn_resume(c, PAUSE_MEMORY);
	}
}

static void
on_interval(struct timer *t, void *owner)
{
	struct worker *w = owner;
	struct overload_worker *o = &w->core->overload;
	uint64_t total;
	uint32_t senders;

	int64_t used = atomic_load_explicit(&w->broker->overload.used, memory_order_relaxed);
	uint64_t limit = atomic_load_explicit(&w->broker->overload.limit, memory_order_relaxed);

	count_and_resume(w, &total, &senders);
	if (o->level == OVERLOAD_NONE)
		return;
	if (o->level == OVERLOAD_PRESSED)
		o->allowance = overload_allowance(o->allowance, total, senders,
		    used - o->used_before > (int64_t)(limit / GROWTH_PART));
	o->used_before = used;
	worker_timer(w, t, o->level == OVERLOAD_FULL ? OVERLOAD_FULL_MS : OVERLOAD_INTERVAL_MS);
}

void
overload_output(struct worker *w)
{
	struct overload_worker *o = &w->core->overload;

	o->output_max =
	    overload_output_max(o->output_share, metric_get(&w->metrics, METRIC_OUTPUT_BYTES));
}

static int64_t
volume(const struct worker *w)
{
	return metric_get(&w->metrics, METRIC_BYTES_RECEIVED) +
	    metric_get(&w->metrics, METRIC_QUEUED_BYTES);
}

static int64_t
volume_part(const struct broker *b)
{
	uint64_t limit = atomic_load_explicit(&b->overload.limit, memory_order_relaxed);

	return (int64_t)(limit / VOLUME_PART / b->worker_count);
}

/* Take over level and limit as they are now. */
static void
act(struct worker *w)
{
	struct overload *shared = &w->broker->overload;
	struct overload_worker *o = &w->core->overload;
	enum overload_level was = (enum overload_level)o->level, is = overload_level(shared);
	uint64_t total;
	uint32_t senders;

	o->level = is;
	o->volume_due = volume(w); /* what a part is may have changed: look soon */
	o->output_share = overload_output_share(is,
	    atomic_load_explicit(&shared->limit, memory_order_relaxed), w->broker->worker_count);
	overload_output(w);
	if (is == was)
		return;
	switch (is) {
	case OVERLOAD_NONE:
		o->allowance = OVERLOAD_ALL;
		timer_disarm(w->wheel, &o->timer);
		count_and_resume(w, &total, &senders);
		return;
	case OVERLOAD_PRESSED:
		o->allowance = was == OVERLOAD_FULL ? OVERLOAD_LEAST : OVERLOAD_FIRST;
		break;
	case OVERLOAD_FULL:
		o->allowance = 0;
		break;
	}
	if (was == OVERLOAD_NONE) {
		if (w->core->conn_capacity > 0)
			memset(o->received, 0, w->core->conn_capacity * sizeof(*o->received));
		o->used_before = atomic_load_explicit(&shared->used, memory_order_relaxed);
		worker_timer(w, &o->timer, OVERLOAD_INTERVAL_MS);
	}
}

static void
on_tell(struct worker *w, struct mail *m)
{
	struct overload_mail *om = (struct overload_mail *)(void *)m;

	/* Before the level is read: what changes from now on is told by another mail. */
	atomic_store(&om->posted, false);
	if (!w->core->stopping)
		act(w);
}

static void
on_look(struct worker *w, struct mail *m)
{
	struct overload_mail *om = (struct overload_mail *)(void *)m;

	atomic_store(&om->posted, false);
	memory_look_now(w->broker);
}

void
overload_turn(struct worker *w)
{
	struct overload_worker *o;
	int64_t now;

	if (w->core == NULL)
		return;
	o = &w->core->overload;
	now = volume(w);
	if (now < o->volume_due)
		return;
	o->volume_due = now + volume_part(w->broker);
	if (!atomic_exchange(&o->look.posted, true))
		worker_post(w->broker->main, &o->look.mail);
}

void
overload_worker_fini(struct worker *w)
{
	timer_disarm(w->wheel, &w->core->overload.timer);
	free(w->core->overload.received);
}

/* ---- main -------------------------------------------------------------------------------------- */

void
overload_init(struct broker *b)
{
	atomic_store(&b->overload.limit, atomic_load(&b->limits)->max_memory);
	atomic_store(&b->overload.used, -1);
	b->overload.before = INT64_MAX; /* what is there at the start has not grown */
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct worker *w = b->workers[i];
		struct overload_worker *o = &w->core->overload;

		o->allowance = OVERLOAD_ALL;
		o->volume_due = volume_part(b);
		o->look.mail.fn = on_look;
		timer_init(&o->timer, on_interval);
		b->overload.tell[i].mail.fn = on_tell;
		o->output_share = overload_output_share(
		    OVERLOAD_NONE, atomic_load(&b->overload.limit), b->worker_count);
		overload_output(w);
	}
}

static void
tell_workers(struct broker *b)
{
	for (unsigned i = 0; i < b->worker_count; i++)
		if (!atomic_exchange(&b->overload.tell[i].posted, true))
			worker_post(b->workers[i], &b->overload.tell[i].mail);
}

static void
say(enum overload_level was, enum overload_level is, int64_t used, uint64_t limit)
{
	unsigned percent = (unsigned)((uint64_t)used / (limit / 100));
	int64_t mib = used >> 20;
	uint64_t of = limit >> 20;

	switch (is) {
	case OVERLOAD_NONE:
		log_at(GRAPNEL_LOG_NOTICE, "memory_normal",
		    "memory: %" PRId64 " MiB in use, %u %% of max_memory (%" PRIu64
		    " MiB): everything is as usual again",
		    mib, percent, of);
		return;
	case OVERLOAD_PRESSED:
		log_at(GRAPNEL_LOG_WARNING, "memory_pressed",
		    "memory: %" PRId64 " MiB in use, %u %% of max_memory (%" PRIu64
		    " MiB): %s; see queued_bytes, retained_bytes and output_bytes in "
		    "\"grapnelctl metrics\" for what takes it",
		    mib, percent, of,
		    was == OVERLOAD_FULL
			? "new connections are accepted again; publishers are still read less, and "
			  "nothing more is kept for offline sessions or as retained"
			: "the publishers that send most are read less, and nothing more is kept "
			  "for "
			  "offline sessions or as retained, until it is below 80 %");
		return;
	case OVERLOAD_FULL:
		log_at(GRAPNEL_LOG_ERROR, "memory_full",
		    "memory: %" PRId64 " MiB in use, %u %% of max_memory (%" PRIu64
		    " MiB): new connections are refused and publishers wait, until it is below 95 "
		    "%%; raise max_memory if the machine has more, or lower max_queued_bytes, "
		    "max_total_queued_bytes and retained_max_bytes",
		    mib, percent, of);
		return;
	}
}

unsigned
overload_look(struct broker *b, int64_t used)
{
	struct overload *o = &b->overload;
	uint64_t limit = atomic_load(&b->limits)->max_memory;
	enum overload_level was = overload_level(o), is = overload_next(was, used, limit);
	unsigned wait_ms = overload_wait_ms(used, o->before, limit);
	bool other = limit != atomic_load_explicit(&o->limit, memory_order_relaxed);

	o->before = used;
	o->looked_ms = b->main->now_ms;
	atomic_store(&o->used, used);
	atomic_store(&o->limit, limit);
	atomic_store(&o->level, is);
	if (is != was && used < 0)
		log_at(GRAPNEL_LOG_WARNING, "memory_unknown",
		    "memory: /proc/self/statm cannot be read, so what is in use is not known: "
		    "max_memory is not kept");
	else if (is != was)
		say(was, is, used, limit);
	if (is != was || other)
		tell_workers(b);
	return wait_ms;
}
