/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verdict - answers each hook as configured
 *
 *	client_authenticate, client_revalidate, acl_check, message_publish, client_subscribe,
 *	client_unsubscribe, message_deliver, message_acknowledge = allow | deny | next | unavailable (default next)
 *	reason_code = 0, reason_string = "..."	go with deny
 *	server_reference = "host:1883"		client_authenticate; use reason_code 156, 157
 *	username, mountpoint, superuser		client_authenticate, with allow
 *	attribute = "tenant=blue"		client_authenticate, with allow
 *	rules = "allow all a/#"			client_authenticate, with allow: session ACL rules
 *	valid_for = 5s				client_authenticate, with allow
 *	response_information = "r/"		client_authenticate, with allow
 *	limit_inflight, limit_packet_size, limit_qos, limit_queued, limit_rate,
 *	limit_session_expiry			the same
 *	max_qos = 1				acl_check of SUBSCRIBE, client_subscribe: QoS granted
 *	flags = [drop, no-retain, no-send-retained, covered]	acl_check, with allow
 *	drop = yes				message_publish, message_deliver, with allow
 *	only_user = "name"			only for this user ('*' at the end: beginnings)
 *	only_topic = "a*"  			only for this Topic Name or Topic Filter; else NEXT
 *	only_action = any | publish | subscribe | read | will	acl_check
 */
#include "match.h"
#include <stdio.h>

enum {
	AUTHENTICATE,
	REVALIDATE,
	ACL,
	PUBLISH,
	SUBSCRIBE,
	UNSUBSCRIBE,
	DELIVER,
	ACKNOWLEDGE,
	HOOKS
};

static const char *const hook_names[HOOKS] = {
	"client_authenticate",
	"client_revalidate",
	"acl_check",
	"message_publish",
	"client_subscribe",
	"client_unsubscribe",
	"message_deliver",
	"message_acknowledge",
};

struct verdict {
	const struct grapnel_host *host;
	enum grapnel_verdict hooks[HOOKS];
	uint8_t reason_code, max_qos_plus_one;
	uint32_t flags;
	enum grapnel_action only_action;
	bool drop, superuser;
	bool has_limits;
	struct grapnel_client_limits limits;
	struct grapnel_str response_information;
	int64_t valid_for;
	struct grapnel_rules *rules;
	struct grapnel_pair attribute;
	struct grapnel_str reason_string, server_reference, username, mountpoint, only_user,
	    only_topic;
};

static bool
applies(const struct verdict *v, const struct grapnel_client_info *client, struct grapnel_str topic)
{
	if (v->only_user.data != NULL && !str_matches(v->only_user, client->username))
		return false;
	return v->only_topic.data == NULL || topic.data == NULL ||
	    str_matches(v->only_topic, topic);
}

static const struct grapnel_str no_topic;

static enum grapnel_verdict
auth(const struct verdict *v, struct grapnel_request *req, const struct grapnel_client_info *client,
    enum grapnel_verdict answer)
{
	struct grapnel_auth_answer a = { .size = sizeof(a), .reason_string = v->reason_string };

	if (!applies(v, client, no_topic))
		return GRAPNEL_NEXT;
	if (answer == GRAPNEL_DENY) {
		a.reason_code = v->reason_code;
		a.server_reference = v->server_reference;
	} else if (answer == GRAPNEL_ALLOW) {
		a.username = v->username;
		a.mountpoint = v->mountpoint;
		a.superuser = v->superuser;
		a.rules = v->rules;
		a.response_information = v->response_information;
		a.limits = v->has_limits ? &v->limits : NULL;
		if (v->attribute.name.data != NULL) {
			a.attributes = &v->attribute;
			a.attribute_count = 1;
		}
		if (v->valid_for > 0)
			a.valid_until = v->host->wall_us() / 1000000 + v->valid_for / 1000;
	} else {
		return answer;
	}
	return v->host->auth_answer(req, &a) == GRAPNEL_OK ? answer : GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
verdict_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	const struct verdict *v = instance;

