/* SPDX-License-Identifier: Apache-2.0 */
/* scram - the exchange; what it is about stands in scram.h, credentials in scram_credential.c. */
#include "scram.h"

#include "base64.h"
#include "scram_internal.h"
#include "text_copy.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NONCE 64u /* of the server, in bytes before base64 */

enum state {
	WANTS_CHALLENGE,
	WANTS_PROOF,
	OVER,
};

struct scram {
	enum state state;
	enum scram_hash hash;
	bool known;          /* there is a credential */
	unsigned iterations; /* of a user who does not exist */
	size_t salt_len;
	struct scram_stored stored;
	/* all on the heap, NUL-terminated, wiped */
	char *username;   /* decoded */
	char *channel;    /* what c= must be: the GS2 header in base64 */
	char *first_bare; /* client-first-message-bare */
	char *nonce;      /* the client's and ours */
	char *challenge;  /* server-first-message */
	char *final;      /* server-final-message */
};

/* ---------------------------------------------------------------------------- texts */

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static void
wipe(char *s)
{
	if (s != NULL)
		explicit_bzero(s, strlen(s));
	free(s);
}

/* Take the text before the next ',' (or all of it) off the front. rest->data is NULL when there was no ','. */
static struct grapnel_str
next_part(struct grapnel_str *rest)
{
	const char *comma = rest->len > 0 ? memchr(rest->data, ',', rest->len) : NULL;
	struct grapnel_str part = { rest->data,
		comma != NULL ? (size_t)(comma - rest->data) : rest->len };

	if (comma == NULL) {
		*rest = (struct grapnel_str){ NULL, 0 };
	} else {
		rest->len -= part.len + 1;
		rest->data = comma + 1;
	}
	return part;
}

/* "x=value" with that letter: the value, which must not be empty. */
static bool
attribute(struct grapnel_str part, char letter, struct grapnel_str *value)
{
	if (part.data == NULL || part.len < 3 || part.data[0] != letter || part.data[1] != '=')
		return false;
	*value = (struct grapnel_str){ part.data + 2, part.len - 2 };
	return true;
}

/* Extensions that are not mandatory are ignored, but they have a form: attr-val. */
static bool
is_extension(struct grapnel_str part)
{
	unsigned char letter = part.len >= 3 ? (unsigned char)part.data[0] | 0x20 : 0;

	return letter >= 'a' && letter <= 'z' && part.data[1] == '=';
}

/* A saslname that is_name has seen: "=2C" is a comma, "=3D" an equals sign. */
static char *
decode_name(struct grapnel_str s)
{
	char *out = malloc(s.len + 1);
	size_t n = 0;

	for (size_t i = 0; out != NULL && i < s.len; i++) {
		if (s.data[i] != '=') {
			out[n++] = s.data[i];
			continue;
		}
		out[n++] = s.data[i + 2] == 'C' ? ',' : '=';
		i += 2;
	}
	if (out != NULL)
		out[n] = '\0';
	return out;
}

/* UTF-8 in which every '=' begins one of the two codes that there are. */
static bool
is_name(struct grapnel_str s)
{
	if (!utf8_is_text(s, false))
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i] == '=' &&
		    (s.len - i < 3 ||
			(memcmp(s.data + i, "=2C", 3) != 0 && memcmp(s.data + i, "=3D", 3) != 0)))
			return false;
	return s.len > 0;
}

/* Printable ASCII without a comma. */
static bool
is_nonce(struct grapnel_str s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.data[i] < 0x21 || s.data[i] > 0x7e || s.data[i] == ',')
			return false;
	return s.len > 0;
}

/* ------------------------------------------------------------- client-first-message */

struct first {
	struct grapnel_str header; /* of GS2, both commas included */
	struct grapnel_str authzid, bare, name, nonce;
};

/* false: not of that form, or something that is not supported here. */
static bool
parse_first(struct grapnel_str text, struct first *f)
{
	struct grapnel_str rest = text, flag, authzid, part;

	memset(f, 0, sizeof(*f));
	/* "p=": channel binding is not offered here; "y": the client could, and thinks that we cannot. */
	flag = next_part(&rest);
	if (flag.len != 1 || (flag.data[0] != 'n' && flag.data[0] != 'y') || rest.data == NULL)
		return false;
	authzid = next_part(&rest);
	if (rest.data == NULL ||
	    (authzid.len > 0 && (!attribute(authzid, 'a', &f->authzid) || !is_name(f->authzid))))
		return false;
	f->header = (struct grapnel_str){ text.data, (size_t)(rest.data - text.data) };
	f->bare = rest;
	/* "m=", a mandatory extension, is not known here and not "n=" either. */
	if (!attribute(next_part(&rest), 'n', &f->name) || !is_name(f->name) || rest.data == NULL ||
	    !attribute(next_part(&rest), 'r', &f->nonce) || !is_nonce(f->nonce))
		return false;
	while (rest.data != NULL) {
		part = next_part(&rest);
		if (!is_extension(part) || !utf8_is_text(part, true))
			return false;
	}
	return true;
}

