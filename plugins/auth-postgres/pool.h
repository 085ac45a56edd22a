/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - the connections of one worker, and the queries on them
 *
 * A query goes to the connection with the fewest under way, at most `pipeline` on one; others wait in turn. Each query of the
 * configuration is prepared on each connection before it counts as ready. Who lost his connection is asked once more on another.
 *
 * Time: a query past its deadline is answered SQL_UNAVAILABLE. If its connection has been silent since it was sent, the
 * connection is given up and what else was on it goes elsewhere; if not, it is only slow, and what comes late is thrown away.
 * While no connection is there and the last attempt was vain, nobody waits: SQL_UNAVAILABLE at once.
 *
 * Threads:   all on its worker. Of struct pg, what is atomic on any.
 * Ownership: a job is the pool's from exec until its result is there; the call is its caller's and gone after done.
 * Bounded:   `connections`, `pipeline`; who waits: max_pending of the broker.
 */
#ifndef AUTH_POSTGRES_POOL_H
#define AUTH_POSTGRES_POOL_H

#include "../sql/sql.h"
#include "link.h"

#include <stdatomic.h>

/* What all workers of an instance share. Immutable, but for what is atomic. */
struct pg {
	struct pg_link_config link;
	struct sql *sql;
	unsigned connections, pipeline;
	uint32_t statement_timeout_ms;
	struct pg_pool **pools; /* of the workers; each looks at its own only */
	atomic_uint pools_down;
	_Atomic uint64_t complained_ms[SQL_QUERIES]; /* when a failing query was logged last; 0: never */
	int connected, failures, timeouts, retries;  /* metrics */
};
void pg_count(const struct pg *pg, int metric, int64_t delta);

struct pg_pool; /* opaque: pool.c */
struct pg_pool *pg_pool_new(struct pg *pg, unsigned worker); /* on the worker. NULL: no memory */
void pg_pool_free(struct pg_pool *p);			     /* NULL is fine; no call is under way any more */

/* Of struct sql_driver. */
void pg_pool_exec(void *pool, struct sql_call *call);
void pg_pool_cancel(void *pool, struct sql_call *call);

#endif
