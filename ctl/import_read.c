/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "../plugins/common/read_file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

/* Under what the next directive stands. Each file begins with nothing, as Mosquitto has it. */
struct place {
	int listener, plugin, bridge;
};

static bool
fail(struct import *im, const char *file, unsigned line, const char *what)
{
	if (line > 0)
		snprintf(im->error, sizeof(im->error), "%.4096s:%u: %s", file, line, what);
	else
		snprintf(im->error, sizeof(im->error), "%.4096s: %s", file, what);
	return false;
}

static bool
no_memory(struct import *im)
{
	im->no_memory = true;
	snprintf(im->error, sizeof(im->error), "no memory");
	return false;
}

static bool
listener_new(struct import *im, size_t at, bool standard, int *listener)
{
	struct import_listener *more;

	if (im->listener_count >= IMPORT_MAX_LISTENERS)
		return fail(im, im->directives[at].file, im->directives[at].line,
		    "more than 200 listeners");
	more = realloc(im->listeners, (im->listener_count + 1) * sizeof(*more));
	if (more == NULL)
		return no_memory(im);
	im->listeners = more;
	more[im->listener_count] = (struct import_listener){ .at = at, .standard = standard };
	*listener = (int)im->listener_count++;
	return true;
}

/* The one that `port`, `bind_address` and settings before the first `listener` are about. */
static bool
standard_listener(struct import *im, size_t at, int *listener)
{
	for (size_t i = 0; i < im->listener_count; i++)
		if (im->listeners[i].standard) {
			*listener = (int)i;
			return true;
		}
	return listener_new(im, at, true, listener);
}

/* It stands under no listener, wherever it stands. */
static bool
is_global_plugin(const struct import_directive *d)
{
	return strcmp(d->name, "global_plugin") == 0 || strcmp(d->name, "plugin_load") == 0;
}

static bool
plugin_new(struct import *im, size_t at, struct place *p)
{
	struct import_plugin *more = realloc(im->plugins, (im->plugin_count + 1) * sizeof(*more));
	bool global = is_global_plugin(&im->directives[at]);

	if (more == NULL)
		return no_memory(im);
	im->plugins = more;
	more[im->plugin_count] = (struct import_plugin){ .at = at,
		.listener = im->per_listener && !global ? p->listener : -1 };
	p->plugin = (int)im->plugin_count++;
	return true;
}

static bool
is_one(const struct import_directive *d, const char *name)
{
	return d->known != NULL && strcmp(d->known->name, name) == 0;
}

/* Find out what directive number `at` stands under, and what it begins. */
static bool
put_in_place(struct import *im, size_t at, struct place *p)
{
	struct import_directive *d = &im->directives[at];

	if (d->known == NULL)
		return true;
	if (is_one(d, "listener")) {
		im->local_only = false;
		if (!listener_new(im, at, false, &p->listener))
			return false;
	} else if (is_one(d, "port") || is_one(d, "bind_address")) {
		im->local_only = false;
		if (!standard_listener(im, at, &p->listener))
			return false;
	} else if (d->known->scope == IMPORT_LISTENER && p->listener < 0 &&
	    !standard_listener(im, at, &p->listener)) {
		return false;
	} else if (is_one(d, "plugin") && !plugin_new(im, at, p)) {
		return false;
	} else if (is_one(d, "plugin_use")) {
		p->plugin =
		    import_plugin_named(im, d->value); /* options behind it are of that one */
	} else if (is_one(d, "connection")) {
		p->bridge = (int)im->bridge_count++;
	} else if (is_one(d, "per_listener_settings")) {
		im->per_listener = im->per_listener || strncmp(d->value, "true", 4) == 0 ||
		    strncmp(d->value, "1", 1) == 0;
	}
	switch (d->known->scope) {
	case IMPORT_GLOBAL:
		break;
	case IMPORT_SECURITY:
		if (!im->per_listener || is_global_plugin(d))
			break;
		if (p->listener < 0 && !standard_listener(im, at, &p->listener))
			return false;
		d->under = p->listener;
		break;
	case IMPORT_LISTENER:
		d->under = p->listener;
		break;
	case IMPORT_PLUGIN:
		d->under = p->plugin;
		break;
	case IMPORT_BRIDGE:
		d->under = p->bridge;
		break;
	}
	return true;
}

