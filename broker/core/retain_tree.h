/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain_tree - messages in the level order of their Topic Names: a B+ tree
 *
 * A node has up to RETAIN_NODE_MAX messages (or nodes below) and beside each eight bytes of its
 * Topic Name, from behind what all in the node have in common. So a search reads a few cache lines
 * per height and, nearly always, one single Topic Name: the one it finds.
 *
 * Each node also knows a little of which levels occur below it: 128 bits for each of the first
 * RETAIN_DEPTHS depths. A walk for a filter with a level that occurs rarely, or nowhere, passes
 * over whole nodes (retain_place_skip).
 *
 * Threads:   the caller's lock. A place is good until the next change.
 * Ownership: the tree borrows its messages; whoever inserts one keeps a reference for it.
 */
#ifndef BROKER_CORE_RETAIN_TREE_H
#define BROKER_CORE_RETAIN_TREE_H

#include "core/message.h"
#include "topic_level.h"

#define RETAIN_DEPTHS     8
#define RETAIN_NODE_MAX   55
#define RETAIN_HEIGHT_MAX 16

struct retain_levels {
	uint64_t at[RETAIN_DEPTHS][2]; /* two bits for each text */
};

struct retain_node {
	uint16_t count;
	uint16_t skip;               /* bytes that all Topic Names of `slots` begin with, or less */
	struct retain_levels levels; /* of everything below, and of what was there */
	uint64_t heads[RETAIN_NODE_MAX]; /* retain_head of the first Topic Name of each */
	void *slots[RETAIN_NODE_MAX];    /* height 0: struct message; above: struct retain_node */
};

_Static_assert(sizeof(struct retain_node) <= 1016, "malloc makes it 1,024");

struct retain_tree {
	struct retain_node *root; /* NULL: empty */
	unsigned height;          /* of the root, plus 1 */
	struct topic_key key;
};

/* A message, or where one would be: from [0], a node of messages, up to the root. */
struct retain_place {
	struct retain_node *nodes[RETAIN_HEIGHT_MAX];
	unsigned at[RETAIN_HEIGHT_MAX];
	unsigned height; /* 0: the tree is empty */
};

void retain_tree_init(struct retain_tree *t);
/* Frees the nodes; `gone` gets each message. */
void retain_tree_fini(struct retain_tree *t, void (*gone)(struct message *msg));
/*
 * Find a Topic Name or any other text. @return it is there. If not, the place is between the two
 * messages it would stand between: for retain_tree_insert, or retain_place_settle.
 */
bool retain_tree_seek(
    const struct retain_tree *t, struct grapnel_str key, struct retain_place *place);
/* Where a seek for its Topic Name found nothing. @return false: no memory, nothing changed. */
bool retain_tree_insert(struct retain_tree *t, struct retain_place *place, struct message *msg);
/* Where a seek found the Topic Name. @return what was there. */
struct message *retain_tree_replace(struct retain_place *place, struct message *msg);
struct message *retain_tree_remove(struct retain_tree *t, struct retain_place *place);

/* The message at or behind a place, to which it moves; NULL: the end. */
struct message *retain_place_settle(struct retain_place *place);
/* From a message to the next one; NULL: the end. */
struct message *retain_place_next(struct retain_place *place);

/* From a message to the first at or behind a key, which is behind that message. */
struct message *retain_place_seek(
    const struct retain_tree *t, struct grapnel_str key, struct retain_place *place);

/* The levels of a Topic Name, or those of a Topic Filter that are no wildcards. */
void retain_levels_of(
    const struct topic_key *key, struct grapnel_str text, struct retain_levels *out);
/*
 * From a message on to the first node of messages, this one included, in which all those levels may
 * occur. *nodes: how many may be passed over; it is reduced. @return the message there, which is
 * the same one if the place has not moved; NULL: the end.
 */
struct message *retain_place_skip(
    struct retain_place *place, const struct retain_levels *needed, unsigned *nodes);

#endif
