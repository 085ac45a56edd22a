/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event-log - events as lines of JSON: to a file, stdout or syslog, and as messages under $SYS/events/
 *
 * Workers copy the events that are wanted into a backlog; the writer's thread does all the rest.
 *
 * Threads:   create and destroy on main; on_events on the workers. What they share is the backlog.
 * Bounded:   `queue` bytes; what does not fit is lost and counted, or publishers wait for room.
 */
#include "../events/select.h"
#include "backlog.h"
#include "writer.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_option event_log_options[] = {
	SELECT_ROW_CLIENTS,
	SELECT_ROW_EVENTS,
	{ .name = "file",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "Path of the file that lines are added to; required with target = file." },
	{ .name = "flush_timeout",
	    .type = GRAPNEL_OPTION_DURATION,
	    .default_value = "2s",
	    .min = 1,
	    .max = 60000,
	    .help = "Time for what still waits when the instance ends; the rest is lost." },
	{ .name = "keep",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "9",
	    .min = 1,
	    .max = 1000,
	    .help = "Old files that are kept: file.1 is the youngest." },
	{ .name = "max_size",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "100m",
	    .min = 0,
	    .max = INT64_C(1) << 50,
	    .help = "The file is put aside as file.1 before it gets longer; 0: never." },
	{ .name = "mqtt",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether each line is also published, to $SYS/events/ and the event's name." },
	{ .name = "mqtt_qos",
	    .type = GRAPNEL_OPTION_INT,
	    .default_value = "0",
	    .min = 0,
	    .max = 2,
	    .help = "QoS of those messages." },
	{ .name = "payload",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "auto",
	    .choices = "auto|base64|none",
	    .help = "How payloads are written: as text when they are UTF-8 and else in base64, "
		    "always in base64, or only their size." },
	{ .name = "payload_max",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "4k",
	    .min = 0,
	    .max = 16777216,
	    .help = "Of a longer payload only the size is written." },
	{ .name = "queue",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "8m",
	    .min = 65536,
	    .max = INT64_C(1) << 34,
	    .help = "Memory for events that wait to be written." },
	SELECT_ROW_SAMPLE,
	SELECT_ROW_SAMPLE_BY,
	{ .name = "syslog_ident",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "grapneld",
	    .help = "Name in front of each line, at most 48 bytes." },
	{ .name = "syslog_socket",
	    .type = GRAPNEL_OPTION_STRING,
	    .default_value = "/dev/log",
	    .help = "Path of the datagram socket where the system's logger listens." },
	{ .name = "target",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "file",
	    .choices = "file|stdout|syslog|none",
	    .help = "Where the lines go; none: nowhere but to MQTT." },
	SELECT_ROW_TOPICS,
	SELECT_ROW_USERS,
	{ .name = "when_full",
	    .type = GRAPNEL_OPTION_ENUM,
	    .default_value = "drop",
	    .choices = "drop|stop_publishers",
	    .help = "With a full queue: events are lost and a line says how many, or publishers "
		    "wait." },
	{ .name = NULL },
};

struct event_log {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	struct selection *selection;
	char *path, *ident;
	size_t payload_max;
	uint32_t flush_timeout_ms;
	bool publish, stop_publishers;
	struct backlog backlog;
	struct writer writer;
	bool backlog_made, writer_made;
	_Atomic uint32_t workers; /* that run */
	_Atomic uint64_t said_full_ms;
	_Atomic bool *waiting; /* of each worker: it has events that did not fit */
};

#define SAY_FULL_MS 60000u
#define ALL_EVENTS  (GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1)

static bool
is(struct grapnel_str s, const char *word)
{
	return s.data != NULL && s.len == strlen(word) && memcmp(s.data, word, s.len) == 0;
}

/* ---- events --------------------------------------------------------------------------------------- */

static bool
wanted(const struct event_log *e, const struct grapnel_event *ev)
{
	static const char ours[] = "$SYS/events/";

	/* What we publish must not make us publish, whatever `topics` says. */
	if (e->publish && ev->message != NULL && ev->message->topic_name.len >= sizeof(ours) - 1 &&
	    memcmp(ev->message->topic_name.data, ours, sizeof(ours) - 1) == 0)
		return false;
	return select_wants(e->selection, ev);
}

