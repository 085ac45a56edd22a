/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that set things up, start and stop the plugin, move time, and let clients come and go. */
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static enum outcome
need_running(struct step *s)
{
	return s->h->running != NULL ? STEP_OK
				     : broken(s, "the plugin does not run; write \"start\" first");
}

static enum outcome
before_start(struct step *s)
{
	return s->h->running == NULL ? STEP_OK : broken(s, "only before \"start\"");
}

/* The rest of the words as a section's lines, or the here-document. */
static enum outcome
section_set(struct step *s)
{
	harness *h = s->h;
	size_t len = 0;
	char *text = s->here;

	if (text == NULL) {
		for (unsigned i = 1; i < s->count; i++)
			len += s->words[i].len + 1;
		text = malloc(len + 1);
		len = 0;
		for (unsigned i = 1; text != NULL && i < s->count; i++) {
			memcpy(text + len, s->words[i].text, s->words[i].len);
			len += s->words[i].len;
			text[len++] = ' ';
		}
		if (text != NULL)
			text[len] = '\0';
	}
	if (text == NULL)
		return broken(s, "out of memory");
	free(h->section);
	h->section = text;
	h->section_line = s->here != NULL ? s->here_line : h->line;
	s->here = NULL;
	return STEP_OK;
}

static enum outcome
do_section(struct step *s)
{
	return before_start(s) == STEP_OK ? section_set(s) : STEP_BROKEN;
}

static enum outcome
do_workers(struct step *s)
{
	uint64_t n;

	if (before_start(s) != STEP_OK)
		return STEP_BROKEN;
	if (!number_of(word_str(&s->words[1]), WORKERS_MAX, &n) || n < 1)
		return broken(s, "between 1 and %u", WORKERS_MAX);
	s->h->worker_count = (unsigned)n;
	return STEP_OK;
}

static enum outcome
do_name(struct step *s)
{
	char *name = strdup(s->words[1].text);

	if (before_start(s) != STEP_OK || name == NULL) {
		free(name);
		return STEP_BROKEN;
	}
	free(s->h->name);
	s->h->name = name;
	return STEP_OK;
}

static enum outcome
do_clock(struct step *s)
{
	struct tm tm = { 0 };
	int64_t wall;

	if (word_is(&s->words[1], "now")) {
		wall = (int64_t)time(NULL);
	} else {
		const char *end = strptime(s->words[1].text, "%Y-%m-%dT%H:%M:%SZ", &tm);

		if (end == NULL || *end != '\0')
			return broken(s, "\"now\", or a time such as 2026-01-31T12:00:00Z");
		wall = (int64_t)timegm(&tm);
	}
	atomic_store(&s->h->wall_us, wall * 1000000 - (int64_t)clock_now(s->h) * 1000);
	return STEP_OK;
}

static enum outcome
duration_step(struct step *s, uint32_t *out)
{
	uint64_t ms;

	if (!duration_of(word_str(&s->words[1]), &ms) || ms == 0 || ms > UINT32_MAX)
		return broken(s, "a duration such as 5ms, 2s or 1m");
	*out = (uint32_t)ms;
	return STEP_OK;
}

static enum outcome
do_hold(struct step *s)
{
	return duration_step(s, &s->h->hold_ms);
}

static enum outcome
do_patience(struct step *s)
{
	return duration_step(s, &s->h->patience_ms);
}

static enum outcome
do_dns(struct step *s)
{
	char *addresses[WORDS_MAX];

	for (unsigned i = 2; i < s->count; i++)
		addresses[i - 2] = s->words[i].text;
	dns_name(s->h, s->words[1].text, addresses, s->count - 2);
	return STEP_OK;
}

static enum outcome
do_value(struct step *s)
{
	if (value_put(s->h, word_str(&s->words[1]), word_str(&s->words[2])) != GRAPNEL_OK)
		return broken(
		    s, "that cannot be kept: a key has 1 to 1024 bytes, a value up to 65536");
	return STEP_OK;
}

/* ---- life -------------------------------------------------------------------------------------------- */

