/* SPDX-License-Identifier: Apache-2.0 */
#include "store_moved.h"

#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FAR_AWAY (INT64_MAX / 2000) /* later than any clock */

bool
moved_each(struct moved *m, const char *sql, bool (*fn)(struct moved *m, sqlite3_stmt *s))
{
	sqlite3_stmt *s = sql_prepare(m->db, sql, m->error);
	bool good = true;
	int rc = SQLITE_DONE;

	if (s == NULL)
		return false;
	while (good && (rc = sqlite3_step(s)) == SQLITE_ROW)
		good = fn(m, s);
	if (good && rc != SQLITE_DONE) {
		snprintf(
		    m->error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(m->db));
		good = false;
	}
	sqlite3_finalize(s);
	return good;
}

static bool
written(struct moved *m, bool good)
{
	if (!good)
		memcpy(m->error, m->write->error, STORE_ERROR);
	return good;
}

static struct row_time
time_of(const struct moved *m, int64_t ends)
{
	if (ends > FAR_AWAY)
		ends = FAR_AWAY;
	return (struct row_time){ .set = true,
		.wall_ms = (uint64_t)ends * 1000,
		.left_ms = (uint64_t)(ends - m->now) * 1000 };
}

static bool
put_session(struct moved *m, sqlite3_stmt *s)
{
	struct row_session session = { 0 };
	uint64_t n = (uint64_t)sqlite3_column_int64(s, 0);
	int64_t ends = sqlite3_column_int64(s, 4);
	char sql[80];

	session.expiry = (uint32_t)sqlite3_column_int64(s, 3);
	session.who = (struct grapnel_client_info){ .size = sizeof(session.who),
		.client_id = sql_bytes(s, 1),
		.username = sql_bytes(s, 2),
		.mountpoint = GRAPNEL_STR(""),
		.listener = GRAPNEL_STR(""),
		.peer = GRAPNEL_STR(""),
		.anonymous = sqlite3_column_type(s, 2) == SQLITE_NULL };
	/* Version 5 says 0 of sessions of MQTT 3.1.1, too, which do not end. */
	if (session.expiry == 0 && m->version < 6)
		session.expiry = UINT32_MAX;
	if (session.expiry == 0 && ends == 0) {
		m->notes[SESSIONS_ENDED]++;
		return true;
	}
	session.who.protocol = session.expiry == UINT32_MAX ? GRAPNEL_MQTT_3_1_1 : GRAPNEL_MQTT_5_0;
	if (session.expiry != UINT32_MAX) {
		if (ends <= 0)
			ends = m->now + session.expiry;
		if (ends <= m->now) {
			m->notes[SESSIONS_EXPIRED]++;
			return true;
		}
		session.expires = time_of(m, ends);
	}
	snprintf(sql, sizeof(sql), "UPDATE temp.m_client SET there = 1 WHERE n = %" PRIu64, n);
	return written(m, write_session(m->write, n, &session)) && sql_run(m->db, sql, m->error);
}

static bool
put_subscription(struct moved *m, sqlite3_stmt *s)
{
	struct grapnel_str filter = sql_bytes(s, 1);
	struct row_subscription sub = { .id = (uint32_t)sqlite3_column_int64(s, 2),
		.qos = (uint8_t)sqlite3_column_int(s, 3),
		.no_local = sqlite3_column_int(s, 4) != 0,
		.retain_as_published = sqlite3_column_int(s, 5) != 0 };

	if (sub.id > WIRE_VARINT_MAX || !utf8_valid(filter.data, filter.len) ||
	    !topic_filter_valid(filter, NULL, NULL)) {
		m->notes[SUBSCRIPTIONS_REFUSED]++;
		return true;
	}
	return written(
	    m, write_subscription(m->write, (uint64_t)sqlite3_column_int64(s, 0), filter, &sub));
}

/* Properties as they stand in a packet, their length in front, without it. false: they are not that. */
static bool
strip(struct grapnel_str in, struct grapnel_str *out)
{
	struct wire w;

	*out = (struct grapnel_str){ NULL, 0 };
	if (in.len == 0)
		return true;
	wire_init(&w, in.data, in.len);
	*out = wire_get_block(&w, wire_get_varint(&w));
	return w.err == 0 && wire_left(&w) == 0;
}

