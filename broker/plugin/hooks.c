/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks.h"
#include "base/log.h"
#include "core/broker.h"
#include "policy.h"
#include "request.h"
#include "trace.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ASKS_KEPT          256u
#define DEFAULT_TIMEOUT_MS 10000u

/* ALLOW and NEXT both hand on, and the end of the chain is ALLOW. */
static bool
hook_passes_on(enum hook h)
{
	return h == HOOK_PUBLISH || h == HOOK_SUBSCRIBE || h == HOOK_UNSUBSCRIBE ||
	    h == HOOK_DELIVER || h == HOOK_ACKNOWLEDGE;
}

/* ---- asks ------------------------------------------------------------------------------------ */

struct ask *
ask_new(struct hook_state *hs, enum hook h)
{
	struct ask *a = hs->free_asks;

	if (a != NULL) {
		hs->free_asks = a->next_free;
		hs->free_ask_count--;
	} else if ((a = malloc(sizeof(*a))) == NULL) {
		return NULL;
	}
	/* Not the whole of it: steps and space are large and need no first value. */
	a->hs = hs;
	a->hook = h;
	a->set = hs->set;
	a->set->refs++;
	a->entries = hs->set->chains[h].entries;
	a->position = 0;
	a->end = hs->set->chains[h].length;
	a->fn = NULL;
	a->arg = NULL;
	a->question = NULL;
	a->waiting = NULL;
	a->answers = a->deciding = NULL;
	a->changed = a->finished = a->space_used = false;
	a->keyed = a->leading = a->alone = a->dry = a->shadow = a->single = false;
	a->landing = NULL;
	a->required = (struct required){ 0 };
	a->how = STEP_ASKED;
	a->age_ms = 0;
	a->verdict = GRAPNEL_NEXT;
	a->plugin = NULL;
	a->step_count = 0;
	a->deadline.link = NULL;
	return a;
}

void
ask_free(struct ask *a)
{
	struct hook_state *hs = a->hs;
	struct answer *answer;

	while ((answer = a->answers) != NULL) {
		a->answers = answer->next;
		answer_free(answer);
	}
	question_unref(&hs->questions, a->question);
	chain_set_unref(a->set);
	if (hs->free_ask_count < ASKS_KEPT) {
		a->next_free = hs->free_asks;
		hs->free_asks = a;
		hs->free_ask_count++;
	} else {
		free(a);
	}
}

void *
ask_space(struct ask *a)
{
	return a->space_used ? NULL : a->space;
}

void
ask_decision(struct ask *a, struct decision *d)
{
	const struct answer *answer = a->deciding;

	a->finished = true;
	ask_record(a);
	if (a->set->chains[a->hook].shadow_count > 0 && !a->shadow && !a->dry)
		shadows_ask(a);
	memset(d, 0, sizeof(*d));
	d->verdict = a->verdict;
	d->plugin = a->plugin;
	d->auth = &answer_no_auth;
	d->acl = &answer_no_acl;
	d->publish = &answer_no_publish;
	d->subscribe = &answer_no_subscribe;
	d->ack = &answer_no_ack;
	d->psk = &answer_no_psk;
	d->steps = a->steps;
	d->step_count = a->step_count;
	d->request = (struct grapnel_request *)(void *)a;
	/* What was changed on the way counts only when it passes. */
	if (a->changed && a->verdict == GRAPNEL_ALLOW) {
		if (answer_kind(a->hook) == ANSWER_PUBLISH)
			d->publish = &a->merged.publish;
		else
			d->subscribe = &a->merged.subscribe;
		return;
	}
	if (answer == NULL)
		return;
	d->answered = true;
	switch (answer->kind) {
	case ANSWER_AUTH:
		d->auth = &answer->u.auth;
		break;
	case ANSWER_ACL:
		d->acl = &answer->u.acl;
		break;
	case ANSWER_PUBLISH:
		d->publish = &answer->u.publish;
		break;
	case ANSWER_SUBSCRIBE:
		d->subscribe = &answer->u.subscribe;
		break;
	case ANSWER_ACK:
		d->ack = &answer->u.ack;
		break;
	case ANSWER_PSK:
		d->psk = &answer->u.psk;
		break;
	}
}

