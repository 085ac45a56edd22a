/* SPDX-License-Identifier: Apache-2.0 */
/*
 * describe - what the admin API may know about clients and listeners, as JSON
 *
 * Threads:   core_describe_clients on the worker whose clients are asked for; a json_t made there is handed to the
 *            main thread whole and not touched again. core_describe_listeners on the main thread.
 * Ownership: the caller owns the array that is appended to.
 * Bounded:   q->limit objects per worker (the API asks for 1001 at most).
 */
#ifndef BROKER_CORE_DESCRIBE_H
#define BROKER_CORE_DESCRIBE_H

#include <grapnel/types.h>
#include <jansson.h>

struct broker;
struct worker;

struct client_query {
	char *after_id;		/* only those behind (after_id, after_mountpoint); NULL: from the first */
	char *after_mountpoint; /* never NULL when after_id is given */
	char *username;		/* NULL: any */
	char *client_id;	/* NULL: any; given: that client, with its "subscription_list", "transport" and what a trace kept */
	char *mountpoint;	/* NULL: any */
	unsigned limit;
	int online;		/* 1: with a Network Connection, 0: without, -1: any */
};

/*
 * Append the q->limit smallest clients of this worker that the query asks for, in any order; "smallest" is by the
 * bytes of the client id, then of the mountpoint. Members: client_id, username (null: none), mountpoint, peer, listener,
 * protocol ("3.1", "3.1.1", "5.0"), connected, clean_start, keep_alive, session_expiry, connected_since
 * (seconds since 1970), subscriptions, inflight, queued, queued_bytes, output_bytes, messages_received,
 * messages_sent, attributes (an object). A client that is asked for by its id and is under trace has traced_until and
 * decisions, and is described, with session false and little more, even if it has no session.
 * Out of memory: fewer are appended and false is returned.
 */
bool core_describe_clients(struct worker *w, const struct client_query *q, json_t *out_array);
/* One object per listener: name, bind, address (as bound), connections, anonymous, mountpoint. Main thread. */
bool core_describe_listeners(struct broker *b, json_t *out_array);

/*
 * A string of a peer as JSON. What is not UTF-8 (none of what the codec lets through) becomes \xNN, so that
 * an answer is never refused as a whole for one odd byte. NULL: no memory. Absent (.data NULL) is null.
 */
json_t *describe_str(struct grapnel_str s);

#endif
