/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subs - who subscribes to what: a table per session, an array per node of the topic index
 */
#include "base/arena.h"
#include "core/durable.h"

#include <stdlib.h>
#include <string.h>

#define LIST_MIN 4

static uintptr_t
durable_tag(const struct sub *sub)
{
	return (sub->flags & SUB_GROUP) || (!(sub->flags & SUB_INTERNAL) && sub->u.session->durable)
	    ? SLOT_DURABLE
	    : 0;
}

/* ---- a node's array (this worker's slot) ---------------------------------------------------- */

static struct sublist *
list_resize(struct sublist *list, uint32_t capacity)
{
	capacity = capacity < LIST_MIN ? LIST_MIN : capacity;
	list = realloc(list, sizeof(*list) + capacity * sizeof(struct sub *));
	if (list != NULL)
		list->capacity = capacity;
	return list;
}

int
node_add(struct worker *w, struct topic_node *node, struct sub *sub)
{
	struct topic_index *ix = w->broker->index;
	void *slot = topic_node_slot(node, w->index);
	struct sub *one, *const *many;
	unsigned n = slot_subs(slot, &one, &many);
	struct sublist *list;

	sub->node = node;
	if (n == 0) {
		sub->position = 0;
		return topic_node_set_slot(
		    ix, node, w->index, (void *)((uintptr_t)sub | SLOT_ONE | durable_tag(sub)));
	}
	if ((uintptr_t)slot & SLOT_ONE) {
		if ((list = malloc(sizeof(*list) + LIST_MIN * sizeof(struct sub *))) == NULL)
			return GRAPNEL_ENOMEM;
		list->capacity = LIST_MIN;
		list->count = 1;
		list->subs[0] = one;
	} else {
		list = (struct sublist *)((uintptr_t)slot & ~SLOT_DURABLE);
		if (list->count == list->capacity &&
		    (list = list_resize(list, list->capacity + list->capacity / 2)) == NULL)
			return GRAPNEL_ENOMEM;
	}
	sub->position = list->count;
	list->subs[list->count++] = sub;
	slot = (void *)((uintptr_t)list | ((uintptr_t)slot & SLOT_DURABLE) | durable_tag(sub));
	return topic_node_set_slot(ix, node, w->index, slot); /* was not empty: does not fail */
}

void
node_remove(struct worker *w, struct sub *sub)
{
	struct topic_index *ix = w->broker->index;
	void *slot = topic_node_slot(sub->node, w->index), *now = NULL;
	struct sublist *list, *smaller;
	struct sub *last;

	if (!((uintptr_t)slot & SLOT_ONE)) {
		list = (struct sublist *)((uintptr_t)slot & ~SLOT_DURABLE);
		last = list->subs[--list->count];
		list->subs[sub->position] = last;
		last->position = sub->position;
		if (list->count == 1) {
			now = (void *)((uintptr_t)list->subs[0] | SLOT_ONE |
			    durable_tag(list->subs[0]));
			free(list);
		} else {
			if (list->count <= list->capacity / 4 &&
			    (smaller = list_resize(list, list->capacity / 2)) != NULL)
				list = smaller;
			now = (void *)((uintptr_t)list | ((uintptr_t)slot & SLOT_DURABLE));
		}
	}
	topic_node_set_slot(ix, sub->node, w->index, now);
}

/* ---- a session's table: open addressing by node, of any capacity ------------------------------ */

static uint32_t
home_of(const struct topic_node *node, uint32_t capacity)
{
	uint32_t hash = (uint32_t)(((uintptr_t)node >> 3) * 0x9e3779b97f4a7c15u >> 32);

	return (uint32_t)((uint64_t)hash * capacity >> 32);
}

static uint32_t
next_of(uint32_t i, uint32_t capacity)
{
	return i + 1 == capacity ? 0 : i + 1;
}

struct sub *
subs_find(struct session *s, const struct topic_node *node)
{
	if (s->sub_capacity == 0)
		return NULL;
	for (uint32_t i = home_of(node, s->sub_capacity);; i = next_of(i, s->sub_capacity)) {
		if (s->subs[i] == NULL)
			return NULL;
		if (s->subs[i]->node == node)
			return s->subs[i];
	}
}

