/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One token: from the question to the answer.
 *
 *	read		header, on the worker			DENY, or
 *	find keys	may wait for jwks_url			PENDING until jwt_woken
 *	verify		HMAC on the worker, else offload	PENDING until verified
 *	claims, rights	on the worker				ALLOW or DENY
 *
 * The question is the host's own copy for as long as the request is not resolved, so that the token is never copied here.
 */
#include "auth-jwt.h"

#include <stdlib.h>
#include <string.h>

struct login {
	struct auth_jwt *a;
	struct grapnel_request *req;
	const struct grapnel_client_info *client;
	struct token token;
	struct keyset *set; /* keys are borrowed from it */
	const struct key *keys[KEYSET_MAX_TRIES], *right;
	size_t key_count;
	struct grapnel_job *job;    /* NULL: none under way */
	struct login *next, **link; /* of those who wait; link NULL: not among them */
	bool pending;               /* the hook has returned: resolve, do not answer */
};

static void
count(const struct auth_jwt *a, int metric, int64_t n)
{
	if (metric >= 0)
		a->host->metric_add(a->self, metric, n);
}

/* ------------------------------------------------------------------------- answers */

/* The end of a login: attach or resolve, and free it. */
static enum grapnel_verdict
end(struct login *l, enum grapnel_verdict verdict, const struct grapnel_auth_answer *answer)
{
	struct auth_jwt *a = l->a;

	count(a,
	    verdict == GRAPNEL_ALLOW      ? a->accepted
		: verdict == GRAPNEL_DENY ? a->refused
		: verdict == GRAPNEL_NEXT ? a->passed_on
					  : a->unavailable,
	    1);
	if (l->pending) {
		a->host->request_set_data(l->req, NULL);
		/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
		(void)a->host->auth_resolve(l->req, verdict, answer);
	} else if (answer != NULL && a->host->auth_answer(l->req, answer) != GRAPNEL_OK) {
		verdict = GRAPNEL_UNAVAILABLE;
	}
	keyset_unref(l->set);
	if (l->pending)
		free(l);
	return verdict;
}

static enum grapnel_verdict
deny(struct login *l, const char *why)
{
	const struct grapnel_auth_answer answer = { .size = sizeof(answer),
		.no_store = true, /* time goes on and keys come */
		.reason_string = { why, strlen(why) } };

	return end(l, GRAPNEL_DENY, &answer);
}

/* A right signature and claims that cannot be used: the fault is the issuer's or the operator's, not the client's. */
static enum grapnel_verdict
unusable(struct login *l, const char *why)
{
	struct auth_jwt *a = l->a;

	if (!atomic_exchange(&a->told_unusable, true))
		a->host->log(a->self, GRAPNEL_LOG_WARNING,
		    "tokens with a right signature are refused: %s; see the claims of the token "
		    "and the "
		    "options username_claim, acl_claim ...",
		    why);
	return deny(l, "what the token says cannot be used");
}

static enum grapnel_verdict
allow(struct login *l, const json_t *claims, int64_t valid_until)
{
	struct auth_jwt *a = l->a;
	enum grapnel_verdict verdict;
	struct grant g;
	const char *why;

	grant_init(&g, a->host);
	why = rights_fill(&a->rights, claims, &g);
	/* With it client_revalidate asks whether the key is still there; a slot would not outlive a reload. */
	if (why == NULL &&
	    !grant_set(&g, GRAPNEL_STR(RIGHTS_KEY_ATTRIBUTE),
		(struct grapnel_str){ l->right->id, KEY_ID_SIZE - 1 }))
		why = g.error;
	g.answer.valid_until = valid_until;
	g.answer.no_store = true; /* as quickly checked as looked up, and good until exp only */
	if (why == NULL && grant_answer(&g, a->host->instance_name(a->self)) == NULL)
		why = g.error;
	if (why != NULL) {
		verdict = unusable(l, why);
	} else {
		atomic_store(&a->told_unusable, false);
		verdict = end(l, GRAPNEL_ALLOW, &g.answer);
	}
	grant_fini(&g);
	return verdict;
}

