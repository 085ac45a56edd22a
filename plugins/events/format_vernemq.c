/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bodies of VerneMQ's webhooks. Names and types are those of its documentation (plugin development, "Webhooks") and of
 * what vmq_webhooks 2.x sends where the two differ: on_deliver has qos, retain and properties too. Hooks whose names end
 * with _m5 are about MQTT 5 clients and carry properties. One hook per request; the payload is base64 unless
 * base64_payload = off (payload = text here), and left out with no_payload (payload = none).
 */
#include "format_private.h"

static const char *const hooks[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = "on_register",
	[GRAPNEL_EVENT_CLIENT_DISCONNECTED] = "on_client_offline", /* or on_client_gone */
	[GRAPNEL_EVENT_SESSION_CREATED] = "on_client_wakeup",
	[GRAPNEL_EVENT_SESSION_RESUMED] = "on_client_wakeup",
	[GRAPNEL_EVENT_SESSION_EXPIRED] = "on_session_expired",
	[GRAPNEL_EVENT_SUBSCRIBED] = "on_subscribe",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = "on_unsubscribe",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] = "on_publish",
	[GRAPNEL_EVENT_MESSAGE_DELIVERED] = "on_deliver",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = "on_publish",
};

static const char *const hooks_m5[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = "on_register_m5",
	[GRAPNEL_EVENT_SUBSCRIBED] = "on_subscribe_m5",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = "on_unsubscribe_m5",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] = "on_publish_m5",
	[GRAPNEL_EVENT_MESSAGE_DELIVERED] = "on_deliver_m5",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = "on_publish_m5",
};

uint64_t
vernemq_possible(void)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < GRAPNEL_EVENT_COUNT; i++)
		if (hooks[i] != NULL)
			mask |= GRAPNEL_EVENT_BIT(i);
	return mask;
}

static bool
is_m5(const struct record_view *v)
{
	return v->event.client != NULL && v->event.client->protocol == GRAPNEL_MQTT_5_0;
}

const char *
vernemq_hook(const struct record_view *v)
{
	/* A session that does not outlive its connection is gone with it. */
	if (v->event.type == GRAPNEL_EVENT_CLIENT_DISCONNECTED && v->event.client != NULL &&
	    v->event.client->session_expiry == 0)
		return "on_client_gone";
	if (is_m5(v) && hooks_m5[v->event.type] != NULL)
		return hooks_m5[v->event.type];
	return hooks[v->event.type];
}

/* ---- properties ------------------------------------------------------------------------------ */

static void
put_user_properties(struct text *t, struct grapnel_str block)
{
	struct grapnel_property p;
	bool any = false;

	for (size_t pos = 0; publish_property(block, &pos, &p);) {
		if (p.id != 0x26)
			continue;
		if (any) {
			text_char(t, ',');
		} else {
			json_name(t, "p_user_property");
			text_char(t, '[');
		}
		any = true;
		text_char(t, '{');
		json_name(t, "key");
		json_base64(t, p.u.pair.name);
		json_name(t, "val");
		json_base64(t, p.u.pair.value);
		text_char(t, '}');
	}
	if (any)
		text_char(t, ']');
}

static void
put_property(struct text *t, const struct grapnel_property *p)
{
	switch (p->id) {
	case 0x01:
		member_text(
		    t, "p_payload_format_indicator", p->u.number == 1 ? "utf8" : "undefined");
		break;
	case 0x03:
		member_string(t, "p_content_type", p->u.str);
		break;
	case 0x08:
		member_string(t, "p_response_topic", p->u.str);
		break;
	case 0x09:
		member_string(t, "p_correlation_data", p->u.str);
		break;
	}
}

static void
put_message_properties(struct text *t, const struct grapnel_message_info *m)
{
	struct grapnel_property p;
	uint32_t seen = 0;

	for (size_t pos = 0; publish_property(m->properties, &pos, &p);) {
		if (p.id < 0x0b && (seen & 1u << p.id) == 0)
			put_property(t, &p);
		seen |= p.id < 32 ? 1u << p.id : 0;
	}
	if (m->has_message_expiry)
		member_uint(t, "p_message_expiry_interval", m->message_expiry);
	put_user_properties(t, m->properties);
}

static void
put_properties(struct text *t, const struct record_view *v)
{
	json_name(t, "properties");
	text_char(t, '{');
	if (v->event.message != NULL)
		put_message_properties(t, v->event.message);
	else if (v->event.type == GRAPNEL_EVENT_CLIENT_CONNECTED && v->client.session_expiry > 0)
		member_uint(t, "p_session_expiry_interval", v->client.session_expiry);
	text_char(t, '}');
}

/* ---- bodies ---------------------------------------------------------------------------------- */

/* A string, null when it is absent, as its undefined is. */
static void
member_or_null(struct text *t, const char *name, struct grapnel_str value)
{
	json_name(t, name);
	json_text(t, value);
}

static void
put_peer(struct text *t, const struct grapnel_client_info *c)
{
	uint64_t port;
	struct grapnel_str address = peer_address(c->peer, &port);

	member_or_null(t, "peer_addr", address);
	member_uint(t, "peer_port", port);
}

static void
put_topics(struct text *t, const struct record_view *v)
{
	json_name(t, "topics");
	text_char(t, '[');
	if (v->event.type == GRAPNEL_EVENT_SUBSCRIBED) {
		text_char(t, '{');
		member_or_null(t, "topic", v->event.filter);
		member_uint(t, "qos", v->event.qos);
		text_char(t, '}');
	} else {
		json_text(t, v->event.filter);
	}
	text_char(t, ']');
}

static void
put_message(struct text *t, const struct record_view *v, enum format_payload how)
{
	const struct grapnel_message_info *m = v->event.message;

	member_uint(t, "qos", m->qos);
	member_string(t, "topic", m->topic_name);
	member_bytes(t, "payload", "payload", payload_of_view(v),
	    how == PAYLOAD_AUTO ? PAYLOAD_BASE64 : how);
	member_bool(t, "retain", m->retain);
}

void
vernemq_event(struct text *t, const struct record_view *v, const struct format_options *o)
{
	const struct grapnel_message_info *m = v->event.message;
	/* Of a Will Message from before a restart only the author is known. */
	const struct grapnel_client_info author = {
		.size = sizeof(author),
		.client_id = m != NULL ? m->author_client_id : GRAPNEL_STR(""),
		.username = m != NULL ? m->author_username : (struct grapnel_str){ NULL, 0 },
	};
	const struct grapnel_client_info *c = v->event.client != NULL ? v->event.client : &author;
	bool about_session = v->event.filter.data == NULL && m == NULL &&
	    v->event.type != GRAPNEL_EVENT_CLIENT_CONNECTED;

	text_char(t, '{');
	if (v->event.type == GRAPNEL_EVENT_CLIENT_CONNECTED)
		put_peer(t, c);
	if (!about_session)
		member_or_null(t, "username", c->username);
	member_or_null(
	    t, "mountpoint", c->mountpoint.data != NULL ? c->mountpoint : GRAPNEL_STR(""));
	member_or_null(t, "client_id", c->client_id);
	if (v->event.filter.data != NULL)
		put_topics(t, v);
	if (m != NULL)
		put_message(t, v, o->payload);
	if (!about_session && (is_m5(v) || v->event.type == GRAPNEL_EVENT_MESSAGE_DELIVERED))
		put_properties(t, v);
	text_char(t, '}');
}
