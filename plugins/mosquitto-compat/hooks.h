/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hooks - from the host's questions to calls
 *
 * Threads: workers. Nothing waits here; the thread of the engine answers.
 */
#ifndef PLUGINS_MOSQUITTO_COMPAT_HOOKS_H
#define PLUGINS_MOSQUITTO_COMPAT_HOOKS_H

#include "engine.h"

enum grapnel_verdict hook_authenticate(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q);
enum grapnel_verdict hook_exchange(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q);
enum grapnel_verdict hook_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q);
enum grapnel_verdict hook_unsubscribe(void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q);
enum grapnel_verdict hook_publish(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q);
enum grapnel_verdict hook_deliver(void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q);
enum grapnel_verdict hook_psk_key(void *instance, struct grapnel_request *req, const struct grapnel_tls_psk *q);
void hook_cancelled(void *instance, struct grapnel_request *req);
size_t hook_events(void *instance, const struct grapnel_event *const *events, size_t count);

#endif
