/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scribe - writes every event as one line of JSON to a file
 *
 *	file = "/tmp/events"	required; appended to
 *	stall = "/tmp/stall"	as long as this file exists no event is taken
 *	only = [message_delivered]	these events instead of all
 *
 * Its queue is lossy; the same source with SCRIBE_LOSSLESS makes scribe-lossless, whose full
 * queue pauses publishers.
 * {"type":"message_published","client":"a","user":"u","topic":"t","payload":"hex","filter":"",
 *  "reason":"","peer":"127.0.0.1:4711","listener":"mqtt","mountpoint":"","code":0,"qos":1,
 *  "lost":0,"present":false,"retain":false,"node":1,"boot":2,"seq":3,"generation":4,"protocol":5,
 *  "worker":0}
 * Strings are escaped as JSON wants it, byte by byte (invalid UTF-8 as it is); the payload is
 * hexadecimal.
 */
#include "match.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct scribe {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	char *stall;
	int fd;
};

static const char *const type_names[GRAPNEL_EVENT_COUNT] = {
	"client_connected",
	"client_refused",
	"client_disconnected",
	"session_created",
	"session_resumed",
	"session_taken_over",
	"session_expired",
	"subscribed",
	"unsubscribed",
	"message_published",
	"message_delivered",
	"message_acknowledged",
	"message_dropped",
	"message_expired",
	"will_published",
	"retained_set",
	"retained_cleared",
	"broker_starting",
	"broker_ready",
	"broker_stopping",
	"gap",
};

static void
put_str(FILE *f, const char *name, struct grapnel_str s)
{
	fprintf(f, ",\"%s\":\"", name);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.data[i];

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (c < 0x20)
			fprintf(f, "\\u%04x", c);
		else
			fputc(c, f);
	}
	fputc('"', f);
}

static void
put_event(FILE *f, const struct grapnel_host *host, const struct grapnel_event *ev)
{
	static const struct grapnel_client_info nobody;
	static const struct grapnel_message_info nothing;
	const struct grapnel_client_info *c = ev->client != NULL ? ev->client : &nobody;
	const struct grapnel_message_info *m = ev->message != NULL ? ev->message : &nothing;

	fprintf(f, "{\"type\":\"%s\"",
	    (unsigned)ev->type < GRAPNEL_EVENT_COUNT ? type_names[ev->type] : "?");
	put_str(f, "client", c->client_id);
	put_str(f, "user", c->username);
	put_str(f, "topic", m->topic_name);
	fprintf(f, ",\"payload\":\"");
	for (size_t i = 0; i < m->payload.len && i < 64; i++)
		fprintf(f, "%02x", (unsigned char)m->payload.data[i]);
	fprintf(f, "\"");
	put_str(f, "filter", ev->filter);
	put_str(f, "reason", ev->reason);
	put_str(f, "peer", c->peer);
	put_str(f, "listener", c->listener);
	put_str(f, "mountpoint", c->mountpoint);
	fprintf(f, ",\"code\":%u,\"qos\":%u,\"lost\":%" PRIu64, ev->reason_code, ev->qos, ev->lost);
	fprintf(f, ",\"present\":%s,\"retain\":%s", ev->session_present ? "true" : "false",
	    m->retain ? "true" : "false");
	fprintf(f, ",\"node\":%" PRIu64 ",\"boot\":%" PRIu64 ",\"seq\":%" PRIu64, ev->id.node,
	    ev->id.boot, ev->id.sequence);
	fprintf(f, ",\"generation\":%" PRIu64 ",\"protocol\":%u,\"worker\":%d}\n",
	    c->session_generation, c->protocol, host->this_worker());
}

static size_t
scribe_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	const struct scribe *s = instance;
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	if (s->stall != NULL && access(s->stall, F_OK) == 0)
		return 0;
	f = open_memstream(&text, &len);
	if (f == NULL)
		return 0;
	for (size_t i = 0; i < count; i++)
		put_event(f, s->host, events[i]);
	/* Good enough for a test. A plugin for operators would write from the offload pool. */
	if (fclose(f) != 0 || write(s->fd, text, len) != (ssize_t)len)
		s->host->log(s->self, GRAPNEL_LOG_ERROR, "writing events failed");
	free(text);
	return count;
}

static void
scribe_destroy(void *instance)
{
	struct scribe *s = instance;

	close(s->fd);
	free(s->stall);
	free(s);
}

static char *
path_of(struct grapnel_str s)
{
	return s.data != NULL ? strndup(s.data, s.len) : NULL;
}

static uint64_t
wanted(const struct grapnel_host *host, const struct grapnel_instance *self)
{
	struct grapnel_str s;
	uint64_t mask = 0;

	for (size_t i = 0; (s = host->option_list(self, NULL, "only", i)).data != NULL; i++) {
		for (unsigned t = 0; t < GRAPNEL_EVENT_COUNT; t++) {
			if (s.len == strlen(type_names[t]) &&
			    memcmp(s.data, type_names[t], s.len) == 0)
				mask |= GRAPNEL_EVENT_BIT(t);
		}
	}
	return mask;
}

static int
scribe_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct scribe *s = calloc(1, sizeof(*s));
	char *path = path_of(host->option_str(self, NULL, "file"));

	if (s == NULL || path == NULL) {
		free(s);
		free(path);
		return GRAPNEL_ENOMEM;
	}
	s->host = host;
	s->self = self;
	s->stall = path_of(host->option_str(self, NULL, "stall"));
	s->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (s->fd < 0) {
		host->config_error(self, NULL, "file", "%s: %s", path, strerror(errno));
		free(path);
		free(s->stall);
		free(s);
		return GRAPNEL_ESYS;
	}
	free(path);
	if (host->option_given(self, NULL, "only"))
		host->events_select(self, wanted(host, self));
	*instance = s;
	return GRAPNEL_OK;
}

static const struct grapnel_option scribe_options[] = { { .name = "file",
							    .type = GRAPNEL_OPTION_STRING,
							    .flags = GRAPNEL_OPTION_REQUIRED,
							    .help =
								"Where the events are written." },
	{ .name = "only",
	    .type = GRAPNEL_OPTION_LIST,
	    .help = "Names of the events that are written; default: all." },
	{ .name = "stall",
	    .type = GRAPNEL_OPTION_STRING,
	    .help = "While this file exists no event is taken." },
	{ 0 } };

GRAPNEL_PLUGIN(scribe, .version = "1.0", .license = "Apache-2.0",
    .description = "Writes events to a file", .options = scribe_options, .create = scribe_create,
    .destroy = scribe_destroy, .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1,
#ifdef SCRIBE_LOSSLESS
    .event_mode = GRAPNEL_EVENTS_LOSSLESS,
#endif
    .on_events = scribe_events, );
