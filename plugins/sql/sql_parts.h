/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sql_parts - private to plugins/sql: an instance, and one query of one request
 *
 * sql.c has options and life, sql_run.c a query under way, sql_login.c and sql_scram.c who somebody is, sql_rights.c what
 * they may do.
 *
 * Data of a request (host->request_data) is its struct sql_run.
 *
 * Threads:   all on the worker of the request.
 * Ownership: a struct sql_run is part of what asked; it owns the copies of its parameters while it is under way.
 */
#ifndef PLUGINS_SQL_SQL_PARTS_H
#define PLUGINS_SQL_SQL_PARTS_H

#include "sql.h"

#include "common/scram.h"

enum { SQL_NAME_SIZE = 64 }; /* of a column, with its NUL */

struct sql_worker {
	struct sql *s;
	void *pool; /* the driver's */
	struct verifier verifier;
	/* For SCRAM, by method: of the first user who had one, "" until then. What challenges for users who are not there look like
	 * must not change with those who come. */
	char like[SCRAM_SHA_512 + 1][SCRAM_CREDENTIAL_SIZE];
	struct {
		bool said;	  /* since the last good answer */
		uint64_t said_ms; /* when there was a line last; 0: never */
	} complaint[SQL_QUERIES];
};

struct sql {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	const struct sql_driver *driver;
	struct sql_query *queries[SQL_QUERIES];
	bool check_password, acl_on_connect, scram;
	unsigned char secret[32]; /* for SCRAM: makes the challenges of users who are not there */
	int logins_accepted, logins_refused, logins_unknown, logins_unavailable; /* metrics */
	int queries_total, queries_failed, answers_unusable;
	struct sql_worker *workers; /* host->workers */
};

void sql_count(const struct sql *s, int metric);
/* The answer to that query cannot be used: one line until a good one has come, and no more than one in a while. */
void sql_complain(struct sql_worker *w, const struct sql_query *query, const char *what);
void sql_content(struct sql_worker *w, const struct sql_query *query); /* a good one; query NULL is fine */

struct sql_run {
	struct sql_call call;
	struct sql_worker *w;
	/* false: `wrong` says why the answer is of no use */
	bool (*on_row)(struct sql_run *run, const struct sql_row *row);
	/* Once for each query that was begun, perhaps before sql_run_begin returns. The run can then begin another. */
	void (*on_end)(struct sql_run *run, bool good);
	/* The request of this run is not wanted any more: its owner ends it soon. */
	void (*on_cancel)(struct sql_run *run);
	const char *wrong; /* valid until on_end returns */
	unsigned rows;
	size_t bytes; /* of the answer so far */
	char *text;   /* the parameters */
	size_t text_len;
	bool active;
	bool refused; /* a parameter's value was, before there was any row; on_end says false */
};
enum sql_begun {
	SQL_BEGUN,   /* on_end was or will be called */
	SQL_ABSENT,  /* a value is absent */
	SQL_UNSENDABLE, /* a value has a NUL or is not UTF-8 */
	SQL_FAILED,  /* no memory, or no time left */
};
/* w and the functions are set before. */
enum sql_begun sql_run_begin(struct sql_run *run, const struct sql_query *query, const struct template_values *values,
    uint32_t deadline_ms);
void sql_run_cancel(struct sql_run *run); /* on_end is called soon, or was */

/* The name of a column in small letters. false: it is too long to be one that means anything. */
bool sql_column(struct grapnel_str name, char out[SQL_NAME_SIZE]);
/* Column i of a row into a grant, but for `password`. */
bool sql_set_column(struct sql_run *run, struct grant *g, const struct sql_row *row, unsigned i);
/* A row of acl_query into a grant. */
bool sql_add_rule(struct sql_run *run, struct grant *g, const struct sql_row *row);

#endif
