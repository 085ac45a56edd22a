/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"
#include "copy.h"
#include "core/acl.h"
#include "mqtt/packet.h"
#include "mqtt/topic.h"
#include <stdlib.h>
#include <string.h>

#define STRING_MAX     65535u /* what an MQTT string can hold */
#define USERNAME_MAX   1024u  /* of psk: part of what is known of a connection */
#define DATA_MAX       65535u
#define PAYLOAD_MAX    268435455u
#define ATTRIBUTES_MAX 1024u
#define PROPERTIES_MAX 4096u

const struct grapnel_auth_answer answer_no_auth = { .size = sizeof(answer_no_auth) };
const struct grapnel_acl_answer answer_no_acl = { .size = sizeof(answer_no_acl) };
const struct grapnel_publish_answer answer_no_publish = { .size = sizeof(answer_no_publish) };
const struct grapnel_subscribe_answer answer_no_subscribe = { .size = sizeof(answer_no_subscribe) };
const struct grapnel_ack_answer answer_no_ack = { .size = sizeof(answer_no_ack) };
const struct grapnel_psk_answer answer_no_psk = { .size = sizeof(answer_no_psk) };

/* Sizes in ABI 1.0: a plugin can know more of a struct, never less. */
#define AUTH_SIZE_1_0      sizeof(struct grapnel_auth_answer)
#define ACL_SIZE_1_0       sizeof(struct grapnel_acl_answer)
#define PUBLISH_SIZE_1_0   sizeof(struct grapnel_publish_answer)
#define SUBSCRIBE_SIZE_1_0 sizeof(struct grapnel_subscribe_answer)
#define ACK_SIZE_1_0       sizeof(struct grapnel_ack_answer)
#define PSK_SIZE_1_0       sizeof(struct grapnel_psk_answer)
#define LIMITS_SIZE_1_0    sizeof(struct grapnel_client_limits)

enum answer_kind
answer_kind(enum hook h)
{
	switch (h) {
	case HOOK_AUTHENTICATE:
	case HOOK_AUTH_EXCHANGE:
	case HOOK_REVALIDATE:
		return ANSWER_AUTH;
	case HOOK_ACL:
		return ANSWER_ACL;
	case HOOK_PUBLISH:
	case HOOK_DELIVER:
		return ANSWER_PUBLISH;
	case HOOK_SUBSCRIBE:
	case HOOK_UNSUBSCRIBE:
		return ANSWER_SUBSCRIBE;
	case HOOK_TLS_PSK:
		return ANSWER_PSK;
	case HOOK_ACKNOWLEDGE:
	case HOOK_COUNT:
		break;
	}
	return ANSWER_ACK;
}

const char *
answer_kind_name(enum answer_kind kind)
{
	static const char *const names[] = { "?", "auth", "acl", "publish", "subscribe", "ack",
		"psk" };

	return names[kind];
}

/* ---- checks: each returns NULL or what is wrong ---------------------------------------------- */

static const char *
check_bytes(struct grapnel_str s, size_t max)
{
	if (s.data == NULL && s.len > 0)
		return "a string has a length but no data";
	return s.len > max ? "a string is too long" : NULL;
}

/* Text that goes into a packet. */
static const char *
check_text(struct grapnel_str s)
{
	const char *why = check_bytes(s, STRING_MAX);

	if (why == NULL && s.len > 0 && !utf8_valid(s.data, s.len))
		why = "a string is not well-formed UTF-8";
	return why;
}

static const char *
check_reason(uint8_t code)
{
	return code != 0 && code < 0x80 ? "reason_code of a refusal must be 0 or at least 0x80"
					: NULL;
}

static const char *
check_topic_name(struct grapnel_str s)
{
	const char *why = check_text(s);

	if (why == NULL && s.data != NULL && !topic_name_valid(s))
		why = "topic_name is not a valid Topic Name";
	return why;
}

