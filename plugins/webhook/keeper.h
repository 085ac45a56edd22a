/* SPDX-License-Identifier: Apache-2.0 */
/* What keeper.c, keeper_batch.c and keeper_refill.c know of each other; all of it belongs to the keeper's thread. */
#ifndef PLUGINS_WEBHOOK_KEEPER_H
#define PLUGINS_WEBHOOK_KEEPER_H

#include "outbox.h"
#include "parts.h"

struct keeper {
	struct webhook *w;
	struct outbox *o;  /* NULL: it could not be opened yet */
	int64_t next_row;  /* of an outbox that was damaged */
	uint64_t retry_ms; /* not before; 0: at once */
	uint64_t look_ms;
	bool can_be_calm;
	bool seen;    /* it is known what the outbox has */
	bool failing; /* and it was said */
	bool untidy;  /* room may be given back, once the outbox is empty */
	/* the batch: what a commit that failed leaves is in the next one */
	struct parcel *last; /* in the queue, up to and with this one; NULL: none */
	size_t count;
	int64_t *written; /* their rows */
	size_t written_capacity;
	struct dead *dead, *dead_last;
	int64_t *rows; /* done */
	size_t row_count;
	struct job *jobs;
};

/* Of one endpoint, in one commit. */
struct trimmed {
	struct outbox_sum full, old;
	uint64_t dead, dead_lost;
};

/* Between them the thread gives way to others, unless somebody waits for it. Without the lock. */
bool keeper_can_be_calm(void); /* whether this thread may come back from giving way */
void keeper_calm(struct keeper *k);
void keeper_calm_end(struct keeper *k);

bool keeper_failed(struct keeper *k, const char *what); /* says so, once; @return false */

void batch_take(struct keeper *k); /* [lock] */
/* t: one for each endpoint. false: outbox_error says why; to be rolled back, and it is all in the next batch. */
bool batch_write(struct keeper *k, struct trimmed *t);
void batch_written(struct keeper *k, const struct trimmed *t); /* [lock] after the commit */
void batch_free(struct keeper *k); /* its dead letters */

/* What is in the outbox alone comes into the window, as far as there is room; then what is unwritten. false: outbox_error. */
bool keeper_refill(struct keeper *k, struct endpoint *e);
void keeper_refill_unwritten(struct keeper *k, struct endpoint *e); /* while nothing can be written */

#endif
