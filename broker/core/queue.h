/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue - messages waiting for a receiver, and those in flight to it
 *
 * Two small containers, used by a Session and (the first) by a shared group:
 *	struct queue	 a ring of entries, oldest first; entries can be put back at the head
 *	struct inflight	 what was sent and not yet acknowledged, found by Packet Identifier in O(1)
 *
 * Threads:   the owner's. Ownership: an entry holds a reference to its message and to its identifiers.
 * Bounded:   by the caller (max_queued_*, max_inflight).
 */
#ifndef BROKER_CORE_QUEUE_H
#define BROKER_CORE_QUEUE_H

#include "core/message.h"

/*
 * The Subscription Identifiers of one delivery: none (0), one (id << 1 | 1), or a counted set. Worker-local.
 */
typedef uintptr_t subids; /* a tagged value, not a struct: see subids_* */
#define SUBIDS_NONE ((subids)0)
static inline subids
subids_one(uint32_t id)
{
	return id == 0 ? SUBIDS_NONE : ((subids)id << 1 | 1u);
}
subids subids_add(subids ids, uint32_t id); /* consumes ids; no memory: ids as it was */
subids subids_ref(subids ids);
void subids_unref(subids ids);
/* At most `max` identifiers; returns how many. */
unsigned subids_get(subids ids, uint32_t *out, unsigned max);
#define SUBIDS_MAX 64 /* identifiers sent with one message; more overlapping subscriptions share the rest silently */

enum entry_flags {
	ENTRY_RETAIN = 1u << 0,	  /* send with RETAIN 1 */
	ENTRY_CHECK = 1u << 1,	  /* ask READ before it is sent */
	ENTRY_ALLOWED = 1u << 2,  /* READ and message_deliver were asked already */
	ENTRY_RETAINED = 1u << 3, /* comes from the retained index, not from a PUBLISH of now */
	ENTRY_HOOKED = 1u << 4,	  /* message_deliver has had its say: msg is what it made of it */
	ENTRY_GROUP = 1u << 6,	  /* its record in the store is a shared group's, and nobody else's */
	ENTRY_COLD = 1u << 5,	  /* its message is in the store alone: spill.c; seq is the message's size */
};
struct entry {
	struct message *msg; /* NULL: QoS 2 after PUBREC, or ENTRY_COLD */
	subids ids;
	uint64_t address; /* in the store; 0: it is not there */
	uint16_t member; /* 1 + index in session->members: came through a shared group; 0: not */
	uint8_t qos;
	uint8_t flags;
	uint32_t seq;	 /* its number in the shared group, which may get it back; ENTRY_COLD: see there */
};
void entry_clear(struct entry *e); /* drops both references */
static inline size_t
entry_size(const struct entry *e)
{
	return e->msg != NULL ? message_size(e->msg) : e->flags & ENTRY_COLD ? e->seq : 0;
}

struct queue {
	struct entry *ring;
	uint32_t head, count, capacity; /* capacity: 0 or a power of two */
	uint64_t bytes;
};
int queue_push(struct queue *q, const struct entry *e);	     /* takes the references; GRAPNEL_ENOMEM: nothing changed */
int queue_push_head(struct queue *q, const struct entry *e);
bool queue_pop(struct queue *q, struct entry *out);	     /* gives the references */
struct entry *queue_peek(struct queue *q);		     /* NULL: empty */
void queue_clear(struct queue *q);
void queue_trim(struct queue *q); /* empty: frees its memory, which queue_pop keeps up to a size */
/* Take out those for which fn says so (it takes over their references); the others keep their order. */
void queue_filter(struct queue *q, bool (*fn)(struct entry *e, void *arg), void *arg);
/* Drop what expired, from anywhere, looking at no more than `budget` entries from the head. @return dropped. */
unsigned queue_expire(struct queue *q, uint64_t now_ms, unsigned budget, void (*dropped)(struct entry *e, void *arg), void *arg);

enum inflight_state {
	INFLIGHT_FREE = 0,
	INFLIGHT_WAIT_PUBACK,
	INFLIGHT_WAIT_PUBREC,
	INFLIGHT_WAIT_PUBCOMP,
};
struct inflight_entry {
	struct entry e;
	uint32_t seq; /* order of first sending */
	uint16_t packet_id;
	uint8_t state; /* enum inflight_state */
	bool unsent;   /* it waits in a gate: durable.h */
};
struct inflight {
	struct inflight_entry *slots; /* at packet_id & (capacity - 1) */
	uint32_t capacity, count;
	uint32_t next_seq;
	uint16_t next_id;
};
/* A free Packet Identifier with its entry, state set by the caller's QoS; NULL: none free below `max`, or no memory. Takes e's references. */
struct inflight_entry *inflight_add(struct inflight *f, const struct entry *e, uint32_t max);
/* One of before, with the identifier it had. NULL: no memory, or the identifier is in use. */
struct inflight_entry *inflight_put(struct inflight *f, const struct entry *e, uint16_t packet_id, enum inflight_state state);
struct inflight_entry *inflight_find(struct inflight *f, uint16_t packet_id); /* NULL: not in use */
void inflight_remove(struct inflight *f, struct inflight_entry *ie);	      /* clears it */
/* All entries in order of first sending, as a heap array of pointers; NULL with *n == 0 when empty; NULL with *n > 0: no memory. */
struct inflight_entry **inflight_sorted(struct inflight *f, unsigned *n);
void inflight_clear(struct inflight *f);
void inflight_trim(struct inflight *f); /* empty: frees its memory */

/* Packet Identifiers of QoS 2 messages received and not yet released: a small set. */
struct id_set {
	uint16_t *ids;
	uint32_t count, capacity;
};
bool id_set_has(const struct id_set *s, uint16_t id);
int id_set_add(struct id_set *s, uint16_t id);
bool id_set_remove(struct id_set *s, uint16_t id);
void id_set_clear(struct id_set *s);
void id_set_trim(struct id_set *s); /* empty: frees its memory */

#endif