	return auth(v, req, q->client, v->hooks[AUTHENTICATE]);
}

static enum grapnel_verdict
verdict_revalidate(void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	const struct verdict *v = instance;

	return auth(v, req, q->client, v->hooks[REVALIDATE]);
}

static enum grapnel_verdict
verdict_acl(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct verdict *v = instance;
	struct grapnel_acl_answer a = { .size = sizeof(a),
		.reason_string = v->reason_string,
		.rule = GRAPNEL_STR("verdict:1") };
	enum grapnel_verdict answer = v->hooks[ACL];

	if (!applies(v, q->client, q->topic) ||
	    (v->only_action != 0 && v->only_action != q->action))
		return GRAPNEL_NEXT;
	if (answer == GRAPNEL_DENY)
		a.reason_code = v->reason_code;
	else if (answer == GRAPNEL_ALLOW) {
		a.flags = v->flags;
		a.max_qos_plus_one = q->action == GRAPNEL_SUBSCRIBE ? v->max_qos_plus_one : 0;
	} else
		return answer;
	return v->host->acl_answer(req, &a) == GRAPNEL_OK ? answer : GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
message(const struct verdict *v, struct grapnel_request *req,
    const struct grapnel_client_info *client, struct grapnel_str topic, enum grapnel_verdict answer)
{
	struct grapnel_publish_answer a = { .size = sizeof(a), .reason_string = v->reason_string };

	if (!applies(v, client, topic))
		return GRAPNEL_NEXT;
	if (answer == GRAPNEL_DENY)
		a.reason_code = v->reason_code;
	else if (answer == GRAPNEL_ALLOW)
		a.drop = v->drop;
	else
		return answer;
	return v->host->publish_answer(req, &a) == GRAPNEL_OK ? answer : GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
verdict_publish(
    void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	const struct verdict *v = instance;

	return message(v, req, q->client, q->message->topic_name, v->hooks[PUBLISH]);
}

static enum grapnel_verdict
verdict_deliver(
    void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	const struct verdict *v = instance;

	return message(v, req, q->client, q->message->topic_name, v->hooks[DELIVER]);
}

static enum grapnel_verdict
subscription(const struct verdict *v, struct grapnel_request *req,
    const struct grapnel_client_subscribe *q, enum grapnel_verdict answer)
{
	struct grapnel_subscribe_answer a = { .size = sizeof(a),
		.reason_string = v->reason_string };

	if (!applies(v, q->client, q->filter))
		return GRAPNEL_NEXT;
	if (answer == GRAPNEL_DENY)
		a.reason_code = v->reason_code;
	else if (answer == GRAPNEL_ALLOW && v->max_qos_plus_one > 0) {
		a.has_qos = true;
		a.qos = (uint8_t)(v->max_qos_plus_one - 1);
	} else
		return answer;
	return v->host->subscribe_answer(req, &a) == GRAPNEL_OK ? answer : GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
verdict_subscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	const struct verdict *v = instance;

	return subscription(v, req, q, v->hooks[SUBSCRIBE]);
}

static enum grapnel_verdict
verdict_unsubscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	const struct verdict *v = instance;

	return subscription(v, req, q, v->hooks[UNSUBSCRIBE]);
}

static enum grapnel_verdict
verdict_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	const struct verdict *v = instance;
	struct grapnel_ack_answer a = {
		.size = sizeof(a), .reason_code = v->reason_code, .reason_string = v->reason_string
	};

	if (!applies(v, q->client, q->message != NULL ? q->message->topic_name : no_topic))
		return GRAPNEL_NEXT;
	if (v->hooks[ACKNOWLEDGE] != GRAPNEL_DENY)
		return v->hooks[ACKNOWLEDGE];
	return v->host->ack_answer(req, &a) == GRAPNEL_OK ? GRAPNEL_DENY : GRAPNEL_UNAVAILABLE;
}

