/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subscribe - SUBSCRIBE and UNSUBSCRIBE: filter by filter through hook, rights and the tables; then one answer
 */
#include "base/log.h"
#include "core/durable.h"
#include "core/publish.h"
#include "mqtt/topic.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum stage { STAGE_BEGIN, STAGE_HOOK, STAGE_RIGHTS, STAGE_APPLY };

struct subscribe_step {
	struct step head;
	bool unsubscribe;
	struct wire items;
	struct timer more; /* many filters: others have their turn in between */
	unsigned in_turn;
	uint16_t packet_id;
	uint32_t subscription_id;
	struct grapnel_str props;
	unsigned count, at;
	enum stage stage;
	/* the item at hand */
	struct mqtt_subscription item;
	char *rewritten; /* filter as the hook wants it */
	char *why;       /* Reason String: of the first one that was refused; NULL: none */
	size_t why_len;
	uint32_t acl_flags;
	uint32_t token; /* of the shared join that is waited for */
	bool joining;
	bool changed;   /* something that is kept */
	uint8_t *codes; /* count of them, in body's tail */
	uint8_t body[];
};

#define ITEMS_PER_TURN   256
#define UNAVAILABLE_TEXT GRAPNEL_STR("not decided: the backend is unavailable")

static enum outcome step_go(struct subscribe_step *st);

static void
subscribe_step_free(struct step *head)
{
	struct subscribe_step *st = (struct subscribe_step *)(void *)head;

	timer_disarm(st->head.c->w->wheel, &st->more);
	free(st->rewritten);
	free(st->why);
	free(st);
}

static void
item_done(struct subscribe_step *st, uint8_t code)
{
	struct conn *c = st->head.c;

	st->codes[st->at++] = code;
	st->stage = STAGE_BEGIN;
	free(st->rewritten);
	st->rewritten = NULL;
	if (code >= 0x80)
		metric_add(&c->w->metrics, METRIC_SUBSCRIBE_REFUSED, 1);
}

/* Refused, and why. A code that the packet does not have, of a plugin's choice, becomes 0x83. */
static void
item_refused(struct subscribe_step *st, uint8_t code, struct grapnel_str why)
{
	if (st->why == NULL && why.len > 0 && (st->why = malloc(why.len)) != NULL) {
		memcpy(st->why, why.data, why.len);
		st->why_len = why.len;
	}
	item_done(st,
	    mqtt_reason_valid(st->unsubscribe ? MQTT_UNSUBACK : MQTT_SUBACK, code)
		? code
		: RC_IMPLEMENTATION_SPECIFIC);
}

static void
subscribe_event(struct subscribe_step *st, enum grapnel_event_type type, uint8_t code)
{
	struct conn *c = st->head.c;
	struct grapnel_client_info info;
	struct grapnel_event ev = { .type = type,
		.client = &info,
		.filter = st->item.filter,
		.reason_code = code,
		.qos = st->item.qos };

	if (!event_wanted(c->w, type))
		return;
	session_info(c->session, &info);
	event_emit(c->w, &ev);
}

/* ---- the hook ------------------------------------------------------------------------------- */

static void
take_hook(struct subscribe_step *st, const struct decision *d)
{
	const struct grapnel_subscribe_answer *a = d->subscribe;

	if (d->verdict == GRAPNEL_DENY) {
		item_refused(st, a->reason_code >= 0x80 ? a->reason_code : RC_NOT_AUTHORIZED,
		    a->reason_string.data != NULL ? a->reason_string
						  : GRAPNEL_STR("refused by a plugin"));
		return;
	}
	if (d->verdict == GRAPNEL_UNAVAILABLE) {
		item_refused(st, RC_UNSPECIFIED, UNAVAILABLE_TEXT);
		return;
	}
	if (d->verdict == GRAPNEL_ALLOW) {
		if (a->has_qos && a->qos < st->item.qos)
			st->item.qos = a->qos;
		if (a->filter.data != NULL) {
			free(st->rewritten);
			if ((st->rewritten = malloc(a->filter.len + 1)) == NULL) {
				item_done(st, RC_UNSPECIFIED);
				return;
			}
			memcpy(st->rewritten, a->filter.data, a->filter.len);
			st->item.filter = (struct grapnel_str){ st->rewritten, a->filter.len };
			if (a->filter.len > 65535 || !utf8_valid(a->filter.data, a->filter.len) ||
			    !topic_filter_valid(st->item.filter, &st->item.share, &st->item.rest)) {
				item_done(st, RC_TOPIC_FILTER_INVALID);
				return;
			}
		}
	}
	st->stage = STAGE_RIGHTS;
}

