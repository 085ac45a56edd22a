/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody may do, read for each right that is asked for: acl_check with acl_mode = check. */
#include "ask.h"

static void
finish(struct ask *ask, enum grapnel_verdict verdict)
{
	const struct grapnel_acl_answer answer = { .size = sizeof(answer),
		.no_store = ask->unusable };

	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)ask->a->host->acl_resolve(ask->req, verdict, &answer);
	ask_free(ask);
}

static void
on_rules(struct ask *ask)
{
	const struct grapnel_host *host = ask->a->host;
	struct grapnel_acl_answer answer = { .size = sizeof(answer) };
	struct grapnel_rules *rules;
	enum grapnel_verdict verdict;

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
	verdict = grant_check(host, rules, ask->check, &answer, GRAPNEL_STR("no rule matches"));
	(void)host->acl_resolve(ask->req, verdict, &answer);
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
