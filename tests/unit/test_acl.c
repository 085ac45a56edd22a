/* SPDX-License-Identifier: Apache-2.0 */
#include "core/acl.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static struct grapnel_rules *
compile(const char *text)
{
	char error[256];
	struct grapnel_rules *r =
	    acl_rules_compile(str(text), str("acl"), false, error, sizeof(error));

	ck_assert_msg(r != NULL, "%s\n%s", text, error);
	return r;
}

struct who {
	const char *user, *client;
	const char *tenant; /* attribute */
};
#define U(user)                  \
	{                        \
		user, NULL, NULL \
	}
#define UC(user, client)           \
	{                          \
		user, client, NULL \
	}

/* scope: NULL, or gets the Topic Filter that the same answer holds for, "" when there is none; SCOPE_SIZE bytes. */
#define SCOPE_SIZE 64
static enum grapnel_verdict
ask_scope(const struct grapnel_rules *r, struct who who, enum grapnel_action action, unsigned qos,
    bool retain, const char *topic, uint32_t *flags, struct grapnel_str *rule, char *scope)
{
	struct grapnel_pair pairs[2] = { { str("role"), str("r1") },
		{ str("tenant"), str(who.tenant) } };
	struct grapnel_rules_question q = {
		.size = sizeof(q),
		.action = action,
		.qos = (uint8_t)qos,
		.retain = retain,
		.topic = str(topic),
		.client_id = str(who.client != NULL ? who.client : "c1"),
		.username = str(who.user),
		.attributes = pairs,
		.attribute_count = who.tenant != NULL ? 2 : 1,
	};

	if (scope != NULL)
		scope[acl_rules_scope(r, &q, scope, SCOPE_SIZE - 1)] = '\0';
	return acl_rules_check(r, &q, flags, rule);
}

static enum grapnel_verdict
ask_full(const struct grapnel_rules *r, struct who who, enum grapnel_action action, unsigned qos,
    bool retain, const char *topic, uint32_t *flags, struct grapnel_str *rule)
{
	return ask_scope(r, who, action, qos, retain, topic, flags, rule, NULL);
}

static enum grapnel_verdict
ask(const struct grapnel_rules *r, struct who who, enum grapnel_action action, const char *topic)
{
	return ask_full(r, who, action, 0, false, topic, NULL, NULL);
}

#define P     GRAPNEL_PUBLISH
#define S     GRAPNEL_SUBSCRIBE
#define R     GRAPNEL_READ
#define W     GRAPNEL_WILL
#define ALLOW GRAPNEL_ALLOW
#define DENY  GRAPNEL_DENY
#define NEXT  GRAPNEL_NEXT

/* ------------------------------------------------------------- one question, one verdict */