static void
go_on_later(struct subscribe_step *st)
{
	struct conn *c = st->head.c;

	if (step_go(st) == DONE)
		step_end(c);
	else
		step_wait(&st->head);
}

static void
on_hook_later(void *arg, const struct decision *d)
{
	struct subscribe_step *st = arg;

	step_resumed(&st->head);
	take_hook(st, d);
	go_on_later(st);
}

static bool
ask_hook(struct subscribe_step *st)
{
	struct conn *c = st->head.c;
	enum hook h = st->unsubscribe ? HOOK_UNSUBSCRIBE : HOOK_SUBSCRIBE;
	struct grapnel_client_info info;
	struct grapnel_client_subscribe q = { .size = sizeof(q),
		.client = &info,
		.filter = st->item.filter,
		.properties = st->props,
		.subscription_identifier = st->subscription_id,
		.qos = st->item.qos,
		.retain_handling = st->item.retain_handling,
		.no_local = st->item.no_local,
		.retain_as_published = st->item.retain_as_published };
	struct decision now;

	if (!hook_used(c->w, h)) {
		st->stage = STAGE_RIGHTS;
		return true;
	}
	session_info(c->session, &info);
	if (!hooks_ask(c->w, h, &q, NULL, on_hook_later, st, &now, &st->head.pending))
		return false;
	take_hook(st, &now);
	decision_release(&now);
	return true;
}

/* ---- rights -------------------------------------------------------------------------------------- */

