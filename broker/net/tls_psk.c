/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS pre-shared keys: from psk_file, and from plugins.
 *
 * OpenSSL asks in a callback, for TLS 1.2 and 1.3 in different ones, and wants the key when it returns. Plugins are asked in
 * tls_psk_ask.c.
 */
#include "net/tls_internal.h"
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX      GRAPNEL_PSK_KEY_MAX
#define IDENTITY_MAX PSK_IDENTITY_MAX
#define LINE_MAX_PSK 512

struct psk_key {
	struct psk_key *next;
	char identity[IDENTITY_MAX + 1];
	uint8_t key[KEY_MAX];
	size_t len;
};
struct psk_keys {
	struct psk_key **buckets;
	size_t bucket_count, count;
};

/* ---- the file ---------------------------------------------------------------------------------- */

static size_t
bucket_of(const struct psk_keys *keys, const char *identity)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *identity != '\0'; identity++)
		h = (h ^ (unsigned char)*identity) * UINT64_C(0x100000001b3);
	return (size_t)(h ^ h >> 32) & (keys->bucket_count - 1);
}

static const struct psk_key *
find(const struct psk_keys *keys, const char *identity)
{
	const struct psk_key *k = NULL;

	if (keys != NULL)
		for (k = keys->buckets[bucket_of(keys, identity)];
		     k != NULL && strcmp(k->identity, identity) != 0; k = k->next)
			continue;
	return k;
}

void
psk_keys_free(struct psk_keys *keys)
{
	if (keys == NULL)
		return;
	for (size_t i = 0; i < keys->bucket_count; i++) {
		for (struct psk_key *k = keys->buckets[i], *next; k != NULL; k = next) {
			next = k->next;
			OPENSSL_clear_free(k, sizeof(*k));
		}
	}
	free(keys->buckets);
	free(keys);
}

static void
grow(struct psk_keys *keys)
{
	struct psk_keys bigger = { .bucket_count = keys->bucket_count * 2, .count = keys->count };

	if ((bigger.buckets = calloc(bigger.bucket_count, sizeof(struct psk_key *))) == NULL)
		return; /* longer lists will do */
	for (size_t i = 0; i < keys->bucket_count; i++) {
		for (struct psk_key *k = keys->buckets[i], *next; k != NULL; k = next) {
			size_t b = bucket_of(&bigger, k->identity);

			next = k->next;
			k->next = bigger.buckets[b];
			bigger.buckets[b] = k;
		}
	}
	free(keys->buckets);
	*keys = bigger;
}

