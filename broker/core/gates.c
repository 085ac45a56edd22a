/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gates - what a connection is to be told when something is kept, in order
 *
 * A gate is one step of that: a ticket and the acknowledgements behind it. Once a connection has a gate, everything that has an order
 * goes behind the last one [MQTT-4.6.0-2] to [MQTT-4.6.0-4], until all gates are open. Many packets share a gate: those of one
 * read, or all that wait for the same batch.
 */
#include "core/durable.h"

#include "core/publish.h"

#include <stdlib.h>
#include <string.h>

enum item_kind { ITEM_ACK, ITEM_PUBLISH, ITEM_PACKET, ITEM_CORK };

struct item {
	uint8_t kind, type, reason_code;
	uint16_t packet_id;
	uint32_t len;
	uint8_t *data; /* ITEM_ACK: the Reason String; ITEM_PACKET: the packet; heap */
};
struct gate {
	struct gate *next;                       /* of the connection */
	struct gate *ticket_next, **ticket_link; /* of the ticket */
	struct ticket *ticket;                   /* NULL: open */
	struct conn *c;
	struct item *items;
	uint32_t count, capacity;
	bool refused;
};

static void
detach(struct gate *g)
{
	if (g->ticket == NULL)
		return;
	*g->ticket_link = g->ticket_next;
	if (g->ticket_next != NULL)
		g->ticket_next->ticket_link = g->ticket_link;
	g->ticket = NULL;
}

static void
gate_free(struct gate *g)
{
	detach(g);
	for (uint32_t i = 0; i < g->count; i++)
		free(g->items[i].data);
	free(g->items);
	free(g);
}

void
gates_clear(struct conn *c)
{
	struct gate *g;

	if (c->extra == NULL)
		return;
	while ((g = c->extra->gate_first) != NULL) {
		c->extra->gate_first = g->next;
		gate_free(g);
	}
	c->extra->gate_last = NULL;
	c->extra->gated = c->extra->gate_items = 0;
	c->corked = false;
}

unsigned
gate_count(const struct conn *c)
{
	return c->extra != NULL ? c->extra->gate_items : 0;
}

bool
gate_open_after(struct conn *c, struct ticket *t)
{
	struct conn_extra *x = conn_extra(c);
	struct gate *g;

	if (x != NULL && x->gate_last != NULL && x->gate_last->ticket == t)
		return true;
	if (x == NULL || (g = calloc(1, sizeof(*g))) == NULL) {
		conn_fail(c);
		return false;
	}
	g->c = c;
	g->ticket = t;
	g->ticket_next = t->gates;
	g->ticket_link = &t->gates;
	if (t->gates != NULL)
		t->gates->ticket_link = &g->ticket_next;
	t->gates = g;
	if (x->gate_last != NULL)
		x->gate_last->next = g;
	else
		x->gate_first = g;
	x->gate_last = g;
	return true;
}

bool
gate_after_batch(struct conn *c)
{
	struct ticket *t = durable_batch_ticket(c->w);

	if (t == NULL) {
		conn_fail(c);
		return false;
	}
	return gate_open_after(c, t);
}

void
gate_exchange_kept(struct conn *c)
{
	if (durable_strict(c->w))
		(void)gate_after_batch(c);
}

static struct item *
item_add(struct conn *c)
{
	struct gate *g = c->extra->gate_last;

	if (g->count == g->capacity) {
		uint32_t capacity = g->capacity == 0 ? 8 : g->capacity * 2;
		struct item *p = realloc(g->items, capacity * sizeof(*p));

		if (p == NULL) {
			conn_fail(c); /* what was not acknowledged comes again */
			return NULL;
		}
		g->items = p;
		g->capacity = capacity;
	}
	memset(&g->items[g->count], 0, sizeof(*g->items));
	c->extra->gate_items++;
	return &g->items[g->count++];
}

/* Of a PUBLISH: it is unacknowledged until then. */
static bool
counts(const struct item *it)
{
	return it->kind == ITEM_ACK && (it->type == MQTT_PUBACK || it->type == MQTT_PUBREC);
}

void
gate_ack(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code,
    struct grapnel_str reason_string)
{
	struct item *it = item_add(c);

	if (it == NULL)
		return;
	it->kind = ITEM_ACK;
	it->type = type;
	it->packet_id = packet_id;
	it->reason_code = reason_code;
	if (reason_string.len > 0 && (it->data = malloc(reason_string.len)) != NULL) {
		memcpy(it->data, reason_string.data, reason_string.len);
		it->len = (uint32_t)reason_string.len;
	}
	c->extra->gated += counts(it);
	acks_pause(c);
}

