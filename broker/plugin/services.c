/* SPDX-License-Identifier: Apache-2.0 */
#include "services.h"
#include "core/broker.h"
#include "request.h"
#include "store/store.h"
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* ---- descriptors ----------------------------------------------------------------------------- */

struct grapnel_watch {
	struct service service;
	struct event *event;
	int fd;
	grapnel_watch_fn fn;
	void *arg;
};

static void
watch_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct grapnel_watch *watch = arg;
	struct instance_worker *iw = watch->service.iw;
	unsigned events = 0;
	uint64_t entered = plugin_enter();

	if (what & EV_READ)
		events |= GRAPNEL_READABLE;
	if (what & EV_WRITE)
		events |= GRAPNEL_WRITABLE;
	if (what & EV_CLOSED)
		events |= GRAPNEL_HANGUP;
	watch->fn(watch->arg, fd, events); /* may remove the watch */
	plugin_leave(iw, entered, "watch_fd callback");
}

static int
watch_arm(struct grapnel_watch *watch, unsigned events)
{
	short what = EV_PERSIST;

	/*
	 * A hang-up is level-triggered too: it comes with readability, so that one who only
	 * writes is not called in circles.
	 */
	if (events & GRAPNEL_READABLE)
		what |= EV_READ | EV_CLOSED;
	if (events & GRAPNEL_WRITABLE)
		what |= EV_WRITE;
	if (events != 0 && event_get_events(watch->event) == what &&
	    event_pending(watch->event, EV_READ | EV_WRITE, NULL))
		return GRAPNEL_OK;
	if (event_del(watch->event) != 0)
		return GRAPNEL_ESYS;
	if (events == 0)
		return GRAPNEL_OK;
	if (event_assign(watch->event, watch->service.iw->w->base, watch->fd, what, watch_on_event,
		watch) != 0)
		return GRAPNEL_EINVAL;
	return event_add(watch->event, NULL) == 0 ? GRAPNEL_OK : GRAPNEL_ESYS;
}

static void
watch_drop(struct service *s)
{
	service_watch_remove((struct grapnel_watch *)(void *)s);
}

struct grapnel_watch *
service_watch_fd(
    struct instance_worker *iw, int fd, unsigned events, grapnel_watch_fn fn, void *arg)
{
	struct grapnel_watch *watch;

	if (fd < 0 || fn == NULL || (watch = calloc(1, sizeof(*watch))) == NULL)
		return NULL;
	watch->fd = fd;
	watch->fn = fn;
	watch->arg = arg;
	watch->event = event_new(iw->w->base, fd, EV_PERSIST | EV_READ, watch_on_event, watch);
	if (watch->event == NULL) {
		free(watch);
		return NULL;
	}
	service_add(&watch->service, iw, watch_drop);
	if (watch_arm(watch, events) != GRAPNEL_OK) {
		service_watch_remove(watch);
		return NULL;
	}
	return watch;
}

int
service_watch_change(struct grapnel_watch *watch, unsigned events)
{
	if (worker_self != watch->service.iw->w)
		return GRAPNEL_ESTATE;
	return watch_arm(watch, events);
}

void
service_watch_remove(struct grapnel_watch *watch)
{
	if (watch == NULL)
		return;
	service_remove(&watch->service);
	event_free(watch->event);
	free(watch);
}

/* ---- timers ---------------------------------------------------------------------------------- */

struct grapnel_timer {
	struct service service;
	struct timer timer;
	grapnel_call_fn fn;
	void *arg;
};

static void
timer_on_due(struct timer *t, void *owner)
{
	struct grapnel_timer *timer =
	    (struct grapnel_timer *)(void *)((char *)t - offsetof(struct grapnel_timer, timer));
	struct instance_worker *iw = timer->service.iw;
	uint64_t entered = plugin_enter();

	(void)owner;
	timer->fn(timer->arg); /* may free it */
	plugin_leave(iw, entered, "timer callback");
}

static void
timer_drop(struct service *s)
{
	service_timer_free((struct grapnel_timer *)(void *)s);
}

struct grapnel_timer *
service_timer_new(struct instance_worker *iw, grapnel_call_fn fn, void *arg)
{
	struct grapnel_timer *timer;

	if (fn == NULL || (timer = calloc(1, sizeof(*timer))) == NULL)
		return NULL;
	timer_init(&timer->timer, timer_on_due);
	timer->fn = fn;
	timer->arg = arg;
	service_add(&timer->service, iw, timer_drop);
	return timer;
}

int
service_timer_arm(struct grapnel_timer *timer, uint32_t delay_ms)
{
	struct worker *w = timer->service.iw->w;

	if (worker_self != w)
		return GRAPNEL_ESTATE;
	/* From the real now: the turn's may be old in a long turn, and a timer is never early. */
	timer_arm(w->wheel, &timer->timer, clock_ms() + delay_ms);
	return GRAPNEL_OK;
}

void
service_timer_disarm(struct grapnel_timer *timer)
{
	if (timer != NULL)
		timer_disarm(timer->service.iw->w->wheel, &timer->timer);
}

void
service_timer_free(struct grapnel_timer *timer)
{
	if (timer == NULL)
		return;
	service_timer_disarm(timer);
	service_remove(&timer->service);
	free(timer);
}

/* ---- calls to a worker ----------------------------------------------------------------------- */

struct posted {
	struct mail mail;
	struct instance_worker *iw;
	grapnel_call_fn fn;
	void *arg;
};