static void
take_rights(struct subscribe_step *st, const struct rights_answer *a)
{
	struct conn *c = st->head.c;
	struct session *s = c->session;
	unsigned suppressed;

	if (a->verdict == GRAPNEL_ALLOW) {
		st->acl_flags = a->flags;
		if (a->max_qos_plus_one != 0 && a->max_qos_plus_one - 1 < st->item.qos)
			st->item.qos = (uint8_t)(a->max_qos_plus_one - 1);
		st->stage = STAGE_APPLY;
		return;
	}
	if (a->verdict == GRAPNEL_DENY)
		metric_add(&c->w->metrics, METRIC_ACL_DENIED, 1);
	if (log_allowed(conn_peer(c), &suppressed))
		log_at(GRAPNEL_LOG_NOTICE,
		    a->verdict == GRAPNEL_DENY ? "acl_denied" : "subscribe_unavailable",
		    "client \"%.*s\" user \"%.*s\" from %s: subscribe to \"%.*s\" %s%s%.*s%s",
		    STR(identity_client_id(s->identity)), STR(identity_username(s->identity)),
		    conn_peer(c), STR(st->item.filter),
		    a->verdict == GRAPNEL_DENY ? "denied" : "not decided: backend unavailable",
		    a->rule.len > 0 ? " by " : "", STR(a->rule),
		    suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	if (a->verdict == GRAPNEL_DENY)
		item_refused(st, a->reason_code,
		    a->reason_string.data != NULL ? a->reason_string
						  : GRAPNEL_STR("no right to subscribe to that"));
	else
		item_refused(st, RC_UNSPECIFIED, UNAVAILABLE_TEXT);
}

static void
on_rights_later(void *arg, const struct decision *d)
{
	struct subscribe_step *st = arg;
	struct rights_answer a;

	rights_from(d, &a);
	a.flags &=
	    ~(uint32_t)
		GRAPNEL_ACL_COVERED; /* of an answer that came late it is not known who else would deny */
	step_resumed(&st->head);
	take_rights(st, &a);
	go_on_later(st);
}

static bool
ask_rights(struct subscribe_step *st)
{
	struct conn *c = st->head.c;
	struct session *s = c->session;
	struct rights_question q = { .action = GRAPNEL_SUBSCRIBE,
		.qos = st->item.qos,
		.topic = st->item.rest,
		.share = st->item.share };
	struct rights_answer now;

	if (!rights_ask(c->w, s, s->identity, session_rules(s), &q, on_rights_later, st, &now,
		&st->head.pending))
		return false;
	take_rights(st, &now);
	return true;
}

/* ---- the tables ---------------------------------------------------------------------------------------- */

/* mountpoint + rest, on the heap. */
static struct grapnel_str
mounted(const struct session *s, struct grapnel_str rest)
{
	struct grapnel_str mp = session_mountpoint(s);
	char *p = mp.len + rest.len <= 65535 ? malloc(mp.len + rest.len + 1) : NULL;

	if (p == NULL)
		return (struct grapnel_str){ 0 };
	memcpy(p, mp.data, mp.len);
	memcpy(p + mp.len, rest.data, rest.len);
	return (struct grapnel_str){ p, mp.len + rest.len };
}

static void
keep_shared(struct subscribe_step *st)
{
	struct session *s = st->head.c->session;
	struct grapnel_str filter = mounted(s, st->item.rest);
	struct sub values = { .id = st->subscription_id, .qos = st->item.qos };

	st->changed = true;
	if (filter.data == NULL)
		return;
	if (st->item.retain_as_published)
		values.flags |= SUB_RETAIN_AS_PUBLISHED;
	if (session_mountpoint(s).len > 0 &&
	    (st->item.rest.data[0] == '+' || st->item.rest.data[0] == '#'))
		values.flags |= SUB_WILD_FIRST;
	durable_subscription(s, st->item.share, filter, &values, st->item.retain_handling);
	free((void *)(uintptr_t)filter.data);
}

static void
join_done(struct subscribe_step *st, int err)
{
	if (err == GRAPNEL_OK) {
		keep_shared(st);
		subscribe_event(st, GRAPNEL_EVENT_SUBSCRIBED, st->item.qos);
	}
	item_done(st,
	    err == GRAPNEL_OK           ? st->item.qos
		: err == GRAPNEL_EQUOTA ? RC_QUOTA_EXCEEDED
					: RC_UNSPECIFIED);
}

static void
on_joined(struct worker *w, uint64_t generation, uint32_t token, int err)
{
	struct session *s = session_by_generation(w, generation);
	struct subscribe_step *st;

	if (s == NULL || s->conn == NULL || s->conn->step == NULL ||
	    s->conn->step->free_fn != subscribe_step_free)
		return; /* the connection left meanwhile; the membership stays with its session */
	st = (struct subscribe_step *)(void *)s->conn->step;
	if (!st->joining || st->token != token)
		return;
	st->joining = false;
	step_resumed(&st->head);
	join_done(st, err);
	go_on_later(st);
}

/* A subscription that exists is replaced: that is none more. */
static bool
replaces(const struct subscribe_step *st)
{
	struct session *s = st->head.c->session;
	struct grapnel_str filter = mounted(s, st->item.rest);
	bool has;

	if (filter.data == NULL)
		return false;
	has = st->item.share.data != NULL ? shared_has(s, st->item.share, filter)
					  : subs_has(s, filter);
	free((void *)(uintptr_t)filter.data);
	return has;
}

/* The store has to take it in, which it cannot now. */
static uint8_t
store_refuses(const struct subscribe_step *st)
{
	const struct session *s = st->head.c->session;

	if (!s->durable || s->w->durable == NULL)
		return 0;
	switch (store_state(s->w->broker->store)) {
	case STORE_GOOD:
		return 0;
	case STORE_FULL:
		return st->unsubscribe ? 0 : RC_QUOTA_EXCEEDED;
	case STORE_FAILING:
		break;
	}
	return RC_IMPLEMENTATION_SPECIFIC;
}

static uint8_t
apply_checks(const struct subscribe_step *st)
{
	const struct session *s = st->head.c->session;
	const struct limits *l = s->limits;
	struct broker *b = st->head.c->w->broker;
	const struct limits *total = atomic_load_explicit(&b->limits, memory_order_acquire);

	uint8_t err;

	if (st->item.rest.data == NULL)
		return RC_TOPIC_FILTER_INVALID;
	if ((err = store_refuses(st)) != 0)
		return err;
	if (topic_levels(st->item.rest) > l->max_topic_levels)
		return RC_TOPIC_FILTER_INVALID;
	if (!l->wildcard_available && topic_has_wildcard(st->item.rest))
		return RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED;
	if (!l->shared_available && st->item.share.data != NULL)
		return RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
	if (((l->max_subscriptions_per_client != 0 &&
		 s->sub_count + (s->flow->members != NULL ? s->flow->members->live : 0) >=
		     l->max_subscriptions_per_client) ||
		(uint64_t)atomic_load_explicit(&b->subscriptions, memory_order_relaxed) >=
		    total->max_subscriptions ||
		overload_level(&b->overload) == OVERLOAD_FULL) &&
	    !replaces(st))
		return RC_QUOTA_EXCEEDED;
	return 0;
}

/* @return false: a shared group on another worker answers later. */
static bool
apply_subscribe(struct subscribe_step *st)
{
	static uint32_t next_token;
	struct conn *c = st->head.c;
	struct session *s = c->session;
	struct grapnel_str filter = mounted(s, st->item.rest), mp = session_mountpoint(s);
	struct sub values = { .id = st->subscription_id,
		.qos = st->item.qos,
		.retain_handling = st->item.retain_handling };
	struct sub *sub;
	bool existed = false, later = false;
	int err;

	if (filter.data == NULL) {
		item_done(st, RC_UNSPECIFIED);
		return true;
	}
	if (st->item.no_local)
		values.flags |= SUB_NO_LOCAL;
	if (st->item.retain_as_published)
		values.flags |= SUB_RETAIN_AS_PUBLISHED;
	if (mp.len > 0 && (st->item.rest.data[0] == '+' || st->item.rest.data[0] == '#'))
		values.flags |= SUB_WILD_FIRST;
	if (st->acl_flags & GRAPNEL_ACL_COVERED) {
		values.flags |= SUB_COVERED;
		values.rights = rights_stamp(s);
	}
	if (st->item.share.data != NULL) {
		st->joining = true;
		st->token = __atomic_add_fetch(&next_token, 1, __ATOMIC_RELAXED);
		err = shared_join(s, st->item.share, filter, st->item.qos, st->subscription_id,
		    values.flags, &existed, &later, on_joined, st->token);
		free((void *)(uintptr_t)filter.data);
		if (err == GRAPNEL_OK && later)
			return false;
		st->joining = false;
		join_done(st, err);
		return true;
	}
	if ((err = subs_add(s, filter, &values, &existed, &sub)) != GRAPNEL_OK) {
		free((void *)(uintptr_t)filter.data);
		item_done(st, RC_UNSPECIFIED);
		return true;
	}
	/* Retained messages: always, only for a new subscription, or never [MQTT-3.3.1-9] to [MQTT-3.3.1-11]. */
	if (!(st->acl_flags & GRAPNEL_ACL_NO_SEND_RETAINED) &&
	    (st->item.retain_handling == 0 || (st->item.retain_handling == 1 && !existed)))
		retained_start(s, sub, filter);
	durable_subscription(s, (struct grapnel_str){ 0 }, filter, sub, st->item.retain_handling);
	st->changed = true;
	free((void *)(uintptr_t)filter.data);
	subscribe_event(st, GRAPNEL_EVENT_SUBSCRIBED, st->item.qos);
	item_done(st, st->item.qos);
	return true;
}

static void
apply_unsubscribe(struct subscribe_step *st)
{
	struct session *s = st->head.c->session;
	struct grapnel_str filter;
	bool existed;

	if (st->item.rest.data == NULL) {
		item_done(st, RC_TOPIC_FILTER_INVALID);
		return;
	}
	if ((filter = mounted(s, st->item.rest)).data == NULL) {
		item_done(st, RC_UNSPECIFIED);
		return;
	}
	existed = st->item.share.data != NULL ? shared_leave(s, st->item.share, filter)
					      : subs_remove(s, filter);
	if (existed) {
		durable_unsubscription(s, st->item.share, filter);
		st->changed = true;
	}
	free((void *)(uintptr_t)filter.data);
	if (existed)
		subscribe_event(st, GRAPNEL_EVENT_UNSUBSCRIBED, 0);
	item_done(st, existed ? 0 : RC_NO_SUBSCRIPTION_EXISTED);
}

/* Not before it is true after a crash, too. */
static void
answer_gated(struct conn *c, uint8_t type, const struct mqtt_suback *a)
{
	size_t len = mqtt_suback_size(c->version, type, a);
	uint8_t *p = malloc(len);

	if (p == NULL || !gate_after_batch(c)) {
		free(p);
		conn_close(c, 0, "out of memory");
		return;
	}
	mqtt_suback_encode(p, c->version, type, a);
	gate_packet(c, p, len);
}

static void
answer(struct subscribe_step *st)
{
	struct conn *c = st->head.c;
	uint8_t type = st->unsubscribe ? MQTT_UNSUBACK : MQTT_SUBACK;
	struct mqtt_suback a = {
		.packet_id = st->packet_id, .codes = st->codes, .count = st->count
	};
	uint8_t *p;

	if (c->problem_info) /* [MQTT-3.1.2-29] */
		a.reason_string = (struct grapnel_str){ st->why, st->why_len };
	if (c->client_max_packet != 0 &&
	    mqtt_suback_size(c->version, type, &a) > c->client_max_packet)
		a.reason_string.data = NULL; /* [MQTT-3.9.2-1] */
	if (st->changed && c->session->durable && durable_strict(c->w)) {
		answer_gated(c, type, &a);
		return;
	}
	if ((p = conn_out(c, mqtt_suback_size(c->version, type, &a))) == NULL) {
		conn_close(c, 0, "out of memory");
		return;
	}
	mqtt_suback_encode(p, c->version, type, &a);
	metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	if (!st->unsubscribe)
		deliver_pump(c->session); /* retained messages follow */
}

static void
on_more(struct timer *t, void *owner)
{
	struct subscribe_step *st =
	    (struct subscribe_step *)(void *)((char *)t - offsetof(struct subscribe_step, more));

	(void)owner;
	step_resumed(&st->head);
	go_on_later(st);
}

static enum outcome
step_go(struct subscribe_step *st)
{
	struct conn *c = st->head.c;
	uint8_t err;

	for (;;) {
		switch (st->stage) {
		case STAGE_BEGIN:
			if (st->in_turn++ == ITEMS_PER_TURN) {
				st->in_turn = 0;
				worker_timer(c->w, &st->more, 0);
				return WAIT;
			}
			st->acl_flags = 0;
			if (st->unsubscribe
				? !mqtt_unsubscribe_next(&st->items, c->version, &st->item)
				: !mqtt_subscribe_next(&st->items, c->version, &st->item)) {
				answer(st);
				subscribe_step_free(&st->head);
				return DONE;
			}
			if (st->item.qos > c->session->limits->max_qos)
				st->item.qos = c->session->limits->max_qos;
			if (st->item.rest.data == NULL) {
				item_done(st, RC_TOPIC_FILTER_INVALID);
				break;
			}
			st->stage = STAGE_HOOK;
			break;
		case STAGE_HOOK:
			if (!ask_hook(st))
				return WAIT;
			break;
		case STAGE_RIGHTS:
			if (st->unsubscribe) { /* taking away one's own subscription needs no right */
				if ((err = store_refuses(st)) != 0) {
					if (c->version < 5) { /* UNSUBACK has no word for it */
						subscribe_step_free(&st->head);
						conn_close(c, 0, "the store is failing");
						return DONE;
					}
					item_done(st, err);
					break;
				}
				apply_unsubscribe(st);
				break;
			}
			if ((err = apply_checks(st)) != 0) {
				item_done(st, err);
				break;
			}
			if (!ask_rights(st))
				return WAIT;
			break;
		case STAGE_APPLY:
			if (!apply_subscribe(st))
				return WAIT;
			break;
		}
	}
}

static enum handled
on_filters(struct conn *c, const struct mqtt_frame *f, const uint8_t *body, bool unsubscribe)
{
	struct subscribe_step *st;
	struct mqtt_subscribe s;
	struct wire w;

	wire_init(&w, body, f->remaining);
	if ((unsubscribe ? mqtt_unsubscribe_decode(&w, c->version, &s)
			 : mqtt_subscribe_decode(&w, c->version, &s)) != 0)
		return packet_malformed(c, w.err, w.why);
	if ((st = calloc(1, sizeof(*st) + f->remaining + s.count)) == NULL) {
		conn_close(c, RC_UNSPECIFIED, "out of memory");
		return HANDLED_CLOSED;
	}
	memcpy(st->body, body, f->remaining);
	wire_init(&w, st->body, f->remaining);
	if (unsubscribe)
		mqtt_unsubscribe_decode(&w, c->version, &s);
	else
		mqtt_subscribe_decode(&w, c->version, &s);
	st->head.c = c;
	st->head.free_fn = subscribe_step_free;
	timer_init(&st->more, on_more);
	st->unsubscribe = unsubscribe;
	st->items = s.items;
	st->packet_id = s.packet_id;
	st->subscription_id = s.subscription_id;
	st->props = s.props;
	st->count = s.count;
	st->codes = st->body + f->remaining;
	if (step_go(st) == WAIT) {
		step_wait(&st->head);
		return HANDLED_WAIT;
	}
	return c->state == CONN_ESTABLISHED ? HANDLED : HANDLED_CLOSED;
}

enum handled
on_subscribe(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	return on_filters(c, f, body, false);
}

enum handled
on_unsubscribe(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	return on_filters(c, f, body, true);
}
