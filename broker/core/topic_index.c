/* SPDX-License-Identifier: Apache-2.0 */
/* The writer's side: see topic_tree.h for how it is kept, topic_match.c for the readers. */
#include "topic_index.h"

#include "topic_tree.h"

#include <assert.h>
#include <stdlib.h>

#define WORKERS_LIMIT 1024 /* a node must fit in a chunk with ease */

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

/* Take nodes out of the tree that stand for nothing, from this one upwards. */
static void
prune(struct topic_index *ix, struct topic_node *node)
{
	while (node != ix->root && atomic_load_explicit(&node->refs, memory_order_relaxed) == 0) {
		struct topic_node *parent = node_at(ix, node->parent);
		uint32_t id;

		if (node->kind != NODE_HASH) {
			struct branch *branch = node_branch(node);

			if (atomic_load_explicit(&branch->children, memory_order_relaxed) != 0 ||
			    atomic_load_explicit(&branch->plus, memory_order_relaxed) != 0 ||
			    atomic_load_explicit(&branch->hash, memory_order_relaxed) != 0)
				break;
		}
		id = tree_child_remove(ix, node_branch(parent), node);
		tree_node_retire(ix, node, id);
		node = parent;
	}
}

/* The child of `parent` for that level, made if need be. NULL: no memory, nothing changed. */
static struct topic_node *
descend(struct topic_index *ix, struct topic_node *parent, uint32_t parent_id,
    const struct topic_level *level, bool last, uint32_t *id)
{
	struct branch *branch = node_branch(parent);
	_Atomic uint32_t *field = NULL;
	enum node_kind kind = NODE_LITERAL;
	struct topic_node *node;

	if (level->len == 1 && level->text[0] == '+') {
		kind = NODE_PLUS;
		field = &branch->plus;
	} else if (level->len == 1 && level->text[0] == '#' && last) {
		kind = NODE_HASH;
		field = &branch->hash;
	}
	if (field != NULL) {
		if ((*id = atomic_load_explicit(field, memory_order_relaxed)) != 0)
			return node_at(ix, *id);
	} else if ((node = tree_child(ix,
			atomic_load_explicit(&branch->children, memory_order_relaxed), level,
			id)) != NULL) {
		return node;
	}
	if ((node = tree_node_new(ix, kind, level, id)) == NULL)
		return NULL;
	node->parent = parent_id;
	if (field != NULL) {
		rcu_store(field, *id);
	} else if (!tree_child_add(ix, branch, level->mark, *id)) {
		tree_node_retire(ix, node, *id);
		return NULL;
	}
	return node;
}

int
topic_index_acquire(struct topic_index *ix, struct grapnel_str filter, struct topic_node **out)
{
	struct topic_levels it = topic_levels_of(filter);
	struct topic_node *node = ix->root, *child;
	uint32_t id = ix->root_id, child_id = 0;
	int err = GRAPNEL_OK;
	struct topic_level level;

	pthread_mutex_lock(&ix->lock);
	while (topic_level_next(&ix->key, &it, &level)) {
		if ((child = descend(ix, node, id, &level, it.rest == NULL, &child_id)) == NULL) {
			prune(ix, node); /* the levels made so far */
			err = GRAPNEL_ENOMEM;
			break;
		}
		node = child;
		id = child_id;
	}
	if (err == GRAPNEL_OK) {
		atomic_fetch_add_explicit(&node->refs, 1, memory_order_relaxed);
		*out = node;
	}
	tree_reclaim(ix); /* tables that grew */
	pthread_mutex_unlock(&ix->lock);
	return err;
}

void
topic_index_release(struct topic_index *ix, struct topic_node *node)
{
	pthread_mutex_lock(&ix->lock);
	assert(atomic_load_explicit(&node->refs, memory_order_relaxed) > 0);
	atomic_fetch_sub_explicit(&node->refs, 1, memory_order_relaxed);
	prune(ix, node);
	tree_reclaim(ix);
	pthread_mutex_unlock(&ix->lock);
}

void *
topic_node_slot(const struct topic_node *node, unsigned worker)
{
	return atomic_load_explicit(&node->slots[worker], memory_order_relaxed);
}

void
topic_node_set_slot(struct topic_node *node, unsigned worker, void *p)
{
	atomic_store_explicit(&node->slots[worker], p, memory_order_release);
}

bool
topic_node_has(const struct topic_node *node, unsigned worker)
{
	return atomic_load_explicit(&node->slots[worker], memory_order_acquire) != NULL;
}

uint32_t
topic_node_generation(const struct topic_node *node)
{
	return atomic_load_explicit(&node->generation, memory_order_acquire);
}

/*
 * No race with a node that goes and comes back: as long as this worker's slot is not
 * empty the worker holds a reference, so the generation cannot change.
 */
void *
topic_node_slot_checked(const struct topic_node *node, uint32_t generation, unsigned worker)
{
	if (topic_node_generation(node) != generation)
		return NULL;
	return topic_node_slot(node, worker);
}

void
topic_index_stats(const struct topic_index *ix, struct topic_index_stats *out)
{
	out->nodes = atomic_load_explicit(&ix->node_count, memory_order_relaxed);
	out->bytes = atomic_load_explicit(&ix->byte_count, memory_order_relaxed);
}
