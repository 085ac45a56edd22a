/* SPDX-License-Identifier: Apache-2.0 */
#include "format_private.h"

#define ALL_EVENTS ((UINT64_C(1) << GRAPNEL_EVENT_COUNT) - 1)

uint64_t
format_possible(enum format_kind kind)
{
	switch (kind) {
	case FORMAT_CLOUDEVENTS:
	case FORMAT_BINARY:
	case FORMAT_TEMPLATE:
		return ALL_EVENTS;
	case FORMAT_VERNEMQ:
		return vernemq_possible();
	case FORMAT_EMQX:
		return emqx_possible();
	case FORMAT_NANOMQ:
		return nanomq_possible();
	}
	return 0;
}

const char *
format_content_type(enum format_kind kind, bool several)
{
	if (kind != FORMAT_CLOUDEVENTS)
		return "application/json";
	return several ? "application/cloudevents-batch+json; charset=UTF-8"
		       : "application/cloudevents+json; charset=UTF-8";
}

void
format_event(struct text *out, const struct record_view *v, const struct format_options *o)
{
	switch (o->kind) {
	case FORMAT_CLOUDEVENTS:
		cloudevents_event(out, v, o);
		break;
	case FORMAT_BINARY:
	case FORMAT_TEMPLATE: /* has a text of its own: body.h */
		text_char(out, '{');
		event_fields(out, v, o->payload);
		text_char(out, '}');
		break;
	case FORMAT_VERNEMQ:
		vernemq_event(out, v, o);
		break;
	case FORMAT_EMQX:
		emqx_event(out, v, o);
		break;
	case FORMAT_NANOMQ:
		nanomq_event(out, v, o);
		break;
	}
}

unsigned
format_headers(struct text *out, const struct record_view *v, const struct format_options *o)
{
	const char *hook;

	if (o->kind == FORMAT_BINARY)
		return cloudevents_headers(out, v, o);
	if (o->kind != FORMAT_VERNEMQ || (hook = vernemq_hook(v)) == NULL)
		return 0;
	text_literal(out, "vernemq-hook: ");
	text_puts(out, hook);
	text_char(out, '\0');
	return 1;
}

void
event_line(struct text *out, const struct record_view *v, enum format_payload payload)
{
	text_literal(out, "{\"id\":\"");
	put_id(out, &v->event.id);
	text_literal(out, "\",\"time\":\"");
	put_time(out, v->event.time_us);
	text_literal(out, "\",\"event\":\"");
	text_puts(out, event_name(v->event.type));
	text_char(out, '"');
	event_fields(out, v, payload);
	text_char(out, '}');
}

/* ---- ids and times --------------------------------------------------------------------------- */

void
put_id(struct text *t, const struct grapnel_event_id *id)
{
	char text[EVENT_ID_SIZE];

	event_id_text(text, id);
	text_puts(t, text);
}

/* n in `width` digits. */
static void
put_digits(char *to, uint64_t n, unsigned width)
{
	while (width-- > 0) {
		to[width] = (char)('0' + n % 10);
		n /= 10;
	}
}

/* Day 0 is 1970-01-01. Of the proleptic Gregorian calendar, in years that begin in March, as leap days end them. */
static void
civil_of_days(int64_t days, uint64_t *year, uint64_t *month, uint64_t *day)
{
	uint64_t since = (uint64_t)(days + 719468); /* 0000-03-01 */
	uint64_t era = since / 146097, of_era = since % 146097;
	uint64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;

	*day = of_year - (153 * m + 2) / 5 + 1;
	*month = m < 10 ? m + 3 : m - 9;
	*year = era * 400 + y + (*month <= 2 ? 1 : 0);
}

