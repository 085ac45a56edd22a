/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - the connections of one worker: some that only bind as users, some that search
 *
 * A bind changes who a connection is, so it has one to itself, and those that search stay bound as the service account. Whoever
 * needs a connection leases it, does what is to be done, and releases it; so each has one operation at a time.
 * One connection at a time is made per pool, when somebody waits for it; one stays, so that a server that is back is noticed.
 * A server that cannot be reached, or does not answer, is left alone for a while (500 ms, twice as long each time, up to
 * reconnect_max, give or take a quarter) and the next one is used; when all are, nobody waits: the answer is "unavailable".
 *
 * Threads:   the worker's.
 * Ownership: a lease is a member of whoever waits, who keeps it until `ready` has run or lease_cancel.
 * Bounded:   connections, search_connections, queue.
 */
#ifndef PLUGINS_AUTH_LDAP_POOL_H
#define PLUGINS_AUTH_LDAP_POOL_H

#include "conn.h"

struct pool;

struct lease {
	struct lease *prev, *next;
	bool waiting;
	void (*ready)(void *arg, struct conn *c); /* c NULL: there is none to be had */
	void *arg;
};

/* What the pools of a worker know of the servers. */
struct pool_servers {
	uint64_t down_until_ms[SETTINGS_MAX_SERVERS]; /* 0: not down */
	unsigned failures[SETTINGS_MAX_SERVERS];
	unsigned came_back[SETTINGS_MAX_SERVERS]; /* of struct server, at the last failure */
	unsigned waiting; /* leases in all pools */
};

/* service: its connections search. NULL: no memory. */
struct pool *pool_new(struct settings *s, struct pool_servers *servers, unsigned max, bool service);
void pool_free(struct pool *p); /* nobody leases or waits any more; NULL is fine */

/* `ready` runs once: before this returns, or later, unless lease_cancel comes first. */
void pool_lease(struct pool *p, struct lease *l);
void lease_cancel(struct pool *p, struct lease *l); /* if it waits */
/* Of a connection that was leased and is not lost. One with an operation that nobody waits for any more comes back by itself
 * after conn_detach. */
void pool_release(struct pool *p, struct conn *c);
/* Likewise, but it is of no use. */
void pool_discard(struct pool *p, struct conn *c);

#endif
