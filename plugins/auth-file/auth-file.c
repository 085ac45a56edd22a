/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-file - users from a password file, rights from ACL files
 *
 * Everything is read in create(), all or nothing; a reload makes a new instance from the files as
 * they are then. Password hashes are computed in the offload pool; on a worker only those that
 * take no longer than the way there and back. What an instance holds is immutable, so that its
 * hooks need no lock.
 */
#include "../common/plugin_file.h"

#include <grapnel/plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RULES_BYTES (512u << 20)
#define SCOPE_MAX       512 /* longest Topic Filter that an answer is kept for as a whole */

struct auth_file {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct passwd_file *users;    /* NULL: no password_file */
	bool identity_login;          /* whom the listener vouches for needs no password */
	struct grapnel_rules **rules; /* asked in turn: `rules` as listed, then acl_file */
	size_t rules_count;
	int logins_accepted, logins_refused, logins_unknown, logins_unavailable; /* metrics */
};

static const struct grapnel_option auth_file_options[] = {
	{ .name = "acl_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of an ACL file in Mosquitto's format." },
	{ .name = "identity_login",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help =
		"Whether a client whose user name the listener vouches for needs no password, only "
		"a line in password_file." },
	{ .name = "password_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help =
		"Path of the password file, as grapnelctl passwd or mosquitto_passwd writes it." },
	{ .name = "rules",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Paths of files with ACL rules in Grapnel's language, asked in this order." },
	{ .name = NULL },
};

/* ----------------------------------------------------------------------- loading */

static bool
load_rules(struct auth_file *a, const char *option, struct grapnel_str path, bool mosquitto)
{
	char name[PATH_MAX], error[PATH_MAX + 256];
	struct grapnel_rules *rules, **more;
	struct file_text text;

	if (!plugin_file_read(a->host, a->self, option, path, MAX_RULES_BYTES, name, &text))
		return false;
	rules = a->host->rules_compile(
	    (struct grapnel_str){ text.data, text.len }, path, mosquitto, error, sizeof(error));
	file_text_free(&text);
	if (rules == NULL) {
		a->host->config_error(a->self, NULL, option, "%s", error);
		return false;
	}
	more = realloc(a->rules, (a->rules_count + 1) * sizeof(*more));
	if (more == NULL) {
		a->host->rules_unref(rules);
		a->host->config_error(a->self, NULL, option, "out of memory");
		return false;
	}
	a->rules = more;
	a->rules[a->rules_count++] = rules;
	return true;
}

/* All files; every fault is said, not only the first. */
static bool
load_all(struct auth_file *a)
{
	const struct grapnel_host *host = a->host;
	bool users = host->option_given(a->self, NULL, "password_file");
	bool acl_file = host->option_given(a->self, NULL, "acl_file"), good = true;
	struct grapnel_str path;
	size_t n = 0;

	if (users) {
		a->users = plugin_file_passwords(host, a->self, "password_file",
		    host->option_str(a->self, NULL, "password_file"));
		good = a->users != NULL;
	}
	for (; (path = host->option_list(a->self, NULL, "rules", n)).data != NULL; n++)
		good = load_rules(a, "rules", path, false) && good;
	if (acl_file)
		good =
		    load_rules(a, "acl_file", host->option_str(a->self, NULL, "acl_file"), true) &&
		    good;
	if (a->identity_login && !users) {
		host->config_error(a->self, NULL, "identity_login",
		    "identity_login = yes needs password_file: it has the users who may log in");
		return false;
	}
	if (!users && !acl_file && n == 0) {
		host->config_error(a->self, NULL, NULL,
		    "there is nothing to do; set password_file, acl_file or rules, or several of "
		    "them");
		return false;
	}
	return good;
}

static void
auth_file_destroy(void *instance)
{
	struct auth_file *a = instance;

	for (size_t i = 0; i < a->rules_count; i++)
		a->host->rules_unref(a->rules[i]);
	free(a->rules);
	passwd_file_free(a->users);
	free(a);
}

static int
auth_file_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_file *a = calloc(1, sizeof(*a));
	int err = GRAPNEL_EINVAL;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	a->identity_login = host->option_bool(self, NULL, "identity_login");
	if (!load_all(a))
		goto fail;
	/* What the options leave nothing for is not this instance's matter. */
	if (a->users == NULL &&
	    ((err = host->hook_disable(self, "client_authenticate")) != GRAPNEL_OK ||
		(err = host->hook_disable(self, "client_revalidate")) != GRAPNEL_OK))
		goto fail;
	if (a->rules_count == 0 && (err = host->hook_disable(self, "acl_check")) != GRAPNEL_OK)
		goto fail;
	a->logins_accepted = host->metric_new(self, GRAPNEL_COUNTER, "logins_accepted_total",
	    "Logins with the right password, or by identity_login.");
	a->logins_refused = host->metric_new(self, GRAPNEL_COUNTER, "logins_refused_total",
	    "Logins of known users with a wrong password.");
	a->logins_unknown = host->metric_new(self, GRAPNEL_COUNTER, "logins_unknown_total",
	    "Logins of users that the password file does not have.");
	a->logins_unavailable = host->metric_new(self, GRAPNEL_COUNTER, "logins_unavailable_total",
	    "Logins that could not be checked: offload queue full, deadline passed, no memory.");
	if (a->users != NULL)
		host->log(self, GRAPNEL_LOG_INFO, "%zu users", passwd_file_users(a->users));
	*instance = a;
	return GRAPNEL_OK;
fail:
	auth_file_destroy(a);
	return err;
}