/* An ask that had to wait is decided. */
static void
ask_deliver(struct ask *a)
{
	struct decision d;

	ask_decision(a, &d);
	a->fn(a->arg, &d);
	ask_free(a);
}

/* ---- what an answer does to the question ----------------------------------------------------- */

static void
merge_publish(struct grapnel_publish_answer *m, const struct grapnel_publish_answer *a)
{
	m->drop |= a->drop;
	if (a->has_retain) {
		m->has_retain = true;
		m->retain = a->retain;
	}
	if (a->has_qos) {
		m->has_qos = true;
		m->qos = a->qos;
	}
	if (a->has_properties) {
		m->has_properties = true;
		m->properties = a->properties;
		m->property_count = a->property_count;
	}
	if (a->reason_string.data != NULL)
		m->reason_string = a->reason_string;
	if (a->topic_name.data != NULL)
		m->topic_name = a->topic_name;
	if (a->payload.data != NULL)
		m->payload = a->payload;
}

/* Take over what a plugin changed, so that the next one sees it. false: no memory. */
static bool
ask_merge(struct ask *a, const struct answer *answer)
{
	struct question *changed;

	if (answer->kind == ANSWER_PUBLISH) {
		if (!a->changed)
			a->merged.publish = answer_no_publish;
		merge_publish(&a->merged.publish, &answer->u.publish);
		if (a->hook == HOOK_DELIVER)
			a->merged.publish.has_qos = false; /* message_publish only */
		a->changed = true;
		if (a->position >= a->end || a->merged.publish.drop)
			return true;
		changed = question_published(&a->hs->questions, a->question, &answer->u.publish);
	} else if (answer->kind == ANSWER_SUBSCRIBE) {
		if (!a->changed)
			a->merged.subscribe = answer_no_subscribe;
		a->changed = true;
		if (answer->u.subscribe.has_qos) {
			a->merged.subscribe.has_qos = true;
			a->merged.subscribe.qos = answer->u.subscribe.qos;
		}
		if (answer->u.subscribe.filter.data != NULL)
			a->merged.subscribe.filter = answer->u.subscribe.filter;
		if (answer->u.subscribe.reason_string.data != NULL)
			a->merged.subscribe.reason_string = answer->u.subscribe.reason_string;
		if (a->position >= a->end)
			return true;
		changed = question_subscribed(&a->hs->questions, a->question, &answer->u.subscribe);
	} else {
		return true;
	}
	if (changed == NULL)
		return false;
	question_unref(&a->hs->questions, a->question);
	a->question = changed;
	return true;
}

/*
 * One step is over; answer is taken. a->position is already at the next one.
 * @return true: the ask is decided.
 */
static bool
ask_take(struct ask *a, const struct chain_entry *e, enum grapnel_verdict verdict,
    struct answer *answer, uint64_t microseconds)
{
	struct instance *in = e->iw->in;
	const enum grapnel_verdict asked_verdict = verdict;

