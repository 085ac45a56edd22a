/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base64url - RFC 4648 section 5 without padding, as RFC 7515 wants it
 *
 * Strict: nothing outside the alphabet, no padding, no bits left over that are not zero. What libjwt would read in another way
 * than we do does not get as far as libjwt.
 */
#ifndef PLUGINS_AUTH_JWT_BASE64URL_H
#define PLUGINS_AUTH_JWT_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>

#define BASE64URL_ROOM(len) ((len) / 4 * 3 + 3)

/* Only characters of the alphabet, in a number that can be. The empty text is. */
bool base64url_is(const char *text, size_t len);
/* out: BASE64URL_ROOM(len) bytes. */
bool base64url_decode(const char *text, size_t len, unsigned char *out, size_t *out_len);

#endif
