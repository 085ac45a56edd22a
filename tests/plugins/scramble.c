/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scramble - a transformer of byte streams for listeners with handler = "scramble": each byte is MQTT with some of its bits turned
 *
 *	mask = 90		which bits
 *	username = "name"	the user name of all clients
 *	attribute = "x.y=z"	an attribute of theirs
 *	end_after = N		close a connection after so many bytes from its client
 *
 * Says in the log "open NAME", "close NAME", "refused: ERROR", and in worker_stop how many connections it closes.
 */
#include "match.h"
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE 16384u

struct scramble {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint8_t mask;
	int64_t end_after;
	struct grapnel_str username;
	struct grapnel_pair attribute;
	struct per_worker {
		struct relay *relays;
		struct door *doors;
	} workers[64];
};

struct door {
	struct door *next;
	struct scramble *s;
	const struct grapnel_listener *l;
	struct grapnel_watch *watch;
};

/* Bytes on their way to `to`. */
struct way {
	struct relay *r;
	struct way *back;
	int fd;                      /* where they come from */
	struct grapnel_watch *watch; /* of fd */
	size_t off, len;
	uint8_t bytes[BUFFER_SIZE];
};
struct relay {
	struct relay *next, **link;
	struct scramble *s;
	struct way up, down; /* from the client, from the broker */
	int64_t from_client;
};

static void
relay_end(struct relay *r)
{
	*r->link = r->next;
	if (r->next != NULL)
		r->next->link = r->link;
	r->s->host->watch_remove(r->up.watch);
	r->s->host->watch_remove(r->down.watch);
	close(r->up.fd);
	close(r->down.fd);
	free(r);
}

/* What each end waits for: input while its buffer is empty, output while the other way has something for it. */
static void
watch_ways(struct relay *r)
{
	struct way *ways[] = { &r->up, &r->down };

	for (int i = 0; i < 2; i++) {
		struct way *w = ways[i];

		r->s->host->watch_change(w->watch,
		    (w->len == 0 ? GRAPNEL_READABLE : 0) |
			(w->back->len > 0 ? GRAPNEL_WRITABLE : 0));
	}
}

