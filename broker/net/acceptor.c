/* SPDX-License-Identifier: Apache-2.0 */
#include "net/acceptor.h"
#include "base/log.h"
#include "core/broker.h"
#include "core/core.h"
#include "net/handshake.h"
#include "net/tls_context.h"
#include "plugin/handler.h"
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64u /* at most */
#define PAUSE_MS         200u
#define FULL_MS          100u   /* between two handshakes when max_memory is reached */
#define QUIET_MS         10000u /* between two lines about that */

/* A socket of a listener. */
struct door {
	struct acceptor *acceptor;
	struct listener *listener;
	int fd;
	bool handled;          /* by a plugin: nothing is accepted here */
	struct handed *handed; /* what the plugin has of it; NULL: nothing */
	unsigned
	    expected; /* as many as came lately: to find out that there is no other is the dearest call of all */
	struct event event;
};

struct acceptor {
	struct listeners *set;
	struct worker *worker;
	struct mail start, stop;
	bool running;
	int reserve_fd; /* given up to accept and close when there is no other descriptor */
	uint64_t quiet_until_ms, full_until_ms;
	struct timer pause; /* armed: nothing is accepted until it fires */
	struct door *doors;
	unsigned door_count;
};

/* ---- one connection -------------------------------------------------------------------------- */

static void
refused(const struct door *d, const char *peer, const char *why)
{
	struct worker *w = d->acceptor->worker;

	metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
	listener_refusal_log(w, "connection_refused", peer, d->listener->name, why);
}

static void
give_place_back(const struct door *d)
{
	atomic_fetch_sub_explicit(&d->listener->open, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&d->acceptor->set->broker->connections, 1, memory_order_relaxed);
}

/* A place for one more. @return how many there were; < 1: it has none, and *why says which limit stands against it. */
static int64_t
take_place(const struct door *d, const struct listener_settings *ls, const char **why)
{
	struct broker *b = d->acceptor->set->broker;
	/* Added first and compared then: two workers cannot both take the last place. */
	int64_t here = atomic_fetch_add_explicit(&d->listener->open, 1, memory_order_relaxed);
	int64_t total = atomic_fetch_add_explicit(&b->connections, 1, memory_order_relaxed);
	uint32_t max_here = ls->limits.max_connections,
		 max_total = atomic_load(&b->limits)->max_connections;
	int64_t pairs = atomic_load_explicit(&d->acceptor->set->pairs, memory_order_relaxed);
	int64_t room = d->acceptor->set->ceiling - total - pairs - (ls->handler != NULL);

	*why = "the limit of open files leaves no room for more connections (LimitNOFILE= in the "
	       "service, or ulimit -n)";
	if (max_total != 0 && max_total - total < room) {
		room = max_total - total;
		*why = "max_connections is reached";
	}
	if (max_here != 0 && max_here - here < room) {
		room = max_here - here;
		*why = "max_connections of the listener is reached";
	}
	if (room < 1)
		give_place_back(d);
	return room;
}

/*
 * No memory for a handshake? Of those that want one a few are let through even then: a Client that comes for what its
 * Session keeps makes room. Who speaks MQTT from the first byte on is told when it has sent its CONNECT.
 */
static bool
memory_full(struct acceptor *a)
{
	if (overload_level(&a->worker->broker->overload) != OVERLOAD_FULL)
		return false;
	if (a->worker->now_ms < a->full_until_ms)
		return true;
	a->full_until_ms = a->worker->now_ms + FULL_MS;
	return false;
}

static void
admit(const struct door *d, const struct listener_settings *ls, struct tls_context *tls, int fd,
    const struct sockaddr *peer, socklen_t peer_len)
{
	struct worker *w = d->acceptor->worker;
	char text[PEER_TEXT_MAX];
	const char *why;
	bool counted = false, in;
	int64_t room;

	if (handshake_needed(ls) && memory_full(d->acceptor)) {
		peer_text(text, fd, peer, peer_len);
		(void)close(fd);
		metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED_MEMORY, 1);
		refused(d, text, "max_memory is reached");
		return;
	}
	room = take_place(d, ls, &why);
	in = room >= 1;
	/* Behind a proxy the address that counts is not known yet: conn_handshake.c. */
	if (in && !ls->proxy_protocol && !listener_address_later(ls, peer) &&
	    !(in = listener_address_enter(w, ls, peer, &counted, &why)))
		give_place_back(d);
	if (!in) {
		peer_text(text, fd, peer, peer_len);
		(void)close(fd);
		refused(d, text, why);
		return;
	}
	metric_add(&w->metrics, METRIC_CONNECTIONS_ACCEPTED, 1);
	metric_add(&w->metrics, METRIC_CONNECTIONS, 1);
	(void)settings_ref(ls->settings);
	/* Where places are short, one that is gone again must not keep out those behind it in the queue. */
	conn_accepted(w, fd, ls, tls != NULL ? tls_context_ref(tls) : NULL, peer, peer_len, counted,
	    room <= ACCEPTS_PER_TURN);
}

