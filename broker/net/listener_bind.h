/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener_bind - from a listener's section to a socket that listens
 *
 * Threads: main, before any other runs (the umask is changed for a moment).
 */
#ifndef BROKER_NET_LISTENER_BIND_H
#define BROKER_NET_LISTENER_BIND_H

#include "config/settings.h"
#include <sys/stat.h>

struct conf_errors;

struct bound {
	int fd;
	char *path;	/* file to remove at the end; NULL: none */
	dev_t dev;	/* which file it was */
	ino_t ino;
	char *address;	/* as bound, with the port that the system chose */
};

/* On failure one message that says what and what to do; *out is as bound_close leaves it. */
int bound_open(const struct listener_settings *ls, struct conf_errors *errs, struct bound *out);
/* Close and remove the socket file if it is still ours; frees what is in *b, but not the address. */
void bound_close(struct bound *b);

#endif
