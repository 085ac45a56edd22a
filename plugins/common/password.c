/* SPDX-License-Identifier: Apache-2.0 */
#include "password.h"

#include "base64.h"
#include "password_parse.h"
#include "scram.h"
#include "utf8.h"

#include <argon2.h>
#include <crypt.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

const char *
password_strerror(int error)
{
	switch ((enum password_error)error) {
	case PASSWORD_EMALFORMED:
		return "the hash is malformed";
	case PASSWORD_EUNSUPPORTED:
		return "not a password hash that is known here";
	case PASSWORD_ECOST:
		return "the hash would cost more time or memory than is allowed";
	case PASSWORD_ENOMEM:
		return "out of memory";
	case PASSWORD_ESYS:
		return "a cryptographic function of the system failed";
	case PASSWORD_EINPUT:
		return "this scheme cannot hold such a password (control character, or too long)";
	}
	return "no error";
}

/* What scram_verify_password says, as password_verify says it. */
static int
scram_verify(const char *hash, size_t hash_len, const char *password, size_t password_len)
{
	int result = scram_verify_password(
	    (struct grapnel_str){ hash, hash_len }, (struct grapnel_str){ password, password_len });

	if (result >= 0)
		return result;
	return result == SCRAM_ECREDENTIAL ? PASSWORD_EMALFORMED : PASSWORD_ESYS;
}

/* In time that does not depend on where the first difference is. */
static bool
equal(const void *a, const void *b, size_t len)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char diff = 0;

	for (size_t i = 0; i < len; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}

/* ---------------------------------------------------------------------- computing */

static int
argon2id(const struct password_cost *cost, const uint8_t *salt, size_t salt_len,
    const char *password, size_t password_len, uint8_t *out, size_t out_len)
{
	argon2_context context = {
		.out = out,
		.outlen = (uint32_t)out_len,
		.pwd = (uint8_t *)(uintptr_t)password, /* not written to without its flag */
		.pwdlen = (uint32_t)password_len,
		.salt = (uint8_t *)(uintptr_t)salt,
		.saltlen = (uint32_t)salt_len,
		.t_cost = cost->rounds,
		.m_cost = cost->kib,
		.lanes = cost->lanes,
		.threads = 1, /* the caller's pool says how much runs at once */
		.version = ARGON2_VERSION_13,
		.flags = ARGON2_DEFAULT_FLAGS,
	};
	int err = argon2_ctx(&context, Argon2_id);

	if (err == ARGON2_OK)
		return 0;
	return err == ARGON2_MEMORY_ALLOCATION_ERROR ? PASSWORD_ENOMEM : PASSWORD_ESYS;
}

static int
pbkdf2(const EVP_MD *md, uint32_t iterations, const uint8_t *salt, size_t salt_len,
    const char *password, size_t password_len, uint8_t *out, size_t out_len)
{
	return PKCS5_PBKDF2_HMAC(password, (int)password_len, salt, (int)salt_len, (int)iterations,
		   md, (int)out_len, out) == 1
	    ? 0
	    : PASSWORD_ESYS;
}

/* SHA-512 of password and salt, one after the other. */
static int
salted_sha512(
    const uint8_t *salt, size_t salt_len, const char *password, size_t password_len, uint8_t *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int err = PASSWORD_ESYS;

	if (ctx == NULL)
		return PASSWORD_ENOMEM;
	if (EVP_DigestInit_ex(ctx, EVP_sha512(), NULL) == 1 &&
	    EVP_DigestUpdate(ctx, password, password_len) == 1 &&
	    EVP_DigestUpdate(ctx, salt, salt_len) == 1 && EVP_DigestFinal_ex(ctx, out, NULL) == 1)
		err = 0;
	EVP_MD_CTX_free(ctx);
	return err;
}

/* crypt(3); out gets the whole hash. The password must be without NUL and short enough. */
static int
crypt_hash(
    const char *setting, const char *password, size_t password_len, char out[PASSWORD_HASH_SIZE])
{
	struct crypt_data *data = calloc(1, sizeof(*data));
	const char *hash;
	int err = 0;

	if (data == NULL)
		return PASSWORD_ENOMEM;
	memcpy(data->input, password, password_len); /* the rest is zero */
	errno = 0;
	hash = crypt_rn(data->input, setting, data, (int)sizeof(*data));
	if (hash == NULL || hash[0] == '*')
		err = errno == ENOMEM ? PASSWORD_ENOMEM
		    : errno == EINVAL ? PASSWORD_EUNSUPPORTED
				      : PASSWORD_ESYS;
	else if (strlen(hash) >= PASSWORD_HASH_SIZE)
		err = PASSWORD_EMALFORMED;
	else
		memcpy(out, hash, strlen(hash) + 1);
	explicit_bzero(data, sizeof(*data));
	free(data);
	return err;
}

/* ---------------------------------------------------------------------- verifying */

