/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acceptor - a worker's own sockets that accept
 *
 * Every worker accepts for itself: of a TCP listener it has a socket of its own (SO_REUSEPORT), among which the kernel
 * shares the connections out; a Unix listener has one socket, with one worker. So a new connection wakes one thread,
 * and that thread reads it.
 *
 * Threads:   acceptors_new, _start, _stop and _free on main; the rest on the acceptor's worker.
 * Ownership: an acceptor belongs to its worker from acceptors_start until its mail of acceptors_stop has run.
 * Bounded:   ACCEPTS_PER_TURN; what stands in listener.h.
 */
#ifndef BROKER_NET_ACCEPTOR_H
#define BROKER_NET_ACCEPTOR_H

#include "base/wheel.h"
#include "net/listener.h"
#include "net/listener_bind.h"
#include <pthread.h>

/* One listener, for all threads: listener.c */
struct listener {
	char *name;           /* constant: what its sections of all reloads have in common */
	_Atomic int64_t open; /* Network Connections; any thread */
	const struct listener_settings *ls; /* in set->settings, under its lock */
	struct tls_context *tls; /* of ls, one reference, under the same lock; NULL: no TLS */
	struct bound bound;   /* main; its descriptors go to the acceptors */
};

struct addresses; /* addresses.h */

struct listeners {
	struct broker *broker;
	unsigned count;
	int64_t ceiling; /* of all Network Connections, by descriptors; constant */
	_Atomic int64_t pairs; /* connections of handlers, which have two descriptors */
	bool stopped;    /* main */
	struct listener *items;
	struct acceptor *acceptors; /* one per worker */
	struct addresses *addresses;
	/* A reload counts for every connection accepted after it, whichever mail a worker has not read yet. */
	pthread_mutex_t lock;	   /* a leaf: no other is taken under it */
	struct settings *settings; /* one reference */
	struct timer expiry;	   /* main: tls_expiry.c */
};

/* The listener of a section, which may be of an older configuration with another order. Any thread. */
struct listener *listener_of(const struct listeners *l, const struct listener_settings *ls);

/* One for each worker, with its share of the descriptors, which are taken out of l->items[].bound. GRAPNEL_ENOMEM. */
int acceptors_new(struct listeners *l);
void acceptors_start(struct listeners *l);
/* Main, after a reload: what the new section says of sockets that listen. */
void acceptors_apply(struct listeners *l, unsigned listener, const struct listener_settings *ls);
void acceptors_stop(struct listeners *l); /* once: each worker closes its sockets when it has the mail */
void acceptors_free(struct listeners *l); /* no worker runs any more */

/* Sockets of listeners with a handler, once more to the plugins that are in force on this worker. */
void acceptor_handlers(struct worker *w);
/*
 * A place for a connection that a plugin speaks for, in the listener of that name. *ls has a reference to its settings; both
 * the place and that end with the connection. GRAPNEL_EQUOTA (counted and logged); GRAPNEL_ENOENT: not its listener.
 */
int acceptor_admit(struct worker *w, struct grapnel_str listener, const char *handler, const char *peer,
    const struct listener_settings **ls);

#endif
