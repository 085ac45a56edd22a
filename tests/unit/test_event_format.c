/* SPDX-License-Identifier: Apache-2.0 */
/* What events look like in our own formats and in CloudEvents; those of other brokers: test_event_foreign.c. */
#include "../../plugins/events/format.h"
#include "event_samples.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

/* The event as it comes out of a record, which bytes keep. */
static void
view_of(struct record_view *v, char **bytes, const struct sample *s, size_t payload_max)
{
	size_t size = record_size(&s->event, payload_max);

	*bytes = malloc(size);
	ck_assert_ptr_nonnull(*bytes);
	ck_assert_uint_eq(record_write(*bytes, &s->event, payload_max), size);
	ck_assert_uint_eq(record_read(v, *bytes, size), size);
}

static json_t *
parsed(const struct text *t)
{
	json_error_t error;
	json_t *object;

	ck_assert(!t->failed);
	object = json_loadb(t->data, t->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	ck_assert_msg(object != NULL, "%s: %.*s", error.text, (int)t->len, t->data);
	return object;
}

static json_t *
formatted(
    const struct sample *s, size_t payload_max, enum format_kind kind, enum format_payload payload)
{
	const struct format_options o = {
		.kind = kind, .payload = payload, .source = "/grapnel", .type_prefix = "grapnel."
	};
	struct record_view v;
	struct text t = { 0 };
	json_t *object;
	char *bytes;

	view_of(&v, &bytes, s, payload_max);
	format_event(&t, &v, &o);
	object = parsed(&t);
	text_free(&t);
	free(bytes);
	return object;
}

/* Takes both over. */
static void
ck_json(json_t *got, json_t *expected)
{
	char *a, *b;

	ck_assert_ptr_nonnull(expected);
	a = json_dumps(got, JSON_SORT_KEYS);
	b = json_dumps(expected, JSON_SORT_KEYS);
	ck_assert_msg(json_equal(got, expected), "got      %s\nexpected %s", a, b);
	free(a);
	free(b);
	json_decref(got);
	json_decref(expected);
}

static json_t *
json_of(const char *text)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_DISABLE_EOF_CHECK, &error);

	ck_assert_msg(value != NULL, "%s: %s", error.text, text);
	return value;
}

/* ---- our own fields -------------------------------------------------------------------------- */

#define WHO                                                                                       \
	"'client_id':'clientid','username':'username','peer':'127.0.0.1:8888','listener':'main'," \
	"'protocol':'3.1.1','generation':7,"
#define TENANT "'attributes':{'tenant':'t1','tls.sni':'a.example'}}"
#define CLIENT "'client':{" WHO TENANT
#define CONNECTION \
	"'client':{" WHO "'clean_start':false,'keep_alive':60,'session_expiry':3600," TENANT
#define MESSAGE(retain, will, rest)                                                     \
	"'message':{'topic':'a/b','qos':1,'retain':" retain ",'dup':false,'will':" will \
	",'payload':'hello','payload_size':5" rest "}"
#define AUTHOR ",'author':{'client_id':'clientid','username':'username'}"

