/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper_calm - the keeper gives way to everybody while it writes and nobody waits for it
 *
 * A commit is milliseconds of work in one piece. Where a worker has no other processor to run on its clients would feel each of
 * them. So the keeper's thread is SCHED_IDLE meanwhile: it has what nobody else wants. When there is too little of that, and
 * somebody comes to need the keeper, it is made an ordinary thread again (keeper_call).
 *
 * Where a thread could not be taken back (an ordinary user whose RLIMIT_NICE is below 20) it is never done.
 * While w->lock is held neither, or a worker might wait for a thread that gives way to others.
 */
#include "keeper.h"

#include <sched.h>

static void
set_policy(pthread_t thread, int policy)
{
	struct sched_param none = { .sched_priority = 0 };

	(void)pthread_setschedparam(thread, policy, &none);
}

/* Whether an idle thread may become an ordinary one again is up to RLIMIT_NICE and capabilities: a thread of its own tries it. */
static void *
try(void *arg)
{
	bool *came_back = arg;
	struct sched_param none = { .sched_priority = 0 };

	*came_back = pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) == 0 &&
	    pthread_setschedparam(pthread_self(), SCHED_OTHER, &none) == 0;
	return NULL;
}

bool
keeper_can_be_calm(void)
{
	bool can = false;
	pthread_t thread;

	if (sched_getscheduler(0) != SCHED_OTHER || pthread_create(&thread, NULL, try, &can) != 0)
		return false;
	(void)pthread_join(thread, NULL);
	return can;
}

void
keeper_calm(struct keeper *k)
{
	struct webhook *w = k->w;
	bool calm;

	if (!k->can_be_calm)
		return;
	(void)pthread_mutex_lock(&w->lock);
	calm = w->held == NULL && w->jobs == NULL && k->jobs == NULL && k->dead == NULL &&
	    !w->ending && !queue_has(w, QUEUE_TOO_MUCH);
	w->calm = calm;
	atomic_store(&w->hurry, false);
	(void)pthread_mutex_unlock(&w->lock);
	if (!calm)
		return;
	set_policy(pthread_self(), SCHED_IDLE);
	(void)sched_yield();        /* to whom we were preferred when we woke up */
	if (atomic_load(&w->hurry)) /* somebody was faster than we */
		set_policy(pthread_self(), SCHED_OTHER);
}

void
keeper_calm_end(struct keeper *k)
{
	struct webhook *w = k->w;

	if (!w->calm) /* nobody else writes it */
		return;
	set_policy(pthread_self(), SCHED_OTHER);
	(void)pthread_mutex_lock(&w->lock);
	w->calm = false;
	(void)pthread_mutex_unlock(&w->lock);
}

void
keeper_call(struct webhook *w)
{
	(void)pthread_cond_signal(&w->wake);
	if (!w->calm || atomic_exchange(&w->hurry, true))
		return;
	set_policy(w->keeper, SCHED_OTHER);
}
