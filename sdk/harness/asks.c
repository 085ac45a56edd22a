/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions to hooks, as the broker asks them: answered at once, or PENDING and resolved later, once, from any thread; cancelled
 * when the client leaves or the deadline passes, and to be resolved even then. A request's handle is its number, no address.
 */
#include "core/acl.h"
#include "inside.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HANDLE_TAG UINT64_C(0x6752000000000000)

static struct grapnel_request *
handle_of(const struct asked *a)
{
	return (struct grapnel_request *)(uintptr_t)(HANDLE_TAG | (uint64_t)a->number << 4);
}

/* With the lock. */
static struct asked *
asked_of(harness *h, const struct grapnel_request *req)
{
	struct asked *a;

	for (a = h->asks; a != NULL && handle_of(a) != req; a = a->next)
		continue;
	return a;
}

static const char *
question_text(enum hook hook)
{
	static const char *const names[HOOK_COUNT] = {
		[HOOK_AUTHENTICATE] = "the question of client_authenticate",
		[HOOK_AUTH_EXCHANGE] = "the question of client_auth_exchange",
		[HOOK_REVALIDATE] = "the question of client_revalidate",
		[HOOK_ACL] = "the question of acl_check",
		[HOOK_PUBLISH] = "the question of message_publish",
		[HOOK_SUBSCRIBE] = "the question of client_subscribe",
		[HOOK_UNSUBSCRIBE] = "the question of client_unsubscribe",
		[HOOK_DELIVER] = "the question of message_deliver",
		[HOOK_ACKNOWLEDGE] = "the question of message_acknowledge",
		[HOOK_TLS_PSK] = "the question of tls_psk_key",
	};

	return names[hook];
}

/* ---- from the plugin: any thread -------------------------------------------------------------------- */

static int
fault(const struct asked *a, enum answer_kind kind, const char *function, const char *what)
{
	harness *h = the_harness;

	if (a == NULL)
		finding(h, "bad handle: %s_%s: %s", answer_kind_name(kind), function, what);
	else
		finding(h, "contract: %s_%s of %s (line %d): %s", answer_kind_name(kind), function,
		    hook_name(a->hook), a->made.line, what);
	return GRAPNEL_EINVAL;
}

static int
attach(struct grapnel_request *req, enum answer_kind kind, const void *answer)
{
	harness *h = the_harness;
	struct answer *copy;
	const char *why;
	struct asked *a;
	bool inside;
	int err;

	pthread_mutex_lock(&h->lock);
	a = asked_of(h, req);
	inside =
	    a != NULL && a->state == ASK_IN_HOOK && pthread_equal(a->hook_thread, pthread_self());
	pthread_mutex_unlock(&h->lock);
	if (a == NULL)
		return fault(a, kind, "answer", "not a request");
	if (!inside) {
		fault(a, kind, "answer",
		    "only inside the hook that got the request, before it is resolved; later "
		    "details go into *_resolve");
		return GRAPNEL_ESTATE;
	}
	if (answer_kind(a->hook) != kind || answer == NULL)
		return fault(a, kind, "answer",
		    answer == NULL ? "answer is NULL" : "the hook is of another kind");
	err = answer_new(&copy, kind, answer, NULL, 0, &why);
	if (err == GRAPNEL_EINVAL)
		return fault(a, kind, "answer", why);
	if (err != GRAPNEL_OK)
		return err;
	answer_free(a->attached);
	a->attached = copy;
	return GRAPNEL_OK;
}

static int
resolve(struct grapnel_request *req, enum answer_kind kind, enum grapnel_verdict verdict,
    const void *answer)
{
	harness *h = the_harness;
	struct answer *copy = NULL;
	enum ask_state state = ASK_DONE;
	struct asked *a;
	const char *why;
	int err = GRAPNEL_OK;

	pthread_mutex_lock(&h->lock);
	if ((a = asked_of(h, req)) != NULL)
		state = a->state;
	pthread_mutex_unlock(&h->lock);
	if (a == NULL)
		return fault(a, kind, "resolve", "not a request");
	if (state == ASK_DONE || state == ASK_RESOLVED)
		return fault(a, kind, "resolve",
		    "this request has been resolved before, or its hook answered at once");
	if (answer_kind(a->hook) != kind)
		return fault(a, kind, "resolve", "the request is of another hook");
	if (verdict != GRAPNEL_ALLOW && verdict != GRAPNEL_DENY && verdict != GRAPNEL_NEXT &&
	    verdict != GRAPNEL_UNAVAILABLE)
		return fault(
		    a, kind, "resolve", "the verdict must be ALLOW, DENY, NEXT or UNAVAILABLE");
	if (answer != NULL) {
		err = answer_new(&copy, kind, answer, NULL, 0, &why);
		if (err == GRAPNEL_EINVAL)
			return fault(a, kind, "resolve", why);
	}
	pthread_mutex_lock(&h->lock);
	state = a->state;
	if (state == ASK_DONE || state == ASK_RESOLVED) {
		pthread_mutex_unlock(&h->lock);
		answer_free(copy);
		return fault(
		    a, kind, "resolve", "another thread has resolved this request just now");
	}
	a->state = ASK_RESOLVED;
	if (state == ASK_CANCELLED) {
		a->state = ASK_DONE;
		a->plug->pending--;
		answer_free(copy);
		err = GRAPNEL_ECANCELED;
	} else {
		a->verdict = (int)verdict;
		a->answer = copy;
		a->resolved_inside = state == ASK_IN_HOOK;
	}
	pthread_mutex_unlock(&h->lock);
	region_take(a->region);
	wake(h);
	return err;
}

