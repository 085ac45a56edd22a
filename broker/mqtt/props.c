/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MQTT 5.0 section 2.2.2 as a table: what type a property has, where it may stand,
 * which values it may have. Everything else here follows from the row.
 */
#include "codec.h"

enum prop_type { PT_NONE, PT_BYTE, PT_U16, PT_U32, PT_VARINT, PT_UTF8, PT_BINARY, PT_PAIR };
enum prop_range { PR_ANY, PR_BOOL, PR_NOT_ZERO, PR_ALIAS };

#define IN_ACKS                                                                   \
	(IN(MQTT_PUBACK) | IN(MQTT_PUBREC) | IN(MQTT_PUBREL) | IN(MQTT_PUBCOMP) | \
	    IN(MQTT_SUBACK) | IN(MQTT_UNSUBACK))
#define IN_ALL                                                                        \
	(IN_ACKS | IN_WILL | IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_PUBLISH) | \
	    IN(MQTT_SUBSCRIBE) | IN(MQTT_UNSUBSCRIBE) | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH))
#define PROP_LAST PROP_SHARED_AVAILABLE

static const struct prop_def {
	uint8_t type, range;
	uint16_t where;
} prop_defs[PROP_LAST + 1] = {
	[PROP_PAYLOAD_FORMAT] = { PT_BYTE, PR_BOOL, IN(MQTT_PUBLISH) | IN_WILL },
	[PROP_MESSAGE_EXPIRY] = { PT_U32, PR_ANY, IN(MQTT_PUBLISH) | IN_WILL },
	[PROP_CONTENT_TYPE] = { PT_UTF8, PR_ANY, IN(MQTT_PUBLISH) | IN_WILL },
	[PROP_RESPONSE_TOPIC] = { PT_UTF8, PR_ANY, IN(MQTT_PUBLISH) | IN_WILL },
	[PROP_CORRELATION_DATA] = { PT_BINARY, PR_ANY, IN(MQTT_PUBLISH) | IN_WILL },
	[PROP_SUBSCRIPTION_IDENTIFIER] = { PT_VARINT, PR_NOT_ZERO,
	    IN(MQTT_PUBLISH) | IN(MQTT_SUBSCRIBE) },
	[PROP_SESSION_EXPIRY] = { PT_U32, PR_ANY,
	    IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT) },
	[PROP_ASSIGNED_CLIENT_ID] = { PT_UTF8, PR_ANY, IN(MQTT_CONNACK) },
	[PROP_SERVER_KEEP_ALIVE] = { PT_U16, PR_ANY, IN(MQTT_CONNACK) },
	[PROP_AUTH_METHOD] = { PT_UTF8, PR_ANY,
	    IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_AUTH) },
	[PROP_AUTH_DATA] = { PT_BINARY, PR_ANY,
	    IN(MQTT_CONNECT) | IN(MQTT_CONNACK) | IN(MQTT_AUTH) },
	[PROP_REQUEST_PROBLEM_INFO] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNECT) },
	[PROP_WILL_DELAY] = { PT_U32, PR_ANY, IN_WILL },
	[PROP_REQUEST_RESPONSE_INFO] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNECT) },
	[PROP_RESPONSE_INFO] = { PT_UTF8, PR_ANY, IN(MQTT_CONNACK) },
	[PROP_SERVER_REFERENCE] = { PT_UTF8, PR_ANY, IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT) },
	[PROP_REASON_STRING] = { PT_UTF8, PR_ANY,
	    IN_ACKS | IN(MQTT_CONNACK) | IN(MQTT_DISCONNECT) | IN(MQTT_AUTH) },
	[PROP_RECEIVE_MAXIMUM] = { PT_U16, PR_NOT_ZERO, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) },
	[PROP_TOPIC_ALIAS_MAXIMUM] = { PT_U16, PR_ANY, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) },
	[PROP_TOPIC_ALIAS] = { PT_U16, PR_ALIAS, IN(MQTT_PUBLISH) },
	[PROP_MAXIMUM_QOS] = { PT_BYTE, PR_BOOL,
	    IN(MQTT_CONNACK) }, /* 2 is said by leaving it out */
	[PROP_RETAIN_AVAILABLE] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNACK) },
	[PROP_USER_PROPERTY] = { PT_PAIR, PR_ANY, IN_ALL },
	[PROP_MAXIMUM_PACKET_SIZE] = { PT_U32, PR_NOT_ZERO, IN(MQTT_CONNECT) | IN(MQTT_CONNACK) },
	[PROP_WILDCARD_AVAILABLE] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNACK) },
	[PROP_SUBSCRIPTION_ID_AVAILABLE] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNACK) },
	[PROP_SHARED_AVAILABLE] = { PT_BYTE, PR_BOOL, IN(MQTT_CONNACK) },
};

static const struct prop_def *
prop_def(uint32_t id)
{
	return id <= PROP_LAST && prop_defs[id].type != PT_NONE ? &prop_defs[id] : NULL;
}

/* The value behind an identifier; strings are not looked at. */
static void
prop_get_value(struct wire *w, enum prop_type type, struct grapnel_property *out)
{
	switch (type) {
	case PT_BYTE:
		out->u.number = wire_get_u8(w);
		break;
	case PT_U16:
		out->u.number = wire_get_u16(w);
		break;
	case PT_U32:
		out->u.number = wire_get_u32(w);
		break;
	case PT_VARINT:
		out->u.number = wire_get_varint(w);
		break;
	case PT_UTF8:
	case PT_BINARY:
		out->u.str = wire_get_binary(w);
		break;
	case PT_PAIR:
		out->u.pair.name = wire_get_binary(w);
		out->u.pair.value = wire_get_binary(w);
		break;
	case PT_NONE:
		break;
	}
}

