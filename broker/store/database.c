/* SPDX-License-Identifier: Apache-2.0 */
#include "store/database.h"
#include "store/rows.h"
#include "store/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEXT_OF(number)  TEXT_OF_(number)
#define TEXT_OF_(number) #number

/* ---- small things ------------------------------------------------------------------------------ */

char *
database_path(const char *directory, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

int
database_error(char error[STORE_ERROR], int err, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(error, STORE_ERROR, format, ap);
	va_end(ap);
	return err;
}

int
database_result(
    sqlite3 *db, int result, const char *path, const char *what, char error[STORE_ERROR])
{
	const char *reason = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result);
	int number = db != NULL ? sqlite3_system_errno(db) : 0;

	switch (result & 0xff) {
	case SQLITE_OK:
		return GRAPNEL_OK;
	case SQLITE_NOMEM:
		return database_error(error, GRAPNEL_ENOMEM, "%s %s: no memory", path, what);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		return database_error(error, GRAPNEL_ESYS,
		    "%s %s: another program holds a lock on it; end that program", path, what);
	case SQLITE_FULL:
		return database_error(error, GRAPNEL_ESYS,
		    "%s %s: no space on its file system; make room there", path, what);
	case SQLITE_IOERR:
		/* A page that the disk does not give back is lost like one that rotted. */
		if (result == SQLITE_IOERR_READ || result == SQLITE_IOERR_CORRUPTFS)
			break;
		return database_error(error, GRAPNEL_ESYS, "%s %s: %s (%s); look at its disk", path,
		    what, reason, strerror(number));
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return database_error(error, GRAPNEL_ESYS,
		    "%s %s: %s (%s); the broker's user must own the file and its directory", path,
		    what, reason, strerror(number));
	case SQLITE_INTERRUPT:
		return database_error(error, GRAPNEL_ECANCELED, "%s %s: stopped", path, what);
	default:
		break;
	}
	return database_error(error, GRAPNEL_EFAULT, "%s %s: %s", path, what, reason);
}

int
database_sync(const char *directory, char error[STORE_ERROR])
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && fsync(fd) == 0;
	int number = errno;

	if (fd >= 0)
		(void)close(fd);
	if (done)
		return GRAPNEL_OK;
	return database_error(error, GRAPNEL_ESYS, "%s cannot be synced: %s; look at its disk",
	    directory, strerror(number));
}

uint64_t
database_now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- connections -------------------------------------------------------------------------------- */

int
database_connect(sqlite3 **db, const char *path, int flags, char error[STORE_ERROR])
{
	int result = sqlite3_open_v2(path, db, flags | SQLITE_OPEN_NOMUTEX, NULL);

	if (result != SQLITE_OK)
		return database_result(*db, result, path, "cannot be opened", error);
	(void)sqlite3_extended_result_codes(*db, 1);
	(void)sqlite3_busy_timeout(*db, DATABASE_PATIENCE);
	/* The file is not trusted: no code in it, and what it is is only changed by who owns it. */
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_ENABLE_FKEY, 0, NULL);
	/* A damaged one is kept as it was found, with its WAL. */
	(void)sqlite3_db_config(*db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	result = sqlite3_exec(*db,
	    "PRAGMA mmap_size = 0;"
	    "PRAGMA cell_size_check = ON;"
	    "PRAGMA temp_store = MEMORY;"
	    "PRAGMA cache_size = -16384;",
	    NULL, NULL, NULL);
	return database_result(*db, result, path, "cannot be read", error);
}

uint64_t
store_meta(sqlite3 *db, const char *name)
{
	sqlite3_stmt *stmt;
	uint64_t value = 0;

	if (sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE name = ?1", -1, &stmt, NULL) !=
	    SQLITE_OK)
		return 0;
	(void)sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		value = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	return value;
}

int
database_set_meta(sqlite3 *db, const char *name, uint64_t value)
{
	sqlite3_stmt *stmt;
	int result = sqlite3_prepare_v2(
	    db, "REPLACE INTO meta(name, value) VALUES(?1, ?2)", -1, &stmt, NULL);

	if (result != SQLITE_OK)
		return result;
	(void)sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)value);
	(void)sqlite3_step(stmt);
	return sqlite3_finalize(stmt);
}

static int
set_program(sqlite3 *db, const char *program)
{
	sqlite3_stmt *stmt;
	int result = sqlite3_prepare_v2(
	    db, "REPLACE INTO meta(name, value) VALUES('program', ?1)", -1, &stmt, NULL);

	if (result != SQLITE_OK)
		return result;
	(void)sqlite3_bind_text(stmt, 1, program, -1, SQLITE_STATIC);
	(void)sqlite3_step(stmt);
	return sqlite3_finalize(stmt);
}

/* ---- the cheap checks ----------------------------------------------------------------------------- */

