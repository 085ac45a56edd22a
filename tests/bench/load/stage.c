/* SPDX-License-Identifier: Apache-2.0 */
/* A set of connections from the first connect() to the last close. */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EVENTS  256
#define OPEN_NS 1000000u /* between two looks at the phase */
#define TICK_NS 2000000L /* of the main thread */

struct worker workers[MAX_THREADS];
_Atomic int phase;
uint64_t t_run;
uint64_t t_stop_sending;
_Atomic uint64_t credit_forgiven;
_Atomic uint64_t stalls;
unsigned stage_no;
uint32_t *sent_in_flow;
uint32_t nflows_total;
uint32_t fan;
bool live;
bool want_barrier;
uint8_t *retained_seen;

/* ---- a worker -------------------------------------------------------------------------------- */

static int
wait_events(struct worker *w, struct epoll_event *ev, uint64_t ns)
{
#ifdef SYS_epoll_pwait2
	static _Atomic bool missing;

	if (!atomic_load_explicit(&missing, memory_order_relaxed)) {
		struct timespec ts = { (time_t)(ns / NSEC), (long)(ns % NSEC) };
		int n = (int)syscall(SYS_epoll_pwait2, w->ep, ev, EVENTS, &ts, NULL, (size_t)0);

		if (n >= 0 || errno != ENOSYS)
			return n;
		atomic_store(&missing, true);
	}
#endif
	return epoll_wait(w->ep, ev, EVENTS, (int)((ns + 999999) / 1000000));
}

static void
ping_all(struct worker *w)
{
	w->t_ping = now_ns();
	for (uint32_t i = 0; i < w->n; i++) {
		struct conn *c = w->conns[i];

		if (c->state != ST_READY || c->out_len > 0)
			continue;
		out_empty(c, 0xc0);
		(void)conn_flush(w, c);
	}
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct epoll_event ev[EVENTS];
	int ph;

	(void)prctl(PR_SET_TIMERSLACK, 1ul);
	w->t_ping = now_ns();
	while ((ph = atomic_load(&phase)) != PH_STOP) {
		uint64_t wait;
		int n;

		if (!(cfg.sc == SC_STORM && ph == PH_OPEN))
			while (w->opened < w->n && w->opening < cfg.ramp)
				conn_open(w, w->conns[w->opened++]);
		wait = ph == PH_RUN ? publish_due(w) : OPEN_NS;
		n = wait_events(w, ev, wait);
		for (int i = 0; i < n; i++)
			conn_event(w, ev[i].data.ptr, ev[i].events);
		if (cfg.keepalive > 0 && now_ns() - w->t_ping > cfg.keepalive * NSEC / 2)
			ping_all(w);
	}
	return NULL;
}

