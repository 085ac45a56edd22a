/* SPDX-License-Identifier: Apache-2.0 */
/*
 * api - the table of routes and the ways to answer
 */
#include "api.h"
#include "base/log.h"
#include "mqtt/wire.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct api_route {
	enum api_method method;
	const char *segments[API_MAX_SEGMENTS]; /* "*" is any one */
	const char *params[API_MAX_PARAMS];     /* that it knows */
	void (*handler)(struct api_call *call);
};

static const struct api_route routes[] = {
	{ API_GET, { "metrics" }, { NULL }, route_metrics },
	{ API_DELETE, { "v1", "cache" }, { "client", "plugin", "username" }, route_cache_purge },
	{ API_GET, { "v1", "clients" },
	    { "after", "after_mountpoint", "limit", "online", "username" }, route_clients },
	{ API_GET, { "v1", "clients", "*" }, { "mountpoint" }, route_client },
	{ API_DELETE, { "v1", "clients", "*" }, { "mountpoint" }, route_client_kick },
	{ API_POST, { "v1", "clients", "*", "trace" }, { "mountpoint" }, route_client_trace },
	{ API_DELETE, { "v1", "clients", "*", "trace" }, { "mountpoint" }, route_client_untrace },
	{ API_GET, { "v1", "config" }, { NULL }, route_config },
	{ API_POST, { "v1", "explain" }, { NULL }, route_explain },
	{ API_GET, { "v1", "guard" }, { NULL }, route_guard },
	{ API_DELETE, { "v1", "guard" }, { "address" }, route_guard_lift },
	{ API_GET, { "v1", "plugins" }, { NULL }, route_plugins },
	{ API_GET, { "v1", "plugins", "*" }, { NULL }, route_plugin },
	{ API_DELETE, { "v1", "plugins", "*", "values" }, { NULL }, route_plugin_forget },
	{ API_POST, { "v1", "plugins", "command", "*" }, { NULL }, route_plugin_command },
	{ API_POST, { "v1", "reload" }, { NULL }, route_reload },
	{ API_GET, { "v1", "status" }, { NULL }, route_status },
};

static bool
route_matches(const struct api_route *r, const struct api_path *p)
{
	unsigned i;

	for (i = 0; i < API_MAX_SEGMENTS && r->segments[i] != NULL; i++)
		if (i >= p->count ||
		    (strcmp(r->segments[i], "*") != 0 &&
			strcmp(r->segments[i], p->segments[i]) != 0))
			return false;
	return i == p->count;
}

static const char *
route_unknown_param(const struct api_route *r, const struct api_query *q)
{
	for (unsigned i = 0; i < q->count; i++) {
		unsigned k = 0;

		while (k < API_MAX_PARAMS && r->params[k] != NULL &&
		    strcmp(r->params[k], q->params[i].name) != 0)
			k++;
		if (k == API_MAX_PARAMS || r->params[k] == NULL)
			return q->params[i].name;
	}
	return NULL;
}

static void
call_free(struct api_call *call)
{
	if (call->finished != NULL)
		call->finished(call);
	api_path_clear(&call->path);
	api_query_clear(&call->query);
	json_decref(call->body);
	free(call);
}

static void
call_send(struct api_call *call, int status, const char *content_type, const char *allow,
    struct grapnel_str body)
{
	if (call->send != NULL)
		call->send(call->carrier, status, content_type, allow, body);
	call->send = NULL;
	call_free(call);
}

char *
api_error_text(const char *message)
{
	json_t *answer = json_pack("{s:s}", "error", message);
	char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;

	json_decref(answer);
	return text;
}

static void
refuse(api_send_fn send, void *carrier, int status, const char *allow, const char *message)
{
	char *text = api_error_text(message);
	struct grapnel_str body =
	    text != NULL ? (struct grapnel_str){ text, strlen(text) } : GRAPNEL_STR("{}");

	send(carrier, status, "application/json", allow, body);
	free(text);
}

