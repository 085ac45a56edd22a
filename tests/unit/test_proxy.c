/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Out of a buffer of the exact size, so that a read past it is seen; what is borrowed is looked at before it is freed. */
static void
parse(const void *bytes, size_t len, enum proxy_parsed expected, struct proxy_header *out)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	enum proxy_parsed got;

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, bytes, len);
	got = proxy_header_parse(copy, len, out);
	ck_assert_msg(got == expected, "%zu bytes \"%.*s\": %d, not %d (%s)", len, (int)len,
	    (const char *)bytes, (int)got, (int)expected, out->why != NULL ? out->why : "-");
	ck_assert_int_eq(got == PROXY_BAD, out->why != NULL);
	ck_assert_int_eq(got == PROXY_OK, out->size != 0);
	if (got != PROXY_OK) {
		ck_assert_uint_eq(out->address_len, 0);
		ck_assert_ptr_null(out->cn.data);
		ck_assert_ptr_null(out->authority.data);
		ck_assert_ptr_null(out->unique_id.data);
	}
	free(copy);
}

/* "192.0.2.1:4711", "[2001:db8::1]:4711", "" for none. */
static const char *
address_text(const struct proxy_header *p)
{
	static char text[80];
	char host[INET6_ADDRSTRLEN];

	text[0] = '\0';
	if (p->address_len == sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in =
		    (const struct sockaddr_in *)(const void *)&p->address;

		ck_assert_int_eq(in->sin_family, AF_INET);
		inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		snprintf(text, sizeof(text), "%s:%u", host, ntohs(in->sin_port));
	} else if (p->address_len == sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 =
		    (const struct sockaddr_in6 *)(const void *)&p->address;

		ck_assert_int_eq(in6->sin6_family, AF_INET6);
		inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
		snprintf(text, sizeof(text), "[%s]:%u", host, ntohs(in6->sin6_port));
	} else {
		ck_assert_uint_eq(p->address_len, 0);
	}
	return text;
}

/* ---- version 1 ------------------------------------------------------------------------------- */