static void
table_put(struct sub **subs, uint32_t capacity, struct sub *sub)
{
	uint32_t i = home_of(sub->node, capacity);

	while (subs[i] != NULL)
		i = next_of(i, capacity);
	subs[i] = sub;
}

static bool
table_resize(struct session *s, uint32_t capacity)
{
	struct sub **subs = calloc(capacity, sizeof(struct sub *));

	if (subs == NULL)
		return false;
	for (uint32_t i = 0; i < s->sub_capacity; i++)
		if (s->subs[i] != NULL)
			table_put(subs, capacity, s->subs[i]);
	free(s->subs);
	s->subs = subs;
	s->sub_capacity = capacity;
	return true;
}

/* Between 5/9 and 5/6 full while it grows; one place is always free. */
static bool
table_room(struct session *s)
{
	if ((s->sub_count + 1) * (uint64_t)6 <= s->sub_capacity * (uint64_t)5)
		return true;
	return table_resize(s, s->sub_capacity + s->sub_capacity / 2 + 2);
}

static void
table_drop(struct session *s, const struct sub *sub)
{
	uint32_t capacity = s->sub_capacity, i = home_of(sub->node, capacity), hole;

	while (s->subs[i] != sub)
		i = next_of(i, capacity);
	hole = i;
	while (s->subs[i = next_of(i, capacity)] != NULL) {
		uint32_t want = home_of(s->subs[i]->node, capacity);
		uint32_t far = i >= want ? i - want : i + capacity - want;

		/* It may move to the hole if that is not before its home. */
		if (far >= (i >= hole ? i - hole : i + capacity - hole)) {
			s->subs[hole] = s->subs[i];
			hole = i;
		}
	}
	s->subs[hole] = NULL;
	s->sub_count--;
	if (s->sub_count == 0) {
		free(s->subs);
		s->subs = NULL;
		s->sub_capacity = 0;
	} else if (s->sub_count < capacity / 4) {
		table_resize(s, capacity / 2); /* without memory it stays as it is */
	}
}

static struct sub *
sub_new(struct worker *w)
{
	static const uint32_t size = (sizeof(struct sub) + 7) & ~(uint32_t)7;

	if (w->subs == NULL && (w->subs = arena_new(&size, 1)) == NULL)
		return NULL;
	return arena_take(w->subs, 0);
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
	if (!table_room(s) || (sub = sub_new(s->w)) == NULL) {
		topic_index_release(b->index, node);
		return GRAPNEL_ENOMEM;
	}
	*sub = *values;
	sub->u.session = s;
	if (node_add(s->w, node, sub) != GRAPNEL_OK) {
		arena_give(s->w->subs, sub);
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
	arena_give(s->w->subs, sub);
	atomic_fetch_sub_explicit(&b->subscriptions, 1, memory_order_relaxed);
	metric_add(&s->w->metrics, METRIC_SUBSCRIPTIONS, -1);
}

static struct sub *
find_by_filter(struct session *s, struct grapnel_str filter)
{
	struct topic_node *node;

	if (s->sub_count == 0 || (node = topic_index_find(s->w->broker->index, filter)) == NULL)
		return NULL;
	return subs_find(s, node);
}

bool
subs_has(struct session *s, struct grapnel_str filter)
{
	return find_by_filter(s, filter) != NULL;
}

bool
subs_remove(struct session *s, struct grapnel_str filter)
{
	struct sub *sub = find_by_filter(s, filter);

	if (sub == NULL)
		return false;
	table_drop(s, sub);
	sub_free(s, sub);
	return true;
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

void
subs_made_durable(struct session *s)
{
	struct topic_index *ix = s->w->broker->index;
	char filter[65536];

	for (uint32_t i = 0; i < s->sub_capacity; i++) {
		struct sub *sub = s->subs[i];
		void *slot;

		if (sub == NULL)
			continue;
		slot = topic_node_slot(sub->node, s->w->index);
		(void)topic_node_set_slot(
		    ix, sub->node, s->w->index, (void *)((uintptr_t)slot | SLOT_DURABLE));
		durable_subscription(s, (struct grapnel_str){ 0 },
		    (struct grapnel_str){
			filter, topic_index_filter(ix, sub->node, filter, sizeof(filter)) },
		    sub, sub->retain_handling);
	}
	shared_made_durable(s);
}
