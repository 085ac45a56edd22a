/* SPDX-License-Identifier: Apache-2.0 */
/*
 * datagrams - a gateway for listeners with handler = "datagrams": each source of datagrams is a client, and the bytes of its
 * datagrams are MQTT; what the broker sends goes back in datagrams
 *
 *	username = "name"	the user name of all of them; "*" alone: "port-" and their port
 *	refuse = yes		listener_open fails
 *
 * Says in the log "open NAME on ADDRESS", "close NAME", and at its end how many sockets it had opened and closed.
 */
#include "match.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define DATAGRAM_MAX 65536
#define CHUNK        1200 /* of an answer: no fragments */

struct gateway {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	bool refuse;
	struct grapnel_str username;
	struct door *doors[64]; /* by worker */
	_Atomic unsigned opened, closed;
};

/* A socket as one worker has it; stays for the clients when it is closed. */
struct door {
	struct gateway *g;
	const struct grapnel_listener *l; /* NULL: closed */
	struct grapnel_watch *watch;
	struct client *clients;
	struct door *next;
};

struct client {
	struct client *next;
	struct door *door;
	struct grapnel_watch *watch;
	int fd;
	struct sockaddr_storage address;
	socklen_t address_len;
};

static void
client_end(struct client *c)
{
	struct client **at = &c->door->clients;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	c->door->g->host->watch_remove(c->watch);
	close(c->fd);
	free(c);
}

/* The broker has something for it, or has closed. */
static void
on_answer(void *arg, int fd, unsigned events)
{
	struct client *c = arg;
	char bytes[CHUNK];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0 || c->door->l == NULL) {
		client_end(c);
		return;
	}
	(void)sendto(
	    c->door->l->fd, bytes, (size_t)n, 0, (struct sockaddr *)&c->address, c->address_len);
}

static struct client *
client_new(struct door *d, const struct sockaddr_storage *address, socklen_t len)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
	struct gateway *g = d->g;
	struct client *c = calloc(1, sizeof(*c));
	char name[32];
	struct grapnel_pair worker = { GRAPNEL_STR("gateway.kind"), GRAPNEL_STR("datagram") };
	struct grapnel_connection connection = { .size = sizeof(connection),
		.listener = d->l->name,
		.address = address,
		.address_len = len,
		.username = g->username,
		.attributes = &worker,
		.attribute_count = 1 };
	int err;

	if (c == NULL)
		abort();
	if (str_equal(g->username, GRAPNEL_STR("*"))) {
		snprintf(name, sizeof(name), "port-%u", ntohs(in->sin_port));
		connection.username = (struct grapnel_str){ name, strlen(name) };
	}
	c->door = d;
	c->address = *address;
	c->address_len = len;
	err = g->host->connection_open(g->self, &connection, &c->fd);
	if (err != GRAPNEL_OK) {
		g->host->log(g->self, GRAPNEL_LOG_INFO, "refused: %d", err);
		free(c);
		return NULL;
	}
	c->watch = g->host->watch_fd(g->self, c->fd, GRAPNEL_READABLE, on_answer, c);
	if (c->watch == NULL)
		abort();
	c->next = d->clients;
	d->clients = c;
	return c;
}

static void
on_datagram(void *arg, int fd, unsigned events)
{
	static _Thread_local char bytes[DATAGRAM_MAX];
	struct door *d = arg;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	ssize_t n = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&address, &len);
	struct client *c;

	(void)events;
	if (n < 0)
		return;
	for (c = d->clients; c != NULL; c = c->next)
		if (c->address_len == len && memcmp(&c->address, &address, len) == 0)
			break;
	if (c == NULL)
		c = client_new(d, &address, len);
	/* A broker that takes no more would lose a part of the stream: that is the end of it. */
	if (c != NULL && send(c->fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
		client_end(c);
}

static int
gateway_listener_open(void *instance, const struct grapnel_listener *l)
{
	struct gateway *g = instance;
	struct door *d;

	g->host->log(g->self, GRAPNEL_LOG_INFO, "open %.*s on %.*s", (int)l->name.len, l->name.data,
	    (int)l->address.len, l->address.data);
	if (g->refuse || !l->datagram)
		return GRAPNEL_EUNSUPPORTED;
	if ((d = calloc(1, sizeof(*d))) == NULL)
		return GRAPNEL_ENOMEM;
	d->g = g;
	d->l = l;
	d->watch = g->host->watch_fd(g->self, l->fd, GRAPNEL_READABLE, on_datagram, d);
	if (d->watch == NULL) {
		free(d);
		return GRAPNEL_ENOMEM;
	}
	d->next = g->doors[l->worker];
	g->doors[l->worker] = d;
	atomic_fetch_add(&g->opened, 1);
	return GRAPNEL_OK;
}

static void
gateway_listener_close(void *instance, const struct grapnel_listener *l)
{
	struct gateway *g = instance;
	struct door *d = g->doors[l->worker];

	while (d->l != l)
		d = d->next;
	g->host->watch_remove(d->watch);
	d->l = NULL;
	/* Their datagrams are for others now: they have to begin anew. */
	while (d->clients != NULL)
		client_end(d->clients);
	atomic_fetch_add(&g->closed, 1);
	g->host->log(g->self, GRAPNEL_LOG_INFO, "close %.*s", (int)l->name.len, l->name.data);
}

static void
gateway_worker_stop(void *instance, unsigned worker)
{
	struct gateway *g = instance;
	struct door *d;

	while ((d = g->doors[worker]) != NULL) {
		g->doors[worker] = d->next;
		if (d->l != NULL || d->clients != NULL)
			abort(); /* listener_close comes first */
		free(d);
	}
}

static int
gateway_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct gateway *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return GRAPNEL_ENOMEM;
	g->host = host;
	g->self = self;
	g->refuse = host->option_bool(self, NULL, "refuse");
	g->username = host->option_str(self, NULL, "username");
	*instance = g;
	return GRAPNEL_OK;
}

static void
gateway_destroy(void *instance)
{
	struct gateway *g = instance;

	g->host->log(g->self, GRAPNEL_LOG_INFO, "%u sockets opened, %u closed",
	    atomic_load(&g->opened), atomic_load(&g->closed));
	free(g);
}

static const struct grapnel_option gateway_options[] = {
	{ .name = "refuse",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "listener_open fails." },
	{ .name = "username", .type = GRAPNEL_OPTION_STRING, .help = "User name of all clients." },
	{ 0 },
};

GRAPNEL_PLUGIN(datagrams, .version = "1.0", .license = "Apache-2.0",
    .description = "MQTT in datagrams", .options = gateway_options, .create = gateway_create,
    .destroy = gateway_destroy, .worker_stop = gateway_worker_stop,
    .listener_open = gateway_listener_open, .listener_close = gateway_listener_close, );
