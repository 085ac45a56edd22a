/* SPDX-License-Identifier: Apache-2.0 */
/* Texts and headers of the operator's own, filled from events whose clients and topics are hostile. */
#include "../../plugins/events/body.h"
#include "event_samples.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS(table) (int)(sizeof(table) / sizeof(*(table)))

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static void
fill_body(struct text *out, const char *body, const struct sample *s, size_t payload_max)
{
	struct body_template *t;
	struct record_view v;
	char error[200] = "";

	t = body_template_new(str(body), error, sizeof(error));
	ck_assert_msg(t != NULL, "%s: %s", body, error);
	record_view_of(&v, &s->event, payload_max);
	body_template_put(out, t, &v);
	ck_assert(!out->failed);
	body_template_free(t);
}

static void
ck_body(const char *body, const struct sample *s, size_t payload_max, const char *filled)
{
	struct text out = { 0 };

	fill_body(&out, body, s, payload_max);
	text_char(&out, '\0');
	ck_assert_str_eq(out.data, filled);
	text_free(&out);
}

static const struct {
	enum grapnel_event_type type;
	const char *body, *filled;
} fills[] = {
	{ GRAPNEL_EVENT_CLIENT_CONNECTED, "", "" },
	{ GRAPNEL_EVENT_CLIENT_CONNECTED, "100%% of <%u|%c|%h|%l|%m|%{tenant}>",
	    "100% of <username|clientid|127.0.0.1|main||t1>" },
	{ GRAPNEL_EVENT_CLIENT_CONNECTED, "%e %i %s",
	    "client_connected 0123456789abcdef-0000000000000002-0300000000000001 "
	    "2023-11-14T22:13:20.123456Z" },
	{ GRAPNEL_EVENT_CLIENT_CONNECTED, "<%t|%a|%q|%r|%d|%b|%{role}>", "<||||||>" },
	{ GRAPNEL_EVENT_SUBSCRIBED, "<%t|%a|%q|%r>", "<a/b|subscribe|1|>" },
	{ GRAPNEL_EVENT_UNSUBSCRIBED, "<%t|%a|%q|%r>", "<a/b|subscribe||>" },
	{ GRAPNEL_EVENT_MESSAGE_PUBLISHED, "<%t|%a|%q|%r|%d|%b>",
	    "<a/b|publish|1|0|hello|aGVsbG8=>" },
	{ GRAPNEL_EVENT_MESSAGE_DELIVERED, "<%t|%a|%q|%r|%d>", "<a/b|read|0|0|hello>" },
	{ GRAPNEL_EVENT_MESSAGE_DROPPED, "<%t|%a|%q>", "<a/b||1>" },
	{ GRAPNEL_EVENT_WILL_PUBLISHED, "<%t|%a>", "<a/b|will>" },
	{ GRAPNEL_EVENT_RETAINED_SET, "<%t|%a|%r>", "<a/b|publish|1>" },
	{ GRAPNEL_EVENT_GAP, "<%e|%u|%c|%h|%l|%m|%{tenant}|%t|%a|%q|%r|%d>", "<gap|||||||||||>" },
};

START_TEST(places_are_filled_and_absent_ones_are_empty)
{
	struct sample s;

	sample_event(&s, fills[_i].type);
	if (fills[_i].type == GRAPNEL_EVENT_MESSAGE_DELIVERED)
		s.event.qos = 0; /* used, not the message's */
	ck_body(fills[_i].body, &s, SIZE_MAX, fills[_i].filled);
}
END_TEST

START_TEST(a_payload_over_its_limit_is_empty)
{
	struct sample s;

	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	ck_body("<%d|%b>", &s, 4, "<|>");
	s.message.payload = (struct grapnel_str){ NULL, 0 };
	ck_body("<%d|%b>", &s, 4, "<|>");
}
END_TEST

/* Whatever bytes clients choose. */
static const struct grapnel_str hostile[] = {
	{ "\",\"admin\":true,\"x\":\"", 19 },
	{ "a\r\nSet-Cookie: x=1\r\n\r\n<html>", 29 },
	{ "nul\0behind", 10 },
	{ "back\\slash\\", 11 },
	{ "%u%c%{tenant}%%", 15 },
	{ "\xff\xfe\xc0\x80", 4 },
	{ "\xe2\x82\xac\xc2\x85\x7f\x1b[2J", 10 },
	{ "a b\tc", 5 },
};

