/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls - the options of TLS, on a handle of libldap
 *
 * Each connection has a TLS context of its own, made when it is. With tls_certificate all connections of an instance share one:
 * libldap with GnuTLS never gives back the memory of a certificate and its key that a context was made with.
 *
 * Threads: tls_prepare in create(); tls_apply on any. Both read files.
 */
#ifndef PLUGINS_AUTH_LDAP_TLS_H
#define PLUGINS_AUTH_LDAP_TLS_H

#include "settings.h"

#include <ldap.h>

/* Can the files be used? false after config_error. */
bool tls_prepare(struct settings *s);
bool tls_apply(const struct settings *s, LDAP *ld);

#endif
