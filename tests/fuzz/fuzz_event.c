/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as a record of an event: the first byte chooses the form, the rest is what a disk may give back. What can be
 * read must come out as JSON that another parser understands, with headers of printable ASCII.
 */
#include "events/body.h"
#include "events/format.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void
must_be_json(const struct text *t)
{
	json_t *json;

	must(!t->failed);
	json = json_loadb(t->data, t->len, JSON_ALLOW_NUL, NULL);
	must(json != NULL);
	json_decref(json);
}

static void
must_be_headers(const struct text *t, unsigned count)
{
	size_t at = 0;

	for (unsigned i = 0; i < count; i++) {
		const char *line = t->data + at;

		must(at < t->len && strchr(line, ':') != NULL);
		for (; t->data[at] != '\0'; at++)
			must(t->data[at] >= ' ' && t->data[at] < 0x7f);
		at++;
	}
	must(at == t->len);
}

static void
own_texts(const struct record_view *v)
{
	static const struct grapnel_str lines[] = { GRAPNEL_STR("X-Topic: %t of %c, %u"),
		GRAPNEL_STR("X-A: %{a} %h %l %m %e %i") };
	char error[256];
	struct text t = { 0 };
	struct body_template *body = body_template_new(
	    GRAPNEL_STR("{\"a\":\"%c %u %t %d\",\"b\":\"%e%i%s%q%r%h%l%m%{a}%{cert.cn}\"}"), error,
	    sizeof(error));
	struct header_templates *headers = header_templates_new(lines, 2, error, sizeof(error));

	must(body != NULL && headers != NULL);
	body_template_put(&t, body, v);
	must_be_json(&t);
	text_clear(&t);
	must_be_headers(&t, header_templates_put(&t, headers, v));
	body_template_free(body);
	header_templates_free(headers);
	text_free(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct format_options options = { .source = "/grapnel",
		.type_prefix = "grapnel." };
	struct format_options o = options;
	struct record_view v;
	struct text t = { 0 };
	char *copy;

	if (size < 1 + sizeof(uint32_t) || size > 65536)
		return 0;
	o.kind = (enum format_kind)(data[0] % FORMAT_TEMPLATE);
	o.payload = (enum format_payload)(data[0] / FORMAT_TEMPLATE % (PAYLOAD_TEXT + 1));
	copy = malloc(size - 1);
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	if (data[0] & 0x80) { /* most inputs should get past the length in front */
		uint32_t len = (uint32_t)(size - 1);

		memcpy(copy, &len, sizeof(len));
	}
	if (record_read(&v, copy, size - 1) > 0) {
		text_char(&t, '{');
		event_fields(&t, &v, o.payload);
		text_char(&t, '}');
		must_be_json(&t);
		text_clear(&t);
		event_line(&t, &v, o.payload);
		must_be_json(&t);
		text_clear(&t);
		if (format_possible(o.kind) & GRAPNEL_EVENT_BIT(v.event.type)) {
			format_event(&t, &v, &o);
			must_be_json(&t);
			text_clear(&t);
			if (o.kind == FORMAT_BINARY || o.kind == FORMAT_VERNEMQ)
				must_be_headers(&t, format_headers(&t, &v, &o));
		}
		own_texts(&v);
	}
	text_free(&t);
	free(copy);
	return 0;
}
