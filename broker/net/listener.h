/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener - sockets that accept, and the limits on how many Network Connections there are
 *
 * Every worker accepts for itself: acceptor.h.
 *
 * Threads:   main, but for listener_connection_closed, listener_connections, peer_text (any), and
 *            listener_address_enter, _leave and listener_refusal_log (workers).
 * Bounded:   max_connections of the listener and in total, a ceiling below the limit of descriptors, and what one address
 *            may have (addresses.h); METRIC_CONNECTIONS_REFUSED. Out of descriptors: accepting pauses and goes on by itself.
 */
#ifndef BROKER_NET_LISTENER_H
#define BROKER_NET_LISTENER_H

#include "config/settings.h"
#include "core/worker.h"
#include <sys/socket.h>

struct broker;
struct conf_errors;
struct listeners; /* opaque: listener.c */
struct tls_set;	  /* net/tls_context.h */

#define PEER_TEXT_MAX 128
/* "192.0.2.7:51234", "[2001:db8::1]:4", "unix:uid=1000,pid=4711". Never fails. */
void peer_text(char out[static PEER_TEXT_MAX], int fd, const struct sockaddr *sa, socklen_t len);

/*
 * One line, at notice, about a peer that was turned away, unless there have been too many about its address lately
 * (METRIC_LOG_SUPPRESSED). On the worker, which counts.
 */
void listener_refusal_log(struct worker *w, const char *event, const char *peer, const char *listener, const char *why);

/*
 * Bind all listeners of b->settings: still as root, so that low ports and socket owners work. All errors are
 * collected; *out only when there was none. Raises the soft limit of descriptors to the hard one.
 */
int listeners_open(struct broker *b, struct conf_errors *errs, struct listeners **out);
void listeners_start(struct listeners *l); /* accept; the workers run */
/* Remove Unix socket files; the workers accept nothing more and close the sockets when they have read their mail. */
void listeners_stop(struct listeners *l);
void listeners_free(struct listeners *l); /* when no Network Connection is left */
/*
 * b->settings was replaced (by one that settings_reloadable liked), or is used for the first time: sections are taken from it now,
 * and what they need for TLS from `tls`, which was made from them and is consumed.
 */
void listeners_apply(struct listeners *l, struct tls_set *tls);

/*
 * Every accepted Network Connection ends with one call of this, on the worker (or main) where it ended. Counts:
 * b->connections, the listener's own number, METRIC_CONNECTIONS and METRIC_CONNECTIONS_CLOSED.
 */
void listener_connection_closed(struct broker *b, const struct listener_settings *ls);
/*
 * Is there, at the address of a connection of this worker, room for it? Where neither limit of addresses is set, nothing is done.
 * false: it has to go, *why says which limit. *counted: listener_address_leave when it is gone, on whichever worker.
 */
bool listener_address_enter(struct worker *w, const struct listener_settings *ls, const struct sockaddr *peer, bool *counted,
    const char **why);
void listener_address_leave(struct worker *w, const char *peer); /* as peer_text says it */
/* Is this a trusted proxy that may still say, in a WebSocket's X-Forwarded-For, whose connection it is? */
bool listener_address_later(const struct listener_settings *ls, const struct sockaddr *peer);
int64_t listener_connections(const struct broker *b, const struct listener_settings *ls); /* open now */
/* As bound, with the port the system chose: "127.0.0.1:40123", "unix:/run/…". Main thread. */
const char *listener_address(const struct broker *b, const struct listener_settings *ls);

#endif
