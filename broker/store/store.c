/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "base/log.h"
#include "store/checker.h"
#include "store/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_SOON (1024u * 1024) /* bytes of small rows for which the writer is woken */
#define ROWS_MAX  (16 * ROWS_SOON)

static const char *const statements[ST_COUNT] = {
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_ROLLBACK] = "ROLLBACK",
	[ST_SESSION] =
	    "INSERT INTO session(id, row) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET row = ?2",
	[ST_SESSION_GOES] = "DELETE FROM session WHERE id = ?1",
	[ST_SUBSCRIPTIONS_GO] = "DELETE FROM subscription WHERE session = ?1",
	[ST_EXCHANGE_GOES] = "DELETE FROM exchange WHERE session = ?1",
	[ST_SUBSCRIPTION] = "INSERT INTO subscription(session, filter, row) VALUES(?1, ?2, ?3)"
			    " ON CONFLICT DO UPDATE SET row = ?3",
	[ST_SUBSCRIPTION_GOES] = "DELETE FROM subscription WHERE session = ?1 AND filter = ?2",
	[ST_EXCHANGE] = "INSERT INTO exchange(session, row) VALUES(?1, ?2)"
			" ON CONFLICT DO UPDATE SET row = ?2",
	[ST_RETAINED] = "INSERT INTO retained(topic, seq, row) VALUES(?1, ?2, ?3)"
			" ON CONFLICT DO UPDATE SET seq = ?2, row = ?3 WHERE seq < ?2",
	[ST_RETAINED_GOES] = "DELETE FROM retained WHERE topic = ?1 AND seq < ?2",
	[ST_LOG] = "INSERT INTO log(segment, finished, messages) VALUES(?1, ?2, ?3)",
	[ST_LOG_GOES] = "DELETE FROM log WHERE segment = ?1",
	[ST_LOG_STRIP] = "UPDATE log SET messages = NULL WHERE segment = ?1",
	[ST_LOG_READ] = "SELECT messages FROM log WHERE segment = ?1",
	[ST_LOG_SQUEEZE] = "UPDATE log SET messages = ?1 WHERE segment = ?2",
	[ST_BAN] =
	    "INSERT INTO ban(address, row) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET row = ?2",
	[ST_BAN_GOES] = "DELETE FROM ban WHERE address = ?1",
	[ST_VALUE] = "INSERT INTO kv(plugin, key, row) VALUES(?1, ?2, ?3)"
		     " ON CONFLICT DO UPDATE SET row = ?3",
	[ST_VALUE_GOES] = "DELETE FROM kv WHERE plugin = ?1 AND key = ?2",
	[ST_META] =
	    "INSERT INTO meta(name, value) VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value = ?2",
};

uint64_t
store_pragma(struct store *st, const char *name)
{
	char sql[64];
	sqlite3_stmt *q;
	uint64_t value = 0;

	(void)snprintf(sql, sizeof(sql), "PRAGMA %s", name);
	if (sqlite3_prepare_v2(st->file.db, sql, -1, &q, NULL) != SQLITE_OK)
		return 0;
	if (sqlite3_step(q) == SQLITE_ROW)
		value = (uint64_t)sqlite3_column_int64(q, 0);
	(void)sqlite3_finalize(q);
	return value;
}

static int
on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct store *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

bool
store_prepare(struct store *st, char error[STORE_ERROR])
{
	for (unsigned i = 0; i < ST_COUNT; i++) {
		(void)sqlite3_finalize(st->st[i]);
		if (sqlite3_prepare_v3(st->file.db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
			&st->st[i], NULL) == SQLITE_OK)
			continue;
		(void)snprintf(error, STORE_ERROR, "%s/%s: %s", st->file.directory, STORE_DATABASE,
		    sqlite3_errmsg(st->file.db));
		return false;
	}
	(void)sqlite3_wal_hook(st->file.db, on_wal, st);
	return true;
}

void
store_unprepare(struct store *st)
{
	for (unsigned i = 0; i < ST_COUNT; i++) {
		(void)sqlite3_finalize(st->st[i]);
		st->st[i] = NULL;
	}
}

void
store_say_damage(struct store *st)
{
	char text[1024];

	store_damage_text(&st->file.damage, text, sizeof(text));
	if (text[0] != '\0')
		log_at(GRAPNEL_LOG_ERROR, "store_damaged", "store: %s/%s was damaged: %s",
		    st->file.directory, STORE_DATABASE, text);
}

