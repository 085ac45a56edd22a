/* SPDX-License-Identifier: Apache-2.0 */
#include "core/durable.h"

#include "base/log.h"
#include "core/acl.h"

#include <stdlib.h>
#include <string.h>

/* Stands for the flow of a session that has none: all empty, and never written to. */
static const struct flow no_flow;

static void on_session_timer(struct timer *t, void *owner);
static void on_retry_timer(struct timer *t, void *owner);

/* ---- parts ------------------------------------------------------------------------------ */

struct session_extra *
session_extra(struct session *s)
{
	struct session_extra *x = s->extra;

	if (x != NULL || (x = calloc(1, sizeof(*x))) == NULL)
		return x;
	x->session = s;
	x->expires_at_ms = UINT64_MAX;
	timer_init(&x->timer, on_session_timer);
	return s->extra = x;
}

struct flow *
session_flow_new(struct session *s)
{
	struct flow *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->session = s;
	timer_init(&f->retry_timer, on_retry_timer);
	return s->flow = f;
}

void
session_flow_free(struct session *s)
{
	if (s->flow->session == NULL)
		return;
	timer_disarm(s->w->wheel, &s->flow->retry_timer);
	id_set_clear(&s->flow->received);
	id_set_clear(&s->flow->earlier);
	free(s->flow);
	s->flow = (struct flow *)(uintptr_t)&no_flow;
}

static void
limits_unref(struct session *s)
{
	if (s->own_limits)
		free((void *)(uintptr_t)s->limits);
	else if (s->limits != NULL)
		settings_unref(listener_of_limits(s->limits)->settings);
}

void
session_set_limits(struct session *s, struct limits *own, const struct listener_settings *ls)
{
	if (own == NULL)
		settings_ref(ls->settings);
	limits_unref(s);
	s->own_limits = own != NULL;
	s->limits = own != NULL ? own : &ls->limits;
}

static void
session_free(struct session *s)
{
	struct worker *w = s->w;
	struct session_extra *x = s->extra;
	struct identity *id = s->identity;

	if (x != NULL) {
		timer_disarm(w->wheel, &x->timer);
		hooks_cancel(w, x->revalidating);
		message_unref(x->will);
		acl_rules_unref(x->rules);
		free(x);
	}
	session_flow_free(s);
	client_slots_free(w, &s->client);
	rights_cache_free(s);
	limits_unref(s);
	session_table_remove(s);
	identity_unref(id);
}

void
session_free_all(struct session *s)
{
	retained_clear(s);
	deliver_clear(s);
	subs_clear(s);
	shared_session_end(s);
	session_free(s);
}

/* ---- info and events --------------------------------------------------------------------- */

