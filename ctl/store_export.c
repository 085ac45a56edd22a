/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of JSON, in an order that an import can read straight through: header, sessions, subscriptions, exchanges, retained messages,
 * messages, bans, values, end. All of one read transaction.
 */
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct export
{
	const struct store_args *args;
	sqlite3 *db;
	FILE *out;
	struct log_view log;
	uint64_t lines, damaged;
	char error[STORE_ERROR];
};

static void
on_fault(const char *text, void *arg)
{
	struct export *e = arg;

	(void)store_error(e->args, "left out: %s", text);
}

static bool
left_out(struct export *e, const char *table, const char *key)
{
	char text[192];
	char *shown = show_escape(key, NULL);

	snprintf(
	    text, sizeof(text), "%s %.128s: it is damaged", table, shown != NULL ? shown : "?");
	free(shown);
	on_fault(text, e);
	e->damaged++;
	return true;
}

static bool
left_out_number(struct export *e, const char *table, uint64_t id)
{
	char key[24];

	snprintf(key, sizeof(key), "%" PRIu64, id);
	return left_out(e, table, key);
}

/* Takes the object; one that is not whole for want of memory is not written. */
static bool
put_line(struct export *e, json_t *o, bool whole)
{
	bool good = whole && json_dumpf(o, e->out, JSON_COMPACT) == 0 && putc('\n', e->out) != EOF;

	json_decref(o);
	if (good) {
		e->lines++;
		return true;
	}
	snprintf(e->error, sizeof(e->error), "it cannot be written: %s",
	    whole && errno != 0 ? strerror(errno) : "no memory");
	return false;
}

static json_t *
object_of(const char *type)
{
	json_t *o = json_object();

	if (json_object_set_new(o, "type", json_string(type)) == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* ---- the tables ---------------------------------------------------------------------------------- */

static bool
put_session(struct export *e, sqlite3_stmt *s)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(s, 0);
	struct row_key key = row_key_number(id);
	struct grapnel_str row = sql_bytes(s, 1);
	struct row_author who = { 0 };
	struct row_session session;
	struct row_in in;
	json_t *o = NULL;
	bool good = row_open(&in, row.data, row.len, "session", &key) &&
	    row_get_session(&in, &session, &who);

	if (good && !log_has_session(&e->log, id)) {
		row_author_free(&who);
		return true;
	}
	if (good)
		o = rows_session(id, &session);
	row_author_free(&who);
	return good ? put_line(e, o, o != NULL) : left_out_number(e, "session", id);
}

static bool
put_subscription(struct export *e, sqlite3_stmt *s)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(s, 0);
	struct grapnel_str filter = sql_bytes(s, 1), row = sql_bytes(s, 2);
	struct row_key key = row_key_number_text(id, filter);
	struct row_subscription sub;
	struct row_in in;
	json_t *o;

	if (!log_has_session(&e->log, id))
		return true;
	if (!row_open(&in, row.data, row.len, "subscription", &key) ||
	    !row_get_subscription(&in, &sub))
		return left_out_number(e, "subscription of session", id);
	o = object_of("subscription");
	return put_line(e, o,
	    o != NULL && json_put_number(o, "session", id) && json_put_text(o, "filter", filter) &&
		json_put_number(o, "qos", sub.qos) &&
		(sub.id == 0 || json_put_number(o, "subscription_id", sub.id)) &&
		(sub.retain_handling == 0 ||
		    json_put_number(o, "retain_handling", sub.retain_handling)) &&
		json_put_flag(o, "no_local", sub.no_local) &&
		json_put_flag(o, "retain_as_published", sub.retain_as_published) &&
		json_put_flag(o, "wild_first", sub.wild_first));
}

static bool
put_received(json_t *o, struct row_in *in, const struct row_exchange *x)
{
	json_t *array = json_array();

	if (json_object_set_new(o, "received", array) != 0)
		return false;
	for (uint32_t i = 0; i < x->received_count; i++)
		if (json_array_append_new(array, json_integer(row_get_number(in) & UINT16_MAX)) !=
		    0)
			return false;
	return true;
}

static bool
put_sent(json_t *o, struct row_in *in, const struct row_exchange *x)
{
	json_t *array = json_array(), *one;

	if (json_object_set_new(o, "sent", array) != 0)
		return false;
	for (uint32_t i = 0; i < x->sent_count; i++) {
		uint64_t packet = row_get_number(in), state = row_get_number(in),
			 address = row_get_number(in);

		one = json_object();
		if (json_array_append_new(array, one) != 0 ||
		    !json_put_number(one, "packet_id", packet & UINT16_MAX) ||
		    json_object_set_new(one, "state",
			json_string(state == EXCHANGE_SENT ? "sent" : "released")) != 0 ||
		    (state == EXCHANGE_SENT && !json_put_number(one, "message", address)))
			return false;
	}
	return true;
}

