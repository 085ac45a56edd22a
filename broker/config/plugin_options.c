/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin's section against the option table of its descriptor.
 *
 * Tables come from a file that the operator installed, but may be wrong: what does not make sense in one is an
 * error that says so, never a crash.
 */
#include "settings.h"

#include "conf.h"
#include "options.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ROWS   256
#define SCOPE_SIZE 256

struct option_value {
	bool given;
	char *where; /* NULL when not given */
	char *text;  /* STRING, ENUM */
	int64_t number;
	char **list;
	size_t count;                 /* of list or of blocks */
	struct grapnel_block *blocks; /* BLOCK: `options` of the row */
};
struct grapnel_block {
	const struct grapnel_option *table; /* NULL: no options */
	unsigned rows;
	struct option_value *values; /* one per row */
	char *title;                 /* NULL: none */
	char *where;
};
struct plugin_options {
	struct grapnel_block top;
};

/* ---- life ------------------------------------------------------------------------------------ */

static void
text_free(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text)); /* may be a password */
	free(text);
}

static void block_fini(struct grapnel_block *b);

static void
value_fini(struct option_value *v, bool is_block)
{
	free(v->where);
	text_free(v->text);
	for (size_t i = 0; i < v->count; i++) {
		if (is_block)
			block_fini(&v->blocks[i]);
		else
			text_free(v->list[i]);
	}
	free(v->list);
	free(v->blocks);
	*v = (struct option_value){ 0 };
}

/* Recursion is as deep as the file's grammar allows. */
static void
block_fini(struct grapnel_block *b)
{
	for (unsigned i = 0; b->values != NULL && i < b->rows; i++)
		value_fini(&b->values[i], b->table[i].type == GRAPNEL_OPTION_BLOCK);
	free(b->values);
	free(b->title);
	free(b->where);
	*b = (struct grapnel_block){ 0 };
}

void
plugin_options_free(struct plugin_options *o)
{
	if (o == NULL)
		return;
	block_fini(&o->top);
	free(o);
}

/* ---- checking -------------------------------------------------------------------------------- */

static bool
no_memory(const struct conf_node *node, struct conf_errors *errs)
{
	conf_errors_add(errs, "%s:%d: out of memory", node->file, node->line);
	return false;
}

/* Names of rows, and of the common options at the top of a section, for "did you mean". */
static void
name_unknown(const struct grapnel_block *b, const struct conf_node *node, bool top,
    const char *scope, struct conf_errors *errs)
{
	const char *known[MAX_ROWS + 64], *helps[MAX_ROWS + 64];
	unsigned count = 0;

	for (; count < b->rows; count++) {
		known[count] = b->table[count].name;
		helps[count] = b->table[count].help;
	}
	for (const struct option_def *row = plugin_options_common;
	     top && row->name != NULL && count < MAX_ROWS + 64; row++) {
		known[count] = row->name;
		helps[count++] = row->help;
	}
	option_unknown(node, scope, known, helps, count, errs);
}

static bool
number_set(const struct grapnel_option *row, struct option_value *v, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	bool secret = (row->flags & GRAPNEL_OPTION_SECRET) != 0, ok;
	char min[CONF_NUMBER_SIZE], max[CONF_NUMBER_SIZE], range[2 * CONF_NUMBER_SIZE + 16];
	const char *expected;
	enum option_type type;

	if (row->type == GRAPNEL_OPTION_DURATION) {
		ok = conf_to_duration_ms(node->value, &v->number);
		expected = "a duration such as 500ms, 10s, 5m, 2h or 14d";
		type = OPTION_MS;
	} else if (row->type == GRAPNEL_OPTION_BYTES) {
		ok = conf_to_bytes(node->value, &v->number);
		expected = "a size such as 512, 64k, 1m or 2g";
		type = OPTION_BYTES;
	} else {
		ok = conf_to_int(node->value, &v->number);
		expected = "a whole number";
		type = OPTION_INT;
	}
	if (!ok)
		return option_wrong(node, scope, expected, secret, row->help, errs);
	if ((row->min != 0 || row->max != 0) && (v->number < row->min || v->number > row->max)) {
		snprintf(range, sizeof(range), "between %s and %s",
		    option_number(type, row->min, min), option_number(type, row->max, max));
		return option_wrong(node, scope, range, secret, row->help, errs);
	}
	return true;
}

