/* SPDX-License-Identifier: Apache-2.0 */
#include "offload.h"
#include "base/log.h"
#include "core/broker.h"
#include "instance.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define NICER        10 /* than the workers */
#define IDLE_SECONDS 30

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_DONE };

struct grapnel_job {
	struct mail mail;
	struct grapnel_job *next, *prev; /* in the lane */
	struct instance_worker *iw;
	struct timer deadline; /* on the worker */
	grapnel_call_fn work, done;
	void *arg;
	enum job_state state; /* under the pool's lock */
	bool ran;             /* set before it is posted back */
};

struct offload_pool {
	pthread_mutex_t lock; /* a leaf: no other is taken under it */
	pthread_cond_t work;  /* a job may be taken */
	pthread_cond_t gone;  /* a thread ended */
	struct offload_lane
	    *lanes; /* ring (last one) of those with waiting jobs and a free place */
	unsigned threads, idle;
	/* Each that ends waits for the one before it, and offload_pool_free for the last: none is left half way behind. */
	pthread_t ended;
	bool has_ended, stopping;
};

struct offload_pool *
offload_pool_new(void)
{
	struct offload_pool *pool = calloc(1, sizeof(*pool));
	pthread_condattr_t attr;

	if (pool == NULL)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, &attr);
	pthread_cond_init(&pool->gone, &attr);
	pthread_condattr_destroy(&attr);
	return pool;
}

static void
deadline_after(struct timespec *ts, uint64_t ms)
{
	(void)clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += (time_t)(ms / 1000);
	ts->tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_nsec -= 1000000000;
		ts->tv_sec++;
	}
}

bool
offload_pool_free(struct offload_pool *pool, uint64_t timeout_ms)
{
	struct timespec until;
	bool empty;

	if (pool == NULL)
		return true;
	deadline_after(&until, timeout_ms);
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	while (pool->threads > 0 &&
	    pthread_cond_timedwait(&pool->gone, &pool->lock, &until) != ETIMEDOUT)
		continue;
	empty = pool->threads == 0;
	pthread_mutex_unlock(&pool->lock);
	if (!empty)
		return false;
	if (pool->has_ended)
		(void)pthread_join(pool->ended, NULL);
	pthread_mutex_destroy(&pool->lock);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->gone);
	free(pool);
	return true;
}

/* ---- lanes: all under the lock --------------------------------------------------------------- */

static bool
lane_runnable(const struct offload_lane *lane)
{
	return lane->first != NULL && lane->running < lane->max_running;
}

/* A lane that has become runnable goes to the end of the ring. */
static void
lane_list(struct offload_pool *pool, struct offload_lane *lane)
{
	if (lane->listed || !lane_runnable(lane))
		return;
	lane->listed = true;
	if (pool->lanes == NULL) {
		lane->next = lane;
	} else {
		lane->next = pool->lanes->next;
		pool->lanes->next = lane;
	}
	pool->lanes = lane;
}

/* The next lane's oldest job; lanes take turns. */
static struct grapnel_job *
job_take(struct offload_pool *pool)
{
	while (pool->lanes != NULL) {
		struct offload_lane *lane = pool->lanes->next;
		struct grapnel_job *job;

		if (lane == pool->lanes)
			pool->lanes = NULL;
		else
			pool->lanes->next = lane->next;
		lane->listed = false;
		if (!lane_runnable(lane))
			continue; /* its jobs were cancelled */
		job = lane->first;
		lane->first = job->next;
		if (lane->first != NULL)
			lane->first->prev = NULL;
		else
			lane->last = NULL;
		lane->waiting--;
		lane->running++;
		lane_list(pool, lane);
		return job;
	}
	return NULL;
}

