/* SPDX-License-Identifier: Apache-2.0 */
/*
 * switch - plugins start, change and stop on running workers
 *
 * A transition visits every worker by mail and comes back to main: start the fresh instances;
 * when all could, install the new chains; then the instances that are gone leave each worker in
 * their own time (state.c) and are destroyed here.
 */
#include "base/log.h"
#include "core/broker.h"
#include "plugins.h"
#include "request.h"
#include "services.h"
#include <sched.h>
#include <stdlib.h>
#include <string.h>

struct transition;

struct visit {
	struct mail mail;
	struct transition *t;
	unsigned worker;
	int err;
};

struct transition {
	struct plugins *old, *neu; /* old NULL: start-up */
	unsigned left;             /* visits under way */
	int err;
	void (*done)(void *arg, int err);
	void *arg;
	struct visit visits[];
};

static void
visit_post(struct transition *t, void (*fn)(struct worker *w, struct mail *m))
{
	struct broker *b = t->neu->registry->broker;

	t->left = b->worker_count;
	for (unsigned i = 0; i < b->worker_count; i++) {
		t->visits[i].t = t;
		t->visits[i].worker = i;
		t->visits[i].mail.fn = fn;
		worker_post(b->workers[i], &t->visits[i].mail);
	}
}

static void
visit_return(struct worker *w, struct visit *v, void (*fn)(struct worker *w, struct mail *m))
{
	v->mail.fn = fn;
	worker_post(w->broker->main, &v->mail);
}

static struct transition *
transition_new(struct plugins *old, struct plugins *neu)
{
	struct transition *t =
	    calloc(1, sizeof(*t) + neu->registry->broker->worker_count * sizeof(t->visits[0]));

	if (t != NULL) {
		t->old = old;
		t->neu = neu;
	}
	return t;
}

/* ---- instances that go ----------------------------------------------------------------------- */

static bool
set_has(const struct plugins *p, const struct instance *in)
{
	for (unsigned i = 0; p != NULL && i < p->count; i++) {
		if (p->entries[i].in == in)
			return true;
	}
	return false;
}

/* A set that lost is kept until none of its own instances runs any more. */
static void
set_look(struct registry *r)
{
	struct plugins **at = &r->draining, *p;

	while ((p = *at) != NULL) {
		bool drained = true;

		for (unsigned i = 0; i < p->count; i++)
			drained = drained && !p->entries[i].in->retiring;
		if (!drained) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		plugins_free(p);
	}
}

static void
all_stopped(struct registry *r)
{
	void (*done)(void *arg) = r->all_stopped;

	if (done == NULL || r->running > 0)
		return;
	r->all_stopped = NULL;
	done(r->all_stopped_arg);
}

void
switch_on_instance_stopped(struct registry *r, struct instance *in)
{
	log_debug("plugin \"%s\": instance %u has left all workers", in->name, in->number);
	r->running--;
	r->refs++; /* freeing the last set must not free it under us */
	set_look(r);
	all_stopped(r);
	registry_unref(r);
}

struct leave {
	struct mail mail;
	struct instance *in;
};

static void
leave_on_mail(struct worker *w, struct mail *m)
{
	struct leave *l = (struct leave *)(void *)m;

	retire_begin(w->hooks, &l->in->workers[w->index]);
	free(l);
}

/* Tell every worker that an instance goes. */
static void
instance_retire(struct instance *in)
{
	if (!in->running || in->retiring)
		return;
	in->retiring = true;
	in->workers_left = in->worker_count;
	for (unsigned i = 0; i < in->worker_count; i++) {
		struct leave *l;

		while ((l = malloc(sizeof(*l))) == NULL)
			sched_yield(); /* 40 bytes, at a reload: there is no good way on without */
		l->mail.fn = leave_on_mail;
		l->in = in;
		worker_post(in->broker->workers[i], &l->mail);
	}
}

/* `gone` is in force no more; what `kept` does not have of it leaves. Takes over gone. */
static void
set_retire(struct plugins *gone, const struct plugins *kept)
{
	struct registry *r = gone->registry;

	for (unsigned i = 0; i < gone->count; i++) {
		if (!set_has(kept, gone->entries[i].in))
			instance_retire(gone->entries[i].in);
	}
	gone->next = r->draining;
	r->draining = gone;
	r->refs++;
	set_look(r);
	registry_unref(r);
}

/* ---- starting -------------------------------------------------------------------------------- */

static void start_on_return(struct worker *w, struct mail *m);

static void
start_on_worker(struct worker *w, struct mail *m)
{
	struct visit *v = (struct visit *)(void *)m;
	const struct plugins *p = v->t->neu;

	for (unsigned i = 0; i < p->count; i++) {
		int err;

		if (!p->entries[i].fresh)
			continue;
		err = instance_start(p->entries[i].in, w);
		if (err != GRAPNEL_OK)
			v->err = err;
	}
	visit_return(w, v, start_on_return);
}

static void
set_running(struct plugins *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		struct instance *in = p->entries[i].in;

		if (in->running)
			continue;
		in->running = true;
		p->registry->running++;
	}
}

static void
set_settled(struct plugins *p)
{
	for (unsigned i = 0; i < p->count; i++)
		p->entries[i].fresh = false;
}

static int
main_install(struct plugins *p)
{
	struct worker *main = p->registry->broker->main;
	unsigned n = p->registry->broker->worker_count;
	int err;

	if (main == NULL)
		return GRAPNEL_OK;
	if (main->hooks == NULL && (err = hooks_new(main)) != GRAPNEL_OK)
		return err;
	/*
	 * Of instances main only needs to know what they want to see: it has no part in their
	 * counts.
	 */
	chain_set_unref(main->hooks->set);
	main->hooks->set = p->sets[n];
	p->sets[n] = NULL;
	events_update_mask(main->hooks);
	return GRAPNEL_OK;
}

