/* SPDX-License-Identifier: Apache-2.0 */
#include "core/sys.h"

#include "config.h"
#include "core/broker.h"
#include "core/retain.h"
#include "plugin/hooks.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sys {
	struct timer timer;
	struct broker *b;
};

static int64_t
total(const struct broker *b, enum metric id)
{
	int64_t sum = 0;

	for (unsigned i = 0; i <= b->worker_count; i++)
		sum += metric_get(&b->workers[i]->metrics, id);
	return sum;
}

static void
tell(struct broker *b, const char *name, const char *value)
{
	char topic[96];
	struct grapnel_publication p = { .size = sizeof(p), .retain = true };

	snprintf(topic, sizeof(topic), "$SYS/broker/%s", name);
	p.topic_name = (struct grapnel_str){ topic, strlen(topic) };
	p.payload = (struct grapnel_str){ value, strlen(value) };
	core_publish(b, &p); /* no memory: the next round tells it */
}

static void
tell_number(struct broker *b, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	tell(b, name, text);
}

static void
on_interval(struct timer *t, void *owner)
{
	static const struct {
		const char *name;
		enum metric id;
	} rows[] = {
		{ "bytes/received", METRIC_BYTES_RECEIVED },
		{ "bytes/sent", METRIC_BYTES_SENT },
		{ "clients/connected", METRIC_SESSIONS_ONLINE },
		{ "clients/expired", METRIC_SESSIONS_EXPIRED },
		{ "clients/total", METRIC_SESSIONS },
		{ "messages/inflight", METRIC_INFLIGHT_MESSAGES },
		{ "messages/queued", METRIC_QUEUED_MESSAGES },
		{ "messages/received", METRIC_PACKETS_RECEIVED },
		{ "messages/sent", METRIC_PACKETS_SENT },
		{ "publish/messages/received", METRIC_MESSAGES_RECEIVED },
		{ "publish/messages/sent", METRIC_MESSAGES_SENT },
		{ "shared_groups/count", METRIC_SHARED_GROUPS },
		{ "subscriptions/count", METRIC_SUBSCRIPTIONS },
	};
	struct sys *sys = (struct sys *)(void *)((char *)t - offsetof(struct sys, timer));
	struct broker *b = sys->b;
	struct retain_stats retained;
	char text[64];

	(void)owner;
	/* A reload may have changed the interval; 0 is off until a reload turns it on. */
	worker_timer(
	    b->main, t, b->settings->sys_interval_ms != 0 ? b->settings->sys_interval_ms : 10000);
	if (b->settings->sys_interval_ms == 0)
		return;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		tell_number(b, rows[i].name, total(b, rows[i].id));
	tell_number(b, "clients/disconnected",
	    total(b, METRIC_SESSIONS) - total(b, METRIC_SESSIONS_ONLINE));
	tell_number(b, "publish/messages/dropped",
	    total(b, METRIC_MESSAGES_DROPPED_QUEUE_FULL) +
		total(b, METRIC_MESSAGES_DROPPED_OUTPUT_FULL) +
		total(b, METRIC_MESSAGES_DROPPED_TOO_LARGE) +
		total(b, METRIC_MESSAGES_DROPPED_DENIED) + total(b, METRIC_MESSAGES_DROPPED_HOOK) +
		total(b, METRIC_MESSAGES_DROPPED_MEMORY) +
		total(b, METRIC_MESSAGES_DROPPED_MEMORY_LIMIT));
	retain_stats(b->retain, &retained);
	tell_number(b, "retained messages/count", (int64_t)retained.messages);
	snprintf(
	    text, sizeof(text), "%" PRId64 " seconds", (clock_wall_us() - b->started_us) / 1000000);
	tell(b, "uptime", text);
	tell(b, "version", PACKAGE_STRING);
}

int
sys_start(struct broker *b)
{
	struct sys *sys = calloc(1, sizeof(*sys));

	if (sys == NULL)
		return GRAPNEL_ENOMEM;
	sys->b = b;
	timer_init(&sys->timer, on_interval);
	b->sys = sys;
	worker_timer(b->main, &sys->timer, b->settings->sys_interval_ms != 0 ? 100 : 10000);
	return GRAPNEL_OK;
}

void
sys_stop(struct broker *b)
{
	if (b->sys == NULL)
		return;
	timer_disarm(b->main->wheel, &b->sys->timer);
	free(b->sys);
	b->sys = NULL;
}
