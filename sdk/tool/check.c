/* SPDX-License-Identifier: Apache-2.0 */
/* check: what can be seen from outside, what the dynamic linker says, the descriptor, and a first life of an instance. */
#include "check.h"
#include "tool.h"
#include <dlfcn.h>
#include <getopt.h>
#include <grapnel/harness.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
check_say(struct check *c, enum checked how, const char *what, const char *format, ...)
{
	static const char *const words[] = { "ok", "warning", "FAIL" };
	va_list ap;

	c->count[how]++;
	if (c->quiet && how == CHECK_OK)
		return;
	printf("%-8s%s: ", words[how], what);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
}

/* Would this process not survive it? */
static bool
deadly(const char *error)
{
	static const char *const begins[] = { "loading it crashes", "loading it does not end",
		"loading it ends the process" };

	for (size_t i = 0; i < sizeof(begins) / sizeof(*begins); i++) {
		if (strncmp(error, begins[i], strlen(begins[i])) == 0)
			return true;
	}
	return false;
}

/* false: it is not to be loaded here. */
static bool
check_loading(struct check *c)
{
	char error[512] = "";

	if (c->runtime != NULL && dlsym(RTLD_DEFAULT, c->runtime) == NULL) {
		check_say(c, CHECK_OK, "loading",
		    "not looked at, nor what is inside: built with a sanitizer, whose library has "
		    "to come first (LD_PRELOAD)");
		return false;
	}
	switch (grapnel_harness_load_check(c->path, error, sizeof(error))) {
	case GRAPNEL_OK:
		check_say(c, CHECK_OK, "loading",
		    "every symbol comes from the libraries it names; nothing happens before "
		    "create()");
		break;
	case GRAPNEL_EUNSUPPORTED:
		c->sanitized = true;
		check_say(c, CHECK_OK, "loading", "not looked at: built with a sanitizer");
		break;
	case GRAPNEL_EFAULT:
		check_say(c, CHECK_FAIL, "loading", "%s%s", error,
		    strstr(error, "undefined symbol") != NULL
			? "; link it with the library that has it, and with -Wl,-z,defs"
			: "");
		break;
	default:
		check_say(c, CHECK_FAIL, "loading", "%s", error);
		break;
	}
	return !deadly(error);
}

/* The descriptor, and how large the object says it is. */
static const struct grapnel_plugin *
descriptor_open(struct check *c, void **handle, size_t *size)
{
	const ElfW(Sym) *entry = NULL;
	const char *slash = strchr(c->path, '/');
	char path[4096];
	Dl_info info;
	void *symbol;

	snprintf(path, sizeof(path), "%s%s", slash != NULL ? "" : "./", c->path);
	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (*handle == NULL) {
		check_say(c, CHECK_FAIL, "descriptor", "it cannot be loaded: %s", dlerror());
		return NULL;
	}
	symbol = dlsym(*handle, "grapnel_plugin");
	if (symbol == NULL) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "there is no symbol grapnel_plugin; define it with GRAPNEL_PLUGIN(...)");
		return NULL;
	}
	if (dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) == 0 || entry == NULL ||
	    ELF64_ST_TYPE(entry->st_info) != STT_OBJECT) {
		check_say(c, CHECK_FAIL, "descriptor",
		    "grapnel_plugin is no data; it has to be a struct grapnel_plugin");
		return NULL;
	}
	*size = (size_t)entry->st_size;
	return symbol;
}

/* ---- a first life --------------------------------------------------------------------------------------- */

struct life {
	struct check *c;
	bool defaults; /* no section was given: create() may refuse that, if it says why */
	bool refused;
};

static void
on_report(void *arg, enum grapnel_harness_report kind, const char *where, const char *text)
{
	struct life *l = arg;

	(void)where;
	if (kind == GRAPNEL_HARNESS_FINDING)
		check_say(l->c, CHECK_FAIL, "life", "%s", text);
	if (kind != GRAPNEL_HARNESS_FAILURE)
		return;
	l->refused = true;
	if (l->defaults && strstr(text, "gave no reason") == NULL &&
	    strstr(text, "worker_start failed") == NULL)
		check_say(l->c, CHECK_OK, "life",
		    "not tried, since it wants more than its defaults; give a section with "
		    "--section FILE (%s)",
		    text);
	else
		check_say(l->c, CHECK_FAIL, "life", "%s", text);
}

