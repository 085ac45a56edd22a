/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "import.h"

#include "ctl.h"
#include "mqtt/wire.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT      "grapnel"
#define VALUE_SHOWN 60

static enum ctl_exit
failed(const char *where, const char *what)
{
	char *shown = show_escape(where, NULL);

	fprintf(stderr, "grapnelctl: import-mosquitto: %s%s%s\n", shown != NULL ? shown : "?",
	    what != NULL ? ": " : "", what != NULL ? what : "");
	free(shown);
	return CTL_FAILED;
}

/* ---- the folder ---------------------------------------------------------------------------------- */

/* Absent or empty, so that nothing is ever overwritten. */
static bool
free_to_use(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool empty = true;

	if (dir == NULL) {
		if (errno == ENOENT)
			return true;
		(void)failed(path, strerror(errno));
		return false;
	}
	while (empty && (e = readdir(dir)) != NULL)
		empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
	(void)closedir(dir);
	if (!empty)
		(void)failed(path,
		    "there are files in it, and nothing is overwritten; choose another folder with "
		    "--output");
	return empty;
}

static bool
make_folder(const char *path)
{
	if (mkdir(path, 0750) == 0 || errno == EEXIST)
		return true;
	(void)failed(path, strerror(errno));
	return false;
}

static bool
write_file(const char *folder, const struct import_file *f)
{
	char *path = NULL;
	bool good = false;
	FILE *out;
	int fd;

	if (asprintf(&path, "%s/%s", folder, f->name) < 0) {
		(void)no_memory();
		return false;
	}
	if ((fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->mode)) >= 0) {
		if ((out = fdopen(fd, "w")) == NULL) {
			(void)close(fd);
		} else {
			good = fwrite(f->text, 1, f->len, out) == f->len;
			good = fclose(out) == 0 && good;
		}
	}
	if (!good)
		(void)failed(path, strerror(errno));
	free(path);
	return good;
}

static bool
write_all(const char *folder, const struct import_out *o)
{
	char *conf_d = NULL;
	bool good;

	if (asprintf(&conf_d, "%s/conf.d", folder) < 0) {
		(void)no_memory();
		return false;
	}
	good = free_to_use(folder) && make_folder(folder) && make_folder(conf_d);
	for (unsigned i = 0; good && i < o->count; i++)
		good = write_file(folder, &o->files[i]);
	free(conf_d);
	return good;
}

/* ---- what is said -------------------------------------------------------------------------------- */

static void
say_directive(const struct import_directive *d)
{
	bool secret = d->known == NULL || d->known->scope == IMPORT_PLUGIN ||
	    d->known->scope == IMPORT_BRIDGE;
	char *file = show_escape(d->file, NULL), *name = show_escape(d->name, NULL), *value = NULL;
	char shown[VALUE_SHOWN + 1];

	if (!secret && utf8_valid(d->value, strlen(d->value)) && strlen(d->value) <= VALUE_SHOWN) {
		snprintf(shown, sizeof(shown), "%s", d->value);
		value = show_escape(shown, NULL);
	}
	printf("  %s:%u: %s%s%s\n      %s\n", file != NULL ? file : "?", d->line,
	    name != NULL ? name : "?", value != NULL && value[0] != '\0' ? " " : "",
	    value != NULL ? value : "",
	    d->note != NULL                        ? d->note
		: d->known->words != NULL          ? d->known->words
		: d->known->scope == IMPORT_BRIDGE ? "it stands under no connection"
						   : "it has no effect");
	free(file);
	free(name);
	free(value);
}

static void
say_bridge(const struct import *im, const struct import_directive *connection)
{
	unsigned lines = 0, last = connection->line;
	char *file = show_escape(connection->file, NULL),
	     *name = show_escape(connection->value, NULL);

	for (size_t i = 0; i < im->count; i++) {
		const struct import_directive *d = &im->directives[i];

		if (d->known == NULL || d->known->scope != IMPORT_BRIDGE ||
		    d->under != connection->under)
			continue;
		lines++;
		last = d->line > last ? d->line : last;
	}
	printf("  %s:%u: connection %s, with what belongs to it up to line %u (%u settings)\n"
	       "      there are no bridges yet; a client that subscribes there and publishes here "
	       "does for "
	       "one direction\n",
	    file != NULL ? file : "?", connection->line, name != NULL ? name : "?", last, lines);
	free(file);
	free(name);
}

