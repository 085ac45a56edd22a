/* SPDX-License-Identifier: Apache-2.0 */
#include "template.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct template
{
	size_t count;
	unsigned fields;
	char *text; /* literals and names of attributes, one behind the other */
	/* a literal before each place and one behind the last */
	struct template_part parts[2 * TEMPLATE_MAX_PLACES + 1];
};

static const struct {
	enum template_field field;
	uint64_t depends;
	char letter;
} places[] = {
	{ TEMPLATE_USERNAME, GRAPNEL_DEPENDS_USERNAME, 'u' },
	{ TEMPLATE_CLIENT_ID, GRAPNEL_DEPENDS_CLIENT_ID, 'c' },
	{ TEMPLATE_PASSWORD, GRAPNEL_DEPENDS_PASSWORD, 'p' },
	/* those of a right: every acl_check depends on them anyhow */
	{ TEMPLATE_TOPIC, 0, 't' },
	{ TEMPLATE_ACTION, 0, 'a' },
	{ TEMPLATE_QOS, 0, 'q' },
	{ TEMPLATE_RETAIN, 0, 'r' },
	{ TEMPLATE_ADDRESS, GRAPNEL_DEPENDS_ADDRESS, 'h' },
	{ TEMPLATE_LISTENER, GRAPNEL_DEPENDS_LISTENER, 'l' },
	{ TEMPLATE_MOUNTPOINT, GRAPNEL_DEPENDS_MOUNTPOINT, 'm' },
	{ TEMPLATE_EVENT_NAME, 0, 'e' },
	{ TEMPLATE_EVENT_ID, 0, 'i' },
	{ TEMPLATE_TIME, 0, 's' },
	{ TEMPLATE_PAYLOAD, 0, 'd' },
	{ TEMPLATE_PAYLOAD_BASE64, 0, 'b' },
	{ TEMPLATE_ATTRIBUTE, GRAPNEL_DEPENDS_ATTRIBUTES, '{' },
};
#define PLACES (sizeof(places) / sizeof(*places))

/* ------------------------------------------------------------------------- parsing */

struct parser {
	struct template *t;
	unsigned allowed, place_count;
	size_t used;    /* of t->text */
	size_t literal; /* where the literal under way begins in t->text */
	char *error;
	size_t error_size;
};

static bool fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
fail(struct parser *p, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(p->error, p->error_size, format, args);
	va_end(args);
	return false;
}

static void
end_literal(struct parser *p)
{
	struct template *t = p->t;

	if (p->used > p->literal)
		t->parts[t->count++].text =
		    (struct grapnel_str){ t->text + p->literal, p->used - p->literal };
	p->literal = p->used;
}

static bool
is_attribute_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* What stands between "%{" and '}'. */
static bool
attribute_name(struct parser *p, struct grapnel_str rest, struct grapnel_str *name)
{
	const char *close = rest.len > 0 ? memchr(rest.data, '}', rest.len) : NULL;

	if (close == NULL || close == rest.data)
		return fail(p, "\"%%{\" needs the name of an attribute and a '}'");
	*name = (struct grapnel_str){ rest.data, (size_t)(close - rest.data) };
	for (size_t i = 0; i < name->len; i++)
		if (!is_attribute_char(name->data[i]))
			return fail(p,
			    "the name of an attribute between \"%%{\" and '}' is of a-z 0-9 _ - "
			    "and .");
	return true;
}

/* No such letter: those that have a meaning here are named. */
static bool
unknown_place(struct parser *p)
{
	char letters[2 * PLACES + 1];
	size_t n = 0;

	for (size_t i = 0; i < PLACES; i++)
		if ((places[i].field & p->allowed) != 0 && places[i].letter != '{') {
			letters[n++] = ' ';
			letters[n++] = places[i].letter;
		}
	letters[n] = '\0';
	return fail(p, "a '%%' must be followed by one of%s, by {attribute} or by %%", letters);
}

