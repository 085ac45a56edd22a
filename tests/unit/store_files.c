/* SPDX-License-Identifier: Apache-2.0 */
#include "store_files.h"

#include "store/rows.h"

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

static char folder[256], directory[300];

void
store_files_begin(void)
{
	const char *top = getenv("TMPDIR");

	/* Hundreds of files that are synced: not to a disk if that can be helped. */
	if (top == NULL)
		top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(folder, sizeof(folder), "%s/grapnel-store-XXXXXX", top);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(directory, sizeof(directory), "%s/store", folder);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void
store_files_end(void)
{
	nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

const char *
store_files_directory(void)
{
	return directory;
}

const char *
store_files_path(const char *name)
{
	static char paths[8][600];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

bool
store_files_exist(const char *name)
{
	return access(store_files_path(name), F_OK) == 0;
}

void
store_files_open(struct store_file *f)
{
	char error[STORE_ERROR] = "";
	int err = store_file_open(f, directory, "grapnel 1.2.3", error);

	ck_assert_msg(err == GRAPNEL_OK, "%d: %s", err, error);
	ck_assert_ptr_nonnull(f->db);
}

void
store_files_exec(sqlite3 *db, const char *sql)
{
	int result = sqlite3_exec(db, sql, NULL, NULL, NULL);

	ck_assert_msg(result == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

uint64_t
store_files_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	uint64_t n;

	ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql,
	    sqlite3_errmsg(db));
	ck_assert_msg(sqlite3_step(stmt) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
	n = (uint64_t)sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return n;
}

/* ---- bytes ------------------------------------------------------------------------------------- */

struct store_bytes
store_files_get(const char *name)
{
	struct store_bytes b = { NULL, 0 };
	FILE *file = fopen(store_files_path(name), "rb");
	struct stat st;

	if (file == NULL)
		return b;
	ck_assert_int_eq(fstat(fileno(file), &st), 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len + 1);
	ck_assert_ptr_nonnull(b.data);
	ck_assert_uint_eq(fread(b.data, 1, b.len, file), b.len);
	fclose(file);
	return b;
}

void
store_files_put(const char *name, const uint8_t *data, size_t len)
{
	FILE *file;

	(void)mkdir(directory, 0700);
	file = fopen(store_files_path(name), "wb");
	ck_assert_ptr_nonnull(file);
	ck_assert_uint_eq(fwrite(data, 1, len, file), len);
	ck_assert_int_eq(fclose(file), 0);
}

void
store_files_empty(void)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			ck_assert_int_eq(unlink(store_files_path(entry->d_name)), 0);
	if (dir != NULL)
		closedir(dir);
}

/* ---- rows -------------------------------------------------------------------------------------- */

static uint32_t
number(void)
{
	static uint32_t state = 2463534242u;

	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return state;
}

static void
make_row(struct row_out *o, size_t len, uint64_t first, const char *table, struct row_key key)
{
	row_clear(o);
	row_number(o, first);
	for (size_t i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)number();

		row_bytes(o, &byte, 1);
	}
	row_seal(o, table, &key);
	ck_assert(!o->failed);
}

static void
run(sqlite3_stmt *stmt)
{
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_DONE);
	sqlite3_reset(stmt);
}

static sqlite3_stmt *
prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;

	ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql,
	    sqlite3_errmsg(db));
	return stmt;
}

static void
bind_row(sqlite3_stmt *stmt, int column, const struct row_out *o)
{
	sqlite3_bind_blob(stmt, column, o->data, (int)o->len, SQLITE_TRANSIENT);
}

static void
fill_numbered(sqlite3 *db, const char *table, const char *sql, unsigned count, size_t len)
{
	sqlite3_stmt *stmt = prepare(db, sql);
	struct row_out o = { 0 };

	for (unsigned i = 0; i < count; i++) {
		uint64_t id = 1 + i * 3u;

		make_row(&o, len + number() % len, i, table, row_key_number(id));
		sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
		bind_row(stmt, 2, &o);
		run(stmt);
	}
	sqlite3_finalize(stmt);
	row_free(&o);
}

static void
fill_log(sqlite3 *db)
{
	sqlite3_stmt *stmt = prepare(db, "INSERT INTO log VALUES(?1, ?2, ?3)");
	struct row_out o = { 0 };

	for (unsigned i = 1; i <= 40; i++) {
		sqlite3_bind_int64(stmt, 1, (sqlite3_int64)i);
		sqlite3_bind_null(stmt, 2);
		if (i % 3 == 0 || i % 5 == 0) {
			make_row(&o, number() % 900, 0, "finished", row_key_number(i));
			bind_row(stmt, 2, &o);
		}
		sqlite3_bind_null(stmt, 3);
		if (i % 5 != 0) {
			make_row(&o, number() % (i % 7 == 0 ? 30000 : 3000), 0, "log",
			    row_key_number(i));
			bind_row(stmt, 3, &o);
		}
		run(stmt);
	}
	sqlite3_finalize(stmt);
	row_free(&o);
}

