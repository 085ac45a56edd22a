/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came in with QoS 2 and was not released has not been routed by Mosquitto, but would have been by us: it is routed here,
 * among the subscriptions of the file, and its Packet Identifier kept, so that the release that comes finds its message delivered.
 */
#include "store_moved.h"

#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include <string.h>
#include <time.h>

static const char temporary[] =
    "CREATE TEMP TABLE m_client(n INTEGER PRIMARY KEY, id BLOB UNIQUE, username BLOB, expiry "
    "INTEGER,"
    " ends INTEGER, there INTEGER DEFAULT 0);"
    "CREATE TEMP TABLE m_message(id INTEGER PRIMARY KEY, topic BLOB, payload BLOB, props BLOB,"
    " qos INTEGER, retain INTEGER, ends INTEGER, source BLOB, username BLOB);"
    "CREATE TEMP TABLE m_queued(n INTEGER PRIMARY KEY, message INTEGER, copy INTEGER, grp INTEGER,"
    " client BLOB, props BLOB, packet INTEGER, qos INTEGER, state INTEGER, retain INTEGER,"
    " out INTEGER);"
    "CREATE INDEX temp.m_by_message ON m_queued(message, copy);"
    "CREATE INDEX temp.m_by_client ON m_queued(client);"
    "CREATE TEMP TABLE m_subscription(n INTEGER PRIMARY KEY, client BLOB, filter BLOB, id INTEGER,"
    " qos INTEGER, no_local INTEGER, as_published INTEGER, UNIQUE(client, filter));"
    "CREATE TEMP TABLE m_retained(n INTEGER PRIMARY KEY, message INTEGER, topic BLOB UNIQUE);";

static const char *const texts[] = {
	[PUT_CLIENT] = "INSERT OR IGNORE INTO temp.m_client(id, username, expiry, ends)"
		       " VALUES(?1, ?2, ?3, ?4)",
	[PUT_MESSAGE] =
	    "INSERT OR IGNORE INTO temp.m_message VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[FIND_COPY] =
	    "SELECT count(*) FROM temp.m_queued WHERE message = ?1 AND client = ?2 AND out",
	[FIND_GROUP] =
	    "SELECT grp FROM temp.m_queued WHERE message = ?1 AND copy = ?2 AND out LIMIT 1",
	[PUT_QUEUED] =
	    "INSERT INTO temp.m_queued(message, copy, grp, client, props, packet, qos, state,"
	    " retain, out) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
	[PUT_SUBSCRIPTION] =
	    "INSERT OR IGNORE INTO temp.m_subscription(client, filter, id, qos, no_local,"
	    " as_published) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[PUT_RETAINED] = "INSERT OR REPLACE INTO temp.m_retained(message, topic)"
			 " SELECT id, topic FROM temp.m_message WHERE id = ?1",
	[DROP_RETAINED] = "DELETE FROM temp.m_retained WHERE topic ="
			  " (SELECT topic FROM temp.m_message WHERE id = ?1)",
};

static const char *const note_names[MOVED_NOTES] = {
	[SESSIONS_EXPIRED] = "sessions_expired",
	[SESSIONS_ENDED] = "sessions_that_ended_with_their_connection",
	[SUBSCRIPTIONS_REFUSED] = "subscriptions_with_a_wrong_filter",
	[MESSAGES_EXPIRED] = "messages_expired",
	[MESSAGES_REFUSED] = "messages_with_a_wrong_topic_or_properties",
	[WITHOUT_MESSAGE] = "queued_or_retained_without_a_message",
	[NAMES_REFUSED] = "user_names_that_are_none",
	[WITHOUT_SESSION] = "subscriptions_and_queued_messages_without_a_session",
};

static bool
run(struct moved *m, unsigned which)
{
	return sql_done(m->statements[which], m->error);
}

static void
bind_optional(sqlite3_stmt *s, int index, struct grapnel_str text)
{
	if (text.data == NULL)
		sqlite3_bind_null(s, index);
	else
		sql_bind_bytes(s, index, text);
}

