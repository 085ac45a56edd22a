/* SPDX-License-Identifier: Apache-2.0 */
/* Events of the script, in the queue of each worker, and the batches that on_events gets. */
#include "inside.h"
#include <stdlib.h>
#include <string.h>

#define BATCH    256u /* most that one callback gets, as in the broker */
#define RETRY_MS 100u

static struct event_kept *
event_copy(harness *h, const struct grapnel_event *e)
{
	struct event_kept *k = calloc(1, sizeof(*k));
	struct grapnel_client_info client, *to_client;
	struct grapnel_message_info message, *to_message;
	struct layout l = { NULL, 0 };

	if (k == NULL)
		return NULL;
	if (e->client != NULL)
		layout_client(&l, e->client, &client);
	if (e->message != NULL)
		layout_message(&l, e->message, &message);
	(void)layout_str(&l, e->filter);
	(void)layout_str(&l, e->reason);
	k->region = region_new(
	    h, sizeof(*e) + sizeof(client) + sizeof(message) + l.len, "an event of on_events");
	if (k->region == NULL) {
		free(k);
		return NULL;
	}
	k->event = k->region->at;
	to_client = (struct grapnel_client_info *)(k->event + 1);
	to_message = (struct grapnel_message_info *)(to_client + 1);
	l.p = (char *)(to_message + 1);
	l.len = 0;
	*k->event = *e;
	if (e->client != NULL) {
		layout_client(&l, e->client, to_client);
		k->event->client = to_client;
	}
	if (e->message != NULL) {
		layout_message(&l, e->message, to_message);
		k->event->message = to_message;
	}
	k->event->filter = layout_str(&l, e->filter);
	k->event->reason = layout_str(&l, e->reason);
	return k;
}

int
events_add(harness *h, unsigned worker, const struct grapnel_event *e)
{
	struct plug *p = h->running;
	struct plug_worker *pw = &p->workers[worker];
	uint64_t wanted = atomic_load(&p->events);
	struct event_kept *k;

	/* GAP comes unasked: to whoever wants others. */
	if (wanted == 0 || (e->type != GRAPNEL_EVENT_GAP && !(wanted & GRAPNEL_EVENT_BIT(e->type))))
		return GRAPNEL_ENOENT;
	if ((k = event_copy(h, e)) == NULL)
		return GRAPNEL_ENOMEM;
	k->event->size = sizeof(*e);
	k->event->id.node = 1;
	k->event->id.boot = 1;
	k->event->id.sequence = (uint64_t)worker << 56 | ++h->order;
	k->event->time_us = h->host.wall_us();
	*pw->events_end = k;
	pw->events_end = &k->next;
	pw->event_count++;
	return GRAPNEL_OK;
}

static void
event_free(struct event_kept *k)
{
	region_take(k->region);
	free(k);
}

size_t
events_offer(struct plug *p, unsigned worker)
{
	struct plug_worker *pw = &p->workers[worker];
	const struct grapnel_event *batch[BATCH];
	size_t n = 0, taken;
	struct call c;

	for (const struct event_kept *k = pw->events; k != NULL && n < BATCH; k = k->next)
		batch[n++] = k->event;
	if (n == 0)
		return 0;
	call_begin(&c, p, "on_events");
	taken = p->plugin.on_events(p->instance, batch, n);
	call_end(&c);
	if (taken > n) {
		finding(p->h, "contract: on_events took %zu of %zu events", taken, n);
		taken = n;
	}
	for (size_t i = 0; i < taken; i++) {
		struct event_kept *k = pw->events;

		pw->events = k->next;
		pw->event_count--;
		event_free(k);
	}
	if (pw->events == NULL)
		pw->events_end = &pw->events;
	pw->stalled = taken < n;
	pw->retry_ms = clock_now(p->h) + RETRY_MS;
	return taken;
}

void
events_drop(struct plug *p, unsigned worker)
{
	struct plug_worker *pw = &p->workers[worker];
	struct event_kept *k;

	while ((k = pw->events) != NULL) {
		pw->events = k->next;
		event_free(k);
	}
	pw->event_count = 0;
	pw->events_end = &pw->events;
}
