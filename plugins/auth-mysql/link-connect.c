/* SPDX-License-Identifier: Apache-2.0 */
/* link-connect - what both transports do alike: see link.h */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <errmsg.h>
#include <mysqld_error.h>

/* MySQL 8.0.24 and later say that they close an idle connection; MariaDB says that somebody has killed it. */
#define IDLE_TOO_LONG       4031u
#define CONNECTION_KILLED   1927u
#define CLIENT_ERROR_FIRST  2000u
#define CLIENT_ERROR_LAST   2999u
#define MARIADB_ERROR_FIRST 5000u
#define MARIADB_ERROR_LAST  5999u

/* ------------------------------------------------------------- blocking, but not for longer than that */

#ifdef MARIADB_BASE_VERSION

/*
 * MariaDB's library lets us wait for the network in its place. Its own limits are for each read and write, so that a server that
 * sends a byte now and then holds a thread for ever; ours is for the whole, and ends when nobody wants the result.
 */
#define SLICE_MS 100

struct wait {
	const struct grapnel_host *host;
	uint64_t deadline;
	const atomic_bool *unwanted, *stopping;
};
static _Thread_local const struct wait
    *waiting; /* NULL: not in a job; nothing is waited for on a worker */

static int
wait_for_network(my_socket fd, my_bool reading, int timeout_ms)
{
	struct pollfd ready = { .fd = fd, .events = reading ? POLLIN : POLLOUT };
	const struct wait *w = waiting;
	int flags = fcntl(fd, F_GETFL), count = 0;

	(void)timeout_ms;
	/* The TLS handshake only comes here if its socket does not block. */
	if (flags >= 0 && (flags & O_NONBLOCK) == 0)
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (w != NULL && count == 0 && !atomic_load(w->unwanted) && !atomic_load(w->stopping)) {
		uint64_t now = w->host->now_ms();

		if (now >= w->deadline)
			break;
		count = poll(
		    &ready, 1, w->deadline - now < SLICE_MS ? (int)(w->deadline - now) : SLICE_MS);
		if (count < 0 && errno == EINTR)
			count = 0;
	}
	if (count == 0)
		errno = ETIMEDOUT;
	return count;
}

MYSQL *
link_handle(const struct link *l)
{
	MYSQL *mysql = settings_handle(link_settings(l));

	/* A function as an object: so the library has it. */
	if (mysql != NULL &&
	    mysql_optionsv(mysql, MARIADB_OPT_IO_WAIT, (void *)(uintptr_t)wait_for_network) == 0)
		return mysql;
	if (mysql != NULL)
		mysql_close(mysql);
	return NULL;
}

void
link_blocking(struct link *l, void (*work)(struct link *l), uint64_t deadline)
{
	struct wait w = { link_shared(l)->host, deadline, &l->unwanted, &link_shared(l)->stopping };

	waiting = &w;
	work(l);
	waiting = NULL;
}

#else

MYSQL *
link_handle(const struct link *l)
{
	return settings_handle(link_settings(l));
}

/* Within the limits of settings_handle, and until its socket is shut down. */
void
link_blocking(struct link *l, void (*work)(struct link *l), uint64_t deadline)
{
	(void)deadline;
	(void)mysql_thread_init();
	work(l);
	mysql_thread_end();
}

#endif

bool
link_connect_blocking(MYSQL *mysql, const struct settings *s, const char *address, unsigned port,
    char error[LINK_ERROR_SIZE])
{
	if (mysql_real_connect(mysql, SETTINGS_CONNECT(s, address, port)) == NULL) {
		(void)snprintf(error, LINK_ERROR_SIZE, "%s", mysql_error(mysql));
		return false;
	}
	/* MariaDB's library insists on TLS only when it verifies. */
	if (s->tls != TLS_NO && mysql_get_ssl_cipher(mysql) == NULL) {
		(void)snprintf(
		    error, LINK_ERROR_SIZE, "TLS is required, but the server does not speak it");
		return false;
	}
	return true;
}

/* ------------------------------------------------------------------------------------------------- */

bool
link_adopt(struct link *l, int socket)
{
	l->fd = fcntl(socket, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0)
		(void)snprintf(l->error, sizeof(l->error), "no descriptor for the connection: %s",
		    strerror(errno));
	return l->fd >= 0;
}

void
link_discard(struct link *l)
{
	const struct grapnel_host *host = link_shared(l)->host;

	if (l->watch != NULL)
		host->watch_remove(l->watch);
	l->watch = NULL;
	if (l->mysql != NULL)
		mysql_close(l->mysql);
	l->mysql = NULL;
	for (unsigned i = 0; i < SQL_QUERIES; i++)
		statement_fini(&l->statements[i]);
	if (l->fd >= 0)
		(void)close(l->fd);
	l->fd = -1;
	l->state = LINK_CLOSED;
}

enum link_result
link_failed(const struct statement *st, bool preparing, char error[LINK_ERROR_SIZE])
{
	unsigned code = mysql_stmt_errno(st->handle);

	/* What it says of a query without values is about the query; later its words may quote a value. */
	if (preparing)
		(void)snprintf(error, LINK_ERROR_SIZE, "%s", mysql_stmt_error(st->handle));
	else
		(void)snprintf(error, LINK_ERROR_SIZE, "error %u (SQLSTATE %.5s)", code,
		    mysql_stmt_sqlstate(st->handle));
	switch (code) {
	case 0:
	case CR_SERVER_GONE_ERROR:
	case CR_SERVER_LOST:
	case ER_SERVER_SHUTDOWN:
	case ER_UNKNOWN_STMT_HANDLER:
	case IDLE_TOO_LONG:
	case CONNECTION_KILLED:
		return LINK_LOST;
	default:
		if ((code >= CLIENT_ERROR_FIRST && code <= CLIENT_ERROR_LAST) ||
		    (code >= MARIADB_ERROR_FIRST && code <= MARIADB_ERROR_LAST))
			return LINK_BAD;
		/* "Data exception": what somebody has sent, not what the query is. */
		if (!preparing && strncmp(mysql_stmt_sqlstate(st->handle), "22", 2) == 0)
			return LINK_VALUE;
		return LINK_REFUSED;
	}
}
