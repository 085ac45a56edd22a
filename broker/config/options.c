/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"
#include "settings.h"

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHOICES 16

/* ---- words of messages ----------------------------------------------------------------------- */

const char *
option_shown(char *out, size_t size, const struct conf_node *node, bool secret)
{
	char text[OPTION_SHOWN];

	if (secret || node->expanded || node->secret)
		snprintf(out, size, "\"...\"");
	else
		snprintf(out, size, "\"%s\"", conf_shown(text, sizeof(text), node->value));
	return out;
}

const char *
option_help(char *out, size_t size, const char *help)
{
	size_t len = help == NULL ? 0 : strlen(help);

	if (len > 0 && help[len - 1] == '.')
		len--;
	if (size > 0)
		snprintf(out, size, "%.*s", (int)len, len > 0 ? help : "");
	/* "Path of ..." becomes "path of ..."; "QoS ..." and "MQTT ..." stay. */
	if (len > 1 && isupper((unsigned char)out[0]) &&
	    (islower((unsigned char)out[1]) || out[1] == ' ') && strncmp(out, "QoS", 3) != 0)
		out[0] = (char)tolower((unsigned char)out[0]);
	return out;
}

/* " (help)", or nothing. */
static const char *
help_behind(char *out, size_t size, const char *help)
{
	char text[400];

	option_help(text, sizeof(text), help);
	out[0] = '\0';
	if (text[0] != '\0')
		snprintf(out, size, " (%s)", text);
	return out;
}

void
option_unknown(const struct conf_node *node, const char *scope, const char *const *known,
    const char *const *helps, unsigned count, struct conf_errors *errs)
{
	const char *what = node->kind == CONF_BLOCK ? "section" : "option";
	const char *near = conf_nearest(node->name, known, count);
	char name[OPTION_SHOWN], help[420] = "", list[400] = "";
	size_t len = 0;

	conf_shown(name, sizeof(name), node->name);
	if (near != NULL) {
		for (unsigned i = 0; i < count; i++) {
			if (known[i] == near && helps != NULL)
				help_behind(help, sizeof(help), helps[i]);
		}
		conf_errors_add(errs, "%s:%d: %sunknown %s \"%s\"; did you mean \"%s\"?%s",
		    node->file, node->line, scope, what, name, near, help);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		if (len + strlen(known[i]) + sizeof(", , ...") > sizeof(list)) {
			snprintf(list + len, sizeof(list) - len, ", ...");
			break;
		}
		len += (size_t)snprintf(
		    list + len, sizeof(list) - len, "%s%s", i == 0 ? "" : ", ", known[i]);
	}
	conf_errors_add(errs, "%s:%d: %sunknown %s \"%s\"; %s%s", node->file, node->line, scope,
	    what, name, count == 0 ? "there are none here" : "known here: ", list);
}

/* ---- words to choose from -------------------------------------------------------------------- */

/* The next word of "a|b|c"; NULL: that was the last. */
static const char *
choice_next(const char **choices, size_t *len)
{
	const char *word = *choices;

	if (word == NULL)
		return NULL;
	*len = strcspn(word, "|");
	*choices = word[*len] == '|' ? word + *len + 1 : NULL;
	return word;
}

int
option_choice(const char *choices, const char *word)
{
	size_t len;
	const char *choice;

	for (int i = 0; (choice = choice_next(&choices, &len)) != NULL; i++) {
		if (strlen(word) == len && memcmp(word, choice, len) == 0)
			return i;
	}
	return -1;
}

void
option_not_a_choice(const struct conf_node *node, const char *scope, const char *choices,
    bool secret, const char *help, struct conf_errors *errs)
{
	char list[300] = "", shown[OPTION_SHOWN], behind[420], near_text[OPTION_SHOWN + 20] = "";
	char copies[MAX_CHOICES][40];
	const char *words[MAX_CHOICES], *rest = choices, *word, *near;
	unsigned count = 0;
	size_t used = 0, len;

	while (count < MAX_CHOICES && (word = choice_next(&rest, &len)) != NULL) {
		snprintf(copies[count], sizeof(copies[count]), "%.*s", (int)len, word);
		words[count] = copies[count];
		count++;
	}
	for (unsigned i = 0; i < count && used < sizeof(list); i++) {
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s",
		    i == 0               ? ""
			: i == count - 1 ? " or "
					 : ", ",
		    words[i]);
	}
	if (!secret && !node->expanded && (near = conf_nearest(node->value, words, count)) != NULL)
		snprintf(near_text, sizeof(near_text), "; did you mean \"%s\"?", near);
	conf_errors_add(errs, "%s:%d: %s\"%s\" must be %s, not %s%s%s", node->file, node->line,
	    scope, node->name, list, option_shown(shown, sizeof(shown), node, secret), near_text,
	    help_behind(behind, sizeof(behind), help));
}

