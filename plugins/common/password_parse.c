/* SPDX-License-Identifier: Apache-2.0 */
#include "password_parse.h"

#include "base64.h"
#include "scram_internal.h"

#include <string.h>

#define GO_AUTH_MIN_DIGEST 16 /* its hasher_keylen is the operator's to choose; 32 by default */

struct field {
	const char *p;
	size_t len;
};

static const char crypt_alphabet[] =
    "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/* Take the text up to the next '$' (or the end) off the front. false: there is nothing more. */
static bool
next_field(struct field *rest, struct field *out)
{
	const char *end;

	if (rest->p == NULL)
		return false;
	end = rest->len > 0 ? memchr(rest->p, '$', rest->len) : NULL;
	out->p = rest->p;
	out->len = end != NULL ? (size_t)(end - rest->p) : rest->len;
	rest->p = end != NULL ? end + 1 : NULL;
	rest->len = end != NULL ? rest->len - out->len - 1 : 0;
	return true;
}

static bool
field_is(struct field f, const char *text)
{
	return f.len == strlen(text) && memcmp(f.p, text, f.len) == 0;
}

static bool
decimal(struct field f, uint32_t *out)
{
	uint64_t v = 0;

	if (f.len == 0 || f.len > 10)
		return false;
	for (size_t i = 0; i < f.len; i++) {
		if (f.p[i] < '0' || f.p[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(f.p[i] - '0');
	}
	*out = (uint32_t)v;
	return v <= UINT32_MAX;
}

static bool
all_of(struct field f, const char *alphabet)
{
	for (size_t i = 0; i < f.len; i++)
		if (f.p[i] == '\0' || strchr(alphabet, f.p[i]) == NULL)
			return false;
	return true;
}

/* The last two fields of many: salt and digest, both base64. */
static int
salt_and_digest(struct field rest, size_t min_salt, size_t min_digest, struct password_parts *out)
{
	struct field salt, digest;

	if (!next_field(&rest, &salt) || !next_field(&rest, &digest) || rest.p != NULL)
		return PASSWORD_EMALFORMED;
	if (!base64_decode(salt.p, salt.len, out->salt, sizeof(out->salt), &out->salt_len) ||
	    !base64_decode(
		digest.p, digest.len, out->digest, sizeof(out->digest), &out->digest_len))
		return PASSWORD_EMALFORMED;
	return out->salt_len < min_salt || out->digest_len < min_digest ? PASSWORD_EMALFORMED : 0;
}

static int
pbkdf2(struct field rest, size_t min_digest, struct password_parts *out)
{
	struct field iterations;

	if (!next_field(&rest, &iterations) || !decimal(iterations, &out->cost.rounds) ||
	    out->cost.rounds == 0)
		return PASSWORD_EMALFORMED;
	if (out->cost.rounds > PASSWORD_MAX_ITERATIONS)
		return PASSWORD_ECOST;
	return salt_and_digest(rest, 1, min_digest, out);
}

/* PBKDF2$sha512$... */
static int
go_auth(struct field rest, struct password_parts *out)
{
	struct field algorithm;

	out->cost.scheme = PASSWORD_GO_AUTH_PBKDF2;
	if (!next_field(&rest, &algorithm))
		return PASSWORD_EMALFORMED;
	out->sha256 = field_is(algorithm, "sha256");
	if (!out->sha256 && !field_is(algorithm, "sha512"))
		return PASSWORD_EUNSUPPORTED;
	return pbkdf2(rest, GO_AUTH_MIN_DIGEST, out);
}

/* $pbkdf2-sha512$i=N,l=BYTES$salt$digest: the other form that mosquitto-go-auth reads; ChirpStack writes it. */
static int
pbkdf2_sha512(struct field rest, struct password_parts *out)
{
	struct field costs, iterations;
	const char *comma;
	uint32_t len;
	int err;

	out->cost.scheme = PASSWORD_GO_AUTH_PBKDF2;
	if (!next_field(&rest, &costs) || costs.len < 3 || memcmp(costs.p, "i=", 2) != 0 ||
	    (comma = memchr(costs.p, ',', costs.len)) == NULL)
		return PASSWORD_EMALFORMED;
	iterations = (struct field){ costs.p + 2, (size_t)(comma - costs.p) - 2 };
	costs.len -= (size_t)(comma + 1 - costs.p);
	costs.p = comma + 1;
	if (costs.len < 3 || memcmp(costs.p, "l=", 2) != 0 ||
	    !decimal((struct field){ costs.p + 2, costs.len - 2 }, &len) ||
	    !decimal(iterations, &out->cost.rounds) || out->cost.rounds == 0)
		return PASSWORD_EMALFORMED;
	if (out->cost.rounds > PASSWORD_MAX_ITERATIONS)
		return PASSWORD_ECOST;
	err = salt_and_digest(rest, 1, GO_AUTH_MIN_DIGEST, out);
	return err == 0 && out->digest_len != len ? PASSWORD_EMALFORMED : err;
}

/* "m=19456,t=2,p=1" */
static bool
argon2_costs(struct field f, struct password_cost *cost)
{
	uint32_t *const values[] = { &cost->kib, &cost->rounds, &cost->lanes };
	static const char names[] = "mtp";

	for (size_t i = 0; i < 3; i++) {
		const char *comma = i < 2 ? memchr(f.p, ',', f.len) : f.p + f.len;
		struct field one = { f.p + 2, 0 };

		if (comma == NULL || comma - f.p < 3 || f.p[0] != names[i] || f.p[1] != '=')
			return false;
		one.len = (size_t)(comma - one.p);
		if (!decimal(one, values[i]))
			return false;
		f.len -= (size_t)(comma - f.p) + (i < 2);
		f.p = comma + (i < 2);
	}
	return true;
}

static int
argon2id(struct field rest, struct password_parts *out)
{
	struct field version, costs;

	out->cost.scheme = PASSWORD_ARGON2ID;
	if (!next_field(&rest, &version) || !next_field(&rest, &costs))
		return PASSWORD_EMALFORMED;
	if (!field_is(version, "v=19"))
		return PASSWORD_EUNSUPPORTED; /* 1.0 had weaknesses and no tool writes it by default */
	if (!argon2_costs(costs, &out->cost) || out->cost.rounds == 0 || out->cost.lanes == 0)
		return PASSWORD_EMALFORMED;
	if (out->cost.kib > PASSWORD_MAX_KIB || out->cost.rounds > PASSWORD_MAX_PASSES ||
	    out->cost.lanes > PASSWORD_MAX_LANES)
		return PASSWORD_ECOST;
	if (out->cost.kib < 8 * out->cost.lanes)
		return PASSWORD_EMALFORMED;
	return salt_and_digest(rest, 8, 16, out);
}

/* $2b$NN$ and 53 characters */
static int
bcrypt(struct field rest, struct password_parts *out)
{
	struct field cost;

	out->cost.scheme = PASSWORD_BCRYPT;
	if (!next_field(&rest, &cost) || cost.len != 2 || !decimal(cost, &out->cost.rounds) ||
	    out->cost.rounds < 4 || rest.p == NULL)
		return PASSWORD_EMALFORMED;
	if (out->cost.rounds > PASSWORD_MAX_BCRYPT_COST)
		return PASSWORD_ECOST;
	return rest.len == 53 && all_of(rest, crypt_alphabet) ? 0 : PASSWORD_EMALFORMED;
}

/*
 * $y$ and three characters: flavour j (the only one in use), then N and r as one character each
 * for all sizes that fit the limit; more parameters (t, g, ROM) nobody writes.
 */
static int
yescrypt(struct field rest, struct password_parts *out)
{
	struct field params, salt;
	size_t log2_n, r;

	out->cost.scheme = PASSWORD_YESCRYPT;
	if (!next_field(&rest, &params) || !all_of(params, crypt_alphabet))
		return PASSWORD_EMALFORMED;
	if (params.len != 3 || params.p[0] != 'j')
		return PASSWORD_EUNSUPPORTED;
	log2_n = (size_t)(strchr(crypt_alphabet, params.p[1]) - crypt_alphabet) + 1;
	r = (size_t)(strchr(crypt_alphabet, params.p[2]) - crypt_alphabet) + 1;
	if (log2_n >= 48 || r >= 48)
		return PASSWORD_EUNSUPPORTED; /* such a character begins a longer number */
	if (log2_n > 24 || (r << log2_n) / 8 > PASSWORD_MAX_KIB) /* 128 r N bytes */
		return PASSWORD_ECOST;
	out->cost.rounds = (uint32_t)log2_n;
	out->cost.kib = (uint32_t)((r << log2_n) / 8);
	if (!next_field(&rest, &salt) || salt.len == 0 || salt.len > 86 ||
	    !all_of(salt, crypt_alphabet))
		return PASSWORD_EMALFORMED;
	return rest.p != NULL && rest.len == 43 && all_of(rest, crypt_alphabet)
	    ? 0
	    : PASSWORD_EMALFORMED;
}

static int
sha_crypt(struct field rest, size_t digest_len, struct password_parts *out)
{
	struct field salt;

	out->cost.rounds = 5000;
	if (!next_field(&rest, &salt))
		return PASSWORD_EMALFORMED;
	if (salt.len > 7 && memcmp(salt.p, "rounds=", 7) == 0) {
		struct field rounds = { salt.p + 7, salt.len - 7 };

		if (!decimal(rounds, &out->cost.rounds) || out->cost.rounds < 1000 ||
		    rounds.p[0] == '0')
			return PASSWORD_EMALFORMED;
		if (out->cost.rounds > PASSWORD_MAX_ITERATIONS)
			return PASSWORD_ECOST;
		if (!next_field(&rest, &salt))
			return PASSWORD_EMALFORMED;
	}
	if (salt.len == 0 || salt.len > 16 || !all_of(salt, crypt_alphabet))
		return PASSWORD_EMALFORMED;
	return rest.p != NULL && rest.len == digest_len && all_of(rest, crypt_alphabet)
	    ? 0
	    : PASSWORD_EMALFORMED;
}

/* $6$: two schemes write it. Mosquitto's digest is 88 characters with "==", SHA-crypt's 86. */
static int
sha512(struct field rest, struct password_parts *out)
{
	if (rest.len > 88 && memcmp(rest.p + rest.len - 2, "==", 2) == 0) {
		out->cost.scheme = PASSWORD_MOSQUITTO_SHA512;
		out->cost.rounds = 1;
		return salt_and_digest(rest, 1, 64, out);
	}
	out->cost.scheme = PASSWORD_SHA512_CRYPT;
	return sha_crypt(rest, 86, out);
}

/* SCRAM-SHA-256$ ...; its keys stay in the text, scram_verify_password reads it again. */
static int
scram(struct field text, struct password_parts *out)
{
	struct scram_stored stored;
	bool good = scram_parse_credential((struct grapnel_str){ text.p, text.len }, &stored);

	if (good) {
		out->cost.scheme =
		    stored.hash == SCRAM_SHA_512 ? PASSWORD_SCRAM_SHA512 : PASSWORD_SCRAM_SHA256;
		out->cost.rounds = stored.iterations;
	}
	explicit_bzero(&stored, sizeof(stored));
	return good ? 0 : PASSWORD_EMALFORMED;
}

int
password_parse(const char *hash, size_t len, struct password_parts *out)
{
	struct field rest = { hash, len }, id;

	memset(out, 0, sizeof(*out));
	if (hash == NULL || len == 0)
		return PASSWORD_EMALFORMED;
	if (len >= PASSWORD_HASH_SIZE || memchr(hash, '\0', len) != NULL)
		return PASSWORD_EUNSUPPORTED;
	if (!next_field(&rest, &id) || rest.p == NULL)
		return PASSWORD_EUNSUPPORTED;
	if (field_is(id, "PBKDF2"))
		return go_auth(rest, out);
	if (scram_by_method((struct grapnel_str){ id.p, id.len }) != SCRAM_NONE)
		return scram((struct field){ hash, len }, out);
	if (id.len != 0 || !next_field(&rest, &id) || rest.p == NULL)
		return PASSWORD_EUNSUPPORTED;
	if (field_is(id, "argon2id"))
		return argon2id(rest, out);
	if (field_is(id, "y"))
		return yescrypt(rest, out);
	if (field_is(id, "2a") || field_is(id, "2b") || field_is(id, "2y"))
		return bcrypt(rest, out);
	if (field_is(id, "pbkdf2-sha512"))
		return pbkdf2_sha512(rest, out);
	if (field_is(id, "6"))
		return sha512(rest, out);
	if (field_is(id, "5")) {
		out->cost.scheme = PASSWORD_SHA256_CRYPT;
		return sha_crypt(rest, 43, out);
	}
	if (field_is(id, "7")) {
		out->cost.scheme = PASSWORD_PBKDF2;
		return pbkdf2(rest, 64, out);
	}
	return PASSWORD_EUNSUPPORTED;
}