static const struct {
	const char *rules;
	struct who who;
	enum grapnel_action action;
	const char *topic;
	enum grapnel_verdict want;
} cases[] = {
	/* nothing matches: no rule set is not "no ACL" */
	{ "", U("u"), P, "a", NEXT },
	{ " \n\t\n# only a comment\r\n", U("u"), P, "a", NEXT },
	/* actions */
	{ "allow publish a", U("u"), P, "a", ALLOW },
	{ "allow publish a", U("u"), W, "a", ALLOW },
	{ "allow publish a", U("u"), S, "a", NEXT },
	{ "allow publish a", U("u"), R, "a", NEXT },
	{ "allow subscribe a", U("u"), S, "a", ALLOW },
	{ "allow subscribe a", U("u"), R, "a", ALLOW },
	{ "allow subscribe a", U("u"), P, "a", NEXT },
	{ "allow read a", U("u"), R, "a", ALLOW },
	{ "allow read a", U("u"), S, "a", NEXT },
	{ "allow all a", U("u"), P, "a", ALLOW },
	{ "allow all a", U("u"), S, "a", ALLOW },
	{ "allow all a", U("u"), R, "a", ALLOW },
	{ "deny subscribe a/#\nallow all #", U("u"), S, "a/b", DENY },
	{ "deny subscribe a/#\nallow all #", U("u"), S, "#", ALLOW }, /* but not delivered: */
	{ "deny subscribe a/#\nallow all #", U("u"), R, "a/b", DENY },
	{ "deny subscribe a/#\nallow all #", U("u"), P, "a/b", ALLOW },
	{ "deny read a/#\nallow all #", U("u"), S, "a/b", ALLOW },
	{ "deny read a/#\nallow all #", U("u"), R, "a/b", DENY },
	/* the first match decides */
	{ "allow all a/b\ndeny all a/#\nallow all #", U("u"), P, "a/b", ALLOW },
	{ "allow all a/b\ndeny all a/#\nallow all #", U("u"), P, "a/c", DENY },
	{ "allow all a/b\ndeny all a/#\nallow all #", U("u"), P, "b", ALLOW },
	{ "deny publish a\nallow publish a", U("u"), P, "a", DENY },
	/* filters */
	{ "allow publish sport/#", U("u"), P, "sport", ALLOW },
	{ "allow publish sport/#", U("u"), P, "sports", NEXT },
	{ "allow publish sport/+", U("u"), P, "sport", NEXT },
	{ "allow publish sport/+", U("u"), P, "sport/", ALLOW },
	{ "allow publish +/+", U("u"), P, "/finance", ALLOW },
	{ "allow publish +", U("u"), P, "/finance", NEXT },
	{ "allow publish /+", U("u"), P, "/finance", ALLOW },
	{ "allow publish /#", U("u"), P, "/", ALLOW },
	{ "allow publish /#", U("u"), P, "a", NEXT },
	{ "allow publish a//b", U("u"), P, "a//b", ALLOW },
	{ "allow publish a//b", U("u"), P, "a/b", NEXT },
	{ "allow publish a/+/c/#", U("u"), P, "a/b/c", ALLOW },
	{ "allow publish a/+/c/#", U("u"), P, "a/b/c/d/e", ALLOW },
	{ "allow publish a/+/c/#", U("u"), P, "a/b/b/c", NEXT },
	/* $-topics [MQTT-4.7.2-1] */
	{ "allow all #", U("u"), R, "$SYS/x", NEXT },
	{ "allow all +/x", U("u"), R, "$SYS/x", NEXT },
	{ "allow all +/#", U("u"), R, "$SYS/x", NEXT },
	{ "allow all #", U("u"), S, "$SYS/#", NEXT },
	{ "allow all $SYS/#", U("u"), R, "$SYS/x", ALLOW },
	{ "allow all $SYS/#", U("u"), S, "$SYS/#", ALLOW },
	{ "allow all $SYS/#", U("u"), S, "#", NEXT },
	{ "allow all $SYS/#", U("u"), S, "+/x", NEXT },
	{ "deny all #\nallow all $SYS/#", U("u"), R, "$SYS/x", ALLOW },
	/* who names himself "$SYS" gets nothing by it; a deny of the same holds */
	{ "allow all %c/#", UC("u", "$SYS"), R, "$SYS/x", NEXT },
	{ "allow all %c/#", UC("u", "$SYS"), S, "$SYS/#", NEXT },
	{ "allow all %u", U("$SYS"), P, "$SYS", NEXT },
	{ "deny all %c/#\nallow all $SYS/#", UC("u", "$SYS"), R, "$SYS/x", DENY },
	/* substitution */
	{ "allow all d/%u/#", U("ann"), P, "d/ann/x", ALLOW },
	{ "allow all d/%u/#", U("ann"), P, "d/bob/x", NEXT },
	{ "allow all d/%c/#", UC(NULL, "p7"), P, "d/p7", ALLOW },
	{ "allow all d/%{tenant}/#", { "u", "c", "t1" }, P, "d/t1/x", ALLOW },
	{ "allow all d/%{tenant}/#", { "u", "c", "t1" }, P, "d/t2/x", NEXT },
	{ "allow all %u/%c/%{role}", UC("u", "c"), P, "u/c/r1", ALLOW },
	{ "allow all pre%upost/x", U("u"), P, "preupost/x", ALLOW },
	{ "allow all 100%%/%%u", U("u"), P, "100%/%u", ALLOW },
	{ "allow all 100%%/%%u", U("u"), P, "100%/u", NEXT },
	/* absent values match nothing, in an allow and in a deny; empty ones are themselves */
	{ "allow all d/%u/#", U(NULL), P, "d//x", NEXT },
	{ "allow all d/%u/#", U(NULL), P, "d/%u/x", NEXT },
	{ "allow all d/%u/#", U(NULL), S, "d/+/x", NEXT },
	{ "allow all d/%{tenant}/#", U("u"), P, "d//x", NEXT },
	{ "allow all d/%{tenant}/#", U("u"), P, "d/%{tenant}/x", NEXT },
	{ "deny all d/%u/#\nallow all #", U(NULL), P, "d//x", ALLOW },
	{ "allow all d/%u/#", U(""), P, "d//x", ALLOW },
	{ "allow all d/%u/#", U(""), P, "d/x", NEXT },
	/* wildcards in a value are never wildcards, nor do they cover any */
	{ "allow all d/%u", U("#"), P, "d/x", NEXT },
	{ "allow all d/%u", U("#"), S, "d/#", NEXT },
	{ "allow all d/%u/x", U("+"), P, "d/a/x", NEXT },
	{ "allow all d/%u/x", U("+"), S, "d/+/x", NEXT },
	{ "allow all d/%c/x", UC("u", "+"), S, "d/+/x", NEXT },
	{ "allow all %{tenant}", { "u", "c", "#" }, S, "#", NEXT },
	{ "allow all %{tenant}", { "u", "c", "#" }, R, "a", NEXT },
	{ "allow all d/%u", U("a/+"), S, "d/a/+", NEXT },
	{ "allow all d/%u", U("a/#"), S, "d/a/#", NEXT },
	{ "allow all d/%u/#", U("a+b"), S, "d/a+b/#", NEXT },
	/* a slash in a value stands for itself, and for no more */
	{ "allow all d/%u/x", U("a/b"), P, "d/a/b/x", ALLOW },
	{ "allow all d/%u/x", U("a/b"), P, "d/a/x", NEXT },
	{ "allow all d/%u/+", U("a/b"), S, "d/a/b/+", ALLOW },
	{ "allow all d/%u/+", U("a/b"), S, "d/a/+/+", NEXT },
	{ "allow all d/%u/#", U("a/b"), S, "d/a/b/#", ALLOW },
	{ "allow all d/%u/#", U("a/b"), S, "d/a/#", NEXT },
	/* covering */
	{ "allow subscribe a/#", U("u"), S, "a/+/c", ALLOW },
	{ "allow subscribe a/#", U("u"), S, "a", ALLOW },
	{ "allow subscribe a/#", U("u"), S, "a/#", ALLOW },
	{ "allow subscribe a/+", U("u"), S, "a/#", NEXT },
	{ "allow subscribe a/b", U("u"), S, "a/+", NEXT },
	{ "allow subscribe a/#", U("u"), S, "+/b", NEXT },
	{ "allow subscribe a/#", U("u"), S, "#", NEXT },
	{ "allow subscribe #", U("u"), S, "#", ALLOW },
	{ "allow subscribe #", U("u"), S, "+/+", ALLOW },
	{ "allow subscribe +/#", U("u"), S, "#", ALLOW }, /* the same set of topics */
	{ "allow subscribe +/+/#", U("u"), S, "#", NEXT },
	{ "allow subscribe a/+/#", U("u"), S, "a/#", NEXT }, /* "a" is not covered */
	/* whom rules are for */
	{ "user ann\nallow all a", U("ann"), P, "a", ALLOW },
	{ "user ann\nallow all a", U("bob"), P, "a", NEXT },
	{ "user ann\nallow all a", U(NULL), P, "a", NEXT },
	{ "user ann\nallow all a", U("Ann"), P, "a", NEXT },
	{ "client c7\nallow all a", UC("u", "c7"), P, "a", ALLOW },
	{ "client c7\nallow all a", UC("c7", "c8"), P, "a", NEXT },
	{ "anonymous\nallow all a", U(NULL), P, "a", ALLOW },
	{ "anonymous\nallow all a", U("u"), P, "a", NEXT },
	{ "anonymous\nallow all a", U(""), P, "a", NEXT },
	{ "user ann\neveryone\nallow all a", U("bob"), P, "a", ALLOW },
	{ "user \"ann lee\" # hers\nallow all a", U("ann lee"), P, "a", ALLOW },
	{ "user \"q\\\"\\\\\"\nallow all a", U("q\"\\"), P, "a", ALLOW },
	{ "user a\nallow all a\nuser b\nallow all b\nuser a\nallow all c", U("a"), P, "c", ALLOW },
	{ "user a\nallow all a\nuser b\nallow all b\nuser a\nallow all c", U("a"), P, "b", NEXT },
	/* the order of the text counts across subjects */
	{ "deny all a\nuser ann\nallow all a", U("ann"), P, "a", DENY },
	{ "user ann\nallow all a\neveryone\ndeny all a", U("ann"), P, "a", ALLOW },
	{ "user ann\nallow all a\neveryone\ndeny all a", U("bob"), P, "a", DENY },
	{ "client c1\ndeny all a\nuser ann\nallow all a", UC("ann", "c1"), P, "a", DENY },
	{ "user ann\nallow all a\nclient c1\ndeny all a", UC("ann", "c1"), P, "a", ALLOW },
	/* words */
	{ "allow all \"a b/#\"", U("u"), P, "a b/c", ALLOW },
	{ "allow all # # everything", U("u"), P, "x", ALLOW },
	{ "allow all \"#\"", U("u"), P, "x", ALLOW },
	{ "\tallow\tall\ta\t\r\n", U("u"), P, "a", ALLOW },
	{ "allow all m\xc3\xbcll", U("u"), P, "m\xc3\xbcll", ALLOW },
};