static bool
put_exchange(struct export *e, sqlite3_stmt *s)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(s, 0);
	struct row_key key = row_key_number(id);
	struct grapnel_str row = sql_bytes(s, 1);
	struct row_exchange x;
	struct row_in in;
	json_t *o;
	bool good;

	if (!log_has_session(&e->log, id))
		return true;
	if (!row_open(&in, row.data, row.len, "exchange", &key) || !row_get_exchange(&in, &x))
		return left_out_number(e, "exchange", id);
	o = object_of("exchange");
	good = o != NULL && json_put_number(o, "session", id) &&
	    json_put_number(o, "confirmed", x.confirmed) && put_received(o, &in, &x) &&
	    put_sent(o, &in, &x);
	if (!in.bad)
		return put_line(e, o, good);
	json_decref(o);
	return left_out_number(e, "exchange", id);
}

static bool
put_retained(struct export *e, sqlite3_stmt *s)
{
	struct grapnel_str topic = sql_bytes(s, 0), row = sql_bytes(s, 1);
	struct row_key key = row_key_text(topic);
	struct row_author author = { 0 };
	struct row_message m;
	uint64_t seq = 0;
	struct row_in in;
	json_t *o = NULL;
	char name[129];
	bool good;

	snprintf(name, sizeof(name), "%.*s", topic.len < 128 ? (int)topic.len : 128,
	    topic.data != NULL ? topic.data : "");
	good = row_open(&in, row.data, row.len, "retained", &key);
	if (good) {
		seq = row_get_number(&in);
		good = row_get_message(&in, &m, &author);
	}
	if (!good || m.payload.len == 0) { /* that says that there is none any more */
		row_author_free(&author);
		return good || left_out(e, "retained", name);
	}
	o = object_of("retained");
	good = o != NULL && json_put_number(o, "seq", seq) && rows_put_message(o, &m, true);
	row_author_free(&author);
	return put_line(e, o, good);
}

static bool
put_ban(struct export *e, sqlite3_stmt *s)
{
	struct grapnel_str address = sql_bytes(s, 0), row = sql_bytes(s, 1);
	struct row_key key = row_key_text(address);
	struct row_ban ban;
	struct row_in in;
	json_t *o;

	if (!row_open(&in, row.data, row.len, "ban", &key) || !row_get_ban(&in, &ban))
		return left_out(e, "ban", (const char *)sqlite3_column_text(s, 0));
	o = object_of("ban");
	return put_line(e, o,
	    o != NULL && json_put_text(o, "address", address) &&
		json_put_time(o, "until", &ban.until) && json_put_number(o, "bans", ban.bans));
}

static bool
put_value(struct export *e, sqlite3_stmt *s)
{
	struct grapnel_str plugin = sql_bytes(s, 0), name = sql_bytes(s, 1), row = sql_bytes(s, 2);
	struct row_out scratch = { 0 };
	struct row_key key = row_key_text_text(plugin, name, &scratch);
	struct row_in in;
	bool good = row_open(&in, row.data, row.len, "kv", &key);
	json_t *o;

	row_free(&scratch);
	if (!good)
		return left_out(e, "value of plugin", (const char *)sqlite3_column_text(s, 0));
	o = object_of("value");
	return put_line(e, o,
	    o != NULL && json_put_text(o, "plugin", plugin) && json_put_text(o, "key", name) &&
		json_put_text(o, "value",
		    (struct grapnel_str){ (const char *)in.at, (size_t)(in.end - in.at) }));
}

static bool
each(struct export *e, const char *sql, bool (*put)(struct export *e, sqlite3_stmt *s))
{
	sqlite3_stmt *s = sql_prepare(e->db, sql, e->error);
	bool good = true;
	int rc = SQLITE_DONE;

	if (s == NULL)
		return false;
	while (good && (rc = sqlite3_step(s)) == SQLITE_ROW)
		good = put(e, s);
	if (good && rc != SQLITE_DONE) {
		snprintf(e->error, sizeof(e->error),
		    "the store cannot be read: %s; "
		    "\"grapnelctl store check\" says more",
		    sqlite3_errmsg(e->db));
		good = false;
	}
	sqlite3_finalize(s);
	return good;
}

/* ---- the log -------------------------------------------------------------------------------------- */