/* One value is a list, too. */
static bool
list_set(struct option_value *v, const struct conf_node *node, struct conf_errors *errs)
{
	const struct conf_node *values = node->kind == CONF_LIST ? node->items : node;
	size_t count = node->kind == CONF_LIST ? node->item_count : 1;

	if ((v->list = calloc(count + 1, sizeof(*v->list))) == NULL)
		return no_memory(node, errs);
	for (; v->count < count; v->count++) {
		if ((v->list[v->count] = strdup(values[v->count].value)) == NULL)
			return no_memory(node, errs);
	}
	return true;
}

/* Convert a value. On failure *v may be half filled; its owner frees it. */
static bool
value_set(const struct grapnel_option *row, struct option_value *v, const struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	bool secret = (row->flags & GRAPNEL_OPTION_SECRET) != 0, flag = false;

	if (node->kind == CONF_BLOCK ||
	    (node->kind == CONF_LIST && row->type != GRAPNEL_OPTION_LIST))
		return option_wrong_kind(node, scope, CONF_VALUE, errs);
	switch (row->type) {
	case GRAPNEL_OPTION_ENUM:
		if (option_choice(row->choices, node->value) < 0) {
			option_not_a_choice(node, scope, row->choices, secret, row->help, errs);
			return false;
		}
		/* fall through */
	case GRAPNEL_OPTION_STRING:
		return (v->text = strdup(node->value)) != NULL || no_memory(node, errs);
	case GRAPNEL_OPTION_INT:
	case GRAPNEL_OPTION_DURATION:
	case GRAPNEL_OPTION_BYTES:
		return number_set(row, v, node, scope, errs);
	case GRAPNEL_OPTION_BOOL:
		if (!conf_to_bool(node->value, &flag))
			return option_wrong(node, scope, "yes or no", secret, row->help, errs);
		v->number = flag;
		return true;
	case GRAPNEL_OPTION_LIST:
		return list_set(v, node, errs);
	case GRAPNEL_OPTION_BLOCK:
		break;
	}
	return option_wrong_kind(node, scope, CONF_BLOCK, errs);
}

static void
table_wrong(const struct conf_node *section, const char *scope, const char *option, const char *why,
    struct conf_errors *errs)
{
	conf_errors_add(errs, "%s:%d: %sthe plugin's table is wrong at option \"%s\": %s",
	    section->file, section->line, scope, option, why);
}

static bool
default_set(const struct grapnel_option *row, struct option_value *v,
    const struct conf_node *section, const char *scope, struct conf_errors *errs)
{
	struct conf_errors why = { 0 };
	struct conf_node *root;
	bool ok;

	if (row->default_value == NULL)
		return true;
	if ((root = option_default("default", row->default_value)) == NULL) {
		table_wrong(section, scope, row->name, "its default cannot be read", errs);
		return false;
	}
	ok = value_set(row, v, &root->items[0], "", &why);
	if (!ok)
		table_wrong(section, scope, row->name,
		    why.count > 0 ? why.messages[0] : "its default does not fit", errs);
	conf_errors_clear(&why);
	conf_free(root);
	return ok;
}

/* Rows that make no sense are refused before anything relies on them. */
static bool
table_check(const struct grapnel_option *table, const struct conf_node *section, const char *scope,
    unsigned *rows, struct conf_errors *errs)
{
	bool ok = true;
	unsigned n = 0;

	for (; table != NULL && table[n].name != NULL; n++) {
		const struct grapnel_option *row = &table[n];
		const char *why = NULL;

		if (n == MAX_ROWS)
			why = "it has too many rows";
		else if ((int)row->type < GRAPNEL_OPTION_STRING || row->type > GRAPNEL_OPTION_BLOCK)
			why = "this broker does not know its type";
		else if (row->type == GRAPNEL_OPTION_ENUM && row->choices == NULL)
			why = "it has no choices";
		else if (row->type == GRAPNEL_OPTION_BLOCK && row->options == NULL)
			why = "it has no options of its own";
		for (unsigned i = 0; i < n && why == NULL; i++) {
			if (strcmp(table[i].name, row->name) == 0)
				why = "its name is there twice";
		}
		if (why != NULL) {
			table_wrong(section, scope, row->name, why, errs);
			ok = false;
		}
		if (n == MAX_ROWS)
			break;
	}
	*rows = n;
	return ok;
}

