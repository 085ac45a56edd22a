/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session - what a Client and the broker remember of each other.  MQTT 5.0 section 4.1
 *
 * One implementation serves all versions: 3.x Clean Session 0 is a Session Expiry Interval of the operator's ceiling.
 *
 * session.c	attach and detach, expiry, ownership
 * session_table.c  where a worker's sessions are, and how they are found
 * subs.c	subscriptions: the session's table and the nodes' arrays
 * deliver.c	from a matched message to queue, in-flight window and connection
 * retained.c	retained messages for a new subscription, a portion at a time
 * will.c	Will Messages: kept, delayed, asked about and published
 * shared.c	shared groups, on their home workers
 * members.c	a session's memberships in them
 *
 * Threads:   the home worker of the Client Identifier.
 * Bounded:   max_sessions, max_subscriptions, max_queued_messages, max_queued_bytes, max_inflight.
 */
#ifndef BROKER_CORE_SESSION_H
#define BROKER_CORE_SESSION_H

#include "core/conn.h"
#include "core/topic_index.h"

struct group;

enum sub_flags {
	SUB_NO_LOCAL = 1u << 0,
	SUB_RETAIN_AS_PUBLISHED = 1u << 1,
	SUB_COVERED = 1u << 2,	 /* READ need not be asked as long as covered_generation is current */
	SUB_GROUP = 1u << 3,	 /* stands for a shared group, not for a session */
	SUB_INTERNAL = 1u << 4,	 /* a plugin's own subscription */
	SUB_WILD_FIRST = 1u << 5, /* behind the mountpoint the filter begins with a wildcard: $-topics are not for it */
};
/* One subscription: in its session's table and in its node's array. */
struct sub {
	union {
		struct session *session;
		struct group *group;
		struct grapnel_sub *internal;
	} u;
	struct topic_node *node;
	uint32_t position; /* in the node's array */
	uint32_t id;	   /* Subscription Identifier, 0: none */
	uint8_t qos;
	uint8_t flags;	   /* enum sub_flags */
	uint8_t retain_handling;
	uint32_t rights;   /* low bits of rights_generation when SUB_COVERED was learnt */
	struct retained_job *job; /* retained.c: it is still being served its retained messages; NULL: it has them */
};

/* Where a membership is on its group's worker. */
struct group_ref {
	uint64_t group_serial, member_serial;
	uint32_t group, member;
};
/* A session's membership in a shared group (which lives on another worker, maybe). */
struct member {
	struct mail mail;	/* the member itself is what tells another worker that it left: that needs no memory */
	struct group_ref ref;	/* when joined */
	struct session *session;
	struct member *due_next, **due_prev; /* members.c: something is to be told to another worker; due_prev NULL: nothing */
	char *key;		/* "group/filter" with mountpoint in the filter */
	uint64_t hash, serial;	/* serial: unique in the process */
	unsigned group_worker;
	uint32_t key_len, share_len;
	uint32_t index;		/* in session->members */
	uint32_t hash_next;	/* 1 + index; 0: end */
	uint32_t id;
	uint32_t rights;	/* as in struct sub */
	uint32_t epoch;		/* grows when the credit given so far becomes void */
	uint32_t granted;	/* credit the group has and did not use, as far as we know */
	uint32_t out;		/* messages of this group in our hands: in flight, queued here */
	uint32_t credit_due;	/* to be returned with the next mail */
	uint8_t qos, flags;
	uint8_t joining;	/* answers to wait for */
	bool joined;
	bool held;		/* refused a message: waits for a new epoch */
	bool state_due, qos_due; /* to be told with the next mail */
};

struct pending_delivery; /* deliver.c */
struct retained_job;	 /* retained.c */

/* A session's memberships. */
struct members {
	struct member **at;	 /* by entry.member - 1; holes are NULL */
	uint32_t count, capacity; /* slots used, holes included */
	uint32_t live, hole;	 /* without holes; no hole is before */
	uint32_t *buckets, bucket_count; /* by key, when there are many */
};