/* "fails /regex/": what is expected of a start. NULL: that it succeeds. */
static const struct word *
expected_failure(const struct step *s)
{
	static const struct word any = { (char *)(uintptr_t) "/./", 3, 3 };

	if (s->count > 1 && word_is(&s->words[1], "fails"))
		return s->count > 2 ? &s->words[2] : &any;
	if (s->expected_count > 0 && word_is(&s->expected[0], "fails"))
		return s->expected_count > 1 ? &s->expected[1] : &any;
	return NULL;
}

/* Words that nobody looks at would be an expectation that always holds. */
static bool
start_words(struct step *s)
{
	const struct word *first = s->count > 1 ? &s->words[1] : s->expected;
	unsigned n = s->count > 1 ? s->count - 1 : s->expected_count;

	if (s->count == 1 && s->expected == NULL)
		return true;
	if (n > 0 && n <= 2 && word_is(first, "fails") && (s->count == 1 || s->expected == NULL))
		return true;
	broken(s, "only \"fails\" and a /REGEX/ can be expected of it");
	return false;
}

static enum outcome
start_judge(struct step *s, const struct plug *p, const char *error)
{
	const struct word *want = expected_failure(s);

	if (p != NULL && want != NULL)
		return failed(s, "it starts, and was expected to fail");
	if (p == NULL && want == NULL)
		return broken(s, "%s", error);
	if (p == NULL && !matches(want, 0, (struct grapnel_str){ error, strlen(error) }))
		return failed(s, "it fails, but with: %s", error);
	return STEP_OK;
}

static enum outcome
do_start(struct step *s)
{
	harness *h = s->h;
	char error[TEXT_MAX * 3];

	if (!start_words(s))
		return STEP_BROKEN;
	if (h->running != NULL)
		return broken(s, "it runs already");
	if (workers_start(h) != GRAPNEL_OK)
		return broken(s, "no threads for the workers");
	host_fill(&h->host, h->worker_count);
	h->running = plug_start(h, error, sizeof(error));
	return start_judge(s, h->running, error);
}

static enum outcome
do_reload(struct step *s)
{
	harness *h = s->h;
	struct plug *old = h->running, *neu;
	char error[TEXT_MAX * 3], *before = NULL;
	int line = h->section_line;
	enum outcome outcome;

	if (need_running(s) != STEP_OK || !start_words(s))
		return STEP_BROKEN;
	if (s->here != NULL) {
		before = h->section;
		h->section = s->here;
		h->section_line = s->here_line;
	}
	pump(h);
	neu = plug_start(h, error, sizeof(error));
	outcome = start_judge(s, neu, error);
	if (neu == NULL && s->here != NULL) { /* the old one goes on, and its section */
		h->section = before;
		h->section_line = line;
	} else if (s->here != NULL) {
		s->here = NULL;
		free(before);
	}
	if (neu == NULL)
		return outcome == STEP_BROKEN ? STEP_FAILED : outcome;
	listeners_switch(h, neu);
	h->running = neu;
	pump(h);
	(void)plug_retire(old);
	return outcome;
}

static enum outcome
do_stop(struct step *s)
{
	harness_stop(s->h);
	return STEP_OK;
}

