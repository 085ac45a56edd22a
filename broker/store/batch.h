/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch - what a worker wants to have written with one commit
 *
 * Threads:   the worker's until store_submit, then the writer's until it comes back as mail.
 * Ownership: records and retained rows hold references to their messages, which the worker drops when the batch is back.
 * Bounded:   by what clients may have unacknowledged, since their acknowledgements wait for it.
 */
#ifndef BROKER_STORE_BATCH_H
#define BROKER_STORE_BATCH_H

#include "core/queue.h"
#include "store/store.h"

struct ticket; /* core/durable.h */

#define SEGMENT_BYTES	  (64u * 1024u) /* of messages; a larger message has one of its own */
#define SEGMENT_RECORDS	  2048u
#define RECORD_RECEIVERS  8192u /* for more the message is written once more */

struct batch_receiver {
	uint64_t session; /* or shared group */
	subids ids;	  /* a reference */
	uint8_t qos;
	bool retain, finished;
};
struct batch_record {
	struct message *msg;   /* NULL: nobody waits for it any more, it is not written */
	struct ticket *ticket; /* is released when it is written, or need not be; NULL: nobody waits for that */
	uint64_t origin, origin_number; /* as struct row_record */
	uint32_t first, count; /* in the segment's receivers */
	uint32_t left;	       /* of them: not finished */
	uint32_t hint;	       /* where the next one that finishes is looked for */
	bool group;	       /* of a shared group alone */
	bool retained;	       /* served from the retained index: a receiver may get it as a message of now, too */
};
struct batch_segment {
	struct batch_segment *next;
	uint64_t number;
	struct batch_record *records;
	struct batch_receiver *receivers;
	uint32_t record_count, record_capacity, receiver_count, receiver_capacity;
	uint32_t alive; /* records that are to be written */
	size_t bytes;	/* of their messages */
};
struct batch_retained {
	struct message *msg; /* without payload: there is none any more */
	uint64_t seq;
};

enum batch_table { BATCH_SESSION, BATCH_SUBSCRIPTION, BATCH_EXCHANGE, BATCH_BAN, BATCH_VALUE };

struct store_batch {
	struct mail mail; /* first: it comes back */
	struct store_batch *next;
	struct worker *w; /* NULL: rows of other threads; it does not come back but is freed */
	struct batch_segment *first, *last;
	struct row_finished *finished;
	size_t finished_count, finished_capacity;
	struct batch_retained *retained;
	size_t retained_count, retained_capacity;
	struct ticket **tickets; /* released when all this is written */
	size_t ticket_count, ticket_capacity;
	/* { table << 1 | goes, id, text, row }: row_number twice, row_string twice; a session that goes takes what it has along */
	struct row_out rows;
	uint64_t finished_in; /* the writer's: the segment that says it */
	bool failed; /* no memory for one of them */
};

struct store_batch *batch_new(struct worker *w); /* NULL: no memory */
void batch_free(struct store_batch *b); /* with what it still holds; on its worker */
bool batch_empty(const struct store_batch *b);
size_t batch_bytes(const struct store_batch *b); /* of messages */
/* Each false or NULL: no memory, nothing changed. */
struct batch_segment *batch_segment_add(struct store_batch *b, uint64_t number);
struct batch_record *batch_record_add(struct batch_segment *seg); /* zeroed */
bool batch_receiver_add(struct batch_segment *seg, struct batch_record *rec, const struct batch_receiver *r); /* of the last record */
bool batch_finished_add(struct store_batch *b, const struct row_finished *f);
bool batch_retained_add(struct store_batch *b, struct message *kept, uint64_t seq); /* takes a reference of its own */
bool batch_ticket_add(struct store_batch *b, struct ticket *t);
void batch_row(struct store_batch *b, enum batch_table table, bool goes, uint64_t id, struct grapnel_str text, struct grapnel_str row);

/* ---- store.c ----------------------------------------------------------------------------------- */
const struct settings *store_settings(const struct store *st); /* those it was opened with: constant */
uint64_t store_next_segment(struct store *st); /* any thread */
uint64_t store_next_id(struct store *st);
/* Takes the batch. It returns as mail when it is on the disk. */
void store_submit(struct store *st, struct store_batch *b);

enum store_want { STORE_LATER = 1, STORE_SOON, STORE_NOW };
/*
 * Worker: there is something to write. The writer asks for it (store_asks) at once, in a moment, or in a while. @return true: it is
 * idle, submit right away.
 */
bool store_want(struct store *st, unsigned worker, enum store_want want);
/* The mail with which the writer asks; its fn is that of store_start. Called by that first of all. */
void store_ask_taken(struct store *st, struct mail *m);

/* ---- encode.c ----------------------------------------------------------------------------------- */
/* A message as a row has it, pointing into it; an expiry as the deadline that it is. Any thread. */
void store_message_row(const struct message *m, struct row_message *row);

/* ---- reader.c ----------------------------------------------------------------------------------- */
#define READ_MAX 128u
struct store_read { /* messages that were left on the disk */
	struct mail mail; /* fn is the asker's: runs on its worker */
	struct store_read *next;
	struct worker *w;
	uint64_t generation; /* the asker's own */
	bool failed; /* the disk, or memory: what is NULL may be read another time */
	unsigned count;
	uint64_t address[READ_MAX];
	struct message *msg[READ_MAX]; /* NULL: it cannot be read; else a reference */
};
void store_read(struct store *st, struct store_read *r);
/* The message of a row, on the heap; NULL: no memory. Any thread. */
struct message *store_message(const struct row_message *m, const struct row_clock *clock, uint64_t now_ms);

/* ---- load.c --------------------------------------------------------------------------------------- */
/* What the core makes of what is read. Main, no other thread runs. false: no memory. */
struct store_loader {
	bool (*session)(void *arg, uint64_t id, const struct row_session *s, const struct row_clock *clock);
	bool (*subscription)(void *arg, uint64_t session, struct grapnel_str filter, const struct row_subscription *s);
	bool (*exchange)(void *arg, uint64_t session, const struct row_exchange *x, struct row_in *rest);
	bool (*retained)(void *arg, const struct row_message *m, const struct row_clock *clock, uint64_t seq);
	/*
	 * Asked before a message that has an origin: did that Session confirm the number? If not the core sees to it that the address
	 * is finished before the Session confirms anything else: numbers are used again.
	 */
	bool (*confirmed)(void *arg, uint64_t session, uint64_t number, uint64_t address);
	/* Of each message all receivers that are not finished, in the order of the log. */
	bool (*message)(void *arg, uint64_t address, const struct row_message *m, const struct row_receiver *r,
	    const struct row_clock *clock, bool *known); /* known: false: there is no such Session */
};
uint64_t store_retained_seq(const struct store *st); /* after it: the highest number */
int store_load(struct store *st, const struct store_loader *fn, void *arg, char error[STORE_ERROR]);

#endif
