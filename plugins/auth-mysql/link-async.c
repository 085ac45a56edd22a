/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link-async - the transport for MariaDB Connector/C: its non-blocking calls (_start, _cont) on the worker's loop
 *
 * A call that has to wait for the network switches from a stack of its own back to ours and says what it waits for; _cont
 * switches there again. Three things about it are not as one would think (Connector/C 3.1 to 3.4):
 *
 *   - mysql_real_connect_start makes the TLS handshake with a blocking loop, and looks names up with getaddrinfo. With TLS the
 *     whole connection is therefore made in the offload pool; what runs on the loop connects to an address, without TLS.
 *   - With TLS it reads through SSL_read from a socket that it has set to block: we set it not to.
 *   - mysql_close while a call is suspended frees that call's stack with all that is only known there. So a call that must end
 *     early is made to fail: the socket is shut down, and the call continued until it has returned.
 *
 * Sanitizers: the library's own code is not instrumented, and nothing of ours runs on its stacks (it calls no functions of
 * ours there), so that AddressSanitizer and UBSan need no annotation for the switch and no exception in the tests.
 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Of each connection; the default of 60 KiB is little for OpenSSL. Only what is used is memory. */
#define STACK_BYTES     (256u << 10)
#define ABORT_MAX_TURNS 64

enum operation {
	OP_NONE,
	OP_CONNECT,
	OP_PREPARE,
	OP_EXECUTE,
	OP_FETCH,
	OP_NEXT_RESULT,
	OP_FREE_RESULT
};

struct transport {
	enum operation operation;
	bool suspended;
	struct statement *statement; /* of the query that runs */
	const char *address;         /* of link_connect */
	unsigned port;
	struct grapnel_job *job;     /* that connects, */
	uint64_t deadline;           /* until then */
	char error[LINK_ERROR_SIZE]; /* or why not */
	bool connected;
	/* what a call returns */
	MYSQL *got;
	int result;
	my_bool flag;
};

static void on_ready(void *arg, int fd, unsigned events);

bool
link_init(struct link *l)
{
	l->transport = calloc(1, sizeof(*l->transport));
	return l->transport != NULL;
}

void
link_fini(struct link *l)
{
	free(l->transport);
	l->transport = NULL;
}

/* ------------------------------------------------------------------ one operation */

/* @return what it waits for, or 0 when it has returned. */
static int
operation_start(struct link *l)
{
	const struct settings *s = link_settings(l);
	struct transport *t = l->transport;
	MYSQL_STMT *handle = t->statement != NULL ? t->statement->handle : NULL;

	switch (t->operation) {
	case OP_CONNECT:
		return mysql_real_connect_start(
		    &t->got, l->mysql, SETTINGS_CONNECT(s, t->address, t->port));
	case OP_PREPARE:
		return mysql_stmt_prepare_start(
		    &t->result, handle, l->job->query->text, strlen(l->job->query->text));
	case OP_EXECUTE:
		return mysql_stmt_execute_start(&t->result, handle);
	case OP_FETCH:
		return mysql_stmt_fetch_start(&t->result, handle);
	case OP_NEXT_RESULT:
		return mysql_stmt_next_result_start(&t->result, handle);
	case OP_FREE_RESULT:
		return mysql_stmt_free_result_start(&t->flag, handle);
	case OP_NONE:
		break;
	}
	return 0;
}

static int
operation_continue(struct link *l, int events)
{
	struct transport *t = l->transport;
	MYSQL_STMT *handle = t->statement != NULL ? t->statement->handle : NULL;

	switch (t->operation) {
	case OP_CONNECT:
		return mysql_real_connect_cont(&t->got, l->mysql, events);
	case OP_PREPARE:
		return mysql_stmt_prepare_cont(&t->result, handle, events);
	case OP_EXECUTE:
		return mysql_stmt_execute_cont(&t->result, handle, events);
	case OP_FETCH:
		return mysql_stmt_fetch_cont(&t->result, handle, events);
	case OP_NEXT_RESULT:
		return mysql_stmt_next_result_cont(&t->result, handle, events);
	case OP_FREE_RESULT:
		return mysql_stmt_free_result_cont(&t->flag, handle, events);
	case OP_NONE:
		break;
	}
	return 0;
}

/* ----------------------------------------------------------------- the descriptor */

static bool
watch(struct link *l, unsigned events)
{
	const struct shared *shared = link_shared(l);

	if (l->fd < 0 && !link_adopt(l, mysql_get_socket(l->mysql)))
		return false;
	if (l->watch != NULL)
		return shared->host->watch_change(l->watch, events) == GRAPNEL_OK;
	l->watch = shared->host->watch_fd(shared->self, l->fd, events, on_ready, l);
	if (l->watch == NULL)
		(void)snprintf(l->error, sizeof(l->error), "out of memory");
	return l->watch != NULL;
}

