/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slow - a backend that takes its time, but never the loop's: everything is allowed after a delay
 *
 * client_authenticate and acl_check answer PENDING and are resolved by a timer of their worker.
 *	auth_delay = 500ms	acl_delay = 500ms	0: that hook answers at once
 */
#include <grapnel/plugin.h>
#include <stdlib.h>

struct slow {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint32_t auth_delay, acl_delay;
};

struct waiting {
	struct slow *s;
	struct grapnel_request *req;
	struct grapnel_timer *timer;
	int is_acl;
};

static void
finish(struct waiting *w, enum grapnel_verdict verdict)
{
	const struct grapnel_host *host = w->s->host;

	if (w->is_acl)
		host->acl_resolve(w->req, verdict, NULL);
	else
		host->auth_resolve(w->req, verdict, NULL);
	host->timer_free(w->timer);
	free(w);
}

static void
on_time(void *arg)
{
	finish(arg, GRAPNEL_ALLOW);
}

static enum grapnel_verdict
later(struct slow *s, struct grapnel_request *req, uint32_t delay, int is_acl)
{
	struct waiting *w;

	if (delay == 0)
		return GRAPNEL_ALLOW;
	w = malloc(sizeof(*w));
	if (w == NULL)
		return GRAPNEL_UNAVAILABLE;
	w->s = s;
	w->req = req;
	w->is_acl = is_acl;
	w->timer = s->host->timer_new(s->self, on_time, w);
	if (w->timer == NULL) {
		free(w);
		return GRAPNEL_UNAVAILABLE;
	}
	s->host->request_set_data(req, w);
	s->host->timer_arm(w->timer, delay);
	return GRAPNEL_PENDING;
}

static enum grapnel_verdict
slow_authenticate(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct slow *s = instance;

	(void)q;
	return later(s, req, s->auth_delay, 0);
}

static enum grapnel_verdict
slow_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct slow *s = instance;

	(void)q;
	return later(s, req, s->acl_delay, 1);
}

static void
slow_cancelled(void *instance, struct grapnel_request *req)
{
	struct slow *s = instance;

	finish(s->host->request_data(req), GRAPNEL_UNAVAILABLE);
}

static int
slow_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct slow *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return GRAPNEL_ENOMEM;
	s->host = host;
	s->self = self;
	s->auth_delay = (uint32_t)host->option_int(self, NULL, "auth_delay");
	s->acl_delay = (uint32_t)host->option_int(self, NULL, "acl_delay");
	*instance = s;
	return GRAPNEL_OK;
}

static const struct grapnel_option slow_options[] = {
	{ .name = "acl_delay",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "500ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long acl_check takes; 0: it answers at once." },
	{ .name = "auth_delay",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "500ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long client_authenticate takes; 0: it answers at once." },
	{ 0 }
};

GRAPNEL_PLUGIN(slow, .version = "1.0", .license = "Apache-2.0",
    .description = "Allows everything, late", .options = slow_options, .create = slow_create,
    .destroy = free, .request_cancelled = slow_cancelled, .client_authenticate = slow_authenticate,
    .acl_check = slow_acl_check, );
