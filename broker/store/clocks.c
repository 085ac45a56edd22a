/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clocks - by which wall clock a deadline in the log was written
 *
 * The clock may be set while the broker runs: that of a device that begins in 1970 is right a minute later. What was written before
 * would end at once then, or live too long. So it is remembered from which segment on it was how far ahead of the monotonic clock,
 * and what is read back is measured by the clock that it was written by.
 *
 * Threads: clocks_look is the writer's, clocks_wall the reader's.
 * Bounded: CLOCKS; when it is set more often than that, the last one counts for all that follows.
 */
#include "store/internal.h"

#define SET_MS 2000 /* less than that is not set, but drifts */

static int64_t
ahead_now(void)
{
	return clock_wall_us() / 1000 - (int64_t)clock_ms();
}

void
clocks_begin(struct store *st, bool behind)
{
	pthread_mutex_init(&st->clocks.lock, NULL);
	st->clocks.at[0] = (struct clock_set){ 0, ahead_now() };
	st->clocks.count = 1;
	/* Nobody knows how late it really is, until it is set: then what was written in earlier runs is measured by that. */
	st->clocks.behind_until = behind ? atomic_load(&st->next_segment) : 0;
}

void
clocks_end(struct store *st)
{
	if (st->clocks.count > 0)
		pthread_mutex_destroy(&st->clocks.lock);
	st->clocks.count = 0;
}

void
clocks_look(struct store *st)
{
	int64_t ahead = ahead_now(), by = ahead - st->clocks.at[st->clocks.count - 1].ahead_ms;

	if (by > -SET_MS && by < SET_MS)
		return;
	pthread_mutex_lock(&st->clocks.lock);
	if (st->clocks.count == CLOCKS)
		st->clocks.at[CLOCKS - 1].ahead_ms = ahead;
	else /* segments that are on their way have lower numbers: they live too long rather than too short */
		st->clocks.at[st->clocks.count++] =
		    (struct clock_set){ atomic_load(&st->next_segment), ahead };
	pthread_mutex_unlock(&st->clocks.lock);
}

uint64_t
clocks_wall(struct store *st, uint64_t segment)
{
	int64_t ahead, wall;
	unsigned i;

	if (segment < st->clocks.behind_until)
		return (uint64_t)(clock_wall_us() / 1000);
	pthread_mutex_lock(&st->clocks.lock);
	for (i = st->clocks.count - 1; i > 0 && segment < st->clocks.at[i].from; i--)
		;
	ahead = st->clocks.at[i].ahead_ms;
	pthread_mutex_unlock(&st->clocks.lock);
	wall = (int64_t)clock_ms() + ahead;
	return wall > 0 ? (uint64_t)wall : 0;
}
