/* SPDX-License-Identifier: Apache-2.0 */
#include "core/broker.h"

#include <string.h>

static inline uint64_t
rotl(uint64_t x, int b)
{
	return x << b | x >> (64 - b);
}

#define SIPROUND                                                          \
	do {                                                              \
		v0 += v1, v1 = rotl(v1, 13), v1 ^= v0, v0 = rotl(v0, 32); \
		v2 += v3, v3 = rotl(v3, 16), v3 ^= v2;                    \
		v0 += v3, v3 = rotl(v3, 21), v3 ^= v0;                    \
		v2 += v1, v1 = rotl(v1, 17), v1 ^= v2, v2 = rotl(v2, 32); \
	} while (0)

/* SipHash-2-4. */
uint64_t
broker_hash(const struct broker *b, struct grapnel_str s)
{
	uint64_t k0, k1, m, v0, v1, v2, v3, last = (uint64_t)s.len << 56;
	size_t i;

	memcpy(&k0, b->hash_key, 8);
	memcpy(&k1, b->hash_key + 8, 8);
	v0 = k0 ^ 0x736f6d6570736575u;
	v1 = k1 ^ 0x646f72616e646f6du;
	v2 = k0 ^ 0x6c7967656e657261u;
	v3 = k1 ^ 0x7465646279746573u;
	for (i = 0; i + 8 <= s.len; i += 8) {
		memcpy(&m, s.data + i, 8);
		v3 ^= m;
		SIPROUND;
		SIPROUND;
		v0 ^= m;
	}
	for (unsigned shift = 0; i < s.len; i++, shift += 8)
		last |= (uint64_t)(unsigned char)s.data[i] << shift;
	v3 ^= last;
	SIPROUND;
	SIPROUND;
	v0 ^= last;
	v2 ^= 0xff;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

unsigned
broker_home(const struct broker *b, struct grapnel_str client_id)
{
	return (unsigned)(broker_hash(b, client_id) % b->worker_count);
}
