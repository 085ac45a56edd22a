/* SPDX-License-Identifier: Apache-2.0 */
#include "store_write.h"

#include "mqtt/wire.h"
#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES (64u << 10)

/* ---- messages ---------------------------------------------------------------------------------- */

bool
write_flush(struct store_write *w)
{
	sqlite3_stmt *put = write_statement(w, LOG_PUT);
	struct row_key key = row_key_number(w->segment);

	if (w->index == 0)
		return true;
	if (!write_seal(w, &w->log, "log", &key))
		return false;
	write_bind(put, 1, w->segment++);
	sql_bind_bytes(put, 2, (struct grapnel_str){ (char *)w->log.data, w->log.len });
	w->index = 0;
	if (!write_done(w, LOG_PUT))
		return false;
	row_clear(&w->log);
	row_clear(&w->last_author);
	return true;
}

static int
by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Those who are in the store, into w->mapped. */
static bool
map_receivers(
    struct store_write *w, const struct row_receiver *receivers, size_t count, size_t *mapped)
{
	uint64_t id;

	*mapped = 0;
	if (count > w->mapped_room) {
		free(w->mapped);
		free(w->seen);
		w->mapped = calloc(count, sizeof(*w->mapped));
		w->seen = calloc(count, sizeof(*w->seen));
		w->mapped_room = w->mapped != NULL && w->seen != NULL ? count : 0;
		if (w->mapped_room == 0)
			return write_refuse(w, "no memory");
	}
	for (size_t i = 0; i < count; i++) {
		if (!write_renamed(w, receivers[i].session, &id))
			return false;
		if (id == 0)
			continue;
		w->seen[*mapped] = id;
		w->mapped[*mapped] = receivers[i];
		w->mapped[(*mapped)++].session = id;
	}
	if (*mapped < 2)
		return true;
	qsort(w->seen, *mapped, sizeof(*w->seen), by_number);
	for (size_t i = 1; i < *mapped; i++)
		if (w->seen[i] == w->seen[i - 1])
			return write_refuse(w, "one session is twice a receiver of this message");
	return true;
}

static bool
same_author(struct store_write *w, const struct row_message *m)
{
	struct row_out last;

	if (!m->has_author)
		return false;
	row_clear(&w->author);
	row_identity(&w->author, &m->author);
	if (w->last_author.len == w->author.len &&
	    memcmp(w->last_author.data, w->author.data, w->author.len) == 0)
		return true;
	last = w->last_author;
	w->last_author = w->author;
	w->author = last;
	return false;
}

bool
write_message(struct store_write *w, uint64_t old, const struct row_message *message,
    const struct row_receiver *receivers, size_t count)
{
	sqlite3_stmt *moved = write_statement(w, MOVED_PUT);
	struct row_record r = { .message = *message };
	const char *why = rows_check_message(&r.message, &w->scratch, NULL);
	uint64_t address;
	size_t mapped, at;

	if (why != NULL)
		return write_refuse(w, "%s", why);
	if (!map_receivers(w, receivers, count, &mapped))
		return false;
	if (mapped == 0)
		return true;
	if ((w->log.len >= SEGMENT_BYTES || w->index > STORE_INDEX_MAX) && !write_flush(w))
		return false;
	r.index = w->index;
	r.receiver_count = mapped;
	row_record_begin(&w->log, &r, same_author(w, &r.message), &at);
	for (size_t i = 0; i < mapped; i++)
		row_receiver(&w->log, &w->mapped[i]);
	row_record_end(&w->log, at);
	if (w->log.failed || w->author.failed)
		return write_refuse(w, "no memory");
	address = store_address(w->segment, w->index++);
	w->counts.messages++;
	if (w->awaited == 0)
		return true;
	write_bind(moved, 1, old);
	write_bind(moved, 2, address);
	return write_done(w, MOVED_PUT);
}

