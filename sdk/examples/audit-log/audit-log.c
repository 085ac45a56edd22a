/* SPDX-License-Identifier: MIT-0 */
/*
 * audit-log - who came, who was refused, who subscribed: a line of JSON each, in a file that is only appended to
 *
 * Workers turn events into lines and put them into a buffer; a thread of our own writes it to the disk, which may be slow. When
 * the buffer is full on_events takes no more, the rest waits in the queue of the host (event_queue), and what does not fit in
 * there comes later as one GAP event: the line that says how much is missing, at the place where it is.
 *
 * Threads:   on_events on all workers; the writer is the only one that touches the file. `lock` is held for a memcpy.
 * Ownership: two buffers, one to be filled, one to be written; they change places.
 * Bounded:   `buffer` bytes twice; LINE_MAX_LEN a line, FIELD_MAX bytes of any text in it.
 */
#include <grapnel/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FIELD_MAX    256u
#define LINE_MAX_LEN 16384u /* eight fields, every byte of them escaped as six */
#define RETRY_S      1

struct buffer {
	char *text;
	size_t len;
};

struct audit {
	const struct grapnel_host *host;
	struct grapnel_instance *self;
	char *path;
	int fd;
	bool sync;
	size_t capacity;
	int metric_lines, metric_lost, metric_errors;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* under lock */
	struct buffer filling;
	bool stopping;
	/* the writer's */
	struct buffer writing;
};

static const char *const names[GRAPNEL_EVENT_COUNT] = {
	[GRAPNEL_EVENT_CLIENT_CONNECTED] = "client_connected",
	[GRAPNEL_EVENT_CLIENT_REFUSED] = "client_refused",
	[GRAPNEL_EVENT_CLIENT_DISCONNECTED] = "client_disconnected",
	[GRAPNEL_EVENT_SESSION_CREATED] = "session_created",
	[GRAPNEL_EVENT_SESSION_RESUMED] = "session_resumed",
	[GRAPNEL_EVENT_SESSION_TAKEN_OVER] = "session_taken_over",
	[GRAPNEL_EVENT_SESSION_EXPIRED] = "session_expired",
	[GRAPNEL_EVENT_SUBSCRIBED] = "subscribed",
	[GRAPNEL_EVENT_UNSUBSCRIBED] = "unsubscribed",
	[GRAPNEL_EVENT_MESSAGE_PUBLISHED] = "message_published",
	[GRAPNEL_EVENT_MESSAGE_DROPPED] = "message_dropped",
	[GRAPNEL_EVENT_WILL_PUBLISHED] = "will_published",
	[GRAPNEL_EVENT_RETAINED_SET] = "retained_set",
	[GRAPNEL_EVENT_RETAINED_CLEARED] = "retained_cleared",
	[GRAPNEL_EVENT_BROKER_STARTING] = "broker_starting",
	[GRAPNEL_EVENT_BROKER_READY] = "broker_ready",
	[GRAPNEL_EVENT_BROKER_STOPPING] = "broker_stopping",
	[GRAPNEL_EVENT_GAP] = "gap",
};

/* ------------------------------------------------------------------------------- lines */

/* MQTT's strings are UTF-8; a long one is cut between two characters. */
static void
put(json_t *line, const char *name, struct grapnel_str s)
{
	size_t len = s.len < FIELD_MAX ? s.len : FIELD_MAX;

	if (s.data == NULL || s.len == 0)
		return;
	while (len < s.len && len > 0 && ((unsigned char)s.data[len] & 0xC0) == 0x80)
		len--;
	(void)json_object_set_new(line, name, json_stringn(s.data, len));
}

static void
put_time(json_t *line, int64_t time_us)
{
	time_t seconds = (time_t)(time_us / 1000000);
	struct tm tm;
	char text[40];
	size_t len;

	if (gmtime_r(&seconds, &tm) == NULL)
		return;
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(text + len, sizeof(text) - len, ".%06dZ", (int)(time_us % 1000000));
	(void)json_object_set_new(line, "time", json_string(text));
}

static void
put_id(json_t *line, const struct grapnel_event_id *id)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%" PRIx64 "-%" PRIx64 "-%" PRIx64, id->node, id->boot,
	    id->sequence);
	(void)json_object_set_new(line, "id", json_string(text));
}

static json_t *
line_of(const struct grapnel_event *ev)
{
	json_t *line = json_object();

	put_time(line, ev->time_us);
	put_id(line, &ev->id);
	(void)json_object_set_new(line, "event",
	    json_string((unsigned)ev->type < GRAPNEL_EVENT_COUNT && names[ev->type] != NULL
		    ? names[ev->type]
		    : "other"));
	if (ev->client != NULL) {
		put(line, "client", ev->client->client_id);
		put(line, "user", ev->client->username);
		put(line, "peer", ev->client->peer);
		put(line, "listener", ev->client->listener);
		put(line, "mountpoint", ev->client->mountpoint);
	}
	if (ev->message != NULL)
		put(line, "topic", ev->message->topic_name);
	put(line, "filter", ev->filter);
	put(line, "reason", ev->reason);
	(void)json_object_set_new(line, "code", json_integer(ev->reason_code));
	if (ev->type == GRAPNEL_EVENT_GAP)
		(void)json_object_set_new(line, "lost", json_integer((json_int_t)ev->lost));
	return line;
}

