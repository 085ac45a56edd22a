/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-http - users and rights from an HTTP service
 *
 * Each worker has a curl_loop with its own connections. What is sent is in endpoint.c, what answers mean in answer.c, and
 * the way of a question in ask.c.
 */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

static const struct grapnel_option auth_http_options[] = {
	{ .name = "acl_fields",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Fields for acl_url, each \"name=value\"; values may hold %u %c %t %a %q %r %h "
		    "%l %m and %{attribute}." },
	{ .name = "acl_url",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Where is asked what a client may publish, subscribe to and read." },
	{ .name = "answer",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "status|json|text",
	    .help = "What of an answer counts: its status, or with status 200 a JSON body, or "
		    "\"ok\" as text; default: json, with "
		    "dialect mosquitto-go-auth status." },
	{ .name = "bearer_token",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Sent as \"Authorization: Bearer ...\" with every request." },
	{ .name = "check_read",
	    .type = GRAPNEL_OPTION_BOOL,
	    .help = "Whether acl_url is asked at delivery, too, and not only when a client "
		    "subscribes; default: yes, with dialect "
		    "emqx no." },
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "2s",
	    .min = 10,
	    .max = 60000,
	    .help = "Time for the look-up of the host, a connection and its TLS handshake." },
	{ .name = "connections",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "10",
	    .min = 1,
	    .max = 1000,
	    .help = "Connections at once, per worker." },
	{ .name = "dialect",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "grapnel",
	    .choices = "grapnel|mosquitto-go-auth|emqx",
	    .help = "Whose requests and answers the service knows." },
	{ .name = "format",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "json",
	    .choices = "json|form",
	    .help = "How the fields are written into the body of a POST." },
	{ .name = "headers",
	    .type = GRAPNEL_OPTION_LIST,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Headers sent with every request, each \"Name: value\"." },
	{ .name = "http2",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "yes",
	    .help = "Whether HTTP/2 is used with an https server that offers it." },
	{ .name = "idle_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "60s",
	    .min = 1000,
	    .max = 86400000,
	    .help = "Connections are closed when nothing was asked for that long." },
	{ .name = "login_fields",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Fields for login_url, each \"name=value\"; values may hold %u %p %c %h %l %m "
		    "and %{attribute}." },
	{ .name = "login_url",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Where a user and password are asked about." },
	{ .name = "max_answer",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "64k",
	    .min = 128,
	    .max = 16777216,
	    .help = "Longest body of an answer; a longer one is an error." },
	{ .name = "method",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "post",
	    .choices = "post|get",
	    .help = "Method of the requests; with get the fields are in the URL, where logs show "
		    "them." },
	{ .name = "no_content",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "allow|deny|next",
	    .help = "What status 204 means; default: next, with dialect emqx allow." },
	{ .name = "not_found",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "next",
	    .choices = "next|deny",
	    .help = "What status 404 means." },
	{ .name = "queue",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "1000",
	    .min = 0,
	    .max = 1000000,
	    .help = "Requests that wait for a connection, per worker; one more is answered "
		    "\"unavailable\"." },
	{ .name = "request_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 60000,
	    .help = "Time for a request and its answer, with the wait for a connection." },
	{ .name = "revalidate_fields",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Fields for revalidate_url, as login_fields without %p." },
	{ .name = "revalidate_url",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Where is asked whether a user who logged in earlier may stay." },
	{ .name = "socket",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a Unix socket to connect to, whatever host the URLs name." },
	{ .name = "superuser_fields",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Fields for superuser_url, as login_fields without %p." },
	{ .name = "superuser_url",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Where is asked, after a login, whether that user may do everything." },
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
	{ .name = NULL },
};

static const char *const url_options[] = {
	[ABOUT_LOGIN] = "login_url",
	[ABOUT_SUPERUSER] = "superuser_url",
	[ABOUT_REVALIDATE] = "revalidate_url",
	[ABOUT_ACL] = "acl_url",
};

/* ------------------------------------------------------------------------ options */

static bool
is(struct grapnel_str s, const char *word)
{
	return s.data != NULL && s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

static struct grapnel_str
given(const struct auth_http *a, const char *name)
{
	if (!a->host->option_given(a->self, NULL, name))
		return (struct grapnel_str){ NULL, 0 };
	return a->host->option_str(a->self, NULL, name);
}

static enum grapnel_verdict
verdict_of(struct grapnel_str s, enum grapnel_verdict otherwise)
{
	if (s.data == NULL)
		return otherwise;
	return is(s, "allow") ? GRAPNEL_ALLOW : is(s, "deny") ? GRAPNEL_DENY : GRAPNEL_NEXT;
}

static void
read_dialect(struct auth_http *a)
{
	const struct grapnel_host *host = a->host;
	struct grapnel_str dialect = host->option_str(a->self, NULL, "dialect"),
			   answer = given(a, "answer");

	a->dialect = is(dialect, "emqx")       ? DIALECT_EMQX
	    : is(dialect, "mosquitto-go-auth") ? DIALECT_GO_AUTH
					       : DIALECT_GRAPNEL;
	a->answer = a->dialect == DIALECT_GO_AUTH ? ANSWER_STATUS : ANSWER_JSON;
	if (answer.data != NULL)
		a->answer = is(answer, "status") ? ANSWER_STATUS
		    : is(answer, "text")         ? ANSWER_TEXT
						 : ANSWER_JSON;
	a->check_read = a->dialect != DIALECT_EMQX;
	if (host->option_given(a->self, NULL, "check_read"))
		a->check_read = host->option_bool(a->self, NULL, "check_read");
	a->no_content = verdict_of(
	    given(a, "no_content"), a->dialect == DIALECT_EMQX ? GRAPNEL_ALLOW : GRAPNEL_NEXT);
	a->not_found = verdict_of(host->option_str(a->self, NULL, "not_found"), GRAPNEL_NEXT);
	a->get = is(host->option_str(a->self, NULL, "method"), "get");
	a->form = is(host->option_str(a->self, NULL, "format"), "form");
}

/* What does not fit together. */
static bool
check(const struct auth_http *a)
{
	const struct grapnel_host *host = a->host;
	bool good = true;

	if (a->get && host->option_given(a->self, NULL, "format")) {
		host->config_error(
		    a->self, NULL, "format", "a GET has no body; leave it out with method = get");
		good = false;
	}
	if (a->endpoints[ABOUT_SUPERUSER] != NULL && a->endpoints[ABOUT_LOGIN] == NULL) {
		host->config_error(a->self, NULL, "superuser_url",
		    "it is asked after login_url, which is not set");
		good = false;
	}
	if (a->endpoints[ABOUT_LOGIN] == NULL && a->endpoints[ABOUT_ACL] == NULL && good) {
		host->config_error(
		    a->self, NULL, NULL, "there is nothing to do; set login_url, acl_url or both");
		good = false;
	}
	return good;
}

/* Options of certificates that no URL would use. */
static bool
check_tls(const struct auth_http *a)
{
	static const char *const names[] = { "tls_ca", "tls_cert", "tls_key" };
	bool good = true;

	for (size_t i = 0; i < ABOUT_COUNT; i++) {
		struct grapnel_str url = given(a, url_options[i]);

		if (url.len >= 8 && strncasecmp(url.data, "https://", 8) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (a->host->option_given(a->self, NULL, names[i])) {
			a->host->config_error(
			    a->self, NULL, names[i], "it is of no use: none of the URLs is https");
			good = false;
		}
	return good;
}

/* --------------------------------------------------------------------------- life */

static void
auth_http_destroy(void *instance)
{
	struct auth_http *a = instance;

	for (size_t i = 0; i < ABOUT_COUNT; i++)
		endpoint_free(a->endpoints[i]);
	(void)pthread_mutex_destroy(&a->lock);
	free(a->workers);
	free(a);
}

static void
make_metrics(struct auth_http *a)
{
	const struct grapnel_host *host = a->host;
	struct grapnel_instance *self = a->self;
	const struct {
		int *at;
		enum grapnel_metric_kind kind;
		const char *name, *help;
	} metrics[] = {
		{ &a->logins_accepted, GRAPNEL_COUNTER, "logins_accepted_total",
		    "Logins that login_url allowed." },
		{ &a->logins_refused, GRAPNEL_COUNTER, "logins_refused_total",
		    "Logins that login_url denied." },
		{ &a->logins_unknown, GRAPNEL_COUNTER, "logins_unknown_total",
		    "Logins left to the next plugin." },
		{ &a->logins_unavailable, GRAPNEL_COUNTER, "logins_unavailable_total",
		    "Logins that could not be asked about." },
		{ &a->rights_allowed, GRAPNEL_COUNTER, "rights_allowed_total",
		    "Rights that acl_url allowed." },
		{ &a->rights_denied, GRAPNEL_COUNTER, "rights_denied_total",
		    "Rights that acl_url denied." },
		{ &a->rights_unknown, GRAPNEL_COUNTER, "rights_unknown_total",
		    "Rights left to the next plugin." },
		{ &a->rights_unavailable, GRAPNEL_COUNTER, "rights_unavailable_total",
		    "Rights that could not be asked about." },
		{ &a->answers_unusable, GRAPNEL_COUNTER, "answers_unusable_total",
		    "Answers with a status or body that means nothing here." },
		{ &a->limits.metrics.connections, GRAPNEL_GAUGE, "connections",
		    "Open connections to the HTTP service." },
		{ &a->limits.metrics.calls_active, GRAPNEL_GAUGE, "requests_active",
		    "Requests sent, or about to be." },
		{ &a->limits.metrics.calls_waiting, GRAPNEL_GAUGE, "requests_waiting",
		    "Requests that wait for a connection." },
		{ &a->limits.metrics.calls_total, GRAPNEL_COUNTER, "requests_total",
		    "Requests begun." },
		{ &a->limits.metrics.failures_total, GRAPNEL_COUNTER, "requests_failed_total",
		    "Requests without an HTTP answer, timeouts included." },
		{ &a->limits.metrics.timeouts_total, GRAPNEL_COUNTER, "requests_timeout_total",
		    "Requests without an answer in time." },
		{ &a->limits.metrics.refused_total, GRAPNEL_COUNTER, "requests_refused_total",
		    "Requests not begun, because the queue was full." },
	};

	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		*metrics[i].at =
		    host->metric_new(self, metrics[i].kind, metrics[i].name, metrics[i].help);
}

/* What is asked about, and what the answers depend on: for the broker's cache. */
static int
declare(struct auth_http *a)
{
	static const struct {
		const char *hook;
		enum about about;
	} hooks[] = {
		{ "client_authenticate", ABOUT_LOGIN },
		{ "client_revalidate", ABOUT_REVALIDATE },
		{ "acl_check", ABOUT_ACL },
	};
	int err = GRAPNEL_OK;

	for (size_t i = 0; i < 3 && err == GRAPNEL_OK; i++) {
		const struct endpoint *e = a->endpoints[hooks[i].about],
				      *super = a->endpoints[ABOUT_SUPERUSER];
		uint64_t mask;

		if (e == NULL) {
			err = a->host->hook_disable(a->self, hooks[i].hook);
			continue;
		}
		mask = endpoint_depends(e);
		if (hooks[i].about == ABOUT_LOGIN && super != NULL)
			mask |= endpoint_depends(super);
		err = a->host->depends_on(a->self, hooks[i].hook, mask);
	}
	return err;
}

static bool
load(struct auth_http *a)
{
	bool good = true;

	read_dialect(a);
	for (size_t i = 0; i < ABOUT_COUNT; i++)
		good = endpoint_new(a, (enum about)i, &a->endpoints[i]) && good;
	return check_tls(a) && check(a) && good;
}

static int
auth_http_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_http *a = calloc(1, sizeof(*a));
	int64_t connections;
	int err;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	(void)pthread_mutex_init(&a->lock, NULL);
	a->workers = calloc(host->workers, sizeof(*a->workers));
	connections = host->option_int(self, NULL, "connections");
	a->limits.connections = (unsigned)connections;
	/* Many share a connection of HTTP/2; with HTTP/1.1 libcurl lets them wait for one. */
	a->limits.active = host->option_bool(self, NULL, "http2") ? (unsigned)connections * 32 : 0;
	a->limits.waiting = (unsigned)host->option_int(self, NULL, "queue");
	a->limits.idle_ms = (uint32_t)host->option_int(self, NULL, "idle_timeout");
	make_metrics(a);
	err = a->workers == NULL ? GRAPNEL_ENOMEM : load(a) ? declare(a) : GRAPNEL_EINVAL;
	if (err != GRAPNEL_OK) {
		auth_http_destroy(a);
		return err;
	}
	*instance = a;
	return GRAPNEL_OK;
}

static int
auth_http_worker_start(void *instance, unsigned worker)
{
	struct auth_http *a = instance;

	a->workers[worker] = curl_loop_new(a->host, a->self, &a->limits);
	return a->workers[worker] != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

static void
auth_http_worker_stop(void *instance, unsigned worker)
{
	struct auth_http *a = instance;

	curl_loop_free(a->workers[worker]);
	a->workers[worker] = NULL;
}

/* -------------------------------------------------------------------------- hooks */

static enum grapnel_verdict
auth_http_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	return ask_login(instance, req, q);
}

static enum grapnel_verdict
auth_http_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	return ask_revalidate(instance, req, q);
}

static enum grapnel_verdict
auth_http_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	return ask_acl(instance, req, q);
}

static void
auth_http_request_cancelled(void *instance, struct grapnel_request *req)
{
	ask_cancel(instance, req);
}

GRAPNEL_PLUGIN(auth_http, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users and rights from an HTTP service.", .options = auth_http_options,
    .create = auth_http_create, .destroy = auth_http_destroy,
    .worker_start = auth_http_worker_start, .worker_stop = auth_http_worker_stop,
    .reload_always = true, .request_cancelled = auth_http_request_cancelled,
    .client_authenticate = auth_http_client_authenticate,
    .client_revalidate = auth_http_client_revalidate, .acl_check = auth_http_acl_check);
