/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of the file that is read (numbers of sessions and messages, exchanges that wait for their messages) is in
 * temporary tables: a file may be larger than the memory.
 */
#include "store_write.h"

#include "mqtt/topic.h"
#include "mqtt/wire.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char temporary[] =
    "CREATE TEMP TABLE there(mountpoint BLOB, client BLOB, grp INTEGER, id INTEGER, fresh INTEGER,"
    " PRIMARY KEY(mountpoint, client, grp)) WITHOUT ROWID;"
    "CREATE TEMP TABLE renamed(old INTEGER PRIMARY KEY, id INTEGER);"
    "CREATE TEMP TABLE moved(old INTEGER PRIMARY KEY, address INTEGER);"
    "CREATE TEMP TABLE flight(session INTEGER PRIMARY KEY, confirmed INTEGER, received BLOB);"
    "CREATE TEMP TABLE sent(session INTEGER, n INTEGER, packet INTEGER, state INTEGER, old INTEGER,"
    " PRIMARY KEY(session, n)) WITHOUT ROWID;";

static const char *const texts[] = {
	[THERE_FIND] =
	    "SELECT id, fresh FROM temp.there WHERE mountpoint = ?1 AND client = ?2 AND grp = ?3",
	[THERE_PUT] = "INSERT OR REPLACE INTO temp.there VALUES(?1, ?2, ?3, ?4, ?5)",
	[RENAMED_PUT] = "INSERT OR IGNORE INTO temp.renamed VALUES(?1, ?2)",
	[RENAMED_FIND] = "SELECT id FROM temp.renamed WHERE old = ?1",
	[SESSION_PUT] = "INSERT INTO session VALUES(?1, ?2)",
	[SUBSCRIPTION_PUT] = "INSERT OR IGNORE INTO subscription VALUES(?1, ?2, ?3)",
	[LOG_PUT] = "INSERT INTO log(segment, messages) VALUES(?1, ?2)",
	[RETAINED_FIND] = "SELECT row FROM retained WHERE topic = ?1",
	[RETAINED_PUT] = "INSERT OR REPLACE INTO retained VALUES(?1, ?2, ?3)",
	[BAN_PUT] = "INSERT INTO ban VALUES(?1, ?2) ON CONFLICT(address) DO UPDATE SET row = "
		    "excluded.row WHERE ?3",
	[VALUE_PUT] = "INSERT INTO kv VALUES(?1, ?2, ?3)"
		      " ON CONFLICT(plugin, key) DO UPDATE SET row = excluded.row WHERE ?4",
	[FLIGHT_PUT] = "INSERT OR IGNORE INTO temp.flight VALUES(?1, ?2, ?3)",
	[SENT_PUT] = "INSERT INTO temp.sent VALUES(?1, ?2, ?3, ?4, ?5)",
	[AWAITED_PUT] = "INSERT OR IGNORE INTO temp.moved VALUES(?1, NULL)",
	[MOVED_PUT] = "UPDATE temp.moved SET address = ?2 WHERE old = ?1",
	[EXCHANGE_PUT] = "INSERT OR REPLACE INTO exchange VALUES(?1, ?2)",
};
#define TEXT_COUNT (sizeof(texts) / sizeof(texts[0]))
_Static_assert(TEXT_COUNT <= sizeof(((struct store_write *)0)->statements) / sizeof(sqlite3_stmt *),
    "room for all statements");

bool
write_refuse(struct store_write *w, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(w->error, sizeof(w->error), format, ap);
	va_end(ap);
	return false;
}

bool
write_seal(struct store_write *w, struct row_out *row, const char *table, const struct row_key *key)
{
	row_seal(row, table, key);
	return row->failed ? write_refuse(w, "no memory") : true;
}

/* ---- beginning --------------------------------------------------------------------------------- */

static bool
remember(struct store_write *w, const struct row_session *s, uint64_t id, bool fresh)
{
	sqlite3_stmt *put = write_statement(w, THERE_PUT);

	sql_bind_bytes(put, 1, s->who.mountpoint);
	sql_bind_bytes(put, 2, s->who.client_id);
	write_bind(put, 3, s->group);
	write_bind(put, 4, id);
	write_bind(put, 5, fresh);
	return write_done(w, THERE_PUT);
}

