/* SPDX-License-Identifier: Apache-2.0 */
/*
 * websocket - the step of handshake.h: from the first byte to the layer of websocket_stream.c
 *
 * With websocket = auto the first byte decides: requests of HTTP begin with a capital letter, MQTT does not.
 */
#include "net/websocket.h"

#include "config/cidr.h"
#include "core/worker.h"
#include "net/handshake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool
websocket_wanted(const struct listener_settings *ls)
{
	return ls->websocket != WEBSOCKET_NO;
}

static enum handshake_status
gone(struct handshake *h)
{
	return handshake_fail(h, "WebSocket: the peer is gone before its request was complete");
}

/* What a read below that gave nothing means. */
static enum handshake_status
nothing(struct handshake *h, ssize_t n)
{
	if (n == 0)
		return gone(h);
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return handshake_fail(
		    h, "WebSocket: %s before the request was complete", stream_error(h->stream));
	if (h->stream->want_write) {
		h->stream->want_write = false;
		return HANDSHAKE_WRITE;
	}
	return HANDSHAKE_READ;
}

static enum handshake_status
answer(struct handshake *h, struct upgrade *u)
{
	while (u->answer_off < u->answer_len) {
		struct iovec iov = { u->answer + u->answer_off, u->answer_len - u->answer_off };
		ssize_t n = stream_writev(h->stream, &iov, 1);

		if (n < 0) {
			if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
				return HANDSHAKE_WRITE;
			return gone(h);
		}
		u->answer_off += (size_t)n;
	}
	return HANDSHAKE_DONE;
}

static void
websocket_cancel(struct handshake *h)
{
	free(h->state);
	h->state = NULL;
}

static enum handshake_status
websocket_run(struct handshake *h)
{
	struct upgrade *u = h->state;
	enum handshake_status status;
	ssize_t n;

	/* What TLS could not send yet, a ticket perhaps, goes first: nobody else sees to it here. */
	if (stream_flush(h->stream) < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return gone(h);
		h->stream->want_write = false;
		return HANDSHAKE_WRITE;
	}
	if (u == NULL) { /* nothing is held for one who says nothing */
		uint8_t first;

		if ((n = stream_peek(h->stream, &first, 1)) <= 0)
			return nothing(h, n);
		if (h->ls->websocket == WEBSOCKET_AUTO && (first < 'A' || first > 'Z'))
			return HANDSHAKE_DONE;
		if ((u = malloc(sizeof(*u))) == NULL)
			return handshake_fail(h, "out of memory");
		upgrade_init(u, h->ls,
		    cidr_contains(h->ls->trusted, h->ls->trusted_proxies.count,
			(const struct sockaddr *)&h->facts.address));
		h->state = u;
	}
	while (u->status == UPGRADE_MORE) {
		n = stream_read(h->stream, u->head + u->len, sizeof(u->head) - u->len);
		if (n <= 0)
			return nothing(h, n);
		if (upgrade_parse(u, (size_t)n) == UPGRADE_REFUSED)
			metric_add(&h->worker->metrics, METRIC_WEBSOCKET_UPGRADES_REFUSED, 1);
	}
	if ((status = answer(h, u)) != HANDSHAKE_DONE)
		return status;
	if (u->status == UPGRADE_REFUSED)
		return handshake_fail(h, "WebSocket: %s", u->why);
	if (!websocket_stream_begin(h->stream, u->head + u->used, u->len - u->used))
		return handshake_fail(h, "out of memory");
	if (u->forwarded_len > 0) {
		h->facts.address = u->forwarded;
		h->facts.address_len = u->forwarded_len;
	}
	websocket_cancel(h);
	return HANDSHAKE_DONE;
}

const struct handshake_step handshake_websocket = {
	.wanted = websocket_wanted,
	.run = websocket_run,
	.cancel = websocket_cancel,
};