/* What a session has of messages that are on their way; made when the first one cannot leave at once. */
struct flow {
	/* what every QoS 1 and 2 delivery touches */
	struct inflight inflight;
	struct queue queue;
	struct pending_delivery *pending_first;
	struct pending_delivery *pending_last;
	unsigned pending_count;
	unsigned resend_count; /* of them: retransmissions */
	struct members *members; /* NULL: in no shared group */
	struct id_set received; /* QoS 2 not yet released */
	struct id_set earlier;	/* of them: taken in by the process before, whose events may be lost; publish.c */
	struct retained_job *retained_first, **retained_end; /* in the order they were asked for; retained_end NULL: none */
	uint64_t congested_since_ms;
	uint32_t queue_stamp;	/* rights_stamp when what is queued was last known to be allowed */
	uint32_t cold;		/* entries of the queue whose messages are on the disk */
	bool cooling, reading;	/* spill.c */
	struct timer retry_timer; /* a delivery whose plugin was unavailable */
	struct session *session;  /* back, for the timer; NULL: the one that stands for none */
};

/* What only sessions need that outlive their connection, have a Will, or a login with an end or rules. */
struct session_extra {
	struct timer timer;	/* session expiry, will delay or the end of the login, whichever is first */
	struct session *session; /* back, for the timer */
	uint64_t expires_at_ms; /* when offline; UINT64_MAX: never */
	struct message *will;	/* NULL: none */
	uint64_t will_at_ms;	/* offline and delayed: when */
	int64_t valid_until;	/* seconds since 1970; 0: no end */
	struct grapnel_rules *rules; /* came with authentication; NULL: none */
	struct grapnel_request *revalidating; /* core.c: is the user still good? */
	uint64_t store_id;	/* durable */
	uint64_t confirmed;	/* hold.c: number of the last message that is complete */
	struct hold *holds;
	uint32_t will_delay;	/* seconds */
	uint32_t expiry;	/* Session Expiry Interval, seconds; UINT32_MAX: the ceiling counts */
	uint8_t dirty;		/* durable_rows.c */
};

/* Two cache lines for each Client that there is: what not all need is in what flow and extra point to. */
struct session {
	/* the first: all that delivery to a Client that is online touches */
	struct conn *conn;		   /* NULL: offline */
	struct worker *w;
	const struct limits *limits;	   /* those in force at the last CONNECT */
	struct flow *flow;		   /* to be read as it is, to be written to after session_flow */
	struct identity *identity;
	uint64_t messages_out;
	uint32_t mountpoint_len;	   /* identity's */
	uint32_t merge_slot;		   /* router.c: overlapping subscriptions */
	uint32_t rights_epoch;		   /* grows when a new login may have changed this session's rights */
	bool pumping : 1, superuser : 1;
	bool has_rules : 1;		   /* extra->rules */
	bool deciding : 1;		   /* flow->pending_first is not NULL */
	bool congested : 1;		   /* flow->congested_since_ms is set */
	bool shared_online : 1;		   /* the groups know that it is */
	bool shared_held : 1;		   /* too far behind to take more from groups */
	bool durable : 1;		   /* it is in the store: extra->store_id */
	bool own_limits : 1;		   /* limits came with authentication: ours to free */
	bool clean_start : 1;
	uint16_t auth_plugin;		   /* session_auth_plugin */
	/* the second */
	struct rights_cache *rights_cache; /* rights.c */
	uint64_t messages_in;
	struct sub **subs;		   /* open addressing by node */
	uint32_t sub_count, sub_capacity;
	struct session_extra *extra;	   /* NULL: nothing of it is needed */
	struct grapnel_client client;	   /* what plugins keep */
	uint32_t hash, hash_next;	   /* session_table.c */
	uint32_t connected_s;		   /* seconds since 1970 */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct session) == 128, "memory per Client, and what a delivery touches");

static inline uint64_t
session_generation(const struct session *s)
{
	return s->identity->session_generation;
}
static inline struct grapnel_str
session_mountpoint(const struct session *s)
{
	return s->identity->site->mountpoint;
}
static inline struct grapnel_rules *
session_rules(const struct session *s)
{
	return s->has_rules ? s->extra->rules : NULL;
}
static inline uint32_t
session_expiry(const struct session *s) /* as the Client asked for it */
{
	return s->extra != NULL ? s->extra->expiry : 0;
}

/* ---- session_table.c --------------------------------------------------------------------- */
struct session_table;
int session_table_new(struct worker *w);
void session_table_free(struct worker *w); /* with all sessions */
struct session *session_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id);
struct session *session_by_generation(struct worker *w, uint64_t generation);
/* fn may end any session; one that is made meanwhile may be left out. */
void session_each(struct worker *w, void (*fn)(struct session *s, void *arg), void *arg);
/* Zeroed and found by what identity says, which gets its generation. NULL: no memory. */
struct session *session_table_add(struct worker *w, struct identity *identity);
void session_table_remove(struct session *s); /* its memory is gone */
/* Borrowed, until the next call; NULL: no memory. */
struct site *session_site(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str listener);
/* A number for an instance's name, which stays for as long as the worker; 0: no memory. */
uint16_t session_plugin_number(struct worker *w, const char *name);
const char *session_plugin_name(struct worker *w, uint16_t number); /* 0: NULL */

