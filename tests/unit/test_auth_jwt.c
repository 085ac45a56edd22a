/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pure parts of auth-jwt, with the examples of RFC 7515 (appendix A), RFC 7517 and RFC 7519 and a clock that stands still.
 */
#include "../../plugins/auth-jwt/base64url.h"
#include "../../plugins/auth-jwt/claims.h"
#include "../../plugins/auth-jwt/jwk.h"
#include "../../plugins/auth-jwt/rights.h"
#include "../../plugins/auth-jwt/signature.h"
#include "../../plugins/auth-jwt/token.h"
#include "core/acl.h"

#include <check.h>
#include <jwt.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOE_EXP INT64_C(1300819380)
#define JOE                                                                                        \
	"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0" \
	"cn"                                                                                       \
	"VlfQ"

/* RFC 7515 A.1, which is RFC 7519 section 3.1, to A.4. */
#define A1_JWK                                                                   \
	"{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-" \
	"1qS0gZH75aKtMN3Yj0iPS4hcgUuTwj"                                         \
	"AzZr1Z9CAow\"}"
#define A1_TOKEN                                        \
	"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE \
	".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define A2_JWK                                                                             \
	"{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_"                      \
	"wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEz"                               \
	"P1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-" \
	"bSf63kpaSHSXndS5z5rexMdbBYUs"                                                     \
	"LA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_"           \
	"I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9ia"                                           \
	"GNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ\",\"e\":\"AQAB\"}"
#define A2_TOKEN                                                                                   \
	"eyJhbGciOiJSUzI1NiJ9." JOE                                                                \
	".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_"   \
	"O8W2Fp5jujGbds9uJdbF9CU"                                                                  \
	"Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_"                                                       \
	"nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d"               \
	"O--xi12jzDwusC-"                                                                          \
	"eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVr" \
	"Bp0ig"                                                                                    \
	"cN_IoypGlUPQGe77Rw"
#define A3_JWK                                                                                     \
	"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"," \
	"\"y\":\"x_FEzRu9m36"                                                                      \
	"HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}"
#define A3_TOKEN                    \
	"eyJhbGciOiJFUzI1NiJ9." JOE \
	".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
#define A4_JWK                                                                          \
	"{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":"                                      \
	"\"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1j"        \
	"SfS9tsz4qUxcWceqwQGk\",\"y\":\"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-" \
	"x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubm"                                              \
	"f63e3kyMj2\"}"
#define A4_TOKEN                                                                                   \
	"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_"                     \
	"UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB"                                                 \
	"34XO0aw_"                                                                                 \
	"7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLze" \
	"O_Jn"
/* RFC 7519 section 6.1 */
#define UNSECURED "eyJhbGciOiJub25lIn0." JOE "."
/* RFC 7517 A.1 */
#define A1_SET                                                                                     \
	"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":"                                      \
	"\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\",\"y\":"                                   \
	"\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\",\"use\":\"enc\",\"kid\":\"1\"},{\"kty\":" \
	"\"RSA\",\"n\":\"0vx7ag"                                                                   \
	"oebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"        \
	"BJECPebWKRXjBZCiFV4n3oknjhMst"                                                            \
	"n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_"                              \
	"FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL"                                     \
	"5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"                \
	"xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzK"                                                     \
	"nqDKgw\",\"e\":\"AQAB\",\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}]}"
/* RFC 8037 A.2 */
#define ED25519                                                       \
	"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_" \
	"7TyWQHOg7hcvPapiMlrwaaPJUGmro\"}"

static const struct key_limits limits = { .min_rsa_bits = 2048, .min_secret_bytes = 32 };
static const struct token_algs all_algs;

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static struct keyset *
keys(const char *jwk)
{
	struct keyset *set = keyset_new(20);
	struct jwk_report report;
	char error[256] = "";

	ck_assert_ptr_nonnull(set);
	ck_assert_msg(
	    jwk_set_read(set, str(jwk), true, &limits, &report, error, sizeof(error)), "%s", error);
	return set;
}