static void
job_unlink(struct offload_lane *lane, struct grapnel_job *job)
{
	if (job->prev != NULL)
		job->prev->next = job->next;
	else
		lane->first = job->next;
	if (job->next != NULL)
		job->next->prev = job->prev;
	else
		lane->last = job->prev;
	job->next = job->prev = NULL;
	lane->waiting--;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void
job_run(struct offload_pool *pool, struct grapnel_job *job)
{
	struct offload_lane *lane = &job->iw->in->lane;
	uint64_t entered, took;

	job->state = JOB_RUNNING;
	pthread_mutex_unlock(&pool->lock);
	entered = plugin_enter();
	job->work(job->arg);
	took = plugin_enter() - entered;
	pthread_mutex_lock(&pool->lock);
	lane->running--;
	lane->ran++;
	lane->typical_us = lane->typical_us == 0 ? took : (lane->typical_us * 7 + took) / 8;
	lane_list(pool, lane);
	job->state = JOB_DONE;
	job->ran = true;
	worker_post(job->iw->w, &job->mail); /* the instance, and its lane, may be gone from here */
}

/*
 * Where hashes and messages share a processor, the messages go first: a storm of logins must not be felt by those who are in.
 * On Linux this is the thread's own priority, not the process's.
 */
static void
be_nice(void)
{
	int now;

	errno = 0; /* -1 is a priority, too */
	now = getpriority(PRIO_PROCESS, 0);
	if (errno == 0)
		(void)setpriority(PRIO_PROCESS, 0, now + NICER);
}

static void *
pool_main(void *arg)
{
	struct offload_pool *pool = arg;
	pthread_t before;
	bool joins;

	be_nice();
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		struct grapnel_job *job = pool->stopping ? NULL : job_take(pool);
		struct timespec until;
		int err;

		if (job != NULL) {
			job_run(pool, job);
			continue;
		}
		if (pool->stopping)
			break;
		pool->idle++;
		deadline_after(&until, IDLE_SECONDS * 1000);
		err = pthread_cond_timedwait(&pool->work, &pool->lock, &until);
		pool->idle--;
		if (err == ETIMEDOUT && pool->lanes == NULL)
			break;
	}
	pool->threads--;
	before = pool->ended;
	joins = pool->has_ended;
	pool->ended = pthread_self();
	pool->has_ended = true;
	pthread_cond_signal(&pool->gone);
	pthread_mutex_unlock(&pool->lock);
	if (joins)
		(void)pthread_join(before, NULL);
	return NULL;
}

/* Jobs that could run now if there were threads. */
static unsigned
pool_takeable(const struct offload_pool *pool)
{
	const struct offload_lane *lane = pool->lanes;
	unsigned n = 0;

	if (lane == NULL)
		return 0;
	do {
		uint32_t places =
		    lane->max_running > lane->running ? lane->max_running - lane->running : 0;

		n += lane->waiting < places ? lane->waiting : places;
		lane = lane->next;
	} while (lane != pool->lanes);
	return n;
}

/*
 * Somebody to take a job, when one can be taken. false: there is no thread at all and none could
 * be made.
 */
