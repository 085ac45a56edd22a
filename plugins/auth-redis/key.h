/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key - names of keys made from templates, so that no client reaches a key that is meant for another
 *
 * A user called "alice:acl" must not be looked up where alice's rules are, nor "a*" mean anything. What a value may not
 * have as it is: the separators, "%", characters of glob patterns and hash tags, white space and control characters.
 *
 *	KEY_ENCODE	they become %3A and the like: every value has its own key
 *	KEY_REFUSE	a value with one of them has no key: nobody here is called so
 *	KEY_RAW		as they are; only for templates that cannot collide (keys_cannot_collide)
 *
 * An absent or empty value, and one whose key would be too long, has no key either.
 *
 * Threads:   a key is immutable; use it on any.
 * Bounded:   max_key bytes.
 */
#ifndef AUTH_REDIS_KEY_H
#define AUTH_REDIS_KEY_H

#include "common/template.h"

enum key_names { KEY_ENCODE, KEY_REFUSE, KEY_RAW };

struct key_rules {
	enum key_names names;
	struct grapnel_str separators;
	size_t max_key;
};

struct key {
	struct template *template;
	const struct key_rules *rules;
};

enum key_result {
	KEY_OK,
	KEY_NONE,  /* there is no such key */
	KEY_NO_MEMORY,
};

/* out: on the heap, free() it. */
enum key_result key_fill(const struct key *key, const struct template_values *v, struct grapnel_str *out);

/* Does every template end with its only place, and does none begin like another one? */
bool keys_cannot_collide(const struct key *const *keys, size_t count);

/*
 * Whose key is that? The template's only place is filled into `value` (heap, NUL-terminated) and its field returned.
 * 0: not a key of this template. Templates with other than one place: UINT_MAX when its texts fit.
 */
unsigned key_owner(const struct key *key, struct grapnel_str name, struct grapnel_str *value);

/* A pattern for PSUBSCRIBE that all keys of the template match, behind a prefix. Heap, NUL-terminated; NULL: no memory. */
char *key_pattern(const struct key *key, const char *prefix);

#endif
