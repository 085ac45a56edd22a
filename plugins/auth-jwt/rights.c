/* SPDX-License-Identifier: Apache-2.0 */
#include "rights.h"

#include "claims.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const limit_names[] = { "byte_rate", "max_inflight", "max_packet_size",
	"max_qos", "max_queued_bytes", "max_queued_messages", "max_session_expiry",
	"message_rate" };

static bool
is_limit(const char *name)
{
	for (size_t i = 0; i < sizeof(limit_names) / sizeof(limit_names[0]); i++)
		if (strcmp(name, limit_names[i]) == 0)
			return true;
	return false;
}

/* Names that grant_set gives another meaning, and ours. */
static bool
is_taken(const char *name)
{
	static const char *const taken[] = { "acl", "cache_ttl", "mountpoint", "password",
		"superuser", "username", "valid_until", RIGHTS_KEY_ATTRIBUTE };

	for (size_t i = 0; i < sizeof(taken) / sizeof(taken[0]); i++)
		if (strcmp(name, taken[i]) == 0)
			return true;
	return is_limit(name);
}

static bool
is_attribute_name(const char *name)
{
	return name[0] != '\0' && strlen(name) <= GRANT_MAX_NAME &&
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(name);
}

bool
rights_map_add(struct rights_map *m, struct grapnel_str text, char *error, size_t error_size)
{
	struct rights_attribute *a = &m->attributes[m->attribute_count];
	char *equals;

	if (m->attribute_count == RIGHTS_MAX_ATTRIBUTES) {
		(void)snprintf(
		    error, error_size, "there are more than %u attributes", RIGHTS_MAX_ATTRIBUTES);
		return false;
	}
	a->name = strndup(text.data, text.len);
	if (a->name == NULL) {
		(void)snprintf(error, error_size, "out of memory");
		return false;
	}
	m->attribute_count++;
	equals = strchr(a->name, '=');
	a->claim = equals != NULL ? equals + 1 : a->name;
	if (equals != NULL)
		*equals = '\0';
	if (is_attribute_name(a->name) && !is_taken(a->name) && a->claim[0] != '\0')
		return true;
	(void)snprintf(error, error_size,
	    is_taken(a->name)
		? "an attribute cannot have this name, which means something else"
		: "write attribute=claim; the name of an attribute is made of a-z 0-9 _ -");
	return false;
}

void
rights_map_fini(struct rights_map *m)
{
	for (size_t i = 0; i < m->attribute_count; i++)
		free(m->attributes[i].name);
	m->attribute_count = 0;
	free(m->username);
	free(m->superuser);
	free(m->mountpoint);
	free(m->acl);
	free(m->limits);
}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

/* ------------------------------------------------------------------------- values */

/* A claim that is one value. true: set, or absent and not required. */
static bool
set_from(struct grant *g, const char *name, const json_t *claims, const char *claim, bool required)
{
	const json_t *value = claim != NULL ? claims_get(claims, claim) : NULL;
	char room[CLAIMS_TEXT_SIZE];
	struct grapnel_str text;

	if (claim == NULL || (value == NULL && !required))
		return true;
	text = claims_text(value, room);
	return text.data != NULL && grant_set(g, str(name), text);
}

static bool
set_limits(struct grant *g, const json_t *limits)
{
	char room[CLAIMS_TEXT_SIZE];
	const json_t *value;
	const char *name;

	if (!json_is_object(limits))
		return limits == NULL;
	json_object_foreach((json_t *)limits, name, value)
	{
		struct grapnel_str text = claims_text(value, room);

		if (!is_limit(name) || text.data == NULL || !grant_set(g, str(name), text))
			return false;
	}
	return true;
}

/* -------------------------------------------------------------------------- rules */

/*
 * A topic with the places of EMQX, ${username} and ${clientid}, as ours, on the heap. NULL: no memory.
 */
