/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy - what the host does for every plugin that decides, before it is asked and after it has answered
 *
 * Kept answers, equal questions that share one, stale answers while a backend is in trouble, the breaker.
 *
 * Threads: the worker of the ask.
 */
#ifndef BROKER_PLUGIN_POLICY_H
#define BROKER_PLUGIN_POLICY_H

#include "request.h"

enum policy_look {
	POLICY_ASK,    /* ask the instance */
	POLICY_ANSWER, /* *verdict and *answer are there */
	POLICY_WAIT,   /* an equal question is under way: a->landing waits for its answer, a->deadline is armed */
};
/* e: the entry that is about to be asked. */
enum policy_look policy_before(struct ask *a, const struct chain_entry *e, uint32_t timeout_ms, enum grapnel_verdict *verdict,
    struct answer **answer);
/*
 * The instance has answered, or its time is over (UNAVAILABLE). asked: it was really asked, which the breaker counts.
 * *verdict and *answer may become those of an older answer; what they were is let go of.
 */
void policy_after(struct ask *a, const struct chain_entry *e, bool asked, enum grapnel_verdict *verdict, struct answer **answer);
/* The ask is cancelled: whoever waits for it goes on alone; it waits for nobody any more. */
void policy_cancel(struct ask *a);
/* A struct landing's mail. */
void policy_on_landing(struct worker *w, struct mail *m);

#endif
