/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect - from a CONNECT packet to an attached Session
 *
 *	worker that accepted	decode, check what needs no rights, find the home worker, move there
 *	home worker		authenticate (plugins, perhaps several AUTH rounds) -> rights of the Will
 *				-> attach (take-over, clean start, resume) -> CONNACK
 *
 * Every step may wait for a plugin; connecting_cancel lets go of whatever it waits for.
 */
#include "core/conn.h"

#include "base/log.h"
#include "core/acl.h"
#include "core/publish.h"
#include "core/session.h"
#include "mqtt/topic.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct connecting {
	uint8_t *packet; /* the CONNECT's body, kept while plugins may look at it */
	size_t packet_len, whole;
	struct mqtt_connect p; /* borrows from packet */
	unsigned home;
	char assigned_id[32]; /* "" when the Client chose one */
	struct grapnel_client client;
	struct identity *identity;
	struct grapnel_rules *rules;
	struct grapnel_client_limits asked_limits;
	bool has_limits, superuser, anonymous, waiting_for_auth;
	bool refused; /* its event has been emitted */
	int64_t valid_until;
	char *auth_plugin;
	char *response_info, *auth_data;
	size_t response_info_len, auth_data_len;
	struct message *will;
	struct grapnel_request *pending;
};

static void on_auth_decision(void *arg, const struct decision *d);
static void connect_will(struct conn *c);
static void connect_attach(struct conn *c);
static void refused_event(struct conn *c, uint8_t reason_code, const char *why);

static char *
copy_str(struct grapnel_str s)
{
	char *p = malloc(s.len + 1);

	if (p != NULL) {
		if (s.len > 0)
			memcpy(p, s.data, s.len);
		p[s.len] = '\0';
	}
	return p;
}

static void
connecting_free(struct conn *c)
{
	struct connecting *k = c->connecting;

	if (k == NULL)
		return;
	if (k->packet != NULL) {
		explicit_bzero(k->packet, k->packet_len); /* holds the password */
		free(k->packet);
	}
	client_slots_free(c->w, &k->client);
	identity_unref(k->identity);
	acl_rules_unref(k->rules);
	message_unref(k->will);
	free(k->auth_plugin);
	free(k->response_info);
	free(k->auth_data);
	free(k);
	c->connecting = NULL;
}

void
connecting_cancel(struct conn *c, const char *why)
{
	if (c->connecting == NULL)
		return;
	if (!c->connecting->refused && c->connecting->packet != NULL && c->session == NULL)
		refused_event(c, 0, why); /* closed before CONNACK */
	hooks_cancel(c->w, c->connecting->pending);
	c->connecting->pending = NULL;
	connecting_free(c);
}

struct grapnel_client *
connecting_client(struct conn *c)
{
	return c->connecting != NULL ? &c->connecting->client : NULL;
}

/* ---- refusing ---------------------------------------------------------------------------- */

static void
refused_event(struct conn *c, uint8_t reason_code, const char *why)
{
	struct connecting *k = c->connecting;
	struct identity temporary = { .peer = { c->peer, strlen(c->peer) },
		.listener = { c->ls->name, strlen(c->ls->name) },
		.mountpoint = { c->ls->mountpoint, strlen(c->ls->mountpoint) },
		.protocol = c->version };
	struct grapnel_client_info info;
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_REFUSED,
		.client = &info,
		.reason = { why, strlen(why) },
		.reason_code = reason_code };

	if (!event_wanted(c->w, GRAPNEL_EVENT_CLIENT_REFUSED))
		return;
	if (k != NULL) {
		temporary.client_id = k->p.client_id;
		temporary.username = k->p.username;
		k->refused = true;
	}
	identity_info(&temporary, &info);
	event_emit(c->w, &ev);
}

