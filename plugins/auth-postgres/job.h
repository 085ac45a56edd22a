/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job - private to pool.c: a query that waits or is under way, lists of them, and what its results mean
 *
 * Threads:   those of the pool.
 * Ownership: a job outlives its call when nobody waits any more; what comes for it is thrown away.
 * Bounded:   JOB_MAX_COLUMNS; rows and bytes of an answer that nobody wants: twice what plugins/sql takes.
 */
#ifndef AUTH_POSTGRES_JOB_H
#define AUTH_POSTGRES_JOB_H

#include "../sql/sql.h"

#include <libpq-fe.h>

#define JOB_MAX_COLUMNS 128u
#define JOB_STATE_SIZE	6 /* SQLSTATE */

struct job {
	struct job *next;
	struct sql_call *call; /* NULL: nobody waits for it any more */
	const struct sql_query *query;
	uint64_t deadline, sent_at;
	unsigned tries, rows;
	unsigned stale; /* how many connections did not know its statement any more */
	size_t bytes;   /* of the rows */
	bool answered;  /* an end of rows has come */
	bool unusable;  /* the rows are of no use */
	bool refused;   /* the server did not take a parameter's value */
};
struct job_list {
	struct job *first, **end;
};


void job_list_init(struct job_list *list);
void job_list_append(struct job_list *list, struct job *job);
struct job *job_list_take(struct job_list *list); /* the first; NULL: empty */
/* All of `more`, which is empty then, before what `list` has. */
void job_list_prepend(struct job_list *list, struct job_list *more);

/* The job is done with; the caller of its call may begin another before this returns. */
void job_end(struct job *job, enum sql_status status);
void job_list_end(struct job_list *list); /* all of them: SQL_UNAVAILABLE */

/* Rows to who asked. false: they do not come to an end. */
bool job_rows(struct job *job, const PGresult *result);

enum job_error {
	JOB_ERROR_QUERY,      /* of this query alone */
	JOB_ERROR_VALUE,      /* a parameter's value is none of the parameter's type */
	JOB_ERROR_STALE,      /* the connection does not have our statements any more, or they are older than a table they read */
	JOB_ERROR_CONNECTION, /* the server ends, or the connection does */
};
/* state: filled with the SQLSTATE, the only part of an error that cannot hold a value of the query. */
enum job_error job_error(const PGresult *result, char state[JOB_STATE_SIZE]);
const char *job_error_meaning(const char *state); /* a few words */

#endif
