/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_match - the reader's side of the topic index
 *
 * With many filters a match is nothing but cache misses, one behind the other: table,
 * node, table, node. So up to TOPIC_GROUP Topic Names go down the tree together, and
 * each level is three sweeps over all places reached so far, where each sweep only
 * touches what the sweep before has prefetched:
 *
 *	cut the next level of each Topic Name and hash it (the nodes arrive meanwhile)
 *	look at each node: is it of the text we want, has it '#', '+'; where would the child be
 *	look at each place in a table: which node has that hash
 *
 * A place cannot be reached twice by one Topic Name, so there are never more places
 * at a level than nodes in the tree (for each Topic Name).
 */
#include "topic_tree.h"

#include <stdlib.h>

#define KEEP_PLACES 8192 /* scratch memory above this goes back before the next match */

/* Where a Topic Name has arrived. */
struct place {
	struct topic_node *node;
	uint64_t siblings; /* the children word it was found in, to be compared; 0: it is right */
	uint32_t name;
};

struct found {
	struct topic_node *node;
	uint32_t name;
};

struct name {
	struct topic_levels it;
	struct topic_level level[2]; /* of this round and of the one before */
	bool ended;
};

struct topic_matcher {
	struct name names[TOPIC_GROUP];
	struct place *places, *next; /* capacity each, like lookups */
	struct place *lookups;       /* node: not known yet */
	struct found *found;
	struct topic_node **result;
	size_t capacity, found_capacity, result_capacity;
};

struct topic_matcher *
topic_matcher_new(void)
{
	return calloc(1, sizeof(struct topic_matcher));
}

static void
scratch_free(struct topic_matcher *m)
{
	free(m->places);
	free(m->next);
	free(m->lookups);
	free(m->found);
	free(m->result);
	m->places = m->next = m->lookups = NULL;
	m->found = NULL;
	m->result = NULL;
	m->capacity = m->found_capacity = m->result_capacity = 0;
}

void
topic_matcher_free(struct topic_matcher *m)
{
	if (m == NULL)
		return;
	scratch_free(m);
	free(m);
}

static bool
grow(void *array, size_t count, size_t size)
{
	void **p = array, *bigger = reallocarray(*p, count, size);

	if (bigger == NULL)
		return false;
	*p = bigger;
	return true;
}

/* Room for a round that begins with `places` places and `found` results so far. */
static bool
reserve(struct topic_matcher *m, size_t places, size_t found)
{
	size_t need = places * 2, n;

	if (need > m->capacity) {
		n = need < 64 ? 64 : need * 2;
		if (!grow(&m->places, n, sizeof(*m->places)) ||
		    !grow(&m->next, n, sizeof(*m->next)) ||
		    !grow(&m->lookups, n, sizeof(*m->lookups)))
			return false;
		m->capacity = n;
	}
	if (found + need > m->found_capacity) {
		n = found + need < 64 ? 64 : (found + need) * 2;
		if (!grow(&m->found, n, sizeof(*m->found)))
			return false;
		m->found_capacity = n;
	}
	return true;
}

static inline void
prefetch_node(const struct topic_node *node)
{
	/* Branch, header and slots are what matters first; the text is often on the next line. */
	__builtin_prefetch((const char *)node - sizeof(struct branch));
	__builtin_prefetch((const char *)node + 40);
}

static inline void
push(const struct topic_index *ix, struct place *at, uint32_t id, uint64_t siblings, uint32_t name)
{
	*at = (struct place){ node_at(ix, id), siblings, name };
	prefetch_node(at->node);
}

static inline void
add_found(struct found *at, struct topic_node *node, uint32_t name)
{
	*at = (struct found){ node, name };
}

/* The child with that mark, not compared yet. @return its number, or 0. */
static inline uint32_t
probe(uint64_t children, uint32_t mark)
{
	const _Atomic uint64_t *at = word_pointer(children);
	unsigned log2 = word_log2(children);
	uint64_t child;

	if (log2 == 0) {
		at = ((const struct few *)(const void *)at)->children;
		for (unsigned i = 0; i < FEW_MAX; i++)
			if (child_mark(child = rcu_load(&at[i])) == mark)
				return child_id(child);
	} else {
		size_t mask = ((size_t)1 << log2) - 1;

		for (size_t i = table_home(mark, log2); (child = rcu_load(&at[i])) != 0;
		     i = (i + 1) & mask)
			if (child_mark(child) == mark)
				return child_id(child);
	}
	return 0;
}

