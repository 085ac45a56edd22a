/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoint - a URL and the fields that are sent there
 *
 * Whom to ask is a constant of the configuration; only values of fields come from the client, and those are encoded.
 */
#include "parts.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_MS 10000u /* between two lines about the same trouble that comes and goes */

/* ------------------------------------------------------------------------ options */

static const struct {
	const char *url, *fields;
	unsigned allowed;
	const char *defaults[DIALECT_EMQX + 1][8];
} kinds[] = {
	[ABOUT_LOGIN] = { "login_url", "login_fields", TEMPLATE_CLIENT | TEMPLATE_PASSWORD,
	    { { "username=%u", "password=%p", "clientid=%c" },
		{ "username=%u", "password=%p", "clientid=%c" },
		{ "username=%u", "password=%p", "clientid=%c" } } },
	[ABOUT_SUPERUSER] = { "superuser_url", "superuser_fields", TEMPLATE_CLIENT,
	    { { "username=%u", "clientid=%c" }, { "username=%u" },
		{ "username=%u", "clientid=%c" } } },
	[ABOUT_REVALIDATE] = { "revalidate_url", "revalidate_fields", TEMPLATE_CLIENT,
	    { { "username=%u", "clientid=%c" }, { "username=%u", "clientid=%c" },
		{ "username=%u", "clientid=%c" } } },
	[ABOUT_ACL] = { "acl_url", "acl_fields", TEMPLATE_ACL,
	    { { "username=%u", "clientid=%c", "action=%a", "topic=%t", "qos=%q", "retain=%r" },
		{ "username=%u", "clientid=%c", "topic=%t" },
		{ "username=%u", "clientid=%c", "action=%a", "topic=%t" } } },
};

static bool
field_error(struct auth_http *a, enum about about, struct grapnel_str text, const char *what)
{
	a->host->config_error(
	    a->self, NULL, kinds[about].fields, "\"%.*s\": %s", (int)text.len, text.data, what);
	return false;
}

static bool
name_is_used(const struct endpoint *e, struct grapnel_str name)
{
	for (size_t i = 0; i < e->field_count; i++)
		if (strlen(e->fields[i].name) == name.len &&
		    memcmp(e->fields[i].name, name.data, name.len) == 0)
			return true;
	return false;
}

static bool
name_is_text(struct grapnel_str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.data[i] <= ' ' || name.data[i] >= 0x7f)
			return false;
	return name.len > 0;
}

/* "name=template" */
static bool
add_field(struct auth_http *a, enum about about, struct endpoint *e, struct grapnel_str text)
{
	const char *equals = memchr(text.data, '=', text.len);
	struct grapnel_str name = { text.data, equals != NULL ? (size_t)(equals - text.data) : 0 };
	struct field *f = &e->fields[e->field_count];
	char error[200];

	if (!name_is_text(name))
		return field_error(a, about, text,
		    "a field is written \"name=value\", its name in ASCII without spaces");
	if (name_is_used(e, name))
		return field_error(a, about, text, "a field of that name is there already");
	if (e->field_count == MAX_FIELDS)
		return field_error(a, about, text, "these are too many fields");
	f->value = template_parse((struct grapnel_str){ equals + 1, text.len - name.len - 1 },
	    kinds[about].allowed, error, sizeof(error));
	if (f->value == NULL)
		return field_error(a, about, text, error);
	f->name = strndup(name.data, name.len);
	e->field_count++; /* also for endpoint_free */
	return f->name != NULL || field_error(a, about, text, "no memory");
}

static bool
add_fields(struct auth_http *a, enum about about, struct endpoint *e)
{
	const char *const *defaults = kinds[about].defaults[a->dialect];
	struct grapnel_str text;
	bool good = true;

	if (a->host->option_given(a->self, NULL, kinds[about].fields)) {
		for (size_t i = 0;
		     (text = a->host->option_list(a->self, NULL, kinds[about].fields, i)).data !=
		     NULL;
		     i++)
			good = add_field(a, about, e, text) && good;
		return good;
	}
	for (size_t i = 0; defaults[i] != NULL; i++)
		good = add_field(
			   a, about, e, (struct grapnel_str){ defaults[i], strlen(defaults[i]) }) &&
		    good;
	return good;
}

