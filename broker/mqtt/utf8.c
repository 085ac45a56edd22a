/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Strict UTF-8 (Unicode table 3-7), eight ASCII bytes at a time. Topic Names are
 * nearly always ASCII, so the common case is one or two words and no branch taken.
 */
#include "wire.h"

#define ONES UINT64_C(0x0101010101010101)
#define HIGH (ONES * 0x80)

static inline bool
is_wildcard(unsigned c)
{
	return (c | 0x08) == '+'; /* '#' is 0x23, '+' 0x2b */
}

/*
 * Non-zero when the word holds a byte >= 0x80 or a zero, or, for Topic Names, a wildcard. The
 * subtractions borrow only out of a zero byte, so that "none" is always exact.
 */
static inline uint64_t
word_suspicious(uint64_t x, bool topic_name)
{
	uint64_t bad = x | (x - ONES);

	if (topic_name)
		bad |= ((x | ONES * 0x08) ^ ONES * '+') - ONES;
	return bad & HIGH;
}

/* Bytes of the well-formed sequence at p with lead byte >= 0x80; 0: ill-formed. */
static size_t
sequence_len(const unsigned char *p, size_t left)
{
	unsigned lead = p[0], lo = 0x80, hi = 0xbf;
	size_t len;

	if (lead < 0xc2) /* a continuation byte, or an overlong form */
		return 0;
	if (lead < 0xe0) {
		len = 2;
	} else if (lead < 0xf0) {
		len = 3;
		if (lead == 0xe0)
			lo = 0xa0; /* overlong below */
		else if (lead == 0xed)
			hi = 0x9f; /* surrogates above */
	} else if (lead < 0xf5) {
		len = 4;
		if (lead == 0xf0)
			lo = 0x90; /* overlong below */
		else if (lead == 0xf4)
			hi = 0x8f; /* above U+10FFFF */
	} else {
		return 0;
	}
	if (left < len || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static inline enum utf8_topic
scan(const char *data, size_t len, bool topic_name)
{
	const unsigned char *p = (const unsigned char *)data;
	bool wildcard = false;
	size_t i = 0;

	while (i < len) {
		size_t n;
		uint64_t x;

		if (len - i >= 8) {
			memcpy(&x, p + i, 8);
			if (word_suspicious(x, topic_name) == 0) {
				i += 8;
				continue;
			}
		} else if (len >= 8) {
			/* The last eight bytes: some are seen twice, none is missed. */
			memcpy(&x, p + len - 8, 8);
			if (word_suspicious(x, topic_name) == 0)
				break;
		}
		/* One character, then words again: text with umlauts is mostly ASCII too. */
		do {
			if (p[i] >= 0x80) {
				if ((n = sequence_len(p + i, len - i)) == 0)
					return UTF8_TOPIC_ILL_FORMED;
				i += n;
				continue;
			}
			if (p[i] == 0)
				return UTF8_TOPIC_ILL_FORMED;
			if (topic_name && is_wildcard(p[i]))
				wildcard = true;
			i++;
		} while (i < len && (p[i] >= 0x80 || len < 8));
	}
	return wildcard ? UTF8_TOPIC_WILDCARD : UTF8_TOPIC_OK;
}

bool
utf8_valid(const char *data, size_t len)
{
	return scan(data, len, false) == UTF8_TOPIC_OK;
}

enum utf8_topic
utf8_check_topic_name(const char *data, size_t len)
{
	return scan(data, len, true);
}

bool
utf8_plain(const char *data, size_t len)
{
	if (!utf8_valid(data, len))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c < 0x20 || c == 0x7f ||
		    (c == 0xc2 && (unsigned char)data[i + 1] < 0xa0)) /* U+0080 to U+009F */
			return false;
	}
	return true;
}
