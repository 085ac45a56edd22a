/* SPDX-License-Identifier: Apache-2.0 */
#include "copy.h"
#include "mqtt/packet.h"
#include <stdlib.h>
#include <string.h>

#define SMALL_BYTES      1536u
#define SMALL_KEPT       64u
#define LARGE_KEPT_BYTES (2u * 1024 * 1024)

struct grapnel_str
layout_str(struct layout *l, struct grapnel_str s)
{
	struct grapnel_str to = { NULL, 0 };

	if (s.data == NULL)
		return to;
	if (l->p != NULL) {
		to.data = l->p + l->len;
		to.len = s.len;
		memcpy(l->p + l->len, s.data, s.len);
	}
	l->len += s.len;
	return to;
}

void
layout_client(
    struct layout *l, const struct grapnel_client_info *from, struct grapnel_client_info *to)
{
	struct grapnel_pair *pairs =
	    l->p != NULL ? (struct grapnel_pair *)(void *)(l->p + l->len) : NULL;

	*to = *from;
	l->len += from->attribute_count * sizeof(struct grapnel_pair);
	for (size_t i = 0; i < from->attribute_count; i++) {
		struct grapnel_pair pair = { layout_str(l, from->attributes[i].name),
			layout_str(l, from->attributes[i].value) };

		if (pairs != NULL)
			pairs[i] = pair;
	}
	to->attributes = from->attribute_count > 0 ? pairs : NULL;
	to->client_id = layout_str(l, from->client_id);
	to->username = layout_str(l, from->username);
	to->mountpoint = layout_str(l, from->mountpoint);
	to->peer = layout_str(l, from->peer);
	to->listener = layout_str(l, from->listener);
	to->certificate_subject = layout_str(l, from->certificate_subject);
}

