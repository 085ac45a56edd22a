%code top {
/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conf_parse - the grammar of the configuration (see conf.h)
 *
 * A syntax error costs the rest of its line, and the whole block when it begins on that line; then reading
 * goes on, so that one run reports all faults.
 */
}
%code requires {
#include "conf_parser.h"
}
%code provides {
/* conf_lex.l: the next token. */
int conf_token(CONF_YYSTYPE *value, struct conf_place *place, void *scanner);
}
%code {
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What bison generates is not ours to tidy up. */
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wunused-but-set-variable"

/* A node or list is where its first token is. */
#define YYLLOC_DEFAULT(current, rhs, n) ((current) = (n) > 0 ? YYRHSLOC(rhs, 1) : YYRHSLOC(rhs, 0))
#define YYMAXDEPTH 1000 /* blocks are CONF_MAX_DEPTH deep, lists are left-recursive */
}

%define api.pure full
%define api.prefix {conf_yy}
%define api.location.type {struct conf_place}
%define parse.error custom
%define parse.lac full
%locations
%param {struct conf_parser *x}
%initial-action { @$ = x->at; }
%expect 0

%union {
	struct conf_text text;
	struct conf_node node;
	struct conf_items items;
}
%token <text> WORD STRING
%type <items> statements values list
%type <text> title value
%type <node> statement

%destructor { conf_text_fini(&$$); } <text>
%destructor { conf_node_fini(&$$); } <node>
%destructor { conf_items_clear(&$$); } <items>

%code {
static int next_token(YYSTYPE *value, struct conf_place *place, struct conf_parser *x);
static int yylex(YYSTYPE *value, struct conf_place *place, struct conf_parser *x);
static void yyerror(const struct conf_place *place, struct conf_parser *x, const char *message);
static struct conf_node node_new(struct conf_parser *x, enum conf_kind kind, struct conf_text *name,
    struct conf_place place);
static void items_add(struct conf_parser *x, struct conf_items *list, struct conf_node *node);
static struct conf_node value_node(struct conf_parser *x, struct conf_text *text, struct conf_place place);
static bool block_open(struct conf_parser *x, struct conf_place place);
static bool skip_begin(struct conf_parser *x);
}

%%

file:
  statements		{ x->result = $1; }
;

statements:
  %empty		{ $$ = (struct conf_items){ 0 }; }
| statements statement	{ $$ = $1; items_add(x, &$$, &$2); }
| statements error	{
				$$ = $1;
				if (x->faults >= CONF_MAX_FAULTS || x->out_of_memory) {
					conf_items_clear(&$$);
					YYABORT;
				}
				if (x->current_token != 0) { /* at the end bison gives up by itself */
					if (skip_begin(x)) {
						if (yychar == WORD || yychar == STRING)
							conf_text_fini(&yylval.text); /* bison forgets it */
						yyclearin;
					}
					yyerrok;
				}
			}
;

statement:
  WORD '=' value	{
				$$ = node_new(x, CONF_VALUE, &$1, @1);
				$$.value = $3.text;
				$$.quoted = $3.quoted;
				$$.expanded = $3.expanded;
			}
| WORD '=' '[' list ']'	{
				$$ = node_new(x, CONF_LIST, &$1, @1);
				$$.items = $4.items;
				$$.item_count = $4.count;
			}
| WORD title '{'	{
				if (!block_open(x, @3))
					YYABORT;
			}
  statements '}'	{
				x->depth--;
				$$ = node_new(x, CONF_BLOCK, &$1, @1);
				$$.title = $2.text;
				$$.items = $5.items;
				$$.item_count = $5.count;
				if ($2.text != NULL && !$2.quoted) {
					char shown[64];

					conf_fault(x, @2, "put the title in quotes: %s \"%s\"", $$.name,
					    conf_shown(shown, sizeof(shown), $2.text));
				}
			}
;

title:
  %empty		{ $$ = (struct conf_text){ 0 }; }
| WORD
| STRING
;

value:
  WORD
| STRING
;

