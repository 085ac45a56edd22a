/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay - the floor: what moving QoS 0 packets costs on this machine when a broker does next to
 * nothing. Not a broker; only a yardstick for mqttload.
 *
 *	relay PORT	(127.0.0.1, one thread, one epoll set)
 *
 * It answers CONNECT, SUBSCRIBE and PINGREQ of MQTT 3.1.1 and copies each PUBLISH, bytes untouched, to
 * the connections that subscribed to exactly that Topic Name (a hash) or to any Topic Filter that ends
 * in '#'. No sessions, no checks, no limits: it trusts whoever connects. One read per ready connection
 * and round, one write per receiver and round.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES 65536u
#define SLOTS      65536u /* of the hash; a power of two */
#define EVENTS     256

struct conn {
	int fd;
	bool dirty, armed, gone;
	uint8_t *part, *out;
	uint32_t part_len, head, len, cap;
};

struct topic {
	char *name;
	uint32_t name_len, n, cap;
	struct conn **subs;
};

static struct topic table[SLOTS], catch_all;
static struct conn **dirty;
static uint32_t ndirty, cap_dirty;
static int ep;

static void *
more(void *p, size_t n, size_t size)
{
	if ((p = reallocarray(p, n, size)) == NULL) {
		fputs("relay: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static struct topic *
find(const uint8_t *s, uint32_t n)
{
	uint32_t h = 2166136261u;

	for (uint32_t i = 0; i < n; i++)
		h = (h ^ s[i]) * 16777619u;
	for (h &= SLOTS - 1; table[h].name != NULL; h = (h + 1) & (SLOTS - 1))
		if (table[h].name_len == n && memcmp(table[h].name, s, n) == 0)
			break;
	return &table[h];
}

static void
queue(struct conn *c, const uint8_t *p, uint32_t n)
{
	if (c->gone)
		return;
	if (c->head + c->len + n > c->cap) {
		if (c->len > 0)
			memmove(c->out, c->out + c->head, c->len);
		c->head = 0;
		if (c->len + n > c->cap)
			c->out = more(c->out, c->cap = (c->len + n) * 2, 1);
	}
	memcpy(c->out + c->head + c->len, p, n);
	c->len += n;
	if (c->dirty)
		return;
	c->dirty = true;
	if (ndirty == cap_dirty)
		dirty = more(dirty, cap_dirty = cap_dirty * 2 + 64, sizeof(struct conn *));
	dirty[ndirty++] = c;
}

static void
subscribe(struct conn *c, const uint8_t *f, uint32_t n)
{
	struct topic *t = n > 0 && f[n - 1] == '#' ? &catch_all : find(f, n);

	if (t != &catch_all && t->name == NULL) {
		t->name = more(NULL, n + 1, 1);
		memcpy(t->name, f, n);
		t->name_len = n;
	}
	if (t->n == t->cap)
		t->subs = more(t->subs, t->cap = t->cap * 2 + 1, sizeof(struct conn *));
	t->subs[t->n++] = c;
}

static void
on_subscribe(struct conn *c, const uint8_t *body, const uint8_t *end)
{
	uint8_t ack[260] = { 0x90, 2, body[0], body[1] };

	for (const uint8_t *p = body + 2; p + 2 < end && ack[1] < 120;) {
		uint32_t n = (uint32_t)p[0] << 8 | p[1];

		subscribe(c, p + 2, n);
		p += n + 3;
		ack[1]++;
	}
	queue(c, ack, ack[1] + 2u);
}

static void
on_publish(const uint8_t *start, const uint8_t *body, const uint8_t *end)
{
	const struct topic *t = find(body + 2, (uint32_t)body[0] << 8 | body[1]);

	for (uint32_t i = 0; i < t->n; i++)
		queue(t->subs[i], start, (uint32_t)(end - start));
	for (uint32_t i = 0; i < catch_all.n; i++)
		queue(catch_all.subs[i], start, (uint32_t)(end - start));
}

static void
packet(struct conn *c, const uint8_t *start, const uint8_t *body, const uint8_t *end)
{
	switch (*start >> 4) {
	case 1:
		queue(c, (const uint8_t *)"\x20\x02\x00", 4);
		break;
	case 3:
		on_publish(start, body, end);
		break;
	case 8:
		on_subscribe(c, body, end);
		break;
	case 12:
		queue(c, (const uint8_t *)"\xd0", 2);
		break;
	}
}

static void
hang_up(struct conn *c) /* its subscriptions stay, and go nowhere */
{
	if (!c->gone)
		(void)close(c->fd);
	c->gone = true;
	c->len = 0;
}

static void
flush(struct conn *c)
{
	while (c->len > 0 && !c->gone) {
		ssize_t r = send(c->fd, c->out + c->head, c->len, MSG_NOSIGNAL);

		if (r < 0 && errno != EAGAIN)
			hang_up(c);
		if (r <= 0)
			break;
		c->head += (uint32_t)r;
		c->len -= (uint32_t)r;
	}
	if (c->len == 0)
		c->head = 0;
	if (!c->gone && c->armed != (c->len > 0)) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

		c->armed = c->len > 0;
		if (c->armed)
			ev.events |= EPOLLOUT;
		(void)epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
	}
}

static void
readable(struct conn *c, uint8_t *buf)
{
	const uint8_t *p = buf, *stop;
	ssize_t r;

	memcpy(buf, c->part, c->part_len);
	r = recv(c->fd, buf + c->part_len, READ_BYTES - c->part_len, 0);
	if (r < 0 && errno == EAGAIN)
		return;
	if (r <= 0) {
		hang_up(c);
		return;
	}
	stop = buf + c->part_len + r;
	while (stop - p >= 2) {
		const uint8_t *q = p + 1;
		uint32_t n = *q & 0x7f;

		for (unsigned s = 7; (*q & 0x80) && q + 1 < stop && s < 28; s += 7)
			n |= (uint32_t)(*++q & 0x7f) << s;
		if ((*q & 0x80) || (size_t)(stop - ++q) < n)
			break;
		packet(c, p, q, q + n);
		p = q + n;
	}
	c->part_len = (uint32_t)(stop - p);
	memcpy(c->part, p, c->part_len);
}

static void
accept_all(int ls)
{
	int fd, one = 1;

	while ((fd = accept4(ls, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		struct conn *c = more(NULL, 1, sizeof(*c));
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };

		*c = (struct conn){ .fd = fd, .part = more(NULL, READ_BYTES, 1) };
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		(void)epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
	}
}

int
main(int argc, char **argv)
{
	static uint8_t buf[READ_BYTES];
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 18839)) };
	struct epoll_event ev = { .events = EPOLLIN }, evs[EVENTS];
	int one = 1, ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	(void)signal(SIGPIPE, SIG_IGN);
	(void)setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ls < 0 || bind(ls, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(ls, 1024) != 0 ||
	    (ep = epoll_create1(0)) < 0 || epoll_ctl(ep, EPOLL_CTL_ADD, ls, &ev) != 0) {
		perror("relay");
		return 1;
	}
	for (;;) {
		int n = epoll_wait(ep, evs, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct conn *c = evs[i].data.ptr;

			if (c == NULL) {
				accept_all(ls);
			} else if (!c->gone) {
				if (evs[i].events & EPOLLOUT)
					flush(c);
				if (evs[i].events & ~(uint32_t)EPOLLOUT)
					readable(c, buf);
			}
		}
		for (uint32_t i = 0; i < ndirty; i++) {
			dirty[i]->dirty = false;
			flush(dirty[i]);
		}
		ndirty = 0;
	}
}
