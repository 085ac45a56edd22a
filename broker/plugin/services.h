/* SPDX-License-Identifier: Apache-2.0 */
/*
 * services - what a plugin can have from a worker's loop; as grapnel/host.h says of each
 *
 * Threads: the worker's own, but for service_post.
 */
#ifndef BROKER_PLUGIN_SERVICES_H
#define BROKER_PLUGIN_SERVICES_H

#include "instance.h"

struct hook_state;

struct grapnel_watch *service_watch_fd(
    struct instance_worker *iw, int fd, unsigned events, grapnel_watch_fn fn, void *arg);
int service_watch_change(struct grapnel_watch *watch, unsigned events);
void service_watch_remove(struct grapnel_watch *watch);
struct grapnel_timer *service_timer_new(struct instance_worker *iw, grapnel_call_fn fn, void *arg);
int service_timer_arm(struct grapnel_timer *timer, uint32_t delay_ms);
void service_timer_disarm(struct grapnel_timer *timer);
void service_timer_free(struct grapnel_timer *timer);
int service_post(struct instance *in, unsigned worker, grapnel_call_fn fn, void *arg);
struct grapnel_sub *service_subscribe(
    struct instance_worker *iw, struct grapnel_str filter, grapnel_message_fn fn, void *arg);
void service_unsubscribe(struct grapnel_sub *sub);
int service_find(struct instance_worker *iw, struct grapnel_str mountpoint,
    struct grapnel_str client_id, void (*fn)(void *arg, const struct grapnel_client_info *info),
    void *arg);

int service_value_sync(struct instance_worker *iw, grapnel_call_fn fn, void *arg);

/* dns.c */
struct grapnel_resolve *dns_lookup(struct instance_worker *iw, struct grapnel_str name,
    uint32_t timeout_ms, grapnel_resolve_fn fn, void *arg);
void dns_cancel(struct grapnel_resolve *look_up);
void dns_close(struct hook_state *hs); /* no look-up of a plugin is left */

#endif
