/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more; items of `size` bytes. */
static bool
grow(void **items, size_t *room, size_t count, size_t size)
{
	size_t wanted = *room == 0 ? 64 : *room * 2;
	void *p;

	if (count < *room)
		return true;
	if (wanted > SIZE_MAX / size || (p = realloc(*items, wanted * size)) == NULL)
		return false;
	*items = p;
	*room = wanted;
	return true;
}

static void
damaged(struct log_view *v, const char *table, uint64_t key, const char *what)
{
	char text[160];

	v->damaged++;
	snprintf(text, sizeof(text), "%s %" PRIu64 ": %s", table, key, what);
	v->fault(text, v->arg);
}

static bool
no_room(char error[STORE_ERROR])
{
	snprintf(error, STORE_ERROR, "no memory");
	return false;
}

static bool
stopped(sqlite3 *db, int rc, char error[STORE_ERROR])
{
	if (rc == SQLITE_DONE)
		return true;
	snprintf(error, STORE_ERROR, "the store cannot be read: %s", sqlite3_errmsg(db));
	return false;
}

/* ---- who is there ------------------------------------------------------------------------------ */

static int
by_session(const void *a, const void *b)
{
	uint64_t x = ((const struct log_session *)a)->id, y = ((const struct log_session *)b)->id;

	return x < y ? -1 : x > y;
}

static struct log_session *
find_session(const struct log_view *v, uint64_t id)
{
	struct log_session key = { .id = id };

	return v->session_count == 0
	    ? NULL
	    : bsearch(&key, v->sessions, v->session_count, sizeof(key), by_session);
}

static XXH128_hash_t
name_of(const struct row_session *s)
{
	XXH128_hash_t h =
	    XXH3_128bits_withSeed(s->who.mountpoint.data, s->who.mountpoint.len, s->group ? 1 : 0);

	return XXH3_128bits_withSeed(
	    s->who.client_id.data, s->who.client_id.len, h.low64 ^ h.high64);
}

/* Is it the first of its name? false with v->names NULL: no memory. */
static bool
first_of_name(struct log_view *v, XXH128_hash_t name)
{
	size_t capacity = v->name_capacity, i;

	if (v->name_count * 2 >= capacity) {
		struct log_name *old = v->names;

		v->name_capacity = capacity == 0 ? 1024 : capacity * 2;
		if ((v->names = calloc(v->name_capacity, sizeof(*v->names))) == NULL) {
			free(old);
			return false;
		}
		v->name_count = 0;
		for (i = 0; i < capacity; i++)
			if (old[i].used)
				(void)first_of_name(v, old[i].hash);
		free(old);
	}
	for (i = (size_t)name.low64 & (v->name_capacity - 1); v->names[i].used;
	     i = (i + 1) & (v->name_capacity - 1))
		if (XXH128_isEqual(v->names[i].hash, name))
			return false;
	v->names[i] = (struct log_name){ name, true };
	v->name_count++;
	return true;
}

/* What is confirmed of its QoS 2 messages. An exchange that cannot be read is told about where it is exported. */
static uint64_t
confirmed_of(uint64_t id, struct grapnel_str row)
{
	struct row_key key = row_key_number(id);
	struct row_exchange x;
	struct row_in in;

	return row.data != NULL && row_open(&in, row.data, row.len, "exchange", &key) &&
		row_get_exchange(&in, &x)
	    ? x.confirmed
	    : 0;
}

/* false: no memory. */
static bool
take_session(struct log_view *v, sqlite3_stmt *s, struct row_author *who)
{
	struct log_session one = { .id = (uint64_t)sqlite3_column_int64(s, 0) };
	struct grapnel_str row = sql_bytes(s, 1);
	struct row_key key = row_key_number(one.id);
	struct row_session session;
	struct row_in in;

	if (!row_open(&in, row.data, row.len, "session", &key) ||
	    !row_get_session(&in, &session, who))
		return true;
	if (!first_of_name(v, name_of(&session)))
		return v->names != NULL;
	one.confirmed = confirmed_of(one.id, sql_bytes(s, 2));
	if (!grow((void **)&v->sessions, &v->session_room, v->session_count, sizeof(one)))
		return false;
	v->sessions[v->session_count++] = one;
	return true;
}

/* The newest of a name counts: one that began anew may have left the one before. */
static bool
read_sessions(struct log_view *v, char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(v->db,
	    "SELECT session.id, session.row, exchange.row FROM session"
	    " LEFT JOIN exchange ON exchange.session = session.id ORDER BY session.id DESC",
	    error);
	struct row_author who = { 0 };
	bool good = s != NULL;
	int rc = SQLITE_DONE;

	while (good && (rc = sqlite3_step(s)) == SQLITE_ROW)
		good = take_session(v, s, &who);
	if (s != NULL)
		good = good ? stopped(v->db, rc, error) : no_room(error);
	sqlite3_finalize(s);
	row_author_free(&who);
	if (v->session_count > 0)
		qsort(v->sessions, v->session_count, sizeof(*v->sessions), by_session);
	return good;
}

bool
log_has_session(const struct log_view *v, uint64_t id)
{
	return find_session(v, id) != NULL;
}

/* ---- what is finished ---------------------------------------------------------------------------- */

static int
by_finished(const void *a, const void *b)
{
	const struct row_finished *x = a, *y = b;

	if (x->receiver != y->receiver)
		return x->receiver < y->receiver ? -1 : 1;
	return x->address < y->address ? -1 : x->address > y->address;
}