/* All of what a login does, at a time. NULL: let in. */
static const char *
check_at(
    const char *text, const struct keyset *set, const struct claims_policy *policy, int64_t now)
{
	const struct grapnel_client_info client = { .size = sizeof(client),
		.client_id = GRAPNEL_STR("c"),
		.username = GRAPNEL_STR("joe") };
	const struct key *found[KEYSET_MAX_TRIES];
	struct token t;
	const char *why = token_read(&t, str(text));
	int64_t valid_until;
	json_t *claims;
	size_t n;

	if (why != NULL)
		return why;
	if (token_keys(&t, set, &all_algs, found, &n, &why) != KEYSET_FOUND)
		return why != NULL ? why : "no key";
	if (token_verify(&t, found, n) == NULL)
		return "signature";
	claims = token_claims(&t);
	why = claims != NULL ? claims_check(policy, claims, now, &client, &valid_until) : "claims";
	if (why == NULL)
		ck_assert_int_eq(valid_until, JOE_EXP + policy->leeway);
	json_decref(claims);
	return why;
}

/* ------------------------------------------------------------------- RFC 7515, RFC 7519 */

static const struct {
	const char *jwk, *token;
} examples[] = {
	{ A1_JWK, A1_TOKEN },
	{ A2_JWK, A2_TOKEN },
	{ A3_JWK, A3_TOKEN },
};

START_TEST(an_example_of_the_rfc_is_let_in_until_it_expires)
{
	struct keyset *set = keys(examples[_i].jwk);
	struct claims_policy policy = { .require_exp = true };
	char *forged = strdup(examples[_i].token);

	ck_assert_ptr_null(check_at(examples[_i].token, set, &policy, JOE_EXP - 1));
	ck_assert_str_eq(
	    check_at(examples[_i].token, set, &policy, JOE_EXP), "the token has expired");
	policy.leeway = 60;
	ck_assert_ptr_null(check_at(examples[_i].token, set, &policy, JOE_EXP + 59));
	ck_assert_str_eq(
	    check_at(examples[_i].token, set, &policy, JOE_EXP + 60), "the token has expired");
	for (size_t k = 0; k < sizeof(examples) / sizeof(examples[0]); k++)
		if (k != (size_t)_i)
			ck_assert_ptr_nonnull(
			    check_at(examples[k].token, set, &policy, JOE_EXP - 1));
	/* Each character counts. */
	for (size_t at = strlen(forged) - 90; at < strlen(forged); at += 7) {
		char was = forged[at];

		forged[at] = was == 'A' ? 'B' : 'A';
		if (was != '.')
			ck_assert_ptr_nonnull(check_at(forged, set, &policy, JOE_EXP - 1));
		forged[at] = was;
	}
	ck_assert_ptr_null(check_at(forged, set, &policy, JOE_EXP - 1));
	free(forged);
	keyset_unref(set);
}
END_TEST

START_TEST(examples_that_are_no_login_are_refused)
{
	const struct claims_policy policy = { .require_exp = false };
	struct keyset *set = keys(A4_JWK), *a1 = keys(A1_JWK);

	ck_assert_int_eq(set->keys[0]->kind, KEY_P521);
	ck_assert_ptr_nonnull(check_at(A4_TOKEN, set, &policy, 0)); /* its payload is no JSON */
	ck_assert_str_eq(check_at(UNSECURED, a1, &policy, 0), "this is no token");
	ck_assert_str_eq(check_at(UNSECURED "AA", a1, &policy, 0),
	    "the algorithm of the token is not known here");
	/* encrypted (RFC 7519 A.1) and nested (A.2): five parts */
	ck_assert_str_eq(
	    check_at("eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.AAAA.AAAA.AAAA.AAAA", a1,
		&policy, 0),
	    "this is no token");
	keyset_unref(set);
	keyset_unref(a1);
}
END_TEST

START_TEST(the_jwk_set_of_the_rfc_is_read)
{
	struct keyset *set = keyset_new(20);
	struct jwk_report report;
	char error[256];

	ck_assert(jwk_set_read(set, str(A1_SET), false, &limits, &report, error, sizeof(error)));
	ck_assert_uint_eq(report.used, 1);
	ck_assert_uint_eq(report.left_out, 1);
	ck_assert_str_eq(report.first, "its use is not sig");
	ck_assert_str_eq(set->keys[0]->kid, "2011-04-29");
	ck_assert_int_eq(set->keys[0]->kind, KEY_RSA);
	ck_assert(key_fits(set->keys[0], key_alg_find(str("RS256"))));
	ck_assert(!key_fits(set->keys[0], key_alg_find(str("RS512"))));
	ck_assert(jwk_set_read(set, str(ED25519), false, &limits, &report, error, sizeof(error)));
	ck_assert_int_eq(set->keys[1]->kind, KEY_ED25519);
	ck_assert((key_alg_find(str("EdDSA")) != NULL) == (jwt_str_alg("EdDSA") != JWT_ALG_INVAL));
	ck_assert(!jwk_set_read(set, str(A1_JWK), false, &limits, &report, error, sizeof(error)));
	ck_assert_str_eq(error, "no key in it can be used: a secret is not taken from a URL");
	keyset_unref(set);
}
END_TEST

