/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_tree - the memory of the topic index: nodes, children, what waits for its grace period
 *
 * Private to topic_index.c, topic_match.c and topic_tree.c.
 *
 * A million filters must fit, so everything is counted in bytes. Nodes lie in an
 * arena of 1 MiB chunks and are named by 32-bit numbers (in units of 8 bytes). A node
 * is [branch] header slots [text]: the branch, what a node with children needs, lies *before*
 * the header, so that slots and branch are at the same place in every node, and a
 * '#' filter, which can have no children, is only header and slots.
 *
 *   site/17/dev/12345/#, one worker: 48 bytes for "12345", 24 for its "#", and
 *   8 / load factor in the table of "dev".
 *
 * Children of a node: none, one (in the node itself), up to 7 (one cache line,
 * searched from end to end), or a hash table. All of that hangs on one 64-bit word,
 * replaced as a whole, which also says how large the table is: so a reader computes the
 * address of the slot without touching anything but the node. '+' and '#' have fields
 * of their own, since every match looks at them.
 *
 * Readers (in an RCU section) follow acquire loads. The writer, under ix->lock, adds in
 * place and replaces tables by copies; nodes and tables taken out wait for a grace period.
 */
#ifndef BROKER_CORE_TOPIC_TREE_H
#define BROKER_CORE_TOPIC_TREE_H

#include "base/rcu.h"
#include "topic_index.h"
#include "topic_level.h"

#include <pthread.h>
#include <stdatomic.h>

#define CHUNK_BYTES      ((size_t)1 << 20)
#define CHUNK_UNITS_LOG2 17 /* CHUNK_BYTES / 8 */
#define CHUNK_MAX        ((size_t)1 << (32 - CHUNK_UNITS_LOG2))
#define RUN_BYTES        ((size_t)4096) /* what a size class takes from a chunk at once */

/* Longer levels are kept outside: the node holds the first 8 bytes and a pointer. */
#define TEXT_INLINE_MAX 128
#define TEXT_WORDS_MAX  (TEXT_INLINE_MAX / 8)

enum { /* size classes: 0..TEXT_WORDS_MAX are nodes with that many words of text */
	CLASS_LEAF = TEXT_WORDS_MAX + 1, /* a '#' */
	CLASS_FEW,                       /* struct few */
	CLASS_COUNT
};

enum node_kind { NODE_ROOT, NODE_LITERAL, NODE_PLUS, NODE_HASH };

struct topic_node {
	_Atomic uint32_t generation; /* grows when the node leaves the tree */
	_Atomic uint32_t refs;       /* acquired and not released; written under ix->lock */
	uint32_t parent;             /* ix->lock; out of the tree: the next one of a list */
	uint16_t text_len;
	uint8_t kind;
	uint8_t size_class;
	_Atomic(void *) slots[]; /* one per worker; then the text, in whole words */
};

struct branch { /* directly before a node that is not NODE_HASH */
	_Atomic uint64_t children;
	_Atomic uint32_t plus, hash;
};

/* A child in a word: number << 32 | mark (bit 0 is 1). 0: free. */
#define FEW_MAX 7
struct few {
	struct few *next; /* of a list, out of the tree; readers never look */
	_Atomic uint64_t children[FEW_MAX];
};

#define CHILD_GONE     2u /* in a table, so that a search goes on behind it */
#define TABLE_LOG2_MIN 4
struct table {
	struct table *next, **link; /* all tables of the index, or the retired ones */
	uint32_t used, gone;
	unsigned log2;
	_Alignas(64) _Atomic uint64_t children[];
};

struct long_text {
	struct long_text *next, **link; /* all of the index */
	char text[];
};

struct run { /* of one size class */
	char *at;
	uint32_t id, left;
	uint32_t free; /* nodes: list through parent */
};

struct topic_index {
	unsigned workers;
	uint32_t text_offset; /* from the node */
	struct topic_key key;
	struct topic_node *root;
	uint32_t root_id;
	char *chunks[CHUNK_MAX]; /* constant once the first number in it is known to a reader */

	pthread_mutex_t lock; /* everything below; nothing is taken inside but rcu's own */
	size_t chunk_count, chunk_used;
	struct run runs[CLASS_COUNT];
	struct few *few_free;
	struct table *tables;
	struct long_text *long_texts;

	struct retired {
		uint32_t nodes;
		struct few *few;
		struct table *tables;
	} retired, waiting; /* waiting: for the grace period that has been asked for */
	bool is_waiting;
	struct rcu_item grace;

	_Atomic uint64_t node_count, byte_count;
};

static inline struct topic_node *
node_at(const struct topic_index *ix, uint32_t id)
{
	return (struct topic_node *)(void *)(ix->chunks[id >> CHUNK_UNITS_LOG2] +
	    (size_t)(id & (((uint32_t)1 << CHUNK_UNITS_LOG2) - 1)) * 8);
}

static inline struct branch *
node_branch(const struct topic_node *node)
{
	return (struct branch *)(uintptr_t)node - 1;
}

static inline char *
node_text(const struct topic_index *ix, const struct topic_node *node)
{
	return (char *)(uintptr_t)node + ix->text_offset;
}

/* Is this literal node of that level? */
static inline bool
node_is(
    const struct topic_index *ix, const struct topic_node *node, const struct topic_level *level)
{
	const char *text = node_text(ix, node);

	if (node->text_len != level->len || topic_load(text) != level->word)
		return false;
	if (level->len <= 8)
		return true;
	if (level->len > TEXT_INLINE_MAX)
		memcpy(&text, text + 8, sizeof(text));
	return memcmp(text + 8, level->text + 8, level->len - 8) == 0;
}

/*
 * The word branch->children: one child, or a pointer to struct few or to the children of a table,
 * and its size.
 */
static inline bool
word_is_child(uint64_t word)
{
	return word & 1;
}

static inline unsigned
word_log2(uint64_t word) /* 0: struct few */
{
	return (word >> 1) & 31;
}

static inline void *
word_pointer(uint64_t word)
{
	return (void *)(uintptr_t)(word & ~(uint64_t)63);
}

static inline uint32_t
child_mark(uint64_t child)
{
	return (uint32_t)child;
}

static inline uint32_t
child_id(uint64_t child)
{
	return (uint32_t)(child >> 32);
}

static inline size_t
table_home(uint32_t mark, unsigned log2)
{
	return mark >> (32 - log2);
}

/* The node is made and counted, but not linked yet. NULL: no memory. */
struct topic_node *tree_node_new(
    struct topic_index *ix, enum node_kind kind, const struct topic_level *level, uint32_t *id);
void tree_node_retire(struct topic_index *ix, struct topic_node *node, uint32_t id);
/* The child of that text, number in *id. */
struct topic_node *tree_child(
    const struct topic_index *ix, uint64_t children, const struct topic_level *level, uint32_t *id);
bool tree_child_add(struct topic_index *ix, struct branch *branch, uint32_t mark, uint32_t id);
/* Take the node out of its parent's children. @return its number. */
uint32_t tree_child_remove(
    struct topic_index *ix, struct branch *branch, const struct topic_node *node);
/* Ask for a grace period if something waits for one. */
void tree_reclaim(struct topic_index *ix);
int tree_init(struct topic_index *ix);
void tree_fini(struct topic_index *ix);

#endif
