/* SPDX-License-Identifier: Apache-2.0 */
/*
 * database - one SQLite database of a store: connected, made, examined
 *
 * What file.c, salvage.c, check.c and backup.c have in common; the rest of the broker sees file.h.
 *
 * Results: GRAPNEL_OK; GRAPNEL_EFAULT: its bytes are damaged; GRAPNEL_EUNSUPPORTED: a newer program wrote it; GRAPNEL_ESYS: the
 *          system does not let us (permission, no space, in use); GRAPNEL_ENOMEM. Each with one line of text in error.
 * Threads: any one at a time for each connection.
 */
#ifndef BROKER_STORE_DATABASE_H
#define BROKER_STORE_DATABASE_H

#include "store/file.h"

#define DATABASE_NEW	  STORE_DATABASE ".new" /* being made: nobody reads it before it is renamed */
#define DATABASE_PATIENCE 5000			  /* ms that another program may hold a lock of SQLite */

/* "DIRECTORY/name"; NULL: no memory. */
char *database_path(const char *directory, const char *name);
int database_error(char error[STORE_ERROR], int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What SQLite's result means: `what` ("cannot be opened") happened to the file. */
int database_result(sqlite3 *db, int result, const char *path, const char *what, char error[STORE_ERROR]);
int database_sync(const char *directory, char error[STORE_ERROR]); /* names that changed in it are on the disk */

/* flags: SQLITE_OPEN_*. *db is to be closed after an error too. Nothing is checked, and nothing written, not even by closing it. */
int database_connect(sqlite3 **db, const char *path, int flags, char error[STORE_ERROR]);
int database_version(sqlite3 *db, const char *path, char error[STORE_ERROR]); /* is its schema ours? */
/* The cheap checks: header, schema, meta, first and last row of each table. */
int database_examine(sqlite3 *db, const char *path, char error[STORE_ERROR]);
/* An examined one becomes ours: to be written. *unclean: whoever had it before did not close it. */
int database_take(sqlite3 *db, const char *path, const char *program, bool *unclean, char error[STORE_ERROR]);

/*
 * A new one is made as DIRECTORY/grapnel.db.new and then becomes DIRECTORY/grapnel.db in one step: one that is there is whole.
 * The connection between is in a transaction, without journal: after a fault it is thrown away.
 */
int database_create(sqlite3 **db, const char *directory, const char *program, char error[STORE_ERROR]);
int database_finish(sqlite3 *db, const char *directory, char error[STORE_ERROR]); /* closes db on every path */

int database_set_meta(sqlite3 *db, const char *name, uint64_t value); /* an SQLite result */
uint64_t database_now_ms(void);

#endif
