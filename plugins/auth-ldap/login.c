/* SPDX-License-Identifier: Apache-2.0 */
#include "login.h"

#include "entry.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TEXT  65536u /* of a DN or filter that is sent */
#define MAX_TRIES 3u

enum step { STEP_SEARCH, STEP_BIND, STEP_ENTRY, STEP_GROUPS };

struct login {
	struct worker *w;
	struct grapnel_request *req;
	const struct grapnel_client_info *client;
	struct grapnel_str password;
	bool revalidate;

	enum step step;
	unsigned tries;
	struct pool *pool; /* of the step */
	struct lease lease;
	struct conn *conn; /* leased; NULL: none */
	bool busy;         /* with an operation */

	char *bind_dn, *base, *filter; /* of the first step */
	size_t found;
	struct entry entry;
};

static void lease(struct login *l);

/* ---------------------------------------------------------------------------- end */

static void
give_back(struct login *l)
{
	struct conn *c = l->conn;

	l->conn = NULL;
	if (c == NULL)
		return;
	if (l->busy)
		conn_detach(c);
	else
		pool_release(l->pool, c);
	l->busy = false;
}

static enum metric
metric_of(enum grapnel_verdict verdict)
{
	switch (verdict) {
	case GRAPNEL_ALLOW:
		return METRIC_ACCEPTED;
	case GRAPNEL_DENY:
		return METRIC_REFUSED;
	case GRAPNEL_NEXT:
		return METRIC_UNKNOWN;
	case GRAPNEL_UNAVAILABLE:
	case GRAPNEL_PENDING:
		break;
	}
	return METRIC_UNAVAILABLE;
}

static void
finish(struct login *l, enum grapnel_verdict verdict, const struct grapnel_auth_answer *answer)
{
	const struct grapnel_host *host = l->w->settings->host;

	if (l->pool != NULL)
		lease_cancel(l->pool, &l->lease);
	give_back(l);
	if (!l->revalidate)
		settings_count(l->w->settings, metric_of(verdict), 1);
	host->request_set_data(l->req, NULL);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)host->auth_resolve(l->req, verdict, answer);
	entry_fini(&l->entry);
	free(l->bind_dn);
	free(l->base);
	free(l->filter);
	free(l);
}

/* There is nobody of that name: whoever was let in has gone meanwhile. */
static void
finish_unknown(struct login *l)
{
	finish(l, l->revalidate ? GRAPNEL_DENY : GRAPNEL_NEXT, NULL);
}

static void
finish_allow(struct login *l)
{
	struct settings *s = l->w->settings;
	const struct grapnel_auth_answer *answer;
	struct grant g;

	if (s->require_group && !entry_in_any_group(&l->entry)) {
		finish(l, GRAPNEL_DENY, NULL);
		return;
	}
	grant_init(&g, s->host);
	answer = entry_answer(&l->entry, &g, s->host->instance_name(s->self));
	if (answer == NULL)
		settings_complain(s, COMPLAINT_GRANT,
		    "what the directory says of a user cannot be used: %s (%s)", g.error,
		    l->entry.dn != NULL ? l->entry.dn : "no entry");
	if (answer != NULL)
		finish(l, GRAPNEL_ALLOW, answer);
	else
		finish(l, GRAPNEL_UNAVAILABLE, &grant_unusable);
	grant_fini(&g);
}

/* An answer that says nothing about the user. */
static void
finish_result(struct login *l, const char *what, int code, const char *text)
{
	struct settings *s = l->w->settings;
	bool referral = code == LDAP_REFERRAL || code == LDAP_PARTIAL_RESULTS;

	settings_complain(s, referral ? COMPLAINT_REFERRAL : COMPLAINT_RESULT,
	    "%s is answered with %d, %s%s%s", what, code,
	    referral ? "a referral; they are not followed, so name the server that has the users"
		     : ldap_err2string(code),
	    text[0] != '\0' ? ": " : "", text);
	finish(l, GRAPNEL_UNAVAILABLE, NULL);
}

