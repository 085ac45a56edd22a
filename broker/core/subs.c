/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subs - who subscribes to what: a table per session, an array per node of the topic index
 */
#include "core/session.h"

#include <stdlib.h>
#include <string.h>

/* ---- a node's array (this worker's slot) ---------------------------------------------------- */

int
node_add(struct worker *w, struct topic_node *node, struct sub *sub)
{
	void *slot = topic_node_slot(node, w->index);
	struct sub *one, *const *many;
	unsigned n = slot_subs(slot, &one, &many);
	struct sublist *list;

	sub->node = node;
	if (n == 0) {
		sub->position = 0;
		topic_node_set_slot(node, w->index, (void *)((uintptr_t)sub | 1u));
		return GRAPNEL_OK;
	}
	if ((uintptr_t)slot & 1u) {
		if ((list = malloc(sizeof(*list) + 4 * sizeof(struct sub *))) == NULL)
			return GRAPNEL_ENOMEM;
		list->capacity = 4;
		list->count = 1;
		list->subs[0] = one;
	} else {
		list = slot;
		if (list->count == list->capacity) {
			uint32_t capacity = list->capacity + list->capacity / 2 + 1;

			if ((list = realloc(
				 list, sizeof(*list) + capacity * sizeof(struct sub *))) == NULL)
				return GRAPNEL_ENOMEM;
			list->capacity = capacity;
		}
	}
	sub->position = list->count;
	list->subs[list->count++] = sub;
	topic_node_set_slot(node, w->index, list);
	return GRAPNEL_OK;
}

void
node_remove(struct worker *w, struct sub *sub)
{
	void *slot = topic_node_slot(sub->node, w->index);
	struct sublist *list;
	struct sub *last;

	if ((uintptr_t)slot & 1u) {
		topic_node_set_slot(sub->node, w->index, NULL);
		return;
	}
	list = slot;
	last = list->subs[--list->count];
	list->subs[sub->position] = last;
	last->position = sub->position;
	if (list->count == 1) {
		last = list->subs[0];
		topic_node_set_slot(sub->node, w->index, (void *)((uintptr_t)last | 1u));
		free(list);
	} else if (list->count == 0) {
		topic_node_set_slot(sub->node, w->index, NULL);
		free(list);
	}
}

/* ---- a session's table: open addressing by node ----------------------------------------------- */

static uint32_t
node_hash(const struct topic_node *node)
{
	return (uint32_t)(((uintptr_t)node >> 4) * 0x9e3779b97f4a7c15u >> 32);
}

struct sub *
subs_find(struct session *s, const struct topic_node *node)
{
	if (s->sub_capacity == 0)
		return NULL;
	for (uint32_t i = node_hash(node) & (s->sub_capacity - 1);;
	     i = (i + 1) & (s->sub_capacity - 1)) {
		if (s->subs[i] == NULL)
			return NULL;
		if (s->subs[i]->node == node)
			return s->subs[i];
	}
}

static void
table_put(struct sub **subs, uint32_t capacity, struct sub *sub)
{
	uint32_t i = node_hash(sub->node) & (capacity - 1);

	while (subs[i] != NULL)
		i = (i + 1) & (capacity - 1);
	subs[i] = sub;
}

static int
table_room(struct session *s)
{
	uint32_t capacity = s->sub_capacity == 0 ? 2 : s->sub_capacity * 2;
	struct sub **subs;

	if ((s->sub_count + 1) * 4 <= s->sub_capacity * 3)
		return GRAPNEL_OK;
	if ((subs = calloc(capacity, sizeof(struct sub *))) == NULL)
		return GRAPNEL_ENOMEM;
	for (uint32_t i = 0; i < s->sub_capacity; i++)
		if (s->subs[i] != NULL)
			table_put(subs, capacity, s->subs[i]);
	free(s->subs);
	s->subs = subs;
	s->sub_capacity = capacity;
	return GRAPNEL_OK;
}

