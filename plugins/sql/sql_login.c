/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_authenticate and client_revalidate, and what they share with client_auth_exchange.
 */
#include "sql_login.h"

#include <stdlib.h>
#include <string.h>

static const unsigned query_of[] = {
	[LOGIN_ATTRIBUTES] = SQL_ATTRIBUTES,
	[LOGIN_SUPERUSER] = SQL_SUPERUSER,
	[LOGIN_RIGHTS] = SQL_ACL,
};

static void
count_verdict(const struct login *l, enum grapnel_verdict verdict)
{
	const struct sql *s = l->run.w->s;

	if (l->kind == LOGIN_AGAIN)
		return;
	switch (verdict) {
	case GRAPNEL_ALLOW:
		sql_count(s, s->logins_accepted);
		break;
	case GRAPNEL_DENY:
		sql_count(s, s->logins_refused);
		break;
	case GRAPNEL_NEXT:
		sql_count(s, s->logins_unknown);
		break;
	case GRAPNEL_PENDING:
	case GRAPNEL_UNAVAILABLE:
		sql_count(s, s->logins_unavailable);
		break;
	}
}

void
sql_login_forget_hash(struct login *l)
{
	if (l->hash != NULL)
		explicit_bzero(l->hash, l->hash_len);
	free(l->hash);
	l->hash = NULL;
}

void
sql_login_free(struct login *l)
{
	sql_login_forget_hash(l);
	scram_free(l->scram);
	grant_fini(&l->grant);
	free(l);
}

void
sql_login_finish(struct login *l, enum grapnel_verdict verdict)
{
	struct sql_worker *w = l->run.w;
	struct sql *s = w->s;
	const struct grapnel_auth_answer *answer = NULL;
	bool unusable = l->run.wrong != NULL;

	if (verdict == GRAPNEL_ALLOW) {
		l->grant.answer.data = l->reply;
		answer = grant_answer(&l->grant, s->host->instance_name(s->self));
		if (answer == NULL) {
			/* Only rules can still turn out wrong, or memory. */
			const struct sql_query *acl = s->queries[SQL_ACL];

			sql_complain(w, acl != NULL ? acl : s->queries[SQL_LOGIN], l->grant.error);
			verdict = GRAPNEL_UNAVAILABLE;
			unusable = true;
		} else {
			for (unsigned i = 0; i < SQL_QUERIES; i++)
				sql_content(w, s->queries[i]);
		}
	}
	if (verdict == GRAPNEL_UNAVAILABLE && unusable)
		answer = &grant_unusable;
	count_verdict(l, verdict);
	s->host->request_set_data(l->req, NULL);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)s->host->auth_resolve(l->req, verdict, answer);
	sql_login_free(l);
}

/* -------------------------------------------------------------- after the password */

/* `name` and `value`, or columns that are names themselves. */
static bool
attribute_row(struct login *l, const struct sql_row *row)
{
	int name = -1, value = -1;

	for (unsigned i = 0; i < row->columns; i++) {
		char column[SQL_NAME_SIZE] = "";

		(void)sql_column(row->names[i], column);
		if (strcmp(column, "name") == 0)
			name = (int)i;
		else if (strcmp(column, "value") == 0)
			value = (int)i;
	}
	if (name < 0 || value < 0 || row->columns != 2) {
		for (unsigned i = 0; i < row->columns; i++)
			if (!sql_set_column(&l->run, &l->grant, row, i))
				return false;
		return true;
	}
	if (row->values[name].data == NULL) {
		l->run.wrong = "the name of an attribute is NULL";
		return false;
	}
	if (grant_set(&l->grant, row->values[name], row->values[value]))
		return true;
	l->run.wrong = l->grant.error;
	return false;
}

