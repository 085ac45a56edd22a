/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message - one Application Message: immutable, reference-counted, shared by all
 * queues, sessions and workers that hold it
 *
 * A PUBLISH that only passes through is a *borrowed* message on the stack whose
 * slices point into the read buffer; message_keep() makes (once) the heap copy
 * that a queue, another worker or the retained index can hold. So a QoS 0 message
 * to local receivers costs no allocation.
 *
 * Threads:   any; the count is atomic, everything else constant after message_keep.
 * Ownership: message_ref/message_unref. A borrowed message is valid only inside the
 *            call that gave it and is never ref'd itself.
 */
#ifndef BROKER_CORE_MESSAGE_H
#define BROKER_CORE_MESSAGE_H

#include <grapnel/hooks.h>
#include <stdatomic.h>

/* Where a Client comes in: one for all identities that share it. */
struct site {
	_Atomic uint32_t refs;
	struct grapnel_str mountpoint, listener;
	char bytes[];
};
struct site *site_new(struct grapnel_str mountpoint, struct grapnel_str listener); /* one reference; NULL: no memory */
struct site *site_ref(struct site *site);
void site_unref(struct site *site); /* NULL is fine */

/*
 * Who wrote a message or owns a session: kept with it, so that rights can be asked again later. One block, since there is
 * one per session: the strings follow, found by their lengths.
 */
struct identity {
	_Atomic uint32_t refs;
	uint16_t client_id_len, username_len;
	struct site *site;
	uint64_t session_generation;
	uint16_t attribute_count;
	uint8_t peer_len;
	uint8_t protocol;
	bool superuser : 1, anonymous : 1, has_username : 1;
	uint8_t source : 3;	/* enum grapnel_identity_source */
	uint8_t own_count;	/* the first attributes: of the connection itself, which no login changes */
	char bytes[]; /* client id, user name, peer, NUL, attributes */
};
#define IDENTITY_ATTRIBUTES_MAX 65535u
/* A deep copy with one reference. Of values: client_id … attribute_count, protocol, superuser, anonymous and identity_source, but not what site says. own_count is 0. NULL: no memory. */
struct identity *identity_new(const struct grapnel_client_info *values, struct site *site);
struct identity *identity_ref(struct identity *id);
void identity_unref(struct identity *id); /* NULL is fine */
const struct grapnel_pair *identity_attributes(const struct identity *id);
static inline struct grapnel_str
identity_client_id(const struct identity *id)
{
	return (struct grapnel_str){ id->bytes, id->client_id_len };
}
static inline struct grapnel_str
identity_username(const struct identity *id) /* data NULL: none */
{
	return (struct grapnel_str){ id->has_username ? id->bytes + id->client_id_len : NULL, id->username_len };
}
static inline struct grapnel_str
identity_peer(const struct identity *id) /* with NUL behind it */
{
	return (struct grapnel_str){ id->bytes + id->client_id_len + id->username_len, id->peer_len };
}

enum message_flags {
	MSG_RETAIN = 1u << 0,	/* RETAIN was set on the PUBLISH */
	MSG_WILL = 1u << 1,
	MSG_UTF8 = 1u << 2,	/* Payload Format Indicator 1 */
	MSG_HEAP = 1u << 3,	/* not borrowed */
	MSG_EXPIRES = 1u << 4,
	MSG_INTERVAL = 1u << 5, /* a Will Message before it is published: expires_at_ms is how long, not when */
};

struct message {
	_Atomic uint32_t refs;
	uint8_t qos, flags;
	uint16_t topic_len;	/* with mountpoint */
	uint32_t props_len;	/* forwardable properties, encoded */
	uint32_t payload_len;
	const char *topic;
	const char *props;
	const char *payload;
	uint64_t expires_at_ms;	/* monotonic; when MSG_EXPIRES (but MSG_INTERVAL) */
	struct identity *author; /* NULL: the broker itself; borrowed while borrowed, owned in the heap */
	union {
		struct message *heap;		 /* borrowed: the copy that message_keep made */
		_Atomic uint64_t author_checked; /* heap, retained: rights_generation in which its author's right was good */
	};
};

/*
 * The heap copy of a message, with one more reference for the caller: of a borrowed one the copy made at the
 * first call, of a heap one itself. NULL: no memory.
 */
struct message *message_keep(struct message *msg);
/* End of a borrowed message: drops the reference message_keep's memo holds. */
void message_release_borrowed(struct message *msg);
struct message *message_ref(struct message *msg); /* heap only */
void message_unref(struct message *msg);	  /* heap only; NULL is fine */

/*
 * The block of properties that a plugin wants a message to have, on the heap; NULL: no memory. The Message Expiry Interval
 * travels as a deadline, not in the block: *expires says whether there is one, *expiry how long (seconds).
 */
char *message_props_new(const struct grapnel_property *props, size_t count, size_t *len, bool *expires, uint32_t *expiry);

/* This thread keeps the memory of small messages it frees, up to 256 KiB of it, for those it makes next. */
void message_pool_start(void);
void message_pool_clear(void);
void message_pool_stop(void);

/* A borrowed message with the same content, to change and keep; it must not outlive msg. Another thread may be counting in that. */
static inline struct message
message_view(const struct message *msg)
{
	return (struct message){ .qos = msg->qos, .flags = (uint8_t)(msg->flags & ~MSG_HEAP), .topic_len = msg->topic_len,
		.props_len = msg->props_len, .payload_len = msg->payload_len, .topic = msg->topic, .props = msg->props,
		.payload = msg->payload, .expires_at_ms = msg->expires_at_ms, .author = msg->author };
}
static inline struct grapnel_str
message_topic(const struct message *msg)
{
	return (struct grapnel_str){ msg->topic, msg->topic_len };
}
/* Bytes this message costs, for limits. */
static inline size_t
message_size(const struct message *msg)
{
	return sizeof(*msg) + msg->topic_len + msg->props_len + msg->payload_len;
}
/*
 * How many seconds it has left [MQTT-3.3.2-6], rounded up; it has MSG_EXPIRES. By the clock, not by a worker's now_ms: that may
 * be behind the one of the worker that received the message, which would leave with more than it came with.
 */
uint32_t message_seconds_left(const struct message *msg);
static inline bool
message_expired(const struct message *msg, uint64_t now_ms)
{
	return (msg->flags & MSG_EXPIRES) && now_ms >= msg->expires_at_ms;
}

#endif
