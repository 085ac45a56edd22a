/* SPDX-License-Identifier: Apache-2.0 */
/* The option table, by the broker's own rules and by those of good manners. */
#include "check.h"
#include "config/conf.h"
#include "config/options.h"
#include "config/settings.h"
#include "plugin/host_pure.h"
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX 8u
#define ROWS_MAX  256u

struct table {
	struct check *c;
	char scope[256]; /* "endpoint." */
	unsigned depth, rows, faults;
	bool required;
};

static void
row_say(struct table *t, const struct grapnel_option *row, enum checked how, const char *text)
{
	t->faults++;
	check_say(t->c, how, "option", "%s%s: %s", t->scope, row->name, text);
}

/* What the broker would say to this row alone, without its being required. */
static bool
broker_takes(const struct grapnel_option *row, char *why, size_t size)
{
	struct grapnel_option alone[2] = { *row, { .name = NULL } };
	struct conf_errors errs = { 0 };
	struct conf_node section = {
		.kind = CONF_BLOCK, .name = (char *)(uintptr_t) "plugin", .file = "table", .line = 1
	};
	struct plugin_settings ps = { .name = (char *)(uintptr_t) "check", .section = &section };
	struct plugin_options *options;
	const char *text;

	alone[0].flags &= ~(uint32_t)GRAPNEL_OPTION_REQUIRED;
	options = plugin_options_new(&ps, alone, &errs);
	text = errs.count > 0 ? errs.messages[0] : "the broker refuses it";
	if (strstr(text, "\": ") != NULL && strstr(text, "at option") != NULL)
		text = strstr(strstr(text, "at option"), "\": ") + 3;
	snprintf(why, size, "%s", text);
	conf_errors_clear(&errs);
	plugin_options_free(options);
	return options != NULL;
}

static void
row_numbers(struct table *t, const struct grapnel_option *row)
{
	bool number = row->type == GRAPNEL_OPTION_INT || row->type == GRAPNEL_OPTION_DURATION ||
	    row->type == GRAPNEL_OPTION_BYTES;

	if (row->min > row->max)
		row_say(t, row, CHECK_FAIL, "min is larger than max");
	if (!number && (row->min != 0 || row->max != 0))
		row_say(
		    t, row, CHECK_WARNING, "min and max are for numbers, durations and sizes only");
	if (number && row->min == 0 && row->max == 0)
		row_say(t, row, CHECK_WARNING,
		    "it has no bounds; give it min and max, so that a mistyped value is refused");
	if (row->type != GRAPNEL_OPTION_ENUM && row->choices != NULL)
		row_say(t, row, CHECK_WARNING, "choices are for GRAPNEL_OPTION_ENUM only");
}

static void
row_manners(struct table *t, const struct grapnel_option *row)
{
	const uint32_t known = GRAPNEL_OPTION_REQUIRED | GRAPNEL_OPTION_SECRET;

	if (!plain_name(row->name, "_"))
		row_say(t, row, CHECK_FAIL, "a name is a-z, 0-9 and _, and begins with a letter");
	if (t->depth == 0 && option_find(plugin_options_common, row->name) != NULL)
		row_say(t, row, CHECK_FAIL,
		    "every plugin has an option of that name, and the broker reads it; choose "
		    "another");
	if ((row->flags & ~known) != 0)
		row_say(t, row, CHECK_FAIL, "flags has bits that this ABI does not have");
	if (row->help == NULL || *row->help == '\0')
		row_say(
		    t, row, CHECK_WARNING, "it has no help text, which errors and the manual show");
	if ((row->flags & GRAPNEL_OPTION_REQUIRED) && row->default_value != NULL)
		row_say(t, row, CHECK_WARNING, "it is required, so its default is never used");
	if ((row->flags & GRAPNEL_OPTION_SECRET) && row->default_value != NULL &&
	    *row->default_value != '\0')
		row_say(t, row, CHECK_WARNING, "a secret with a default is no secret");
	if (row->type == GRAPNEL_OPTION_BLOCK && row->default_value != NULL)
		row_say(t, row, CHECK_WARNING, "a block has no default; give its options some");
	if (row->type != GRAPNEL_OPTION_BLOCK && row->options != NULL)
		row_say(t, row, CHECK_WARNING, "options are for GRAPNEL_OPTION_BLOCK only");
}

static void table_look(struct table *t, const struct grapnel_option *rows);

static void
row_look(struct table *t, const struct grapnel_option *row)
{
	char why[512];

	t->rows++;
	t->required = t->required || (t->depth == 0 && (row->flags & GRAPNEL_OPTION_REQUIRED));
	if (!broker_takes(row, why, sizeof(why)))
		row_say(t, row, CHECK_FAIL, why);
	row_manners(t, row);
	row_numbers(t, row);
	if (row->type == GRAPNEL_OPTION_BLOCK && row->options != NULL) {
		size_t len = strlen(t->scope);

		snprintf(t->scope + len, sizeof(t->scope) - len, "%s.", row->name);
		t->depth++;
		if (t->depth <= DEPTH_MAX)
			table_look(t, row->options);
		else
			row_say(t, row, CHECK_FAIL, "blocks are nested too deep");
		t->depth--;
		t->scope[len] = '\0';
	}
}

static void
table_look(struct table *t, const struct grapnel_option *rows)
{
	for (unsigned n = 0; rows[n].name != NULL; n++) {
		if (n == ROWS_MAX) {
			row_say(
			    t, &rows[n], CHECK_FAIL, "the table has more than 256 rows, or no end");
			return;
		}
		for (unsigned i = 0; i < n; i++) {
			if (strcmp(rows[i].name, rows[n].name) == 0)
				row_say(t, &rows[n], CHECK_FAIL, "its name is there twice");
		}
		row_look(t, &rows[n]);
	}
}

bool
check_options(struct check *c, const struct grapnel_option *table)
{
	struct table t = { .c = c };

	if (table != NULL)
		table_look(&t, table);
	if (t.faults == 0)
		check_say(c, CHECK_OK, "options",
		    "%u, all with a help text, and defaults that the broker takes", t.rows);
	return !t.required;
}
