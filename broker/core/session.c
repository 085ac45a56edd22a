/* SPDX-License-Identifier: Apache-2.0 */
#include "core/session.h"

#include "base/log.h"
#include "core/acl.h"

#include <stdlib.h>
#include <string.h>

/* Two hash tables over the same sessions: by (mountpoint, client id), and by generation for mail from other threads. */
struct session_table {
	struct session **by_id, **by_generation;
	size_t capacity, count; /* a power of two */
};

static void on_session_timer(struct timer *t, void *owner);
static void on_retry_timer(struct timer *t, void *owner);

/* ---- the table ------------------------------------------------------------------------- */

static uint64_t
id_hash(const struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	/* The length of the first part separates ("a", "bc") from ("ab", "c"). */
	return broker_hash(w->broker, mountpoint) * 0x9e3779b97f4a7c15u +
	    broker_hash(w->broker, client_id) + mountpoint.len;
}

static size_t
generation_slot(const struct session_table *t, uint64_t generation)
{
	return (size_t)(generation * 0x9e3779b97f4a7c15u >> 20) & (t->capacity - 1);
}

int
session_table_new(struct worker *w)
{
	struct session_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	t->capacity = 64;
	t->by_id = calloc(t->capacity, sizeof(struct session *));
	t->by_generation = calloc(t->capacity, sizeof(struct session *));
	w->sessions = t;
	return t->by_id != NULL && t->by_generation != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

static void
table_grow(struct session_table *t)
{
	size_t capacity = t->capacity * 2;
	struct session **by_id = calloc(capacity, sizeof(struct session *));
	struct session **by_generation = calloc(capacity, sizeof(struct session *));

	if (by_id == NULL || by_generation == NULL) { /* longer chains then; nothing is lost */
		free(by_id);
		free(by_generation);
		return;
	}
	for (size_t i = 0; i < t->capacity; i++) {
		for (struct session *s = t->by_id[i], *next; s != NULL; s = next) {
			next = s->hash_next;
			s->hash_next = by_id[s->hash & (capacity - 1)];
			by_id[s->hash & (capacity - 1)] = s;
		}
	}
	for (size_t i = 0; i < t->capacity; i++) {
		for (struct session *s = t->by_generation[i], *next; s != NULL; s = next) {
			size_t at =
			    (size_t)(s->generation * 0x9e3779b97f4a7c15u >> 20) & (capacity - 1);

			next = s->generation_next;
			s->generation_next = by_generation[at];
			by_generation[at] = s;
		}
	}
	free(t->by_id);
	free(t->by_generation);
	t->by_id = by_id;
	t->by_generation = by_generation;
	t->capacity = capacity;
}

struct session *
session_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	uint64_t hash = id_hash(w, mountpoint, client_id);
	struct session *s = w->sessions->by_id[hash & (w->sessions->capacity - 1)];

	for (; s != NULL; s = s->hash_next) {
		const struct identity *id = s->identity;

		if (s->hash == hash && id->client_id.len == client_id.len &&
		    id->mountpoint.len == mountpoint.len &&
		    memcmp(id->client_id.data, client_id.data, client_id.len) == 0 &&
		    (mountpoint.len == 0 ||
			memcmp(id->mountpoint.data, mountpoint.data, mountpoint.len) == 0))
			return s;
	}
	return NULL;
}

struct session *
session_by_generation(struct worker *w, uint64_t generation)
{
	struct session *s = w->sessions->by_generation[generation_slot(w->sessions, generation)];

	while (s != NULL && s->generation != generation)
		s = s->generation_next;
	return s;
}

void
session_each(struct worker *w, void (*fn)(struct session *s, void *arg), void *arg)
{
	struct session_table *t = w->sessions;

	for (size_t i = 0; i < t->capacity; i++) {
		for (struct session *s = t->by_id[i], *next; s != NULL; s = next) {
			next = s->hash_next;
			fn(s, arg);
		}
	}
}

static void
table_remove(struct session *s)
{
	struct session_table *t = s->w->sessions;
	struct session **p = &t->by_id[s->hash & (t->capacity - 1)];

	while (*p != s)
		p = &(*p)->hash_next;
	*p = s->hash_next;
	p = &t->by_generation[generation_slot(t, s->generation)];
	while (*p != s)
		p = &(*p)->generation_next;
	*p = s->generation_next;
	t->count--;
}

