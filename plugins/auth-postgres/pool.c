/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include "job.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_TRIES    2u
#define COMPLAINT_MS 60000u
#define TICK_MS      20u /* deadlines are looked at no more often than that */
#define SESSION \
	"SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, MDY', false)"
#define WITH_TIMEOUT SESSION ", set_config('statement_timeout', $1, false)"

struct member {
	struct pg_link link;
	struct pg_pool *pool;
	struct job_list flying; /* in the order of their results */
	unsigned count;         /* of these */
	uint64_t heard;         /* when a result came last */
	bool stale;             /* it is given up because its statements are */
};

struct pg_pool {
	struct pg *pg;
	unsigned worker;
	struct grapnel_timer *timer;
	uint64_t due; /* what the timer is armed for; UINT64_MAX: it is not */
	struct job_list waiting;
	bool dispatching;
	unsigned ready;
	bool down; /* nothing is ready, and an attempt failed since */
	bool few;  /* something is ready, but not all, and it was said */
	struct member members[];
};

static void pool_dispatch(struct pg_pool *p);

void
pg_count(const struct pg *pg, int metric, int64_t delta)
{
	if (metric >= 0)
		pg->link.host->metric_add(pg->link.self, metric, delta);
}

/* -------------------------------------------------------------------------------- deadlines */

static void
pool_arm(struct pg_pool *p, uint64_t now, uint64_t deadline)
{
	if (deadline >= p->due)
		return;
	p->due = deadline > now + TICK_MS ? deadline : now + TICK_MS;
	if (p->due > now + INT32_MAX)
		p->due = now + INT32_MAX;
	(void)p->pg->link.host->timer_arm(p->timer, (uint32_t)(p->due - now));
}

/*
 * Take the calls whose time is over off a list of jobs, and put them into `late` (by call->link). @return the next deadline,
 * also of one nobody waits for: it still tells whether a connection hangs.
 */
static uint64_t
list_late(const struct job_list *list, uint64_t now, struct sql_call **late)
{
	uint64_t next = UINT64_MAX;

	for (struct job *job = list->first; job != NULL; job = job->next) {
		if (job->deadline > now) {
			next = job->deadline < next ? job->deadline : next;
			continue;
		}
		if (job->call == NULL)
			continue;
		job->call->driver = NULL;
		job->call->link = *late;
		*late = job->call;
		job->call = NULL;
	}
	return next;
}

/* Has the server been silent since it got a query whose time is over, whoever waited for it? */
static bool
member_hangs(const struct member *m, uint64_t now)
{
	for (const struct job *job = m->flying.first; job != NULL; job = job->next) {
		if (job->deadline <= now && m->heard < job->sent_at)
			return true;
	}
	return false;
}

static void
pool_on_timer(void *arg)
{
	struct pg_pool *p = arg;
	uint64_t now = p->pg->link.host->now_ms(), next, at;
	struct sql_call *late = NULL, *call;

	next = list_late(&p->waiting, now, &late);
	for (unsigned i = 0; i < p->pg->connections; i++) {
		at = list_late(&p->members[i].flying, now, &late);
		next = at < next ? at : next;
	}
	p->due = UINT64_MAX;
	if (next != UINT64_MAX)
		pool_arm(p, now, next);
	for (unsigned i = 0; i < p->pg->connections; i++) {
		if (member_hangs(&p->members[i], now))
			pg_link_break(&p->members[i].link, "a query was not answered in time");
	}
	while ((call = late) != NULL) {
		late = call->link;
		pg_count(p->pg, p->pg->timeouts, 1);
		call->done(call, SQL_UNAVAILABLE);
	}
	pool_dispatch(p);
}

/* --------------------------------------------------------------------------------- sending */

static void
statement_name(char name[32], const struct sql_query *query)
{
	snprintf(name, 32, "grapnel_%s", query->option);
}

