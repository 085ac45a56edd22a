/* SPDX-License-Identifier: Apache-2.0 */
#include "acl.h"

#include "acl_build.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct grapnel_rules *
acl_rules_ref(struct grapnel_rules *rules)
{
	uint32_t before = atomic_fetch_add_explicit(&rules->refs, 1, memory_order_relaxed);

	assert(before > 0 && before < UINT32_MAX);
	return rules;
}

void
acl_rules_unref(struct grapnel_rules *rules)
{
	if (rules == NULL)
		return;
	if (atomic_fetch_sub_explicit(&rules->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(rules->pool);
	free(rules->ops);
	free(rules->rules);
	free(rules->subjects);
	free(rules->order);
	free(rules->slots);
	free(rules);
}

/* ------------------------------------------------------------------------- values */

static bool
has_wildcard(struct grapnel_str s)
{
	return s.len > 0 && (memchr(s.data, '+', s.len) || memchr(s.data, '#', s.len));
}

/*
 * The bytes that a literal or substituted op stands for. false: absent, or a value that no Topic
 * Name can contain and that must not pass for a wildcard in a Topic Filter.
 */
static bool
op_bytes(const struct grapnel_rules *rules, const struct acl_op *op,
    const struct grapnel_rules_question *q, struct grapnel_str *out)
{
	struct grapnel_str name = { rules->pool + op->at, op->len };

	switch ((enum acl_op_kind)op->kind) {
	case ACL_OP_TEXT:
		*out = name;
		return true;
	case ACL_OP_USERNAME:
		*out = q->username;
		break;
	case ACL_OP_CLIENT_ID:
		*out = q->client_id;
		break;
	case ACL_OP_ATTRIBUTE:
		*out = (struct grapnel_str){ NULL, 0 };
		for (size_t i = 0; i < q->attribute_count; i++) {
			const struct grapnel_pair *a = &q->attributes[i];

			if (a->name.len == name.len &&
			    memcmp(a->name.data, name.data, name.len) == 0) {
				*out = a->value;
				break;
			}
		}
		break;
	case ACL_OP_PLUS:
	case ACL_OP_REST:
	case ACL_OP_ALL:
		return false;
	}
	return out->data != NULL && !has_wildcard(*out);
}

/* ------------------------------------------------------------------------ matching */

/*
 * Does the rule's filter match every topic that `topic` stands for? For a Topic Name that is
 * "matches", for a Topic Filter "covers". Literal bytes are compared with wildcards of a filter
 * too: they differ, since literals contain neither '+' nor '#'.
 */
static bool
rule_covers(const struct grapnel_rules *rules, const struct acl_rule *rule,
    const struct grapnel_rules_question *q)
{
	const struct acl_op *op = rules->ops + rule->first_op, *end = op + rule->op_count;
	const char *t = q->topic.data;
	size_t len = q->topic.len, pos = 0;

	if (len == 0)
		return false;
	if (t[0] == '$' && op->kind != ACL_OP_TEXT) {
		/* [MQTT-4.7.2-1]; and who names himself "$SYS" gets nothing by it, but a deny holds. */
		if (!rule->deny || op->kind == ACL_OP_PLUS || op->kind == ACL_OP_ALL)
			return false;
	}
	/* "+/#" is "#" in other words: every topic has a first level. */
	if (len == 1 && t[0] == '#' && rule->op_count == 2 && op[0].kind == ACL_OP_PLUS &&
	    op[1].kind == ACL_OP_REST)
		return true;
	for (; op < end; op++) {
		struct grapnel_str bytes;
		const char *slash;

		switch ((enum acl_op_kind)op->kind) {
		case ACL_OP_TEXT:
		case ACL_OP_USERNAME:
		case ACL_OP_CLIENT_ID:
		case ACL_OP_ATTRIBUTE:
			if (!op_bytes(rules, op, q, &bytes) || len - pos < bytes.len)
				return false;
			if (bytes.len > 0 && memcmp(t + pos, bytes.data, bytes.len) != 0)
				return false;
			pos += bytes.len;
			break;
		case ACL_OP_PLUS:
			if (pos < len && t[pos] == '#')
				return false; /* one level does not cover many */
			slash = pos < len ? memchr(t + pos, '/', len - pos) : NULL;
			pos = slash != NULL ? (size_t)(slash - t) : len;
			break;
		case ACL_OP_REST:
			return pos == len || t[pos] == '/';
		case ACL_OP_ALL:
			return true;
		}
	}
	return pos == len;
}

/* Reads a rule's filter byte by byte, values filled in. */
struct reader {
	const struct grapnel_rules *rules;
	const struct grapnel_rules_question *q;
	const struct acl_op *op, *end;
	struct grapnel_str bytes; /* what is left of the current op */
};
enum { READ_END = 256, READ_PLUS, READ_REST, READ_ALL, READ_NEVER };

/* What comes next: a byte, or one of READ_*. */
static int
reader_peek(struct reader *r)
{
	while (r->bytes.len == 0) {
		if (r->op == r->end)
			return READ_END;
		switch ((enum acl_op_kind)r->op->kind) {
		case ACL_OP_PLUS:
			return READ_PLUS;
		case ACL_OP_REST:
			return READ_REST;
		case ACL_OP_ALL:
			return READ_ALL;
		case ACL_OP_TEXT:
		case ACL_OP_USERNAME:
		case ACL_OP_CLIENT_ID:
		case ACL_OP_ATTRIBUTE:
			if (!op_bytes(r->rules, r->op, r->q, &r->bytes))
				return READ_NEVER;
			r->op++;
			break;
		}
	}
	return (unsigned char)r->bytes.data[0];
}

static void
reader_skip(struct reader *r)
{
	if (r->bytes.len > 0) {
		r->bytes.data++;
		r->bytes.len--;
	} else {
		r->op++;
	}
}

/* Do all values of the rule's filter exist? One that lacks a value matches nothing. */
static bool
rule_has_values(const struct grapnel_rules *rules, const struct acl_rule *rule,
    const struct grapnel_rules_question *q)
{
	const struct acl_op *op = rules->ops + rule->first_op, *end = op + rule->op_count;
	struct grapnel_str bytes;

	for (; op < end; op++)
		if (op->kind <= ACL_OP_ATTRIBUTE && !op_bytes(rules, op, q, &bytes))
			return false;
	return true;
}

/* Is there a topic that both the rule's filter and the Topic Filter asked for match? */
static bool
rule_intersects(const struct grapnel_rules *rules, const struct acl_rule *rule,
    const struct grapnel_rules_question *q)
{
	struct reader r = { .rules = rules, .q = q, .op = rules->ops + rule->first_op };
	const char *f = q->topic.data;
	size_t len = q->topic.len, pos = 0;
	int c;

	r.end = r.op + rule->op_count;
	if (len == 0 || !rule_has_values(rules, rule, q))
		return false;
	c = reader_peek(&r);
	if ((c == READ_PLUS || c == READ_ALL) && f[0] == '$')
		return false; /* [MQTT-4.7.2-1] */
	if ((f[0] == '+' || f[0] == '#') && c == '$')
		return false;
	for (;;) {
		/* both stand at the start of a level */
		if (pos < len && f[pos] == '#')
			return true;
		c = reader_peek(&r);
		if (c == READ_ALL)
			return true;
		if (c == READ_PLUS) {
			reader_skip(&r);
			while (pos < len && f[pos] != '/')
				pos++;
		} else if (pos < len && f[pos] == '+') {
			pos++;
			while ((c = reader_peek(&r)) < READ_END && c != '/')
				reader_skip(&r);
		} else {
			while ((c = reader_peek(&r)) < READ_END && c != '/' && pos < len &&
			    (unsigned char)f[pos] == c) {
				reader_skip(&r);
				pos++;
			}
			if (pos < len && f[pos] != '/')
				return false;
		}
		/* both should stand at the end of that level */
		c = reader_peek(&r);
		if (c == READ_REST)
			return true;
		if (pos == len)
			return c == READ_END;
		if (c == READ_END)
			return len - pos == 2 && f[pos + 1] == '#'; /* "a" and "a/#" */
		if (c != '/')
			return false;
		reader_skip(&r);
		pos++;
	}
}

/* --------------------------------------------------------------------- evaluation */

/* The rules that apply to a client, in order: three sorted lists, merged as they are walked. */
#define WALK_LISTS 3
struct walk {
	const struct grapnel_rules *rules;
	struct {
		const uint32_t *next, *end;
	} lists[WALK_LISTS];
	unsigned count;
};

static void
walk_add(struct walk *w, const struct acl_subject *subject)
{
	if (subject == NULL || subject->count == 0)
		return;
	w->lists[w->count].next = w->rules->order + subject->first;
	w->lists[w->count].end = w->lists[w->count].next + subject->count;
	w->count++;
}

static void
walk_init(struct walk *w, const struct grapnel_rules *rules, const struct grapnel_rules_question *q)
{
	bool anonymous = q->username.data == NULL;

	w->rules = rules;
	w->count = 0;
	/* Mosquitto takes an empty user name for none. */
	if (rules->mosquitto && q->username.len == 0)
		anonymous = true;
	if (!rules->mosquitto || (!has_wildcard(q->username) && !has_wildcard(q->client_id)))
		walk_add(w, &rules->subjects[ACL_SUBJECT_EVERYONE]);
	if (anonymous)
		walk_add(w, &rules->subjects[ACL_SUBJECT_ANONYMOUS]);
	else
		walk_add(w, acl_subject_find(rules, ACL_USER, q->username));
	walk_add(w, acl_subject_find(rules, ACL_CLIENT, q->client_id));
}

static const struct acl_rule *
walk_next(struct walk *w)
{
	const uint32_t **first = NULL;

	for (unsigned i = 0; i < w->count; i++)
		if (w->lists[i].next < w->lists[i].end &&
		    (first == NULL || *w->lists[i].next < **first))
			first = &w->lists[i].next;
	return first != NULL ? &w->rules->rules[*(*first)++] : NULL;
}

/* May a rule about delivery refuse some message under this filter? Sound: in doubt it may. */
static bool
read_is_certain(const struct grapnel_rules *rules, const struct grapnel_rules_question *q,
    enum grapnel_verdict verdict)
{
	const struct acl_rule *rule;
	struct walk w;

	walk_init(&w, rules, q);
	while ((rule = walk_next(&w)) != NULL) {
		if (!(rule->actions & ACL_READ))
			continue;
		if (rule->deny ? rule_intersects(rules, rule, q) : rule_covers(rules, rule, q))
			return !rule->deny;
	}
	return verdict == GRAPNEL_NEXT;
}

static bool
conditions_met(
    const struct acl_rule *rule, enum acl_action action, const struct grapnel_rules_question *q)
{
	if (action == ACL_READ)
		return true;
	if (q->qos > rule->max_qos)
		return false;
	return !(rule->no_retain && action == ACL_PUBLISH && q->retain);
}

static enum acl_action
action_of(enum grapnel_action action)
{
	switch (action) {
	case GRAPNEL_PUBLISH:
	case GRAPNEL_WILL:
		return ACL_PUBLISH;
	case GRAPNEL_SUBSCRIBE:
		return ACL_SUBSCRIBE;
	case GRAPNEL_READ:
		return ACL_READ;
	}
	return 0; /* an action of a later ABI, about which the rules say nothing */
}

enum grapnel_verdict
acl_rules_check(const struct grapnel_rules *rules, const struct grapnel_rules_question *q,
    uint32_t *flags, struct grapnel_str *label)
{
	enum grapnel_verdict verdict = GRAPNEL_NEXT;
	enum acl_action action;
	const struct acl_rule *rule = NULL;
	struct walk w;

	if (flags != NULL)
		*flags = 0;
	if (label != NULL)
		*label = (struct grapnel_str){ NULL, 0 };
	if ((action = action_of(q->action)) == 0)
		return GRAPNEL_DENY;
	if (action == ACL_SUBSCRIBE && rules->mosquitto) {
		verdict = GRAPNEL_ALLOW;
	} else {
		walk_init(&w, rules, q);
		while ((rule = walk_next(&w)) != NULL) {
			if ((rule->actions & action) && conditions_met(rule, action, q) &&
			    rule_covers(rules, rule, q))
				break;
		}
		if (rule != NULL) {
			verdict = rule->deny ? GRAPNEL_DENY : GRAPNEL_ALLOW;
			if (label != NULL)
				*label = (struct grapnel_str){ rules->pool + rule->label,
					rule->label_len };
		}
	}
	if (flags != NULL && action == ACL_SUBSCRIBE && verdict != GRAPNEL_DENY &&
	    read_is_certain(rules, q, verdict))
		*flags |= GRAPNEL_ACL_COVERED;
	return verdict;
}

/* ------------------------------------------------------------------------- scope */

/* A rule's filter with its values filled in. @return its length; 0: a value is missing, or it is too long. */
static size_t
rule_text(const struct grapnel_rules *rules, const struct acl_rule *rule,
    const struct grapnel_rules_question *q, char *out, size_t capacity)
{
	const struct acl_op *op = rules->ops + rule->first_op, *end = op + rule->op_count;
	size_t len = 0;

	for (; op < end; op++) {
		struct grapnel_str bytes;

		if (op->kind == ACL_OP_PLUS)
			bytes = GRAPNEL_STR("+");
		else if (op->kind == ACL_OP_REST)
			bytes = GRAPNEL_STR("/#");
		else if (op->kind == ACL_OP_ALL)
			bytes = GRAPNEL_STR("#");
		else if (!op_bytes(rules, op, q, &bytes))
			return 0;
		if (bytes.len > capacity - len)
			return 0;
		memcpy(out + len, bytes.data, bytes.len);
		len += bytes.len;
	}
	return len;
}

size_t
acl_rules_scope(const struct grapnel_rules *rules, const struct grapnel_rules_question *q,
    char *filter, size_t capacity)
{
	enum acl_action action = action_of(q->action);
	struct grapnel_rules_question wider = *q;
	const struct acl_rule *rule, *earlier;
	struct walk w;

	if (action == 0 || action == ACL_SUBSCRIBE)
		return 0;
	walk_init(&w, rules, q);
	while ((rule = walk_next(&w)) != NULL)
		if ((rule->actions & action) && conditions_met(rule, action, q) &&
		    rule_covers(rules, rule, q))
			break;
	if (rule == NULL)
		return 0;
	wider.topic = (struct grapnel_str){ filter, rule_text(rules, rule, q, filter, capacity) };
	/* Rules before it that decide otherwise must leave all of it alone. */
	walk_init(&w, rules, q);
	while (wider.topic.len > 0 && (earlier = walk_next(&w)) != rule)
		if ((earlier->actions & action) && earlier->deny != rule->deny &&
		    rule_intersects(rules, earlier, &wider))
			return 0;
	return wider.topic.len;
}