START_TEST(rules_answer_as_documented)
{
	struct grapnel_rules *r = compile(cases[_i].rules);
	enum grapnel_verdict got = ask(r, cases[_i].who, cases[_i].action, cases[_i].topic);

	ck_assert_msg(got == cases[_i].want, "row %d: '%s' asked for %s: %d", _i, cases[_i].rules,
	    cases[_i].topic, got);
	acl_rules_unref(r);
}
END_TEST

START_TEST(conditions_that_are_not_met_pass_on_to_the_next_rule)
{
	struct grapnel_rules *r = compile("allow publish a qos<=1 retain=no\n"
					  "allow subscribe a qos<=0\n"
					  "allow all b retain=no qos<=0 # both\n"
					  "allow publish a qos<=2\n");
	struct who u = { .user = "u" };
	struct grapnel_str rule;

	ck_assert_int_eq(ask_full(r, u, P, 1, false, "a", NULL, &rule), ALLOW);
	ck_assert_int_eq(rule.data[rule.len - 1], '1');
	ck_assert_int_eq(ask_full(r, u, P, 2, false, "a", NULL, &rule), ALLOW);
	ck_assert_int_eq(rule.data[rule.len - 1], '4');
	ck_assert_int_eq(ask_full(r, u, P, 0, true, "a", NULL, &rule), ALLOW);
	ck_assert_int_eq(rule.data[rule.len - 1], '4');
	ck_assert_int_eq(ask_full(r, u, S, 0, false, "a", NULL, NULL), ALLOW);
	ck_assert_int_eq(ask_full(r, u, S, 1, false, "a", NULL, NULL), NEXT);
	ck_assert_int_eq(ask_full(r, u, W, 0, true, "b", NULL, NULL), NEXT);
	ck_assert_int_eq(ask_full(r, u, W, 0, false, "b", NULL, NULL), ALLOW);
	/* RETAIN and QoS of a message that is delivered are no matter of the reader's rights. */
	ck_assert_int_eq(ask_full(r, u, R, 2, true, "b", NULL, NULL), ALLOW);
	acl_rules_unref(r);
}
END_TEST