#define ANSWER_FUNCTIONS(name, kind)                                                         \
	static int name##_answer(                                                            \
	    struct grapnel_request *req, const struct grapnel_##name##_answer *answer)       \
	{                                                                                    \
		return attach(req, kind, answer);                                            \
	}                                                                                    \
	static int name##_resolve(struct grapnel_request *req, enum grapnel_verdict verdict, \
	    const struct grapnel_##name##_answer *answer)                                    \
	{                                                                                    \
		return resolve(req, kind, verdict, answer);                                  \
	}

ANSWER_FUNCTIONS(auth, ANSWER_AUTH)
ANSWER_FUNCTIONS(acl, ANSWER_ACL)
ANSWER_FUNCTIONS(publish, ANSWER_PUBLISH)
ANSWER_FUNCTIONS(subscribe, ANSWER_SUBSCRIBE)
ANSWER_FUNCTIONS(ack, ANSWER_ACK)
ANSWER_FUNCTIONS(psk, ANSWER_PSK)

/* With the lock, if it is not resolved yet. */
static struct asked *
asked_lock(const struct grapnel_request *req, const char *function)
{
	harness *h = the_harness;
	struct asked *a;

	pthread_mutex_lock(&h->lock);
	a = asked_of(h, req);
	if (a != NULL && a->state != ASK_DONE && a->state != ASK_RESOLVED)
		return a;
	pthread_mutex_unlock(&h->lock);
	if (a == NULL)
		finding(h, "bad handle: %s was given %p, which is no request", function,
		    (const void *)req);
	else
		finding(h, "use after resolve: %s of a request of %s (line %d) that was resolved",
		    function, hook_name(a->hook), a->made.line);
	return NULL;
}

static uint32_t
request_time_left(const struct grapnel_request *req)
{
	const struct asked *a = asked_lock(req, "request_time_left");
	uint64_t now, left = 0;

	if (a == NULL)
		return 0;
	now = clock_now(a->h);
	if (a->state != ASK_CANCELLED && a->deadline_ms > now)
		left = a->deadline_ms - now;
	pthread_mutex_unlock(&a->h->lock);
	return (uint32_t)left;
}

static unsigned
request_worker(const struct grapnel_request *req)
{
	harness *h = the_harness;
	const struct asked *a;
	unsigned worker;

	pthread_mutex_lock(&h->lock);
	a = asked_of(h, req);
	worker = a != NULL ? a->worker : 0;
	pthread_mutex_unlock(&h->lock);
	return worker;
}

static void
request_set_data(struct grapnel_request *req, void *data)
{
	struct asked *a = asked_lock(req, "request_set_data");

	if (a == NULL)
		return;
	a->data = data;
	pthread_mutex_unlock(&a->h->lock);
}

static void *
request_data(const struct grapnel_request *req)
{
	const struct asked *a = asked_lock(req, "request_data");
	void *data;

	if (a == NULL)
		return NULL;
	data = a->data;
	pthread_mutex_unlock(&a->h->lock);
	return data;
}

void
host_requests(struct grapnel_host *host)
{
	host->auth_answer = auth_answer;
	host->acl_answer = acl_answer;
	host->publish_answer = publish_answer;
	host->subscribe_answer = subscribe_answer;
	host->ack_answer = ack_answer;
	host->psk_answer = psk_answer;
	host->auth_resolve = auth_resolve;
	host->acl_resolve = acl_resolve;
	host->publish_resolve = publish_resolve;
	host->subscribe_resolve = subscribe_resolve;
	host->ack_resolve = ack_resolve;
	host->psk_resolve = psk_resolve;
	host->request_time_left = request_time_left;
	host->request_worker = request_worker;
	host->request_set_data = request_set_data;
	host->request_data = request_data;
}

