/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish - a PUBLISH from a Client: checks, rights, the message_publish hook, routing in groups, acknowledgement
 *
 * In the common case (rights known, no hook) a packet becomes an item of the worker's batch without any
 * allocation, its slices pointing into the read buffer; conn_batch_end routes the batch and then acknowledges in order.
 * Where a plugin has to be asked, a step holds the state; if it answers later, the step owns a copy of the packet.
 */
#include "core/publish.h"

#include "base/log.h"
#include "core/durable.h"
#include "mqtt/topic.h"
#include "plugin/trace.h"

#include <stdlib.h>
#include <string.h>

struct pub_item {
	struct message msg;
	struct publish_step *step; /* owns what the slices point to; NULL: the read buffer does */
	char *scratch; /* topic with mountpoint and rewritten properties; NULL: none needed */
	uint16_t packet_id;
	uint8_t qos, reason_code;
	bool route;   /* false: acknowledged only */
	bool again;   /* routed by the process before, whose events may be lost */
	bool dropped; /* accepted and forgotten, as somebody decided */
	bool held;    /* durable.h: not delivered before its identifier is kept */
	struct grapnel_str reason_string; /* heap; .data NULL: none */
};
struct pub_batch {
	unsigned count;
	bool ending; /* conn_batch_end is at work: closing from in there must not begin it again */
	struct grapnel_str reason_string; /* heap; for the item that is added next */
	struct pub_item items[TOPIC_GROUP];
};

enum stage { STAGE_RIGHTS, STAGE_HOOK, STAGE_RIGHTS_AGAIN, STAGE_ROUTE };

struct publish_step { /* a PUBLISH that plugins are asked about */
	struct step head;
	struct mqtt_publish p;
	uint8_t *body; /* own copy; NULL: the read buffer has it */
	enum stage stage;
	bool no_retain, drop;
	/* what message_publish changed; owned */
	char *new_topic, *new_payload, *new_props;
	struct grapnel_str topic, payload;
	uint32_t new_props_len;
	uint8_t qos_plus_one; /* 0: the packet's */
};

int
batch_init(struct worker *w)
{
	return (w->core->batch = calloc(1, sizeof(*w->core->batch))) != NULL ? GRAPNEL_OK
									     : GRAPNEL_ENOMEM;
}

void
batch_fini(struct worker *w)
{
	free(w->core->batch);
}

static void
publish_step_free(struct step *head)
{
	struct publish_step *st = (struct publish_step *)(void *)head;

	if (st == NULL)
		return;
	free(st->body);
	free(st->new_topic);
	free(st->new_payload);
	free(st->new_props);
	free(st);
}

/* ---- the batch ------------------------------------------------------------------------------ */

static bool
received_add(struct session *s, uint16_t packet_id)
{
	struct flow *f = session_flow(s);

	return f != NULL && id_set_add(&f->received, packet_id) == GRAPNEL_OK;
}

static void
acknowledge(struct conn *c, const struct pub_item *it, uint8_t reason_code)
{
	uint8_t type = it->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC;

	if (it->qos == 2 && reason_code < 0x80 && !it->held) {
		if (!received_add(c->session, it->packet_id)) {
			conn_close(c, RC_UNSPECIFIED, "out of memory");
			return;
		}
		durable_exchange(c->session);
	}
	ack_send(c, type, it->packet_id, reason_code, it->reason_string, &it->msg);
}

/* What few items have. */
static void
item_free(struct pub_item *it)
{
	free((void *)(uintptr_t)it->reason_string.data);
	free(it->scratch);
	publish_step_free(it->step != NULL ? &it->step->head : NULL);
}

/* Messages of QoS 2 from a session that is kept: hold.c. */
static bool
is_held(const struct conn *c, const struct pub_item *it)
{
	return it->qos == 2 && it->msg.qos > 0 && c->session->durable &&
	    durable_mode(c->w, &it->msg) == DURABLE_STRICT;
}