void
gate_publish(struct conn *c, uint16_t packet_id)
{
	struct item *it = item_add(c);

	if (it != NULL) {
		it->kind = ITEM_PUBLISH;
		it->packet_id = packet_id;
	}
}

void
gate_packet(struct conn *c, uint8_t *packet, size_t len)
{
	struct item *it = item_add(c);

	if (it == NULL) {
		free(packet);
		return;
	}
	it->kind = ITEM_PACKET;
	it->data = packet;
	it->len = (uint32_t)len;
}

void
gate_cork(struct conn *c)
{
	struct item *it;

	if (!gate_after_batch(c) || (it = item_add(c)) == NULL)
		return;
	it->kind = ITEM_CORK;
	c->corked = true;
}

bool
gate_has(const struct conn *c, uint8_t type, uint16_t packet_id)
{
	if (c->extra == NULL)
		return false;
	for (const struct gate *g = c->extra->gate_first; g != NULL; g = g->next)
		for (uint32_t i = 0; i < g->count; i++)
			if (g->items[i].kind == ITEM_ACK && g->items[i].type == type &&
			    g->items[i].packet_id == packet_id)
				return true;
	return false;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void
packet_out(struct conn *c, const struct item *it)
{
	uint8_t *p = conn_out(c, it->len);

	if (p == NULL) {
		conn_fail(c);
		return;
	}
	memcpy(p, it->data, it->len);
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	deliver_pump(c->session); /* retained messages follow */
}

static void
item_out(struct conn *c, const struct item *it, bool refused)
{
	struct grapnel_str why = { (const char *)it->data, it->len };
	uint8_t code = it->reason_code;

	c->extra->gate_items--;
	switch (it->kind) {
	case ITEM_CORK:
		c->corked = false;
		conn_mark_dirty(c);
		break;
	case ITEM_PUBLISH:
		deliver_gated(c->session, it->packet_id);
		break;
	case ITEM_PACKET:
		packet_out(c, it);
		break;
	default:
		c->extra->gated -= counts(it);
		if (refused && counts(it) && code < 0x80) {
			if (c->version < 5) { /* no acknowledgement at all: it keeps its message */
				ack_refused(c, it->type, it->packet_id);
				conn_close(c, RC_QUOTA_EXCEEDED, "its message cannot be kept");
				return;
			}
			code = RC_QUOTA_EXCEEDED;
			why = GRAPNEL_STR("the message cannot be kept for those who are not there");
		}
		ack_out_now(c, it->type, it->packet_id, code, why);
		break;
	}
}

static void
gates_go(struct conn *c)
{
	struct conn_extra *x = c->extra;
	struct gate *g;

	/* What is sent may open another gate of this connection: its turn is behind what is left of this one. */
	if (x->gates_going)
		return;
	x->gates_going = true;
	while (c->state == CONN_ESTABLISHED && !c->dead && (g = x->gate_first) != NULL &&
	    g->ticket == NULL) {
		/* First out of the list: what is sent now may bring new gates. */
		x->gate_first = g->next;
		if (g->next == NULL)
			x->gate_last = NULL;
		for (uint32_t i = 0; i < g->count && c->state == CONN_ESTABLISHED && !c->dead; i++)
			item_out(c, &g->items[i], g->refused);
		gate_free(g);
	}
	if (c->extra != NULL)
		c->extra->gates_going = false;
	if (c->state == CONN_ESTABLISHED && !c->dead)
		acks_resume(c);
	else if (c->state == CONN_CLOSING && c->corked)
		c->corked = false;
}

void
gates_done(struct worker *w, struct ticket *t)
{
	bool refused = atomic_load_explicit(&t->refused, memory_order_relaxed);
	struct gate *g;

	(void)w;
	while ((g = t->gates) != NULL) {
		detach(g);
		g->refused = refused;
		gates_go(g->c);
	}
}

void
gates_uncork(struct worker *w)
{
	for (uint32_t i = 0; i < w->core->conn_capacity; i++) {
		struct conn *c = w->core->conns[i];

		if (c == NULL || c->dead || !c->corked || c->state != CONN_ESTABLISHED)
			continue;
		conn_close(c, 0, "the session cannot be kept: the store is failing");
	}
}
