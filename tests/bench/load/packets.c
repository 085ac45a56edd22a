/* SPDX-License-Identifier: Apache-2.0 */
/* What comes in. */
#include "load.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

static void
on_publish(struct worker *w, struct conn *c, uint8_t head, const uint8_t *p, const uint8_t *end)
{
	struct subscriber *s = c->sub;
	unsigned qos = (head >> 1) & 3, packet_id = 0;

	if (!s || end - p < 2)
		goto bad;
	p += 2 + ((unsigned)p[0] << 8 | p[1]);
	if (qos) {
		if (end - p < 2)
			goto bad;
		packet_id = (unsigned)p[0] << 8 | p[1];
		p += 2;
		if (qos == 1) {
			out_ack(c, 0x40, packet_id);
		} else {
			out_ack(c, 0x50, packet_id);
			if (!s->q2)
				s->q2 = xcalloc(8192, 1);
			if (s->q2[packet_id >> 3] &
			    (1u << (packet_id & 7))) { /* redelivered, not a duplicate */
				ADD(w->q2redeliv, 1);
				return;
			}
			s->q2[packet_id >> 3] |= (uint8_t)(1u << (packet_id & 7));
		}
	}
	if (cfg.proto == 5) { /* skip the properties */
		uint32_t n = 0;
		for (unsigned shift = 0; p < end; shift += 7) {
			n |= (uint32_t)(*p & 0x7f) << shift;
			if (!(*p++ & 0x80) || shift > 21)
				break;
		}
		p += n;
	}
	if (p > end || (size_t)(end - p) != cfg.size)
		goto bad;

	uint64_t ts;
	uint32_t flow, seq;
	memcpy(&ts, p, 8);
	memcpy(&flow, p + 8, 4);
	memcpy(&seq, p + 12, 4);
	if (cfg.verify)
		for (uint32_t i = PAYLOAD_MIN; i < cfg.size; i++)
			if (p[i] != (uint8_t)i)
				goto bad;
	if (cfg.sc == SC_RETAINED) { /* order is the broker's choice */
		if (seq >= cfg.count)
			goto bad;
		if (retained_seen[seq >> 3] & (1u << (seq & 7)))
			ADD(w->dup, 1);
		else
			ADD(w->recv, 1);
		retained_seen[seq >> 3] |= (uint8_t)(1u << (seq & 7));
		return;
	}
	int32_t slot = flow_slot(s, flow);
	if (slot < 0) {
		ADD(w->misrouted, 1);
		return;
	}
	if (flow_seen(w, &s->flows[slot], seq))
		ADD(w->recv, 1);
	if (live) {
		uint64_t now = GET(w->last_rx);
		histogram_add(&w->lat, now > ts ? now - ts : 0);
	}
	return;
bad:
	ADD(w->corrupt, 1);
}

void
publisher_check_done(struct worker *w, struct conn *c)
{
	struct publisher *p = c->pub;

	if (p->done || p->left || p->inflight || c->out_len)
		return;
	if (want_barrier && p->barrier != BARRIER_ANSWERED) {
		if (p->barrier == BARRIER_NONE) {
			p->barrier = BARRIER_SENT;
			out_empty(c, 0xc0);
			conn_flush(w, c);
		}
		return;
	}
	p->done = true;
	ADD(w->pubs_done, 1);
}

static void
on_ack(struct worker *w, struct conn *c, uint8_t type, const uint8_t *p, const uint8_t *end)
{
	struct publisher *b = c->pub;

	if (!b || end - p < 2) {
		ADD(w->corrupt, 1);
		return;
	}
	unsigned packet_id = (unsigned)p[0] << 8 | p[1];
	bool refused = end - p >= 3 && p[2] >= 0x80;
	enum id_state expect = type == 0x70 ? ID_RELEASED : ID_FIRST;
	if (refused)
		ADD(w->nacks, 1);
	if (!packet_id || packet_id > b->window || b->id_state[packet_id] != expect) {
		ADD(w->corrupt, 1);
		return;
	}
	if (type != 0x70) {
		uint64_t now = GET(w->last_rx), sent = b->sent_at[packet_id];

		histogram_add(&w->ack, now > sent ? now - sent : 0);
	}
	if (type == 0x50 && !refused) {
		b->id_state[packet_id] = ID_RELEASED;
		out_ack(c, 0x62, packet_id);
		return;
	}
	b->id_state[packet_id] = ID_FREE;
	b->free_id[b->nfree++] = (uint16_t)packet_id;
	b->inflight--;
	ADD(w->acked, 1);
}

