/* SPDX-License-Identifier: Apache-2.0 */
/* Our own shape of an event; its names are a promise: grapnel-events(7) lists them. */
#include "format_private.h"

#define BIT(name) GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_##name)

/* Which events have what; what is not known of the others would stand there as 0 or false. */
static const uint64_t about_connection = BIT(CLIENT_CONNECTED) | BIT(CLIENT_DISCONNECTED) |
    BIT(SESSION_CREATED) | BIT(SESSION_RESUMED) | BIT(SESSION_TAKEN_OVER) | BIT(SESSION_EXPIRED);
static const uint64_t with_reason_code = BIT(CLIENT_REFUSED) | BIT(CLIENT_DISCONNECTED) |
    BIT(SESSION_TAKEN_OVER) | BIT(SESSION_EXPIRED) | BIT(MESSAGE_PUBLISHED) |
    BIT(MESSAGE_ACKNOWLEDGED);

static void
put_attributes(struct text *t, const struct grapnel_client_info *c)
{
	if (c->attribute_count == 0)
		return;
	json_name(t, "attributes");
	text_char(t, '{');
	for (size_t i = 0, k; i < c->attribute_count; i++) {
		const struct grapnel_str name = c->attributes[i].name;

		/* Names in an object are unique; the first counts, as it does for places in texts. */
		for (k = 0; k < i; k++)
			if (c->attributes[k].name.len == name.len &&
			    memcmp(c->attributes[k].name.data, name.data, name.len) == 0)
				break;
		if (k < i)
			continue;
		if (i > 0)
			text_char(t, ',');
		json_text(t, name);
		text_char(t, ':');
		json_text(t, c->attributes[i].value);
	}
	text_char(t, '}');
}

static void
put_identity(struct text *t, const struct grapnel_client_info *c)
{
	static const char *const protocols[] = { [3] = "3.1", [4] = "3.1.1", [5] = "5.0" };
	static const char *const sources[] = {
		[1] = "certificate", "psk", "peer", "proxy", "handler"
	};

	member_string(t, "client_id", c->client_id);
	member_string(t, "username", c->username);
	if (c->mountpoint.len > 0)
		member_string(t, "mountpoint", c->mountpoint);
	member_string(t, "peer", c->peer);
	member_string(t, "listener", c->listener);
	if (c->protocol >= GRAPNEL_MQTT_3_1 && c->protocol <= GRAPNEL_MQTT_5_0)
		member_text(t, "protocol", protocols[c->protocol]);
	if (c->session_generation > 0)
		member_uint(t, "generation", c->session_generation);
	if (c->identity_source >= GRAPNEL_IDENTITY_CERTIFICATE &&
	    c->identity_source <= GRAPNEL_IDENTITY_HANDLER)
		member_text(t, "identity_source", sources[c->identity_source]);
	if (c->superuser)
		member_bool(t, "superuser", true);
	if (c->anonymous)
		member_bool(t, "anonymous", true);
}

static void
put_client(struct text *t, const struct record_view *v)
{
	const struct grapnel_client_info *c = v->event.client;

	json_name(t, "client");
	text_char(t, '{');
	put_identity(t, c);
	if (about_connection & GRAPNEL_EVENT_BIT(v->event.type)) {
		member_bool(t, "clean_start", c->clean_start);
		member_uint(t, "keep_alive", c->keep_alive);
		json_name(t, "session_expiry");
		if (c->session_expiry == UINT32_MAX)
			text_literal(t, "null"); /* never */
		else
			text_uint(t, c->session_expiry);
	}
	put_attributes(t, c);
	text_char(t, '}');
}

/* ---- messages -------------------------------------------------------------------------------- */

static void
put_single_property(struct text *t, const struct grapnel_property *p, enum format_payload how)
{
	switch (p->id) {
	case 0x01:
		member_uint(t, "payload_format", p->u.number);
		break;
	case 0x03:
		member_string(t, "content_type", p->u.str);
		break;
	case 0x08:
		member_string(t, "response_topic", p->u.str);
		break;
	case 0x09:
		member_bytes(t, "correlation_data", "correlation_data_base64", p->u.str,
		    how == PAYLOAD_NONE ? PAYLOAD_AUTO : how);
		break;
	}
}

