/* SPDX-License-Identifier: Apache-2.0 */
/* command - what grapnelctl asks of a webhook */
#include "outbox.h"
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS_SHOWN 1000u
#define LETTERS_BYTES (4u << 20)
#define TEST_CLIENT   "grapnel-webhook-test"

typedef void (*reply_fn)(void *ctx, struct grapnel_str json);

struct to {
	reply_fn reply;
	void *ctx;
};

/* ---- answers --------------------------------------------------------------------------------- */

static void
put_text(struct text *t, const char *name, const char *value)
{
	json_name(t, name);
	json_text(t, (struct grapnel_str){ value, strlen(value) });
}

static void
put_number(struct text *t, const char *name, uint64_t value)
{
	json_name(t, name);
	text_uint(t, value);
}

static void
put_bool(struct text *t, const char *name, bool value)
{
	json_name(t, name);
	json_bool(t, value);
}

static void
put_time(struct text *t, const char *name, int64_t us)
{
	char text[FORMAT_TIME_SIZE];

	json_name(t, name);
	if (us == 0) {
		text_puts(t, "null");
		return;
	}
	format_time(text, us);
	json_text(t, (struct grapnel_str){ text, strlen(text) });
}

/* Ends the object, and the text. */
static void
answer(struct to to, struct text *t)
{
	text_char(t, '}');
	to.reply(to.ctx,
	    t->failed ? GRAPNEL_STR("{\"error\":\"no memory\"}")
		      : (struct grapnel_str){ t->data, t->len });
	text_free(t);
}

static int
complain(struct to to, const char *what)
{
	struct text t = { 0 };

	text_char(&t, '{');
	put_text(&t, "error", what);
	answer(to, &t);
	return GRAPNEL_EINVAL;
}

static struct endpoint *
endpoint_named(struct webhook *w, struct grapnel_str name)
{
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (strlen(w->endpoints[i]->name) == name.len &&
		    memcmp(w->endpoints[i]->name, name.data, name.len) == 0)
			return w->endpoints[i];
	return NULL;
}

/* ---- status ---------------------------------------------------------------------------------- */

static void
put_urls(struct text *t, const struct endpoint *e)
{
	json_name(t, "urls");
	text_char(t, '[');
	for (unsigned i = 0; i < e->url_count; i++) {
		const struct url *u = &e->urls[i];

		if (i > 0)
			text_char(t, ',');
		text_char(t, '{');
		put_text(t, "url", curl_target_name(u->target));
		put_number(t, "status", (uint64_t)u->status);
		put_text(t, "error", u->error);
		text_char(t, '}');
	}
	text_char(t, ']');
}

static void
put_lost(struct text *t, const struct endpoint *e)
{
	static const char *const names[LOST_WHY_COUNT] = { [LOST_FULL] = "full",
		[LOST_OLD] = "too_old",
		[LOST_DAMAGED] = "damaged",
		[LOST_MEMORY] = "no_memory" };

	json_name(t, "lost");
	text_char(t, '{');
	for (unsigned i = 0; i < LOST_WHY_COUNT; i++)
		put_number(t, names[i], e->lost[i]);
	text_char(t, '}');
}

/* Under the lock. What is in the window may be in the outbox, too. */
static uint64_t
waiting(const struct endpoint *e)
{
	uint64_t events = e->window_events + e->unwritten_events;

	return e->stored_events > e->window_stored ? events + e->stored_events - e->window_stored
						   : events;
}

static void
put_status(struct text *t, const struct endpoint *e)
{
	text_char(t, '{');
	put_text(t, "name", e->name);
	put_bool(t, "paused", e->paused);
	put_urls(t, e);
	put_number(t, "waiting", waiting(e));
	put_number(t, "in_memory", e->window_events + e->unwritten_events);
	put_number(t, "in_outbox", e->stored_events);
	put_number(t, "outbox_bytes", e->stored_bytes);
	put_number(t, "memory_bytes", e->window_bytes + e->unwritten_bytes);
	put_number(t, "delivered", e->delivered);
	put_time(t, "delivered_last", e->delivered_us);
	put_number(t, "requests", e->requests);
	put_number(t, "failures", e->failures);
	put_lost(t, e);
	put_number(t, "dead_letters", e->dead);
	put_text(t, "last_error", e->error);
	text_char(t, '}');
}

