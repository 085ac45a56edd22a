/* SPDX-License-Identifier: Apache-2.0 */
/* CONNACK. MQTT 5.0 section 3.2; MQTT 3.1.1 section 3.2 */
#include "codec.h"

enum { /* Connect Return codes of 3.x */
	V3_ACCEPTED,
	V3_PROTOCOL_VERSION,
	V3_IDENTIFIER_REJECTED,
	V3_SERVER_UNAVAILABLE,
	V3_BAD_USER_NAME_OR_PASSWORD,
	V3_NOT_AUTHORIZED,
};

uint8_t
mqtt_connack_code_v3(uint8_t reason_code)
{
	switch (reason_code) {
	case RC_SUCCESS:
		return V3_ACCEPTED;
	case RC_UNSUPPORTED_PROTOCOL_VERSION:
		return V3_PROTOCOL_VERSION;
	case RC_CLIENT_ID_NOT_VALID:
		return V3_IDENTIFIER_REJECTED;
	case RC_BAD_USER_NAME_OR_PASSWORD:
	case RC_BAD_AUTHENTICATION_METHOD:
		return V3_BAD_USER_NAME_OR_PASSWORD;
	/* What another attempt will not change must not read "unavailable", which invites one. */
	case RC_NOT_AUTHORIZED:
	case RC_BANNED:
	case RC_TOPIC_NAME_INVALID:
	case RC_PAYLOAD_FORMAT_INVALID:
	case RC_RETAIN_NOT_SUPPORTED:
	case RC_QOS_NOT_SUPPORTED:
		return V3_NOT_AUTHORIZED;
	default:
		return V3_SERVER_UNAVAILABLE;
	}
}

static const uint8_t code_from_v3[] = {
	[V3_ACCEPTED] = RC_SUCCESS,
	[V3_PROTOCOL_VERSION] = RC_UNSUPPORTED_PROTOCOL_VERSION,
	[V3_IDENTIFIER_REJECTED] = RC_CLIENT_ID_NOT_VALID,
	[V3_SERVER_UNAVAILABLE] = RC_SERVER_UNAVAILABLE,
	[V3_BAD_USER_NAME_OR_PASSWORD] = RC_BAD_USER_NAME_OR_PASSWORD,
	[V3_NOT_AUTHORIZED] = RC_NOT_AUTHORIZED,
};

static const uint8_t connack_codes[] = { RC_SUCCESS, RC_UNSPECIFIED, RC_MALFORMED_PACKET,
	RC_PROTOCOL_ERROR, RC_IMPLEMENTATION_SPECIFIC, RC_UNSUPPORTED_PROTOCOL_VERSION,
	RC_CLIENT_ID_NOT_VALID, RC_BAD_USER_NAME_OR_PASSWORD, RC_NOT_AUTHORIZED,
	RC_SERVER_UNAVAILABLE, RC_SERVER_BUSY, RC_BANNED, RC_BAD_AUTHENTICATION_METHOD,
	RC_TOPIC_NAME_INVALID, RC_PACKET_TOO_LARGE, RC_QUOTA_EXCEEDED, RC_PAYLOAD_FORMAT_INVALID,
	RC_RETAIN_NOT_SUPPORTED, RC_QOS_NOT_SUPPORTED, RC_USE_ANOTHER_SERVER, RC_SERVER_MOVED,
	RC_CONNECTION_RATE_EXCEEDED };

bool
connack_code_valid(uint8_t code)
{
	return code_in(connack_codes, sizeof(connack_codes), code);
}

uint8_t
mqtt_connack_decode(struct wire *w, uint8_t version, struct mqtt_connack *c)
{
	uint8_t flags = wire_get_u8(w), code = wire_get_u8(w);

	*c = (struct mqtt_connack){ .reason_code = code };
	if (w->err != 0)
		return w->err;
	if (version >= 4) { /* 3.1 has no flags: the byte is unused */
		c->session_present = (flags & 1) != 0;
		if ((flags & 0xfe) != 0) /* [MQTT-3.2.2-1] */
			wire_fail(w, RC_MALFORMED_PACKET,
			    "Connect Acknowledge Flags with reserved bits set");
	}
	if (version < 5) {
		if (code >= sizeof(code_from_v3))
			wire_fail(w, RC_PROTOCOL_ERROR, "CONNACK with a reserved return code");
		else
			c->reason_code = code_from_v3[code];
	} else if (!connack_code_valid(code)) { /* [MQTT-3.2.2-8] */
		wire_fail(w, RC_PROTOCOL_ERROR, "CONNACK with a Reason Code it does not have");
	}
	if (c->session_present && code != 0) /* [MQTT-3.2.2-6] */
		wire_fail(w, RC_PROTOCOL_ERROR, "CONNACK refuses but has Session Present");
	if (version >= 5) {
		struct grapnel_property prop;
		struct wire block;
		uint64_t seen = 0;
		bool method = false, data = false;

		c->prop_block = props_open(w, &block);
		while (props_read(&block, IN(MQTT_CONNACK), &seen, &prop)) {
			method |= prop.id == PROP_AUTH_METHOD;
			data |= prop.id == PROP_AUTH_DATA;
		}
		props_close(w, &block);
		if (w->err == 0 && data && !method)
			wire_fail(w, RC_PROTOCOL_ERROR,
			    "Authentication Data without Authentication Method");
	}
	packet_end(w);
	return w->err;
}

static size_t
connack_remaining(uint8_t version, size_t props)
{
	return version < 5 ? 2 : 2 + wire_varint_size((uint32_t)props) + props;
}

size_t
mqtt_connack_size(uint8_t version, const struct mqtt_connack *c)
{
	return packet_size(
	    connack_remaining(version, mqtt_properties_size(c->props, c->prop_count)));
}

uint8_t *
mqtt_connack_encode(uint8_t *p, uint8_t version, const struct mqtt_connack *c)
{
	size_t props = mqtt_properties_size(c->props, c->prop_count);

	p = packet_start(p, MQTT_CONNACK, 0, connack_remaining(version, props));
	*p++ = c->session_present && c->reason_code == RC_SUCCESS && version != 3 ? 1 : 0;
	*p++ = version < 5 ? mqtt_connack_code_v3(c->reason_code) : c->reason_code;
	if (version < 5)
		return p;
	p = wire_put_varint(p, (uint32_t)props);
	return mqtt_properties_put(p, c->props, c->prop_count);
}
