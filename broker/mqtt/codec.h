/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec - what the files of the codec share with each other, and with nobody else
 */
#ifndef BROKER_MQTT_CODEC_H
#define BROKER_MQTT_CODEC_H

#include "packet.h"

/* Where a property may stand: a set of packet types; a Will is a place of its own. */
#define IN(type) (1u << (type))
#define IN_WILL  IN(0)

/*
 * Read Property Length and hand out the block as a cursor of its own. Whether a packet may end
 * before the length is for the caller to know.
 */
struct grapnel_str props_open(struct wire *w, struct wire *block);
/*
 * The next property of a block under validation: known, allowed in this place, not a duplicate,
 * of its type and in its range. *seen starts at 0.
 * @return false at the end and after a failure, which props_close() takes over into w.
 */
bool props_read(struct wire *block, unsigned where, uint64_t *seen, struct grapnel_property *out);
static inline void
props_close(struct wire *w, const struct wire *block)
{
	if (block->err != 0)
		wire_fail(w, block->err, block->why);
}
/* A block with nothing to pick out but a Reason String and User Properties. */
struct grapnel_str props_read_reason(
    struct wire *w, unsigned where, struct grapnel_str *reason_string);

/* Properties of PUBLISH (from_server: Subscription Identifiers may be there) and of a Will. */
void message_props_read(
    struct wire *w, unsigned where, bool from_server, struct mqtt_message_props *mp);

/* Is the code in the set? For the Reason Codes that a packet type has. */
static inline bool
code_in(const uint8_t *set, size_t n, uint8_t code)
{
	return memchr(set, code, n) != NULL;
}

bool ack_code_valid(uint8_t type, uint8_t code);
bool connack_code_valid(uint8_t code);
bool disconnect_code_valid(uint8_t code);
bool suback_code_valid(uint8_t version, uint8_t type, uint8_t code);

uint16_t packet_id_read(struct wire *w); /* not 0 [MQTT-2.2.1-3] */
void packet_end(struct wire *w);         /* nothing may be left */

/* Bytes of a packet with its fixed header; 0: more than an MQTT packet can hold. */
static inline size_t
packet_size(size_t remaining)
{
	return remaining > WIRE_VARINT_MAX ? 0
					   : 1 + wire_varint_size((uint32_t)remaining) + remaining;
}
static inline uint8_t *
packet_start(uint8_t *p, uint8_t type, uint8_t flags, size_t remaining)
{
	*p++ = (uint8_t)(type << 4 | flags);
	return wire_put_varint(p, (uint32_t)remaining);
}

#endif
