/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jwk - a JWK Set (RFC 7517, RFC 7518 section 6, RFC 8037) as keys
 *
 * What cannot be used here (other key types, "use": "enc", an algorithm or a curve that is not known, a key that is too weak) is
 * left out, as RFC 7517 section 5 wants it, and counted. Only public members are read.
 *
 * Threads:   any; pure.
 * Bounded:   by the length of the text and the room in the set.
 */
#ifndef PLUGINS_AUTH_JWT_JWK_H
#define PLUGINS_AUTH_JWT_JWK_H

#include "keyset.h"

struct jwk_report {
	unsigned used, left_out;
	char first[160]; /* why the first one was left out; "" when none was */
};

/*
 * Add the keys of a JWK Set, or a single JWK.
 * @param secrets  Whether "kty": "oct" may be in it: from a file, never from a URL that others read as well.
 * @return false: error (NUL-terminated, cut) says what is wrong with the text as a whole: it is no JWK Set, nothing in it can be
 *         used, or there are more keys than the set takes.
 */
bool jwk_set_read(struct keyset *set, struct grapnel_str text, bool secrets, const struct key_limits *limits,
    struct jwk_report *report, char *error, size_t error_size);

#endif
