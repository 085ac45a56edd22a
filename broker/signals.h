/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals - as events of the main loop; and the two that must work when the loop does not
 *
 * Threads: main. All other threads block all signals.
 */
#ifndef BROKER_SIGNALS_H
#define BROKER_SIGNALS_H

#include <stdbool.h>

struct event_base;
struct signals;

/* TERM, INT, HUP and USR1 call fn on the main loop; PIPE is ignored. */
int signals_new(struct event_base *base, void (*fn)(int signum, void *arg), void *arg, struct signals **out);
void signals_free(struct signals *sig); /* NULL is fine */
/*
 * We are stopping: from now on TERM and INT end the process at once with status 1, and `timeout_ms` from
 * now it ends with exit_code, saying so, if a plugin or a disk still holds it.
 */
void signals_stopping(struct signals *sig, unsigned timeout_ms, int exit_code);
void signals_ignore_pipe(void);

#endif