static void
session_free(struct session *s)
{
	struct worker *w = s->w;

	timer_disarm(w->wheel, &s->timer);
	timer_disarm(w->wheel, &s->retry_timer);
	hooks_cancel(w, s->revalidating);
	client_slots_free(w, &s->client);
	rights_cache_free(s);
	acl_rules_unref(s->rules);
	message_unref(s->will);
	identity_unref(s->identity);
	settings_unref(s->settings);
	free(s->own_limits);
	free(s->auth_plugin);
	free(s->subs);
	free(s->members);
	id_set_clear(&s->received);
	free(s);
}

void
session_table_free(struct worker *w)
{
	struct session_table *t = w->sessions;

	if (t == NULL)
		return;
	for (size_t i = 0; t->by_id != NULL && i < t->capacity; i++) {
		for (struct session *s = t->by_id[i], *next; s != NULL; s = next) {
			next = s->hash_next;
			retained_clear(s);
			deliver_clear(s);
			subs_clear(s);
			shared_session_end(s);
			queue_clear(&s->queue);
			inflight_clear(&s->inflight);
			session_free(s);
		}
	}
	free(t->by_id);
	free(t->by_generation);
	free(t);
	w->sessions = NULL;
}

/* ---- info and events --------------------------------------------------------------------- */

void
identity_info(const struct identity *id, struct grapnel_client_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = sizeof(*info);
	info->client_id = id->client_id;
	info->username = id->username;
	info->mountpoint = id->mountpoint;
	info->peer = id->peer;
	info->listener = id->listener;
	info->attributes = id->attributes;
	info->attribute_count = id->attribute_count;
	info->session_generation = id->session_generation;
	info->protocol = id->protocol;
	info->superuser = id->superuser;
	info->anonymous = id->anonymous;
}

void
session_info(const struct session *s, struct grapnel_client_info *info)
{
	identity_info(s->identity, info);
	info->client = (struct grapnel_client *)(uintptr_t)&s->client;
	info->session_generation = s->generation;
	info->clean_start = s->clean_start;
	info->session_expiry = s->expiry;
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
		    s != NULL                 ? s->identity->mountpoint
			: msg->author != NULL ? msg->author->mountpoint
					      : (struct grapnel_str){ "", 0 },
		    w->now_ms, &mi);
		ev.message = &mi;
		ev.qos = msg->qos;
	}
	if (reason != NULL)
		ev.reason = (struct grapnel_str){ reason, strlen(reason) };
	event_emit(w, &ev);
}

/* ---- life ------------------------------------------------------------------------------------ */

struct session *
session_new(struct worker *w, struct identity *identity)
{
	struct session_table *t = w->sessions;
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		identity_unref(identity);
		return NULL;
	}
	s->w = w;
	s->identity = identity;
	s->generation =
	    atomic_fetch_add_explicit(&w->broker->session_generation, 1, memory_order_relaxed) + 1;
	s->hash = id_hash(w, identity->mountpoint, identity->client_id);
	s->expires_at_ms = UINT64_MAX;
	timer_init(&s->timer, on_session_timer);
	timer_init(&s->retry_timer, on_retry_timer);
	if (t->count >= t->capacity)
		table_grow(t);
	s->hash_next = t->by_id[s->hash & (t->capacity - 1)];
	t->by_id[s->hash & (t->capacity - 1)] = s;
	s->generation_next = t->by_generation[generation_slot(t, s->generation)];
	t->by_generation[generation_slot(t, s->generation)] = s;
	t->count++;
	atomic_fetch_add_explicit(&w->broker->sessions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SESSIONS, 1);
	if (event_wanted(w, GRAPNEL_EVENT_SESSION_CREATED))
		core_event(w, GRAPNEL_EVENT_SESSION_CREATED, s, NULL, 0, NULL);
	return s;
}

void
session_new_login(struct session *s, struct identity *identity)
{
	hooks_cancel(s->w, s->revalidating); /* it asks about the login before */
	s->revalidating = NULL;
	/* The messages of the old login keep the old identity; it is counted. */
	identity_unref(s->identity);
	s->identity = identity;
	s->rights_epoch++;
	rights_cache_free(s);
	if (event_wanted(s->w, GRAPNEL_EVENT_SESSION_RESUMED))
		core_event(s->w, GRAPNEL_EVENT_SESSION_RESUMED, s, NULL, 0, NULL);
}

uint32_t
session_expiry_effective(const struct session *s)
{
	return s->expiry < s->limits->max_session_expiry ? s->expiry
							 : s->limits->max_session_expiry;
}