static void
route_held(struct conn *c, struct pub_batch *b)
{
	struct message *msgs[TOPIC_GROUP];
	uint8_t codes[TOPIC_GROUP];
	struct hold *h = NULL;
	unsigned n = 0, k = 0;

	if (c->state == CONN_ESTABLISHED && store_state(c->w->broker->store) == STORE_GOOD)
		h = hold_begin(c);
	for (unsigned i = 0; i < b->count; i++) {
		struct pub_item *it = &b->items[i];

		if (!it->held)
			continue;
		it->reason_code = RC_QUOTA_EXCEEDED;
		if (h == NULL)
			continue;
		msgs[n++] = &it->msg;
		hold_id(h, it->packet_id);
		/* From now on it is known as received: if it comes again it is not another one. */
		if (!received_add(c->session, it->packet_id))
			conn_fail(c);
	}
	if (h == NULL)
		return;
	router_publish(c->w, msgs, n, c, codes);
	hold_end(c, h);
	for (unsigned i = 0; i < b->count; i++)
		if (b->items[i].held)
			b->items[i].reason_code = codes[k++];
}

/* Those that are not held get their codes in order. @return what acknowledgements wait for, the caller's to release; NULL: nothing. */
static struct ticket *
batch_route(struct conn *c, struct pub_batch *b, uint8_t *codes)
{
	struct message *msgs[TOPIC_GROUP];
	unsigned n = 0, held = 0;
	bool durable = c->session->durable;
	struct ticket *t = NULL;

	for (unsigned i = 0; i < b->count; i++) {
		struct pub_item *it = &b->items[i];

		if (!it->route)
			continue;
		if (durable && is_held(c, it)) {
			it->held = true;
			held++;
		} else {
			msgs[n++] = &it->msg;
		}
	}
	if (n > 0) {
		durable_route_begin(c->w);
		router_publish(c->w, msgs, n, c, codes);
		if ((t = durable_route_end(c->w)) != NULL && ticket_waits(t) &&
		    c->state == CONN_ESTABLISHED)
			(void)gate_open_after(c, t);
	}
	if (held > 0)
		route_held(c, b);
	return t;
}

void
conn_batch_end(struct conn *c)
{
	struct pub_batch *b = c->w->core->batch;
	uint8_t codes[TOPIC_GROUP];
	struct ticket *ticket;
	unsigned k = 0;

	if (b->count == 0 || b->ending)
		return;
	b->ending = true;
	ticket = batch_route(c, b, codes);
	for (unsigned i = 0; i < b->count; i++) {
		struct pub_item *it = &b->items[i];
		uint8_t code = it->route && !it->held ? codes[k++] : it->reason_code;

		if (c->state == CONN_ESTABLISHED && it->route && code >= 0x80 && it->qos > 0 &&
		    c->version < 5) {
			/* No memory, or no room in the store: 3.x has no negative acknowledgement, so none, and the Client keeps its message. */
			if (it->held)
				ack_refused(c, MQTT_PUBREC, it->packet_id);
			conn_close(c, RC_QUOTA_EXCEEDED, "its message cannot be taken in");
		}
		if (c->state == CONN_ESTABLISHED) {
			if ((it->route || it->again) && code < 0x80 &&
			    event_wanted(c->w, GRAPNEL_EVENT_MESSAGE_PUBLISHED))
				core_event(c->w, GRAPNEL_EVENT_MESSAGE_PUBLISHED, c->session,
				    &it->msg, code, NULL);
			else if (it->dropped && event_wanted(c->w, GRAPNEL_EVENT_MESSAGE_DROPPED))
				core_event(c->w, GRAPNEL_EVENT_MESSAGE_DROPPED, c->session,
				    &it->msg, 0, "dropped by a plugin or a rule");
			if (it->qos > 0)
				acknowledge(c, it, code);
		}
		if (it->msg.heap != NULL)
			message_release_borrowed(&it->msg);
		if (it->step != NULL || it->scratch != NULL || it->reason_string.data != NULL)
			item_free(it);
	}
	b->count = 0;
	b->ending = false;
	if (ticket != NULL)
		ticket_release(c->w, ticket);
}