static void
put_user_property(struct text *t, const struct grapnel_pair *pair)
{
	text_char(t, '{');
	member_string(t, "name", pair->name);
	member_string(t, "value", pair->value);
	text_char(t, '}');
}

/* Those that may stand several times, as an array. */
static void
put_repeated_property(struct text *t, struct grapnel_str block, uint32_t id, const char *name)
{
	struct grapnel_property p;
	bool any = false;

	for (size_t pos = 0; publish_property(block, &pos, &p);) {
		if (p.id != id)
			continue;
		if (any) {
			text_char(t, ',');
		} else {
			json_name(t, name);
			text_char(t, '[');
		}
		any = true;
		if (id == 0x26)
			put_user_property(t, &p.u.pair);
		else
			text_uint(t, p.u.number);
	}
	if (any)
		text_char(t, ']');
}

static void
put_properties(struct text *t, struct grapnel_str block, enum format_payload how)
{
	struct grapnel_property p;
	size_t start = t->len;
	uint32_t seen = 0;

	json_name(t, "properties");
	text_char(t, '{');
	for (size_t pos = 0; publish_property(block, &pos, &p);) {
		if (p.id < 0x0b && (seen & 1u << p.id) == 0)
			put_single_property(t, &p, how);
		seen |= p.id < 32 ? 1u << p.id : 0;
	}
	put_repeated_property(t, block, 0x0b, "subscription_identifiers");
	put_repeated_property(t, block, 0x26, "user_properties");
	if (!t->failed && t->data[t->len - 1] == '{')
		t->len =
		    start; /* nothing to tell: the expiry stands elsewhere, an alias is nobody's business */
	else
		text_char(t, '}');
}

static void
put_message(struct text *t, const struct record_view *v, enum format_payload how)
{
	const struct grapnel_message_info *m = v->event.message;

	json_name(t, "message");
	text_char(t, '{');
	member_string(t, "topic", m->topic_name);
	member_uint(t, "qos", m->qos);
	member_bool(t, "retain", m->retain);
	member_bool(t, "dup", m->dup);
	member_bool(t, "will", m->will);
	member_bytes(t, "payload", "payload_base64", payload_of_view(v), how);
	member_uint(t, "payload_size", v->payload_size);
	if (m->has_message_expiry)
		member_uint(t, "expiry", m->message_expiry);
	/* The client of a published message is its author. */
	if (v->event.type != GRAPNEL_EVENT_MESSAGE_PUBLISHED && m->author_client_id.data != NULL) {
		json_name(t, "author");
		text_char(t, '{');
		member_string(t, "client_id", m->author_client_id);
		member_string(t, "username", m->author_username);
		text_char(t, '}');
	}
	if (m->properties.len > 0)
		put_properties(t, m->properties, how);
	text_char(t, '}');
}

void
event_fields(struct text *out, const struct record_view *v, enum format_payload payload)
{
	const struct grapnel_event *ev = &v->event;

	if (ev->client != NULL)
		put_client(out, v);
	if (ev->message != NULL)
		put_message(out, v, payload);
	member_string(out, "filter", ev->filter);
	if (ev->type == GRAPNEL_EVENT_SUBSCRIBED || ev->type == GRAPNEL_EVENT_MESSAGE_DELIVERED)
		member_uint(out, "qos", ev->qos);
	if (ev->type == GRAPNEL_EVENT_CLIENT_CONNECTED)
		member_bool(out, "session_present", ev->session_present);
	if (with_reason_code & GRAPNEL_EVENT_BIT(ev->type))
		member_uint(out, "reason_code", ev->reason_code);
	member_string(out, "reason", ev->reason);
	if (ev->type == GRAPNEL_EVENT_GAP)
		member_uint(out, "lost", ev->lost);
}
