/* SPDX-License-Identifier: Apache-2.0 */
#include "jwk.h"

#include "base64url.h"

#include <jansson.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/param_build.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_MAX_BYTES (KEY_MAX_RSA_BITS / 8)

static struct grapnel_str
member(const json_t *jwk, const char *name)
{
	const json_t *value = json_object_get(jwk, name);

	if (!json_is_string(value))
		return (struct grapnel_str){ NULL, 0 };
	return (struct grapnel_str){ json_string_value(value), json_string_length(value) };
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* The bytes of a member; 0: absent, malformed, or more than max. */
static size_t
bytes(const json_t *jwk, const char *name, unsigned char *out, size_t max)
{
	struct grapnel_str text = member(jwk, name);
	size_t len = 0;

	if (text.data == NULL || BASE64URL_ROOM(text.len) > BASE64URL_ROOM(max / 3 * 4 + 4) ||
	    !base64url_decode(text.data, text.len, out, &len))
		return 0;
	return len <= max ? len : 0;
}

static EVP_PKEY *
from_params(const char *type, OSSL_PARAM_BLD *build)
{
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;

	if (params == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	return pkey;
}

static EVP_PKEY *
rsa(const json_t *jwk)
{
	unsigned char n[BASE64URL_ROOM(RSA_MAX_BYTES / 3 * 4 + 4)], e[BASE64URL_ROOM(12)];
	size_t n_len = bytes(jwk, "n", n, RSA_MAX_BYTES), e_len = bytes(jwk, "e", e, 8);
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	BIGNUM *bn = BN_bin2bn(n, (int)n_len, NULL), *be = BN_bin2bn(e, (int)e_len, NULL);
	EVP_PKEY *pkey = NULL;

	if (n_len > 0 && e_len > 0 && build != NULL && bn != NULL && be != NULL &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn) == 1 &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, be) == 1)
		pkey = from_params("RSA", build);
	OSSL_PARAM_BLD_free(build);
	BN_free(bn);
	BN_free(be);
	return pkey;
}

static const struct {
	const char *crv, *group;
	size_t size;
} curves[] = {
	{ "P-256", SN_X9_62_prime256v1, 32 },
	{ "P-384", SN_secp384r1, 48 },
	{ "P-521", SN_secp521r1, 66 },
};
#define CURVES     (sizeof(curves) / sizeof(curves[0]))
#define FIELD_MAX  66u
#define FIELD_ROOM BASE64URL_ROOM(FIELD_MAX / 3 * 4 + 4)

static EVP_PKEY *
ec(const json_t *jwk)
{
	unsigned char x[FIELD_ROOM], y[FIELD_ROOM], point[1 + 2 * FIELD_MAX];
	struct grapnel_str crv = member(jwk, "crv");
	OSSL_PARAM_BLD *build;
	EVP_PKEY *pkey = NULL;
	size_t i = 0, size;

	while (i < CURVES && !is(crv, curves[i].crv))
		i++;
	if (i == CURVES)
		return NULL;
	size = curves[i].size;
	/* Coordinates have the full length of the field: RFC 7518 section 6.2.1.2. */
	if (bytes(jwk, "x", x, FIELD_MAX) != size || bytes(jwk, "y", y, FIELD_MAX) != size)
		return NULL;
	point[0] = POINT_CONVERSION_UNCOMPRESSED;
	memcpy(point + 1, x, size);
	memcpy(point + 1 + size, y, size);
	build = OSSL_PARAM_BLD_new();
	if (build != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(
		build, OSSL_PKEY_PARAM_GROUP_NAME, curves[i].group, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size) ==
		1)
		pkey = from_params("EC", build);
	OSSL_PARAM_BLD_free(build);
	return pkey;
}

static EVP_PKEY *
okp(const json_t *jwk)
{
	unsigned char x[BASE64URL_ROOM(48)];

	if (!is(member(jwk, "crv"), "Ed25519") || bytes(jwk, "x", x, 32) != 32)
		return NULL;
	return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, 32);
}

static struct key *
secret(const json_t *jwk, struct grapnel_str kid, const struct key_limits *limits, char *error,
    size_t error_size)
{
	struct grapnel_str text = member(jwk, "k"), k = { NULL, 0 };
	unsigned char *room = text.data != NULL ? malloc(BASE64URL_ROOM(text.len)) : NULL;
	struct key *key = NULL;

	if (room != NULL && base64url_decode(text.data, text.len, room, &k.len)) {
		k.data = (const char *)room;
		key = key_from_secret(k, kid, limits, error, error_size);
	}
	if (room != NULL)
		explicit_bzero(room, k.len);
	free(room);
	return key;
}