static const char *
check_auth(const struct grapnel_auth_answer *a)
{
	const struct grapnel_str texts[] = { a->reason_string, a->username, a->mountpoint,
		a->server_reference, a->response_information };
	const char *why = check_reason(a->reason_code);

	for (size_t i = 0; why == NULL && i < sizeof(texts) / sizeof(*texts); i++)
		why = check_text(texts[i]);
	if (why == NULL)
		why = check_bytes(a->data, DATA_MAX);
	if (why == NULL && a->mountpoint.len > 0 && !topic_name_valid(a->mountpoint))
		why = "mountpoint must not contain wildcards";
	if (why == NULL &&
	    (a->attribute_count > ATTRIBUTES_MAX ||
		(a->attribute_count > 0 && a->attributes == NULL)))
		why = "attributes are missing or too many";
	for (size_t i = 0; why == NULL && i < a->attribute_count; i++) {
		why = check_bytes(a->attributes[i].name, STRING_MAX);
		if (why == NULL)
			why = check_bytes(a->attributes[i].value, STRING_MAX);
	}
	if (why == NULL && a->limits != NULL) {
		if (a->limits->size < LIMITS_SIZE_1_0)
			why = "limits: size is not set";
		else if (a->limits->max_qos_plus_one > 3)
			why = "limits: max_qos_plus_one is out of range";
	}
	if (why == NULL && a->valid_until < 0)
		why = "valid_until is negative";
	return why;
}

static const char *
check_acl(const struct grapnel_acl_answer *a)
{
	const uint32_t known = GRAPNEL_ACL_DROP | GRAPNEL_ACL_NO_RETAIN |
	    GRAPNEL_ACL_NO_SEND_RETAINED | GRAPNEL_ACL_COVERED;
	const char *why = check_reason(a->reason_code);

	if (why == NULL && (a->flags & ~known) != 0)
		why = "flags has unknown bits";
	if (why == NULL && a->max_qos_plus_one > 3)
		why = "max_qos_plus_one is out of range";
	if (why == NULL)
		why = check_text(a->reason_string);
	if (why == NULL && a->same_for.data != NULL &&
	    (a->same_for.len > 65535 || !topic_filter_valid(a->same_for, NULL, NULL)))
		why = "same_for is not a Topic Filter";
	return why != NULL ? why : check_bytes(a->rule, STRING_MAX);
}

/* The properties that belong to the message itself, not to one hop [MQTT-3.3.2-4] and following. */
static const char *
check_property(const struct grapnel_property *p)
{
	const char *why;

	switch (p->id) {
	case PROP_PAYLOAD_FORMAT:
		return p->u.number > 1 ? "Payload Format Indicator is out of range" : NULL;
	case PROP_MESSAGE_EXPIRY:
		return NULL;
	case PROP_CONTENT_TYPE:
		return check_text(p->u.str);
	case PROP_RESPONSE_TOPIC:
		why = check_text(p->u.str);
		if (why == NULL && (p->u.str.data == NULL || !topic_name_valid(p->u.str)))
			why = "Response Topic is not a valid Topic Name";
		return why;
	case PROP_CORRELATION_DATA:
		return check_bytes(p->u.str, DATA_MAX);
	case PROP_USER_PROPERTY:
		why = check_text(p->u.pair.name);
		return why != NULL ? why : check_text(p->u.pair.value);
	default:
		return "a property is not one of an Application Message";
	}
}

static const char *
check_publish(const struct grapnel_publish_answer *a)
{
	unsigned once = 0;
	const char *why = check_reason(a->reason_code);

	if (why == NULL && a->has_qos && a->qos > 2)
		why = "qos is out of range";
	if (why == NULL)
		why = check_text(a->reason_string);
	if (why == NULL)
		why = check_topic_name(a->topic_name);
	if (why == NULL)
		why = check_bytes(a->payload, PAYLOAD_MAX);
	if (!a->has_properties || why != NULL)
		return why;
	if (a->property_count > PROPERTIES_MAX || (a->property_count > 0 && a->properties == NULL))
		return "properties are missing or too many";
	for (size_t i = 0; why == NULL && i < a->property_count; i++) {
		why = check_property(&a->properties[i]);
		if (why == NULL && a->properties[i].id != PROP_USER_PROPERTY) {
			if (once & (1u << a->properties[i].id))
				why = "a property appears twice";
			once |= 1u << a->properties[i].id;
		}
	}
	return why;
}

