/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn - a Network Connection: bytes in, packets handled, bytes out
 *
 * conn.c	life, rates, deadlines, closing
 * conn_handshake.c	what comes before MQTT
 * input.c	watching, reading, pausing
 * connecting.h	from CONNECT to CONNACK: authentication, AUTH, attaching to a Session
 * packets.c	everything a Client may send after that
 * output.c	what is written: chunks, encoding, one writev per turn
 *
 * Threads:   the worker that holds it (c->w); it changes worker once, right after CONNECT was decoded.
 * Ownership: the worker's table of connections; freed by conn_close, at the end of the turn.
 * Bounded:   input by the packet size limits and what really arrived, output by max_output_bytes.
 */
#ifndef BROKER_CORE_CONN_H
#define BROKER_CORE_CONN_H

#include "base/wheel.h"
#include "config/settings.h"
#include "core/broker.h"
#include "core/message.h"
#include "core/queue.h"
#include "mqtt/packet.h"
#include "net/handshake.h"
#include "net/stream.h"
#include "plugin/hooks.h"

struct session;
struct conn;

enum conn_state {
	CONN_HANDSHAKE,		/* PROXY header, TLS, WebSocket: net/handshake.h    */
	CONN_WAIT_CONNECT,	/* nothing but CONNECT is legal [MQTT-3.1.0-1]      */
	CONN_MOVING,		/* in the mailbox of its home worker: nobody reads  */
	CONN_AUTHENTICATING,	/* plugins have the CONNECT; reading is paused, but for AUTH exchanges */
	CONN_ESTABLISHED,	/* CONNACK 0x00 sent, Session attached              */
	CONN_CLOSING,		/* flush what is queued, read nothing, then free    */
};

enum conn_pause { /* reasons not to read; all must be gone */
	PAUSE_DECISION = 1u << 0,   /* a plugin has a packet of ours */
	PAUSE_CONGESTION = 1u << 1, /* a receiver of ours is slow */
	PAUSE_RATE = 1u << 2,	    /* message_rate, byte_rate */
	PAUSE_EVENTS = 1u << 3,	    /* a lossless event queue is full */
	PAUSE_OUTPUT = 1u << 4,	    /* our own output is not read */
	PAUSE_ACKS = 1u << 5,	    /* too many acknowledgements are held by plugins */
	PAUSE_MAIL = 1u << 6,	    /* another worker's mailbox is full */
	PAUSE_TURN = 1u << 7,	    /* it had its share of this turn: others come first */
	PAUSE_MEMORY = 1u << 8,	    /* the broker is short of memory and this Client one of those that send most */
};

/* A piece of output: bytes of its own, and behind them perhaps some of a message. */
struct out_chunk {
	struct out_chunk *next;
	struct message *ref; /* NULL: none */
	const char *ref_data;
	uint32_t ref_len;
	uint32_t start, end, capacity; /* of data */
	uint8_t data[];
};
enum { OUT_TINY, OUT_SMALL, OUT_LARGE, OUT_CLASSES }; /* sizes of chunks: output.c */
struct out_pool { /* per worker */
	struct out_chunk *free[OUT_CLASSES];
	unsigned count[OUT_CLASSES];
};
/*
 * The last QoS 0 PUBLISH encoded, so that a message to many receivers is encoded once per protocol version
 * and copied from then on. Valid while one message is routed.
 */
struct encoded {
	const struct message *candidate; /* the message being routed; only its encoding is kept */
	const struct message *msg;	 /* what bytes[] is an encoding of; NULL: nothing */
	uint32_t len, topic_skip;
	uint8_t version;
	bool retain;
	const uint8_t *bytes; /* where it was written first */
};
#define OUT_COPY_MAX 2048 /* payloads above are referenced, not copied */

/* core's own part of a worker */
struct core_worker {
	struct conn **conns; /* by slot */
	uint32_t conn_capacity, conn_count, free_hint;
	struct conn *dead;   /* closed in this turn */
	struct out_pool pool;
	struct encoded encoded;
	struct pub_batch *batch; /* publish.c */
	struct decision last_decision; /* rights.c: keeps the strings of the last answer alive */
	struct will_job *wills; /* will.c */
	uint64_t next_serial;
	struct overload_worker overload; /* overload.c */
	int64_t queued_spare; /* deliver.c: counted in the broker's total, but not in use */
	struct conn_name { /* of a connection, which may be gone by then */
		uint32_t slot;
		uint64_t serial;
	} *again; /* input.c: to be handled in the next turn */
	uint32_t again_count, again_capacity;
	uint32_t handled; /* packets since output was last written, */
	size_t unwritten; /* and bytes of output */
	bool stopping;
	struct timer sweep_timer; /* core.c: retained messages that have expired; worker 0 */
	struct timer stop_timer; /* core.c: shutdown */
	void *stop;
};

