/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_queue - what a retained and a queued message weigh, and that all of them arrive
 *
 *	bench_queue [-m messages] [-p payload bytes] [-w workers] [-n] [grapneld]
 *
 * Retained: each in a Topic Name of its own; a client that subscribes to all must get each once.
 * Then they are cleared. Queued: QoS 1 for a session that is offline; its client must get all of
 * them, once and in order, when it comes back. -n: no heading.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PUBLISHING  400 /* not acknowledged yet */
#define NAME_ROOM   64
#define PAYLOAD_MIN 4 /* a number */

static unsigned message_count = 100000, payload_len = 16;
static struct bench_client publisher = { .fd = -1 }, receiver = { .fd = -1 };
static char *payload;
static unsigned next; /* message that is published next */
static bool *arrived;
static unsigned arrivals;
static bool retained; /* that is what is measured now; otherwise queued */
static bool clearing;
static uint64_t done;

static struct grapnel_str
topic_of(char *buf, unsigned i)
{
	int len = snprintf(buf, NAME_ROOM, "site/%u/dev/%u/temperature", i % 97, i);

	return (struct grapnel_str){ buf, (size_t)len };
}

/* ---- publishing ------------------------------------------------------------------------------ */

static void
publish_next(void)
{
	char buf[NAME_ROOM];

	if (next == message_count)
		return;
	wire_put_u32((uint8_t *)payload, next);
	bench_publish(&publisher, (uint16_t)(next % UINT16_MAX + 1), topic_of(buf, next),
	    (struct grapnel_str){ payload, clearing ? 0 : payload_len }, retained);
	next++;
}

static void
on_publisher(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	if (c != &publisher || f == NULL)
		bench_fail("a client was disconnected");
	if (f->type == MQTT_CONNACK)
		bench_connack(f, w, false);
	else if (f->type == MQTT_PUBACK)
		publish_next();
	else
		bench_fail("unexpected %s", mqtt_type_name(f->type));
	done++;
}

static void
publish_all(void)
{
	done = next = 0;
	while (next < PUBLISHING && next < message_count)
		publish_next();
	bench_run("publishing", on_publisher, &done, message_count);
}

/* ---- receiving ------------------------------------------------------------------------------- */

static void
got_message(const struct mqtt_frame *f, struct wire *w)
{
	struct grapnel_str topic_name;
	struct mqtt_publish p;
	char buf[NAME_ROOM];
	struct wire number;
	uint32_t i;

	bench_got_publish(f, w, &p);
	wire_init(&number, p.payload.data, p.payload.len);
	i = wire_get_u32(&number);
	if (p.payload.len != payload_len || i >= message_count)
		bench_fail("a payload is damaged");
	topic_name = topic_of(buf, i);
	if (p.topic_name.len != topic_name.len ||
	    memcmp(p.topic_name.data, topic_name.data, topic_name.len) != 0)
		bench_fail("%s came as %.*s", buf, (int)p.topic_name.len, p.topic_name.data);
	if (p.qos != 1 || p.retain != retained)
		bench_fail("%s came with QoS %u, RETAIN %d", buf, p.qos, p.retain);
	if (arrived[i])
		bench_fail("%s came twice", buf);
	if (!retained && i != arrivals)
		bench_fail("message %u came where %u was due", (unsigned)i, arrivals);
	arrived[i] = true;
	arrivals++;
	bench_puback(&receiver, p.packet_id);
}

static void
on_receiver(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	if (c != &receiver || f == NULL)
		bench_fail("a client was disconnected");
	if (f->type == MQTT_CONNACK)
		bench_connack(f, w, arrived != NULL && !retained);
	else if (f->type == MQTT_SUBACK)
		bench_suback(f, w, 1);
	else if (f->type == MQTT_PUBLISH && arrived != NULL)
		got_message(f, w);
	else if (f->type != MQTT_PINGRESP)
		bench_fail("unexpected %s", mqtt_type_name(f->type));
	done++;
}

static void
subscribe_to_all(void)
{
	bench_subscribe(&receiver, 1, 1, &GRAPNEL_STR("site/#"), 1);
}

