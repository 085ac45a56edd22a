/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain - the retained message of each Topic Name.  MQTT 5.0 section 3.3.1.3
 *
 * Threads:   any. Internally a sorted set of Topic Names under one rwlock (a leaf), which
 *            is held for at most 256 of them at a time and never while a visitor runs: a
 *            visitor may call retain_set or retain_remove. Every call takes the lock, so what
 *            a thread stored before a call is seen by whoever calls after it ("subscribe, then
 *            read" against "store, then match").
 * Ownership: the index holds its own reference to each message; one passed to a
 *            visitor is borrowed until the visitor returns (message_ref keeps it).
 * Bounded:   limits passed to retain_set; no memory per level of a Topic Name.
 * Cost:      to set, to remove, to go on with a walk: logarithmic in the number of messages. A walk
 *            looks at what matches and at what it jumps over: nothing if the only wildcard is a
 *            '#'; behind a '+' each text that the '+' takes, but whole nodes of the tree at once
 *            where the literal levels of the filter do not occur (retain_tree.h).
 */
#ifndef BROKER_CORE_RETAIN_H
#define BROKER_CORE_RETAIN_H

#include <grapnel/types.h>

struct retain;  /* opaque: retain.c */
struct message; /* core/message.h */

int retain_new(struct retain **out);
void retain_free(struct retain *st);
/*
 * Replace the message kept for its Topic Name [MQTT-3.3.1-5]; an empty payload
 * removes it [MQTT-3.3.1-6]. The caller keeps its reference. The limits are for Topic Names
 * outside of $SYS/, which are those that retain_stats counts.
 * GRAPNEL_EQUOTA: over a limit; the old message is still in place. GRAPNEL_ENOMEM likewise.
 * *had (may be NULL): there was one before. *seq (may be NULL): number of this change; all changes have one order.
 */
int retain_set(struct retain *st, struct message *msg, uint64_t max_messages, uint64_t max_bytes, bool *had, uint64_t *seq);
void retain_begin(struct retain *st, uint64_t seq); /* numbers go on behind that one */
/* Remove the message of a Topic Name if it is still this one (expiry). @return it was. */
bool retain_remove(struct retain *st, const struct message *msg);

/*
 * Visit the messages whose Topic Names match `filter` (no $share), in portions: a cursor (the text
 * from which to go on, kept by the caller) makes the walk resumable, so that a sweep of '#' over a
 * million messages never holds a loop or a lock for long. Messages come in the order of their Topic
 * Names, level by level; expired ones, too: the visitor asks message_expired. A walk is of one
 * filter.
 */
struct retain_cursor {
	char *position; /* heap; NULL: start; opaque */
	size_t position_len;
	bool done;
};
typedef void (*retain_visit_fn)(struct message *msg, void *arg);
/*
 * Continue at *c, visiting at most max_visits messages and touching at most max_nodes nodes (a
 * Topic Name of more than 128 bytes counts more than once). Both at least 1. @return GRAPNEL_OK
 * (look at c->done) or GRAPNEL_ENOMEM (what was not visited comes with the next call). A message
 * that was in place for the whole walk is visited exactly once.
 */
int retain_match(struct retain *st, struct grapnel_str filter, struct retain_cursor *c,
    unsigned max_visits, unsigned max_nodes, retain_visit_fn visit, void *arg);
void retain_cursor_clear(struct retain_cursor *c);
/*
 * Remove expired messages, a portion per call: visits at most max_nodes nodes from where it
 * stopped, the end is followed by the beginning in the next call. removed (may be NULL) is called
 * without the lock. @return how many.
 */
unsigned retain_sweep(struct retain *st, uint64_t now_ms, unsigned max_nodes,
    void (*removed)(struct message *msg, uint64_t seq, void *arg), void *arg);

struct retain_stats {
	uint64_t messages, bytes;
};
void retain_stats(const struct retain *st, struct retain_stats *out);

#endif