/* Put a decided PUBLISH into the batch; takes the step. */
static void
batch_add(struct conn *c, const struct mqtt_publish *p, struct publish_step *st, bool route,
    bool no_retain, uint8_t reason_code)
{
	struct pub_batch *b = c->w->core->batch;
	struct session *s = c->session;
	struct grapnel_str mp = session_mountpoint(s), topic = p->topic_name, payload = p->payload;
	struct pub_item *it = &b->items[b->count];
	uint8_t qos = p->qos;
	size_t props_len, need;

	if (st != NULL) {
		if (st->topic.data != NULL)
			topic = st->topic;
		if (st->payload.data != NULL)
			payload = st->payload;
		if (st->qos_plus_one != 0)
			qos = (uint8_t)(st->qos_plus_one - 1);
	}
	*it = (struct pub_item){ .msg = { .qos = qos,
				     .topic = topic.data,
				     .topic_len = (uint16_t)topic.len,
				     .payload = payload.data,
				     .payload_len = (uint32_t)payload.len,
				     .author = s->identity },
		.step = st,
		.packet_id = p->packet_id,
		.qos = p->qos,
		.reason_code = reason_code,
		.route = route && !p->again,
		.again = route && p->again,
		.dropped = !route && reason_code < 0x80,
		.reason_string = b->reason_string };
	b->reason_string = (struct grapnel_str){ 0 };
	if (p->retain && !no_retain)
		it->msg.flags = MSG_RETAIN;
	if (p->props.payload_is_utf8)
		it->msg.flags |= MSG_UTF8;
	if (p->props.has_message_expiry) {
		it->msg.flags |= MSG_EXPIRES;
		it->msg.expires_at_ms = c->w->now_ms + (uint64_t)p->props.message_expiry * 1000;
	}
	if (st != NULL && st->new_props != NULL) {
		props_len = st->new_props_len;
		it->msg.props = st->new_props;
	} else if (p->props.plain) {
		props_len = p->props.block.len;
		it->msg.props = props_len > 0 ? p->props.block.data : NULL;
	} else {
		props_len = mqtt_forward_size(&p->props);
	}
	it->msg.props_len = (uint32_t)props_len;
	need = (mp.len > 0 ? mp.len + topic.len : 0) +
	    (props_len > 0 && it->msg.props == NULL ? props_len : 0);
	if (need > 0) {
		if (mp.len + topic.len > 65535 || (it->scratch = malloc(need)) == NULL) {
			it->route = false;
			it->reason_code = RC_QUOTA_EXCEEDED;
		} else {
			char *at = it->scratch;

			if (mp.len > 0) {
				memcpy(at, mp.data, mp.len);
				memcpy(at + mp.len, topic.data, topic.len);
				it->msg.topic = at;
				it->msg.topic_len = (uint16_t)(mp.len + topic.len);
				at += mp.len + topic.len;
			}
			if (it->msg.props == NULL && props_len > 0) {
				mqtt_forward_put((uint8_t *)at, &p->props);
				it->msg.props = at;
			}
		}
	}
	if (it->msg.props == NULL)
		it->msg.props_len = 0;
	if (++b->count == TOPIC_GROUP)
		conn_batch_end(c);
}

/* The same for one that is refused, with a Reason String (copied). */
static void
batch_refuse(struct conn *c, const struct mqtt_publish *p, struct publish_step *st,
    uint8_t reason_code, struct grapnel_str reason)
{
	struct pub_batch *b = c->w->core->batch;
	char *copy =
	    reason_code >= 0x80 && p->qos > 0 && reason.len > 0 ? malloc(reason.len) : NULL;

	if (copy != NULL) { /* without memory there is none: it only explains */
		memcpy(copy, reason.data, reason.len);
		b->reason_string = (struct grapnel_str){ copy, reason.len };
	}
	batch_add(c, p, st, false, false, reason_code);
}