static void
table_drop(struct session *s, const struct sub *sub)
{
	uint32_t mask = s->sub_capacity - 1, i = node_hash(sub->node) & mask, hole;

	while (s->subs[i] != sub)
		i = (i + 1) & mask;
	for (hole = i, i = (i + 1) & mask; s->subs[i] != NULL; i = (i + 1) & mask) {
		uint32_t want = node_hash(s->subs[i]->node) & mask;

		if (((i - want) & mask) >= ((i - hole) & mask)) {
			s->subs[hole] = s->subs[i];
			hole = i;
		}
	}
	s->subs[hole] = NULL;
	s->sub_count--;
}

int
subs_add(struct session *s, struct grapnel_str filter, const struct sub *values, bool *existed,
    struct sub **out)
{
	struct broker *b = s->w->broker;
	struct topic_node *node;
	struct sub *sub;
	int err;

	if ((err = topic_index_acquire(b->index, filter, &node)) != GRAPNEL_OK)
		return err;
	if ((sub = subs_find(s, node)) !=
	    NULL) { /* replaced: same node, other options [MQTT-3.8.4-3] */
		topic_index_release(b->index, node);
		sub->id = values->id;
		sub->qos = values->qos;
		sub->flags = values->flags;
		sub->retain_handling = values->retain_handling;
		sub->rights = values->rights;
		*existed = true;
		*out = sub;
		return GRAPNEL_OK;
	}
	if ((sub = malloc(sizeof(*sub))) == NULL || table_room(s) != GRAPNEL_OK) {
		free(sub);
		topic_index_release(b->index, node);
		return GRAPNEL_ENOMEM;
	}
	*sub = *values;
	sub->u.session = s;
	if (node_add(s->w, node, sub) != GRAPNEL_OK) {
		free(sub);
		topic_index_release(b->index, node);
		return GRAPNEL_ENOMEM;
	}
	table_put(s->subs, s->sub_capacity, sub);
	s->sub_count++;
	atomic_fetch_add_explicit(&b->subscriptions, 1, memory_order_relaxed);
	metric_add(&s->w->metrics, METRIC_SUBSCRIPTIONS, 1);
	*existed = false;
	*out = sub;
	return GRAPNEL_OK;
}

static void
sub_free(struct session *s, struct sub *sub)
{
	struct broker *b = s->w->broker;

	retained_stop(sub);
	node_remove(s->w, sub);
	topic_index_release(b->index, sub->node);
	free(sub);
	atomic_fetch_sub_explicit(&b->subscriptions, 1, memory_order_relaxed);
	metric_add(&s->w->metrics, METRIC_SUBSCRIPTIONS, -1);
}

bool
subs_has(struct session *s, struct grapnel_str filter)
{
	struct broker *b = s->w->broker;
	struct topic_node *node;
	bool has;

	if (s->sub_count == 0 || topic_index_acquire(b->index, filter, &node) != GRAPNEL_OK)
		return false;
	has = subs_find(s, node) != NULL;
	topic_index_release(b->index, node);
	return has;
}

bool
subs_remove(struct session *s, struct grapnel_str filter)
{
	struct broker *b = s->w->broker;
	struct topic_node *node;
	struct sub *sub;

	if (s->sub_count == 0 || topic_index_acquire(b->index, filter, &node) != GRAPNEL_OK)
		return false;
	if ((sub = subs_find(s, node)) != NULL) {
		table_drop(s, sub);
		sub_free(s, sub);
	}
	topic_index_release(b->index, node);
	return sub != NULL;
}

void
subs_clear(struct session *s)
{
	for (uint32_t i = 0; i < s->sub_capacity; i++)
		if (s->subs[i] != NULL)
			sub_free(s, s->subs[i]);
	free(s->subs);
	s->subs = NULL;
	s->sub_count = s->sub_capacity = 0;
}
