/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <string.h>

static const char *const names[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = "client_connected",
	[GRAPNEL_EVENT_CLIENT_REFUSED] = "client_refused",
	[GRAPNEL_EVENT_CLIENT_DISCONNECTED] = "client_disconnected",
	[GRAPNEL_EVENT_SESSION_CREATED] = "session_created",
	[GRAPNEL_EVENT_SESSION_RESUMED] = "session_resumed",
	[GRAPNEL_EVENT_SESSION_TAKEN_OVER] = "session_taken_over",
	[GRAPNEL_EVENT_SESSION_EXPIRED] = "session_expired",
	[GRAPNEL_EVENT_SUBSCRIBED] = "subscribed",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = "unsubscribed",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] = "message_published",
	[GRAPNEL_EVENT_MESSAGE_DELIVERED] = "message_delivered",
	[GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED] = "message_acknowledged",
	[GRAPNEL_EVENT_MESSAGE_DROPPED] = "message_dropped",
	[GRAPNEL_EVENT_MESSAGE_EXPIRED] = "message_expired",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = "will_published",
	[GRAPNEL_EVENT_RETAINED_SET] = "retained_set",
	[GRAPNEL_EVENT_RETAINED_CLEARED] = "retained_cleared",
	[GRAPNEL_EVENT_BROKER_STARTING] = "broker_starting",
	[GRAPNEL_EVENT_BROKER_READY] = "broker_ready",
	[GRAPNEL_EVENT_BROKER_STOPPING] = "broker_stopping",
	[GRAPNEL_EVENT_GAP] = "gap",
};

const char *
event_name(enum grapnel_event_type type)
{
	return (unsigned)type < GRAPNEL_EVENT_COUNT ? names[type] : NULL;
}

enum grapnel_event_type
event_type_of(struct grapnel_str name)
{
	for (unsigned i = 0; i < GRAPNEL_EVENT_COUNT; i++)
		if (strlen(names[i]) == name.len && memcmp(names[i], name.data, name.len) == 0)
			return (enum grapnel_event_type)i;
	return GRAPNEL_EVENT_COUNT;
}
