/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer - the thread that writes: one transaction after the other
 *
 * While one is on its way to the disk, workers collect what the next one gets; when the writer is idle, a worker with something
 * urgent submits at once. What may be done with in a moment (its receivers are there) is asked for a moment later.
 *
 * A transaction that fails is rolled back and tried again with all its batches, until it works. Meanwhile the workers are told
 * (store_state), and take nothing in that would have to be written.
 */
#include "base/log.h"
#include "store/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOON_US        5000u
#define OPS_MAX        4096u /* of segments, in a transaction */
#define WAL_PAGES      2048  /* then the WAL goes into the database */
#define HOUSEKEEPING   1000u /* ms */
#define RETRY_MS       250u
#define SEGMENTS_AHEAD 1024u
#define SUBMITTED_WAIT 20000u /* us: batches that were asked for */

static uint64_t
now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void
store_count(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(
	    figure, atomic_load_explicit(figure, memory_order_relaxed) + n, memory_order_relaxed);
}

static void
figure_set(_Atomic uint64_t *figure, uint64_t n)
{
	atomic_store_explicit(figure, n, memory_order_relaxed);
}

/* ---- a transaction -------------------------------------------------------------------------------- */

static int
step(struct store *st, enum statement which)
{
	int rc = sqlite3_step(st->st[which]);

	(void)sqlite3_reset(st->st[which]);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int
set_meta(struct store *st, const char *name, uint64_t value)
{
	(void)sqlite3_bind_text(st->st[ST_META], 1, name, -1, SQLITE_STATIC);
	(void)sqlite3_bind_int64(st->st[ST_META], 2, (sqlite3_int64)value);
	return step(st, ST_META);
}

/* Rows of segments that nobody needs any more. */
static int
tidy(struct store *st)
{
	enum segment_op op;
	uint64_t number;
	int rc = SQLITE_OK;

	while (st->ops < OPS_MAX && rc == SQLITE_OK && segments_op(st->segments, &number, &op)) {
		enum statement which = op == SEGMENT_DELETE ? ST_LOG_GOES : ST_LOG_STRIP;

		(void)sqlite3_bind_int64(st->st[which], 1, (sqlite3_int64)number);
		rc = step(st, which);
		st->ops++;
	}
	return rc;
}

static int
transaction(struct store *st, struct store_batch *batches, struct store_batch *rows)
{
	uint64_t next_id = atomic_load_explicit(&st->next_id, memory_order_relaxed), next_segment;
	int rc = step(st, ST_BEGIN);

	st->ops = 0;
	for (struct store_batch *b = batches; b != NULL && rc == SQLITE_OK; b = b->next)
		rc = store_write_batch(st, b);
	if (rows != NULL && rc == SQLITE_OK)
		rc = store_write_batch(st, rows);
	if (rc == SQLITE_OK)
		rc = tidy(st);
	/* Now that all of this batch have theirs. */
	next_segment = atomic_load_explicit(&st->next_segment, memory_order_relaxed);
	if (rc == SQLITE_OK && next_id != st->meta_next_id)
		rc = set_meta(st, "next_id", next_id);
	/* Some ahead, so that it is not written each time. */
	if (rc == SQLITE_OK && next_segment > st->meta_next_segment)
		rc = set_meta(st, "next_segment", next_segment += SEGMENTS_AHEAD);
	else
		next_segment = st->meta_next_segment;
	if (rc == SQLITE_OK && atomic_load_explicit(&st->mark_damaged, memory_order_relaxed))
		rc = set_meta(st, "damaged", 1);
	if (rc == SQLITE_OK)
		rc = set_meta(st, "alive", (uint64_t)(clock_wall_us() / 1000));
	if (rc == SQLITE_OK)
		rc = step(st, ST_COMMIT);
	if (rc == SQLITE_OK) {
		st->alive_ms = now_us() / 1000;
		st->meta_next_id = next_id;
		st->meta_next_segment = next_segment;
		return rc;
	}
	if (!sqlite3_get_autocommit(st->file.db))
		(void)step(st, ST_ROLLBACK);
	segments_op_again(st->segments);
	return rc;
}

/* ---- trouble ------------------------------------------------------------------------------------------ */

/* Under the lock. */
static void
ask_one(struct store *st, unsigned i)
{
	if (atomic_load_explicit(&st->ask[i].out, memory_order_acquire))
		return;
	st->want[i] = 0;
	atomic_store_explicit(&st->ask[i].out, true, memory_order_relaxed);
	st->ask[i].mail.fn = st->ask_fn;
	worker_post(st->broker->workers[i], &st->ask[i].mail);
}

/* The workers look at store_state: who was promised an answer gets another one. */
static void
tell_workers(struct store *st)
{
	pthread_mutex_lock(&st->lock);
	for (unsigned i = 0; i < st->broker->worker_count; i++)
		ask_one(st, i);
	pthread_mutex_unlock(&st->lock);
}

static void
trouble(struct store *st, int rc)
{
	store_count(&st->failures, 1);
	if (atomic_load_explicit(&st->state, memory_order_relaxed) == STORE_FAILING)
		return;
	atomic_store_explicit(&st->state, STORE_FAILING, memory_order_release);
	tell_workers(st);
	log_at(GRAPNEL_LOG_ERROR, "store_failing",
	    "store: %s/%s cannot be written: %s%s%s; what would have to be kept is refused until "
	    "it can "
	    "(%s)",
	    st->file.directory, STORE_DATABASE, sqlite3_errstr(rc),
	    sqlite3_system_errno(st->file.db) != 0 ? ": " : "",
	    sqlite3_system_errno(st->file.db) != 0 ? strerror(sqlite3_system_errno(st->file.db))
						   : "",
	    rc == SQLITE_FULL ? "make room on the disk"
		: (rc & 0xff) == SQLITE_CORRUPT || rc == SQLITE_NOTADB
		? "the database is damaged: restart the broker, which sets it aside and saves what "
		  "can be read"
		: "look at the disk and the directory's permissions");
}

static void
look_at_size(struct store *st)
{
	uint64_t pages = store_pragma(st, "page_count"), spare = store_pragma(st, "freelist_count"),
		 size = store_pragma(st, "page_size"), max = st->settings->store.max_bytes, used;
	enum store_state was =
	    (enum store_state)atomic_load_explicit(&st->state, memory_order_relaxed);

	st->sized_bytes = atomic_load_explicit(&st->written_bytes, memory_order_relaxed);
	used = (pages - spare) * size;
	figure_set(&st->file_bytes, pages * size);
	figure_set(&st->free_bytes, spare * size);
	figure_set(&st->wal_bytes, (uint64_t)st->wal_pages * size);
	figure_set(&st->segment_count, segments_count(st->segments));
	if (was == STORE_GOOD && used > max) {
		atomic_store_explicit(&st->state, STORE_FULL, memory_order_release);
		log_at(GRAPNEL_LOG_ERROR, "store_full",
		    "store: %s/%s has reached max_bytes (%llu): new messages for clients that are "
		    "not "
		    "there are refused until there is room again",
		    st->file.directory, STORE_DATABASE, (unsigned long long)max);
	} else if (was == STORE_FULL && used < max / 16 * 15) {
		atomic_store_explicit(&st->state, STORE_GOOD, memory_order_release);
		log_at(GRAPNEL_LOG_NOTICE, "store_good", "store: there is room again");
	}
}

static void
good(struct store *st)
{
	if (atomic_load_explicit(&st->state, memory_order_relaxed) != STORE_FAILING)
		return;
	atomic_store_explicit(&st->state, STORE_GOOD, memory_order_release);
	log_at(GRAPNEL_LOG_NOTICE, "store_good", "store: %s/%s can be written again",
	    st->file.directory, STORE_DATABASE);
}

/* ---- housekeeping ---------------------------------------------------------------------------------------- */

static void
checkpoint(struct store *st)
{
	int in_wal = 0, moved = 0;

	if (sqlite3_wal_checkpoint_v2(
		st->file.db, NULL, SQLITE_CHECKPOINT_PASSIVE, &in_wal, &moved) == SQLITE_OK)
		st->wal_pages = in_wal - moved;
}

static void
squeeze(struct store *st)
{
	uint64_t number = segments_sparse(st->segments), bytes;
	int rc;

	if (number == 0 || step(st, ST_BEGIN) != SQLITE_OK)
		return;
	rc = store_squeeze(st, number, &bytes);
	if (rc == SQLITE_OK)
		rc = step(st, ST_COMMIT);
	if (rc == SQLITE_OK)
		segments_squeezed(st->segments, number, bytes);
	else if (!sqlite3_get_autocommit(st->file.db))
		(void)step(st, ST_ROLLBACK);
}

/* The times of Clients that are connected begin when we were last known to run. */
static void
say_alive(struct store *st)
{
	uint64_t now = now_us() / 1000;
	int rc;

	if (now - st->alive_ms < STORE_ALIVE_MS || step(st, ST_BEGIN) != SQLITE_OK)
		return;
	st->alive_ms = now;
	rc = set_meta(st, "alive", (uint64_t)(clock_wall_us() / 1000));
	if (rc == SQLITE_OK)
		rc = step(st, ST_COMMIT);
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(st->file.db))
		(void)step(st, ST_ROLLBACK);
}