/* After the signature. */
static enum grapnel_verdict
decide(struct login *l)
{
	struct auth_jwt *a = l->a;
	enum grapnel_verdict verdict;
	int64_t valid_until;
	const char *why;
	json_t *claims;

	if (l->right == NULL)
		return deny(l, "the signature of the token is not right");
	claims = token_claims(&l->token);
	if (claims == NULL)
		return deny(l, "the claims of the token cannot be read");
	why =
	    claims_check(&a->policy, claims, a->host->wall_us() / 1000000, l->client, &valid_until);
	verdict = why != NULL ? deny(l, why) : allow(l, claims, valid_until);
	json_decref(claims);
	return verdict;
}

/* ------------------------------------------------------------------------- signatures */

/* In the offload pool. */
static void
verify(void *arg)
{
	struct login *l = arg;

	l->right = token_verify(&l->token, l->keys, l->key_count);
}

/* Back on the worker. */
static void
verified(void *arg)
{
	struct login *l = arg;
	bool ran = l->a->host->job_ran(l->job);

	l->job = NULL;
	(void)(ran ? decide(l) : end(l, GRAPNEL_UNAVAILABLE, NULL));
}

/* PENDING needs a login that outlives the hook. NULL: no memory. */
static struct login *
keep(struct login *l)
{
	struct login *own = l->pending ? l : malloc(sizeof(*own));

	if (own == NULL || own == l)
		return own;
	*own = *l;
	own->pending = true;
	own->a->host->request_set_data(own->req, own);
	return own;
}

static enum grapnel_verdict
check_signature(struct login *l)
{
	const struct grapnel_host *host = l->a->host;
	struct login *own;
	uint32_t left;

	if (token_is_quick(&l->token)) {
		verify(l);
		return decide(l);
	}
	left = host->request_time_left(l->req);
	own = left > 0 ? keep(l) : NULL;
	if (own == NULL)
		return end(l, GRAPNEL_UNAVAILABLE, NULL);
	own->job = host->offload(l->a->self, left, verify, verified, own);
	if (own->job != NULL)
		return GRAPNEL_PENDING;
	/* Resolved before the hook returns, if it has not yet. */
	(void)end(own, GRAPNEL_UNAVAILABLE, NULL);
	return GRAPNEL_PENDING;
}

/* ------------------------------------------------------------------------- keys */

static void
leave(struct login *l)
{
	*l->link = l->next;
	if (l->next != NULL)
		l->next->link = l->link;
	l->link = NULL;
	count(l->a, l->a->waiting, -1);
}

static enum grapnel_verdict
wait_for_keys(struct login *l)
{
	struct jwt_worker *w = &l->a->workers[l->a->host->request_worker(l->req)];
	struct login *own = keep(l);

	if (own == NULL)
		return end(l, GRAPNEL_UNAVAILABLE, NULL);
	own->next = w->waiting;
	own->link = &w->waiting;
	if (own->next != NULL)
		own->next->link = &own->next;
	w->waiting = own;
	count(own->a, own->a->waiting, 1);
	return GRAPNEL_PENDING;
}

/* asked: after the URL was read for this token. */
static enum grapnel_verdict
find_keys(struct login *l, bool asked)
{
	const char *why;

	keyset_unref(l->set);
	l->set = keyring_get(l->a->ring);
	switch (token_keys(&l->token, l->set, &l->a->algs, l->keys, &l->key_count, &why)) {
	case KEYSET_FOUND:
		return check_signature(l);
	case KEYSET_MISFIT:
	case KEYSET_TOO_MANY:
		return deny(l, why);
	case KEYSET_NONE:
		break;
	}
	switch (keyring_ask(l->a->ring, asked)) {
	case KEYRING_WAIT:
		return wait_for_keys(l);
	case KEYRING_UNAVAILABLE: /* tokens with a key that is there go on */
		return end(l, GRAPNEL_UNAVAILABLE,
		    &(const struct grapnel_auth_answer){
			.size = sizeof(struct grapnel_auth_answer), .no_store = true });
	case KEYRING_FINAL:
		break;
	}
	return deny(l, "the key of the token is not known");
}

