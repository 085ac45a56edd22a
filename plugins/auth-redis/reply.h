/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply - bytes of a server to replies, within bounds
 *
 * hiredis parses; what it would take without end is refused here: texts and arrays larger than an answer may be (a header of
 * a few bytes makes it allocate gigabytes), and bytes that never become a reply. Its asynchronous contexts are not used:
 * they end the process when a server answers what nobody asked (doc/decisions.md).
 *
 * Threads:   one at a time.
 * Ownership: a reply is the caller's, for reply_free, which wipes it: there are hashes in it.
 * Bounded:   max_bytes of text and max_elements of arrays in one reply.
 */
#ifndef AUTH_REDIS_REPLY_H
#define AUTH_REDIS_REPLY_H

#include <grapnel/types.h>
#include <hiredis.h>

struct reply_reader;
struct reply_reader *reply_reader_new(size_t max_bytes, size_t max_elements); /* NULL: no memory */
void reply_reader_free(struct reply_reader *r);				     /* NULL is fine */

/* false: reply_error says why; the reader is of no more use. */
bool reply_feed(struct reply_reader *r, const char *data, size_t len);
/* 1: *out is the next one; 0: more bytes are needed; -1: as reply_feed. */
int reply_next(struct reply_reader *r, redisReply **out);
const char *reply_error(const struct reply_reader *r);
void reply_free(redisReply *reply);

/* Of a string or status; .data NULL: it is something else. */
struct grapnel_str reply_text(const redisReply *reply);
bool reply_is_ok(const redisReply *reply); /* a status, whichever */
bool reply_is_texts(const redisReply *reply); /* an array of strings, perhaps empty */
/* Does an error begin with this word ("MOVED")? */
bool reply_is_error(const redisReply *reply, const char *word);

#endif