void
format_time(char out[FORMAT_TIME_SIZE], int64_t time_us)
{
	/* RFC 3339 has years of four digits; a record from a disk may hold any number. */
	const int64_t first = INT64_C(-62135596800000000), last = INT64_C(253402300799999999);
	int64_t us = time_us < first ? first : time_us > last ? last : time_us;
	int64_t days = us / INT64_C(86400000000), rest = us % INT64_C(86400000000);
	uint64_t year, month, day, n;

	if (rest < 0) {
		rest += INT64_C(86400000000);
		days--;
	}
	n = (uint64_t)rest;
	civil_of_days(days, &year, &month, &day);
	memcpy(out, "0000-00-00T00:00:00.000000Z", 28);
	put_digits(out, year, 4);
	put_digits(out + 5, month, 2);
	put_digits(out + 8, day, 2);
	put_digits(out + 11, n / UINT64_C(3600000000), 2);
	put_digits(out + 14, n / 60000000 % 60, 2);
	put_digits(out + 17, n / 1000000 % 60, 2);
	put_digits(out + 20, n % 1000000, 6);
}

void
put_time(struct text *t, int64_t time_us)
{
	char text[FORMAT_TIME_SIZE];

	format_time(text, time_us);
	text_puts(t, text);
}

/* ---- members --------------------------------------------------------------------------------- */

bool
str_is(struct grapnel_str s, const char *text)
{
	size_t len = strlen(text);

	return s.len == len && memcmp(s.data, text, len) == 0;
}

void
member_string(struct text *t, const char *name, struct grapnel_str value)
{
	if (value.data == NULL)
		return;
	json_name(t, name);
	json_text(t, value);
}

void
member_text(struct text *t, const char *name, const char *value)
{
	member_string(t, name, (struct grapnel_str){ value, strlen(value) });
}

void
member_uint(struct text *t, const char *name, uint64_t value)
{
	json_name(t, name);
	text_uint(t, value);
}

void
member_bool(struct text *t, const char *name, bool value)
{
	json_name(t, name);
	json_bool(t, value);
}

void
member_bytes(struct text *t, const char *as_text, const char *as_base64, struct grapnel_str value,
    enum format_payload how)
{
	if (value.data == NULL || how == PAYLOAD_NONE)
		return;
	if (how == PAYLOAD_TEXT || (how == PAYLOAD_AUTO && text_is_utf8(value))) {
		member_string(t, as_text, value);
	} else {
		json_name(t, as_base64);
		json_base64(t, value);
	}
}

struct grapnel_str
payload_of_view(const struct record_view *v)
{
	/* An empty one is there, even where it has no address. */
	return v->payload_size == 0 ? GRAPNEL_STR("") : v->message.payload;
}

void
put_percent(struct text *t, struct grapnel_str s)
{
	static const char hex[] = "0123456789ABCDEF";
	char code[3] = "%";

	for (size_t i = 0, n; i < s.len; i += n) {
		for (n = 0; i + n < s.len && s.data[i + n] > 0x20 && s.data[i + n] < 0x7f &&
		     s.data[i + n] != '"' && s.data[i + n] != '%';)
			n++;
		text_put(t, s.data + i, n);
		if (i + n == s.len)
			return;
		code[1] = hex[(unsigned char)s.data[i + n] >> 4];
		code[2] = hex[s.data[i + n] & 15];
		text_put(t, code, sizeof(code));
		n++;
	}
}

struct grapnel_str
peer_address(struct grapnel_str peer, uint64_t *port)
{
	struct grapnel_str address = template_address(peer);
	size_t end;

	*port = 0;
	if (address.data == NULL || address.len == peer.len)
		return address;
	/* What stands between it and the port is ":" or "]:". */
	end = (size_t)(address.data - peer.data) + address.len;
	end += end < peer.len && peer.data[end] == ']' ? 2 : 1;
	for (; end < peer.len && peer.data[end] >= '0' && peer.data[end] <= '9' && *port < 65536;
	     end++)
		*port = *port * 10 + (uint64_t)(peer.data[end] - '0');
	return address;
}
