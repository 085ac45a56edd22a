/* SPDX-License-Identifier: Apache-2.0 */
/* Small things that several plugins of the tests need. */
#ifndef TESTS_PLUGINS_MATCH_H
#define TESTS_PLUGINS_MATCH_H

#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>

static inline bool
str_equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/*
 * "" or an absent pattern matches nothing; one that ends in '*' matches what begins so; else it
 * is the whole.
 */
static inline bool
str_matches(struct grapnel_str pattern, struct grapnel_str s)
{
	if (pattern.len == 0 || s.data == NULL)
		return false;
	if (pattern.data[pattern.len - 1] == '*')
		return s.len >= pattern.len - 1 &&
		    memcmp(s.data, pattern.data, pattern.len - 1) == 0;
	return str_equal(pattern, s);
}

/* prefix followed by s; heap. .data NULL: no memory. */
static inline struct grapnel_str
str_join(struct grapnel_str prefix, struct grapnel_str s)
{
	char *data = malloc(prefix.len + s.len + 1);
	struct grapnel_str joined = { data, prefix.len + s.len };

	if (data != NULL) {
		if (prefix.len > 0)
			memcpy(data, prefix.data, prefix.len);
		if (s.len > 0)
			memcpy(data + prefix.len, s.data, s.len);
	}
	return joined;
}

#endif
