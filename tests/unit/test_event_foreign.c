/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events in the shapes of other brokers' webhooks, held against examples recorded from their documentation field by field: each
 * field of an example has the same type and the same value. What differs on purpose stands beside the example.
 *	VerneMQ	"Webhooks" of its documentation (plugin development), 2.x
 *	EMQX	README of emqx-web-hook, 4.x
 *	NanoMQ	"WebHook" of its tutorials, 0.19 and later
 */
#include "../../plugins/events/format.h"
#include "event_samples.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))
#define EV(name)    GRAPNEL_EVENT_##name

struct example {
	enum format_kind kind;
	enum grapnel_event_type type;
	const char *name; /* of the hook, or the action */
	const char *recorded;
	const char *changes;             /* NULL: none; a null deletes */
	void (*setup)(struct sample *s); /* to have the example's values; NULL: the sample has */
	enum format_payload payload;
	uint8_t protocol; /* 0: the sample's */
};

/* ---- VerneMQ --------------------------------------------------------------------------------- */

static void
id_with_hyphen(struct sample *s)
{
	s->client.client_id = GRAPNEL_STR("client-id");
	s->client.session_expiry = 0;
}

static void
some_topic(struct sample *s)
{
	id_with_hyphen(s);
	s->message.topic_name = GRAPNEL_STR("test/topic");
	s->message.payload = GRAPNEL_STR("message payload");
}

static void
test_filter(struct sample *s)
{
	id_with_hyphen(s);
	s->event.filter = GRAPNEL_STR("test/topic");
}

static void
no_expiry(struct sample *s)
{
	s->client.session_expiry = 0;
}

/* ---- EMQX and NanoMQ ------------------------------------------------------------------------- */

static void
emqx_client(struct sample *s)
{
	s->client.client_id = s->client.username = GRAPNEL_STR("C_1492410235117");
	s->event.time_us = INT64_C(1556176748000000);
	if (s->event.filter.data != NULL) {
		s->event.filter = GRAPNEL_STR("world");
		s->event.qos = 0;
	}
}

static void
emqx_refused(struct sample *s)
{
	emqx_client(s);
	s->event.reason_code = 0x87;
}

static void
emqx_end(struct sample *s)
{
	emqx_client(s);
	s->event.reason = GRAPNEL_STR("connection closed, expiry interval 0");
}

static void
emqx_message(struct sample *s)
{
	emqx_client(s);
	s->message.author_client_id = s->message.author_username = s->client.client_id;
	s->message.topic_name = GRAPNEL_STR("world");
	s->message.payload = GRAPNEL_STR("Hello world!");
	s->message.qos = s->event.type == EV(MESSAGE_ACKNOWLEDGED) ? 1 : 0;
	s->message.retain = true;
	s->event.time_us = INT64_C(1492412774000000);
}

static void
nanomq_client(struct sample *s)
{
	s->client.client_id = GRAPNEL_STR("wbhk_clientid");
	s->client.username = GRAPNEL_STR("wbhk_test");
}

static void
nanomq_message(struct sample *s)
{
	nanomq_client(s);
	s->message.author_client_id = s->client.client_id;
	s->message.author_username = s->client.username;
	s->message.topic_name = GRAPNEL_STR("nmq/pub");
	s->message.payload = GRAPNEL_STR("Hello World!");
	s->message.retain = true;
	s->event.time_us = INT64_C(1706703724960000);
}

/* EMQX says which node it was, since 4.0; the README does not show it. */
#define NODE "\"node\":\"0123456789abcdef\""
#define WHO  "\"clientid\":\"C_1492410235117\",\"username\":\"C_1492410235117\""
#define FROM "\"from_client_id\":\"C_1492410235117\",\"from_username\":\"C_1492410235117\""
/* Of on_deliver and on_deliver_m5 the code sends more than the pages show. */
#define DELIVER "\"qos\":1,\"retain\":false,\"properties\":{}"

