/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_auth_exchange: SCRAM with the credentials in the column password (option scram)
 *
 *	CONNECT or re-authentication   the client-first-message names the user: login_query, then the challenge
 *	CONTINUE                       the proof: right, and the login goes on with what else is known about the user
 *
 * In between the login is in the slot that the instance has for the client. A user who is not there, or has no such
 * credential, gets a challenge too, and fails at the proof.
 */
#include "sql_login.h"

#include <stdlib.h>
#include <string.h>

#define NONCE_BYTES 24u

/* ------------------------------------------------------------------- the challenge */

/* The user's credential for that method; .data NULL: none. */
static struct grapnel_str
credential_of(const struct login *l)
{
	struct grapnel_str text = { l->hash, l->hash_len };
	enum scram_hash hash = SCRAM_NONE;

	if (l->hash == NULL || !scram_is_credential(text, &hash) || hash != l->method)
		return (struct grapnel_str){ NULL, 0 };
	return text;
}

/* What challenges of that method for users who are not there look like. */
static void
remember(char like[SCRAM_CREDENTIAL_SIZE], struct grapnel_str credential)
{
	if (like[0] != '\0' || credential.len >= SCRAM_CREDENTIAL_SIZE)
		return;
	memcpy(like, credential.data, credential.len);
	like[credential.len] = '\0';
}

/* false: there is none, and l is gone. */
static bool
make_challenge(struct login *l, struct grapnel_str *message)
{
	struct sql_worker *w = l->run.w;
	struct grapnel_str credential = credential_of(l);
	int err;

	if (credential.data != NULL)
		remember(w->like[l->method], credential);
	else
		scram_unknown_like(l->scram,
		    (struct grapnel_str){ w->like[l->method], strlen(w->like[l->method]) });
	err = scram_challenge(l->scram, credential, w->s->secret, message);
	sql_login_forget_hash(l);
	if (err == SCRAM_OK)
		return true;
	if (err == SCRAM_ECREDENTIAL)
		sql_complain(
		    w, l->run.call.query, "its password is a SCRAM credential that cannot be used");
	sql_login_finish(l, GRAPNEL_UNAVAILABLE);
	return false;
}

/* The user was looked for. Send the challenge, and keep the login for the answer. */
static void
on_end(struct sql_run *run, bool good)
{
	struct login *l = (struct login *)run;
	const struct grapnel_host *host = run->w->s->host;
	struct grapnel_auth_answer answer = { .size = sizeof(answer), .more = true };
	struct grapnel_request *req = l->req;

	if ((!good && !run->refused) || l->cancelled) {
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
		return;
	}
	if (!make_challenge(l, &answer.data))
		return;
	if (host->client_set_slot(run->w->s->self, l->client->client, l) != GRAPNEL_OK) {
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
		return;
	}
	host->request_set_data(req, NULL);
	l->req = NULL;
	l->client = NULL;
	/* GRAPNEL_ECANCELED: the client has left; its slot is freed with it. */
	(void)host->auth_resolve(req, GRAPNEL_ALLOW, &answer);
}

static void
drop_slot(struct sql *s, struct grapnel_client *client)
{
	struct login *l = s->host->client_slot(s->self, client);

	if (l == NULL)
		return;
	(void)s->host->client_set_slot(s->self, client, NULL);
	sql_login_free(l);
}

static bool
equal(struct grapnel_str a, struct grapnel_str b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* @return SCRAM_OK: l->grant has the user's name. */
static int
read_first(struct login *l, struct grapnel_str data)
{
	struct sql *s = l->run.w->s;
	unsigned char nonce[NONCE_BYTES];
	struct grapnel_str username;
	int err;

	if (data.data == NULL)
		return SCRAM_EMALFORMED;
	if (s->host->random_bytes(nonce, sizeof(nonce)) != GRAPNEL_OK)
		return SCRAM_ENOMEM;
	err = scram_begin(l->method, data, nonce, sizeof(nonce), &l->scram, &username);
	/* One that CONNECT, or a certificate, names must be the same. */
	if (err == SCRAM_OK && l->client->username.data != NULL &&
	    !equal(l->client->username, username))
		err = SCRAM_EWRONG;
	if (err == SCRAM_OK && !grant_set(&l->grant, GRAPNEL_STR("username"), username))
		err = SCRAM_EMALFORMED;
	return err;
}

static enum grapnel_verdict
begin(struct sql *s, struct grapnel_request *req, const struct grapnel_auth_exchange *q,
    enum scram_hash method)
{
	struct login *l;
	int err;

	drop_slot(s, q->client->client); /* of an exchange that was not ended */
	if ((l = sql_login_new(s, req, q->client, LOGIN_SCRAM)) == NULL)
		return GRAPNEL_UNAVAILABLE;
	l->method = method;
	if ((err = read_first(l, q->data)) != SCRAM_OK) {
		s->host->request_set_data(req, NULL);
		sql_login_free(l);
		return err == SCRAM_EMALFORMED || err == SCRAM_EWRONG ? GRAPNEL_DENY
								      : GRAPNEL_UNAVAILABLE;
	}
	switch (sql_login_ask(l, s->queries[SQL_LOGIN], on_end)) {
	case SQL_BEGUN:
		break;
	case SQL_ABSENT:
	case SQL_UNSENDABLE:
		on_end(&l->run, true); /* nobody in the database can be meant */
		break;
	case SQL_FAILED:
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
		break;
	}
	return GRAPNEL_PENDING; /* or resolved already */
}

/* ----------------------------------------------------------------------- the proof */

static enum grapnel_verdict
proceed(struct sql *s, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct login *l = s->host->client_slot(s->self, q->client->client);

	if (l == NULL) /* begun with the instance before this one, and to be tried again */
		return GRAPNEL_UNAVAILABLE;
	(void)s->host->client_set_slot(s->self, q->client->client, NULL);
	l->req = req;
	l->client = q->client;
	s->host->request_set_data(req, &l->run);
	switch (scram_finish(l->scram, q->data, &l->reply)) {
	case SCRAM_OK:
		sql_login_advance(l);
		break;
	case SCRAM_EMALFORMED:
	case SCRAM_EWRONG:
		sql_login_finish(l, GRAPNEL_DENY);
		break;
	default:
		sql_login_finish(l, GRAPNEL_UNAVAILABLE);
		break;
	}
	return GRAPNEL_PENDING; /* or resolved already */
}

enum grapnel_verdict
sql_auth_exchange(struct sql *s, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	enum scram_hash method = scram_by_method(q->method);

	if (method == SCRAM_NONE)
		return GRAPNEL_NEXT;
	if (q->phase == GRAPNEL_EXCHANGE_CONTINUE)
		return proceed(s, req, q);
	return begin(s, req, q, method);
}

void
sql_client_slot_free(struct sql *s, void *data)
{
	(void)s;
	if (data != NULL)
		sql_login_free(data);
}
