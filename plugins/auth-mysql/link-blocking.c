/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link-blocking - the transport for libraries without MariaDB's non-blocking calls: each query is a job of the offload pool
 *
 * The job prepares if need be, executes and fetches everything; the rows wait in a buffer until the worker takes them. While a
 * job runs the worker leaves the connection alone, but for shutting its socket down when the time is over.
 * offload_threads is then how many queries of all workers run at once, besides passwords that are being checked.
 *
 * Bounded: SQL_MAX_BYTES and SQL_MAX_ROWS per answer, and the row that goes beyond them.
 */
#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define NULL_VALUE UINT32_MAX

struct transport {
	struct grapnel_job *job; /* under way; what is below is its own then */
	uint64_t deadline;
	const char *address; /* of link_connect */
	unsigned port;
	bool connected;
	struct statement *statement;
	const struct sql_query *query;
	char *param_text;
	struct grapnel_str params[SQL_MAX_PARAMS];
	enum link_result result;
	char error[LINK_ERROR_SIZE];
	/* rows: for each value its length as uint32_t, or NULL_VALUE, and its bytes */
	char *rows;
	size_t rows_len, rows_capacity;
	unsigned row_count;
	bool too_much; /* but some of it is there, for sql.c to say so */
};

bool
link_init(struct link *l)
{
	l->transport = calloc(1, sizeof(*l->transport));
	return l->transport != NULL;
}

/* What was asked and answered: it has password hashes. */
static void
forget(struct transport *t)
{
	if (t->rows != NULL)
		explicit_bzero(t->rows, t->rows_len);
	free(t->rows);
	t->rows = NULL;
	t->rows_len = t->rows_capacity = 0;
	t->row_count = 0;
	t->too_much = false;
	free(t->param_text);
	t->param_text = NULL;
}

void
link_fini(struct link *l)
{
	if (l->transport != NULL)
		forget(l->transport);
	free(l->transport);
	l->transport = NULL;
}

/* ------------------------------------------------------------------------- rows */

static bool
append(struct transport *t, const void *data, size_t len)
{
	if (t->rows_len + len > t->rows_capacity) {
		size_t capacity = (t->rows_len + len) * 2;
		char *rows = realloc(t->rows, capacity);

		if (rows == NULL)
			return false;
		t->rows = rows;
		t->rows_capacity = capacity;
	}
	if (len > 0)
		memcpy(t->rows + t->rows_len, data, len);
	t->rows_len += len;
	return true;
}

static const char *
keep_row(struct transport *t)
{
	struct sql_row row;
	const char *why = statement_row(t->statement, &row);

	if (why != NULL)
		return why;
	for (unsigned i = 0; i < row.columns; i++) {
		uint32_t len =
		    row.values[i].data == NULL ? NULL_VALUE : (uint32_t)row.values[i].len;

		if (!append(t, &len, sizeof(len)) ||
		    !append(t, row.values[i].data, row.values[i].len))
			return "out of memory";
	}
	t->row_count++;
	t->too_much = t->row_count > SQL_MAX_ROWS || t->rows_len > SQL_MAX_BYTES;
	return t->too_much ? "the answer is too large" : NULL;
}

/* On the worker. */
static bool
give_rows(struct link *l)
{
	struct transport *t = l->transport;
	struct statement *st = t->statement;
	struct sql_row row = { st->column_count, st->names, st->values };
	const char *at = t->rows;

	for (unsigned r = 0; r < t->row_count; r++) {
		for (unsigned i = 0; i < row.columns; i++) {
			uint32_t len;

			memcpy(&len, at, sizeof(len));
			at += sizeof(len);
			st->values[i] = (struct grapnel_str){ NULL, 0 };
			if (len == NULL_VALUE)
				continue;
			st->values[i] = (struct grapnel_str){ at, len };
			at += len;
		}
		if (!pool_on_row(l, &row))
			return false;
	}
	return true;
}

/* -------------------------------------------------------------- in the offload pool */

