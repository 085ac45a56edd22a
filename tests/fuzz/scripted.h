/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scripted - a stream whose peer is a script: bytes in portions of a chosen size, room for a chosen number of bytes
 *
 * It is as strict as TLS: after a write that was refused, the same bytes must come again, and not fewer. One thread.
 */
#ifndef TESTS_FUZZ_SCRIPTED_H
#define TESTS_FUZZ_SCRIPTED_H

#include "net/stream.h"

struct scripted {
	const uint8_t *in; /* what the peer sends, then EAGAIN, or with eof the end */
	size_t in_len, portion; /* at most so many in a read; 0: as many as asked for */
	bool eof;
	uint8_t *out; /* what it got; scripted_free */
	size_t out_len, room; /* bytes that go out before EAGAIN; SIZE_MAX: all */
	uint8_t *refused; /* offered in a write that was refused */
	size_t refused_len;
	unsigned reads, writes; /* calls */
	bool pending, was_shut, was_closed;
};

/* A stream on top of it; the script must outlive it. */
void scripted_stream(struct stream *s, struct scripted *script);
void scripted_free(struct scripted *script);

#endif
