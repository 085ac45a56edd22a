/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer_json - what a JSON body says
 *
 * Members that are not known are passed over, as backends send all sorts of things; known ones must be of a type that makes
 * sense, and in a rule nothing may be unknown: a condition that is passed over would grant more than was meant.
 */
#include "parts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NUMBER_SIZE 32

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, strlen(text) };
}

/* A string, number or boolean as text; number is room for it. false: it is something else. null: absent. */
static bool
text_of(const json_t *value, char number[NUMBER_SIZE], struct grapnel_str *out)
{
	*out = (struct grapnel_str){ NULL, 0 };
	switch (json_typeof(value)) {
	case JSON_STRING:
		*out = (struct grapnel_str){ json_string_value(value), json_string_length(value) };
		return true;
	case JSON_INTEGER:
		(void)snprintf(
		    number, NUMBER_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case JSON_REAL:
		(void)snprintf(number, NUMBER_SIZE, "%.17g", json_real_value(value));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		(void)snprintf(number, NUMBER_SIZE, "%s", json_is_true(value) ? "true" : "false");
		break;
	case JSON_NULL:
		return true;
	case JSON_OBJECT:
	case JSON_ARRAY:
		return false;
	}
	*out = str(number);
	return true;
}

static bool
fail(struct outcome *out, const char *what)
{
	outcome_fail(out, "the answer cannot be used: %s", what);
	return false;
}

/* -------------------------------------------------------------------------- rules */

/* "${username}" and the like, and '%' as itself, in the way of our rules. NULL: error. */
static char *
emqx_topic(const char *topic, struct outcome *out)
{
	static const struct {
		const char *theirs, *ours;
	} places[] = { { "${username}", "%u" }, { "${clientid}", "%c" },
		{ "${client_attrs.", "%{" } };
	char *text = malloc(2 * strlen(topic) + 1), *to = text;
	size_t i;

	if (text == NULL) {
		(void)fail(out, "no memory");
		return NULL;
	}
	while (*topic != '\0') {
		if (topic[0] == '%') {
			*to++ = '%';
		} else if (topic[0] == '$' && topic[1] == '{') {
			for (i = 0; i < 3 &&
			     strncmp(topic, places[i].theirs, strlen(places[i].theirs)) != 0;
			     i++)
				;
			if (i == 3) {
				(void)fail(out,
				    "a topic has a place that is none of ${username}, ${clientid} "
				    "and ${client_attrs.NAME}");
				free(text);
				return NULL;
			}
			to = stpcpy(to, places[i].ours);
			topic += strlen(places[i].theirs);
			continue;
		}
		*to++ = *topic++;
	}
	*to = '\0';
	return text;
}

/* QoS of a rule as a list: all up to some QoS, or it is nothing that our rules can say. -1: that. */
static int
highest_qos(const json_t *list)
{
	unsigned seen = 0;
	size_t i;
	const json_t *one;

	json_array_foreach(list, i, one)
	{
		json_int_t qos = json_integer_value(one);

		if (!json_is_integer(one) || qos < 0 || qos > 2)
			return -1;
		seen |= 1u << qos;
	}
	return seen == 1 ? 0 : seen == 3 ? 1 : seen == 7 ? 2 : -1;
}

/* The members of a rule as text. */
struct rule_text {
	struct grant_rule rule;
	char qos[NUMBER_SIZE], retain[NUMBER_SIZE], access[NUMBER_SIZE];
};

static bool
emqx_qos(const json_t *value, struct rule_text *r, struct outcome *out)
{
	json_t *list = json_is_array(value) ? json_incref((json_t *)(uintptr_t)value)
					    : json_pack("[O]", value);
	int qos = list != NULL ? highest_qos(list) : -1;

	json_decref(list);
	if (qos < 0)
		return fail(out, "the qos of a rule is not [0], [0, 1] or [0, 1, 2]");
	if (qos < 2) {
		(void)snprintf(r->qos, sizeof(r->qos), "%d", qos);
		r->rule.qos = str(r->qos);
	}
	return true;
}

static bool
emqx_retain(struct rule_text *r, struct outcome *out)
{
	if (r->rule.retain.len == 3 && strncasecmp(r->rule.retain.data, "all", 3) == 0)
		r->rule.retain.data = NULL;
	else if (grant_is_true(r->rule.retain))
		return fail(out, "a rule for retained messages alone cannot be had");
	return true;
}

static bool
read_rule_member(enum dialect dialect, const char *name, const json_t *value, struct rule_text *r,
    struct outcome *out)
{
	const struct {
		const char *name;
		struct grapnel_str *at;
		char *number; /* NULL: only a string will do */
	} members[] = {
		{ "permission", &r->rule.permission, NULL },
		{ "action", &r->rule.action, NULL },
		{ "topic", &r->rule.topic, NULL },
		{ "qos", &r->rule.qos, r->qos },
		{ "retain", &r->rule.retain, r->retain },
		{ "access", &r->rule.access, r->access },
	};

	if (json_is_null(value))
		return true;
	if (dialect == DIALECT_EMQX && strcmp(name, "qos") == 0)
		return emqx_qos(value, r, out);
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		if (strcmp(name, members[i].name) != 0)
			continue;
		if ((members[i].number == NULL && !json_is_string(value)) ||
		    !text_of(value, members[i].number, members[i].at))
			return fail(out, "a member of a rule has the wrong type");
		if (dialect == DIALECT_EMQX && members[i].at == &r->rule.retain)
			return emqx_retain(r, out);
		return true;
	}
	return fail(out,
	    "a rule has a member that is none of permission, action, topic, qos, retain, access");
}

