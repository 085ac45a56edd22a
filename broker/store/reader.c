/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader - the thread that reads back messages which were left on the disk
 *
 * Requests come in the order of queues, so that messages of one segment come together: the last few segments are kept.
 */
#include "base/log.h"
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT 8u

struct kept {
	uint64_t number; /* 0: nothing */
	uint8_t *data;
	size_t len;
	struct row_in at; /* where reading goes on */
	struct row_author author;
	uint32_t next; /* all with an index below have been passed */
};
struct reader {
	struct store *st;
	pthread_t thread;
	bool runs, stopping;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct store_read *first, **end;
	sqlite3 *db;
	sqlite3_stmt *q;
	struct kept kept[KEPT];
	unsigned turn;
};

/* ---- segments --------------------------------------------------------------------------------------- */

static void
rewind_to_start(struct kept *k)
{
	struct row_key key = row_key_number(k->number);

	row_author_free(&k->author);
	k->next = 0;
	(void)row_open(&k->at, k->data, k->len, "log", &key);
}

/* NULL: it is not there; *failed: nobody knows. */
static struct kept *
segment(struct reader *r, uint64_t number, bool *failed)
{
	struct kept *k;
	size_t len;
	uint8_t *data = NULL;
	int rc;

	for (unsigned i = 0; i < KEPT; i++)
		if (r->kept[i].number == number)
			return &r->kept[i];
	(void)sqlite3_bind_int64(r->q, 1, (sqlite3_int64)number);
	if ((rc = sqlite3_step(r->q)) == SQLITE_ROW) {
		const void *row = sqlite3_column_blob(r->q, 0);

		len = (size_t)sqlite3_column_bytes(r->q, 0);
		if (row != NULL && len > 0 && (data = malloc(len)) != NULL)
			memcpy(data, row, len);
		*failed |= len > 0 && data == NULL;
	} else if (rc != SQLITE_DONE && (rc & 0xff) != SQLITE_CORRUPT && rc != SQLITE_NOTADB) {
		*failed = true;
	}
	(void)sqlite3_reset(r->q);
	if (data == NULL)
		return NULL;
	k = &r->kept[r->turn++ % KEPT];
	free(k->data);
	k->number = number;
	k->data = data;
	k->len = len;
	rewind_to_start(k);
	return k;
}

static struct message *
make(struct store *st, const struct row_message *m, uint64_t segment)
{
	struct row_clock clock = { .now_wall_ms = clocks_wall(st, segment) };

	return store_message(m, &clock, clock_ms());
}

static struct message *
read_one(struct reader *r, uint64_t address, bool *failed)
{
	struct kept *k = segment(r, store_segment(address), failed);
	uint32_t index = store_index(address);
	struct row_in receivers;
	struct row_record rec;
	struct message *msg;

	if (k == NULL)
		return NULL;
	if (index < k->next)
		rewind_to_start(k);
	while (row_get_record(&k->at, &rec, &k->author, &receivers)) {
		k->next = rec.index + 1;
		if (rec.index == index) {
			if ((msg = make(r->st, &rec.message, k->number)) == NULL)
				*failed = true;
			return msg;
		}
		if (rec.index > index)
			break;
	}
	return NULL;
}

struct message *
store_message(const struct row_message *m, const struct row_clock *clock, uint64_t now_ms)
{
	struct message view = { .qos = m->qos,
		.topic = m->topic.data,
		.topic_len = (uint16_t)m->topic.len,
		.props = m->props.data,
		.props_len = (uint32_t)m->props.len,
		.payload = m->payload.data,
		.payload_len = (uint32_t)m->payload.len };
	uint64_t left = row_left(clock, &m->expires);
	struct message *msg;
	struct site *site;

	view.flags = (uint8_t)((m->retain ? MSG_RETAIN : 0) | (m->will ? MSG_WILL : 0) |
	    (m->utf8 ? MSG_UTF8 : 0) | (m->expires.set ? MSG_EXPIRES : 0));
	if (m->expires.set &&
	    left > 0) /* else it has, also for who thinks that it is a little earlier */
		view.expires_at_ms = now_ms + left;
	if (m->has_author) {
		if ((site = site_new(m->author.mountpoint, m->author.listener)) == NULL)
			return NULL;
		view.author = identity_new(&m->author, site);
		site_unref(site);
		if (view.author == NULL)
			return NULL;
	}
	msg = message_keep(&view);
	message_release_borrowed(&view);
	identity_unref(view.author);
	return msg;
}

/* ---- the thread ------------------------------------------------------------------------------------------ */

static void
serve(struct reader *r, struct store_read *read)
{
	memset(read->msg, 0, sizeof(read->msg));
	for (unsigned i = 0; i < read->count && !read->failed; i++)
		read->msg[i] = read_one(r, read->address[i], &read->failed);
	store_count(&r->st->read_back, read->count);
	worker_post(read->w, &read->mail);
}

static void *
reader_main(void *arg)
{
	struct reader *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		struct store_read *read = r->first;

		if (read == NULL) {
			if (r->stopping)
				break;
			(void)pthread_cond_wait(&r->wake, &r->lock);
			continue;
		}
		if ((r->first = read->next) == NULL)
			r->end = &r->first;
		pthread_mutex_unlock(&r->lock);
		serve(r, read);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

void
store_read(struct store *st, struct store_read *read)
{
	struct reader *r = st->reader;

	read->next = NULL;
	pthread_mutex_lock(&r->lock);
	*r->end = read;
	r->end = &read->next;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

int
reader_start(struct store *st)
{
	struct reader *r = calloc(1, sizeof(*r));
	char path[4200];
	int err;

	if (r == NULL)
		return GRAPNEL_ENOMEM;
	st->reader = r;
	r->st = st;
	r->end = &r->first;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	(void)snprintf(path, sizeof(path), "%s/%s", st->file.directory, STORE_DATABASE);
	if (sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
		SQLITE_OK ||
	    sqlite3_prepare_v3(r->db, "SELECT messages FROM log WHERE segment = ?1", -1,
		SQLITE_PREPARE_PERSISTENT, &r->q, NULL) != SQLITE_OK) {
		log_error(
		    "store: %s cannot be opened for reading: %s", path, sqlite3_errmsg(r->db));
		errno = EIO;
		return GRAPNEL_ESYS;
	}
	(void)sqlite3_exec(r->db, "PRAGMA query_only = 1", NULL, NULL, NULL);
	(void)sqlite3_wal_autocheckpoint(r->db, 0);
	if ((err = pthread_create(&r->thread, NULL, reader_main, r)) != 0) {
		errno = err;
		return GRAPNEL_ESYS;
	}
	r->runs = true;
	(void)pthread_setname_np(r->thread, "store-read");
	return GRAPNEL_OK;
}

void
reader_stop(struct store *st)
{
	struct reader *r = st->reader;

	if (r == NULL)
		return;
	if (r->runs) {
		pthread_mutex_lock(&r->lock);
		r->stopping = true;
		pthread_cond_signal(&r->wake);
		pthread_mutex_unlock(&r->lock);
		(void)pthread_join(r->thread, NULL);
	}
	(void)sqlite3_finalize(r->q);
	(void)sqlite3_close(r->db);
	for (unsigned i = 0; i < KEPT; i++) {
		free(r->kept[i].data);
		row_author_free(&r->kept[i].author);
	}
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
	st->reader = NULL;
}