/* One value of a statement without parameters; another type than an integer is damage. */
static int
get_number(
    sqlite3 *db, const char *sql, const char *path, sqlite3_int64 *out, char error[STORE_ERROR])
{
	sqlite3_stmt *stmt = NULL;
	int result = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	int type = SQLITE_NULL;

	if (result == SQLITE_OK && (result = sqlite3_step(stmt)) == SQLITE_ROW) {
		type = sqlite3_column_type(stmt, 0);
		*out = sqlite3_column_int64(stmt, 0);
		result = SQLITE_OK;
	}
	if (result != SQLITE_OK && result != SQLITE_DONE)
		result = database_result(db, result, path, "cannot be read", error);
	else if (type != SQLITE_INTEGER)
		result = database_error(
		    error, GRAPNEL_EFAULT, "%s cannot be read: no answer to %s", path, sql);
	(void)sqlite3_finalize(stmt);
	return result;
}

static int
refuse_newer(sqlite3 *db, const char *path, sqlite3_int64 schema, char error[STORE_ERROR])
{
	sqlite3_stmt *stmt = NULL;
	const char *program = NULL;

	if (sqlite3_prepare_v2(db, "SELECT value FROM meta WHERE name = 'program'", -1, &stmt,
		NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		program = (const char *)sqlite3_column_text(stmt, 0);
	(void)database_error(error, GRAPNEL_EUNSUPPORTED,
	    "%s was written by %.64s with schema %lld, and this program knows schemas up to %d: "
	    "run that program, or a newer one",
	    path, program != NULL ? program : "an unknown program", schema, STORE_SCHEMA);
	(void)sqlite3_finalize(stmt);
	return GRAPNEL_EUNSUPPORTED;
}

/*
 * The number of the schema is there twice, in the header of the file and in meta: one bit that flipped does not make a store look
 * newer. There is no older schema yet that would have to be brought forward.
 */
int
database_version(sqlite3 *db, const char *path, char error[STORE_ERROR])
{
	sqlite3_int64 header, schema;
	int err = get_number(db, "PRAGMA user_version", path, &header, error);

	if (err == GRAPNEL_OK)
		err = get_number(
		    db, "SELECT value FROM meta WHERE name = 'schema'", path, &schema, error);
	if (err != GRAPNEL_OK)
		return err;
	if (schema > STORE_SCHEMA && schema == header)
		return refuse_newer(db, path, schema, error);
	if (schema == STORE_SCHEMA && header == STORE_SCHEMA)
		return GRAPNEL_OK;
	return database_error(error, GRAPNEL_EFAULT,
	    "%s is damaged: its header says schema %lld, its rows say %lld", path, header, schema);
}

/* Is this, up to a semicolon, one of the statements that made the tables? */
static bool
schema_knows(const char *sql)
{
	const char *at = sql != NULL ? strstr(STORE_TABLES, sql) : NULL;

	return at != NULL && strncmp(sql, "CREATE TABLE ", 13) == 0 && at[strlen(sql)] == ';';
}

/* The tables are those that we make, to the letter, and nothing else is there. */
static int
examine_schema(sqlite3 *db, const char *path, char error[STORE_ERROR])
{
	sqlite3_stmt *stmt = NULL;
	int result =
	    sqlite3_prepare_v2(db, "SELECT DISTINCT name, sql FROM sqlite_schema", -1, &stmt, NULL);
	unsigned tables = 0;

	while (result == SQLITE_OK && (result = sqlite3_step(stmt)) == SQLITE_ROW) {
		result = schema_knows((const char *)sqlite3_column_text(stmt, 1)) ? SQLITE_OK
										  : SQLITE_CORRUPT;
		tables++;
	}
	if (result != SQLITE_DONE)
		result = database_result(db, result, path, "has damaged tables", error);
	else if (tables != STORE_TABLE_COUNT)
		result = database_error(error, GRAPNEL_EFAULT, "%s has %u tables instead of %u",
		    path, tables, STORE_TABLE_COUNT);
	else
		result = GRAPNEL_OK;
	(void)sqlite3_finalize(stmt);
	return result;
}

/* The first row, or the last. */
static int
examine_row(
    sqlite3 *db, const char *path, const char *table, const char *order, char error[STORE_ERROR])
{
	char sql[128];
	sqlite3_stmt *stmt = NULL;
	int result;

	(void)snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY %s LIMIT 1", table, order);
	result = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	if (result == SQLITE_OK)
		(void)sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt);
	result = result == SQLITE_OK ? sqlite3_errcode(db) : result;
	return database_result(db, result, path, "has a damaged table", error);
}

int
database_examine(sqlite3 *db, const char *path, char error[STORE_ERROR])
{
	static const char *const numbers[] = {
		"SELECT value FROM meta WHERE name = 'alive'",
		"SELECT value FROM meta WHERE name = 'clean'",
		"SELECT value FROM meta WHERE name = 'next_id'",
	};
	sqlite3_int64 value;
	int err = database_version(db, path, error);

	if (err == GRAPNEL_OK)
		err = examine_schema(db, path, error);
	for (unsigned i = 0; i < 3 && err == GRAPNEL_OK; i++)
		err = get_number(db, numbers[i], path, &value, error);
	for (unsigned i = 0; i < STORE_TABLE_COUNT && err == GRAPNEL_OK; i++) {
		const struct rows_table *t = &rows_tables[i];

		err = examine_row(db, path, t->name, t->key, error);
		if (err == GRAPNEL_OK)
			err = examine_row(db, path, t->name, t->last, error);
	}
	return err;
}

int
database_take(
    sqlite3 *db, const char *path, const char *program, bool *unclean, char error[STORE_ERROR])
{
	int result = sqlite3_exec(db,
	    "PRAGMA journal_mode = WAL;"
	    "PRAGMA synchronous = FULL;"
	    "PRAGMA wal_autocheckpoint = 0;"
	    /* What is deleted is overwritten where that costs no further writing. */
	    "PRAGMA secure_delete = FAST;"
	    "BEGIN IMMEDIATE;",
	    NULL, NULL, NULL);

	if (result == SQLITE_OK) {
		*unclean = store_meta(db, "clean") != 1;
		result = database_set_meta(db, "clean", 0);
	}
	if (result == SQLITE_OK)
		result = set_program(db, program);
	if (result == SQLITE_OK)
		result = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	return database_result(db, result, path, "cannot be written", error);
}

/* ---- new ones ---------------------------------------------------------------------------------- */

/* SQLite would make it with the umask; its WAL gets the mode of the database. */
static int
make_file(const char *path, char error[STORE_ERROR])
{
	int fd, number;
	bool done;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	done = fd >= 0 && fchmod(fd, 0600) == 0;
	number = errno;
	if (fd >= 0)
		(void)close(fd);
	if (done)
		return GRAPNEL_OK;
	return database_error(error, GRAPNEL_ESYS,
	    "%s cannot be made: %s; the broker's user needs room and the right to write there",
	    path, strerror(number));
}

static int
make_tables(sqlite3 *db, const char *program)
{
	int result = sqlite3_exec(db,
	    "PRAGMA page_size = " STORE_PAGE_SIZE ";"
	    "PRAGMA auto_vacuum = INCREMENTAL;"
	    "PRAGMA journal_mode = OFF;"
	    "PRAGMA synchronous = OFF;"
	    "BEGIN;" STORE_TABLES "PRAGMA user_version = " TEXT_OF(STORE_SCHEMA) ";",
	    NULL, NULL, NULL);

	if (result == SQLITE_OK)
		result = database_set_meta(db, "schema", STORE_SCHEMA);
	if (result == SQLITE_OK)
		result = database_set_meta(db, "alive", database_now_ms());
	if (result == SQLITE_OK)
		result = database_set_meta(db, "clean", 1);
	if (result == SQLITE_OK)
		result = database_set_meta(db, "next_id", 1);
	return result == SQLITE_OK ? set_program(db, program) : result;
}

int
database_create(sqlite3 **db, const char *directory, const char *program, char error[STORE_ERROR])
{
	char *path = database_path(directory, DATABASE_NEW);
	int err;

	*db = NULL;
	if (path == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
	err = make_file(path, error);
	if (err == GRAPNEL_OK)
		err = database_connect(db, path, SQLITE_OPEN_READWRITE, error);
	if (err == GRAPNEL_OK)
		err =
		    database_result(*db, make_tables(*db, program), path, "cannot be made", error);
	free(path);
	return err;
}

/* Commits and closes; then all of the file goes to the disk. */
static int
finish_file(sqlite3 *db, const char *path, char error[STORE_ERROR])
{
	int result = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	int err = database_result(db, result, path, "cannot be written", error);
	int fd;

	(void)sqlite3_close(db);
	if (err != GRAPNEL_OK)
		return err;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		err = database_error(error, GRAPNEL_ESYS,
		    "%s cannot be synced: %s; look at its disk", path, strerror(errno));
	if (fd >= 0)
		(void)close(fd);
	return err;
}

int
database_finish(sqlite3 *db, const char *directory, char error[STORE_ERROR])
{
	char *from = database_path(directory, DATABASE_NEW);
	char *to = database_path(directory, STORE_DATABASE);
	int err = GRAPNEL_ENOMEM;

	if (from == NULL || to == NULL) {
		(void)database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
		(void)sqlite3_close(db);
	} else {
		err = finish_file(db, from, error);
	}
	if (err == GRAPNEL_OK && rename(from, to) != 0)
		err = database_error(error, GRAPNEL_ESYS, "%s cannot be renamed to %s: %s", from,
		    to, strerror(errno));
	if (err == GRAPNEL_OK)
		err = database_sync(directory, error);
	free(from);
	free(to);
	return err;
}
