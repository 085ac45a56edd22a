/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe - see probe.h
 *
 *	table = "0x55d0c0ffee00"	required: address of a struct probe of this process
 *	note = "..."			nothing; to have options that differ
 * With PROBE_LOSSLESS its event queue is lossless.
 */
#include "probe.h"
#include <stdlib.h>
#include <string.h>

static int
probe_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct grapnel_str table = host->option_str(self, NULL, "table");
	char text[32] = "";
	struct probe *p;

	if (table.len >= sizeof(text))
		return GRAPNEL_EINVAL;
	memcpy(text, table.data, table.len);
	p = (struct probe *)(uintptr_t)strtoull(text, NULL, 16);
	p->host = host;
	p->self = self;
	*instance = p;
	return p->create != NULL ? p->create(p) : GRAPNEL_OK;
}

static void
probe_destroy(void *instance)
{
	struct probe *p = instance;

	if (p->destroy != NULL)
		p->destroy(p);
}

static int
probe_worker_start(void *instance, unsigned worker)
{
	struct probe *p = instance;

	return p->worker_start != NULL ? p->worker_start(p, worker) : GRAPNEL_OK;
}

static void
probe_worker_stop(void *instance, unsigned worker)
{
	struct probe *p = instance;

	if (p->worker_stop != NULL)
		p->worker_stop(p, worker);
}

static void
probe_cancelled(void *instance, struct grapnel_request *req)
{
	struct probe *p = instance;

	if (p->cancelled != NULL)
		p->cancelled(p, req);
}

static void
probe_slot_free(void *instance, void *data)
{
	struct probe *p = instance;

	if (p->slot_free != NULL)
		p->slot_free(p, data);
}

static size_t
probe_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct probe *p = instance;

	return p->events != NULL ? p->events(p, events, count) : count;
}

#define HOOK(name, question)                                                \
	static enum grapnel_verdict probe_##name(                           \
	    void *instance, struct grapnel_request *req, const question *q) \
	{                                                                   \
		struct probe *p = instance;                                 \
		return p->name != NULL ? p->name(p, req, q) : GRAPNEL_NEXT; \
	}

HOOK(authenticate, struct grapnel_authenticate)
HOOK(exchange, struct grapnel_auth_exchange)
HOOK(revalidate, struct grapnel_revalidate)
HOOK(acl, struct grapnel_acl_check)
HOOK(publish, struct grapnel_message_publish)
HOOK(subscribe, struct grapnel_client_subscribe)
HOOK(unsubscribe, struct grapnel_client_subscribe)
HOOK(deliver, struct grapnel_message_deliver)
HOOK(acknowledge, struct grapnel_message_acknowledge)
HOOK(psk, struct grapnel_tls_psk)

static const struct grapnel_option probe_options[] = {
	{ .name = "note", .type = GRAPNEL_OPTION_STRING, .help = "Anything." },
	{ .name = "table",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Address of a struct probe." },
	{ 0 }
};

GRAPNEL_PLUGIN(probe, .version = "1.0", .license = "Apache-2.0",
    .description = "Calls the unit test that loads it", .options = probe_options,
    .create = probe_create, .destroy = probe_destroy, .worker_start = probe_worker_start,
    .worker_stop = probe_worker_stop, .request_cancelled = probe_cancelled,
    .client_slot_free = probe_slot_free, .client_authenticate = probe_authenticate,
    .client_auth_exchange = probe_exchange, .client_revalidate = probe_revalidate,
    .acl_check = probe_acl, .message_publish = probe_publish, .client_subscribe = probe_subscribe,
    .client_unsubscribe = probe_unsubscribe, .message_deliver = probe_deliver,
    .message_acknowledge = probe_acknowledge, .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1,
#ifdef PROBE_LOSSLESS
    .event_mode = GRAPNEL_EVENTS_LOSSLESS,
#endif
    .on_events = probe_events, .tls_psk_key = probe_psk, );
