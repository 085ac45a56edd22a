/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

/* ---- the properties of an Application Message ------------------------------------ */
static bool
prop_is_forwarded(uint32_t id)
{
	switch (id) {
	case PROP_TOPIC_ALIAS:             /* of one Network Connection */
	case PROP_SUBSCRIPTION_IDENTIFIER: /* of one Session */
	case PROP_WILL_DELAY:              /* has done its work when the Will is published */
	case PROP_MESSAGE_EXPIRY: /* is written anew with the seconds left [MQTT-3.3.2-6] */
		return false;
	default:
		return true;
	}
}

void
message_props_read(struct wire *w, unsigned where, bool from_server, struct mqtt_message_props *mp)
{
	struct grapnel_property prop;
	struct wire block;
	uint64_t seen = 0;

	mp->block = props_open(w, &block);
	while (props_read(&block, where, &seen, &prop)) {
		if (!prop_is_forwarded(prop.id))
			mp->plain = false;
		switch (prop.id) {
		case PROP_PAYLOAD_FORMAT:
			mp->payload_is_utf8 = prop.u.number != 0;
			break;
		case PROP_MESSAGE_EXPIRY:
			mp->has_message_expiry = true;
			mp->message_expiry = prop.u.number;
			break;
		case PROP_RESPONSE_TOPIC: /* [MQTT-3.3.2-14] [MQTT-4.7.3-1] */
			mp->response_topic = prop.u.str;
			if (prop.u.str.len == 0)
				wire_fail(&block, RC_PROTOCOL_ERROR, "Response Topic is empty");
			else if (utf8_check_topic_name(prop.u.str.data, prop.u.str.len) !=
			    UTF8_TOPIC_OK)
				wire_fail(&block, RC_PROTOCOL_ERROR,
				    "Response Topic contains a wildcard character");
			break;
		case PROP_SUBSCRIPTION_IDENTIFIER: /* [MQTT-3.3.4-6] */
			if (!from_server)
				wire_fail(&block, RC_PROTOCOL_ERROR,
				    "PUBLISH from a Client has a Subscription Identifier");
			break;
		case PROP_TOPIC_ALIAS:
			mp->topic_alias = (uint16_t)prop.u.number;
			break;
		case PROP_WILL_DELAY:
			mp->will_delay = prop.u.number;
			break;
		}
	}
	props_close(w, &block);
}

size_t
mqtt_forward_size(const struct mqtt_message_props *mp)
{
	struct grapnel_property prop;
	size_t size = 0, start = 0, pos = 0;

	if (mp->plain)
		return mp->block.len;
	while (mqtt_property_next(mp->block, &pos, &prop) > 0) {
		if (prop_is_forwarded(prop.id))
			size += pos - start;
		start = pos;
	}
	return size;
}

uint8_t *
mqtt_forward_put(uint8_t *p, const struct mqtt_message_props *mp)
{
	struct grapnel_property prop;
	size_t start = 0, pos = 0;

	if (mp->plain)
		return wire_put_bytes(p, mp->block);
	while (mqtt_property_next(mp->block, &pos, &prop) > 0) {
		if (prop_is_forwarded(prop.id))
			p = wire_put_bytes(
			    p, (struct grapnel_str){ mp->block.data + start, pos - start });
		start = pos;
	}
	return p;
}

/* ---- decoding --------------------------------------------------------------------- */
static inline uint8_t
publish_decode(
    struct wire *w, uint8_t version, uint8_t flags, bool from_server, struct mqtt_publish *p)
{
	p->qos = flags >> 1 & 3;
	p->retain = flags & 1;
	p->dup = (flags & 8) != 0;
	p->topic_name = wire_get_binary(w);
	p->packet_id = p->qos > 0 ? packet_id_read(w) : 0;
	p->props = (struct mqtt_message_props){ .plain = true };
	if (version >= 5) {
		if (wire_left(w) > 0 && *w->p == 0) {
			w->p++;
			p->props.block.data = (const char *)w->p;
		} else {
			message_props_read(w, IN(MQTT_PUBLISH), from_server, &p->props);
		}
	}
	p->payload = wire_get_rest(w);
	if (w->err != 0)
		return w->err;