/* @return false: it has ended. */
static bool
pump(struct way *w)
{
	ssize_t n;

	if (w->len == 0) {
		n = read(w->fd, w->bytes, sizeof(w->bytes));
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (n < 0)
			return true;
		for (ssize_t i = 0; i < n; i++)
			w->bytes[i] ^= w->r->s->mask;
		w->off = 0;
		w->len = (size_t)n;
		if (w == &w->r->up)
			w->r->from_client += n;
	}
	n = send(w->back->fd, w->bytes + w->off, w->len, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	w->off += (size_t)n;
	w->len -= (size_t)n;
	return true;
}

static void
on_ready(void *arg, int fd, unsigned events)
{
	struct way *w = arg;
	struct relay *r = w->r;
	const struct scramble *s = r->s;

	(void)fd;
	if (((events & GRAPNEL_WRITABLE) && w->back->len > 0 && !pump(w->back)) ||
	    ((events & (GRAPNEL_READABLE | GRAPNEL_HANGUP)) && w->len == 0 && !pump(w)) ||
	    (s->end_after > 0 && r->from_client >= s->end_after)) {
		relay_end(r);
		return;
	}
	watch_ways(r);
}

static void
on_acceptable(void *arg, int fd, unsigned events)
{
	struct door *d = arg;
	struct scramble *s = d->s;
	const struct grapnel_host *host = s->host;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	int client = accept4(fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct grapnel_connection connection = { .size = sizeof(connection),
		.listener = d->l->name,
		.address = &address,
		.username = s->username,
		.attributes = &s->attribute,
		.attribute_count = s->attribute.name.data != NULL };
	struct relay *r;
	int err;

	(void)events;
	if (client < 0)
		return;
	connection.address_len = len;
	if ((r = calloc(1, sizeof(*r))) == NULL)
		abort();
	err = host->connection_open(s->self, &connection, &r->down.fd);
	if (err != GRAPNEL_OK) {
		host->log(s->self, GRAPNEL_LOG_INFO, "refused: %d", err);
		close(client);
		free(r);
		return;
	}
	r->s = s;
	r->up.r = r->down.r = r;
	r->up.back = &r->down;
	r->down.back = &r->up;
	r->up.fd = client;
	r->up.watch = host->watch_fd(s->self, client, GRAPNEL_READABLE, on_ready, &r->up);
	r->down.watch = host->watch_fd(s->self, r->down.fd, GRAPNEL_READABLE, on_ready, &r->down);
	if (r->up.watch == NULL || r->down.watch == NULL)
		abort();
	r->link = &s->workers[d->l->worker].relays;
	r->next = *r->link;
	*r->link = r;
	if (r->next != NULL)
		r->next->link = &r->next;
}

static int
scramble_listener_open(void *instance, const struct grapnel_listener *l)
{
	struct scramble *s = instance;
	struct door *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return GRAPNEL_ENOMEM;
	d->s = s;
	d->l = l;
	d->watch = s->host->watch_fd(s->self, l->fd, GRAPNEL_READABLE, on_acceptable, d);
	if (l->datagram || d->watch == NULL) {
		s->host->watch_remove(d->watch);
		free(d);
		return GRAPNEL_EUNSUPPORTED;
	}
	d->next = s->workers[l->worker].doors;
	s->workers[l->worker].doors = d;
	s->host->log(s->self, GRAPNEL_LOG_INFO, "open %.*s", (int)l->name.len, l->name.data);
	return GRAPNEL_OK;
}

static void
scramble_listener_close(void *instance, const struct grapnel_listener *l)
{
	struct scramble *s = instance;
	struct door **at = &s->workers[l->worker].doors, *d;

	while ((d = *at)->l != l)
		at = &d->next;
	*at = d->next;
	s->host->watch_remove(d->watch);
	free(d);
	s->host->log(s->self, GRAPNEL_LOG_INFO, "close %.*s", (int)l->name.len, l->name.data);
}

static void
scramble_worker_stop(void *instance, unsigned worker)
{
	struct scramble *s = instance;
	unsigned n = 0;

	if (s->workers[worker].doors != NULL)
		abort(); /* listener_close comes first */
	for (; s->workers[worker].relays != NULL; n++)
		relay_end(s->workers[worker].relays);
	s->host->log(s->self, GRAPNEL_LOG_INFO, "stop: %u connections", n);
}

static int
scramble_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct scramble *s = calloc(1, sizeof(*s));
	struct grapnel_str attribute = host->option_str(self, NULL, "attribute");
	const char *sign =
	    attribute.data != NULL ? memchr(attribute.data, '=', attribute.len) : NULL;

	if (s == NULL)
		return GRAPNEL_ENOMEM;
	s->host = host;
	s->self = self;
	s->mask = (uint8_t)host->option_int(self, NULL, "mask");
	s->end_after = host->option_int(self, NULL, "end_after");
	s->username = host->option_str(self, NULL, "username");
	if (sign != NULL) {
		s->attribute.name =
		    (struct grapnel_str){ attribute.data, (size_t)(sign - attribute.data) };
		s->attribute.value =
		    (struct grapnel_str){ sign + 1, attribute.len - s->attribute.name.len - 1 };
	}
	*instance = s;
	return GRAPNEL_OK;
}

static const struct grapnel_option scramble_options[] = {
	{ .name = "attribute",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "An attribute of all clients, \"name=value\"." },
	{ .name = "end_after",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "Close a connection after so many bytes from its client; 0: never." },
	{ .name = "mask",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "90",
	    .min = 0,
	    .max = 255,
	    .help = "Bits that are turned." },
	{ .name = "username", .type = GRAPNEL_OPTION_STRING, .help = "User name of all clients." },
	{ 0 },
};

GRAPNEL_PLUGIN(scramble, .version = "1.0", .license = "Apache-2.0",
    .description = "MQTT with some bits turned", .options = scramble_options,
    .create = scramble_create, .destroy = free, .worker_stop = scramble_worker_stop,
    .listener_open = scramble_listener_open, .listener_close = scramble_listener_close, );
