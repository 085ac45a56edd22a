/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket_control - Ping, Pong and Close, and the contexts of wslay
 *
 * A control frame leaves at the border of two of our frames. One that was offered to the stream below stays as it is until it is
 * out, since TLS insists on seeing the same bytes again; behind it waits the newest Pong, or Close, which is the last thing sent.
 */
#include "mqtt/wire.h"
#include "net/websocket.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

/* ---- contexts of wslay ------------------------------------------------------------------------- */

#define POOL_MAX 8u

static _Thread_local struct {
	struct lent *spare[POOL_MAX];
	unsigned count;
} pool;
static pthread_key_t pool_key; /* empties it when the thread ends */
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

static void
pool_empty(void *unused)
{
	(void)unused;
	while (pool.count > 0)
		lent_free(pool.spare[--pool.count]);
}

static void
pool_init(void)
{
	if (pthread_key_create(&pool_key, pool_empty) != 0)
		abort(); /* before anything is served: PTHREAD_KEYS_MAX is far away */
}

static ssize_t
on_recv(uint8_t *buf, size_t len, int flags, void *arg)
{
	struct lent *l = arg;
	size_t n = len < l->in_len ? len : l->in_len;

	(void)flags;
	if (n == 0)
		return -1;
	memcpy(buf, l->in, n);
	l->in += n;
	l->in_len -= n;
	return (ssize_t)n;
}

static ssize_t
on_send(const uint8_t *data, size_t len, int flags, void *arg)
{
	struct lent *l = arg;

	(void)flags;
	if (len <= l->out_room - l->out_len) {
		memcpy(l->out + l->out_len, data, len);
		l->out_len += len;
	}
	return (ssize_t)len;
}

struct lent *
lent_take(void)
{
	static const struct wslay_frame_callbacks callbacks = {
		.send_callback = on_send,
		.recv_callback = on_recv,
	};
	struct lent *l;

	if (pool.count > 0)
		return pool.spare[--pool.count];
	(void)pthread_once(&pool_once, pool_init);
	if ((l = calloc(1, sizeof(*l))) == NULL)
		return NULL;
	if (wslay_frame_context_init(&l->ctx, &callbacks, l) != 0) {
		free(l);
		return NULL;
	}
	return l;
}

void
lent_free(struct lent *l)
{
	if (l == NULL)
		return;
	wslay_frame_context_free(l->ctx);
	free(l);
}

void
lent_give(struct lent *l)
{
	/* Without the key nobody would empty the pool of a thread that ends. */
	if (pool.count == POOL_MAX || pthread_setspecific(pool_key, &pool) != 0) {
		lent_free(l);
		return;
	}
	pool.spare[pool.count++] = l;
}

/*
 * One whole frame through wslay, of which as much is kept as there is room for: a header, or all of a control frame.
 * @return how much; 0: no memory.
 */
static size_t
encode(uint8_t *out, size_t room, enum wslay_opcode opcode, const uint8_t *payload, size_t len)
{
	struct lent *l = lent_take();
	struct wslay_frame_iocb frame = { .fin = 1,
		.opcode = (uint8_t)opcode,
		.payload_length = len,
		.data = payload,
		.data_length = len };
	size_t got;

	if (l == NULL)
		return 0;
	l->out = out;
	l->out_room = room;
	l->out_len = 0;
	if (wslay_frame_send(l->ctx, &frame) != (ssize_t)len) {
		lent_free(l);
		return 0;
	}
	got = l->out_len;
	lent_give(l);
	return got;
}

size_t
websocket_head(uint8_t out[static WEBSOCKET_HEAD_OUT_MAX], uint32_t payload_len)
{
	/* wslay does not look at what it need not mask, and the payload of one byte more would not fit. */
	size_t room = payload_len < 126 ? 2 : payload_len < 65536 ? 4 : WEBSOCKET_HEAD_OUT_MAX;

	return encode(out, room, WSLAY_BINARY_FRAME, out, payload_len);
}

/* ---- what the layer has to say ------------------------------------------------------------------ */

static struct control *
control_of(struct websocket_layer *ws)
{
	if (ws->control == NULL)
		ws->control = calloc(1, sizeof(*ws->control));
	return ws->control;
}