static bool
keep_first(struct scram *x, const struct first *f, struct grapnel_str server_nonce)
{
	x->username = decode_name(f->name);
	x->first_bare = text_copy(f->bare);
	if ((x->channel = malloc(BASE64_SIZE(f->header.len))) != NULL)
		base64_encode(x->channel, (const uint8_t *)f->header.data, f->header.len, true);
	if ((x->nonce = malloc(f->nonce.len + server_nonce.len + 1)) != NULL) {
		memcpy(x->nonce, f->nonce.data, f->nonce.len);
		memcpy(x->nonce + f->nonce.len, server_nonce.data, server_nonce.len);
		x->nonce[f->nonce.len + server_nonce.len] = '\0';
	}
	return x->username != NULL && x->first_bare != NULL && x->channel != NULL &&
	    x->nonce != NULL;
}

int
scram_begin_with(enum scram_hash hash, struct grapnel_str client_first,
    struct grapnel_str server_nonce, struct scram **out, struct grapnel_str *username)
{
	struct scram *x;
	struct first f;

	if (client_first.len == 0 || client_first.len > SCRAM_MAX_MESSAGE ||
	    !parse_first(client_first, &f))
		return SCRAM_EMALFORMED;
	/* Nobody acts for somebody else here. */
	if (f.authzid.data != NULL &&
	    (f.authzid.len != f.name.len || memcmp(f.authzid.data, f.name.data, f.name.len) != 0))
		return SCRAM_EMALFORMED;
	if ((x = calloc(1, sizeof(*x))) == NULL)
		return SCRAM_ENOMEM;
	x->hash = hash;
	x->iterations = SCRAM_DEFAULT_ITERATIONS;
	x->salt_len = SCRAM_SALT;
	if (!keep_first(x, &f, server_nonce)) {
		scram_free(x);
		return SCRAM_ENOMEM;
	}
	*out = x;
	*username = str(x->username);
	return SCRAM_OK;
}

int
scram_begin(enum scram_hash hash, struct grapnel_str client_first, const unsigned char *nonce,
    size_t nonce_len, struct scram **out, struct grapnel_str *username)
{
	char text[BASE64_SIZE(MAX_NONCE)];

	base64_encode(text, nonce, nonce_len < MAX_NONCE ? nonce_len : MAX_NONCE, true);
	return scram_begin_with(hash, client_first, str(text), out, username);
}

/* ------------------------------------------------------------- server-first-message */

void
scram_unknown_like(struct scram *x, struct grapnel_str credential)
{
	struct scram_stored like;

	if (scram_parse_credential(credential, &like) && like.hash == x->hash) {
		x->iterations = like.iterations;
		x->salt_len = like.salt_len;
	}
	explicit_bzero(&like, sizeof(like));
}

/* A credential of nobody, the same for a name and method each time. */
static bool
pretend(struct scram *x, const unsigned char secret[32])
{
	unsigned char of_method[SCRAM_MAX_KEY], of_name[SCRAM_MAX_KEY];
	char method = (char)x->hash;
	bool good =
	    scram_hmac(SCRAM_SHA_512, secret, 32, (struct grapnel_str){ &method, 1 }, of_method) &&
	    scram_hmac(SCRAM_SHA_512, of_method, sizeof(of_method), str(x->username), of_name);

	x->stored.hash = x->hash;
	x->stored.iterations = x->iterations;
	x->stored.salt_len = x->salt_len;
	x->stored.key_len = scram_key_len(x->hash);
	if (good)
		memcpy(x->stored.salt, of_name, sizeof(x->stored.salt));
	return good;
}

bool
scram_stir_secret(unsigned char secret[32], struct grapnel_str text)
{
	unsigned char out[SCRAM_MAX_KEY];
	bool good = scram_hmac(SCRAM_SHA_512, secret, 32, text, out);

	if (good)
		memcpy(secret, out, 32);
	explicit_bzero(out, sizeof(out));
	return good;
}

int
scram_challenge(struct scram *x, struct grapnel_str credential, const unsigned char secret[32],
    struct grapnel_str *message)
{
	char salt[BASE64_SIZE(SCRAM_MAX_SALT)];
	size_t size;