/* Receive Maximum counts for a publisher's window [MQTT-3.3.4-9]. */
static void
obey_receive_maximum(struct publisher *b, const uint8_t *q, const uint8_t *end)
{
	while (q < end) {
		uint8_t property = *q++;
		uint32_t v = end - q >= 2 ? (uint32_t)q[0] << 8 | q[1] : 0;

		switch (property) {
		case 0x21:
			if (v > 0 && v < b->window) {
				b->window = b->nfree = v;
				for (uint32_t i = 0; i < v; i++)
					b->free_id[i] = (uint16_t)(v - i);
			}
			q += 2;
			break;
		case 0x13:
		case 0x22:
			q += 2;
			break;
		case 0x11:
		case 0x27:
			q += 4;
			break;
		case 0x12: /* strings */
		case 0x15:
		case 0x16:
		case 0x1a:
		case 0x1c:
		case 0x1f:
			q += 2 + v;
			break;
		case 0x24:
		case 0x25:
		case 0x28:
		case 0x29:
		case 0x2a:
			q += 1;
			break;
		default:
			return;
		}
	}
}

/* A connection of a storm has lived; the next one takes its place. */
static void
storm_next(struct worker *w, struct conn *c)
{
	histogram_add(&w->lat, now_ns() - c->t_open);
	out_empty(c, 0xe0);
	if (conn_flush(w, c) < 0)
		return;
	conn_close(c);
	w->opening--;
	ADD(w->storms, 1);
	c->state = ST_IDLE;
	if (atomic_load(&phase) == PH_RUN &&
	    (cfg.count == 0 || GET(w->storms) < cfg.count / cfg.threads))
		conn_open(w, c);
}

static bool
on_connack(struct worker *w, struct conn *c, const uint8_t *p, const uint8_t *end)
{
	if (c->state != ST_CONNACK || end - p < 2 || p[1] != 0) {
		conn_dead(w, c, "CONNACK refused");
		return false;
	}
	if (p[0] & 1)
		ADD(w->session_present, 1);
	if (c->storm) {
		storm_next(w, c);
		return false;
	}
	/* The length of the properties is one byte: brokers say less than 128 of them here. */
	if (cfg.proto == 5 && cfg.qos > 0 && c->pub != NULL && end - p >= 3 && p[2] <= end - p - 3)
		obey_receive_maximum(c->pub, p + 3, p + 3 + p[2]);
	if (c->sub != NULL && c->sub->next_filter < c->sub->nfilters) {
		c->state = ST_SUBACK;
		out_subscribe(c);
	} else {
		conn_ready(w, c);
	}
	return true;
}

static bool
on_suback(struct worker *w, struct conn *c, const uint8_t *p, const uint8_t *end)
{
	ptrdiff_t skip = cfg.proto == 5 && end - p > 2 ? 3 + p[2] : 2;

	if (c->sub == NULL || end - p < skip) {
		ADD(w->corrupt, 1);
		return true;
	}
	for (p += skip; p < end; p++)
		if (*p >= 0x80) {
			conn_dead(w, c, "SUBSCRIBE refused");
			return false;
		}
	if (c->sub->next_filter < c->sub->nfilters)
		out_subscribe(c);
	else if (c->state == ST_SUBACK)
		conn_ready(w, c);
	return true;
}

static void
on_pubrel(struct conn *c, const uint8_t *p, const uint8_t *end)
{
	unsigned packet_id;

	if (end - p < 2 || c->sub == NULL)
		return;
	packet_id = (unsigned)p[0] << 8 | p[1];
	if (c->sub->q2 != NULL)
		c->sub->q2[packet_id >> 3] &= (uint8_t) ~(1u << (packet_id & 7));
	out_ack(c, 0x70, packet_id);
}

/* One whole packet; false if the connection is finished. */
static bool
on_packet(struct worker *w, struct conn *c, uint8_t head, const uint8_t *p, const uint8_t *end)
{
	switch (head & 0xf0) {
	case 0x20:
		return on_connack(w, c, p, end);
	case 0x30:
		on_publish(w, c, head, p, end);
		break;
	case 0x40:
	case 0x50:
	case 0x70:
		on_ack(w, c, head & 0xf0, p, end);
		break;
	case 0x60:
		on_pubrel(c, p, end);
		break;
	case 0x90:
		return on_suback(w, c, p, end);
	case 0xd0:
		ADD(w->pings, 1);
		if (c->pub != NULL && c->pub->barrier == BARRIER_SENT)
			c->pub->barrier = BARRIER_ANSWERED;
		break;
	case 0xe0:
		if (!cfg.quiet)
			fprintf(stderr, "mqttload: DISCONNECT from the broker, reason 0x%02x\n",
			    p < end ? p[0] : 0);
		conn_dead(w, c, "disconnected by the broker");
		return false;
	default:
		ADD(w->corrupt, 1);
	}
	return true;
}

