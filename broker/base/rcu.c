/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rcu - see rcu.h
 *
 * Two things differ between the flavours: how a reader marks its section and how
 * a grace period is waited for. What is deferred is queued and run by one thread
 * of our own in both, so that ThreadSanitizer sees the same code that runs in
 * production. liburcu's call_rcu would do the queueing too, but it aborts the
 * process when its thread cannot be made.
 */
#include "rcu.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#if defined(__SANITIZE_THREAD__)
#define RCU_SUBSTITUTE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_SUBSTITUTE 1
#endif
#endif

/*
 * Frees come in bursts (a table grows, a client with many filters leaves): one grace period for all
 * of a burst.
 */
#define GATHER_NS (2 * 1000 * 1000)

static void
nap(long ns)
{
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
}

#ifdef RCU_SUBSTITUTE

/*
 * Each reader publishes the epoch in which its section began, 0 outside. A grace
 * period opens a new epoch and waits for all readers of older ones. The exchange in
 * rcu_read_begin is the full barrier: a reader that the scan saw as idle cannot
 * see what was unlinked before the scan.
 */
struct reader {
	_Atomic uint64_t since;
	unsigned nesting;
	struct reader *next, **link;
};

static _Atomic uint64_t epoch = 1;
static pthread_mutex_t readers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct reader *readers;
static _Thread_local struct reader self;

void
rcu_thread_start(void)
{
	pthread_mutex_lock(&readers_lock);
	self.link = &readers;
	self.next = readers;
	if (readers != NULL)
		readers->link = &self.next;
	readers = &self;
	pthread_mutex_unlock(&readers_lock);
}

void
rcu_thread_stop(void)
{
	pthread_mutex_lock(&readers_lock);
	*self.link = self.next;
	if (self.next != NULL)
		self.next->link = self.link;
	pthread_mutex_unlock(&readers_lock);
}

void
rcu_read_begin(void)
{
	if (self.nesting++ == 0)
		atomic_exchange(&self.since, atomic_load(&epoch));
}

void
rcu_read_end(void)
{
	if (--self.nesting == 0)
		atomic_store(&self.since, 0);
}

static bool
older_reader(uint64_t now)
{
	bool found = false;

	pthread_mutex_lock(&readers_lock);
	for (struct reader *r = readers; r != NULL && !found; r = r->next) {
		uint64_t since = atomic_load(&r->since);

		found = since != 0 && since < now;
	}
	pthread_mutex_unlock(&readers_lock);
	return found;
}

static void
grace_period(void)
{
	uint64_t now = atomic_fetch_add(&epoch, 1) + 1;

	while (older_reader(now))
		nap(GATHER_NS / 20);
}

#else

#include <urcu/urcu-memb.h>

void
rcu_thread_start(void)
{
	urcu_memb_register_thread();
}

void
rcu_thread_stop(void)
{
	urcu_memb_unregister_thread();
}

void
rcu_read_begin(void)
{
	urcu_memb_read_lock();
}

void
rcu_read_end(void)
{
	urcu_memb_read_unlock();
}

static void
grace_period(void)
{
	urcu_memb_synchronize_rcu();
}

#endif

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake, ran;
	pthread_t thread;
	bool running, stop;
	uint64_t deferred_count, ran_count;
	struct rcu_item *head, **tail;
} queue = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.wake = PTHREAD_COND_INITIALIZER,
	.ran = PTHREAD_COND_INITIALIZER,
	.tail = &queue.head,
};

/* Takes all there is, waits, runs it. Called and returns with the lock held. */
static void
run_batch_locked(void)
{
	struct rcu_item *batch = queue.head, *next;
	uint64_t count = 0;

	queue.head = NULL;
	queue.tail = &queue.head;
	pthread_mutex_unlock(&queue.lock);
	grace_period();
	for (; batch != NULL; batch = next, count++) {
		next = batch->next;
		batch->free_fn(batch);
	}
	pthread_mutex_lock(&queue.lock);
	queue.ran_count += count;
	pthread_cond_broadcast(&queue.ran);
}

static void *
reclaim_main(void *arg)
{
	pthread_mutex_lock(&queue.lock);
	for (;;) {
		while (queue.head == NULL && !queue.stop)
			pthread_cond_wait(&queue.wake, &queue.lock);
		if (queue.head == NULL)
			break;
		if (!queue.stop) {
			pthread_mutex_unlock(&queue.lock);
			nap(GATHER_NS);
			pthread_mutex_lock(&queue.lock);
		}
		run_batch_locked();
	}
	queue.running = queue.stop = false;
	pthread_mutex_unlock(&queue.lock);
	return arg;
}

/*
 * No thread to be had: what is queued stays queued, and the next rcu_defer or rcu_wait tries again.
 */
static void
start_locked(void)
{
	sigset_t all, old;

	if (queue.running)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	queue.running = pthread_create(&queue.thread, NULL, reclaim_main, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void
rcu_defer(struct rcu_item *item, void (*free_fn)(struct rcu_item *item))
{
	item->next = NULL;
	item->free_fn = free_fn;
	pthread_mutex_lock(&queue.lock);
	*queue.tail = item;
	queue.tail = &item->next;
	queue.deferred_count++;
	start_locked();
	pthread_cond_signal(&queue.wake);
	pthread_mutex_unlock(&queue.lock);
}

void
rcu_wait(void)
{
	static pthread_mutex_t one_waiter = PTHREAD_MUTEX_INITIALIZER;
	pthread_t ended;
	uint64_t target;

	pthread_mutex_lock(&one_waiter);
	pthread_mutex_lock(&queue.lock);
	target = queue.deferred_count;
	while (queue.ran_count < target) {
		start_locked();
		if (queue.running)
			pthread_cond_wait(&queue.ran, &queue.lock);
		else
			run_batch_locked();
	}
	if (queue.running) {
		ended = queue.thread;
		queue.stop = true;
		pthread_cond_signal(&queue.wake);
		pthread_mutex_unlock(&queue.lock);
		pthread_join(ended, NULL);
	} else {
		pthread_mutex_unlock(&queue.lock);
	}
	pthread_mutex_unlock(&one_waiter);
}
