/* SPDX-License-Identifier: Apache-2.0 */
#include "writer.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define IDLE_MS  1000u /* how often the file is looked at when there is nothing to write */
#define RETRY_MS 1000u
#define LATER_MS 10u
#define END_MS   1000u /* behind the backlog's deadline; then the thread hangs */

bool
writer_init(struct writer *w)
{
	pthread_condattr_t attr;
	bool good;

	if (pthread_mutex_init(&w->lock, NULL) != 0)
		return false;
	good = pthread_condattr_init(&attr) == 0;
	if (good) {
		good = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
		    pthread_cond_init(&w->changed, &attr) == 0;
		(void)pthread_condattr_destroy(&attr);
	}
	if (!good)
		(void)pthread_mutex_destroy(&w->lock);
	return good;
}

void
writer_fini(struct writer *w)
{
	sink_close(&w->sink);
	text_free(&w->text);
	(void)pthread_cond_destroy(&w->changed);
	(void)pthread_mutex_destroy(&w->lock);
}

/* ---- calls that may hang -------------------------------------------------------------------------- */

static void
call_begins(struct writer *w)
{
	(void)pthread_mutex_lock(&w->lock);
	w->in_call = true;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

/* false: it took too long, and the instance is gone; go at once. */
static bool
call_is_over(struct writer *w)
{
	bool abandoned;

	(void)pthread_mutex_lock(&w->lock);
	w->in_call = false;
	abandoned = w->abandoned;
	(void)pthread_mutex_unlock(&w->lock);
	return !abandoned;
}

/* ---- trouble --------------------------------------------------------------------------------------- */

static void
lose(struct writer *w, uint64_t lines)
{
	w->host->metric_add(w->self, w->metrics.lost, (int64_t)lines);
}

/* What a try came to: an error is said once, and its end, too. */
static void
report(struct writer *w, enum sink_result r)
{
	struct sink *s = &w->sink;

	if (s->warning[0] != '\0') {
		w->host->log(w->self, GRAPNEL_LOG_WARNING, "%s", s->warning);
		s->warning[0] = '\0';
	}
	if (s->skipped > 0) {
		w->host->metric_add(w->self, w->metrics.lost, (int64_t)s->skipped);
		s->skipped = 0;
	}
	if (r == SINK_TROUBLE) {
		w->host->metric_add(w->self, w->metrics.errors, 1);
		if (!w->failing)
			w->host->log(w->self, GRAPNEL_LOG_ERROR,
			    "%s; tried again each second, events wait meanwhile", s->trouble);
		w->failing = true;
	} else if (r == SINK_DONE && w->failing) {
		w->failing = false;
		w->host->log(w->self, GRAPNEL_LOG_NOTICE, "events are written again");
	}
}

/* ---- lines ----------------------------------------------------------------------------------------- */

/* Write what is in text. false: the instance is gone. */
static bool
flush(struct writer *w)
{
	size_t done = 0;
	enum sink_result r = SINK_DONE;

	w->late = w->late || backlog_late(w->backlog);
	if (w->text.len > 0 && !w->late) {
		do {
			call_begins(w);
			r = sink_write(&w->sink, w->text.data, w->text.len, &done);
			if (!call_is_over(w))
				return false;
			report(w, r);
		} while (r != SINK_DONE &&
		    backlog_pause(w->backlog, r == SINK_LATER ? LATER_MS : RETRY_MS));
	}
	if (r != SINK_DONE)
		w->late = true; /* the time to end has come */
	if (w->late) {
		lose(w, w->lines);
		w->late_lines += w->lines;
	} else
		w->host->metric_add(w->self, w->metrics.lines, (int64_t)w->lines);
	w->lines = 0;
	text_clear(&w->text);
	return true;
}

static void
publish(struct writer *w, const struct grapnel_event *ev, struct grapnel_str line)
{
	char topic[64];
	struct grapnel_publication p = { .size = sizeof(p),
		.topic_name = { topic, 0 },
		.payload = line,
		.qos = w->publish_qos };

	p.topic_name.len =
	    (size_t)snprintf(topic, sizeof(topic), "$SYS/events/%s", event_name(ev->type));
	if (w->host->publish(w->self, &p) == GRAPNEL_OK)
		w->host->metric_add(w->self, w->metrics.published, 1);
	else
		w->host->metric_add(w->self, w->metrics.errors, 1);
}

/* The line of w->view. false: the instance is gone. */
static bool
put_line(struct writer *w)
{
	size_t start = w->text.len;

	event_line(&w->text, &w->view, w->payload);
	if (w->publish && !w->text.failed)
		publish(w, &w->view.event,
		    (struct grapnel_str){ w->text.data + start, w->text.len - start });
	text_char(&w->text, '\n');
	if (w->text.failed) { /* no memory: what stands before it is lost with it */
		lose(w, w->lines + 1);
		w->lines = 0;
		text_free(&w->text);
		return true;
	}
	w->lines++;
	return w->text.len < WRITER_PIECE || flush(w);
}

static bool
put_missed(struct writer *w, const struct missed *missed)
{
	w->view.event = (struct grapnel_event){ .size = sizeof(w->view.event),
		.type = GRAPNEL_EVENT_GAP,
		.id = missed->id,
		.time_us = missed->time_us,
		.lost = missed->count,
		.reason = GRAPNEL_STR("event-log could not write as fast as events came") };
	w->view.payload_size = 0;
	return put_line(w);
}

static bool
put_chunk(struct writer *w, const struct chunk *c)
{
	size_t n;

	for (size_t at = 0; (n = record_read(&w->view, c->bytes + at, c->len - at)) > 0; at += n)
		if (!put_line(w))
			return false;
	return true;
}

/* Their lines are written, or lost. */
static void
release(struct writer *w, size_t bytes)
{
	if (bytes == 0)
		return;
	backlog_done(w->backlog, bytes);
	w->host->metric_add(w->self, w->metrics.backlog_bytes, -(int64_t)bytes);
	w->on_room(w->owner);
}

/* All of it, and to the end. false: the instance is gone. */
static bool
put_all(struct writer *w, struct chunk *c, const struct missed *missed)
{
	size_t held = 0; /* bytes of chunks with lines in text */
	bool good = true;

	while (c != NULL) {
		struct chunk *next = c->next;

		good = good && put_chunk(w, c);
		held += c->capacity;
		chunk_free(c);
		c = next;
		good = good && (w->text.len < WRITER_PIECE / 2 || flush(w));
		if (good && w->lines == 0) {
			release(w, held);
			held = 0;
		}
	}
	if (good && missed->count > 0)
		good = put_missed(w, missed);
	good = good && flush(w);
	if (good)
		release(w, held);
	return good;
}

/* ---- the thread ------------------------------------------------------------------------------------ */

static bool
look_at_file(struct writer *w)
{
	enum sink_result r;

	call_begins(w);
	r = sink_idle(&w->sink);
	if (!call_is_over(w))
		return false;
	report(w, r);
	return true;
}

/* false: the instance is gone. */
static bool
writer_run(struct writer *w)
{
	struct chunk *chunks;
	struct missed missed;

	if (!look_at_file(w))
		return false;
	while (backlog_take(w->backlog, IDLE_MS, &chunks, &missed)) {
		bool idle = chunks == NULL && missed.count == 0;

		if (!(idle ? look_at_file(w) : put_all(w, chunks, &missed)))
			return false;
	}
	if (w->late_lines > 0)
		w->host->log(w->self, GRAPNEL_LOG_ERROR,
		    "%" PRIu64 " events could not be written before the end (flush_timeout)",
		    w->late_lines);
	(void)pthread_mutex_lock(&w->lock);
	w->ended = true;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
	return true;
}

static void *
thread_main(void *arg)
{
	struct writer *w = arg;

	if (!writer_run(w))
		w->on_abandoned(w->owner);
	return NULL;
}

int
writer_start(struct writer *w)
{
	sigset_t all, before;
	int err;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&w->thread, NULL, thread_main, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err != 0) {
		w->host->log(w->self, GRAPNEL_LOG_ERROR,
		    "no thread to write with: %s; raise the limit of threads", strerror(err));
		return GRAPNEL_ESYS;
	}
	(void)pthread_setname_np(w->thread, "event-log");
	w->started = true;
	return GRAPNEL_OK;
}

bool
writer_end(struct writer *w)
{
	uint64_t until = w->backlog->deadline_ms + END_MS;
	struct timespec ts = { .tv_sec = (time_t)(until / 1000),
		.tv_nsec = (long)(until % 1000) * 1000000 };
	pthread_t thread = w->thread; /* *w may be gone when it is given up */
	bool ended, late = false;

	if (!w->started)
		return true;
	(void)pthread_mutex_lock(&w->lock);
	while (!w->ended && !late)
		late = pthread_cond_timedwait(&w->changed, &w->lock, &ts) != 0;
	while (
	    !w->ended && !w->in_call) /* it uses the host between its calls, and is quick there */
		(void)pthread_cond_wait(&w->changed, &w->lock);
	ended = w->ended;
	w->abandoned = !ended;
	(void)pthread_mutex_unlock(&w->lock);
	if (ended)
		(void)pthread_join(thread, NULL);
	else
		(void)pthread_detach(thread);
	return ended;
}