/* ---- asking ------------------------------------------------------------------------------------------- */

static int
hook_call(
    const struct plug *p, enum hook hook, struct grapnel_request *req, const struct question *q)
{
	const struct grapnel_plugin *d = &p->plugin;

	switch (hook) {
	case HOOK_AUTHENTICATE:
		return (int)d->client_authenticate(p->instance, req, &q->u.authenticate);
	case HOOK_AUTH_EXCHANGE:
		return (int)d->client_auth_exchange(p->instance, req, &q->u.exchange);
	case HOOK_REVALIDATE:
		return (int)d->client_revalidate(p->instance, req, &q->u.revalidate);
	case HOOK_ACL:
		return (int)d->acl_check(p->instance, req, &q->u.acl);
	case HOOK_PUBLISH:
		return (int)d->message_publish(p->instance, req, &q->u.publish);
	case HOOK_SUBSCRIBE:
		return (int)d->client_subscribe(p->instance, req, &q->u.subscribe);
	case HOOK_UNSUBSCRIBE:
		return (int)d->client_unsubscribe(p->instance, req, &q->u.subscribe);
	case HOOK_DELIVER:
		return (int)d->message_deliver(p->instance, req, &q->u.deliver);
	case HOOK_ACKNOWLEDGE:
		return (int)d->message_acknowledge(p->instance, req, &q->u.acknowledge);
	case HOOK_TLS_PSK:
		return (int)d->tls_psk_key(p->instance, req, &q->u.psk);
	case HOOK_COUNT:
		break;
	}
	return GRAPNEL_NEXT;
}

/* The broker's own copy, laid out in pages of its own: the pool hands out the block that we put into it. */
static bool
question_copy(struct asked *a, const void *from)
{
	struct question_pool pool = { 0 };
	struct question *first = question_new(&pool, a->hook, from);
	size_t bytes;

	if (first == NULL)
		return false;
	bytes = first->capacity;
	a->region = region_new(a->h, sizeof(*first) + bytes, question_text(a->hook));
	if (a->region != NULL) {
		struct question *q = a->region->at;
		struct question_pool ours = { 0 };

		q->capacity = bytes;
		/* A pool knows small blocks and a large one; ours is the only one of either kind. */
		ours.small = q;
		ours.small_count = 1;
		ours.large = q;
		a->question = question_new(&ours, a->hook, from);
	}
	question_unref(&pool, first);
	question_pool_clear(&pool);
	return a->question != NULL;
}