static const char *const fields[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = CONNECTION ",'session_present':true",
	[GRAPNEL_EVENT_CLIENT_REFUSED] = CLIENT ",'reason_code':134,'reason':'wrong password'",
	[GRAPNEL_EVENT_CLIENT_DISCONNECTED] =
	    CONNECTION ",'reason_code':0,'reason':'DISCONNECT by the client'",
	[GRAPNEL_EVENT_SESSION_CREATED] = CONNECTION,
	[GRAPNEL_EVENT_SESSION_RESUMED] = CONNECTION,
	[GRAPNEL_EVENT_SESSION_TAKEN_OVER] = CONNECTION ",'reason_code':142,'reason':'taken over'",
	[GRAPNEL_EVENT_SESSION_EXPIRED] = CONNECTION ",'reason_code':0,'reason':'expired'",
	[GRAPNEL_EVENT_SUBSCRIBED] = CLIENT ",'filter':'a/b','qos':1",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = CLIENT ",'filter':'a/b'",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] =
	    CLIENT "," MESSAGE("false", "false", "") ",'reason_code':0",
	[GRAPNEL_EVENT_MESSAGE_DELIVERED] = CLIENT "," MESSAGE("false", "false", AUTHOR) ",'qos':1",
	[GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED] =
	    CLIENT "," MESSAGE("false", "false", AUTHOR) ",'reason_code':0",
	[GRAPNEL_EVENT_MESSAGE_DROPPED] =
	    CLIENT "," MESSAGE("false", "false", AUTHOR) ",'reason':'queue full'",
	[GRAPNEL_EVENT_MESSAGE_EXPIRED] =
	    CLIENT "," MESSAGE("false", "false", AUTHOR) ",'reason':'expired'",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = CLIENT "," MESSAGE("false", "true", AUTHOR),
	[GRAPNEL_EVENT_RETAINED_SET] = CLIENT "," MESSAGE("true", "false", AUTHOR),
	[GRAPNEL_EVENT_RETAINED_CLEARED] = CLIENT "," MESSAGE("false", "false", AUTHOR),
	[GRAPNEL_EVENT_BROKER_STARTING] = "",
	[GRAPNEL_EVENT_BROKER_READY] = "",
	[GRAPNEL_EVENT_BROKER_STOPPING] = "",
	[GRAPNEL_EVENT_GAP] = "'lost':12",
};