static bool
pool_wake(struct offload_pool *pool)
{
	sigset_t all, before;
	pthread_t thread;
	unsigned takeable = pool_takeable(pool);
	int err;

	if (takeable > 0 && pool->idle > 0)
		pthread_cond_signal(&pool->work);
	if (takeable <= pool->idle)
		return true;
	/* Signals are the main thread's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&thread, NULL, pool_main, pool);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0) {
		log_warning("offload: no new thread: %s", strerror(err));
		return pool->threads > 0;
	}
	(void)pthread_setname_np(thread, "offload");
	pool->threads++;
	return true;
}

/* ---- on the worker --------------------------------------------------------------------------- */

static void
job_on_mail(struct worker *w, struct mail *m)
{
	struct grapnel_job *job = (struct grapnel_job *)(void *)m;
	struct instance_worker *iw = job->iw;

	timer_disarm(w->wheel, &job->deadline);
	if (instance_callable(iw)) { /* else it was left by force, at shutdown */
		uint64_t entered = plugin_enter();

		job->done(job->arg);
		plugin_leave(iw, entered, "offload done callback");
	}
	iw->jobs--;
	free(job);
}

/* Take it out if it still waits; its done comes with the mail. */
static void
job_withdraw(struct grapnel_job *job, bool expired)
{
	struct offload_pool *pool = job->iw->in->registry->pool;
	struct offload_lane *lane = &job->iw->in->lane;
	bool waited;

	pthread_mutex_lock(&pool->lock);
	waited = job->state == JOB_WAITING;
	if (waited) {
		job_unlink(lane, job);
		job->state = JOB_DONE;
		lane->expired += expired;
	}
	pthread_mutex_unlock(&pool->lock);
	if (waited && expired)
		job->iw->crowded_ms = clock_ms();
	if (waited)
		worker_post(job->iw->w, &job->mail);
}

static void
job_on_deadline(struct timer *t, void *owner)
{
	(void)owner;
	job_withdraw(
	    (struct grapnel_job *)(void *)((char *)t - offsetof(struct grapnel_job, deadline)),
	    true);
}

void
offload_cancel(struct grapnel_job *job)
{
	if (job != NULL)
		job_withdraw(job, false);
}

bool
offload_ran(const struct grapnel_job *job)
{
	return job != NULL && job->ran;
}

/* When a job that is put behind the others would start, going by what jobs took so far. */
static uint64_t
lane_wait_us(const struct offload_lane *lane)
{
	if (lane->running + lane->waiting < lane->max_running)
		return 0;
	return lane->typical_us * (lane->waiting + 1) /
	    (lane->max_running > 0 ? lane->max_running : 1);
}

struct grapnel_job *
offload_run(struct offload_pool *pool, struct instance_worker *iw, uint32_t deadline_ms,
    grapnel_call_fn work, grapnel_call_fn done, void *arg)
{
	struct offload_lane *lane = &iw->in->lane;
	struct grapnel_job *job;

	if (work == NULL || done == NULL || (job = calloc(1, sizeof(*job))) == NULL)
		return NULL;
	job->mail.fn = job_on_mail;
	job->iw = iw;
	job->work = work;
	job->done = done;
	job->arg = arg;
	timer_init(&job->deadline, job_on_deadline);
	pthread_mutex_lock(&pool->lock);
	if (pool->stopping || lane->max_running == 0 ||
	    (uint64_t)lane->running + lane->waiting >=
		(uint64_t)lane->max_running + lane->max_waiting ||
	    (deadline_ms != 0 && lane_wait_us(lane) > (uint64_t)deadline_ms * 1000))
		goto refuse;
	job->prev = lane->last;
	if (lane->last != NULL)
		lane->last->next = job;
	else
		lane->first = job;
	lane->last = job;
	lane->waiting++;
	lane_list(pool, lane);
	if (!pool_wake(pool)) {
		job_unlink(lane, job);
		goto refuse;
	}
	iw->jobs++;
	/* Armed under the lock: the job may be done, but its mail waits for this thread. */
	if (deadline_ms != 0)
		timer_arm(iw->w->wheel, &job->deadline, clock_ms() + deadline_ms);
	pthread_mutex_unlock(&pool->lock);
	return job;
refuse:
	lane->refused++;
	pthread_mutex_unlock(&pool->lock);
	iw->crowded_ms = clock_ms();
	free(job);
	return NULL;
}

void
offload_cancel_all(struct offload_pool *pool, struct instance_worker *iw)
{
	struct offload_lane *lane = &iw->in->lane;
	struct grapnel_job *job, *next, *taken = NULL;

	pthread_mutex_lock(&pool->lock);
	for (job = lane->first; job != NULL; job = next) {
		next = job->next;
		if (job->iw != iw)
			continue;
		job_unlink(lane, job);
		job->state = JOB_DONE;
		job->next = taken;
		taken = job;
	}
	pthread_mutex_unlock(&pool->lock);
	for (; taken != NULL; taken = next) {
		next = taken->next;
		worker_post(iw->w, &taken->mail);
	}
}

void
offload_limits(struct offload_pool *pool, struct offload_lane *lane, uint32_t max_running,
    uint32_t max_waiting)
{
	pthread_mutex_lock(&pool->lock);
	lane->max_running = max_running;
	lane->max_waiting = max_waiting;
	lane_list(pool, lane);
	if (lane->listed)
		(void)pool_wake(pool);
	pthread_mutex_unlock(&pool->lock);
}

void
offload_lane_close(struct offload_pool *pool, struct offload_lane *lane)
{
	struct offload_lane *before;

	pthread_mutex_lock(&pool->lock);
	if (lane->listed) {
		for (before = pool->lanes; before->next != lane; before = before->next)
			continue;
		before->next = lane->next;
		if (pool->lanes == lane)
			pool->lanes = before == lane ? NULL : before;
		lane->listed = false;
	}
	lane->max_running = 0;
	pthread_mutex_unlock(&pool->lock);
}

void
offload_counts(
    struct offload_pool *pool, const struct offload_lane *lane, struct offload_counts *out)
{
	pthread_mutex_lock(&pool->lock);
	out->waiting = lane->waiting;
	out->running = lane->running;
	out->ran = lane->ran;
	out->refused = lane->refused;
	out->expired = lane->expired;
	pthread_mutex_unlock(&pool->lock);
}
