/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain_order - Topic Names in level order, and how a filter jumps through them
 *
 * Order: by bytes, with '/' before everything else. So a Topic Name and all that is below
 * it stand in a row, and a walk for a filter is a search in a sorted set: look at
 * the next Topic Name; if it does not match, compute the first text that could, and search for
 * that. What is remembered between two portions is nothing but such a text.
 *
 * A *key* is a text to search from. It may contain U+0000, which no Topic Name does: it comes
 * directly after '/', so "a\0" is behind "a" and all of "a/...", and before "a!".
 */
#ifndef BROKER_CORE_RETAIN_ORDER_H
#define BROKER_CORE_RETAIN_ORDER_H

#include <grapnel/types.h>

int retain_compare(struct grapnel_str a, struct grapnel_str b);
/* The same; *common: with how many equal bytes both begin. */
int retain_compare_common(struct grapnel_str a, struct grapnel_str b, size_t *common);
/*
 * Eight bytes of a text from `skip` on as a number: of two texts that are equal up to there, the
 * one with the smaller number stands first; equal numbers say nothing.
 */
uint64_t retain_head(struct grapnel_str text, size_t skip);

enum retain_verdict {
	RETAIN_MATCH,
	RETAIN_JUMP, /* no match; the first that could is at or behind the key */
	RETAIN_END,  /* no match from here on */
};
/*
 * Judge a Topic Name for a valid filter (no $share). The key for RETAIN_JUMP is `head` (a beginning
 * of topic_name), then `tail`; always behind topic_name.
 */
struct retain_jump {
	struct grapnel_str head, tail;
};
enum retain_verdict retain_judge(
    struct grapnel_str filter, struct grapnel_str topic_name, struct retain_jump *jump);

#endif
