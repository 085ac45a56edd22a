/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lines that may be written about an address. The table has a fixed size; of the eight places an address can
 * have, the one not used for longest is given to a new address, so a peer with many addresses only forgets others.
 */
#include "base/log.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define WAYS        8u
#define SETS        512u
#define BURST       10u
#define REFILL_MS   1000u
#define MAX_ADDRESS 64u

struct bucket {
	uint64_t key;        /* 0: free */
	uint64_t counted_ms; /* tokens are as of then */
	uint64_t used_ms;
	unsigned tokens;
	unsigned suppressed;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct bucket table[SETS][WAYS];
static uint64_t seed;

static uint64_t
mix(uint64_t h, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++) {
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
		h ^= h >> 29;
	}
	h *= UINT64_C(0x9e3779b97f4a7c15);
	return h ^ h >> 32;
}

/* What counts as one address: without port, IPv6 by its /64. */
static uint64_t
address_key(const char *address)
{
	char host[MAX_ADDRESS];
	const char *start = address, *end = address + strlen(address);
	struct in6_addr v6;
	uint64_t h;

	if (*start == '[') {
		start++;
		end = start + strcspn(start, "]");
	} else {
		const char *colon = strchr(start, ':');

		if (colon != NULL && strchr(colon + 1, ':') == NULL &&
		    strncmp(start, "unix:", 5) != 0)
			end = colon;
	}
	if ((size_t)(end - start) < sizeof(host)) {
		memcpy(host, start, (size_t)(end - start));
		host[end - start] = '\0';
		if (inet_pton(AF_INET6, host, &v6) == 1 && !IN6_IS_ADDR_V4MAPPED(&v6)) {
			h = mix(seed, &v6, 8);
			return h != 0 ? h : 1;
		}
	}
	h = mix(seed, start, (size_t)(end - start));
	return h != 0 ? h : 1;
}

bool
log_allowed_at(const char *address, uint64_t now_ms, unsigned *suppressed)
{
	struct bucket *set, *b = NULL;
	uint64_t key, refill;
	bool allowed;

	(void)pthread_mutex_lock(&lock);
	if (seed == 0 &&
	    (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed) || seed == 0))
		seed = UINT64_C(0x6a09e667f3bcc908) ^ now_ms;
	key = address_key(address);
	set = table[key % SETS];
	for (unsigned i = 0; i < WAYS && b == NULL; i++)
		if (set[i].key == key)
			b = &set[i];
	if (b == NULL) {
		b = &set[0];
		for (unsigned i = 1; i < WAYS; i++)
			if (set[i].used_ms < b->used_ms)
				b = &set[i];
		*b = (struct bucket){ .key = key, .counted_ms = now_ms, .tokens = BURST };
	}
	b->used_ms = now_ms;
	refill = now_ms > b->counted_ms ? (now_ms - b->counted_ms) / REFILL_MS : 0;
	if (refill > 0) {
		b->tokens = refill >= BURST - b->tokens ? BURST : b->tokens + (unsigned)refill;
		b->counted_ms += refill * REFILL_MS;
	}
	allowed = b->tokens > 0;
	if (allowed) {
		b->tokens--;
		*suppressed = b->suppressed;
		b->suppressed = 0;
	} else {
		b->suppressed++;
		*suppressed = 0;
	}
	(void)pthread_mutex_unlock(&lock);
	return allowed;
}

bool
log_allowed(const char *address, unsigned *suppressed)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return log_allowed_at(
	    address, (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u, suppressed);
}
