/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"
#include "base/clock.h"
#include "mqtt/packet.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Append the bytes of s to *at. An absent value stays absent: NULL and "" differ. */
static struct grapnel_str
put(char **at, struct grapnel_str s)
{
	struct grapnel_str copy = { NULL, 0 };

	if (s.data == NULL)
		return copy;
	copy = (struct grapnel_str){ *at, s.len };
	if (s.len > 0)
		memcpy(*at, s.data, s.len);
	*at += s.len;
	return copy;
}

struct site *
site_new(struct grapnel_str mountpoint, struct grapnel_str listener)
{
	struct site *site = malloc(sizeof(*site) + mountpoint.len + listener.len);
	char *at;

	if (site == NULL)
		return NULL;
	at = site->bytes;
	atomic_init(&site->refs, 1);
	site->mountpoint = put(&at, mountpoint);
	site->listener = put(&at, listener);
	return site;
}

struct site *
site_ref(struct site *site)
{
	atomic_fetch_add_explicit(&site->refs, 1, memory_order_relaxed);
	return site;
}

void
site_unref(struct site *site)
{
	if (site != NULL && atomic_fetch_sub_explicit(&site->refs, 1, memory_order_acq_rel) == 1)
		free(site);
}

/* Where the attributes begin: behind the strings, aligned. */
static size_t
attributes_at(size_t text)
{
	size_t align = _Alignof(struct grapnel_pair);

	return (offsetof(struct identity, bytes) + text + align - 1) & ~(align - 1);
}

struct identity *
identity_new(const struct grapnel_client_info *values, struct site *site)
{
	size_t text = values->client_id.len + values->username.len + values->peer.len + 1;
	size_t bytes = offsetof(struct identity, bytes) + text;
	struct grapnel_pair *attributes;
	struct identity *id;
	char *at;

	if (values->client_id.len > UINT16_MAX || values->username.len > UINT16_MAX ||
	    values->peer.len > UINT8_MAX || values->attribute_count > IDENTITY_ATTRIBUTES_MAX)
		return NULL;
	if (values->attribute_count > 0) {
		bytes = attributes_at(text) + values->attribute_count * sizeof(*attributes);
		for (size_t i = 0; i < values->attribute_count; i++)
			bytes += values->attributes[i].name.len + values->attributes[i].value.len;
	}
	if ((id = malloc(bytes)) == NULL)
		return NULL;
	atomic_init(&id->refs, 1);
	id->client_id_len = (uint16_t)values->client_id.len;
	id->username_len = (uint16_t)values->username.len;
	id->peer_len = (uint8_t)values->peer.len;
	id->has_username = values->username.data != NULL;
	id->attribute_count = (uint16_t)values->attribute_count;
	id->session_generation = values->session_generation;
	id->protocol = values->protocol;
	id->superuser = values->superuser;
	id->anonymous = values->anonymous;
	id->source = values->identity_source & 7u;
	id->site = site_ref(site);
	at = id->bytes;
	put(&at, values->client_id);
	put(&at, values->username);
	put(&at, values->peer);
	*at = '\0';
	if (values->attribute_count > 0) {
		attributes = (struct grapnel_pair *)(void *)((char *)id + attributes_at(text));
		at = (char *)(attributes + values->attribute_count);
		for (size_t i = 0; i < values->attribute_count; i++) {
			attributes[i].name = put(&at, values->attributes[i].name);
			attributes[i].value = put(&at, values->attributes[i].value);
		}
	}
	return id;
}

const struct grapnel_pair *
identity_attributes(const struct identity *id)
{
	size_t text = (size_t)id->client_id_len + id->username_len + id->peer_len + 1;

	return id->attribute_count > 0
	    ? (const struct grapnel_pair *)(const void *)((const char *)id + attributes_at(text))
	    : NULL;
}

struct identity *
identity_ref(struct identity *id)
{
	atomic_fetch_add_explicit(&id->refs, 1, memory_order_relaxed);
	return id;
}

void
identity_unref(struct identity *id)
{
	if (id != NULL && atomic_fetch_sub_explicit(&id->refs, 1, memory_order_acq_rel) == 1) {
		site_unref(id->site);
		free(id);
	}
}

/*
 * Small messages come and go by the million; a thread keeps the memory of some that it freed, by size. Blocks are plain
 * malloc's, so that it does not matter which thread frees them.
 */
#define POOL_STEP    32u
#define POOL_CLASSES 16u /* up to 512 bytes */
#define POOL_BYTES   (256u * 1024u)
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define POOL_USED false /* what is freed is to be seen as freed */
#else
#define POOL_USED true
#endif

struct pool_block {
	struct pool_block *next;
};
static _Thread_local struct {
	struct pool_block *free[POOL_CLASSES + 1];
	size_t bytes;
	bool on;
} pool;

void
message_pool_start(void)
{
	pool.on = POOL_USED;
}

