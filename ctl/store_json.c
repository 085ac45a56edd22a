/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include "../plugins/common/base64.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ----------------------------------------------------------------------------------- */

static bool
put_base64(json_t *o, const char *name, struct grapnel_str bytes)
{
	char key[64], *text = malloc(BASE64_SIZE(bytes.len));
	int err;

	if (text == NULL)
		return false;
	base64_encode(text, (const uint8_t *)bytes.data, bytes.len, true);
	snprintf(key, sizeof(key), "%s_base64", name);
	err = json_object_set_new(o, key, json_string_nocheck(text));
	free(text);
	return err == 0;
}

bool
json_put_text(json_t *o, const char *name, struct grapnel_str text)
{
	json_t *value;

	if (text.data == NULL)
		return true;
	/* jansson says NULL for what is not UTF-8, and for no memory, where base64 fails as well. */
	if ((value = json_stringn(text.data, text.len)) == NULL)
		return put_base64(o, name, text);
	return json_object_set_new(o, name, value) == 0;
}

bool
json_put_number(json_t *o, const char *name, uint64_t n)
{
	return json_object_set_new(
		   o, name, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n)) == 0;
}

bool
json_put_flag(json_t *o, const char *name, bool flag)
{
	return !flag || json_object_set_new(o, name, json_true()) == 0;
}

bool
json_put_time(json_t *o, const char *name, const struct row_time *t)
{
	json_t *time;

	if (!t->set)
		return true;
	time = json_object();
	if (time == NULL || !json_put_number(time, "at_ms", t->wall_ms) ||
	    !json_put_number(time, "left_ms", t->left_ms)) {
		json_decref(time);
		return false;
	}
	return json_object_set_new(o, name, time) == 0;
}

/* ---- reading ----------------------------------------------------------------------------------- */

struct json_bytes {
	struct json_bytes *next;
	max_align_t data[];
};

void
json_line_error(struct json_line *l, const char *format, ...)
{
	va_list ap;

	if (l->error[0] != '\0')
		return;
	va_start(ap, format);
	vsnprintf(l->error, sizeof(l->error), format, ap);
	va_end(ap);
}

bool
json_line_parse(struct json_line *l, const char *text, size_t len)
{
	json_error_t e;

	*l = (struct json_line){ 0 };
	l->root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
	if (l->root == NULL)
		json_line_error(l, "this is not JSON: %s (column %d)", e.text, e.column);
	else if (!json_is_object(l->root))
		json_line_error(l, "this is no JSON object");
	return l->error[0] == '\0';
}

void
json_line_clear(struct json_line *l)
{
	while (l->bytes != NULL) {
		struct json_bytes *b = l->bytes;

		l->bytes = b->next;
		free(b);
	}
	json_decref(l->root);
	*l = (struct json_line){ 0 };
}

struct json_in
json_in_root(struct json_line *l)
{
	return (struct json_in){ .line = l, .object = l->root, .name = "the object" };
}

void *
json_line_room(struct json_line *l, size_t size)
{
	struct json_bytes *b = malloc(sizeof(*b) + size);

	if (b == NULL) {
		json_line_error(l, "no memory");
		return NULL;
	}
	b->next = l->bytes;
	l->bytes = b;
	return b->data;
}

static const json_t *
take(struct json_in *in, const char *name)
{
	const json_t *value = json_object_get(in->object, name);

	if (value != NULL)
		in->used++;
	return value;
}

/* After an error nothing is read any more: callers go straight through, and ask once. */
static const json_t *
take_of(struct json_in *in, const char *name, json_type type, const char *wanted)
{
	const json_t *value;

	if (in->line->error[0] != '\0' || (value = take(in, name)) == NULL)
		return NULL;
	if (json_typeof(value) == type)
		return value;
	json_line_error(in->line, "\"%s\" of %s is not %s", name, in->name, wanted);
	return NULL;
}

