/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener_bind - from a listener's section to sockets that listen
 *
 * Threads: main, before any other runs (the umask is changed for a moment); bound_apply main, any time.
 */
#ifndef BROKER_NET_LISTENER_BIND_H
#define BROKER_NET_LISTENER_BIND_H

#include "config/settings.h"
#include "core/worker.h"
#include <sys/stat.h>

struct activation;
struct conf_errors;

struct bound {
	int fds[WORKER_MAX]; /* TCP and UDP: as many as were asked for; Unix: one; of systemd: what it has opened */
	unsigned count;
	char *path;	/* file to remove at the end; NULL: none */
	dev_t dev;	/* which file it was */
	ino_t ino;
	char *address;	/* as bound, with the port that the system chose */
};

/*
 * `sockets` of them, among which the kernel shares out the connections. On failure one message that says what and what
 * to do; *out is as bound_close leaves it.
 */
int bound_open(const struct listener_settings *ls, unsigned sockets, struct activation *passed, struct conf_errors *errs,
    struct bound *out);
/* The options of TCP that accepted sockets inherit. false: errno. */
bool bound_tcp_options(int fd, const struct listener_settings *ls);
/* What a new section says of a socket that listens already: those options, and the backlog. */
void bound_apply(int fd, const struct listener_settings *ls);
/* Close and remove the socket file if it is still ours; frees what is in *b, but not the address. */
void bound_close(struct bound *b);

#endif
