/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wheel - many timers, cheap to move: a hierarchical timer wheel, ticks of 10 ms
 *
 * A timer is embedded in what it is about. Arming and disarming are O(1) and touch two neighbours; a timer that is
 * only ever pushed back (Keep Alive) may instead be left alone and re-armed when it fires early.
 *
 * Threads: one owner. Time is passed in, so tests need no clock.
 */
#ifndef BROKER_BASE_WHEEL_H
#define BROKER_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
	struct timer *next, **link; /* link: where the pointer to us is; NULL: not armed */
	uint64_t due_ms;	    /* monotonic */
	void (*fn)(struct timer *t, void *owner); /* owner: wheel_advance's argument */
};

struct wheel; /* opaque */
int wheel_new(struct wheel **out, uint64_t now_ms);
void wheel_free(struct wheel *wh); /* armed timers are forgotten */
void timer_init(struct timer *t, void (*fn)(struct timer *t, void *owner));
void timer_arm(struct wheel *wh, struct timer *t, uint64_t due_ms); /* again: moves it; the past: fires at the next advance */
void timer_disarm(struct wheel *wh, struct timer *t); /* not armed: nothing happens */
static inline bool
timer_armed(const struct timer *t)
{
	return t->link != NULL;
}
/*
 * Fire what is due, never early; at most `budget` timers, so that a crowd of them does not hold the loop.
 * A callback may arm, disarm and free any timer. @return how many fired (== budget: call again soon).
 */
unsigned wheel_advance(struct wheel *wh, uint64_t now_ms, unsigned budget, void *owner);
/* When advance must be called next; UINT64_MAX: nothing armed. May be early, never late by more than a tick. */
uint64_t wheel_next_ms(const struct wheel *wh);

#endif
