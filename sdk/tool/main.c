/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"
#include "tool.h"
#include <grapnel/plugin.h>
#include <stdio.h>
#include <string.h>

const struct subcommand subcommands[] = {
	{ "check", tool_check, "[--strict] [--quiet] [--section FILE] PLUGIN.so ...",
	    "look a plugin over before a broker loads it: descriptor, symbols, hardening" },
	{ "new", tool_new, "NAME --hooks LIST [--async] [--events LIST] [--directory DIR] ...",
	    "write the project of a plugin" },
	{ "run", tool_run, "PLUGIN.so [--script FILE]... [--hold TIME] [--name NAME] [-v]",
	    "drive a plugin through the steps of scripts, without a broker" },
	{ NULL, NULL, NULL, NULL },
};

static const struct subcommand *
find(const char *name)
{
	for (const struct subcommand *s = subcommands; s->name != NULL; s++) {
		if (strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

int
tool_usage(const char *name)
{
	const struct subcommand *s = find(name);

	fprintf(stderr, "usage: grapnel-plugin %s %s\n", s->name, s->usage);
	return TOOL_USAGE;
}

static void
help(FILE *out)
{
	fprintf(out, "usage: grapnel-plugin COMMAND ...\n\n");
	for (const struct subcommand *s = subcommands; s->name != NULL; s++)
		fprintf(out, "  %-6s %s\n         grapnel-plugin %s %s\n", s->name, s->help,
		    s->name, s->usage);
	fprintf(out, "\nThe manual is grapnel-plugin(1).\n");
}

int
main(int argc, char **argv)
{
	const struct subcommand *s;

	if (argc < 2) {
		help(stderr);
		return TOOL_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		help(stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("grapnel-plugin %s, plugin ABI %d.%d\n", PACKAGE_VERSION, GRAPNEL_ABI_MAJOR,
		    GRAPNEL_ABI_MINOR);
		return 0;
	}
	if ((s = find(argv[1])) == NULL) {
		fprintf(stderr, "grapnel-plugin: there is no command \"%s\"\n", argv[1]);
		help(stderr);
		return TOOL_USAGE;
	}
	return s->run(argc - 1, argv + 1);
}
