/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options, queries and the life of an instance. The text of a query is made once, in create(): what is literal in its
 * template as it is, each place as $n or ?.
 */
#include "sql_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPLAINT_MS 10000u

static const struct {
	const char *option;
	unsigned allowed; /* enum template_field */
} kinds[SQL_QUERIES] = {
	[SQL_LOGIN] = { "login_query", TEMPLATE_CLIENT | TEMPLATE_PASSWORD },
	[SQL_ACL] = { "acl_query", TEMPLATE_CLIENT },
	[SQL_ATTRIBUTES] = { "attributes_query", TEMPLATE_CLIENT },
	[SQL_SUPERUSER] = { "superuser_query", TEMPLATE_CLIENT },
	[SQL_REVALIDATE] = { "revalidate_query", TEMPLATE_CLIENT },
};

/* ------------------------------------------------------------------------ queries */

#define PLACE_SIZE sizeof("$64") /* SQL_MAX_PARAMS of them */

struct writer {
	struct sql_query *query;
	size_t len;
	char quote; /* that is open; 0: none */
	bool dollar;
};

/* @return what is wrong with it; NULL: nothing. */
static const char *
add_literal(struct writer *w, struct grapnel_str text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.data[i];

		if (w->quote != 0) {
			if (c == w->quote)
				w->quote = 0;
		} else if (c == '\'' || c == '"' || c == '`') {
			w->quote = c;
		} else if (c == '?' && !w->dollar) {
			return "it has a parameter \"?\" of its own; write %u, %c ... where values "
			       "belong";
		} else if (c == '$' && w->dollar && i + 1 < text.len && text.data[i + 1] >= '0' &&
		    text.data[i + 1] <= '9') {
			return "it has a parameter like \"$1\" of its own; write %u, %c ... where "
			       "values belong";
		}
		w->query->text[w->len++] = c;
	}
	return NULL;
}

static const char *
add_place(struct writer *w, unsigned part)
{
	struct sql_query *q = w->query;

	if (w->quote != 0)
		return "a place such as %u stands between quotes; it is a parameter and needs none";
	q->part[q->param_count++] = part;
	if (w->dollar)
		w->len += (size_t)snprintf(q->text + w->len, PLACE_SIZE, "$%u", q->param_count);
	else
		q->text[w->len++] = '?';
	return NULL;
}

/* The template is parsed; make the text. */
static const char *
write_text(struct sql_query *q, size_t source_len, bool dollar)
{
	struct writer w = { .query = q, .dollar = dollar };
	const char *wrong = NULL;

	if ((q->text = malloc(source_len + 3 * (size_t)SQL_MAX_PARAMS + 1)) == NULL)
		return "out of memory";
	for (size_t i = 0; wrong == NULL && i < template_count(q->template); i++) {
		const struct template_part *part = template_part(q->template, i);

		wrong = part->field == 0 ? add_literal(&w, part->text) : add_place(&w, (unsigned)i);
	}
	q->text[w.len] = '\0';
	return wrong;
}

static void
query_free(struct sql_query *q)
{
	if (q == NULL)
		return;
	template_free(q->template);
	free(q->text);
	free(q);
}

static bool
read_query(struct sql *s, unsigned number)
{
	const struct grapnel_host *host = s->host;
	const char *option = kinds[number].option, *wrong;
	struct grapnel_str text = host->option_str(s->self, NULL, option);
	unsigned allowed = kinds[number].allowed;
	struct sql_query *q;
	char error[160];

	if (text.len == 0)
		return true;
	if (number == SQL_ACL && !s->acl_on_connect)
		allowed = TEMPLATE_ACL;
	if (memchr(text.data, '\0', text.len) != NULL) {
		host->config_error(
		    s->self, NULL, option, "%s: a query cannot have a NUL byte", option);
		return false;
	}
	if ((q = calloc(1, sizeof(*q))) == NULL) {
		host->config_error(s->self, NULL, option, "out of memory");
		return false;
	}
	s->queries[number] = q;
	q->number = number;
	q->option = option;
	if ((q->template = template_parse(text, allowed, error, sizeof(error))) == NULL)
		wrong = error;
	else
		wrong = write_text(q, text.len, s->driver->dollar);
	if (wrong != NULL)
		host->config_error(s->self, NULL, option, "%s: %s", option, wrong);
	return wrong == NULL;
}

