/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages - the pages of a damaged database, read without SQLite
 *
 * SQLite gives nothing of a file whose first page is wrong, and stops at the first page that it cannot use. A salvage wants what is
 * behind it. The format is SQLite's (sqlite.org/fileformat2.html), and only what our databases have of it: pages of 8192 bytes, no
 * reserved bytes, auto_vacuum, and a WAL in front of the file.
 *
 * Threads: one. Bounded: 4 bytes for each page. Everything read is hostile.
 */
#ifndef BROKER_STORE_PAGES_H
#define BROKER_STORE_PAGES_H

#include "store/rows.h"

#define PAGE_SIZE 8192u

struct pages {
	int fd, wal_fd;	   /* -1: there is none */
	uint32_t readable; /* pages that are somewhere */
	uint32_t count;	   /* that are part of the database as far as is known: behind them is what a smaller one left */
	uint32_t *frames;  /* heap: for each page its last committed frame in the WAL, from 1; 0: it is in the file */
	uint32_t frame_room;
	uint32_t map_page; /* which one is in `map`; 0: none */
	uint8_t map[PAGE_SIZE];
};
/* path-wal is read too. @return GRAPNEL_OK, GRAPNEL_ENOMEM; GRAPNEL_ESYS: errno. It is to be closed after an error too. */
int pages_open(struct pages *p, const char *path);
void pages_close(struct pages *p);
bool pages_read(const struct pages *p, uint32_t number, uint8_t out[PAGE_SIZE]); /* what is missing at the end of the file is 0 */

/* What the database's own map says that a page is. */
enum pages_kind { PAGES_UNKNOWN, PAGES_TREE, PAGES_OTHER /* free, or the rest of a long row */ };
enum pages_kind pages_kind(struct pages *p, uint32_t number);

/* A page of a b-tree. */
struct page {
	uint32_t number;
	const uint8_t *bytes;
	unsigned type, header, cells;
};
#define PAGE_INDEX_INNER 2u
#define PAGE_TABLE_INNER 5u
#define PAGE_INDEX_LEAF	 10u
#define PAGE_TABLE_LEAF	 13u
bool page_parse(struct page *page, uint32_t number, const uint8_t bytes[PAGE_SIZE]); /* false: it is none */
bool page_inner(const struct page *page);
uint32_t page_child(const struct page *page, unsigned cell); /* cell == cells: the right-most; 0: there is none */
/* Are all its bytes accounted for? If not it had more, or other, cells than it says. */
bool page_whole(const struct page *page);

/* The row in a cell. */
struct row_cell {
	unsigned columns;
	struct rows_value values[ROWS_COLUMNS]; /* of a table with rowid: it is the first */
	struct row_out payload; /* heap: what values point to, if it is not the page itself */
};
/* false: it cannot be read. Inner pages of tables with rowid have no rows: not to be called. */
bool page_row(const struct pages *p, const struct page *page, unsigned cell, struct row_cell *out);

#endif
