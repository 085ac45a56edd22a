/* SPDX-License-Identifier: Apache-2.0 */
/* Steps that ask a hook. */
#include "core/acl.h"
#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include "script.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROPERTIES_MAX 32u

/* ---- words ---------------------------------------------------------------------------------------------- */

/* "as NAME": its words are used up. */
static const char *
name_given(struct step *s)
{
	for (unsigned i = 1; i + 1 < s->count; i++) {
		if (!s->used[i] && word_is(&s->words[i], "as")) {
			s->used[i] = s->used[i + 1] = true;
			return s->words[i + 1].text;
		}
	}
	return NULL;
}

struct sim_client *
client_word(struct step *s, unsigned i)
{
	struct sim_client *c = client_find_name(s->h, s->words[i].text);

	s->used[i] = true;
	if (c == NULL) {
		broken(s, "there is no client \"%s\"; write \"client %s\" first", s->words[i].text,
		    s->words[i].text);
		return NULL;
	}
	for (struct asked *a = s->h->asks; a != NULL; a = a->next)
		ask_settle(a);
	return c;
}

/* property.NAME=value, in the order they stand, encoded. Heap; NULL: out of memory. */
static uint8_t *
properties_read(struct step *s, size_t *len, uint32_t *expiry, bool *has_expiry)
{
	/* Where the broker has taken the Message Expiry Interval out of the block: grapnel/hooks.h, grapnel_message_info. */
	bool taken = has_expiry != NULL && !word_is(&s->words[0], "publish") &&
	    !word_is(&s->words[0], "acl");
	struct grapnel_property list[PROPERTIES_MAX];
	size_t n = 0;
	uint8_t *out;
	char error[256];

	for (unsigned i = 1; i < s->count && n < PROPERTIES_MAX; i++) {
		struct word *w = &s->words[i];
		size_t key = word_key(w);
		struct grapnel_property *p = &list[n];
		struct grapnel_str value;
		char name[128];

		if (key <= 9 || key - 9 >= sizeof(name) || strncmp(w->text, "property.", 9) != 0)
			continue;
		s->used[i] = true;
		if (!word_value(w, key + 1, &value, error, sizeof(error))) {
			failure(s->h, "%.*s: %s", (int)key, w->text, error);
			continue;
		}
		memcpy(name, w->text + 9, key - 9);
		name[key - 9] = '\0';
		*p = (struct grapnel_property){ .id = property_id(name) };
		if (p->id == 0) {
			p->id = PROP_USER_PROPERTY;
			p->u.pair.name = (struct grapnel_str){ w->text + 9, key - 9 };
			p->u.pair.value = value;
		} else if (p->id == PROP_MESSAGE_EXPIRY || p->id == PROP_PAYLOAD_FORMAT) {
			p->u.number = (uint32_t)strtoul(value.data, NULL, 0);
		} else {
			p->u.str = value;
		}
		if (p->id == PROP_MESSAGE_EXPIRY && has_expiry != NULL) {
			*has_expiry = true;
			*expiry = p->u.number;
		}
		n += !(taken && p->id == PROP_MESSAGE_EXPIRY);
	}
	*len = mqtt_properties_size(list, n);
	out = malloc(*len + 1);
	if (out != NULL)
		mqtt_properties_put(out, list, n);
	return out;
}

