/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk - records, one behind the other, as they leave a worker
 *
 * A worker adds the events of one batch that somebody wants, then hands the chunk over as a whole: one allocation and one
 * hand-over for many events.
 *
 *	for each event: chunk_add(&chunk, ev, payload_max) or there is no memory
 *	hand chunk over; chunk = NULL
 *	...
 *	for (at = 0; (n = record_read(&view, chunk->bytes + at, chunk->len - at)) > 0; at += n) ...
 *	chunk_free(chunk)
 *
 * Threads:   of whoever has it.
 * Bounded:   by what is added.
 */
#ifndef PLUGINS_EVENTS_CHUNK_H
#define PLUGINS_EVENTS_CHUNK_H

#include "record.h"

struct chunk {
	struct chunk *next; /* of whoever has it */
	size_t len, capacity;
	uint32_t count;
	int64_t oldest_us, newest_us; /* times of its first and its last event */
	char *bytes;
};

/* *c NULL: a new one. false: no memory, *c is as it was. */
bool chunk_add(struct chunk **c, const struct grapnel_event *ev, size_t payload_max);
/* Records as they are, count of them; their times. For those that were read from a disk. */
struct chunk *chunk_of(const void *bytes, size_t len, uint32_t count, int64_t oldest_us, int64_t newest_us);
void chunk_trim(struct chunk *c); /* no more is added: memory that is not used goes back */
void chunk_free(struct chunk *c); /* NULL is fine */

#endif
