/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hold - QoS 2 messages of sessions that are kept: exactly once, whenever the broker ends
 *
 * Such a message must be with its receivers if and only if its Packet Identifier is known to have been received. So nobody gets it
 * before both are kept:
 *
 *	1. It is routed. Whoever would get it is noted in a unit (of each worker), and receivers that are kept have it in a record that
 *	   names its origin: session and number.
 *	2. When all records are kept the session confirms the number, along with the Packet Identifier, in the order of the numbers.
 *	   Records are only good if their origin has confirmed them. If all are in the batch of this very worker, both are one step.
 *	3. When that is kept the units are delivered, and PUBREC goes out.
 *
 * If the session ends meanwhile there is nothing to be confirmed: its messages go on their way.
 *
 * Threads: a hold belongs to the worker of its session; a unit to the worker where its receivers are.
 */
#include "core/durable.h"

#include "core/publish.h"
#include "core/shared.h"

#include <stdlib.h>
#include <string.h>

struct hold {
	struct hold *next; /* of the session, in order of their numbers */
	struct ticket *ticket;
	uint64_t generation; /* of the session; 0: it has ended */
	uint64_t number;
	unsigned count;
	uint16_t ids[TOPIC_GROUP];
	bool remote;    /* other workers have some of it */
	bool guarded;   /* one of the ticket's is its own, until it is its turn */
	bool ready;     /* step 1 is done */
	bool confirmed; /* step 2 is on its way */
};

struct held_item {
	struct message *msg; /* a reference */
	subids ids;
	uint64_t generation; /* of the session; 0: a group */
	uint64_t receiver;   /* its number in the store; 0: none, or a group */
	uint64_t address;
	uint64_t group_serial;
	uint32_t group_slot;
	uint8_t qos, flags;
};
struct held_unit {
	struct mail mail; /* first: to its worker, when it may be delivered */
	struct held_unit *next;
	struct ticket *ticket;
	unsigned worker;
	bool discard; /* it was refused */
	uint32_t count, capacity;
	struct held_item *items;
};

/* ---- noting ------------------------------------------------------------------------------------- */

static struct held_item *
item_new(struct worker *w, struct message *msg)
{
	struct durable_worker *d = w->durable;
	struct held_unit *u = d->unit;
	struct held_item *p;

	if (u == NULL || u->ticket != d->routing) {
		if ((u = calloc(1, sizeof(*u))) == NULL)
			return NULL;
		u->ticket = d->routing;
		u->worker = w->index;
		u->next = atomic_load_explicit(&d->routing->units, memory_order_relaxed);
		while (!atomic_compare_exchange_weak_explicit(
		    &d->routing->units, &u->next, u, memory_order_release, memory_order_relaxed))
			;
		d->unit = u;
	}
	if (u->count == u->capacity) {
		uint32_t capacity = u->capacity == 0 ? 8 : u->capacity * 2;

		if ((p = realloc(u->items, capacity * sizeof(*p))) == NULL)
			return NULL;
		u->items = p;
		u->capacity = capacity;
	}
	p = &u->items[u->count];
	memset(p, 0, sizeof(*p));
	if ((p->msg = message_keep(msg)) == NULL)
		return NULL;
	u->count++;
	return p;
}

static void
no_memory(struct worker *w)
{
	metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
	atomic_store_explicit(&w->durable->routing->refused, true, memory_order_relaxed);
}

void
hold_session(struct worker *w, struct session *s, struct message *msg, uint8_t qos, uint8_t flags,
    subids ids)
{
	struct held_item *it = item_new(w, msg);
	bool refused = false;

	if (it == NULL) {
		no_memory(w);
		subids_unref(ids);
		return;
	}
	if (s->durable && qos > 0) {
		struct entry e = { .msg = it->msg, .ids = ids, .qos = qos, .flags = flags };

		it->receiver = s->extra->store_id;
		durable_receiver(w, it->receiver, false, s->conn != NULL, &e, &refused);
		it->address = e.address;
	}
	it->ids = ids;
	it->generation = session_generation(s);
	it->qos = qos;
	it->flags = flags;
}

void
hold_group(struct worker *w, struct group *g, struct message *msg)
{
	struct held_item *it = item_new(w, msg);

	if (it == NULL) {
		no_memory(w);
		return;
	}
	shared_hold(g, it->msg, &it->group_slot, &it->group_serial, &it->address);
}

static void
on_unit(struct worker *w, struct mail *m)
{
	struct held_unit *u = (struct held_unit *)(void *)m;

	for (uint32_t i = 0; i < u->count; i++) {
		struct held_item *it = &u->items[i];
		struct session *s = NULL;

		if (u->discard) {
			durable_finished(w, it->receiver, it->address);
			subids_unref(it->ids);
		} else if (it->generation == 0) {
			shared_route_held(
			    w, it->group_slot, it->group_serial, it->msg, it->address);
		} else if ((s = session_by_generation(w, it->generation)) != NULL) {
			deliver_kept(s, it->msg, it->qos, it->flags, it->ids, 0, 0, it->address);
		} else {
			durable_finished(w, it->receiver, it->address);
			subids_unref(it->ids);
		}
		message_unref(it->msg);
	}
	free(u->items);
	free(u);
}

