/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "config/cidr.h"
#include "config/conf.h"
#include "core/broker.h"
#include "net/acceptor.h"
#include "net/activation.h"
#include "net/addresses.h"
#include "net/guard.h"
#include "net/tls_context.h"
#include "net/tls_expiry.h"
#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define DESCRIPTORS_FOR_US     200u /* store, plugins' connections, files being read ... */
#define DESCRIPTORS_PER_WORKER 5u   /* an eventfd, three epoll sets, one in reserve */

struct listener *
listener_of(const struct listeners *l, const struct listener_settings *ls)
{
	for (unsigned i = 0; i < l->count; i++)
		if (strcmp(l->items[i].name, ls->name) == 0)
			return &l->items[i];
	return NULL; /* never: names cannot change without a restart */
}

/* ---- addresses as text ----------------------------------------------------------------------- */

static char *
put_decimal(char *at, unsigned value)
{
	char digits[10];
	unsigned n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	while (n > 0)
		*at++ = digits[--n];
	return at;
}

/* Once per connection, so without printf. */
static void
ipv4_text(char *at, const uint8_t address[static 4], in_port_t port)
{
	for (unsigned i = 0; i < 4; i++) {
		at = put_decimal(at, address[i]);
		*at++ = i < 3 ? '.' : ':';
	}
	*put_decimal(at, ntohs(port)) = '\0';
}

void
peer_text(char out[static PEER_TEXT_MAX], int fd, const struct sockaddr *sa, socklen_t len)
{
	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

		ipv4_text(out, (const uint8_t *)&in->sin_addr, in->sin_port);
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
		char host[INET6_ADDRSTRLEN];

		if (IN6_IS_ADDR_V4MAPPED(
			&in6->sin6_addr)) { /* the same client must not have two names */
			ipv4_text(out, &in6->sin6_addr.s6_addr[12], in6->sin6_port);
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

void
listener_refusal_log(
    struct worker *w, const char *event, const char *peer, const char *listener, const char *why)
{
	unsigned suppressed;

	if (!log_allowed(peer, &suppressed))
		metric_add(&w->metrics, METRIC_LOG_SUPPRESSED, 1);
	else if (suppressed > 0)
		log_at(GRAPNEL_LOG_NOTICE, event,
		    "%s on listener \"%s\": %s (%u more lines left out)", peer, listener, why,
		    suppressed);
	else
		log_at(GRAPNEL_LOG_NOTICE, event, "%s on listener \"%s\": %s", peer, listener, why);
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
	if (ls->handler !=
	    NULL) /* as acceptor_admit has counted it; a reload does not change that */
		atomic_fetch_sub_explicit(&b->listeners->pairs, 1, memory_order_relaxed);
	metric_add(m, METRIC_CONNECTIONS, -1);
	metric_add(m, METRIC_CONNECTIONS_CLOSED, 1);
}

/* ---- what one address may have ---------------------------------------------------------------- */

bool
listener_address_enter(struct worker *w, const struct listener_settings *ls,
    const struct sockaddr *peer, bool *counted, const char **why)
{
	const struct limits *limits = &ls->limits;
	struct address_key key;

	*counted = false;
	if (!guard_admits(w->broker->guard, peer, w->now_ms)) {
		metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED_BANNED, 1);
		*why = "its address is banned for failed logins (grapnelctl guard list)";
		return false;
	}
	if ((limits->max_connections_per_address == 0 &&
		limits->connection_rate_per_address == 0) ||
	    !address_key_of(peer, &key))
		return true;
	switch (addresses_enter(w->broker->listeners->addresses, &key,
	    limits->max_connections_per_address, limits->connection_rate_per_address, w->now_ms,
	    &w->metrics)) {
	case ADDRESSES_COUNTED:
		*counted = true;
		return true;
	case ADDRESSES_UNCOUNTED:
		return true;
	case ADDRESSES_TOO_MANY:
		*why = "max_connections_per_address is reached";
		break;
	case ADDRESSES_TOO_FAST:
		*why = "connection_rate_per_address is exceeded";
		break;
	}
	metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED_ADDRESS, 1);
	return false;
}

void
listener_address_leave(struct worker *w, const char *peer)
{
	struct address_key key;
	bool known = address_key_of_text(peer, &key);

	assert(known); /* it had one when it came */
	addresses_leave(w->broker->listeners->addresses, &key, w->now_ms, &w->metrics);
}

