/* SPDX-License-Identifier: Apache-2.0 */
#include "body.h"

#include "../common/template.h"
#include "format_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

struct body_template {
	struct template *text;
};

struct header_templates {
	size_t count;
	struct {
		char *name; /* "Name: " */
		struct template *value;
	} lines[];
};

/* ---- values ---------------------------------------------------------------------------------- */

struct values {
	struct template_values v;
	char id[EVENT_ID_SIZE], time[FORMAT_TIME_SIZE];
};

/* What the right to do this is called; 0: it is no such thing. */
static unsigned
action_of(enum grapnel_event_type type)
{
	switch ((unsigned)type) {
	case GRAPNEL_EVENT_MESSAGE_PUBLISHED:
	case GRAPNEL_EVENT_RETAINED_SET:
	case GRAPNEL_EVENT_RETAINED_CLEARED:
		return GRAPNEL_PUBLISH;
	case GRAPNEL_EVENT_SUBSCRIBED:
	case GRAPNEL_EVENT_UNSUBSCRIBED:
		return GRAPNEL_SUBSCRIBE;
	case GRAPNEL_EVENT_MESSAGE_DELIVERED:
	case GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED:
		return GRAPNEL_READ;
	case GRAPNEL_EVENT_WILL_PUBLISHED:
		return GRAPNEL_WILL;
	}
	return 0;
}

static void
message_values(struct template_values *v, const struct record_view *view)
{
	const struct grapnel_message_info *m = view->event.message;
	bool delivered = view->event.type == GRAPNEL_EVENT_MESSAGE_DELIVERED;

	v->topic = m->topic_name;
	v->qos = delivered ? view->event.qos : m->qos;
	v->retain = m->retain;
	v->payload = payload_of_view(view);
}

static void
values_of(struct values *values, const struct record_view *view, unsigned fields)
{
	struct template_values *v = &values->v;
	unsigned action = action_of(view->event.type);
	const char *name = event_name(view->event.type);

	memset(v, 0, sizeof(*v));
	v->client = view->event.client;
	v->event_name = (struct grapnel_str){ name, strlen(name) };
	if (action != 0)
		v->action = (enum grapnel_action)action;
	else
		v->absent |= TEMPLATE_ACTION;
	if (view->event.message != NULL) {
		message_values(v, view);
	} else {
		v->topic = view->event.filter;
		v->qos = view->event.qos;
		v->absent |= TEMPLATE_RETAIN;
		if (view->event.type != GRAPNEL_EVENT_SUBSCRIBED)
			v->absent |= TEMPLATE_QOS;
	}
	if (fields & TEMPLATE_EVENT_ID) {
		event_id_text(values->id, &view->event.id);
		v->event_id = (struct grapnel_str){ values->id, strlen(values->id) };
	}
	if (fields & TEMPLATE_TIME) {
		format_time(values->time, view->event.time_us);
		v->time = (struct grapnel_str){ values->time, strlen(values->time) };
	}
}

/* ---- bodies ---------------------------------------------------------------------------------- */

struct body_template *
body_template_new(struct grapnel_str text, char *error, size_t error_size)
{
	struct body_template *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		(void)snprintf(error, error_size, "out of memory");
		return NULL;
	}
	if ((t->text = template_parse(text, TEMPLATE_EVENT, error, error_size)) == NULL) {
		free(t);
		return NULL;
	}
	return t;
}

void
body_template_free(struct body_template *t)
{
	if (t == NULL)
		return;
	template_free(t->text);
	free(t);
}

void
body_template_put(struct text *out, const struct body_template *t, const struct record_view *v)
{
	struct values values;

	values_of(&values, v, template_fields(t->text));
	for (size_t i = 0; i < template_count(t->text); i++) {
		const struct template_part *part = template_part(t->text, i);
		struct grapnel_str value = template_value(part, &values.v);

		if (part->field == 0)
			text_put(out, value.data, value.len);
		else if (part->field == TEMPLATE_PAYLOAD_BASE64)
			text_base64(out, value);
		else
			json_escape(out, value);
	}
}

/* ---- headers --------------------------------------------------------------------------------- */