/* ---- session.c -------------------------------------------------------------------------- */
struct session *session_make(struct worker *w, struct identity *identity); /* session_new without an event */
void session_restored(struct session *s); /* its times are set: they run */
/* A new session in the table. NULL: no memory; max_sessions is the caller's to ask first. Takes the identity's reference. */
struct session *session_new(struct worker *w, struct identity *identity);
void session_new_login(struct session *s, struct identity *identity); /* resumed, or re-authenticated: takes the identity; rights are asked anew */
struct session_extra *session_extra(struct session *s); /* made if there is none; NULL: no memory */
struct flow *session_flow_new(struct session *s);
void session_flow_free(struct session *s); /* nothing is left in it */
static inline struct flow *
session_flow(struct session *s) /* made if there is none; NULL: no memory */
{
	return s->flow->session != NULL ? s->flow : session_flow_new(s);
}
/* own: allocated, and takes effect; NULL: the listener's, which its settings keep alive. */
void session_set_limits(struct session *s, struct limits *own, const struct listener_settings *ls);
void session_attach(struct session *s, struct conn *c);
int session_set_valid_until(struct session *s, int64_t when); /* seconds since 1970; GRAPNEL_ENOMEM: nothing changed */
/* The connection is gone: keep, delay, publish the will, expire. discard_will: DISCONNECT 0x00 [MQTT-3.14.4-3]. */
void session_detach(struct session *s, bool discard_will);
/* The end: subscriptions, queues, will (published, if there is one). why: "expired", "clean start" ... */
void session_end(struct session *s, uint8_t reason_code, const char *why);
void session_free_all(struct session *s); /* at the end of the worker: without a word */
bool session_expired(const struct session *s); /* its time is over, whether its timer has fired or not */
void session_info(const struct session *s, struct grapnel_client_info *info);
void identity_info(const struct identity *id, struct grapnel_client_info *info);
uint32_t session_expiry_effective(const struct session *s); /* with the ceiling */
/* Publishers of this session's messages: pause them? (see deliver.c) */
void core_event(struct worker *w, enum grapnel_event_type type, const struct session *s, const struct message *msg,
    uint8_t reason_code, const char *reason);

/* ---- subs.c ------------------------------------------------------------------------------- */
struct sublist { /* the array of a node with several subscriptions of this worker */
	uint32_t count, capacity;
	struct sub *subs[];
};
/*
 * A slot holds a struct sub * tagged with SLOT_ONE, or a struct sublist *. SLOT_DURABLE: some of its subscriptions may be of
 * sessions that are kept, which is what other workers look at.
 */
#define SLOT_ONE     ((uintptr_t)1)
#define SLOT_DURABLE ((uintptr_t)2)
static inline unsigned
slot_subs(void *slot, struct sub **one, struct sub *const **many)
{
	if (slot == NULL)
		return 0;
	if ((uintptr_t)slot & SLOT_ONE) {
		*one = (struct sub *)((uintptr_t)slot & ~(SLOT_ONE | SLOT_DURABLE));
		*many = one;
		return 1;
	}
	*many = ((struct sublist *)((uintptr_t)slot & ~SLOT_DURABLE))->subs;
	return ((struct sublist *)((uintptr_t)slot & ~SLOT_DURABLE))->count;
}
int node_add(struct worker *w, struct topic_node *node, struct sub *sub);     /* sets sub->position */
void node_remove(struct worker *w, struct sub *sub);
struct sub *subs_find(struct session *s, const struct topic_node *node);
/* filter: with mountpoint. existed says whether it replaced one [MQTT-3.8.4-3]. */
int subs_add(struct session *s, struct grapnel_str filter, const struct sub *values, bool *existed, struct sub **out);
bool subs_has(struct session *s, struct grapnel_str filter);
bool subs_remove(struct session *s, struct grapnel_str filter);
void subs_clear(struct session *s);
void subs_made_durable(struct session *s); /* it is kept from now on, and so are they */

