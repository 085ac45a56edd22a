/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory.h"

#include "base/log.h"
#include "config.h"
#include "core/conn.h"
#include "core/retain.h"

#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- how much ------------------------------------------------------------------------------ */

void
memory_usage(struct memory_usage *out)
{
	int64_t page = sysconf(_SC_PAGESIZE), total, resident, shared;
	static _Atomic int kept = -1; /* it is needed most when there are no descriptors left */
	int fd = atomic_load(&kept), none = -1;
	char text[128];
	ssize_t n;

	*out = (struct memory_usage){ -1, -1, -1 };
	if (fd < 0) {
		if ((fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)) < 0)
			return;
		if (!atomic_compare_exchange_strong(&kept, &none, fd)) {
			(void)close(fd);
			fd = none;
		}
	}
	n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return;
	text[n] = '\0';
	if (sscanf(text, "%" SCNd64 " %" SCNd64 " %" SCNd64, &total, &resident, &shared) != 3)
		return;
	out->virtual_bytes = total * page;
	out->resident_bytes = resident * page;
	out->private_bytes = (resident - shared) * page;
}

/* ---- when ---------------------------------------------------------------------------------- */

/* What is resident without a reason that we know of. */
static int64_t
slack_of(const struct memory_watch *mw, int64_t private_bytes, int64_t used)
{
	return private_bytes - mw->private_bytes - (used - mw->used_bytes);
}

bool
memory_pressed_due(
    struct memory_watch *mw, int64_t private_bytes, int64_t used, uint64_t limit, uint64_t now_ms)
{
	int64_t least = (int64_t)(limit / 32);

	if (least < MEMORY_SLACK_MIN)
		least = MEMORY_SLACK_MIN;
	if (!mw->begun || now_ms < mw->pressed_until_ms ||
	    slack_of(mw, private_bytes, used) < least)
		return false;
	mw->pressed_until_ms = now_ms + MEMORY_PRESSED_MS;
	mw->begun = false;
	return true;
}

bool
memory_watch_due(
    struct memory_watch *mw, int64_t private_bytes, int64_t used, int64_t cpu, uint64_t now_ms)
{
	/* A quarter of one processor: then a worker can do without its heap for a moment. */
	bool quiet = cpu - mw->cpu_us < (int64_t)MEMORY_WATCH_MS * 1000 / 4;
	int64_t slack, least = private_bytes / 4;

	mw->cpu_us = cpu;
	if (!mw->begun) {
		mw->begun = true;
		mw->private_bytes = private_bytes;
		mw->used_bytes = used;
		return false;
	}
	slack = slack_of(mw, private_bytes, used);
	if (least < MEMORY_SLACK_MIN)
		least = MEMORY_SLACK_MIN;
	if (slack < least || !quiet || now_ms < mw->pause_until_ms)
		return false;
	mw->pause_until_ms = now_ms + MEMORY_PAUSE_MS;
	mw->begun = false;
	return true;
}

/* ---- giving back ---------------------------------------------------------------------------- */

/*
 * The end of a worker's heap can only be cut off by its own thread: malloc looks at it whenever so much
 * is freed at once, and cuts off what is above TRIM_THRESHOLD.
 */
#define CUT_BYTES      (64 * 1024)
#define TRIM_THRESHOLD (256 * 1024)
/* From here on a piece of memory has its own mapping, which goes back as soon as it is freed. */
#define MMAP_THRESHOLD (1024 * 1024)
#define SETTLE_MS      200u /* for the workers, before the rest is looked through */
/* Heaps for others than workers: main, the reclaimer, the first offload threads; further ones share. */
#define OTHER_HEAPS 6

struct memory {
	struct timer timer;
	struct broker *b;
	struct memory_watch watch;
	uint64_t watch_ms,
	    trim_ms; /* when the watch is due; when the workers are done (0: not told) */
};

#ifdef HAVE_MALLOC_TRIM

void
memory_setup(unsigned workers)
{
	(void)mallopt(M_ARENA_MAX, (int)workers + OTHER_HEAPS);
	/* Both fixed: by itself the library raises them with the first large block that is freed. */
	(void)mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
	(void)mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
}

#else /* a C library that does this by itself, or cannot */

#define malloc_trim(pad) ((void)(pad), 0)

void
memory_setup(unsigned workers)
{
	(void)workers;
}

#endif

static void
on_worker(struct worker *w, struct mail *m)
{
	void *volatile cut; /* or the compiler would leave out both calls */

	free(m);
	if (w->core != NULL)
		out_pool_clear(&w->core->pool);
	message_pool_clear();
	cut = malloc(CUT_BYTES);
	free(cut);
}

