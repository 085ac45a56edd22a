/* SPDX-License-Identifier: Apache-2.0 */
/* schema - the tables of a store, version STORE_SCHEMA: format.h says what is in them */
#ifndef BROKER_STORE_SCHEMA_H
#define BROKER_STORE_SCHEMA_H

#define STORE_PAGE_SIZE "8192"

#define STORE_TABLES                                                                              \
	"CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;"                          \
	"CREATE TABLE session(id INTEGER PRIMARY KEY, row BLOB NOT NULL);"                        \
	"CREATE TABLE subscription(session INTEGER NOT NULL, filter BLOB NOT NULL,"               \
	" row BLOB NOT NULL, PRIMARY KEY(session, filter)) WITHOUT ROWID;"                        \
	"CREATE TABLE exchange(session INTEGER PRIMARY KEY, row BLOB NOT NULL);"                  \
	"CREATE TABLE retained(topic BLOB PRIMARY KEY, seq INTEGER NOT NULL, row BLOB NOT NULL)" \
	" WITHOUT ROWID;"                                                                         \
	"CREATE TABLE log(segment INTEGER PRIMARY KEY, finished BLOB, messages BLOB);"            \
	"CREATE TABLE ban(address TEXT PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;"            \
	"CREATE TABLE kv(plugin TEXT NOT NULL, key BLOB NOT NULL, row BLOB NOT NULL,"             \
	" PRIMARY KEY(plugin, key)) WITHOUT ROWID;"

/*
 * Checksums cover: of `log` the two blobs, each by itself under the names "log" (messages) and "finished", key: the segment; of the
 * others `row`, key: the primary key; of retained the topic, and `seq` is in the row in front of the message.
 */
#endif
