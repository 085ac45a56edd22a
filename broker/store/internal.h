/* SPDX-License-Identifier: Apache-2.0 */
/* internal - what the files of the store share; nobody else includes it */
#ifndef BROKER_STORE_INTERNAL_H
#define BROKER_STORE_INTERNAL_H

#include "core/broker.h"
#include "store/batch.h"

#include <pthread.h>

/* ---- segments.c: the writer's own --------------------------------------------------------------- */
struct segments; /* opaque */
enum segment_op { SEGMENT_DELETE, SEGMENT_STRIP }; /* the row goes; its messages go, `finished` is still needed */
struct segments *segments_new(void);
void segments_free(struct segments *s);
/* It has been written: left[i] receivers of the message with index i. false: no memory (it is never deleted then). */
bool segments_written(struct segments *s, uint64_t number, const uint32_t *left, uint32_t count, uint64_t bytes);
/*
 * What a segment says with `finished`: carrier, then each, then carried, whether it has messages or not.
 * In `finished` of segment `in`: that receiver of that message is done, or all of them (0).
 */
bool segments_carrier(struct segments *s, uint64_t in);
void segments_carried(struct segments *s, uint64_t in);
bool segments_finished(struct segments *s, uint64_t in, const struct row_finished *f);
/* At load: the message has so many receivers left (0: none), for which `finished` of others has been looked at already. */
void segments_pin(struct segments *s, uint64_t in, uint64_t address);
void segments_hold(struct segments *s, bool on); /* while it is on nothing is done away with */
void segments_loaded(struct segments *s); /* all is known: what is not needed is to be done away with */
/* What is to be done with rows, in this order. @return false: nothing. It is done with when segments_op_done is called. */
bool segments_op(struct segments *s, uint64_t *number, enum segment_op *op);
void segments_op_done(struct segments *s, size_t count); /* the first `count` since the last call of this */
void segments_op_again(struct segments *s); /* from the first again: they were rolled back */
size_t segments_waiting(const struct segments *s);
uint64_t segments_count(const struct segments *s);
/* One that is mostly dead, or 0; to be written anew with segments_left() > 0 only. Looks at a few at a time. */
uint64_t segments_sparse(struct segments *s);
uint32_t segments_left(const struct segments *s, uint64_t number, uint32_t index);
void segments_squeezed(struct segments *s, uint64_t number, uint64_t bytes);

/* ---- the store ------------------------------------------------------------------------------------ */
enum statement {
	ST_BEGIN,
	ST_COMMIT,
	ST_ROLLBACK,
	ST_SESSION,
	ST_SESSION_GOES,
	ST_SUBSCRIPTIONS_GO,
	ST_EXCHANGE_GOES,
	ST_SUBSCRIPTION,
	ST_SUBSCRIPTION_GOES,
	ST_EXCHANGE,
	ST_RETAINED,
	ST_RETAINED_GOES,
	ST_LOG,
	ST_LOG_GOES,
	ST_LOG_STRIP,
	ST_LOG_READ,
	ST_LOG_SQUEEZE,
	ST_BAN,
	ST_BAN_GOES,
	ST_VALUE,
	ST_VALUE_GOES,
	ST_META,
	ST_COUNT
};

#define CLEARED_MAX 4096u
struct cleared { /* a retained message that went lately: an older one that comes late must not bring it back */
	uint64_t topic, seq, at_ms;
};

/* ---- clocks.c ------------------------------------------------------------------------------------ */
#define CLOCKS 32u
struct clock_set {
	uint64_t from;	  /* the first segment */
	int64_t ahead_ms; /* of the monotonic clock */
};
struct clocks {
	pthread_mutex_t lock;
	struct clock_set at[CLOCKS];
	unsigned count; /* 0: not begun */
	uint64_t behind_until; /* segments below are of runs before, and the clock stood before their end; 0: it did not */
};
struct store;
void clocks_begin(struct store *st, bool behind); /* behind: the clock stands before the last commit */
void clocks_end(struct store *st);
void clocks_look(struct store *st); /* before something is written */
uint64_t clocks_wall(struct store *st, uint64_t segment); /* the time now, by the clock that this segment was written by */

struct reader; /* reader.c */
struct store_sync;

struct store {
	struct broker *broker;
	struct settings *settings; /* a reference */
	struct store_file file;
	_Atomic uint64_t next_segment, next_id;
	_Atomic int state; /* enum store_state */
	_Atomic bool mark_damaged; /* the checker found something: the next start is to salvage */
	void (*ask_fn)(struct worker *w, struct mail *m);
	struct {
		struct mail mail;
		_Atomic bool out;
	} ask[WORKER_MAX];

	/* under lock */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct store_batch *queue, **queue_end;
	struct store_batch *rows; /* of other threads */
	struct store_sync *syncs; /* to be posted when `rows` is written */
	uint8_t want[WORKER_MAX]; /* enum store_want */
	uint64_t want_at_us[WORKER_MAX];
	bool idle, stopping;
	uint64_t looked_ms; /* for what is not urgent */

	/* the writer's */
	pthread_t writer;
	bool writer_runs, failed_at_end;
	sqlite3_stmt *st[ST_COUNT];
	struct segments *segments;
	struct row_out out, row, finished, scratch;
	uint32_t *left;
	size_t left_capacity;
	struct cleared cleared[CLEARED_MAX];
	unsigned cleared_at;
	uint64_t retained_seq; /* the highest written, or tried to */
	uint64_t meta_next_id, meta_next_segment; /* as in the file */
	int wal_pages;
	unsigned ops; /* of segments in this transaction */
	uint64_t alive_ms, housekept_ms; /* monotonic: when the file last said so; housekeeping */
	uint64_t sized_bytes; /* written_bytes when the size was looked at */

	struct clocks clocks;
	struct reader *reader;
	struct store_checker *checker;

	/* figures */
	_Atomic uint64_t commits, batches, records, written_bytes, failures, segment_count, file_bytes, wal_bytes, free_bytes,
	    commit_us_total, commit_us_max, read_back, damaged;
};

struct store_sync {
	struct store_sync *next;
	struct worker *w;
	struct mail *mail;
};
void store_synced(struct store *st, struct store_sync *s);
uint64_t store_pragma(struct store *st, const char *name); /* a number */
void store_unprepare(struct store *st);
void store_say_damage(struct store *st);
void *store_writer(void *arg); /* the thread */
bool store_prepare(struct store *st, char error[STORE_ERROR]);
/* encode.c: the rows of a batch in the open transaction. @return SQLITE_OK or what failed. */
int store_write_batch(struct store *st, struct store_batch *b);
void store_account_batch(struct store *st, const struct store_batch *b); /* it is on the disk */
int store_squeeze(struct store *st, uint64_t number, uint64_t *bytes);
void store_count(_Atomic uint64_t *figure, uint64_t n);

int reader_start(struct store *st);
void reader_stop(struct store *st);

#endif