static struct grapnel_str
option(const struct auth_http *a, const char *name)
{
	if (!a->host->option_given(a->self, NULL, name))
		return (struct grapnel_str){ NULL, 0 };
	return a->host->option_str(a->self, NULL, name);
}

/* Certificates are for those URLs that are https. */
static struct grapnel_str
tls_option(const struct auth_http *a, struct grapnel_str url, const char *name)
{
	if (url.len < 8 || strncasecmp(url.data, "https://", 8) != 0)
		return (struct grapnel_str){ NULL, 0 };
	return option(a, name);
}

static struct curl_target *
make_target(struct auth_http *a, const char *url_option)
{
	const struct grapnel_host *host = a->host;
	struct grapnel_str url = host->option_str(a->self, NULL, url_option),
			   headers[CURL_TARGET_MAX_HEADERS + 1];
	struct curl_target_options o = {
		.url = url,
		.unix_socket = option(a, "socket"),
		.tls_ca = tls_option(a, url, "tls_ca"),
		.tls_cert = tls_option(a, url, "tls_cert"),
		.tls_key = tls_option(a, url, "tls_key"),
		.bearer_token = option(a, "bearer_token"),
		.headers = headers,
		.user_agent = "grapnel/" PLUGIN_VERSION,
		.http2 = host->option_bool(a->self, NULL, "http2"),
		.connect_timeout_ms = (uint32_t)host->option_int(a->self, NULL, "connect_timeout"),
		.timeout_ms = (uint32_t)host->option_int(a->self, NULL, "request_timeout"),
		.max_answer = (size_t)host->option_int(a->self, NULL, "max_answer"),
	};
	struct curl_target *target;
	char error[600];

	while (o.header_count <= CURL_TARGET_MAX_HEADERS &&
	    (headers[o.header_count] = host->option_list(a->self, NULL, "headers", o.header_count))
		    .data != NULL)
		o.header_count++;
	target = curl_target_new(&o, error, sizeof(error));
	if (target == NULL)
		host->config_error(a->self, NULL, url_option, "%s", error);
	return target;
}

bool
endpoint_new(struct auth_http *a, enum about about, struct endpoint **out)
{
	bool given = a->host->option_given(a->self, NULL, kinds[about].url);
	struct endpoint *e;

	if (!given && a->host->option_given(a->self, NULL, kinds[about].fields)) {
		a->host->config_error(a->self, NULL, kinds[about].fields,
		    "this is for %s, which is not set", kinds[about].url);
		return false;
	}
	if (!given)
		return true;
	e = *out = calloc(1, sizeof(*e));
	if (e == NULL) {
		a->host->config_error(a->self, NULL, kinds[about].url, "no memory");
		return false;
	}
	e->option = kinds[about].url;
	e->target = make_target(a, kinds[about].url);
	return add_fields(a, about, e) && e->target != NULL;
}

void
endpoint_free(struct endpoint *e)
{
	if (e == NULL)
		return;
	for (size_t i = 0; i < e->field_count; i++) {
		free(e->fields[i].name);
		template_free(e->fields[i].value);
	}
	curl_target_free(e->target);
	free(e);
}

uint64_t
endpoint_depends(const struct endpoint *e)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < e->field_count; i++)
		mask |= template_depends(e->fields[i].value);
	return mask;
}

/* ----------------------------------------------------------------------- requests */

/* Nothing is asked about a user or a password that is not there; other fields are left out then. */
static bool
is_about_nobody(const struct template *t, const struct template_values *v)
{
	unsigned fields = template_fields(t);

	return ((fields & TEMPLATE_USERNAME) && v->client->username.data == NULL) ||
	    ((fields & TEMPLATE_PASSWORD) && v->password.data == NULL);
}

