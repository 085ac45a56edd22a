/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocker - a client library that blocks: authentication sleeps on a thread of the offload pool
 *
 *	block = 500ms	how long one authentication takes
 * Everybody is let in then. A full queue of the pool is UNAVAILABLE.
 */
#include <grapnel/plugin.h>
#include <stdlib.h>
#include <time.h>

struct blocker {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	int64_t block;
};

struct check {
	struct blocker *b;
	struct grapnel_request *req;
	struct grapnel_job *job;
};

static void
check_work(void *arg)
{
	const struct check *c = arg;
	struct timespec ts = { .tv_sec = (time_t)(c->b->block / 1000),
		.tv_nsec = (long)(c->b->block % 1000) * 1000000 };

	nanosleep(&ts, NULL);
}

static void
check_done(void *arg)
{
	struct check *c = arg;

	c->b->host->auth_resolve(
	    c->req, c->b->host->job_ran(c->job) ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE, NULL);
	free(c);
}

static enum grapnel_verdict
blocker_authenticate(
    void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct blocker *b = instance;
	struct check *c = malloc(sizeof(*c));

	(void)q;
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->b = b;
	c->req = req;
	c->job =
	    b->host->offload(b->self, b->host->request_time_left(req), check_work, check_done, c);
	if (c->job == NULL) {
		free(c);
		return GRAPNEL_UNAVAILABLE;
	}
	b->host->request_set_data(req, c);
	return GRAPNEL_PENDING;
}

static void
blocker_cancelled(void *instance, struct grapnel_request *req)
{
	struct blocker *b = instance;
	struct check *c = b->host->request_data(req);

	b->host->offload_cancel(c->job); /* check_done still runs, and resolves */
}

static int
blocker_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct blocker *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return GRAPNEL_ENOMEM;
	b->host = host;
	b->self = self;
	b->block = host->option_int(self, NULL, "block");
	*instance = b;
	return GRAPNEL_OK;
}

static const struct grapnel_option blocker_options[] = {
	{ .name = "block",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "500ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long one authentication blocks its thread." },
	{ 0 }
};

GRAPNEL_PLUGIN(blocker, .version = "1.0", .license = "Apache-2.0",
    .description = "Lets everybody in after blocking a thread of the offload pool",
    .options = blocker_options, .create = blocker_create, .destroy = free,
    .request_cancelled = blocker_cancelled, .client_authenticate = blocker_authenticate, );