/* Its time limits are none of our business: the pool has its own, in milliseconds and for the whole. */
static bool
watch_for(struct link *l, int wait)
{
	return watch(l,
	    ((wait & MYSQL_WAIT_READ) != 0 ? (unsigned)GRAPNEL_READABLE : 0) |
		((wait & MYSQL_WAIT_WRITE) != 0 ? (unsigned)GRAPNEL_WRITABLE : 0));
}

/* ---------------------------------------------------------------- what comes next */

/* The connection stands. */
static void
connected(struct link *l)
{
	int flags;

	if (!watch(l, GRAPNEL_READABLE)) {
		link_close(l);
		pool_on_connected(l, false);
		return;
	}
	flags = fcntl(l->fd, F_GETFL);
	(void)fcntl(l->fd, F_SETFL, flags | O_NONBLOCK);
	l->state = LINK_IDLE;
	pool_on_connected(l, true);
}

static void
connect_ended(struct link *l)
{
	if (l->transport->got != NULL) {
		connected(l);
		return;
	}
	(void)snprintf(l->error, sizeof(l->error), "%s", mysql_error(l->mysql));
	link_close(l);
	pool_on_connected(l, false);
}

static void
ended(struct link *l, enum link_result result)
{
	l->transport->operation = OP_NONE;
	l->transport->statement = NULL;
	if (result != LINK_LOST && result != LINK_BAD) {
		if (watch(l, GRAPNEL_READABLE))
			l->state = LINK_IDLE;
		else
			result = LINK_LOST;
	}
	pool_on_done(l, result);
}

static void
ended_bad(struct link *l, const char *why)
{
	(void)snprintf(l->error, sizeof(l->error), "%s", why);
	ended(l, LINK_BAD);
}

/* @return whether there is an operation to start; else the query has ended, and the link may have another one by now. */
static bool
execute_next(struct link *l)
{
	struct statement *st = l->transport->statement;

	/* Whose values they were has gone. */
	if (l->job->call == NULL) {
		ended(l, LINK_OK);
		return false;
	}
	if (!statement_params(st, l->job->call->params, l->job->query->param_count)) {
		(void)snprintf(
		    l->error, sizeof(l->error), "the server sees another number of places in it");
		ended(l, LINK_REFUSED);
		return false;
	}
	l->transport->operation = OP_EXECUTE;
	return true;
}

static bool
executed(struct link *l)
{
	struct statement *st = l->transport->statement;
	const char *why;

	l->transport->operation = statement_has_rows(st) ? OP_FETCH : OP_NEXT_RESULT;
	if (l->transport->operation != OP_FETCH || (why = statement_columns(st)) == NULL)
		return true;
	ended_bad(l, why);
	return false;
}

static bool
fetched(struct link *l)
{
	struct sql_row row;
	const char *why = statement_row(l->transport->statement, &row);

	if (why != NULL)
		ended_bad(l, why);
	else if (pool_on_row(l, &row))
		return true;
	else
		ended(l, LINK_BAD);
	return false;
}

static bool
failed(struct link *l, bool preparing)
{
	enum link_result result = link_failed(l->transport->statement, preparing, l->error);

	ended(l, result);
	return false;
}

/* An operation has returned. @return as of execute_next. */
static bool
advance(struct link *l)
{
	struct transport *t = l->transport;

	switch (t->operation) {
	case OP_CONNECT:
		t->operation = OP_NONE;
		connect_ended(l);
		return false;
	case OP_PREPARE:
		if (t->result != 0)
			return failed(l, true);
		l->transport->statement->prepared = true;
		return execute_next(l);
	case OP_EXECUTE:
		return t->result == 0 ? executed(l) : failed(l, false);
	case OP_FETCH:
		if (t->result == 0 || t->result == MYSQL_DATA_TRUNCATED)
			return fetched(l);
		if (t->result != MYSQL_NO_DATA)
			return failed(l, false);
		t->operation = OP_NEXT_RESULT;
		return true;
	case OP_NEXT_RESULT: /* of a stored procedure: read, and not looked at */
		if (t->result > 0)
			return failed(l, false);
		if (t->result < 0)
			t->operation = OP_FREE_RESULT;
		return true;
	case OP_FREE_RESULT:
		if (t->flag != 0)
			return failed(l, false);
		ended(l, LINK_OK);
		return false;
	case OP_NONE:
		break;
	}
	return false;
}