static const struct {
	const char *line, *address;
	bool local;
} good_lines[] = {
	{ "PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n", "192.0.2.1:4711", false },
	{ "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535",
	    false },
	{ "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0", false },
	{ "PROXY TCP6 2001:db8::1 ::1 1 1883\r\n", "[2001:db8::1]:1", false },
	{ "PROXY TCP6 2001:DB8::A ::1 10 1883\r\n", "[2001:db8::a]:10", false },
	{ "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", false },
	/* What inet_ntop makes of an IPv4 address in a header of mixed families. */
	{ "PROXY TCP6 ::ffff:192.0.2.1 ::1 7 1883\r\n", "[::ffff:192.0.2.1]:7", false },
	{ "PROXY UNKNOWN\r\n", "", true },
	{ "PROXY UNKNOWN \r\n", "", true },
	{ "PROXY UNKNOWN whatever 1 2 3 \x01\xff\r\n", "", true },
	{ "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "", true },
};

START_TEST(a_line_is_taken_whole_and_what_follows_is_left)
{
	const char *line = good_lines[_i].line;
	size_t len = strlen(line);
	struct proxy_header p;
	char more[300];

	for (size_t n = 0; n < len; n++) /* byte by byte: nothing of it is anything else */
		parse(line, n, PROXY_MORE, &p);
	parse(line, len, PROXY_OK, &p);
	ck_assert_uint_eq(p.size, len);
	ck_assert_uint_eq(p.version, 1);
	ck_assert_int_eq(p.local, good_lines[_i].local);
	ck_assert_str_eq(address_text(&p), good_lines[_i].address);
	snprintf(more, sizeof(more), "%s\x10\x0c\nPROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", line);
	parse(more, strlen(more), PROXY_OK, &p);
	ck_assert_uint_eq(p.size, len);
}
END_TEST

static const char *const bad_lines[] = {
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\n", /* LF alone */
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r \n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883 \r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883 1\r\n",
	"PROXY TCP4  192.0.2.1 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 192.0.2.1\t198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 192.0.2.01 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.002 4711 1883\r\n",
	"PROXY TCP4 192.0.2 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 192.0.2.256 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 0x7f.0.0.1 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 localhost 198.51.100.2 4711 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 04711 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 01883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 65536 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 99999\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 +4711 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 -1 1883\r\n",
	"PROXY TCP4 192.0.2.1 198.51.100.2 4711 \r\n",
	"PROXY TCP4 2001:db8::1 ::1 4711 1883\r\n", /* the other family */
	"PROXY TCP6 192.0.2.1 198.51.100.2 4711 1883\r\n",
	"PROXY TCP6 2001:db8::1%eth0 ::1 4711 1883\r\n",
	"PROXY TCP6 2001:db8::1::2 ::1 4711 1883\r\n",
	"PROXY TCP6 2001:db8:00001::1 ::1 4711 1883\r\n", "PROXY TCP6 [::1] ::1 4711 1883\r\n",
	"PROXY TCP5 192.0.2.1 198.51.100.2 4711 1883\r\n",
	"PROXY UDP4 192.0.2.1 198.51.100.2 4711 1883\r\n",
	"PROXY tcp4 192.0.2.1 198.51.100.2 4711 1883\r\n", "PROXY TCP4\r\n", "PROXY TCP4 \r\n",
	"PROXY UNKNOWNX\r\n", "PROXY \r\n", "PROXY\r\n",
	"PROXY  TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n",
	"proxy TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n",
	" PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n",
	"\nPROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\r\n", "GET / HTTP/1.1\r\n\r\n",
	"\x10\x0c",         /* CONNECT */
	"\x16\x03\x01\x02", /* ClientHello */
};

START_TEST(a_line_that_breaks_the_grammar_is_refused)
{
	struct proxy_header p;

	parse(bad_lines[_i], strlen(bad_lines[_i]), PROXY_BAD, &p);
}
END_TEST

START_TEST(a_line_has_107_bytes_at_most)
{
	char line[200] = "PROXY UNKNOWN ";
	struct proxy_header p;

	memset(line + 14, 'x', sizeof(line) - 14);
	memcpy(line + 105, "\r\n", 2);
	parse(line, 106, PROXY_MORE, &p);
	parse(line, 107, PROXY_OK, &p);
	ck_assert_uint_eq(p.size, 107);
	memcpy(line + 105, "x\r\n", 3);
	parse(line, 106, PROXY_MORE, &p);
	parse(line, 107, PROXY_BAD, &p);
	parse(line, 200, PROXY_BAD, &p);
}
END_TEST

START_TEST(a_nul_hides_nothing)
{
	static const char in_the_middle[] = "PROXY TCP4 192.0.2.1 198.51.100.2 4711 1883\0 x\r\n";
	static const char early[] = "PROXY TCP4\0 192.0.2.1 198.51.100.2 4711 1883\r\n";
	struct proxy_header p;

	parse(in_the_middle, sizeof(in_the_middle) - 1, PROXY_BAD, &p);
	parse(early, sizeof(early) - 1, PROXY_BAD, &p);
}
END_TEST

/* ---- version 2 ------------------------------------------------------------------------------- */

struct header {
	uint8_t bytes[8192];
	size_t len;
};

static void
put(struct header *h, const void *bytes, size_t len)
{
	ck_assert_uint_le(h->len + len, sizeof(h->bytes));
	memcpy(h->bytes + h->len, bytes, len);
	h->len += len;
}

static void
length(struct header *h)
{
	h->bytes[14] = (uint8_t)((h->len - 16) >> 8);
	h->bytes[15] = (uint8_t)(h->len - 16);
}

static void
begin(struct header *h, uint8_t command, uint8_t family)
{
	static const uint8_t v4[12] = { 192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x67, 0x07, 0x5b };
	static const uint8_t v6[36] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 1, [31] = 1, 0x12, 0x67,
		0x07, 0x5b };
	static const uint8_t paths[216] = "/run/client.sock";

	h->len = 0;
	put(h, "\r\n\r\n\0\r\nQUIT\n", 12);
	put(h, (uint8_t[]){ command, family, 0, 0 }, 4);
	switch (family >> 4) {
	case 1:
		put(h, v4, sizeof(v4));
		break;
	case 2:
		put(h, v6, sizeof(v6));
		break;
	case 3:
		put(h, paths, sizeof(paths));
		break;
	default:
		break;
	}
	length(h);
}

static void
tlv(struct header *h, uint8_t type, const void *value, size_t len)
{
	put(h, (uint8_t[]){ type, (uint8_t)(len >> 8), (uint8_t)len }, 3);
	put(h, value, len);
	length(h);
}

