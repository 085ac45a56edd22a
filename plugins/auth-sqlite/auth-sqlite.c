/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-sqlite - users and rights from a SQLite database
 *
 * plugins/sql has the hooks; this is its driver. Each query is a job of the offload pool, which reads the database and takes
 * the rows with it; they are handed on when the job is back on its worker.
 *
 * Threads:   exec, cancel and finished on the worker; work in the pool. What `trouble` has is under its lock.
 * Ownership: a job is made by exec and gone when its call is done.
 * Bounded:   offload_threads jobs run, offload_queue wait; keep_open handles are kept; a result: database.h.
 */
#include "database.h"

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_MS    200u
#define QUIET_MS    10000u /* between two lines about the same trouble that comes and goes */
#define SLACK_MS    50u    /* who cancels so short before the deadline does it for the deadline */
#define NOT_A_QUERY SQL_QUERIES /* in trouble[]: the file */

struct trouble {
	bool said;        /* and not over yet */
	uint64_t said_ms; /* 0: never */
};

struct auth_sqlite {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct sql *sql;
	struct database *database;
	char path[PATH_MAX];
	int timeouts; /* metric */
	pthread_mutex_t lock;
	struct trouble trouble[SQL_QUERIES + 1];
};

static const struct grapnel_option auth_sqlite_options[] = {
	{ .name = "busy_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "1s",
	    .min = 0,
	    .max = 60000,
	    .help = "How long a query waits for somebody who writes to the database." },
	{ .name = "database",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Path of the database file, from the root of the file system." },
	{ .name = "keep_open",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "4",
	    .min = 0,
	    .max = 1024,
	    .help = "How many handles to the database are kept open while they are not used." },
	SQL_OPTIONS,
	{ .name = NULL },
};

/* ------------------------------------------------------------------------ trouble */

/* Is it time for a line about it? */
static bool
begin_trouble(struct auth_sqlite *a, unsigned which)
{
	struct trouble *t = &a->trouble[which];
	uint64_t now = a->host->now_ms();
	bool say;

	(void)pthread_mutex_lock(&a->lock);
	say = !t->said && (t->said_ms == 0 || now - t->said_ms >= QUIET_MS);
	if (say)
		*t = (struct trouble){ true, now };
	(void)pthread_mutex_unlock(&a->lock);
	return say;
}

static bool
end_trouble(struct auth_sqlite *a, unsigned which)
{
	bool was;

	(void)pthread_mutex_lock(&a->lock);
	was = a->trouble[which].said;
	a->trouble[which].said = false;
	(void)pthread_mutex_unlock(&a->lock);
	return was;
}

static void
report(struct auth_sqlite *a, const struct database_job *job)
{
	const char *option = job->query->option;

	switch (job->outcome) {
	case DATABASE_OK:
		if (end_trouble(a, NOT_A_QUERY))
			a->host->log(a->self, GRAPNEL_LOG_NOTICE, "database %s is back", a->path);
		if (end_trouble(a, job->query->number))
			a->host->log(a->self, GRAPNEL_LOG_NOTICE, "%s works again", option);
		break;
	case DATABASE_BAD_FILE:
		if (begin_trouble(a, NOT_A_QUERY))
			a->host->log(a->self, GRAPNEL_LOG_ERROR,
			    "database %s cannot be used: %s; until it can, what it would be asked "
			    "is "
			    "answered \"unavailable\"",
			    a->path, job->error);
		break;
	case DATABASE_BAD_QUERY:
		if (begin_trouble(a, job->query->number))
			a->host->log(a->self, GRAPNEL_LOG_ERROR, "%s fails in database %s: %s",
			    option, a->path, job->error);
		break;
	case DATABASE_TIMEOUT:
		if (a->timeouts >= 0)
			a->host->metric_add(a->self, a->timeouts, 1);
		/* A client that has left is no trouble. */
		if ((!atomic_load(&job->cancelled) ||
			a->host->now_ms() + SLACK_MS >= job->deadline_ms) &&
		    begin_trouble(a, job->query->number))
			a->host->log(a->self, GRAPNEL_LOG_ERROR,
			    "%s gets no answer from database %s: %s", option, a->path, job->error);
		break;
	}
}

/* --------------------------------------------------------------------- the driver */

struct job {
	struct database_job d;
	struct auth_sqlite *a;
	struct sql_call *call;
	struct grapnel_job *offloaded;
};

/* In the pool. */
static void
work(void *arg)
{
	struct job *j = arg;

	database_run(j->a->database, &j->d);
}

static bool
hand_on_rows(struct sql_call *call, const struct database_result *r)
{
	struct grapnel_str values[DATABASE_MAX_COLUMNS];
	size_t pos = 0;

	for (unsigned i = 0; i < r->rows; i++) {
		struct sql_row row = { r->columns, r->names, values };

		database_result_row(r, &pos, values);
		if (!call->on_row(call, &row))
			return false;
	}
	return true;
}

/* Back on the worker. */
static void
finished(void *arg)
{
	struct job *j = arg;
	struct sql_call *call = j->call;
	enum sql_status status = SQL_UNAVAILABLE;

	if (!j->a->host->job_ran(j->offloaded)) {
		j->d.outcome = DATABASE_TIMEOUT;
		(void)snprintf(j->d.error, sizeof(j->d.error), "%s",
		    "offload_threads were all busy until it was too late");
	}
	report(j->a, &j->d);
	if (j->d.outcome == DATABASE_OK && hand_on_rows(call, &j->d.result))
		status = SQL_OK;
	database_result_free(&j->d.result);
	free(j);
	call->done(call, status);
}

static void
exec(void *pool, struct sql_call *call)
{
	struct auth_sqlite *a = pool;
	struct job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		call->done(call, SQL_UNAVAILABLE);
		return;
	}
	j->a = a;
	j->call = call;
	j->d.query = call->query;
	j->d.params = call->params;
	j->d.deadline_ms = a->host->now_ms() + call->deadline_ms;
	atomic_init(&j->d.cancelled, false);
	j->offloaded = a->host->offload(a->self, call->deadline_ms, work, finished, j);
	if (j->offloaded == NULL) {
		if (begin_trouble(a, call->query->number))
			a->host->log(a->self, GRAPNEL_LOG_ERROR,
			    "%s is not asked: too much waits for offload_threads; raise that, or "
			    "offload_queue",
			    call->query->option);
		free(j);
		call->done(call, SQL_UNAVAILABLE);
		return;
	}
	call->driver = j;
}

