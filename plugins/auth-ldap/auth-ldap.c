/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-ldap - users, their attributes and groups from a directory
 *
 * The hooks and the life of an instance. What an instance knows is in settings.h; each worker has connections of its own
 * (pool.h, conn.h) and the logins under way on them (login.h). Nothing here blocks: libldap's blocking parts run in the
 * instance's offload threads, on connections that nobody else touches for that time.
 */
#include "login.h"

#include <grapnel/plugin.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct auth_ldap {
	struct settings *settings;
	struct worker *workers[]; /* NULL: not started */
};

/* ---------------------------------------------------------------------- creating */

static const struct {
	enum grapnel_metric_kind kind;
	const char *name, *help;
} metrics[METRIC_COUNT] = {
	[METRIC_CONNECTIONS] = { GRAPNEL_GAUGE, "connections", "Connections to servers." },
	[METRIC_WAITING] = { GRAPNEL_GAUGE, "waiting", "Logins that wait for a connection." },
	[METRIC_BINDS] = { GRAPNEL_COUNTER, "binds_total", "Binds as users." },
	[METRIC_SEARCHES] = { GRAPNEL_COUNTER, "searches_total", "Searches." },
	[METRIC_ERRORS] = { GRAPNEL_COUNTER, "errors_total",
	    "Connections that could not be made, or broke." },
	[METRIC_TIMEOUTS] = { GRAPNEL_COUNTER, "timeouts_total",
	    "Operations not answered within operation_timeout." },
	[METRIC_QUEUE_FULL] = { GRAPNEL_COUNTER, "queue_full_total",
	    "Logins refused because too many waited for a connection." },
	[METRIC_ACCEPTED] = { GRAPNEL_COUNTER, "logins_accepted_total", "Logins let in." },
	[METRIC_REFUSED] = { GRAPNEL_COUNTER, "logins_refused_total",
	    "Logins with a wrong or no password, locked, ambiguous, or in no required group." },
	[METRIC_UNKNOWN] = { GRAPNEL_COUNTER, "logins_unknown_total",
	    "Logins of users that the directory does not have." },
	[METRIC_UNAVAILABLE] = { GRAPNEL_COUNTER, "logins_unavailable_total",
	    "Logins that could not be decided: no server, no answer in time, an answer of no "
	    "use." },
};

/* What a template depends on; the DN is not the client's doing. */
static uint64_t
depends(const struct template *t)
{
	uint64_t mask = 0;
	bool others = false;

	if (t == NULL)
		return 0;
	mask = template_depends(t);
	for (size_t i = 0; i < template_count(t); i++) {
		const struct template_part *part = template_part(t, i);

		if (part->field == TEMPLATE_ATTRIBUTE &&
		    !(part->text.len == 2 && memcmp(part->text.data, "dn", 2) == 0))
			others = true;
	}
	return others ? mask : mask & ~(uint64_t)GRAPNEL_DEPENDS_ATTRIBUTES;
}

static bool
is_name_attribute(const struct settings *s, const char *attribute)
{
	for (size_t i = 0; i < s->name_count; i++)
		if (strcasecmp(s->names[i], attribute) == 0)
			return true;
	return false;
}

/* Can a user be searched again by the name that the session has? Not when it got another one. */
static bool
can_revalidate(const struct settings *s)
{
	if (s->bind_dn != NULL)
		return false;
	for (size_t i = 0; i < s->mapping_count; i++)
		if (strcmp(s->mappings[i].name.data, "username") == 0 &&
		    !is_name_attribute(s, s->mappings[i].attribute))
			return false;
	for (size_t i = 0; i < s->group_count; i++)
		for (size_t j = 0; j < s->groups[i].set_count; j++)
			if (strcmp(s->groups[i].set[j].name, "username") == 0)
				return false;
	return true;
}

static int
declare(const struct settings *s)
{
	const struct grapnel_host *host = s->host;
	uint64_t mask = GRAPNEL_DEPENDS_USERNAME | depends(s->bind_dn) | depends(s->search_base) |
	    depends(s->search_filter) | depends(s->group_base) | depends(s->group_filter);
	uint64_t login = mask | (s->check_password ? GRAPNEL_DEPENDS_PASSWORD : 0);
	int err = host->depends_on(s->self, "client_authenticate", login);

	if (err != GRAPNEL_OK)
		return err;
	return can_revalidate(s) ? host->depends_on(s->self, "client_revalidate", mask)
				 : host->hook_disable(s->self, "client_revalidate");
}

