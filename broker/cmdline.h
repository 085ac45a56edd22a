/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmdline - the command line of grapneld
 */
#ifndef BROKER_CMDLINE_H
#define BROKER_CMDLINE_H

#include <stdbool.h>

struct cmdline {
	const char *config; /* -c */
	enum { CMD_RUN, CMD_CHECK, CMD_VERSION, CMD_HELP } command;
	bool connect;	    /* --connect: with -t, start the plugins too */
};

/* false: wrong; stderr has been told. */
bool cmdline_parse(int argc, char **argv, struct cmdline *out);
void cmdline_help(void);     /* to stdout */
void cmdline_versions(void); /* of grapneld, the ABI and the libraries as they are loaded; to stdout */

#endif
