/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody may do, asked of the database each time: acl_check with acl_mode = check. The rows are rules like any
 * others, and the host's evaluation of rules decides; the query may choose rows by what is asked for, or not.
 */
#include "sql_parts.h"

#include <stdlib.h>

struct right {
	struct sql_run run; /* first: a run is its right */
	struct grapnel_request *req;
	const struct grapnel_acl_check *q;
	struct grant grant;
};

static bool
on_row(struct sql_run *run, const struct sql_row *row)
{
	struct right *r = (struct right *)run;

	return sql_add_rule(run, &r->grant, row);
}

static void
on_end(struct sql_run *run, bool good)
{
	struct right *r = (struct right *)run;
	struct sql *s = run->w->s;
	struct grapnel_acl_answer answer = { .size = sizeof(answer) };
	enum grapnel_verdict verdict = GRAPNEL_UNAVAILABLE;
	struct grapnel_rules *rules = NULL;

	if (run->refused) {
		verdict = GRAPNEL_DENY;
	} else if (good && run->rows == 0) {
		verdict = GRAPNEL_NEXT;
	} else if (good) {
		rules = grant_compile(&r->grant, s->host->instance_name(s->self));
		if (rules != NULL)
			verdict = grant_check(s->host, rules, r->q, &answer,
			    GRAPNEL_STR("acl_query: no row matches"));
		else
			sql_complain(run->w, s->queries[SQL_ACL], r->grant.error);
	}
	/* What is wrong with these rows alone is not the database's trouble. */
	answer.no_store = verdict == GRAPNEL_UNAVAILABLE && (good || run->wrong != NULL);
	if (verdict != GRAPNEL_UNAVAILABLE)
		sql_content(run->w, s->queries[SQL_ACL]);
	s->host->request_set_data(r->req, NULL);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)s->host->acl_resolve(r->req, verdict, &answer);
	s->host->rules_unref(rules);
	grant_fini(&r->grant);
	free(r);
}

enum grapnel_verdict
sql_acl_check(struct sql *s, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct template_values values = template_of_acl(q);
	struct right *r = calloc(1, sizeof(*r));
	enum sql_begun begun;

	if (r == NULL)
		return GRAPNEL_UNAVAILABLE;
	r->run.w = &s->workers[s->host->request_worker(req)];
	r->run.on_row = on_row;
	r->run.on_end = on_end;
	r->run.on_cancel = sql_run_cancel;
	r->req = req;
	r->q = q;
	grant_init(&r->grant, s->host);
	s->host->request_set_data(req, &r->run);
	begun =
	    sql_run_begin(&r->run, s->queries[SQL_ACL], &values, s->host->request_time_left(req));
	if (begun == SQL_BEGUN)
		return GRAPNEL_PENDING; /* or resolved already */
	s->host->request_set_data(req, NULL);
	grant_fini(&r->grant);
	free(r);
	return begun == SQL_ABSENT    ? GRAPNEL_NEXT
	    : begun == SQL_UNSENDABLE ? GRAPNEL_DENY
				      : GRAPNEL_UNAVAILABLE;
}
