/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APPLICATION_ID  0x47727768 /* "Grwh" */
#define SCHEMA_VERSION  1
#define VERSION         ((int)(RECORD_VERSION * 100 + SCHEMA_VERSION))
#define TIDY_PAGES      2000 /* 32 MiB */
#define ROW_MAX         (1u << 30)
#define REMOVED_AT_ONCE 256
#define REMOVE_TURNS    64
#define BEHIND_THE_END  (INT64_C(1) << 50)

/* Numbers that stand in a file are anybody's: within what a row can have, and the same wherever they are added up. */
#define EVENTS "min(max(CAST(events AS INTEGER), 0), 4294967295)"
#define BYTES  "min(max(CAST(bytes AS INTEGER), 0), 1073741824)"

enum statement {
	BEGIN,
	COMMIT,
	ROLLBACK,
	ENDPOINT_FIND,
	ENDPOINT_ADD,
	ENDPOINT_ALL,
	ADD,
	REMOVE,
	SUM,
	EACH,
	OLDEST,
	DEAD_ADD,
	DEAD_COUNT,
	DEAD_TRIM,
	DEAD_EACH,
	DEAD_REMOVE,
	STATEMENTS,
};

static const char *const texts[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[ENDPOINT_FIND] = "SELECT id FROM endpoint WHERE name = ?",
	[ENDPOINT_ADD] = "INSERT INTO endpoint (name) VALUES (?)",
	[ENDPOINT_ALL] =
	    "SELECT id, name, (SELECT coalesce(sum(" EVENTS
	    "), 0) FROM parcel WHERE endpoint = e.id), "
	    "(SELECT count(*) FROM dead WHERE endpoint = e.id) FROM endpoint e ORDER BY name",
	[ADD] = "INSERT INTO parcel (id, endpoint, events, oldest, newest, bytes, data) "
		"VALUES (?, ?, ?, ?, ?, ?, ?)",
	[REMOVE] = "DELETE FROM parcel WHERE id = ?",
	[SUM] = "SELECT count(*), coalesce(sum(" EVENTS "), 0), coalesce(sum(" BYTES
		"), 0) FROM parcel WHERE endpoint = ? AND id > ?",
	[EACH] = "SELECT id, " EVENTS ", oldest, newest, " BYTES ", data FROM parcel "
		 "WHERE endpoint = ? AND id > ? ORDER BY id",
	[OLDEST] = "SELECT id, " EVENTS ", newest, " BYTES
		   " FROM parcel WHERE endpoint = ? AND id > ? ORDER BY id LIMIT ?",
	[DEAD_ADD] = "INSERT INTO dead (endpoint, time, event, status, response, data) "
		     "VALUES (?, ?, ?, ?, ?, ?)",
	[DEAD_COUNT] = "SELECT count(*) FROM dead WHERE endpoint = ?",
	[DEAD_TRIM] = "DELETE FROM dead WHERE endpoint = ?1 AND id NOT IN "
		      "(SELECT id FROM dead WHERE endpoint = ?1 ORDER BY id DESC LIMIT ?2)",
	[DEAD_EACH] = "SELECT id, time, event, status, response, data FROM dead "
		      "WHERE endpoint = ?1 AND (?2 = 0 OR id = ?2) ORDER BY id",
	[DEAD_REMOVE] = "DELETE FROM dead WHERE id = ?",
};

static const char schema[] =
    "CREATE TABLE endpoint (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE parcel (id INTEGER PRIMARY KEY, endpoint INTEGER NOT NULL, events INTEGER NOT "
    "NULL,"
    " oldest INTEGER NOT NULL, newest INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT "
    "NULL);"
    "CREATE INDEX parcel_order ON parcel (endpoint, id, events, newest, bytes);"
    "CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint INTEGER NOT NULL, time "
    "INTEGER NOT NULL,"
    " event TEXT NOT NULL, status INTEGER NOT NULL, response TEXT NOT NULL, data BLOB NOT NULL);"
    "CREATE INDEX dead_order ON dead (endpoint, id);";

struct outbox {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	int64_t next_row;
	int code; /* of the last error */
};

/* ---- statements ------------------------------------------------------------------------------ */

