/* SPDX-License-Identifier: Apache-2.0 */
#include "retain_tree.h"

#include "retain_order.h"

#include <assert.h>

#define NODE_FEW   (RETAIN_NODE_MAX / 4)     /* fewer look for a neighbour to merge with */
#define NODE_MERGE (RETAIN_NODE_MAX / 4 * 3) /* which there is room for behind */

/* ---- levels ---------------------------------------------------------------------------------- */

void
retain_levels_of(const struct topic_key *key, struct grapnel_str text, struct retain_levels *out)
{
	struct topic_levels it = topic_levels_of(text);
	struct topic_level level;

	*out = (struct retain_levels){ { { 0 } } };
	for (unsigned d = 0; d < RETAIN_DEPTHS && topic_level_next(key, &it, &level); d++) {
		unsigned one = level.mark >> 25, other = level.mark >> 18 & 127;

		if (level.len == 1 && (*level.text == '+' || *level.text == '#'))
			continue;
		out->at[d][one / 64] |= (uint64_t)1 << (one % 64);
		out->at[d][other / 64] |= (uint64_t)1 << (other % 64);
	}
}

static void
levels_add(struct retain_levels *to, const struct retain_levels *from)
{
	for (unsigned d = 0; d < RETAIN_DEPTHS; d++) {
		to->at[d][0] |= from->at[d][0];
		to->at[d][1] |= from->at[d][1];
	}
}

static bool
levels_lack(const struct retain_node *n, const struct retain_levels *needed)
{
	uint64_t lacking = 0;

	for (unsigned d = 0; d < RETAIN_DEPTHS; d++)
		lacking |= (needed->at[d][0] & ~n->levels.at[d][0]) |
		    (needed->at[d][1] & ~n->levels.at[d][1]);
	return lacking != 0;
}

/* ---- nodes ----------------------------------------------------------------------------------- */

/* The first Topic Name of a slot. */
static struct grapnel_str
first_of(const struct retain_node *n, unsigned at, unsigned height)
{
	for (; height > 0; height--, at = 0)
		n = n->slots[at];
	return message_topic(n->slots[at]);
}

/* After any change of the slots: what is common, the heads, the levels. */
static void
refresh(const struct retain_tree *t, struct retain_node *n, unsigned height)
{
	struct retain_levels levels;
	size_t common;

	(void)retain_compare_common(
	    first_of(n, 0, height), first_of(n, n->count - 1u, height), &common);
	/* Rounded where much comes and goes, so that it seldom has to shrink. */
	n->skip = (uint16_t)(height > 0 ? common : common & ~(size_t)3);
	n->levels = (struct retain_levels){ { { 0 } } };
	for (unsigned i = 0; i < n->count; i++) {
		struct grapnel_str first = first_of(n, i, height);

		n->heads[i] = retain_head(first, n->skip);
		if (height == 0)
			retain_levels_of(&t->key, first, &levels);
		levels_add(&n->levels,
		    height == 0 ? &levels : &((struct retain_node *)n->slots[i])->levels);
	}
}

/* The first Topic Name of a slot is new or another one. */
static void
head_changed(const struct retain_tree *t, struct retain_node *n, unsigned at, unsigned height)
{
	struct grapnel_str first = first_of(n, at, height);
	size_t common = 0;

	if (n->count > 1)
		(void)retain_compare_common(
		    first, first_of(n, at > 0 ? at - 1 : 1, height), &common);
	if (common < n->skip || n->count == 1)
		refresh(t, n, height);
	else
		n->heads[at] = retain_head(first, n->skip);
}

static void
move(
    struct retain_node *to, unsigned at, const struct retain_node *from, unsigned first, unsigned n)
{
	memmove(to->heads + at, from->heads + first, n * sizeof(to->heads[0]));
	memmove(to->slots + at, from->slots + first, n * sizeof(to->slots[0]));
}

static void
open_slot(struct retain_node *n, unsigned at, void *slot)
{
	move(n, at + 1, n, at, n->count - at);
	n->slots[at] = slot;
	n->count++;
}

