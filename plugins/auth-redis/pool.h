/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - the connections of one worker, and commands that read one key
 *
 * Without a cluster there is one node, whichever server its connections have found. In a cluster every node that is configured
 * or that another one has named has its own; which slots are whose is learned from MOVED, and forgotten when a node is lost. ASK and
 * MOVED are followed, POOL_MAX_REDIRECTS times for a command.
 *
 * Threads:   one worker.
 * Ownership: a query copies its key; query_fn runs exactly once unless it is forgotten.
 * Bounded:   POOL_MAX_NODES nodes, `connections` to each.
 */
#ifndef AUTH_REDIS_POOL_H
#define AUTH_REDIS_POOL_H

#include "keeper.h"

#define POOL_MAX_NODES	   64u
#define POOL_MAX_REDIRECTS 5u

struct pool;
struct pool *pool_new(struct instance *a); /* NULL: no memory */
void pool_free(struct pool *p);		   /* NULL is fine; every query has had its answer */

enum verb { VERB_GET, VERB_HGETALL, VERB_SMEMBERS, VERB_LRANGE };

/* reply NULL: none, or an error that is logged; else borrowed, and no error. Never before pool_query has returned. */
typedef void (*query_fn)(void *arg, const redisReply *reply);
struct query;
struct query *pool_query(struct pool *p, enum verb verb, struct grapnel_str key, query_fn fn, void *arg); /* NULL: not now */
void query_forget(struct query *q); /* fn will not run */

#endif
