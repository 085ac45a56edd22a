/* SPDX-License-Identifier: Apache-2.0 */
#include "cidr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

/* Is everything behind the first `bits` bits zero? */
static bool
rest_is_zero(const uint8_t *address, unsigned bits)
{
	for (unsigned i = bits; i < 128; i++)
		if (address[i / 8] & 0x80 >> i % 8)
			return false;
	return true;
}

bool
cidr_parse(const char *text, struct cidr *out, char *why, size_t size)
{
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned max, bits;

	memset(out, 0, sizeof(*out));
	if (strcmp(text, "unix") == 0) {
		out->is_unix = true;
		return true;
	}
	if (len == 0 || len >= sizeof(host))
		goto malformed;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, out->address + 12) == 1) {
		memcpy(out->address, mapped, sizeof(mapped));
		max = 32;
	} else if (inet_pton(AF_INET6, host, out->address) == 1) {
		max = 128;
	} else {
		goto malformed;
	}
	bits = max;
	if (slash != NULL) {
		size_t digits = strspn(slash + 1, "0123456789");

		if (digits == 0 || digits > 3 || slash[1 + digits] != '\0' ||
		    (bits = (unsigned)strtoul(slash + 1, NULL, 10)) > max)
			goto malformed;
	}
	out->bits = (uint8_t)(128 - max + bits);
	if (!rest_is_zero(out->address, out->bits)) {
		snprintf(why, size,
		    "must have no bits behind the prefix: \"%s\" is one address; which network is "
		    "meant?",
		    text);
		return false;
	}
	return true;
malformed:
	snprintf(why, size,
	    "must be an address or a network such as \"10.0.0.0/8\", \"2001:db8::/32\" or "
	    "\"127.0.0.1\", or unix");
	return false;
}

bool
address_bytes(const struct sockaddr *sa, uint8_t out[static 16])
{
	if (sa->sa_family == AF_INET) {
		memcpy(out, mapped, sizeof(mapped));
		memcpy(out + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return true;
	}
	if (sa->sa_family != AF_INET6)
		return false;
	memcpy(out, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	return true;
}

static bool
prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) & (0xff00u >> rest & 0xffu)) == 0;
}

bool
cidr_contains(const struct cidr *set, unsigned count, const struct sockaddr *sa)
{
	uint8_t address[16];
	bool ip = address_bytes(sa, address);

	for (unsigned i = 0; i < count; i++) {
		if (set[i].is_unix ? sa->sa_family == AF_UNIX
				   : ip && prefix_equal(set[i].address, address, set[i].bits))
			return true;
	}
	return false;
}