static enum link_result
bad(struct transport *t, const char *why)
{
	(void)snprintf(t->error, sizeof(t->error), "%s", why);
	return LINK_BAD;
}

static enum link_result
fetch_all(struct transport *t)
{
	MYSQL_STMT *handle = t->statement->handle;
	const char *why = statement_columns(t->statement);
	int got;

	if (why != NULL)
		return bad(t, why);
	while ((got = mysql_stmt_fetch(handle)) == 0 || got == MYSQL_DATA_TRUNCATED)
		if ((why = keep_row(t)) != NULL)
			return bad(t, why);
	return got == MYSQL_NO_DATA ? LINK_OK : link_failed(t->statement, false, t->error);
}

static enum link_result
run(struct transport *t, MYSQL *mysql)
{
	struct statement *st = t->statement;
	enum link_result result = LINK_OK;
	int next;

	if (!statement_ready(st, mysql))
		return bad(t, "out of memory");
	if (!st->prepared &&
	    mysql_stmt_prepare(st->handle, t->query->text, strlen(t->query->text)) != 0)
		return link_failed(st, true, t->error);
	st->prepared = true;
	if (!statement_params(st, t->params, t->query->param_count)) {
		(void)bad(t, "the server sees another number of places in it");
		return LINK_REFUSED;
	}
	if (mysql_stmt_execute(st->handle) != 0)
		return link_failed(st, false, t->error);
	if (statement_has_rows(st))
		result = fetch_all(t);
	if (result != LINK_OK)
		return result;
	while ((next = mysql_stmt_next_result(st->handle)) ==
	    0) /* of a stored procedure: not looked at */
		continue;
	if (next > 0 || mysql_stmt_free_result(st->handle) != 0)
		return link_failed(st, false, t->error);
	return LINK_OK;
}

static void
query_now(struct link *l)
{
	l->transport->result = run(l->transport, l->mysql);
}

static void
query_work(void *arg)
{
	struct link *l = arg;

	link_blocking(l, query_now, l->transport->deadline);
}

static void
connect_now(struct link *l)
{
	struct transport *t = l->transport;

	t->connected =
	    link_connect_blocking(l->mysql, link_settings(l), t->address, t->port, t->error);
}

static void
connect_work(void *arg)
{
	struct link *l = arg;

	link_blocking(l, connect_now, l->transport->deadline);
}

/* ---------------------------------------------------------------------- on the worker */

static int
socket_of(MYSQL *mysql)
{
#ifdef MARIADB_BASE_VERSION
	return mysql_get_socket(mysql);
#else
	return mysql->net.fd;
#endif
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	struct link *l = arg;

	(void)fd;
	(void)events;
	if (l->state == LINK_IDLE)
		pool_on_idle_readable(l);
}

static bool
watch_idle(struct link *l, bool on)
{
	const struct shared *shared = link_shared(l);
	unsigned events = on ? GRAPNEL_READABLE : 0;

	if (l->watch != NULL)
		return shared->host->watch_change(l->watch, events) == GRAPNEL_OK;
	l->watch = shared->host->watch_fd(shared->self, l->fd, events, on_ready, l);
	if (l->watch == NULL)
		(void)snprintf(l->error, sizeof(l->error), "out of memory");
	return l->watch != NULL;
}

/* A job that ended after link_close. */
static bool
was_closing(struct link *l)
{
	l->transport->job = NULL;
	if (l->state != LINK_CLOSING)
		return false;
	forget(l->transport);
	link_discard(l);
	pool_on_closed(l);
	return true;
}

static void
connect_failed(struct link *l)
{
	link_close(l);
	pool_on_connected(l, false);
}

static void
connect_done(void *arg)
{
	struct link *l = arg;
	struct transport *t = l->transport;
	bool ran = link_shared(l)->host->job_ran(t->job);

	if (was_closing(l))
		return;
	if (ran && t->connected && link_adopt(l, socket_of(l->mysql)) && watch_idle(l, true)) {
		l->state = LINK_IDLE;
		pool_on_connected(l, true);
		return;
	}
	if (!ran || !t->connected)
		(void)snprintf(l->error, sizeof(l->error), "%s",
		    !ran ? "no thread of the offload pool was free in time" : t->error);
	connect_failed(l);
}

