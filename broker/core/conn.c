/* SPDX-License-Identifier: Apache-2.0 */
#include "core/conn.h"

#include "base/log.h"
#include "core/connecting.h"
#include "core/core.h"
#include "core/durable.h"
#include "core/publish.h"
#include "net/listener.h"
#include "net/tls_context.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define LINGER_MS      1000 /* time for the peer to read our last packet */
#define CLOSE_FLUSH_MS 5000 /* time for our last packets to leave */

static void on_deadline(struct timer *t, void *owner);

static const char *
state_name(enum conn_state s)
{
	switch (s) {
	case CONN_HANDSHAKE:
		return "handshake";
	case CONN_WAIT_CONNECT:
		return "wait-connect";
	case CONN_MOVING:
		return "moving";
	case CONN_AUTHENTICATING:
		return "authenticating";
	case CONN_ESTABLISHED:
		return "established";
	case CONN_CLOSING:
		return "closing";
	}
	return "?";
}

#define TO(state) (1u << (state))
static const unsigned conn_next[] = {
	[CONN_HANDSHAKE] = TO(CONN_WAIT_CONNECT) | TO(CONN_CLOSING),
	[CONN_WAIT_CONNECT] = TO(CONN_MOVING) | TO(CONN_AUTHENTICATING) | TO(CONN_CLOSING),
	[CONN_MOVING] = TO(CONN_AUTHENTICATING) | TO(CONN_CLOSING),
	[CONN_AUTHENTICATING] = TO(CONN_ESTABLISHED) | TO(CONN_CLOSING),
	[CONN_ESTABLISHED] = TO(CONN_CLOSING),
	[CONN_CLOSING] = 0,
};

/* The only writer of c->state. Runs on the worker that owns c. */
void
conn_set_state(struct conn *c, enum conn_state next, const char *why)
{
	assert(conn_next[c->state] & TO(next));
	log_trace("connection %llu from %s: %s -> %s (%s)", (unsigned long long)c->serial,
	    conn_peer(c), state_name(c->state), state_name(next), why);
	if (c->state == CONN_HANDSHAKE)
		conn_unwatch(c); /* the epoll set of this state */
	c->state = (uint8_t)next;
	conn_arm_deadline(c);
}

struct grapnel_str
conn_client_name(const struct conn *c)
{
	return c->session != NULL ? identity_client_id(c->session->identity) : GRAPNEL_STR("-");
}

/* ---- the worker's table ------------------------------------------------------------------ */

static int
conn_register(struct conn *c)
{
	struct core_worker *cw = c->w->core;

	if (cw->conn_count == cw->conn_capacity) {
		uint32_t capacity = cw->conn_capacity == 0 ? 64 : cw->conn_capacity * 2;
		struct conn **conns = realloc(cw->conns, capacity * sizeof(struct conn *));

		if (conns == NULL)
			return GRAPNEL_ENOMEM;
		memset(conns + cw->conn_capacity, 0,
		    (capacity - cw->conn_capacity) * sizeof(struct conn *));
		cw->conns = conns; /* no harm if conn_capacity stays */
		if (!overload_room(&cw->overload, cw->conn_capacity, capacity))
			return GRAPNEL_ENOMEM;
		cw->free_hint = cw->conn_capacity;
		cw->conn_capacity = capacity;
	}
	while (cw->conns[cw->free_hint] != NULL)
		cw->free_hint = (cw->free_hint + 1) % cw->conn_capacity;
	c->slot = cw->free_hint;
	cw->conns[c->slot] = c;
	cw->overload.received[c->slot] = 0;
	cw->conn_count++;
	return GRAPNEL_OK;
}

static void
conn_unregister(struct conn *c)
{
	struct core_worker *cw = c->w->core;

	cw->conns[c->slot] = NULL;
	cw->conn_count--;
	cw->free_hint = c->slot;
}

struct conn *
conn_by_serial(struct worker *w, uint32_t slot, uint64_t serial)
{
	struct conn *c;

	if (slot >= w->core->conn_capacity)
		return NULL;
	c = w->core->conns[slot];
	return c != NULL && c->serial == serial && !c->dead ? c : NULL;
}

struct conn_extra *
conn_extra(struct conn *c)
{
	if (c->extra == NULL)
		c->extra = calloc(1, sizeof(*c->extra));
	return c->extra;
}

