/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encode - from a batch to rows, in the writer's transaction; and what is known of segments once they are on the disk
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- statements --------------------------------------------------------------------------------- */

static int
run(sqlite3_stmt *q)
{
	int rc = sqlite3_step(q);

	(void)sqlite3_reset(q);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static void
bind_blob(sqlite3_stmt *q, int at, const void *data, size_t len)
{
	if (len == 0)
		(void)sqlite3_bind_zeroblob(q, at, 0);
	else
		(void)sqlite3_bind_blob64(q, at, data, len, SQLITE_STATIC);
}

static int
run_id(struct store *st, enum statement which, uint64_t id)
{
	(void)sqlite3_bind_int64(st->st[which], 1, (sqlite3_int64)id);
	return run(st->st[which]);
}

/* ---- small rows ----------------------------------------------------------------------------------- */

static int
write_row(struct store *st, enum batch_table table, bool goes, uint64_t id, struct grapnel_str text,
    struct grapnel_str row)
{
	static const struct {
		enum statement put, goes;
		const char *name;
	} tables[] = {
		[BATCH_SESSION] = { ST_SESSION, ST_SESSION_GOES, "session" },
		[BATCH_SUBSCRIPTION] = { ST_SUBSCRIPTION, ST_SUBSCRIPTION_GOES, "subscription" },
		[BATCH_EXCHANGE] = { ST_EXCHANGE, ST_EXCHANGE_GOES, "exchange" },
		[BATCH_BAN] = { ST_BAN, ST_BAN_GOES, "ban" },
		[BATCH_VALUE] = { ST_VALUE, ST_VALUE_GOES, "kv" },
	};
	sqlite3_stmt *q = st->st[goes ? tables[table].goes : tables[table].put];
	struct row_key key;
	int n = 1, rc;

	switch (table) {
	case BATCH_SESSION:
	case BATCH_EXCHANGE:
		(void)sqlite3_bind_int64(q, n++, (sqlite3_int64)id);
		key = row_key_number(id);
		break;
	case BATCH_SUBSCRIPTION:
		(void)sqlite3_bind_int64(q, n++, (sqlite3_int64)id);
		bind_blob(q, n++, text.data, text.len);
		key = row_key_number_text(id, text);
		break;
	case BATCH_BAN:
		(void)sqlite3_bind_text64(q, n++, text.data, text.len, SQLITE_STATIC, SQLITE_UTF8);
		key = row_key_text(text);
		break;
	case BATCH_VALUE: /* id: so many bytes of text are the plugin's name */
	default:
		(void)sqlite3_bind_text64(q, n++, text.data, id, SQLITE_STATIC, SQLITE_UTF8);
		bind_blob(q, n++, text.data + id, text.len - id);
		key = row_key_text_text((struct grapnel_str){ text.data, id },
		    (struct grapnel_str){ text.data + id, text.len - id }, &st->scratch);
		break;
	}
	if (!goes) {
		row_clear(&st->row);
		row_bytes(&st->row, row.data, row.len);
		row_seal(&st->row, tables[table].name, &key);
		if (st->row.failed)
			return SQLITE_NOMEM;
		bind_blob(q, n, st->row.data, st->row.len);
	}
	rc = run(q);
	if (rc == SQLITE_OK && goes && table == BATCH_SESSION) {
		rc = run_id(st, ST_SUBSCRIPTIONS_GO, id);
		if (rc == SQLITE_OK)
			rc = run_id(st, ST_EXCHANGE_GOES, id);
	}
	return rc;
}

static int
write_rows(struct store *st, const struct store_batch *b)
{
	struct row_in in = { b->rows.data, NULL, false };
	int rc = SQLITE_OK;

	if (b->rows.len == 0)
		return rc;
	in.end = in.at + b->rows.len;
	while (rc == SQLITE_OK && in.at != in.end) {
		uint64_t table = row_get_number(&in), id = row_get_number(&in);
		struct grapnel_str text = row_get_string(&in), row = row_get_string(&in);

		rc = write_row(st, (enum batch_table)(table >> 1), table & 1, id, text, row);
	}
	return rc;
}

/* ---- messages --------------------------------------------------------------------------------------- */

static struct row_time
deadline(uint64_t at_ms, uint64_t now_ms, uint64_t now_wall)
{
	uint64_t left = at_ms > now_ms ? at_ms - now_ms : 0;

	return (struct row_time){ .set = true, .wall_ms = now_wall + left, .left_ms = left };
}

void
store_message_row(const struct message *m, struct row_message *row)
{
	*row = (struct row_message){ .qos = m->qos,
		.retain = (m->flags & MSG_RETAIN) != 0,
		.will = (m->flags & MSG_WILL) != 0,
		.utf8 = (m->flags & MSG_UTF8) != 0,
		.topic = message_topic(m),
		.props = { m->props, m->props_len },
		.payload = { m->payload, m->payload_len },
		.has_author = m->author != NULL };
	if (m->flags & MSG_EXPIRES)
		row->expires =
		    deadline(m->expires_at_ms, clock_ms(), (uint64_t)(clock_wall_us() / 1000));
	if (m->author == NULL)
		return;
	row->author = (struct grapnel_client_info){ .size = sizeof(row->author),
		.client_id = identity_client_id(m->author),
		.username = identity_username(m->author),
		.mountpoint = m->author->site->mountpoint,
		.listener = m->author->site->listener,
		.peer = identity_peer(m->author),
		.attributes = identity_attributes(m->author),
		.attribute_count = m->author->attribute_count,
		.protocol = m->author->protocol,
		.superuser = m->author->superuser,
		.anonymous = m->author->anonymous,
		.identity_source = m->author->source };
}

/* One that is older than what is there, or than its end, came late from a slower worker. */
static bool
cleared_later(const struct store *st, uint64_t topic, uint64_t seq)
{
	if (seq > st->retained_seq)
		return false;
	for (unsigned i = 0; i < CLEARED_MAX; i++)
		if (st->cleared[i].topic == topic && st->cleared[i].seq > seq)
			return true;
	return false;
}

static int
write_retained(struct store *st, const struct batch_retained *r)
{
	struct grapnel_str topic = message_topic(r->msg);
	uint64_t hash = broker_hash(st->broker, topic);
	struct row_key key = row_key_text(topic);
	struct row_message row;
	sqlite3_stmt *q = st->st[r->msg->payload_len > 0 ? ST_RETAINED : ST_RETAINED_GOES];

	if (r->msg->payload_len == 0)
		st->cleared[st->cleared_at++ % CLEARED_MAX] =
		    (struct cleared){ .topic = hash, .seq = r->seq };
	else if (cleared_later(st, hash, r->seq))
		return SQLITE_OK;
	/* Another batch of this transaction may have an older one. */
	if (r->seq > st->retained_seq)
		st->retained_seq = r->seq;
	bind_blob(q, 1, topic.data, topic.len);
	(void)sqlite3_bind_int64(q, 2, (sqlite3_int64)r->seq);
	if (r->msg->payload_len > 0) {
		row_clear(&st->row);
		row_number(&st->row, r->seq);
		store_message_row(r->msg, &row);
		row_message(&st->row, &row, false);
		row_seal(&st->row, "retained", &key);
		if (st->row.failed)
			return SQLITE_NOMEM;
		bind_blob(q, 3, st->row.data, st->row.len);
	}
	return run(q);
}

static void
put_record(struct store *st, const struct batch_segment *seg, uint32_t index,
    const struct identity **author)
{
	const struct batch_record *rec = &seg->records[index];
	struct row_record row = { .index = index,
		.origin = rec->origin,
		.origin_number = rec->origin_number,
		.receiver_count = rec->left };
	size_t at;

	store_message_row(rec->msg, &row.message);
	row_record_begin(
	    &st->out, &row, rec->msg->author != NULL && rec->msg->author == *author, &at);
	if (rec->msg->author != NULL)
		*author = rec->msg->author;
	for (uint32_t i = rec->first; i < rec->first + rec->count; i++) {
		const struct batch_receiver *r = &seg->receivers[i];
		uint32_t ids[ROW_IDS_MAX];

		if (r->finished)
			continue;
		row_receiver(&st->out,
		    &(struct row_receiver){ .session = r->session,
			.qos = r->qos,
			.retain = r->retain,
			.id_count = subids_get(r->ids, ids, ROW_IDS_MAX),
			.ids = ids });
	}
	row_record_end(&st->out, at);
}

static int
write_log(struct store *st, uint64_t number, const struct row_out *finished, bool messages)
{
	sqlite3_stmt *q = st->st[ST_LOG];

	(void)sqlite3_bind_int64(q, 1, (sqlite3_int64)number);
	if (finished != NULL)
		bind_blob(q, 2, finished->data, finished->len);
	else
		(void)sqlite3_bind_null(q, 2);
	if (messages)
		bind_blob(q, 3, st->out.data, st->out.len);
	else
		(void)sqlite3_bind_null(q, 3);
	store_count(&st->written_bytes,
	    (messages ? st->out.len : 0) + (finished != NULL ? finished->len : 0));
	return run(q);
}

static int
write_segment(struct store *st, const struct batch_segment *seg, const struct row_out *finished)
{
	struct row_key key = row_key_number(seg->number);
	const struct identity *author = NULL;

	row_clear(&st->out);
	for (uint32_t i = 0; i < seg->record_count; i++)
		if (seg->records[i].msg != NULL)
			put_record(st, seg, i, &author);
	row_seal(&st->out, "log", &key);
	return st->out.failed ? SQLITE_NOMEM : write_log(st, seg->number, finished, true);
}

static bool
encode_finished(struct store *st, const struct store_batch *b)
{
	struct row_key key = row_key_number(b->finished_in);
	struct row_finished before = { 0 };

	row_clear(&st->finished);
	for (size_t i = 0; i < b->finished_count; i++)
		row_finished(&st->finished, &b->finished[i], &before);
	row_seal(&st->finished, "finished", &key);
	return !st->finished.failed;
}

int
store_write_batch(struct store *st, struct store_batch *b)
{
	bool finished = b->finished_count > 0;
	int rc;

	clocks_look(st);
	rc = write_rows(st, b);
	for (size_t i = 0; i < b->retained_count && rc == SQLITE_OK; i++)
		rc = write_retained(st, &b->retained[i]);
	if (rc == SQLITE_OK && finished) {
		b->finished_in = 0;
		for (const struct batch_segment *seg = b->first; seg != NULL; seg = seg->next)
			if (seg->alive > 0 && b->finished_in == 0)
				b->finished_in = seg->number;
		if (b->finished_in == 0)
			b->finished_in = store_next_segment(st);
		if (!encode_finished(st, b))
			return SQLITE_NOMEM;
	}
	for (const struct batch_segment *seg = b->first; seg != NULL && rc == SQLITE_OK;
	     seg = seg->next) {
		if (seg->alive == 0)
			continue;
		rc = write_segment(
		    st, seg, finished && seg->number == b->finished_in ? &st->finished : NULL);
		if (seg->number == b->finished_in)
			finished = false;
	}
	if (rc == SQLITE_OK && finished)
		rc = write_log(st, b->finished_in, &st->finished, false);
	return rc;
}

/* ---- once it is on the disk -------------------------------------------------------------------------------- */

static bool
account_segment(struct store *st, const struct batch_segment *seg)
{
	if (seg->record_count > st->left_capacity) {
		uint32_t *left = realloc(st->left, seg->record_count * sizeof(*left));

		if (left == NULL)
			return false;
		st->left = left;
		st->left_capacity = seg->record_count;
	}
	for (uint32_t i = 0; i < seg->record_count; i++) {
		const struct batch_record *rec = &seg->records[i];

		/* A group's message is one, whoever gets it. */
		st->left[i] = rec->msg == NULL ? 0 : rec->left;
	}
	store_count(&st->records, seg->alive);
	return segments_written(st->segments, seg->number, st->left, seg->record_count, seg->bytes);
}

void
store_account_batch(struct store *st, const struct store_batch *b)
{
	/* First what it says of others: its own messages may be finished already, and then it would go at once. */
	if (b->finished_count > 0)
		(void)segments_carrier(st->segments, b->finished_in);
	for (size_t i = 0; i < b->finished_count; i++)
		(void)segments_finished(st->segments, b->finished_in, &b->finished[i]);
	for (const struct batch_segment *seg = b->first; seg != NULL; seg = seg->next)
		if (seg->alive > 0)
			(void)account_segment(st, seg);
	if (b->finished_count > 0)
		segments_carried(st->segments, b->finished_in);
}

/* ---- stragglers ------------------------------------------------------------------------------------------------ */

/* Write a segment once more with those messages only that somebody waits for. They keep their addresses. */
int
store_squeeze(struct store *st, uint64_t number, uint64_t *bytes)
{
	struct row_key key = row_key_number(number);
	struct row_in in, receivers;
	struct row_author author = { 0 };
	struct row_record rec;
	sqlite3_stmt *q = st->st[ST_LOG_READ];

	*bytes = 0;
	row_clear(&st->out);
	(void)sqlite3_bind_int64(q, 1, (sqlite3_int64)number);
	if (sqlite3_step(q) != SQLITE_ROW ||
	    !row_open(
		&in, sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0), "log", &key)) {
		(void)sqlite3_reset(q);
		return SQLITE_OK; /* it is left as it is */
	}
	while (row_get_record(&in, &rec, &author, &receivers)) {
		size_t at;

		if (segments_left(st->segments, number, rec.index) == 0)
			continue;
		/* Whose author was named by one that is left out is written out. */
		row_record_begin(&st->out, &rec, false, &at);
		row_bytes(&st->out, receivers.at, (size_t)(receivers.end - receivers.at));
		row_record_end(&st->out, at);
	}
	(void)sqlite3_reset(q);
	row_author_free(&author);
	row_seal(&st->out, "log", &key);
	if (in.bad || st->out.failed)
		return SQLITE_OK;
	*bytes = st->out.len;
	q = st->st[ST_LOG_SQUEEZE];
	bind_blob(q, 1, st->out.data, st->out.len);
	(void)sqlite3_bind_int64(q, 2, (sqlite3_int64)number);
	return run(q);
}
