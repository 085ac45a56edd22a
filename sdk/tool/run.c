/* SPDX-License-Identifier: Apache-2.0 */
/* run: each script in a harness of its own. */
#include "tool.h"
#include <errno.h>
#include <getopt.h>
#include <grapnel/harness.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCRIPT_MAX  (16u * 1024 * 1024)
#define SCRIPTS_MAX 256

struct options {
	const char *path, *name;
	const char *scripts[SCRIPTS_MAX];
	unsigned script_count;
	unsigned hold_ms;
	bool verbose;
};

static void
report(void *arg, enum grapnel_harness_report kind, const char *where, const char *text)
{
	const struct options *o = arg;

	switch (kind) {
	case GRAPNEL_HARNESS_FAILURE:
		printf("%s: %s\n", where, text);
		break;
	case GRAPNEL_HARNESS_FINDING:
		printf("%s: finding: %s\n", where, text);
		break;
	case GRAPNEL_HARNESS_LOG:
		if (o->verbose)
			printf("%s: log %s\n", where, text);
		break;
	case GRAPNEL_HARNESS_STEP:
		if (o->verbose)
			printf("%s: %s\n", where, text);
		break;
	}
	(void)fflush(stdout);
}

static char *
slurp(const char *path, size_t *len)
{
	bool from_stdin = strcmp(path, "-") == 0;
	FILE *f = from_stdin ? stdin : fopen(path, "re");
	char *text = NULL;
	size_t size = 0, n;
	bool bad;

	*len = 0;
	if (f == NULL) {
		fprintf(stderr, "grapnel-plugin: %s: %s\n", path, strerror(errno));
		return NULL;
	}
	do {
		char *more;

		size += 65536;
		if ((more = realloc(text, size + 1)) == NULL)
			break;
		text = more;
		n = fread(text + *len, 1, size - *len, f);
		*len += n;
	} while (n > 0 && *len <= SCRIPT_MAX);
	bad = ferror(f) != 0; /* a folder, for example */
	if (bad)
		fprintf(stderr, "grapnel-plugin: %s: %s\n", path, strerror(errno));
	if (!from_stdin)
		fclose(f);
	if (bad) {
		free(text);
		return NULL;
	}
	if (text != NULL)
		text[*len] = '\0';
	return text;
}

/* @return failures and findings; -1: it could not be run. */
static int
run_script(struct options *o, const char *path)
{
	struct grapnel_harness_config config = { .size = sizeof(config),
		.path = o->path,
		.name = o->name,
		.hold_ms = o->hold_ms,
		.report = report,
		.report_arg = o };
	struct grapnel_harness *h;
	size_t len;
	char *text = slurp(path, &len);
	unsigned failures, findings;
	int err;

	if (text == NULL)
		return -1;
	if ((err = grapnel_harness_new(&config, &h)) != GRAPNEL_OK) {
		free(text);
		if (err == GRAPNEL_ESTATE) {
			printf("%s: not run: a call of the script before it has not come back\n",
			    path);
			return 1;
		}
		fprintf(stderr, "grapnel-plugin: out of memory or descriptors\n");
		return -1;
	}
	(void)grapnel_harness_script(h, text, len, strcmp(path, "-") == 0 ? "stdin" : path);
	failures = grapnel_harness_failures(h);
	findings = grapnel_harness_findings(h);
	printf("%s: %s", strcmp(path, "-") == 0 ? "stdin" : path,
	    failures + findings == 0 ? "ok\n" : "");
	if (failures + findings > 0)
		printf("%u failure(s), %u finding(s)\n", failures, findings);
	(void)fflush(stdout);
	(void)grapnel_harness_free(h);
	free(text);
	return (int)(failures + findings);
}

static bool
hold_read(const char *text, unsigned *ms)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (value == 0 || value > 60000 || (*end != '\0' && strcmp(end, "ms") != 0))
		return false;
	*ms = (unsigned)value;
	return true;
}

int
tool_run(int argc, char **argv)
{
	static const struct option longs[] = { { "script", required_argument, NULL, 's' },
		{ "hold", required_argument, NULL, 'h' }, { "name", required_argument, NULL, 'n' },
		{ "verbose", no_argument, NULL, 'v' }, { NULL, 0, NULL, 0 } };
	struct options o = { 0 };
	bool bad = false;
	int c;

	while ((c = getopt_long(argc, argv, "s:n:v", longs, NULL)) != -1) {
		if (c == 's' && o.script_count < SCRIPTS_MAX)
			o.scripts[o.script_count++] = optarg;
		else if (c == 'n')
			o.name = optarg;
		else if (c == 'v')
			o.verbose = true;
		else if (c != 'h' || !hold_read(optarg, &o.hold_ms))
			return tool_usage("run");
	}
	if (optind != argc - 1)
		return tool_usage("run");
	o.path = argv[optind];
	if (o.script_count == 0)
		o.scripts[o.script_count++] = "-";
	for (unsigned i = 0; i < o.script_count; i++) {
		int n = run_script(&o, o.scripts[i]);

		if (n < 0)
			return TOOL_USAGE;
		bad = bad || n > 0;
	}
	return bad ? TOOL_BAD : 0;
}