static char *
our_places(const char *topic)
{
	static const struct {
		const char *theirs, *ours;
	} places[] = { { "${username}", "%u" }, { "${clientid}", "%c" } };
	char *out = malloc(strlen(topic) + 1), *to = out;

	while (out != NULL && *topic != '\0') {
		size_t i = 0;

		while (i < 2 && strncmp(topic, places[i].theirs, strlen(places[i].theirs)) != 0)
			i++;
		if (i == 2) {
			*to++ = *topic++;
			continue;
		}
		memcpy(to, places[i].ours, 2);
		to += 2;
		topic += strlen(places[i].theirs);
	}
	if (out != NULL)
		*to = '\0';
	return out;
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static bool
add_rule(struct grant *g, struct grant_rule *rule, const char *topic)
{
	bool good;
	char *text;

	/*
	 * "eq x/#" of EMQX: this very filter, not what it matches. For a subscription that is what an allow means anyway; nothing else of
	 * it can be said in our rules.
	 */
	if (strncmp(topic, "eq ", 3) == 0) {
		if (!is(rule->action, "subscribe") ||
		    (rule->permission.data != NULL && !is(rule->permission, "allow")))
			return false;
		topic += 3;
	}
	text = our_places(topic);
	if (text == NULL)
		return false;
	rule->topic = str(text);
	good = grant_add_rule(g, rule);
	free(text);
	return good;
}

/* One number, or the highest of several. */
static bool
qos_of(const json_t *value, char out[2], struct grapnel_str *text)
{
	const json_t *one = value;
	json_int_t highest = -1;
	size_t i = 0, n = json_is_array(value) ? json_array_size(value) : value != NULL;

	if (value == NULL)
		return true;
	for (; i < n; i++) {
		if (json_is_array(value))
			one = json_array_get(value, i);
		if (!json_is_integer(one) || json_integer_value(one) < 0 ||
		    json_integer_value(one) > 2)
			return false;
		if (json_integer_value(one) > highest)
			highest = json_integer_value(one);
	}
	if (highest < 0)
		return false;
	out[0] = (char)('0' + highest);
	out[1] = '\0';
	*text = (struct grapnel_str){ out, 1 };
	return true;
}

/* Members we do not know may be conditions: such a rule says less than it seems to. */
static bool
only_known_members(const json_t *object)
{
	static const char *const known[] = { "permission", "action", "topic", "qos", "retain" };
	const json_t *value;
	const char *name;

	json_object_foreach((json_t *)object, name, value)
	{
		size_t i = 0;

		while (i < sizeof(known) / sizeof(known[0]) && strcmp(name, known[i]) != 0)
			i++;
		if (i == sizeof(known) / sizeof(known[0]))
			return false;
	}
	return true;
}

static bool
add_object(struct grant *g, const json_t *object)
{
	const json_t *permission = json_object_get(object, "permission"),
		     *action = json_object_get(object, "action"),
		     *topic = json_object_get(object, "topic"),
		     *retain = json_object_get(object, "retain");
	struct grant_rule rule = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 },
		{ NULL, 0 } };
	char qos[2], room[CLAIMS_TEXT_SIZE];

	if (!only_known_members(object) || !json_is_string(topic) ||
	    (permission != NULL && !json_is_string(permission)) ||
	    (action != NULL && !json_is_string(action)) ||
	    !qos_of(json_object_get(object, "qos"), qos, &rule.qos))
		return false;
	if (permission != NULL)
		rule.permission = claims_text(permission, room);
	if (action != NULL)
		rule.action = claims_text(action, room);
	if (retain != NULL) {
		if (!json_is_boolean(retain))
			return false;
		rule.retain = claims_text(retain, room);
	}
	return add_rule(g, &rule, json_string_value(topic));
}

/* A line of its own: an issuer that puts a user's name into it lets nobody write a second one. */
static bool
add_line(struct grant *g, const json_t *line)
{
	const char *text = json_string_value(line);

	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20)
			return false;
	return grant_add_rules(g, str(text));
}

static bool
add_list(struct grant *g, const json_t *list)
{
	const json_t *rule;
	size_t i;

	json_array_foreach(list, i, rule) if (json_is_string(rule) ? !add_line(g, rule)
		: json_is_object(rule)                             ? !add_object(g, rule)
								   : true) return false;
	return true;
}

/* { "pub": [ ... ], "sub": [ ... ], "all": [ ... ] } */
static bool
add_topics(struct grant *g, const json_t *acl)
{
	static const struct {
		const char *member, *action;
	} lists[] = { { "pub", "publish" }, { "sub", "subscribe" }, { "all", "all" } };
	const json_t *topic;
	size_t i, known = 0;

	for (size_t k = 0; k < 3; k++) {
		const json_t *list = json_object_get(acl, lists[k].member);

		if (list == NULL)
			continue;
		known++;
		if (!json_is_array(list))
			return false;
		json_array_foreach(list, i, topic)
		{
			struct grant_rule rule = { { NULL, 0 }, str(lists[k].action), { NULL, 0 },
				{ NULL, 0 }, { NULL, 0 }, { NULL, 0 } };

			if (!json_is_string(topic) || !add_rule(g, &rule, json_string_value(topic)))
				return false;
		}
	}
	return known == json_object_size(acl);
}

static bool
add_acl(struct grant *g, const json_t *acl)
{
	grant_want_rules(g); /* without the claim, too: nothing is allowed by it */
	if (acl == NULL)
		return true;
	if (json_is_string(acl))
		return grant_add_rules(g, str(json_string_value(acl)));
	return json_is_array(acl) ? add_list(g, acl) : json_is_object(acl) && add_topics(g, acl);
}

static const char *
because(const struct grant *g, const char *otherwise)
{
	return g->error[0] != '\0' ? g->error : otherwise;
}

const char *
rights_fill(const struct rights_map *m, const json_t *claims, struct grant *g)
{
	const json_t *superuser = m->superuser != NULL ? claims_get(claims, m->superuser) : NULL;

	if (!set_from(g, "username", claims, m->username, true))
		return because(g, "the claim of username_claim is absent or no text");
	if (!set_from(g, "mountpoint", claims, m->mountpoint, false))
		return because(g, "the claim of mountpoint_claim is no text");
	if (superuser != NULL && !set_from(g, "superuser", claims, m->superuser, false))
		return because(g, "the claim of superuser_claim is neither text nor truth value");
	for (size_t i = 0; i < m->attribute_count; i++)
		if (!set_from(g, m->attributes[i].name, claims, m->attributes[i].claim, false))
			return because(g, "a claim of attributes is neither text nor number");
	if (m->limits != NULL && !set_limits(g, claims_get(claims, m->limits)))
		return because(g, "the claim of limits_claim is no object of limits and numbers");
	if (m->acl != NULL && !add_acl(g, claims_get(claims, m->acl)))
		return because(g, "the claim of acl_claim cannot be understood");
	return NULL;
}