/* ------------------------------------------------------------------------- confusion */

static char *
hs256(const char *header_and_claims, const void *key, size_t key_len)
{
	unsigned char mac[EVP_MAX_MD_SIZE];
	char encoded[64], *out;
	size_t len;

	ck_assert_ptr_nonnull(EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, key, key_len,
	    (const unsigned char *)header_and_claims, strlen(header_and_claims), mac, sizeof(mac),
	    &len));
	ck_assert_int_eq(EVP_EncodeBlock((unsigned char *)encoded, mac, (int)len), 44);
	encoded[43] = '\0';
	for (char *c = encoded; *c != '\0'; c++)
		*c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
	ck_assert_int_gt(asprintf(&out, "%s.%s", header_and_claims, encoded), 0);
	return out;
}

START_TEST(the_pem_of_a_public_key_is_no_secret)
{
	struct keyset *set = keys(A2_JWK);
	const struct key *rsa = set->keys[0];
	char *token = hs256("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." JOE, rsa->data, rsa->len);
	const struct claims_policy policy = { .require_exp = true };
	struct token t;
	jwt_t *jwt = NULL;

	/* What libjwt does by itself, so that this test shows what it is about. */
	ck_assert_int_eq(jwt_decode(&jwt, token, rsa->data, (int)rsa->len), 0);
	jwt_free(jwt);
	ck_assert_str_eq(check_at(token, set, &policy, 0),
	    "the algorithm of the token does not go with the key");
	/* Nor behind the first door. */
	ck_assert_ptr_null(token_read(&t, str(token)));
	ck_assert_ptr_null(token_verify(&t, &rsa, 1));
	ck_assert(!signature_is_right(&t, rsa));
	free(token);
	keyset_unref(set);
}
END_TEST

START_TEST(a_secret_that_is_pem_or_short_is_refused)
{
	struct keyset *set = keys(A2_JWK);
	struct grapnel_str none = { NULL, 0 };
	char error[256];

	ck_assert_ptr_null(key_from_secret(
	    (struct grapnel_str){ (const char *)set->keys[0]->data, set->keys[0]->len }, none,
	    &limits, error, sizeof(error)));
	ck_assert_ptr_null(key_from_secret(
	    str("0123456789012345678901234567890"), none, &limits, error, sizeof(error)));
	ck_assert_ptr_null(
	    key_from_secret(str(""), none, &(struct key_limits){ 0 }, error, sizeof(error)));
	keyset_unref(set);
}
END_TEST

/* ------------------------------------------------------------------------------ keys */

START_TEST(a_kid_chooses_among_keys)
{
	struct keyset *set = keyset_new(40);
	const struct key *found[KEYSET_MAX_TRIES];
	const struct key_alg *hs = key_alg_find(str("HS256")), *rs = key_alg_find(str("RS256"));
	struct grapnel_str none = { NULL, 0 };
	char secret[40], name[8], error[256];
	size_t n;

	for (int i = 0; i < 9; i++) {
		snprintf(secret, sizeof(secret), "secret %032d", i);
		snprintf(name, sizeof(name), "k%d", i);
		ck_assert(keyset_add(
		    set, key_from_secret(str(secret), str(name), &limits, error, sizeof(error))));
	}
	ck_assert_int_eq(keyset_find(set, str("k3"), hs, found, &n), KEYSET_FOUND);
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(found[0]->kid, "k3");
	ck_assert_int_eq(keyset_find(set, str("k3"), rs, found, &n), KEYSET_MISFIT);
	ck_assert_int_eq(keyset_find(set, str("k"), hs, found, &n), KEYSET_NONE);
	ck_assert_int_eq(keyset_find(set, str("k33"), hs, found, &n), KEYSET_NONE);
	ck_assert_int_eq(keyset_find(set, str(""), hs, found, &n), KEYSET_NONE);
	ck_assert_int_eq(keyset_find(set, none, hs, found, &n), KEYSET_TOO_MANY);
	ck_assert_int_eq(keyset_find(set, none, rs, found, &n), KEYSET_MISFIT);
	/* One without a name is for those that nobody else has. */
	ck_assert(keyset_add(set,
	    key_from_secret(
		str("a secret of thirty-two bytes ..."), none, &limits, error, sizeof(error))));
	ck_assert_int_eq(keyset_find(set, str("k33"), hs, found, &n), KEYSET_FOUND);
	ck_assert_ptr_null(found[0]->kid);
	ck_assert_int_eq(keyset_find(set, str("k3"), hs, found, &n), KEYSET_FOUND);
	ck_assert_uint_eq(n, 1);
	ck_assert_str_eq(found[0]->kid, "k3");
	keyset_unref(set);
}
END_TEST

