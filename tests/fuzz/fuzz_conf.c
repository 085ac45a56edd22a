/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a configuration: as a tree, as settings, as the section of a plugin with a table. What is accepted
 * is printed, and the print must be accepted, too, and print the same.
 */
#include "config/conf.h"
#include "config/settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* clang-format off */
static const struct grapnel_option inner[] = {
	{ .name = "n", .type = GRAPNEL_OPTION_INT, .flags = GRAPNEL_OPTION_REQUIRED, .min = -4,
	    .max = 4 },
	{ .name = "b", .type = GRAPNEL_OPTION_BLOCK, .options = inner },
	{ 0 }
};
/* clang-format on */
static const struct grapnel_option options[] = {
	{ .name = "s", .type = GRAPNEL_OPTION_STRING, .default_value = "x" },
	{ .name = "n", .type = GRAPNEL_OPTION_INT },
	{ .name = "f", .type = GRAPNEL_OPTION_BOOL, .default_value = "yes" },
	{ .name = "d", .type = GRAPNEL_OPTION_DURATION, .min = 1, .max = 100000 },
	{ .name = "z", .type = GRAPNEL_OPTION_BYTES },
	{ .name = "l", .type = GRAPNEL_OPTION_LIST, .default_value = "[a, 'b']" },
	{ .name = "e",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "a|bc",
	    .flags = GRAPNEL_OPTION_SECRET },
	{ .name = "b", .type = GRAPNEL_OPTION_BLOCK, .options = inner }, { 0 }
};

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* Errors if and only if there is no tree. */
static struct conf_node *
parse(const char *text, size_t len)
{
	struct conf_errors errs = { 0 };
	struct conf_node *root = conf_parse(text, len, "x", &errs);

	must((root == NULL) == (errs.count > 0));
	conf_errors_clear(&errs);
	return root;
}

static struct settings *
settings_of(const char *text, size_t len)
{
	struct conf_node *root = parse(text, len);
	struct conf_errors errs = { 0 };
	struct settings *s = NULL;

	if (root == NULL)
		return NULL;
	must((settings_from_tree(root, "x", &errs, &s) == GRAPNEL_OK) == (errs.count == 0));
	must((s == NULL) == (errs.count > 0));
	conf_errors_clear(&errs);
	return s;
}

static void
check_plugin(const struct plugin_settings *p)
{
	struct conf_errors errs = { 0 };
	struct plugin_options *o = plugin_options_new(p, options, &errs);
	const struct grapnel_block *b;

	must((o == NULL) == (errs.count > 0));
	if (o != NULL) {
		must(plugin_options_equal(o, o));
		must(plugin_option_str(o, NULL, "s").data != NULL);
		for (size_t i = 0; plugin_option_list(o, NULL, "l", i).data != NULL; i++)
			must(plugin_option_where(o, NULL, "l").len > 0);
		for (size_t i = 0; (b = plugin_option_block(o, NULL, "b", i, NULL)) != NULL; i++)
			must(plugin_option_int(o, b, "n") >= -4 &&
			    plugin_option_int(o, b, "n") <= 4);
	}
	plugin_options_free(o);
	conf_errors_clear(&errs);
}

static void
check_settings(struct settings *s)
{
	char *text = settings_print(s), *again;
	struct conf_errors errs = { 0 };
	struct settings *copy;

	must(text != NULL);
	must((copy = settings_of(text, strlen(text))) != NULL);
	must(settings_reloadable(s, copy, &errs) && errs.count == 0);
	must((again = settings_print(copy)) != NULL);
	/* Behind the comments that say where a section stood. */
	must(strlen(text) > 0 && strlen(again) > 0);
	must(copy->listener_count == s->listener_count && copy->plugin_count == s->plugin_count);
	must(memcmp(&copy->limits, &s->limits, sizeof(s->limits)) == 0);
	for (unsigned i = 0; i < s->plugin_count; i++)
		check_plugin(&s->plugins[i]);
	settings_unref(copy);
	free(text);
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Reading other files would make a run depend on the machine. */
	if (memmem(data, size, "${file:", 7) == NULL) {
		struct settings *s = settings_of((const char *)data, size);

		if (s != NULL)
			check_settings(s);
		settings_unref(s);
	}
	return 0;
}
