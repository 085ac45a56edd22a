/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input - what is read from Network Connections
 *
 * Each worker has an epoll set of its connections, level-triggered. All connections of a worker are read into one
 * buffer, where packets are handled in place; a connection keeps a buffer of its own only while a packet is incomplete or
 * something makes it wait.
 *
 * Bounded: a connection gives at most one read and PACKETS_PER_TURN packets in a turn; after PACKETS_PER_FLUSH of all
 *          connections, or BYTES_PER_FLUSH of output, what they caused is written, so that nobody waits long for the others;
 *          after MAIL_BYTES that mails caused, so that a full mailbox does not become more output than readers take.
 */
#include "core/publish.h"
#include "core/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EVENTS_PER_POLL   256
#define PACKETS_PER_TURN  2048           /* of one connection, before others have theirs */
#define PACKETS_PER_FLUSH 16384          /* of all connections: others wait for what these caused */
#define BYTES_PER_FLUSH   (256u * 1024u) /* of output, while it is still in the processor's caches */
#define MAIL_BYTES        (8u * 1024u * 1024u) /* of output that mails make */
/* From this size on, bytes are read behind the partial packet itself: dribbled bytes must not cost copies. */
#define PARTIAL_DIRECT 4096u

/* ---- watching ------------------------------------------------------------------------------- */

static uint32_t
interest(const struct conn *c)
{
	uint32_t out = c->write_wait || c->stream.want_write ? EPOLLOUT : 0;

	if (c->state == CONN_HANDSHAKE)
		return c->pause & PAUSE_DECISION ? EPOLLRDHUP : c->write_wait ? EPOLLOUT : EPOLLIN;

	if (c->state == CONN_CLOSING)
		return out | (c->lingering ? EPOLLIN : 0);
	if ((c->pause & PAUSE_DECISION && c->state == CONN_AUTHENTICATING) ||
	    c->pause & PAUSE_OUTPUT)
		return out |
		    EPOLLRDHUP; /* reads nothing, and may be gone: not left in CLOSE_WAIT */
	return c->pause & ~(unsigned)PAUSE_TURN ? out : out | EPOLLIN;
}

/* Those in CONN_HANDSHAKE have a set of their own: conn_handshake.c. */
static int
set_of(const struct conn *c)
{
	return c->state == CONN_HANDSHAKE ? c->w->handshake_fd : c->w->poll_fd;
}

void
conn_watch(struct conn *c)
{
	uint32_t want = c->dead ? 0 : interest(c);
	struct epoll_event ev = { .events = want, .data.ptr = c };
	int op = c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (want == c->watched || c->dead)
		return;
	if (want ==
	    0) { /* a set with nothing to wait for still reports a peer that is gone, again and again */
		conn_unwatch(c);
		return;
	}
	c->watched = (uint16_t)want;
	if (epoll_ctl(set_of(c), op, c->stream.fd, &ev) < 0) {
		c->watched = 0;
		conn_fail(c);
	}
}

void
conn_unwatch(struct conn *c)
{
	if (c->watched != 0)
		(void)epoll_ctl(set_of(c), EPOLL_CTL_DEL, c->stream.fd, NULL);
	c->watched = 0;
}

/* Have what waits in c->in handled from the loop, never from inside whoever asks. */
static void
handle_later(struct conn *c)
{
	struct core_worker *cw = c->w->core;

	if (c->again || c->dead)
		return;
	if (cw->again_count == cw->again_capacity) {
		uint32_t capacity = cw->again_capacity == 0 ? 32 : cw->again_capacity * 2;
		struct conn_name *p = realloc(cw->again, capacity * sizeof(*p));

		if (p == NULL) {
			conn_fail(c);
			return;
		}
		cw->again = p;
		cw->again_capacity = capacity;
	}
	cw->again[cw->again_count++] = (struct conn_name){ .slot = c->slot, .serial = c->serial };
	c->again = true;
	c->w->again = true;
}

void
conn_pause(struct conn *c, unsigned reason)
{
	c->pause |= (uint16_t)reason;
	if (!c->in_dispatch)
		conn_watch(c);
}