START_TEST(a_set_is_bounded_and_has_a_key_once)
{
	struct keyset *set = keyset_new(1);
	struct grapnel_str none = { NULL, 0 };
	char error[256];

	for (int i = 0; i < 3; i++)
		ck_assert(keyset_add(set,
		    key_from_secret(str("a secret of thirty-two bytes ..."), none, &limits, error,
			sizeof(error))));
	ck_assert_uint_eq(set->count, 1);
	ck_assert(!keyset_add(set,
	    key_from_secret(
		str("a secret of thirty-two bytes ..!"), none, &limits, error, sizeof(error))));
	keyset_unref(set);
}
END_TEST

/* ------------------------------------------------------------------------------ times */

static const struct {
	const char *claims;
	int64_t now;
	const char *why; /* a part of it */
} times[] = {
	{ "{}", 1000, "no exp" },
	{ "{\"exp\":1001}", 1000, NULL },
	{ "{\"exp\":1000}", 1000, NULL },
	{ "{\"exp\":991}", 1000, NULL }, /* leeway 10 */
	{ "{\"exp\":990}", 1000, "expired" },
	{ "{\"exp\":990.9}", 1000, "expired" }, /* down */
	{ "{\"exp\":991.1}", 1000, NULL },
	{ "{\"exp\":-1}", 1000, "expired" },
	{ "{\"exp\":-9223372036854775808}", 1000, "expired" },
	{ "{\"exp\":9223372036854775807}", 1000, NULL },
	{ "{\"exp\":1e308}", 1000, NULL },
	{ "{\"exp\":-1e308}", 1000, "expired" },
	{ "{\"exp\":\"2000\"}", 1000, "no time" },
	{ "{\"exp\":null}", 1000, "no time" },
	{ "{\"exp\":true}", 1000, "no time" },
	{ "{\"exp\":[2000]}", 1000, "no time" },
	{ "{\"exp\":2000,\"nbf\":1010}", 1000, NULL },
	{ "{\"exp\":2000,\"nbf\":1011}", 1000, "not valid yet" },
	{ "{\"exp\":2000,\"nbf\":1010.1}", 1000, "not valid yet" }, /* up */
	{ "{\"exp\":2000,\"nbf\":9223372036854775807}", 1000, "not valid yet" },
	{ "{\"exp\":2000,\"nbf\":\"1\"}", 1000, "no time" },
	{ "{\"exp\":2000,\"iat\":1010}", 1000, NULL },
	{ "{\"exp\":2000,\"iat\":1011}", 1000, "in the future" },
	{ "{\"exp\":2000,\"iat\":{}}", 1000, "no time" },
};

START_TEST(times_are_compared_with_the_clock)
{
	const struct grapnel_client_info client = { .size = sizeof(client) };
	const struct claims_policy policy = { .require_exp = true, .leeway = 10 };
	json_t *claims = json_loads(times[_i].claims, 0, NULL);
	int64_t valid_until;
	const char *why = claims_check(&policy, claims, times[_i].now, &client, &valid_until);

	ck_assert_ptr_nonnull(claims);
	if (times[_i].why == NULL)
		ck_assert_msg(why == NULL, "%s: %s", times[_i].claims, why);
	else
		ck_assert_msg(why != NULL && strstr(why, times[_i].why) != NULL, "%s: %s",
		    times[_i].claims, why);
	if (why == NULL) {
		ck_assert_int_gt(valid_until, times[_i].now);
		ck_assert_int_le(valid_until, CLAIMS_LAST_TIME + policy.leeway);
	}
	json_decref(claims);
}
END_TEST