static bool block_read(struct grapnel_block *b, const struct grapnel_option *table,
    struct conf_node *section, bool top, const char *scope, struct conf_errors *errs);

static bool
blocks_add(const struct grapnel_option *row, struct option_value *v, struct conf_node *node,
    const char *scope, struct conf_errors *errs)
{
	char inner[SCOPE_SIZE], title[OPTION_SHOWN];
	struct grapnel_block *grown;

	if (node->kind != CONF_BLOCK)
		return option_wrong_kind(node, scope, CONF_BLOCK, errs);
	if ((v->count & (v->count - 1)) == 0) { /* 0 or a power of two: full */
		size_t capacity = v->count == 0 ? 1 : v->count * 2;

		if ((grown = realloc(v->blocks, capacity * sizeof(*grown))) == NULL)
			return no_memory(node, errs);
		v->blocks = grown;
	}
	if (node->title == NULL)
		snprintf(inner, sizeof(inner), "%s%s: ", scope, node->name);
	else
		snprintf(inner, sizeof(inner), "%s%s \"%s\": ", scope, node->name,
		    conf_shown(title, sizeof(title), node->title));
	v->blocks[v->count] = (struct grapnel_block){ 0 };
	return block_read(&v->blocks[v->count++], row->options, node, false, inner, errs);
}

static bool
node_read(struct grapnel_block *b, struct conf_node *node, bool top, const char *scope,
    struct conf_errors *errs)
{
	const struct grapnel_option *row = b->table;
	struct option_value *v = b->values;

	for (unsigned i = 0; i < b->rows && strcmp(row->name, node->name) != 0; i++) {
		row++;
		v++;
	}
	if (row == NULL || row == b->table + b->rows) {
		if (top && option_find(plugin_options_common, node->name) != NULL)
			return true; /* settings_load has read it */
		name_unknown(b, node, top, scope, errs);
		return false;
	}
	node->used = true;
	node->secret = (row->flags & GRAPNEL_OPTION_SECRET) != 0;
	if (row->type == GRAPNEL_OPTION_BLOCK) {
		v->given = true;
		if (v->where == NULL && asprintf(&v->where, "%s:%d", node->file, node->line) < 0) {
			v->where = NULL;
			return no_memory(node, errs);
		}
		return blocks_add(row, v, node, scope, errs);
	}
	value_fini(v, false);
	v->given = true;
	if (asprintf(&v->where, "%s:%d", node->file, node->line) < 0) {
		v->where = NULL;
		return no_memory(node, errs);
	}
	return value_set(row, v, node, scope, errs);
}

static bool
block_read(struct grapnel_block *b, const struct grapnel_option *table, struct conf_node *section,
    bool top, const char *scope, struct conf_errors *errs)
{
	bool ok = table_check(table, section, scope, &b->rows, errs);

	if (!ok) {
		b->rows = 0;
		return false;
	}
	b->table = table;
	b->values = calloc(b->rows + 1, sizeof(*b->values));
	if (asprintf(&b->where, "%s:%d", section->file, section->line) < 0)
		b->where = NULL;
	if (section->title != NULL)
		b->title = strdup(section->title);
	if (b->values == NULL || b->where == NULL || (section->title != NULL && b->title == NULL))
		return no_memory(section, errs);
	for (unsigned i = 0; i < section->item_count; i++)
		ok = node_read(b, &section->items[i], top, scope, errs) && ok;
	for (unsigned i = 0; i < b->rows; i++) {
		char help[400];

		if (b->values[i].given)
			continue;
		if (table[i].flags & GRAPNEL_OPTION_REQUIRED) {
			option_help(help, sizeof(help), table[i].help);
			conf_errors_add(errs, "%s:%d: %srequired %s \"%s\" is missing%s%s%s",
			    section->file, section->line, scope,
			    table[i].type == GRAPNEL_OPTION_BLOCK ? "section" : "option",
			    table[i].name, help[0] == '\0' ? "" : " (", help,
			    help[0] == '\0' ? "" : ")");
			ok = false;
		} else if (table[i].type != GRAPNEL_OPTION_BLOCK) {
			ok = default_set(&table[i], &b->values[i], section, scope, errs) && ok;
		}
	}
	return ok;
}