static void
refuse(struct conn *c, uint8_t reason_code, const char *why, struct grapnel_str server_reference,
    const char *plugin)
{
	struct grapnel_property props[2];
	struct mqtt_connack ack = { .reason_code = reason_code, .props = props };
	struct connecting *k = c->connecting;
	struct grapnel_str id = k != NULL ? k->p.client_id : (struct grapnel_str){ 0 };
	struct grapnel_str user = k != NULL ? k->p.username : (struct grapnel_str){ 0 };
	unsigned suppressed;
	uint8_t *p;

	metric_add(&c->w->metrics, METRIC_CONNECTS_REFUSED, 1);
	if (log_allowed(c->peer, &suppressed))
		log_at(GRAPNEL_LOG_NOTICE, "connect_refused",
		    "client \"%.*s\" user \"%.*s\" from %s refused: %s (0x%02x)%s%s%s", STR(id),
		    STR(user), c->peer, why, reason_code, plugin != NULL ? " by plugin " : "",
		    plugin != NULL ? plugin : "", suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	refused_event(c, reason_code, why);
	if (c->version == 5) {
		if (c->problem_info && why != NULL)
			props[ack.prop_count++] =
			    (struct grapnel_property){ .id = PROP_REASON_STRING,
				    .u.str = { why, strlen(why) } };
		if (server_reference.data != NULL &&
		    (reason_code == RC_USE_ANOTHER_SERVER || reason_code == RC_SERVER_MOVED))
			props[ack.prop_count++] =
			    (struct grapnel_property){ .id = PROP_SERVER_REFERENCE,
				    .u.str = server_reference };
		if (c->client_max_packet != 0 && mqtt_connack_size(5, &ack) > c->client_max_packet)
			ack.prop_count = 0;
	}
	if (c->version != 0 && (c->version == 5 || reason_code != RC_MALFORMED_PACKET) &&
	    (p = conn_out(c, mqtt_connack_size(c->version, &ack))) != NULL) {
		mqtt_connack_encode(p, c->version, &ack);
		metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	}
	conn_close(c, reason_code, why);
}

static void
refuse_simple(struct conn *c, uint8_t reason_code, const char *why)
{
	refuse(c, reason_code, why, (struct grapnel_str){ 0 }, NULL);
}

/* ---- on the worker that accepted ----------------------------------------------------------- */

/* A Client Identifier nobody has, at home on this worker. */
static bool
assign_client_id(struct conn *c, struct connecting *k)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	uint8_t random[20];

	for (unsigned tries = 0; tries < 64 * WORKER_MAX; tries++) {
		struct grapnel_str id = { k->assigned_id, 0 };

		if (RAND_bytes(random, sizeof(random)) != 1)
			return false;
		memcpy(k->assigned_id, "auto", 4);
		for (unsigned i = 0; i < sizeof(random); i++)
			k->assigned_id[4 + i] = digits[random[i] & 31];
		k->assigned_id[4 + sizeof(random)] = '\0';
		id.len = strlen(k->assigned_id);
		if (broker_home(c->w->broker, id) == c->w->index)
			return true;
	}
	return false;
}

enum handled
conn_on_connect(struct conn *c, const struct mqtt_frame *f, const uint8_t *body, size_t whole)
{
	struct connecting *k = calloc(1, sizeof(*k));
	struct wire w;
	uint8_t err;

	if (k == NULL) {
		conn_close(c, 0, "out of memory");
		return HANDLED_CLOSED;
	}
	c->connecting = k;
	wire_init(&w, body, f->remaining);
	err = mqtt_connect_decode(&w, &k->p);
	c->version = k->p.version;
	if (err == RC_UNSUPPORTED_PROTOCOL_VERSION && c->version == 0)
		c->version = 4; /* an answer that old clients understand */
	c->problem_info = err != 0 || k->p.request_problem_info;
	c->client_max_packet = k->p.maximum_packet_size;
	if (err == 0 && !(c->ls->limits.protocols & (1u << c->version))) {
		err = RC_UNSUPPORTED_PROTOCOL_VERSION;
		w.why = "protocol version not accepted by this listener";
	}
	if (err != 0) {
		metric_add(&c->w->metrics, METRIC_PACKETS_MALFORMED, 1);
		refuse_simple(c, err, w.why != NULL ? w.why : "malformed CONNECT");
		return HANDLED_CLOSED;
	}
	if (k->p.client_id.len == 0) {
		/* 3.1 knows no empty identifier; 3.1.1 only with Clean Session 1 [v3.1.1 MQTT-3.1.3-8] */
		if (c->version == 3 || (c->version == 4 && !k->p.clean_start)) {
			refuse_simple(c, RC_CLIENT_ID_NOT_VALID,
			    "empty Client Identifier needs Clean Session");
			return HANDLED_CLOSED;
		}
		if (!assign_client_id(c, k)) {
			conn_close(c, 0, "no random bytes");
			return HANDLED_CLOSED;
		}
		k->home = c->w->index;
	} else {
		k->home = broker_home(c->w->broker, k->p.client_id);
	}
	k->whole = whole;
	return HANDLED_WAIT;
}