void
layout_message(
    struct layout *l, const struct grapnel_message_info *from, struct grapnel_message_info *to)
{
	*to = *from;
	to->topic_name = layout_str(l, from->topic_name);
	to->payload = layout_str(l, from->payload);
	to->properties = layout_str(l, from->properties);
	to->author_client_id = layout_str(l, from->author_client_id);
	to->author_username = layout_str(l, from->author_username);
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static struct question *
block_get(struct question_pool *pool, size_t bytes)
{
	struct question *q;

	if (bytes <= SMALL_BYTES) {
		bytes = SMALL_BYTES;
		if ((q = pool->small) != NULL) {
			pool->small = q->next;
			pool->small_count--;
			goto ready;
		}
	} else if (pool->large != NULL && pool->large->capacity >= bytes) {
		q = pool->large;
		pool->large = NULL;
		goto ready;
	}
	q = malloc(sizeof(*q) + bytes);
	if (q == NULL)
		return NULL;
	q->capacity = bytes;
ready:
	q->next = NULL;
	q->refs = 1;
	q->used = 0;
	q->secret = false;
	return q;
}

void
question_unref(struct question_pool *pool, struct question *q)
{
	if (q == NULL || --q->refs > 0)
		return;
	if (q->secret)
		explicit_bzero(q->bytes, q->used);
	if (q->capacity == SMALL_BYTES && pool->small_count < SMALL_KEPT) {
		q->next = pool->small;
		pool->small = q;
		pool->small_count++;
	} else if (q->capacity > SMALL_BYTES && q->capacity <= LARGE_KEPT_BYTES &&
	    pool->large == NULL) {
		pool->large = q;
	} else {
		free(q);
	}
}

void
question_pool_clear(struct question_pool *pool)
{
	struct question *q;

	while ((q = pool->small) != NULL) {
		pool->small = q->next;
		free(q);
	}
	free(pool->large);
	memset(pool, 0, sizeof(*pool));
}

/* ---- laying out ------------------------------------------------------------------------------ */

static void
put_client(struct layout *l, struct question *q, const struct grapnel_client_info *client)
{
	layout_client(l, client, &q->client);
}

static const struct grapnel_message_info *
put_message(struct layout *l, struct question *q, const struct grapnel_message_info *message)
{
	if (message == NULL)
		return NULL;
	layout_message(l, message, &q->message);
	return &q->message;
}

/* Once to count (l->p NULL, q a scratch), once to write. */
static void
question_put(struct layout *l, struct question *q, enum hook h, const void *from)
{
	switch (h) {
	case HOOK_AUTHENTICATE: {
		struct grapnel_authenticate *to = &q->u.authenticate;

		*to = *(const struct grapnel_authenticate *)from;
		put_client(l, q, to->client);
		to->password = layout_str(l, to->password);
		to->properties = layout_str(l, to->properties);
		to->will = put_message(l, q, to->will);
		to->client = &q->client;
		q->secret = true;
		break;
	}
	case HOOK_AUTH_EXCHANGE: {
		struct grapnel_auth_exchange *to = &q->u.exchange;

		*to = *(const struct grapnel_auth_exchange *)from;
		put_client(l, q, to->client);
		to->method = layout_str(l, to->method);
		to->data = layout_str(l, to->data);
		to->password = layout_str(l, to->password);
		to->properties = layout_str(l, to->properties);
		to->client = &q->client;
		q->secret = true;
		break;
	}
	case HOOK_REVALIDATE: {
		struct grapnel_revalidate *to = &q->u.revalidate;

		*to = *(const struct grapnel_revalidate *)from;
		put_client(l, q, to->client);
		to->client = &q->client;
		break;
	}
	case HOOK_ACL: {
		struct grapnel_acl_check *to = &q->u.acl;

		*to = *(const struct grapnel_acl_check *)from;
		put_client(l, q, to->client);
		to->topic = layout_str(l, to->topic);
		to->share = layout_str(l, to->share);
		to->message = put_message(l, q, to->message);
		to->client = &q->client;
		break;
	}
	case HOOK_PUBLISH:
	case HOOK_DELIVER: {
		struct grapnel_message_publish *to = &q->u.publish;

		*to = *(const struct grapnel_message_publish *)from;
		put_client(l, q, to->client);
		to->message = put_message(l, q, to->message);
		to->client = &q->client;
		break;
	}
	case HOOK_SUBSCRIBE:
	case HOOK_UNSUBSCRIBE: {
		struct grapnel_client_subscribe *to = &q->u.subscribe;

		*to = *(const struct grapnel_client_subscribe *)from;
		put_client(l, q, to->client);
		to->filter = layout_str(l, to->filter);
		to->properties = layout_str(l, to->properties);
		to->client = &q->client;
		break;
	}
	case HOOK_ACKNOWLEDGE: {
		struct grapnel_message_acknowledge *to = &q->u.acknowledge;

		*to = *(const struct grapnel_message_acknowledge *)from;
		put_client(l, q, to->client);
		to->message = put_message(l, q, to->message);
		to->client = &q->client;
		break;
	}
	case HOOK_TLS_PSK: {
		struct grapnel_tls_psk *to = &q->u.psk;

		*to = *(const struct grapnel_tls_psk *)from;
		put_client(l, q, to->client);
		to->identity = layout_str(l, to->identity);
		to->client = &q->client;
		break;
	}
	case HOOK_COUNT:
		break;
	}
}

/* The two hooks whose question is laid out by the same code must have the same shape. */
_Static_assert(sizeof(struct grapnel_message_publish) == sizeof(struct grapnel_message_deliver) &&
	offsetof(struct grapnel_message_publish, message) ==
	    offsetof(struct grapnel_message_deliver, message),
    "message_publish and message_deliver differ");

struct question *
question_new(struct question_pool *pool, enum hook h, const void *from)
{
	struct question scratch;
	struct layout count = { NULL, 0 };
	struct question *q;

	question_put(&count, &scratch, h, from);
	q = block_get(pool, count.len);
	if (q != NULL) {
		struct layout l = { q->bytes, 0 };

		q->hook = h;
		question_put(&l, q, h, from);
		q->used = l.len;
	}
	return q;
}

struct question *
question_published(struct question_pool *pool, const struct question *q,
    const struct grapnel_publish_answer *answer)
{
	struct grapnel_message_info message = *q->u.publish.message;
	struct grapnel_message_publish changed = q->u.publish;
	struct question *neu;
	uint8_t *encoded = NULL;

	if (answer->topic_name.data != NULL)
		message.topic_name = answer->topic_name;
	if (answer->payload.data != NULL)
		message.payload = answer->payload;
	if (answer->has_retain)
		message.retain = answer->retain;
	if (answer->has_qos && q->hook == HOOK_PUBLISH)
		message.qos = answer->qos;
	if (answer->has_properties) {
		size_t size = mqtt_properties_size(answer->properties, answer->property_count);

		encoded = malloc(size + 1);
		if (encoded == NULL)
			return NULL;
		mqtt_properties_put(encoded, answer->properties, answer->property_count);
		message.properties.data = (const char *)encoded;
		message.properties.len = size;
		message.has_message_expiry = false;
		for (size_t i = 0; i < answer->property_count; i++) {
			if (answer->properties[i].id == PROP_MESSAGE_EXPIRY) {
				message.has_message_expiry = true;
				message.message_expiry = answer->properties[i].u.number;
			}
		}
	}
	changed.message = &message;
	neu = question_new(pool, q->hook, &changed);
	free(encoded);
	return neu;
}

struct question *
question_subscribed(struct question_pool *pool, const struct question *q,
    const struct grapnel_subscribe_answer *answer)
{
	struct grapnel_client_subscribe changed = q->u.subscribe;

	if (answer->filter.data != NULL)
		changed.filter = answer->filter;
	if (answer->has_qos)
		changed.qos = answer->qos;
	return question_new(pool, q->hook, &changed);
}
