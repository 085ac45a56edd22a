/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain - see retain.h; the set of messages is in retain_tree.h, the order and the jumps of a
 * filter in retain_order.h
 *
 * A sorted set instead of a tree by levels: a Topic Name of 65,535 levels costs one entry like any
 * other. And nothing but that set: a hash table beside it would find a Topic Name faster when all
 * is in the cache, and costs a cache miss per PUBLISH when it is not.
 */
#include "retain.h"

#include "message.h"
#include "mqtt/topic.h"
#include "retain_order.h"
#include "retain_tree.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define PORTION       64  /* messages per holding of the lock */
#define PORTION_NODES 256 /* Topic Names looked at per holding of the lock */
#define NODE_BYTES    128 /* looking at a long Topic Name costs: one more node for so many bytes */

struct retain {
	pthread_rwlock_t lock; /* a leaf: held for one portion, never while a visitor runs */
	struct retain_tree tree;
	struct retain_cursor sweep; /* where retain_sweep goes on */
	uint64_t expiring;          /* messages with an expiry */
	uint64_t seq;               /* of the last change */
	_Atomic uint64_t messages, bytes;
};

/* ---- replace, remove ------------------------------------------------------------------------ */

/* Only the broker writes $SYS, a bounded number of topics: no part of what Clients may keep. */
static bool
is_limited(const struct message *msg)
{
	return msg->topic_len < 5 || memcmp(msg->topic, "$SYS/", 5) != 0;
}

/* Under the write lock: atomic only for retain_stats. */
static void
count(struct retain *st, const struct message *msg, bool in)
{
	uint64_t messages = atomic_load_explicit(&st->messages, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&st->bytes, memory_order_relaxed);
	uint64_t size = message_size(msg), expires = (msg->flags & MSG_EXPIRES) != 0;

	st->expiring += in ? expires : -expires;
	if (!is_limited(msg))
		return;
	atomic_store_explicit(
	    &st->messages, in ? messages + 1 : messages - 1, memory_order_relaxed);
	atomic_store_explicit(&st->bytes, in ? bytes + size : bytes - size, memory_order_relaxed);
}

static bool
over_limit(const struct retain *st, const struct message *msg, const struct message *old,
    uint64_t max_messages, uint64_t max_bytes)
{
	uint64_t messages = atomic_load_explicit(&st->messages, memory_order_relaxed);
	uint64_t bytes = atomic_load_explicit(&st->bytes, memory_order_relaxed);
	uint64_t size = message_size(msg), old_size = old != NULL ? message_size(old) : 0;

	if (old == NULL && messages >= max_messages)
		return true;
	/*
	 * What makes it smaller is welcome even if a reload has lowered the limit below what is
	 * there.
	 */
	return size > old_size && (bytes > max_bytes || size - old_size > max_bytes - bytes);
}

void
retain_begin(struct retain *st, uint64_t seq)
{
	st->seq = seq;
}

int
retain_set(struct retain *st, struct message *msg, uint64_t max_messages, uint64_t max_bytes,
    bool *had, uint64_t *seq)
{
	struct message *keep = NULL, *old = NULL;
	struct retain_place place;
	int err = GRAPNEL_OK;

	if (msg->payload_len > 0 && (keep = message_keep(msg)) == NULL)
		return GRAPNEL_ENOMEM;
	pthread_rwlock_wrlock(&st->lock);
	if (retain_tree_seek(&st->tree, message_topic(msg), &place))
		old = retain_place_settle(&place);
	if (had != NULL)
		*had = old != NULL;
	if (keep == NULL) {
		if (old != NULL)
			retain_tree_remove(&st->tree, &place);
	} else if (is_limited(keep) && over_limit(st, keep, old, max_messages, max_bytes)) {
		err = GRAPNEL_EQUOTA;
	} else if (old != NULL) {
		retain_tree_replace(&place, keep);
	} else if (!retain_tree_insert(&st->tree, &place, keep)) {
		err = GRAPNEL_ENOMEM;
	}
	if (err == GRAPNEL_OK && old != NULL)
		count(st, old, false);
	if (err == GRAPNEL_OK && keep != NULL)
		count(st, keep, true);
	if (err == GRAPNEL_OK)
		st->seq++;
	if (seq != NULL)
		*seq = st->seq;
	pthread_rwlock_unlock(&st->lock);
	message_unref(err == GRAPNEL_OK ? old : keep);
	return err;
}

