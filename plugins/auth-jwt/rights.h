/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rights - what the claims of a token say about its client: user name, attributes, rights and limits
 *
 * Whatever cannot be understood is a fault of the whole token: nobody is let in with half of the rules.
 *
 * Threads:   a map is immutable; any.
 * Ownership: the map borrows its names from the options.
 */
#ifndef PLUGINS_AUTH_JWT_RIGHTS_H
#define PLUGINS_AUTH_JWT_RIGHTS_H

#include "../common/grant.h"

#include <jansson.h>

#define RIGHTS_MAX_ATTRIBUTES (GRANT_MAX_ATTRIBUTES - 1) /* one is ours */
#define RIGHTS_KEY_ATTRIBUTE  "jwt_key"

struct rights_attribute {
	char *name;	   /* of the attribute */
	const char *claim; /* a part of the same text */
};
struct rights_map { /* NULL: not asked for */
	char *username, *superuser, *mountpoint, *acl, *limits;
	struct rights_attribute attributes[RIGHTS_MAX_ATTRIBUTES];
	size_t attribute_count;
};

/* "claim" or "attribute=claim"; false: error says why. */
bool rights_map_add(struct rights_map *m, struct grapnel_str text, char *error, size_t error_size);
void rights_map_fini(struct rights_map *m);

/* @return NULL; or why the token is not usable, a text that lives as long as the grant. */
const char *rights_fill(const struct rights_map *m, const json_t *claims, struct grant *g);

#endif
