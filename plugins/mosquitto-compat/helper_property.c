/* SPDX-License-Identifier: Apache-2.0 */
/* helper_property - lists of properties, as Mosquitto's plugins make and read them. MQTT 5.0 section 2.2.2 */
#include "helper_functions.h"

#include "../common/utf8.h"

#include <stdlib.h>
#include <string.h>

#define VARINT_MAX    268435455u
#define USER_PROPERTY 38

static void
property_free(struct mqtt5__property *p)
{
	if (p->alive != NULL)
		--*p->alive;
	free(p->value);
	free(p->name);
	free(p);
}

void
mosquitto_property_free_all(struct mqtt5__property **properties)
{
	struct mqtt5__property *p;

	if (properties == NULL)
		return;
	while ((p = *properties) != NULL) {
		*properties = p->next;
		property_free(p);
	}
}

/* With a NUL behind. NULL: no memory. */
static char *
copy_bytes(const char *data, size_t len)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		return NULL;
	if (len > 0)
		memcpy(copy, data, len);
	copy[len] = '\0';
	return copy;
}

bool
grapnel_mosquitto_add(struct mqtt5__property ***end, int identifier, uint32_t number,
    const char *value, size_t len, const char *name, size_t name_len)
{
	struct mqtt5__property *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return false;
	p->identifier = identifier;
	p->number = number;
	p->value_len = (uint16_t)len;
	p->name_len = (uint16_t)name_len;
	if ((value != NULL && (p->value = copy_bytes(value, len)) == NULL) ||
	    (name != NULL && (p->name = copy_bytes(name, name_len)) == NULL)) {
		property_free(p);
		return false;
	}
	**end = p;
	*end = &p->next;
	return true;
}

/* ---- adding ------------------------------------------------------------------------------ */

static int
append(struct mqtt5__property **list, int identifier, uint32_t number, const char *value,
    size_t len, const char *name, size_t name_len)
{
	struct mqtt5__property **end = list;

	while (*end != NULL)
		end = &(*end)->next;
	return grapnel_mosquitto_add(&end, identifier, number, value, len, name, name_len)
	    ? MOSQ_SUCCESS
	    : MOSQ_NOMEM;
}

static int
add_number(struct mqtt5__property **list, int identifier, enum property_type type, uint32_t number)
{
	if (list == NULL || grapnel_mosquitto_type(identifier) != type)
		return MOSQ_INVAL;
	return append(list, identifier, number, NULL, 0, NULL, 0);
}

int
mosquitto_property_add_byte(struct mqtt5__property **proplist, int identifier, uint8_t value)
{
	return add_number(proplist, identifier, PROPERTY_BYTE, value);
}

int
mosquitto_property_add_int16(struct mqtt5__property **proplist, int identifier, uint16_t value)
{
	return add_number(proplist, identifier, PROPERTY_INT16, value);
}

int
mosquitto_property_add_int32(struct mqtt5__property **proplist, int identifier, uint32_t value)
{
	return add_number(proplist, identifier, PROPERTY_INT32, value);
}

int
mosquitto_property_add_varint(struct mqtt5__property **proplist, int identifier, uint32_t value)
{
	if (value > VARINT_MAX)
		return MOSQ_INVAL;
	return add_number(proplist, identifier, PROPERTY_VARINT, value);
}

int
mosquitto_property_add_binary(
    struct mqtt5__property **proplist, int identifier, const void *value, uint16_t len)
{
	if (proplist == NULL || grapnel_mosquitto_type(identifier) != PROPERTY_BINARY ||
	    (value == NULL && len > 0))
		return MOSQ_INVAL;
	return append(proplist, identifier, 0, value != NULL ? value : "", len, NULL, 0);
}

/* NULL is an empty string. */
static int
check_text(const char *text)
{
	size_t len = text != NULL ? strlen(text) : 0;

	if (len > UINT16_MAX)
		return MOSQ_INVAL;
	return len == 0 || utf8_is_text((struct grapnel_str){ text, len }, true)
	    ? MOSQ_SUCCESS
	    : MOSQ_MALFORMED_UTF8;
}

int
mosquitto_property_add_string(struct mqtt5__property **proplist, int identifier, const char *value)
{
	int rc;

	if (proplist == NULL || grapnel_mosquitto_type(identifier) != PROPERTY_STRING)
		return MOSQ_INVAL;
	if ((rc = check_text(value)) != MOSQ_SUCCESS)
		return rc;
	value = value != NULL ? value : "";
	return append(proplist, identifier, 0, value, strlen(value), NULL, 0);
}

int
mosquitto_property_add_string_pair(
    struct mqtt5__property **proplist, int identifier, const char *name, const char *value)
{
	int rc;

	if (proplist == NULL || grapnel_mosquitto_type(identifier) != PROPERTY_PAIR)
		return MOSQ_INVAL;
	if ((rc = check_text(name)) != MOSQ_SUCCESS || (rc = check_text(value)) != MOSQ_SUCCESS)
		return rc;
	name = name != NULL ? name : "";
	value = value != NULL ? value : "";
	return append(proplist, identifier, 0, value, strlen(value), name, strlen(name));
}

