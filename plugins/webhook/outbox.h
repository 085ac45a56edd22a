/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox - events that wait to be sent, and those that were refused, in an SQLite database
 *
 * A row holds a chunk of one endpoint; rows of an endpoint ascend in the order of its events. One process at a time has the
 * file. Written in WAL mode, every commit with fsync: what outbox_commit has confirmed survives a loss of power.
 *
 * Threads:   one at a time; the keeper.
 * Errors:    false, and outbox_error says why; the transaction is to be rolled back.
 */
#ifndef PLUGINS_WEBHOOK_OUTBOX_H
#define PLUGINS_WEBHOOK_OUTBOX_H

#include "events/chunk.h"

struct outbox; /* opaque: outbox.c */

/* path NULL: in memory. NULL: error says why and what to do. A file that is no database of ours is set aside, and *aside says where. */
struct outbox *outbox_open(const char *path, char *error, size_t error_size, char *aside, size_t aside_size);
void outbox_close(struct outbox *o); /* NULL is fine */
const char *outbox_error(struct outbox *o);
bool outbox_damaged(const struct outbox *o); /* the last error: close it, set it aside, open it anew */
/* Rename a file that nobody has open, and what belongs to it. false: errno; *aside is "". */
bool outbox_set_aside(const char *path, char *aside, size_t aside_size);
/* Rows of the next outbox continue where those of this one ended. */
int64_t outbox_next_row(const struct outbox *o);
void outbox_start_at(struct outbox *o, int64_t row);

bool outbox_begin(struct outbox *o);
bool outbox_commit(struct outbox *o);
void outbox_rollback(struct outbox *o);
bool outbox_tidy(struct outbox *o); /* gives unused room back to the system, some of it; outside a transaction. @return there is more */

/* Its number, made if it is new; 0: an error. In a transaction. */
int64_t outbox_endpoint(struct outbox *o, const char *name);

/* 0: an error. */
int64_t outbox_add(struct outbox *o, int64_t endpoint, const struct chunk *c);
bool outbox_remove(struct outbox *o, int64_t row);

struct outbox_sum {
	uint64_t rows, events, bytes;
};
/* What an endpoint has, of rows behind `after`. */
bool outbox_sum(struct outbox *o, int64_t endpoint, int64_t after, struct outbox_sum *sum);
/*
 * fn gets rows behind `after`, oldest first, until it returns false; data is borrowed. bytes NULL: it is damaged; len and count
 * are what outbox_sum counts.
 */
typedef bool (*outbox_row_fn)(void *arg, int64_t row, const struct chunk *c);
bool outbox_each(struct outbox *o, int64_t endpoint, int64_t after, outbox_row_fn fn, void *arg);
/* Remove the oldest rows behind `after` until `bytes` are gone; with before_us != 0 those whose last event is older. Adds to *gone. */
bool outbox_remove_oldest(struct outbox *o, int64_t endpoint, int64_t after, uint64_t bytes, struct outbox_sum *gone);
bool outbox_remove_before(struct outbox *o, int64_t endpoint, int64_t after, int64_t before_us, struct outbox_sum *gone);

struct dead_letter {
	int64_t id, time_us;
	const char *event_id;
	long status;
	const char *response; /* UTF-8 */
	const void *record;
	size_t record_len;
};
bool outbox_dead_add(struct outbox *o, int64_t endpoint, const struct dead_letter *d);
bool outbox_dead_count(struct outbox *o, int64_t endpoint, uint64_t *count);
bool outbox_dead_trim(struct outbox *o, int64_t endpoint, uint64_t keep, uint64_t *removed); /* the oldest go */
typedef bool (*outbox_dead_fn)(void *arg, const struct dead_letter *d);
/* Oldest first; id != 0: that one alone. */
bool outbox_dead_each(struct outbox *o, int64_t endpoint, int64_t id, outbox_dead_fn fn, void *arg);
bool outbox_dead_remove(struct outbox *o, int64_t id);

/* What others left: fn(name, events waiting, dead letters) for each endpoint. */
typedef void (*outbox_endpoint_fn)(void *arg, int64_t id, const char *name, uint64_t events, uint64_t dead);
bool outbox_endpoints(struct outbox *o, outbox_endpoint_fn fn, void *arg);

#endif
