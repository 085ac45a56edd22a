/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats - what each instance answered, how often and how fast
 *
 * Threads: each block is written by the worker that owns it (plain stores of relaxed atomics),
 *          read by any.
 */
#ifndef BROKER_PLUGIN_STATS_H
#define BROKER_PLUGIN_STATS_H

#include "hooks.h"

#define LATENCY_BUCKETS 12 /* the last one has no upper bound */
extern const uint32_t latency_bounds_us[LATENCY_BUCKETS - 1];

struct hook_stats {
	/* By enum grapnel_verdict; [0]: faults. What was PENDING counts again when resolved. */
	_Atomic uint64_t answers[6];
	_Atomic uint64_t buckets[LATENCY_BUCKETS];
	_Atomic uint64_t sum_us;
	_Atomic uint64_t timeouts;
	_Atomic uint64_t refused; /* max_pending */
};

struct instance_stats {
	struct hook_stats hooks[HOOK_COUNT];
	_Atomic uint64_t holds; /* the loop was held too long */
	_Atomic uint64_t events_taken, events_lost;
	_Atomic uint64_t cache_hits, cache_misses, cache_shared, cache_stale;
	_Atomic uint64_t breaker_refused;
	_Atomic uint64_t shadow_agreed, shadow_differed;
};

static inline void
stats_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(
	    counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
/* A final answer and how long it took. */
void stats_answer(struct hook_stats *s, enum grapnel_verdict verdict, uint64_t microseconds);

const char *verdict_name(int verdict); /* "allow" ... */

#endif
