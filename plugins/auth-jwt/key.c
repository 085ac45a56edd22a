/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <jwt.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct key_alg algs[] = {
	{ "HS256", KEY_SECRET, "SHA256", false },
	{ "HS384", KEY_SECRET, "SHA384", false },
	{ "HS512", KEY_SECRET, "SHA512", false },
	{ "RS256", KEY_RSA, NULL, false },
	{ "RS384", KEY_RSA, NULL, false },
	{ "RS512", KEY_RSA, NULL, false },
	{ "PS256", KEY_RSA, NULL, true },
	{ "PS384", KEY_RSA, NULL, true },
	{ "PS512", KEY_RSA, NULL, true },
	{ "ES256", KEY_P256, NULL, false },
	{ "ES384", KEY_P384, NULL, false },
	{ "ES512", KEY_P521, NULL, false },
	{ "EdDSA", KEY_ED25519, NULL, false },
};

const struct key_alg *
key_alg_find(struct grapnel_str name)
{
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
		const struct key_alg *alg = &algs[i];

		if (name.len == strlen(alg->name) && memcmp(name.data, alg->name, name.len) == 0)
			return alg->kind == KEY_SECRET || jwt_str_alg(alg->name) != JWT_ALG_INVAL
			    ? alg
			    : NULL;
	}
	return NULL;
}

bool
key_fits(const struct key *key, const struct key_alg *alg)
{
	return key->kind == alg->kind && (key->only == NULL || key->only == alg);
}

struct key *
key_ref(struct key *key)
{
	atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
	return key;
}

void
key_unref(struct key *key)
{
	if (key == NULL || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) != 1)
		return;
	if (key->data != NULL)
		explicit_bzero(key->data, key->len);
	free(key->data);
	free(key->pss);
	free(key->kid);
	free(key);
}

static struct key *
refuse(char *error, size_t error_size, const char *why)
{
	(void)snprintf(error, error_size, "%s", why);
	ERR_clear_error();
	return NULL;
}

static struct key *
key_new(enum key_kind kind, const void *data, size_t len, struct grapnel_str kid)
{
	struct key *key = calloc(1, sizeof(*key));
	unsigned char digest[SHA256_DIGEST_LENGTH];

	if (key == NULL)
		return NULL;
	atomic_init(&key->refs, 1);
	key->kind = kind;
	key->data = malloc(len + 1);
	key->kid = kid.data != NULL ? malloc(kid.len + 1) : NULL;
	if (key->data == NULL || (kid.data != NULL && key->kid == NULL) ||
	    EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) != 1) {
		key_unref(key);
		return NULL;
	}
	memcpy(key->data, data, len);
	key->data[len] = '\0';
	key->len = len;
	if (key->kid != NULL) {
		memcpy(key->kid, kid.data, kid.len);
		key->kid[kid.len] = '\0';
	}
	/* Of a secret, this says no more than any token that was signed with it. */
	for (size_t i = 0; i < (KEY_ID_SIZE - 1) / 2; i++)
		(void)snprintf(key->id + 2 * i, 3, "%02x", digest[i]);
	return key;
}

/* 0: not usable, *why says it. */
static enum key_kind
kind_of(EVP_PKEY *pkey, const struct key_limits *limits, const char **why)
{
	char group[64] = "";

	if (EVP_PKEY_is_a(pkey, "ED25519"))
		return KEY_ED25519;
	if (EVP_PKEY_is_a(pkey, "RSA")) {
		int bits = EVP_PKEY_get_bits(pkey);

		*why = bits < limits->min_rsa_bits ? "the RSA key is shorter than min_rsa_bits"
		    : bits > KEY_MAX_RSA_BITS      ? "the RSA key has more than 8192 bits"
						   : NULL;
		return *why == NULL ? KEY_RSA : 0;
	}
	if (!EVP_PKEY_is_a(pkey, "EC")) {
		*why = "this is neither an RSA nor an EC nor an Ed25519 key";
		return 0;
	}
	(void)EVP_PKEY_get_group_name(pkey, group, sizeof(group), NULL);
	if (strcmp(group, SN_X9_62_prime256v1) == 0)
		return KEY_P256;
	if (strcmp(group, SN_secp384r1) == 0)
		return KEY_P384;
	if (strcmp(group, SN_secp521r1) == 0)
		return KEY_P521;
	*why = "the curve is none of P-256, P-384, P-521";
	return 0;
}

/* A public key as PEM in memory of OpenSSL's, which BIO_free gives back. NULL: no memory. */
static BIO *
to_pem(EVP_PKEY *pkey)
{
	BIO *out = BIO_new(BIO_s_mem());

	if (out != NULL && PEM_write_bio_PUBKEY(out, pkey) == 1)
		return out;
	BIO_free(out);
	return NULL;
}