void
session_attach(struct session *s, struct conn *c)
{
	s->conn = c;
	s->expires_at_ms = UINT64_MAX;
	s->will_at_ms = 0;
	s->congested_since_ms = 0;
	s->valid_until = 0;
	timer_disarm(s->w->wheel, &s->timer);
	metric_add(&s->w->metrics, METRIC_SESSIONS_ONLINE, 1);
}

static void
fire_will(struct session *s)
{
	struct message *will = s->will;

	if (will == NULL)
		return;
	s->will = NULL;
	s->will_at_ms = 0;
	will_publish(s->w, will, s->auth_plugin, s->rules);
}

/* The one timer: a delayed will, the end of the session, the end of a login. */
static void
session_arm(struct session *s)
{
	uint64_t due = UINT64_MAX;

	if (s->conn != NULL) {
		if (s->valid_until != 0) {
			int64_t left_ms = s->valid_until * 1000 - clock_wall_us() / 1000;

			/* In portions, since the wall clock may be set meanwhile. */
			due = s->w->now_ms +
			    (left_ms <= 0             ? 0
				    : left_ms > 60000 ? 60000
						      : (uint64_t)left_ms);
		}
	} else {
		due = s->expires_at_ms;
		if (s->will != NULL && s->will_at_ms < due)
			due = s->will_at_ms;
	}
	if (due == UINT64_MAX)
		timer_disarm(s->w->wheel, &s->timer);
	else
		timer_arm(s->w->wheel, &s->timer, due);
}

void
session_set_valid_until(struct session *s, int64_t when)
{
	s->valid_until = when;
	session_arm(s);
}

static void
on_session_timer(struct timer *t, void *owner)
{
	struct session *s = (struct session *)(void *)((char *)t - offsetof(struct session, timer));
	uint64_t now = s->w->now_ms;

	(void)owner;
	if (s->conn != NULL) {
		if (s->valid_until != 0 && clock_wall_us() / 1000000 >= s->valid_until) {
			conn_close(s->conn, RC_MAXIMUM_CONNECT_TIME, "the login's time is over");
			return;
		}
		session_arm(s);
		return;
	}
	if (s->will != NULL && now >= s->will_at_ms)
		fire_will(s);
	if (now >= s->expires_at_ms) {
		session_end(s, 0, "expired");
		return;
	}
	session_arm(s);
}

static void
on_retry_timer(struct timer *t, void *owner)
{
	struct session *s =
	    (struct session *)(void *)((char *)t - offsetof(struct session, retry_timer));

	(void)owner;
	deliver_pump(s);
}

void
session_detach(struct session *s, bool discard_will)
{
	struct worker *w = s->w;
	uint32_t expiry = session_expiry_effective(s);

	deliver_offline(s);
	shared_session_offline(s);
	s->conn = NULL;
	s->congested_since_ms = 0;
	metric_add(&w->metrics, METRIC_SESSIONS_ONLINE, -1);
	router_resume_paused(w); /* nobody needs to wait for this receiver any more */
	if (discard_will) {
		message_unref(s->will);
		s->will = NULL;
	}
	if (expiry == 0) {
		session_end(s, 0, "connection closed, expiry interval 0");
		return;
	}
	s->expires_at_ms = expiry == UINT32_MAX ? UINT64_MAX : w->now_ms + (uint64_t)expiry * 1000;
	if (s->will != NULL) {
		if (s->will_delay == 0)
			fire_will(s);
		else /* at the latest when the session ends [MQTT-3.1.3-9] */
			s->will_at_ms = w->now_ms + (uint64_t)s->will_delay * 1000;
	}
	session_arm(s);
}

void
session_end(struct session *s, uint8_t reason_code, const char *why)
{
	struct worker *w = s->w;

	if (s->conn !=
	    NULL) { /* its connection goes first; that comes back here when nothing keeps the session */
		s->expiry = 0;
		conn_close(s->conn, reason_code, why);
		return;
	}
	if (strcmp(why, "expired") == 0)
		metric_add(&w->metrics, METRIC_SESSIONS_EXPIRED, 1);
	if (event_wanted(w, GRAPNEL_EVENT_SESSION_EXPIRED))
		core_event(w, GRAPNEL_EVENT_SESSION_EXPIRED, s, NULL, reason_code, why);
	fire_will(s); /* the Will Delay ends with the Session */
	retained_clear(s);
	subs_clear(s);
	shared_session_end(s);
	deliver_clear(s);
	table_remove(s);
	atomic_fetch_sub_explicit(&w->broker->sessions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SESSIONS, -1);
	session_free(s);
}
