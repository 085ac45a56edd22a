/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostcalls - what plugins and the admin API may do with clients and messages, from whatever thread they are on
 */
#include "base/log.h"
#include "core/session.h"
#include "mqtt/topic.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* ---- publishing --------------------------------------------------------------------------------- */

struct publish_mail {
	struct mail mail;
	struct message *msg;
};

static void
on_publish(struct worker *w, struct mail *m)
{
	struct publish_mail *pm = (struct publish_mail *)(void *)m;

	if (!w->core->stopping)
		router_publish_one(w, pm->msg);
	message_unref(pm->msg);
	free(pm);
}

int
core_publish(struct broker *b, const struct grapnel_publication *pub)
{
	struct worker *w = worker_self != NULL && worker_self->index < b->worker_count
	    ? worker_self
	    : b->workers[0];
	struct message m = { 0 };
	struct publish_mail *pm;
	struct grapnel_property kept[256];
	size_t n = 0, len;
	char *props;

	if (pub->topic_name.len > 65535 || pub->payload.len > 268435455 || pub->qos > 2 ||
	    pub->property_count > 256 || !utf8_valid(pub->topic_name.data, pub->topic_name.len) ||
	    !topic_name_valid(pub->topic_name))
		return GRAPNEL_EINVAL;
	for (size_t i = 0; i < pub->property_count; i++) {
		switch (pub->properties[i].id) {
		case PROP_MESSAGE_EXPIRY:
			m.flags |= MSG_EXPIRES;
			m.expires_at_ms = clock_ms() + (uint64_t)pub->properties[i].u.number * 1000;
			break;
		case PROP_PAYLOAD_FORMAT:
		case PROP_CONTENT_TYPE:
		case PROP_RESPONSE_TOPIC:
		case PROP_CORRELATION_DATA:
		case PROP_USER_PROPERTY:
			kept[n++] = pub->properties[i];
			break;
		default:
			return GRAPNEL_EINVAL;
		}
	}
	len = mqtt_properties_size(kept, n);
	if ((props = malloc(len + 1)) == NULL)
		return GRAPNEL_ENOMEM;
	mqtt_properties_put((uint8_t *)props, kept, n);
	m.qos = pub->qos;
	m.flags |= pub->retain ? MSG_RETAIN : 0;
	m.topic = pub->topic_name.data;
	m.topic_len = (uint16_t)pub->topic_name.len;
	m.props = props;
	m.props_len = (uint32_t)len;
	m.payload = pub->payload.data;
	m.payload_len = (uint32_t)pub->payload.len;
	if ((pm = malloc(sizeof(*pm))) != NULL && (pm->msg = message_keep(&m)) == NULL) {
		free(pm);
		pm = NULL;
	}
	message_release_borrowed(&m);
	free(props);
	if (pm == NULL)
		return GRAPNEL_ENOMEM;
	pm->mail.fn = on_publish;
	worker_post(w, &pm->mail);
	return GRAPNEL_OK;
}

/* ---- finding and disconnecting clients ------------------------------------------------------------- */

struct client_mail {
	struct mail mail;
	uint8_t reason_code;
	/* client_find only */
	struct worker *from;
	void (*fn)(void *arg, const struct grapnel_client_info *info);
	void *arg;
	struct identity *found;
	struct grapnel_client_info info;
	size_t mountpoint_len, id_len;
	char text[]; /* mountpoint, client id */
};

static struct client_mail *
client_mail_new(struct grapnel_str mountpoint, struct grapnel_str client_id)
{
	struct client_mail *m = calloc(1, sizeof(*m) + mountpoint.len + client_id.len + 1);

	if (m == NULL)
		return NULL;
	m->mountpoint_len = mountpoint.len;
	m->id_len = client_id.len;
	if (mountpoint.len > 0)
		memcpy(m->text, mountpoint.data, mountpoint.len);
	if (client_id.len > 0)
		memcpy(m->text + mountpoint.len, client_id.data, client_id.len);
	return m;
}

static struct session *
client_mail_session(struct worker *w, const struct client_mail *m)
{
	return session_find(w, (struct grapnel_str){ m->text, m->mountpoint_len },
	    (struct grapnel_str){ m->text + m->mountpoint_len, m->id_len });
}

static void
on_kick(struct worker *w, struct mail *mail)
{
	struct client_mail *m = (struct client_mail *)(void *)mail;
	struct session *s = client_mail_session(w, m);

	if (s != NULL && s->conn != NULL)
		conn_close(s->conn, m->reason_code, "disconnected by the operator or a plugin");
	free(m);
}

int
core_kick(struct broker *b, struct grapnel_str mountpoint, struct grapnel_str client_id,
    uint8_t reason_code)
{
	struct client_mail *m = client_mail_new(mountpoint, client_id);

	if (m == NULL)
		return GRAPNEL_ENOMEM;
	m->reason_code = reason_code >= 0x80 ? reason_code : RC_ADMINISTRATIVE_ACTION;
	m->mail.fn = on_kick;
	worker_post(b->workers[broker_home(b, client_id)], &m->mail);
	return GRAPNEL_OK;
}

