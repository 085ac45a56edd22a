/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-redis - users and rights from Redis
 *
 * An instance has its settings; each of its workers a pool of connections, and one of them listens to what is purged. Nothing is
 * shared between workers but counters.
 */
#include "ask.h"
#include "purge.h"

#include <stdlib.h>

static void
make_metrics(struct instance *a)
{
	const struct {
		int *number;
		enum grapnel_metric_kind kind;
		const char *name, *help;
	} rows[] = {
		{ &a->metrics.connections, GRAPNEL_GAUGE, "connections",
		    "Connections that are up." },
		{ &a->metrics.connects_failed, GRAPNEL_COUNTER, "connects_failed_total",
		    "Attempts to connect that failed, connections that ended at once included." },
		{ &a->metrics.commands, GRAPNEL_COUNTER, "queries_total", "Commands sent." },
		{ &a->metrics.commands_failed, GRAPNEL_COUNTER, "queries_failed_total",
		    "Commands that the server answered with an error." },
		{ &a->metrics.commands_timed_out, GRAPNEL_COUNTER, "queries_timed_out_total",
		    "Commands that had no answer within command_timeout." },
		{ &a->metrics.redirects, GRAPNEL_COUNTER, "redirects_total",
		    "MOVED and ASK of a cluster that were followed." },
		{ &a->metrics.answers_unusable, GRAPNEL_COUNTER, "answers_unusable_total",
		    "Answers that were malformed, too large, or no user or rules." },
		{ &a->metrics.purges, GRAPNEL_COUNTER, "purges_total",
		    "Changes that the server told of." },
		{ &a->metrics.listening, GRAPNEL_GAUGE, "listening",
		    "1 while purge_channel and keyspace events are listened to." },
		{ &a->metrics.logins_accepted, GRAPNEL_COUNTER, "logins_accepted_total",
		    "Logins that were let in." },
		{ &a->metrics.logins_refused, GRAPNEL_COUNTER, "logins_refused_total",
		    "Logins of known users with a wrong password." },
		{ &a->metrics.logins_unknown, GRAPNEL_COUNTER, "logins_unknown_total",
		    "Logins of users who are not in Redis." },
		{ &a->metrics.logins_unavailable, GRAPNEL_COUNTER, "logins_unavailable_total",
		    "Logins that could not be checked." },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		*rows[i].number =
		    a->host->metric_new(a->self, rows[i].kind, rows[i].name, rows[i].help);
}

/* As narrow as it is true: the broker keeps answers by it. Rules may hold %u, %c and attributes, but are filled in later. */
static bool
tell_host(struct instance *a)
{
	const struct settings *s = &a->settings;
	const struct grapnel_host *host = a->host;
	uint64_t login = 0, rights = 0;

	for (unsigned i = 0; i < s->source_count; i++)
		rights |= template_depends(s->sources[i].key.template);
	if (s->login.template == NULL) {
		if (host->hook_disable(a->self, "client_authenticate") != GRAPNEL_OK ||
		    host->hook_disable(a->self, "client_revalidate") != GRAPNEL_OK)
			return false;
	} else {
		login = template_depends(s->login.template) | (s->acl_on_connect ? rights : 0) |
		    (s->superuser.template != NULL ? template_depends(s->superuser.template) : 0);
		if (host->depends_on(a->self, "client_revalidate", login) != GRAPNEL_OK ||
		    host->depends_on(a->self, "client_authenticate",
			login | (s->check_password ? GRAPNEL_DEPENDS_PASSWORD : 0)) != GRAPNEL_OK)
			return false;
	}
	if (s->acl_on_connect || s->source_count == 0)
		return host->hook_disable(a->self, "acl_check") == GRAPNEL_OK;
	return host->depends_on(a->self, "acl_check",
		   rights | GRAPNEL_DEPENDS_USERNAME | GRAPNEL_DEPENDS_CLIENT_ID |
		       GRAPNEL_DEPENDS_ATTRIBUTES) == GRAPNEL_OK;
}

static void
auth_redis_destroy(void *instance)
{
	struct instance *a = instance;

	settings_free(&a->settings);
	free(a->workers);
	free(a);
}

static int
auth_redis_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct instance *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	a->workers = calloc(host->workers, sizeof(*a->workers));
	if (a->workers == NULL) {
		auth_redis_destroy(a);
		return GRAPNEL_ENOMEM;
	}
	if (!settings_read(a) || !tell_host(a)) {
		auth_redis_destroy(a);
		return GRAPNEL_EINVAL;
	}
	make_metrics(a);
	*instance = a;
	return GRAPNEL_OK;
}

static void
auth_redis_worker_stop(void *instance, unsigned worker)
{
	struct instance *a = instance;
	struct worker *w = &a->workers[worker];

	purge_free(w->purge);
	w->purge = NULL;
	if (w->pool == NULL)
		return;
	pool_free(w->pool);
	w->pool = NULL;
	verifier_fini(&w->verifier);
}

static int
auth_redis_worker_start(void *instance, unsigned worker)
{
	struct instance *a = instance;
	struct worker *w = &a->workers[worker];
	const struct settings *s = &a->settings;
	bool listens = worker == 0 && (s->keyspace_events || s->purge_channel.data != NULL);

	w->pool = pool_new(a);
	if (w->pool == NULL)
		return GRAPNEL_ENOMEM;
	verifier_init(&w->verifier, a->host, a->self);
	if (!listens)
		return GRAPNEL_OK;
	w->purge = purge_new(a);
	if (w->purge != NULL)
		return GRAPNEL_OK;
	auth_redis_worker_stop(a, worker);
	return GRAPNEL_ENOMEM;
}

static enum grapnel_verdict
auth_redis_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	return login_authenticate(instance, req, q);
}

static enum grapnel_verdict
auth_redis_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	return login_revalidate(instance, req, q);
}

static enum grapnel_verdict
auth_redis_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	return rights_check(instance, req, q);
}

static void
auth_redis_request_cancelled(void *instance, struct grapnel_request *req)
{
	ask_cancel(instance, req);
}

GRAPNEL_PLUGIN(auth_redis, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users and rights from Redis.", .options = settings_options,
    .create = auth_redis_create, .destroy = auth_redis_destroy,
    .worker_start = auth_redis_worker_start, .worker_stop = auth_redis_worker_stop,
    .request_cancelled = auth_redis_request_cancelled,
    .client_authenticate = auth_redis_client_authenticate,
    .client_revalidate = auth_redis_client_revalidate, .acl_check = auth_redis_acl_check);
