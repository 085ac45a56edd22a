/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include "base/log.h"
#include "cache.h"

#include <stdlib.h>

#define CROWDED_MS \
	1000u /* so long after a job found no thread in time, trouble may come from that */

static bool
breakable(enum hook h)
{
	return h == HOOK_AUTHENTICATE || h == HOOK_AUTH_EXCHANGE || h == HOOK_REVALIDATE ||
	    h == HOOK_ACL || h == HOOK_TLS_PSK;
}

static struct cache_hasher *
hasher_of(struct hook_state *hs, struct instance *in)
{
	if (hs->hasher == NULL)
		hs->hasher = cache_hasher_new(in->registry->cache_secret);
	return hs->hasher;
}

/* An answer that is thrown away: its space may be used again. */
static void
forget(struct ask *a, struct answer *answer)
{
	if (answer != NULL && !answer->heap)
		a->space_used = false;
	answer_free(answer);
}

static void
took_space(struct ask *a, const struct answer *answer)
{
	if (answer != NULL && !answer->heap)
		a->space_used = true;
}

static const struct chain_entry *
entry_of(const struct ask *a)
{
	return &a->entries[a->position - 1];
}

/* Nobody has answered the other one in time for this one. */
static void
policy_on_deadline(struct timer *t, void *owner)
{
	struct ask *a = (struct ask *)(void *)((char *)t - offsetof(struct ask, deadline));
	const struct chain_entry *e = entry_of(a);

	(void)owner;
	policy_cancel(a);
	stats_add(&e->iw->stats.hooks[a->hook].timeouts, 1);
	ask_go_on(
	    a, ask_answered(a, e, false, GRAPNEL_UNAVAILABLE, NULL, plugin_enter() - a->asked_us));
}

/* Others may know the answer, or be about to. */
static enum policy_look
look(struct ask *a, const struct chain_entry *e, uint32_t timeout_ms, enum grapnel_verdict *verdict,
    struct answer **answer)
{
	struct instance *in = e->iw->in;
	uint64_t depends = in->depends[a->hook], now_ms = plugin_enter() / 1000;
	struct landing *l = NULL;
	struct cached c;

	if (depends & GRAPNEL_DEPENDS_REST || hasher_of(a->hs, in) == NULL ||
	    !cache_key_make(a->hs->hasher, a->hook, depends, a->question, &a->key))
		return POLICY_ASK;
	a->keyed = true;
	if (!a->alone && !a->dry && (l = calloc(1, sizeof(*l))) != NULL) {
		l->mail.fn = policy_on_landing;
		l->w = a->hs->w;
		l->asker = a;
	}
	switch (cache_find(in->cache, &a->key, now_ms, l, a->dry, ask_space(a), ASK_SPACE, &c)) {
	case CACHE_FRESH:
		free(l);
		took_space(a, c.answer);
		stats_add(&e->iw->stats.cache_hits, 1);
		a->how = STEP_KEPT;
		a->age_ms = c.age_ms;
		*verdict = c.verdict;
		*answer = c.answer;
		return POLICY_ANSWER;
	case CACHE_ASK:
		free(l);
		stats_add(&e->iw->stats.cache_misses, 1);
		a->leading = true;
		return POLICY_ASK;
	case CACHE_WAITS:
		stats_add(&e->iw->stats.cache_shared, 1);
		a->landing = l;
		a->asked_us = plugin_enter();
		timer_init(&a->deadline, policy_on_deadline);
		timer_arm(a->hs->w->wheel, &a->deadline, now_ms + timeout_ms);
		return POLICY_WAIT;
	case CACHE_OFF:
		break;
	}
	free(l);
	return POLICY_ASK;
}

enum policy_look
policy_before(struct ask *a, const struct chain_entry *e, uint32_t timeout_ms,
    enum grapnel_verdict *verdict, struct answer **answer)
{
	struct instance *in = e->iw->in;
	enum policy_look found;

	a->keyed = a->probe = false;
	a->how = STEP_ASKED;
	a->age_ms = 0;
	if (in->cache != NULL && (found = look(a, e, timeout_ms, verdict, answer)) != POLICY_ASK)
		return found;
	if (breaker_idle(&in->breaker) || a->dry || !breakable(a->hook) ||
	    breaker_asks(&in->breaker, plugin_enter() / 1000, &a->probe))
		return POLICY_ASK;
	stats_add(&e->iw->stats.breaker_refused, 1);
	a->how = STEP_NOT_ASKED;
	*verdict = GRAPNEL_UNAVAILABLE;
	*answer = NULL;
	policy_after(a, e, false, verdict, answer);
	return POLICY_ANSWER;
}

