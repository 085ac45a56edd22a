/* SPDX-License-Identifier: Apache-2.0 */
#include "core/deciding.h"

#include "core/durable.h"
#include "mqtt/topic.h"

#include <stdlib.h>
#include <string.h>

#define RETRY_MS 1000

static void
pending_drop(struct pending_delivery *pd, enum metric m, const char *why)
{
	pd->state = DROP;
	pd->drop_metric = m;
	pd->drop_why = why;
}

static struct grapnel_str
unmounted_topic(const struct session *s, const struct message *msg)
{
	size_t skip = s->mountpoint_len <= msg->topic_len ? s->mountpoint_len : 0;

	return (struct grapnel_str){ msg->topic + skip, msg->topic_len - skip };
}

static void
take_read(struct pending_delivery *pd, enum grapnel_verdict verdict)
{
	if (verdict == GRAPNEL_ALLOW)
		pd->state = pd->stage == ASK_READ ? ASK_HOOK : SEND;
	else if (verdict == GRAPNEL_UNAVAILABLE)
		pd->state = RETRY;
	else
		pending_drop(pd, METRIC_MESSAGES_DROPPED_DENIED, "no right to read it");
}

/* What message_deliver changed, as a message of its own. */
static bool
changed_message(struct pending_delivery *pd, const struct grapnel_publish_answer *a)
{
	struct session *s = pd->s;
	struct grapnel_str mp = session_mountpoint(s);
	struct message m = message_view(pd->e.msg), *neu;
	char *topic = NULL, *props = NULL;
	bool good = true;

	if (a->topic_name.data == NULL && a->payload.data == NULL && !a->has_properties)
		return true;
	if (a->topic_name.data != NULL) {
		if (mp.len + a->topic_name.len > 65535 || !topic_name_valid(a->topic_name) ||
		    !utf8_valid(a->topic_name.data, a->topic_name.len) ||
		    (topic = malloc(mp.len + a->topic_name.len)) == NULL)
			return false;
		memcpy(topic, mp.data, mp.len);
		memcpy(topic + mp.len, a->topic_name.data, a->topic_name.len);
		m.topic = topic;
		m.topic_len = (uint16_t)(mp.len + a->topic_name.len);
	}
	if (a->payload.data != NULL) {
		m.payload = a->payload.data;
		m.payload_len = (uint32_t)a->payload.len;
	}
	if (a->has_properties) {
		uint32_t expiry;
		bool expires;
		size_t len;

		if ((props = message_props_new(
			 a->properties, a->property_count, &len, &expires, &expiry)) == NULL) {
			free(topic);
			return false;
		}
		m.flags = (uint8_t)(expires ? m.flags | MSG_EXPIRES : m.flags & ~MSG_EXPIRES);
		m.expires_at_ms = s->w->now_ms + (uint64_t)expiry * 1000;
		m.props = props;
		m.props_len = (uint32_t)len;
	}
	neu = message_keep(&m);
	message_release_borrowed(&m);
	free(topic);
	free(props);
	if (neu == NULL) {
		good = false;
	} else {
		message_unref(pd->e.msg);
		pd->e.msg = neu;
	}
	return good;
}

static void
take_hook(struct pending_delivery *pd, const struct decision *d)
{
	const struct grapnel_publish_answer *a = d->publish;

	switch (d->verdict) {
	case GRAPNEL_ALLOW:
		if (a->drop) {
			pending_drop(pd, METRIC_MESSAGES_DROPPED_HOOK, "dropped by a plugin");
			return;
		}
		if (a->has_retain)
			pd->e.flags = (uint8_t)(a->retain ? pd->e.flags | ENTRY_RETAIN
							  : pd->e.flags & ~ENTRY_RETAIN);
		if (!changed_message(pd, a)) {
			pending_drop(pd, METRIC_MESSAGES_DROPPED_HOOK, "a plugin made it invalid");
			return;
		}
		pd->e.flags |= ENTRY_HOOKED;
		/* Rights are asked again for what is really used, of subscriptions too that were granted as a whole. */
		if (a->topic_name.data != NULL)
			pd->e.flags |= ENTRY_CHECK;
		pd->state = a->topic_name.data != NULL ? ASK_READ_AGAIN : SEND;
		return;
	case GRAPNEL_NEXT:
		pd->state = SEND;
		return;
	case GRAPNEL_DENY:
		pending_drop(pd, METRIC_MESSAGES_DROPPED_HOOK, "refused by a plugin");
		return;
	case GRAPNEL_UNAVAILABLE:
	case GRAPNEL_PENDING:
		pd->state = RETRY;
		return;
	}
}

