/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passwd_file - a password file in memory: "user:hash", one a line
 *
 * The format is Mosquitto's password_file; hashes are those of password.h. Blank lines and lines
 * that begin with '#' are skipped, spaces around name and hash do not count, CR LF is fine. All or
 * nothing: a line without ':' or without a hash, a hash that cannot be verified, a second line for
 * a user are errors, never a user without a password. A user may have lines of three kinds, though,
 * one of each: SCRAM-SHA-256, SCRAM-SHA-512, any other; of the same password, which grapnelctl sees
 * to. A password that comes as it is is held against the first of them.
 *
 * Threads:   immutable after parsing.
 * Ownership: the text is taken over; names and hashes point into it and live as long.
 * Bounded:   by the text, plus 28 to 36 bytes a line.
 */
#ifndef PLUGINS_COMMON_PASSWD_FILE_H
#define PLUGINS_COMMON_PASSWD_FILE_H

#include "password.h"
#include "scram.h"

#include <grapnel/types.h>

#define PASSWD_FILE_MAX_BYTES (1u << 30)

struct passwd_file; /* opaque: passwd_file.c */
struct passwd_entry {
	struct grapnel_str name, hash;
	size_t line; /* 1 is the first */
	size_t next; /* number + 1 of the user's next line, for passwd_file_at; 0: there is none */
};

/*
 * text (heap, at most PASSWD_FILE_MAX_BYTES) belongs to the result, or is wiped and freed.
 * NULL: error (NUL-terminated, cut) says "source:line: what", without any hash.
 */
struct passwd_file *passwd_file_parse(
    char *text, size_t len, const char *source, char *error, size_t error_size);
void passwd_file_free(struct passwd_file *f); /* wipes; NULL is fine */
/* The first line of that user. */
bool passwd_file_find(
    const struct passwd_file *f, struct grapnel_str name, struct passwd_entry *out);
/* The one with a credential for that method. */
bool passwd_file_find_scram(const struct passwd_file *f, struct grapnel_str name, enum scram_hash hash,
    struct passwd_entry *out);
size_t passwd_file_count(const struct passwd_file *f); /* lines with a user */
size_t passwd_file_users(const struct passwd_file *f); /* users */
/* Entry i < count, in the order of the lines. */
struct passwd_entry passwd_file_at(const struct passwd_file *f, size_t i);
/*
 * A hash that costs as much as most users' first lines do, to spend the same time on a user that
 * does not exist; with a SCRAM hash, a credential like most of that method. .data NULL: none.
 */
struct grapnel_str passwd_file_typical(const struct passwd_file *f, enum scram_hash hash);

/* NULL: usable in a password file; else what is wrong with that user name. */
const char *passwd_name_problem(struct grapnel_str name);

#endif