static const struct example examples[] = {
	{ FORMAT_VERNEMQ, EV(CLIENT_CONNECTED), "on_register",
	    "{\"peer_addr\":\"127.0.0.1\",\"peer_port\":8888,\"username\":\"username\","
	    "\"mountpoint\":\"\",\"client_id\":\"clientid\"}",
	    NULL, NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(CLIENT_CONNECTED), "on_register_m5",
	    "{\"peer_addr\":\"127.0.0.1\",\"peer_port\":8888,\"mountpoint\":\"\","
	    "\"client_id\":\"client-id\",\"username\":\"username\",\"properties\":{}}",
	    NULL, id_with_hyphen, PAYLOAD_AUTO, GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(MESSAGE_PUBLISHED), "on_publish",
	    "{\"username\":\"username\",\"client_id\":\"clientid\",\"mountpoint\":\"\",\"qos\":1,"
	    "\"topic\":\"a/b\",\"payload\":\"hello\",\"retain\":false}",
	    NULL, NULL, PAYLOAD_TEXT, 0 },
	{ FORMAT_VERNEMQ, EV(WILL_PUBLISHED), "on_publish",
	    "{\"username\":\"username\",\"client_id\":\"clientid\",\"mountpoint\":\"\",\"qos\":1,"
	    "\"topic\":\"a/b\",\"payload\":\"hello\",\"retain\":false}",
	    "{\"payload\":\"aGVsbG8=\"}", NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(MESSAGE_PUBLISHED), "on_publish_m5",
	    "{\"username\":\"username\",\"mountpoint\":\"\",\"client_id\":\"client-id\",\"qos\":1,"
	    "\"topic\":\"test/topic\",\"payload\":\"message payload\",\"retain\":false,"
	    "\"properties\":{}}",
	    NULL, some_topic, PAYLOAD_TEXT, GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(SUBSCRIBED), "on_subscribe",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\",\"username\":\"username\","
	    "\"topics\":[{\"topic\":\"a/b\",\"qos\":1}]}",
	    NULL, NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(SUBSCRIBED), "on_subscribe_m5",
	    "{\"username\":\"username\",\"mountpoint\":\"\",\"client_id\":\"client-id\","
	    "\"topics\":[{\"topic\":\"test/topic\",\"qos\":1}],\"properties\":{}}",
	    NULL, test_filter, PAYLOAD_AUTO, GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(UNSUBSCRIBED), "on_unsubscribe",
	    "{\"username\":\"username\",\"client_id\":\"clientid\",\"mountpoint\":\"\","
	    "\"topics\":[\"a/b\"]}",
	    NULL, NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(UNSUBSCRIBED), "on_unsubscribe_m5",
	    "{\"username\":\"username\",\"mountpoint\":\"\",\"client_id\":\"client-id\","
	    "\"topics\":[\"test/topic\"],\"properties\":{}}",
	    NULL, test_filter, PAYLOAD_AUTO, GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(MESSAGE_DELIVERED), "on_deliver",
	    "{\"username\":\"username\",\"client_id\":\"clientid\",\"mountpoint\":\"\","
	    "\"topic\":\"a/b\",\"payload\":\"hello\"}",
	    "{" DELIVER "}", NULL, PAYLOAD_TEXT, 0 },
	{ FORMAT_VERNEMQ, EV(MESSAGE_DELIVERED), "on_deliver_m5",
	    "{\"username\":\"username\",\"mountpoint\":\"\",\"client_id\":\"client-id\","
	    "\"topic\":\"test/topic\",\"payload\":\"message payload\",\"properties\":{}}",
	    "{" DELIVER ",\"payload\":\"bWVzc2FnZSBwYXlsb2Fk\"}", some_topic, PAYLOAD_AUTO,
	    GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(SESSION_CREATED), "on_client_wakeup",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\"}", NULL, NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(SESSION_RESUMED), "on_client_wakeup",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\"}", NULL, NULL, PAYLOAD_AUTO,
	    GRAPNEL_MQTT_5_0 },
	{ FORMAT_VERNEMQ, EV(CLIENT_DISCONNECTED), "on_client_offline",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\"}", NULL, NULL, PAYLOAD_AUTO, 0 },
	{ FORMAT_VERNEMQ, EV(CLIENT_DISCONNECTED), "on_client_gone",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\"}", NULL, no_expiry, PAYLOAD_AUTO, 0 },
	/* not on the page; of the same arguments in the code */
	{ FORMAT_VERNEMQ, EV(SESSION_EXPIRED), "on_session_expired",
	    "{\"client_id\":\"clientid\",\"mountpoint\":\"\"}", NULL, NULL, PAYLOAD_AUTO, 0 },

	/* conn_ack is client_connack's since 4.0; times are in milliseconds since 4.2 */
	{ FORMAT_EMQX, EV(CLIENT_CONNECTED), "client_connected",
	    "{\"action\":\"client_connected\"," WHO ",\"keepalive\":60,\"ipaddress\":\"127.0.0.1\","
	    "\"proto_ver\":4,\"connected_at\":1556176748,\"conn_ack\":0}",
	    "{" NODE ",\"connected_at\":1556176748000,\"conn_ack\":null}", emqx_client,
	    PAYLOAD_AUTO, 0 },
	/* of the table in the documentation of 4.4; keep_alive and expiry are not known of a refused client */
	{ FORMAT_EMQX, EV(CLIENT_REFUSED), "client_connack",
	    "{\"action\":\"client_connack\"," WHO ",\"ipaddress\":\"127.0.0.1\",\"keepalive\":60,"
	    "\"proto_ver\":4,\"conn_ack\":\"not_authorized\"}",
	    "{" NODE "}", emqx_refused, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(CLIENT_DISCONNECTED), "client_disconnected",
	    "{\"action\":\"client_disconnected\"," WHO ",\"reason\":\"normal\"}",
	    "{" NODE ",\"disconnected_at\":1556176748000}", emqx_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(SESSION_CREATED), "session_created",
	    "{\"action\":\"session_created\"," WHO "}", "{" NODE "}", emqx_client, PAYLOAD_AUTO,
	    0 },
	{ FORMAT_EMQX, EV(SUBSCRIBED), "session_subscribed",
	    "{\"action\":\"session_subscribed\"," WHO ",\"topic\":\"world\",\"opts\":{\"qos\":0}}",
	    "{" NODE "}", emqx_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(UNSUBSCRIBED), "session_unsubscribed",
	    "{\"action\":\"session_unsubscribed\"," WHO ",\"topic\":\"world\"}", "{" NODE "}",
	    emqx_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(SESSION_EXPIRED), "session_terminated",
	    "{\"action\":\"session_terminated\"," WHO ",\"reason\":\"normal\"}", "{" NODE "}",
	    emqx_end, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(MESSAGE_PUBLISHED), "message_publish",
	    "{\"action\":\"message_publish\"," FROM
	    ",\"topic\":\"world\",\"qos\":0,\"retain\":true,"
	    "\"payload\":\"Hello world!\",\"ts\":1492412774}",
	    "{" NODE ",\"ts\":1492412774000}", emqx_message, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(WILL_PUBLISHED), "message_publish",
	    "{\"action\":\"message_publish\"," FROM
	    ",\"topic\":\"world\",\"qos\":0,\"retain\":true,"
	    "\"payload\":\"Hello world!\",\"ts\":1492412774}",
	    "{" NODE ",\"ts\":1492412774000,\"payload\":\"SGVsbG8gd29ybGQh\"}", emqx_message,
	    PAYLOAD_BASE64, 0 },
	{ FORMAT_EMQX, EV(MESSAGE_DELIVERED), "message_delivered",
	    "{\"action\":\"message_delivered\"," WHO "," FROM ",\"topic\":\"world\",\"qos\":0,"
	    "\"retain\":true,\"payload\":\"Hello world!\",\"ts\":1492412774}",
	    "{" NODE ",\"ts\":1492412774000}", emqx_message, PAYLOAD_AUTO, 0 },
	{ FORMAT_EMQX, EV(MESSAGE_ACKNOWLEDGED), "message_acked",
	    "{\"action\":\"message_acked\"," WHO "," FROM ",\"topic\":\"world\",\"qos\":1,"
	    "\"retain\":true,\"payload\":\"Hello world!\",\"ts\":1492412774}",
	    "{" NODE ",\"ts\":1492412774000}", emqx_message, PAYLOAD_AUTO, 0 },

	{ FORMAT_NANOMQ, EV(CLIENT_CONNECTED), "client_connack",
	    "{\"proto_ver\":4,\"keepalive\":60,\"conn_ack\":\"success\",\"username\":\"wbhk_test\","
	    "\"clientid\":\"wbhk_clientid\",\"action\":\"client_connack\"}",
	    NULL, nanomq_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_NANOMQ, EV(CLIENT_REFUSED), "client_connack",
	    "{\"proto_ver\":4,\"keepalive\":60,\"conn_ack\":\"fail\",\"username\":\"wbhk_test\","
	    "\"clientid\":\"wbhk_clientid\",\"action\":\"client_connack\"}",
	    NULL, nanomq_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_NANOMQ, EV(CLIENT_DISCONNECTED), "client_disconnected",
	    "{\"reason\":\"normal\",\"username\":\"wbhk_test\",\"clientid\":\"wbhk_clientid\","
	    "\"action\":\"client_disconnected\"}",
	    NULL, nanomq_client, PAYLOAD_AUTO, 0 },
	{ FORMAT_NANOMQ, EV(MESSAGE_PUBLISHED), "message_publish",
	    "{\"ts\":1706703724960,\"topic\":\"nmq/pub\",\"retain\":true,\"qos\":1,"
	    "\"action\":\"message_publish\",\"from_username\":\"wbhk_test\","
	    "\"from_client_id\":\"wbhk_clientid\",\"payload\":\"Hello World!\"}",
	    NULL, nanomq_message, PAYLOAD_AUTO, 0 },
};

