/* SPDX-License-Identifier: Apache-2.0 */
/*
 * instance - one enabled plugin { } section: its options, its state on each worker, its share of
 * the pool
 *
 * Life: created (main) -> started on each worker -> in the chains -> retiring on each worker:
 *       nothing new reaches it, what it has is finished -> stopped on each worker -> destroyed
 *       (main) -> freed.
 * A worker is left only when nothing of the instance can run there any more: no request is
 * unresolved, no job or look-up is under way, no posted call and no event waits. After
 * INSTANCE_GRACE_MS of shutdown it is left all the same, and then its code stays mapped.
 *
 * Threads:   struct instance is constant once created, but for atomics and what is marked; struct
 *            instance_worker belongs to its worker.
 * Ownership: counted by the sets of plugins that have it (main).
 * Bounded:   INSTANCE_MAX instances at once; max_pending requests; offload_queue jobs;
 *            event_queue events per worker.
 */
#ifndef BROKER_PLUGIN_INSTANCE_H
#define BROKER_PLUGIN_INSTANCE_H

#include "breaker.h"
#include "cache.h"
#include "config/settings.h"
#include "events.h"
#include "hooks.h"
#include "module.h"
#include "offload.h"
#include "stats.h"
#include "values.h"

#define INSTANCE_MAX      1024u /* their numbers are in request handles */
#define INSTANCE_GRACE_MS 2000u
#define INSTANCE_METRICS  64u
#define PLUGIN_HOLD_US    50000u

struct registry;
struct instance_worker;

/* What a plugin left behind on a worker's loop; dropped when the instance leaves it. */
struct service {
	struct service *next, **link;
	struct instance_worker *iw;
	void (*drop)(struct service *s);
};

enum instance_state { INSTANCE_IDLE, INSTANCE_STARTED, INSTANCE_RETIRING, INSTANCE_STOPPED };

struct instance_worker {
	_Alignas(64) struct instance *in;
	struct worker *w;
	enum instance_state state;
	struct instance_worker *next_retiring;
	uint64_t retiring_since_ms;
	bool leaving, warned;
	uint32_t requests;    /* handed out as PENDING and not yet given back */
	uint32_t sets;        /* chain sets, in force or still walked, that have it */
	uint32_t jobs, finds; /* offload jobs and client_find calls whose end has not come */
	uint64_t crowded_ms;  /* when a job of it last found no thread in time */
	struct service *services;
	struct event_queue events;
	struct instance_stats stats;
	struct mail report; /* to main: stopped here */
	bool stuck;         /* left with something of it still running */
	/* any thread */
	_Atomic bool closed;     /* post() is refused */
	_Atomic uint32_t posted; /* calls that post() took and that have not run */
};

struct instance_metric {
	char *name, *help;
	enum grapnel_metric_kind kind;
	_Atomic int64_t value;
};

struct instance_command {
	struct instance_command *next;
	char *name, *help;
	int (*fn)(void *arg, const struct grapnel_command *command,
	    void (*reply)(void *ctx, struct grapnel_str json), void *ctx);
	void *arg;
};

struct instance {
	unsigned refs; /* main */
	unsigned number;
	char *name, *where;
	struct registry *registry;
	struct broker *broker;
	struct module *module;
	const struct grapnel_plugin *plugin; /* of module: the members it lacks are NULL */
	void *state;                         /* what create() gave */
	struct plugin_options *options;
	bool created;
	uint16_t disabled_hooks;  /* bits, by hook_disable */
	uint64_t depends[HOOK_COUNT]; /* enum grapnel_depends, by depends_on */
	struct conf_errors *errs; /* while create() runs */
	bool complained;          /* config_error was called */
	_Atomic uint64_t event_mask;
	_Atomic uint32_t event_capacity;
	_Atomic uint32_t pending;     /* sum of requests */
	_Atomic uint32_t max_pending; /* a reload changes it */
	struct offload_lane lane;
	struct instance_metric metrics[INSTANCE_METRICS];
	_Atomic unsigned metric_count;
	struct instance_command *commands;
	struct cache *cache; /* NULL: none of its answers can be kept */
	struct value_table *values; /* the registry's, of its name */
	_Atomic uint32_t max_values;
	_Atomic uint64_t max_values_bytes;
	struct breaker breaker;
	_Atomic uint64_t main_holds; /* commands that held the main thread */
	struct stream_count *connections; /* that it speaks for; NULL: it is nobody's handler */
	_Atomic uint32_t drain_ms;   /* how long they may hold up its end after a reload */
	unsigned workers_left;       /* main: where it is not stopped yet, while retiring */
	bool running;                /* main: started, not yet stopped everywhere */
	bool retiring;               /* main */
	bool stuck;                  /* main: somewhere */
	unsigned worker_count;
	struct instance_worker *workers;
};

