/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of an instance: loaded, its section checked, create, worker_start; and back: worker_stop on each worker when nothing
 * of it is under way, destroy, unloaded. What it then has left is found.
 */
#include "inside.h"
#include "left.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- handles ------------------------------------------------------------------------------------- */

struct plug *
plug_of(const struct grapnel_instance *self, const char *function)
{
	harness *h = the_harness;
	struct plug *p;

	pthread_mutex_lock(&h->lock);
	for (p = h->plugs; p != NULL && (const void *)p != (const void *)self; p = p->next)
		continue;
	pthread_mutex_unlock(&h->lock);
	if (p != NULL && p->state != PLUG_GONE)
		return p;
	if (p != NULL) {
		finding(
		    h, "use after destroy: %s with an instance that has been destroyed", function);
		return NULL;
	}
	finding(
	    h, "bad handle: %s was given %p, which is no instance", function, (const void *)self);
	return NULL;
}

struct plug *
plug_here(const struct grapnel_instance *self, const char *function)
{
	struct plug *p = plug_of(self, function);
	int worker = worker_here();

	if (p == NULL)
		return NULL;
	if (worker < 0) {
		finding(p->h, "wrong thread: %s is for workers; use post() to get there", function);
		return NULL;
	}
	return p->workers[worker].callable ? p : NULL;
}

bool
plug_has(const struct plug *p, enum hook hook)
{
	const struct grapnel_plugin *d = &p->plugin;
	const bool has[HOOK_COUNT] = {
		[HOOK_AUTHENTICATE] = d->client_authenticate != NULL,
		[HOOK_AUTH_EXCHANGE] = d->client_auth_exchange != NULL,
		[HOOK_REVALIDATE] = d->client_revalidate != NULL,
		[HOOK_ACL] = d->acl_check != NULL,
		[HOOK_PUBLISH] = d->message_publish != NULL,
		[HOOK_SUBSCRIBE] = d->client_subscribe != NULL,
		[HOOK_UNSUBSCRIBE] = d->client_unsubscribe != NULL,
		[HOOK_DELIVER] = d->message_deliver != NULL,
		[HOOK_ACKNOWLEDGE] = d->message_acknowledge != NULL,
		[HOOK_TLS_PSK] = d->tls_psk_key != NULL,
	};

	return has[hook] && (p->disabled & (1u << hook)) == 0;
}

/* ---- making one ------------------------------------------------------------------------------------ */

static void
errors_tell(struct conf_errors *errs, char *error, size_t size)
{
	size_t len = 0;

	error[0] = '\0';
	for (unsigned i = 0; i < errs->count && len + 1 < size; i++)
		len += (size_t)snprintf(
		    error + len, size - len, "%s%s", i > 0 ? "\n" : "", errs->messages[i]);
	if (errs->count == 0)
		snprintf(error, size, "no reason given");
	conf_errors_clear(errs);
}

/* The section as conf.d would have it, at the lines where it stands in the script, and more listeners behind it. */
static struct conf_node *
section_parse(
    const struct plug *p, const char *shown, const char *listeners, struct conf_errors *errs)
{
	const harness *h = p->h;
	int above = h->section_line > 1 ? h->section_line - 1 : 0;
	struct conf_node *tree;
	char *text, *padding = calloc(1, (size_t)above + 1);
	int len;

	if (padding == NULL)
		return NULL;
	memset(padding, '\n', (size_t)above);
	len = asprintf(&text,
	    "%slistener \"mqtt\" { bind = \"127.0.0.1:1883\" } plugin \"%s\" { %s\n}\n%s", padding,
	    p->name, h->section != NULL ? h->section : "", listeners);
	free(padding);
	if (len < 0)
		return NULL;
	tree = conf_parse(text, (size_t)len, shown, errs);
	free(text);
	return tree;
}

static bool
named_before(const struct conf_node *list, unsigned n, const char *title)
{
	for (unsigned i = 0; i < n; i++) {
		if (list[i].value != NULL && strcmp(list[i].value, title) == 0)
			return true;
	}
	return strcmp(title, "mqtt") == 0;
}

/* Sections of the listeners that the option `listeners` names: which there are is not the plugin's matter. Heap. */
static char *
listeners_named(const struct conf_node *tree)
{
	const struct conf_node *plugin = conf_find(tree, "plugin");
	const struct conf_node *node = plugin != NULL ? conf_find(plugin, "listeners") : NULL;
	const struct conf_node *list = node != NULL && node->kind == CONF_LIST ? node->items : node;
	unsigned count = node == NULL ? 0 : node->kind == CONF_LIST ? node->item_count : 1;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (unsigned i = 0; out != NULL && i < count; i++) {
		const char *title = list[i].value;

		/* Others are no titles: the broker's own words say so. */
		if (title != NULL && conf_is_title(title) && !named_before(list, i, title))
			fprintf(
			    out, "listener \"%s\" { bind = \"127.0.0.1:%u\" }\n", title, 1884 + i);
	}
	if (out != NULL && fclose(out) != 0) {
		free(text);
		return NULL;
	}
	return text;
}

