/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options - the broker's own options as rows: name, type, place, default, range, what a reload does, one sentence
 *
 * settings_load fills a struct settings through these rows; settings_print, settings_reloadable, the manual page
 * and the test that conf.d agrees read the same ones. The tables are in option_tables.c.
 *
 * Threads:   any; tables are constant.
 * Ownership: values of OPTION_STRING and OPTION_LIST belong to the struct they are in; options_fini frees them.
 */
#ifndef BROKER_CONFIG_OPTIONS_H
#define BROKER_CONFIG_OPTIONS_H

#include "conf.h"
#include "settings.h"

#include <stdio.h>

enum option_type {
	OPTION_STRING, /* char * */
	OPTION_INT,
	OPTION_BOOL,
	OPTION_BYTES,
	OPTION_MS,        /* a duration, kept in milliseconds */
	OPTION_SECONDS,   /* a duration, kept in seconds */
	OPTION_ENUM,      /* the position in choices, plus min */
	OPTION_MODE,      /* octal */
	OPTION_PROTOCOLS, /* list of MQTT versions; bits 3, 4, 5 */
	OPTION_ORDER,     /* order_<hook> of a plugin: kept in its hook_orders */
	OPTION_LIST,      /* struct string_list; one value without brackets will do */
};
enum option_reload {
	RELOAD_LIVE,      /* at once */
	RELOAD_NEW_CONNS, /* for clients that connect afterwards */
	RELOAD_RESTART,   /* refused until restart */
};
enum option_flag {
	OPTION_REQUIRED = 1u << 0,
	OPTION_SECRET = 1u << 1, /* shown as "***" */
	OPTION_NONE = 1u << 2,   /* the word none: NULL */
	OPTION_AUTO = 1u << 3,   /* the word auto: NULL or 0; whoever loads fills it in */
	OPTION_ALL = 1u << 4,    /* the word all: an empty list, which cannot be written otherwise */
};

struct option_def {
	const char *name; /* NULL ends a table */
	enum option_type type;
	uint16_t offset, size;     /* the place in the struct */
	const char *default_value; /* as written in the file; NULL: none */
	int64_t min, max;          /* in the unit of the place, both included */
	enum option_reload reload;
	unsigned flags;
	const char *choices;                                      /* "a|b|c" */
	bool (*check)(const char *value, char *why, size_t size); /* strings, each of a list: further rules */
	const char *help;                                         /* one sentence */
};

/* A block of the file and the tables of what may stand in it. */
struct section_def {
	const char *name;      /* "": the top level */
	const char *titled_as; /* what its title names, "listener"; NULL: it has none */
	const struct option_def *tables[2]; /* the second one may be NULL */
	const char *help;
	const char *inside; /* name of the section that it stands in */
};
extern const struct section_def settings_sections[];      /* ends with name NULL */
const struct section_def *section_find(const char *name); /* NULL: no such */

extern const struct option_def top_options[], admin_options[], log_options[], store_options[];
extern const struct option_def limits_total_options[]; /* limits { } only */
extern const struct option_def limits_options[];       /* limits { } and listener { } */
extern const struct option_def listener_options[], server_name_options[], plugin_options_common[],
    require_options[], guard_options[];

const struct option_def *option_find(
    const struct option_def *table, const char *name); /* NULL: no such */

/* A default that is another one in a profile. */
struct profile_default {
	const struct option_def *table;
	const char *name, *value; /* as written in the file */
};
extern const struct profile_default edge_defaults[]; /* ends with name NULL */

/* Set every option to its default; place is zeroed. false: no memory, or the table is wrong. */
bool options_defaults(const struct option_def *table, void *place);
/* Then those that the profile changes. */
bool options_profile(
    const struct option_def *table, const struct profile_default *defaults, void *place);
void options_fini(const struct option_def *table, void *place);
/*
 * Convert one value and put it in its place. scope stands in messages behind file and line: `listener "mqtt": `.
 * false: errs says why, and the place has the value it had.
 */
bool option_set(const struct option_def *row, void *place, const struct conf_node *node,
    const char *scope, struct conf_errors *errs);
bool option_equal(const struct option_def *row, const void *a, const void *b);
/* As in the file: name = value. */
void option_print(const struct option_def *row, const void *place, const char *indent, FILE *out);
/* A string in the file's grammar, quoted. */
void option_print_string(const char *text, FILE *out);

/* ---- shared with the options of plugins: words of messages ----------------------------------- */

#define OPTION_SHOWN 80
/* The value in quotes for a message, or "..." when it may be a secret. */
const char *option_shown(char *out, size_t size, const struct conf_node *node, bool secret);
/* A help text as it stands in parentheses: without its full stop. */
const char *option_help(char *out, size_t size, const char *help);
/*
 * unknown option "x"; did you mean "y"? (help of y)
 * helps runs beside known; entries may be NULL.
 */
void option_unknown(const struct conf_node *node, const char *scope, const char *const *known,
    const char *const *helps, unsigned count, struct conf_errors *errs);
/* `"x" must be <expected>, not "y" (help)`. Always false. */
bool option_wrong(const struct conf_node *node, const char *scope, const char *expected,
    bool secret, const char *help, struct conf_errors *errs);
/* A block where a value belongs, a list where one value does, ... Always false. */
bool option_wrong_kind(const struct conf_node *node, const char *scope, enum conf_kind expected,
    struct conf_errors *errs);
/* A number of that type as the file would have it. Returns out. */
const char *option_number(enum option_type type, int64_t value, char *out); /* CONF_NUMBER_SIZE */
/* The position of a word in "a|b|c"; -1: none of them. */
int option_choice(const char *choices, const char *word);
/* `"x" must be one of a, b or c, not "d"; did you mean "b"? (help)` */
void option_not_a_choice(const struct conf_node *node, const char *scope, const char *choices,
    bool secret, const char *help, struct conf_errors *errs);
/* Is a default written with the file's grammar? "[a, b]", "'x'": parsed; else taken as it is. NULL: no memory, or not well-formed. */
struct conf_node *option_default(const char *name, const char *text);

#endif
