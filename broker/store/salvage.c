/* SPDX-License-Identifier: Apache-2.0 */
#include "store/salvage.h"
#include "store/pages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH 24u /* of a tree: more would be more rows than there are bytes */

/* Room between the highest number that is seen and the next one that is given: those who had one between may be lost. */
#define NUMBERS_LOST (UINT64_C(1) << 32)
#define NUMBERS_MOST (UINT64_C(1) << 47) /* what is above is not believed */

struct tally {
	uint64_t rows, leaves, lost_rows, lost_pages;
};
struct salvage {
	struct pages pages;
	sqlite3 *to;
	sqlite3_stmt *insert[STORE_TABLE_COUNT];
	int result;    /* of SQLite; not SQLITE_OK: it cannot go on */
	uint8_t *seen; /* a bit for each page */
	uint8_t (*buffers)[PAGE_SIZE];
	struct row_cell row;
	struct row_out scratch;
	struct tally tallies[STORE_TABLE_COUNT];
	uint64_t pages_lost;
	uint64_t highest_id, highest_segment, next_id, next_segment, alive_ms, clean;
};
#define NO_TABLE (-1)

/* ---- rows ------------------------------------------------------------------------------------------ */

/* By its form; two tables have the same, and then the checksum knows. NO_TABLE: none of ours. */
static int
table_of(struct salvage *s, const struct page *page)
{
	const struct rows_value *v = s->row.values;

	if (page->type == PAGE_TABLE_LEAF) {
		if (s->row.columns == 3)
			return TABLE_LOG;
		if (s->row.columns != 2)
			return NO_TABLE;
		return rows_right(TABLE_EXCHANGE, v, 1, &s->scratch) ? TABLE_EXCHANGE
								     : TABLE_SESSION;
	}
	if (s->row.columns == 2)
		return v[1].type == SQLITE_BLOB ? TABLE_BAN : TABLE_META;
	if (s->row.columns != 3)
		return NO_TABLE;
	if (v[0].type == SQLITE_INTEGER)
		return TABLE_SUBSCRIPTION;
	return v[1].type == SQLITE_INTEGER ? TABLE_RETAINED : TABLE_KV;
}

static void
bind(sqlite3_stmt *stmt, int column, const struct rows_value *v)
{
	switch (v->type) {
	case SQLITE_INTEGER:
		(void)sqlite3_bind_int64(stmt, column, v->number);
		break;
	case SQLITE_TEXT:
		(void)sqlite3_bind_text64(
		    stmt, column, v->bytes.data, v->bytes.len, SQLITE_STATIC, SQLITE_UTF8);
		break;
	case SQLITE_BLOB:
		(void)sqlite3_bind_blob64(stmt, column, v->bytes.data, v->bytes.len, SQLITE_STATIC);
		break;
	default:
		(void)sqlite3_bind_null(stmt, column);
		break;
	}
}

static void
insert(struct salvage *s, enum store_table t)
{
	sqlite3_stmt *stmt = s->insert[t];

	for (unsigned i = 0; i < rows_tables[t].columns; i++)
		bind(stmt, (int)i + 1, &s->row.values[i]);
	(void)sqlite3_step(stmt);
	s->result = sqlite3_reset(stmt);
	if (s->result == SQLITE_OK && sqlite3_changes(s->to) > 0)
		s->tallies[t].rows++;
	(void)sqlite3_clear_bindings(stmt);
}

static bool
is_name(const struct rows_value *v, const char *name)
{
	return v->type == SQLITE_TEXT && v->bytes.len == strlen(name) &&
	    memcmp(v->bytes.data, name, v->bytes.len) == 0;
}

static void
take_meta(struct salvage *s)
{
	const struct rows_value *v = s->row.values;
	uint64_t value = (uint64_t)v[1].number;

	if (v[1].type != SQLITE_INTEGER)
		return;
	if (is_name(&v[0], "next_id") && value < NUMBERS_MOST)
		s->next_id = value;
	else if (is_name(&v[0], "next_segment") && value < NUMBERS_MOST)
		s->next_segment = value;
	else if (is_name(&v[0], "alive"))
		s->alive_ms = value;
	else if (is_name(&v[0], "clean"))
		s->clean = value == 1;
}

