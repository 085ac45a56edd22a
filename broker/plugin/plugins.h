/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plugins - the set of plugins that one configuration enables
 *
 * Threads: main. Ownership: a set has references to its instances; unchanged ones are in two sets
 *          during a reload.
 */
#ifndef BROKER_PLUGIN_PLUGINS_H
#define BROKER_PLUGIN_PLUGINS_H

#include "instance.h"

struct chain_set;

struct plugin_entry {
	struct instance *in;
	int order[HOOK_COUNT];
	int on_error;
	uint32_t timeout_ms, max_pending, offload_threads, offload_queue, event_queue, drain_ms;
	bool fresh; /* made for this set, not taken over from the one before */
};

struct plugins {
	struct plugins *next; /* in registry->draining */
	struct registry *registry;
	struct plugin_entry *entries; /* in the order of the files */
	unsigned count;
	struct plugin_entry **chains[HOOK_COUNT]; /* in the order they are asked */
	unsigned chain_length[HOOK_COUNT];
	struct chain_set *sets[WORKER_MAX + 1]; /* made, not yet installed */
	/* plugins_start */
	bool started, ready_known;
	int ready_err;
	void (*ready)(void *arg, int err);
	void *ready_arg;
};

/* plugins.c */
void registry_unref(struct registry *r);
int chain_sets_new(struct plugins *p);        /* p->sets; GRAPNEL_ENOMEM */
void plugins_apply_limits(struct plugins *p); /* what a reload changes of instances that stay */
/* host.c */
void host_fill(struct grapnel_host *host, unsigned workers);
/* switch.c */
void switch_on_instance_stopped(struct registry *r, struct instance *in);

#endif
