/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rights - may this client do that?
 *
 * Rules that came with authentication first, then the acl_check chain, then the default: deny as soon as there is any
 * source of rights, else everything but $-topics. Answers that a plugin lets us keep are kept per session
 * until rights change (rights_generation, or a new login); the general result cache is not this one.
 */
#include "core/acl.h"
#include "core/session.h"
#include "mqtt/topic.h"
#include "plugin/trace.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_SLOTS 16u
#define SCOPES      4u
#define SCOPE_MAX   512u

struct cached {
	char *topic;
	uint64_t until_ms;
	uint32_t len;
	uint8_t publish; /* bit qos * 2 + retain: allowed */
	int8_t read;     /* 1, 0, -1: not known */
};
struct scope {           /* the same for all Topic Names that a Topic Filter matches */
	struct cached c; /* .topic: the filter */
	uint32_t
	    prefix_len; /* the filter is this much of itself and a final wildcard level; 0: another kind */
};
struct rights_cache {
	uint32_t stamp;
	uint32_t scope_count, scope_next; /* next: to be replaced */
	struct scope scopes[SCOPES];
	struct cached e[CACHE_SLOTS];
};

/* ---- what is remembered per session ------------------------------------------------------------ */

void
rights_cache_free(struct session *s)
{
	if (s->rights_cache == NULL)
		return;
	for (unsigned i = 0; i < CACHE_SLOTS; i++)
		free(s->rights_cache->e[i].topic);
	for (unsigned i = 0; i < SCOPES; i++)
		free(s->rights_cache->scopes[i].c.topic);
	free(s->rights_cache);
	s->rights_cache = NULL;
}

static inline unsigned
cache_slot(struct grapnel_str topic)
{
	unsigned h = (unsigned)topic.len;

	if (topic.len >= 8) {
		uint64_t last;

		memcpy(&last, topic.data + topic.len - 8,
		    8); /* topics of one client differ near their end */
		h += (unsigned)(last * 0x9e3779b97f4a7c15u >> 56);
	} else {
		for (size_t i = 0; i < topic.len; i++)
			h = h * 31 + (unsigned char)topic.data[i];
	}
	return h % CACHE_SLOTS;
}

/* The cache if it is still good for something. */
static inline struct rights_cache *
cache_of(struct session *s)
{
	if (s->rights_cache == NULL || s->rights_cache->stamp == rights_stamp(s))
		return s->rights_cache;
	rights_cache_free(s);
	return NULL;
}

static inline bool
scope_has(const struct scope *sc, struct grapnel_str topic)
{
	if (sc->prefix_len > 0)
		return topic.len >= sc->prefix_len &&
		    memcmp(topic.data, sc->c.topic, sc->prefix_len) == 0 &&
		    (topic.len == sc->prefix_len || topic.data[sc->prefix_len] == '/');
	return topic_matches((struct grapnel_str){ sc->c.topic, sc->c.len }, topic);
}

static inline struct cached *
cache_find(struct session *s, struct grapnel_str topic)
{
	struct rights_cache *rc = cache_of(s);
	struct cached *e;

	if (rc == NULL)
		return NULL;
	e = &rc->e[cache_slot(topic)];
	if (e->topic == NULL || e->len != topic.len ||
	    memcmp(e->topic, topic.data, topic.len) != 0 || s->w->now_ms >= e->until_ms)
		return NULL;
	return e;
}

/* 1: PUBLISH is allowed; READ: 1, 0; -1: not known. */
static inline int
cache_knows(struct session *s, enum grapnel_action action, struct grapnel_str topic, unsigned bit)
{
	struct rights_cache *rc = cache_of(s);
	const struct cached *e;

	if (rc == NULL)
		return -1;
	for (unsigned i = 0; i < rc->scope_count; i++) {
		e = &rc->scopes[i].c;
		if ((action == GRAPNEL_PUBLISH ? (e->publish & bit) == 0 : e->read < 0) ||
		    s->w->now_ms >= e->until_ms || !scope_has(&rc->scopes[i], topic))
			continue;
		return action == GRAPNEL_PUBLISH ? 1 : e->read;
	}
	if ((e = cache_find(s, topic)) == NULL)
		return -1;
	if (action == GRAPNEL_PUBLISH)
		return (e->publish & bit) != 0 ? 1 : -1;
	return e->read;
}