static void
housekeeping(struct store *st)
{
	st->housekept_ms = now_us() / 1000;
	if (atomic_load_explicit(&st->state, memory_order_relaxed) == STORE_FAILING)
		return;
	say_alive(st);
	squeeze(st);
	if (store_pragma(st, "freelist_count") > 1024)
		(void)sqlite3_exec(st->file.db, "PRAGMA incremental_vacuum(256)", NULL, NULL, NULL);
	if (st->wal_pages > WAL_PAGES / 4)
		checkpoint(st);
	look_at_size(st);
}

/* After a commit: the next one may be due at once, again and again. */
static void
look_after(struct store *st)
{
	uint64_t grown =
	    atomic_load_explicit(&st->written_bytes, memory_order_relaxed) - st->sized_bytes;

	if (now_us() / 1000 - st->housekept_ms >= HOUSEKEEPING)
		housekeeping(st);
	else if (grown > st->settings->store.max_bytes / 64)
		look_at_size(st);
}

/* ---- the loop ------------------------------------------------------------------------------------------------ */

/* Under the lock. */
static void
wait_until(struct store *st, uint64_t us)
{
	struct timespec until = { .tv_sec = (time_t)(us / 1000000),
		.tv_nsec = (long)(us % 1000000 * 1000) };

	(void)pthread_cond_timedwait(&st->wake, &st->lock, &until);
}