	if (answer != NULL) {
		answer->next = a->answers;
		a->answers = answer;
	}
	ask_step(a, in, verdict, microseconds, answer);
	if (verdict == GRAPNEL_UNAVAILABLE && e->on_error != ON_ERROR_UNAVAILABLE)
		verdict = e->on_error == ON_ERROR_NEXT ? GRAPNEL_NEXT : GRAPNEL_DENY;
	if (asked_verdict == GRAPNEL_UNAVAILABLE)
		answer = NULL; /* what a plugin in trouble attached is no answer */
	if (e->group != NULL && !a->single)
		return require_take(a, e, verdict, answer);
	if (verdict == GRAPNEL_UNAVAILABLE) {
		a->verdict = verdict;
		a->plugin = in->name;
		a->deciding = NULL;
		a->changed = false;
		return true;
	}
	if (verdict == GRAPNEL_NEXT)
		return false; /* "not mine": nor is what it may have attached */
	if (verdict == GRAPNEL_ALLOW && hook_passes_on(a->hook)) {
		a->plugin = in->name;
		if (answer == NULL)
			return false;
		if (!ask_merge(a, answer)) {
			a->verdict = GRAPNEL_UNAVAILABLE;
			a->changed = false;
			return true;
		}
		if (answer->kind == ANSWER_PUBLISH && a->merged.publish.drop) {
			a->verdict =
			    GRAPNEL_ALLOW; /* nobody after it need look at what is forgotten */
			return true;
		}
		return false;
	}
	if (asked_verdict == GRAPNEL_UNAVAILABLE)
		a->changed = false;
	a->verdict = verdict;
	a->plugin = in->name;
	a->deciding = answer;
	return true;
}

bool
ask_answered(struct ask *a, const struct chain_entry *e, bool asked, enum grapnel_verdict verdict,
    struct answer *answer, uint64_t microseconds)
{
	policy_after(a, e, asked, &verdict, &answer);
	return ask_take(a, e, verdict, answer, microseconds);
}

void
ask_go_on(struct ask *a, bool decided)
{
	if (decided || ask_run(a))
		ask_deliver(a);
}

/* ---- calling a hook -------------------------------------------------------------------------- */

static int
hook_call(const struct instance *in, enum hook h, struct grapnel_request *handle,
    const struct question *q)
{
	const struct grapnel_plugin *p = in->plugin;

	switch (h) {
	case HOOK_AUTHENTICATE:
		return (int)p->client_authenticate(in->state, handle, &q->u.authenticate);
	case HOOK_AUTH_EXCHANGE:
		return (int)p->client_auth_exchange(in->state, handle, &q->u.exchange);
	case HOOK_REVALIDATE:
		return (int)p->client_revalidate(in->state, handle, &q->u.revalidate);
	case HOOK_ACL:
		return (int)p->acl_check(in->state, handle, &q->u.acl);
	case HOOK_PUBLISH:
		return (int)p->message_publish(in->state, handle, &q->u.publish);
	case HOOK_SUBSCRIBE:
		return (int)p->client_subscribe(in->state, handle, &q->u.subscribe);
	case HOOK_UNSUBSCRIBE:
		return (int)p->client_unsubscribe(in->state, handle, &q->u.subscribe);
	case HOOK_DELIVER:
		return (int)p->message_deliver(in->state, handle, &q->u.deliver);
	case HOOK_ACKNOWLEDGE:
		return (int)p->message_acknowledge(in->state, handle, &q->u.acknowledge);
	case HOOK_TLS_PSK:
		return (int)p->tls_psk_key(in->state, handle, &q->u.psk);
	case HOOK_COUNT:
		break;
	}
	return GRAPNEL_NEXT;
}

static uint32_t
entry_timeout(const struct hook_state *hs, const struct chain_entry *e)
{
	const struct limits *limits;

	if (e->timeout_ms != 0)
		return e->timeout_ms;
	limits = atomic_load_explicit(&hs->w->broker->limits, memory_order_acquire);
	return limits != NULL && limits->auth_timeout_ms != 0 ? limits->auth_timeout_ms
							      : DEFAULT_TIMEOUT_MS;
}

