/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows - the columns of a row, wherever they were read from, and whether its checksum is right
 *
 * Threads: any; pure.
 */
#ifndef BROKER_STORE_ROWS_H
#define BROKER_STORE_ROWS_H

#include "store/format.h"

#include <sqlite3.h>

enum store_table { /* in the order in which they are made */
	TABLE_META,
	TABLE_SESSION,
	TABLE_SUBSCRIPTION,
	TABLE_EXCHANGE,
	TABLE_RETAINED,
	TABLE_LOG,
	TABLE_BAN,
	TABLE_KV,
};
#define STORE_TABLE_COUNT 8u
#define ROWS_COLUMNS	  5u /* room: our widest table has 3, SQLite's own list of tables has 5 */

struct rows_table {
	const char *name;
	unsigned columns;
	bool rowid;	  /* the first column is SQLite's rowid */
	const char *key;  /* columns of the primary key, as in ORDER BY */
	const char *last; /* the same backwards */
};
extern const struct rows_table rows_tables[STORE_TABLE_COUNT];

struct rows_value {
	int type; /* SQLITE_INTEGER, _TEXT, _BLOB, _NULL, _FLOAT */
	int64_t number;
	struct grapnel_str bytes; /* borrowed */
};

/* One column of a statement's row, as long as that is not stepped on. */
void rows_column(struct rows_value *v, sqlite3_stmt *stmt, int column);
/* Is the blob in that column what was written under that key? meta has no checksums: always. */
bool rows_right(enum store_table t, const struct rows_value *values, unsigned column, struct row_out *scratch);
/* The columns with a checksum: from this one to the last. A NULL in `log` is right, two are not a row. */
unsigned rows_first_blob(enum store_table t);
/* Of a row of `retained` that is right: what must be in its column seq. */
uint64_t rows_retained_number(const struct rows_value *row);
/* What is wrong with a row, in words; NULL: nothing. */
const char *rows_fault(enum store_table t, const struct rows_value *values, struct row_out *scratch);

#endif
