/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format - what an event looks like to those who receive it
 *
 * Threads:   any; writer options are immutable.
 * Ownership: out is the caller's; nothing else is kept.
 */
#ifndef PLUGINS_EVENTS_FORMAT_H
#define PLUGINS_EVENTS_FORMAT_H

#include "record.h"
#include "text.h"

enum format_kind {
	FORMAT_CLOUDEVENTS = 0, /* one JSON object, or several as an array */
	FORMAT_BINARY = 1,	/* CloudEvents in binary mode: attributes are headers, the body is `data` */
	FORMAT_VERNEMQ = 2,
	FORMAT_EMQX = 3,
	FORMAT_NANOMQ = 4,
	FORMAT_TEMPLATE = 5,	/* the operator's own text: body.h */
};

enum format_payload {
	PAYLOAD_AUTO = 0, /* as text when it is UTF-8 without NUL, else base64; foreign formats: as theirs by default */
	PAYLOAD_BASE64 = 1,
	PAYLOAD_NONE = 2, /* only its size */
	PAYLOAD_TEXT = 3, /* always as text; bytes that are no UTF-8 are lost */
};

struct format_options {
	enum format_kind kind;
	enum format_payload payload;
	const char *source;	 /* CloudEvents: a URI reference */
	const char *type_prefix; /* CloudEvents: in front of the event's name */
};

/* GRAPNEL_EVENT_BITs of what it can write; the others are not to be given to it. GAP is not one of the foreign formats'. */
uint64_t format_possible(enum format_kind kind);
/* For Content-Type; several: an array of events. Receivers of VERNEMQ, EMQX and NANOMQ expect one event a request. */
const char *format_content_type(enum format_kind kind, bool several);

/*
 * `data` of a CloudEvent, which is also what event-log writes, without braces: "client":{...},"message":{...},"reason":...
 * The fields of each event stand in grapnel-events(7).
 */
void event_fields(struct text *out, const struct record_view *v, enum format_payload payload);
/* One line of event-log without its end: {"id":...,"time":...,"event":"message_published", the fields}. */
void event_line(struct text *out, const struct record_view *v, enum format_payload payload);

/* One event as a JSON object: kinds CLOUDEVENTS (structured), VERNEMQ, EMQX, NANOMQ; for BINARY its `data`. */
void format_event(struct text *out, const struct record_view *v, const struct format_options *o);

/*
 * Headers of one event, "Name: value", for BINARY (ce-id ...) and VERNEMQ (vernemq-hook). Values are of printable ASCII
 * whatever the event holds: CloudEvents percent-encodes the rest, and an optional attribute of more than 2048 bytes is
 * left out. Each ends with NUL in out; @return how many.
 */
unsigned format_headers(struct text *out, const struct record_view *v, const struct format_options *o);

/* Time as RFC 3339 in UTC with microseconds. */
#define FORMAT_TIME_SIZE 32u
void format_time(char out[FORMAT_TIME_SIZE], int64_t time_us);

#endif
