/* SPDX-License-Identifier: Apache-2.0 */
#include "conn_setup.h"

#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openldap.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESS_MIN_MS 100u

static void connect_next(struct conn *c);

static uint32_t
time_left(const struct conn *c)
{
	uint64_t now = c->owner->settings->host->now_ms();

	return now >= c->deadline_ms ? 0 : (uint32_t)(c->deadline_ms - now);
}

static void
fail(struct conn *c, const char *what, const char *detail)
{
	char why[CONN_WHY];

	(void)snprintf(why, sizeof(why), "%s%s%.160s", what, detail[0] != '\0' ? ": " : "", detail);
	conn_fail(c, why);
}

/* ------------------------------------------------------------------- the name */

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct conn *c = arg;

	c->look_up = NULL;
	for (size_t i = 0; i < count && c->address_count < CONN_MAX_ADDRESSES; i++) {
		if (addresses[i].len >= sizeof(c->addresses[0]))
			continue;
		memcpy(c->addresses[c->address_count], addresses[i].data, addresses[i].len);
		c->addresses[c->address_count++][addresses[i].len] = '\0';
	}
	if (c->address_count == 0) {
		conn_fail(c,
		    err == GRAPNEL_ENOENT ? "there is no host of that name"
					  : "the name service does not answer");
		return;
	}
	connect_next(c);
}

void
setup_begin(struct conn *c)
{
	const struct grapnel_host *host = c->owner->settings->host;
	struct grapnel_str name = { c->server->host, strlen(c->server->host) };

	c->state = CONN_NAME;
	c->deadline_ms = c->since_ms + c->owner->settings->network_timeout_ms;
	(void)host->timer_arm(c->timer, c->owner->settings->network_timeout_ms);
	c->look_up = host->dns_lookup(c->owner->settings->self, name,
	    c->owner->settings->network_timeout_ms, on_addresses, c);
	/* Not before conn_open has returned: the timer says so. */
	if (c->look_up == NULL)
		(void)host->timer_arm(c->timer, 0);
}

/* ------------------------------------------------------------------------ TCP */

static bool
address_of(const struct conn *c, const char *text, struct sockaddr_storage *out, socklen_t *len)
{
	struct sockaddr_in *four = (struct sockaddr_in *)(void *)out;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)out;

	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(c->server->port);
		*len = sizeof(*four);
		return true;
	}
	if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1)
		return false;
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(c->server->port);
	*len = sizeof(*six);
	return true;
}

static void
drop_socket(struct conn *c)
{
	const struct grapnel_host *host = c->owner->settings->host;

	if (c->watch != NULL)
		host->watch_remove(c->watch);
	c->watch = NULL;
	if (c->watch_fd >= 0)
		(void)close(c->watch_fd);
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = c->watch_fd = -1;
}

/* @return 0, or errno. */
static int
begin_connect(struct conn *c, const char *text)
{
	struct sockaddr_storage address;
	socklen_t len;
	int on = 1;

	if (!address_of(c, text, &address, &len))
		return EAFNOSUPPORT;
	c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || (c->watch_fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3)) < 0)
		return errno;
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (connect(c->fd, (struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS)
		return errno;
	return conn_watch(c, GRAPNEL_WRITABLE) ? 0 : ENOMEM;
}

/* The next of the server's addresses; each has its share of the time. */
static void
connect_next(struct conn *c)
{
	const struct grapnel_host *host = c->owner->settings->host;
	int err = ETIMEDOUT;

	c->state = CONN_TCP;
	while (c->address_next < c->address_count && time_left(c) > 0) {
		uint32_t share = time_left(c) / (uint32_t)(c->address_count - c->address_next);

		drop_socket(c);
		if ((err = begin_connect(c, c->addresses[c->address_next++])) == 0) {
			(void)host->timer_arm(
			    c->timer, share > ADDRESS_MIN_MS ? share : ADDRESS_MIN_MS);
			return;
		}
	}
	fail(c, "cannot connect", c->why[0] != '\0' ? c->why : strerror(err));
}

/* ------------------------------------------------------------------------ TLS */

/* Options of a handle; whatever ldap.conf and the environment say, these count. */
static bool
set_options(const struct conn *c)
{
	const struct settings *s = c->owner->settings;
	const int version = LDAP_VERSION3, never = LDAP_DEREF_NEVER, none = LDAP_NO_LIMIT;
	const struct timeval unlimited = { -1, 0 };
	ber_len_t max = s->max_response;
	Sockbuf *sb = NULL;

	return ldap_set_option(c->ld, LDAP_OPT_PROTOCOL_VERSION, &version) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_RESTART, LDAP_OPT_OFF) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_CONNECT_ASYNC, LDAP_OPT_OFF) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_DEREF, &never) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_SIZELIMIT, &none) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_TIMELIMIT, &none) == LDAP_OPT_SUCCESS &&
	    ldap_set_option(c->ld, LDAP_OPT_TIMEOUT, &unlimited) == LDAP_OPT_SUCCESS &&
	    /* With one, libldap 2.5 makes the socket non-blocking and spins until the handshake is over. */
	    ldap_set_option(c->ld, LDAP_OPT_NETWORK_TIMEOUT, &unlimited) == LDAP_OPT_SUCCESS &&
	    ldap_get_option(c->ld, LDAP_OPT_SOCKBUF, &sb) == LDAP_OPT_SUCCESS && sb != NULL &&
	    ber_sockbuf_ctrl(sb, LBER_SB_OPT_SET_MAX_INCOMING, &max) == 1;
}

static bool
set_blocking(int fd, bool blocking)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 &&
	    fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK) == 0;
}

