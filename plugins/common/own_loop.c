/* SPDX-License-Identifier: Apache-2.0 */
/* own_loop - a thread with an event loop: own_loop.h. Look-ups are in own_loop_dns.c */
#include "own_loop_private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000u

_Thread_local struct own_loop *own_loop_here;

struct own_watch {
	struct own_service service;
	struct event event;
	int fd;
	grapnel_watch_fn fn;
	void *arg;
};

struct own_timer {
	struct own_service service;
	struct event event;
	uint64_t due_ns;
	grapnel_call_fn fn;
	void *arg;
};

struct posted {
	struct own_loop_call call;
	grapnel_call_fn fn;
	void *arg;
};

static void
service_add(struct own_service *s, struct own_loop *loop, void (*drop)(struct own_service *s))
{
	s->loop = loop;
	s->drop = drop;
	s->prev = NULL;
	s->next = loop->services;
	if (s->next != NULL)
		s->next->prev = s;
	loop->services = s;
}

static void
service_remove(struct own_service *s)
{
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		s->loop->services = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
}

/* ---- descriptors ------------------------------------------------------------------- */

static void
on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct own_watch *w = arg;
	unsigned events = 0;

	if (what & EV_READ)
		events |= GRAPNEL_READABLE;
	if (what & EV_WRITE)
		events |= GRAPNEL_WRITABLE;
	if (what & EV_CLOSED)
		events |= GRAPNEL_HANGUP;
	w->fn(w->arg, fd, events); /* may remove the watch */
}

static int
watch_arm(struct own_watch *w, unsigned events)
{
	short what = EV_PERSIST;

	/* As the host's: a hang-up comes with readability only, so that one who writes is not called in circles. */
	if (events & GRAPNEL_READABLE)
		what |= EV_READ | EV_CLOSED;
	if (events & GRAPNEL_WRITABLE)
		what |= EV_WRITE;
	if (events != 0 && event_get_events(&w->event) == what &&
	    event_pending(&w->event, EV_READ | EV_WRITE, NULL))
		return GRAPNEL_OK;
	if (event_del(&w->event) != 0)
		return GRAPNEL_ESYS;
	if (events == 0)
		return GRAPNEL_OK;
	if (event_assign(&w->event, w->service.loop->base, w->fd, what, on_watch, w) != 0)
		return GRAPNEL_EINVAL;
	return event_add(&w->event, NULL) == 0 ? GRAPNEL_OK : GRAPNEL_ESYS;
}

static void
watch_remove(struct grapnel_watch *watch)
{
	struct own_watch *w = (struct own_watch *)(void *)watch;

	if (w == NULL)
		return;
	service_remove(&w->service);
	(void)event_del(&w->event);
	free(w);
}

static void
watch_drop(struct own_service *s)
{
	watch_remove((struct grapnel_watch *)(void *)s);
}

static struct grapnel_watch *
watch_fd(struct grapnel_instance *self, int fd, unsigned events, grapnel_watch_fn fn, void *arg)
{
	struct own_loop *loop = own_loop_here;
	struct own_watch *w;

	(void)self;
	if (loop == NULL || fd < 0 || fn == NULL || (w = calloc(1, sizeof(*w))) == NULL)
		return NULL;
	w->fd = fd;
	w->fn = fn;
	w->arg = arg;
	if (event_assign(&w->event, loop->base, fd, EV_PERSIST | EV_READ, on_watch, w) != 0) {
		free(w);
		return NULL;
	}
	service_add(&w->service, loop, watch_drop);
	if (watch_arm(w, events) == GRAPNEL_OK)
		return (struct grapnel_watch *)(void *)w;
	watch_remove((struct grapnel_watch *)(void *)w);
	return NULL;
}

static int
watch_change(struct grapnel_watch *watch, unsigned events)
{
	struct own_watch *w = (struct own_watch *)(void *)watch;

	return own_loop_here == w->service.loop ? watch_arm(w, events) : GRAPNEL_ESTATE;
}

