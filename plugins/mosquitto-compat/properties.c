/* SPDX-License-Identifier: Apache-2.0 */
/* properties - the host's and Mosquitto's: calls.h */
#include "calls.h"

#include <stdlib.h>
#include <string.h>

bool
properties_read(
    const struct grapnel_host *host, struct grapnel_str block, struct mqtt5__property **list)
{
	struct mqtt5__property **end = list;
	struct grapnel_property p;
	size_t at = 0;
	bool good = true;

	*list = NULL;
	while (good && block.len > 0 && host->property_next(block, &at, &p) > 0) {
		int id = (int)p.id;

		switch (grapnel_mosquitto_type(id)) {
		case PROPERTY_BYTE:
		case PROPERTY_INT16:
		case PROPERTY_INT32:
		case PROPERTY_VARINT:
			good = grapnel_mosquitto_add(&end, id, p.u.number, NULL, 0, NULL, 0);
			break;
		case PROPERTY_BINARY:
		case PROPERTY_STRING:
			good =
			    grapnel_mosquitto_add(&end, id, 0, p.u.str.data, p.u.str.len, NULL, 0);
			break;
		case PROPERTY_PAIR:
			good = grapnel_mosquitto_add(&end, id, 0, p.u.pair.value.data,
			    p.u.pair.value.len, p.u.pair.name.data, p.u.pair.name.len);
			break;
		case PROPERTY_NONE:
			break;
		}
	}
	if (!good)
		mosquitto_property_free_all(list);
	return good;
}

static bool
same(const char *a, size_t a_len, const char *b, size_t b_len)
{
	return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

bool
properties_equal(const struct mqtt5__property *a, const struct mqtt5__property *b)
{
	for (; a != NULL && b != NULL; a = a->next, b = b->next)
		if (a->identifier != b->identifier || a->number != b->number ||
		    !same(a->value, a->value_len, b->value, b->value_len) ||
		    !same(a->name, a->name_len, b->name, b->name_len))
			return false;
	return a == b;
}

struct grapnel_property *
properties_to_host(const struct mqtt5__property *list, size_t *count)
{
	struct grapnel_property *properties, *out;

	*count = 0;
	for (const struct mqtt5__property *p = list; p != NULL; p = p->next)
		++*count;
	if (*count == 0)
		return NULL;
	properties = out = calloc(*count, sizeof(*properties));
	for (; list != NULL && properties != NULL; list = list->next, out++) {
		struct grapnel_str value = { list->value, list->value_len };

		out->id = (uint32_t)list->identifier;
		if (list->name != NULL)
			out->u.pair =
			    (struct grapnel_pair){ { list->name, list->name_len }, value };
		else if (list->value != NULL)
			out->u.str = value;
		else
			out->u.number = list->number;
	}
	return properties;
}