static bool
put_receiver(json_t *array, const struct row_receiver *r)
{
	json_t *o = json_object(), *ids;

	if (json_array_append_new(array, o) != 0 || !json_put_number(o, "session", r->session) ||
	    !json_put_number(o, "qos", r->qos) || !json_put_flag(o, "retain", r->retain))
		return false;
	if (r->id_count == 0)
		return true;
	ids = json_array();
	if (json_object_set_new(o, "subscription_ids", ids) != 0)
		return false;
	for (uint32_t i = 0; i < r->id_count; i++)
		if (json_array_append_new(ids, json_integer(r->ids[i])) != 0)
			return false;
	return true;
}

static bool
on_message(uint64_t address, const struct row_message *m, const struct row_receiver *waiting,
    size_t count, void *arg)
{
	struct export *e = arg;
	json_t *o = object_of("message"), *array = json_array();
	bool good = o != NULL && json_put_number(o, "id", address) && rows_put_message(o, m, true);

	if (good)
		good = json_object_set_new(o, "receivers", array) == 0;
	else
		json_decref(array);
	for (size_t i = 0; good && i < count; i++)
		good = put_receiver(array, &waiting[i]);
	return put_line(e, o, good);
}

/* ---- all of it ------------------------------------------------------------------------------------- */

static bool
put_header(struct export *e)
{
	sqlite3_stmt *s =
	    sql_prepare(e->db, "SELECT value FROM meta WHERE name = 'program'", e->error);
	json_t *o = object_of("grapnel-store");
	struct grapnel_str program = { NULL, 0 };
	struct timespec now;
	bool good;

	if (s == NULL) {
		json_decref(o);
		return false;
	}
	if (sqlite3_step(s) == SQLITE_ROW)
		program = sql_bytes(s, 0);
	clock_gettime(CLOCK_REALTIME, &now);
	good = o != NULL && json_put_number(o, "format", STORE_EXPORT_FORMAT) &&
	    json_put_number(o, "schema", store_meta(e->db, "schema")) &&
	    json_put_text(o, "program", program) &&
	    json_put_number(
		o, "time_ms", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000) &&
	    json_put_number(o, "alive_ms", store_meta(e->db, "alive"));
	sqlite3_finalize(s);
	return put_line(e, o, good);
}

static bool
put_all(struct export *e)
{
	json_t *end;

	if (!sql_run(e->db, "BEGIN", e->error) ||
	    !log_open(&e->log, e->db, on_fault, e, e->error) || !put_header(e) ||
	    !each(e, "SELECT id, row FROM session ORDER BY id", put_session) ||
	    !each(e, "SELECT session, filter, row FROM subscription ORDER BY session, filter",
		put_subscription) ||
	    !each(e, "SELECT session, row FROM exchange ORDER BY session", put_exchange) ||
	    !each(e, "SELECT topic, row FROM retained ORDER BY topic", put_retained) ||
	    !log_each(&e->log, on_message, NULL, e, e->error) ||
	    !each(e, "SELECT address, row FROM ban ORDER BY address", put_ban) ||
	    !each(e, "SELECT plugin, key, row FROM kv ORDER BY plugin, key", put_value))
		return false;
	end = object_of("end");
	return put_line(e, end, end != NULL && json_put_number(end, "lines", e->lines)) &&
	    sql_run(e->db, "COMMIT", e->error);
}

static bool
finish(struct export *e, bool file)
{
	bool good = fflush(e->out) == 0 && !ferror(e->out) && (!file || fsync(fileno(e->out)) == 0);

	if (!good)
		snprintf(e->error, sizeof(e->error), "it cannot be written: %s", strerror(errno));
	return good;
}

enum ctl_exit
store_export(const struct store_args *a)
{
	struct export e = { .args = a, .out = stdout };
	const char *file = a->file != NULL && strcmp(a->file, "-") != 0 ? a->file : NULL;
	int fd;
	bool good;

	if (store_file_read(&e.db, a->directory, e.error) != GRAPNEL_OK)
		return store_error(a, "%s", e.error);
	if (file != NULL) {
		fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd < 0 || (e.out = fdopen(fd, "w")) == NULL) {
			sqlite3_close(e.db);
			return store_error(a, "%s cannot be made: %s%s", file, strerror(errno),
			    errno == EEXIST ? "; name a file that does not exist yet" : "");
		}
	}
	errno = 0;
	good = put_all(&e) && finish(&e, file != NULL);
	e.damaged += e.log.damaged;
	log_close(&e.log);
	if (file != NULL) {
		(void)fclose(e.out);
		if (!good)
			(void)unlink(file);
	}
	sqlite3_close(e.db);
	if (!good)
		return store_error(a, "%s", e.error);
	if (e.damaged == 0)
		return CTL_OK;
	return store_error(
	    a, "%" PRIu64 " rows are damaged and were left out; all others are there", e.damaged);
}