static void
posted_on_mail(struct worker *w, struct mail *m)
{
	struct posted *p = (struct posted *)(void *)m;
	struct instance_worker *iw = p->iw;

	(void)w;
	if (instance_callable(iw)) { /* else it was left by force, at shutdown */
		uint64_t entered = plugin_enter();

		p->fn(p->arg);
		plugin_leave(iw, entered, "posted call");
	}
	atomic_fetch_sub(&iw->posted, 1);
	free(p);
}

int
service_post(struct instance *in, unsigned worker, grapnel_call_fn fn, void *arg)
{
	struct instance_worker *iw;
	struct posted *p;

	if (worker >= in->worker_count || fn == NULL)
		return GRAPNEL_EINVAL;
	iw = &in->workers[worker];
	p = malloc(sizeof(*p));
	if (p == NULL)
		return GRAPNEL_ENOMEM;
	/*
	 * Count, then look: the worker closes, then looks at the count. One of the two sees the
	 * other.
	 */
	atomic_fetch_add(&iw->posted, 1);
	if (atomic_load(&iw->closed)) {
		atomic_fetch_sub(&iw->posted, 1);
		free(p);
		return GRAPNEL_ESTATE;
	}
	p->mail.fn = posted_on_mail;
	p->iw = iw;
	p->fn = fn;
	p->arg = arg;
	worker_post(in->broker->workers[worker], &p->mail);
	return GRAPNEL_OK;
}

/* ---- internal subscriptions ------------------------------------------------------------------ */

/* What the plugin has as its struct grapnel_sub is this; the core's own is inside. */
struct subscription {
	struct service service;
	struct grapnel_sub *core;
	grapnel_message_fn fn;
	void *arg;
};

static void
subscription_on_message(void *arg, const struct grapnel_message_info *message)
{
	struct subscription *s = arg;
	struct instance_worker *iw = s->service.iw;
	uint64_t entered = plugin_enter();

	s->fn(s->arg, message); /* may unsubscribe */
	plugin_leave(iw, entered, "message callback");
}

static void
subscription_drop(struct service *s)
{
	service_unsubscribe((struct grapnel_sub *)(void *)s);
}

struct grapnel_sub *
service_subscribe(
    struct instance_worker *iw, struct grapnel_str filter, grapnel_message_fn fn, void *arg)
{
	struct subscription *s;

	if (fn == NULL || (s = calloc(1, sizeof(*s))) == NULL)
		return NULL;
	s->fn = fn;
	s->arg = arg;
	s->core = core_subscribe(iw->w, filter, subscription_on_message, s);
	if (s->core == NULL) {
		free(s);
		return NULL;
	}
	service_add(&s->service, iw, subscription_drop);
	return (struct grapnel_sub *)(void *)s;
}

void
service_unsubscribe(struct grapnel_sub *sub)
{
	struct subscription *s = (struct subscription *)(void *)sub;

	if (s == NULL)
		return;
	core_unsubscribe(s->core);
	service_remove(&s->service);
	free(s);
}

/* ---- finding a client ------------------------------------------------------------------------ */

struct find {
	struct instance_worker *iw;
	void (*fn)(void *arg, const struct grapnel_client_info *info);
	void *arg;
};

static void
find_on_found(void *arg, const struct grapnel_client_info *info)
{
	struct find *f = arg;
	struct instance_worker *iw = f->iw;

	iw->finds--;
	if (instance_callable(iw)) {
		uint64_t entered = plugin_enter();

		f->fn(f->arg, info);
		plugin_leave(iw, entered, "client_find callback");
	}
	free(f);
}

int
service_find(struct instance_worker *iw, struct grapnel_str mountpoint,
    struct grapnel_str client_id, void (*fn)(void *arg, const struct grapnel_client_info *info),
    void *arg)
{
	struct find *f;
	int err;

	if (fn == NULL || (client_id.data == NULL && client_id.len > 0))
		return GRAPNEL_EINVAL;
	f = malloc(sizeof(*f));
	if (f == NULL)
		return GRAPNEL_ENOMEM;
	f->iw = iw;
	f->fn = fn;
	f->arg = arg;
	iw->finds++;
	err = core_client_find(iw->w, mountpoint, client_id, find_on_found, f);
	if (err != GRAPNEL_OK) {
		iw->finds--;
		free(f);
	}
	return err;
}

/* ---- what is kept is on the disk --------------------------------------------------------------- */

struct sync {
	struct service service; /* dropped: the instance has left, and its mail finds nobody */
	struct mail mail;
	grapnel_call_fn fn;
	void *arg;
};

static void
sync_on_mail(struct worker *w, struct mail *m)
{
	struct sync *s = (struct sync *)(void *)((char *)m - offsetof(struct sync, mail));
	struct instance_worker *iw = s->service.iw;

	(void)w;
	if (s->service.link != NULL) {
		uint64_t entered = plugin_enter();

		service_remove(&s->service);
		s->fn(s->arg);
		plugin_leave(iw, entered, "value_sync callback");
	}
	free(s);
}

int
service_value_sync(struct instance_worker *iw, grapnel_call_fn fn, void *arg)
{
	struct store *st = iw->w->broker->store;
	struct sync *s;
	int err;

	if (fn == NULL)
		return GRAPNEL_EINVAL;
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return GRAPNEL_ENOMEM;
	s->mail.fn = sync_on_mail;
	s->fn = fn;
	s->arg = arg;
	service_add(&s->service, iw, service_remove);
	if (st == NULL) {
		worker_post(iw->w, &s->mail);
		return GRAPNEL_OK;
	}
	if ((err = store_sync(st, iw->w, &s->mail)) != GRAPNEL_OK) {
		service_remove(&s->service);
		free(s);
	}
	return err;
}