/* Whoever is there, by name. */
static bool
learn(struct store_write *w)
{
	sqlite3_stmt *all = sql_prepare(w->db, "SELECT id, row FROM session ORDER BY id", w->error);
	struct row_author who = { 0 };
	bool good = true;
	int rc = SQLITE_DONE;

	if (all == NULL)
		return false;
	while (good && (rc = sqlite3_step(all)) == SQLITE_ROW) {
		uint64_t id = (uint64_t)sqlite3_column_int64(all, 0);
		struct row_key key = row_key_number(id);
		struct grapnel_str row = sql_bytes(all, 1);
		struct row_session s;
		struct row_in in;

		if (row_open(&in, row.data, row.len, "session", &key) &&
		    row_get_session(&in, &s, &who))
			good = remember(w, &s, id, false);
	}
	if (good && rc != SQLITE_DONE)
		good = write_refuse(w, "the store cannot be read: %s", sqlite3_errmsg(w->db));
	sqlite3_finalize(all);
	row_author_free(&who);
	return good;
}

bool
write_begin(struct store_write *w, sqlite3 *db)
{
	uint64_t highest, next_segment = store_meta(db, "next_segment");

	w->db = db;
	if (!sql_run(db, temporary, w->error))
		return false;
	for (unsigned i = 0; i < TEXT_COUNT; i++)
		if ((w->statements[i] = sql_prepare(db, texts[i], w->error)) == NULL)
			return false;
	w->next_id = store_meta(db, "next_id");
	if (!sql_number(db, "SELECT max(id) FROM session", &highest, w->error) ||
	    !sql_number(db, "SELECT max(segment) FROM log", &w->segment, w->error) ||
	    !sql_number(db, "SELECT max(seq) FROM retained", &w->seq_base, w->error))
		return false;
	if (w->next_id <= highest)
		w->next_id = highest + 1;
	w->segment++;
	if (w->segment < next_segment)
		w->segment = next_segment;
	return learn(w);
}

void
write_free(struct store_write *w)
{
	for (unsigned i = 0; i < TEXT_COUNT; i++)
		sqlite3_finalize(w->statements[i]);
	row_free(&w->log);
	row_free(&w->row);
	row_free(&w->author);
	row_free(&w->last_author);
	row_free(&w->scratch);
	free(w->mapped);
	free(w->seen);
}

/* ---- sessions ---------------------------------------------------------------------------------- */

static bool
rename_to(struct store_write *w, uint64_t old, uint64_t id)
{
	sqlite3_stmt *put = write_statement(w, RENAMED_PUT);

	write_bind(put, 1, old);
	write_bind(put, 2, id);
	if (!write_done(w, RENAMED_PUT))
		return false;
	return sqlite3_changes(w->db) == 1
	    ? true
	    : write_refuse(w, "there are two sessions %" PRIu64, old);
}

/* *id: 0: what is of this session is left out. */
bool
write_renamed(struct store_write *w, uint64_t old, uint64_t *id)
{
	sqlite3_stmt *find = write_statement(w, RENAMED_FIND);
	int rc;

	write_bind(find, 1, old);
	if ((rc = sqlite3_step(find)) == SQLITE_ROW)
		*id = (uint64_t)sqlite3_column_int64(find, 0);
	sqlite3_reset(find);
	if (rc == SQLITE_ROW)
		return true;
	return write_refuse(w, "there is no session %" PRIu64 " above", old);
}

static bool
forget(struct store_write *w, uint64_t id)
{
	char sql[256];

	snprintf(sql, sizeof(sql),
	    "DELETE FROM session WHERE id = %" PRIu64
	    "; DELETE FROM exchange WHERE session = %" PRIu64
	    "; DELETE FROM subscription WHERE session = %" PRIu64,
	    id, id, id);
	w->counts.replaced++;
	return sql_run(w->db, sql, w->error);
}