void
jwt_woken(void *instance, unsigned worker)
{
	struct auth_jwt *a = instance;
	struct jwt_worker *w = &a->workers[worker];
	struct login *all = w->waiting, *l;

	/* Those who go on waiting do it in a list that begins anew. */
	w->waiting = NULL;
	if (all != NULL)
		all->link = &all;
	while ((l = all) != NULL) {
		leave(l);
		(void)find_keys(l, true);
	}
}

void
jwt_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct auth_jwt *a = instance;
	struct login *l = a->host->request_data(req);

	if (l == NULL)
		return;
	if (l->job != NULL) {
		a->host->offload_cancel(l->job); /* verified runs all the same, and resolves */
		return;
	}
	if (l->link != NULL)
		leave(l);
	(void)end(l, GRAPNEL_UNAVAILABLE, NULL);
}

/* ------------------------------------------------------------------------- hooks */

/* Of an issuer that is another instance's business? It is not believed, only passed on. */
static bool
is_foreign(const struct auth_jwt *a, const struct token *t)
{
	json_t *claims;
	bool ours;

	if (!a->pass_on_issuer)
		return false;
	claims = token_claims(t);
	ours = claims == NULL || claims_issuer_is_ours(&a->policy, claims);
	json_decref(claims);
	return !ours;
}

static enum grapnel_verdict
check(struct auth_jwt *a, struct grapnel_request *req, const struct grapnel_client_info *client,
    struct grapnel_str text, bool pass_on)
{
	struct login l = { .a = a, .req = req, .client = client };
	const char *why;

	if (text.len > a->max_token)
		return deny(&l, "the token is too long");
	if (!token_has_shape(text) && pass_on)
		return end(&l, GRAPNEL_NEXT, NULL);
	why = token_read(&l.token, text);
	if (why != NULL)
		return deny(&l, why);
	if (is_foreign(a, &l.token))
		return end(&l, GRAPNEL_NEXT, NULL);
	return find_keys(&l, false);
}

enum grapnel_verdict
jwt_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct auth_jwt *a = instance;
	struct grapnel_str text = a->from_username ? q->client->username : q->password;

	if (text.data == NULL)
		return GRAPNEL_NEXT;
	return check(a, req, q->client, text, a->pass_on);
}

enum grapnel_verdict
jwt_client_auth_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct auth_jwt *a = instance;

	if (q->method.len != a->method.len ||
	    memcmp(q->method.data, a->method.data, q->method.len) != 0)
		return GRAPNEL_NEXT;
	/* The token comes with the first packet; there is no second round. What is absent is no token. */
	return check(a, req, q->client,
	    q->phase == GRAPNEL_EXCHANGE_CONTINUE ? (struct grapnel_str){ NULL, 0 } : q->data,
	    false);
}

enum grapnel_verdict
jwt_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct auth_jwt *a = instance;
	struct grapnel_str name, own = GRAPNEL_STR(RIGHTS_KEY_ATTRIBUTE);
	bool known;

	(void)req;
	for (size_t i = 0; i < q->client->attribute_count; i++) {
		name = q->client->attributes[i].name;
		if (name.len != own.len || memcmp(name.data, own.data, own.len) != 0)
			continue;
		if (keyring_has_id(a->ring, q->client->attributes[i].value, &known))
			return GRAPNEL_ALLOW;
		return known ? GRAPNEL_DENY : GRAPNEL_UNAVAILABLE;
	}
	return GRAPNEL_NEXT;
}