/* With the newline; 0: no memory. */
static size_t
print_line(const struct grapnel_event *ev, char text[LINE_MAX_LEN])
{
	json_t *line = line_of(ev);
	size_t len = json_dumpb(line, text, LINE_MAX_LEN - 1, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(line);
	if (len == 0 || len >= LINE_MAX_LEN)
		return 0;
	text[len] = '\n';
	return len + 1;
}

/* -------------------------------------------------------------------------- the worker */

static bool
append(struct audit *a, const char *text, size_t len)
{
	bool room;

	pthread_mutex_lock(&a->lock);
	room = a->capacity - a->filling.len >= len;
	if (room) {
		memcpy(a->filling.text + a->filling.len, text, len);
		a->filling.len += len;
		pthread_cond_signal(&a->changed);
	}
	pthread_mutex_unlock(&a->lock);
	return room;
}

static size_t
audit_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct audit *a = instance;
	char text[LINE_MAX_LEN];

	for (size_t i = 0; i < count; i++) {
		size_t len = print_line(events[i], text);

		if (len == 0) /* no memory now: try again later */
			return i;
		if (!append(a, text, len))
			return i; /* the host offers the rest again, at the latest after 100 ms */
		if (events[i]->type == GRAPNEL_EVENT_GAP)
			a->host->metric_add(a->self, a->metric_lost, (int64_t)events[i]->lost);
	}
	return count;
}

/* What the host still holds for this worker is gone with it; let the file say so. */
static void
audit_worker_stop(void *instance, unsigned worker)
{
	struct audit *a = instance;
	struct grapnel_event gap = { .size = sizeof(gap),
		.type = GRAPNEL_EVENT_GAP,
		.time_us = a->host->wall_us(),
		.lost = a->host->events_waiting(a->self),
		.reason = GRAPNEL_STR("not written when the log was closed") };
	char text[LINE_MAX_LEN];
	size_t len;

	if (gap.lost == 0)
		return;
	a->host->metric_add(a->self, a->metric_lost, (int64_t)gap.lost);
	len = print_line(&gap, text);
	if (len == 0 || !append(a, text, len))
		a->host->log(a->self, GRAPNEL_LOG_ERROR, "worker %u: %" PRIu64 " events are lost",
		    worker, gap.lost);
}

/* -------------------------------------------------------------------------- the writer */

static int64_t
lines_in(const char *text, size_t len)
{
	int64_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	return n;
}

/* Waits for something to do. false: it is time to end, and all is written. */
static bool
next_buffer(struct audit *a)
{
	struct buffer empty = a->writing;

	pthread_mutex_lock(&a->lock);
	while (a->filling.len == 0 && !a->stopping)
		pthread_cond_wait(&a->changed, &a->lock);
	a->writing = a->filling;
	a->filling = empty;
	pthread_mutex_unlock(&a->lock);
	return a->writing.len > 0;
}

/* After an error: the disk may have room again. false: it is time to end. */
static bool
pause_writing(struct audit *a)
{
	struct timespec until;
	bool stopping;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += RETRY_S;
	pthread_mutex_lock(&a->lock);
	while (!a->stopping && pthread_cond_timedwait(&a->changed, &a->lock, &until) != ETIMEDOUT)
		;
	stopping = a->stopping;
	pthread_mutex_unlock(&a->lock);
	return !stopping;
}

/* Told once, not with each try. */
static void
failed(struct audit *a, bool *failing)
{
	a->host->metric_add(a->self, a->metric_errors, 1);
	if (!*failing)
		a->host->log(a->self, GRAPNEL_LOG_ERROR, "%s: %s", a->path, strerror(errno));
	*failing = true;
}