static int
crypt_verify(const char *hash, size_t hash_len, const char *password, size_t password_len)
{
	char setting[PASSWORD_HASH_SIZE], got[PASSWORD_HASH_SIZE];
	bool fits = password_len < CRYPT_MAX_PASSPHRASE_SIZE &&
	    memchr(password, '\0', password_len) == NULL;
	int result;

	memcpy(setting, hash, hash_len); /* the parser has looked at its length */
	setting[hash_len] = '\0';
	/* One that crypt cannot represent costs the same and never matches. */
	result = crypt_hash(setting, fits ? password : "", fits ? password_len : 0, got);
	if (result == 0)
		result = strlen(got) == hash_len && equal(got, hash, hash_len) && fits;
	explicit_bzero(got, sizeof(got));
	return result;
}

int
password_check_format(const char *hash, size_t hash_len, struct password_cost *cost)
{
	struct password_parts parts;
	int err = password_parse(hash, hash_len, &parts);

	if (cost != NULL && err == 0)
		*cost = parts.cost;
	explicit_bzero(&parts, sizeof(parts));
	return err;
}

/* HMAC fills its key up with zeros, so a password and the same with NUL behind it are one to PBKDF2 and SCRAM. */
static bool
ends_in_nul(const char *password, size_t len)
{
	return len > 0 && password[len - 1] == '\0';
}

int
password_verify(const char *hash, size_t hash_len, const char *password, size_t password_len)
{
	uint8_t got[PASSWORD_MAX_DIGEST];
	struct password_parts p;
	int err = password_parse(hash, hash_len, &p);

	if (err != 0)
		return err;
	if (password == NULL)
		password = "";
	if (password_len > INT32_MAX)
		return 0;
	switch ((enum password_scheme)p.cost.scheme) {
	case PASSWORD_YESCRYPT:
	case PASSWORD_BCRYPT:
	case PASSWORD_SHA256_CRYPT:
	case PASSWORD_SHA512_CRYPT:
		return crypt_verify(hash, hash_len, password, password_len);
	case PASSWORD_SCRAM_SHA256:
	case PASSWORD_SCRAM_SHA512:
		err = scram_verify(hash, hash_len, password, password_len);
		return err == 1 && ends_in_nul(password, password_len) ? 0 : err;
	case PASSWORD_ARGON2ID:
		err = argon2id(
		    &p.cost, p.salt, p.salt_len, password, password_len, got, p.digest_len);
		break;
	case PASSWORD_PBKDF2:
	case PASSWORD_GO_AUTH_PBKDF2:
		err = pbkdf2(p.sha256 ? EVP_sha256() : EVP_sha512(), p.cost.rounds, p.salt,
		    p.salt_len, password, password_len, got, p.digest_len);
		break;
	case PASSWORD_MOSQUITTO_SHA512:
		err = salted_sha512(p.salt, p.salt_len, password, password_len, got);
		break;
	}
	if (err == 0)
		err = equal(got, p.digest, p.digest_len);
	if (err == 1 && p.cost.scheme != PASSWORD_ARGON2ID &&
	    p.cost.scheme != PASSWORD_MOSQUITTO_SHA512 && ends_in_nul(password, password_len))
		err = 0;
	explicit_bzero(got, sizeof(got));
	explicit_bzero(&p, sizeof(p));
	return err;
}

#define QUICK_ITERATIONS 4u /* of PBKDF2; each takes about a microsecond */
#define QUICK_PASSWORD   256u

bool
password_quick(const char *hash, size_t hash_len, size_t password_len)
{
	struct password_cost cost;

	if (password_len > QUICK_PASSWORD || password_check_format(hash, hash_len, &cost) != 0)
		return false;
	return cost.scheme == PASSWORD_MOSQUITTO_SHA512 ||
	    ((cost.scheme == PASSWORD_PBKDF2 || cost.scheme == PASSWORD_GO_AUTH_PBKDF2) &&
		cost.rounds <= QUICK_ITERATIONS);
}

/* ------------------------------------------------------------------------- making */

static const struct {
	const char *name;
	enum password_scheme scheme;
	const char *prefix; /* crypt(5) */
	unsigned long count;
	size_t max_len;
} makers[] = {
	{ "argon2id", PASSWORD_ARGON2ID, NULL, 0, INT32_MAX },
	{ "bcrypt", PASSWORD_BCRYPT, "$2b$", 11, 72 },
	{ "pbkdf2", PASSWORD_PBKDF2, NULL, 0, INT32_MAX },
	{ "scram-sha-256", PASSWORD_SCRAM_SHA256, NULL, 0, INT32_MAX },
	{ "scram-sha-512", PASSWORD_SCRAM_SHA512, NULL, 0, INT32_MAX },
	{ "sha512", PASSWORD_SHA512_CRYPT, "$6$", 100000, CRYPT_MAX_PASSPHRASE_SIZE - 1 },
	{ "yescrypt", PASSWORD_YESCRYPT, "$y$", 0, CRYPT_MAX_PASSPHRASE_SIZE - 1 },
};
#define MAKERS (sizeof(makers) / sizeof(*makers))

