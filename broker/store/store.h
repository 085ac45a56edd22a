/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store - what outlives the process: written by one thread, in groups; read back by another
 *
 * A worker collects what it wants to have written in a struct store_batch and submits that when the writer asks for work, or when it
 * is idle. The writer makes one transaction of all batches that are there; when it is on the disk each batch returns to its worker
 * as mail. So the cost is by batch, and what is no longer wanted before its batch is submitted is never written.
 *
 * store.c	beginning and end, rows of other threads
 * writer.c	transactions, trouble, housekeeping
 * encode.c	from a batch to segments
 * segments.c	which segments are still needed (the writer's own)
 * load.c	reading everything at start
 * reader.c	messages that were left on the disk, for their worker
 * clocks.c	the wall clock is set while it runs
 *
 * Threads:   as said at each function. Mail comes from the writer's and the reader's threads.
 * Errors:    a commit that fails is tried again, with what came meanwhile, until it works; store_state says so.
 */
#ifndef BROKER_STORE_STORE_H
#define BROKER_STORE_STORE_H

#include "core/worker.h"
#include "store/file.h"
#include "store/format.h"

#define STORE_ALIVE_MS 5000u /* the file says at least as often that the broker runs */

struct message;
struct settings;
struct store;

/* ---- beginning and end: main ------------------------------------------------------------------ */
/* Opens the file of s->store; no thread runs yet. Errors as store_file_open. */
int store_open(struct store **out, struct broker *b, const char *program, char error[STORE_ERROR]);
/* The writer and the reader. ask: what a worker does when the writer wants its batch (batch.h). GRAPNEL_ESYS: errno says. */
int store_start(struct store *st, void (*ask)(struct worker *w, struct mail *m));
/* Workers do not run any more: writes what is left and ends the threads. false: it could not be written (a log line says why). */
bool store_stop(struct store *st);
void store_free(struct store *st); /* closes the file; NULL is fine */

enum store_state {
	STORE_GOOD,
	STORE_FULL,    /* max_bytes is reached: nothing more is taken in, what frees room is still written */
	STORE_FAILING, /* commits fail (disk full, I/O error): tried again all the time */
};
enum store_state store_state(const struct store *st); /* any thread */

/* ---- small rows of any thread ------------------------------------------------------------------ */
/*
 * Bans and what plugins keep. Copied, and written with the next commit; for one key the last call counts. row.data NULL: the row
 * goes. GRAPNEL_ENOMEM; GRAPNEL_EQUOTA: 16 MiB of them wait for the disk already. Then nothing changed.
 */
int store_put_ban(struct store *st, struct grapnel_str address, struct grapnel_str row);
int store_put_value(struct store *st, struct grapnel_str plugin, struct grapnel_str key, struct grapnel_str row);
/*
 * m is posted to w when what was put before is on the disk; at the latest by store_stop, whether it could be written or not.
 * GRAPNEL_ENOMEM: it is not.
 */
int store_sync(struct store *st, struct worker *w, struct mail *m);
/* Before store_start. Rows whose checksum is wrong are left out, and counted as damage. */
typedef void (*store_ban_fn)(struct grapnel_str address, const struct row_ban *ban, const struct row_clock *clock, void *arg);
typedef void (*store_value_fn)(struct grapnel_str plugin, struct grapnel_str key, struct grapnel_str value, void *arg);
int store_each_ban(struct store *st, store_ban_fn fn, void *arg);
int store_each_value(struct store *st, store_value_fn fn, void *arg);

/* ---- figures: any thread -------------------------------------------------------------------------- */
struct store_figures {
	uint64_t commits, batches, records, written_bytes; /* since start */
	uint64_t failures; /* commits that failed */
	uint64_t segments, file_bytes, wal_bytes, free_bytes;
	uint64_t commit_us_total, commit_us_max; /* from the first batch to the disk */
	uint64_t read_back; /* messages */
	uint64_t damaged; /* rows that could not be read */
};
void store_figures(const struct store *st, struct store_figures *out);

#endif
