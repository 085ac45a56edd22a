/* SPDX-License-Identifier: Apache-2.0 */
/* store_write - what the files that write into a store share with each other, and with nobody else */
#ifndef CTL_STORE_WRITE_H
#define CTL_STORE_WRITE_H

#include "store.h"

enum write_statement {
	THERE_FIND,
	THERE_PUT,
	RENAMED_PUT,
	RENAMED_FIND,
	SESSION_PUT,
	SUBSCRIPTION_PUT,
	LOG_PUT,
	RETAINED_FIND,
	RETAINED_PUT,
	BAN_PUT,
	VALUE_PUT,
	FLIGHT_PUT,
	SENT_PUT,
	AWAITED_PUT,
	MOVED_PUT,
	EXCHANGE_PUT,
};

bool write_refuse(struct store_write *w, const char *format, ...) __attribute__((format(printf, 2, 3))); /* false */
bool write_seal(struct store_write *w, struct row_out *row, const char *table, const struct row_key *key);
/* *id: that of the store; 0: what is of this session is left out. false: there is no such session. */
bool write_renamed(struct store_write *w, uint64_t old, uint64_t *id);
bool write_flush(struct store_write *w);   /* the segment that is being filled */
bool write_flights(struct store_write *w); /* all exchanges */

static inline sqlite3_stmt *
write_statement(struct store_write *w, enum write_statement which)
{
	return w->statements[which];
}
static inline void
write_bind(sqlite3_stmt *s, int index, uint64_t n)
{
	sqlite3_bind_int64(s, index, (sqlite3_int64)n);
}
static inline bool
write_done(struct store_write *w, enum write_statement which)
{
	return sql_done(w->statements[which], w->error);
}

#endif
