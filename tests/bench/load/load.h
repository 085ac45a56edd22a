/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mqttload - an MQTT 3.1.1 and 5.0 load generator that also checks what it sees
 *
 * Threads:   each worker owns one epoll set and a share of the connections; the main thread reads
 *            the counters, which have one writer each.
 * Writing:   a PUBLISH is a template built once; per message only the Packet Identifier, digits of
 *            the Topic Name and 16 bytes of payload are patched. At full speed up to --batch messages
 *            go into one write, and at most --credit deliveries are outstanding in the broker: without
 *            that bound a run measures how fast queues grow, and QoS 0 is dropped by policy. At a
 *            fixed --rate a message's time stamp is when it was due, not when it was written, so that
 *            a broker that stalls cannot hide it; how late the generator was itself is "lag".
 * Payload:   native byte order, at least 16 bytes
 *               0..7   CLOCK_MONOTONIC nanoseconds        8..11  flow
 *               12..15 sequence number in that flow       16..   filler, byte i = i & 0xff
 *            A flow is one stream from a publisher to a subscriber whose sequence has no holes: lost,
 *            duplicated, reordered and misrouted messages are told apart.
 *
 * Exit code 0 good; 1 wrong usage; 2 QoS 1 or 2 lost a message, or one was misrouted or corrupt;
 * 3 a connection failed or was closed, or the time was over.
 */
#ifndef TESTS_BENCH_LOAD_LOAD_H
#define TESTS_BENCH_LOAD_LOAD_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#define NSEC        1000000000ull
#define PAYLOAD_MIN 16u
#define MAX_THREADS 64u
#define RBUF_SIZE   (256u * 1024u) /* one read; shared by the connections of a worker */

/* ---- options: main.c ------------------------------------------------------------------------- */
enum scenario {
	SC_PAIRS,
	SC_FANIN,
	SC_FANOUT,
	SC_WILD,
	SC_CONN,
	SC_STORM,
	SC_RETAINED,
	SC_OFFLINE
};
#define SCENARIOS 8
extern const char *const scenario_names[SCENARIOS];

#define SAME_QOS UINT32_MAX /* of sub_qos: as qos */
struct config {
	const char *host, *user, *pass, *label, *cafile;
	enum scenario sc;
	uint32_t port, proto, qos, sub_qos, keepalive, pid, pubs, subs, topics, filters, conns,
	    size, threads, window, batch, ramp;
	uint64_t count, rate, credit;
	double duration, timeout, drain, hold; /* seconds */
	bool exact, json, tls, retain, verify, quiet, user_each, persist, leave, resume;
};
extern struct config cfg;
extern struct sockaddr_in server;
extern SSL_CTX *tls_ctx;

/* ---- small things: util.c, histogram.c, usage.c ---------------------------------------------- */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);

static inline uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NSEC + (uint64_t)ts.tv_nsec;
}

/* Counters with a single writer: a plain load and store, readable elsewhere. */
#define GET(c)    atomic_load_explicit(&(c), memory_order_relaxed)
#define ADD(c, n) atomic_store_explicit(&(c), GET(c) + (n), memory_order_relaxed)
#define SET(c, v) atomic_store_explicit(&(c), (v), memory_order_relaxed)

/* Log-linear, 128 steps per power of two: under 1 % error. */
#define HISTOGRAM_SUB  7
#define HISTOGRAM_SIZE ((64 - HISTOGRAM_SUB) << HISTOGRAM_SUB)
struct histogram {
	uint64_t n, max, bucket[HISTOGRAM_SIZE];
};
void histogram_add(struct histogram *h, uint64_t v);
void histogram_merge(struct histogram *to, const struct histogram *from);
double histogram_us(const struct histogram *h, double q); /* nanoseconds went in */

struct usage {
	double cpu, user, sys; /* seconds */
	long rss_kb, hwm_kb;
	uint64_t at;
};
struct usage usage_broker(void); /* all zero but `at` without --pid */
double usage_own_cpu(void);

/* ---- who takes part -------------------------------------------------------------------------- */
/*
 * What one subscriber has seen of one flow. Holes are kept as ranges, so that a late message (in a
 * hole) and a duplicate (not in one) are told apart exactly.
 */
struct range {
	uint32_t lo, hi; /* [lo, hi) */
};
struct flow {
	uint32_t next, got, nmiss, cap;
	struct range *miss;
};

enum id_state { ID_FREE, ID_FIRST, ID_RELEASED }; /* awaits PUBACK or PUBREC; PUBCOMP */
enum barrier { BARRIER_NONE, BARRIER_SENT, BARRIER_ANSWERED };

struct publisher {
	uint32_t id, tpl_len, off_topic, off_packet_id, off_payload;
	uint32_t inflight, window, nfree, k, turn;
	uint8_t *tpl, *id_state;
	uint16_t *free_id;
	uint64_t *sent_at;    /* by Packet Identifier, as a message's time stamp */
	uint64_t left;        /* still to send */
	enum barrier barrier; /* a PINGREQ after the last message */
	bool done;
};

struct subscriber {
	uint32_t id, nflows, next_filter, nfilters;
	struct flow *flows;
	uint8_t *q2; /* QoS 2 identifiers received and not yet released, one bit each */
	uint64_t t_subscribe;
};

enum conn_state { ST_IDLE, ST_CONNECTING, ST_TLS, ST_CONNACK, ST_SUBACK, ST_READY, ST_DEAD };

struct conn {
	int fd;
	enum conn_state state;
	bool out_armed, clean, storm;
	uint32_t id;
	uint64_t t_open;
	uint8_t *part; /* an incomplete packet, carried over to the next read */
	uint32_t part_len, part_cap;
	uint8_t *out;
	uint32_t out_head, out_len, out_cap;
	struct publisher *pub;
	struct subscriber *sub;
	SSL *ssl;
};

