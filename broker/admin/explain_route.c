/* SPDX-License-Identifier: Apache-2.0 */
/*
 * explain_route - POST /v1/explain, DELETE /v1/cache
 */
#include "api.h"
#include "base/log.h"
#include "core/broker.h"
#include "core/explain.h"
#include "mqtt/topic.h"
#include "plugin/hooks.h"

#include <string.h>

/* ---- explain --------------------------------------------------------------------------------- */

static void
explained(void *arg, json_t *answer)
{
	api_reply_json(arg, 200, answer);
}

/* A member that is text; absent: fallback. false: it is something else. */
static bool
member(const json_t *body, const char *name, const char *fallback, struct grapnel_str *out)
{
	const json_t *v = json_object_get(body, name);

	*out = (struct grapnel_str){ fallback, fallback != NULL ? strlen(fallback) : 0 };
	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_string(v))
		return false;
	*out = (struct grapnel_str){ json_string_value(v), json_string_length(v) };
	return true;
}

/* What is wrong with the body; NULL: nothing. */
static const char *
question_from(const json_t *body, struct explain_question *q)
{
	static const char *const known[] = { "client", "username", "password", "mountpoint",
		"listener", "login", "publish", "subscribe", "read", "qos", "retain" };
	static const struct {
		const char *name;
		enum grapnel_action action;
	} actions[] = { { "publish", GRAPNEL_PUBLISH }, { "subscribe", GRAPNEL_SUBSCRIBE },
		{ "read", GRAPNEL_READ } };
	const char *key;
	const json_t *v;
	struct grapnel_str topic;

	if (!json_is_object(body))
		return "the body is an object";
	json_object_foreach((json_t *)(uintptr_t)body, key, v)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(known[0]) && strcmp(known[i], key) != 0)
			i++;
		if (i == sizeof(known) / sizeof(known[0]))
			return "it has an unknown member";
	}
	if (!member(body, "client", NULL, &q->client_id) || q->client_id.len == 0)
		return "\"client\", a client id, is missing";
	if (!member(body, "username", NULL, &q->username) ||
	    !member(body, "password", NULL, &q->password) ||
	    !member(body, "mountpoint", "", &q->mountpoint) ||
	    !member(body, "listener", "", &q->listener))
		return "username, password, mountpoint and listener are text";
	q->login = json_is_true(json_object_get(body, "login")) || q->password.data != NULL;
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (!member(body, actions[i].name, NULL, &topic))
			return "publish, subscribe and read are text";
		if (topic.data == NULL)
			continue;
		if (q->action != 0)
			return "one of publish, subscribe and read at a time";
		if (actions[i].action == GRAPNEL_SUBSCRIBE ? !topic_filter_valid(topic, NULL, NULL)
							   : !topic_name_valid(topic))
			return "this is no topic";
		q->action = actions[i].action;
		q->topic = topic;
	}
	if (!q->login && q->action == 0)
		return "\"login\", \"publish\", \"subscribe\" or \"read\" is missing";
	v = json_object_get(body, "qos");
	if (v != NULL && (json_integer_value(v) < 0 || json_integer_value(v) > 2))
		return "qos is 0, 1 or 2";
	q->qos = (uint8_t)json_integer_value(v);
	q->retain = json_is_true(json_object_get(body, "retain"));
	return NULL;
}

void
route_explain(struct api_call *call)
{
	struct explain_question q = { 0 };
	const char *wrong = question_from(call->body, &q);

	if (wrong != NULL)
		api_reply_error(call, 400, "%s", wrong);
	else if (core_explain(call->broker, &q, explained, call) != GRAPNEL_OK)
		api_reply_error(call, 500, "no memory");
}

/* ---- kept answers ---------------------------------------------------------------------------- */

static struct grapnel_str
given(const struct api_call *call, const char *name)
{
	const char *s = api_query_get(&call->query, name);

	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

void
route_cache_purge(struct api_call *call)
{
	const char *plugin = api_query_get(&call->query, "plugin");
	struct grapnel_str username = given(call, "username"), client = given(call, "client");
	uint64_t forgotten;

	if (plugins_cache_purge(call->broker->plugins, plugin, username, client, &forgotten) !=
	    GRAPNEL_OK) {
		api_reply_error(call, 404, "no plugin \"%s\" is enabled", plugin);
		return;
	}
	if (core_rights_ask(call->broker, username, client) != GRAPNEL_OK) {
		api_reply_error(call, 500, "no memory");
		return;
	}
	log_at(GRAPNEL_LOG_NOTICE, "cache_purged",
	    "admin (%s) has %llu kept answers forgotten; rights are asked about again", call->who,
	    (unsigned long long)forgotten);
	api_reply_json(call, 200, json_pack("{s:I}", "forgotten", (json_int_t)forgotten));
}