/* ---- from the file ----------------------------------------------------------------------------- */

static bool
on_client(const struct mosquitto_client *c, void *arg)
{
	struct moved *m = arg;
	sqlite3_stmt *s = m->statements[PUT_CLIENT];
	struct grapnel_str username = c->username;

	/* Mosquitto before 2.0.18 wrote what was behind another client's name for one without a name. */
	if (username.data != NULL && !utf8_valid(username.data, username.len)) {
		username = (struct grapnel_str){ NULL, 0 };
		m->notes[NAMES_REFUSED]++;
	}
	sql_bind_bytes(s, 1, c->id);
	bind_optional(s, 2, username);
	sqlite3_bind_int64(s, 3, c->expiry);
	sqlite3_bind_int64(s, 4, c->expiry_time);
	return run(m, PUT_CLIENT);
}

static bool
on_message(const struct mosquitto_message *g, void *arg)
{
	struct moved *m = arg;
	sqlite3_stmt *s = m->statements[PUT_MESSAGE];

	sqlite3_bind_int64(s, 1, (sqlite3_int64)g->id);
	sql_bind_bytes(s, 2, g->topic);
	sql_bind_bytes(s, 3, g->payload);
	sql_bind_bytes(s, 4, g->props);
	sqlite3_bind_int(s, 5, g->qos);
	sqlite3_bind_int(s, 6, g->retain);
	sqlite3_bind_int64(s, 7, g->expiry_time);
	bind_optional(s, 8, g->source_id);
	bind_optional(s, 9, g->source_username);
	return run(m, PUT_MESSAGE);
}

static bool
one_number(struct moved *m, unsigned which, uint64_t *out)
{
	sqlite3_stmt *s = m->statements[which];
	int rc = sqlite3_step(s);

	*out = rc == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(s, 0) : 0;
	sqlite3_reset(s);
	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return true;
	snprintf(m->error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(m->db));
	return false;
}

/* A message has each receiver once: who has it twice has the second one as a copy of its own. */
static bool
place(struct moved *m, const struct mosquitto_queued *q, uint64_t *copy, uint64_t *group)
{
	sqlite3_stmt *count = m->statements[FIND_COPY], *find = m->statements[FIND_GROUP];

	*copy = *group = 0;
	if (!q->out)
		return true;
	sqlite3_bind_int64(count, 1, (sqlite3_int64)q->message);
	sql_bind_bytes(count, 2, q->client);
	if (!one_number(m, FIND_COPY, copy))
		return false;
	sqlite3_bind_int64(find, 1, (sqlite3_int64)q->message);
	sqlite3_bind_int64(find, 2, (sqlite3_int64)*copy);
	if (!one_number(m, FIND_GROUP, group))
		return false;
	if (*group == 0)
		*group = ++m->groups;
	return true;
}

static bool
on_queued(const struct mosquitto_queued *q, void *arg)
{
	struct moved *m = arg;
	sqlite3_stmt *s = m->statements[PUT_QUEUED];
	uint64_t copy, group;

	if (!place(m, q, &copy, &group))
		return false;
	sqlite3_bind_int64(s, 1, (sqlite3_int64)q->message);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)copy);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)group);
	sql_bind_bytes(s, 4, q->client);
	sql_bind_bytes(s, 5, q->props);
	sqlite3_bind_int(s, 6, q->packet_id);
	sqlite3_bind_int(s, 7, q->qos);
	sqlite3_bind_int(s, 8, q->state);
	sqlite3_bind_int(s, 9, q->retain);
	sqlite3_bind_int(s, 10, q->out);
	return run(m, PUT_QUEUED);
}

