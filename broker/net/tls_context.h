/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_context - what a listener needs for TLS: certificates, keys, authorities, revocation lists, pre-shared keys
 *
 * Everything is read from its files when a context is made, at the start and again at every reload, whether or not the
 * configuration changed. A context is complete or it is not made: a bad file refuses the reload as a whole,
 * and the old contexts go on. Connections keep the one with which they began.
 *
 * tls_context.c	contexts, names (SNI), ALPN
 * tls_files.c		what is read from files
 * tls_tickets.c	keys of session tickets, rotated
 * tls_psk.c		pre-shared keys
 * tls_expiry.h		which certificates end soon
 * tls_facts.c		who a certificate says the peer is
 * tls_socket.c		what is below OpenSSL
 * tls.c		the handshake and the stream
 *
 * Threads:   made and freed anywhere; used by any number of threads at once (OpenSSL counts and locks).
 * Ownership: counted.
 */
#ifndef BROKER_NET_TLS_CONTEXT_H
#define BROKER_NET_TLS_CONTEXT_H

#include "config/settings.h"
#include <stdint.h>

struct conf_errors;
struct tls_context;
struct tls_set; /* one context for each listener of a struct settings that has tls = yes */

/* On failure messages say which file of which listener, and what to do; all of them, not only the first. */
int tls_set_new(const struct settings *s, struct conf_errors *errs, struct tls_set **out);
void tls_set_free(struct tls_set *set); /* NULL is fine */
/* Exchange the context of a listener, by its position in the settings; NULL: it has no TLS. */
void tls_set_swap(struct tls_set *set, unsigned listener, struct tls_context **context);

struct tls_context *tls_context_ref(struct tls_context *t);
void tls_context_unref(struct tls_context *t); /* NULL is fine */

/* The certificates that are shown: when does each end? */
struct tls_certificate {
	const char *server_name; /* "" : those who ask for no name, or for none that is known */
	const char *file;
	int64_t not_after; /* seconds since 1970; of the first in its chain to end */
};
const struct tls_certificate *tls_context_certificates(const struct tls_context *t, unsigned *count);

#endif
