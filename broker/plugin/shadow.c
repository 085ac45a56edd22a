/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shadow - plugins that are asked but not heeded (`shadow = yes`)
 *
 * They are asked when everything is decided, so nobody waits for them; where they would have decided otherwise, that is
 * logged and counted.
 */
#include "base/log.h"
#include "request.h"

/* NEXT is how a chain ends. */
static enum grapnel_verdict
outcome(enum grapnel_verdict verdict)
{
	return verdict == GRAPNEL_NEXT ? GRAPNEL_DENY : verdict;
}

static void
compare(void *arg, const struct decision *d)
{
	struct ask *a = arg;
	const struct chain_entry *e = &a->entries[a->position - 1];
	const struct grapnel_client_info *c = &a->question->client;
	enum grapnel_verdict would = outcome(d->verdict), was = outcome(a->shadow_of);
	struct grapnel_str topic =
	    a->hook == HOOK_ACL ? a->question->u.acl.topic : (struct grapnel_str){ "", 0 };

	if (would == was) {
		stats_add(&e->iw->stats.shadow_agreed, 1);
		return;
	}
	stats_add(&e->iw->stats.shadow_differed, 1);
	log_at(GRAPNEL_LOG_NOTICE, "shadow_differs",
	    "plugin \"%s\" (shadow): %s of client \"%.*s\" user \"%.*s\"%s%.*s: %s, where \"%s\" "
	    "was decided",
	    e->iw->in->name, hook_name(a->hook), STR(c->client_id), STR(c->username),
	    topic.len > 0 ? " topic " : "", STR(topic), verdict_name((int)would),
	    verdict_name((int)was));
}

static void
shadow_ask(const struct ask *decided, const struct chain_entry *e)
{
	struct hook_state *hs = decided->hs;
	struct ask *a = ask_new(hs, decided->hook);
	struct decision d;

	if (a == NULL)
		return;
	chain_set_unref(a->set); /* the decided one may be of the set before */
	a->set = decided->set;
	a->set->refs++;
	a->entries = e;
	a->end = 1;
	a->shadow = true;
	a->shadow_of = decided->verdict;
	a->fn = compare;
	a->arg = a;
	/* A copy, since the client may go before the answer comes. */
	a->question = question_new(&hs->questions, decided->hook, &decided->question->u);
	if (a->question != NULL)
		a->question->client.client = NULL;
	if (a->question == NULL) {
		ask_free(a);
	} else if (ask_run(a)) {
		ask_decision(a, &d);
		compare(a, &d);
		ask_free(a);
	}
}

void
shadows_ask(const struct ask *decided)
{
	const struct chain *chain = &decided->set->chains[decided->hook];

	for (unsigned i = 0; decided->question != NULL && i < chain->shadow_count; i++)
		if (listeners_concern(chain->shadows[i].listeners, &decided->question->client))
			shadow_ask(decided, &chain->shadows[i]);
}
