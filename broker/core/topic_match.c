/* SPDX-License-Identifier: Apache-2.0 */
/*
 * topic_match - the reader's side of the topic index
 *
 * With few filters a match is instructions, with many it is nothing but cache misses, one
 * behind the other: table, branch, table, leaf. So each Topic Name first goes down as far as it
 * gets through what every Topic Name visits ("hot"); from its first large table on it waits for
 * up to TOPIC_GROUP - 1 others at each step, and each sweep over all that wait only touches what
 * a sweep before has prefetched:
 *
 *	look at each place in a table: which child has that hash
 *	look at each leaf: is the rest of its text the rest of the Topic Name
 *	look at each branch: is it of the text we want, has it '#', '+'; where would the child be
 *
 * A place cannot be reached twice by one Topic Name, so there are never more places
 * at once than leaves and branches in the tree (for each Topic Name).
 */
#include "topic_tree.h"

#include <stdlib.h>

#define KEEP_PLACES 8192 /* scratch memory above this goes back before the next match */
#define HOT_LOG2    10 /* a table up to 8 KiB is taken to be in the cache when what leads to it is */

/* Where a Topic Name has arrived: at a branch or a leaf; in `lookups`: at a table. */
struct place {
	union {
		const struct branch *branch;
		struct topic_node *leaf;
	} u;
	uint64_t siblings; /* the children word it was found in, to be compared; 0: it is right */
	const char *at, *rest; /* the level that led here; what comes behind it, NULL: nothing */
	uint32_t len;          /* of that level; in `lookups` mark is known, too */
	uint32_t mark;
	uint16_t depth; /* levels before the one at `at` */
	uint8_t name;
	bool hot;
};

struct places {
	struct place *all;
	size_t count, capacity;
};

struct found {
	struct topic_node *leaf;
	uint32_t name;
};

struct name {
	const char *all, *end;
	bool is_dollar;
};

struct topic_matcher {
	struct name names[TOPIC_GROUP];
	struct places branches, leaves, lookups;
	struct places now; /* the branches that are being looked at */
	struct found *found;
	struct topic_node **result; /* found_capacity of them, too */
	size_t found_count, found_capacity;
	size_t total; /* capacity of all */
	bool failed;  /* no memory */
};

struct topic_matcher *
topic_matcher_new(void)
{
	return calloc(1, sizeof(struct topic_matcher));
}

