/* SPDX-License-Identifier: Apache-2.0 */
#include "topic_tree.h"

#include <assert.h>
#include <stdlib.h>

static void
count_bytes(struct topic_index *ix, int64_t bytes)
{
	atomic_fetch_add_explicit(&ix->byte_count, (uint64_t)bytes, memory_order_relaxed);
}

/* ---- arena ---------------------------------------------------------------------------------- */

static size_t
class_bytes(const struct topic_index *ix, unsigned cls)
{
	size_t node = sizeof(struct topic_node) + ix->workers * sizeof(_Atomic(void *));

	node = (node + 7) & ~(size_t)7; /* where pointers have four bytes */
	if (cls == CLASS_FEW)
		return sizeof(struct few);
	return cls == CLASS_LEAF ? node : sizeof(struct branch) + node + cls * 8;
}

/*
 * A few objects of one class from the newest chunk: classes share chunks, so that a small index
 * stays small.
 */
static bool
run_refill(struct topic_index *ix, struct run *run, size_t bytes)
{
	size_t run_bytes = bytes < RUN_BYTES ? RUN_BYTES : (bytes + 63) & ~(size_t)63;
	void *chunk;

	if (ix->chunk_count == 0 || ix->chunk_used + run_bytes > CHUNK_BYTES) {
		if (ix->chunk_count == CHUNK_MAX || posix_memalign(&chunk, 64, CHUNK_BYTES) != 0)
			return false;
		ix->chunks[ix->chunk_count++] = chunk;
		ix->chunk_used = ix->chunk_count == 1 ? 64 : 0; /* number 0 means none */
	}
	run->at = ix->chunks[ix->chunk_count - 1] + ix->chunk_used;
	run->id =
	    (uint32_t)((ix->chunk_count - 1) << CHUNK_UNITS_LOG2) + (uint32_t)(ix->chunk_used / 8);
	run->left = (uint32_t)(run_bytes / bytes);
	ix->chunk_used += run_bytes;
	count_bytes(ix, (int64_t)run_bytes);
	return true;
}

static char *
arena_take(struct topic_index *ix, unsigned cls, uint32_t *id)
{
	size_t bytes = class_bytes(ix, cls);
	struct run *run = &ix->runs[cls];
	char *p;

	if (run->left == 0 && !run_refill(ix, run, bytes))
		return NULL;
	p = run->at;
	*id = run->id;
	run->at += bytes;
	run->id += (uint32_t)(bytes / 8);
	run->left--;
	return p;
}

static struct few *
few_new(struct topic_index *ix)
{
	struct few *few = ix->few_free;
	uint32_t id;

	if (few != NULL)
		ix->few_free = few->next;
	else if ((few = (struct few *)(void *)arena_take(ix, CLASS_FEW, &id)) == NULL)
		return NULL;
	few->next = NULL;
	for (unsigned i = 0; i < FEW_MAX; i++)
		atomic_init(&few->children[i], 0);
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
	count_bytes(ix, (int64_t)bytes);
	return table;
}

static void
table_free(struct topic_index *ix, struct table *table)
{
	count_bytes(ix, -(int64_t)(sizeof(*table) + (sizeof(uint64_t) << table->log2)));
	free(table);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static bool
node_set_text(struct topic_index *ix, struct topic_node *node, const struct topic_level *level)
{
	char *text = node_text(ix, node), *outside;
	struct long_text *keep;

	memset(text, 0, (size_t)node->size_class * 8);
	if (level->len <= TEXT_INLINE_MAX) {
		memcpy(text, level->text, level->len);
		return true;
	}
	if ((keep = malloc(sizeof(*keep) + level->len)) == NULL)
		return false;
	memcpy(keep->text, level->text, level->len);
	memcpy(text, level->text, 8);
	outside = keep->text;
	memcpy(text + 8, &outside, sizeof(outside));
	if ((keep->next = ix->long_texts) != NULL)
		keep->next->link = &keep->next;
	keep->link = &ix->long_texts;
	ix->long_texts = keep;
	count_bytes(ix, (int64_t)(sizeof(*keep) + level->len));
	return true;
}

/* Once no reader can compare with it any more. */
static void
node_drop_text(struct topic_index *ix, struct topic_node *node)
{
	struct long_text *keep;
	char *outside;

	if (node->kind != NODE_LITERAL || node->text_len <= TEXT_INLINE_MAX)
		return;
	memcpy(&outside, node_text(ix, node) + 8, sizeof(outside));
	keep = (struct long_text *)(void *)(outside - offsetof(struct long_text, text));
	if ((*keep->link = keep->next) != NULL)
		keep->next->link = keep->link;
	count_bytes(ix, -(int64_t)(sizeof(*keep) + node->text_len));
	free(keep);
}

static unsigned
node_class(enum node_kind kind, const struct topic_level *level)
{
	switch (kind) {
	case NODE_HASH:
		return CLASS_LEAF;
	case NODE_ROOT:
	case NODE_PLUS:
		return 0;
	case NODE_LITERAL:
		break;
	}
	if (level->len > TEXT_INLINE_MAX)
		return 2;
	return level->len <= 8 ? 1 : (level->len + 7) / 8;
}

struct topic_node *
tree_node_new(
    struct topic_index *ix, enum node_kind kind, const struct topic_level *level, uint32_t *id)
{
	unsigned cls = node_class(kind, level);
	struct run *run = &ix->runs[cls];
	bool fresh = run->free == 0;
	struct topic_node *node;
	char *p;

	if (fresh) {
		if ((p = arena_take(ix, cls, id)) == NULL)
			return NULL;
		if (kind != NODE_HASH) {
			p += sizeof(struct branch);
			*id += sizeof(struct branch) / 8;
		}
		node = (struct topic_node *)(void *)p;
		atomic_init(&node->generation, 1);
		atomic_init(&node->refs, 0);
		for (unsigned i = 0; i < ix->workers; i++)
			atomic_init(&node->slots[i], NULL);
	} else { /* generation and slots go on: others may still look at them */
		*id = run->free;
		node = node_at(ix, *id);
		run->free = node->parent;
	}
	node->kind = (uint8_t)kind;
	node->size_class = (uint8_t)cls;
	node->parent = 0;
	node->text_len = 0;
	if (kind != NODE_HASH) {
		struct branch *branch = node_branch(node);

		atomic_store_explicit(&branch->children, 0, memory_order_relaxed);
		atomic_store_explicit(&branch->plus, 0, memory_order_relaxed);
		atomic_store_explicit(&branch->hash, 0, memory_order_relaxed);
	}
	if (kind == NODE_LITERAL && !node_set_text(ix, node, level)) {
		node->parent = run->free;
		run->free = *id;
		return NULL;
	}
	if (kind == NODE_LITERAL)
		node->text_len = (uint16_t)level->len;
	atomic_fetch_add_explicit(&ix->node_count, 1, memory_order_relaxed);
	return node;
}

void
tree_node_retire(struct topic_index *ix, struct topic_node *node, uint32_t id)
{
	for (unsigned i = 0; i < ix->workers; i++)
		assert(atomic_load_explicit(&node->slots[i], memory_order_relaxed) == NULL);
	atomic_fetch_add_explicit(&node->generation, 1, memory_order_release);
	node->parent = ix->retired.nodes;
	ix->retired.nodes = id;
	atomic_fetch_sub_explicit(&ix->node_count, 1, memory_order_relaxed);
}

/* ---- children ------------------------------------------------------------------------------- */

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

struct topic_node *
tree_child(
    const struct topic_index *ix, uint64_t children, const struct topic_level *level, uint32_t *id)
{
	const _Atomic uint64_t *at = word_pointer(children);
	size_t n = FEW_MAX, i = 0, mask = SIZE_MAX;
	uint64_t child = children;
	unsigned log2;

	if (children == 0)
		return NULL;
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
				return NULL;
		}
		if (child_mark(child) == level->mark) {
			struct topic_node *node = node_at(ix, child_id(child));

			if (node_is(ix, node, level)) {
				*id = child_id(child);
				return node;
			}
		}
	}
	return NULL;
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

