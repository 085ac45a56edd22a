/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backlog - what the workers have handed over and the writer has not written yet
 *
 * What does not fit is missed: from then on nothing goes in, until the writer has taken what is there. So what was missed lies
 * behind all of that and before all that comes later, for every worker, and the writer can say in the right place how much
 * it was.
 *
 * Threads:   backlog_room, backlog_push on any worker; the rest on the writer's, but for backlog_stop, which is for any.
 * Ownership: backlog_push takes the chunk over when it goes in; backlog_take gives all of them to the caller.
 * Bounded:   limit, counted with what is being written; one chunk goes in, however long, when nothing else is there.
 */
#ifndef PLUGINS_EVENT_LOG_BACKLOG_H
#define PLUGINS_EVENT_LOG_BACKLOG_H

#include <pthread.h>
#include <stdatomic.h>

#include "../events/chunk.h"

struct missed {
	uint64_t count;
	struct grapnel_event_id id; /* of the first one; nothing else will have it */
	int64_t time_us;
};

struct backlog {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* something to write, or stop; CLOCK_MONOTONIC */
	struct chunk *first, **last;
	_Atomic size_t bytes; /* changed under lock */
	size_t limit;
	struct missed missed;
	bool stopping;
	uint64_t deadline_ms; /* once stopping: of CLOCK_MONOTONIC */
};

bool backlog_init(struct backlog *b, size_t limit);
void backlog_fini(struct backlog *b); /* frees what is left */

/* Bytes that would go in now; the limit itself when it is empty. */
size_t backlog_room(struct backlog *b);
/*
 * A chunk, and what was missed behind it; either may be nothing. *began: nothing was missing before.
 * @return false: it does not fit; nothing has changed, and the chunk is still the caller's.
 */
bool backlog_push(struct backlog *b, struct chunk *chunk, const struct missed *missed, bool *began);

/* What there is, and what was missed behind it. Waits for it at most wait_ms. @return false: stopping, and all is done. */
bool backlog_take(struct backlog *b, uint32_t wait_ms, struct chunk **chunks, struct missed *missed);
/* So many bytes of what was taken are written, or lost, and freed. */
void backlog_done(struct backlog *b, size_t bytes);
/* Waits so long, or until it is to stop. @return false: its time is up. */
bool backlog_pause(struct backlog *b, uint32_t wait_ms);
bool backlog_late(struct backlog *b); /* its time is up */

/* Write what is there within so many ms, then end. */
void backlog_stop(struct backlog *b, uint32_t within_ms);

uint64_t backlog_clock_ms(void); /* CLOCK_MONOTONIC */

#endif
