/* SPDX-License-Identifier: Apache-2.0 */
/*
 * will - publishing a Will Message
 *
 * Its author is gone, perhaps for hours: is the user still good (client_revalidate), may it still publish there, what
 * does message_publish say? Each answer may come later; a backend that is down is asked again for a while.
 */
#include "base/log.h"
#include "core/acl.h"
#include "core/session.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000
#define RETRIES  60

enum will_stage { WILL_USER, WILL_RIGHTS, WILL_HOOK, WILL_RIGHTS_AGAIN, WILL_PUBLISH };

struct will_job {
	struct will_job *next, **link; /* in the worker's list, for shutdown */
	struct worker *w;
	struct message *msg;
	const char *auth_plugin; /* session_plugin_name */
	struct grapnel_rules *rules;
	struct grapnel_request *pending;
	struct timer timer;
	enum will_stage stage;
	unsigned retries;
	bool drop, no_retain;
	char *new_topic, *new_payload, *new_props; /* from message_publish */
	size_t new_topic_len, new_payload_len, new_props_len;
	int new_retain;      /* -1: as it was */
	int new_qos;         /* -1: as it was */
	bool new_expires;    /* with new_props */
	uint32_t new_expiry; /* seconds */
};

static void job_go(struct will_job *j);

static void
job_free(struct will_job *j)
{
	timer_disarm(j->w->wheel, &j->timer);
	hooks_cancel(j->w, j->pending);
	*j->link = j->next;
	if (j->next != NULL)
		j->next->link = j->link;
	message_unref(j->msg);
	acl_rules_unref(j->rules);
	free(j->new_topic);
	free(j->new_payload);
	free(j->new_props);
	free(j);
}

void
wills_clear(struct worker *w)
{
	while (w->core->wills != NULL)
		job_free(w->core->wills);
}

static void
refused(struct will_job *j, const char *why)
{
	const struct identity *id = j->msg->author;

	metric_add(&j->w->metrics, METRIC_WILLS_REFUSED, 1);
	log_at(GRAPNEL_LOG_NOTICE, "will_refused",
	    "client \"%.*s\" user \"%.*s\": Will Message to \"%.*s\" not published: %s",
	    STR(identity_client_id(id)), STR(identity_username(id)), STR(message_topic(j->msg)),
	    why);
	job_free(j);
}

static void
on_retry(struct timer *t, void *owner)
{
	(void)owner;
	job_go((struct will_job *)(void *)((char *)t - offsetof(struct will_job, timer)));
}

/* @return false: the job is gone or waits. */
static bool
unavailable(struct will_job *j)
{
	if (++j->retries > RETRIES) {
		refused(j, "the backend that decides is unavailable");
		return false;
	}
	worker_timer(j->w, &j->timer, RETRY_MS);
	return false;
}

static struct grapnel_str
job_topic(const struct will_job *j) /* without mountpoint */
{
	size_t skip = j->msg->author->site->mountpoint.len;

	if (j->new_topic != NULL)
		return (struct grapnel_str){ j->new_topic, j->new_topic_len };
	return (struct grapnel_str){ j->msg->topic + skip, j->msg->topic_len - skip };
}

static bool
take_user(struct will_job *j, enum grapnel_verdict v)
{
	if (v == GRAPNEL_UNAVAILABLE)
		return unavailable(j);
	if (v == GRAPNEL_DENY) {
		refused(j, "its user may not log in any more");
		return false;
	}
	j->stage = WILL_RIGHTS;
	return true;
}

static bool
take_rights(struct will_job *j, const struct rights_answer *a)
{
	if (a->verdict == GRAPNEL_UNAVAILABLE)
		return unavailable(j);
	if (a->verdict != GRAPNEL_ALLOW) {
		char why[512];

		metric_add(&j->w->metrics, METRIC_ACL_DENIED, 1);
		snprintf(why, sizeof(why), "no right to publish it%s%.*s",
		    a->rule.len > 0 ? ", denied by " : "",
		    a->rule.len < 400 ? (int)a->rule.len : 400,
		    a->rule.len > 0 ? a->rule.data : "");
		refused(j, why);
		return false;
	}
	j->drop |= (a->flags & GRAPNEL_ACL_DROP) != 0;
	j->no_retain |= (a->flags & GRAPNEL_ACL_NO_RETAIN) != 0; /* whatever message_publish says */
	j->stage++;
	return true;
}

