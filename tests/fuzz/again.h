/* SPDX-License-Identifier: Apache-2.0 */
/*
 * again - decode a packet and encode what was read, for round trips
 *
 * Two packets that mean the same have the same digest: it covers every member a decoder fills
 * except User Properties where the encoder has no place for them. Used by the fuzz target and
 * by the unit tests of the codec.
 */
#ifndef TESTS_FUZZ_AGAIN_H
#define TESTS_FUZZ_AGAIN_H

#include "mqtt/packet.h"

struct again {
	uint8_t err;	 /* what the decoder said */
	const char *why; /* and why */
	uint64_t digest; /* when err == 0 */
	uint8_t *bytes;	 /* encoded again: of exact size, to be freed; NULL: refused, or too long */
	size_t len;
};

/*
 * packet is one whole packet, fixed header included, which mqtt_frame_read accepted as *f.
 * The body is decoded out of a buffer of its exact size, so that ASan sees a read past it.
 */
void again(uint8_t version, bool from_server, const struct mqtt_frame *f, const uint8_t *packet,
    struct again *out);

#endif