static void
check_life(struct check *c, const char *section)
{
	struct life life = { .c = c, .defaults = section == NULL };
	struct grapnel_harness_config config = {
		.size = sizeof(config), .path = c->path, .report = on_report, .report_arg = &life
	};
	struct grapnel_harness *h;

	if (grapnel_harness_new(&config, &h) != GRAPNEL_OK) {
		check_say(c, CHECK_FAIL, "life", "out of memory or descriptors");
		return;
	}
	if (section != NULL)
		(void)grapnel_harness_step(
		    h, "section <<.end-of-section\n%s\n.end-of-section", section);
	(void)grapnel_harness_step(h, "workers 2");
	if (grapnel_harness_step(h, "start") == GRAPNEL_OK)
		(void)grapnel_harness_step(h, "run");
	if (grapnel_harness_free(h) == 0 && !life.refused)
		check_say(c, CHECK_OK, "life",
		    "created, started on two workers, stopped and destroyed; nothing was left");
}

static char *
section_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = calloc(1, 65536);

	if (f == NULL || text == NULL) {
		perror(path);
		free(text);
		text = NULL;
	} else {
		text[fread(text, 1, 65535, f)] = '\0';
	}
	if (f != NULL)
		fclose(f);
	return text;
}

static void
check_inside(struct check *c, const char *section)
{
	struct grapnel_plugin copy = { 0 };
	const struct grapnel_plugin *d;
	void *handle = NULL;
	size_t size = 0;
	bool alone = false;

	if ((d = descriptor_open(c, &handle, &size)) != NULL) {
		memcpy(&copy, d, size < sizeof(copy) ? size : sizeof(copy));
		if (check_descriptor(c, &copy, size))
			alone = check_options(c, copy.options) || section != NULL;
		if (!alone && copy.create != NULL)
			check_say(c, CHECK_OK, "life",
			    "not tried: an option is required; give a section with --section FILE");
	}
	if (handle != NULL)
		dlclose(handle);
	if (alone && c->count[CHECK_FAIL] == 0)
		check_life(c, section);
}

static int
check_one(struct check *c, bool strict, const char *section)
{
	bool bad;

	if (check_elf(c) && check_loading(c))
		check_inside(c, section);
	bad = c->count[CHECK_FAIL] > 0 || (strict && c->count[CHECK_WARNING] > 0);
	printf("%s: %s (%u in order, %u warning(s), %u fault(s))\n", c->path,
	    bad ? "NOT in order" : "in order", c->count[CHECK_OK], c->count[CHECK_WARNING],
	    c->count[CHECK_FAIL]);
	return bad ? TOOL_BAD : 0;
}

int
tool_check(int argc, char **argv)
{
	static const struct option longs[] = { { "quiet", no_argument, NULL, 'q' },
		{ "section", required_argument, NULL, 's' }, { "strict", no_argument, NULL, 'S' },
		{ NULL, 0, NULL, 0 } };
	bool strict = false, quiet = false;
	char *section = NULL;
	int option, bad = 0;

	while ((option = getopt_long(argc, argv, "q", longs, NULL)) != -1) {
		if (option == 'S')
			strict = true;
		else if (option == 'q')
			quiet = true;
		else if (option != 's' || section != NULL)
			return tool_usage("check");
		else if ((section = section_read(optarg)) == NULL)
			return TOOL_USAGE;
	}
	if (optind == argc) {
		free(section);
		return tool_usage("check");
	}
	for (int i = optind; i < argc; i++) {
		struct check c = { .path = argv[i], .quiet = quiet };

		if (check_one(&c, strict, section) != 0)
			bad = TOOL_BAD;
	}
	free(section);
	return bad;
}
