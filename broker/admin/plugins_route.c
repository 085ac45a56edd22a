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
#define COMMAND_LIMIT_MS \
	10000u /* below ADMIN_CALL_TIMEOUT_S, so that it is this one that is told */

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

/* The plugin's own words, if it has some. */
static const char *
why_failed(const json_t *answer)
{
	const char *why = json_string_value(json_object_get(answer, "error"));

	return why != NULL ? why : "the command failed";
}

static void
command_on_done(void *arg, const struct command_result *r)
{
	struct api_call *call = arg;
	const char *name = call->path.segments[3];
	json_t *answer = NULL;

	if (r->end == COMMAND_UNKNOWN) {
		api_reply_error(call, 404, "no plugin offers the command \"%s\"", name);
		return;
	}
	if (r->end == COMMAND_LATE) {
		api_reply_error(call, 504,
		    "the plugin has not answered \"%s\" within %u seconds; what it was asked to do "
		    "may go on",
		    name, COMMAND_LIMIT_MS / 1000);
		return;
	}
	if (r->end == COMMAND_GONE) {
		api_reply_error(call, 503, "the plugin has ended without answering \"%s\"", name);
		return;
	}
	if (r->given &&
	    (r->text.data == NULL ||
		(answer = json_loadb(r->text.data, r->text.len, JSON_DECODE_ANY, NULL)) == NULL)) {
		api_reply_error(call, 500, "%s",
		    r->text.data == NULL ? "no memory" : "the plugin's answer is not JSON");
		return;
	}
	if (r->err != GRAPNEL_OK && !r->given)
		api_reply_error(call, r->err == GRAPNEL_EINVAL ? 400 : 500,
		    "the command failed (error %d)", r->err);
	else if (r->err != GRAPNEL_OK)
		api_reply_json(call, 409,
		    json_pack("{s:s, s:O}", "error", why_failed(answer), "answer", answer));
	else
		api_reply_json(call, 200, json_pack("{s:O?}", "answer", answer));
	json_decref(answer);
}

void
route_plugin_command(struct api_call *call)
{
	struct grapnel_str arguments[ARGUMENTS_MAX];
	struct grapnel_command command = { .size = sizeof(command) };
	int count = command_arguments(call->body, arguments);

	if (count < 0) {
		api_reply_error(call, 400, "the body is {\"arguments\": [...]}, at most %d strings",
		    ARGUMENTS_MAX);
		return;
	}
	command.name =
	    (struct grapnel_str){ call->path.segments[3], strlen(call->path.segments[3]) };
	command.arguments = arguments;
	command.argument_count = (size_t)count;
	plugins_command(call->broker->plugins, &command, COMMAND_LIMIT_MS, command_on_done, call);
}