/* Write them all, however often it takes. @return false: it did not work, and the broker is stopping. */
static bool
commit(struct store *st, struct store_batch *batches, struct store_batch *rows)
{
	uint64_t began = now_us(), took;
	int rc;

	while ((rc = transaction(st, batches, rows)) != SQLITE_OK) {
		uint64_t until = now_us() + RETRY_MS * 1000;
		bool stopping;

		trouble(st, rc);
		pthread_mutex_lock(&st->lock);
		stopping = st->stopping;
		while (!st->stopping && now_us() < until)
			wait_until(st, until);
		pthread_mutex_unlock(&st->lock);
		if (stopping)
			return false;
	}
	good(st);
	segments_op_done(st->segments, st->ops);
	for (const struct store_batch *b = batches; b != NULL; b = b->next)
		store_account_batch(st, b);
	took = now_us() - began;
	store_count(&st->commits, 1);
	store_count(&st->commit_us_total, took);
	if (took > atomic_load_explicit(&st->commit_us_max, memory_order_relaxed))
		figure_set(&st->commit_us_max, took);
	return true;
}

static void
give_back(struct store *st, struct store_batch *batches)
{
	struct store_batch *b, *next;

	for (b = batches; b != NULL; b = next) {
		next = b->next;
		store_count(&st->batches, 1);
		worker_post(b->w, &b->mail);
	}
}

/* Under the lock. When is the first of what workers want due? UINT64_MAX: nothing. */
static uint64_t
first_due(const struct store *st)
{
	static const uint64_t soon[] = { 0, 0, SOON_US, 0 };
	uint64_t due = UINT64_MAX, at;

	for (unsigned i = 0; i < st->broker->worker_count; i++) {
		if (st->want[i] == 0 || atomic_load_explicit(&st->ask[i].out, memory_order_acquire))
			continue;
		at = st->want_at_us[i] +
		    (st->want[i] == STORE_LATER ? (uint64_t)st->settings->store.delay_ms * 1000
						: soon[st->want[i]]);
		if (at < due)
			due = at;
	}
	return due;
}

/* Under the lock: all that want anything are asked, now that one is. */
static void
ask(struct store *st)
{
	for (unsigned i = 0; i < st->broker->worker_count; i++) {
		if (st->want[i] != 0)
			ask_one(st, i);
	}
}

/* Under the lock: wait for batches or rows. @return false: it is over. */
static bool
wait_for_work(struct store *st)
{
	while (st->queue == NULL) {
		uint64_t now = now_us(), due = first_due(st), look = st->looked_ms * 1000;

		if (st->stopping)
			return st->rows != NULL || st->syncs != NULL;
		if (due <= now) {
			ask(st);
			wait_until(st, now + SUBMITTED_WAIT);
			continue;
		}
		if (now >= look) {
			st->looked_ms = now / 1000 + HOUSEKEEPING;
			if (st->rows != NULL || segments_waiting(st->segments) > 0 ||
			    st->syncs != NULL)
				return true;
			pthread_mutex_unlock(&st->lock);
			housekeeping(st);
			pthread_mutex_lock(&st->lock);
			continue;
		}
		st->idle = true;
		wait_until(st, due < look ? due : look);
		st->idle = false;
	}
	return true;
}

void *
store_writer(void *arg)
{
	struct store *st = arg;

	pthread_mutex_lock(&st->lock);
	while (wait_for_work(st)) {
		struct store_batch *batches = st->queue, *rows = st->rows;
		struct store_sync *syncs = st->syncs;

		st->queue = NULL;
		st->queue_end = &st->queue;
		st->rows = NULL;
		st->syncs = NULL;
		pthread_mutex_unlock(&st->lock);
		if (!commit(st, batches, rows)) {
			st->failed_at_end = true;
			if (rows != NULL)
				batch_free(rows);
			give_back(st, batches);
			store_synced(st, syncs);
			pthread_mutex_lock(&st->lock);
			break;
		}
		if (rows != NULL)
			batch_free(rows);
		give_back(st, batches);
		store_synced(st, syncs);
		if (st->wal_pages > WAL_PAGES)
			checkpoint(st);
		look_after(st);
		pthread_mutex_lock(&st->lock);
	}
	give_back(st, st->queue);
	st->queue = NULL;
	store_synced(st, st->syncs);
	st->syncs = NULL;
	pthread_mutex_unlock(&st->lock);
	return NULL;
}
