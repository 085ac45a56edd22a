/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth-postgres - users and rights from PostgreSQL
 *
 * plugins/sql has the hooks; this is its driver: a pool of connections for each worker (pool.h), each of which opens itself
 * again (link.h), and one that listens for changes (listen.h), on worker 0.
 *
 * Threads:   an instance is immutable after create(), but for what belongs to a worker and what is atomic.
 * Ownership: pools and listener live from worker_start to worker_stop.
 */
#include "listen.h"
#include "pool.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CHANNEL 63u /* of a name in PostgreSQL */

struct auth_postgres {
	struct pg pg;
	struct pg_params *params;
	struct pg_listener_config listen;
	char channel[MAX_CHANNEL + 1]; /* "": none */
	struct pg_listener *listener;  /* worker 0 */
};

static const struct grapnel_option auth_postgres_options[] = {
	{ .name = "connect_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "5s",
	    .min = 10,
	    .max = 600000,
	    .help = "How long one address of the database may take until a connection is ready." },
	{ .name = "connection",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Connection string of libpq, \"host=... dbname=...\" or postgresql://..." },
	{ .name = "connections",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "2",
	    .min = 1,
	    .max = 100,
	    .help = "Connections that each worker keeps open." },
	{ .name = "dbname", .type = GRAPNEL_OPTION_STRING, .help = "Name of the database." },
	{ .name = "host",
	    .type = GRAPNEL_OPTION_STRING,
	    .help =
		"Host, or several with commas between them, that are tried in turn; a folder of "
		"Unix sockets begins with /." },
	{ .name = "listen_channel",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Channel of NOTIFY that tells about changes; none: changes are not heard of." },
	{ .name = "listen_check",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "30s",
	    .min = 100,
	    .max = 86400000,
	    .help = "How often the connection that listens is asked for a sign of life." },
	{ .name = "password",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Password for the database; better password_file, or \"${file:PATH}\"." },
	{ .name = "password_file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of a file whose first line is the password, read for each connection." },
	{ .name = "pipeline",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "32",
	    .min = 1,
	    .max = 1000,
	    .help = "Queries under way on one connection at most; others wait." },
	{ .name = "port",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Port, or one for each host with commas between them; default: 5432." },
	{ .name = "reconnect_max",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .min = 100,
	    .max = 3600000,
	    .help = "Longest wait between two attempts to connect; it begins with 200 ms and "
		    "doubles." },
	{ .name = "service",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Service of libpq's pg_service.conf that has the settings." },
	{ .name = "sslcert",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the certificate shown to the database." },
	{ .name = "sslkey", .type = GRAPNEL_OPTION_STRING, .help = "Path of its private key." },
	{ .name = "sslmode",
	    .type = GRAPNEL_OPTION_ENUM,
	    .choices = "disable|allow|prefer|require|verify-ca|verify-full",
	    .help = "Whether TLS is used, and what of the database's certificate is checked; "
		    "default: libpq's, prefer." },
	{ .name = "sslpassword",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_SECRET,
	    .help = "Passphrase of the private key." },
	{ .name = "sslrootcert",
	    .type = GRAPNEL_OPTION_STRING,
	    .help =
		"Path of the certificates of authorities that the database's is checked with." },
	{ .name = "statement_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "10s",
	    .min = 0,
	    .max = 3600000,
	    .help = "After which the database ends a query; 0: as the database says." },
	{ .name = "user", .type = GRAPNEL_OPTION_STRING, .help = "Role in the database." },
	SQL_OPTIONS,
	{ .name = NULL },
};

static const struct sql_driver driver = {
	.dollar = true,
	.exec = pg_pool_exec,
	.cancel = pg_pool_cancel,
};

/*
 * libpq keeps what it has made for OpenSSL in variables of its own and never gives it back; this module may be loaded several
 * times. So the library stays where it is when a module goes.
 */
static void
keep_library(void)
{
	Dl_info where;

	if (dladdr((void *)(uintptr_t)PQconnectPoll, &where) != 0 && where.dli_fname != NULL) {
		void *handle = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);

		if (handle != NULL)
			(void)dlclose(handle);
	}
}

static void
auth_postgres_destroy(void *instance)
{
	struct auth_postgres *a = instance;

	sql_free(a->pg.sql);
	pg_params_free(a->params);
	free(a->pg.pools);
	free(a);
}

static bool
read_options(struct auth_postgres *a)
{
	const struct grapnel_host *host = a->pg.link.host;
	struct grapnel_instance *self = a->pg.link.self;
	struct grapnel_str channel = host->option_str(self, NULL, "listen_channel");

	a->pg.connections = (unsigned)host->option_int(self, NULL, "connections");
	a->pg.pipeline = (unsigned)host->option_int(self, NULL, "pipeline");
	a->pg.statement_timeout_ms = (uint32_t)host->option_int(self, NULL, "statement_timeout");
	a->pg.link.connect_timeout_ms = (uint32_t)host->option_int(self, NULL, "connect_timeout");
	a->pg.link.reconnect_max_ms = (uint32_t)host->option_int(self, NULL, "reconnect_max");
	a->listen.check_ms = (uint32_t)host->option_int(self, NULL, "listen_check");
	if (channel.len > MAX_CHANNEL ||
	    (channel.len > 0 && memchr(channel.data, '\0', channel.len) != NULL)) {
		host->config_error(self, NULL, "listen_channel",
		    "a channel's name has %u bytes at most", MAX_CHANNEL);
		return false;
	}
	if (channel.len > 0)
		memcpy(a->channel, channel.data, channel.len);
	return true;
}

static void
declare_metrics(struct auth_postgres *a)
{
	const struct grapnel_host *host = a->pg.link.host;
	struct grapnel_instance *self = a->pg.link.self;

	a->pg.connected = host->metric_new(
	    self, GRAPNEL_GAUGE, "connections", "Connections to the database that are ready.");
	a->pg.failures = host->metric_new(self, GRAPNEL_COUNTER, "connection_failures_total",
	    "Attempts to connect that failed at every host.");
	a->pg.timeouts = host->metric_new(self, GRAPNEL_COUNTER, "query_timeouts_total",
	    "Queries that were not answered before their deadline.");
	a->pg.retries = host->metric_new(self, GRAPNEL_COUNTER, "query_retries_total",
	    "Queries sent again, because their connection was lost.");
	a->listen.listening = host->metric_new(self, GRAPNEL_GAUGE, "listening",
	    "1 while changes in the database are heard of (listen_channel).");
	a->listen.notifications = host->metric_new(self, GRAPNEL_COUNTER, "notifications_total",
	    "Notifications of changes in the database.");
}

static int
auth_postgres_create(
    const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct auth_postgres *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->pg.link.host = host;
	a->pg.link.self = self;
	keep_library();
	a->listen.link = &a->pg.link;
	a->listen.channel = a->channel;
	a->pg.pools = calloc(host->workers, sizeof(struct pg_pool *));
	a->pg.sql = sql_new(host, self, &driver);
	a->params = pg_params_new(host, self); /* all faults are said, not only the first */
	a->pg.link.params = a->params;
	if (!read_options(a) || a->pg.pools == NULL || a->pg.sql == NULL || a->params == NULL) {
		auth_postgres_destroy(a);
		return GRAPNEL_EINVAL;
	}
	declare_metrics(a);
	*instance = a;
	return GRAPNEL_OK;
}

static void
auth_postgres_worker_stop(void *instance, unsigned worker)
{
	struct auth_postgres *a = instance;

	if (worker == 0) {
		pg_listener_free(a->listener);
		a->listener = NULL;
	}
	sql_worker_stop(a->pg.sql, worker);
	pg_pool_free(a->pg.pools[worker]);
	a->pg.pools[worker] = NULL;
}

static int
auth_postgres_worker_start(void *instance, unsigned worker)
{
	struct auth_postgres *a = instance;
	int err;

	a->pg.pools[worker] = pg_pool_new(&a->pg, worker);
	if (a->pg.pools[worker] == NULL)
		return GRAPNEL_ENOMEM;
	if (worker == 0 && a->channel[0] != '\0' &&
	    (a->listener = pg_listener_new(&a->listen)) == NULL) {
		pg_pool_free(a->pg.pools[worker]);
		a->pg.pools[worker] = NULL;
		return GRAPNEL_ENOMEM;
	}
	err = sql_worker_start(a->pg.sql, worker, a->pg.pools[worker]);
	if (err != GRAPNEL_OK)
		auth_postgres_worker_stop(a, worker);
	return err;
}

static enum grapnel_verdict
auth_postgres_client_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct auth_postgres *a = instance;

	return sql_authenticate(a->pg.sql, req, q);
}

static enum grapnel_verdict
auth_postgres_client_revalidate(
    void *instance, struct grapnel_request *req, const struct grapnel_revalidate *q)
{
	struct auth_postgres *a = instance;

	return sql_revalidate(a->pg.sql, req, q);
}

static enum grapnel_verdict
auth_postgres_acl_check(
    void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct auth_postgres *a = instance;

	return sql_acl_check(a->pg.sql, req, q);
}

static enum grapnel_verdict
auth_postgres_client_auth_exchange(
    void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct auth_postgres *a = instance;

	return sql_auth_exchange(a->pg.sql, req, q);
}

static void
auth_postgres_client_slot_free(void *instance, void *data)
{
	struct auth_postgres *a = instance;

	sql_client_slot_free(a->pg.sql, data);
}

static void
auth_postgres_request_cancelled(void *instance, struct grapnel_request *req)
{
	struct auth_postgres *a = instance;

	sql_request_cancelled(a->pg.sql, req);
}

GRAPNEL_PLUGIN(auth_postgres, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Users and rights from PostgreSQL.", .options = auth_postgres_options,
    .create = auth_postgres_create, .destroy = auth_postgres_destroy,
    .worker_start = auth_postgres_worker_start, .worker_stop = auth_postgres_worker_stop,
    .request_cancelled = auth_postgres_request_cancelled,
    .client_slot_free = auth_postgres_client_slot_free,
    .client_auth_exchange = auth_postgres_client_auth_exchange,
    .client_authenticate = auth_postgres_client_authenticate,
    .client_revalidate = auth_postgres_client_revalidate, .acl_check = auth_postgres_acl_check);
