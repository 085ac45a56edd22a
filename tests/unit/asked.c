/* SPDX-License-Identifier: Apache-2.0 */
#include "asked.h"
#include <check.h>
#include <stdio.h>
#include <string.h>

void
keep(char *to, size_t size, struct grapnel_str s)
{
	snprintf(to, size, "%.*s", (int)s.len, s.data != NULL ? s.data : "");
}

static void
take(struct asked *a, const struct decision *d)
{
	a->verdict = d->verdict;
	snprintf(a->plugin, sizeof(a->plugin), "%s", d->plugin != NULL ? d->plugin : "-");
	keep(a->username, sizeof(a->username), d->auth->username);
	keep(a->rule, sizeof(a->rule), d->acl->rule);
	keep(a->topic, sizeof(a->topic), d->publish->topic_name);
	keep(a->payload, sizeof(a->payload), d->publish->payload);
	keep(a->filter, sizeof(a->filter), d->subscribe->filter);
	a->drop = d->publish->drop;
	a->has_retain = d->publish->has_retain;
	a->retain = d->publish->retain;
	a->has_qos = d->publish->has_qos || d->subscribe->has_qos;
	a->qos = d->publish->has_qos ? d->publish->qos : d->subscribe->qos;
	a->property_count = d->publish->property_count;
	a->steps = d->step_count;
	switch (a->hook) {
	case HOOK_ACL:
		a->reason_code = d->acl->reason_code;
		keep(a->reason, sizeof(a->reason), d->acl->reason_string);
		break;
	case HOOK_PUBLISH:
	case HOOK_DELIVER:
		a->reason_code = d->publish->reason_code;
		keep(a->reason, sizeof(a->reason), d->publish->reason_string);
		break;
	case HOOK_SUBSCRIBE:
	case HOOK_UNSUBSCRIBE:
		a->reason_code = d->subscribe->reason_code;
		break;
	case HOOK_ACKNOWLEDGE:
		a->reason_code = d->ack->reason_code;
		break;
	default:
		a->reason_code = d->auth->reason_code;
		keep(a->reason, sizeof(a->reason), d->auth->reason_string);
		break;
	}
}

static void
on_decision(void *arg, const struct decision *d)
{
	struct asked *a = arg;

	take(a, d);
	a->pending = NULL;
	atomic_fetch_add(&a->decided, 1);
}

void
ask_here(struct worker *w, void *arg)
{
	struct asked *a = arg;
	struct decision now;

	a->at_once = hooks_ask(w, a->hook, a->question, a->only, on_decision, a, &now, &a->pending);
	if (!a->at_once)
		return;
	take(a, &now);
	decision_release(&now);
	atomic_fetch_add(&a->decided, 1);
}

void
cancel_here(struct worker *w, void *arg)
{
	struct asked *a = arg;

	if (a->pending != NULL)
		hooks_cancel(w, a->pending);
	a->pending = NULL;
}

void
ask(struct asked *a, enum hook h, const void *question)
{
	memset(a, 0, sizeof(*a));
	a->hook = h;
	a->question = question;
	on_worker(0, ask_here, a);
}

struct probe first, second;
char order[64];

void
begin(const char *more_first, const char *more_second)
{
	char sections[4096];

	memset(order, 0, sizeof(order));
	snprintf(sections, sizeof(sections), "%s%s", stub_probe("first", &first, more_first),
	    more_second != NULL ? stub_probe("second", &second, more_second) : "");
	stub_settings(sections);
	ck_assert_int_eq(stub_start(), GRAPNEL_OK);
}

void
reset_probes(void)
{
	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
}

void
note(const struct probe *p)
{
	char mark[2] = { p == &first ? '1' : '2', '\0' };

	strncat(order, mark, sizeof(order) - strlen(order) - 1);
}

#define ANSWERS(name, verdict)                                                               \
	enum grapnel_verdict name(                                                           \
	    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q) \
	{                                                                                    \
		(void)req;                                                                   \
		(void)q;                                                                     \
		note(p);                                                                     \
		return verdict;                                                              \
	}
ANSWERS(acl_allow, GRAPNEL_ALLOW)
ANSWERS(acl_deny, GRAPNEL_DENY)
ANSWERS(acl_next, GRAPNEL_NEXT)

_Atomic unsigned cancelled, held;
struct grapnel_request *held_requests[64];
const struct grapnel_acl_check *held_question;

enum grapnel_verdict
acl_hold(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	unsigned n = atomic_load(&held);

	note(p);
	p->host->request_set_data(req, p);
	held_requests[n % 64] = req;
	held_question = q;
	atomic_store(&held, n + 1);
	return GRAPNEL_PENDING;
}

static void
count_cancelled(struct probe *p, struct grapnel_request *req)
{
	ck_assert_ptr_eq(p->host->request_data(req), p);
	ck_assert_uint_eq(p->host->request_worker(req), 0);
	atomic_fetch_add(&cancelled, 1);
}

void
begin_hold(const char *more_first, const char *more_second)
{
	atomic_store(&cancelled, 0);
	atomic_store(&held, 0);
	first.acl = acl_hold;
	first.cancelled = count_cancelled;
	begin(more_first, more_second);
}