/* From the columns topic, payload, props, qos, retain, ends, source, username on. false: it has expired or cannot be used. */
static bool
take_message(struct moved *m, sqlite3_stmt *s, int at, struct row_message *g)
{
	int64_t ends = sqlite3_column_int64(s, at + 5);
	struct grapnel_str source = sql_bytes(s, at + 6);

	*g = (struct row_message){ .topic = sql_bytes(s, at),
		.payload = sql_bytes(s, at + 1),
		.qos = (uint8_t)sqlite3_column_int(s, at + 3),
		.retain = sqlite3_column_int(s, at + 4) != 0 };
	if (ends > 0 && ends <= m->now) {
		m->notes[MESSAGES_EXPIRED]++;
		return false;
	}
	if (!strip(sql_bytes(s, at + 2), &g->props) ||
	    rows_check_message(g, &m->props, NULL) != NULL) {
		m->notes[MESSAGES_REFUSED]++;
		return false;
	}
	if (ends > 0)
		g->expires = time_of(m, ends);
	g->has_author = source.data != NULL;
	g->author = (struct grapnel_client_info){ .size = sizeof(g->author),
		.client_id = source,
		.username = sql_bytes(s, at + 7),
		.mountpoint = GRAPNEL_STR(""),
		.listener = GRAPNEL_STR(""),
		.peer = GRAPNEL_STR("") };
	return true;
}

static bool
put_retained(struct moved *m, sqlite3_stmt *s)
{
	struct row_message g;

	if (!take_message(m, s, 1, &g) || g.payload.len == 0)
		return true;
	g.retain = true;
	return written(m, write_retained(m->write, (uint64_t)sqlite3_column_int64(s, 0), &g));
}

/* ---- exchanges ----------------------------------------------------------------------------------- */

static bool
came_in(sqlite3_stmt *s)
{
	return sqlite3_column_int(s, 3) == 0;
}

/* All rows of one client: packet, state, grp, out. */
static bool
put_exchange(struct moved *m, sqlite3_stmt *clients)
{
	sqlite3_stmt *s = sql_prepare(m->db,
	    "SELECT packet, state, grp, out FROM temp.m_queued WHERE client = ?1 AND packet > 0"
	    " AND qos > 0 ORDER BY n",
	    m->error);
	uint16_t *received = calloc(65536, sizeof(*received));
	struct write_sent *sent = calloc(65536, sizeof(*sent));
	size_t received_count = 0, sent_count = 0;
	bool good = s != NULL && received != NULL && sent != NULL;

	if (s != NULL && !good)
		snprintf(m->error, STORE_ERROR, "no memory");
	if (good)
		sql_bind_bytes(s, 1, sql_bytes(clients, 1));
	while (good && sqlite3_step(s) == SQLITE_ROW) {
		int state = sqlite3_column_int(s, 1);
		uint16_t packet = (uint16_t)sqlite3_column_int(s, 0);

		if (received_count == UINT16_MAX || sent_count == UINT16_MAX)
			break; /* then one is there twice, and the file is refused below */
		if (came_in(s)) {
			if (state != MOSQUITTO_RESEND_PUBCOMP)
				received[received_count++] = packet;
		} else if (state == MOSQUITTO_RESEND_PUBREL || state == MOSQUITTO_WAIT_PUBCOMP) {
			sent[sent_count++] = (struct write_sent){ packet, EXCHANGE_RELEASED, 0 };
		} else if (state != MOSQUITTO_QUEUED) {
			sent[sent_count++] = (struct write_sent){ packet, EXCHANGE_SENT,
				(uint64_t)sqlite3_column_int64(s, 2) };
		}
	}
	sqlite3_finalize(s);
	if (good && received_count + sent_count > 0)
		good = written(m,
		    write_exchange(m->write, (uint64_t)sqlite3_column_int64(clients, 0), 0,
			received, received_count, sent, sent_count));
	free(received);
	free(sent);
	return good;
}

/* ---- messages ------------------------------------------------------------------------------------- */

