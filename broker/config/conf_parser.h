/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_parser - what the scanner, the grammar and the tree share; only for this folder
 */
#ifndef BROKER_CONFIG_CONF_PARSER_H
#define BROKER_CONFIG_CONF_PARSER_H

#include "conf.h"

#include <stddef.h>

struct conf_place {
	int line, column; /* both from 1; columns are bytes */
};

/* A word or string on its way from the scanner into a node. */
struct conf_text {
	char *text; /* heap; wiped when freed */
	bool quoted, expanded;
};

/* Children of a block or values of a list; grows in powers of two, so that no capacity is kept. */
struct conf_items {
	struct conf_node *items;
	unsigned count;
};

struct conf_parser {
	const char *shown_as;  /* lives as long as the tree */
	const char *directory; /* ${file:} paths are relative to it; NULL: to the current one */
	struct conf_errors *errs;
	void *scanner; /* flex's, in the arena */
	size_t arena_used;
	_Alignas(max_align_t) char arena[1024];
	struct conf_items result;
	bool failed, out_of_memory;
	unsigned faults;

	struct conf_place at;           /* where the scanner stands */
	char raw[48];                   /* the last token as written, shortened */
	char current[64], previous[64]; /* it and the one before it, as messages name them */
	struct conf_place current_at, previous_at; /* line 0: none yet */
	int current_token;
	bool value_due; /* the last token was "=" */
	int held;       /* token kept back for the next turn; 0: none */
	struct conf_text held_text;
	struct conf_place held_at;

	unsigned depth;
	struct conf_place opened[CONF_MAX_DEPTH];

	/* After a syntax error: the rest of its line is dropped, with any block that begins there. */
	int skip_line;
	unsigned skip_depth;
};

/* conf.c */
void conf_fault(struct conf_parser *x, struct conf_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool conf_items_add(
    struct conf_items *list, struct conf_node *node); /* takes *node; false: no memory */
void conf_items_clear(struct conf_items *list);
void conf_node_fini(struct conf_node *node);
void conf_text_fini(struct conf_text *text);
bool conf_is_name(const char *text);

/* conf_file.c: a whole regular file, two NULs behind it. NULL: *why is a static text or strerror's. */
char *conf_file_read(const char *path, size_t *len, const char **why);
void conf_wipe_free(char *text, size_t len);

/* conf_expand.c: the text of a token, with escapes (strings) and ${...} replaced. false: failed, x knows. */
bool conf_expand(struct conf_parser *x, struct conf_place place, const char *text, size_t len,
    bool escapes, struct conf_text *out);

/* conf_lex.l: text ends with two NULs that len does not count, and is changed while it is scanned. */
void conf_scanner_start(struct conf_parser *x, char *text, size_t len);
void conf_scanner_stop(struct conf_parser *x);

/* conf_parse.y: the scanner's text is scanned to its end into x->result. */
int conf_yyparse(struct conf_parser *x);

#endif
