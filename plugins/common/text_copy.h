/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text_copy - a C string of bytes with a length
 *
 * Threads: any. Inline, so that any of the files here can use it without another object to link.
 */
#ifndef PLUGINS_COMMON_TEXT_COPY_H
#define PLUGINS_COMMON_TEXT_COPY_H

#include <grapnel/types.h>
#include <stdlib.h>
#include <string.h>

/* On the heap, with a NUL behind; that s has none in it is the caller's matter. An absent s is "". NULL: no memory. */
static inline char *
text_copy(struct grapnel_str s)
{
	char *copy = malloc(s.len + 1);

	if (copy == NULL)
		return NULL;
	if (s.len > 0)
		memcpy(copy, s.data, s.len);
	copy[s.len] = '\0';
	return copy;
}

#endif
