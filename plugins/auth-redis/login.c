/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who somebody is: client_authenticate and client_revalidate
 *
 *	login_key	absent: NEXT (DENY when it is asked again), after the time that a password takes
 *	password	held against the hash
 *	superuser_key, keys with rules	trouble with any of them is UNAVAILABLE
 */
#include "ask.h"

#include <stdlib.h>
#include <string.h>

static void
finish(struct ask *ask, enum grapnel_verdict verdict)
{
	struct instance *a = ask->a;
	const struct metrics *m = &a->metrics;
	const struct grapnel_auth_answer *answer = NULL;

	if (verdict == GRAPNEL_ALLOW) {
		answer = grant_answer(&ask->grant, a->host->instance_name(a->self));
		if (answer == NULL) {
			ask_unusable(ask, ask->grant.error);
			verdict = GRAPNEL_UNAVAILABLE;
		}
	}
	if (verdict == GRAPNEL_UNAVAILABLE && ask->unusable)
		answer = &grant_unusable;
	if (!ask->again)
		count(a,
		    verdict == GRAPNEL_ALLOW      ? m->logins_accepted
			: verdict == GRAPNEL_DENY ? m->logins_refused
			: verdict == GRAPNEL_NEXT ? m->logins_unknown
						  : m->logins_unavailable);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)a->host->auth_resolve(ask->req, verdict, answer);
	ask_free(ask);
}

/* ----------------------------------------------------------------- after the password */

static void
on_rules(struct ask *ask)
{
	finish(ask, GRAPNEL_ALLOW);
}

static void
want_rules(struct ask *ask)
{
	const struct settings *s = &ask->a->settings;

	if (ask->grant.answer.superuser || !s->acl_on_connect || s->source_count == 0) {
		finish(ask, GRAPNEL_ALLOW);
		return;
	}
	grant_want_rules(&ask->grant);
	ask_rules(ask, on_rules);
}

static void
on_superuser(struct ask *ask, const redisReply *reply)
{
	struct grapnel_str text = reply_text(reply);

	if (reply->type != REDIS_REPLY_NIL && text.data == NULL) {
		ask_unusable(ask, "superuser_key is no text");
		finish(ask, GRAPNEL_UNAVAILABLE);
		return;
	}
	if (text.data != NULL && grant_is_true(text))
		ask->grant.answer.superuser = true;
	want_rules(ask);
}

static void
password_was_right(struct ask *ask)
{
	const struct settings *s = &ask->a->settings;
	enum ask_begun begun = ASK_NO_KEY;

	if (s->superuser.template != NULL && !ask->grant.answer.superuser)
		begun = ask_key(ask, &s->superuser, VERB_GET, on_superuser);
	if (begun == ASK_FAILED)
		finish(ask, GRAPNEL_UNAVAILABLE);
	else if (begun == ASK_NO_KEY)
		want_rules(ask);
}

/* --------------------------------------------------------------------------- the user */

static void
on_verified(void *arg, enum verify_result result)
{
	struct ask *ask = arg;

	ask->verify = NULL;
	if (result == VERIFY_UNAVAILABLE || ask->cancelled)
		finish(ask, GRAPNEL_UNAVAILABLE);
	else if (!ask->known)
		finish(ask, GRAPNEL_NEXT);
	else if (result == VERIFY_RIGHT)
		password_was_right(ask);
	else
		finish(ask, GRAPNEL_DENY);
}

static void
verify(struct ask *ask, struct grapnel_str hash)
{
	struct instance *a = ask->a;
	struct verify *under_way = verify_start(&ask->w->verifier,
	    a->host->request_time_left(ask->req), hash, ask->password, on_verified, ask);

	if (under_way != NULL) /* else ask may be gone */
		ask->verify = under_way;
}

static void
user_is(struct ask *ask, bool known, struct grapnel_str hash)
{
	ask->known = known;
	if (!ask->again && ask->a->settings.check_password)
		verify(ask, hash);
	else if (known)
		password_was_right(ask);
	else
		finish(ask, ask->again ? GRAPNEL_DENY : GRAPNEL_NEXT);
}

static bool
is_password(struct grapnel_str name)
{
	return name.len == 8 && memcmp(name.data, "password", 8) == 0;
}

/* Fields into the grant, but for the password. */
static bool
take_fields(struct ask *ask, const redisReply *reply, struct grapnel_str *hash)
{
	if (!reply_is_texts(reply) || reply->elements % 2 != 0) {
		ask_unusable(ask, "login_key is no hash");
		return false;
	}
	for (size_t i = 0; i < reply->elements; i += 2) {
		struct grapnel_str name = reply_text(reply->element[i]);
		struct grapnel_str value = reply_text(reply->element[i + 1]);

		if (is_password(name)) {
			*hash = value;
		} else if (!grant_set(&ask->grant, name, value)) {
			ask_unusable(ask, ask->grant.error);
			return false;
		}
	}
	return true;
}

static void
on_hash(struct ask *ask, const redisReply *reply)
{
	struct grapnel_str hash = { NULL, 0 };

	if (take_fields(ask, reply, &hash))
		user_is(ask, reply->elements > 0, hash);
	else
		finish(ask, GRAPNEL_UNAVAILABLE);
}

static void
on_string(struct ask *ask, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_STRING) {
		user_is(ask, true, reply_text(reply));
	} else if (reply->type == REDIS_REPLY_NIL) {
		user_is(ask, false, (struct grapnel_str){ NULL, 0 });
	} else {
		ask_unusable(ask, "login_key is no text");
		finish(ask, GRAPNEL_UNAVAILABLE);
	}
}

static enum grapnel_verdict
begin(struct instance *a, struct ask *ask)
{
	const struct settings *s = &a->settings;
	bool hash = s->login_layout == LOGIN_HASH;

	if (ask == NULL)
		return GRAPNEL_UNAVAILABLE;
	ask->finish = finish;
	switch (
	    ask_key(ask, &s->login, hash ? VERB_HGETALL : VERB_GET, hash ? on_hash : on_string)) {
	case ASK_BEGUN:
		break;
	case ASK_NO_KEY: /* there is nobody of that name */
		user_is(ask, false, (struct grapnel_str){ NULL, 0 });
		break;
	case ASK_FAILED:
		finish(ask, GRAPNEL_UNAVAILABLE);
		break;
	}
	return GRAPNEL_PENDING; /* or resolved already */
}

enum grapnel_verdict
login_authenticate(
    struct instance *a, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct ask *ask = ask_new(a, req, q->client);

	if (ask != NULL)
		ask->password = q->password;
	return begin(a, ask);
}

enum grapnel_verdict
login_revalidate(
    struct instance *a, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct ask *ask = ask_new(a, req, q->client);

	if (ask != NULL)
		ask->again = true;
	return begin(a, ask);
}
