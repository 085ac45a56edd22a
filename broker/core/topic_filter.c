/* SPDX-License-Identifier: Apache-2.0 */
#include "topic_tree.h"

#include <string.h>

/* Writes from the end of a buffer towards its beginning, or only counts. */
struct backwards {
	char *at; /* NULL: count */
	size_t len;
};

static void
put(struct backwards *b, const char *text, size_t len)
{
	if (b->at != NULL)
		memcpy(b->at -= len, text, len);
	b->len += len;
}

static void
put_filter(const struct topic_index *ix, const struct topic_node *leaf, struct backwards *b)
{
	const struct branch *branch = branch_at(ix, leaf->parent);
	struct grapnel_str text = leaf_text(leaf);
	bool has_text = leaf->kind != LEAF_HERE && leaf->kind != LEAF_HASH;
	bool slash = false;

	if (leaf->kind == LEAF_HASH || leaf->kind == LEAF_PREFIX) {
		put(b, "#", 1);
		slash = true;
	}
	if (has_text) {
		if (slash)
			put(b, "/", 1);
		put(b, text.data, text.len);
		slash = true;
		while (branch->depth > leaf->start) /* levels that were the leaf's alone once */
			branch = branch_at(ix, branch->parent);
	}
	for (; branch != ix->root; branch = branch_at(ix, branch->parent)) {
		if (slash)
			put(b, "/", 1);
		slash = true;
		if (branch->is_plus)
			put(b, "+", 1);
		else
			put(b, text_all(branch->text, branch->text_len), branch->text_len);
	}
}

size_t
topic_index_filter(struct topic_index *ix, const struct topic_node *node, char *buf, size_t cap)
{
	struct backwards count = { NULL, 0 }, write;

	pthread_mutex_lock(&ix->lock); /* a new filter may put branches above it */
	put_filter(ix, node, &count);
	if (count.len <= cap) {
		write = (struct backwards){ buf + count.len, 0 };
		put_filter(ix, node, &write);
	}
	pthread_mutex_unlock(&ix->lock);
	return count.len;
}