static void
ask_on_deadline(struct timer *t, void *owner)
{
	struct ask *a = (struct ask *)(void *)((char *)t - offsetof(struct ask, deadline));
	struct request *r = a->waiting;
	const struct chain_entry *e = &a->entries[a->position - 1];
	struct instance_worker *iw = r->iw;
	struct hook_stats *stats = &iw->stats.hooks[a->hook];
	uint64_t entered = plugin_enter(), took = entered - r->started_us;

	(void)owner;
	if (!request_move(r, REQUEST_PENDING, REQUEST_CANCELLED))
		return; /* resolved at the last moment: its mail is on the way */
	/*
	 * What the plugin keeps must not name a client that may go before it gives the request
	 * back.
	 */
	if (a->position < a->end) {
		question_unref(&a->hs->questions, a->question);
		a->question = question_new(&a->hs->questions, a->hook, &r->question->u);
	}
	r->question->client.client = NULL;
	r->ask = NULL;
	a->waiting = NULL;
	stats_add(&stats->timeouts, 1);
	stats_answer(stats, GRAPNEL_UNAVAILABLE, took);
	log_warning("plugin \"%s\": %s was not answered within %" PRIu64 " ms", iw->in->name,
	    hook_name(a->hook), took / 1000);
	if (instance_callable(iw) && iw->in->plugin->request_cancelled != NULL) {
		iw->in->plugin->request_cancelled(iw->in->state, request_handle(r));
		plugin_leave(iw, entered, "request_cancelled");
	}
	ask_go_on(a, ask_answered(a, e, true, GRAPNEL_UNAVAILABLE, NULL, took));
}

/* The plugin has the request now, until it resolves it. */
static void
ask_wait(struct ask *a, struct request *r, uint32_t timeout_ms)
{
	a->waiting = r;
	r->iw->requests++;
	atomic_fetch_add_explicit(&r->iw->in->pending, 1, memory_order_relaxed);
	stats_add(&r->iw->stats.hooks[a->hook].answers[GRAPNEL_PENDING], 1);
	timer_init(&a->deadline, ask_on_deadline);
	timer_arm(a->hs->w->wheel, &a->deadline, r->started_us / 1000 + timeout_ms);
}

/* An answer that will not be used. */
static void
ask_drop(struct ask *a, struct answer *answer)
{
	if (answer != NULL && !answer->heap)
		a->space_used = false;
	answer_free(answer);
}

enum outcome { OUTCOME_WAITS, OUTCOME_NEXT, OUTCOME_DECIDED };