/* What the system last said of this file; it is forgotten, as nothing is wrong with a read behind the end. */
static int
file_errno(struct outbox *o, int which)
{
	sqlite3_file *file = NULL;
	char unused;
	int err = 0;

	if (sqlite3_file_control(o->db, "main", which, &file) != SQLITE_OK || file == NULL ||
	    file->pMethods == NULL)
		return 0;
	(void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &err);
	(void)file->pMethods->xRead(file, &unused, 1, BEHIND_THE_END);
	return err;
}

/* SQLite calls malformed what a disk fails to read. That may pass, and is no reason to begin a new file. */
static bool
failed(struct outbox *o, int code)
{
	int primary = code & 0xff, err, wal;

	o->code = code;
	if (primary != SQLITE_IOERR && primary != SQLITE_CORRUPT)
		return false;
	err = file_errno(o, SQLITE_FCNTL_FILE_POINTER);
	wal = file_errno(o, SQLITE_FCNTL_JOURNAL_POINTER);
	if (primary == SQLITE_CORRUPT && (err == EIO || err == ENXIO || wal == EIO || wal == ENXIO))
		o->code = SQLITE_IOERR_READ;
	return false;
}

static sqlite3_stmt *
statement(struct outbox *o, enum statement which)
{
	sqlite3_stmt **s = &o->statements[which];
	int code;

	if (*s != NULL)
		return *s;
	code = sqlite3_prepare_v3(o->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, s, NULL);
	if (code != SQLITE_OK)
		(void)failed(o, code);
	return *s;
}

/* To its end, without rows; it may be used again. */
static bool
run(struct outbox *o, sqlite3_stmt *s)
{
	int code;

	if (s == NULL)
		return false;
	code = sqlite3_step(s);
	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
	return code == SQLITE_DONE || failed(o, code);
}

/* After the last row, or when no more are wanted. */
static bool
end(struct outbox *o, sqlite3_stmt *s, int code)
{
	(void)sqlite3_reset(s);
	(void)sqlite3_clear_bindings(s);
	return code == SQLITE_DONE || code == SQLITE_ROW || failed(o, code);
}

static void
bind(sqlite3_stmt *s, int at, int64_t value)
{
	(void)sqlite3_bind_int64(s, at, value);
}

const char *
outbox_error(struct outbox *o)
{
	int code = o->code & 0xff;

	return code == SQLITE_BUSY || code == SQLITE_LOCKED ? "another process has it open"
							    : sqlite3_errstr(o->code);
}

bool
outbox_damaged(const struct outbox *o)
{
	int code = o->code & 0xff;

	return code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
}

bool
outbox_begin(struct outbox *o)
{
	return run(o, statement(o, BEGIN));
}

bool
outbox_commit(struct outbox *o)
{
	return run(o, statement(o, COMMIT));
}

void
outbox_rollback(struct outbox *o)
{
	int code = o->code;

	if (!sqlite3_get_autocommit(o->db))
		(void)run(o, statement(o, ROLLBACK));
	o->code = code;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool
number(struct outbox *o, const char *text, int64_t *value)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(o->db, text, -1, &s, NULL);

	if (code == SQLITE_OK && (code = sqlite3_step(s)) == SQLITE_ROW) {
		*value = sqlite3_column_int64(s, 0);
		code = SQLITE_OK;
	}
	(void)sqlite3_finalize(s);
	return code == SQLITE_OK || failed(o, code);
}

static bool
execute(struct outbox *o, const char *text)
{
	int code = sqlite3_exec(o->db, text, NULL, NULL, NULL);

	return code == SQLITE_OK || failed(o, code);
}

bool
outbox_tidy(struct outbox *o)
{
	int64_t left = 0;
	char text[64];

	(void)snprintf(text, sizeof(text), "PRAGMA incremental_vacuum(%d)", TIDY_PAGES);
	return execute(o, text) && number(o, "PRAGMA freelist_count", &left) && left > 0;
}

/* 1: ours, or made ours. 0: an error. -1: another version's. */
static int
make_ours(struct outbox *o)
{
	int64_t version = 0, id = 0, tables = 0;
	char text[128];

	if (!number(o, "PRAGMA user_version", &version) ||
	    !number(o, "PRAGMA application_id", &id) ||
	    !number(o, "SELECT count(*) FROM sqlite_master", &tables))
		return 0;
	if (tables > 0)
		return id != APPLICATION_ID ? (failed(o, SQLITE_NOTADB), 0)
		    : version == VERSION    ? 1
					    : -1;
	(void)snprintf(text, sizeof(text), "PRAGMA application_id = %d; PRAGMA user_version = %d",
	    APPLICATION_ID, VERSION);
	if (!outbox_begin(o))
		return 0;
	if (execute(o, schema) && execute(o, text) && outbox_commit(o))
		return 1;
	outbox_rollback(o);
	return 0;
}

