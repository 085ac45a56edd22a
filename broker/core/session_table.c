/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_table - where a worker's sessions are, and how they are found
 *
 * Sessions stand in slabs, without a header of the allocator each, on cache lines of their own; a slab that has become
 * empty is given back. A session's number (slab and place in it) is the low part of its generation, so mail from
 * other threads finds it without a table. Client Identifiers are found by linear hashing over these numbers:
 * each new session splits one bucket, so that growing never makes anybody wait.
 */
#include "core/session.h"

#include <stdlib.h>
#include <string.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h> /* of a session that ended nobody may have kept a pointer */
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define SLAB_SESSIONS 63u
#define SLAB_BITS     6u  /* a number is slab << SLAB_BITS | place */
#define NUMBER_BITS   24u /* of a generation; above it counts the broker's sessions */
#define SLABS_MAX     (1u << (NUMBER_BITS - SLAB_BITS))
#define FULL          ((UINT64_C(1) << SLAB_SESSIONS) - 1)
#define BUCKETS_MIN   64u
#define SITES         16u
#define NAMES_MAX     65535u

struct slab {
	struct slab *next, **link; /* of those that have room; link NULL: full */
	uint64_t used;             /* bit per session */
	uint32_t number;
	struct session sessions[SLAB_SESSIONS];
};

struct session_table {
	struct slab **slabs;                           /* by number; NULL: given back */
	uint32_t slab_count, slab_capacity, slab_hole; /* no NULL is before slab_hole */
	struct slab *room;
	/* by (mountpoint, client id): 1 + number of the first, the others follow by hash_next; 0: end */
	uint32_t *buckets;
	uint32_t bucket_count, bucket_capacity, bucket_mask; /* mask: of the next power of two */
	uint32_t count;
	struct site *sites[SITES]; /* last seen, by hash */
	char **names;              /* of plugin instances; few, and they stay */
	uint32_t name_count;
};

/* ---- slabs ---------------------------------------------------------------------------- */

static struct session *
session_at(const struct session_table *t, uint32_t number)
{
	return &t->slabs[number >> SLAB_BITS]->sessions[number & ((1u << SLAB_BITS) - 1)];
}

static uint32_t
number_of(const struct session *s)
{
	return (uint32_t)session_generation(s) & ((1u << NUMBER_BITS) - 1);
}

static void
room_push(struct session_table *t, struct slab *slab)
{
	slab->next = t->room;
	slab->link = &t->room;
	if (slab->next != NULL)
		slab->next->link = &slab->next;
	t->room = slab;
}

static void
room_remove(struct slab *slab)
{
	*slab->link = slab->next;
	if (slab->next != NULL)
		slab->next->link = slab->link;
	slab->link = NULL;
}

static struct slab *
slab_new(struct session_table *t)
{
	uint32_t number = t->slab_hole;
	struct slab *slab, **slabs;

	while (number < t->slab_count && t->slabs[number] != NULL)
		number++;
	t->slab_hole = number;
	if (number == SLABS_MAX)
		return NULL;
	if (number == t->slab_capacity) {
		uint32_t capacity = t->slab_capacity + t->slab_capacity / 4 + 8;

		if ((slabs = realloc(t->slabs, capacity * sizeof(struct slab *))) == NULL)
			return NULL;
		t->slabs = slabs;
		t->slab_capacity = capacity;
	}
	if ((slab = aligned_alloc(_Alignof(struct slab), sizeof(*slab))) == NULL)
		return NULL;
	slab->used = 0;
	slab->number = number;
	ASAN_POISON_MEMORY_REGION(slab->sessions, sizeof(slab->sessions));
	t->slabs[number] = slab;
	if (number == t->slab_count)
		t->slab_count++;
	room_push(t, slab);
	return slab;
}

static struct session *
slab_take(struct session_table *t, uint32_t *number)
{
	struct slab *slab = t->room != NULL ? t->room : slab_new(t);
	struct session *s;
	uint32_t at;

	if (slab == NULL)
		return NULL;
	at = (uint32_t)__builtin_ctzll(~slab->used);
	slab->used |= UINT64_C(1) << at;
	if (slab->used == FULL)
		room_remove(slab);
	s = &slab->sessions[at];
	ASAN_UNPOISON_MEMORY_REGION(s, sizeof(*s));
	memset(s, 0, sizeof(*s));
	*number = slab->number << SLAB_BITS | at;
	return s;
}