static uint32_t
flag_of(struct grapnel_str s)
{
	if (str_equal(s, GRAPNEL_STR("drop")))
		return GRAPNEL_ACL_DROP;
	if (str_equal(s, GRAPNEL_STR("no-retain")))
		return GRAPNEL_ACL_NO_RETAIN;
	if (str_equal(s, GRAPNEL_STR("no-send-retained")))
		return GRAPNEL_ACL_NO_SEND_RETAINED;
	return str_equal(s, GRAPNEL_STR("covered")) ? GRAPNEL_ACL_COVERED : 0;
}

static void
read_options(struct verdict *v, const struct grapnel_host *host, struct grapnel_instance *self)
{
	static const char *const verdicts[] = { "", "allow", "deny", "next", "pending",
		"unavailable" };
	static const char *const actions[] = { "any", "publish", "subscribe", "read", "will" };
	struct grapnel_str s;
	const char *sign;

	for (int h = 0; h < HOOKS; h++) {
		s = host->option_str(self, NULL, hook_names[h]);
		for (int i = 1; i < 6; i++) {
			if (s.len == strlen(verdicts[i]) && memcmp(s.data, verdicts[i], s.len) == 0)
				v->hooks[h] = (enum grapnel_verdict)i;
		}
		/* What is never answered is not asked. */
		if (v->hooks[h] == GRAPNEL_NEXT)
			host->hook_disable(self, hook_names[h]);
	}
	s = host->option_str(self, NULL, "only_action");
	for (int i = 0; i < 5; i++) {
		if (s.len == strlen(actions[i]) && memcmp(s.data, actions[i], s.len) == 0)
			v->only_action = (enum grapnel_action)i;
	}
	for (size_t i = 0; (s = host->option_list(self, NULL, "flags", i)).data != NULL; i++)
		v->flags |= flag_of(s);
	s = host->option_str(self, NULL, "attribute");
	sign = s.data != NULL ? memchr(s.data, '=', s.len) : NULL;
	if (sign != NULL) {
		v->attribute.name = (struct grapnel_str){ s.data, (size_t)(sign - s.data) };
		v->attribute.value =
		    (struct grapnel_str){ sign + 1, s.len - v->attribute.name.len - 1 };
	}
	v->reason_code = (uint8_t)host->option_int(self, NULL, "reason_code");
	v->max_qos_plus_one = (uint8_t)(host->option_int(self, NULL, "max_qos") + 1);
	v->limits.size = sizeof(v->limits);
	v->limits.max_inflight = (uint32_t)host->option_int(self, NULL, "limit_inflight");
	v->limits.max_packet_size = (uint32_t)host->option_int(self, NULL, "limit_packet_size");
	v->limits.max_queued_messages = (uint32_t)host->option_int(self, NULL, "limit_queued");
	v->limits.message_rate = (uint32_t)host->option_int(self, NULL, "limit_rate");
	v->limits.max_session_expiry =
	    (uint32_t)(host->option_int(self, NULL, "limit_session_expiry") / 1000);
	v->limits.max_qos_plus_one = (uint8_t)(host->option_int(self, NULL, "limit_qos") + 1);
	v->has_limits = v->limits.max_inflight != 0 || v->limits.max_packet_size != 0 ||
	    v->limits.max_queued_messages != 0 || v->limits.message_rate != 0 ||
	    v->limits.max_session_expiry != 0 || v->limits.max_qos_plus_one != 0;
	v->response_information = host->option_str(self, NULL, "response_information");
	v->drop = host->option_bool(self, NULL, "drop");
	v->superuser = host->option_bool(self, NULL, "superuser");
	v->valid_for = host->option_int(self, NULL, "valid_for");
	v->reason_string = host->option_str(self, NULL, "reason_string");
	v->server_reference = host->option_str(self, NULL, "server_reference");
	v->username = host->option_str(self, NULL, "username");
	v->mountpoint = host->option_str(self, NULL, "mountpoint");
	v->only_user = host->option_str(self, NULL, "only_user");
	v->only_topic = host->option_str(self, NULL, "only_topic");
}