static bool
more_receivers(struct moved *m, size_t count)
{
	size_t wanted = m->room == 0 ? 64 : m->room * 2;
	struct row_receiver *r;
	struct rows_ids *ids;

	if (count < m->room)
		return true;
	r = realloc(m->receivers, wanted * sizeof(*r));
	if (r != NULL)
		m->receivers = r;
	ids = realloc(m->ids, wanted * sizeof(*ids));
	if (ids != NULL)
		m->ids = ids;
	if (r == NULL || ids == NULL) {
		snprintf(m->error, STORE_ERROR, "no memory");
		return false;
	}
	m->room = wanted;
	return true;
}

/* Of one group: client's n, qos, retain, props. */
static bool
take_receivers(struct moved *m, sqlite3_stmt *s, const struct row_message *g, size_t *count)
{
	int rc;

	*count = 0;
	while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
		struct row_message dummy = { .topic = g->topic };
		struct rows_ids *ids;

		if (!more_receivers(m, *count))
			return false;
		ids = &m->ids[*count];
		ids->count = 0;
		if (!strip(sql_bytes(s, 3), &dummy.props) ||
		    rows_check_message(&dummy, &m->scratch, ids) != NULL)
			ids->count = 0; /* it is delivered all the same */
		m->receivers[*count] =
		    (struct row_receiver){ .session = (uint64_t)sqlite3_column_int64(s, 0),
			    .qos = (uint8_t)sqlite3_column_int(s, 1),
			    .retain = sqlite3_column_int(s, 2) != 0,
			    .id_count = ids->count };
		++*count;
	}
	for (size_t i = 0; i < *count; i++) /* the array may have moved */
		m->receivers[i].ids = m->ids[i].ids;
	if (rc != SQLITE_DONE)
		snprintf(
		    m->error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(m->db));
	return rc == SQLITE_DONE;
}

static bool
put_message(struct moved *m, sqlite3_stmt *s)
{
	sqlite3_stmt *rows;
	struct row_message g;
	size_t count;
	bool good;

	if (!take_message(m, s, 1, &g))
		return true;
	rows = sql_prepare(m->db,
	    "SELECT m_client.n, m_queued.qos, retain, props FROM temp.m_queued"
	    " JOIN temp.m_client ON m_client.id = client AND there"
	    " WHERE grp = ?1 AND out AND message = ?2 AND state NOT IN (6, 9) ORDER BY m_queued.n",
	    m->error);
	if (rows == NULL)
		return false;
	sqlite3_bind_int64(rows, 1, sqlite3_column_int64(s, 0));
	sqlite3_bind_int64(rows, 2, sqlite3_column_int64(s, 9));
	good = take_receivers(m, rows, &g, &count);
	sqlite3_finalize(rows);
	if (!good || count == 0)
		return good;
	return written(m,
	    write_message(m->write, (uint64_t)sqlite3_column_int64(s, 0), &g, m->receivers, count));
}

/* ---- all of it ------------------------------------------------------------------------------------ */

bool
moved_rows(struct moved *m)
{
	return moved_each(m, "SELECT n, id, username, expiry, ends FROM temp.m_client ORDER BY n",
		   put_session) &&
	    moved_each(m,
		"SELECT m_client.n, filter, m_subscription.id, qos, no_local, as_published"
		" FROM temp.m_subscription JOIN temp.m_client ON m_client.id = client AND there"
		" ORDER BY m_client.n, m_subscription.n",
		put_subscription) &&
	    moved_each(m,
		"SELECT n, id FROM temp.m_client WHERE there AND id IN (SELECT client FROM"
		" temp.m_queued) ORDER BY n",
		put_exchange) &&
	    moved_each(m,
		"SELECT n, m_message.topic, payload, props, qos, retain, ends, source, username"
		" FROM temp.m_retained JOIN temp.m_message ON id = message ORDER BY n",
		put_retained) &&
	    moved_each(m,
		"SELECT DISTINCT grp, topic, payload, m_message.props, m_message.qos,"
		" m_message.retain, ends, source, username, id"
		" FROM temp.m_message JOIN temp.m_queued ON message = id AND out ORDER BY id, copy",
		put_message);
}

void
moved_rows_free(struct moved *m)
{
	free(m->receivers);
	free(m->ids);
	row_free(&m->scratch);
	row_free(&m->props);
}
