/* SPDX-License-Identifier: Apache-2.0 */
#include "topic_tree.h"

#include <string.h>

size_t
topic_index_filter(
    const struct topic_index *ix, const struct topic_node *node, char *buf, size_t cap)
{
	size_t len = 0, at;

	/* What is above a node that is held does not change: no lock is needed. Once for the length, once for the text. */
	for (const struct topic_node *n = node; n != ix->root; n = node_at(ix, n->parent))
		len += (n->kind == NODE_LITERAL ? n->text_len : 1u) + (n == node ? 0u : 1u);
	if (len > cap)
		return len;
	at = len;
	for (const struct topic_node *n = node; n != ix->root; n = node_at(ix, n->parent)) {
		const char *text = node_text(ix, n);

		if (n != node)
			buf[--at] = '/';
		if (n->kind != NODE_LITERAL) {
			buf[--at] = n->kind == NODE_PLUS ? '+' : '#';
			continue;
		}
		if (n->text_len > TEXT_INLINE_MAX) {
			const char *rest;

			memcpy(&rest, text + 8, sizeof(rest));
			at -= n->text_len;
			memcpy(buf + at, text, 8);
			memcpy(buf + at + 8, rest + 8, n->text_len - 8u);
		} else {
			at -= n->text_len;
			memcpy(buf + at, text, n->text_len);
		}
	}
	return len;
}
