/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pages.h"

#include <string.h>

#define ROW_MOST 0x7fffff00u /* bytes; SQLite has no longer ones */

static unsigned
be16(const uint8_t *b)
{
	return (unsigned)b[0] << 8 | b[1];
}

static uint32_t
be32(const uint8_t *b)
{
	return (uint32_t)be16(b) << 16 | be16(b + 2);
}

/* SQLite's variable-length number. @return its length; 0: it does not end in time. */
static unsigned
get_varint(const uint8_t *b, const uint8_t *end, uint64_t *out)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < 9 && b + i < end; i++) {
		if (i == 8) {
			*out = n << 8 | b[8];
			return 9;
		}
		n = n << 7 | (b[i] & 0x7fu);
		if (!(b[i] & 0x80)) {
			*out = n;
			return i + 1;
		}
	}
	return 0;
}

/* ---- the page ------------------------------------------------------------------------------------ */

bool
page_inner(const struct page *page)
{
	return page->type == PAGE_INDEX_INNER || page->type == PAGE_TABLE_INNER;
}

static unsigned
pointers_at(const struct page *page)
{
	return page->header + (page_inner(page) ? 12 : 8);
}

bool
page_parse(struct page *page, uint32_t number, const uint8_t bytes[PAGE_SIZE])
{
	unsigned header = number == 1 ? 100 : 0, most;

	*page = (struct page){ .number = number,
		.bytes = bytes,
		.type = bytes[header],
		.header = header,
		.cells = be16(bytes + header + 3) };
	if (page->type != PAGE_INDEX_INNER && page->type != PAGE_TABLE_INNER &&
	    page->type != PAGE_INDEX_LEAF && page->type != PAGE_TABLE_LEAF)
		return false;
	most = (PAGE_SIZE - pointers_at(page)) / 2;
	if (page->cells > most)
		page->cells = most;
	return true;
}

/* NULL: it cannot be there. */
static const uint8_t *
cell_at(const struct page *page, unsigned cell)
{
	/* SQLite does not look at the bits above either. */
	unsigned at = be16(page->bytes + pointers_at(page) + (size_t)2 * cell) & (PAGE_SIZE - 1);

	if (at < pointers_at(page) + 2 * page->cells || at > PAGE_SIZE - 4)
		return NULL;
	return page->bytes + at;
}

uint32_t
page_child(const struct page *page, unsigned cell)
{
	const uint8_t *at =
	    cell == page->cells ? page->bytes + page->header + 8 : cell_at(page, cell);

	return at != NULL ? be32(at) : 0;
}

/* ---- cells ---------------------------------------------------------------------------------------- */

struct shape {
	const uint8_t *local; /* the part of the payload that is in the page */
	uint64_t payload, rowid;
	unsigned local_len, size; /* size: of the cell */
	uint32_t overflow;        /* page with the rest; 0: there is none */
};

/* How much of a payload stays in the page when not all of it does. */
static unsigned
local_part(const struct page *page, uint64_t payload)
{
	unsigned usable = PAGE_SIZE;
	unsigned most = page->type == PAGE_TABLE_LEAF ? usable - 35 : (usable - 12) * 64 / 255 - 23;
	unsigned least = (usable - 12) * 32 / 255 - 23;
	unsigned fitting;

	if (payload <= most)
		return (unsigned)payload;
	fitting = least + (unsigned)((payload - least) % (usable - 4));
	return fitting <= most ? fitting : least;
}

static bool
get_shape(const struct page *page, unsigned cell, struct shape *s)
{
	const uint8_t *start = cell_at(page, cell), *end = page->bytes + PAGE_SIZE, *at = start;
	unsigned len;

	*s = (struct shape){ 0 };
	if (start == NULL)
		return false;
	if (page_inner(page))
		at += 4;
	if (page->type != PAGE_TABLE_INNER) {
		if ((len = get_varint(at, end, &s->payload)) == 0 || s->payload > ROW_MOST)
			return false;
		at += len;
	}
	if (page->type == PAGE_TABLE_LEAF || page->type == PAGE_TABLE_INNER) {
		if ((len = get_varint(at, end, &s->rowid)) == 0)
			return false;
		at += len;
	}
	s->local = at;
	s->local_len = local_part(page, s->payload);
	if (s->local_len > (size_t)(end - at))
		return false;
	at += s->local_len;
	if (s->local_len < s->payload) {
		if (end - at < 4)
			return false;
		s->overflow = be32(at);
		at += 4;
	}
	s->size = (unsigned)(at - start);
	if (s->size < 4)
		s->size = 4;
	return true;
}

