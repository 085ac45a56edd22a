/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the formats share, and nobody else: members of JSON objects, and the walk over properties.
 *
 * Threads: any.
 */
#ifndef PLUGINS_EVENTS_FORMAT_PRIVATE_H
#define PLUGINS_EVENTS_FORMAT_PRIVATE_H

#include "../common/template.h"
#include "format.h"

#include <string.h>

/* Values of a header longer than this are left out: what they say is in the body as well, and servers refuse longer ones. */
#define HEADER_VALUE_MAX 2048u

#define text_literal(t, literal) text_put((t), (literal), sizeof(literal) - 1)

/* .data NULL: no such member. */
void member_string(struct text *t, const char *name, struct grapnel_str value);
void member_text(struct text *t, const char *name, const char *value);
void member_uint(struct text *t, const char *name, uint64_t value);
void member_bool(struct text *t, const char *name, bool value);
/* Bytes under one name or the other, as `how` says. */
void member_bytes(
    struct text *t, const char *as_text, const char *as_base64, struct grapnel_str value, enum format_payload how);

void put_id(struct text *t, const struct grapnel_event_id *id);
void put_time(struct text *t, int64_t time_us);
/* The next property of a PUBLISH; false: there is none, or what follows is malformed. Start with *pos = 0. */
bool publish_property(struct grapnel_str block, size_t *pos, struct grapnel_property *out);
/* The payload; .data NULL: it was left out. */
struct grapnel_str payload_of_view(const struct record_view *v);
/* A client's address and port: {NULL, 0} and 0 where there are none. */
struct grapnel_str peer_address(struct grapnel_str peer, uint64_t *port);
/* Bytes outside of U+0021 to U+007E, '"' and '%' as %XX. */
void put_percent(struct text *t, struct grapnel_str s);
bool str_is(struct grapnel_str s, const char *text);

void cloudevents_event(struct text *t, const struct record_view *v, const struct format_options *o);
unsigned cloudevents_headers(struct text *t, const struct record_view *v, const struct format_options *o);
uint64_t vernemq_possible(void);
void vernemq_event(struct text *t, const struct record_view *v, const struct format_options *o);
const char *vernemq_hook(const struct record_view *v);
uint64_t emqx_possible(void);
void emqx_event(struct text *t, const struct record_view *v, const struct format_options *o);
uint64_t nanomq_possible(void);
void nanomq_event(struct text *t, const struct record_view *v, const struct format_options *o);

#endif
