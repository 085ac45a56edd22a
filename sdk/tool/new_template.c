/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of `grapnel-plugin new`: new_template.h */
#include "new_template.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct expansion {
	const char *file;
	const char *at; /* the next line */
	unsigned line;  /* the one before it */
	unsigned depth;
	const struct template_values *values, *row; /* row: of the loop we are in, or NULL */
	const struct template_list *lists;
	FILE *out;
	bool failed;
};

/* What ended a block. */
enum block_end { BLOCK_TEXT, BLOCK_ELSE, BLOCK_END };

static enum block_end expand_block(struct expansion *e, bool live);

void
template_set(struct template_values *values, const char *name, const char *value)
{
	assert(values->count < TEMPLATE_VALUES_MAX);
	values->of[values->count++] = (struct template_value){ name, value };
}

void
template_set_flag(struct template_values *values, const char *name, bool set)
{
	template_set(values, name, set ? "" : NULL);
}

static void __attribute__((format(printf, 2, 3)))
fault(struct expansion *e, const char *format, ...)
{
	va_list args;

	if (e->failed)
		return;
	e->failed = true;
	fprintf(stderr, "%s:%u: ", e->file, e->line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static const struct template_value *
find_in(const struct template_values *values, const char *name, size_t len)
{
	for (size_t i = 0; values != NULL && i < values->count; i++) {
		if (strlen(values->of[i].name) == len && memcmp(values->of[i].name, name, len) == 0)
			return &values->of[i];
	}
	return NULL;
}

static const char *
lookup(struct expansion *e, const char *name, size_t len)
{
	const struct template_value *v = find_in(e->row, name, len);

	if (v == NULL)
		v = find_in(e->values, name, len);
	if (v == NULL)
		fault(e, "there is no value \"%.*s\"", (int)len, name);
	return v != NULL ? v->value : NULL;
}

/* The condition's words up to its end: & binds closer than |. */
static bool
condition(struct expansion *e, const char *text, size_t len)
{
	bool any = false, all = true;

	while (len > 0) {
		bool negated = *text == '!';
		size_t word;

		text += negated;
		len -= negated;
		for (word = 0; word < len && text[word] != '|' && text[word] != '&';)
			word++;
		all = (lookup(e, text, word) != NULL) != negated && all;
		if (word == len || text[word] == '|') {
			any = any || all;
			all = true;
		}
		text += word < len ? word + 1 : word;
		len -= word < len ? word + 1 : word;
	}
	return any;
}

/* How long is the name at the beginning of text, when an @ follows it? 0: it is none. */
static size_t
name_length(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && (isalnum((unsigned char)text[n]) || text[n] == '_'))
		n++;
	return n < len && text[n] == '@' ? n : 0;
}

static void
write_line(struct expansion *e, const char *line, size_t len)
{
	const char *value;
	size_t name;

	while (len > 0) {
		name = *line == '@' ? name_length(line + 1, len - 1) : 0;
		if (name == 0) {
			fputc(*line++, e->out);
			len--;
			continue;
		}
		value = lookup(e, line + 1, name);
		if (value != NULL)
			fputs(value, e->out);
		else
			fault(e, "\"%.*s\" is not set here", (int)name, line + 1);
		line += name + 2;
		len -= name + 2;
	}
	fputc('\n', e->out);
}

static void
expand_if(struct expansion *e, const char *text, size_t len, bool live)
{
	bool chosen = live && condition(e, text, len);
	unsigned line = e->line;
	enum block_end end = expand_block(e, chosen);

	if (end == BLOCK_ELSE)
		end = expand_block(e, live && !chosen);
	if (end != BLOCK_END)
		fault(e, "the %%if of line %u has no %%end", line);
}

static void
expand_for(struct expansion *e, const char *text, size_t len, bool live)
{
	const struct template_list *list = e->lists;
	const struct template_values *outer = e->row;
	const char *start = e->at;
	unsigned line = e->line;
	size_t i = 0;

	while (
	    list->name != NULL && (strlen(list->name) != len || memcmp(list->name, text, len) != 0))
		list++;
	if (list->name == NULL)
		fault(e, "there is no list \"%.*s\"", (int)len, text);
	do {
		bool any = list->name != NULL && i < list->count;

		e->at = start;
		e->line = line;
		e->row = any ? &list->rows[i] : outer;
		if (expand_block(e, live && any) != BLOCK_END)
			fault(e, "the %%for of line %u has no %%end", line);
	} while (!e->failed && live && ++i < list->count);
	e->row = outer;
}

static bool
starts_with(const char *line, size_t len, const char *word)
{
	return len >= strlen(word) && memcmp(line, word, strlen(word)) == 0;
}

/* Lines up to the directive that ends the block, which is taken, or to the end of the text. */
static enum block_end
expand_block(struct expansion *e, bool live)
{
	enum block_end end = BLOCK_TEXT;

	if (++e->depth > TEMPLATE_DEPTH_MAX)
		fault(e, "more than %d blocks inside each other", TEMPLATE_DEPTH_MAX);
	while (end == BLOCK_TEXT && !e->failed && *e->at != '\0') {
		const char *line = e->at;
		size_t len = strcspn(line, "\n");

		e->at += line[len] == '\n' ? len + 1 : len;
		e->line++;
		if (len == 5 && starts_with(line, len, "%else"))
			end = BLOCK_ELSE;
		else if (len == 4 && starts_with(line, len, "%end"))
			end = BLOCK_END;
		else if (starts_with(line, len, "%if "))
			expand_if(e, line + 4, len - 4, live);
		else if (starts_with(line, len, "%for "))
			expand_for(e, line + 5, len - 5, live);
		else if (live && !starts_with(line, len, "%#"))
			write_line(e, line, len);
	}
	e->depth--;
	return end;
}

char *
template_expand(const char *file, const char *text, const struct template_values *values,
    const struct template_list *lists)
{
	struct expansion e = { .file = file, .at = text, .values = values, .lists = lists };
	char *result = NULL;
	size_t size;

	if ((e.out = open_memstream(&result, &size)) == NULL) {
		perror("grapnel-plugin");
		return NULL;
	}
	if (expand_block(&e, true) != BLOCK_TEXT)
		fault(&e, "%%else or %%end without %%if");
	if (fclose(e.out) != 0 && !e.failed) {
		perror("grapnel-plugin");
		e.failed = true;
	}
	if (e.failed) {
		free(result);
		return NULL;
	}
	return result;
}
