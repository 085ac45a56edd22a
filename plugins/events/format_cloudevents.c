/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CloudEvents 1.0.2: the JSON format, and headers of the binary mode (HTTP protocol binding, sections 3.1 and 3.1.3.2).
 * The extension `sequence` is not sent: it orders the events of a source, and a broker's workers have no common order. The
 * last part of the id orders those of a worker.
 */
#include "../common/utf8.h"
#include "format_private.h"

/* ---- attributes are strings without control characters and noncharacters (section "Type System") -- */

static bool
allowed(const unsigned char *p, size_t len)
{
	if (len < 3)
		return len == 1 ? p[0] >= 0x20 && p[0] != 0x7f
				: len == 2 && !(p[0] == 0xc2 && p[1] < 0xa0);
	if (len == 3)
		return !(p[0] == 0xef &&
		    ((p[1] == 0xb7 && p[2] >= 0x90 && p[2] <= 0xaf) ||
			(p[1] == 0xbf && p[2] >= 0xbe)));
	return !((p[1] & 0x0f) == 0x0f && p[2] == 0xbf && p[3] >= 0xbe);
}

/* Bytes at the front of s that may stand in an attribute. */
static size_t
allowed_run(struct grapnel_str s)
{
	const unsigned char *p = (const unsigned char *)s.data;
	size_t n = 0, len;

	while (n < s.len) {
		len =
		    p[n] < 0x80 ? 1 : utf8_sequence((struct grapnel_str){ s.data + n, s.len - n });
		if (!allowed(p + n, len))
			break;
		n += len;
	}
	return n;
}

static void
put_attribute(struct text *t, struct grapnel_str s, void (*put)(struct text *, struct grapnel_str))
{
	while (s.len > 0) {
		size_t n = allowed_run(s), bad;

		put(t, (struct grapnel_str){ s.data, n });
		s.data += n;
		s.len -= n;
		if (s.len == 0)
			return;
		bad = utf8_sequence(s);
		bad = bad > 0 ? bad : 1;
		put(t, GRAPNEL_STR("\xef\xbf\xbd"));
		s.data += bad;
		s.len -= bad;
	}
}

/* What the event is about; none: empty. */
static struct grapnel_str
subject_of(const struct record_view *v)
{
	if (v->event.message != NULL)
		return v->event.message->topic_name;
	return v->event.client != NULL ? v->event.client->client_id
				       : (struct grapnel_str){ NULL, 0 };
}

static struct grapnel_str
partition_of(const struct record_view *v)
{
	return v->event.client != NULL ? v->event.client->client_id
				       : (struct grapnel_str){ NULL, 0 };
}

/* ---- structured mode ------------------------------------------------------------------------- */

static void
member_attribute(struct text *t, const char *name, struct grapnel_str value)
{
	if (value.len == 0) /* an attribute is not empty */
		return;
	json_name(t, name);
	text_char(t, '"');
	put_attribute(t, value, json_escape);
	text_char(t, '"');
}

void
cloudevents_event(struct text *t, const struct record_view *v, const struct format_options *o)
{
	text_literal(t, "{\"specversion\":\"1.0\",\"id\":\"");
	put_id(t, &v->event.id);
	text_literal(t, "\",\"source\":\"");
	json_escape(t, (struct grapnel_str){ o->source, strlen(o->source) });
	text_literal(t, "\",\"type\":\"");
	json_escape(t, (struct grapnel_str){ o->type_prefix, strlen(o->type_prefix) });
	text_puts(t, event_name(v->event.type));
	text_literal(t, "\",\"time\":\"");
	put_time(t, v->event.time_us);
	text_char(t, '"');
	member_attribute(t, "subject", subject_of(v));
	member_attribute(t, "partitionkey", partition_of(v));
	text_literal(t, ",\"datacontenttype\":\"application/json\",\"data\":{");
	event_fields(t, v, o->payload);
	text_literal(t, "}}");
}

/* ---- binary mode ----------------------------------------------------------------------------- */

/* @return 1; 0: left out. */
static unsigned
header_attribute(struct text *t, const char *name, struct grapnel_str value)
{
	size_t start = t->len, from;

	if (value.len == 0 || value.len > HEADER_VALUE_MAX)
		return 0;
	text_puts(t, name);
	from = t->len;
	put_attribute(t, value, put_percent);
	if (t->len - from > HEADER_VALUE_MAX) {
		t->len = start;
		return 0;
	}
	text_char(t, '\0');
	return 1;
}

unsigned
cloudevents_headers(struct text *t, const struct record_view *v, const struct format_options *o)
{
	text_literal(t, "ce-specversion: 1.0\0ce-id: ");
	put_id(t, &v->event.id);
	text_literal(t, "\0ce-source: ");
	put_percent(t, (struct grapnel_str){ o->source, strlen(o->source) });
	text_literal(t, "\0ce-type: ");
	put_percent(t, (struct grapnel_str){ o->type_prefix, strlen(o->type_prefix) });
	text_puts(t, event_name(v->event.type));
	text_literal(t, "\0ce-time: ");
	put_time(t, v->event.time_us);
	text_char(t, '\0');
	return 5 + header_attribute(t, "ce-subject: ", subject_of(v)) +
	    header_attribute(t, "ce-partitionkey: ", partition_of(v));
}
