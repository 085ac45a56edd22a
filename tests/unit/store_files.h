/* SPDX-License-Identifier: Apache-2.0 */
/* store_files - a directory for the store of a test, its files, bytes and rows. Threads: one. */
#ifndef TESTS_UNIT_STORE_FILES_H
#define TESTS_UNIT_STORE_FILES_H

#include "store/file.h"

void store_files_begin(void); /* the directory is not made yet */
void store_files_end(void);
const char *store_files_directory(void);
const char *store_files_path(const char *name); /* in it; good until the eighth call after this one */
bool store_files_exist(const char *name);

void store_files_open(struct store_file *f); /* must work */
void store_files_exec(sqlite3 *db, const char *sql);
uint64_t store_files_number(sqlite3 *db, const char *sql);

/* ---- bytes ---- */
struct store_bytes {
	uint8_t *data; /* heap */
	size_t len;
};
struct store_bytes store_files_get(const char *name); /* a missing file is empty */
void store_files_put(const char *name, const uint8_t *data, size_t len);
void store_files_empty(void); /* removes what is in the directory */

/* ---- rows ---- */
/* Rows of all tables with right checksums: some hundred small ones, in no order, and some that are longer than a page. */
void store_files_fill(sqlite3 *db);
#define STORE_FILES_ROWS 2048u
struct store_rows { /* of each table (enum store_table) the hashes of its rows, ascending */
	uint64_t hashes[8][STORE_FILES_ROWS];
	size_t count[8];
	unsigned wrong; /* rows with a wrong checksum; not among them */
	bool broken;	/* a table could not be read to its end */
};
/* from_end: what can be read from the other end of each table is added. */
void store_files_rows(sqlite3 *db, bool from_end, struct store_rows *out);
/* How many of a's are not in b. */
size_t store_files_missing(const struct store_rows *a, const struct store_rows *b, unsigned table);

#endif