static json_t *
json_of(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	ck_assert_msg(value != NULL, "%s: %s", error.text, text);
	return value;
}

static json_t *
formatted(
    const struct sample *s, size_t payload_max, enum format_kind kind, enum format_payload payload)
{
	const struct format_options o = { .kind = kind, .payload = payload };
	struct record_view v;
	struct text t = { 0 };
	json_error_t error;
	json_t *object;

	record_view_of(&v, &s->event, payload_max);
	format_event(&t, &v, &o);
	ck_assert(!t.failed);
	object = json_loadb(t.data, t.len, JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(object != NULL, "%s: %.*s", error.text, (int)t.len, t.data);
	text_free(&t);
	return object;
}

static void
ck_types(const json_t *got, json_t *recorded, const char *name)
{
	const char *key;
	json_t *value;

	json_object_foreach(recorded, key, value) if (json_object_get(got, key) != NULL)
	    ck_assert_msg(json_typeof(json_object_get(got, key)) == json_typeof(value),
		"%s: type of %s", name, key);
}

static void
apply(json_t *object, const char *changes)
{
	json_t *with = json_of(changes);
	const char *key;
	json_t *value;

	json_object_foreach(with, key, value) if (json_is_null(value))
	    ck_assert_int_eq(json_object_del(object, key), 0);
	else ck_assert_int_eq(json_object_set(object, key, value), 0);
	json_decref(with);
}

START_TEST(an_event_looks_as_recorded)
{
	const struct example *e = &examples[_i];
	json_t *recorded = json_of(e->recorded), *got;
	struct sample s;
	char *is, *was;

	sample_event(&s, e->type);
	if (e->protocol != 0)
		s.client.protocol = e->protocol;
	if (e->setup != NULL)
		e->setup(&s);
	got = formatted(&s, SIZE_MAX, e->kind, e->payload);
	ck_types(got, recorded, e->name);
	if (e->changes != NULL)
		apply(recorded, e->changes);
	is = json_dumps(got, JSON_SORT_KEYS);
	was = json_dumps(recorded, JSON_SORT_KEYS);
	ck_assert_msg(json_equal(got, recorded), "%s\ngot      %s\nexpected %s", e->name, is, was);
	free(is);
	free(was);
	json_decref(got);
	json_decref(recorded);
}
END_TEST

START_TEST(the_hook_is_named)
{
	const struct example *e = &examples[_i];
	const struct format_options o = { .kind = e->kind };
	struct record_view v;
	struct text t = { 0 };
	struct sample s;
	unsigned count;

	sample_event(&s, e->type);
	if (e->protocol != 0)
		s.client.protocol = e->protocol;
	if (e->setup != NULL)
		e->setup(&s);
	record_view_of(&v, &s.event, SIZE_MAX);
	count = format_headers(&t, &v, &o);
	ck_assert_uint_eq(count, e->kind == FORMAT_VERNEMQ ? 1 : 0);
	if (count > 0) {
		ck_assert_int_eq(strncmp(t.data, "vernemq-hook: ", 14), 0);
		ck_assert_str_eq(t.data + 14, e->name);
		ck_assert_uint_eq(t.len, 14 + strlen(e->name) + 1);
	}
	text_free(&t);
}
END_TEST

START_TEST(each_event_that_is_possible_has_an_example)
{
	static const enum format_kind kinds[] = { FORMAT_VERNEMQ, FORMAT_EMQX, FORMAT_NANOMQ };

	for (unsigned k = 0; k < 3; k++) {
		uint64_t seen = 0;

		for (int i = 0; i < ROWS(examples); i++)
			if (examples[i].kind == kinds[k])
				seen |= GRAPNEL_EVENT_BIT(examples[i].type);
		ck_assert_uint_eq(seen, format_possible(kinds[k]));
		ck_assert_uint_eq(seen & GRAPNEL_EVENT_BIT(EV(GAP)), 0);
	}
	for (unsigned i = 0; i < GRAPNEL_EVENT_COUNT; i++)
		ck_assert(format_possible(FORMAT_CLOUDEVENTS) & GRAPNEL_EVENT_BIT(i));
}
END_TEST

/* ---- what is not known ----------------------------------------------------------------------- */

static void
ck_member(const json_t *object, const char *key, const char *value)
{
	json_t *member = json_object_get(object, key);

	ck_assert_msg(member != NULL, "%s is missing", key);
	if (value == NULL)
		ck_assert(json_is_null(member));
	else
		ck_assert_str_eq(json_string_value(member), value);
}

START_TEST(what_is_unknown_is_said_as_these_brokers_say_it)
{
	struct sample s;
	json_t *got;

	sample_event(&s, EV(CLIENT_CONNECTED));
	s.client.username = (struct grapnel_str){ NULL, 0 };
	s.client.peer = GRAPNEL_STR("[2001:db8::1]:443");
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_member(got, "username", NULL);
	ck_member(got, "peer_addr", "2001:db8::1");
	ck_assert_int_eq(json_integer_value(json_object_get(got, "peer_port")), 443);
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_EMQX, PAYLOAD_AUTO);
	ck_member(got, "username", NULL);
	ck_member(got, "ipaddress", "2001:db8::1");
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_NANOMQ, PAYLOAD_AUTO);
	ck_member(got, "username", "undefined");
	json_decref(got);
	s.client.peer = GRAPNEL_STR("unix:");
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_member(got, "peer_addr", "unix:");
	ck_assert_int_eq(json_integer_value(json_object_get(got, "peer_port")), 0);
	json_decref(got);
	s.client.protocol = GRAPNEL_MQTT_5_0;
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_assert_int_eq(json_integer_value(json_object_get(
			     json_object_get(got, "properties"), "p_session_expiry_interval")),
	    3600);
	json_decref(got);
}
END_TEST

