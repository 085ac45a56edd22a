/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

struct compact {
	sqlite3 *db;
	sqlite3_stmt *needed, *is_needed, *rewrite;
	struct row_out row;
	char *error;
};

static bool
on_segment(uint64_t segment, uint64_t messages, void *arg)
{
	struct compact *c = arg;

	if (messages == 0)
		return true;
	sqlite3_bind_int64(c->needed, 1, (sqlite3_int64)segment);
	return sql_done(c->needed, c->error);
}

static bool
stays(struct compact *c, uint64_t segment)
{
	bool found;

	sqlite3_bind_int64(c->is_needed, 1, (sqlite3_int64)segment);
	found = sqlite3_step(c->is_needed) == SQLITE_ROW;
	sqlite3_reset(c->is_needed);
	return found;
}

/* Only what names a segment that stays. One that cannot be read is left as it is. */
static bool
shorten(struct compact *c, uint64_t segment, struct grapnel_str blob)
{
	struct row_finished f, before = { 0 }, written = { 0 };
	struct row_key key = row_key_number(segment);
	bool any = false;
	struct row_in in;

	if (!row_open(&in, blob.data, blob.len, "finished", &key))
		return true;
	row_clear(&c->row);
	while (row_get_finished(&in, &f, &before))
		if (stays(c, store_segment(f.address))) {
			row_finished(&c->row, &f, &written);
			any = true;
		}
	if (in.bad)
		return true;
	row_seal(&c->row, "finished", &key);
	if (c->row.failed) {
		snprintf(c->error, STORE_ERROR, "no memory");
		return false;
	}
	sqlite3_bind_int64(c->rewrite, 1, (sqlite3_int64)segment);
	if (any)
		sql_bind_bytes(
		    c->rewrite, 2, (struct grapnel_str){ (char *)c->row.data, c->row.len });
	else
		sqlite3_bind_null(c->rewrite, 2);
	return sql_done(c->rewrite, c->error);
}

static bool
shorten_all(struct compact *c)
{
	sqlite3_stmt *s = sql_prepare(
	    c->db, "SELECT segment, finished FROM log WHERE finished IS NOT NULL", c->error);
	bool good = s != NULL;
	int rc = SQLITE_DONE;

	while (good && (rc = sqlite3_step(s)) == SQLITE_ROW)
		good = shorten(c, (uint64_t)sqlite3_column_int64(s, 0), sql_bytes(s, 1));
	if (good && rc != SQLITE_DONE) {
		snprintf(
		    c->error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(c->db));
		good = false;
	}
	sqlite3_finalize(s);
	return good;
}

bool
log_compact(sqlite3 *db, store_fault_fn fault, void *arg, char error[STORE_ERROR])
{
	struct compact compact = { .db = db, .error = error }, *c = &compact;
	struct log_view v;
	bool good;

	if (!sql_run(c->db,
		"CREATE TEMP TABLE needed(segment INTEGER PRIMARY KEY);"
		"CREATE TEMP TABLE shorter(segment INTEGER PRIMARY KEY, finished BLOB);",
		c->error) ||
	    !log_open(&v, c->db, fault, arg, c->error))
		return false;
	c->needed = sql_prepare(c->db, "INSERT INTO temp.needed VALUES(?1)", c->error);
	c->is_needed = sql_prepare(c->db, "SELECT 1 FROM temp.needed WHERE segment = ?1", c->error);
	c->rewrite = sql_prepare(c->db, "INSERT INTO temp.shorter VALUES(?1, ?2)", c->error);
	good = c->needed != NULL && c->is_needed != NULL && c->rewrite != NULL &&
	    log_each(&v, NULL, on_segment, c, c->error) && shorten_all(c);
	sqlite3_finalize(c->needed);
	sqlite3_finalize(c->is_needed);
	sqlite3_finalize(c->rewrite);
	row_free(&c->row);
	log_close(&v);
	return good &&
	    sql_run(c->db,
		/* No number is used twice. */
		"INSERT INTO meta SELECT 'next_segment', coalesce(max(segment), 0) + 1 FROM log "
		"WHERE true"
		" ON CONFLICT(name) DO UPDATE SET value = max(value, excluded.value);"
		"UPDATE log SET finished = (SELECT finished FROM temp.shorter WHERE "
		"shorter.segment ="
		" log.segment) WHERE segment IN (SELECT segment FROM temp.shorter);"
		"UPDATE log SET messages = NULL WHERE segment NOT IN (SELECT segment FROM "
		"temp.needed);"
		"DELETE FROM log WHERE messages IS NULL AND finished IS NULL;",
		c->error);
}
