/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acker - holds acknowledgements, or refuses them
 *
 *	hold = 300ms		how long each is held; 0: not at all
 *	deny_topic = "bad*"  	messages with such a Topic Name are refused ('*' at the end:
 *	beginnings)
 *	reason_code = 0		with which; 0: 0x83
 *	await_event = yes	each is held until its MESSAGE_PUBLISHED has come, which must be the event whose
 *				number host->events_waiting foretold; refused when it is another one
 */
#include "match.h"

#define WORKERS_MAX 64

struct acker {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	uint32_t hold;
	uint8_t reason_code;
	struct grapnel_str deny_topic;
	bool await_event;
	struct waited {
		uint64_t taken;
		struct awaiting *first, **last; /* by number */
	} workers[WORKERS_MAX];
};

struct held {
	struct acker *a;
	struct grapnel_request *req;
	struct grapnel_timer *timer;
};

/* ---- await_event ----------------------------------------------------------------------------- */

struct awaiting {
	struct awaiting *next;
	struct grapnel_request *req;
	const struct grapnel_message_info *message; /* the question's */
	uint64_t number;
	bool checked; /* it must be the event of `message` */
};

static bool
is_event_of(const struct grapnel_message_info *m, const struct grapnel_event *ev)
{
	return ev->type == GRAPNEL_EVENT_MESSAGE_PUBLISHED &&
	    m->topic_name.len == ev->message->topic_name.len &&
	    memcmp(m->topic_name.data, ev->message->topic_name.data, m->topic_name.len) == 0 &&
	    m->payload.len == ev->message->payload.len &&
	    (m->payload.len == 0 ||
		memcmp(m->payload.data, ev->message->payload.data, m->payload.len) == 0);
}

static enum grapnel_verdict
await(struct acker *a, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	struct waited *w = &a->workers[a->host->this_worker()];
	struct awaiting *e = calloc(1, sizeof(*e));
	uint32_t waiting = a->host->events_waiting(a->self);

	if (e == NULL)
		return GRAPNEL_UNAVAILABLE;
	e->req = req;
	e->message = q->message;
	e->number = w->taken + waiting;
	e->checked = q->packet_type != 7 && q->message->topic_name.len > 0;
	if (!e->checked && waiting == 0) {
		free(e);
		return GRAPNEL_NEXT;
	}
	a->host->request_set_data(req, e);
	if (w->last == NULL)
		w->last = &w->first;
	*w->last = e;
	w->last = &e->next;
	return GRAPNEL_PENDING;
}

static size_t
acker_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct acker *a = instance;
	struct waited *w = &a->workers[a->host->this_worker()];
	struct awaiting *e;

	while ((e = w->first) != NULL && e->number <= w->taken + count) {
		bool right = !e->checked ||
		    (e->number > w->taken &&
			is_event_of(e->message, events[e->number - w->taken - 1]));

		if ((w->first = e->next) == NULL)
			w->last = &w->first;
		if (e->req != NULL)
			a->host->ack_resolve(e->req, right ? GRAPNEL_ALLOW : GRAPNEL_DENY, NULL);
		free(e);
	}
	w->taken += count;
	return count;
}

/* ---- hold ------------------------------------------------------------------------------------ */

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
	if (a->await_event)
		return await(a, req, q);
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

	if (a->await_event) {
		struct awaiting *e = a->host->request_data(req);

		e->req = NULL;
		a->host->ack_resolve(req, GRAPNEL_NEXT, NULL);
	} else
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
	a->await_event = host->option_bool(self, NULL, "await_event");
	if (a->await_event)
		host->events_select(self, GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1);
	*instance = a;
	return GRAPNEL_OK;
}

static const struct grapnel_option acker_options[] = { { .name = "await_event",
							   .type = GRAPNEL_OPTION_BOOL,
							   .default_value = "no",
							   .help =
							       "Hold each until its event came." },
	{ .name = "deny_topic",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Topic Names that are refused." },
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
    .message_acknowledge = acker_acknowledge, .on_events = acker_events, );
