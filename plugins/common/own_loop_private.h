/* SPDX-License-Identifier: Apache-2.0 */
/* What own_loop.c and own_loop_dns.c know of each other. */
#ifndef PLUGINS_COMMON_OWN_LOOP_PRIVATE_H
#define PLUGINS_COMMON_OWN_LOOP_PRIVATE_H

#include "own_loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>

/* What a loop frees in the end if nobody else does: first member of watches and timers. */
struct own_service {
	struct own_service *prev, *next;
	struct own_loop *loop;
	void (*drop)(struct own_service *s);
};

struct own_look_up;

struct own_loop {
	struct grapnel_host table;
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct event_base *base; /* touched by the loop's thread, and when there is none */
	struct event wake;
	int wake_fd;
	struct own_service *services;
	struct own_look_up *look_ups;
	bool started;
	pthread_t thread;

	pthread_mutex_t lock;
	struct own_loop_call *posts, **posts_last; /* [lock] */
	bool stopping;                             /* [lock] */
};

extern _Thread_local struct own_loop *own_loop_here; /* the loop whose thread this is */

/* own_loop_dns.c */
struct grapnel_resolve *own_loop_dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg);
void own_loop_dns_cancel(struct grapnel_resolve *look_up);
void own_loop_dns_forget(struct own_loop *loop); /* no worker has any of them now */

#endif
