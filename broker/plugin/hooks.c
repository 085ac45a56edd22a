/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks.h"
#include "base/log.h"
#include "core/broker.h"
#include "request.h"
#include "trace.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ASKS_KEPT          256u
#define DEFAULT_TIMEOUT_MS 10000u

static bool ask_run(struct ask *a);

const char *
hook_name(enum hook h)
{
	static const char *const hook_names[HOOK_COUNT] = {
		[HOOK_AUTHENTICATE] = "client_authenticate",
		[HOOK_AUTH_EXCHANGE] = "client_auth_exchange",
		[HOOK_REVALIDATE] = "client_revalidate",
		[HOOK_ACL] = "acl_check",
		[HOOK_PUBLISH] = "message_publish",
		[HOOK_SUBSCRIBE] = "client_subscribe",
		[HOOK_UNSUBSCRIBE] = "client_unsubscribe",
		[HOOK_DELIVER] = "message_deliver",
		[HOOK_ACKNOWLEDGE] = "message_acknowledge",
		[HOOK_TLS_PSK] = "tls_psk_key",
	};

	return (unsigned)h < HOOK_COUNT ? hook_names[h] : "?";
}

/* ALLOW and NEXT both hand on, and the end of the chain is ALLOW. */
static bool
hook_passes_on(enum hook h)
{
	return h == HOOK_PUBLISH || h == HOOK_SUBSCRIBE || h == HOOK_UNSUBSCRIBE ||
	    h == HOOK_DELIVER || h == HOOK_ACKNOWLEDGE;
}

/* ---- the record of a decision ---------------------------------------------------------------- */

static void
ask_step(struct ask *a, struct instance *in, enum grapnel_verdict verdict, uint64_t microseconds,
    const struct answer *answer)
{
	struct decision_step *step;

	if (a->step_count == DECISION_STEPS)
		return;
	step = &a->steps[a->step_count++];
	step->instance = in;
	step->verdict = verdict;
	step->microseconds = microseconds > UINT32_MAX ? UINT32_MAX : (uint32_t)microseconds;
	step->rule = answer != NULL && answer->kind == ANSWER_ACL ? answer->u.acl.rule
								  : (struct grapnel_str){ NULL, 0 };
}

/* What it was about, for the record. */
static struct grapnel_str
question_topic(const struct question *q)
{
	const struct grapnel_message_info *m = NULL;

	switch (q->hook) {
	case HOOK_ACL:
		return q->u.acl.topic;
	case HOOK_SUBSCRIBE:
	case HOOK_UNSUBSCRIBE:
		return q->u.subscribe.filter;
	case HOOK_PUBLISH:
		m = q->u.publish.message;
		break;
	case HOOK_DELIVER:
		m = q->u.deliver.message;
		break;
	case HOOK_ACKNOWLEDGE:
		m = q->u.acknowledge.message;
		break;
	case HOOK_TLS_PSK:
		return q->u.psk.identity;
	case HOOK_AUTHENTICATE:
	case HOOK_AUTH_EXCHANGE:
	case HOOK_REVALIDATE:
	case HOOK_COUNT:
		break;
	}
	return m != NULL ? m->topic_name : (struct grapnel_str){ NULL, 0 };
}

/* Nobody decided: what that means. */
static void
record_nobody(struct record *r)
{
	if (r->verdict != GRAPNEL_NEXT)
		return;
	if (r->hook == HOOK_ACL) { /* as rights_from takes it */
		r->verdict = GRAPNEL_DENY;
		r->rule = GRAPNEL_STR("default (no rule allows it)");
	} else {
		r->rule = GRAPNEL_STR("nobody decided");
	}
}

static void
ask_record(const struct ask *a)
{
	struct record r = { .hook = a->hook,
		.verdict = a->verdict,
		.plugin = a->plugin,
		.steps = a->steps,
		.step_count = a->step_count };

	if (!records_used(a->hs->w) || a->question == NULL)
		return;
	r.client = &a->question->client;
	r.topic = question_topic(a->question);
	if (a->hook == HOOK_ACL) {
		r.action = a->question->u.acl.action;
		r.qos = a->question->u.acl.qos;
	}
	record_nobody(&r);
	record_decision(a->hs->w, &r);
}