static void
make_hostile(struct sample *s, struct grapnel_str value)
{
	sample_event(s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	s->client.client_id = s->client.username = s->client.peer = s->client.mountpoint = value;
	s->attributes[0].value = value;
	s->message.topic_name = s->message.payload = value;
}

START_TEST(hostile_values_stay_inside_their_quotes)
{
	static const char *const keys[] = { "c", "u", "h", "m", "t", "d", "x" };
	struct sample s;
	struct text out = { 0 };
	json_error_t error;
	json_t *object;
	const char *first;

	make_hostile(&s, hostile[_i]);
	fill_body(&out,
	    "{\"c\":\"%c\",\"u\":\"%u\",\"h\":\"%h\",\"m\":\"%m\",\"t\":\"%t\",\"d\":\"%d\","
	    "\"x\":\"%{tenant}\",\"b\":\"%b\"}",
	    &s, SIZE_MAX);
	object = json_loadb(out.data, out.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &error);
	ck_assert_msg(object != NULL, "%s: %.*s", error.text, (int)out.len, out.data);
	ck_assert_uint_eq(json_object_size(object), 8);
	first = json_string_value(json_object_get(object, "c"));
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		json_t *value = json_object_get(object, keys[i]);

		ck_assert(json_is_string(value));
		if (strcmp(keys[i], "h") != 0) /* has no port */
			ck_assert_str_eq(json_string_value(value), first);
		if (text_is_utf8(hostile[_i]) && strcmp(keys[i], "h") != 0) {
			ck_assert_uint_eq(json_string_length(value), hostile[_i].len);
			ck_assert_mem_eq(
			    json_string_value(value), hostile[_i].data, hostile[_i].len);
		}
	}
	json_decref(object);
	text_free(&out);
}
END_TEST

/* ---- headers --------------------------------------------------------------------------------- */

static struct header_templates *
headers(const struct grapnel_str *lines, size_t count)
{
	char error[200] = "";
	struct header_templates *t = header_templates_new(lines, count, error, sizeof(error));

	ck_assert_msg(t != NULL, "%s", error);
	return t;
}

START_TEST(hostile_values_are_printable_in_headers)
{
	static const struct grapnel_str lines[] = { GRAPNEL_STR("X-A: <%c> <%t>"),
		GRAPNEL_STR("X-B: %{tenant}"), GRAPNEL_STR("X-C: %d%u%h%m"),
		GRAPNEL_STR("X-D: %b") };
	struct header_templates *t = headers(lines, 4);
	struct text out = { 0 };
	struct record_view v;
	struct sample s;
	unsigned ends = 0;

	make_hostile(&s, hostile[_i]);
	record_view_of(&v, &s.event, SIZE_MAX);
	ck_assert_uint_eq(header_templates_put(&out, t, &v), 4);
	ck_assert(!out.failed);
	for (size_t i = 0; i < out.len; i++) {
		if (out.data[i] == '\0')
			ends++;
		else
			ck_assert(out.data[i] >= 0x20 && out.data[i] <= 0x7e && out.data[i] != '"');
	}
	ck_assert_uint_eq(ends, 4);
	ck_assert_int_eq(strncmp(out.data, "X-A: <", 6), 0);
	text_free(&out);
	header_templates_free(t);
}
END_TEST