static bool
is_finished(const struct log_view *v, uint64_t receiver, uint64_t address)
{
	struct row_finished key = { receiver, address };

	return v->finished_count > 0 &&
	    bsearch(&key, v->finished, v->finished_count, sizeof(key), by_finished) != NULL;
}

static bool
take_finished(struct log_view *v, uint64_t segment, struct grapnel_str blob)
{
	struct row_finished f, before = { 0 };
	struct row_key key = row_key_number(segment);
	struct row_in in;

	if (!row_open(&in, blob.data, blob.len, "finished", &key)) {
		damaged(v, "finished", segment, "checksum");
		return true;
	}
	while (row_get_finished(&in, &f, &before)) {
		if (!grow((void **)&v->finished, &v->finished_room, v->finished_count, sizeof(f)))
			return false;
		v->finished[v->finished_count++] = f;
	}
	if (in.bad)
		damaged(v, "finished", segment, "malformed");
	return true;
}

static bool
read_finished(struct log_view *v, char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(
	    v->db, "SELECT segment, finished FROM log WHERE finished IS NOT NULL", error);
	int rc;

	if (s == NULL)
		return false;
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		if (!take_finished(v, (uint64_t)sqlite3_column_int64(s, 0), sql_bytes(s, 1))) {
			sqlite3_finalize(s);
			return no_room(error);
		}
	sqlite3_finalize(s);
	if (v->finished_count > 0)
		qsort(v->finished, v->finished_count, sizeof(*v->finished), by_finished);
	return stopped(v->db, rc, error);
}

bool
log_open(struct log_view *v, sqlite3 *db, store_fault_fn fault, void *arg, char error[STORE_ERROR])
{
	*v = (struct log_view){ .db = db, .fault = fault, .arg = arg };
	if (read_sessions(v, error) && read_finished(v, error))
		return true;
	log_close(v);
	return false;
}

void
log_close(struct log_view *v)
{
	free(v->finished);
	free(v->sessions);
	free(v->names);
	free(v->waiting);
	free(v->ids);
	*v = (struct log_view){ 0 };
}

/* ---- the messages ---------------------------------------------------------------------------------- */

/* Those who wait for it into v->waiting. false: no memory. */
static bool
collect(struct log_view *v, uint64_t address, struct row_in *in, size_t *count)
{
	uint32_t ids[ROW_IDS_MAX];
	struct row_receiver r;
	size_t id_count = 0;

	*count = 0;
	while (row_get_receiver(in, &r, ids)) {
		if (find_session(v, r.session) == NULL || is_finished(v, r.session, address))
			continue;
		if (!grow((void **)&v->waiting, &v->waiting_room, *count, sizeof(r)))
			return false;
		for (uint32_t i = 0; i < r.id_count; i++) {
			if (!grow((void **)&v->ids, &v->id_room, id_count, sizeof(ids[0])))
				return false;
			v->ids[id_count++] = ids[i];
		}
		r.ids = NULL;
		v->waiting[(*count)++] = r;
	}
	/* Only now: they may have moved. */
	id_count = 0;
	for (size_t i = 0; i < *count; i++) {
		if (v->waiting[i].id_count > 0)
			v->waiting[i].ids = v->ids + id_count;
		id_count += v->waiting[i].id_count;
	}
	return true;
}

static bool
counts(const struct log_view *v, const struct row_record *r)
{
	const struct log_session *origin = r->origin != 0 ? find_session(v, r->origin) : NULL;

	return origin == NULL || origin->confirmed >= r->origin_number;
}

static bool
each_of_segment(struct log_view *v, uint64_t segment, struct grapnel_str blob,
    struct row_author *author, log_message_fn message, uint64_t *needed, void *arg, char *error)
{
	struct row_key key = row_key_number(segment);
	struct row_in in, receivers;
	struct row_record r;
	size_t count;

	*needed = 0;
	author->set = false;
	if (!row_open(&in, blob.data, blob.len, "log", &key)) {
		damaged(v, "log", segment, "checksum");
		*needed = 1; /* nobody can know, so it stays */
		return true;
	}
	while (row_get_record(&in, &r, author, &receivers)) {
		uint64_t address = store_address(segment, r.index);

		if (!counts(v, &r) || is_finished(v, 0, address)) /* 0: with all of it */
			continue;
		if (!collect(v, address, &receivers, &count))
			return no_room(error);
		if (receivers.bad)
			in.bad = true;
		if (count == 0)
			continue;
		++*needed;
		if (message != NULL && !message(address, &r.message, v->waiting, count, arg))
			return false;
	}
	if (in.bad) {
		damaged(v, "log", segment, "malformed");
		++*needed;
	}
	return true;
}

bool
log_each(struct log_view *v, log_message_fn message, log_segment_fn segment, void *arg,
    char error[STORE_ERROR])
{
	sqlite3_stmt *s = sql_prepare(v->db,
	    "SELECT segment, messages FROM log WHERE messages IS NOT NULL ORDER BY segment", error);
	struct row_author author = { 0 };
	bool good = true;
	int rc = SQLITE_DONE;

	if (s == NULL)
		return false;
	while (good && (rc = sqlite3_step(s)) == SQLITE_ROW) {
		uint64_t number = (uint64_t)sqlite3_column_int64(s, 0), needed;

		good = each_of_segment(
			   v, number, sql_bytes(s, 1), &author, message, &needed, arg, error) &&
		    (segment == NULL || segment(number, needed, arg));
	}
	if (good)
		good = stopped(v->db, rc, error);
	sqlite3_finalize(s);
	row_author_free(&author);
	return good;
}
