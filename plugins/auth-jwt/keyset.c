/* SPDX-License-Identifier: Apache-2.0 */
#include "keyset.h"

#include <stdlib.h>
#include <string.h>

struct keyset *
keyset_new(size_t max_keys)
{
	struct keyset *set = calloc(1, sizeof(*set) + max_keys * sizeof(struct key *));

	if (set == NULL)
		return NULL;
	atomic_init(&set->refs, 1);
	set->capacity = max_keys;
	return set;
}

static bool
same_name(const struct key *a, const struct key *b)
{
	if (a->kid == NULL || b->kid == NULL)
		return a->kid == b->kid;
	return strcmp(a->kid, b->kid) == 0;
}

static bool
same(const struct key *a, const struct key *b)
{
	return same_name(a, b) && a->kind == b->kind && a->only == b->only &&
	    strcmp(a->id, b->id) == 0;
}

bool
keyset_add(struct keyset *set, struct key *key)
{
	for (size_t i = 0; i < set->count; i++)
		if (same(set->keys[i], key)) {
			key_unref(key);
			return true;
		}
	if (set->count == set->capacity) {
		key_unref(key);
		return false;
	}
	set->keys[set->count++] = key;
	return true;
}

bool
keyset_add_all(struct keyset *set, const struct keyset *other)
{
	for (size_t i = 0; i < other->count; i++)
		if (!keyset_add(set, key_ref(other->keys[i])))
			return false;
	return true;
}

struct keyset *
keyset_ref(struct keyset *set)
{
	atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
	return set;
}

void
keyset_unref(struct keyset *set)
{
	if (set == NULL || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < set->count; i++)
		key_unref(set->keys[i]);
	free(set);
}

bool
keyset_same(const struct keyset *a, const struct keyset *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (!same(a->keys[i], b->keys[i]))
			return false;
	return true;
}

static bool
is_named(const struct key *key, struct grapnel_str kid)
{
	return key->kid != NULL && strlen(key->kid) == kid.len &&
	    memcmp(key->kid, kid.data, kid.len) == 0;
}

static bool
has_name(const struct keyset *set, struct grapnel_str kid)
{
	for (size_t i = 0; i < set->count; i++)
		if (is_named(set->keys[i], kid))
			return true;
	return false;
}

enum keyset_found
keyset_find(const struct keyset *set, struct grapnel_str kid, const struct key_alg *alg,
    const struct key *found[KEYSET_MAX_TRIES], size_t *count)
{
	bool named = kid.data != NULL && has_name(set, kid), any = false;

	*count = 0;
	for (size_t i = 0; i < set->count; i++) {
		const struct key *key = set->keys[i];

		if (named ? !is_named(key, kid) : kid.data != NULL && key->kid != NULL)
			continue;
		any = true;
		if (!key_fits(key, alg))
			continue;
		if (*count == KEYSET_MAX_TRIES)
			return KEYSET_TOO_MANY;
		found[(*count)++] = key;
	}
	return *count > 0 ? KEYSET_FOUND : any ? KEYSET_MISFIT : KEYSET_NONE;
}

bool
keyset_has_id(const struct keyset *set, struct grapnel_str id)
{
	for (size_t i = 0; i < set->count; i++)
		if (strlen(set->keys[i]->id) == id.len &&
		    memcmp(set->keys[i]->id, id.data, id.len) == 0)
			return true;
	return false;
}
