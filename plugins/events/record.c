/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <string.h>

#define ABSENT UINT32_MAX

enum record_flags {
	HAS_CLIENT = 1u << 0,
	HAS_MESSAGE = 1u << 1,
	SESSION_PRESENT = 1u << 2,
	CLEAN_START = 1u << 3,
	SUPERUSER = 1u << 4,
	ANONYMOUS = 1u << 5,
	RETAIN = 1u << 6,
	DUP = 1u << 7,
	WILL = 1u << 8,
	HAS_EXPIRY = 1u << 9,
};

/* In front; strings follow, each with its length in four bytes, in the order of put_strings. */
struct head {
	uint32_t len; /* of the whole record */
	uint16_t flags;
	uint16_t attribute_count;
	uint64_t node, boot, sequence;
	int64_t time_us;
	uint64_t lost;
	uint64_t generation;
	uint64_t payload_size;
	uint32_t session_expiry, message_expiry;
	uint16_t keep_alive;
	uint8_t type, reason_code, qos, message_qos, protocol, identity_source;
};

void
event_id_text(char out[EVENT_ID_SIZE], const struct grapnel_event_id *id)
{
	const uint64_t parts[] = { id->node, id->boot, id->sequence };

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned shift = 64; shift > 0; shift -= 4)
			*out++ = "0123456789abcdef"[parts[i] >> (shift - 4) & 15];
		*out++ = i < 2 ? '-' : '\0';
	}
}

/* ---- writing --------------------------------------------------------------------------------- */

/* at NULL: only counts. */
struct out {
	char *at;
	size_t len;
};

static void
put(struct out *o, struct grapnel_str s)
{
	uint32_t len = s.data != NULL ? (uint32_t)s.len : ABSENT;

	if (o->at != NULL)
		memcpy(o->at + o->len, &len, sizeof(len));
	o->len += sizeof(len);
	if (s.data == NULL || s.len == 0)
		return;
	if (o->at != NULL)
		memcpy(o->at + o->len, s.data, s.len);
	o->len += s.len;
}

static size_t
attributes_of(const struct grapnel_client_info *c)
{
	return c->attribute_count < RECORD_MAX_ATTRIBUTES ? c->attribute_count
							  : RECORD_MAX_ATTRIBUTES;
}

/* Without what comes behind a NUL, which no reader of JSON takes in a name. */
static struct grapnel_str
name_of(const struct grapnel_pair *attribute)
{
	const struct grapnel_str name = attribute->name;

	return name.data != NULL ? (struct grapnel_str){ name.data, strnlen(name.data, name.len) }
				 : GRAPNEL_STR("");
}

static struct grapnel_str
payload_of(const struct grapnel_message_info *m, size_t payload_max)
{
	return m->payload.len <= payload_max ? m->payload : (struct grapnel_str){ NULL, 0 };
}

static void
put_strings(struct out *o, const struct grapnel_event *ev, size_t payload_max)
{
	const struct grapnel_client_info *c = ev->client;
	const struct grapnel_message_info *m = ev->message;

	put(o, ev->filter);
	put(o, ev->reason);
	if (c != NULL) {
		put(o, c->client_id);
		put(o, c->username);
		put(o, c->mountpoint);
		put(o, c->peer);
		put(o, c->listener);
		put(o, c->certificate_subject);
		for (size_t i = 0; i < attributes_of(c); i++) {
			put(o, name_of(&c->attributes[i]));
			put(o, c->attributes[i].value);
		}
	}
	if (m != NULL) {
		put(o, m->topic_name);
		put(o, m->properties);
		put(o, m->author_client_id);
		put(o, m->author_username);
		put(o, payload_of(m, payload_max));
	}
}

size_t
record_size(const struct grapnel_event *ev, size_t payload_max)
{
	struct out o = { NULL, sizeof(struct head) };

	put_strings(&o, ev, payload_max);
	return o.len;
}

static void
head_of(struct head *h, const struct grapnel_event *ev)
{
	const struct grapnel_client_info *c = ev->client;
	const struct grapnel_message_info *m = ev->message;

	*h = (struct head){ .node = ev->id.node,
		.boot = ev->id.boot,
		.sequence = ev->id.sequence,
		.time_us = ev->time_us,
		.lost = ev->lost,
		.type = (uint8_t)ev->type,
		.reason_code = ev->reason_code,
		.qos = ev->qos,
		.flags = ev->session_present ? SESSION_PRESENT : 0 };
	if (c != NULL) {
		h->flags |= (uint16_t)(HAS_CLIENT | (c->clean_start ? CLEAN_START : 0) |
		    (c->superuser ? SUPERUSER : 0) | (c->anonymous ? ANONYMOUS : 0));
		h->attribute_count = (uint16_t)attributes_of(c);
		h->generation = c->session_generation;
		h->session_expiry = c->session_expiry;
		h->keep_alive = c->keep_alive;
		h->protocol = c->protocol;
		h->identity_source = c->identity_source;
	}
	if (m != NULL) {
		h->flags |= (uint16_t)(HAS_MESSAGE | (m->retain ? RETAIN : 0) | (m->dup ? DUP : 0) |
		    (m->will ? WILL : 0) | (m->has_message_expiry ? HAS_EXPIRY : 0));
		h->message_expiry = m->message_expiry;
		h->message_qos = m->qos;
		h->payload_size = m->payload.len;
	}
}