static bool
on_subscription(const struct mosquitto_subscription *sub, void *arg)
{
	struct moved *m = arg;
	sqlite3_stmt *s = m->statements[PUT_SUBSCRIPTION];

	sql_bind_bytes(s, 1, sub->client);
	sql_bind_bytes(s, 2, sub->filter);
	sqlite3_bind_int64(s, 3, sub->id);
	sqlite3_bind_int(s, 4, sub->qos);
	sqlite3_bind_int(s, 5, sub->no_local);
	sqlite3_bind_int(s, 6, sub->retain_as_published);
	return run(m, PUT_SUBSCRIPTION);
}

static bool
on_retained(uint64_t message, void *arg)
{
	struct moved *m = arg;

	sqlite3_bind_int64(m->statements[PUT_RETAINED], 1, (sqlite3_int64)message);
	if (!run(m, PUT_RETAINED))
		return false;
	if (sqlite3_changes(m->db) == 0)
		m->notes[WITHOUT_MESSAGE]++;
	return true;
}

/* ---- what is to be routed ------------------------------------------------------------------------ */

/* The subscriptions of ?1 that count: of a shared one the first who has it. */
#define SUBSCRIPTIONS                                                                     \
	"SELECT filter, id, qos, no_local, as_published FROM temp.m_subscription AS mine" \
	" WHERE client = ?1 AND (substr(filter, 1, 7) <> CAST('$share/' AS BLOB) OR n ="  \
	" (SELECT min(n) FROM temp.m_subscription AS other WHERE other.filter = mine.filter))"

/* As packets have them. */
static struct grapnel_str
put_ids(const struct rows_ids *ids, uint8_t block[4 + ROW_IDS_MAX * 5])
{
	struct grapnel_property list[ROW_IDS_MAX];
	uint8_t *p;

	for (uint32_t i = 0; i < ids->count; i++)
		list[i] = (struct grapnel_property){ .id = PROP_SUBSCRIPTION_IDENTIFIER,
			.u.number = ids->ids[i] };
	p = wire_put_varint(block, (uint32_t)mqtt_properties_size(list, ids->count));
	p = mqtt_properties_put(p, list, ids->count);
	return (struct grapnel_str){ (char *)block, (size_t)(p - block) };
}

/* incoming: client, message, topic, retain, empty. */
static void
match(sqlite3_stmt *incoming, sqlite3_stmt *sub, struct mosquitto_queued *q, struct rows_ids *ids)
{
	struct grapnel_str from = sql_bytes(incoming, 0), rest;
	int64_t id = sqlite3_column_int64(sub, 1);
	uint8_t qos = (uint8_t)sqlite3_column_int(sub, 2);

	if (!topic_filter_valid(sql_bytes(sub, 0), NULL, &rest) ||
	    !topic_matches(rest, sql_bytes(incoming, 2)))
		return;
	if (sqlite3_column_int(sub, 3) != 0 && q->client.len == from.len &&
	    memcmp(q->client.data, from.data, from.len) == 0)
		return; /* no_local */
	if (qos > q->qos)
		q->qos = qos;
	if (sqlite3_column_int(sub, 4) != 0 && sqlite3_column_int(incoming, 3) != 0)
		q->retain = true;
	if (id > 0 && id <= WIRE_VARINT_MAX && ids->count < ROW_IDS_MAX)
		ids->ids[ids->count++] = (uint32_t)id;
}

/* However many of its subscriptions match, a client has it once; with QoS 0 it would not have been kept. */
static bool
route_to(struct moved *m, sqlite3_stmt *incoming, struct grapnel_str client)
{
	struct mosquitto_queued q = { .client = client,
		.message = (uint64_t)sqlite3_column_int64(incoming, 1),
		.state = MOSQUITTO_QUEUED,
		.out = true };
	sqlite3_stmt *subs = sql_prepare(m->db, SUBSCRIPTIONS, m->error);
	uint8_t block[4 + ROW_IDS_MAX * 5];
	struct rows_ids ids = { .count = 0 };

	if (subs == NULL)
		return false;
	sql_bind_bytes(subs, 1, client);
	while (sqlite3_step(subs) == SQLITE_ROW)
		match(incoming, subs, &q, &ids);
	sqlite3_finalize(subs);
	if (q.qos == 0)
		return true;
	q.props = put_ids(&ids, block);
	return on_queued(&q, m);
}