bool
page_whole(const struct page *page)
{
	const uint8_t *b = page->bytes + page->header;
	unsigned pointers_end = pointers_at(page) + 2 * page->cells;
	unsigned content = be16(b + 5) != 0 ? be16(b + 5) : 65536;
	unsigned used = pointers_end + b[7], at = be16(b + 1);
	struct shape s;

	if (content < pointers_end || content > PAGE_SIZE || be16(b + 3) != page->cells)
		return false;
	used += content - pointers_end;
	for (unsigned i = 0; i < page->cells; i++) {
		if (!get_shape(page, i, &s))
			return false;
		used += s.size;
	}
	/* Free blocks are in ascending order. */
	while (at != 0) {
		unsigned next;

		if (at > PAGE_SIZE - 4)
			return false;
		used += be16(page->bytes + at + 2);
		next = be16(page->bytes + at);
		if (next != 0 && next <= at)
			return false;
		at = next;
	}
	return used == PAGE_SIZE;
}

/* ---- rows ----------------------------------------------------------------------------------------- */

static bool
gather(const struct pages *p, const struct shape *s, struct row_out *payload)
{
	uint8_t rest[PAGE_SIZE];
	uint32_t next = s->overflow;

	row_clear(payload);
	row_bytes(payload, s->local, s->local_len);
	/* It ends: each page adds to the payload, and that is not longer than the file. */
	if (s->payload > (uint64_t)p->readable * PAGE_SIZE)
		return false;
	while (payload->len < s->payload) {
		uint64_t missing = s->payload - payload->len;

		if (!pages_read(p, next, rest))
			return false;
		next = be32(rest);
		row_bytes(
		    payload, rest + 4, missing < PAGE_SIZE - 4 ? (size_t)missing : PAGE_SIZE - 4);
		if (payload->failed)
			return false;
	}
	return true;
}

static int64_t
signed_number(const uint8_t *b, unsigned len)
{
	uint64_t n = b[0] & 0x80 ? UINT64_MAX : 0;

	for (unsigned i = 0; i < len; i++)
		n = n << 8 | b[i];
	return (int64_t)n;
}

/* One column by its serial type. @return its length; > room: it does not fit. */
static uint64_t
get_value(uint64_t type, const uint8_t *at, size_t room, struct rows_value *v)
{
	static const uint8_t lengths[] = { 0, 1, 2, 3, 4, 6, 8, 8, 0, 0 };
	uint64_t len;

	*v = (struct rows_value){ .type = SQLITE_NULL };
	if (type >= 12) {
		len = (type - 12) / 2;
		v->type = type & 1 ? SQLITE_TEXT : SQLITE_BLOB;
		v->bytes = (struct grapnel_str){ (const char *)at, (size_t)len };
		return len;
	}
	if (type > 9)
		return UINT64_MAX;
	len = lengths[type];
	if (len > room || type == 0)
		return len;
	v->type = type == 7 ? SQLITE_FLOAT : SQLITE_INTEGER;
	if (type >= 8)
		v->number = (int64_t)type - 8;
	else
		v->number = signed_number(at, (unsigned)len);
	return len;
}

static bool
get_record(const uint8_t *data, size_t len, struct row_cell *out)
{
	const uint8_t *at, *header_end, *body;
	uint64_t header;
	unsigned step = get_varint(data, data + len, &header);

	if (step == 0 || header > len || header < step)
		return false;
	at = data + step;
	header_end = body = data + header;
	for (out->columns = 0; at < header_end; out->columns++) {
		size_t room = (size_t)(data + len - body);
		uint64_t type, size;

		if (out->columns == ROWS_COLUMNS || (step = get_varint(at, header_end, &type)) == 0)
			return false;
		at += step;
		size = get_value(type, body, room, &out->values[out->columns]);
		if (size > room)
			return false;
		body += size;
	}
	return true;
}

bool
page_row(const struct pages *p, const struct page *page, unsigned cell, struct row_cell *out)
{
	struct shape s;

	if (!get_shape(page, cell, &s))
		return false;
	if (s.overflow != 0 ? !gather(p, &s, &out->payload) : s.local_len < s.payload)
		return false;
	if (!get_record(s.overflow != 0 ? out->payload.data : s.local, (size_t)s.payload, out) ||
	    out->columns == 0)
		return false;
	/* What is declared as INTEGER PRIMARY KEY is NULL in the record: its value is the rowid. */
	if (page->type == PAGE_TABLE_LEAF && out->values[0].type == SQLITE_NULL) {
		out->values[0].type = SQLITE_INTEGER;
		out->values[0].number = (int64_t)s.rowid;
	}
	return true;
}
