/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names - what the events of grapnel/events.h are called, in configurations, in what is sent, and in the scripts of the SDK
 *
 * Threads: any. Nothing is kept.
 */
#ifndef PLUGINS_EVENTS_NAMES_H
#define PLUGINS_EVENTS_NAMES_H

#include <grapnel/events.h>

/* "message_published" ...; NULL: no such type. */
const char *event_name(enum grapnel_event_type type);
/* GRAPNEL_EVENT_COUNT: no such name. */
enum grapnel_event_type event_type_of(struct grapnel_str name);

#endif
