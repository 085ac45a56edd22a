/* SPDX-License-Identifier: Apache-2.0 */
/* DISCONNECT and AUTH. MQTT 5.0 sections 3.14 and 3.15 */
#include "codec.h"

static const uint8_t disconnect_codes[] = { RC_SUCCESS, RC_DISCONNECT_WITH_WILL, RC_UNSPECIFIED,
	RC_MALFORMED_PACKET, RC_PROTOCOL_ERROR, RC_IMPLEMENTATION_SPECIFIC, RC_NOT_AUTHORIZED,
	RC_SERVER_BUSY, RC_SERVER_SHUTTING_DOWN, RC_BAD_AUTHENTICATION_METHOD,
	RC_KEEP_ALIVE_TIMEOUT, RC_SESSION_TAKEN_OVER, RC_TOPIC_FILTER_INVALID,
	RC_TOPIC_NAME_INVALID, RC_RECEIVE_MAXIMUM_EXCEEDED, RC_TOPIC_ALIAS_INVALID,
	RC_PACKET_TOO_LARGE, RC_MESSAGE_RATE_TOO_HIGH, RC_QUOTA_EXCEEDED, RC_ADMINISTRATIVE_ACTION,
	RC_PAYLOAD_FORMAT_INVALID, RC_RETAIN_NOT_SUPPORTED, RC_QOS_NOT_SUPPORTED,
	RC_USE_ANOTHER_SERVER, RC_SERVER_MOVED, RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
	RC_CONNECTION_RATE_EXCEEDED, RC_MAXIMUM_CONNECT_TIME,
	RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED, RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED };
static const uint8_t auth_codes[] = { RC_SUCCESS, RC_CONTINUE_AUTHENTICATION, RC_REAUTHENTICATE };

bool
disconnect_code_valid(uint8_t code)
{
	return code_in(disconnect_codes, sizeof(disconnect_codes), code);
}

static void
disconnect_props_read(struct wire *w, unsigned where, struct mqtt_disconnect *d)
{
	struct grapnel_property prop;
	struct wire block;
	uint64_t seen = 0;

	d->props = props_open(w, &block);
	while (props_read(&block, where, &seen, &prop))
		switch (prop.id) {
		case PROP_SESSION_EXPIRY:
			d->has_session_expiry = true;
			d->session_expiry = prop.u.number;
			break;
		case PROP_REASON_STRING:
			d->reason_string = prop.u.str;
			break;
		case PROP_SERVER_REFERENCE:
			d->server_reference = prop.u.str;
			break;
		case PROP_AUTH_METHOD:
			d->auth_method = prop.u.str;
			break;
		case PROP_AUTH_DATA:
			d->auth_data = prop.u.str;
			break;
		}
	props_close(w, &block);
}

uint8_t
mqtt_disconnect_decode(struct wire *w, uint8_t version, struct mqtt_disconnect *d)
{
	*d = (struct mqtt_disconnect){ .reason_code = RC_SUCCESS };
	if (version >= 5 && wire_left(w) > 0) {
		d->reason_code = wire_get_u8(w);
		/* [MQTT-3.14.2-1] */
		if (!disconnect_code_valid(d->reason_code))
			wire_fail(
			    w, RC_PROTOCOL_ERROR, "DISCONNECT with a Reason Code it does not have");
		if (wire_left(w) > 0)
			disconnect_props_read(w, IN(MQTT_DISCONNECT), d);
	}
	packet_end(w);
	return w->err;
}

uint8_t
mqtt_auth_decode(struct wire *w, struct mqtt_disconnect *d)
{
	*d = (struct mqtt_disconnect){ .reason_code = RC_SUCCESS };
	/* Success without properties may be left out altogether. */
	if (w->err != 0 || wire_left(w) == 0)
		return w->err;
	d->reason_code = wire_get_u8(w);
	if (!code_in(auth_codes, sizeof(auth_codes), d->reason_code)) /* [MQTT-3.15.2-1] */
		wire_fail(w, RC_PROTOCOL_ERROR, "AUTH with a Reason Code it does not have");
	if (wire_left(w) > 0)
		disconnect_props_read(w, IN(MQTT_AUTH), d);
	if (w->err == 0 && d->auth_method.data == NULL)
		wire_fail(w, RC_PROTOCOL_ERROR, "AUTH without Authentication Method");
	packet_end(w);
	return w->err;
}

/* The struct as properties in a fixed order; @return how many. */
static unsigned
disconnect_props(uint8_t type, const struct mqtt_disconnect *d, struct grapnel_property out[5])
{
	unsigned n = 0;

	if (type == MQTT_DISCONNECT) {
		if (d->has_session_expiry)
			out[n++] = (struct grapnel_property){ .id = PROP_SESSION_EXPIRY,
				.u.number = d->session_expiry };
		if (d->server_reference.data != NULL)
			out[n++] = (struct grapnel_property){ .id = PROP_SERVER_REFERENCE,
				.u.str = d->server_reference };
	} else {
		if (d->auth_method.data != NULL)
			out[n++] = (struct grapnel_property){ .id = PROP_AUTH_METHOD,
				.u.str = d->auth_method };
		if (d->auth_data.data != NULL)
			out[n++] = (struct grapnel_property){ .id = PROP_AUTH_DATA,
				.u.str = d->auth_data };
	}
	if (d->reason_string.data != NULL)
		out[n++] = (struct grapnel_property){ .id = PROP_REASON_STRING,
			.u.str = d->reason_string };
	return n;
}

static size_t
disconnect_remaining(uint8_t version, uint8_t reason_code, size_t props)
{
	if (version < 5 || (reason_code == RC_SUCCESS && props == 0))
		return 0;
	return props == 0 ? 1 : 1 + wire_varint_size((uint32_t)props) + props;
}

size_t
mqtt_disconnect_size(uint8_t version, uint8_t type, const struct mqtt_disconnect *d)
{
	struct grapnel_property props[5];
	unsigned n = disconnect_props(type, d, props);

	return packet_size(
	    disconnect_remaining(version, d->reason_code, mqtt_properties_size(props, n)));
}

uint8_t *
mqtt_disconnect_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_disconnect *d)
{
	struct grapnel_property props[5];
	unsigned n = disconnect_props(type, d, props);
	size_t props_size = mqtt_properties_size(props, n);
	size_t remaining = disconnect_remaining(version, d->reason_code, props_size);

	p = packet_start(p, type, 0, remaining);
	if (remaining == 0)
		return p;
	*p++ = d->reason_code;
	if (remaining == 1)
		return p;
	p = wire_put_varint(p, (uint32_t)props_size);
	return mqtt_properties_put(p, props, n);
}