static int
verdict_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct verdict *v = calloc(1, sizeof(*v));
	struct grapnel_str rules = host->option_str(self, NULL, "rules");
	char error[256];

	if (v == NULL)
		return GRAPNEL_ENOMEM;
	v->host = host;
	read_options(v, host, self);
	if (rules.data != NULL) {
		v->rules =
		    host->rules_compile(rules, GRAPNEL_STR("rules"), false, error, sizeof(error));
		if (v->rules == NULL) {
			host->config_error(self, NULL, "rules", "%s", error);
			free(v);
			return GRAPNEL_EINVAL;
		}
	}
	*instance = v;
	return GRAPNEL_OK;
}

static void
verdict_destroy(void *instance)
{
	struct verdict *v = instance;

	v->host->rules_unref(v->rules);
	free(v);
}

#define HOOK_OPTION(hook)                                                          \
	{                                                                          \
		.name = hook, .type = GRAPNEL_OPTION_ENUM,                         \
		.choices = "allow|deny|next|unavailable", .default_value = "next", \
		.help = "What this hook answers."                                  \
	}

static const struct grapnel_option verdict_options[] = { HOOK_OPTION("acl_check"),
	{ .name = "attribute",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "An attribute, \"name=value\", for who is let in." },
	HOOK_OPTION("client_authenticate"), HOOK_OPTION("client_revalidate"),
	HOOK_OPTION("client_subscribe"), HOOK_OPTION("client_unsubscribe"),
	{ .name = "drop",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "allow acknowledges and forgets." },
	{ .name = "flags",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "drop, no-retain, no-send-retained, covered." },
	{ .name = "limit_inflight",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "max_inflight of who is let in." },
	{ .name = "limit_packet_size",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "0",
	    .help = "max_packet_size of who is let in." },
	{ .name = "limit_qos",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "-1",
	    .min = -1,
	    .max = 2,
	    .help = "Highest QoS of who is let in." },
	{ .name = "limit_queued",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "max_queued_messages of who is let in." },
	{ .name = "limit_rate",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .help = "message_rate of who is let in." },
	{ .name = "limit_session_expiry",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "0s",
	    .help = "max_session_expiry of who is let in." },
	{ .name = "max_qos",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "-1",
	    .min = -1,
	    .max = 2,
	    .help = "The QoS that is granted." },
	HOOK_OPTION("message_acknowledge"), HOOK_OPTION("message_deliver"),
	HOOK_OPTION("message_publish"),
	{ .name = "mountpoint",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Mountpoint of who is let in." },
	{ .name = "only_action",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "any|publish|subscribe|read|will",
	    .default_value = "any",
	    .help = "The one action that acl_check answers." },
	{ .name = "only_topic",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "The Topic Names and Topic Filters that are answered." },
	{ .name = "only_user",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "The users that are answered." },
	{ .name = "reason_code",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 255,
	    .help = "Goes with deny." },
	{ .name = "reason_string", .type = GRAPNEL_OPTION_STRING, .help = "Goes with deny." },
	{ .name = "response_information",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Told to who is let in." },
	{ .name = "rules", .type = GRAPNEL_OPTION_STRING, .help = "ACL rules for who is let in." },
	{ .name = "server_reference",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Where to go instead." },
	{ .name = "superuser",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Who is let in may do everything." },
	{ .name = "username",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "User name of who is let in." },
	{ .name = "valid_for",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "0s",
	    .help = "How long who is let in may stay; 0: no end." },
	{ 0 } };

GRAPNEL_PLUGIN(verdict, .version = "1.0", .license = "Apache-2.0",
    .description = "Answers each hook as configured", .options = verdict_options,
    .create = verdict_create, .destroy = verdict_destroy,
    .client_authenticate = verdict_authenticate, .client_revalidate = verdict_revalidate,
    .acl_check = verdict_acl, .message_publish = verdict_publish,
    .client_subscribe = verdict_subscribe, .client_unsubscribe = verdict_unsubscribe,
    .message_deliver = verdict_deliver, .message_acknowledge = verdict_acknowledge, );
