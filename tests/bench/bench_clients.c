/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_clients - what an idle connection and a subscription weigh, and that all of them work
 *
 *	bench_clients [-c clients] [-s subscriptions] [-f exact|wildcard] [-r rounds]
 *	    [-w workers] [-n] [grapneld]
 *
 * Connects the clients, subscribes them to distinct filters, publishes to a random sample of these
 * and checks that each message arrives once, at the client that asked for it; then all leave. What
 * the second round adds to the memory of the first was lost, or lies in pieces. -n: no heading.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CONNECTING  200 /* at the same time */
#define SUBSCRIBING 64
#define PER_PACKET  50 /* filters in a SUBSCRIBE */
#define SAMPLE      10000
#define PUBLISHING  400 /* not acknowledged yet */
#define NAME_ROOM   64

static const struct shape {
	const char *name, *row, *filter, *topic_name;
} shapes[] = {
	{ "exact", "subscription  site/N/dev/N/temperature", "site/%u/dev/%u/temperature",
	    "site/%u/dev/%u/temperature" },
	{ "wildcard", "subscription  site/N/+/N/#", "site/%u/+/%u/#",
	    "site/%u/dev/%u/temperature" },
};

static const struct shape *shape = &shapes[0];
static unsigned client_count = 10000, filter_count = 1000000;
static struct bench_client *clients, publisher;
static uint64_t done;
static unsigned next; /* what is started next, whenever something is done */

/* ---- connections ----------------------------------------------------------------------------- */

static void
connect_next(void)
{
	if (next < client_count) {
		bench_connect(&clients[next], next, true);
		next++;
	}
}

static void
on_connack(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	(void)c;
	bench_connack(f, w, false);
	done++;
	connect_next();
}

static void
connect_all(void)
{
	done = next = 0;
	while (next < CONNECTING && next < client_count)
		connect_next();
	bench_run("connecting", on_connack, &done, client_count);
}

static void
on_close(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	(void)w;
	if (f != NULL)
		bench_fail("client %u: a packet after DISCONNECT", (unsigned)c->number);
	done++;
}

static void
disconnect_all(void)
{
	done = 0;
	for (unsigned i = 0; i < client_count; i++)
		bench_disconnect(&clients[i]);
	bench_disconnect(&publisher);
	bench_run("disconnecting", on_close, &done, (uint64_t)client_count + 1);
}

/* ---- subscriptions: filter i is of client i % client_count ----------------------------------- */

static struct grapnel_str
text(char *buf, const char *format, unsigned i)
{
	int len = snprintf(buf, NAME_ROOM, format, i % 97, i);

	return (struct grapnel_str){ buf, (size_t)len };
}

static unsigned
filters_of(unsigned client)
{
	return filter_count / client_count + (client < filter_count % client_count ? 1 : 0);
}

static unsigned
packet_filters(unsigned client, unsigned packet) /* how many are in that SUBSCRIBE of the client */
{
	unsigned all = filters_of(client), before = packet * PER_PACKET;

	return before >= all ? 0 : all - before < PER_PACKET ? all - before : PER_PACKET;
}

static void
subscribe_packet(struct bench_client *c, unsigned packet)
{
	unsigned count = packet_filters(c->number, packet);
	struct grapnel_str filters[PER_PACKET];
	char bufs[PER_PACKET][NAME_ROOM];

	for (unsigned i = 0; i < count; i++)
		filters[i] = text(
		    bufs[i], shape->filter, (packet * PER_PACKET + i) * client_count + c->number);
	bench_subscribe(c, (uint16_t)(packet + 1), 0, filters, count);
}

static void
subscribe_next(void)
{
	if (next < client_count && filters_of(next) > 0)
		subscribe_packet(&clients[next++], 0);
}

static void
on_suback(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	struct wire copy = *w;
	unsigned packet, count;

	if (f == NULL)
		bench_fail("client %u was disconnected", (unsigned)c->number);
	packet = wire_get_u16(&copy) - 1u;
	count = packet_filters(c->number, packet);
	bench_suback(f, w, count);
	done += count;
	if (packet_filters(c->number, packet + 1) > 0)
		subscribe_packet(c, packet + 1);
	else
		subscribe_next();
}

static void
subscribe_all(void)
{
	done = next = 0;
	for (unsigned i = 0; i < SUBSCRIBING; i++)
		subscribe_next();
	bench_run("subscribing", on_suback, &done, filter_count);
}

/* ---- do they work? --------------------------------------------------------------------------- */

static unsigned sample_count, sample[SAMPLE]; /* filters */
static bool arrived[SAMPLE];
static uint64_t settled; /* arrived and acknowledged, pings answered */