static const char *
check_subscribe(const struct grapnel_subscribe_answer *a)
{
	const char *why = check_reason(a->reason_code);

	if (why == NULL && a->has_qos && a->qos > 2)
		why = "qos is out of range";
	if (why == NULL)
		why = check_text(a->reason_string);
	if (why == NULL)
		why = check_text(a->filter);
	if (why == NULL && a->filter.data != NULL && !topic_filter_valid(a->filter, NULL, NULL))
		why = "filter is not a valid Topic Filter";
	return why;
}

static const char *
check_ack(const struct grapnel_ack_answer *a)
{
	const char *why = check_reason(a->reason_code);

	return why != NULL ? why : check_text(a->reason_string);
}

static const char *
check_psk(const struct grapnel_psk_answer *a)
{
	const char *why = check_bytes(a->key, GRAPNEL_PSK_KEY_MAX);

	if (why != NULL)
		return why;
	if (a->key.data != NULL && a->key.len < GRAPNEL_PSK_KEY_MIN)
		return "a key has 16 to 64 bytes";
	if (a->username.data == NULL)
		return NULL;
	return a->username.len == 0 || a->username.len > USERNAME_MAX ||
		!utf8_plain(a->username.data, a->username.len)
	    ? "username is not 1 to 1024 bytes of UTF-8 without control characters"
	    : NULL;
}

/* ---- laying out ------------------------------------------------------------------------------ */

static void
put_auth(struct layout *l, struct answer *a, const struct grapnel_auth_answer *from)
{
	struct grapnel_auth_answer *to = &a->u.auth;
	struct grapnel_pair *pairs =
	    l->p != NULL ? (struct grapnel_pair *)(void *)(l->p + l->len) : NULL;

	*to = *from;
	l->len += from->attribute_count * sizeof(*pairs);
	for (size_t i = 0; i < from->attribute_count; i++) {
		struct grapnel_pair pair = { layout_str(l, from->attributes[i].name),
			layout_str(l, from->attributes[i].value) };

		if (pairs != NULL)
			pairs[i] = pair;
	}
	to->attributes = from->attribute_count > 0 ? pairs : NULL;
	to->reason_string = layout_str(l, from->reason_string);
	to->username = layout_str(l, from->username);
	to->mountpoint = layout_str(l, from->mountpoint);
	to->data = layout_str(l, from->data);
	to->server_reference = layout_str(l, from->server_reference);
	to->response_information = layout_str(l, from->response_information);
	if (from->limits != NULL) {
		a->limits = *from->limits;
		to->limits = &a->limits;
	}
}

static void
put_publish(struct layout *l, struct answer *a, const struct grapnel_publish_answer *from)
{
	struct grapnel_publish_answer *to = &a->u.publish;
	struct grapnel_property *props =
	    l->p != NULL ? (struct grapnel_property *)(void *)(l->p + l->len) : NULL;
	size_t count = from->has_properties ? from->property_count : 0;

	*to = *from;
	l->len += count * sizeof(*props);
	for (size_t i = 0; i < count; i++) {
		struct grapnel_property p = from->properties[i];

		if (p.id == PROP_USER_PROPERTY) {
			p.u.pair.name = layout_str(l, p.u.pair.name);
			p.u.pair.value = layout_str(l, p.u.pair.value);
		} else if (p.id != PROP_PAYLOAD_FORMAT && p.id != PROP_MESSAGE_EXPIRY) {
			p.u.str = layout_str(l, p.u.str);
		}
		if (props != NULL)
			props[i] = p;
	}
	to->properties = count > 0 ? props : NULL;
	to->property_count = count;
	to->reason_string = layout_str(l, from->reason_string);
	to->topic_name = layout_str(l, from->topic_name);
	to->payload = layout_str(l, from->payload);
}

