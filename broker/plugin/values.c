/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include "base/log.h"
#include "store/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Constant once it is in a table, but for its place there. */
struct value {
	struct grapnel_str key; /* of `data`; first, so that a key alone can be compared with it */
	struct grapnel_str value;
	struct value *next, **link; /* all of the table, in no order */
	_Atomic uint32_t refs;
	char data[]; /* the key, then the value */
};

struct value_table {
	struct value_table *next;
	struct store *store; /* NULL: none */
	char *name;
	pthread_mutex_t lock;
	void *tree; /* of tsearch: by key */
	struct value *all;
	uint32_t count;
	uint64_t bytes, refused;
};

struct values {
	struct store *store;
	struct value_table *tables;
};

/* ---- values ------------------------------------------------------------------------------------ */

static uint64_t
size_of(const struct value *v)
{
	return v != NULL ? v->key.len + v->value.len : 0;
}

static void
value_unref(struct value *v)
{
	if (v != NULL && atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) == 1)
		free(v);
}

static struct value *
value_new(struct grapnel_str key, struct grapnel_str value)
{
	struct value *v = malloc(sizeof(*v) + key.len + value.len);

	if (v == NULL)
		return NULL;
	*v = (struct value){
		.key = { v->data, key.len }, .value = { v->data + key.len, value.len }, .refs = 1
	};
	memcpy(v->data, key.data, key.len);
	if (value.len > 0)
		memcpy(v->data + key.len, value.data, value.len);
	return v;
}

/* ---- tables ------------------------------------------------------------------------------------ */

/* The order of the keys' bytes. */
static int
by_key(const void *left, const void *right)
{
	const struct grapnel_str *a = left, *b = right;
	int order = memcmp(a->data, b->data, a->len < b->len ? a->len : b->len);

	return order != 0 ? order : (a->len > b->len) - (a->len < b->len);
}

struct values *
values_new(struct store *st)
{
	struct values *v = calloc(1, sizeof(*v));

	if (v != NULL)
		v->store = st;
	return v;
}

/* With the lock. The value is the caller's. */
static void
list_remove(struct value *v)
{
	*v->link = v->next;
	if (v->next != NULL)
		v->next->link = v->link;
}

static void
list_add(struct value_table *t, struct value *v)
{
	v->next = t->all;
	v->link = &t->all;
	if (v->next != NULL)
		v->next->link = &v->next;
	t->all = v;
}

static void
table_free(struct value_table *t)
{
	struct value *v;

	while ((v = t->all) != NULL) {
		(void)tdelete(v, &t->tree, by_key);
		list_remove(v);
		value_unref(v);
	}
	pthread_mutex_destroy(&t->lock);
	free(t->name);
	free(t);
}

void
values_free(struct values *v)
{
	struct value_table *t;

	if (v == NULL)
		return;
	while ((t = v->tables) != NULL) {
		v->tables = t->next;
		table_free(t);
	}
	free(v);
}

struct value_table *
values_find(const struct values *v, const char *name)
{
	struct value_table *t = v->tables;

	while (t != NULL && strcmp(t->name, name) != 0)
		t = t->next;
	return t;
}

struct value_table *
values_of(struct values *v, const char *name)
{
	struct value_table *t = values_find(v, name);

	if (t != NULL)
		return t;
	if ((t = calloc(1, sizeof(*t))) == NULL)
		return NULL;
	t->name = strdup(name);
	if (t->name == NULL || pthread_mutex_init(&t->lock, NULL) != 0) {
		free(t->name);
		free(t);
		return NULL;
	}
	t->store = v->store;
	t->next = v->tables;
	v->tables = t;
	return t;
}

/* With the lock. */
static struct value *
find(const struct value_table *t, const struct grapnel_str *key)
{
	struct value *const *node = tfind(key, &t->tree, by_key);

	return node != NULL ? *node : NULL;
}

static bool
key_valid(struct grapnel_str key)
{
	return key.data != NULL && key.len > 0 && key.len <= VALUE_KEY_MAX;
}

/* With the lock: v instead of `old` (NULL: beside the others). What was there may stay too big, but not grow. */
static int
admit(struct value_table *t, const struct value_limits *limits, const struct value *old,
    const struct value *v)
{
	uint64_t before = size_of(old), after = size_of(v);
	bool grows = old == NULL || after > before;

	if ((old == NULL && t->count >= limits->count) ||
	    (grows && t->bytes - before + after > limits->bytes) ||
	    (grows && t->store != NULL && store_state(t->store) == STORE_FULL)) {
		t->refused++;
		return GRAPNEL_EQUOTA;
	}
	return GRAPNEL_OK;
}

/* With the lock: v is taken over, and *old, what its key had, is the caller's. Without memory neither. */
static int
put(struct value_table *t, struct value *v, struct value **old)
{
	struct value **node = tsearch(v, &t->tree, by_key);

	if (node == NULL)
		return GRAPNEL_ENOMEM;
	if (*node == v) {
		*old = NULL;
		t->count++;
	} else {
		*old = *node;
		list_remove(*old);
		*node = v;
	}
	list_add(t, v);
	t->bytes = t->bytes - size_of(*old) + size_of(v);
	return GRAPNEL_OK;
}

/* With the lock: what put() did is undone; v is the caller's again. */
static void
take_back(struct value_table *t, struct value *v, struct value *old)
{
	struct value **node = tfind(v, &t->tree, by_key);

	list_remove(v);
	t->bytes = t->bytes - size_of(v) + size_of(old);
	if (old != NULL) {
		*node = old;
		list_add(t, old);
	} else {
		(void)tdelete(v, &t->tree, by_key);
		t->count--;
	}
}

