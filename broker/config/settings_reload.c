/* SPDX-License-Identifier: Apache-2.0 */
/* settings_reload - what may change without a restart */
#include "conf.h"
#include "options.h"
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCOPE_SIZE 128

/* file:line of an option, or of its section, or the main file. */
static void
where_in(const struct settings *s, const char *section, const char *title, const char *name,
    char *out, size_t size)
{
	const struct conf_node *block = section[0] == '\0' ? s->tree : NULL, *node;

	for (unsigned i = 0; i < s->tree->item_count && block == NULL; i++) {
		const struct conf_node *n = &s->tree->items[i];

		if (n->kind == CONF_BLOCK && strcmp(n->name, section) == 0 &&
		    (title == NULL || (n->title != NULL && strcmp(n->title, title) == 0)))
			block = n;
	}
	node = block == NULL ? NULL : conf_find(block, name);
	if (node == NULL)
		node = block;
	if (node == NULL || node == s->tree)
		snprintf(out, size, "%s", s->tree->file);
	else
		snprintf(out, size, "%s:%d", node->file, node->line);
}

/* The value as it is printed, on one line. */
static void
value_text(const struct option_def *row, const void *place, char *out, size_t size)
{
	char *text = NULL, *value;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	snprintf(out, size, "?");
	if (f == NULL)
		return;
	option_print(row, place, "", f);
	if (fclose(f) == 0 && (value = strstr(text, " = ")) != NULL) {
		value[strcspn(value, "\n")] = '\0';
		conf_shown(out, size, value + 3);
	}
	free(text);
}

static bool
rows_reloadable(const struct option_def *table, const struct settings *neu, const char *section,
    const char *title, const void *was, const void *is, struct conf_errors *errs)
{
	bool ok = true;

	for (const struct option_def *row = table; row->name != NULL; row++) {
		char where[300], from[OPTION_SHOWN], to[OPTION_SHOWN], scope[SCOPE_SIZE] = "";

		if (row->reload != RELOAD_RESTART || option_equal(row, was, is))
			continue;
		if (title != NULL)
			snprintf(scope, sizeof(scope), "%s \"%s\": ", section, title);
		else if (section[0] != '\0')
			snprintf(scope, sizeof(scope), "%s: ", section);
		where_in(neu, section, title, row->name, where, sizeof(where));
		value_text(row, was, from, sizeof(from));
		value_text(row, is, to, sizeof(to));
		conf_errors_add(errs, "%s: %s\"%s\" cannot change from %s to %s without a restart",
		    where, scope, row->name, from, to);
		ok = false;
	}
	return ok;
}

static const struct listener_settings *
listener_named(const struct settings *s, const char *name)
{
	for (unsigned i = 0; i < s->listener_count; i++) {
		if (strcmp(s->listeners[i].name, name) == 0)
			return &s->listeners[i];
	}
	return NULL;
}

bool
settings_reloadable(
    const struct settings *old, const struct settings *neu, struct conf_errors *errs)
{
	bool ok = rows_reloadable(top_options, neu, "", NULL, old, neu, errs);

	ok = rows_reloadable(admin_options, neu, "admin", NULL, old, neu, errs) && ok;
	ok = rows_reloadable(log_options, neu, "log", NULL, old, neu, errs) && ok;
	ok = rows_reloadable(store_options, neu, "store", NULL, old, neu, errs) && ok;
	for (unsigned i = 0; i < neu->listener_count; i++) {
		const struct listener_settings *is = &neu->listeners[i],
					       *was = listener_named(old, is->name);

		if (was == NULL) {
			conf_errors_add(errs,
			    "%s: listener \"%s\" cannot be added without a restart", is->where,
			    is->name);
			ok = false;
		} else {
			ok = rows_reloadable(
				 listener_options, neu, "listener", is->name, was, is, errs) &&
			    ok;
		}
	}
	for (unsigned i = 0; i < old->listener_count; i++) {
		const struct listener_settings *was = &old->listeners[i];

		if (listener_named(neu, was->name) == NULL) {
			conf_errors_add(errs,
			    "%s: listener \"%s\" (%s) cannot be removed without a restart",
			    neu->tree->file, was->name, was->where);
			ok = false;
		}
	}
	return ok;
}
