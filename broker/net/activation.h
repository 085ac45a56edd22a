/* SPDX-License-Identifier: Apache-2.0 */
/*
 * activation - sockets that systemd has opened for us: bind = "systemd:NAME"
 *
 * The variables LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say which descriptors there are, see sd_listen_fds(3). Several may
 * have one name, of any kinds. They stay systemd's: what a listener's section says of owners, permissions, interface
 * and backlog is for the socket unit to say, and no socket file is removed at the end.
 *
 * Threads:   main, before any other runs (the environment is changed).
 * Ownership: descriptors that nobody took are closed by activation_free.
 */
#ifndef BROKER_NET_ACTIVATION_H
#define BROKER_NET_ACTIVATION_H

#include "net/listener_bind.h"

struct activation;

/* Reads the variables and removes them, so that no child takes them for its own. NULL: no memory. */
struct activation *activation_new(void);
/* Warns about what no listener took. NULL is fine. */
void activation_free(struct activation *a);
/*
 * The sockets that ls->systemd names, all of them. On failure one message says what is wrong and what to do, and *out has
 * what bound_close closes.
 */
int activation_take(struct activation *a, const struct listener_settings *ls, struct conf_errors *errs, struct bound *out);

#endif
