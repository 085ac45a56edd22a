/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acker - holds acknowledgements, or refuses them
 *
 *	hold = 300ms		how long each is held; 0: not at all
 *	deny_topic = "bad*"  	messages with such a Topic Name are refused ('*' at the end:
 *	beginnings)
 *	reason_code = 0		with which; 0: 0x83
 */
#include "match.h"

struct acker {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint32_t hold;
	uint8_t reason_code;
	struct grapnel_str deny_topic;
};

struct held {
	struct acker *a;
	struct grapnel_request *req;
	struct grapnel_timer *timer;
};

static void
held_end(struct held *h)
{
	h->a->host->ack_resolve(h->req, GRAPNEL_ALLOW, NULL);
	h->a->host->timer_free(h->timer);
	free(h);
}

static void
on_time(void *arg)
{
	held_end(arg);
}

static enum grapnel_verdict
acker_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	struct acker *a = instance;
	struct held *h;

	if (q->message != NULL && str_matches(a->deny_topic, q->message->topic_name)) {
		struct grapnel_ack_answer answer = { .size = sizeof(answer),
			.reason_code = a->reason_code,
			.reason_string = GRAPNEL_STR("not taken") };

		a->host->ack_answer(req, &answer);
		return GRAPNEL_DENY;
	}
	if (a->hold == 0)
		return GRAPNEL_NEXT;
	h = malloc(sizeof(*h));
	if (h == NULL)
		return GRAPNEL_UNAVAILABLE;
	h->a = a;
	h->req = req;
	h->timer = a->host->timer_new(a->self, on_time, h);
	if (h->timer == NULL) {
		free(h);
		return GRAPNEL_UNAVAILABLE;
	}
	a->host->request_set_data(req, h);
	a->host->timer_arm(h->timer, a->hold);
	return GRAPNEL_PENDING;
}

static void
acker_cancelled(void *instance, struct grapnel_request *req)
{
	struct acker *a = instance;

	held_end(a->host->request_data(req));
}

static int
acker_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct acker *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	a->host = host;
	a->self = self;
	a->hold = (uint32_t)host->option_int(self, NULL, "hold");
	a->reason_code = (uint8_t)host->option_int(self, NULL, "reason_code");
	a->deny_topic = host->option_str(self, NULL, "deny_topic");
	*instance = a;
	return GRAPNEL_OK;
}

static const struct grapnel_option acker_options[] = { { .name = "deny_topic",
							   .type = GRAPNEL_OPTION_STRING,
							   .help =
							       "Topic Names that are refused." },
	{ .name = "hold",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "300ms",
	    .min = 0,
	    .max = 60000,
	    .help = "How long an acknowledgement is held." },
	{ .name = "reason_code",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 255,
	    .help = "Reason Code of a refusal; 0: 0x83." },
	{ 0 } };

GRAPNEL_PLUGIN(acker, .version = "1.0", .license = "Apache-2.0",
    .description = "Holds or refuses acknowledgements", .options = acker_options,
    .create = acker_create, .destroy = free, .request_cancelled = acker_cancelled,
    .message_acknowledge = acker_acknowledge, );
