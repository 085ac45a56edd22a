/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of tls_context.h share. */
#ifndef BROKER_NET_TLS_INTERNAL_H
#define BROKER_NET_TLS_INTERNAL_H

#include "net/handshake.h"
#include "net/tls_context.h"
#include <grapnel/hooks.h>
#include <openssl/ssl.h>
#include <stdatomic.h>

struct conf_errors;
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
	bool psk_hook;
	struct tls_certificate *certificates; /* server_name and file on the heap */
	unsigned certificate_count;
};

/* tls_files.c */
#define TLS_KINDS_MAX 8u /* of keys; OpenSSL knows six that sign */
/* While a context is made: where messages belong, and what there is already. */
struct tls_making {
	const struct listener_settings *ls;
	const char *where, *name; /* of the server_name; NULL: the listener itself */
	struct conf_errors *errs;
	int kinds[TLS_KINDS_MAX]; /* of keys, in this context */
	unsigned kind_count;
	bool failed;
};
void tls_refuse(struct tls_making *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The oldest entry of OpenSSL's error queue as text, and the queue empty. Returns out. */
const char *tls_error(char *out, size_t size);
void tls_pair_use(struct tls_making *m, struct tls_context *t, SSL_CTX *ctx, const char *certificate, const char *private_key);
void tls_staple(struct tls_making *m, SSL_CTX *ctx, const char *path); /* NULL: none */
void tls_authorities_use(struct tls_making *m, SSL_CTX *ctx);
void tls_revocations_use(struct tls_making *m, SSL_CTX *ctx);

/*
 * tls_tickets.c: use the broker's own keys, which outlive contexts. No ticket outlives the certificate of its Client, nor
 * TICKET_KEY_S after the last full handshake. false: no memory.
 */
bool tls_tickets_use(SSL_CTX *ctx);

/* tls_psk.c */
/* On failure one message in why. */
struct psk_keys *psk_keys_read(const char *path, char *why, size_t size);
void psk_keys_free(struct psk_keys *keys);
void tls_psk_use(SSL_CTX *ctx); /* ask the handshake (tls_handshake_of) for keys */
/* The user name that a pre-shared key stands for, if the handshake was made with one. false: h->why says why it is refused. */
bool tls_psk_facts(struct handshake *h, SSL *ssl);

/* tls_psk_ask.c */
#define PSK_IDENTITY_MAX 128u /* ours; OpenSSL takes up to 256 */
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

/* tls_socket.c: the descriptor below an SSL, whose this is. */
struct tls_socket;
bool tls_socket_use(SSL *ssl, int fd); /* false: no memory. The descriptor stays the caller's. */
struct tls_socket *tls_socket_of(const SSL *ssl);
size_t tls_socket_held(const struct tls_socket *s); /* bytes that OpenSSL has written and the socket had no room for */
int tls_socket_flush(struct tls_socket *s);	    /* -1: errno, EAGAIN when some are still held */

/* tls.c: whose handshake this is; NULL: it is over. */
struct handshake *tls_handshake_of(const SSL *ssl);

/* tls_facts.c: what is to be known of a peer whose handshake is done. false: h->why says why it is refused. */
bool tls_facts(struct handshake *h, SSL *ssl);

#endif
