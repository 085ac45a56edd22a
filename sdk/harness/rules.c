/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule sets: the broker's own code; here it is only counted who has references. The harness keeps one of each to its end, so that
 * one too many given back is a finding and no crash.
 */
#include "core/acl.h"
#include "inside.h"
#include <stdlib.h>

struct rules_held {
	struct rules_held *next;
	struct grapnel_rules *rules;
	unsigned plugin; /* references that the plugin has; lock */
	struct origin made;
	bool reported;
};

/* With the lock. */
static struct rules_held *
held_of(harness *h, const struct grapnel_rules *rules)
{
	struct rules_held *r;

	for (r = h->rules; r != NULL && r->rules != rules; r = r->next)
		continue;
	return r;
}

bool
rules_held_by_plugin(harness *h, const struct grapnel_rules *rules, const char *function)
{
	const struct rules_held *r;
	bool held;

	pthread_mutex_lock(&h->lock);
	r = held_of(h, rules);
	held = r != NULL && r->plugin > 0;
	pthread_mutex_unlock(&h->lock);
	if (r == NULL)
		finding(h, "bad handle: %s was given %p, which is no rule set", function,
		    (const void *)rules);
	else if (!held)
		finding(h,
		    "use after free: %s of a rule set (compiled in %s, line %d) of which the "
		    "plugin has "
		    "no reference any more",
		    function, r->made.call != NULL ? r->made.call : "a thread of its own",
		    r->made.line);
	return held;
}

static struct grapnel_rules *
compile(struct grapnel_str text, struct grapnel_str source, bool mosquitto, char *error,
    size_t error_size)
{
	harness *h = the_harness;
	struct grapnel_rules *rules = acl_rules_compile(text, source, mosquitto, error, error_size);
	struct rules_held *r;

	if (rules == NULL)
		return NULL;
	if ((r = calloc(1, sizeof(*r))) == NULL) {
		acl_rules_unref(rules);
		return NULL;
	}
	r->rules = acl_rules_ref(rules);
	r->plugin = 1;
	r->made = origin_now(h);
	pthread_mutex_lock(&h->lock);
	r->next = h->rules;
	h->rules = r;
	pthread_mutex_unlock(&h->lock);
	return rules;
}

static struct grapnel_rules *
ref(struct grapnel_rules *rules)
{
	harness *h = the_harness;

	if (!rules_held_by_plugin(h, rules, "rules_ref"))
		return rules;
	pthread_mutex_lock(&h->lock);
	held_of(h, rules)->plugin++;
	pthread_mutex_unlock(&h->lock);
	return acl_rules_ref(rules);
}

static void
unref(struct grapnel_rules *rules)
{
	harness *h = the_harness;

	if (rules == NULL || !rules_held_by_plugin(h, rules, "rules_unref"))
		return;
	pthread_mutex_lock(&h->lock);
	held_of(h, rules)->plugin--;
	pthread_mutex_unlock(&h->lock);
	acl_rules_unref(rules);
}

static enum grapnel_verdict
check(const struct grapnel_rules *rules, const struct grapnel_rules_question *question,
    uint32_t *flags, struct grapnel_str *rule)
{
	if (!rules_held_by_plugin(the_harness, rules, "rules_check"))
		return GRAPNEL_NEXT;
	return acl_rules_check(rules, question, flags, rule);
}

static size_t
scope(const struct grapnel_rules *rules, const struct grapnel_rules_question *question,
    char *filter, size_t capacity)
{
	if (!rules_held_by_plugin(the_harness, rules, "rules_scope"))
		return 0;
	return acl_rules_scope(rules, question, filter, capacity);
}

void
host_rules(struct grapnel_host *host)
{
	host->rules_compile = compile;
	host->rules_ref = ref;
	host->rules_unref = unref;
	host->rules_check = check;
	host->rules_scope = scope;
}

void
rules_leaked(harness *h)
{
	for (struct rules_held *r = h->rules; r != NULL; r = r->next) {
		if (r->plugin == 0 || r->reported)
			continue;
		r->reported = true;
		finding(h,
		    "leak: %u reference(s) of a rule set (compiled in %s, line %d) were not given "
		    "back",
		    r->plugin, r->made.call != NULL ? r->made.call : "a thread of its own",
		    r->made.line);
	}
}

void
rules_free(harness *h)
{
	struct rules_held *r;

	while ((r = h->rules) != NULL) {
		h->rules = r->next;
		while (r->plugin-- > 0)
			acl_rules_unref(r->rules);
		acl_rules_unref(r->rules);
		free(r);
	}
}
