/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run - from a configuration to a broker that runs, and back
 *
 * Start: settings, broker and workers, listeners bound, privileges dropped, pid file, log, plugins created, threads,
 * plugins started on every worker, admin socket, accepting. Stop: nothing is accepted, connections end, plugins
 * stop, threads end, everything is freed.
 *
 * Threads: main.
 */
#ifndef BROKER_RUN_H
#define BROKER_RUN_H

struct cmdline;

/* Run until a signal ends it. @return the exit status. */
int broker_run(const struct cmdline *cmd);
/* -t: the same as far as nothing outside is touched. @return the exit status. */
int broker_test(const struct cmdline *cmd);

#endif