struct conf_node *
option_default(const char *name, const char *text)
{
	struct conf_errors errs = { 0 };
	bool as_written = text[0] == '[' || text[0] == '"' || text[0] == '\'';
	struct conf_node *root = NULL;
	char *source = NULL;

	if (as_written && asprintf(&source, "%s = %s", name, text) >= 0) {
		root = conf_parse(source, strlen(source), "default", &errs);
	} else if (!as_written && asprintf(&source, "%s = ''", name) >= 0) {
		root = conf_parse(source, strlen(source), "default", &errs);
		if (root != NULL) {
			free(root->items[0].value);
			root->items[0].quoted = false;
			if ((root->items[0].value = strdup(text)) == NULL) {
				conf_free(root);
				root = NULL;
			}
		}
	} else {
		source = NULL;
	}
	free(source);
	conf_errors_clear(&errs);
	return root;
}

/* ---- numbers in their places ----------------------------------------------------------------- */

static void
place_put(const struct option_def *row, void *place, int64_t value)
{
	char *at = (char *)place + row->offset;

	switch (row->size) {
	case 1: {
		uint8_t v = (uint8_t)value;
		memcpy(at, &v, 1);
		break;
	}
	case 2: {
		uint16_t v = (uint16_t)value;
		memcpy(at, &v, 2);
		break;
	}
	case 4: {
		uint32_t v = (uint32_t)value;
		memcpy(at, &v, 4);
		break;
	}
	default:
		assert(row->size == 8);
		memcpy(at, &value, 8);
	}
}

static int64_t
place_get(const struct option_def *row, const void *place)
{
	const char *at = (const char *)place + row->offset;
	uint8_t v1;
	uint16_t v2;
	uint32_t v4;
	int64_t v8;

	switch (row->size) {
	case 1:
		memcpy(&v1, at, 1);
		return v1;
	case 2:
		memcpy(&v2, at, 2);
		return v2;
	case 4:
		memcpy(&v4, at, 4);
		return v4;
	default:
		assert(row->size == 8);
		memcpy(&v8, at, 8);
		return v8;
	}
}

static char **
place_string(const struct option_def *row, void *place)
{
	return (char **)(void *)((char *)place + row->offset);
}

static struct string_list *
place_list(const struct option_def *row, void *place)
{
	return (struct string_list *)(void *)((char *)place + row->offset);
}

static const struct string_list *
list_at(const struct option_def *row, const void *place)
{
	return (const struct string_list *)(const void *)((const char *)place + row->offset);
}

static void
list_clear(struct string_list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct string_list){ 0 };
}

/* ---- setting --------------------------------------------------------------------------------- */

bool
option_wrong(const struct conf_node *node, const char *scope, const char *expected, bool secret,
    const char *help, struct conf_errors *errs)
{
	char shown[OPTION_SHOWN + 8], behind[420];

	conf_errors_add(errs, "%s:%d: %s\"%s\" must be %s, not %s%s", node->file, node->line, scope,
	    node->name, expected, option_shown(shown, sizeof(shown), node, secret),
	    help_behind(behind, sizeof(behind), help));
	return false;
}

bool
option_wrong_kind(const struct conf_node *node, const char *scope, enum conf_kind expected,
    struct conf_errors *errs)
{
	if (expected == CONF_BLOCK) {
		conf_errors_add(errs,
		    "%s:%d: %s\"%s\" is a section, not an option: write %s { ... }", node->file,
		    node->line, scope, node->name, node->name);
	} else if (node->kind == CONF_BLOCK) {
		conf_errors_add(errs, "%s:%d: %s\"%s\" is an option, not a section: write %s = ...",
		    node->file, node->line, scope, node->name, node->name);
	} else {
		conf_errors_add(errs, "%s:%d: %s\"%s\" takes one value, not a list", node->file,
		    node->line, scope, node->name);
	}
	return false;
}

static bool
wrong(const struct option_def *row, const struct conf_node *node, const char *scope,
    const char *expected, struct conf_errors *errs)
{
	return option_wrong(
	    node, scope, expected, (row->flags & OPTION_SECRET) != 0, row->help, errs);
}

const char *
option_number(enum option_type type, int64_t value, char *out)
{
	if (type == OPTION_BYTES)
		return conf_from_bytes(out, value);
	if (type == OPTION_MS)
		return conf_from_duration_ms(out, value);
	if (type == OPTION_SECONDS)
		return conf_from_duration_ms(out, value * 1000);
	snprintf(out, CONF_NUMBER_SIZE, type == OPTION_MODE ? "0%" PRIo64 : "%" PRId64, value);
	return out;
}