/* The entry for a scope, made if need be. NULL: no memory. */
static struct cached *
scope_entry(struct session *s, struct grapnel_str filter, uint64_t until_ms)
{
	struct rights_cache *rc = s->rights_cache;
	struct scope *sc;
	char *copy;

	for (unsigned i = 0; i < rc->scope_count; i++) {
		struct cached *c = &rc->scopes[i].c;

		if (c->len == filter.len && memcmp(c->topic, filter.data, filter.len) == 0 &&
		    s->w->now_ms < c->until_ms)
			return c;
	}
	if ((copy = malloc(filter.len)) == NULL)
		return NULL;
	memcpy(copy, filter.data, filter.len);
	sc = &rc->scopes[rc->scope_next];
	rc->scope_next = (rc->scope_next + 1) % SCOPES;
	if (rc->scope_count < SCOPES)
		rc->scope_count++;
	free(sc->c.topic);
	*sc = (struct scope){ .c = { .topic = copy,
				  .len = (uint32_t)filter.len,
				  .until_ms = until_ms,
				  .read = -1 } };
	if (filter.len > 2 && memcmp(copy + filter.len - 2, "/#", 2) == 0 &&
	    !topic_has_wildcard((struct grapnel_str){ copy, filter.len - 2 }))
		sc->prefix_len = (uint32_t)filter.len - 2;
	return &sc->c;
}

static struct cached *
topic_entry(struct session *s, struct grapnel_str topic, uint64_t until_ms)
{
	struct cached *e = cache_find(s, topic);
	char *copy;

	if (e != NULL)
		return e;
	if ((copy = malloc(topic.len + 1)) == NULL)
		return NULL;
	memcpy(copy, topic.data, topic.len);
	e = &s->rights_cache->e[cache_slot(topic)];
	free(e->topic);
	*e = (struct cached){
		.topic = copy, .len = (uint32_t)topic.len, .until_ms = until_ms, .read = -1
	};
	return e;
}

/* scope: the answer is the same for all that this Topic Filter matches; .data NULL: for that topic. */
static void
cache_put(struct session *s, const struct rights_question *q, bool allowed, uint32_t ttl_ms,
    struct grapnel_str scope)
{
	uint64_t until = ttl_ms == UINT32_MAX ? UINT64_MAX : s->w->now_ms + ttl_ms;
	struct cached *e;

	if (ttl_ms == 0 || (q->action == GRAPNEL_PUBLISH && !allowed) ||
	    (q->action != GRAPNEL_PUBLISH && q->action != GRAPNEL_READ))
		return;
	if (cache_of(s) == NULL) {
		if ((s->rights_cache = calloc(1, sizeof(*s->rights_cache))) == NULL)
			return;
		s->rights_cache->stamp = rights_stamp(s);
	}
	e = scope.data != NULL ? scope_entry(s, scope, until) : topic_entry(s, q->topic, until);
	if (e == NULL)
		return;
	if (until < e->until_ms)
		e->until_ms = until;
	if (q->action == GRAPNEL_PUBLISH)
		e->publish |= (uint8_t)(1u << (q->qos * 2 + q->retain));
	else
		e->read = allowed;
}

/* Nothing but the default decides about this session. */
static bool
only_default(const struct session *s)
{
	return !s->has_rules && !hook_used(s->w, HOOK_ACL);
}

static bool
is_sys(struct grapnel_str topic)
{
	return topic.len >= 4 && memcmp(topic.data, "$SYS", 4) == 0 &&
	    (topic.len == 4 || topic.data[4] == '/');
}

