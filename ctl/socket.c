/* SPDX-License-Identifier: Apache-2.0 */
/*
 * socket - where the admin socket is
 *
 * The broker's own reader of the configuration is used, so that conf.d and ${…} count as they do there. What cannot
 * be read (a secret, a file of root's) is no reason to stop: the built-in default is tried then.
 */
#include "config/conf.h"
#include "config/options.h"
#include "ctl.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONFIG_FILE GRAPNEL_SYSCONFDIR "/grapnel.conf"

static const char *
find_socket(const struct conf_node *root)
{
	const char *found = NULL;

	for (unsigned i = 0; i < root->item_count; i++) {
		const struct conf_node *block = &root->items[i];

		if (block->kind != CONF_BLOCK || strcmp(block->name, "admin") != 0)
			continue;
		for (unsigned k = 0; k < block->item_count; k++)
			if (block->items[k].kind == CONF_VALUE &&
			    strcmp(block->items[k].name, "socket") == 0)
				found = block->items[k].value;
	}
	return found;
}

char *
socket_default(void)
{
	const struct option_def *row = option_find(admin_options, "socket");
	struct conf_errors errs = { 0 };
	struct conf_node *root = NULL;
	const char *path = NULL;
	char *result;

	if (access(CONFIG_FILE, R_OK) == 0 && (root = conf_read(CONFIG_FILE, true, &errs)) != NULL)
		path = find_socket(root);
	if (path == NULL)
		path = row != NULL && row->default_value != NULL ? row->default_value : "none";
	result = strdup(path);
	conf_errors_clear(&errs);
	conf_free(root);
	return result;
}
