/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "config/conf.h"
#include "mqtt/wire.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- which one counts ---------------------------------------------------------------------------- */

struct import_directive *
import_find(struct import *im, const char *name, int under)
{
	struct import_directive *found = NULL;

	for (size_t i = 0; i < im->count; i++) {
		struct import_directive *d = &im->directives[i];

		if (d->known == NULL || strcmp(d->known->name, name) != 0 || d->under != under)
			continue;
		if (d->fate == IMPORT_LOST && d->note != NULL) /* its value is none */
			continue;
		if (found != NULL && found->fate == IMPORT_OPEN)
			import_fate(im, found, IMPORT_LOST, "%s:%u has it again, and counts",
			    d->file, d->line);
		found = d;
	}
	return found;
}

struct import_directive *
import_security(struct import *im, const char *name, int listener)
{
	return import_find(im, name, im->per_listener ? listener : -1);
}

void
import_fate(
    struct import *im, struct import_directive *d, enum import_fate fate, const char *format, ...)
{
	char *note = NULL, *both;
	va_list ap;

	if (d == NULL)
		return;
	va_start(ap, format);
	if (vasprintf(&note, format, ap) < 0)
		note = NULL;
	va_end(ap);
	if (note == NULL) {
		im->no_memory = true;
		return;
	}
	d->fate = fate;
	if (d->note == NULL) {
		d->note = note;
		return;
	}
	if (strstr(d->note, note) == NULL) { /* a directive for several listeners says it once */
		if (asprintf(&both, "%s; %s", d->note, note) < 0) {
			im->no_memory = true;
			free(note);
			return;
		}
		free(d->note);
		d->note = both;
	}
	free(note);
}

void
import_converted(struct import_directive *d)
{
	if (d != NULL && (d->fate == IMPORT_OPEN || d->fate == IMPORT_SAME))
		d->fate = IMPORT_CONVERTED;
}

bool
import_is_loaded(const struct import *im, size_t plugin)
{
	return strcmp(im->directives[im->plugins[plugin].at].name, "plugin_load") == 0;
}

int
import_plugin_named(const struct import *im, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = im->plugin_count; i-- > 0;) {
		const char *value = im->directives[im->plugins[i].at].value;

		if (import_is_loaded(im, i) && strcspn(value, " \t") == len &&
		    strncmp(value, name, len) == 0)
			return (int)i;
	}
	return -1;
}

/* ---- values -------------------------------------------------------------------------------------- */

const char *
import_word(const struct import_directive *d, char *out, size_t size)
{
	size_t n = strcspn(d->value, " \t");

	snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), d->value);
	return out;
}

bool
import_bool(struct import *im, struct import_directive *d, bool *out)
{
	char word[16];

	if (d == NULL)
		return false;
	import_word(d, word, sizeof(word));
	if (strcmp(word, "true") == 0 || strcmp(word, "1") == 0)
		*out = true;
	else if (strcmp(word, "false") == 0 || strcmp(word, "0") == 0)
		*out = false;
	else {
		import_fate(im, d, IMPORT_LOST, "it must be true or false");
		return false;
	}
	return true;
}

bool
import_int(struct import *im, struct import_directive *d, int64_t min, int64_t max, int64_t *out)
{
	char word[64];
	int64_t n;

	if (d == NULL)
		return false;
	import_word(d, word, sizeof(word));
	if (!conf_to_int(word, &n)) {
		import_fate(im, d, IMPORT_LOST, "it must be a number");
		return false;
	}
	if (n < min || n > max) {
		import_fate(im, d, IMPORT_OTHER, "brought into the range %" PRId64 " to %" PRId64,
		    min, max);
		n = n < min ? min : max;
	}
	*out = n;
	return true;
}

/* Relative ones are Mosquitto's to its working directory, which is not known: the folder of the file is tried first. */
static char *
absolute(struct import *im, struct import_directive *d)
{
	char here[PATH_MAX], *path = NULL;
	const char *base = im->folder != NULL ? im->folder : ".";

	if (d->value[0] == '/') {
		path = strdup(d->value);
	} else if (getcwd(here, sizeof(here)) == NULL) {
		import_fate(im, d, IMPORT_LOST, "the current folder has no name");
		return NULL;
	} else if (asprintf(&path, "%s%s%s/%s", base[0] == '/' ? "" : here,
		       base[0] == '/' ? "" : "/", base, d->value) < 0) {
		path = NULL;
	} else if (im->look_around && access(path, F_OK) != 0) {
		free(path);
		if (asprintf(&path, "%s/%s", here, d->value) < 0)
			path = NULL;
	}
	if (path == NULL)
		im->no_memory = true;
	else if (d->value[0] != '/')
		import_fate(im, d, IMPORT_OTHER, "a relative path, taken to be %s", path);
	return path;
}

char *
import_path(struct import *im, struct import_directive *d)
{
	char *path;

	if (!utf8_plain(d->value, strlen(d->value)) || d->value[0] == '\0') {
		import_fate(im, d, IMPORT_LOST, "this is not a path");
		return NULL;
	}
	if ((path = absolute(im, d)) == NULL)
		return NULL;
	if (im->look_around && access(path, R_OK) != 0)
		import_fate(
		    im, d, IMPORT_OTHER, "it cannot be read by this user: %s", strerror(errno));
	return path;
}

/* ---- of one listener ----------------------------------------------------------------------------- */

struct import_directive *
import_own(const struct import_one *x, const char *name)
{
	return import_find(x->im, name, x->number);
}

bool
import_own_flag(const struct import_one *x, const char *name)
{
	bool value = false;
	struct import_directive *d = import_own(x, name);

	if (import_bool(x->im, d, &value))
		import_converted(d);
	return value;
}

void
import_own_text(const struct import_one *x, const char *directive, const char *option)
{
	struct import_directive *d = import_own(x, directive);

	if (d == NULL)
		return;
	if (!utf8_plain(d->value, strlen(d->value)) || d->value[0] == '\0') {
		import_fate(x->im, d, IMPORT_LOST, "its value is no text");
		return;
	}
	import_string(x->f, d, option, d->value);
	import_converted(d);
}