/* ------------------------------------------------------------------------- texts */

/* A template with the values of the question, and the DN that was found as %{dn}. *unknown: nobody can have such a name. */
static char *
fill(struct login *l, const struct template *t, template_escape_fn escape, bool *unknown)
{
	struct grapnel_client_info client = *l->client;
	struct template_values values = { .client = &client };
	struct grapnel_pair *attributes = NULL;
	const char *why = "";
	char *text = NULL;
	size_t len = 0;

	*unknown = false;
	if (l->entry.dn != NULL) {
		attributes = calloc(client.attribute_count + 1, sizeof(*attributes));
		if (attributes == NULL)
			return NULL;
		attributes[0] = (struct grapnel_pair){ GRAPNEL_STR("dn"),
			{ l->entry.dn, strlen(l->entry.dn) } };
		if (client.attribute_count > 0)
			memcpy(attributes + 1, client.attributes,
			    client.attribute_count * sizeof(*attributes));
		client.attributes = attributes;
		client.attribute_count++;
	}
	text = template_fill(t, &values, escape, &len, &why);
	free(attributes);
	if (text == NULL) {
		*unknown = strcmp(why, "out of memory") != 0;
	} else if (len > MAX_TEXT || memchr(text, '\0', len) != NULL) {
		*unknown = true;
		free(text);
		text = NULL;
	}
	return text;
}

/* -------------------------------------------------------------------------- steps */

static bool
wants_groups(const struct login *l)
{
	return l->w->settings->group_filter != NULL && l->w->settings->group_count > 0;
}

static void
go(struct login *l, enum step step)
{
	struct worker *w = l->w;
	struct pool *pool = step == STEP_BIND || w->search == NULL ? w->bind : w->search;

	l->step = step;
	l->found = 0;
	l->tries = 0;
	if (l->pool != pool)
		give_back(l);
	l->pool = pool;
	lease(l);
}

static void
after_entry(struct login *l)
{
	if (wants_groups(l))
		go(l, STEP_GROUPS);
	else
		finish_allow(l);
}

static void
complain_entry(struct login *l)
{
	settings_complain(l->w->settings, COMPLAINT_ENTRY, "the entry %s cannot be used: %s",
	    l->entry.dn != NULL ? l->entry.dn : "", l->entry.error);
	finish(l, GRAPNEL_UNAVAILABLE, &grant_unusable);
}

static void
on_search_done(struct login *l, int code, const char *text)
{
	const struct settings *s = l->w->settings;
	/* Where the place of the search depends on who asks, it need not be there. */
	bool missing = template_fields(s->search_base) != 0 &&
	    (code == LDAP_NO_SUCH_OBJECT || code == LDAP_INVALID_DN_SYNTAX);

	if (l->found > 1) {
		settings_complain(l->w->settings, COMPLAINT_AMBIGUOUS,
		    "search_filter finds more than one entry for a user name, one of them %s; "
		    "nobody is let in by it",
		    l->entry.dn != NULL ? l->entry.dn : "");
		finish(l, GRAPNEL_DENY, NULL);
	} else if (code != LDAP_SUCCESS && !missing) {
		finish_result(l, "the search for a user", code, text);
	} else if (l->found == 0) {
		finish_unknown(l);
	} else if (l->entry.error[0] != '\0') {
		complain_entry(l);
	} else if (!l->entry.exact) {
		finish_unknown(l);
	} else if (l->revalidate || !s->check_password) {
		after_entry(l);
	} else {
		go(l, STEP_BIND);
	}
}

/* Results of a bind that say something about the user, not about the server: wrong, locked, expired, gone, or no such DN. */
static bool
is_refusal(int code)
{
	return code == LDAP_INVALID_CREDENTIALS || code == LDAP_INAPPROPRIATE_AUTH ||
	    code == LDAP_INSUFFICIENT_ACCESS || code == LDAP_UNWILLING_TO_PERFORM ||
	    code == LDAP_CONSTRAINT_VIOLATION || code == LDAP_NO_SUCH_OBJECT ||
	    code == LDAP_INVALID_DN_SYNTAX;
}

