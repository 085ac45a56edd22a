/* SPDX-License-Identifier: MIT-0 */
/*
 * http-decision - asks an HTTP service who may log in, and holds up nobody meanwhile
 *
 * Each login is a POST of username, password and clientid as a form. 2xx allows, 401 and 403 deny, 404 leaves it to the next
 * plugin; everything else, and no answer at all, is trouble of the service: UNAVAILABLE, which is never "wrong password".
 *
 * Threads:   a call begins, ends and is cancelled on the worker of its request; the instance is immutable after create().
 * Ownership: a call is its request's data from the hook until call_end, which resolves the request; nobody else does.
 * Bounded:   `calls` at once and `connections` of each worker; `timeout` for all of a call; ANSWER_MAX bytes are read.
 */
#include "multi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX 65536

enum { BAD_CREDENTIALS = 0x86 };

struct decision;

struct per_worker {
	struct multi *multi;
	unsigned calls;
	bool failing; /* for the log: said once when trouble begins, once when it is over */
};

struct decision {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	char *url, *server, *port; /* server without brackets */
	struct curl_slist *headers;
	uint32_t timeout_ms, connect_timeout_ms;
	long connections;
	unsigned max_calls;
	int metric_calls, metric_failures;
	bool has_curl;
	struct per_worker workers[]; /* host->workers of them */
};

struct call {
	struct decision *d;
	struct per_worker *w;
	struct grapnel_request *req;
	struct grapnel_resolve *look_up; /* under way */
	CURL *easy;                      /* in the multi handle */
	struct curl_slist *addresses;
	char *body;
	size_t received;
	char error[CURL_ERROR_SIZE];
};

/* --------------------------------------------------------------------------- the call */

static void
wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
}

/* The only place where a request is resolved. */
static void
call_end(struct call *c, enum grapnel_verdict verdict)
{
	const struct grapnel_auth_answer wrong = { .size = sizeof(wrong),
		.reason_code = BAD_CREDENTIALS };

	(void)c->d->host->auth_resolve(c->req, verdict, verdict == GRAPNEL_DENY ? &wrong : NULL);
	curl_easy_cleanup(c->easy);
	curl_slist_free_all(c->addresses);
	wipe(c->body);
	free(c->body);
	c->w->calls--;
	free(c);
}

static void
call_fail(struct call *c, const char *why)
{
	c->d->host->metric_add(c->d->self, c->d->metric_failures, 1);
	if (!c->w->failing)
		c->d->host->log(c->d->self, GRAPNEL_LOG_WARNING, "%s: %s", c->d->url, why);
	c->w->failing = true;
	call_end(c, GRAPNEL_UNAVAILABLE);
}

/* multi_done_fn */
static void
on_done(void *arg, CURLcode result)
{
	struct call *c = arg;
	char text[64];
	long status = 0;

	(void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
	if (result != CURLE_OK) {
		call_fail(c, c->error[0] != '\0' ? c->error : curl_easy_strerror(result));
		return;
	}
	if ((status < 200 || status > 299) && status != 401 && status != 403 && status != 404) {
		(void)snprintf(text, sizeof(text), "it answers with status %ld", status);
		call_fail(c, text);
		return;
	}
	if (c->w->failing)
		c->d->host->log(c->d->self, GRAPNEL_LOG_NOTICE, "%s answers again", c->d->url);
	c->w->failing = false;
	call_end(c, status == 404 ? GRAPNEL_NEXT : status < 300 ? GRAPNEL_ALLOW : GRAPNEL_DENY);
}

/* The status says it all; a body without an end is cut off. */
static size_t
on_body(char *data, size_t one, size_t len, void *arg)
{
	struct call *c = arg;

	(void)data;
	c->received += one * len;
	return c->received <= ANSWER_MAX ? one * len : 0;
}

static bool
prepare(struct call *c)
{
	const struct decision *d = c->d;
	bool good;

	c->easy = curl_easy_init();
	if (c->easy == NULL)
		return false;
	good = curl_easy_setopt(c->easy, CURLOPT_URL, d->url) == CURLE_OK &&
	    curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->addresses) == CURLE_OK &&
	    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, d->headers) == CURLE_OK &&
	    curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, c->body) == CURLE_OK &&
	    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c) == CURLE_OK;
	/* A proxy from the environment would be asked for the name, and see the passwords. */
	good = good && curl_easy_setopt(c->easy, CURLOPT_PROXY, "") == CURLE_OK;
	(void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
	(void)curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
	(void)curl_easy_setopt(c->easy, CURLOPT_NOSIGNAL, 1L); /* several threads: no alarm() */
	(void)curl_easy_setopt(c->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)d->connect_timeout_ms);
	(void)curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)d->timeout_ms);
	return good;
}