static void
expect_all(void)
{
	arrivals = 0;
	if ((arrived = calloc(message_count, sizeof(*arrived))) == NULL)
		bench_fail("no memory");
}

/* Whatever came twice would stand before the answer to a ping. */
static void
nothing_more(void)
{
	done = 0;
	bench_ping(&receiver);
	bench_run("pinging", on_receiver, &done, 1);
	free(arrived);
	arrived = NULL;
}

static void
on_close(struct bench_client *c, const struct mqtt_frame *f, struct wire *w)
{
	(void)c;
	(void)w;
	if (f != NULL)
		bench_fail("a packet after DISCONNECT");
	done++;
}

static void
disconnect(struct bench_client *c)
{
	done = 0;
	bench_disconnect(c);
	bench_run("disconnecting", on_close, &done, 1);
}

static void
connect_receiver(bool clean_session)
{
	done = 0;
	bench_connect(&receiver, 1, clean_session);
	bench_run("connecting", on_receiver, &done, 1);
}

/* ---- what is measured ------------------------------------------------------------------------ */

static void
bench_retained(void)
{
	struct bench_use start = bench_use(), stored, read, cleared;

	retained = true;
	publish_all();
	stored = bench_use();
	bench_row("retained message", message_count, &start, &stored);

	connect_receiver(true);
	read = bench_use();
	expect_all();
	subscribe_to_all();
	done = 0;
	bench_run("receiving", on_receiver, &done, (uint64_t)message_count + 1);
	stored = bench_use();
	bench_row("  received by a new subscriber", message_count, &read, &stored);
	nothing_more();
	disconnect(&receiver);

	clearing = true;
	publish_all();
	clearing = retained = false;
	cleared = bench_use();
	bench_row_back("  all cleared", &start, &stored, &cleared);
}

static void
bench_queued(void)
{
	struct bench_use start, stored, sent;

	connect_receiver(false);
	subscribe_to_all();
	done = 0;
	bench_run("subscribing", on_receiver, &done, 1);
	disconnect(&receiver);

	start = bench_use();
	publish_all();
	stored = bench_use();
	bench_row("queued QoS 1 message", message_count, &start, &stored);

	expect_all();
	done = 0;
	bench_connect(&receiver, 1, false);
	bench_run("receiving", on_receiver, &done, (uint64_t)message_count + 1);
	sent = bench_use();
	bench_row("  received after reconnecting", message_count, &stored, &sent);
	nothing_more();
	bench_row_back("  all acknowledged", &start, &stored, &sent);
	disconnect(&receiver);
}

static void
bench_in(const char *broker, unsigned workers, const char *limits, void (*fn)(void))
{
	bench_broker_start(broker, workers, limits);
	done = 0;
	bench_connect(&publisher, 0, true);
	bench_run("connecting", on_publisher, &done, 1);
	fn();
	disconnect(&publisher);
	bench_broker_stop();
}

int
main(int argc, char **argv)
{
	unsigned workers = 2;
	bool heading = true;
	const char *broker;
	char limits[256];
	int opt;

	while ((opt = getopt(argc, argv, "m:np:w:")) != -1) {
		if (opt == 'm')
			message_count = bench_number(optarg, "-m");
		else if (opt == 'n')
			heading = false;
		else if (opt == 'p')
			payload_len = bench_number(optarg, "-p");
		else if (opt == 'w')
			workers = bench_number(optarg, "-w");
		else
			return 2;
	}
	if (payload_len < PAYLOAD_MIN)
		bench_fail("-p: at least %d", PAYLOAD_MIN);
	if ((payload = calloc(1, payload_len)) == NULL)
		bench_fail("no memory");
	(void)snprintf(limits, sizeof(limits),
	    "max_queued_messages = %u\nretained_max_messages = %u\n"
	    "max_queued_bytes = 1t\nmax_total_queued_bytes = 1t\nretained_max_bytes = 1t\n",
	    message_count, message_count);
	if (heading)
		bench_head();
	bench_clients_start(2);
	broker = optind < argc ? argv[optind] : NULL;
	/* A fresh broker for each: what one has freed the other would get for nothing. */
	bench_in(broker, workers, limits, bench_retained);
	bench_in(broker, workers, limits, bench_queued);
	free(payload);
	return 0;
}
