/* SPDX-License-Identifier: Apache-2.0 */
/* What came of a question, as names and texts that a script can be right or wrong about. */
#include "mqtt/packet.h"
#include "script.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	uint32_t id;
	bool number;
} property_names[] = {
	{ "content-type", PROP_CONTENT_TYPE, false },
	{ "correlation-data", PROP_CORRELATION_DATA, false },
	{ "message-expiry", PROP_MESSAGE_EXPIRY, true },
	{ "payload-format", PROP_PAYLOAD_FORMAT, true },
	{ "response-topic", PROP_RESPONSE_TOPIC, false },
};

uint32_t
property_id(const char *name)
{
	for (size_t i = 0; i < sizeof(property_names) / sizeof(*property_names); i++) {
		if (strcmp(property_names[i].name, name) == 0)
			return property_names[i].id;
	}
	return 0;
}

/* ---- making facts ------------------------------------------------------------------------------------ */

void
fact_add(struct facts *f, const char *name, struct grapnel_str value)
{
	struct fact *one;

	if (value.data == NULL || f->count == FACTS_MAX)
		return;
	one = &f->list[f->count++];
	snprintf(one->name, sizeof(one->name), "%s", name);
	one->heap = copy_text(value.data, value.len);
	one->value = (struct grapnel_str){ one->heap, one->heap != NULL ? value.len : 0 };
}

void
fact_number(struct facts *f, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	fact_add(f, name, (struct grapnel_str){ text, strlen(text) });
}

/* Only what differs from what nobody said. */
static void
fact_set(struct facts *f, const char *name, int64_t value)
{
	if (value != 0)
		fact_number(f, name, value);
}

void
fact_yes(struct facts *f, const char *name, bool value)
{
	if (value)
		fact_add(f, name, GRAPNEL_STR("yes"));
}

static void
fact_code(struct facts *f, uint8_t code)
{
	char text[8];

	if (code == 0)
		return;
	snprintf(text, sizeof(text), "0x%02x", code);
	fact_add(f, "reason_code", (struct grapnel_str){ text, strlen(text) });
}

static void
property_fact(struct facts *f, const struct grapnel_property *p)
{
	char name[72];

	if (p->id == PROP_USER_PROPERTY) {
		snprintf(name, sizeof(name), "property.%.*s", (int)p->u.pair.name.len,
		    p->u.pair.name.data);
		fact_add(f, name, p->u.pair.value);
		return;
	}
	for (size_t i = 0; i < sizeof(property_names) / sizeof(*property_names); i++) {
		if (property_names[i].id != p->id)
			continue;
		snprintf(name, sizeof(name), "property.%s", property_names[i].name);
		if (property_names[i].number)
			fact_number(f, name, p->u.number);
		else
			fact_add(f, name, p->u.str);
	}
}

void
facts_message(struct facts *f, struct grapnel_str properties)
{
	struct grapnel_property p;
	size_t pos = 0;

	while (mqtt_property_next(properties, &pos, &p) > 0)
		property_fact(f, &p);
}

