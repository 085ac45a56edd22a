/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - the connections of one worker: which of them runs what, and that there are as many as there should be
 *
 * Calls wait in one queue for an idle link. A link that breaks is connected again, at once the first time, then after a pause
 * that doubles. A call whose connection was lost before the first row came is run once more on another one (queries only read).
 * While no link is up and the last attempt has failed the pool is down: calls end at once.
 *
 * Threads:   everything on the pool's worker; struct shared is common to all workers (atomics).
 * Ownership: a struct job is made by pool_exec and lives until the call's done has run.
 * Bounded:   `connections` links; the queue by the host's max_pending, each call by its deadline and query_timeout.
 */
#ifndef PLUGINS_AUTH_MYSQL_POOL_H
#define PLUGINS_AUTH_MYSQL_POOL_H

#include "settings.h"

#include "sql/sql.h"

#include <stdatomic.h>

/* What the workers of an instance have in common. */
struct shared {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct settings settings;
	atomic_uint workers_down;
	atomic_bool stopping; /* the broker: nothing new is begun */
	atomic_bool query_failing[SQL_QUERIES]; /* said in the log */
	int connections, query_timeouts, connect_failures; /* metrics, beside those of sql.c */
};

struct job {
	struct job *next;
	struct sql_call *call; /* NULL: nobody waits any more */
	const struct sql_query *query;
	uint64_t deadline;     /* ms, monotonic */
	bool retried;
};

struct pool; /* opaque: pool.c */
struct pool *pool_new(struct shared *shared); /* NULL: no memory */
/* Calls that are left end as unavailable. NULL is fine. */
void pool_free(struct pool *pool);

/* Those of struct sql_driver; pool is a struct pool. */
void pool_exec(void *pool, struct sql_call *call);
void pool_cancel(void *pool, struct sql_call *call);

#endif
