/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token - a JWT as a JWS in compact form (RFC 7515 section 7.1), and whether its signature is right
 *
 * token_read looks at what is not verified yet: the shape, and of the header alg, kid, typ and crit. Of all the rest nothing is used
 * (jku, x5u, jwk, x5c name keys that the sender brings along). token_keys compares alg with the list of the operator and with
 * the keys' own kinds; only what it found is given to token_verify.
 *
 * Threads:   pure; any.
 * Ownership: a token borrows the text; token_fini frees the rest.
 * Bounded:   by the length of the text, which the caller limits.
 */
#ifndef PLUGINS_AUTH_JWT_TOKEN_H
#define PLUGINS_AUTH_JWT_TOKEN_H

#include "keyset.h"

#include <jansson.h>

#define TOKEN_MAX_ALGS 16u

struct token {
	struct grapnel_str text;    /* all of it */
	struct grapnel_str payload; /* still encoded, a part of text */
	struct grapnel_str signed_part, signature;
	const struct key_alg *alg;
	char kid[KEY_MAX_KID + 1];
	bool has_kid;
};

/* Three parts of base64url with points between them, none of them empty: what may be a token. */
bool token_has_shape(struct grapnel_str text);

/* @return NULL; or why this is no token, a constant that may be shown to the client. */
const char *token_read(struct token *t, struct grapnel_str text);

/* Algorithms that the operator allows; count 0: all that go with a key. */
struct token_algs {
	const struct key_alg *algs[TOKEN_MAX_ALGS];
	size_t count;
};
/* Keys that may be tried, of the right kind: keyset_find. *why: NULL, or why there are none although the name is known. */
enum keyset_found token_keys(const struct token *t, const struct keyset *set, const struct token_algs *allowed,
    const struct key *keys[KEYSET_MAX_TRIES], size_t *count, const char **why);

/* All those keys are secrets: token_verify takes microseconds. Otherwise hundreds of them, and it is no work for a worker. */
bool token_is_quick(const struct token *t);

/* The key that made the signature; NULL: none of these. */
const struct key *token_verify(const struct token *t, const struct key *const keys[], size_t count);

/* The claims; NULL: not a JSON object, a name twice, a NUL, numbers beyond 64 bits ... A new reference. */
json_t *token_claims(const struct token *t);

#endif
