/* SPDX-License-Identifier: Apache-2.0 */
/* answer_together - what two plugins that must both allow say as one */
#include "answer.h"
#include "core/acl.h"

#include <stdlib.h>
#include <string.h>

/* 0 is "nothing said". */
static uint64_t
narrower(uint64_t a, uint64_t b)
{
	return a == 0 || (b != 0 && b < a) ? b : a;
}

static bool
same(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Those of first that then does not have, and then's. Heap, borrowing the strings. */
static struct grapnel_pair *
attributes(
    const struct grapnel_auth_answer *first, const struct grapnel_auth_answer *then, size_t *count)
{
	struct grapnel_pair *out =
	    calloc(first->attribute_count + then->attribute_count + 1, sizeof(*out));

	*count = 0;
	for (size_t i = 0; out != NULL && i < first->attribute_count; i++) {
		size_t j = 0;

		while (j < then->attribute_count &&
		    !same(first->attributes[i].name, then->attributes[j].name))
			j++;
		if (j == then->attribute_count)
			out[(*count)++] = first->attributes[i];
	}
	for (size_t i = 0; out != NULL && i < then->attribute_count; i++)
		out[(*count)++] = then->attributes[i];
	return out;
}

static struct grapnel_client_limits
limits(const struct grapnel_client_limits *a, const struct grapnel_client_limits *b)
{
	struct grapnel_client_limits l = *a;

	l.max_queued_messages = (uint32_t)narrower(a->max_queued_messages, b->max_queued_messages);
	l.max_inflight = (uint32_t)narrower(a->max_inflight, b->max_inflight);
	l.max_packet_size = (uint32_t)narrower(a->max_packet_size, b->max_packet_size);
	l.max_session_expiry = (uint32_t)narrower(a->max_session_expiry, b->max_session_expiry);
	l.message_rate = (uint32_t)narrower(a->message_rate, b->message_rate);
	l.byte_rate = narrower(a->byte_rate, b->byte_rate);
	l.max_queued_bytes = narrower(a->max_queued_bytes, b->max_queued_bytes);
	l.max_qos_plus_one = (uint8_t)narrower(a->max_qos_plus_one, b->max_qos_plus_one);
	return l;
}

static struct answer *
auth_together(const struct grapnel_auth_answer *first, const struct grapnel_auth_answer *then)
{
	struct grapnel_auth_answer sum = *then;
	struct grapnel_client_limits both;
	struct grapnel_rules *joined = NULL;
	struct grapnel_pair *pairs = attributes(first, then, &sum.attribute_count);
	struct answer *out = NULL;
	const char *why;

	if (pairs == NULL)
		return NULL;
	sum.attributes = pairs;
	sum.superuser |= first->superuser;
	sum.no_store |= first->no_store;
	sum.cache_ttl_ms = (uint32_t)narrower(first->cache_ttl_ms, then->cache_ttl_ms);
	sum.valid_until =
	    (int64_t)narrower((uint64_t)first->valid_until, (uint64_t)then->valid_until);
	if (sum.username.data == NULL)
		sum.username = first->username;
	if (sum.mountpoint.data == NULL)
		sum.mountpoint = first->mountpoint;
	if (sum.response_information.data == NULL)
		sum.response_information = first->response_information;
	if (first->limits != NULL && then->limits != NULL) {
		both = limits(first->limits, then->limits);
		sum.limits = &both;
	} else if (first->limits != NULL) {
		sum.limits = first->limits;
	}
	if (first->rules != NULL && then->rules != NULL)
		sum.rules = joined = acl_rules_join(first->rules, then->rules);
	else if (first->rules != NULL)
		sum.rules = first->rules;
	if ((first->rules == NULL && then->rules == NULL) || sum.rules != NULL)
		(void)answer_new(&out, ANSWER_AUTH, &sum, NULL, 0, &why);
	acl_rules_unref(joined); /* out has its own reference */
	free(pairs);
	return out;
}

static struct answer *
acl_together(const struct grapnel_acl_answer *first, const struct grapnel_acl_answer *then)
{
	struct grapnel_acl_answer sum = *then;
	struct answer *out = NULL;
	const char *why;

	sum.flags = ((first->flags | then->flags) & ~(uint32_t)GRAPNEL_ACL_COVERED) |
	    (first->flags & then->flags & GRAPNEL_ACL_COVERED);
	sum.max_qos_plus_one = (uint8_t)narrower(first->max_qos_plus_one, then->max_qos_plus_one);
	sum.no_store |= first->no_store;
	if (first->cache_ttl_ms < sum.cache_ttl_ms) /* here 0 says that it must not be kept */
		sum.cache_ttl_ms = first->cache_ttl_ms;
	sum.same_for = (struct grapnel_str){ NULL, 0 };
	(void)answer_new(&out, ANSWER_ACL, &sum, NULL, 0, &why);
	return out;
}

struct answer *
answer_together(const struct answer *first, const struct answer *then)
{
	return first->kind == ANSWER_AUTH ? auth_together(&first->u.auth, &then->u.auth)
					  : acl_together(&first->u.acl, &then->u.acl);
}