/* payload=, qos=, retain=, dup=, property.…, author=, author_username=. */
enum outcome
message_read(struct step *s, struct message_words *m, struct grapnel_str topic,
    const struct sim_client *author)
{
	struct grapnel_message_info *i = &m->info;
	enum outcome bad = STEP_OK;
	uint64_t n;

	*m = (struct message_words){ .info = { .size = sizeof(*i) } };
	i->topic_name = topic;
	i->payload = GRAPNEL_STR("");
	(void)arg_get(s, "payload", &i->payload);
	if (arg_number(s, "qos", 2, &n, &bad))
		i->qos = (uint8_t)n;
	(void)arg_yes(s, "retain", &i->retain);
	(void)arg_yes(s, "dup", &i->dup);
	if (author != NULL) {
		i->author_client_id = author->info.client_id;
		i->author_username = author->info.username;
	}
	(void)arg_get(s, "author", &i->author_client_id);
	(void)arg_get(s, "author_username", &i->author_username);
	m->properties =
	    properties_read(s, &i->properties.len, &i->message_expiry, &i->has_message_expiry);
	i->properties.data = (const char *)m->properties;
	return m->properties != NULL ? bad : broken(s, "out of memory");
}

/* ---- asking ----------------------------------------------------------------------------------------------- */

void
ask_settle(struct asked *a)
{
	/* A login that says no more than yes leaves nothing of the one before; a client that is looked at again keeps all. */
	static const struct grapnel_auth_answer plain = { .size = sizeof(plain) };
	const struct grapnel_auth_answer *answer = a->hook == HOOK_REVALIDATE ? NULL : &plain;

	if (a->applied || !ask_decided(a->h, a))
		return;
	a->applied = true;
	if (a->client == NULL || a->verdict != GRAPNEL_ALLOW || answer_kind(a->hook) != ANSWER_AUTH)
		return;
	if (a->answer != NULL)
		answer = &a->answer->u.auth;
	if (answer != NULL && !answer->more)
		client_login(a->client, answer, a->hook == HOOK_REVALIDATE);
}

/* Every word is understood, or the step is mistyped. */
enum outcome
words_done(struct step *s)
{
	const struct word *w = arg_unused(s, 1);

	return w == NULL ? STEP_OK : broken(s, "\"%s\" is not understood here", w->text);
}

static enum outcome
asked_judge(struct step *s, struct asked *a, const char *name)
{
	bool pending = s->expected_count > 0 && word_is(&s->expected[0], "pending");

	if (a == NULL)
		return broken(s, "it could not be asked");
	if (name != NULL)
		a->name = strdup(name);
	else if (!pending && !ask_decided(s->h, a) &&
	    !wait_until(s->h, s->h->patience_ms, ask_decided, a))
		return failed(s, "not answered after %u ms", s->h->patience_ms);
	ask_settle(a);
	if (s->expected == NULL)
		return STEP_OK;
	return answer_holds(s, a, s->expected, s->expected_count) ? STEP_OK : STEP_FAILED;
}

static enum outcome
ask_step(struct step *s, struct sim_client *c, enum hook hook, const void *question)
{
	const char *name = name_given(s);
	uint64_t worker = c != NULL ? c->worker : 0;
	enum outcome bad = STEP_OK;

	if (c == NULL)
		(void)arg_number(s, "worker", s->h->worker_count - 1, &worker, &bad);
	if (bad != STEP_OK || words_done(s) != STEP_OK)
		return STEP_BROKEN;
	if (s->h->running == NULL)
		return broken(s, "the plugin does not run; write \"start\" first");
	if (!plug_has(s->h->running, hook))
		return broken(s, "the plugin has no %s (or create() disabled it)", hook_name(hook));
	return asked_judge(s, ask_hook(s->h, c, hook, (unsigned)worker, question), name);
}

static enum outcome
do_authenticate(struct step *s)
{
	struct sim_client *c = client_word(s, 1);
	struct grapnel_authenticate q = { .size = sizeof(q) };
	struct grapnel_message_info will = { .size = sizeof(will), .will = true };
	enum outcome outcome = STEP_OK;
	uint8_t *properties;
	uint64_t n;

	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	(void)arg_get(s, "password", &q.password);
	if (arg_get(s, "will.topic", &will.topic_name)) {
		will.payload = GRAPNEL_STR("");
		(void)arg_get(s, "will.payload", &will.payload);
		(void)arg_yes(s, "will.retain", &will.retain);
		if (arg_number(s, "will.qos", 2, &n, &outcome))
			will.qos = (uint8_t)n;
		q.will = &will;
	}
	if ((properties = properties_read(s, &q.properties.len, NULL, NULL)) == NULL)
		return broken(s, "out of memory");
	q.properties.data = (const char *)properties;
	if (outcome == STEP_OK)
		outcome = ask_step(s, c, HOOK_AUTHENTICATE, &q);
	free(properties);
	return outcome;
}