static void
auth_ldap_destroy(void *instance)
{
	struct auth_ldap *a = instance;

	settings_free(a->settings);
	free(a);
}

static int
auth_ldap_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_ldap *a = calloc(1, sizeof(*a) + host->workers * sizeof(a->workers[0]));
	int err = GRAPNEL_EINVAL;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	if ((a->settings = settings_new(host, self)) == NULL ||
	    (err = declare(a->settings)) != GRAPNEL_OK) {
		auth_ldap_destroy(a);
		return err;
	}
	for (unsigned i = 0; i < METRIC_COUNT; i++)
		a->settings->metrics[i] =
		    host->metric_new(self, metrics[i].kind, metrics[i].name, metrics[i].help);
	*instance = a;
	return GRAPNEL_OK;
}

static void
worker_free(struct worker *w)
{
	pool_free(w->search);
	pool_free(w->bind);
	free(w);
}

static int
auth_ldap_worker_start(void *instance, unsigned worker)
{
	struct auth_ldap *a = instance;
	struct settings *s = a->settings;
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return GRAPNEL_ENOMEM;
	w->settings = s;
	if (s->bind_dn == NULL)
		w->search = pool_new(s, &w->servers, s->search_connections, true);
	if (s->check_password)
		w->bind = pool_new(s, &w->servers, s->connections, false);
	if ((s->bind_dn == NULL && w->search == NULL) || (s->check_password && w->bind == NULL)) {
		worker_free(w);
		return GRAPNEL_ENOMEM;
	}
	a->workers[worker] = w;
	return GRAPNEL_OK;
}

static void
auth_ldap_worker_stop(void *instance, unsigned worker)
{
	struct auth_ldap *a = instance;

	worker_free(a->workers[worker]);
	a->workers[worker] = NULL;
}

/* -------------------------------------------------------------------------- hooks */

static enum grapnel_verdict
refuse(const struct settings *s, enum grapnel_verdict verdict, enum metric metric)
{
	settings_count(s, metric, 1);
	return verdict;
}

static enum grapnel_verdict
auth_ldap_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct auth_ldap *a = instance;
	struct settings *s = a->settings;
	struct worker *w = a->workers[s->host->request_worker(req)];

	if (q->client->username.data == NULL)
		return GRAPNEL_NEXT;
	if (q->client->username.len == 0)
		return refuse(s, GRAPNEL_NEXT, METRIC_UNKNOWN);
	if (!s->check_password)
		return login_begin(w, req, q->client, (struct grapnel_str){ NULL, 0 }, false);
	if (q->password.data == NULL)
		return refuse(s, GRAPNEL_NEXT, METRIC_UNKNOWN);
	/* A simple bind without a password succeeds for every DN: it is an anonymous one (RFC 4513 section 5.1.2). */
	if (q->password.len == 0)
		return refuse(s, GRAPNEL_DENY, METRIC_REFUSED);
	return login_begin(w, req, q->client, q->password, false);
}

static enum grapnel_verdict
auth_ldap_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct auth_ldap *a = instance;
	struct settings *s = a->settings;

	if (q->client->username.len == 0)
		return GRAPNEL_NEXT;
	return login_begin(a->workers[s->host->request_worker(req)], req, q->client,
	    (struct grapnel_str){ NULL, 0 }, true);
}

static void
auth_ldap_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct auth_ldap *a = instance;

	login_cancel(a->workers[a->settings->host->request_worker(req)], req);
}

GRAPNEL_PLUGIN(auth_ldap, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users, attributes and groups from an LDAP directory.",
    .options = settings_options, .create = auth_ldap_create, .destroy = auth_ldap_destroy,
    .reload_always = true, .worker_start = auth_ldap_worker_start,
    .worker_stop = auth_ldap_worker_stop, .request_cancelled = auth_ldap_request_cancelled,
    .client_authenticate = auth_ldap_client_authenticate,
    .client_revalidate = auth_ldap_client_revalidate);
