/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that look at what has happened: answers, and what the plugin did to the broker. */
#include "script.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool
answer_holds(struct step *s, struct asked *a, struct word *words, unsigned count)
{
	char shown[TEXT_MAX * 2], error[TEXT_MAX] = "";
	const char *got = ask_decided(s->h, a) ? verdict_text(a->verdict) : "pending";
	struct facts facts;
	bool ok;

	if (count == 0) {
		broken(s, "nothing stands behind \"->\"");
		return false;
	}
	facts_of(&facts, a);
	if (word_is(&words[0], "drop")) /* short for an ALLOW that forgets it */
		ok = a->verdict == GRAPNEL_ALLOW &&
		    facts_hold(&facts, &words[0], 1, error, sizeof(error));
	else
		ok = word_is(&words[0], got);
	ok = ok && facts_hold(&facts, words + 1, count - 1, error, sizeof(error));
	if (!ok)
		failed(s, "%s%s%s%s%s", got, facts_show(&facts, shown, sizeof(shown)),
		    *error != '\0' ? "; " : "", error, a->cancelled ? " (it was cancelled)" : "");
	facts_free(&facts);
	return ok;
}

/* ---- records ------------------------------------------------------------------------------------------ */

static void
facts_record(struct facts *f, const struct record *r)
{
	f->count = 0;
	switch (r->kind) {
	case RECORD_PUBLISHED:
		fact_add(f, "payload", r->more);
		fact_number(f, "qos", r->qos);
		fact_yes(f, "retain", r->retain);
		facts_message(f, (struct grapnel_str){ r->properties, r->properties_len });
		break;
	case RECORD_KICK:
		fact_add(f, "mountpoint", r->more);
		fact_number(f, "reason_code", r->reason_code);
		break;
	case RECORD_PURGE:
		fact_add(f, "client_id", r->more);
		break;
	case RECORD_CONNECTION:
		fact_add(f, "username", r->more);
		break;
	case RECORD_LOG:
	case RECORD_RIGHTS:
		break;
	}
}

struct search {
	enum record_kind kind;
	int level;         /* of log lines; 0: any */
	struct word *text; /* NULL: any */
	struct word *words;
	unsigned count;
};

static bool
record_fits(const struct record *r, const struct search *q)
{
	struct facts facts;
	char error[TEXT_MAX];
	bool ok;

	if (r->kind != q->kind || (q->level != 0 && (int)r->level != q->level))
		return false;
	if (q->text != NULL &&
	    !matches(q->text, 0, (struct grapnel_str){ r->text, strlen(r->text) }))
		return false;
	facts_record(&facts, r);
	ok = facts_hold(&facts, q->words, q->count, error, sizeof(error));
	facts_free(&facts);
	return ok;
}

/* The first that nothing was expected of yet; it is used up. */
static struct record *
record_take(harness *h, const struct search *q)
{
	struct record *r;

	for (r = record_next(h, NULL); r != NULL; r = record_next(h, r)) {
		if (!r->used && record_fits(r, q)) {
			r->used = true;
			return r;
		}
	}
	return NULL;
}

struct record_wait {
	const struct search *search;
	struct record *found;
};

static bool
record_came(harness *h, void *arg)
{
	struct record_wait *w = arg;

	w->found = record_take(h, w->search);
	return w->found != NULL;
}

/* What there is of that kind, for the message. */
static const char *
records_show(harness *h, const struct search *q, char *out, size_t size)
{
	size_t len = 0;

	snprintf(out, size, "there was none");
	for (const struct record *r = record_next(h, NULL); r != NULL && len < size;
	     r = record_next(h, r)) {
		char more[TEXT_MAX];
		struct facts facts;

		if (r->kind != q->kind)
			continue;
		facts_record(&facts, r);
		len += (size_t)snprintf(out + len, size - len, "%s%s%s%s",
		    len == 0 ? "there was: " : " | ", r->text,
		    facts_show(&facts, more, sizeof(more)), r->used ? " (used up)" : "");
		facts_free(&facts);
	}
	return out;
}

static enum outcome
record_expect(struct step *s, struct search *q, bool not )
{
	struct record_wait w = { q, NULL };
	char shown[TEXT_MAX * 2];

	if (not ) {
		if (record_take(s->h, q) == NULL)
			return STEP_OK;
		return failed(s, "it happened: %s", records_show(s->h, q, shown, sizeof(shown)));
	}
	if (wait_until(s->h, s->h->patience_ms, record_came, &w))
		return STEP_OK;
	return failed(s, "it did not happen; %s", records_show(s->h, q, shown, sizeof(shown)));
}

static int
level_of(const struct word *w)
{
	static const char *const names[] = { "", "error", "warning", "notice", "info", "debug",
		"trace" };

	for (int i = 1; i < 7; i++) {
		if (word_is(w, names[i]))
			return i;
	}
	return 0;
}

/* ---- numbers and values ----------------------------------------------------------------------------------- */

struct metric_wait {
	const struct counted *metric;
	int64_t want;
};

static bool
metric_is(harness *h, void *arg)
{
	const struct metric_wait *w = arg;

	(void)h;
	return atomic_load(&w->metric->value) == w->want;
}