START_TEST(the_rule_that_decided_is_named)
{
	struct grapnel_rules *r = compile("# one\nallow publish a\n\n  deny publish b\r\n");
	struct grapnel_str rule;

	ck_assert_int_eq(ask_full(r, (struct who)U("u"), P, 0, false, "b", NULL, &rule), DENY);
	ck_assert_uint_eq(rule.len, 5);
	ck_assert(memcmp(rule.data, "acl:4", 5) == 0);
	ck_assert_int_eq(ask_full(r, (struct who)U("u"), P, 0, false, "c", NULL, &rule), NEXT);
	ck_assert_ptr_null(rule.data);
	acl_rules_unref(r);
}
END_TEST

START_TEST(an_action_of_a_later_abi_is_refused)
{
	struct grapnel_rules *r = compile("allow all #");

	ck_assert_int_eq(ask(r, (struct who)U("u"), (enum grapnel_action)77, "a"), DENY);
	acl_rules_unref(r);
}
END_TEST

START_TEST(an_empty_topic_matches_no_rule)
{
	struct grapnel_rules *r = compile("allow all #\nallow all %u");

	ck_assert_int_eq(ask(r, (struct who)U(""), P, ""), NEXT);
	ck_assert_int_eq(ask(r, (struct who)U(""), S, ""), NEXT);
	acl_rules_unref(r);
}
END_TEST

/* ---------------------------------------------------------------------------- COVERED */

static const struct {
	const char *rules;
	const char *filter;
	enum grapnel_verdict want;
	bool covered;
} covered_cases[] = {
	{ "allow all #", "a/#", ALLOW, true },
	{ "allow subscribe a/#", "a/+", ALLOW, true },
	{ "allow all #\ndeny read a/b", "a/#", ALLOW, true }, /* the deny comes too late */
	{ "deny read a/b\nallow all #", "a/#", ALLOW, false },
	{ "deny read a/b\nallow all #", "+/b", ALLOW, false },
	{ "deny read a/b\nallow all #", "+/c", ALLOW, true },
	{ "deny subscribe a/b\nallow all #", "a/#", ALLOW, false },
	{ "deny publish a/b\nallow all #", "a/#", ALLOW, true },
	{ "deny read a/b/#\nallow all #", "a/b", ALLOW, false }, /* parent level */
	{ "deny read a\nallow all #", "a/#", ALLOW, false },     /* parent level, other way */
	{ "deny read $SYS/#\nallow all #", "#", ALLOW, true },   /* disjoint [MQTT-4.7.2-1] */
	{ "deny read #\nallow all $SYS/#", "$SYS/#", ALLOW, true },
	{ "deny read d/%u/#\nallow all #", "d/#", ALLOW, false },
	{ "deny read d/%u/#\nallow all #", "d/bob/#", ALLOW, true },
	{ "deny read d/x%ux/#\nallow all #", "d/xux/+", ALLOW, false },
	{ "deny read d/x%ux/#\nallow all #", "d/xu/+", ALLOW, true },
	{ "deny read d/x%ux\nallow all #", "+/xux/#", ALLOW, false },
	{ "deny read d/%{none}/#\nallow all #", "d/#", ALLOW, true },
	{ "user bob\ndeny read a\neveryone\nallow all #", "#", ALLOW, true },
	{ "user u\ndeny read a\neveryone\nallow all #", "#", ALLOW, false },
	/* NEXT: can these rules take anything away from what others grant? */
	{ "", "#", NEXT, true },
	{ "allow read a/b", "a/#", NEXT, true },
	{ "deny read a/b", "a/#", NEXT, false },
	{ "deny publish a/b", "a/#", NEXT, true },
	{ "deny all a/#", "a/b", DENY, false },
};

START_TEST(covered_says_that_no_delivery_can_be_refused)
{
	struct grapnel_rules *r = compile(covered_cases[_i].rules);
	uint32_t flags = ~0u;
	enum grapnel_verdict got =
	    ask_full(r, (struct who)U("u"), S, 0, false, covered_cases[_i].filter, &flags, NULL);

	ck_assert_msg(got == covered_cases[_i].want, "row %d: '%s'", _i, covered_cases[_i].rules);
	ck_assert_msg(flags == (covered_cases[_i].covered ? GRAPNEL_ACL_COVERED : 0u),
	    "row %d: '%s'", _i, covered_cases[_i].rules);
	acl_rules_unref(r);
}
END_TEST

/*
 * The rest is compared with a reference that enumerates topics: a filter covers another when it
 * matches each topic the other does, they intersect when a topic matches both.
 */
#define MAX_TEXTS 1000
#define MAX_TEXT  24
struct texts {
	char text[MAX_TEXTS][MAX_TEXT];
	unsigned count;
};

/* All texts of up to `depth` levels over the alphabet, a '#' only at the end. */
static void
enumerate(struct texts *t, const char *const *alphabet, unsigned letters, unsigned depth)
{
	unsigned first = t->count, end;

	for (unsigned l = 0; l < letters; l++)
		strcpy(t->text[t->count++], alphabet[l]);
	for (unsigned d = 1; d < depth; d++) {
		end = t->count;
		for (unsigned i = first; i < end; i++) {
			if (strchr(t->text[i], '#') != NULL)
				continue;
			for (unsigned l = 0; l < letters; l++) {
				ck_assert_uint_lt(t->count, MAX_TEXTS);
				snprintf(t->text[t->count++], MAX_TEXT, "%s/%s", t->text[i],
				    alphabet[l]);
			}
		}
		first = end;
	}
}

