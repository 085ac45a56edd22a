/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen - LISTEN on a channel; what is notified there purges kept answers
 *
 * One connection of its own for an instance. What was notified while it was not there nobody knows, so that a connection
 * opened after a failure purges everything. A silent one is asked for a sign of life every listen_check.
 *
 * Threads:   belongs to one worker.
 * Bounded:   a payload is 8000 bytes at most (PostgreSQL's limit).
 */
#ifndef AUTH_POSTGRES_LISTEN_H
#define AUTH_POSTGRES_LISTEN_H

#include "link.h"

struct pg_listener_config {
	const struct pg_link_config *link;
	const char *channel;
	uint32_t check_ms;
	int listening, notifications; /* metrics */
};
struct pg_listener; /* opaque: listen.c */
/* On a worker. NULL: no memory. config stays the caller's, who keeps it. */
struct pg_listener *pg_listener_new(const struct pg_listener_config *config);
void pg_listener_free(struct pg_listener *l); /* NULL is fine */

/*
 * What a payload names: "" everything; "user=NAME"; "client=ID". Absent: .data NULL. false: it is none of these, and
 * everything is meant.
 */
bool pg_payload_parse(const char *payload, struct grapnel_str *username, struct grapnel_str *client_id);

#endif
