/* SPDX-License-Identifier: Apache-2.0 */
#include "store/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAL_HEADER   32u
#define FRAME_HEADER 24u
#define MAP_ENTRIES  (PAGE_SIZE / 5) /* of one page of the map: a byte and a number each */
#define MISSING_MOST 1000000u /* pages more than are there: a number above is damage itself */
#define LOCK_PAGE    (0x40000000u / PAGE_SIZE + 1) /* has SQLite's lock bytes and nothing else */

static uint32_t
be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static uint32_t
le32(const uint8_t *b)
{
	return (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
}

/* Reads what is there; the rest of out is 0. false: nothing is there. */
static bool
read_at(int fd, uint8_t *out, size_t len, uint64_t offset)
{
	size_t have = 0;

	while (have < len) {
		ssize_t got = pread(fd, out + have, len - have, (off_t)(offset + have));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	memset(out + have, 0, len - have);
	return have > 0;
}

/* ---- the WAL ---------------------------------------------------------------------------------- */

struct sum {
	uint32_t a, b;
	bool big;
};

static void
add_to_sum(struct sum *s, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		s->a += (s->big ? be32(bytes + i) : le32(bytes + i)) + s->b;
		s->b += (s->big ? be32(bytes + i + 4) : le32(bytes + i + 4)) + s->a;
	}
}

static bool
set_frame(struct pages *p, uint32_t page, uint32_t frame)
{
	uint32_t room = p->frame_room;
	uint32_t *frames;

	if (page >= room) {
		room = page + 1 + page / 4;
		if ((frames = realloc(p->frames, sizeof(*frames) * room)) == NULL)
			return false;
		memset(frames + p->frame_room, 0, sizeof(*frames) * (size_t)(room - p->frame_room));
		p->frames = frames;
		p->frame_room = room;
	}
	p->frames[page] = frame;
	return true;
}

/* Frames first..last were committed together. */
static int
take_commit(struct pages *p, uint32_t first, uint32_t last, uint32_t highest)
{
	uint8_t header[FRAME_HEADER];

	for (uint32_t i = first; i <= last; i++) {
		uint32_t page;

		if (!read_at(p->wal_fd, header, sizeof(header),
			WAL_HEADER + (uint64_t)(i - 1) * (FRAME_HEADER + PAGE_SIZE)))
			return GRAPNEL_OK;
		page = be32(header);
		/* Not more pages than could have been made: a checksum is not proof against malice. */
		if (page != 0 && page <= highest && !set_frame(p, page, i))
			return GRAPNEL_ENOMEM;
	}
	return GRAPNEL_OK;
}

/* As SQLite does: frames count up to the last commit before the first one whose salt or sum is wrong. */
static int
read_wal(struct pages *p, uint64_t wal_bytes)
{
	uint8_t header[WAL_HEADER], frame[FRAME_HEADER + PAGE_SIZE];
	uint64_t most = wal_bytes / (FRAME_HEADER + PAGE_SIZE);
	uint32_t highest = p->readable + (uint32_t)most, committed = 0;
	struct sum s = { 0 };
	int err = GRAPNEL_OK;

	if (!read_at(p->wal_fd, header, sizeof(header), 0) || (be32(header) & ~1u) != 0x377f0682u ||
	    be32(header + 8) != PAGE_SIZE)
		return GRAPNEL_OK;
	s.big = (be32(header) & 1u) != 0;
	add_to_sum(&s, header, 24);
	if (s.a != be32(header + 24) || s.b != be32(header + 28))
		return GRAPNEL_OK;
	for (uint32_t i = 1; i <= most && err == GRAPNEL_OK; i++) {
		(void)read_at(p->wal_fd, frame, sizeof(frame),
		    WAL_HEADER + (uint64_t)(i - 1) * sizeof(frame));
		add_to_sum(&s, frame, 8);
		add_to_sum(&s, frame + FRAME_HEADER, PAGE_SIZE);
		if (memcmp(frame + 8, header + 16, 8) != 0 || s.a != be32(frame + 16) ||
		    s.b != be32(frame + 20))
			break;
		if (be32(frame + 4) == 0)
			continue;
		err = take_commit(p, committed + 1, i, highest);
		committed = i;
		p->count = be32(frame + 4);
	}
	return err;
}

/* ---- pages -------------------------------------------------------------------------------------- */

static int
open_wal(struct pages *p, const char *path)
{
	char *wal;
	struct stat st;

	if (asprintf(&wal, "%s-wal", path) < 0)
		return GRAPNEL_ENOMEM;
	p->wal_fd = open(wal, O_RDONLY | O_CLOEXEC);
	free(wal);
	if (p->wal_fd < 0)
		return errno == ENOENT ? GRAPNEL_OK : GRAPNEL_ESYS;
	if (fstat(p->wal_fd, &st) != 0)
		return GRAPNEL_ESYS;
	return st.st_size > WAL_HEADER ? read_wal(p, (uint64_t)st.st_size - WAL_HEADER)
				       : GRAPNEL_OK;
}

int
pages_open(struct pages *p, const char *path)
{
	uint8_t first[PAGE_SIZE];
	struct stat st = { 0 };
	uint64_t size;
	int err;

	*p = (struct pages){ .wal_fd = -1 };
	p->fd = open(path, O_RDONLY | O_CLOEXEC);
	if ((p->fd < 0 && errno != ENOENT) || (p->fd >= 0 && fstat(p->fd, &st) != 0))
		return GRAPNEL_ESYS;
	/* A part of a page may have rows. SQLite has fewer than 2^32 - 2 pages. */
	size = ((uint64_t)st.st_size + PAGE_SIZE - 1) / PAGE_SIZE;
	p->readable = size < UINT32_MAX / 2 ? (uint32_t)size : UINT32_MAX / 2;
	err = open_wal(p, path);
	if (p->frame_room > p->readable + 1) {
		for (uint32_t i = p->readable + 1; i < p->frame_room; i++)
			if (p->frames[i] != 0)
				p->readable = i;
	}
	/* Without a commit in the WAL the first page knows it, if it was written by one who keeps the number. */
	if (err == GRAPNEL_OK && p->count == 0 && pages_read(p, 1, first) &&
	    memcmp(first, "SQLite format 3", 16) == 0 && memcmp(first + 24, first + 92, 4) == 0)
		p->count = be32(first + 28);
	if (p->count == 0 || p->count - 1 > p->readable + MISSING_MOST)
		p->count = p->readable;
	return err;
}

void
pages_close(struct pages *p)
{
	if (p->fd >= 0)
		(void)close(p->fd);
	if (p->wal_fd >= 0)
		(void)close(p->wal_fd);
	free(p->frames);
	*p = (struct pages){ .fd = -1, .wal_fd = -1 };
}

bool
pages_read(const struct pages *p, uint32_t number, uint8_t out[PAGE_SIZE])
{
	uint32_t frame = number < p->frame_room ? p->frames[number] : 0;

	if (number == 0 || number > p->readable)
		return false;
	if (frame != 0)
		return read_at(p->wal_fd, out, PAGE_SIZE,
		    WAL_HEADER + (uint64_t)(frame - 1) * (FRAME_HEADER + PAGE_SIZE) + FRAME_HEADER);
	return p->fd >= 0 && read_at(p->fd, out, PAGE_SIZE, (uint64_t)(number - 1) * PAGE_SIZE);
}

enum pages_kind
pages_kind(struct pages *p, uint32_t number)
{
	uint32_t map = (number - 2) / (MAP_ENTRIES + 1) * (MAP_ENTRIES + 1) + 2;
	unsigned type;

	if (number < 2)
		return PAGES_TREE;
	if (map == LOCK_PAGE)
		map++;
	if (number <= map || number == LOCK_PAGE)
		return PAGES_OTHER;
	if (map != p->map_page) {
		p->map_page = pages_read(p, map, p->map) ? map : 0;
		if (p->map_page == 0)
			return PAGES_UNKNOWN;
	}
	type = p->map[5 * (number - map - 1)];
	if (type == 1 || type == 5)
		return PAGES_TREE;
	return type >= 2 && type <= 4 ? PAGES_OTHER : PAGES_UNKNOWN;
}
