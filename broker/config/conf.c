/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration's tree and its error messages. Files are read by conf_file.c, text is scanned by
 * conf_lex.l and conf_parse.y, types are in conf_value.c.
 */
#include "conf.h"
#include "conf_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages -------------------------------------------------------------------------------- */

static char message_lost[] = "out of memory while an error was reported";

void
conf_errors_add(struct conf_errors *e, const char *format, ...)
{
	char *message = NULL;
	va_list args;

	if (e->count == e->capacity) {
		unsigned capacity = e->capacity == 0 ? 16 : e->capacity * 2;
		char **grown = realloc(e->messages, capacity * sizeof(*grown));

		if (grown == NULL)
			return; /* whoever adds an error also fails by itself */
		e->messages = grown;
		e->capacity = capacity;
	}
	va_start(args, format);
	if (vasprintf(&message, format, args) < 0)
		message = message_lost;
	va_end(args);
	e->messages[e->count++] = message;
}

void
conf_errors_clear(struct conf_errors *e)
{
	for (unsigned i = 0; i < e->count; i++) {
		if (e->messages[i] != message_lost)
			free(e->messages[i]);
	}
	free(e->messages);
	*e = (struct conf_errors){ 0 };
}

const char *
conf_shown(char *out, size_t size, const char *text)
{
	size_t n = 0;

	while (text[n] != '\0' && n < size - 1) {
		unsigned char c = (unsigned char)text[n];

		out[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	if (text[n] != '\0' && size > 4) {
		n = size - 4;
		while (n > 0 && ((unsigned char)out[n] & 0xC0) == 0x80)
			n--; /* not inside a character */
		memcpy(out + n, "...", 3);
		n += 3;
	}
	out[n] = '\0';
	return out;
}

void
conf_fault(struct conf_parser *x, struct conf_place place, const char *format, ...)
{
	char message[512];
	va_list args;

	x->failed = true;
	if (x->skip_line != 0 && place.line == x->skip_line)
		return; /* one message for a line that makes no sense */
	if (x->faults++ >= CONF_MAX_FAULTS) {
		if (x->faults == CONF_MAX_FAULTS + 1)
			conf_errors_add(x->errs,
			    "%s:%d: too many errors; the rest of the file is not checked",
			    x->shown_as, place.line);
		return;
	}
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	conf_errors_add(x->errs, "%s:%d: %s", x->shown_as, place.line, message);
}

/* ---- nodes ----------------------------------------------------------------------------------- */

void
conf_wipe_free(char *text, size_t len)
{
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
}

void
conf_text_fini(struct conf_text *text)
{
	if (text->text != NULL)
		conf_wipe_free(text->text, strlen(text->text));
	*text = (struct conf_text){ 0 };
}

bool
conf_items_add(struct conf_items *list, struct conf_node *node)
{
	if ((list->count & (list->count - 1)) == 0) { /* 0 or a power of two: full */
		size_t capacity = list->count == 0 ? 1 : (size_t)list->count * 2;
		struct conf_node *grown = realloc(list->items, capacity * sizeof(*grown));

		if (grown == NULL)
			return false;
		list->items = grown;
	}
	list->items[list->count++] = *node;
	return true;
}

void
conf_items_clear(struct conf_items *list)
{
	for (unsigned i = 0; i < list->count; i++)
		conf_node_fini(&list->items[i]);
	free(list->items);
	*list = (struct conf_items){ 0 };
}

/* Recursion is CONF_MAX_DEPTH deep at most: the grammar saw to it. */
void
conf_node_fini(struct conf_node *node)
{
	struct conf_items items = { node->items, node->item_count };

	conf_items_clear(&items);
	free(node->name);
	free(node->title);
	if (node->value != NULL)
		conf_wipe_free(node->value, strlen(node->value));
	*node = (struct conf_node){ 0 };
}

bool
conf_is_title(const char *text)
{
	return text[0] != '\0' && strlen(text) <= CONF_TITLE_MAX &&
	    text[strspn(text, CONF_TITLE_CHARACTERS)] == '\0';
}

bool
conf_is_name(const char *text)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char rest[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

	return text[0] != '\0' && strchr(letters, text[0]) != NULL &&
	    text[strspn(text, rest)] == '\0';
}

struct conf_node *
conf_find(const struct conf_node *block, const char *name)
{
	for (unsigned i = 0; i < block->item_count; i++) {
		if (strcmp(block->items[i].name, name) == 0)
			return &block->items[i];
	}
	return NULL;
}

bool
conf_merge(struct conf_node *root, const char *name)
{
	struct conf_node *first = NULL;
	unsigned kept = 0;

	for (unsigned i = 0; i < root->item_count; i++) {
		struct conf_node *node = &root->items[i];
		bool same = node->kind == CONF_BLOCK && node->title == NULL &&
		    strcmp(node->name, name) == 0;

		if (same && first != NULL) {
			struct conf_items into = { first->items, first->item_count };
			unsigned moved = 0;

			while (
			    moved < node->item_count && conf_items_add(&into, &node->items[moved]))
				moved++;
			first->items = into.items;
			first->item_count = into.count;
			if (moved < node->item_count) {
				/* What is left stays where it is: every node is still owned once. */
				memmove(node->items, node->items + moved,
				    (node->item_count - moved) * sizeof(*node));
				node->item_count -= moved;
				memmove(&root->items[kept], node,
				    (root->item_count - i) * sizeof(*node));
				root->item_count -= i - kept;
				return false;
			}
			node->item_count = 0; /* its children moved */
			conf_node_fini(node);
			continue;
		}
		if (kept != i)
			root->items[kept] = *node;
		if (same)
			first = &root->items[kept];
		kept++;
	}
	root->item_count = kept;
	return true;
}

/* ---- what must be unique --------------------------------------------------------------------- */

/* By kind, name and title, then in the order of writing (of addresses in one array). */
static int
node_compare(const struct conf_node *a, const struct conf_node *b)
{
	int order = (a->kind == CONF_BLOCK) - (b->kind == CONF_BLOCK);

	if (order == 0)
		order = strcmp(a->name, b->name);
	if (order == 0 && a->kind == CONF_BLOCK)
		order = strcmp(a->title == NULL ? "" : a->title, b->title == NULL ? "" : b->title);
	return order;
}

static int
node_order(const void *a, const void *b)
{
	const struct conf_node *const *left = a, *const *right = b;
	int order = node_compare(*left, *right);

	return order != 0 ? order : (*left > *right) - (*left < *right);
}

/* A node and the one of the same kind, name and title that was written first. */
struct repeat {
	const struct conf_node *node, *first;
};

static int
repeat_order(const void *a, const void *b)
{
	const struct repeat *left = a, *right = b;

	return (left->node > right->node) - (left->node < right->node);
}

static void
repeat_report(const struct repeat *r, struct conf_errors *errs)
{
	char shown[80];

	if (r->node->kind == CONF_BLOCK) {
		conf_errors_add(errs,
		    "%s:%d: %s \"%s\" is there already, at %s:%d; titles are unique", r->node->file,
		    r->node->line, r->node->name, conf_shown(shown, sizeof(shown), r->node->title),
		    r->first->file, r->first->line);
	} else {
		conf_errors_add(errs, "%s:%d: \"%s\" is already set at %s:%d", r->node->file,
		    r->node->line, r->node->name, r->first->file, r->first->line);
	}
}

bool
conf_check_unique(const struct conf_node *block, struct conf_errors *errs)
{
	const struct conf_node **sorted;
	struct repeat *repeats;
	unsigned count = 0;

	if (block->kind != CONF_BLOCK || block->item_count == 0)
		return true;
	sorted = calloc(block->item_count, sizeof(*sorted));
	repeats = calloc(block->item_count, sizeof(*repeats));
	if (sorted == NULL || repeats == NULL) {
		conf_errors_add(errs, "out of memory");
		free(sorted);
		free(repeats);
		return false;
	}
	for (unsigned i = 0; i < block->item_count; i++)
		sorted[i] = &block->items[i];
	qsort(sorted, block->item_count, sizeof(*sorted), node_order);
	for (unsigned i = 1, first = 0; i < block->item_count; i++) {
		if (node_compare(sorted[i], sorted[first]) != 0)
			first = i;
		else if (sorted[i]->kind != CONF_BLOCK ||
		    sorted[i]->title != NULL) /* blocks without title may repeat */
			repeats[count++] = (struct repeat){ sorted[i], sorted[first] };
	}
	qsort(repeats, count, sizeof(*repeats), repeat_order); /* as a reader meets them */
	for (unsigned i = 0; i < count; i++)
		repeat_report(&repeats[i], errs);
	free(sorted);
	free(repeats);

	bool ok = count == 0;

	for (unsigned i = 0; i < block->item_count; i++)
		ok = conf_check_unique(&block->items[i], errs) && ok;
	return ok;
}