static bool
set_number(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, int64_t value, struct conf_errors *errs)
{
	char min[CONF_NUMBER_SIZE], max[CONF_NUMBER_SIZE], range[2 * CONF_NUMBER_SIZE + 16];

	if (value < row->min || value > row->max) {
		snprintf(range, sizeof(range), "between %s and %s",
		    option_number(row->type, row->min, min),
		    option_number(row->type, row->max, max));
		return wrong(row, node, scope, range, errs);
	}
	place_put(row, place, value);
	return true;
}

static bool
set_string(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	char **at = place_string(row, place), why[300], help[420];
	bool absent = !node->quoted &&
	    (((row->flags & OPTION_NONE) && strcmp(node->value, "none") == 0) ||
		((row->flags & OPTION_AUTO) && strcmp(node->value, "auto") == 0));
	char *copy = NULL;

	if (!absent && row->check != NULL && !row->check(node->value, why, sizeof(why))) {
		conf_errors_add(errs, "%s:%d: %s\"%s\" %s%s", node->file, node->line, scope,
		    node->name, why, help_behind(help, sizeof(help), row->help));
		return false;
	}
	if (!absent && (copy = strdup(node->value)) == NULL) {
		conf_errors_add(errs, "%s:%d: out of memory", node->file, node->line);
		return false;
	}
	free(*at);
	*at = copy;
	return true;
}

static bool
set_list(const struct option_def *row, void *place, const struct conf_node *node, const char *scope,
    struct conf_errors *errs)
{
	const struct conf_node *values = node->kind == CONF_LIST ? node->items : node;
	unsigned count = node->kind == CONF_LIST ? node->item_count : 1;
	struct string_list *at = place_list(row, place), list = { 0 };
	char why[300], help[420];

	if (node->kind == CONF_VALUE && !node->quoted &&
	    (((row->flags & OPTION_NONE) && strcmp(node->value, "none") == 0) ||
		((row->flags & OPTION_ALL) && strcmp(node->value, "all") == 0)))
		count = 0;
	if (node->kind == CONF_LIST && count == 0 && (row->flags & OPTION_ALL)) {
		conf_errors_add(errs, "%s:%d: %s\"%s\" must be all, or have at least one value%s",
		    node->file, node->line, scope, node->name,
		    help_behind(help, sizeof(help), row->help));
		return false;
	}
	list.items = calloc(count + 1, sizeof(*list.items));
	for (; list.items != NULL && list.count < count; list.count++) {
		const char *value = values[list.count].value;

		if (row->check != NULL && !row->check(value, why, sizeof(why))) {
			conf_errors_add(errs, "%s:%d: %s\"%s\" %s%s", node->file, node->line, scope,
			    node->name, why, help_behind(help, sizeof(help), row->help));
			list_clear(&list);
			return false;
		}
		if ((list.items[list.count] = strdup(value)) == NULL)
			break;
	}
	if (list.items == NULL || list.count < count) {
		conf_errors_add(errs, "%s:%d: out of memory", node->file, node->line);
		list_clear(&list);
		return false;
	}
	list_clear(at);
	*at = list;
	return true;
}

static const uint8_t protocol_bits[] = { 1u << GRAPNEL_MQTT_3_1, 1u << GRAPNEL_MQTT_3_1_1,
	1u << GRAPNEL_MQTT_5_0 };

static bool
set_protocols(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	const struct conf_node *values = node->kind == CONF_LIST ? node->items : node;
	unsigned count = node->kind == CONF_LIST ? node->item_count : 1, bits = 0;

	if (count == 0) {
		conf_errors_add(errs, "%s:%d: %s\"%s\" must name at least one version of %s",
		    node->file, node->line, scope, node->name, row->choices);
		return false;
	}
	for (unsigned i = 0; i < count; i++) {
		int n = option_choice(
		    row->choices, strcmp(values[i].value, "5") == 0 ? "5.0" : values[i].value);

		if (n < 0) {
			struct conf_node shown = values[i];

			shown.name = node->name;
			option_not_a_choice(&shown, scope, row->choices, false, row->help, errs);
			return false;
		}
		bits |= protocol_bits[n];
	}
	place_put(row, place, bits);
	return true;
}