START_TEST(a_will_without_a_client_has_its_author)
{
	struct sample s;
	json_t *got;

	sample_event(&s, EV(WILL_PUBLISHED));
	s.event.client = NULL;
	got = formatted(&s, SIZE_MAX, FORMAT_EMQX, PAYLOAD_AUTO);
	ck_member(got, "from_client_id", "clientid");
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_member(got, "client_id", "clientid");
	ck_member(got, "username", "username");
	ck_member(got, "mountpoint", "");
	json_decref(got);
}
END_TEST

START_TEST(a_payload_that_is_left_out_is_null_or_not_there)
{
	struct sample s;

	sample_event(&s, EV(MESSAGE_PUBLISHED));
	for (unsigned i = 0; i < 2; i++) {
		size_t max = i == 0 ? SIZE_MAX : 4;
		enum format_payload how = i == 0 ? PAYLOAD_NONE : PAYLOAD_AUTO;
		json_t *got = formatted(&s, max, FORMAT_VERNEMQ, how);

		ck_assert_ptr_null(json_object_get(got, "payload"));
		json_decref(got);
		got = formatted(&s, max, FORMAT_EMQX, how);
		ck_member(got, "payload", NULL);
		json_decref(got);
		got = formatted(&s, max, FORMAT_NANOMQ, how);
		ck_member(got, "payload", NULL);
		json_decref(got);
	}
}
END_TEST