/* Ask one instance. */
static enum outcome
ask_one(struct ask *a, const struct chain_entry *e)
{
	struct hook_state *hs = a->hs;
	struct instance_worker *iw = e->iw;
	struct instance *in = iw->in;
	struct hook_stats *stats = &iw->stats.hooks[a->hook];
	struct request *r = NULL, *outer = hs->in_hook;
	struct answer *answer;
	uint32_t timeout_ms = entry_timeout(hs, e);
	uint64_t entered, took;
	enum grapnel_verdict known;
	int verdict;

	if (!listeners_concern(e->listeners, &a->question->client)) {
		a->how = STEP_OTHER_LISTENER;
		ask_step(a, in, GRAPNEL_NEXT, 0, NULL);
		return e->group != NULL && !a->single && require_pass_by(a, e) ? OUTCOME_DECIDED
									       : OUTCOME_NEXT;
	}
	switch (policy_before(a, e, timeout_ms, &known, &answer)) {
	case POLICY_ASK:
		break;
	case POLICY_ANSWER:
		return ask_take(a, e, known, answer, 0) ? OUTCOME_DECIDED : OUTCOME_NEXT;
	case POLICY_WAIT:
		return OUTCOME_WAITS;
	}
	entered = plugin_enter();
	if (instance_callable(iw) &&
	    atomic_load_explicit(&in->pending, memory_order_relaxed) <
		atomic_load_explicit(&in->max_pending, memory_order_relaxed))
		r = request_new(hs, iw, a->hook, a->question, entered / 1000 + timeout_ms);
	if (r == NULL) {
		stats_add(&stats->refused, 1);
		stats_add(&stats->answers[GRAPNEL_UNAVAILABLE], 1);
		return ask_answered(a, e, false, GRAPNEL_UNAVAILABLE, NULL, 0) ? OUTCOME_DECIDED
									       : OUTCOME_NEXT;
	}
	r->ask = a;
	r->started_us = entered;
	hs->in_hook = r;
	verdict = hook_call(in, a->hook, request_handle(r), a->question);
	hs->in_hook = outer;
	took = plugin_leave(iw, entered, hook_name(a->hook));
	answer = r->attached;
	r->attached = NULL;
	if (verdict == GRAPNEL_PENDING || !request_move(r, REQUEST_IN_HOOK, REQUEST_FREE)) {
		if (verdict != GRAPNEL_PENDING)
			log_error("plugin \"%s\": %s resolved its request and returned %s; only "
				  "what it resolved counts",
			    in->name, hook_name(a->hook), verdict_name(verdict));
		ask_drop(a, answer);
		if (!r->inline_resolved) {
			/* It fails when another thread was faster: its mail comes. */
			if (verdict == GRAPNEL_PENDING)
				(void)request_move(r, REQUEST_IN_HOOK, REQUEST_PENDING);
			ask_wait(a, r, timeout_ms);
			return OUTCOME_WAITS;
		}
		verdict = (int)r->verdict;
		answer = r->answer;
		r->answer = NULL;
	} else if (verdict != GRAPNEL_ALLOW && verdict != GRAPNEL_DENY && verdict != GRAPNEL_NEXT &&
	    verdict != GRAPNEL_UNAVAILABLE) {
		log_error(
		    "plugin \"%s\": %s returned %d, which is no verdict; taken as unavailable",
		    in->name, hook_name(a->hook), verdict);
		stats_add(&stats->answers[0], 1);
		verdict = GRAPNEL_UNAVAILABLE;
		ask_drop(a, answer);
		answer = NULL;
	}
	request_release(r);
	stats_answer(stats, (enum grapnel_verdict)verdict, took);
	return ask_answered(a, e, true, (enum grapnel_verdict)verdict, answer, took)
	    ? OUTCOME_DECIDED
	    : OUTCOME_NEXT;
}

bool
ask_run(struct ask *a)
{
	while (a->position < a->end) {
		const struct chain_entry *e = &a->entries[a->position++];

		if (a->question == NULL) { /* no memory for a copy */
			a->verdict = GRAPNEL_UNAVAILABLE;
			a->changed = false;
			return true;
		}
		switch (ask_one(a, e)) {
		case OUTCOME_WAITS:
			return false;
		case OUTCOME_DECIDED:
			return true;
		case OUTCOME_NEXT:
			break;
		}
	}
	a->verdict = hook_passes_on(a->hook) ? GRAPNEL_ALLOW : GRAPNEL_NEXT;
	return true;
}

void
ask_on_mail(struct worker *w, struct mail *m)
{
	struct request *r = (struct request *)(void *)((char *)m - offsetof(struct request, mail));
	struct ask *a = r->ask;
	const struct chain_entry *e;
	struct answer *answer = r->answer;
	enum grapnel_verdict verdict = r->verdict;
	uint64_t took = plugin_enter() - r->started_us;

	r->iw->requests--;
	atomic_fetch_sub_explicit(&r->iw->in->pending, 1, memory_order_relaxed);
	if (a == NULL) { /* the client left, or the deadline passed */
		request_release(r);
		return;
	}
	timer_disarm(w->wheel, &a->deadline);
	a->waiting = NULL;
	r->answer = NULL;
	stats_answer(&r->iw->stats.hooks[a->hook], verdict, took);
	request_release(r);
	e = &a->entries[a->position - 1];
	ask_go_on(a, ask_answered(a, e, true, verdict, answer, took));
}

/* ---- what the core calls --------------------------------------------------------------------- */

