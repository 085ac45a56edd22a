/* SPDX-License-Identifier: Apache-2.0 */
/* PUBACK, PUBREC, PUBREL and PUBCOMP: one shape. MQTT 5.0 sections 3.4 to 3.7 */
#include "codec.h"

bool
ack_code_valid(uint8_t type, uint8_t code)
{
	static const uint8_t to_publish[] = { RC_SUCCESS, RC_NO_MATCHING_SUBSCRIBERS,
		RC_UNSPECIFIED, RC_IMPLEMENTATION_SPECIFIC, RC_NOT_AUTHORIZED,
		RC_TOPIC_NAME_INVALID, RC_PACKET_IDENTIFIER_IN_USE, RC_QUOTA_EXCEEDED,
		RC_PAYLOAD_FORMAT_INVALID };
	static const uint8_t to_ack[] = { RC_SUCCESS, RC_PACKET_IDENTIFIER_NOT_FOUND };

	if (type == MQTT_PUBACK || type == MQTT_PUBREC)
		return code_in(to_publish, sizeof(to_publish), code);
	return code_in(to_ack, sizeof(to_ack), code);
}

uint8_t
mqtt_ack_decode(struct wire *w, uint8_t version, uint8_t type, struct mqtt_ack *a)
{
	*a = (struct mqtt_ack){ .packet_id = packet_id_read(w) };
	if (version >= 5 && wire_left(w) > 0) {
		a->reason_code = wire_get_u8(w);
		if (!ack_code_valid(type, a->reason_code)) /* [MQTT-3.4.2-1] and its siblings */
			wire_fail(w, RC_PROTOCOL_ERROR,
			    "acknowledgement with a Reason Code it does not have");
		if (wire_left(w) > 0)
			a->props = props_read_reason(w, IN(type), &a->reason_string);
	}
	packet_end(w);
	return w->err;
}

static size_t
ack_props_size(const struct mqtt_ack *a)
{
	return a->reason_string.data != NULL ? 3 + a->reason_string.len : 0;
}

static size_t
ack_remaining(uint8_t version, const struct mqtt_ack *a)
{
	size_t props = ack_props_size(a);

	if (version < 5 || (a->reason_code == RC_SUCCESS && props == 0))
		return 2;
	return props == 0 ? 3 : 3 + wire_varint_size((uint32_t)props) + props;
}

size_t
mqtt_ack_size(uint8_t version, const struct mqtt_ack *a)
{
	return packet_size(ack_remaining(version, a));
}

uint8_t *
mqtt_ack_encode(uint8_t *p, uint8_t version, uint8_t type, const struct mqtt_ack *a)
{
	size_t remaining = ack_remaining(version, a);

	p = packet_start(p, type, type == MQTT_PUBREL ? 2 : 0, remaining);
	p = wire_put_u16(p, a->packet_id);
	if (remaining == 2)
		return p;
	*p++ = a->reason_code;
	if (remaining == 3)
		return p;
	p = wire_put_varint(p, (uint32_t)ack_props_size(a));
	*p++ = PROP_REASON_STRING;
	return wire_put_str(p, a->reason_string);
}