static bool
section_read(struct plug *p, struct conf_errors *errs)
{
	const char *shown = p->h->shown_as != NULL ? p->h->shown_as : "section";
	struct conf_node *tree = section_parse(p, shown, "", errs);
	char *listeners = tree != NULL ? listeners_named(tree) : NULL;

	if (listeners != NULL && *listeners != '\0') {
		conf_free(tree);
		tree = section_parse(p, shown, listeners, errs);
	}
	free(listeners);
	if (tree == NULL || settings_from_tree(tree, shown, errs, &p->settings) != GRAPNEL_OK)
		return false;
	if (p->settings->plugin_count != 1)
		return false;
	p->section = &p->settings->plugins[0];
	p->options = plugin_options_new(p->section, p->plugin.options, errs);
	return p->options != NULL;
}

static bool
descriptor_get(struct plug *p, char *error, size_t size)
{
	harness *h = p->h;
	char why[MODULE_ERROR_SIZE];
	const struct grapnel_plugin *d = h->linked;

	if (d != NULL &&
	    (d->magic != GRAPNEL_PLUGIN_MAGIC || d->create == NULL ||
		(d->events != 0 && d->on_events == NULL))) {
		snprintf(error, size,
		    "the descriptor has no magic number, no create, or events and no on_events; "
		    "the broker would refuse it");
		return false;
	}
	if (d != NULL) {
		memcpy(&p->plugin, d, d->size < sizeof(p->plugin) ? d->size : sizeof(p->plugin));
		return true;
	}
	p->module = module_load(&h->modules, h->path, why);
	if (p->module == NULL) {
		snprintf(error, size, "%s: %s", h->path, why);
		return false;
	}
	p->plugin = p->module->descriptor;
	return true;
}

static void
start_here(harness *h, unsigned worker, void *arg)
{
	struct plug *p = arg;
	struct plug_worker *pw = &p->workers[worker];
	struct call c;
	int err = GRAPNEL_OK;

	pw->callable = true;
	pw->events_end = &pw->events;
	atomic_store(&pw->open, true);
	if (p->plugin.worker_start != NULL) {
		call_begin(&c, p, "worker_start");
		err = p->plugin.worker_start(p->instance, worker);
		call_end(&c);
	}
	pw->started = err == GRAPNEL_OK;
	if (!pw->started) {
		char text[100];

		snprintf(
		    text, sizeof(text), "worker_start failed on worker %u (error %d)", worker, err);
		conf_errors_add(&p->errs, "%s", text);
		atomic_store(&pw->open, false);
	}
	(void)h;
}

static bool
instance_create(struct plug *p)
{
	struct call c;
	int err;

	p->state = PLUG_CREATING;
	clock_live(p->h, true);
	call_begin(&c, p, "create");
	err = p->plugin.create(&p->h->host, (struct grapnel_instance *)(void *)p, &p->instance);
	call_end(&c);
	clock_live(p->h, false);
	p->state = PLUG_NEW;
	if (err == GRAPNEL_OK && p->complained) {
		finding(p->h, "contract: create called config_error and returned GRAPNEL_OK");
		if (p->plugin.destroy != NULL)
			p->plugin.destroy(p->instance);
		return false;
	}
	if (err != GRAPNEL_OK && !p->complained)
		conf_errors_add(&p->errs,
		    "create failed (error %d) and gave no reason; say it with config_error", err);
	return err == GRAPNEL_OK;
}

static void
instance_destroy(struct plug *p)
{
	struct call c;

	clock_live(p->h, true);
	call_begin(&c, p, "destroy");
	if (p->plugin.destroy != NULL)
		p->plugin.destroy(p->instance);
	call_end(&c);
	clock_live(p->h, false);
}

static bool
plugs_gone(const harness *h)
{
	const struct plug *p;

	for (p = h->plugs; p != NULL && p->state == PLUG_GONE; p = p->next)
		continue;
	return p == NULL;
}

/* Back to where it has no code any more. */
static void
plug_unload(struct plug *p)
{
	harness *h = p->h;
	bool runs;

	p->state = PLUG_GONE;
	commands_drop(p);
	runs = left_report(h, plugs_gone(h));
	if (!h->stuck) { /* they look at the plugin's table */
		plugin_options_free(p->options);
		p->options = NULL;
	}
	if (p->module != NULL)
		module_unref(&h->modules, p->module, !runs && !h->stuck);
	p->module = NULL;
	if (h->running == p)
		h->running = NULL;
}

static void stop_here(harness *h, unsigned worker, void *arg);