static bool
directive_new(struct import *im, const char *file, unsigned line, char *text)
{
	struct import_directive *d;
	char *value, *end;

	text += strspn(text, " \t");
	value = text + strcspn(text, " \t");
	if (*value != '\0')
		*value++ = '\0';
	value += strspn(value, " \t");
	for (end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t');)
		*--end = '\0';
	if (im->count >= IMPORT_MAX_DIRECTIVES)
		return fail(im, file, line, "more than 50000 settings");
	if (im->count == im->room) {
		size_t room = im->room == 0 ? 64 : im->room * 2;

		if ((d = realloc(im->directives, room * sizeof(*d))) == NULL)
			return no_memory(im);
		im->directives = d;
		im->room = room;
	}
	d = &im->directives[im->count];
	*d = (struct import_directive){ .name = strdup(text),
		.value = strdup(value),
		.file = file,
		.line = line,
		.under = -1 };
	im->count++;
	if (d->name == NULL || d->value == NULL)
		return no_memory(im);
	if ((d->known = import_known(d->name)) != NULL)
		d->fate = d->known->fate;
	return true;
}

/* ---- files ------------------------------------------------------------------------------------- */

static bool
read_at(struct import *im, const char *path, unsigned level)
{
	struct file_text text;
	bool good;

	if (!read_file(path, IMPORT_MAX_FILE, &text, im->error, sizeof(im->error)))
		return false;
	good = import_text(im, path, text.data, text.len, level);
	file_text_free(&text);
	return good;
}

/* Without regard to case; of names that differ in nothing else, the one with capitals first. */
static int
by_name(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	int c = strcasecmp(x, y);

	return c != 0 ? c : strcmp(x, y);
}

static bool
wanted(const char *name)
{
	size_t len = strlen(name);

	return len > 5 && strcmp(name + len - 5, ".conf") == 0;
}

static bool
folder_names(struct import *im, DIR *dir, const char *path, char **names, size_t *count)
{
	const struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		if (!wanted(e->d_name))
			continue;
		if (*count == IMPORT_MAX_FILES)
			return fail(im, path, 0, "more than 1000 files");
		if (asprintf(&names[*count], "%s/%s", path, e->d_name) < 0)
			return no_memory(im);
		++*count;
	}
	return true;
}

static bool
read_folder(struct import *im, const struct import_directive *d)
{
	const char *file = d->file, *path = d->value; /* d moves when there are more */
	unsigned line = d->line;
	char **names = NULL, *copy = strdup(path);
	size_t count = 0;
	bool good = false;
	DIR *dir = NULL;

	if (copy == NULL || (names = calloc(IMPORT_MAX_FILES, sizeof(*names))) == NULL) {
		(void)no_memory(im);
	} else if ((dir = opendir(copy)) == NULL) {
		snprintf(im->error, sizeof(im->error), "%.2000s:%u: include_dir %.2000s: %s", file,
		    line, copy, strerror(errno));
	} else if (folder_names(im, dir, copy, names, &count)) {
		qsort(names, count, sizeof(*names), by_name);
		good = true;
		for (size_t i = 0; good && i < count; i++)
			good = read_at(im, names[i], 1);
	}
	if (dir != NULL)
		(void)closedir(dir);
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	free(names);
	free(copy);
	return good;
}

/* NULL: there are too many, or no memory. */
static const char *
file_name(struct import *im, const char *name)
{
	char **more;

	if (im->file_count > IMPORT_MAX_FILES) {
		(void)fail(im, name, 0, "more than 1000 files");
		return NULL;
	}
	if ((more = realloc(im->files, (im->file_count + 1) * sizeof(*more))) == NULL) {
		(void)no_memory(im);
		return NULL;
	}
	im->files = more;
	if ((more[im->file_count] = strdup(name)) == NULL) {
		(void)no_memory(im);
		return NULL;
	}
	return more[im->file_count++];
}

static bool
take_line(
    struct import *im, const char *file, unsigned line, char *text, unsigned level, struct place *p)
{
	struct import_directive *d;

	if (!directive_new(im, file, line, text) || !put_in_place(im, im->count - 1, p))
		return false;
	d = &im->directives[im->count - 1];
	if (!is_one(d, "include_dir"))
		return true;
	if (level == 0) {
		d->fate = IMPORT_CONVERTED;
		return read_folder(im, d);
	}
	import_fate(im, d, IMPORT_LOST, "only the main file can include others");
	return !im->no_memory;
}

bool
import_text(struct import *im, const char *name, const char *text, size_t len, unsigned level)
{
	struct place p = { -1, -1, -1 };
	const char *file = file_name(im, name), *end = text + len;
	unsigned line = 0;

	if (file == NULL)
		return false;
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t n = (size_t)((newline != NULL ? newline : end) - text), blank = 0;
		char *copy;
		bool good;

		line++;
		if (n > IMPORT_MAX_LINE)
			return fail(im, file, line, "a line of more than 65536 bytes");
		if (memchr(text, '\0', n) != NULL)
			return fail(im, file, line, "there is a NUL byte: this is no text");
		while (n > 0 && text[n - 1] == '\r')
			n--;
		while (blank < n && (text[blank] == ' ' || text[blank] == '\t'))
			blank++;
		if (blank < n && text[0] != '#') {
			if ((copy = malloc(n + 1)) == NULL)
				return no_memory(im);
			memcpy(copy, text, n);
			copy[n] = '\0';
			good = take_line(im, file, line, copy, level, &p);
			free(copy);
			if (!good)
				return false;
		}
		text = newline != NULL ? newline + 1 : end;
	}
	return true;
}

bool
import_read(struct import *im, const char *path)
{
	char *copy = strdup(path);

	im->local_only = true;
	if (copy != NULL)
		im->folder = strdup(dirname(copy));
	free(copy);
	if (im->folder == NULL)
		return no_memory(im);
	return read_at(im, path, 0);
}

void
import_free(struct import *im)
{
	for (size_t i = 0; i < im->count; i++) {
		free(im->directives[i].name);
		free(im->directives[i].value);
		free(im->directives[i].note);
	}
	for (size_t i = 0; i < im->file_count; i++)
		free(im->files[i]);
	for (size_t i = 0; i < im->bind_count; i++)
		free(im->binds[i]);
	free(im->binds);
	free(im->files);
	free(im->folder);
	free(im->directives);
	free(im->listeners);
	free(im->plugins);
	free(im->output);
	free(im->database);
}
