/* SPDX-License-Identifier: Apache-2.0 */
/* acl_text - the grammar of Grapnel's rule language; acl.h describes it. */
#include "acl_build.h"
#include "mqtt/wire.h"

#include <stdlib.h>
#include <string.h>

struct words {
	struct acl_builder *b;
	struct grapnel_str rest; /* of the line */
	char *scratch;           /* where quoted words are unescaped: as long as the line */
	struct grapnel_str word;
	bool quoted;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool
word_is(const struct words *w, const char *keyword)
{
	return !w->quoted && w->word.len == strlen(keyword) &&
	    memcmp(w->word.data, keyword, w->word.len) == 0;
}

/* The rest of a "..." word. 1: read; -1: error. */
static int
quoted_word(struct words *w)
{
	const char *p = w->rest.data + 1, *end = w->rest.data + w->rest.len;
	char *out = w->scratch;

	w->word.data = out;
	for (; p < end && *p != '"'; p++) {
		if (*p == '\\') {
			if (++p == end || (*p != '"' && *p != '\\')) {
				(void)acl_fail(
				    w->b, "a '\\' in quotes must be followed by '\"' or '\\'");
				return -1;
			}
		}
		*out++ = *p;
	}
	if (p == end) {
		(void)acl_fail(w->b, "a '\"' is not closed");
		return -1;
	}
	p++;
	if (p < end && !is_blank(*p)) {
		(void)acl_fail(w->b, "a quoted word must be followed by a space");
		return -1;
	}
	w->word.len = (size_t)(out - w->scratch);
	w->scratch = out;
	w->quoted = true;
	w->rest.len = (size_t)(end - p);
	w->rest.data = p;
	return 1;
}

/* 1: the next word is in w->word; 0: the line is at its end; -1: error. */
static int
next_word(struct words *w)
{
	size_t n = 0;

	while (w->rest.len > 0 && is_blank(*w->rest.data)) {
		w->rest.data++;
		w->rest.len--;
	}
	if (w->rest.len == 0)
		return 0;
	if (*w->rest.data == '"')
		return quoted_word(w);
	while (n < w->rest.len && !is_blank(w->rest.data[n])) {
		if (w->rest.data[n] == '"') {
			(void)acl_fail(w->b, "a '\"' stands inside a word; quote the whole word");
			return -1;
		}
		n++;
	}
	w->word = (struct grapnel_str){ w->rest.data, n };
	w->quoted = false;
	w->rest.data += n;
	w->rest.len -= n;
	return 1;
}

/* 1: a word; 0: nothing more than perhaps a comment; -1: error. */
static int
next_word_or_comment(struct words *w)
{
	int got = next_word(w);

	return got == 1 && !w->quoted && w->word.data[0] == '#' ? 0 : got;
}

static bool
end_of_statement(struct words *w)
{
	char shown[ACL_SHOWN];
	int got = next_word_or_comment(w);

	if (got > 0)
		return acl_fail(w->b, "\"%s\" is too much here", acl_shown(shown, w->word));
	return got == 0;
}

/* user NAME, client ID */
static bool
named_header(struct words *w, enum acl_subject_kind kind, uint32_t *subject)
{
	int got = next_word_or_comment(w);

	if (got < 0)
		return false;
	if (got == 0 || w->word.len == 0)
		return acl_fail(w->b,
		    kind == ACL_USER ? "\"user\" needs a user name"
				     : "\"client\" needs a client identifier");
	return acl_build_subject(w->b, kind, w->word, subject) && end_of_statement(w);
}

/* qos<=N, retain=no: conditions that narrow an allow. */
static bool
condition(struct words *w, struct acl_rule *rule, bool read_only)
{
	char shown[ACL_SHOWN];
	bool qos = w->word.len >= 3 && memcmp(w->word.data, "qos", 3) == 0 && !w->quoted;
	bool retain = w->word.len >= 6 && memcmp(w->word.data, "retain", 6) == 0 && !w->quoted;

	if (!qos && !retain)
		return acl_fail(w->b,
		    "\"%s\" is not known here; after the topic filter can stand "
		    "qos<=0, qos<=1 and retain=no (quote a topic filter with spaces)",
		    acl_shown(shown, w->word));
	if (rule->deny)
		return acl_fail(w->b, "\"%s\" is a condition of an allow; a deny has none",
		    acl_shown(shown, w->word));
	if (qos) {
		if (w->word.len != 6 || memcmp(w->word.data, "qos<=", 5) != 0 ||
		    w->word.data[5] < '0' || w->word.data[5] > '2')
			return acl_fail(w->b, "\"%s\" must be qos<=0, qos<=1 or qos<=2",
			    acl_shown(shown, w->word));
		if (read_only)
			return acl_fail(w->b,
			    "qos<= says nothing about read; use it with "
			    "publish, subscribe or all");
		rule->max_qos = (uint8_t)(w->word.data[5] - '0');
		return true;
	}
	if (!word_is(w, "retain=no"))
		return acl_fail(w->b, "\"%s\" must be retain=no", acl_shown(shown, w->word));
	if (!(rule->actions & ACL_PUBLISH))
		return acl_fail(w->b, "retain=no is about publishing; use it with publish or all");
	rule->no_retain = true;
	return true;
}

/* publish | subscribe | read | all, and the rest of the rule. */
static bool
rule_statement(struct words *w, bool deny, uint32_t subject)
{
	static const struct {
		const char *name;
		uint8_t actions;
	} actions[] = {
		{ "all", ACL_PUBLISH | ACL_SUBSCRIBE | ACL_READ },
		{ "publish", ACL_PUBLISH },
		{ "read", ACL_READ },
		{ "subscribe", ACL_SUBSCRIBE | ACL_READ },
	};
	struct acl_rule rule = { .subject = subject, .deny = deny, .max_qos = 2 };
	struct grapnel_str filter;
	char shown[ACL_SHOWN];
	int got = next_word(w);

	if (got < 0)
		return false;
	for (size_t i = 0; got == 1 && i < sizeof(actions) / sizeof(*actions); i++)
		if (word_is(w, actions[i].name))
			rule.actions = actions[i].actions;
	if (got == 0)
		return acl_fail(w->b,
		    "\"%s\" needs publish, subscribe, read or all, and a topic filter",
		    deny ? "deny" : "allow");
	if (rule.actions == 0)
		return acl_fail(w->b,
		    "\"%s\" is not known here; it must be publish, subscribe, read or all",
		    acl_shown(shown, w->word));
	if ((got = next_word(w)) < 0)
		return false;
	if (got == 0)
		return acl_fail(w->b, "the topic filter is missing");
	filter = w->word;
	while ((got = next_word_or_comment(w)) == 1)
		if (!condition(w, &rule, rule.actions == ACL_READ))
			return false;
	return got == 0 && acl_build_rule(w->b, rule, filter, ACL_SUBST_GRAPNEL);
}

static bool
statement(struct words *w, uint32_t *subject)
{
	char shown[ACL_SHOWN];
	int got = next_word_or_comment(w);

	if (got <= 0)
		return got == 0;
	if (word_is(w, "allow") || word_is(w, "deny"))
		return rule_statement(w, word_is(w, "deny"), *subject);
	if (word_is(w, "user"))
		return named_header(w, ACL_USER, subject);
	if (word_is(w, "client"))
		return named_header(w, ACL_CLIENT, subject);
	if (word_is(w, "everyone") || word_is(w, "anonymous"))
		return acl_build_subject(w->b,
			   word_is(w, "everyone") ? ACL_EVERYONE : ACL_ANONYMOUS, w->word,
			   subject) &&
		    end_of_statement(w);
	return acl_fail(w->b,
	    "\"%s\" is not known here; a line begins with allow, deny, user, client, "
	    "anonymous, everyone or #",
	    acl_shown(shown, w->word));
}

bool
acl_parse_grapnel(struct acl_builder *b, struct grapnel_str text)
{
	uint32_t subject = ACL_SUBJECT_EVERYONE;
	struct grapnel_str line;
	size_t size = 0;
	char *scratch = NULL;
	bool good = true;

	while (good && acl_next_line(b, &text, &line)) {
		struct words w = { .b = b, .rest = line };

		if (line.len > size) {
			char *p = realloc(scratch, line.len * 2);

			if (p == NULL) {
				good = acl_fail(b, "out of memory");
				break;
			}
			scratch = p;
			size = line.len * 2;
		}
		w.scratch = scratch;
		if (!utf8_valid(line.data, line.len))
			good = acl_fail(b, "the line is not valid UTF-8, or has a NUL in it");
		else
			good = statement(&w, &subject);
	}
	free(scratch);
	return good;
}