static bool
add_rule(struct grant *g, const struct grant_rule *rule, struct outcome *out)
{
	return grant_add_rule(g, rule) || fail(out, g->error);
}

/*
 * There, "subscribe" is all there is to ask before messages come; here it takes the right to read them, too. "eq " takes
 * wildcards from what follows it.
 */
static bool
add_emqx_rule(struct grant *g, struct rule_text *r, struct outcome *out)
{
	const char *topic = r->rule.topic.data;
	bool good;
	char *ours;

	if (topic == NULL || r->rule.access.data != NULL)
		return fail(out, "a rule has no topic, or has access");
	if (strncmp(topic, "eq ", 3) == 0) {
		topic += 3;
		if (strpbrk(topic, "+#") != NULL)
			return fail(out, "\"eq \" before a topic with wildcards cannot be had");
	}
	if ((ours = emqx_topic(topic, out)) == NULL)
		return false;
	r->rule.topic = str(ours);
	good = add_rule(g, &r->rule, out);
	if (good && r->rule.action.len == 9 &&
	    strncasecmp(r->rule.action.data, "subscribe", 9) == 0) {
		r->rule.action = GRAPNEL_STR("read");
		r->rule.qos.data = NULL; /* these are conditions of the subscription */
		r->rule.retain.data = NULL;
		good = add_rule(g, &r->rule, out);
	}
	free(ours);
	return good;
}

static bool
read_rule(enum dialect dialect, const json_t *value, struct grant *g, struct outcome *out)
{
	struct rule_text r = { 0 };
	const char *name;
	json_t *member;

	if (json_is_string(value) && dialect == DIALECT_GRAPNEL)
		return grant_add_rules(g,
			   (struct grapnel_str){
			       json_string_value(value), json_string_length(value) }) ||
		    fail(out, g->error);
	if (!json_is_object(value))
		return fail(out, "a rule is neither a text nor an object");
	json_object_foreach((json_t *)(uintptr_t)value, name,
	    member) if (!read_rule_member(dialect, name, member, &r, out)) return false;
	return dialect == DIALECT_EMQX ? add_emqx_rule(g, &r, out) : add_rule(g, &r.rule, out);
}

static bool
read_acl(enum dialect dialect, const json_t *value, struct grant *g, struct outcome *out)
{
	const json_t *one;
	size_t i;

	grant_want_rules(g); /* an empty list allows nothing */
	if (json_is_string(value))
		return read_rule(dialect, value, g, out);
	if (!json_is_array(value))
		return fail(out, "acl is not a list of rules");
	json_array_foreach(value, i, one) if (!read_rule(dialect, one, g, out)) return false;
	return true;
}

/* ------------------------------------------------------------------------ details */

static bool
read_object(const json_t *value,
    bool (*set)(struct grant *g, struct grapnel_str name, struct grapnel_str value),
    struct grant *g, struct outcome *out)
{
	char number[NUMBER_SIZE];
	struct grapnel_str text;
	const char *name;
	json_t *member;

	if (!json_is_object(value))
		return fail(out, "attributes or limits are not an object");
	json_object_foreach((json_t *)(uintptr_t)value, name, member)
	{
		if (!text_of(member, number, &text))
			return fail(out, "an attribute or limit is a list or an object");
		if (!set(g, str(name), text))
			return fail(out, g->error);
	}
	return true;
}

