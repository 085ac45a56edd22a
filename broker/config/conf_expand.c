/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a token: escapes of "strings", ${ENV} and ${file:PATH} replaced.
 *
 * What comes out may be a secret, so buffers that are left behind are wiped.
 */
#include "conf_parser.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct text_buffer {
	char *text;
	size_t len, capacity;
};

static bool
buffer_add(struct text_buffer *b, const char *text, size_t len)
{
	if (b->len + len + 1 > b->capacity) {
		size_t capacity = (b->len + len + 1) * 2;
		char *grown = malloc(capacity);

		if (grown == NULL)
			return false;
		if (b->text != NULL)
			memcpy(grown, b->text, b->len);
		conf_wipe_free(b->text, b->len);
		b->text = grown;
		b->capacity = capacity;
	}
	memcpy(b->text + b->len, text, len);
	b->len += len;
	b->text[b->len] = '\0';
	return true;
}

/* ${file:PATH}: the content without its last newline. */
static bool
expand_file(struct conf_parser *x, struct conf_place place, const char *path, struct text_buffer *b)
{
	char *full = NULL, *content = NULL, shown[200];
	const char *why = NULL;
	size_t len = 0;
	bool ok;

	if (path[0] == '/' || x->directory == NULL)
		full = strdup(path);
	else if (asprintf(&full, "%s/%s", x->directory, path) < 0)
		full = NULL;
	if (full == NULL)
		return false;
	content = conf_file_read(full, &len, &why);
	free(full);
	conf_shown(shown, sizeof(shown), path);
	if (content == NULL) {
		conf_fault(x, place, "${file:%s}: %s", shown, why);
		return true; /* an error of the file, not of ours: reading goes on */
	}
	if (memchr(content, '\0', len) != NULL) {
		conf_fault(x, place, "${file:%s}: the file holds a NUL byte", shown);
		conf_wipe_free(content, len);
		return true;
	}
	if (len > 0 && content[len - 1] == '\n')
		len--;
	if (len > 0 && content[len - 1] == '\r')
		len--;
	ok = buffer_add(b, content, len);
	conf_wipe_free(content, len);
	return ok;
}

static bool
expand_variable(struct conf_parser *x, struct conf_place place, const char *name, size_t len,
    struct text_buffer *b)
{
	char *text = strndup(name, len), shown[200];
	const char *value;
	bool ok = true;

	if (text == NULL)
		return false;
	conf_shown(shown, sizeof(shown), text);
	if (len == 0) {
		conf_fault(x, place, "${} names no variable");
	} else if (strncmp(text, "file:", 5) == 0) {
		if (text[5] == '\0')
			conf_fault(x, place, "${file:} names no file");
		else
			ok = expand_file(x, place, text + 5, b);
	} else if (strchr(text, ':') != NULL) {
		conf_fault(x, place, "${%s}: only ${NAME} and ${file:PATH} are known", shown);
	} else if ((value = getenv(text)) == NULL) {
		conf_fault(x, place, "the environment variable ${%s} is not set", shown);
	} else {
		ok = buffer_add(b, value, strlen(value));
	}
	free(text);
	return ok;
}

/* @return how many bytes of text the escape has; 0: no memory */
static size_t
expand_escape(
    struct conf_parser *x, struct conf_place place, const char *text, struct text_buffer *b)
{
	static const char letters[] = "nrt\"\\$", meanings[] = "\n\r\t\"\\$";
	const char *letter = strchr(letters, text[1]);

	if (letter == NULL || text[1] == '\0') {
		char shown[8] = { text[1], '\0' };

		if ((unsigned char)text[1] >= 0x80)
			shown[0] = '?';
		conf_fault(x, place,
		    "unknown escape \"\\%s\"; known are \\n \\r \\t \\\" \\\\ \\$ (or use a 'raw "
		    "string')",
		    shown);
		return 2;
	}
	return buffer_add(b, meanings + (letter - letters), 1) ? 2 : 0;
}

bool
conf_expand(struct conf_parser *x, struct conf_place place, const char *text, size_t len,
    bool escapes, struct conf_text *out)
{
	struct text_buffer b = { 0 };
	size_t i = 0;
	bool expanded = false;

	if (!buffer_add(&b, "", 0))
		return false;
	while (i < len) {
		size_t plain = i;

		while (plain < len && !(escapes && text[plain] == '\\') &&
		    !(text[plain] == '$' && plain + 1 < len && text[plain + 1] == '{'))
			plain++;
		if (plain > i) {
			if (!buffer_add(&b, text + i, plain - i))
				goto fail;
			i = plain;
		} else if (text[i] == '\\') { /* the scanner sees to it that something follows */
			size_t taken = expand_escape(x, place, text + i, &b);

			if (taken == 0)
				goto fail;
			i += taken;
		} else {
			const char *end = memchr(text + i, '}', len - i);

			if (end == NULL) {
				conf_fault(x, place, "${ has no closing } in this string");
				break;
			}
			if (!expand_variable(
				x, place, text + i + 2, (size_t)(end - (text + i + 2)), &b))
				goto fail;
			expanded = true;
			i = (size_t)(end - text) + 1;
		}
		if (b.len > CONF_MAX_FILE) {
			conf_fault(x, place, "the value is longer than %d bytes", CONF_MAX_FILE);
			break;
		}
	}
	*out = (struct conf_text){ .text = b.text, .expanded = expanded };
	return true;
fail:
	conf_wipe_free(b.text, b.len);
	return false;
}
