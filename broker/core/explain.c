/* SPDX-License-Identifier: Apache-2.0 */
#include "core/explain.h"

#include "core/acl.h"
#include "core/describe.h"
#include "core/session.h"
#include "plugin/stats.h"
#include "plugin/trace.h"

#include <stdlib.h>
#include <string.h>

struct explain {
	struct mail mail; /* there and back */
	struct worker *w;
	struct explain_question q;
	void (*done)(void *arg, json_t *answer);
	void *arg;
	json_t *answer; /* NULL: no memory */
	struct identity *id;
	struct grapnel_rules *rules; /* of the login or of the session */
	bool superuser;
	size_t secret_at;
	char text[]; /* the question's strings */
};

static json_t *
text(const char *s)
{
	return describe_str((struct grapnel_str){ s, strlen(s) });
}

/* ---- the end --------------------------------------------------------------------------------- */

static void
on_main(struct worker *w, struct mail *m)
{
	struct explain *x = (struct explain *)(void *)m;

	(void)w;
	x->done(x->arg, x->answer);
	free(x);
}

static void
finish(struct explain *x)
{
	identity_unref(x->id);
	acl_rules_unref(x->rules);
	if (x->q.password.len > 0)
		explicit_bzero(x->text + x->secret_at, x->q.password.len);
	x->mail.fn = on_main;
	worker_post(x->w->broker->main, &x->mail);
}

/* ---- the right ------------------------------------------------------------------------------- */

static void
put_right(struct explain *x, const struct rights_answer *a, const struct decision *d)
{
	json_t *o = json_object();

	json_object_set_new(o, "verdict", text(verdict_name((int)a->verdict)));
	if (a->rule.data != NULL)
		json_object_set_new(o, "rule", describe_str(a->rule));
	if (d != NULL && d->plugin != NULL)
		json_object_set_new(o, "plugin", text(d->plugin));
	if (a->reason_string.data != NULL)
		json_object_set_new(o, "reason", describe_str(a->reason_string));
	json_object_set_new(o, "steps",
	    decision_steps_json(d != NULL ? d->steps : NULL, d != NULL ? d->step_count : 0));
	json_object_set_new(x->answer, "right", o);
}

static void
on_right(void *arg, const struct decision *d)
{
	struct explain *x = arg;
	struct rights_answer a;

	rights_from(d, &a);
	put_right(x, &a, d);
	finish(x);
}

static void
ask_right(struct explain *x)
{
	struct rights_question q = {
		.action = x->q.action, .qos = x->q.qos, .retain = x->q.retain, .topic = x->q.topic
	};
	struct grapnel_client_info info;
	struct grapnel_acl_check check = { .size = sizeof(check),
		.client = &info,
		.action = q.action,
		.qos = q.qos,
		.retain = q.retain,
		.topic = q.topic };
	struct grapnel_message_info message = { .size = sizeof(message),
		.topic_name = q.topic,
		.payload = { "", 0 },
		.properties = { "", 0 },
		.author_client_id = x->q.client_id,
		.author_username = x->q.username,
		.qos = q.qos,
		.retain = q.retain };
	struct grapnel_request *pending;
	struct rights_answer a;
	struct decision now;
	bool by_rules, covered;

	if (q.action == 0) {
		finish(x);
		return;
	}
	if (rights_own(x->w, x->id, x->superuser, x->rules, &q, &a, &by_rules, &covered)) {
		put_right(x, &a, NULL);
		finish(x);
		return;
	}
	identity_info(x->id, &info);
	if (q.action != GRAPNEL_SUBSCRIBE)
		check.message = &message;
	if (hooks_explain(x->w, HOOK_ACL, &check, on_right, x, &now, &pending)) {
		on_right(x, &now);
		decision_release(&now);
	}
}

/* ---- the login ------------------------------------------------------------------------------- */

static struct identity *
identity_made(struct explain *x, const struct grapnel_auth_answer *a)
{
	struct grapnel_str mountpoint =
	    a != NULL && a->mountpoint.data != NULL ? a->mountpoint : x->q.mountpoint;
	struct site *site = session_site(x->w, mountpoint, x->q.listener);
	struct grapnel_client_info info = { .size = sizeof(info),
		.client_id = x->q.client_id,
		.username = a != NULL && a->username.data != NULL ? a->username : x->q.username,
		.peer = GRAPNEL_STR("explain"),
		.protocol = GRAPNEL_MQTT_5_0 };

	if (site == NULL)
		return NULL;
	if (a != NULL) {
		info.attributes = a->attributes;
		info.attribute_count = a->attribute_count;
		info.superuser = a->superuser;
	}
	return identity_new(&info, site);
}

static json_t *
attributes_json(const struct grapnel_auth_answer *a)
{
	json_t *o = json_object();

	for (size_t i = 0; i < a->attribute_count; i++) {
		char *name = strndup(a->attributes[i].name.data, a->attributes[i].name.len);

		if (name != NULL)
			json_object_set_new(o, name, describe_str(a->attributes[i].value));
		free(name);
	}
	return o;
}