static bool
reference_matches(const char *f, const char *t)
{
	if ((*f == '+' || *f == '#') && *t == '$')
		return false;
	for (;;) {
		size_t fl = strcspn(f, "/"), tl = strcspn(t, "/");

		if (fl == 1 && *f == '#')
			return true;
		if (!(fl == 1 && *f == '+') && (fl != tl || memcmp(f, t, fl) != 0))
			return false;
		f += fl;
		t += tl;
		if (*f == '\0' && *t == '\0')
			return true;
		if (*t == '\0')
			return strcmp(f, "/#") == 0;
		if (*f == '\0')
			return false;
		f++;
		t++;
	}
}

/* What a rule's filter is for a user; false: it matches nothing. */
static bool
reference_expand(char *out, const char *rule, const char *user)
{
	for (; *rule != '\0'; rule++) {
		if (rule[0] == '%' && rule[1] == 'u') {
			if (user == NULL || strpbrk(user, "+#") != NULL)
				return false;
			out = stpcpy(out, user);
			rule++;
		} else {
			*out++ = *rule;
		}
	}
	*out = '\0';
	return true;
}

static struct texts topics, filters, patterns;
static const char *const users[] = { "a", "b", "a/b", "b/", "", "+", "#", "a/#", NULL };
#define USERS (sizeof(users) / sizeof(*users))

static void
enumerate_all(void)
{
	static const char *const topic_letters[] = { "a", "b", "z", "" };
	static const char *const filter_letters[] = { "a", "b", "", "+", "#" };
	static const char *const rule_letters[] = { "a", "", "+", "%u", "#" };
	static const char *const dollar[] = { "$s", "$s/a", "$s/z", "$s/a/b", "$s/a/z" };
	static const char *const dollar_filters[] = { "$s", "$s/#", "$s/+", "$s/a", "$s/+/b" };

	memset(&topics, 0, sizeof(topics));
	memset(&filters, 0, sizeof(filters));
	memset(&patterns, 0, sizeof(patterns));
	enumerate(&topics, topic_letters, 4, 4);
	for (unsigned i = 0; i < 5; i++)
		strcpy(topics.text[topics.count++], dollar[i]);
	enumerate(&filters, filter_letters, 5, 3);
	enumerate(&patterns, rule_letters, 5, 3);
	/* One value a pattern, so that the topics are deep enough to tell everything apart. */
	for (unsigned i = 0; i < patterns.count;) {
		const char *value = strstr(patterns.text[i], "%u");

		if (value != NULL && strstr(value + 1, "%u") != NULL)
			memmove(patterns.text[i], patterns.text[--patterns.count], MAX_TEXT);
		else
			i++;
	}
	for (unsigned i = 0; i < 5; i++) {
		strcpy(filters.text[filters.count++], dollar_filters[i]);
		strcpy(patterns.text[patterns.count++], dollar_filters[i]);
	}
	/* An empty text is neither a Topic Name nor a filter [MQTT-4.7.3-1]. */
	for (struct texts *t = &topics; t != NULL; t = t == &topics ? &filters
		 : t == &filters                                    ? &patterns
								    : NULL)
		for (unsigned i = 0; i < t->count; i++)
			if (t->text[i][0] == '\0')
				strcpy(t->text[i], "q");
}

#define WORDS (MAX_TEXTS / 64 + 1)
struct set {
	uint64_t bits[WORDS];
};

/* Which topics a filter matches; the last bit stands for the empty text, see below. */
static void
reference_set(struct set *set, const char *filter)
{
	memset(set, 0, sizeof(*set));
	if (filter == NULL)
		return;
	for (unsigned t = 0; t <= topics.count; t++)
		if (reference_matches(filter, t < topics.count ? topics.text[t] : ""))
			set->bits[t / 64] |= UINT64_C(1) << t % 64;
}

START_TEST(covering_and_intersecting_agree_with_enumeration)
{
	static struct set by_filter[400];
	unsigned covered = 0, disjoint = 0;

	enumerate_all();
	ck_assert_uint_lt(filters.count, 400);
	for (unsigned f = 0; f < filters.count; f++)
		reference_set(&by_filter[f], filters.text[f]);
	for (unsigned p = 0; p < patterns.count; p++) {
		char text[200];
		struct grapnel_rules *allow, *deny;

		snprintf(text, sizeof(text), "allow subscribe %s", patterns.text[p]);
		allow = compile(text);
		snprintf(text, sizeof(text), "deny read %s\nallow all #\nallow all $s/#",
		    patterns.text[p]);
		deny = compile(text);
		for (unsigned u = 0; u < USERS; u++) {
			struct who who = { .user = users[u] };
			struct set by_rule;
			char expanded[100];

			reference_set(&by_rule,
			    reference_expand(expanded, patterns.text[p], users[u]) ? expanded
										   : NULL);
			for (unsigned t = 0; t < topics.count; t++)
				ck_assert_msg((ask(allow, who, R, topics.text[t]) == ALLOW) ==
					(by_rule.bits[t / 64] >> t % 64 & 1),
				    "%s as %s, topic %s", patterns.text[p], users[u],
				    topics.text[t]);
			for (unsigned f = 0; f < filters.count; f++) {
				bool covers = true, intersects = false;
				uint32_t flags = 0;

				/*
				 * "" is no Topic Name, but "/#" would match it as its parent level;
				 * being careful about it costs nothing.
				 */
				for (unsigned w = 0; w < WORDS; w++) {
					covers &= (by_filter[f].bits[w] & ~by_rule.bits[w]) == 0;
					intersects |= (by_filter[f].bits[w] & by_rule.bits[w]) != 0;
				}
				ck_assert_msg(
				    (ask(allow, who, S, filters.text[f]) == ALLOW) == covers,
				    "%s as %s, filter %s: covers %d", patterns.text[p], users[u],
				    filters.text[f], covers);
				ck_assert_int_eq(
				    ask_full(deny, who, S, 0, false, filters.text[f], &flags, NULL),
				    ALLOW);
				ck_assert_msg(!(flags & GRAPNEL_ACL_COVERED) == intersects,
				    "%s as %s, filter %s: intersects %d", patterns.text[p],
				    users[u], filters.text[f], intersects);
				covered += covers;
				disjoint += !intersects;
			}
		}
		acl_rules_unref(allow);
		acl_rules_unref(deny);
	}
	ck_assert_uint_gt(covered, 1000); /* the loops did meet both outcomes */
	ck_assert_uint_gt(disjoint, 1000);
}
END_TEST