/* ---- pauses ---------------------------------------------------------------------------------- */

static void
listening(struct acceptor *a, bool on)
{
	for (unsigned i = 0; i < a->door_count; i++) {
		if (a->doors[i].handled)
			continue;
		if (!on)
			(void)event_del(&a->doors[i].event);
		else if (event_add(&a->doors[i].event, NULL) != 0)
			worker_timer(a->worker, &a->pause, PAUSE_MS); /* no memory: again later */
	}
}

static void
on_pause_over(struct timer *t, void *owner)
{
	struct acceptor *a =
	    (struct acceptor *)(void *)((char *)t - offsetof(struct acceptor, pause));

	(void)owner;
	if (a->reserve_fd < 0)
		a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	listening(a, true);
}

/*
 * Nothing can be accepted, but the socket stays readable, so the loop would spin: stop listening for a moment.
 * One that waits is told by closing its connection, with the descriptor kept for this.
 */
static void
exhausted(const struct door *d, int err)
{
	struct acceptor *a = d->acceptor;
	struct worker *w = a->worker;
	struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(peer);
	char text[PEER_TEXT_MAX];
	int fd;

	if ((err == EMFILE || err == ENFILE) && a->reserve_fd >= 0) {
		(void)close(a->reserve_fd);
		a->reserve_fd = -1;
		fd = accept4(d->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);
		if (fd >= 0) {
			peer_text(text, fd, (const struct sockaddr *)&peer, len);
			(void)close(fd);
			refused(d, text, strerror(err));
		}
		a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (w->now_ms >= a->quiet_until_ms) {
		a->quiet_until_ms = w->now_ms + QUIET_MS;
		log_error("listener \"%s\": cannot accept: %s; accepting pauses, again and again "
			  "until this is over (%s)",
		    d->listener->name, strerror(err),
		    err == EMFILE ? "raise LimitNOFILE= of the service"
				  : "the system is short of it");
	}
	listening(a, false);
	worker_timer(w, &a->pause, PAUSE_MS);
}

static void
accept_some(struct door *d, const struct listener_settings *ls, struct tls_context *tls)
{
	unsigned n = 0;

	for (; n < d->expected; n++) {
		struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
		socklen_t len = sizeof(peer);
		int fd =
		    accept4(d->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			admit(d, ls, tls, fd, (const struct sockaddr *)&peer, len);
			continue;
		}
		switch (errno) {
		case EAGAIN:
			d->expected = n > 1 ? n : 1;
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			exhausted(d, errno);
			return;
		default: /* of the connection that was to be accepted, accept(2): go on with the next */
			break;
		}
	}
	/* Perhaps there are more: the socket stays readable then. */
	d->expected = n < ACCEPTS_PER_TURN / 2 ? n * 2 : ACCEPTS_PER_TURN;
}

static void
on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct door *d = arg;
	struct listeners *l = d->acceptor->set;
	const struct listener_settings *ls;
	struct tls_context *tls;

	(void)fd;
	(void)what;
	d->acceptor->worker->now_ms = clock_ms(); /* the loop may have slept */
	pthread_mutex_lock(&l->lock);
	ls = d->listener->ls;
	(void)settings_ref(ls->settings);
	tls = d->listener->tls != NULL ? tls_context_ref(d->listener->tls) : NULL;
	pthread_mutex_unlock(&l->lock);
	accept_some(d, ls, tls);
	tls_context_unref(tls);
	settings_unref(ls->settings);
}

/* ---- listeners with a handler ------------------------------------------------------------------ */

static struct acceptor *
acceptor_of(const struct worker *w)
{
	return &w->broker->listeners->acceptors[w->index];
}

void
acceptor_handlers(struct worker *w)
{
	struct acceptor *a = acceptor_of(w);
	struct listeners *l = a->set;

	for (unsigned i = 0; a->running && i < a->door_count; i++) {
		struct door *d = &a->doors[i];
		const struct listener_settings *ls;

		pthread_mutex_lock(&l->lock);
		ls = d->listener->ls;
		(void)settings_ref(ls->settings);
		pthread_mutex_unlock(&l->lock);
		d->handled = ls->handler != NULL;
		if (d->handled && !handler_is_current(w, d->handed, ls)) {
			handler_take(d->handed); /* the old one first: never two at one socket */
			handler_give(w, ls, d->fd, d->listener->bound.address, &d->handed);
		}
		settings_unref(ls->settings);
	}
}

