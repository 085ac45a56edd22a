/* SPDX-License-Identifier: Apache-2.0 */
#include "core/connecting.h"

#include "core/acl.h"
#include "core/durable.h"
#include "core/publish.h"
#include "core/session.h"

#include <stdlib.h>
#include <string.h>

void
connect_send_auth(struct conn *c, uint8_t reason_code, struct grapnel_str data)
{
	struct mqtt_disconnect d = { .reason_code = reason_code, .auth_data = data };
	uint8_t *p;

	d.auth_method = (struct grapnel_str){ c->extra->auth_method, c->extra->auth_method_len };
	if ((p = conn_out(c, mqtt_disconnect_size(5, MQTT_AUTH, &d))) == NULL) {
		conn_close(c, 0, "out of memory");
		return;
	}
	mqtt_disconnect_encode(p, 5, MQTT_AUTH, &d);
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
}

/* ---- re-authentication: MQTT 5.0 section 4.12.1 ---------------------------------------------- */

static bool
same_str(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

const char *
connect_new_login(struct conn *c, const struct grapnel_auth_answer *a)
{
	static const struct grapnel_client_limits none = { .size = sizeof(none) };
	struct session *s = c->session;
	struct grapnel_client_info values;
	struct grapnel_pair *attributes;
	struct limits *own = NULL;
	struct identity *id;

	session_info(s, &values);
	if ((a->username.data != NULL && !same_str(a->username, values.username)) ||
	    (a->mountpoint.data != NULL && !same_str(a->mountpoint, values.mountpoint)))
		return "the new login is of another user";
	values.attribute_count = a->attribute_count;
	if ((attributes = connect_attributes(
		 s->identity, a->attributes, &values.attribute_count)) == NULL)
		return "out of memory";
	values.attributes = attributes;
	values.superuser = a->superuser;
	if ((a->rules != NULL || a->valid_until != 0) && session_extra(s) == NULL)
		goto no_memory;
	if (a->limits != NULL || s->own_limits) {
		own = connect_limits(&c->ls->limits, a->limits != NULL ? a->limits : &none);
		if (own == NULL)
			goto no_memory;
		own->max_packet_size = s->limits->max_packet_size;
		own->max_session_expiry = s->limits->max_session_expiry;
		own->max_qos = s->limits->max_qos;
	}
	if ((id = identity_new(&values, s->identity->site)) == NULL)
		goto no_memory;
	id->own_count = s->identity->own_count;
	free(attributes);
	session_new_login(s, id);
	durable_session_changed(s);
	identity_unref(c->who);
	c->who = identity_ref(id);
	s->superuser = a->superuser;
	if (s->extra != NULL) {
		acl_rules_unref(s->extra->rules);
		s->extra->rules = a->rules != NULL ? acl_rules_ref(a->rules) : NULL;
	}
	s->has_rules = a->rules != NULL;
	if (own != NULL) {
		session_set_limits(s, own, c->ls);
		c->limits = s->limits;
	}
	(void)session_set_valid_until(s, a->valid_until); /* it has extra if it needs it */
	deliver_pump(s);                                  /* perhaps a larger window */
	return NULL;
no_memory:
	free(attributes);
	free(own);
	return "out of memory";
}

static void
on_reauth_decision(void *arg, const struct decision *d)
{
	struct conn *c = arg;
	const char *refused;
	char why[256];

	c->extra->reauth_pending = NULL;
	if (d->verdict == GRAPNEL_ALLOW) {
		if (!d->auth->more) {
			if (c->in_dispatch) /* what came before has the old identity as its author */
				conn_batch_end(c);
			if (c->session == NULL) /* closed by that */
				return;
			if ((refused = connect_new_login(c, d->auth)) != NULL) {
				conn_close(c, RC_NOT_AUTHORIZED, refused);
				return;
			}
			c->extra->reauthenticating = false;
		}
		connect_send_auth(
		    c, d->auth->more ? RC_CONTINUE_AUTHENTICATION : RC_SUCCESS, d->auth->data);
		conn_resume(c, PAUSE_DECISION);
		return;
	}
	if (d->verdict == GRAPNEL_UNAVAILABLE) /* DISCONNECT has no 0x88 */
		conn_close(c, RC_SERVER_BUSY, "authentication is unavailable");
	else
		conn_close(c, connect_plugin_code(MQTT_DISCONNECT, d),
		    connect_plugin_reason(why, sizeof(why), d, "re-authentication failed"));
}

/* A fault of the Client's. Before CONNACK nothing but CONNACK can tell it [MQTT-3.14.0-1]. */
static enum handled
auth_fault(struct conn *c, uint8_t reason_code, const char *why)
{
	if (c->state == CONN_ESTABLISHED)
		return packet_malformed(c, reason_code, why);
	metric_add(&c->w->metrics, METRIC_PACKETS_MALFORMED, 1);
	connect_fault(c, reason_code, why);
	return HANDLED_CLOSED;
}

/* What follows an AUTH waits only while a plugin still has it. */
static enum handled
after_auth(const struct conn *c)
{
	if (c->dead || c->state == CONN_CLOSING)
		return HANDLED_CLOSED;
	return c->pause & PAUSE_DECISION ? HANDLED_WAIT : HANDLED;
}

enum handled
conn_on_auth(struct conn *c, const uint8_t *body, size_t len)
{
	struct mqtt_disconnect a;
	struct conn_extra *x = c->extra;
	struct wire w;

	wire_init(&w, body, len);
	if (c->version != 5)
		return auth_fault(c, RC_PROTOCOL_ERROR, "AUTH is not a packet of MQTT 3.x");
	if (mqtt_auth_decode(&w, &a) != 0)
		return auth_fault(c, w.err, w.why);
	if (x == NULL || x->auth_method == NULL || a.auth_method.data == NULL ||
	    a.auth_method.len != x->auth_method_len ||
	    memcmp(a.auth_method.data, x->auth_method, a.auth_method.len) != 0)
		return auth_fault(c, RC_PROTOCOL_ERROR,
		    "AUTH with another Authentication Method than CONNECT [MQTT-4.12.1-1]");
	if (c->state == CONN_AUTHENTICATING) {
		struct connecting *k = c->connecting;

		if (!k->waiting_for_auth || a.reason_code != RC_CONTINUE_AUTHENTICATION)
			return auth_fault(c, RC_PROTOCOL_ERROR, "AUTH out of turn");
		k->waiting_for_auth = false;
		conn_pause(c, PAUSE_DECISION);
		connect_ask(c, GRAPNEL_EXCHANGE_CONTINUE, a.auth_data);
		return after_auth(c);
	}
	if (a.reason_code == RC_REAUTHENTICATE ? x->reauthenticating : !x->reauthenticating)
		return auth_fault(c, RC_PROTOCOL_ERROR, "AUTH out of turn");
	{
		struct grapnel_client_info info;
		struct grapnel_auth_exchange q = { .size = sizeof(q),
			.client = &info,
			.phase = x->reauthenticating ? GRAPNEL_EXCHANGE_CONTINUE
						     : GRAPNEL_EXCHANGE_REAUTH,
			.method = a.auth_method,
			.data = a.auth_data,
			.properties = a.props };
		struct decision now;

		session_info(c->session, &info);
		x->reauthenticating = true;
		conn_pause(c, PAUSE_DECISION);
		if (hooks_ask(c->w, HOOK_AUTH_EXCHANGE, &q,
			session_plugin_name(c->w, c->session->auth_plugin), on_reauth_decision, c,
			&now, &c->extra->reauth_pending)) {
			on_reauth_decision(c, &now);
			decision_release(&now);
		}
	}
	return after_auth(c);
}
