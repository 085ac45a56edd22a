/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statement - a prepared statement of one connection: values in, rows out. What needs the network is the caller's.
 *
 *	statement_ready		a handle to prepare with, once per connection
 *	statement_params	before each execution
 *	statement_columns	after it, when it has a result
 *	statement_row		after each fetch
 *
 * Threads:   whichever has the connection.
 * Ownership: a row's names and values are the statement's, until its next call.
 * Bounded:   STATEMENT_MAX_COLUMNS; a row by SETTINGS_MAX_ROW. Buffers that grew for one are given back before the
 *            next execution.
 */
#ifndef PLUGINS_AUTH_MYSQL_STATEMENT_H
#define PLUGINS_AUTH_MYSQL_STATEMENT_H

#include "settings.h"

#include "sql/sql.h"

#define STATEMENT_MAX_COLUMNS 64u

struct column {
	char *data;
	unsigned long capacity, length;
	mysql_flag null, cut;
};

struct statement {
	MYSQL_STMT *handle;
	bool prepared;
	unsigned column_count;
	MYSQL_RES *described; /* has the names */
	struct column columns[STATEMENT_MAX_COLUMNS];
	struct grapnel_str names[STATEMENT_MAX_COLUMNS], values[STATEMENT_MAX_COLUMNS];
	MYSQL_BIND bind[STATEMENT_MAX_COLUMNS > SQL_MAX_PARAMS ? STATEMENT_MAX_COLUMNS : SQL_MAX_PARAMS];
};

/* false: no memory. */
bool statement_ready(struct statement *st, MYSQL *mysql);
/* Sent as text with their lengths; borrowed until the execution has ended. false: the statement takes another number of them. */
bool statement_params(struct statement *st, const struct grapnel_str *params, unsigned count);
/* Has the execution a result? */
bool statement_has_rows(const struct statement *st);
/* NULL, or what is wrong with them. */
const char *statement_columns(struct statement *st);
/* After mysql_stmt_fetch gave 0 or MYSQL_DATA_TRUNCATED. NULL, or why there is no such row. */
const char *statement_row(struct statement *st, struct sql_row *row);
/* After its connection was closed: only memory. */
void statement_fini(struct statement *st);

#endif
