/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker - an instance whose backend does not answer is left alone for a while
 *
 * After so many questions in a row that ended UNAVAILABLE the next ones are answered so at once, without asking. When
 * the wait is over one question goes through; it closes the breaker, or the wait doubles.
 *
 * Threads: any; a few relaxed atomics. Two workers may count a failure too few or ask once more than they should.
 */
#ifndef BROKER_PLUGIN_BREAKER_H
#define BROKER_PLUGIN_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct breaker {
	/* what the operator wants; a reload changes it */
	_Atomic uint32_t failures_max; /* 0: never opens */
	_Atomic uint32_t wait_first_ms, wait_max_ms;
	_Atomic uint32_t failures; /* in a row */
	_Atomic uint32_t wait_ms;  /* 0: closed */
	_Atomic uint64_t until_ms; /* open until then */
};

/* It is closed, and the last question was answered: then there is nothing to ask it or to tell it. */
static inline bool
breaker_idle(const struct breaker *b)
{
	return (atomic_load_explicit(&b->wait_ms, memory_order_relaxed) |
		   atomic_load_explicit(&b->failures, memory_order_relaxed)) == 0;
}
/* May this question be asked? *probe: it is the one that finds out; its end must say so. */
bool breaker_asks(struct breaker *b, uint64_t now_ms, bool *probe);
enum breaker_change { BREAKER_SAME, BREAKER_OPENED, BREAKER_CLOSED };
/* How one ended. BREAKER_OPENED for the first time only, not when it stays open. */
enum breaker_change breaker_ended(struct breaker *b, bool answered, bool probe, uint64_t now_ms);
static inline bool
breaker_open(const struct breaker *b)
{
	return atomic_load_explicit(&b->wait_ms, memory_order_relaxed) != 0;
}

#endif