static void
note_numbers(struct salvage *s, enum store_table t)
{
	uint64_t number = (uint64_t)s->row.values[0].number;
	uint64_t *highest = t == TABLE_LOG ? &s->highest_segment : &s->highest_id;

	if (s->row.values[0].type == SQLITE_INTEGER && number < NUMBERS_MOST && number > *highest)
		*highest = number;
}

/* @return false: it, or a part of it, is lost */
static bool
take_row(struct salvage *s, enum store_table t)
{
	struct rows_value *v = s->row.values;
	bool whole = true, some = false;

	for (unsigned i = rows_first_blob(t); i < rows_tables[t].columns; i++) {
		if (v[i].type == SQLITE_NULL)
			continue;
		if (!rows_right(t, v, i, &s->scratch)) {
			v[i] = (struct rows_value){ .type = SQLITE_NULL };
			whole = false;
		} else {
			some = true;
		}
	}
	if (!some)
		return false;
	if (t == TABLE_RETAINED) {
		/* The number in the column has no checksum. */
		v[1] = (struct rows_value){ .type = SQLITE_INTEGER,
			.number = (int64_t)rows_retained_number(&v[2]) };
	}
	note_numbers(s, t);
	insert(s, t);
	return whole;
}

/* hint: the table whose tree the page is in. *t: the table that is found. @return false: something is lost */
static bool
take_cell(struct salvage *s, const struct page *page, unsigned cell, int hint, int *t)
{
	int found;

	if (!page_row(&s->pages, page, cell, &s->row))
		return false;
	found = table_of(s, page);
	if (found == NO_TABLE)
		return hint == NO_TABLE;
	if (found == TABLE_META) {
		take_meta(s);
		return true;
	}
	if (!take_row(s, (enum store_table)found))
		return false;
	*t = found;
	return true;
}

/* ---- pages ------------------------------------------------------------------------------------------- */

static void
take_page(struct salvage *s, const struct page *page, int hint)
{
	uint64_t lost = 0;
	int t = hint;

	for (unsigned i = 0; i < page->cells && page->type != PAGE_TABLE_INNER; i++) {
		if (!take_cell(s, page, i, hint, &t))
			lost++;
		if (s->result != SQLITE_OK)
			return;
	}
	if (lost == 0 && !page_whole(page))
		lost = 1;
	if (t == NO_TABLE) {
		s->pages_lost += lost != 0;
		return;
	}
	s->tallies[t].lost_rows += lost;
	s->tallies[t].leaves += !page_inner(page);
}

static bool
was_seen(const struct salvage *s, uint32_t number)
{
	return (s->seen[number / 8] >> (number % 8) & 1) != 0;
}

static void
set_seen(struct salvage *s, uint32_t number)
{
	s->seen[number / 8] = (uint8_t)(s->seen[number / 8] | 1u << (number % 8));
}

static void
lose_page(struct salvage *s, uint32_t number, enum store_table t)
{
	s->tallies[t].lost_pages++;
	if (number == 0 || number > s->pages.readable)
		return;
	set_seen(s, number);
	s->pages_lost++;
}

/* Down the tree of a table. */
static void
walk(struct salvage *s, uint32_t number, enum store_table t, unsigned depth)
{
	uint8_t *bytes = s->buffers[depth];
	struct page page;

	if (number <= s->pages.readable && was_seen(s, number))
		return;
	if (depth == DEPTH || !pages_read(&s->pages, number, bytes) ||
	    !page_parse(&page, number, bytes)) {
		lose_page(s, number, t);
		return;
	}
	if ((page.type == PAGE_TABLE_LEAF || page.type == PAGE_TABLE_INNER) !=
	    rows_tables[t].rowid) {
		/* Somebody else's: what should be here may still be found. */
		s->tallies[t].lost_pages++;
		return;
	}
	set_seen(s, number);
	take_page(s, &page, (int)t);
	for (unsigned i = 0; page_inner(&page) && i <= page.cells && s->result == SQLITE_OK; i++)
		walk(s, page_child(&page, i), t, depth + 1);
}

