/* SPDX-License-Identifier: Apache-2.0 */
#include "backlog.h"

#include <time.h>

uint64_t
backlog_clock_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool
backlog_init(struct backlog *b, size_t limit)
{
	pthread_condattr_t attr;
	bool good;

	*b = (struct backlog){ .limit = limit };
	b->last = &b->first;
	if (pthread_mutex_init(&b->lock, NULL) != 0)
		return false;
	if (pthread_condattr_init(&attr) != 0) {
		(void)pthread_mutex_destroy(&b->lock);
		return false;
	}
	good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
	    pthread_cond_init(&b->changed, &attr) == 0;
	(void)pthread_condattr_destroy(&attr);
	if (!good)
		(void)pthread_mutex_destroy(&b->lock);
	return good;
}

static void
chunks_free(struct chunk *c)
{
	while (c != NULL) {
		struct chunk *next = c->next;

		chunk_free(c);
		c = next;
	}
}

void
backlog_fini(struct backlog *b)
{
	chunks_free(b->first);
	(void)pthread_cond_destroy(&b->changed);
	(void)pthread_mutex_destroy(&b->lock);
}

/* ---- workers ------------------------------------------------------------------------------------ */

size_t
backlog_room(struct backlog *b)
{
	size_t bytes = atomic_load_explicit(&b->bytes, memory_order_relaxed);

	return bytes < b->limit ? b->limit - bytes : 0;
}

static bool
fits(const struct backlog *b, const struct chunk *chunk, size_t bytes)
{
	return b->missed.count == 0 && (bytes == 0 || bytes + chunk->capacity <= b->limit);
}

bool
backlog_push(struct backlog *b, struct chunk *chunk, const struct missed *missed, bool *began)
{
	size_t bytes;
	bool wake;

	*began = false;
	(void)pthread_mutex_lock(&b->lock);
	bytes = atomic_load_explicit(&b->bytes, memory_order_relaxed);
	if (chunk != NULL && !fits(b, chunk, bytes)) {
		(void)pthread_mutex_unlock(&b->lock);
		return false;
	}
	wake = b->first == NULL && b->missed.count == 0;
	if (chunk != NULL) {
		chunk->next = NULL;
		*b->last = chunk;
		b->last = &chunk->next;
		atomic_store_explicit(&b->bytes, bytes + chunk->capacity, memory_order_relaxed);
	}
	if (missed->count > 0) {
		uint64_t before = b->missed.count;

		*began = before == 0;
		if (*began)
			b->missed = *missed;
		else
			b->missed.count = before + missed->count;
	}
	(void)pthread_mutex_unlock(&b->lock);
	if (wake)
		(void)pthread_cond_signal(&b->changed);
	return true;
}

/* ---- the writer --------------------------------------------------------------------------------- */

static struct timespec
time_of(uint64_t ms)
{
	return (struct timespec){ .tv_sec = (time_t)(ms / 1000),
		.tv_nsec = (long)(ms % 1000) * 1000000 };
}

bool
backlog_take(struct backlog *b, uint32_t wait_ms, struct chunk **chunks, struct missed *missed)
{
	struct timespec until = time_of(backlog_clock_ms() + wait_ms);
	bool more;

	(void)pthread_mutex_lock(&b->lock);
	while (b->first == NULL && b->missed.count == 0 && !b->stopping)
		if (pthread_cond_timedwait(&b->changed, &b->lock, &until) != 0)
			break;
	*chunks = b->first;
	*missed = b->missed;
	b->first = NULL;
	b->last = &b->first;
	b->missed = (struct missed){ 0 };
	more = !b->stopping || *chunks != NULL || missed->count > 0;
	(void)pthread_mutex_unlock(&b->lock);
	return more;
}

void
backlog_done(struct backlog *b, size_t bytes)
{
	(void)pthread_mutex_lock(&b->lock);
	atomic_store_explicit(&b->bytes,
	    atomic_load_explicit(&b->bytes, memory_order_relaxed) - bytes, memory_order_relaxed);
	(void)pthread_mutex_unlock(&b->lock);
}

bool
backlog_pause(struct backlog *b, uint32_t wait_ms)
{
	uint64_t now = backlog_clock_ms(), until = now + wait_ms;
	bool was_stopping, go_on;

	(void)pthread_mutex_lock(&b->lock);
	was_stopping = b->stopping;
	if (was_stopping && b->deadline_ms < until)
		until = b->deadline_ms;
	while (now < until && b->stopping == was_stopping) {
		struct timespec ts = time_of(until);

		(void)pthread_cond_timedwait(&b->changed, &b->lock, &ts);
		now = backlog_clock_ms();
	}
	go_on = !b->stopping || now < b->deadline_ms;
	(void)pthread_mutex_unlock(&b->lock);
	return go_on;
}

bool
backlog_late(struct backlog *b)
{
	bool late;

	(void)pthread_mutex_lock(&b->lock);
	late = b->stopping && backlog_clock_ms() >= b->deadline_ms;
	(void)pthread_mutex_unlock(&b->lock);
	return late;
}

/* ---- the end ------------------------------------------------------------------------------------ */

void
backlog_stop(struct backlog *b, uint32_t within_ms)
{
	(void)pthread_mutex_lock(&b->lock);
	if (!b->stopping)
		b->deadline_ms = backlog_clock_ms() + within_ms;
	b->stopping = true;
	(void)pthread_cond_broadcast(&b->changed);
	(void)pthread_mutex_unlock(&b->lock);
}
