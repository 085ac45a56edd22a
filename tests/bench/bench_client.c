/* SPDX-License-Identifier: Apache-2.0 */
/* The clients: sockets, and packets by the broker's own codec. */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PER_ADDRESS 5000 /* connections from one source address: ports are few */
#define SPARE_FDS   64
#define STUCK_MS    20000 /* without progress */
#define READ_BYTES  (256u * 1024)

static int epoll_fd = -1;
static struct bench_client *reading; /* what it sends meanwhile goes out together */

void
bench_clients_start(unsigned most)
{
	struct rlimit limit;
	rlim_t need = (rlim_t)most + SPARE_FDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		bench_fail("getrlimit: %s", strerror(errno));
	if (limit.rlim_max < need)
		bench_fail(
		    "%u clients need %lu open files, and the hard limit is %lu: see ulimit -n",
		    most, (unsigned long)need, (unsigned long)limit.rlim_max);
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		bench_fail("setrlimit: %s", strerror(errno));
	if ((epoll_fd = epoll_create1(EPOLL_CLOEXEC)) < 0)
		bench_fail("epoll_create1: %s", strerror(errno));
}

/* ---- output ---------------------------------------------------------------------------------- */

static void
want_write(struct bench_client *c, bool on)
{
	struct epoll_event ev = { .events = EPOLLIN | (on ? EPOLLOUT : 0u), .data.ptr = c };

	if (c->want_write != on && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) != 0)
		bench_fail("epoll_ctl: %s", strerror(errno));
	c->want_write = on;
}

/* Room for a packet; flush() when it is filled. */
static uint8_t *
room(struct bench_client *c, size_t len)
{
	uint8_t *out;

	if (c->out_len + len > c->out_room) {
		if ((out = realloc(c->out, c->out_len + len)) == NULL)
			bench_fail("no memory");
		c->out = out;
		c->out_room = c->out_len + len;
	}
	c->out_len += len;
	return c->out + c->out_len - len;
}

static void
flush(struct bench_client *c)
{
	ssize_t n;

	if (c == reading)
		return;
	n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOTCONN)
		bench_fail("client %" PRIu32 ": send: %s", c->number, strerror(errno));
	if (n > 0 && (c->out_len -= (size_t)n) > 0)
		memmove(c->out, c->out + n, c->out_len);
	want_write(c, c->out_len > 0);
	if (c->out_len == 0) { /* ten thousand idle clients hold nothing here either */
		free(c->out);
		c->out = NULL;
		c->out_room = 0;
	}
}

/* ---- life ------------------------------------------------------------------------------------ */

void
bench_connect(struct bench_client *c, uint32_t number, bool clean_session)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number / PER_ADDRESS) };
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons(bench_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	struct mqtt_connect connect_packet = { .version = BENCH_VERSION,
		.clean_start = clean_session };
	char client_id[24];
	int one = 1;

	*c = (struct bench_client){ .number = number, .want_write = true };
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		bench_fail("socket: %s", strerror(errno));
	(void)setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	(void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(c->fd, (struct sockaddr *)&from, sizeof(from)) != 0)
		bench_fail("bind: %s", strerror(errno));
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)
		bench_fail("connect: %s", strerror(errno));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) != 0)
		bench_fail("epoll_ctl: %s", strerror(errno));
	connect_packet.client_id.data = client_id;
	connect_packet.client_id.len =
	    (size_t)snprintf(client_id, sizeof(client_id), "bench-%06" PRIu32, number);
	mqtt_connect_encode(room(c, mqtt_connect_size(&connect_packet)), &connect_packet);
}

static void
closed(struct bench_client *c)
{
	(void)close(c->fd);
	free(c->in);
	free(c->out);
	*c = (struct bench_client){ .fd = -1, .number = c->number };
}

/* ---- packets --------------------------------------------------------------------------------- */

void
bench_disconnect(struct bench_client *c)
{
	struct mqtt_disconnect d = { .reason_code = RC_SUCCESS };

	mqtt_disconnect_encode(room(c, mqtt_disconnect_size(BENCH_VERSION, MQTT_DISCONNECT, &d)),
	    BENCH_VERSION, MQTT_DISCONNECT, &d);
	flush(c);
}

void
bench_connack(const struct mqtt_frame *f, struct wire *w, bool session_present)
{
	struct mqtt_connack a;

	if (f == NULL || f->type != MQTT_CONNACK ||
	    mqtt_connack_decode(w, BENCH_VERSION, &a) != 0 || a.reason_code != RC_SUCCESS)
		bench_fail("CONNECT was refused");
	if (a.session_present != session_present)
		bench_fail(
		    session_present ? "the session was not kept" : "a session was there already");
}