static bool
on_row_after(struct sql_run *run, const struct sql_row *row)
{
	struct login *l = (struct login *)run;

	if (l->stage == LOGIN_ATTRIBUTES)
		return attribute_row(l, row);
	if (l->stage == LOGIN_RIGHTS)
		return sql_add_rule(run, &l->grant, row);
	if (row->columns > 0 && grant_is_true(row->values[0]))
		l->grant.answer.superuser = true;
	return true;
}

static bool
stage_is_due(const struct login *l)
{
	const struct sql *s = l->run.w->s;

	if (s->queries[query_of[l->stage]] == NULL)
		return false;
	if (l->stage == LOGIN_RIGHTS && !s->acl_on_connect)
		return false;
	return l->stage == LOGIN_ATTRIBUTES || !l->grant.answer.superuser;
}

static void on_end_after(struct sql_run *run, bool good);

/* Ask as the client will be with what is known by now. */
static enum sql_begun
ask(struct login *l, const struct sql_query *query)
{
	struct grapnel_pair *pairs =
	    calloc(GRANT_MAX_ATTRIBUTES + l->client->attribute_count, sizeof(*pairs));
	struct grapnel_client_info client;
	struct template_values values = { .client = &client, .password = l->password };
	enum sql_begun begun;

	if (pairs == NULL)
		return SQL_FAILED;
	client = grant_client(&l->grant, l->client, pairs);
	begun =
	    sql_run_begin(&l->run, query, &values, l->run.w->s->host->request_time_left(l->req));
	free(pairs); /* the run has copied what it needs; l may be gone */
	return begun;
}

/* On to the next stage that has something to ask; at the end the login is complete. */
void
sql_login_advance(struct login *l)
{
	while (++l->stage < LOGIN_COMPLETE) {
		enum sql_begun begun;

		if (!stage_is_due(l))
			continue;
		if (l->stage == LOGIN_RIGHTS)
			grant_want_rules(&l->grant);
		l->run.on_row = on_row_after;
		l->run.on_end = on_end_after;
		begun = ask(l, l->run.w->s->queries[query_of[l->stage]]);
		if (begun == SQL_BEGUN)
			return;
		if (begun == SQL_FAILED) {
			sql_login_finish(l, GRAPNEL_UNAVAILABLE);
			return;
		}
		/* Nothing in the database can be meant by a value that is not there: no rows. */
	}
	sql_login_finish(l, GRAPNEL_ALLOW);
}

static void
on_end_after(struct sql_run *run, bool good)
{
	struct login *l = (struct login *)run;

	if ((good || run->refused) && !l->cancelled) /* a value that is refused is in no row */
		sql_login_advance(l);
	else
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
}

/* -------------------------------------------------------------------- the password */

static void
on_verified(void *arg, enum verify_result result)
{
	struct login *l = arg;

	l->verify = NULL;
	sql_login_forget_hash(l);
	if (result == VERIFY_UNAVAILABLE || l->cancelled)
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
	else if (!l->known)
		sql_login_finish(l, GRAPNEL_NEXT);
	else if (result == VERIFY_RIGHT)
		sql_login_advance(l);
	else
		sql_login_finish(l, GRAPNEL_DENY);
}

static void
verify_password(struct login *l)
{
	struct sql *s = l->run.w->s;
	struct grapnel_str hash = { l->hash, l->hash_len };
	struct verify *under_way = verify_start(&l->run.w->verifier,
	    s->host->request_time_left(l->req), hash, l->password, on_verified, l);

	if (under_way != NULL) /* else l may be gone */
		l->verify = under_way;
}

/* ------------------------------------------------------------------------ the user */

static bool
wants_hash(const struct login *l)
{
	return l->kind == LOGIN_SCRAM || (l->kind == LOGIN_PASSWORD && l->run.w->s->check_password);
}

static bool
keep_hash(struct login *l, struct grapnel_str value)
{
	l->has_column = true;
	if (value.data == NULL || !wants_hash(l))
		return true;
	if ((l->hash = malloc(value.len + 1)) == NULL) {
		l->run.wrong = "out of memory";
		return false;
	}
	memcpy(l->hash, value.data, value.len);
	l->hash_len = value.len;
	return true;
}

