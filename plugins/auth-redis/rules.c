/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is under a key with rules. Sets and hashes have no order, and the first rule that matches decides: what is denied
 * there goes before what is allowed.
 */
#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The next word of a text; .len 0: there is none. */
static struct grapnel_str
next_word(struct grapnel_str *text)
{
	struct grapnel_str word;

	while (text->len > 0 && (*text->data == ' ' || *text->data == '\t')) {
		text->data++;
		text->len--;
	}
	word = (struct grapnel_str){ text->data, 0 };
	while (text->len > 0 && *text->data != ' ' && *text->data != '\t') {
		text->data++;
		text->len--;
		word.len++;
	}
	return word;
}

static bool
is(struct grapnel_str word, const char *text)
{
	return word.len == strlen(text) && strncasecmp(word.data, text, word.len) == 0;
}

static bool
wrong(struct grant *g, const char *what)
{
	snprintf(g->error, sizeof(g->error), "%s", what);
	return false;
}

/* A member of a set is a whole rule: headers ("user alice") would be for whatever comes behind them. */
static bool
take_member(struct grant *g, struct grapnel_str member, bool denied, unsigned *rules)
{
	struct grapnel_str rest = member, word = next_word(&rest);
	bool is_deny = is(word, "deny");

	if (!is_deny && !is(word, "allow"))
		return wrong(g, "a member of a set of rules begins with neither allow nor deny");
	if (memchr(member.data, '\n', member.len) != NULL)
		return wrong(g, "a member of a set of rules has more than one line");
	if (is_deny != denied)
		return true;
	++*rules;
	return grant_add_rules(g, member);
}

static bool
take_set(struct grant *g, const redisReply *reply, unsigned *rules)
{
	for (int denied = 1; denied >= 0; denied--)
		for (size_t i = 0; i < reply->elements; i++)
			if (!take_member(g, reply_text(reply->element[i]), denied, rules))
				return false;
	return true;
}

/* Lines of one text: it has an order, and headers stand for what comes behind them. */
static bool
take_list(struct grant *g, const redisReply *reply, unsigned *rules)
{
	size_t size = 0;
	char *text, *end;
	bool good;

	for (size_t i = 0; i < reply->elements; i++, ++*rules)
		size += reply->element[i]->len + 1;
	if (size == 0)
		return true;
	if ((text = end = malloc(size)) == NULL)
		return wrong(g, "out of memory");
	for (size_t i = 0; i < reply->elements; i++) {
		end = mempcpy(end, reply->element[i]->str, reply->element[i]->len);
		*end++ = '\n';
	}
	good = grant_add_rules(g, (struct grapnel_str){ text, size - 1 });
	free(text);
	return good;
}

static bool
take_filters(struct grant *g, struct grapnel_str access, const redisReply *reply, unsigned *rules)
{
	for (size_t i = 0; i < reply->elements; i++, ++*rules) {
		struct grant_rule rule = { .action = access,
			.topic = reply_text(reply->element[i]) };

		if (!grant_add_rule(g, &rule))
			return false;
	}
	return true;
}

/* "publish", "deny read", "2". */
static bool
take_field(struct grant *g, const redisReply *filter, const redisReply *value, bool denied,
    unsigned *rules)
{
	struct grapnel_str rest = reply_text(value), word = next_word(&rest);
	struct grant_rule rule = { .topic = reply_text(filter) };
	bool is_deny = is(word, "deny");

	if (is_deny || is(word, "allow")) {
		rule.permission = word;
		word = next_word(&rest);
	}
	if (next_word(&rest).len > 0)
		return wrong(g, "the value of a hash of rules has more words than [deny] ACCESS");
	if (word.len > 0 && *word.data >= '0' && *word.data <= '9') {
		rule.access = word;
		is_deny = is_deny || is(word, "0");
	} else if (word.len > 0) {
		rule.action = word;
	} else if (!is_deny) {
		return wrong(g, "a value of a hash of rules is empty");
	}
	if (is_deny != denied)
		return true;
	++*rules;
	return grant_add_rule(g, &rule);
}

static bool
take_hash(struct grant *g, const redisReply *reply, unsigned *rules)
{
	if (reply->elements % 2 != 0)
		return wrong(g, "a hash with a field that has no value");
	for (int denied = 1; denied >= 0; denied--)
		for (size_t i = 0; i < reply->elements; i += 2)
			if (!take_field(g, reply->element[i], reply->element[i + 1], denied, rules))
				return false;
	return true;
}

bool
rules_take(
    struct grant *g, const struct acl_source *source, const redisReply *reply, unsigned *rules)
{
	if (source->layout == ACL_STRING) {
		if (reply->type == REDIS_REPLY_NIL)
			return true;
		if (reply->type != REDIS_REPLY_STRING)
			return wrong(g, "an answer that is no text");
		++*rules;
		return grant_add_rules(g, reply_text(reply));
	}
	if (!reply_is_texts(reply))
		return wrong(g, "an answer that is no list of texts");
	if (source->access.data != NULL)
		return take_filters(g, source->access, reply, rules);
	switch (source->layout) {
	case ACL_SET:
		return take_set(g, reply, rules);
	case ACL_LIST:
		return take_list(g, reply, rules);
	case ACL_HASH:
		return take_hash(g, reply, rules);
	case ACL_STRING:
		break;
	}
	return false;
}