/* Subscribers come first in conns; publishers are dealt out on their own count. */
static uint32_t
workers_start(struct conn *conns, uint32_t n)
{
	uint32_t npubs = 0;

	for (unsigned i = 0; i < cfg.threads; i++) {
		struct worker *w = &workers[i];

		memset(w, 0, sizeof(*w));
		w->idx = i;
		if ((w->ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
			die("epoll_create1: %s", strerror(errno));
		w->rbuf = xcalloc(RBUF_SIZE, 1);
		w->conns = xcalloc(n, sizeof(struct conn *));
		w->pubs = xcalloc(n, sizeof(struct conn *));
	}
	for (uint32_t i = 0, k = 0; i < n; i++) {
		bool is_pub = conns[i].pub != NULL;
		struct worker *w = &workers[(is_pub ? npubs : k++) % cfg.threads];

		w->conns[w->n++] = &conns[i];
		if (is_pub) {
			w->pubs[w->npubs++] = &conns[i];
			npubs++;
		}
	}
	for (unsigned i = 0; i < cfg.threads; i++)
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			die("cannot start a thread");
	return npubs;
}

static uint64_t
workers_stop(struct result *r)
{
	uint64_t last_rx = 0;

	atomic_store(&phase, PH_STOP);
	for (unsigned i = 0; i < cfg.threads; i++)
		pthread_join(workers[i].thread, NULL);
	for (unsigned i = 0; i < cfg.threads; i++) {
		struct worker *w = &workers[i];

		r->sent += GET(w->sent);
		r->acked += GET(w->acked);
		r->recv += GET(w->recv);
		r->dup += GET(w->dup);
		r->late += GET(w->late);
		r->misrouted += GET(w->misrouted);
		r->corrupt += GET(w->corrupt);
		r->nacks += GET(w->nacks);
		r->dead += GET(w->dead);
		r->storms += GET(w->storms);
		r->session_present += GET(w->session_present);
		r->q2redeliv += GET(w->q2redeliv);
		r->writes += GET(w->writes);
		r->reads += GET(w->reads);
		if (GET(w->last_rx) > last_rx)
			last_rx = GET(w->last_rx);
		histogram_merge(&r->lat, &w->lat);
		histogram_merge(&r->lag, &w->lag);
		histogram_merge(&r->ack, &w->ack);
		(void)close(w->ep);
		free(w->rbuf);
		free(w->conns);
		free(w->pubs);
	}
	return last_rx;
}

/* ---- the stage ------------------------------------------------------------------------------- */

static void
tick(void)
{
	const struct timespec ts = { 0, TICK_NS };

	(void)nanosleep(&ts, NULL);
}

static void
wait_open(uint32_t n, uint64_t limit, struct result *r)
{
	uint64_t first = UINT64_MAX, last = 0, up = 0;

	for (;;) {
		up = 0;
		for (unsigned i = 0; i < cfg.threads; i++)
			up += GET(workers[i].ready) + GET(workers[i].dead);
		if (up >= n)
			break;
		if (now_ns() > limit) {
			r->timed_out = true;
			break;
		}
		tick();
	}
	for (unsigned i = 0; i < cfg.threads; i++) {
		uint64_t opened = GET(workers[i].first_open), ready = GET(workers[i].last_ready);

		if (opened > 0 && opened < first)
			first = opened;
		if (ready > last)
			last = ready;
	}
	r->open_secs = last > first ? (double)(last - first) / 1e9 : 0;
}

/* What the scenario waits for; deliveries of what was sent when none is given. */
static bool
is_done(uint64_t now, uint32_t npubs, uint64_t done, uint64_t expect)
{
	uint64_t storms = 0;

	switch (cfg.sc) {
	case SC_CONN:
		return now - t_run > (uint64_t)(cfg.hold * 1e9);
	case SC_STORM:
		for (unsigned i = 0; i < cfg.threads; i++)
			storms += GET(workers[i].storms);
		return (cfg.duration > 0 && now >= t_run + (uint64_t)(cfg.duration * 1e9)) ||
		    (cfg.count > 0 && storms >= cfg.count / cfg.threads * cfg.threads);
	case SC_PAIRS:
	case SC_FANIN:
	case SC_FANOUT:
	case SC_WILD:
	case SC_RETAINED:
	case SC_OFFLINE:
		break;
	}
	return done == npubs && sum_recv() >= (expect > 0 ? expect : sum_sent() * fan);
}

/* Until all is done, or nothing moves any more: then what is lost is counted. */
static void
wait_done(uint32_t npubs, uint64_t expect, uint64_t limit, struct result *r)
{
	uint64_t moved = t_run, last_sum = 0, credit_sum = 0, credit_at = t_run;

	while (!r->timed_out) {
		uint64_t now = now_ns(), done = 0, sum = 0, recv = sum_recv();

		for (unsigned i = 0; i < cfg.threads; i++) {
			struct worker *w = &workers[i];

			done += GET(w->pubs_done);
			sum += GET(w->recv) + GET(w->sent) + GET(w->acked) + GET(w->storms);
		}
		if (is_done(now, npubs, done, expect))
			break;
		if (sum != last_sum) {
			last_sum = sum;
			moved = now;
		} else if (now - moved > (uint64_t)(cfg.drain * 1e9)) {
			break;
		}
		if (recv != credit_sum) {
			credit_sum = recv;
			credit_at = now;
		} else if (fan > 0 && cfg.credit > 0 && cfg.rate == 0 && done < npubs &&
		    now - credit_at > NSEC / 2) {
			uint64_t out = sum_sent() * fan; /* lost: do not wait for those */

			atomic_store(&credit_forgiven, out > recv ? out - recv : 0);
			ADD(stalls, 1);
			credit_at = now;
		}
		r->timed_out = now > limit;
		tick();
	}
}

/* A clean goodbye, so that the broker keeps no Will Message and logs no error. */
static void
conns_end(struct conn *conns, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		struct conn *c = &conns[i];

		if (c->state == ST_READY) {
			c->out_len = c->out_head = 0;
			out_empty(c, 0xe0);
			(void)io_write(c, c->out, 2);
		}
		conn_close(c);
		free(c->out);
		free(c->part);
	}
}

void
stage_run(struct conn *conns, uint32_t n, uint64_t expect, struct result *r)
{
	uint64_t t0, t_from, t_end, last_rx, limit;
	double own;
	uint32_t npubs;

	memset(r, 0, sizeof(*r));
	stage_no++;
	atomic_store(&phase, PH_OPEN);
	r->base = usage_broker();
	own = usage_own_cpu();
	t0 = now_ns();
	limit = t0 + (uint64_t)(cfg.timeout * 1e9);
	npubs = workers_start(conns, n);
	if (cfg.sc != SC_STORM)
		wait_open(n, limit, r);

	if (cfg.sc != SC_CONN) { /* there connecting is what is measured */
		own = usage_own_cpu();
		t0 = now_ns();
	}
	r->before = npubs > 0 || cfg.sc == SC_STORM ? usage_broker() : r->base;
	t_run = now_ns();
	t_stop_sending =
	    cfg.duration > 0 && cfg.rate == 0 ? t_run + (uint64_t)(cfg.duration * 1e9) : 0;
	if (!r->timed_out)
		atomic_store(&phase, PH_RUN);
	wait_done(npubs, expect, limit, r);
	t_end = now_ns();
	r->gen_cpu = 100 * (usage_own_cpu() - own) / ((double)(t_end - t0) / 1e9);
	r->after = usage_broker();
	last_rx = workers_stop(r);

	/* The clock stops at the last byte received, not at this thread's next look. */
	t_from = t_run;
	if (npubs == 0 && conns[0].sub != NULL)
		t_from =
		    conns[0].sub->t_subscribe > 0 ? conns[0].sub->t_subscribe : conns[0].t_open;
	if (cfg.sc != SC_CONN && cfg.sc != SC_STORM && last_rx > t_from)
		t_end = last_rx;
	r->secs = (double)(t_end - t_from) / 1e9;
	r->expected = expect > 0 ? expect : r->sent * fan;
	conns_end(conns, n);
}