static void
facts_auth(struct facts *f, const struct grapnel_auth_answer *a)
{
	char name[72];

	fact_code(f, a->reason_code);
	fact_yes(f, "more", a->more);
	fact_yes(f, "superuser", a->superuser);
	fact_yes(f, "no_store", a->no_store);
	fact_set(f, "cache_ttl_ms", a->cache_ttl_ms);
	fact_add(f, "reason", a->reason_string);
	fact_add(f, "username", a->username);
	fact_add(f, "mountpoint", a->mountpoint);
	fact_add(f, "data", a->data);
	fact_add(f, "server_reference", a->server_reference);
	fact_add(f, "response_information", a->response_information);
	fact_yes(f, "rules", a->rules != NULL);
	fact_set(f, "valid_until", a->valid_until);
	for (size_t i = 0; i < a->attribute_count; i++) {
		snprintf(name, sizeof(name), "attribute.%.*s", (int)a->attributes[i].name.len,
		    a->attributes[i].name.data);
		fact_add(f, name, a->attributes[i].value);
	}
	if (a->limits == NULL)
		return;
	fact_set(f, "limits.max_queued_messages", a->limits->max_queued_messages);
	fact_set(f, "limits.max_inflight", a->limits->max_inflight);
	fact_set(f, "limits.max_packet_size", a->limits->max_packet_size);
	fact_set(f, "limits.max_session_expiry", a->limits->max_session_expiry);
	fact_set(f, "limits.message_rate", a->limits->message_rate);
	fact_set(f, "limits.byte_rate", (int64_t)a->limits->byte_rate);
	fact_set(f, "limits.max_queued_bytes", (int64_t)a->limits->max_queued_bytes);
	if (a->limits->max_qos_plus_one > 0)
		fact_number(f, "limits.max_qos", a->limits->max_qos_plus_one - 1);
}

static void
facts_acl(struct facts *f, uint32_t flags)
{
	fact_yes(f, "drop", (flags & GRAPNEL_ACL_DROP) != 0);
	fact_yes(f, "no_retain", (flags & GRAPNEL_ACL_NO_RETAIN) != 0);
	fact_yes(f, "no_send_retained", (flags & GRAPNEL_ACL_NO_SEND_RETAINED) != 0);
	fact_yes(f, "covered", (flags & GRAPNEL_ACL_COVERED) != 0);
}

static void
facts_publish(struct facts *f, const struct grapnel_publish_answer *a)
{
	fact_yes(f, "drop", a->drop);
	if (a->has_retain)
		fact_add(f, "retain", a->retain ? GRAPNEL_STR("yes") : GRAPNEL_STR("no"));
	if (a->has_qos)
		fact_number(f, "qos", a->qos);
	fact_code(f, a->reason_code);
	fact_add(f, "reason", a->reason_string);
	fact_add(f, "topic", a->topic_name);
	fact_add(f, "payload", a->payload);
	fact_yes(f, "properties", a->has_properties);
	for (size_t i = 0; i < a->property_count; i++)
		property_fact(f, &a->properties[i]);
}

void
facts_of(struct facts *f, const struct asked *a)
{
	const struct answer *answer = a->answer;

	f->count = 0;
	fact_add(f, "by",
	    a->by_rules        ? GRAPNEL_STR("rules")
		: a->superuser ? GRAPNEL_STR("superuser")
		: a->cancelled ? GRAPNEL_STR("cancel")
			       : GRAPNEL_STR("plugin"));
	facts_acl(f, a->rule_flags);
	if (a->rule != NULL)
		fact_add(f, "rule", (struct grapnel_str){ a->rule, strlen(a->rule) });
	if (answer == NULL)
		return;
	switch (answer->kind) {
	case ANSWER_AUTH:
		facts_auth(f, &answer->u.auth);
		break;
	case ANSWER_ACL:
		facts_acl(f, answer->u.acl.flags);
		fact_code(f, answer->u.acl.reason_code);
		if (answer->u.acl.max_qos_plus_one > 0)
			fact_number(f, "max_qos", answer->u.acl.max_qos_plus_one - 1);
		fact_yes(f, "no_store", answer->u.acl.no_store);
		fact_set(f, "cache_ttl_ms", answer->u.acl.cache_ttl_ms);
		fact_add(f, "reason", answer->u.acl.reason_string);
		fact_add(f, "rule", answer->u.acl.rule);
		fact_add(f, "same_for", answer->u.acl.same_for);
		break;
	case ANSWER_PUBLISH:
		facts_publish(f, &answer->u.publish);
		break;
	case ANSWER_SUBSCRIBE:
		if (answer->u.subscribe.has_qos)
			fact_number(f, "qos", answer->u.subscribe.qos);
		fact_code(f, answer->u.subscribe.reason_code);
		fact_add(f, "reason", answer->u.subscribe.reason_string);
		fact_add(f, "filter", answer->u.subscribe.filter);
		break;
	case ANSWER_ACK:
		fact_code(f, answer->u.ack.reason_code);
		fact_add(f, "reason", answer->u.ack.reason_string);
		break;
	case ANSWER_PSK:
		fact_add(f, "key", answer->u.psk.key);
		fact_add(f, "username", answer->u.psk.username);
		break;
	}
}