struct api_call *
api_call_new(struct broker *b, enum api_method method, const char *path, const char *query,
    struct grapnel_str body, const char *who, api_send_fn send, void *carrier)
{
	struct api_call *call = calloc(1, sizeof(*call));
	json_error_t fault;
	char message[JSON_ERROR_TEXT_LENGTH + 48];
	int err;

	if (call == NULL) {
		refuse(send, carrier, 500, NULL, "no memory");
		return NULL;
	}
	call->broker = b;
	call->method = method;
	snprintf(call->who, sizeof(call->who), "%s", who);
	if ((err = api_path_parse(&call->path, path)) != GRAPNEL_OK ||
	    (err = api_query_parse(&call->query, query)) != GRAPNEL_OK) {
		if (err == GRAPNEL_ENOMEM)
			refuse(send, carrier, 500, NULL, "no memory");
		else
			refuse(send, carrier, 400, NULL, "malformed path or query");
		goto fail;
	}
	if (body.len > 0) {
		/* Depth is bounded by jansson's parser (2048 levels) and the body by the carrier. */
		call->body = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, &fault);
		if (call->body == NULL) {
			snprintf(message, sizeof(message),
			    "the body is not JSON: %s (line %d, column %d)", fault.text, fault.line,
			    fault.column);
			refuse(send, carrier, 400, NULL, message);
			goto fail;
		}
	}
	call->send = send;
	call->carrier = carrier;
	return call;
fail:
	call_free(call);
	return NULL;
}

/* "GET, DELETE": what a path that exists can do. */
static void
reply_method(struct api_call *call, unsigned methods)
{
	static const char *const names[] = {
		[API_GET] = "GET, HEAD", [API_POST] = "POST", [API_DELETE] = "DELETE"
	};
	char allow[64] = "", message[128];
	char *text;
	size_t len = 0;

	for (unsigned m = API_GET; m < API_OTHER; m++)
		if (methods & (1u << m))
			len += (size_t)snprintf(allow + len, sizeof(allow) - len, "%s%s",
			    len > 0 ? ", " : "", names[m]);
	snprintf(message, sizeof(message), "this path takes %s", allow);
	if ((text = api_error_text(message)) == NULL) {
		call_send(call, 405, "application/json", allow, GRAPNEL_STR("{}"));
		return;
	}
	call_send(call, 405, "application/json", allow, (struct grapnel_str){ text, strlen(text) });
	free(text);
}

void
api_dispatch(struct api_call *call)
{
	unsigned methods = 0;

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		const struct api_route *r = &routes[i];
		const char *unknown;

		if (!route_matches(r, &call->path))
			continue;
		if (r->method != call->method) {
			methods |= 1u << r->method;
			continue;
		}
		if ((unknown = route_unknown_param(r, &call->query)) != NULL)
			api_reply_error(call, 400, "unknown parameter \"%s\"", unknown);
		else
			r->handler(call);
		return;
	}
	if (methods != 0)
		reply_method(call, methods);
	else
		api_reply_error(call, 404, "no such path; the API begins at /v1/status");
}

void
api_reply_text(struct api_call *call, int status, const char *content_type, struct grapnel_str body)
{
	call_send(call, status, content_type, NULL, body);
}

void
api_reply_json(struct api_call *call, int status, json_t *answer)
{
	char *text = answer != NULL ? json_dumps(answer, JSON_COMPACT) : NULL;

	json_decref(answer);
	if (text == NULL) {
		call_send(
		    call, 500, "application/json", NULL, GRAPNEL_STR("{\"error\":\"no memory\"}"));
		return;
	}
	call_send(
	    call, status, "application/json", NULL, (struct grapnel_str){ text, strlen(text) });
	free(text);
}

void
api_reply_error(struct api_call *call, int status, const char *format, ...)
{
	char message[512];
	json_t *answer;
	va_list ap;

	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	/* A text that was cut in the middle of a character is not UTF-8 any more. */
	for (size_t len = strlen(message); len > 0 && !utf8_valid(message, len);)
		message[--len] = '\0';
	answer = json_pack("{s:s}", "error", message);
	api_reply_json(call, status, answer);
}