static size_t
count_fate(const struct import *im, enum import_fate fate)
{
	size_t n = 0;

	for (size_t i = 0; i < im->count; i++)
		n += im->directives[i].fate == fate;
	return n;
}

static void
say_all(const struct import *im, enum import_fate fate, const char *title)
{
	size_t n = count_fate(im, fate);

	if (n == 0 && !(fate == IMPORT_OTHER && im->names))
		return;
	printf("\n%s:\n", title);
	for (size_t i = 0; i < im->count; i++) {
		const struct import_directive *d = &im->directives[i];

		if (d->fate != fate)
			continue;
		if (d->known == NULL || d->known->scope != IMPORT_BRIDGE || d->under < 0)
			say_directive(d);
		else if (strcmp(d->known->name, "connection") == 0)
			say_bridge(im, d);
	}
	if (fate == IMPORT_OTHER && im->names)
		printf("  user names\n      " IMPORT_ANY_NAME "\n");
}

static void
say_next(const struct import *im, bool dry)
{
	if (dry) {
		puts("\nNothing was written (--dry-run).");
		return;
	}
	printf("\nNext:\n  grapneld -t -c %s/grapnel.conf\n", im->output);
	if (im->database != NULL)
		printf("  grapnelctl store import -c %s/grapnel.conf --mosquitto %s\n"
		       "      sessions and retained messages, once, while neither broker runs\n",
		    im->output, im->database);
	printf("  grapneld -c %s/grapnel.conf\n"
	       "      instead of Mosquitto; or move the files to " GRAPNEL_SYSCONFDIR
	       ", and change the paths in\n"
	       "      them that begin with %s\n",
	    im->output, im->output);
}

static void
report(const struct import *im, const struct import_out *o, bool dry)
{
	if (dry)
		for (unsigned i = 0; i < o->count; i++)
			printf("==> %s/%s\n%s\n", im->output, o->files[i].name, o->files[i].text);
	printf("%zu settings in %zu files.\n", im->count, im->file_count);
	if (!dry)
		puts("\nWritten:");
	for (unsigned i = 0; i < o->count && !dry; i++)
		printf("  %s/%s\n", im->output, o->files[i].name);
	say_all(im, IMPORT_SAME, "So by default, nothing to write");
	say_all(im, IMPORT_OTHER, "Converted, but not quite the same");
	say_all(im, IMPORT_LOST, "No counterpart");
	say_next(im, dry);
}

/* ---- the command --------------------------------------------------------------------------------- */

static char *
absolute_output(const char *output)
{
	char here[PATH_MAX], *path = NULL;

	if (output[0] == '/')
		return strdup(output);
	if (getcwd(here, sizeof(here)) == NULL || asprintf(&path, "%s/%s", here, output) < 0)
		return NULL;
	return path;
}

static enum ctl_exit
run(const char *file, const char *output, bool dry)
{
	struct import im = { .look_around = true, .output = absolute_output(output) };
	struct import_out o = { 0 };
	enum ctl_exit result = CTL_FAILED;

	if (im.output == NULL)
		result = no_memory();
	else if (!import_read(&im, file))
		result = failed(im.error, NULL);
	else if (!import_convert(&im, &o))
		result = no_memory();
	else if (dry || write_all(im.output, &o)) {
		report(&im, &o, dry);
		result = CTL_OK;
	}
	import_out_free(&o);
	import_free(&im);
	return result;
}

enum ctl_exit
cmd_import_mosquitto(const struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "output", required_argument, NULL, 'o' },
		{ "dry-run", no_argument, NULL, 'n' }, { NULL, 0, NULL, 0 } };
	const char *output = OUTPUT;
	bool dry = false;
	int c;

	(void)ctl;
	optind = 0; /* main has used getopt */
	while ((c = getopt_long(argc, argv, ":o:n", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			output = optarg;
			break;
		case 'n':
			dry = true;
			break;
		default:
			return usage_error("import-mosquitto: %s \"%s\"",
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		}
	}
	if (argc - optind != 1)
		return usage_error("import-mosquitto takes one file, mosquitto.conf");
	if (output[0] == '\0' || !utf8_plain(output, strlen(output)))
		return usage_error("import-mosquitto: --output must be the name of a folder");
	return run(argv[optind], output, dry);
}