static void
fill_subscriptions(sqlite3 *db)
{
	sqlite3_stmt *stmt = prepare(db, "INSERT INTO subscription VALUES(?1, ?2, ?3)");
	struct row_out o = { 0 };

	for (unsigned i = 0; i < 400; i++) {
		struct grapnel_str filter;
		uint64_t id = 1 + number() % 300;
		char text[64];

		filter.data = text;
		filter.len =
		    (size_t)snprintf(text, sizeof(text), "site/%u/device/%u/#", number() % 10, i);
		make_row(&o, 6, i, "subscription", row_key_number_text(id, filter));
		sqlite3_bind_int64(stmt, 1, (sqlite3_int64)id);
		sqlite3_bind_blob(stmt, 2, text, (int)filter.len, SQLITE_TRANSIENT);
		bind_row(stmt, 3, &o);
		run(stmt);
	}
	sqlite3_finalize(stmt);
	row_free(&o);
}

static void
fill_named(sqlite3 *db)
{
	sqlite3_stmt *retained = prepare(db, "INSERT INTO retained VALUES(?1, ?2, ?3)");
	sqlite3_stmt *ban = prepare(db, "INSERT INTO ban VALUES(?1, ?2)");
	sqlite3_stmt *kv = prepare(db, "INSERT INTO kv VALUES(?1, ?2, ?3)");
	struct row_out o = { 0 }, scratch = { 0 };

	for (unsigned i = 0; i < 200; i++) {
		char text[64];
		struct grapnel_str name = { text, 0 };

		name.len = (size_t)snprintf(text, sizeof(text), "%08x/state/%u", number(), i);
		make_row(&o, i % 50 == 0 ? 9000 : 100 + number() % 300, i, "retained",
		    row_key_text(name));
		sqlite3_bind_blob(retained, 1, text, (int)name.len, SQLITE_TRANSIENT);
		sqlite3_bind_int(retained, 2, (int)i);
		bind_row(retained, 3, &o);
		run(retained);
		if (i % 4 != 0)
			continue;
		make_row(&o, 10, i, "ban", row_key_text(name));
		sqlite3_bind_text(ban, 1, text, (int)name.len, SQLITE_TRANSIENT);
		bind_row(ban, 2, &o);
		run(ban);
		make_row(&o, 300, i, "kv", row_key_text_text(GRAPNEL_STR("auth"), name, &scratch));
		sqlite3_bind_text(kv, 1, "auth", 4, SQLITE_STATIC);
		sqlite3_bind_blob(kv, 2, text, (int)name.len, SQLITE_TRANSIENT);
		bind_row(kv, 3, &o);
		run(kv);
	}
	sqlite3_finalize(retained);
	sqlite3_finalize(ban);
	sqlite3_finalize(kv);
	row_free(&o);
	row_free(&scratch);
}

void
store_files_fill(sqlite3 *db)
{
	store_files_exec(db, "BEGIN");
	fill_numbered(db, "session", "INSERT INTO session VALUES(?1, ?2)", 300, 70);
	fill_numbered(db, "exchange", "INSERT INTO exchange VALUES(?1, ?2)", 150, 60);
	fill_log(db);
	fill_subscriptions(db);
	fill_named(db);
	store_files_exec(db, "UPDATE meta SET value = 1000 WHERE name = 'next_id'; COMMIT");
}

/* ---- comparing ------------------------------------------------------------------------------------- */

static int
by_hash(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static uint64_t
hash_row(const struct rows_value *v, unsigned columns)
{
	uint64_t hash = 0;

	for (unsigned i = 0; i < columns; i++) {
		hash = XXH3_64bits_withSeed(&v[i].type, sizeof(v[i].type), hash);
		hash = XXH3_64bits_withSeed(&v[i].number, sizeof(v[i].number), hash);
		hash = XXH3_64bits_withSeed(v[i].bytes.data, v[i].bytes.len, hash);
	}
	return hash;
}

static bool
has(const struct store_rows *rows, unsigned t, uint64_t hash)
{
	return bsearch(&hash, rows->hashes[t], rows->count[t], sizeof(hash), by_hash) != NULL;
}

/* @return false: an error ended it */
static bool
read_table(sqlite3 *db, unsigned t, const char *order, struct store_rows *out)
{
	const struct rows_table *table = &rows_tables[t];
	struct rows_value v[ROWS_COLUMNS];
	struct row_out scratch = { 0 };
	sqlite3_stmt *stmt;
	char sql[96];
	int result;

	snprintf(sql, sizeof(sql), "SELECT * FROM %s ORDER BY %s", table->name, order);
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return false;
	while ((result = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (unsigned i = 0; i < table->columns; i++)
			rows_column(&v[i], stmt, (int)i);
		if (rows_fault((enum store_table)t, v, &scratch) != NULL)
			out->wrong++;
		else if (out->count[t] < STORE_FILES_ROWS)
			out->hashes[t][out->count[t]++] = hash_row(v, table->columns);
	}
	sqlite3_finalize(stmt);
	row_free(&scratch);
	return result == SQLITE_DONE;
}

void
store_files_rows(sqlite3 *db, bool from_end, struct store_rows *out)
{
	memset(out, 0, sizeof(*out));
	for (unsigned t = TABLE_SESSION; t < STORE_TABLE_COUNT; t++) {
		if (!read_table(db, t, rows_tables[t].key, out)) {
			out->broken = true;
			if (from_end)
				read_table(db, t, rows_tables[t].last, out);
		}
		qsort(out->hashes[t], out->count[t], sizeof(out->hashes[t][0]), by_hash);
	}
}

size_t
store_files_missing(const struct store_rows *a, const struct store_rows *b, unsigned t)
{
	size_t missing = 0;

	for (size_t i = 0; i < a->count[t]; i++)
		missing += !has(b, t, a->hashes[t][i]);
	return missing;
}
