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

#endif