/* "identity:hex". @return NULL: it is in keys; else what is wrong with the line. */
static const char *
add_line(struct psk_keys *keys, char *line)
{
	char *colon = strrchr(line, ':'), *hex = colon != NULL ? colon + 1 : NULL;
	struct psk_key *k;
	size_t b, digits;

	if (colon == NULL || colon == line)
		return "is not \"identity:hex key\"";
	*colon = '\0';
	if (strlen(line) > IDENTITY_MAX)
		return "has an identity of more than 128 bytes";
	digits = strlen(hex);
	if (digits < 32 || digits > 2 * KEY_MAX || digits % 2 != 0 ||
	    strspn(hex, "0123456789abcdefABCDEF") != digits)
		return "needs a key of 32 to 128 hexadecimal digits";
	if (find(keys, line) != NULL)
		return "names an identity that an earlier line has";
	if ((k = OPENSSL_zalloc(sizeof(*k))) == NULL)
		return "found no memory";
	memcpy(k->identity, line, strlen(line));
	k->len = digits / 2;
	for (size_t i = 0; i < k->len; i++) {
		char byte[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		k->key[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	if (keys->count == keys->bucket_count)
		grow(keys);
	b = bucket_of(keys, k->identity);
	k->next = keys->buckets[b];
	keys->buckets[b] = k;
	keys->count++;
	return NULL;
}

struct psk_keys *
psk_keys_read(const char *path, char *why, size_t size)
{
	struct psk_keys *keys = calloc(1, sizeof(*keys));
	FILE *f = fopen(path, "re");
	char line[LINE_MAX_PSK];
	const char *wrong = NULL;
	unsigned number = 0;

	if (keys != NULL) {
		keys->bucket_count = 64;
		keys->buckets = calloc(keys->bucket_count, sizeof(struct psk_key *));
	}
	if (f == NULL || keys == NULL || keys->buckets == NULL) {
		snprintf(why, size, "%s: %s", path, strerror(f == NULL ? errno : ENOMEM));
		goto fail;
	}
	while (wrong == NULL && fgets(line, sizeof(line), f) != NULL) {
		size_t len = strcspn(line, "\r\n");

		number++;
		if (line[len] == '\0' && len == sizeof(line) - 1)
			wrong = "is too long";
		line[len] = '\0';
		if (wrong == NULL && line[0] != '\0' && line[0] != '#')
			wrong = add_line(keys, line);
	}
	OPENSSL_cleanse(line, sizeof(line));
	if (wrong != NULL) {
		snprintf(why, size, "%s:%u: the line %s", path, number, wrong);
		goto fail;
	}
	if (ferror(f)) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		goto fail;
	}
	(void)fclose(f);
	return keys;
fail:
	if (f != NULL)
		(void)fclose(f);
	psk_keys_free(keys);
	return NULL;
}

/* ---- in the handshake -------------------------------------------------------------------------- */

/*
 * That a key was found proves nothing yet: a client of TLS 1.3 may offer an identity and then go on without it, with a
 * certificate of ours or a ticket. So the user name is noted in the session, and only the session with which the handshake
 * ends has a say (tls_psk_facts).
 */
static bool
note_user(SSL_SESSION *session, const struct psk_found *f)
{
	return SSL_SESSION_set1_ticket_appdata(session, f->username, f->username_len) == 1;
}

bool
tls_psk_facts(struct handshake *h, SSL *ssl)
{
	SSL_SESSION *session = SSL_get_session(ssl);
	void *name = NULL;
	size_t len = 0;

	h->why[0] = '\0';
	/* Elsewhere tls_tickets.c keeps something else there; with pre-shared keys there are no tickets. */
	if (h->tls->psk == NULL && !h->tls->psk_hook)
		return true;
	if (session == NULL || SSL_SESSION_get0_ticket_appdata(session, &name, &len) != 1 ||
	    len == 0)
		return true;
	if (facts_set_username(&h->facts, GRAPNEL_IDENTITY_PSK, name, len))
		return true;
	(void)handshake_fail(h,
	    "TLS: its pre-shared key is good, but the identity cannot be a user "
	    "name (UTF-8 without control characters)");
	return false;
}

static enum psk_result
key_for(SSL *ssl, const char *identity, size_t len, struct psk_found *out)
{
	struct handshake *h = tls_handshake_of(ssl);
	const struct psk_key *k;
	enum psk_result r;

	out->len = 0;
	if (h == NULL || len == 0 || len > IDENTITY_MAX || memchr(identity, '\0', len) != NULL)
		return PSK_UNKNOWN;
	if ((k = find(h->tls->psk, identity)) != NULL) {
		out->len = k->len;
		memcpy(out->key, k->key, k->len);
		out->username_len = len;
		memcpy(out->username, identity, len);
		return PSK_FOUND;
	}
	r = psk_ask(h, identity, len, out);
	if (r == PSK_UNKNOWN)
		(void)snprintf(
		    h->why, sizeof(h->why), "nobody knows a pre-shared key of \"%s\"", identity);
	return r;
}

/*
 * An unknown identity is answered as one whose key is wrong, with a key that nobody has: so a peer does not learn who exists
 * (RFC 4279 section 2, RFC 8446 appendix E.6).
 */
static bool
nobodys_key(struct psk_found *f)
{
	f->len = 32;
	f->username_len = 0;
	return RAND_bytes(f->key, (int)f->len) == 1;
}

static unsigned
on_psk_12(SSL *ssl, const char *identity, unsigned char *psk, unsigned max)
{
	struct psk_found f;
	unsigned len = max + 1; /* internal_error, where 0 were unknown_psk_identity */
	enum psk_result r;

	if (identity == NULL || SSL_version(ssl) == TLS1_3_VERSION) /* on_psk_13 has been asked */
		return 0;
	r = key_for(ssl, identity, strlen(identity), &f);
	if (r == PSK_UNKNOWN
		? nobodys_key(&f)
		: r == PSK_FOUND && f.len <= max && note_user(SSL_get_session(ssl), &f)) {
		memcpy(psk, f.key, f.len);
		len = (unsigned)f.len;
	}
	OPENSSL_cleanse(&f, sizeof(f));
	return len;
}

/* Nothing but pre-shared keys will do here. */
static bool
psk_only(const SSL *ssl)
{
	const struct listener_settings *ls = tls_handshake_of(ssl)->ls;

	return ls->certificate.count == 0 && ls->server_name_count == 0;
}

static int
on_psk_13(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **out)
{
	static const uint8_t aes_128_gcm_sha256[] = { 0x13, 0x01 };
	char name[IDENTITY_MAX + 1];
	struct psk_found f;
	enum psk_result r;
	SSL_SESSION *s;
	int ok;

	*out = NULL;
	if (len > IDENTITY_MAX || tls_handshake_of(ssl) == NULL)
		return 1; /* a ticket of ours, or nobody's: go on without */
	memcpy(name, identity, len);
	name[len] = '\0';
	r = key_for(ssl, name, len, &f);
	if (r == PSK_UNAVAILABLE)
		return 0;
	if (r == PSK_UNKNOWN && !psk_only(ssl)) { /* may come in with the certificate */
		tls_handshake_of(ssl)->why[0] = '\0';
		return 1;
	}
	s = SSL_SESSION_new();
	ok = s != NULL && (r == PSK_FOUND ? note_user(s, &f) : nobodys_key(&f)) &&
	    SSL_SESSION_set1_master_key(s, f.key, f.len) == 1 &&
	    SSL_SESSION_set_cipher(s, SSL_CIPHER_find(ssl, aes_128_gcm_sha256)) == 1 &&
	    SSL_SESSION_set_protocol_version(s, TLS1_3_VERSION) == 1;
	OPENSSL_cleanse(&f, sizeof(f));
	if (!ok) {
		SSL_SESSION_free(s);
		return 0;
	}
	*out = s;
	return 1;
}

void
tls_psk_use(SSL_CTX *ctx)
{
	SSL_CTX_set_psk_server_callback(ctx, on_psk_12);
	SSL_CTX_set_psk_find_session_callback(ctx, on_psk_13);
}