static int
run_status(struct webhook *w, struct endpoint *only, struct to to)
{
	struct text t = { 0 };
	bool first = true;

	text_char(&t, '{');
	put_text(&t, "outbox", w->path != NULL ? w->path : "memory");
	json_name(&t, "endpoints");
	text_char(&t, '[');
	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		if (only != NULL && only != w->endpoints[i])
			continue;
		if (!first)
			text_char(&t, ',');
		first = false;
		put_status(&t, w->endpoints[i]);
	}
	(void)pthread_mutex_unlock(&w->lock);
	text_char(&t, ']');
	answer(to, &t);
	return GRAPNEL_OK;
}

/* ---- pause and resume ------------------------------------------------------------------------ */

static char *
paused_key(const struct endpoint *e)
{
	char *key;

	return asprintf(&key, "paused %s", e->name) >= 0 ? key : NULL;
}

void
command_read_paused(struct webhook *w)
{
	for (unsigned i = 0; i < w->endpoint_count; i++) {
		char *key = paused_key(w->endpoints[i]);
		size_t len;

		if (key != NULL)
			w->endpoints[i]->paused =
			    w->host->value_get(w->self, (struct grapnel_str){ key, strlen(key) },
				NULL, 0, &len) == GRAPNEL_OK;
		free(key);
	}
}

static int
run_pause(struct webhook *w, struct endpoint *e, bool paused, struct to to)
{
	char *text = paused_key(e);
	struct grapnel_str key = { text, text != NULL ? strlen(text) : 0 };
	int err = text == NULL ? GRAPNEL_ENOMEM
	    : paused           ? w->host->value_set(w->self, key, GRAPNEL_STR(""))
			       : w->host->value_delete(w->self, key);

	struct text t = { 0 };

	free(text);
	if (err != GRAPNEL_OK && err != GRAPNEL_ENOENT)
		return complain(to,
		    "the broker does not keep it (max_values, or the store is full); nothing was "
		    "changed");
	(void)pthread_mutex_lock(&w->lock);
	e->paused = paused;
	queue_call_sender(w);
	(void)pthread_mutex_unlock(&w->lock);
	w->host->log(w->self, GRAPNEL_LOG_NOTICE, "endpoint \"%s\": %s by command", e->name,
	    paused ? "paused" : "resumed");
	text_char(&t, '{');
	put_text(&t, "name", e->name);
	put_bool(&t, "paused", paused);
	answer(to, &t);
	return GRAPNEL_OK;
}

/* ---- dead letters ---------------------------------------------------------------------------- */

struct letters {
	struct job job;
	struct webhook *w;
	struct endpoint *e;
	struct to to;
	bool replay;
	bool full;  /* there was no room for all of them */
	int64_t id; /* 0: all */
	struct text text;
	uint64_t count, more;
};

static bool
show_letter(void *arg, const struct dead_letter *d)
{
	struct letters *l = arg;
	struct text *t = &l->text;
	struct record_view v;

	if (l->count == LETTERS_SHOWN || t->len > LETTERS_BYTES) {
		l->more++;
		return true;
	}
	if (l->count++ > 0)
		text_char(t, ',');
	text_char(t, '{');
	put_number(t, "id", (uint64_t)d->id);
	put_time(t, "refused", d->time_us);
	put_number(t, "status", (uint64_t)d->status);
	put_text(t, "response", d->response);
	json_name(t, "event");
	if (record_read(&v, d->record, d->record_len) > 0)
		event_line(t, &v, PAYLOAD_AUTO);
	else
		text_puts(t, "null");
	text_char(t, '}');
	return true;
}