static void
say_full(struct event_log *e)
{
	uint64_t now = e->host->now_ms(), before = atomic_load(&e->said_full_ms);

	if (before != 0 && now - before < SAY_FULL_MS)
		return;
	if (atomic_compare_exchange_strong(&e->said_full_ms, &before, now))
		e->host->log(e->self, GRAPNEL_LOG_WARNING,
		    "events are lost: they come faster than they are written, and the queue is "
		    "full; "
		    "choose fewer (events, topics, sample), or raise queue");
}

static void
miss(struct missed *missed, const struct grapnel_event *ev)
{
	if (missed->count++ > 0)
		return;
	missed->id = ev->id;
	missed->time_us = ev->time_us;
}

/* A chunk that others were quicker than: all of it is missed, and what was missed behind it. */
static void
miss_chunk(struct chunk *c, struct missed *missed)
{
	struct record_view view;
	uint64_t behind = missed->count;

	if (record_read(&view, c->bytes, c->len) > 0) {
		missed->count = 0;
		miss(missed, &view.event);
	}
	missed->count = behind + c->count;
	chunk_free(c);
}

/* chunk may be NULL. false: there is no room, and publishers are to wait for it. */
static bool
hand_over(struct event_log *e, struct chunk *chunk, struct missed *missed)
{
	const struct writer_metrics *m = &e->writer.metrics;
	int64_t size = 0;
	bool began;

	if (chunk != NULL) {
		chunk_trim(chunk); /* what counts is what it has taken */
		size = (int64_t)chunk->capacity;
	}
	e->host->metric_add(e->self, m->backlog_bytes, size);
	if (!backlog_push(&e->backlog, chunk, missed, &began)) {
		e->host->metric_add(e->self, m->backlog_bytes, -size);
		if (e->stop_publishers) {
			chunk_free(chunk);
			return false;
		}
		miss_chunk(chunk, missed);
		(void)backlog_push(&e->backlog, NULL, missed, &began);
	}
	e->host->metric_add(e->self, m->lost, (int64_t)missed->count);
	if (began)
		say_full(e);
	return true;
}

/* Into the chunk, when the backlog has room for it. One goes in however long it is when all else is written. */
static bool
keep(struct event_log *e, struct chunk **chunk, const struct grapnel_event *ev, size_t room)
{
	size_t len = *chunk != NULL ? (*chunk)->len : 0;

	if (len + record_size(ev, e->payload_max) > room && (len > 0 || room < e->backlog.limit))
		return false;
	return chunk_add(chunk, ev, e->payload_max);
}

static size_t
event_log_on_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct event_log *e = instance;
	size_t room = backlog_room(&e->backlog), taken;
	struct chunk *chunk = NULL;
	struct missed missed = { 0 };
	int worker;

	for (taken = 0; taken < count; taken++) {
		const struct grapnel_event *ev = events[taken];

		if (!wanted(e, ev) || (missed.count == 0 && keep(e, &chunk, ev, room)))
			continue;
		if (e->stop_publishers)
			break;
		miss(&missed, ev);
	}
	if ((chunk != NULL || missed.count > 0) && !hand_over(e, chunk, &missed))
		taken = 0;
	if (taken < count && (worker = e->host->this_worker()) >= 0)
		atomic_store(&e->waiting[worker], true);
	return taken;
}

static void
resume(void *arg)
{
	struct event_log *e = arg;

	e->host->events_resume(e->self);
}

/* Whoever is missed here is offered its events again after 100 ms. */
static void
on_room(void *arg)
{
	struct event_log *e = arg;

	for (unsigned i = 0; e->stop_publishers && i < e->host->workers; i++)
		if (atomic_exchange(&e->waiting[i], false))
			(void)e->host->post(e->self, i, resume, e);
}

/* ---- options --------------------------------------------------------------------------------------- */

static struct grapnel_str
option(const struct event_log *e, const char *name)
{
	return e->host->option_str(e->self, NULL, name);
}

