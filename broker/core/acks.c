/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acks - PUBACK, PUBREC, PUBREL and PUBCOMP, in both directions; acknowledgements held by message_acknowledge
 */
#include "core/durable.h"
#include "core/publish.h"

#include <stdlib.h>
#include <string.h>

struct held_ack {
	struct held_ack *next;
	struct conn *c;
	struct grapnel_request *pending; /* NULL: decided */
	uint16_t packet_id;
	uint8_t type, reason_code;
	bool close;    /* no acknowledgement at all: the connection ends when its turn comes */
	bool received; /* a PUBREC whose identifier is in the session's `received` */
	char *reason_string; /* NULL: none */
	size_t reason_string_len;
};

#define HELD_MAX 1024 /* per connection; past it, or Receive Maximum, the Client is not read */

unsigned
acks_unsent(const struct conn *c)
{
	return c->extra != NULL ? c->extra->ack_count - c->extra->ack_received + c->extra->gated
				: 0;
}

bool
held_ack_has(const struct conn *c, uint8_t type, uint16_t packet_id)
{
	const struct held_ack *h = c->extra != NULL ? c->extra->ack_first : NULL;

	while (h != NULL && (h->type != type || h->packet_id != packet_id))
		h = h->next;
	return h != NULL;
}

static void
held_free(struct held_ack *h)
{
	free(h->reason_string);
	free(h);
}

/* Without memory there is none: it only explains. */
static void
held_reason(struct held_ack *h, struct grapnel_str s)
{
	free(h->reason_string);
	h->reason_string_len = s.len;
	h->reason_string = s.data != NULL && s.len > 0 ? malloc(s.len) : NULL;
	if (h->reason_string != NULL)
		memcpy(h->reason_string, s.data, s.len);
}

void
held_acks_clear(struct conn *c)
{
	struct held_ack *h, *next;

	if (c->extra == NULL)
		return;
	for (h = c->extra->ack_first; h != NULL; h = next) {
		next = h->next;
		hooks_cancel(c->w, h->pending);
		held_free(h);
	}
	c->extra->ack_first = c->extra->ack_last = NULL;
	c->extra->ack_count = c->extra->ack_received = 0;
}

void
ack_refused(struct conn *c, uint8_t type, uint16_t packet_id)
{
	if (type == MQTT_PUBREC && id_set_remove(&c->session->flow->received, packet_id))
		durable_exchange(c->session);
}

void
ack_out_now(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code,
    struct grapnel_str reason_string)
{
	/* A PUBREC that refuses ends the exchange: no PUBREL will come [MQTT-4.3.3-9]. */
	if (reason_code >= 0x80)
		ack_refused(c, type, packet_id);
	conn_send_ack(c, type, packet_id, reason_code, reason_string);
}

static void
ack_out(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code,
    struct grapnel_str reason_string)
{
	if (gate_waiting(c))
		gate_ack(c, type, packet_id, reason_code, reason_string);
	else
		ack_out_now(c, type, packet_id, reason_code, reason_string);
}

/* Not more of them than may wait, by either count? */
static bool
waiting_below(const struct conn *c, unsigned max)
{
	unsigned held = c->extra != NULL ? c->extra->ack_count : 0;
	unsigned gated = c->extra != NULL ? c->extra->gated : 0;

	return held + gate_count(c) < max && held + gated < c->session->limits->receive_maximum;
}

/* Those that wait are many: the Client is not read until they are fewer. */
void
acks_pause(struct conn *c)
{
	if (!waiting_below(c, HELD_MAX))
		conn_pause(c, PAUSE_ACKS);
}

void
acks_resume(struct conn *c)
{
	if (waiting_below(c, HELD_MAX / 2))
		conn_resume(c, PAUSE_ACKS);
}

/* Send those at the front that are decided. */
static void
held_go(struct conn *c)
{
	struct conn_extra *x = c->extra;
	struct held_ack *h;

	while ((h = x->ack_first) != NULL && h->pending == NULL) {
		x->ack_first = h->next;
		if (h->next == NULL)
			x->ack_last = NULL;
		x->ack_count--;
		x->ack_received -= h->received;
		if (h->close) {
			held_free(h);
			conn_close(
			    c, RC_IMPLEMENTATION_SPECIFIC, "a plugin refuses the acknowledgement");
			return;
		}
		ack_out(c, h->type, h->packet_id, h->reason_code,
		    (struct grapnel_str){ h->reason_string, h->reason_string_len });
		held_free(h);
		if (c->state != CONN_ESTABLISHED)
			return;
	}
	acks_resume(c);
}

static void
held_take(struct held_ack *h, const struct decision *d)
{
	bool v5 = h->c->version == 5;

	h->pending = NULL;
	if (d->verdict == GRAPNEL_ALLOW || d->verdict == GRAPNEL_NEXT)
		return;
	h->reason_code = d->verdict == GRAPNEL_DENY && d->ack->reason_code >= 0x80
	    ? d->ack->reason_code
	    : RC_IMPLEMENTATION_SPECIFIC;
	held_reason(
	    h, d->verdict == GRAPNEL_DENY ? d->ack->reason_string : (struct grapnel_str){ 0 });
	/* PUBCOMP has no code that says "no", 3.x has none at all. */
	h->close = !v5 || h->type == MQTT_PUBCOMP;
}