/* ---- refusals ----------------------------------------------------------------------------------- */

static void
denied(struct conn *c, const struct mqtt_publish *p, struct publish_step *st, uint8_t reason_code,
    struct grapnel_str topic, struct grapnel_str rule, struct grapnel_str reason, bool unavailable)
{
	struct session *s = c->session;
	unsigned suppressed;

	metric_add(&c->w->metrics, METRIC_PUBLISH_REFUSED, 1);
	if (!unavailable)
		metric_add(&c->w->metrics, METRIC_ACL_DENIED, 1);
	if (log_allowed(conn_peer(c), &suppressed))
		log_at(GRAPNEL_LOG_NOTICE, unavailable ? "publish_unavailable" : "acl_denied",
		    "client \"%.*s\" user \"%.*s\" from %s: publish to \"%.*s\" %s%s%.*s%s",
		    STR(identity_client_id(s->identity)), STR(identity_username(s->identity)),
		    conn_peer(c), STR(topic),
		    unavailable ? "not decided: backend unavailable" : "denied",
		    rule.len > 0 ? " by " : "", STR(rule),
		    suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	if (c->version < 5) {
		if (unavailable && p->qos > 0) {
			/* 3.x has no negative acknowledgement: none at all, so that the Client keeps its message. */
			publish_step_free(st != NULL ? &st->head : NULL);
			conn_batch_end(c);
			if (c->state == CONN_ESTABLISHED)
				conn_close(c, RC_IMPLEMENTATION_SPECIFIC, "rights are unavailable");
			return;
		}
		reason_code = 0; /* acknowledged and forgotten, as [v3.1.1 MQTT-3.3.5-2] allows */
	}
	if (reason.data == NULL)
		reason = unavailable ? GRAPNEL_STR("not decided: the backend is unavailable")
				     : GRAPNEL_STR("no right to publish there");
	batch_refuse(c, p, st, reason_code, reason);
}

/* ---- steps ------------------------------------------------------------------------------------------ */

static enum outcome step_go(struct publish_step *st);

static char *
dup_bytes(const char *data, size_t len)
{
	char *p = malloc(len + 1);

	if (p != NULL && len > 0)
		memcpy(p, data, len);
	return p;
}

/* The step has to wait: from now on it must not borrow from the read buffer. */
static bool
step_own(struct publish_step *st, const uint8_t *body, size_t len, uint8_t flags)
{
	struct grapnel_str topic = st->p.topic_name;
	struct mqtt_publish p;
	struct wire w;

	/* Behind the packet there is room for a Topic Name that came by alias. */
	if ((st->body = malloc(len + topic.len + 1)) == NULL)
		return false;
	memcpy(st->body, body, len);
	wire_init(&w, st->body, len);
	if (mqtt_publish_decode(&w, st->head.c->version, flags, &p) != 0)
		return false;
	if (p.topic_name.len == 0) {
		memcpy(st->body + len, topic.data, topic.len);
		p.topic_name = (struct grapnel_str){ (char *)st->body + len, topic.len };
	}
	p.retain = st->p.retain;
	p.again = st->p.again;
	p.props.has_message_expiry = st->p.props.has_message_expiry;
	p.props.message_expiry = st->p.props.message_expiry;
	st->p = p;
	return true;
}

/* The message as plugins see it: without mountpoint. */
static void
step_message(const struct publish_step *st, struct message *m)
{
	struct grapnel_str topic = st->topic.data != NULL ? st->topic : st->p.topic_name;
	struct grapnel_str payload = st->payload.data != NULL ? st->payload : st->p.payload;

	memset(m, 0, sizeof(*m));
	m->qos = st->qos_plus_one != 0 ? (uint8_t)(st->qos_plus_one - 1) : st->p.qos;
	m->flags = (uint8_t)((st->p.retain ? MSG_RETAIN : 0) |
	    (st->p.props.payload_is_utf8 ? MSG_UTF8 : 0));
	m->topic = topic.data;
	m->topic_len = (uint16_t)topic.len;
	m->payload = payload.data;
	m->payload_len = (uint32_t)payload.len;
	m->props = st->new_props != NULL ? st->new_props : st->p.props.block.data;
	m->props_len = st->new_props != NULL ? st->new_props_len : (uint32_t)st->p.props.block.len;
	m->author = st->head.c->session->identity;
	if (st->p.props.has_message_expiry) {
		m->flags |= MSG_EXPIRES;
		m->expires_at_ms =
		    st->head.c->w->now_ms + (uint64_t)st->p.props.message_expiry * 1000;
	}
}

static enum outcome
take_rights(struct publish_step *st, const struct rights_answer *a)
{
	if (a->verdict != GRAPNEL_ALLOW) {
		struct mqtt_publish p = st->p;
		bool unavailable = a->verdict == GRAPNEL_UNAVAILABLE;

		denied(st->head.c, &p, st,
		    unavailable ? RC_IMPLEMENTATION_SPECIFIC : a->reason_code,
		    st->topic.data != NULL ? st->topic : st->p.topic_name, a->rule,
		    a->reason_string, unavailable);
		return DONE;
	}
	st->drop |= (a->flags & GRAPNEL_ACL_DROP) != 0;
	st->no_retain |= (a->flags & GRAPNEL_ACL_NO_RETAIN) != 0;
	st->stage++;
	return GO_ON;
}

/* Apply what message_publish answered. @return a Reason Code, 0: good. */
static uint8_t
step_apply(struct publish_step *st, const struct grapnel_publish_answer *a)
{
	const struct limits *l = st->head.c->session->limits;

	st->drop |= a->drop;
	if (a->has_retain)
		st->p.retain = a->retain && l->retain_available;
	if (a->has_qos) /* of the message; the acknowledgement is that of the packet */
		st->qos_plus_one = (uint8_t)((a->qos < l->max_qos ? a->qos : l->max_qos) + 1);
	if (a->topic_name.data != NULL) {
		if (a->topic_name.len > 65535 ||
		    !utf8_valid(a->topic_name.data, a->topic_name.len) ||
		    !topic_name_valid(a->topic_name) ||
		    topic_levels(a->topic_name) > l->max_topic_levels)
			return RC_TOPIC_NAME_INVALID;
		if ((st->new_topic = dup_bytes(a->topic_name.data, a->topic_name.len)) == NULL)
			return RC_UNSPECIFIED;
		st->topic = (struct grapnel_str){ st->new_topic, a->topic_name.len };
	}
	if (a->payload.data != NULL) {
		if (a->payload.len > 268435455 ||
		    (st->new_payload = dup_bytes(a->payload.data, a->payload.len)) == NULL)
			return RC_UNSPECIFIED;
		st->payload = (struct grapnel_str){ st->new_payload, a->payload.len };
	}
	if (a->has_properties) {
		size_t len;

		st->new_props = message_props_new(a->properties, a->property_count, &len,
		    &st->p.props.has_message_expiry, &st->p.props.message_expiry);
		if (st->new_props == NULL)
			return RC_UNSPECIFIED;
		st->new_props_len = (uint32_t)len;
	}
	return 0;
}

static enum outcome
take_decision(struct publish_step *st, const struct decision *d)
{
	bool retained = st->p.retain, more;
	uint8_t err = 0;

	if (d->verdict == GRAPNEL_ALLOW)
		err = step_apply(st, d->publish);
	else if (d->verdict == GRAPNEL_DENY)
		err = d->publish->reason_code >= 0x80 ? d->publish->reason_code
						      : RC_IMPLEMENTATION_SPECIFIC;
	else if (d->verdict == GRAPNEL_UNAVAILABLE)
		err = RC_IMPLEMENTATION_SPECIFIC;
	if (err != 0) {
		struct grapnel_str by = { d->plugin, d->plugin != NULL ? strlen(d->plugin) : 0 };
		struct mqtt_publish p = st->p;

		denied(st->head.c, &p, st, err,
		    st->topic.data != NULL ? st->topic : st->p.topic_name, by,
		    d->verdict == GRAPNEL_DENY && d->publish->reason_string.data != NULL
			? d->publish->reason_string
			: d->verdict == GRAPNEL_UNAVAILABLE ? (struct grapnel_str){ 0 }
			: d->verdict == GRAPNEL_ALLOW ? GRAPNEL_STR("a plugin made it invalid")
						      : GRAPNEL_STR("refused by a plugin"),
		    d->verdict == GRAPNEL_UNAVAILABLE);
		return DONE;
	}
	/* Rights are asked again for what is really used. */
	more = st->new_topic != NULL || (st->p.retain && !retained) ||
	    st->qos_plus_one > st->p.qos + 1;
	st->stage = more && !st->drop ? STAGE_RIGHTS_AGAIN : STAGE_ROUTE;
	return GO_ON;
}

static void
on_rights_later(void *arg, const struct decision *d)
{
	struct publish_step *st = arg;
	struct conn *c = st->head.c;
	struct rights_answer a;

	rights_from(d, &a);
	step_resumed(&st->head);
	if (take_rights(st, &a) == DONE || step_go(st) == DONE)
		step_end(c);
	else
		step_wait(&st->head);
}

static void
on_decision_later(void *arg, const struct decision *d)
{
	struct publish_step *st = arg;
	struct conn *c = st->head.c;

	step_resumed(&st->head);
	if (take_decision(st, d) == DONE || step_go(st) == DONE)
		step_end(c);
	else
		step_wait(&st->head);
}

/* As far as it goes now: DONE (the step is gone, into the batch or freed) or WAIT. */
static enum outcome
step_go(struct publish_step *st)
{
	struct conn *c = st->head.c;
	struct session *s = c->session;

	for (;;) {
		struct message m;
		enum outcome o;

		step_message(st, &m);
		switch (st->stage) {
		case STAGE_RIGHTS:
		case STAGE_RIGHTS_AGAIN: {
			struct rights_question q = { .action = GRAPNEL_PUBLISH,
				.qos = m.qos,
				.retain = st->p.retain,
				.topic = message_topic(&m),
				.msg = &m };
			struct rights_answer now;

			if (!rights_ask(c->w, s, s->identity, session_rules(s), &q, on_rights_later,
				st, &now, &st->head.pending))
				return WAIT;
			o = take_rights(st, &now);
			break;
		}
		case STAGE_HOOK: {
			struct grapnel_client_info info;
			struct grapnel_message_info mi;
			struct grapnel_message_publish q = {
				.size = sizeof(q), .client = &info, .message = &mi
			};
			struct decision now;

			if (!hook_used(c->w, HOOK_PUBLISH) || st->drop) {
				st->stage = STAGE_ROUTE;
				continue;
			}
			session_info(s, &info);
			message_info_of(&m, (struct grapnel_str){ "", 0 }, &mi);
			mi.dup = st->p.dup;
			if (!hooks_ask(c->w, HOOK_PUBLISH, &q, NULL, on_decision_later, st, &now,
				&st->head.pending))
				return WAIT;
			o = take_decision(st, &now);
			decision_release(&now);
			break;
		}
		case STAGE_ROUTE:
		default: {
			struct mqtt_publish p = st->p;

			batch_add(c, &p, st, !st->drop, st->no_retain, 0);
			return DONE;
		}
		}
		if (o == DONE)
			return DONE;
	}
}

/* ---- the packet ------------------------------------------------------------------------------------------ */

static bool
resolve_alias(struct conn *c, struct mqtt_publish *p)
{
	uint16_t alias = p->props.topic_alias;
	unsigned max = c->limits->topic_alias_maximum;
	struct conn_extra *x;
	char *copy;

	if (p->topic_name.len >
	    0) { /* the alias is set anew, and an item of the batch may still point at its old name */
		conn_batch_end(c);
		if (c->state != CONN_ESTABLISHED)
			return false;
	}
	if (c->extra != NULL && c->extra->alias_in != NULL)
		max = c->extra
			  ->alias_in_count; /* what CONNACK said, whatever a reload changed since */
	if (alias > max || (x = conn_extra(c)) == NULL) {
		(void)packet_malformed(c, RC_TOPIC_ALIAS_INVALID,
		    "Topic Alias above Topic Alias Maximum [MQTT-3.3.2-9]");
		return false;
	}
	if (x->alias_in == NULL) {
		x->alias_in = calloc(max, sizeof(char *));
		x->alias_in_len = calloc(max, sizeof(uint32_t));
		x->alias_in_count = x->alias_in != NULL ? max : 0;
		if (x->alias_in == NULL || x->alias_in_len == NULL) {
			conn_close(c, RC_UNSPECIFIED, "out of memory");
			return false;
		}
	}
	if (p->topic_name.len == 0) {
		if (x->alias_in[alias - 1] == NULL) {
			(void)packet_malformed(c, RC_PROTOCOL_ERROR, "Topic Alias was never set");
			return false;
		}
		p->topic_name =
		    (struct grapnel_str){ x->alias_in[alias - 1], x->alias_in_len[alias - 1] };
		return true;
	}
	if ((copy = dup_bytes(p->topic_name.data, p->topic_name.len)) == NULL) {
		conn_close(c, RC_UNSPECIFIED, "out of memory");
		return false;
	}
	free(x->alias_in[alias - 1]);
	x->alias_in[alias - 1] = copy;
	x->alias_in_len[alias - 1] = (uint32_t)p->topic_name.len;
	return true;
}

static bool
batch_has(const struct pub_batch *b, uint16_t packet_id)
{
	for (unsigned i = 0; i < b->count; i++)
		if (b->items[i].qos == 2 && b->items[i].packet_id == packet_id)
			return true;
	return false;
}

/* Was the same thing allowed a moment ago, in this batch? */
static inline bool
like_the_last(const struct conn *c, const struct mqtt_publish *p)
{
	const struct pub_batch *b = c->w->core->batch;
	const struct pub_item *it = b->items + b->count - 1;

	return b->count > 0 && it->step == NULL && it->route && it->scratch == NULL &&
	    it->qos == p->qos && ((it->msg.flags & MSG_RETAIN) != 0) == p->retain &&
	    it->msg.topic_len == p->topic_name.len &&
	    memcmp(it->msg.topic, p->topic_name.data, p->topic_name.len) == 0 && !traces_used(c->w);
}

enum handled
on_publish(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	struct session *s = c->session;
	const struct limits *l = s->limits;
	struct mqtt_publish p;
	struct publish_step *st;
	struct wire w;

	wire_init(&w, body, f->remaining);
	if (mqtt_publish_decode(&w, c->version, f->flags, &p) != 0)
		return packet_malformed(c, w.err, w.why);
	p.again = false;
	metric_add(&c->w->metrics, METRIC_MESSAGES_RECEIVED, 1);
	s->messages_in++;
	if (p.qos > l->max_qos)
		return packet_malformed(
		    c, RC_QOS_NOT_SUPPORTED, "QoS above Maximum QoS [MQTT-3.2.2-11]");
	if (p.retain && !l->retain_available)
		return packet_malformed(c, RC_RETAIN_NOT_SUPPORTED,
		    "RETAIN, but retain_available = no [MQTT-3.2.2-14]");
	if (p.props.topic_alias != 0 && !resolve_alias(c, &p))
		return HANDLED_CLOSED;
	if (p.topic_name.len >= l->max_topic_levels && /* shorter ones cannot have more */
	    topic_levels(p.topic_name) > l->max_topic_levels)
		return packet_malformed(
		    c, RC_TOPIC_NAME_INVALID, "more levels than max_topic_levels");
	if (p.qos > 0) {
		if (p.qos == 2 && batch_has(c->w->core->batch, p.packet_id)) {
			conn_batch_end(
			    c); /* sent twice in one go: the first is not in s->received yet */
			if (c->state != CONN_ESTABLISHED)
				return HANDLED_CLOSED;
		}
		/*
		 * What the process before took in and may not have told anybody about goes the whole way once more, so that
		 * there is an event of it, and rights for that, but it is not routed.
		 */
		p.again = p.qos == 2 && id_set_remove(&s->flow->earlier, p.packet_id) &&
		    event_wanted(c->w, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
		if (p.qos == 2 && !p.again && id_set_has(&s->flow->received, p.packet_id)) {
			/* Routed before, not yet released: answer again, forward nothing [MQTT-4.3.3-10]. */
			conn_batch_end(c);
			if (c->state != CONN_ESTABLISHED)
				return HANDLED_CLOSED;
			if (!hold_again(c, p.packet_id) &&
			    !held_ack_has(c, MQTT_PUBREC, p.packet_id) &&
			    !gate_has(
				c, MQTT_PUBREC, p.packet_id)) /* else the answer is still to come */
				ack_again(c, p.packet_id);
			return c->state == CONN_ESTABLISHED ? HANDLED : HANDLED_CLOSED;
		}
		if (!p.again &&
		    s->flow->received.count + acks_unsent(c) + c->w->core->batch->count >=
			c->own_receive_maximum) {
			conn_batch_end(c);
			if (c->state != CONN_ESTABLISHED)
				return HANDLED_CLOSED;
			if (c->version == 5 &&
			    s->flow->received.count + acks_unsent(c) >= c->own_receive_maximum)
				return packet_malformed(c, RC_RECEIVE_MAXIMUM_EXCEEDED,
				    "more than Receive Maximum messages unacknowledged "
				    "[MQTT-3.3.4-8]");
		}
	}
	if (l->message_rate != 0)
		conn_rate(c, 1, 0);
	if (l->check_payload_format && p.props.payload_is_utf8 &&
	    !utf8_valid(p.payload.data, p.payload.len)) {
		if (p.qos == 0 || c->version < 5)
			return packet_malformed(
			    c, RC_PAYLOAD_FORMAT_INVALID, "payload is not UTF-8 as announced");
		batch_add(c, &p, NULL, false, false, RC_PAYLOAD_FORMAT_INVALID);
		return HANDLED;
	}
	if (!hook_used(c->w, HOOK_PUBLISH) &&
	    (like_the_last(c, &p) || rights_publish_cached(s, p.topic_name, p.qos, p.retain))) {
		batch_add(c, &p, NULL, true, false, 0);
		return c->state == CONN_ESTABLISHED ? HANDLED : HANDLED_CLOSED;
	}
	if ((st = calloc(1, sizeof(*st))) == NULL) {
		conn_close(c, RC_UNSPECIFIED, "out of memory");
		return HANDLED_CLOSED;
	}
	st->head.c = c;
	st->head.free_fn = publish_step_free;
	st->p = p;
	if (step_go(st) == WAIT) {
		if (!step_own(st, body, f->remaining, f->flags)) {
			hooks_cancel(c->w, st->head.pending);
			publish_step_free(&st->head);
			conn_close(c, RC_UNSPECIFIED, "out of memory");
			return HANDLED_CLOSED;
		}
		step_wait(&st->head);
		return HANDLED_WAIT;
	}
	return c->state == CONN_ESTABLISHED ? HANDLED : HANDLED_CLOSED;
}
