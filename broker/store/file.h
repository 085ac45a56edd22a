/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file - the database file of a store: found, locked, opened, looked after
 *
 *	DIRECTORY/grapnel.db, -wal, -shm	the database (format.h)
 *	DIRECTORY/grapnel.lock			whoever has the store open holds it (flock); its text is the pid
 *	DIRECTORY/grapnel.db.damaged-TIME	set aside as it was found; with its -wal
 *	DIRECTORY/grapnel.db.salvage		a link to its name while it is salvaged: what is interrupted is done again
 *	DIRECTORY/grapnel.db.new		a database that is being made
 *
 * Threads: any one at a time; a struct store_file belongs to the thread that uses it.
 */
#ifndef BROKER_STORE_FILE_H
#define BROKER_STORE_FILE_H

#include <grapnel/types.h>
#include <sqlite3.h>

#define STORE_DATABASE "grapnel.db"
#define STORE_LOCK     "grapnel.lock"
#define STORE_ERROR    512u

/*
 * What is lost; all 0: nothing. Of a page that cannot be read nobody knows how many rows it had: then the numbers are estimates, by
 * the pages of the same table that can be read.
 */
struct store_damage {
	uint64_t sessions, subscriptions, exchanges, retained, segments, bans, values; /* rows that cannot be read */
	uint64_t pages;	  /* of the file that cannot be read, or are missing at its end */
	uint64_t saved;	  /* rows that are in the new database */
	char aside[4096]; /* where the damaged file is now; "": there is none */
};
/* One line for people: where the damaged file is, what was saved, what is lost. */
void store_damage_text(const struct store_damage *d, char *out, size_t len);

struct store_file {
	sqlite3 *db;
	int lock_fd;
	bool fresh;   /* it was made just now */
	bool unclean; /* the broker before did not close it */
	struct store_damage damage;
	char *directory, *program; /* heap */
};

/*
 * Open the store in a directory, made if need be. Locks it; a damaged database is set aside whole, and what can be read of it is in
 * the new one (damage says what is not). program: name and version of who opens it ("grapnel 0.5").
 * @return GRAPNEL_OK; GRAPNEL_ESTATE: somebody else has it open; GRAPNEL_EUNSUPPORTED: a newer program wrote it; GRAPNEL_ESYS: the
 *         directory or file cannot be used; GRAPNEL_ENOMEM. error: one line that says what, where and what to do.
 */
int store_file_open(struct store_file *f, const char *directory, const char *program, char error[STORE_ERROR]);
/*
 * Damage that is met later, while the store is read (SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_IOERR_READ): the database is set aside and
 * salvaged as at store_file_open. All statements are finalized before. f->db is another one then, and f->damage has grown; after an
 * error (as of store_file_open) f->db is NULL, and the store stays locked.
 */
int store_file_salvage(struct store_file *f, char error[STORE_ERROR]);
/* Ends cleanly: what is in the WAL goes into the database, and it is marked. */
void store_file_close(struct store_file *f);

/*
 * For tools and threads beside the broker: a connection that never changes anything, to be closed with sqlite3_close. The broker may
 * run. GRAPNEL_ENOENT: there is none; GRAPNEL_EUNSUPPORTED: its schema is newer; GRAPNEL_EFAULT: it cannot be read at all.
 */
int store_file_read(sqlite3 **db, const char *directory, char error[STORE_ERROR]);
/*
 * PRAGMA quick_check and all checksums. Each fault is one line to `fault`. @return how many; < 0: it could not be read to the end
 * (no memory, interrupted, an error of the system); the last line says why.
 */
typedef void (*store_fault_fn)(const char *text, void *arg);
long store_file_check(sqlite3 *db, bool checksums, store_fault_fn fault, void *arg);
/*
 * A copy as of now, consistent, in a new file (mode 0600) that must not exist (GRAPNEL_ESTATE). db: of store_file_read. The broker
 * writes on meanwhile: its WAL grows until the copy is complete. An incomplete copy is "TO.partial", and is removed.
 */
int store_file_backup(sqlite3 *db, const char *to, char error[STORE_ERROR]);

/* One number of meta; missing: 0. */
uint64_t store_meta(sqlite3 *db, const char *name);

#endif
