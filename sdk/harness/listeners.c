/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of listeners whose handler the plugin is, lent to it worker by worker; and the connections it opens for its clients,
 * of which the harness has the broker's end.
 */
#include "inside.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct listener {
	struct listener *next;
	char *name;
	char address[80];
	bool datagram;
	uint16_t port; /* of the first socket; those of other workers share it */
	int fds[WORKERS_MAX];
	struct grapnel_listener lent[WORKERS_MAX];
	bool open[WORKERS_MAX];
};

static int
bind_one(struct listener *l)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons(l->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int one = 1;
	int fd = socket(
	    AF_INET, (l->datagram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0 ||
	    bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
	    (!l->datagram && listen(fd, 16) != 0) ||
	    getsockname(fd, (struct sockaddr *)&at, &len) != 0) {
		close(fd);
		return -1;
	}
	l->port = ntohs(at.sin_port);
	return fd;
}

static void
open_here(harness *h, unsigned worker, void *arg)
{
	struct listener *l = arg;
	struct plug *p = h->running;
	struct call c;
	int err;

	l->lent[worker] = (struct grapnel_listener){ .size = sizeof(l->lent[worker]),
		.name = { l->name, strlen(l->name) },
		.address = { l->address, strlen(l->address) },
		.fd = l->fds[worker],
		.worker = worker,
		.datagram = l->datagram };
	call_begin(&c, p, "listener_open");
	err = p->plugin.listener_open(p->instance, &l->lent[worker]);
	call_end(&c);
	l->open[worker] = err == GRAPNEL_OK;
}

bool
listener_add(harness *h, const char *name, const char *bind, char *error, size_t size)
{
	struct listener *l;
	bool ok = true;

	if (h->running == NULL || h->running->plugin.listener_open == NULL) {
		snprintf(
		    error, size, "the plugin is no handler of listeners: it has no listener_open");
		return false;
	}
	if ((l = calloc(1, sizeof(*l))) == NULL ||
	    (l->name = copy_text(name, strlen(name))) == NULL) {
		free(l);
		snprintf(error, size, "out of memory");
		return false;
	}
	l->datagram = strcmp(bind, "udp") == 0;
	l->next = h->listeners;
	h->listeners = l;
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		l->fds[i] = -1;
	for (unsigned i = 0; i < h->worker_count && ok; i++) {
		l->fds[i] = bind_one(l);
		ok = l->fds[i] >= 0;
	}
	if (!ok) {
		snprintf(error, size, "no socket: %s", strerror(errno));
		return false;
	}
	snprintf(
	    l->address, sizeof(l->address), "%s127.0.0.1:%u", l->datagram ? "udp:" : "", l->port);
	for (unsigned i = 0; i < h->worker_count && ok; i++) {
		(void)on_worker(h, i, open_here, l);
		ok = l->open[i];
	}
	if (!ok)
		snprintf(error, size, "listener_open failed");
	return ok;
}

const char *
listener_address(const harness *h, const char *name)
{
	for (const struct listener *l = h->listeners; l != NULL; l = l->next) {
		if (strcmp(l->name, name) == 0)
			return l->address;
	}
	return NULL;
}

static void
close_one(struct plug *p, struct listener *l, unsigned worker)
{
	struct call c;

	l->open[worker] = false;
	if (p->plugin.listener_close != NULL) {
		call_begin(&c, p, "listener_close");
		p->plugin.listener_close(p->instance, &l->lent[worker]);
		call_end(&c);
	}
	for (const struct thing *t = p->h->things; t != NULL; t = t->next) {
		if (t->kind == THING_WATCH && t->plug == p && !t->gone && t->fd == l->fds[worker])
			finding(p->h,
			    "leak: the socket of listener \"%s\" is still watched after "
			    "listener_close",
			    l->name);
	}
}

void
listeners_close(struct plug *p, unsigned worker)
{
	for (struct listener *l = p->h->listeners; l != NULL; l = l->next) {
		if (l->open[worker] && p->h->running == p)
			close_one(p, l, worker);
	}
}

bool
listener_has(harness *h, int fd)
{
	for (const struct listener *l = h->listeners; l != NULL; l = l->next) {
		for (unsigned i = 0; i < WORKERS_MAX; i++) {
			if (l->fds[i] == fd)
				return true;
		}
	}
	for (const struct record *r = record_next(h, NULL); r != NULL; r = record_next(h, r)) {
		if (r->kind == RECORD_CONNECTION && r->fd == fd)
			return true;
	}
	return false;
}

void
listeners_free(harness *h)
{
	struct listener *l;

	while ((l = h->listeners) != NULL) {
		h->listeners = l->next;
		for (unsigned i = 0; i < WORKERS_MAX; i++) {
			if (l->fds[i] >= 0)
				close(l->fds[i]);
		}
		free(l->name);
		free(l);
	}
	for (struct record *r = h->records; r != NULL; r = r->next) {
		if (r->kind == RECORD_CONNECTION)
			close(r->fd);
	}
}

/* As the broker makes it from the address, when the plugin does not say it itself. */
static struct grapnel_str
peer_of(const struct grapnel_connection *c, char *text, size_t size)
{
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (c->peer.data != NULL)
		return c->peer;
	if (getnameinfo(c->address, (socklen_t)c->address_len, host, sizeof(host), port,
		sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return GRAPNEL_STR("");
	snprintf(text, size, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
	return (struct grapnel_str){ text, strlen(text) };
}

int
connection_open(struct grapnel_instance *self, const struct grapnel_connection *c, int *fd)
{
	struct plug *p = plug_here(self, "connection_open");
	char name[128], address[NI_MAXHOST + NI_MAXSERV];
	struct grapnel_str peer;
	struct record *r;
	int pair[2];

	if (p == NULL)
		return GRAPNEL_ESTATE;
	if (c == NULL || fd == NULL || c->size < sizeof(*c) || c->attribute_count > 24 ||
	    (c->attributes == NULL && c->attribute_count > 0) || c->peer.len > 127 ||
	    (c->peer.data == NULL && c->address == NULL))
		return GRAPNEL_EINVAL;
	snprintf(name, sizeof(name), "%.*s", (int)c->listener.len,
	    c->listener.data != NULL ? c->listener.data : "");
	if (listener_address(p->h, name) == NULL)
		return GRAPNEL_ENOENT;
	peer = peer_of(c, address, sizeof(address));
	if ((r = record_new(RECORD_CONNECTION, peer.data, peer.len)) == NULL)
		return GRAPNEL_ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
		record_free(r);
		return GRAPNEL_ESYS;
	}
	r->more =
	    (struct grapnel_str){ copy_text(c->username.data, c->username.len), c->username.len };
	r->fd = pair[0];
	record_add(p->h, r);
	*fd = pair[1];
	return GRAPNEL_OK;
}

struct switching {
	struct plug *old, *neu;
};

/* The sockets go to the new instance, worker by worker: close of the old one, open of the new one. */
static void
switch_here(harness *h, unsigned worker, void *arg)
{
	const struct switching *to = arg;

	for (struct listener *l = h->listeners; l != NULL; l = l->next) {
		struct call c;

		if (!l->open[worker])
			continue;
		close_one(to->old, l, worker);
		call_begin(&c, to->neu, "listener_open");
		l->open[worker] = to->neu->plugin.listener_open(
				      to->neu->instance, &l->lent[worker]) == GRAPNEL_OK;
		call_end(&c);
	}
}

void
listeners_switch(harness *h, struct plug *neu)
{
	struct switching to = { h->running, neu };

	for (unsigned i = 0; i < h->worker_count; i++)
		(void)on_worker(h, i, switch_here, &to);
}
