/* SPDX-License-Identifier: Apache-2.0 */
/* PUBLISH packets, and when they may go. */
#include "load.h"

#include <stdio.h>

#define BURST 4096 /* messages before looking at what came in */

static void
digits6(uint8_t *p, uint32_t v)
{
	for (int i = 5; i >= 0; i--, v /= 10)
		p[i] = (uint8_t)('0' + v % 10);
}

void
publisher_template(struct publisher *b)
{
	char topic[64];
	uint32_t digits;

	switch (cfg.sc) {
	case SC_WILD:
		snprintf(topic, sizeof(topic), "site/%04u/dev/000000/temp", cfg.exact ? 0 : b->id);
		digits = 14;
		break;
	case SC_RETAINED:
		snprintf(topic, sizeof(topic), "ml/retained/0000/00");
		digits = 12;
		break;
	case SC_FANOUT:
		snprintf(topic, sizeof(topic), "ml/fanout/000000/000000");
		digits = 17;
		break;
	default:
		snprintf(topic, sizeof(topic), "ml/%s/%06u/000000", scenario_names[cfg.sc], b->id);
		digits = (uint32_t)strlen(topic) - 6;
	}
	uint32_t body =
	    2 + (uint32_t)strlen(topic) + (cfg.qos ? 2 : 0) + (cfg.proto == 5 ? 1 : 0) + cfg.size;
	uint8_t *p = b->tpl = xcalloc(body + 8, 1);
	*p++ = (uint8_t)(0x30 | cfg.qos << 1 | (cfg.retain || cfg.sc == SC_RETAINED ? 1 : 0));
	p = put_varint(p, body);
	b->off_topic = (uint32_t)(p + 2 - b->tpl) + digits;
	p = put_str(p, topic);
	b->off_packet_id = (uint32_t)(p - b->tpl);
	if (cfg.qos)
		p += 2;
	if (cfg.proto == 5)
		*p++ = 0;
	b->off_payload = (uint32_t)(p - b->tpl);
	for (uint32_t i = 0; i < cfg.size; i++)
		p[i] = (uint8_t)i;
	b->tpl_len = (uint32_t)(p + cfg.size - b->tpl);
}

static inline bool
may_send(const struct conn *c)
{
	const struct publisher *b = c->pub;

	return b->left && !c->out_armed && c->state == ST_READY && (!cfg.qos || b->nfree);
}

/* Appends one message to the output buffer, stamped with the time given. */
static void
publish_one(struct worker *w, struct conn *c, uint64_t stamp)
{
	struct publisher *b = c->pub;
	uint8_t *t = b->tpl;
	uint32_t flow = b->id, seq;

	if (cfg.sc == SC_WILD) {
		/* A fixed odd stride walks all filters in an order without locality. */
		b->k = (uint32_t)(((uint64_t)b->k + 7919) % cfg.filters);
		digits6(t + b->off_topic, b->k);
		flow = b->id * cfg.subs + b->k % cfg.subs;
	} else if (cfg.topics > 1 && cfg.sc != SC_RETAINED) {
		digits6(t + b->off_topic, b->turn);
		if (++b->turn == cfg.topics)
			b->turn = 0;
	}
	if (cfg.sc == SC_RETAINED) { /* publisher p owns p, p+P, p+2P.. */
		uint8_t d[6];
		seq = b->k;
		b->k += cfg.pubs;
		digits6(d, seq % 1000000);
		memcpy(t + b->off_topic, d, 4);
		memcpy(t + b->off_topic + 5, d + 4, 2);
		sent_in_flow[flow]++;
	} else {
		seq = sent_in_flow[flow]++;
	}
	if (cfg.qos) {
		uint16_t packet_id = b->free_id[--b->nfree];
		b->id_state[packet_id] = ID_FIRST;
		b->sent_at[packet_id] = stamp;
		b->inflight++;
		put16(t + b->off_packet_id, packet_id);
	}
	memcpy(t + b->off_payload, &stamp, 8);
	memcpy(t + b->off_payload + 8, &flow, 4);
	memcpy(t + b->off_payload + 12, &seq, 4);
	memcpy(out_room(c, b->tpl_len), t, b->tpl_len);
	c->out_len += b->tpl_len;
	b->left--;
	ADD(w->sent, 1);
}

uint64_t
sum_sent(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < cfg.threads; i++)
		n += GET(workers[i].sent);
	return n;
}

uint64_t
sum_recv(void)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < cfg.threads; i++)
		n += GET(workers[i].recv);
	return n;
}

static void
stop_sending(struct worker *w)
{
	for (uint32_t i = 0; i < w->npubs; i++) {
		struct conn *c = w->pubs[i];
		if (!c->pub->left)
			continue;
		c->pub->left = 0;
		if (c->state == ST_READY)
			publisher_check_done(w, c);
	}
}

/* A publisher per call, in turn. */
static struct conn *
next_publisher(struct worker *w)
{
	struct conn *c = w->pubs[w->rr];

	if (++w->rr == w->npubs)
		w->rr = 0;
	return c;
}

/* An open loop, on a schedule. */
static uint64_t
publish_at_rate(struct worker *w, uint64_t now, uint64_t nap)
{
	const double gap = 1e9 * cfg.threads / (double)cfg.rate;
	uint32_t misses = 0;

	for (uint32_t burst = 0; burst < BURST && misses < w->npubs;) {
		uint64_t due = t_run + (uint64_t)((double)w->sched * gap);
		struct conn *c;

		if (due > now)
			return due - now < nap ? due - now : nap;
		c = next_publisher(w);
		if (!may_send(c)) {
			misses++; /* all of them: wait for an event */
			continue;
		}
		misses = 0;
		burst++;
		publish_one(w, c, due);
		histogram_add(&w->lag, now - due);
		w->sched++;
		if (conn_flush(w, c) == 0)
			publisher_check_done(w, c);
	}
	return misses > 0 ? nap : 0;
}

/* Messages that may be sent before --credit deliveries are outstanding. */
static uint64_t
credit_left(void)
{
	uint64_t out, in, pending;

	if (fan == 0 || cfg.credit == 0)
		return UINT64_MAX;
	out = sum_sent() * fan;
	in = sum_recv() + atomic_load(&credit_forgiven);
	pending = out > in ? out - in : 0;
	if (pending == 0 && cfg.credit < fan * cfg.threads)
		return 1;
	return pending >= cfg.credit ? 0 : (cfg.credit - pending + fan - 1) / fan / cfg.threads;
}

/* A closed loop, at full speed. */
static uint64_t
publish_at_once(struct worker *w, uint64_t now, uint64_t nap)
{
	uint64_t budget = credit_left();
	bool more = false;

	for (uint32_t i = 0; i < w->npubs && budget > 0; i++) {
		struct conn *c = next_publisher(w);
		uint32_t n = 0;

		for (; n < cfg.batch && budget > 0 && may_send(c); n++, budget--)
			publish_one(w, c, now);
		if (n == 0 || conn_flush(w, c) < 0)
			continue;
		publisher_check_done(w, c);
		more |= may_send(c);
		now = now_ns();
	}
	return more && budget > 0 ? 0 : nap;
}

uint64_t
publish_due(struct worker *w)
{
	const uint64_t nap = cfg.threads > 1 ? 200000 : 5000000;
	uint64_t now = now_ns();

	if (w->npubs == 0 || GET(w->pubs_done) == w->npubs)
		return nap;
	if (t_stop_sending > 0 && now >= t_stop_sending) {
		stop_sending(w);
		return nap;
	}
	return cfg.rate > 0 ? publish_at_rate(w, now, nap) : publish_at_once(w, now, nap);
}
