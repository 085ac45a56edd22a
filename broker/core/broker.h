/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broker - what the threads of one grapneld share
 *
 * Everything here is constant after start-up, atomic, or has its own rule beside it.
 */
#ifndef BROKER_CORE_BROKER_H
#define BROKER_CORE_BROKER_H

#include "config/settings.h"
#include "core/overload.h"
#include "core/worker.h"

struct topic_index;
struct retain;
struct plugins;
struct store;
struct listeners;
struct limits_kept;

struct broker {
	struct settings *settings; /* main thread replaces it; workers are told by mail and keep references per connection */
	unsigned worker_count;
	struct worker *workers[WORKER_MAX + 1]; /* [worker_count] is main */
	struct worker *main;
	struct topic_index *index;
	struct retain *retain;
	struct plugins *plugins;   /* plugin/plugins.h */
	uint64_t node_id, boot_id; /* of event ids */
	uint8_t hash_key[16];	   /* per process: home workers, tables */
	_Atomic uint64_t session_generation;
	_Atomic uint64_t rights_generation; /* grows whenever cached rights must be asked again */
	_Atomic int64_t connections, sessions, subscriptions, queued_bytes; /* against the totals of limits */
	_Atomic uint32_t paused_publishers[WORKER_MAX]; /* per worker: how many wait for a slow receiver */
	_Atomic bool shutting_down;
	int64_t started_us;
	_Atomic(struct limits *) limits; /* the global limits in force; old ones are kept until exit (a few bytes per reload) */
	bool reloading; /* main: a reload is under way */
	struct limits_kept *limits_kept; /* all that limits ever pointed to: reload.c */
	struct store *store; /* store/store.h; NULL: durability = off */
	struct sys *sys; /* core/sys.h */
	struct memory *memory; /* core/memory.h */
	struct overload overload; /* core/overload.h */
	struct guard *guard; /* net/guard.h */
	struct listeners *listeners; /* net/listener.h; lives until the last Network Connection is closed */
};

/* SipHash under the process's key: a peer cannot aim at a worker or a slot. */
uint64_t broker_hash(const struct broker *b, struct grapnel_str s);
/* The worker where a Client Identifier lives, whatever its mountpoint (which authentication may change). */
unsigned broker_home(const struct broker *b, struct grapnel_str client_id);

#endif
