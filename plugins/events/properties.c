/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of a PUBLISH (MQTT 5.0 section 3.3.2.3), from a record that may have lain on a disk: nothing is trusted. */
#include "format_private.h"

struct cursor {
	const unsigned char *at, *end;
	bool bad;
};

static uint32_t
take_number(struct cursor *c, size_t bytes)
{
	uint32_t n = 0;

	if (c->bad || (size_t)(c->end - c->at) < bytes) {
		c->bad = true;
		return 0;
	}
	while (bytes-- > 0)
		n = n << 8 | *c->at++;
	return n;
}

static uint32_t
take_varint(struct cursor *c)
{
	uint32_t n = 0;

	for (unsigned shift = 0; shift < 28; shift += 7) {
		uint32_t byte = take_number(c, 1);

		n |= (byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	c->bad = true;
	return 0;
}

static struct grapnel_str
take_string(struct cursor *c)
{
	uint32_t len = take_number(c, 2);
	struct grapnel_str s;

	if (c->bad || (size_t)(c->end - c->at) < len) {
		c->bad = true;
		return (struct grapnel_str){ NULL, 0 };
	}
	s = (struct grapnel_str){ (const char *)c->at, len };
	c->at += len;
	return s;
}

bool
publish_property(struct grapnel_str block, size_t *pos, struct grapnel_property *out)
{
	const unsigned char *bytes = (const unsigned char *)block.data;
	struct cursor c;

	if (*pos >= block.len)
		return false;
	c = (struct cursor){ bytes + *pos, bytes + block.len, false };
	*out = (struct grapnel_property){ .id = take_varint(&c) };
	switch (out->id) {
	case 0x01: /* Payload Format Indicator */
		out->u.number = take_number(&c, 1);
		break;
	case 0x02: /* Message Expiry Interval */
		out->u.number = take_number(&c, 4);
		break;
	case 0x03: /* Content Type */
	case 0x08: /* Response Topic */
	case 0x09: /* Correlation Data */
		out->u.str = take_string(&c);
		break;
	case 0x0b: /* Subscription Identifier */
		out->u.number = take_varint(&c);
		break;
	case 0x23: /* Topic Alias */
		out->u.number = take_number(&c, 2);
		break;
	case 0x26: /* User Property */
		out->u.pair.name = take_string(&c);
		out->u.pair.value = take_string(&c);
		break;
	default:
		return false;
	}
	*pos = (size_t)(c.at - bytes);
	return !c.bad;
}
