/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_handshake - a Network Connection from accept to its first MQTT byte: runs the steps of net/handshake.h
 *
 * Connections in this state are in an epoll set of their own. A turn of the worker gives that set handshake_budget and no
 * more, so that a storm of TLS handshakes is spread over many turns, in which established Clients are served as ever.
 */
#include "base/log.h"
#include "core/conn.h"
#include "net/listener.h"
#include "net/tls_context.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#define HANDSHAKES_PER_LOOK 2

static void
failed(struct conn *c, struct handshake *h)
{
	unsigned suppressed;

	metric_add(&c->w->metrics, METRIC_HANDSHAKES_FAILED, 1);
	if (!log_allowed(conn_peer(c), &suppressed))
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	else
		log_at(GRAPNEL_LOG_NOTICE, "handshake_failed", "%s on listener \"%s\": %s%s",
		    conn_peer(c), c->ls->name, h->why,
		    suppressed > 0 ? " [more lines left out]" : "");
	conn_extra_free(c);   /* not while it lingers: a storm of these must not pile up */
	c->last_words = true; /* an alert or an HTTP answer, perhaps */
	conn_close(c, 0, "handshake failed");
}

static void
refuse(struct conn *c, const char *why)
{
	metric_add(&c->w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
	listener_refusal_log(c->w, "connection_refused", conn_peer(c), c->ls->name, why);
}

/* What is known of the peer by now. false: no memory, which has been told. */
static bool
learn(struct conn *c, const struct handshake *h)
{
	struct identity *who = conn_somebody(c, &h->facts);

	if (who == NULL) {
		refuse(c, "out of memory");
		return false;
	}
	identity_unref(c->who);
	c->who = who;
	return true;
}

/* By its real address, once. false: it is refused. */
static bool
count(struct conn *c, struct handshake *h)
{
	bool counted;
	const char *why;

	if (h->entered)
		return true;
	if (!listener_address_enter(
		c->w, c->ls, (const struct sockaddr *)&h->facts.address, &counted, &why)) {
		refuse(c, why);
		return false;
	}
	h->entered = true; /* though perhaps not counted: the table may be full */
	c->counted = counted;
	return true;
}

/* A step of h is under way: nothing is closed here. */
static bool
on_known(struct handshake *h)
{
	struct conn *c = h->arg;

	/* By the section that the WebSocket step goes by: a reload may have given c another. */
	return learn(c, h) &&
	    (listener_address_later(h->ls, (const struct sockaddr *)&h->facts.address) ||
		count(c, h));
}

static void
done(struct conn *c, struct handshake *h)
{
	if (h->ls->identity == IDENTITY_PEER && h->facts.username.data == NULL) {
		refuse(c, "identity = peer, but the system does not say who this peer is");
		conn_close(c, 0, "its peer is not known");
		return;
	}
	if (!learn(c, h) || !count(c, h)) {
		conn_close(c, 0, "no memory or no room for its address");
		return;
	}
	metric_add(&c->w->metrics, METRIC_HANDSHAKES, 1);
	conn_extra_free(c);
	conn_set_state(c, CONN_WAIT_CONNECT, "handshake done");
	conn_begin(c);
}

void
conn_handshake(struct conn *c)
{
	struct handshake *h = c->extra->handshake;

	c->write_wait = false;
	c->pause &= (uint16_t) ~(unsigned)PAUSE_DECISION;
	switch (handshake_run(h)) {
	case HANDSHAKE_DONE:
		done(c, h);
		return;
	case HANDSHAKE_FAILED:
		failed(c, h);
		return;
	case HANDSHAKE_OVER:
		conn_close(c, 0, "closed before its handshake was done");
		return;
	case HANDSHAKE_READ:
		break;
	case HANDSHAKE_WRITE:
		c->write_wait = true;
		break;
	case HANDSHAKE_WAIT:
		c->pause |= PAUSE_DECISION;
		break;
	}
	conn_watch(c);
}

/* In its turn, within handshake_budget: many answers may come at once. The socket takes bytes, so that turn is soon. */
static void
on_wake(struct handshake *h)
{
	struct conn *c = h->arg;

	c->pause &= (uint16_t) ~(unsigned)PAUSE_DECISION;
	c->write_wait = true;
	conn_watch(c);
}

bool
conn_handshake_start(
    struct conn *c, struct tls_context *tls, const struct sockaddr *peer, socklen_t peer_len)
{
	struct conn_extra *x = conn_extra(c);

	if (x == NULL) {
		tls_context_unref(tls);
		return false;
	}
	x->handshake = handshake_new(c->w, &c->stream, c->ls, tls, peer, peer_len);
	if (x->handshake == NULL)
		return false;
	x->handshake->wake = on_wake;
	x->handshake->known = on_known;
	x->handshake->arg = c;
	x->handshake->entered = !c->ls->proxy_protocol && !listener_address_later(c->ls, peer);
	return true;
}

static uint64_t
clock_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

unsigned
conn_handshakes(struct worker *w)
{
	uint64_t until;
	unsigned count = 0;
	int n;

	until = clock_us() + atomic_load(&w->broker->limits)->handshake_budget_ms * 1000u;
	do {
		struct epoll_event events[HANDSHAKES_PER_LOOK];

		n = epoll_wait(w->handshake_fd, events, HANDSHAKES_PER_LOOK, 0);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;

			if (c->dead || c->state != CONN_HANDSHAKE)
				continue;
			if ((c->watched & EPOLLRDHUP) &&
			    events[i].events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP))
				conn_close(c, 0, "connection closed by the client");
			else
				conn_handshake(c);
		}
		count += n > 0 ? (unsigned)n : 0;
	} while (n > 0 && clock_us() < until);
	return count;
}
