/* SPDX-License-Identifier: Apache-2.0 */
/*
 * show - values for people
 *
 * Client ids, user names and filters are chosen by peers: an escape sequence in one of them must not reach the
 * terminal, nor a character that turns the direction of the text around it.
 */
#include "ctl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define INDENT      2
#define COLUMNS_MAX 16
#define DEPTH_MAX   32

static bool
harmless(wchar_t c)
{
	if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	    (c >= 0x2060 && c <= 0x206f) || c == 0xfeff)
		return false; /* invisible, or changes direction */
	return iswprint((wint_t)c) != 0 && c != L'\\';
}

char *
show_escape(const char *text, size_t *width)
{
	size_t left = strlen(text), columns = 0;
	char *out = malloc(left * 4 + 1), *to = out;
	mbstate_t state = { 0 };

	if (out == NULL)
		return NULL;
	while (left > 0) {
		wchar_t c = 0;
		size_t n = mbrtowc(&c, text, left, &state);

		if (n == 0 || n == (size_t)-1 || n == (size_t)-2) {
			memset(&state, 0, sizeof(state));
			n = 1;
			c = 0;
		}
		if (harmless(c)) {
			int cells = wcwidth(c);

			memcpy(to, text, n);
			to += n;
			columns += cells > 0 ? (size_t)cells : 0;
		} else if (c == L'\\') {
			memcpy(to, "\\\\", 2);
			to += 2;
			columns += 2;
		} else
			for (size_t i = 0; i < n; i++) {
				to += snprintf(to, 5, "\\x%02x", (unsigned char)text[i]);
				columns += 4;
			}
		text += n;
		left -= n;
	}
	*to = '\0';
	if (width != NULL)
		*width = columns;
	return out;
}

/* The text of a value that is not a container, not yet escaped. Heap; NULL: no memory. */
static char *
plain(const json_t *value)
{
	char *text = NULL;
	int n = 0;

	switch (value != NULL ? json_typeof(value) : JSON_NULL) {
	case JSON_STRING:
		return strdup(json_string_value(value));
	case JSON_INTEGER:
		n = asprintf(&text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		n = asprintf(&text, "%g", json_real_value(value));
		break;
	case JSON_TRUE:
		return strdup("yes");
	case JSON_FALSE:
		return strdup("no");
	case JSON_NULL:
		return strdup("-");
	case JSON_OBJECT:
	case JSON_ARRAY:
		return json_dumps(value, JSON_COMPACT);
	}
	return n < 0 ? NULL : text;
}

static char *
cell_text(const json_t *row, const char *key, size_t *width)
{
	char *text, *shown;

	while (row != NULL && strchr(key, '.') != NULL) {
		char name[64];
		size_t len = strcspn(key, ".");

		snprintf(name, sizeof(name), "%.*s", (int)len, key);
		row = json_object_get(row, name);
		key += len + 1;
	}
	if ((text = plain(json_object_get(row, key))) == NULL)
		return NULL;
	if (text[0] == '\0') { /* an empty cell would read as the next one's */
		free(text);
		if ((text = strdup("-")) == NULL)
			return NULL;
	}
	shown = show_escape(text, width);
	free(text);
	return shown;
}

static void
put_padded(const char *text, size_t width, size_t wanted, bool right, bool last)
{
	int gap = wanted > width ? (int)(wanted - width) : 0;

	if (right)
		printf("%*s%s", gap, "", text);
	else
		printf("%s%*s", text, last ? 0 : gap, ""); /* no blanks at the end of a line */
	fputs(last ? "\n" : "  ", stdout);
}

void
show_table(const struct column *columns, unsigned count, const json_t *rows)
{
	size_t widths[COLUMNS_MAX], n = json_array_size(rows), width;

	for (unsigned k = 0; k < count; k++) {
		widths[k] = strlen(columns[k].title);
		for (size_t i = 0; i < n; i++) {
			char *text = cell_text(json_array_get(rows, i), columns[k].key, &width);

			if (text != NULL && width > widths[k])
				widths[k] = width;
			free(text);
		}
	}
	for (unsigned k = 0; k < count; k++)
		put_padded(columns[k].title, strlen(columns[k].title), widths[k], columns[k].right,
		    k + 1 == count);
	for (size_t i = 0; i < n; i++)
		for (unsigned k = 0; k < count; k++) {
			char *text = cell_text(json_array_get(rows, i), columns[k].key, &width);

			put_padded(text != NULL ? text : "?", text != NULL ? width : 1, widths[k],
			    columns[k].right, k + 1 == count);
			free(text);
		}
}

static bool
is_container(const json_t *value)
{
	return (json_is_object(value) && json_object_size(value) > 0) ||
	    (json_is_array(value) && json_array_size(value) > 0);
}

static void
show_scalar(const json_t *value)
{
	bool empty = json_is_object(value) || json_is_array(value) ||
	    (json_is_string(value) && json_string_length(value) == 0);
	char *text = empty ? strdup("-") : plain(value);
	char *shown = text != NULL ? show_escape(text, NULL) : NULL;

	printf("%s\n", shown != NULL ? shown : "?");
	free(shown);
	free(text);
}

/* The depth is that of an answer of our own broker; the bound is there all the same. */
static void
show_nested(const json_t *value, int depth)
{
	size_t width = 0, i;
	const char *key;
	json_t *member;

	if (depth > DEPTH_MAX) {
		printf("%*s...\n", depth * INDENT, "");
		return;
	}
	if (json_is_array(value)) {
		json_array_foreach(value, i, member)
		{
			if (is_container(member)) {
				if (i > 0)
					putchar('\n');
				show_nested(member, depth);
			} else {
				printf("%*s", depth * INDENT, "");
				show_scalar(member);
			}
		}
		return;
	}
	if (!json_is_object(value)) {
		printf("%*s", depth * INDENT, "");
		show_scalar(value);
		return;
	}
	json_object_foreach((json_t *)value, key, member) if (!is_container(member) &&
	    strlen(key) > width && strlen(key) < 32) width = strlen(key);
	json_object_foreach((json_t *)value, key, member)
	{
		char *shown = show_escape(key, NULL);

		printf("%*s%s", depth * INDENT, "", shown != NULL ? shown : "?");
		if (is_container(member)) {
			fputs(":\n", stdout);
			show_nested(member, depth + 1);
		} else {
			size_t len = shown != NULL ? strlen(shown) : 1;

			printf("%*s", (int)(len < width ? width - len : 0) + 2, "");
			show_scalar(member);
		}
		free(shown);
	}
}

void
show_value(const json_t *value)
{
	show_nested(value, 0);
}

void
show_duration(json_int_t seconds, char *out, size_t size)
{
	long long s = seconds > 0 ? seconds : 0;

	if (s >= 86400)
		snprintf(out, size, "%lldd %lldh", s / 86400, s % 86400 / 3600);
	else if (s >= 3600)
		snprintf(out, size, "%lldh %lldm", s / 3600, s % 3600 / 60);
	else if (s >= 60)
		snprintf(out, size, "%lldm %llds", s / 60, s % 60);
	else
		snprintf(out, size, "%llds", s);
}
