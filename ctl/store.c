/* SPDX-License-Identifier: Apache-2.0 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "store.h"

#include "config/conf.h"
#include "config/conf_errors.h"
#include "config/options.h"
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_FILE GRAPNEL_SYSCONFDIR "/grapnel.conf"

enum ctl_exit
store_error(const struct store_args *a, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "grapnelctl: store %s: ", a->command);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CTL_FAILED;
}

void
store_damaged(const char *text, void *arg)
{
	(void)store_error(arg, "%s", text);
}

uint64_t
store_bytes(const struct store_args *a, const char *suffix)
{
	char *path = NULL;
	struct stat st = { 0 };

	if (asprintf(&path, "%s/" STORE_DATABASE "%s", a->directory, suffix) < 0)
		return 0;
	if (stat(path, &st) != 0)
		st.st_size = 0;
	free(path);
	return (uint64_t)st.st_size;
}

/* ---- where the store is -------------------------------------------------------------------------- */

static const char *
find_directory(const struct conf_node *root)
{
	const char *found = NULL;

	for (unsigned i = 0; root != NULL && i < root->item_count; i++) {
		const struct conf_node *block = &root->items[i];

		if (block->kind != CONF_BLOCK || strcmp(block->name, "store") != 0)
			continue;
		for (unsigned k = 0; k < block->item_count; k++)
			if (block->items[k].kind == CONF_VALUE &&
			    strcmp(block->items[k].name, "directory") == 0)
				found = block->items[k].value;
	}
	return found;
}

/* Unlike the admin socket's, a wrong guess here would be another store: what is there must be readable. */
static bool
directory_of(struct store_args *a, const char *config)
{
	const struct option_def *row = option_find(store_options, "directory");
	const char *file = config != NULL ? config : CONFIG_FILE, *found;
	struct conf_errors errs = { 0 };
	struct conf_node *root = NULL;

	if (config != NULL || access(file, F_OK) == 0) {
		if ((root = conf_read(file, true, &errs)) == NULL) {
			for (unsigned i = 0; i < errs.count; i++)
				(void)store_error(a, "%s", errs.messages[i]);
			(void)store_error(
			    a, "%s cannot be read; --directory says where the store is", file);
			conf_errors_clear(&errs);
			return false;
		}
	}
	if ((found = find_directory(root)) == NULL)
		found = row->default_value;
	if ((a->directory = strdup(found)) == NULL)
		(void)no_memory();
	conf_errors_clear(&errs);
	conf_free(root);
	return a->directory != NULL;
}

/* What root writes the broker could not open. */
static bool
is_ours(const struct store_args *a)
{
	const struct passwd *owner;
	struct stat st;

	if (stat(a->directory, &st) != 0 || st.st_uid == geteuid())
		return true;
	owner = getpwuid(st.st_uid);
	(void)store_error(a,
	    "%s belongs to the user %s, who has to be able to open what is written: run this as "
	    "that "
	    "user (runuser -u %s -- grapnelctl store %s ...)",
	    a->directory, owner != NULL ? owner->pw_name : "(unknown)",
	    owner != NULL ? owner->pw_name : "USER", a->command);
	return false;
}

bool
store_take(const struct store_args *a, struct store_file *f)
{
	char error[STORE_ERROR];
	const struct store_damage *d = &f->damage;

	if (!is_ours(a))
		return false;
	if (store_file_open(f, a->directory, "grapnel " PACKAGE_VERSION, error) != GRAPNEL_OK) {
		(void)store_error(a, "%s", error);
		return false;
	}
	if (d->aside[0] != '\0')
		(void)store_error(a,
		    "the database was damaged: it is now %s, and all that can be read of it is in "
		    "the new "
		    "one; lost: %" PRIu64 " sessions, %" PRIu64 " subscriptions, %" PRIu64
		    " exchanges, %" PRIu64 " retained messages, %" PRIu64
		    " segments of messages, %" PRIu64 " bans, %" PRIu64 " values",
		    d->aside, d->sessions, d->subscriptions, d->exchanges, d->retained, d->segments,
		    d->bans, d->values);
	return true;
}

