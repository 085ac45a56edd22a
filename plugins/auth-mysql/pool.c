/* SPDX-License-Identifier: Apache-2.0 */
/* pool - see pool.h */
#include "pool.h"

#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_PAUSE_MS  100u
#define SOON_MS         50u   /* the most after a connection that was good */
#define SHORT_LIVED_MS  1000u /* no good one */
#define PLACE_TEXT_SIZE 320u

struct pool {
	struct shared *shared;
	const struct grapnel_host *host;
	struct grapnel_timer *timer; /* for those who wait */
	uint64_t timer_at;
	struct job *first, *last; /* waiting, oldest first */
	unsigned link_count, up_count;
	bool down, stopping;
	struct link links[];
};

static void attempt(struct link *l);
static void pump(struct pool *p);

const struct settings *
link_settings(const struct link *l)
{
	return &l->pool->shared->settings;
}

const struct shared *
link_shared(const struct link *l)
{
	return l->pool->shared;
}

static void
count(struct pool *p, int metric, int delta)
{
	if (metric >= 0)
		p->host->metric_add(p->shared->self, metric, delta);
}

/* -------------------------------------------------------------------- calls */

/* The call is gone after it. */
static void
finish(struct job *job, enum sql_status status)
{
	struct sql_call *call = job->call;

	free(job);
	if (call != NULL)
		call->done(call, status);
}

static void
take_from_queue(struct pool *p, struct job *job)
{
	struct job **at = &p->first, *before = NULL;

	while (*at != job) {
		before = *at;
		at = &before->next;
	}
	*at = job->next;
	if (p->last == job)
		p->last = before;
}

static void
wait_until(struct pool *p, uint64_t deadline)
{
	uint64_t now = p->host->now_ms();

	if (p->timer_at != 0 && p->timer_at <= deadline)
		return;
	p->timer_at = deadline;
	(void)p->host->timer_arm(p->timer, deadline > now ? (uint32_t)(deadline - now) : 0);
}

static void
put_in_queue(struct pool *p, struct job *job, bool front)
{
	job->next = front ? p->first : NULL;
	if (p->first == NULL)
		p->first = p->last = job;
	else if (front)
		p->first = job;
	else
		p->last = p->last->next = job;
	wait_until(p, job->deadline);
}

/* All who wait, or those whose time is over. Their done may come back to us: first the list, then they. */
static void
fail_waiting(struct pool *p, uint64_t until)
{
	struct job *job, *next, *failed = NULL, **end = &failed;

	for (job = p->first; job != NULL; job = next) {
		next = job->next;
		if (job->deadline > until)
			continue;
		take_from_queue(p, job);
		job->next = NULL;
		*end = job;
		end = &job->next;
	}
	while ((job = failed) != NULL) {
		failed = job->next;
		if (until != UINT64_MAX)
			count(p, p->shared->query_timeouts, 1);
		finish(job, SQL_UNAVAILABLE);
	}
}

static void
queue_on_timer(void *arg)
{
	struct pool *p = arg;

	p->timer_at = 0;
	fail_waiting(p, p->host->now_ms());
	for (const struct job *job = p->first; job != NULL; job = job->next)
		wait_until(p, job->deadline);
}

void
pool_exec(void *pool, struct sql_call *call)
{
	struct pool *p = pool;
	uint32_t most = p->shared->settings.query_timeout_ms;
	struct job *job = p->down || p->stopping ? NULL : calloc(1, sizeof(*job));

	if (job == NULL) {
		call->done(call, SQL_UNAVAILABLE);
		return;
	}
	job->call = call;
	job->query = call->query;
	job->deadline = p->host->now_ms() + (call->deadline_ms < most ? call->deadline_ms : most);
	call->driver = job;
	put_in_queue(p, job, false);
	pump(p);
}

void
pool_cancel(void *pool, struct sql_call *call)
{
	struct pool *p = pool;
	struct job *job = call->driver;

	for (unsigned i = 0; i < p->link_count; i++) {
		if (p->links[i].job != job)
			continue;
		/* It runs: to its end, and nobody hears of it. Closing the connection would cost more. */
		job->call = NULL;
		call->done(call, SQL_UNAVAILABLE);
		return;
	}
	take_from_queue(p, job);
	finish(job, SQL_UNAVAILABLE);
}