/* A few rules, the same ones for the same seed. */
static struct grapnel_rules *
random_rules(unsigned *seed, char *text, size_t size)
{
	static const char *const verbs[] = { "allow", "deny" };
	static const char *const actions[] = { "publish", "subscribe", "read", "all" };
	static const char *const heads[] = { "everyone", "user a", "user b", "client c1",
		"anonymous" };
	unsigned lines = 2 + (unsigned)rand_r(seed) % 5;
	size_t n = 0;

	for (unsigned line = 0; line < lines; line++) {
		if (rand_r(seed) % 3 == 0)
			n += (size_t)snprintf(text + n, size - n, "%s\n", heads[rand_r(seed) % 5]);
		n += (size_t)snprintf(text + n, size - n, "%s %s %s\n", verbs[rand_r(seed) % 2],
		    actions[rand_r(seed) % 4], patterns.text[rand_r(seed) % patterns.count]);
	}
	if (rand_r(seed) % 2 == 0)
		n += (size_t)snprintf(text + n, size - n, "everyone\nallow all #\n");
	return compile(text);
}

START_TEST(whenever_covered_is_answered_every_message_may_be_read)
{
	unsigned seed = 20240229, covered = 0;

	enumerate_all();
	for (unsigned round = 0; round < 300; round++) {
		char text[1000] = "";
		struct grapnel_rules *r = random_rules(&seed, text, sizeof(text));

		for (unsigned pick = 0; pick < 12; pick++) {
			struct who who = { .user = users[rand_r(&seed) % USERS] };
			const char *filter = filters.text[rand_r(&seed) % filters.count];
			uint32_t flags = 0;
			enum grapnel_verdict v =
			    ask_full(r, who, S, 0, false, filter, &flags, NULL);

			if (!(flags & GRAPNEL_ACL_COVERED))
				continue;
			ck_assert_int_ne(v, DENY);
			covered++;
			for (unsigned t = 0; t < topics.count; t++) {
				enum grapnel_verdict read;

				if (!reference_matches(filter, topics.text[t]))
					continue;
				read = ask(r, who, R, topics.text[t]);
				ck_assert_msg(v == ALLOW ? read == ALLOW : read != DENY,
				    "%s\nas %s, filter %s, topic %s", text, who.user, filter,
				    topics.text[t]);
			}
		}
		acl_rules_unref(r);
	}
	ck_assert_uint_gt(covered, 300);
}
END_TEST

START_TEST(within_a_scope_every_topic_gets_the_same_answer)
{
	static const enum grapnel_action actions[] = { P, R, W };
	unsigned seed = 20240301, wide = 0;

	enumerate_all();
	for (unsigned round = 0; round < 300; round++) {
		char text[1000] = "", scope[SCOPE_SIZE];
		struct grapnel_rules *r = random_rules(&seed, text, sizeof(text));

		for (unsigned pick = 0; pick < 12; pick++) {
			struct who who = { .user = users[rand_r(&seed) % USERS] };
			enum grapnel_action action = actions[rand_r(&seed) % 3];
			const char *topic = topics.text[rand_r(&seed) % topics.count];
			enum grapnel_verdict v =
			    ask_scope(r, who, action, 0, false, topic, NULL, NULL, scope);

			if (scope[0] == '\0')
				continue;
			ck_assert_int_ne(v, NEXT);
			ck_assert_msg(
			    reference_matches(scope, topic), "%s\n%s, %s", text, scope, topic);
			for (unsigned t = 0; t < topics.count; t++) {
				if (!reference_matches(scope, topics.text[t]))
					continue;
				wide += strcmp(topics.text[t], topic) != 0;
				ck_assert_msg(ask(r, who, action, topics.text[t]) == v,
				    "%s\nas %s, topic %s, scope %s, but topic %s", text, who.user,
				    topic, scope, topics.text[t]);
			}
		}
		acl_rules_unref(r);
	}
	ck_assert_uint_gt(wide, 1000);
}
END_TEST

