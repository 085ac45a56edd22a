/* SPDX-License-Identifier: Apache-2.0 */
/*
 * addresses - how many Network Connections each address has, and how fast they come
 *
 * For max_connections_per_address and connection_rate_per_address. An address is an IPv4 address or the /64 of an IPv6 one;
 * Unix sockets have none and are never counted. All listeners and workers count in one table, and a connection is compared
 * with the limits of the listener that it came to.
 *
 * An address is remembered as long as it has connections, and after that at least until it may come at full rate again. When the table is full, the address that has been without connections for longest makes room; if there
 * is none, the connection comes in uncounted.
 *
 * Threads:   any; one mutex, a leaf, taken only where a limit is set. Never blocks on anything else.
 * Bounded:   `capacity` entries of 48 bytes, which exist once a limit is set; METRIC_ADDRESSES,
 *            METRIC_ADDRESSES_UNCOUNTED. Slots are chosen by a keyed hash, so that peers cannot choose them.
 */
#ifndef BROKER_NET_ADDRESSES_H
#define BROKER_NET_ADDRESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addresses;
struct broker;
struct metrics;

#define ADDRESSES_MAX 262144u

struct address_key {
	uint8_t bytes[16]; /* IPv6, IPv4 mapped; the lower half of a /64 is 0 */
};
/* false: neither IPv4 nor IPv6. */
bool address_key_of(const struct sockaddr *sa, struct address_key *out);
bool address_key_of_text(const char *peer, struct address_key *out); /* "192.0.2.1:4711", "[2001:db8::1]:4711" */

enum addresses_verdict {
	ADDRESSES_COUNTED,   /* let it in; addresses_leave when it is gone */
	ADDRESSES_UNCOUNTED, /* let it in; the table is full, or there is no memory for it */
	ADDRESSES_TOO_MANY,
	ADDRESSES_TOO_FAST,
};

/* NULL: no memory. Of b only the hash key is used. */
struct addresses *addresses_new(const struct broker *b, uint32_t capacity);
void addresses_free(struct addresses *a); /* NULL is fine */
/*
 * A connection comes in. max: at once; rate: per second, with one second's worth in a burst; 0: no limit. now_ms is
 * monotonic, of whoever calls: small steps back do no harm. m: the caller's own.
 */
enum addresses_verdict addresses_enter(struct addresses *a, const struct address_key *key, uint32_t max, uint32_t rate,
    uint64_t now_ms, struct metrics *m);
void addresses_leave(struct addresses *a, const struct address_key *key, uint64_t now_ms, struct metrics *m);

#endif
