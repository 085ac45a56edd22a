/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handler - sockets of listeners that are lent to plugins; what a plugin may open for those it speaks for
 *
 * Threads:   the worker whose socket it is.
 * Ownership: the descriptor stays the acceptor's. A struct handed is the instance's, from handler_give to handler_take.
 * Bounded:   one per listener and worker; connections by the limits of the listener.
 */
#ifndef BROKER_PLUGIN_HANDLER_H
#define BROKER_PLUGIN_HANDLER_H

#include "config/settings.h"
#include "hooks.h"

struct handed;
struct instance;
struct instance_worker;

/* One socket of a listener, for the instance of that name that is in force here; *out NULL: it was not taken (logged). */
void handler_give(struct worker *w, const struct listener_settings *ls, int fd, const char *address,
    struct handed **out);
/* Is the instance that has it still the one in force? */
bool handler_is_current(struct worker *w, const struct handed *h, const struct listener_settings *ls);
void handler_take(struct handed *h); /* listener_close, and freed; NULL is fine */

/* Does every listener with a handler have an enabled plugin that takes sockets? All messages are collected. Main. */
bool handlers_check(const struct settings *s, const struct plugins *p, struct conf_errors *errs);

/* Has it connections that it speaks for? */
bool handler_busy(const struct instance *in);
/* host->connection_open */
int handler_connection_open(
    struct instance_worker *iw, const struct grapnel_connection *connection, int *fd);

#endif
