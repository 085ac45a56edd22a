/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values - what plugins keep under keys: one table for each name of an instance
 *
 * A table outlives its instances: the one that a reload makes finds what the one before has kept, also while both run. All values
 * are in memory. A value is never changed, only replaced, and counted, so that whoever walks a table does so without its lock and
 * may change it on the way.
 *
 * Threads:   any, under one lock per table that is held for a look-up and a copy, or for one look at every key (values_each).
 *            values_new, values_free and values_of: main.
 * Ownership: the registry has the tables; an instance borrows its one.
 * Bounded:   by what each caller says (max_values, max_values_bytes of its section); what is there already stays.
 */
#ifndef BROKER_PLUGIN_VALUES_H
#define BROKER_PLUGIN_VALUES_H

#include <grapnel/host.h>

#define VALUE_KEY_MAX 1024u
#define VALUE_MAX     65536u

struct values;
struct value_table;

struct value_limits {
	uint64_t bytes; /* of keys and values */
	uint32_t count;
};
struct value_counts {
	uint64_t bytes, refused;
	uint32_t count;
};

struct values *values_new(void);    /* NULL: no memory */
void values_free(struct values *v); /* NULL is fine */
/* The table of that name, made if need be. NULL: no memory. */
struct value_table *values_of(struct values *v, const char *name);

/* As host->value_set and so on say. */
int values_set(struct value_table *t, const struct value_limits *limits, struct grapnel_str key, struct grapnel_str value);
int values_get(struct value_table *t, struct grapnel_str key, void *buffer, size_t capacity, size_t *len);
int values_delete(struct value_table *t, struct grapnel_str key);
int values_each(struct value_table *t, struct grapnel_str prefix, grapnel_value_fn fn, void *arg);
void values_counts(struct value_table *t, struct value_counts *out);

#endif
