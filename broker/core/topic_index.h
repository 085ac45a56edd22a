/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_index - from Topic Name to the Topic Filters that match it
 *
 * A tree by levels. A node stands for one filter; per node there is one slot for
 * each worker, which only that worker reads and writes (others see only whether
 * it is empty). What a slot points to (the worker's subscriber array) is the
 * worker's business. A filter costs one node with the levels that it shares with no other filter.
 *
 * Threads:   topic_index_match on any worker inside an RCU read section (rcu.h);
 *            acquire/release on any worker, serialised by one internal mutex
 *            (a leaf: takes no other but rcu's); slots by their worker.
 * Ownership: nodes belong to the index. Node memory is type-stable: a node that
 *            is freed keeps being a node, with another generation, so a
 *            (node, generation) pair may travel through a mailbox and be checked
 *            with topic_node_alive by the worker whose slot it concerns.
 * Bounded:   by the callers' max_subscriptions; depth by max_topic_levels;
 *            matching keeps its work list on the heap of the caller's matcher, not on the stack.
 */
#ifndef BROKER_CORE_TOPIC_INDEX_H
#define BROKER_CORE_TOPIC_INDEX_H

#include <grapnel/types.h>

struct topic_index; /* opaque: topic_index.c */
struct topic_node;

int topic_index_new(struct topic_index **out, unsigned workers);
void topic_index_free(struct topic_index *ix); /* all readers gone; calls rcu_wait; NULL is fine */

/*
 * The node of `filter` (valid, without $share), made if need be, with one more reference.
 * GRAPNEL_ENOMEM: nothing changed. Each successful acquire is paired with one release.
 */
int topic_index_acquire(struct topic_index *ix, struct grapnel_str filter, struct topic_node **out);
void topic_index_release(struct topic_index *ix, struct topic_node *node); /* the caller has emptied its slot if it was its last */

/* The node of that filter if there is one, to compare with nodes that the caller holds; else NULL. */
struct topic_node *topic_index_find(struct topic_index *ix, struct grapnel_str filter);

void *topic_node_slot(const struct topic_node *node, unsigned worker);		/* only by that worker */
/*
 * Only by that worker, while it holds a reference. GRAPNEL_ENOMEM: nothing changed; not when the slot had something before or p is NULL.
 */
int topic_node_set_slot(struct topic_index *ix, struct topic_node *node, unsigned worker, void *p);
bool topic_node_has(const struct topic_node *node, unsigned worker);		/* any worker; found by a match, or held */
/* Any worker: the bits of its slot that no pointer has. */
uintptr_t topic_node_tags(const struct topic_node *node, unsigned worker, uintptr_t bits);
uint32_t topic_node_generation(const struct topic_node *node);
/* The slot if the node is still the one of that generation, else NULL. Only by that worker; inside or outside a read section. */
void *topic_node_slot_checked(const struct topic_node *node, uint32_t generation, unsigned worker);

/* A matcher holds scratch memory; one per worker, reused. */
struct topic_matcher;
struct topic_matcher *topic_matcher_new(void); /* NULL: no memory */
void topic_matcher_free(struct topic_matcher *m);

#define TOPIC_GROUP 16
struct topic_match {
	struct topic_node *const *nodes; /* those with at least one non-empty slot; valid until the next match */
	unsigned count;
};
/*
 * Match up to TOPIC_GROUP Topic Names at once, walking the tree level by level for
 * all of them with prefetching: many filters cost hardly more than few. Results in out[i].
 * [MQTT-4.7.2-1] is obeyed. @return GRAPNEL_OK or GRAPNEL_ENOMEM (results incomplete: treat as failure).
 * Inside an RCU read section.
 */
int topic_index_match(struct topic_index *ix, struct topic_matcher *m, const struct grapnel_str *topic_names, unsigned n,
    struct topic_match *out);

/*
 * The filter of a node that the caller holds a reference to. @return its length; nothing is written when that is more than cap.
 */
size_t topic_index_filter(struct topic_index *ix, const struct topic_node *node, char *buf, size_t cap);

struct topic_index_stats { uint64_t nodes, bytes; };
void topic_index_stats(struct topic_index *ix, struct topic_index_stats *out);

#endif
