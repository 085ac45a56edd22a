/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's side: see topic_tree.h for how it is kept, topic_match.c for the readers. */
#include "topic_index.h"

#include "topic_tree.h"

#include <assert.h>
#include <stdlib.h>

#define WORKERS_LIMIT 128 /* an array of slots must be a small object */

int
topic_index_new(struct topic_index **out, unsigned workers)
{
	struct topic_index *ix;
	int err;

	if (workers == 0 || workers > WORKERS_LIMIT)
		return GRAPNEL_EINVAL;
	if ((ix = calloc(1, sizeof(*ix))) == NULL)
		return GRAPNEL_ENOMEM;
	pthread_mutex_init(&ix->lock, NULL);
	ix->workers = workers;
	if ((err = tree_init(ix)) != GRAPNEL_OK) {
		topic_index_free(ix);
		return err;
	}
	*out = ix;
	return GRAPNEL_OK;
}

void
topic_index_free(struct topic_index *ix)
{
	if (ix == NULL)
		return;
	tree_fini(ix);
	pthread_mutex_destroy(&ix->lock);
	free(ix);
}

static uint32_t
number_of(const struct topic_node *leaf)
{
	return arena_number(leaf) | NUMBER_LEAF;
}

static bool
is_plus(const struct topic_level *level)
{
	return level->len == 1 && level->text[0] == '+';
}

static bool
is_last_hash(const struct topic_levels *it, const struct topic_level *level)
{
	return level->len == 1 && level->text[0] == '#' && it->rest == NULL;
}

/* ---- where a leaf hangs ------------------------------------------------------------------------ */

/* The place of a leaf below a branch: one of the branch's fields, or (field NULL) its children by that mark. */
struct place {
	_Atomic uint32_t *field;
	uint32_t mark;
};

static struct place
place_of(const struct topic_index *ix, struct branch *branch, const struct topic_node *leaf)
{
	struct topic_level level;
	struct topic_levels it;

	if (leaf->kind == LEAF_HERE || leaf->kind == LEAF_HASH)
		return (struct place){ leaf->kind == LEAF_HERE ? &branch->here : &branch->hash, 0 };
	it = topic_levels_of(leaf_text(leaf));
	for (unsigned skip = branch->depth - leaf->start; skip > 0; skip--)
		topic_level_next(&ix->key, &it, &level);
	if (!topic_level_next(&ix->key, &it, &level))
		return (
		    struct place){ leaf->kind == LEAF_PREFIX ? &branch->hash : &branch->here, 0 };
	if (is_plus(&level))
		return (struct place){ &branch->plus, 0 };
	if (is_last_hash(&it, &level))
		return (struct place){ &branch->hash, 0 };
	return (struct place){ NULL, level.mark };
}

static bool
place_put(struct topic_index *ix, struct branch *branch, struct place place, uint32_t id)
{
	if (place.field == NULL)
		return tree_child_add(ix, branch, place.mark, id);
	rcu_store(place.field, id);
	return true;
}

/* Take branches out of the tree below which there is nothing, from this one upwards. */
static void
prune(struct topic_index *ix, struct branch *branch)
{
	while (branch != ix->root &&
	    atomic_load_explicit(&branch->children, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&branch->plus, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&branch->hash, memory_order_relaxed) == 0 &&
	    atomic_load_explicit(&branch->here, memory_order_relaxed) == 0) {
		struct branch *parent = branch_at(ix, branch->parent);

		if (branch->is_plus) {
			rcu_store(&parent->plus, 0);
		} else {
			struct topic_level level = { 0 };
			struct topic_levels it = topic_levels_of((struct grapnel_str){
			    text_all(branch->text, branch->text_len), branch->text_len });

			topic_level_next(&ix->key, &it, &level);
			tree_child_remove(ix, parent, level.mark, arena_number(branch));
		}
		tree_branch_retire(ix, branch);
		branch = parent;
	}
}

/* ---- acquire --------------------------------------------------------------------------------- */

/*
 * A filter on its way in. What it shares with a leaf becomes branches; they are built aside, with
 * the leaf below them, and take its place when all else has succeeded.
 */
struct walk {
	struct branch *at;
	struct topic_levels it;
	struct topic_level level;
	struct topic_node *moved; /* NULL: no branches are built aside */
	struct branch *top;       /* of them */
	struct branch *above;     /* where top goes, and moved is */
	struct branch *below;     /* where moved goes */
	uint32_t mark;            /* there; 0: above->plus */
};