START_TEST(without_exp_there_is_no_end)
{
	const struct grapnel_client_info client = { .size = sizeof(client) };
	const struct claims_policy policy = { .require_exp = false };
	json_t *claims = json_loads("{}", 0, NULL);
	int64_t valid_until = 7;

	ck_assert_ptr_null(claims_check(&policy, claims, 1000, &client, &valid_until));
	ck_assert_int_eq(valid_until, 0);
	json_decref(claims);
}
END_TEST

/* ------------------------------------------------------------------------------ texts */

static const struct {
	const char *name, *is; /* NULL: absent */
} pointers[] = {
	{ "a", "1" },
	{ "/a", "1" },
	{ "/b/c", "x" },
	{ "/b/l/0", "first" },
	{ "/b/l/1", NULL },
	{ "/b/l/-1", NULL },
	{ "/b/l/0x", NULL },
	{ "/b/l/99999999999999999999999", NULL },
	{ "/b/l/-", NULL },
	{ "b/c", "with a slash" },
	{ "/b~1c", "with a slash" },
	{ "/t~0t", "tilde" },
	{ "/t~2t", NULL },
	{ "/t~", NULL },
	{ "/", "empty" },
	{ "", "empty" },
	{ "/a/b", NULL },
	{ "n", NULL },
	{ "/b/c/d", NULL },
	{ "https://example.com/is_root", "true" },
};

START_TEST(a_claim_is_found_by_name_or_pointer)
{
	json_t *claims = json_loads("{\"a\":1,\"b\":{\"c\":\"x\",\"l\":[\"first\"]},\"b/c\":\"with "
				    "a slash\",\"t~t\":\"tilde\",\"\":\"empty\","
				    "\"n\":null,\"https://example.com/is_root\":true}",
	    0, NULL);
	const json_t *value = claims_get(claims, pointers[_i].name);
	char room[CLAIMS_TEXT_SIZE];
	struct grapnel_str text;

	ck_assert_msg((value != NULL) == (pointers[_i].is != NULL), "%s", pointers[_i].name);
	if (value != NULL) {
		text = claims_text(value, room);
		ck_assert_uint_eq(text.len, strlen(pointers[_i].is));
		ck_assert_mem_eq(text.data, pointers[_i].is, text.len);
	}
	json_decref(claims);
}
END_TEST

static const struct {
	const char *text;
	int len; /* -1: malformed */
} encodings[] = {
	{ "", 0 },
	{ "A", -1 },
	{ "AA", 1 },
	{ "AB", -1 },
	{ "AAA", 2 },
	{ "AAB", -1 },
	{ "AAE", 2 },
	{ "AAAA", 3 },
	{ "____", 3 },
	{ "--__", 3 },
	{ "AA==", -1 },
	{ "AA=", -1 },
	{ "A+AA", -1 },
	{ "A/AA", -1 },
	{ "AA A", -1 },
	{ "AAA\n", -1 },
	{ "AA.A", -1 },
	{ "AAAAA", -1 },
	{ "AAA\xc3", -1 },
};

START_TEST(base64url_is_strict)
{
	unsigned char out[16];
	size_t len = 99;
	bool good = base64url_decode(encodings[_i].text, strlen(encodings[_i].text), out, &len);

	ck_assert_msg(good == (encodings[_i].len >= 0), "%s", encodings[_i].text);
	if (good)
		ck_assert_int_eq((int)len, encodings[_i].len);
	if (good)
		ck_assert(base64url_is(encodings[_i].text, strlen(encodings[_i].text)));
}
END_TEST

/* ----------------------------------------------------------------------------- rights */

