/* SPDX-License-Identifier: MIT-0 */
/*
 * schema - a part of JSON Schema: what a JSON value has to look like
 *
 * type, enum, const; properties, required, additionalProperties (true or false); items (one schema), minItems, maxItems;
 * minimum, maximum; minLength, maxLength. What only explains ($schema, $id, $comment, title, description, default, examples) is
 * passed over; any other keyword is an error, since one that is passed over would let pass what was meant to be refused.
 *
 * Threads:   immutable once loaded; use it on any.
 * Ownership: schema_load gives it to the caller, who frees it.
 * Bounded:   SCHEMA_DEPTH_MAX levels, and no deeper does a check go, whatever the value looks like; CHECK_STEPS_MAX steps.
 */
#ifndef SCHEMA_H
#define SCHEMA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define SCHEMA_DEPTH_MAX 16u
#define SCHEMA_BYTES_MAX (256u * 1024u)

struct schema; /* opaque: schema.c */

/* NULL: error (cut to error_size) says what and where. Reads a file: for create(). */
struct schema *schema_load(const char *path, char *error, size_t error_size);
void schema_free(struct schema *s); /* NULL is fine */

/* false: reason says where and what: "/values/3: 140 is more than 120". Of the value it shows numbers alone. */
bool schema_check(const struct schema *s, const json_t *value, char *reason, size_t reason_size);

#endif