static void
cancel(void *pool, struct sql_call *call)
{
	struct auth_sqlite *a = pool;
	struct job *j = call->driver;

	atomic_store_explicit(&j->d.cancelled, true, memory_order_relaxed);
	a->host->offload_cancel(j->offloaded); /* finished runs all the same */
}

static const struct sql_driver driver = { .dollar = false, .exec = exec, .cancel = cancel };

/* --------------------------------------------------------------------------- life */

/* Say at once what is wrong with the file or a query. It may be right later: no reason not to start. */
static void
probe(struct auth_sqlite *a)
{
	for (unsigned i = 0; i < SQL_QUERIES; i++) {
		struct database_job job = { .query = sql_query(a->sql, i),
			.deadline_ms = a->host->now_ms() + PROBE_MS };

		if (job.query == NULL)
			continue;
		database_prepare(a->database, &job);
		report(a, &job);
		if (job.outcome == DATABASE_BAD_FILE || job.outcome == DATABASE_TIMEOUT)
			return; /* so are the others, and the main thread has more to do */
	}
}

static bool
read_path(struct auth_sqlite *a)
{
	struct grapnel_str path = a->host->option_str(a->self, NULL, "database");

	if (path.len >= sizeof(a->path) || path.len < 2 || path.data[0] != '/' ||
	    memchr(path.data, '\0', path.len) != NULL) {
		a->host->config_error(a->self, NULL, "database",
		    "this is not a path from the root of the file system, like "
		    "/var/lib/grapnel/users.db");
		return false;
	}
	memcpy(a->path, path.data, path.len);
	a->path[path.len] = '\0';
	return true;
}

