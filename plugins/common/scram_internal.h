/* SPDX-License-Identifier: Apache-2.0 */
/* scram_internal - stored credentials and the arithmetic of SCRAM. Private to scram*.c, password*.c and their tests. */
#ifndef PLUGINS_COMMON_SCRAM_INTERNAL_H
#define PLUGINS_COMMON_SCRAM_INTERNAL_H

#include "scram.h"

#define SCRAM_MAX_SALT 64u
#define SCRAM_MAX_KEY  64u
#define SCRAM_SALT     16u /* in credentials that are made here; PostgreSQL's too */

/* A stored credential, taken apart. Holds secrets: wipe. */
struct scram_stored {
	enum scram_hash hash;
	unsigned iterations;
	size_t salt_len, key_len;
	unsigned char salt[SCRAM_MAX_SALT];
	unsigned char stored_key[SCRAM_MAX_KEY], server_key[SCRAM_MAX_KEY];
};

size_t scram_key_len(enum scram_hash hash);
bool scram_parse_credential(struct grapnel_str text, struct scram_stored *out);
/* false: the library failed. out has room for SCRAM_MAX_KEY bytes. */
bool scram_hmac(enum scram_hash hash, const unsigned char *key, size_t key_len, struct grapnel_str text,
    unsigned char *out);
bool scram_digest(enum scram_hash hash, const unsigned char *bytes, size_t len, unsigned char *out);
/* In time that does not depend on where the first difference is. */
bool scram_equal(const unsigned char *a, const unsigned char *b, size_t len);

/* scram_begin with the server's part of the nonce as text, for examples that others wrote. */
int scram_begin_with(enum scram_hash hash, struct grapnel_str client_first, struct grapnel_str server_nonce,
    struct scram **out, struct grapnel_str *username);

#endif
