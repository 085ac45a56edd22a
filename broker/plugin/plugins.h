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
	struct value_limits values;
	struct cache_limits cache;
	uint32_t breaker_failures, breaker_wait_ms, breaker_max_wait_ms;
	bool shadow;
	const struct string_list *listeners; /* of the set's settings */
	bool fresh; /* made for this set, not taken over from the one before */
};

/* A section `require`: its members stand together in the chains of its hooks. */
struct plugin_group {
	char *name;
	bool all;
	uint16_t hooks; /* bits */
	unsigned count;
	struct plugin_entry **members;
};
/* One place of a chain. */
struct plugin_place {
	struct plugin_entry *entry;
	int group; /* number in plugins->groups; -1: none */
	bool last; /* of its group */
};

struct plugins {
	struct plugins *next; /* in registry->draining */
	struct registry *registry;
	struct settings *settings;
	struct plugin_entry *entries; /* in the order of the files */
	unsigned count;
	struct plugin_group *groups;
	unsigned group_count;
	struct plugin_place *chains[HOOK_COUNT]; /* in the order they are asked */
	unsigned chain_length[HOOK_COUNT];
	struct plugin_entry **shadows[HOOK_COUNT];
	unsigned shadow_count[HOOK_COUNT];
	struct chain_set *sets[WORKER_MAX + 1]; /* made, not yet installed */
	/* plugins_start */
	bool started, ready_known;
	int ready_err;
	void (*ready)(void *arg, int err);
	void *ready_arg;
};

/* chains.c */
/* From the entries and `require` sections: groups, chains, shadows and p->sets. false: said in errs. */
bool chains_make(struct plugins *p, const struct settings *s, struct conf_errors *errs);
void chains_free(struct plugins *p);
/* plugins.c */
void registry_unref(struct registry *r);
void plugins_apply_limits(struct plugins *p); /* what a reload changes of instances that stay */
/* host.c */
void host_fill(struct grapnel_host *host, unsigned workers);
/* switch.c */
void switch_on_instance_stopped(struct registry *r, struct instance *in);

#endif
