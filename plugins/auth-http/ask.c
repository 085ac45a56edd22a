/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask - a question under way
 *
 *	login       login_url; when it allows and does not say so itself, superuser_url
 *	revalidate  revalidate_url
 *	acl         acl_url
 *
 * An ask is made by the hook, has one call under way at a time, and is gone after the resolve function.
 */
#include "parts.h"

#include <stdlib.h>
#include <string.h>

struct ask {
	struct auth_http *a;
	struct grapnel_request *req;
	struct curl_call *call;
	enum about about; /* of the call */
	enum about began; /* LOGIN, REVALIDATE or ACL */
	enum grapnel_action action;
	const struct grapnel_client_info *client;
	struct grant grant;
	struct outcome outcome; /* of what it began with */
	bool no_store;
	uint32_t max_age_ms; /* the shortest; 0: none was said */
};

static void
count(const struct auth_http *a, int metric)
{
	if (metric >= 0)
		a->host->metric_add(a->self, metric, 1);
}

static void
count_verdict(const struct ask *k, enum grapnel_verdict verdict)
{
	const struct auth_http *a = k->a;
	bool acl = k->began == ABOUT_ACL;

	if (k->began == ABOUT_REVALIDATE)
		return;
	switch (verdict) {
	case GRAPNEL_ALLOW:
		count(a, acl ? a->rights_allowed : a->logins_accepted);
		break;
	case GRAPNEL_DENY:
		count(a, acl ? a->rights_denied : a->logins_refused);
		break;
	case GRAPNEL_NEXT:
		count(a, acl ? a->rights_unknown : a->logins_unknown);
		break;
	case GRAPNEL_PENDING:
	case GRAPNEL_UNAVAILABLE:
		count(a, acl ? a->rights_unavailable : a->logins_unavailable);
		break;
	}
}

/* -------------------------------------------------------------------------- answers */

static struct grapnel_str
reason(const struct ask *k)
{
	const char *text = k->outcome.reason;

	return (struct grapnel_str){ text[0] != '\0' ? text : NULL, strlen(text) };
}

static void
resolve_acl(struct ask *k, enum grapnel_verdict verdict)
{
	struct grapnel_acl_answer answer = {
		.size = sizeof(answer),
		.no_store = k->no_store,
		.cache_ttl_ms = k->max_age_ms,
		.rule = GRAPNEL_STR("acl_url"),
	};

	if (verdict == GRAPNEL_ALLOW && k->action == GRAPNEL_SUBSCRIBE)
		answer.max_qos_plus_one = k->outcome.max_qos_plus_one;
	if (verdict == GRAPNEL_DENY)
		answer.reason_string = reason(k);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)k->a->host->acl_resolve(k->req, verdict, &answer);
}

static void
resolve_auth(struct ask *k, enum grapnel_verdict verdict)
{
	struct grapnel_auth_answer plain = { .size = sizeof(plain), .reason_string = reason(k) };
	const struct grapnel_auth_answer *answer = &plain;

	plain.no_store = k->no_store;
	plain.cache_ttl_ms = k->max_age_ms;
	if (verdict == GRAPNEL_ALLOW && k->outcome.details) {
		k->grant.answer.no_store = k->no_store;
		k->grant.answer.cache_ttl_ms = k->max_age_ms;
		answer = grant_answer(&k->grant, k->a->host->instance_name(k->a->self));
		if (answer == NULL) { /* rules that do not compile, or no memory */
			count(k->a, k->a->answers_unusable);
			endpoint_trouble(k->a, k->a->endpoints[k->began], k->grant.error);
			verdict = GRAPNEL_UNAVAILABLE;
		}
	} else if (verdict == GRAPNEL_ALLOW && k->began == ABOUT_REVALIDATE) {
		answer = NULL; /* nothing was said that would replace what the login said */
	}
	count_verdict(k, verdict);
	(void)k->a->host->auth_resolve(
	    k->req, verdict, verdict == GRAPNEL_UNAVAILABLE ? NULL : answer);
}

static void
ask_free(struct ask *k)
{
	grant_fini(&k->grant);
	free(k);
}

static void
finish(struct ask *k, enum grapnel_verdict verdict)
{
	k->a->host->request_set_data(k->req, NULL);
	if (k->began == ABOUT_ACL) {
		count_verdict(k, verdict);
		resolve_acl(k, verdict);
	} else {
		resolve_auth(k, verdict);
	}
	ask_free(k);
}

static void
keep_cache_control(struct ask *k, const struct curl_answer *answer)
{
	uint32_t max_age_ms;
	bool no_store;

	curl_cache_control(answer->cache_control, &no_store, &max_age_ms);
	k->no_store = k->no_store || no_store;
	if (max_age_ms > 0 && (k->max_age_ms == 0 || max_age_ms < k->max_age_ms))
		k->max_age_ms = max_age_ms;
}

static bool ask_superuser(struct ask *k);