void
conn_resume(struct conn *c, unsigned reason)
{
	if (c->dead || !(c->pause & reason))
		return;
	c->pause &= (uint16_t)~reason;
	if (c->in_dispatch)
		return;
	conn_watch(c);
	if (c->pause == 0 && c->state != CONN_CLOSING && (c->in != NULL || c->pending))
		handle_later(c);
}

/* ---- handling ------------------------------------------------------------------------------- */

/* Keep what is not handled yet; the buffer grows with what came, not with what was announced. */
static bool
save_input(struct conn *c, const uint8_t *p, size_t len)
{
	struct in_buffer *in = c->in;

	if (in == NULL || in->capacity < len) {
		if ((in = malloc(sizeof(*in) + len)) == NULL) {
			conn_close(c, 0, "out of memory");
			return false;
		}
		free(c->in);
		c->in = in;
		in->capacity = (uint32_t)len;
	}
	memcpy(in->data, p, len);
	in->off = 0;
	in->len = (uint32_t)len;
	return true;
}

void
conn_in_free(struct conn *c)
{
	free(c->in);
	c->in = NULL;
}

/*
 * Handle packets from the front of buf. @return how many bytes are done with; *more: there may be whole packets behind them.
 * After a CONNECT it stops: what follows is handled on the home worker.
 */
static size_t
dispatch(struct conn *c, const uint8_t *buf, size_t len, bool *more)
{
	size_t off = 0;
	unsigned handled = 0;
	bool paused;

	c->in_dispatch = true;
	while (off < len && c->pause == 0 && !c->dead && c->state != CONN_CLOSING) {
		struct mqtt_frame f;
		const uint8_t *body;
		size_t whole;
		int r = mqtt_frame_read(buf + off, len - off, &f);

		if (r < 0) {
			packet_malformed(c, RC_MALFORMED_PACKET, "malformed fixed header");
			break;
		}
		if (r == 0)
			break;
		if (c->state == CONN_WAIT_CONNECT && f.type != MQTT_CONNECT) {
			packet_malformed(
			    c, RC_PROTOCOL_ERROR, "first packet is not CONNECT [MQTT-3.1.0-1]");
			break;
		}
		whole = (size_t)f.header_len + f.remaining;
		if (whole > (c->state == CONN_ESTABLISHED ? c->limits->max_packet_size
							  : c->limits->max_connect_size)) {
			packet_malformed(c, RC_PACKET_TOO_LARGE,
			    c->state == CONN_ESTABLISHED
				? "packet larger than max_packet_size"
				: "packet larger than max_connect_size before authentication");
			break;
		}
		if (len - off < whole)
			break;
		body = buf + off + f.header_len;
		handled++;
		if (c->state == CONN_WAIT_CONNECT) {
			off += whole;
			if (conn_on_connect(c, &f, body) == HANDLED_WAIT)
				break; /* what follows waits in c->in */
			continue;
		}
		c->last_packet_ms = c->w->now_ms;
		off += whole;
		/* What waits has set a pause; an answer that came at once has taken it back already. */
		if (conn_on_packet(c, &f, body) == HANDLED_CLOSED)
			break;
		if (handled == PACKETS_PER_TURN && off < len)
			c->pause |= PAUSE_TURN;
		if (c->out_bytes >= conn_output_max(c, c->limits))
			c->pause |= PAUSE_OUTPUT; /* answers pile up unread: no more questions */
		if (events_blocked(c->w))
			c->pause |= PAUSE_EVENTS;
	}
	metric_add(&c->w->metrics, METRIC_PACKETS_RECEIVED, handled);
	c->w->core->handled += handled;
	paused = c->pause != 0;
	conn_batch_end(c);
	c->in_dispatch = false;
	if (c->pump_due) {
		c->pump_due = false;
		if (c->session != NULL)
			deliver_pump(c->session);
	}
	*more = paused && c->pause == 0; /* the reason to stop went away meanwhile */
	return off;
}

