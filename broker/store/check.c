/* SPDX-License-Identifier: Apache-2.0 */
/* check - reading a store beside its broker, and looking whether all of it is right */
#include "store/database.h"
#include "store/rows.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading -------------------------------------------------------------------------------------- */

static int
open_beside(sqlite3 **db, const char *path, char error[STORE_ERROR])
{
	/* Who may write cleans up after himself: SQLite's files beside the database go when the last one closes it. */
	bool writable = access(path, W_OK) == 0, closed;
	char *wal;
	int err;

	if (asprintf(&wal, "%s-wal", path) < 0)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", path);
	closed = access(wal, F_OK) != 0;
	free(wal);
	err = database_connect(
	    db, path, writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, error);
	/* But what a crashed broker left in its WAL stays there. */
	if (err == GRAPNEL_OK && writable && closed)
		(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	if (err != GRAPNEL_OK)
		return err;
	return database_result(*db, sqlite3_exec(*db, "PRAGMA query_only = ON", NULL, NULL, NULL),
	    path, "cannot be read", error);
}

int
store_file_read(sqlite3 **db, const char *directory, char error[STORE_ERROR])
{
	char *path = database_path(directory, STORE_DATABASE);
	int err;

	*db = NULL;
	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
	if (access(path, F_OK) != 0) {
		err = errno == ENOENT ? GRAPNEL_ENOENT : GRAPNEL_ESYS;
		(void)database_error(error, err,
		    "%s: %s; the store's directory is the option of the section store", path,
		    strerror(errno));
	} else {
		err = open_beside(db, path, error);
		if (err == GRAPNEL_OK)
			err = database_version(*db, path, error);
	}
	free(path);
	if (err != GRAPNEL_OK) {
		(void)sqlite3_close(*db);
		*db = NULL;
	}
	return err;
}

/* ---- checking ------------------------------------------------------------------------------------- */

struct check {
	sqlite3 *db;
	store_fault_fn fault;
	void *arg;
	long faults;
	bool stopped; /* by something that is not a fault of the file */
	struct row_out scratch;
};

static void
tell(struct check *c, const char *text)
{
	c->faults++;
	c->fault(text, c->arg);
}

/* A statement has come to an end that is none. */
static void
tell_error(struct check *c, const char *what)
{
	char text[STORE_ERROR];

	c->stopped = database_result(c->db, sqlite3_extended_errcode(c->db), what, "cannot be read",
			 text) != GRAPNEL_EFAULT;
	tell(c, text);
}

/* SQLite may give many lines in one, with a heading. */
static void
tell_lines(struct check *c, const char *text)
{
	while (*text != '\0') {
		char line[STORE_ERROR];
		size_t len = strcspn(text, "\n");

		(void)snprintf(line, sizeof(line), "%.*s", (int)len, text);
		if (len > 0 && strcmp(line, "ok") != 0 && strncmp(line, "*** in ", 7) != 0)
			tell(c, line);
		text += len;
		text += *text == '\n';
	}
}

static void
check_structure(struct check *c)
{
	sqlite3_stmt *stmt;
	int result;

	if (sqlite3_prepare_v2(c->db, "PRAGMA quick_check", -1, &stmt, NULL) != SQLITE_OK) {
		tell_error(c, "the database");
		return;
	}
	while ((result = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(stmt, 0);

		if (text != NULL)
			tell_lines(c, text);
	}
	if (result != SQLITE_DONE)
		tell_error(c, "the database");
	(void)sqlite3_finalize(stmt);
}

/* Printable, and not longer than a line. */
static void
put_key(char *out, size_t len, const struct rows_value *v)
{
	size_t at = 0;

	if (v->type == SQLITE_INTEGER) {
		(void)snprintf(out, len, "%" PRId64, v->number);
		return;
	}
	out[0] = '\0';
	for (size_t i = 0; i < v->bytes.len && at + 8 < len; i++) {
		unsigned char byte = (unsigned char)v->bytes.data[i];

		if (byte >= ' ' && byte < 0x7f)
			at += (size_t)snprintf(out + at, len - at, "%c", byte);
		else
			at += (size_t)snprintf(out + at, len - at, "\\x%02x", byte);
	}
	if (at + 8 >= len)
		(void)snprintf(out + at, len - at, "...");
}

static void
check_row(struct check *c, enum store_table t, sqlite3_stmt *stmt)
{
	struct rows_value v[ROWS_COLUMNS];
	char keys[2][128], text[STORE_ERROR];
	bool two = t == TABLE_SUBSCRIPTION || t == TABLE_KV;
	const char *fault;

	for (unsigned i = 0; i < rows_tables[t].columns; i++)
		rows_column(&v[i], stmt, (int)i);
	if ((fault = rows_fault(t, v, &c->scratch)) == NULL)
		return;
	put_key(keys[0], sizeof(keys[0]), &v[0]);
	put_key(keys[1], sizeof(keys[1]), &v[1]);
	(void)snprintf(text, sizeof(text), "table %s, key %s%s%s: %s", rows_tables[t].name, keys[0],
	    two ? ", " : "", two ? keys[1] : "", fault);
	tell(c, text);
}

static void
check_rows(struct check *c, enum store_table t)
{
	char sql[96], what[32];
	sqlite3_stmt *stmt = NULL;
	int result;

	(void)snprintf(what, sizeof(what), "table %s", rows_tables[t].name);
	(void)snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY %s", rows_tables[t].name,
	    rows_tables[t].key);
	result = sqlite3_prepare_v2(c->db, sql, -1, &stmt, NULL);
	if (result == SQLITE_OK && sqlite3_column_count(stmt) != (int)rows_tables[t].columns)
		tell(c, what);
	else if (result == SQLITE_OK)
		while ((result = sqlite3_step(stmt)) == SQLITE_ROW)
			check_row(c, t, stmt);
	if (result != SQLITE_OK && result != SQLITE_DONE)
		tell_error(c, what);
	(void)sqlite3_finalize(stmt);
}

long
store_file_check(sqlite3 *db, bool checksums, store_fault_fn fault, void *arg)
{
	struct check c = { .db = db, .fault = fault, .arg = arg };

	check_structure(&c);
	for (unsigned t = 0; checksums && t < STORE_TABLE_COUNT && !c.stopped; t++)
		check_rows(&c, (enum store_table)t);
	row_free(&c.scratch);
	return c.stopped ? -1 : c.faults;
}