list:
  %empty		{ $$ = (struct conf_items){ 0 }; }
| values
| values ','
;

values:
  value			{
				struct conf_node node = value_node(x, &$1, @1);

				$$ = (struct conf_items){ 0 };
				items_add(x, &$$, &node);
			}
| values ',' value	{
				struct conf_node node = value_node(x, &$3, @3);

				$$ = $1;
				if ($$.count == CONF_MAX_LIST) {
					conf_fault(x, @3, "the list has more than %d values", CONF_MAX_LIST);
					conf_node_fini(&node);
				} else if ($$.count < CONF_MAX_LIST) {
					items_add(x, &$$, &node);
				}
			}
;

%%

/* A block's nodes are long-lived, bison's stack is not: text moves from one to the other. */
static struct conf_node
node_new(struct conf_parser *x, enum conf_kind kind, struct conf_text *name, struct conf_place place)
{
	struct conf_node node = { .kind = kind, .name = name->text, .file = x->shown_as, .line = place.line,
		.column = place.column };
	char shown[64];

	if (name->expanded || !conf_is_name(name->text)) {
		conf_fault(x, place, "\"%s\" is not a name: names have letters, digits and \"_\", and begin with a letter",
		    name->expanded ? "${...}" : conf_shown(shown, sizeof(shown), name->text));
	}
	return node;
}

static struct conf_node
value_node(struct conf_parser *x, struct conf_text *text, struct conf_place place)
{
	return (struct conf_node){ .kind = CONF_VALUE, .value = text->text, .quoted = text->quoted,
		.expanded = text->expanded, .file = x->shown_as, .line = place.line, .column = place.column };
}

static void
items_add(struct conf_parser *x, struct conf_items *list, struct conf_node *node)
{
	if (conf_items_add(list, node))
		return;
	conf_fault(x, x->at, "out of memory");
	conf_node_fini(node);
}

static bool
block_open(struct conf_parser *x, struct conf_place place)
{
	if (x->depth == CONF_MAX_DEPTH) {
		conf_fault(x, place, "blocks are nested more than %d deep", CONF_MAX_DEPTH);
		return false;
	}
	x->opened[x->depth++] = place;
	return true;
}

/*
 * After a syntax error at this token: shall it be dropped as well? A closing brace belongs to the block around it,
 * and a word on the next line begins a new statement.
 */
static bool
skip_begin(struct conf_parser *x)
{
	int token = x->current_token;

	if (token == '}' && x->depth > 0)
		return false;
	if (token == WORD && x->current_at.line != x->previous_at.line && x->previous_at.line != 0)
		return false;
	x->value_due = false;
	x->skip_line = x->current_at.line;
	x->skip_depth = token == '{' ? 1 : 0;
	return true;
}

/* Is this token dropped, because it stands behind a syntax error? */
static bool
skip_token(struct conf_parser *x, int token, struct conf_place place)
{
	if (x->skip_line == 0 || token == 0)
		return false;
	if (x->skip_depth == 0 && place.line != x->skip_line) {
		x->skip_line = 0;
		return false;
	}
	if (token == '{')
		x->skip_depth++;
	if (token == '}') {
		if (x->skip_depth == 0)
			return false;
		if (--x->skip_depth == 0)
			x->skip_line = place.line;
	}
	return true;
}

static int
next_token(YYSTYPE *value, struct conf_place *place, struct conf_parser *x)
{
	for (;;) {
		int token = conf_token(value, place, x->scanner);

		if (token == 0)
			*place = x->at; /* flex runs no action at the end */
		if (!skip_token(x, token, *place))
			return token;
		if (token == WORD || token == STRING)
			conf_text_fini(&value->text);
	}
}

#define HELD_END (-1)

