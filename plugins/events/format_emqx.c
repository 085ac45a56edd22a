/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bodies of the plugin emqx_web_hook of EMQX 4 and of NanoMQ's webhook, which is made after it. Names and types are
 * those of the README of emqx-web-hook, of "WebHook" in the documentation of EMQX 4.4, and of "Configure with WebHook" in
 * that of NanoMQ 0.19 and later. Where the code of these brokers does otherwise than their pages, the code counts: times are in
 * milliseconds, and EMQX says null for a user name that is absent. The payload is text unless it is asked for in base64.
 */
#include "format_private.h"

static const char *const emqx_actions[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = "client_connected",
	[GRAPNEL_EVENT_CLIENT_REFUSED] = "client_connack",
	[GRAPNEL_EVENT_CLIENT_DISCONNECTED] = "client_disconnected",
	[GRAPNEL_EVENT_SESSION_CREATED] = "session_created",
	[GRAPNEL_EVENT_SESSION_EXPIRED] = "session_terminated",
	[GRAPNEL_EVENT_SUBSCRIBED] = "session_subscribed",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = "session_unsubscribed",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] = "message_publish",
	[GRAPNEL_EVENT_MESSAGE_DELIVERED] = "message_delivered",
	[GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED] = "message_acked",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = "message_publish",
};

/* Reason Codes as EMQX calls them. */
static const char *const failures[] = { "unspecified_error", "malformed_packet", "protocol_error",
	"implementation_specific_error", "unsupported_protocol_version",
	"client_identifier_not_valid", "bad_username_or_password", "not_authorized",
	"server_unavailable", "server_busy", "banned", "server_shutting_down",
	"bad_authentication_method", "keepalive_timeout", "session_taken_over",
	"topic_filter_invalid", "topic_name_invalid", "packet_identifier_inuse",
	"packet_identifier_not_found", "receive_maximum_exceeded", "topic_alias_invalid",
	"packet_too_large", "message_rate_too_high", "quota_exceeded", "administrative_action",
	"payload_format_invalid", "retain_not_supported", "qos_not_supported", "use_another_server",
	"server_moved", "shared_subscriptions_not_supported", "connection_rate_exceeded",
	"maximum_connect_time", "subscription_identifiers_not_supported",
	"wildcard_subscriptions_not_supported" };
#define FAILURES (sizeof(failures) / sizeof(*failures))

static const struct grapnel_client_info nobody = { .size = sizeof(nobody), .client_id = { "", 0 } };

static const struct grapnel_client_info *
client_of(const struct record_view *v)
{
	return v->event.client != NULL ? v->event.client : &nobody;
}

uint64_t
emqx_possible(void)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < GRAPNEL_EVENT_COUNT; i++)
		if (emqx_actions[i] != NULL)
			mask |= GRAPNEL_EVENT_BIT(i);
	return mask;
}

/* ---- what both have -------------------------------------------------------------------------- */

/* absent NULL: null. */
static void
member_or(struct text *t, const char *name, struct grapnel_str value, const char *absent)
{
	if (value.data == NULL && absent != NULL)
		value = (struct grapnel_str){ absent, strlen(absent) };
	json_name(t, name);
	json_text(t, value);
}

static void
member_ms(struct text *t, const char *name, int64_t time_us)
{
	json_name(t, name);
	text_int(t, time_us / 1000);
}

/* Who published it: the client of message_published, the author of others. */
static void
put_from(struct text *t, const struct record_view *v, const char *absent)
{
	const struct grapnel_message_info *m = v->event.message;
	struct grapnel_str id = m->author_client_id, name = m->author_username;

	if (id.data == NULL && v->event.type == GRAPNEL_EVENT_MESSAGE_PUBLISHED) {
		id = client_of(v)->client_id;
		name = client_of(v)->username;
	}
	member_or(t, "from_client_id", id, NULL);
	member_or(t, "from_username", name, absent);
}

static void
put_message(struct text *t, const struct record_view *v, enum format_payload how)
{
	const struct grapnel_message_info *m = v->event.message;
	struct grapnel_str payload = payload_of_view(v);

	member_or(t, "topic", m->topic_name, "");
	member_uint(t, "qos", m->qos);
	member_bool(t, "retain", m->retain);
	if (how == PAYLOAD_NONE || payload.data == NULL)
		member_or(t, "payload", (struct grapnel_str){ NULL, 0 }, NULL);
	else
		member_bytes(
		    t, "payload", "payload", payload, how == PAYLOAD_AUTO ? PAYLOAD_TEXT : how);
	member_ms(t, "ts", v->event.time_us);
}

/* ---- EMQX ------------------------------------------------------------------------------------ */