const struct sql_query *
sql_query(const struct sql *s, unsigned number)
{
	return s->queries[number];
}

/* --------------------------------------------------------------------------- life */

static bool
needs_login(struct sql *s, unsigned number)
{
	if (s->queries[number] == NULL)
		return true;
	s->host->config_error(s->self, NULL, kinds[number].option,
	    number == SQL_ACL ? "acl_mode = connect asks for rights after the login, and there is "
				"no login_query; set it, or acl_mode = check"
			      : "%s is asked after the login, and there is no login_query",
	    kinds[number].option);
	return false;
}

static bool
read_options(struct sql *s)
{
	const struct grapnel_host *host = s->host;
	struct grapnel_str mode = host->option_str(s->self, NULL, "acl_mode");
	bool good = true;

	s->check_password = host->option_bool(s->self, NULL, "check_password");
	s->scram = host->option_bool(s->self, NULL, "scram");
	s->acl_on_connect = mode.len != 5; /* "check" */
	for (unsigned i = 0; i < SQL_QUERIES; i++)
		good = read_query(s, i) && good;
	if (!good)
		return false;
	if (s->queries[SQL_LOGIN] != NULL)
		return true;
	if (s->scram) {
		host->config_error(s->self, NULL, "scram",
		    "scram looks for the credential with login_query, and there is none");
		return false;
	}
	if (s->queries[SQL_ACL] == NULL) {
		host->config_error(s->self, NULL, NULL,
		    "there is nothing to do; set login_query, or acl_query with acl_mode = check");
		return false;
	}
	if (s->acl_on_connect)
		good = needs_login(s, SQL_ACL);
	good = needs_login(s, SQL_ATTRIBUTES) && good;
	good = needs_login(s, SQL_SUPERUSER) && good;
	return needs_login(s, SQL_REVALIDATE) && good;
}

static uint64_t
depends(const struct sql *s, unsigned number)
{
	return s->queries[number] != NULL ? template_depends(s->queries[number]->template) : 0;
}

/* The hooks that are left, and what their answers come from. */
static int
declare_hooks(struct sql *s)
{
	const struct grapnel_host *host = s->host;
	bool login = s->queries[SQL_LOGIN] != NULL,
	     check = s->queries[SQL_ACL] != NULL && !s->acl_on_connect;
	/* Asked again without a password, a query that wants one says nothing. */
	bool again = s->queries[SQL_REVALIDATE] != NULL ||
	    (login && (template_fields(s->queries[SQL_LOGIN]->template) & TEMPLATE_PASSWORD) == 0);
	uint64_t after = depends(s, SQL_ATTRIBUTES) | depends(s, SQL_SUPERUSER);
	int err = GRAPNEL_OK;

	if (s->acl_on_connect)
		after |= depends(s, SQL_ACL);
	if (!login)
		err = host->hook_disable(s->self, "client_authenticate");
	else
		err = host->depends_on(s->self, "client_authenticate",
		    after | depends(s, SQL_LOGIN) |
			(s->check_password ? GRAPNEL_DEPENDS_PASSWORD : 0));
	if (err != GRAPNEL_OK)
		return err;
	if (!again)
		err = host->hook_disable(s->self, "client_revalidate");
	else
		err = host->depends_on(s->self, "client_revalidate",
		    after |
			depends(
			    s, s->queries[SQL_REVALIDATE] != NULL ? SQL_REVALIDATE : SQL_LOGIN));
	if (err != GRAPNEL_OK)
		return err;
	if (!s->scram && (err = host->hook_disable(s->self, "client_auth_exchange")) != GRAPNEL_OK)
		return err;
	if (!check)
		return host->hook_disable(s->self, "acl_check");
	/* The topics in the rows may have places too. */
	return host->depends_on(s->self, "acl_check",
	    depends(s, SQL_ACL) | GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_CLIENT_ID |
		GRAPNEL_DEPENDS_ATTRIBUTES);
}

