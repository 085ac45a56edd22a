/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

sqlite3_stmt *
sql_prepare(sqlite3 *db, const char *sql, char error[STORE_ERROR])
{
	sqlite3_stmt *s = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK)
		return s;
	snprintf(error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(db));
	return NULL;
}

bool
sql_run(sqlite3 *db, const char *sql, char error[STORE_ERROR])
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	snprintf(error, STORE_ERROR, "the database says: %s", sqlite3_errmsg(db));
	return false;
}

struct grapnel_str
sql_bytes(sqlite3_stmt *s, int column)
{
	struct grapnel_str bytes = { sqlite3_column_blob(s, column), 0 };

	if (sqlite3_column_type(s, column) == SQLITE_NULL)
		return (struct grapnel_str){ NULL, 0 };
	bytes.len = (size_t)sqlite3_column_bytes(s, column);
	if (bytes.data == NULL) /* that is how SQLite gives an empty one */
		bytes.data = "";
	return bytes;
}

void
sql_bind_bytes(sqlite3_stmt *s, int index, struct grapnel_str bytes)
{
	sqlite3_bind_blob64(s, index, bytes.len > 0 ? bytes.data : "", bytes.len, SQLITE_STATIC);
}

bool
sql_done(sqlite3_stmt *s, char error[STORE_ERROR])
{
	int rc = sqlite3_step(s);

	if (rc != SQLITE_DONE)
		snprintf(error, STORE_ERROR, "the store cannot be written: %s",
		    sqlite3_errmsg(sqlite3_db_handle(s)));
	sqlite3_reset(s);
	return rc == SQLITE_DONE;
}

bool
sql_number(sqlite3 *db, const char *sql, uint64_t *out, char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(db, sql, error);
	int rc;

	*out = 0;
	if (s == NULL)
		return false;
	if ((rc = sqlite3_step(s)) == SQLITE_ROW)
		*out = (uint64_t)sqlite3_column_int64(s, 0);
	else if (rc != SQLITE_DONE)
		snprintf(error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(db));
	sqlite3_finalize(s);
	return rc == SQLITE_ROW || rc == SQLITE_DONE;
}