/* Why the connection or the session ended. */
static struct grapnel_str
emqx_reason(const struct record_view *v)
{
	static const struct {
		const char *ours, *theirs;
	} reasons[] = {
		{ "DISCONNECT by the client", "normal" },
		{ "DISCONNECT by the client, with Will", "disconnect_with_will_message" },
		{ "connection closed by the client", "tcp_closed" },
		{ "connection closed, expiry interval 0", "normal" },
		{ "clean start", "discarded" },
	};
	uint8_t code = v->event.reason_code;
	const char *theirs = NULL;

	if (code == 0x8e)
		theirs = "takeovered";
	else if (code == 0x98)
		theirs = "kicked";
	else if (code >= 0x80 && code - 0x80u < FAILURES)
		theirs = failures[code - 0x80u];
	for (size_t i = 0; theirs == NULL && i < sizeof(reasons) / sizeof(*reasons); i++)
		if (str_is(v->event.reason, reasons[i].ours))
			theirs = reasons[i].theirs;
	if (theirs == NULL && v->event.reason.data != NULL)
		return v->event.reason;
	theirs = theirs != NULL ? theirs : "normal";
	return (struct grapnel_str){ theirs, strlen(theirs) };
}

static void
emqx_connection(struct text *t, const struct record_view *v)
{
	const struct grapnel_client_info *c = client_of(v);
	uint8_t code = v->event.reason_code;
	uint64_t port;

	member_or(t, "ipaddress", peer_address(c->peer, &port), NULL);
	member_uint(t, "keepalive", c->keep_alive);
	member_uint(t, "proto_ver", c->protocol);
	if (v->event.type == GRAPNEL_EVENT_CLIENT_CONNECTED)
		member_ms(t, "connected_at", v->event.time_us);
	else
		member_text(t, "conn_ack",
		    code >= 0x80 && code - 0x80u < FAILURES ? failures[code - 0x80u]
							    : "unknown_error");
}

static void
put_node(struct text *t, uint64_t node)
{
	static const char hex[] = "0123456789abcdef";

	json_name(t, "node");
	text_char(t, '"');
	for (unsigned shift = 64; shift > 0; shift -= 4)
		text_char(t, hex[node >> (shift - 4) & 15]);
	text_char(t, '"');
}

void
emqx_event(struct text *t, const struct record_view *v, const struct format_options *o)
{
	enum grapnel_event_type type = v->event.type;
	const struct grapnel_client_info *c = client_of(v);

	text_char(t, '{');
	member_text(t, "action", emqx_actions[type] != NULL ? emqx_actions[type] : "");
	put_node(t, v->event.id.node);
	if (type != GRAPNEL_EVENT_MESSAGE_PUBLISHED && type != GRAPNEL_EVENT_WILL_PUBLISHED) {
		member_or(t, "clientid", c->client_id, NULL);
		member_or(t, "username", c->username, NULL);
	}
	if (type == GRAPNEL_EVENT_CLIENT_CONNECTED || type == GRAPNEL_EVENT_CLIENT_REFUSED)
		emqx_connection(t, v);
	if (type == GRAPNEL_EVENT_CLIENT_DISCONNECTED || type == GRAPNEL_EVENT_SESSION_EXPIRED)
		member_string(t, "reason", emqx_reason(v));
	if (type == GRAPNEL_EVENT_CLIENT_DISCONNECTED)
		member_ms(t, "disconnected_at", v->event.time_us);
	if (v->event.filter.data != NULL)
		member_string(t, "topic", v->event.filter);
	if (type == GRAPNEL_EVENT_SUBSCRIBED) {
		json_name(t, "opts");
		text_char(t, '{');
		member_uint(t, "qos", v->event.qos);
		text_char(t, '}');
	}
	if (v->event.message != NULL) {
		put_from(t, v, NULL);
		put_message(t, v, o->payload);
	}
	text_char(t, '}');
}

/* ---- NanoMQ ---------------------------------------------------------------------------------- */

uint64_t
nanomq_possible(void)
{
	return GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_REFUSED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_DISCONNECTED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_MESSAGE_PUBLISHED);
}

static void
nanomq_client(struct text *t, const struct record_view *v, const char *action)
{
	const struct grapnel_client_info *c = client_of(v);

	member_text(t, "action", action);
	member_or(t, "clientid", c->client_id, NULL);
	member_or(t, "username", c->username, "undefined");
}

void
nanomq_event(struct text *t, const struct record_view *v, const struct format_options *o)
{
	const struct grapnel_client_info *c = client_of(v);
	bool normal =
	    v->event.reason_code == 0 && str_is(v->event.reason, "DISCONNECT by the client");

	text_char(t, '{');
	switch ((unsigned)v->event.type) {
	case GRAPNEL_EVENT_CLIENT_CONNECTED:
	case GRAPNEL_EVENT_CLIENT_REFUSED:
		nanomq_client(t, v, "client_connack");
		member_uint(t, "keepalive", c->keep_alive);
		member_uint(t, "proto_ver", c->protocol);
		member_text(t, "conn_ack",
		    v->event.type == GRAPNEL_EVENT_CLIENT_CONNECTED ? "success" : "fail");
		break;
	case GRAPNEL_EVENT_CLIENT_DISCONNECTED:
		nanomq_client(t, v, "client_disconnected");
		member_text(t, "reason", normal ? "normal" : "abnormal");
		break;
	case GRAPNEL_EVENT_MESSAGE_PUBLISHED:
		member_text(t, "action", "message_publish");
		if (v->event.message == NULL)
			break;
		put_from(t, v, "undefined");
		put_message(t, v, o->payload);
		break;
	}
	text_char(t, '}');
}
