/* SPDX-License-Identifier: Apache-2.0 */
/*
 * webhook - events of the broker to HTTP end points
 *
 * The workers' side: which events go where, and which acknowledgements wait. The way of an event: parts.h.
 */
#include "parts.h"
#include "place.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK_ENOUGH (1u << 20) /* more of a batch goes into the next one */
#define REFUSED_CODE 0x97u      /* Quota exceeded */
#define PUBACK       4u
#define PUBREC       5u

static const struct grapnel_option webhook_options[] = {
	{ .name = "acknowledge",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "at_once",
	    .choices = "at_once|after_outbox",
	    .help = "Whether a publisher's acknowledgement waits until the event is safe in the "
		    "outbox, or delivered." },
	{ .name = "endpoint",
	    .type = GRAPNEL_OPTION_BLOCK,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .options = endpoint_options,
	    .help = "Where events are sent; its title is its name, and what waits for it in the "
		    "outbox belongs to that name." },
	{ .name = "outbox",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "disk",
	    .choices = "disk|memory",
	    .help = "Where events wait: on the disk they survive a restart, and kill -9." },
	{ .name = "path",
	    .type = GRAPNEL_OPTION_STRING,
	    .help =
		"File of the outbox; default: NAME.outbox in the folder of the broker's state." },
	{ .name = "stop_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "1s",
	    .min = 0,
	    .max = 2000,
	    .help = "When the broker stops, so long is tried to send what waits." },
	{ .name = "write_delay",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "100ms",
	    .min = 0,
	    .max = 10000,
	    .help = "With acknowledge = at_once: how long events may be in memory alone; what is "
		    "delivered before is never written. All is written once a second at least." },
	{ .name = NULL },
};

/* ---- events ---------------------------------------------------------------------------------- */

static struct worker_part *
part_here(struct webhook *w)
{
	return &w->parts[w->host->this_worker()];
}

/* Endpoints that have no room, and say that publishers wait. */
static bool
must_wait(struct webhook *w, struct worker_part *part)
{
	bool wait = false;

	(void)pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->endpoint_count && !wait; i++)
		wait = queue_must_wait(w->endpoints[i]);
	part->stalled = wait;
	if (wait)
		keeper_call(w);
	(void)pthread_mutex_unlock(&w->lock);
	return wait;
}

struct batch {
	struct chunk *chunks[MAX_ENDPOINTS];
	bool lost; /* something of it */
	size_t taken;
};

static bool
batch_add(struct webhook *w, struct batch *b, const struct grapnel_event *ev)
{
	bool enough = false;

	for (unsigned i = 0; i < w->endpoint_count; i++) {
		struct endpoint *e = w->endpoints[i];

		if ((e->possible & GRAPNEL_EVENT_BIT(ev->type)) == 0 ||
		    !select_wants(e->selection, ev))
			continue;
		if (!chunk_add(&b->chunks[i], ev, e->payload_max)) {
			(void)pthread_mutex_lock(&w->lock);
			queue_lose(e, LOST_MEMORY, 1);
			(void)pthread_mutex_unlock(&w->lock);
			b->lost = true;
			continue;
		}
		enough = enough || b->chunks[i]->len >= CHUNK_ENOUGH;
	}
	b->lost = b->lost || ev->type == GRAPNEL_EVENT_GAP;
	b->taken++;
	return !enough;
}

/* Acknowledgements whose events were in it: they wait for the keeper now. */
static void
hold_on(struct webhook *w, struct worker_part *part, bool lost)
{
	static const struct grapnel_ack_answer refusal = { .size = sizeof(refusal),
		.reason_code = REFUSED_CODE,
		.reason_string = GRAPNEL_STR("its event could not be kept") };
	struct held *h;

	while ((h = part->held) != NULL && h->ticket <= part->taken) {
		held_remove(h);
		if (!lost) {
			(void)pthread_mutex_lock(&w->lock);
			queue_hold(h, w->pushed);
			(void)pthread_mutex_unlock(&w->lock);
			continue;
		}
		(void)w->host->ack_resolve(h->req, GRAPNEL_DENY, &refusal);
		w->host->metric_add(w->self, w->m.held, -1);
		free(h);
	}
}

