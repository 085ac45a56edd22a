/* SPDX-License-Identifier: Apache-2.0 */
#include "core/connecting.h"

#include "base/log.h"
#include "core/acl.h"
#include "core/durable.h"

#include <stdlib.h>
#include <string.h>

static bool
same_user(const struct identity *a, const struct identity *b)
{
	struct grapnel_str x = identity_username(a), y = identity_username(b);

	return a->has_username == b->has_username && x.len == y.len &&
	    (x.len == 0 || memcmp(x.data, y.data, x.len) == 0);
}

static uint32_t
lower(uint32_t asked, uint32_t limit)
{
	return asked != 0 && asked < limit ? asked : limit;
}

struct limits *
connect_limits(const struct limits *base, const struct grapnel_client_limits *a)
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

/* What a login may bring that not all have; the memory is there. */
static void
take_extra(struct session_extra *x, struct connecting *k)
{
	acl_rules_unref(x->rules);
	x->rules = k->rules;
	k->rules = NULL;
	/* One that waited for its delay is not published any more [MQTT-3.1.3-9]. */
	message_unref(x->will);
	x->will = k->will;
	x->will_delay = k->will != NULL ? k->p.will.props.will_delay : 0;
	k->will = NULL;
	x->expiry = k->p.session_expiry;
}

/* Can a session that outlives its connection be promised? */
static bool
store_takes(const struct conn *c, const struct session *s)
{
	const struct worker *w = c->w;
	enum store_state state;

	if (w->durable == NULL || c->connecting->p.session_expiry == 0 ||
	    c->limits->max_session_expiry == 0)
		return true;
	state = store_state(w->broker->store);
	return state == STORE_GOOD ||
	    (state == STORE_FULL && s != NULL && !c->connecting->p.clean_start);
}

/* Nothing is said to the Client before what CONNACK says is true after a crash, too. */
static void
keep_session(struct conn *c, bool ended)
{
	struct session *s = c->session;

	if (c->w->durable == NULL)
		return;
	if (session_expiry_effective(s) > 0 && !durable_session_begin(s)) {
		conn_fail(c);
		return;
	}
	durable_session_changed(s);
	if ((s->durable || ended) && durable_strict(c->w))
		gate_cork(c);
}

void
connect_attach(struct conn *c)
{
	struct connecting *k = c->connecting;
	struct worker *w = c->w;
	struct broker *b = w->broker;
	struct grapnel_str mountpoint = k->identity->site->mountpoint;
	struct grapnel_str client_id = identity_client_id(k->identity);
	struct session *s = session_find(w, mountpoint, client_id);
	bool extra =
	    k->will != NULL || k->rules != NULL || k->valid_until != 0 || k->p.session_expiry != 0;
	struct limits *own = NULL;
	bool present = false, ended = false;

	/*
	 * A Client may say goodbye and be back at once. What has come on its old connection is from before, so it
	 * goes first: a DISCONNECT there means that no Will Message is due.
	 */
	if (s != NULL && s->conn != NULL && !c->in_dispatch) { /* then the read buffer is free */
		conn_hear_out(s->conn);
		s = session_find(w, mountpoint, client_id);
	}
	/* Expiry counts now, whatever the timer has got to: what has expired belongs to nobody. */
	if (s != NULL && session_expired(s)) {
		session_end(s, 0, "expired");
		s = NULL;
	}
	if (s != NULL && !c->limits->takeover_any && !same_user(s->identity, k->identity)) {
		connect_refuse(c, RC_CLIENT_ID_NOT_VALID,
		    "this Client Identifier belongs to another user's session");
		return;
	}
	if (!store_takes(c, s)) {
		connect_refuse(
		    c, RC_SERVER_UNAVAILABLE, "the session cannot be kept: the store is failing");
		return;
	}
	if (k->has_limits && (own = connect_limits(c->limits, &k->asked_limits)) == NULL) {
		connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
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
		/* It may have ended with its connection. */
		s = session_find(w, mountpoint, client_id);
	}
	if (s != NULL && k->p.clean_start) { /* [MQTT-3.1.2-4] */
		ended = s->durable;
		session_end(s, 0, "clean start");
		s = NULL;
	}
	if (s == NULL) {
		const struct limits *total = atomic_load_explicit(&b->limits, memory_order_acquire);

		if ((uint64_t)atomic_load_explicit(&b->sessions, memory_order_relaxed) >=
		    total->max_sessions) {
			free(own);
			connect_refuse(c, RC_QUOTA_EXCEEDED, "max_sessions reached");
			return;
		}
		if ((s = session_new(w, identity_ref(k->identity))) == NULL) {
			free(own);
			connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		session_set_limits(s, own, c->ls);
		if (extra && session_extra(s) == NULL) {
			session_end(s, 0, "out of memory");
			connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
	} else {
		if (extra && session_extra(s) == NULL) {
			free(own);
			connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
			return;
		}
		present = true;
		session_new_login(s, identity_ref(k->identity));
		session_set_limits(s, own, c->ls);
		if (event_wanted(w, GRAPNEL_EVENT_SESSION_RESUMED))
			core_event(w, GRAPNEL_EVENT_SESSION_RESUMED, s, NULL, 0, NULL);
	}
	/* From here on nothing can fail. */
	client_slots_move(w, &s->client, &k->client);
	s->auth_plugin = k->auth_plugin;
	c->limits = s->limits;
	s->superuser = k->superuser;
	if (s->extra != NULL)
		take_extra(s->extra, k);
	s->has_rules = s->extra != NULL && s->extra->rules != NULL;
	s->clean_start = k->p.clean_start;
	s->connected_s = (uint32_t)(clock_wall_us() / 1000000);

	c->session = s;
	identity_unref(c->who);
	c->who = identity_ref(s->identity);
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
		(void)session_set_valid_until(s, k->valid_until); /* it has extra */
	send_connack(c, present);
	if (c->state != CONN_ESTABLISHED)
		return;
	keep_session(c, ended);
	metric_add(&w->metrics, METRIC_CONNECTS_ACCEPTED, 1);
	log_at(GRAPNEL_LOG_INFO, "client_connected",
	    "client \"%.*s\" user \"%.*s\" from %s connected: MQTT %s, %s session", STR(client_id),
	    STR(identity_username(s->identity)), conn_peer(c),
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