void
facts_free(struct facts *f)
{
	for (unsigned i = 0; i < f->count; i++)
		free(f->list[i].heap);
	f->count = 0;
}

/* ---- looking at them ------------------------------------------------------------------------------------- */

const char *
verdict_text(int verdict)
{
	static const char *const names[] = { "?", "allow", "deny", "next", "pending",
		"unavailable" };

	return verdict >= 1 && verdict <= 5 ? names[verdict] : names[0];
}

/* Bytes as a script would write them. */
static void
show_value(FILE *out, struct grapnel_str value)
{
	bool plain = value.len > 0;

	for (size_t i = 0; i < value.len; i++)
		plain = plain && value.data[i] > ' ' && value.data[i] < 0x7f &&
		    strchr("'\"\\#$", value.data[i]) == NULL;
	if (plain) {
		fprintf(out, "%.*s", (int)value.len, value.data);
		return;
	}
	fputc('"', out);
	for (size_t i = 0; i < value.len && i < 400; i++) {
		unsigned char c = (unsigned char)value.data[i];

		if (c < ' ' || c >= 0x7f)
			fprintf(out, "\\x%02x", c);
		else
			fprintf(out, "%s%c", strchr("\"\\$", c) != NULL ? "\\" : "", c);
	}
	fputc('"', out);
}

const char *
facts_show(const struct facts *f, char *out, size_t size)
{
	FILE *to = fmemopen(out, size, "w");

	out[0] = '\0';
	if (to == NULL)
		return out;
	for (unsigned i = 0; i < f->count; i++) {
		if (strcmp(f->list[i].name, "by") == 0)
			continue;
		fprintf(to, " %s=", f->list[i].name);
		show_value(to, f->list[i].value);
	}
	fclose(to);
	out[size - 1] = '\0';
	return out;
}

static const struct fact *
fact_find(const struct facts *f, const char *name, size_t len)
{
	for (unsigned i = 0; i < f->count; i++) {
		if (strlen(f->list[i].name) == len && memcmp(f->list[i].name, name, len) == 0)
			return &f->list[i];
	}
	return NULL;
}

static bool
fact_holds(const struct facts *f, struct word *w, char *error, size_t size)
{
	size_t key = word_key(w);
	bool absent = key == 0 && w->plain > 1 && w->text[0] == '!';
	const char *name = w->text + absent;
	size_t len = (key > 0 ? key : w->len) - absent;
	const struct fact *fact = fact_find(f, name, len);
	struct grapnel_str want;

	if (absent && fact != NULL) {
		snprintf(error, size, "%.*s was not expected", (int)len, name);
		return false;
	}
	if (absent)
		return true;
	if (fact == NULL && key > 0 && w->len - key - 1 == 2 &&
	    memcmp(w->text + key + 1, "no", 2) == 0)
		return true; /* what nobody said is not so */
	if (fact == NULL) {
		snprintf(error, size, "%.*s was expected", (int)w->len, w->text);
		return false;
	}
	if (key > 0 && !word_value(w, key + 1, &want, error, size))
		return false;
	if (key == 0 || matches(w, key + 1, fact->value))
		return true;
	snprintf(error, size, "%.*s was expected", (int)w->len, w->text);
	return false;
}

bool
facts_hold(const struct facts *f, struct word *words, unsigned count, char *error, size_t size)
{
	for (unsigned i = 0; i < count; i++) {
		if (!fact_holds(f, &words[i], error, size))
			return false;
	}
	return true;
}