static void
scratch_free(struct topic_matcher *m)
{
	free(m->branches.all);
	free(m->leaves.all);
	free(m->lookups.all);
	free(m->now.all);
	free(m->found);
	free(m->result);
	*m = (struct topic_matcher){ 0 };
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
grow(struct topic_matcher *m, void *array, size_t count, size_t size)
{
	void **p = array, *bigger = reallocarray(*p, count, size);

	if (bigger == NULL) {
		m->failed = true;
		return false;
	}
	*p = bigger;
	m->total += count / 2;
	return true;
}

/* NULL: no memory, m->failed. */
static inline struct place *
place_add(struct topic_matcher *m, struct places *list)
{
	if (list->count == list->capacity) {
		size_t capacity = list->capacity == 0 ? 32 : list->capacity * 2;

		if (!grow(m, &list->all, capacity, sizeof(*list->all)))
			return NULL;
		list->capacity = capacity;
	}
	return &list->all[list->count++];
}

static inline void
add_found(struct topic_matcher *m, struct topic_node *leaf, uint32_t name)
{
	if (m->found_count == m->found_capacity) {
		size_t capacity = m->found_capacity == 0 ? 32 : m->found_capacity * 2;

		if (!grow(m, &m->found, capacity, sizeof(*m->found)) ||
		    !grow(m, &m->result, capacity, sizeof(struct topic_node *)))
			return;
		m->found_capacity = capacity;
	}
	m->found[m->found_count++] = (struct found){ leaf, name };
}

/* An object may lie across two cache lines; what matters are its first 40 bytes or so. */
static inline void
prefetch_object(const void *p)
{
	__builtin_prefetch(p);
	__builtin_prefetch((const char *)p + 40);
}

static inline void
push(const struct topic_index *ix, struct topic_matcher *m, uint32_t id, const struct place *place)
{
	struct place *p;
	void *object = id_is_leaf(id) ? (void *)leaf_at(ix, id) : (void *)branch_at(ix, id);

	prefetch_object(object);
	if ((p = place_add(m, id_is_leaf(id) ? &m->leaves : &m->branches)) == NULL)
		return;
	*p = *place;
	if (id_is_leaf(id))
		p->u.leaf = object;
	else
		p->u.branch = object;
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

/* ---- leaves ---------------------------------------------------------------------------------- */

static inline uint64_t
differ8(const char *a, const char *b)
{
	return topic_load(a) ^ topic_load(b);
}

/* Few branches, since lengths vary from one Topic Name to the next: what overlaps is compared twice. */
static inline bool
same_bytes(const char *a, const char *b, size_t n)
{
	uint32_t x, y, v, w;

	if (n >= 8) {
		for (; n > 32; n -= 16, a += 16, b += 16)
			if ((differ8(a, b) | differ8(a + 8, b + 8)) != 0)
				return false;
		if (n >= 16)
			return (differ8(a, b) | differ8(a + 8, b + 8) |
				   differ8(a + n - 16, b + n - 16) |
				   differ8(a + n - 8, b + n - 8)) == 0;
		return (differ8(a, b) | differ8(a + n - 8, b + n - 8)) == 0;
	}
	if (n >= 4) {
		memcpy(&x, a, 4);
		memcpy(&y, b, 4);
		memcpy(&v, a + n - 4, 4);
		memcpy(&w, b + n - 4, 4);
		return ((x ^ y) | (v ^ w)) == 0;
	}
	if (n == 0)
		return true;
	return ((a[0] ^ b[0]) | (a[n / 2] ^ b[n / 2]) | (a[n - 1] ^ b[n - 1])) == 0;
}

/* Both at the beginning of a level; the pattern is the rest of a valid filter. */
static bool
pattern_matches(struct grapnel_str pattern, const char *t, const char *end)
{
	const char *p = pattern.data, *p_end = p + pattern.len;

	for (;;) {
		if (p < p_end && *p == '#')
			return true;
		if (p < p_end && *p == '+') {
			for (p++; t < end && *t != '/'; t++)
				;
		} else {
			for (; p < p_end && *p != '/'; p++, t++)
				if (t == end || *t != *p)
					return false;
			if (t < end && *t != '/')
				return false;
		}
		if (p == p_end)
			return t == end;
		if (t == end) /* "/#" covers the parent level, too */
			return p_end - p == 2 && p[1] == '#';
		p++;
		t++;
	}
}

static inline bool
leaf_matches(const struct topic_node *leaf, unsigned depth, const char *rest, const char *end)
{
	struct grapnel_str text =
	    leaf->start == depth ? leaf_text(leaf) : leaf_text_from(leaf, depth);
	size_t len = (size_t)(end - rest);

	switch ((enum leaf_kind)leaf->kind) {
	case LEAF_EXACT:
		return len == text.len && same_bytes(text.data, rest, len);
	case LEAF_PREFIX:
		return len >= text.len && same_bytes(text.data, rest, text.len) &&
		    (len == text.len || rest[text.len] == '/');
	case LEAF_PATTERN:
		return pattern_matches(text, rest, end);
	case LEAF_HASH:
	case LEAF_HERE:
		break;
	}
	return true;
}

/* The level that led to a place, as it was cut then. */
static struct topic_level
level_of(const struct topic_index *ix, const struct topic_matcher *m, const struct place *p)
{
	struct topic_levels it = { m->names[p->name].all, p->at, m->names[p->name].end };
	struct topic_level level = { 0 };

	topic_level_next(&ix->key, &it, &level);
	return level;
}

static void
compare_leaves(const struct topic_index *ix, struct topic_matcher *m)
{
	for (size_t i = 0; i < m->leaves.count; i++) {
		struct place *p = &m->leaves.all[i];
		struct topic_node *leaf = p->u.leaf;
		const char *end = m->names[p->name].end;
		struct topic_level level;
		uint32_t id;

		if (leaf_matches(leaf, p->depth, p->at, end)) {
			add_found(m, leaf, p->name);
			continue;
		}
		if (p->siblings == 0)
			continue;
		/*
		 * Another text with the same 31 bits of hash: never by chance, so it may be slow.
		 */
		level = level_of(ix, m, p);
		if (leaf_level_is(leaf, p->depth, &level) ||
		    (id = tree_child(ix, p->siblings, &level, p->depth)) == 0)
			continue;
		if (!id_is_leaf(id)) {
			p->siblings = 0;
			push(ix, m, id, p);
		} else if (leaf_matches(leaf_at(ix, id), p->depth, p->at, end)) {
			add_found(m, leaf_at(ix, id), p->name);
		}
	}
	m->leaves.count = 0;
}

/* ---- branches -------------------------------------------------------------------------------- */

/* From a branch on: one level, or while it is hot as many as there are. */
static void
walk(const struct topic_index *ix, struct topic_matcher *m, const struct branch *branch,
    const char *rest, uint8_t number, bool hot)
{
	const struct name *name = &m->names[number];
	struct topic_levels it = { name->all, rest, name->end };

	while (branch != NULL) {
		bool wild = branch != ix->root || !name->is_dollar; /* [MQTT-4.7.2-1] */
		const struct branch *next = NULL;
		struct topic_level level;
		struct place place;
		uint64_t children;
		uint32_t id;

		if (wild &&
		    (id = rcu_load(&branch->hash)) != 0) { /* also the parent level itself */
			prefetch_object(leaf_at(ix, id));
			add_found(m, leaf_at(ix, id), number);
		}
		if (it.rest == NULL) {
			if ((id = rcu_load(&branch->here)) != 0) {
				prefetch_object(leaf_at(ix, id));
				add_found(m, leaf_at(ix, id), number);
			}
			return;
		}
		topic_level_next(&ix->key, &it, &level);
		place = (struct place){ .at = level.text,
			.rest = it.rest,
			.len = level.len,
			.mark = level.mark,
			.depth = branch->depth,
			.name = number,
			.hot = hot };
		children = rcu_load(&branch->children);
		if (wild && (id = rcu_load(&branch->plus)) != 0) {
			if (hot && children == 0 && !id_is_leaf(id))
				next = branch_at(ix, id);
			else
				push(ix, m, id, &place);
		}
		id = 0;
		if (word_is_child(children)) {
			if (child_mark(children) == level.mark)
				id = child_id(children);
		} else if (children != 0 && hot && word_log2(children) <= HOT_LOG2) {
			id = probe(children, level.mark);
		} else if (children != 0) {
			struct place *p = place_add(m, &m->lookups);

			__builtin_prefetch((const char *)word_pointer(children) +
			    (word_log2(children) == 0
				    ? 0
				    : table_home(level.mark, word_log2(children)) *
					sizeof(uint64_t)));
			if (p != NULL) {
				*p = place;
				p->siblings = children;
			}
		}
		if (id != 0 && hot && !id_is_leaf(id)) {
			next = branch_at(ix, id);
			/* As in compare_leaves. */
			if (!branch_is(next, &level)) {
				next = NULL;
				if ((id = tree_child(ix, children, &level, place.depth)) != 0)
					push(ix, m, id, &place);
			}
		} else if (id != 0) {
			place.siblings = children;
			place.hot = false;
			push(ix, m, id, &place);
		}
		branch = next;
	}
}

static void
look_up(const struct topic_index *ix, struct topic_matcher *m)
{
	uint32_t id;

	for (size_t i = 0; i < m->lookups.count; i++) {
		struct place *p = &m->lookups.all[i];

		p->hot = false;
		if ((id = probe(p->siblings, p->mark)) != 0)
			push(ix, m, id, p);
	}
	m->lookups.count = 0;
}

static void
walk_branches(const struct topic_index *ix, struct topic_matcher *m)
{
	struct places now = m->branches;
	struct topic_level level;
	uint32_t id;

	m->branches = m->now;
	m->now = now;
	for (size_t i = 0; i < now.count; i++) {
		struct place *p = &now.all[i];

		if (p->siblings != 0 &&
		    (p->len != p->u.branch->text_len ||
			!same_bytes(text_all(p->u.branch->text, p->len), p->at, p->len))) {
			level = level_of(ix, m, p); /* as in compare_leaves */
			id = tree_child(ix, p->siblings, &level, p->depth);
			p->siblings = 0;
			if (id != 0)
				push(ix, m, id, p);
			continue;
		}
		walk(ix, m, p->u.branch, p->rest, p->name, p->hot);
	}
	m->now.count = 0;
}

/* ---- results --------------------------------------------------------------------------------- */

static inline bool
has_subscriber(const struct topic_index *ix, const struct topic_node *leaf)
{
	uint64_t word = atomic_load_explicit(&leaf->slot, memory_order_acquire);
	_Atomic(void *) *slots = slot_pointer(word);

	if (slot_owner(word) != 0) {
		__builtin_prefetch(slots); /* whatever it is: the caller goes there next */
		return true;
	}
	for (unsigned i = 0; slots != NULL && i < ix->workers; i++)
		if (atomic_load_explicit(&slots[i], memory_order_acquire) != NULL)
			return true;
	return false;
}

/* What was found, by Topic Name, without the filters where nobody is. */
static void
collect(const struct topic_index *ix, struct topic_matcher *m, struct topic_match *out, unsigned n)
{
	size_t at[TOPIC_GROUP], start = 0, kept = 0;
	uint32_t last = 0;
	bool sorted = true;

	for (size_t i = 0; i < m->found_count; i++) {
		struct found f = m->found[i];

		if (!has_subscriber(ix, f.leaf))
			continue;
		sorted = sorted && f.name >= last;
		last = f.name;
		out[f.name].count++;
		m->result[kept] = f.leaf;
		m->found[kept++] = f;
	}
	for (unsigned i = 0; i < n; i++) {
		at[i] = start;
		out[i].nodes = out[i].count > 0 ? m->result + start : NULL;
		start += out[i].count;
	}
	for (size_t i = 0; i < kept && !sorted; i++)
		m->result[at[m->found[i].name]++] = m->found[i].leaf;
}

int
topic_index_match(struct topic_index *ix, struct topic_matcher *m,
    const struct grapnel_str *topic_names, unsigned n, struct topic_match *out)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = (struct topic_match){ NULL, 0 };
	if (n > TOPIC_GROUP)
		return GRAPNEL_EINVAL;
	if (m->total > KEEP_PLACES)
		scratch_free(m);
	m->failed = false;
	m->found_count = m->leaves.count = m->lookups.count = m->branches.count = 0;
	for (unsigned i = 0; i < n; i++) {
		struct grapnel_str name = topic_names[i];

		m->names[i] = (struct name){ name.data, name.data + name.len,
			name.len > 0 && name.data[0] == '$' };
		walk(ix, m, ix->root, name.data, (uint8_t)i, true);
	}
	while (m->lookups.count + m->leaves.count + m->branches.count > 0 && !m->failed) {
		look_up(ix, m);
		compare_leaves(ix, m);
		walk_branches(ix, m);
	}
	if (m->failed)
		return GRAPNEL_ENOMEM;
	collect(ix, m, out, n);
	return GRAPNEL_OK;
}
