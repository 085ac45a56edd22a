/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record - an event as bytes, between the worker where it happened and where it is written out
 *
 * A record is self-contained: it can wait in memory or on a disk. Its bytes are those of this machine; whoever keeps them
 * notes RECORD_VERSION with them.
 *
 * Threads:   any; nothing is kept.
 * Ownership: a view borrows from the record it was read from.
 * Bounded:   RECORD_MAX_ATTRIBUTES attributes of a client; a payload over payload_max is left out, only its size stays.
 */
#ifndef PLUGINS_EVENTS_RECORD_H
#define PLUGINS_EVENTS_RECORD_H

#include "names.h"

#include <grapnel/plugin.h>

#define RECORD_VERSION        1u
#define RECORD_MAX_ATTRIBUTES 64u
#define RECORD_MAX            (1u << 30)

/* An event again. event.client and event.message are NULL, or point into this very struct. */
struct record_view {
	struct grapnel_event event;
	struct grapnel_client_info client;
	struct grapnel_message_info message; /* payload.data NULL: it was left out */
	uint64_t payload_size;               /* of the message, also when the payload was left out */
	struct grapnel_pair attributes[RECORD_MAX_ATTRIBUTES];
};

/* Bytes that record_write takes. */
size_t record_size(const struct grapnel_event *ev, size_t payload_max);
/* to has record_size bytes. @return that size. */
size_t record_write(char *to, const struct grapnel_event *ev, size_t payload_max);
/*
 * Read the record at the front of bytes. @return its length; 0: this is no whole record (bytes from a disk may be anything),
 * and view is undefined.
 */
size_t record_read(struct record_view *view, const char *bytes, size_t len);
/* The same for an event that was never a record: for those who write it out at once. */
void record_view_of(struct record_view *view, const struct grapnel_event *ev, size_t payload_max);


#define EVENT_ID_SIZE 51u /* with the NUL */
/* "0123456789abcdef-0123456789abcdef-0123456789abcdef": of one event, for ever. */
void event_id_text(char out[EVENT_ID_SIZE], const struct grapnel_event_id *id);

#endif
