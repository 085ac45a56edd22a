/* SPDX-License-Identifier: Apache-2.0 */
/* The socket: from a name to a connection that has been greeted, and bytes to and fro. Commands: conn_commands.c. */
#include "conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_SIZE    16384u
#define READ_ROUNDS  16     /* then others have their turn; the watch is level-triggered */
#define MAX_ELEMENTS 20480u /* a hash of GRANT_MAX_RULES fields, and some */

static void on_timer(void *arg);
static void on_ready(void *arg, int fd, unsigned events);
static void open_address(struct conn *c);

bool
conn_init(struct conn *c, struct instance *a, enum conn_kind kind, const struct conn_events *events,
    void *arg)
{
	memset(c, 0, sizeof(*c));
	c->a = a;
	c->kind = kind;
	c->events = events;
	c->arg = arg;
	c->fd = -1;
	c->timer = a->host->timer_new(a->self, on_timer, c);
	return c->timer != NULL;
}

void
conn_fini(struct conn *c)
{
	conn_stop(c);
	if (c->timer != NULL)
		c->a->host->timer_free(c->timer);
	c->timer = NULL;
}

/* ---------------------------------------------------------------------------- ends */

static void
drop_output(struct conn *c)
{
	if (c->out != NULL)
		explicit_bzero(c->out, c->out_capacity); /* AUTH */
	free(c->out);
	c->out = NULL;
	c->out_at = c->out_len = c->out_capacity = 0;
}

static void
close_socket(struct conn *c)
{
	const struct grapnel_host *host = c->a->host;

	if (c->watch != NULL)
		host->watch_remove(c->watch);
	c->watch = NULL;
	c->watched = 0;
	tls_close(c->ssl);
	c->ssl = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	reply_reader_free(c->reader);
	c->reader = NULL;
	drop_output(c);
}

void
conn_stop(struct conn *c)
{
	const struct grapnel_host *host = c->a->host;

	if (c->state == CONN_DOWN)
		return;
	if (c->state == CONN_UP && c->kind != CONN_SENTINEL)
		host->metric_add(c->a->self, c->a->metrics.connections, -1);
	if (c->resolve != NULL)
		host->dns_cancel(c->resolve);
	c->resolve = NULL;
	host->timer_disarm(c->timer);
	c->timer_armed = false;
	close_socket(c);
	c->state = CONN_DOWN;
	c->generation++;
	conn_commands_lost(c);
}

void
conn_fail(struct conn *c, const char *format, ...)
{
	char why[CONN_WHY_SIZE];
	va_list ap;

	if (c->state == CONN_DOWN)
		return;
	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	conn_stop(c);
	c->events->down(c->arg, why);
}

/* -------------------------------------------------------------------------- timers */

void
conn_arm(struct conn *c, uint64_t when_ms)
{
	uint64_t now = c->a->host->now_ms();

	c->timer_armed = c->a->host->timer_arm(
			     c->timer, when_ms > now ? (uint32_t)(when_ms - now) : 1) == GRAPNEL_OK;
}

static void
on_timer(void *arg)
{
	static const char *const doing[] = { [CONN_HELD] = "finding out where it is",
		[CONN_RESOLVING] = "looking up its name",
		[CONN_CONNECTING] = "connecting",
		[CONN_HANDSHAKE] = "the TLS handshake",
		[CONN_GREETING] = "logging in" };
	struct conn *c = arg;

	c->timer_armed = false;
	if (c->state == CONN_UP) {
		conn_timer_up(c);
		return;
	}
	if (c->state == CONN_DOWN)
		return;
	if (c->state == CONN_CONNECTING && c->address + 1 < c->address_count) {
		close_socket(c);
		c->address++;
		open_address(c);
		return;
	}
	conn_fail(c, "%s took more than %u ms (connect_timeout)", doing[c->state],
	    c->a->settings.connect_timeout_ms);
}

/* ------------------------------------------------------------------------- getting up */

void
conn_rewatch(struct conn *c)
{
	const struct grapnel_host *host = c->a->host;
	unsigned events = GRAPNEL_READABLE;

	if (c->state == CONN_CONNECTING)
		events = GRAPNEL_WRITABLE;
	else if (c->state == CONN_HANDSHAKE)
		events = tls_wants(c->ssl);
	else if (c->out_at < c->out_len)
		events |= GRAPNEL_WRITABLE;
	if (events == c->watched)
		return;
	if (host->watch_change(c->watch, events) == GRAPNEL_OK)
		c->watched = events;
}