struct worker {
	pthread_t thread;
	int ep;
	unsigned idx;
	struct conn **conns, **pubs;
	uint32_t n, npubs, opened, opening, rr;
	uint64_t sched, t_ping; /* sched: messages due so far at a fixed rate */
	uint32_t attempts;      /* to connect, for source addresses */
	uint8_t *rbuf;
	struct histogram lat, lag, ack;
	_Atomic uint64_t ready, dead, sent, acked, recv, dup, late, misrouted, corrupt, nacks,
	    q2redeliv, storms, last_rx, last_ready, first_open, pubs_done, session_present, pings,
	    writes, reads;
};

enum phase { PH_OPEN, PH_RUN, PH_STOP };

/* Of the stage that runs. */
extern struct worker workers[MAX_THREADS];
extern _Atomic int phase;
extern uint64_t t_run;                   /* when publishing started */
extern uint64_t t_stop_sending;          /* --duration: when it ends; 0: by count */
extern _Atomic uint64_t credit_forgiven; /* deliveries given up on after a stall */
extern _Atomic uint64_t stalls;
extern unsigned stage_no;
/* Of the scenario. */
extern uint32_t *sent_in_flow; /* written by the flow's publisher only */
extern uint32_t nflows_total;
extern uint32_t fan; /* deliveries caused by one publish; 0: no live subscriber */
extern bool live;    /* latencies mean something in this stage */
extern bool want_barrier;
extern uint8_t *retained_seen; /* a bit per message */

/* ---- flows: flow.c --------------------------------------------------------------------------- */
void subscriber_filter(const struct subscriber *s, uint32_t i, char *buf, size_t cap);
/* Which of the subscriber's flows this is; -1: it should not be here. */
int32_t flow_slot(const struct subscriber *s, uint32_t flow);
bool flow_seen(struct worker *w, struct flow *f, uint32_t seq); /* is it new? */
uint64_t flows_lost(const struct subscriber *subs, uint32_t n); /* sent and never seen */

/* ---- packets out: wire.c --------------------------------------------------------------------- */
uint8_t *put_varint(uint8_t *p, uint32_t v);
uint8_t *put_str(uint8_t *p, const char *s);
uint8_t *out_grow(struct conn *c, uint32_t n);
void out_connect(struct conn *c);
void out_subscribe(struct conn *c);

static inline uint8_t *
put16(uint8_t *p, unsigned v)
{
	*p++ = (uint8_t)(v >> 8);
	*p++ = (uint8_t)v;
	return p;
}

/* Room for n more bytes at the end of the output. */
static inline uint8_t *
out_room(struct conn *c, uint32_t n)
{
	if (c->out_head + c->out_len + n > c->out_cap)
		return out_grow(c, n);
	return c->out + c->out_head + c->out_len;
}

static inline void
out_ack(struct conn *c, uint8_t type, unsigned packet_id)
{
	uint8_t *p = out_room(c, 4);

	p[0] = type;
	p[1] = 2;
	put16(p + 2, packet_id);
	c->out_len += 4;
}

static inline void
out_empty(struct conn *c, uint8_t type)
{
	uint8_t *p = out_room(c, 2);

	p[0] = type;
	p[1] = 0;
	c->out_len += 2;
}

/* ---- connections: conn.c, packets.c ---------------------------------------------------------- */
enum { IO_AGAIN = -1, IO_ERROR = -2 };
ssize_t io_read(struct conn *c, uint8_t *buf, size_t n);
ssize_t io_write(struct conn *c, const uint8_t *buf, size_t n);
void conn_arm(struct worker *w, struct conn *c, bool out);
void conn_open(struct worker *w, struct conn *c);
void conn_ready(struct worker *w, struct conn *c);
int conn_flush(struct worker *w, struct conn *c); /* -1: it is dead */
void conn_close(struct conn *c);
void conn_dead(struct worker *w, struct conn *c, const char *why);
void conn_event(struct worker *w, struct conn *c, uint32_t events);

/* ---- publishing: publish.c ------------------------------------------------------------------- */
void publisher_template(struct publisher *b);
void publisher_check_done(struct worker *w, struct conn *c);
uint64_t publish_due(struct worker *w); /* @return how long the caller may sleep, ns */
uint64_t sum_sent(void);
uint64_t sum_recv(void);

/* ---- stages: stage.c ------------------------------------------------------------------------- */
struct result {
	double secs, open_secs,
	    gen_cpu; /* publishing or receiving; connecting; own CPU, per cent */
	uint64_t sent, acked, recv, expected, dup, late, misrouted, corrupt, nacks, dead, storms,
	    session_present, q2redeliv, writes, reads;
	struct usage base, before, after; /* before connecting; before the run; after it */
	struct histogram lat, lag, ack; /* ack: until PUBACK or PUBREC */
	bool timed_out;
};
/*
 * Connect everything, run until `expect` deliveries came in (0: those of what was sent) and the
 * publishers are done, or nothing moves any more; then take the connections down.
 */
void stage_run(struct conn *conns, uint32_t n, uint64_t expect, struct result *r);

/* ---- what it prints: report.c ---------------------------------------------------------------- */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void json_add(const char *format, ...) __attribute__((format(printf, 1, 2)));
void json_num(const char *key, double v);
void json_print(void);
void report_broker(const char *unit, double units, const struct usage *a, const struct usage *b);
void report_histogram(const char *name, const struct histogram *h);
int report_verdict(const struct result *r, uint64_t lost, uint32_t qos); /* @return the exit code */

/* ---- scenario.c ------------------------------------------------------------------------------ */
int scenario_run(void); /* @return the exit code */

#endif