static bool
is_absent(const struct template *t, const struct template_values *v)
{
	for (size_t i = 0; i < template_count(t); i++)
		if (template_value(template_part(t, i), v).data == NULL)
			return true;
	return false;
}

/* What mosquitto calls MOSQ_ACL_READ, _WRITE and _SUBSCRIBE. */
static int
access_number(enum grapnel_action action)
{
	switch (action) {
	case GRAPNEL_READ:
		return 1;
	case GRAPNEL_PUBLISH:
	case GRAPNEL_WILL:
		return 2;
	case GRAPNEL_SUBSCRIBE:
		return 4;
	}
	return 0;
}

struct buffer {
	char *text;
	size_t len, capacity;
};

static void
buffer_wipe(struct buffer *b)
{
	if (b->text != NULL)
		explicit_bzero(b->text, b->len);
	free(b->text);
	*b = (struct buffer){ 0 };
}

/* Not realloc: it would leave a copy behind. */
static bool
append(struct buffer *b, const char *text, size_t len)
{
	if (b->text == NULL || b->len + len > b->capacity) {
		struct buffer more = { .capacity = 2 * (b->len + len) + 64 };

		if ((more.text = malloc(more.capacity)) == NULL)
			return false;
		if (b->len > 0)
			memcpy(more.text, b->text, b->len);
		more.len = b->len;
		buffer_wipe(b);
		*b = more;
	}
	memcpy(b->text + b->len, text, len);
	b->len += len;
	return true;
}

/* Percent-encoded. */
static bool
append_encoded(struct buffer *b, struct grapnel_str s)
{
	size_t len = curl_percent_encode(NULL, 0, s);
	char *text = len != SIZE_MAX ? malloc(len + 1) : NULL;
	bool good;

	if (text == NULL)
		return false;
	good = curl_percent_encode(text, len, s) == len && append(b, text, len);
	explicit_bzero(text, len);
	free(text);
	return good;
}

static bool
append_form_field(struct buffer *b, const struct field *f, const struct template_values *v)
{
	const char *why;
	size_t len;
	char *value = template_fill(f->value, v, NULL, &len, &why);
	bool good;

	if (value == NULL)
		return false;
	good = (b->len == 0 || append(b, "&", 1)) &&
	    append_encoded(b, (struct grapnel_str){ f->name, strlen(f->name) }) &&
	    append(b, "=", 1) && append_encoded(b, (struct grapnel_str){ value, len });
	explicit_bzero(value, len);
	free(value);
	return good;
}

static enum request_made
make_form(
    const struct endpoint *e, const struct template_values *v, int access, struct request_text *out)
{
	struct buffer b = { 0 };
	char number[16];
	bool good = append(&b, "", 0);

	for (size_t i = 0; i < e->field_count && good; i++)
		if (!is_absent(e->fields[i].value, v))
			good = append_form_field(&b, &e->fields[i], v);
	if (good && access > 0) {
		int len =
		    snprintf(number, sizeof(number), "%sacc=%d", b.len > 0 ? "&" : "", access);

		good = append(&b, number, (size_t)len);
	}
	if (!good) {
		buffer_wipe(&b);
		return REQUEST_NO_MEMORY;
	}
	out->text = b.text;
	out->len = b.len;
	return REQUEST_MADE;
}

static enum request_made
add_member(json_t *object, const struct field *f, const struct template_values *v)
{
	size_t len;
	const char *why;
	char *text = template_fill(f->value, v, NULL, &len, &why);
	json_t *value;
	bool good;

	if (text == NULL)
		return REQUEST_NO_MEMORY;
	value = json_stringn(text, len); /* NULL: no UTF-8, which only a password can be */
	good = value != NULL && json_object_set_new(object, f->name, value) == 0;
	explicit_bzero(text, len);
	free(text);
	return good ? REQUEST_MADE : value == NULL ? REQUEST_UNSENDABLE : REQUEST_NO_MEMORY;
}

