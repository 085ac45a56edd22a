/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link - one connection to a server, between pool.c, which decides what it does, and a transport, which does it
 *
 * There are two transports, of which configure picks one: link-async.c for MariaDB's library, with its non-blocking calls on
 * the worker's loop, and link-blocking.c for any library, with each query as a job of the offload pool. Both connect with
 * link-connect.c where a connection can only be made by blocking.
 *
 *	CLOSED -> CONNECTING -> IDLE <-> BUSY;  any -> CLOSING -> CLOSED
 *
 * Threads:   the worker's. A job of the offload pool touches `mysql`, `statements` and `connect` or `run` of a link that is
 *            CONNECTING, BUSY or CLOSING, and the worker leaves those alone until it is done.
 * Ownership: the pool's; what the transport keeps here goes with link_close.
 */
#ifndef PLUGINS_AUTH_MYSQL_LINK_H
#define PLUGINS_AUTH_MYSQL_LINK_H

#include "pool.h"
#include "statement.h"

#define LINK_ADDRESSES	   8u
#define LINK_ADDRESS_SIZE  256u
#define LINK_ERROR_SIZE	   256u

enum link_state { LINK_CLOSED, LINK_CONNECTING, LINK_IDLE, LINK_BUSY, LINK_CLOSING };

enum link_result {
	LINK_OK,
	LINK_REFUSED, /* the server did not like the query; the connection is good */
	LINK_VALUE,   /* it did not like a value of the client's; likewise */
	LINK_LOST,    /* the connection is gone, which says nothing about the query */
	LINK_BAD,     /* the answer cannot be used, and nobody knows what comes next on the connection */
};

struct transport; /* what one of them needs besides */

struct link {
	struct pool *pool;
	enum link_state state;
	MYSQL *mysql; /* NULL while CLOSED */
	int fd;	      /* a duplicate of the library's descriptor, which it may close whenever it likes; -1: none */
	struct grapnel_watch *watch;
	struct statement statements[SQL_QUERIES];
	struct transport *transport;
	atomic_bool unwanted; /* what its job does */
	char error[LINK_ERROR_SIZE]; /* of the last thing that failed; never a value or a password */

	/* the pool's */
	struct grapnel_timer *timer; /* CLOSED: try again; else: it has taken too long */
	struct grapnel_resolve *look_up;
	char addresses[LINK_ADDRESSES][LINK_ADDRESS_SIZE];
	unsigned address, address_count; /* of the place that is being tried */
	unsigned place, places_tried;
	unsigned failures; /* in a row */
	uint32_t pause_ms; /* before the next attempt */
	bool warned, up;
	uint64_t up_since;
	struct job *job; /* BUSY */
	unsigned rows;
};

/* ---- a transport --------------------------------------------------------------------------------- */

bool link_init(struct link *l); /* false: no memory */
void link_fini(struct link *l); /* CLOSED */
/*
 * CLOSED -> CONNECTING; ends with pool_on_connected, perhaps before it returns. address NULL: the Unix socket. When the name
 * is what the certificate is held against, address is the name.
 */
void link_connect(struct link *l, const char *address, unsigned port);
/* IDLE -> BUSY with l->job; rows by pool_on_row, ends with pool_on_done, perhaps before it returns. */
void link_query(struct link *l);
/*
 * Let go of the connection, whatever it does: -> CLOSED, or CLOSING and later pool_on_closed. No pool_on_connected or
 * pool_on_done comes for what was under way.
 */
void link_close(struct link *l);

/* ---- what a transport says ------------------------------------------------------------------------- */

void pool_on_connected(struct link *l, bool good); /* now IDLE; or CLOSED, with l->error */
bool pool_on_row(struct link *l, const struct sql_row *row); /* false: no more of them, LINK_BAD */
void pool_on_done(struct link *l, enum link_result result); /* now IDLE; for LINK_LOST and LINK_BAD still BUSY: the pool closes it */
void pool_on_closed(struct link *l); /* now CLOSED */
/* The server has closed an idle connection, or says what nobody asked. */
void pool_on_idle_readable(struct link *l);

/* ---- for both ----------------------------------------------------------------------------------------- */

/* Not connected yet; as settings_handle. */
MYSQL *link_handle(const struct link *l);
/* In a job of the offload pool: run work, which calls the library and blocks, until deadline at most. */
void link_blocking(struct link *l, void (*work)(struct link *l), uint64_t deadline);
/* In it: connect, with the arguments that link_connect got. */
bool link_connect_blocking(MYSQL *mysql, const struct settings *s, const char *address, unsigned port,
    char error[LINK_ERROR_SIZE]);
/* Take a duplicate of the socket to watch. false: no descriptor is left. */
bool link_adopt(struct link *l, int socket);
/* Close the handle and all that belongs to it; no job uses it. -> CLOSED */
void link_discard(struct link *l);
/* Which of the results is this error of a query? error: number and state, or its text when it cannot have values. */
enum link_result link_failed(const struct statement *st, bool preparing, char error[LINK_ERROR_SIZE]);
const struct settings *link_settings(const struct link *l);
const struct shared *link_shared(const struct link *l);

#endif