static void
count_for_breaker(struct ask *a, struct instance *in, bool answered)
{
	switch (breaker_ended(&in->breaker, answered, a->probe, plugin_enter() / 1000)) {
	case BREAKER_OPENED:
		log_at(GRAPNEL_LOG_WARNING, "breaker_opened",
		    "plugin \"%s\": %u questions in a row could not be answered; the next ones are "
		    "unavailable at once, and one is asked now and then until its backend answers",
		    in->name,
		    atomic_load_explicit(&in->breaker.failures_max, memory_order_relaxed));
		break;
	case BREAKER_CLOSED:
		log_at(
		    GRAPNEL_LOG_NOTICE, "breaker_closed", "plugin \"%s\": answers again", in->name);
		break;
	case BREAKER_SAME:
		break;
	}
}

/* The trouble is this question's alone: the plugin says so. */
static bool
own_trouble(const struct answer *a)
{
	return a != NULL &&
	    ((a->kind == ANSWER_AUTH && a->u.auth.no_store) ||
		(a->kind == ANSWER_ACL && a->u.acl.no_store));
}

/* The pool has no thread for all of its jobs: leaving its backend alone would not help. */
static bool
crowded(const struct instance_worker *iw)
{
	return iw->crowded_ms != 0 && plugin_enter() / 1000 - iw->crowded_ms < CROWDED_MS;
}

void
policy_after(struct ask *a, const struct chain_entry *e, bool asked, enum grapnel_verdict *verdict,
    struct answer **answer)
{
	struct instance *in = e->iw->in;
	bool answered = *verdict != GRAPNEL_UNAVAILABLE || own_trouble(*answer);
	uint64_t now_ms;
	struct cached c;

	if (asked && !(answered && breaker_idle(&in->breaker)) && !a->dry && breakable(a->hook) &&
	    (answered || !crowded(e->iw)))
		count_for_breaker(a, in, answered);
	if (!a->keyed)
		return;
	a->keyed = false;
	now_ms = plugin_enter() / 1000;
	if (a->leading) {
		a->leading = false;
		cache_land(in->cache, &a->key, in->depends[a->hook], a->question, now_ms, *verdict,
		    *answer);
	}
	if (*verdict != GRAPNEL_UNAVAILABLE)
		return;
	forget(a, *answer);
	*answer = NULL;
	if (!cache_stale(in->cache, &a->key, now_ms, ask_space(a), ASK_SPACE, &c))
		return;
	took_space(a, c.answer);
	stats_add(&e->iw->stats.cache_stale, 1);
	a->how = STEP_STALE;
	a->age_ms = c.age_ms;
	*verdict = c.verdict;
	*answer = c.answer;
}

void
policy_cancel(struct ask *a)
{
	if (a->leading) {
		a->leading = false;
		cache_land(entry_of(a)->iw->in->cache, &a->key, 0, NULL, 0, GRAPNEL_PENDING, NULL);
	}
	if (a->landing == NULL)
		return;
	timer_disarm(a->hs->w->wheel, &a->deadline);
	if (cache_leave(entry_of(a)->iw->in->cache, &a->key, a->landing))
		free(a->landing);
	else
		a->landing->asker = NULL; /* its mail is on the way and frees it */
	a->landing = NULL;
}

void
policy_on_landing(struct worker *w, struct mail *m)
{
	struct landing *l = (struct landing *)(void *)m;
	struct ask *a = l->asker;
	struct answer *answer = l->answer;
	enum grapnel_verdict verdict = l->verdict;
	bool again = l->again;

	free(l);
	if (a == NULL) { /* it has gone */
		answer_free(answer);
		return;
	}
	a->landing = NULL;
	timer_disarm(w->wheel, &a->deadline);
	if (again) {
		a->alone = verdict != GRAPNEL_PENDING;
		a->position--;
		ask_go_on(a, false);
		return;
	}
	a->how = STEP_SHARED;
	ask_go_on(
	    a, ask_answered(a, entry_of(a), false, verdict, answer, plugin_enter() - a->asked_us));
}
