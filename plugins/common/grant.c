/* SPDX-License-Identifier: Apache-2.0 */
#include "grant.h"

#include "grant_time.h"
#include "utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MAX_TEXT 65535u /* what an MQTT string can hold */

void
grant_init(struct grant *g, const struct grapnel_host *host)
{
	memset(g, 0, sizeof(*g));
	g->host = host;
	g->answer.size = sizeof(g->answer);
	g->limits.size = sizeof(g->limits);
}

void
grant_fini(struct grant *g)
{
	if (g->answer.rules != NULL)
		g->host->rules_unref(g->answer.rules);
	free(g->text);
	free(g->rules);
	memset(g, 0, sizeof(*g));
}

static bool fail(struct grant *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first error stays. */
static bool
fail(struct grant *g, const char *format, ...)
{
	va_list args;

	if (g->error[0] != '\0')
		return false;
	va_start(args, format);
	(void)vsnprintf(g->error, sizeof(g->error), format, args);
	va_end(args);
	return false;
}

static bool
equals(struct grapnel_str s, const char *word)
{
	return s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

static bool
equals_in_any_case(struct grapnel_str s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.data, word, s.len) == 0;
}

bool
grant_is_true(struct grapnel_str value)
{
	static const char *const words[] = { "t", "true", "yes", "y", "1", "on" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (value.data != NULL && equals_in_any_case(value, words[i]))
			return true;
	return false;
}

/* ------------------------------------------------------------------------- memory */

/* Room for n more bytes in one of the two texts. */
static bool
reserve(struct grant *g, char **text, size_t len, size_t *capacity, size_t n)
{
	size_t want = *capacity == 0 ? 256 : *capacity;
	char *p;

	if (n > GRANT_MAX_BYTES || g->text_len + g->rules_len + n > GRANT_MAX_BYTES)
		return fail(
		    g, "there are more than %u KiB of attributes and rules", GRANT_MAX_BYTES >> 10);
	while (want < len + n)
		want *= 2;
	if (want == *capacity)
		return true;
	if ((p = realloc(*text, want)) == NULL)
		return fail(g, "out of memory");
	*text = p;
	*capacity = want;
	return true;
}

static bool
keep(struct grant *g, struct grapnel_str s, struct grant_text *out)
{
	if (!reserve(g, &g->text, g->text_len, &g->text_capacity, s.len + 1))
		return false;
	memcpy(g->text + g->text_len, s.data, s.len);
	g->text[g->text_len + s.len] = '\0';
	*out = (struct grant_text){ true, g->text_len, s.len };
	g->text_len += s.len + 1;
	return true;
}

static struct grapnel_str
kept(const struct grant *g, struct grant_text t)
{
	return t.given ? (struct grapnel_str){ g->text + t.at, t.len }
		       : (struct grapnel_str){ NULL, 0 };
}

/* --------------------------------------------------------------- names with a meaning */

static bool
set_username(struct grant *g, struct grapnel_str value)
{
	if (value.len == 0)
		return fail(g, "username is empty");
	if (value.len > MAX_TEXT || !utf8_is_text(value, false))
		return fail(g,
		    "username is longer than 65535 bytes, is not UTF-8 or has control characters");
	return keep(g, value, &g->username);
}

static bool
set_mountpoint(struct grant *g, struct grapnel_str value)
{
	if (value.len > MAX_TEXT || !utf8_is_text(value, false))
		return fail(g,
		    "mountpoint is longer than 65535 bytes, is not UTF-8 or has control "
		    "characters");
	if (memchr(value.data, '+', value.len) != NULL ||
	    memchr(value.data, '#', value.len) != NULL)
		return fail(g, "mountpoint has a wildcard in it");
	return keep(g, value, &g->mountpoint);
}

static bool
set_superuser(struct grant *g, struct grapnel_str value)
{
	g->answer.superuser = grant_is_true(value);
	return true;
}

static bool
set_valid_until(struct grant *g, struct grapnel_str value)
{
	return grant_time(value, &g->answer.valid_until) ||
	    fail(g,
		"valid_until is neither seconds since 1970 nor a time like 2030-12-31 23:59:59+00");
}

static bool
number(struct grapnel_str value, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (value.len == 0 || value.len > 20)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		unsigned digit = (unsigned)(unsigned char)value.data[i] - '0';

		if (digit > 9 || n > (UINT64_MAX - digit) / 10)
			return false;
		n = n * 10 + digit;
	}
	*out = n;
	return n <= max;
}

static bool
set_cache_ttl(struct grant *g, struct grapnel_str value)
{
	uint64_t seconds;

	if (!number(value, UINT32_MAX, &seconds))
		return fail(g, "cache_ttl is not a number of seconds");
	g->answer.no_store = seconds == 0;
	g->answer.cache_ttl_ms =
	    seconds * 1000 < UINT32_MAX ? (uint32_t)(seconds * 1000) : UINT32_MAX - 1;
	return true;
}

static bool
set_acl(struct grant *g, struct grapnel_str value)
{
	return grant_add_rules(g, value);
}

static const struct {
	const char *name;
	bool (*set)(struct grant *g, struct grapnel_str value);
} known[] = {
	{ "acl", set_acl },
	{ "cache_ttl", set_cache_ttl },
	{ "mountpoint", set_mountpoint },
	{ "superuser", set_superuser },
	{ "username", set_username },
	{ "valid_until", set_valid_until },
};

/* 1: it was one; 0: it is none; -1: error. */
static int
set_limit(struct grant *g, struct grapnel_str name, struct grapnel_str value)
{
	struct grapnel_client_limits *l = &g->limits;
	const struct {
		const char *name;
		uint32_t *at;
	} small[] = {
		{ "max_inflight", &l->max_inflight },
		{ "max_packet_size", &l->max_packet_size },
		{ "max_queued_messages", &l->max_queued_messages },
		{ "max_session_expiry", &l->max_session_expiry },
		{ "message_rate", &l->message_rate },
	};
	uint64_t n = 0;
	bool good;

	for (size_t i = 0; i < sizeof(small) / sizeof(*small); i++) {
		if (!equals(name, small[i].name))
			continue;
		good = number(value, UINT32_MAX, &n);
		*small[i].at = (uint32_t)n;
		goto found;
	}
	if (equals(name, "max_queued_bytes") || equals(name, "byte_rate")) {
		good = number(value, UINT64_MAX, &n);
		*(equals(name, "byte_rate") ? &l->byte_rate : &l->max_queued_bytes) = n;
	} else if (equals(name, "max_qos")) {
		good = number(value, 2, &n);
		l->max_qos_plus_one = good ? (uint8_t)(n + 1) : 0;
	} else {
		return 0;
	}
found:
	if (!good) {
		(void)fail(g, "%.*s is not a number, or out of range", (int)name.len, name.data);
		return -1;
	}
	g->has_limits = true;
	return 1;
}

/* ---------------------------------------------------------------------- attributes */

static bool
is_attribute_name(struct grapnel_str name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
			return false;
	}
	return name.len > 0 && name.len <= GRANT_MAX_NAME;
}