/* Give work to who is idle. A query may end, and others come, inside link_query. */
static void
pump(struct pool *p)
{
	for (unsigned i = 0; i < p->link_count && p->first != NULL; i++) {
		struct link *l = &p->links[i];
		uint64_t now = p->host->now_ms();

		if (l->state != LINK_IDLE)
			continue;
		l->job = p->first;
		take_from_queue(p, l->job);
		l->rows = 0;
		(void)p->host->timer_arm(
		    l->timer, l->job->deadline > now ? (uint32_t)(l->job->deadline - now) : 0);
		link_query(l);
	}
}

/* ------------------------------------------------------------------- what is said */

/* Once when a query begins to fail, once when it works again. why has no values. */
static void
query_failing(struct pool *p, const struct sql_query *query, const char *why)
{
	if (!atomic_exchange(&p->shared->query_failing[query->number], true))
		p->host->log(p->shared->self, GRAPNEL_LOG_ERROR,
		    "%s fails: %s; it is answered as on_error says, and this is not said again "
		    "until it has worked",
		    query->option, why);
}

static void
query_works(struct pool *p, const struct sql_query *query)
{
	atomic_bool *failing = &p->shared->query_failing[query->number];

	if (atomic_load_explicit(failing, memory_order_relaxed) && atomic_exchange(failing, false))
		p->host->log(p->shared->self, GRAPNEL_LOG_NOTICE, "%s works again", query->option);
}

static const char *
place_text(const struct link *l, char text[PLACE_TEXT_SIZE])
{
	const struct settings *s = link_settings(l);
	const struct place *at = &s->places[l->place];

	if (s->socket != NULL)
		return s->socket;
	(void)snprintf(text, PLACE_TEXT_SIZE, strchr(at->host, ':') != NULL ? "[%s]:%u" : "%s:%u",
	    at->host, at->port);
	return text;
}

static void
say_down(struct link *l)
{
	struct pool *p = l->pool;
	char place[PLACE_TEXT_SIZE];

	if (p->up_count > 0) {
		if (!l->warned)
			p->host->log(p->shared->self, GRAPNEL_LOG_WARNING,
			    "%s: one of the connections cannot be made: %s; trying again",
			    place_text(l, place), l->error);
		l->warned = true;
		return;
	}
	if (p->down)
		return;
	p->down = true;
	if (atomic_fetch_add(&p->shared->workers_down, 1) == 0)
		p->host->log(p->shared->self, GRAPNEL_LOG_ERROR,
		    "%s: no connection: %s; until there is one, logins and rights that need it are "
		    "answered as on_error says; "
		    "trying again",
		    place_text(l, place), l->error);
	fail_waiting(p, UINT64_MAX);
}

static void
say_up(struct link *l)
{
	struct pool *p = l->pool;
	char place[PLACE_TEXT_SIZE];

	l->warned = false;
	if (!p->down)
		return;
	p->down = false;
	if (atomic_fetch_sub(&p->shared->workers_down, 1) == 1)
		p->host->log(p->shared->self, GRAPNEL_LOG_NOTICE, "%s: connected again",
		    place_text(l, place));
}

/* ------------------------------------------------------------------------- connecting */

/* Half of it for certain, half by chance: not all workers of all brokers at once. */
static uint32_t
jittered(const struct pool *p, uint32_t ms)
{
	uint32_t chance = 0;

	(void)p->host->random_bytes(&chance, sizeof(chance));
	return ms / 2 + chance % (ms / 2 + 1);
}

static uint32_t
pause_of(const struct link *l)
{
	uint64_t pause = FIRST_PAUSE_MS;
	uint32_t most = link_settings(l)->reconnect_max_ms;

	if (l->failures == 0)
		return jittered(l->pool, SOON_MS);
	for (unsigned i = 1; i < l->failures && pause < most; i++)
		pause *= 2;
	return jittered(l->pool, pause < most ? (uint32_t)pause : most);
}

/* Closed, or about to be: try again after a while. */
static void
again_after(struct link *l, uint32_t ms)
{
	l->pause_ms = ms;
	if (l->state == LINK_CLOSED && !l->pool->stopping &&
	    !atomic_load(&l->pool->shared->stopping))
		(void)l->pool->host->timer_arm(l->timer, ms);
}

