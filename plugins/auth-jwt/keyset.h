/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyset - keys by name
 *
 * A kid from a token is compared with the names of the keys that are loaded, byte by byte, and used for nothing else.
 *
 * Threads:   while it is filled one thread's; then immutable and counted, any.
 * Bounded:   max_keys; KEYSET_MAX_TRIES keys are tried for one token.
 */
#ifndef PLUGINS_AUTH_JWT_KEYSET_H
#define PLUGINS_AUTH_JWT_KEYSET_H

#include "key.h"

#define KEYSET_MAX_TRIES 8u

struct keyset {
	atomic_uint refs;
	size_t count, capacity;
	struct key *keys[];
};

struct keyset *keyset_new(size_t max_keys);
/* Takes the caller's reference, also when it fails: full, or the very same key is there already (then true). */
bool keyset_add(struct keyset *set, struct key *key);
/* All of another one, as far as there is room. */
bool keyset_add_all(struct keyset *set, const struct keyset *other);
struct keyset *keyset_ref(struct keyset *set);
void keyset_unref(struct keyset *set); /* NULL is fine */
bool keyset_same(const struct keyset *a, const struct keyset *b); /* the same keys in the same order */

enum keyset_found {
	KEYSET_NONE = 0,     /* no key of that name */
	KEYSET_MISFIT = 1,   /* there are some, but none that the algorithm goes with */
	KEYSET_FOUND = 2,
	KEYSET_TOO_MANY = 3, /* more than KEYSET_MAX_TRIES: the token has to say which */
};
/*
 * The keys to check a token with. With a kid: those of that name; when there are none, those without a name. Without: all
 * that the algorithm goes with. Borrowed from the set.
 */
enum keyset_found keyset_find(const struct keyset *set, struct grapnel_str kid, const struct key_alg *alg,
    const struct key *found[KEYSET_MAX_TRIES], size_t *count);
bool keyset_has_id(const struct keyset *set, struct grapnel_str id);

#endif
