/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link - one connection to the database that opens itself again
 *
 * waiting -> looking up -> connecting -> setting up -> ready. An attempt goes through all hosts and their addresses, each
 * with connect_timeout of its own; after a vain one, waiting takes twice as long as before, up to reconnect_max, give or take
 * a half. A connection that is lost is opened again at once, unless it never was of use.
 *
 * libpq is in pipeline mode and not blocking; every query is followed by PQpipelineSync, so that an error is one query's own.
 *
 * Threads:   belongs to one worker.
 * Ownership: lives in its user's struct. Callbacks may send, flush and break; none may end it.
 * Bounded:   LINK_MAX_ADDRESSES of a host.
 */
#ifndef AUTH_POSTGRES_LINK_H
#define AUTH_POSTGRES_LINK_H

#include "params.h"

#define LINK_MAX_ADDRESSES 16u
#define LINK_ADDRESS_SIZE  64u
#define LINK_WHY_SIZE	   320u

/* What the links of an instance share. */
struct pg_link_config {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	const struct pg_params *params;
	uint32_t connect_timeout_ms, reconnect_max_ms;
};

struct pg_link_user {
	/* Connected: send what a connection needs first, each with its sync. @return how many; 0: it could not be sent. */
	unsigned (*set_up)(void *arg, PGconn *conn);
	/* What number i of those is, for messages. */
	const char *(*step)(void *arg, unsigned i);
	void (*ready)(void *arg);
	/* Each result while ready, syncs included. */
	void (*result)(void *arg, const PGresult *result);
	void (*notify)(void *arg, const char *payload); /* NULL: not expected */
	void (*lost)(void *arg, const char *why);	/* was ready; it connects again by itself */
	void (*failed)(void *arg, const char *why);	/* an attempt failed; it tries again by itself */
};

enum link_state { LINK_WAITING, LINK_LOOKING_UP, LINK_CONNECTING, LINK_SETTING_UP, LINK_READY };

struct pg_link {
	const struct pg_link_config *config;
	const struct pg_link_user *user;
	void *arg;
	enum link_state state;
	PGconn *conn;	     /* NULL while waiting and looking up */
	uint64_t generation; /* of conn: the next one may have the same address */
	struct grapnel_watch *watch;
	struct grapnel_timer *timer;
	struct grapnel_resolve *look_up;
	unsigned host, address, address_count; /* the next ones to try */
	char addresses[LINK_MAX_ADDRESSES][LINK_ADDRESS_SIZE];
	unsigned set_up_count, set_up_done;
	bool answered; /* the query of the set-up that is next */
	unsigned failures; /* in a row */
	bool useful; /* its user has had an answer since it is ready; set by the user */
	char why[LINK_WHY_SIZE]; /* what went wrong last */
};

/* Begin to connect. GRAPNEL_ENOMEM: nothing is there. */
int pg_link_start(struct pg_link *l, const struct pg_link_config *config,
    const struct pg_link_user *user, void *arg);
void pg_link_stop(struct pg_link *l); /* calls nothing back; twice is fine, and so is one that was never started */
/* While ready: push out what was sent since. */
void pg_link_flush(struct pg_link *l);
/* While ready: this connection is of no use. Calls lost. */
void pg_link_break(struct pg_link *l, const char *why);
/* Do not wait any longer: others have found the database. */
void pg_link_hurry(struct pg_link *l);

#endif
