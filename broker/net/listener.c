/* SPDX-License-Identifier: Apache-2.0 */
#include "net/listener.h"
#include "base/log.h"
#include "config/conf.h"
#include "core/broker.h"
#include "core/core.h"
#include "net/listener_bind.h"
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN   64u
#define PAUSE_MS           200u
#define QUIET_MS           10000u /* between two lines about that */
#define DESCRIPTORS_FOR_US 200u   /* store, plugins' connections, files being read ... */

struct listener {
	struct listeners *set;
	char *name;           /* constant: what its sections of all reloads have in common */
	_Atomic int64_t open; /* Network Connections; any thread */
	const struct listener_settings *ls; /* in broker->settings */
	struct bound bound;
	struct event *event;
};

struct listeners {
	struct broker *broker;
	unsigned count, next_worker;
	int64_t ceiling; /* of all Network Connections, by descriptors */
	int reserve_fd;  /* given up to accept and close when there is no other descriptor */
	bool running;
	uint64_t quiet_until_ms;
	struct timer pause; /* armed: nothing is accepted until it fires */
	struct listener *items;
};

/* The listener of a section, which may be of an older configuration with another order. Any thread. */
static struct listener *
listener_of(const struct listeners *l, const struct listener_settings *ls)
{
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->items[i].name, ls->name) == 0)
			return &l->items[i];
	return NULL; /* never: names cannot change without a restart */
}

void
peer_text(char out[static PEER_TEXT_MAX], int fd, const struct sockaddr *sa, socklen_t len)
{
	char host[INET6_ADDRSTRLEN];

	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

		(void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
		(void)snprintf(out, PEER_TEXT_MAX, "%s:%u", host, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

		if (IN6_IS_ADDR_V4MAPPED(
			&in6->sin6_addr)) { /* the same client must not have two names */
			(void)inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, sizeof(host));
			(void)snprintf(out, PEER_TEXT_MAX, "%s:%u", host, ntohs(in6->sin6_port));
		} else {
			(void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
			(void)snprintf(out, PEER_TEXT_MAX, "[%s]:%u", host, ntohs(in6->sin6_port));
		}
	} else {
		struct ucred cred;
		socklen_t cred_len = sizeof(cred);

		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0)
			(void)snprintf(out, PEER_TEXT_MAX, "unix:uid=%u,pid=%d", (unsigned)cred.uid,
			    (int)cred.pid);
		else
			(void)snprintf(out, PEER_TEXT_MAX, "unix:");
	}
}

/* ---- accepting ------------------------------------------------------------------------------- */

static void
refused(struct listener *li, const char *peer, const char *why)
{
	struct metrics *m = &li->set->broker->main->metrics;
	unsigned suppressed;

	metric_add(m, METRIC_CONNECTIONS_REFUSED, 1);
	if (!log_allowed(peer, &suppressed))
		metric_add(m, METRIC_LOG_SUPPRESSED, 1);
	else if (suppressed > 0)
		log_at(GRAPNEL_LOG_NOTICE, "connection_refused",
		    "%s on listener \"%s\": %s (%u more lines left out)", peer, li->ls->name, why,
		    suppressed);
	else
		log_at(GRAPNEL_LOG_NOTICE, "connection_refused", "%s on listener \"%s\": %s", peer,
		    li->ls->name, why);
}

/* Which limit stands against one more? NULL: none. */
static const char *
limit_reached(const struct listener *li)
{
	struct broker *b = li->set->broker;
	int64_t total = atomic_load_explicit(&b->connections, memory_order_relaxed);
	int64_t here = atomic_load_explicit(&li->open, memory_order_relaxed);
	uint32_t max_total = atomic_load(&b->limits)->max_connections;

	if (li->ls->limits.max_connections != 0 && here >= li->ls->limits.max_connections)
		return "max_connections of the listener is reached";
	if (max_total != 0 && total >= max_total)
		return "max_connections is reached";
	if (total >= li->set->ceiling)
		return "the limit of open files leaves no room for more connections (LimitNOFILE= "
		       "in the service, or ulimit -n)";
	return NULL;
}