static void
auth_sqlite_destroy(void *instance)
{
	struct auth_sqlite *a = instance;

	database_free(a->database);
	sql_free(a->sql);
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
}

static int
open_all(struct auth_sqlite *a)
{
	const struct grapnel_host *host = a->host;
	struct database_options o = {
		.host = host,
		.self = a->self,
		.path = a->path,
		.busy_timeout_ms = (uint32_t)host->option_int(a->self, NULL, "busy_timeout"),
		.keep = (unsigned)host->option_int(a->self, NULL, "keep_open"),
	};

	if (sqlite3_threadsafe() == 0) {
		host->config_error(a->self, NULL, NULL,
		    "the SQLite library on this machine was built without threads");
		return GRAPNEL_EUNSUPPORTED;
	}
	if (!read_path(a) || (a->sql = sql_new(host, a->self, &driver)) == NULL)
		return GRAPNEL_EINVAL;
	o.handles = host->metric_new(
	    a->self, GRAPNEL_GAUGE, "connections", "Handles to the database that are open.");
	o.opened = host->metric_new(a->self, GRAPNEL_COUNTER, "connections_total",
	    "Times that the database was opened, because a handle was needed or the file had "
	    "changed.");
	a->timeouts = host->metric_new(a->self, GRAPNEL_COUNTER, "queries_timed_out_total",
	    "Queries that the database did not answer in time, or while it was locked.");
	if ((a->database = database_new(&o)) == NULL)
		return GRAPNEL_ENOMEM;
	probe(a);
	return GRAPNEL_OK;
}

static int
auth_sqlite_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_sqlite *a = calloc(1, sizeof(*a));
	int err;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	(void)pthread_mutex_init(&a->lock, NULL);
	if ((err = open_all(a)) != GRAPNEL_OK) {
		auth_sqlite_destroy(a);
		return err;
	}
	*instance = a;
	return GRAPNEL_OK;
}

static int
auth_sqlite_worker_start(void *instance, unsigned worker)
{
	struct auth_sqlite *a = instance;

	return sql_worker_start(a->sql, worker, a);
}

static void
auth_sqlite_worker_stop(void *instance, unsigned worker)
{
	struct auth_sqlite *a = instance;

	sql_worker_stop(a->sql, worker);
}

static void
auth_sqlite_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct auth_sqlite *a = instance;

	sql_request_cancelled(a->sql, req);
}

static void
auth_sqlite_client_slot_free(void *instance, void *data)
{
	struct auth_sqlite *a = instance;

	sql_client_slot_free(a->sql, data);
}

static enum grapnel_verdict
auth_sqlite_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct auth_sqlite *a = instance;

	return sql_authenticate(a->sql, req, q);
}

static enum grapnel_verdict
auth_sqlite_client_auth_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct auth_sqlite *a = instance;

	return sql_auth_exchange(a->sql, req, q);
}

static enum grapnel_verdict
auth_sqlite_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct auth_sqlite *a = instance;

	return sql_revalidate(a->sql, req, q);
}

static enum grapnel_verdict
auth_sqlite_acl_check(
    void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct auth_sqlite *a = instance;

	return sql_acl_check(a->sql, req, q);
}

GRAPNEL_PLUGIN(auth_sqlite, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users and rights from a SQLite database.", .options = auth_sqlite_options,
    .create = auth_sqlite_create, .destroy = auth_sqlite_destroy,
    .worker_start = auth_sqlite_worker_start, .worker_stop = auth_sqlite_worker_stop,
    .request_cancelled = auth_sqlite_request_cancelled,
    .client_slot_free = auth_sqlite_client_slot_free,
    .client_authenticate = auth_sqlite_client_authenticate,
    .client_auth_exchange = auth_sqlite_client_auth_exchange,
    .client_revalidate = auth_sqlite_client_revalidate, .acl_check = auth_sqlite_acl_check);
