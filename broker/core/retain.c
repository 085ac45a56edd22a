/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retain - see retain.h; the order and the jumps of a filter are in retain_order.h
 *
 * Each Topic Name has an entry in two structures: a hash table, for PUBLISH and for
 * filters without wildcards, and a skip list in level order, for filters with. A set
 * instead of a tree by levels: a Topic Name of 65,535 levels costs one entry like any other.
 * Both grow an entry at a time (the hash table by linear hashing), so that no call
 * pays for the growth of all.
 *
 * Both are keyed with random numbers of this process: a peer that chooses Topic Names cannot aim
 * at one chain.
 */
#include "retain.h"

#include "message.h"
#include "mqtt/topic.h"
#include "retain_order.h"
#include "topic_level.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#define HEIGHT_MAX    16 /* a quarter of the entries of a height is higher: enough for 4^16 */
#define SEGMENT_MAX   48
#define PORTION       64  /* messages per holding of the lock */
#define PORTION_NODES 256 /* entries looked at per holding of the lock */
#define NODE_BYTES    128 /* looking at a long Topic Name costs: one more node for so many bytes */

struct entry {
	struct message *msg;
	struct entry *hash_next;
	uint32_t hash;
	uint8_t height;
	struct entry *next[];
};

struct retain {
	pthread_rwlock_t lock; /* a leaf: held for one portion, never while a visitor runs */
	struct topic_key key;
	uint64_t random;

	struct entry *head[HEIGHT_MAX];
	/*
	 * Linear hashing: bucket b lies in segment log2(b), which holds as many buckets as all
	 * before it.
	 */
	struct entry **segments[SEGMENT_MAX];
	size_t buckets;

	struct entry *sweep_at; /* where retain_sweep goes on; NULL: at the beginning */
	uint64_t expiring;      /* messages with an expiry */
	_Atomic uint64_t messages, bytes;
};

/* ---- hash table ----------------------------------------------------------------------------- */

static struct entry **
bucket_at(struct retain *st, size_t b)
{
	unsigned segment = b == 0 ? 0 : (unsigned)(64 - __builtin_clzll((uint64_t)b));

	return &st->segments[segment][b == 0 ? 0 : b - ((size_t)1 << (segment - 1))];
}

/* The greatest power of two that is not greater. */
static size_t
power_below(size_t n)
{
	return (size_t)1 << (63 - __builtin_clzll((uint64_t)n));
}

static size_t
bucket_of(const struct retain *st, uint32_t hash)
{
	size_t below = power_below(st->buckets);
	size_t b = hash & (2 * below - 1);

	return b < st->buckets ? b : b - below;
}

static uint32_t
hash_of(const struct retain *st, struct grapnel_str topic_name)
{
	uint64_t hash = topic_hash(&st->key, topic_name);

	return (uint32_t)(hash ^ hash >> 32);
}

static struct entry **
find(struct retain *st, struct grapnel_str topic_name, uint32_t hash)
{
	struct entry **link = bucket_at(st, bucket_of(st, hash)), *e;

	for (; (e = *link) != NULL; link = &e->hash_next)
		if (e->hash == hash && e->msg->topic_len == topic_name.len &&
		    memcmp(e->msg->topic, topic_name.data, topic_name.len) == 0)
			return link;
	return NULL;
}

/*
 * One more bucket, which takes its part of an older one. Without memory the chains get longer: that
 * is all.
 */
static void
buckets_grow(struct retain *st)
{
	size_t b = st->buckets, below = power_below(b);
	unsigned segment = (unsigned)(64 - __builtin_clzll((uint64_t)b));
	struct entry **from, **to, *e;

	if (b == (size_t)1 << 31)
		return;
	if (st->segments[segment] == NULL &&
	    (st->segments[segment] = calloc(below, sizeof(struct entry *))) == NULL)
		return;
	st->buckets++;
	from = bucket_at(st, b - below);
	to = bucket_at(st, b);
	while ((e = *from) != NULL) {
		if (bucket_of(st, e->hash) == b) {
			*from = e->hash_next;
			e->hash_next = *to;
			*to = e;
		} else {
			from = &e->hash_next;
		}
	}
}

static void
buckets_shrink(struct retain *st)
{
	size_t b = st->buckets - 1, below;
	struct entry **last, **link;

	if (b == 0)
		return;
	below = power_below(b);
	last = bucket_at(st, b);
	for (link = bucket_at(st, b - below); *link != NULL; link = &(*link)->hash_next)
		;
	*link = *last;
	*last = NULL;
	st->buckets--;
	if (b == below) { /* it was the first of its segment */
		unsigned segment = (unsigned)(64 - __builtin_clzll((uint64_t)b));

		free(st->segments[segment]);
		st->segments[segment] = NULL;
	}
}

/* ---- skip list ------------------------------------------------------------------------------ */

