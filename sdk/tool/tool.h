/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tool - grapnel-plugin, what a plugin author has at the command line; one subcommand a file
 *
 * A subcommand gets the arguments behind its name, with its own name as argv[0], and returns the exit code: 0; 1 when what it
 * looked at is not in order; 2 for a mistake in the call.
 */
#ifndef SDK_TOOL_TOOL_H
#define SDK_TOOL_TOOL_H

#define TOOL_BAD   1
#define TOOL_USAGE 2

struct subcommand {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *usage; /* behind the name */
	const char *help;  /* one line */
};
extern const struct subcommand subcommands[]; /* ends with name NULL; main.c */

/* Says how the subcommand is called, to stderr. Returns TOOL_USAGE. */
int tool_usage(const char *name);

int tool_check(int argc, char **argv);
int tool_new(int argc, char **argv);
int tool_run(int argc, char **argv);

#endif