/* ---- timers ------------------------------------------------------------------------ */

static uint64_t
now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

static int
timer_add(struct own_timer *t, uint64_t delay_ns)
{
	struct timeval delay = {
		.tv_sec = (time_t)(delay_ns / 1000 / NS_PER_MS),
		.tv_usec = (suseconds_t)(delay_ns / 1000 % NS_PER_MS),
	};

	return event_add(&t->event, &delay) == 0 ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

static void
on_due(evutil_socket_t fd, short what, void *arg)
{
	struct own_timer *t = arg;
	uint64_t now = now_ns();

	(void)fd;
	(void)what;
	/* The loop's clock is a coarse one; a timer is never early. */
	if (now < t->due_ns && timer_add(t, t->due_ns - now) == GRAPNEL_OK)
		return;
	t->fn(t->arg); /* may free it */
}

static int
timer_arm(struct grapnel_timer *timer, uint32_t delay_ms)
{
	struct own_timer *t = (struct own_timer *)(void *)timer;
	uint64_t delay_ns = (uint64_t)delay_ms * NS_PER_MS;

	if (own_loop_here != t->service.loop)
		return GRAPNEL_ESTATE;
	t->due_ns = now_ns() + delay_ns;
	return timer_add(t, delay_ns);
}

static void
timer_disarm(struct grapnel_timer *timer)
{
	if (timer != NULL)
		(void)event_del(&((struct own_timer *)(void *)timer)->event);
}

static void
timer_free(struct grapnel_timer *timer)
{
	struct own_timer *t = (struct own_timer *)(void *)timer;

	if (t == NULL)
		return;
	(void)event_del(&t->event);
	service_remove(&t->service);
	free(t);
}

static void
timer_drop(struct own_service *s)
{
	timer_free((struct grapnel_timer *)(void *)s);
}

static struct grapnel_timer *
timer_new(struct grapnel_instance *self, grapnel_call_fn fn, void *arg)
{
	struct own_loop *loop = own_loop_here;
	struct own_timer *t;

	(void)self;
	if (loop == NULL || fn == NULL || (t = calloc(1, sizeof(*t))) == NULL)
		return NULL;
	t->fn = fn;
	t->arg = arg;
	if (event_assign(&t->event, loop->base, -1, 0, on_due, t) != 0) {
		free(t);
		return NULL;
	}
	service_add(&t->service, loop, timer_drop);
	return (struct grapnel_timer *)(void *)t;
}

/* ---- posts ------------------------------------------------------------------------- */

static void
wake(struct own_loop *loop)
{
	uint64_t one = 1;

	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct own_loop *loop = arg;
	struct own_loop_call *call, *next;
	uint64_t count;
	bool stopping;

	(void)what;
	/* Before the list is taken: what is posted from now on wakes again. */
	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&loop->lock);
	call = loop->posts;
	loop->posts = NULL;
	loop->posts_last = &loop->posts;
	stopping = loop->stopping; /* then nothing comes behind what was just taken */
	pthread_mutex_unlock(&loop->lock);
	for (; call != NULL; call = next) {
		next = call->next;
		call->fn(call->arg);
	}
	if (stopping)
		(void)event_base_loopbreak(loop->base);
}

bool
own_loop_call(struct own_loop *loop, struct own_loop_call *call)
{
	bool first, good;

	call->next = NULL;
	pthread_mutex_lock(&loop->lock);
	good = !loop->stopping;
	first = loop->posts == NULL;
	if (good) {
		*loop->posts_last = call;
		loop->posts_last = &call->next;
	}
	pthread_mutex_unlock(&loop->lock);
	if (good && first)
		wake(loop);
	return good;
}

static void
on_post(void *arg)
{
	struct posted p = *(struct posted *)arg;

	free(arg);
	p.fn(p.arg);
}