static void
ssl(struct header *h, uint8_t client, uint32_t verify, const char *cn)
{
	uint8_t value[300] = { client, (uint8_t)(verify >> 24), (uint8_t)(verify >> 16),
		(uint8_t)(verify >> 8), (uint8_t)verify, 0x21, 0, 7, 'T', 'L', 'S', 'v', '1', '.',
		'3' };
	size_t n = 15, len = cn != NULL ? strlen(cn) : 0;

	if (cn != NULL) {
		value[n++] = 0x22;
		value[n++] = 0;
		value[n++] = (uint8_t)len;
		memcpy(value + n, cn, len);
		n += len;
	}
	tlv(h, 0x20, value, n);
}

static bool
equal(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static const struct {
	uint8_t command, family;
	const char *address;
	bool local;
} good_kinds[] = {
	{ 0x21, 0x11, "192.0.2.1:4711", false },
	{ 0x21, 0x12, "192.0.2.1:4711", false }, /* QUIC between client and proxy, perhaps */
	{ 0x21, 0x21, "[2001:db8::1]:4711", false },
	{ 0x21, 0x22, "[2001:db8::1]:4711", false },
	{ 0x21, 0x31, "", false },
	{ 0x21, 0x32, "", false },
	{ 0x21, 0x00, "", false },
	{ 0x20, 0x00, "", true },
	{ 0x20, 0x11, "", true }, /* the rest is ignored, whatever it is */
	{ 0x20, 0xff, "", true },
};

START_TEST(a_header_is_taken_whole_and_what_follows_is_left)
{
	struct proxy_header p;
	struct header h;
	size_t len;

	begin(&h, good_kinds[_i].command, good_kinds[_i].family);
	for (size_t n = 0; n < h.len; n++)
		parse(h.bytes, n, PROXY_MORE, &p);
	parse(h.bytes, h.len, PROXY_OK, &p);
	ck_assert_uint_eq(p.size, h.len);
	ck_assert_uint_eq(p.version, 2);
	ck_assert_int_eq(p.local, good_kinds[_i].local);
	ck_assert_str_eq(address_text(&p), good_kinds[_i].address);
	len = h.len;
	put(&h, "\x10\x0c", 2);
	parse(h.bytes, h.len, PROXY_OK, &p);
	ck_assert_uint_eq(p.size, len);
}
END_TEST

static const uint8_t bad_kinds[][2] = {
	{ 0x11, 0x11 },
	{ 0x31, 0x11 },
	{ 0x01, 0x11 }, /* version */
	{ 0x22, 0x11 },
	{ 0x2f, 0x11 }, /* command */
	{ 0x21, 0x10 },
	{ 0x21, 0x20 },
	{ 0x21, 0x30 },
	{ 0x21, 0x01 },
	{ 0x21, 0x02 },
	{ 0x21, 0x13 },
	{ 0x21, 0x1f },
	{ 0x21, 0x41 },
	{ 0x21, 0xf1 },
	{ 0x21, 0xff },
};

START_TEST(a_kind_that_is_not_assigned_is_refused)
{
	struct proxy_header p;
	struct header h;

	begin(&h, bad_kinds[_i][0], bad_kinds[_i][1]);
	parse(h.bytes, h.len, PROXY_BAD, &p);
	parse(h.bytes, 16, PROXY_BAD, &p); /* at once, not when connect_timeout has passed */
}
END_TEST

START_TEST(a_header_is_refused_when_too_short_for_its_addresses_or_too_long)
{
	static const uint8_t families[] = { 0x11, 0x21, 0x31 };
	static const size_t sizes[] = { 12, 36, 216 };
	struct proxy_header p;
	struct header h;

	for (unsigned i = 0; i < 3; i++) {
		begin(&h, 0x21, families[i]);
		h.bytes[15] = (uint8_t)(sizes[i] - 1);
		h.bytes[14] = 0;
		parse(h.bytes, h.len, PROXY_BAD, &p);
		h.bytes[15] = 0;
		parse(h.bytes, 16, PROXY_BAD, &p);
	}
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x04, (uint8_t[4096]){ 0 }, PROXY_HEADER_MAX - 28 - 3);
	ck_assert_uint_eq(h.len, PROXY_HEADER_MAX);
	parse(h.bytes, h.len - 1, PROXY_MORE, &p);
	parse(h.bytes, h.len, PROXY_OK, &p);
	ck_assert_uint_eq(p.size, PROXY_HEADER_MAX);
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x04, (uint8_t[4096]){ 0 }, PROXY_HEADER_MAX - 28 - 2);
	parse(h.bytes, 16, PROXY_BAD, &p); /* as soon as it is announced */
	parse(h.bytes, h.len, PROXY_BAD, &p);
	begin(&h, 0x20, 0x00);
	h.bytes[14] = h.bytes[15] = 0xff;
	parse(h.bytes, 16, PROXY_BAD, &p);
}
END_TEST

