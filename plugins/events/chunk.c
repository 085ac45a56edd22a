/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_CAPACITY 4096u

/* Room for `more` bytes behind what is there. */
static bool
chunk_room(struct chunk **at, size_t more)
{
	struct chunk *c = *at;
	size_t capacity;
	char *bytes;

	if (c == NULL && (c = calloc(1, sizeof(*c))) == NULL)
		return false;
	if (c->capacity - c->len < more) {
		capacity = c->capacity > 0 ? c->capacity * 2 : FIRST_CAPACITY;
		if (capacity < c->len + more)
			capacity = c->len + more;
		if ((bytes = realloc(c->bytes, capacity)) == NULL) {
			if (*at == NULL)
				free(c);
			return false;
		}
		c->bytes = bytes;
		c->capacity = capacity;
	}
	*at = c;
	return true;
}

bool
chunk_add(struct chunk **at, const struct grapnel_event *ev, size_t payload_max)
{
	size_t size = record_size(ev, payload_max);
	struct chunk *c;

	if (size > RECORD_MAX || !chunk_room(at, size))
		return false;
	c = *at;
	c->len += record_write(c->bytes + c->len, ev, payload_max);
	if (c->count++ == 0)
		c->oldest_us = ev->time_us;
	c->newest_us = ev->time_us;
	return true;
}

struct chunk *
chunk_of(const void *bytes, size_t len, uint32_t count, int64_t oldest_us, int64_t newest_us)
{
	struct chunk *c = NULL;

	if (!chunk_room(&c, len))
		return NULL;
	memcpy(c->bytes, bytes, len);
	c->len = len;
	c->count = count;
	c->oldest_us = oldest_us;
	c->newest_us = newest_us;
	return c;
}

void
chunk_trim(struct chunk *c)
{
	char *bytes;

	if (c->capacity - c->len <= c->len / 8 || (bytes = realloc(c->bytes, c->len)) == NULL)
		return;
	c->bytes = bytes;
	c->capacity = c->len;
}

void
chunk_free(struct chunk *c)
{
	if (c == NULL)
		return;
	free(c->bytes);
	free(c);
}
