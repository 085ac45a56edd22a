/* SPDX-License-Identifier: MIT-0 */
/*
 * payload-validator - messages have to match the JSON schema of their topic
 *
 * Threads:   schemas are loaded in create() and immutable; message_publish runs on all workers at once.
 * Ownership: a parsed payload is freed before the hook returns.
 * Bounded:   max_bytes and max_depth of a payload, so that a check takes less than a worker may be held; SCHEMAS_MAX.
 */
#include <grapnel/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema.h"

#define SCHEMAS_MAX 256u
#define REASON_SIZE 256u

enum { FORMAT_INVALID = 0x99 };

struct entry {
	struct grapnel_str filter;
	struct schema *schema;
};

struct validator {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	size_t max_bytes, max_depth;
	bool drop, deny_unknown;
	struct grapnel_str report; /* len 0: no reports */
	int metric_checked, metric_refused;
	size_t count;
	struct entry entries[SCHEMAS_MAX];
};

/* ------------------------------------------------------------------------------ topics */

/* Levels are compared from the left; "#" also stands for the level above it. */
static bool
matches(struct grapnel_str filter, struct grapnel_str topic)
{
	size_t f = 0, t = 0;

	while (f < filter.len) {
		if (filter.data[f] == '#')
			return true;
		if (filter.data[f] == '+') {
			f++;
			while (t < topic.len && topic.data[t] != '/')
				t++;
		} else if (t < topic.len && filter.data[f] == topic.data[t]) {
			f++;
			t++;
			continue;
		} else {
			return t == topic.len && filter.len - f == 2 && filter.data[f + 1] == '#';
		}
	}
	return t == topic.len;
}

static const struct schema *
schema_for(const struct validator *v, struct grapnel_str topic)
{
	for (size_t i = 0; i < v->count; i++)
		if (matches(v->entries[i].filter, topic))
			return v->entries[i].schema;
	return NULL;
}

/* ---------------------------------------------------------------------------- payloads */

/* jansson calls itself for each level; this counts them before it does. */
static bool
is_too_deep(struct grapnel_str text, size_t max_depth)
{
	size_t depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > max_depth)
				return true;
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static bool
is_valid(const struct validator *v, const struct schema *s, struct grapnel_str payload,
    char reason[REASON_SIZE])
{
	json_error_t error;
	json_t *value;
	bool good;

	if (payload.len > v->max_bytes || is_too_deep(payload, v->max_depth)) {
		(void)snprintf(reason, REASON_SIZE, "the payload is %s",
		    payload.len > v->max_bytes ? "too large" : "nested too deeply");
		return false;
	}
	/* The text of the error would show some of the payload. */
	value =
	    json_loadb(payload.data, payload.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (value == NULL) {
		(void)snprintf(
		    reason, REASON_SIZE, "the payload is no JSON, from byte %d on", error.position);
		return false;
	}
	good = schema_check(s, value, reason, REASON_SIZE);
	json_decref(value);
	return good;
}

/* For those who look after the devices: which client sends what is wrong, and why. */
static void
report(const struct validator *v, const struct grapnel_client_info *client,
    const struct grapnel_message_info *message, const char *reason)
{
	struct grapnel_publication p = { .size = sizeof(p), .topic_name = v->report };
	json_t *o;
	char *text;

	if (v->report.len == 0)
		return;
	o = json_pack("{s:s%, s:s%, s:s}", "client", client->client_id.data, client->client_id.len,
	    "topic", message->topic_name.data, message->topic_name.len, "reason", reason);
	text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
	if (text != NULL) {
		p.payload = (struct grapnel_str){ text, strlen(text) };
		(void)v->host->publish(v->self, &p);
	}
	free(text);
	json_decref(o);
}

static enum grapnel_verdict
refuse(const struct validator *v, struct grapnel_request *req, const char *reason)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.drop = v->drop,
		.reason_code = v->drop ? 0 : FORMAT_INVALID,
		.reason_string = { reason, strlen(reason) } };

	v->host->metric_add(v->self, v->metric_refused, 1);
	if (v->host->publish_answer(req, &answer) != GRAPNEL_OK)
		return GRAPNEL_UNAVAILABLE;
	return v->drop ? GRAPNEL_ALLOW : GRAPNEL_DENY;
}