static unsigned
random_height(struct retain *st)
{
	unsigned height = 1;
	uint64_t x;

	st->random += 0x9e3779b97f4a7c15u;
	x = topic_mix(st->random ^ st->key.seed, st->key.full);
	while (height < HEIGHT_MAX && (x & 3) == 0) {
		height++;
		x >>= 2;
	}
	return height;
}

static bool
is_before(const struct entry *e, struct grapnel_str key)
{
	return retain_compare(message_topic(e->msg), key) < 0;
}

/*
 * The first entry at or behind the key; before[h]: the link to it (or behind it) at each height,
 * may be NULL.
 */
static struct entry *
seek(struct retain *st, struct grapnel_str key, struct entry ***before)
{
	struct entry **next = st->head, *e, *not_before = NULL;

	for (unsigned h = HEIGHT_MAX; h-- > 0;) {
		/*
		 * What was found to be behind the key one level above need not be compared again.
		 */
		for (; (e = next[h]) != not_before && is_before(e, key); next = e->next)
			;
		not_before = e;
		if (before != NULL)
			before[h] = &next[h];
	}
	return not_before;
}

/* ---- replace, remove ------------------------------------------------------------------------ */

static void
count(struct retain *st, const struct message *msg, bool in)
{
	uint64_t size = message_size(msg);

	if (in) {
		atomic_fetch_add_explicit(&st->messages, 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&st->bytes, size, memory_order_relaxed);
		st->expiring += (msg->flags & MSG_EXPIRES) != 0;
	} else {
		atomic_fetch_sub_explicit(&st->messages, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&st->bytes, size, memory_order_relaxed);
		st->expiring -= (msg->flags & MSG_EXPIRES) != 0;
	}
}

static bool
insert_locked(struct retain *st, struct message *msg, uint32_t hash)
{
	unsigned height = random_height(st);
	struct entry *e = malloc(sizeof(*e) + height * sizeof(struct entry *)), **bucket;
	struct entry **before[HEIGHT_MAX];

	if (e == NULL)
		return false;
	e->msg = msg;
	e->hash = hash;
	e->height = (uint8_t)height;
	seek(st, message_topic(msg), before);
	for (unsigned h = 0; h < height; h++) {
		e->next[h] = *before[h];
		*before[h] = e;
	}
	bucket = bucket_at(st, bucket_of(st, hash));
	e->hash_next = *bucket;
	*bucket = e;
	count(st, msg, true);
	if (atomic_load_explicit(&st->messages, memory_order_relaxed) > st->buckets)
		buckets_grow(st);
	return true;
}

