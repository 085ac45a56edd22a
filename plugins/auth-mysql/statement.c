/* SPDX-License-Identifier: Apache-2.0 */
/* statement - see statement.h */
#include "statement.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 256u
#define KEPT_CAPACITY  16384u

bool
statement_ready(struct statement *st, MYSQL *mysql)
{
	if (st->handle == NULL)
		st->handle = mysql_stmt_init(mysql);
	return st->handle != NULL;
}

bool
statement_params(struct statement *st, const struct grapnel_str *params, unsigned count)
{
	if (mysql_stmt_param_count(st->handle) != count)
		return false;
	memset(st->bind, 0, sizeof(st->bind));
	for (unsigned i = 0; i < count; i++) {
		st->bind[i].buffer_type = MYSQL_TYPE_STRING;
		st->bind[i].buffer = (void *)(uintptr_t)params[i].data; /* only read */
		st->bind[i].buffer_length =
		    params[i].len; /* and the length of the value, when .length is NULL */
	}
	return count == 0 || mysql_stmt_bind_param(st->handle, st->bind) == 0;
}

bool
statement_has_rows(const struct statement *st)
{
	return mysql_stmt_field_count(st->handle) > 0;
}

static bool
grow(struct column *c, unsigned long capacity)
{
	char *data = realloc(c->data, capacity);

	if (data == NULL)
		return false;
	c->data = data;
	c->capacity = capacity;
	return true;
}

static void
bind_column(struct statement *st, unsigned i)
{
	struct column *c = &st->columns[i];

	st->bind[i].buffer_type = MYSQL_TYPE_STRING;
	st->bind[i].buffer = c->data;
	st->bind[i].buffer_length = c->capacity;
	st->bind[i].length = &c->length;
	st->bind[i].is_null = &c->null;
	st->bind[i].error = &c->cut;
}

static void
forget_names(struct statement *st)
{
	if (st->described != NULL)
		mysql_free_result(st->described);
	st->described = NULL;
	st->column_count = 0;
}

const char *
statement_columns(struct statement *st)
{
	unsigned count = mysql_stmt_field_count(st->handle);
	const MYSQL_FIELD *fields;

	forget_names(st);
	if (count > STATEMENT_MAX_COLUMNS)
		return "the result has more than 64 columns";
	st->described = mysql_stmt_result_metadata(st->handle);
	if (st->described == NULL || mysql_num_fields(st->described) != count)
		return "the result does not say what its columns are";
	fields = mysql_fetch_fields(st->described);
	memset(st->bind, 0, sizeof(st->bind));
	for (unsigned i = 0; i < count; i++) {
		struct column *c = &st->columns[i];

		if (c->capacity > KEPT_CAPACITY) {
			free(c->data);
			c->data = NULL;
			c->capacity = 0;
		}
		if (c->data == NULL && !grow(c, FIRST_CAPACITY))
			return "out of memory";
		st->names[i] = (struct grapnel_str){ fields[i].name, fields[i].name_length };
		bind_column(st, i);
	}
	st->column_count = count;
	return mysql_stmt_bind_result(st->handle, st->bind) == 0
	    ? NULL
	    : "its columns cannot be read as text";
}

/* Longer than its buffer: get one that has room, for this row and those that follow. */
static const char *
refetch(struct statement *st, unsigned i)
{
	struct column *c = &st->columns[i];
	unsigned long length = c->length;

	if (length > SQL_MAX_BYTES)
		return "a value is longer than any that is taken";
	if (!grow(c, length))
		return "out of memory";
	bind_column(st, i);
	if (mysql_stmt_fetch_column(st->handle, &st->bind[i], i, 0) != 0 || c->cut ||
	    c->length != length)
		return "a value cannot be read as text";
	return NULL;
}

const char *
statement_row(struct statement *st, struct sql_row *row)
{
	bool grown = false;
	const char *why;

	for (unsigned i = 0; i < st->column_count; i++) {
		struct column *c = &st->columns[i];

		if (!c->null && c->length > c->capacity) {
			if ((why = refetch(st, i)) != NULL)
				return why;
			grown = true;
		} else if (!c->null && c->cut) {
			return "a value cannot be read as text";
		}
		st->values[i] = c->null ? (struct grapnel_str){ NULL, 0 }
					: (struct grapnel_str){ c->data, c->length };
	}
	if (grown && mysql_stmt_bind_result(st->handle, st->bind) != 0)
		return "its columns cannot be read as text";
	*row = (struct sql_row){ st->column_count, st->names, st->values };
	return NULL;
}

void
statement_fini(struct statement *st)
{
	forget_names(st);
	if (st->handle != NULL)
		(void)mysql_stmt_close(st->handle);
	for (unsigned i = 0; i < STATEMENT_MAX_COLUMNS; i++) {
		if (st->columns[i].data != NULL)
			explicit_bzero(st->columns[i].data,
			    st->columns[i].capacity); /* it had password hashes */
		free(st->columns[i].data);
	}
	memset(st, 0, sizeof(*st));
}
