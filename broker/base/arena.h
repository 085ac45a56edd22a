/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena - many small objects of a few sizes, without a byte of malloc's beside them
 *
 * Objects of one class share pages of 4 KiB; a page that becomes empty goes back to the
 * system (a few per class stay, so that what comes and goes does not pay for it) and serves
 * the same class again later. Objects can be named by 32-bit numbers.
 *
 * Threads:   those of the owner, one at a time; arena_at on any thread that has a number.
 * Ownership: the arena owns all memory until arena_free. Addresses stay mapped and keep their
 *            class until then, and of an object that was given back the first 8 bytes are left
 *            alone, or become zero: who holds a stale pointer can find out.
 * Bounded:   by its owner; 16 GiB.
 */
#ifndef BROKER_BASE_ARENA_H
#define BROKER_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define ARENA_CLASSES    40
#define ARENA_CHUNK_LOG2 20
#define ARENA_CHUNKS     ((size_t)1 << (31 - (ARENA_CHUNK_LOG2 - 3))) /* numbers have 31 bits */

struct arena_class {
	uint32_t bytes;
	uint32_t open;  /* pages with room */
	uint32_t spare; /* pages whose memory has gone back */
	uint32_t empty; /* open pages without objects */
};

struct arena {
	char *chunks[ARENA_CHUNKS]; /* constant once a number in it is known to anybody */
	uint32_t chunk_count, chunk_pages; /* chunk_pages: used of the newest */
	uint64_t pages;			   /* that have memory */
	struct arena_class classes[ARENA_CLASSES];
};

/* Sizes are multiples of 8 between 16 and 1024; multiples of 64 are aligned to 64. NULL: no memory. */
struct arena *arena_new(const uint32_t *sizes, unsigned count);
void arena_free(struct arena *s); /* with all that is in it; NULL is fine */
void *arena_take(struct arena *s, unsigned cls); /* not cleared. NULL: no memory */
void arena_give(struct arena *s, void *object);
uint32_t arena_number(const void *object); /* never 0 */
uint64_t arena_bytes(const struct arena *s);

static inline void *
arena_at(const struct arena *s, uint32_t number)
{
	return s->chunks[number >> (ARENA_CHUNK_LOG2 - 3)] +
	    (size_t)(number & (((uint32_t)1 << (ARENA_CHUNK_LOG2 - 3)) - 1)) * 8;
}

#endif
