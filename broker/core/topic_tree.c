/* SPDX-License-Identifier: Apache-2.0 */
#include "topic_tree.h"

#include <assert.h>
#include <stdlib.h>

/* ---- texts ---------------------------------------------------------------------------------- */

static unsigned
text_words(size_t len)
{
	return len > TEXT_INLINE_MAX ? 2 : (unsigned)(len + 7) / 8;
}

/* Into `words` words at `to`, zeros behind it. */
static bool
text_set(struct topic_index *ix, char *to, unsigned words, struct grapnel_str text)
{
	struct long_text *keep;
	char *outside;

	memset(to, 0, (size_t)words * 8);
	if (text.len <= TEXT_INLINE_MAX) {
		memcpy(to, text.data, text.len);
		return true;
	}
	if ((keep = malloc(sizeof(*keep) + text.len)) == NULL)
		return false;
	memcpy(keep->text, text.data, text.len);
	memcpy(to, text.data, 8);
	outside = keep->text;
	memcpy(to + 8, &outside, sizeof(outside));
	if ((keep->next = ix->long_texts) != NULL)
		keep->next->link = &keep->next;
	keep->link = &ix->long_texts;
	ix->long_texts = keep;
	ix->byte_count += sizeof(*keep) + text.len;
	return true;
}

static void
text_drop(struct topic_index *ix, const char *at, size_t len)
{
	struct long_text *keep;
	char *outside;

	if (len <= TEXT_INLINE_MAX)
		return;
	memcpy(&outside, at + 8, sizeof(outside));
	keep = (struct long_text *)(void *)(outside - offsetof(struct long_text, text));
	if ((*keep->link = keep->next) != NULL)
		keep->next->link = keep->link;
	ix->byte_count -= sizeof(*keep) + len;
	free(keep);
}

/* ---- leaves and branches -------------------------------------------------------------------- */

struct topic_node *
tree_leaf_new(struct topic_index *ix, enum leaf_kind kind, struct grapnel_str text, unsigned start)
{
	unsigned words = text_words(text.len);
	struct topic_node *leaf = arena_take(ix->arena, CLASS_LEAF + words);

	if (leaf == NULL)
		return NULL;
	if (!text_set(ix, leaf->text, words, text)) {
		arena_give(ix->arena, leaf);
		return NULL;
	}
	leaf->refs = 0;
	leaf->parent = 0;
	leaf->text_len = (uint16_t)text.len;
	leaf->kind = (uint8_t)kind;
	leaf->start = (uint8_t)start;
	atomic_store_explicit(&leaf->slot, 0, memory_order_relaxed);
	if (++ix->generation == 0)
		ix->generation = 1;
	atomic_store_explicit(&leaf->generation, ix->generation, memory_order_release);
	ix->node_count++;
	return leaf;
}

struct branch *
tree_branch_new(
    struct topic_index *ix, const struct branch *parent, const struct topic_level *level)
{
	bool is_plus = level != NULL && level->len == 1 && level->text[0] == '+';
	struct grapnel_str text = { "", 0 };
	struct branch *branch;
	unsigned words;

	if (level != NULL && !is_plus)
		text = (struct grapnel_str){ level->text, level->len };
	words = is_plus ? 0 : text.len == 0 ? 1 : text_words(text.len);
	if ((branch = arena_take(ix->arena, CLASS_BRANCH + words)) == NULL)
		return NULL;
	if (!text_set(ix, branch->text, words, text)) {
		arena_give(ix->arena, branch);
		return NULL;
	}
	atomic_store_explicit(&branch->children, 0, memory_order_relaxed);
	atomic_store_explicit(&branch->plus, 0, memory_order_relaxed);
	atomic_store_explicit(&branch->hash, 0, memory_order_relaxed);
	atomic_store_explicit(&branch->here, 0, memory_order_relaxed);
	branch->parent = parent != NULL ? arena_number(parent) : 0;
	branch->depth = parent != NULL ? (uint16_t)(parent->depth + 1) : 0;
	branch->text_len = (uint16_t)text.len;
	branch->is_plus = is_plus;
	ix->node_count++;
	return branch;
}

