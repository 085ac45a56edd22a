/* SPDX-License-Identifier: Apache-2.0 */
/* record - what a decision leaves behind: its steps, and a record when somebody wants it */
#include "request.h"
#include "trace.h"

#include <string.h>

void
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
	step->how = a->how;
	step->age_ms = a->age_ms;
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
void
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

void
ask_record(const struct ask *a)
{
	struct record r = { .hook = a->hook,
		.verdict = a->verdict,
		.plugin = a->plugin,
		.steps = a->steps,
		.step_count = a->step_count };

	if (!records_used(a->hs->w) || a->question == NULL || a->shadow || a->dry)
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