size_t
record_write(char *to, const struct grapnel_event *ev, size_t payload_max)
{
	struct out o = { to, sizeof(struct head) };
	struct head h;

	put_strings(&o, ev, payload_max);
	head_of(&h, ev);
	h.len = (uint32_t)o.len;
	memcpy(to, &h, sizeof(h));
	return o.len;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct in {
	const char *at, *end;
	bool bad;
};

static struct grapnel_str
get(struct in *in)
{
	struct grapnel_str s = { NULL, 0 };
	uint32_t len;

	if (in->bad || (size_t)(in->end - in->at) < sizeof(len)) {
		in->bad = true;
		return s;
	}
	memcpy(&len, in->at, sizeof(len));
	in->at += sizeof(len);
	if (len == ABSENT)
		return s;
	if ((size_t)(in->end - in->at) < len) {
		in->bad = true;
		return s;
	}
	s = (struct grapnel_str){ in->at, len };
	in->at += len;
	return s;
}

static void
get_client(struct in *in, const struct head *h, struct record_view *v)
{
	v->client = (struct grapnel_client_info){ .size = sizeof(v->client),
		.attributes = v->attributes,
		.attribute_count = h->attribute_count,
		.session_generation = h->generation,
		.protocol = h->protocol,
		.clean_start = (h->flags & CLEAN_START) != 0,
		.superuser = (h->flags & SUPERUSER) != 0,
		.anonymous = (h->flags & ANONYMOUS) != 0,
		.keep_alive = h->keep_alive,
		.session_expiry = h->session_expiry,
		.identity_source = h->identity_source };
	v->event.client = &v->client;
	v->client.client_id = get(in);
	v->client.username = get(in);
	v->client.mountpoint = get(in);
	v->client.peer = get(in);
	v->client.listener = get(in);
	v->client.certificate_subject = get(in);
	for (unsigned i = 0; i < h->attribute_count; i++) {
		v->attributes[i].name = get(in);
		v->attributes[i].value = get(in);
		if (v->attributes[i].name.data == NULL ||
		    memchr(v->attributes[i].name.data, '\0', v->attributes[i].name.len) != NULL)
			in->bad = true; /* we write no such names */
	}
}

static void
get_message(struct in *in, const struct head *h, struct record_view *v)
{
	v->message = (struct grapnel_message_info){ .size = sizeof(v->message),
		.message_expiry = h->message_expiry,
		.has_message_expiry = (h->flags & HAS_EXPIRY) != 0,
		.qos = h->message_qos,
		.retain = (h->flags & RETAIN) != 0,
		.dup = (h->flags & DUP) != 0,
		.will = (h->flags & WILL) != 0 };
	v->event.message = &v->message;
	v->message.topic_name = get(in);
	v->message.properties = get(in);
	v->message.author_client_id = get(in);
	v->message.author_username = get(in);
	v->message.payload = get(in);
	v->payload_size = h->payload_size;
}

size_t
record_read(struct record_view *v, const char *bytes, size_t len)
{
	struct head h;
	struct in in;

	if (len < sizeof(h))
		return 0;
	memcpy(&h, bytes, sizeof(h));
	if (h.len < sizeof(h) || h.len > len || h.type >= GRAPNEL_EVENT_COUNT ||
	    h.attribute_count > RECORD_MAX_ATTRIBUTES || h.lost > INT64_MAX ||
	    h.generation > INT64_MAX || h.payload_size > INT64_MAX)
		return 0;
	in = (struct in){ bytes + sizeof(h), bytes + h.len, false };
	v->event = (struct grapnel_event){ .size = sizeof(v->event),
		.type = (enum grapnel_event_type)h.type,
		.id = { h.node, h.boot, h.sequence },
		.time_us = h.time_us,
		.lost = h.lost,
		.reason_code = h.reason_code,
		.qos = h.qos,
		.session_present = (h.flags & SESSION_PRESENT) != 0 };
	v->payload_size = 0;
	v->event.filter = get(&in);
	v->event.reason = get(&in);
	if (h.flags & HAS_CLIENT)
		get_client(&in, &h, v);
	if (h.flags & HAS_MESSAGE)
		get_message(&in, &h, v);
	return in.bad || in.at != in.end ? 0 : h.len;
}

void
record_view_of(struct record_view *v, const struct grapnel_event *ev, size_t payload_max)
{
	v->event = *ev;
	v->payload_size = 0;
	if (ev->client != NULL) {
		v->client = *ev->client;
		v->client.client = NULL;
		v->event.client = &v->client;
	}
	if (ev->message != NULL) {
		v->message = *ev->message;
		v->message.payload = payload_of(ev->message, payload_max);
		v->payload_size = ev->message->payload.len;
		v->event.message = &v->message;
	}
}