/* @return how many: at least one. */
static size_t
take(struct webhook *w, struct worker_part *part, const struct grapnel_event *const *events,
    size_t count)
{
	struct batch b;

	memset(b.chunks, 0, w->endpoint_count * sizeof(b.chunks[0]));
	b.lost = false;
	b.taken = 0;
	while (b.taken < count && batch_add(w, &b, events[b.taken]))
		continue;
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (b.chunks[i] != NULL)
			chunk_trim(b.chunks[i]);
	(void)pthread_mutex_lock(&w->lock);
	w->id = events[b.taken - 1]->id;
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (b.chunks[i] != NULL && !queue_push(w->endpoints[i], b.chunks[i]))
			b.lost = true;
	(void)pthread_mutex_unlock(&w->lock);
	w->host->metric_add(w->self, w->m.events, (int64_t)b.taken);
	part->taken += b.taken;
	hold_on(w, part, b.lost);
	return b.taken;
}

/* What is left is offered again when there is room, or a while later: only for want of room is anything left. */
static size_t
webhook_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct webhook *w = instance;
	struct worker_part *part = part_here(w);
	size_t taken = 0;

	while (taken < count && !must_wait(w, part))
		taken += take(w, part, events + taken, count - taken);
	return taken;
}

static bool
is_wanted(const struct webhook *w, const struct grapnel_message_acknowledge *q)
{
	if (q->packet_type != PUBACK && q->packet_type != PUBREC)
		return false; /* its PUBREC has waited */
	if (q->message->topic_name.len == 0)
		return true; /* PUBREC once more; the first may never have left */
	for (unsigned i = 0; i < w->endpoint_count; i++)
		if (select_may_want_publish(w->endpoints[i]->selection, q->client, q->message))
			return true;
	return false;
}

static enum grapnel_verdict
webhook_acknowledge(
    void *instance, struct grapnel_request *req, const struct grapnel_message_acknowledge *q)
{
	struct webhook *w = instance;
	struct worker_part *part = part_here(w);
	struct held *h;

	if (q->reason_code >= 0x80 || !is_wanted(w, q))
		return GRAPNEL_NEXT;
	h = calloc(1, sizeof(*h));
	if (h == NULL)
		return GRAPNEL_UNAVAILABLE;
	h->w = w;
	h->req = req;
	w->host->request_set_data(req, h);
	w->host->metric_add(w->self, w->m.held, 1);
	h->ticket = part->taken + w->host->events_waiting(w->self);
	held_add(&part->held, &part->held_last, h);
	if (h->ticket <= part->taken)
		hold_on(w, part, false);
	return GRAPNEL_PENDING;
}