int
acceptor_admit(struct worker *w, struct grapnel_str listener, const char *handler, const char *peer,
    const struct listener_settings **ls)
{
	struct acceptor *a = acceptor_of(w);
	struct listeners *l = a->set;
	struct door *d = NULL;
	const char *why;

	for (unsigned i = 0; i < a->door_count && d == NULL; i++) {
		const char *name = a->doors[i].listener->name;

		if (strlen(name) == listener.len && memcmp(name, listener.data, listener.len) == 0)
			d = &a->doors[i];
	}
	if (d == NULL)
		return GRAPNEL_ENOENT;
	pthread_mutex_lock(&l->lock);
	*ls = d->listener->ls;
	(void)settings_ref((*ls)->settings);
	pthread_mutex_unlock(&l->lock);
	if ((*ls)->handler == NULL || strcmp((*ls)->handler, handler) != 0) {
		settings_unref((*ls)->settings);
		return GRAPNEL_ENOENT;
	}
	if (take_place(d, *ls, &why) < 1) {
		settings_unref((*ls)->settings);
		refused(d, peer, why);
		return GRAPNEL_EQUOTA;
	}
	atomic_fetch_add_explicit(&l->pairs, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_CONNECTIONS_ACCEPTED, 1);
	metric_add(&w->metrics, METRIC_CONNECTIONS, 1);
	return GRAPNEL_OK;
}

/* ---- begin and end --------------------------------------------------------------------------- */

/* Where there is one socket only, the listeners are spread over the workers. */
static unsigned
worker_of(const struct listeners *l, unsigned listener, unsigned fd)
{
	return (listener + fd) % l->broker->worker_count;
}

static unsigned
doors_of(const struct listeners *l, unsigned worker)
{
	unsigned count = 0;

	for (unsigned k = 0; k < l->count; k++)
		for (unsigned i = 0; i < l->items[k].bound.count; i++)
			count += worker_of(l, k, i) == worker;
	return count;
}

int
acceptors_new(struct listeners *l)
{
	struct broker *b = l->broker;

	if ((l->acceptors = calloc(b->worker_count, sizeof(*l->acceptors))) == NULL)
		return GRAPNEL_ENOMEM;
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct acceptor *a = &l->acceptors[i];

		a->set = l;
		a->worker = b->workers[i];
		a->reserve_fd = -1;
		timer_init(&a->pause, on_pause_over);
		if ((a->doors = calloc(doors_of(l, i) + 1, sizeof(*a->doors))) == NULL)
			return GRAPNEL_ENOMEM;
	}
	for (unsigned k = 0; k < l->count; k++) {
		struct bound *bound = &l->items[k].bound;

		for (unsigned i = 0; i < bound->count; i++) {
			struct acceptor *a = &l->acceptors[worker_of(l, k, i)];

			a->doors[a->door_count++] = (struct door){ .acceptor = a,
				.listener = &l->items[k],
				.fd = bound->fds[i],
				.expected = 1 };
		}
		bound->count = 0;
	}
	return GRAPNEL_OK;
}

static void
on_start(struct worker *w, struct mail *m)
{
	struct acceptor *a = acceptor_of(w);

	(void)m;
	a->running = true;
	a->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < a->door_count; i++)
		(void)event_assign(&a->doors[i].event, w->base, a->doors[i].fd,
		    EV_READ | EV_PERSIST, on_acceptable, &a->doors[i]);
	acceptor_handlers(w);
	listening(a, true);
}

void
acceptors_start(struct listeners *l)
{
	for (unsigned i = 0; i < l->broker->worker_count; i++) {
		l->acceptors[i].start.fn = on_start;
		worker_post(l->broker->workers[i], &l->acceptors[i].start);
	}
}

/* No worker closes its sockets before acceptors_stop, which is main's own. */
void
acceptors_apply(struct listeners *l, unsigned listener, const struct listener_settings *ls)
{
	for (unsigned i = 0; i < l->broker->worker_count; i++) {
		const struct acceptor *a = &l->acceptors[i];

		for (unsigned k = 0; k < a->door_count; k++)
			if (a->doors[k].listener == &l->items[listener])
				bound_apply(a->doors[k].fd, ls);
	}
}

static void
acceptor_close(struct acceptor *a)
{
	if (a->running) {
		listening(a, false);
		timer_disarm(a->worker->wheel, &a->pause);
	}
	a->running = false;
	while (a->door_count > 0) {
		struct door *d = &a->doors[--a->door_count];

		handler_take(d->handed);
		(void)close(d->fd);
	}
	if (a->reserve_fd >= 0)
		(void)close(a->reserve_fd);
	a->reserve_fd = -1;
}

static void
on_stop(struct worker *w, struct mail *m)
{
	(void)m;
	acceptor_close(acceptor_of(w));
}

void
acceptors_stop(struct listeners *l)
{
	for (unsigned i = 0; i < l->broker->worker_count; i++) {
		l->acceptors[i].stop.fn = on_stop;
		worker_post(l->broker->workers[i], &l->acceptors[i].stop);
	}
}

void
acceptors_free(struct listeners *l)
{
	for (unsigned i = 0; l->acceptors != NULL && i < l->broker->worker_count; i++) {
		struct acceptor *a = &l->acceptors[i];

		if (a->set != NULL)
			acceptor_close(a);
		free(a->doors);
	}
	free(l->acceptors);
	l->acceptors = NULL;
}