bool
retain_remove(struct retain *st, const struct message *msg)
{
	struct message *old = NULL;
	struct retain_place place;

	pthread_rwlock_wrlock(&st->lock);
	if (retain_tree_seek(&st->tree, message_topic(msg), &place) &&
	    retain_place_settle(&place) == msg) {
		old = retain_tree_remove(&st->tree, &place);
		count(st, old, false);
	}
	pthread_rwlock_unlock(&st->lock);
	message_unref(old); /* the caller has one of its own, so msg lives until here */
	return old != NULL;
}

/* ---- walks ---------------------------------------------------------------------------------- */

struct portion {
	struct message *msgs[PORTION];
	unsigned count, count_max;
	unsigned nodes; /* still allowed */
	uint64_t seq;   /* of the first one removed */
};

static bool
cursor_set(struct retain_cursor *c, struct grapnel_str head, struct grapnel_str tail)
{
	size_t len = head.len + tail.len;
	char *position = malloc(len > 0 ? len : 1);

	if (position == NULL)
		return false;
	if (head.len > 0)
		memcpy(position, head.data, head.len);
	if (tail.len > 0)
		memcpy(position + head.len, tail.data, tail.len);
	free(c->position);
	c->position = position;
	c->position_len = len;
	return true;
}

static void
spend(unsigned *nodes, const struct message *msg)
{
	unsigned cost = 1 + msg->topic_len / NODE_BYTES;

	*nodes -= *nodes < cost ? *nodes : cost;
}

/* Fill a portion from the cursor on, and set it behind. Under the read lock. */
static int
gather_locked(struct retain *st, struct grapnel_str filter, struct retain_cursor *c,
    struct portion *p, char **key_buf)
{
	static const struct grapnel_str nothing = { "", 0 };
	const struct retain_node *node = NULL;
	struct retain_levels needed;
	struct retain_place place;
	struct retain_jump jump;
	struct grapnel_str key;
	struct message *msg;

	retain_levels_of(&st->tree.key, filter, &needed);
	(void)retain_tree_seek(
	    &st->tree, (struct grapnel_str){ c->position, c->position_len }, &place);
	msg = retain_place_settle(&place);
	for (bool first = true; msg != NULL; first = false) {
		if (place.nodes[0] != node) {
			msg = retain_place_skip(&place, &needed, &p->nodes);
			if (msg == NULL)
				break;
			node = place.nodes[0];
		}
		/* At least one is looked at, or a walk in the smallest portions never ended. */
		if (!first && (p->count == p->count_max || p->nodes == 0))
			return cursor_set(c, message_topic(msg), nothing) ? GRAPNEL_OK
									  : GRAPNEL_ENOMEM;
		spend(&p->nodes, msg);
		switch (retain_judge(filter, message_topic(msg), &jump)) {
		case RETAIN_MATCH:
			p->msgs[p->count++] = message_ref(msg);
			msg = retain_place_next(&place);
			break;
		case RETAIN_JUMP:
			/* head < 64 KiB, being of a Topic Name; tail is of a filter or one byte */
			if (*key_buf == NULL && (*key_buf = malloc(2 * 65536 + 2)) == NULL)
				return GRAPNEL_ENOMEM;
			if (jump.head.len > 0)
				memcpy(*key_buf, jump.head.data, jump.head.len);
			memcpy(*key_buf + jump.head.len, jump.tail.data, jump.tail.len);
			key = (struct grapnel_str){ *key_buf, jump.head.len + jump.tail.len };
			msg = retain_place_seek(&st->tree, key, &place);
			break;
		case RETAIN_END:
			msg = NULL;
			break;
		}
	}
	c->done = true;
	return GRAPNEL_OK;
}

static void
match_exact(struct retain *st, struct grapnel_str filter, struct retain_cursor *c,
    retain_visit_fn visit, void *arg)
{
	struct message *msg = NULL;
	struct retain_place place;

	pthread_rwlock_rdlock(&st->lock);
	if (retain_tree_seek(&st->tree, filter, &place))
		msg = message_ref(retain_place_settle(&place));
	pthread_rwlock_unlock(&st->lock);
	c->done = true;
	if (msg != NULL)
		visit(msg, arg);
	message_unref(msg);
}