int
mosquitto_property_copy_all(struct mqtt5__property **dest, const struct mqtt5__property *src)
{
	struct mqtt5__property *copy = NULL, **end = &copy;

	if (dest == NULL)
		return MOSQ_INVAL;
	for (; src != NULL; src = src->next) {
		if (grapnel_mosquitto_add(&end, src->identifier, src->number, src->value,
			src->value_len, src->name, src->name_len))
			continue;
		mosquitto_property_free_all(&copy);
		return MOSQ_NOMEM;
	}
	*dest = copy;
	return MOSQ_SUCCESS;
}

/* ---- checking ---------------------------------------------------------------------------- */

int
mosquitto_property_check_command(int command, int identifier)
{
	return property_fits(command, identifier) ? MOSQ_SUCCESS : MOSQ_PROTOCOL;
}

/* Values that the specification forbids. */
static bool
value_fits(const struct mqtt5__property *p)
{
	switch (p->identifier) {
	case 1: /* those that are 0 or 1 */
	case 23:
	case 25:
	case 36:
	case 37:
	case 40:
	case 41:
	case 42:
		return p->number <= 1;
	case 11: /* those that are not 0 */
	case 33:
	case 35:
	case 39:
		return p->number > 0;
	default:
		return true;
	}
}

int
mosquitto_property_check_all(int command, const struct mqtt5__property *properties)
{
	for (const struct mqtt5__property *p = properties; p != NULL; p = p->next) {
		if (!value_fits(p) || !property_fits(command, p->identifier))
			return MOSQ_PROTOCOL;
		for (const struct mqtt5__property *q = p->next; q != NULL; q = q->next)
			if (q->identifier == p->identifier && p->identifier != USER_PROPERTY)
				return MOSQ_DUPLICATE_PROPERTY;
	}
	return MOSQ_SUCCESS;
}

/* ---- reading ----------------------------------------------------------------------------- */

int
mosquitto_property_identifier(const struct mqtt5__property *property)
{
	return property != NULL ? property->identifier : 0;
}

const struct mqtt5__property *
mosquitto_property_next(const struct mqtt5__property *proplist)
{
	return proplist != NULL ? proplist->next : NULL;
}

/* The first one of that identifier, when it has that type. */
static const struct mqtt5__property *
find(const struct mqtt5__property *p, int identifier, enum property_type type, bool skip_first)
{
	if (p == NULL || grapnel_mosquitto_type(identifier) != type)
		return NULL;
	for (; p != NULL; p = p->next) {
		if (p->identifier != identifier)
			continue;
		if (!skip_first)
			return p;
		skip_first = false;
	}
	return NULL;
}

const struct mqtt5__property *
mosquitto_property_read_byte(
    const struct mqtt5__property *proplist, int identifier, uint8_t *value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_BYTE, skip_first);

	if (p != NULL && value != NULL)
		*value = (uint8_t)p->number;
	return p;
}

const struct mqtt5__property *
mosquitto_property_read_int16(
    const struct mqtt5__property *proplist, int identifier, uint16_t *value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_INT16, skip_first);

	if (p != NULL && value != NULL)
		*value = (uint16_t)p->number;
	return p;
}

const struct mqtt5__property *
mosquitto_property_read_int32(
    const struct mqtt5__property *proplist, int identifier, uint32_t *value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_INT32, skip_first);

	if (p != NULL && value != NULL)
		*value = p->number;
	return p;
}

const struct mqtt5__property *
mosquitto_property_read_varint(
    const struct mqtt5__property *proplist, int identifier, uint32_t *value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_VARINT, skip_first);

	if (p != NULL && value != NULL)
		*value = p->number;
	return p;
}

const struct mqtt5__property *
mosquitto_property_read_binary(const struct mqtt5__property *proplist, int identifier, void **value,
    uint16_t *len, bool skip_first)
{
	const struct mqtt5__property *p;

	if (value != NULL)
		*value = NULL;
	if (len != NULL)
		*len = 0;
	if ((value != NULL) != (len != NULL))
		return NULL;
	p = find(proplist, identifier, PROPERTY_BINARY, skip_first);
	if (p == NULL || value == NULL)
		return p;
	if ((*value = copy_bytes(p->value, p->value_len)) == NULL)
		return NULL;
	*len = p->value_len;
	return p;
}

const struct mqtt5__property *
mosquitto_property_read_string(
    const struct mqtt5__property *proplist, int identifier, char **value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_STRING, skip_first);

	if (value == NULL)
		return p;
	*value = p != NULL ? copy_bytes(p->value, p->value_len) : NULL;
	return *value != NULL ? p : NULL;
}

const struct mqtt5__property *
mosquitto_property_read_string_pair(const struct mqtt5__property *proplist, int identifier,
    char **name, char **value, bool skip_first)
{
	const struct mqtt5__property *p = find(proplist, identifier, PROPERTY_PAIR, skip_first);

	if (name != NULL)
		*name = p != NULL ? copy_bytes(p->name, p->name_len) : NULL;
	if (value != NULL)
		*value = p != NULL ? copy_bytes(p->value, p->value_len) : NULL;
	if ((name == NULL || *name != NULL) && (value == NULL || *value != NULL))
		return p;
	if (name != NULL) { /* no memory for one of them */
		free(*name);
		*name = NULL;
	}
	if (value != NULL) {
		free(*value);
		*value = NULL;
	}
	return NULL;
}