static void
slab_give(struct session_table *t, uint32_t number)
{
	struct slab *slab = t->slabs[number >> SLAB_BITS];
	uint32_t at = number & ((1u << SLAB_BITS) - 1);

	ASAN_POISON_MEMORY_REGION(&slab->sessions[at], sizeof(slab->sessions[at]));
	if (slab->used == FULL)
		room_push(t, slab);
	slab->used &= ~(UINT64_C(1) << at);
	if (slab->used != 0)
		return;
	room_remove(slab);
	t->slabs[slab->number] = NULL;
	if (slab->number < t->slab_hole)
		t->slab_hole = slab->number;
	while (t->slab_count > 0 && t->slabs[t->slab_count - 1] == NULL)
		t->slab_count--;
	if (t->slab_hole > t->slab_count)
		t->slab_hole = t->slab_count;
	free(slab);
}

/* ---- by client id ------------------------------------------------------------------------ */

static uint32_t
id_hash(const struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	uint64_t hash = broker_hash(w->broker, client_id);

	/* The length of the first part separates ("a", "bc") from ("ab", "c"). */
	if (mountpoint.len > 0)
		hash += broker_hash(w->broker, mountpoint) * 0x9e3779b97f4a7c15u + mountpoint.len;
	return (uint32_t)(hash >> 32 ^ hash);
}

static uint32_t *
bucket_of(struct session_table *t, uint32_t hash)
{
	uint32_t at = hash & t->bucket_mask;

	return &t->buckets[at < t->bucket_count ? at : at & t->bucket_mask >> 1];
}

/* One more bucket: it takes its part of the one that stood for both. */
static void
buckets_grow(struct session_table *t)
{
	uint32_t neu = t->bucket_count, *from, *to, number;

	if (neu == t->bucket_capacity) {
		uint32_t capacity = neu + neu / 8, *buckets;

		/* Longer chains then; nothing is lost. */
		if ((buckets = realloc(t->buckets, capacity * sizeof(*buckets))) == NULL)
			return;
		t->buckets = buckets;
		t->bucket_capacity = capacity;
	}
	if (neu > t->bucket_mask)
		t->bucket_mask = t->bucket_mask << 1 | 1u;
	t->bucket_count++;
	from = &t->buckets[neu & t->bucket_mask >> 1];
	to = &t->buckets[neu];
	while ((number = *from) != 0) {
		struct session *s = session_at(t, number - 1);

		if ((s->hash & t->bucket_mask) == neu) {
			*from = s->hash_next;
			*to = number;
			to = &s->hash_next;
		} else {
			from = &s->hash_next;
		}
	}
	*to = 0;
}

static void
buckets_shrink(struct session_table *t)
{
	uint32_t last = t->bucket_count - 1, *to, *buckets;

	to = &t->buckets[last & t->bucket_mask >> 1];
	while (*to != 0)
		to = &session_at(t, *to - 1)->hash_next;
	*to = t->buckets[last];
	t->bucket_count = last;
	if (last == (t->bucket_mask >> 1) + 1)
		t->bucket_mask >>= 1;
	if (last < t->bucket_capacity / 2 &&
	    (buckets = realloc(t->buckets, last * sizeof(*buckets))) != NULL) {
		t->buckets = buckets;
		t->bucket_capacity = last;
	}
}

static bool
same(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

struct session *
session_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	struct session_table *t = w->sessions;
	uint32_t hash = id_hash(w, mountpoint, client_id), number = *bucket_of(t, hash);

	while (number != 0) {
		struct session *s = session_at(t, number - 1);

		if (s->hash == hash && same(identity_client_id(s->identity), client_id) &&
		    same(session_mountpoint(s), mountpoint))
			return s;
		number = s->hash_next;
	}
	return NULL;
}

/* ---- the table --------------------------------------------------------------------------- */