/* order_<hook>: kept only when given. */
static bool
set_order(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	struct plugin_settings *ps = place;
	const char *hook;
	unsigned i = 0;
	int64_t order;

	if (!conf_to_int(node->value, &order) || order < row->min || order > row->max) {
		char range[80];

		snprintf(range, sizeof(range), "a number between %" PRId64 " and %" PRId64,
		    row->min, row->max);
		return wrong(row, node, scope, range, errs);
	}
	hook = row->name + strlen("order_");
	while (i < ps->hook_order_count && strcmp(ps->hook_orders[i].hook, hook) != 0)
		i++; /* set twice is an error, but found elsewhere */
	assert(i < sizeof(ps->hook_orders) / sizeof(ps->hook_orders[0]));
	ps->hook_orders[i].hook = hook;
	ps->hook_orders[i].order = (int)order;
	if (i == ps->hook_order_count)
		ps->hook_order_count++;
	return true;
}

static bool
set_enum(const struct option_def *row, void *place, const struct conf_node *node, const char *scope,
    struct conf_errors *errs)
{
	int n = option_choice(row->choices, node->value);

	if (n < 0) {
		option_not_a_choice(
		    node, scope, row->choices, (row->flags & OPTION_SECRET) != 0, row->help, errs);
		return false;
	}
	place_put(row, place, row->min + n);
	return true;
}

static bool
to_mode(const char *s, int64_t *out)
{
	size_t len = strlen(s);

	if (len == 0 || len > 5 || strspn(s, "01234567") != len)
		return false;
	*out = strtol(s, NULL, 8);
	return true;
}

bool
option_set(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	int64_t value = 0;
	bool flag = false;

	if (node->kind == CONF_BLOCK ||
	    (node->kind == CONF_LIST && row->type != OPTION_PROTOCOLS && row->type != OPTION_LIST))
		return option_wrong_kind(node, scope, CONF_VALUE, errs);
	if ((row->type == OPTION_INT || row->type == OPTION_BYTES) && (row->flags & OPTION_AUTO) &&
	    strcmp(node->value, "auto") == 0) {
		place_put(row, place, 0);
		return true;
	}
	switch (row->type) {
	case OPTION_STRING:
		return set_string(row, place, node, scope, errs);
	case OPTION_INT:
		if (!conf_to_int(node->value, &value))
			return wrong(row, node, scope, "a whole number", errs);
		return set_number(row, place, node, scope, value, errs);
	case OPTION_BOOL:
		if (!conf_to_bool(node->value, &flag))
			return wrong(row, node, scope, "yes or no", errs);
		*(bool *)((char *)place + row->offset) = flag;
		return true;
	case OPTION_BYTES:
		if (!conf_to_bytes(node->value, &value))
			return wrong(row, node, scope, "a size such as 512, 64k, 1m or 2g", errs);
		return set_number(row, place, node, scope, value, errs);
	case OPTION_MS:
		if (!conf_to_duration_ms(node->value, &value))
			return wrong(
			    row, node, scope, "a duration such as 500ms, 10s, 5m, 2h or 14d", errs);
		return set_number(row, place, node, scope, value, errs);
	case OPTION_SECONDS:
		if (!conf_to_duration_ms(node->value, &value) || value % 1000 != 0)
			return wrong(row, node, scope,
			    "a duration in whole seconds such as 10s, 5m, 2h or 14d", errs);
		return set_number(row, place, node, scope, value / 1000, errs);
	case OPTION_ENUM:
		return set_enum(row, place, node, scope, errs);
	case OPTION_MODE:
		if (!to_mode(node->value, &value))
			return wrong(row, node, scope, "an octal number such as 0660", errs);
		return set_number(row, place, node, scope, value, errs);
	case OPTION_PROTOCOLS:
		return set_protocols(row, place, node, scope, errs);
	case OPTION_ORDER:
		return set_order(row, place, node, scope, errs);
	case OPTION_LIST:
		return set_list(row, place, node, scope, errs);
	}
	return false;
}

static bool
set_default(const struct option_def *row, void *place, const char *value)
{
	struct conf_node *root = option_default(row->name, value);
	struct conf_errors errs = { 0 };
	bool ok;

	if (root == NULL)
		return false;
	ok = option_set(row, place, &root->items[0], "", &errs);
	conf_free(root);
	conf_errors_clear(&errs);
	return ok;
}

bool
options_defaults(const struct option_def *table, void *place)
{
	for (const struct option_def *row = table; row->name != NULL; row++)
		if (row->default_value != NULL && !set_default(row, place, row->default_value))
			return false;
	return true;
}

bool
options_profile(const struct option_def *table, const struct profile_default *defaults, void *place)
{
	for (const struct profile_default *d = defaults; d->name != NULL; d++)
		if (d->table == table && !set_default(option_find(table, d->name), place, d->value))
			return false;
	return true;
}

