/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper - keeps a connection up: which server, when to try again, what to say about it in the log
 *
 * The servers of the list are tried in turn; with sentinels, they are asked before each attempt where the master is. After a
 * failure it waits, twice as long each time up to reconnect_delay_max, and a random part less, so that a thousand brokers do not
 * come back at once. A connection that lasted a while and is lost is made anew at once.
 *
 * Threads:   one worker.
 * Ownership: embedded; keeper_fini before it goes.
 * Bounded:   one connection, and one more to a sentinel while it is asked.
 */
#ifndef AUTH_REDIS_KEEPER_H
#define AUTH_REDIS_KEEPER_H

#include "conn.h"

struct keeper_events {
	void (*up)(void *arg);	 /* NULL: nobody is interested */
	bool (*down)(void *arg); /* NULL, or: false: do not try again */
	void (*push)(void *arg, const redisReply *reply);
};

struct keeper {
	struct instance *a;
	struct conn conn, sentinel; /* sentinel.timer NULL: there are none */
	const struct endpoint *servers;
	unsigned server_count, server, sentinel_index, sentinels_left;
	struct grapnel_timer *timer; /* of the next attempt */
	unsigned failures;	     /* in a row */
	bool failing;		     /* counts in a->failing */
	uint64_t up_at;
	const struct keeper_events *events;
	void *arg;
};

/* servers: stays the caller's, and is not looked at when there are sentinels. false: no memory. */
bool keeper_init(struct keeper *k, struct instance *a, enum conn_kind kind, const struct endpoint *servers,
    unsigned server_count, const struct keeper_events *events, void *arg);
void keeper_start(struct keeper *k);
void keeper_fini(struct keeper *k); /* also of one whose keeper_init failed */

#endif