/* With the lock. value.data NULL: it goes. */
static int
write_through(struct value_table *t, struct grapnel_str key, struct grapnel_str value)
{
	if (t->store == NULL)
		return GRAPNEL_OK;
	return store_put_value(
	    t->store, (struct grapnel_str){ t->name, strlen(t->name) }, key, value);
}

int
values_set(struct value_table *t, const struct value_limits *limits, struct grapnel_str key,
    struct grapnel_str value)
{
	struct value *v, *old = NULL;
	int err;

	if (!key_valid(key) || value.len > VALUE_MAX || (value.data == NULL && value.len > 0))
		return GRAPNEL_EINVAL;
	if ((v = value_new(key, value)) == NULL)
		return GRAPNEL_ENOMEM;
	pthread_mutex_lock(&t->lock);
	if ((err = admit(t, limits, find(t, &key), v)) == GRAPNEL_OK)
		err = put(t, v, &old);
	if (err == GRAPNEL_OK && (err = write_through(t, v->key, v->value)) != GRAPNEL_OK)
		take_back(t, v, old);
	pthread_mutex_unlock(&t->lock);
	value_unref(err == GRAPNEL_OK ? old : v);
	return err;
}

int
values_get(
    struct value_table *t, struct grapnel_str key, void *buffer, size_t capacity, size_t *len)
{
	const struct value *v;

	if (!key_valid(key) || (buffer == NULL && capacity > 0) || len == NULL)
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&t->lock);
	if ((v = find(t, &key)) != NULL) {
		*len = v->value.len;
		if (capacity > 0)
			memcpy(buffer, v->value.data, *len < capacity ? *len : capacity);
	}
	pthread_mutex_unlock(&t->lock);
	return v != NULL ? GRAPNEL_OK : GRAPNEL_ENOENT;
}

int
values_delete(struct value_table *t, struct grapnel_str key)
{
	const struct grapnel_str none = { NULL, 0 };
	int err = GRAPNEL_ENOENT;
	struct value *v;

	if (!key_valid(key))
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&t->lock);
	if ((v = find(t, &key)) != NULL && (err = write_through(t, key, none)) == GRAPNEL_OK) {
		(void)tdelete(v, &t->tree, by_key);
		list_remove(v);
		t->count--;
		t->bytes -= size_of(v);
	}
	pthread_mutex_unlock(&t->lock);
	if (err == GRAPNEL_OK)
		value_unref(v);
	return err;
}

/* ---- at start ---------------------------------------------------------------------------------- */

struct load {
	struct values *values;
	uint64_t odd;
	int err;
};

static void
on_stored(struct grapnel_str plugin, struct grapnel_str key, struct grapnel_str value, void *arg)
{
	struct load *l = arg;
	struct value_table *t = NULL;
	struct value *v, *old = NULL;
	char *name;

	if (plugin.len == 0 || !key_valid(key) || value.len > VALUE_MAX) {
		l->odd++; /* the store's checksum was right: not ours, or a newer broker's */
		return;
	}
	if ((name = strndup(plugin.data, plugin.len)) != NULL)
		t = values_of(l->values, name);
	free(name);
	v = t != NULL ? value_new(key, value) : NULL;
	if (v == NULL || put(t, v, &old) != GRAPNEL_OK) {
		free(v);
		l->err = GRAPNEL_ENOMEM;
	}
	value_unref(old);
}

int
values_load(struct values *v)
{
	struct load l = { .values = v };
	int err = store_each_value(v->store, on_stored, &l);

	if (l.odd > 0)
		log_warning("store: %" PRIu64 " values of plugins are longer than can be, and "
			    "left where they are",
		    l.odd);
	return err != GRAPNEL_OK ? err : l.err;
}

/* ---- all of them ------------------------------------------------------------------------------- */

/* With the lock: references to those whose key begins so. NULL: no memory. */
static struct value **
collect(struct value_table *t, struct grapnel_str prefix, uint32_t *count)
{
	struct value **found = malloc((t->count > 0 ? t->count : 1) * sizeof(*found));

	*count = 0;
	for (struct value *v = t->all; found != NULL && v != NULL; v = v->next) {
		if (v->key.len < prefix.len ||
		    (prefix.len > 0 && memcmp(v->key.data, prefix.data, prefix.len) != 0))
			continue;
		atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
		found[(*count)++] = v;
	}
	return found;
}

static int
by_key_of_value(const void *left, const void *right)
{
	return by_key(*(struct value *const *)left, *(struct value *const *)right);
}

int
values_each(struct value_table *t, struct grapnel_str prefix, grapnel_value_fn fn, void *arg)
{
	struct value **found;
	uint32_t count;
	bool more = true;

	if (fn == NULL || (prefix.data == NULL && prefix.len > 0))
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&t->lock);
	found = collect(t, prefix, &count);
	pthread_mutex_unlock(&t->lock);
	if (found == NULL)
		return GRAPNEL_ENOMEM;
	qsort(found, count, sizeof(*found), by_key_of_value);
	for (uint32_t i = 0; i < count; i++) {
		more = more && fn(arg, found[i]->key, found[i]->value);
		value_unref(found[i]);
	}
	free(found);
	return GRAPNEL_OK;
}

void
values_counts(struct value_table *t, struct value_counts *out)
{
	pthread_mutex_lock(&t->lock);
	*out = (struct value_counts){ .bytes = t->bytes, .refused = t->refused, .count = t->count };
	pthread_mutex_unlock(&t->lock);
}

void
values_each_name(const struct values *v,
    void (*fn)(void *arg, const char *name, const struct value_counts *n), void *arg)
{
	for (struct value_table *t = v->tables; t != NULL; t = t->next) {
		struct value_counts n;

		values_counts(t, &n);
		fn(arg, t->name, &n);
	}
}