static void
hand_over(struct listener *li, int fd, const struct sockaddr_storage *peer, socklen_t peer_len)
{
	struct broker *b = li->set->broker;
	struct worker *target = b->workers[li->set->next_worker];
	char text[PEER_TEXT_MAX];
	const char *why = limit_reached(li);
	struct accepted *a = NULL;
	int on = 1;

	if (why == NULL && (a = malloc(sizeof(*a))) == NULL)
		why = "out of memory";
	if (why != NULL) {
		peer_text(text, fd, (const struct sockaddr *)peer, peer_len);
		(void)close(fd);
		refused(li, text, why);
		return;
	}
	if (!li->ls->is_unix)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	a->mail.fn = conn_accepted_mail;
	a->fd = fd;
	a->settings = settings_ref(b->settings);
	a->ls = li->ls;
	a->peer_len = peer_len;
	a->peer = *peer;
	atomic_fetch_add_explicit(&b->connections, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&li->open, 1, memory_order_relaxed);
	metric_add(&b->main->metrics, METRIC_CONNECTIONS_ACCEPTED, 1);
	metric_add(&b->main->metrics, METRIC_CONNECTIONS, 1);
	li->set->next_worker = (li->set->next_worker + 1) % b->worker_count;
	worker_post(target, &a->mail);
}

static void
listening(struct listeners *l, bool on)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->items[i].event == NULL)
			continue;
		if (!on)
			(void)event_del(l->items[i].event);
		else if (event_add(l->items[i].event, NULL) != 0)
			worker_timer(
			    l->broker->main, &l->pause, PAUSE_MS); /* no memory: again later */
	}
}

static void
on_pause_over(struct timer *t, void *owner)
{
	struct listeners *l =
	    (struct listeners *)(void *)((char *)t - offsetof(struct listeners, pause));

	(void)owner;
	if (l->reserve_fd < 0)
		l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (l->running)
		listening(l, true);
}

/*
 * Nothing can be accepted, but the socket stays readable, so the loop would spin: stop listening for a moment.
 * One that waits is told by closing its connection, with the descriptor kept for this.
 */
static void
exhausted(struct listener *li, int err)
{
	struct listeners *l = li->set;
	int fd;

	if ((err == EMFILE || err == ENFILE) && l->reserve_fd >= 0) {
		(void)close(l->reserve_fd);
		l->reserve_fd = -1;
		if ((fd = accept4(li->bound.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
			(void)close(fd);
			metric_add(&l->broker->main->metrics, METRIC_CONNECTIONS_REFUSED, 1);
		}
		l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
	if (l->broker->main->now_ms >= l->quiet_until_ms) {
		l->quiet_until_ms = l->broker->main->now_ms + QUIET_MS;
		log_error("listener \"%s\": cannot accept: %s; accepting pauses, again and again "
			  "until this is over (%s)",
		    li->ls->name, strerror(err),
		    err == EMFILE ? "raise LimitNOFILE= of the service"
				  : "the system is short of it");
	}
	listening(l, false);
	worker_timer(l->broker->main, &l->pause, PAUSE_MS);
}

static void
on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *li = arg;

	(void)what;
	for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
		struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
		socklen_t len = sizeof(peer);
		int fd = accept4(
		    listen_fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			hand_over(li, fd, &peer, len);
			continue;
		}
		switch (errno) {
		case EAGAIN:
			return;
		case EMFILE:
		case ENFILE:
		case ENOBUFS:
		case ENOMEM:
			exhausted(li, errno);
			return;
		default: /* of the connection that was to be accepted, accept(2): go on with the next */
			break;
		}
	}
}

/* ---- counts ---------------------------------------------------------------------------------- */

void
listener_connection_closed(struct broker *b, const struct listener_settings *ls)
{
	struct metrics *m = &worker_self->metrics;
	struct listener *li = listener_of(b->listeners, ls);

	assert(li != NULL);
	atomic_fetch_sub_explicit(&b->connections, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&li->open, 1, memory_order_relaxed);
	metric_add(m, METRIC_CONNECTIONS, -1);
	metric_add(m, METRIC_CONNECTIONS_CLOSED, 1);
}

int64_t
listener_connections(const struct broker *b, const struct listener_settings *ls)
{
	const struct listener *li = listener_of(b->listeners, ls);

	return li != NULL ? atomic_load_explicit(&li->open, memory_order_relaxed) : 0;
}

const char *
listener_address(const struct broker *b, const struct listener_settings *ls)
{
	const struct listener *li = listener_of(b->listeners, ls);

	return li != NULL ? li->bound.address : NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

/* @return how many descriptors there may be. */
static int64_t
descriptors_raise(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0)
		return 1024;
	if (lim.rlim_cur < lim.rlim_max) {
		rlim_t before = lim.rlim_cur;

		lim.rlim_cur = lim.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &lim) != 0)
			lim.rlim_cur = before;
	}
	return lim.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)lim.rlim_cur;
}