static void
leaf_free(struct topic_index *ix, struct topic_node *leaf)
{
	uint64_t word = atomic_load_explicit(&leaf->slot, memory_order_relaxed);

	if (word != 0)
		arena_give(ix->arena, slot_pointer(word));
	text_drop(ix, leaf->text, leaf->text_len);
	arena_give(ix->arena, leaf);
}

static void
branch_free(struct topic_index *ix, struct branch *branch)
{
	text_drop(ix, branch->text, branch->text_len);
	arena_give(ix->arena, branch);
}

void
tree_leaf_retire(struct topic_index *ix, struct topic_node *leaf)
{
	uint64_t word = atomic_load_explicit(&leaf->slot, memory_order_acquire);
	_Atomic(void *) *slots = slot_pointer(word);

	assert(slot_owner(word) == 0);
	for (unsigned i = 0; i < ix->workers && slots != NULL; i++)
		assert(atomic_load_explicit(&slots[i], memory_order_relaxed) == NULL);
	atomic_store_explicit(&leaf->generation, 0, memory_order_release);
	leaf->parent = ix->retired.leaves;
	ix->retired.leaves = arena_number(leaf);
	ix->node_count--;
}

void
tree_leaf_drop(struct topic_index *ix, struct topic_node *leaf)
{
	atomic_store_explicit(&leaf->generation, 0, memory_order_relaxed);
	ix->node_count--;
	leaf_free(ix, leaf);
}

_Atomic(void *) *
tree_slots_new(struct topic_index *ix)
{
	_Atomic(void *) *slots = arena_take(ix->arena, CLASS_SLOTS);

	for (unsigned i = 0; slots != NULL && i < ix->workers; i++)
		atomic_store_explicit(&slots[i], NULL, memory_order_relaxed);
	return slots;
}

void
tree_slots_drop(struct topic_index *ix, _Atomic(void *) *slots)
{
	arena_give(ix->arena, (void *)slots);
}

/* ---- children ------------------------------------------------------------------------------- */

static struct few *
few_new(struct topic_index *ix)
{
	struct few *few = arena_take(ix->arena, CLASS_FEW);

	if (few == NULL)
		return NULL;
	few->next = NULL;
	for (unsigned i = 0; i < FEW_MAX; i++)
		atomic_store_explicit(&few->children[i], 0, memory_order_relaxed);
	return few;
}

static struct table *
table_new(struct topic_index *ix, uint32_t children)
{
	unsigned log2 = TABLE_LOG2_MIN;
	struct table *table;
	size_t bytes;
	void *p;

	while (((uint64_t)1 << log2) * 5 < (uint64_t)children * 8) /* between 5/16 and 5/8 full */
		log2++;
	bytes = sizeof(*table) + (sizeof(uint64_t) << log2);
	if (posix_memalign(&p, 64, bytes) != 0)
		return NULL;
	memset(p, 0, bytes);
	table = p;
	table->log2 = log2;
	if ((table->next = ix->tables) != NULL)
		table->next->link = &table->next;
	table->link = &ix->tables;
	ix->tables = table;
	ix->byte_count += bytes;
	return table;
}

static void
table_free(struct topic_index *ix, struct table *table)
{
	ix->byte_count -= sizeof(*table) + (sizeof(uint64_t) << table->log2);
	free(table);
}

static uint64_t
word_of(const void *pointer, unsigned log2)
{
	assert(((uintptr_t)pointer & 63) == 0);
	return (uint64_t)(uintptr_t)pointer | (uint64_t)log2 << 1;
}

static struct table *
table_of(uint64_t word)
{
	char *children = word_pointer(word);

	return (struct table *)(void *)(children - offsetof(struct table, children));
}

static bool
child_is(const struct topic_index *ix, uint32_t id, const struct topic_level *level, unsigned depth)
{
	return id_is_leaf(id) ? leaf_level_is(leaf_at(ix, id), depth, level)
			      : branch_is(branch_at(ix, id), level);
}