/* On the checker's thread. */
static void
on_checked(long faults, const char *first, void *arg)
{
	struct store *st = arg;

	if (faults < 0)
		log_warning("store: %s/%s could not be checked to its end: %s", st->file.directory,
		    STORE_DATABASE, first != NULL ? first : "");
	else if (faults == 0)
		log_info("store: %s/%s was not closed by the broker before; all of it was checked, "
			 "and is good",
		    st->file.directory, STORE_DATABASE);
	else
		log_at(GRAPNEL_LOG_ERROR, "store_damaged",
		    "store: %s/%s is damaged (%ld faults; the first: %s); look with grapnelctl "
		    "store "
		    "check; a restart sets it aside and saves what can be read",
		    st->file.directory, STORE_DATABASE, faults, first != NULL ? first : "");
	if (faults > 0) {
		store_count(&st->damaged, (uint64_t)faults);
		atomic_store(&st->mark_damaged, true);
	}
}

int
store_open(struct store **out, struct broker *b, const char *program, char error[STORE_ERROR])
{
	struct store *st = calloc(1, sizeof(*st));
	pthread_condattr_t attr;
	int err = GRAPNEL_ENOMEM;

	(void)snprintf(error, STORE_ERROR, "no memory");
	if (st == NULL)
		return err;
	st->broker = b;
	st->queue_end = &st->queue;
	st->settings = settings_ref(b->settings);
	pthread_mutex_init(&st->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&st->wake, &attr);
	pthread_condattr_destroy(&attr);
	st->file.lock_fd = -1;
	if ((st->segments = segments_new()) == NULL)
		goto fail;
	if ((err = store_file_open(&st->file, b->settings->store.directory, program, error)) !=
	    GRAPNEL_OK)
		goto fail;
	/* The last check found what no reader notices. */
	if (store_meta(st->file.db, "damaged") != 0 &&
	    (err = store_file_salvage(&st->file, error)) != GRAPNEL_OK)
		goto fail;
	err = GRAPNEL_ESYS;
	if (!store_prepare(st, error))
		goto fail;
	store_say_damage(st);
	st->meta_next_id = store_meta(st->file.db, "next_id");
	atomic_store(&st->next_id, st->meta_next_id > 0 ? st->meta_next_id : 1);
	atomic_store(&st->next_segment, 1);
	*out = st;
	return GRAPNEL_OK;
fail:
	store_free(st);
	return err;
}

int
store_start(struct store *st, void (*ask)(struct worker *w, struct mail *m))
{
	int err;

	st->ask_fn = ask;
	clocks_begin(st, (uint64_t)(clock_wall_us() / 1000) < store_meta(st->file.db, "alive"));
	if ((err = reader_start(st)) != GRAPNEL_OK)
		return err;
	if ((err = pthread_create(&st->writer, NULL, store_writer, st)) != 0) {
		errno = err;
		return GRAPNEL_ESYS;
	}
	st->writer_runs = true;
	if (st->file.unclean &&
	    store_checker_start(&st->checker, st->file.directory, on_checked, st) != GRAPNEL_OK)
		log_warning("store: the check after an unclean end could not be started");
	(void)pthread_setname_np(st->writer, "store");
	return GRAPNEL_OK;
}

bool
store_stop(struct store *st)
{
	if (!st->writer_runs)
		return true;
	if (st->checker != NULL)
		store_checker_stop(st->checker);
	st->checker = NULL;
	pthread_mutex_lock(&st->lock);
	st->stopping = true;
	pthread_cond_signal(&st->wake);
	pthread_mutex_unlock(&st->lock);
	(void)pthread_join(st->writer, NULL);
	st->writer_runs = false;
	reader_stop(st);
	if (st->failed_at_end)
		log_at(GRAPNEL_LOG_ERROR, "store_failing",
		    "store: stopping although %s/%s could not be written: what was not "
		    "acknowledged is lost",
		    st->file.directory, STORE_DATABASE);
	return !st->failed_at_end;
}

void
store_free(struct store *st)
{
	if (st == NULL)
		return;
	(void)store_stop(st);
	reader_stop(st);
	store_unprepare(st);
	if (st->file.db != NULL)
		store_file_close(&st->file);
	if (st->rows != NULL)
		batch_free(st->rows);
	clocks_end(st);
	segments_free(st->segments);
	row_free(&st->out);
	row_free(&st->row);
	row_free(&st->finished);
	row_free(&st->scratch);
	free(st->left);
	settings_unref(st->settings);
	pthread_cond_destroy(&st->wake);
	pthread_mutex_destroy(&st->lock);
	free(st);
}

/* ---- between workers and the writer ------------------------------------------------------------------ */

enum store_state
store_state(const struct store *st)
{
	return (enum store_state)atomic_load_explicit(&st->state, memory_order_acquire);
}

const struct settings *
store_settings(const struct store *st)
{
	return st->settings;
}