void
message_pool_clear(void)
{
	for (unsigned i = 0; i <= POOL_CLASSES; i++) {
		for (struct pool_block *b = pool.free[i], *next; b != NULL; b = next) {
			next = b->next;
			free(b);
		}
		pool.free[i] = NULL;
	}
	pool.bytes = 0;
}

void
message_pool_stop(void)
{
	message_pool_clear();
	pool.on = false;
}

static struct message *
block_new(size_t bytes)
{
	size_t class = (bytes + POOL_STEP - 1) / POOL_STEP;
	struct pool_block *b;

	if (class > POOL_CLASSES)
		return malloc(bytes);
	if ((b = pool.free[class]) == NULL)
		return malloc(class * POOL_STEP);
	pool.free[class] = b->next;
	pool.bytes -= class * POOL_STEP;
	return (struct message *)(void *)b;
}

static void
block_free(struct message *msg)
{
	size_t class = (message_size(msg) + POOL_STEP - 1) / POOL_STEP;
	struct pool_block *b = (struct pool_block *)(void *)msg;

	if (!pool.on || class > POOL_CLASSES || pool.bytes + class * POOL_STEP > POOL_BYTES) {
		free(msg);
		return;
	}
	b->next = pool.free[class];
	pool.free[class] = b;
	pool.bytes += class * POOL_STEP;
}

/* One block: the struct, then Topic Name, properties and payload. */
static struct message *
heap_copy(const struct message *msg, uint32_t refs)
{
	struct message *copy;
	size_t bytes;
	char *at;

	if (__builtin_add_overflow(msg->payload_len, msg->props_len, &bytes) ||
	    __builtin_add_overflow(bytes, msg->topic_len + sizeof(*copy), &bytes) ||
	    (copy = block_new(bytes)) == NULL)
		return NULL;
	at = (char *)(copy + 1);
	atomic_init(&copy->refs, refs);
	copy->qos = msg->qos;
	copy->flags = (uint8_t)(msg->flags | MSG_HEAP);
	copy->topic_len = msg->topic_len;
	copy->props_len = msg->props_len;
	copy->payload_len = msg->payload_len;
	copy->expires_at_ms = msg->expires_at_ms;
	copy->author = msg->author != NULL ? identity_ref(msg->author) : NULL;
	copy->heap = NULL;
	copy->topic = at;
	if (msg->topic_len > 0)
		memcpy(at, msg->topic, msg->topic_len);
	copy->props = at += msg->topic_len;
	if (msg->props_len > 0)
		memcpy(at, msg->props, msg->props_len);
	copy->payload = at += msg->props_len;
	if (msg->payload_len > 0)
		memcpy(at, msg->payload, msg->payload_len);
	return copy;
}

struct message *
message_keep(struct message *msg)
{
	if (msg->flags & MSG_HEAP)
		return message_ref(msg);
	if (msg->heap == NULL) /* one reference for the memo, one for the caller */
		return msg->heap = heap_copy(msg, 2);
	return message_ref(msg->heap);
}

void
message_release_borrowed(struct message *msg)
{
	assert(!(msg->flags & MSG_HEAP));
	message_unref(msg->heap);
	msg->heap = NULL;
}

char *
message_props_new(const struct grapnel_property *props, size_t count, size_t *len, bool *expires,
    uint32_t *expiry)
{
	const struct grapnel_property *behind = props;
	size_t at = 0, more = 0;
	uint8_t *p;

	while (at < count &&
	    props[at].id != PROP_MESSAGE_EXPIRY) /* at most one: the answer was checked */
		at++;
	*expires = at < count;
	*expiry = *expires ? props[at].u.number : 0;
	if (*expires) {
		behind = props + at + 1;
		more = count - at - 1;
	}
	*len = mqtt_properties_size(props, at) + mqtt_properties_size(behind, more);
	if ((p = malloc(*len + 1)) == NULL)
		return NULL;
	mqtt_properties_put(mqtt_properties_put(p, props, at), behind, more);
	return (char *)p;
}

uint32_t
message_seconds_left(const struct message *msg)
{
	uint64_t now_ms = msg->flags & MSG_INTERVAL ? 0 : clock_ms();

	return msg->expires_at_ms > now_ms ? (uint32_t)((msg->expires_at_ms - now_ms + 999) / 1000)
					   : 0;
}

struct message *
message_ref(struct message *msg)
{
	assert(msg->flags & MSG_HEAP);
	atomic_fetch_add_explicit(&msg->refs, 1, memory_order_relaxed);
	return msg;
}

void
message_unref(struct message *msg)
{
	if (msg == NULL)
		return;
	assert(msg->flags & MSG_HEAP);
	/* The last one needs no locked instruction: nobody else can take a reference any more. */
	if (atomic_load_explicit(&msg->refs, memory_order_acquire) == 1 ||
	    atomic_fetch_sub_explicit(&msg->refs, 1, memory_order_acq_rel) == 1) {
		identity_unref(msg->author);
		block_free(msg);
	}
}
