/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn - one connection to a directory server, and the one operation that is under way on it
 *
 * Name, TCP, StartTLS, binds and searches run on the worker's loop: libldap is handed a socket that is connected, and
 * ldap_result is only asked for what is there. The handshake of TLS blocks in libldap whatever options say, so it is done in
 * the offload pool, on a blocking socket; if it takes too long, the worker shuts the socket down, which ends it at once.
 * For that time the handle belongs to the pool's thread and the worker keeps its hands off; it is never shared.
 *
 * No message of libldap's ever makes it connect by itself: after the first error of a connection the handle is not used again,
 * and referrals are off.
 *
 * Threads:   the worker's, but for tls_work in conn_setup.c.
 * Ownership: conn_open gives a heap object; from on_lost on it is being freed and must be forgotten.
 * Bounded:   one operation at a time; max_response bytes a message, max_entries of an operation, operation_timeout.
 */
#ifndef PLUGINS_AUTH_LDAP_CONN_H
#define PLUGINS_AUTH_LDAP_CONN_H

#include "settings.h"

#include <ldap.h>

struct conn;

/* What became of an operation: an LDAP result code (RFC 4511 section 4.1.9) or one of these. */
enum {
	CONN_LOST = -100,    /* closed, or it spoke no LDAP */
	CONN_TIMEOUT = -101, /* the connection is given up for it */
	CONN_TOO_MANY = -102, /* more entries than max_entries: likewise */
};

struct conn_op {
	size_t max_entries;
	/* An entry of a search; borrowed. NULL for a bind. */
	void (*on_entry)(void *arg, LDAP *ld, LDAPMessage *entry);
	/* Exactly once, never from inside conn_bind or conn_search. text: what the server said, "" or short. */
	void (*done)(void *arg, int code, const char *text);
	void *arg;
};

struct conn_search {
	const char *base, *filter;
	int scope;
	char **attributes;
	unsigned size_limit; /* told to the server; 0: none */
};

/* Of whoever opens connections; one for all of a pool. */
struct conn_owner {
	struct settings *settings;
	bool service; /* bind as the service account before it is ready */
	void *arg;
	void (*on_ready)(void *arg, struct conn *c);
	/* why: NULL when it is nobody's fault (idle, closed by the server after use). */
	void (*on_lost)(void *arg, struct conn *c, const char *why);
	/* The operation of a conn_detach has ended, and the connection can be used again. */
	void (*on_free)(void *arg, struct conn *c);
};

/* NULL: no memory. on_ready or on_lost later, never before it returns. */
struct conn *conn_open(const struct conn_owner *owner, struct server *server);
/* At once, without on_lost; an operation under way is forgotten. */
void conn_close(struct conn *c);

/* Only on one that is ready and has no operation. What is passed need not outlive the call. false: the operation could not be
 * begun, done will not run; the connection is to be closed. */
bool conn_bind(struct conn *c, const char *dn, struct grapnel_str password, const struct conn_op *op);
bool conn_search(struct conn *c, const struct conn_search *search, const struct conn_op *op);
/* Nobody waits for the operation any more: done will not run, on_free or on_lost will. */
void conn_detach(struct conn *c);

struct server *conn_server(const struct conn *c);
bool conn_used(const struct conn *c); /* has it answered anything yet? */
uint64_t conn_since(const struct conn *c); /* when it was opened, now_ms */

#endif
