/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grant - from what a backend says about a user to an answer of client_authenticate
 *
 * SQL columns, hash fields, claims, directory attributes and JSON members are all pairs of name and text; here is the one
 * place that knows what they mean:
 *
 *	username, mountpoint		replace the client's
 *	superuser			t, true, yes, y, 1 or on; anything else is no
 *	valid_until			seconds since 1970 (0: no end), "YYYY-MM-DD[ T]HH:MM:SS[.fff][Z|+00[[:]00]]" (UTC when no zone
 *					is named), or "infinity"
 *	max_queued_messages, max_queued_bytes, max_inflight, max_packet_size, max_session_expiry, max_qos, message_rate,
 *	byte_rate			limits: plain numbers
 *	acl				ACL rules, one a line, grapnel.conf(5)
 *	cache_ttl			seconds; 0: not to be kept
 *	password			an error: it must not become an attribute by mistake; a plugin looks at it itself
 *	anything else			a client attribute of that name, when it is one: a-z 0-9 _ - and no dot; others are
 *					an error. One that comes twice has the last value
 *
 * Texts are UTF-8 without NUL, at most 65535 bytes; user name and mountpoint have no control characters.
 *
 * Threads:   one thread at a time.
 * Ownership: a grant copies all it is given; grant_answer borrows from it until grant_fini.
 * Bounded:   GRANT_MAX_ATTRIBUTES, GRANT_MAX_BYTES.
 */
#ifndef PLUGINS_COMMON_GRANT_H
#define PLUGINS_COMMON_GRANT_H

#include <grapnel/plugin.h>

#define GRANT_MAX_ATTRIBUTES 32u
#define GRANT_MAX_BYTES	     (1u << 20) /* of values and rules together */
#define GRANT_MAX_NAME	     64u
#define GRANT_MAX_RULES	     10000u

struct grant_text {
	bool given;
	size_t at, len; /* in grant.text */
};

struct grant {
	const struct grapnel_host *host;
	struct grapnel_auth_answer answer;
	struct grapnel_client_limits limits;
	struct grapnel_pair attributes[GRANT_MAX_ATTRIBUTES]; /* filled by grant_answer, from: */
	struct grant_text names[GRANT_MAX_ATTRIBUTES], values[GRANT_MAX_ATTRIBUTES], username, mountpoint;
	char *text; /* all strings */
	size_t text_len, text_capacity;
	char *rules; /* text of rules so far */
	size_t rules_len, rules_capacity;
	unsigned rules_count;
	bool has_limits, has_rules;
	bool foreign_rules; /* the last of `rules` were ready-made and may have ended under a "user" line */
	/* What was wrong with the first thing that was; "" when nothing. Never holds a value, but for a word of a rule that
	 * does not compile, escaped. */
	char error[256];
};

void grant_init(struct grant *g, const struct grapnel_host *host);
void grant_fini(struct grant *g);

/*
 * One pair. value .data NULL (SQL NULL): nothing happens. @return true; false: not usable, g->error says why, and the whole
 * answer of the backend must not be used (UNAVAILABLE, logged).
 */
bool grant_set(struct grant *g, struct grapnel_str name, struct grapnel_str value);
/* For backends that keep these apart: a client attribute, whatever its name means above; a limit, and nothing else. */
bool grant_set_attribute(struct grant *g, struct grapnel_str name, struct grapnel_str value);
bool grant_set_limit(struct grant *g, struct grapnel_str name, struct grapnel_str value);

/*
 * One rule as a row, by column: permission "allow" | "deny" (default allow); action "publish" | "subscribe" | "read" | "all"
 * (default all); topic; qos, retain: NULL or the most that is allowed (of an allow; a deny has no such conditions, and
 * `qos` and `retain` there must be NULL or the highest). Or `access` as mosquitto-go-auth has it, instead of action: 1 read,
 * 2 publish, 3 both, 4 subscribe, and sums of these bits, each as its own rules; 0 is no access: a deny of all. Subscribing
 * includes reading, as in the rule language. Topics may hold %u, %c and %{attribute}. Words in any case. Members with .data
 * NULL are absent. A rule for everyone, whatever ready-made ones came before.
 */
struct grant_rule {
	struct grapnel_str permission, action, access, topic, qos, retain;
};
bool grant_add_rule(struct grant *g, const struct grant_rule *rule); /* false: as above */
/* Ready-made rules, one a line. */
bool grant_add_rules(struct grant *g, struct grapnel_str text);
/* There is a source of rules, even if it had none: the session gets rules, that allow nothing. */
void grant_want_rules(struct grant *g);
/* Rules alone, for an answer to acl_check; NULL with g->error. One reference, the caller's. source: a name for rules in log
 * and explain, such as "auth-postgres" (the instance's). */
struct grapnel_rules *grant_compile(struct grant *g, struct grapnel_str source);

/* For auth_answer and auth_resolve; NULL with g->error: rules that do not compile, no memory, an error before. Call once. */
const struct grapnel_auth_answer *grant_answer(struct grant *g, struct grapnel_str source);

/*
 * The client as it will be with what is known so far (user name, mountpoint, attributes), for the next question to a backend.
 * @param pairs  Room for GRANT_MAX_ATTRIBUTES + client->attribute_count. Borrowed from g and client until g is given more.
 */
struct grapnel_client_info grant_client(const struct grant *g, const struct grapnel_client_info *client,
    struct grapnel_pair *pairs);

/* For rules from rows and the like: first match, and DENY with answer->rule = otherwise when none does. answer->rule lives as long as
 * the rules. */
enum grapnel_verdict grant_check(const struct grapnel_host *host, const struct grapnel_rules *rules, const struct grapnel_acl_check *q,
    struct grapnel_acl_answer *answer, struct grapnel_str otherwise);

/* Goes with UNAVAILABLE when what the backend says of one user cannot be used: that is no trouble of the backend's. */
extern const struct grapnel_auth_answer grant_unusable;

/* "t", "true", "yes", "y", "1", "on" in any case. */
bool grant_is_true(struct grapnel_str value);

#endif
