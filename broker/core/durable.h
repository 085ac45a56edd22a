/* SPDX-License-Identifier: Apache-2.0 */
/*
 * durable - what the core wants to have kept, and who waits for that
 *
 * durable.c	the batch that a worker collects; records, tickets
 * durable_rows.c	sessions, subscriptions and what QoS 2 needs, as rows
 * gates.c	acknowledgements that wait for a ticket, in order
 * hold.c	QoS 2 messages that are not delivered before their publisher's Packet Identifier is kept
 * restore.c	from the store to sessions, at start
 * spill.c	queues whose messages are left on the disk
 *
 * A *ticket* stands for "all of this is kept". It counts what is not yet: records on any worker, forwarded messages that have not been
 * looked at, the batch. Acknowledgements that it allows stand in *gates* of their connection, first in, first out.
 *
 * Threads:   the worker's own, but ticket_take and ticket_release: any worker.
 * Durable:   sessions that outlive their connection (s->durable) and retained messages; what is sent to such a session with QoS > 0.
 */
#ifndef BROKER_CORE_DURABLE_H
#define BROKER_CORE_DURABLE_H

#include "core/session.h"
#include "store/store.h"

struct store_batch;
struct gate;
struct hold;
struct held_unit;

enum durable_mode { DURABLE_STRICT, DURABLE_RELAXED, DURABLE_OFF };

struct ticket {
	struct mail mail; /* first: to its owner, when it is done elsewhere */
	_Atomic uint32_t pending;
	_Atomic bool refused; /* something could not be taken in */
	uint32_t worker;      /* its owner */
	struct gate *gates;   /* who waits; the owner's */
	struct hold *hold;    /* hold.c; NULL: none */
	uint64_t origin, origin_number; /* of what is held; 0: nothing is */
	_Atomic(struct held_unit *) units;
	struct ticket *free_next;
};

struct durable_worker {
	struct worker *w;
	struct store_batch *batch; /* being collected; NULL: nothing yet */
	struct ticket *batch_ticket; /* of the batch; NULL: nobody waits for all of it */
	struct ticket *routing;	   /* of what is being routed; NULL: none yet */
	struct hold *holding;	   /* what is being routed is held */
	struct held_unit *unit;	   /* that collects it */
	bool routing_waits;	   /* the publisher wants to know */
	uint64_t *dirty; /* generations of sessions whose rows are to be written */
	uint32_t dirty_count, dirty_capacity;
	uint8_t want, told; /* enum store_want: highest since the batch began, and what the writer knows of */
	uint64_t committed; /* all own segments up to this one are on the disk */
	uint64_t unwritten; /* bytes of messages in batches that the writer has */
	struct ticket *free_tickets;
	unsigned free_count;
	/* spill.c */
	uint64_t hot_bytes, hot_max;
	uint64_t *cool; /* generations of sessions to leave messages of on the disk */
	uint32_t cool_count, cool_capacity;
};

int durable_init(struct worker *w); /* b->store is there, or not */
void durable_fini(struct worker *w);
void durable_submit_last(struct worker *w); /* main, when no worker runs any more */
void durable_let_go(struct worker *w); /* main: nothing is written any more, and no Client is there to be told anything */
void durable_asked(struct worker *w, struct mail *m); /* by the writer */
void durable_flush(struct worker *w); /* end of a turn: have it written */
bool durable_strict(const struct worker *w); /* what has no topic waits for the disk */
enum durable_mode durable_mode(const struct worker *w, const struct message *msg);

/* ---- tickets ---------------------------------------------------------------------------------- */
struct ticket *ticket_new(struct worker *w); /* pending 1: the caller's. NULL: no memory */
void ticket_take(struct ticket *t);
bool ticket_waits(const struct ticket *t); /* its owner: for more than what the caller has of it, or it was refused */
void ticket_refuse(struct ticket *t); /* something of it could not be taken in; any worker */
void ticket_release(struct worker *w, struct ticket *t); /* w: the caller's own */
void ticket_free(struct worker *w, struct ticket *t); /* its owner */
/* That of what is being routed, made if need be. NULL: nobody waits, or no memory. Borrowed. */
struct ticket *durable_routing_ticket(struct worker *w);
/* What is routed from here on is waited for by somebody; until durable_route_end, whose ticket is the caller's to release (NULL: none). */
static inline void
durable_route_begin(struct worker *w)
{
	if (w->durable != NULL)
		w->durable->routing_waits = true;
}
static inline struct ticket *
durable_route_end(struct worker *w)
{
	struct durable_worker *d = w->durable;
	struct ticket *t;

	if (d == NULL)
		return NULL;
	t = d->routing;
	d->routing = NULL;
	d->routing_waits = false;
	return t;
}
void durable_routing_for(struct worker *w, struct ticket *t); /* the same on another worker, for what was forwarded */
void durable_routing_done(struct worker *w, struct ticket *t); /* releases it */
bool durable_wait_for_batch(struct worker *w, struct ticket *t); /* t waits for the batch, too. false: no memory */
/* The ticket of the batch that is being collected: done when all that is in it now is written. Borrowed. NULL: no memory. */
struct ticket *durable_batch_ticket(struct worker *w);