void
connect_go(struct conn *c)
{
	if (c->connecting->home != c->w->index)
		conn_move(c, c->w->broker->workers[c->connecting->home]);
	else
		conn_on_connect_home(c);
}

/* ---- authentication -------------------------------------------------------------------------- */

static struct identity *
identity_for(const struct conn *c, struct grapnel_str username, struct grapnel_str mountpoint,
    const struct grapnel_pair *attributes, size_t attribute_count)
{
	const struct connecting *k = c->connecting;
	struct identity values = {
		.client_id = k->p.client_id,
		.username = username,
		.mountpoint = mountpoint,
		.peer = { c->peer, strlen(c->peer) },
		.listener = { c->ls->name, strlen(c->ls->name) },
		.attributes = attributes,
		.attribute_count = (uint32_t)attribute_count,
		.protocol = c->version,
		.superuser = k->superuser,
		.anonymous = k->anonymous,
	};

	return identity_new(&values);
}

static void
connecting_info(const struct conn *c, struct grapnel_client_info *info)
{
	struct connecting *k = c->connecting;

	identity_info(k->identity, info);
	info->client = &k->client;
	info->clean_start = k->p.clean_start;
	info->keep_alive = k->p.keep_alive;
	info->session_expiry = k->p.session_expiry;
}

/* Ask the chain that fits; phase 0: an ordinary CONNECT. */
static void
ask_authentication(struct conn *c, enum grapnel_exchange_phase phase, struct grapnel_str data)
{
	struct connecting *k = c->connecting;
	struct grapnel_client_info info;
	struct grapnel_message_info will;
	struct decision now;
	bool decided;

	connecting_info(c, &info);
	if (phase == 0) {
		struct grapnel_authenticate q = {
			.size = sizeof(q), .client = &info, .properties = k->p.props
		};

		if (k->p.has_password)
			q.password = k->p.password.data != NULL ? k->p.password
								: (struct grapnel_str){ "", 0 };
		if (k->p.has_will) {
			memset(&will, 0, sizeof(will));
			will.size = sizeof(will);
			will.topic_name = k->p.will.topic_name;
			will.payload = k->p.will.payload;
			will.properties = k->p.will.props.block;
			will.qos = k->p.will.qos;
			will.retain = k->p.will.retain;
			will.will = true;
			q.will = &will;
		}
		decided = hooks_ask(
		    c->w, HOOK_AUTHENTICATE, &q, NULL, on_auth_decision, c, &now, &k->pending);
	} else {
		struct grapnel_auth_exchange q = { .size = sizeof(q),
			.client = &info,
			.phase = phase,
			.method = k->p.auth_method,
			.data = data,
			.properties = k->p.props };

		if (k->p.has_password)
			q.password = k->p.password;
		decided = hooks_ask(c->w, HOOK_AUTH_EXCHANGE, &q,
		    phase == GRAPNEL_EXCHANGE_CONTINUE ? k->auth_plugin : NULL, on_auth_decision, c,
		    &now, &k->pending);
	}
	if (decided) {
		k->pending = NULL;
		on_auth_decision(c, &now);
		decision_release(&now);
	}
}