struct plug *
plug_start(harness *h, char *error, size_t size)
{
	struct plug *p = calloc(1, sizeof(*p));
	bool created = false, ok;

	snprintf(error, size, "out of memory");
	if (p == NULL)
		return NULL;
	p->h = h;
	p->number = h->plug_count++;
	p->name = strdup(h->name);
	left_remember(h, plugs_gone(h));
	pthread_mutex_lock(&h->lock);
	p->next = h->plugs;
	h->plugs = p;
	pthread_mutex_unlock(&h->lock);
	ok = p->name != NULL && descriptor_get(p, error, size);
	if (!ok) {
		p->state = PLUG_GONE;
		return NULL;
	}
	for (unsigned i = 0; i < HOOK_COUNT; i++)
		p->depends[i] = GRAPNEL_DEPENDS_ALL;
	atomic_store(&p->events, p->plugin.on_events != NULL ? p->plugin.events : 0);
	ok = section_read(p, &p->errs) && (created = instance_create(p));
	for (unsigned i = 0; ok && i < h->worker_count; i++)
		ok = on_worker(h, i, start_here, p) && p->workers[i].started;
	reports_out(h);
	if (ok) {
		p->state = PLUG_RUNS;
		conf_errors_clear(&p->errs);
		return p;
	}
	for (unsigned i = 0; created && i < h->worker_count; i++)
		(void)on_worker(h, i, stop_here, p);
	if (created)
		instance_destroy(p);
	errors_tell(&p->errs, error, size);
	plug_unload(p);
	reports_out(h);
	return NULL;
}

/* ---- its end ------------------------------------------------------------------------------------------ */

static void
stop_here(harness *h, unsigned worker, void *arg)
{
	struct plug *p = arg;
	struct plug_worker *pw = &p->workers[worker];
	struct call c;

	(void)h;
	if (pw->started) {
		listeners_close(p, worker);
		atomic_store(&pw->open, false);
		clients_slots_drop(p, worker);
		if (p->plugin.worker_stop != NULL) {
			call_begin(&c, p, "worker_stop");
			p->plugin.worker_stop(p->instance, worker);
			call_end(&c);
		}
	}
	things_leaked(p, worker);
	events_drop(p, worker);
	pw->started = pw->callable = false;
}

static void
plug_retiring(struct plug *p)
{
	if (p->state != PLUG_RETIRING)
		p->retiring_since_ms = clock_now(p->h);
	p->state = PLUG_RETIRING;
}

/* Events that it has not taken yet are offered for a while, as in the broker. */
static bool
events_left(const struct plug *p)
{
	bool some = false;

	for (unsigned i = 0; i < p->h->worker_count; i++)
		some = some || (p->workers[i].started && p->workers[i].event_count > 0);
	return some && clock_now(p->h) - p->retiring_since_ms < GRACE_MS;
}

static bool
plug_busy(struct plug *p)
{
	harness *h = p->h;
	bool busy = false;

	pthread_mutex_lock(&h->lock);
	for (const struct asked *a = h->asks; a != NULL && !busy; a = a->next)
		busy = a->plug == p && a->state != ASK_DONE;
	pthread_mutex_unlock(&h->lock);
	for (unsigned i = 0; i < h->worker_count && !busy; i++)
		busy = things_busy(p, i);
	return busy || events_left(p);
}

static void
plug_leave(struct plug *p)
{
	harness *h = p->h;

	clock_live(h, true);
	for (unsigned i = 0; i < h->worker_count; i++)
		(void)on_worker(h, i, stop_here, p);
	if (!h->stuck)
		instance_destroy(p);
	clock_live(h, false);
	plug_unload(p);
	reports_out(h);
}

bool
plug_retire(struct plug *p)
{
	plug_retiring(p);
	if (plug_busy(p))
		return false;
	plug_leave(p);
	return true;
}

void
plugs_retire(harness *h)
{
	for (struct plug *p = h->plugs; p != NULL; p = p->next) {
		if (p->state == PLUG_RETIRING)
			(void)plug_retire(p);
	}
}

static bool
plug_quiet(harness *h, void *arg)
{
	(void)h;
	return !plug_busy(arg);
}

static bool
plug_worked(harness *h, void *arg)
{
	struct plug *p = arg;
	bool busy = false;

	for (unsigned i = 0; i < h->worker_count && !busy; i++)
		busy = things_busy(p, i);
	return !busy;
}

void
plugs_stop(harness *h)
{
	for (struct plug *p = h->plugs; p != NULL && !h->stuck; p = p->next) {
		if (p->state != PLUG_RUNS && p->state != PLUG_RETIRING)
			continue;
		plug_retiring(p);
		pump(h);
		(void)wait_until(
		    h, GRACE_MS, plug_quiet, p); /* as long as the broker waits at its end */
		asks_leaked(h, p);
		if (!wait_until(h, h->patience_ms, plug_worked, p) && !h->stuck) {
			finding(h, "leak: offloaded work still runs %u ms after the end",
			    h->patience_ms);
			if (!jobs_join(h, stuck_s(h) * 1000))
				h->stuck = true;
			pump(h);
		}
		if (!h->stuck)
			plug_leave(p);
	}
	reports_out(h);
}

void
plugs_free(harness *h)
{
	struct plug *p;

	while ((p = h->plugs) != NULL) {
		h->plugs = p->next;
		if (!h->stuck)
			settings_unref(p->settings);
		conf_errors_clear(&p->errs);
		for (unsigned i = 0; i < atomic_load(&p->metric_count); i++)
			free(p->metrics[i].name);
		free(p->name);
		if (!h->stuck)
			free(p);
	}
}