	if (x->state != WANTS_CHALLENGE)
		return SCRAM_EMALFORMED;
	x->state = OVER;
	x->known = credential.data != NULL;
	if (x->known &&
	    (!scram_parse_credential(credential, &x->stored) || x->stored.hash != x->hash))
		return SCRAM_ECREDENTIAL;
	if (!x->known && !pretend(x, secret))
		return SCRAM_ENOMEM;
	base64_encode(salt, x->stored.salt, x->stored.salt_len, true);
	size = strlen(x->nonce) + strlen(salt) + sizeof("r=,s=,i=1000000");
	if ((x->challenge = malloc(size)) == NULL)
		return SCRAM_ENOMEM;
	(void)snprintf(x->challenge, size, "r=%s,s=%s,i=%u", x->nonce, salt, x->stored.iterations);
	x->state = WANTS_PROOF;
	*message = str(x->challenge);
	return SCRAM_OK;
}

/* ------------------------------------------------------------- client-final-message */

struct last {
	struct grapnel_str without_proof, channel, nonce;
	unsigned char proof[SCRAM_MAX_KEY];
	size_t proof_len;
};

static bool
parse_last(struct grapnel_str text, struct last *l)
{
	struct grapnel_str rest = text, part, proof;

	if (!attribute(next_part(&rest), 'c', &l->channel) || rest.data == NULL ||
	    !attribute(next_part(&rest), 'r', &l->nonce))
		return false;
	while (rest.data != NULL) {
		part = next_part(&rest);
		if (rest.data == NULL) { /* the proof is the last one */
			l->without_proof =
			    (struct grapnel_str){ text.data, (size_t)(part.data - text.data) - 1 };
			return attribute(part, 'p', &proof) && proof.len % 4 == 0 &&
			    base64_decode(
				proof.data, proof.len, l->proof, sizeof(l->proof), &l->proof_len);
		}
		if (!is_extension(part) || !utf8_is_text(part, true))
			return false;
	}
	return false;
}

static bool
equals(struct grapnel_str s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* SCRAM_OK: the proof is that of the stored key. */
static int
check_proof(const struct scram *x, const struct last *l, struct grapnel_str auth_message)
{
	const struct scram_stored *s = &x->stored;
	unsigned char key[SCRAM_MAX_KEY], hashed[SCRAM_MAX_KEY];
	int result = SCRAM_ENOMEM;

	if (scram_hmac(x->hash, s->stored_key, s->key_len, auth_message, key)) {
		for (size_t i = 0; i < s->key_len; i++)
			key[i] ^= l->proof[i];
		if (scram_digest(x->hash, key, s->key_len, hashed))
			result = scram_equal(hashed, s->stored_key, s->key_len) && x->known
			    ? SCRAM_OK
			    : SCRAM_EWRONG;
	}
	explicit_bzero(key, sizeof(key));
	explicit_bzero(hashed, sizeof(hashed));
	return result;
}

static bool
make_final(struct scram *x, struct grapnel_str auth_message)
{
	unsigned char signature[SCRAM_MAX_KEY];

	if (!scram_hmac(
		x->hash, x->stored.server_key, x->stored.key_len, auth_message, signature) ||
	    (x->final = malloc(2 + BASE64_SIZE(SCRAM_MAX_KEY))) == NULL)
		return false;
	memcpy(x->final, "v=", 2);
	base64_encode(x->final + 2, signature, x->stored.key_len, true);
	return true;
}

int
scram_finish(struct scram *x, struct grapnel_str client_final, struct grapnel_str *message)
{
	struct grapnel_str auth_message;
	char *text;
	struct last l;
	size_t size;
	int result;

	if (x->state != WANTS_PROOF)
		return SCRAM_EMALFORMED;
	x->state = OVER; /* one try */
	memset(&l, 0, sizeof(l));
	if (client_final.len == 0 || client_final.len > SCRAM_MAX_MESSAGE ||
	    !parse_last(client_final, &l) || !equals(l.channel, x->channel) ||
	    !equals(l.nonce, x->nonce) || l.proof_len != x->stored.key_len)
		return SCRAM_EMALFORMED;
	size = strlen(x->first_bare) + strlen(x->challenge) + l.without_proof.len + 3;
	if ((text = malloc(size)) == NULL)
		return SCRAM_ENOMEM;
	auth_message = (struct grapnel_str){ text,
		(size_t)snprintf(text, size, "%s,%s,%.*s", x->first_bare, x->challenge,
		    (int)l.without_proof.len, l.without_proof.data) };
	result = check_proof(x, &l, auth_message);
	if (result == SCRAM_OK && !make_final(x, auth_message))
		result = SCRAM_ENOMEM;
	if (result == SCRAM_OK)
		*message = str(x->final);
	free(text);
	explicit_bzero(&l, sizeof(l));
	return result;
}

void
scram_free(struct scram *x)
{
	if (x == NULL)
		return;
	wipe(x->username);
	wipe(x->channel);
	wipe(x->first_bare);
	wipe(x->nonce);
	wipe(x->challenge);
	wipe(x->final);
	explicit_bzero(x, sizeof(*x));
	free(x);
}