void
bench_subscribe(struct bench_client *c, uint16_t packet_id, uint8_t qos,
    const struct grapnel_str *filters, unsigned count)
{
	struct mqtt_subscription *items = calloc(count, sizeof(*items));
	size_t size;

	if (items == NULL)
		bench_fail("no memory");
	for (unsigned i = 0; i < count; i++) {
		items[i].filter = filters[i];
		items[i].qos = qos;
	}
	size = mqtt_subscribe_size(BENCH_VERSION, MQTT_SUBSCRIBE, 0, items, count);
	mqtt_subscribe_encode(
	    room(c, size), BENCH_VERSION, MQTT_SUBSCRIBE, packet_id, 0, items, count);
	free(items);
	flush(c);
}

void
bench_suback(const struct mqtt_frame *f, struct wire *w, unsigned count)
{
	struct mqtt_suback s;

	if (f == NULL || f->type != MQTT_SUBACK ||
	    mqtt_suback_decode(w, BENCH_VERSION, MQTT_SUBACK, &s) != 0 || s.count != count)
		bench_fail("something else than the SUBACK came");
	for (unsigned i = 0; i < count; i++)
		if (s.codes[i] > 2)
			bench_fail("a subscription was refused");
}

void
bench_publish(struct bench_client *c, uint16_t packet_id, struct grapnel_str topic_name,
    struct grapnel_str payload, bool retain)
{
	struct mqtt_publish_out o = { .topic_name = topic_name,
		.payload_len = (uint32_t)payload.len,
		.packet_id = packet_id,
		.qos = 1,
		.retain = retain };
	uint8_t *p = room(c, mqtt_publish_head_size(BENCH_VERSION, &o) + payload.len);

	wire_put_bytes(mqtt_publish_head_encode(p, BENCH_VERSION, &o), payload);
	flush(c);
}

void
bench_puback(struct bench_client *c, uint16_t packet_id)
{
	struct mqtt_ack a = { .packet_id = packet_id };

	mqtt_ack_encode(room(c, mqtt_ack_size(BENCH_VERSION, &a)), BENCH_VERSION, MQTT_PUBACK, &a);
	flush(c);
}

void
bench_ping(struct bench_client *c)
{
	mqtt_ping_encode(room(c, 2), MQTT_PINGREQ);
	flush(c);
}

void
bench_got_publish(const struct mqtt_frame *f, struct wire *w, struct mqtt_publish *p)
{
	if (mqtt_publish_decode_from_server(w, BENCH_VERSION, f->flags, p) != 0)
		bench_fail("a PUBLISH is malformed: %s", w->why);
}

/* ---- the loop -------------------------------------------------------------------------------- */

/* Handle the whole packets in buf; @return how many bytes they had. */
static size_t
take(struct bench_client *c, const uint8_t *buf, size_t len, bench_packet_fn fn)
{
	size_t at = 0;

	for (;;) {
		struct mqtt_frame f;
		struct wire w;
		int found = mqtt_frame_read(buf + at, len - at, &f);

		if (found < 0)
			bench_fail("client %" PRIu32 ": malformed packet", c->number);
		if (found == 0 || len - at < (size_t)f.header_len + f.remaining)
			return at;
		wire_init(&w, buf + at + f.header_len, f.remaining);
		fn(c, &f, &w);
		at += f.header_len + (size_t)f.remaining;
	}
}

static void
readable(struct bench_client *c, bench_packet_fn fn)
{
	static uint8_t buf[READ_BYTES];
	size_t had = c->in_len, used, len;
	ssize_t n;

	if (had > 0)
		memcpy(buf, c->in, had);
	free(c->in);
	c->in = NULL;
	c->in_len = 0;
	n = recv(c->fd, buf + had, sizeof(buf) - had, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno == ECONNRESET)) {
		closed(c);
		fn(c, NULL, NULL);
		return;
	}
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			bench_fail("client %" PRIu32 ": recv: %s", c->number, strerror(errno));
		n = 0;
	}
	len = had + (size_t)n;
	reading = c;
	used = take(c, buf, len, fn);
	reading = NULL;
	if (c->out_len > 0)
		flush(c);
	if (used == 0 && len == sizeof(buf))
		bench_fail("client %" PRIu32 ": a packet is too large", c->number);
	if (used < len) {
		if ((c->in = malloc(len - used)) == NULL)
			bench_fail("no memory");
		c->in_len = len - used;
		memcpy(c->in, buf + used, c->in_len);
	}
}

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void
bench_run(const char *what, bench_packet_fn fn, const uint64_t *done, uint64_t goal)
{
	struct epoll_event events[256];
	uint64_t last = *done, moved = now_ms();

	while (*done < goal) {
		int n = epoll_wait(epoll_fd, events, 256, 100);

		if (n < 0 && errno != EINTR)
			bench_fail("epoll_wait: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			struct bench_client *c = events[i].data.ptr;

			if (events[i].events & EPOLLOUT)
				flush(c);
			if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				readable(c, fn);
		}
		if (*done != last) {
			last = *done;
			moved = now_ms();
		} else if (now_ms() - moved > STUCK_MS) {
			bench_fail("%s: stuck at %" PRIu64 " of %" PRIu64, what, *done, goal);
		}
	}
	if (*done > goal)
		bench_fail("%s: %" PRIu64 " instead of %" PRIu64, what, *done, goal);
}
