/* SPDX-License-Identifier: Apache-2.0 */
/* SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK. MQTT 5.0 sections 3.8 to 3.11 */
#include "codec.h"
#include "topic.h"

enum { /* Subscription Options, section 3.8.3.1 */
	OPT_QOS = 0x03,
	OPT_NO_LOCAL = 0x04,
	OPT_RETAIN_AS_PUBLISHED = 0x08,
	OPT_RETAIN_HANDLING = 0x30,
	OPT_RESERVED = 0xc0,
	OPT_RESERVED_V4 = 0xfc,
};
#define RETAIN_HANDLING_SHIFT 4

static bool
is_shared(struct grapnel_str filter)
{
	return filter.len >= 7 && memcmp(filter.data, "$share/", 7) == 0;
}

static void
options_check(struct wire *w, uint8_t version, struct grapnel_str filter, uint8_t options)
{
	if ((options & OPT_QOS) == 3)
		wire_fail(w, RC_MALFORMED_PACKET, "Subscription Options with QoS 3");
	/* [v3.1.1 MQTT-3-8.3-4]; 3.1 only calls them unused */
	if (version == 4 && (options & OPT_RESERVED_V4) != 0)
		wire_fail(w, RC_MALFORMED_PACKET, "Requested QoS with reserved bits set");
	if (version < 5)
		return;
	if ((options & OPT_RESERVED) != 0) /* [MQTT-3.8.3-5] */
		wire_fail(w, RC_MALFORMED_PACKET, "Subscription Options with reserved bits set");
	if ((options & OPT_RETAIN_HANDLING) == OPT_RETAIN_HANDLING)
		wire_fail(w, RC_PROTOCOL_ERROR, "Subscription Options with Retain Handling 3");
	if ((options & OPT_NO_LOCAL) != 0 && is_shared(filter)) /* [MQTT-3.8.3-4] */
		wire_fail(w, RC_PROTOCOL_ERROR, "No Local on a Shared Subscription");
}

static uint8_t
decode(struct wire *w, uint8_t version, uint8_t type, struct mqtt_subscribe *s)
{
	*s = (struct mqtt_subscribe){ .packet_id = packet_id_read(w) };
	if (version >= 5) {
		struct grapnel_property prop;
		struct wire block;
		uint64_t seen = 0;

		s->props = props_open(w, &block);
		while (props_read(&block, IN(type), &seen, &prop))
			if (prop.id == PROP_SUBSCRIPTION_IDENTIFIER)
				s->subscription_id = prop.u.number;
		props_close(w, &block);
	}
	s->items = *w;
	while (wire_left(w) > 0) {
		struct grapnel_str filter = wire_get_utf8(w);

		if (type == MQTT_SUBSCRIBE) {
			uint8_t options = wire_get_u8(w);

			if (w->err == 0)
				options_check(w, version, filter, options);
		}
		s->count++;
	}
	if (w->err == 0 && s->count == 0) /* [MQTT-3.8.3-2] [MQTT-3.10.3-2] */
		wire_fail(w, RC_PROTOCOL_ERROR, "no Topic Filter in the packet");
	return w->err;
}

uint8_t
mqtt_subscribe_decode(struct wire *w, uint8_t version, struct mqtt_subscribe *s)
{
	return decode(w, version, MQTT_SUBSCRIBE, s);
}

uint8_t
mqtt_unsubscribe_decode(struct wire *w, uint8_t version, struct mqtt_subscribe *s)
{
	return decode(w, version, MQTT_UNSUBSCRIBE, s);
}

static bool
item_next(struct wire *items, struct mqtt_subscription *out)
{
	*out = (struct mqtt_subscription){ .qos = 0 };
	if (wire_left(items) == 0)
		return false;
	out->filter = wire_get_binary(items); /* UTF-8 was checked by the decoder */
	/* Wrong syntax leaves share and rest absent, to be answered in its place of the SUBACK. */
	(void)topic_filter_valid(out->filter, &out->share, &out->rest);
	return items->err == 0;
}

bool
mqtt_subscribe_next(struct wire *items, uint8_t version, struct mqtt_subscription *out)
{
	uint8_t options;

	if (!item_next(items, out))
		return false;
	options = wire_get_u8(items);
	out->qos = options & OPT_QOS;
	if (version >= 5) {
		out->no_local = (options & OPT_NO_LOCAL) != 0;
		out->retain_as_published = (options & OPT_RETAIN_AS_PUBLISHED) != 0;
		out->retain_handling =
		    (uint8_t)((options & OPT_RETAIN_HANDLING) >> RETAIN_HANDLING_SHIFT);
	}
	return items->err == 0;
}

bool
mqtt_unsubscribe_next(struct wire *items, uint8_t version, struct mqtt_subscription *out)
{
	(void)version; /* the same in all three; kept for symmetry with SUBSCRIBE */
	return item_next(items, out);
}

static size_t
subscribe_remaining(uint8_t version, uint8_t type, uint32_t subscription_id,
    const struct mqtt_subscription *items, unsigned count)
{
	size_t size = 2;

	if (version >= 5)
		size += 1 + (subscription_id != 0 ? 1 + wire_varint_size(subscription_id) : 0);
	for (unsigned i = 0; i < count; i++)
		size += 2 + items[i].filter.len + (type == MQTT_SUBSCRIBE ? 1 : 0);
	return size;
}