static void
on_found(struct worker *w, struct mail *mail)
{
	struct client_mail *m = (struct client_mail *)(void *)mail;

	(void)w;
	m->fn(m->arg, m->found != NULL ? &m->info : NULL);
	identity_unref(m->found);
	free(m);
}

static void
on_find(struct worker *w, struct mail *mail)
{
	struct client_mail *m = (struct client_mail *)(void *)mail;
	struct session *s = client_mail_session(w, m);

	if (s != NULL) {
		session_info(s, &m->info);
		m->info.client = NULL;                /* it is another thread's */
		m->found = identity_ref(s->identity); /* what the strings live in */
	}
	m->mail.fn = on_found;
	worker_post(m->from, &m->mail);
}

int
core_client_find(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str client_id,
    void (*fn)(void *arg, const struct grapnel_client_info *info), void *arg)
{
	struct client_mail *m = client_mail_new(mountpoint, client_id);

	if (m == NULL)
		return GRAPNEL_ENOMEM;
	m->from = w;
	m->fn = fn;
	m->arg = arg;
	m->mail.fn = on_find;
	worker_post(w->broker->workers[broker_home(w->broker, client_id)], &m->mail);
	return GRAPNEL_OK;
}

/* ---- a plugin's own subscriptions ---------------------------------------------------------------------- */

struct grapnel_sub {
	struct mail mail, add; /* two, since both may be under way */
	struct sub sub;
	struct worker *w;
	grapnel_message_fn fn; /* NULL: unsubscribed */
	void *arg;
	bool added; /* to its node */
};

static void
on_add(struct worker *w, struct mail *m)
{
	struct grapnel_sub *g =
	    (struct grapnel_sub *)(void *)((char *)m - offsetof(struct grapnel_sub, add));

	g->added = node_add(w, g->sub.node, &g->sub) == GRAPNEL_OK;
	if (!g->added)
		log_error("out of memory: a plugin's subscription gets no messages");
}

struct grapnel_sub *
core_subscribe(struct worker *w, struct grapnel_str filter, grapnel_message_fn fn, void *arg)
{
	struct grapnel_sub *g;
	struct topic_node *node;

	if (w->index >= w->broker->worker_count || filter.len == 0 || filter.len > 65535 ||
	    !utf8_valid(filter.data, filter.len) || !topic_filter_valid(filter, NULL, NULL) ||
	    (filter.len > 7 && memcmp(filter.data, "$share/", 7) == 0))
		return NULL;
	if ((g = calloc(1, sizeof(*g))) == NULL)
		return NULL;
	g->w = w;
	g->fn = fn;
	g->arg = arg;
	g->sub.u.internal = g;
	g->sub.flags = SUB_INTERNAL;
	g->sub.qos = 2;
	if (topic_index_acquire(w->broker->index, filter, &node) != GRAPNEL_OK) {
		free(g);
		return NULL;
	}
	g->sub.node = node;
	if (router_busy(
		w)) { /* called from a hook or a message's callback: the node's array is being walked */
		g->add.fn = on_add;
		worker_post(w, &g->add);
		return g;
	}
	if (node_add(w, node, &g->sub) != GRAPNEL_OK) {
		topic_index_release(w->broker->index, node);
		free(g);
		return NULL;
	}
	g->added = true;
	return g;
}

static void
on_unsubscribe(struct worker *w, struct mail *m)
{
	struct grapnel_sub *g = (struct grapnel_sub *)(void *)m;

	if (g->added)
		node_remove(w, &g->sub);
	topic_index_release(w->broker->index, g->sub.node);
	free(g);
}

void
core_unsubscribe(struct grapnel_sub *g)
{
	g->fn =
	    NULL; /* it may be called from inside its own callback, while the node's array is walked */
	g->mail.fn = on_unsubscribe;
	worker_post(g->w, &g->mail);
}

void
internal_deliver(struct grapnel_sub *g, const struct message *msg)
{
	struct grapnel_message_info mi;

	if (g->fn == NULL)
		return;
	message_info_of(msg, (struct grapnel_str){ "", 0 }, &mi);
	g->fn(g->arg, &mi);
}

/* ---- walks ---------------------------------------------------------------------------------------------- */

struct each {
	void (*fn)(struct grapnel_client *c, void *arg);
	void *arg;
};

static void
each_session(struct session *s, void *arg)
{
	struct each *e = arg;

	e->fn(&s->client, e->arg);
}

void
core_each_client(struct worker *w, void (*fn)(struct grapnel_client *c, void *arg), void *arg)
{
	struct each e = { fn, arg };

	if (w->core == NULL)
		return;
	session_each(w, each_session, &e);
	for (uint32_t i = 0; i < w->core->conn_capacity; i++) {
		struct grapnel_client *c =
		    w->core->conns[i] != NULL ? connecting_client(w->core->conns[i]) : NULL;

		if (c != NULL)
			fn(c, arg);
	}
}

void
core_resume_publishers(struct worker *w)
{
	if (w->core == NULL)
		return;
	for (uint32_t i = 0; i < w->core->conn_capacity; i++)
		if (w->core->conns[i] != NULL)
			conn_resume(w->core->conns[i], PAUSE_EVENTS);
	router_resume_paused(w); /* and those that the router paused for it */
}