struct grapnel_str
props_open(struct wire *w, struct wire *block)
{
	struct grapnel_str bytes = wire_get_block(w, wire_get_varint(w));

	wire_init(block, bytes.data, bytes.len);
	return bytes;
}

static void
prop_check(struct wire *b, const struct prop_def *def, const struct grapnel_property *prop)
{
	bool text = true;

	if (def->type == PT_UTF8)
		text = utf8_valid(prop->u.str.data, prop->u.str.len);
	else if (def->type == PT_PAIR)
		text = utf8_valid(prop->u.pair.name.data, prop->u.pair.name.len) &&
		    utf8_valid(prop->u.pair.value.data, prop->u.pair.value.len);
	if (!text) {
		wire_fail(
		    b, RC_MALFORMED_PACKET, "property is not well-formed UTF-8 or contains U+0000");
		return;
	}
	switch ((enum prop_range)def->range) {
	case PR_ANY:
		break;
	case PR_BOOL:
		if (prop->u.number > 1)
			wire_fail(b, RC_PROTOCOL_ERROR, "property has a value other than 0 and 1");
		break;
	case PR_NOT_ZERO:
		if (prop->u.number == 0)
			wire_fail(b, RC_PROTOCOL_ERROR,
			    "property has the value 0, which it must not have");
		break;
	case PR_ALIAS:
		if (prop->u.number == 0) /* [MQTT-3.3.2-8] */
			wire_fail(b, RC_TOPIC_ALIAS_INVALID, "Topic Alias is 0");
		break;
	}
}

bool
props_read(struct wire *b, unsigned where, uint64_t *seen, struct grapnel_property *out)
{
	const struct prop_def *def;
	bool repeatable;

	if (wire_left(b) == 0)
		return false;
	out->id = wire_get_varint(b);
	out->reserved = 0;
	if (b->err != 0)
		return false;
	if ((def = prop_def(out->id)) == NULL) {
		wire_fail(b, RC_MALFORMED_PACKET, "unknown property");
		return false;
	}
	if ((def->where & where) == 0) {
		wire_fail(b, RC_MALFORMED_PACKET, "property does not belong in this packet");
		return false;
	}
	repeatable = out->id == PROP_USER_PROPERTY ||
	    (out->id == PROP_SUBSCRIPTION_IDENTIFIER && where == IN(MQTT_PUBLISH));
	if (!repeatable && (*seen >> out->id & 1)) {
		wire_fail(b, RC_PROTOCOL_ERROR, "property is included more than once");
		return false;
	}
	*seen |= UINT64_C(1) << out->id;
	prop_get_value(b, (enum prop_type)def->type, out);
	if (b->err == 0)
		prop_check(b, def, out);
	return b->err == 0;
}

struct grapnel_str
props_read_reason(struct wire *w, unsigned where, struct grapnel_str *reason_string)
{
	struct wire block;
	struct grapnel_str bytes = props_open(w, &block);
	struct grapnel_property prop;
	uint64_t seen = 0;

	while (props_read(&block, where, &seen, &prop))
		if (prop.id == PROP_REASON_STRING)
			*reason_string = prop.u.str;
	props_close(w, &block);
	return bytes;
}

int
mqtt_property_next(struct grapnel_str block, size_t *pos, struct grapnel_property *out)
{
	const struct prop_def *def;
	struct wire w;

	if (*pos >= block.len)
		return *pos == block.len ? 0 : -1;
	wire_init(&w, block.data + *pos, block.len - *pos);
	out->id = wire_get_varint(&w);
	out->reserved = 0;
	if (w.err != 0 || (def = prop_def(out->id)) == NULL)
		return -1;
	prop_get_value(&w, (enum prop_type)def->type, out);
	if (w.err != 0)
		return -1;
	*pos = block.len - wire_left(&w);
	return 1;
}

/* ---- encoding ----------------------------------------------------------------- */
size_t
mqtt_properties_size(const struct grapnel_property *props, size_t count)
{
	size_t size = 0;

	for (size_t i = 0; i < count; i++) {
		const struct prop_def *def = prop_def(props[i].id);

		if (def == NULL)
			continue;
		size += 1;
		switch ((enum prop_type)def->type) {
		case PT_BYTE:
			size += 1;
			break;
		case PT_U16:
			size += 2;
			break;
		case PT_U32:
			size += 4;
			break;
		case PT_VARINT:
			size += wire_varint_size(props[i].u.number);
			break;
		case PT_UTF8:
		case PT_BINARY:
			size += 2 + props[i].u.str.len;
			break;
		case PT_PAIR:
			size += 4 + props[i].u.pair.name.len + props[i].u.pair.value.len;
			break;
		case PT_NONE:
			break;
		}
	}
	return size;
}

uint8_t *
mqtt_properties_put(uint8_t *p, const struct grapnel_property *props, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct prop_def *def = prop_def(props[i].id);

		if (def == NULL)
			continue;
		*p++ = (uint8_t)props[i].id;
		switch ((enum prop_type)def->type) {
		case PT_BYTE:
			*p++ = (uint8_t)props[i].u.number;
			break;
		case PT_U16:
			p = wire_put_u16(p, (uint16_t)props[i].u.number);
			break;
		case PT_U32:
			p = wire_put_u32(p, props[i].u.number);
			break;
		case PT_VARINT:
			p = wire_put_varint(p, props[i].u.number);
			break;
		case PT_UTF8:
		case PT_BINARY:
			p = wire_put_str(p, props[i].u.str);
			break;
		case PT_PAIR:
			p = wire_put_str(p, props[i].u.pair.name);
			p = wire_put_str(p, props[i].u.pair.value);
			break;
		case PT_NONE:
			break;
		}
	}
	return p;
}
