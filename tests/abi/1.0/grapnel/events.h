/* SPDX-License-Identifier: MIT-0 */
/*
 * grapnel/events.h - what a plugin can observe
 *
 * A plugin names the events it wants in its descriptor (or later with
 * host->events_select) and gets them in batches, off the hot path, on the worker
 * where they happened. Events of one client arrive in the order they happened.
 * An event cannot be refused and changes nothing.
 */
#ifndef GRAPNEL_EVENTS_H
#define GRAPNEL_EVENTS_H

#include <grapnel/hooks.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What has happened. GRAPNEL_EVENT_BIT makes masks of these. */
enum grapnel_event_type {
	GRAPNEL_EVENT_CLIENT_CONNECTED = 0,	 /* CONNACK 0 sent */
	GRAPNEL_EVENT_CLIENT_REFUSED = 1,	 /* CONNACK with reason_code, or closed before */
	GRAPNEL_EVENT_CLIENT_DISCONNECTED = 2,	 /* reason_code and reason say why */
	GRAPNEL_EVENT_SESSION_CREATED = 3,
	GRAPNEL_EVENT_SESSION_RESUMED = 4,
	GRAPNEL_EVENT_SESSION_TAKEN_OVER = 5,	 /* its old Network Connection was closed with 0x8E */
	GRAPNEL_EVENT_SESSION_EXPIRED = 6,	 /* ended: expiry, clean start or clean session */
	GRAPNEL_EVENT_SUBSCRIBED = 7,
	GRAPNEL_EVENT_UNSUBSCRIBED = 8,
	GRAPNEL_EVENT_MESSAGE_PUBLISHED = 9,	 /* accepted from a client and routed */
	GRAPNEL_EVENT_MESSAGE_DELIVERED = 10,	 /* written towards a receiver */
	GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED = 11, /* a receiver sent PUBACK or PUBCOMP */
	GRAPNEL_EVENT_MESSAGE_DROPPED = 12,	 /* reason says why */
	GRAPNEL_EVENT_MESSAGE_EXPIRED = 13,
	GRAPNEL_EVENT_WILL_PUBLISHED = 14,
	GRAPNEL_EVENT_RETAINED_SET = 15,
	GRAPNEL_EVENT_RETAINED_CLEARED = 16,
	GRAPNEL_EVENT_BROKER_STARTING = 17,
	GRAPNEL_EVENT_BROKER_READY = 18,
	GRAPNEL_EVENT_BROKER_STOPPING = 19,
	GRAPNEL_EVENT_GAP = 20,			 /* lossy queues: `lost` events are missing here */
	GRAPNEL_EVENT_COUNT = 21,
};
#define GRAPNEL_EVENT_BIT(type) (UINT64_C(1) << (type))

/** Never repeats, across restarts too: (node, boot) name the process, sequence the event. */
struct grapnel_event_id {
	uint64_t node;
	uint64_t boot;
	uint64_t sequence; /* per worker ascending; the worker's number is in the top 8 bits */
};

/** One event. All members borrowed, as long as the callback runs. */
struct grapnel_event {
	size_t size;
	enum grapnel_event_type type;
	struct grapnel_event_id id;
	int64_t time_us; /* microseconds since 1970 */
	const struct grapnel_client_info *client;   /* NULL: not about a client; ->client NULL: it is gone by now */
	const struct grapnel_message_info *message; /* NULL: not about a message */
	struct grapnel_str filter; /* (UN)SUBSCRIBED */
	struct grapnel_str reason; /* short text, never secret */
	uint64_t lost;		   /* GAP */
	uint8_t reason_code;
	uint8_t qos;		   /* granted (SUBSCRIBED), used (DELIVERED) */
	bool session_present;	   /* CLIENT_CONNECTED */
};

/** What happens when a plugin does not take its events in time. */
enum grapnel_event_mode {
	GRAPNEL_EVENTS_LOSSY = 0,    /* full queue: drop, count, GAP marker */
	/*
	 * Full queue (event_queue): publishers of that worker are paused until half of it is taken. What happens without a
	 * publisher still goes in, up to four times the limit; only then a GAP marks what is lost, and an error is logged.
	 */
	GRAPNEL_EVENTS_LOSSLESS = 1,
};

/**
 * A batch of events, oldest first: on_events of the descriptor.
 * @return How many were taken, from the front; the rest is offered again later
 *         (at the next turn after host->events_resume, or after 100 ms).
 * @owner All of it is borrowed until the callback returns.
 * @threads The worker where they happened. Must not block.  @since ABI 1.0
 */
typedef size_t (*grapnel_events_fn)(void *instance, const struct grapnel_event *const *events, size_t count);

#ifdef __cplusplus
}
#endif
#endif
