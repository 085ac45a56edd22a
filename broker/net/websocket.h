/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket - MQTT in WebSocket, RFC 6455
 *
 * websocket.c		the step of handshake.h: is it WebSocket at all, its request, our answer
 * websocket_upgrade.c	the request: parsed by http-parser, checked against the listener's section
 * websocket_stream.c	the layer: what MQTT writes becomes frames, and the other way round
 * websocket_control.c	Ping, Pong, Close; contexts of wslay
 *
 * Frames are made and taken apart by wslay. MQTT is a stream of bytes in them: a packet may span frames, and a frame may hold
 * several packets [MQTT-6.0.0-2].
 *
 * Threads:   the owner of the connection, which may change between calls.
 * Ownership: the stream's `layer`. A context of wslay (4 KiB) is with a connection only while a frame is half read; otherwise
 *            in a small pool of the thread.
 * Bounded:   the request by UPGRADE_HEAD_MAX and UPGRADE_FIELDS_MAX, a frame by WEBSOCKET_FRAME_MAX, what the layer has to say of
 *            its own by one Pong or Close.
 */
#ifndef BROKER_NET_WEBSOCKET_H
#define BROKER_NET_WEBSOCKET_H

#include "config/settings.h"
#include "net/stream.h"
#include <http_parser.h>
#include <sys/socket.h>

/* ---- the request: websocket_upgrade.c -------------------------------------------------------- */

#define UPGRADE_HEAD_MAX   8192u
#define UPGRADE_FIELDS_MAX 64u

enum upgrade_status {
	UPGRADE_MORE,
	UPGRADE_ACCEPTED, /* answer is 101; forwarded is who it is for, forwarded_len 0: nobody said */
	UPGRADE_REFUSED,  /* answer is an error, why says it for the log */
};
struct upgrade {
	const struct listener_settings *ls;
	http_parser parser;
	enum upgrade_status status;
	bool trusted; /* the peer's X-Forwarded-For counts */
	bool name_done, complete, connection, upgrade;
	unsigned fields, once; /* how many; bits of those that may come once */
	struct grapnel_str url, name, value, version, key; /* into head */
	const char *protocol;  /* ours; NULL: none offered that we know */
	bool protocol_asked;
	struct sockaddr_storage forwarded;
	socklen_t forwarded_len;
	size_t used;   /* bytes of the request; what is behind them are frames */
	size_t len;
	char head[UPGRADE_HEAD_MAX];
	char answer[512];
	size_t answer_len, answer_off; /* _off: of whoever writes it */
	char why[160];
};
/* ls must outlive it; trusted: believe X-Forwarded-For. */
void upgrade_init(struct upgrade *u, const struct listener_settings *ls, bool trusted);
/* n more bytes have been put behind head + len. Not after another status than UPGRADE_MORE. */
enum upgrade_status upgrade_parse(struct upgrade *u, size_t n);

/* ---- the layer: websocket_stream.c ----------------------------------------------------------- */

#define WEBSOCKET_FRAME_MAX	268435460u /* of a Client: the largest MQTT packet */
#define WEBSOCKET_FRAME_OUT_MAX 262144u	   /* ours: there are clients that refuse a MiB */
#define WEBSOCKET_HEAD_OUT_MAX	10u

enum websocket_code { /* RFC 6455 section 7.4.1 */
	CODE_NORMAL = 1000,
	CODE_GOING_AWAY = 1001,
	CODE_PROTOCOL_ERROR = 1002,
	CODE_UNSUPPORTED_DATA = 1003,
	CODE_INVALID_DATA = 1007,
	CODE_TOO_BIG = 1009,
	CODE_INTERNAL_ERROR = 1011,
};
struct early { /* came behind the request */
	size_t len, off;
	uint8_t data[];
};
struct websocket_layer {
	struct stream below;
	struct lent *in;	 /* a frame is half read, or its header; NULL: at the border of two frames */
	struct control *control; /* NULL: nothing to say, none half read */
	struct early *early;	 /* NULL: read below */
	const char *why;	 /* what the peer did wrong; nothing of it is read any more */
	uint16_t code;		 /* of our Close, when `why` or the end is told to our reader: answers to what came before go first */
	uint32_t left;		 /* of the payload being read */
	uint32_t out_left;	 /* of the payload being written: a frame that was begun must be finished */
	uint8_t head[WEBSOCKET_HEAD_OUT_MAX], head_len, head_off; /* of that frame */
	uint8_t loose;		 /* bytes that wslay has and has not told of: of a header */
	uint8_t opcode;		 /* of the frame being read */
	bool in_frame : 1;	 /* a frame's header was read, and not yet all of its payload */
	bool in_message : 1;	 /* the last data frame was not FIN */
	bool closing : 1;	 /* Close was queued: nothing is sent behind it */
	bool ended : 1;		 /* Close has come */
	bool told : 1;		 /* `why`, to our reader */
	bool lost : 1;		 /* no use writing */
};

/* Put it on a stream whose handshake is done; rest is copied. false: no memory, the stream is as it was. */
bool websocket_stream_begin(struct stream *s, const void *rest, size_t rest_len);

/* ---- control frames, contexts: websocket_control.c ------------------------------------------- */

#define CONTROL_MAX 125u /* payload; RFC 6455 section 5.5 */
struct control {
	uint8_t in[CONTROL_MAX];
	uint8_t in_len;
	uint8_t out[2 + CONTROL_MAX]; /* a frame being written: stays as it is */
	uint8_t out_len, out_off;
	uint8_t next[2 + CONTROL_MAX]; /* the newest Pong, or Close */
	uint8_t next_len;
};
/* A context of wslay with what its callbacks work on. */
struct wslay_frame_context;
struct lent {
	struct wslay_frame_context *ctx;
	const uint8_t *in; /* to be read by wslay */
	size_t in_len;
	uint8_t *out; /* where to put what it sends, up to out_room; the rest is only counted */
	size_t out_len, out_room;
};
struct lent *lent_take(void); /* NULL: no memory */
void lent_give(struct lent *l); /* at the border of two frames; to this thread's pool */
void lent_free(struct lent *l); /* in any state; NULL is fine */
/* The header of one of our frames. @return its length; 0: no memory. */
size_t websocket_head(uint8_t out[static WEBSOCKET_HEAD_OUT_MAX], uint32_t payload_len);

/* A part of the payload of a control frame. false: no memory. */
bool control_part(struct websocket_layer *ws, const uint8_t *data, size_t len);
/* It is complete. *pongs: how many may be written at once, one by one; those beyond wait and only the newest is kept. */
void control_received(struct stream *s, unsigned *pongs);
/* Queue Close with that code, unless there was one; code 0: without. */
void control_close(struct websocket_layer *ws, unsigned code);
/* The peer broke the protocol: keep why, and the code of the Close for it. */
void websocket_fail(struct websocket_layer *ws, unsigned code, const char *why);
/* Begin the next one if none is under way. @return one is to be written. At the border of two of our frames only. */
bool control_begin(struct websocket_layer *ws);
void control_written(struct websocket_layer *ws, size_t n);
/*
 * Write what there is. -1: errno; EAGAIN sets want_write. Nothing while a frame of ours is half written, with which
 * writev goes on.
 */
int control_flush(struct stream *s);
void control_release(struct websocket_layer *ws); /* give back what is not needed now */

static inline bool
websocket_at_border(const struct websocket_layer *ws) /* of our frames */
{
	return ws->out_left == 0 && ws->head_off == ws->head_len;
}

#endif
