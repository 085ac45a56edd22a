/* SPDX-License-Identifier: Apache-2.0 */
#include "cache.h"

#include "core/worker.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 64u

/* Whom an entry is about, for purging. Two names with the same hash are forgotten together, which does no harm. */
struct about {
	bool any_username, any_client_id; /* the answer is good for others, too */
	uint64_t username, answer_username, client_id;
};

struct entry {
	struct entry *next;          /* of its bucket */
	struct entry *newer, *older; /* by use */
	struct cache_key key;
	struct about about;
	enum grapnel_verdict verdict;
	struct answer *answer; /* heap; NULL: no details */
	uint64_t stored_ms, fresh_until_ms, until_ms;
};

/* A question under way. */
struct flight {
	struct flight *next;
	struct cache_key key;
	uint64_t generation; /* of the cache, when it began */
	struct landing *first, **end;
};

struct cache {
	pthread_mutex_t lock;
	struct cache_limits limits;
	uint64_t generation; /* purges so far */
	struct entry **buckets;
	uint32_t bucket_count, entries;
	struct entry *newest, *oldest;
	struct flight *flights[BUCKETS_FIRST];
	uint32_t waiting;
	uint64_t stored, evicted, purged;
	uint32_t random;
};

struct cache *
cache_new(void)
{
	struct cache *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->buckets = calloc(BUCKETS_FIRST, sizeof(struct entry *));
	if (c->buckets == NULL || pthread_mutex_init(&c->lock, NULL) != 0) {
		free(c->buckets);
		free(c);
		return NULL;
	}
	c->bucket_count = BUCKETS_FIRST;
	c->random = (uint32_t)(uintptr_t)c | 1;
	return c;
}

/* ---- entries, with the lock ------------------------------------------------------------------ */

static uint32_t
number_of(const struct cache_key *key)
{
	uint32_t n;

	memcpy(&n, key->bytes, sizeof(n)); /* it is a hash already */
	return n;
}

static struct entry **
place_of(struct cache *c, const struct cache_key *key)
{
	struct entry **at = &c->buckets[number_of(key) & (c->bucket_count - 1)];

	while (*at != NULL && memcmp((*at)->key.bytes, key->bytes, CACHE_KEY_SIZE) != 0)
		at = &(*at)->next;
	return at;
}

