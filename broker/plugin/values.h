/* SPDX-License-Identifier: Apache-2.0 */
/*
 * values - what plugins keep under keys: one table for each name of an instance
 *
 * A table outlives its instances: the one that a reload makes finds what the one before has kept, also while both run. All values
 * are in memory; what is set or deleted goes to the store as well, which writes it in its own time, and from which they come at
 * start, those of names that no instance has included. A value is never changed, only replaced, and counted, so that whoever walks
 * a table does so without its lock and may change it on the way.
 *
 * Threads:   any, under one lock per table that is held for a look-up and a copy, or for one look at every key (values_each); the
 *            store's lock of small rows is taken under it, so that both see changes in the same order.
 *            values_new, values_load, values_free, values_of and values_each_name: main.
 * Ownership: the registry has the tables; an instance borrows its one.
 * Bounded:   by what each caller says (max_values, max_values_bytes of its section); what is there already stays.
 */
#ifndef BROKER_PLUGIN_VALUES_H
#define BROKER_PLUGIN_VALUES_H

#include <grapnel/host.h>

#define VALUE_KEY_MAX 1024u
#define VALUE_MAX     65536u

struct store;
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

struct values *values_new(struct store *st); /* NULL: no memory. st NULL: nothing outlives the process */
void values_free(struct values *v);	     /* NULL is fine */
/* What the store has, whatever the limits are now. GRAPNEL_ENOMEM, or an error of store_each_value: what could be read is there. */
int values_load(struct values *v);
struct value_table *values_find(const struct values *v, const char *name); /* NULL: there is none */
/* The table of that name, made if need be. NULL: no memory. */
struct value_table *values_of(struct values *v, const char *name);

/* As host->value_set and so on say. */
int values_set(struct value_table *t, const struct value_limits *limits, struct grapnel_str key, struct grapnel_str value);
int values_get(struct value_table *t, struct grapnel_str key, void *buffer, size_t capacity, size_t *len);
int values_delete(struct value_table *t, struct grapnel_str key);
int values_each(struct value_table *t, struct grapnel_str prefix, grapnel_value_fn fn, void *arg);
void values_each_name(const struct values *v, void (*fn)(void *arg, const char *name, const struct value_counts *n), void *arg);
void values_counts(struct value_table *t, struct value_counts *out);

#endif