static enum outcome
metric_expect(struct step *s, const struct word *name, const struct word *number)
{
	const struct plug *p = s->h->running;
	char *end;
	struct metric_wait w = { NULL, strtoll(number->text, &end, 10) };

	if (number->len == 0 || *end != '\0')
		return broken(s, "\"%s\" is no number", number->text);

	for (unsigned i = 0; p != NULL && i < atomic_load(&p->metric_count); i++) {
		if (word_is(name, p->metrics[i].name))
			w.metric = &p->metrics[i];
	}
	if (w.metric == NULL)
		return broken(s, "the plugin has no metric \"%s\"", name->text);
	if (wait_until(s->h, s->h->patience_ms, metric_is, &w))
		return STEP_OK;
	return failed(s, "%s is %" PRId64 ", not %s", name->text, atomic_load(&w.metric->value),
	    number->text);
}

static enum outcome
value_expect(struct step *s, const struct word *key, const struct word *want, bool not )
{
	struct grapnel_str got = { NULL, 0 };
	bool there = value_look(s->h, word_str(key), &got);
	enum outcome outcome = STEP_OK;

	if (not &&there)
		outcome = failed(s, "key \"%s\" has a value", key->text);
	else if (!not &&!there)
		outcome = failed(s, "key \"%s\" has no value", key->text);
	else if (there && want != NULL && !matches(want, 0, got))
		outcome = failed(s, "key \"%s\" has \"%.*s\"", key->text, (int)got.len, got.data);
	free((void *)(uintptr_t)got.data);
	return outcome;
}

static enum outcome
pending_expect(struct step *s, const struct word *number)
{
	unsigned n = 0;
	uint64_t want;

	if (!number_of(word_str(number), UINT32_MAX, &want))
		return broken(s, "\"%s\" is no number", number->text);
	pthread_mutex_lock(&s->h->lock);
	for (const struct asked *a = s->h->asks; a != NULL; a = a->next)
		n += a->state == ASK_PENDING;
	pthread_mutex_unlock(&s->h->lock);
	return n == want ? STEP_OK : failed(s, "%u are pending", n);
}

/* ---- the step ------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	enum record_kind kind;
	bool texted; /* the next word is its text */
} record_names[] = {
	{ "published", RECORD_PUBLISHED, true },
	{ "kick", RECORD_KICK, true },
	{ "purge", RECORD_PURGE, true },
	{ "rights_changed", RECORD_RIGHTS, false },
	{ "connection", RECORD_CONNECTION, true },
};

/* And no question, of which something can be expected. */
static bool
happening(const struct word *what)
{
	static const char *const others[] = { "log", "metric", "pending", "value" };
	bool found = false;

	for (unsigned i = 0; i < sizeof(others) / sizeof(*others); i++)
		found = found || word_is(what, others[i]);
	for (unsigned i = 0; i < sizeof(record_names) / sizeof(*record_names); i++)
		found = found || word_is(what, record_names[i].name);
	return found;
}

static enum outcome
do_expect(struct step *s)
{
	bool not = word_is(&s->words[1], "no");
	unsigned at = 1 + not, left = s->count - at - 1;
	struct word *what = &s->words[at], *next = left > 0 ? what + 1 : NULL;
	struct search q = { 0 };
	struct asked *a;

	if (at >= s->count)
		return broken(s, "what?");
	if (s->expected != NULL && (not || happening(what)))
		return broken(s, "only of a question can be something expected with \"->\"");
	pump(s->h);
	if (word_is(what, "log") && next != NULL) {
		q.kind = RECORD_LOG;
		q.level = level_of(next);
		/* "expect no log warn /x/" would else hold whatever happens. */
		if (left > (q.level == 0 ? 1 : 2))
			return broken(s,
			    q.level == 0 ? "\"%s\" is no level" : "too much behind \"%s\"",
			    next->text);
		q.text = q.level == 0 ? next : left > 1 ? next + 1 : NULL;
		return record_expect(s, &q, not );
	}
	for (unsigned i = 0; i < sizeof(record_names) / sizeof(*record_names); i++) {
		bool texted = record_names[i].texted && next != NULL && word_key(next) == 0;

		if (!word_is(what, record_names[i].name))
			continue;
		q.kind = record_names[i].kind;
		q.text = texted ? next : NULL;
		q.words = what + 1 + texted;
		q.count = left - texted;
		return record_expect(s, &q, not );
	}
	if (word_is(what, "metric") && left == 2 && !not )
		return metric_expect(s, next, next + 1);
	if (word_is(what, "value") && left >= 1)
		return value_expect(s, next, left > 1 ? next + 1 : NULL, not );
	if (word_is(what, "pending") && left == 1 && !not )
		return pending_expect(s, next);
	if ((a = ask_named(s->h, what->text)) == NULL || not )
		return broken(s, "\"%s\" is no question's name, and nothing that can be expected",
		    what->text);
	ask_settle(a);
	return answer_holds(s, a, s->expected, s->expected_count) ? STEP_OK : STEP_FAILED;
}

const struct step_def steps_expect[] = {
	{ "expect", 1, do_expect,
	    "expect QUESTION -> …, or expect [no] "
	    "log|published|kick|purge|rights_changed|connection|metric|value|pending …" },
	{ NULL, 0, NULL, NULL },
};
