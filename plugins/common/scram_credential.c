/* SPDX-License-Identifier: Apache-2.0 */
/* scram_credential - credentials as they are stored: read, make, hold a password against one. */
#include "base64.h"
#include "scram_internal.h"
#include "utf8.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const struct {
	const char *method;
	size_t key_len;
} hashes[] = {
	[SCRAM_SHA_256] = { "SCRAM-SHA-256", 32 },
	[SCRAM_SHA_512] = { "SCRAM-SHA-512", 64 },
};

static const EVP_MD *
digest_of(enum scram_hash hash)
{
	return hash == SCRAM_SHA_512 ? EVP_sha512() : EVP_sha256();
}

enum scram_hash
scram_by_method(struct grapnel_str method)
{
	for (enum scram_hash h = SCRAM_SHA_256; h <= SCRAM_SHA_512; h++)
		if (method.len == strlen(hashes[h].method) &&
		    memcmp(method.data, hashes[h].method, method.len) == 0)
			return h;
	return SCRAM_NONE;
}

size_t
scram_key_len(enum scram_hash hash)
{
	return hashes[hash].key_len;
}

bool
scram_hmac(enum scram_hash hash, const unsigned char *key, size_t key_len, struct grapnel_str text,
    unsigned char *out)
{
	return HMAC(digest_of(hash), key, (int)key_len, (const unsigned char *)text.data, text.len,
		   out, NULL) != NULL;
}

bool
scram_digest(enum scram_hash hash, const unsigned char *bytes, size_t len, unsigned char *out)
{
	return EVP_Digest(bytes, len, out, NULL, digest_of(hash), NULL) == 1;
}

bool
scram_equal(const unsigned char *a, const unsigned char *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

/* ------------------------------------------------------------------------- reading */

/* Take the text before `end` off the front; '\0': all of it. */
static bool
take(struct grapnel_str *rest, char end, struct grapnel_str *out)
{
	const char *p = rest->data + rest->len;

	if (end != '\0' && (rest->len == 0 || (p = memchr(rest->data, end, rest->len)) == NULL))
		return false;
	*out = (struct grapnel_str){ rest->data, (size_t)(p - rest->data) };
	if (end != '\0') {
		rest->data = p + 1;
		rest->len -= out->len + 1;
	}
	return true;
}

static bool
padded_base64(struct grapnel_str text, unsigned char *out, size_t size, size_t *len)
{
	return text.len % 4 == 0 && base64_decode(text.data, text.len, out, size, len);
}

static bool
iterations(struct grapnel_str text, unsigned *out)
{
	unsigned n = 0;

	if (text.len == 0 || text.len > 7 || text.data[0] == '0')
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		n = n * 10 + (unsigned)(text.data[i] - '0');
	}
	*out = n;
	return n <= SCRAM_MAX_ITERATIONS;
}

bool
scram_parse_credential(struct grapnel_str text, struct scram_stored *out)
{
	struct grapnel_str rest = text, method, count, salt, stored, server;
	size_t stored_len, server_len;

	memset(out, 0, sizeof(*out));
	if (text.len == 0 || text.len >= SCRAM_CREDENTIAL_SIZE || !take(&rest, '$', &method) ||
	    (out->hash = scram_by_method(method)) == SCRAM_NONE || !take(&rest, ':', &count) ||
	    !take(&rest, '$', &salt) || !take(&rest, ':', &stored) || !take(&rest, '\0', &server))
		return false;
	out->key_len = scram_key_len(out->hash);
	return iterations(count, &out->iterations) &&
	    padded_base64(salt, out->salt, sizeof(out->salt), &out->salt_len) &&
	    out->salt_len > 0 &&
	    padded_base64(stored, out->stored_key, sizeof(out->stored_key), &stored_len) &&
	    padded_base64(server, out->server_key, sizeof(out->server_key), &server_len) &&
	    stored_len == out->key_len && server_len == out->key_len;
}

bool
scram_is_credential(struct grapnel_str text, enum scram_hash *hash)
{
	struct scram_stored stored;
	bool is_one = scram_parse_credential(text, &stored);

	if (is_one)
		*hash = stored.hash;
	explicit_bzero(&stored, sizeof(stored));
	return is_one;
}

/* ---------------------------------------------------------------- from a password */

/*
 * StoredKey and ServerKey of a password. 1; 0: no client can have such a password; SCRAM_ENOMEM: the library failed.
 *
 * SASLprep (RFC 4013) refuses control characters and what is not UTF-8, and so does this; beyond that it maps other
 * forms of a character to one (NFKC). That is left to who has the password: ASCII is the same either way, as is
 * UTF-8 in its usual form, and clients that leave SASLprep out (many do) get in.
 */
static int
derive(struct scram_stored *s, struct grapnel_str password)
{
	unsigned char salted[SCRAM_MAX_KEY], client_key[SCRAM_MAX_KEY];
	bool good;

	if (password.data == NULL || password.len > INT32_MAX || !utf8_is_text(password, false))
		return 0;
	good = PKCS5_PBKDF2_HMAC(password.data, (int)password.len, s->salt, (int)s->salt_len,
		   (int)s->iterations, digest_of(s->hash), (int)s->key_len, salted) == 1 &&
	    scram_hmac(s->hash, salted, s->key_len, GRAPNEL_STR("Client Key"), client_key) &&
	    scram_digest(s->hash, client_key, s->key_len, s->stored_key) &&
	    scram_hmac(s->hash, salted, s->key_len, GRAPNEL_STR("Server Key"), s->server_key);
	explicit_bzero(salted, sizeof(salted));
	explicit_bzero(client_key, sizeof(client_key));
	return good ? 1 : SCRAM_ENOMEM;
}

int
scram_verify_password(struct grapnel_str credential, struct grapnel_str password)
{
	struct scram_stored stored, derived;
	int result = SCRAM_ECREDENTIAL;

	if (scram_parse_credential(credential, &stored)) {
		derived = stored;
		result = derive(&derived, password);
		if (result == 1)
			result = (int)scram_equal(
				     derived.stored_key, stored.stored_key, stored.key_len) &
			    (int)scram_equal(derived.server_key, stored.server_key, stored.key_len);
		explicit_bzero(&derived, sizeof(derived));
	}
	explicit_bzero(&stored, sizeof(stored));
	return result;
}

bool
scram_credential(enum scram_hash hash, struct grapnel_str password, unsigned count,
    char out[SCRAM_CREDENTIAL_SIZE])
{
	struct scram_stored s = { .hash = hash,
		.iterations = count,
		.salt_len = SCRAM_SALT,
		.key_len = scram_key_len(hash) };
	char salt[BASE64_SIZE(SCRAM_SALT)], stored[BASE64_SIZE(SCRAM_MAX_KEY)],
	    server[BASE64_SIZE(SCRAM_MAX_KEY)];
	bool good = getrandom(s.salt, SCRAM_SALT, 0) == (ssize_t)SCRAM_SALT && count > 0 &&
	    count <= SCRAM_MAX_ITERATIONS && derive(&s, password) == 1;

	if (good) {
		base64_encode(salt, s.salt, s.salt_len, true);
		base64_encode(stored, s.stored_key, s.key_len, true);
		base64_encode(server, s.server_key, s.key_len, true);
		(void)snprintf(out, SCRAM_CREDENTIAL_SIZE, "%s$%u:%s$%s:%s", hashes[hash].method,
		    count, salt, stored, server);
		explicit_bzero(stored, sizeof(stored));
		explicit_bzero(server, sizeof(server));
	}
	explicit_bzero(&s, sizeof(s));
	return good;
}