static enum outcome
do_listener(struct step *s)
{
	const char *bind = s->count > 2 ? s->words[2].text : "tcp";
	char error[256];

	if (need_running(s) != STEP_OK)
		return STEP_BROKEN;
	if (strcmp(bind, "tcp") != 0 && strcmp(bind, "udp") != 0)
		return broken(s, "tcp or udp");
	return listener_add(s->h, s->words[1].text, bind, error, sizeof(error))
	    ? STEP_OK
	    : broken(s, "%s", error);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static enum outcome
do_advance(struct step *s)
{
	uint64_t ms;

	if (!duration_of(word_str(&s->words[1]), &ms))
		return broken(s, "a duration such as 500ms, 2s or 1h");
	advance(s->h, ms);
	return STEP_OK;
}

static enum outcome
do_run(struct step *s)
{
	pump(s->h);
	return STEP_OK;
}

static enum outcome
do_wait(struct step *s)
{
	harness *h = s->h;
	struct asked *a = NULL;
	uint64_t ms = h->patience_ms;

	for (unsigned i = 1; i < s->count; i++) {
		if (a == NULL && (a = ask_named(h, s->words[i].text)) != NULL)
			continue;
		if (!duration_of(word_str(&s->words[i]), &ms))
			return broken(
			    s, "\"%s\" is no question's name, and no duration", s->words[i].text);
	}
	if (wait_until(h, (uint32_t)ms, a != NULL ? ask_decided : idle, a))
		return STEP_OK;
	return failed(s, "%s after %llu ms",
	    a != NULL ? "not answered" : "something is still under way", (unsigned long long)ms);
}

/* ---- clients --------------------------------------------------------------------------------------------- */

static enum outcome
do_client(struct step *s)
{
	struct sim_client *c;
	char error[TEXT_MAX], key[256];

	if (client_find_name(s->h, s->words[1].text) != NULL)
		return broken(s, "there is a client \"%s\" already", s->words[1].text);
	if ((c = client_add(s->h, s->words[1].text)) == NULL)
		return broken(s, "out of memory");
	for (unsigned i = 2; i < s->count; i++) {
		struct word *w = &s->words[i];
		size_t len = word_key(w);
		struct grapnel_str value;

		if (len == 0 || len >= sizeof(key))
			return broken(s, "\"%s\" is not name=value", w->text);
		memcpy(key, w->text, len);
		key[len] = '\0';
		if (!word_value(w, len + 1, &value, error, sizeof(error)) ||
		    client_set(c, key, value, error, sizeof(error)) != GRAPNEL_OK)
			return broken(s, "%s", error);
	}
	c->connection_count = c->own_count;
	return STEP_OK;
}

static enum outcome
do_leave(struct step *s)
{
	struct sim_client *c = client_find_name(s->h, s->words[1].text);

	if (c == NULL || c->left)
		return broken(s, "there is no client \"%s\"", s->words[1].text);
	client_leave(c);
	return STEP_OK;
}

static enum outcome
do_cancel(struct step *s)
{
	struct asked *a = ask_named(s->h, s->words[1].text);

	if (a == NULL)
		return broken(s, "there is no question \"%s\"", s->words[1].text);
	if (ask_decided(s->h, a))
		return failed(s, "%s is answered already", s->words[1].text);
	ask_cancel(a);
	return STEP_OK;
}

const struct step_def steps_life[] = {
	{ "advance", 1, do_advance, "advance DURATION" },
	{ "cancel", 1, do_cancel, "cancel QUESTION" },
	{ "client", 1, do_client, "client NAME [id=… username=… peer=… attribute.NAME=… …]" },
	{ "clock", 1, do_clock, "clock now|YYYY-MM-DDTHH:MM:SSZ" },
	{ "deadline", 1, do_cancel, "deadline QUESTION" },
	{ "dns", 1, do_dns, "dns NAME [ADDRESS …]" },
	{ "hold", 1, do_hold, "hold DURATION" },
	{ "leave", 1, do_leave, "leave CLIENT" },
	{ "listener", 1, do_listener, "listener NAME [tcp|udp]" },
	{ "name", 1, do_name, "name INSTANCE" },
	{ "patience", 1, do_patience, "patience DURATION" },
	{ "reload", 0, do_reload, "reload [[->] fails /REGEX/] [<<END]" },
	{ "run", 0, do_run, "run" },
	{ "section", 0, do_section, "section <<END" },
	{ "start", 0, do_start, "start [[->] fails /REGEX/]" },
	{ "stop", 0, do_stop, "stop" },
	{ "value", 2, do_value, "value KEY VALUE" },
	{ "wait", 0, do_wait, "wait [QUESTION] [DURATION]" },
	{ "workers", 1, do_workers, "workers N" },
	{ NULL, 0, NULL, NULL },
};