/* ---- check ----------------------------------------------------------------------------------------- */

#define CHECK_UNREADABLE 2

static void
on_fault(const char *text, void *arg)
{
	json_t *faults = arg;
	char *shown = show_escape(text, NULL);

	if (faults != NULL)
		(void)json_array_append_new(faults, json_string(shown != NULL ? shown : "?"));
	else
		printf("%s\n", shown != NULL ? shown : "?");
	free(shown);
}

static enum ctl_exit
check(const struct store_args *a)
{
	json_t *faults = a->json ? json_array() : NULL, *answer;
	char error[STORE_ERROR];
	sqlite3 *db;
	long count;

	if (store_file_read(&db, a->directory, error) != GRAPNEL_OK) {
		(void)store_error(a, "%s", error);
		json_decref(faults);
		return (enum ctl_exit)CHECK_UNREADABLE;
	}
	count = store_file_check(db, true, on_fault, faults);
	sqlite3_close(db);
	if (count < 0) {
		json_decref(faults);
		(void)store_error(a,
		    "the database in %s cannot be read at all; the broker sets it aside when it "
		    "starts, and keeps what it finds",
		    a->directory);
		return (enum ctl_exit)CHECK_UNREADABLE;
	}
	if (a->json) {
		answer = json_pack("{s:s, s:I, s:o}", "directory", a->directory, "count",
		    (json_int_t)count, "faults", faults);
		if (answer == NULL || print_json(answer) != CTL_OK)
			return (enum ctl_exit)CHECK_UNREADABLE;
	} else if (count == 0) {
		printf("%s: no fault\n", a->directory);
	} else {
		printf(
		    "%s: %ld faults; the broker sets the file aside when it starts, and keeps all "
		    "that can be read\n",
		    a->directory, count);
	}
	return count == 0 ? CTL_OK : CTL_FAILED;
}

/* ---- backup ----------------------------------------------------------------------------------------- */

static enum ctl_exit
backup(const struct store_args *a)
{
	char error[STORE_ERROR];
	sqlite3 *db;
	int err;

	if (store_file_read(&db, a->directory, error) != GRAPNEL_OK)
		return store_error(a, "%s", error);
	err = store_file_backup(db, a->file, error);
	sqlite3_close(db);
	return err == GRAPNEL_OK ? CTL_OK : store_error(a, "%s", error);
}

/* ---- compact ---------------------------------------------------------------------------------------- */

static bool
compact_file(const struct store_args *a, sqlite3 *db, char error[STORE_ERROR])
{
	if (!sql_run(db, "BEGIN IMMEDIATE", error))
		return false;
	if (!log_compact(db, store_damaged, (void *)(uintptr_t)a, error) ||
	    !sql_run(db, "COMMIT", error)) {
		(void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
		return false;
	}
	return sql_run(db, "VACUUM", error);
}

static uint64_t
all_bytes(const struct store_args *a)
{
	return store_bytes(a, "") + store_bytes(a, "-wal");
}

static enum ctl_exit
compact(const struct store_args *a)
{
	char error[STORE_ERROR];
	struct store_file f;
	uint64_t before = all_bytes(a);
	sqlite3 *db;
	json_t *o;
	bool good;

	if (store_file_read(&db, a->directory, error) !=
	    GRAPNEL_OK) /* one that is not there is not made */
		return store_error(a, "%s", error);
	sqlite3_close(db);
	if (!store_take(a, &f))
		return CTL_FAILED;
	good = compact_file(a, f.db, error);
	store_file_close(&f);
	if (!good)
		return store_error(a, "%s: %s; nothing is lost", a->directory, error);
	o = json_pack("{s:I, s:I}", "bytes_before", (json_int_t)before, "bytes_after",
	    (json_int_t)all_bytes(a));
	if (o == NULL)
		return no_memory();
	if (a->json)
		return print_json(o);
	show_value(o);
	json_decref(o);
	return CTL_OK;
}

/* ---- the command line ------------------------------------------------------------------------------ */

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "directory", required_argument, NULL, 'd' },
	{ "max-line", required_argument, NULL, 'm' },
	{ "merge", no_argument, NULL, 'M' },
	{ "mosquitto", no_argument, NULL, 'q' },
	{ "replace", no_argument, NULL, 'r' },
	{ NULL, 0, NULL, 0 },
};

