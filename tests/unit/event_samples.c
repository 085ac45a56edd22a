/* SPDX-License-Identifier: Apache-2.0 */
#include "event_samples.h"

#include <string.h>

#define BIT(name) GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_##name)

static const uint64_t without_client =
    BIT(BROKER_STARTING) | BIT(BROKER_READY) | BIT(BROKER_STOPPING) | BIT(GAP);
static const uint64_t with_message = BIT(MESSAGE_PUBLISHED) | BIT(MESSAGE_DELIVERED) |
    BIT(MESSAGE_ACKNOWLEDGED) | BIT(MESSAGE_DROPPED) | BIT(MESSAGE_EXPIRED) | BIT(WILL_PUBLISHED) |
    BIT(RETAINED_SET) | BIT(RETAINED_CLEARED);

static void
sample_client(struct sample *s)
{
	s->attributes[0] = (struct grapnel_pair){ GRAPNEL_STR("tenant"), GRAPNEL_STR("t1") };
	s->attributes[1] =
	    (struct grapnel_pair){ GRAPNEL_STR("tls.sni"), GRAPNEL_STR("a.example") };
	s->client = (struct grapnel_client_info){ .size = sizeof(s->client),
		.client_id = GRAPNEL_STR("clientid"),
		.username = GRAPNEL_STR("username"),
		.mountpoint = GRAPNEL_STR(""),
		.peer = GRAPNEL_STR("127.0.0.1:8888"),
		.listener = GRAPNEL_STR("main"),
		.attributes = s->attributes,
		.attribute_count = 2,
		.session_generation = 7,
		.protocol = GRAPNEL_MQTT_3_1_1,
		.keep_alive = 60,
		.session_expiry = 3600 };
	s->event.client = &s->client;
}

static void
sample_message(struct sample *s)
{
	s->message = (struct grapnel_message_info){ .size = sizeof(s->message),
		.topic_name = GRAPNEL_STR("a/b"),
		.payload = GRAPNEL_STR("hello"),
		.author_client_id = GRAPNEL_STR("clientid"),
		.author_username = GRAPNEL_STR("username"),
		.qos = 1 };
	s->message.will = s->event.type == GRAPNEL_EVENT_WILL_PUBLISHED;
	s->message.retain = s->event.type == GRAPNEL_EVENT_RETAINED_SET;
	s->event.message = &s->message;
}

void
sample_event(struct sample *s, enum grapnel_event_type type)
{
	memset(s, 0, sizeof(*s));
	s->event = (struct grapnel_event){ .size = sizeof(s->event),
		.type = type,
		.id = { 0x0123456789abcdef, 2, 0x0300000000000001 },
		.time_us = INT64_C(1700000000123456) };
	if ((without_client & GRAPNEL_EVENT_BIT(type)) == 0)
		sample_client(s);
	if (with_message & GRAPNEL_EVENT_BIT(type))
		sample_message(s);
	switch ((unsigned)type) {
	case GRAPNEL_EVENT_CLIENT_CONNECTED:
		s->event.session_present = true;
		break;
	case GRAPNEL_EVENT_CLIENT_REFUSED:
		s->event.reason_code = 0x86;
		s->event.reason = GRAPNEL_STR("wrong password");
		break;
	case GRAPNEL_EVENT_CLIENT_DISCONNECTED:
		s->event.reason = GRAPNEL_STR("DISCONNECT by the client");
		break;
	case GRAPNEL_EVENT_SESSION_TAKEN_OVER:
		s->event.reason_code = 0x8e;
		s->event.reason = GRAPNEL_STR("taken over");
		break;
	case GRAPNEL_EVENT_SESSION_EXPIRED:
	case GRAPNEL_EVENT_MESSAGE_EXPIRED:
		s->event.reason = GRAPNEL_STR("expired");
		break;
	case GRAPNEL_EVENT_SUBSCRIBED:
	case GRAPNEL_EVENT_UNSUBSCRIBED:
		s->event.filter = GRAPNEL_STR("a/b");
		s->event.qos = type == GRAPNEL_EVENT_SUBSCRIBED ? 1 : 0;
		break;
	case GRAPNEL_EVENT_MESSAGE_DELIVERED:
		s->event.qos = 1;
		break;
	case GRAPNEL_EVENT_MESSAGE_DROPPED:
		s->event.reason = GRAPNEL_STR("queue full");
		break;
	case GRAPNEL_EVENT_GAP:
		s->event.lost = 12;
		break;
	}
}