/* RFC 7517 section 4.2 and 4.3. NULL: fine. */
static const char *
not_for_us(const json_t *jwk)
{
	const json_t *ops = json_object_get(jwk, "key_ops"), *op;
	size_t i;

	if (json_object_get(jwk, "use") != NULL && !is(member(jwk, "use"), "sig"))
		return "its use is not sig";
	if (ops == NULL)
		return NULL;
	json_array_foreach(ops, i,
	    op) if (json_is_string(op) && strcmp(json_string_value(op), "verify") == 0) return NULL;
	return "its key_ops are without verify";
}

static struct key *
public_key(const json_t *jwk, struct grapnel_str kid, const struct key_limits *limits, char *error,
    size_t error_size)
{
	struct grapnel_str kty = member(jwk, "kty");
	EVP_PKEY *pkey = is(kty, "RSA") ? rsa(jwk)
	    : is(kty, "EC")             ? ec(jwk)
	    : is(kty, "OKP")            ? okp(jwk)
					: NULL;
	struct key *key = NULL;

	if (pkey != NULL)
		key = key_from_pkey(pkey, kid, limits, error, error_size);
	else
		(void)snprintf(error, error_size,
		    "it is none of RSA, EC and OKP with a curve that is known, or malformed");
	EVP_PKEY_free(pkey);
	ERR_clear_error();
	return key;
}

static struct key *
jwk_read(const json_t *jwk, bool secrets, const struct key_limits *limits, char *error,
    size_t error_size)
{
	struct grapnel_str kid = member(jwk, "kid"), alg = member(jwk, "alg");
	const struct key_alg *only = alg.data != NULL ? key_alg_find(alg) : NULL;
	const char *why = not_for_us(jwk);
	struct key *key;

	if (why == NULL && json_object_get(jwk, "kid") != NULL &&
	    (kid.data == NULL || kid.len > KEY_MAX_KID))
		why = "its kid is no text, or too long";
	if (why == NULL && json_object_get(jwk, "alg") != NULL && only == NULL)
		why = "its alg is not known here";
	if (why == NULL && is(member(jwk, "kty"), "oct") && !secrets)
		why = "a secret is not taken from a URL";
	if (why != NULL) {
		(void)snprintf(error, error_size, "%s", why);
		return NULL;
	}
	(void)snprintf(error, error_size, "it is malformed");
	if (is(member(jwk, "kty"), "oct"))
		key = secret(jwk, kid, limits, error, error_size);
	else
		key = public_key(jwk, kid, limits, error, error_size);
	if (key == NULL || only == NULL || key->kind == only->kind) {
		if (key != NULL)
			key->only = only;
		return key;
	}
	key_unref(key);
	(void)snprintf(error, error_size, "its alg does not go with its type");
	return NULL;
}

static bool
add(struct keyset *set, const json_t *jwk, bool secrets, const struct key_limits *limits,
    struct jwk_report *report)
{
	char why[sizeof(report->first)];
	struct key *key = jwk_read(jwk, secrets, limits, why, sizeof(why));

	if (key == NULL) {
		if (report->left_out++ == 0)
			memcpy(report->first, why, sizeof(why));
		return true;
	}
	report->used++;
	return keyset_add(set, key);
}

bool
jwk_set_read(struct keyset *set, struct grapnel_str text, bool secrets,
    const struct key_limits *limits, struct jwk_report *report, char *error, size_t error_size)
{
	json_t *root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, NULL), *jwk;
	const json_t *keys = json_object_get(root, "keys");
	bool room = true;
	size_t i;

	memset(report, 0, sizeof(*report));
	if (json_is_array(keys)) {
		json_array_foreach(keys, i, jwk) room =
		    room && add(set, jwk, secrets, limits, report);
	} else if (json_object_get(root, "kty") != NULL) {
		room = add(set, root, secrets, limits, report);
	} else {
		json_decref(root);
		(void)snprintf(
		    error, error_size, "this is no JWK Set: a JSON object with an array \"keys\"");
		return false;
	}
	json_decref(root);
	if (!room)
		(void)snprintf(error, error_size, "there are more keys than max_keys");
	else if (report->used == 0)
		(void)snprintf(error, error_size, "no key in it can be used%s%s",
		    report->first[0] != '\0' ? ": " : "", report->first);
	return room && report->used > 0;
}
