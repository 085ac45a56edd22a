/* SPDX-License-Identifier: Apache-2.0 */
#include "job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
job_list_init(struct job_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

void
job_list_append(struct job_list *list, struct job *job)
{
	job->next = NULL;
	*list->end = job;
	list->end = &job->next;
}

struct job *
job_list_take(struct job_list *list)
{
	struct job *job = list->first;

	if (job != NULL && (list->first = job->next) == NULL)
		list->end = &list->first;
	return job;
}

void
job_list_prepend(struct job_list *list, struct job_list *more)
{
	if (more->first == NULL)
		return;
	*more->end = list->first;
	if (list->first == NULL)
		list->end = more->end;
	list->first = more->first;
	job_list_init(more);
}

void
job_end(struct job *job, enum sql_status status)
{
	struct sql_call *call = job->call;

	free(job);
	if (call == NULL)
		return;
	call->driver = NULL;
	call->done(call, status);
}

void
job_list_end(struct job_list *list)
{
	struct job *job;

	while ((job = job_list_take(list)) != NULL)
		job_end(job, SQL_UNAVAILABLE);
}

/* ------------------------------------------------------------------------------------ rows */

/* One row to who asked. What is of no use is read to its end, so that the connection stays. */
static void
job_row(
    struct job *job, const PGresult *result, int r, struct sql_row *row, struct grapnel_str *values)
{
	for (unsigned c = 0; c < row->columns; c++) {
		bool null = PQgetisnull(result, r, (int)c);

		values[c].data = null ? NULL : PQgetvalue(result, r, (int)c);
		values[c].len = null ? 0 : (size_t)PQgetlength(result, r, (int)c);
		job->bytes += values[c].len;
	}
	job->rows++;
	if (job->call != NULL && !job->unusable)
		job->unusable = !job->call->on_row(job->call, row);
}

bool
job_rows(struct job *job, const PGresult *result)
{
	struct grapnel_str names[JOB_MAX_COLUMNS], values[JOB_MAX_COLUMNS];
	struct sql_row row = {
		.columns = (unsigned)PQnfields(result), .names = names, .values = values
	};

	if (row.columns > JOB_MAX_COLUMNS) {
		job->unusable = true;
		row.columns = 0;
	}
	for (unsigned c = 0; c < row.columns; c++) {
		names[c].data = PQfname(result, (int)c);
		names[c].len = strlen(names[c].data);
	}
	for (int r = 0; r < PQntuples(result); r++)
		job_row(job, result, r, &row, values);
	return job->rows <= 2 * SQL_MAX_ROWS && job->bytes <= 2 * (size_t)SQL_MAX_BYTES;
}

/* ---------------------------------------------------------------------------------- errors */

/* The connection does not have our statements any more, or they are older than a table they read. */
static bool
is_stale(const char *state, const PGresult *result)
{
	const char *function = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);

	return strcmp(state, "26000") == 0 ||
	    (strcmp(state, "0A000") == 0 && function != NULL &&
		strcmp(function, "RevalidateCachedQuery") == 0);
}

/* The server ends, or the connection does. */
static bool
is_end(const char *state)
{
	return strncmp(state, "57P", 3) == 0 || strncmp(state, "08", 2) == 0;
}

/*
 * Did the server fail to make a parameter's value one of the parameter's type, before it ran the query? It then names the
 * parameter, in whatever language, and nothing else. What the query does with a value of the right type is another matter.
 */
static bool
is_refused_value(const char *state, const PGresult *result)
{
	const char *context = PQresultErrorField(result, PG_DIAG_CONTEXT);
	const char *name = context != NULL ? strstr(context, " $") : NULL;

	if (strcmp(state, "22021") == 0 || strcmp(state, "22P05") == 0)
		return true; /* the database's encoding does not have these characters */
	return strncmp(state, "22", 2) == 0 && name != NULL && name[2] >= '1' && name[2] <= '9' &&
	    strchr(context, '\n') == NULL;
}

enum job_error
job_error(const PGresult *result, char state[JOB_STATE_SIZE])
{
	const char *given = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	/* None is libpq's own error: the connection is gone, or what came is no answer. */
	snprintf(state, JOB_STATE_SIZE, "%s", given != NULL ? given : "08006");
	if (is_end(state))
		return JOB_ERROR_CONNECTION;
	if (is_stale(state, result))
		return JOB_ERROR_STALE;
	return is_refused_value(state, result) ? JOB_ERROR_VALUE : JOB_ERROR_QUERY;
}

const char *
job_error_meaning(const char *state)
{
	static const struct {
		const char *state, *meaning;
	} known[] = {
		{ "42501", "permission denied" },
		{ "42P01", "there is no such table" },
		{ "57014", "it was ended by statement_timeout or somebody" },
		{ "22P02", "a value has not the form of its type" },
		{ "53200", "the server is out of memory" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(state, known[i].state) == 0)
			return known[i].meaning;
	}
	return "the server's log says more";
}
