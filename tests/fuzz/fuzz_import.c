/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as mosquitto.conf. What is made of them is a configuration without an error, as long as it has a listener, and every
 * directive has found its fate. Neither files nor host names are looked for.
 */
#include "../../ctl/import.h"
#include "config/conf.h"
#include "config/settings.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void
must_be_settings(const char *text, size_t len)
{
	struct conf_errors errs = { 0 };
	struct conf_node *root = conf_parse(text, len, "x", &errs);
	struct settings *s = NULL;

	if (root == NULL || settings_from_tree(root, "x", &errs, &s) != GRAPNEL_OK) {
		for (unsigned i = 0; i < errs.count; i++)
			fprintf(stderr, "%s\n", errs.messages[i]);
		fprintf(stderr, "%.*s\n", (int)len, text);
		abort();
	}
	conf_errors_clear(&errs);
	settings_unref(s);
}

static void
examine(const struct import *im, const struct import_out *o)
{
	char *text = NULL;
	size_t len = 0;
	FILE *all = open_memstream(&text, &len);

	must(all != NULL);
	for (unsigned i = 0; i < o->count; i++) {
		size_t n = strlen(o->files[i].name);

		must(o->files[i].text != NULL);
		if (n > 5 && strcmp(o->files[i].name + n - 5, ".conf") == 0)
			fwrite(o->files[i].text, 1, o->files[i].len, all);
	}
	must(fclose(all) == 0);
	if (strstr(text, "\nlistener \"") != NULL)
		must_be_settings(text, len);
	for (size_t i = 0; i < im->count; i++)
		must(im->directives[i].fate != IMPORT_OPEN);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct import im = { .local_only = true, .output = strdup("/o") };
	struct import_out o = { 0 };

	if (im.output != NULL && import_text(&im, "m", (const char *)data, size, 1)) {
		must(import_convert(&im, &o));
		examine(&im, &o);
	} else {
		must(im.error[0] != '\0');
	}
	import_out_free(&o);
	import_free(&im);
	return 0;
}
