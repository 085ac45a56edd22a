/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <stdlib.h>
#include <string.h>

#define BACK_OFF_MS 500u

struct pool {
	struct settings *settings;
	struct pool_servers *servers;
	struct conn_owner owner;
	unsigned max, count, idle_count;
	struct conn *all[SETTINGS_MAX_CONNECTIONS]; /* opening, idle and leased */
	struct conn *opening;                       /* NULL: none */
	struct {
		struct conn *c;
		uint64_t since_ms;
	} idle[SETTINGS_MAX_CONNECTIONS]; /* the last one is used first */
	struct lease *first, *last;
	struct grapnel_timer *timer; /* to look at what is idle, or to try again */
	bool armed, freeing;
};

static void grow(struct pool *p);

/* -------------------------------------------------------------------------- servers */

static size_t
number_of(const struct pool *p, const struct server *server)
{
	return (size_t)(server - p->settings->servers);
}

/* Another worker has seen it since it failed here. */
static bool
came_back(const struct pool *p, size_t i)
{
	return atomic_load(&p->settings->servers[i].came_back) != p->servers->came_back[i];
}

/* The first one that is not left alone now; else NULL, and *wait_ms until one is not. */
static struct server *
pick_server(const struct pool *p, uint32_t *wait_ms)
{
	uint64_t now = p->settings->host->now_ms(), soonest = UINT64_MAX;

	for (size_t i = 0; i < p->settings->server_count; i++) {
		uint64_t until = p->servers->down_until_ms[i];

		if (until <= now || came_back(p, i))
			return &p->settings->servers[i];
		if (until < soonest)
			soonest = until;
	}
	*wait_ms = (uint32_t)(soonest - now);
	return NULL;
}

static void
server_failed(struct pool *p, struct server *server, const char *why)
{
	size_t i = number_of(p, server);
	uint64_t delay = BACK_OFF_MS, max = p->settings->reconnect_max_ms;
	uint64_t now = p->settings->host->now_ms();
	uint32_t random = 0;

	if (p->servers->down_until_ms[i] > now &&
	    !came_back(p, i)) /* several connections, one failure */
		return;
	for (unsigned n = 0; n < p->servers->failures[i] && delay < max; n++)
		delay *= 2;
	delay = delay < max ? delay : max;
	if (p->servers->failures[i] < 32)
		p->servers->failures[i]++;
	(void)p->settings->host->random_bytes(&random, sizeof(random));
	delay = delay * 3 / 4 + random % (delay / 2 + 1);
	p->servers->down_until_ms[i] = now + delay;
	p->servers->came_back[i] = atomic_load(&server->came_back);
	if (!atomic_exchange(&server->down, true))
		p->settings->host->log(p->settings->self, GRAPNEL_LOG_ERROR,
		    "%s cannot be used: %s; it is tried again by itself", server->uri, why);
}

static void
server_works(struct pool *p, struct server *server)
{
	size_t i = number_of(p, server);

	p->servers->down_until_ms[i] = 0;
	p->servers->failures[i] = 0;
	if (!atomic_exchange(&server->down, false))
		return;
	atomic_fetch_add(&server->came_back, 1);
	p->settings->host->log(p->settings->self, GRAPNEL_LOG_NOTICE, "%s is back", server->uri);
}

/* --------------------------------------------------------------------------- leases */

static void
queue_remove(struct pool *p, struct lease *l)
{
	*(l->prev != NULL ? &l->prev->next : &p->first) = l->next;
	*(l->next != NULL ? &l->next->prev : &p->last) = l->prev;
	l->prev = l->next = NULL;
	l->waiting = false;
	p->servers->waiting--;
	settings_count(p->settings, METRIC_WAITING, -1);
}

static void
refuse_all(struct pool *p)
{
	struct lease *l;

	/* Those who ask for another one while they are told are refused at once, by pool_lease. */
	while ((l = p->first) != NULL) {
		queue_remove(p, l);
		l->ready(l->arg, NULL);
	}
}

static struct conn *
idle_take(struct pool *p)
{
	return p->idle_count > 0 ? p->idle[--p->idle_count].c : NULL;
}

static void
idle_remove(struct pool *p, unsigned i)
{
	p->idle_count--;
	memmove(&p->idle[i], &p->idle[i + 1], (p->idle_count - i) * sizeof(p->idle[0]));
}

/* It is none of the pool's any more. */
static void
forget(struct pool *p, const struct conn *c)
{
	if (c == p->opening)
		p->opening = NULL;
	for (unsigned i = 0; i < p->idle_count; i++)
		if (p->idle[i].c == c) {
			idle_remove(p, i);
			break;
		}
	for (unsigned i = 0; i < p->count; i++)
		if (p->all[i] == c) {
			p->all[i] = p->all[--p->count];
			break;
		}
}

static void
drop(struct pool *p, struct conn *c)
{
	forget(p, c);
	conn_close(c);
}

