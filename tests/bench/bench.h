/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench - a broker of its own, what it weighs, and MQTT 3.1.1 clients to load it with
 *
 * For programs that print tables: whatever fails ends the program, with the broker's log.
 *
 * Threads: one. Everything waits in bench_run and nowhere else, and never without end.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include "mqtt/packet.h"

#define BENCH_VERSION 4 /* MQTT 3.1.1: what most devices speak */

void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
unsigned bench_number(const char *text, const char *what); /* of the command line */
uint32_t bench_random(uint32_t below);                     /* the same ones in each run */

/* ---- the broker ------------------------------------------------------------------------------ */
/*
 * Start grapneld (program; NULL: $GRAPNELD) with anonymous clients on a port of the system, workers
 * threads and these lines in limits { }. It ends with this program.
 */
void bench_broker_start(const char *program, unsigned workers, const char *limits);
void bench_broker_stop(void); /* exit code 0, or the program fails */

extern uint16_t bench_port; /* on 127.0.0.1 */
struct bench_use {
	double rss, anon;    /* bytes; anon: without the program file and its libraries */
	double cpu;          /* seconds, of all threads */
	double began, ended; /* when it was asked for, and answered */
};
struct bench_use bench_use(void); /* waits until the broker has nothing to do */

/* ---- clients --------------------------------------------------------------------------------- */
struct bench_client {
	int fd; /* -1: closed */
	uint32_t number;
	uint8_t *in, *out; /* a packet that has not come whole; what the socket did not take */
	size_t in_len, out_len, out_room;
	bool want_write;
};
/* A packet came, or (f NULL) the broker closed the connection. The body is behind w. */
typedef void (*bench_packet_fn)(struct bench_client *c, const struct mqtt_frame *f, struct wire *w);

void bench_clients_start(unsigned most); /* descriptors for that many, here and in the broker */
void bench_connect(struct bench_client *c, uint32_t number, bool clean_session); /* sends CONNECT */
void bench_disconnect(struct bench_client *c); /* sends DISCONNECT; the broker closes */
void bench_connack(const struct mqtt_frame *f, struct wire *w, bool session_present); /* is it? */
void bench_subscribe(struct bench_client *c, uint16_t packet_id, uint8_t qos,
    const struct grapnel_str *filters, unsigned count);
void bench_suback(const struct mqtt_frame *f, struct wire *w, unsigned count); /* all granted? */
void bench_publish(struct bench_client *c, uint16_t packet_id, struct grapnel_str topic_name,
    struct grapnel_str payload, bool retain); /* QoS 1 */
void bench_puback(struct bench_client *c, uint16_t packet_id);
void bench_ping(struct bench_client *c);
void bench_got_publish(const struct mqtt_frame *f, struct wire *w, struct mqtt_publish *p);
/* Handle packets until *done reaches the goal. */
void bench_run(const char *what, bench_packet_fn fn, const uint64_t *done, uint64_t goal);

/* ---- the table ------------------------------------------------------------------------------- */
void bench_head(void);
/* What each of count things cost between from and to. */
void bench_row(
    const char *what, unsigned count, const struct bench_use *from, const struct bench_use *to);
/* How much of what came in between first and most is there still. */
void bench_row_back(const char *what, const struct bench_use *first, const struct bench_use *most,
    const struct bench_use *last);

#endif
