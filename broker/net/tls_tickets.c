/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of session tickets. They are the broker's, not a context's, so that sessions are resumed after a reload
 * and on every worker; they exist in memory only. A key encrypts for TICKET_KEY_S and decrypts for as long again; what it decrypts
 * then is renewed with the new one.
 */
#include "net/tls_internal.h"
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#define TICKET_KEY_S (12 * 3600)

struct ticket_key {
	uint8_t name[16], cipher[32], mac[32];
	int64_t born_s; /* monotonic; 0: none */
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct ticket_key keys[2]; /* the one that encrypts, and the one before */
static EVP_CIPHER *aes_cbc;       /* looked up once; lives as long as the process */

static int64_t
now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec + 1;
}

static bool
key_current(struct ticket_key *out)
{
	int64_t now = now_s();
	bool ok = true;

	pthread_mutex_lock(&lock);
	if (keys[0].born_s == 0 || now - keys[0].born_s >= TICKET_KEY_S) {
		struct ticket_key fresh = { .born_s = now };

		ok = RAND_bytes(fresh.name, sizeof(fresh.name)) == 1 &&
		    RAND_priv_bytes(fresh.cipher, sizeof(fresh.cipher)) == 1 &&
		    RAND_priv_bytes(fresh.mac, sizeof(fresh.mac)) == 1;
		if (ok) {
			keys[1] = keys[0];
			keys[0] = fresh;
		}
		OPENSSL_cleanse(&fresh, sizeof(fresh));
	}
	*out = keys[0];
	pthread_mutex_unlock(&lock);
	return ok;
}

/* 0: no such; 1: the current one; 2: the one before, so the ticket is to be renewed. */
static int
key_named(const uint8_t *name, struct ticket_key *out)
{
	int64_t now = now_s();
	int found = 0;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < 2 && found == 0; i++) {
		if (keys[i].born_s == 0 || now - keys[i].born_s >= 2 * TICKET_KEY_S ||
		    memcmp(keys[i].name, name, sizeof(keys[i].name)) != 0)
			continue;
		*out = keys[i];
		found = now - keys[i].born_s < TICKET_KEY_S ? 1 : 2;
	}
	pthread_mutex_unlock(&lock);
	return found;
}

static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int encrypt)
{
	struct ticket_key key;
	OSSL_PARAM params[3];
	int found = 1, ok;

	(void)ssl;
	if (encrypt) {
		if (!key_current(&key) || RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes_cbc)) != 1)
			return -1;
		memcpy(name, key.name, sizeof(key.name));
	} else if ((found = key_named(name, &key)) == 0) {
		return 0;
	}
	params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof(key.mac));
	params[1] =
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0);
	params[2] = OSSL_PARAM_construct_end();
	ok = EVP_MAC_CTX_set_params(mac, params) == 1 &&
	    EVP_CipherInit_ex(cipher, aes_cbc, NULL, key.cipher, iv, encrypt) == 1;
	OPENSSL_cleanse(&key, sizeof(key));
	return ok ? found : -1;
}

/* What is kept in each ticket: when the peer was last verified in full, for a ticket makes the next one. */
static int
on_ticket_made(SSL *ssl, void *arg)
{
	SSL_SESSION *s = SSL_get_session(ssl);
	int64_t now = now_s();
	void *data;
	size_t len;

	(void)arg;
	if (SSL_SESSION_get0_ticket_appdata(s, &data, &len) == 1 && len == sizeof(now))
		return 1;
	return SSL_SESSION_set1_ticket_appdata(s, &now, sizeof(now));
}

static bool
still_good(SSL_SESSION *s)
{
	const X509 *x = SSL_SESSION_get0_peer(s);
	int64_t since;
	void *data;
	size_t len;

	if (SSL_SESSION_get0_ticket_appdata(s, &data, &len) != 1 || len != sizeof(since))
		return false;
	memcpy(&since, data, sizeof(since));
	return now_s() - since < TICKET_KEY_S &&
	    (x == NULL || X509_cmp_current_time(X509_get0_notAfter(x)) > 0);
}

/* Else it is a full handshake, in which a certificate is verified as any other. */
static SSL_TICKET_RETURN
on_ticket_read(SSL *ssl, SSL_SESSION *s, const unsigned char *name, size_t name_len,
    SSL_TICKET_STATUS status, void *arg)
{
	(void)ssl;
	(void)name;
	(void)name_len;
	(void)arg;
	switch (status) {
	case SSL_TICKET_SUCCESS:
		return still_good(s) ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_IGNORE_RENEW;
	case SSL_TICKET_SUCCESS_RENEW:
		return still_good(s) ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
	default:
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	}
}

bool
tls_tickets_use(SSL_CTX *ctx)
{
	/* Main thread: contexts are made before connections begin with them. */
	if (aes_cbc == NULL && (aes_cbc = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL)) == NULL)
		return false;
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* clients keep their tickets */
	SSL_CTX_set_timeout(ctx, TICKET_KEY_S);
	return SSL_CTX_set_num_tickets(ctx, 1) == 1 &&
	    SSL_CTX_set_session_ticket_cb(ctx, on_ticket_made, on_ticket_read, NULL) == 1 &&
	    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1;
}
