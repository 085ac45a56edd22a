/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Turns of the simulated workers, and time. The clock stands still but in advance() (virtual: it jumps from one timer or
 * deadline to the next) and in wait_until() (live: it goes as fast as the one on the wall). It is live, too, while an instance
 * is made or ended, when threads of the plugin may wait for each other by the host's clock.
 */
#include "inside.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define NEVER UINT64_MAX

static uint64_t
real_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

uint64_t
clock_now(const harness *h)
{
	if (atomic_load(&h->live))
		return real_ms() + atomic_load(&h->live_offset);
	return atomic_load(&h->now_ms);
}

void
clock_live(harness *h, bool live)
{
	if (live && h->live_depth++ == 0) {
		atomic_store(&h->live_offset, atomic_load(&h->now_ms) - real_ms());
		atomic_store(&h->live, true);
	} else if (!live && --h->live_depth == 0) {
		atomic_store(&h->now_ms, clock_now(h));
		atomic_store(&h->live, false);
	}
}

void
wake(harness *h)
{
	uint64_t one = 1;

	(void)!write(h->wake_fd, &one, sizeof(one));
}

/* ---- descriptors ---------------------------------------------------------------------------------- */

static short
poll_wants(const struct thing *t)
{
	int wants = 0;

	if (t->events & GRAPNEL_READABLE)
		wants |= POLLIN | POLLRDHUP;
	if (t->events & GRAPNEL_WRITABLE)
		wants |= POLLOUT;
	return (short)wants;
}

static bool
watched(const struct thing *t)
{
	return t->kind == THING_WATCH && !t->gone && t->events != 0;
}

/* As the broker's loop tells it: trouble shows as whatever was asked for. */
static unsigned
poll_got(const struct thing *t, short revents)
{
	unsigned got = 0;

	if (revents & (POLLERR | POLLHUP))
		got = GRAPNEL_READABLE | GRAPNEL_WRITABLE;
	if (revents & POLLIN)
		got |= GRAPNEL_READABLE;
	if (revents & POLLOUT)
		got |= GRAPNEL_WRITABLE;
	got &= t->events;
	if ((t->events & GRAPNEL_READABLE) && (revents & (POLLRDHUP | POLLHUP)))
		got |= GRAPNEL_HANGUP;
	return got;
}

