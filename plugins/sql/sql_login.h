/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sql_login - private to plugins/sql: one login (or revalidation), stage by stage
 *
 *	user       login_query (or revalidate_query): none NEXT (or DENY)
 *	password   held against its column, for an unknown user too, for the time it takes; or SCRAM (sql_scram.c)
 *	attributes, superuser, rights   the queries that are configured; trouble in any of them is UNAVAILABLE
 *
 * Threads:   the worker of the request.
 * Ownership: a login is made for a request and gone after sql_login_finish; one that waits for the next AUTH of its client
 *            is the client's slot. It has one query or one verification under way at a time.
 */
#ifndef PLUGINS_SQL_SQL_LOGIN_H
#define PLUGINS_SQL_SQL_LOGIN_H

#include "sql_parts.h"

#include "common/scram.h"

enum login_kind { LOGIN_PASSWORD, LOGIN_SCRAM, LOGIN_AGAIN };
enum login_stage { LOGIN_USER, LOGIN_ATTRIBUTES, LOGIN_SUPERUSER, LOGIN_RIGHTS, LOGIN_COMPLETE };

struct login {
	struct sql_run run; /* first: a run is its login */
	struct grapnel_request *req;
	const struct grapnel_client_info *client; /* of the question */
	struct grapnel_str password;		  /* the client's, likewise; .data NULL: none */
	struct grant grant;
	enum login_kind kind;
	enum login_stage stage;
	bool cancelled;
	bool known, has_column; /* there was a row; it had a password */
	char *hash;		/* wiped with hash_len; NULL: NULL or none */
	size_t hash_len;
	struct verify *verify;	  /* under way */
	struct scram *scram;	  /* LOGIN_SCRAM */
	enum scram_hash method;	  /* its */
	struct grapnel_str reply; /* to be sent with success; of scram */
};

/* Also becomes the request's data. NULL: no memory. */
struct login *sql_login_new(struct sql *s, struct grapnel_request *req, const struct grapnel_client_info *client,
    enum login_kind kind);
void sql_login_free(struct login *l);
/* Ask for the user. on_end: with l->known, and l->hash unless it is LOGIN_AGAIN. Not SQL_BEGUN: nothing happened. */
enum sql_begun sql_login_ask(struct login *l, const struct sql_query *query, void (*on_end)(struct sql_run *run, bool good));
/* Who it is is sure: on to what else is known about the user, then finish. l may be gone. */
void sql_login_advance(struct login *l);
/* Resolve, and free. */
void sql_login_finish(struct login *l, enum grapnel_verdict verdict);
void sql_login_forget_hash(struct login *l);

#endif