/* @return it is still here: not closed, nor on its way to another worker. */
static bool
input(struct conn *c, uint8_t *buf, size_t len)
{
	bool more, connecting = c->state == CONN_WAIT_CONNECT;
	size_t done = dispatch(c, buf, len, &more);

	if (connecting && done > 0) { /* it held the password */
		explicit_bzero(buf, done);
		if (c->in != NULL && buf != c->in->data + c->in->off)
			explicit_bzero(c->in->data, c->in->off + c->in->len);
	}
	if (c->dead || c->state == CONN_CLOSING)
		return false;
	if (done == len) {
		conn_in_free(c);
	} else if (c->in != NULL &&
	    buf == c->in->data + c->in->off) { /* moved only before more is read */
		c->in->off += (uint32_t)done;
		c->in->len = (uint32_t)(len - done);
	} else if (!save_input(c, buf + done, len - done)) {
		return false;
	}
	if (c->state == CONN_WAIT_CONNECT && c->connecting != NULL) {
		connect_go(c); /* if that leaves it here, its answer resumes it */
		return false;
	}
	conn_watch(c);
	/* Whatever else may hold it by now: only handle_again takes PAUSE_TURN back. */
	if (c->in != NULL && (more || c->pause & PAUSE_TURN))
		handle_later(c);
	return true;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Room for more behind a partial packet; grows with what came. */
static bool
in_grow(struct conn *c)
{
	struct in_buffer *in = c->in;

	if (in->off > 0)
		memmove(in->data, in->data + in->off, in->len);
	in->off = 0;
	if (in->capacity - in->len < in->len / 2) {
		size_t capacity = (size_t)in->len * 2;

		if ((in = realloc(in, sizeof(*in) + capacity)) == NULL) {
			conn_close(c, 0, "out of memory");
			return false;
		}
		c->in = in;
		in->capacity = (uint32_t)capacity;
	}
	return true;
}

/* Memory is short: one that publishes, and has had its share of this interval, waits for the next. */
static void
pause_heavy(struct conn *c, int64_t messages_before)
{
	const struct overload_worker *o = &c->w->core->overload;

	if (c->dead || c->state != CONN_ESTABLISHED || o->received[c->slot] <= o->allowance)
		return;
	/* Nothing published, and nothing large under way: acknowledgements and the like, which free memory. */
	if (metric_get(&c->w->metrics, METRIC_MESSAGES_RECEIVED) == messages_before &&
	    (c->in == NULL || c->in->len < PARTIAL_DIRECT))
		return;
	metric_add(&c->w->metrics, METRIC_PUBLISHERS_PAUSED_MEMORY, 1);
	conn_pause(c, PAUSE_MEMORY);
}

/* Nothing was read, and perhaps nothing more ever will be. */
static void
read_nothing(struct conn *c, ssize_t n)
{
	if (n == 0) {
		conn_close(c, 0, "connection closed by the client");
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		if (errno ==
		    EPROTO) /* the layer has told the peer why, which it should get to read */
			c->last_words = true;
		conn_close(c, 0, stream_error(&c->stream));
	} else {
		if (c->stream.want_write)
			conn_watch(c);
		/* What was read may have been of use to the layer alone, and more of it be there. */
		if ((c->pending = stream_pending(&c->stream)))
			handle_later(c);
	}
}

/* @return as input. */
static bool
readable(struct conn *c)
{
	struct worker *w = c->w;
	int64_t messages_before;
	uint8_t *buf = w->read_buffer;
	size_t kept = c->in != NULL ? c->in->len : 0;
	ssize_t n;

	if (c->state ==
	    CONN_CLOSING) { /* lingering: wait for the peer to close, throw away what it still sends */
		n = stream_read(&c->stream, buf, w->read_size);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			conn_finish(c);
		return false;
	}
	if (c->pause != 0)
		return true;
	if (kept >= PARTIAL_DIRECT) {
		if (!in_grow(c))
			return false;
		buf = c->in->data;
		n = stream_read(&c->stream, buf + kept, c->in->capacity - kept);
	} else {
		if (kept > 0)
			memcpy(buf, c->in->data + c->in->off, kept);
		n = stream_read(&c->stream, buf + kept, w->read_size - kept);
	}
	if (n <= 0) {
		read_nothing(c, n);
		return !c->dead && c->state != CONN_CLOSING;
	}
	metric_add(&w->metrics, METRIC_BYTES_RECEIVED, n);
	w->core->overload.received[c->slot] += (uint32_t)n;
	messages_before = metric_get(&w->metrics, METRIC_MESSAGES_RECEIVED);
	if (c->session != NULL && c->session->limits->byte_rate != 0)
		conn_rate(c, 0, (size_t)n); /* what was read waits too, in c->in */
	/* What the stream has decoded already is not for the descriptor to tell: come back for it. */
	c->pending = stream_pending(&c->stream);
	if (!input(c, buf, kept + (size_t)n))
		return false;
	if (w->core->overload.allowance != OVERLOAD_ALL)
		pause_heavy(c, messages_before);
	if (c->pending && !c->dead && c->state != CONN_CLOSING && c->pause == 0)
		handle_later(c);
	return true;
}

void
conn_begin(struct conn *c)
{
	if (readable(c)) /* else whoever has its CONNECT takes care of that */
		conn_watch(c);
}

void
conn_hear_out(struct conn *c)
{
	if (c->watched & EPOLLIN && !c->in_dispatch)
		(void)readable(c);
}

static void
on_events(struct conn *c, uint32_t events)
{
	if (c->dead)
		return;
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP) && (c->write_wait || c->stream.want_write)) {
		if (c->stream.want_write) {
			c->stream.want_write = false;
			if (stream_flush(&c->stream) < 0 && errno != EAGAIN) {
				conn_lost(c);
				return;
			}
			c->pending = true; /* reading may have waited for it */
			if (c->pause == 0)
				handle_later(c);
		}
		c->write_wait = false;
		conn_flush(c);
		if (!c->dead)
			conn_watch(c);
	}
	if (c->dead)
		return;
	if (c->watched & EPOLLIN) {
		if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			(void)readable(c);
	} else if (c->watched & EPOLLRDHUP && events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) {
		conn_close(c, 0,
		    events & EPOLLERR ? "connection lost" : "connection closed by the client");
	}
}