static void
put_login(struct explain *x, const struct decision *d)
{
	const struct grapnel_auth_answer *a = d->auth;
	json_t *o = json_object();

	json_object_set_new(o, "verdict",
	    text(d->verdict == GRAPNEL_NEXT ? "deny" : verdict_name((int)d->verdict)));
	if (d->verdict == GRAPNEL_NEXT)
		json_object_set_new(o, "reason", text("nobody knows this user"));
	else if (a->reason_string.data != NULL)
		json_object_set_new(o, "reason", describe_str(a->reason_string));
	if (d->plugin != NULL)
		json_object_set_new(o, "plugin", text(d->plugin));
	if (d->verdict == GRAPNEL_ALLOW) {
		if (a->username.data != NULL)
			json_object_set_new(o, "username", describe_str(a->username));
		if (a->mountpoint.data != NULL)
			json_object_set_new(o, "mountpoint", describe_str(a->mountpoint));
		json_object_set_new(o, "superuser", json_boolean(a->superuser));
		json_object_set_new(o, "rules", json_boolean(a->rules != NULL));
		if (a->valid_until != 0)
			json_object_set_new(o, "valid_until", json_integer(a->valid_until));
		json_object_set_new(o, "attributes", attributes_json(a));
	}
	json_object_set_new(o, "steps", decision_steps_json(d->steps, d->step_count));
	json_object_set_new(x->answer, "login", o);
}

static void
on_login(void *arg, const struct decision *d)
{
	struct explain *x = arg;

	put_login(x, d);
	if (d->verdict != GRAPNEL_ALLOW) {
		finish(x);
		return;
	}
	identity_unref(x->id);
	x->id = identity_made(x, d->auth);
	x->superuser = d->auth->superuser;
	acl_rules_unref(x->rules);
	x->rules = d->auth->rules != NULL ? acl_rules_ref(d->auth->rules) : NULL;
	if (x->id != NULL)
		ask_right(x);
	else
		finish(x);
}

static void
ask_login(struct explain *x)
{
	struct grapnel_client_info info;
	struct grapnel_authenticate q = { .size = sizeof(q),
		.client = &info,
		.password = x->q.password,
		.properties = { "", 0 } };
	struct grapnel_request *pending;
	struct decision now;

	identity_info(x->id, &info);
	if (hooks_explain(x->w, HOOK_AUTHENTICATE, &q, on_login, x, &now, &pending)) {
		on_login(x, &now);
		decision_release(&now);
	}
}

/* ---- the beginning --------------------------------------------------------------------------- */

static void
on_home(struct worker *w, struct mail *m)
{
	struct explain *x = (struct explain *)(void *)m;
	struct session *s =
	    w->core->stopping ? NULL : session_find(w, x->q.mountpoint, x->q.client_id);

	x->answer = json_pack("{s:b}", "session", s != NULL);
	if (x->q.login || s == NULL) {
		x->id = identity_made(x, NULL);
	} else {
		x->id = identity_ref(s->identity);
		x->superuser = s->superuser;
		x->rules = session_rules(s) != NULL ? acl_rules_ref(session_rules(s)) : NULL;
	}
	if (w->core->stopping || x->answer == NULL || x->id == NULL)
		finish(x);
	else if (x->q.login)
		ask_login(x);
	else
		ask_right(x);
}

/* Copy one string behind the others. */
static struct grapnel_str
keep(struct explain *x, size_t *at, struct grapnel_str s)
{
	char *to = x->text + *at;

	if (s.data == NULL)
		return s;
	if (s.len > 0)
		memcpy(to, s.data, s.len);
	*at += s.len;
	return (struct grapnel_str){ to, s.len };
}

int
core_explain(struct broker *b, const struct explain_question *q,
    void (*done)(void *arg, json_t *answer), void *arg)
{
	size_t at = 0,
	       len = q->client_id.len + q->username.len + q->password.len + q->mountpoint.len +
	    q->listener.len + q->topic.len;
	struct explain *x = calloc(1, sizeof(*x) + len + 1);

	if (x == NULL)
		return GRAPNEL_ENOMEM;
	x->w = b->workers[broker_home(b, q->client_id)];
	x->done = done;
	x->arg = arg;
	x->q = *q;
	x->q.client_id = keep(x, &at, q->client_id);
	x->q.username = keep(x, &at, q->username);
	x->q.mountpoint = keep(x, &at, q->mountpoint);
	x->q.listener = keep(x, &at, q->listener);
	x->q.topic = keep(x, &at, q->topic);
	x->secret_at = at;
	x->q.password = keep(x, &at, q->password);
	x->mail.fn = on_home;
	worker_post(x->w, &x->mail);
	return GRAPNEL_OK;
}
