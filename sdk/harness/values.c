/* SPDX-License-Identifier: Apache-2.0 */
/* Values that instances keep: one table for the run, sorted by key, so that a reload's new instance has the old one's. */
#include "inside.h"
#include <stdlib.h>
#include <string.h>

#define KEY_MAX   1024u
#define VALUE_MAX 65536u

struct value {
	struct value *next;
	struct grapnel_str key, value; /* of data */
	char data[];
};

static int
order_of(struct grapnel_str a, struct grapnel_str b)
{
	int order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* With the lock: where the key is, or would be. */
static struct value **
place_of(harness *h, struct grapnel_str key, bool *there)
{
	struct value **at = &h->values;
	int order = 1;

	while (*at != NULL && (order = order_of((*at)->key, key)) < 0)
		at = &(*at)->next;
	*there = *at != NULL && order == 0;
	return at;
}

static struct value *
value_new(struct grapnel_str key, struct grapnel_str value)
{
	struct value *v = malloc(sizeof(*v) + key.len + value.len);

	if (v == NULL)
		return NULL;
	v->key = (struct grapnel_str){ v->data, key.len };
	v->value = (struct grapnel_str){ v->data + key.len, value.len };
	memcpy(v->data, key.data, key.len);
	if (value.len > 0)
		memcpy(v->data + key.len, value.data, value.len);
	return v;
}

static bool
key_valid(struct grapnel_str key)
{
	return key.data != NULL && key.len > 0 && key.len <= KEY_MAX;
}

/* With the lock. What a limit of the section says to one more, or a longer one. */
static bool
room_for(harness *h, const struct value *old, const struct value *neu)
{
	const struct plugin_settings *s = h->running != NULL ? h->running->section : NULL;
	uint64_t bytes = 0, count = 0;

	if (s == NULL)
		return true;
	for (const struct value *v = h->values; v != NULL; v = v->next) {
		count++;
		bytes += v->key.len + v->value.len;
	}
	if (old != NULL && neu->value.len <= old->value.len)
		return true;
	return count + (old == NULL) <= s->max_values &&
	    bytes + neu->key.len + neu->value.len <= s->max_values_bytes;
}

int
value_put(harness *h, struct grapnel_str key, struct grapnel_str value)
{
	struct value *neu, *old, **at;
	bool there;

	if (!key_valid(key) || value.len > VALUE_MAX || (value.data == NULL && value.len > 0))
		return GRAPNEL_EINVAL;
	if ((neu = value_new(key, value)) == NULL)
		return GRAPNEL_ENOMEM;
	pthread_mutex_lock(&h->lock);
	at = place_of(h, key, &there);
	old = there ? *at : NULL;
	if (!room_for(h, old, neu)) {
		pthread_mutex_unlock(&h->lock);
		free(neu);
		return GRAPNEL_EQUOTA;
	}
	neu->next = old != NULL ? old->next : *at;
	*at = neu;
	pthread_mutex_unlock(&h->lock);
	free(old);
	return GRAPNEL_OK;
}

bool
value_look(harness *h, struct grapnel_str key, struct grapnel_str *value)
{
	struct value **at;
	bool there;

	pthread_mutex_lock(&h->lock);
	at = place_of(h, key, &there);
	if (there)
		*value = (struct grapnel_str){ copy_text((*at)->value.data, (*at)->value.len),
			(*at)->value.len };
	pthread_mutex_unlock(&h->lock);
	return there && value->data != NULL;
}

static int
value_set(struct grapnel_instance *self, struct grapnel_str key, struct grapnel_str value)
{
	struct plug *p = plug_of(self, "value_set");

	return p != NULL ? value_put(p->h, key, value) : GRAPNEL_EINVAL;
}

static int
value_get(const struct grapnel_instance *self, struct grapnel_str key, void *buffer,
    size_t capacity, size_t *len)
{
	struct plug *p = plug_of(self, "value_get");
	struct value **at;
	bool there;

	if (p == NULL || !key_valid(key) || len == NULL || (buffer == NULL && capacity > 0))
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&p->h->lock);
	at = place_of(p->h, key, &there);
	if (there) {
		size_t n = (*at)->value.len < capacity ? (*at)->value.len : capacity;

		if (n > 0)
			memcpy(buffer, (*at)->value.data, n);
		*len = (*at)->value.len;
	}
	pthread_mutex_unlock(&p->h->lock);
	return there ? GRAPNEL_OK : GRAPNEL_ENOENT;
}

static int
value_delete(struct grapnel_instance *self, struct grapnel_str key)
{
	struct plug *p = plug_of(self, "value_delete");
	struct value **at, *old = NULL;
	bool there;

	if (p == NULL || !key_valid(key))
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&p->h->lock);
	at = place_of(p->h, key, &there);
	if (there) {
		old = *at;
		*at = old->next;
	}
	pthread_mutex_unlock(&p->h->lock);
	free(old);
	return there ? GRAPNEL_OK : GRAPNEL_ENOENT;
}

static void
list_free(struct value *list)
{
	struct value *v;

	while ((v = list) != NULL) {
		list = v->next;
		free(v);
	}
}

static int
value_each(
    const struct grapnel_instance *self, struct grapnel_str prefix, grapnel_value_fn fn, void *arg)
{
	struct plug *p = plug_of(self, "value_each");
	struct value *copies = NULL, **end = &copies;
	int err = GRAPNEL_OK;

	if (p == NULL || fn == NULL || (prefix.data == NULL && prefix.len > 0))
		return GRAPNEL_EINVAL;
	pthread_mutex_lock(&p->h->lock);
	for (const struct value *v = p->h->values; v != NULL && err == GRAPNEL_OK; v = v->next) {
		if (v->key.len < prefix.len ||
		    (prefix.len > 0 && memcmp(v->key.data, prefix.data, prefix.len) != 0))
			continue;
		*end = value_new(v->key, v->value);
		if (*end == NULL) {
			err = GRAPNEL_ENOMEM;
			break;
		}
		(*end)->next = NULL;
		end = &(*end)->next;
	}
	pthread_mutex_unlock(&p->h->lock);
	for (const struct value *v = copies; v != NULL && err == GRAPNEL_OK; v = v->next) {
		if (!fn(arg, v->key, v->value))
			break;
	}
	list_free(copies);
	return err;
}

static int
value_sync(struct grapnel_instance *self, grapnel_call_fn fn, void *arg)
{
	struct plug *p = plug_here(self, "value_sync");

	if (p == NULL)
		return GRAPNEL_ESTATE;
	if (fn == NULL)
		return GRAPNEL_EINVAL;
	return posted_add(p->h, (unsigned)worker_here(), p, "value_sync callback", fn, arg, false);
}

void
host_values(struct grapnel_host *host)
{
	host->value_set = value_set;
	host->value_get = value_get;
	host->value_delete = value_delete;
	host->value_each = value_each;
	host->value_sync = value_sync;
}

void
values_free(harness *h)
{
	list_free(h->values);
	h->values = NULL;
}
