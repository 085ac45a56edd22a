/* SPDX-License-Identifier: Apache-2.0 */
/*
 * template - a text of the configuration with places that a question fills in
 *
 *	%u user name   %c Client Identifier   %p password   %t Topic Name or Topic Filter
 *	%a action: publish, subscribe, read, will   %q QoS   %r RETAIN, 0 or 1
 *	%h address of the peer without its port   %l listener   %m mountpoint   %{name} attribute   %% a percent sign
 * and about an event
 *	%e its name   %i its id   %s when it happened   %d payload   %b payload in base64
 *
 * A value that is absent (no user name, no such attribute) makes the whole text absent: nothing that was meant for
 * one client is ever asked about "".
 *
 * Threads:   a template is immutable; use it on any.
 * Ownership: template_parse gives a heap object that owns its text.
 * Bounded:   TEMPLATE_MAX_PLACES places.
 */
#ifndef PLUGINS_COMMON_TEMPLATE_H
#define PLUGINS_COMMON_TEMPLATE_H

#include <grapnel/plugin.h>

#define TEMPLATE_MAX_PLACES 64u

enum template_field { /* bits, for `allowed` */
	TEMPLATE_USERNAME = 1u << 0,
	TEMPLATE_CLIENT_ID = 1u << 1,
	TEMPLATE_PASSWORD = 1u << 2,
	TEMPLATE_TOPIC = 1u << 3,
	TEMPLATE_ACTION = 1u << 4,
	TEMPLATE_QOS = 1u << 5,
	TEMPLATE_RETAIN = 1u << 6,
	TEMPLATE_ADDRESS = 1u << 7,
	TEMPLATE_LISTENER = 1u << 8,
	TEMPLATE_MOUNTPOINT = 1u << 9,
	TEMPLATE_ATTRIBUTE = 1u << 10,
	TEMPLATE_EVENT_NAME = 1u << 11,
	TEMPLATE_EVENT_ID = 1u << 12,
	TEMPLATE_TIME = 1u << 13,
	TEMPLATE_PAYLOAD = 1u << 14,
	TEMPLATE_PAYLOAD_BASE64 = 1u << 15,
	/* what is known of every client, in every question */
	TEMPLATE_CLIENT = TEMPLATE_USERNAME | TEMPLATE_CLIENT_ID | TEMPLATE_ADDRESS | TEMPLATE_LISTENER | TEMPLATE_MOUNTPOINT |
	    TEMPLATE_ATTRIBUTE,
	/* and in a question about rights */
	TEMPLATE_ACL = TEMPLATE_CLIENT | TEMPLATE_TOPIC | TEMPLATE_ACTION | TEMPLATE_QOS | TEMPLATE_RETAIN,
	/* and about an event */
	TEMPLATE_EVENT = TEMPLATE_ACL | TEMPLATE_EVENT_NAME | TEMPLATE_EVENT_ID | TEMPLATE_TIME | TEMPLATE_PAYLOAD |
	    TEMPLATE_PAYLOAD_BASE64,
};

struct template_part {
	struct grapnel_str text;   /* literal, when field is 0; else the name of the attribute, if any */
	enum template_field field; /* 0: literal */
};
struct template; /* opaque: template.c */

/* What places are filled from; what is not known stays zero. All borrowed. */
struct template_values {
	const struct grapnel_client_info *client; /* NULL, for an event without one: what is said of it is absent */
	struct grapnel_str password;
	struct grapnel_str topic;
	enum grapnel_action action;
	uint8_t qos;
	bool retain;
	unsigned absent; /* enum template_field bits: an event has no such value (action, QoS, RETAIN) */
	struct grapnel_str event_name, event_id, time, payload; /* .data NULL: absent */
};
/* Those of a question. */
struct template_values template_of_login(const struct grapnel_authenticate *q);
struct template_values template_of_acl(const struct grapnel_acl_check *q);

/* NULL: error (NUL-terminated, cut) says what is wrong with the text, or that memory is short. */
struct template *template_parse(struct grapnel_str text, unsigned allowed, char *error, size_t error_size);
void template_free(struct template *t); /* NULL is fine */

/* Literals and places in turn; part i < count. */
size_t template_count(const struct template *t);
const struct template_part *template_part(const struct template *t, size_t i);
unsigned template_fields(const struct template *t);	   /* enum template_field bits of its places */
uint64_t template_depends(const struct template *t);	   /* GRAPNEL_DEPENDS_ bits, for host->depends_on */

/* The value for one place; .data NULL: absent. Short ones (QoS) are constants; nothing is allocated: base64 is the caller's. */
struct grapnel_str template_value(const struct template_part *part, const struct template_values *v);

/*
 * How a value is written into the text: append its form to out (room bytes) and return its length, which may be more than
 * room (then out holds nothing of use); SIZE_MAX: this value must not be used. NULL: as it is.
 */
typedef size_t (*template_escape_fn)(char *out, size_t room, struct grapnel_str value);

/*
 * The whole text, NUL-terminated, on the heap; *len without the NUL. NULL with *why: a value is absent, not usable, or
 * memory is short. Values may hold any byte, NUL included, when the escape function lets them through.
 */
char *template_fill(const struct template *t, const struct template_values *v, template_escape_fn escape, size_t *len,
    const char **why);

/* The address of a client without its port and brackets: "192.0.2.7", "2001:db8::1", "unix:" as it is. */
struct grapnel_str template_address(struct grapnel_str peer);

#endif
