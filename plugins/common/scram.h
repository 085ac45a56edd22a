/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scram - the server's side of SCRAM-SHA-256 and SCRAM-SHA-512 (RFC 5802, RFC 7677), without channel binding
 *
 * Pure: text in, text out. Stored credentials have PostgreSQL's form, so that its tools and ours agree:
 *
 *	SCRAM-SHA-256$<iterations>:<salt, base64>$<StoredKey, base64>:<ServerKey, base64>
 *
 * Base64 is padded. Names and passwords are UTF-8 without control characters. SASLprep's other half, mapping the forms of a
 * character to one (NFKC), is left to clients: ASCII and UTF-8 in its usual form are the same with and without it.
 *
 * Threads:   an exchange belongs to one thread at a time. No call takes long: nothing is iterated on the server.
 * Bounded:   SCRAM_MAX_MESSAGE bytes a message, SCRAM_MAX_ITERATIONS.
 */
#ifndef PLUGINS_COMMON_SCRAM_H
#define PLUGINS_COMMON_SCRAM_H

#include <grapnel/plugin.h>

#define SCRAM_MAX_MESSAGE    2048u
#define SCRAM_MAX_ITERATIONS 1000000u
#define SCRAM_DEFAULT_ITERATIONS 16384u
#define SCRAM_CREDENTIAL_SIZE 384

enum scram_hash { SCRAM_NONE = 0, SCRAM_SHA_256 = 1, SCRAM_SHA_512 = 2 };
enum scram_hash scram_by_method(struct grapnel_str method); /* "SCRAM-SHA-256" ...; SCRAM_NONE: another method */

enum scram_error {
	SCRAM_OK = 0,
	SCRAM_EMALFORMED = -1, /* what the client sent is no such message, or not in turn */
	SCRAM_EWRONG = -2,     /* the proof is not right, or there is no such user */
	SCRAM_ECREDENTIAL = -3, /* the stored credential cannot be used with this method: UNAVAILABLE, log it */
	SCRAM_ENOMEM = -4,
};

struct scram; /* one exchange; opaque: scram.c */
/*
 * Take the client-first-message. *username: the user it names (decoded, borrowed from the exchange); next is scram_challenge.
 * nonce: fresh random bytes, at least 18; base64 of the first 64 at most becomes ours of the nonce. Channel binding (p=),
 * mandatory extensions (m=) and an authzid other than the user are refused as malformed.
 */
int scram_begin(enum scram_hash hash, struct grapnel_str client_first, const unsigned char *nonce, size_t nonce_len,
    struct scram **out, struct grapnel_str *username);
/* Before scram_challenge: should there be no such user, the challenge has the iterations and the length of salt of this
 * credential, which is that of another user. Without it, or when it is of another hash: those of scram_credential. */
void scram_unknown_like(struct scram *x, struct grapnel_str credential);
/*
 * credential .data NULL: no such user. The challenge then looks like a real one and stays the same for that name (its salt is made
 * from `secret`, 32 bytes that the instance keeps), and the proof is never right.
 * *message (server-first-message) is borrowed from the exchange. After an error the exchange is over.
 */
int scram_challenge(struct scram *x, struct grapnel_str credential, const unsigned char secret[32], struct grapnel_str *message);
/* Stir a text into a secret, which is zeros at first, for one that is the same after a restart. false: the library failed. */
bool scram_stir_secret(unsigned char secret[32], struct grapnel_str text);
/* Take the client-final-message. SCRAM_OK: *message (server-final-message) is borrowed from the exchange. There is one try. */
int scram_finish(struct scram *x, struct grapnel_str client_final, struct grapnel_str *message);
void scram_free(struct scram *x); /* wipes; NULL is fine */

/* Make a credential from a password (for tools). false: no memory, a random source that failed, a password that is not UTF-8. */
bool scram_credential(enum scram_hash hash, struct grapnel_str password, unsigned iterations, char out[SCRAM_CREDENTIAL_SIZE]);
/* Is this text one? *hash is its own. */
bool scram_is_credential(struct grapnel_str text, enum scram_hash *hash);
/* Hold a plain password against one: for clients without SCRAM. Iterates: never on a worker. 1, 0, SCRAM_ECREDENTIAL or SCRAM_ENOMEM. */
int scram_verify_password(struct grapnel_str credential, struct grapnel_str password);

#endif
