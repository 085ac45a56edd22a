/* SPDX-License-Identifier: Apache-2.0 */
#include "plugins.h"
#include "base/log.h"
#include "config/conf.h"
#include "core/broker.h"
#include "request.h"
#include <stdlib.h>
#include <string.h>

#define POOL_GRACE_MS 1000u

/* ---- what the sets share --------------------------------------------------------------------- */

/* false: no memory */
static bool
values_there(struct values *v)
{
	int err = values_load(v);

	if (err != GRAPNEL_OK && err != GRAPNEL_ENOMEM)
		log_error("store: not all that plugins keep can be read (error %d); going on with "
			  "what was read",
		    err);
	return err != GRAPNEL_ENOMEM;
}

static struct registry *
registry_new(struct broker *b)
{
	struct registry *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->refs = 1;
	r->broker = b;
	r->on_stopped = switch_on_instance_stopped;
	host_fill(&r->host, b->worker_count);
	if (r->host.random_bytes(r->cache_secret, sizeof(r->cache_secret)) != GRAPNEL_OK) {
		free(r);
		return NULL;
	}
	r->pool = offload_pool_new();
	if (r->pool == NULL) {
		free(r);
		return NULL;
	}
	r->values = values_new(b->store);
	if (r->values == NULL || (b->store != NULL && !values_there(r->values))) {
		values_free(r->values);
		(void)offload_pool_free(r->pool, POOL_GRACE_MS);
		free(r);
		return NULL;
	}
	return r;
}

void
registry_unref(struct registry *r)
{
	if (r == NULL || --r->refs > 0)
		return;
	for (unsigned i = 0; i <= r->broker->worker_count; i++) {
		if (r->broker->workers[i] != NULL)
			hooks_free(r->broker->workers[i]);
	}
	/*
	 * A job that hangs, or a plugin's thread, has its instance's memory, and so this, to the
	 * end of the process.
	 */
	if (r->stuck || !offload_pool_free(r->pool, POOL_GRACE_MS))
		return;
	values_free(r->values);
	free(r);
}

/* ---- one set --------------------------------------------------------------------------------- */

static int
hook_order(const struct plugin_settings *ps, enum hook h)
{
	for (unsigned i = 0; i < ps->hook_order_count; i++) {
		if (strcmp(ps->hook_orders[i].hook, hook_name(h)) == 0)
			return ps->hook_orders[i].order;
	}
	return ps->order;
}

static void
entry_fill(struct plugin_entry *e, const struct plugin_settings *ps)
{
	for (unsigned h = 0; h < HOOK_COUNT; h++)
		e->order[h] = hook_order(ps, (enum hook)h);
	e->on_error = (int)ps->on_error;
	e->timeout_ms = ps->timeout_ms;
	e->max_pending = ps->max_pending;
	e->offload_threads = ps->offload_threads;
	e->offload_queue = ps->offload_queue;
	e->event_queue = ps->event_queue > 0 ? ps->event_queue : 1;
	e->drain_ms = ps->drain_ms;
	e->values = (struct value_limits){ ps->max_values_bytes, ps->max_values };
	e->cache = (struct cache_limits){ .on = ps->cache,
		.ttl_ms = ps->cache_ttl_ms,
		.negative_ttl_ms = ps->cache_negative_ttl_ms,
		.jitter = ps->cache_jitter,
		.stale_ms = ps->stale_for_ms,
		.max_entries = ps->cache_size };
	e->breaker_failures = ps->breaker_failures;
	e->breaker_wait_ms = ps->breaker_wait_ms;
	e->breaker_max_wait_ms = ps->breaker_max_wait_ms;
	e->shadow = ps->shadow;
	e->listeners = &ps->listeners;
}

static void
policies_apply(const struct plugin_entry *e)
{
	struct instance *in = e->in;

	if (in->cache != NULL)
		cache_limit(in->cache, &e->cache);
	atomic_store(&in->breaker.failures_max, e->breaker_failures);
	atomic_store(&in->breaker.wait_first_ms, e->breaker_wait_ms);
	atomic_store(&in->breaker.wait_max_ms, e->breaker_max_wait_ms);
}

void
plugins_apply_limits(struct plugins *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		struct plugin_entry *e = &p->entries[i];

		policies_apply(e);
		atomic_store(&e->in->max_pending, e->max_pending);
		atomic_store(&e->in->event_capacity, e->event_queue);
		atomic_store(&e->in->drain_ms, e->drain_ms);
		atomic_store(&e->in->max_values, e->values.count);
		atomic_store(&e->in->max_values_bytes, e->values.bytes);
		offload_limits(
		    p->registry->pool, &e->in->lane, e->offload_threads, e->offload_queue);
	}
}

static bool
name_taken(const struct settings *s, unsigned i, struct conf_errors *errs)
{
	const struct plugin_settings *ps = &s->plugins[i];

	for (unsigned j = 0; j < i; j++) {
		if (s->plugins[j].enabled && strcmp(s->plugins[j].name, ps->name) == 0) {
			conf_errors_add(errs,
			    "%s: plugin \"%s\": an instance of this name stands at %s already; "
			    "give each its own title and "
			    "name the file with module = \"...\"",
			    ps->where, ps->name, s->plugins[j].where);
			return true;
		}
	}
	return false;
}

