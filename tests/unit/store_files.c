/* SPDX-License-Identifier: Apache-2.0 */
#include "store_files.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256], directory[300];

void
store_files_begin(void)
{
	const char *top = getenv("TMPDIR");

	snprintf(folder, sizeof(folder), "%s/grapnel-store-XXXXXX", top != NULL ? top : "/tmp");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(directory, sizeof(directory), "%s/store", folder);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
store_files_end(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
store_files_directory(void)
{
	return directory;
}

const char *
store_files_path(const char *name)
{
	static char paths[8][600];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

bool
store_files_exist(const char *name)
{
	return access(store_files_path(name), F_OK) == 0;
}

void
store_files_open(struct store_file *f)
{
	char error[STORE_ERROR] = "";
	int err = store_file_open(f, directory, "grapnel 1.2.3", error);

	ck_assert_msg(err == GRAPNEL_OK, "%d: %s", err, error);
	ck_assert_ptr_nonnull(f->db);
}

void
store_files_exec(sqlite3 *db, const char *sql)
{
	int result = sqlite3_exec(db, sql, NULL, NULL, NULL);

	ck_assert_msg(result == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

uint64_t
store_files_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	uint64_t n;

	ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql,
	    sqlite3_errmsg(db));
	ck_assert_msg(sqlite3_step(stmt) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
	n = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return n;
}