uint64_t
store_next_segment(struct store *st)
{
	return atomic_fetch_add_explicit(&st->next_segment, 1, memory_order_relaxed);
}

uint64_t
store_next_id(struct store *st)
{
	return atomic_fetch_add_explicit(&st->next_id, 1, memory_order_relaxed);
}

void
store_submit(struct store *st, struct store_batch *b)
{
	b->next = NULL;
	pthread_mutex_lock(&st->lock);
	*st->queue_end = b;
	st->queue_end = &b->next;
	pthread_cond_signal(&st->wake);
	pthread_mutex_unlock(&st->lock);
}

bool
store_want(struct store *st, unsigned worker, enum store_want want)
{
	struct timespec ts;
	bool now;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	pthread_mutex_lock(&st->lock);
	now = want == STORE_NOW && st->idle && st->queue == NULL;
	if (!now) {
		if (st->want[worker] == 0)
			st->want_at_us[worker] =
			    (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
		st->want[worker] = (uint8_t)want;
		if (st->idle ||
		    want == STORE_NOW) /* it may wait for batches that others have nothing for */
			pthread_cond_signal(&st->wake);
	} else {
		st->want[worker] = 0;
	}
	pthread_mutex_unlock(&st->lock);
	return now;
}

void
store_ask_taken(struct store *st, struct mail *m)
{
	for (unsigned i = 0; i < st->broker->worker_count; i++)
		if (&st->ask[i].mail == m)
			atomic_store_explicit(&st->ask[i].out, false, memory_order_release);
}

/* ---- small rows of any thread ------------------------------------------------------------------------------ */

static int
put(struct store *st, enum batch_table table, uint64_t id, struct grapnel_str text,
    struct grapnel_str row)
{
	bool good;

	pthread_mutex_lock(&st->lock);
	if (st->rows != NULL && st->rows->rows.len >= ROWS_MAX) {
		pthread_mutex_unlock(&st->lock);
		return GRAPNEL_EQUOTA;
	}
	if (st->rows == NULL)
		st->rows = batch_new(NULL);
	good = st->rows != NULL;
	if (good) {
		st->rows->failed = false;
		batch_row(st->rows, table, row.data == NULL, id, text, row);
		good = !st->rows->failed;
		if (st->rows->rows.len >= ROWS_SOON) {
			st->looked_ms = 0;
			pthread_cond_signal(&st->wake);
		}
	}
	pthread_mutex_unlock(&st->lock);
	return good ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

int
store_put_ban(struct store *st, struct grapnel_str address, struct grapnel_str row)
{
	return put(st, BATCH_BAN, 0, address, row);
}

int
store_put_value(
    struct store *st, struct grapnel_str plugin, struct grapnel_str key, struct grapnel_str row)
{
	struct row_out both = { 0 };
	int err = GRAPNEL_ENOMEM;

	row_bytes(&both, plugin.data, plugin.len);
	row_bytes(&both, key.data, key.len);
	if (!both.failed)
		err = put(st, BATCH_VALUE, plugin.len,
		    (struct grapnel_str){ (char *)both.data, both.len }, row);
	row_free(&both);
	return err;
}

int
store_sync(struct store *st, struct worker *w, struct mail *m)
{
	struct store_sync *s = malloc(sizeof(*s));

	if (s == NULL)
		return GRAPNEL_ENOMEM;
	s->w = w;
	s->mail = m;
	pthread_mutex_lock(&st->lock);
	s->next = st->syncs;
	st->syncs = s;
	st->looked_ms = 0; /* at once */
	pthread_cond_signal(&st->wake);
	pthread_mutex_unlock(&st->lock);
	return GRAPNEL_OK;
}

void
store_synced(struct store *st, struct store_sync *s)
{
	struct store_sync *next;

	(void)st;
	for (; s != NULL; s = next) {
		next = s->next;
		worker_post(s->w, s->mail);
		free(s);
	}
}

/* ---- figures -------------------------------------------------------------------------------------------------- */

void
store_figures(const struct store *st, struct store_figures *out)
{
#define GET(name) atomic_load_explicit(&st->name, memory_order_relaxed)
	*out = (struct store_figures){ .commits = GET(commits),
		.batches = GET(batches),
		.records = GET(records),
		.written_bytes = GET(written_bytes),
		.failures = GET(failures),
		.segments = GET(segment_count),
		.file_bytes = GET(file_bytes),
		.wal_bytes = GET(wal_bytes),
		.free_bytes = GET(free_bytes),
		.commit_us_total = GET(commit_us_total),
		.commit_us_max = GET(commit_us_max),
		.read_back = GET(read_back),
		.damaged = GET(damaged) };
#undef GET
}