/* ---- deliver.c ------------------------------------------------------------------------------ */
/*
 * Give a message to a session. msg may be borrowed. qos is the effective one. check: READ and message_deliver are still
 * to be asked. ids is consumed.
 */
void deliver(struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids, uint16_t member);
/* The same for one that is in the store already (address; 0: not), or comes from a shared group, where seq is its number. */
void deliver_kept(struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids, uint16_t member, uint32_t seq,
    uint64_t address);
void deliver_lost(struct session *s, struct entry *e); /* spill.c: it left the queue without its message */
void deliver_gated(struct session *s, uint16_t packet_id); /* gates.c: what waited in flight is sent now */
void deliver_forget_member(struct session *s, uint16_t member); /* what came through it is a message like any other from now on */
void deliver_pump(struct session *s);		/* move from queue to window and connection as far as they allow */
void deliver_resume(struct session *s);		/* after attach: retransmit, then pump */
void deliver_offline(struct session *s);	/* before detach: pending decisions go back to the queue */
void deliver_clear(struct session *s);
void deliver_trim(struct session *s); /* nothing is happening: give back what was kept for more */
void deliver_acknowledged(struct session *s, struct inflight_entry *ie, uint8_t reason_code); /* finished */
void deliver_received(struct session *s, struct inflight_entry *ie); /* PUBREC: the message is not needed any more */
void deliver_dropped(struct session *s, struct entry *e, enum metric m, const char *why); /* count, event, credit; clears e */
/* A message waits in a queue, of a Session or a shared group (1), or does no longer (-1). */
void queued_add(struct worker *w, size_t size, int sign);
/* Bytes in the queues of all workers; not less than there are, and at most 128 KiB more per other worker. */
uint64_t queued_total(const struct worker *w);
/* Is this online receiver so far behind that its publishers should wait? */
bool deliver_congested(struct session *s);
void congestion_eased(struct session *s); /* called when output or queue shrank */

/* ---- retained.c ------------------------------------------------------------------------------- */
void retained_start(struct session *s, struct sub *sub, struct grapnel_str filter); /* filter with mountpoint */
void retained_continue(struct session *s);
void retained_stop(struct sub *sub); /* the subscription goes */
void retained_clear(struct session *s);

/* ---- will.c --------------------------------------------------------------------------------------- */
void will_publish(struct worker *w, struct message *will, const char *auth_plugin, struct grapnel_rules *rules); /* takes the reference of will; auth_plugin stays */

void wills_clear(struct worker *w); /* at the end */

/* ---- router.c ---------------------------------------------------------------------------------------- */
int router_init(struct worker *w);
void router_fini(struct worker *w);
/*
 * Route up to TOPIC_GROUP messages: retained index first, then all matching subscriptions of all workers.
 * reason_codes[i] gets what an acknowledgement says: 0x00, 0x10 No matching subscribers, or a refusal
 * (nothing was routed). Messages may be borrowed. publisher NULL: the broker itself.
 */
void router_publish(struct worker *w, struct message *const *msgs, unsigned n, struct conn *publisher, uint8_t *reason_codes);
void router_publish_one(struct worker *w, struct message *msg); /* heap or borrowed, from nobody */
/* A receiver of the message now being routed is congested: pause whoever sent it. */
void router_congested(struct worker *w);
void internal_deliver(struct grapnel_sub *sub, const struct message *msg); /* hostcalls.c: a plugin's own subscription */
bool router_busy(const struct worker *w); /* a message is being expanded: no node's array may change */
void router_resume_paused(struct worker *w); /* some receiver has room again */

/* ---- shared.c, members.c ----------------------------------------------------------------------------------- */
int shared_init(struct worker *w);
void shared_fini(struct worker *w);
/*
 * Subscribe s to a group. filter has the mountpoint. A second time replaces the options (*existed).
 * @return GRAPNEL_OK: with *later false it is done; with *later true the group lives on another worker and `joined` runs
 *         here when it is done (generation is the session's, token the caller's). GRAPNEL_ENOMEM, GRAPNEL_EQUOTA: nothing changed.
 */
typedef void (*shared_joined_fn)(struct worker *w, uint64_t generation, uint32_t token, int err);
int shared_join(struct session *s, struct grapnel_str share, struct grapnel_str filter, uint8_t qos, uint32_t id, uint8_t flags,
    bool *existed, bool *later, shared_joined_fn joined, uint32_t token);