/* In the offload pool: here the handle is ours. */
static void
tls_work(void *arg)
{
	struct conn *c = arg;
	char *text = NULL;

	if (!tls_apply(c->owner->settings, c->ld)) {
		c->tls_result = LDAP_LOCAL_ERROR;
		(void)snprintf(
		    c->why, sizeof(c->why), "tls_ca, tls_certificate or tls_key cannot be used");
		return;
	}
	c->tls_result = set_blocking(c->fd, true) ? ldap_install_tls(c->ld) : LDAP_LOCAL_ERROR;
	if (c->tls_result != LDAP_SUCCESS) {
		(void)ldap_get_option(c->ld, LDAP_OPT_DIAGNOSTIC_MESSAGE, &text);
		(void)snprintf(c->why, sizeof(c->why),
		    "the handshake of TLS, or the certificate of the server: %s",
		    text != NULL ? text : ldap_err2string(c->tls_result));
		ldap_memfree(text);
	}
	if (!set_blocking(c->fd, false))
		c->tls_result = LDAP_LOCAL_ERROR;
}

static void begin_bind(struct conn *c);

/* Back on the worker. */
static void
tls_done(void *arg)
{
	struct conn *c = arg;
	bool ran = c->owner->settings->host->job_ran(c->job);

	c->job = NULL;
	if (c->state == CONN_CLOSING) {
		conn_close(c);
		return;
	}
	if (!ran)
		conn_fail(c, "no thread was free for the handshake of TLS (offload_threads)");
	else if (c->tls_timeout)
		conn_fail(c, "the handshake of TLS was not over in time (network_timeout)");
	else if (c->tls_result != LDAP_SUCCESS)
		conn_fail(c, c->why);
	else
		begin_bind(c);
}

static void
begin_tls(struct conn *c)
{
	const struct settings *s = c->owner->settings;
	uint32_t left = time_left(c);

	c->state = CONN_TLS;
	c->why[0] = '\0';
	s->host->watch_remove(c->watch);
	c->watch = NULL;
	c->job = s->host->offload(s->self, left > 0 ? left : 1, tls_work, tls_done, c);
	if (c->job == NULL)
		conn_fail(c, "no thread was free for the handshake of TLS (offload_queue)");
}

static void
begin_starttls(struct conn *c)
{
	c->state = CONN_STARTTLS;
	if (!conn_sent(c,
		ldap_extended_operation(c->ld, LDAP_EXOP_START_TLS, NULL, NULL, NULL, &c->msgid)))
		conn_fail(c, "StartTLS could not be asked for");
}

/* --------------------------------------------------------------------- the bind */

static void
begin_bind(struct conn *c)
{
	const struct settings *s = c->owner->settings;
	struct berval password = { s->service_password.len, (char *)s->service_password.data };

	if (c->watch == NULL && !conn_watch(c, GRAPNEL_READABLE)) {
		conn_fail(c, "out of memory");
		return;
	}
	if (!c->owner->service || s->service_dn == NULL) {
		conn_ready(c);
		return;
	}
	c->state = CONN_SERVICE;
	if (!conn_sent(c,
		ldap_sasl_bind(
		    c->ld, s->service_dn, LDAP_SASL_SIMPLE, &password, NULL, NULL, &c->msgid)))
		conn_fail(c, "the bind of the service account could not be sent");
}

void
setup_on_result(struct conn *c, int code, const char *text)
{
	char why[CONN_WHY];

	if (code == LDAP_SUCCESS) {
		if (c->state == CONN_STARTTLS)
			begin_tls(c);
		else
			conn_ready(c);
		return;
	}
	(void)snprintf(why, sizeof(why), "%s: %s%s%s",
	    c->state == CONN_STARTTLS ? "it refuses StartTLS"
				      : "it refuses service_dn with service_password",
	    ldap_err2string(code), text[0] != '\0' ? ", " : "", text);
	conn_fail(c, why);
}

/* ---------------------------------------------------------------------- events */

/* TCP is there, or not. */
void
setup_on_connected(struct conn *c)
{
	const struct settings *s = c->owner->settings;
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err != 0) {
		(void)snprintf(c->why, sizeof(c->why), "%s", strerror(err));
		connect_next(c);
		return;
	}
	(void)s->host->timer_arm(c->timer, time_left(c));
	(void)s->host->watch_change(c->watch, GRAPNEL_READABLE);
	if (ldap_init_fd(c->fd, LDAP_PROTO_TCP, c->server->uri, &c->ld) != LDAP_SUCCESS ||
	    !set_options(c)) {
		conn_fail(c, "libldap does not take the connection");
		return;
	}
	if (c->server->ldaps)
		begin_tls(c);
	else if (s->starttls)
		begin_starttls(c);
	else
		begin_bind(c);
}

void
setup_on_timer(struct conn *c)
{
	switch (c->state) {
	case CONN_NAME:
		conn_fail(c, "the name service does not answer");
		return;
	case CONN_TCP:
		(void)snprintf(c->why, sizeof(c->why), "%s", strerror(ETIMEDOUT));
		connect_next(c);
		return;
	case CONN_TLS:
		/* tls_done follows; conn_fail cannot be called while the pool has the handle. */
		c->tls_timeout = true;
		(void)shutdown(c->watch_fd, SHUT_RDWR);
		return;
	case CONN_STARTTLS:
		conn_fail(c, "StartTLS was not answered in time (network_timeout)");
		return;
	case CONN_SERVICE:
		conn_fail(c,
		    "the bind of the service account was not answered in time "
		    "(network_timeout)");
		return;
	case CONN_READY:
	case CONN_BUSY:
	case CONN_CLOSING:
		return;
	}
}