/* Every whole packet from p on; @return the first byte of an incomplete one, NULL: finished. */
static const uint8_t *
take_packets(struct worker *w, struct conn *c, const uint8_t *p, const uint8_t *stop)
{
	while (stop - p >= 2) {
		const uint8_t *q = p + 1;
		unsigned shift = 0;
		uint32_t n = 0;
		bool whole = false;

		while (q < stop && shift < 28 && !whole) {
			n |= (uint32_t)(*q & 0x7f) << shift;
			shift += 7;
			whole = (*q++ & 0x80) == 0;
		}
		if (!whole || (size_t)(stop - q) < n)
			break;
		if (!on_packet(w, c, *p, q, q + n))
			return NULL;
		p = q + n;
	}
	return p;
}

static void
keep_part(struct conn *c, const uint8_t *p, uint32_t n)
{
	if (n > c->part_cap) {
		c->part_cap = n < 256 ? 256 : n * 2;
		c->part = xrealloc(c->part, c->part_cap);
	}
	if (n > 0)
		memcpy(c->part, p, n);
	c->part_len = n;
}

static void
on_readable(struct worker *w, struct conn *c)
{
	do {
		uint32_t have = c->part_len;
		const uint8_t *p;
		ssize_t r;

		if (have > 0)
			memcpy(w->rbuf, c->part, have);
		r = io_read(c, w->rbuf + have, RBUF_SIZE - have);
		if (r == IO_AGAIN)
			break;
		if (r <= 0) {
			conn_dead(w, c, r < 0 ? "read failed" : "closed by the broker");
			return;
		}
		ADD(w->reads, 1);
		SET(w->last_rx, now_ns());
		c->part_len = 0;
		if ((p = take_packets(w, c, w->rbuf, w->rbuf + have + r)) == NULL)
			return;
		have = (uint32_t)(w->rbuf + have + r - p);
		if (have > RBUF_SIZE / 2) {
			conn_dead(w, c, "packet too large");
			return;
		}
		keep_part(c, p, have);
	} while (c->ssl != NULL && SSL_pending(c->ssl) > 0); /* epoll cannot see those bytes */
	if (c->out_len > 0 && !c->out_armed)
		(void)conn_flush(w, c);
	if (c->pub != NULL && c->state == ST_READY)
		publisher_check_done(w, c);
}

/* The TCP connection stands, or does not. */
static void
on_connected(struct worker *w, struct conn *c)
{
	socklen_t n = sizeof(int);
	int err = 0;

	(void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n);
	if (err != 0) {
		errno = err;
		conn_dead(w, c, "connect");
		return;
	}
	if (!cfg.tls) {
		c->state = ST_CONNACK;
		out_connect(c);
		(void)conn_flush(w, c);
		return;
	}
	if ((c->ssl = SSL_new(tls_ctx)) == NULL || SSL_set_fd(c->ssl, c->fd) != 1)
		die("no TLS session");
	SSL_set_connect_state(c->ssl);
	c->state = ST_TLS;
}

static void
go_on_with_tls(struct worker *w, struct conn *c)
{
	int r = SSL_do_handshake(c->ssl), why = r == 1 ? 0 : SSL_get_error(c->ssl, r);

	ERR_clear_error();
	if (r == 1) {
		c->state = ST_CONNACK;
		out_connect(c);
		(void)conn_flush(w, c);
	} else if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		conn_arm(w, c, why == SSL_ERROR_WANT_WRITE);
	} else {
		conn_dead(w, c, "TLS handshake");
	}
}

void
conn_event(struct worker *w, struct conn *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (c->state == ST_CONNECTING) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			on_connected(w, c);
		if (c->state != ST_TLS)
			return;
	}
	if (c->state == ST_TLS) {
		go_on_with_tls(w, c);
		return;
	}
	if ((events & EPOLLOUT) && conn_flush(w, c) < 0)
		return;
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		on_readable(w, c);
	else if (c->pub != NULL && c->state == ST_READY && atomic_load(&phase) == PH_RUN)
		publisher_check_done(w, c);
}