static inline struct instance *
instance_of(const struct grapnel_instance *self)
{
	return (struct instance *)(uintptr_t)(const void *)self;
}
static inline struct grapnel_instance *
instance_handle(struct instance *in)
{
	return (struct grapnel_instance *)(void *)in;
}

/* What the instances of one broker share; main, but for what is marked. plugins.c */
struct registry {
	unsigned refs; /* sets */
	struct broker *broker;
	struct grapnel_host host; /* constant */
	uint8_t cache_secret[CACHE_KEY_SIZE]; /* constant */
	struct module *modules;
	struct instance *by_number[INSTANCE_MAX];
	struct offload_pool *pool; /* any thread */
	struct values *values;     /* main; its tables any thread */
	bool stuck;       /* something of an instance runs beyond the end, and may use host */
	unsigned running; /* instances that are started and not yet stopped everywhere */
	void (*all_stopped)(void *arg); /* plugins_stop waits */
	void *all_stopped_arg;
	struct mail stopped_mail;
	/* somebody waits for an instance to be stopped everywhere */
	void (*on_stopped)(struct registry *r, struct instance *in);
	struct plugins *draining; /* old sets whose last instances still run */
};

/*
 * Load, check options, create. Errors are added with the section's place. NULL on any.
 * The new instance has one reference.
 */
struct instance *instance_new(struct registry *r, const struct plugin_settings *ps,
    const char *directory, struct conf_errors *errs);
/* The path of the shared object of a section; heap; NULL: no memory. */
char *instance_path(const struct plugin_settings *ps, const char *directory);
void instance_unref(struct instance *in); /* destroy() when created; must not run anywhere */
/* destroy() now, keeping the rest (its name) until the last reference goes. */
void instance_destroy(struct instance *in);

/* On the worker. GRAPNEL_OK or what worker_start returned. */
int instance_start(struct instance *in, struct worker *w);
/* Can it leave this worker now? Does it if so. stopping: the broker is; force: it has had its time. */
bool instance_try_stop(struct instance_worker *iw, bool stopping, bool force);

/* The instance's part of this thread; NULL when this is no worker of its broker. */
static inline struct instance_worker *
instance_here(struct instance *in)
{
	struct worker *w = worker_self;

	if (w == NULL || w->broker != in->broker || w->index >= in->worker_count)
		return NULL;
	return &in->workers[w->index];
}

/* May callbacks of it run on this worker? Not before worker_start, nor after it was left. */
static inline bool
instance_callable(const struct instance_worker *iw)
{
	return iw->state == INSTANCE_STARTED || iw->state == INSTANCE_RETIRING;
}

/* Around every call into a plugin: names who holds the loop. */
uint64_t plugin_enter(void); /* microseconds, monotonic */
/* @return how long it took. what: "acl_check", "timer" ... */
uint64_t plugin_leave(struct instance_worker *iw, uint64_t entered, const char *what);

void service_add(struct service *s, struct instance_worker *iw, void (*drop)(struct service *s));
void service_remove(struct service *s);

bool instance_has_hook(const struct instance *in, enum hook h); /* and it was not disabled */

#endif
