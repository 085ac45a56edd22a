/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_pure - what every host of plugins does in the same way: the broker, and the SDK's harness
 *
 * Threads: any. Nothing is kept.
 */
#ifndef BROKER_PLUGIN_HOST_PURE_H
#define BROKER_PLUGIN_HOST_PURE_H

#include <grapnel/types.h>
#include <stdbool.h>
#include <stddef.h>

enum hook {
	HOOK_AUTHENTICATE, HOOK_AUTH_EXCHANGE, HOOK_REVALIDATE, HOOK_ACL, HOOK_PUBLISH,
	HOOK_SUBSCRIBE, HOOK_UNSUBSCRIBE, HOOK_DELIVER, HOOK_ACKNOWLEDGE, HOOK_TLS_PSK, HOOK_COUNT,
};
const char *hook_name(enum hook h); /* "client_authenticate" ...; "?" of none */
bool hook_find(const char *name, enum hook *out); /* name may be NULL */

/* Members of struct grapnel_host. */
int pure_random_bytes(void *buffer, size_t len);
bool pure_secret_equal(struct grapnel_str a, struct grapnel_str b);
/* A lower-case letter, then such letters, digits and characters of `besides`. */
bool plain_name(const char *name, const char *besides);
bool metric_name_valid(const char *name); /* of metric_new; NULL is not */

#endif