static enum outcome
do_exchange(struct step *s)
{
	static const char *const phases[] = { "", "connect", "continue", "reauth" };
	struct sim_client *c = client_word(s, 1);
	struct grapnel_auth_exchange q = {
		.size = sizeof(q), .phase = GRAPNEL_EXCHANGE_CONNECT, .properties = GRAPNEL_STR("")
	};
	struct grapnel_str phase;

	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	if (!arg_get(s, "method", &q.method))
		return broken(s, "usage: exchange CLIENT method=…");
	(void)arg_get(s, "data", &q.data);
	(void)arg_get(s, "password", &q.password);
	if (arg_get(s, "phase", &phase)) {
		q.phase = 0;
		for (unsigned i = 1; i < 4; i++) {
			if (strcmp(phase.data, phases[i]) == 0)
				q.phase = (enum grapnel_exchange_phase)i;
		}
		if (q.phase == 0)
			return broken(s, "phase is connect, continue or reauth");
	}
	return ask_step(s, c, HOOK_AUTH_EXCHANGE, &q);
}

static enum outcome
do_revalidate(struct step *s)
{
	struct sim_client *c = client_word(s, 1);
	struct grapnel_revalidate q = { .size = sizeof(q) };

	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	return ask_step(s, c, HOOK_REVALIDATE, &q);
}

/* ---- rights: the rules of the login first, as in the broker ------------------------------------------------- */

static struct asked *
asked_without(struct step *s, struct sim_client *c, int verdict)
{
	struct asked *a = ask_new(s->h, c, HOOK_ACL, c->worker);

	if (a != NULL) {
		a->verdict = verdict;
		a->at_once = true;
	}
	return a;
}

/* NULL: the plugin is to be asked. */
static struct asked *
rights_known(struct step *s, struct sim_client *c, const struct grapnel_acl_check *q)
{
	struct grapnel_rules_question rq = { .size = sizeof(rq),
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.client_id = c->info.client_id,
		.username = c->info.username,
		.attributes = c->info.attributes,
		.attribute_count = c->info.attribute_count };
	struct grapnel_str rule = { NULL, 0 };
	enum grapnel_verdict verdict;
	uint32_t flags = 0;
	struct asked *a;

	if (c->info.superuser) {
		a = asked_without(s, c, GRAPNEL_ALLOW);
		if (a != NULL)
			a->superuser = true;
		return a;
	}
	if (c->rules == NULL)
		return NULL;
	verdict = acl_rules_check(c->rules, &rq, &flags, &rule);
	if (verdict == GRAPNEL_NEXT && plug_has(s->h->running, HOOK_ACL))
		return NULL;
	if ((a = asked_without(s, c, (int)verdict)) == NULL)
		return NULL;
	a->by_rules = true;
	a->rule_flags = flags;
	a->rule = copy_text(rule.data, rule.len);
	return a;
}

