/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewrite - changes or drops messages and subscriptions on their way; each option is off when
 * absent
 *
 *	publish_prefix = "new/"		before the Topic Name of a PUBLISH
 *	publish_payload = "text"	instead of its payload
 *	publish_drop = "a*"  		Topic Names (a '*' at the end: beginnings) that are
 *	acknowledged and forgotten
 *	publish_no_retain = yes		RETAIN is taken off
 *	publish_user_property = "v"	all properties are replaced by one User Property "rewrite"
 *	with this value
 *	subscribe_prefix = "new/"	before the Topic Filter of SUBSCRIBE and UNSUBSCRIBE
 *	deliver_prefix, deliver_payload, deliver_drop, deliver_user_property	the same on the way to a receiver
 *	only = "b*"  			leaves other Topic Names and Topic Filters alone (default:
 *	"*", all)
 */
#include "match.h"

struct rewrite {
	const struct grapnel_host *host;
	struct grapnel_str publish_prefix, publish_payload, publish_drop, publish_user_property,
	    subscribe_prefix;
	struct grapnel_str deliver_prefix, deliver_payload, deliver_drop, deliver_user_property,
	    only;
	bool publish_no_retain, publish_retain;
	int64_t publish_qos;
};

/* Instead of all that the message had. */
static void
set_properties(struct grapnel_publish_answer *answer, struct grapnel_property properties[3],
    struct grapnel_str value)
{
	if (value.data == NULL)
		return;
	properties[0] = (struct grapnel_property){ .id = 0x26 };
	properties[0].u.pair.name = GRAPNEL_STR("rewrite");
	properties[0].u.pair.value = value;
	properties[1] = (struct grapnel_property){ .id = 0x01, .u.number = 1 };
	properties[2] = (struct grapnel_property){ .id = 0x02, .u.number = 1000 };
	answer->has_properties = true;
	answer->properties = properties;
	answer->property_count = 3;
}

static enum grapnel_verdict
change(const struct rewrite *r, struct grapnel_request *req, struct grapnel_publish_answer *answer,
    struct grapnel_str prefix, struct grapnel_str topic_name)
{
	struct grapnel_str joined = { NULL, 0 };
	int err;

	if (prefix.data != NULL) {
		joined = str_join(prefix, topic_name);
		if (joined.data == NULL)
			return GRAPNEL_UNAVAILABLE;
		answer->topic_name = joined;
	}
	err = r->host->publish_answer(req, answer);
	free((char *)(uintptr_t)joined.data);
	return err == GRAPNEL_OK ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
rewrite_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	const struct rewrite *r = instance;
	struct grapnel_publish_answer answer = { .size = sizeof(answer) };
	struct grapnel_property properties[3];

	if (!str_matches(r->only, q->message->topic_name))
		return GRAPNEL_NEXT;
	answer.drop = str_matches(r->publish_drop, q->message->topic_name);
	answer.payload = r->publish_payload;
	answer.has_retain = r->publish_no_retain || r->publish_retain;
	answer.retain = r->publish_retain;
	answer.has_qos = r->publish_qos >= 0;
	answer.qos = r->publish_qos >= 0 ? (uint8_t)r->publish_qos : 0;
	set_properties(&answer, properties, r->publish_user_property);
	return change(r, req, &answer, r->publish_prefix, q->message->topic_name);
}

static enum grapnel_verdict
rewrite_deliver(
    void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	const struct rewrite *r = instance;
	struct grapnel_publish_answer answer = { .size = sizeof(answer) };
	struct grapnel_property properties[3];

	if (!str_matches(r->only, q->message->topic_name))
		return GRAPNEL_NEXT;
	answer.drop = str_matches(r->deliver_drop, q->message->topic_name);
	answer.payload = r->deliver_payload;
	set_properties(&answer, properties, r->deliver_user_property);
	return change(r, req, &answer, r->deliver_prefix, q->message->topic_name);
}

static enum grapnel_verdict
rewrite_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	const struct rewrite *r = instance;
	struct grapnel_subscribe_answer answer = { .size = sizeof(answer) };
	int err;

	if (!str_matches(r->only, q->filter) || r->subscribe_prefix.data == NULL)
		return GRAPNEL_NEXT;
	answer.filter = str_join(r->subscribe_prefix, q->filter);
	if (answer.filter.data == NULL)
		return GRAPNEL_UNAVAILABLE;
	err = r->host->subscribe_answer(req, &answer);
	free((char *)(uintptr_t)answer.filter.data);
	return err == GRAPNEL_OK ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE;
}

static int
rewrite_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct rewrite *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return GRAPNEL_ENOMEM;
	r->host = host;
	r->publish_prefix = host->option_str(self, NULL, "publish_prefix");
	r->publish_payload = host->option_str(self, NULL, "publish_payload");
	r->publish_drop = host->option_str(self, NULL, "publish_drop");
	r->publish_user_property = host->option_str(self, NULL, "publish_user_property");
	r->publish_no_retain = host->option_bool(self, NULL, "publish_no_retain");
	r->publish_retain = host->option_bool(self, NULL, "publish_retain");
	r->publish_qos = host->option_int(self, NULL, "publish_qos");
	r->subscribe_prefix = host->option_str(self, NULL, "subscribe_prefix");
	r->deliver_prefix = host->option_str(self, NULL, "deliver_prefix");
	r->deliver_payload = host->option_str(self, NULL, "deliver_payload");
	r->deliver_drop = host->option_str(self, NULL, "deliver_drop");
	r->deliver_user_property = host->option_str(self, NULL, "deliver_user_property");
	r->only = host->option_str(self, NULL, "only");
	/* What no option speaks of is not asked. */
	if (r->subscribe_prefix.data == NULL) {
		host->hook_disable(self, "client_subscribe");
		host->hook_disable(self, "client_unsubscribe");
	}
	if (r->deliver_prefix.data == NULL && r->deliver_payload.data == NULL &&
	    r->deliver_drop.data == NULL && r->deliver_user_property.data == NULL)
		host->hook_disable(self, "message_deliver");
	*instance = r;
	return GRAPNEL_OK;
}

static const struct grapnel_option rewrite_options[] = {
	{ .name = "deliver_drop",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Topic Names that are not delivered." },
	{ .name = "deliver_payload",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Payload of everything that is delivered." },
	{ .name = "deliver_prefix",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Put before the Topic Name of what is delivered." },
	{ .name = "deliver_user_property",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Value of the property that replaces all others." },
	{ .name = "only",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "\"*\"",
	    .help = "Topic Names and Topic Filters that are changed." },
	{ .name = "publish_drop",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Topic Names whose messages are forgotten." },
	{ .name = "publish_no_retain",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Takes RETAIN off." },
	{ .name = "publish_payload",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Payload of everything that is published." },
	{ .name = "publish_prefix",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Put before the Topic Name of what is published." },
	{ .name = "publish_qos",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "-1",
	    .min = -1,
	    .max = 2,
	    .help = "QoS of everything." },
	{ .name = "publish_retain",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Puts RETAIN on." },
	{ .name = "publish_user_property",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Value of the one property that replaces all others." },
	{ .name = "subscribe_prefix",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Put before each Topic Filter." },
	{ 0 }
};

GRAPNEL_PLUGIN(rewrite, .version = "1.0", .license = "Apache-2.0",
    .description = "Changes messages and subscriptions", .options = rewrite_options,
    .create = rewrite_create, .destroy = free, .message_publish = rewrite_publish,
    .client_subscribe = rewrite_subscribe, .client_unsubscribe = rewrite_subscribe,
    .message_deliver = rewrite_deliver, );