bool shared_has(struct session *s, struct grapnel_str share, struct grapnel_str filter);
bool shared_leave(struct session *s, struct grapnel_str share, struct grapnel_str filter); /* UNSUBSCRIBE; messages in flight stay */
void shared_session_online(struct session *s);
void shared_session_offline(struct session *s);
void shared_made_durable(struct session *s); /* memberships of a session that is kept from now on */
void shared_session_end(struct session *s); /* before queues are cleared: gives back what is unacknowledged */
void shared_finished(struct session *s, uint16_t member); /* one message of that membership is done with: credit back */
void shared_eased(struct session *s); /* shared_held, and it has room again */
void shared_flush(struct worker *w); /* give what can be given, send what was collected in this turn */
bool shared_wants(const struct group *g, const struct message *msg); /* else it is not for that group, although the filter matches */
void shared_route(struct group *g, struct message *msg); /* on the group's worker, from the router */
/* hold.c: the message is for this group, but not yet. What to say then: */
void shared_hold(struct group *g, struct message *kept, uint32_t *slot, uint64_t *serial, uint64_t *address);
/* At start: to groups of before, key is "share/filter". Those without a subscription have ended: the row that says so was not written. */
void shared_orphan_wanted(struct worker *w, struct grapnel_str key, uint32_t mountpoint_len);
void shared_orphans_end(struct worker *w);
bool shared_restore(struct worker *w, uint64_t store_id, struct message *msg, uint64_t address); /* takes the reference. false: no memory */
void shared_route_held(struct worker *w, uint32_t slot, uint64_t serial, struct message *kept, uint64_t address);

/* ---- rights.c ------------------------------------------------------------------------------------------------ */
struct rights_question {
	enum grapnel_action action;
	uint8_t qos;
	bool retain;
	struct grapnel_str topic; /* as the client knows it: without mountpoint */
	struct grapnel_str share;
	const struct message *msg; /* NULL for SUBSCRIBE */
	bool mounted;		   /* msg->topic has the mountpoint in front */
};
struct rights_answer {
	enum grapnel_verdict verdict; /* ALLOW, DENY, UNAVAILABLE */
	uint32_t flags;		      /* enum grapnel_acl_flags */
	uint8_t reason_code;	      /* of a DENY or UNAVAILABLE */
	uint8_t max_qos_plus_one;
	struct grapnel_str reason_string, rule; /* borrowed: until the next question on this worker */
};
/*
 * What is decided without a plugin: $SYS, superusers, rules that came with the login, the default. false: the acl_check
 * chain must be asked. *by_rules: rules decided; *covered: they refuse READ for none of it.
 */
bool rights_own(struct worker *w, const struct identity *id, bool superuser, struct grapnel_rules *rules,
    const struct rights_question *q, struct rights_answer *a, bool *by_rules, bool *covered);
/*
 * Session rules, then the acl_check chain, then the default. @return true: answered now, in *now; false: fn(arg, decision)
 * runs later (*pending to cancel with hooks_cancel); it makes an answer of the decision with rights_from.
 * s NULL: about an identity only; rules may be NULL.
 */
bool rights_ask(struct worker *w, struct session *s, const struct identity *id, struct grapnel_rules *rules,
    const struct rights_question *q, decision_fn fn, void *arg, struct rights_answer *now, struct grapnel_request **pending);
void rights_from(const struct decision *d, struct rights_answer *a);
bool rights_publish_cached(struct session *s, struct grapnel_str topic, uint8_t qos, bool retain); /* a fresh ALLOW is known: hot path */
int rights_read_cached(struct session *s, struct grapnel_str topic, uint8_t qos); /* 1 allowed, 0 denied, -1 not known */
void rights_cache_free(struct session *s);
/* What sub->rights is compared with. */
static inline uint32_t
rights_stamp(const struct session *s)
{
	return (uint32_t)atomic_load_explicit(&s->w->broker->rights_generation, memory_order_relaxed) + s->rights_epoch;
}
bool rights_read_learn(struct session *s, struct sub *sub); /* the same when it is not known yet, or not so */
/* Must READ be asked for what comes through it? */
static inline bool
rights_read_needed(struct session *s, struct sub *sub)
{
	return !(sub->flags & SUB_COVERED) || sub->rights != rights_stamp(s) ? rights_read_learn(s, sub) : false;
}
bool rights_member_needed(struct session *s, struct member *m);
void message_info_of(const struct message *msg, struct grapnel_str mountpoint, struct grapnel_message_info *out);

#endif
