/* SPDX-License-Identifier: Apache-2.0 */
/* A line of a script, cut into words as a shell does, and what the words say. */
#include "script.h"
#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1024 * 1024)

struct grapnel_str
word_str(const struct word *w)
{
	return (struct grapnel_str){ w->text, w->len };
}

bool
word_is(const struct word *w, const char *text)
{
	return w->len == strlen(text) && memcmp(w->text, text, w->len) == 0;
}

/* ---- cutting --------------------------------------------------------------------------------------- */

struct cutter {
	const char *at, *end;
	char *to;
	bool quoted; /* a quote was seen in this word */
	size_t plain;
	char *word;
	char *error;
	size_t size;
};

static bool
trouble(struct cutter *c, const char *what)
{
	snprintf(c->error, c->size, "%s", what);
	return false;
}

static void
put(struct cutter *c, char byte)
{
	*c->to++ = byte;
	if (!c->quoted)
		c->plain++;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind a backslash, in double quotes. */
static bool
escape(struct cutter *c)
{
	static const char from[] = "ntr0\\\"$", to[] = "\n\t\r\0\\\"$";
	const char *known;

	if (c->at == c->end)
		return trouble(c, "a backslash at the end of the line");
	if (*c->at == 'x' && c->end - c->at > 2 && hex_digit(c->at[1]) >= 0 &&
	    hex_digit(c->at[2]) >= 0) {
		put(c, (char)(hex_digit(c->at[1]) << 4 | hex_digit(c->at[2])));
		c->at += 3;
		return true;
	}
	known = memchr(from, *c->at, sizeof(from) - 1);
	if (known == NULL)
		return trouble(
		    c, "unknown escape; there are \\n \\t \\r \\0 \\xNN \\\\ \\\" and \\$");
	put(c, to[known - from]);
	c->at++;
	return true;
}

/* ${NAME} of the environment. */
static bool
variable(struct cutter *c, struct step *s)
{
	const char *close = memchr(c->at, '}', (size_t)(c->end - c->at));
	char name[128];
	const char *value;
	size_t len, used = (size_t)(c->to - c->word);

	if (close == NULL || close - c->at - 2 >= (long)sizeof(name) || close == c->at + 2)
		return trouble(c, "${NAME} is not closed, or too long");
	memcpy(name, c->at + 2, (size_t)(close - c->at - 2));
	name[close - c->at - 2] = '\0';
	value =
	    strncmp(name, "listener:", 9) == 0 ? listener_address(s->h, name + 9) : getenv(name);
	if (value == NULL) {
		snprintf(c->error, c->size, "${%s} is not set", name);
		return false;
	}
	c->at = close + 1;
	/* The word has room for the rest of the line; make some for the value. */
	len = strlen(value);
	c->word = realloc(c->word, used + len + (size_t)(c->end - c->at) + 2);
	if (c->word == NULL)
		return trouble(c, "out of memory");
	c->to = c->word + used;
	memcpy(c->to, value, len);
	c->to += len;
	if (!c->quoted)
		c->plain += len;
	return true;
}

static bool
quoted(struct cutter *c, struct step *s)
{
	char quote = *c->at++;

	c->quoted = true;
	for (;;) {
		if (c->at == c->end)
			return trouble(c, "a quote is not closed");
		if (*c->at == quote) {
			c->at++;
			return true;
		}
		if (quote == '"' && *c->at == '\\') {
			c->at++;
			if (!escape(c))
				return false;
			continue;
		}
		if (quote == '"' && *c->at == '$' && c->end - c->at > 1 && c->at[1] == '{') {
			if (!variable(c, s))
				return false;
			continue;
		}
		put(c, *c->at++);
	}
}

static bool
one_word(struct cutter *c, struct step *s)
{
	while (c->at < c->end && !isspace((unsigned char)*c->at)) {
		if (*c->at == '\'' || *c->at == '"') {
			if (!quoted(c, s))
				return false;
		} else if (*c->at == '$' && c->end - c->at > 1 && c->at[1] == '{') {
			if (!variable(c, s))
				return false;
		} else if (*c->at == '\\' && c->end - c->at > 1) {
			c->at++;
			put(c, *c->at++);
		} else {
			put(c, *c->at++);
		}
	}
	return true;
}

bool
words_cut(const char *line, size_t len, struct step *s, char *error, size_t size)
{
	struct cutter c = { .at = line, .end = line + len, .error = error, .size = size };

	for (;;) {
		struct word *w = &s->words[s->count];

		while (c.at < c.end && isspace((unsigned char)*c.at))
			c.at++;
		if (c.at == c.end || *c.at == '#')
			break;
		if (s->count == WORDS_MAX)
			return trouble(&c, "too many words");
		c.word = c.to = malloc((size_t)(c.end - c.at) + 2);
		if (c.word == NULL)
			return trouble(&c, "out of memory");
		c.quoted = false;
		c.plain = 0;
		if (!one_word(&c, s)) {
			free(c.word);
			return false;
		}
		*c.to = '\0';
		*w = (struct word){ c.word, (size_t)(c.to - c.word), c.plain };
		s->count++;
	}
	for (unsigned i = 1; i < s->count; i++) {
		if (word_is(&s->words[i], "->") && s->words[i].plain == 2) {
			s->expected = &s->words[i + 1];
			s->expected_count = s->count - i - 1;
			s->count = i;
			break;
		}
	}
	return true;
}

void
words_free(struct step *s)
{
	unsigned all = s->count + (s->expected != NULL ? s->expected_count + 1 : 0);

	for (unsigned i = 0; i < all; i++)
		free(s->words[i].text);
	free(s->here);
}

/* ---- values ------------------------------------------------------------------------------------------- */

size_t
word_key(const struct word *w)
{
	const char *equals = memchr(w->text, '=', w->plain);

	return equals != NULL ? (size_t)(equals - w->text) : 0;
}

static bool
hex_read(struct word *w, size_t at, struct grapnel_str *out)
{
	char *to = w->text + at;

	for (size_t i = at + 4; i < w->len; i += 2) {
		int high = hex_digit(w->text[i]);
		int low = i + 1 < w->len ? hex_digit(w->text[i + 1]) : -1;

		if (high < 0 || low < 0)
			return false;
		*to++ = (char)(high << 4 | low);
	}
	*out = (struct grapnel_str){ w->text + at, (size_t)(to - w->text) - at };
	w->len = at + out->len;
	w->plain = at; /* read once */
	return true;
}

static bool
file_read(struct word *w, size_t at, struct grapnel_str *out, char *error, size_t size)
{
	const char *path = w->text + at + 5;
	FILE *f = fopen(path, "re");
	char *text = f != NULL ? malloc(at + FILE_MAX + 1) : NULL;
	size_t n;

	if (text == NULL) {
		snprintf(error, size, "%s: %s", path, strerror(errno));
		if (f != NULL)
			fclose(f);
		return false;
	}
	memcpy(text, w->text, at);
	n = fread(text + at, 1, FILE_MAX, f);
	fclose(f);
	text[at + n] = '\0';
	free(w->text);
	*w = (struct word){ text, at + n, at };
	*out = (struct grapnel_str){ text + at, n };
	return true;
}

bool
word_value(struct word *w, size_t at, struct grapnel_str *out, char *error, size_t size)
{
	*out = (struct grapnel_str){ w->text + at, w->len - at };
	if (w->plain >= at + 4 && strncmp(w->text + at, "hex:", 4) == 0) {
		if (hex_read(w, at, out))
			return true;
		snprintf(error, size, "hex: wants pairs of hexadecimal digits");
		return false;
	}
	if (w->plain >= at + 5 && strncmp(w->text + at, "file:", 5) == 0)
		return file_read(w, at, out, error, size);
	return true;
}

bool
arg_get(struct step *s, const char *key, struct grapnel_str *out)
{
	size_t len = strlen(key);
	char error[TEXT_MAX];

	for (unsigned i = 1; i < s->count; i++) {
		struct word *w = &s->words[i];

		if (word_key(w) != len || memcmp(w->text, key, len) != 0)
			continue;
		s->used[i] = true;
		if (word_value(w, len + 1, out, error, sizeof(error)))
			return true;
		failure(s->h, "%s: %s", key, error);
		return false;
	}
	return false;
}

bool
number_of(struct grapnel_str value, uint64_t max, uint64_t *out)
{
	char text[32], *end;

	if (value.len == 0 || value.len >= sizeof(text))
		return false;
	memcpy(text, value.data, value.len);
	text[value.len] = '\0';
	errno = 0;
	*out = strtoull(text, &end, 0);
	return *end == '\0' && errno == 0 && *out <= max;
}

bool
arg_number(struct step *s, const char *key, uint64_t max, uint64_t *out, enum outcome *bad)
{
	struct grapnel_str text;

	if (!arg_get(s, key, &text))
		return false;
	if (!number_of(text, max, out)) {
		*bad = broken(s, "%s=%s is no number, or larger than %llu", key, text.data,
		    (unsigned long long)max);
		return false;
	}
	return true;
}

bool
arg_yes(struct step *s, const char *key, bool *out)
{
	struct grapnel_str text;

	if (!arg_get(s, key, &text))
		return false;
	*out = strcmp(text.data, "yes") == 0;
	if (*out || strcmp(text.data, "no") == 0)
		return true;
	failure(s->h, "%s=%s is neither yes nor no", key, text.data);
	return false;
}

const struct word *
arg_unused(const struct step *s, unsigned from)
{
	for (unsigned i = from; i < s->count; i++) {
		if (!s->used[i])
			return &s->words[i];
	}
	return NULL;
}

bool
duration_of(struct grapnel_str text, uint64_t *ms)
{
	int64_t value;

	if (text.data == NULL || !conf_to_duration_ms(text.data, &value) || value < 0)
		return false;
	*ms = (uint64_t)value;
	return true;
}

/* ---- comparing ------------------------------------------------------------------------------------------ */

bool
regex_matches(const char *pattern, size_t len, struct grapnel_str text)
{
	char *p = copy_text(pattern, len), *t = copy_text(text.data, text.len);
	regex_t regex;
	bool ok = false;

	if (p != NULL && t != NULL && regcomp(&regex, p, REG_EXTENDED | REG_NOSUB) == 0) {
		ok = regexec(&regex, t, 0, NULL, 0) == 0;
		regfree(&regex);
	}
	free(p);
	free(t);
	return ok;
}

bool
regex_valid(const struct word *w)
{
	size_t key = word_key(w), at = key > 0 && *w->text != '/' ? key + 1 : 0;
	size_t len = w->len - at;
	regex_t regex;
	char *p;
	bool ok;

	if (len < 2 || w->text[at] != '/' || w->text[w->len - 1] != '/')
		return true;
	if ((p = copy_text(w->text + at + 1, len - 2)) == NULL)
		return false;
	ok = regcomp(&regex, p, REG_EXTENDED | REG_NOSUB) == 0;
	if (ok)
		regfree(&regex);
	free(p);
	return ok;
}

/* Numbers are equal however they are written. */
static bool
same_number(struct grapnel_str a, struct grapnel_str b)
{
	char left[24], right[24], *end;
	unsigned long long x, y;

	if (a.len == 0 || b.len == 0 || a.len >= sizeof(left) || b.len >= sizeof(right) ||
	    !isdigit((unsigned char)*a.data) || !isdigit((unsigned char)*b.data))
		return false;
	memcpy(left, a.data, a.len);
	left[a.len] = '\0';
	memcpy(right, b.data, b.len);
	right[b.len] = '\0';
	x = strtoull(left, &end, 0);
	if (*end != '\0')
		return false;
	y = strtoull(right, &end, 0);
	return *end == '\0' && x == y;
}

bool
matches(const struct word *w, size_t at, struct grapnel_str got)
{
	struct grapnel_str want = { w->text + at, w->len - at };

	if (want.len >= 2 && want.data[0] == '/' && want.data[want.len - 1] == '/')
		return regex_matches(want.data + 1, want.len - 2, got);
	return (want.len == got.len && memcmp(want.data, got.data, got.len) == 0) ||
	    same_number(want, got);
}