/* ---- a hold ---------------------------------------------------------------------------------------- */

static bool
has(const struct hold *h, uint16_t packet_id)
{
	for (unsigned i = 0; i < h->count; i++)
		if (h->ids[i] == packet_id)
			return true;
	return false;
}

bool
hold_has(const struct hold *h, uint16_t packet_id)
{
	for (; h != NULL; h = h->next)
		if (!h->confirmed && has(h, packet_id))
			return true;
	return false;
}

struct hold *
hold_begin(struct conn *c)
{
	struct durable_worker *d = c->w->durable;
	struct session *s = c->session;
	struct hold *h = calloc(1, sizeof(*h)), **last = &s->extra->holds;

	if (h == NULL || (h->ticket = ticket_new(c->w)) == NULL) {
		free(h);
		return NULL;
	}
	h->ticket->hold = h;
	h->generation = session_generation(s);
	h->number = s->extra->confirmed + 1;
	for (; *last != NULL; last = &(*last)->next)
		h->number = (*last)->number + 1;
	*last = h;
	d->holding = h;
	d->routing = h->ticket;
	d->routing_waits = true;
	h->ticket->origin = s->extra->store_id;
	h->ticket->origin_number = h->number;
	return h;
}

void
hold_id(struct hold *h, uint16_t packet_id)
{
	h->ids[h->count++] = packet_id;
}

void
hold_is_remote(struct hold *h)
{
	h->remote = true;
}

static void
unlink_hold(struct session *s, struct hold *h)
{
	struct hold **p = &s->extra->holds;

	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
}

/* Step 3. */
static void
release(struct worker *w, struct ticket *t)
{
	struct held_unit *newest = atomic_load_explicit(&t->units, memory_order_acquire), *u = NULL,
			 *next;
	struct hold *h = t->hold;

	for (; newest != NULL; newest = next) { /* oldest first */
		next = newest->next;
		newest->next = u;
		u = newest;
	}
	for (; u != NULL; u = next) {
		next = u->next;
		u->mail.fn = on_unit;
		u->discard = atomic_load_explicit(&t->refused, memory_order_relaxed);
		worker_post(w->broker->workers[u->worker], &u->mail);
	}
	gates_done(w, t);
	ticket_free(w, t);
	free(h);
}

/* Somebody could not take it in: its publisher sends it again, and then it is a new one. */
static void
refuse(struct session *s, const struct hold *h)
{
	if (!atomic_load_explicit(&h->ticket->refused, memory_order_relaxed))
		return;
	for (unsigned i = 0; i < h->count; i++)
		id_set_remove(&s->flow->received, h->ids[i]);
}

/* Step 2, of all whose turn it is. */
static void
confirm(struct worker *w, struct session *s)
{
	struct hold *h, *next;

	for (h = s->extra->holds; h != NULL && (h->confirmed || h->ready); h = next) {
		next = h->next;
		if (h->confirmed)
			continue;
		h->confirmed = true;
		s->extra->confirmed = h->number;
		refuse(s, h);
		durable_exchange(s);
		(void)durable_wait_for_batch(w, h->ticket); /* no memory: as if it were written */
		if (h->guarded) {
			h->guarded = false;
			ticket_release(w, h->ticket);
		}
	}
}

void
hold_end(struct conn *c, struct hold *h)
{
	struct worker *w = c->w;
	struct durable_worker *d = w->durable;

	d->holding = NULL;
	d->unit = NULL;
	(void)durable_route_end(w);
	(void)gate_open_after(c, h->ticket);
	if (!h->remote) { /* records and confirmation are in one batch */
		h->ready = true;
		confirm(w, c->session);
	}
	ticket_release(w, h->ticket);
}

void
hold_done(struct worker *w, struct ticket *t)
{
	struct hold *h = t->hold;
	struct session *s = h->generation != 0 ? session_by_generation(w, h->generation) : NULL;

	if (s == NULL || s->extra == NULL) {
		release(w, t);
		return;
	}
	if (h->confirmed) {
		unlink_hold(s, h);
		release(w, t);
		return;
	}
	/* Step 1 is done: the ticket waits once more. It may have to wait for those before it. */
	h->ready = h->guarded = true;
	ticket_take(t);
	confirm(w, s);
}

bool
hold_again(struct conn *c, uint16_t packet_id)
{
	for (struct hold *h = c->session->extra != NULL ? c->session->extra->holds : NULL;
	     h != NULL; h = h->next) {
		if (!has(h, packet_id))
			continue;
		if (!gate_has(c, MQTT_PUBREC, packet_id) && gate_open_after(c, h->ticket))
			gate_ack(c, MQTT_PUBREC, packet_id, 0, (struct grapnel_str){ 0 });
		return true;
	}
	return false;
}

void
holds_forget(struct session *s)
{
	struct hold *h;

	while ((h = s->extra->holds) != NULL) {
		s->extra->holds = h->next;
		h->generation = 0;
		if (h->guarded)
			ticket_release(s->w, h->ticket);
	}
}
