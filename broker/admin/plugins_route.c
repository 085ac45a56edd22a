/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plugins_route - GET /v1/plugins, GET /v1/plugins/<instance>, DELETE
 * /v1/plugins/<instance>/values, POST /v1/plugins/command/<command>
 */
#include "api.h"
#include "base/log.h"
#include "core/broker.h"
#include "plugin/hooks.h"
#include <stdlib.h>
#include <string.h>

#define ARGUMENTS_MAX 64

void
route_plugins(struct api_call *call)
{
	api_reply_json(call, 200, plugins_json(call->broker->plugins, NULL));
}

void
route_plugin(struct api_call *call)
{
	json_t *answer = plugins_json(call->broker->plugins, call->path.segments[2]);

	if (answer == NULL || json_is_null(answer)) {
		json_decref(answer);
		api_reply_error(call, 404, "no plugin \"%s\" is enabled", call->path.segments[2]);
	} else
		api_reply_json(call, 200, answer);
}

void
route_plugin_forget(struct api_call *call)
{
	const char *name = call->path.segments[2];
	uint32_t forgotten;
	int err = plugins_values_forget(call->broker->plugins, name, &forgotten);

	if (err == GRAPNEL_ESTATE) {
		api_reply_error(call, 409,
		    "plugin \"%s\" is enabled, or still ends; set enabled = no in its section "
		    "first",
		    name);
		return;
	}
	if (err == GRAPNEL_ENOENT) {
		api_reply_error(call, 404, "nothing is kept for a plugin \"%s\"", name);
		return;
	}
	log_at(GRAPNEL_LOG_NOTICE, "values_forgotten",
	    "admin (%s) forgets what plugin \"%s\" has kept: %u values", call->who, name,
	    forgotten);
	if (err != GRAPNEL_OK)
		api_reply_error(call, 500, "no memory to forget more than %u values", forgotten);
	else
		api_reply_json(call, 200, json_pack("{s:I}", "forgotten", (json_int_t)forgotten));
}

/* The plugin's answer, while its command runs. */
struct command_answer {
	json_t *json;
	bool given, malformed;
};

static void
command_on_reply(void *ctx, struct grapnel_str text)
{
	struct command_answer *answer = ctx;

	if (answer->given) /* the first one counts */
		return;
	answer->given = true;
	answer->json =
	    json_loadb(text.data != NULL ? text.data : "", text.len, JSON_DECODE_ANY, NULL);
	answer->malformed = answer->json == NULL;
}

/* {"arguments": ["…"]} -> how many; -1: anything else. */
static int
command_arguments(const json_t *body, struct grapnel_str *arguments)
{
	const json_t *list, *value;
	const char *key;
	size_t i;

	if (body == NULL)
		return 0;
	if (!json_is_object(body))
		return -1;
	json_object_foreach(
	    (json_t *)body, key, value) if (strcmp(key, "arguments") != 0) return -1;
	list = json_object_get(body, "arguments");
	if (list == NULL)
		return 0;
	if (!json_is_array(list) || json_array_size(list) > ARGUMENTS_MAX)
		return -1;
	json_array_foreach(list, i, value)
	{
		if (!json_is_string(value))
			return -1;
		arguments[i] =
		    (struct grapnel_str){ json_string_value(value), json_string_length(value) };
	}
	return (int)json_array_size(list);
}

void
route_plugin_command(struct api_call *call)
{
	struct grapnel_str arguments[ARGUMENTS_MAX];
	struct command_answer answer = { 0 };
	struct grapnel_command command = { .size = sizeof(command) };
	int count = command_arguments(call->body, arguments);
	int err;

	if (count < 0) {
		api_reply_error(call, 400, "the body is {\"arguments\": [...]}, at most %d strings",
		    ARGUMENTS_MAX);
		return;
	}
	command.name =
	    (struct grapnel_str){ call->path.segments[3], strlen(call->path.segments[3]) };
	command.arguments = arguments;
	command.argument_count = (size_t)count;
	err = plugins_command(call->broker->plugins, &command, command_on_reply, &answer);
	if (err == GRAPNEL_ENOENT && !answer.given)
		api_reply_error(
		    call, 404, "no plugin offers the command \"%s\"", call->path.segments[3]);
	else if (answer.malformed)
		api_reply_error(call, 500, "the plugin's answer is not JSON");
	else if (err != GRAPNEL_OK && !answer.given)
		api_reply_error(
		    call, err == GRAPNEL_EINVAL ? 400 : 500, "the command failed (error %d)", err);
	else if (err != GRAPNEL_OK)
		api_reply_json(call, 409,
		    json_pack("{s:s, s:O}", "error", "the command failed", "answer", answer.json));
	else
		api_reply_json(call, 200, json_pack("{s:o?}", "answer", json_incref(answer.json)));
	json_decref(answer.json);
}