static void
query_done(void *arg)
{
	struct link *l = arg;
	struct transport *t = l->transport;
	enum link_result result = t->result;

	if (!link_shared(l)->host->job_ran(t->job)) {
		result = LINK_REFUSED;
		(void)bad(t, "no thread of the offload pool was free in time (offload_threads)");
	}
	if (was_closing(l))
		return;
	if (result != LINK_OK)
		memcpy(l->error, t->error, sizeof(l->error));
	if ((result == LINK_OK || t->too_much) && !give_rows(l))
		result = LINK_BAD;
	forget(t);
	if (result != LINK_LOST && result != LINK_BAD) {
		if (watch_idle(l, true))
			l->state = LINK_IDLE;
		else
			result = LINK_LOST;
	}
	pool_on_done(l, result);
}

void
link_connect(struct link *l, const char *address, unsigned port)
{
	const struct shared *shared = link_shared(l);
	struct transport *t = l->transport;

	l->state = LINK_CONNECTING;
	t->address = address;
	t->port = port;
	t->connected = false;
	l->mysql = link_handle(l);
	if (l->mysql == NULL) {
		(void)snprintf(l->error, sizeof(l->error),
		    "the library refuses its options, or memory is short");
		connect_failed(l);
		return;
	}
	t->deadline = shared->host->now_ms() + shared->settings.connect_timeout_ms;
	atomic_store(&l->unwanted, false);
	t->job = shared->host->offload(
	    shared->self, shared->settings.connect_timeout_ms, connect_work, connect_done, l);
	if (t->job == NULL) {
		(void)snprintf(
		    l->error, sizeof(l->error), "the offload pool's queue is full (offload_queue)");
		connect_failed(l);
	}
}

/* The call may go before its values are sent. */
static bool
copy_params(struct transport *t, const struct sql_call *call)
{
	size_t len = 1, at = 0;

	for (unsigned i = 0; i < t->query->param_count; i++)
		len += call->params[i].len;
	t->param_text = malloc(len);
	if (t->param_text == NULL)
		return false;
	for (unsigned i = 0; i < t->query->param_count; i++) {
		t->params[i] = (struct grapnel_str){ t->param_text + at, call->params[i].len };
		memcpy(t->param_text + at, call->params[i].data, call->params[i].len);
		at += call->params[i].len;
	}
	return true;
}

void
link_query(struct link *l)
{
	const struct shared *shared = link_shared(l);
	struct transport *t = l->transport;
	uint64_t now = shared->host->now_ms();

	l->state = LINK_BUSY;
	t->query = l->job->query;
	t->deadline = l->job->deadline;
	atomic_store(&l->unwanted, false);
	t->statement = &l->statements[t->query->number];
	(void)watch_idle(l, false); /* the answer is the job's to read */
	if (copy_params(t, l->job->call))
		t->job = shared->host->offload(shared->self,
		    t->deadline > now ? (uint32_t)(t->deadline - now) : 1, query_work, query_done,
		    l);
	if (t->job != NULL)
		return;
	(void)snprintf(l->error, sizeof(l->error),
	    "the offload pool's queue is full (offload_queue), or memory is short");
	forget(t);
	l->state = LINK_IDLE;
	(void)watch_idle(l, true);
	pool_on_done(l, LINK_REFUSED);
}

void
link_close(struct link *l)
{
	struct transport *t = l->transport;

	/* Its last bytes would mean nothing, and a job that reads ends. */
	if (l->state != LINK_IDLE && l->fd >= 0)
		(void)shutdown(l->fd, SHUT_RDWR);
	if (t->job == NULL) {
		link_discard(l);
		return;
	}
	l->state = LINK_CLOSING;
	atomic_store(&l->unwanted, true);
	link_shared(l)->host->offload_cancel(t->job); /* its done runs all the same */
}
