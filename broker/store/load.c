/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load - everything that is in the store, once, before anything else happens
 *
 * Messages are read in two passes over the log: first who has finished what, then the messages with those who still wait. If SQLite
 * finds the file damaged on the way, what can be read goes into a new one, and reading begins again: whoever is told
 * (struct store_loader) has seen some of it already and takes it once.
 */
#include "base/log.h"
#include "store/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (UINT64_C(1) << 30)

struct done_key {
	uint64_t address, receiver; /* address 0: empty */
};
struct load {
	struct store *st;
	const struct store_loader *fn;
	void *arg;
	struct row_clock clock;
	struct row_author author;
	struct done_key *done; /* open addressing, a power of two */
	size_t done_capacity, done_count;
	uint64_t loaded; /* all messages up to this segment have been told */
	uint64_t last_segment, last_id, last_seq;
	uint32_t *left;
	size_t left_capacity;
	bool no_memory;
};

static void
damaged(struct load *l, const char *table, uint64_t id)
{
	/* The next start sets the file aside and is rid of it. */
	atomic_store(&l->st->mark_damaged, true);
	store_count(&l->st->damaged, 1);
	log_at(GRAPNEL_LOG_ERROR, "store_damaged",
	    "store: a row of \"%s\" (%llu) is damaged and left out", table, (unsigned long long)id);
}

/* ---- who has finished what ------------------------------------------------------------------------ */

static size_t
done_home(const struct load *l, uint64_t address, uint64_t receiver)
{
	return ((address * 0x9e3779b97f4a7c15u) ^ (receiver * 0xc2b2ae3d27d4eb4fu)) >> 20 &
	    (l->done_capacity - 1);
}

static bool
done_has(const struct load *l, uint64_t address, uint64_t receiver)
{
	if (l->done_count == 0)
		return false;
	for (size_t i = done_home(l, address, receiver); l->done[i].address != 0;
	     i = (i + 1) & (l->done_capacity - 1))
		if (l->done[i].address == address && l->done[i].receiver == receiver)
			return true;
	return false;
}

static bool
done_grow(struct load *l)
{
	struct done_key *old = l->done;
	size_t capacity = l->done_capacity;

	l->done_capacity = capacity == 0 ? 4096 : capacity * 2;
	if ((l->done = calloc(l->done_capacity, sizeof(*l->done))) == NULL) {
		l->done = old;
		l->done_capacity = capacity;
		return false;
	}
	for (size_t k = 0; k < capacity; k++) {
		size_t i;

		if (old[k].address == 0)
			continue;
		for (i = done_home(l, old[k].address, old[k].receiver); l->done[i].address != 0;
		     i = (i + 1) & (l->done_capacity - 1))
			;
		l->done[i] = old[k];
	}
	free(old);
	return true;
}

static bool
done_add(struct load *l, uint64_t address, uint64_t receiver)
{
	size_t i;

	if (address == 0 || done_has(l, address, receiver))
		return true;
	if ((l->done_count + 1) * 2 > l->done_capacity && !done_grow(l))
		return false;
	for (i = done_home(l, address, receiver); l->done[i].address != 0;
	     i = (i + 1) & (l->done_capacity - 1))
		;
	l->done[i] = (struct done_key){ address, receiver };
	l->done_count++;
	return true;
}

/* ---- tables ------------------------------------------------------------------------------------------ */

/* Step through a query; row says what to do with each. @return SQLITE_DONE, or what went wrong. */
static int
each(struct load *l, const char *sql, bool (*row)(struct load *l, sqlite3_stmt *q))
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(l->st->file.db, sql, -1, &q, NULL);

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(q);
		if (rc == SQLITE_ROW && !row(l, q)) {
			l->no_memory = true;
			rc = SQLITE_NOMEM;
		}
	}
	(void)sqlite3_finalize(q);
	return rc;
}

static struct grapnel_str
column(sqlite3_stmt *q, int at)
{
	const char *data = sqlite3_column_blob(q, at);

	return (
	    struct grapnel_str){ data != NULL ? data : "", (size_t)sqlite3_column_bytes(q, at) };
}

static bool
session_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str row = column(q, 1);
	struct row_key key = row_key_number(id);
	struct row_session s;
	struct row_in in;

	if (id > l->last_id)
		l->last_id = id;
	if (!row_open(&in, row.data, row.len, "session", &key) ||
	    !row_get_session(&in, &s, &l->author)) {
		damaged(l, "session", id);
		return true;
	}
	return l->fn->session(l->arg, id, &s, &l->clock);
}

static bool
subscription_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str filter = column(q, 1), row = column(q, 2);
	struct row_key key = row_key_number_text(id, filter);
	struct row_subscription s;
	struct row_in in;

	if (!row_open(&in, row.data, row.len, "subscription", &key) ||
	    !row_get_subscription(&in, &s)) {
		damaged(l, "subscription", id);
		return true;
	}
	return l->fn->subscription(l->arg, id, filter, &s);
}