/* text begins behind a '%'. @return how many bytes of it belong to the place; 0: error. */
static size_t
add_place(struct parser *p, struct grapnel_str text)
{
	struct grapnel_str name = { NULL, 0 };
	struct template_part *part;
	size_t i = 0;

	while (text.len > 0 && i < PLACES && places[i].letter != text.data[0])
		i++;
	if (text.len == 0 || i == PLACES) {
		(void)unknown_place(p);
		return 0;
	}
	if ((places[i].field & p->allowed) == 0) {
		(void)fail(p, "%%%c%s has no meaning here", places[i].letter,
		    places[i].field == TEMPLATE_ATTRIBUTE ? "...}" : "");
		return 0;
	}
	if (places[i].field == TEMPLATE_ATTRIBUTE &&
	    !attribute_name(p, (struct grapnel_str){ text.data + 1, text.len - 1 }, &name))
		return 0;
	if (p->place_count == TEMPLATE_MAX_PLACES) {
		(void)fail(p, "there are more than %u places in it", TEMPLATE_MAX_PLACES);
		return 0;
	}
	end_literal(p);
	part = &p->t->parts[p->t->count++];
	part->field = places[i].field;
	p->t->fields |= places[i].field;
	p->place_count++;
	if (name.data == NULL)
		return 1;
	memcpy(p->t->text + p->used, name.data, name.len);
	part->text = (struct grapnel_str){ p->t->text + p->used, name.len };
	p->literal = p->used += name.len;
	return name.len + 2;
}

static bool
parse(struct parser *p, struct grapnel_str text)
{
	for (size_t i = 0, n; i < text.len; i++) {
		if (text.data[i] == '%' && i + 1 < text.len && text.data[i + 1] == '%') {
			i++;
		} else if (text.data[i] == '%') {
			n = add_place(
			    p, (struct grapnel_str){ text.data + i + 1, text.len - i - 1 });
			if (n == 0)
				return false;
			i += n;
			continue;
		}
		p->t->text[p->used++] = text.data[i];
	}
	end_literal(p);
	return true;
}

struct template *
template_parse(struct grapnel_str text, unsigned allowed, char *error, size_t error_size)
{
	struct parser p = { .allowed = allowed, .error = error, .error_size = error_size };

	if ((p.t = calloc(1, sizeof(*p.t))) == NULL ||
	    (p.t->text = malloc(text.len + 1)) ==
		NULL) { /* never longer than what it is made from */
		(void)fail(&p, "out of memory");
		template_free(p.t);
		return NULL;
	}
	if (!parse(&p, text)) {
		template_free(p.t);
		return NULL;
	}
	return p.t;
}

void
template_free(struct template *t)
{
	if (t == NULL)
		return;
	free(t->text);
	free(t);
}

/* ------------------------------------------------------------------------- looking */

size_t
template_count(const struct template *t)
{
	return t->count;
}

const struct template_part *
template_part(const struct template *t, size_t i)
{
	return &t->parts[i];
}

unsigned
template_fields(const struct template *t)
{
	return t->fields;
}

uint64_t
template_depends(const struct template *t)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < PLACES; i++)
		if (t->fields & places[i].field)
			mask |= places[i].depends;
	return mask;
}

/* ------------------------------------------------------------------------- filling */

struct template_values
template_of_login(const struct grapnel_authenticate *q)
{
	return (struct template_values){ .client = q->client, .password = q->password };
}

struct template_values
template_of_acl(const struct grapnel_acl_check *q)
{
	return (struct template_values){
		.client = q->client,
		.topic = q->topic,
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
	};
}

struct grapnel_str
template_address(struct grapnel_str peer)
{
	const char *end;

	if (peer.len == 0 || (peer.len >= 5 && memcmp(peer.data, "unix:", 5) == 0))
		return peer;
	if (peer.data[0] == '[') {
		end = memchr(peer.data, ']', peer.len);
		return end == NULL
		    ? peer
		    : (struct grapnel_str){ peer.data + 1, (size_t)(end - peer.data) - 1 };
	}
	/* One colon is before a port; several are an address without one. */
	end = memchr(peer.data, ':', peer.len);
	if (end == NULL || memchr(end + 1, ':', peer.len - (size_t)(end - peer.data) - 1) != NULL)
		return peer;
	return (struct grapnel_str){ peer.data, (size_t)(end - peer.data) };
}

static struct grapnel_str
action_name(enum grapnel_action action)
{
	switch (action) {
	case GRAPNEL_PUBLISH:
		return GRAPNEL_STR("publish");
	case GRAPNEL_SUBSCRIBE:
		return GRAPNEL_STR("subscribe");
	case GRAPNEL_READ:
		return GRAPNEL_STR("read");
	case GRAPNEL_WILL:
		return GRAPNEL_STR("will");
	}
	return (struct grapnel_str){ NULL, 0 }; /* no right is asked about, or one of a later ABI */
}