static enum outcome
do_acl(struct step *s)
{
	static const char *const actions[] = { "", "publish", "subscribe", "read", "will" };
	struct grapnel_acl_check q = { .size = sizeof(q) };
	struct sim_client *c = client_word(s, 2);
	struct grapnel_str rest;
	struct message_words m;
	enum outcome outcome;
	struct asked *known;

	s->used[1] = s->used[3] = true;
	for (unsigned i = 1; i < 5; i++) {
		if (word_is(&s->words[1], actions[i]))
			q.action = (enum grapnel_action)i;
	}
	if (c == NULL || q.action == 0)
		return c == NULL ? STEP_BROKEN : broken(s, "publish, subscribe, read or will");
	q.client = &c->info;
	q.topic = word_str(&s->words[3]);
	outcome = message_read(s, &m, q.topic, c);
	m.info.will = q.action == GRAPNEL_WILL;
	q.qos = m.info.qos;
	q.retain = m.info.retain;
	if (q.action != GRAPNEL_SUBSCRIBE)
		q.message = &m.info;
	else if (topic_filter_valid(q.topic, &q.share, &rest))
		q.topic = rest;
	else
		outcome = broken(s, "\"%s\" is no Topic Filter", s->words[3].text);
	if (outcome == STEP_OK && q.message != NULL && !topic_name_valid(q.topic))
		outcome = broken(s, "\"%s\" is no Topic Name", s->words[3].text);
	if (q.share.len == 0)
		q.share.data = NULL;
	if (outcome == STEP_OK && s->h->running != NULL &&
	    (known = rights_known(s, c, &q)) != NULL) {
		const char *name = name_given(s);

		outcome = words_done(s) == STEP_OK ? asked_judge(s, known, name) : STEP_BROKEN;
	} else if (outcome == STEP_OK) {
		outcome = ask_step(s, c, HOOK_ACL, &q);
	}
	free(m.properties);
	return outcome;
}

/* ---- messages ------------------------------------------------------------------------------------------------- */

static enum outcome
message_step(struct step *s, enum hook hook)
{
	struct sim_client *c = client_word(s, 1);
	struct grapnel_message_publish q = { .size = sizeof(q) };
	struct message_words m;
	enum outcome outcome;

	s->used[2] = true;
	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	outcome = message_read(s, &m, word_str(&s->words[2]), hook == HOOK_PUBLISH ? c : NULL);
	q.message = &m.info;
	if (outcome == STEP_OK && !topic_name_valid(q.message->topic_name))
		outcome = broken(s, "\"%s\" is no Topic Name", s->words[2].text);
	if (outcome == STEP_OK)
		outcome = ask_step(s, c, hook, &q);
	free(m.properties);
	return outcome;
}

static enum outcome
do_publish(struct step *s)
{
	return message_step(s, HOOK_PUBLISH);
}

static enum outcome
do_deliver(struct step *s)
{
	return message_step(s, HOOK_DELIVER);
}

static enum outcome
filter_step(struct step *s, enum hook hook)
{
	struct sim_client *c = client_word(s, 1);
	struct grapnel_client_subscribe q = { .size = sizeof(q) };
	enum outcome outcome = STEP_OK;
	uint8_t *properties;
	uint64_t n;

	s->used[2] = true;
	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	q.filter = word_str(&s->words[2]);
	if (!topic_filter_valid(q.filter, NULL, NULL))
		return broken(s, "\"%s\" is no Topic Filter", s->words[2].text);
	if (arg_number(s, "qos", 2, &n, &outcome))
		q.qos = (uint8_t)n;
	if (arg_number(s, "retain_handling", 2, &n, &outcome))
		q.retain_handling = (uint8_t)n;
	if (arg_number(s, "identifier", 268435455, &n, &outcome))
		q.subscription_identifier = (uint32_t)n;
	(void)arg_yes(s, "no_local", &q.no_local);
	(void)arg_yes(s, "retain_as_published", &q.retain_as_published);
	if ((properties = properties_read(s, &q.properties.len, NULL, NULL)) == NULL)
		return broken(s, "out of memory");
	q.properties.data = (const char *)properties;
	if (outcome == STEP_OK)
		outcome = ask_step(s, c, hook, &q);
	free(properties);
	return outcome;
}

static enum outcome
do_subscribe(struct step *s)
{
	return filter_step(s, HOOK_SUBSCRIBE);
}

