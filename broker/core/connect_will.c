/* SPDX-License-Identifier: Apache-2.0 */
#include "core/connecting.h"

#include "base/log.h"
#include "core/session.h"
#include "mqtt/topic.h"

#include <stdlib.h>
#include <string.h>

static struct message *
will_message(struct conn *c)
{
	struct connecting *k = c->connecting;
	const struct mqtt_will *will = &k->p.will;
	struct grapnel_str mp = k->identity->site->mountpoint;
	size_t topic_len = mp.len + will->topic_name.len,
	       props_len = mqtt_forward_size(&will->props);
	char *buf = malloc(topic_len + props_len + 1);
	struct message m = { 0 }, *kept;

	if (buf == NULL || topic_len > 65535) {
		free(buf);
		return NULL;
	}
	memcpy(buf, mp.data, mp.len);
	memcpy(buf + mp.len, will->topic_name.data, will->topic_name.len);
	mqtt_forward_put((uint8_t *)buf + topic_len, &will->props);
	m.qos = will->qos;
	m.flags = (uint8_t)(MSG_WILL | (will->retain ? MSG_RETAIN : 0) |
	    (will->props.payload_is_utf8 ? MSG_UTF8 : 0));
	m.topic = buf;
	m.topic_len = (uint16_t)topic_len;
	m.props = buf + topic_len;
	m.props_len = (uint32_t)props_len;
	m.payload = will->payload.data;
	m.payload_len = (uint32_t)will->payload.len;
	if (will->props.has_message_expiry) {
		m.flags |= MSG_EXPIRES | MSG_INTERVAL;
		m.expires_at_ms = (uint64_t)will->props.message_expiry * 1000;
	}
	m.author = k->identity;
	kept = message_keep(&m);
	message_release_borrowed(&m);
	free(buf);
	return kept;
}

/* The rule is for the log; what the Client hears does not name it. */
static void
will_denied(struct conn *c, const struct rights_answer *a)
{
	const struct identity *id = c->connecting->identity;
	unsigned suppressed;

	metric_add(&c->w->metrics, METRIC_ACL_DENIED, 1);
	if (log_allowed(conn_peer(c), &suppressed))
		log_at(GRAPNEL_LOG_NOTICE, "acl_denied",
		    "client \"%.*s\" user \"%.*s\" from %s: Will Message to \"%.*s\" "
		    "denied%s%.*s%s",
		    STR(identity_client_id(id)), STR(identity_username(id)), conn_peer(c),
		    STR(c->connecting->p.will.topic_name), a->rule.len > 0 ? " by " : "",
		    STR(a->rule), suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	connect_refuse(c, RC_NOT_AUTHORIZED, "no right to publish the Will Message");
}

static void
on_will_rights(void *arg, const struct rights_answer *a)
{
	struct conn *c = arg;

	c->connecting->pending = NULL;
	if (a->verdict == GRAPNEL_ALLOW)
		connect_attach(c);
	else if (a->verdict == GRAPNEL_UNAVAILABLE)
		connect_refuse(
		    c, RC_SERVER_UNAVAILABLE, "rights of the Will Message are unavailable");
	else
		will_denied(c, a);
}

static void
on_will_rights_later(void *arg, const struct decision *d)
{
	struct rights_answer a;

	rights_from(d, &a);
	on_will_rights(arg, &a);
}

void
connect_will(struct conn *c)
{
	struct connecting *k = c->connecting;
	const struct limits *l = c->limits;
	const struct mqtt_will *will = &k->p.will;
	struct rights_question q;
	struct rights_answer now;

	if (!k->p.has_will) {
		connect_attach(c);
		return;
	}
	if (will->qos > l->max_qos) {
		connect_refuse(c, RC_QOS_NOT_SUPPORTED, "Will QoS above max_qos [MQTT-3.2.2-12]");
		return;
	}
	if (will->retain && !l->retain_available) {
		connect_refuse(c, RC_RETAIN_NOT_SUPPORTED,
		    "Will Retain, but retain_available = no [MQTT-3.2.2-13]");
		return;
	}
	if (!topic_name_valid(will->topic_name) ||
	    topic_levels(will->topic_name) > l->max_topic_levels) {
		connect_refuse(c, RC_TOPIC_NAME_INVALID, "Will Topic is not a Topic Name");
		return;
	}
	if (l->check_payload_format && will->props.payload_is_utf8 &&
	    !utf8_valid(will->payload.data, will->payload.len)) {
		connect_refuse(c, RC_PAYLOAD_FORMAT_INVALID, "Will Payload is not UTF-8");
		return;
	}
	if ((k->will = will_message(c)) == NULL) {
		connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return;
	}
	q = (struct rights_question){ .action = GRAPNEL_WILL,
		.qos = will->qos,
		.retain = will->retain,
		.topic = will->topic_name,
		.msg = k->will,
		.mounted = true };
	if (rights_ask(c->w, NULL, k->identity, k->rules, &q, on_will_rights_later, c, &now,
		&k->pending)) {
		k->pending = NULL;
		on_will_rights(c, &now);
	}
}