static bool
str_is(struct grapnel_str s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

void
identity_info(const struct identity *id, struct grapnel_client_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->client_id = identity_client_id(id);
	info->username = identity_username(id);
	info->mountpoint = id->site->mountpoint;
	info->peer = identity_peer(id);
	info->listener = id->site->listener;
	info->attributes = identity_attributes(id);
	info->attribute_count = id->attribute_count;
	info->session_generation = id->session_generation;
	info->protocol = id->protocol;
	info->superuser = id->superuser;
	info->anonymous = id->anonymous;
	info->identity_source = id->source;
	for (size_t i = 0; i < info->attribute_count; i++) {
		if (str_is(info->attributes[i].name, "cert.subject")) {
			info->certificate_subject = info->attributes[i].value;
			break;
		}
	}
}

void
session_info(const struct session *s, struct grapnel_client_info *info)
{
	identity_info(s->identity, info);
	info->client = (struct grapnel_client *)(uintptr_t)&s->client;
	info->clean_start = s->clean_start;
	info->session_expiry = session_expiry(s);
	if (s->conn != NULL)
		info->keep_alive = s->conn->keep_alive;
}

void
core_event(struct worker *w, enum grapnel_event_type type, const struct session *s,
    const struct message *msg, uint8_t reason_code, const char *reason)
{
	struct grapnel_client_info info;
	struct grapnel_message_info mi;
	struct grapnel_event ev = { .type = type, .reason_code = reason_code };

	if (s != NULL) {
		session_info(s, &info);
		ev.client = &info;
	} else if (msg != NULL && msg->author != NULL) {
		identity_info(msg->author, &info);
		ev.client = &info;
	}
	if (msg != NULL) {
		message_info_of(msg,
		    s != NULL                 ? session_mountpoint(s)
			: msg->author != NULL ? msg->author->site->mountpoint
					      : (struct grapnel_str){ "", 0 },
		    &mi);
		ev.message = &mi;
		ev.qos = msg->qos;
	}
	if (reason != NULL)
		ev.reason = (struct grapnel_str){ reason, strlen(reason) };
	event_emit(w, &ev);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct session *
session_make(struct worker *w, struct identity *identity)
{
	struct session *s = session_table_add(w, identity);

	if (s == NULL) {
		identity_unref(identity);
		return NULL;
	}
	s->flow = (struct flow *)(uintptr_t)&no_flow;
	s->mountpoint_len = (uint32_t)identity->site->mountpoint.len;
	atomic_fetch_add_explicit(&w->broker->sessions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SESSIONS, 1);
	return s;
}

struct session *
session_new(struct worker *w, struct identity *identity)
{
	struct session *s = session_make(w, identity);

	if (s != NULL && event_wanted(w, GRAPNEL_EVENT_SESSION_CREATED))
		core_event(w, GRAPNEL_EVENT_SESSION_CREATED, s, NULL, 0, NULL);
	return s;
}

void
session_new_login(struct session *s, struct identity *identity)
{
	if (s->extra != NULL) {
		hooks_cancel(s->w, s->extra->revalidating); /* it asks about the login before */
		s->extra->revalidating = NULL;
	}
	/* The messages of the old login keep the old identity; it is counted. */
	identity->session_generation = session_generation(s);
	identity_unref(s->identity);
	s->identity = identity; /* of the same client id and mountpoint: it was found by them */
	s->rights_epoch++;
	rights_cache_free(s);
}

uint32_t
session_expiry_effective(const struct session *s)
{
	uint32_t expiry = session_expiry(s);

	return expiry < s->limits->max_session_expiry ? expiry : s->limits->max_session_expiry;
}

bool
session_expired(const struct session *s)
{
	return s->conn == NULL && s->extra != NULL && s->w->now_ms >= s->extra->expires_at_ms;
}

void
session_attach(struct session *s, struct conn *c)
{
	s->conn = c;
	s->congested = false;
	if (s->extra != NULL) {
		s->extra->expires_at_ms = UINT64_MAX;
		s->extra->will_at_ms = 0;
		s->extra->valid_until = 0;
		timer_disarm(s->w->wheel, &s->extra->timer);
	}
	metric_add(&s->w->metrics, METRIC_SESSIONS_ONLINE, 1);
}

static void
fire_will(struct session *s)
{
	struct session_extra *x = s->extra;
	struct message *will = x != NULL ? x->will : NULL;

	if (will == NULL)
		return;
	x->will = NULL;
	x->will_at_ms = 0;
	durable_session_changed(s);
	will_publish(s->w, will, session_plugin_name(s->w, s->auth_plugin), x->rules);
}

/* The one timer: a delayed will, the end of the session, the end of a login. */
static void
session_arm(struct session *s)
{
	struct session_extra *x = s->extra;
	uint64_t due = UINT64_MAX;

	if (s->conn != NULL) {
		if (x->valid_until != 0) {
			int64_t left_ms = x->valid_until * 1000 - clock_wall_us() / 1000;

			/* In portions, since the wall clock may be set meanwhile. */
			due = s->w->now_ms +
			    (left_ms <= 0             ? 0
				    : left_ms > 60000 ? 60000
						      : (uint64_t)left_ms);
		}
	} else {
		due = x->expires_at_ms;
		if (x->will != NULL && x->will_at_ms < due)
			due = x->will_at_ms;
	}
	if (due == UINT64_MAX)
		timer_disarm(s->w->wheel, &x->timer);
	else
		timer_arm(s->w->wheel, &x->timer, due);
}

void
session_restored(struct session *s)
{
	session_arm(s);
}

int
session_set_valid_until(struct session *s, int64_t when)
{
	struct session_extra *x = when != 0 ? session_extra(s) : s->extra;

	if (x == NULL)
		return when != 0 ? GRAPNEL_ENOMEM : GRAPNEL_OK;
	x->valid_until = when;
	session_arm(s);
	return GRAPNEL_OK;
}

static void
on_session_timer(struct timer *t, void *owner)
{
	struct session_extra *x =
	    (struct session_extra *)(void *)((char *)t - offsetof(struct session_extra, timer));
	struct session *s = x->session;
	uint64_t now = s->w->now_ms;

	(void)owner;
	if (s->conn != NULL) {
		if (x->valid_until != 0 && clock_wall_us() / 1000000 >= x->valid_until) {
			conn_close(s->conn, RC_MAXIMUM_CONNECT_TIME,
			    s->conn->extra != NULL && s->conn->extra->auth_method != NULL
				? "the login's time is over; re-authenticate (AUTH) before it is"
				: "the login's time is over");
			return;
		}
		session_arm(s);
		return;
	}
	if (x->will != NULL && now >= x->will_at_ms)
		fire_will(s);
	if (now >= x->expires_at_ms) {
		session_end(s, 0, "expired");
		return;
	}
	session_arm(s);
}

static void
on_retry_timer(struct timer *t, void *owner)
{
	struct flow *f = (struct flow *)(void *)((char *)t - offsetof(struct flow, retry_timer));

	(void)owner;
	deliver_pump(f->session);
}

void
session_detach(struct session *s, bool discard_will)
{
	struct worker *w = s->w;
	struct session_extra *x = s->extra;
	uint32_t expiry = session_expiry_effective(s);

	deliver_offline(s);
	shared_session_offline(s);
	s->conn = NULL;
	s->congested = false;
	metric_add(&w->metrics, METRIC_SESSIONS_ONLINE, -1);
	router_resume_paused(w); /* nobody needs to wait for this receiver any more */
	if (discard_will && x != NULL) {
		message_unref(x->will);
		x->will = NULL;
	}
	if (expiry == 0) {
		session_end(s, 0, "connection closed, expiry interval 0");
		return;
	}
	/* What has an expiry has extra. */
	x->expires_at_ms = expiry == UINT32_MAX ? UINT64_MAX : w->now_ms + (uint64_t)expiry * 1000;
	if (x->will != NULL) {
		if (x->will_delay == 0)
			fire_will(s);
		else /* at the latest when the session ends [MQTT-3.1.3-9] */
			x->will_at_ms = w->now_ms + (uint64_t)x->will_delay * 1000;
	}
	durable_session_changed(s);
	session_arm(s);
}

void
session_end(struct session *s, uint8_t reason_code, const char *why)
{
	struct worker *w = s->w;

	if (s->conn !=
	    NULL) { /* its connection goes first; that comes back here when nothing keeps the session */
		if (s->extra != NULL)
			s->extra->expiry = 0;
		conn_close(s->conn, reason_code, why);
		return;
	}
	if (strcmp(why, "expired") == 0)
		metric_add(&w->metrics, METRIC_SESSIONS_EXPIRED, 1);
	if (event_wanted(w, GRAPNEL_EVENT_SESSION_EXPIRED))
		core_event(w, GRAPNEL_EVENT_SESSION_EXPIRED, s, NULL, reason_code, why);
	fire_will(s); /* the Will Delay ends with the Session */
	durable_session_end(s);
	retained_clear(s);
	subs_clear(s);
	shared_session_end(s);
	deliver_clear(s);
	atomic_fetch_sub_explicit(&w->broker->sessions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SESSIONS, -1);
	session_free(s);
}
