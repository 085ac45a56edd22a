/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct place {
	struct place *next; /* behind, of any key */
	struct outbox *outbox;
	bool leaving;
	char key[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static struct place *places; /* oldest first */

/* ---- claims ---------------------------------------------------------------------------------- */

struct claim {
	struct claim *next;
	unsigned count;
	char *key, *name;
};

static struct claim *claims;

static struct claim **
claim_of(const char *key)
{
	struct claim **at = &claims;

	while (*at != NULL && strcmp((*at)->key, key) != 0)
		at = &(*at)->next;
	return at;
}

static void
claim_free(struct claim *c)
{
	free(c->key);
	free(c->name);
	free(c);
}

/* Under the lock. */
static struct claim *
claim_new(const char *key, const char *name)
{
	struct claim *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->key = strdup(key);
	c->name = strdup(name);
	if (c->key == NULL || c->name == NULL) {
		claim_free(c);
		return NULL;
	}
	c->next = claims;
	claims = c;
	return c;
}

bool
place_claim(const char *key, const char *name, char *whose, size_t whose_size)
{
	struct claim *c;
	bool ours;

	(void)pthread_mutex_lock(&lock);
	c = *claim_of(key);
	if (c == NULL)
		c = claim_new(key, name);
	ours = c != NULL && strcmp(c->name, name) == 0;
	if (ours)
		c->count++;
	else
		(void)snprintf(whose, whose_size, "%s", c != NULL ? c->name : "");
	(void)pthread_mutex_unlock(&lock);
	return ours;
}

void
place_unclaim(const char *key)
{
	struct claim **at, *c;

	(void)pthread_mutex_lock(&lock);
	at = claim_of(key);
	c = *at;
	if (--c->count == 0) {
		*at = c->next;
		claim_free(c);
	}
	(void)pthread_mutex_unlock(&lock);
}

/* ---- places ---------------------------------------------------------------------------------- */

static struct place *
first_with(struct place *p, const char *key)
{
	while (p != NULL && strcmp(p->key, key) != 0)
		p = p->next;
	return p;
}

struct place *
place_enter(const char *key)
{
	size_t len = strlen(key) + 1;
	struct place *p = calloc(1, sizeof(*p) + len), **at;

	if (p == NULL)
		return NULL;
	memcpy(p->key, key, len);
	(void)pthread_mutex_lock(&lock);
	for (at = &places; *at != NULL; at = &(*at)->next)
		continue;
	*at = p;
	(void)pthread_mutex_unlock(&lock);
	return p;
}

bool
place_wait(struct place *p, uint32_t timeout_ms, struct outbox **o)
{
	struct timespec until;
	bool mine;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout_ms / 1000;
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_mutex_lock(&lock);
	while (!(mine = first_with(places, p->key) == p))
		if (pthread_cond_timedwait(&moved, &lock, &until) == ETIMEDOUT)
			break;
	if (mine) {
		*o = p->outbox;
		p->outbox = NULL;
	}
	(void)pthread_mutex_unlock(&lock);
	return mine;
}

bool
place_followed(struct place *p)
{
	bool followed;

	(void)pthread_mutex_lock(&lock);
	p->leaving = true;
	followed = first_with(p->next, p->key) != NULL;
	(void)pthread_mutex_unlock(&lock);
	return followed;
}

bool
place_is_near(struct place *p)
{
	bool near;

	(void)pthread_mutex_lock(&lock);
	near = first_with(places, p->key)->leaving;
	(void)pthread_mutex_unlock(&lock);
	return near;
}

bool
place_leave(struct place *p, struct outbox *o)
{
	struct place *next, **at;

	(void)pthread_mutex_lock(&lock);
	next = first_with(p->next, p->key);
	/* One that never had its turn must not give away what is another's. */
	if (next != NULL && o != NULL)
		next->outbox = o;
	for (at = &places; *at != p; at = &(*at)->next)
		continue;
	*at = p->next;
	(void)pthread_cond_broadcast(&moved);
	(void)pthread_mutex_unlock(&lock);
	free(p);
	return next != NULL;
}