static void
webhook_cancelled(void *instance, struct grapnel_request *req)
{
	struct webhook *w = instance;
	struct held *h;

	/* The keeper takes the pointer away, under the lock, before it resolves. */
	(void)pthread_mutex_lock(&w->lock);
	h = w->host->request_data(req);
	if (h != NULL)
		held_remove(h);
	(void)pthread_mutex_unlock(&w->lock);
	if (h == NULL)
		return;
	(void)w->host->ack_resolve(req, GRAPNEL_UNAVAILABLE, NULL);
	w->host->metric_add(w->self, w->m.held, -1);
	free(h);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void
webhook_free(struct webhook *w)
{
	if (w->claimed)
		place_unclaim(w->key);
	for (unsigned i = 0; i < w->endpoint_count; i++)
		endpoint_free(w->endpoints[i]);
	(void)pthread_cond_destroy(&w->wake);
	(void)pthread_mutex_destroy(&w->lock);
	(void)pthread_mutex_destroy(&w->start_lock);
	queue_free(w);
	free(w->parts);
	free(w->path);
	free(w->key);
	free(w);
}

static void
webhook_destroy(void *instance)
{
	struct webhook *w = instance;

	struct job *job;

	if (w->keeping)
		keeper_join(w);
	while ((job = w->jobs) != NULL) { /* asked for when there was no keeper any more */
		w->jobs = job->next;
		job->run(job, NULL);
	}
	webhook_free(w);
}

/* The first one starts the threads; they end after the last one has stopped. */
static int
webhook_worker_start(void *instance, unsigned worker)
{
	struct webhook *w = instance;
	int err = GRAPNEL_OK;

	(void)worker;
	(void)pthread_mutex_lock(&w->start_lock);
	if (!w->keeping &&
	    ((err = sender_start(w)) != GRAPNEL_OK || (err = keeper_start(w)) != GRAPNEL_OK)) {
		w->host->log(w->self, GRAPNEL_LOG_ERROR, "its threads cannot be started: %s",
		    err == GRAPNEL_ESYS ? strerror(errno) : "no memory");
		sender_stop(w);
	}
	if (err == GRAPNEL_OK)
		w->running++;
	(void)pthread_mutex_unlock(&w->start_lock);
	return err;
}

static void
webhook_worker_stop(void *instance, unsigned worker)
{
	struct webhook *w = instance;
	bool last;

	(void)worker;
	(void)pthread_mutex_lock(&w->start_lock);
	last = --w->running == 0;
	(void)pthread_mutex_unlock(&w->start_lock);
	if (!last)
		return;
	(void)pthread_mutex_lock(&w->lock);
	w->ending = true;
	keeper_call(w);
	(void)pthread_mutex_unlock(&w->lock);
}

static void
make_metrics(struct webhook *w)
{
	const struct {
		int *at;
		enum grapnel_metric_kind kind;
		const char *name, *help;
	} metrics[] = {
		{ &w->m.events, GRAPNEL_COUNTER, "events_total", "Events that were looked at." },
		{ &w->m.delivered, GRAPNEL_COUNTER, "delivered_total",
		    "Events that an endpoint has taken." },
		{ &w->m.lost, GRAPNEL_COUNTER, "lost_total",
		    "Events that were thrown away: no room, too old." },
		{ &w->m.dead, GRAPNEL_COUNTER, "dead_letters_total",
		    "Events that an endpoint refused." },
		{ &w->m.requests, GRAPNEL_COUNTER, "requests_total", "Requests begun." },
		{ &w->m.failures, GRAPNEL_COUNTER, "requests_repeated_total",
		    "Requests that failed, and are repeated." },
		{ &w->m.held, GRAPNEL_GAUGE, "acknowledgements_held",
		    "Acknowledgements that wait for the outbox." },
		{ &w->m.outbox_bytes, GRAPNEL_GAUGE, "outbox_bytes",
		    "Bytes of events in the outbox." },
		{ &w->m.outbox_events, GRAPNEL_GAUGE, "outbox_events", "Events in the outbox." },
		{ &w->m.memory, GRAPNEL_GAUGE, "memory_bytes",
		    "Bytes of events in memory that are being sent." },
		{ &w->m.writes, GRAPNEL_COUNTER, "outbox_commits_total",
		    "Transactions of the outbox." },
		{ &w->m.write_failures, GRAPNEL_COUNTER, "outbox_failures_total",
		    "Transactions of the outbox that failed, and are repeated." },
		{ &w->m.curl.connections, GRAPNEL_GAUGE, "connections",
		    "Open connections to endpoints." },
		{ &w->m.curl.calls_active, GRAPNEL_GAUGE, "requests_active",
		    "Requests that are not answered yet." },
		{ &w->m.curl.timeouts_total, GRAPNEL_COUNTER, "requests_timeout_total",
		    "Requests without an answer in time." },
	};

	w->m.curl = CURL_LOOP_NO_METRICS;
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++)
		*metrics[i].at =
		    w->host->metric_new(w->self, metrics[i].kind, metrics[i].name, metrics[i].help);
}

static bool
read_endpoints(struct webhook *w)
{
	const struct grapnel_block *block;
	struct grapnel_str name;

	for (size_t i = 0;
	     (block = w->host->option_block(w->self, NULL, "endpoint", i, &name)) != NULL; i++) {
		if (i == MAX_ENDPOINTS) {
			w->host->config_error(
			    w->self, block, NULL, "more than %u endpoints", MAX_ENDPOINTS);
			return false;
		}
		w->endpoints[i] = endpoint_new(w, block, name);
		if (w->endpoints[i] == NULL)
			return false;
		w->endpoint_count++;
		w->mask |= select_mask(w->endpoints[i]->selection);
	}
	return true;
}