uint32_t
tree_child_remove(struct topic_index *ix, struct branch *branch, const struct topic_node *node)
{
	uint64_t word = atomic_load_explicit(&branch->children, memory_order_relaxed), child = 0;
	struct topic_level level = { 0 };
	struct topic_levels it;
	const char *text = node_text(ix, node);
	struct table *table;
	uint32_t i, id;

	if (node->kind != NODE_LITERAL) {
		_Atomic uint32_t *field = node->kind == NODE_PLUS ? &branch->plus : &branch->hash;

		id = atomic_load_explicit(field, memory_order_relaxed);
		rcu_store(field, 0);
		return id;
	}
	if (word_is_child(word)) {
		rcu_store(&branch->children, 0);
		return child_id(word);
	}
	if (word_log2(word) == 0) {
		struct few *few = word_pointer(word);

		for (i = 0; (i = word_each(word, i, &child)) != 0;)
			if (node_at(ix, child_id(child)) == node)
				break;
		assert(i != 0);
		atomic_store_explicit(&few->children[i - 1], 0, memory_order_relaxed);
	} else {
		size_t at, mask;

		if (node->text_len > TEXT_INLINE_MAX)
			memcpy(&text, text + 8, sizeof(text));
		it = topic_levels_of((struct grapnel_str){ text, node->text_len });
		topic_level_next(&ix->key, &it, &level);
		table = table_of(word);
		mask = ((size_t)1 << table->log2) - 1;
		for (at = table_home(level.mark, table->log2);; at = (at + 1) & mask) {
			child = atomic_load_explicit(&table->children[at], memory_order_relaxed);
			assert(child != 0);
			if (child_mark(child) == level.mark && node_at(ix, child_id(child)) == node)
				break;
		}
		table_clear(table, at);
	}
	id = child_id(child);
	children_shrink(ix, branch, word);
	return id;
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
	struct topic_node *node;
	struct few *few;
	uint32_t next;

	for (uint32_t id = r->nodes; id != 0; id = next) {
		node = node_at(ix, id);
		next = node->parent;
		node_drop_text(ix, node);
		node->parent = ix->runs[node->size_class].free;
		ix->runs[node->size_class].free = id;
	}
	while ((few = r->few) != NULL) {
		r->few = few->next;
		few->next = ix->few_free;
		ix->few_free = few;
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
	    (ix->retired.nodes == 0 && ix->retired.few == NULL && ix->retired.tables == NULL))
		return;
	ix->waiting = ix->retired;
	ix->retired = (struct retired){ 0 };
	ix->is_waiting = true;
	rcu_defer(&ix->grace, grace_over);
}

int
tree_init(struct topic_index *ix)
{
	ix->text_offset = (uint32_t)(class_bytes(ix, CLASS_LEAF));
	topic_key_init(&ix->key);
	atomic_init(&ix->byte_count, sizeof(*ix) - sizeof(ix->chunks));
	if ((ix->root = tree_node_new(ix, NODE_ROOT, NULL, &ix->root_id)) == NULL)
		return GRAPNEL_ENOMEM;
	atomic_store(&ix->node_count, 0);
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
	for (size_t i = 0; i < ix->chunk_count; i++)
		free(ix->chunks[i]);
}
