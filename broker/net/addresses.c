/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chained hash table; entries that have no connection are in a list, oldest first.
 *
 * The token bucket is a single number, the time at which it will be full again: each connection moves it on by what one
 * token takes, and it may be one second ahead of now at most. So listeners with different rates can share it.
 */
#include "net/addresses.h"
#include "base/metrics.h"
#include "config/cidr.h"
#include "core/broker.h"

#include <arpa/inet.h>
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define NONE         UINT32_MAX
#define SECOND_NS    INT64_C(1000000000)
#define TIDY_AT_ONCE 2u

struct entry {
	struct address_key key;
	int64_t full_ns; /* when its bucket is full */
	uint32_t open;   /* connections; 0: it is in the list of idle ones */
	uint32_t next;   /* in its chain, or of the free ones */
	uint32_t older, newer;
};
struct addresses {
	const struct broker *broker;
	pthread_mutex_t lock;
	uint32_t capacity; /* a power of two */
	uint32_t used;     /* entries[used] and on were never used */
	uint32_t free;
	uint32_t oldest, newest; /* idle */
	struct entry *entries;   /* NULL: not needed yet */
	uint32_t *chains;
};

/* ---- keys ------------------------------------------------------------------------------------ */

static void
by_network(struct address_key *key)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(key->bytes, mapped, sizeof(mapped)) != 0)
		memset(key->bytes + 8, 0, 8);
}

bool
address_key_of(const struct sockaddr *sa, struct address_key *out)
{
	if (!address_bytes(sa, out->bytes))
		return false;
	by_network(out);
	return true;
}

bool
address_key_of_text(const char *peer, struct address_key *out)
{
	bool v6 = *peer == '[';
	const char *start = v6 ? peer + 1 : peer;
	size_t len = strcspn(start, v6 ? "]" : ":");
	struct sockaddr_in in = { .sin_family = AF_INET };
	char host[INET6_ADDRSTRLEN];

	if (len >= sizeof(host))
		return false;
	memcpy(host, start, len);
	host[len] = '\0';
	if (!v6)
		return inet_pton(AF_INET, host, &in.sin_addr) == 1 &&
		    address_key_of((const struct sockaddr *)&in, out);
	if (inet_pton(AF_INET6, host, out->bytes) != 1)
		return false;
	by_network(out);
	return true;
}

/* ---- the table ------------------------------------------------------------------------------- */

static uint32_t *
chain_of(const struct addresses *a, const struct address_key *key)
{
	struct grapnel_str s = { (const char *)key->bytes, sizeof(key->bytes) };

	return &a->chains[broker_hash(a->broker, s) & (a->capacity - 1)];
}

static uint32_t
find(const struct addresses *a, const struct address_key *key)
{
	uint32_t at = *chain_of(a, key);

	while (at != NONE && memcmp(a->entries[at].key.bytes, key->bytes, sizeof(key->bytes)) != 0)
		at = a->entries[at].next;
	return at;
}

static void
idle_add(struct addresses *a, uint32_t at)
{
	struct entry *e = &a->entries[at];

	e->newer = NONE;
	e->older = a->newest;
	if (a->newest != NONE)
		a->entries[a->newest].newer = at;
	else
		a->oldest = at;
	a->newest = at;
}

static void
idle_remove(struct addresses *a, uint32_t at)
{
	const struct entry *e = &a->entries[at];

	if (e->older != NONE)
		a->entries[e->older].newer = e->newer;
	else
		a->oldest = e->newer;
	if (e->newer != NONE)
		a->entries[e->newer].older = e->older;
	else
		a->newest = e->older;
}

/* One that is idle and would look the same if it were new. @return there was one at the head. */
static bool
forget_oldest(struct addresses *a, int64_t now_ns, struct metrics *m)
{
	uint32_t at = a->oldest, *link;

	if (at == NONE || a->entries[at].full_ns > now_ns)
		return false;
	idle_remove(a, at);
	for (link = chain_of(a, &a->entries[at].key); *link != at; link = &a->entries[*link].next)
		;
	*link = a->entries[at].next;
	a->entries[at].next = a->free;
	a->free = at;
	metric_add(m, METRIC_ADDRESSES, -1);
	return true;
}