/* As if it had just happened; the letter goes with the commit that has the event in it. */
static bool
replay_letter(void *arg, const struct dead_letter *d)
{
	struct letters *l = arg;
	struct webhook *w = l->w;
	struct chunk *c;
	bool good;

	c = chunk_of(d->record, d->record_len, 1, w->host->wall_us(), w->host->wall_us());
	if (c == NULL)
		return false;
	(void)pthread_mutex_lock(&w->lock);
	good = queue_has_room(l->e);
	l->full = !good;
	if (!good)
		chunk_free(c);
	else
		good = queue_push(l->e, c);
	if (good) {
		w->replaying = true;
		queue_done_row(w, -d->id);
		l->e->dead--;
		l->count++;
	}
	(void)pthread_mutex_unlock(&w->lock);
	return good;
}

static void
replay(struct letters *l, struct outbox *o)
{
	struct webhook *w = l->w;
	struct text *t = &l->text;
	bool pending, good;

	(void)pthread_mutex_lock(&w->lock);
	pending = w->replaying;
	(void)pthread_mutex_unlock(&w->lock);
	if (pending) { /* they are still in the outbox, and would be sent twice */
		(void)complain(l->to, "the replay before this one is not written yet; try again");
		return;
	}
	good = outbox_dead_each(o, l->e->id, l->id, replay_letter, l);
	if (!good && l->count == 0) {
		(void)complain(l->to, outbox_error(o));
		return;
	}
	if (l->full && l->count == 0) {
		(void)complain(l->to,
		    "there is no room for them beside the events that wait (max_bytes, memory); "
		    "try "
		    "again when there are fewer");
		return;
	}
	w->host->log(w->self, GRAPNEL_LOG_NOTICE,
	    "endpoint \"%s\": %llu dead letters are sent again by command", l->e->name,
	    (unsigned long long)l->count);
	text_char(t, '{');
	put_text(t, "name", l->e->name);
	put_number(t, "replayed", l->count);
	answer(l->to, t);
}

static void
show(struct letters *l, struct outbox *o)
{
	struct text *t = &l->text;

	text_char(t, '{');
	put_text(t, "name", l->e->name);
	json_name(t, "dead_letters");
	text_char(t, '[');
	if (!outbox_dead_each(o, l->e->id, 0, show_letter, l)) {
		text_free(t);
		(void)complain(l->to, outbox_error(o));
		return;
	}
	text_char(t, ']');
	put_number(t, "not_shown", l->more);
	answer(l->to, t);
}

static void
run_letters_job(struct job *job, struct outbox *o)
{
	struct letters *l = (struct letters *)(void *)job;

	if (o == NULL)
		(void)complain(l->to, "the outbox cannot be used now; the broker's log says why");
	else if (l->replay)
		replay(l, o);
	else
		show(l, o);
	free(l);
}

static int
run_letters(struct webhook *w, struct endpoint *e, bool replay, int64_t id, struct to to)
{
	struct letters *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return complain(to, "no memory");
	*l = (struct letters){ .job = { .run = run_letters_job },
		.w = w,
		.e = e,
		.to = to,
		.replay = replay,
		.id = id };
	queue_job(w, &l->job);
	return GRAPNEL_COMMAND_LATER;
}

/* ---- test ------------------------------------------------------------------------------------ */

struct test {
	struct endpoint *e;
	const struct url *url;
	struct to to;
};

static void
on_test_answer(void *arg, const struct curl_answer *a)
{
	struct test *t = arg;
	struct grapnel_str response = { a->body.data,
		a->body.len < RESPONSE_KEPT ? a->body.len : RESPONSE_KEPT };
	struct text text = { 0 };

	text_char(&text, '{');
	put_text(&text, "name", t->e->name);
	put_text(&text, "url", curl_target_name(t->url->target));
	put_bool(&text, "delivered", a->err == GRAPNEL_OK && a->status >= 200 && a->status < 300);
	put_number(&text, "status", (uint64_t)a->status);
	put_text(&text, "error", a->error);
	json_name(&text, "response");
	json_text(&text, response);
	answer(t->to, &text);
	free(t);
}

