/* SPDX-License-Identifier: Apache-2.0 */
/*
 * curl_guard - no connection to an address that is not of the public Internet
 *
 * Looked at is the address that a socket is about to be connected to, whatever name, answer of a DNS server or redirect has led
 * there; and the address of a connection that another target, without this option, has left open.
 */
#include "curl_private.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* The IANA registries of special-purpose addresses: what is not reachable from everywhere. */
static const struct {
	uint32_t net;
	unsigned bits;
} private_v4[] = {
	{ 0x00000000, 8 },  /* this network */
	{ 0x0a000000, 8 },  /* private: RFC 1918 */
	{ 0x64400000, 10 }, /* shared by a carrier's customers: RFC 6598 */
	{ 0x7f000000, 8 },  /* loopback */
	{ 0xa9fe0000, 16 }, /* link-local; clouds tell secrets there */
	{ 0xac100000, 12 }, /* private */
	{ 0xc0000000, 24 }, /* protocol assignments */
	{ 0xc0000200, 24 }, /* documentation */
	{ 0xc0586300, 24 }, /* 6to4 relays */
	{ 0xc0a80000, 16 }, /* private */
	{ 0xc6120000, 15 }, /* benchmarks */
	{ 0xc6336400, 24 }, /* documentation */
	{ 0xcb007100, 24 }, /* documentation */
	{ 0xe0000000, 3 },  /* multicast, reserved, broadcast */
};

static bool
v4_is_private(uint32_t address)
{
	for (size_t i = 0; i < sizeof(private_v4) / sizeof(private_v4[0]); i++)
		if ((address ^ private_v4[i].net) >> (32 - private_v4[i].bits) == 0)
			return true;
	return false;
}

static bool
begins(const unsigned char *address, const char *prefix, size_t len)
{
	return memcmp(address, prefix, len) == 0;
}

static uint32_t
v4_at(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool
v6_is_private(const unsigned char a[16])
{
	if (begins(a, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) || /* IPv4-mapped */
	    begins(a, "\0\x64\xff\x9b\0\0\0\0\0\0\0\0", 12)) /* NAT64 */
		return v4_is_private(v4_at(a + 12));
	if ((a[0] & 0xe0) != 0x20) /* all else outside 2000::/3: loopback, ULA, link-local ... */
		return true;
	if (begins(a, "\x20\x02", 2)) /* 6to4 */
		return v4_is_private(v4_at(a + 2));
	return begins(a, "\x20\x01\x0d\xb8", 4) ||     /* documentation */
	    (begins(a, "\x20\x01", 2) && a[2] < 2) ||  /* 2001::/23: Teredo, ORCHID, benchmarks */
	    (begins(a, "\x3f\xff", 2) && a[2] < 0x10); /* 3fff::/20: documentation */
}

bool
curl_address_is_private(const struct sockaddr *address)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;

	switch (address->sa_family) {
	case AF_INET:
		memcpy(&v4, address, sizeof(v4));
		return v4_is_private(ntohl(v4.sin_addr.s_addr));
	case AF_INET6:
		memcpy(&v6, address, sizeof(v6));
		return v6_is_private(v6.sin6_addr.s6_addr);
	default:
		return true;
	}
}

bool
curl_text_is_private(const char *text)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return curl_address_is_private((const struct sockaddr *)&v4);
	if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1)
		return curl_address_is_private((const struct sockaddr *)&v6);
	return true; /* with a zone, or no address at all */
}

bool
curl_guard_address(struct curl_call *c, const struct sockaddr *address)
{
	const void *bytes;

	if (!c->target->no_private || !curl_address_is_private(address))
		return true;
	bytes = address->sa_family == AF_INET
	    ? (const void *)&((const struct sockaddr_in *)(const void *)address)->sin_addr
	    : (const void *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	if ((address->sa_family != AF_INET && address->sa_family != AF_INET6) ||
	    inet_ntop(address->sa_family, bytes, c->guarded, sizeof(c->guarded)) == NULL)
		(void)snprintf(c->guarded, sizeof(c->guarded), "it");
	return false;
}

/* CURLOPT_PREREQFUNCTION: before each request, also on a connection that was open. */
int
curl_guard_on_request(void *arg, char *theirs, char *ours, int their_port, int our_port)
{
	struct curl_call *c = arg;

	(void)ours;
	(void)their_port;
	(void)our_port;
	if (!curl_text_is_private(theirs))
		return CURL_PREREQFUNC_OK;
	(void)snprintf(c->guarded, sizeof(c->guarded), "%s", theirs);
	return CURL_PREREQFUNC_ABORT;
}
