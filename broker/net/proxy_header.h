/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_header - what a proxy says in front of a connection: PROXY protocol, versions 1 and 2
 *
 * Bytes into a struct, nothing else: proxy.c does the reading. The grammar is that of "The PROXY protocol, versions 1 & 2"
 * (haproxy's doc/proxy-protocol.txt), and what it does not allow is refused: whoever is unsure where a header ends
 * might take a part of it for MQTT.
 *
 * Threads:   any.
 * Ownership: the result borrows from the bytes.
 * Bounded:   PROXY_V1_MAX, PROXY_HEADER_MAX.
 */
#ifndef BROKER_NET_PROXY_HEADER_H
#define BROKER_NET_PROXY_HEADER_H

#include <grapnel/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define PROXY_V1_MAX	    107u  /* with its CRLF */
#define PROXY_HEADER_MAX    4096u /* of version 2, all in all */
#define PROXY_UNIQUE_ID_MAX 128u

enum proxy_parsed {
	PROXY_OK,   /* out->size bytes are the header */
	PROXY_MORE, /* so far it may be one: all these bytes belong to it, and there are more to come */
	PROXY_BAD,  /* out->why */
};
struct proxy_header {
	size_t size;
	unsigned version;
	bool local; /* nobody is spoken for: the proxy itself, or a client it cannot name */
	struct sockaddr_storage address; /* of the client */
	socklen_t address_len;		 /* 0: not told; the socket's own counts */
	/* data NULL: not told */
	struct grapnel_str authority; /* the name of the host that the client wanted, SNI */
	struct grapnel_str unique_id; /* any bytes, at most PROXY_UNIQUE_ID_MAX */
	struct grapnel_str cn;	      /* of the client's certificate, which the proxy has verified */
	const char *why;	      /* "a line without an end in 107 bytes"; constant */
};

enum proxy_parsed proxy_header_parse(const uint8_t *bytes, size_t len, struct proxy_header *out);
/* CRC32c, RFC 3720 appendix B.4: of the header with its own value as zero. */
uint32_t proxy_crc32c(const uint8_t *bytes, size_t len);

#endif