int
listeners_open(struct broker *b, struct conf_errors *errs, struct listeners **out)
{
	struct settings *s = b->settings;
	struct listeners *l = calloc(1, sizeof(*l));
	int64_t descriptors = descriptors_raise();
	bool failed = false;

	if (l == NULL)
		goto no_memory;
	l->broker = b;
	l->reserve_fd = -1;
	timer_init(&l->pause, on_pause_over);
	l->items = calloc(s->listener_count + 1, sizeof(*l->items));
	if (l->items == NULL)
		goto no_memory;
	for (unsigned i = 0; i < s->listener_count; i++, l->count++) {
		struct listener *li = &l->items[i];

		li->set = l;
		li->ls = &s->listeners[i];
		li->bound.fd = -1;
		if ((li->name = strdup(li->ls->name)) == NULL)
			goto no_memory;
		if (bound_open(li->ls, errs, &li->bound) != GRAPNEL_OK)
			failed = true;
	}
	if (failed) {
		listeners_free(l);
		return GRAPNEL_ESYS;
	}
	l->ceiling = descriptors > 2 * (int64_t)DESCRIPTORS_FOR_US
	    ? descriptors - DESCRIPTORS_FOR_US
	    : descriptors / 2;
	*out = l;
	return GRAPNEL_OK;
no_memory:
	listeners_free(l);
	conf_errors_add(errs, "out of memory while opening the listeners");
	return GRAPNEL_ENOMEM;
}

int
listeners_start(struct listeners *l)
{
	const struct limits *limits = atomic_load(&l->broker->limits);

	for (unsigned i = 0; i < l->count; i++) {
		struct listener *li = &l->items[i];

		li->event = event_new(
		    l->broker->main->base, li->bound.fd, EV_READ | EV_PERSIST, on_acceptable, li);
		if (li->event == NULL)
			return GRAPNEL_ENOMEM;
	}
	l->running = true;
	l->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	listening(l, true);
	log_info("room for %" PRId64 " connections by the limit of open files", l->ceiling);
	if (limits->max_connections > l->ceiling)
		log_warning(
		    "max_connections = %" PRIu32
		    " needs a higher limit of open files (LimitNOFILE= in the service, or ulimit "
		    "-n): %" PRId64 " connections at most",
		    limits->max_connections, l->ceiling);
	for (unsigned i = 0; i < l->count; i++)
		log_at(GRAPNEL_LOG_NOTICE, "listening", "listener \"%s\" on %s",
		    l->items[i].ls->name, l->items[i].bound.address);
	return GRAPNEL_OK;
}

void
listeners_stop(struct listeners *l)
{
	l->running = false;
	if (l->broker->main != NULL)
		timer_disarm(l->broker->main->wheel, &l->pause);
	for (unsigned i = 0; i < l->count; i++) {
		if (l->items[i].event != NULL)
			event_free(l->items[i].event);
		l->items[i].event = NULL;
		bound_close(&l->items[i].bound);
	}
	if (l->reserve_fd >= 0)
		(void)close(l->reserve_fd);
	l->reserve_fd = -1;
}

void
listeners_free(struct listeners *l)
{
	if (l == NULL)
		return;
	listeners_stop(l);
	for (unsigned i = 0; i < l->count; i++) {
		free(l->items[i].bound.address);
		free(l->items[i].name);
	}
	free(l->items);
	free(l);
}

void
listeners_apply(struct listeners *l)
{
	struct settings *s = l->broker->settings;

	for (unsigned i = 0; i < s->listener_count; i++) {
		struct listener *li = listener_of(l, &s->listeners[i]);

		assert(li != NULL); /* settings_reloadable has seen to it */
		li->ls = &s->listeners[i];
	}
}