static const struct {
	const char *acl;
	bool good;
	const char *may, *may_not; /* publish */
} acls[] = {
	{ "\"allow publish a/%c\"", true, "a/c", "a/d" },
	{ "\"allow publish a\\nallow publish b\"", true, "b", "c" },
	{ "[\"allow publish a\",\"allow publish b\"]", true, "b", "c" },
	{ "[\"allow publish a\\nallow all #\"]", false, NULL, NULL },
	{ "[{\"topic\":\"a/${clientid}/${username}\"}]", true, "a/c/joe", "a/c/c" },
	{ "[{\"topic\":\"a\",\"action\":\"subscribe\"}]", true, NULL, "a" },
	{ "[{\"permission\":\"deny\",\"topic\":\"a\"},{\"topic\":\"+\"}]", true, "b", "a" },
	{ "[{\"permission\":\"DENY\",\"action\":\"Publish\",\"topic\":\"a\",\"retain\":true,"
	  "\"qos\":[0,1,2]},{\"topic\":\"+\"}]",
	    true, "b", "a" },
	{ "[{\"permission\":\"deny\",\"topic\":\"a\",\"qos\":1}]", false, NULL, NULL },
	{ "[{\"topic\":\"a\",\"qos\":[1,0],\"retain\":false}]", true, "a", "b" },
	{ "[{\"topic\":\"a\",\"clientid_re\":\"^x\"}]", false, NULL, NULL },
	{ "[{\"topic\":\"a\\nallow all #\"}]", false, NULL, NULL },
	{ "[{\"topic\":\"eq a\"}]", false, NULL, NULL },
	{ "[{\"topic\":\"eq a\",\"action\":\"subscribe\"}]", true, NULL, "a" },
	{ "[{}]", false, NULL, NULL },
	{ "[[]]", false, NULL, NULL },
	{ "{\"pub\":[\"a/%u\"],\"sub\":[\"b\"]}", true, "a/joe", "b" },
	{ "{\"all\":[\"b\"]}", true, "b", "a" },
	{ "{\"pub\":[1]}", false, NULL, NULL },
	{ "{\"pub\":[],\"deny\":[]}", false, NULL, NULL },
	{ "{}", true, NULL, "a" },
	{ "[]", true, NULL, "a" },
	{ "null", true, NULL, "a" },
	{ "7", false, NULL, NULL },
};

START_TEST(rules_come_in_several_shapes)
{
	static const struct grapnel_host host = { .size = sizeof(host),
		.rules_compile = acl_rules_compile,
		.rules_unref = acl_rules_unref };
	json_t *acl = json_loads(acls[_i].acl, JSON_DECODE_ANY, NULL),
	       *claims = json_pack("{s:o}", "acl", acl);
	struct grapnel_rules_question q = { .size = sizeof(q),
		.action = GRAPNEL_PUBLISH,
		.client_id = GRAPNEL_STR("c"),
		.username = GRAPNEL_STR("joe") };
	struct rights_map map = { .acl = strdup("acl") };
	const struct grapnel_auth_answer *answer = NULL;
	struct grant g;

	ck_assert_ptr_nonnull(claims);
	grant_init(&g, &host);
	if (rights_fill(&map, claims, &g) == NULL)
		answer = grant_answer(&g, GRAPNEL_STR("test"));
	ck_assert_msg((answer != NULL) == acls[_i].good, "%s: %s", acls[_i].acl, g.error);
	if (answer != NULL) {
		ck_assert_ptr_nonnull(answer->rules);
		q.topic = str(acls[_i].may);
		if (acls[_i].may != NULL)
			ck_assert_int_eq(
			    acl_rules_check(answer->rules, &q, NULL, NULL), GRAPNEL_ALLOW);
		q.topic = str(acls[_i].may_not);
		ck_assert_int_ne(acl_rules_check(answer->rules, &q, NULL, NULL), GRAPNEL_ALLOW);
	}
	grant_fini(&g);
	rights_map_fini(&map);
	json_decref(claims);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("auth-jwt");
	TCase *t = tcase_create("rfc");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, an_example_of_the_rfc_is_let_in_until_it_expires, 0,
	    (int)(sizeof(examples) / sizeof(examples[0])));
	tcase_add_test(t, examples_that_are_no_login_are_refused);
	tcase_add_test(t, the_jwk_set_of_the_rfc_is_read);
	tcase_add_test(t, the_pem_of_a_public_key_is_no_secret);
	tcase_add_test(t, a_secret_that_is_pem_or_short_is_refused);
	tcase_add_test(t, a_kid_chooses_among_keys);
	tcase_add_test(t, a_set_is_bounded_and_has_a_key_once);
	tcase_add_loop_test(
	    t, times_are_compared_with_the_clock, 0, (int)(sizeof(times) / sizeof(times[0])));
	tcase_add_test(t, without_exp_there_is_no_end);
	tcase_add_loop_test(t, a_claim_is_found_by_name_or_pointer, 0,
	    (int)(sizeof(pointers) / sizeof(pointers[0])));
	tcase_add_loop_test(
	    t, base64url_is_strict, 0, (int)(sizeof(encodings) / sizeof(encodings[0])));
	tcase_add_loop_test(
	    t, rules_come_in_several_shapes, 0, (int)(sizeof(acls) / sizeof(acls[0])));
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