/* A decision that no plugin was asked about. */
static void
record_own(struct worker *w, const struct session *s, const struct identity *id,
    const struct rights_question *q, bool allowed, struct grapnel_str rule)
{
	struct grapnel_client_info info;
	struct record r = { .hook = HOOK_ACL,
		.client = &info,
		.action = q->action,
		.qos = q->qos,
		.topic = q->topic,
		.verdict = allowed ? GRAPNEL_ALLOW : GRAPNEL_DENY,
		.rule = rule };

	if (s != NULL)
		session_info(s, &info);
	else
		identity_info(id, &info);
	record_decision(w, &r);
}

/* The same for an answer that was known: under trace only, since there is one per message. */
static void
record_known(const struct session *s, enum grapnel_action action, struct grapnel_str topic,
    uint8_t qos, bool allowed)
{
	struct rights_question q = { .action = action, .qos = qos, .topic = topic };

	if (traces_used(s->w))
		record_own(s->w, s, s->identity, &q, allowed,
		    s->superuser          ? GRAPNEL_STR("superuser")
			: only_default(s) ? GRAPNEL_STR("default ($-topics need a rule)")
					  : GRAPNEL_STR("an earlier answer, kept"));
}

bool
rights_publish_cached(struct session *s, struct grapnel_str topic, uint8_t qos, bool retain)
{
	if (topic.data[0] == '$' && (is_sys(topic) || !s->superuser))
		return false; /* rare, and asked in full */
	if (!s->superuser && !only_default(s) &&
	    cache_knows(s, GRAPNEL_PUBLISH, topic, 1u << (qos * 2 + retain)) != 1)
		return false;
	record_known(s, GRAPNEL_PUBLISH, topic, qos, true);
	return true;
}

int
rights_read_cached(struct session *s, struct grapnel_str topic, uint8_t qos)
{
	int known = 1;

	if (!s->superuser && !only_default(s))
		known = cache_knows(s, GRAPNEL_READ, topic, 0);
	if (known >= 0)
		record_known(s, GRAPNEL_READ, topic, qos, known != 0);
	return known;
}

/* ---- asking ---------------------------------------------------------------------------------------- */

void
rights_from(const struct decision *d, struct rights_answer *a)
{
	memset(a, 0, sizeof(*a));
	a->verdict = d->verdict;
	a->reason_string = d->acl->reason_string;
	a->rule = d->acl->rule;
	if (a->rule.data == NULL && d->plugin != NULL)
		a->rule = (struct grapnel_str){ d->plugin, strlen(d->plugin) };
	switch (d->verdict) {
	case GRAPNEL_ALLOW:
		a->flags = d->acl->flags;
		a->max_qos_plus_one = d->acl->max_qos_plus_one;
		break;
	case GRAPNEL_UNAVAILABLE:
		a->reason_code = RC_IMPLEMENTATION_SPECIFIC;
		break;
	case GRAPNEL_NEXT: /* the end of the chain */
	case GRAPNEL_DENY:
	case GRAPNEL_PENDING:
		a->verdict = GRAPNEL_DENY;
		a->reason_code =
		    d->acl->reason_code >= 0x80 ? d->acl->reason_code : RC_NOT_AUTHORIZED;
		if (a->rule.data == NULL)
			a->rule = GRAPNEL_STR("default (no rule allows it)");
		break;
	}
}

static bool
own(struct rights_answer *a, bool allow, uint32_t flags, struct grapnel_str rule)
{
	memset(a, 0, sizeof(*a));
	a->verdict = allow ? GRAPNEL_ALLOW : GRAPNEL_DENY;
	a->flags = flags;
	a->reason_code = allow ? 0 : RC_NOT_AUTHORIZED;
	a->rule = rule;
	return true;
}

/* The session's rules as the SDK asks them. */
static struct grapnel_rules_question
rules_question(const struct identity *id, const struct rights_question *q)
{
	return (struct grapnel_rules_question){ .size = sizeof(struct grapnel_rules_question),
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.client_id = identity_client_id(id),
		.username = identity_username(id),
		.attributes = identity_attributes(id),
		.attribute_count = id->attribute_count };
}