/* Somebody who waits gets it, or it is idle. */
static void
hand_over(struct pool *p, struct conn *c)
{
	struct lease *l = p->first;

	if (l != NULL) {
		queue_remove(p, l);
		l->ready(l->arg, c);
		return;
	}
	p->idle[p->idle_count].c = c;
	p->idle[p->idle_count++].since_ms = p->settings->host->now_ms();
}

static uint32_t
quiet_ms(const struct pool *p)
{
	uint32_t idle = p->settings->idle_timeout_ms;

	return idle < p->settings->lifetime_ms ? idle : p->settings->lifetime_ms;
}

static void
arm(struct pool *p, uint32_t delay_ms)
{
	p->armed = true;
	(void)p->settings->host->timer_arm(p->timer, delay_ms > 0 ? delay_ms : 1);
}

/* ------------------------------------------------------------------ what connections say */

static void
on_ready(void *arg, struct conn *c)
{
	struct pool *p = arg;

	p->opening = NULL;
	server_works(p, conn_server(c));
	hand_over(p, c);
	grow(p);
}

static void
on_lost(void *arg, struct conn *c, const char *why)
{
	struct pool *p = arg;
	const struct server *server = conn_server(c);

	forget(p, c);
	if (why != NULL) {
		server_failed(p, conn_server(c), why);
		/* Others that lead there would only be found out one by one. */
		for (unsigned i = p->idle_count; i-- > 0;)
			if (conn_server(p->idle[i].c) == server)
				drop(p, p->idle[i].c);
	}
	grow(p);
}

static void
on_free(void *arg, struct conn *c)
{
	pool_release(arg, c);
}

/* One more, if somebody waits or there is none; if none can be had, nobody waits. */
static void
grow(struct pool *p)
{
	struct server *server;
	uint32_t wait_ms = 0;

	if (p->freeing || p->opening != NULL)
		return;
	if (p->count > 0 && (p->first == NULL || p->count >= p->max)) {
		if (!p->armed)
			arm(p, quiet_ms(p));
		return;
	}
	server = pick_server(p, &wait_ms);
	if (server != NULL && (p->opening = conn_open(&p->owner, server)) != NULL) {
		p->all[p->count++] = p->opening;
		return;
	}
	arm(p, server != NULL ? BACK_OFF_MS : wait_ms);
	if (p->count == 0)
		refuse_all(p);
}

/* Those that nobody has needed for long, but for one, and those that are old. */
static void
on_timer(void *arg)
{
	struct pool *p = arg;
	uint64_t now = p->settings->host->now_ms();

	p->armed = false;
	for (unsigned i = p->idle_count; i-- > 0;) {
		struct conn *c = p->idle[i].c;

		if (now - conn_since(c) >= p->settings->lifetime_ms ||
		    (p->count > 1 && now - p->idle[i].since_ms >= p->settings->idle_timeout_ms))
			drop(p, c);
	}
	grow(p);
}

/* ---------------------------------------------------------------------------- its door */

void
pool_lease(struct pool *p, struct lease *l)
{
	struct conn *c = idle_take(p);

	l->waiting = false;
	l->prev = l->next = NULL;
	if (c != NULL) {
		l->ready(l->arg, c);
		return;
	}
	if (p->servers->waiting >= p->settings->queue) {
		settings_count(p->settings, METRIC_QUEUE_FULL, 1);
		l->ready(l->arg, NULL);
		return;
	}
	l->waiting = true;
	l->prev = p->last;
	*(p->last != NULL ? &p->last->next : &p->first) = l;
	p->last = l;
	p->servers->waiting++;
	settings_count(p->settings, METRIC_WAITING, 1);
	grow(p);
}

void
lease_cancel(struct pool *p, struct lease *l)
{
	if (l->waiting)
		queue_remove(p, l);
}

void
pool_release(struct pool *p, struct conn *c)
{
	if (p->settings->host->now_ms() - conn_since(c) >= p->settings->lifetime_ms)
		drop(p, c);
	else
		hand_over(p, c);
	grow(p);
}

void
pool_discard(struct pool *p, struct conn *c)
{
	drop(p, c);
	grow(p);
}

/* ------------------------------------------------------------------------------ whole */

struct pool *
pool_new(struct settings *s, struct pool_servers *servers, unsigned max, bool service)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->settings = s;
	p->servers = servers;
	p->max = max;
	p->owner = (struct conn_owner){ .settings = s,
		.service = service,
		.arg = p,
		.on_ready = on_ready,
		.on_lost = on_lost,
		.on_free = on_free };
	p->timer = s->host->timer_new(s->self, on_timer, p);
	if (p->timer == NULL) {
		free(p);
		return NULL;
	}
	grow(p);
	return p;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	p->freeing = true;
	refuse_all(p);
	while (p->count > 0)
		drop(p, p->all[0]);
	p->settings->host->timer_free(p->timer);
	free(p);
}