enum password_scheme
password_scheme_by_name(const char *name)
{
	for (size_t i = 0; i < MAKERS; i++)
		if (strcmp(makers[i].name, name) == 0)
			return makers[i].scheme;
	return 0;
}

static int
make_crypt(const char *prefix, unsigned long count, const char *password, size_t password_len,
    char out[PASSWORD_HASH_SIZE])
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];

	/* NULL: the library asks the kernel for random bytes. */
	if (crypt_gensalt_rn(prefix, count, NULL, 0, setting, (int)sizeof(setting)) == NULL)
		return PASSWORD_ESYS;
	return crypt_hash(setting, password, password_len, out);
}

#define ARGON2ID_KIB      19456u /* the smaller of OWASP's recommendations: a broker's clients */
#define ARGON2ID_PASSES   2u     /* all log in at once when it restarts                      */
#define PBKDF2_ITERATIONS 210000u
#define PBKDF2_SALT       12 /* what Mosquitto 2.0 expects */

static int
make_argon2id(const char *password, size_t password_len, char out[PASSWORD_HASH_SIZE])
{
	struct password_cost cost = { PASSWORD_ARGON2ID, ARGON2ID_PASSES, ARGON2ID_KIB, 1 };
	char salt64[BASE64_SIZE(16)], hash64[BASE64_SIZE(32)];
	uint8_t salt[16], hash[32];
	int err;

	if (getrandom(salt, sizeof(salt), 0) != (ssize_t)sizeof(salt))
		return PASSWORD_ESYS;
	err = argon2id(&cost, salt, sizeof(salt), password, password_len, hash, sizeof(hash));
	if (err != 0)
		return err;
	base64_encode(salt64, salt, sizeof(salt), false);
	base64_encode(hash64, hash, sizeof(hash), false);
	snprintf(out, PASSWORD_HASH_SIZE, "$argon2id$v=19$m=%u,t=%u,p=1$%s$%s", cost.kib,
	    cost.rounds, salt64, hash64);
	return 0;
}

static int
make_pbkdf2(const char *password, size_t password_len, char out[PASSWORD_HASH_SIZE])
{
	char salt64[BASE64_SIZE(PBKDF2_SALT)], hash64[BASE64_SIZE(64)];
	uint8_t salt[PBKDF2_SALT], hash[64];
	int err;

	if (getrandom(salt, sizeof(salt), 0) != (ssize_t)sizeof(salt))
		return PASSWORD_ESYS;
	err = pbkdf2(EVP_sha512(), PBKDF2_ITERATIONS, salt, sizeof(salt), password, password_len,
	    hash, sizeof(hash));
	if (err != 0)
		return err;
	base64_encode(salt64, salt, sizeof(salt), true);
	base64_encode(hash64, hash, sizeof(hash), true);
	snprintf(out, PASSWORD_HASH_SIZE, "$7$%u$%s$%s", PBKDF2_ITERATIONS, salt64, hash64);
	return 0;
}

static int
make_scram(enum scram_hash hash, struct grapnel_str password, char out[PASSWORD_HASH_SIZE])
{
	_Static_assert(SCRAM_CREDENTIAL_SIZE <= PASSWORD_HASH_SIZE, "a credential is a hash");
	if (!utf8_is_text(password, false))
		return PASSWORD_EINPUT;
	return scram_credential(hash, password, SCRAM_DEFAULT_ITERATIONS, out) ? 0 : PASSWORD_ESYS;
}

int
password_hash(enum password_scheme scheme, const char *password, size_t password_len,
    char out[PASSWORD_HASH_SIZE])
{
	size_t i = 0;

	while (i < MAKERS && makers[i].scheme != scheme)
		i++;
	if (i == MAKERS)
		return PASSWORD_EUNSUPPORTED;
	if (password_len > makers[i].max_len)
		return PASSWORD_EINPUT;
	if (makers[i].prefix != NULL) {
		if (memchr(password, '\0', password_len) != NULL)
			return PASSWORD_EINPUT;
		return make_crypt(makers[i].prefix, makers[i].count, password, password_len, out);
	}
	if (scheme == PASSWORD_ARGON2ID)
		return make_argon2id(password, password_len, out);
	if (scheme == PASSWORD_SCRAM_SHA256 || scheme == PASSWORD_SCRAM_SHA512)
		return make_scram(scheme == PASSWORD_SCRAM_SHA512 ? SCRAM_SHA_512 : SCRAM_SHA_256,
		    (struct grapnel_str){ password, password_len }, out);
	return make_pbkdf2(password, password_len, out);
}