static bool
exchange_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t id = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str row = column(q, 1);
	struct row_key key = row_key_number(id);
	struct row_exchange x;
	struct row_in in;

	if (!row_open(&in, row.data, row.len, "exchange", &key) || !row_get_exchange(&in, &x)) {
		damaged(l, "exchange", id);
		return true;
	}
	return l->fn->exchange(l->arg, id, &x, &in);
}

static bool
retained_row(struct load *l, sqlite3_stmt *q)
{
	struct grapnel_str topic = column(q, 0), row = column(q, 1);
	struct row_key key = row_key_text(topic);
	struct row_message m;
	struct row_in in;
	uint64_t seq;

	if (!row_open(&in, row.data, row.len, "retained", &key)) {
		damaged(l, "retained", 0);
		return true;
	}
	l->author.set = false;
	seq = row_get_number(&in);
	if (!row_get_message(&in, &m, &l->author)) {
		damaged(l, "retained", seq);
		return true;
	}
	if (seq > l->last_seq)
		l->last_seq = seq;
	return l->fn->retained(l->arg, &m, &l->clock, seq);
}

/* ---- the log --------------------------------------------------------------------------------------------- */

static bool
finished_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t number = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str row = column(q, 1);
	struct row_key key = row_key_number(number);
	struct row_finished f, before = { 0 };
	struct row_in in;

	if (number > l->last_segment)
		l->last_segment = number;
	if (sqlite3_column_type(q, 1) == SQLITE_NULL)
		return true;
	if (!row_open(&in, row.data, row.len, "finished", &key)) {
		damaged(l, "log: finished", number);
		return true;
	}
	while (row_get_finished(&in, &f, &before))
		if (!done_add(l, f.address, f.receiver))
			return false;
	return true;
}

/* Who still waits for one message; into left. */
static bool
message(struct load *l, uint64_t address, const struct row_record *rec, struct row_in *receivers,
    uint32_t *left)
{
	struct row_receiver r;
	uint32_t ids[ROW_IDS_MAX];

	*left = 0;
	if (done_has(l, address, 0))
		return true;
	if (rec->origin != 0 &&
	    !l->fn->confirmed(l->arg, rec->origin, rec->origin_number, address)) {
		*left = 1; /* until that is written */
		return true;
	}
	while (row_get_receiver(receivers, &r, ids)) {
		bool known = false;

		if (done_has(l, address, r.session))
			continue;
		if (!l->fn->message(l->arg, address, &rec->message, &r, &l->clock, &known))
			return false;
		*left += known;
	}
	return true;
}

static bool
segment_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t number = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str row = column(q, 1);
	struct row_key key = row_key_number(number);
	struct row_in in = { 0 }, receivers;
	struct row_record rec;
	uint32_t count = 0;

	if (number <= l->loaded)
		return true;
	l->author.set = false; /* that of another row is no longer there */
	if (sqlite3_column_type(q, 1) != SQLITE_NULL) {
		if (!row_open(&in, row.data, row.len, "log", &key)) {
			damaged(l, "log", number);
			in.at = in.end = NULL;
		}
		while (row_get_record(&in, &rec, &l->author, &receivers)) {
			if (rec.index >= l->left_capacity) {
				size_t capacity = (rec.index + 1) * (size_t)2;
				uint32_t *p = realloc(l->left, capacity * sizeof(*p));

				if (p == NULL)
					return false;
				l->left = p;
				l->left_capacity = capacity;
			}
			while (count < rec.index)
				l->left[count++] = 0;
			if (rec.index < count) { /* twice: not of our making */
				damaged(l, "log", number);
				continue;
			}
			if (!message(l, store_address(number, rec.index), &rec, &receivers,
				&l->left[count++]))
				return false;
		}
		if (in.bad && in.at != NULL)
			damaged(l, "log", number);
	}
	l->loaded = number;
	return segments_written(l->st->segments, number, l->left, count, row.len);
}

static bool
pin_row(struct load *l, sqlite3_stmt *q)
{
	uint64_t number = (uint64_t)sqlite3_column_int64(q, 0);
	struct grapnel_str row = column(q, 1);
	struct row_key key = row_key_number(number);
	struct row_finished f, before = { 0 };
	struct row_in in;

	if (!row_open(&in, row.data, row.len, "finished", &key))
		return true;
	while (row_get_finished(&in, &f, &before))
		segments_pin(l->st->segments, number, f.address);
	return true;
}

/* ---- all of it ---------------------------------------------------------------------------------------------- */

