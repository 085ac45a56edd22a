/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_stream - bytes of MQTT out of frames and into frames
 *
 * Reading: one read of the stream below, into the caller's buffer, out of which wslay is fed; what it has unmasked goes back
 * to the front of that same buffer. There is always room, since payload is shorter than the frames it came in.
 *
 * Writing: one binary frame for what a call offers. Its header, and a control frame that waits, go in front of the
 * caller's own pieces into one writev below.
 */
#include "net/websocket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#define PONGS_PER_READ 16u /* Pings answered one by one; of more only the newest */
#define IOV_OUT        66 /* a control frame, a header, and as much as a connection writes at once */

/* ---- reading ----------------------------------------------------------------------------------- */

/* The header of a frame has been read: may it be? */
static bool
frame_begins(struct websocket_layer *ws, const struct wslay_frame_iocb *f)
{
	if (f->rsv != 0) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR,
		    "WebSocket: a frame with a reserved bit, but no extension was agreed on");
	} else if (!f->mask) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR, "WebSocket: a frame without mask");
	} else if (f->payload_length > WEBSOCKET_FRAME_MAX) {
		websocket_fail(
		    ws, CODE_TOO_BIG, "WebSocket: a frame larger than the largest MQTT packet");
	} else if (wslay_is_ctrl_frame(f->opcode)) {
		if (f->opcode > WSLAY_PONG)
			websocket_fail(
			    ws, CODE_PROTOCOL_ERROR, "WebSocket: an unknown control frame");
	} else if (f->opcode == WSLAY_CONTINUATION_FRAME && !ws->in_message) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR, "WebSocket: a continuation of no message");
	} else if (f->opcode != WSLAY_CONTINUATION_FRAME && ws->in_message) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR,
		    "WebSocket: a new message before the last one was complete");
	} else if (f->opcode == WSLAY_TEXT_FRAME) {
		websocket_fail(ws, CODE_UNSUPPORTED_DATA,
		    "WebSocket: a text frame; MQTT needs binary ones [MQTT-6.0.0-1]");
	} else if (f->opcode > WSLAY_BINARY_FRAME) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR, "WebSocket: an unknown kind of frame");
	} else {
		ws->in_message = !f->fin;
	}
	if (ws->why != NULL)
		return false;
	ws->opcode = f->opcode;
	ws->left = (uint32_t)f->payload_length;
	ws->in_frame = true;
	return true;
}

static uint32_t
header_len(const struct wslay_frame_iocb *f)
{
	return 2u +
	    (f->payload_length < 126            ? 0u
		    : f->payload_length < 65536 ? 2u
						: 8u) +
	    (f->mask ? 4u : 0u);
}

/*
 * Take n bytes of frames apart. @return how many bytes of payload are in out, which may be where the frames are.
 */
static size_t
unframe(struct stream *s, const uint8_t *frames, size_t n, uint8_t *out)
{
	struct websocket_layer *ws = s->layer;
	unsigned pongs = PONGS_PER_READ;
	size_t got = 0, loose = ws->loose + n;
	struct lent *l = ws->in != NULL ? ws->in : lent_take();

	if ((ws->in = l) == NULL) {
		websocket_fail(ws, CODE_INTERNAL_ERROR, "out of memory");
		return 0;
	}
	l->in = frames;
	l->in_len = n;
	while (ws->why == NULL && !ws->ended) {
		struct wslay_frame_iocb f = { 0 };
		ssize_t r = wslay_frame_recv(l->ctx, &f);

		if (r == WSLAY_ERR_WANT_READ) /* it has had all */
			break;
		if (r < 0) {
			websocket_fail(ws, CODE_PROTOCOL_ERROR,
			    "WebSocket: a length not in its shortest form, or a control frame "
			    "of more than 125 bytes or in fragments");
			break;
		}
		if (!ws->in_frame) {
			loose -= header_len(&f);
			if (!frame_begins(ws, &f))
				break;
		}
		loose -= f.data_length;
		ws->left -= (uint32_t)f.data_length;
		ws->in_frame = ws->left > 0;
		if (!wslay_is_ctrl_frame(ws->opcode)) {
			memcpy(out + got, f.data, f.data_length);
			got += f.data_length;
			continue;
		}
		if (f.data_length > 0 && !control_part(ws, f.data, f.data_length)) {
			websocket_fail(ws, CODE_INTERNAL_ERROR, "out of memory");
			break;
		}
		if (!ws->in_frame)
			control_received(s, &pongs);
	}
	if (ws->why != NULL || ws->ended) {
		lent_free(l); /* whatever it was in the middle of */
		ws->in = NULL;
		return got;
	}
	ws->loose = (uint8_t)loose;
	if (loose == 0 && !ws->in_frame) {
		lent_give(l);
		ws->in = NULL;
	}
	return got;
}

