/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key - one key that signatures are checked with, and which algorithms go with it
 *
 * A key has one kind, which is found out when it is loaded and never taken from a token. An algorithm names the one kind that
 * it goes with (RFC 7518, RFC 8037), so that the public key of an RSA pair is never taken for the secret of an HMAC.
 *
 * Threads:   immutable and counted; any.
 * Ownership: key_from_* give one reference.
 * Bounded:   KEY_MAX_BYTES, KEY_MAX_RSA_BITS.
 */
#ifndef PLUGINS_AUTH_JWT_KEY_H
#define PLUGINS_AUTH_JWT_KEY_H

#include <grapnel/types.h>
#include <openssl/types.h>
#include <stdatomic.h>

#define KEY_MAX_BYTES	 65536u /* of a file */
#define KEY_MAX_KID	 256u
#define KEY_MAX_RSA_BITS 8192
#define KEY_ID_SIZE	 33

enum key_kind {
	KEY_SECRET = 1, /* HMAC */
	KEY_RSA,
	KEY_P256,
	KEY_P384,
	KEY_P521,
	KEY_ED25519,
};

struct key_alg {
	const char *name; /* "RS256" */
	enum key_kind kind;
	const char *digest; /* HMAC only: OpenSSL's name */
	bool pss;
};
/* By its exact name; NULL: unknown, or not in the libjwt at hand. There is no "none". */
const struct key_alg *key_alg_find(struct grapnel_str name);

/* What is too weak to be used, as the options say. */
struct key_limits {
	int min_rsa_bits;
	size_t min_secret_bytes;
};

struct key {
	atomic_uint refs;
	enum key_kind kind;
	const struct key_alg *only; /* a JWK that names its algorithm; NULL: all that go with the kind */
	char *kid;		    /* NULL: for tokens with any kid, and with none */
	char id[KEY_ID_SIZE];	    /* of the key itself, whatever its name: hexadecimal */
	size_t len;
	unsigned char *data; /* the secret, or a public key as PEM; and a NUL */
	/* An RSA key once more, as libjwt wants it for PS256 ...: of the type RSASSA-PSS. NULL: that libjwt has no PS. */
	size_t pss_len;
	unsigned char *pss;
};

/*
 * A public key or a certificate in PEM. kid .data NULL: none.
 * @return NULL: error (NUL-terminated, cut) says why; nothing of the key is in it.
 */
struct key *key_from_pem(struct grapnel_str pem, struct grapnel_str kid, const struct key_limits *limits, char *error,
    size_t error_size);
/* The secret of an HMAC. A PEM file is refused: it would be a public key that all the world has. */
struct key *key_from_secret(struct grapnel_str secret, struct grapnel_str kid, const struct key_limits *limits, char *error,
    size_t error_size);
/* A public key of OpenSSL's, which stays the caller's. */
struct key *key_from_pkey(EVP_PKEY *pkey, struct grapnel_str kid, const struct key_limits *limits, char *error, size_t error_size);

bool key_fits(const struct key *key, const struct key_alg *alg);
struct key *key_ref(struct key *key);
void key_unref(struct key *key); /* wipes the last; NULL is fine */

#endif