/* A C string of an option; NULL: it is not given, and that was said, or there is no memory. */
static char *
option_copy(const struct event_log *e, const char *name)
{
	struct grapnel_str s = option(e, name);

	if (s.data == NULL || s.len == 0) {
		e->host->config_error(e->self, NULL, name, "target = %.*s needs it; set %s",
		    (int)option(e, "target").len, option(e, "target").data, name);
		return NULL;
	}
	return strndup(s.data, s.len);
}

/* Options that say something about what does not happen are mistakes. */
static bool
check_use(const struct event_log *e, enum sink_kind kind)
{
	static const struct {
		const char *name;
		enum sink_kind kind;
	} of_target[] = { { "file", SINK_FILE }, { "keep", SINK_FILE }, { "max_size", SINK_FILE },
		{ "syslog_ident", SINK_SYSLOG }, { "syslog_socket", SINK_SYSLOG } };
	struct grapnel_str target = option(e, "target");
	bool good = true;

	for (size_t i = 0; i < sizeof(of_target) / sizeof(of_target[0]); i++) {
		if (of_target[i].kind == kind ||
		    !e->host->option_given(e->self, NULL, of_target[i].name))
			continue;
		e->host->config_error(e->self, NULL, of_target[i].name,
		    "it is of no use with target = %.*s; leave it out", (int)target.len,
		    target.data);
		good = false;
	}
	if (!e->publish && e->host->option_given(e->self, NULL, "mqtt_qos")) {
		e->host->config_error(
		    e->self, NULL, "mqtt_qos", "it is of no use without mqtt = yes; leave it out");
		good = false;
	}
	if (kind == SINK_NONE && !e->publish) {
		e->host->config_error(e->self, NULL, "target",
		    "there is nothing to do with target = none; set mqtt = yes, or a target");
		good = false;
	}
	return good;
}

static bool
read_sink(struct event_log *e)
{
	struct grapnel_str target = option(e, "target");
	enum sink_kind kind = is(target, "file") ? SINK_FILE
	    : is(target, "stdout")               ? SINK_STDOUT
	    : is(target, "syslog")               ? SINK_SYSLOG
						 : SINK_NONE;
	struct sink *s = &e->writer.sink;

	sink_init(s, kind);
	if (!check_use(e, kind))
		return false;
	if (kind == SINK_FILE && (e->path = option_copy(e, "file")) == NULL)
		return false;
	if (kind == SINK_SYSLOG &&
	    ((e->path = option_copy(e, "syslog_socket")) == NULL ||
		(e->ident = option_copy(e, "syslog_ident")) == NULL))
		return false;
	s->path = e->path;
	s->ident = e->ident;
	s->max_size = (uint64_t)e->host->option_int(e->self, NULL, "max_size");
	s->keep = (unsigned)e->host->option_int(e->self, NULL, "keep");
	if (sink_check(s))
		return true;
	e->host->config_error(e->self, NULL,
	    kind == SINK_FILE         ? "file"
		: kind == SINK_SYSLOG ? "syslog_socket"
				      : "target",
	    "%s", s->trouble);
	return false;
}

static void
read_options(struct event_log *e)
{
	const struct grapnel_host *host = e->host;
	struct grapnel_str payload = option(e, "payload");

	e->writer.payload = is(payload, "base64") ? PAYLOAD_BASE64
	    : is(payload, "none")                 ? PAYLOAD_NONE
						  : PAYLOAD_AUTO;
	e->payload_max = e->writer.payload == PAYLOAD_NONE
	    ? 0
	    : (size_t)host->option_int(e->self, NULL, "payload_max");
	e->publish = e->writer.publish = host->option_bool(e->self, NULL, "mqtt");
	e->writer.publish_qos = (uint8_t)host->option_int(e->self, NULL, "mqtt_qos");
	e->flush_timeout_ms = (uint32_t)host->option_int(e->self, NULL, "flush_timeout");
	e->stop_publishers = is(option(e, "when_full"), "stop_publishers");
}