static const struct {
	uint8_t code;
	const char *reason, *emqx, *nanomq;
} reasons[] = {
	{ 0, "DISCONNECT by the client", "normal", "normal" },
	{ 0, "DISCONNECT by the client, with Will", "disconnect_with_will_message", "abnormal" },
	{ 0, "connection closed by the client", "tcp_closed", "abnormal" },
	{ 0, "shutting down", "shutting down", "abnormal" },
	{ 0x8d, "no packet in time", "keepalive_timeout", "abnormal" },
	{ 0x8e, "taken over", "takeovered", "abnormal" },
	{ 0x98, "disconnected by the operator or a plugin", "kicked", "abnormal" },
	{ 0x95, "packet too large", "packet_too_large", "abnormal" },
	{ 0xa2, "x", "wildcard_subscriptions_not_supported", "abnormal" },
	{ 0xa3, "later codes", "later codes", "abnormal" },
	{ 0xff, NULL, "normal", "abnormal" },
};

START_TEST(why_a_client_left_is_said_in_their_words)
{
	struct sample s;
	json_t *got;

	sample_event(&s, EV(CLIENT_DISCONNECTED));
	s.event.reason_code = reasons[_i].code;
	s.event.reason = reasons[_i].reason != NULL
	    ? (struct grapnel_str){ reasons[_i].reason, strlen(reasons[_i].reason) }
	    : (struct grapnel_str){ NULL, 0 };
	got = formatted(&s, SIZE_MAX, FORMAT_EMQX, PAYLOAD_AUTO);
	ck_member(got, "reason", reasons[_i].emqx);
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_NANOMQ, PAYLOAD_AUTO);
	ck_member(got, "reason", reasons[_i].nanomq);
	json_decref(got);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("event foreign");
	TCase *tc = tcase_create("event foreign");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, an_event_looks_as_recorded, 0, ROWS(examples));
	tcase_add_loop_test(tc, the_hook_is_named, 0, ROWS(examples));
	tcase_add_test(tc, each_event_that_is_possible_has_an_example);
	tcase_add_test(tc, what_is_unknown_is_said_as_these_brokers_say_it);
	tcase_add_test(tc, a_will_without_a_client_has_its_author);
	tcase_add_test(tc, a_payload_that_is_left_out_is_null_or_not_there);
	tcase_add_loop_test(tc, why_a_client_left_is_said_in_their_words, 0, ROWS(reasons));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
