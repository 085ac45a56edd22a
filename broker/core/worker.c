/* SPDX-License-Identifier: Apache-2.0 */
#include "core/worker.h"
#include "base/log.h"
#include "base/rcu.h"
#include "core/broker.h"
#include "core/message.h"
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MAIL_PER_TURN    256u
#define TIMERS_PER_TURN  4096u
#define BUSY_TURNS       8u /* turns with connections alone, at most */
#define BUSY_CONNECTIONS 4u /* so many had something: ask them again first */

_Thread_local struct worker *worker_self;

/* ---- mailbox -------------------------------------------------------------------------------- */

/* Push a batch whose newest item is `newest`. Any thread. */
static void
mailbox_push(struct worker *w, struct mail *newest, struct mail *oldest, unsigned count)
{
	static const uint64_t one = 1;
	struct mail *head = atomic_load_explicit(&w->mail_head, memory_order_relaxed);

	atomic_fetch_add_explicit(&w->mail_depth, count, memory_order_relaxed);
	do
		oldest->next = head;
	while (!atomic_compare_exchange_weak_explicit(
	    &w->mail_head, &head, newest, memory_order_release, memory_order_relaxed));
	/*
	 * Not empty: whoever made it so has written the eventfd, and the owner has not emptied it since. The
	 * counter cannot overflow (one per drain at most), so the write cannot fail but for a signal.
	 */
	if (head == NULL)
		while (write(w->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			continue;
}

void
worker_post(struct worker *w, struct mail *m)
{
	struct worker *self = worker_self;

	if (self != NULL && self->broker == w->broker) {
		m->next = self->outbox[w->index].first;
		self->outbox[w->index].first = m;
		if (m->next == NULL)
			self->outbox[w->index].last = m;
		self->outbox[w->index].count++;
		return;
	}
	mailbox_push(w, m, m, 1);
}

uint32_t
worker_mail_depth(const struct worker *w)
{
	return atomic_load_explicit(&w->mail_depth, memory_order_relaxed);
}

bool
worker_send(struct worker *w)
{
	bool any = false;

	for (unsigned i = 0; i <= w->broker->worker_count; i++) {
		unsigned count = w->outbox[i].count;

		if (count == 0)
			continue;
		w->outbox[i].count = 0;
		mailbox_push(w->broker->workers[i], w->outbox[i].first, w->outbox[i].last, count);
		w->outbox[i].first = w->outbox[i].last = NULL;
		metric_add(&w->metrics, METRIC_MAIL_SENT, count);
		any = true;
	}
	return any;
}

/* Empty the mailbox into w->inbox, which is empty: oldest first. */
static void
inbox_fill(struct worker *w)
{
	struct mail *m = atomic_exchange_explicit(&w->mail_head, NULL, memory_order_acquire);

	while (m != NULL) {
		struct mail *next = m->next;

		m->next = w->inbox;
		w->inbox = m;
		m = next;
	}
}

/* Run at most MAIL_PER_TURN items. @return how many. */
static unsigned
mail_run(struct worker *w)
{
	unsigned n = 0;

	for (; n < MAIL_PER_TURN; n++) {
		struct mail *m;

		if (w->inbox == NULL)
			inbox_fill(w);
		if ((m = w->inbox) == NULL)
			break;
		w->inbox = m->next;
		m->fn(w, m); /* may free m */
		if (w->core != NULL && !w->stopping) /* worker_drain has nobody to write to */
			conn_mail_handled(w);
	}
	if (n > 0)
		atomic_fetch_sub_explicit(&w->mail_depth, n, memory_order_relaxed);
	return n;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	(void)what;
	(void)arg;
	/* Before the mailbox is emptied, never after: a batch that comes in between wakes us once more. */
	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
		log_error("mailbox: reading the eventfd: %s", strerror(errno));
}

static void
on_poll(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	w->poll_ready = true; /* handled at its place in the loop */
}

/* ---- the loop ------------------------------------------------------------------------------- */

static void
on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct worker *w = arg;

	(void)fd;
	(void)what;
	w->tick_due_ms = UINT64_MAX; /* the wheel itself is turned at its place in the loop */
}

/* Have the loop wake up for the wheel. @return false: something is due now, do not sleep. */
static bool
tick_arm(struct worker *w)
{
	uint64_t next = wheel_next_ms(w->wheel), delay;
	struct timeval tv;

	if (next <= w->now_ms)
		return false;
	if (next >= w->tick_due_ms)
		return true; /* an early wake-up re-arms itself */
	delay = next - w->now_ms;
	tv.tv_sec = (time_t)(delay / 1000);
	tv.tv_usec = (suseconds_t)(delay % 1000 * 1000);
	if (event_add(w->tick_event, &tv) != 0)
		return false; /* no memory for a timer: look again without sleeping */
	w->tick_due_ms = next;
	return true;
}

void
worker_run(struct worker *w)
{
	struct worker *outer = worker_self;
	unsigned busy_turns = 0;
	bool work, again, busy = false;

	worker_self = w;
	w->now_ms = clock_ms();
	(void)worker_send(w);
	while (!w->stopping) {
		work = mail_run(w) > 0;
		work |= wheel_advance(w->wheel, w->now_ms, TIMERS_PER_TURN, w) > 0;
		/* What mail and timers made must not wait in an outbox for the next packet of a peer. */
		if (w->dirty.first != NULL || w->flush_due || w->again)
			work = true;
		again = w->again;
		w->again = false;
		/* Connections that had something a moment ago have more: libevent is asked now and then only. */
		if (!busy || ++busy_turns == BUSY_TURNS) {
			busy_turns = 0;
			if (!busy && !work && !tick_arm(w))
				work = true;
			if (event_base_loop(
				w->base, EVLOOP_ONCE | (work || busy ? EVLOOP_NONBLOCK : 0)) < 0)
				log_error("worker %u: event loop: %s", w->index, strerror(errno));
		}
		w->now_ms = clock_ms();
		busy = (busy || w->poll_ready || again) && w->core != NULL &&
		    conn_poll(w) >= BUSY_CONNECTIONS;
		w->poll_ready = false;
		router_flush(w);
		/* Before the answers: what is acknowledged to a Client is on its way to everybody else. */
		(void)worker_send(w);
		if (w->dirty.first != NULL || w->flush_due) {
			conn_flush_dirty(w);
			/* A connection that broke while being written may have left a Will Message. */
			router_flush(w);
		}
		durable_flush(w);
		hooks_flush(w);
		overload_turn(w);
		(void)worker_send(w);
		metric_add(&w->metrics, METRIC_LOOP_TURNS, 1);
	}
	worker_self = outer;
}

void
worker_stop(struct worker *w)
{
	w->stopping = true;
}

static void *
worker_main(void *arg)
{
	rcu_thread_start();
	message_pool_start();
	worker_run(arg);
	message_pool_stop();
	rcu_thread_stop();
	return NULL;
}

int
worker_start(struct worker *w)
{
	sigset_t all, before;
	char name[16];
	int err;

	/* Signals are for the main thread, which has them as events. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&w->thread, NULL, worker_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0) {
		errno = err;
		return GRAPNEL_ESYS;
	}
	w->threaded = true;
	(void)snprintf(name, sizeof(name), "worker-%u", w->index);
	(void)pthread_setname_np(w->thread, name);
	return GRAPNEL_OK;
}

int
worker_join(struct worker *w, uint64_t timeout_ms)
{
	struct timespec until;

	if (!w->threaded)
		return GRAPNEL_OK;
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (time_t)(timeout_ms / 1000);
	until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	if (pthread_timedjoin_np(w->thread, NULL, &until) != 0)
		return GRAPNEL_ETIMEOUT;
	w->threaded = false;
	return GRAPNEL_OK;
}

bool
worker_drain(struct worker *w)
{
	struct worker *outer = worker_self;
	bool any = false;

	worker_self = w;
	w->now_ms = clock_ms();
	any |= worker_send(w);
	any |= mail_run(w) > 0;
	any |= worker_send(w);
	worker_self = outer;
	return any;
}

void
worker_timer(struct worker *w, struct timer *t, uint64_t delay_ms)
{
	timer_arm(
	    w->wheel, t, delay_ms > UINT64_MAX - w->now_ms ? UINT64_MAX : w->now_ms + delay_ms);
}

/* ---- making one ----------------------------------------------------------------------------- */

static struct event_base *
base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config == NULL)
		return NULL;
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

int
worker_new(struct worker **out, struct broker *b, unsigned index)
{
	struct worker *w = aligned_alloc(_Alignof(struct worker), sizeof(*w));
	struct epoll_event in_handshake = { .events = EPOLLIN, .data.ptr = NULL };
	int err = GRAPNEL_ENOMEM;

	if (w == NULL)
		return err;
	memset(w, 0, sizeof(*w));
	w->broker = b;
	w->index = index;
	w->wake_fd = w->poll_fd = w->handshake_fd = -1;
	w->tick_due_ms = UINT64_MAX;
	w->now_ms = clock_ms();
	w->read_size = b->settings->read_buffer;
	if ((w->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0 ||
	    (w->poll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    (w->handshake_fd = epoll_create1(EPOLL_CLOEXEC)) < 0 ||
	    epoll_ctl(w->poll_fd, EPOLL_CTL_ADD, w->handshake_fd, &in_handshake) < 0) {
		err = GRAPNEL_ESYS;
		goto fail;
	}
	if ((w->base = base_new()) == NULL || (w->read_buffer = malloc(w->read_size)) == NULL)
		goto fail;
	if ((err = wheel_new(&w->wheel, w->now_ms)) != GRAPNEL_OK)
		goto fail;
	err = GRAPNEL_ENOMEM;
	w->wake_event = event_new(w->base, w->wake_fd, EV_READ | EV_PERSIST, on_wake, w);
	w->tick_event = event_new(w->base, -1, 0, on_tick, w);
	w->poll_event = event_new(w->base, w->poll_fd, EV_READ | EV_PERSIST, on_poll, w);
	if (w->wake_event == NULL || w->tick_event == NULL || w->poll_event == NULL ||
	    event_add(w->wake_event, NULL) != 0 || event_add(w->poll_event, NULL) != 0)
		goto fail;
	*out = w;
	return GRAPNEL_OK;
fail:
	worker_free(w);
	return err;
}

void
worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	if (w->wake_event != NULL)
		event_free(w->wake_event);
	if (w->tick_event != NULL)
		event_free(w->tick_event);
	if (w->poll_event != NULL)
		event_free(w->poll_event);
	if (w->base != NULL)
		event_base_free(w->base);
	if (w->handshake_fd >= 0)
		(void)close(w->handshake_fd);
	if (w->poll_fd >= 0)
		(void)close(w->poll_fd);
	if (w->wake_fd >= 0)
		(void)close(w->wake_fd);
	wheel_free(w->wheel);
	free(w->read_buffer);
	free(w);
}
