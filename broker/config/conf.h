/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf - the configuration files as a located tree
 *
 *	name = value        word, "string" with escapes, 'raw string', [list, of, values]
 *	name "title" { … }  name { … }      blocks, nested
 *	# comment           ${ENV} (unset is an error)   ${file:PATH} (content without its last newline)
 *
 * Every node knows file, line and column. The grammar is conf_lex.l and conf_parse.y (reentrant).
 *
 * Threads:   any one at a time.
 * Ownership: a tree is freed as a whole.
 * Bounded:   files of CONF_MAX_FILE bytes, blocks CONF_MAX_DEPTH deep, lists of CONF_MAX_LIST values;
 *            a file that breaks the grammar more than CONF_MAX_FAULTS times is not read on.
 */
#ifndef BROKER_CONFIG_CONF_H
#define BROKER_CONFIG_CONF_H

#include "conf_errors.h"
#include <grapnel/types.h>

#define CONF_MAX_FILE (1024 * 1024)
#define CONF_MAX_DEPTH 32
#define CONF_MAX_LIST 10000
#define CONF_MAX_FILES 1000 /* in conf.d */
#define CONF_MAX_FAULTS 20

enum conf_kind { CONF_BLOCK, CONF_VALUE, CONF_LIST };
struct conf_node {
	enum conf_kind kind;
	char *name;
	char *title;	 /* blocks; NULL: none */
	char *value;	 /* CONF_VALUE, expanded; may hold secrets */
	bool quoted, expanded; /* written as a string; came from ${…} */
	bool secret;	 /* an option table says so: never shown */
	struct conf_node *items; /* CONF_LIST: values; CONF_BLOCK: children */
	unsigned item_count;
	const char *file; /* as shown to people; owned by the tree's root */
	int line, column;
	bool used;	 /* set by whoever understood it; what stays unset is unknown */
};

/*
 * Parse a file and (with_conf_d) the .conf files of conf.d beside it in name order into one
 * root block. NULL with messages on error: all files are read before it gives up.
 */
struct conf_node *conf_read(const char *path, bool with_conf_d, struct conf_errors *errs);
/* The same from memory, for tests and fuzzing. */
struct conf_node *conf_parse(const char *text, size_t len, const char *shown_as, struct conf_errors *errs);
void conf_free(struct conf_node *root); /* values are wiped */

/* The child of that name, the first one if there are several; NULL: none. */
struct conf_node *conf_find(const struct conf_node *block, const char *name);
/* Make one block of all children of this name that have no title, so that any file of conf.d may add to it. */
bool conf_merge(struct conf_node *root, const char *name);
/* A value set twice in one block, or a title used twice, is an error that names both lines. false: there were some. */
bool conf_check_unique(const struct conf_node *block, struct conf_errors *errs);
/* Text for a message: control characters replaced, cut to the size of the buffer. Returns out. */
const char *conf_shown(char *out, size_t size, const char *text);

/* What titles of listeners, plugins and so on, and the node's name, may be. */
#define CONF_TITLE_MAX	      64u
#define CONF_TITLE_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
bool conf_is_title(const char *text);

/* Values as types. false: not one, *out is as it was. */
bool conf_to_bool(const char *s, bool *out);		/* yes, no */
bool conf_to_int(const char *s, int64_t *out);		/* decimal, with a sign or not */
bool conf_to_bytes(const char *s, int64_t *out);	/* 64k 1m 2g 1t: powers of 1024 */
bool conf_to_duration_ms(const char *s, int64_t *out);	/* 500ms 10s 5m 2h 14d; bare number: seconds */
/* The other way: the shortest text that reads back as the same value. Returns out. */
#define CONF_NUMBER_SIZE 32
const char *conf_from_bytes(char *out, int64_t value);
const char *conf_from_duration_ms(char *out, int64_t value);
/* The known name nearest to a mistyped one, or NULL if none is near. */
const char *conf_nearest(const char *name, const char *const *known, unsigned count);

#endif
