/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tls_context.h share. */
#ifndef BROKER_NET_TLS_INTERNAL_H
#define BROKER_NET_TLS_INTERNAL_H

#include "net/handshake.h"
#include "net/tls_context.h"
#include <grapnel/hooks.h>
#include <openssl/ssl.h>
#include <stdatomic.h>

struct psk_keys;

struct tls_name {
	char *name; /* lower case; "*.example.org" */
	SSL_CTX *ctx;
};
struct tls_context {
	_Atomic uint32_t refs;
	SSL_CTX *ctx; /* what a connection begins with */
	struct tls_name *names;
	unsigned name_count;
	struct psk_keys *psk; /* NULL: no psk_file */
	bool psk_hook, websocket;
	struct tls_certificate *certificates; /* server_name and file on the heap */
	unsigned certificate_count;
};

/* The oldest entry of OpenSSL's error queue as text, and the queue empty. Returns out. */
const char *tls_error(char *out, size_t size);

/* tls_tickets.c: use the broker's own keys, which outlive contexts. false: no memory. */
bool tls_tickets_use(SSL_CTX *ctx);

/* tls_psk.c */
/* On failure one message in why. */
struct psk_keys *psk_keys_read(const char *path, char *why, size_t size);
void psk_keys_free(struct psk_keys *keys);
void tls_psk_use(SSL_CTX *ctx); /* ask the handshake (tls_handshake_of) for keys */
/* The user name that a pre-shared key stands for, if the handshake was made with one. false: h->why says why it is refused. */
bool tls_psk_facts(struct handshake *h, SSL *ssl);

/* tls_psk_ask.c */
#define PSK_IDENTITY_MAX 128u /* PSK_MAX_IDENTITY_LEN of OpenSSL */
#define PSK_USERNAME_MAX 1024u
enum psk_result { PSK_UNKNOWN, PSK_FOUND, PSK_UNAVAILABLE };
struct psk_found {
	size_t len, username_len;
	uint8_t key[GRAPNEL_PSK_KEY_MAX];
	char username[PSK_USERNAME_MAX];
};
bool psk_ask_possible(void); /* does this OpenSSL let a handshake wait? */
bool psk_ask_begin(struct handshake *h, SSL *ssl); /* before the first SSL_accept. false: no memory */
/* Inside a callback of OpenSSL's: asks the plugins, and pauses until they have answered. */
enum psk_result psk_ask(struct handshake *h, const char *identity, size_t len, struct psk_found *out);
/* SSL_accept said SSL_ERROR_WANT_ASYNC: because of psk_ask? */
bool psk_ask_wanted(const struct handshake *h);
/* It is so. true: call SSL_accept again; false: when h->wake is called. */
bool psk_ask_now(struct handshake *h);
void psk_ask_end(struct handshake *h, SSL *ssl); /* done, or given up: at any time before SSL_free */

/* tls.c: whose handshake this is; NULL: it is over. */
struct handshake *tls_handshake_of(const SSL *ssl);

/* tls_facts.c: what is to be known of a peer whose handshake is done. false: h->why says why it is refused. */
bool tls_facts(struct handshake *h, SSL *ssl);

#endif