static bool
settle(struct outbox *o)
{
	static const int config[] = { SQLITE_DBCONFIG_DEFENSIVE, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE };

	(void)sqlite3_db_config(o->db, config[0], 1, NULL);
	(void)sqlite3_db_config(o->db, config[1], 0, NULL);
	(void)sqlite3_extended_result_codes(o->db, 1);
	(void)sqlite3_limit(o->db, SQLITE_LIMIT_LENGTH, (int)ROW_MAX);
	/* Exclusive: a second process is refused, and there is no shared memory to be damaged. */
	return execute(o,
	    "PRAGMA locking_mode = EXCLUSIVE; PRAGMA page_size = 16384; PRAGMA auto_vacuum = "
	    "INCREMENTAL;"
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cell_size_check = 1;"
	    "PRAGMA trusted_schema = 0; PRAGMA mmap_size = 0; PRAGMA cache_size = -4096;"
	    "PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 16777216");
}

static void
describe(char *error, size_t size, const char *path, struct outbox *o)
{
	int err = o->db != NULL ? sqlite3_system_errno(o->db) : 0;
	char buffer[128];

	(void)snprintf(error, size, "%s: %s%s%s", path, outbox_error(o), err != 0 ? ": " : "",
	    err != 0 ? strerror_r(err, buffer, sizeof(buffer)) : "");
}

static struct outbox *
try_open(const char *path, char *error, size_t error_size, bool *damaged)
{
	struct outbox *o = calloc(1, sizeof(*o));
	int ours;

	if (o == NULL) {
		(void)snprintf(error, error_size, "out of memory");
		return NULL;
	}
	o->code = sqlite3_open_v2(path != NULL ? path : ":memory:", &o->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
		SQLITE_OPEN_PRIVATECACHE,
	    NULL);
	o->next_row = 1;
	if (o->code == SQLITE_OK && settle(o)) {
		ours = make_ours(o);
		if (ours == 1 &&
		    number(o, "SELECT coalesce(max(id), 0) + 1 FROM parcel", &o->next_row))
			return o;
		if (ours < 0) {
			(void)snprintf(error, error_size,
			    "%s was written by another version of this plugin; move it away, or "
			    "let that version send what is in it",
			    path);
			outbox_close(o);
			return NULL;
		}
	}
	describe(error, error_size, path != NULL ? path : "memory", o);
	*damaged = outbox_damaged(o);
	outbox_close(o);
	return NULL;
}

/* A file that is readable for its owner alone before SQLite, which would make it 0644, opens it. */
static bool
make_file(const char *path, char *error, size_t error_size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	char buffer[128];

	if (fd >= 0) {
		(void)close(fd);
		return true;
	}
	(void)snprintf(
	    error, error_size, "%s: %s", path, strerror_r(errno, buffer, sizeof(buffer)));
	return false;
}

bool
outbox_set_aside(const char *path, char *aside, size_t aside_size)
{
	char from[4096], to[4096];

	errno = ENAMETOOLONG;
	if (snprintf(aside, aside_size, "%s.damaged-%lld", path, (long long)time(NULL)) >=
		(int)aside_size ||
	    rename(path, aside) != 0) {
		aside[0] = '\0';
		return false;
	}
	(void)snprintf(from, sizeof(from), "%s-wal", path);
	(void)snprintf(to, sizeof(to), "%s-wal", aside);
	(void)rename(from, to);
	return true;
}

struct outbox *
outbox_open(const char *path, char *error, size_t error_size, char *aside, size_t aside_size)
{
	bool damaged = false;
	struct outbox *o;

	aside[0] = '\0';
	if (path != NULL && !make_file(path, error, error_size))
		return NULL;
	o = try_open(path, error, error_size, &damaged);
	if (o != NULL || !damaged || path == NULL)
		return o;
	if (!outbox_set_aside(path, aside, aside_size))
		return NULL;
	return make_file(path, error, error_size) ? try_open(path, error, error_size, &damaged)
						  : NULL;
}

