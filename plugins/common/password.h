/* SPDX-License-Identifier: Apache-2.0 */
/*
 * password - stored password hashes: check one, make one
 *
 * Shared by the plugins that keep passwords and by `grapnelctl passwd`. What is understood:
 *
 *	$argon2id$v=19$m=..,t=..,p=..$salt$hash		Argon2id
 *	$y$j9T$salt$hash				yescrypt, crypt(5)
 *	$2a$ $2b$ $2y$					bcrypt, crypt(5)
 *	$5$[rounds=N$]salt$hash  $6$...			SHA-crypt, crypt(5)
 *	$7$iterations$salt$hash				PBKDF2-SHA512, as mosquitto_passwd writes it
 *	$6$salt$hash					SHA-512 of password and salt, the older form of
 *							the same tool; told from SHA-crypt by its last
 *							field, base64 of 64 bytes
 *	PBKDF2$sha512$iterations$salt$hash		(or sha256) as mosquitto-go-auth writes it
 *	$pbkdf2-sha512$i=N,l=BYTES$salt$hash		likewise, ChirpStack's; of both, digests of 16 to 64 bytes
 *	SCRAM-SHA-256$iterations:salt$key:key		(or SCRAM-SHA-512) as PostgreSQL writes it; scram.h
 *
 * A hash is data from outside: before anything is computed its cost is held against the limits
 * below, so that one line in a file or a row in a database cannot cost minutes or gigabytes.
 *
 * Threads: any; nothing is shared. A call takes as long as the hash is strong: never on a worker.
 * Memory:  what the scheme asks for (PASSWORD_MAX_KIB at most), given back and wiped.
 */
#ifndef PLUGINS_COMMON_PASSWORD_H
#define PLUGINS_COMMON_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PASSWORD_MAX_KIB	   (256u << 10) /* memory of Argon2id and yescrypt: 256 MiB */
#define PASSWORD_MAX_PASSES	   32u		/* Argon2id t */
#define PASSWORD_MAX_LANES	   16u		/* Argon2id p */
#define PASSWORD_MAX_ITERATIONS	   5000000u	/* PBKDF2; SHA-crypt rounds */
#define PASSWORD_MAX_BCRYPT_COST   16u
#define PASSWORD_HASH_SIZE	   384 /* room for any hash that is made here, and its NUL */

enum password_scheme {
	PASSWORD_ARGON2ID = 1,
	PASSWORD_YESCRYPT,
	PASSWORD_BCRYPT,
	PASSWORD_SHA256_CRYPT,
	PASSWORD_SHA512_CRYPT,
	PASSWORD_PBKDF2,	   /* Mosquitto's $7$ */
	PASSWORD_MOSQUITTO_SHA512, /* Mosquitto's $6$; checked, never made */
	PASSWORD_GO_AUTH_PBKDF2,   /* checked, never made */
	PASSWORD_SCRAM_SHA256,
	PASSWORD_SCRAM_SHA512,
};

enum password_error {
	PASSWORD_EMALFORMED = -1,
	PASSWORD_EUNSUPPORTED = -2, /* no scheme known here, or not with these parameters */
	PASSWORD_ECOST = -3,	    /* beyond the limits above */
	PASSWORD_ENOMEM = -4,
	PASSWORD_ESYS = -5,   /* a library or the system failed: says nothing about the password */
	PASSWORD_EINPUT = -6, /* the scheme cannot hold this password */
};
const char *password_strerror(int error); /* a clause without a full stop */

/* What a hash costs; two with the same values take the same time. */
struct password_cost {
	uint32_t scheme; /* enum password_scheme */
	uint32_t rounds; /* passes, iterations, log2 of them (bcrypt) */
	uint32_t kib;
	uint32_t lanes;
};

/* Is this a hash that password_verify can use? 0, or an error. cost may be NULL. */
int password_check_format(const char *hash, size_t hash_len, struct password_cost *cost);

/*
 * 1: the password is the one; 0: it is not; an error: nothing is known. The comparison takes the
 * same time whatever differs. Passwords may hold any byte; crypt(5) schemes cannot represent NUL,
 * nor more than 511 bytes, so such a password never matches there (it is not cut); nor does one that ends in NUL with PBKDF2
 * and SCRAM, which cannot tell it from the same without.
 */
int password_verify(const char *hash, size_t hash_len, const char *password, size_t password_len);

/*
 * Is holding a password of that length against it done sooner than handed to another thread: a digest or a few? An
 * exception to "never on a worker".
 */
bool password_quick(const char *hash, size_t hash_len, size_t password_len);

/*
 * Make a hash with fresh salt: Argon2id (19 MiB, t=2, p=1), yescrypt (libcrypt's default), bcrypt
 * (cost 11), SHA512-crypt (100,000 rounds), PBKDF2-SHA512 (210,000 iterations), SCRAM (SCRAM_DEFAULT_ITERATIONS). 0, or an
 * error: PASSWORD_EINPUT for NUL or more than 511 bytes (bcrypt: 72, it would ignore the rest) in crypt(5) schemes, for
 * control characters and what is not UTF-8 in SCRAM.
 */
int password_hash(
    enum password_scheme scheme, const char *password, size_t password_len, char out[PASSWORD_HASH_SIZE]);

/* "argon2id", "yescrypt", "bcrypt", "sha512", "pbkdf2", "scram-sha-256", "scram-sha-512"; 0: no such scheme, or one that is only checked. */
enum password_scheme password_scheme_by_name(const char *name);

#endif