/* Once to count, once to write. */
static void
answer_put(struct layout *l, struct answer *a, enum answer_kind kind, const void *from)
{
	switch (kind) {
	case ANSWER_AUTH:
		put_auth(l, a, from);
		a->u.auth.size = sizeof(a->u.auth);
		break;
	case ANSWER_ACL:
		a->u.acl = *(const struct grapnel_acl_answer *)from;
		a->u.acl.reason_string = layout_str(l, a->u.acl.reason_string);
		a->u.acl.rule = layout_str(l, a->u.acl.rule);
		a->u.acl.same_for = layout_str(l, a->u.acl.same_for);
		a->u.acl.size = sizeof(a->u.acl);
		break;
	case ANSWER_PUBLISH:
		put_publish(l, a, from);
		a->u.publish.size = sizeof(a->u.publish);
		break;
	case ANSWER_SUBSCRIBE:
		a->u.subscribe = *(const struct grapnel_subscribe_answer *)from;
		a->u.subscribe.reason_string = layout_str(l, a->u.subscribe.reason_string);
		a->u.subscribe.filter = layout_str(l, a->u.subscribe.filter);
		a->u.subscribe.size = sizeof(a->u.subscribe);
		break;
	case ANSWER_ACK:
		a->u.ack = *(const struct grapnel_ack_answer *)from;
		a->u.ack.reason_string = layout_str(l, a->u.ack.reason_string);
		a->u.ack.size = sizeof(a->u.ack);
		break;
	case ANSWER_PSK:
		a->u.psk = *(const struct grapnel_psk_answer *)from;
		a->u.psk.key = layout_str(l, a->u.psk.key);
		a->u.psk.username = layout_str(l, a->u.psk.username);
		a->u.psk.size = sizeof(a->u.psk);
		break;
	}
}

static const char *
answer_check(enum answer_kind kind, const void *from)
{
	static const size_t smallest[] = {
		[ANSWER_AUTH] = AUTH_SIZE_1_0,
		[ANSWER_ACL] = ACL_SIZE_1_0,
		[ANSWER_PUBLISH] = PUBLISH_SIZE_1_0,
		[ANSWER_SUBSCRIBE] = SUBSCRIBE_SIZE_1_0,
		[ANSWER_ACK] = ACK_SIZE_1_0,
		[ANSWER_PSK] = PSK_SIZE_1_0,
	};

	/*
	 * Every answer begins with its size; nothing behind it is touched before that was looked
	 * at.
	 */
	if (*(const size_t *)from < smallest[kind])
		return "its size is not set, or smaller than ABI 1.0 has it";
	switch (kind) {
	case ANSWER_AUTH:
		return check_auth(from);
	case ANSWER_ACL:
		return check_acl(from);
	case ANSWER_PUBLISH:
		return check_publish(from);
	case ANSWER_SUBSCRIBE:
		return check_subscribe(from);
	case ANSWER_ACK:
		return check_ack(from);
	case ANSWER_PSK:
		return check_psk(from);
	}
	return "no such kind";
}

int
answer_new(struct answer **out, enum answer_kind kind, const void *from, void *space,
    size_t space_len, const char **why)
{
	struct answer scratch;
	struct layout count = { NULL, 0 };
	struct layout l;
	struct answer *a = space;
	bool heap;

	*why = answer_check(kind, from);
	if (*why != NULL)
		return GRAPNEL_EINVAL;
	answer_put(&count, &scratch, kind, from);
	heap = space == NULL || sizeof(*a) + count.len > space_len;
	if (heap && (a = malloc(sizeof(*a) + count.len)) == NULL)
		return GRAPNEL_ENOMEM;
	a->next = NULL;
	a->kind = kind;
	a->heap = heap;
	l.p = a->bytes;
	l.len = 0;
	answer_put(&l, a, kind, from);
	if (kind == ANSWER_AUTH && a->u.auth.rules != NULL)
		acl_rules_ref(a->u.auth.rules);
	*out = a;
	return GRAPNEL_OK;
}

void
answer_free(struct answer *a)
{
	if (a == NULL)
		return;
	if (a->kind == ANSWER_AUTH)
		acl_rules_unref(a->u.auth.rules);
	if (a->kind == ANSWER_PSK && a->u.psk.key.len > 0)
		explicit_bzero((void *)(uintptr_t)a->u.psk.key.data, a->u.psk.key.len);
	if (a->heap)
		free(a);
}
