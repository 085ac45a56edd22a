/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the pages of a damaged database. So that an input stays small, each piece of 1200 bytes is a page: 100 bytes of its
 * beginning and 1100 of its end, where rows are; one that goes on in other pages has at least 1003 there. Whatever a row is said to be is inside of its page, or copied.
 */
#include "store/pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FIRST 100u
#define LAST  1100u
#define MOST  8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static bool
inside(const void *p, size_t len, const uint8_t *from, size_t room)
{
	const uint8_t *b = p;

	return b >= from && b <= from + room && len <= (size_t)(from + room - b);
}

static void
use_row(const struct page *page, struct row_cell *row, struct row_out *scratch)
{
	must(row->columns > 0 && row->columns <= ROWS_COLUMNS);
	for (unsigned i = 0; i < row->columns; i++) {
		const struct rows_value *v = &row->values[i];

		if (v->type == SQLITE_TEXT || v->type == SQLITE_BLOB)
			must(inside(v->bytes.data, v->bytes.len, page->bytes, PAGE_SIZE) ||
			    inside(
				v->bytes.data, v->bytes.len, row->payload.data, row->payload.len));
	}
	for (unsigned t = 0; t < STORE_TABLE_COUNT; t++)
		if (row->columns == rows_tables[t].columns)
			(void)rows_fault((enum store_table)t, row->values, scratch);
}

static void
use_page(struct pages *p, uint32_t number, uint8_t *bytes)
{
	struct row_cell row = { 0 };
	struct row_out scratch = { 0 };
	struct page page;

	(void)pages_kind(p, number);
	must(pages_read(p, number, bytes));
	if (!page_parse(&page, number, bytes))
		return;
	(void)page_whole(&page);
	for (unsigned i = 0; i < page.cells; i++) {
		if (page_inner(&page))
			(void)page_child(&page, i);
		if (page.type != PAGE_TABLE_INNER && page_row(p, &page, i, &row))
			use_row(&page, &row, &scratch);
	}
	if (page_inner(&page))
		(void)page_child(&page, page.cells);
	row_free(&row.payload);
	row_free(&scratch);
}

/* In memory, and with the path that a file must have. */
static int
make_file(const uint8_t *data, size_t size, char *path, size_t len)
{
	int fd = memfd_create("pages", MFD_CLOEXEC);

	must(fd >= 0);
	for (size_t at = 0, page = 0; at < size && page < MOST; at += FIRST + LAST, page++) {
		size_t first = size - at < FIRST ? size - at : FIRST;
		size_t last = size - at - first < LAST ? size - at - first : LAST;

		must(ftruncate(fd, (off_t)((page + 1) * PAGE_SIZE)) == 0);
		must(pwrite(fd, data + at, first, (off_t)(page * PAGE_SIZE)) == (ssize_t)first);
		must(pwrite(fd, data + at + first, last, (off_t)((page + 1) * PAGE_SIZE - last)) ==
		    (ssize_t)last);
	}
	(void)snprintf(path, len, "/proc/self/fd/%d", fd);
	return fd;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct pages p;
	char path[64];
	int fd = make_file(data, size, path, sizeof(path));
	uint8_t *bytes = malloc(PAGE_SIZE);

	must(bytes != NULL);
	must(pages_open(&p, path) == GRAPNEL_OK);
	must(p.readable <= MOST);
	for (uint32_t i = 1; i <= p.readable; i++)
		use_page(&p, i, bytes);
	must(!pages_read(&p, 0, bytes) && !pages_read(&p, p.readable + 1, bytes));
	pages_close(&p);
	free(bytes);
	(void)close(fd);
	return 0;
}