static bool
route_retained(struct moved *m, sqlite3_stmt *incoming)
{
	uint64_t message = (uint64_t)sqlite3_column_int64(incoming, 1);

	if (sqlite3_column_int(incoming, 3) == 0)
		return true;
	if (sqlite3_column_int(incoming, 4) == 0)
		return on_retained(message, m);
	sqlite3_bind_int64(m->statements[DROP_RETAINED], 1, (sqlite3_int64)message);
	return run(m, DROP_RETAINED);
}

static bool
route(struct moved *m, sqlite3_stmt *incoming)
{
	sqlite3_stmt *clients =
	    sql_prepare(m->db, "SELECT DISTINCT client FROM temp.m_subscription", m->error);
	bool good = clients != NULL && route_retained(m, incoming);

	while (good && sqlite3_step(clients) == SQLITE_ROW)
		good = route_to(m, incoming, sql_bytes(clients, 0));
	sqlite3_finalize(clients);
	return good;
}

/* Those of before; what is routed comes behind. */
static const char incoming_messages[] =
    "CREATE TEMP TABLE m_incoming AS SELECT m_queued.n AS n, client, message, topic,"
    " m_message.retain AS retain, length(payload) = 0 AS empty"
    " FROM temp.m_queued JOIN temp.m_message ON m_message.id = message"
    " WHERE NOT out AND m_queued.qos = 2 AND state <> 8";

/* ---- all of it ----------------------------------------------------------------------------------- */

static bool
begin(struct moved *m)
{
	if (!sql_run(m->db, temporary, m->error))
		return false;
	for (unsigned i = 0; i < MOVED_STATEMENTS; i++)
		if ((m->statements[i] = sql_prepare(m->db, texts[i], m->error)) == NULL)
			return false;
	return true;
}

static bool
count_lost(struct moved *m)
{
	uint64_t n;

	if (!sql_number(m->db,
		"SELECT count(*) FROM temp.m_queued WHERE message NOT IN (SELECT id FROM"
		" temp.m_message)",
		&n, m->error))
		return false;
	m->notes[WITHOUT_MESSAGE] += n;
	return sql_number(m->db,
	    "SELECT (SELECT count(*) FROM temp.m_queued WHERE client NOT IN (SELECT id FROM"
	    " temp.m_client WHERE there)) + (SELECT count(*) FROM temp.m_subscription WHERE client "
	    "NOT"
	    " IN (SELECT id FROM temp.m_client WHERE there))",
	    &m->notes[WITHOUT_SESSION], m->error);
}

static bool
put_notes(const struct moved *m, json_t *notes)
{
	for (unsigned i = 0; i < MOVED_NOTES; i++)
		if (m->notes[i] > 0 && !json_put_number(notes, note_names[i], m->notes[i])) {
			snprintf(m->error, STORE_ERROR, "no memory");
			return false;
		}
	return true;
}

bool
store_moved(FILE *in, struct store_write *w, json_t *notes, char error[STORE_ERROR])
{
	struct moved m = { .db = w->db, .write = w, .now = time(NULL), .error = error };
	const struct mosquitto_handler handler = { on_client, on_message, on_queued,
		on_subscription, on_retained, &m };
	bool good = begin(&m) && (m.version = mosquitto_read(in, &handler, error)) > 0 &&
	    sql_run(m.db, incoming_messages, error) &&
	    moved_each(&m,
		"SELECT client, message, topic, retain, empty FROM temp.m_incoming ORDER BY n",
		route) &&
	    moved_rows(&m) && count_lost(&m) && put_notes(&m, notes);

	for (unsigned i = 0; i < MOVED_STATEMENTS; i++)
		sqlite3_finalize(m.statements[i]);
	moved_rows_free(&m);
	return good;
}