static void
step_handshake(struct conn *c)
{
	char why[160] = "";
	long rc = tls_handshake(c->ssl, why, sizeof(why));

	if (rc == 1) {
		conn_greet(c);
	} else if (rc == TLS_AGAIN) {
		conn_rewatch(c);
	} else {
		conn_fail(c, "TLS: %s", rc == TLS_END ? "it closed the connection" : why);
	}
}

static void
on_connected(struct conn *c)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err != 0 && c->address + 1 < c->address_count) {
		close_socket(c);
		c->address++;
		open_address(c);
		return;
	}
	if (err != 0) {
		conn_fail(c, "%s", strerror(err));
		return;
	}
	c->reader = reply_reader_new(c->a->settings.max_answer, MAX_ELEMENTS);
	if (c->reader == NULL) {
		conn_fail(c, "out of memory");
		return;
	}
	if (c->a->settings.tls == NULL) {
		conn_greet(c);
		return;
	}
	c->ssl = tls_open(c->a->settings.tls, c->fd, &c->at);
	if (c->ssl == NULL) {
		conn_fail(c, "TLS cannot be begun%s",
		    c->at.is_path ? "; for a Unix socket set tls_server_name" : "");
		return;
	}
	c->state = CONN_HANDSHAKE;
	step_handshake(c);
}

/* Filled into *address; 0: this is none. */
static socklen_t
address_of(const struct conn *c, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
	struct sockaddr_un *local = (struct sockaddr_un *)address;
	const char *text = c->addresses[c->address];

	memset(address, 0, sizeof(*address));
	if (c->at.is_path) {
		local->sun_family = AF_UNIX;
		memcpy(local->sun_path, c->at.host, strlen(c->at.host) + 1);
		return sizeof(*local);
	}
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(c->at.port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(c->at.port);
		return sizeof(*v6);
	}
	return 0;
}

/* Each address gets its share of what is left of connect_timeout, so that a mute one leaves time for the next. */
static void
open_address(struct conn *c)
{
	const struct grapnel_host *host = c->a->host;
	struct sockaddr_storage address;
	socklen_t len = address_of(c, &address);
	uint64_t now = host->now_ms(), left = c->deadline > now ? c->deadline - now : 0;
	unsigned share = c->at.is_path ? 1 : c->address_count - c->address;
	int on = 1;

	if (len == 0) {
		conn_fail(c, "its name has no address that can be used");
		return;
	}
	c->fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		conn_fail(c, "socket: %s", strerror(errno));
		return;
	}
	if (!c->at.is_path) {
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	c->state = CONN_CONNECTING;
	conn_arm(c, now + left / share);
	if (connect(c->fd, (const struct sockaddr *)&address, len) != 0 && errno != EINPROGRESS) {
		/* Refused at once, as on Unix sockets. */
		if (c->address + 1 >= c->address_count) {
			conn_fail(c, "%s", strerror(errno));
			return;
		}
		close_socket(c);
		c->address++;
		open_address(c);
		return;
	}
	c->watched = GRAPNEL_WRITABLE;
	c->watch = host->watch_fd(c->a->self, c->fd, c->watched, on_ready, c);
	if (c->watch == NULL)
		conn_fail(c, "out of memory");
}

static void
on_resolved(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct conn *c = arg;

	c->resolve = NULL;
	for (size_t i = 0; i < count && c->address_count < CONN_ADDRESSES; i++)
		if (addresses[i].len < sizeof(c->addresses[0]))
			snprintf(c->addresses[c->address_count++], sizeof(c->addresses[0]), "%.*s",
			    (int)addresses[i].len, addresses[i].data);
	if (c->address_count == 0)
		conn_fail(c, "its name cannot be looked up: %s",
		    err == GRAPNEL_ENOENT         ? "there is none like it"
			: err == GRAPNEL_ETIMEOUT ? "no DNS server answers"
						  : "the DNS server fails");
	else
		open_address(c);
}

void
conn_hold(struct conn *c)
{
	c->state = CONN_HELD;
	c->deadline = c->a->host->now_ms() + c->a->settings.connect_timeout_ms;
	conn_arm(c, c->deadline);
}

