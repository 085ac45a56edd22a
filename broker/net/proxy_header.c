/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_header.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

#define FIXED 16u /* of version 2: signature, version and command, family, length */

enum tlv {
	TLV_AUTHORITY = 0x02,
	TLV_CRC32C = 0x03,
	TLV_UNIQUE_ID = 0x05,
	TLV_SSL = 0x20,
	TLV_SSL_CN = 0x22,
};
/* The byte in front of what TLV_SSL holds. */
enum ssl_client { SSL_USED = 0x01, CERTIFICATE_NOW = 0x02, CERTIFICATE_EARLIER = 0x04 };

static enum proxy_parsed
bad(struct proxy_header *out, const char *why)
{
	out->why = why;
	return PROXY_BAD;
}

static unsigned
get_u16(const uint8_t *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t)get_u16(p) << 16 | get_u16(p + 2);
}

/* ---- version 1: a line ----------------------------------------------------------------------- */

/* Decimal, no sign, no leading zero. */
static bool
get_port(const char *text, in_port_t *port)
{
	size_t len = strlen(text);
	unsigned value = 0;

	if (len == 0 || len > 5 || strspn(text, "0123456789") != len || (text[0] == '0' && len > 1))
		return false;
	for (size_t i = 0; i < len; i++)
		value = value * 10 + (unsigned)(text[i] - '0');
	*port = htons((in_port_t)value);
	return value <= 65535;
}

/* inet_pton takes no leading zeros, signs, zones or short forms. */
static bool
get_address(int family, const char *address, const char *port, struct proxy_header *out)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in in = { .sin_family = AF_INET };

	memset(&out->address, 0, sizeof(out->address));
	if (family == AF_INET) {
		memcpy(&out->address, &in, sizeof(in));
		out->address_len = sizeof(in);
		return inet_pton(family, address,
			   &((struct sockaddr_in *)(void *)&out->address)->sin_addr) == 1 &&
		    get_port(port, &((struct sockaddr_in *)(void *)&out->address)->sin_port);
	}
	memcpy(&out->address, &in6, sizeof(in6));
	out->address_len = sizeof(in6);
	return inet_pton(family, address,
		   &((struct sockaddr_in6 *)(void *)&out->address)->sin6_addr) == 1 &&
	    get_port(port, &((struct sockaddr_in6 *)(void *)&out->address)->sin6_port);
}

/* "192.0.2.1 198.51.100.1 4711 1883" */
static bool
get_endpoints(int family, char *text, struct proxy_header *out)
{
	char *field[4] = { text };
	unsigned n = 1;

	for (char *p = text; *p != '\0'; p++) {
		if (*p != ' ')
			continue;
		if (n == 4)
			return false;
		*p = '\0';
		field[n++] = p + 1;
	}
	/* The destination is not used, but a header that has none is none. */
	return n == 4 && get_address(family, field[1], field[3], out) &&
	    get_address(family, field[0], field[2], out);
}

static enum proxy_parsed
parse_v1(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
	static const char grammar[] = "a line that is not \"PROXY TCP4|TCP6|UNKNOWN ...\"";
	const uint8_t *end = memchr(bytes, '\n', len < PROXY_V1_MAX ? len : PROXY_V1_MAX);
	char line[PROXY_V1_MAX + 1];
	const char *text = line + sizeof("PROXY ") - 1;
	size_t n;
	int family;

	if (end == NULL)
		return len < PROXY_V1_MAX ? PROXY_MORE
					  : bad(out, "a line without an end in 107 bytes");
	n = (size_t)(end - bytes);
	if (n < sizeof("PROXY \r") - 1 || bytes[n - 1] != '\r')
		return bad(out, "a line of version 1 that does not end with CR LF");
	out->version = 1;
	out->size = n + 1;
	memcpy(line, bytes, n - 1);
	line[n - 1] = '\0';
	if (strncmp(text, "UNKNOWN", 7) == 0 && (text[7] == '\0' || text[7] == ' ')) {
		out->local = true; /* what follows is to be ignored */
		return PROXY_OK;
	}
	if (strlen(line) != n - 1)
		return bad(out, grammar);
	family = strncmp(text, "TCP4 ", 5) == 0 ? AF_INET
	    : strncmp(text, "TCP6 ", 5) == 0    ? AF_INET6
						: AF_UNSPEC;
	if (family == AF_UNSPEC)
		return bad(out, grammar);
	return get_endpoints(family, line + sizeof("PROXY TCP4 ") - 1, out)
	    ? PROXY_OK
	    : bad(out, "addresses or ports that are none");
}

/* ---- version 2: binary ----------------------------------------------------------------------- */

static uint32_t
crc_step(uint32_t crc, uint8_t byte)
{
	crc ^= byte;
	for (unsigned bit = 0; bit < 8; bit++)
		crc = crc >> 1 ^ ((crc & 1) != 0 ? UINT32_C(0x82f63b78) : 0);
	return crc;
}

uint32_t
proxy_crc32c(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++)
		crc = crc_step(crc, bytes[i]);
	return ~crc;
}

static bool
crc_good(const uint8_t *bytes, size_t len, const uint8_t *value)
{
	size_t at = (size_t)(value - bytes);
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++)
		crc = crc_step(crc, i >= at && i < at + 4 ? 0 : bytes[i]);
	return ~crc == get_u32(value);
}

/* Twice is refused: of two names one would be believed, and who knows which the proxy meant. */
static bool
told(struct grapnel_str *what, const uint8_t *value, size_t len)
{
	if (what->data != NULL)
		return false;
	*what = (struct grapnel_str){ (const char *)value, len };
	return true;
}