/* libcurl would look the name up in a thread and may wait for that; the host does not. libcurl gets "server:port:address,...". */
static struct curl_slist *
addresses_for_curl(const struct decision *d, const struct grapnel_str *addresses, size_t count)
{
	char text[1024];
	int len = snprintf(text, sizeof(text), "%s:%s:", d->server, d->port);

	for (size_t i = 0; i < count && i < 8 && len > 0 && (size_t)len < sizeof(text); i++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%.*s", i > 0 ? "," : "",
		    (int)addresses[i].len, addresses[i].data);
	return len > 0 && (size_t)len < sizeof(text) ? curl_slist_append(NULL, text) : NULL;
}

static void
on_addresses(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct call *c = arg;

	c->look_up = NULL;
	if (count == 0) {
		call_fail(c,
		    err == GRAPNEL_ENOENT ? "there is no host of that name"
					  : "the name of its host cannot be looked up");
		return;
	}
	c->addresses = addresses_for_curl(c->d, addresses, count);
	if (c->addresses == NULL || !prepare(c) || !multi_add(c->w->multi, c->easy))
		call_fail(c, "no memory");
}

/* The client has left, or its time is up: break off, and resolve all the same. */
static void
decision_request_cancelled(void *instance, struct grapnel_request *req)
{
	const struct decision *d = instance;
	struct call *c = d->host->request_data(req);

	if (c->look_up != NULL)
		d->host->dns_cancel(c->look_up);
	if (c->easy != NULL)
		multi_remove(c->w->multi, c->easy);
	call_end(c, GRAPNEL_UNAVAILABLE);
}

/* ----------------------------------------------------------------------------- the hook */

/* Adds "&name=value". false: no memory. */
static bool
put_field(FILE *f, const char *name, struct grapnel_str value)
{
	char *escaped = curl_easy_escape(NULL, value.len > 0 ? value.data : "", (int)value.len);
	bool good = escaped != NULL && fprintf(f, "&%s=%s", name, escaped) > 0;

	wipe(escaped);
	curl_free(escaped);
	return good;
}

/* A buffer that grew on its way would leave pieces of passwords behind: so it is as large as it can become from the start. */
static char *
form_body(const struct grapnel_authenticate *q)
{
	size_t size =
	    64 + 3 * (q->client->username.len + q->password.len + q->client->client_id.len);
	char *body = calloc(1, size);
	FILE *f = body != NULL ? fmemopen(body, size, "w") : NULL;
	bool good;

	if (f == NULL) {
		free(body);
		return NULL;
	}
	(void)setvbuf(f, NULL, _IONBF, 0); /* nor does stdio keep a copy */
	good = fputs("v=1", f) != EOF && put_field(f, "username", q->client->username) &&
	    put_field(f, "password", q->password) && put_field(f, "clientid", q->client->client_id);
	good = fclose(f) == 0 && good;
	if (good)
		return body;
	explicit_bzero(body, size);
	free(body);
	return NULL;
}

static enum grapnel_verdict
decision_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct decision *d = instance;
	struct per_worker *w = &d->workers[d->host->request_worker(req)];
	struct call *c;

	if (q->client->username.data == NULL)
		return GRAPNEL_NEXT;
	if (w->calls >= d->max_calls || (c = calloc(1, sizeof(*c))) == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->d = d;
	c->w = w;
	c->req = req;
	c->body = form_body(q);
	c->look_up = c->body == NULL
	    ? NULL
	    : d->host->dns_lookup(d->self, (struct grapnel_str){ d->server, strlen(d->server) },
		  d->connect_timeout_ms, on_addresses, c);
	if (c->look_up == NULL) {
		wipe(c->body);
		free(c->body);
		free(c);
		return GRAPNEL_UNAVAILABLE;
	}
	w->calls++;
	d->host->metric_add(d->self, d->metric_calls, 1);
	d->host->request_set_data(req, c);
	return GRAPNEL_PENDING;
}

/* ------------------------------------------------------------------------ the instance */