/* What only some connections need; made when first needed. */
struct conn_extra {
	struct handshake *handshake; /* CONN_HANDSHAKE */
	/* topic aliases [MQTT 5.0 section 3.3.2.3.4] */
	char **alias_in; /* by alias - 1 */
	uint32_t *alias_in_len;
	unsigned alias_in_count;
	struct alias_out *alias_out;
	/* rates */
	double message_tokens, byte_tokens;
	uint64_t tokens_at_ms;
	struct timer pause_timer;
	struct conn *conn; /* back, for the timer */
	/* acknowledgements that wait for message_acknowledge, in order */
	struct held_ack *ack_first, *ack_last;
	unsigned ack_count, ack_received; /* those whose identifiers are in the session's `received` too */
	/* what waits for the store: gates.c */
	struct gate *gate_first, *gate_last;
	unsigned gated, gate_items; /* acknowledgements of PUBLISH packets among it; all */
	bool gates_going;
	/* enhanced authentication */
	char *auth_method; /* NUL-terminated copy */
	size_t auth_method_len;
	char *auth_plugin; /* instance that leads the exchange */
	bool reauthenticating;
	struct grapnel_request *reauth_pending;
};

/* What a connection keeps of its input: an incomplete packet, or what has to wait. */
struct in_buffer {
	uint32_t off, len, capacity; /* len bytes at data + off are not yet handled */
	uint8_t data[];
};

struct step; /* an asynchronous packet being worked on: packets.c, connect.c */

/*
 * There are many of these and most are idle: what only some need is in conn_extra, and the order leaves no holes.
 */
struct conn {
	struct stream stream; /* must be first: none of its own memory */
	struct worker *w;
	struct session *session;   /* from CONN_ESTABLISHED on */
	struct conn *next;	   /* in the list of those with output; dead ones that are in it are freed by the next turn */
	struct out_chunk *out_first, *out_last;
	uint64_t out_bytes;
	struct in_buffer *in;	   /* bytes not yet handled; NULL: none */
	struct timer deadline;
	uint64_t last_packet_ms;
	const struct listener_settings *ls; /* with a reference to the settings it is part of */
	const struct limits *limits; /* in force for this connection */
	struct conn_extra *extra;
	struct connecting *connecting; /* from CONNECT to CONNACK: connect.c */
	struct step *step;	   /* what PAUSE_DECISION waits for */
	struct identity *who;	   /* its Client; before a Session is attached no more than peer and listener are known of it */
	uint64_t serial;	   /* unique in the process */
	uint32_t slot;		   /* in the worker's table */
	uint32_t client_max_packet; /* Maximum Packet Size of the Client; 0: none */
	uint16_t keep_alive;
	uint16_t receive_maximum;  /* of the Client */
	uint16_t alias_out_max;	   /* of the Client */
	uint16_t own_receive_maximum; /* ours, as CONNACK said it */
	uint16_t watched;	   /* events the epoll set waits for; 0: not in it */
	uint16_t pause;		   /* enum conn_pause */
	uint8_t state;		   /* enum conn_state */
	uint8_t version;
	bool in_dispatch : 1;
	bool dead : 1;
	bool dirty : 1;		/* in the list of those with output */
	bool again : 1;		/* in the list of those to be handled in the next turn */
	bool write_wait : 1;	/* output waits until the socket takes more */
	bool drain_waiting : 1; /* deliver_pump when there is room in the output */
	bool pump_due : 1;	/* acknowledgements have come: deliver_pump when the dispatch ends */
	bool problem_info : 1;
	bool no_memory : 1;	/* conn_fail */
	bool pending : 1;	/* input.c: its stream has more than was read */
	bool last_words : 1;	/* something was sent that the peer should get to read before we close */
	bool lingering : 1;
	bool corked : 1;	/* nothing is written: gates.c */
	bool counted : 1;	/* for the address in `who`: listener_address_leave */
};

static inline const char *
conn_peer(const struct conn *c) /* "192.0.2.1:4711" */
{
	return identity_peer(c->who).data;
}

/* ---- life: conn.c ---------------------------------------------------------------- */
void conn_set_state(struct conn *c, enum conn_state next, const char *why);
/*
 * The one door out. v5 Clients that are past CONNECT are sent DISCONNECT with reason_code first (0: nothing is sent);
 * `why` goes to the log and, as the Reason String, to the Client. The Session is detached with its Will
 * unless will_discard. The struct lives until the turn ends.
 */
void conn_close(struct conn *c, uint8_t reason_code, const char *why);
void conn_close_discarding_will(struct conn *c, uint8_t reason_code, const char *why);
void conn_pause(struct conn *c, unsigned reason);	   /* input.c, as those below */
void conn_resume(struct conn *c, unsigned reason); /* handles what waits in c->in, then reads */
void conn_watch(struct conn *c);   /* wait for what state and pauses let it wait for; a connection that is not watched yet starts */
void conn_unwatch(struct conn *c);
void conn_begin(struct conn *c); /* accepted: read, then watch */
void conn_handshake(struct conn *c); /* conn_handshake.c: run on; when it is done, MQTT begins */
bool conn_handshake_start(struct conn *c, struct tls_context *tls, const struct sockaddr *peer, socklen_t peer_len); /* false: no memory */
void conn_extra_free(struct conn *c);
/*
 * One that a plugin speaks for: it has a place in ls already. Of values: peer, user name and its source, attributes. false: no
 * memory; stream, place and settings are given back.
 */
