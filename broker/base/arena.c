/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif
#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define CHUNK_BYTES ((size_t)1 << ARENA_CHUNK_LOG2)
#define PAGE_BYTES  ((size_t)4096)
#define PAGE_UNITS  (PAGE_BYTES / 8)
#define PAGES_LOG2  (ARENA_CHUNK_LOG2 - 12)
#define PAGES       (1u << PAGES_LOG2) /* of a chunk; the first is its table of pages */
#define KEEP_EMPTY  16
#define NONE        UINT16_MAX
#define KEPT_BYTES  16 /* of a free object: what a stale pointer may look at, and `link` */

struct page {
	uint16_t used;  /* objects */
	uint16_t free;  /* first free object, in units of 8 bytes; NONE */
	uint16_t fresh; /* from here on no object has been taken yet */
	uint16_t cls;
	uint32_t next, prev; /* page numbers; 0: none, since that is a table */
};

struct free_object {
	uint64_t kept;
	uint16_t link; /* as page.free */
};

struct table { /* at the beginning of a chunk; entry 0 is its own */
	uint32_t chunk, reserved[3];
	struct page pages[PAGES - 1];
};
_Static_assert(sizeof(struct table) == PAGE_BYTES, "the table is a page");

static struct page *
page_at(const struct arena *s, uint32_t number)
{
	struct table *table = (struct table *)(void *)s->chunks[number >> PAGES_LOG2];

	return &table->pages[(number & (PAGES - 1)) - 1];
}

static char *
page_memory(const struct arena *s, uint32_t number)
{
	return s->chunks[number >> PAGES_LOG2] + (size_t)(number & (PAGES - 1)) * PAGE_BYTES;
}

static const struct table *
table_of(const void *object)
{
	return (const struct table *)((uintptr_t)object & ~(uintptr_t)(CHUNK_BYTES - 1));
}

uint32_t
arena_number(const void *object)
{
	return (table_of(object)->chunk << (ARENA_CHUNK_LOG2 - 3)) +
	    (uint32_t)(((uintptr_t)object & (CHUNK_BYTES - 1)) / 8);
}

static uint32_t
page_of(const void *object)
{
	return table_of(object)->chunk << PAGES_LOG2 |
	    (uint32_t)(((uintptr_t)object & (CHUNK_BYTES - 1)) / PAGE_BYTES);
}

struct arena *
arena_new(const uint32_t *sizes, unsigned count)
{
	struct arena *s;

	assert(count <= ARENA_CLASSES);
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	for (unsigned i = 0; i < count; i++) {
		assert(sizes[i] % 8 == 0 && sizes[i] >= KEPT_BYTES && sizes[i] <= 1024);
		s->classes[i].bytes = sizes[i];
	}
	return s;
}

void
arena_free(struct arena *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; i < s->chunk_count; i++) {
		UNPOISON(s->chunks[i], CHUNK_BYTES);
		munmap(s->chunks[i], CHUNK_BYTES);
	}
	free(s);
}

/* Not from malloc: at that alignment it would leave holes between them. */
static bool
chunk_add(struct arena *s)
{
	size_t mapped = CHUNK_BYTES * 2, skip;
	char *p;

	if (s->chunk_count == ARENA_CHUNKS ||
	    (p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) ==
		MAP_FAILED)
		return false;
	skip = (CHUNK_BYTES - ((uintptr_t)p & (CHUNK_BYTES - 1))) & (CHUNK_BYTES - 1);
	if (skip > 0)
		munmap(p, skip);
	munmap(p + skip + CHUNK_BYTES, mapped - skip - CHUNK_BYTES);
	((struct table *)(void *)(p + skip))->chunk = s->chunk_count;
	s->chunks[s->chunk_count++] = p + skip;
	s->chunk_pages = 1;
	s->pages++;
	return true;
}

static void
list_add(struct arena *s, struct arena_class *c, uint32_t number)
{
	struct page *page = page_at(s, number);

	page->prev = 0;
	if ((page->next = c->open) != 0)
		page_at(s, page->next)->prev = number;
	c->open = number;
}

static void
list_remove(struct arena *s, struct arena_class *c, const struct page *page)
{
	if (page->prev != 0)
		page_at(s, page->prev)->next = page->next;
	else
		c->open = page->next;
	if (page->next != 0)
		page_at(s, page->next)->prev = page->prev;
}

static bool
has_room(const struct arena_class *c, const struct page *page)
{
	return page->free != NONE || page->fresh + c->bytes / 8 <= PAGE_UNITS;
}

static bool
page_open(struct arena *s, struct arena_class *c)
{
	uint32_t number = c->spare;
	struct page *page;

	if (number != 0) {
		c->spare = page_at(s, number)->next;
	} else {
		if ((s->chunk_count == 0 || s->chunk_pages == PAGES) && !chunk_add(s))
			return false;
		number = (s->chunk_count - 1) << PAGES_LOG2 | s->chunk_pages++;
	}
	page = page_at(s, number);
	*page = (struct page){ .free = NONE, .cls = (uint16_t)(c - s->classes) };
	list_add(s, c, number);
	c->empty++;
	s->pages++;
	return true;
}

void *
arena_take(struct arena *s, unsigned cls)
{
	struct arena_class *c = &s->classes[cls];
	struct free_object *object;
	struct page *page;
	char *memory;

	if (c->open == 0 && !page_open(s, c))
		return NULL;
	page = page_at(s, c->open);
	memory = page_memory(s, c->open);
	if (page->free != NONE) {
		object = (struct free_object *)(void *)(memory + (size_t)page->free * 8);
		page->free = object->link;
	} else {
		object = (struct free_object *)(void *)(memory + (size_t)page->fresh * 8);
		page->fresh = (uint16_t)(page->fresh + c->bytes / 8);
	}
	UNPOISON(object, c->bytes);
	c->empty -= page->used == 0;
	page->used++;
	if (!has_room(c, page))
		list_remove(s, c, page);
	return object;
}

void
arena_give(struct arena *s, void *p)
{
	uint32_t number = page_of(p);
	struct page *page = page_at(s, number);
	struct arena_class *c = &s->classes[page->cls];
	struct free_object *object = p;

	assert(page->used > 0);
	if (!has_room(c, page))
		list_add(s, c, number);
	object->link = page->free;
	page->free = (uint16_t)(((uintptr_t)p & (PAGE_BYTES - 1)) / 8);
	POISON((char *)p + KEPT_BYTES, c->bytes - KEPT_BYTES);
	if (--page->used > 0)
		return;
	if (c->empty < KEEP_EMPTY) {
		c->empty++;
		return;
	}
	/* Where the system's pages are larger it refuses: then the memory just waits for its class. */
	madvise(page_memory(s, number), PAGE_BYTES, MADV_DONTNEED);
	list_remove(s, c, page);
	page->next = c->spare;
	c->spare = number;
	s->pages--;
}

uint64_t
arena_bytes(const struct arena *s)
{
	return s->pages * PAGE_BYTES;
}