static bool
take_bytes(char **out, size_t *out_len, struct grapnel_str from)
{
	free(*out);
	if ((*out = malloc(from.len + 1)) == NULL)
		return false;
	if (from.len > 0)
		memcpy(*out, from.data, from.len);
	*out_len = from.len;
	return true;
}

static bool
take_hook(struct will_job *j, const struct decision *d)
{
	const struct grapnel_publish_answer *a = d->publish;

	if (d->verdict == GRAPNEL_UNAVAILABLE)
		return unavailable(j);
	if (d->verdict == GRAPNEL_DENY) {
		refused(j, "refused by a plugin");
		return false;
	}
	j->stage = WILL_PUBLISH;
	if (d->verdict != GRAPNEL_ALLOW)
		return true;
	j->drop |= a->drop;
	if (a->has_retain)
		j->new_retain = a->retain;
	if (a->has_qos)
		j->new_qos = a->qos;
	if (a->topic_name.data != NULL) {
		if (a->topic_name.len > 65535 || !topic_name_valid(a->topic_name) ||
		    !utf8_valid(a->topic_name.data, a->topic_name.len) ||
		    !take_bytes(&j->new_topic, &j->new_topic_len, a->topic_name)) {
			refused(j, "a plugin made its topic invalid");
			return false;
		}
		j->stage = WILL_RIGHTS_AGAIN;
	}
	if (a->payload.data != NULL &&
	    !take_bytes(&j->new_payload, &j->new_payload_len, a->payload)) {
		refused(j, "out of memory");
		return false;
	}
	if (a->has_properties) {
		free(j->new_props);
		j->new_props = message_props_new(a->properties, a->property_count,
		    &j->new_props_len, &j->new_expires, &j->new_expiry);
		if (j->new_props == NULL) {
			refused(j, "out of memory");
			return false;
		}
	}
	/* RETAIN, or a higher QoS, may be what the author has no right to. */
	if ((a->has_retain && a->retain && !(j->msg->flags & MSG_RETAIN)) ||
	    j->new_qos > j->msg->qos)
		j->stage = WILL_RIGHTS_AGAIN;
	return true;
}

static void
on_user_later(void *arg, const struct decision *d)
{
	struct will_job *j = arg;

	j->pending = NULL;
	if (take_user(j, d->verdict))
		job_go(j);
}

static void
on_rights_later(void *arg, const struct decision *d)
{
	struct will_job *j = arg;
	struct rights_answer a;

	j->pending = NULL;
	rights_from(d, &a);
	if (take_rights(j, &a))
		job_go(j);
}

static void
on_hook_later(void *arg, const struct decision *d)
{
	struct will_job *j = arg;

	j->pending = NULL;
	if (take_hook(j, d))
		job_go(j);
}