/* One level for all. @return the number of places of the next one, now in m->places. */
static size_t
round_down(const struct topic_index *ix, struct topic_matcher *m, size_t count, unsigned parity,
    size_t *found)
{
	size_t next = 0, lookups = 0, results = *found;
	struct place *swap;
	uint32_t id;

	for (size_t i = 0; i < count; i++) {
		struct place *p = &m->places[i];
		struct name *name = &m->names[p->name];
		struct topic_level *level = &name->level[parity];
		struct topic_node *node = p->node;
		struct branch *branch;
		uint64_t children;

		/*
		 * Another text with the same 31 bits of hash: never by chance, so it may be slow.
		 */
		if (p->siblings != 0 && !node_is(ix, node, &name->level[parity ^ 1]) &&
		    (node = tree_child(ix, p->siblings, &name->level[parity ^ 1], &id)) == NULL)
			continue;
		branch = node_branch(node);
		if ((id = rcu_load(&branch->hash)) != 0) { /* also the parent level itself */
			add_found(&m->found[results], node_at(ix, id), p->name);
			__builtin_prefetch(m->found[results++].node);
		}
		if (name->ended) {
			add_found(&m->found[results++], node, p->name);
			continue;
		}
		if ((id = rcu_load(&branch->plus)) != 0)
			push(ix, &m->next[next++], id, 0, p->name);
		if ((children = rcu_load(&branch->children)) == 0)
			continue;
		if (word_is_child(children)) {
			if (child_mark(children) == level->mark)
				push(ix, &m->next[next++], child_id(children), children, p->name);
			continue;
		}
		__builtin_prefetch((const char *)word_pointer(children) +
		    (word_log2(children) == 0
			    ? 0
			    : table_home(level->mark, word_log2(children)) * sizeof(uint64_t)));
		m->lookups[lookups++] = (struct place){ NULL, children, p->name };
	}
	for (size_t i = 0; i < lookups; i++) {
		struct place *p = &m->lookups[i];

		if ((id = probe(p->siblings, m->names[p->name].level[parity].mark)) != 0)
			push(ix, &m->next[next++], id, p->siblings, p->name);
	}
	swap = m->places;
	m->places = m->next;
	m->next = swap;
	*found = results;
	return next;
}

/* Cut the next level of each Topic Name that still is somewhere. */
static void
cut_levels(const struct topic_index *ix, struct topic_matcher *m, size_t count, unsigned parity)
{
	uint32_t alive = 0;

	for (size_t i = 0; i < count; i++)
		alive |= (uint32_t)1 << m->places[i].name;
	for (; alive != 0; alive &= alive - 1) {
		struct name *name = &m->names[__builtin_ctz(alive)];

		name->ended = !topic_level_next(&ix->key, &name->it, &name->level[parity]);
	}
}

static bool
has_subscriber(const struct topic_index *ix, const struct topic_node *node)
{
	if (atomic_load_explicit(&node->refs, memory_order_relaxed) == 0)
		return false;
	for (unsigned i = 0; i < ix->workers; i++)
		if (topic_node_has(node, i))
			return true;
	return false;
}

/* Sort what was found by Topic Name, without the nodes where nobody is. */
static int
collect(const struct topic_index *ix, struct topic_matcher *m, size_t found,
    struct topic_match *out, unsigned n)
{
	size_t at[TOPIC_GROUP], start = 0, kept = 0;

	for (size_t i = 0; i < found; i++) {
		if (has_subscriber(ix, m->found[i].node)) {
			out[m->found[i].name].count++;
			m->found[kept++] = m->found[i];
		}
	}
	if (kept > m->result_capacity) {
		size_t capacity = kept < 64 ? 64 : kept * 2;

		if (!grow(&m->result, capacity, sizeof(struct topic_node *))) {
			for (unsigned i = 0; i < n; i++)
				out[i].count = 0;
			return GRAPNEL_ENOMEM;
		}
		m->result_capacity = capacity;
	}
	for (unsigned i = 0; i < n; i++) {
		at[i] = start;
		out[i].nodes = start < kept ? m->result + start : NULL;
		start += out[i].count;
	}
	for (size_t i = 0; i < kept; i++)
		m->result[at[m->found[i].name]++] = m->found[i].node;
	return GRAPNEL_OK;
}

/*
 * The first level: [MQTT-4.7.2-1] a leading wildcard does not match a Topic Name that begins with
 * $.
 */
static size_t
round_root(const struct topic_index *ix, struct topic_matcher *m,
    const struct grapnel_str *topic_names, unsigned n, size_t *found)
{
	const struct branch *branch = node_branch(ix->root);
	uint64_t children = rcu_load(&branch->children);
	uint32_t plus = rcu_load(&branch->plus), hash = rcu_load(&branch->hash), id;
	size_t next = 0;

	for (unsigned i = 0; i < n; i++) {
		struct name *name = &m->names[i];
		struct topic_level *level = &name->level[0];

		name->it = topic_levels_of(topic_names[i]);
		topic_level_next(&ix->key, &name->it, level);
		if (topic_names[i].len == 0 || topic_names[i].data[0] != '$') {
			if (hash != 0)
				add_found(&m->found[(*found)++], node_at(ix, hash), i);
			if (plus != 0)
				push(ix, &m->places[next++], plus, 0, i);
		}
		id = 0;
		if (word_is_child(children))
			id = child_mark(children) == level->mark ? child_id(children) : 0;
		else if (children != 0)
			id = probe(children, level->mark);
		if (id != 0)
			push(ix, &m->places[next++], id, children, i);
	}
	return next;
}

int
topic_index_match(struct topic_index *ix, struct topic_matcher *m,
    const struct grapnel_str *topic_names, unsigned n, struct topic_match *out)
{
	size_t count, found = 0;
	unsigned parity = 1;

	for (unsigned i = 0; i < n; i++)
		out[i] = (struct topic_match){ NULL, 0 };
	if (n > TOPIC_GROUP)
		return GRAPNEL_EINVAL;
	if (m->capacity > KEEP_PLACES || m->found_capacity > KEEP_PLACES)
		scratch_free(m);
	if (!reserve(m, TOPIC_GROUP, 0))
		return GRAPNEL_ENOMEM;
	count = round_root(ix, m, topic_names, n, &found);
	for (; count > 0; parity ^= 1) {
		if (!reserve(m, count, found))
			return GRAPNEL_ENOMEM;
		cut_levels(ix, m, count, parity);
		count = round_down(ix, m, count, parity, &found);
	}
	return collect(ix, m, found, out, n);
}
