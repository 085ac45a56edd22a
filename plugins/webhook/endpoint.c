/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint - a block of the section: what goes where, and how */
#include "parts.h"

#include "common/base64.h"
#include "common/read_file.h"
#include "common/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_PREFIX "whsec_"
#define SECRET_MIN    16u
#define SECRET_MAX    512u
#define ANSWER_MAX    (64u << 10)

#define CONTENT_TYPE_MAX 100
#define ATTRIBUTE_MAX    1024

static const struct grapnel_option key_options[] = {
	{ .name = "secret",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET | GRAPNEL_OPTION_REQUIRED,
	    .help =
		"What is signed with: \"whsec_\" and base64, or any text of at least 16 bytes." },
	{ .name = NULL },
};

const struct grapnel_option endpoint_options[] = {
	{ .name = "batch_bytes",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "256k",
	    .min = 1024,
	    .max = 16777216,
	    .help = "A request has more than one event only up to this length of its body." },
	{ .name = "batch_events",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "100",
	    .min = 1,
	    .max = 10000,
	    .help = "Most events in a request, with mode = batch." },
	{ .name = "batch_time",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long events wait for others to fill a request; 0: they go when the one "
		    "before is answered." },
	{ .name = "bearer_token",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Sent as \"Authorization: Bearer ...\"." },
	{ .name = "bearer_token_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a file with that token; it is read again when it may have changed." },
	{ .name = "body",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Text of the body, with format = template: %e %i %s %d %b %u %c %t %a %q %r %h "
		    "%l %m %{attribute}." },
	SELECT_ROW_CLIENTS,
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 60000,
	    .help = "Time for the look-up of the host, a connection and its TLS handshake." },
	{ .name = "content_type",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "application/json",
	    .help = "Content-Type of the body, with format = template." },
	{ .name = "dead_letters",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "10000",
	    .min = 0,
	    .max = 10000000,
	    .help = "So many events that were refused are kept; then the oldest are thrown away." },
	SELECT_ROW_EVENTS,
	{ .name = "format",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "cloudevents",
	    .choices = "cloudevents|vernemq|emqx|nanomq|template",
	    .help = "What an event looks like: CloudEvents 1.0, what the webhooks of those brokers "
		    "send, or a text of yours." },
	{ .name = "headers",
	    .type = GRAPNEL_OPTION_LIST,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "More headers, each \"Name: value\" with the places of body; one without its "
		    "value is left out." },
	{ .name = "http2",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether HTTP/2 is used with an https server that offers it." },
	{ .name = "idle_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "60s",
	    .min = 1000,
	    .max = 86400000,
	    .help = "Connections are closed when nothing was sent for that long." },
	{ .name = "key",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .options = key_options,
	    .help = "A key that requests are signed with; its title is the id. Several: one "
		    "signature of each." },
	{ .name = "max_age",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "3d",
	    .min = 0,
	    .max = INT64_C(31536000000),
	    .help = "Events older than that are thrown away; 0: never." },
	{ .name = "max_attempts",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 1000000,
	    .help = "After so many failures an event is treated as one that was refused; 0: it is "
		    "tried until max_age." },
	{ .name = "max_bytes",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "1g",
	    .min = 65536,
	    .max = INT64_C(1) << 50,
	    .help = "Most bytes of events in the outbox." },
	{ .name = "memory",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "32m",
	    .min = 65536,
	    .max = INT64_C(1) << 40,
	    .help = "Most bytes of events in memory, once for those that are being sent and once "
		    "for those that are to be written." },
	{ .name = "mode",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "batch",
	    .choices = "batch|structured|binary",
	    .help = "With format = cloudevents: several events in a request, or one, or one with "
		    "its attributes in headers." },
	{ .name = "order_by",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "client",
	    .choices = "client|topic|total|none",
	    .help = "Events of one client, or about one topic, or all arrive in order." },
	{ .name = "payload",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "auto",
	    .choices = "auto|text|base64|none",
	    .help = "How payloads are written: as text if they are UTF-8 and else in base64, "
		    "always in one of these ways, or not at all." },
	{ .name = "payload_max",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "64k",
	    .min = 0,
	    .max = 268435456,
	    .help = "Longer payloads are left out; their size is still told." },
	{ .name = "private_addresses",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether a URL, or a redirect, may lead to loopback, private and link-local "
		    "addresses." },
	{ .name = "redirects",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "same_host",
	    .choices = "none|same_host|any_host",
	    .help = "Which redirects (307, 308) are followed; another host gets no credentials." },
	{ .name = "request_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .min = 10,
	    .max = 600000,
	    .help = "Time for a request and its answer." },
	{ .name = "requests",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "4",
	    .min = 1,
	    .max = 256,
	    .help = "Requests at once, as far as order_by allows." },
	{ .name = "retry_max",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "60s",
	    .min = 10,
	    .max = 3600000,
	    .help = "Longest pause between two attempts." },
	{ .name = "retry_min",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "500ms",
	    .min = 10,
	    .max = 3600000,
	    .help = "First pause after a failure; it doubles with each further one." },
	SELECT_ROW_SAMPLE,
	SELECT_ROW_SAMPLE_BY,
	{ .name = "socket",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a Unix socket to connect to, whatever host the URLs name." },
	{ .name = "source",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "/grapnel",
	    .help = "`source` of CloudEvents, a URI reference." },
	{ .name = "tls_ca",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a PEM file of the authorities that https servers are verified with; "
		    "default: the system's." },
	{ .name = "tls_cert",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a PEM file with the certificate shown to https servers that ask for "
		    "one." },
	{ .name = "tls_key",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a PEM file with the private key of tls_cert." },
	{ .name = "tls_pin",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "The only public keys that a server may have: \"sha256//BASE64\", several "
		    "separated by \";\"." },
	SELECT_ROW_TOPICS,
	{ .name = "type_prefix",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "grapnel.",
	    .help = "In front of the event's name in `type` of CloudEvents." },
	{ .name = "url_policy",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "failover",
	    .choices = "failover|spread",
	    .help = "The first of the URLs that is up is used, or each in turn." },
	{ .name = "urls",
	    .type = GRAPNEL_OPTION_LIST,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Where events are sent: http:// or https://." },
	SELECT_ROW_USERS,
	{ .name = "when_full",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "drop_oldest",
	    .choices = "drop_oldest|drop_new|stop_publishers",
	    .help = "What happens when the outbox has max_bytes of events." },
	{ .name = NULL },
};

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
	struct webhook *w;
	struct endpoint *e;
	const struct grapnel_block *block;
};

static bool
wrong(const struct reader *r, const char *option, const char *what)
{
	r->w->host->config_error(r->w->self, r->block, option, "%s%s%s",
	    option != NULL ? option : "", option != NULL ? ": " : "", what);
	return false;
}

static struct grapnel_str
str(const struct reader *r, const char *name)
{
	return r->w->host->option_str(r->w->self, r->block, name);
}

static int64_t
num(const struct reader *r, const char *name)
{
	return r->w->host->option_int(r->w->self, r->block, name);
}

static bool
given(const struct reader *r, const char *name)
{
	return r->w->host->option_given(r->w->self, r->block, name);
}

static bool
is(struct grapnel_str s, const char *word)
{
	return s.data != NULL && s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

/* The place of a value among the choices of its option, which the host has checked. */
static unsigned
choice(const struct reader *r, const char *name, const char *const words[])
{
	struct grapnel_str s = str(r, name);
	unsigned i = 0;

	while (words[i + 1] != NULL && !is(s, words[i]))
		i++;
	return i;
}

static char *
copy(struct grapnel_str s)
{
	char *text = s.data != NULL ? strndup(s.data, s.len) : NULL;

	return text;
}

/* What CloudEvents says of `source` and `type`. */
static bool
check_attributes(const struct reader *r)
{
	static const char uri[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				  "-._~:/?#[]@!$&'()*+,;=%";
	const char *source = r->e->source, *prefix = r->e->type_prefix;
	size_t len = strlen(source), prefix_len = strlen(prefix);

	if (len == 0 || len > ATTRIBUTE_MAX || strspn(source, uri) != len)
		return wrong(r, "source",
		    "it is a URI reference of up to 1024 bytes, as \"/grapnel\"; write %20 and "
		    "the like for what cannot stand in one");
	return (prefix_len <= ATTRIBUTE_MAX &&
		   utf8_is_text((struct grapnel_str){ prefix, prefix_len }, false)) ||
	    wrong(r, "type_prefix",
		"it is up to 1024 bytes of UTF-8 without control characters, as \"grapnel.\"");
}

static bool
read_format(const struct reader *r)
{
	static const enum format_kind kinds[] = { FORMAT_CLOUDEVENTS, FORMAT_VERNEMQ, FORMAT_EMQX,
		FORMAT_NANOMQ, FORMAT_TEMPLATE };
	static const char *const names[] = { "cloudevents", "vernemq", "emqx", "nanomq", "template",
		NULL };
	static const char *const modes[] = { "batch", "structured", "binary", NULL };
	static const char *const payloads[] = { "auto", "base64", "none", "text",
		NULL }; /* as the enum */
	struct endpoint *e = r->e;
	char error[256];

	e->format.kind = kinds[choice(r, "format", names)];
	e->format.payload = (enum format_payload)choice(r, "payload", payloads);
	e->mode = (enum mode)choice(r, "mode", modes);
	if (e->format.kind != FORMAT_CLOUDEVENTS) {
		if (given(r, "mode"))
			return wrong(
			    r, "mode", "it is for format = cloudevents alone; leave it out");
		e->mode = MODE_STRUCTURED;
	}
	if (e->mode == MODE_BINARY)
		e->format.kind = FORMAT_BINARY;
	e->batch_events = e->mode == MODE_BATCH ? (uint32_t)num(r, "batch_events") : 1;
	if (e->mode != MODE_BATCH && given(r, "batch_events") && num(r, "batch_events") > 1)
		return wrong(r, "batch_events",
		    "only format = cloudevents with mode = batch has several events in a request");
	e->source = copy(str(r, "source"));
	e->type_prefix = copy(str(r, "type_prefix"));
	e->content_type = copy(str(r, "content_type"));
	if (e->source == NULL || e->type_prefix == NULL || e->content_type == NULL)
		return wrong(r, NULL, "no memory");
	if (!check_attributes(r))
		return false;
	for (const char *p = e->content_type; *p != '\0'; p++)
		if (*p < ' ' || *p == 0x7f || p - e->content_type == CONTENT_TYPE_MAX)
			return wrong(r, "content_type",
			    "it is up to 100 bytes of printable ASCII, as \"text/plain\"");
	e->format.source = e->source;
	e->format.type_prefix = e->type_prefix;
	if ((e->format.kind == FORMAT_TEMPLATE) != given(r, "body"))
		return wrong(r, given(r, "body") ? "body" : "format",
		    "format = template and body belong together");
	if (e->format.kind != FORMAT_TEMPLATE)
		return true;
	e->body = body_template_new(str(r, "body"), error, sizeof(error));
	return e->body != NULL || wrong(r, "body", error);
}

static bool
read_headers(const struct reader *r)
{
	struct grapnel_str list[MAX_HEADERS];
	size_t n = 0;
	char error[256];

	for (; n < MAX_HEADERS; n++)
		if ((list[n] = r->w->host->option_list(r->w->self, r->block, "headers", n)).data ==
		    NULL)
			break;
	if (n == MAX_HEADERS &&
	    r->w->host->option_list(r->w->self, r->block, "headers", n).data != NULL)
		return wrong(r, "headers", "more than 16 headers");
	if (n == 0)
		return true;
	r->e->headers = header_templates_new(list, n, error, sizeof(error));
	return r->e->headers != NULL || wrong(r, "headers", error);
}

static void
read_numbers(const struct reader *r)
{
	static const char *const orders[] = { "client", "topic", "total", "none", NULL };
	static const char *const fulls[] = { "drop_oldest", "drop_new", "stop_publishers", NULL };
	struct endpoint *e = r->e;

	e->order_by = (enum order_by)choice(r, "order_by", orders);
	e->when_full = (enum when_full)choice(r, "when_full", fulls);
	e->spread = is(str(r, "url_policy"), "spread");
	e->lane_count = e->order_by == ORDER_TOTAL ? 1 : (uint32_t)num(r, "requests");
	e->batch_bytes = e->most_bytes = (size_t)num(r, "batch_bytes");
	e->batch_time_ms = (uint32_t)num(r, "batch_time");
	e->retry_min_ms = (uint32_t)num(r, "retry_min");
	e->retry_max_ms = (uint32_t)num(r, "retry_max");
	e->max_attempts = (uint32_t)num(r, "max_attempts");
	e->dead_letters = (uint32_t)num(r, "dead_letters");
	e->idle_ms = (uint32_t)num(r, "idle_timeout");
	e->max_bytes = (uint64_t)num(r, "max_bytes");
	e->max_age_us = num(r, "max_age") * 1000;
	e->payload_max = e->format.payload == PAYLOAD_NONE ? 0 : (size_t)num(r, "payload_max");
	e->memory = (size_t)num(r, "memory");
	/* What is being sent is not thrown away: it must leave room for what could be. */
	if (e->memory > e->max_bytes / 2)
		e->memory = e->max_bytes / 2;
}

static bool
read_key(const struct reader *r, const struct grapnel_block *block, struct grapnel_str id)
{
	struct grapnel_str secret = r->w->host->option_str(r->w->self, block, "secret");
	struct signing_key *key = &r->e->keys[r->e->key_count];
	size_t prefix = strlen(SECRET_PREFIX);
	bool encoded = secret.len > prefix && memcmp(secret.data, SECRET_PREFIX, prefix) == 0;
	bool good = secret.len <= SECRET_MAX;

	for (size_t i = 0; i < id.len; i++)
		if (id.data[i] <= ' ' || id.data[i] >= 0x7f)
			good = false;
	if (id.len == 0 || id.len > 64 || !good) {
		r->w->host->config_error(r->w->self, block, NULL,
		    "the title of a key is its id, up to 64 bytes of ASCII without spaces; its "
		    "secret has at most %u bytes",
		    SECRET_MAX);
		return false;
	}
	key->id = copy(id);
	key->secret = malloc(secret.len + 1);
	if (key->id == NULL || key->secret == NULL) {
		free(key->id);
		free(key->secret);
		return wrong(r, NULL, "no memory");
	}
	r->e->key_count++;
	key->len = encoded ? 0 : secret.len;
	if (!encoded)
		memcpy(key->secret, secret.data, secret.len);
	else
		good = base64_decode(
		    secret.data + prefix, secret.len - prefix, key->secret, secret.len, &key->len);
	if (good && key->len >= SECRET_MIN)
		return true;
	r->w->host->config_error(r->w->self, block, "secret",
	    good ? "it is shorter than 16 bytes; make one with: openssl rand -base64 32"
		 : "what follows \"whsec_\" is not base64");
	return false;
}

static bool
read_keys(const struct reader *r)
{
	const struct grapnel_block *block;
	struct grapnel_str id;

	for (size_t i = 0;
	     (block = r->w->host->option_block(r->w->self, r->block, "key", i, &id)) != NULL; i++) {
		if (i == MAX_KEYS)
			return wrong(r, "key", "more than 4 keys");
		if (!read_key(r, block, id))
			return false;
	}
	return true;
}

static struct grapnel_str
optional(const struct reader *r, const char *name)
{
	return given(r, name) ? str(r, name) : (struct grapnel_str){ NULL, 0 };
}

static bool
read_url(const struct reader *r, struct grapnel_str url)
{
	static const char *const redirects[] = { "none", "same_host", "any_host", NULL };
	static const enum curl_redirects followed[] = { CURL_REDIRECTS_NONE,
		CURL_REDIRECTS_SAME_HOST, CURL_REDIRECTS_ANY };
	struct endpoint *e = r->e;
	const struct curl_target_options options = { .url = url,
		.unix_socket = optional(r, "socket"),
		.tls_ca = optional(r, "tls_ca"),
		.tls_cert = optional(r, "tls_cert"),
		.tls_key = optional(r, "tls_key"),
		.tls_pin = optional(r, "tls_pin"),
		.bearer_token = optional(r, "bearer_token"),
		.user_agent = "grapnel-webhook/" PLUGIN_VERSION,
		.http2 = r->w->host->option_bool(r->w->self, r->block, "http2"),
		.redirects = followed[choice(r, "redirects", redirects)],
		.no_private_addresses =
		    !r->w->host->option_bool(r->w->self, r->block, "private_addresses"),
		.connect_timeout_ms = (uint32_t)num(r, "connect_timeout"),
		.timeout_ms = (uint32_t)num(r, "request_timeout"),
		.max_answer = ANSWER_MAX };
	char error[512];

	e->urls[e->url_count].target = curl_target_new(&options, error, sizeof(error));
	if (e->urls[e->url_count].target == NULL) {
		/* Not the URL: it may hold a password, or a token. */
		r->w->host->config_error(
		    r->w->self, r->block, "urls", "URL number %u: %s", e->url_count + 1, error);
		return false;
	}
	e->url_count++;
	return true;
}

static bool
read_urls(const struct reader *r)
{
	struct grapnel_str url;

	for (size_t i = 0;
	     (url = r->w->host->option_list(r->w->self, r->block, "urls", i)).data != NULL; i++) {
		if (i == MAX_URLS)
			return wrong(r, "urls", "more than 16 URLs");
		if (!read_url(r, url))
			return false;
	}
	return r->e->url_count > 0 || wrong(r, "urls", "there is none");
}

static bool
read_token(const struct reader *r)
{
	struct file_text file;
	char error[512];
	bool good;

	if (!given(r, "bearer_token_file"))
		return true;
	if (given(r, "bearer_token"))
		return wrong(
		    r, "bearer_token_file", "bearer_token is set, too; leave one of them out");
	r->e->token_file = copy(str(r, "bearer_token_file"));
	if (r->e->token_file == NULL)
		return wrong(r, NULL, "no memory");
	if (!read_file(r->e->token_file, 16u << 10, &file, error, sizeof(error)))
		return wrong(r, "bearer_token_file", error);
	good = request_token_length(&file) > 0;
	file_text_free(&file);
	return good || wrong(r, "bearer_token_file", "the file does not begin with a token");
}

static bool
read_all(const struct reader *r)
{
	struct endpoint *e = r->e;
	struct grapnel_str format = str(r, "format");
	char why[64];

	if (!read_format(r))
		return false;
	read_numbers(r);
	if (e->retry_min_ms > e->retry_max_ms)
		return wrong(r, "retry_min",
		    "it is longer than retry_max (60s by default); raise that, too");
	(void)snprintf(why, sizeof(why), "format = %.*s", (int)format.len, format.data);
	e->possible = format_possible(e->format.kind);
	e->selection = select_new(r->w->host, r->w->self, r->block, e->possible, why);
	if (e->selection == NULL || !read_headers(r) || !read_keys(r) || !read_token(r) ||
	    !read_urls(r))
		return false;
	e->lanes = calloc(e->lane_count, sizeof(*e->lanes));
	if (e->lanes == NULL)
		return wrong(r, NULL, "no memory");
	for (uint32_t i = 0; i < e->lane_count; i++)
		e->lanes[i].e = e;
	return true;
}

struct endpoint *
endpoint_new(struct webhook *w, const struct grapnel_block *block, struct grapnel_str name)
{
	struct endpoint *e = calloc(1, sizeof(*e));
	const struct reader r = { w, e, block };

	if (e == NULL)
		return NULL;
	e->w = w;
	e->spilling = true; /* until it is known what the outbox has */
	e->name = copy(name);
	if (e->name == NULL || name.len == 0 || strlen(e->name) != name.len) {
		w->host->config_error(w->self, block, NULL,
		    "an endpoint has a title, its name: endpoint \"main\" { ... }");
		endpoint_free(e);
		return NULL;
	}
	if (read_all(&r))
		return e;
	endpoint_free(e);
	return NULL;
}

void
endpoint_free(struct endpoint *e)
{
	if (e == NULL)
		return;
	for (unsigned i = 0; i < e->url_count; i++)
		curl_target_free(e->urls[i].target);
	for (unsigned i = 0; i < e->key_count; i++) {
		explicit_bzero(e->keys[i].secret, e->keys[i].len);
		free(e->keys[i].secret);
		free(e->keys[i].id);
	}
	if (e->token != NULL)
		explicit_bzero(e->token, strlen(e->token));
	free(e->token);
	free(e->token_file);
	select_free(e->selection);
	body_template_free(e->body);
	header_templates_free(e->headers);
	free(e->lanes);
	free(e->source);
	free(e->type_prefix);
	free(e->content_type);
	free(e->name);
	free(e);
}