static void
publish_next(void)
{
	char buf[NAME_ROOM];
	uint8_t payload[4];

	if (next == sample_count)
		return;
	wire_put_u32(payload, next);
	bench_publish(&publisher, (uint16_t)(next % UINT16_MAX + 1),
	    text(buf, shape->topic_name, sample[next]),
	    (struct grapnel_str){ (const char *)payload, sizeof(payload) }, false);
	next++;
}

static void
got_message(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	struct grapnel_str expected;
	struct mqtt_publish p;
	char buf[NAME_ROOM];
	struct wire payload;
	uint32_t i;

	bench_got_publish(f, w, &p);
	wire_init(&payload, p.payload.data, p.payload.len);
	i = wire_get_u32(&payload);
	if (payload.err != 0 || wire_left(&payload) > 0 || i >= next)
		bench_fail("a payload is damaged");
	expected = text(buf, shape->topic_name, sample[i]);
	if (p.topic_name.len != expected.len ||
	    memcmp(p.topic_name.data, expected.data, expected.len) != 0)
		bench_fail("%s came as %.*s", buf, (int)p.topic_name.len, p.topic_name.data);
	if (c->number != sample[i] % client_count)
		bench_fail("%s came to client %u", buf, (unsigned)c->number);
	if (arrived[i])
		bench_fail("%s came twice", buf);
	arrived[i] = true;
}

static void
on_sample(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	if (f == NULL)
		bench_fail("client %u was disconnected", (unsigned)c->number);
	if (f->type == MQTT_PUBLISH)
		got_message(c, f, w);
	else if (f->type == MQTT_PUBACK && c == &publisher)
		publish_next();
	else if (f->type != MQTT_PINGRESP)
		bench_fail(
		    "client %u: unexpected %s", (unsigned)c->number, mqtt_type_name(f->type));
	settled++;
}

static void
check_sample(void)
{
	struct bench_use from, to;

	sample_count = SAMPLE < filter_count ? SAMPLE : filter_count;
	for (unsigned i = 0; i < sample_count; i++) {
		sample[i] = bench_random(filter_count);
		arrived[i] = false;
	}
	done = next = 0;
	bench_connect(&publisher, client_count, true);
	next = client_count;
	bench_run("connecting", on_connack, &done, 1);

	from = bench_use();
	next = 0;
	settled = 0;
	while (next < PUBLISHING && next < sample_count)
		publish_next();
	bench_run("publishing", on_sample, &settled, (uint64_t)sample_count * 2);
	to = bench_use();

	/* What came twice or to a wrong client stands before the answer to a ping. */
	settled = 0;
	for (unsigned i = 0; i < client_count; i++)
		bench_ping(&clients[i]);
	bench_run("pinging", on_sample, &settled, client_count);
	bench_row("message to a random one of them", sample_count, &from, &to);
}

/* ---------------------------------------------------------------------------------------------- */

static const struct shape *
shape_named(const char *name)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (strcmp(shapes[i].name, name) == 0)
			return &shapes[i];
	bench_fail("-f: exact or wildcard, not %s", name);
}

static void
one_round(const struct bench_use *start)
{
	struct bench_use before = bench_use(), connected, subscribed, gone;

	connect_all();
	connected = bench_use();
	bench_row("idle connection", client_count, &before, &connected);
	subscribe_all();
	subscribed = bench_use();
	bench_row(shape->row, filter_count, &connected, &subscribed);
	check_sample();
	disconnect_all();
	gone = bench_use();
	bench_row_back("all clients have left", start, &subscribed, &gone);
}

int
main(int argc, char **argv)
{
	struct bench_use start;
	unsigned workers = 2, rounds = 2;
	bool heading = true;
	char limits[128];
	int opt;

	while ((opt = getopt(argc, argv, "c:f:nr:s:w:")) != -1) {
		if (opt == 'c')
			client_count = bench_number(optarg, "-c");
		else if (opt == 'f')
			shape = shape_named(optarg);
		else if (opt == 'n')
			heading = false;
		else if (opt == 'r')
			rounds = bench_number(optarg, "-r");
		else if (opt == 's')
			filter_count = bench_number(optarg, "-s");
		else if (opt == 'w')
			workers = bench_number(optarg, "-w");
		else
			return 2;
	}
	if ((clients = calloc(client_count, sizeof(*clients))) == NULL)
		bench_fail("no memory");
	bench_clients_start(client_count + 1);
	(void)snprintf(limits, sizeof(limits), "max_sessions = %u\nmax_subscriptions = %u\n",
	    client_count + 1, filter_count);
	bench_broker_start(optind < argc ? argv[optind] : NULL, workers, limits);

	if (heading)
		bench_head();
	start = bench_use();
	for (unsigned i = 0; i < rounds; i++)
		one_round(&start);
	bench_broker_stop();
	free(clients);
	return 0;
}
