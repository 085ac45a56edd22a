/* SPDX-License-Identifier: Apache-2.0 */
#include "instance.h"
#include "base/log.h"
#include "command.h"
#include "config/conf.h"
#include "core/broker.h"
#include "handler.h"
#include "net/stream.h"
#include "request.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- calls into a plugin --------------------------------------------------------------------- */

uint64_t
plugin_enter(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

uint64_t
plugin_leave(struct instance_worker *iw, uint64_t entered, const char *what)
{
	uint64_t took = plugin_enter() - entered;

	if (took > PLUGIN_HOLD_US) {
		stats_add(&iw->stats.holds, 1);
		log_warning("plugin \"%s\": %s held worker %u for %" PRIu64
			    " ms; nobody else was served meanwhile. Blocking work belongs "
			    "into offload()",
		    iw->in->name, what, iw->w->index, took / 1000);
	}
	return took;
}

void
service_add(struct service *s, struct instance_worker *iw, void (*drop)(struct service *s))
{
	s->iw = iw;
	s->drop = drop;
	s->next = iw->services;
	s->link = &iw->services;
	if (s->next != NULL)
		s->next->link = &s->next;
	iw->services = s;
}

void
service_remove(struct service *s)
{
	if (s->link == NULL)
		return;
	*s->link = s->next;
	if (s->next != NULL)
		s->next->link = s->link;
	s->link = NULL;
}

bool
instance_has_hook(const struct instance *in, enum hook h)
{
	static const struct grapnel_plugin destroyed;
	const struct grapnel_plugin *p = in->plugin != NULL ? in->plugin : &destroyed;
	const bool has[HOOK_COUNT] = {
		[HOOK_AUTHENTICATE] = p->client_authenticate != NULL,
		[HOOK_AUTH_EXCHANGE] = p->client_auth_exchange != NULL,
		[HOOK_REVALIDATE] = p->client_revalidate != NULL,
		[HOOK_ACL] = p->acl_check != NULL,
		[HOOK_PUBLISH] = p->message_publish != NULL,
		[HOOK_SUBSCRIBE] = p->client_subscribe != NULL,
		[HOOK_UNSUBSCRIBE] = p->client_unsubscribe != NULL,
		[HOOK_DELIVER] = p->message_deliver != NULL,
		[HOOK_ACKNOWLEDGE] = p->message_acknowledge != NULL,
		[HOOK_TLS_PSK] = p->tls_psk_key != NULL,
	};

	return has[h] && (in->disabled_hooks & (1u << h)) == 0;
}

/* ---- making one ------------------------------------------------------------------------------ */

char *
instance_path(const struct plugin_settings *ps, const char *directory)
{
	char *path;

	if (strchr(ps->module, '/') != NULL)
		return strdup(ps->module);
	if (asprintf(&path, "%s/%s.so", directory != NULL ? directory : ".", ps->module) < 0)
		return NULL;
	return path;
}

static void
instance_free(struct instance *in)
{
	struct instance_command *c;

	for (unsigned i = 0; i < atomic_load(&in->metric_count); i++) {
		free(in->metrics[i].name);
		free(in->metrics[i].help);
	}
	while ((c = in->commands) != NULL) {
		in->commands = c->next;
		free(c->name);
		free(c->help);
		free(c);
	}
	if (in->number < INSTANCE_MAX && in->registry->by_number[in->number] == in)
		in->registry->by_number[in->number] = NULL;
	stream_count_unref(in->connections);
	cache_free(in->cache);
	plugin_options_free(in->options);
	free(in->name);
	free(in->where);
	free(in->workers);
	free(in);
}

void
instance_destroy(struct instance *in)
{
	if (in->created) {
		in->created = false;
		if (in->stuck)
			log_warning("plugin \"%s\": something of it still runs; it is left in "
				    "memory without being destroyed",
			    in->name);
		else if (in->plugin->destroy != NULL)
			in->plugin->destroy(in->state);
	}
	commands_drop(in);
	offload_lane_close(in->registry->pool, &in->lane);
	if (!in->stuck) { /* they look at the plugin's table */
		plugin_options_free(in->options);
		in->options = NULL;
	}
	if (in->module != NULL)
		module_unref(&in->registry->modules, in->module, !in->stuck);
	in->module = NULL;
	in->plugin = NULL;
}

void
instance_unref(struct instance *in)
{
	if (in == NULL || --in->refs > 0)
		return;
	if (in->running) {
		log_debug("plugin \"%s\": not stopped everywhere; it is left in memory",
		    in->name); /* the process ends */
		commands_drop(in);
		return;
	}
	instance_destroy(in);
	if (!in->stuck) /* what still runs may look at it */
		instance_free(in);
}

static void instance_on_report(struct worker *w, struct mail *m);

static bool
instance_numbered(struct instance *in)
{
	struct registry *r = in->registry;

	for (unsigned i = 0; i < INSTANCE_MAX; i++) {
		if (r->by_number[i] == NULL) {
			r->by_number[i] = in;
			in->number = i;
			names_set(i, in->name);
			return true;
		}
	}
	return false;
}

static struct instance *
instance_alloc(struct registry *r, const struct plugin_settings *ps)
{
	struct instance *in = calloc(1, sizeof(*in));
	unsigned n = r->broker->worker_count;

	if (in == NULL)
		return NULL;
	in->refs = 1;
	in->number = INSTANCE_MAX;
	in->broker = r->broker;
	in->worker_count = n;
	in->name = strdup(ps->name);
	in->where = strdup(ps->where != NULL ? ps->where : "");
	in->workers =
	    aligned_alloc(_Alignof(struct instance_worker), (n > 0 ? n : 1) * sizeof(*in->workers));
	if (in->name == NULL || in->where == NULL || in->workers == NULL) {
		instance_free(in);
		return NULL;
	}
	memset(in->workers, 0, (n > 0 ? n : 1) * sizeof(*in->workers));
	for (unsigned i = 0; i < n; i++) {
		in->workers[i].in = in;
		in->workers[i].w = r->broker->workers[i];
		in->workers[i].report.fn = instance_on_report;
		atomic_store(&in->workers[i].closed, true);
	}
	in->registry = r;
	return in;
}

static int
instance_create(struct instance *in, struct conf_errors *errs)
{
	int err;

	in->errs = errs;
	err = in->plugin->create(&in->registry->host, instance_handle(in), &in->state);
	in->errs = NULL;
	if (err != GRAPNEL_OK && !in->complained)
		conf_errors_add(errs,
		    "%s: plugin \"%s\": it cannot start (error %d, no reason given)", in->where,
		    in->name, err);
	else if (err == GRAPNEL_OK && in->complained) {
		/*
		 * It reported an error and then claimed success: the report is what the operator
		 * sees.
		 */
		if (in->plugin->destroy != NULL)
			in->plugin->destroy(in->state);
		err = GRAPNEL_EINVAL;
	}
	in->created = err == GRAPNEL_OK;
	return err;
}

struct instance *
instance_new(struct registry *r, const struct plugin_settings *ps, const char *directory,
    struct conf_errors *errs)
{
	char error[MODULE_ERROR_SIZE];
	struct instance *in = instance_alloc(r, ps);
	char *path = instance_path(ps, directory);

	if (in == NULL || path == NULL) {
		conf_errors_add(errs, "%s: plugin \"%s\": out of memory", ps->where, ps->name);
		goto fail;
	}
	in->module = module_load(&r->modules, path, error);
	if (in->module == NULL) {
		conf_errors_add(
		    errs, "%s: plugin \"%s\": %s: %s", ps->where, ps->name, path, error);
		goto fail;
	}
	in->plugin = &in->module->descriptor;
	in->options = plugin_options_new(ps, in->plugin->options, errs);
	if (in->options == NULL)
		goto fail;
	if (!instance_numbered(in)) {
		conf_errors_add(errs, "%s: plugin \"%s\": more than %u plugins are enabled",
		    ps->where, ps->name, INSTANCE_MAX);
		goto fail;
	}
	atomic_store(&in->event_mask, in->plugin->on_events != NULL ? in->plugin->events : 0);
	atomic_store(&in->event_capacity, ps->event_queue > 0 ? ps->event_queue : 1);
	atomic_store(&in->max_pending, ps->max_pending);
	atomic_store(&in->drain_ms, ps->drain_ms);
	if (in->plugin->listener_open != NULL && (in->connections = stream_count_new()) == NULL) {
		conf_errors_add(errs, "%s: plugin \"%s\": out of memory", ps->where, ps->name);
		goto fail;
	}
	if ((in->values = values_of(r->values, in->name)) == NULL) {
		conf_errors_add(errs, "%s: plugin \"%s\": out of memory", ps->where, ps->name);
		goto fail;
	}
	atomic_store(&in->max_values, ps->max_values);
	atomic_store(&in->max_values_bytes, ps->max_values_bytes);
	offload_limits(r->pool, &in->lane, ps->offload_threads, ps->offload_queue);
	for (unsigned h = 0; h < HOOK_COUNT; h++)
		in->depends[h] = GRAPNEL_DEPENDS_ALL;
	if (instance_create(in, errs) != GRAPNEL_OK)
		goto fail;
	for (unsigned h = 0; h < HOOK_COUNT && in->cache == NULL; h++) {
		if (!(in->depends[h] & GRAPNEL_DEPENDS_REST) && (in->cache = cache_new()) == NULL) {
			conf_errors_add(
			    errs, "%s: plugin \"%s\": out of memory", ps->where, ps->name);
			goto fail;
		}
	}
	free(path);
	return in;
fail:
	free(path);
	if (in != NULL)
		instance_unref(in);
	return NULL;
}

/* ---- on a worker ----------------------------------------------------------------------------- */

int
instance_start(struct instance *in, struct worker *w)
{
	struct instance_worker *iw = &in->workers[w->index];
	int err = GRAPNEL_OK;

	iw->events.iw = iw;
	w->hooks->by_number[in->number] = iw;
	iw->state = INSTANCE_STARTED;
	atomic_store(&iw->closed, false);
	if (in->plugin->worker_start != NULL) {
		uint64_t entered = plugin_enter();

		err = in->plugin->worker_start(in->state, w->index);
		plugin_leave(iw, entered, "worker_start");
	}
	if (err != GRAPNEL_OK) {
		struct service *s;

		log_error("%s: plugin \"%s\": worker_start failed on worker %u (error %d)",
		    in->where, in->name, w->index, err);
		while ((s = iw->services) != NULL)
			s->drop(s);
		/* It is retired like the others, but its worker_stop is not called. */
		iw->state = INSTANCE_IDLE;
	}
	return err;
}

static void
slot_drop(struct grapnel_client *c, void *arg)
{
	struct instance_worker *iw = arg;
	uint32_t number = iw->in->number;
	void *data;

	if (c->kept == NULL || number >= c->kept->slot_count ||
	    (data = c->kept->slots[number]) == NULL)
		return;
	c->kept->slots[number] = NULL;
	if (iw->in->plugin->client_slot_free != NULL)
		iw->in->plugin->client_slot_free(iw->in->state, data);
}

bool
instance_try_stop(struct instance_worker *iw, bool stopping, bool force)
{
	struct instance *in = iw->in;
	bool busy = iw->requests > 0 || iw->jobs > 0 || iw->finds > 0 || iw->sets > 0;
	bool waits = iw->events.count > 0 && !iw->events.stalled;
	struct service *s;

	if (!force && (busy || waits))
		return false;
	/* Those it speaks for may be anywhere in the broker; it is left everywhere, or nowhere. */
	if (!stopping && handler_busy(in) &&
	    clock_ms() - iw->retiring_since_ms < atomic_load(&in->drain_ms))
		return false;
	if (iw->events.count > 0 && !force &&
	    clock_ms() - iw->retiring_since_ms < INSTANCE_GRACE_MS)
		return false; /* stalled: it may take the rest yet */
	atomic_store(&iw->closed, true);
	if (atomic_load(&iw->posted) > 0) {
		if (!force) {
			atomic_store(&iw->closed, iw->state == INSTANCE_IDLE);
			return false;
		}
		busy = true;
	}
	iw->stuck = busy;
	if (busy)
		log_warning("plugin \"%s\": leaving worker %u although %u requests are not "
			    "resolved and %u offload jobs not done",
		    in->name, iw->w->index, iw->requests, iw->jobs);
	core_each_client(iw->w, slot_drop, iw);
	if (iw->state == INSTANCE_RETIRING && in->plugin->worker_stop != NULL && !busy) {
		uint64_t entered = plugin_enter();

		in->plugin->worker_stop(in->state, iw->w->index);
		plugin_leave(iw, entered, "worker_stop");
	}
	while ((s = iw->services) != NULL)
		s->drop(s);
	events_drop(iw);
	iw->w->hooks->by_number[in->number] = NULL;
	iw->state = INSTANCE_STOPPED;
	return true;
}

/* Main: it has left one worker. */
static void
instance_on_report(struct worker *w, struct mail *m)
{
	struct instance_worker *iw = (struct instance_worker *)(void *)((char *)m -
	    offsetof(struct instance_worker, report));
	struct instance *in = iw->in;

	(void)w;
	in->stuck |= iw->stuck;
	in->registry->stuck |= iw->stuck;
	if (--in->workers_left > 0)
		return;
	in->running = in->retiring = false;
	instance_destroy(in);
	in->registry->on_stopped(in->registry, in);
}