/* Below may wait for the descriptor, too. */
static ssize_t
read_below(struct stream *s, void *buf, size_t len)
{
	struct websocket_layer *ws = s->layer;
	ssize_t n = stream_read(&ws->below, buf, len);

	if (ws->below.want_write) {
		ws->below.want_write = false;
		s->want_write = true;
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
		ws->lost = true;
	return n;
}

/* The peer has broken the protocol: throw away what it sends until it has read our Close and goes. */
static ssize_t
read_failed(struct stream *s, void *buf, size_t len)
{
	struct websocket_layer *ws = s->layer;
	ssize_t n;

	if (!ws->told) {
		ws->told = true;
		control_close(ws, ws->code);
		(void)control_flush(s);
		errno = EPROTO;
		return -1;
	}
	if ((n = read_below(s, buf, len)) <= 0)
		return n;
	errno = EAGAIN;
	return -1;
}

/* The peer has sent Close: it gets ours. */
static ssize_t
read_ended(struct stream *s)
{
	struct websocket_layer *ws = s->layer;

	control_close(ws, ws->code);
	(void)control_flush(s);
	return 0;
}

static size_t
read_early(struct stream *s, void *buf, size_t len)
{
	struct websocket_layer *ws = s->layer;
	struct early *e = ws->early;
	size_t part = e->len - e->off < len ? e->len - e->off : len, got;

	got = unframe(s, e->data + e->off, part, buf);
	e->off += part;
	if (e->off == e->len) {
		free(e);
		ws->early = NULL;
	}
	return got;
}

static ssize_t
websocket_read(struct stream *s, void *buf, size_t len)
{
	struct websocket_layer *ws = s->layer;
	size_t got;

	if (ws->why != NULL)
		return read_failed(s, buf, len);
	if (ws->ended)
		return read_ended(s);
	if (ws->early != NULL) {
		got = read_early(s, buf, len);
	} else {
		ssize_t n = read_below(s, buf, len);

		if (n <= 0)
			return n;
		got = unframe(s, buf, (size_t)n, buf);
	}
	(void)control_flush(s); /* an error will be told by the next read or write below */
	if (got > 0)
		return (ssize_t)got; /* and if there is an end behind it, pending says so */
	if (ws->why != NULL)
		return read_failed(s, buf, len);
	if (ws->ended)
		return read_ended(s);
	errno = EAGAIN;
	return -1;
}

static bool
websocket_pending(const struct stream *s)
{
	const struct websocket_layer *ws = s->layer;

	return ws->early != NULL || ws->ended || (ws->why != NULL && !ws->told) ||
	    stream_pending(&ws->below);
}

/* ---- writing ----------------------------------------------------------------------------------- */

struct place { /* in what the caller offers */
	const struct iovec *iov;
	int n;
	size_t off; /* of iov[0] */
};

static void
skip(struct place *at, size_t n)
{
	while (at->n > 0 && n >= at->iov->iov_len - at->off) {
		n -= at->iov->iov_len - at->off;
		at->iov++;
		at->n--;
		at->off = 0;
	}
	at->off += n;
}

/* Up to `limit` bytes from there. @return how many; *count: in how many pieces. */
static size_t
pieces(const struct place *at, size_t limit, struct iovec *out, int room, int *count)
{
	size_t total = 0, off = at->off;

	*count = 0;
	for (int i = 0; i < at->n && *count < room && total < limit; i++, off = 0) {
		size_t len = at->iov[i].iov_len - off;

		if (len == 0)
			continue;
		if (len > limit - total)
			len = limit - total;
		out[(*count)++] = (struct iovec){ (uint8_t *)at->iov[i].iov_base + off, len };
		total += len;
	}
	return total;
}

/* One writev below. @return bytes of payload that went out; -1: errno. *all: the frame is out. */
static ssize_t
write_frame(struct websocket_layer *ws, const struct place *at, bool *all)
{
	struct iovec iov[IOV_OUT], *p = iov;
	size_t control = 0, head, payload, len;
	bool begun = !websocket_at_border(ws);
	int count;
	ssize_t n;

	/* In front of a header that has not left yet there may be a control frame of which this is true as well. */
	if (begun ? ws->head_off == 0 && ws->control != NULL &&
		    ws->control->out_off < ws->control->out_len
		  : control_begin(ws)) {
		control = (size_t)(ws->control->out_len - ws->control->out_off);
		*p++ = (struct iovec){ ws->control->out + ws->control->out_off, control };
	}
	if (!begun) {
		struct iovec unused[IOV_OUT - 2];

		len = pieces(at, WEBSOCKET_FRAME_OUT_MAX, unused, IOV_OUT - 2, &count);
		if ((head = websocket_head(ws->head, (uint32_t)len)) == 0) {
			errno = ENOMEM;
			return -1;
		}
		ws->head_len = (uint8_t)head;
		ws->head_off = 0;
		ws->out_left = (uint32_t)len;
	}
	head = ws->head_len - ws->head_off;
	if (head > 0)
		*p++ = (struct iovec){ ws->head + ws->head_off, head };
	payload = pieces(at, ws->out_left, p, IOV_OUT - 2, &count);
	p += count;
	if ((n = stream_writev(&ws->below, iov, (int)(p - iov))) < 0)
		return -1;
	*all = (size_t)n == control + head + payload && payload == ws->out_left;
	if (control > 0) {
		size_t part = (size_t)n < control ? (size_t)n : control;

		control_written(ws, part);
		n -= (ssize_t)part;
	}
	len = (size_t)n < head ? (size_t)n : head;
	ws->head_off += (uint8_t)len;
	n -= (ssize_t)len;
	ws->out_left -= (uint32_t)n;
	return n;
}

static ssize_t
websocket_writev(struct stream *s, const struct iovec *iov, int n)
{
	struct websocket_layer *ws = s->layer;
	struct place at = { iov, n, 0 };
	size_t taken = 0;
	bool all = true;

	skip(&at, 0); /* empty pieces */
	while (at.n > 0 && all) {
		ssize_t w;

		/*
		 * Nothing may follow Close [RFC 6455 section 5.5.1]. What we still have to say is thrown away, so that
		 * what the peer sent before its Close is handled to the end.
		 */
		if (ws->closing && websocket_at_border(ws)) {
			for (; at.n > 0; skip(&at, at.iov->iov_len - at.off))
				taken += at.iov->iov_len - at.off;
			break;
		}
		if ((w = write_frame(ws, &at, &all)) < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
				ws->lost = true;
			if (taken == 0)
				return -1;
			break;
		}
		taken += (size_t)w;
		skip(&at, (size_t)w);
	}
	if (all)
		(void)control_flush(s); /* what waited for the end of a frame */
	if (taken > 0)
		return (ssize_t)taken;
	errno = EAGAIN; /* a part of a header went out */
	return -1;
}

static int
websocket_flush(struct stream *s)
{
	struct websocket_layer *ws = s->layer;

	if (stream_flush(&ws->below) < 0) {
		s->want_write = errno == EAGAIN;
		return -1;
	}
	return control_flush(s);
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void
websocket_shut(struct stream *s)
{
	struct websocket_layer *ws = s->layer;

	control_close(ws, CODE_NORMAL);
	(void)control_flush(s);
	stream_shut(&ws->below);
}

static void
websocket_close(struct stream *s)
{
	struct websocket_layer *ws = s->layer;

	if (ws != NULL) {
		control_close(ws, ws->ended || ws->why != NULL ? ws->code : CODE_GOING_AWAY);
		(void)control_flush(s); /* if it gets through, good */
		lent_free(ws->in);
		free(ws->control);
		free(ws->early);
		stream_close(&ws->below);
		free(ws);
	}
	s->layer = NULL;
	s->fd = -1;
}

static void
websocket_describe(const struct stream *s, char *out, size_t size)
{
	const struct websocket_layer *ws = s->layer;
	size_t used;

	out[0] = '\0';
	if (ws->below.ops->describe != NULL)
		ws->below.ops->describe(&ws->below, out, size);
	used = strlen(out);
	(void)snprintf(out + used, size - used, "%swebsocket", used > 0 ? ", " : "");
}

static const char *
websocket_error(const struct stream *s)
{
	const struct websocket_layer *ws = s->layer;

	return ws->why != NULL ? ws->why : stream_error(&ws->below);
}

static const struct stream_ops websocket_ops = {
	.name = "websocket",
	.read = websocket_read,
	.writev = websocket_writev,
	.pending = websocket_pending,
	.flush = websocket_flush,
	.shut = websocket_shut,
	.close = websocket_close,
	.describe = websocket_describe,
	.error = websocket_error,
};

bool
websocket_stream_begin(struct stream *s, const void *rest, size_t rest_len)
{
	struct websocket_layer *ws = calloc(1, sizeof(*ws));

	if (ws == NULL)
		return false;
	if (rest_len > 0) {
		if ((ws->early = malloc(sizeof(*ws->early) + rest_len)) == NULL) {
			free(ws);
			return false;
		}
		ws->early->len = rest_len;
		ws->early->off = 0;
		memcpy(ws->early->data, rest, rest_len);
	}
	ws->below = *s;
	ws->below.want_write = false;
	s->ops = &websocket_ops;
	s->layer = ws;
	return true;
}
