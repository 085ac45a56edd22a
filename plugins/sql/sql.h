/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sql - what auth-postgres, auth-mysql and auth-sqlite share: options, queries, and every hook
 *
 * A plugin of a database is a driver: it runs a query with parameters on a worker, without blocking it, and gives back rows.
 * All the rest is here. Options (SQL_OPTIONS):
 *
 *	login_query	one row for a user who exists, columns by name: `password` (a hash), and whatever grant.h knows;
 *			no row: NEXT
 *	check_password	yes; no: a row is enough. For `require "all"` beside a plugin that checks who it is
 *	acl_query	rows with the columns of struct grant_rule, or one column `acl` with rules
 *	acl_mode	connect: acl_query runs after the login and its rules are the session's; check: it runs for every right that
 *			is asked for and may use %t, %a, %q, %r. Rows that match nothing: DENY when there were rows, NEXT when none
 *	attributes_query   rows with `name` and `value`, or columns as of login_query; after the login
 *	superuser_query    a row whose first column is true makes a superuser; after the login: never instead of the password
 *	revalidate_query   none: login_query, whose password is not looked at
 *	scram		yes: `password` may hold SCRAM-SHA-256$... and client_auth_exchange is answered (common/scram.h)
 *
 * Places in a query (common/template.h) become parameters, never text: %u in 'SELECT ... WHERE name = %u' is $1 or ?.
 * A value with a NUL byte is not sent: NEXT for a login (nobody has that name), DENY for a right.
 *
 * Threads:   on the worker of the request, but for create.
 * Bounded:   SQL_MAX_PARAMS, SQL_MAX_ROWS rows and SQL_MAX_BYTES of an answer; beyond: UNAVAILABLE, logged.
 */
#ifndef PLUGINS_SQL_SQL_H
#define PLUGINS_SQL_SQL_H

#include "common/grant.h"
#include "common/template.h"
#include "common/verify.h"

#define SQL_MAX_PARAMS 64u
#define SQL_MAX_ROWS   10000u
#define SQL_MAX_BYTES  (4u << 20)

/* One query of the configuration. Immutable; shared by all workers. */
struct sql_query {
	unsigned number; /* 0 ...: for a driver's table of prepared statements; < SQL_QUERIES */
	char *text;	 /* with $1, $2 ... or ? */
	struct template *template;
	unsigned param_count;
	unsigned part[SQL_MAX_PARAMS]; /* of the template, for each parameter */
};
enum { SQL_LOGIN, SQL_ACL, SQL_ATTRIBUTES, SQL_SUPERUSER, SQL_REVALIDATE, SQL_QUERIES };

struct sql_row {
	unsigned columns;
	const struct grapnel_str *names;
	const struct grapnel_str *values; /* .data NULL: SQL NULL */
};

enum sql_status {
	SQL_OK,
	SQL_UNAVAILABLE, /* no connection, time is over, an error of the server (logged by the driver, without values) */
};

/* One execution. Made by sql.c, filled before exec; the driver may use `driver` and `link` as it likes until done. */
struct sql_call {
	const struct sql_query *query;
	struct grapnel_str params[SQL_MAX_PARAMS]; /* without NUL bytes, but followed by one: C strings. Valid until done */
	uint32_t deadline_ms;			    /* from exec on */
	bool (*on_row)(struct sql_call *call, const struct sql_row *row); /* borrowed; false: no more rows, end with UNAVAILABLE */
	void (*done)(struct sql_call *call, enum sql_status status);	   /* exactly once; call is gone after it */
	void *driver;
	struct sql_call *link;
};

struct sql_driver {
	bool dollar; /* $1 instead of ? */
	/* On the worker; may call done before it returns. `pool` is what worker_pool gave for this worker. */
	void (*exec)(void *pool, struct sql_call *call);
	/* Nobody waits: call done soon, whatever happened (before returning is fine). */
	void (*cancel)(void *pool, struct sql_call *call);
};

/* Rows for a plugin's option table, all but the end mark. */
extern const struct grapnel_option sql_options[];
extern const unsigned sql_option_count;

struct sql; /* opaque: one per instance */
/* In create(): reads the options, parses the queries, disables hooks that have none, says depends_on. NULL after config_error. */
struct sql *sql_new(const struct grapnel_host *host, struct grapnel_instance *self, const struct sql_driver *driver);
void sql_free(struct sql *s); /* NULL is fine */
const struct sql_query *sql_query(const struct sql *s, unsigned number); /* NULL: not configured */
/* worker_start and worker_stop of the plugin, after it made its pool and before it frees it. */
int sql_worker_start(struct sql *s, unsigned worker, void *pool);
void sql_worker_stop(struct sql *s, unsigned worker);

/* The hooks; a plugin's own call these with its struct sql. */
enum grapnel_verdict sql_authenticate(struct sql *s, struct grapnel_request *req, const struct grapnel_authenticate *q);
enum grapnel_verdict sql_auth_exchange(struct sql *s, struct grapnel_request *req, const struct grapnel_auth_exchange *q);
enum grapnel_verdict sql_revalidate(struct sql *s, struct grapnel_request *req, const struct grapnel_revalidate *q);
enum grapnel_verdict sql_acl_check(struct sql *s, struct grapnel_request *req, const struct grapnel_acl_check *q);
void sql_request_cancelled(struct sql *s, struct grapnel_request *req);

#endif
