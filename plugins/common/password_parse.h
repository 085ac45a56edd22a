/* SPDX-License-Identifier: Apache-2.0 */
/*
 * password_parse - taking the text of a password hash apart
 *
 * Private to password*.c. Strict: what is not exactly the form that the tools write is refused
 * when a file is loaded, rather than never matching at a login.
 */
#ifndef PLUGINS_COMMON_PASSWORD_PARSE_H
#define PLUGINS_COMMON_PASSWORD_PARSE_H

#include "password.h"

#include <stdbool.h>

#define PASSWORD_MAX_SALT   64
#define PASSWORD_MAX_DIGEST 64

struct password_parts {
	struct password_cost cost;
	bool sha256; /* PBKDF2 with SHA-256 */
	/* salt and digest: schemes that are not crypt(5)'s; those keep their text */
	size_t salt_len, digest_len;
	uint8_t salt[PASSWORD_MAX_SALT], digest[PASSWORD_MAX_DIGEST];
};

/* 0, or an enum password_error. */
int password_parse(const char *hash, size_t len, struct password_parts *out);

#endif
