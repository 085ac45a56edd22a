/* SPDX-License-Identifier: Apache-2.0 */
#include "core/core.h"

#include "base/arena.h"
#include "base/log.h"
#include "core/connecting.h"
#include "core/durable.h"
#include "core/retain.h"
#include "core/session.h"
#include "core/sys.h"

#include <stdlib.h>
#include <string.h>

#define SWEEP_MS         1000
#define SWEEP_NODES      4096 /* retained messages looked at in one go */
#define SHUTDOWN_MS      2000
#define SHUTDOWN_POLL_MS 10

/* ---- retained messages that have expired ------------------------------------------------------ */

static void
on_swept(struct message *msg, uint64_t seq, void *arg)
{
	struct worker *w = arg;

	durable_retained_gone(w, msg, seq);
	metric_add(&w->metrics, METRIC_MESSAGES_EXPIRED, 1);
	if (event_wanted(w, GRAPNEL_EVENT_MESSAGE_EXPIRED))
		core_event(w, GRAPNEL_EVENT_MESSAGE_EXPIRED, NULL, msg, 0, "retained");
	if (event_wanted(w, GRAPNEL_EVENT_RETAINED_CLEARED))
		core_event(w, GRAPNEL_EVENT_RETAINED_CLEARED, NULL, msg, 0, "expired");
}

static void
on_sweep(struct timer *t, void *owner)
{
	struct worker *w = owner;

	retain_sweep(w->broker->retain, w->now_ms, SWEEP_NODES, on_swept, w);
	worker_timer(w, t, SWEEP_MS);
}

/* ---- beginning and end ------------------------------------------------------------------------ */

int
core_init(struct broker *b)
{
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct worker *w = b->workers[i];
		int err;

		if ((w->core = calloc(1, sizeof(*w->core))) == NULL)
			return GRAPNEL_ENOMEM;
		if ((err = batch_init(w)) != GRAPNEL_OK ||
		    (err = session_table_new(w)) != GRAPNEL_OK ||
		    (err = durable_init(w)) != GRAPNEL_OK || (err = router_init(w)) != GRAPNEL_OK ||
		    (err = shared_init(w)) != GRAPNEL_OK)
			return err;
	}
	timer_init(&b->workers[0]->core->sweep_timer, on_sweep);
	worker_timer(b->workers[0], &b->workers[0]->core->sweep_timer, SWEEP_MS);
	overload_init(b);
	return sys_start(b);
}

void
core_fini(struct broker *b)
{
	sys_stop(b);
	if (b->workers[0] != NULL && b->workers[0]->core != NULL)
		timer_disarm(b->workers[0]->wheel, &b->workers[0]->core->sweep_timer);
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct worker *w = b->workers[i];

		if (w == NULL || w->core == NULL)
			continue;
		w->core->stopping = true;
		if (w->hooks != NULL && w->core->last_decision.request != NULL)
			decision_release(&w->core->last_decision);
		conn_reap(w);
		durable_fini(w); /* what ends now ends in memory only */
		wills_clear(w);
		session_table_free(w);
		arena_free(w->subs);
		w->subs = NULL;
		if (w->shared != NULL)
			shared_fini(w);
		router_fini(w);
		batch_fini(w);
		out_pool_clear(&w->core->pool);
		overload_worker_fini(w);
		free(w->core->conns);
		free(w->core->again);
		free(w->core);
		w->core = NULL;
	}
}

/* ---- reload --------------------------------------------------------------------------------------- */

struct settings_mail {
	struct mail mail;
	struct settings *s;
};

static const struct listener_settings *
listener_named(const struct settings *s, const char *name)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		if (strcmp(s->listeners[i].name, name) == 0)
			return &s->listeners[i];
	return NULL;
}

static void
on_settings(struct worker *w, struct mail *m)
{
	struct settings *neu = ((struct settings_mail *)(void *)m)->s;

	for (uint32_t i = 0; i < w->core->conn_capacity; i++) {
		struct conn *c = w->core->conns[i];
		const struct listener_settings *ls;
		struct session *s;

		if (c == NULL || c->dead || c->ls->settings == neu ||
		    (ls = listener_named(neu, c->ls->name)) == NULL)
			continue;
		s = c->session;
		/* Limits that came with a login stay until the next one. */
		if (s == NULL || !s->own_limits)
			c->limits = &ls->limits;
		if (s != NULL && !s->own_limits)
			session_set_limits(s, NULL, ls);
		settings_unref(c->ls->settings);
		(void)settings_ref(neu);
		c->ls = ls;
	}
	settings_unref(neu);
	free(m);
}