/* ---- messages ---------------------------------------------------------------------------------- */
/*
 * s is to get e->msg (kept) and is durable: into the record of that message. Sets e->address; 0: it is not to be kept. refused: it
 * must not be queued, since nobody could keep it. group: it has a record of its own.
 */
void durable_receiver(struct worker *w, uint64_t receiver, bool group, bool online, struct entry *e, bool *refused);
bool durable_refuse(struct worker *w); /* what is being routed cannot be taken in: its publisher is told. false: there is none */
/* That receiver is done with it, for whatever reason; 0: all that the record has, which is how a group's ends. address 0: nothing. */
void durable_finished(struct worker *w, uint64_t receiver, uint64_t address);
/* A retained message was set, or cleared (no payload). */
void durable_retained_gone(struct worker *w, const struct message *msg, uint64_t seq); /* it has expired */
void durable_retained(struct worker *w, struct message *kept, uint64_t seq);

/* ---- durable_rows.c: sessions ---------------------------------------------------------------------------------- */
bool durable_session_begin(struct session *s); /* it outlives its connection: from now on it is kept. false: no memory */
void durable_session_changed(struct session *s); /* login, connection, will, expiry */
void durable_session_end(struct session *s);
void durable_exchange_changed(struct session *s);
static inline void
durable_exchange(struct session *s) /* something of QoS 2 has changed */
{
	if (s->durable)
		durable_exchange_changed(s);
}
void durable_subscription(struct session *s, struct grapnel_str share, struct grapnel_str filter, const struct sub *values, uint8_t retain_handling);
void durable_unsubscription(struct session *s, struct grapnel_str share, struct grapnel_str filter);
/* The row of a shared group; gives it a number. 0: it is not kept. */
uint64_t durable_group_begin(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str key);
void durable_group_end(struct worker *w, uint64_t id);
void durable_session_rows(struct session *s); /* what durable_dirty asked for, into the batch */
void durable_row(struct worker *w, int table, bool goes, uint64_t id, struct grapnel_str text, struct grapnel_str row);
void durable_dirty(struct session *s);
/* Is what is being routed held? */
static inline bool
durable_holding(const struct worker *w)
{
	return w->durable != NULL && w->durable->routing != NULL && w->durable->routing->origin != 0;
}
static inline uint64_t
durable_id(const struct session *s)
{
	return s->durable ? s->extra->store_id : 0;
}

/* ---- gates.c ------------------------------------------------------------------------------------- */
/* From here on acknowledgements of this connection wait for the ticket. false: no memory, the connection is closed. */
bool gate_open_after(struct conn *c, struct ticket *t);
bool gate_after_batch(struct conn *c); /* the same for the batch that is being collected */
void gate_exchange_kept(struct conn *c);
static inline void
gate_exchange(struct conn *c) /* the same if its Session is kept and waits for the disk at all */
{
	if (c->session->durable)
		gate_exchange_kept(c);
}
static inline bool
gate_waiting(const struct conn *c)
{
	return c->extra != NULL && c->extra->gate_first != NULL;
}
unsigned gate_count(const struct conn *c); /* packets in them */
bool gate_has(const struct conn *c, uint8_t type, uint16_t packet_id);
/* Behind the last gate; reason_string is copied. */
void gate_ack(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code, struct grapnel_str reason_string);
void gate_publish(struct conn *c, uint16_t packet_id); /* the PUBLISH in flight with that identifier */
void gate_packet(struct conn *c, uint8_t *packet, size_t len); /* takes the heap block; then the session is pumped */
void gate_cork(struct conn *c); /* nothing at all is written before the batch is */
void gates_done(struct worker *w, struct ticket *t); /* t is done */
void gates_uncork(struct worker *w); /* the store is failing: who waits for CONNACK is not to wait for longer */
void gates_clear(struct conn *c);

/* ---- hold.c --------------------------------------------------------------------------------------- */
struct hold *hold_begin(struct conn *c); /* then route; NULL: no memory */
void hold_id(struct hold *h, uint16_t packet_id);
void hold_is_remote(struct hold *h);
bool hold_has(const struct hold *h, uint16_t packet_id); /* of a session's, not yet confirmed */
void hold_end(struct conn *c, struct hold *h); /* routed */
/* Instead of deliver(). */
void hold_session(struct worker *w, struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids);
void hold_group(struct worker *w, struct group *g, struct message *msg);
void hold_done(struct worker *w, struct ticket *t);
/* A PUBLISH that is held came again, maybe on another connection: its answer waits there too. false: it is not held. */
bool hold_again(struct conn *c, uint16_t packet_id);
void holds_forget(struct session *s); /* the session ends */

/* ---- restore.c -------------------------------------------------------------------------------------- */
int durable_restore(struct broker *b, char error[512]); /* main, before the workers run */

/* ---- spill.c ----------------------------------------------------------------------------------------- */
void spill_check(struct session *s, size_t bytes); /* its queue has grown by a message that is in the store */
void spill_popped(struct session *s, const struct entry *e); /* one that is in memory left it */
void spill_committed(struct worker *w);
void spill_read(struct session *s); /* read ahead, if need be */

#endif