/* A message, not one without payload that waits to be swept. */
static bool
keeps(struct store_write *w, struct grapnel_str topic, bool *there)
{
	sqlite3_stmt *find = write_statement(w, RETAINED_FIND);
	struct row_key key = row_key_text(topic);
	struct row_author author = { 0 };
	struct row_message m;
	struct row_in in;

	*there = false;
	sql_bind_bytes(find, 1, topic);
	if (sqlite3_step(find) == SQLITE_ROW) {
		struct grapnel_str row = sql_bytes(find, 0);

		if (row_open(&in, row.data, row.len, "retained", &key)) {
			(void)row_get_number(&in);
			*there = row_get_message(&in, &m, &author) && m.payload.len > 0;
		}
	}
	row_author_free(&author);
	return sqlite3_reset(find) == SQLITE_OK ? true
						: write_refuse(w, "the store cannot be read");
}

bool
write_retained(struct store_write *w, uint64_t seq, const struct row_message *message)
{
	sqlite3_stmt *put = write_statement(w, RETAINED_PUT);
	struct row_message m = *message;
	struct row_key key = row_key_text(m.topic);
	const char *why = rows_check_message(&m, &w->scratch, NULL);
	bool there;

	if (why != NULL)
		return write_refuse(w, "%s", why);
	if (m.payload.len == 0)
		return write_refuse(w, "a retained message has a payload");
	if (seq > INT64_MAX - w->seq_base)
		return write_refuse(w, "\"seq\" is too large");
	if (!keeps(w, m.topic, &there))
		return false;
	if (there && !w->merge)
		return write_refuse(w, "there is a retained message of this topic above");
	if (there && !w->replace) {
		w->counts.retained_kept++;
		return true;
	}
	row_clear(&w->row);
	row_number(&w->row, w->seq_base + seq);
	row_message(&w->row, &m, false);
	if (!write_seal(w, &w->row, "retained", &key))
		return false;
	sql_bind_bytes(put, 1, m.topic);
	write_bind(put, 2, w->seq_base + seq);
	sql_bind_bytes(put, 3, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	w->counts.retained++;
	return write_done(w, RETAINED_PUT);
}

/* ---- bans and values ------------------------------------------------------------------------------ */

bool
write_ban(struct store_write *w, struct grapnel_str address, const struct row_ban *b)
{
	sqlite3_stmt *put = write_statement(w, BAN_PUT);
	struct row_key key = row_key_text(address);

	if (address.len == 0 || !utf8_valid(address.data, address.len))
		return write_refuse(w, "this is no address");
	row_clear(&w->row);
	row_ban(&w->row, b);
	if (!write_seal(w, &w->row, "ban", &key))
		return false;
	sqlite3_bind_text64(put, 1, address.data, address.len, SQLITE_STATIC, SQLITE_UTF8);
	sql_bind_bytes(put, 2, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	write_bind(put, 3, !w->merge || w->replace);
	w->counts.bans++;
	return write_done(w, BAN_PUT);
}

bool
write_value(struct store_write *w, struct grapnel_str plugin, struct grapnel_str name,
    struct grapnel_str value)
{
	sqlite3_stmt *put = write_statement(w, VALUE_PUT);
	struct row_key key;

	if (plugin.len == 0 || !utf8_valid(plugin.data, plugin.len))
		return write_refuse(w, "this is no name of a plugin");
	key = row_key_text_text(plugin, name, &w->scratch);
	row_clear(&w->row);
	row_bytes(&w->row, value.data, value.len);
	if (w->scratch.failed || !write_seal(w, &w->row, "kv", &key))
		return write_refuse(w, "no memory");
	sqlite3_bind_text64(put, 1, plugin.data, plugin.len, SQLITE_STATIC, SQLITE_UTF8);
	sql_bind_bytes(put, 2, name);
	sql_bind_bytes(put, 3, (struct grapnel_str){ (char *)w->row.data, w->row.len });
	write_bind(put, 4, !w->merge || w->replace);
	w->counts.values++;
	return write_done(w, VALUE_PUT);
}
