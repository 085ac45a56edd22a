/* SPDX-License-Identifier: MIT-0 */
/* schema - see schema.h */
#include "schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_STEPS_MAX 20000u

enum type {
	TYPE_NULL = 1u << 0,
	TYPE_BOOLEAN = 1u << 1,
	TYPE_OBJECT = 1u << 2,
	TYPE_ARRAY = 1u << 3,
	TYPE_NUMBER = 1u << 4,
	TYPE_STRING = 1u << 5,
	TYPE_INTEGER = 1u << 6,
};

static const struct {
	const char *name;
	enum type type;
} types[] = {
	{ "null", TYPE_NULL },
	{ "boolean", TYPE_BOOLEAN },
	{ "object", TYPE_OBJECT },
	{ "array", TYPE_ARRAY },
	{ "number", TYPE_NUMBER },
	{ "string", TYPE_STRING },
	{ "integer", TYPE_INTEGER },
};
#define TYPES (sizeof(types) / sizeof(*types))

struct member {
	char *name;
	struct schema *schema; /* NULL: anything */
	bool required;
};

struct range {
	bool has_min, has_max;
	double min, max;
};

struct schema {
	unsigned types; /* bits; 0: any */
	json_t *values; /* enum; NULL: any */
	struct member *members;
	size_t member_count;
	bool closed; /* additionalProperties: false */
	struct schema *items;
	struct range number, length, count;
};

/* ---------------------------------------------------------------------------- messages */

/* Where in the value, as a JSON Pointer: a list from the innermost level outwards, on the stack. */
struct place {
	const struct place *outer;
	const char *name; /* NULL: index */
	size_t index;
};

struct why {
	char *text;
	size_t size;
	unsigned steps; /* that a check may still take */
};

static size_t
put_place(struct why *why, const struct place *place)
{
	size_t at;
	int n;

	if (place == NULL)
		return 0;
	at = put_place(why, place->outer);
	if (place->name != NULL)
		n = snprintf(why->text + at, why->size - at, "/%s", place->name);
	else
		n = snprintf(why->text + at, why->size - at, "/%zu", place->index);
	if (n < 0)
		return at;
	return at + (size_t)n < why->size ? at + (size_t)n : why->size - 1;
}

/* One that was cut may end within a character, and would be no text that a client can be told. */
static void
whole_characters(char *text)
{
	size_t len = strlen(text), at = len;
	unsigned char first;

	while (at > 0 && ((unsigned char)text[at - 1] & 0xC0) == 0x80)
		at--;
	first = at > 0 ? (unsigned char)text[at - 1] : 0;
	if (first >= 0xC0 && len - at + 1 < (first >= 0xF0 ? 4u : first >= 0xE0 ? 3u : 2u))
		text[at - 1] = '\0';
}

static bool no(struct why *why, const struct place *place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Says why and is false, so that a check can return it. */
static bool
no(struct why *why, const struct place *place, const char *format, ...)
{
	size_t at = put_place(why, place);
	va_list arguments;

	if (place == NULL)
		at += (size_t)snprintf(why->text, why->size, "the payload");
	at += (size_t)snprintf(why->text + at, why->size - at, ": ");
	va_start(arguments, format);
	if (at < why->size)
		(void)vsnprintf(why->text + at, why->size - at, format, arguments);
	va_end(arguments);
	whole_characters(why->text);
	return false;
}

/* ----------------------------------------------------------------------------- loading */

struct load {
	struct why why;
	unsigned depth;
};

static struct schema *schema_new(struct load *l, const struct place *place, json_t *from);

void
schema_free(struct schema *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->member_count; i++) {
		free(s->members[i].name);
		schema_free(s->members[i].schema);
	}
	free(s->members);
	schema_free(s->items);
	json_decref(s->values);
	free(s);
}

static bool
load_type(struct load *l, const struct place *place, struct schema *s, const json_t *value)
{
	size_t count = json_is_array(value) ? json_array_size(value) : 1;

	for (size_t i = 0; i < count; i++) {
		const char *name =
		    json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
		size_t t = 0;

		while (t < TYPES && (name == NULL || strcmp(types[t].name, name) != 0))
			t++;
		if (t == TYPES)
			return no(&l->why, place, "that is no type");
		s->types |= types[t].type;
	}
	return s->types != 0 || no(&l->why, place, "there is no type");
}

static bool
load_bound(struct load *l, const struct place *place, bool *has, double *bound, const json_t *value)
{
	*has = json_is_number(value);
	*bound = json_number_value(value);
	return *has || no(&l->why, place, "it has to be a number");
}

