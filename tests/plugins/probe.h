/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe - a plugin whose functions are the unit test's own
 *
 * The option `table` is the address of a struct probe in the test program, which loads the module
 * into itself. A member that is NULL: NEXT for a hook, nothing else.
 */
#ifndef TESTS_PLUGINS_PROBE_H
#define TESTS_PLUGINS_PROBE_H

#include <grapnel/plugin.h>

struct probe {
	const struct grapnel_host *host; /* set by create */
	struct grapnel_instance *self;
	void *ctx; /* the test's */
	int (*create)(struct probe *p);
	void (*destroy)(struct probe *p);
	int (*worker_start)(struct probe *p, unsigned worker);
	void (*worker_stop)(struct probe *p, unsigned worker);
	void (*cancelled)(struct probe *p, struct grapnel_request *req);
	void (*slot_free)(struct probe *p, void *data);
	enum grapnel_verdict (*authenticate)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_authenticate *q);
	enum grapnel_verdict (*exchange)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_auth_exchange *q);
	enum grapnel_verdict (*revalidate)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_revalidate *q);
	enum grapnel_verdict (*acl)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q);
	enum grapnel_verdict (*publish)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_message_publish *q);
	enum grapnel_verdict (*subscribe)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_client_subscribe *q);
	enum grapnel_verdict (*unsubscribe)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_client_subscribe *q);
	enum grapnel_verdict (*deliver)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_message_deliver *q);
	enum grapnel_verdict (*acknowledge)(struct probe *p, struct grapnel_request *req,
	    const struct grapnel_message_acknowledge *q);
	enum grapnel_verdict (*psk)(
	    struct probe *p, struct grapnel_request *req, const struct grapnel_tls_psk *q);
	size_t (*events)(struct probe *p, const struct grapnel_event *const *events, size_t count);
};

#endif