size_t
mqtt_subscribe_size(uint8_t version, uint8_t type, uint32_t subscription_id,
    const struct mqtt_subscription *items, unsigned count)
{
	return packet_size(subscribe_remaining(version, type, subscription_id, items, count));
}

uint8_t *
mqtt_subscribe_encode(uint8_t *p, uint8_t version, uint8_t type, uint16_t packet_id,
    uint32_t subscription_id, const struct mqtt_subscription *items, unsigned count)
{
	p = packet_start(
	    p, type, 2, subscribe_remaining(version, type, subscription_id, items, count));
	p = wire_put_u16(p, packet_id);
	if (version >= 5) {
		*p++ = (uint8_t)(subscription_id != 0 ? 1 + wire_varint_size(subscription_id) : 0);
		if (subscription_id != 0) {
			*p++ = PROP_SUBSCRIPTION_IDENTIFIER;
			p = wire_put_varint(p, subscription_id);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		const struct mqtt_subscription *s = &items[i];

		p = wire_put_str(p, s->filter);
		if (type != MQTT_SUBSCRIBE)
			continue;
		*p = s->qos;
		if (version >= 5)
			*p |= (uint8_t)((s->no_local ? OPT_NO_LOCAL : 0) |
			    (s->retain_as_published ? OPT_RETAIN_AS_PUBLISHED : 0) |
			    s->retain_handling << RETAIN_HANDLING_SHIFT);
		p++;
	}
	return p;
}

/* ---- SUBACK, UNSUBACK ----------------------------------------------------------------- */
bool
suback_code_valid(uint8_t version, uint8_t type, uint8_t code)
{
	static const uint8_t suback[] = { RC_SUCCESS, RC_GRANTED_QOS_1, RC_GRANTED_QOS_2,
		RC_UNSPECIFIED, RC_IMPLEMENTATION_SPECIFIC, RC_NOT_AUTHORIZED,
		RC_TOPIC_FILTER_INVALID, RC_PACKET_IDENTIFIER_IN_USE, RC_QUOTA_EXCEEDED,
		RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED, RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED,
		RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED };
	static const uint8_t unsuback[] = { RC_SUCCESS, RC_NO_SUBSCRIPTION_EXISTED, RC_UNSPECIFIED,
		RC_IMPLEMENTATION_SPECIFIC, RC_NOT_AUTHORIZED, RC_TOPIC_FILTER_INVALID,
		RC_PACKET_IDENTIFIER_IN_USE };

	if (version < 5)
		return code_in(suback, 4, code); /* [v3.1.1 MQTT-3.9.3-2] */
	if (type == MQTT_UNSUBACK)
		return code_in(unsuback, sizeof(unsuback), code);
	return code_in(suback, sizeof(suback), code);
}

uint8_t
mqtt_suback_decode(struct wire *w, uint8_t version, uint8_t type, struct mqtt_suback *s)
{
	struct grapnel_str codes;

	*s = (struct mqtt_suback){ .packet_id = packet_id_read(w) };
	if (version < 5 && type == MQTT_UNSUBACK) {
		packet_end(w);
		return w->err;
	}
	if (version >= 5)
		s->props = props_read_reason(w, IN(type), &s->reason_string);
	codes = wire_get_rest(w);
	if (w->err != 0)
		return w->err;
	if (codes.len == 0)
		wire_fail(
		    w, RC_PROTOCOL_ERROR, "acknowledgement of a subscription without Reason Codes");
	s->codes = (const uint8_t *)codes.data;
	s->count = (unsigned)codes.len;
	for (unsigned i = 0; i < s->count; i++)
		if (!suback_code_valid(version, type, s->codes[i]))
			wire_fail(w, RC_PROTOCOL_ERROR,
			    "acknowledgement with a Reason Code it does not have");
	return w->err;
}

static size_t
suback_props_size(const struct mqtt_suback *s)
{
	return s->reason_string.data != NULL ? 3 + s->reason_string.len : 0;
}

static size_t
suback_remaining(uint8_t version, uint8_t type, const struct mqtt_suback *s)
{
	size_t props;

	if (version < 5)
		return type == MQTT_UNSUBACK ? 2 : 2 + s->count;
	props = suback_props_size(s);
	return 2 + wire_varint_size((uint32_t)props) + props + s->count;
}

size_t
mqtt_suback_size(uint8_t version, uint8_t type, const struct mqtt_suback *s)
{
	return packet_size(suback_remaining(version, type, s));
}

uint8_t *
mqtt_suback_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_suback *s)
{
	p = packet_start(p, type, 0, suback_remaining(version, type, s));
	p = wire_put_u16(p, s->packet_id);
	if (version < 5) {
		for (unsigned i = 0; type == MQTT_SUBACK && i < s->count; i++)
			*p++ = s->codes[i] >= 0x80 ? 0x80 : s->codes[i];
		return p;
	}
	p = wire_put_varint(p, (uint32_t)suback_props_size(s));
	if (s->reason_string.data != NULL) {
		*p++ = PROP_REASON_STRING;
		p = wire_put_str(p, s->reason_string);
	}
	return wire_put_bytes(p, (struct grapnel_str){ (const char *)s->codes, s->count });
}
