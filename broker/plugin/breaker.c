/* SPDX-License-Identifier: Apache-2.0 */
#include "breaker.h"

#define GET(member)        atomic_load_explicit(&b->member, memory_order_relaxed)
#define SET(member, value) atomic_store_explicit(&b->member, value, memory_order_relaxed)

bool
breaker_asks(struct breaker *b, uint64_t now_ms, bool *probe)
{
	uint32_t wait_ms = GET(wait_ms);
	uint64_t until_ms;

	*probe = false;
	if (wait_ms == 0)
		return true;
	until_ms = GET(until_ms);
	/* Whoever moves the time on is the one that asks; should its end get lost, another one is. */
	*probe = now_ms >= until_ms &&
	    atomic_compare_exchange_strong(&b->until_ms, &until_ms, now_ms + wait_ms);
	return *probe;
}

enum breaker_change
breaker_ended(struct breaker *b, bool answered, bool probe, uint64_t now_ms)
{
	uint32_t wait_ms, max_ms, failures;

	if (answered) {
		if (GET(failures) != 0)
			SET(failures, 0);
		return GET(wait_ms) != 0 && atomic_exchange(&b->wait_ms, 0) != 0 ? BREAKER_CLOSED
										 : BREAKER_SAME;
	}
	if ((wait_ms = GET(wait_ms)) == 0) {
		failures = atomic_fetch_add_explicit(&b->failures, 1, memory_order_relaxed) + 1;
		if (GET(failures_max) == 0 || failures < GET(failures_max))
			return BREAKER_SAME;
		SET(until_ms, now_ms + GET(wait_first_ms));
		return atomic_exchange(&b->wait_ms, GET(wait_first_ms)) == 0 ? BREAKER_OPENED
									     : BREAKER_SAME;
	}
	if (!probe) /* asked before it opened */
		return BREAKER_SAME;
	max_ms = GET(wait_max_ms);
	wait_ms = wait_ms < max_ms / 2 ? wait_ms * 2 : max_ms;
	SET(wait_ms, wait_ms);
	SET(until_ms, now_ms + wait_ms);
	return BREAKER_SAME;
}