static bool
read_login_member(enum dialect dialect, const char *name, const json_t *value, struct grant *g,
    struct outcome *out)
{
	static const struct {
		const char *name, *means;
	} plain[] = {
		{ "expire_at", "valid_until" },
		{ "is_superuser", "superuser" },
		{ "mountpoint", "mountpoint" },
		{ "superuser", "superuser" },
		{ "username", "username" },
		{ "valid_until", "valid_until" },
	};
	char number[NUMBER_SIZE];
	struct grapnel_str text;

	if (json_is_null(value))
		return true;
	if (strcmp(name, "acl") == 0) {
		out->details = true;
		return read_acl(dialect, value, g, out);
	}
	if (strcmp(name, "attributes") == 0 || strcmp(name, "client_attrs") == 0) {
		out->details = true;
		return read_object(value, grant_set_attribute, g, out);
	}
	if (strcmp(name, "limits") == 0) {
		out->details = true;
		return read_object(value, grant_set_limit, g, out);
	}
	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (strcmp(name, plain[i].name) != 0)
			continue;
		out->details = true;
		if (!text_of(value, number, &text))
			return fail(out,
			    "a member that should be a text or a number is a list or an object");
		return grant_set(g, str(plain[i].means), text) || fail(out, g->error);
	}
	return true;
}

static bool
read_login(enum dialect dialect, const json_t *body, struct grant *g, struct outcome *out)
{
	const char *name;
	json_t *member;

	json_object_foreach((json_t *)(uintptr_t)body, name,
	    member) if (!read_login_member(dialect, name, member, g, out)) return false;
	return true;
}

static void
read_right(const json_t *body, struct outcome *out)
{
	const json_t *qos = json_object_get(body, "max_qos");

	if (qos == NULL || json_is_null(qos))
		return;
	if (!json_is_integer(qos) || json_integer_value(qos) < 0 || json_integer_value(qos) > 2)
		(void)fail(out, "max_qos is not 0, 1 or 2");
	else
		out->max_qos_plus_one = (uint8_t)(json_integer_value(qos) + 1);
}

/* --------------------------------------------------------------------------- body */

/* NULL: error. */
static json_t *
load(struct grapnel_str body, struct outcome *out)
{
	json_error_t error;
	json_t *value = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, &error);

	if (value == NULL) /* its text may quote the answer */
		outcome_fail(
		    out, "the body is no JSON (line %d, column %d)", error.line, error.column);
	else if (!json_is_object(value)) {
		outcome_fail(out, "the body is JSON, but no object");
		json_decref(value);
		value = NULL;
	}
	return value;
}

static void
read_reason(const json_t *body, struct outcome *out)
{
	const char *reason = json_string_value(json_object_get(body, "reason"));
	size_t len = reason != NULL ? strlen(reason) : 0;

	/* A reason that does not fit is left out: cut in the middle of a character it would be no UTF-8. */
	if (len > 0 && len < sizeof(out->reason))
		memcpy(out->reason, reason, len + 1);
}

void
answer_read_json(enum dialect dialect, enum about about, struct grapnel_str body, struct grant *g,
    struct outcome *out)
{
	json_t *value = load(body, out);
	const char *result;

	if (value == NULL)
		return;
	result = json_string_value(json_object_get(value, "result"));
	if (result == NULL) {
		outcome_fail(out, "the body has no \"result\"");
	} else if (strcmp(result, "allow") == 0) {
		out->verdict = GRAPNEL_ALLOW;
		if (about == ABOUT_ACL)
			read_right(value, out);
		else if (g != NULL)
			(void)read_login(dialect, value, g, out);
	} else if (strcmp(result, "deny") == 0) {
		out->verdict = GRAPNEL_DENY;
		read_reason(value, out);
	} else if (strcmp(result, "ignore") == 0) {
		out->verdict = GRAPNEL_NEXT;
	} else {
		outcome_fail(out, "\"result\" is none of allow, deny, ignore");
	}
	json_decref(value);
}

void
answer_read_ok(struct grapnel_str body, struct outcome *out)
{
	json_t *value = load(body, out), *ok;

	if (value == NULL)
		return;
	ok = json_object_get(value, "ok");
	if (ok == NULL)
		ok = json_object_get(value, "Ok");
	if (json_is_boolean(ok))
		out->verdict = json_is_true(ok) ? GRAPNEL_ALLOW : GRAPNEL_DENY;
	else
		outcome_fail(out, "the body has no \"ok\" that is true or false");
	json_decref(value);
}