static int
load_all(struct load *l)
{
	static const struct {
		const char *sql;
		bool (*row)(struct load *l, sqlite3_stmt *q);
	} tables[] = {
		{ "SELECT id, row FROM session ORDER BY id DESC",
		    session_row }, /* the newest of a Client counts */
		{ "SELECT session, filter, row FROM subscription", subscription_row },
		{ "SELECT session, row FROM exchange", exchange_row },
		{ "SELECT topic, row FROM retained", retained_row },
		{ "SELECT segment, finished FROM log", finished_row },
		{ "SELECT segment, messages FROM log ORDER BY segment", segment_row },
		{ "SELECT segment, finished FROM log WHERE finished IS NOT NULL", pin_row },
	};
	int rc = SQLITE_DONE;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && rc == SQLITE_DONE; i++)
		rc = each(l, tables[i].sql, tables[i].row);
	return rc;
}

static bool
is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || rc == SQLITE_NOTADB || (rc & 0xff) == SQLITE_IOERR;
}

int
store_load(struct store *st, const struct store_loader *fn, void *arg, char error[STORE_ERROR])
{
	struct load l = { .st = st, .fn = fn, .arg = arg };
	uint64_t next;
	int rc, err = GRAPNEL_OK;

	l.clock.now_wall_ms = (uint64_t)(clock_wall_us() / 1000);
	if (store_pragma(st, "page_count") * store_pragma(st, "page_size") > LARGE)
		log_at(GRAPNEL_LOG_NOTICE, "store_loading",
		    "store: %s/%s is large: loading it takes a while; who connects waits",
		    st->file.directory, STORE_DATABASE);
	l.clock.alive_wall_ms = store_meta(st->file.db, "alive");
	segments_hold(st->segments, true);
	rc = load_all(&l);
	if (is_damage(rc)) {
		store_unprepare(st);
		err = store_file_salvage(&st->file, error);
		if (err == GRAPNEL_OK)
			store_say_damage(st);
		if (err == GRAPNEL_OK && !store_prepare(st, error))
			err = GRAPNEL_ESYS;
		if (err == GRAPNEL_OK)
			rc = load_all(&l);
	}
	if (err == GRAPNEL_OK && rc != SQLITE_DONE) {
		(void)snprintf(error, STORE_ERROR, "%s/%s: %s", st->file.directory, STORE_DATABASE,
		    l.no_memory ? "not enough memory to load it" : sqlite3_errmsg(st->file.db));
		err = l.no_memory ? GRAPNEL_ENOMEM : GRAPNEL_ESYS;
	}
	segments_hold(st->segments, false);
	segments_loaded(st->segments);
	next = atomic_load(&st->next_id);
	atomic_store(&st->next_id, next > l.last_id ? next : l.last_id + 1);
	/* No number means two things, even if rows that had the last ones are gone. */
	next = store_meta(st->file.db, "next_segment");
	st->meta_next_segment = next;
	atomic_store(&st->next_segment, next > l.last_segment ? next : l.last_segment + 1);
	st->retained_seq = l.last_seq;
	row_author_free(&l.author);
	free(l.done);
	free(l.left);
	return err;
}

uint64_t
store_retained_seq(const struct store *st)
{
	return st->retained_seq;
}

/* ---- small rows ------------------------------------------------------------------------------------------------ */

int
store_each_ban(struct store *st, store_ban_fn fn, void *arg)
{
	struct row_clock clock = { .now_wall_ms = (uint64_t)(clock_wall_us() / 1000),
		.alive_wall_ms = store_meta(st->file.db, "alive") };
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(st->file.db, "SELECT address, row FROM ban", -1, &q, NULL);

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		struct grapnel_str address, row;
		struct row_key key;
		struct row_ban ban;
		struct row_in in;

		if ((rc = sqlite3_step(q)) != SQLITE_ROW)
			break;
		address = column(q, 0);
		row = column(q, 1);
		key = row_key_text(address);
		if (row_open(&in, row.data, row.len, "ban", &key) && row_get_ban(&in, &ban))
			fn(address, &ban, &clock, arg);
		else
			store_count(&st->damaged, 1);
	}
	(void)sqlite3_finalize(q);
	return rc == SQLITE_DONE ? GRAPNEL_OK : GRAPNEL_EFAULT;
}

int
store_each_value(struct store *st, store_value_fn fn, void *arg)
{
	sqlite3_stmt *q;
	int rc = sqlite3_prepare_v2(st->file.db, "SELECT plugin, key, row FROM kv", -1, &q, NULL);

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		struct grapnel_str plugin, key, row;
		struct row_key sum;
		struct row_in in;

		if ((rc = sqlite3_step(q)) != SQLITE_ROW)
			break;
		plugin = column(q, 0);
		key = column(q, 1);
		row = column(q, 2);
		sum = row_key_text_text(plugin, key, &st->scratch);
		if (row_open(&in, row.data, row.len, "kv", &sum))
			fn(plugin, key,
			    (struct grapnel_str){ (const char *)in.at, (size_t)(in.end - in.at) },
			    arg);
		else
			store_count(&st->damaged, 1);
	}
	(void)sqlite3_finalize(q);
	return rc == SQLITE_DONE ? GRAPNEL_OK : GRAPNEL_EFAULT;
}
