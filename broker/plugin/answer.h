/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer - checked, deep copies of what plugins answer
 *
 * Threads:   answer_new on any; an answer then belongs to the worker of its request.
 * Ownership: one owner, answer_free. rules of an auth answer are a reference of the answer's.
 */
#ifndef BROKER_PLUGIN_ANSWER_H
#define BROKER_PLUGIN_ANSWER_H

#include "hooks.h"

enum answer_kind { ANSWER_AUTH = 1, ANSWER_ACL, ANSWER_PUBLISH, ANSWER_SUBSCRIBE, ANSWER_ACK, ANSWER_PSK };
enum answer_kind answer_kind(enum hook h);
const char *answer_kind_name(
    enum answer_kind kind); /* "auth" ..., as in the names of the host's functions */

struct answer {
	struct answer *next; /* of the same decision */
	enum answer_kind kind;
	bool heap; /* else it lies in the space it was given */
	union {
		struct grapnel_auth_answer auth;
		struct grapnel_acl_answer acl;
		struct grapnel_publish_answer publish;
		struct grapnel_subscribe_answer subscribe;
		struct grapnel_ack_answer ack;
		struct grapnel_psk_answer psk; /* its key is wiped at the end */
	} u;
	struct grapnel_client_limits limits; /* of auth */
	_Alignas(16) char bytes[];
};

/*
 * @param from   The SDK's struct of that kind, as a plugin gave it: checked, not trusted.
 * @param space  NULL, or memory aligned for anything that is used when the answer fits.
 * @return GRAPNEL_OK; GRAPNEL_EINVAL with *why; GRAPNEL_ENOMEM.
 */
int answer_new(struct answer **out, enum answer_kind kind, const void *from, void *space,
    size_t space_len, const char **why);
void answer_free(struct answer *a); /* NULL is fine */
/*
 * Two ALLOWs about one client, or one right, of which both count: later names and attributes replace earlier ones, limits and
 * times are the narrower of both, rules of the first stand before those of the second. Heap; NULL: no memory, or rule sets
 * that cannot be put together.
 */
struct answer *answer_together(const struct answer *first, const struct answer *then);

/* What a decision shows when nobody attached anything. */
extern const struct grapnel_auth_answer answer_no_auth;
extern const struct grapnel_acl_answer answer_no_acl;
extern const struct grapnel_publish_answer answer_no_publish;
extern const struct grapnel_subscribe_answer answer_no_subscribe;
extern const struct grapnel_ack_answer answer_no_ack;
extern const struct grapnel_psk_answer answer_no_psk;

#endif