void
outbox_close(struct outbox *o)
{
	if (o == NULL)
		return;
	for (unsigned i = 0; i < STATEMENTS; i++)
		(void)sqlite3_finalize(o->statements[i]);
	(void)sqlite3_close(o->db);
	free(o);
}

int64_t
outbox_next_row(const struct outbox *o)
{
	return o->next_row;
}

void
outbox_start_at(struct outbox *o, int64_t row)
{
	if (o->next_row < row)
		o->next_row = row;
}

/* ---- endpoints ------------------------------------------------------------------------------- */

int64_t
outbox_endpoint(struct outbox *o, const char *name)
{
	sqlite3_stmt *s = statement(o, ENDPOINT_FIND);
	int64_t id = 0;
	int code;

	if (s == NULL)
		return 0;
	(void)sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		id = sqlite3_column_int64(s, 0);
	if (!end(o, s, code) || id != 0)
		return id;
	if ((s = statement(o, ENDPOINT_ADD)) == NULL)
		return 0;
	(void)sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	return run(o, s) ? sqlite3_last_insert_rowid(o->db) : 0;
}

bool
outbox_endpoints(struct outbox *o, outbox_endpoint_fn fn, void *arg)
{
	sqlite3_stmt *s = statement(o, ENDPOINT_ALL);
	int code;

	if (s == NULL)
		return false;
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(s, 1);

		if (name != NULL)
			fn(arg, sqlite3_column_int64(s, 0), name,
			    (uint64_t)sqlite3_column_int64(s, 2),
			    (uint64_t)sqlite3_column_int64(s, 3));
	}
	return end(o, s, code);
}

/* ---- rows ------------------------------------------------------------------------------------ */

int64_t
outbox_add(struct outbox *o, int64_t endpoint, const struct chunk *c)
{
	sqlite3_stmt *s = statement(o, ADD);

	if (s == NULL)
		return 0;
	bind(s, 1, o->next_row);
	bind(s, 2, endpoint);
	bind(s, 3, c->count);
	bind(s, 4, c->oldest_us);
	bind(s, 5, c->newest_us);
	bind(s, 6, (int64_t)c->len);
	(void)sqlite3_bind_blob64(s, 7, c->bytes, c->len, SQLITE_STATIC);
	return run(o, s) ? o->next_row++ : 0;
}

bool
outbox_remove(struct outbox *o, int64_t row)
{
	sqlite3_stmt *s = statement(o, REMOVE);

	if (s == NULL)
		return false;
	bind(s, 1, row);
	return run(o, s);
}

bool
outbox_sum(struct outbox *o, int64_t endpoint, int64_t after, struct outbox_sum *sum)
{
	sqlite3_stmt *s = statement(o, SUM);
	int code;

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, after);
	code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		*sum = (struct outbox_sum){ (uint64_t)sqlite3_column_int64(s, 0),
			(uint64_t)sqlite3_column_int64(s, 1),
			(uint64_t)sqlite3_column_int64(s, 2) };
	return end(o, s, code);
}

bool
outbox_each(struct outbox *o, int64_t endpoint, int64_t after, outbox_row_fn fn, void *arg)
{
	sqlite3_stmt *s = statement(o, EACH);
	int code;

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, after);
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		struct chunk c = { .len = (size_t)sqlite3_column_int64(s, 4),
			.count = (uint32_t)sqlite3_column_int64(s, 1),
			.oldest_us = sqlite3_column_int64(s, 2),
			.newest_us = sqlite3_column_int64(s, 3),
			.bytes = (char *)(uintptr_t)sqlite3_column_blob(s, 5) };

		if (c.len != (size_t)sqlite3_column_bytes(s, 5))
			c.bytes = NULL; /* damaged */
		if (!fn(arg, sqlite3_column_int64(s, 0), &c))
			break;
	}
	return end(o, s, code);
}

struct removal {
	uint64_t bytes; /* so many are wanted */
	int64_t before_us;
	struct outbox_sum sum;
};

struct removed {
	int64_t rows[REMOVED_AT_ONCE];
	unsigned count;
};

static bool
is_wanted(const struct removal *r, int64_t newest_us)
{
	return r->before_us != 0 ? newest_us < r->before_us : r->sum.bytes < r->bytes;
}

/* The first rows that are to go, as many as fit. Their data is not looked at. */
static bool
removal_find(
    struct outbox *o, int64_t endpoint, int64_t after, struct removal *r, struct removed *found)
{
	sqlite3_stmt *s = statement(o, OLDEST);
	int code;