static bool
on_row_user(struct sql_run *run, const struct sql_row *row)
{
	struct login *l = (struct login *)run;

	if (run->rows > 1) {
		run->wrong = "it has more than one row";
		return false;
	}
	l->known = true;
	for (unsigned i = 0; i < row->columns; i++) {
		char name[SQL_NAME_SIZE] = "";

		(void)sql_column(row->names[i], name);
		if (strcmp(name, "password") != 0) {
			if (!sql_set_column(run, &l->grant, row, i))
				return false;
		} else if (l->has_column) {
			run->wrong = "it has two columns named password";
			return false;
		} else if (!keep_hash(l, row->values[i])) {
			return false;
		}
	}
	if (l->has_column || !wants_hash(l))
		return true;
	run->wrong = l->kind == LOGIN_SCRAM
	    ? "it has no column named password, and scram is yes"
	    : "it has no column named password, and check_password is yes";
	return false;
}

static void
on_end_user(struct sql_run *run, bool good)
{
	struct login *l = (struct login *)run;

	if ((!good && !run->refused) || l->cancelled)
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
	else if (run->refused && l->kind == LOGIN_AGAIN)
		sql_login_finish(l, GRAPNEL_NEXT);
	else if (wants_hash(l))
		verify_password(l);
	else if (l->known)
		sql_login_advance(l);
	else
		sql_login_finish(l, l->kind == LOGIN_AGAIN ? GRAPNEL_DENY : GRAPNEL_NEXT);
}

enum sql_begun
sql_login_ask(
    struct login *l, const struct sql_query *query, void (*on_end)(struct sql_run *run, bool good))
{
	l->run.on_row = on_row_user;
	l->run.on_end = on_end;
	return ask(l, query);
}

static void
on_cancel(struct sql_run *run)
{
	struct login *l = (struct login *)run;

	l->cancelled = true;
	if (l->verify != NULL)
		verify_cancel(l->verify);
	else
		sql_run_cancel(run);
}

struct login *
sql_login_new(struct sql *s, struct grapnel_request *req, const struct grapnel_client_info *client,
    enum login_kind kind)
{
	struct login *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->run.w = &s->workers[s->host->request_worker(req)];
	l->run.on_cancel = on_cancel;
	l->req = req;
	l->client = client;
	l->kind = kind;
	grant_init(&l->grant, s->host);
	s->host->request_set_data(req, &l->run);
	return l;
}

/* -------------------------------------------------------------------------- hooks */

static enum grapnel_verdict
begin(struct login *l, const struct sql_query *query)
{
	struct sql *s = l->run.w->s;
	struct grapnel_request *req = l->req;
	enum sql_begun begun = sql_login_ask(l, query, on_end_user);

	if (begun == SQL_BEGUN)
		return GRAPNEL_PENDING; /* or resolved already */
	s->host->request_set_data(req, NULL);
	sql_login_free(l);
	/* Nobody in the database can be meant by a value that is not there, or cannot be. */
	return begun == SQL_FAILED ? GRAPNEL_UNAVAILABLE : GRAPNEL_NEXT;
}

enum grapnel_verdict
sql_authenticate(struct sql *s, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct login *l = sql_login_new(s, req, q->client, LOGIN_PASSWORD);

	if (l == NULL)
		return GRAPNEL_UNAVAILABLE;
	l->password = q->password;
	return begin(l, s->queries[SQL_LOGIN]);
}

enum grapnel_verdict
sql_revalidate(struct sql *s, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct login *l = sql_login_new(s, req, q->client, LOGIN_AGAIN);

	if (l == NULL)
		return GRAPNEL_UNAVAILABLE;
	return begin(
	    l, s->queries[s->queries[SQL_REVALIDATE] != NULL ? SQL_REVALIDATE : SQL_LOGIN]);
}