void
control_release(struct websocket_layer *ws)
{
	struct control *k = ws->control;

	if (k != NULL && k->in_len == 0 && k->next_len == 0 && k->out_off == k->out_len) {
		free(k);
		ws->control = NULL;
	}
}

/* Without memory nothing is said, which the peer may take for a slow network. */
static void
queue(struct websocket_layer *ws, enum wslay_opcode opcode, const uint8_t *payload, size_t len)
{
	struct control *k = control_of(ws);

	if (k != NULL)
		k->next_len = (uint8_t)encode(k->next, sizeof(k->next), opcode, payload, len);
}

void
control_close(struct websocket_layer *ws, unsigned code)
{
	uint8_t payload[2] = { (uint8_t)(code >> 8), (uint8_t)code };

	if (ws->closing)
		return;
	queue(ws, WSLAY_CONNECTION_CLOSE, payload, code == 0 ? 0 : 2);
	ws->closing = true;
}

void
websocket_fail(struct websocket_layer *ws, unsigned code, const char *why)
{
	ws->why = why;
	ws->code = (uint16_t)code;
}

bool
control_begin(struct websocket_layer *ws)
{
	struct control *k = ws->control;

	if (k == NULL)
		return false;
	if (k->out_off == k->out_len && k->next_len > 0) {
		memcpy(k->out, k->next, k->next_len);
		k->out_len = k->next_len;
		k->out_off = k->next_len = 0;
	}
	return k->out_off < k->out_len;
}

void
control_written(struct websocket_layer *ws, size_t n)
{
	ws->control->out_off += (uint8_t)n;
}

int
control_flush(struct stream *s)
{
	struct websocket_layer *ws = s->layer;

	if (ws->lost)
		return 0;
	while (websocket_at_border(ws) && control_begin(ws)) {
		struct control *k = ws->control;
		struct iovec iov = { k->out + k->out_off, (size_t)(k->out_len - k->out_off) };
		ssize_t n = stream_writev(&ws->below, &iov, 1);

		if (n < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) {
				s->want_write = true;
				errno = EAGAIN;
			} else {
				ws->lost = true;
			}
			return -1;
		}
		control_written(ws, (size_t)n);
	}
	control_release(ws);
	return 0;
}

/* ---- what the peer says ------------------------------------------------------------------------- */

bool
control_part(struct websocket_layer *ws, const uint8_t *data, size_t len)
{
	struct control *k = control_of(ws);

	if (k == NULL)
		return false;
	memcpy(k->in + k->in_len, data, len); /* wslay has refused more than CONTROL_MAX */
	k->in_len += (uint8_t)len;
	return true;
}

/* Those of RFC 6455 and of the registry that it made; and those of libraries and applications. */
static bool
code_valid(unsigned code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
	    (code >= 3000 && code <= 4999);
}

static void
on_close(struct websocket_layer *ws, const uint8_t *payload, size_t len)
{
	unsigned code = len >= 2 ? (unsigned)payload[0] << 8 | payload[1] : 0;

	if (len == 1) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR, "WebSocket: half a code in a Close");
	} else if (len > 0 && !code_valid(code)) {
		websocket_fail(ws, CODE_PROTOCOL_ERROR,
		    "WebSocket: a Close with a code that must not be sent");
	} else if (len > 2 && !utf8_valid((const char *)payload + 2, len - 2)) {
		websocket_fail(
		    ws, CODE_INVALID_DATA, "WebSocket: a Close whose reason is not UTF-8");
	} else {
		ws->code = (uint16_t)code;
		ws->ended = true;
	}
}

void
control_received(struct stream *s, unsigned *pongs)
{
	struct websocket_layer *ws = s->layer;
	uint8_t payload[CONTROL_MAX];
	size_t len = 0;

	if (ws->control != NULL) {
		len = ws->control->in_len;
		memcpy(payload, ws->control->in, len);
		ws->control->in_len = 0;
	}
	switch (ws->opcode) {
	case WSLAY_PING:
		if (ws->closing)
			break;
		if (ws->control != NULL && ws->control->next_len > 0 && *pongs > 0) {
			(*pongs)--;
			(void)control_flush(s);
		}
		queue(ws, WSLAY_PONG, payload, len);
		break;
	case WSLAY_CONNECTION_CLOSE:
		on_close(ws, payload, len);
		break;
	default: /* a Pong that nobody asked for is fine */
		break;
	}
}