/* A decision that no plugin had a part in. */
static bool
decide_without(struct decision *d, enum grapnel_verdict verdict)
{
	memset(d, 0, sizeof(*d));
	d->verdict = verdict;
	d->auth = &answer_no_auth;
	d->acl = &answer_no_acl;
	d->publish = &answer_no_publish;
	d->subscribe = &answer_no_subscribe;
	d->ack = &answer_no_ack;
	d->psk = &answer_no_psk;
	return true;
}

/* Nobody but the instance of that name, or the `require` group. */
static void
ask_only(struct ask *a, const char *only)
{
	for (; a->position < a->end; a->position++) {
		const struct chain_entry *e = &a->entries[a->position];

		if (e->group != NULL && strcmp(e->group->name, only) == 0) {
			for (a->end = a->position + 1; !a->entries[a->end - 1].last; a->end++)
				;
			return;
		}
		if (strcmp(e->iw->in->name, only) == 0) {
			a->single = true;
			a->end = a->position + 1;
			return;
		}
	}
}

static bool
ask_chain(struct worker *w, enum hook h, const void *question, const char *only, bool dry,
    decision_fn fn, void *arg, struct decision *now, struct grapnel_request **pending)
{
	struct hook_state *hs = w->hooks;
	const struct chain *chain = &hs->set->chains[h];
	struct ask *a;

	*pending = NULL;
	if (chain->length == 0) {
		decide_without(now, hook_passes_on(h) ? GRAPNEL_ALLOW : GRAPNEL_NEXT);
		if (records_used(w) && (h == HOOK_AUTHENTICATE || h == HOOK_AUTH_EXCHANGE)) {
			struct record r = { .hook = h, .verdict = now->verdict };

			r.client = h == HOOK_AUTHENTICATE
			    ? ((const struct grapnel_authenticate *)question)->client
			    : ((const struct grapnel_auth_exchange *)question)->client;
			record_nobody(&r);
			record_decision(w, &r);
		}
		return true;
	}
	a = ask_new(hs, h);
	if (a == NULL)
		return decide_without(now, GRAPNEL_UNAVAILABLE);
	if (only != NULL)
		ask_only(a, only);
	a->dry = dry;
	a->question = question_new(&hs->questions, h, question);
	if (ask_run(a)) {
		ask_decision(a, now);
		return true;
	}
	a->fn = fn;
	a->arg = arg;
	*pending = (struct grapnel_request *)(void *)a;
	return false;
}

bool
hooks_ask(struct worker *w, enum hook h, const void *question, const char *only, decision_fn fn,
    void *arg, struct decision *now, struct grapnel_request **pending)
{
	return ask_chain(w, h, question, only, false, fn, arg, now, pending);
}

bool
hooks_explain(struct worker *w, enum hook h, const void *question, decision_fn fn, void *arg,
    struct decision *now, struct grapnel_request **pending)
{
	return ask_chain(w, h, question, NULL, true, fn, arg, now, pending);
}

void
decision_release(struct decision *d)
{
	if (d->request != NULL)
		ask_free((struct ask *)(void *)d->request);
	d->request = NULL;
}

void
hooks_cancel(struct worker *w, struct grapnel_request *pending)
{
	struct ask *a = (struct ask *)(void *)pending;
	struct instance_worker *iw;
	struct request *r;

	if (a == NULL || a->finished)
		return;
	policy_cancel(a);
	r = a->waiting;
	timer_disarm(w->wheel, &a->deadline);
	if (r == NULL) { /* it waited for the answer to an equal question */
		ask_free(a);
		return;
	}
	r->ask = NULL;
	/* false: resolved already, its mail is on the way and will find nobody */
	if (request_move(r, REQUEST_PENDING, REQUEST_CANCELLED)) {
		iw = r->iw;
		r->question->client.client = NULL;
		if (instance_callable(iw) && iw->in->plugin->request_cancelled != NULL) {
			uint64_t entered = plugin_enter();

			iw->in->plugin->request_cancelled(iw->in->state, request_handle(r));
			plugin_leave(iw, entered, "request_cancelled");
		}
	}
	ask_free(a);
}
