/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what the formats make of sample events, for test_event_format.py to look at with other eyes. An event of each type,
 * then with each of the hostile texts as client, user, topic and payload. On a line each: "event" and the object of the
 * structured mode; "header" and one of the binary mode, several times; "body" and what comes with them.
 */
#include "../unit/event_samples.h"
#include "../../plugins/events/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_str hostile[] = {
	{ "", 0 },
	{ "a\r\nX-Injected: yes", 18 },
	{ "\"},\"id\":\"twice", 14 },
	{ "nul\0behind", 10 },
	{ "Euro \xe2\x82\xac \xf0\x9f\x98\x80 100%25", 20 },
	{ "\x01\x1f\x7f\xc2\x80\xc2\x9f", 7 },
	{ "\xef\xb7\x90\xef\xbf\xbe\xf4\x8f\xbf\xbf", 10 }, /* noncharacters */
	{ "\xed\xa0\x80\xff\xc0\xaf\xe2\x82", 8 },          /* no UTF-8 */
	{ "\\ \" / \b\f\t", 9 },
};

static void
print(const struct sample *s, enum format_payload payload)
{
	struct format_options o = {
		.payload = payload, .source = "/grapnel", .type_prefix = "grapnel."
	};
	struct text t = { 0 };
	struct record_view v;
	const char *p;
	unsigned count;

	record_view_of(&v, &s->event, SIZE_MAX);
	o.kind = FORMAT_CLOUDEVENTS;
	format_event(&t, &v, &o);
	printf("event %.*s\n", (int)t.len, t.data);
	text_clear(&t);
	o.kind = FORMAT_BINARY;
	count = format_headers(&t, &v, &o);
	p = t.data;
	for (unsigned i = 0; i < count; i++, p += strlen(p) + 1)
		printf("header %s\n", p);
	text_clear(&t);
	format_event(&t, &v, &o);
	printf("body %.*s\n", (int)t.len, t.data);
	if (t.failed)
		exit(1);
	text_free(&t);
}

int
main(void)
{
	static const enum format_payload payloads[] = { PAYLOAD_AUTO, PAYLOAD_BASE64, PAYLOAD_NONE,
		PAYLOAD_TEXT };
	struct sample s;

	for (unsigned type = 0; type < GRAPNEL_EVENT_COUNT; type++) {
		sample_event(&s, (enum grapnel_event_type)type);
		print(&s, PAYLOAD_AUTO);
		for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
			sample_event(&s, (enum grapnel_event_type)type);
			s.client.client_id = s.client.username = s.client.mountpoint = hostile[i];
			s.attributes[0].value = s.attributes[1].name = hostile[i];
			s.message.topic_name = s.message.payload = hostile[i];
			s.message.author_client_id = hostile[i];
			s.event.reason = hostile[i];
			print(&s, payloads[i % 4]);
		}
	}
	return 0;
}