static short
poll_one(const struct thing *t)
{
	struct pollfd p = { .fd = t->fd, .events = poll_wants(t) };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

static bool
watch_run(struct thing *t)
{
	short revents = poll_one(t);
	unsigned got;
	struct call c;

	if (revents & POLLNVAL) {
		finding(t->h,
		    "descriptor: %d was closed before its watch (made in %s, line %d) was removed",
		    t->fd, t->made.call != NULL ? t->made.call : "the plugin", t->made.line);
		t->events = 0;
		return true;
	}
	got = poll_got(t, revents);
	if (got == 0)
		return false;
	call_begin(&c, t->plug, "watch_fd callback");
	t->watch_fn(t->arg, t->fd, got);
	call_end(&c);
	return true;
}

/* ---- one turn, on its worker ------------------------------------------------------------------------ */

static bool
posts_run(harness *h, unsigned worker)
{
	struct sim_worker *w = &h->workers[worker];
	struct posted *c, *next;

	pthread_mutex_lock(&h->lock);
	c = w->posts;
	w->posts = NULL;
	pthread_mutex_unlock(&h->lock);
	if (c == NULL)
		return false;
	for (; c != NULL; c = next) {
		next = c->next;
		if (c->always) {
			c->fn(c->arg);
		} else if (c->plug->workers[worker].started) {
			struct call call;

			call_begin(&call, c->plug, c->call);
			c->fn(c->arg);
			call_end(&call);
		}
		free(c);
	}
	return true;
}

static void
posts_last(harness *h, unsigned worker, void *arg)
{
	(void)arg;
	(void)posts_run(h, worker);
}

/* Look-ups that came back when nobody turned any more: they bring their memory. */
void
posts_end(harness *h)
{
	for (unsigned i = 0; i < h->worker_count; i++) {
		if (h->workers[i].exists)
			(void)on_worker(h, i, posts_last, NULL);
	}
}

static struct thing *
timer_due(harness *h, unsigned worker, uint64_t armed_before)
{
	struct thing *first = NULL;

	for (struct thing *t = h->things; t != NULL; t = t->next) {
		if (t->worker != worker || t->gone || !t->armed || t->due_ms > clock_now(h) ||
		    t->order > armed_before)
			continue;
		if (first == NULL || t->due_ms < first->due_ms ||
		    (t->due_ms == first->due_ms && t->order < first->order))
			first = t;
	}
	return first;
}

static bool
timers_run(harness *h, unsigned worker)
{
	uint64_t before = h->order;
	bool any = false;
	struct thing *t;

	while ((t = timer_due(h, worker, before)) != NULL) {
		struct call c;

		any = true;
		t->armed = false;
		if (t->kind == THING_LOOKUP) {
			lookup_due(t);
			continue;
		}
		call_begin(&c, t->plug, "timer callback");
		t->fn(t->arg);
		call_end(&c);
	}
	return any;
}

static bool
watches_run(harness *h, unsigned worker)
{
	uint64_t before = h->order;
	bool any = false;

	for (struct thing *t = h->things; t != NULL; t = t->next) {
		if (t->worker == worker && t->order <= before && watched(t))
			any = watch_run(t) || any;
	}
	return any;
}

static bool
events_due(const struct plug *p, unsigned worker)
{
	const struct plug_worker *pw = &p->workers[worker];

	return pw->started && pw->events != NULL &&
	    (!pw->stalled || pw->retry_ms <= clock_now(p->h));
}

static void
turn(harness *h, unsigned worker, void *arg)
{
	bool *any = arg;

	*any = posts_run(h, worker) || *any;
	*any = timers_run(h, worker) || *any;
	*any = watches_run(h, worker) || *any;
	for (struct plug *p = h->plugs; p != NULL; p = p->next) {
		if (events_due(p, worker)) {
			(void)events_offer(p, worker);
			*any = true;
		}
	}
}

/* ---- pumping ------------------------------------------------------------------------------------------ */

/* Looked at by the driver, so that a worker with nothing to do costs no change of threads. */
static bool
worker_ready(harness *h, unsigned worker)
{
	bool posts;

	pthread_mutex_lock(&h->lock);
	posts = h->workers[worker].posts != NULL;
	pthread_mutex_unlock(&h->lock);
	if (posts || timer_due(h, worker, UINT64_MAX) != NULL)
		return true;
	for (struct thing *t = h->things; t != NULL; t = t->next) {
		if (t->worker == worker && watched(t) && poll_one(t) != 0)
			return true;
	}
	for (struct plug *p = h->plugs; p != NULL; p = p->next) {
		if (events_due(p, worker))
			return true;
	}
	return false;
}

/* What was published since goes to the plugin's own subscriptions. */
static void
route(harness *h)
{
	for (;;) {
		struct grapnel_message_info m = { .size = sizeof(m) };
		struct record *r;

		pthread_mutex_lock(&h->lock);
		for (r = h->records; r != NULL; r = r->next) {
			if (r->kind == RECORD_PUBLISHED && !r->routed)
				break;
		}
		if (r != NULL)
			r->routed = true;
		pthread_mutex_unlock(&h->lock);
		if (r == NULL)
			return;
		m.topic_name = (struct grapnel_str){ r->text, strlen(r->text) };
		m.payload = r->more;
		m.properties = (struct grapnel_str){ r->properties, r->properties_len };
		m.qos = r->qos;
		m.retain = r->retain;
		things_publish(h, &m);
	}
}

static bool
pump_once(harness *h)
{
	bool any = false;

	asks_due(h);
	(void)jobs_next(h);
	route(h);
	for (unsigned i = 0; i < h->worker_count && !h->stuck; i++) {
		if (worker_ready(h, i))
			(void)on_worker(h, i, turn, &any);
	}
	reports_out(h);
	return any;
}

void
pump(harness *h)
{
	for (unsigned turns = 0; !h->stuck && pump_once(h); turns++) {
		if (turns == TURNS_MAX && h->spins) {
			return;
		} else if (turns == TURNS_MAX) {
			h->spins = true;
			finding(h,
			    "spins: after %u turns of the loop there is still something to do at "
			    "once (a timer of 0 ms that arms itself, a descriptor watched for "
			    "writing with nothing to write?)",
			    TURNS_MAX);
			return;
		}
	}
}

static void
sooner(uint64_t *at, uint64_t when)
{
	if (when < *at)
		*at = when;
}

/* When the clock next matters. */
static uint64_t
next_due(harness *h)
{
	uint64_t at = NEVER;

	for (const struct thing *t = h->things; t != NULL; t = t->next) {
		if (!t->gone && t->armed)
			sooner(&at, t->due_ms);
	}
	for (const struct plug *p = h->plugs; p != NULL; p = p->next) {
		for (unsigned i = 0; i < h->worker_count; i++) {
			if (p->workers[i].events != NULL && p->workers[i].stalled)
				sooner(&at, p->workers[i].retry_ms);
		}
	}
	pthread_mutex_lock(&h->lock);
	for (const struct asked *a = h->asks; a != NULL; a = a->next) {
		if (a->state == ASK_PENDING)
			sooner(&at, a->deadline_ms);
	}
	for (const struct thing *t = h->things; t != NULL; t = t->next) {
		if (t->kind == THING_JOB && t->job == JOB_WAITS && t->has_deadline)
			sooner(&at, t->deadline_ms);
	}
	pthread_mutex_unlock(&h->lock);
	return at;
}

void
advance(harness *h, uint64_t ms)
{
	uint64_t target = clock_now(h) + ms;

	pump(h);
	while (!h->stuck) {
		uint64_t at = next_due(h);

		if (at > target)
			break;
		if (at > clock_now(h))
			atomic_store(&h->now_ms, at);
		pump(h);
		if (next_due(h) <= clock_now(h))
			break; /* it spins: said already */
	}
	atomic_store(&h->now_ms, target);
	pump(h);
}

/* ---- in real time --------------------------------------------------------------------------------------- */

/* Sleep until a descriptor is ready, somebody wakes us, or ms have passed. */
static void
doze(harness *h, uint64_t ms)
{
	struct pollfd *fds;
	nfds_t n = 1;
	uint64_t count;

	for (const struct thing *t = h->things; t != NULL; t = t->next)
		n += watched(t);
	if ((fds = calloc(n, sizeof(*fds))) == NULL)
		return;
	fds[0] = (struct pollfd){ .fd = h->wake_fd, .events = POLLIN };
	n = 1;
	for (const struct thing *t = h->things; t != NULL; t = t->next) {
		if (watched(t))
			fds[n++] = (struct pollfd){ .fd = t->fd, .events = poll_wants(t) };
	}
	if (poll(fds, n, (int)(ms > 1000 ? 1000 : ms)) > 0 && fds[0].revents != 0)
		(void)!read(h->wake_fd, &count, sizeof(count));
	free(fds);
}

static bool
wait_live(harness *h, uint32_t patience_ms, bool (*done)(harness *h, void *arg), void *arg)
{
	uint64_t began = real_ms();

	for (;;) {
		uint64_t now, passed, next, left;

		(void)pump_once(h);
		if (h->stuck)
			return false;
		if (done(h, arg))
			return true;
		passed = real_ms() - began;
		if (passed >= patience_ms)
			return false;
		now = clock_now(h);
		next = next_due(h);
		left = patience_ms - passed;
		doze(h, next <= now ? 0 : next - now < left ? next - now : left);
	}
}

bool
wait_until(harness *h, uint32_t patience_ms, bool (*done)(harness *h, void *arg), void *arg)
{
	bool ok;

	clock_live(h, true);
	ok = wait_live(h, patience_ms, done, arg);
	clock_live(h, false);
	return ok;
}

bool
idle(harness *h, void *arg)
{
	bool busy = false;

	(void)arg;
	pthread_mutex_lock(&h->lock);
	for (const struct asked *a = h->asks; a != NULL && !busy; a = a->next)
		busy = a->state != ASK_DONE;
	for (const struct thing *t = h->things; t != NULL && !busy; t = t->next)
		busy = !t->gone && (t->kind == THING_JOB || t->kind == THING_LOOKUP);
	for (unsigned i = 0; i < h->worker_count && !busy; i++)
		busy = h->workers[i].posts != NULL;
	for (const struct reply *r = h->replies; r != NULL && !busy; r = r->next)
		busy = r->owed;
	pthread_mutex_unlock(&h->lock);
	return !busy;
}