uint32_t
tree_child(const struct topic_index *ix, uint64_t children, const struct topic_level *level,
    unsigned depth)
{
	const _Atomic uint64_t *at = word_pointer(children);
	size_t n = FEW_MAX, i = 0, mask = SIZE_MAX;
	uint64_t child = children;
	unsigned log2;

	if (children == 0)
		return 0;
	if (word_is_child(children)) {
		n = 1;
	} else if ((log2 = word_log2(children)) == 0) {
		at = ((const struct few *)(const void *)at)->children;
	} else {
		n = (size_t)1 << log2;
		mask = n - 1;
		i = table_home(level->mark, log2);
	}
	for (; n > 0; n--, i++) {
		if (!word_is_child(children)) {
			child = rcu_load(&at[i & mask]);
			if (child == 0 && mask != SIZE_MAX)
				return 0;
		}
		if (child_mark(child) == level->mark && child_is(ix, child_id(child), level, depth))
			return child_id(child);
	}
	return 0;
}

static bool
few_put(struct few *few, uint64_t child)
{
	for (unsigned i = 0; i < FEW_MAX; i++) {
		if (atomic_load_explicit(&few->children[i], memory_order_relaxed) == 0) {
			rcu_store(&few->children[i], child);
			return true;
		}
	}
	return false;
}

static void
table_put(struct table *table, uint64_t child)
{
	size_t mask = ((size_t)1 << table->log2) - 1;
	size_t i = table_home(child_mark(child), table->log2);
	uint64_t old;

	while (word_is_child(old = atomic_load_explicit(&table->children[i], memory_order_relaxed)))
		i = (i + 1) & mask;
	table->gone -= old == CHILD_GONE;
	table->used++;
	rcu_store(&table->children[i], child);
}

static void
word_retire(struct topic_index *ix, uint64_t word)
{
	if (word == 0 || word_is_child(word))
		return;
	if (word_log2(word) == 0) {
		struct few *few = word_pointer(word);

		few->next = ix->retired.few;
		ix->retired.few = few;
	} else {
		struct table *table = table_of(word);

		if ((*table->link = table->next) != NULL)
			table->next->link = table->link;
		table->next = ix->retired.tables;
		ix->retired.tables = table;
	}
}

void
tree_branch_retire(struct topic_index *ix, struct branch *branch)
{
	branch->parent = ix->retired.branches;
	ix->retired.branches = arena_number(branch);
	ix->node_count--;
}

void
tree_branch_drop(struct topic_index *ix, struct branch *branch)
{
	word_retire(ix, atomic_load_explicit(&branch->children, memory_order_relaxed));
	ix->node_count--;
	branch_free(ix, branch);
}

/* All children in a row. @return how many. */
static uint32_t
word_each(uint64_t word, uint32_t from, uint64_t *child)
{
	const _Atomic uint64_t *at;
	uint32_t n;

	if (word == 0 || word_is_child(word)) {
		*child = word;
		return word != 0 && from == 0 ? 1 : 0;
	}
	n = word_log2(word) == 0 ? FEW_MAX : (uint32_t)1 << word_log2(word);
	at = word_log2(word) == 0 ? ((struct few *)word_pointer(word))->children
				  : word_pointer(word);
	while (from < n) {
		*child = atomic_load_explicit(&at[from++], memory_order_relaxed);
		if (word_is_child(*child))
			return from;
	}
	return 0;
}

/* A new home for the children of `word`, with room for one more. 0: no memory. */
static uint64_t
word_copy(struct topic_index *ix, uint64_t word, uint32_t children)
{
	struct table *table;
	uint64_t child;

	if (children < FEW_MAX) {
		struct few *few = few_new(ix);

		if (few == NULL)
			return 0;
		for (uint32_t i = 0; (i = word_each(word, i, &child)) != 0;)
			few_put(few, child);
		return word_of(few, 0);
	}
	if ((table = table_new(ix, children + 1)) == NULL)
		return 0;
	for (uint32_t i = 0; (i = word_each(word, i, &child)) != 0;)
		table_put(table, child);
	return word_of(table->children, table->log2);
}