int
own_loop_post(struct own_loop *loop, grapnel_call_fn fn, void *arg)
{
	struct posted *p = malloc(sizeof(*p));

	if (p == NULL)
		return GRAPNEL_ENOMEM;
	*p = (struct posted){ .call = { .fn = on_post, .arg = p }, .fn = fn, .arg = arg };
	if (own_loop_call(loop, &p->call))
		return GRAPNEL_OK;
	free(p);
	return GRAPNEL_ESTATE;
}

/* ---- the loop ---------------------------------------------------------------------- */

static void *
run(void *arg)
{
	struct own_loop *loop = arg;

	own_loop_here = loop;
	(void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
	own_loop_here = NULL;
	return NULL;
}

static struct event_base *
base_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config == NULL)
		return NULL;
	/* A delay counts from when it is asked for, not from when the turn began. */
	if (event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_NO_CACHE_TIME) ==
	    0)
		base = event_base_new_with_config(config);
	event_config_free(config);
	return base;
}

struct own_loop *
own_loop_new(const struct grapnel_host *host, struct grapnel_instance *self)
{
	struct own_loop *loop = calloc(1, sizeof(*loop));
	size_t size = host->size < sizeof(loop->table) ? host->size : sizeof(loop->table);

	if (loop == NULL)
		return NULL;
	if (pthread_mutex_init(&loop->lock, NULL) != 0) {
		free(loop);
		return NULL;
	}
	memcpy(&loop->table, host, size);
	loop->table.size = size;
	loop->table.watch_fd = watch_fd;
	loop->table.watch_change = watch_change;
	loop->table.watch_remove = watch_remove;
	loop->table.timer_new = timer_new;
	loop->table.timer_arm = timer_arm;
	loop->table.timer_disarm = timer_disarm;
	loop->table.timer_free = timer_free;
	loop->table.dns_lookup = own_loop_dns_lookup;
	loop->table.dns_cancel = own_loop_dns_cancel;
	loop->host = host;
	loop->self = self;
	loop->posts_last = &loop->posts;
	loop->base = base_new();
	loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->base != NULL && loop->wake_fd >= 0 &&
	    event_assign(
		&loop->wake, loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop) == 0 &&
	    event_add(&loop->wake, NULL) == 0)
		return loop;
	own_loop_free(loop);
	return NULL;
}

const struct grapnel_host *
own_loop_host(struct own_loop *loop)
{
	return &loop->table;
}

int
own_loop_start(struct own_loop *loop, const char *thread_name)
{
	char name[16];
	sigset_t all, before;

	if (loop->started)
		return GRAPNEL_ESTATE;
	(void)sigfillset(&all);
	if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
		return GRAPNEL_ESYS;
	loop->started = pthread_create(&loop->thread, NULL, run, loop) == 0;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!loop->started)
		return GRAPNEL_ESYS;
	(void)snprintf(name, sizeof(name), "%s", thread_name);
	(void)pthread_setname_np(loop->thread, name);
	return GRAPNEL_OK;
}

void
own_loop_stop(struct own_loop *loop)
{
	bool before;

	pthread_mutex_lock(&loop->lock);
	before = loop->stopping;
	loop->stopping = true;
	pthread_mutex_unlock(&loop->lock);
	if (before || !loop->started)
		return;
	wake(loop);
	(void)pthread_join(loop->thread, NULL);
}

static void
drop_posts(struct own_loop *loop)
{
	struct own_loop_call *call;

	while ((call = loop->posts) != NULL) { /* it never ran */
		loop->posts = call->next;
		if (call->fn == on_post)
			free(call->arg);
	}
}

void
own_loop_free(struct own_loop *loop)
{
	if (loop == NULL)
		return;
	own_loop_stop(loop);
	drop_posts(loop);
	while (loop->services != NULL)
		loop->services->drop(loop->services);
	own_loop_dns_forget(loop);
	if (loop->base != NULL) {
		if (event_initialized(&loop->wake))
			(void)event_del(&loop->wake);
		event_base_free(loop->base);
	}
	if (loop->wake_fd >= 0)
		(void)close(loop->wake_fd);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}