/* The same modulus and exponent as a key for RSASSA-PSS alone. NULL: no memory. */
static EVP_PKEY *
as_pss(EVP_PKEY *rsa)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
	OSSL_PARAM *params = NULL;
	EVP_PKEY *pkey = NULL;

	if (ctx != NULL && EVP_PKEY_todata(rsa, EVP_PKEY_PUBLIC_KEY, &params) == 1 &&
	    EVP_PKEY_fromdata_init(ctx) == 1 &&
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return pkey;
}

static bool
add_pss(struct key *key, EVP_PKEY *rsa)
{
	EVP_PKEY *pss = as_pss(rsa);
	BIO *out = pss != NULL ? to_pem(pss) : NULL;
	char *pem;
	long len = out != NULL ? BIO_get_mem_data(out, &pem) : 0;

	if (len > 0 && (key->pss = malloc((size_t)len)) != NULL) {
		memcpy(key->pss, pem, (size_t)len);
		key->pss_len = (size_t)len;
	}
	BIO_free(out);
	EVP_PKEY_free(pss);
	return key->pss != NULL;
}

struct key *
key_from_pkey(EVP_PKEY *pkey, struct grapnel_str kid, const struct key_limits *limits, char *error,
    size_t error_size)
{
	EVP_PKEY_CTX *check = NULL;
	const char *why = NULL;
	enum key_kind kind = kind_of(pkey, limits, &why);
	struct key *key = NULL;
	BIO *out = NULL;
	char *pem;
	long len;

	if (kind == 0)
		goto done;
	why = "the point is not on the curve";
	if (kind != KEY_RSA && kind != KEY_ED25519 &&
	    ((check = EVP_PKEY_CTX_new(pkey, NULL)) == NULL || EVP_PKEY_public_check(check) != 1))
		goto done;
	why = "out of memory";
	if ((out = to_pem(pkey)) == NULL)
		goto done;
	len = BIO_get_mem_data(out, &pem);
	if (len > 0)
		key = key_new(kind, pem, (size_t)len, kid);
	if (key != NULL && kind == KEY_RSA && jwt_str_alg("PS256") != JWT_ALG_INVAL &&
	    !add_pss(key, pkey)) {
		key_unref(key);
		key = NULL;
	}
done:
	BIO_free(out);
	EVP_PKEY_CTX_free(check);
	return key != NULL ? key : refuse(error, error_size, why);
}

/* No passphrase is ever asked for on a terminal. */
static int
no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

static EVP_PKEY *
read_pem(struct grapnel_str pem, bool certificate)
{
	BIO *in = BIO_new_mem_buf(pem.data, (int)pem.len);
	EVP_PKEY *pkey = NULL;
	X509 *x = NULL;

	if (in == NULL)
		return NULL;
	if (!certificate) {
		pkey = PEM_read_bio_PUBKEY(in, NULL, no_passphrase, NULL);
	} else if ((x = PEM_read_bio_X509(in, NULL, no_passphrase, NULL)) != NULL) {
		pkey = X509_get_pubkey(x);
	}
	X509_free(x);
	BIO_free(in);
	return pkey;
}

static bool
has(struct grapnel_str text, const char *what)
{
	return memmem(text.data, text.len, what, strlen(what)) != NULL;
}

struct key *
key_from_pem(struct grapnel_str pem, struct grapnel_str kid, const struct key_limits *limits,
    char *error, size_t error_size)
{
	struct key *key;
	EVP_PKEY *pkey;

	if (pem.len > KEY_MAX_BYTES)
		return refuse(error, error_size, "the file is too long for a key");
	if (has(pem, "PRIVATE KEY-----"))
		return refuse(error, error_size,
		    "this is a private key, which has no business here; openssl pkey -in FILE "
		    "-pubout "
		    "writes the public one");
	pkey = read_pem(pem, has(pem, "-----BEGIN CERTIFICATE-----"));
	if (pkey == NULL)
		return refuse(error, error_size,
		    "this is neither a public key (-----BEGIN PUBLIC KEY-----) nor a certificate "
		    "in PEM");
	key = key_from_pkey(pkey, kid, limits, error, error_size);
	EVP_PKEY_free(pkey);
	return key;
}

struct key *
key_from_secret(struct grapnel_str secret, struct grapnel_str kid, const struct key_limits *limits,
    char *error, size_t error_size)
{
	struct key *key;

	if (has(secret, "-----BEGIN "))
		return refuse(error, error_size,
		    "this is PEM, not a secret: a public key belongs to the option key");
	if (secret.len > KEY_MAX_BYTES)
		return refuse(error, error_size, "the secret is too long");
	if (secret.len < limits->min_secret_bytes || secret.len == 0)
		return refuse(error, error_size,
		    "the secret is shorter than min_secret_bytes: it can be guessed from any "
		    "token");
	key = key_new(KEY_SECRET, secret.data, secret.len, kid);
	return key != NULL ? key : refuse(error, error_size, "out of memory");
}