/* An instance of the set before that can go on as it is: same file, same options. */
static struct instance *
unchanged(const struct plugins *old, const struct plugin_settings *ps, const char *directory)
{
	for (unsigned i = 0; old != NULL && i < old->count; i++) {
		struct instance *in = old->entries[i].in;
		struct plugin_options *options;
		struct conf_errors ignored = { 0 };
		bool same = false;
		char *path;

		if (strcmp(in->name, ps->name) != 0)
			continue;
		if (in->plugin->reload_always)
			return NULL;
		path = instance_path(ps, directory);
		if (path != NULL && strcmp(path, in->module->path) == 0 &&
		    !module_replaced(in->module)) {
			options = plugin_options_new(ps, in->plugin->options, &ignored);
			same = options != NULL && plugin_options_equal(options, in->options);
			plugin_options_free(options);
			conf_errors_clear(
			    &ignored); /* if there are any, making the new one finds them again */
		}
		free(path);
		return same ? in : NULL;
	}
	return NULL;
}

static int
set_new(struct registry *r, const struct plugins *old, struct settings *s, struct conf_errors *errs,
    struct plugins **out)
{
	struct plugins *p = calloc(1, sizeof(*p));
	unsigned before = errs->count;

	if (p == NULL) {
		conf_errors_add(errs, "plugins: out of memory");
		return GRAPNEL_ENOMEM;
	}
	p->registry = r;
	r->refs++;
	p->settings = settings_ref(s);
	p->entries = calloc(s->plugin_count > 0 ? s->plugin_count : 1, sizeof(*p->entries));
	if (p->entries == NULL)
		conf_errors_add(errs, "plugins: out of memory");
	for (unsigned i = 0; p->entries != NULL && i < s->plugin_count; i++) {
		const struct plugin_settings *ps = &s->plugins[i];
		struct plugin_entry *e = &p->entries[p->count];

		if (!ps->enabled || name_taken(s, i, errs))
			continue;
		e->in = unchanged(old, ps, s->plugin_directory);
		if (e->in != NULL) {
			e->in->refs++;
		} else {
			e->in = instance_new(r, ps, s->plugin_directory, errs);
			e->fresh = true;
		}
		if (e->in == NULL)
			continue; /* said why; go on, to find all errors */
		entry_fill(e, ps);
		if (e->fresh)
			policies_apply(e);
		p->count++;
	}
	if (errs->count != before || !chains_make(p, s, errs)) {
		plugins_free(p);
		return GRAPNEL_EINVAL;
	}
	*out = p;
	return GRAPNEL_OK;
}

int
plugins_new(struct broker *b, struct settings *s, struct conf_errors *errs, struct plugins **out)
{
	struct registry *r = registry_new(b);
	int err;

	if (r == NULL) {
		conf_errors_add(errs, "plugins: out of memory");
		return GRAPNEL_ENOMEM;
	}
	err = set_new(r, NULL, s, errs, out);
	registry_unref(r);
	return err;
}

int
plugins_prepare(
    struct plugins *old, struct settings *s, struct conf_errors *errs, struct plugins **out)
{
	return set_new(old->registry, old, s, errs, out);
}

void
plugins_free(struct plugins *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i <= WORKER_MAX; i++)
		chain_set_unref(p->sets[i]);
	for (unsigned i = 0; i < p->count; i++)
		instance_unref(p->entries[i].in);
	chains_free(p);
	free(p->entries);
	settings_unref(p->settings);
	registry_unref(p->registry);
	free(p);
}

bool
plugins_have(const struct plugins *p, enum hook h)
{
	return p != NULL && p->chain_length[h] > 0;
}

int
plugins_cache_purge(struct plugins *p, const char *plugin, struct grapnel_str username,
    struct grapnel_str client_id, uint64_t *forgotten)
{
	bool found = plugin == NULL;

	*forgotten = 0;
	for (unsigned i = 0; p != NULL && i < p->count; i++) {
		struct instance *in = p->entries[i].in;

		if (plugin != NULL && strcmp(in->name, plugin) != 0)
			continue;
		found = true;
		if (in->cache != NULL)
			*forgotten += cache_purge(in->cache, username, client_id);
	}
	return found ? GRAPNEL_OK : GRAPNEL_ENOENT;
}

struct forget {
	struct value_table *table;
	uint32_t count;
	int err;
};

static bool
forget_value(void *arg, struct grapnel_str key, struct grapnel_str value)
{
	struct forget *f = arg;

	(void)value;
	f->err = values_delete(f->table, key);
	f->count += f->err == GRAPNEL_OK;
	return f->err == GRAPNEL_OK;
}

int
plugins_values_forget(struct plugins *p, const char *name, uint32_t *forgotten)
{
	struct registry *r = p->registry;
	struct forget f = { .table = values_find(r->values, name) };
	int err;

	*forgotten = 0;
	for (unsigned i = 0; i < INSTANCE_MAX; i++)
		if (r->by_number[i] != NULL && strcmp(r->by_number[i]->name, name) == 0)
			return GRAPNEL_ESTATE;
	if (f.table == NULL)
		return GRAPNEL_ENOENT;
	err = values_each(f.table, GRAPNEL_STR(""), forget_value, &f);
	*forgotten = f.count;
	if (err == GRAPNEL_OK)
		err = f.err;
	return err == GRAPNEL_OK && f.count == 0 ? GRAPNEL_ENOENT : err;
}