START_TEST(a_scope_ends_where_another_rule_decides_otherwise)
{
	static const struct {
		const char *rules, *topic, *scope;
	} rows[] = {
		{ "allow publish a/#", "a/b", "a/#" },
		{ "allow publish %u/+/x", "u/b/x", "u/+/x" },
		{ "deny publish a/secret\nallow publish a/#", "a/b", "" },
		{ "deny read a/secret\nallow publish a/#", "a/b", "a/#" },
		{ "deny publish a/secret\nallow publish a/#", "a/secret", "a/secret" },
		{ "allow publish a/b\ndeny publish a/#\nallow publish #", "a/c", "" },
		{ "allow publish a/#\ndeny publish a/b", "a/b", "a/#" },
		{ "allow publish b/#", "a/b", "" },
		{ "allow publish a/x qos<=1\ndeny publish a/+\nallow publish a/#", "a/b", "" },
		{ "allow publish "
		  "0123456789012345678901234567890123456789012345678901234567890123/#",
		    "0123456789012345678901234567890123456789012345678901234567890123/x", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct grapnel_rules *r = compile(rows[i].rules);
		char scope[SCOPE_SIZE];

		(void)ask_scope(
		    r, (struct who)U("u"), P, 0, false, rows[i].topic, NULL, NULL, scope);
		ck_assert_msg(strcmp(scope, rows[i].scope) == 0, "row %zu: got '%s'", i, scope);
		acl_rules_unref(r);
	}
}
END_TEST

/* ---------------------------------------------------------------------------- errors */

static const struct {
	const char *rules, *error;
} bad[] = {
	{ "permit all a", "acl:1: \"permit\" is not known here" },
	{ "\n\nallow", "acl:3: \"allow\" needs publish" },
	{ "allow write a", "acl:1: \"write\" is not known here" },
	{ "allow all", "acl:1: the topic filter is missing" },
	{ "allow all \"\"", "acl:1: the topic filter is empty" },
	{ "allow all a+", "acl:1: \"a+\": '+' must be a whole level" },
	{ "allow all +%u", "acl:1: \"+%u\": '+' must be" },
	{ "allow all %u+", "acl:1: \"%u+\": '+' must be" },
	{ "allow all %u#", "acl:1: \"%u#\": '#' must be" },
	{ "allow all a/#/b", "acl:1: \"a/#/b\": '#' must be the last" },
	{ "allow all #a", "acl:1: \"#a\": '#' must be the last" },
	{ "allow all a/%", "acl:1: a '%' in a topic filter" },
	{ "allow all a/%x", "acl:1: a '%' in a topic filter" },
	{ "allow all %{", "acl:1: \"%{\" needs" },
	{ "allow all %{}", "acl:1: \"%{\" needs" },
	{ "allow all %{a", "acl:1: \"%{\" needs" },
	{ "allow all $share/g/a/#",
	    "acl:1: rules see a shared subscription without \"$share/<name>/\"" },
	{ "allow all a b", "acl:1: \"b\" is not known here; after the topic filter" },
	{ "allow all a qos<=3", "acl:1: \"qos<=3\" must be qos<=0" },
	{ "allow all a qos<1", "acl:1: \"qos<1\" must be qos<=0" },
	{ "allow all a retain=yes", "acl:1: \"retain=yes\" must be retain=no" },
	{ "allow subscribe a retain=no", "acl:1: retain=no is about publishing" },
	{ "allow read a qos<=1", "acl:1: qos<= says nothing about read" },
	{ "deny publish a qos<=1", "acl:1: \"qos<=1\" is a condition of an allow" },
	{ "user", "acl:1: \"user\" needs a user name" },
	{ "user # nobody", "acl:1: \"user\" needs a user name" },
	{ "user \"\"", "acl:1: \"user\" needs a user name" },
	{ "client", "acl:1: \"client\" needs" },
	{ "user a b", "acl:1: \"b\" is too much here" },
	{ "everyone else", "acl:1: \"else\" is too much here" },
	{ "allow all \"a", "acl:1: a '\"' is not closed" },
	{ "allow all \"a\\", "acl:1: a '\\' in quotes" },
	{ "allow all \"a\\n\"", "acl:1: a '\\' in quotes" },
	{ "allow all \"a\"b", "acl:1: a quoted word must be followed" },
	{ "allow all a\"b", "acl:1: a '\"' stands inside a word" },
	{ "allow all \xff", "acl:1: the line is not valid UTF-8" },
	{ "allow all a\nallow all \x01\x02 b", "acl:2: \"b\" is not known here" },
	{ "\x1b[2J", "acl:1: \"?[2J\" is not known" },
};

START_TEST(a_bad_line_is_named_with_its_number)
{
	char error[256] = "";

	ck_assert_ptr_null(
	    acl_rules_compile(str(bad[_i].rules), str("acl"), false, error, sizeof(error)));
	ck_assert_msg(
	    strncmp(error, bad[_i].error, strlen(bad[_i].error)) == 0, "row %d: %s", _i, error);
}
END_TEST

START_TEST(a_nul_in_the_text_is_an_error)
{
	struct grapnel_str text = { "allow all a\0b", 13 };
	char error[64];

	ck_assert_ptr_null(acl_rules_compile(text, str("acl"), false, error, sizeof(error)));
	ck_assert_ptr_null(acl_rules_compile(text, str("acl"), true, error, sizeof(error)));
}
END_TEST

START_TEST(errors_are_cut_to_the_room_there_is)
{
	char error[10];

	for (size_t size = 1; size <= sizeof(error); size++) {
		memset(error, 'x', sizeof(error));
		ck_assert_ptr_null(
		    acl_rules_compile(str("nonsense"), str("source"), false, error, size));
		ck_assert_uint_eq(strlen(error), size - 1);
	}
	ck_assert_ptr_null(acl_rules_compile(str("nonsense"), str("source"), false, NULL, 0));
}
END_TEST

START_TEST(ten_thousand_users_find_their_own_rules)
{
	size_t size = 4u << 20, n = 0;
	char *text = malloc(size), topic[64], user[32];
	struct grapnel_rules *r;

	ck_assert_ptr_nonnull(text);
	for (unsigned i = 0; i < 10000; i++)
		n += (size_t)snprintf(text + n, size - n,
		    "user user%u\nallow publish u/%u/a\nallow publish u/%u/b\ndeny all u/%u/#\n", i,
		    i, i, i);
	r = compile(text);
	for (unsigned i = 0; i < 10000; i += 7) {
		struct who who = { .user = user };

		snprintf(user, sizeof(user), "user%u", i);
		snprintf(topic, sizeof(topic), "u/%u/b", i);
		ck_assert_int_eq(ask(r, who, P, topic), ALLOW);
		snprintf(topic, sizeof(topic), "u/%u/c", i);
		ck_assert_int_eq(ask(r, who, P, topic), DENY);
		snprintf(topic, sizeof(topic), "u/%u/a", i + 1);
		ck_assert_int_eq(ask(r, who, P, topic), NEXT);
	}
	acl_rules_unref(r);
	free(text);
}
END_TEST

START_TEST(two_sets_put_together_are_asked_one_after_the_other)
{
	struct grapnel_rules *first = compile("deny all a/secret\nuser u\nallow publish %u/#\n"),
			     *then = compile("allow all a/#\nuser u\nallow all t/%{tenant}\n"
					     "client c1\nallow all c/#\n"),
			     *both = acl_rules_join(first, then);
	struct who u = { "u", "c1", "blue" }, v = { "v", "c2", "red" };
	struct grapnel_str rule;

	ck_assert_ptr_nonnull(both);
	acl_rules_unref(first); /* it has copies */
	acl_rules_unref(then);
	ck_assert_int_eq(ask(both, u, GRAPNEL_PUBLISH, "a/secret"), GRAPNEL_DENY);
	ck_assert_int_eq(ask(both, u, GRAPNEL_PUBLISH, "a/b"), GRAPNEL_ALLOW);
	ck_assert_int_eq(ask(both, u, GRAPNEL_PUBLISH, "u/x"), GRAPNEL_ALLOW);
	ck_assert_int_eq(ask(both, u, GRAPNEL_PUBLISH, "t/blue"), GRAPNEL_ALLOW);
	ck_assert_int_eq(ask(both, u, GRAPNEL_PUBLISH, "c/x"), GRAPNEL_ALLOW);
	ck_assert_int_eq(ask(both, v, GRAPNEL_PUBLISH, "v/x"), GRAPNEL_NEXT);
	ck_assert_int_eq(ask(both, v, GRAPNEL_PUBLISH, "t/red"), GRAPNEL_NEXT);
	ck_assert_int_eq(ask(both, v, GRAPNEL_PUBLISH, "c/x"), GRAPNEL_NEXT);
	ck_assert_int_eq(
	    ask_full(both, u, GRAPNEL_PUBLISH, 0, false, "u/x", NULL, &rule), GRAPNEL_ALLOW);
	ck_assert_uint_eq(rule.len, strlen("acl:3"));
	ck_assert(memcmp(rule.data, "acl:3", rule.len) == 0);
	acl_rules_unref(both);
}
END_TEST

START_TEST(references_keep_the_rules_alive)
{
	struct grapnel_rules *r = compile("allow all a");

	ck_assert_ptr_eq(acl_rules_ref(r), r);
	acl_rules_unref(r);
	ck_assert_int_eq(ask(r, (struct who)U("u"), P, "a"), ALLOW);
	acl_rules_unref(r);
	acl_rules_unref(NULL);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof(*(table))))

