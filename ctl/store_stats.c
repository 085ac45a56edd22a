/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct stats {
	struct log_view log;
	uint64_t messages, deliveries, bytes; /* somebody waits for */
	uint64_t oldest;                      /* address */
	json_t *oldest_topic;
	uint64_t online, offline, groups, wills, damaged;
	uint64_t retained, retained_bytes;
};

static bool
on_message(uint64_t address, const struct row_message *m, const struct row_receiver *waiting,
    size_t count, void *arg)
{
	struct stats *st = arg;

	(void)waiting;
	if (st->messages++ == 0) {
		st->oldest = address;
		st->oldest_topic = json_stringn(m->topic.data, m->topic.len);
	}
	st->deliveries += count;
	st->bytes += m->topic.len + m->props.len + m->payload.len;
	return true;
}

static void
count_session(struct stats *st, sqlite3_stmt *s)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(s, 0);
	struct row_key key = row_key_number(id);
	struct grapnel_str row = sql_bytes(s, 1);
	struct row_author who = { 0 };
	struct row_session session;
	struct row_in in;

	if (!row_open(&in, row.data, row.len, "session", &key) ||
	    !row_get_session(&in, &session, &who))
		st->damaged++;
	else if (log_has_session(&st->log, id)) {
		++*(session.group ? &st->groups : session.online ? &st->online : &st->offline);
		st->wills += session.has_will;
	}
	row_author_free(&who);
}

static void
count_retained(struct stats *st, sqlite3_stmt *s)
{
	struct row_key key = row_key_text(sql_bytes(s, 0));
	struct grapnel_str row = sql_bytes(s, 1);
	struct row_author author = { 0 };
	struct row_message m;
	struct row_in in;

	if (row_open(&in, row.data, row.len, "retained", &key))
		(void)row_get_number(&in);
	if (in.bad || !row_get_message(&in, &m, &author)) {
		st->damaged++;
	} else if (m.payload.len > 0) { /* else it is gone, and not swept yet */
		st->retained++;
		st->retained_bytes += m.topic.len + m.props.len + m.payload.len;
	}
	row_author_free(&author);
}

static bool
each(sqlite3 *db, const char *sql, void (*fn)(struct stats *st, sqlite3_stmt *s), struct stats *st,
    char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(db, sql, error);
	int rc;

	if (s == NULL)
		return false;
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		fn(st, s);
	sqlite3_finalize(s);
	if (rc != SQLITE_DONE)
		snprintf(error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(db));
	return rc == SQLITE_DONE;
}

static bool
walk(const struct store_args *a, sqlite3 *db, struct stats *st, char error[STORE_ERROR])
{
	bool good;

	if (!log_open(&st->log, db, store_damaged, (void *)(uintptr_t)a, error))
		return false;
	good = each(db, "SELECT id, row FROM session", count_session, st, error) &&
	    each(db, "SELECT topic, row FROM retained", count_retained, st, error) &&
	    log_each(&st->log, on_message, NULL, st, error);
	st->damaged += st->log.damaged;
	log_close(&st->log);
	return good;
}

static bool
put_program(json_t *o, sqlite3 *db, char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(db, "SELECT value FROM meta WHERE name = 'program'", error);
	uint64_t alive = store_meta(db, "alive");
	time_t seconds = (time_t)(alive / 1000);
	char text[40] = "";
	struct tm tm;
	bool good;

	if (s == NULL)
		return false;
	if (alive > 0 && gmtime_r(&seconds, &tm) != NULL)
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	good = json_put_number(o, "schema", store_meta(db, "schema")) &&
	    (sqlite3_step(s) != SQLITE_ROW || json_put_text(o, "program", sql_bytes(s, 0))) &&
	    json_put_text(o, "last_alive", (struct grapnel_str){ text, strlen(text) }) &&
	    json_object_set_new(o, "closed", json_boolean(store_meta(db, "clean") != 0)) == 0;
	sqlite3_finalize(s);
	return good;
}

static bool
put_counts(json_t *o, sqlite3 *db, char error[STORE_ERROR])
{
	static const struct {
		const char *name, *sql;
	} rows[] = {
		{ "subscriptions", "SELECT count(*) FROM subscription" },
		{ "exchanges", "SELECT count(*) FROM exchange" },
		{ "segments", "SELECT count(*) FROM log" },
		{ "bans", "SELECT count(*) FROM ban" },
		{ "values", "SELECT count(*) FROM kv" },
	};
	uint64_t n;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!sql_number(db, rows[i].sql, &n, error) || !json_put_number(o, rows[i].name, n))
			return false;
	return true;
}

static bool
put_sizes(json_t *o, const struct store_args *a, sqlite3 *db, char error[STORE_ERROR])
{
	uint64_t pages, size;

	return sql_number(db, "PRAGMA freelist_count", &pages, error) &&
	    sql_number(db, "PRAGMA page_size", &size, error) &&
	    json_put_number(o, "file_bytes", store_bytes(a, "")) &&
	    json_put_number(o, "wal_bytes", store_bytes(a, "-wal")) &&
	    json_put_number(o, "free_bytes", pages * size);
}

static bool
put_walked(json_t *o, struct stats *st)
{
	json_t *oldest;

	if (!json_put_number(o, "sessions_online", st->online) ||
	    !json_put_number(o, "sessions_offline", st->offline) ||
	    !json_put_number(o, "shared_groups", st->groups) ||
	    !json_put_number(o, "wills", st->wills) ||
	    !json_put_number(o, "retained_messages", st->retained) ||
	    !json_put_number(o, "retained_bytes", st->retained_bytes) ||
	    !json_put_number(o, "queued_messages", st->messages) ||
	    !json_put_number(o, "queued_deliveries", st->deliveries) ||
	    !json_put_number(o, "queued_bytes", st->bytes) ||
	    !json_put_number(o, "damaged_rows", st->damaged))
		return false;
	if (st->messages == 0)
		return true;
	oldest = json_object();
	if (json_object_set_new(o, "oldest_message", oldest) != 0 ||
	    !json_put_number(oldest, "segment", store_segment(st->oldest)) ||
	    !json_put_number(oldest, "index", store_index(st->oldest)))
		return false;
	return st->oldest_topic == NULL || json_object_set(oldest, "topic", st->oldest_topic) == 0;
}

enum ctl_exit
store_stats(const struct store_args *a)
{
	char error[STORE_ERROR] = "no memory";
	struct stats st = { 0 };
	json_t *o = json_object();
	sqlite3 *db;
	bool good;

	if (store_file_read(&db, a->directory, error) != GRAPNEL_OK) {
		json_decref(o);
		return store_error(a, "%s", error);
	}
	good = o != NULL && sql_run(db, "BEGIN", error) && walk(a, db, &st, error) &&
	    json_object_set_new(o, "directory", json_string(a->directory)) == 0 &&
	    put_program(o, db, error) && put_sizes(o, a, db, error) && put_walked(o, &st) &&
	    put_counts(o, db, error);
	sqlite3_close(db);
	json_decref(st.oldest_topic);
	if (!good) {
		json_decref(o);
		return store_error(a, "%s", error);
	}
	if (a->json)
		return print_json(o);
	show_value(o);
	json_decref(o);
	return CTL_OK;
}