/* All of it at once, but pages are the system's until they are used. */
static bool
have_memory(struct addresses *a)
{
	if (a->entries != NULL)
		return true;
	a->entries = malloc(a->capacity * sizeof(*a->entries));
	a->chains = malloc(a->capacity * sizeof(*a->chains));
	if (a->entries == NULL || a->chains == NULL) {
		free(a->entries);
		free(a->chains);
		a->entries = NULL;
		a->chains = NULL;
		return false;
	}
	memset(a->chains, 0xff, a->capacity * sizeof(*a->chains)); /* NONE */
	return true;
}

static uint32_t
add(struct addresses *a, const struct address_key *key, struct metrics *m)
{
	uint32_t at = a->free, *chain;

	if (at != NONE)
		a->free = a->entries[at].next;
	else if (a->used < a->capacity)
		at = a->used++;
	else
		return NONE;
	chain = chain_of(a, key);
	a->entries[at] = (struct entry){ .key = *key, .full_ns = INT64_MIN, .next = *chain };
	*chain = at;
	idle_add(a, at);
	metric_add(m, METRIC_ADDRESSES, 1);
	return at;
}

/* ---- from outside ---------------------------------------------------------------------------- */

static enum addresses_verdict
enter_locked(struct addresses *a, const struct address_key *key, uint32_t max, uint32_t rate,
    int64_t now_ns, struct metrics *m)
{
	int64_t full_ns;
	struct entry *e;
	uint32_t at;

	if (!have_memory(a))
		return ADDRESSES_UNCOUNTED;
	for (unsigned i = 0; i < TIDY_AT_ONCE && forget_oldest(a, now_ns, m); i++)
		;
	if ((at = find(a, key)) == NONE && (at = add(a, key, m)) == NONE)
		return ADDRESSES_UNCOUNTED;
	e = &a->entries[at];
	if (max != 0 && e->open >= max)
		return ADDRESSES_TOO_MANY;
	if (rate != 0) {
		full_ns = (e->full_ns > now_ns ? e->full_ns : now_ns) + SECOND_NS / rate;
		if (full_ns - now_ns > SECOND_NS)
			return ADDRESSES_TOO_FAST;
		e->full_ns = full_ns;
	}
	if (e->open++ == 0)
		idle_remove(a, at);
	return ADDRESSES_COUNTED;
}

enum addresses_verdict
addresses_enter(struct addresses *a, const struct address_key *key, uint32_t max, uint32_t rate,
    uint64_t now_ms, struct metrics *m)
{
	enum addresses_verdict verdict;

	(void)pthread_mutex_lock(&a->lock);
	verdict = enter_locked(a, key, max, rate, (int64_t)now_ms * 1000000, m);
	(void)pthread_mutex_unlock(&a->lock);
	if (verdict == ADDRESSES_UNCOUNTED)
		metric_add(m, METRIC_ADDRESSES_UNCOUNTED, 1);
	return verdict;
}

void
addresses_leave(
    struct addresses *a, const struct address_key *key, uint64_t now_ms, struct metrics *m)
{
	uint32_t at;

	(void)pthread_mutex_lock(&a->lock);
	at = find(a, key);
	assert(at != NONE && a->entries[at].open > 0); /* it was counted */
	if (--a->entries[at].open == 0)
		idle_add(a, at);
	for (unsigned i = 0; i < TIDY_AT_ONCE && forget_oldest(a, (int64_t)now_ms * 1000000, m);
	     i++)
		;
	(void)pthread_mutex_unlock(&a->lock);
}

struct addresses *
addresses_new(const struct broker *b, uint32_t capacity)
{
	struct addresses *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
	a->broker = b;
	a->capacity = capacity;
	a->free = a->oldest = a->newest = NONE;
	(void)pthread_mutex_init(&a->lock, NULL);
	return a;
}

void
addresses_free(struct addresses *a)
{
	if (a == NULL)
		return;
	(void)pthread_mutex_destroy(&a->lock);
	free(a->entries);
	free(a->chains);
	free(a);
}