/* For a message: what is printable of a name, as a column of a query may have any. */
static const char *
shown(char out[40], struct grapnel_str name)
{
	size_t n = name.len < 39 ? name.len : 39;

	for (size_t i = 0; i < n; i++)
		out[i] = name.data[i] > 0x20 && name.data[i] < 0x7f ? name.data[i] : '?';
	out[n] = '\0';
	return out;
}

bool
grant_set_attribute(struct grant *g, struct grapnel_str name, struct grapnel_str value)
{
	char text[40];
	size_t i = 0;

	if (value.data == NULL)
		return true;
	if (equals(name, "password"))
		return fail(g, "\"password\" cannot be an attribute of a client");
	if (name.len > 0 && memchr(name.data, '.', name.len) != NULL)
		return fail(g,
		    "\"%s\" cannot be an attribute: names with a dot are those of the connection "
		    "(cert., tls., proxy., unix.)",
		    shown(text, name));
	if (!is_attribute_name(name))
		return fail(g,
		    "\"%s\" cannot be an attribute: its name must be 1 to %u of a-z 0-9 _ -",
		    shown(text, name), GRANT_MAX_NAME);
	if (value.len > MAX_TEXT || !utf8_is_text(value, true))
		return fail(g, "attribute \"%s\" is longer than 65535 bytes or is not UTF-8",
		    shown(text, name));
	while (i < g->answer.attribute_count) {
		struct grapnel_str other = kept(g, g->names[i]);

		if (other.len == name.len && memcmp(other.data, name.data, name.len) == 0)
			return keep(g, value, &g->values[i]);
		i++;
	}
	if (i == GRANT_MAX_ATTRIBUTES)
		return fail(g, "there are more than %u attributes", GRANT_MAX_ATTRIBUTES);
	if (!keep(g, name, &g->names[i]) || !keep(g, value, &g->values[i]))
		return false;
	g->answer.attribute_count++;
	return true;
}

