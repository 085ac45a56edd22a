/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

static void
add_publisher(struct conn *c, uint32_t id, uint64_t count)
{
	struct publisher *b = c->pub = xcalloc(1, sizeof(*b));

	b->id = id;
	b->left = count;
	b->k = cfg.sc == SC_RETAINED ? id : id * 101;
	b->window = b->nfree = cfg.window;
	if (cfg.qos) {
		b->free_id = xcalloc(cfg.window, sizeof(*b->free_id));
		b->id_state = xcalloc(cfg.window + 1, 1);
		b->sent_at = xcalloc(cfg.window + 1, sizeof(*b->sent_at));
		for (uint32_t i = 0; i < cfg.window; i++)
			b->free_id[i] = (uint16_t)(cfg.window - i);
	}
	publisher_template(b);
}

static void
add_subscriber(
    struct conn *c, struct subscriber *s, uint32_t id, uint32_t nfilters, uint32_t nflows)
{
	c->sub = s;
	s->id = id;
	s->nfilters = nfilters;
	s->nflows = nflows;
	if (!s->flows)
		s->flows = xcalloc(nflows, sizeof(*s->flows));
}

static struct conn *
make_conns(uint32_t n)
{
	struct conn *c = xcalloc(n, sizeof(*c));

	for (uint32_t i = 0; i < n; i++) {
		c[i].fd = -1;
		c[i].id = i;
		c[i].clean = true;
	}
	return c;
}

/* Publisher i's share of the total. */
static uint64_t
share(uint32_t i)
{
	if (cfg.duration > 0 && !cfg.rate)
		return UINT64_MAX / 2;
	return cfg.count / cfg.pubs + (i < cfg.count % cfg.pubs);
}

/* pairs, fanin, fanout and wild: everyone connected, then publish. */
static int
run_live(void)
{
	static struct result r;
	uint32_t n = cfg.pubs + cfg.subs, per = cfg.sc == SC_WILD ? cfg.filters / cfg.subs : 1;
	struct conn *c = make_conns(n);
	struct subscriber *subs = xcalloc(cfg.subs, sizeof(*subs));

	for (uint32_t i = 0; i < cfg.subs; i++) {
		add_subscriber(&c[i], &subs[i], i, per, cfg.sc == SC_PAIRS ? 1 : cfg.pubs);
		c[i].clean = !cfg.persist;
	}
	for (uint32_t i = 0; i < cfg.pubs; i++)
		add_publisher(&c[cfg.subs + i], i, share(i));
	fan = cfg.sc == SC_FANOUT ? cfg.subs : 1;
	live = true;
	stage_run(c, n, 0, &r);
	uint64_t lost = flows_lost(subs, cfg.subs);
	double rate = r.secs > 0 ? (double)r.recv / r.secs : 0;
	say("  %llu sent, %llu of %llu delivered in %.3f s: %.0f deliveries/s\n",
	    (unsigned long long)r.sent, (unsigned long long)r.recv, (unsigned long long)r.expected,
	    r.secs, rate);
	json_num("sent", (double)r.sent);
	json_num("delivered", (double)r.recv);
	json_num("secs", r.secs);
	json_num("per_s", rate);
	json_num("stalls", (double)GET(stalls));
	json_num("open_secs", r.open_secs);
	json_num("msgs_per_write", r.writes ? (double)(r.sent) / (double)r.writes : 0);
	json_num("msgs_per_read", r.reads ? (double)r.recv / (double)r.reads : 0);
	json_num("rss_base_kb", (double)r.base.rss_kb);
	report_histogram("latency", &r.lat);
	report_histogram("lag", &r.lag);
	report_histogram("ack", &r.ack);
	report_broker("delivery", (double)r.recv, &r.before, &r.after);
	return report_verdict(&r, lost, cfg.qos < cfg.sub_qos ? cfg.qos : cfg.sub_qos);
}

static int
run_conn(void)
{
	static struct result r;
	struct conn *c = make_conns(cfg.conns);

	stage_run(c, cfg.conns, 0, &r);
	double up = (double)(cfg.conns - r.dead), rate = r.open_secs > 0 ? up / r.open_secs : 0;
	double bytes = up > 0 ? (double)(r.after.rss_kb - r.base.rss_kb) * 1024 / up : 0;
	say("  %.0f of %u connected in %.3f s: %.0f/s; %.0f bytes of RSS each\n", up, cfg.conns,
	    r.open_secs, rate, bytes);
	json_num("delivered", up);
	json_num("secs", r.open_secs);
	json_num("per_s", rate);
	json_num("rss_per_conn", bytes);
	report_broker("connection", up, &r.base, &r.after);
	return report_verdict(&r, 0, 0);
}

static int
run_storm(void)
{
	static struct result r;
	struct conn *c = make_conns(cfg.conns);

	for (uint32_t i = 0; i < cfg.conns; i++)
		c[i].storm = true;
	stage_run(c, cfg.conns, 0, &r);
	double rate = r.secs > 0 ? (double)r.storms / r.secs : 0;
	say("  %llu connections in %.3f s: %.0f/s, %u at a time\n", (unsigned long long)r.storms,
	    r.secs, rate, cfg.conns);
	json_num("delivered", (double)r.storms);
	json_num("secs", r.secs);
	json_num("per_s", rate);
	report_histogram("latency", &r.lat);
	report_broker("connection", (double)r.storms, &r.before, &r.after);
	return report_verdict(&r, 0, 0);
}