/* What it kept first; then what its stream has, one turn later: answers go out first, the end may be next. */
static void
again(struct conn *c)
{
	if (c->in != NULL) {
		uint32_t kept = c->in->len;

		if (!input(c, c->in->data + c->in->off, kept) || !c->pending || c->pause != 0)
			return;
		if (c->in == NULL || c->in->len < kept) {
			handle_later(c);
			return;
		}
		/* Nothing but the beginning of a packet: the stream has the rest. */
	}
	if (c->pending)
		(void)readable(c);
}

/* Before the turn ends, if much has been handled, or so many bytes wait: what is handed over first, as at its end. */
static void
flush_early(struct worker *w, size_t bytes)
{
	if (w->core->handled < PACKETS_PER_FLUSH && w->core->unwritten < bytes)
		return;
	router_flush(w);
	(void)worker_send(w);
	conn_flush_output(w);
}

void
conn_mail_handled(struct worker *w)
{
	flush_early(w, MAIL_BYTES);
}

/* Those that were left with something to handle. */
static unsigned
handle_again(struct worker *w)
{
	struct core_worker *cw = w->core;
	struct conn_name *list = cw->again;
	uint32_t count = cw->again_count, capacity = cw->again_capacity;

	cw->again = NULL;
	cw->again_count = cw->again_capacity = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct conn *c = conn_by_serial(w, list[i].slot, list[i].serial);

		if (c == NULL)
			continue;
		c->again = false;
		c->pause &= (uint16_t)~PAUSE_TURN;
		if (c->pause != 0 || c->state == CONN_CLOSING)
			continue;
		again(c);
		flush_early(w, BYTES_PER_FLUSH);
	}
	if (cw->again == NULL) { /* nobody was added meanwhile: keep the array */
		cw->again = list;
		cw->again_capacity = capacity;
	} else {
		free(list);
	}
	return count;
}

unsigned
conn_poll(struct worker *w)
{
	struct epoll_event events[EVENTS_PER_POLL];
	unsigned busy = 0;
	bool handshakes = false;
	int n;

	if (w->core->again_count > 0)
		busy = handle_again(w);
	n = epoll_wait(w->poll_fd, events, EVENTS_PER_POLL, 0);
	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr == NULL) {
			handshakes = true; /* when all others have been served */
			continue;
		}
		on_events(events[i].data.ptr, events[i].events);
		flush_early(w, BYTES_PER_FLUSH);
	}
	if (handshakes)
		busy += conn_handshakes(w);
	return busy + (n > 0 ? (unsigned)n : 0);
}
