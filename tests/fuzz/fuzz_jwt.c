/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a token, as the claims of one with a right signature, and as a JWK Set. What is a token has the shape of one, what
 * is let in has an end that lies ahead, and rights that were understood compile.
 */
#include "../../plugins/auth-jwt/claims.h"
#include "../../plugins/auth-jwt/jwk.h"
#include "../../plugins/auth-jwt/rights.h"
#include "../../plugins/auth-jwt/token.h"
#include "core/acl.h"

#include <stdlib.h>
#include <string.h>

#define NOW INT64_C(1700000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void
check_rights(const json_t *claims)
{
	static const struct grapnel_host host = { .size = sizeof(host),
		.rules_compile = acl_rules_compile,
		.rules_unref = acl_rules_unref };
	static char username[] = "sub", superuser[] = "admin", mountpoint[] = "/m/p", acl[] = "acl",
		    limit[] = "limits", tenant[] = "tenant";
	const struct rights_map map = { username, superuser, mountpoint, acl, limit,
		{ { tenant, tenant } }, 1 };
	struct grant g;

	grant_init(&g, &host);
	if (rights_fill(&map, claims, &g) == NULL && grant_answer(&g, GRAPNEL_STR("fuzz")) != NULL)
		must(g.answer.username.len > 0 && g.answer.rules != NULL);
	grant_fini(&g);
}

static void
check_claims(const json_t *claims)
{
	const struct grapnel_client_info client = {
		.size = sizeof(client), .client_id = GRAPNEL_STR("c"), .username = GRAPNEL_STR("u")
	};
	struct claims_policy policy = { .require_exp = true, .leeway = 10 };
	char error[128];
	int64_t valid_until;

	must(claims_policy_add(
	    &policy, GRAPNEL_STR("/a/b=%c"), TEMPLATE_CLIENT, error, sizeof(error)));
	for (size_t n = 2; n-- > 0; policy.check_count = n) /* with the claim, and without */
		if (claims_check(&policy, claims, NOW, &client, &valid_until) == NULL)
			must(valid_until > NOW && valid_until <= CLAIMS_LAST_TIME + 10);
	policy.check_count = 1;
	claims_policy_fini(&policy);
	check_rights(claims);
}

static void
check_token(struct grapnel_str text)
{
	struct token t;
	json_t *claims;

	if (token_read(&t, text) == NULL) {
		must(token_has_shape(text) && t.alg != NULL);
		must(!t.has_kid || strlen(t.kid) <= KEY_MAX_KID);
		must(t.signature.len > 0 && t.signed_part.len + 1 + t.signature.len == text.len);
		claims = token_claims(&t);
		if (claims != NULL)
			check_claims(claims);
		json_decref(claims);
	}
}

static void
check_jwks(struct grapnel_str text)
{
	const struct key_limits limits = { .min_rsa_bits = 1024, .min_secret_bytes = 1 };
	struct keyset *set = keyset_new(8);
	struct jwk_report report;
	char error[256];

	must(set != NULL);
	if (jwk_set_read(set, text, true, &limits, &report, error, sizeof(error)))
		must(set->count > 0 && report.used > 0);
	must(set->count <= 8);
	keyset_unref(set);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of the exact size, so that ASan sees a read past it. */
	char *copy = malloc(size > 0 ? size : 1);
	struct grapnel_str text = { copy, size };
	json_t *claims;

	must(copy != NULL);
	memcpy(copy, data, size);
	check_token(text);
	check_jwks(text);
	claims = json_loadb(copy, size, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(claims))
		check_claims(claims);
	json_decref(claims);
	free(copy);
	return 0;
}