	if (p->qos == 3) /* [MQTT-3.3.1-4] */
		wire_fail(w, RC_MALFORMED_PACKET, "PUBLISH with QoS 3");
	else if (p->dup && p->qos == 0 && version >= 4) /* [MQTT-3.3.1-2]; 3.1 ignores DUP here */
		wire_fail(w, RC_MALFORMED_PACKET, "PUBLISH with QoS 0 and DUP");
	else if (p->topic_name.len == 0 && p->props.topic_alias == 0)
		wire_fail(w, RC_PROTOCOL_ERROR, "PUBLISH without Topic Name and Topic Alias");
	else
		switch (utf8_check_topic_name(p->topic_name.data, p->topic_name.len)) {
		case UTF8_TOPIC_OK:
			break;
		case UTF8_TOPIC_ILL_FORMED: /* [MQTT-3.3.2-1] */
			wire_fail(w, RC_MALFORMED_PACKET,
			    "Topic Name is not well-formed UTF-8 or contains U+0000");
			break;
		case UTF8_TOPIC_WILDCARD: /* [MQTT-3.3.2-2] */
			wire_fail(
			    w, RC_MALFORMED_PACKET, "Topic Name contains a wildcard character");
			break;
		}
	return w->err;
}

uint8_t
mqtt_publish_decode(struct wire *w, uint8_t version, uint8_t flags, struct mqtt_publish *p)
{
	return publish_decode(w, version, flags, false, p);
}

uint8_t
mqtt_publish_decode_from_server(
    struct wire *w, uint8_t version, uint8_t flags, struct mqtt_publish *p)
{
	return publish_decode(w, version, flags, true, p);
}

/* ---- encoding ---------------------------------------------------------------------- */
static inline size_t
publish_props_size(const struct mqtt_publish_out *o)
{
	size_t size = o->forward_props.len;

	if (o->has_message_expiry)
		size += 5;
	if (o->topic_alias != 0)
		size += 3;
	for (unsigned i = 0; i < o->subscription_id_count; i++)
		size += 1 + wire_varint_size(o->subscription_ids[i]);
	return size;
}

/* Bytes between fixed header and payload; SIZE_MAX: too much for a packet. */
static inline size_t
publish_variable_size(uint8_t version, const struct mqtt_publish_out *o, size_t props)
{
	size_t size = 2 + o->topic_name.len + (o->qos > 0 ? 2 : 0);

	if (version >= 5) {
		if (props > WIRE_VARINT_MAX)
			return SIZE_MAX;
		size += wire_varint_size((uint32_t)props) + props;
	}
	return size;
}

size_t
mqtt_publish_head_size(uint8_t version, const struct mqtt_publish_out *o)
{
	size_t variable =
	    publish_variable_size(version, o, version >= 5 ? publish_props_size(o) : 0);

	if (variable > WIRE_VARINT_MAX || o->payload_len > WIRE_VARINT_MAX - variable)
		return 0;
	return 1 + wire_varint_size((uint32_t)variable + o->payload_len) + variable;
}

uint8_t *
mqtt_publish_head_encode(uint8_t *p, uint8_t version, const struct mqtt_publish_out *o)
{
	size_t props = version >= 5 ? publish_props_size(o) : 0;
	size_t variable = publish_variable_size(version, o, props);
	uint8_t flags = (uint8_t)((o->dup ? 8 : 0) | o->qos << 1 | (o->retain ? 1 : 0));

	p = packet_start(p, MQTT_PUBLISH, flags, variable + o->payload_len);
	p = wire_put_str(p, o->topic_name);
	if (o->qos > 0)
		p = wire_put_u16(p, o->packet_id);
	if (version < 5)
		return p;
	p = wire_put_varint(p, (uint32_t)props);
	if (props == 0)
		return p;
	if (o->has_message_expiry) {
		*p++ = PROP_MESSAGE_EXPIRY;
		p = wire_put_u32(p, o->message_expiry);
	}
	if (o->topic_alias != 0) {
		*p++ = PROP_TOPIC_ALIAS;
		p = wire_put_u16(p, o->topic_alias);
	}
	for (unsigned i = 0; i < o->subscription_id_count; i++) {
		*p++ = PROP_SUBSCRIPTION_IDENTIFIER;
		p = wire_put_varint(p, o->subscription_ids[i]);
	}
	return wire_put_bytes(p, o->forward_props);
}
