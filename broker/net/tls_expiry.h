/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_expiry - tells before a certificate that is shown to clients ends
 *
 * Told at the start, at every reload and once a day: a warning from 30 days ahead, an error once it has ended. What /metrics shows
 * of it (grapnel_cert_expiry_seconds) is for those who watch from outside.
 *
 * Threads:   main.
 * Ownership: the timer is in struct listeners.
 */
#ifndef BROKER_NET_TLS_EXPIRY_H
#define BROKER_NET_TLS_EXPIRY_H

#include <stddef.h>
#include <stdint.h>

struct listeners;
struct tls_certificate;

void tls_expiry_start(struct listeners *l); /* look now, and every day from now on; again: begins anew */
void tls_expiry_stop(struct listeners *l);  /* also if it never started */

/* Every certificate of every listener that has TLS. */
void tls_expiry_each(const struct listeners *l,
    void (*fn)(const char *listener, const struct tls_certificate *c, void *arg), void *arg);

/* What to say of a certificate. @return an enum grapnel_log_level; 0: nothing, it is good for a while. */
int tls_expiry_text(const char *listener, const struct tls_certificate *c, int64_t now_s, char *out, size_t size);

#endif