static enum request_made
dump(const json_t *object, struct request_text *out)
{
	out->len = json_dumpb(object, NULL, 0, JSON_COMPACT);
	out->text = out->len > 0 ? malloc(out->len) : NULL;
	if (out->text == NULL)
		return REQUEST_NO_MEMORY;
	(void)json_dumpb(object, out->text, out->len, JSON_COMPACT);
	return REQUEST_MADE;
}

static enum request_made
make_json(
    const struct endpoint *e, const struct template_values *v, int access, struct request_text *out)
{
	enum request_made made = REQUEST_MADE;
	json_t *object = json_object();

	if (object == NULL)
		return REQUEST_NO_MEMORY;
	for (size_t i = 0; i < e->field_count && made == REQUEST_MADE; i++)
		if (!is_absent(e->fields[i].value, v))
			made = add_member(object, &e->fields[i], v);
	if (made == REQUEST_MADE && access > 0 &&
	    json_object_set_new(object, "acc", json_integer(access)) != 0)
		made = REQUEST_NO_MEMORY;
	if (made == REQUEST_MADE)
		made = dump(object, out);
	json_decref(object);
	return made;
}

enum request_made
request_make(const struct auth_http *a, const struct endpoint *e, const struct template_values *v,
    struct request_text *out)
{
	struct template_values values = *v;
	enum request_made made;
	int access = 0;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < e->field_count; i++)
		if (is_about_nobody(e->fields[i].value, v))
			return REQUEST_ABSENT;
	if (a->dialect == DIALECT_GO_AUTH)
		access = access_number(v->action);
	/* It knows these two. */
	if (a->dialect == DIALECT_EMQX && v->action == GRAPNEL_READ)
		values.action = GRAPNEL_SUBSCRIBE;
	if (a->dialect == DIALECT_EMQX && v->action == GRAPNEL_WILL)
		values.action = GRAPNEL_PUBLISH;
	made = a->form || a->get ? make_form(e, &values, access, out)
				 : make_json(e, &values, access, out);
	if (made != REQUEST_MADE)
		return made;
	out->request.method = a->get ? "GET" : "POST";
	out->request.content_type =
	    a->form ? "application/x-www-form-urlencoded" : "application/json";
	*(a->get ? &out->request.query : &out->request.body) =
	    (struct grapnel_str){ out->text, out->len };
	return REQUEST_MADE;
}

void
request_wipe(struct request_text *r)
{
	if (r->text != NULL)
		explicit_bzero(r->text, r->len);
	free(r->text);
	r->text = NULL;
}

/* ------------------------------------------------------------------------ trouble */

static bool
trouble_begins(struct auth_http *a, struct endpoint *e)
{
	uint64_t now = a->host->now_ms();
	bool say;

	(void)pthread_mutex_lock(&a->lock);
	say = !e->trouble_said && (e->trouble_said_ms == 0 || now - e->trouble_said_ms >= QUIET_MS);
	if (say) {
		e->trouble_said = true;
		e->trouble_said_ms = now;
	}
	(void)pthread_mutex_unlock(&a->lock);
	return say;
}

static bool
trouble_ends(struct auth_http *a, struct endpoint *e)
{
	bool was;

	(void)pthread_mutex_lock(&a->lock);
	was = e->trouble_said;
	e->trouble_said = false;
	(void)pthread_mutex_unlock(&a->lock);
	return was;
}

void
endpoint_trouble(struct auth_http *a, struct endpoint *e, const char *error)
{
	const char *name = curl_target_name(e->target);

	if (error[0] == '\0') {
		if (trouble_ends(a, e))
			a->host->log(
			    a->self, GRAPNEL_LOG_NOTICE, "%s %s works again", e->option, name);
		return;
	}
	if (trouble_begins(a, e))
		a->host->log(a->self, GRAPNEL_LOG_ERROR,
		    "%s %s: %s; until it works, what it would be asked is answered \"unavailable\"",
		    e->option, name, error);
}
