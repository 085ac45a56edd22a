/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "../fuzz/again.h"
#include "codec_cases.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* ---- bytes as the tables write them ------------------------------------------------------ */
struct bytes {
	uint8_t *data; /* of exact size, so that ASan sees a read past the end */
	size_t len;
};

static unsigned
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	ck_assert_msg(c >= 'a' && c <= 'f', "'%c' in a table is no hexadecimal digit", c);
	return (unsigned)(c - 'a') + 10;
}

static uint8_t *
copy_exact(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len);

	ck_assert(copy != NULL || len == 0);
	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

static struct bytes
bytes_of(const char *text)
{
	uint8_t out[512];
	struct bytes b = { NULL, 0 };
	size_t block = 0;
	bool quoted = false;

	for (; *text != '\0'; text++) {
		ck_assert(b.len < sizeof(out));
		if (*text == '\'') {
			quoted = !quoted;
		} else if (quoted) {
			out[b.len++] = (uint8_t)*text;
		} else if (*text == '[') {
			block = b.len++;
		} else if (*text == ']') {
			ck_assert(b.len - block <= 128);
			out[block] = (uint8_t)(b.len - block - 1);
		} else if (*text != ' ') {
			out[b.len++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
			text++;
		}
	}
	b.data = copy_exact(out, b.len);
	return b;
}

/* A whole packet: Remaining Length is put in front of the body. */
static struct bytes
packet_of(uint8_t first, const char *body, struct mqtt_frame *f)
{
	struct bytes b = bytes_of(body), packet;
	uint8_t out[520], *p = out;

	*p++ = first;
	p = wire_put_varint(p, (uint32_t)b.len);
	p = wire_put_bytes(p, (struct grapnel_str){ (const char *)b.data, b.len });
	packet.len = (size_t)(p - out);
	packet.data = copy_exact(out, packet.len);
	free(b.data);
	ck_assert_int_eq(mqtt_frame_read(packet.data, packet.len, f), 1);
	ck_assert_uint_eq(f->header_len + f->remaining, packet.len);
	return packet;
}

static struct wire
wire_of(const struct bytes *b)
{
	struct wire w;

	wire_init(&w, b->data, b->len);
	return w;
}

static void
assert_bytes(const uint8_t *data, size_t len, const char *want)
{
	struct bytes b = bytes_of(want);

	ck_assert_uint_eq(len, b.len);
	ck_assert_mem_eq(data, b.data, len);
	free(b.data);
}

static void
assert_str(struct grapnel_str s, const char *want)
{
	ck_assert_ptr_nonnull(s.data);
	ck_assert_uint_eq(s.len, strlen(want));
	ck_assert_mem_eq(s.data, want, s.len);
}

/* ---- every valid packet ------------------------------------------------------------------ */
START_TEST(a_valid_packet_is_read_and_written_again)
{
	const struct valid_case *c = &valid_cases[_i];
	struct mqtt_frame f, g;
	struct bytes packet = packet_of(c->first, c->body, &f);
	struct again first, second;
	bool same;

	again(c->version, false, &f, packet.data, &first);
	ck_assert_msg(first.err == 0, "%s: 0x%02x %s", c->name, first.err, first.why);
	ck_assert_ptr_nonnull(first.bytes);
	same = first.len == packet.len && memcmp(first.bytes, packet.data, packet.len) == 0;
	ck_assert_msg(same == (c->encoded == SAME), "%s: encoded %s", c->name,
	    same ? "the same" : "another way");

	ck_assert_int_eq(mqtt_frame_read(first.bytes, first.len, &g), 1);
	ck_assert_uint_eq(g.type, f.type);
	ck_assert_uint_eq(g.flags, f.flags);
	again(c->version, false, &g, first.bytes, &second);
	ck_assert_msg(second.err == 0, "%s, again: 0x%02x %s", c->name, second.err, second.why);
	ck_assert_msg(second.digest == first.digest, "%s: means something else now", c->name);
	ck_assert_uint_eq(second.len, first.len);
	ck_assert_mem_eq(second.bytes, first.bytes, first.len);
	free(first.bytes);
	free(second.bytes);
	free(packet.data);
}
END_TEST

START_TEST(a_packet_cut_anywhere_is_refused_and_never_read_past_its_end)
{
	const struct valid_case *c = &valid_cases[_i];
	struct mqtt_frame f;
	struct bytes packet = packet_of(c->first, c->body, &f);
	int whole = (int)f.remaining, shortest = c->shortest == WHOLE ? whole : c->shortest;

	for (int len = 0; len < whole; len++) {
		struct again got;

		f.remaining = (uint32_t)len; /* again() copies into a buffer of this size */
		again(c->version, false, &f, packet.data, &got);
		ck_assert_msg(len >= shortest || got.err != 0, "%s: accepted with %d of %d bytes",
		    c->name, len, whole);
		ck_assert_msg(len != shortest || got.err == 0, "%s: 0x%02x %s with %d of %d bytes",
		    c->name, got.err, got.why, len, whole);
		free(got.bytes);
	}
	free(packet.data);
}
END_TEST

START_TEST(a_malformed_packet_is_refused_with_its_reason_code)
{
	const struct malformed_case *c = &malformed_cases[_i];
	struct mqtt_frame f;
	struct bytes packet = packet_of(c->first, c->body, &f);
	struct again got;

	again(c->version, false, &f, packet.data, &got);
	ck_assert_msg(got.err == c->reason_code, "%s: 0x%02x (%s), not 0x%02x", c->name, got.err,
	    got.why != NULL ? got.why : "accepted", c->reason_code);
	ck_assert_ptr_null(got.bytes);
	free(packet.data);
}
END_TEST

START_TEST(every_type_and_version_has_a_valid_packet_here)
{
	bool have[16][6] = { { false } };

	for (int i = 0; i < COUNT(valid_cases); i++)
		have[valid_cases[i].first >> 4][valid_cases[i].version] = true;
	for (unsigned type = MQTT_CONNECT; type <= MQTT_AUTH; type++)
		for (unsigned version = type == MQTT_AUTH ? 5 : 3; version <= 5; version++)
			ck_assert_msg(have[type][version], "%s %u", mqtt_type_name(type), version);
	ck_assert_int_ge(COUNT(malformed_cases), 120);
}
END_TEST

/* ---- fixed header ------------------------------------------------------------------------ */
START_TEST(a_fixed_header_is_read_refused_or_waited_for)
{
	const struct frame_case *c = &frame_cases[_i];
	struct bytes b = bytes_of(c->bytes);
	struct mqtt_frame f = { 0 };
	int got = mqtt_frame_read(b.data, b.len, &f);

	ck_assert_msg(got == c->result, "%s: %d", c->name, got);
	if (got == 1) {
		ck_assert_uint_eq(f.type, b.data[0] >> 4);
		ck_assert_uint_eq(f.flags, b.data[0] & 0x0f);
		ck_assert_uint_eq(f.header_len, c->header_len);
		ck_assert_uint_eq(f.remaining, c->remaining);
		for (size_t len = 0; len < b.len; len++) { /* bytes dribble in */
			uint8_t *prefix = copy_exact(b.data, len);

			ck_assert_int_eq(mqtt_frame_read(prefix, len, &f), 0);
			free(prefix);
		}
	}
	free(b.data);
}
END_TEST

/* ---- cursor ------------------------------------------------------------------------------ */
START_TEST(a_cursor_keeps_its_first_failure_and_yields_nothing_after_it)
{
	static const uint8_t data[] = { 0x12, 0x34, 0x56, 0x00, 0x09, 'x' };
	struct wire w;
	const uint8_t *at;

	wire_init(&w, data, sizeof(data));
	ck_assert_uint_eq(wire_get_u16(&w), 0x1234);
	ck_assert_uint_eq(wire_get_u8(&w), 0x56);
	ck_assert_uint_eq(wire_left(&w), 3);
	ck_assert_ptr_null(wire_get_binary(&w).data);
	ck_assert_uint_eq(w.err, RC_MALFORMED_PACKET);
	at = w.p;
	wire_fail(&w, RC_PROTOCOL_ERROR, "a later one");
	ck_assert_uint_eq(w.err, RC_MALFORMED_PACKET);
	ck_assert_uint_eq(wire_get_u8(&w), 0);
	ck_assert_uint_eq(wire_get_u16(&w), 0);
	ck_assert_uint_eq(wire_get_u32(&w), 0);
	ck_assert_uint_eq(wire_get_varint(&w), 0);
	ck_assert_ptr_null(wire_get_utf8(&w).data);
	ck_assert_ptr_null(wire_get_block(&w, 0).data);
	ck_assert_ptr_null(wire_get_rest(&w).data);
	ck_assert_uint_eq(wire_left(&w), 0);
	ck_assert_ptr_eq(w.p, at);
}
END_TEST

START_TEST(an_empty_string_is_not_an_absent_one)
{
	static const uint8_t data[] = { 0, 0 };
	struct wire w;

	wire_init(&w, data, sizeof(data));
	assert_str(wire_get_utf8(&w), "");
	assert_str(wire_get_rest(&w), "");
	wire_init(&w, NULL, 0);
	assert_str(wire_get_rest(&w), "");
	ck_assert_uint_eq(w.err, 0);
}
END_TEST

START_TEST(a_variable_byte_integer_survives_and_has_its_shortest_form)
{
	static const uint32_t values[] = { 0, 1, 127, 128, 129, 16383, 16384, 2097151, 2097152,
		268435455 };
	static const unsigned sizes[] = { 1, 1, 1, 2, 2, 2, 3, 3, 4, 4 };

	for (int i = 0; i < COUNT(values); i++) {
		uint8_t out[5] = { 0 };
		size_t len = (size_t)(wire_put_varint(out, values[i]) - out);
		uint8_t *exact = copy_exact(out, len);
		struct wire w;

		ck_assert_uint_eq(len, sizes[i]);
		ck_assert_uint_eq(wire_varint_size(values[i]), sizes[i]);
		wire_init(&w, exact, len);
		ck_assert_uint_eq(wire_get_varint(&w), values[i]);
		ck_assert_uint_eq(w.err, 0);
		ck_assert_uint_eq(wire_left(&w), 0);
		free(exact);
	}
}
END_TEST

/* ---- UTF-8 ------------------------------------------------------------------------------- */
/* The same question asked slowly: decode, then look at the number. */
static bool
utf8_valid_slowly(const uint8_t *p, size_t len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	for (size_t i = 0; i < len;) {
		size_t n = p[i] < 0x80      ? 1
		    : (p[i] & 0xe0) == 0xc0 ? 2
		    : (p[i] & 0xf0) == 0xe0 ? 3
		    : (p[i] & 0xf8) == 0xf0 ? 4
					    : 0;
		uint32_t c;

		if (n == 0 || n > len - i)
			return false;
		c = n == 1 ? p[i] : p[i] & (0x7fu >> n);
		for (size_t k = 1; k < n; k++) {
			if ((p[i + k] & 0xc0) != 0x80)
				return false;
			c = c << 6 | (p[i + k] & 0x3f);
		}
		if (c == 0 || c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
		i += n;
	}
	return true;
}

static void
check_utf8(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	bool valid = utf8_valid_slowly(data, len), wildcard;

	ck_assert_msg(utf8_valid(text, len) == valid, "%02x %02x ... of %zu bytes", data[0],
	    data[len - 1], len);
	wildcard = memchr(data, '+', len) != NULL || memchr(data, '#', len) != NULL;
	ck_assert_uint_eq(utf8_check_topic_name(text, len),
	    !valid         ? UTF8_TOPIC_ILL_FORMED
		: wildcard ? UTF8_TOPIC_WILDCARD
			   : UTF8_TOPIC_OK);
}

/* A sequence alone and inside of ASCII, where words of eight bytes are looked at together. */
static void
check_utf8_everywhere(const uint8_t *seq, size_t n)
{
	for (size_t before = 0; before <= 9; before++)
		for (size_t after = 0; after <= 9; after += 3) {
			size_t len = before + n + after;
			uint8_t *data = malloc(len);

			ck_assert_ptr_nonnull(data);
			memset(data, 'a', len);
			memcpy(data + before, seq, n);
			check_utf8(data, len);
			free(data);
		}
}

START_TEST(utf8_is_checked_strictly_at_every_position)
{
	static const uint8_t lead[] = { 0x00, 0x01, '#', '+', 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xc2,
		0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf7, 0xf8,
		0xfe, 0xff };
	static const uint8_t next[] = { 0x00, 'b', '#', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
		0xc0, 0xc3 };
	uint8_t seq[4];

	for (unsigned byte = 0; byte < 256; byte++) {
		seq[0] = (uint8_t)byte;
		check_utf8_everywhere(seq, 1);
	}
	for (int a = 0; a < COUNT(lead); a++)
		for (int b = 0; b < COUNT(next); b++) {
			seq[0] = lead[a];
			seq[1] = next[b];
			check_utf8_everywhere(seq, 2);
			for (int c = 0; c < COUNT(next); c++) {
				seq[2] = next[c];
				check_utf8_everywhere(seq, 3);
				for (int d = 0; d < COUNT(next); d += 3) {
					seq[3] = next[d];
					check_utf8(seq, 4);
				}
			}
		}
}
END_TEST

START_TEST(utf8_of_every_character_is_accepted)
{
	for (uint32_t c = 1; c <= 0x10ffff; c++) {
		uint8_t s[4];
		size_t n = 0;

		if (c < 0x80) {
			s[n++] = (uint8_t)c;
		} else if (c < 0x800) {
			s[n++] = (uint8_t)(0xc0 | c >> 6);
		} else if (c < 0x10000) {
			s[n++] = (uint8_t)(0xe0 | c >> 12);
			s[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		} else {
			s[n++] = (uint8_t)(0xf0 | c >> 18);
			s[n++] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
			s[n++] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		}
		if (c >= 0x80)
			s[n++] = (uint8_t)(0x80 | (c & 0x3f));
		if (utf8_valid((const char *)s, n) != (c < 0xd800 || c > 0xdfff))
			ck_abort_msg("U+%04X", c);
	}
}
END_TEST

/* ---- CONNECT and CONNACK ----------------------------------------------------------------- */
START_TEST(connect_defaults_are_those_of_the_standard)
{
	static const char *const bodies[] = { V31 "02 0000 0001'c'", V311 "02 0000 0001'c'",
		V5 "02 0000 00 0001'c'" };

	for (int i = 0; i < 3; i++) {
		struct bytes b = bytes_of(bodies[i]);
		struct wire w = wire_of(&b);
		struct mqtt_connect c;

		ck_assert_uint_eq(mqtt_connect_decode(&w, &c), 0);
		ck_assert_uint_eq(c.version, 3 + i);
		ck_assert(c.clean_start && c.request_problem_info && !c.request_response_info);
		ck_assert(!c.has_will && !c.has_username && !c.has_password && !c.bridge);
		ck_assert_uint_eq(c.receive_maximum, 65535);
		ck_assert_uint_eq(c.topic_alias_maximum, 0);
		ck_assert_uint_eq(c.maximum_packet_size, 0);
		ck_assert_uint_eq(c.session_expiry, 0);
		ck_assert_ptr_null(c.auth_method.data);
		ck_assert_ptr_null(c.username.data);
		assert_str(c.client_id, "c");
		free(b.data);
	}
}
END_TEST

START_TEST(a_3x_session_without_clean_session_never_expires)
{
	struct bytes b = bytes_of(V311 "00 0000 0001'c'");
	struct wire w = wire_of(&b);
	struct mqtt_connect c;

	ck_assert_uint_eq(mqtt_connect_decode(&w, &c), 0);
	ck_assert(!c.clean_start);
	ck_assert_uint_eq(c.session_expiry, UINT32_MAX);
	free(b.data);
}
END_TEST

START_TEST(connect_properties_and_will_are_read)
{
	struct bytes b = bytes_of(
	    V5 "f6 003c [11 0000000a 21 0014 27 00001000 22 0005 19 01 17 00 15 0001'm' "
	       "16 0002 00ff] 0001'c' [18 00000007 02 0000003c] 0001'w' 0002'no' 0001'u' 0001'p'");
	struct wire w = wire_of(&b);
	struct mqtt_connect c;

	ck_assert_msg(mqtt_connect_decode(&w, &c) == 0, "%s", w.why);
	ck_assert_uint_eq(c.keep_alive, 60);
	ck_assert_uint_eq(c.session_expiry, 10);
	ck_assert_uint_eq(c.receive_maximum, 20);
	ck_assert_uint_eq(c.maximum_packet_size, 4096);
	ck_assert_uint_eq(c.topic_alias_maximum, 5);
	ck_assert(c.request_response_info && !c.request_problem_info);
	assert_str(c.auth_method, "m");
	ck_assert_uint_eq(c.auth_data.len, 2);
	ck_assert(c.has_will && c.will.retain);
	ck_assert_uint_eq(c.will.qos, 2);
	assert_str(c.will.topic_name, "w");
	assert_str(c.will.payload, "no");
	ck_assert_uint_eq(c.will.props.will_delay, 7);
	ck_assert(c.will.props.has_message_expiry && !c.will.props.plain);
	ck_assert_uint_eq(c.will.props.message_expiry, 60);
	ck_assert_uint_eq(mqtt_forward_size(&c.will.props), 0);
	assert_str(c.username, "u");
	assert_str(c.password, "p");
	free(b.data);
}
END_TEST

START_TEST(a_refused_connect_still_tells_its_version)
{
	static const struct {
		const char *body;
		uint8_t version;
	} cases[] = { { V31 "02 0000 0001 ff", 3 }, { V311 "03 0000 0000", 4 },
		{ V5 "02 0000 04 1900 1900 0000", 5 }, { V5, 5 }, { "0004'MQTT'", 0 },
		{ "0004'MQTT' 06 02 0000", 0 }, { "0003'FOO' 04 02", 0 } };

	for (int i = 0; i < COUNT(cases); i++) {
		struct bytes b = bytes_of(cases[i].body);
		struct wire w = wire_of(&b);
		struct mqtt_connect c;

		ck_assert_uint_ne(mqtt_connect_decode(&w, &c), 0);
		ck_assert_uint_eq(c.version, cases[i].version);
		free(b.data);
	}
}
END_TEST

START_TEST(connack_codes_of_3x_say_what_the_reason_code_means)
{
	static const uint8_t codes[][2] = { { RC_SUCCESS, 0 },
		{ RC_UNSUPPORTED_PROTOCOL_VERSION, 1 }, { RC_CLIENT_ID_NOT_VALID, 2 },
		{ RC_SERVER_UNAVAILABLE, 3 }, { RC_SERVER_BUSY, 3 }, { RC_QUOTA_EXCEEDED, 3 },
		{ RC_UNSPECIFIED, 3 }, { RC_BAD_USER_NAME_OR_PASSWORD, 4 },
		{ RC_BAD_AUTHENTICATION_METHOD, 4 }, { RC_NOT_AUTHORIZED, 5 }, { RC_BANNED, 5 } };

	for (int i = 0; i < COUNT(codes); i++) {
		struct mqtt_connack c = { .reason_code = codes[i][0], .session_present = true };
		uint8_t out[4];

		ck_assert_uint_eq(mqtt_connack_size(4, &c), 4);
		ck_assert_ptr_eq(mqtt_connack_encode(out, 4, &c), out + 4);
		ck_assert_uint_eq(out[3], codes[i][1]);
		/* [MQTT-3.2.2-6]: no Session Present with a refusal */
		ck_assert_uint_eq(out[2], codes[i][0] == RC_SUCCESS);
		mqtt_connack_encode(out, 3, &c);
		ck_assert_uint_eq(out[2], 0); /* 3.1 does not know it */
	}
}
END_TEST

/* ---- properties -------------------------------------------------------------------------- */
START_TEST(properties_of_every_kind_survive_in_their_order)
{
	const struct grapnel_property props[] = {
		{ .id = PROP_USER_PROPERTY, .u.pair = { GRAPNEL_STR("b"), GRAPNEL_STR("1") } },
		{ .id = PROP_MAXIMUM_QOS, .u.number = 1 },
		{ .id = PROP_RECEIVE_MAXIMUM, .u.number = 65535 },
		{ .id = PROP_MAXIMUM_PACKET_SIZE, .u.number = 0xfedcba98 },
		{ .id = PROP_SUBSCRIPTION_IDENTIFIER, .u.number = 16384 },
		{ .id = PROP_REASON_STRING, .u.str = GRAPNEL_STR("why") },
		{ .id = PROP_AUTH_DATA, .u.str = GRAPNEL_STR("\0\xff") },
		{ .id = 0x7e, .u.number = 1 }, /* unknown: left out */
		{ .id = PROP_USER_PROPERTY, .u.pair = { GRAPNEL_STR(""), GRAPNEL_STR("") } },
	};
	size_t size = mqtt_properties_size(props, 9), pos = 0;
	uint8_t *out = malloc(size);
	struct grapnel_property got;

	ck_assert_ptr_nonnull(out);
	ck_assert_ptr_eq(mqtt_properties_put(out, props, 9), out + size);
	assert_bytes(out, size,
	    "26 0001'b' 0001'1' 24 01 21 ffff 27 fedcba98 0b 808001 1f 0003'why' 16 0002 00ff "
	    "26 0000 0000");
	for (int i = 0; i < 9; i++) {
		if (props[i].id == 0x7e)
			continue;
		ck_assert_int_eq(
		    mqtt_property_next((struct grapnel_str){ (char *)out, size }, &pos, &got), 1);
		ck_assert_uint_eq(got.id, props[i].id);
		if (props[i].id == PROP_USER_PROPERTY)
			ck_assert_uint_eq(got.u.pair.name.len, props[i].u.pair.name.len);
		else if (props[i].id == PROP_REASON_STRING || props[i].id == PROP_AUTH_DATA)
			ck_assert_mem_eq(got.u.str.data, props[i].u.str.data, got.u.str.len);
		else
			ck_assert_uint_eq(got.u.number, props[i].u.number);
	}
	ck_assert_int_eq(
	    mqtt_property_next((struct grapnel_str){ (char *)out, size }, &pos, &got), 0);
	free(out);
}
END_TEST

START_TEST(a_damaged_property_block_is_noticed_by_the_walk)
{
	static const char *const blocks[] = { "00", "7e 00", "11 0000", "1f 0005'abc'",
		"26 0001'a'", "0b ff", "a6 00 0000" };

	for (int i = 0; i < COUNT(blocks); i++) {
		struct bytes b = bytes_of(blocks[i]);
		struct grapnel_property got;
		size_t pos = 0;

		ck_assert_int_eq(
		    mqtt_property_next((struct grapnel_str){ (char *)b.data, b.len }, &pos, &got),
		    -1);
		ck_assert_uint_eq(pos, 0);
		free(b.data);
	}
}
END_TEST

/* ---- PUBLISH ----------------------------------------------------------------------------- */
START_TEST(forwarded_properties_keep_their_order_and_lose_what_belongs_to_the_sender)
{
	struct bytes b = bytes_of("0001'a' [26 0001'z' 0001'1' 23 0007 01 01 02 0000003c 0b 05 "
				  "26 0001'a' 0001'2' 09 0002 0001 0b 8101 08 0003'r/t' "
				  "26 0001'z' 0001'3' 03 0004'text'] 'x'");
	struct wire w = wire_of(&b);
	struct mqtt_publish p;
	uint8_t *out;
	size_t size;

	ck_assert_msg(mqtt_publish_decode_from_server(&w, 5, 0, &p) == 0, "%s", w.why);
	ck_assert(!p.props.plain && p.props.payload_is_utf8 && p.props.has_message_expiry);
	ck_assert_uint_eq(p.props.topic_alias, 7);
	ck_assert_uint_eq(p.props.message_expiry, 60);
	assert_str(p.props.response_topic, "r/t");
	assert_str(p.payload, "x");
	size = mqtt_forward_size(&p.props);
	ck_assert_ptr_nonnull(out = malloc(size));
	ck_assert_ptr_eq(mqtt_forward_put(out, &p.props), out + size);
	assert_bytes(out, size,
	    "26 0001'z' 0001'1' 01 01 26 0001'a' 0001'2' 09 0002 0001 08 0003'r/t' "
	    "26 0001'z' 0001'3' 03 0004'text'");
	free(out);
	free(b.data);
}
END_TEST

START_TEST(a_plain_block_is_forwarded_as_it_came)
{
	struct bytes b = bytes_of("0001'a' 09 01 00 26 0001'z' 0001'1'");
	struct wire w = wire_of(&b);
	struct mqtt_publish p;
	uint8_t out[9];

	ck_assert_uint_eq(mqtt_publish_decode(&w, 5, 0, &p), 0);
	ck_assert(p.props.plain && !p.props.payload_is_utf8);
	ck_assert_uint_eq(mqtt_forward_size(&p.props), 9);
	ck_assert_ptr_eq(mqtt_forward_put(out, &p.props), out + 9);
	ck_assert_mem_eq(out, b.data + 4, 9);
	free(b.data);
}
END_TEST

START_TEST(a_delivery_carries_expiry_alias_and_every_subscription_identifier)
{
	const uint32_t ids[] = { 1, 268435455 };
	const struct mqtt_publish_out o = { .topic_name = GRAPNEL_STR("a/b"),
		.forward_props = GRAPNEL_STR("\x01\x01"),
		.subscription_ids = ids,
		.subscription_id_count = 2,
		.message_expiry = 60,
		.has_message_expiry = true,
		.payload_len = 200,
		.packet_id = 0x0102,
		.topic_alias = 3,
		.qos = 2,
		.retain = true,
		.dup = true };
	static const char *const want[] = { "3d cf01 0003'a/b' 0102", "3d cf01 0003'a/b' 0102",
		"3d e101 0003'a/b' 0102 11 02 0000003c 23 0003 0b 01 0b ffffff7f 01 01" };

	for (uint8_t version = 3; version <= 5; version++) {
		size_t size = mqtt_publish_head_size(version, &o);
		uint8_t *out = malloc(size);

		ck_assert_ptr_nonnull(out);
		ck_assert_ptr_eq(mqtt_publish_head_encode(out, version, &o), out + size);
		assert_bytes(out, size, want[version - 3]);
		free(out);
	}
}
END_TEST

START_TEST(a_packet_beyond_the_largest_remaining_length_has_no_size)
{
	struct mqtt_publish_out o = { .topic_name = GRAPNEL_STR("a"),
		.payload_len = 268435455 - 3 };
	struct mqtt_suback s = { .count = 268435455 - 2 };

	ck_assert_uint_eq(mqtt_publish_head_size(4, &o), 8);
	o.payload_len++;
	ck_assert_uint_eq(mqtt_publish_head_size(4, &o), 0);
	o.payload_len = UINT32_MAX;
	ck_assert_uint_eq(mqtt_publish_head_size(5, &o), 0);
	ck_assert_uint_eq(mqtt_suback_size(4, MQTT_SUBACK, &s), 268435460);
	s.count++;
	ck_assert_uint_eq(mqtt_suback_size(4, MQTT_SUBACK, &s), 0);
}
END_TEST

START_TEST(a_3x_publish_has_no_properties)
{
	struct bytes b = bytes_of("0003'a/b' 0007 02 01 01");
	struct wire w = wire_of(&b);
	struct mqtt_publish p;

	ck_assert_uint_eq(mqtt_publish_decode(&w, 4, 0x0b, &p), 0);
	ck_assert_ptr_null(p.props.block.data);
	ck_assert(p.props.plain && p.retain && p.dup);
	ck_assert_uint_eq(p.qos, 1);
	ck_assert_uint_eq(p.packet_id, 7);
	ck_assert_uint_eq(p.payload.len, 3);
	free(b.data);
}
END_TEST

START_TEST(identifiers_of_0_are_refused_from_servers_too)
{
	struct bytes b = bytes_of("0001'a' 02 0b00");
	struct wire w = wire_of(&b);
	struct mqtt_publish p;

	ck_assert_uint_eq(mqtt_publish_decode_from_server(&w, 5, 0, &p), RC_PROTOCOL_ERROR);
	free(b.data);
	b = bytes_of("0001'a' 0000 00");
	w = wire_of(&b);
	ck_assert_uint_eq(mqtt_publish_decode_from_server(&w, 5, 2, &p), RC_PROTOCOL_ERROR);
	free(b.data);
}
END_TEST

/* ---- SUBSCRIBE and its answers ----------------------------------------------------------- */
START_TEST(the_filters_of_a_subscribe_are_walked_with_their_options)
{
	struct bytes b = bytes_of("0001 02 0b 07 0003'a/+' 2d 000b'$share/g/b#' 01 "
				  "000b'$share/g/b/' 1a 0008'$share/x' 00");
	struct wire w = wire_of(&b), items;
	struct mqtt_subscribe s;
	struct mqtt_subscription i;

	ck_assert_msg(mqtt_subscribe_decode(&w, 5, &s) == 0, "%s", w.why);
	ck_assert_uint_eq(s.packet_id, 1);
	ck_assert_uint_eq(s.subscription_id, 7);
	ck_assert_uint_eq(s.count, 4);
	items = s.items;

	ck_assert(mqtt_subscribe_next(&items, 5, &i));
	assert_str(i.filter, "a/+");
	assert_str(i.rest, "a/+");
	ck_assert_ptr_null(i.share.data);
	ck_assert(i.no_local && i.retain_as_published);
	ck_assert_uint_eq(i.qos, 1);
	ck_assert_uint_eq(i.retain_handling, 2);

	ck_assert(mqtt_subscribe_next(&items, 5, &i)); /* wrong syntax: to be refused alone */
	assert_str(i.filter, "$share/g/b#");
	ck_assert_ptr_null(i.rest.data);
	ck_assert_ptr_null(i.share.data);

	ck_assert(mqtt_subscribe_next(&items, 5, &i));
	assert_str(i.share, "g");
	assert_str(i.rest, "b/");
	ck_assert(!i.no_local && i.retain_as_published);
	ck_assert_uint_eq(i.qos, 2);
	ck_assert_uint_eq(i.retain_handling, 1);

	ck_assert(mqtt_subscribe_next(&items, 5, &i)); /* no second slash */
	ck_assert_ptr_null(i.rest.data);
	ck_assert(!mqtt_subscribe_next(&items, 5, &i));
	ck_assert(!mqtt_subscribe_next(&items, 5, &i));
	free(b.data);
}
END_TEST

START_TEST(a_suback_of_3x_knows_one_failure)
{
	static const uint8_t codes[] = { 0, 1, 2, RC_NOT_AUTHORIZED, RC_TOPIC_FILTER_INVALID };
	const struct mqtt_suback s = { .packet_id = 9,
		.codes = codes,
		.count = 5,
		.reason_string = GRAPNEL_STR("not on 3.x") };
	uint8_t out[9];

	ck_assert_uint_eq(mqtt_suback_size(4, MQTT_SUBACK, &s), 9);
	ck_assert_ptr_eq(mqtt_suback_encode(out, 4, MQTT_SUBACK, &s), out + 9);
	assert_bytes(out, 9, "90 07 0009 00 01 02 80 80");
	ck_assert_uint_eq(mqtt_suback_size(4, MQTT_UNSUBACK, &s), 4);
	ck_assert_ptr_eq(mqtt_suback_encode(out, 4, MQTT_UNSUBACK, &s), out + 4);
	assert_bytes(out, 4, "b0 02 0009");
}
END_TEST

/* ---- acknowledgements, DISCONNECT -------------------------------------------------------- */
START_TEST(an_acknowledgement_is_as_short_as_its_version_allows)
{
	struct mqtt_ack a = {
		.packet_id = 5, .reason_code = RC_NOT_AUTHORIZED, .reason_string = GRAPNEL_STR("no")
	};
	uint8_t out[16];

	ck_assert_ptr_eq(mqtt_ack_encode(out, 4, MQTT_PUBACK, &a), out + 4);
	assert_bytes(out, mqtt_ack_size(4, &a), "40 02 0005");
	mqtt_ack_encode(out, 5, MQTT_PUBREC, &a);
	assert_bytes(out, mqtt_ack_size(5, &a), "50 09 0005 87 05 1f 0002'no'");
	a.reason_string.data = NULL;
	mqtt_ack_encode(out, 5, MQTT_PUBREC, &a);
	assert_bytes(out, mqtt_ack_size(5, &a), "50 03 0005 87");
	a.reason_code = RC_SUCCESS;
	mqtt_ack_encode(out, 5, MQTT_PUBREL, &a);
	assert_bytes(out, mqtt_ack_size(5, &a), "62 02 0005");
}
END_TEST

START_TEST(a_disconnect_of_3x_is_two_bytes)
{
	const struct mqtt_disconnect d = { .reason_code = RC_SESSION_TAKEN_OVER,
		.reason_string = GRAPNEL_STR("gone") };
	uint8_t out[16];

	ck_assert_uint_eq(mqtt_disconnect_size(4, MQTT_DISCONNECT, &d), 2);
	mqtt_disconnect_encode(out, 4, MQTT_DISCONNECT, &d);
	assert_bytes(out, 2, "e0 00");
	mqtt_disconnect_encode(out, 5, MQTT_DISCONNECT, &d);
	assert_bytes(
	    out, mqtt_disconnect_size(5, MQTT_DISCONNECT, &d), "e0 09 8e 07 1f 0004'gone'");
}
END_TEST

START_TEST(types_and_reason_codes_have_names)
{
	ck_assert_str_eq(mqtt_type_name(MQTT_CONNECT), "CONNECT");
	ck_assert_str_eq(mqtt_type_name(MQTT_AUTH), "AUTH");
	ck_assert_str_eq(mqtt_type_name(0), "?");
	ck_assert_str_eq(mqtt_type_name(16), "?");
	ck_assert_str_eq(mqtt_reason_name(RC_SUCCESS), "Success");
	ck_assert_str_eq(mqtt_reason_name(RC_NOT_AUTHORIZED), "Not authorized");
	ck_assert_str_eq(mqtt_reason_name(RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED),
	    "Wildcard Subscriptions not supported");
	ck_assert_str_eq(mqtt_reason_name(0x03), "?");
	ck_assert_str_eq(mqtt_reason_name(1000), "?");
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("codec");
	TCase *tables = tcase_create("tables"), *text = tcase_create("text"),
	      *packets = tcase_create("packets");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(
	    tables, a_valid_packet_is_read_and_written_again, 0, COUNT(valid_cases));
	tcase_add_loop_test(tables, a_packet_cut_anywhere_is_refused_and_never_read_past_its_end, 0,
	    COUNT(valid_cases));
	tcase_add_loop_test(
	    tables, a_malformed_packet_is_refused_with_its_reason_code, 0, COUNT(malformed_cases));
	tcase_add_loop_test(
	    tables, a_fixed_header_is_read_refused_or_waited_for, 0, COUNT(frame_cases));
	tcase_add_test(tables, every_type_and_version_has_a_valid_packet_here);

	tcase_set_timeout(text, 60);
	tcase_add_test(text, a_cursor_keeps_its_first_failure_and_yields_nothing_after_it);
	tcase_add_test(text, an_empty_string_is_not_an_absent_one);
	tcase_add_test(text, a_variable_byte_integer_survives_and_has_its_shortest_form);
	tcase_add_test(text, utf8_is_checked_strictly_at_every_position);
	tcase_add_test(text, utf8_of_every_character_is_accepted);

	tcase_add_test(packets, connect_defaults_are_those_of_the_standard);
	tcase_add_test(packets, a_3x_session_without_clean_session_never_expires);
	tcase_add_test(packets, connect_properties_and_will_are_read);
	tcase_add_test(packets, a_refused_connect_still_tells_its_version);
	tcase_add_test(packets, connack_codes_of_3x_say_what_the_reason_code_means);
	tcase_add_test(packets, properties_of_every_kind_survive_in_their_order);
	tcase_add_test(packets, a_damaged_property_block_is_noticed_by_the_walk);
	tcase_add_test(
	    packets, forwarded_properties_keep_their_order_and_lose_what_belongs_to_the_sender);
	tcase_add_test(packets, a_plain_block_is_forwarded_as_it_came);
	tcase_add_test(packets, a_delivery_carries_expiry_alias_and_every_subscription_identifier);
	tcase_add_test(packets, a_packet_beyond_the_largest_remaining_length_has_no_size);
	tcase_add_test(packets, a_3x_publish_has_no_properties);
	tcase_add_test(packets, identifiers_of_0_are_refused_from_servers_too);
	tcase_add_test(packets, the_filters_of_a_subscribe_are_walked_with_their_options);
	tcase_add_test(packets, a_suback_of_3x_knows_one_failure);
	tcase_add_test(packets, an_acknowledgement_is_as_short_as_its_version_allows);
	tcase_add_test(packets, a_disconnect_of_3x_is_two_bytes);
	tcase_add_test(packets, types_and_reason_codes_have_names);

	suite_add_tcase(suite, tables);
	suite_add_tcase(suite, text);
	suite_add_tcase(suite, packets);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
