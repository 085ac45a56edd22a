/* SPDX-License-Identifier: Apache-2.0 */
#include "store/checker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STEPS        1000      /* of SQLite's machine between two looks whether it is to stop */
#define INTERRUPT_NS 10000000L /* between two attempts to stop it */
#define PATIENCE_MS  50        /* with a lock: it cannot be stopped meanwhile */
#define IO_OF_THREAD 1         /* ioprio_set(2), which has no header of the C library */
#define IO_IDLE      (3 << 13)

struct store_checker {
	pthread_t thread;
	char *directory;
	store_checked_fn done;
	void *arg;
	char first[STORE_ERROR];
	_Atomic bool stop;
	pthread_mutex_t lock; /* a leaf: for db and over */
	pthread_cond_t ended;
	sqlite3 *db; /* as long as it may be interrupted */
	bool over;
};

static int
on_steps(void *arg)
{
	struct store_checker *c = arg;

	return atomic_load_explicit(&c->stop, memory_order_relaxed) ? 1 : 0;
}

static void
on_fault(const char *text, void *arg)
{
	struct store_checker *c = arg;

	if (c->first[0] == '\0')
		(void)snprintf(c->first, sizeof(c->first), "%s", text);
}

static void
set_db(struct store_checker *c, sqlite3 *db, bool over)
{
	pthread_mutex_lock(&c->lock);
	c->db = db;
	c->over = over;
	if (over)
		pthread_cond_signal(&c->ended);
	pthread_mutex_unlock(&c->lock);
}

static void
be_humble(void)
{
	(void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
	(void)syscall(SYS_ioprio_set, IO_OF_THREAD, 0, IO_IDLE);
}

static long
check(struct store_checker *c)
{
	sqlite3 *db;
	long faults;

	if (store_file_read(&db, c->directory, c->first) != GRAPNEL_OK)
		return -1;
	(void)sqlite3_busy_timeout(db, PATIENCE_MS);
	sqlite3_progress_handler(db, STEPS, on_steps, c);
	set_db(c, db, false);
	faults = store_file_check(db, true, on_fault, c);
	set_db(c, NULL, false);
	(void)sqlite3_close(db);
	return faults;
}

static void *
checker_main(void *arg)
{
	struct store_checker *c = arg;
	long faults;

	be_humble();
	faults = check(c);
	if (!atomic_load(&c->stop))
		c->done(faults, c->first, c->arg);
	set_db(c, NULL, true);
	return NULL;
}

static void
checker_free(struct store_checker *c)
{
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->ended);
	free(c->directory);
	free(c);
}

int
store_checker_start(
    struct store_checker **out, const char *directory, store_checked_fn done, void *arg)
{
	struct store_checker *c = calloc(1, sizeof(*c));
	sigset_t all, before;
	int err;

	if (c == NULL)
		return GRAPNEL_ENOMEM;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->ended, NULL);
	c->done = done;
	c->arg = arg;
	if ((c->directory = strdup(directory)) == NULL) {
		checker_free(c);
		return GRAPNEL_ENOMEM;
	}
	(void)sigfillset(&all); /* signals are the main thread's */
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&c->thread, NULL, checker_main, c);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0) {
		checker_free(c);
		return GRAPNEL_ESYS;
	}
	(void)pthread_setname_np(c->thread, "store-check");
	*out = c;
	return GRAPNEL_OK;
}

void
store_checker_stop(struct store_checker *c)
{
	if (c == NULL)
		return;
	atomic_store(&c->stop, true);
	pthread_mutex_lock(&c->lock);
	/* Again and again: one that comes between two statements has no effect. */
	while (!c->over) {
		struct timespec until;

		if (c->db != NULL)
			sqlite3_interrupt(c->db);
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += INTERRUPT_NS;
		if (until.tv_nsec >= 1000000000L) {
			until.tv_sec++;
			until.tv_nsec -= 1000000000L;
		}
		(void)pthread_cond_timedwait(&c->ended, &c->lock, &until);
	}
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	checker_free(c);
}