static enum outcome
do_unsubscribe(struct step *s)
{
	return filter_step(s, HOOK_UNSUBSCRIBE);
}

static enum outcome
do_acknowledge(struct step *s)
{
	static const struct {
		const char *name;
		uint8_t type;
	} packets[] = { { "puback", 4 }, { "pubrec", 5 }, { "pubcomp", 7 } };
	struct sim_client *c = client_word(s, 1);
	struct grapnel_message_acknowledge q = {
		.size = sizeof(q), .packet_identifier = 1, .packet_type = 4
	};
	struct grapnel_str packet;
	struct message_words m;
	enum outcome outcome;
	uint64_t n;

	s->used[2] = true;
	if (c == NULL)
		return STEP_BROKEN;
	q.client = &c->info;
	outcome = message_read(s, &m, word_str(&s->words[2]), c);
	q.message = &m.info;
	if (arg_number(s, "id", UINT16_MAX, &n, &outcome))
		q.packet_identifier = (uint16_t)n;
	if (arg_number(s, "reason_code", UINT8_MAX, &n, &outcome))
		q.reason_code = (uint8_t)n;
	if (arg_get(s, "packet", &packet)) {
		q.packet_type = 0;
		for (unsigned i = 0; i < 3; i++) {
			if (strcmp(packet.data, packets[i].name) == 0)
				q.packet_type = packets[i].type;
		}
		if (q.packet_type == 0)
			outcome = broken(s, "packet is puback, pubrec or pubcomp");
	}
	if (outcome == STEP_OK)
		outcome = ask_step(s, c, HOOK_ACKNOWLEDGE, &q);
	free(m.properties);
	return outcome;
}

static enum outcome
do_psk(struct step *s)
{
	struct grapnel_client_info nobody = { .size = sizeof(nobody),
		.client_id = GRAPNEL_STR(""),
		.mountpoint = GRAPNEL_STR(""),
		.peer = GRAPNEL_STR("192.0.2.1:50000"),
		.listener = GRAPNEL_STR("mqtt") };
	struct grapnel_tls_psk q = { .size = sizeof(q), .client = &nobody };

	(void)arg_get(s, "peer", &nobody.peer);
	(void)arg_get(s, "listener", &nobody.listener);
	if (!arg_get(s, "identity", &q.identity))
		return broken(s, "usage: psk identity=…");
	return ask_step(s, NULL, HOOK_TLS_PSK, &q);
}

const struct step_def steps_ask[] = {
	{ "acknowledge", 2, do_acknowledge,
	    "acknowledge CLIENT TOPIC [packet=puback|pubrec|pubcomp] [id=N] [reason_code=N] [-> "
	    "…]" },
	{ "acl", 3, do_acl,
	    "acl publish|subscribe|read|will CLIENT TOPIC [qos=N] [retain=yes] [payload=…] [-> "
	    "…]" },
	{ "authenticate", 1, do_authenticate,
	    "authenticate CLIENT [password=…] [will.topic=…] [as NAME] [-> …]" },
	{ "deliver", 2, do_deliver,
	    "deliver CLIENT TOPIC [payload=…] [qos=N] [retain=yes] [-> …]" },
	{ "exchange", 1, do_exchange,
	    "exchange CLIENT method=… [phase=connect|continue|reauth] [data=…] [-> …]" },
	{ "psk", 1, do_psk, "psk identity=… [-> …]" },
	{ "publish", 2, do_publish,
	    "publish CLIENT TOPIC [payload=…] [qos=N] [retain=yes] [property.NAME=…] [-> …]" },
	{ "revalidate", 1, do_revalidate, "revalidate CLIENT [-> …]" },
	{ "subscribe", 2, do_subscribe, "subscribe CLIENT FILTER [qos=N] [-> …]" },
	{ "unsubscribe", 2, do_unsubscribe, "unsubscribe CLIENT FILTER [-> …]" },
	{ NULL, 0, NULL, NULL },
};