static void
close_slot(struct retain_node *n, unsigned at)
{
	n->count--;
	move(n, at, n, at + 1, n->count - at);
}

/* ---- search ---------------------------------------------------------------------------------- */

/* How many heads are smaller. */
static unsigned
heads_below(const struct retain_node *n, uint64_t head)
{
	const uint64_t *at = n->heads;
	unsigned left = n->count;

	while (left > 1) {
		unsigned half = left / 2;

		at += at[half - 1] < head ? half : 0;
		left -= half;
	}
	return (unsigned)(at - n->heads) + (left == 1 && *at < head);
}

/*
 * How many slots stand before the key if it begins like all of them; *equal: the one behind those
 * is the key itself.
 */
static unsigned
slots_before(const struct retain_node *n, struct grapnel_str key, unsigned height, bool *equal)
{
	uint64_t head = retain_head(key, n->skip);
	unsigned low = heads_below(n, head), high = low, mid;
	int order;

	*equal = false;
	while (high < n->count && n->heads[high] == head)
		high++;
	while (low < high) {
		mid = (low + high) / 2;
		order = retain_compare(first_of(n, mid, height), key);
		if (order == 0) {
			*equal = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Down from a node to where the key is if it begins like the Topic Names of each node. */
static bool
descend(struct retain_place *place, unsigned height, struct grapnel_str key)
{
	struct retain_node *n = place->nodes[height];
	unsigned before;
	bool equal;

	for (;;) {
		before = slots_before(n, key, height, &equal);
		if (height == 0)
			break;
		place->at[height] = before - (!equal && before > 0);
		n = n->slots[place->at[height]];
		place->nodes[--height] = n;
		/* All at once: the search below would wait for them one after the other. */
		for (size_t i = 0; i < RETAIN_NODE_MAX; i += 64 / sizeof(n->heads[0]))
			__builtin_prefetch(&n->heads[i]);
	}
	place->at[0] = before;
	return equal;
}

bool
retain_tree_seek(const struct retain_tree *t, struct grapnel_str key, struct retain_place *place)
{
	unsigned height = t->height, at;
	struct retain_node *n;
	size_t common;

	place->height = height;
	if (height == 0)
		return false;
	place->nodes[height - 1] = t->root;
	if (descend(place, height - 1, key))
		return true;
	/*
	 * The heads compare what comes behind `skip` bytes, taken to be the same. One Topic Name
	 * that was found tells whether they are; where they may not be, the key is in front of all
	 * or behind all.
	 */
	n = place->nodes[0];
	at = place->at[0] < n->count ? place->at[0] : n->count - 1u;
	(void)retain_compare_common(message_topic(n->slots[at]), key, &common);
	while (height-- > 0) {
		size_t shared;
		int order;

		n = place->nodes[height];
		if (common >= n->skip)
			continue;
		order = retain_compare_common(first_of(n, 0, height), key, &shared);
		if (shared >= n->skip)
			continue;
		at = order > 0 ? 0 : n->count - (height > 0);
		if (at == place->at[height])
			continue;
		place->at[height] = at;
		if (height == 0)
			break;
		place->nodes[height - 1] = n->slots[at];
		if (descend(place, height - 1, key))
			return true;
		n = place->nodes[0];
		at = place->at[0] < n->count ? place->at[0] : n->count - 1u;
		(void)retain_compare_common(message_topic(n->slots[at]), key, &common);
	}
	return false;
}

/* ---- insert, replace, remove ----------------------------------------------------------------- */

/* Half of a full node to the one behind it; nothing if what comes is the last: names in order fill nodes. */
static void
split(const struct retain_tree *t, struct retain_node *n, struct retain_node *right, unsigned at,
    void *slot, unsigned height)
{
	unsigned keep = at == RETAIN_NODE_MAX ? at : RETAIN_NODE_MAX / 2;

	right->count = (uint16_t)(RETAIN_NODE_MAX - keep);
	move(right, 0, n, keep, right->count);
	n->count = (uint16_t)keep;
	if (at > keep || right->count == 0)
		open_slot(right, at - keep, slot);
	else
		open_slot(n, at, slot);
	if (keep < RETAIN_NODE_MAX)
		refresh(t, n, height);
	refresh(t, right, height);
}

bool
retain_tree_insert(struct retain_tree *t, struct retain_place *place, struct message *msg)
{
	struct retain_node *spare[RETAIN_HEIGHT_MAX + 1];
	unsigned spares = 0, full = 0, height = 0, at;
	struct retain_levels levels;
	void *slot = msg;

	while (full < t->height && place->nodes[full]->count == RETAIN_NODE_MAX)
		full++;
	/* A node for each full one, and a new root when that is one of them (or there is none). */
	for (; spares < full + (full == t->height); spares++) {
		if (t->height == RETAIN_HEIGHT_MAX ||
		    (spare[spares] = malloc(sizeof(struct retain_node))) == NULL)
			goto no_memory;
	}
	if (t->height == 0) {
		t->root = spare[--spares];
		t->root->count = 0;
		t->height = place->height = 1;
		place->nodes[0] = t->root;
		place->at[0] = 0;
	}
	retain_levels_of(&t->key, message_topic(msg), &levels);
	for (unsigned h = 0; h < t->height && t->root->count > 0; h++)
		levels_add(&place->nodes[h]->levels, &levels);
	for (at = place->at[0]; place->nodes[height]->count == RETAIN_NODE_MAX;) {
		struct retain_node *n = place->nodes[height], *right = spare[--spares];

		split(t, n, right, at, slot, height);
		slot = right;
		if (++height == t->height) {
			struct retain_node *root = spare[--spares];

			root->count = 2;
			root->slots[0] = n;
			root->slots[1] = right;
			refresh(t, root, height);
			t->root = root;
			t->height++;
			slot = NULL;
			break;
		}
		at = place->at[height] + 1;
	}
	if (slot != NULL) {
		open_slot(place->nodes[height], at, slot);
		head_changed(t, place->nodes[height], at, height);
	}
	assert(spares == 0);
	if (place->at[0] == 0) { /* in front of all */
		struct retain_node *n = t->root;

		for (unsigned h = t->height; h-- > 1; n = n->slots[0])
			head_changed(t, n, 0, h);
	}
	return true;
no_memory:
	while (spares > 0)
		free(spare[--spares]);
	return false;
}

struct message *
retain_tree_replace(struct retain_place *place, struct message *msg)
{
	void **slot = &place->nodes[0]->slots[place->at[0]];
	struct message *old = *slot;

	*slot = msg;
	return old;
}

/* Join a node with the one behind it. @return there was room. */
static bool
merge(const struct retain_tree *t, struct retain_node *parent, unsigned at, unsigned height)
{
	struct retain_node *left = parent->slots[at], *right = parent->slots[at + 1];

	if (left->count + right->count > NODE_MERGE)
		return false;
	move(left, left->count, right, 0, right->count);
	left->count = (uint16_t)(left->count + right->count);
	free(right);
	close_slot(parent, at + 1);
	refresh(t, left, height);
	return true;
}

struct message *
retain_tree_remove(struct retain_tree *t, struct retain_place *place)
{
	struct message *msg = place->nodes[0]->slots[place->at[0]];
	struct retain_node *n;
	unsigned height = 0;

	for (;; height++) {
		n = place->nodes[height];
		close_slot(n, place->at[height]);
		if (n->count > 0)
			break;
		free(n);
		if (height + 1 == t->height) {
			t->root = NULL;
			t->height = 0;
			return msg;
		}
	}
	for (unsigned h = height + 1; h < t->height && place->at[h - 1] == 0; h++)
		head_changed(t, place->nodes[h], place->at[h], h);
	for (; height + 1 < t->height && place->nodes[height]->count < NODE_FEW; height++) {
		struct retain_node *parent = place->nodes[height + 1];
		unsigned at = place->at[height + 1];

		if (!(at + 1 < parent->count && merge(t, parent, at, height)) &&
		    !(at > 0 && merge(t, parent, at - 1, height)))
			break;
	}
	while (t->height > 1 && t->root->count == 1) {
		n = t->root;
		t->root = n->slots[0];
		t->height--;
		free(n);
	}
	return msg;
}

/* ---- places ---------------------------------------------------------------------------------- */

/* To the first message below. */
static void
down_left(struct retain_place *place, unsigned height)
{
	for (; height > 0; height--) {
		place->nodes[height - 1] = place->nodes[height]->slots[place->at[height]];
		place->at[height - 1] = 0;
	}
}

/* Behind the last slot of a node: on to the next node; false: there is none. */
static bool
leave(struct retain_place *place)
{
	unsigned height = 0;

	do
		if (++height == place->height)
			return false;
	while (++place->at[height] == place->nodes[height]->count);
	down_left(place, height);
	return true;
}

struct message *
retain_place_settle(struct retain_place *place)
{
	if (place->height == 0 || (place->at[0] == place->nodes[0]->count && !leave(place)))
		return NULL;
	return place->nodes[0]->slots[place->at[0]];
}

struct message *
retain_place_seek(const struct retain_tree *t, struct grapnel_str key, struct retain_place *place)
{
	struct retain_node *n = place->nodes[0];

	/* Jumps are short, mostly: no farther than this node. */
	if (retain_compare(message_topic(n->slots[n->count - 1u]), key) < 0) {
		(void)retain_tree_seek(t, key, place);
	} else {
		unsigned low = place->at[0] + 1, high = n->count - 1u;

		while (low < high) {
			unsigned mid = (low + high) / 2;

			if (retain_compare(message_topic(n->slots[mid]), key) < 0)
				low = mid + 1;
			else
				high = mid;
		}
		place->at[0] = low;
	}
	return retain_place_settle(place);
}

struct message *
retain_place_next(struct retain_place *place)
{
	const struct retain_node *n = place->nodes[0];

	if (place->at[0] + 8u < n->count) {
		const char *ahead = n->slots[place->at[0] + 8];

		__builtin_prefetch(ahead);
		__builtin_prefetch(ahead + 64);
	}
	place->at[0]++;
	return retain_place_settle(place);
}

struct message *
retain_place_skip(struct retain_place *place, const struct retain_levels *needed, unsigned *nodes)
{
	unsigned height = place->height - 1;
	bool moved = false;

	if (levels_lack(place->nodes[height], needed))
		return NULL;
	while (height > 0) {
		struct retain_node *n = place->nodes[height];
		unsigned at = place->at[height];

		for (; at < n->count && *nodes != 0 && levels_lack(n->slots[at], needed); at++) {
			if (at + 2u < n->count)
				__builtin_prefetch(n->slots[at + 2]);
			--*nodes;
			moved = true;
		}
		place->at[height] = at;
		if (at == n->count) {
			/* On with the next node of this height; none: the end. */
			do
				if (++height == place->height)
					return NULL;
			while (++place->at[height] == place->nodes[height]->count);
			continue;
		}
		height--;
		if (moved) {
			place->nodes[height] = n->slots[at];
			place->at[height] = 0;
		}
	}
	return place->nodes[0]->slots[place->at[0]];
}

/* ---- life ------------------------------------------------------------------------------------ */

void
retain_tree_init(struct retain_tree *t)
{
	*t = (struct retain_tree){ 0 };
	topic_key_init(&t->key);
}

void
retain_tree_fini(struct retain_tree *t, void (*gone)(struct message *msg))
{
	struct retain_place place = { .height = t->height };

	if (t->height == 0)
		return;
	/* Down the left edge; a node goes when its last slot has gone. */
	place.nodes[t->height - 1] = t->root;
	down_left(&place, t->height - 1);
	for (unsigned h = 0; h < t->height;) {
		struct retain_node *n = place.nodes[h];

		if (h == 0) {
			for (unsigned i = 0; i < n->count; i++)
				gone(n->slots[i]);
		} else if (++place.at[h] < n->count) {
			down_left(&place, h);
			h = 0;
			continue;
		}
		free(n);
		h++;
	}
	t->root = NULL;
	t->height = 0;
}
