/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl_mosquitto - Mosquitto's acl_file, with the meaning it has there
 *
 * The order of evaluation becomes ranks: a user's own lines before the patterns, in each deny
 * before allow. tests/unit/test_acl_mosquitto.c has what was measured against Mosquitto 2.0.
 */
#include "acl_build.h"
#include "mqtt/wire.h"

#include <string.h>

enum rank { RANK_TOPIC_DENY, RANK_TOPIC, RANK_PATTERN_DENY, RANK_PATTERN };

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct grapnel_str
trim(struct grapnel_str s)
{
	while (s.len > 0 && is_space(s.data[0])) {
		s.data++;
		s.len--;
	}
	while (s.len > 0 && is_space(s.data[s.len - 1]))
		s.len--;
	return s;
}

/* Words end at spaces only, as with Mosquitto's strtok(" "). */
static struct grapnel_str
take_word(struct grapnel_str *rest)
{
	struct grapnel_str word;
	const char *end;

	while (rest->len > 0 && rest->data[0] == ' ') {
		rest->data++;
		rest->len--;
	}
	end = rest->len > 0 ? memchr(rest->data, ' ', rest->len) : NULL;
	word.data = rest->data;
	word.len = end != NULL ? (size_t)(end - rest->data) : rest->len;
	rest->data += word.len;
	rest->len -= word.len;
	return word;
}

static bool
is(struct grapnel_str word, const char *keyword)
{
	return word.len == strlen(keyword) && memcmp(word.data, keyword, word.len) == 0;
}

/* topic|pattern [read|write|readwrite|deny] FILTER; without an access the filter is one word. */
static bool
topic_line(struct acl_builder *b, struct grapnel_str rest, bool pattern, uint32_t subject)
{
	struct acl_rule rule = { .max_qos = 2, .actions = ACL_PUBLISH | ACL_READ };
	struct grapnel_str access = take_word(&rest), filter = trim(rest);
	char shown[ACL_SHOWN];

	if (filter.len == 0) {
		filter = access;
		if (filter.len == 0)
			return acl_fail(b, "the topic is missing");
	} else if (is(access, "read")) {
		rule.actions = ACL_READ;
	} else if (is(access, "write")) {
		rule.actions = ACL_PUBLISH;
	} else if (is(access, "deny")) {
		rule.deny = true;
	} else if (!is(access, "readwrite")) {
		return acl_fail(b,
		    "\"%s\" must be read, write, readwrite or deny; a topic with spaces "
		    "needs one of them before it",
		    acl_shown(shown, access));
	}
	if (pattern)
		rule.rank = rule.deny ? RANK_PATTERN_DENY : RANK_PATTERN;
	else
		rule.rank = rule.deny ? RANK_TOPIC_DENY : RANK_TOPIC;
	rule.subject = pattern ? ACL_SUBJECT_EVERYONE : subject;
	return acl_build_rule(b, rule, filter, pattern ? ACL_SUBST_MOSQUITTO : ACL_SUBST_NONE);
}

static bool
acl_line(struct acl_builder *b, struct grapnel_str rest, uint32_t *subject)
{
	struct grapnel_str word = take_word(&rest);
	char shown[ACL_SHOWN];

	if (is(word, "topic") || is(word, "pattern"))
		return topic_line(b, rest, is(word, "pattern"), *subject);
	if (is(word, "user")) {
		rest = trim(rest);
		if (rest.len == 0)
			return acl_fail(b, "\"user\" needs a user name");
		return acl_build_subject(b, ACL_USER, rest, subject);
	}
	return acl_fail(b, "\"%s\" is not known here; a line begins with topic, pattern, user or #",
	    acl_shown(shown, word));
}

bool
acl_parse_mosquitto(struct acl_builder *b, struct grapnel_str text)
{
	uint32_t subject = ACL_SUBJECT_ANONYMOUS;
	struct grapnel_str line;

	while (acl_next_line(b, &text, &line)) {
		if (!utf8_valid(line.data, line.len))
			return acl_fail(b, "the line is not valid UTF-8, or has a NUL in it");
		while (line.len > 0 && is_space(line.data[line.len - 1]))
			line.len--;
		if (trim(line).len == 0 || line.data[0] == '#')
			continue;
		if (!acl_line(b, line, &subject))
			return false;
	}
	return true;
}
