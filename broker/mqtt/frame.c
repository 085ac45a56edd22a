/* SPDX-License-Identifier: Apache-2.0 */
#include "codec.h"

/* Fixed header flags of each type [MQTT-2.1.3-1]; PUBLISH has its own. */
static const uint8_t frame_flags[16] = {
	[MQTT_PUBREL] = 0x02,
	[MQTT_SUBSCRIBE] = 0x02,
	[MQTT_UNSUBSCRIBE] = 0x02,
};

int
mqtt_frame_read(const uint8_t *p, size_t len, struct mqtt_frame *f)
{
	uint32_t remaining;
	unsigned type, flags, used;

	if (len == 0)
		return 0;
	type = p[0] >> 4;
	flags = p[0] & 0x0f;
	if (type == MQTT_PUBLISH) {
		if ((flags & 0x06) == 0x06) /* QoS 3 [MQTT-3.3.1-4] */
			return -1;
	} else if (type == 0 || flags != frame_flags[type]) {
		return -1;
	}
	if (len == 1)
		return 0;

	remaining = p[1];
	used = 2;
	if (remaining >= 0x80) {
		unsigned shift = 7;
		uint8_t byte;

		remaining &= 0x7f;
		do {
			if (used == 5)
				return -1;
			if (used == len)
				return 0;
			byte = p[used++];
			remaining |= (uint32_t)(byte & 0x7f) << shift;
			shift += 7;
		} while (byte & 0x80);
		if (byte == 0) /* not the shortest form [MQTT-1.5.5-1] */
			return -1;
	}
	if (remaining != 0 && (type == MQTT_PINGREQ || type == MQTT_PINGRESP))
		return -1;

	f->type = (uint8_t)type;
	f->flags = (uint8_t)flags;
	f->header_len = (uint8_t)used;
	f->remaining = remaining;
	return 1;
}

uint16_t
packet_id_read(struct wire *w)
{
	uint16_t id = wire_get_u16(w);

	if (id == 0)
		wire_fail(w, RC_PROTOCOL_ERROR, "Packet Identifier is 0");
	return id;
}

void
packet_end(struct wire *w)
{
	if (wire_left(w) != 0)
		wire_fail(w, RC_MALFORMED_PACKET, "packet is longer than its content");
}

uint8_t *
mqtt_ping_encode(uint8_t *p, uint8_t type)
{
	return packet_start(p, type, 0, 0);
}