static void
on_held_later(void *arg, const struct decision *d)
{
	struct held_ack *h = arg;

	held_take(h, d);
	held_go(h->c);
}

void
ack_send(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code,
    struct grapnel_str reason_string, const struct message *msg)
{
	struct conn_extra *x = c->extra;
	struct held_ack *h;

	if (!hook_used(c->w, HOOK_ACKNOWLEDGE) && (x == NULL || x->ack_first == NULL)) {
		ack_out(c, type, packet_id, reason_code, reason_string);
		return;
	}
	if ((x = conn_extra(c)) == NULL || (h = calloc(1, sizeof(*h))) == NULL) {
		conn_close(c, RC_UNSPECIFIED, "out of memory");
		return;
	}
	h->c = c;
	h->type = type;
	h->packet_id = packet_id;
	h->reason_code = reason_code;
	held_reason(h, reason_string);
	if (x->ack_last == NULL)
		x->ack_first = h;
	else
		x->ack_last->next = h;
	x->ack_last = h;
	x->ack_count++;
	h->received = type == MQTT_PUBREC && reason_code < 0x80;
	x->ack_received += h->received;
	if (hook_used(c->w, HOOK_ACKNOWLEDGE)) {
		struct grapnel_client_info info;
		struct grapnel_message_info mi;
		struct grapnel_message_acknowledge q = { .size = sizeof(q),
			.client = &info,
			.message = &mi,
			.packet_identifier = packet_id,
			.packet_type = type,
			.reason_code = reason_code };
		struct decision now;

		session_info(c->session, &info);
		if (msg != NULL) {
			message_info_of(msg, session_mountpoint(c->session), &mi);
		} else {
			memset(&mi, 0, sizeof(mi));
			mi.size = sizeof(mi);
			mi.qos = 2;
		}
		if (hooks_ask(
			c->w, HOOK_ACKNOWLEDGE, &q, NULL, on_held_later, h, &now, &h->pending)) {
			held_take(h, &now);
			decision_release(&now);
		}
	}
	acks_pause(c);
	held_go(c);
}

void
ack_again(struct conn *c, uint16_t packet_id)
{
	/* Perhaps the first one was held when its connection ended: then this one has to wait, too. */
	if (hook_used(c->w, HOOK_ACKNOWLEDGE))
		ack_send(c, MQTT_PUBREC, packet_id, 0, (struct grapnel_str){ 0 }, NULL);
	else
		ack_out_now(c, MQTT_PUBREC, packet_id, 0, (struct grapnel_str){ 0 });
}

/* ---- from the Client ------------------------------------------------------------------- */

enum handled
on_ack(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	struct session *s = c->session;
	struct inflight_entry *ie;
	struct mqtt_ack a;
	struct wire w;
	bool known;

	wire_init(&w, body, f->remaining);
	if (mqtt_ack_decode(&w, c->version, f->type, &a) != 0)
		return packet_malformed(c, w.err, w.why);
	switch (f->type) {
	case MQTT_PUBACK:
		if ((ie = inflight_find(&s->flow->inflight, a.packet_id)) != NULL &&
		    ie->state == INFLIGHT_WAIT_PUBACK)
			deliver_acknowledged(s, ie, a.reason_code);
		break;
	case MQTT_PUBREC:
		ie = inflight_find(&s->flow->inflight, a.packet_id);
		if (ie == NULL || ie->state == INFLIGHT_WAIT_PUBACK) {
			conn_send_ack(c, MQTT_PUBREL, a.packet_id, RC_PACKET_IDENTIFIER_NOT_FOUND,
			    (struct grapnel_str){ 0 });
		} else if (a.reason_code >= 0x80 && ie->state == INFLIGHT_WAIT_PUBREC) {
			deliver_acknowledged(s, ie, a.reason_code); /* [MQTT-4.3.3-4] */
		} else {
			if (ie->state == INFLIGHT_WAIT_PUBREC) {
				deliver_received(s, ie);
				gate_exchange(
				    c); /* a PUBLISH with that identifier must not come again */
			}
			ack_out(c, MQTT_PUBREL, a.packet_id, 0, (struct grapnel_str){ 0 });
		}
		break;
	case MQTT_PUBCOMP:
		if ((ie = inflight_find(&s->flow->inflight, a.packet_id)) != NULL &&
		    ie->state == INFLIGHT_WAIT_PUBCOMP)
			deliver_acknowledged(s, ie, a.reason_code);
		break;
	case MQTT_PUBREL:
		/* In 3.x an unknown identifier is answered like a known one [v3.1.1 MQTT-4.3.3-2]. */
		known = id_set_remove(&s->flow->received, a.packet_id);
		if (known) { /* a PUBLISH with that identifier is a new message after that */
			id_set_remove(&s->flow->earlier, a.packet_id);
			durable_exchange(s);
			gate_exchange(c);
		}
		ack_send(c, MQTT_PUBCOMP, a.packet_id,
		    known || c->version < 5 ? 0 : RC_PACKET_IDENTIFIER_NOT_FOUND,
		    (struct grapnel_str){ 0 }, NULL);
		break;
	default:
		break;
	}
	return c->state == CONN_ESTABLISHED ? HANDLED : HANDLED_CLOSED;
}