/* ---------------------------------------------------------------------- passwords */

/* One login: made on the worker, worked on in the pool, ended on the worker. */
struct login {
	struct auth_file *a;
	struct grapnel_request *req;
	struct grapnel_job *job;
	struct grapnel_str hash; /* the user's, or a typical one for a user that does not exist */
	bool known, has_password;
	int result; /* of password_verify */
	size_t password_len;
	char password[]; /* own copy: the pool may start before the hook returns */
};

static void
count(const struct auth_file *a, int metric)
{
	if (metric >= 0)
		a->host->metric_add(a->self, metric, 1);
}

/* result: of password_verify. */
static enum grapnel_verdict
login_verdict(const struct auth_file *a, bool known, bool has_password, int result)
{
	if (!known) {
		count(a, a->logins_unknown);
		return GRAPNEL_NEXT;
	}
	if (result < 0) {
		a->host->log(a->self, GRAPNEL_LOG_ERROR, "a password could not be checked: %s",
		    password_strerror(result));
		count(a, a->logins_unavailable);
		return GRAPNEL_UNAVAILABLE;
	}
	if (result == 1 && has_password) {
		count(a, a->logins_accepted);
		return GRAPNEL_ALLOW;
	}
	count(a, a->logins_refused);
	return GRAPNEL_DENY; /* 0x87, as at the end of the chain: the same for an unknown user */
}

/* In the offload pool. */
static void
login_work(void *arg)
{
	struct login *l = arg;

	l->result = password_verify(l->hash.data, l->hash.len, l->password, l->password_len);
}

/* Back on the worker. */
static void
login_done(void *arg)
{
	struct login *l = arg;
	struct auth_file *a = l->a;
	enum grapnel_verdict verdict = GRAPNEL_UNAVAILABLE;

	if (a->host->job_ran(l->job))
		verdict = login_verdict(a, l->known, l->has_password, l->result);
	else
		count(a, a->logins_unavailable);
	a->host->request_set_data(l->req, NULL);
	/* GRAPNEL_ECANCELED: the client has left, and there is nothing to undo. */
	(void)a->host->auth_resolve(l->req, verdict, NULL);
	explicit_bzero(l->password, l->password_len);
	free(l);
}

/* What the listener has verified itself. The word of a proxy or a handler is for tls-identity (sources). */
static bool
vouched_for(const struct grapnel_client_info *client)
{
	return client->identity_source == GRAPNEL_IDENTITY_CERTIFICATE ||
	    client->identity_source == GRAPNEL_IDENTITY_PSK ||
	    client->identity_source == GRAPNEL_IDENTITY_PEER;
}

