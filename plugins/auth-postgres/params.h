/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params - where the database is and how to get in: connection string, service file and single options, put together once
 *
 * libpq knows the connection string, the service file, the environment (PGHOST ...) and its own defaults; it is asked in
 * create() for what comes out of them. What a connection is opened with later is complete, so that libpq looks nothing up
 * on a worker: no service, no user name of the system, and no host name, for each attempt gets one address.
 *
 * Threads:   immutable after pg_params_new.
 * Ownership: owns all strings; wiped when freed.
 * Bounded:   PG_MAX_SETTINGS, PG_MAX_HOSTS.
 */
#ifndef AUTH_POSTGRES_PARAMS_H
#define AUTH_POSTGRES_PARAMS_H

#include <grapnel/plugin.h>
#include <libpq-fe.h>

#define PG_MAX_SETTINGS 64u
#define PG_MAX_HOSTS	16u

struct pg_host {
	char *name;    /* NULL: where libpq looks by itself, a Unix socket */
	char *address; /* numeric; NULL: to be looked up, unless the name is a folder of sockets */
	char *port;    /* NULL: libpq's */
};

struct pg_params {
	char *keywords[PG_MAX_SETTINGS], *values[PG_MAX_SETTINGS]; /* without host, hostaddr, port */
	unsigned count;
	struct pg_host hosts[PG_MAX_HOSTS]; /* tried in this order */
	unsigned host_count;
	char *password_file; /* NULL: none; read for each connection */
};

/* In create(). NULL after config_error. */
struct pg_params *pg_params_new(const struct grapnel_host *host, struct grapnel_instance *self);
void pg_params_free(struct pg_params *p); /* NULL is fine */

/* Does the name stand for a folder of Unix sockets, or a socket without a file? */
bool pg_host_is_local(const struct pg_host *h);

/*
 * Begin a connection to that address of that host; "" for a local one. NULL: *why says what is wrong. The caller looks at
 * PQstatus.
 */
PGconn *pg_params_connect(const struct pg_params *p, const struct pg_host *h, const char *address,
    char *why, size_t why_size);

/* A message of libpq as one line. What stands between quotation marks may be a password: with hide it is left out. */
void pg_message(char *out, size_t out_size, const char *message, bool hide);

#endif