void
conn_start(struct conn *c, const struct endpoint *to)
{
	const struct grapnel_host *host = c->a->host;
	struct grapnel_str name = { to->host, strlen(to->host) };

	c->at = *to;
	c->address = c->address_count = 0;
	c->deadline = host->now_ms() + c->a->settings.connect_timeout_ms;
	c->state = CONN_RESOLVING;
	if (to->is_path) {
		open_address(c);
		return;
	}
	conn_arm(c, c->deadline);
	c->resolve =
	    host->dns_lookup(c->a->self, name, c->a->settings.connect_timeout_ms, on_resolved, c);
	if (c->resolve == NULL)
		conn_fail(c, "out of memory");
}

/* ------------------------------------------------------------------------ to and fro */

bool
conn_put(struct conn *c, const char *bytes, size_t len)
{
	size_t used = c->out_len - c->out_at;
	char *more;

	if (c->out_capacity - c->out_len < len) {
		size_t capacity = used + len < 4096 ? 4096 : (used + len) * 2;

		if ((more = malloc(capacity)) == NULL)
			return false;
		if (used > 0)
			memcpy(more, c->out + c->out_at, used);
		drop_output(c);
		c->out = more;
		c->out_capacity = capacity;
		c->out_len = used;
	}
	memcpy(c->out + c->out_len, bytes, len);
	c->out_len += len;
	return true;
}

static void
step_write(struct conn *c)
{
	char why[160] = "";

	while (c->out_at < c->out_len) {
		const char *data = c->out + c->out_at;
		size_t len = c->out_len - c->out_at;
		long n = c->ssl != NULL ? tls_write(c->ssl, data, len, why, sizeof(why))
					: send(c->fd, data, len, MSG_NOSIGNAL);

		if (c->ssl == NULL && n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return;
			conn_fail(c, "%s", strerror(errno));
			return;
		}
		if (n == TLS_AGAIN)
			return;
		if (n < 0) {
			conn_fail(c, "TLS: %s", n == TLS_END ? "it closed the connection" : why);
			return;
		}
		c->out_at += (size_t)n;
	}
	drop_output(c);
}

/* All replies that are whole. false: the connection is gone. */
static bool
take_replies(struct conn *c)
{
	unsigned generation = c->generation;
	redisReply *reply;
	int got;

	while ((got = reply_next(c->reader, &reply)) > 0) {
		conn_got_reply(c, reply);
		reply_free(reply);
		if (c->generation != generation)
			return false;
	}
	if (got == 0)
		return true;
	count(c->a, c->a->metrics.answers_unusable);
	conn_fail(c, "%s", reply_error(c->reader));
	return false;
}

static bool
took(struct conn *c, const char *buffer, long n)
{
	if (reply_feed(c->reader, buffer, (size_t)n))
		return take_replies(c);
	conn_fail(c, "%s", reply_error(c->reader));
	return false;
}

static void
step_read(struct conn *c)
{
	char buffer[READ_SIZE], why[160] = "";

	for (int round = 0; round < READ_ROUNDS || (c->ssl != NULL && tls_pending(c->ssl));
	     round++) {
		long n = c->ssl != NULL ? tls_read(c->ssl, buffer, sizeof(buffer), why, sizeof(why))
					: recv(c->fd, buffer, sizeof(buffer), 0);

		if (n == 0 || (c->ssl != NULL && n == TLS_END)) {
			conn_fail(c, "it closed the connection");
			return;
		}
		if (c->ssl != NULL ? n == TLS_AGAIN : n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0) {
			conn_fail(c, "%s", c->ssl != NULL ? why : strerror(errno));
			return;
		}
		if (!took(c, buffer, n))
			return;
		if (c->ssl == NULL && (size_t)n < sizeof(buffer))
			return; /* that was all */
	}
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	struct conn *c = arg;
	unsigned generation = c->generation;

	(void)fd;
	if (c->state == CONN_CONNECTING) {
		on_connected(c);
	} else if (c->state == CONN_HANDSHAKE) {
		step_handshake(c);
	} else {
		if ((events & (GRAPNEL_READABLE | GRAPNEL_HANGUP)) != 0)
			step_read(c);
		if (c->generation == generation && c->out_at < c->out_len)
			step_write(c);
	}
	if (c->generation == generation && c->watch != NULL)
		conn_rewatch(c);
}
