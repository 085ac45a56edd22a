/* SPDX-License-Identifier: Apache-2.0 */
/*
 * new - `grapnel-plugin new NAME`: writes the project of a plugin, grapnel-plugin(1)
 *
 *	new.c		the command line: what is wanted, and whether it can be had
 *	new_project.c	what the templates are filled with, and the files
 *	new_template.c	the engine
 *
 * Threads: one. Ownership: strings of struct project are borrowed. Bounded: the lengths below; templates are read whole, up
 * to NEW_FILE_MAX.
 */
#ifndef GRAPNEL_TOOL_NEW_H
#define GRAPNEL_TOOL_NEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEW_NAME_MAX   40
#define NEW_TEXT_MAX   200 /* author */
#define NEW_FILE_MAX   (256u << 10)
#define NEW_HOOK_COUNT 10
#define NEW_HOOK_PSK   9 /* tls_psk_key: the one that is asked before there is a client */

/* A deciding hook and the words that its function is written with. */
struct new_hook {
	const char *name;
	const char *short_name;
	const char *question; /* struct grapnel_<question> */
	const char *kind;     /* struct grapnel_<kind>_answer, host-><kind>_answer, host-><kind>_resolve */
};
extern const struct new_hook new_hooks[NEW_HOOK_COUNT];

/* An event, by the number of its type; NULL names are none that can be asked for. */
struct new_event {
	const char *name;
	const char *text;
};
extern const struct new_event new_events[];
extern const size_t new_event_count;

struct project {
	const char *name;
	const char *directory;	  /* does not exist yet */
	const char *templates;	  /* folder */
	const char *author;	  /* "NAME <MAIL>" */
	const char *license;	  /* SPDX identifier */
	const char *license_file; /* its text; NULL: a template has it */
	uint32_t hooks;		  /* bit i: new_hooks[i] */
	uint64_t events;	  /* bit i: new_events[i] */
	bool async;
};

/* Write it, all or nothing. @return false after saying on stderr why not. */
bool project_write(const struct project *p);

#endif
