/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_tree - the memory of the topic index: filters, branches, children, what waits for its grace period
 *
 * Private to topic_index.c, topic_match.c, topic_tree.c and topic_filter.c.
 *
 * A million filters must fit, so everything is counted in bytes. Each filter is one struct
 * topic_node, a leaf, which holds the text that it shares with no other: a level becomes a
 * branch only when a second filter needs it. Then the leaf moves below that branch but stays
 * what and where it is in memory, text included: it knows at which level its text starts, so that
 * a reader who came by the old way and one who came by the new way both compare the right part.
 *
 *   site/17/dev/12345/# among others of site/17: "12345" with a kind that says "/#", 32 bytes,
 *   and 8 / load factor in the table of "dev".
 *
 * Both lie in an arena and are named by 32-bit numbers; bit 31 tells a leaf from a branch before it is
 * touched. Children of a branch: none, one (in the branch itself), up to 7 (one cache line,
 * searched from end to end), or a hash table. All of that hangs on one 64-bit word,
 * replaced as a whole, which also says how large the table is: so a reader computes the
 * address of the slot without touching anything but the branch. '+', '#' and the filter that ends
 * at the branch have fields of their own, since every match looks at them.
 *
 * A leaf's slot: 0, or one worker's pointer with 1 + its index above bit 48, or a pointer to an array
 * of one per worker, from when a second worker needs it until the filter goes.
 *
 * Readers (in an RCU section) follow acquire loads. The writer, under ix->lock, adds in
 * place and replaces tables by copies; what is taken out waits for a grace period.
 */
#ifndef BROKER_CORE_TOPIC_TREE_H
#define BROKER_CORE_TOPIC_TREE_H

#include "base/rcu.h"
#include "base/arena.h"
#include "topic_index.h"
#include "topic_level.h"

#include <pthread.h>
#include <stdatomic.h>

/* Longer texts are kept outside: the first 8 bytes and a pointer remain. */
#define TEXT_INLINE_MAX 128
#define TEXT_WORDS_MAX  (TEXT_INLINE_MAX / 8)

enum { /* arena classes: by words of text */
	CLASS_LEAF,
	CLASS_BRANCH = CLASS_LEAF + TEXT_WORDS_MAX + 1,
	CLASS_FEW = CLASS_BRANCH + TEXT_WORDS_MAX + 1,
	CLASS_SLOTS,
	CLASS_COUNT
};
_Static_assert(CLASS_COUNT <= ARENA_CLASSES, "the arena has enough classes");

enum leaf_kind {
	LEAF_EXACT,   /* text: the last levels, no wildcard in them */
	LEAF_PREFIX,  /* the same, and "/#" behind it */
	LEAF_PATTERN, /* with wildcards elsewhere */
	LEAF_HASH,    /* no text: a '#' below its branch */
	LEAF_HERE,    /* no text: the filter ends at its branch */
};
#define LEAF_START_MAX UINT8_MAX /* from there on each level is a branch */

struct topic_node {
	_Atomic uint32_t generation; /* unique for each life, 0: free. First: an arena leaves it alone */
	uint32_t refs;		     /* acquired and not released; ix->lock */
	uint32_t parent;	     /* the branch it hangs on; ix->lock; out of the tree: the next one of a list */
	uint16_t text_len;
	uint8_t kind;
	uint8_t start; /* level that the text begins with; 0: the first */
	_Atomic uint64_t slot;
	char text[]; /* in whole words */
};

struct branch {
	_Atomic uint64_t children;
	_Atomic uint32_t plus, hash, here;
	uint32_t parent; /* as above */
	uint16_t text_len;
	uint16_t depth; /* levels above its children */
	uint8_t is_plus;
	_Alignas(8) char text[]; /* at least one word, but for '+' */
};

/* A child in a word: number << 32 | mark (bit 0 is 1). 0: free. */
#define NUMBER_LEAF ((uint32_t)1 << 31)
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

struct topic_index {
	unsigned workers;
	struct topic_key key;
	struct branch *root;
	struct arena *arena;

	pthread_mutex_t lock; /* everything below; nothing is taken inside but rcu's own */
	uint32_t generation;  /* the last one given */
	struct table *tables;
	struct long_text *long_texts;

	struct retired {
		uint32_t leaves, branches;
		struct few *few;
		struct table *tables;
	} retired, waiting; /* waiting: for the grace period that has been asked for */
	bool is_waiting;
	struct rcu_item grace;

