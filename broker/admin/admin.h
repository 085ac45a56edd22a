/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin - the HTTP API on a Unix socket that grapnelctl and monitoring use
 *
 * server.c speaks HTTP (evhttp) on the socket; api.c finds the route and knows nothing of sockets; the other files
 * are the routes.
 *
 * Threads:   the main thread. What workers know is asked for by mail (gather.c).
 * Bounded:   header and body sizes, time per request, calls under way (ADMIN_MAX_CALLS; beyond it 503).
 */
#ifndef BROKER_ADMIN_ADMIN_H
#define BROKER_ADMIN_ADMIN_H

struct broker;

#define ADMIN_MAX_HEADERS (16u * 1024u)
#define ADMIN_MAX_BODY	  (256u * 1024u)
#define ADMIN_MAX_CALLS	  128u
#define ADMIN_TIMEOUT_S	  30 /* of an idle or slow connection */
#define ADMIN_CALL_TIMEOUT_S 15 /* of a call that waits for workers or a plugin */

/*
 * Listen where settings->admin says; nothing to do when it names no socket. A socket file that nobody
 * listens on is replaced, anything else at that path is left alone. Errors are logged here, with what to do.
 * GRAPNEL_ESYS, GRAPNEL_EINVAL, GRAPNEL_ENOMEM: not listening.
 */
int admin_start(struct broker *b);
/* Answer what is under way with 503, close, remove the socket file. Before the workers are freed; again: nothing happens. */
void admin_stop(struct broker *b);

#endif