static enum grapnel_verdict
auth_file_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct auth_file *a = instance;
	struct passwd_entry user;
	struct login *l;
	uint32_t left;
	bool known;

	if (a->users == NULL || q->client->username.data == NULL)
		return GRAPNEL_NEXT;
	known = passwd_file_find(a->users, q->client->username, &user);
	if (a->identity_login && vouched_for(q->client) && q->password.data == NULL) {
		count(a, known ? a->logins_accepted : a->logins_unknown);
		return known ? GRAPNEL_ALLOW : GRAPNEL_NEXT;
	}
	if (!known) {
		/* Spend the time a known user would cost, so that time does not tell who exists. */
		user.hash = passwd_file_typical(a->users, SCRAM_NONE);
		if (user.hash.data == NULL) {
			count(a, a->logins_unknown);
			return GRAPNEL_NEXT;
		}
	}
	if (password_quick(user.hash.data, user.hash.len, q->password.len))
		return login_verdict(a, known, q->password.data != NULL,
		    password_verify(
			user.hash.data, user.hash.len, q->password.data, q->password.len));
	left = a->host->request_time_left(req);
	l = left > 0 ? calloc(1, sizeof(*l) + q->password.len + 1) : NULL;
	if (l == NULL) {
		count(a, a->logins_unavailable);
		return GRAPNEL_UNAVAILABLE;
	}
	l->a = a;
	l->req = req;
	l->hash = user.hash;
	l->known = known;
	l->has_password = q->password.data != NULL;
	l->password_len = q->password.len;
	if (q->password.len > 0)
		memcpy(l->password, q->password.data, q->password.len);
	l->job = a->host->offload(a->self, left, login_work, login_done, l);
	if (l->job == NULL) {
		explicit_bzero(l->password, l->password_len);
		free(l);
		count(a, a->logins_unavailable);
		return GRAPNEL_UNAVAILABLE;
	}
	a->host->request_set_data(req, l);
	return GRAPNEL_PENDING;
}

static void
auth_file_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct auth_file *a = instance;
	struct login *l = a->host->request_data(req);

	if (l != NULL)
		a->host->offload_cancel(l->job); /* login_done runs all the same, and resolves */
}

static enum grapnel_verdict
auth_file_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct auth_file *a = instance;
	struct passwd_entry user;

	(void)req;
	if (a->users == NULL || q->client->username.data == NULL)
		return GRAPNEL_NEXT;
	return passwd_file_find(a->users, q->client->username, &user) ? GRAPNEL_ALLOW
								      : GRAPNEL_DENY;
}

/* ------------------------------------------------------------------------- rights */

static enum grapnel_verdict
auth_file_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct auth_file *a = instance;
	struct grapnel_rules_question question = {
		.size = sizeof(question),
		.action = q->action,
		.qos = q->qos,
		.retain = q->retain,
		.topic = q->topic,
		.client_id = q->client->client_id,
		.username = q->client->username,
		.attributes = q->client->attributes,
		.attribute_count = q->client->attribute_count,
	};
	/* The files decide, and nothing else: good until they are read again. */
	struct grapnel_acl_answer answer = { .size = sizeof(answer), .cache_ttl_ms = UINT32_MAX };
	enum grapnel_verdict verdict = GRAPNEL_NEXT;
	uint32_t covered = GRAPNEL_ACL_COVERED, flags;
	char scope[SCOPE_MAX];

	if (a->rules_count == 0)
		return GRAPNEL_NEXT;
	/* READ goes through the same files in the same order: covered when none of them can refuse. */
	for (size_t i = 0; i < a->rules_count && verdict == GRAPNEL_NEXT; i++) {
		verdict = a->host->rules_check(a->rules[i], &question, &flags, &answer.rule);
		covered &= flags;
	}
	if (verdict != GRAPNEL_NEXT && a->rules_count == 1 && answer.rule.data != NULL) {
		answer.same_for.len =
		    a->host->rules_scope(a->rules[0], &question, scope, sizeof(scope));
		answer.same_for.data = answer.same_for.len > 0 ? scope : NULL;
	}
	if (verdict == GRAPNEL_NEXT) {
		verdict = GRAPNEL_DENY;
		answer.rule = GRAPNEL_STR("acl: default");
	} else if (answer.rule.data == NULL) {
		answer.rule =
		    GRAPNEL_STR("acl_file: SUBSCRIBE is granted, read is asked at delivery");
	}
	if (verdict == GRAPNEL_ALLOW && q->action == GRAPNEL_SUBSCRIBE)
		answer.flags = covered;
	if (a->host->acl_answer(req, &answer) != GRAPNEL_OK)
		return GRAPNEL_UNAVAILABLE;
	return verdict;
}

GRAPNEL_PLUGIN(auth_file, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users from a password file, rights from ACL files.",
    .options = auth_file_options, .create = auth_file_create, .destroy = auth_file_destroy,
    .reload_always = true, .request_cancelled = auth_file_request_cancelled,
    .client_authenticate = auth_file_client_authenticate,
    .client_revalidate = auth_file_client_revalidate, .acl_check = auth_file_acl_check);
