/* SPDX-License-Identifier: Apache-2.0 */
#include "listen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pg_listener {
	const struct pg_listener_config *config;
	struct pg_link link;
	struct grapnel_timer *timer;
	bool ready, missed; /* it listens; it did not all the time */
	bool asked;         /* for a sign of life, and no answer yet */
	bool said_bad;      /* a payload that means nothing */
};

static void
count(const struct pg_listener *l, int metric, int64_t delta)
{
	if (metric >= 0)
		l->config->link->host->metric_add(l->config->link->self, metric, delta);
}

static void
purge(const struct pg_listener *l, struct grapnel_str username, struct grapnel_str client_id)
{
	const struct grapnel_host *host = l->config->link->host;

	if (host->cache_purge(l->config->link->self, username, client_id) != GRAPNEL_OK)
		host->log(l->config->link->self, GRAPNEL_LOG_ERROR,
		    "a change in the database could not be followed: out of memory; grapnelctl "
		    "cache "
		    "purge does it again");
}

static unsigned
on_set_up(void *arg, PGconn *conn)
{
	const struct pg_listener *l = arg;
	const char *channel = l->config->channel;
	char *name = PQescapeIdentifier(conn, channel, strlen(channel)), *query;
	size_t size = sizeof("LISTEN ") + (name != NULL ? strlen(name) : 0);
	unsigned sent = 0;

	if (name != NULL && (query = malloc(size)) != NULL) {
		snprintf(query, size, "LISTEN %s", name);
		if (PQsendQueryParams(conn, query, 0, NULL, NULL, NULL, NULL, 0) == 1 &&
		    PQpipelineSync(conn) == 1)
			sent = 1;
		free(query);
	}
	PQfreemem(name);
	return sent;
}

static const char *
on_step(void *arg, unsigned step)
{
	(void)arg;
	(void)step;
	return "listen_channel";
}

static void
on_ready(void *arg)
{
	struct pg_listener *l = arg;
	const struct grapnel_host *host = l->config->link->host;

	l->ready = true;
	l->asked = false;
	count(l, l->config->listening, 1);
	(void)host->timer_arm(l->timer, l->config->check_ms);
	if (!l->missed)
		return;
	l->missed = false;
	host->log(l->config->link->self, GRAPNEL_LOG_NOTICE,
	    "listening on %s again; what changed meanwhile is not known, so all is asked again",
	    l->config->channel);
	purge(l, (struct grapnel_str){ NULL, 0 }, (struct grapnel_str){ NULL, 0 });
}

/* The answer to the sign of life; errors come as a lost connection. */
static void
on_result(void *arg, const PGresult *result)
{
	struct pg_listener *l = arg;

	if (PQresultStatus(result) != PGRES_PIPELINE_SYNC)
		return;
	l->asked = false;
	l->link.useful = true;
}

static void
on_notify(void *arg, const char *payload)
{
	struct pg_listener *l = arg;
	const struct grapnel_host *host = l->config->link->host;
	struct grapnel_str username, client_id;

	count(l, l->config->notifications, 1);
	l->link.useful = true;
	if (!pg_payload_parse(payload, &username, &client_id) && !l->said_bad) {
		l->said_bad = true;
		host->log(l->config->link->self, GRAPNEL_LOG_WARNING,
		    "a notification on %s is neither empty, user=NAME nor client=ID; everything is "
		    "asked again for such",
		    l->config->channel);
	}
	purge(l, username, client_id);
}

static void
on_failed(void *arg, const char *why)
{
	struct pg_listener *l = arg;

	if (!l->missed)
		l->config->link->host->log(l->config->link->self, GRAPNEL_LOG_WARNING,
		    "changes in the database are not heard of: %s", why);
	l->missed = true;
}

static void
on_lost(void *arg, const char *why)
{
	struct pg_listener *l = arg;

	l->ready = false;
	count(l, l->config->listening, -1);
	l->config->link->host->timer_disarm(l->timer);
	on_failed(l, why);
}

static void
on_timer(void *arg)
{
	struct pg_listener *l = arg;
	PGconn *conn = l->link.conn;

	if (l->asked) {
		pg_link_break(&l->link, "no sign of life");
		return;
	}
	l->asked = true;
	(void)l->config->link->host->timer_arm(l->timer, l->config->check_ms);
	if (PQsendQueryParams(conn, "", 0, NULL, NULL, NULL, NULL, 0) != 1 ||
	    PQpipelineSync(conn) != 1)
		pg_link_break(&l->link, "the connection does not take a query");
	else
		pg_link_flush(&l->link);
}

static const struct pg_link_user listener_user = {
	.set_up = on_set_up,
	.step = on_step,
	.ready = on_ready,
	.result = on_result,
	.notify = on_notify,
	.lost = on_lost,
	.failed = on_failed,
};

struct pg_listener *
pg_listener_new(const struct pg_listener_config *config)
{
	struct pg_listener *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->config = config;
	l->timer = config->link->host->timer_new(config->link->self, on_timer, l);
	if (l->timer == NULL ||
	    pg_link_start(&l->link, config->link, &listener_user, l) != GRAPNEL_OK) {
		pg_listener_free(l);
		return NULL;
	}
	return l;
}

void
pg_listener_free(struct pg_listener *l)
{
	if (l == NULL)
		return;
	pg_link_stop(&l->link);
	if (l->ready)
		count(l, l->config->listening, -1);
	if (l->timer != NULL)
		l->config->link->host->timer_free(l->timer);
	free(l);
}
