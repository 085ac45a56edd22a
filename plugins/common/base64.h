/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base64 - as password hashes and SCRAM messages have it (RFC 4648 section 4)
 *
 * Threads: any; pure.
 */
#ifndef PLUGINS_COMMON_BASE64_H
#define PLUGINS_COMMON_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BASE64_SIZE(bytes) (((bytes) + 2) / 3 * 4 + 1)

/* NUL-terminated; out has room for BASE64_SIZE(len). */
void base64_encode(char *out, const uint8_t *bytes, size_t len, bool padded);
/* Strict: the right padding or none at all, no bits left over. false: not base64, or more than size bytes. */
bool base64_decode(const char *text, size_t len, uint8_t *out, size_t size, size_t *out_len);

#endif
