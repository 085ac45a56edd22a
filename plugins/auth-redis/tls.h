/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls - TLS to a server by OpenSSL, on a socket that does not block
 *
 * hiredis 0.14 has none, and that of later ones does not look at host names.
 *
 * Threads:   a context is made in create() and shared; a struct ssl_st belongs to one connection.
 */
#ifndef AUTH_REDIS_TLS_H
#define AUTH_REDIS_TLS_H

#include "endpoint.h"

#include <openssl/types.h>

struct tls_options {
	struct grapnel_str ca, certificate, private_key, server_name; /* .data NULL: none */
	bool check_name;
};

struct tls_context;
/* NULL: *option is the one to blame, or NULL; error says why. */
struct tls_context *tls_context_new(
    const struct tls_options *o, const char **option, char *error, size_t error_size);
void tls_context_free(struct tls_context *t); /* NULL is fine */

SSL *tls_open(const struct tls_context *t, int fd, const struct endpoint *to); /* NULL: no memory */
void tls_close(SSL *ssl);						       /* NULL is fine */

/* How many bytes; TLS_AGAIN: watch for tls_wants; TLS_END: it closed; TLS_FAILED: why says so. */
enum { TLS_AGAIN = -1, TLS_END = -2, TLS_FAILED = -3 };
long tls_handshake(SSL *ssl, char *why, size_t why_size); /* 1: done */
long tls_read(SSL *ssl, char *buffer, size_t size, char *why, size_t why_size);
long tls_write(SSL *ssl, const char *data, size_t len, char *why, size_t why_size);
unsigned tls_wants(SSL *ssl); /* GRAPNEL_READABLE | GRAPNEL_WRITABLE */
bool tls_pending(SSL *ssl);   /* bytes that no descriptor will tell of */

#endif
