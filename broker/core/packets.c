/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packets - what a Client may send once it has been let in
 */
#include "base/log.h"
#include "core/publish.h"
#include "core/session.h"

#include <string.h>

/* ---- steps -------------------------------------------------------------------------------- */

void
step_wait(struct step *st)
{
	st->c->step = st;
	conn_pause(st->c, PAUSE_DECISION);
}

void
step_resumed(struct step *st)
{
	st->pending = NULL;
	st->c->step = NULL;
}

void
step_end(struct conn *c)
{
	conn_batch_end(c);
	conn_resume(c, PAUSE_DECISION);
}

void
step_cancel(struct conn *c)
{
	struct step *st = c->step;

	if (st == NULL)
		return;
	c->step = NULL;
	hooks_cancel(c->w, st->pending);
	st->free_fn(st);
}

/* ---- dispatch --------------------------------------------------------------------------------- */

enum handled
packet_malformed(struct conn *c, uint8_t reason_code, const char *why)
{
	unsigned suppressed;

	conn_batch_end(c); /* what came before it was good */
	if (c->dead || c->state == CONN_CLOSING)
		return HANDLED_CLOSED;
	metric_add(&c->w->metrics, METRIC_PACKETS_MALFORMED, 1);
	if (log_allowed(conn_peer(c), &suppressed))
		log_at(GRAPNEL_LOG_NOTICE, "protocol_error",
		    "client \"%.*s\" from %s: %s (0x%02x)%s", STR(conn_client_name(c)),
		    conn_peer(c), why != NULL ? why : "malformed packet", reason_code,
		    suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	connect_fault(c, reason_code, why != NULL ? why : "malformed packet");
	return HANDLED_CLOSED;
}

static enum handled
on_disconnect(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	struct mqtt_disconnect d;
	struct session *s = c->session;
	struct wire w;

	wire_init(&w, body, f->remaining);
	if (mqtt_disconnect_decode(&w, c->version, &d) != 0)
		return packet_malformed(c, w.err, w.why);
	if (d.has_session_expiry) {
		if (session_expiry(s) == 0 && d.session_expiry != 0) /* [MQTT-3.14.2-2] */
			return packet_malformed(c, RC_PROTOCOL_ERROR,
			    "Session Expiry Interval in DISCONNECT, but 0 in CONNECT");
		if (s->extra != NULL)
			s->extra->expiry = d.session_expiry;
	}
	if (c->version < 5 || d.reason_code == 0)
		conn_close_discarding_will(c, 0, "DISCONNECT by the client");
	else
		conn_close(c, 0, "DISCONNECT by the client, with Will");
	return HANDLED_CLOSED;
}

enum handled
conn_on_packet(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	uint8_t *p;

	if (c->state == CONN_AUTHENTICATING) {
		if (f->type == MQTT_AUTH)
			return conn_on_auth(c, body, f->remaining);
		if (f->type == MQTT_DISCONNECT) {
			conn_close(c, 0, "DISCONNECT during authentication");
			return HANDLED_CLOSED;
		}
		return packet_malformed(c, RC_PROTOCOL_ERROR,
		    "only AUTH and DISCONNECT may come before CONNACK [MQTT-3.1.2-30]");
	}
	if (f->type == MQTT_PUBLISH)
		return on_publish(c, f, body);
	/* Anything else comes after what is in the batch. */
	conn_batch_end(c);
	if (c->state != CONN_ESTABLISHED)
		return HANDLED_CLOSED;
	switch (f->type) {
	case MQTT_PUBACK:
	case MQTT_PUBREC:
	case MQTT_PUBREL:
	case MQTT_PUBCOMP:
		return on_ack(c, f, body);
	case MQTT_SUBSCRIBE:
		return on_subscribe(c, f, body);
	case MQTT_UNSUBSCRIBE:
		return on_unsubscribe(c, f, body);
	case MQTT_PINGREQ:
		if (f->remaining != 0)
			return packet_malformed(c, RC_MALFORMED_PACKET, "PINGREQ with a body");
		if ((p = conn_out(c, 2)) == NULL) {
			conn_close(c, 0, "out of memory");
			return HANDLED_CLOSED;
		}
		deliver_trim(c->session); /* a Client that sends these is idle */
		mqtt_ping_encode(p, MQTT_PINGRESP);
		metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
		return HANDLED;
	case MQTT_DISCONNECT:
		return on_disconnect(c, f, body);
	case MQTT_AUTH:
		if (c->version < 5)
			return packet_malformed(
			    c, RC_MALFORMED_PACKET, "packet type 15 is reserved in MQTT 3.x");
		return conn_on_auth(c, body, f->remaining);
	case MQTT_CONNECT:
		return packet_malformed(c, RC_PROTOCOL_ERROR, "second CONNECT [MQTT-3.1.0-2]");
	default:
		return packet_malformed(
		    c, RC_PROTOCOL_ERROR, "packet type that only a Server sends");
	}
}
