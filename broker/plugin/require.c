/* SPDX-License-Identifier: Apache-2.0 */
/*
 * require - several plugins that decide as one
 *
 *	all	each must allow; what they say is put together. Who is known to one and not to another is refused.
 *	any	one must allow; a DENY of one does not keep the next from being asked.
 *
 * Whichever it is: a backend in trouble never turns into "no" because another one says no, nor into "yes".
 */
#include "request.h"

#include <string.h>

static bool
decide(struct ask *a, enum grapnel_verdict verdict, const char *plugin, struct answer *answer)
{
	a->verdict = verdict;
	a->plugin = plugin;
	a->deciding = answer;
	return true;
}

/* The group has nothing to say: on behind it. */
static bool
pass(struct ask *a)
{
	while (!a->entries[a->position - 1].last)
		a->position++;
	a->required = (struct required){ 0 };
	a->deciding = NULL;
	return false;
}

/* What the group has said so far and what this member says. false: no memory. */
static bool
put_together(struct ask *a, struct answer *answer)
{
	struct answer *both;

	if (answer == NULL)
		return true;
	if (a->deciding == NULL) {
		a->deciding = answer;
		return true;
	}
	if ((both = answer_together(a->deciding, answer)) == NULL)
		return false;
	both->next = a->answers;
	a->answers = both;
	a->deciding = both;
	return true;
}

static bool
take_all(
    struct ask *a, const struct chain_entry *e, enum grapnel_verdict verdict, struct answer *answer)
{
	const char *name = e->iw->in->name;

	/* client_revalidate: who has nothing to say has nothing against it. */
	if (verdict == GRAPNEL_NEXT && a->hook == HOOK_REVALIDATE) {
		verdict = GRAPNEL_ALLOW;
		answer = NULL;
	}
	if (verdict == GRAPNEL_NEXT)
		return a->required.allowed ? decide(a, GRAPNEL_DENY, name, NULL) : pass(a);
	if (verdict != GRAPNEL_ALLOW)
		return decide(a, verdict, name, answer);
	a->required.allowed = true;
	if (!put_together(a, answer))
		return decide(a, GRAPNEL_UNAVAILABLE, e->group->name, NULL);
	return e->last ? decide(a, GRAPNEL_ALLOW, e->group->name, a->deciding) : false;
}

static bool
take_any(
    struct ask *a, const struct chain_entry *e, enum grapnel_verdict verdict, struct answer *answer)
{
	const char *name = e->iw->in->name;

	switch (verdict) {
	case GRAPNEL_ALLOW:
		return decide(a, GRAPNEL_ALLOW, name, answer);
	case GRAPNEL_DENY:
		if (!a->required.denied)
			a->deciding = answer; /* the reason of the first */
		a->required.denied = true;
		break;
	case GRAPNEL_UNAVAILABLE:
		a->required.unavailable = true;
		break;
	case GRAPNEL_NEXT:
	case GRAPNEL_PENDING:
		break;
	}
	if (!e->last)
		return false;
	if (a->required.unavailable)
		return decide(a, GRAPNEL_UNAVAILABLE, e->group->name, NULL);
	return a->required.denied ? decide(a, GRAPNEL_DENY, e->group->name, a->deciding) : pass(a);
}

bool
require_pass_by(struct ask *a, const struct chain_entry *e)
{
	if (!e->group->all)
		return take_any(a, e, GRAPNEL_NEXT, NULL);
	if (!e->last)
		return false;
	return a->required.allowed ? decide(a, GRAPNEL_ALLOW, e->group->name, a->deciding)
				   : pass(a);
}

bool
require_take(
    struct ask *a, const struct chain_entry *e, enum grapnel_verdict verdict, struct answer *answer)
{
	return e->group->all ? take_all(a, e, verdict, answer) : take_any(a, e, verdict, answer);
}
