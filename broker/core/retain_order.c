/* SPDX-License-Identifier: Apache-2.0 */
#include "retain_order.h"

#include <endian.h>
#include <string.h>

static const struct grapnel_str behind_all_below = { "\0", 1 };

static unsigned
rank(char c)
{
	return c == '/' ? 0 : (unsigned)(unsigned char)c + 1;
}

int
retain_compare_common(struct grapnel_str a, struct grapnel_str b, size_t *common)
{
	size_t n = a.len < b.len ? a.len : b.len, i = 0;
	uint64_t x, y;

	for (; n - i >= 8; i += 8) {
		memcpy(&x, a.data + i, 8);
		memcpy(&y, b.data + i, 8);
		if (x != y)
			break;
	}
	while (i < n && a.data[i] == b.data[i])
		i++;
	*common = i;
	if (i < n)
		return rank(a.data[i]) < rank(b.data[i]) ? -1 : 1;
	return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

int
retain_compare(struct grapnel_str a, struct grapnel_str b)
{
	size_t common;

	return retain_compare_common(a, b, &common);
}

/* 1 in each byte that is zero. */
static uint64_t
zero_bytes(uint64_t x)
{
	const uint64_t low = 0x7f7f7f7f7f7f7f7fu;

	return ~(((x & low) + low) | x | low) >> 7;
}

uint64_t
retain_head(struct grapnel_str text, size_t skip)
{
	const uint64_t ones = 0x0101010101010101u;
	size_t n = text.len > skip ? text.len - skip : 0;
	uint64_t word = 0, last_two;

	if (n >= 8) {
		memcpy(&word, text.data + skip, 8);
		word = be64toh(word);
	} else if (n == 0) {
		return 0;
	} else if (text.len >= 8) {
		memcpy(&word, text.data + text.len - 8, 8);
		word = be64toh(word) << (8 * (8 - n));
	} else {
		for (size_t i = 0; i < n; i++)
			word |= (uint64_t)(uint8_t)text.data[skip + i] << (8 * (7 - i));
	}
	/* The two last bytes are in no UTF-8 and share a number with the one before. */
	last_two = zero_bytes(~word & (ones * 0xfe));
	word = (word & ~(last_two * 3)) | last_two;
	/* Each byte is two more than it was, but '/' is 1, and what is not there 0. */
	word = word + ones * 2 - zero_bytes(word ^ (ones * '/')) * 0x30;
	return n < 8 ? word & ~(UINT64_MAX >> (8 * n)) : word;
}

/* The level that begins at `from`. */
static struct grapnel_str
level_at(struct grapnel_str text, size_t from)
{
	const char *slash = memchr(text.data + from, '/', text.len - from);

	return (struct grapnel_str){ text.data + from,
		slash != NULL ? (size_t)(slash - text.data) - from : text.len - from };
}

static bool
is_wildcard(struct grapnel_str level)
{
	return level.len == 1 && (level.data[0] == '+' || level.data[0] == '#');
}

/* The levels of the filter from here to the next wildcard, without the '/' before that. */
static struct grapnel_str
literal_run(struct grapnel_str filter, size_t from)
{
	size_t end = from;
	struct grapnel_str level;

	while (end <= filter.len && !is_wildcard(level = level_at(filter, end)))
		end += level.len + 1;
	return (struct grapnel_str){ filter.data + from, end > from ? end - 1 - from : 0 };
}

enum retain_verdict
retain_judge(struct grapnel_str filter, struct grapnel_str topic_name, struct retain_jump *jump)
{
	size_t f = 0, t = 0; /* where the levels that are compared begin */
	size_t plus_end = 0; /* end in topic_name of the last level that a '+' took */
	bool plus = false;
	struct grapnel_str want, have;
	int order;

	if (topic_name.len > 0 && topic_name.data[0] == '$' && is_wildcard(level_at(filter, 0))) {
		/* '%' is the byte after '$' [MQTT-4.7.2-1] */
		*jump = (struct retain_jump){ { NULL, 0 }, { "%", 1 } };
		return RETAIN_JUMP;
	}
	for (;;) {
		want = level_at(filter, f);
		if (is_wildcard(want) && want.data[0] == '#')
			return RETAIN_MATCH;
		have = level_at(topic_name, t);
		if (is_wildcard(want)) {
			plus = true;
			plus_end = t + have.len;
		} else if ((order = retain_compare(have, want)) < 0) {
			*jump =
			    (struct retain_jump){ { topic_name.data, t }, literal_run(filter, f) };
			return RETAIN_JUMP;
		} else if (order > 0) {
			break;
		}
		f += want.len + 1;
		t += have.len + 1;
		if (f > filter.len && t > topic_name.len)
			return RETAIN_MATCH;
		if (f > filter.len) /* too deep */
			break;
		if (t > topic_name.len) {
			/*
			 * Too short, unless what is left is '#', which takes the parent level, too.
			 */
			if (f < filter.len && filter.data[f] == '#')
				return RETAIN_MATCH;
			*jump = (struct retain_jump){ topic_name,
				{ filter.data + f - 1, 1 + literal_run(filter, f).len } };
			return RETAIN_JUMP;
		}
	}
	/*
	 * All that could match under the levels so far is passed: on to what the last '+' takes
	 * next.
	 */
	if (!plus)
		return RETAIN_END;
	*jump = (struct retain_jump){ { topic_name.data, plus_end }, behind_all_below };
	return RETAIN_JUMP;
}
