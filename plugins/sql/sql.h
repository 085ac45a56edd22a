/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sql - what auth-postgres, auth-mysql and auth-sqlite share: options, queries, and every hook
 *
 * A plugin of a database is a driver: it runs a query with parameters on a worker, without blocking it, and gives back rows.
 * All the rest is here. Options (SQL_OPTIONS):
 *
 *	login_query	one row for a user who exists, columns by name: `password` (a hash), and whatever grant.h knows;
 *			no row: NEXT; more than one: UNAVAILABLE
 *	check_password	yes; no: a row is enough. For `require "all"` beside a plugin that checks who it is
 *	acl_query	rows with the columns of struct grant_rule, or one column `acl` with rules
 *	acl_mode	connect: acl_query runs after the login and its rules are the session's; check: it runs for every right that
 *			is asked for and may use %t, %a, %q, %r. Rows that match nothing: DENY when there were rows, NEXT when none
 *	attributes_query   rows with `name` and `value`, or columns as of login_query; after the login
 *	superuser_query    a row whose first column is true makes a superuser; after the login: never instead of the password
 *	revalidate_query   none: login_query, whose password is not looked at; no row: DENY
 *	scram		yes: `password` may hold SCRAM-SHA-256$... and client_auth_exchange is answered (common/scram.h)
 *
 * After the login come attributes_query, superuser_query and acl_query in this order; each knows what those before it found
 * out (user name, mountpoint, attributes). A superuser's rights are not asked for.
 *
 * Places in a query (common/template.h) become parameters, never text: %u in 'SELECT ... WHERE name = %u' is $1 or ?. They
 * stand without quotes; one within quotes is an error of the configuration. A percent sign is %%.
 * A value that is absent, such as the name of a user who has none: nothing is asked, NEXT. A value with a NUL byte, or that is
 * not UTF-8, is not sent: NEXT for a login (nobody has that name), DENY for a right. The same goes for one that the server does
 * not take as a value of the parameter's type.
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
	unsigned number;      /* SQL_LOGIN ...: for a driver's table of prepared statements; < SQL_QUERIES */
	const char *option;   /* "login_query", for the log */
	char *text;	      /* with $1, $2 ... or ? */
	struct template *template;
	unsigned param_count; /* $n and ? are numbered by place: a place that occurs twice is two parameters */
	unsigned part[SQL_MAX_PARAMS]; /* of the template, for each parameter */
};
enum { SQL_LOGIN, SQL_ACL, SQL_ATTRIBUTES, SQL_SUPERUSER, SQL_REVALIDATE, SQL_QUERIES };

struct sql_row {
	unsigned columns;
	const struct grapnel_str *names; /* the same in every row of an answer; any case */
	const struct grapnel_str *values; /* .data NULL: SQL NULL */
};

enum sql_status {
	SQL_OK,
	SQL_UNAVAILABLE, /* no connection, time is over, an error of the server (logged by the driver, without values) */
	SQL_REFUSED,	 /* the server does not take a parameter's value (not a number where one belongs): as one with a NUL byte */
};

/* One execution. Made by sql.c, filled before exec; the driver may use `driver` and `link` as it likes until done. */
struct sql_call {
	const struct sql_query *query;
	struct grapnel_str params[SQL_MAX_PARAMS]; /* without NUL bytes, but followed by one: C strings. Valid until done */
	uint32_t deadline_ms;			    /* from exec on; not 0 */
	bool (*on_row)(struct sql_call *call, const struct sql_row *row); /* borrowed; false: no more rows, end with UNAVAILABLE */
	void (*done)(struct sql_call *call, enum sql_status status);	   /* exactly once; call is gone after it */
	void *driver;
	struct sql_call *link;
};

struct sql_driver {
	bool dollar; /* $1 instead of ? */
	/* On the worker; may call done before it returns. `pool` is what the plugin gave to sql_worker_start. */
	void (*exec)(void *pool, struct sql_call *call);
	/* Nobody waits: call done soon, whatever happened (before returning is fine). */
	void (*cancel)(void *pool, struct sql_call *call);
};

/* Rows for a plugin's option table. */
#define SQL_OPTIONS                                                                                                                \
	{ .name = "acl_mode",                                                                                                      \
	    .type = GRAPNEL_OPTION_ENUM,                                                                                           \
	    .default_value = "connect",                                                                                            \
	    .choices = "connect|check",                                                                                            \
	    .help = "Whether acl_query runs once, after the login, or for every right that is asked for." },                      \
	    { .name = "acl_query",                                                                                                 \
		.type = GRAPNEL_OPTION_STRING,                                                                                     \
		.help = "Query whose rows are ACL rules: permission, action or access, topic, qos, retain; or acl." },             \
	    { .name = "attributes_query",                                                                                          \
		.type = GRAPNEL_OPTION_STRING,                                                                                     \
		.help = "Query whose rows are attributes (name, value) of a user who has logged in." },                            \
	    { .name = "check_password",                                                                                            \
		.type = GRAPNEL_OPTION_BOOL,                                                                                       \
		.default_value = "yes",                                                                                            \
		.help = "Whether the column password of login_query is held against the client's; no: a row is enough." },        \
	    { .name = "login_query",                                                                                               \
		.type = GRAPNEL_OPTION_STRING,                                                                                     \
		.help = "Query with one row for a user who exists: password, and what else counts for that user." },              \
	    { .name = "revalidate_query",                                                                                          \
		.type = GRAPNEL_OPTION_STRING,                                                                                     \
		.help = "Query with a row for a user who may stay online; default: login_query." },                                \
	    { .name = "scram",                                                                                                     \
		.type = GRAPNEL_OPTION_BOOL,                                                                                       \
		.default_value = "no",                                                                                             \
		.help = "Whether clients may use SCRAM with the credentials in the column password." },                            \
	{                                                                                                                          \
		.name = "superuser_query", .type = GRAPNEL_OPTION_STRING,                                                          \
		.help = "Query whose first column says whether a user who has logged in is a superuser."                           \
	}

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
void sql_client_slot_free(struct sql *s, void *data); /* the instance's slot per client is sql's */

#endif