int
session_table_new(struct worker *w)
{
	struct session_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	t->bucket_count = t->bucket_capacity = BUCKETS_MIN;
	t->bucket_mask = BUCKETS_MIN - 1;
	t->buckets = calloc(BUCKETS_MIN, sizeof(*t->buckets));
	w->sessions = t;
	return t->buckets != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

struct session *
session_table_add(struct worker *w, struct identity *identity)
{
	struct session_table *t = w->sessions;
	uint32_t number, *bucket;
	struct session *s = slab_take(t, &number);

	if (s == NULL)
		return NULL;
	identity->session_generation =
	    (atomic_fetch_add_explicit(&w->broker->session_generation, 1, memory_order_relaxed) + 1)
		<< NUMBER_BITS |
	    number;
	s->w = w;
	s->identity = identity;
	s->hash = id_hash(w, identity->site->mountpoint, identity_client_id(identity));
	if (t->count++ >= t->bucket_count)
		buckets_grow(t);
	bucket = bucket_of(t, s->hash);
	s->hash_next = *bucket;
	*bucket = number + 1;
	return s;
}

void
session_table_remove(struct session *s)
{
	struct session_table *t = s->w->sessions;
	uint32_t number = number_of(s), *p = bucket_of(t, s->hash);

	while (*p != number + 1)
		p = &session_at(t, *p - 1)->hash_next;
	*p = s->hash_next;
	slab_give(t, number);
	/* A quarter fewer buckets than sessions or more: no back and forth at the border. */
	if (--t->count < t->bucket_count - t->bucket_count / 4 && t->bucket_count > BUCKETS_MIN)
		buckets_shrink(t);
}

struct session *
session_by_generation(struct worker *w, uint64_t generation)
{
	struct session_table *t = w->sessions;
	uint32_t number = (uint32_t)generation & ((1u << NUMBER_BITS) - 1);
	uint32_t at = number & ((1u << SLAB_BITS) - 1);
	const struct slab *slab =
	    number >> SLAB_BITS < t->slab_count ? t->slabs[number >> SLAB_BITS] : NULL;
	struct session *s;

	if (slab == NULL || !(slab->used >> at & 1))
		return NULL;
	s = session_at(t, number);
	return session_generation(s) == generation ? s : NULL;
}

void
session_each(struct worker *w, void (*fn)(struct session *s, void *arg), void *arg)
{
	struct session_table *t = w->sessions;

	/* fn may give back this slab or make new ones: everything is looked up again. */
	for (uint32_t i = 0; i < t->slab_count; i++)
		for (uint32_t at = 0; at < SLAB_SESSIONS && i < t->slab_count; at++)
			if (t->slabs[i] != NULL && t->slabs[i]->used >> at & 1)
				fn(&t->slabs[i]->sessions[at], arg);
}

static void
free_one(struct session *s, void *arg)
{
	(void)arg;
	session_free_all(s);
}

void
session_table_free(struct worker *w)
{
	struct session_table *t = w->sessions;

	if (t == NULL)
		return;
	session_each(w, free_one, NULL);
	for (unsigned i = 0; i < SITES; i++)
		site_unref(t->sites[i]);
	for (uint32_t i = 0; i < t->name_count; i++)
		free(t->names[i]);
	free(t->names);
	free(t->slabs);
	free(t->buckets);
	free(t);
	w->sessions = NULL;
}

/* ---- what many sessions share ------------------------------------------------------------------ */

struct site *
session_site(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str listener)
{
	struct session_table *t = w->sessions;
	uint64_t hash = broker_hash(w->broker, listener);
	struct site **at, *site;

	if (mountpoint.len > 0)
		hash += broker_hash(w->broker, mountpoint);
	at = &t->sites[hash % SITES];
	if (*at != NULL && same((*at)->mountpoint, mountpoint) && same((*at)->listener, listener))
		return *at;
	if ((site = site_new(mountpoint, listener)) == NULL)
		return NULL;
	site_unref(*at);
	return *at = site;
}

uint16_t
session_plugin_number(struct worker *w, const char *name)
{
	struct session_table *t = w->sessions;
	char **names, *copy;

	for (uint32_t i = 0; i < t->name_count; i++)
		if (strcmp(t->names[i], name) == 0)
			return (uint16_t)(i + 1);
	if (t->name_count == NAMES_MAX || (copy = strdup(name)) == NULL)
		return 0;
	if ((names = realloc(t->names, (t->name_count + 1) * sizeof(*names))) == NULL) {
		free(copy);
		return 0;
	}
	t->names = names;
	names[t->name_count++] = copy;
	return (uint16_t)t->name_count;
}

const char *
session_plugin_name(struct worker *w, uint16_t number)
{
	return number > 0 ? w->sessions->names[number - 1] : NULL;
}