START_TEST(headers_are_filled_or_left_out)
{
	static const struct grapnel_str lines[] = {
		GRAPNEL_STR("X-Constant: as it is, 100%%"),
		GRAPNEL_STR("X-Who:%c at %{tenant}"),
		GRAPNEL_STR("X-Absent: %{role}"),
		GRAPNEL_STR("X-Empty: %m"),
		GRAPNEL_STR("X-Event:  %e %q"),
		GRAPNEL_STR("X-Encoded: %u"),
		GRAPNEL_STR("X-Large: %d"),
		GRAPNEL_STR("X-Blank: %m %m"),
	};
	static const char filled[] = "X-Constant: as it is, 100%\0X-Who: clientid at t1\0"
				     "X-Event: message_published 1\0X-Encoded: a%20%22%25%C3%A9";
	struct header_templates *t = headers(lines, 8);
	struct text out = { 0 };
	struct record_view v;
	struct sample s;
	char large[2049];

	memset(large, 'x', sizeof(large));
	sample_event(&s, GRAPNEL_EVENT_MESSAGE_PUBLISHED);
	s.client.username = GRAPNEL_STR("a \"%\xc3\xa9");
	s.message.payload = (struct grapnel_str){ large, sizeof(large) };
	record_view_of(&v, &s.event, SIZE_MAX);
	ck_assert_uint_eq(header_templates_put(&out, t, &v), 4);
	ck_assert_uint_eq(out.len, sizeof(filled));
	ck_assert_mem_eq(out.data, filled, sizeof(filled));
	text_clear(&out);
	s.message.payload.len = 2048;
	record_view_of(&v, &s.event, SIZE_MAX);
	ck_assert_uint_eq(header_templates_put(&out, t, &v), 5);
	text_free(&out);
	header_templates_free(t);
}
END_TEST

static const struct {
	struct grapnel_str line;
	const char *error;
} faults[] = {
	{ GRAPNEL_STR(""), "Name: value" },
	{ GRAPNEL_STR("no colon"), "Name: value" },
	{ GRAPNEL_STR(": x"), "Name: value" },
	{ GRAPNEL_STR("X%c: x"), "Name: value" },
	{ GRAPNEL_STR("X-A"), "Name: value" },
	{ GRAPNEL_STR("X-A:"), "without a value" },
	{ GRAPNEL_STR("X-A: \t "), "without a value" },
	{ GRAPNEL_STR("X-A: a\r\nX-B: b"), "printable" },
	{ GRAPNEL_STR("X-A: a\0b"), "printable" },
	{ GRAPNEL_STR("X-A: \xc3\xa9"), "printable" },
	{ GRAPNEL_STR("X-A: %p"), "no meaning" }, /* no event has a password */
	{ GRAPNEL_STR("X-A: %z"), "one of u c t a q r h l m e i s d b, by" },
	{ GRAPNEL_STR("content-length: 3"), "not yours" },
	{ GRAPNEL_STR("HOST: x"), "not yours" },
	{ GRAPNEL_STR("Content-type: text/plain"), "not yours" },
	{ GRAPNEL_STR("Transfer-Encoding: chunked"), "not yours" },
};

START_TEST(what_is_wrong_with_a_header_is_said)
{
	const struct grapnel_str lines[] = { GRAPNEL_STR("X-Good: yes"), faults[_i].line };
	char error[200] = "";

	ck_assert_ptr_null(header_templates_new(lines, 2, error, sizeof(error)));
	ck_assert_msg(strstr(error, faults[_i].error) != NULL, "%s", error);
}
END_TEST

START_TEST(what_is_wrong_with_a_body_is_said)
{
	char error[200] = "";

	ck_assert_ptr_null(body_template_new(str("{\"p\":\"%p\"}"), error, sizeof(error)));
	ck_assert_ptr_nonnull(strstr(error, "no meaning"));
	ck_assert_ptr_null(body_template_new(str("%"), error, sizeof(error)));
	ck_assert_ptr_nonnull(strstr(error, "must be followed by"));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("event body");
	TCase *tc = tcase_create("event body");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, places_are_filled_and_absent_ones_are_empty, 0, ROWS(fills));
	tcase_add_test(tc, a_payload_over_its_limit_is_empty);
	tcase_add_loop_test(tc, hostile_values_stay_inside_their_quotes, 0, ROWS(hostile));
	tcase_add_loop_test(tc, hostile_values_are_printable_in_headers, 0, ROWS(hostile));
	tcase_add_test(tc, headers_are_filled_or_left_out);
	tcase_add_loop_test(tc, what_is_wrong_with_a_header_is_said, 0, ROWS(faults));
	tcase_add_test(tc, what_is_wrong_with_a_body_is_said);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
