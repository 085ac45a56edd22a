/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire - a cursor over the bytes of one packet, with a sticky error
 *
 * After an error every read yields zero (an absent string) and moves nothing, so
 * a decoder reads straight through and its caller checks w->err once. err is an
 * MQTT 5 Reason Code (0x81 Malformed Packet, 0x82 Protocol Error ...), why a
 * static sentence for the log and for Reason Strings.
 *
 * Threads: none of its own; pure. Ownership: results borrow from the buffer.
 */
#ifndef BROKER_MQTT_WIRE_H
#define BROKER_MQTT_WIRE_H

#include <assert.h>
#include <grapnel/types.h>
#include <string.h>

#define WIRE_VARINT_MAX 268435455u

struct wire {
	const uint8_t *p, *end;
	uint8_t err;     /* 0: none */
	const char *why; /* static; valid when err != 0 */
};

void wire_fail(struct wire *w, uint8_t reason_code, const char *why); /* the first failure stays */
void wire_fail_short(struct wire *w);                                 /* "packet ends too early" */
uint32_t wire_get_varint(struct wire *w); /* 1-4 bytes, shortest form [MQTT-1.5.5-1] */
/* Well-formed, no U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2]. */
struct grapnel_str wire_get_utf8(struct wire *w);

/* Strict UTF-8: no surrogates, no overlong forms, nothing above U+10FFFF, no U+0000. */
bool utf8_valid(const char *data, size_t len);
bool utf8_plain(const char *data, size_t len); /* and without control characters (C0, DEL, C1) [MQTT-1.5.4-1] */

/* The same and what a Topic Name must not have, in one pass. Emptiness is the caller's question. */
enum utf8_topic {
	UTF8_TOPIC_OK,
	UTF8_TOPIC_ILL_FORMED, /* not strict UTF-8, or U+0000 */
	UTF8_TOPIC_WILDCARD,   /* '+' or '#' [MQTT-3.3.2-2] */
};
enum utf8_topic utf8_check_topic_name(const char *data, size_t len);

/* The short ones stand here: a few instructions each, on the path of every PUBLISH. */
static inline void
wire_init(struct wire *w, const void *data, size_t len)
{
	/* Never NULL, so that an empty value stays different from an absent one. */
	w->p = len > 0 ? data : (const void *)"";
	w->end = w->p + len;
	w->err = 0;
	w->why = NULL;
}

static inline size_t
wire_left(const struct wire *w)
{
	return (size_t)(w->end - w->p); /* a failure has moved end to p */
}

static inline uint8_t
wire_get_u8(struct wire *w)
{
	if (w->p == w->end) {
		wire_fail_short(w);
		return 0;
	}
	return *w->p++;
}

static inline uint16_t
wire_get_u16(struct wire *w)
{
	const uint8_t *p = w->p;

	if (wire_left(w) < 2) {
		wire_fail_short(w);
		return 0;
	}
	w->p += 2;
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t
wire_get_u32(struct wire *w)
{
	const uint8_t *p = w->p;

	if (wire_left(w) < 4) {
		wire_fail_short(w);
		return 0;
	}
	w->p += 4;
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline struct grapnel_str
wire_get_block(struct wire *w, size_t len)
{
	struct grapnel_str s = { NULL, 0 };

	if (wire_left(w) < len || w->err != 0) {
		wire_fail_short(w);
		return s;
	}
	s.data = (const char *)w->p;
	s.len = len;
	w->p += len;
	return s;
}

/* Two byte length, then bytes. */
static inline struct grapnel_str
wire_get_binary(struct wire *w)
{
	return wire_get_block(w, wire_get_u16(w));
}

static inline struct grapnel_str
wire_get_rest(struct wire *w)
{
	return wire_get_block(w, wire_left(w));
}

/* Encoding: the caller has made room. Each returns the position behind what it wrote. */
static inline uint8_t *
wire_put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

static inline uint8_t *
wire_put_u32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
	return p + 4;
}

static inline unsigned
wire_varint_size(uint32_t v)
{
	return v < 0x80 ? 1 : v < 0x4000 ? 2 : v < 0x200000 ? 3 : 4;
}

static inline uint8_t *
wire_put_varint(uint8_t *p, uint32_t v) /* v <= WIRE_VARINT_MAX */
{
	assert(v <= WIRE_VARINT_MAX);
	while (v >= 0x80) {
		*p++ = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	*p++ = (uint8_t)v;
	return p;
}

static inline uint8_t *
wire_put_bytes(uint8_t *p, struct grapnel_str s)
{
	if (s.len > 0)
		memcpy(p, s.data, s.len);
	return p + s.len;
}

static inline uint8_t *
wire_put_str(uint8_t *p, struct grapnel_str s) /* s.len <= 65535 */
{
	assert(s.len <= UINT16_MAX);
	return wire_put_bytes(wire_put_u16(p, (uint16_t)s.len), s);
}

#endif