bool
grant_set_limit(struct grant *g, struct grapnel_str name, struct grapnel_str value)
{
	char text[40];
	int limit = value.data != NULL ? set_limit(g, name, value) : 1;

	if (limit == 0)
		return fail(g, "there is no limit \"%s\"", shown(text, name));
	return limit > 0;
}

bool
grant_set(struct grant *g, struct grapnel_str name, struct grapnel_str value)
{
	int limit;

	if (value.data == NULL)
		return true;
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (equals(name, known[i].name))
			return known[i].set(g, value);
	limit = set_limit(g, name, value);
	return limit != 0 ? limit > 0 : grant_set_attribute(g, name, value);
}

/* --------------------------------------------------------------------------- rules */

static bool
put(struct grant *g, const char *s, size_t n)
{
	if (!reserve(g, &g->rules, g->rules_len, &g->rules_capacity, n))
		return false;
	memcpy(g->rules + g->rules_len, s, n);
	g->rules_len += n;
	return true;
}

static bool
put_word(struct grant *g, const char *word)
{
	return put(g, word, strlen(word));
}

/* As a quoted word: whatever is in it, it stays one Topic Filter of one rule. */
static bool
put_quoted(struct grant *g, struct grapnel_str s)
{
	if (!put(g, "\"", 1))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (((s.data[i] == '"' || s.data[i] == '\\') && !put(g, "\\", 1)) ||
		    !put(g, s.data + i, 1))
			return false;
	return put(g, "\"", 1);
}

static bool
begin_rules(struct grant *g, size_t n)
{
	g->has_rules = true;
	if (g->rules_count + n > GRANT_MAX_RULES)
		return fail(g, "there are more than %u rules", GRANT_MAX_RULES);
	g->rules_count += (unsigned)n;
	if (g->foreign_rules && !put_word(g, "everyone\n"))
		return false;
	g->foreign_rules = false;
	return true;
}

/* A row, understood. */
struct row {
	bool deny, no_retain;
	unsigned qos;
	struct grapnel_str topic;
};

static bool
put_rule(struct grant *g, const struct row *row, const char *action)
{
	bool publish = strcmp(action, "publish") == 0 || strcmp(action, "all") == 0;
	char qos[] = " qos<=0";

	qos[6] = (char)('0' + row->qos);
	return begin_rules(g, 1) && put_word(g, row->deny ? "deny " : "allow ") &&
	    put_word(g, action) && put(g, " ", 1) && put_quoted(g, row->topic) &&
	    /* the conditions say nothing about read */
	    (row->qos == 2 || strcmp(action, "read") == 0 || put(g, qos, 7)) &&
	    (!row->no_retain || !publish || put_word(g, " retain=no")) && put(g, "\n", 1);
}

static bool
put_access(struct grant *g, struct row *row, struct grapnel_str access)
{
	uint64_t bits;

	if (!number(access, 7, &bits))
		return fail(g, "access of a rule is not a number from 0 to 7");
	if (bits == 0) {
		row->deny = true;
		return put_rule(g, row, "all");
	}
	return (!(bits & 1) || put_rule(g, row, "read")) &&
	    (!(bits & 2) || put_rule(g, row, "publish")) &&
	    (!(bits & 4) || put_rule(g, row, "subscribe"));
}

static bool
read_row(struct grant *g, const struct grant_rule *rule, struct row *row)
{
	uint64_t n;

	if (rule->permission.data != NULL && !equals_in_any_case(rule->permission, "allow")) {
		if (!equals_in_any_case(rule->permission, "deny"))
			return fail(g, "permission of a rule is neither allow nor deny");
		row->deny = true;
	}
	if (rule->topic.len == 0)
		return fail(g, "a rule has no topic");
	if (rule->topic.len > MAX_TEXT || !utf8_is_text(rule->topic, false))
		return fail(g,
		    "topic of a rule is longer than 65535 bytes, is not UTF-8 or has control "
		    "characters");
	row->topic = rule->topic;
	row->qos = 2;
	if (rule->qos.data != NULL) {
		if (!number(rule->qos, 2, &n))
			return fail(g, "qos of a rule is not 0, 1 or 2");
		row->qos = (unsigned)n;
	}
	if (rule->retain.data != NULL) {
		row->no_retain = equals(rule->retain, "0") ||
		    equals_in_any_case(rule->retain, "f") ||
		    equals_in_any_case(rule->retain, "false") ||
		    equals_in_any_case(rule->retain, "no");
		if (!row->no_retain && !grant_is_true(rule->retain))
			return fail(g, "retain of a rule is neither 0 nor 1");
	}
	if (row->deny && (row->qos < 2 || row->no_retain))
		return fail(g,
		    "a rule that denies has a qos or retain; they are conditions of those that "
		    "allow");
	return true;
}

