/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_moved - what moves over from Mosquitto's file, between its chunks and our rows
 *
 * Mosquitto's file names the messages first, and then who has them in which state; the newest may come first. So all of it goes into
 * temporary tables (store_moved.c), and from there in the order of our own (store_moved_rows.c): sessions, subscriptions, exchanges,
 * retained messages, messages by age.
 */
#ifndef CTL_STORE_MOVED_H
#define CTL_STORE_MOVED_H

#include "store.h"

enum moved_statement {
	PUT_CLIENT, PUT_MESSAGE, FIND_COPY, FIND_GROUP, PUT_QUEUED, PUT_SUBSCRIPTION, PUT_RETAINED, DROP_RETAINED, MOVED_STATEMENTS
};
enum moved_note { /* what does not come over */
	SESSIONS_EXPIRED, SESSIONS_ENDED, SUBSCRIPTIONS_REFUSED, MESSAGES_EXPIRED, MESSAGES_REFUSED, WITHOUT_MESSAGE, WITHOUT_SESSION,
	NAMES_REFUSED, MOVED_NOTES
};
struct moved {
	sqlite3 *db;
	struct store_write *write;
	sqlite3_stmt *statements[MOVED_STATEMENTS];
	unsigned version;
	int64_t now;	 /* seconds since 1970 */
	uint64_t groups; /* receivers of one message: so many there are */
	uint64_t notes[MOVED_NOTES];
	struct row_receiver *receivers; /* of one message */
	struct rows_ids *ids;
	size_t room;
	struct row_out scratch, props;
	char *error; /* STORE_ERROR bytes */
};

/* Each row of a query. What is called may write, but not into what the query reads. */
bool moved_each(struct moved *m, const char *sql, bool (*fn)(struct moved *m, sqlite3_stmt *s));
bool moved_rows(struct moved *m);
void moved_rows_free(struct moved *m);

#endif
