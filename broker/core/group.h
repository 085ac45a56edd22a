/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group - the members of one Shared Subscription and the one queue they take from.  MQTT 5.0 section 4.8.2
 *
 * A message goes to one member that is online and has credit; the strategy chooses among those. When there is none it waits
 * in the group's queue. What a member gives back goes to the place in the queue that it came from, by its number. The group
 * knows neither sessions nor threads: it calls out through struct group_ops.
 *
 * Threads:   the group's home worker.
 * Ownership: the group owns its members' rows and holds references to what is queued.
 * Bounded:   struct group_terms: what comes from a publisher is dropped beyond them; what comes back from members is not (it
 *            was bounded by their credit).
 */
#ifndef BROKER_CORE_GROUP_H
#define BROKER_CORE_GROUP_H

#include "base/metrics.h"
#include "config/settings.h"
#include "core/queue.h"

struct group;

struct group_member {
	uint64_t serial;     /* of the membership: unique in the process */
	uint64_t generation; /* of its session */
	unsigned worker;     /* where that lives */
	uint32_t index;	     /* of the membership, in its session */
	uint32_t slot;	     /* in group->members: stays */
	uint32_t ready;	     /* position in group->ready; GROUP_NOT_READY */
	uint32_t epoch;	     /* of the period in which credit counts */
	uint32_t credit;
	uint8_t qos;
	bool online;
};
#define GROUP_NOT_READY UINT32_MAX

enum group_given {
	GROUP_GIVEN,
	GROUP_FULL,	 /* this member takes nothing until it says so: ask another */
	GROUP_NO_MEMORY, /* nobody can be given anything now */
};
struct group_ops {
	/* msg may be borrowed. Must not call back into the group, except group_credit and group_state. */
	enum group_given (*give)(struct group *g, struct group_member *gm, struct message *msg, uint32_t seq, uint64_t address);
	void (*queued)(struct group *g, const struct message *msg, int sign); /* it went into the queue (1) or out (-1) */
	void (*dropped)(struct group *g, const struct message *msg, uint64_t address, enum metric m, const char *why);
};
/* What may change from one message to the next. */
struct group_terms {
	enum share_strategy strategy;
	uint64_t max_messages, max_bytes; /* of this queue */
	uint64_t total_left;		  /* bytes that all queues together may still grow */
	uint64_t now_ms;
	bool hold; /* give nothing: the broker is stopping */
	bool memory_short; /* queue little, and nothing if nobody is online: overload.h */
};

struct group {
	const struct group_ops *ops;
	struct queue queue; /* entry.seq: number of the message; entry.qos: as published */
	struct group_member **members; /* by slot; holes are NULL */
	struct group_member **ready;   /* online and with credit; those before `next` were served in this round */
	uint32_t slots, capacity, count, online, ready_count, next;
	uint32_t hole; /* no hole in members is before */
	uint32_t qos_count[3]; /* members that want at most that */
	struct group_member *sticky;
	uint32_t next_seq;
	uint64_t random;
};

void group_init(struct group *g, const struct group_ops *ops, uint64_t seed);
/* The queue is dropped and counted; members are forgotten. */
void group_fini(struct group *g);

/* Values are copied: serial, generation, worker, index, qos. It is offline until group_state. NULL: no memory. */
struct group_member *group_join(struct group *g, const struct group_member *values);
struct group_member *group_member(struct group *g, uint32_t slot, uint64_t serial); /* NULL: has left */
struct group_member *group_by_serial(struct group *g, uint64_t serial);		    /* slow */
void group_leave(struct group *g, struct group_member *gm);
void group_qos(struct group *g, struct group_member *gm, uint8_t qos);
/* A new epoch: whatever credit it had is void. Going offline: what is only of QoS 0 is dropped with the last member online. */
void group_state(struct group *g, struct group_member *gm, bool online, uint32_t epoch, uint32_t credit);
void group_credit(struct group *g, struct group_member *gm, uint32_t epoch, uint32_t credit); /* of another epoch: ignored */

/* To a member or into the queue. msg may be borrowed. address: in the store; 0: it is not there. */
void group_route(struct group *g, const struct group_terms *terms, struct message *msg, uint64_t address);
/* One of before a restart, behind those that are there already. Takes the reference. false: no memory. */
bool group_restore(struct group *g, struct message *msg, uint64_t address);
/* Takes the reference. Of several messages the newest first, so that each finds its place at once. */
void group_return(struct group *g, const struct group_terms *terms, struct message *msg, uint32_t seq, uint64_t address);
/* Give what is queued. @return GROUP_FULL: all that can be given was; GROUP_GIVEN: the budget is used up; GROUP_NO_MEMORY. */
enum group_given group_drain(struct group *g, const struct group_terms *terms, unsigned budget);

#endif
