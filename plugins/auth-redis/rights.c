/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody may do, read for each right that is asked for: acl_check with acl_mode = check. */
#include "ask.h"

static void
finish(struct ask *ask, enum grapnel_verdict verdict)
{
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)ask->a->host->acl_resolve(ask->req, verdict, NULL);
	ask_free(ask);
}

/* answer->rule lives as long as the rules. */
static enum grapnel_verdict
decide(const struct ask *ask, const struct grapnel_rules *rules, struct grapnel_acl_answer *answer)
{
	const struct grapnel_acl_check *q = ask->check;
	struct grapnel_rules_question question = {
		.size = sizeof(question),
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.client_id = q->client->client_id,
		.username = q->client->username,
		.attributes = q->client->attributes,
		.attribute_count = q->client->attribute_count,
	};
	enum grapnel_verdict verdict =
	    ask->a->host->rules_check(rules, &question, NULL, &answer->rule);

	if (verdict != GRAPNEL_NEXT)
		return verdict;
	answer->rule = GRAPNEL_STR("no rule matches");
	return GRAPNEL_DENY;
}

static void
on_rules(struct ask *ask)
{
	const struct grapnel_host *host = ask->a->host;
	struct grapnel_acl_answer answer = { .size = sizeof(answer) };
	struct grapnel_rules *rules;

	if (ask->rules == 0) {
		finish(ask, GRAPNEL_NEXT);
		return;
	}
	rules = grant_compile(&ask->grant, host->instance_name(ask->a->self));
	if (rules == NULL) {
		ask_unusable(ask, ask->grant.error);
		finish(ask, GRAPNEL_UNAVAILABLE);
		return;
	}
	(void)host->acl_resolve(ask->req, decide(ask, rules, &answer), &answer);
	host->rules_unref(rules);
	ask_free(ask);
}

enum grapnel_verdict
rights_check(struct instance *a, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct ask *ask = ask_new(a, req, q->client);

	if (ask == NULL)
		return GRAPNEL_UNAVAILABLE;
	ask->values = template_of_acl(q);
	ask->check = q;
	ask->finish = finish;
	ask_rules(ask, on_rules);
	return GRAPNEL_PENDING; /* or resolved already */
}
