/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utf8 - is a text of a backend or a peer well-formed UTF-8?  Unicode 15.0, table 3-7
 *
 * Threads: any. Inline, so that any of the files here can use it without another object to link.
 */
#ifndef PLUGINS_COMMON_UTF8_H
#define PLUGINS_COMMON_UTF8_H

#include <grapnel/types.h>

/* Bytes of the well-formed sequence at the beginning of s, s.len > 0; 0: ill-formed. */
static inline size_t
utf8_sequence(struct grapnel_str s)
{
	const unsigned char *p = (const unsigned char *)s.data;
	unsigned lo = 0x80, hi = 0xbf;
	size_t len;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4) /* a continuation byte, an overlong form, above U+10FFFF */
		return 0;
	len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (p[0] == 0xe0)
		lo = 0xa0; /* overlong below */
	else if (p[0] == 0xed)
		hi = 0x9f; /* surrogates above */
	else if (p[0] == 0xf0)
		lo = 0x90;
	else if (p[0] == 0xf4)
		hi = 0x8f;
	if (s.len < len || p[1] < lo || p[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Well-formed, without NUL; with controls false, without any control character (C0, DEL, C1) too. */
static inline bool
utf8_is_text(struct grapnel_str s, bool controls)
{
	while (s.len > 0) {
		unsigned char first = (unsigned char)s.data[0];
		size_t n = utf8_sequence(s);

		if (n == 0 || first == 0)
			return false;
		if (!controls &&
		    (first < 0x20 || first == 0x7f ||
			(first == 0xc2 && (unsigned char)s.data[1] < 0xa0)))
			return false;
		s.data += n;
		s.len -= n;
	}
	return true;
}

#endif
