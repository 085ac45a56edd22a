/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include "packet.h"

void
wire_fail(struct wire *w, uint8_t reason_code, const char *why)
{
	if (w->err != 0)
		return;
	w->err = reason_code;
	w->why = why;
	/* Nothing is left to read: the getters need no look at err of their own. */
	w->end = w->p;
}

void
wire_fail_short(struct wire *w)
{
	wire_fail(w, RC_MALFORMED_PACKET, "packet ends too early");
}

uint32_t
wire_get_varint(struct wire *w)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 4; i++) {
		uint8_t byte = wire_get_u8(w);

		if (w->err != 0)
			return 0;
		value |= (uint32_t)(byte & 0x7f) << (7 * i);
		if (byte & 0x80)
			continue;
		if (byte == 0 && i > 0) {
			wire_fail(w, RC_MALFORMED_PACKET,
			    "variable byte integer is not in its shortest form");
			return 0;
		}
		return value;
	}
	wire_fail(w, RC_MALFORMED_PACKET, "variable byte integer has more than four bytes");
	return 0;
}

struct grapnel_str
wire_get_utf8(struct wire *w)
{
	struct grapnel_str s = wire_get_binary(w);

	if (s.len > 0 && !utf8_valid(s.data, s.len)) {
		wire_fail(
		    w, RC_MALFORMED_PACKET, "string is not well-formed UTF-8 or contains U+0000");
		return (struct grapnel_str){ NULL, 0 };
	}
	return s;
}
