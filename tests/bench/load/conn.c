/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets: opening, writing, closing; plain or TLS. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_PER_SOURCE 5000u

ssize_t
io_read(struct conn *c, uint8_t *buf, size_t n)
{
	if (c->ssl) {
		int r = SSL_read(c->ssl, buf, (int)n);
		if (r > 0)
			return r;
		int e = SSL_get_error(c->ssl, r);
		ERR_clear_error();
		return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? IO_AGAIN
		    : e == SSL_ERROR_ZERO_RETURN                             ? 0
									     : IO_ERROR;
	}
	ssize_t r = recv(c->fd, buf, n, 0);
	if (r >= 0)
		return r;
	return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
}

ssize_t
io_write(struct conn *c, const uint8_t *buf, size_t n)
{
	if (c->ssl) {
		int r = SSL_write(c->ssl, buf, (int)n);
		if (r > 0)
			return r;
		int e = SSL_get_error(c->ssl, r);
		ERR_clear_error();
		return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? IO_AGAIN : IO_ERROR;
	}
	ssize_t r = send(c->fd, buf, n, MSG_NOSIGNAL);
	if (r >= 0)
		return r;
	return errno == EAGAIN || errno == EINTR ? IO_AGAIN : IO_ERROR;
}

void
conn_arm(struct worker *w, struct conn *c, bool out)
{
	if (c->out_armed == out)
		return;
	struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c };
	epoll_ctl(w->ep, EPOLL_CTL_MOD, c->fd, &ev);
	c->out_armed = out;
}

void
conn_close(struct conn *c)
{
	if (c->ssl) {
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->out_head = c->out_len = c->part_len = 0;
	c->out_armed = false;
}

void
conn_dead(struct worker *w, struct conn *c, const char *why)
{
	if (c->state == ST_DEAD)
		return;
	if (c->state < ST_READY && w->opening)
		w->opening--;
	if (GET(w->dead) < 3 && !cfg.quiet)
		fprintf(stderr, "mqttload: connection %u%s: %s (state %d, %s)\n", c->id,
		    c->pub       ? " (publisher)"
			: c->sub ? " (subscriber)"
				 : "",
		    why, c->state, strerror(errno));
	conn_close(c);
	c->state = ST_DEAD;
	if (c->pub && !c->pub->done) {
		c->pub->done = true;
		ADD(w->pubs_done, 1);
	}
	ADD(w->dead, 1);
}

int
conn_flush(struct worker *w, struct conn *c)
{
	while (c->out_len) {
		ssize_t r = io_write(c, c->out + c->out_head, c->out_len);
		if (r == IO_AGAIN) {
			conn_arm(w, c, true);
			return 0;
		}
		if (r < 0) {
			conn_dead(w, c, "write failed");
			return -1;
		}
		ADD(w->writes, 1);
		c->out_head += (uint32_t)r;
		c->out_len -= (uint32_t)r;
		if (!c->out_len)
			c->out_head = 0;
	}
	conn_arm(w, c, false);
	return 0;
}

void
conn_open(struct worker *w, struct conn *c)
{
	int one = 1;

	c->t_open = now_ns();
	if (!GET(w->first_open))
		SET(w->first_open, c->t_open);
	w->opening++;
	c->state = ST_CONNECTING;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		conn_dead(w, c, "socket");
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/*
	 * One source address has some 28k ports to one destination, and past half of them the
	 * kernel's search for a free one turns slow. Loopback has more addresses.
	 */
	if ((ntohl(server.sin_addr.s_addr) >> 24) == 127 &&
	    (c->storm || cfg.conns > CONNS_PER_SOURCE)) {
		uint32_t nth = c->storm ? (w->attempts++ * cfg.threads + w->idx) % 250
					: c->id / CONNS_PER_SOURCE;
		struct sockaddr_in src = { .sin_family = AF_INET,
			.sin_addr.s_addr = htonl(0x7f000002u + nth) };
		setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
		if (bind(c->fd, (struct sockaddr *)&src, sizeof(src)) < 0) {
			conn_dead(w, c, "bind");
			return;
		}
	}
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 &&
	    errno != EINPROGRESS) {
		conn_dead(w, c, "connect");
		return;
	}
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	epoll_ctl(w->ep, EPOLL_CTL_ADD, c->fd, &ev);
	c->out_armed = true;
}

void
conn_ready(struct worker *w, struct conn *c)
{
	c->state = ST_READY;
	w->opening--;
	ADD(w->ready, 1);
	SET(w->last_ready, now_ns());
}
