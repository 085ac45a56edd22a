/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT of 3.1, 3.1.1 and 5.0. MQTT 5.0 section 3.1 */
#include "codec.h"

enum { /* Connect Flags, section 3.1.2.3 */
	CF_RESERVED = 0x01,
	CF_CLEAN_START = 0x02,
	CF_WILL = 0x04,
	CF_WILL_QOS = 0x18,
	CF_WILL_RETAIN = 0x20,
	CF_PASSWORD = 0x40,
	CF_USERNAME = 0x80,
};
#define WILL_QOS_SHIFT 3
#define BRIDGE_BIT     0x80

/* Protocol Name and Protocol Version; c->version stays 0 unless both fit. */
static void
read_protocol(struct wire *w, struct mqtt_connect *c)
{
	struct grapnel_str name = wire_get_binary(w);
	uint8_t byte = wire_get_u8(w), level = byte & (uint8_t)~BRIDGE_BIT;

	if (w->err != 0)
		return;
	if (name.len == 4 && memcmp(name.data, "MQTT", 4) == 0) {
		if (level == 4 || byte == 5)
			c->version = level;
	} else if (name.len == 6 && memcmp(name.data, "MQIsdp", 6) == 0) {
		if (level == 3)
			c->version = level;
	} else { /* [MQTT-3.1.2-1] */
		wire_fail(w, RC_UNSUPPORTED_PROTOCOL_VERSION, "Protocol Name is not MQTT");
		return;
	}
	if (c->version == 0) /* [MQTT-3.1.2-2] */
		wire_fail(w, RC_UNSUPPORTED_PROTOCOL_VERSION,
		    "Protocol Version is not 3.1, 3.1.1 or 5.0");
	c->bridge = (byte & BRIDGE_BIT) != 0 && c->version != 0;
}

static void
read_flags(struct wire *w, struct mqtt_connect *c)
{
	uint8_t flags = wire_get_u8(w), will_qos;

	if (w->err != 0)
		return;
	will_qos = (uint8_t)((flags & CF_WILL_QOS) >> WILL_QOS_SHIFT);
	c->clean_start = (flags & CF_CLEAN_START) != 0;
	c->has_will = (flags & CF_WILL) != 0;
	c->has_username = (flags & CF_USERNAME) != 0;
	c->has_password = (flags & CF_PASSWORD) != 0;
	if (c->has_will) {
		c->will.qos = will_qos;
		c->will.retain = (flags & CF_WILL_RETAIN) != 0;
	}
	if (c->has_will && will_qos == 3) /* [MQTT-3.1.2-12] */
		wire_fail(w, RC_MALFORMED_PACKET, "Will QoS is 3");
	if (c->has_password && !c->has_username && c->version < 5) /* [v3.1.1 MQTT-3.1.2-22] */
		wire_fail(w, RC_MALFORMED_PACKET, "Password without User Name");
	if (c->version == 3)
		return; /* MQTT 3.1 calls the rest unused and asks no Server to look */
	if ((flags & CF_RESERVED) != 0) /* [MQTT-3.1.2-3] */
		wire_fail(w, RC_MALFORMED_PACKET, "reserved Connect Flag is set");
	/* [MQTT-3.1.2-11] [MQTT-3.1.2-13] */
	if (!c->has_will && (flags & (CF_WILL_QOS | CF_WILL_RETAIN)) != 0)
		wire_fail(w, RC_MALFORMED_PACKET, "Will QoS or Will Retain without Will Flag");
}

static void
read_props(struct wire *w, struct mqtt_connect *c)
{
	struct grapnel_property prop;
	struct wire block;
	uint64_t seen = 0;

	c->props = props_open(w, &block);
	while (props_read(&block, IN(MQTT_CONNECT), &seen, &prop))
		switch (prop.id) {
		case PROP_SESSION_EXPIRY:
			c->session_expiry = prop.u.number;
			break;
		case PROP_RECEIVE_MAXIMUM:
			c->receive_maximum = (uint16_t)prop.u.number;
			break;
		case PROP_MAXIMUM_PACKET_SIZE:
			c->maximum_packet_size = prop.u.number;
			break;
		case PROP_TOPIC_ALIAS_MAXIMUM:
			c->topic_alias_maximum = (uint16_t)prop.u.number;
			break;
		case PROP_REQUEST_PROBLEM_INFO:
			c->request_problem_info = prop.u.number != 0;
			break;
		case PROP_REQUEST_RESPONSE_INFO:
			c->request_response_info = prop.u.number != 0;
			break;
		case PROP_AUTH_METHOD:
			c->auth_method = prop.u.str;
			break;
		case PROP_AUTH_DATA:
			c->auth_data = prop.u.str;
			break;
		}
	props_close(w, &block);
	if (w->err == 0 && c->auth_data.data != NULL && c->auth_method.data == NULL)
		wire_fail(
		    w, RC_PROTOCOL_ERROR, "Authentication Data without Authentication Method");
}