	found->count = 0;
	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, after);
	bind(s, 3, REMOVED_AT_ONCE);
	while ((code = sqlite3_step(s)) == SQLITE_ROW && is_wanted(r, sqlite3_column_int64(s, 2))) {
		found->rows[found->count++] = sqlite3_column_int64(s, 0);
		r->sum.rows++;
		r->sum.events += (uint64_t)sqlite3_column_int64(s, 1);
		r->sum.bytes += (uint64_t)sqlite3_column_int64(s, 3);
	}
	return end(o, s, code);
}

/* Not more at a time than a commit can bear: the rest follows with the next one. */
static bool
remove_some(
    struct outbox *o, int64_t endpoint, int64_t after, struct removal *r, struct outbox_sum *gone)
{
	struct removed found = { .count = REMOVED_AT_ONCE };

	for (unsigned n = 0; n < REMOVE_TURNS && found.count == REMOVED_AT_ONCE; n++) {
		if (!removal_find(o, endpoint, after, r, &found))
			return false;
		for (unsigned i = 0; i < found.count; i++)
			if (!outbox_remove(o, found.rows[i]))
				return false;
	}
	gone->rows += r->sum.rows;
	gone->events += r->sum.events;
	gone->bytes += r->sum.bytes;
	return true;
}

bool
outbox_remove_oldest(
    struct outbox *o, int64_t endpoint, int64_t after, uint64_t bytes, struct outbox_sum *gone)
{
	struct removal r = { .bytes = bytes };

	return remove_some(o, endpoint, after, &r, gone);
}

bool
outbox_remove_before(
    struct outbox *o, int64_t endpoint, int64_t after, int64_t before_us, struct outbox_sum *gone)
{
	struct removal r = { .before_us = before_us };

	return remove_some(o, endpoint, after, &r, gone);
}

/* ---- dead letters ---------------------------------------------------------------------------- */

bool
outbox_dead_add(struct outbox *o, int64_t endpoint, const struct dead_letter *d)
{
	sqlite3_stmt *s = statement(o, DEAD_ADD);

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, d->time_us);
	(void)sqlite3_bind_text(s, 3, d->event_id, -1, SQLITE_STATIC);
	bind(s, 4, d->status);
	(void)sqlite3_bind_text(s, 5, d->response, -1, SQLITE_STATIC);
	(void)sqlite3_bind_blob64(s, 6, d->record, d->record_len, SQLITE_STATIC);
	return run(o, s);
}

bool
outbox_dead_count(struct outbox *o, int64_t endpoint, uint64_t *count)
{
	sqlite3_stmt *s = statement(o, DEAD_COUNT);
	int code;

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		*count = (uint64_t)sqlite3_column_int64(s, 0);
	return end(o, s, code);
}

bool
outbox_dead_trim(struct outbox *o, int64_t endpoint, uint64_t keep, uint64_t *removed)
{
	sqlite3_stmt *s = statement(o, DEAD_TRIM);

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, (int64_t)keep);
	if (!run(o, s))
		return false;
	*removed = (uint64_t)sqlite3_changes(o->db);
	return true;
}

bool
outbox_dead_each(struct outbox *o, int64_t endpoint, int64_t id, outbox_dead_fn fn, void *arg)
{
	sqlite3_stmt *s = statement(o, DEAD_EACH);
	int code;

	if (s == NULL)
		return false;
	bind(s, 1, endpoint);
	bind(s, 2, id);
	while ((code = sqlite3_step(s)) == SQLITE_ROW) {
		struct dead_letter d = { .id = sqlite3_column_int64(s, 0),
			.time_us = sqlite3_column_int64(s, 1),
			.event_id = (const char *)sqlite3_column_text(s, 2),
			.status = (long)sqlite3_column_int64(s, 3),
			.response = (const char *)sqlite3_column_text(s, 4),
			.record = sqlite3_column_blob(s, 5),
			.record_len = (size_t)sqlite3_column_bytes(s, 5) };

		if (d.event_id != NULL && d.response != NULL && d.record != NULL && !fn(arg, &d))
			break;
	}
	return end(o, s, code);
}

bool
outbox_dead_remove(struct outbox *o, int64_t id)
{
	sqlite3_stmt *s = statement(o, DEAD_REMOVE);

	if (s == NULL)
		return false;
	bind(s, 1, id);
	return run(o, s);
}