struct grapnel_str
json_take_text(struct json_in *in, const char *name)
{
	struct grapnel_str none = { NULL, 0 };
	const json_t *value = take_of(in, name, JSON_STRING, "a text");
	uint8_t *room;
	char key[64];
	size_t len;

	if (value != NULL)
		return (struct grapnel_str){ json_string_value(value), json_string_length(value) };
	snprintf(key, sizeof(key), "%s_base64", name);
	if ((value = take_of(in, key, JSON_STRING, "a text")) == NULL)
		return none;
	len = json_string_length(value);
	if ((room = json_line_room(in->line, len / 4 * 3 + 4)) == NULL)
		return none;
	if (!base64_decode(json_string_value(value), len, room, len / 4 * 3 + 3, &len)) {
		json_line_error(in->line, "\"%s\" of %s is not base64", key, in->name);
		return none;
	}
	room[len] = '\0'; /* as jansson does with its own */
	return (struct grapnel_str){ (char *)room, len };
}

static void
missing(struct json_in *in, const char *name)
{
	json_line_error(in->line, "%s has no \"%s\"", in->name, name);
}

struct grapnel_str
json_need_text(struct json_in *in, const char *name)
{
	struct grapnel_str text = json_take_text(in, name);

	if (text.data == NULL)
		missing(in, name);
	return text;
}

static uint64_t
take_number(struct json_in *in, const char *name, bool needed, uint64_t otherwise, uint64_t max)
{
	const json_t *value = take_of(in, name, JSON_INTEGER, "a whole number");
	json_int_t n;

	if (value == NULL) {
		if (needed)
			missing(in, name);
		return otherwise;
	}
	n = json_integer_value(value);
	if (n >= 0 && (uint64_t)n <= max)
		return (uint64_t)n;
	json_line_error(in->line, "\"%s\" of %s is not from 0 to %" PRIu64, name, in->name, max);
	return otherwise;
}

uint64_t
json_take_number(struct json_in *in, const char *name, uint64_t otherwise, uint64_t max)
{
	return take_number(in, name, false, otherwise, max);
}

uint64_t
json_need_number(struct json_in *in, const char *name, uint64_t max)
{
	return take_number(in, name, true, 0, max);
}

bool
json_take_flag(struct json_in *in, const char *name)
{
	const json_t *value;

	if (in->line->error[0] != '\0' || (value = take(in, name)) == NULL)
		return false;
	if (!json_is_boolean(value))
		json_line_error(in->line, "\"%s\" of %s is not true or false", name, in->name);
	return json_is_true(value);
}

struct row_time
json_take_time(struct json_in *in, const char *name)
{
	struct json_in o = json_take_object(in, name);
	struct row_time t = { .set = o.object != NULL };

	if (!t.set)
		return t;
	t.wall_ms = json_need_number(&o, "at_ms", INT64_MAX);
	t.left_ms = json_need_number(&o, "left_ms", INT64_MAX);
	json_in_end(&o);
	return t;
}

const json_t *
json_take_array(struct json_in *in, const char *name)
{
	return take_of(in, name, JSON_ARRAY, "an array");
}

struct json_in
json_take_object(struct json_in *in, const char *name)
{
	return (struct json_in){ .line = in->line,
		.object = take_of(in, name, JSON_OBJECT, "an object"),
		.name = name };
}

struct json_in
json_in_member(struct json_in *in, const json_t *value, const char *name)
{
	if (!json_is_object(value))
		json_line_error(in->line, "one of \"%s\" of %s is not an object", name, in->name);
	return (struct json_in){ .line = in->line, .object = value, .name = name };
}

bool
json_in_end(struct json_in *in)
{
	if (in->line->error[0] == '\0' && in->used < json_object_size(in->object))
		json_line_error(in->line,
		    "%s has a member that this version does not know, or one twice (as text and "
		    "as base64)",
		    in->name);
	return in->line->error[0] == '\0';
}
