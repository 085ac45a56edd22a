/* SPDX-License-Identifier: Apache-2.0 */
#include "core/describe.h"
#include "core/broker.h"
#include "net/listener.h"
#include <string.h>

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

		if (object == NULL || !set_str(object, "name", l->name) ||
		    !set_str(object, "bind", l->bind) ||
		    !set_str(object, "address", listener_address(b, l)) ||
		    !set_str(object, "mountpoint", l->mountpoint) ||
		    json_object_set_new(object, "anonymous", json_boolean(l->anonymous)) != 0 ||
		    json_object_set_new(
			object, "connections", json_integer(listener_connections(b, l))) != 0) {
			json_decref(object);
			return false;
		}
		if (json_array_append_new(out_array, object) != 0)
			return false;
	}
	return true;
}
