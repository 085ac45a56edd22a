/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a PROXY header. Whatever arrives in pieces must be understood as it is in one: all that comes before the
 * header's end is "more", and nothing behind it changes it.
 */
#include "net/proxy_header.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

/* Out of a buffer of the exact size, so that ASan sees a read past it. The result borrows from data instead. */
static enum proxy_parsed
parse(const uint8_t *data, size_t len, struct proxy_header *out)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	struct proxy_header first;
	enum proxy_parsed parsed;

	must(copy != NULL);
	memcpy(copy, data, len);
	parsed = proxy_header_parse(copy, len, &first);
	free(copy);
	must(proxy_header_parse(data, len, out) == parsed);
	must(first.size == out->size && first.local == out->local &&
	    first.address_len == out->address_len);
	must(memcmp(&first.address, &out->address, sizeof(first.address)) == 0);
	must((parsed == PROXY_BAD) == (out->why != NULL));
	return parsed;
}

static void
inside(struct grapnel_str s, const uint8_t *data, size_t size)
{
	const uint8_t *p = (const uint8_t *)s.data;

	must(p == NULL || (p >= data && p <= data + size && s.len <= (size_t)(data + size - p)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_header whole, part;
	enum proxy_parsed parsed;

	if (size > PROXY_HEADER_MAX + 64)
		size = PROXY_HEADER_MAX + 64;
	parsed = parse(data, size, &whole);
	if (parsed == PROXY_MORE)
		must(size < PROXY_HEADER_MAX);
	if (parsed == PROXY_OK) {
		must(whole.size > 0 && whole.size <= size && whole.size <= PROXY_HEADER_MAX);
		must(whole.version == 1 ? whole.size <= PROXY_V1_MAX : whole.version == 2);
		must(!whole.local || (whole.address_len == 0 && whole.cn.data == NULL));
		must(whole.unique_id.len <= PROXY_UNIQUE_ID_MAX);
		inside(whole.authority, data, whole.size);
		inside(whole.unique_id, data, whole.size);
		inside(whole.cn, data, whole.size);
		must(parse(data, whole.size, &part) == PROXY_OK && part.size == whole.size);
	}
	/* In pieces. */
	for (size_t n = 0; n < size && n < 300; n++) {
		enum proxy_parsed so_far = parse(data, n, &part);

		if (parsed != PROXY_BAD && n < (parsed == PROXY_OK ? whole.size : size))
			must(so_far == PROXY_MORE);
		if (so_far == PROXY_BAD)
			must(parsed == PROXY_BAD); /* it does not get better */
		if (so_far == PROXY_OK)
			must(parsed == PROXY_OK && part.size == whole.size);
	}
	return 0;
}