/* Of the connection, of the body, or of where the request goes. */
static bool
is_reserved(const char *name)
{
	static const char *const reserved[] = { "Connection", "Content-Length", "Content-Type",
		"Expect", "Host", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
		"Transfer-Encoding", "Upgrade" };

	for (size_t i = 0; i < sizeof(reserved) / sizeof(*reserved); i++)
		if (strcasecmp(name, reserved[i]) == 0)
			return true;
	return false;
}

static bool
is_name_char(char c)
{
	return c == '-' || c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
	    (c >= 'A' && c <= 'Z');
}

static bool
wrong(char *error, size_t error_size, const char *what)
{
	(void)snprintf(error, error_size, "%s", what);
	return false;
}

static bool
read_name(struct grapnel_str *line, char **name, char *error, size_t error_size)
{
	size_t len = 0;

	while (len < line->len && is_name_char(line->data[len]))
		len++;
	if (len == 0 || len == line->len || line->data[len] != ':')
		return wrong(error, error_size, "a header is written \"Name: value\"");
	if ((*name = malloc(len + 3)) == NULL)
		return wrong(error, error_size, "out of memory");
	memcpy(*name, line->data, len);
	(*name)[len] = '\0';
	if (is_reserved(*name)) {
		(void)snprintf(error, error_size, "the header %s is not yours to set", *name);
		return false;
	}
	memcpy(*name + len, ": ", 3);
	*line = (struct grapnel_str){ line->data + len + 1, line->len - len - 1 };
	while (line->len > 0 && (*line->data == ' ' || *line->data == '\t')) {
		line->data++;
		line->len--;
	}
	return true;
}

static bool
read_value(struct grapnel_str text, struct template **value, char *error, size_t error_size)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] < 0x20 || text.data[i] > 0x7e)
			return wrong(error, error_size,
			    "the text of a header is of printable ASCII, without line breaks");
	if (text.len == 0)
		return wrong(error, error_size, "a header without a value");
	*value = template_parse(text, TEMPLATE_EVENT, error, error_size);
	return *value != NULL;
}

struct header_templates *
header_templates_new(const struct grapnel_str *lines, size_t count, char *error, size_t error_size)
{
	struct header_templates *t = calloc(1, sizeof(*t) + count * sizeof(*t->lines));

	if (t == NULL) {
		(void)wrong(error, error_size, "out of memory");
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		struct grapnel_str rest = lines[i];

		t->count++;
		if (!read_name(&rest, &t->lines[i].name, error, error_size) ||
		    !read_value(rest, &t->lines[i].value, error, error_size)) {
			header_templates_free(t);
			return NULL;
		}
	}
	return t;
}

void
header_templates_free(struct header_templates *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < t->count; i++) {
		free(t->lines[i].name);
		template_free(t->lines[i].value);
	}
	free(t);
}

/* false: a value is absent. */
static bool
put_value(struct text *out, const struct template *t, const struct template_values *v)
{
	for (size_t i = 0; i < template_count(t); i++) {
		const struct template_part *part = template_part(t, i);
		struct grapnel_str value = template_value(part, v);

		if (value.data == NULL)
			return false;
		if (part->field == 0)
			text_put(out, value.data, value.len);
		else if (value.len > HEADER_VALUE_MAX)
			return false;
		else if (part->field == TEMPLATE_PAYLOAD_BASE64)
			text_base64(out, value);
		else
			put_percent(out, value);
	}
	return true;
}

static bool
is_blank(const struct text *t, size_t from)
{
	while (from < t->len && t->data[from] == ' ')
		from++;
	return from == t->len;
}

unsigned
header_templates_put(
    struct text *out, const struct header_templates *t, const struct record_view *v)
{
	struct values values;
	unsigned count = 0;

	for (size_t i = 0; i < t->count; i++) {
		const struct template *value = t->lines[i].value;
		size_t start = out->len, from;

		values_of(&values, v, template_fields(value));
		text_puts(out, t->lines[i].name);
		from = out->len;
		if (!put_value(out, value, &values.v) || is_blank(out, from) ||
		    out->len - from > HEADER_VALUE_MAX) {
			out->len = start;
			continue;
		}
		text_char(out, '\0');
		count++;
	}
	return count;
}