static struct grapnel_str
attribute(const struct grapnel_client_info *client, struct grapnel_str name)
{
	for (size_t i = 0; i < client->attribute_count; i++) {
		const struct grapnel_pair *a = &client->attributes[i];

		if (a->name.len == name.len && memcmp(a->name.data, name.data, name.len) == 0)
			return a->value;
	}
	return (struct grapnel_str){ NULL, 0 };
}

struct grapnel_str
template_value(const struct template_part *part, const struct template_values *v)
{
	static const char digits[] = "0123456789";

	if ((part->field & v->absent) != 0 ||
	    ((part->field & TEMPLATE_CLIENT) != 0 && v->client == NULL))
		return (struct grapnel_str){ NULL, 0 };
	switch ((unsigned)part->field) {
	case TEMPLATE_USERNAME:
		return v->client->username;
	case TEMPLATE_CLIENT_ID:
		return v->client->client_id;
	case TEMPLATE_PASSWORD:
		return v->password;
	case TEMPLATE_TOPIC:
		return v->topic;
	case TEMPLATE_ACTION:
		return action_name(v->action);
	case TEMPLATE_QOS:
		return (struct grapnel_str){ digits + (v->qos <= 2 ? v->qos : 2), 1 };
	case TEMPLATE_RETAIN:
		return (struct grapnel_str){ digits + (v->retain ? 1 : 0), 1 };
	case TEMPLATE_ADDRESS:
		return template_address(v->client->peer);
	case TEMPLATE_LISTENER:
		return v->client->listener;
	case TEMPLATE_MOUNTPOINT:
		/* "" when there is none: a value like others */
		return v->client->mountpoint.data != NULL ? v->client->mountpoint : GRAPNEL_STR("");
	case TEMPLATE_ATTRIBUTE:
		return attribute(v->client, part->text);
	case TEMPLATE_EVENT_NAME:
		return v->event_name;
	case TEMPLATE_EVENT_ID:
		return v->event_id;
	case TEMPLATE_TIME:
		return v->time;
	case TEMPLATE_PAYLOAD:
	case TEMPLATE_PAYLOAD_BASE64:
		return v->payload;
	}
	return part->text;
}

static const char *
what_is_absent(enum template_field field)
{
	switch ((unsigned)field) {
	case TEMPLATE_USERNAME:
		return "the client has no user name";
	case TEMPLATE_PASSWORD:
		return "the client gave no password";
	case TEMPLATE_ATTRIBUTE:
		return "the client lacks an attribute";
	}
	return "a value is absent";
}

/*
 * The whole text into out, or with room 0 only its length. SIZE_MAX: *why.
 */
static size_t
write_parts(const struct template *t, const struct template_values *v, template_escape_fn escape,
    char *out, size_t room, const char **why)
{
	size_t len = 0;

	for (size_t i = 0; i < t->count; i++) {
		const struct template_part *part = &t->parts[i];
		struct grapnel_str value = template_value(part, v);
		size_t left = room > len ? room - len : 0, n = value.len;

		if (value.data == NULL) {
			*why = what_is_absent(part->field);
			return SIZE_MAX;
		}
		if (part->field != 0 && escape != NULL) {
			n = escape(left > 0 ? out + len : NULL, left, value);
			if (n == SIZE_MAX) {
				*why = "a value has bytes that cannot stand there";
				return SIZE_MAX;
			}
		} else if (n > 0 && n <= left) {
			memcpy(out + len, value.data, n);
		}
		if (n > SIZE_MAX / 2 - len) {
			*why = "the text is too long";
			return SIZE_MAX;
		}
		len += n;
	}
	return len;
}

char *
template_fill(const struct template *t, const struct template_values *v, template_escape_fn escape,
    size_t *len, const char **why)
{
	size_t n = write_parts(t, v, escape, NULL, 0, why);
	char *out;

	if (n == SIZE_MAX)
		return NULL;
	if ((out = malloc(n + 1)) == NULL) {
		*why = "out of memory";
		return NULL;
	}
	(void)write_parts(t, v, escape, out, n, why);
	out[n] = '\0';
	*len = n;
	return out;
}
