/* SPDX-License-Identifier: Apache-2.0 */
#include "database.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define STEPS_BETWEEN_LOOKS 1000 /* of SQLite's machine; a few microseconds */
#define LOCK_POLL_NS        5000000L

/* Which file it was, and of when. */
struct identity {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct handle {
	struct handle *next;
	sqlite3 *db;
	sqlite3_stmt *statements[SQL_QUERIES]; /* made when first used */
	struct identity file;
	const struct database *d;
	struct database_job *job; /* that uses it */
	uint64_t locked_since_ms; /* 0: no lock is waited for */
};

struct database {
	struct database_options o;
	pthread_mutex_t lock; /* of what follows; a leaf */
	struct handle *idle;
	unsigned idle_count;
};

static void fail(struct database_job *job, enum database_outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
fail(struct database_job *job, enum database_outcome outcome, const char *format, ...)
{
	va_list args;

	job->outcome = outcome;
	va_start(args, format);
	(void)vsnprintf(job->error, sizeof(job->error), format, args);
	va_end(args);
}

/* What SQLite says, and the system when it has something to add. db NULL: no memory. */
static void
fail_file(struct database_job *job, sqlite3 *db, const char *hint)
{
	int err = db != NULL ? sqlite3_system_errno(db) : 0;
	char buffer[128];

	fail(job, DATABASE_BAD_FILE, "%s%s%s%s", db != NULL ? sqlite3_errmsg(db) : "out of memory",
	    err != 0 ? ": " : "", err != 0 ? strerror_r(err, buffer, sizeof(buffer)) : "", hint);
}

/* ----------------------------------------------------------------------- handles */

static void
count(const struct database *d, int metric, int64_t delta)
{
	if (metric >= 0)
		d->o.host->metric_add(d->o.self, metric, delta);
}

static void
handle_close(struct handle *h)
{
	if (h == NULL)
		return;
	for (unsigned i = 0; i < SQL_QUERIES; i++)
		sqlite3_finalize(h->statements[i]);
	if (h->db != NULL)
		count(h->d, h->d->o.handles, -1);
	sqlite3_close(h->db);
	free(h);
}

static void
close_all(struct handle *h)
{
	while (h != NULL) {
		struct handle *next = h->next;

		handle_close(h);
		h = next;
	}
}

static bool
out_of_time(const struct handle *h)
{
	const struct database_job *job = h->job;

	return atomic_load_explicit(&job->cancelled, memory_order_relaxed) ||
	    h->d->o.host->now_ms() >= job->deadline_ms;
}

/* In a long query, now and then: not 0 ends it. */
static int
on_progress(void *arg)
{
	return out_of_time(arg);
}

/* Somebody writes. 0: do not wait any longer. */
static int
on_busy(void *arg, int times)
{
	const struct timespec pause = { .tv_nsec = LOCK_POLL_NS };
	struct handle *h = arg;
	uint64_t now = h->d->o.host->now_ms();

	if (times == 0)
		h->locked_since_ms = now;
	if (out_of_time(h) || now - h->locked_since_ms >= h->d->o.busy_timeout_ms)
		return 0;
	(void)nanosleep(&pause, NULL);
	return 1;
}

static const struct {
	int id, value;
} limits[] = {
	{ SQLITE_LIMIT_LENGTH, (int)SQL_MAX_BYTES + (1 << 20) },
	{ SQLITE_LIMIT_SQL_LENGTH, 1 << 20 },
	{ SQLITE_LIMIT_COLUMN, 2000 }, /* of tables too */
	{ SQLITE_LIMIT_EXPR_DEPTH, 200 },
	{ SQLITE_LIMIT_COMPOUND_SELECT, 50 },
	{ SQLITE_LIMIT_VDBE_OP, 100000 },
	{ SQLITE_LIMIT_FUNCTION_ARG, 32 },
	{ SQLITE_LIMIT_ATTACHED, 0 },
	{ SQLITE_LIMIT_VARIABLE_NUMBER, (int)SQL_MAX_PARAMS },
	{ SQLITE_LIMIT_TRIGGER_DEPTH, 1 },
	{ SQLITE_LIMIT_WORKER_THREADS, 0 },
};

/* What a file from outside, and a slip in a query, must not be able to do. */
static bool
confine(sqlite3 *db)
{
	static const struct {
		int what, value;
	} config[] = {
		{ SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0 }, { SQLITE_DBCONFIG_DEFENSIVE, 1 },
		{ SQLITE_DBCONFIG_ENABLE_TRIGGER, 0 }, { SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0 },
		{ SQLITE_DBCONFIG_DQS_DML, 0 }, /* "x" is a column, never a text */
	};

	for (size_t i = 0; i < sizeof(config) / sizeof(*config); i++)
		if (sqlite3_db_config(db, config[i].what, config[i].value, NULL) != SQLITE_OK)
			return false;
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		(void)sqlite3_limit(db, limits[i].id, limits[i].value);
	return sqlite3_exec(db,
		   "PRAGMA query_only = 1; PRAGMA cell_size_check = 1; PRAGMA mmap_size = 0", NULL,
		   NULL, NULL) == SQLITE_OK;
}

static struct handle *
handle_open(struct database *d, struct database_job *job, const struct identity *file)
{
	struct handle *h = calloc(1, sizeof(*h));
	int code;

	if (h == NULL) {
		fail(job, DATABASE_BAD_FILE, "out of memory");
		return NULL;
	}
	h->d = d;
	h->job = job;
	h->file = *file;
	code = sqlite3_open_v2(d->o.path, &h->db,
	    SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);
	if (h->db != NULL)
		count(d, d->o.handles, 1);
	if (code == SQLITE_OK) {
		(void)sqlite3_extended_result_codes(h->db, 1);
		(void)sqlite3_busy_handler(h->db, on_busy, h);
		sqlite3_progress_handler(h->db, STEPS_BETWEEN_LOOKS, on_progress, h);
		if (confine(h->db)) {
			count(d, d->o.opened, 1);
			return h;
		}
	}
	fail_file(job, h->db, "");
	handle_close(h);
	return NULL;
}

static bool
look_at_file(const struct database *d, struct database_job *job, struct identity *file)
{
	char buffer[128];
	struct stat st;

	if (stat(d->o.path, &st) != 0) {
		fail(job, DATABASE_BAD_FILE, "%s", strerror_r(errno, buffer, sizeof(buffer)));
		return false;
	}
	if (!S_ISREG(st.st_mode)) { /* opening a FIFO could wait for ever */
		fail(job, DATABASE_BAD_FILE, "it is not a regular file");
		return false;
	}
	*file = (struct identity){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
	return true;
}

static bool
same_file(const struct identity *a, const struct identity *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	    a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* A handle to the file as it is now. */
static struct handle *
handle_take(struct database *d, struct database_job *job)
{
	struct handle *h, *old = NULL;
	struct identity file;

	if (!look_at_file(d, job, &file))
		return NULL;
	(void)pthread_mutex_lock(&d->lock);
	h = d->idle;
	if (h != NULL && !same_file(&h->file, &file)) {
		old = h;
		h = d->idle = NULL;
		d->idle_count = 0;
	}
	if (h != NULL) {
		d->idle = h->next;
		d->idle_count--;
	}
	(void)pthread_mutex_unlock(&d->lock);
	close_all(old);
	if (h == NULL)
		return handle_open(d, job, &file);
	h->job = job;
	return h;
}

static void
handle_put_back(struct database *d, struct handle *h)
{
	h->job = NULL;
	(void)pthread_mutex_lock(&d->lock);
	if (d->idle_count < d->o.keep) {
		h->next = d->idle;
		d->idle = h;
		d->idle_count++;
		h = NULL;
	}
	(void)pthread_mutex_unlock(&d->lock);
	handle_close(h);
}

struct database *
database_new(const struct database_options *options)
{
	struct database *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->o = *options;
	(void)pthread_mutex_init(&d->lock, NULL);
	return d;
}

void
database_free(struct database *d)
{
	if (d == NULL)
		return;
	close_all(d->idle);
	(void)pthread_mutex_destroy(&d->lock);
	free(d);
}

/* ----------------------------------------------------------------------- queries */

/* @return whether the handle is still good. */
static bool
fail_with(struct handle *h, struct database_job *job, int code)
{
	switch (code & 0xff) {
	case SQLITE_INTERRUPT:
		fail(job, DATABASE_TIMEOUT, "it took too long");
		return true;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		fail(job, DATABASE_TIMEOUT, "the database is locked by somebody who writes to it");
		return true;
	case SQLITE_ERROR:
	case SQLITE_TOOBIG:
	case SQLITE_MISMATCH:
	case SQLITE_AUTH:
		fail(job, DATABASE_BAD_QUERY, "%s", sqlite3_errmsg(h->db));
		return true;
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
		fail_file(job, h->db,
		    "; a database in WAL mode that nobody has open needs its folder to be "
		    "writable, or "
		    "its -wal and -shm files to exist");
		return false;
	default:
		fail_file(job, h->db, "");
		return false;
	}
}

static const char *
what_is_wrong(sqlite3_stmt *statement, const char *rest, const struct sql_query *query)
{
	if (statement == NULL)
		return "there is no statement in it";
	if (rest[strspn(rest, " \t\r\n;")] != '\0')
		return "there is more than one statement in it";
	if (!sqlite3_stmt_readonly(statement))
		return "it writes; only reading is allowed";
	if (sqlite3_column_count(statement) == 0)
		return "it gives no rows";
	if (sqlite3_column_count(statement) > DATABASE_MAX_COLUMNS)
		return "it has more than 64 columns";
	if (sqlite3_bind_parameter_count(statement) != (int)query->param_count)
		return "it has parameters of its own; write %u, %c ... where values belong";
	return NULL;
}

/* NULL: job says why; *good: whether the handle is still good. */
static sqlite3_stmt *
statement_for(struct handle *h, struct database_job *job, bool *good)
{
	const struct sql_query *query = job->query;
	sqlite3_stmt *statement = h->statements[query->number];
	const char *rest, *wrong;
	int code;

	if (statement != NULL)
		return statement;
	code = sqlite3_prepare_v3(
	    h->db, query->text, -1, SQLITE_PREPARE_PERSISTENT, &statement, &rest);
	if (code != SQLITE_OK) {
		*good = fail_with(h, job, code);
		return NULL;
	}
	if ((wrong = what_is_wrong(statement, rest, query)) != NULL) {
		sqlite3_finalize(statement);
		fail(job, DATABASE_BAD_QUERY, "%s", wrong);
		return NULL;
	}
	return h->statements[query->number] = statement;
}

static bool
append(struct database_result *r, const void *data, size_t len)
{
	size_t want = r->capacity == 0 ? 512 : r->capacity;
	char *p = r->data;

	while (want < r->len + len)
		want *= 2;
	if (want != r->capacity) {
		if ((p = malloc(want)) == NULL)
			return false;
		if (r->len > 0) {
			memcpy(p, r->data, r->len);
			explicit_bzero(r->data, r->len); /* realloc would leave it behind */
		}
		free(r->data);
		r->data = p;
		r->capacity = want;
	}
	if (len > 0)
		memcpy(p + r->len, data, len);
	r->len += len;
	return true;
}

static bool
take_names(sqlite3_stmt *statement, struct database_result *r)
{
	size_t len = 0;
	char *p;

	r->columns = (unsigned)sqlite3_column_count(statement);
	for (unsigned i = 0; i < r->columns; i++)
		r->names[i].data = sqlite3_column_name(statement, (int)i);
	for (unsigned i = 0; i < r->columns; i++)
		len += r->names[i].data != NULL ? strlen(r->names[i].data) : 0;
	if ((p = r->names_text = malloc(len + 1)) == NULL)
		return false;
	for (unsigned i = 0; i < r->columns; i++) {
		size_t n = r->names[i].data != NULL ? strlen(r->names[i].data) : 0;

		if (n > 0)
			memcpy(p, r->names[i].data, n);
		r->names[i] = (struct grapnel_str){ p, n };
		p += n;
	}
	return true;
}

static bool
take_row(sqlite3_stmt *statement, struct database_result *r)
{
	for (unsigned i = 0; i < r->columns; i++) {
		const unsigned char *text = sqlite3_column_text(statement, (int)i);
		uint32_t len =
		    text == NULL ? UINT32_MAX : (uint32_t)sqlite3_column_bytes(statement, (int)i);

		if (text == NULL && sqlite3_column_type(statement, (int)i) != SQLITE_NULL)
			return false;
		if (!append(r, &len, sizeof(len)) || (text != NULL && !append(r, text, len)))
			return false;
	}
	r->rows++;
	return true;
}

static int
bind(sqlite3_stmt *statement, const struct database_job *job)
{
	int code = SQLITE_OK;

	for (unsigned i = 0; code == SQLITE_OK && i < job->query->param_count; i++)
		code = sqlite3_bind_text(statement, (int)i + 1, job->params[i].data,
		    (int)job->params[i].len, SQLITE_STATIC);
	return code;
}

/* @return whether the handle is still good. */
static bool
run(struct handle *h, struct database_job *job, sqlite3_stmt *statement)
{
	struct database_result *r = &job->result;
	int code = bind(statement, job);
	bool good = true, memory = true;

	if (code == SQLITE_OK)
		code = sqlite3_step(statement);
	if (code == SQLITE_ROW) /* only now: it may have been made anew for a changed schema */
		memory = take_names(statement, r);
	/* One row or byte too many is told to whoever counts them. */
	while (memory && code == SQLITE_ROW && r->rows <= SQL_MAX_ROWS && r->len <= SQL_MAX_BYTES) {
		memory = take_row(statement, r);
		code = sqlite3_step(statement);
	}
	if (!memory)
		fail(job, DATABASE_BAD_QUERY, "out of memory");
	else if (code != SQLITE_DONE && code != SQLITE_ROW)
		good = fail_with(h, job, code);
	(void)sqlite3_reset(statement); /* ends the transaction, which would hold up writers */
	(void)sqlite3_clear_bindings(statement);
	return good;
}

static void
use(struct database *d, struct database_job *job, bool only_prepare)
{
	struct handle *h = handle_take(d, job);
	sqlite3_stmt *statement;
	bool good = true;

	if (h == NULL)
		return;
	job->outcome = DATABASE_OK;
	statement = statement_for(h, job, &good);
	if (statement != NULL && !only_prepare)
		good = run(h, job, statement);
	if (good)
		handle_put_back(d, h);
	else
		handle_close(h);
}

void
database_run(struct database *d, struct database_job *job)
{
	use(d, job, false);
}

void
database_prepare(struct database *d, struct database_job *job)
{
	use(d, job, true);
}

/* ------------------------------------------------------------------------ results */

void
database_result_row(
    const struct database_result *r, size_t *pos, struct grapnel_str values[DATABASE_MAX_COLUMNS])
{
	for (unsigned i = 0; i < r->columns; i++) {
		uint32_t len;

		memcpy(&len, r->data + *pos, sizeof(len));
		*pos += sizeof(len);
		values[i] = (struct grapnel_str){ NULL, 0 };
		if (len == UINT32_MAX)
			continue;
		values[i] = (struct grapnel_str){ r->data + *pos, len };
		*pos += len;
	}
}

void
database_result_free(struct database_result *r)
{
	if (r->data != NULL)
		explicit_bzero(r->data, r->len);
	free(r->data);
	free(r->names_text);
	*r = (struct database_result){ 0 };
}