/* Takes the entry out of everything. @return its message, with the reference of the index. */
static struct message *
remove_locked(struct retain *st, struct entry **link)
{
	struct entry *e = *link, **before[HEIGHT_MAX];
	struct message *msg = e->msg;

	seek(st, message_topic(msg), before);
	for (unsigned h = 0; h < e->height; h++) {
		assert(*before[h] == e);
		*before[h] = e->next[h];
	}
	*link = e->hash_next;
	if (st->sweep_at == e)
		st->sweep_at = e->next[0];
	free(e);
	count(st, msg, false);
	if (atomic_load_explicit(&st->messages, memory_order_relaxed) < st->buckets / 2)
		buckets_shrink(st);
	return msg;
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

int
retain_set(
    struct retain *st, struct message *msg, uint64_t max_messages, uint64_t max_bytes, bool *had)
{
	struct grapnel_str topic_name = message_topic(msg);
	struct message *keep = NULL, *old = NULL;
	uint32_t hash = hash_of(st, topic_name);
	int err = GRAPNEL_OK;
	struct entry **link;

	if (msg->payload_len > 0 && (keep = message_keep(msg)) == NULL)
		return GRAPNEL_ENOMEM;
	pthread_rwlock_wrlock(&st->lock);
	link = find(st, topic_name, hash);
	if (had != NULL)
		*had = link != NULL;
	if (keep == NULL) {
		if (link != NULL)
			old = remove_locked(st, link);
	} else if (over_limit(
		       st, keep, link != NULL ? (*link)->msg : NULL, max_messages, max_bytes)) {
		err = GRAPNEL_EQUOTA;
	} else if (link != NULL) {
		old = (*link)->msg;
		count(st, old, false);
		(*link)->msg = keep;
		count(st, keep, true);
	} else if (!insert_locked(st, keep, hash)) {
		err = GRAPNEL_ENOMEM;
	}
	pthread_rwlock_unlock(&st->lock);
	message_unref(old);
	if (err != GRAPNEL_OK)
		message_unref(keep);
	return err;
}

bool
retain_remove(struct retain *st, const struct message *msg)
{
	struct message *old = NULL;
	struct entry **link;

	pthread_rwlock_wrlock(&st->lock);
	link = find(st, message_topic(msg), hash_of(st, message_topic(msg)));
	if (link != NULL && (*link)->msg == msg)
		old = remove_locked(st, link);
	pthread_rwlock_unlock(&st->lock);
	message_unref(old); /* the caller has one of its own, so msg lives until here */
	return old != NULL;
}

/* ---- walks ---------------------------------------------------------------------------------- */

struct portion {
	struct message *msgs[PORTION];
	unsigned count, count_max;
	unsigned nodes; /* still allowed */
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
spend(unsigned *nodes, const struct entry *e)
{
	unsigned cost = 1 + e->msg->topic_len / NODE_BYTES;

	*nodes -= *nodes < cost ? *nodes : cost;
}

/* From the entry that did not match to the first at or behind the key: it is near, mostly. */
static struct entry *
jump_to(struct retain *st, struct entry *e, struct grapnel_str key, unsigned *nodes)
{
	for (unsigned i = 0; i < 3; i++) {
		e = e->next[0];
		if (e == NULL || !is_before(e, key))
			return e;
		spend(nodes, e);
	}
	return seek(st, key, NULL);
}

/* Fill a portion from the cursor on, and set it behind. Under the read lock. */
static int
gather_locked(struct retain *st, struct grapnel_str filter, struct retain_cursor *c,
    struct portion *p, char **key_buf)
{
	static const struct grapnel_str nothing = { "", 0 };
	struct entry *e = seek(st, (struct grapnel_str){ c->position, c->position_len }, NULL);
	struct grapnel_str key;
	struct retain_jump jump;

	while (e != NULL) {
		if (p->count == p->count_max || p->nodes == 0)
			return cursor_set(c, message_topic(e->msg), nothing) ? GRAPNEL_OK
									     : GRAPNEL_ENOMEM;
		spend(&p->nodes, e);
		switch (retain_judge(filter, message_topic(e->msg), &jump)) {
		case RETAIN_MATCH:
			p->msgs[p->count++] = message_ref(e->msg);
			e = e->next[0];
			break;
		case RETAIN_JUMP:
			/* head < 64 KiB, being of a Topic Name; tail is of a filter or one byte */
			if (*key_buf == NULL && (*key_buf = malloc(2 * 65536 + 2)) == NULL)
				return GRAPNEL_ENOMEM;
			if (jump.head.len > 0)
				memcpy(*key_buf, jump.head.data, jump.head.len);
			memcpy(*key_buf + jump.head.len, jump.tail.data, jump.tail.len);
			key = (struct grapnel_str){ *key_buf, jump.head.len + jump.tail.len };
			e = jump_to(st, e, key, &p->nodes);
			break;
		case RETAIN_END:
			e = NULL;
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
	struct entry **link;

	pthread_rwlock_rdlock(&st->lock);
	if ((link = find(st, filter, hash_of(st, filter))) != NULL)
		msg = message_ref((*link)->msg);
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

unsigned
retain_sweep(struct retain *st, uint64_t now_ms, unsigned max_nodes,
    void (*removed)(struct message *msg, void *arg), void *arg)
{
	struct message *msgs[PORTION];
	unsigned total = 0, n, nodes, nodes_max;
	struct entry *e;
	bool end = false;

	while (!end && max_nodes > 0) {
		n = 0;
		pthread_rwlock_wrlock(&st->lock);
		e = st->sweep_at != NULL ? st->sweep_at : st->head[0];
		if (st->expiring == 0)
			e = NULL;
		nodes_max = max_nodes < PORTION_NODES ? max_nodes : PORTION_NODES;
		for (nodes = 0; e != NULL && nodes < nodes_max && n < PORTION; nodes++) {
			struct entry *next = e->next[0];

			if (message_expired(e->msg, now_ms))
				msgs[n++] =
				    remove_locked(st, find(st, message_topic(e->msg), e->hash));
			e = next;
		}
		st->sweep_at = e;
		end = e == NULL;
		pthread_rwlock_unlock(&st->lock);
		for (unsigned i = 0; i < n; i++) {
			if (removed != NULL)
				removed(msgs[i], arg);
			message_unref(msgs[i]);
		}
		total += n;
		max_nodes -= nodes;
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
	if ((st->segments[0] = calloc(1, sizeof(struct entry *))) == NULL) {
		free(st);
		return GRAPNEL_ENOMEM;
	}
	st->buckets = 1;
	topic_key_init(&st->key);
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
	struct entry *e, *next;

	if (st == NULL)
		return;
	for (e = st->head[0]; e != NULL; e = next) {
		next = e->next[0];
		message_unref(e->msg);
		free(e);
	}
	for (unsigned i = 0; i < SEGMENT_MAX; i++)
		free(st->segments[i]);
	pthread_rwlock_destroy(&st->lock);
	free(st);
}