static void
declare_metrics(struct sql *s)
{
	const struct grapnel_host *host = s->host;

	s->logins_accepted = host->metric_new(s->self, GRAPNEL_COUNTER, "logins_accepted_total",
	    "Logins of users that login_query found, with the right password if it is checked.");
	s->logins_refused = host->metric_new(s->self, GRAPNEL_COUNTER, "logins_refused_total",
	    "Logins of known users with a wrong password.");
	s->logins_unknown = host->metric_new(s->self, GRAPNEL_COUNTER, "logins_unknown_total",
	    "Logins of users that login_query did not find.");
	s->logins_unavailable = host->metric_new(s->self, GRAPNEL_COUNTER,
	    "logins_unavailable_total", "Logins that could not be checked.");
	s->queries_total =
	    host->metric_new(s->self, GRAPNEL_COUNTER, "queries_total", "Queries begun.");
	s->queries_failed = host->metric_new(s->self, GRAPNEL_COUNTER, "queries_failed_total",
	    "Queries without an answer: no connection, an error, no time left.");
	s->answers_unusable = host->metric_new(s->self, GRAPNEL_COUNTER, "answers_unusable_total",
	    "Answers with too many rows, or with values that mean nothing.");
}

struct sql *
sql_new(
    const struct grapnel_host *host, struct grapnel_instance *self, const struct sql_driver *driver)
{
	struct sql *s = calloc(1, sizeof(*s));

	if (s == NULL || (s->workers = calloc(host->workers, sizeof(*s->workers))) == NULL) {
		host->config_error(self, NULL, NULL, "out of memory");
		sql_free(s);
		return NULL;
	}
	s->host = host;
	s->self = self;
	s->driver = driver;
	if (!read_options(s)) {
		sql_free(s);
		return NULL;
	}
	if (s->scram && host->random_bytes(s->secret, sizeof(s->secret)) != GRAPNEL_OK) {
		host->config_error(self, NULL, "scram", "the system gives no random numbers");
		sql_free(s);
		return NULL;
	}
	if (declare_hooks(s) != GRAPNEL_OK) {
		host->config_error(self, NULL, NULL, "the broker does not know a hook");
		sql_free(s);
		return NULL;
	}
	declare_metrics(s);
	return s;
}

void
sql_free(struct sql *s)
{
	if (s == NULL)
		return;
	explicit_bzero(s->secret, sizeof(s->secret));
	for (unsigned i = 0; i < SQL_QUERIES; i++)
		query_free(s->queries[i]);
	free(s->workers);
	free(s);
}

int
sql_worker_start(struct sql *s, unsigned worker, void *pool)
{
	struct sql_worker *w = &s->workers[worker];

	*w = (struct sql_worker){ .s = s, .pool = pool };
	verifier_init(&w->verifier, s->host, s->self);
	return GRAPNEL_OK;
}

void
sql_worker_stop(struct sql *s, unsigned worker)
{
	struct sql_worker *w = &s->workers[worker];

	verifier_fini(&w->verifier);
	explicit_bzero(w->like, sizeof(w->like));
}

/* ------------------------------------------------------------------ counts and log */

void
sql_count(const struct sql *s, int metric)
{
	if (metric >= 0)
		s->host->metric_add(s->self, metric, 1);
}

void
sql_complain(struct sql_worker *w, const struct sql_query *query, const char *what)
{
	struct sql *s = w->s;
	uint64_t now = s->host->now_ms(), last = w->complaint[query->number].said_ms;

	sql_count(s, s->answers_unusable);
	if (w->complaint[query->number].said || (last != 0 && now - last < COMPLAINT_MS))
		return;
	w->complaint[query->number].said = true;
	w->complaint[query->number].said_ms = now;
	s->host->log(s->self, GRAPNEL_LOG_ERROR,
	    "an answer to %s cannot be used: %s; whoever it was about is told that the service is "
	    "unavailable",
	    query->option, what);
}

void
sql_content(struct sql_worker *w, const struct sql_query *query)
{
	if (query != NULL)
		w->complaint[query->number].said = false;
}