/* Of the same name. false: an error; *id: the number it is to have, 0: a new one; *skip: it stays as it is. */
static bool
meet(struct store_write *w, const struct row_session *s, uint64_t *id, bool *skip)
{
	sqlite3_stmt *find = write_statement(w, THERE_FIND);
	bool found, fresh = false;

	*skip = false;
	sql_bind_bytes(find, 1, s->who.mountpoint);
	sql_bind_bytes(find, 2, s->who.client_id);
	write_bind(find, 3, s->group);
	if ((found = sqlite3_step(find) == SQLITE_ROW)) {
		*id = (uint64_t)sqlite3_column_int64(find, 0);
		fresh = sqlite3_column_int(find, 1) != 0;
	}
	sqlite3_reset(find);
	if (!found) {
		*id = 0;
		return true;
	}
	if (fresh)
		return write_refuse(w, "there is a session of this client id and mountpoint above");
	if (s->group || !w->replace) {
		*skip = true;
		return true;
	}
	if (!forget(w, *id))
		return false;
	*id = 0;
	return true;
}

static bool
check_session(struct store_write *w, struct row_session *s)
{
	struct grapnel_str id = s->who.client_id;
	const char *why;

	if (id.len == 0 || !utf8_valid(id.data, id.len))
		return write_refuse(w, "the client id is empty or not UTF-8");
	if (!s->has_will)
		return true;
	if ((why = rows_check_message(&s->will, &w->scratch, NULL)) != NULL)
		return write_refuse(w, "the will message: %s", why);
	return true;
}

bool
write_session(struct store_write *w, uint64_t old, const struct row_session *session)
{
	sqlite3_stmt *put = write_statement(w, SESSION_PUT);
	struct row_session s = *session;
	struct row_key key;
	uint64_t id;
	bool skip;

	if (!check_session(w, &s) || !meet(w, &s, &id, &skip))
		return false;
	if (skip && s.group) /* its messages come behind those it has */
		return rename_to(w, old, id);
	if (skip) {
		w->counts.kept++;
		w->kept(s.who.mountpoint, s.who.client_id, w->arg);
		return rename_to(w, old, 0);
	}
	id = w->next_id++;
	key = row_key_number(id);
	row_clear(&w->row);
	row_session(&w->row, &s);
	if (!write_seal(w, &w->row, "session", &key) || !rename_to(w, old, id) ||
	    !remember(w, &s, id, true))
		return false;
	write_bind(put, 1, id);
	sql_bind_bytes(put, 2, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	++*(s.group ? &w->counts.groups : &w->counts.sessions);
	return write_done(w, SESSION_PUT);
}

bool
write_subscription(struct store_write *w, uint64_t old, struct grapnel_str filter,
    const struct row_subscription *s)
{
	sqlite3_stmt *put = write_statement(w, SUBSCRIPTION_PUT);
	struct row_key key;
	uint64_t id;

	if (!write_renamed(w, old, &id))
		return false;
	if (!utf8_valid(filter.data, filter.len) || !topic_filter_valid(filter, NULL, NULL))
		return write_refuse(w, "this is no Topic Filter");
	if (id == 0)
		return true;
	key = row_key_number_text(id, filter);
	row_clear(&w->row);
	row_subscription(&w->row, s);
	if (!write_seal(w, &w->row, "subscription", &key))
		return false;
	write_bind(put, 1, id);
	sql_bind_bytes(put, 2, filter);
	sql_bind_bytes(put, 3, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	if (!write_done(w, SUBSCRIPTION_PUT))
		return false;
	if (sqlite3_changes(w->db) == 0)
		return write_refuse(w, "this session has a subscription with this filter above");
	w->counts.subscriptions++;
	return true;
}

/* ---- the end ----------------------------------------------------------------------------------- */

bool
write_end(struct store_write *w)
{
	char sql[160];

	if (!write_flush(w) || !write_flights(w))
		return false;
	snprintf(sql, sizeof(sql),
	    "INSERT OR REPLACE INTO meta VALUES('next_id', %" PRIu64 "), ('next_segment', %" PRIu64
	    ")",
	    w->next_id, w->segment);
	return sql_run(w->db, sql, w->error);
}