int
plugins_start(struct plugins *p)
{
	struct broker *b = p->registry->broker;
	struct transition *t = transition_new(NULL, p);
	int err;

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	for (unsigned i = 0; i < b->worker_count; i++) {
		if (b->workers[i]->hooks == NULL &&
		    (err = hooks_new(b->workers[i])) != GRAPNEL_OK) {
			free(t);
			return err;
		}
	}
	if ((err = main_install(p)) != GRAPNEL_OK) {
		free(t);
		return err;
	}
	/* At once, so that no client can come before there is somebody to ask. */
	for (unsigned i = 0; i < b->worker_count; i++) {
		chains_install(b->workers[i]->hooks, p->sets[i]);
		p->sets[i] = NULL;
	}
	set_running(p);
	p->started = true;
	visit_post(t, start_on_worker);
	return GRAPNEL_OK;
}

void
plugins_ready(struct plugins *p, void (*ready)(void *arg, int err), void *arg)
{
	if (p->ready_known) {
		ready(arg, p->ready_err);
		return;
	}
	p->ready = ready;
	p->ready_arg = arg;
}

/* ---- a reload -------------------------------------------------------------------------------- */

static void
transition_end(struct transition *t)
{
	void (*done)(void *arg, int err) = t->done;
	void *arg = t->arg;
	int err = t->err;

	if (err == GRAPNEL_OK)
		set_retire(t->old, t->neu);
	else
		set_retire(t->neu, t->old);
	free(t);
	done(arg, err);
}

static void
switch_on_return(struct worker *w, struct mail *m)
{
	struct transition *t = ((struct visit *)(void *)m)->t;

	(void)w;
	if (--t->left == 0)
		transition_end(t);
}

static void
switch_on_worker(struct worker *w, struct mail *m)
{
	struct visit *v = (struct visit *)(void *)m;
	struct plugins *p = v->t->neu;

	if (w->hooks->stopping) /* shutdown overtook the reload */
		chain_set_unref(p->sets[w->index]);
	else
		chains_install(w->hooks, p->sets[w->index]);
	p->sets[w->index] = NULL;
	core_handlers_changed(w);
	visit_return(w, v, switch_on_return);
}

static void
start_on_return(struct worker *w, struct mail *m)
{
	struct visit *v = (struct visit *)(void *)m;
	struct transition *t = v->t;
	struct plugins *p = t->neu;

	(void)w;
	if (v->err != GRAPNEL_OK)
		t->err = v->err;
	if (--t->left > 0)
		return;
	if (t->old != NULL) { /* reload */
		if (t->err == GRAPNEL_OK)
			t->err = main_install(p);
		if (t->err != GRAPNEL_OK) {
			transition_end(t);
			return;
		}
		set_settled(p);
		plugins_apply_limits(p);
		visit_post(t, switch_on_worker);
		return;
	}
	set_settled(p);
	p->ready_known = true;
	p->ready_err = t->err;
	free(t);
	if (p->ready != NULL)
		p->ready(p->ready_arg, p->ready_err);
}

void
plugins_switch(
    struct plugins *old, struct plugins *neu, void (*done)(void *arg, int err), void *arg)
{
	struct transition *t = transition_new(old, neu);

	if (t == NULL) {
		log_error("plugins: out of memory; the old ones go on");
		plugins_free(neu);
		done(arg, GRAPNEL_ENOMEM);
		return;
	}
	t->done = done;
	t->arg = arg;
	set_running(neu);
	neu->started = neu->ready_known = true;
	visit_post(t, start_on_worker);
}

/* ---- the end --------------------------------------------------------------------------------- */

static void
stop_on_worker(struct worker *w, struct mail *m)
{
	struct hook_state *hs = w->hooks;
	struct chain_set *none = calloc(1, sizeof(*none));

	if (none != NULL) { /* else the grace period ends it */
		none->refs = 1;
		chains_install(hs, none);
	}
	hs->stopping = true;
	for (unsigned i = 0; i < INSTANCE_MAX; i++) {
		if (hs->by_number[i] == NULL)
			continue;
		if (hs->by_number[i]->state == INSTANCE_RETIRING)
			offload_cancel_all(hs->by_number[i]->in->registry->pool, hs->by_number[i]);
		else
			retire_begin(hs, hs->by_number[i]);
	}
	if (hs->retiring == NULL)
		dns_close(hs);
	w->again = true; /* hooks_flush looks after the others, and closes the resolver then */
	free(m);
}

static void
stopped_on_mail(struct worker *w, struct mail *m)
{
	struct registry *r =
	    (struct registry *)(void *)((char *)m - offsetof(struct registry, stopped_mail));

	(void)w;
	all_stopped(r);
}

void
plugins_stop(struct plugins *p, void (*done)(void *arg), void *arg)
{
	struct registry *r = p->registry;
	struct broker *b = r->broker;

	r->all_stopped = done;
	r->all_stopped_arg = arg;
	for (unsigned i = 0; i < INSTANCE_MAX; i++) { /* not only p's: a reload may be under way */
		struct instance *in = r->by_number[i];

		if (in != NULL && in->running && !in->retiring) {
			in->retiring = true;
			in->workers_left = in->worker_count;
		}
	}
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct mail *m;

		if (b->workers[i]->hooks == NULL)
			continue;
		while ((m = malloc(sizeof(*m))) == NULL)
			sched_yield();
		m->fn = stop_on_worker;
		worker_post(b->workers[i], m);
	}
	/* When there is nobody to wait for, done comes with a mail all the same. */
	r->stopped_mail.fn = stopped_on_mail;
	worker_post(b->main, &r->stopped_mail);
}