/* @return NULL: good; else what is wrong. */
static const char *
parse_ssl(const uint8_t *p, size_t len, struct proxy_header *out)
{
	struct grapnel_str cn = { 0 };
	bool verified;

	if (len < 5)
		return "a TLV about SSL that is too short";
	verified = (p[0] & SSL_USED) != 0 &&
	    (p[0] & (CERTIFICATE_NOW | CERTIFICATE_EARLIER)) != 0 && get_u32(p + 1) == 0;
	for (size_t at = 5; at < len;) {
		size_t n;

		if (len - at < 3 || (n = get_u16(p + at + 1)) > len - at - 3)
			return "a TLV about SSL with a length that does not fit";
		if (p[at] == TLV_SSL_CN && !told(&cn, p + at + 3, n))
			return "two common names";
		at += 3 + n;
	}
	if (verified)
		out->cn = cn;
	return NULL;
}

static const char *
parse_tlvs(const uint8_t *bytes, size_t at, size_t end, struct proxy_header *out)
{
	bool have_ssl = false, have_crc = false;
	const char *why;

	while (at < end) {
		const uint8_t *value = bytes + at + 3;
		size_t n;

		if (end - at < 3 || (n = get_u16(bytes + at + 1)) > end - at - 3)
			return "a TLV with a length that does not fit";
		switch (bytes[at]) {
		case TLV_AUTHORITY:
			if (!told(&out->authority, value, n))
				return "two TLVs of the authority";
			break;
		case TLV_UNIQUE_ID:
			if (n > PROXY_UNIQUE_ID_MAX)
				return "a unique id of more than 128 bytes";
			if (!told(&out->unique_id, value, n))
				return "two TLVs of the unique id";
			break;
		case TLV_CRC32C:
			if (n != 4 || have_crc)
				return "a TLV of the checksum that is none";
			if (!crc_good(bytes, end, value))
				return "a checksum that is wrong";
			have_crc = true;
			break;
		case TLV_SSL:
			if (have_ssl)
				return "two TLVs about SSL";
			have_ssl = true;
			if ((why = parse_ssl(value, n, out)) != NULL)
				return why;
			break;
		default: /* ALPN, NOOP, network name space, what a site has of its own */
			break;
		}
		at += 3 + n;
	}
	return NULL;
}

static void
take_address(int family, const uint8_t *p, struct proxy_header *out)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	if (family == AF_INET) {
		memcpy(&in.sin_addr, p, 4);
		memcpy(&in.sin_port, p + 8, 2);
		memcpy(&out->address, &in, sizeof(in));
		out->address_len = sizeof(in);
	} else {
		memcpy(&in6.sin6_addr, p, 16);
		memcpy(&in6.sin6_port, p + 32, 2);
		memcpy(&out->address, &in6, sizeof(in6));
		out->address_len = sizeof(in6);
	}
}

static enum proxy_parsed
parse_v2(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
	/* By the byte's upper half; the lower is stream or datagram, what the proxy spoke with the client. */
	static const struct {
		int family;
		size_t size;
	} kinds[] = { { AF_UNSPEC, 0 }, { AF_INET, 12 }, { AF_INET6, 36 }, { AF_UNIX, 216 } };
	unsigned command, kind, transport;
	const char *why;

	if (len > 12 && (bytes[12] >> 4 != 2 || (bytes[12] & 15) > 1))
		return bad(out, "a version or command that is unknown");
	if (len < FIXED)
		return PROXY_MORE;
	out->version = 2;
	out->size = FIXED + get_u16(bytes + 14);
	if (out->size > PROXY_HEADER_MAX)
		return bad(out, "a header of more than 4096 bytes");
	command = bytes[12] & 15;
	kind = bytes[13] >> 4;
	transport = bytes[13] & 15;
	if (command == 1 && (kind > 3 || transport > 2 || (kind == 0) != (transport == 0)))
		return bad(out, "an address family or protocol that is unknown");
	if (command == 1 && out->size - FIXED < kinds[kind].size)
		return bad(out, "a header too short for its addresses");
	if (len < out->size)
		return PROXY_MORE;
	if (command == 0) { /* LOCAL: all the rest is to be ignored */
		out->local = true;
		return PROXY_OK;
	}
	/* The path of a socket on the proxy's machine is no address here: the proxy's own counts then. */
	if (kinds[kind].family == AF_INET || kinds[kind].family == AF_INET6)
		take_address(kinds[kind].family, bytes + FIXED, out);
	why = parse_tlvs(bytes, FIXED + kinds[kind].size, out->size, out);
	return why == NULL ? PROXY_OK : bad(out, why);
}

/* ---------------------------------------------------------------------------------------------- */

static bool
begins_with(const uint8_t *bytes, size_t len, const void *with, size_t with_len)
{
	return memcmp(bytes, with, len < with_len ? len : with_len) == 0;
}

enum proxy_parsed
proxy_header_parse(const uint8_t *bytes, size_t len, struct proxy_header *out)
{
	enum proxy_parsed parsed;

	*out = (struct proxy_header){ 0 };
	if (len == 0)
		return PROXY_MORE;
	if (begins_with(bytes, len, signature, sizeof(signature)))
		parsed = parse_v2(bytes, len, out);
	else if (begins_with(bytes, len, "PROXY ", 6))
		parsed = parse_v1(bytes, len, out);
	else
		parsed = bad(out, "something else");
	if (parsed == PROXY_OK)
		return parsed;
	/* Nothing of what was not understood to the end. */
	*out = (struct proxy_header){ .why = out->why };
	return parsed;
}