static void
make_metrics(struct event_log *e)
{
	struct writer_metrics *m = &e->writer.metrics;
	const struct grapnel_host *host = e->host;

	m->lines = host->metric_new(
	    e->self, GRAPNEL_COUNTER, "lines_total", "Lines written, or made for MQTT alone.");
	m->lost = host->metric_new(
	    e->self, GRAPNEL_COUNTER, "lost_total", "Events that were wanted and not written.");
	m->errors = host->metric_new(e->self, GRAPNEL_COUNTER, "errors_total",
	    "Times that writing, or publishing a line, failed.");
	m->published = host->metric_new(
	    e->self, GRAPNEL_COUNTER, "published_total", "Lines published to $SYS/events/.");
	m->backlog_bytes = host->metric_new(
	    e->self, GRAPNEL_GAUGE, "queue_bytes", "Memory of events that wait to be written.");
}

/* ---- life ------------------------------------------------------------------------------------------ */

static void
event_log_free(struct event_log *e)
{
	if (e->writer_made)
		writer_fini(&e->writer);
	if (e->backlog_made)
		backlog_fini(&e->backlog);
	select_free(e->selection);
	free(e->path);
	free(e->ident);
	free((void *)e->waiting);
	free(e);
}

static void
on_abandoned(void *owner)
{
	event_log_free(owner);
}

/* A thread that hangs in a call of the system may come back at any time: what it returns to must stay. */
static void
stay_for_good(const struct grapnel_host *host, const struct grapnel_instance *self)
{
	Dl_info here;

	host->log(self, GRAPNEL_LOG_ERROR,
	    "its thread hangs in a call of the system that does not return (a disk, a network file "
	    "system?); it is left as it is, with what it has in memory");
	if (dladdr((const void *)&event_log_options, &here) != 0)
		(void)dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static void
event_log_destroy(void *instance)
{
	struct event_log *e = instance;
	const struct grapnel_host *host = e->host;
	const struct grapnel_instance *self = e->self;

	backlog_stop(&e->backlog, e->flush_timeout_ms);
	if (writer_end(&e->writer))
		event_log_free(e);
	else
		stay_for_good(host, self);
}

static int
event_log_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct event_log *e = calloc(1, sizeof(*e));
	int err = GRAPNEL_EINVAL;

	if (e == NULL)
		return GRAPNEL_ENOMEM;
	e->host = e->writer.host = host;
	e->self = e->writer.self = self;
	e->writer.backlog = &e->backlog;
	e->writer.on_room = on_room;
	e->writer.on_abandoned = on_abandoned;
	e->writer.owner = e;
	read_options(e);
	e->selection = select_new(host, self, NULL, ALL_EVENTS, "event-log");
	if (!read_sink(e) || e->selection == NULL)
		goto fail;
	err = GRAPNEL_ENOMEM;
	e->waiting = calloc(host->workers, sizeof(*e->waiting));
	e->backlog_made = backlog_init(&e->backlog, (size_t)host->option_int(self, NULL, "queue"));
	e->writer_made = writer_init(&e->writer);
	if (e->waiting == NULL || !e->backlog_made || !e->writer_made)
		goto fail;
	make_metrics(e);
	if ((err = host->events_select(self, select_mask(e->selection))) != GRAPNEL_OK)
		goto fail;
	*instance = e;
	return GRAPNEL_OK;
fail:
	if (!e->writer_made)
		sink_close(&e->writer.sink);
	event_log_free(e);
	return err;
}

/* Not before: create() is also called to check a configuration. */
static int
event_log_worker_start(void *instance, unsigned worker)
{
	struct event_log *e = instance;

	atomic_fetch_add(&e->workers, 1);
	return worker == 0 ? writer_start(&e->writer) : GRAPNEL_OK;
}

/* The last one has had its last event: the writer can come to its end while the others leave. */
static void
event_log_worker_stop(void *instance, unsigned worker)
{
	struct event_log *e = instance;

	(void)worker;
	if (atomic_fetch_sub(&e->workers, 1) == 1)
		backlog_stop(&e->backlog, e->flush_timeout_ms);
}

GRAPNEL_PLUGIN(event_log, .version = PLUGIN_VERSION, .license = "Apache-2.0",
    .description =
	"Writes events as lines of JSON to a file, stdout or syslog, and to $SYS/events/.",
    .options = event_log_options, .create = event_log_create, .destroy = event_log_destroy,
    .worker_start = event_log_worker_start, .worker_stop = event_log_worker_stop,
    .event_mode = GRAPNEL_EVENTS_LOSSLESS, .on_events = event_log_on_events);