/* Nothing behind "=": an empty value keeps the statements that follow apart. */
static int
value_missing(YYSTYPE *value, struct conf_place *place, struct conf_parser *x, int token)
{
	x->held = token == 0 ? HELD_END : token;
	x->held_at = *place;
	x->held_text = token == WORD || token == STRING ? value->text : (struct conf_text){ 0 };
	conf_fault(x, x->current_at, "a value is missing behind \"=\"");
	value->text = (struct conf_text){ .text = strdup("") };
	*place = x->current_at;
	if (value->text.text == NULL) {
		x->out_of_memory = true;
		return CONF_YYerror;
	}
	return WORD;
}

static int
yylex(YYSTYPE *value, struct conf_place *place, struct conf_parser *x)
{
	int token = x->held;

	if (token != 0) {
		value->text = x->held_text;
		*place = x->held_at;
		x->held = 0;
		x->held_text = (struct conf_text){ 0 };
		if (token == HELD_END)
			token = 0;
	} else {
		token = next_token(value, place, x);
		if (x->value_due && token != CONF_YYerror &&
		    (token == 0 || token == '}' || place->line != x->current_at.line)) {
			x->value_due = false;
			return value_missing(value, place, x, token);
		}
	}
	x->value_due = token == '=';
	memcpy(x->previous, x->current, sizeof(x->previous));
	x->previous_at = x->current_at;
	snprintf(x->current, sizeof(x->current), token == STRING ? "a string" : token == 0 ? "the end of the file" : "\"%s\"",
	    x->raw);
	x->current_at = *place;
	x->current_token = token;
	return token;
}

static void
yyerror(const struct conf_place *place, struct conf_parser *x, const char *message)
{
	conf_fault(x, *place, "%s", message); /* "memory exhausted" */
}

/* What may stand here, in a reader's words. A title without quotes is understood, but not recommended. */
static void
expected_shown(const yypcontext_t *ctx, int token, char *out, size_t size)
{
	yysymbol_kind_t kinds[YYNTOKENS];
	int n = yypcontext_expected_tokens(ctx, kinds, YYNTOKENS);
	const char *parts[YYNTOKENS + 1];
	bool word = false, string = false, equals = false;
	int count = 1; /* parts[0] is for words and strings */
	size_t len = 0;

	for (int i = 0; i < n; i++) {
		const char *name = yysymbol_name(kinds[i]);

		if (kinds[i] == YYSYMBOL_WORD)
			word = true;
		else if (kinds[i] == YYSYMBOL_STRING)
			string = true;
		else
			parts[count++] = kinds[i] == YYSYMBOL_YYEOF ? "the end of the file" : name;
		equals = equals || strcmp(name, "'='") == 0;
	}
	parts[0] = string ? "a value" : "a name";
	int first = word && !equals ? 0 : 1;

	out[0] = '\0';
	for (int i = first; i < count && len < size; i++) {
		const char *before = i == first ? "" : i == count - 1 ? " or " : ", ";
		int wrote = parts[i][0] == '\'' ? snprintf(out + len, size - len, "%s\"%c\"", before, parts[i][1])
						: snprintf(out + len, size - len, "%s%s", before, parts[i]);

		len += wrote > 0 ? (size_t)wrote : 0;
	}
	if (strcmp(out, "\"{\"") == 0 && token != '=') /* "workers 4" looks like a block without its braces */
		snprintf(out, size, "\"{\" (or is \"=\" missing?)");
}

static int
yyreport_syntax_error(const yypcontext_t *ctx, struct conf_parser *x)
{
	char expected[160];

	expected_shown(ctx, x->current_token, expected, sizeof(expected));
	if (x->current_token == 0 && x->depth > 0) {
		conf_fault(x, x->opened[x->depth - 1], "the \"{\" here has no \"}\"");
	} else if (x->current_token == '}' && x->depth == 0) {
		conf_fault(x, x->current_at, "unexpected \"}\": no block is open");
	} else if (x->previous_at.line != 0 && (x->current_token == 0 || x->previous_at.line != x->current_at.line)) {
		conf_fault(x, x->previous_at, "expected %s behind %s", expected, x->previous);
	} else {
		conf_fault(x, x->current_at, "unexpected %s, expected %s", x->current, expected);
	}
	return 0;
}
