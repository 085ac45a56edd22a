/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that tell the plugin something, or have it do something, without a hook: events, commands, messages for its subscriptions. */
#include "events/names.h"
#include "mqtt/topic.h"
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool
event_type(struct step *s, enum grapnel_event_type *out)
{
	s->used[1] = true;
	*out = event_type_of(word_str(&s->words[1]));
	return *out != GRAPNEL_EVENT_COUNT;
}

struct offering {
	size_t taken;
};

static void
offer_here(harness *h, unsigned worker, void *arg)
{
	struct offering *o = arg;

	o->taken = events_offer(h->running, worker);
}

static enum outcome
event_words(struct step *s, struct grapnel_event *e, unsigned *worker)
{
	enum outcome bad = STEP_OK;
	uint64_t n;

	(void)arg_get(s, "filter", &e->filter);
	(void)arg_get(s, "reason", &e->reason);
	(void)arg_yes(s, "session_present", &e->session_present);
	if (arg_number(s, "reason_code", UINT8_MAX, &n, &bad))
		e->reason_code = (uint8_t)n;
	if (arg_number(s, "lost", UINT64_MAX, &n, &bad))
		e->lost = n;
	if (arg_number(s, "worker", s->h->worker_count - 1, &n, &bad))
		*worker = (unsigned)n;
	return bad;
}

static enum outcome
event_give(struct step *s, const struct grapnel_event *e, unsigned worker)
{
	struct offering o = { 0 };
	int err;

	if (words_done(s) != STEP_OK)
		return STEP_BROKEN;
	err = events_add(s->h, worker, e);
	if (err == GRAPNEL_ENOMEM)
		return broken(s, "out of memory");
	if (err == GRAPNEL_OK)
		(void)on_worker(s->h, worker, offer_here, &o);
	if (s->expected == NULL)
		return STEP_OK;
	if (s->expected_count == 1 && word_is(&s->expected[0], "unwanted"))
		return err == GRAPNEL_ENOENT ? STEP_OK : failed(s, "the plugin wants this event");
	if (s->expected_count == 2 && word_is(&s->expected[0], "taken")) {
		uint64_t want;

		if (!number_of(word_str(&s->expected[1]), UINT32_MAX, &want))
			return broken(s, "\"%s\" is no number", s->expected[1].text);
		if (err == GRAPNEL_ENOENT)
			return failed(s, "the plugin does not want this event");
		return o.taken == want ? STEP_OK : failed(s, "%zu taken", o.taken);
	}
	return broken(s, "\"taken N\" or \"unwanted\" can be expected");
}

static enum outcome
do_event(struct step *s)
{
	struct grapnel_event e = { .size = sizeof(e) };
	struct message_words m = { 0 };
	struct sim_client *c = NULL;
	struct grapnel_str topic;
	enum outcome outcome;
	unsigned worker = 0;

	if (s->h->running == NULL)
		return broken(s, "the plugin does not run; write \"start\" first");
	if (!event_type(s, &e.type))
		return broken(
		    s, "\"%s\" is no event; grapnel-harness(7) lists them", s->words[1].text);
	if (s->count > 2 && word_key(&s->words[2]) == 0) {
		if ((c = client_word(s, 2)) == NULL)
			return STEP_BROKEN;
		e.client = &c->info;
		worker = c->worker;
	}
	outcome = event_words(s, &e, &worker);
	if (outcome == STEP_OK && arg_get(s, "topic", &topic)) {
		outcome = message_read(s, &m, topic, c);
		e.message = &m.info;
		e.qos = m.info.qos;
	} else if (outcome == STEP_OK) {
		uint64_t n;

		if (arg_number(s, "qos", 2, &n, &outcome))
			e.qos = (uint8_t)n;
	}
	if (outcome == STEP_OK)
		outcome = event_give(s, &e, worker);
	free(m.properties);
	return outcome;
}

static bool
reply_came(harness *h, void *arg)
{
	const struct reply *r = arg;
	bool came;

	pthread_mutex_lock(&h->lock);
	came = !r->owed;
	pthread_mutex_unlock(&h->lock);
	return came;
}

static enum outcome
do_command(struct step *s)
{
	struct grapnel_str arguments[WORDS_MAX];
	struct grapnel_command c = { .size = sizeof(c),
		.name = word_str(&s->words[1]),
		.arguments = arguments,
		.argument_count = s->count - 2 };
	struct reply *r;
	const char *text;
	bool ok;
	int err;

	if (s->h->running == NULL)
		return broken(s, "the plugin does not run; write \"start\" first");
	for (unsigned i = 2; i < s->count; i++)
		arguments[i - 2] = word_str(&s->words[i]);
	if ((r = command_run(s->h, &c, &err)) == NULL)
		return broken(s, "the plugin offers no command \"%s\"", s->words[1].text);
	if (err == GRAPNEL_COMMAND_LATER && !wait_until(s->h, s->h->patience_ms, reply_came, r))
		return failed(s, "no reply after %u ms", s->h->patience_ms);
	ok = err == GRAPNEL_OK || err == GRAPNEL_COMMAND_LATER;
	text = r->text != NULL ? r->text : "";
	if (s->expected == NULL)
		return STEP_OK;
	if (!word_is(&s->expected[0], ok ? "ok" : "error"))
		return failed(s, "%s (%d): %s", ok ? "ok" : "error", err, text);
	if (s->expected_count > 1 &&
	    !matches(&s->expected[1], 0, (struct grapnel_str){ text, strlen(text) }))
		return failed(s, "replied %s", text);
	return STEP_OK;
}

static enum outcome
do_message(struct step *s)
{
	struct message_words m;
	enum outcome outcome;

	s->used[1] = true;
	if (!topic_name_valid(word_str(&s->words[1])))
		return broken(s, "\"%s\" is no Topic Name", s->words[1].text);
	outcome = message_read(s, &m, word_str(&s->words[1]), NULL);
	if (outcome == STEP_OK)
		outcome = words_done(s);
	if (outcome == STEP_OK) {
		things_publish(s->h, &m.info);
		pump(s->h);
	}
	free(m.properties);
	return outcome;
}

const struct step_def steps_tell[] = {
	{ "command", 1, do_command, "command NAME [ARGUMENT …] [-> ok|error [TEXT|/REGEX/]]" },
	{ "event", 1, do_event,
	    "event TYPE [CLIENT] [topic=…] [reason_code=N] [-> taken N|unwanted]" },
	{ "message", 1, do_message, "message TOPIC [payload=…] [qos=N] [retain=yes]" },
	{ NULL, 0, NULL, NULL },
};