/* Go on as far as it goes without waiting. events: what has happened; 0: start t->operation. */
static void
drive(struct link *l, int events)
{
	struct transport *t = l->transport;

	do {
		int wait = events != 0 ? operation_continue(l, events) : operation_start(l);

		events = 0;
		t->suspended = wait != 0;
		if (!t->suspended)
			continue;
		if (watch_for(l, wait))
			return;
		if (t->operation != OP_CONNECT) {
			pool_on_done(l, LINK_LOST);
			return;
		}
		link_close(l);
		pool_on_connected(l, false);
		return;
	} while (advance(l));
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	struct link *l = arg;
	struct transport *t = l->transport;

	(void)fd;
	if (t->suspended)
		drive(l,
		    ((events & (GRAPNEL_READABLE | GRAPNEL_HANGUP)) != 0 ? MYSQL_WAIT_READ : 0) |
			((events & GRAPNEL_WRITABLE) != 0 ? MYSQL_WAIT_WRITE : 0));
	else if (l->state == LINK_IDLE)
		pool_on_idle_readable(l);
}

/* -------------------------------------------------------------- connecting with TLS */

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

static void
connect_done(void *arg)
{
	struct link *l = arg;
	struct transport *t = l->transport;
	bool ran = link_shared(l)->host->job_ran(t->job);

	t->job = NULL;
	if (l->state == LINK_CLOSING) {
		link_discard(l);
		pool_on_closed(l);
		return;
	}
	if (ran && t->connected) {
		size_t stack = STACK_BYTES;

		if (mysql_options(l->mysql, MYSQL_OPT_NONBLOCK, &stack) == 0) {
			connected(l);
			return;
		}
		(void)snprintf(t->error, sizeof(t->error), "out of memory");
	}
	(void)snprintf(l->error, sizeof(l->error), "%s",
	    !ran ? "no thread of the offload pool was free in time" : t->error);
	link_close(l);
	pool_on_connected(l, false);
}

static void
connect_in_pool(struct link *l)
{
	const struct shared *shared = link_shared(l);

	l->transport->deadline = shared->host->now_ms() + shared->settings.connect_timeout_ms;
	atomic_store(&l->unwanted, false);
	l->transport->job = shared->host->offload(
	    shared->self, shared->settings.connect_timeout_ms, connect_work, connect_done, l);
	if (l->transport->job != NULL)
		return;
	(void)snprintf(
	    l->error, sizeof(l->error), "the offload pool's queue is full (offload_queue)");
	link_close(l);
	pool_on_connected(l, false);
}

/* ------------------------------------------------------------------- for the pool */

void
link_connect(struct link *l, const char *address, unsigned port)
{
	const struct settings *s = link_settings(l);
	struct transport *t = l->transport;
	size_t stack = STACK_BYTES;

	l->state = LINK_CONNECTING;
	t->address = address;
	t->port = port;
	t->connected = false;
	l->mysql = link_handle(l);
	if (l->mysql == NULL ||
	    (s->tls == TLS_NO && mysql_options(l->mysql, MYSQL_OPT_NONBLOCK, &stack) != 0)) {
		(void)snprintf(l->error, sizeof(l->error),
		    "the library refuses its options, or memory is short");
		link_close(l);
		pool_on_connected(l, false);
		return;
	}
	if (s->tls != TLS_NO) {
		connect_in_pool(l);
		return;
	}
	t->operation = OP_CONNECT;
	drive(l, 0);
}

void
link_query(struct link *l)
{
	struct statement *st = &l->statements[l->job->query->number];

	l->state = LINK_BUSY;
	l->transport->statement = st;
	if (!statement_ready(st, l->mysql)) {
		(void)snprintf(l->error, sizeof(l->error), "out of memory");
		ended(l, LINK_REFUSED);
		return;
	}
	l->transport->operation = OP_PREPARE;
	if (!st->prepared || execute_next(l))
		drive(l, 0);
}

/* Whatever is under way ends with an error, now. */
static void
abort_operation(struct link *l)
{
	struct transport *t = l->transport;

	if (l->fd >= 0)
		(void)shutdown(l->fd, SHUT_RDWR);
	for (int turn = 0; t->suspended && turn < ABORT_MAX_TURNS; turn++)
		t->suspended = operation_continue(l, MYSQL_WAIT_TIMEOUT) != 0;
	t->suspended = false;
	t->operation = OP_NONE;
	t->statement = NULL;
}

void
link_close(struct link *l)
{
	struct transport *t = l->transport;

	if (t->job != NULL) {
		l->state = LINK_CLOSING;
		atomic_store(&l->unwanted, true);
		link_shared(l)->host->offload_cancel(t->job); /* connect_done runs all the same */
		return;
	}
	/* One that is idle says goodbye; on any other nobody knows what its last bytes would mean. */
	if (l->state != LINK_IDLE)
		abort_operation(l);
	link_discard(l);
}