static void
member_send(struct member *m, struct job *job)
{
	const struct sql_call *call = job->call;
	const char *values[SQL_MAX_PARAMS];
	PGconn *conn = m->link.conn;
	char name[32], why[LINK_WHY_SIZE];
	bool alone = m->count == 0;

	for (unsigned i = 0; i < job->query->param_count; i++)
		values[i] = call->params[i].data;
	statement_name(name, job->query);
	job->tries++;
	job->answered = false;
	job->rows = 0;
	job->bytes = 0;
	job->sent_at = m->pool->pg->link.host->now_ms();
	job_list_append(&m->flying, job);
	m->count++;
	if (PQsendQueryPrepared(conn, name, (int)job->query->param_count, values, NULL, NULL, 0) !=
		1 ||
	    PQpipelineSync(conn) != 1) {
		pg_message(why, sizeof(why), PQerrorMessage(conn), true);
		pg_link_break(&m->link, why);
		return;
	}
	if (alone)
		(void)PQsetSingleRowMode(conn);
	pg_link_flush(&m->link);
}

/* The one with the least to do; NULL: none has room. */
static struct member *
pool_choose(struct pg_pool *p)
{
	struct member *best = NULL;

	for (unsigned i = 0; i < p->pg->connections; i++) {
		struct member *m = &p->members[i];

		if (m->link.state == LINK_READY && m->count < p->pg->pipeline &&
		    (best == NULL || m->count < best->count))
			best = m;
	}
	return best;
}

static void
pool_dispatch(struct pg_pool *p)
{
	struct member *m;
	struct job *job;

	if (p->dispatching)
		return; /* the loop below goes on with it */
	p->dispatching = true;
	while ((job = p->waiting.first) != NULL) {
		if (job->call == NULL) {
			free(job_list_take(&p->waiting));
			continue;
		}
		if ((m = pool_choose(p)) == NULL)
			break;
		member_send(m, job_list_take(&p->waiting));
	}
	p->dispatching = false;
}

void
pg_pool_exec(void *pool, struct sql_call *call)
{
	struct pg_pool *p = pool;
	struct job *job;
	uint64_t now;

	call->driver = NULL;
	if (p->down || (job = calloc(1, sizeof(*job))) == NULL) {
		call->done(call, SQL_UNAVAILABLE);
		return;
	}
	now = p->pg->link.host->now_ms();
	job->call = call;
	job->query = call->query;
	job->deadline = now + call->deadline_ms;
	call->driver = job;
	job_list_append(&p->waiting, job);
	pool_arm(p, now, job->deadline);
	pool_dispatch(p);
}

void
pg_pool_cancel(void *pool, struct sql_call *call)
{
	struct pg_pool *p = pool;
	struct job *job = call->driver;

	if (job == NULL)
		return; /* done is about to be called */
	if (p->pg->link.host->now_ms() + TICK_MS >= job->deadline)
		pg_count(p->pg, p->pg->timeouts, 1); /* the host's look at the time came first */
	job->call = NULL;                            /* a query under way is let finish */
	call->driver = NULL;
	call->done(call, SQL_UNAVAILABLE);
}

/* --------------------------------------------------------------------------------- results */

static void
complain(struct pg *pg, const struct sql_query *query, const char *state)
{
	uint64_t now = pg->link.host->now_ms(),
		 last =
		     atomic_load_explicit(&pg->complained_ms[query->number], memory_order_relaxed);

	if ((last != 0 && now - last < COMPLAINT_MS) ||
	    !atomic_compare_exchange_strong(&pg->complained_ms[query->number], &last, now))
		return;
	pg->link.host->log(pg->link.self, GRAPNEL_LOG_ERROR,
	    "%s failed with SQLSTATE %s: %s; not said again for %u s", query->option, state,
	    job_error_meaning(state), COMPLAINT_MS / 1000);
}

static void
member_error(struct member *m, struct job *job, const PGresult *result)
{
	char state[JOB_STATE_SIZE], why[64];

	switch (job_error(result, state)) {
	case JOB_ERROR_QUERY:
		complain(m->pool->pg, job->query, state);
		break;
	case JOB_ERROR_VALUE:
		job->refused = true;
		break;
	case JOB_ERROR_STALE:
		m->stale = true;
		/* fall through */
	case JOB_ERROR_CONNECTION:
		snprintf(why, sizeof(why), "%s: SQLSTATE %s", job->query->option, state);
		pg_link_break(&m->link, why);
		break;
	}
}

