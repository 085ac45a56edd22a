/* SPDX-License-Identifier: Apache-2.0 */
/*
 * database - a SQLite file that is only read, through handles that are opened when they are needed and kept
 *
 * Every use looks at the file first: when another one is in its place, or it was written to behind SQLite's back, all handles
 * that are kept are closed and it is opened anew.
 *
 * Threads:   database_run on any thread of the offload pool, several at a time: each has a handle for itself. database_new
 *            and database_free when nothing runs.
 * Ownership: a database owns its handles; a result is the caller's, database_result_free.
 * Bounded:   `keep` handles that nobody uses; SQL_MAX_ROWS + 1 rows and about twice SQL_MAX_BYTES of a result.
 */
#ifndef PLUGINS_AUTH_SQLITE_DATABASE_H
#define PLUGINS_AUTH_SQLITE_DATABASE_H

#include "sql/sql.h"

#include <stdatomic.h>

#define DATABASE_MAX_COLUMNS 64

struct database; /* opaque: database.c */

enum database_outcome {
	DATABASE_OK,
	DATABASE_BAD_FILE,  /* it is not there, cannot be opened or is no database */
	DATABASE_BAD_QUERY, /* SQLite refuses the query, or stops in it */
	DATABASE_TIMEOUT,   /* the deadline or busy_timeout passed, or the job was cancelled */
};

/* One answer, row by row: for each value its length as a uint32_t (UINT32_MAX: NULL), then its bytes. */
struct database_result {
	unsigned columns, rows;
	struct grapnel_str names[DATABASE_MAX_COLUMNS]; /* in names_text */
	char *names_text;
	char *data;
	size_t len, capacity;
};

struct database_job {
	const struct sql_query *query;
	const struct grapnel_str *params;
	uint64_t deadline_ms; /* absolute, as host->now_ms */
	atomic_bool cancelled; /* set by whoever no longer waits */
	/* filled by database_run */
	enum database_outcome outcome;
	char error[256]; /* when not DATABASE_OK; without values */
	struct database_result result;
};

struct database_options {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	const char *path; /* absolute; outlives the database */
	uint32_t busy_timeout_ms;
	unsigned keep;
	int handles, opened; /* metrics */
};
struct database *database_new(const struct database_options *options); /* NULL: no memory; opens nothing */
void database_free(struct database *d);				       /* NULL is fine */
void database_run(struct database *d, struct database_job *job);
/* Only have the statement made. */
void database_prepare(struct database *d, struct database_job *job);

/* The row at *pos of the data, which begins at 0 and moves on. */
void database_result_row(const struct database_result *r, size_t *pos, struct grapnel_str values[DATABASE_MAX_COLUMNS]);
void database_result_free(struct database_result *r); /* wipes: it may hold password hashes */

#endif