/* The member of that name, made if there is none. NULL: no memory. */
static struct member *
member_of(struct schema *s, const char *name)
{
	struct member *grown;

	for (size_t i = 0; i < s->member_count; i++)
		if (strcmp(s->members[i].name, name) == 0)
			return &s->members[i];
	grown = realloc(s->members, (s->member_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return NULL;
	s->members = grown;
	grown[s->member_count] = (struct member){ .name = strdup(name) };
	return grown[s->member_count].name != NULL ? &grown[s->member_count++] : NULL;
}

static bool
load_properties(struct load *l, const struct place *place, struct schema *s, json_t *value)
{
	const char *name;
	json_t *one;

	if (!json_is_object(value))
		return no(&l->why, place, "it has to be an object");
	json_object_foreach(value, name, one)
	{
		struct place inner = { place, name, 0 };
		struct member *m = member_of(s, name);

		if (m == NULL)
			return no(&l->why, place, "no memory");
		if ((m->schema = schema_new(l, &inner, one)) == NULL)
			return false;
	}
	return true;
}

static bool
load_required(struct load *l, const struct place *place, struct schema *s, const json_t *value)
{
	size_t i;
	const json_t *one;

	if (!json_is_array(value))
		return no(&l->why, place, "it has to be an array of names");
	json_array_foreach(value, i, one)
	{
		struct member *m =
		    json_is_string(one) ? member_of(s, json_string_value(one)) : NULL;

		if (m == NULL)
			return no(&l->why, place, "it has to be an array of names");
		m->required = true;
	}
	return true;
}

static bool
load_values(struct load *l, const struct place *place, struct schema *s, json_t *value, bool one)
{
	if (s->values != NULL)
		return no(&l->why, place, "enum and const exclude each other");
	if (!one && !json_is_array(value))
		return no(&l->why, place, "it has to be an array");
	s->values = one ? json_pack("[O]", value) : json_incref(value);
	return s->values != NULL || no(&l->why, place, "no memory");
}

static bool
only_explains(const char *keyword)
{
	static const char *const some[] = { "$schema", "$id", "$comment", "title", "description",
		"default", "examples" };

	for (size_t i = 0; i < sizeof(some) / sizeof(*some); i++)
		if (strcmp(keyword, some[i]) == 0)
			return true;
	return false;
}

static bool
load_keyword(struct load *l, const struct place *place, struct schema *s, json_t *value)
{
	const struct {
		const char *name;
		bool *has;
		double *bound;
	} bounds[] = {
		{ "minimum", &s->number.has_min, &s->number.min },
		{ "maximum", &s->number.has_max, &s->number.max },
		{ "minLength", &s->length.has_min, &s->length.min },
		{ "maxLength", &s->length.has_max, &s->length.max },
		{ "minItems", &s->count.has_min, &s->count.min },
		{ "maxItems", &s->count.has_max, &s->count.max },
	};

	for (size_t i = 0; i < sizeof(bounds) / sizeof(*bounds); i++)
		if (strcmp(place->name, bounds[i].name) == 0)
			return load_bound(l, place, bounds[i].has, bounds[i].bound, value);
	if (strcmp(place->name, "type") == 0)
		return load_type(l, place, s, value);
	if (strcmp(place->name, "properties") == 0)
		return load_properties(l, place, s, value);
	if (strcmp(place->name, "required") == 0)
		return load_required(l, place, s, value);
	if (strcmp(place->name, "enum") == 0 || strcmp(place->name, "const") == 0)
		return load_values(l, place, s, value, place->name[0] == 'c');
	if (strcmp(place->name, "items") == 0)
		return (s->items = schema_new(l, place, value)) != NULL;
	if (strcmp(place->name, "additionalProperties") == 0) {
		s->closed = json_is_false(value);
		return json_is_boolean(value) || no(&l->why, place, "it has to be true or false");
	}
	return only_explains(place->name) || no(&l->why, place, "this keyword is not known here");
}

/* NULL: l->why has been filled. */
static struct schema *
schema_new(struct load *l, const struct place *place, json_t *from)
{
	struct schema *s = calloc(1, sizeof(*s));
	const char *keyword;
	json_t *value;

	if (s == NULL || !json_is_object(from) || l->depth == SCHEMA_DEPTH_MAX) {
		(void)no(&l->why, place, "%s",
		    s == NULL                   ? "no memory"
			: !json_is_object(from) ? "a schema is an object"
						: "schemas are nested too deeply");
		free(s);
		return NULL;
	}
	l->depth++;
	json_object_foreach(from, keyword, value)
	{
		struct place inner = { place, keyword, 0 };

		if (!load_keyword(l, &inner, s, value)) {
			schema_free(s);
			return NULL;
		}
	}
	l->depth--;
	return s;
}

struct schema *
schema_load(const char *path, char *error, size_t error_size)
{
	struct load l = { .why = { .text = error, .size = error_size } };
	struct schema *s = NULL;
	json_error_t where;
	json_t *from;
	FILE *f = fopen(path, "re");

	if (f == NULL) {
		(void)snprintf(error, error_size, "%s cannot be read", path);
		return NULL;
	}
	if (fseek(f, 0, SEEK_END) != 0 || ftell(f) > (long)SCHEMA_BYTES_MAX) {
		(void)snprintf(
		    error, error_size, "%s has more than %u bytes", path, SCHEMA_BYTES_MAX);
		(void)fclose(f);
		return NULL;
	}
	rewind(f);
	from = json_loadf(f, JSON_REJECT_DUPLICATES, &where);
	(void)fclose(f);
	if (from == NULL)
		(void)snprintf(error, error_size, "%s:%d: %s", path, where.line, where.text);
	else
		s = schema_new(&l, NULL, from);
	json_decref(from);
	return s;
}

/* ---------------------------------------------------------------------------- checking */

static unsigned
type_of(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return TYPE_OBJECT;
	case JSON_ARRAY:
		return TYPE_ARRAY;
	case JSON_STRING:
		return TYPE_STRING;
	case JSON_INTEGER:
		return TYPE_INTEGER | TYPE_NUMBER;
	case JSON_REAL:
		return TYPE_NUMBER;
	case JSON_TRUE:
	case JSON_FALSE:
		return TYPE_BOOLEAN;
	case JSON_NULL:
		break;
	}
	return TYPE_NULL;
}

static bool
in_range(struct why *why, const struct place *place, const struct range *range, double value,
    const char *unit)
{
	if (range->has_min && value < range->min)
		return no(why, place, "%.10g%s is less than %.10g", value, unit, range->min);
	if (range->has_max && value > range->max)
		return no(why, place, "%.10g%s is more than %.10g", value, unit, range->max);
	return true;
}

/* Characters, not bytes: jansson has checked that it is UTF-8. */
static double
characters(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t n = 0;

	for (size_t i = 0; i < json_string_length(value); i++)
		n += ((unsigned char)text[i] & 0xC0) != 0x80;
	return (double)n;
}

/* A short payload of many empty objects could keep a large schema busy for long. */
static bool
step(struct why *why, const struct place *place)
{
	if (why->steps == 0)
		return no(why, place, "it takes too long to check from here on");
	why->steps--;
	return true;
}

static bool
one_of(struct why *why, const struct place *place, const json_t *values, const json_t *value)
{
	size_t i;
	json_t *one;

	json_array_foreach(values, i, one)
	{
		if (!step(why, place))
			return false;
		if (json_equal(one, value))
			return true;
	}
	return no(why, place, "it is none of the values that are allowed");
}

static bool check(
    struct why *why, const struct place *place, const struct schema *s, const json_t *value);

static bool
check_object(
    struct why *why, const struct place *place, const struct schema *s, const json_t *value)
{
	size_t known = 0;

	for (size_t i = 0; i < s->member_count; i++) {
		const struct member *m = &s->members[i];
		struct place inner = { place, m->name, 0 };
		const json_t *one = json_object_get(value, m->name);

		if (!step(why, place))
			return false;
		if (one == NULL && m->required)
			return no(why, &inner, "it is missing");
		known += one != NULL;
		if (one != NULL && m->schema != NULL && !check(why, &inner, m->schema, one))
			return false;
	}
	/* What its name is stays out of the reason: it can be anything. */
	if (s->closed && known < json_object_size(value))
		return no(why, place, "it has a member that the schema does not name");
	return true;
}

static bool
check_array(struct why *why, const struct place *place, const struct schema *s, const json_t *value)
{
	size_t i;
	const json_t *one;

	if (!in_range(why, place, &s->count, (double)json_array_size(value), " items"))
		return false;
	if (s->items == NULL)
		return true;
	json_array_foreach(value, i, one)
	{
		struct place inner = { place, NULL, i };

		if (!step(why, &inner) || !check(why, &inner, s->items, one))
			return false;
	}
	return true;
}

static bool
check(struct why *why, const struct place *place, const struct schema *s, const json_t *value)
{
	unsigned type = type_of(value);

	if (s->types != 0 && (s->types & type) == 0)
		return no(why, place, "it is of the wrong type");
	if (s->values != NULL && !one_of(why, place, s->values, value))
		return false;
	if ((type & TYPE_NUMBER) != 0)
		return in_range(why, place, &s->number, json_number_value(value), "");
	if (type == TYPE_STRING)
		return in_range(why, place, &s->length, characters(value), " characters");
	if (type == TYPE_OBJECT)
		return check_object(why, place, s, value);
	return type != TYPE_ARRAY || check_array(why, place, s, value);
}

bool
schema_check(const struct schema *s, const json_t *value, char *reason, size_t reason_size)
{
	struct why why = { .text = reason, .size = reason_size, .steps = CHECK_STEPS_MAX };

	return check(&why, NULL, s, value);
}
