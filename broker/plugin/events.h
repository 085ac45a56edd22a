/* SPDX-License-Identifier: Apache-2.0 */
/*
 * events - what happened, in bounded queues, one per worker and instance
 *
 * An event is copied once per worker and shared by the queues of all instances that want it.
 * hooks_flush hands it on at the end of the turn. A lossy queue that is full counts what it loses
 * and says so with a GAP event at that place; a lossless one has the publishers of its worker
 * paused (head.events_blocked) until half of it is taken. What happens without any publisher
 * meanwhile (a client leaves) still goes in, up to EVENTS_OVERRUN times the limit; beyond that it
 * too loses.
 *
 * Threads: the worker's own.
 */
#ifndef BROKER_PLUGIN_EVENTS_H
#define BROKER_PLUGIN_EVENTS_H

#include "hooks.h"

#define EVENTS_BATCH    256u  /* most that one callback gets */
#define EVENTS_PER_TURN 1024u /* and one turn of the loop */
#define EVENTS_OVERRUN  4u
#define EVENTS_RETRY_MS 100u

struct instance_worker;
struct hook_state;

struct event_copy {
	struct grapnel_event event;
	uint32_t refs;                   /* queues */
	struct grapnel_client *handle;   /* NULL: not about one, or it is gone */
	struct event_copy *next, **link; /* of those about this client */
	struct grapnel_client_info client;
	struct grapnel_message_info message;
	_Alignas(16) char bytes[];
};

struct event_queue {
	struct event_copy **ring; /* grows up to the limit */
	uint32_t size, head, count;
	uint64_t lost;              /* since the last one that went in */
	bool stalled;               /* the plugin did not take all; wait */
	bool blocking;              /* lossless and full */
	struct instance_worker *iw; /* NULL: not in use yet */
	struct timer retry;
	struct event_queue *next_ready;
	bool ready; /* in the worker's list of queues to hand on */
};

/* Mask of what the instances in force want, again. */
void events_update_mask(struct hook_state *hs);
/* Hand on what is queued; @return true: more is left that could go at once. */
bool events_flush(struct hook_state *hs);
void events_resume(struct instance_worker *iw);
/* How many on_events has not taken; what was lost last counts as the one GAP that will stand for it. */
static inline uint32_t
events_waiting(const struct event_queue *q)
{
	return q->count + (q->lost > 0);
}
/* The instance leaves this worker: what it has not taken is dropped. */
void events_drop(struct instance_worker *iw);
/* The client's memory goes, what it keeps has moved, or its events become those of another. */
void events_forget_client(struct client_kept *k);
void events_kept_moved(struct client_kept *k);
void events_move_client(struct grapnel_client *to, struct grapnel_client *from); /* from has something */

#endif