void
pool_on_closed(struct link *l)
{
	again_after(l, l->pause_ms);
}

/* The next address, the next host, or a pause. */
static void
attempt_failed(struct link *l)
{
	const struct settings *s = link_settings(l);
	char place[PLACE_TEXT_SIZE];

	l->pool->host->log(
	    l->pool->shared->self, GRAPNEL_LOG_DEBUG, "%s: %s", place_text(l, place), l->error);
	if (++l->address < l->address_count) {
		again_after(l, 0);
		return;
	}
	l->address = l->address_count = 0;
	if (++l->places_tried < s->place_count) {
		l->place = (l->place + 1) % s->place_count;
		again_after(l, 0);
		return;
	}
	count(l->pool, l->pool->shared->connect_failures, 1);
	l->failures++;
	say_down(l);
	l->places_tried = 0;
	l->place = (l->place + 1) % s->place_count;
	again_after(l, pause_of(l));
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t address_count)
{
	struct link *l = arg;

	l->look_up = NULL;
	l->address = l->address_count = 0;
	for (size_t i = 0;
	     err == GRAPNEL_OK && i < address_count && l->address_count < LINK_ADDRESSES; i++)
		if (addresses[i].len < LINK_ADDRESS_SIZE)
			(void)snprintf(l->addresses[l->address_count++], LINK_ADDRESS_SIZE, "%.*s",
			    (int)addresses[i].len, addresses[i].data);
	/* The library knows one name: that of which it asks the address is the one that the certificate must have. */
	if (l->address_count > 0 && link_settings(l)->tls == TLS_VERIFY) {
		l->address_count = 1;
		(void)snprintf(l->addresses[0], LINK_ADDRESS_SIZE, "%s",
		    link_settings(l)->places[l->place].host);
	}
	if (l->address_count > 0) {
		attempt(l);
		return;
	}
	(void)snprintf(l->error, sizeof(l->error), "%s",
	    err == GRAPNEL_ETIMEOUT     ? "no answer about its name from the DNS"
		: err == GRAPNEL_ENOENT ? "there is no such host"
					: "its name cannot be looked up");
	attempt_failed(l);
}

static void
look_up(struct link *l, const struct place *at)
{
	struct pool *p = l->pool;

	l->look_up =
	    p->host->dns_lookup(p->shared->self, (struct grapnel_str){ at->host, strlen(at->host) },
		link_settings(l)->connect_timeout_ms, on_addresses, l);
	if (l->look_up != NULL)
		return;
	(void)snprintf(l->error, sizeof(l->error), "its name cannot be looked up: out of memory");
	attempt_failed(l);
}

static void
attempt(struct link *l)
{
	const struct settings *s = link_settings(l);
	const struct place *at = &s->places[l->place];

	if (s->socket == NULL && l->address_count == 0) {
		if (!at->numeric) {
			look_up(l, at);
			return;
		}
		(void)snprintf(l->addresses[0], LINK_ADDRESS_SIZE, "%s", at->host);
		l->address_count = 1;
	}
	(void)l->pool->host->timer_arm(l->timer, s->connect_timeout_ms);
	link_connect(l, s->socket == NULL ? l->addresses[l->address] : NULL, at->port);
}

void
pool_on_connected(struct link *l, bool good)
{
	struct pool *p = l->pool;

	p->host->timer_disarm(l->timer);
	if (!good) {
		attempt_failed(l);
		return;
	}
	l->address = l->address_count = 0;
	l->places_tried = 0;
	l->up = true;
	l->up_since = p->host->now_ms();
	p->up_count++;
	count(p, p->shared->connections, 1);
	say_up(l);
	pump(p);
}

/* It was good until now. */
static void
disconnect(struct link *l)
{
	struct pool *p = l->pool;

	if (l->up) {
		l->up = false;
		p->up_count--;
		count(p, p->shared->connections, -1);
	}
	if (p->host->now_ms() - l->up_since < SHORT_LIVED_MS)
		l->failures++;
	else
		l->failures = 0;
	p->host->timer_disarm(l->timer);
	l->pause_ms = pause_of(l);
	link_close(l);
	again_after(l, l->pause_ms);
}