static void
on_bind_done(struct login *l, int code, const char *text)
{
	if (is_refusal(code))
		finish(l, GRAPNEL_DENY, NULL);
	else if (code != LDAP_SUCCESS)
		finish_result(l, "a bind as a user", code, text);
	else if (l->w->search == NULL && settings_want_entry(l->w->settings))
		go(l, STEP_ENTRY);
	else
		after_entry(l);
}

static void
on_entry_done(struct login *l, int code, const char *text)
{
	if (l->entry.error[0] != '\0') {
		complain_entry(l);
	} else if (l->found != 1) {
		finish_result(l,
		    "a user who reads the own entry (for exact_username, attributes or groups)",
		    code, text);
	} else if (!l->entry.exact) {
		finish(l, GRAPNEL_DENY, NULL);
	} else {
		after_entry(l);
	}
}

static void
on_groups_done(struct login *l, int code, const char *text)
{
	bool missing = template_fields(l->w->settings->group_base) != 0 &&
	    (code == LDAP_NO_SUCH_OBJECT || code == LDAP_INVALID_DN_SYNTAX);

	if (code != LDAP_SUCCESS && !missing)
		finish_result(l, "the search for the groups of a user", code, text);
	else
		finish_allow(l);
}

/* The connection is gone; code is a CONN_ value. */
static void
on_lost(struct login *l, int code)
{
	l->conn = NULL;
	if (code == CONN_TOO_MANY && l->step == STEP_SEARCH && l->found > 1) {
		on_search_done(l, LDAP_SUCCESS, "");
		return;
	}
	if (code == CONN_TOO_MANY) {
		settings_complain(l->w->settings, COMPLAINT_RESULT,
		    "an answer about %s has more entries than it may have (max_groups)",
		    l->entry.dn != NULL ? l->entry.dn : "a user");
		finish(l, GRAPNEL_UNAVAILABLE, NULL);
		return;
	}
	if (++l->tries >= MAX_TRIES) {
		finish(l, GRAPNEL_UNAVAILABLE, NULL);
		return;
	}
	/* What was read goes with it; a new connection is not bound as the user. */
	if (l->step == STEP_SEARCH || l->w->search == NULL)
		entry_restart(&l->entry);
	if (l->w->search == NULL)
		l->step = STEP_BIND;
	l->found = 0;
	lease(l);
}

static void
on_done(void *arg, int code, const char *text)
{
	struct login *l = arg;

	l->busy = false;
	if (code < 0) {
		on_lost(l, code);
		return;
	}
	switch (l->step) {
	case STEP_SEARCH:
		on_search_done(l, code, text);
		return;
	case STEP_BIND:
		on_bind_done(l, code, text);
		return;
	case STEP_ENTRY:
		on_entry_done(l, code, text);
		return;
	case STEP_GROUPS:
		on_groups_done(l, code, text);
		return;
	}
}

static void
on_entry(void *arg, LDAP *ld, LDAPMessage *message)
{
	struct login *l = arg;

	if (++l->found == 1)
		entry_read(&l->entry, ld, message, l->client->username);
}

static void
on_group(void *arg, LDAP *ld, LDAPMessage *message)
{
	struct login *l = arg;

	entry_add_group(&l->entry, ld, message);
}

/* ----------------------------------------------------------------------- sending */

static bool
send_bind(struct login *l)
{
	struct conn_op op = { .done = on_done, .arg = l };
	const char *dn = l->w->search == NULL ? l->bind_dn : l->entry.dn;

	return conn_bind(l->conn, dn, l->password, &op);
}

static bool
send_search(struct login *l)
{
	struct settings *s = l->w->settings;
	struct conn_search search = { l->base, l->filter, s->search_scope, s->wanted, 2 };
	struct conn_op op = { .max_entries = 2, .on_entry = on_entry, .done = on_done, .arg = l };

	if (l->step == STEP_ENTRY)
		search = (struct conn_search){ l->bind_dn, "(objectClass=*)", LDAP_SCOPE_BASE,
			s->wanted, 0 };
	return conn_search(l->conn, &search, &op);
}

