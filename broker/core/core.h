/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core - connections, sessions and routing as a whole: what start-up, reload and shutdown need of them
 *
 * Threads: main, but for conn_accepted.
 */
#ifndef BROKER_CORE_CORE_H
#define BROKER_CORE_CORE_H

#include <stdbool.h>
#include <sys/socket.h>

struct broker;
struct listener_settings;
struct settings;
struct tls_context;
struct worker;

/* Each worker's tables; before the workers' threads run. On failure core_fini still has to be called. */
int core_init(struct broker *b);
/* After the workers' threads have ended. */
void core_fini(struct broker *b);
/*
 * b->settings and b->limits were replaced by a reload (b->settings == s): tell the workers. They take references of
 * their own; connections that are open get the limits of their listener's new section.
 */
void core_apply_settings(struct broker *b, struct settings *s);
/*
 * End all connections: MQTT 5 clients get DISCONNECT 0x8B, output is flushed for up to two seconds, then they are closed.
 * b->shutting_down is set and nothing is accepted any more. done runs on main.
 */
void core_shutdown(struct broker *b, void (*done)(void *arg), void *arg);
/*
 * A Network Connection was accepted, on this worker. Takes over the descriptor (non-blocking, close-on-exec) and a reference
 * to the settings of ls, and one to tls (NULL: the listener has none). counted: by listener_address_enter. read_first: look at
 * once whether it is still there.
 */
void conn_accepted(struct worker *w, int fd, const struct listener_settings *ls, struct tls_context *tls,
    const struct sockaddr *peer, socklen_t peer_len, bool counted, bool read_first);

#endif