static void
on_read_later(void *arg, const struct decision *d)
{
	struct pending_delivery *pd = arg;
	struct rights_answer a;

	pd->request = NULL;
	rights_from(d, &a);
	take_read(pd, a.verdict);
	pending_go(pd);
	deliver_pump(pd->s);
}

static void
on_hook_later(void *arg, const struct decision *d)
{
	struct pending_delivery *pd = arg;

	pd->request = NULL;
	take_hook(pd, d);
	pending_go(pd);
	deliver_pump(pd->s);
}

void
pending_go(struct pending_delivery *pd)
{
	struct session *s = pd->s;

	for (;;) {
		switch ((enum pending_state)pd->state) {
		case ASK_READ:
		case ASK_READ_AGAIN: {
			struct rights_question q = { .action = GRAPNEL_READ,
				.qos = pd->e.qos,
				.retain = (pd->e.flags & ENTRY_RETAIN) != 0,
				.topic = unmounted_topic(s, pd->e.msg),
				.msg = pd->e.msg,
				.mounted = true };
			struct rights_answer now;
			int known;

			pd->stage = pd->state;
			if (!(pd->e.flags & ENTRY_CHECK)) {
				pd->state = ASK_HOOK;
				continue;
			}
			if ((known = rights_read_cached(s, q.topic, q.qos)) >= 0) {
				take_read(pd, known ? GRAPNEL_ALLOW : GRAPNEL_DENY);
				continue;
			}
			pd->state = WAITING;
			if (!rights_ask(s->w, s, s->identity, session_rules(s), &q, on_read_later,
				pd, &now, &pd->request))
				return;
			take_read(pd, now.verdict);
			continue;
		}
		case ASK_HOOK: {
			struct grapnel_client_info info;
			struct grapnel_message_info mi;
			struct grapnel_message_deliver q = {
				.size = sizeof(q), .client = &info, .message = &mi
			};
			struct decision now;

			pd->stage = ASK_HOOK;
			/* Never twice: a message that is sent again, or waits again, is the one that was made then. */
			if (!hook_used(s->w, HOOK_DELIVER) || pd->e.flags & ENTRY_HOOKED) {
				pd->state = SEND;
				return;
			}
			session_info(s, &info);
			message_info_of(pd->e.msg, session_mountpoint(s), &mi);
			mi.qos = pd->e.qos;
			mi.retain = (pd->e.flags & ENTRY_RETAIN) != 0;
			pd->state = WAITING;
			if (!hooks_ask(s->w, HOOK_DELIVER, &q, NULL, on_hook_later, pd, &now,
				&pd->request))
				return;
			take_hook(pd, &now);
			decision_release(&now);
			continue;
		}
		case RETRY: /* keep it, ask again in a while */
			if (!timer_armed(&s->flow->retry_timer))
				worker_timer(s->w, &s->flow->retry_timer, RETRY_MS);
			return;
		case WAITING:
		case SEND:
		case DROP:
			return;
		}
	}
}

struct pending_delivery *
pending_new(struct session *s, const struct entry *e, uint16_t resend_id)
{
	struct flow *f = session_flow(s);
	struct pending_delivery *pd;

	if (f == NULL || (pd = calloc(1, sizeof(*pd))) == NULL)
		return NULL;
	pd->s = s;
	pd->e = *e;
	pd->resend_id = resend_id;
	pd->state = ASK_READ;
	if (f->pending_last == NULL)
		f->pending_first = pd;
	else
		f->pending_last->next = pd;
	f->pending_last = pd;
	f->pending_count++;
	s->deciding = true;
	return pd;
}

void
pending_remove_first(struct session *s)
{
	struct flow *f = s->flow;
	struct pending_delivery *pd = f->pending_first;

	f->pending_first = pd->next;
	if (pd->next == NULL) {
		f->pending_last = NULL;
		s->deciding = false;
	}
	f->pending_count--;
	free(pd);
}
