/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of simulated workers, and calls into the plugin: how they are named and measured.
 *
 * How long a call holds its worker is not what the clock on the wall says, since a busy machine would make every plugin
 * slow. Processor's time of the thread counts, and time in which it slept: what is left of the time on the wall without its
 * processor's time and without the time that it could have run and did not (schedstat), if it slept at all.
 */
#include "inside.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static __thread struct sim_worker *self;
static __thread struct call *current;
static __thread int schedstat_fd = -1;

/* ---- the baton --------------------------------------------------------------------------------- */

static void *
worker_main(void *arg)
{
	struct sim_worker *w = arg;
	harness *h = w->h;

	self = w;
	schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	pthread_mutex_lock(&h->lock);
	w->ready = true;
	pthread_cond_broadcast(&h->came_back);
	for (;;) {
		while (!w->busy && !w->quit)
			pthread_cond_wait(&w->turn, &h->lock);
		if (!w->busy)
			break;
		pthread_mutex_unlock(&h->lock);
		w->fn(h, w->index, w->arg);
		pthread_mutex_lock(&h->lock);
		w->busy = false;
		pthread_cond_broadcast(&h->came_back);
	}
	pthread_mutex_unlock(&h->lock);
	if (schedstat_fd >= 0)
		close(schedstat_fd);
	return NULL;
}

int
workers_start(harness *h)
{
	for (unsigned i = 0; i < h->worker_count; i++) {
		struct sim_worker *w = &h->workers[i];

		if (w->exists)
			continue;
		w->h = h;
		w->index = i;
		w->quit = w->busy = w->ready = false;
		if (pthread_cond_init(&w->turn, NULL) != 0)
			return GRAPNEL_ENOMEM;
		if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
			pthread_cond_destroy(&w->turn);
			return GRAPNEL_ESYS;
		}
		w->exists = true;
		/* So that what it opens is there before anybody looks at what the plugin opens. */
		pthread_mutex_lock(&h->lock);
		while (!w->ready)
			pthread_cond_wait(&h->came_back, &h->lock);
		pthread_mutex_unlock(&h->lock);
	}
	return GRAPNEL_OK;
}

void
workers_stop(harness *h)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++) {
		struct sim_worker *w = &h->workers[i];

		if (!w->exists)
			continue;
		pthread_mutex_lock(&h->lock);
		w->quit = true;
		pthread_cond_signal(&w->turn);
		pthread_mutex_unlock(&h->lock);
		if (h->stuck)
			pthread_detach(w->thread);
		else
			pthread_join(w->thread, NULL);
		w->exists = false;
	}
}

/* A call that lasts longer ends the run. */
unsigned
stuck_s(const harness *h)
{
	return 1 + h->patience_ms * 12 / 1000;
}

bool
on_worker(harness *h, unsigned worker, worker_fn fn, void *arg)
{
	struct sim_worker *w = &h->workers[worker];
	struct timespec until;
	int err = 0;

	if (h->stuck || !w->exists)
		return false;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += stuck_s(h);
	pthread_mutex_lock(&h->lock);
	w->fn = fn;
	w->arg = arg;
	w->busy = true;
	pthread_cond_signal(&w->turn);
	while (w->busy && err == 0)
		err = pthread_cond_timedwait(&h->came_back, &h->lock, &until);
	if (w->busy)
		h->stuck = true;
	pthread_mutex_unlock(&h->lock);
	if (h->stuck)
		finding(h,
		    "blocked: worker %u has been held for %u seconds and has not come back; the "
		    "run ends here",
		    worker, stuck_s(h));
	return !h->stuck;
}

int
worker_here(void)
{
	return self != NULL ? (int)self->index : -1;
}

/* ---- calls --------------------------------------------------------------------------------------- */

static uint64_t
microseconds(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

/* How long this thread could have run and did not. false: not known here. */
static bool
waited(uint64_t *us)
{
	char text[128];
	uint64_t ran, ns;
	ssize_t n;

	if (schedstat_fd < 0)
		return false;
	n = pread(schedstat_fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "%" SCNu64 " %" SCNu64, &ran, &ns) != 2 || ran == 0)
		return false;
	*us = ns / 1000;
	return true;
}

/* What a checker's instrumentation costs. */
static unsigned
slowness(void)
{
	static _Atomic unsigned known;
	unsigned factor = atomic_load(&known);
	const char *preload;

	if (factor != 0)
		return factor;
	preload = getenv("LD_PRELOAD");
	factor = 1;
	if (dlsym(RTLD_DEFAULT, "__asan_init") != NULL)
		factor = 5;
	if (dlsym(RTLD_DEFAULT, "__tsan_init") != NULL)
		factor = 20;
	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		factor = 100;
	atomic_store(&known, factor);
	return factor;
}

void
call_begin(struct call *c, struct plug *p, const char *name)
{
	struct rusage usage;

	*c = (struct call){ .outer = current, .name = name, .plug = p };
	current = c;
	if (self == NULL || c->outer != NULL)
		return;
	(void)getrusage(RUSAGE_THREAD, &usage);
	c->faults = (uint64_t)usage.ru_majflt;
	c->sleeps = (uint64_t)usage.ru_nvcsw;
	c->wait_known = waited(&c->wait_us);
	c->cpu_us = microseconds(CLOCK_THREAD_CPUTIME_ID);
	c->wall_us = microseconds(CLOCK_MONOTONIC);
}

static void
call_judge(const struct call *c, harness *h)
{
	uint64_t wall = microseconds(CLOCK_MONOTONIC) - c->wall_us;
	uint64_t cpu = microseconds(CLOCK_THREAD_CPUTIME_ID) - c->cpu_us;
	uint64_t limit = (uint64_t)h->hold_ms * 1000, wait = 0, idle;
	struct rusage usage;

	if (wall < limit)
		return;
	if (cpu >= limit * slowness()) {
		finding(h,
		    "blocked: %s computed for %" PRIu64 " ms on worker %d (limit %u ms); such work "
		    "belongs into offload()",
		    c->name, cpu / 1000, worker_here(), h->hold_ms);
		return;
	}
	(void)getrusage(RUSAGE_THREAD, &usage);
	if ((uint64_t)usage.ru_nvcsw == c->sleeps || (uint64_t)usage.ru_majflt != c->faults)
		return;
	if (!c->wait_known || !waited(&wait))
		limit *= 4; /* some of it may be others' */
	else
		wait -= c->wait_us;
	idle = wall > cpu + wait ? wall - cpu - wait : 0;
	if (idle >= limit)
		finding(h,
		    "blocked: %s slept for %" PRIu64 " ms on worker %d (limit %u ms); blocking "
		    "work belongs into offload()",
		    c->name, idle / 1000, worker_here(), h->hold_ms);
}

void
call_end(struct call *c)
{
	if (self != NULL && c->outer == NULL)
		call_judge(c, c->plug->h);
	current = c->outer;
}

const char *
call_name(void)
{
	return current != NULL ? current->name : NULL;
}

struct origin
origin_now(const harness *h)
{
	return (struct origin){ call_name(), h->line };
}