static int
run_retained(void)
{
	static struct result a, b;
	struct conn *c = make_conns(cfg.pubs);

	retained_seen = xcalloc(cfg.count / 8 + 1, 1);
	for (uint32_t i = 0; i < cfg.pubs; i++)
		add_publisher(&c[i], i, share(i));
	want_barrier = true; /* QoS 0 too: "stored" is when PINGRESP is back */
	stage_run(c, cfg.pubs, 0, &a);
	double rate = a.secs > 0 ? (double)a.sent / a.secs : 0;
	double bytes =
	    a.sent ? (double)(a.after.rss_kb - a.before.rss_kb) * 1024 / (double)a.sent : 0;
	say("  %llu retained in %.3f s: %.0f/s; %.0f bytes of RSS each\n",
	    (unsigned long long)a.sent, a.secs, rate, bytes);
	json_num("store_per_s", rate);
	json_num("store_cpu_us", a.sent ? (a.after.cpu - a.before.cpu) * 1e6 / (double)a.sent : 0);
	json_num("rss_per_retained", bytes);

	struct subscriber *s = xcalloc(1, sizeof(*s));
	c = make_conns(1);
	add_subscriber(c, s, 0, 1, cfg.pubs);
	stage_run(c, 1, cfg.count, &b);
	rate = b.secs > 0 ? (double)b.recv / b.secs : 0;
	say("  %llu received by a new subscriber in %.3f s: %.0f/s\n", (unsigned long long)b.recv,
	    b.secs, rate);
	json_num("sent", (double)a.sent);
	json_num("delivered", (double)b.recv);
	json_num("secs", b.secs);
	json_num("per_s", rate);
	report_broker("message", (double)b.recv, &b.before, &b.after);
	int rc = a.dead || a.timed_out ? 3 : 0, rc2 = report_verdict(&b, cfg.count - b.recv, 1);
	return rc ? rc : rc2;
}

/* The subscribers' sessions, and their messages; the broker may have been started again between the two. */
static struct conn *
offline_conns(struct subscriber *subs, bool again)
{
	struct conn *c = make_conns(cfg.subs);

	for (uint32_t i = 0; i < cfg.subs; i++) {
		subs[i].t_subscribe = 0;
		add_subscriber(&c[i], &subs[i], i, 1, cfg.pubs);
		if (again)
			subs[i].next_filter = subs[i].nfilters; /* the broker remembers those */
		c[i].clean = false;
	}
	return c;
}

/* @return exit code */
static int
offline_fill(struct subscriber *subs, struct result *a)
{
	static struct result z;
	struct conn *c;

	stage_run(offline_conns(subs, false), cfg.subs, 0, &z);
	c = make_conns(cfg.pubs);
	for (uint32_t i = 0; i < cfg.pubs; i++)
		add_publisher(&c[i], i, share(i));
	want_barrier = true;
	fan = 0;
	stage_run(c, cfg.pubs, 0, a);
	want_barrier = false;
	double rate = a->secs > 0 ? (double)a->sent * cfg.subs / a->secs : 0;
	double bytes = a->sent
	    ? (double)(a->after.rss_kb - a->before.rss_kb) * 1024 / (double)a->sent / cfg.subs
	    : 0;
	say("  %llu queued for %u offline in %.3f s: %.0f/s; %.0f bytes of RSS each\n",
	    (unsigned long long)a->sent, cfg.subs, a->secs, rate, bytes);
	json_num("store_per_s", rate);
	json_num("store_cpu_us",
	    a->sent ? (a->after.cpu - a->before.cpu) * 1e6 / (double)a->sent / cfg.subs : 0);
	json_num("rss_per_queued", bytes);
	report_histogram("ack", &a->ack);
	report_histogram("lag", &a->lag);
	return z.dead || a->dead || a->timed_out ? 3 : 0;
}

static int
run_offline(void)
{
	static struct result a, b;
	struct subscriber *subs = xcalloc(cfg.subs, sizeof(*subs));
	int rc = 0;

	if (cfg.resume) {
		for (uint32_t i = 0; i < cfg.pubs; i++)
			a.sent += sent_in_flow[i] = (uint32_t)share(i);
	} else {
		rc = offline_fill(subs, &a);
	}
	if (cfg.leave) {
		json_num("sent", (double)a.sent);
		return rc != 0 ? rc : report_verdict(&a, 0, 1);
	}
	fan = 0;
	stage_run(offline_conns(subs, true), cfg.subs, a.sent * cfg.subs, &b);
	double rate = b.secs > 0 ? (double)b.recv / b.secs : 0;
	say("  %llu of %llu drained in %.3f s: %.0f/s; session present %llu of %u\n",
	    (unsigned long long)b.recv, (unsigned long long)a.sent * cfg.subs, b.secs, rate,
	    (unsigned long long)b.session_present, cfg.subs);
	json_num("sent", (double)a.sent);
	json_num("delivered", (double)b.recv);
	json_num("secs", b.secs);
	json_num("per_s", rate);
	json_num("session_present", (double)b.session_present);
	report_broker("message", (double)b.recv, &b.before, &b.after);
	b.nacks += a.nacks;
	int rc2 = report_verdict(&b, flows_lost(subs, cfg.subs), 1);
	return rc != 0 ? rc : rc2;
}

int
scenario_run(void)
{
	switch (cfg.sc) {
	case SC_PAIRS:
	case SC_FANIN:
	case SC_FANOUT:
	case SC_WILD:
		return run_live();
	case SC_CONN:
		return run_conn();
	case SC_STORM:
		return run_storm();
	case SC_RETAINED:
		return run_retained();
	case SC_OFFLINE:
		return run_offline();
	}
	return 1;
}