START_TEST(a_signature_that_is_not_quite_one_is_refused)
{
	struct proxy_header p;
	struct header h;

	for (unsigned i = 0; i < 12; i++) {
		begin(&h, 0x21, 0x11);
		h.bytes[i] ^= 1;
		parse(h.bytes, h.len, PROXY_BAD, &p);
		parse(h.bytes, i + 1, PROXY_BAD, &p);
	}
}
END_TEST

START_TEST(tlvs_say_more_of_the_client)
{
	struct proxy_header p;
	struct header h;

	begin(&h, 0x21, 0x11);
	tlv(&h, 0x01, "mqtt", 4);
	tlv(&h, 0x02, "broker.example.org", 18);
	tlv(&h, 0x04, "\0\0\0", 3);
	tlv(&h, 0x05, "\x00\xffid", 4);
	tlv(&h, 0x30, "namespace", 9);
	tlv(&h, 0xee, "", 0);
	ssl(&h, 0x07, 0, "sensor-7");
	ck_assert_int_eq(proxy_header_parse(h.bytes, h.len, &p), PROXY_OK);
	ck_assert(equal(p.authority, "broker.example.org"));
	ck_assert(equal(p.cn, "sensor-7"));
	ck_assert_uint_eq(p.unique_id.len, 4);
	ck_assert(memcmp(p.unique_id.data, "\x00\xffid", 4) == 0);
	ck_assert_str_eq(address_text(&p), "192.0.2.1:4711");

	/* A client of a Unix socket, say, has no address but may have a certificate. */
	begin(&h, 0x21, 0x00);
	ssl(&h, 0x03, 0, "local");
	ck_assert_int_eq(proxy_header_parse(h.bytes, h.len, &p), PROXY_OK);
	ck_assert(equal(p.cn, "local"));
	ck_assert_uint_eq(p.address_len, 0);

	/* LOCAL speaks for nobody, whatever it brings along. */
	begin(&h, 0x20, 0x11);
	ssl(&h, 0x07, 0, "spoofed");
	ck_assert_int_eq(proxy_header_parse(h.bytes, h.len, &p), PROXY_OK);
	ck_assert_ptr_null(p.cn.data);
}
END_TEST

static const struct {
	uint8_t client;
	uint32_t verify;
	const char *cn;
	bool believed;
} names[] = {
	{ 0x07, 0, "x", true },
	{ 0x03, 0, "x", true },  /* on this connection */
	{ 0x05, 0, "x", true },  /* on an earlier one of the session */
	{ 0x01, 0, "x", false }, /* no certificate */
	{ 0x06, 0, "x", false }, /* no TLS */
	{ 0x00, 0, "x", false },
	{ 0x07, 1, "x", false }, /* not verified */
	{ 0x07, 0x01000000, "x", false },
	{ 0x07, 0, NULL, false },
};

START_TEST(a_common_name_counts_only_when_verified)
{
	struct proxy_header p;
	struct header h;

	begin(&h, 0x21, 0x11);
	ssl(&h, names[_i].client, names[_i].verify, names[_i].cn);
	ck_assert_int_eq(proxy_header_parse(h.bytes, h.len, &p), PROXY_OK);
	ck_assert_int_eq(p.cn.data != NULL, names[_i].believed);
}
END_TEST

START_TEST(tlvs_whose_lengths_do_not_fit_are_refused)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rests[] = {
		{ "\x02", 1 },
		{ "\x02\x00", 2 },
		{ "\x02\x00\x01", 3 },
		{ "\x04\x00\x02x", 4 },
		{ "\xee\xff\xffxxxx", 7 },
		{ "\x20\x00\x04\x07\x00\x00\x00", 7 },
		{ "\x20\x00\x06\x07\x00\x00\x00\x00\x22", 9 },
		{ "\x20\x00\x08\x07\x00\x00\x00\x00\x22\x00\x01", 11 },
		{ "\x20\x00\x08\x07\x00\x00\x00\x00\x22\xff\xff", 11 },
		{ "\x20\x00\x00", 3 },
		{ "\x03\x00\x03xxx", 6 },
		{ "\x03\x00\x05xxxxx", 8 },
		{ "\x03\x00\x00", 3 },
	};
	struct proxy_header p;
	struct header h;

	for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
		begin(&h, 0x21, 0x11);
		put(&h, rests[i].bytes, rests[i].len);
		length(&h);
		parse(h.bytes, h.len, PROXY_BAD, &p);
	}
}
END_TEST