void
conn_extra_free(struct conn *c)
{
	struct conn_extra *x = c->extra;

	if (x == NULL)
		return;
	handshake_free(x->handshake);
	held_acks_clear(c);
	gates_clear(c);
	timer_disarm(c->w->wheel, &x->pause_timer);
	if (x->alias_in != NULL)
		for (unsigned i = 0; i < x->alias_in_count; i++)
			free(x->alias_in[i]);
	free(x->alias_in);
	free(x->alias_in_len);
	alias_out_free(x);
	free(x->auth_method);
	free(x->auth_plugin);
	free(x);
	c->extra = NULL;
}

/* ---- beginning ------------------------------------------------------------------------------ */

struct identity *
conn_somebody(struct conn *c, const struct facts *f)
{
	const struct listener_settings *ls = c->ls;
	struct site *site =
	    session_site(c->w, (struct grapnel_str){ ls->mountpoint, strlen(ls->mountpoint) },
		(struct grapnel_str){ ls->name, strlen(ls->name) });
	char text[PEER_TEXT_MAX];
	struct grapnel_client_info values = { .peer.data = text };
	struct identity *id;

	if (site == NULL)
		return NULL;
	peer_text(text, c->stream.fd, (const struct sockaddr *)&f->address, f->address_len);
	values.peer.len = strlen(text);
	values.username = f->username;
	values.identity_source = f->source;
	values.attributes = f->attributes;
	values.attribute_count = f->count;
	if ((id = identity_new(&values, site)) != NULL)
		id->own_count = (uint8_t)f->count;
	return id;
}

/* Not in the table yet. NULL: no memory. */
static struct conn *
conn_make(struct worker *w, const struct stream *s, const struct listener_settings *ls)
{
	struct conn *c = w->core->stopping ? NULL : calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->stream = *s;
	c->w = w;
	c->ls = ls;
	c->limits = &ls->limits;
	c->problem_info = true;
	c->last_packet_ms = w->now_ms;
	c->serial = (uint64_t)w->index << 56 | ++w->core->next_serial;
	c->state = CONN_WAIT_CONNECT;
	timer_init(&c->deadline, on_deadline);
	return c;
}

/* What conn_make gave, or NULL, will not be a connection. */
static void
conn_give_up(struct worker *w, struct conn *c, struct stream *s, const struct listener_settings *ls,
    const char *peer)
{
	listener_refusal_log(w, "connection_refused", peer, ls->name,
	    w->core->stopping ? "shutting down" : "out of memory");
	if (c != NULL)
		identity_unref(c->who);
	free(c);
	stream_close(s);
	listener_connection_closed(w->broker, ls);
	settings_unref(ls->settings);
	metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
}

bool
conn_handled(struct worker *w, struct stream *s, const struct listener_settings *ls,
    const struct grapnel_client_info *values, bool counted)
{
	struct conn *c = conn_make(w, s, ls);
	struct site *site =
	    session_site(w, (struct grapnel_str){ ls->mountpoint, strlen(ls->mountpoint) },
		(struct grapnel_str){ ls->name, strlen(ls->name) });

	if (c == NULL || site == NULL || (c->who = identity_new(values, site)) == NULL ||
	    conn_register(c) != GRAPNEL_OK) {
		if (counted)
			listener_address_leave(w, values->peer.data);
		conn_give_up(w, c, s, ls, values->peer.data);
		return false;
	}
	c->counted = counted;
	c->who->own_count = (uint8_t)values->attribute_count;
	log_debug("connection from %s by the handler of listener \"%s\"", conn_peer(c), ls->name);
	conn_arm_deadline(c);
	conn_watch(c);
	return true;
}

