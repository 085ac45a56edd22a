/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status - GET /v1/status, GET /v1/config, POST /v1/reload
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "api.h"
#include "base/log.h"
#include "base/metrics.h"
#include "config/conf.h"
#include "core/broker.h"
#include "core/describe.h"
#include "core/retain.h"
#include "plugin/hooks.h"
#include "reload.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static json_int_t
metric_sum(const struct broker *b, enum metric m)
{
	int64_t sum = 0;

	for (unsigned i = 0; i <= b->worker_count; i++) /* with main's */
		sum += metric_get(&b->workers[i]->metrics, m);
	return sum;
}

/* What an operator should know and start-up has said once. */
static json_t *
warnings(const struct broker *b)
{
	json_t *list = json_array();
	char text[320];

	if (list == NULL)
		return NULL;
	for (unsigned i = 0; i < b->settings->listener_count; i++) {
		const struct listener_settings *l = &b->settings->listeners[i];
		json_t *warning;

		if (!l->anonymous || plugins_have(b->plugins, HOOK_ACL))
			continue;
		snprintf(text, sizeof(text),
		    "listener \"%.200s\": anonymous = yes and no ACL: everybody may use every "
		    "topic but $-topics",
		    l->name);
		warning = describe_str((struct grapnel_str){ text, strlen(text) });
		if (warning == NULL || json_array_append_new(list, warning) != 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static void
format_time(int64_t wall_us, char *out, size_t size)
{
	time_t seconds = (time_t)(wall_us / 1000000);
	struct tm tm;

	if (gmtime_r(&seconds, &tm) == NULL || strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, size, "%" PRId64, (int64_t)seconds);
}

void
route_status(struct api_call *call)
{
	struct broker *b = call->broker;
	const struct settings *s = b->settings;
	int64_t uptime = (clock_wall_us() - b->started_us) / 1000000;
	struct retain_stats retained;
	char abi[16], boot[24], started[32];
	json_t *listeners = json_array(), *warned = warnings(b), *answer;

	if (listeners == NULL || warned == NULL || !core_describe_listeners(b, listeners)) {
		json_decref(listeners);
		json_decref(warned);
		api_reply_error(call, 500, "no memory");
		return;
	}
	retain_stats(b->retain, &retained);
	snprintf(abi, sizeof(abi), "%d.%d", GRAPNEL_ABI_MAJOR, GRAPNEL_ABI_MINOR);
	snprintf(boot, sizeof(boot), "%016" PRIx64,
	    b->boot_id); /* as text: JSON numbers are doubles to many readers */
	format_time(b->started_us, started, sizeof(started));
	answer = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:i}", "version", PACKAGE_VERSION, "abi",
	    abi, "node", s->node_name != NULL ? s->node_name : "", "boot", boot, "started", started,
	    "uptime", (json_int_t)(uptime > 0 ? uptime : 0), "workers", (int)b->worker_count);
	if (answer != NULL) {
		json_t *counts = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
		    "connections", metric_sum(b, METRIC_CONNECTIONS), "sessions",
		    metric_sum(b, METRIC_SESSIONS), "sessions_online",
		    metric_sum(b, METRIC_SESSIONS_ONLINE), "subscriptions",
		    metric_sum(b, METRIC_SUBSCRIPTIONS), "shared_groups",
		    metric_sum(b, METRIC_SHARED_GROUPS), "retained_messages",
		    (json_int_t)retained.messages, "queued_messages",
		    metric_sum(b, METRIC_QUEUED_MESSAGES), "inflight_messages",
		    metric_sum(b, METRIC_INFLIGHT_MESSAGES), "messages_received",
		    metric_sum(b, METRIC_MESSAGES_RECEIVED), "messages_sent",
		    metric_sum(b, METRIC_MESSAGES_SENT));

		if (counts == NULL || json_object_update(answer, counts) != 0) {
			json_decref(answer);
			answer = NULL;
		}
		json_decref(counts);
	}
	if (answer == NULL || json_object_set(answer, "listeners", listeners) != 0 ||
	    json_object_set_new(answer, "config", json_string(s->path)) != 0 ||
	    json_object_set(answer, "warnings", warned) != 0) {
		json_decref(answer);
		answer = NULL;
	}
	json_decref(listeners);
	json_decref(warned);
	api_reply_json(call, 200, answer);
}

void
route_config(struct api_call *call)
{
	char *text = settings_print(call->broker->settings);

	if (text == NULL) {
		api_reply_error(call, 500, "no memory");
		return;
	}
	api_reply_text(
	    call, 200, "text/plain; charset=utf-8", (struct grapnel_str){ text, strlen(text) });
	free(text);
}

static void
reload_refused(struct api_call *call, const struct conf_errors *errs)
{
	json_t *list = json_array(), *answer;

	for (unsigned i = 0; list != NULL && i < errs->count; i++)
		json_array_append_new(list,
		    describe_str(
			(struct grapnel_str){ errs->messages[i], strlen(errs->messages[i]) }));
	answer = json_pack("{s:b, s:s, s:o}", "reloaded", 0, "error",
	    "nothing was changed: the new configuration has errors", "errors", list);
	api_reply_json(call, 409, answer);
}

static void
reload_done(void *arg, int err)
{
	struct api_call *call = arg;

	if (err == GRAPNEL_OK)
		api_reply_json(call, 200,
		    json_pack("{s:b, s:o}", "reloaded", 1, "warnings", warnings(call->broker)));
	else
		api_reply_error(call, 409,
		    "nothing was changed: a plugin did not start (error %d); the log says more",
		    err);
}

void
route_reload(struct api_call *call)
{
	struct conf_errors errs = { 0 };
	int err;

	log_notice("admin (%s) asks for a reload", call->who);
	err = broker_reload(call->broker, &errs, reload_done, call);
	if (err == GRAPNEL_ESTATE)
		api_reply_error(
		    call, 409, "another reload is under way, or the broker is stopping");
	else if (err != GRAPNEL_OK && errs.count > 0)
		reload_refused(call, &errs);
	else if (err != GRAPNEL_OK)
		api_reply_error(
		    call, 500, "the reload failed (error %d); nothing was changed", err);
	conf_errors_clear(&errs); /* reload_done, which may have run already, does not use it */
}