void
core_apply_settings(struct broker *b, struct settings *s)
{
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct settings_mail *m = malloc(sizeof(*m));

		if (m == NULL) {
			log_error("out of memory: connections of worker %u keep the old limits", i);
			continue;
		}
		m->mail.fn = on_settings;
		m->s = settings_ref(s);
		worker_post(b->workers[i], &m->mail);
	}
}

/* ---- rights changed: who logged in earlier, is he still welcome? --------------------------------------- */

static void
take_revalidation(struct session *s, const struct decision *d)
{
	if (d->verdict == GRAPNEL_ALLOW && d->answered) {
		struct conn *c = s->conn;
		const char *refused;

		if (c->in_dispatch) /* what came before has the old identity as its author */
			conn_batch_end(c);
		if (c->session != NULL && (refused = connect_new_login(c, d->auth)) != NULL)
			conn_close(c, RC_NOT_AUTHORIZED, refused);
		return;
	}
	if (d->verdict != GRAPNEL_DENY)
		return;
	log_at(GRAPNEL_LOG_NOTICE, "login_revoked",
	    "client \"%.*s\" user \"%.*s\": the login is no longer valid (plugin %s)",
	    STR(identity_client_id(s->identity)), STR(identity_username(s->identity)), d->plugin);
	conn_close(s->conn, RC_NOT_AUTHORIZED, "the login is no longer valid");
}

static void
on_revalidated(void *arg, const struct decision *d)
{
	struct session *s = arg;

	s->extra->revalidating = NULL;
	if (s->conn != NULL)
		take_revalidation(s, d);
}

static void
revalidate(struct session *s, void *arg)
{
	struct worker *w = arg;
	struct grapnel_client_info info;
	struct grapnel_revalidate q = { .size = sizeof(q), .client = &info };
	struct grapnel_request *pending;
	struct decision now;

	if (s->conn == NULL || s->auth_plugin == 0)
		return;
	if (s->extra != NULL &&
	    s->extra->revalidating != NULL) { /* that answer may be from before */
		hooks_cancel(w, s->extra->revalidating);
		s->extra->revalidating = NULL;
	}
	session_info(s, &info);
	if (hooks_ask(w, HOOK_REVALIDATE, &q, session_plugin_name(w, s->auth_plugin),
		on_revalidated, s, &now, &pending)) {
		take_revalidation(s, &now);
		decision_release(&now);
	} else if (session_extra(s) != NULL) {
		s->extra->revalidating = pending;
	} else { /* as if nobody could say */
		hooks_cancel(w, pending);
	}
}

static void
on_rights_changed(struct worker *w, struct mail *m)
{
	free(m);
	if (hook_used(w, HOOK_REVALIDATE) && !w->core->stopping)
		session_each(w, revalidate, w);
}

void
core_rights_changed(struct broker *b)
{
	atomic_fetch_add_explicit(&b->rights_generation, 1, memory_order_release);
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct mail *m = malloc(sizeof(*m));

		if (m == NULL)
			continue; /* rights are asked anew all the same; only the logins are not looked at */
		m->fn = on_rights_changed;
		worker_post(b->workers[i], m);
	}
}

/* Whose rights, and whose login, are to be asked about again. */
struct rights_mail {
	struct mail mail;
	struct grapnel_str username, client_id; /* .data NULL: any */
	char text[];
};

static bool
is_any_or(struct grapnel_str wanted, struct grapnel_str s)
{
	return wanted.data == NULL ||
	    (s.data != NULL && wanted.len == s.len && memcmp(wanted.data, s.data, s.len) == 0);
}

static void
ask_again(struct session *s, void *arg)
{
	const struct rights_mail *m = arg;

	if (!is_any_or(m->username, identity_username(s->identity)) ||
	    !is_any_or(m->client_id, identity_client_id(s->identity)))
		return;
	s->rights_epoch++;
	if (hook_used(s->w, HOOK_REVALIDATE))
		revalidate(s, s->w);
}

static void
on_rights_ask(struct worker *w, struct mail *m)
{
	if (!w->core->stopping)
		session_each(w, ask_again, m);
	free(m);
}