/* A query and its sync have come back. */
static void
member_complete(struct member *m)
{
	struct job *job = job_list_take(&m->flying);
	struct pg_pool *p = m->pool;

	if (--m->count > 0)
		(void)PQsetSingleRowMode(
		    m->link.conn); /* of the next one, before any of it is read */
	m->link.useful = true;
	job_end(job,
	    job->refused                          ? SQL_REFUSED
		: job->answered && !job->unusable ? SQL_OK
						  : SQL_UNAVAILABLE);
	pool_dispatch(p);
}

static void
member_on_result(void *arg, const PGresult *result)
{
	struct member *m = arg;
	struct job *job = m->flying.first;

	m->heard = m->pool->pg->link.host->now_ms();
	if (job == NULL) {
		pg_link_break(&m->link, "an answer came that nobody asked for");
		return;
	}
	switch (PQresultStatus(result)) {
	case PGRES_SINGLE_TUPLE:
	case PGRES_TUPLES_OK:
		if (!job_rows(job, result)) {
			job->unusable = true;
			pg_link_break(&m->link, "an answer is too large");
			return;
		}
		job->answered = PQresultStatus(result) == PGRES_TUPLES_OK;
		break;
	case PGRES_COMMAND_OK:
	case PGRES_EMPTY_QUERY:
		job->answered = true;
		break;
	case PGRES_PIPELINE_SYNC:
		member_complete(m);
		break;
	case PGRES_FATAL_ERROR:
		member_error(m, job, result);
		break;
	case PGRES_BAD_RESPONSE:
	case PGRES_NONFATAL_ERROR:
	case PGRES_PIPELINE_ABORTED:
	case PGRES_COPY_OUT:
	case PGRES_COPY_IN:
	case PGRES_COPY_BOTH:
		job->unusable = true;
		pg_link_break(&m->link, "an answer that is no rows (is a query a COPY?)");
		break;
	}
}

/* --------------------------------------------------------------------------------- members */

static unsigned
member_set_up(void *arg, PGconn *conn)
{
	struct member *m = arg;
	const struct pg *pg = m->pool->pg;
	char name[32], timeout[16];
	const char *values[] = { timeout };
	unsigned count = 1;

	snprintf(timeout, sizeof(timeout), "%u", (unsigned)pg->statement_timeout_ms);
	if (PQsendQueryParams(conn, pg->statement_timeout_ms > 0 ? WITH_TIMEOUT : SESSION,
		pg->statement_timeout_ms > 0, NULL, values, NULL, NULL, 0) != 1 ||
	    PQpipelineSync(conn) != 1)
		return 0;
	for (unsigned i = 0; i < SQL_QUERIES; i++) {
		const struct sql_query *query = sql_query(pg->sql, i);

		if (query == NULL)
			continue;
		statement_name(name, query);
		if (PQsendPrepare(conn, name, query->text, (int)query->param_count, NULL) != 1 ||
		    PQpipelineSync(conn) != 1)
			return 0;
		count++;
	}
	return count;
}

static const char *
member_step(void *arg, unsigned step)
{
	const struct member *m = arg;

	for (unsigned i = 0; step > 0 && i < SQL_QUERIES; i++) {
		const struct sql_query *query = sql_query(m->pool->pg->sql, i);

		if (query != NULL && --step == 0)
			return query->option;
	}
	return "setting up the session";
}

/* Another worker has found the database. */
static void
pool_hurry(void *arg)
{
	struct pg_pool **of_worker = arg, *p = *of_worker;

	for (unsigned i = 0; p != NULL && p->down && i < p->pg->connections; i++)
		pg_link_hurry(&p->members[i].link);
}

static void
pool_is_up(struct pg_pool *p)
{
	struct pg *pg = p->pg;

	p->down = false;
	if (atomic_fetch_sub(&pg->pools_down, 1) == 1)
		pg->link.host->log(pg->link.self, GRAPNEL_LOG_NOTICE,
		    "the database answers again, and so do logins and rights");
	for (unsigned i = 0; i < pg->connections; i++)
		pg_link_hurry(&p->members[i].link);
	for (unsigned w = 0; w < pg->link.host->workers; w++) {
		if (w != p->worker)
			(void)pg->link.host->post(pg->link.self, w, pool_hurry, &pg->pools[w]);
	}
}