/* @return the leaf's text from a level on is what the filter still has. */
static bool
same_tail(const struct topic_node *leaf, unsigned depth, const struct topic_levels *it,
    const struct topic_level *level)
{
	struct grapnel_str text = leaf_text_from(leaf, depth);
	size_t len = (size_t)(it->end - level->text);

	if (leaf->kind != LEAF_PREFIX)
		return len == text.len && memcmp(level->text, text.data, len) == 0;
	return len == text.len + 2 && memcmp(level->text, text.data, text.len) == 0 &&
	    memcmp(level->text + text.len, "/#", 2) == 0;
}

static bool
same_level(const struct topic_level *a, const struct topic_level *b)
{
	return a->mark == b->mark && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* The leaf shares the level k->level, and maybe more, with the filter, but not all. */
static bool
split(struct topic_index *ix, struct walk *k, struct topic_node *leaf)
{
	struct topic_levels it = topic_levels_of(leaf_text_from(leaf, k->at->depth)), before;
	struct topic_level level;

	k->above = k->at;
	k->mark = is_plus(&k->level) ? 0 : k->level.mark;
	topic_level_next(&ix->key, &it, &level);
	do {
		struct branch *branch = tree_branch_new(ix, k->at, &k->level);

		if (branch == NULL)
			return false;
		if (k->top == NULL) {
			k->top = branch;
			k->moved = leaf;
		} else {
			uint32_t id = arena_number(branch);

			/* The only child: a word, which takes no memory. */
			if (is_plus(&k->level))
				rcu_store(&k->at->plus, id);
			else
				tree_child_add(ix, k->at, k->level.mark, id);
		}
		k->at = branch;
		before = k->it;
	} while (topic_level_next(&ix->key, &it, &level) &&
	    topic_level_next(&ix->key, &k->it, &k->level) && same_level(&level, &k->level) &&
	    !is_last_hash(&it, &level) && !is_last_hash(&k->it, &k->level));
	k->it = before;
	k->below = k->at;
	return place_put(ix, k->at, place_of(ix, k->at, leaf), number_of(leaf));
}

/* Put what was built aside in its place. */
static void
publish(const struct walk *k)
{
	uint32_t id = arena_number(k->top);

	if (k->mark == 0)
		rcu_store(&k->above->plus, id);
	else
		tree_child_replace(k->above, k->mark, number_of(k->moved), id);
	k->moved->parent = arena_number(k->below);
}

static void
give_up(struct topic_index *ix, struct walk *k)
{
	struct branch *branch = k->at, *parent;

	if (k->top == NULL) {
		prune(ix, branch);
		return;
	}
	for (; branch != k->above; branch = parent) {
		parent = branch_at(ix, branch->parent);
		tree_branch_drop(ix, branch);
	}
}

/* What the filter has from k->level on, as a leaf below k->at. */
static struct topic_node *
leaf_of_tail(struct topic_index *ix, const struct walk *k)
{
	const char *text = k->level.text;
	size_t len = (size_t)(k->it.end - text);
	enum leaf_kind kind = LEAF_EXACT;

	if (len >= 2 && memcmp(text + len - 2, "/#", 2) == 0 && memchr(text, '+', len) == NULL) {
		kind = LEAF_PREFIX;
		len -= 2;
	} else if (len > 0 && (memchr(text, '+', len) != NULL || text[len - 1] == '#')) {
		kind = LEAF_PATTERN;
	}
	return tree_leaf_new(ix, kind, (struct grapnel_str){ text, len }, k->at->depth);
}

/*
 * Down to where the filter is, or belongs. @return the leaf; NULL: there is none, and k says where:
 * the filter ends at k->at (*left: LEAF_HERE), or with '#' below it (LEAF_HASH), or nothing is there for
 * k->level (LEAF_EXACT). With make false a leaf that would have to be split is an end, too.
 */
static struct topic_node *
walk_down(struct topic_index *ix, struct walk *k, bool make, enum leaf_kind *left, bool *failed)
{
	for (;;) {
		struct topic_node *leaf;
		uint32_t id;

		if (!topic_level_next(&ix->key, &k->it, &k->level)) {
			*left = LEAF_HERE;
			id = atomic_load_explicit(&k->at->here, memory_order_relaxed);
			return id != 0 ? leaf_at(ix, id) : NULL;
		}
		if (is_last_hash(&k->it, &k->level)) {
			*left = LEAF_HASH;
			id = atomic_load_explicit(&k->at->hash, memory_order_relaxed);
			return id != 0 ? leaf_at(ix, id) : NULL;
		}
		id = is_plus(&k->level)
		    ? atomic_load_explicit(&k->at->plus, memory_order_relaxed)
		    : tree_child(ix, atomic_load_explicit(&k->at->children, memory_order_relaxed),
			  &k->level, k->at->depth);
		if (id != 0 && !id_is_leaf(id)) {
			k->at = branch_at(ix, id);
			continue;
		}
		*left = LEAF_EXACT;
		if (id == 0) {
			struct branch *branch;

			if (!make || k->at->depth <= LEAF_START_MAX)
				return NULL;
			/* A leaf could not say where it starts. */
			if ((branch = tree_branch_new(ix, k->at, &k->level)) == NULL) {
				*failed = true;
				return NULL;
			}
			if (is_plus(&k->level)) {
				rcu_store(&k->at->plus, arena_number(branch));
			} else if (!tree_child_add(
				       ix, k->at, k->level.mark, arena_number(branch))) {
				tree_branch_drop(ix, branch);
				*failed = true;
				return NULL;
			}
			k->at = branch;
			continue;
		}
		leaf = leaf_at(ix, id);
		if (same_tail(leaf, k->at->depth, &k->it, &k->level))
			return leaf;
		if (!make)
			return NULL;
		if (!split(ix, k, leaf)) {
			*failed = true;
			return NULL;
		}
	}
}

/* @return false: no memory. */
static bool
add_leaf(struct topic_index *ix, struct walk *k, enum leaf_kind left, struct topic_node **out)
{
	static const struct grapnel_str none = { "", 0 };
	struct topic_node *leaf =
	    left == LEAF_EXACT ? leaf_of_tail(ix, k) : tree_leaf_new(ix, left, none, 0);

	if (leaf == NULL)
		return false;
	leaf->parent = arena_number(k->at);
	if (!place_put(ix, k->at,
		left == LEAF_HERE        ? (struct place){ &k->at->here, 0 }
		    : left == LEAF_HASH  ? (struct place){ &k->at->hash, 0 }
		    : is_plus(&k->level) ? (struct place){ &k->at->plus, 0 }
					 : (struct place){ NULL, k->level.mark },
		number_of(leaf))) {
		tree_leaf_drop(ix, leaf);
		return false;
	}
	if (k->moved != NULL)
		publish(k);
	*out = leaf;
	return true;
}

int
topic_index_acquire(struct topic_index *ix, struct grapnel_str filter, struct topic_node **out)
{
	struct walk k = { .at = ix->root, .it = topic_levels_of(filter) };
	enum leaf_kind left = LEAF_EXACT;
	struct topic_node *leaf;
	int err = GRAPNEL_OK;
	bool failed = false;

	pthread_mutex_lock(&ix->lock);
	leaf = walk_down(ix, &k, true, &left, &failed);
	if (failed || (leaf == NULL && !add_leaf(ix, &k, left, &leaf))) {
		give_up(ix, &k);
		err = GRAPNEL_ENOMEM;
	} else {
		leaf->refs++;
		*out = leaf;
	}
	tree_reclaim(ix); /* tables that grew */
	pthread_mutex_unlock(&ix->lock);
	return err;
}

struct topic_node *
topic_index_find(struct topic_index *ix, struct grapnel_str filter)
{
	struct walk k = { .at = ix->root, .it = topic_levels_of(filter) };
	enum leaf_kind left;
	struct topic_node *leaf;
	bool failed = false;

	pthread_mutex_lock(&ix->lock);
	leaf = walk_down(ix, &k, false, &left, &failed);
	pthread_mutex_unlock(&ix->lock);
	return leaf;
}

void
topic_index_release(struct topic_index *ix, struct topic_node *leaf)
{
	pthread_mutex_lock(&ix->lock);
	assert(leaf->refs > 0);
	if (--leaf->refs == 0) {
		struct branch *branch = branch_at(ix, leaf->parent);
		struct place place = place_of(ix, branch, leaf);

		if (place.field != NULL)
			rcu_store(place.field, 0);
		else
			tree_child_remove(ix, branch, place.mark, number_of(leaf));
		tree_leaf_retire(ix, leaf);
		prune(ix, branch);
		tree_reclaim(ix);
	}
	pthread_mutex_unlock(&ix->lock);
}

/* ---- slots ----------------------------------------------------------------------------------- */

/* The word of one worker's pointer. Pointers have 48 bits unless a process asks the kernel for more. */
static uint64_t
slot_of(unsigned worker, void *p)
{
	if (p == NULL)
		return 0;
	assert((uint64_t)(uintptr_t)p >> SLOT_OWNER_SHIFT == 0);
	return (uint64_t)(uintptr_t)p | (uint64_t)(worker + 1) << SLOT_OWNER_SHIFT;
}

void *
topic_node_slot(const struct topic_node *node, unsigned worker)
{
	uint64_t word = atomic_load_explicit(&node->slot, memory_order_acquire);
	_Atomic(void *) *slots = slot_pointer(word);

	if (slot_owner(word) != 0)
		return slot_owner(word) == worker + 1 ? slot_pointer(word) : NULL;
	return slots != NULL ? atomic_load_explicit(&slots[worker], memory_order_acquire) : NULL;
}

/* A second worker needs it: from one pointer to an array. @return false: no memory. */
static bool
spread(struct topic_index *ix, struct topic_node *node)
{
	_Atomic(void *) *slots;
	uint64_t word;

	pthread_mutex_lock(&ix->lock);
	if ((slots = tree_slots_new(ix)) != NULL) {
		word = atomic_load_explicit(&node->slot, memory_order_acquire);
		do {
			if (word != 0 && slot_owner(word) == 0) { /* somebody else was faster */
				tree_slots_drop(ix, slots);
				break;
			}
			for (unsigned i = 0; i < ix->workers; i++)
				atomic_store_explicit(&slots[i],
				    slot_owner(word) == i + 1 ? slot_pointer(word) : NULL,
				    memory_order_relaxed);
		} while (!atomic_compare_exchange_weak_explicit(&node->slot, &word,
		    (uint64_t)(uintptr_t)slots, memory_order_acq_rel, memory_order_acquire));
	}
	pthread_mutex_unlock(&ix->lock);
	return slots != NULL;
}

int
topic_node_set_slot(struct topic_index *ix, struct topic_node *node, unsigned worker, void *p)
{
	uint64_t word = atomic_load_explicit(&node->slot, memory_order_acquire);

	for (;;) {
		if (word != 0 && slot_owner(word) == 0) {
			_Atomic(void *) *slots = slot_pointer(word);

			atomic_store_explicit(&slots[worker], p, memory_order_release);
			return GRAPNEL_OK;
		}
		if (word != 0 && slot_owner(word) != worker + 1) {
			if (p == NULL)
				return GRAPNEL_OK;
			if (!spread(ix, node))
				return GRAPNEL_ENOMEM;
			word = atomic_load_explicit(&node->slot, memory_order_acquire);
		} else if (atomic_compare_exchange_weak_explicit(&node->slot, &word,
			       slot_of(worker, p), memory_order_acq_rel, memory_order_acquire)) {
			return GRAPNEL_OK;
		}
	}
}

bool
topic_node_has(const struct topic_node *node, unsigned worker)
{
	return topic_node_slot(node, worker) != NULL;
}

uintptr_t
topic_node_tags(const struct topic_node *node, unsigned worker, uintptr_t bits)
{
	return (uintptr_t)topic_node_slot(node, worker) & bits;
}

uint32_t
topic_node_generation(const struct topic_node *node)
{
	return atomic_load_explicit(&node->generation, memory_order_acquire);
}

/* The read section keeps an array of slots from going to another filter while we look at it. */
void *
topic_node_slot_checked(const struct topic_node *node, uint32_t generation, unsigned worker)
{
	void *p = NULL;

	rcu_read_begin();
	if (topic_node_generation(node) == generation)
		p = topic_node_slot(node, worker);
	rcu_read_end();
	return p;
}

void
topic_index_stats(struct topic_index *ix, struct topic_index_stats *out)
{
	pthread_mutex_lock(&ix->lock);
	out->nodes = ix->node_count;
	out->bytes = ix->byte_count + arena_bytes(ix->arena);
	pthread_mutex_unlock(&ix->lock);
}