static bool
set_path(struct webhook *w)
{
	struct grapnel_str name = w->host->instance_name(w->self),
			   path = w->host->option_str(w->self, NULL, "path");
	char folder[PATH_MAX], buffer[128], *slash;

	if (w->host->option_str(w->self, NULL, "outbox").len == strlen("memory"))
		return asprintf(&w->key, "memory of %.*s", (int)name.len, name.data) >= 0;
	if (asprintf(&w->path, path.data != NULL ? "%.*s" : STATE_DIR "/%.*s.outbox",
		(int)(path.data != NULL ? path.len : name.len),
		path.data != NULL ? path.data : name.data) < 0) {
		w->path = NULL;
		return false;
	}
	(void)snprintf(folder, sizeof(folder), "%s", w->path);
	slash = strrchr(folder, '/');
	if (slash == NULL || w->path[0] != '/') {
		w->host->config_error(
		    w->self, NULL, "path", "write the whole path, beginning with /");
		return false;
	}
	slash[slash == folder] = '\0';
	if (access(folder, W_OK | X_OK) != 0) {
		w->host->config_error(w->self, NULL, "path",
		    "%s: %s; the outbox needs a folder to write to", folder,
		    strerror_r(errno, buffer, sizeof(buffer)));
		return false;
	}
	return (w->key = strdup(w->path)) != NULL;
}

static bool
claim_outbox(struct webhook *w)
{
	struct grapnel_str name = w->host->instance_name(w->self);
	char *text = strndup(name.data, name.len), whose[256] = "";

	w->claimed = text != NULL && place_claim(w->key, text, whose, sizeof(whose));
	free(text);
	if (!w->claimed && whose[0] != '\0')
		w->host->config_error(w->self, NULL, "path",
		    "this is the outbox of the plugin \"%s\"; each needs one of its own (a section "
		    "is renamed with a restart, if it is to keep its path)",
		    whose);
	return w->claimed;
}

static bool
offer_command(struct webhook *w)
{
	struct grapnel_str name = w->host->instance_name(w->self);
	char *text = strndup(name.data, name.len);
	bool good = text != NULL &&
	    w->host->command_new(w->self, text,
		"status | dead-letters ENDPOINT | replay ENDPOINT [ID] | pause ENDPOINT | resume "
		"ENDPOINT | test ENDPOINT",
		command_run, w) == GRAPNEL_OK;

	free(text);
	return good;
}

static int
webhook_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct webhook *w = calloc(1, sizeof(*w));
	pthread_condattr_t attributes;

	if (w == NULL)
		return GRAPNEL_ENOMEM;
	w->host = host;
	w->self = self;
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_mutex_init(&w->start_lock, NULL);
	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&w->wake, &attributes);
	(void)pthread_condattr_destroy(&attributes);
	w->after_outbox = host->option_str(self, NULL, "acknowledge").len == strlen("after_outbox");
	w->write_delay_ms = (uint32_t)host->option_int(self, NULL, "write_delay");
	w->stop_timeout_ms = (uint32_t)host->option_int(self, NULL, "stop_timeout");
	w->parts = aligned_alloc(_Alignof(struct worker_part), host->workers * sizeof(*w->parts));
	if (w->parts != NULL)
		memset(w->parts, 0, host->workers * sizeof(*w->parts));
	make_metrics(w);
	if (w->parts == NULL || !set_path(w) || !claim_outbox(w) || !read_endpoints(w) ||
	    !offer_command(w) ||
	    host->events_select(self, w->mask | GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_READY)) !=
		GRAPNEL_OK ||
	    (!w->after_outbox && host->hook_disable(self, "message_acknowledge") != GRAPNEL_OK)) {
		webhook_free(w);
		return GRAPNEL_EINVAL;
	}
	for (unsigned i = 0; i < host->workers; i++)
		w->parts[i].w = w;
	command_read_paused(w);
	*instance = w;
	return GRAPNEL_OK;
}

GRAPNEL_PLUGIN(webhook, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description = "Events of the broker to HTTP end points", .options = webhook_options,
    .create = webhook_create, .destroy = webhook_destroy, .worker_start = webhook_worker_start,
    .worker_stop = webhook_worker_stop, .request_cancelled = webhook_cancelled,
    .message_acknowledge = webhook_acknowledge, .events = UINT64_MAX,
    .event_mode = GRAPNEL_EVENTS_LOSSLESS, .on_events = webhook_events);