bool
tree_child_add(struct topic_index *ix, struct branch *branch, uint32_t mark, uint32_t id)
{
	uint64_t word = atomic_load_explicit(&branch->children, memory_order_relaxed), bigger;
	uint64_t child = (uint64_t)id << 32 | mark;

	if (word == 0) {
		rcu_store(&branch->children, child);
		return true;
	}
	if (word_is_child(word)) {
		bigger = word_copy(ix, word, 1);
	} else if (word_log2(word) == 0) {
		if (few_put(word_pointer(word), child))
			return true;
		bigger = word_copy(ix, word, FEW_MAX);
	} else {
		struct table *table = table_of(word);

		if ((table->used + table->gone + 1) * (uint64_t)4 <= ((uint64_t)3 << table->log2)) {
			table_put(table, child);
			return true;
		}
		bigger = word_copy(ix, word, table->used);
	}
	if (bigger == 0)
		return false;
	if (word_log2(bigger) == 0)
		few_put(word_pointer(bigger), child);
	else
		table_put(table_of(bigger), child);
	rcu_store(&branch->children, bigger);
	word_retire(ix, word);
	return true;
}

/* Free the place of a child without breaking a search that is under way. */
static void
table_clear(struct table *table, size_t i)
{
	size_t mask = ((size_t)1 << table->log2) - 1;

	table->used--;
	if (atomic_load_explicit(&table->children[(i + 1) & mask], memory_order_relaxed) != 0) {
		table->gone++;
		atomic_store_explicit(&table->children[i], CHILD_GONE, memory_order_relaxed);
		return;
	}
	/* Nothing lies behind: this place and the gone ones before it can be free again. */
	atomic_store_explicit(&table->children[i], 0, memory_order_relaxed);
	while (atomic_load_explicit(&table->children[i = (i - 1) & mask], memory_order_relaxed) ==
	    CHILD_GONE) {
		table->gone--;
		atomic_store_explicit(&table->children[i], 0, memory_order_relaxed);
	}
}

/* Fewer children than their home is made for: a smaller one. Without memory it stays. */
static void
children_shrink(struct topic_index *ix, struct branch *branch, uint64_t word)
{
	uint64_t smaller = 0, child;
	uint32_t count = 0;

	if (word_log2(word) == 0) {
		for (uint32_t i = 0; (i = word_each(word, i, &child)) != 0; count++)
			smaller = child;
		if (count > 1)
			return;
	} else {
		struct table *table = table_of(word);

		count = table->used;
		if (table->log2 == TABLE_LOG2_MIN ? count > FEW_MAX / 2
						  : count > (uint32_t)1 << (table->log2 - 3))
			return;
		if (count <= 1) {
			if (word_each(word, 0, &child) != 0)
				smaller = child;
		} else if ((smaller = word_copy(ix, word, count)) == 0) {
			return;
		}
	}
	rcu_store(&branch->children, smaller);
	word_retire(ix, word);
}

/* Where that child is. `few` and tables: a pointer into them; one child: the word itself. */
static _Atomic uint64_t *
child_place(struct branch *branch, uint64_t word, uint32_t mark, uint32_t id)
{
	uint64_t child = (uint64_t)id << 32 | mark;
	_Atomic uint64_t *at = word_pointer(word);
	size_t mask;

	if (word_is_child(word)) {
		assert(word == child);
		return &branch->children;
	}
	if (word_log2(word) == 0) {
		at = ((struct few *)(void *)at)->children;
		for (unsigned i = 0; i < FEW_MAX; i++)
			if (atomic_load_explicit(&at[i], memory_order_relaxed) == child)
				return &at[i];
		assert(false);
	}
	mask = ((size_t)1 << word_log2(word)) - 1;
	for (size_t i = table_home(mark, word_log2(word));; i = (i + 1) & mask) {
		uint64_t found = atomic_load_explicit(&at[i], memory_order_relaxed);

		assert(found != 0);
		if (found == child)
			return &at[i];
	}
}

void
tree_child_replace(struct branch *branch, uint32_t mark, uint32_t id, uint32_t with)
{
	uint64_t word = atomic_load_explicit(&branch->children, memory_order_relaxed);

	rcu_store(child_place(branch, word, mark, id), (uint64_t)with << 32 | mark);
}

