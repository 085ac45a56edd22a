/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache - answers of one instance that are good for more than one question, and who waits for one under way
 *
 * The key is a keyed hash (BLAKE2s, 256 bits, a key of this process) over the fields that the plugin's answers depend on, each
 * with its length: no two questions share it, and no password can be read from it. Answers are stored as copies. While one
 * question is under way, equal ones from any worker wait for its answer instead of being asked too.
 *
 * Threads:   any, under one lock per instance that is held for a look-up and a copy (a leaf: takes no other).
 * Ownership: a cache belongs to its instance. A struct landing belongs to the cache while it waits, then to its mail.
 * Bounded:   max_entries, least recently used first; whoever waits is bounded by its own deadline.
 */
#ifndef BROKER_PLUGIN_CACHE_H
#define BROKER_PLUGIN_CACHE_H

#include "answer.h"
#include "copy.h"

#define CACHE_KEY_SIZE 32

struct cache_limits {
	bool on;
	uint32_t ttl_ms, negative_ttl_ms; /* ALLOW; DENY and NEXT */
	uint32_t jitter;		  /* per cent that a time may be shorter */
	uint32_t stale_ms;		  /* how long after its end an ALLOW may stand in for a backend in trouble */
	uint32_t max_entries;
};
struct cache_counts {
	uint64_t stored, evicted, purged;
	uint32_t entries, waiting;
};

/* What makes keys; one per worker. */
struct cache_hasher;
struct cache_hasher *cache_hasher_new(const uint8_t secret[CACHE_KEY_SIZE]); /* NULL: no memory */
void cache_hasher_free(struct cache_hasher *h);				     /* NULL is fine */
struct cache_key {
	uint8_t bytes[CACHE_KEY_SIZE];
};
/* depends: enum grapnel_depends. false: answers to this question cannot be kept, or the hash failed. */
bool cache_key_make(struct cache_hasher *h, enum hook hook, uint64_t depends, const struct question *q, struct cache_key *key);

struct cache *cache_new(void);
void cache_free(struct cache *c); /* nobody waits any more; NULL is fine */
void cache_limit(struct cache *c, const struct cache_limits *limits);
void cache_counts(struct cache *c, struct cache_counts *out);

/* Somebody who waits for the answer to an equal question. */
struct landing {
	struct mail mail; /* when it has come */
	struct landing *next;
	struct worker *w;
	void *asker;	 /* NULL: gone. The worker's */
	bool again;	 /* there is no answer to share: ask yourself */
	enum grapnel_verdict verdict;
	struct answer *answer; /* heap; NULL: no details */
};
struct cached {
	enum grapnel_verdict verdict;
	struct answer *answer; /* in the space that was given or on the heap; NULL: no details */
	uint32_t age_ms;
};
enum cache_found {
	CACHE_FRESH, /* *out is filled */
	CACHE_ASK,   /* go and ask, and say how it ended with cache_land */
	CACHE_WAITS, /* *waits is in the queue; its mail comes */
	CACHE_OFF,   /* go and ask, nobody waits for it */
};
/*
 * landing: made by the caller, taken with CACHE_WAITS. space: as of answer_new.
 * look_only: answer CACHE_FRESH or CACHE_OFF, and leave no trace.
 */
enum cache_found cache_find(struct cache *c, const struct cache_key *key, uint64_t now_ms, struct landing *landing,
    bool look_only, void *space, size_t space_len, struct cached *out);
/* An ALLOW whose time is over but not its stale time. */
bool cache_stale(struct cache *c, const struct cache_key *key, uint64_t now_ms, void *space, size_t space_len, struct cached *out);
/*
 * The question that CACHE_ASK was said to has ended: keep the answer if it may be kept, and tell those who wait. verdict PENDING:
 * it was given up without an answer, so the first of them asks. q names whom it is about.
 */
void cache_land(struct cache *c, const struct cache_key *key, uint64_t depends, const struct question *q, uint64_t now_ms,
    enum grapnel_verdict verdict, const struct answer *answer);
/* Leave the queue. false: its mail is on the way. */
bool cache_leave(struct cache *c, const struct cache_key *key, struct landing *landing);
/* Forget what is about them (.data NULL: anybody); what is under way is not kept. @return how many. */
uint32_t cache_purge(struct cache *c, struct grapnel_str username, struct grapnel_str client_id);

#endif