static int
decision_worker_start(void *instance, unsigned worker)
{
	struct decision *d = instance;

	d->workers[worker].multi = multi_new(d->host, d->self, d->connections, on_done);
	return d->workers[worker].multi != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

/* No request is pending any more, so there is no call. */
static void
decision_worker_stop(void *instance, unsigned worker)
{
	struct decision *d = instance;

	multi_free(d->workers[worker].multi);
	d->workers[worker].multi = NULL;
}

static void
decision_destroy(void *instance)
{
	struct decision *d = instance;

	for (struct curl_slist *h = d->headers; h != NULL; h = h->next)
		wipe(h->data);
	curl_slist_free_all(d->headers);
	free(d->url);
	curl_free(d->server);
	curl_free(d->port);
	if (d->has_curl)
		curl_global_cleanup(); /* counted by libcurl */
	free(d);
}

static bool
load_url(struct decision *d)
{
	struct grapnel_str s = d->host->option_str(d->self, NULL, "url");
	CURLU *u = curl_url();
	char *scheme = NULL, *user = NULL;
	bool good;

	d->url = strndup(s.data, s.len);
	good = d->url != NULL && u != NULL &&
	    curl_url_set(u, CURLUPART_URL, d->url, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
	    curl_url_get(u, CURLUPART_USER, &user, 0) != CURLUE_OK && /* log lines show the URL */
	    curl_url_get(u, CURLUPART_HOST, &d->server, 0) == CURLUE_OK && d->server[0] != '[' &&
	    curl_url_get(u, CURLUPART_PORT, &d->port, CURLU_DEFAULT_PORT) == CURLUE_OK;
	if (!good)
		d->host->config_error(d->self, NULL, "url",
		    "it has to be http:// or https:// and a host (a name or an IPv4 address), "
		    "without a user");
	curl_free(scheme);
	curl_free(user);
	curl_url_cleanup(u);
	return good;
}

static bool
load_headers(struct decision *d)
{
	struct grapnel_str token = d->host->option_str(d->self, NULL, "token");
	struct curl_slist *more;
	char text[1024];

	/* Else libcurl waits a second for "100 Continue" before it sends a longer body. */
	d->headers = curl_slist_append(NULL, "Expect:");
	if (d->headers == NULL || token.data == NULL)
		return d->headers != NULL;
	for (size_t i = 0; i < token.len; i++)
		if (token.data[i] <= ' ' || token.data[i] > '~' || token.len > 900) {
			d->host->config_error(d->self, NULL, "token",
			    "a token is up to 900 printable characters without blanks");
			return false;
		}
	(void)snprintf(
	    text, sizeof(text), "Authorization: Bearer %.*s", (int)token.len, token.data);
	more = curl_slist_append(d->headers, text);
	explicit_bzero(text, sizeof(text));
	return more != NULL;
}

static int
decision_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct decision *d = calloc(1, sizeof(*d) + host->workers * sizeof(d->workers[0]));
	uint64_t looks_at =
	    GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_PASSWORD | GRAPNEL_DEPENDS_CLIENT_ID;

	if (d == NULL)
		return GRAPNEL_ENOMEM;
	d->host = host;
	d->self = self;
	d->timeout_ms = (uint32_t)host->option_int(self, NULL, "request_timeout");
	d->connect_timeout_ms = (uint32_t)host->option_int(self, NULL, "connect_timeout");
	d->connections = (long)host->option_int(self, NULL, "connections");
	d->max_calls = (unsigned)host->option_int(self, NULL, "calls");
	d->metric_calls =
	    host->metric_new(self, GRAPNEL_COUNTER, "calls_total", "Logins that were asked about.");
	d->metric_failures = host->metric_new(
	    self, GRAPNEL_COUNTER, "failures_total", "Calls without an answer that makes sense.");
	d->has_curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	/* What is not named here is not sent, so the broker may use an answer again where all this is equal: cache_ttl. */
	if (!d->has_curl || d->metric_calls < 0 || d->metric_failures < 0 ||
	    host->depends_on(self, "client_authenticate", looks_at) != GRAPNEL_OK || !load_url(d) ||
	    !load_headers(d)) {
		decision_destroy(d);
		return GRAPNEL_EINVAL;
	}
	*instance = d;
	return GRAPNEL_OK;
}

static const struct grapnel_option decision_options[] = {
	{ .name = "calls",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "1000",
	    .min = 1,
	    .max = 100000,
	    .help = "Calls at once of each worker; more are unavailable at once." },
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "2s",
	    .min = 1,
	    .max = 60000,
	    .help = "For a look-up, and for a connection." },
	{ .name = "connections",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "10",
	    .min = 1,
	    .max = 1000,
	    .help = "Connections of each worker; calls wait for one." },
	{ .name = "request_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "3s",
	    .min = 1,
	    .max = 60000,
	    .help = "For all of a call." },
	{ .name = "token",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Sent as Authorization: Bearer." },
	{ .name = "url",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Where logins are asked about." },
	{ .name = NULL },
};

GRAPNEL_PLUGIN(http_decision, .version = "1.0", .license = "MIT-0",
    .description = "Asks an HTTP service about logins", .options = decision_options,
    .create = decision_create, .destroy = decision_destroy, .worker_start = decision_worker_start,
    .worker_stop = decision_worker_stop, .request_cancelled = decision_request_cancelled,
    .client_authenticate = decision_client_authenticate);
