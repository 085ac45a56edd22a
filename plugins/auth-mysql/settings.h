/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings - where the servers are and how to speak to them: the options of auth-mysql about connections
 *
 * Threads:   read once in create(), immutable afterwards.
 * Ownership: everything is copied; the password is wiped by settings_fini.
 */
#ifndef PLUGINS_AUTH_MYSQL_SETTINGS_H
#define PLUGINS_AUTH_MYSQL_SETTINGS_H

#include <grapnel/plugin.h>
#include <mysql.h>

#define SETTINGS_MAX_PLACES 16u
#define SETTINGS_MAX_ROW    (8u << 20) /* larger than sql.h takes, so that it is sql.c that says so */

/* MariaDB's library has a type of its own for truth in the structures that it fills; Oracle's lost it in 8.0. */
#ifdef MARIADB_BASE_VERSION
typedef my_bool mysql_flag;
#else
typedef bool mysql_flag;
#endif

enum tls_mode { TLS_NO, TLS_REQUIRED, TLS_VERIFY };

struct place {
	char *host; /* a name or an address, without brackets; NULL: the Unix socket */
	unsigned port;
	bool numeric; /* an address */
};

struct settings {
	struct place places[SETTINGS_MAX_PLACES]; /* tried in turn */
	unsigned place_count;
	char *socket; /* NULL: TCP */
	char *user, *password, *database;
	enum tls_mode tls;
	char *tls_ca, *tls_certificate, *tls_key;
	unsigned connections; /* per worker */
	uint32_t connect_timeout_ms, query_timeout_ms, reconnect_max_ms;
};

/* In create(). false after config_error; call settings_fini in any case. */
bool settings_read(struct settings *s, const struct grapnel_host *host, struct grapnel_instance *self);
void settings_fini(struct settings *s);

/* A handle with all options set, not connected. NULL: no memory, or the library lacks one of them. Does not block. */
MYSQL *settings_handle(const struct settings *s);
/* The arguments of mysql_real_connect and of its _start form, behind the handle. address: NULL for the Unix socket. */
#define SETTINGS_CONNECT(s, address, port) \
	(address), (s)->user, (s)->password, (s)->database, (port), (s)->socket, 0

#endif