/* A client that connects: every format has that. */
static void
make_test_event(struct webhook *w, struct record_view *v)
{
	*v = (struct record_view){ .event = { .size = sizeof(v->event),
				       .type = GRAPNEL_EVENT_CLIENT_CONNECTED,
				       .time_us = w->host->wall_us(),
				       .reason = GRAPNEL_STR("a test by command") },
		.client = { .size = sizeof(v->client),
		    .client_id = GRAPNEL_STR(TEST_CLIENT),
		    .peer = GRAPNEL_STR("127.0.0.1:0"),
		    .listener = GRAPNEL_STR("test"),
		    .mountpoint = GRAPNEL_STR(""),
		    .protocol = GRAPNEL_MQTT_5_0 } };
	v->event.client = &v->client;
	(void)pthread_mutex_lock(&w->lock);
	v->event.id = queue_new_id(w);
	(void)pthread_mutex_unlock(&w->lock);
}

static void
send_test(void *arg)
{
	struct test *t = arg;
	struct record_view v;
	struct request r;
	struct curl_call *call = NULL;

	make_test_event(t->e->w, &v);
	t->url = &t->e->urls[0];
	for (unsigned i = 0; i < t->e->url_count && t->url->failures > 0; i++)
		if (t->e->urls[i].failures == 0)
			t->url = &t->e->urls[i];
	if (t->e->loop != NULL && request_make_one(t->e, &v, &r)) {
		call = request_send(t->e, t->url, &r, on_test_answer, t);
		request_free(&r);
	}
	if (call != NULL)
		return;
	(void)complain(t->to, "no memory, or another test is under way");
	free(t);
}

static int
run_test(struct webhook *w, struct endpoint *e, struct to to)
{
	struct test *t = calloc(1, sizeof(*t));
	int err = GRAPNEL_ESTATE;

	if (t == NULL)
		return complain(to, "no memory");
	*t = (struct test){ .e = e, .to = to };
	(void)pthread_mutex_lock(&w->lock);
	if (!w->sender_ended && w->loop != NULL)
		err = own_loop_post(w->loop, send_test, t);
	(void)pthread_mutex_unlock(&w->lock);
	if (err == GRAPNEL_OK)
		return GRAPNEL_COMMAND_LATER;
	free(t);
	return complain(to, "the plugin is not running");
}

/* ---- words ----------------------------------------------------------------------------------- */

static bool
is(struct grapnel_str s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

static bool
read_id(struct grapnel_str s, int64_t *id)
{
	*id = 0;
	for (size_t i = 0; i < s.len; i++) {
		if (s.data[i] < '0' || s.data[i] > '9' || i == 18)
			return false;
		*id = *id * 10 + (s.data[i] - '0');
	}
	return *id > 0;
}

int
command_run(void *webhook, const struct grapnel_command *command, reply_fn reply, void *ctx)
{
	static const char usage[] =
	    "say: status [ENDPOINT], dead-letters ENDPOINT, replay ENDPOINT [ID], "
	    "pause ENDPOINT, resume ENDPOINT or test ENDPOINT";
	struct webhook *w = webhook;
	struct to to = { reply, ctx };
	const struct grapnel_str *a = command->arguments;
	size_t n = command->argument_count;
	struct endpoint *e = NULL;
	int64_t id = 0;

	if (n == 0)
		return complain(to, usage);
	if (n > 1 && (e = endpoint_named(w, a[1])) == NULL)
		return complain(to, "there is no endpoint of that name");
	if (is(a[0], "status") && n <= 2)
		return run_status(w, e, to);
	if (n == 3 && is(a[0], "replay") && !read_id(a[2], &id))
		return complain(to, "an ID is a number that dead-letters shows");
	if (e == NULL || n > 3 || (n == 3 && !is(a[0], "replay")))
		return complain(to, usage);
	if (is(a[0], "dead-letters") || is(a[0], "replay"))
		return run_letters(w, e, is(a[0], "replay"), id, to);
	if (is(a[0], "pause") || is(a[0], "resume"))
		return run_pause(w, e, is(a[0], "pause"), to);
	if (is(a[0], "test"))
		return run_test(w, e, to);
	return complain(to, usage);
}