void
tree_child_remove(struct topic_index *ix, struct branch *branch, uint32_t mark, uint32_t id)
{
	uint64_t word = atomic_load_explicit(&branch->children, memory_order_relaxed);
	_Atomic uint64_t *at = child_place(branch, word, mark, id);

	if (!word_is_child(word) && word_log2(word) != 0)
		table_clear(table_of(word), (size_t)(at - (_Atomic uint64_t *)word_pointer(word)));
	else
		atomic_store_explicit(at, 0, memory_order_relaxed);
	if (!word_is_child(word))
		children_shrink(ix, branch, word);
}

/* ---- what waits for a grace period ---------------------------------------------------------- */

static void
tables_free(struct topic_index *ix, struct table *table)
{
	struct table *next;

	for (; table != NULL; table = next) {
		next = table->next;
		table_free(ix, table);
	}
}

static void
retired_free_locked(struct topic_index *ix, struct retired *r)
{
	struct branch *branch;
	struct topic_node *leaf;
	struct few *few;

	for (uint32_t id = r->leaves; id != 0;) {
		leaf = leaf_at(ix, id);
		id = leaf->parent;
		leaf_free(ix, leaf);
	}
	for (uint32_t id = r->branches; id != 0;) {
		branch = branch_at(ix, id);
		id = branch->parent;
		branch_free(ix, branch);
	}
	while ((few = r->few) != NULL) {
		r->few = few->next;
		arena_give(ix->arena, few);
	}
	tables_free(ix, r->tables);
	*r = (struct retired){ 0 };
}

static void
grace_over(struct rcu_item *item)
{
	struct topic_index *ix =
	    (struct topic_index *)(void *)((char *)item - offsetof(struct topic_index, grace));

	pthread_mutex_lock(&ix->lock);
	retired_free_locked(ix, &ix->waiting);
	ix->is_waiting = false;
	tree_reclaim(ix);
	pthread_mutex_unlock(&ix->lock);
}

void
tree_reclaim(struct topic_index *ix)
{
	if (ix->is_waiting ||
	    (ix->retired.leaves == 0 && ix->retired.branches == 0 && ix->retired.few == NULL &&
		ix->retired.tables == NULL))
		return;
	ix->waiting = ix->retired;
	ix->retired = (struct retired){ 0 };
	ix->is_waiting = true;
	rcu_defer(&ix->grace, grace_over);
}

int
tree_init(struct topic_index *ix)
{
	uint32_t sizes[CLASS_COUNT];

	for (uint32_t words = 0; words <= TEXT_WORDS_MAX; words++) {
		sizes[CLASS_LEAF + words] = (uint32_t)sizeof(struct topic_node) + words * 8;
		sizes[CLASS_BRANCH + words] = (uint32_t)offsetof(struct branch, text) + words * 8;
	}
	sizes[CLASS_FEW] = sizeof(struct few);
	sizes[CLASS_SLOTS] = ix->workers * (uint32_t)sizeof(void *);
	sizes[CLASS_SLOTS] = sizes[CLASS_SLOTS] < 16 ? 16 : (sizes[CLASS_SLOTS] + 7) & ~7u;
	topic_key_init(&ix->key);
	if ((ix->arena = arena_new(sizes, CLASS_COUNT)) == NULL ||
	    (ix->root = tree_branch_new(ix, NULL, NULL)) == NULL)
		return GRAPNEL_ENOMEM;
	ix->node_count = 0;
	return GRAPNEL_OK;
}

static bool
is_waiting(struct topic_index *ix)
{
	bool yes;

	pthread_mutex_lock(&ix->lock);
	yes = ix->is_waiting;
	pthread_mutex_unlock(&ix->lock);
	return yes;
}

void
tree_fini(struct topic_index *ix)
{
	struct long_text *keep;

	while (is_waiting(ix)) /* what was retired meanwhile waits for another grace period */
		rcu_wait();
	tables_free(ix, ix->tables);
	while ((keep = ix->long_texts) != NULL) {
		ix->long_texts = keep->next;
		free(keep);
	}
	arena_free(ix->arena);
}
