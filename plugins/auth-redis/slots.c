/* SPDX-License-Identifier: Apache-2.0 */
#include "slots.h"

#include <string.h>

/* CRC-16/XMODEM, as the Redis Cluster specification has it. Keys are short: bit by bit will do. */
static unsigned
crc16(struct grapnel_str text)
{
	unsigned crc = 0;

	for (size_t i = 0; i < text.len; i++) {
		crc ^= (unsigned)(unsigned char)text.data[i] << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc & 0x8000u) != 0 ? (crc << 1 ^ 0x1021u) & 0xffffu : crc << 1;
	}
	return crc;
}

unsigned
slot_of(struct grapnel_str key)
{
	const char *open = memchr(key.data, '{', key.len), *close;

	if (open != NULL) {
		size_t left = key.len - (size_t)(open - key.data) - 1;

		close = memchr(open + 1, '}', left);
		if (close != NULL && close > open + 1)
			key = (struct grapnel_str){ open + 1, (size_t)(close - open) - 1 };
	}
	return crc16(key) % SLOT_COUNT;
}

static bool
take(struct grapnel_str *text, const char *word)
{
	size_t len = strlen(word);

	if (text->len < len || memcmp(text->data, word, len) != 0)
		return false;
	text->data += len;
	text->len -= len;
	return true;
}

bool
redirect_parse(struct grapnel_str error, const struct endpoint *from, struct redirect *out)
{
	struct redirect r = { .ask = false };
	struct grapnel_str host;
	const char *colon;
	size_t digits = 0;

	if (!take(&error, "MOVED ")) {
		if (!take(&error, "ASK "))
			return false;
		r.ask = true;
	}
	for (; digits < error.len && digits < 6 && error.data[digits] >= '0' &&
	     error.data[digits] <= '9';
	     digits++)
		r.slot = r.slot * 10 + (unsigned)(error.data[digits] - '0');
	if (digits == 0 || r.slot >= SLOT_COUNT || digits == error.len || error.data[digits] != ' ')
		return false;
	error.data += digits + 1;
	error.len -= digits + 1;
	if ((colon = memrchr(error.data, ':', error.len)) == NULL)
		return false;
	host = (struct grapnel_str){ error.data, (size_t)(colon - error.data) };
	if (host.len == 0 || (host.len == 1 && host.data[0] == '?'))
		host = (struct grapnel_str){ from->host, from->is_path ? 0 : strlen(from->host) };
	error.len -= (size_t)(colon - error.data) + 1;
	if (!endpoint_set(&r.to, host, (struct grapnel_str){ colon + 1, error.len }))
		return false;
	*out = r;
	return true;
}
