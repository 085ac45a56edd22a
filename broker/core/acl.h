/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl - the rule language for rights: text in, verdicts out
 *
 * A rule set is compiled once from text and never changes; it is what `struct grapnel_rules` of
 * the SDK is. Two languages are read: Grapnel's own and Mosquitto's acl_file.
 *
 * Grapnel's language, one statement a line ('#' begins a comment, "..." quotes a word with spaces,
 * with \" and \\ in it):
 *
 *	everyone			whom the rules below are for, until the next such line:
 *	user alice			  everyone (at the start of the text), clients with that user
 *	client pump-7			  name, with that Client Identifier, or without a user name
 *	anonymous
 *	allow|deny publish|subscribe|read|all FILTER [qos<=N] [retain=no]
 *
 *   FILTER is a Topic Filter in which %u is the user name, %c the Client Identifier, %{name} an
 *   attribute and %% a percent sign. A value is literal text: its '/' stand for themselves, and
 *   one that contains '+' or '#' matches nothing at all, like an absent one. A filter that begins
 *   with a wildcard does not match topics that begin with '$' [MQTT-4.7.2-1]; nor does an allow
 *   that begins with a value (a client chooses its own Client Identifier).
 *
 *   The first rule in the order of the text that applies to the client and matches decides.
 *	publish		the rule's filter matches the Topic Name; a Will Message is asked likewise
 *	subscribe	the rule's filter covers the requested one. A deny that only overlaps it does
 *			not refuse the SUBSCRIBE, it takes messages out at delivery
 *	read		delivery of a message. `subscribe` rules speak about it too: what may be
 *			subscribed may be read, what may not be subscribed may not be read through
 *			a wider filter; a `read` rule is about delivery only
 *	all		the three of them
 *   qos<=N (publish, subscribe, all) and retain=no (publish, all) are conditions of an allow: a
 *   PUBLISH with a higher QoS or with RETAIN, a SUBSCRIBE that asks for a higher QoS, is not
 *   matched and the next rule is looked at. They say nothing about delivery.
 *
 * Mosquitto's acl_file keeps its meaning (measured with 2.0): `topic` before the first `user`
 * is for clients without a user name, `pattern` for everyone, deny before allow, the user's own
 * lines before the patterns; SUBSCRIBE is always granted and `read` is asked at delivery; patterns
 * are closed to a client whose user name or Client Identifier contains '+' or '#'. One
 * difference, on the safe side: a pattern that begins with %u or %c grants no $-topic.
 *
 * Threads:   acl_rules_check on any thread; the count is atomic, all else is immutable.
 * Ownership: acl_rules_ref/acl_rules_unref; strings handed out live as long as the rules.
 * Bounded:   by the text (at most ACL_TEXT_MAX bytes); a check costs the rules that apply to the
 *            client, whatever others exist, without allocation or recursion.
 */
#ifndef BROKER_CORE_ACL_H
#define BROKER_CORE_ACL_H

#include <grapnel/host.h>

#define ACL_TEXT_MAX (512u << 20)

/*
 * Compile a text. An empty or blank one is a set in which nothing matches, not the absence of rules.
 * NULL: error (NUL-terminated, cut to error_size, may be NULL when that is 0) says
 * "source:line: what is wrong".
 */
struct grapnel_rules *acl_rules_compile(struct grapnel_str text, struct grapnel_str source,
    bool mosquitto, char *error, size_t error_size);
/* Both, first's rules before then's. NULL: no memory, or one of them is an acl_file of Mosquitto's, which ends itself. */
struct grapnel_rules *acl_rules_join(const struct grapnel_rules *first, const struct grapnel_rules *then);
struct grapnel_rules *acl_rules_ref(struct grapnel_rules *rules);
void acl_rules_unref(struct grapnel_rules *rules); /* NULL is fine */

/*
 * ALLOW, DENY, or NEXT when no rule matched. *flags (may be NULL) gets, for SUBSCRIBE,
 * GRAPNEL_ACL_COVERED when these rules refuse READ for no message that the filter can match: with
 * ALLOW they certainly allow all of them, with NEXT they certainly deny none. *rule (may be NULL)
 * gets "source:line" of the rule that decided, .data NULL when none did.
 */
enum grapnel_verdict acl_rules_check(const struct grapnel_rules *rules,
    const struct grapnel_rules_question *question, uint32_t *flags, struct grapnel_str *rule);
/*
 * After acl_rules_check decided a PUBLISH or READ question by a rule: the Topic Filter of Topic Names that it decides
 * alike. @return its length; 0: none wider than the name, or longer than `capacity`.
 */
size_t acl_rules_scope(const struct grapnel_rules *rules,
    const struct grapnel_rules_question *question, char *filter, size_t capacity);

#endif
