/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims - whether the claims of a token, whose signature is right, let this client in now.  RFC 7519 section 4.1
 *
 * Threads:   a policy is immutable; any.
 * Ownership: claims_policy_fini frees what the policy has.
 */
#ifndef PLUGINS_AUTH_JWT_CLAIMS_H
#define PLUGINS_AUTH_JWT_CLAIMS_H

#include "../common/template.h"

#include <grapnel/plugin.h>
#include <jansson.h>

#define CLAIMS_MAX_CHECKS 32u
#define CLAIMS_MAX_NAMES  32u /* issuers, audiences */
#define CLAIMS_TEXT_SIZE  24
#define CLAIMS_LAST_TIME  INT64_C(253402300799) /* the end of the year 9999 */

struct claims_check {
	char *claim;
	struct template *is;
};
struct claims_policy {
	struct grapnel_str issuers[CLAIMS_MAX_NAMES], audiences[CLAIMS_MAX_NAMES]; /* of the options: borrowed */
	size_t issuer_count, audience_count;
	struct claims_check checks[CLAIMS_MAX_CHECKS];
	size_t check_count;
	int64_t leeway; /* seconds */
	bool require_exp;
};

/* "claim=template"; false: error says why. */
bool claims_policy_add(struct claims_policy *p, struct grapnel_str text, unsigned allowed, char *error, size_t error_size);
void claims_policy_fini(struct claims_policy *p);

/*
 * now: seconds since 1970. *valid_until: exp and the leeway; 0 without exp.
 * @return NULL: let in; or why not, a constant that may be shown to the client.
 */
const char *claims_check(const struct claims_policy *p, const json_t *claims, int64_t now, const struct grapnel_client_info *client,
    int64_t *valid_until);

/* Of one of the issuers of the policy? */
bool claims_issuer_is_ours(const struct claims_policy *p, const json_t *claims);

/* A claim by its name, or by a JSON Pointer (RFC 6901) when the name begins with "/". NULL: absent, or null. */
const json_t *claims_get(const json_t *claims, const char *name);
/* A string, an integer or a truth value as text; .data NULL: it is something else. room is for numbers. */
struct grapnel_str claims_text(const json_t *value, char room[CLAIMS_TEXT_SIZE]);

#endif