/* *known: whether there is something to ask. */
static bool
send_groups(struct login *l, bool *known)
{
	struct settings *s = l->w->settings;
	struct conn_op op = {
		.max_entries = s->max_groups, .on_entry = on_group, .done = on_done, .arg = l
	};
	bool unknown_base, unknown_filter, sent = false;
	char *base = fill(l, s->group_base, text_escape_dn, &unknown_base);
	char *filter = fill(l, s->group_filter, text_escape_filter, &unknown_filter);

	*known = !unknown_base && !unknown_filter;
	if (base != NULL && filter != NULL) {
		struct conn_search search = { base, filter, LDAP_SCOPE_SUBTREE, s->no_attributes,
			(unsigned)s->max_groups + 1 };

		sent = conn_search(l->conn, &search, &op);
	}
	free(base);
	free(filter);
	return sent;
}

static void
run(struct login *l)
{
	bool known = true, sent;

	if (l->step == STEP_BIND)
		sent = send_bind(l);
	else if (l->step == STEP_GROUPS)
		sent = send_groups(l, &known);
	else
		sent = send_search(l);
	if (sent) {
		l->busy = true;
	} else if (!known) {
		finish_allow(l); /* in no group */
	} else {
		struct conn *c = l->conn;

		l->conn = NULL;
		pool_discard(l->pool, c);
		on_lost(l, CONN_LOST);
	}
}

static void
on_leased(void *arg, struct conn *c)
{
	struct login *l = arg;

	l->conn = c;
	if (c == NULL)
		finish(l, GRAPNEL_UNAVAILABLE, NULL);
	else
		run(l);
}

/* A connection for the step: the one it has, or another. */
static void
lease(struct login *l)
{
	if (l->conn != NULL) {
		run(l);
		return;
	}
	l->lease = (struct lease){ .ready = on_leased, .arg = l };
	pool_lease(l->pool, &l->lease);
}

/* ------------------------------------------------------------------------ its door */

enum grapnel_verdict
login_begin(struct worker *w, struct grapnel_request *req, const struct grapnel_client_info *client,
    struct grapnel_str password, bool revalidate)
{
	struct settings *s = w->settings;
	struct login *l = calloc(1, sizeof(*l));
	bool unknown = false;

	if (l == NULL)
		return GRAPNEL_UNAVAILABLE;
	l->w = w;
	l->req = req;
	l->client = client;
	l->password = password;
	l->revalidate = revalidate;
	entry_init(&l->entry, s);
	s->host->request_set_data(req, l);
	if (w->search == NULL) {
		l->bind_dn = fill(l, s->bind_dn, text_escape_dn, &unknown);
	} else if ((l->base = fill(l, s->search_base, text_escape_dn, &unknown)) != NULL) {
		l->filter = fill(l, s->search_filter, text_escape_filter, &unknown);
	}
	if (l->bind_dn == NULL && l->filter == NULL) {
		if (!unknown)
			finish(l, GRAPNEL_UNAVAILABLE, NULL);
		else if (w->search == NULL)
			finish(l, GRAPNEL_DENY, NULL); /* as for a DN that does not exist */
		else
			finish_unknown(l);
		return GRAPNEL_PENDING;
	}
	if (w->search == NULL && (l->entry.dn = strdup(l->bind_dn)) == NULL)
		finish(l, GRAPNEL_UNAVAILABLE, NULL);
	else
		go(l, w->search == NULL ? STEP_BIND : STEP_SEARCH);
	return GRAPNEL_PENDING;
}

void
login_cancel(struct worker *w, struct grapnel_request *req)
{
	struct login *l = w->settings->host->request_data(req);

	if (l != NULL)
		finish(l, GRAPNEL_UNAVAILABLE, NULL);
}
