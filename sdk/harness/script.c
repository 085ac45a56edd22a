/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the steps of a script, one after the other. */
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
tell(struct step *s, const char *format, va_list ap)
{
	char text[TEXT_MAX * 4];

	vsnprintf(text, sizeof(text), format, ap);
	failure(s->h, "%s: %s", s->words[0].text, text);
}

enum outcome
broken(struct step *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	tell(s, format, ap);
	va_end(ap);
	return STEP_BROKEN;
}

enum outcome
failed(struct step *s, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	tell(s, format, ap);
	va_end(ap);
	return STEP_FAILED;
}

struct source {
	const char *at, *end;
	int line;
};

/* The next line, without its end. */
static bool
line_next(struct source *src, const char **line, size_t *len)
{
	const char *end;

	if (src->at >= src->end)
		return false;
	end = memchr(src->at, '\n', (size_t)(src->end - src->at));
	if (end == NULL)
		end = src->end;
	*line = src->at;
	*len = (size_t)(end - src->at);
	src->at = end + 1;
	src->line++;
	return true;
}

/* Lines that end with a backslash go on; heap, NULL: no more, or no memory. */
static char *
line_whole(struct source *src, size_t *len)
{
	const char *line;
	char *whole = NULL, *more;
	size_t n;

	*len = 0;
	while (line_next(src, &line, &n)) {
		bool goes_on;

		while (n > 0 && line[n - 1] == '\r')
			n--;
		goes_on = n > 0 && line[n - 1] == '\\' && (n < 2 || line[n - 2] != '\\');
		n -= goes_on;
		more = realloc(whole, *len + n + 1);
		if (more == NULL)
			break;
		whole = more;
		memcpy(whole + *len, line, n);
		*len += n;
		whole[*len] = '\0';
		if (!goes_on)
			return whole;
	}
	return whole;
}

/* The lines up to one that is `end` alone. */
static bool
here_read(struct source *src, struct step *s, const char *end)
{
	const char *line;
	char *more;
	size_t n, len = 0;

	s->here_line = src->line + 1;
	s->here = calloc(1, 1);
	while (s->here != NULL && line_next(src, &line, &n)) {
		size_t skip = 0;

		while (n > 0 && line[n - 1] == '\r')
			n--;
		while (skip < n && (line[skip] == ' ' || line[skip] == '\t'))
			skip++;
		if (n - skip == strlen(end) && memcmp(line + skip, end, n - skip) == 0)
			return true;
		if ((more = realloc(s->here, len + n + 2)) == NULL)
			return false;
		s->here = more;
		memcpy(s->here + len, line, n);
		s->here[len + n] = '\n';
		len += n + 1;
		s->here[len] = '\0';
	}
	return false;
}

static const struct step_def *
def_find(const char *name)
{
	static const struct step_def *const tables[] = { steps_life, steps_ask, steps_tell,
		steps_expect };

	for (unsigned t = 0; t < 4; t++) {
		for (const struct step_def *d = tables[t]; d->name != NULL; d++) {
			if (strcmp(d->name, name) == 0)
				return d;
		}
	}
	return NULL;
}

/* One that is mistyped would match nothing, and "expect no log" would hold whatever happens. */
static const struct word *
regex_wrong(const struct step *s)
{
	static const char *const matching[] = { "expect", "start", "reload" };
	bool all = false;

	for (unsigned i = 0; i < 3; i++)
		all = all || word_is(&s->words[0], matching[i]);
	for (unsigned i = 1; all && i < s->count; i++) {
		if (!regex_valid(&s->words[i]))
			return &s->words[i];
	}
	for (unsigned i = 0; i < s->expected_count; i++) {
		if (!regex_valid(&s->expected[i]))
			return &s->expected[i];
	}
	return NULL;
}

/* Of which steps something can be expected, their usage says. */
static bool
expects(const struct step_def *d)
{
	return strstr(d->usage, "->") != NULL;
}

static enum outcome
step_do(struct step *s)
{
	const struct step_def *d = def_find(s->words[0].text);
	const struct word *wrong = regex_wrong(s);

	if (d == NULL)
		return broken(s, "there is no such step; grapnel-harness(7) lists them");
	if (s->count - 1 < d->min_words)
		return broken(s, "usage: %s", d->usage);
	if (s->expected != NULL && !expects(d))
		return broken(s, "nothing can be expected of it with \"->\"");
	if (wrong != NULL)
		return broken(s, "%s is no extended regular expression", wrong->text);
	if (s->h->stopped)
		return broken(s, "the plugin has been stopped, and the script is over");
	return d->run(s);
}

static enum outcome
step_run(harness *h, struct source *src, const char *line, size_t len)
{
	struct step s = { .h = h };
	enum outcome outcome = STEP_OK;
	char error[TEXT_MAX];

	if (!words_cut(line, len, &s, error, sizeof(error))) {
		failure(h, "%s", error);
		outcome = STEP_BROKEN;
	} else if (s.count > 0) {
		struct word *last = &s.words[s.count - 1];

		report_tell(h, GRAPNEL_HARNESS_STEP, h->line, line);
		if (last->plain > 2 && strncmp(last->text, "<<", 2) == 0) {
			if (s.count == 1 || s.expected != NULL) { /* or it stands before "->" */
				failure(h,
				    "<<%s has to be the last word of a step, with nothing expected",
				    "END");
				outcome = STEP_BROKEN;
			} else {
				if (!here_read(src, &s, last->text + 2)) {
					failure(h, "no line \"%s\" ends this", last->text + 2);
					outcome = STEP_BROKEN;
				}
				free(last->text);
				s.count--;
			}
		}
		if (outcome == STEP_OK)
			outcome = step_do(&s);
		plugs_retire(h);
		reports_out(h);
		if (h->stuck)
			outcome = STEP_BROKEN;
	}
	words_free(&s);
	return outcome;
}

int
script_run(harness *h, const char *text, size_t len, const char *shown_as, bool whole)
{
	struct source src = { text, text + len, 0 };
	unsigned bad = h->failures + h->findings;
	int steps = h->line;
	char *line;

	if (whole) {
		h->shown_as = shown_as;
		steps = 0;
	}
	while ((line = line_whole(&src, &len)) != NULL) {
		enum outcome outcome;

		/* A step from C is numbered, one of a script stands in its line. */
		h->line = whole ? src.line : steps + src.line;
		outcome = step_run(h, &src, line, len);
		free(line);
		if (outcome == STEP_BROKEN)
			break;
	}
	if (whole && h->plug_count == 0 && h->failures + h->findings == bad)
		failure(h, "the plugin was never started, so nothing was tested; write \"start\"");
	if (whole)
		harness_stop(h);
	return h->failures + h->findings == bad ? GRAPNEL_OK : GRAPNEL_EFAULT;
}