static void
tell_workers(struct broker *b)
{
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct mail *m = malloc(sizeof(*m));

		if (m == NULL)
			return; /* the rest is given back all the same */
		m->fn = on_worker;
		worker_post(b->workers[i], m);
	}
}

/*
 * About what the heap holds for good reason. Too much does no harm: memory is then given back a little
 * later. Too little has it looked through in vain, once.
 */
static int64_t
used_bytes(struct broker *b)
{
	static const int64_t connection = 800, session = 600, subscription = 250, queued = 250;
	struct retain_stats retained;
	int64_t sum;

	retain_stats(b->retain, &retained);
	sum = connection * atomic_load_explicit(&b->connections, memory_order_relaxed) +
	    session * atomic_load_explicit(&b->sessions, memory_order_relaxed) +
	    subscription * atomic_load_explicit(&b->subscriptions, memory_order_relaxed) +
	    atomic_load_explicit(&b->queued_bytes, memory_order_relaxed) + (int64_t)retained.bytes;
	for (unsigned i = 0; i < b->worker_count; i++)
		sum += metric_get(&b->workers[i]->metrics, METRIC_OUTPUT_BYTES) +
		    queued * metric_get(&b->workers[i]->metrics, METRIC_QUEUED_MESSAGES);
	return sum;
}

static int64_t
cpu_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t
private_bytes(void)
{
	struct memory_usage usage;

	memory_usage(&usage);
	return usage.private_bytes; /* -1: there is no /proc */
}

/* @return milliseconds until the next look. */
static unsigned
look(struct memory *mem)
{
	struct broker *b = mem->b;
	uint64_t now = b->main->now_ms;
	int64_t private = private_bytes();
	unsigned wait_ms = overload_look(b, private);
	bool due = false;

	if (private < 0 || mem->trim_ms != 0)
		return wait_ms;
	if (overload_level(&b->overload) != OVERLOAD_NONE)
		due = memory_pressed_due(&mem->watch, private, used_bytes(b),
		    atomic_load_explicit(&b->overload.limit, memory_order_relaxed), now);
	if (!due && now >= mem->watch_ms) {
		mem->watch_ms = now + MEMORY_WATCH_MS;
		due = memory_watch_due(&mem->watch, private, used_bytes(b), cpu_us(), now);
	}
	if (due) {
		mem->trim_ms = now + SETTLE_MS;
		tell_workers(b);
	}
	return wait_ms;
}

static void
trim(struct memory *mem)
{
	int64_t before = private_bytes(), after;

	mem->trim_ms = 0;
	(void)malloc_trim(0);
	metric_add(&mem->b->main->metrics, METRIC_MEMORY_TRIMS, 1);
	after = private_bytes();
	/* From here on again. */
	(void)memory_watch_due(
	    &mem->watch, after, used_bytes(mem->b), cpu_us(), mem->b->main->now_ms);
	mem->watch_ms = mem->b->main->now_ms + MEMORY_WATCH_MS;
	log_debug("memory: %" PRId64 " KiB of heap and stacks were resident, %" PRId64
		  " KiB still are",
	    before / 1024, after / 1024);
}

static void
on_watch(struct timer *t, void *owner)
{
	struct memory *mem = (struct memory *)(void *)((char *)t - offsetof(struct memory, timer));
	uint64_t now = mem->b->main->now_ms, wait_ms;

	(void)owner;
	if (mem->trim_ms != 0 && now >= mem->trim_ms)
		trim(mem);
	wait_ms = look(mem);
	if (mem->trim_ms != 0 && wait_ms > SETTLE_MS)
		wait_ms = SETTLE_MS;
	worker_timer(mem->b->main, t, wait_ms);
}

void
memory_look_now(struct broker *b)
{
	struct memory *mem = b->memory;
	uint64_t now;

	if (mem == NULL)
		return;
	now = b->main->now_ms;
	if (now < b->overload.looked_ms + OVERLOAD_AGAIN_MS) /* the timer is moved to then */
		worker_timer(b->main, &mem->timer, b->overload.looked_ms + OVERLOAD_AGAIN_MS - now);
	else
		worker_timer(b->main, &mem->timer, 0);
}

int
memory_start(struct broker *b)
{
	struct memory *mem = calloc(1, sizeof(*mem));

	if (mem == NULL)
		return GRAPNEL_ENOMEM;
	mem->b = b;
	timer_init(&mem->timer, on_watch);
	b->memory = mem;
	worker_timer(b->main, &mem->timer, look(mem));
	return GRAPNEL_OK;
}

void
memory_stop(struct broker *b)
{
	if (b->memory == NULL)
		return;
	timer_disarm(b->main->wheel, &b->memory->timer);
	free(b->memory);
	b->memory = NULL;
}