static void
use_unlink(struct cache *c, struct entry *e)
{
	*(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
	*(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
}

static void
use_first(struct cache *c, struct entry *e)
{
	e->newer = NULL;
	e->older = c->newest;
	*(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

static void
drop(struct cache *c, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	use_unlink(c, e);
	c->entries--;
	answer_free(e->answer);
	free(e);
}

static void
shrink_to(struct cache *c, uint32_t most)
{
	while (c->entries > most) {
		drop(c, place_of(c, &c->oldest->key));
		c->evicted++;
	}
}

/* Twice the buckets when they are full; without memory it goes on with longer chains. */
static void
grow(struct cache *c)
{
	uint32_t count = c->bucket_count * 2;
	struct entry **more;

	if (c->entries < c->bucket_count || count == 0 ||
	    (more = calloc(count, sizeof(struct entry *))) == NULL)
		return;
	for (uint32_t i = 0; i < c->bucket_count; i++) {
		struct entry *e, *next;

		for (e = c->buckets[i]; e != NULL; e = next) {
			struct entry **at = &more[number_of(&e->key) & (count - 1)];

			next = e->next;
			e->next = *at;
			*at = e;
		}
	}
	free(c->buckets);
	c->buckets = more;
	c->bucket_count = count;
}

static struct answer *
answer_copy(const struct answer *from, void *space, size_t space_len)
{
	struct answer *copy;
	const char *why;

	return answer_new(&copy, from->kind, &from->u, space, space_len, &why) == GRAPNEL_OK ? copy
											     : NULL;
}

/* false: no memory. */
static bool
entry_copy(
    const struct entry *e, uint64_t now_ms, void *space, size_t space_len, struct cached *out)
{
	out->verdict = e->verdict;
	out->age_ms = (uint32_t)(now_ms - e->stored_ms);
	out->answer = NULL;
	return e->answer == NULL ||
	    (out->answer = answer_copy(e->answer, space, space_len)) != NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

void
cache_free(struct cache *c)
{
	if (c == NULL)
		return;
	shrink_to(c, 0);
	free(c->buckets);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void
cache_limit(struct cache *c, const struct cache_limits *limits)
{
	pthread_mutex_lock(&c->lock);
	c->limits = *limits;
	shrink_to(c, limits->on ? limits->max_entries : 0);
	pthread_mutex_unlock(&c->lock);
}

void
cache_counts(struct cache *c, struct cache_counts *out)
{
	pthread_mutex_lock(&c->lock);
	*out = (struct cache_counts){ .stored = c->stored,
		.evicted = c->evicted,
		.purged = c->purged,
		.entries = c->entries,
		.waiting = c->waiting };
	pthread_mutex_unlock(&c->lock);
}

/* ---- flights, with the lock ------------------------------------------------------------------ */

static struct flight **
flight_of(struct cache *c, const struct cache_key *key)
{
	struct flight **at = &c->flights[number_of(key) % BUCKETS_FIRST];

	while (*at != NULL && memcmp((*at)->key.bytes, key->bytes, CACHE_KEY_SIZE) != 0)
		at = &(*at)->next;
	return at;
}

static enum cache_found
take_off(struct cache *c, struct flight **at, const struct cache_key *key)
{
	struct flight *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return CACHE_OFF;
	f->key = *key;
	f->generation = c->generation;
	f->end = &f->first;
	*at = f;
	return CACHE_ASK;
}

enum cache_found
cache_find(struct cache *c, const struct cache_key *key, uint64_t now_ms, struct landing *landing,
    bool look_only, void *space, size_t space_len, struct cached *out)
{
	enum cache_found found = CACHE_OFF;
	struct flight **at;
	struct entry *e;

	pthread_mutex_lock(&c->lock);
	e = *place_of(c, key);
	if (!c->limits.on) {
		;
	} else if (e != NULL && now_ms < e->fresh_until_ms &&
	    entry_copy(e, now_ms, space, space_len, out)) {
		if (out->answer != NULL && out->answer->kind == ANSWER_ACL) {
			uint64_t left_ms = e->fresh_until_ms - now_ms;

			/* Whoever keeps it keeps it no longer than it is kept here. */
			if (out->answer->u.acl.cache_ttl_ms == 0 ||
			    out->answer->u.acl.cache_ttl_ms > left_ms)
				out->answer->u.acl.cache_ttl_ms = (uint32_t)left_ms;
		}
		if (!look_only) {
			use_unlink(c, e);
			use_first(c, e);
		}
		found = CACHE_FRESH;
	} else if (!look_only) {
		at = flight_of(c, key);
		if (*at == NULL) {
			found = take_off(c, at, key);
		} else if (landing != NULL) {
			landing->next = NULL;
			*(*at)->end = landing;
			(*at)->end = &landing->next;
			c->waiting++;
			found = CACHE_WAITS;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

bool
cache_stale(struct cache *c, const struct cache_key *key, uint64_t now_ms, void *space,
    size_t space_len, struct cached *out)
{
	const struct entry *e;
	bool found;

	pthread_mutex_lock(&c->lock);
	e = *place_of(c, key);
	found = e != NULL && e->verdict == GRAPNEL_ALLOW && now_ms < e->until_ms &&
	    entry_copy(e, now_ms, space, space_len, out);
	pthread_mutex_unlock(&c->lock);
	return found;
}

bool
cache_leave(struct cache *c, const struct cache_key *key, struct landing *landing)
{
	struct landing **l;
	struct flight *f;
	bool found = false;

	pthread_mutex_lock(&c->lock);
	if ((f = *flight_of(c, key)) != NULL) {
		for (l = &f->first; *l != NULL && *l != landing; l = &(*l)->next)
			;
		if (*l != NULL) {
			*l = landing->next;
			if (f->end == &landing->next)
				f->end = l;
			c->waiting--;
			found = true;
		}
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

/* ---- storing, with the lock ------------------------------------------------------------------ */

/* FNV-1a, 64 bits. */
static uint64_t
name_hash(struct grapnel_str s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < s.len; i++)
		h = (h ^ (unsigned char)s.data[i]) * UINT64_C(0x100000001b3);
	return h;
}

static uint32_t
jittered(struct cache *c, uint32_t ttl_ms)
{
	uint64_t most = (uint64_t)ttl_ms * c->limits.jitter / 100;

	if (most == 0)
		return ttl_ms;
	c->random ^= c->random << 13; /* xorshift: only to spread, not to be secret */
	c->random ^= c->random >> 17;
	c->random ^= c->random << 5;
	return ttl_ms - (uint32_t)(c->random % most);
}

/* How long this answer may be used; 0: not at all. */
static uint64_t
time_to_live(struct cache *c, enum grapnel_verdict verdict, const struct answer *answer)
{
	uint64_t ttl_ms = 0;

	if (verdict != GRAPNEL_ALLOW && verdict != GRAPNEL_DENY && verdict != GRAPNEL_NEXT)
		return 0;
	if (answer != NULL && answer->kind == ANSWER_AUTH) {
		if (answer->u.auth.no_store || answer->u.auth.more)
			return 0;
		ttl_ms = answer->u.auth.cache_ttl_ms;
	} else if (answer != NULL && answer->kind == ANSWER_ACL) {
		if (answer->u.acl.no_store)
			return 0;
		ttl_ms = answer->u.acl.cache_ttl_ms;
	}
	if (ttl_ms == 0)
		ttl_ms = jittered(
		    c, verdict == GRAPNEL_ALLOW ? c->limits.ttl_ms : c->limits.negative_ttl_ms);
	if (answer != NULL && answer->kind == ANSWER_AUTH && answer->u.auth.valid_until != 0) {
		int64_t left_ms = answer->u.auth.valid_until * 1000 - clock_wall_us() / 1000;

		if (left_ms <= 0)
			return 0;
		if ((uint64_t)left_ms < ttl_ms)
			ttl_ms = (uint64_t)left_ms;
	}
	return ttl_ms;
}

static void
store(struct cache *c, const struct cache_key *key, uint64_t depends, const struct question *q,
    uint64_t now_ms, enum grapnel_verdict verdict, const struct answer *answer)
{
	uint64_t ttl_ms = time_to_live(c, verdict, answer);
	struct entry **at = place_of(c, key), *e;

	if (ttl_ms == 0 || !c->limits.on || c->limits.max_entries == 0)
		return; /* what is there may still be used when it is stale */
	if (*at != NULL)
		drop(c, at);
	shrink_to(c, c->limits.max_entries - 1);
	if ((e = calloc(1, sizeof(*e))) == NULL)
		return;
	if (answer != NULL && (e->answer = answer_copy(answer, NULL, 0)) == NULL) {
		free(e);
		return;
	}
	e->key = *key;
	e->verdict = verdict;
	e->stored_ms = now_ms;
	e->fresh_until_ms = now_ms + ttl_ms;
	e->until_ms = e->fresh_until_ms + (verdict == GRAPNEL_ALLOW ? c->limits.stale_ms : 0);
	e->about = (struct about){ .any_username = !(depends & GRAPNEL_DEPENDS_USERNAME),
		.any_client_id = !(depends & GRAPNEL_DEPENDS_CLIENT_ID),
		.username = name_hash(q->client.username),
		.client_id = name_hash(q->client.client_id) };
	if (answer != NULL && answer->kind == ANSWER_AUTH && answer->u.auth.username.data != NULL)
		e->about.answer_username = name_hash(answer->u.auth.username);
	grow(c);
	at = &c->buckets[number_of(key) & (c->bucket_count - 1)];
	e->next = *at;
	*at = e;
	use_first(c, e);
	c->entries++;
	c->stored++;
}

/* May others who ask the same have it? */
static bool
shareable(enum grapnel_verdict verdict, const struct answer *answer)
{
	if (verdict == GRAPNEL_PENDING)
		return false;
	if (answer == NULL)
		return true;
	return answer->kind == ANSWER_AUTH ? !answer->u.auth.no_store && !answer->u.auth.more
	    : answer->kind == ANSWER_ACL   ? !answer->u.acl.no_store
					   : false;
}

void
cache_land(struct cache *c, const struct cache_key *key, uint64_t depends, const struct question *q,
    uint64_t now_ms, enum grapnel_verdict verdict, const struct answer *answer)
{
	struct landing *l = NULL, *next;
	struct flight **at, *f;
	bool current = false;

	pthread_mutex_lock(&c->lock);
	at = flight_of(c, key);
	if ((f = *at) != NULL) {
		*at = f->next;
		l = f->first;
		current = f->generation == c->generation;
		if (current && q != NULL)
			store(c, key, depends, q, now_ms, verdict, answer);
		for (next = l; next != NULL; next = next->next)
			c->waiting--;
		free(f);
	}
	pthread_mutex_unlock(&c->lock);
	for (; l != NULL; l = next) {
		next = l->next;
		l->verdict = current ? verdict : GRAPNEL_PENDING;
		l->again = !current || !shareable(verdict, answer);
		if (!l->again && answer != NULL &&
		    (l->answer = answer_copy(answer, NULL, 0)) == NULL)
			l->again = true;
		worker_post(l->w, &l->mail);
	}
}

uint32_t
cache_purge(struct cache *c, struct grapnel_str username, struct grapnel_str client_id)
{
	uint64_t user = name_hash(username), client = name_hash(client_id);
	uint32_t before;

	pthread_mutex_lock(&c->lock);
	before = c->entries;
	c->generation++;
	for (uint32_t i = 0; i < c->bucket_count; i++) {
		for (struct entry **at = &c->buckets[i]; *at != NULL;) {
			const struct about *a = &(*at)->about;
			bool of_user = username.data == NULL || a->any_username ||
			    a->username == user || a->answer_username == user;
			bool of_client =
			    client_id.data == NULL || a->any_client_id || a->client_id == client;

			if (of_user && of_client)
				drop(c, at);
			else
				at = &(*at)->next;
		}
	}
	before -= c->entries;
	c->purged += before;
	pthread_mutex_unlock(&c->lock);
	return before;
}
