/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_setup - from nothing to a connection that is ready; private to conn*.c
 *
 *	NAME -> TCP -> [STARTTLS] -> [TLS, in the offload pool] -> [SERVICE bind] -> READY
 *
 * One deadline for all of it: network_timeout.
 */
#ifndef PLUGINS_AUTH_LDAP_CONN_SETUP_H
#define PLUGINS_AUTH_LDAP_CONN_SETUP_H

#include "conn.h"

#define CONN_MAX_ADDRESSES 8u
#define CONN_WHY	   256

enum conn_state {
	CONN_NAME,
	CONN_TCP,
	CONN_STARTTLS,
	CONN_TLS,     /* the handle is the offload pool's */
	CONN_SERVICE,
	CONN_READY,   /* no operation */
	CONN_BUSY,
	CONN_CLOSING, /* while TLS was under way: freed when the pool gives it back */
};

struct conn {
	const struct conn_owner *owner;
	struct server *server;
	enum conn_state state;
	bool used;
	uint64_t since_ms, deadline_ms; /* deadline: of being made */

	struct grapnel_resolve *look_up;
	char addresses[CONN_MAX_ADDRESSES][64];
	size_t address_count, address_next;

	LDAP *ld;
	int fd;	      /* libldap's, once ld is there; -1: none */
	int watch_fd; /* its duplicate, for the loop: libldap may close its own when it meets an error */
	struct grapnel_watch *watch;
	struct grapnel_timer *timer;	/* of being made, or of the operation */
	struct grapnel_timer *again;	/* what the loop will not tell: bytes inside of TLS, a request half written */
	struct grapnel_job *job;
	bool tls_timeout;	       /* the worker has shut the socket down */
	int tls_result;
	char why[CONN_WHY];	       /* that it failed */

	int msgid, expected; /* the operation's number, and the type of its result */
	bool counted;	     /* in the metric */
	bool writing; /* the request may not be out yet */
	bool detached;
	size_t entries, others;
	struct conn_op op;
};

void setup_begin(struct conn *c);	    /* state NAME */
void setup_on_connected(struct conn *c); /* TCP is writable */
void setup_on_timer(struct conn *c);
/* The answer to STARTTLS or to the SERVICE bind. */
void setup_on_result(struct conn *c, int code, const char *text);

/* conn.c, for the set-up. Both end the connection or change it: touch it no more. */
void conn_fail(struct conn *c, const char *why);
void conn_ready(struct conn *c);
bool conn_watch(struct conn *c, unsigned events);
/* A request has been sent: rc and ld's result code say how. false: it has not. */
bool conn_sent(struct conn *c, int rc);

#endif
