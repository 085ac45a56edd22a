/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slots - which part of a Redis Cluster a key belongs to, and what its nodes say when it is not theirs
 *
 * Threads:   pure.
 */
#ifndef AUTH_REDIS_SLOTS_H
#define AUTH_REDIS_SLOTS_H

#include "endpoint.h"

#define SLOT_COUNT 16384u

/* CRC-16 of the hash tag, or of all of it. */
unsigned slot_of(struct grapnel_str key);

struct redirect {
	bool ask; /* ASK, this once; else MOVED */
	unsigned slot;
	struct endpoint to;
};
/* "MOVED 3999 127.0.0.1:6381"; a node that does not know its own name leaves the host out: `from` has it. */
bool redirect_parse(struct grapnel_str error, const struct endpoint *from, struct redirect *out);

#endif
