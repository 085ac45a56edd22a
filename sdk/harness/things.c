/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a plugin makes on a worker and has to give back: watches, timers, subscriptions, look-ups, jobs. A handle is the address
 * of a struct thing that is kept to the end of the run, so that one that is used too late is told from one that never was.
 */
#include "inside.h"
#include "mqtt/topic.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[] = {
	[THING_WATCH] = "watch",
	[THING_TIMER] = "timer",
	[THING_SUB] = "subscription",
	[THING_LOOKUP] = "look-up",
	[THING_JOB] = "job",
};

static const char *
call_of(const struct origin *o)
{
	return o->call != NULL ? o->call : "the plugin";
}

struct thing *
thing_new(struct plug *p, enum thing_kind kind, void *arg)
{
	struct thing *t = calloc(1, sizeof(*t));
	harness *h = p->h;

	if (t == NULL)
		return NULL;
	t->h = h;
	t->kind = kind;
	t->plug = p;
	t->worker = (unsigned)worker_here();
	t->made = origin_now(h);
	t->arg = arg;
	pthread_mutex_lock(&h->lock);
	t->order = ++h->order;
	t->next = h->things;
	h->things = t;
	pthread_mutex_unlock(&h->lock);
	return t;
}

struct thing *
thing_of(harness *h, const void *handle, enum thing_kind kind, const char *function)
{
	struct thing *t;

	pthread_mutex_lock(&h->lock);
	for (t = h->things; t != NULL && (const void *)t != handle; t = t->next)
		continue;
	pthread_mutex_unlock(&h->lock);
	if (t == NULL || t->kind != kind) {
		finding(h, "bad handle: %s was given %p, which is no %s", function, handle,
		    kind_names[kind]);
		return NULL;
	}
	if (worker_here() != (int)t->worker) {
		finding(h,
		    "wrong thread: %s of a %s of worker %u (made in %s, line %d) on another "
		    "thread",
		    function, kind_names[kind], t->worker, call_of(&t->made), t->made.line);
		return NULL;
	}
	if (t->gone) {
		finding(h,
		    "use after free: %s of a %s (made in %s, line %d) that was given back in %s, "
		    "line %d",
		    function, kind_names[kind], call_of(&t->made), t->made.line, call_of(&t->ended),
		    t->ended.line);
		return NULL;
	}
	return t;
}

void
thing_end(struct thing *t)
{
	t->gone = true;
	t->armed = false;
	t->ended = origin_now(t->h);
}

bool
things_busy(const struct plug *p, unsigned worker)
{
	harness *h = p->h;
	bool busy = false;

	pthread_mutex_lock(&h->lock);
	for (const struct thing *t = h->things; t != NULL && !busy; t = t->next)
		busy = t->plug == p && t->worker == worker && !t->gone && t->kind == THING_JOB;
	for (const struct posted *c = h->workers[worker].posts; c != NULL && !busy; c = c->next)
		busy = c->plug == p;
	pthread_mutex_unlock(&h->lock);
	return busy;
}

void
things_leaked(struct plug *p, unsigned worker)
{
	for (struct thing *t = p->h->things; t != NULL; t = t->next) {
		char more[80] = "";

		if (t->plug != p || t->worker != worker || t->gone)
			continue;
		if (t->kind == THING_WATCH)
			snprintf(more, sizeof(more), " of descriptor %d", t->fd);
		else if (t->kind == THING_SUB)
			snprintf(more, sizeof(more), " of \"%.60s\"", t->filter);
		finding(p->h,
		    "leak: a %s%s, made in %s (line %d), is still there after worker_stop "
		    "of worker %u",
		    kind_names[t->kind], more, call_of(&t->made), t->made.line, worker);
		thing_end(t);
	}
}

void
things_free(harness *h)
{
	struct thing *t;

	while ((t = h->things) != NULL) {
		h->things = t->next;
		free(t->filter);
		free(t->addresses);
		free(t);
	}
}

/* ---- calls to a worker -------------------------------------------------------------------------- */

int
posted_add(harness *h, unsigned worker, struct plug *p, const char *call, grapnel_call_fn fn,
    void *arg, bool always)
{
	struct sim_worker *w = &h->workers[worker];
	struct posted *c = malloc(sizeof(*c));

	if (c == NULL)
		return GRAPNEL_ENOMEM;
	*c = (struct posted){ NULL, p, fn, arg, call, always };
	pthread_mutex_lock(&h->lock);
	if (w->posts == NULL)
		w->posts_end = &w->posts;
	*w->posts_end = c;
	w->posts_end = &c->next;
	pthread_mutex_unlock(&h->lock);
	wake(h);
	return GRAPNEL_OK;
}

/* ---- messages for subscriptions ------------------------------------------------------------------ */

struct delivery {
	struct thing *sub;
	struct region *region;
	struct grapnel_message_info *message;
};

/* On the worker of the subscription. */
static void
delivery_run(void *arg)
{
	struct delivery *d = arg;
	struct thing *t = d->sub;

	if (!t->gone && t->plug->workers[t->worker].started) {
		struct call c;

		call_begin(&c, t->plug, "message callback");
		t->message_fn(t->arg, d->message);
		call_end(&c);
	}
	region_take(d->region);
	free(d);
}

static struct delivery *
delivery_new(struct thing *t, const struct grapnel_message_info *m)
{
	struct delivery *d = calloc(1, sizeof(*d));
	struct layout l = { NULL, 0 };
	struct grapnel_message_info scratch;

	if (d == NULL)
		return NULL;
	layout_message(&l, m, &scratch);
	d->sub = t;
	d->region = region_new(t->h, sizeof(scratch) + l.len, "the message of a subscription");
	if (d->region == NULL) {
		free(d);
		return NULL;
	}
	d->message = d->region->at;
	l.p = (char *)(d->message + 1);
	l.len = 0;
	layout_message(&l, m, d->message);
	return d;
}

void
things_publish(harness *h, const struct grapnel_message_info *m)
{
	struct thing *first;

	pthread_mutex_lock(&h->lock);
	first = h->things;
	pthread_mutex_unlock(&h->lock);
	for (struct thing *t = first; t != NULL; t = t->next) {
		struct grapnel_str filter = { t->filter,
			t->filter != NULL ? strlen(t->filter) : 0 };
		struct delivery *d;

		if (t->kind != THING_SUB || t->gone || !topic_matches(filter, m->topic_name) ||
		    (d = delivery_new(t, m)) == NULL)
			continue;
		if (posted_add(h, t->worker, t->plug, NULL, delivery_run, d, true) != GRAPNEL_OK) {
			region_take(d->region);
			free(d);
		}
	}
}