void
conn_accepted(struct worker *w, int fd, const struct listener_settings *ls, struct tls_context *tls,
    const struct sockaddr *peer, socklen_t peer_len, bool counted, bool read_first)
{
	char text[PEER_TEXT_MAX];
	struct facts facts;
	struct conn *c;
	struct stream s;
	bool named;

	stream_init_plain(&s, fd);
	if ((c = conn_make(w, &s, ls)) == NULL)
		goto fail;
	c->counted = counted;
	facts_init(&facts, fd, ls, peer, peer_len);
	named = ls->identity != IDENTITY_PEER || facts.username.data != NULL;
	c->who = conn_somebody(c, &facts);
	facts_clear(&facts);
	if (c->who == NULL || conn_register(c) != GRAPNEL_OK)
		goto fail;
	if (!named) {
		tls_context_unref(tls);
		metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
		listener_refusal_log(w, "connection_refused", conn_peer(c), ls->name,
		    "identity = peer, but the system does not say who this peer is");
		conn_close(c, 0, "its peer is not known");
		return;
	}
	log_debug("connection from %s to listener \"%s\"", conn_peer(c), c->ls->name);
	if (handshake_needed(ls)) {
		c->state = CONN_HANDSHAKE;
		conn_arm_deadline(c);
		if (!conn_handshake_start(c, tls, peer, peer_len)) {
			metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
			listener_refusal_log(
			    w, "connection_refused", conn_peer(c), ls->name, "out of memory");
			conn_close(c, 0, "out of memory");
		} else if (ls->proxy_protocol && !handshake_proxy_trusted(ls, peer))
			conn_handshake(c); /* is told so, whether or not it ever sends anything */
		else
			conn_watch(c);
		return;
	}
	tls_context_unref(tls);
	conn_arm_deadline(c);
	if (read_first)
		conn_begin(c);
	else
		conn_watch(c);
	return;
fail:
	peer_text(text, fd, peer, peer_len);
	if (counted)
		listener_address_leave(w, text);
	tls_context_unref(tls);
	conn_give_up(w, c, &s, ls, text);
}

struct move_mail {
	struct mail mail;
	struct conn *c;
};

static void
on_arrival(struct worker *w, struct mail *m)
{
	struct conn *c = ((struct move_mail *)(void *)m)->c;

	free(m);
	c->w = w;
	if (conn_register(c) != GRAPNEL_OK) {
		/* Not in a table: cannot be closed through the door. */
		metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
		listener_refusal_log(
		    w, "connection_refused", conn_peer(c), c->ls->name, "out of memory");
		connecting_cancel(c, "out of memory");
		stream_close(&c->stream);
		listener_connection_closed(w->broker, c->ls);
		if (c->counted)
			listener_address_leave(w, conn_peer(c));
		settings_unref(c->ls->settings);
		conn_in_free(c);
		identity_unref(c->who);
		free(c);
		return;
	}
	if (w->core->stopping) {
		conn_close(c, 0, "shutting down");
		return;
	}
	conn_on_connect_home(c);
}