static void
on_answer(void *arg, const struct curl_answer *answer)
{
	struct ask *k = arg;
	struct auth_http *a = k->a;
	struct outcome outcome;

	k->call = NULL;
	if (answer->err == GRAPNEL_ECANCELED) {
		finish(k, GRAPNEL_UNAVAILABLE);
		return;
	}
	answer_read(a, k->about, answer,
	    k->about == ABOUT_ACL || k->about == ABOUT_SUPERUSER ? NULL : &k->grant, &outcome);
	keep_cache_control(k, answer);
	endpoint_trouble(a, a->endpoints[k->about], outcome.error);
	if (outcome.verdict == GRAPNEL_UNAVAILABLE) {
		if (answer->err == GRAPNEL_OK)
			count(a, a->answers_unusable);
		finish(k, GRAPNEL_UNAVAILABLE);
		return;
	}
	if (k->about == ABOUT_SUPERUSER) {
		k->grant.answer.superuser = outcome.verdict == GRAPNEL_ALLOW;
		k->outcome.details = true;
		finish(k, GRAPNEL_ALLOW);
		return;
	}
	k->outcome = outcome;
	if (k->about == ABOUT_LOGIN && outcome.verdict == GRAPNEL_ALLOW &&
	    a->endpoints[ABOUT_SUPERUSER] != NULL && !k->grant.answer.superuser && ask_superuser(k))
		return;
	finish(k, outcome.verdict);
}

/* ------------------------------------------------------------------------- requests */

static enum request_made
ask_send(struct ask *k, enum about about, const struct template_values *values)
{
	struct auth_http *a = k->a;
	struct endpoint *e = a->endpoints[about];
	struct curl_loop *loop = a->workers[a->host->request_worker(k->req)];
	struct request_text text;
	enum request_made made = request_make(a, e, values, &text);

	if (made != REQUEST_MADE)
		return made;
	text.request.timeout_ms = a->host->request_time_left(k->req);
	k->about = about;
	if (text.request.timeout_ms > 0)
		k->call = curl_loop_start(loop, e->target, &text.request, on_answer, k);
	if (k->call == NULL) {
		endpoint_trouble(a, e,
		    "there is no memory, or no place in the queue: raise `queue` or `connections`");
		made = REQUEST_NO_MEMORY;
	}
	request_wipe(&text);
	return made;
}

/* The one who has logged in, with the name that login_url gave. false: there is nothing to ask, or nobody was let in. */
static bool
ask_superuser(struct ask *k)
{
	struct grapnel_pair *pairs =
	    calloc(GRANT_MAX_ATTRIBUTES + k->client->attribute_count, sizeof(*pairs));
	struct grapnel_client_info client;
	struct template_values values = { .client = &client };
	enum request_made made = REQUEST_NO_MEMORY;

	if (pairs != NULL) {
		client = grant_client(&k->grant, k->client, pairs);
		made = ask_send(k, ABOUT_SUPERUSER, &values);
		free(pairs);
	}
	if (made == REQUEST_NO_MEMORY)
		finish(k, GRAPNEL_UNAVAILABLE);
	return made == REQUEST_MADE || made == REQUEST_NO_MEMORY;
}

/* ---------------------------------------------------------------------------- hooks */

static enum grapnel_verdict
begin(struct auth_http *a, struct grapnel_request *req, enum about about,
    const struct template_values *values)
{
	struct ask *k = calloc(1, sizeof(*k));
	enum grapnel_verdict verdict = GRAPNEL_PENDING;

	if (k == NULL)
		return GRAPNEL_UNAVAILABLE;
	k->a = a;
	k->req = req;
	k->began = about;
	k->action = values->action;
	k->client = values->client;
	grant_init(&k->grant, a->host);
	switch (ask_send(k, about, values)) {
	case REQUEST_MADE:
		a->host->request_set_data(req, k);
		return GRAPNEL_PENDING;
	case REQUEST_ABSENT:
		verdict = GRAPNEL_NEXT;
		break;
	case REQUEST_UNSENDABLE:
		verdict = GRAPNEL_DENY;
		break;
	case REQUEST_NO_MEMORY:
		verdict = GRAPNEL_UNAVAILABLE;
		break;
	}
	count_verdict(k, verdict);
	ask_free(k);
	return verdict;
}

enum grapnel_verdict
ask_login(struct auth_http *a, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct template_values values = template_of_login(q);

	return begin(a, req, ABOUT_LOGIN, &values);
}

enum grapnel_verdict
ask_revalidate(struct auth_http *a, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct template_values values = { .client = q->client };

	return begin(a, req, ABOUT_REVALIDATE, &values);
}

enum grapnel_verdict
ask_acl(struct auth_http *a, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct template_values values = template_of_acl(q);
	/* Who was let subscribe may read it, until rights change. */
	const struct grapnel_acl_answer read = {
		.size = sizeof(read),
		.cache_ttl_ms = UINT32_MAX,
		.rule = GRAPNEL_STR("check_read = no"),
		.same_for = GRAPNEL_STR("#"),
	};

	if (q->action == GRAPNEL_READ && !a->check_read)
		return a->host->acl_answer(req, &read) == GRAPNEL_OK ? GRAPNEL_ALLOW
								     : GRAPNEL_UNAVAILABLE;
	return begin(a, req, ABOUT_ACL, &values);
}

void
ask_cancel(struct auth_http *a, struct grapnel_request *req)
{
	struct ask *k = a->host->request_data(req);

	if (k == NULL)
		return;
	curl_call_cancel(k->call);
	finish(k, GRAPNEL_UNAVAILABLE);
}