static struct rights_mail *
rights_mail_new(struct grapnel_str username, struct grapnel_str client_id)
{
	struct rights_mail *m = malloc(sizeof(*m) + username.len + client_id.len + 1);

	if (m == NULL)
		return NULL;
	m->mail.fn = on_rights_ask;
	m->username = (struct grapnel_str){ username.data != NULL ? m->text : NULL, username.len };
	m->client_id = (struct grapnel_str){ client_id.data != NULL ? m->text + username.len : NULL,
		client_id.len };
	if (username.len > 0)
		memcpy(m->text, username.data, username.len);
	if (client_id.len > 0)
		memcpy(m->text + username.len, client_id.data, client_id.len);
	return m;
}

int
core_rights_ask(struct broker *b, struct grapnel_str username, struct grapnel_str client_id)
{
	int err = GRAPNEL_OK;

	if (username.data == NULL && client_id.data == NULL) {
		core_rights_changed(b);
		return GRAPNEL_OK;
	}
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct rights_mail *m = rights_mail_new(username, client_id);

		if (m == NULL)
			err = GRAPNEL_ENOMEM;
		else
			worker_post(b->workers[i], &m->mail);
	}
	return err;
}

/* ---- shutdown -------------------------------------------------------------------------------------------- */

struct stop {
	struct broker *b;
	void (*done)(void *arg);
	void *arg;
	unsigned left; /* main thread */
};
struct stop_mail {
	struct mail mail;
	struct stop *stop;
	uint64_t until_ms;
};

static void
on_worker_stopped(struct worker *w, struct mail *m)
{
	struct stop *stop = ((struct stop_mail *)(void *)m)->stop;

	(void)w;
	free(m);
	if (--stop->left == 0) {
		stop->done(stop->arg);
		free(stop);
	}
}

static void
on_stop_poll(struct timer *t, void *owner)
{
	struct core_worker *cw =
	    (struct core_worker *)(void *)((char *)t - offsetof(struct core_worker, stop_timer));
	struct worker *w = owner;
	struct stop_mail *m = cw->stop;

	if (cw->conn_count > 0 && w->now_ms >= m->until_ms) {
		for (uint32_t i = 0; i < cw->conn_capacity; i++) {
			struct conn *c = cw->conns[i];

			if (c == NULL)
				continue;
			c->last_words = false; /* no more waiting */
			out_clear(c);
			if (c->state == CONN_CLOSING)
				conn_finish(c);
			else
				conn_close(c, 0, "shutting down");
		}
	}
	if (cw->conn_count > 0) {
		worker_timer(w, t, SHUTDOWN_POLL_MS);
		return;
	}
	wills_clear(w);
	m->mail.fn = on_worker_stopped;
	worker_post(w->broker->main, &m->mail);
}

/* What is in flight with QoS 1 is written when all ends in good order only: also that of Clients who are away. */
static void
keep_in_flight(struct session *s, void *arg)
{
	(void)arg;
	if (s->flow->inflight.count > 0)
		durable_exchange(s);
}

static void
on_stop(struct worker *w, struct mail *mail)
{
	struct core_worker *cw = w->core;
	struct stop_mail *m = (struct stop_mail *)(void *)mail;

	cw->stopping = true;
	for (uint32_t i = 0; i < cw->conn_capacity; i++)
		if (cw->conns[i] != NULL)
			conn_close(cw->conns[i], RC_SERVER_SHUTTING_DOWN, "server shutting down");
	session_each(w, keep_in_flight, NULL);
	m->until_ms = w->now_ms + SHUTDOWN_MS;
	cw->stop = m;
	timer_init(&cw->stop_timer, on_stop_poll);
	worker_timer(w, &cw->stop_timer, 0);
}

void
core_shutdown(struct broker *b, void (*done)(void *arg), void *arg)
{
	struct stop *stop = calloc(1, sizeof(*stop));

	atomic_store(&b->shutting_down, true);
	sys_stop(b);
	if (stop == NULL) {
		done(arg);
		return;
	}
	*stop = (struct stop){ .b = b, .done = done, .arg = arg, .left = b->worker_count };
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct stop_mail *m = calloc(1, sizeof(*m));

		if (m == NULL) {
			log_error(
			    "out of memory while stopping worker %u: its clients are not told", i);
			if (--stop->left == 0) {
				free(stop);
				done(arg);
				return;
			}
			continue;
		}
		m->mail.fn = on_stop;
		m->stop = stop;
		worker_post(b->workers[i], &m->mail);
	}
}
