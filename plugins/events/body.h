/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body - the operator's own text for an event, and own headers
 *
 * The places are those of ACLs (plugins/common/template.h) and of events: %e name, %i id, %s time, %d payload as text,
 * %b payload in base64. %t is the topic of the message or the filter, %a what a right to it is called (publish,
 * subscribe, read, will), %q the QoS that counts: of the message, granted, or used on delivery.
 *
 *	body = "{\"id\": \"%i\", \"who\": \"%c\", \"what\": \"%d\"}"
 *	headers = ["X-Tenant: %{tenant}", "X-Site: hall 3"]
 *
 * In a body, values are escaped for the inside of a JSON string, whatever they hold; what is absent is empty there. In a
 * header, values hold nothing but U+0021 to U+007E: all else, '"' and '%' are percent-encoded, byte by byte. A header with
 * a place whose value is absent, without any value (or with nothing but blanks), or with one of more than 2048 bytes is left out.
 *
 * Threads:   a template is immutable; use it on any.
 * Ownership: *_new give heap objects that own their text.
 */
#ifndef PLUGINS_EVENTS_BODY_H
#define PLUGINS_EVENTS_BODY_H

#include "record.h"
#include "text.h"

struct body_template;	 /* opaque: body.c */
struct header_templates; /* opaque: body.c */

/* NULL: error (NUL-terminated, cut) says what is wrong. */
struct body_template *body_template_new(struct grapnel_str text, char *error, size_t error_size);
void body_template_free(struct body_template *t); /* NULL is fine */
void body_template_put(struct text *out, const struct body_template *t, const struct record_view *v);

/* Of lines "Name: text with places". Those that HTTP itself, or the body, decides about (Host, Content-Length ...) are an error. */
struct header_templates *header_templates_new(const struct grapnel_str *lines, size_t count, char *error, size_t error_size);
void header_templates_free(struct header_templates *t); /* NULL is fine */
/* Each ends with NUL in out; @return how many. */
unsigned header_templates_put(struct text *out, const struct header_templates *t, const struct record_view *v);

#endif