bool
grant_add_rule(struct grant *g, const struct grant_rule *rule)
{
	static const char *const actions[] = { "all", "publish", "read", "subscribe" };
	struct row row = { 0 };

	if (!read_row(g, rule, &row))
		return false;
	if (rule->access.data != NULL) {
		if (rule->action.data != NULL)
			return fail(g, "a rule has both action and access");
		return put_access(g, &row, rule->access);
	}
	if (rule->action.data == NULL)
		return put_rule(g, &row, "all");
	for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++)
		if (equals_in_any_case(rule->action, actions[i]))
			return put_rule(g, &row, actions[i]);
	return fail(g, "action of a rule is none of publish, subscribe, read, all");
}

bool
grant_add_rules(struct grant *g, struct grapnel_str text)
{
	size_t lines = 1;

	if (text.data == NULL)
		return true;
	for (size_t i = 0; i < text.len; i++)
		lines += text.data[i] == '\n';
	if (!begin_rules(g, lines) || !put(g, text.data, text.len) || !put(g, "\n", 1))
		return false;
	g->foreign_rules = true;
	return true;
}

void
grant_want_rules(struct grant *g)
{
	g->has_rules = true;
}

/* -------------------------------------------------------------------------- answer */

struct grapnel_rules *
grant_compile(struct grant *g, struct grapnel_str source)
{
	struct grapnel_str text = { g->rules_len > 0 ? g->rules : "", g->rules_len };
	struct grapnel_rules *rules;

	if (g->error[0] != '\0') /* a rule that was left out may have been a deny */
		return NULL;
	rules = g->host->rules_compile(text, source, false, g->error, sizeof(g->error));
	if (rules == NULL)
		(void)fail(g, "the rules do not compile");
	return rules;
}

const struct grapnel_auth_answer *
grant_answer(struct grant *g, struct grapnel_str source)
{
	struct grapnel_auth_answer *a = &g->answer;

	if (g->error[0] != '\0')
		return NULL;
	if (g->has_rules && (a->rules = grant_compile(g, source)) == NULL)
		return NULL;
	for (size_t i = 0; i < a->attribute_count; i++)
		g->attributes[i] =
		    (struct grapnel_pair){ kept(g, g->names[i]), kept(g, g->values[i]) };
	a->attributes = a->attribute_count > 0 ? g->attributes : NULL;
	a->username = kept(g, g->username);
	a->mountpoint = kept(g, g->mountpoint);
	a->limits = g->has_limits ? &g->limits : NULL;
	return a;
}

struct grapnel_client_info
grant_client(
    const struct grant *g, const struct grapnel_client_info *client, struct grapnel_pair *pairs)
{
	struct grapnel_client_info out = { 0 };
	size_t n = 0;

	/* An older host's is shorter. */
	memcpy(&out, client, client->size < sizeof(out) ? client->size : sizeof(out));
	out.size = sizeof(out);
	/* Before those of an earlier login, which they replace; those of the connection have other names. */
	for (size_t i = 0; i < g->answer.attribute_count; i++)
		pairs[n++] = (struct grapnel_pair){ kept(g, g->names[i]), kept(g, g->values[i]) };
	for (size_t i = 0; i < client->attribute_count; i++)
		pairs[n++] = client->attributes[i];
	out.attributes = pairs;
	out.attribute_count = n;
	if (g->username.given)
		out.username = kept(g, g->username);
	if (g->mountpoint.given)
		out.mountpoint = kept(g, g->mountpoint);
	return out;
}

enum grapnel_verdict
grant_check(const struct grapnel_host *host, const struct grapnel_rules *rules,
    const struct grapnel_acl_check *q, struct grapnel_acl_answer *answer,
    struct grapnel_str otherwise)
{
	struct grapnel_rules_question question = {
		.size = sizeof(question),
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.client_id = q->client->client_id,
		.username = q->client->username,
		.attributes = q->client->attributes,
		.attribute_count = q->client->attribute_count,
	};
	enum grapnel_verdict verdict = host->rules_check(rules, &question, NULL, &answer->rule);

	if (verdict != GRAPNEL_NEXT)
		return verdict;
	answer->rule = otherwise;
	return GRAPNEL_DENY;
}

const struct grapnel_auth_answer grant_unusable = { .size = sizeof(grant_unusable),
	.no_store = true };