/* Pages of trees to which no way leads any more. */
static void
scan(struct salvage *s)
{
	uint32_t end = s->pages.count < s->pages.readable ? s->pages.count : s->pages.readable;
	uint8_t *bytes = s->buffers[0];

	for (uint32_t i = 1; i <= end && s->result == SQLITE_OK; i++) {
		enum pages_kind kind;
		struct page page;

		if (was_seen(s, i) || (kind = pages_kind(&s->pages, i)) == PAGES_OTHER)
			continue;
		if (pages_read(&s->pages, i, bytes) && page_parse(&page, i, bytes))
			take_page(s, &page, NO_TABLE);
		else if (kind == PAGES_TREE)
			s->pages_lost++;
	}
	if (s->pages.count > s->pages.readable)
		s->pages_lost += s->pages.count - s->pages.readable;
}

/* ---- the new database --------------------------------------------------------------------------------- */

/* Where the tree of a table begins is the same in every database that is made from the same statements. */
static uint32_t
root_of(struct salvage *s, const char *table)
{
	sqlite3_stmt *stmt = NULL;
	uint32_t root = 0;

	s->result = sqlite3_prepare_v2(
	    s->to, "SELECT rootpage FROM sqlite_schema WHERE name = ?1", -1, &stmt, NULL);
	if (s->result != SQLITE_OK)
		return 0;
	(void)sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		root = (uint32_t)sqlite3_column_int64(stmt, 0);
	s->result = sqlite3_finalize(stmt);
	return root;
}

static void
prepare(struct salvage *s)
{
	for (unsigned t = 0; t < STORE_TABLE_COUNT && s->result == SQLITE_OK; t++) {
		char sql[96];

		(void)snprintf(sql, sizeof(sql), "INSERT OR IGNORE INTO %s VALUES(?1, ?2%s)",
		    rows_tables[t].name, rows_tables[t].columns == 3 ? ", ?3" : "");
		s->result = sqlite3_prepare_v2(s->to, sql, -1, &s->insert[t], NULL);
	}
}

static void
save_meta(struct salvage *s)
{
	uint64_t id = s->next_id > s->highest_id ? s->next_id : s->highest_id + 1;
	uint64_t segment =
	    s->next_segment > s->highest_segment ? s->next_segment : s->highest_segment + 1;

	if (s->result == SQLITE_OK)
		s->result = database_set_meta(s->to, "next_id", id + NUMBERS_LOST);
	if (s->result == SQLITE_OK)
		s->result = database_set_meta(s->to, "next_segment", segment + NUMBERS_LOST);
	if (s->result == SQLITE_OK)
		s->result = database_set_meta(s->to, "alive", s->alive_ms);
	if (s->result == SQLITE_OK)
		s->result = database_set_meta(s->to, "clean", s->clean);
}

/* How many rows are lost: those that are seen, and for each page as many as such a page has. */
static uint64_t
lost(const struct tally *t)
{
	uint64_t each = t->leaves > 0 ? t->rows / t->leaves : 1;

	return t->lost_rows + t->lost_pages * (each > 0 ? each : 1);
}

static void
report(const struct salvage *s, struct store_damage *damage)
{
	const struct tally *t = s->tallies;

	damage->sessions += lost(&t[TABLE_SESSION]);
	damage->subscriptions += lost(&t[TABLE_SUBSCRIPTION]);
	damage->exchanges += lost(&t[TABLE_EXCHANGE]);
	damage->retained += lost(&t[TABLE_RETAINED]);
	damage->segments += lost(&t[TABLE_LOG]);
	damage->bans += lost(&t[TABLE_BAN]);
	damage->values += lost(&t[TABLE_KV]);
	damage->pages += s->pages_lost;
	for (unsigned i = 0; i < STORE_TABLE_COUNT; i++)
		damage->saved += t[i].rows;
}

