/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared - between the two sides of a shared group: its home worker (shared.c), its members' workers (members.c)
 *
 * A group lives on the worker that the hash of share name and filter says, with a row of each member. A membership lives
 * with its session, and says with credit how many messages it can take. Where both are on one worker, functions are called;
 * else what they say travels in mail:
 *
 *	members.c			shared.c
 *	struct join_mail	->	makes the group if need be; the same mail comes back as the answer
 *	struct state_mail	->	credit, online or offline, QoS of many members
 *	struct parcel		<-	messages given
 *	struct parcel		->	messages that come back: not wanted, or unacknowledged at the end
 *	struct member		->	has left
 *
 * A membership counts its periods ("epochs"): when credit becomes void, because the session went offline or is too far behind, a
 * new epoch begins, and what was given in an old one comes back. So credit never adds up, however mail crosses.
 *
 * Groups of different mountpoints are different groups, even when share name and filter come to the same bytes.
 */
#ifndef BROKER_CORE_SHARED_H
#define BROKER_CORE_SHARED_H

#include "core/group.h"
#include "core/session.h"

#define PARCEL_ITEMS 64u
#define STATE_ITEMS 128u

struct join_mail {
	struct mail mail;
	struct group_member values; /* serial, generation, worker, index, qos */
	struct group_ref ref;	    /* the answer */
	unsigned group_worker;
	shared_joined_fn joined;
	uint64_t hash;
	uint32_t epoch, credit, token;
	uint32_t key_len, share_len, mountpoint_len;
	int err;	 /* the answer */
	bool online;
	bool again;	 /* may be a member already */
	bool durable;	 /* its session is kept */
	bool wild_first; /* SUB_WILD_FIRST */
	char *key;
};
struct state_item {
	struct group_ref ref;
	uint32_t epoch, credit;
	uint8_t qos;
	bool state;  /* epoch is a new one, and online counts */
	bool online;
};
struct state_mail {
	struct mail mail;
	unsigned count;
	struct state_item items[STATE_ITEMS];
};
struct parcel_item {
	struct group_ref ref;
	uint64_t generation; /* of the session */
	struct message *msg; /* a reference */
	uint64_t address;    /* in the store */
	uint32_t index;	     /* of the membership there */
	unsigned worker;     /* of the group; only used while what goes back is sorted */
	uint32_t epoch, seq;
	bool gone;	     /* on the way back: there is no such member any more */
};
struct parcel {
	struct mail mail;
	unsigned from; /* the group's worker */
	uint32_t count;
	struct parcel_item items[];
};

/* A group of before a restart, until its first member is back. */
struct shared_orphan {
	struct shared_orphan *next;
	uint64_t store_id;
	struct queue queue;
	uint32_t key_len, mountpoint_len;
	bool wanted; /* somebody subscribes to it */
	char key[];
};
struct shared_group;
struct shared_table {
	struct worker *w;
	/* home */
	struct shared_group **by_key; /* chains; a power of two */
	struct shared_group **slots;
	uint32_t bucket_count, count, slot_count, slot_capacity;
	uint32_t hole; /* no hole in slots is before */
	uint64_t next_group_serial;
	struct shared_group *dirty; /* may have something to give */
	struct parcel *out[WORKER_MAX];
	struct timer retry;	    /* memory was short */
	struct shared_orphan *orphans;
	/* members */
	uint64_t next_member_serial;
	struct member *due;
};

/* shared.c, on the group's worker */
int home_join(struct worker *w, struct join_mail *j); /* fills j->ref */
void home_join_mail(struct worker *w, struct mail *m);
void home_join_undone_mail(struct worker *w, struct mail *m); /* the answer found nobody */
void home_leave(struct worker *w, const struct group_ref *ref);
void home_leave_mail(struct worker *w, struct mail *m); /* a struct member */
void home_state(struct worker *w, const struct state_item *item);
void home_state_mail(struct worker *w, struct mail *m);
/* Takes the messages. Those of one group in the order of their numbers. */
void home_returned(struct worker *w, struct parcel_item *items, uint32_t count);
void home_returned_mail(struct worker *w, struct mail *m);
void shared_retry(struct worker *w);

/* members.c, on the session's worker */
void members_joined_mail(struct worker *w, struct mail *m); /* a struct join_mail */
void members_parcel_mail(struct worker *w, struct mail *m);
/* A message of a group on the same worker. */
enum group_given members_give(struct worker *w, const struct group_member *gm, struct message *msg, uint32_t seq, uint64_t address);
void members_flush(struct worker *w);
void member_free(struct member *m);

#endif
