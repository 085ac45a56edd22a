/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tls_context.h share. */
#ifndef BROKER_NET_TLS_INTERNAL_H
#define BROKER_NET_TLS_INTERNAL_H

#include "net/handshake.h"
#include "net/tls_context.h"
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

/* tls.c: whose handshake this is; NULL: it is over. */
struct handshake *tls_handshake_of(const SSL *ssl);

/* tls_facts.c: what is to be known of a peer whose handshake is done. false: h->why says why it is refused. */
bool tls_facts(struct handshake *h, SSL *ssl);

#endif