/* On the worker. */
static void
ask_here(harness *h, unsigned worker, void *arg)
{
	struct asked *a = arg;
	struct plug *p = a->plug;
	struct answer *unused = NULL;
	enum ask_state state;
	struct call c;
	int verdict;

	(void)worker;
	a->hook_thread = pthread_self();
	call_begin(&c, p, hook_name(a->hook));
	a->made = origin_now(h);
	a->region->given = a->made;
	verdict = hook_call(p, a->hook, handle_of(a), a->question);
	call_end(&c);
	pthread_mutex_lock(&h->lock);
	state = a->state;
	if (state == ASK_IN_HOOK && verdict == GRAPNEL_PENDING) {
		a->state = ASK_PENDING;
		unused = a->attached;
		a->attached = NULL;
	} else if (state == ASK_IN_HOOK) {
		a->state = ASK_DONE;
		a->at_once = true;
		a->verdict = verdict;
		a->answer = a->attached;
		a->attached = NULL;
		p->pending--;
	} else {
		unused = a->attached;
		a->attached = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	if (state != ASK_IN_HOOK && verdict != GRAPNEL_PENDING)
		finding(h,
		    "contract: %s resolved its request and returned verdict %d; only what it "
		    "resolved counts, and it has to return PENDING",
		    hook_name(a->hook), verdict);
	if (unused != NULL && verdict == GRAPNEL_PENDING)
		finding(h,
		    "contract: %s attached details and returned PENDING; they are not used, give "
		    "them to *_resolve",
		    hook_name(a->hook));
	answer_free(unused);
	if (state != ASK_IN_HOOK || verdict == GRAPNEL_PENDING)
		return;
	region_take(a->region);
	if (verdict != GRAPNEL_ALLOW && verdict != GRAPNEL_DENY && verdict != GRAPNEL_NEXT &&
	    verdict != GRAPNEL_UNAVAILABLE) {
		finding(h,
		    "contract: %s returned %d, which is no verdict; the broker takes it for "
		    "UNAVAILABLE",
		    hook_name(a->hook), verdict);
		a->verdict = GRAPNEL_UNAVAILABLE;
	}
}

/* Answers of UNAVAILABLE without asking, as the broker has them. */
static bool
refused(harness *h, const struct plug *p)
{
	bool full;

	pthread_mutex_lock(&h->lock);
	full = p->pending >= p->section->max_pending;
	pthread_mutex_unlock(&h->lock);
	return full;
}

struct asked *
ask_new(harness *h, struct sim_client *c, enum hook hook, unsigned worker)
{
	struct asked *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->h = h;
	a->plug = h->running;
	a->hook = hook;
	a->worker = worker;
	a->client = c;
	a->made = (struct origin){ hook_name(hook), h->line };
	a->state = ASK_DONE;
	a->verdict = GRAPNEL_UNAVAILABLE;
	a->deadline_ms = clock_now(h) +
	    (a->plug->section->timeout_ms != 0 ? a->plug->section->timeout_ms : DEADLINE_MS);
	pthread_mutex_lock(&h->lock);
	a->number = ++h->ask_count;
	a->next = h->asks;
	h->asks = a;
	pthread_mutex_unlock(&h->lock);
	return a;
}

struct asked *
ask_hook(harness *h, struct sim_client *c, enum hook hook, unsigned worker, const void *question)
{
	struct asked *a = ask_new(h, c, hook, worker);

	if (a == NULL)
		return NULL;
	if (refused(h, a->plug)) {
		a->at_once = true;
		return a;
	}
	if (!question_copy(a, question))
		return NULL;
	pthread_mutex_lock(&h->lock);
	a->state = ASK_IN_HOOK;
	a->plug->pending++;
	pthread_mutex_unlock(&h->lock);
	return on_worker(h, worker, ask_here, a) ? a : NULL;
}

/* ---- what ends a question --------------------------------------------------------------------------------- */

static void
cancel_here(harness *h, unsigned worker, void *arg)
{
	struct asked *a = arg;
	struct plug *p = a->plug;
	bool pending;

	(void)worker;
	pthread_mutex_lock(&h->lock);
	pending = a->state == ASK_PENDING;
	if (pending) {
		a->state = ASK_CANCELLED;
		a->cancelled = true;
		a->verdict = GRAPNEL_UNAVAILABLE;
		a->question->client.client = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	if (pending && p->plugin.request_cancelled != NULL) {
		struct call c;

		call_begin(&c, p, "request_cancelled");
		p->plugin.request_cancelled(p->instance, handle_of(a));
		call_end(&c);
	}
}

void
ask_cancel(struct asked *a)
{
	(void)on_worker(a->h, a->worker, cancel_here, a);
}

/* Deadlines that have passed, and the home worker's part of what was resolved. */
void
asks_due(harness *h)
{
	for (;;) {
		struct asked *a;

		pthread_mutex_lock(&h->lock);
		for (a = h->asks; a != NULL; a = a->next) {
			if (a->state == ASK_RESOLVED) {
				a->state = ASK_DONE;
				a->plug->pending--;
			}
			if (a->state == ASK_PENDING && a->deadline_ms <= clock_now(h))
				break;
		}
		pthread_mutex_unlock(&h->lock);
		if (a == NULL || h->stuck)
			return;
		ask_cancel(a);
	}
}

bool
ask_decided(harness *h, void *arg)
{
	const struct asked *a = arg;
	bool decided;

	pthread_mutex_lock(&h->lock);
	decided = a->state == ASK_DONE || a->state == ASK_CANCELLED;
	pthread_mutex_unlock(&h->lock);
	return decided;
}

struct asked *
ask_named(harness *h, const char *name)
{
	struct asked *a;

	for (a = h->asks; a != NULL; a = a->next) {
		if (a->name != NULL && strcmp(a->name, name) == 0)
			break;
	}
	return a;
}

void
asks_leaked(harness *h, struct plug *p)
{
	for (struct asked *a = h->asks; a != NULL; a = a->next) {
		bool leaked;

		if (a->plug != p)
			continue;
		pthread_mutex_lock(&h->lock);
		leaked = a->state == ASK_PENDING || a->state == ASK_CANCELLED;
		if (leaked) {
			a->state = ASK_DONE;
			a->plug->pending--;
		}
		pthread_mutex_unlock(&h->lock);
		if (leaked)
			finding(h,
			    "leak: the request of %s (line %d%s%s) was %s and never resolved",
			    hook_name(a->hook), a->made.line, a->name != NULL ? ", " : "",
			    a->name != NULL ? a->name : "",
			    a->cancelled ? "cancelled" : "left pending");
	}
}

void
asks_free(harness *h)
{
	struct asked *a;

	while ((a = h->asks) != NULL) {
		h->asks = a->next;
		answer_free(a->answer);
		answer_free(a->attached);
		free(a->name);
		free(a->rule);
		free(a);
	}
}