bool
listener_address_later(const struct listener_settings *ls, const struct sockaddr *peer)
{
	return ls->websocket != WEBSOCKET_NO &&
	    cidr_contains(ls->trusted, ls->trusted_proxies.count, peer);
}

/* ---- what others ask --------------------------------------------------------------------------- */

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
	struct activation *passed = NULL;
	int64_t descriptors = descriptors_raise(),
		ours = DESCRIPTORS_FOR_US + DESCRIPTORS_PER_WORKER * b->worker_count;
	bool failed = false;

	if (l == NULL)
		goto no_memory;
	l->broker = b;
	pthread_mutex_init(&l->lock, NULL);
	l->items = calloc(s->listener_count + 1, sizeof(*l->items));
	l->addresses = addresses_new(b, ADDRESSES_MAX);
	passed = activation_new();
	if (l->items == NULL || l->addresses == NULL || passed == NULL)
		goto no_memory;
	for (unsigned i = 0; i < s->listener_count; i++, l->count++) {
		struct listener *li = &l->items[i];

		if ((li->name = strdup(s->listeners[i].name)) == NULL)
			goto no_memory;
		if (bound_open(&s->listeners[i], b->worker_count, passed, errs, &li->bound) !=
		    GRAPNEL_OK)
			failed = true;
		ours += li->bound.count;
	}
	activation_free(passed);
	passed = NULL;
	if (failed) {
		listeners_free(l);
		return GRAPNEL_ESYS;
	}
	if (acceptors_new(l) != GRAPNEL_OK)
		goto no_memory;
	l->ceiling = descriptors > 2 * ours ? descriptors - ours : descriptors / 2;
	*out = l;
	return GRAPNEL_OK;
no_memory:
	activation_free(passed);
	listeners_free(l);
	conf_errors_add(errs, "out of memory while opening the listeners");
	return GRAPNEL_ENOMEM;
}

void
listeners_start(struct listeners *l)
{
	const struct limits *limits = atomic_load(&l->broker->limits);

	acceptors_start(l);
	log_info("room for %" PRId64 " connections by the limit of open files", l->ceiling);
	if (limits->max_connections > l->ceiling)
		log_warning(
		    "max_connections = %" PRIu32
		    " needs a higher limit of open files (LimitNOFILE= in the service, or ulimit "
		    "-n): %" PRId64 " connections at most",
		    limits->max_connections, l->ceiling);
	for (unsigned i = 0; i < l->count; i++)
		log_at(GRAPNEL_LOG_NOTICE, "listening", "listener \"%s\" on %s", l->items[i].name,
		    l->items[i].bound.address);
}

void
listeners_stop(struct listeners *l)
{
	if (l->stopped)
		return;
	l->stopped = true;
	for (unsigned i = 0; i < l->count; i++)
		bound_close(&l->items[i].bound);
	acceptors_stop(l);
}

void
listeners_free(struct listeners *l)
{
	if (l == NULL)
		return;
	acceptors_free(l);
	tls_expiry_stop(l);
	for (unsigned i = 0; l->items != NULL && i < l->count; i++) {
		bound_close(&l->items[i].bound);
		tls_context_unref(l->items[i].tls);
		free(l->items[i].bound.address);
		free(l->items[i].name);
	}
	free(l->items);
	addresses_free(l->addresses);
	settings_unref(l->settings);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

void
listeners_apply(struct listeners *l, struct tls_set *tls)
{
	struct settings *old = l->settings, *s = settings_ref(l->broker->settings);

	pthread_mutex_lock(&l->lock);
	l->settings = s;
	for (unsigned i = 0; i < s->listener_count; i++) {
		struct listener *li = listener_of(l, &s->listeners[i]);

		assert(li != NULL); /* settings_reloadable has seen to it */
		li->ls = &s->listeners[i];
		tls_set_swap(tls, i, &li->tls);
	}
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; old != NULL && !l->stopped && i < s->listener_count; i++)
		acceptors_apply(
		    l, (unsigned)(listener_of(l, &s->listeners[i]) - l->items), &s->listeners[i]);
	tls_set_free(tls); /* the old ones */
	settings_unref(old);
	tls_expiry_start(l);
}
