/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address - where a listener listens, as written in the configuration
 *
 * Host names are refused: looking them up would block the start, and what they mean may change. Nothing is
 * opened here.
 */
#ifndef BROKER_CONFIG_ADDRESS_H
#define BROKER_CONFIG_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct address {
	bool is_unix;
	bool is_udp; /* "udp:" before ADDRESS:PORT */
	char *host; /* numeric, without brackets, or "*" */
	char *port; /* decimal */
	char *path; /* Unix; "@name" is abstract */
	char *systemd; /* the name of sockets that systemd has opened, of any kind */
};

/* false: *a is empty and why says what was expected, as "must ...". */
bool address_parse(const char *text, struct address *a, char *why, size_t size);
void address_fini(struct address *a);
/* The path of a Unix socket alone. */
bool address_check_path(const char *path, char *why, size_t size);

#endif