void
options_fini(const struct option_def *table, void *place)
{
	for (const struct option_def *row = table; row->name != NULL; row++) {
		if (row->type == OPTION_STRING) {
			char **at = place_string(row, place);

			if (*at != NULL && (row->flags & OPTION_SECRET))
				explicit_bzero(*at, strlen(*at));
			free(*at);
			*at = NULL;
		} else if (row->type == OPTION_LIST) {
			list_clear(place_list(row, place));
		}
	}
}

static bool
list_equal(const struct string_list *a, const struct string_list *b)
{
	for (unsigned i = 0; i < a->count && i < b->count; i++)
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	return a->count == b->count;
}

bool
option_equal(const struct option_def *row, const void *a, const void *b)
{
	if (row->type == OPTION_STRING) {
		const char *left = *(char *const *)(const void *)((const char *)a + row->offset);
		const char *right = *(char *const *)(const void *)((const char *)b + row->offset);

		return left == right || (left != NULL && right != NULL && strcmp(left, right) == 0);
	}
	assert(row->type != OPTION_ORDER);
	if (row->type == OPTION_LIST)
		return list_equal(list_at(row, a), list_at(row, b));
	return place_get(row, a) == place_get(row, b);
}

/* ---- printing -------------------------------------------------------------------------------- */

void
option_print_string(const char *text, FILE *out)
{
	fputc('"', out);
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '\n':
			fputs("\\n", out);
			break;
		case '\r':
			fputs("\\r", out);
			break;
		case '\t':
			fputs("\\t", out);
			break;
		case '"':
		case '\\':
		case '$':
			fputc('\\', out);
			/* fall through */
		default:
			fputc(*text, out);
		}
	}
	fputc('"', out);
}

static void
print_choice(const char *choices, int64_t n, FILE *out)
{
	const char *word;
	size_t len;

	for (int64_t i = 0; (word = choice_next(&choices, &len)) != NULL; i++) {
		if (i == n)
			fprintf(out, "%.*s", (int)len, word);
	}
}

static void
print_protocols(const struct option_def *row, int64_t bits, FILE *out)
{
	const char *before = "[";

	for (unsigned i = 0; i < sizeof(protocol_bits); i++) {
		if ((bits & protocol_bits[i]) == 0)
			continue;
		fputs(before, out);
		print_choice(row->choices, i, out);
		before = ", ";
	}
	fputs("]", out);
}

static void
print_list(const struct string_list *list, FILE *out)
{
	fputc('[', out);
	for (unsigned i = 0; i < list->count; i++) {
		fputs(i == 0 ? "" : ", ", out);
		option_print_string(list->items[i], out);
	}
	fputc(']', out);
}

void
option_print(const struct option_def *row, const void *place, const char *indent, FILE *out)
{
	const char *text;
	char number[CONF_NUMBER_SIZE];

	if (row->type == OPTION_ORDER) { /* only what was given */
		const struct plugin_settings *ps = place;

		for (unsigned i = 0; i < ps->hook_order_count; i++) {
			if (strcmp(ps->hook_orders[i].hook, row->name + strlen("order_")) == 0)
				fprintf(out, "%s%s = %d\n", indent, row->name,
				    ps->hook_orders[i].order);
		}
		return;
	}
	fprintf(out, "%s%s = ", indent, row->name);
	switch (row->type) {
	case OPTION_STRING:
		text = *(char *const *)(const void *)((const char *)place + row->offset);
		if (text == NULL)
			fputs(row->flags & OPTION_AUTO ? "auto" : "none", out);
		else
			option_print_string(row->flags & OPTION_SECRET ? "***" : text, out);
		break;
	case OPTION_BOOL:
		fputs(*(const bool *)((const char *)place + row->offset) ? "yes" : "no", out);
		break;
	case OPTION_ENUM:
		print_choice(row->choices, place_get(row, place) - row->min, out);
		break;
	case OPTION_PROTOCOLS:
		print_protocols(row, place_get(row, place), out);
		break;
	case OPTION_LIST:
		if ((row->flags & OPTION_ALL) && list_at(row, place)->count == 0)
			fputs("all", out);
		else
			print_list(list_at(row, place), out);
		break;
	case OPTION_INT:
	case OPTION_BYTES:
		if ((row->flags & OPTION_AUTO) && place_get(row, place) == 0) {
			fputs("auto", out);
			break;
		}
		/* fall through */
	case OPTION_MS:
	case OPTION_SECONDS:
	case OPTION_MODE:
	case OPTION_ORDER:
		fputs(option_number(row->type, place_get(row, place), number), out);
		break;
	}
	fputc('\n', out);
}
