/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cidr - sets of addresses as written in the configuration: "10.0.0.0/8", "2001:db8::/32", "192.0.2.7", "unix"
 *
 * An IPv4 address that arrives on a dual-stack socket (::ffff:192.0.2.7) is the IPv4 address.
 *
 * Threads: any; values are constant once parsed.
 */
#ifndef BROKER_CONFIG_CIDR_H
#define BROKER_CONFIG_CIDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct cidr {
	bool is_unix;	     /* every Unix socket peer */
	uint8_t bits;	     /* of address, IPv4 being mapped: 96 + its own */
	uint8_t address[16]; /* as IPv6, IPv4 mapped; the bits behind the prefix are 0 */
};

/* false: why says what was expected, as "must ...". */
bool cidr_parse(const char *text, struct cidr *out, char *why, size_t size);
bool cidr_contains(const struct cidr *set, unsigned count, const struct sockaddr *sa);
/* The address as IPv6, IPv4 mapped. false: neither IPv4 nor IPv6. */
bool address_bytes(const struct sockaddr *sa, uint8_t out[static 16]);

#endif
