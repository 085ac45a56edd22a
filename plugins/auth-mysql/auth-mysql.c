/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-mysql - users and rights from a MySQL or MariaDB server
 *
 * What is asked and what the answers mean is sql/sql.h; here are its connections. Each worker has a pool of its own (pool.h)
 * of links (link.h), which link-async.c or link-blocking.c move.
 */
#include "pool.h"

#include "sql/sql.h"

#include <dlfcn.h>
#include <stdlib.h>

struct auth_mysql {
	struct shared shared;
	struct sql *sql;
	struct pool *pools[]; /* of the workers */
};

static const struct grapnel_option auth_mysql_options[] = {
	SQL_OPTIONS,
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 100,
	    .max = 60000,
	    .help = "Time for one attempt to connect to one address, TLS and login included." },
	{ .name = "connections",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "2",
	    .min = 1,
	    .max = 64,
	    .help = "Connections that each worker keeps." },
	{ .name = "database", .type = GRAPNEL_OPTION_STRING, .help = "Name of the database." },
	{ .name = "host",
	    .type = GRAPNEL_OPTION_LIST,
	    .default_value = "127.0.0.1",
	    .help = "Servers, tried in turn until one is there: names or addresses, each with its "
		    "port if it has another one." },
	{ .name = "password",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Password of user." },
	{ .name = "password_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a file with the password of user, instead of password." },
	{ .name = "port",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "3306",
	    .min = 1,
	    .max = 65535,
	    .help = "Port of the servers that come without one in host." },
	{ .name = "query_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 60000,
	    .help = "Time for one query, waiting for a connection included." },
	{ .name = "reconnect_max",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 100,
	    .max = 600000,
	    .help = "Longest pause between two attempts to connect; the first ones are shorter." },
	{ .name = "socket",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the server's Unix socket, instead of host." },
	{ .name = "tls",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "no",
	    .choices = "no|required|verify",
	    .help = "Whether to speak TLS with the server; verify: its certificate must be from "
		    "tls_ca and name the host." },
	{ .name = "tls_ca",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the certificates of the authorities that sign the server's." },
	{ .name = "tls_certificate",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a certificate to show to the server." },
	{ .name = "tls_key",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the key of tls_certificate." },
	{ .name = "user",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "User to log in to the server as; it needs to read the tables of the queries, "
		    "no more." },
	{ .name = NULL },
};

static const struct sql_driver driver = {
	.dollar = false, .exec = pool_exec, .cancel = pool_cancel
};

/* ------------------------------------------------------------------------------ life */

/*
 * The client library has state of its own that only mysql_library_end gives back, which must not run while another instance
 * uses it, and this module may be loaded several times. So the library stays where it is when a module goes.
 */
static void
keep_library(void)
{
	Dl_info where;

	if (dladdr((void *)(uintptr_t)mysql_init, &where) != 0 && where.dli_fname != NULL) {
		void *handle = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);

		if (handle != NULL)
			(void)dlclose(handle);
	}
}

static void
auth_mysql_destroy(void *instance)
{
	struct auth_mysql *a = instance;

	sql_free(a->sql);
	settings_fini(&a->shared.settings);
	free(a);
}

static void
register_metrics(struct shared *s)
{
	const struct grapnel_host *host = s->host;

	s->connections = host->metric_new(
	    s->self, GRAPNEL_GAUGE, "connections", "Connections to the server that are up.");
	s->query_timeouts = host->metric_new(s->self, GRAPNEL_COUNTER, "query_timeouts_total",
	    "Queries that were not answered in time.");
	s->connect_failures = host->metric_new(s->self, GRAPNEL_COUNTER, "connect_failures_total",
	    "Rounds of all hosts in which none could be connected to.");
}

static int
auth_mysql_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_mysql *a = calloc(1, sizeof(*a) + host->workers * sizeof(struct pool *));
	MYSQL *handle = NULL;

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->shared.host = host;
	a->shared.self = self;
	if (mysql_library_init(0, NULL, NULL) != 0) {
		host->config_error(
		    self, NULL, NULL, "the client library of MySQL cannot be initialised");
		goto fail;
	}
	keep_library();
	if (!settings_read(&a->shared.settings, host, self))
		goto fail;
	handle = settings_handle(&a->shared.settings);
	if (handle == NULL) {
		host->config_error(
		    self, NULL, NULL, "the client library of MySQL refuses its options");
		goto fail;
	}
	mysql_close(handle);
	a->sql = sql_new(host, self, &driver);
	if (a->sql == NULL)
		goto fail;
	register_metrics(&a->shared);
	*instance = a;
	return GRAPNEL_OK;
fail:
	auth_mysql_destroy(a);
	return GRAPNEL_EINVAL;
}

static int
auth_mysql_worker_start(void *instance, unsigned worker)
{
	struct auth_mysql *a = instance;
	int err;

	a->pools[worker] = pool_new(&a->shared);
	if (a->pools[worker] == NULL)
		return GRAPNEL_ENOMEM;
	err = sql_worker_start(a->sql, worker, a->pools[worker]);
	if (err != GRAPNEL_OK) {
		pool_free(a->pools[worker]);
		a->pools[worker] = NULL;
	}
	return err;
}

static void
auth_mysql_worker_stop(void *instance, unsigned worker)
{
	struct auth_mysql *a = instance;

	sql_worker_stop(a->sql, worker);
	pool_free(a->pools[worker]);
	a->pools[worker] = NULL;
}

/* The only event that is asked for: jobs that connect need not try to the end. */
static size_t
auth_mysql_on_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct auth_mysql *a = instance;

	(void)events;
	atomic_store(&a->shared.stopping, true);
	return count;
}

/* ----------------------------------------------------------------------------- hooks */

static enum grapnel_verdict
auth_mysql_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	return sql_authenticate(((struct auth_mysql *)instance)->sql, req, q);
}

static enum grapnel_verdict
auth_mysql_client_auth_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	return sql_auth_exchange(((struct auth_mysql *)instance)->sql, req, q);
}

static enum grapnel_verdict
auth_mysql_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	return sql_revalidate(((struct auth_mysql *)instance)->sql, req, q);
}

static enum grapnel_verdict
auth_mysql_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	return sql_acl_check(((struct auth_mysql *)instance)->sql, req, q);
}

static void
auth_mysql_request_cancelled(void *instance, struct grapnel_request *req)
{
	sql_request_cancelled(((struct auth_mysql *)instance)->sql, req);
}

static void
auth_mysql_client_slot_free(void *instance, void *data)
{
	sql_client_slot_free(((struct auth_mysql *)instance)->sql, data);
}

GRAPNEL_PLUGIN(auth_mysql, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users and rights from a MySQL or MariaDB server.",
    .options = auth_mysql_options, .create = auth_mysql_create, .destroy = auth_mysql_destroy,
    .worker_start = auth_mysql_worker_start, .worker_stop = auth_mysql_worker_stop,
    .request_cancelled = auth_mysql_request_cancelled,
    .client_slot_free = auth_mysql_client_slot_free,
    .client_authenticate = auth_mysql_client_authenticate,
    .client_auth_exchange = auth_mysql_client_auth_exchange,
    .client_revalidate = auth_mysql_client_revalidate, .acl_check = auth_mysql_acl_check,
    .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_STOPPING), .on_events = auth_mysql_on_events);