static void
salvage_free(struct salvage *s)
{
	for (unsigned i = 0; i < STORE_TABLE_COUNT; i++)
		(void)sqlite3_finalize(s->insert[i]);
	pages_close(&s->pages);
	row_free(&s->row.payload);
	row_free(&s->scratch);
	free(s->seen);
	free(s->buffers);
	free(s);
}

static int
begin(struct salvage *s, const char *from, char error[STORE_ERROR])
{
	struct stat st;
	int err = pages_open(&s->pages, from);

	if (err == GRAPNEL_ESYS)
		return database_error(error, err, "%s cannot be read: %s", from, strerror(errno));
	s->seen = calloc(1, s->pages.readable / 8 + 1);
	s->buffers = malloc(sizeof(*s->buffers) * (DEPTH + 1));
	if (err != GRAPNEL_OK || s->seen == NULL || s->buffers == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s cannot be read: no memory", from);
	/* If the row with the time is lost: when was it written last? */
	if (stat(from, &st) == 0)
		s->alive_ms = (uint64_t)st.st_mtim.tv_sec * 1000;
	return GRAPNEL_OK;
}

static int
run(struct salvage *s, const char *directory, char error[STORE_ERROR])
{
	prepare(s);
	for (unsigned t = 0; t < STORE_TABLE_COUNT && s->result == SQLITE_OK; t++) {
		uint32_t root = root_of(s, rows_tables[t].name);

		if (s->result == SQLITE_OK)
			walk(s, root, (enum store_table)t, 0);
	}
	scan(s);
	save_meta(s);
	return database_result(s->to, s->result, directory, "has no new database", error);
}

int
salvage_copy(const char *from, const char *directory, const char *program,
    struct store_damage *damage, char error[STORE_ERROR])
{
	struct salvage *s = calloc(1, sizeof(*s));
	sqlite3 *to = NULL;
	int err;

	if (s == NULL)
		return database_error(error, GRAPNEL_ENOMEM, "%s: no memory", directory);
	s->pages = (struct pages){ .fd = -1, .wal_fd = -1 };
	err = begin(s, from, error);
	if (err == GRAPNEL_OK)
		err = database_create(&to, directory, program, error);
	if (err == GRAPNEL_OK) {
		s->to = to;
		err = run(s, directory, error);
	}
	if (err == GRAPNEL_OK)
		report(s, damage);
	salvage_free(s);
	if (err == GRAPNEL_OK)
		return database_finish(to, directory, error);
	(void)sqlite3_close(to);
	return err;
}

/* ---- for people ------------------------------------------------------------------------------------------ */

void
store_damage_text(const struct store_damage *d, char *out, size_t len)
{
	const struct {
		uint64_t count;
		const char *name;
	} parts[] = {
		{ d->sessions, "sessions" },
		{ d->subscriptions, "subscriptions" },
		{ d->exchanges, "states of QoS 2 exchanges" },
		{ d->retained, "retained messages" },
		{ d->segments, "segments of queued messages" },
		{ d->bans, "bans" },
		{ d->values, "values of plugins" },
	};
	const char *between = "; about ";
	size_t at = 0;

	out[0] = '\0';
	if (d->aside[0] != '\0')
		at = (size_t)snprintf(out, len,
		    "the database was damaged and is kept as %s; %" PRIu64 " rows were saved%s",
		    d->aside, d->saved, d->saved == 0 ? ", all that it held is lost" : "");
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]) && at < len; i++) {
		if (parts[i].count == 0)
			continue;
		at += (size_t)snprintf(out + at, len - at, "%s%" PRIu64 " %s",
		    at == 0 ? "about " : between, parts[i].count, parts[i].name);
		between = ", ";
	}
	if (at < len && strcmp(between, ", ") == 0)
		at += (size_t)snprintf(out + at, len - at, " are lost");
	if (at < len && d->pages > 0)
		at += (size_t)snprintf(out + at, len - at,
		    "; %" PRIu64 " of its pages cannot be read or are missing", d->pages);
	else if (at < len && d->saved > 0 && strcmp(between, ", ") != 0)
		at += (size_t)snprintf(out + at, len - at, "; nothing of it is known to be lost");
}