int
retain_match(struct retain *st, struct grapnel_str filter, struct retain_cursor *c,
    unsigned max_visits, unsigned max_nodes, retain_visit_fn visit, void *arg)
{
	char *key_buf = NULL;
	int err = GRAPNEL_OK;
	struct portion p;

	if (max_visits == 0 || max_nodes == 0 || filter.len > UINT16_MAX)
		return GRAPNEL_EINVAL;
	if (!c->done && !topic_has_wildcard(filter)) {
		match_exact(st, filter, c, visit, arg);
		return GRAPNEL_OK;
	}
	while (!c->done && max_visits > 0 && max_nodes > 0 && err == GRAPNEL_OK) {
		unsigned nodes = max_nodes < PORTION_NODES ? max_nodes : PORTION_NODES;

		p.count = 0;
		p.count_max = max_visits < PORTION ? max_visits : PORTION;
		p.nodes = nodes;
		pthread_rwlock_rdlock(&st->lock);
		err = gather_locked(st, filter, c, &p, &key_buf);
		pthread_rwlock_unlock(&st->lock);
		for (unsigned i = 0; i < p.count; i++) {
			if (err == GRAPNEL_OK) /* or the cursor stays, and they come again */
				visit(p.msgs[i], arg);
			message_unref(p.msgs[i]);
		}
		max_visits -= p.count;
		max_nodes -= nodes - p.nodes;
	}
	free(key_buf);
	return err;
}

void
retain_cursor_clear(struct retain_cursor *c)
{
	free(c->position);
	*c = (struct retain_cursor){ 0 };
}

/* The expired ones of a portion, which are removed, from the cursor on. Under the write lock. */
static void
sweep_locked(struct retain *st, uint64_t now_ms, struct portion *p)
{
	static const struct grapnel_str nothing = { "", 0 };
	struct retain_cursor *c = &st->sweep;
	struct retain_place place;
	struct message *msg;

	(void)retain_tree_seek(
	    &st->tree, (struct grapnel_str){ c->position, c->position_len }, &place);
	msg = st->expiring > 0 ? retain_place_settle(&place) : NULL;
	for (; msg != NULL && p->nodes > 0 && p->count < p->count_max; p->nodes--) {
		if (message_expired(msg, now_ms))
			p->msgs[p->count++] = msg;
		msg = retain_place_next(&place);
	}
	if (msg == NULL || !cursor_set(c, message_topic(msg), nothing)) {
		retain_cursor_clear(c);
		c->done = true;
	}
	p->seq = st->seq + 1;
	st->seq += p->count;
	for (unsigned i = 0; i < p->count; i++) {
		bool there = retain_tree_seek(&st->tree, message_topic(p->msgs[i]), &place);

		assert(there);
		retain_tree_remove(&st->tree, &place);
		count(st, p->msgs[i], false);
	}
}

unsigned
retain_sweep(struct retain *st, uint64_t now_ms, unsigned max_nodes,
    void (*removed)(struct message *msg, uint64_t seq, void *arg), void *arg)
{
	unsigned total = 0, nodes;
	bool end = false;
	struct portion p;

	while (!end && max_nodes > 0) {
		nodes = max_nodes < PORTION_NODES ? max_nodes : PORTION_NODES;
		p = (struct portion){ .count_max = PORTION, .nodes = nodes };
		pthread_rwlock_wrlock(&st->lock);
		sweep_locked(st, now_ms, &p);
		end = st->sweep.done;
		st->sweep.done = false;
		pthread_rwlock_unlock(&st->lock);
		for (unsigned i = 0; i < p.count; i++) {
			if (removed != NULL)
				removed(p.msgs[i], p.seq + i, arg);
			message_unref(p.msgs[i]);
		}
		total += p.count;
		max_nodes -= nodes - p.nodes;
	}
	return total;
}

void
retain_stats(const struct retain *st, struct retain_stats *out)
{
	out->messages = atomic_load_explicit(&st->messages, memory_order_relaxed);
	out->bytes = atomic_load_explicit(&st->bytes, memory_order_relaxed);
}

/* ---- life ----------------------------------------------------------------------------------- */

int
retain_new(struct retain **out)
{
	struct retain *st = calloc(1, sizeof(*st));
	pthread_rwlockattr_t attr;

	if (st == NULL)
		return GRAPNEL_ENOMEM;
	retain_tree_init(&st->tree);
	pthread_rwlockattr_init(&attr);
	/* Walks follow each other without a gap: a PUBLISH must not wait for the last of them. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&st->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	*out = st;
	return GRAPNEL_OK;
}

void
retain_free(struct retain *st)
{
	if (st == NULL)
		return;
	retain_tree_fini(&st->tree, message_unref);
	retain_cursor_clear(&st->sweep);
	pthread_rwlock_destroy(&st->lock);
	free(st);
}