bool
rights_own(struct worker *w, const struct identity *id, bool superuser, struct grapnel_rules *rules,
    const struct rights_question *q, struct rights_answer *a, bool *by_rules, bool *covered)
{
	*by_rules = *covered = false;
	if (q->action != GRAPNEL_SUBSCRIBE && q->action != GRAPNEL_READ && is_sys(q->topic))
		return own(a, false, 0, GRAPNEL_STR("the broker ($SYS is its own)"));
	if (id->superuser || superuser)
		return own(a, true, GRAPNEL_ACL_COVERED, GRAPNEL_STR("superuser"));
	if (rules != NULL) {
		struct grapnel_rules_question rq = rules_question(id, q);
		struct grapnel_str rule;
		uint32_t flags = 0;
		enum grapnel_verdict v = acl_rules_check(rules, &rq, &flags, &rule);

		if (v == GRAPNEL_ALLOW || v == GRAPNEL_DENY) {
			*by_rules = true;
			return own(a, v == GRAPNEL_ALLOW, flags, rule);
		}
		*covered = (flags & GRAPNEL_ACL_COVERED) != 0;
	}
	if (!hook_used(w, HOOK_ACL)) {
		bool allow = rules == NULL && (q->topic.len == 0 || q->topic.data[0] != '$');

		return own(a, allow, allow ? GRAPNEL_ACL_COVERED : 0,
		    rules == NULL ? GRAPNEL_STR("default ($-topics need a rule)")
				  : GRAPNEL_STR("default (no rule allows it)"));
	}
	return false;
}

/* The session's own rules have decided: it need not ask them again for topics like this one. */
static void
keep_by_rules(struct session *s, struct grapnel_rules *rules, const struct identity *id,
    const struct rights_question *q, const struct rights_answer *a)
{
	struct grapnel_rules_question rq = rules_question(id, q);
	char buf[SCOPE_MAX];
	struct grapnel_str scope = { buf, acl_rules_scope(rules, &rq, buf, sizeof(buf)) };

	if (scope.len == 0)
		scope.data = NULL;
	cache_put(s, q, a->verdict == GRAPNEL_ALLOW, UINT32_MAX, scope);
}

void
message_info_of(
    const struct message *msg, struct grapnel_str mountpoint, struct grapnel_message_info *out)
{
	size_t skip = mountpoint.len <= msg->topic_len ? mountpoint.len : 0;

	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	out->topic_name = (struct grapnel_str){ msg->topic + skip, msg->topic_len - skip };
	out->payload = (struct grapnel_str){ msg->payload, msg->payload_len };
	out->properties = (struct grapnel_str){ msg->props, msg->props_len };
	if (msg->author != NULL) {
		out->author_client_id = identity_client_id(msg->author);
		out->author_username = identity_username(msg->author);
	}
	if (msg->flags & MSG_EXPIRES) {
		out->has_message_expiry = true;
		out->message_expiry = message_seconds_left(msg);
	}
	out->qos = msg->qos;
	out->retain = (msg->flags & MSG_RETAIN) != 0;
	out->will = (msg->flags & MSG_WILL) != 0;
}

static bool
rights_one_source(const struct worker *w)
{
	return ((const struct hook_state_head *)(const void *)w->hooks)->chain_length[HOOK_ACL] ==
	    1;
}

bool
rights_ask(struct worker *w, struct session *s, const struct identity *id,
    struct grapnel_rules *rules, const struct rights_question *q, decision_fn fn, void *arg,
    struct rights_answer *now, struct grapnel_request **pending)
{
	struct core_worker *cw = w->core;
	struct grapnel_client_info info;
	struct grapnel_message_info mi;
	struct grapnel_acl_check question = { .size = sizeof(question),
		.client = &info,
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.share = q->share };
	bool rules_covered, by_rules;

