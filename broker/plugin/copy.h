/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy - questions that a plugin may keep: one block each
 *
 * A hook gets pointers, and may hand them to another thread before it returns PENDING. So what it
 * gets is the host's own copy from the start, in a block that a worker reuses: a hook that
 * answers at once costs no allocation.
 *
 * Threads:   a question belongs to one worker; plugins read it on any thread until their request
 *            is resolved.
 * Ownership: counted by that worker. Secrets in it are wiped when the last reference goes.
 */
#ifndef BROKER_PLUGIN_COPY_H
#define BROKER_PLUGIN_COPY_H

#include "hooks.h"

/* Bytes being laid out behind a struct. With p NULL only `len` is counted. */
struct layout {
	char *p;
	size_t len;
};
struct grapnel_str layout_str(struct layout *l, struct grapnel_str s);
/* Attributes first: they need alignment, so the caller starts at an aligned place. */
void layout_client(
    struct layout *l, const struct grapnel_client_info *from, struct grapnel_client_info *to);
void layout_message(
    struct layout *l, const struct grapnel_message_info *from, struct grapnel_message_info *to);

struct question {
	struct question *next; /* while in the pool */
	uint32_t refs;
	enum hook hook;
	bool secret;
	size_t capacity; /* of bytes */
	size_t used;
	union {
		struct grapnel_authenticate authenticate;
		struct grapnel_auth_exchange exchange;
		struct grapnel_revalidate revalidate;
		struct grapnel_acl_check acl;
		struct grapnel_message_publish publish;
		struct grapnel_message_deliver deliver;
		struct grapnel_client_subscribe subscribe;
		struct grapnel_message_acknowledge acknowledge;
		struct grapnel_tls_psk psk;
	} u;
	struct grapnel_client_info client;
	struct grapnel_message_info message;
	_Alignas(16) char bytes[];
};

/* Blocks ready for use; per worker. */
struct question_pool {
	struct question *small;
	unsigned small_count;
	struct question *large; /* at most one, for payloads */
};

/* One reference; NULL: no memory. q: the SDK's struct of that hook. */
struct question *question_new(struct question_pool *pool, enum hook h, const void *q);
/*
 * The same question as a plugin changed it: answer is what it answered to message_publish or
 * message_deliver.
 */
struct question *question_published(struct question_pool *pool, const struct question *q,
    const struct grapnel_publish_answer *answer);
struct question *question_subscribed(struct question_pool *pool, const struct question *q,
    const struct grapnel_subscribe_answer *answer);
void question_unref(struct question_pool *pool, struct question *q); /* NULL is fine */
void question_pool_clear(struct question_pool *pool);

#endif