static void
member_on_ready(void *arg)
{
	struct member *m = arg;
	struct pg_pool *p = m->pool;
	struct pg *pg = p->pg;

	m->heard = 0;
	pg_count(pg, pg->connected, 1);
	if (++p->ready == pg->connections)
		p->few = false;
	if (p->down)
		pool_is_up(p);
	pool_dispatch(p);
}

static void
member_on_failed(void *arg, const char *why)
{
	struct member *m = arg;
	struct pg_pool *p = m->pool;
	struct pg *pg = p->pg;

	pg_count(pg, pg->failures, 1);
	if (p->ready > 0) {
		if (!p->few)
			pg->link.host->log(pg->link.self, GRAPNEL_LOG_WARNING,
			    "worker %u has %u of %u connections; another cannot be opened: %s",
			    p->worker, p->ready, pg->connections, why);
		p->few = true;
		return;
	}
	if (p->down)
		return;
	p->down = true;
	if (atomic_fetch_add(&pg->pools_down, 1) == 0)
		pg->link.host->log(pg->link.self, GRAPNEL_LOG_ERROR,
		    "the database cannot be used, and logins and rights that need it are answered "
		    "as "
		    "unavailable until it can: %s",
		    why);
	job_list_end(&p->waiting);
}

/* What was on it is asked again elsewhere, in its old order, but for what has had its chances. */
static void
member_on_lost(void *arg, const char *why)
{
	struct member *m = arg;
	struct pg_pool *p = m->pool;
	struct job_list again, ended;
	struct job *job;

	p->pg->link.host->log(p->pg->link.self, GRAPNEL_LOG_INFO,
	    "worker %u lost a connection with %u queries under way: %s", p->worker, m->count, why);
	p->ready--;
	pg_count(p->pg, p->pg->connected, -1);
	job_list_init(&again);
	job_list_init(&ended);
	while ((job = job_list_take(&m->flying)) != NULL) {
		/* Every connection may be stale, once. */
		if (m->stale && job->stale < p->pg->connections) {
			job->stale++;
			job->tries--;
		}
		if (job->call == NULL || job->unusable || job->tries >= MAX_TRIES) {
			job_list_append(&ended, job);
		} else {
			pg_count(p->pg, p->pg->retries, 1);
			job_list_append(&again, job);
		}
	}
	m->count = 0;
	m->stale = false;
	job_list_prepend(&p->waiting, &again);
	job_list_end(&ended);
	pool_dispatch(p);
}

static const struct pg_link_user member_user = {
	.set_up = member_set_up,
	.step = member_step,
	.ready = member_on_ready,
	.result = member_on_result,
	.lost = member_on_lost,
	.failed = member_on_failed,
};

/* ------------------------------------------------------------------------------------ life */

struct pg_pool *
pg_pool_new(struct pg *pg, unsigned worker)
{
	struct pg_pool *p = calloc(1, sizeof(*p) + pg->connections * sizeof(p->members[0]));

	if (p == NULL)
		return NULL;
	p->pg = pg;
	p->worker = worker;
	p->due = UINT64_MAX;
	job_list_init(&p->waiting);
	p->timer = pg->link.host->timer_new(pg->link.self, pool_on_timer, p);
	if (p->timer == NULL)
		goto fail;
	for (unsigned i = 0; i < pg->connections; i++) {
		p->members[i].pool = p;
		job_list_init(&p->members[i].flying);
		if (pg_link_start(&p->members[i].link, &pg->link, &member_user, &p->members[i]) !=
		    GRAPNEL_OK)
			goto fail;
	}
	return p;
fail:
	pg_pool_free(p);
	return NULL;
}

void
pg_pool_free(struct pg_pool *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i < p->pg->connections; i++) {
		pg_link_stop(&p->members[i].link);
		if (p->members[i].pool != NULL)
			job_list_end(&p->members[i].flying);
	}
	job_list_end(&p->waiting);
	pg_count(p->pg, p->pg->connected, -(int64_t)p->ready);
	if (p->down)
		atomic_fetch_sub(&p->pg->pools_down, 1);
	if (p->timer != NULL)
		p->pg->link.host->timer_free(p->timer);
	free(p);
}
