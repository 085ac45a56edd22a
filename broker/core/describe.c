/* SPDX-License-Identifier: Apache-2.0 */
#include "core/describe.h"
#include "core/broker.h"
#include "net/listener.h"
#include <stdlib.h>
#include <string.h>

json_t *
describe_str(struct grapnel_str s)
{
	static const char digits[] = "0123456789abcdef";
	json_t *made;
	char *text;
	size_t len = 0;

	if (s.data == NULL)
		return json_null();
	if ((made = json_stringn(s.data, s.len)) != NULL) /* checks the encoding */
		return made;
	if (s.len > (SIZE_MAX - 1) / 4 || (text = malloc(s.len * 4 + 1)) == NULL)
		return NULL;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if (c >= 0x20 && c < 0x7f && c != '\\') {
			text[len++] = (char)c;
			continue;
		}
		text[len++] = '\\';
		text[len++] = 'x';
		text[len++] = digits[c >> 4];
		text[len++] = digits[c & 15];
	}
	made = json_stringn_nocheck(text, len);
	free(text);
	return made;
}

static bool
set_str(json_t *object, const char *key, const char *text)
{
	struct grapnel_str s = { text, text != NULL ? strlen(text) : 0 };

	return json_object_set_new(object, key, describe_str(s)) == 0;
}

bool
core_describe_listeners(struct broker *b, json_t *out_array)
{
	for (unsigned i = 0; i < b->settings->listener_count; i++) {
		const struct listener_settings *l = &b->settings->listeners[i];
		json_t *object = json_object();

		if (object == NULL || !set_str(object, "name", l->name) || !set_str(object, "bind", l->bind) ||
		    !set_str(object, "address", listener_address(b, l)) || !set_str(object, "mountpoint", l->mountpoint) ||
		    json_object_set_new(object, "anonymous", json_boolean(l->anonymous)) != 0 ||
		    json_object_set_new(object, "connections", json_integer(listener_connections(b, l))) != 0) {
			json_decref(object);
			return false;
		}
		if (json_array_append_new(out_array, object) != 0)
			return false;
	}
	return true;
}
