/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char hex[] = "0123456789ABCDEF";

static bool
is_special(const struct key_rules *rules, char c)
{
	return (unsigned char)c <= ' ' || c == 0x7f || strchr("%*?[]^\\{}", c) != NULL ||
	    (rules->separators.len > 0 &&
		memchr(rules->separators.data, c, rules->separators.len) != NULL);
}

/* Bytes that a value takes; 0: it has no key. */
static size_t
value_size(const struct key_rules *rules, struct grapnel_str value)
{
	size_t size = value.len;

	if (value.data == NULL || value.len > rules->max_key)
		return 0;
	for (size_t i = 0; rules->names != KEY_RAW && i < value.len; i++) {
		if (!is_special(rules, value.data[i]))
			continue;
		if (rules->names == KEY_REFUSE)
			return 0;
		size += 2;
	}
	return size;
}

static char *
put_value(const struct key_rules *rules, char *out, struct grapnel_str value)
{
	for (size_t i = 0; i < value.len; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if (rules->names != KEY_ENCODE || !is_special(rules, (char)c)) {
			*out++ = (char)c;
			continue;
		}
		*out++ = '%';
		*out++ = hex[c >> 4];
		*out++ = hex[c & 15];
	}
	return out;
}

enum key_result
key_fill(const struct key *key, const struct template_values *v, struct grapnel_str *out)
{
	size_t count = template_count(key->template), size = 0;
	char *text, *end;

	for (size_t i = 0; i < count; i++) {
		const struct template_part *part = template_part(key->template, i);
		size_t more = part->field == 0 ? part->text.len
					       : value_size(key->rules, template_value(part, v));

		if (part->field != 0 && more == 0)
			return KEY_NONE;
		size += more;
	}
	if (size == 0 || size > key->rules->max_key)
		return KEY_NONE;
	if ((text = end = malloc(size)) == NULL)
		return KEY_NO_MEMORY;
	for (size_t i = 0; i < count; i++) {
		const struct template_part *part = template_part(key->template, i);

		if (part->field != 0) {
			end = put_value(key->rules, end, template_value(part, v));
		} else {
			memcpy(end, part->text.data, part->text.len);
			end += part->text.len;
		}
	}
	*out = (struct grapnel_str){ text, size };
	return KEY_OK;
}

/* What stands before the first place, and how many parts come from there on. */
static struct grapnel_str
prefix_of(const struct key *key, size_t *rest)
{
	const struct template_part *first;

	*rest = template_count(key->template);
	if (*rest == 0)
		return GRAPNEL_STR("");
	first = template_part(key->template, 0);
	if (first->field != 0)
		return GRAPNEL_STR("");
	*rest -= 1;
	return first->text;
}

static bool
begins_with(struct grapnel_str text, struct grapnel_str prefix)
{
	return text.len >= prefix.len &&
	    (prefix.len == 0 || memcmp(text.data, prefix.data, prefix.len) == 0);
}

bool
keys_cannot_collide(const struct key *const *keys, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t rest, other;
		struct grapnel_str prefix = prefix_of(keys[i], &rest);

		if (rest > 1)
			return false;
		for (size_t j = 0; j < count; j++)
			if (i != j && begins_with(prefix_of(keys[j], &other), prefix))
				return false;
	}
	return true;
}

static int
hex_value(char c)
{
	const char *at = c != '\0' ? strchr(hex, c) : NULL;

	return at != NULL ? (int)(at - hex) : -1;
}

/* The value that has this form; false: none has. */
static bool
take_value(const struct key_rules *rules, struct grapnel_str form, char *out, size_t *len)
{
	*len = 0;
	for (size_t i = 0; i < form.len; i++) {
		char c = form.data[i];

		if (rules->names == KEY_RAW || !is_special(rules, c)) {
			out[(*len)++] = c;
			continue;
		}
		if (rules->names == KEY_REFUSE || c != '%' || form.len - i < 3)
			return false;
		if (hex_value(form.data[i + 1]) < 0 || hex_value(form.data[i + 2]) < 0)
			return false;
		out[(*len)++] =
		    (char)(hex_value(form.data[i + 1]) << 4 | hex_value(form.data[i + 2]));
		i += 2;
	}
	out[*len] = '\0';
	return *len > 0;
}

unsigned
key_owner(const struct key *key, struct grapnel_str name, struct grapnel_str *value)
{
	size_t rest;
	struct grapnel_str prefix = prefix_of(key, &rest), suffix = { NULL, 0 };
	size_t places = template_count(key->template) - rest; /* index of the first one */
	const struct template_part *last;
	char *text;

	if (!begins_with(name, prefix))
		return 0;
	if (rest == 0)
		return name.len == prefix.len ? UINT_MAX : 0;
	last = template_part(key->template, template_count(key->template) - 1);
	if (last->field == 0)
		suffix = last->text;
	if (name.len <= prefix.len + suffix.len ||
	    (suffix.len > 0 &&
		memcmp(name.data + name.len - suffix.len, suffix.data, suffix.len) != 0))
		return 0;
	if (rest > (suffix.len > 0 ? 2u : 1u))
		return UINT_MAX;
	name = (struct grapnel_str){ name.data + prefix.len, name.len - prefix.len - suffix.len };
	if ((text = malloc(name.len + 1)) == NULL)
		return UINT_MAX;
	if (!take_value(key->rules, name, text, &value->len)) {
		free(text);
		return 0;
	}
	value->data = text;
	return template_part(key->template, places)->field;
}

char *
key_pattern(const struct key *key, const char *prefix)
{
	size_t count = template_count(key->template), size = strlen(prefix) + 1;
	char *text, *end;

	for (size_t i = 0; i < count; i++)
		size += 2 * template_part(key->template, i)->text.len + 1;
	if ((text = malloc(size)) == NULL)
		return NULL;
	end = stpcpy(text, prefix);
	for (size_t i = 0; i < count; i++) {
		const struct template_part *part = template_part(key->template, i);

		if (part->field != 0)
			*end++ = '*';
		for (size_t j = 0; part->field == 0 && j < part->text.len; j++) {
			if (strchr("*?[]^\\", part->text.data[j]) != NULL)
				*end++ = '\\';
			*end++ = part->text.data[j];
		}
	}
	*end = '\0';
	return text;
}