int
main(void)
{
	Suite *s = suite_create("acl");
	TCase *tc = tcase_create("acl");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, rules_answer_as_documented, 0, ROWS(cases));
	tcase_add_test(tc, conditions_that_are_not_met_pass_on_to_the_next_rule);
	tcase_add_test(tc, the_rule_that_decided_is_named);
	tcase_add_test(tc, an_action_of_a_later_abi_is_refused);
	tcase_add_test(tc, an_empty_topic_matches_no_rule);
	tcase_add_loop_test(
	    tc, covered_says_that_no_delivery_can_be_refused, 0, ROWS(covered_cases));
	tcase_add_test(tc, covering_and_intersecting_agree_with_enumeration);
	tcase_add_test(tc, whenever_covered_is_answered_every_message_may_be_read);
	tcase_add_test(tc, within_a_scope_every_topic_gets_the_same_answer);
	tcase_add_test(tc, a_scope_ends_where_another_rule_decides_otherwise);
	tcase_add_loop_test(tc, a_bad_line_is_named_with_its_number, 0, ROWS(bad));
	tcase_add_test(tc, a_nul_in_the_text_is_an_error);
	tcase_add_test(tc, errors_are_cut_to_the_room_there_is);
	tcase_add_test(tc, ten_thousand_users_find_their_own_rules);
	tcase_add_test(tc, two_sets_put_together_are_asked_one_after_the_other);
	tcase_add_test(tc, references_keep_the_rules_alive);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
