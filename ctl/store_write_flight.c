/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in flight names messages that come later in the file: it waits in temporary tables until the end.
 */
#include "store_write.h"

#include <string.h>

static bool
stage_sent(struct store_write *w, uint64_t id, size_t n, const struct write_sent *one)
{
	sqlite3_stmt *put = write_statement(w, SENT_PUT), *await = write_statement(w, AWAITED_PUT);

	if (one->state == EXCHANGE_SENT) {
		write_bind(await, 1, one->message);
		w->awaited++;
		if (!write_done(w, AWAITED_PUT))
			return false;
	}
	write_bind(put, 1, id);
	write_bind(put, 2, n);
	write_bind(put, 3, one->packet_id);
	write_bind(put, 4, one->state);
	write_bind(put, 5, one->message);
	return write_done(w, SENT_PUT);
}

/* Each Packet Identifier once. */
static bool
once(struct store_write *w, uint8_t seen[8192], uint16_t packet)
{
	uint8_t bit = (uint8_t)(1u << (packet & 7u));

	if (packet == 0 || seen[packet >> 3] & bit)
		return write_refuse(w, "Packet Identifier %u is there twice, or 0", packet);
	seen[packet >> 3] |= bit;
	return true;
}

static bool
check_packets(struct store_write *w, const uint16_t *received, size_t received_count,
    const struct write_sent *sent, size_t sent_count)
{
	uint8_t in[8192] = { 0 }, out[8192] = { 0 };

	for (size_t i = 0; i < received_count; i++)
		if (!once(w, in, received[i]))
			return false;
	for (size_t i = 0; i < sent_count; i++)
		if (!once(w, out, sent[i].packet_id))
			return false;
	return true;
}

bool
write_exchange(struct store_write *w, uint64_t old, uint64_t confirmed, const uint16_t *received,
    size_t received_count, const struct write_sent *sent, size_t sent_count)
{
	sqlite3_stmt *put = write_statement(w, FLIGHT_PUT);
	uint64_t id;

	if (!write_renamed(w, old, &id))
		return false;
	if (!check_packets(w, received, received_count, sent, sent_count))
		return false;
	if (id == 0)
		return true;
	write_bind(put, 1, id);
	write_bind(put, 2, confirmed);
	sql_bind_bytes(put, 3,
	    (struct grapnel_str){ (const char *)received, received_count * sizeof(*received) });
	if (!write_done(w, FLIGHT_PUT))
		return false;
	if (sqlite3_changes(w->db) == 0)
		return write_refuse(w, "there is an exchange of this session above");
	for (size_t i = 0; i < sent_count; i++)
		if (!stage_sent(w, id, i, &sent[i]))
			return false;
	return true;
}

/* What went out, behind what came in, in w->scratch. */
static bool
put_sent(struct store_write *w, sqlite3_stmt *sent, uint64_t id, uint32_t *count)
{
	int rc;

	*count = 0;
	write_bind(sent, 1, id);
	while ((rc = sqlite3_step(sent)) == SQLITE_ROW) {
		bool waits = sqlite3_column_int(sent, 1) == EXCHANGE_SENT;

		if (waits && sqlite3_column_type(sent, 2) == SQLITE_NULL) {
			w->counts.lost++;
			continue;
		}
		row_number(&w->scratch, (uint64_t)sqlite3_column_int64(sent, 0));
		row_number(&w->scratch, (uint64_t)sqlite3_column_int64(sent, 1));
		row_number(&w->scratch, waits ? (uint64_t)sqlite3_column_int64(sent, 2) : 0);
		++*count;
	}
	sqlite3_reset(sent);
	return rc == SQLITE_DONE ? true : write_refuse(w, "%s", sqlite3_errmsg(w->db));
}

static bool
put_exchange(struct store_write *w, sqlite3_stmt *flight, sqlite3_stmt *sent)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(flight, 0);
	struct row_exchange x = { .confirmed = (uint64_t)sqlite3_column_int64(flight, 1) };
	struct grapnel_str received = sql_bytes(flight, 2);
	struct row_key key = row_key_number(id);
	sqlite3_stmt *put = write_statement(w, EXCHANGE_PUT);

	x.received_count = (uint32_t)(received.len / sizeof(uint16_t));
	row_clear(&w->scratch);
	for (uint32_t i = 0; i < x.received_count; i++) {
		uint16_t one;

		memcpy(&one, received.data + i * sizeof(one), sizeof(one));
		row_number(&w->scratch, one);
	}
	if (!put_sent(w, sent, id, &x.sent_count))
		return false;
	row_clear(&w->row);
	row_exchange(&w->row, &x);
	row_bytes(&w->row, w->scratch.data, w->scratch.len);
	if (w->scratch.failed || !write_seal(w, &w->row, "exchange", &key))
		return write_refuse(w, "no memory");
	write_bind(put, 1, id);
	sql_bind_bytes(put, 2, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	return write_done(w, EXCHANGE_PUT);
}

bool
write_flights(struct store_write *w)
{
	sqlite3_stmt *flight = sql_prepare(w->db, "SELECT * FROM temp.flight", w->error);
	sqlite3_stmt *sent = sql_prepare(w->db,
	    "SELECT packet, state, address FROM temp.sent LEFT JOIN temp.moved ON moved.old = "
	    "sent.old"
	    " WHERE session = ?1 ORDER BY n",
	    w->error);
	bool good = flight != NULL && sent != NULL;
	int rc = SQLITE_DONE;

	while (good && (rc = sqlite3_step(flight)) == SQLITE_ROW)
		good = put_exchange(w, flight, sent);
	if (good && rc != SQLITE_DONE)
		good = write_refuse(w, "%s", sqlite3_errmsg(w->db));
	sqlite3_finalize(flight);
	sqlite3_finalize(sent);
	return good;
}