static enum grapnel_verdict
validator_message_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	const struct validator *v = instance;
	const struct schema *s = schema_for(v, q->message->topic_name);
	char reason[REASON_SIZE];

	if (s == NULL)
		return v->deny_unknown ? refuse(v, req, "there is no schema for this topic")
				       : GRAPNEL_NEXT;
	/* An empty payload that is retained takes away what was retained before. */
	if (q->message->retain && q->message->payload.len == 0)
		return GRAPNEL_NEXT;
	v->host->metric_add(v->self, v->metric_checked, 1);
	if (is_valid(v, s, q->message->payload, reason))
		return GRAPNEL_NEXT;
	report(v, q->client, q->message, reason);
	return refuse(v, req, reason);
}

/* ------------------------------------------------------------------------ the instance */

static void
validator_destroy(void *instance)
{
	struct validator *v = instance;

	for (size_t i = 0; i < v->count; i++)
		schema_free(v->entries[i].schema);
	free(v);
}

static bool
add_schema(struct validator *v, const struct grapnel_block *block, struct grapnel_str filter)
{
	struct grapnel_str file = v->host->option_str(v->self, block, "file");
	char error[512], *path = strndup(file.data, file.len);
	struct schema *s = path != NULL ? schema_load(path, error, sizeof(error)) : NULL;

	free(path);
	if (path == NULL)
		return false;
	if (s == NULL) {
		v->host->config_error(v->self, block, "file", "%s", error);
		return false;
	}
	v->entries[v->count++] = (struct entry){ filter, s };
	return true;
}

static bool
add_schemas(struct validator *v)
{
	const struct grapnel_block *block;
	struct grapnel_str filter;
	bool good = true;

	for (size_t i = 0;
	     (block = v->host->option_block(v->self, NULL, "schema", i, &filter)) != NULL; i++) {
		if (i == SCHEMAS_MAX) {
			v->host->config_error(
			    v->self, block, NULL, "more than %u schemas", SCHEMAS_MAX);
			return false;
		}
		if (filter.len == 0) {
			v->host->config_error(
			    v->self, block, NULL, "it needs a Topic Filter as its title");
			good = false;
		} else {
			good &= add_schema(v, block, filter);
		}
	}
	return good;
}

static int
validator_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct validator *v = calloc(1, sizeof(*v));
	struct grapnel_str on_invalid = host->option_str(self, NULL, "on_invalid");

	if (v == NULL)
		return GRAPNEL_ENOMEM;
	v->host = host;
	v->self = self;
	v->max_bytes = (size_t)host->option_int(self, NULL, "max_bytes");
	v->max_depth = (size_t)host->option_int(self, NULL, "max_depth");
	v->deny_unknown = host->option_bool(self, NULL, "schema_required");
	v->drop = on_invalid.len == 4 && memcmp(on_invalid.data, "drop", 4) == 0;
	v->report = host->option_str(self, NULL, "report_to");
	v->metric_checked = host->metric_new(
	    self, GRAPNEL_COUNTER, "checked_total", "Payloads that were looked at.");
	v->metric_refused =
	    host->metric_new(self, GRAPNEL_COUNTER, "refused_total", "Messages that were refused.");
	if (v->metric_checked < 0 || v->metric_refused < 0 || !add_schemas(v)) {
		validator_destroy(v);
		return GRAPNEL_EINVAL;
	}
	*instance = v;
	return GRAPNEL_OK;
}

static const struct grapnel_option schema_options[] = {
	{ .name = "file",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "The schema, a JSON file." },
	{ .name = NULL },
};

static const struct grapnel_option validator_options[] = {
	{ .name = "max_bytes",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "64k",
	    .min = 1,
	    .max = 1 << 18, /* some milliseconds of a worker */
	    .help = "Longest payload of a topic that has a schema." },
	{ .name = "max_depth",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "32",
	    .min = 1,
	    .max = 256,
	    .help = "Objects and arrays inside each other." },
	{ .name = "on_invalid",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "deny|drop",
	    .default_value = "deny",
	    .help = "deny: the client is told why; drop: it is told that all is well." },
	{ .name = "report_to",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "\"\"",
	    .help = "A topic on which each refusal is published; none when empty." },
	{ .name = "schema",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = schema_options,
	    .help = "A schema for topics; its title is a Topic Filter, and the first that matches "
		    "counts." },
	{ .name = "schema_required",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether messages on topics without a schema are refused." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(payload_validator, .version = "1.0", .license = "MIT-0",
    .description = "Holds payloads against JSON schemas", .options = validator_options,
    .create = validator_create, .destroy = validator_destroy, .reload_always = true,
    .message_publish = validator_message_publish);