/* Goes on behind what was written, so that an error leaves no half a line. false: it is time to end. */
static bool
write_buffer(struct audit *a)
{
	size_t done = 0;
	bool failing = false;

	while (done < a->writing.len) {
		ssize_t n = write(a->fd, a->writing.text + done, a->writing.len - done);

		if (n > 0) {
			a->host->metric_add(
			    a->self, a->metric_lines, lines_in(a->writing.text + done, (size_t)n));
			done += (size_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		failed(a, &failing);
		if (!pause_writing(a)) {
			int64_t lost = lines_in(a->writing.text + done, a->writing.len - done);

			a->host->log(
			    a->self, GRAPNEL_LOG_ERROR, "%" PRId64 " lines are lost", lost);
			return false;
		}
	}
	a->writing.len = 0;
	if (a->sync && fdatasync(a->fd) != 0)
		failed(a, &failing);
	return true;
}

static void *
writer(void *arg)
{
	struct audit *a = arg;

	while (next_buffer(a) && write_buffer(a))
		;
	return NULL;
}

/* Signals are the broker's: its own threads take them. */
static bool
start_writer(struct audit *a)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&a->thread, NULL, writer, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err == 0;
}

/* ------------------------------------------------------------------------ the instance */

static void
audit_free(struct audit *a)
{
	if (a->fd >= 0)
		(void)close(a->fd);
	free(a->filling.text);
	free(a->writing.text);
	free(a->path);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void
audit_destroy(void *instance)
{
	struct audit *a = instance;

	pthread_mutex_lock(&a->lock);
	a->stopping = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	audit_free(a);
}

/* Not blocking: a FIFO at that path would else hold the broker up until somebody reads from it. */
static bool
open_file(struct audit *a)
{
	struct stat st;

	a->fd =
	    open(a->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
	if (a->fd >= 0 && fstat(a->fd, &st) == 0 && S_ISREG(st.st_mode))
		return true;
	a->host->config_error(a->self, NULL, "file", "%s: %s", a->path,
	    a->fd < 0 ? strerror(errno) : "it is no regular file");
	return false;
}

static bool
select_events(struct audit *a)
{
	uint64_t mask = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP);
	struct grapnel_str s;

	for (size_t i = 0; (s = a->host->option_list(a->self, NULL, "events", i)).data != NULL;
	     i++) {
		unsigned t = 0;

		while (t < GRAPNEL_EVENT_COUNT &&
		    (names[t] == NULL || strlen(names[t]) != s.len ||
			memcmp(names[t], s.data, s.len) != 0))
			t++;
		if (t == GRAPNEL_EVENT_COUNT) {
			a->host->config_error(a->self, NULL, "events", "there is no event \"%.*s\"",
			    (int)s.len, s.data);
			return false;
		}
		mask |= GRAPNEL_EVENT_BIT(t);
	}
	return a->host->events_select(a->self, mask) == GRAPNEL_OK;
}

static int
audit_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct audit *a = calloc(1, sizeof(*a));
	struct grapnel_str path = host->option_str(self, NULL, "file");

	if (a == NULL)
		return GRAPNEL_ENOMEM;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	a->host = host;
	a->self = self;
	a->fd = -1;
	a->sync = host->option_bool(self, NULL, "sync");
	a->capacity = (size_t)host->option_int(self, NULL, "buffer");
	a->path = strndup(path.data, path.len);
	a->filling.text = malloc(a->capacity);
	a->writing.text = malloc(a->capacity);
	a->metric_lines = host->metric_new(self, GRAPNEL_COUNTER, "lines_total", "Lines written.");
	a->metric_lost = host->metric_new(
	    self, GRAPNEL_COUNTER, "lost_total", "Events that are missing in the file.");
	a->metric_errors =
	    host->metric_new(self, GRAPNEL_COUNTER, "write_errors_total", "Failed writes.");
	if (a->path == NULL || a->filling.text == NULL || a->writing.text == NULL ||
	    a->metric_lines < 0 || a->metric_lost < 0 || a->metric_errors < 0 ||
	    !select_events(a) || !open_file(a) || !start_writer(a)) {
		audit_free(a);
		return GRAPNEL_EINVAL;
	}
	*instance = a;
	return GRAPNEL_OK;
}

static const struct grapnel_option audit_options[] = {
	{ .name = "buffer",
	    .type = GRAPNEL_OPTION_BYTES,
	    .default_value = "1m",
	    .min = 65536,
	    .max = 1 << 30,
	    .help = "Bytes of lines that wait for the disk; twice that is used." },
	{ .name = "events",
	    .type = GRAPNEL_OPTION_LIST,
	    .default_value = "[client_connected, client_refused, client_disconnected, "
			     "session_taken_over, subscribed, unsubscribed]",
	    .help = "What is written." },
	{ .name = "file",
	    .type = GRAPNEL_OPTION_STRING,
	    .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Where to; made with mode 0640 in a folder that exists." },
	{ .name = "sync",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Whether each write is waited for until it is on the disk." },
	{ .name = NULL },
};

/* reload_always: the new instance opens the path anew, which is what a tool that moves the file away waits for. */
GRAPNEL_PLUGIN(audit_log, .version = "1.0", .license = "MIT-0",
    .description = "Writes who came and what they did to a file", .options = audit_options,
    .create = audit_create, .destroy = audit_destroy, .worker_stop = audit_worker_stop,
    .reload_always = true, .events = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP),
    .event_mode = GRAPNEL_EVENTS_LOSSY, .on_events = audit_events);
