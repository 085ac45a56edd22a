/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration in force, in the file's own grammar. Secrets are not in it: what an option table flags; and
 * in sections of plugins, whose table may be unknown, whatever looks like one.
 */
#include "settings.h"

#include "conf.h"
#include "options.h"

#include <stdlib.h>
#include <string.h>

static const char *const secret_names[] = { "password", "passwd", "secret", "token", "key",
	"credential" };
static const char *const secret_texts[] = { "password=", "passwd=", "pwd=", "secret=", "token=" };

static bool
contains_any(const char *text, const char *const *parts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcasestr(text, parts[i]) != NULL)
			return true;
	}
	return false;
}

static bool
is_secret(const struct conf_node *value, const struct conf_node *option)
{
	if (option->secret || value->expanded)
		return true;
	if (!option->used &&
	    contains_any(option->name, secret_names, sizeof(secret_names) / sizeof(*secret_names)))
		return true;
	return contains_any(
	    value->value, secret_texts, sizeof(secret_texts) / sizeof(*secret_texts));
}

/* scheme://user:password@host: the part before the last "@", which a path could hold, too; better too much. */
static void
print_url(const char *text, FILE *out)
{
	const char *start = strstr(text, "://"), *at = start == NULL ? NULL : strrchr(start, '@');
	char *masked = NULL;

	if (at == NULL)
		option_print_string(text, out);
	else if (asprintf(&masked, "%.*s://***%s", (int)(start - text), text, at) >= 0)
		option_print_string(masked, out);
	else
		masked = NULL;
	free(masked);
}

static void
print_value(const struct conf_node *value, const struct conf_node *option, FILE *out)
{
	if (is_secret(value, option))
		option_print_string("***", out);
	else if (value->quoted || strstr(value->value, "://") != NULL)
		print_url(value->value, out);
	else
		fputs(value->value, out);
}

static void print_node(const struct conf_node *node, unsigned depth, FILE *out);

static void
print_indent(unsigned depth, FILE *out)
{
	while (depth-- > 0)
		fputc('\t', out);
}

static void
print_children(const struct conf_node *block, unsigned depth, FILE *out)
{
	for (unsigned i = 0; i < block->item_count; i++)
		print_node(&block->items[i], depth, out);
}

/* As deep as the grammar allows blocks. */
static void
print_node(const struct conf_node *node, unsigned depth, FILE *out)
{
	print_indent(depth, out);
	fputs(node->name, out);
	switch (node->kind) {
	case CONF_VALUE:
		fputs(" = ", out);
		print_value(node, node, out);
		break;
	case CONF_LIST:
		fputs(" = [", out);
		for (unsigned i = 0; i < node->item_count; i++) {
			fputs(i == 0 ? "" : ", ", out);
			print_value(&node->items[i], node, out);
		}
		fputs("]", out);
		break;
	case CONF_BLOCK:
		if (node->title != NULL) {
			fputc(' ', out);
			print_url(node->title, out);
		}
		fputs(" {\n", out);
		print_children(node, depth + 1, out);
		print_indent(depth, out);
		fputs("}", out);
		break;
	}
	fputc('\n', out);
}

static void
print_rows(const struct option_def *table, const void *place, const char *indent, FILE *out)
{
	for (const struct option_def *row = table; row->name != NULL; row++)
		option_print(row, place, indent, out);
}

static void
print_section(const char *name, const struct option_def *table, const struct option_def *more,
    const void *place, FILE *out)
{
	fprintf(out, "\n%s {\n", name);
	print_rows(table, place, "\t", out);
	if (more != NULL)
		print_rows(more, place, "\t", out);
	fputs("}\n", out);
}

static void
print_plugin(const struct plugin_settings *p, FILE *out)
{
	fprintf(out, "\n# %s\nplugin ", p->where);
	option_print_string(p->name, out);
	fputs(" {\n", out);
	print_rows(plugin_options_common, p, "\t", out);
	for (unsigned i = 0; i < p->section->item_count; i++) {
		const struct conf_node *node = &p->section->items[i];

		if (option_find(plugin_options_common, node->name) == NULL)
			print_node(node, 1, out);
	}
	fputs("}\n", out);
}

static void
print_require(const struct require_settings *r, FILE *out)
{
	fprintf(out, "\n# %s\nrequire ", r->where);
	option_print_string(r->name, out);
	fputs(" {\n", out);
	print_rows(require_options, r, "\t", out);
	fputs("}\n", out);
}

char *
settings_print(const struct settings *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	bool failed;

	if (out == NULL)
		return NULL;
	fprintf(out, "# %s\n", s->path);
	print_rows(top_options, s, "", out);
	print_section("admin", admin_options, NULL, s, out);
	print_section("log", log_options, NULL, s, out);
	print_section("store", store_options, NULL, s, out);
	print_section("guard", guard_options, NULL, s, out);
	print_section("limits", limits_options, limits_total_options, &s->limits, out);
	for (unsigned i = 0; i < s->listener_count; i++) {
		const struct listener_settings *l = &s->listeners[i];

		fprintf(out, "\n# %s\nlistener ", l->where);
		option_print_string(l->name, out);
		fputs(" {\n", out);
		for (const struct option_def *row = listener_options; row->name != NULL; row++) {
			if (l->is_unix || strncmp(row->name, "unix_", 5) != 0)
				option_print(row, l, "\t", out);
		}
		print_rows(limits_options, &l->limits, "\t", out);
		for (unsigned k = 0; k < l->server_name_count; k++) {
			fputs("\tserver_name ", out);
			option_print_string(l->server_names[k].name, out);
			fputs(" {\n", out);
			print_rows(server_name_options, &l->server_names[k], "\t\t", out);
			fputs("\t}\n", out);
		}
		fputs("}\n", out);
	}
	for (unsigned i = 0; i < s->plugin_count; i++)
		print_plugin(&s->plugins[i], out);
	for (unsigned i = 0; i < s->require_count; i++)
		print_require(&s->requires[i], out);
	failed = ferror(out) != 0;
	if (fclose(out) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