static void
read_will(struct wire *w, struct mqtt_connect *c)
{
	struct mqtt_will *will = &c->will;

	will->props.plain = true;
	if (c->version >= 5)
		message_props_read(w, IN_WILL, false, &will->props);
	will->topic_name = wire_get_binary(w);
	will->payload = wire_get_binary(w);
	if (w->err != 0)
		return;
	if (will->topic_name.len == 0) { /* [MQTT-4.7.3-1] */
		wire_fail(w, RC_MALFORMED_PACKET, "Will Topic is empty");
		return;
	}
	switch (utf8_check_topic_name(will->topic_name.data, will->topic_name.len)) {
	case UTF8_TOPIC_OK:
		break;
	case UTF8_TOPIC_ILL_FORMED: /* [MQTT-3.1.3-11] */
		wire_fail(w, RC_MALFORMED_PACKET,
		    "Will Topic is not well-formed UTF-8 or contains U+0000");
		break;
	case UTF8_TOPIC_WILDCARD:
		wire_fail(w, RC_MALFORMED_PACKET, "Will Topic contains a wildcard character");
		break;
	}
}

uint8_t
mqtt_connect_decode(struct wire *w, struct mqtt_connect *c)
{
	*c = (struct mqtt_connect){ .request_problem_info = true, .receive_maximum = UINT16_MAX };
	read_protocol(w, c);
	read_flags(w, c);
	c->keep_alive = wire_get_u16(w);
	if (w->err != 0)
		return w->err;
	if (c->version >= 5)
		read_props(w, c);
	else
		c->session_expiry = c->clean_start ? 0 : UINT32_MAX;
	c->client_id = wire_get_utf8(w);
	if (c->has_will)
		read_will(w, c);
	/*
	 * MQTT 3.1 section 3.1: the Remaining Length takes precedence over the User Name and
	 * Password flags; a Server must accept that the strings are missing.
	 */
	if (c->version == 3 && wire_left(w) == 0)
		c->has_username = false;
	if (c->has_username)
		c->username = wire_get_utf8(w);
	if (c->version == 3 && wire_left(w) == 0)
		c->has_password = false;
	if (c->has_password)
		c->password = wire_get_binary(w);
	packet_end(w);
	return w->err;
}

/* ---- encoding ------------------------------------------------------------------------- */
static size_t
block_size(struct grapnel_str block)
{
	return wire_varint_size((uint32_t)block.len) + block.len;
}

static uint8_t *
put_block(uint8_t *p, struct grapnel_str block)
{
	return wire_put_bytes(wire_put_varint(p, (uint32_t)block.len), block);
}

static size_t
connect_remaining(const struct mqtt_connect *c)
{
	size_t size = (c->version == 3 ? 8 : 6) + 4 + 2 + c->client_id.len;

	if (c->version >= 5)
		size += block_size(c->props);
	if (c->has_will) {
		if (c->version >= 5)
			size += block_size(c->will.props.block);
		size += 2 + c->will.topic_name.len + 2 + c->will.payload.len;
	}
	if (c->has_username)
		size += 2 + c->username.len;
	if (c->has_password)
		size += 2 + c->password.len;
	return size;
}

size_t
mqtt_connect_size(const struct mqtt_connect *c)
{
	return packet_size(connect_remaining(c));
}

uint8_t *
mqtt_connect_encode(uint8_t *p, const struct mqtt_connect *c)
{
	uint8_t flags = 0;

	if (c->clean_start)
		flags |= CF_CLEAN_START;
	if (c->has_will)
		flags |= (uint8_t)(CF_WILL | c->will.qos << WILL_QOS_SHIFT |
		    (c->will.retain ? CF_WILL_RETAIN : 0));
	if (c->has_password)
		flags |= CF_PASSWORD;
	if (c->has_username)
		flags |= CF_USERNAME;

	p = packet_start(p, MQTT_CONNECT, 0, connect_remaining(c));
	p = wire_put_str(p, c->version == 3 ? GRAPNEL_STR("MQIsdp") : GRAPNEL_STR("MQTT"));
	*p++ = (uint8_t)(c->version | (c->bridge ? BRIDGE_BIT : 0));
	*p++ = flags;
	p = wire_put_u16(p, c->keep_alive);
	if (c->version >= 5)
		p = put_block(p, c->props);
	p = wire_put_str(p, c->client_id);
	if (c->has_will) {
		if (c->version >= 5)
			p = put_block(p, c->will.props.block);
		p = wire_put_str(p, c->will.topic_name);
		p = wire_put_str(p, c->will.payload);
	}
	if (c->has_username)
		p = wire_put_str(p, c->username);
	if (c->has_password)
		p = wire_put_str(p, c->password);
	return p;
}