struct plugin_options *
plugin_options_new(
    const struct plugin_settings *ps, const struct grapnel_option *table, struct conf_errors *errs)
{
	struct plugin_options *o = calloc(1, sizeof(*o));
	char scope[SCOPE_SIZE], name[OPTION_SHOWN];

	if (o == NULL) {
		no_memory(ps->section, errs);
		return NULL;
	}
	snprintf(scope, sizeof(scope), "plugin \"%s\": ", conf_shown(name, sizeof(name), ps->name));
	if (block_read(&o->top, table, ps->section, true, scope, errs))
		return o;
	plugin_options_free(o);
	return NULL;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static bool
text_equal(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
block_equal(const struct grapnel_block *a, const struct grapnel_block *b)
{
	if (a->rows != b->rows || !text_equal(a->title, b->title))
		return false;
	for (unsigned i = 0; i < a->rows; i++) {
		const struct option_value *left = &a->values[i], *right = &b->values[i];

		if (strcmp(a->table[i].name, b->table[i].name) != 0 ||
		    a->table[i].type != b->table[i].type || left->given != right->given ||
		    left->number != right->number || left->count != right->count ||
		    !text_equal(left->text, right->text))
			return false;
		for (size_t n = 0; n < left->count; n++) {
			bool same = a->table[i].type == GRAPNEL_OPTION_BLOCK
			    ? block_equal(&left->blocks[n], &right->blocks[n])
			    : text_equal(left->list[n], right->list[n]);

			if (!same)
				return false;
		}
	}
	return true;
}

bool
plugin_options_equal(const struct plugin_options *a, const struct plugin_options *b)
{
	return block_equal(&a->top, &b->top);
}

/* ---- asking ---------------------------------------------------------------------------------- */

#define TYPE(type) (1u << GRAPNEL_OPTION_##type)
#define ANY_TYPE   (~0u)

/* NULL: the table has no such row of one of these types. */
static const struct option_value *
value_find(
    const struct plugin_options *o, const struct grapnel_block *b, const char *name, unsigned types)
{
	if (b == NULL)
		b = &o->top;
	for (unsigned i = 0; i < b->rows; i++) {
		if (strcmp(b->table[i].name, name) == 0)
			return (types & (1u << b->table[i].type)) != 0 ? &b->values[i] : NULL;
	}
	return NULL;
}

static struct grapnel_str
str_of(const char *text)
{
	return (struct grapnel_str){ text, text == NULL ? 0 : strlen(text) };
}

struct grapnel_str
plugin_option_str(const struct plugin_options *o, const struct grapnel_block *b, const char *name)
{
	const struct option_value *v = value_find(o, b, name, TYPE(STRING) | TYPE(ENUM));

	return str_of(v == NULL ? NULL : v->text);
}

int64_t
plugin_option_int(const struct plugin_options *o, const struct grapnel_block *b, const char *name)
{
	const struct option_value *v =
	    value_find(o, b, name, TYPE(INT) | TYPE(DURATION) | TYPE(BYTES));

	return v == NULL ? 0 : v->number;
}

bool
plugin_option_bool(const struct plugin_options *o, const struct grapnel_block *b, const char *name)
{
	const struct option_value *v = value_find(o, b, name, TYPE(BOOL));

	return v != NULL && v->number != 0;
}

struct grapnel_str
plugin_option_list(
    const struct plugin_options *o, const struct grapnel_block *b, const char *name, size_t i)
{
	const struct option_value *v = value_find(o, b, name, TYPE(LIST));

	return str_of(v == NULL || i >= v->count ? NULL : v->list[i]);
}

bool
plugin_option_given(const struct plugin_options *o, const struct grapnel_block *b, const char *name)
{
	const struct option_value *v = value_find(o, b, name, ANY_TYPE);

	return v != NULL && v->given;
}

const struct grapnel_block *
plugin_option_block(const struct plugin_options *o, const struct grapnel_block *b, const char *kind,
    size_t i, struct grapnel_str *title)
{
	const struct option_value *v = value_find(o, b, kind, TYPE(BLOCK));

	if (v == NULL || i >= v->count)
		return NULL;
	if (title != NULL)
		*title = str_of(v->blocks[i].title);
	return &v->blocks[i];
}

struct grapnel_str
plugin_option_where(const struct plugin_options *o, const struct grapnel_block *b, const char *name)
{
	const struct option_value *v = name == NULL ? NULL : value_find(o, b, name, ANY_TYPE);

	if (v != NULL && v->where != NULL)
		return str_of(v->where);
	return str_of(b == NULL ? o->top.where : b->where);
}