/* ---- asks ------------------------------------------------------------------------------------ */

static struct ask *
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
	a->position = 0;
	a->end = hs->set->chains[h].length;
	a->fn = NULL;
	a->arg = NULL;
	a->question = NULL;
	a->waiting = NULL;
	a->answers = a->deciding = NULL;
	a->changed = a->finished = a->space_used = false;
	a->verdict = GRAPNEL_NEXT;
	a->plugin = NULL;
	a->step_count = 0;
	a->deadline.link = NULL;
	return a;
}

static void
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

static void
ask_decision(struct ask *a, struct decision *d)
{
	const struct answer *answer = a->deciding;

	a->finished = true;
	ask_record(a);
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

	if (answer != NULL) {
		answer->next = a->answers;
		a->answers = answer;
	}
	ask_step(a, in, verdict, microseconds, answer);
	if (verdict == GRAPNEL_UNAVAILABLE) {
		if (e->on_error == ON_ERROR_NEXT)
			return false;
		if (e->on_error == ON_ERROR_DENY)
			verdict = GRAPNEL_DENY;
		a->verdict = verdict;
		a->plugin = in->name;
		a->deciding = NULL; /* what a plugin in trouble attached is no answer */
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
	a->verdict = verdict;
	a->plugin = in->name;
	a->deciding = answer;
	return true;
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
	const struct chain_entry *e = &a->set->chains[a->hook].entries[a->position - 1];
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
	if (ask_take(a, e, GRAPNEL_UNAVAILABLE, NULL, took) || ask_run(a))
		ask_deliver(a);
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

enum outcome { STEP_WAITS, STEP_NEXT, STEP_DECIDED };

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
	int verdict;

	entered = plugin_enter();
	if (instance_callable(iw) &&
	    atomic_load_explicit(&in->pending, memory_order_relaxed) <
		atomic_load_explicit(&in->max_pending, memory_order_relaxed))
		r = request_new(hs, iw, a->hook, a->question, entered / 1000 + timeout_ms);
	if (r == NULL) {
		stats_add(&stats->refused, 1);
		stats_add(&stats->answers[GRAPNEL_UNAVAILABLE], 1);
		return ask_take(a, e, GRAPNEL_UNAVAILABLE, NULL, 0) ? STEP_DECIDED : STEP_NEXT;
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
			return STEP_WAITS;
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
	return ask_take(a, e, (enum grapnel_verdict)verdict, answer, took) ? STEP_DECIDED
									   : STEP_NEXT;
}

/* Walk on. @return true: decided; false: a plugin has it. */
static bool
ask_run(struct ask *a)
{
	while (a->position < a->end) {
		const struct chain_entry *e = &a->set->chains[a->hook].entries[a->position++];

		if (a->question == NULL) { /* no memory for a copy */
			a->verdict = GRAPNEL_UNAVAILABLE;
			a->changed = false;
			return true;
		}
		switch (ask_one(a, e)) {
		case STEP_WAITS:
			return false;
		case STEP_DECIDED:
			return true;
		case STEP_NEXT:
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
	e = &a->set->chains[a->hook].entries[a->position - 1];
	if (ask_take(a, e, verdict, answer, took) || ask_run(a))
		ask_deliver(a);
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

bool
hooks_ask(struct worker *w, enum hook h, const void *question, const char *only, decision_fn fn,
    void *arg, struct decision *now, struct grapnel_request **pending)
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
	if (only != NULL) {
		while (a->position < a->end &&
		    strcmp(chain->entries[a->position].iw->in->name, only) != 0)
			a->position++;
		if (a->position < a->end)
			a->end = a->position + 1;
	}
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
	r = a->waiting;
	timer_disarm(w->wheel, &a->deadline);
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