START_TEST(what_is_told_twice_or_too_long_is_refused)
{
	static const uint8_t twice[] = { 0x02, 0x05 };
	struct proxy_header p;
	struct header h;

	for (size_t i = 0; i < sizeof(twice); i++) {
		begin(&h, 0x21, 0x11);
		tlv(&h, twice[i], "a", 1);
		parse(h.bytes, h.len, PROXY_OK, &p);
		tlv(&h, twice[i], "b", 1);
		parse(h.bytes, h.len, PROXY_BAD, &p);
	}
	begin(&h, 0x21, 0x11);
	ssl(&h, 0x07, 0, "a");
	ssl(&h, 0x07, 0, "b");
	parse(h.bytes, h.len, PROXY_BAD, &p);
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x20, "\x07\0\0\0\0\x22\0\1a\x22\0\1b", 13);
	parse(h.bytes, h.len, PROXY_BAD, &p);
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x05, (uint8_t[129]){ 0 }, 128);
	parse(h.bytes, h.len, PROXY_OK, &p);
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x05, (uint8_t[129]){ 0 }, 129);
	parse(h.bytes, h.len, PROXY_BAD, &p);
}
END_TEST

START_TEST(a_checksum_is_verified)
{
	/* RFC 3720 appendix B.4: 32 bytes of zeroes; and the check value of the algorithm. */
	static const uint8_t zeroes[32];
	struct proxy_header p;
	struct header h;
	uint32_t crc;
	size_t at;

	ck_assert_uint_eq(proxy_crc32c(zeroes, sizeof(zeroes)), 0x8a9136aa);
	ck_assert_uint_eq(proxy_crc32c((const uint8_t *)"123456789", 9), 0xe3069283);
	begin(&h, 0x21, 0x11);
	tlv(&h, 0x03, "\0\0\0\0", 4);
	at = h.len - 4;
	tlv(&h, 0x02, "host", 4);
	crc = proxy_crc32c(h.bytes, h.len);
	for (unsigned i = 0; i < 4; i++)
		h.bytes[at + i] = (uint8_t)(crc >> (24 - 8 * i));
	parse(h.bytes, h.len, PROXY_OK, &p);
	for (size_t i = 13; i < h.len; i++) { /* whatever else is wrong then */
		if (i == at - 3)
			continue; /* it would not be a checksum any more */
		h.bytes[i] ^= 0x20;
		ck_assert_int_ne(proxy_header_parse(h.bytes, h.len, &p), PROXY_OK);
		h.bytes[i] ^= 0x20;
	}
	tlv(&h, 0x03, h.bytes + at, 4);
	parse(h.bytes, h.len, PROXY_BAD, &p);
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("proxy");
	TCase *v1 = tcase_create("version 1"), *v2 = tcase_create("version 2");
	SRunner *runner;
	int failed;

	LOOP(v1, a_line_is_taken_whole_and_what_follows_is_left, good_lines);
	LOOP(v1, a_line_that_breaks_the_grammar_is_refused, bad_lines);
	tcase_add_test(v1, a_line_has_107_bytes_at_most);
	tcase_add_test(v1, a_nul_hides_nothing);
	LOOP(v2, a_header_is_taken_whole_and_what_follows_is_left, good_kinds);
	LOOP(v2, a_kind_that_is_not_assigned_is_refused, bad_kinds);
	tcase_add_test(v2, a_header_is_refused_when_too_short_for_its_addresses_or_too_long);
	tcase_add_test(v2, a_signature_that_is_not_quite_one_is_refused);
	tcase_add_test(v2, tlvs_say_more_of_the_client);
	LOOP(v2, a_common_name_counts_only_when_verified, names);
	tcase_add_test(v2, tlvs_whose_lengths_do_not_fit_are_refused);
	tcase_add_test(v2, what_is_told_twice_or_too_long_is_refused);
	tcase_add_test(v2, a_checksum_is_verified);
	suite_add_tcase(s, v1);
	suite_add_tcase(s, v2);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