void
conn_move(struct conn *c, struct worker *target)
{
	struct move_mail *m = malloc(sizeof(*m));

	if (m == NULL) {
		connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	conn_set_state(c, CONN_MOVING, "to its home worker");
	timer_disarm(c->w->wheel, &c->deadline);
	conn_unwatch(c);
	c->again = false;
	conn_unregister(c);
	m->mail.fn = on_arrival;
	m->c = c;
	worker_post(target, &m->mail);
}

/* ---- deadlines --------------------------------------------------------------------------------- */

static uint64_t
keep_alive_ms(const struct conn *c)
{
	return (uint64_t)c->keep_alive * 1500; /* one and a half times [MQTT-3.1.2-22] */
}

void
conn_arm_deadline(struct conn *c)
{
	uint64_t due = 0;

	switch ((enum conn_state)c->state) {
	case CONN_HANDSHAKE:
	case CONN_WAIT_CONNECT: /* one deadline from accept to the whole CONNECT, however slowly it dribbles in */
		due = c->last_packet_ms + c->limits->connect_timeout_ms;
		break;
	case CONN_MOVING:
		return; /* the mailbox is prompt; armed again on arrival */
	case CONN_AUTHENTICATING: /* requests have deadlines of their own; this one is for a Client that owes an AUTH */
		due = c->w->now_ms + c->limits->connect_timeout_ms + c->limits->auth_timeout_ms;
		break;
	case CONN_ESTABLISHED:
		if (c->keep_alive == 0) {
			timer_disarm(c->w->wheel, &c->deadline);
			return;
		}
		due = c->last_packet_ms + keep_alive_ms(c);
		break;
	case CONN_CLOSING:
		due = c->w->now_ms + (c->lingering ? LINGER_MS : CLOSE_FLUSH_MS);
		break;
	}
	timer_arm(c->w->wheel, &c->deadline, due);
}

static void
connect_timeout(struct conn *c, const char *why)
{
	metric_add(&c->w->metrics, METRIC_CONNECT_TIMEOUTS, 1);
	listener_refusal_log(c->w, "connect_timeout", conn_peer(c), c->ls->name, why);
	conn_close(c, 0, why);
}

static void
on_deadline(struct timer *t, void *owner)
{
	struct conn *c = (struct conn *)(void *)((char *)t - offsetof(struct conn, deadline));

	(void)owner;
	switch ((enum conn_state)c->state) {
	case CONN_HANDSHAKE:
		connect_timeout(c, "handshake not finished in connect_timeout");
		return;
	case CONN_WAIT_CONNECT:
		connect_timeout(c, "no complete CONNECT in connect_timeout");
		return;
	case CONN_AUTHENTICATING:
		if (c->pause &
		    PAUSE_DECISION) { /* not the Client's fault, and bounded by the request's own deadline */
			conn_arm_deadline(c);
			return;
		}
		metric_add(&c->w->metrics, METRIC_CONNECT_TIMEOUTS, 1);
		connect_fault(c, RC_NOT_AUTHORIZED, "authentication not finished in time");
		return;
	case CONN_ESTABLISHED:
		/*
		 * Only whole packets count, so dribbled bytes do not keep a connection; what we ourselves
		 * do not read is not held against the Client, unless it does not read either.
		 */
		if ((c->pause & ~(unsigned)PAUSE_OUTPUT) != 0)
			c->last_packet_ms = c->w->now_ms;
		if (c->w->now_ms < c->last_packet_ms + keep_alive_ms(c)) {
			conn_arm_deadline(c);
			return;
		}
		metric_add(&c->w->metrics, METRIC_KEEP_ALIVE_TIMEOUTS, 1);
		conn_close(c, RC_KEEP_ALIVE_TIMEOUT, "Keep Alive timeout");
		return;
	case CONN_CLOSING:
		conn_finish(c);
		return;
	case CONN_MOVING:
		return;
	}
}

/* ---- rates: message_rate and byte_rate are kept by not reading --------------------------------------- */

static void on_pause_over(struct timer *t, void *owner);

static void
pause_for(struct conn *c, unsigned reason, uint64_t delay_ms)
{
	struct conn_extra *x = conn_extra(c);

	if (x ==
	    NULL) { /* perhaps while its messages are being routed: they need its Session yet */
		conn_fail(c);
		return;
	}
	conn_pause(c, reason);
	if (x->pause_timer.fn == NULL)
		timer_init(&x->pause_timer, on_pause_over);
	x->conn = c;
	worker_timer(c->w, &x->pause_timer, delay_ms);
}

/* Refill the buckets, take from them. @return milliseconds to wait, 0: go on. */
static uint64_t
rate_take(struct conn *c, double messages, double bytes)
{
	const struct limits *l = c->session->limits;
	double m_rate = (double)l->message_rate, b_rate = (double)l->byte_rate, wait = 0, elapsed;
	struct conn_extra *x = conn_extra(c);

	if (x == NULL)
		return 0;
	if (x->tokens_at_ms == 0) { /* one second's worth to begin with */
		x->message_tokens = m_rate;
		x->byte_tokens = b_rate;
	} else {
		elapsed = (double)(c->w->now_ms - x->tokens_at_ms) / 1000.0;
		x->message_tokens += elapsed * m_rate;
		x->byte_tokens += elapsed * b_rate;
		if (x->message_tokens > m_rate)
			x->message_tokens = m_rate;
		if (x->byte_tokens > b_rate)
			x->byte_tokens = b_rate;
	}
	x->tokens_at_ms = c->w->now_ms;
	x->message_tokens -= messages;
	x->byte_tokens -= bytes;
	if (m_rate > 0 && x->message_tokens < 0)
		wait = -x->message_tokens / m_rate;
	if (b_rate > 0 && x->byte_tokens < 0 && -x->byte_tokens / b_rate > wait)
		wait = -x->byte_tokens / b_rate;
	return wait > 0 ? (uint64_t)(wait * 1000.0) + 1 : 0;
}

void
conn_rate(struct conn *c, unsigned messages, size_t bytes)
{
	uint64_t wait_ms = rate_take(c, messages, (double)bytes);

	if (wait_ms == 0)
		return;
	metric_add(&c->w->metrics, METRIC_RATE_LIMITED, 1);
	pause_for(c, PAUSE_RATE, wait_ms);
}

void
conn_wait_for_mailbox(struct conn *c)
{
	metric_add(&c->w->metrics, METRIC_PUBLISHERS_PAUSED, 1);
	pause_for(c, PAUSE_MAIL, 10);
}

static void
on_pause_over(struct timer *t, void *owner)
{
	struct conn *c =
	    ((struct conn_extra *)(void *)((char *)t - offsetof(struct conn_extra, pause_timer)))
		->conn;
	uint64_t wait_ms = 0;

	(void)owner;
	conn_resume(c, PAUSE_MAIL);
	if (c->pause & PAUSE_RATE && c->session != NULL && (wait_ms = rate_take(c, 0, 0)) > 0)
		worker_timer(c->w, t, wait_ms);
	else
		conn_resume(c, PAUSE_RATE);
}

/* ---- the end -------------------------------------------------------------------------------------------- */

/* To be freed when the turn ends. */
void
conn_bury(struct conn *c)
{
	c->next = c->w->core->dead;
	c->w->core->dead = c;
}

/* Nothing more to write or to wait for. */
void
conn_finish(struct conn *c)
{
	if (c->dead)
		return;
	if (c->state == CONN_CLOSING && !c->lingering && c->last_words && c->out_first == NULL &&
	    c->stream.fd >= 0) {
		/*
		 * Closing with unread input would make the kernel send RST, which can destroy our last packet
		 * on its way. So: no more output, and wait a moment for the peer to close.
		 */
		c->lingering = true;
		stream_shut(&c->stream);
		conn_arm_deadline(c);
		conn_watch(c);
		return;
	}
	c->dead = true;
	timer_disarm(c->w->wheel, &c->deadline);
	conn_extra_free(c);
	stream_close(&c->stream); /* and out of the epoll set */
	c->watched = 0;
	listener_connection_closed(c->w->broker, c->ls);
	if (c->counted)
		listener_address_leave(c->w, conn_peer(c));
	conn_unregister(c);
	if (!c->dirty) /* else conn_flush_output comes by */
		conn_bury(c);
	c->w->flush_due = true; /* conn_reap, although there may be no output */
}

static void
close_conn(struct conn *c, uint8_t reason_code, const char *why, bool discard_will)
{
	struct session *s = c->session;
	bool established = c->state == CONN_ESTABLISHED;

	if (c->dead || c->state == CONN_CLOSING)
		return;
	if (c->in_dispatch) /* what came before counts, and its slices and author are still there */
		conn_batch_end(c);
	if (c->dead || c->state == CONN_CLOSING)
		return;
	if (c->corked) { /* CONNACK has not gone out, so nothing else may [MQTT-3.2.0-1], nor what waits behind it */
		out_clear(c);
		reason_code = 0;
	}
	log_at(established ? GRAPNEL_LOG_INFO : GRAPNEL_LOG_DEBUG,
	    established ? "client_disconnected" : NULL, "client \"%.*s\" from %s: closed: %s",
	    STR(conn_client_name(c)), conn_peer(c), why);
	if (established && reason_code >= 0x80 && !c->dead) {
		conn_send_disconnect(
		    c, reason_code, c->problem_info ? why : NULL, (struct grapnel_str){ 0 });
		c->last_words = c->version == 5;
	} else if (c->out_bytes > 0 && reason_code != 0) {
		c->last_words = true;
	}
	step_cancel(c);
	connecting_cancel(c, why);
	if (c->extra != NULL) {
		hooks_cancel(c->w, c->extra->reauth_pending);
		c->extra->reauth_pending = NULL;
		handshake_free(c->extra->handshake);
		c->extra->handshake = NULL;
	}
	held_acks_clear(c);
	gates_clear(c);
	conn_set_state(c, CONN_CLOSING, why);
	if (s != NULL) {
		if (event_wanted(c->w, GRAPNEL_EVENT_CLIENT_DISCONNECTED))
			core_event(
			    c->w, GRAPNEL_EVENT_CLIENT_DISCONNECTED, s, NULL, reason_code, why);
		c->session = NULL;
		c->limits = &c->ls->limits; /* the session's own may go with it */
		session_detach(s, discard_will);
	}
	if (reason_code == 0 || c->out_first == NULL)
		out_clear(c);
	if (c->out_first == NULL)
		conn_finish(c);
	else
		conn_watch(c); /* written at the end of the turn, then finished */
}

void
conn_close(struct conn *c, uint8_t reason_code, const char *why)
{
	close_conn(c, reason_code, why, false);
}

void
conn_close_discarding_will(struct conn *c, uint8_t reason_code, const char *why)
{
	close_conn(c, reason_code, why, true);
}

void
conn_reap(struct worker *w)
{
	struct conn *c = w->core->dead, *next;

	w->core->dead = NULL;
	for (; c != NULL; c = next) {
		next = c->next;
		out_clear(c);
		conn_in_free(c);
		identity_unref(c->who);
		settings_unref(c->ls->settings);
		free(c);
	}
}