void
pool_on_idle_readable(struct link *l)
{
	char place[PLACE_TEXT_SIZE];

	l->pool->host->log(l->pool->shared->self, GRAPNEL_LOG_DEBUG,
	    "%s: the server has closed a connection", place_text(l, place));
	disconnect(l);
}

/* ------------------------------------------------------------------------ what comes of a query */

bool
pool_on_row(struct link *l, const struct sql_row *row)
{
	struct sql_call *call = l->job->call;

	l->rows++;
	if (call != NULL) {
		if (call->on_row(call, row))
			return true;
	} else if (l->rows <= SQL_MAX_ROWS) {
		return true; /* nobody wants it, but an end it must have */
	}
	l->error[0] = '\0'; /* sql.c has said why */
	return false;
}

static void
query_timed_out(struct link *l)
{
	struct pool *p = l->pool;
	struct job *job = l->job;

	l->job = NULL;
	count(p, p->shared->query_timeouts, 1);
	disconnect(l);
	query_failing(p, job->query, "no answer in time");
	finish(job, SQL_UNAVAILABLE);
	pump(p);
}

void
pool_on_done(struct link *l, enum link_result result)
{
	struct pool *p = l->pool;
	struct job *job = l->job;

	if (result == LINK_LOST && p->host->now_ms() >= job->deadline) {
		query_timed_out(l);
		return;
	}
	l->job = NULL;
	p->host->timer_disarm(l->timer);
	if (result == LINK_VALUE) {
		finish(job, SQL_REFUSED);
		pump(p);
		return;
	}
	if (result == LINK_OK) {
		l->failures = 0;
		query_works(p, job->query);
		finish(job, SQL_OK);
		pump(p);
		return;
	}
	if (result == LINK_LOST || result == LINK_BAD)
		disconnect(l);
	if (result == LINK_LOST && job->call != NULL && !job->retried && l->rows == 0 && !p->down) {
		job->retried = true;
		put_in_queue(p, job, true);
		pump(p);
		return;
	}
	if (l->error[0] != '\0')
		query_failing(p, job->query, l->error);
	finish(job, SQL_UNAVAILABLE);
	pump(p);
}

static void
link_on_timer(void *arg)
{
	struct link *l = arg;

	switch (l->state) {
	case LINK_CLOSED:
		attempt(l);
		return;
	case LINK_CONNECTING:
		(void)snprintf(l->error, sizeof(l->error),
		    "it accepts, but does not answer, or does not even accept");
		link_close(l);
		attempt_failed(l);
		return;
	case LINK_BUSY:
		query_timed_out(l);
		return;
	case LINK_IDLE:
	case LINK_CLOSING:
		return;
	}
}

/* ------------------------------------------------------------------------- life */

struct pool *
pool_new(struct shared *shared)
{
	unsigned links = shared->settings.connections;
	struct pool *p = calloc(1, sizeof(*p) + links * sizeof(p->links[0]));

	if (p == NULL)
		return NULL;
	p->shared = shared;
	p->host = shared->host;
	p->timer = p->host->timer_new(shared->self, queue_on_timer, p);
	if (p->timer == NULL)
		goto fail;
	for (unsigned i = 0; i < links; i++) {
		struct link *l = &p->links[i];

		l->pool = p;
		l->fd = -1;
		p->link_count++;
		l->timer = p->host->timer_new(shared->self, link_on_timer, l);
		if (l->timer == NULL || !link_init(l))
			goto fail;
		again_after(l, 0);
	}
	return p;
fail:
	pool_free(p);
	return NULL;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	p->stopping = true;
	for (unsigned i = 0; i < p->link_count; i++) {
		struct link *l = &p->links[i];
		struct job *job = l->job;

		l->job = NULL;
		if (l->look_up != NULL)
			p->host->dns_cancel(l->look_up);
		if (l->timer != NULL)
			p->host->timer_free(l->timer);
		if (l->state != LINK_CLOSED)
			link_close(l);
		if (l->up)
			count(p, p->shared->connections, -1);
		link_fini(l);
		if (job != NULL)
			finish(job, SQL_UNAVAILABLE);
	}
	fail_waiting(p, UINT64_MAX);
	if (p->down)
		atomic_fetch_sub(&p->shared->workers_down, 1);
	if (p->timer != NULL)
		p->host->timer_free(p->timer);
	free(p);
}