bool conn_handled(struct worker *w, struct stream *s, const struct listener_settings *ls, const struct grapnel_client_info *values,
    bool counted);
/* All that is known of a Client that has only just connected. NULL: no memory. */
struct identity *conn_somebody(struct conn *c, const struct facts *f);
void conn_hear_out(struct conn *c); /* handle what has come, as far as nothing makes it wait; not from inside a dispatch */
void conn_in_free(struct conn *c);
void conn_rate(struct conn *c, unsigned messages, size_t bytes); /* take from the buckets; pauses when they are empty */
void conn_wait_for_mailbox(struct conn *c); /* another worker is behind: read on in a moment */
struct conn_extra *conn_extra(struct conn *c);	   /* NULL: no memory */
struct conn *conn_by_serial(struct worker *w, uint32_t slot, uint64_t serial); /* NULL: gone */
void conn_arm_deadline(struct conn *c);
void conn_move(struct conn *c, struct worker *target); /* with c->in; on arrival conn_on_connect_home */
void conn_bury(struct conn *c);			/* dead, and in no list of its worker any more */
void conn_reap(struct worker *w);			/* free what died in this turn */
struct grapnel_str conn_client_name(const struct conn *c); /* for the log: client id or "-" */

/* ---- handling: a packet is handled whole, or it waits -------------------------------- */
enum handled {
	HANDLED,	/* go on with the next */
	HANDLED_WAIT,	/* the packet has been taken, but what follows waits (PAUSE_… is set) */
	HANDLED_CLOSED,
};
enum handled conn_on_connect(struct conn *c, const struct mqtt_frame *f, const uint8_t *body); /* connect.c */
void connect_go(struct conn *c);		/* c->connecting knows the home worker: move there, or go on here */
void conn_on_connect_home(struct conn *c);	/* on the home worker */
enum handled conn_on_auth(struct conn *c, const uint8_t *body, size_t len);
void connecting_cancel(struct conn *c, const char *why);
void connect_fault(struct conn *c, uint8_t reason_code, const char *why); /* the Client's fault: CONNACK or DISCONNECT, then the end */
struct grapnel_client *connecting_client(struct conn *c); /* slots of a client that is not attached yet; NULL: attached */
enum handled conn_on_packet(struct conn *c, const struct mqtt_frame *f, const uint8_t *body);	/* packets.c */
void conn_batch_end(struct conn *c);	/* route what conn_on_packet collected */
void step_cancel(struct conn *c);
void held_acks_clear(struct conn *c);
int batch_init(struct worker *w);
void batch_fini(struct worker *w);

/*
 * Bytes that may wait to be written to it now: max_output_bytes, or less if its peer does not read and much waits for all.
 * Who reads has all of it: what waits for him will be gone when the turn ends.
 */
static inline uint64_t
conn_output_max(const struct conn *c, const struct limits *l)
{
	uint64_t now = c->write_wait ? c->w->core->overload.output_max : UINT64_MAX;

	return l->max_output_bytes < now ? l->max_output_bytes : now;
}

/* ---- output: output.c ------------------------------------------------------------------ */
/* Room for `len` bytes at the end of the output; fill all of it. NULL: no memory (the caller closes). Marks the connection dirty. */
uint8_t *conn_out(struct conn *c, size_t len);
void conn_send_ack(struct conn *c, uint8_t type, uint16_t packet_id, uint8_t reason_code, struct grapnel_str reason_string);
void conn_send_disconnect(struct conn *c, uint8_t reason_code, const char *why, struct grapnel_str server_reference);
/*
 * Send one PUBLISH. The caller has chosen the Packet Identifier and checked max_output_bytes.
 * @return GRAPNEL_OK; GRAPNEL_EQUOTA: larger than the Client's Maximum Packet Size: not sent [MQTT-3.1.2-25];
 *         GRAPNEL_ENOMEM: not sent.
 */
int conn_send_publish(struct conn *c, struct message *msg, subids ids, uint8_t qos, bool retain, bool dup, uint16_t packet_id);
void conn_mark_dirty(struct conn *c); /* it has output */
void conn_fail(struct conn *c); /* out of memory: close at the end of the turn, which is safe while subscribers are walked */
void conn_flush(struct conn *c); /* one writev */
void conn_lost(struct conn *c); /* it cannot be written any more */
void conn_flush_output(struct worker *w); /* of all connections that have some */
void conn_finish(struct conn *c); /* conn.c: CONN_CLOSING and all is written */
void out_clear(struct conn *c);
void alias_out_free(struct conn_extra *x);
void out_pool_clear(struct out_pool *p);

#endif