	decision_release(&cw->last_decision); /* the last answer's strings */
	memset(&cw->last_decision, 0, sizeof(cw->last_decision));
	*pending = NULL;
	if (rights_own(
		w, id, s != NULL && s->superuser, rules, q, now, &by_rules, &rules_covered)) {
		if (records_used(w))
			record_own(w, s, id, q, now->verdict == GRAPNEL_ALLOW, now->rule);
		if (by_rules && s != NULL)
			keep_by_rules(s, rules, id, q, now);
		return true;
	}
	if (s != NULL)
		session_info(s, &info);
	else
		identity_info(id, &info);
	if (q->msg != NULL) {
		message_info_of(
		    q->msg, q->mounted ? id->site->mountpoint : (struct grapnel_str){ "", 0 }, &mi);
		question.message = &mi;
	}
	if (!hooks_ask(w, HOOK_ACL, &question, NULL, fn, arg, &cw->last_decision, pending))
		return false;
	w->flush_due =
	    true; /* it is let go of when the turn ends: instances that a reload replaced wait for that */
	rights_from(&cw->last_decision, now);
	/* The session's own rules, or another plugin of the chain, may still deny some of it. */
	if ((rules != NULL && !rules_covered) || !rights_one_source(w))
		now->flags &= ~(uint32_t)GRAPNEL_ACL_COVERED;
	if (s != NULL &&
	    (now->verdict == GRAPNEL_ALLOW || cw->last_decision.verdict == GRAPNEL_DENY) &&
	    !cw->last_decision.acl->no_store &&
	    (now->flags & ~(uint32_t)GRAPNEL_ACL_COVERED) == 0) {
		const struct grapnel_acl_answer *a = cw->last_decision.acl;

		cache_put(s, q, now->verdict == GRAPNEL_ALLOW, a->cache_ttl_ms,
		    rules == NULL && rights_one_source(w) ? a->same_for
							  : (struct grapnel_str){ 0 });
	}
	return true;
}

static void
nobody_waits(void *arg, const struct decision *d)
{
	(void)arg;
	(void)d;
}

/*
 * Must READ be asked for what comes through this subscription? After a change of rights the answer is learnt
 * anew, once, by asking for the subscription again.
 */
static bool
learn_covered(struct session *s, struct grapnel_str filter, struct grapnel_str share, uint8_t qos)
{
	size_t skip = s->mountpoint_len;
	struct rights_question q = { .action = GRAPNEL_SUBSCRIBE, .qos = qos, .share = share };
	struct grapnel_request *pending;
	struct rights_answer now;

	if (filter.len < skip)
		return false;
	q.topic = (struct grapnel_str){ filter.data + skip, filter.len - skip };
	if (!rights_ask(
		s->w, s, s->identity, session_rules(s), &q, nobody_waits, NULL, &now, &pending)) {
		hooks_cancel(s->w, pending); /* it would be late: READ is asked instead */
		return false;
	}
	return now.verdict == GRAPNEL_ALLOW && now.flags & GRAPNEL_ACL_COVERED;
}

/* By itself, since a frame of this size costs every caller: the compiler touches each of its pages. */
static __attribute__((noinline)) bool
learn_sub_covered(struct session *s, const struct sub *sub)
{
	char filter[65536];
	size_t len = topic_index_filter(s->w->broker->index, sub->node, filter, sizeof(filter));

	return len <= sizeof(filter) &&
	    learn_covered(
		s, (struct grapnel_str){ filter, len }, (struct grapnel_str){ 0 }, sub->qos);
}

bool
rights_read_learn(struct session *s, struct sub *sub)
{
	uint32_t stamp = rights_stamp(s);

	if (sub->rights != stamp) {
		sub->rights = stamp;
		sub->flags &= (uint8_t)~SUB_COVERED;
		if (s->superuser || only_default(s) || learn_sub_covered(s, sub))
			sub->flags |= SUB_COVERED;
	}
	return !(sub->flags & SUB_COVERED);
}

bool
rights_member_needed(struct session *s, struct member *m)
{
	uint32_t stamp, skip = m->share_len + 1;

	if (s->superuser || only_default(s))
		return false;
	stamp = rights_stamp(s);
	if (m->rights != stamp) {
		m->rights = stamp;
		m->flags &= (uint8_t)~SUB_COVERED;
		if (learn_covered(s, (struct grapnel_str){ m->key + skip, m->key_len - skip },
			(struct grapnel_str){ m->key, m->share_len }, m->qos))
			m->flags |= SUB_COVERED;
	}
	return !(m->flags & SUB_COVERED);
}