	uint64_t node_count, byte_count; /* without the arena */
};

static inline struct topic_node *
leaf_at(const struct topic_index *ix, uint32_t id)
{
	return arena_at(ix->arena, id & ~NUMBER_LEAF);
}

static inline struct branch *
branch_at(const struct topic_index *ix, uint32_t id)
{
	return arena_at(ix->arena, id);
}

static inline bool
id_is_leaf(uint32_t id)
{
	return id & NUMBER_LEAF;
}

/* The whole text, wherever it is. */
static inline const char *
text_all(const char *text, size_t len)
{
	if (len > TEXT_INLINE_MAX)
		memcpy(&text, text + 8, sizeof(text));
	return text;
}

static inline bool
branch_is(const struct branch *branch, const struct topic_level *level)
{
	return branch->text_len == level->len && topic_load(branch->text) == level->word &&
	    (level->len <= 8 ||
		memcmp(text_all(branch->text, level->len) + 8, level->text + 8,
		    level->len - 8) == 0);
}

static inline struct grapnel_str
leaf_text(const struct topic_node *leaf)
{
	return (struct grapnel_str){ text_all(leaf->text, leaf->text_len), leaf->text_len };
}

/* That text from a level on, which it has. */
static inline struct grapnel_str
leaf_text_from(const struct topic_node *leaf, unsigned depth)
{
	struct grapnel_str text = leaf_text(leaf);

	for (unsigned skip = depth - leaf->start; skip > 0; skip--) {
		const char *next = (const char *)memchr(text.data, '/', text.len) + 1;

		text.len -= (size_t)(next - text.data);
		text.data = next;
	}
	return text;
}

/* Is that level of the leaf this one? (It has such a level, and it is not '+' or a last '#'.) */
static inline bool
leaf_level_is(const struct topic_node *leaf, unsigned depth, const struct topic_level *level)
{
	struct grapnel_str text = leaf_text_from(leaf, depth);

	return text.len >= level->len && memcmp(text.data, level->text, level->len) == 0 &&
	    (text.len == level->len || text.data[level->len] == '/');
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

/* The word leaf->slot. */
#define SLOT_OWNER_SHIFT 48

static inline uint32_t
slot_owner(uint64_t word) /* 1 + worker; 0: nobody, or an array */
{
	return (uint32_t)(word >> SLOT_OWNER_SHIFT);
}

static inline void *
slot_pointer(uint64_t word)
{
	return (void *)(uintptr_t)(word & (((uint64_t)1 << SLOT_OWNER_SHIFT) - 1));
}

/* All under ix->lock. Made and counted, but not linked yet. NULL: no memory. */
struct topic_node *tree_leaf_new(
    struct topic_index *ix, enum leaf_kind kind, struct grapnel_str text, unsigned start);
struct branch *tree_branch_new(
    struct topic_index *ix, const struct branch *parent, const struct topic_level *level);
/* Nobody has seen it. Children, if it has any, are forgotten. */
void tree_leaf_drop(struct topic_index *ix, struct topic_node *leaf);
void tree_branch_drop(struct topic_index *ix, struct branch *branch);
/* It is out of the tree. */
void tree_leaf_retire(struct topic_index *ix, struct topic_node *leaf);
void tree_branch_retire(struct topic_index *ix, struct branch *branch);
/* One pointer for each worker, all NULL; it goes with the leaf. NULL: no memory. */
_Atomic(void *) *tree_slots_new(struct topic_index *ix);
void tree_slots_drop(struct topic_index *ix, _Atomic(void *) *slots);

/* The child of that text, leaf or branch, among those below `depth` levels; 0: none. Readers too. */
uint32_t tree_child(const struct topic_index *ix, uint64_t children, const struct topic_level *level,
    unsigned depth);
bool tree_child_add(struct topic_index *ix, struct branch *branch, uint32_t mark, uint32_t id);
void tree_child_replace(struct branch *branch, uint32_t mark, uint32_t id, uint32_t with);
void tree_child_remove(struct topic_index *ix, struct branch *branch, uint32_t mark, uint32_t id);
/* Ask for a grace period if something waits for one. */
void tree_reclaim(struct topic_index *ix);
int tree_init(struct topic_index *ix);
void tree_fini(struct topic_index *ix);

#endif