/* With " for '. */
static json_t *
json_quoted(const char *before, const char *members, const char *behind)
{
	char text[4096];

	ck_assert_int_lt(
	    snprintf(text, sizeof(text), "%s%s%s", before, members, behind), (int)sizeof(text));
	for (char *p = text; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	return json_of(text);
}

START_TEST(each_event_has_its_fields)
{
	struct sample s;

	sample_event(&s, (enum grapnel_event_type)_i);
	ck_json(formatted(&s, SIZE_MAX, FORMAT_BINARY, PAYLOAD_AUTO),
	    json_quoted("{", fields[_i], "}"));
}
END_TEST

START_TEST(a_line_has_id_time_and_name_too)
{
	struct sample s;
	struct record_view v;
	struct text t = { 0 };

	sample_event(&s, (enum grapnel_event_type)_i);
	record_view_of(&v, &s.event, SIZE_MAX);
	event_line(&t, &v, PAYLOAD_AUTO);
	char start[200];
	(void)snprintf(start, sizeof(start),
	    "{'id':'0123456789abcdef-0000000000000002-0300000000000001',"
	    "'time':'2023-11-14T22:13:20.123456Z','event':'%s'%s",
	    event_name((enum grapnel_event_type)_i), fields[_i][0] != '\0' ? "," : "");
	ck_json(parsed(&t), json_quoted(start, fields[_i], "}"));
	ck_assert_ptr_null(memchr(t.data, '\n', t.len));
	text_free(&t);
}
END_TEST

/* ---- payloads -------------------------------------------------------------------------------- */

static const struct {
	struct grapnel_str payload;
	size_t payload_max;
	enum format_payload how;
	const char *members;
} payloads[] = {
	{ { "hello", 5 }, 5, PAYLOAD_AUTO, "'payload':'hello','payload_size':5" },
	{ { "hello", 5 }, 4, PAYLOAD_AUTO, "'payload_size':5" },
	{ { "hello", 5 }, 5, PAYLOAD_NONE, "'payload_size':5" },
	{ { "hello", 5 }, 5, PAYLOAD_BASE64, "'payload_base64':'aGVsbG8=','payload_size':5" },
	{ { "", 0 }, 0, PAYLOAD_AUTO, "'payload':'','payload_size':0" },
	{ { NULL, 0 }, 0, PAYLOAD_AUTO, "'payload':'','payload_size':0" },
	{ { "\xff\0", 2 }, 9, PAYLOAD_AUTO, "'payload_base64':'/wA=','payload_size':2" },
	{ { "a\0", 2 }, 9, PAYLOAD_AUTO, "'payload_base64':'YQA=','payload_size':2" },
	{ { "a\xff", 2 }, 9, PAYLOAD_TEXT, "'payload':'a\xef\xbf\xbd','payload_size':2" },
	{ { "{\"a\":\n1}", 8 }, 9, PAYLOAD_AUTO, "'payload':'{\\'a\\':\\n1}','payload_size':8" },
};

START_TEST(a_payload_is_text_or_base64_or_left_out)
{
	struct sample s;
	json_t *got;

	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	s.message.payload = payloads[_i].payload;
	got = formatted(&s, payloads[_i].payload_max, FORMAT_BINARY, payloads[_i].how);
	ck_json(json_incref(json_object_get(got, "message")),
	    json_quoted("{'topic':'a/b','qos':1,'retain':false,'dup':false,'will':false,",
		payloads[_i].members, "}"));
	json_decref(got);
}
END_TEST

/* ---- properties ------------------------------------------------------------------------------ */

#define CONTENT_TYPE "\x03\0\4text"
#define RESPONSE     "\x08\0\3r/t"
#define CORRELATION  "\x09\0\2\xff\1"
#define USER(n, v)   "\x26\0\1" n "\0\1" v

static const struct {
	struct grapnel_str block;
	const char *ours, *vernemq; /* ours NULL: no member "properties" */
} properties[] = {
	{ GRAPNEL_STR(""), NULL, "{}" },
	{ GRAPNEL_STR("\x01\x01" CONTENT_TYPE RESPONSE CORRELATION "\x0b\x80\x01\x0b\x05"),
	    "{'payload_format':1,'content_type':'text','response_topic':'r/t',"
	    "'correlation_data_base64':'/wE=','subscription_identifiers':[128,5]}",
	    "{'p_payload_format_indicator':'utf8','p_content_type':'text',"
	    "'p_response_topic':'r/t','p_correlation_data':'\xef\xbf\xbd\\u0001'}" },
	{ GRAPNEL_STR(USER("a", "b") CONTENT_TYPE USER("a", "c")),
	    "{'content_type':'text','user_properties':[{'name':'a','value':'b'},"
	    "{'name':'a','value':'c'}]}",
	    "{'p_content_type':'text','p_user_property':[{'key':'YQ==','val':'Yg=='},"
	    "{'key':'YQ==','val':'Yw=='}]}" },
	/* alias and expiry are told elsewhere or not at all */
	{ GRAPNEL_STR("\x23\0\1\x02\0\0\0\5"), NULL, "{}" },
	/* what is malformed ends the walk; what was there before it stays; a second one does not count */
	{ GRAPNEL_STR(CONTENT_TYPE "\x03\0\1x\x08\0\x09r"), "{'content_type':'text'}",
	    "{'p_content_type':'text'}" },
	{ GRAPNEL_STR("\x26\0\1a\0"), NULL, "{}" },
	{ GRAPNEL_STR("\x0b\x80\x80\x80\x80\x01"), NULL, "{}" },
	{ GRAPNEL_STR("\x7f\x01"), NULL, "{}" },
	{ GRAPNEL_STR("\x01"), NULL, "{}" },
	{ GRAPNEL_STR("\x03\xff\xff"), NULL, "{}" },
};

START_TEST(properties_are_read_and_damage_ends_them)
{
	struct sample s;
	json_t *got, *part;

	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	s.client.protocol = GRAPNEL_MQTT_5_0;
	s.message.properties = properties[_i].block;
	got = formatted(&s, SIZE_MAX, FORMAT_BINARY, PAYLOAD_AUTO);
	part = json_object_get(json_object_get(got, "message"), "properties");
	if (properties[_i].ours == NULL)
		ck_assert_ptr_null(part);
	else
		ck_json(json_incref(part), json_quoted("", properties[_i].ours, ""));
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_json(json_incref(json_object_get(got, "properties")),
	    json_quoted("", properties[_i].vernemq, ""));
	json_decref(got);
}
END_TEST

START_TEST(an_expiry_is_told)
{
	struct sample s;
	json_t *got;

	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	s.client.protocol = GRAPNEL_MQTT_5_0;
	s.message.has_message_expiry = true;
	s.message.message_expiry = 30;
	got = formatted(&s, SIZE_MAX, FORMAT_BINARY, PAYLOAD_AUTO);
	ck_assert_int_eq(
	    json_integer_value(json_object_get(json_object_get(got, "message"), "expiry")), 30);
	json_decref(got);
	got = formatted(&s, SIZE_MAX, FORMAT_VERNEMQ, PAYLOAD_AUTO);
	ck_json(json_incref(json_object_get(got, "properties")),
	    json_of("{\"p_message_expiry_interval\":30}"));
	json_decref(got);
}
END_TEST

START_TEST(what_is_absent_is_left_out)
{
	static const char expected[] =
	    "{'client':{'client_id':'','mountpoint':'m/','peer':'unix:','listener':'main',"
	    "'protocol':'5.0','identity_source':'psk','superuser':true,'anonymous':true,"
	    "'clean_start':true,'keep_alive':0,'session_expiry':null,'attributes':{'a':'1'}},"
	    "'session_present':false}";
	struct sample s;

	sample_event(&s, GRAPNEL_EVENT_CLIENT_CONNECTED);
	s.event.session_present = false;
	s.attributes[0] = (struct grapnel_pair){ GRAPNEL_STR("a"), GRAPNEL_STR("1") };
	s.attributes[1] =
	    (struct grapnel_pair){ GRAPNEL_STR("a"), GRAPNEL_STR("2") }; /* the first counts */
	s.client.client_id = GRAPNEL_STR("");
	s.client.username = (struct grapnel_str){ NULL, 0 };
	s.client.mountpoint = GRAPNEL_STR("m/");
	s.client.peer = GRAPNEL_STR("unix:");
	s.client.protocol = GRAPNEL_MQTT_5_0;
	s.client.identity_source = GRAPNEL_IDENTITY_PSK;
	s.client.superuser = s.client.anonymous = s.client.clean_start = true;
	s.client.session_generation = 0;
	s.client.keep_alive = 0;
	s.client.session_expiry = UINT32_MAX;
	ck_json(
	    formatted(&s, SIZE_MAX, FORMAT_BINARY, PAYLOAD_AUTO), json_quoted("", expected, ""));
}
END_TEST

/* ---- times ----------------------------------------------------------------------------------- */

static const struct {
	int64_t us;
	const char *text;
} times[] = {
	{ 0, "1970-01-01T00:00:00.000000Z" },
	{ INT64_C(951827696789012), "2000-02-29T12:34:56.789012Z" },
	{ INT64_C(1709251199999999), "2024-02-29T23:59:59.999999Z" },
	{ INT64_C(1709251200000000), "2024-03-01T00:00:00.000000Z" },
	{ INT64_C(4107542399000000), "2100-02-28T23:59:59.000000Z" },
	{ INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z" },
	{ -1, "1969-12-31T23:59:59.999999Z" },
	{ INT64_MAX, "9999-12-31T23:59:59.999999Z" },
	{ INT64_MIN, "0001-01-01T00:00:00.000000Z" },
};

START_TEST(a_time_is_of_rfc_3339)
{
	char out[FORMAT_TIME_SIZE];

	format_time(out, times[_i].us);
	ck_assert_str_eq(out, times[_i].text);
}
END_TEST

/* ---- CloudEvents ----------------------------------------------------------------------------- */

START_TEST(a_cloudevent_has_its_attributes)
{
	struct sample s;
	char start[400];
	const char *subject = "";

	sample_event(&s, (enum grapnel_event_type)_i);
	if (s.event.message != NULL)
		subject = "'subject':'a/b','partitionkey':'clientid',";
	else if (s.event.client != NULL)
		subject = "'subject':'clientid','partitionkey':'clientid',";
	(void)snprintf(start, sizeof(start),
	    "{'specversion':'1.0','id':'0123456789abcdef-0000000000000002-0300000000000001',"
	    "'source':'/grapnel','type':'grapnel.%s','time':'2023-11-14T22:13:20.123456Z',%s"
	    "'datacontenttype':'application/json','data':{",
	    event_name((enum grapnel_event_type)_i), subject);
	ck_json(formatted(&s, SIZE_MAX, FORMAT_CLOUDEVENTS, PAYLOAD_AUTO),
	    json_quoted(start, fields[_i], "}}"));
}
END_TEST

/* Attributes have no control characters and no noncharacters; headers are printable ASCII. */
static const struct {
	struct grapnel_str topic;
	const char *subject, *header;
} subjects[] = {
	{ GRAPNEL_STR("Euro \xe2\x82\xac \xf0\x9f\x98\x80"), "Euro \xe2\x82\xac \xf0\x9f\x98\x80",
	    "Euro%20%E2%82%AC%20%F0%9F%98%80" }, /* the specification's own example */
	{ GRAPNEL_STR("a\"b%c"), "a\"b%c", "a%22b%25c" },
	{ GRAPNEL_STR("a\r\nX: y"), "a\xef\xbf\xbd\xef\xbf\xbdX: y", "a%EF%BF%BD%EF%BF%BDX:%20y" },
	{ GRAPNEL_STR("\x7f|\xc2\x85|\xef\xb7\x90|\xef\xbf\xbf|\xf0\x9f\xbf\xbe"),
	    "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd",
	    "%EF%BF%BD|%EF%BF%BD|%EF%BF%BD|%EF%BF%BD|%EF%BF%BD" },
	{ GRAPNEL_STR("\xff"), "\xef\xbf\xbd", "%EF%BF%BD" },
	{ GRAPNEL_STR(""), NULL, NULL },
};

static unsigned
headers_of(struct text *t, const struct sample *s, enum format_kind kind)
{
	const struct format_options o = {
		.kind = kind, .source = "/gr apnel", .type_prefix = "grapnel."
	};
	struct record_view v;
	unsigned count;
	char *bytes;

	view_of(&v, &bytes, s, SIZE_MAX);
	count = format_headers(t, &v, &o);
	free(bytes);
	ck_assert(!t->failed);
	if (count > 0)
		ck_assert_int_eq(t->data[t->len - 1], '\0');
	for (size_t i = 0; i < t->len; i++)
		ck_assert(t->data[i] == '\0' || (t->data[i] >= 0x20 && t->data[i] < 0x7f));
	return count;
}

static const char *
header(const struct text *t, unsigned count, const char *name)
{
	const char *p = t->data;

	for (unsigned i = 0; i < count; i++, p += strlen(p) + 1) {
		ck_assert_ptr_nonnull(strstr(p, ": "));
		if (strncmp(p, name, strlen(name)) == 0 && p[strlen(name)] == ':')
			return p + strlen(name) + 2;
	}
	return NULL;
}

START_TEST(attributes_are_cleaned_and_headers_encoded)
{
	struct sample s;
	struct text t = { 0 };
	unsigned count;
	json_t *got;
	const char *h;

	sample_event(&s, GRAPNEL_EVENT_RETAINED_SET);
	s.message.topic_name = subjects[_i].topic;
	s.client.client_id = subjects[_i].topic;
	got = formatted(&s, SIZE_MAX, FORMAT_CLOUDEVENTS, PAYLOAD_AUTO);
	count = headers_of(&t, &s, FORMAT_BINARY);
	for (unsigned i = 0; i < 2; i++) {
		static const char *const names[] = { "subject", "partitionkey" },
					 *const header_names[] = { "ce-subject",
						 "ce-partitionkey" };
		json_t *value = json_object_get(got, names[i]);

		h = header(&t, count, header_names[i]);
		if (subjects[_i].subject == NULL) {
			ck_assert_ptr_null(value);
			ck_assert_ptr_null(h);
		} else {
			ck_assert_str_eq(json_string_value(value), subjects[_i].subject);
			ck_assert_str_eq(h, subjects[_i].header);
		}
	}
	json_decref(got);
	text_free(&t);
}
END_TEST

START_TEST(binary_mode_has_its_headers)
{
	struct sample s;
	struct text t = { 0 };
	unsigned count;

	sample_event(&s, GRAPNEL_EVENT_CLIENT_CONNECTED);
	count = headers_of(&t, &s, FORMAT_BINARY);
	ck_assert_uint_eq(count, 7);
	ck_assert_str_eq(header(&t, count, "ce-specversion"), "1.0");
	ck_assert_str_eq(
	    header(&t, count, "ce-id"), "0123456789abcdef-0000000000000002-0300000000000001");
	ck_assert_str_eq(header(&t, count, "ce-source"), "/gr%20apnel");
	ck_assert_str_eq(header(&t, count, "ce-type"), "grapnel.client_connected");
	ck_assert_str_eq(header(&t, count, "ce-time"), "2023-11-14T22:13:20.123456Z");
	ck_assert_str_eq(header(&t, count, "ce-subject"), "clientid");
	ck_assert_str_eq(header(&t, count, "ce-partitionkey"), "clientid");
	text_free(&t);
	ck_assert_uint_eq(headers_of(&t, &s, FORMAT_CLOUDEVENTS), 0);
	text_free(&t);
}
END_TEST

START_TEST(a_long_attribute_is_no_header)
{
	struct sample s;
	struct text t = { 0 };
	char topic[2049];
	unsigned count;

	memset(topic, 'x', sizeof(topic));
	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	for (size_t len = 2048; len <= 2049; len++) {
		s.message.topic_name = (struct grapnel_str){ topic, len };
		count = headers_of(&t, &s, FORMAT_BINARY);
		ck_assert((header(&t, count, "ce-subject") != NULL) == (len == 2048));
		text_free(&t);
	}
	memset(topic, ' ', sizeof(topic));
	s.message.topic_name = (struct grapnel_str){ topic, 700 }; /* 2100 as %20 */
	count = headers_of(&t, &s, FORMAT_BINARY);
	ck_assert_ptr_null(header(&t, count, "ce-subject"));
	ck_assert_ptr_nonnull(header(&t, count, "ce-partitionkey"));
	text_free(&t);
}
END_TEST

START_TEST(content_types_are_those_of_the_specification)
{
	ck_assert_str_eq(format_content_type(FORMAT_CLOUDEVENTS, false),
	    "application/cloudevents+json; charset=UTF-8");
	ck_assert_str_eq(format_content_type(FORMAT_CLOUDEVENTS, true),
	    "application/cloudevents-batch+json; charset=UTF-8");
	ck_assert_str_eq(format_content_type(FORMAT_BINARY, false), "application/json");
	ck_assert_str_eq(format_content_type(FORMAT_EMQX, false), "application/json");
}
END_TEST

/* ---- the manual ------------------------------------------------------------------------------ */

/* man/grapnel-events.7, without spaces and line breaks when it is to be packed. */
static char *
manual(bool packed)
{
	const char *source = getenv("GRAPNEL_SRC");
	char path[4096], *text = malloc(1 << 20);
	size_t n = 0;
	FILE *in;

	(void)snprintf(
	    path, sizeof(path), "%s/man/grapnel-events.7", source != NULL ? source : ".");
	in = fopen(path, "r");
	ck_assert_msg(in != NULL && text != NULL, "%s", path);
	for (int c; (c = fgetc(in)) != EOF && n + 1 < 1 << 20;)
		if (!packed || (c != ' ' && c != '\n'))
			text[n++] = (char)c;
	text[n] = '\0';
	(void)fclose(in);
	return text;
}

static const struct {
	enum format_kind kind;
	enum grapnel_event_type type;
} shown[] = {
	{ FORMAT_CLOUDEVENTS, GRAPNEL_EVENT_MESSAGE_PUBLISHED },
	{ FORMAT_VERNEMQ, GRAPNEL_EVENT_MESSAGE_PUBLISHED },
	{ FORMAT_EMQX, GRAPNEL_EVENT_CLIENT_CONNECTED },
	{ FORMAT_NANOMQ, GRAPNEL_EVENT_CLIENT_CONNECTED },
	{ FORMAT_TEMPLATE, GRAPNEL_EVENT_SUBSCRIBED }, /* stands for the line of a log */
};

START_TEST(the_manual_shows_what_is_sent)
{
	const struct format_options o = {
		.kind = shown[_i].kind, .source = "/grapnel", .type_prefix = "grapnel."
	};
	char *man = manual(true);
	struct record_view v;
	struct text t = { 0 };
	struct sample s;

	sample_event(&s, shown[_i].type);
	record_view_of(&v, &s.event, SIZE_MAX);
	if (o.kind == FORMAT_TEMPLATE)
		event_line(&t, &v, PAYLOAD_AUTO);
	else
		format_event(&t, &v, &o);
	text_char(&t, '\0');
	ck_assert_msg(strstr(man, t.data) != NULL, "man/grapnel-events.7 does not show %s", t.data);
	text_free(&t);
	free(man);
}
END_TEST

static void
ck_names(const char *man, const json_t *value)
{
	const char *name;
	json_t *member;

	json_object_foreach((json_t *)(uintptr_t)value, name, member)
	{
		if (strcmp(name, "attributes") == 0)
			continue;
		ck_assert_msg(
		    strstr(man, name) != NULL, "man/grapnel-events.7 lacks the field %s", name);
		ck_names(man, member);
	}
}

START_TEST(the_manual_names_each_event_and_field)
{
	static const enum format_kind kinds[] = { FORMAT_CLOUDEVENTS, FORMAT_VERNEMQ, FORMAT_EMQX,
		FORMAT_NANOMQ };
	char *man = manual(false);
	struct sample s;
	json_t *object;

	ck_assert_ptr_nonnull(strstr(man, event_name((enum grapnel_event_type)_i)));
	for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++) {
		if ((format_possible(kinds[k]) & GRAPNEL_EVENT_BIT(_i)) == 0)
			continue;
		sample_event(&s, (enum grapnel_event_type)_i);
		s.client.protocol = GRAPNEL_MQTT_5_0;
		s.client.mountpoint = GRAPNEL_STR("m/");
		s.client.superuser = s.client.anonymous = true;
		s.client.identity_source = GRAPNEL_IDENTITY_PSK;
		s.message.has_message_expiry = true;
		s.message.properties = properties[1].block;
		object = formatted(&s, SIZE_MAX, kinds[k], PAYLOAD_BASE64);
		ck_names(man, object);
		json_decref(object);
	}
	free(man);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("event format");
	TCase *tc = tcase_create("event format");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, each_event_has_its_fields, 0, GRAPNEL_EVENT_COUNT);
	tcase_add_loop_test(tc, a_line_has_id_time_and_name_too, 0, GRAPNEL_EVENT_COUNT);
	tcase_add_loop_test(tc, a_payload_is_text_or_base64_or_left_out, 0, ROWS(payloads));
	tcase_add_loop_test(tc, properties_are_read_and_damage_ends_them, 0, ROWS(properties));
	tcase_add_test(tc, an_expiry_is_told);
	tcase_add_test(tc, what_is_absent_is_left_out);
	tcase_add_loop_test(tc, a_time_is_of_rfc_3339, 0, ROWS(times));
	tcase_add_loop_test(tc, a_cloudevent_has_its_attributes, 0, GRAPNEL_EVENT_COUNT);
	tcase_add_loop_test(tc, attributes_are_cleaned_and_headers_encoded, 0, ROWS(subjects));
	tcase_add_test(tc, binary_mode_has_its_headers);
	tcase_add_test(tc, a_long_attribute_is_no_header);
	tcase_add_loop_test(tc, the_manual_shows_what_is_sent, 0, ROWS(shown));
	tcase_add_loop_test(tc, the_manual_names_each_event_and_field, 0, GRAPNEL_EVENT_COUNT);
	tcase_add_test(tc, content_types_are_those_of_the_specification);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