static void
job_publish(struct will_job *j)
{
	struct worker *w = j->w;
	struct grapnel_str mp = j->msg->author->site->mountpoint;
	struct message m = message_view(j->msg); /* with what has changed */
	char *topic = NULL;

	if (j->new_props != NULL) {
		m.flags =
		    (uint8_t)(j->new_expires ? m.flags | MSG_EXPIRES : m.flags & ~MSG_EXPIRES);
		m.expires_at_ms = (uint64_t)j->new_expiry * 1000;
	}
	m.flags &= (uint8_t)~MSG_INTERVAL; /* which begins now */
	if (m.flags & MSG_EXPIRES)
		m.expires_at_ms += w->now_ms;
	if (j->new_qos >= 0)
		m.qos = (uint8_t)j->new_qos;
	if (j->new_retain >= 0)
		m.flags = (uint8_t)(j->new_retain ? m.flags | MSG_RETAIN : m.flags & ~MSG_RETAIN);
	if (j->no_retain)
		m.flags &= (uint8_t)~MSG_RETAIN;
	if (j->new_topic != NULL && mp.len + j->new_topic_len <= 65535 &&
	    (topic = malloc(mp.len + j->new_topic_len + 1)) != NULL) {
		memcpy(topic, mp.data, mp.len);
		memcpy(topic + mp.len, j->new_topic, j->new_topic_len);
		m.topic = topic;
		m.topic_len = (uint16_t)(mp.len + j->new_topic_len);
	}
	if (j->new_payload != NULL) {
		m.payload = j->new_payload;
		m.payload_len = (uint32_t)j->new_payload_len;
	}
	if (j->new_props != NULL) {
		m.props = j->new_props;
		m.props_len = (uint32_t)j->new_props_len;
	}
	if (!j->drop && (j->new_topic == NULL || topic != NULL)) {
		router_publish_one(w, &m);
		metric_add(&w->metrics, METRIC_WILLS_PUBLISHED, 1);
		if (event_wanted(w, GRAPNEL_EVENT_WILL_PUBLISHED))
			core_event(w, GRAPNEL_EVENT_WILL_PUBLISHED, NULL, &m, 0, NULL);
	}
	message_release_borrowed(&m);
	free(topic);
	job_free(j);
}

static void
job_go(struct will_job *j)
{
	struct worker *w = j->w;
	const struct identity *id = j->msg->author;
	struct grapnel_client_info info;
	bool go_on = true;

	identity_info(id, &info);
	while (go_on) {
		switch (j->stage) {
		case WILL_USER: {
			struct grapnel_revalidate q = { .size = sizeof(q), .client = &info };
			struct decision now;

			if (j->auth_plugin == NULL || !hook_used(w, HOOK_REVALIDATE)) {
				j->stage = WILL_RIGHTS;
				break;
			}
			if (!hooks_ask(w, HOOK_REVALIDATE, &q, j->auth_plugin, on_user_later, j,
				&now, &j->pending))
				return;
			go_on = take_user(j, now.verdict);
			decision_release(&now);
			break;
		}
		case WILL_RIGHTS:
		case WILL_RIGHTS_AGAIN: {
			struct rights_question q = { .action = GRAPNEL_WILL,
				.qos = j->new_qos >= 0 ? (uint8_t)j->new_qos : j->msg->qos,
				.retain = j->new_retain >= 0 ? j->new_retain != 0
							     : (j->msg->flags & MSG_RETAIN) != 0,
				.topic = job_topic(j),
				.msg = j->msg,
				.mounted = true };
			struct rights_answer now;

			if (!rights_ask(
				w, NULL, id, j->rules, &q, on_rights_later, j, &now, &j->pending))
				return;
			go_on = take_rights(j, &now);
			break;
		}
		case WILL_HOOK: {
			struct grapnel_message_info mi;
			struct grapnel_message_publish q = {
				.size = sizeof(q), .client = &info, .message = &mi
			};
			struct decision now;

			if (!hook_used(w, HOOK_PUBLISH) || j->drop) {
				j->stage = WILL_PUBLISH;
				break;
			}
			message_info_of(j->msg, id->site->mountpoint, &mi);
			if (!hooks_ask(
				w, HOOK_PUBLISH, &q, NULL, on_hook_later, j, &now, &j->pending))
				return;
			go_on = take_hook(j, &now);
			decision_release(&now);
			break;
		}
		case WILL_PUBLISH:
			job_publish(j);
			return;
		}
	}
}

void
will_publish(
    struct worker *w, struct message *will, const char *auth_plugin, struct grapnel_rules *rules)
{
	struct will_job *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		message_unref(will);
		metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		return;
	}
	j->w = w;
	j->msg = will;
	j->auth_plugin = auth_plugin;
	j->rules = rules != NULL ? acl_rules_ref(rules) : NULL;
	j->new_retain = j->new_qos = -1;
	timer_init(&j->timer, on_retry);
	j->next = w->core->wills;
	j->link = &w->core->wills;
	if (j->next != NULL)
		j->next->link = &j->next;
	w->core->wills = j;
	job_go(j);
}
