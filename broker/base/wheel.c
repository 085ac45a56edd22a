/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wheel.h"
#include <assert.h>
#include <grapnel/types.h>
#include <stdlib.h>

/*
 * A timer stands at the level of the highest group of six bits in which its tick differs from the
 * current one, in the slot of its own group there. So all timers of a level lie behind the current slot
 * of that level and in front of everything at higher levels: the first set bit of the lowest used level
 * is what comes next, and nothing ever wraps around. Eleven levels hold any 64-bit tick.
 */
#define TICK_MS     10u
#define LEVEL_BITS  6u
#define LEVEL_SLOTS (1u << LEVEL_BITS)
#define LEVELS      11u
/* Moving a timer down a level is much cheaper than firing one, but a million of them is still a stall. */
#define MOVES_PER_BUDGET 8u

struct wheel {
	uint64_t tick;           /* everything up to here has left the slots */
	struct timer *due;       /* being fired */
	struct timer *past;      /* armed for now or earlier: fired by the next advance */
	struct timer *cascade;   /* left their slot, on their way to lower levels */
	uint32_t used;           /* bit per level that has timers */
	uint64_t bitmap[LEVELS]; /* bit per slot that has timers */
	struct timer *slots[LEVELS][LEVEL_SLOTS];
};

int
wheel_new(struct wheel **out, uint64_t now_ms)
{
	struct wheel *wh = calloc(1, sizeof(*wh));

	if (wh == NULL)
		return GRAPNEL_ENOMEM;
	wh->tick = now_ms / TICK_MS;
	*out = wh;
	return GRAPNEL_OK;
}

void
wheel_free(struct wheel *wh)
{
	free(wh);
}

void
timer_init(struct timer *t, void (*fn)(struct timer *t, void *owner))
{
	*t = (struct timer){ .fn = fn };
}

static void
list_push(struct timer **head, struct timer *t)
{
	t->next = *head;
	if (t->next != NULL)
		t->next->link = &t->next;
	t->link = head;
	*head = t;
}

static void
list_remove(struct timer *t)
{
	*t->link = t->next;
	if (t->next != NULL)
		t->next->link = t->link;
	t->next = NULL;
	t->link = NULL;
}

/* Move a whole list onto an empty one. */
static void
list_take(struct timer **to, struct timer **from)
{
	*to = *from;
	*from = NULL;
	if (*to != NULL)
		(*to)->link = to;
}

static void
slot_vacated(struct wheel *wh, unsigned level, unsigned slot)
{
	wh->bitmap[level] &= ~(UINT64_C(1) << slot);
	if (wh->bitmap[level] == 0)
		wh->used &= ~(1u << level);
}

/* Put t where its due time belongs; what is due already goes to `late`. */
static void
place(struct wheel *wh, struct timer *t, struct timer **late)
{
	uint64_t due =
	    t->due_ms / TICK_MS + (t->due_ms % TICK_MS != 0); /* rounded up: never early */
	unsigned level, slot;

	if (due <= wh->tick) {
		list_push(late, t);
		return;
	}
	level = (63u - (unsigned)__builtin_clzll(due ^ wh->tick)) / LEVEL_BITS;
	slot = (unsigned)(due >> (level * LEVEL_BITS)) & (LEVEL_SLOTS - 1);
	list_push(&wh->slots[level][slot], t);
	wh->bitmap[level] |= UINT64_C(1) << slot;
	wh->used |= 1u << level;
}

void
timer_arm(struct wheel *wh, struct timer *t, uint64_t due_ms)
{
	timer_disarm(wh, t);
	t->due_ms = due_ms;
	place(wh, t, &wh->past);
}

void
timer_disarm(struct wheel *wh, struct timer *t)
{
	struct timer **link = t->link;
	uintptr_t first = (uintptr_t)&wh->slots[0][0];
	uintptr_t at = (uintptr_t)link;

	if (link == NULL)
		return;
	list_remove(t);
	/* Was it the last of a slot? Then the place that pointed to it is the slot itself. */
	if (at >= first && at < first + sizeof(wh->slots) && *link == NULL) {
		unsigned n = (unsigned)((at - first) / sizeof(struct timer *));

		slot_vacated(wh, n / LEVEL_SLOTS, n % LEVEL_SLOTS);
	}
}

/* The tick of the next used slot, and which one it is. false: nothing in the slots. */
static bool
next_slot(const struct wheel *wh, uint64_t *tick, unsigned *level, unsigned *slot)
{
	unsigned above;
	uint64_t base;

	if (wh->used == 0)
		return false;
	*level = (unsigned)__builtin_ctz(wh->used);
	*slot = (unsigned)__builtin_ctzll(wh->bitmap[*level]);
	above = (*level + 1) * LEVEL_BITS;
	base = above < 64 ? wh->tick >> above << above : 0;
	*tick = base | (uint64_t)*slot << (*level * LEVEL_BITS);
	return true;
}

unsigned
wheel_advance(struct wheel *wh, uint64_t now_ms, unsigned budget, void *owner)
{
	uint64_t now_tick = now_ms / TICK_MS, tick;
	uint64_t moves = (uint64_t)budget * MOVES_PER_BUDGET;
	unsigned fired = 0, level, slot;
	bool took_past =
	    false; /* once: what callbacks arm for the past waits for the next advance */

	while (fired < budget) {
		if (wh->due != NULL) {
			struct timer *t = wh->due;

			list_remove(t);
			fired++;
			t->fn(t, owner); /* may free t */
		} else if (!took_past) {
			took_past = true;
			list_take(&wh->due, &wh->past);
		} else if (wh->cascade != NULL) {
			struct timer *t = wh->cascade;

			if (moves-- == 0)
				break; /* wheel_next_ms says that there is more */
			list_remove(t);
			place(wh, t, &wh->due);
		} else if (next_slot(wh, &tick, &level, &slot) && tick <= now_tick) {
			assert(tick > wh->tick);
			wh->tick = tick;
			list_take(level == 0 ? &wh->due : &wh->cascade, &wh->slots[level][slot]);
			slot_vacated(wh, level, slot);
		} else {
			if (wh->tick < now_tick)
				wh->tick = now_tick;
			break;
		}
	}
	return fired;
}

uint64_t
wheel_next_ms(const struct wheel *wh)
{
	uint64_t tick;
	unsigned level, slot;

	if (wh->due != NULL || wh->past != NULL || wh->cascade != NULL)
		return wh->tick * TICK_MS;
	if (!next_slot(wh, &tick, &level, &slot))
		return UINT64_MAX;
	return tick > UINT64_MAX / TICK_MS ? UINT64_MAX - 1 : tick * TICK_MS;
}
