/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signature - libjwt, behind a door of its own
 *
 * libjwt believes the header: given the PEM of an RSA key and a token that says HS256, it takes the PEM for the secret. Nothing
 * gets to it but a token whose algorithm goes with the kind of the key (token.h). Before 1.17 it also compares HMACs with
 * strcmp, so that those are OpenSSL's business, and the comparison always takes the same time.
 *
 * Threads:   any. An HMAC takes about ten microseconds, anything else 300 to 1000: libjwt reads the PEM each time.
 */
#ifndef PLUGINS_AUTH_JWT_SIGNATURE_H
#define PLUGINS_AUTH_JWT_SIGNATURE_H

#include "key.h"

struct token;

bool signature_is_right(const struct token *t, const struct key *key);

#endif