static const struct store_command {
	const char *name;
	enum { NO_FILE, MAY_FILE, NEEDS_FILE } file;
	bool imports; /* takes the options of import */
	enum ctl_exit (*run)(const struct store_args *a);
} store_commands[] = {
	{ "check", NO_FILE, false, check },
	{ "stats", NO_FILE, false, store_stats },
	{ "export", MAY_FILE, false, store_export },
	{ "import", NEEDS_FILE, true, store_import },
	{ "compact", NO_FILE, false, compact },
	{ "backup", NEEDS_FILE, false, backup },
};

/* "64m", "1048576". */
static bool
to_bytes(const char *text, size_t *out)
{
	char *end;
	unsigned long long n;
	unsigned shift = 0;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end == 'k' || *end == 'm' || *end == 'g')
		shift = *end == 'k' ? 10 : *end == 'm' ? 20 : 30, end++;
	if (errno != 0 || *end != '\0' || n == 0 || n > SIZE_MAX >> 1 >> shift)
		return false;
	*out = (size_t)(n << shift);
	return true;
}

static enum ctl_exit
parse(const struct store_command *command, struct store_args *a, const char **config, int argc,
    char **argv)
{
	int c;

	optind = 0;
	while ((c = getopt_long(argc, argv, "+:c:", options, NULL)) != -1) {
		if (c == ':' || c == '?')
			return usage_error("store %s: %s \"%s\"", a->command,
			    c == ':' ? "a value is missing behind" : "unknown option",
			    argv[optind - 1]);
		if (c != 'c' && c != 'd' && !command->imports)
			return usage_error(
			    "store %s does not take the options of import", a->command);
		if (c == 'd' && (free(a->directory), a->directory = strdup(optarg)) == NULL)
			return no_memory();
		if (c == 'm' && !to_bytes(optarg, &a->max_line))
			return usage_error(
			    "--max-line takes a number of bytes such as 64m, not \"%s\"", optarg);
		if (c == 'c')
			*config = optarg;
		a->merge |= c == 'M';
		a->replace |= c == 'r';
		a->mosquitto |= c == 'q';
	}
	if (command->file != NO_FILE && optind < argc)
		a->file = argv[optind++];
	if (optind < argc)
		return usage_error("store %s: \"%s\" is too much", a->command, argv[optind]);
	if (command->file == NEEDS_FILE && a->file == NULL)
		return usage_error("store %s needs a file", a->command);
	if (a->replace && !a->merge)
		return usage_error(
		    "--replace says what --merge does, and means nothing without it");
	return CTL_OK;
}

enum ctl_exit
cmd_store(const struct ctl *ctl, int argc, char **argv)
{
	const struct store_command *command = store_commands;
	struct store_args a = { .command = argv[0], .max_line = STORE_LINE_MAX, .json = ctl->json };
	const char *config = NULL;
	enum ctl_exit result;

	while (strcmp(command->name, argv[0]) != 0) /* one of the table in main.c */
		command++;
	result = parse(command, &a, &config, argc, argv);
	if (result == CTL_OK && a.directory == NULL && !directory_of(&a, config))
		result = CTL_FAILED;
	if (result == CTL_OK)
		result = command->run(&a);
	if (result == CTL_OK && fflush(stdout) != 0)
		result = store_error(&a, "the answer cannot be written: %s", strerror(errno));
	free(a.directory);
	return result;
}