void
conn_on_connect_home(struct conn *c)
{
	struct connecting *k = c->connecting;
	struct mqtt_frame f;
	struct wire w;

	conn_set_state(c, CONN_AUTHENTICATING, "CONNECT received");
	/* The packet moves out of the input buffer: what follows it stays there, in order. */
	if (mqtt_frame_read(c->in, c->in_len, &f) != 1 ||
	    (k->packet = malloc(f.remaining)) == NULL) {
		conn_close(c, 0, "out of memory");
		return;
	}
	memcpy(k->packet, c->in + f.header_len, f.remaining);
	k->packet_len = f.remaining;
	explicit_bzero(c->in, k->whole);
	c->in_len -= (uint32_t)k->whole;
	if (c->in_len == 0) {
		free(c->in);
		c->in = NULL;
		c->in_capacity = 0;
	} else {
		memmove(c->in, c->in + k->whole, c->in_len);
	}
	wire_init(&w, k->packet, k->packet_len);
	if (mqtt_connect_decode(&w, &k->p) != 0) { /* cannot be: it was decoded before */
		conn_close(c, 0, "malformed CONNECT");
		return;
	}
	if (k->assigned_id[0] != '\0')
		k->p.client_id = (struct grapnel_str){ k->assigned_id, strlen(k->assigned_id) };
	if (!k->p.has_username)
		k->p.username.data = NULL;
	else if (k->p.username.data == NULL)
		k->p.username.data = "";
	conn_pause(c, PAUSE_DECISION);
	k->identity = identity_for(c, k->p.username,
	    (struct grapnel_str){ c->ls->mountpoint, strlen(c->ls->mountpoint) }, NULL, 0);
	if (k->identity == NULL) {
		refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	if (k->p.auth_method.data != NULL) {
		struct conn_extra *x = conn_extra(c);

		if (!hook_used(c->w, HOOK_AUTH_EXCHANGE)) {
			refuse_simple(c, RC_BAD_AUTHENTICATION_METHOD,
			    "no plugin knows this authentication method");
			return;
		}
		if (x == NULL || (x->auth_method = copy_str(k->p.auth_method)) == NULL) {
			refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		x->auth_method_len = k->p.auth_method.len;
		ask_authentication(c, GRAPNEL_EXCHANGE_CONNECT, k->p.auth_data);
		return;
	}
	ask_authentication(c, 0, (struct grapnel_str){ 0 });
}

static void
send_auth(struct conn *c, uint8_t reason_code, struct grapnel_str data)
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

/* Keep what the answer of an ALLOW says; the answer's memory is gone afterwards. */
static bool
take_answer(struct conn *c, const struct decision *d)
{
	struct connecting *k = c->connecting;
	const struct grapnel_auth_answer *a = d->auth;
	struct identity *id;

	k->superuser = a->superuser;
	k->valid_until = a->valid_until;
	if (a->rules != NULL)
		k->rules = acl_rules_ref(a->rules);
	if (a->limits != NULL) {
		k->asked_limits = *a->limits;
		k->has_limits = true;
	}
	if (a->response_information.data != NULL && k->p.request_response_info) {
		if ((k->response_info = copy_str(a->response_information)) == NULL)
			return false;
		k->response_info_len = a->response_information.len;
	}
	if (a->data.data != NULL) {
		if ((k->auth_data = copy_str(a->data)) == NULL)
			return false;
		k->auth_data_len = a->data.len;
	}
	if (k->auth_plugin == NULL && d->plugin != NULL &&
	    (k->auth_plugin = strdup(d->plugin)) == NULL)
		return false;
	id = identity_for(c, a->username.data != NULL ? a->username : k->identity->username,
	    a->mountpoint.data != NULL ? a->mountpoint : k->identity->mountpoint, a->attributes,
	    a->attribute_count);
	if (id == NULL)
		return false;
	identity_unref(k->identity);
	k->identity = id;
	return true;
}

/* Why a plugin says no, as a C string; a long one is cut between two characters. */
static const char *
plugin_reason(char *buffer, size_t size, const struct decision *d, const char *otherwise)
{
	struct grapnel_str s = d->auth->reason_string;

	if (s.data == NULL || s.len == 0)
		return otherwise;
	if (s.len >= size) {
		s.len = size - 1;
		while (s.len > 0 && ((unsigned char)s.data[s.len] & 0xc0) == 0x80)
			s.len--;
	}
	memcpy(buffer, s.data, s.len);
	buffer[s.len] = '\0';
	return buffer;
}

/* The Reason Code a plugin chose, where the packet has it. */
static uint8_t
plugin_code(unsigned packet, const struct decision *d)
{
	uint8_t code = d->auth->reason_code;

	return d->verdict == GRAPNEL_DENY && code >= 0x80 && mqtt_reason_valid(packet, code)
	    ? code
	    : RC_NOT_AUTHORIZED;
}

static void
on_auth_decision(void *arg, const struct decision *d)
{
	struct conn *c = arg;
	struct connecting *k = c->connecting;
	bool exchange = k->p.auth_method.data != NULL;
	char why[256];

	k->pending = NULL;
	switch (d->verdict) {
	case GRAPNEL_ALLOW:
		if (exchange && d->auth->more) {
			if (k->auth_plugin == NULL &&
			    (d->plugin == NULL || (k->auth_plugin = strdup(d->plugin)) == NULL)) {
				refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
				return;
			}
			send_auth(c, RC_CONTINUE_AUTHENTICATION, d->auth->data);
			if (c->state != CONN_AUTHENTICATING)
				return;
			k->waiting_for_auth = true;
			conn_arm_deadline(c);
			conn_resume(c, PAUSE_DECISION);
			return;
		}
		if (!take_answer(c, d)) {
			refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		connect_will(c);
		return;
	case GRAPNEL_NEXT: /* nobody decided */
		if (exchange) {
			refuse_simple(c, RC_BAD_AUTHENTICATION_METHOD,
			    "no plugin knows this authentication method");
			return;
		}
		/* Anonymous never catches a CONNECT that brought credentials. */
		if (c->ls->anonymous && !k->p.has_username && !k->p.has_password) {
			struct grapnel_auth_answer none = { .size = sizeof(none) };
			struct decision allowed = { .verdict = GRAPNEL_ALLOW, .auth = &none };

			k->anonymous = true;
			if (!take_answer(c, &allowed)) {
				refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
				return;
			}
			connect_will(c);
			return;
		}
		refuse_simple(c, RC_NOT_AUTHORIZED, "not authorised");
		return;
	case GRAPNEL_UNAVAILABLE:
		refuse(c, RC_SERVER_UNAVAILABLE, "authentication is unavailable",
		    (struct grapnel_str){ 0 }, d->plugin);
		return;
	case GRAPNEL_DENY:
	case GRAPNEL_PENDING:
		break;
	}
	refuse(c, plugin_code(MQTT_CONNACK, d),
	    plugin_reason(why, sizeof(why), d, "not authorised"), d->auth->server_reference,
	    d->plugin);
}

/* ---- AUTH packets ------------------------------------------------------------------------------- */

static void
on_reauth_decision(void *arg, const struct decision *d)
{
	struct conn *c = arg;
	char why[256];

	c->reauth_pending = NULL;
	if (d->verdict == GRAPNEL_ALLOW) {
		if (!d->auth->more) {
			c->extra->reauthenticating = false;
			session_set_valid_until(
			    c->session, d->auth->valid_until); /* of the new login; 0: no end */
		}
		send_auth(
		    c, d->auth->more ? RC_CONTINUE_AUTHENTICATION : RC_SUCCESS, d->auth->data);
		conn_resume(c, PAUSE_DECISION);
		return;
	}
	if (d->verdict == GRAPNEL_UNAVAILABLE) /* DISCONNECT has no 0x88 */
		conn_close(c, RC_SERVER_BUSY, "authentication is unavailable");
	else
		conn_close(c, plugin_code(MQTT_DISCONNECT, d),
		    plugin_reason(why, sizeof(why), d, "re-authentication failed"));
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

void
connect_fault(struct conn *c, uint8_t reason_code, const char *why)
{
	if (c->state == CONN_AUTHENTICATING && c->connecting != NULL)
		refuse_simple(c, reason_code, why);
	else
		conn_close(c, reason_code, why);
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
		ask_authentication(c, GRAPNEL_EXCHANGE_CONTINUE, a.auth_data);
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
		if (hooks_ask(c->w, HOOK_AUTH_EXCHANGE, &q, c->session->auth_plugin,
			on_reauth_decision, c, &now, &c->reauth_pending)) {
			on_reauth_decision(c, &now);
			decision_release(&now);
		}
	}
	return after_auth(c);
}

/* ---- the Will ------------------------------------------------------------------------------------------ */

static struct message *
will_message(struct conn *c)
{
	struct connecting *k = c->connecting;
	const struct mqtt_will *will = &k->p.will;
	struct grapnel_str mp = k->identity->mountpoint;
	size_t topic_len = mp.len + will->topic_name.len,
	       props_len = mqtt_forward_size(&will->props);
	char *buf = malloc(topic_len + props_len + 1);
	struct message m = { 0 }, *kept;

	if (buf == NULL || topic_len > 65535) {
		free(buf);
		return NULL;
	}
	memcpy(buf, mp.data, mp.len);
	memcpy(buf + mp.len, will->topic_name.data, will->topic_name.len);
	mqtt_forward_put((uint8_t *)buf + topic_len, &will->props);
	m.qos = will->qos;
	m.flags = (uint8_t)(MSG_WILL | (will->retain ? MSG_RETAIN : 0) |
	    (will->props.payload_is_utf8 ? MSG_UTF8 : 0));
	m.topic = buf;
	m.topic_len = (uint16_t)topic_len;
	m.props = buf + topic_len;
	m.props_len = (uint32_t)props_len;
	m.payload = will->payload.data;
	m.payload_len = (uint32_t)will->payload.len;
	if (will->props
		.has_message_expiry) { /* counted from when it is published: will.c sets the deadline */
		m.flags |= MSG_EXPIRES;
		m.expires_at_ms = (uint64_t)will->props.message_expiry * 1000;
	}
	m.author = k->identity;
	kept = message_keep(&m);
	message_release_borrowed(&m);
	free(buf);
	return kept;
}

/* The rule is for the log; what the Client hears does not name it. */
static void
will_denied(struct conn *c, const struct rights_answer *a)
{
	const struct identity *id = c->connecting->identity;
	unsigned suppressed;

	metric_add(&c->w->metrics, METRIC_ACL_DENIED, 1);
	if (log_allowed(c->peer, &suppressed))
		log_at(GRAPNEL_LOG_NOTICE, "acl_denied",
		    "client \"%.*s\" user \"%.*s\" from %s: Will Message to \"%.*s\" "
		    "denied%s%.*s%s",
		    STR(id->client_id), STR(id->username), c->peer,
		    STR(c->connecting->p.will.topic_name), a->rule.len > 0 ? " by " : "",
		    STR(a->rule), suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	refuse_simple(c, RC_NOT_AUTHORIZED, "no right to publish the Will Message");
}

static void
on_will_rights(void *arg, const struct rights_answer *a)
{
	struct conn *c = arg;

	c->connecting->pending = NULL;
	if (a->verdict == GRAPNEL_ALLOW)
		connect_attach(c);
	else if (a->verdict == GRAPNEL_UNAVAILABLE)
		refuse_simple(
		    c, RC_SERVER_UNAVAILABLE, "rights of the Will Message are unavailable");
	else
		will_denied(c, a);
}

static void
on_will_rights_later(void *arg, const struct decision *d)
{
	struct rights_answer a;

	rights_from(d, &a);
	on_will_rights(arg, &a);
}

static void
connect_will(struct conn *c)
{
	struct connecting *k = c->connecting;
	const struct limits *l = c->limits;
	const struct mqtt_will *will = &k->p.will;
	struct rights_question q;
	struct rights_answer now;

	if (!k->p.has_will) {
		connect_attach(c);
		return;
	}
	if (will->qos > l->max_qos) {
		refuse_simple(c, RC_QOS_NOT_SUPPORTED, "Will QoS above max_qos [MQTT-3.2.2-12]");
		return;
	}
	if (will->retain && !l->retain_available) {
		refuse_simple(c, RC_RETAIN_NOT_SUPPORTED,
		    "Will Retain, but retain_available = no [MQTT-3.2.2-13]");
		return;
	}
	if (!topic_name_valid(will->topic_name) ||
	    topic_levels(will->topic_name) > l->max_topic_levels) {
		refuse_simple(c, RC_TOPIC_NAME_INVALID, "Will Topic is not a Topic Name");
		return;
	}
	if (l->check_payload_format && will->props.payload_is_utf8 &&
	    !utf8_valid(will->payload.data, will->payload.len)) {
		refuse_simple(c, RC_PAYLOAD_FORMAT_INVALID, "Will Payload is not UTF-8");
		return;
	}
	if ((k->will = will_message(c)) == NULL) {
		refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	q = (struct rights_question){ .action = GRAPNEL_WILL,
		.qos = will->qos,
		.retain = will->retain,
		.topic = will->topic_name,
		.msg = k->will,
		.mounted = true };
	if (rights_ask(c->w, NULL, k->identity, k->rules, &q, on_will_rights_later, c, &now,
		&k->pending)) {
		k->pending = NULL;
		on_will_rights(c, &now);
	}
}

/* ---- attaching ---------------------------------------------------------------------------------------------- */

static bool
same_user(const struct identity *a, const struct identity *b)
{
	if ((a->username.data == NULL) != (b->username.data == NULL))
		return false;
	return a->username.len == b->username.len &&
	    (a->username.len == 0 ||
		memcmp(a->username.data, b->username.data, a->username.len) == 0);
}

static uint32_t
lower(uint32_t asked, uint32_t limit)
{
	return asked != 0 && asked < limit ? asked : limit;
}

static struct limits *
limits_with(const struct limits *base, const struct grapnel_client_limits *a)
{
	struct limits *l = malloc(sizeof(*l));

	if (l == NULL)
		return NULL;
	*l = *base;
	l->max_queued_messages = lower(a->max_queued_messages, base->max_queued_messages);
	l->max_inflight = lower(a->max_inflight, base->max_inflight);
	l->max_packet_size = lower(a->max_packet_size, base->max_packet_size);
	l->max_session_expiry = lower(a->max_session_expiry, base->max_session_expiry);
	if (a->message_rate != 0 &&
	    (base->message_rate == 0 || a->message_rate < base->message_rate))
		l->message_rate = a->message_rate;
	if (a->byte_rate != 0 && (base->byte_rate == 0 || a->byte_rate < base->byte_rate))
		l->byte_rate = a->byte_rate;
	if (a->max_queued_bytes != 0 && a->max_queued_bytes < base->max_queued_bytes)
		l->max_queued_bytes = a->max_queued_bytes;
	if (a->max_qos_plus_one != 0 && a->max_qos_plus_one - 1 < base->max_qos)
		l->max_qos = (uint8_t)(a->max_qos_plus_one - 1);
	return l;
}

static void
send_connack(struct conn *c, bool session_present)
{
	const struct connecting *k = c->connecting;
	const struct session *s = c->session;
	const struct limits *l = s->limits;
	struct grapnel_property props[16];
	struct mqtt_connack ack = { .session_present = session_present, .props = props };
	uint32_t expiry = session_expiry_effective(s);
	size_t n = 0;
	uint8_t *p;

#define NUMBER(prop, value) \
	(props[n++] = (struct grapnel_property){ .id = (prop), .u.number = (value) })
#define TEXT(prop, ptr, length) \
	(props[n++] = (struct grapnel_property){ .id = (prop), .u.str = { (ptr), (length) } })
	if (c->version == 5) {
		if (expiry != k->p.session_expiry)
			NUMBER(PROP_SESSION_EXPIRY, expiry);
		if (l->receive_maximum < 65535)
			NUMBER(PROP_RECEIVE_MAXIMUM, l->receive_maximum);
		if (l->max_qos < 2)
			NUMBER(PROP_MAXIMUM_QOS, l->max_qos);
		if (!l->retain_available)
			NUMBER(PROP_RETAIN_AVAILABLE, 0);
		NUMBER(PROP_MAXIMUM_PACKET_SIZE, l->max_packet_size);
		if (k->assigned_id[0] != '\0') /* [MQTT-3.1.3-7] */
			TEXT(PROP_ASSIGNED_CLIENT_ID, k->assigned_id, strlen(k->assigned_id));
		if (l->topic_alias_maximum != 0)
			NUMBER(PROP_TOPIC_ALIAS_MAXIMUM, l->topic_alias_maximum);
		if (!l->wildcard_available)
			NUMBER(PROP_WILDCARD_AVAILABLE, 0);
		if (!l->shared_available)
			NUMBER(PROP_SHARED_AVAILABLE, 0);
		if (c->keep_alive != k->p.keep_alive) /* [MQTT-3.1.2-21] */
			NUMBER(PROP_SERVER_KEEP_ALIVE, c->keep_alive);
		if (k->response_info != NULL)
			TEXT(PROP_RESPONSE_INFO, k->response_info, k->response_info_len);
		if (c->extra != NULL && c->extra->auth_method != NULL) {
			TEXT(PROP_AUTH_METHOD, c->extra->auth_method, c->extra->auth_method_len);
			if (k->auth_data != NULL)
				TEXT(PROP_AUTH_DATA, k->auth_data, k->auth_data_len);
		}
	}
#undef NUMBER
#undef TEXT
	ack.prop_count = n;
	if ((p = conn_out(c, mqtt_connack_size(c->version, &ack))) == NULL) {
		conn_close(c, 0, "out of memory");
		return;
	}
	mqtt_connack_encode(p, c->version, &ack);
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
}

static void
connect_attach(struct conn *c)
{
	struct connecting *k = c->connecting;
	struct worker *w = c->w;
	struct broker *b = w->broker;
	struct session *s = session_find(w, k->identity->mountpoint, k->identity->client_id);
	struct limits *own = NULL;
	bool present = false;

	/* Expiry counts now, whatever the timer has got to: what has expired belongs to nobody. */
	if (s != NULL && s->conn == NULL && w->now_ms >= s->expires_at_ms) {
		session_end(s, 0, "expired");
		s = NULL;
	}
	if (s != NULL && !c->limits->takeover_any && !same_user(s->identity, k->identity)) {
		refuse_simple(c, RC_CLIENT_ID_NOT_VALID,
		    "this Client Identifier belongs to another user's session");
		return;
	}
	if (k->has_limits && (own = limits_with(c->limits, &k->asked_limits)) == NULL) {
		refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	if (s != NULL && s->conn != NULL) {
		struct conn *old = s->conn;

		metric_add(&w->metrics, METRIC_SESSIONS_TAKEN_OVER, 1);
		if (event_wanted(w, GRAPNEL_EVENT_SESSION_TAKEN_OVER))
			core_event(w, GRAPNEL_EVENT_SESSION_TAKEN_OVER, s, NULL,
			    RC_SESSION_TAKEN_OVER, "taken over");
		conn_close(old, RC_SESSION_TAKEN_OVER,
		    "session taken over by another connection"); /* [MQTT-3.1.4-3] */
		s = session_find(w, k->identity->mountpoint,
		    k->identity->client_id); /* it may have ended with its connection */
	}
	if (s != NULL && k->p.clean_start) { /* [MQTT-3.1.2-4] */
		session_end(s, 0, "clean start");
		s = NULL;
	}
	if (s == NULL) {
		const struct limits *total = atomic_load_explicit(&b->limits, memory_order_acquire);

		if ((uint64_t)atomic_load_explicit(&b->sessions, memory_order_relaxed) >=
		    total->max_sessions) {
			free(own);
			refuse_simple(c, RC_QUOTA_EXCEEDED, "max_sessions reached");
			return;
		}
		if ((s = session_new(w, identity_ref(k->identity))) == NULL) {
			free(own);
			refuse_simple(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
	} else {
		present = true;
		session_new_login(s, identity_ref(k->identity));
	}
	s->identity->session_generation = s->generation; /* new, and nobody else's yet */
	/* From here on nothing can fail. */
	client_slots_move(w, &s->client, &k->client);
	acl_rules_unref(s->rules);
	s->rules = k->rules;
	k->rules = NULL;
	free(s->auth_plugin);
	s->auth_plugin = k->auth_plugin;
	k->auth_plugin = NULL;
	free(s->own_limits);
	s->own_limits = own;
	s->limits = own != NULL ? own : c->limits;
	if (s->settings != c->settings) {
		settings_unref(s->settings);
		s->settings = settings_ref(c->settings);
	}
	if (own != NULL)
		c->limits = own;
	s->superuser = k->superuser;
	message_unref(
	    s->will); /* one that waited for its delay is not published any more [MQTT-3.1.3-9] */
	s->will = k->will;
	s->will_delay = k->will != NULL ? k->p.will.props.will_delay : 0;
	k->will = NULL;
	s->expiry = k->p.session_expiry;
	s->clean_start = k->p.clean_start;
	s->connected_us = (uint64_t)clock_wall_us();

	c->session = s;
	c->receive_maximum = k->p.receive_maximum;
	c->own_receive_maximum = (uint16_t)s->limits->receive_maximum;
	c->alias_out_max = k->p.topic_alias_maximum;
	c->keep_alive = k->p.keep_alive;
	/* The ceiling's default means no ceiling: 0 stays "off". */
	if (c->limits->max_keep_alive < 65535 &&
	    (c->keep_alive == 0 || c->keep_alive > c->limits->max_keep_alive))
		c->keep_alive = (uint16_t)c->limits->max_keep_alive;
	session_attach(s, c);
	c->last_packet_ms = w->now_ms;
	conn_set_state(c, CONN_ESTABLISHED, "authenticated");
	if (k->valid_until != 0)
		session_set_valid_until(s, k->valid_until);
	send_connack(c, present);
	if (c->state != CONN_ESTABLISHED)
		return;
	metric_add(&w->metrics, METRIC_CONNECTS_ACCEPTED, 1);
	log_at(GRAPNEL_LOG_INFO, "client_connected",
	    "client \"%.*s\" user \"%.*s\" from %s connected: MQTT %s, %s session",
	    STR(s->identity->client_id), STR(s->identity->username), c->peer,
	    c->version == 5       ? "5.0"
		: c->version == 4 ? "3.1.1"
				  : "3.1",
	    present ? "resumed" : "new");
	if (event_wanted(w, GRAPNEL_EVENT_CLIENT_CONNECTED)) {
		struct grapnel_client_info info;
		struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_CONNECTED,
			.client = &info,
			.session_present = present };

		session_info(s, &info);
		event_emit(w, &ev);
	}
	connecting_free(c);
	conn_resume(c, PAUSE_DECISION);
	if (c->session != NULL)
		deliver_resume(s);
}
