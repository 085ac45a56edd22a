/* SPDX-License-Identifier: Apache-2.0 */
#include "store/rows.h"

const struct rows_table rows_tables[STORE_TABLE_COUNT] = {
	[TABLE_META] = { "meta", 2, false, "name", "name DESC" },
	[TABLE_SESSION] = { "session", 2, true, "id", "id DESC" },
	[TABLE_SUBSCRIPTION] = { "subscription", 3, false, "session, filter",
	    "session DESC, filter DESC" },
	[TABLE_EXCHANGE] = { "exchange", 2, true, "session", "session DESC" },
	[TABLE_RETAINED] = { "retained", 3, false, "topic", "topic DESC" },
	[TABLE_LOG] = { "log", 3, true, "segment", "segment DESC" },
	[TABLE_BAN] = { "ban", 2, false, "address", "address DESC" },
	[TABLE_KV] = { "kv", 3, false, "plugin, key", "plugin DESC, key DESC" },
};

void
rows_column(struct rows_value *v, sqlite3_stmt *stmt, int column)
{
	*v = (struct rows_value){ .type = sqlite3_column_type(stmt, column) };
	if (v->type == SQLITE_INTEGER) {
		v->number = sqlite3_column_int64(stmt, column);
	} else if (v->type == SQLITE_TEXT || v->type == SQLITE_BLOB) {
		v->bytes.data = sqlite3_column_blob(stmt, column);
		v->bytes.len = (size_t)sqlite3_column_bytes(stmt, column);
	}
}

unsigned
rows_first_blob(enum store_table t)
{
	return t == TABLE_LOG ? 1 : rows_tables[t].columns - 1;
}

bool
rows_right(
    enum store_table t, const struct rows_value *values, unsigned column, struct row_out *scratch)
{
	const struct rows_value *blob = &values[column];
	const char *name = rows_tables[t].name;
	struct row_key key;
	struct row_in in;

	switch (t) {
	case TABLE_META:
		return true;
	case TABLE_LOG:
		if (blob->type == SQLITE_NULL)
			return true;
		if (column == 1)
			name = "finished";
		key = row_key_number((uint64_t)values[0].number);
		break;
	case TABLE_SESSION:
	case TABLE_EXCHANGE:
		key = row_key_number((uint64_t)values[0].number);
		break;
	case TABLE_SUBSCRIPTION:
		key = row_key_number_text((uint64_t)values[0].number, values[1].bytes);
		break;
	case TABLE_RETAINED:
	case TABLE_BAN:
		key = row_key_text(values[0].bytes);
		break;
	case TABLE_KV:
		key = row_key_text_text(values[0].bytes, values[1].bytes, scratch);
		break;
	}
	return blob->type == SQLITE_BLOB &&
	    row_open(&in, blob->bytes.data, blob->bytes.len, name, &key);
}

uint64_t
rows_retained_number(const struct rows_value *row)
{
	struct row_in in = { (const uint8_t *)row->bytes.data,
		(const uint8_t *)row->bytes.data + row->bytes.len, false };

	return row_get_number(&in);
}

const char *
rows_fault(enum store_table t, const struct rows_value *values, struct row_out *scratch)
{
	if (t == TABLE_LOG) {
		if (values[1].type == SQLITE_NULL && values[2].type == SQLITE_NULL)
			return "it has neither messages nor `finished`";
		if (!rows_right(t, values, 1, scratch))
			return "the checksum of `finished` is wrong";
		return rows_right(t, values, 2, scratch) ? NULL
							 : "the checksum of `messages` is wrong";
	}
	if (!rows_right(t, values, rows_tables[t].columns - 1, scratch))
		return "the checksum is wrong";
	if (t == TABLE_RETAINED &&
	    (values[1].type != SQLITE_INTEGER ||
		(uint64_t)values[1].number != rows_retained_number(&values[2])))
		return "its number is another one than in its row";
	return NULL;
}
