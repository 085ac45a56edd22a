/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retained - the retained messages for a new subscription
 *
 * A walk of the retained index in small portions, as fast as the receiver takes them, so that '#' over a million
 * messages costs bounded memory and holds nobody up. Messages whose authors' rights have changed since are asked
 * about: what a client may not publish any more is not served on.
 */
#include "core/retain.h"
#include "core/session.h"

#include <stdlib.h>
#include <string.h>

#define PORTION       64
#define PORTION_NODES 128
#define CALL_BUDGET   16 /* portions per call: where nothing matches, about a millisecond */
#define QUEUE_ENOUGH  64 /* messages in the queue that make us wait */

#define AUTHOR_RETRY_MS 1000

struct retained_job {
	struct retained_job *next,
	    **link; /* in the session's list, which may be long: one per subscription of a SUBSCRIBE */
	struct session *s;
	struct sub *sub;
	char *filter;
	size_t filter_len;
	struct retain_cursor cursor;
	struct message **batch; /* PORTION of them; NULL until its turn comes */
	unsigned count, at;
	struct grapnel_request *pending; /* about the author of batch[at] */
	bool author_good;                /* of batch[at]: answered just now */
	uint64_t asked_at_ms;            /* the backend was unavailable then; 0: not */
};

struct continue_mail {
	struct mail mail;
	uint64_t generation;
};

void
retained_start(struct session *s, struct sub *sub, struct grapnel_str filter)
{
	struct flow *f = session_flow(s);
	struct retained_job *j;

	retained_stop(sub); /* subscribed again while the last walk was going on: it starts anew */
	if (f == NULL || (j = calloc(1, sizeof(*j))) == NULL) {
		metric_add(&s->w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		return;
	}
	if ((j->filter = malloc(filter.len + 1)) == NULL) {
		free(j);
		metric_add(&s->w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		return;
	}
	memcpy(j->filter, filter.data, filter.len);
	j->filter_len = filter.len;
	j->s = s;
	j->sub = sub;
	sub->job = j;
	j->link = f->retained_end != NULL ? f->retained_end : &f->retained_first;
	*j->link = j;
	f->retained_end = &j->next;
}

static void
job_free(struct retained_job *j)
{
	struct flow *f = j->s->flow;

	j->sub->job = NULL;
	*j->link = j->next;
	if (j->next != NULL)
		j->next->link = j->link;
	else
		f->retained_end = j->link != &f->retained_first ? j->link : NULL;
	hooks_cancel(j->s->w, j->pending);
	for (unsigned i = j->at; i < j->count; i++)
		message_unref(j->batch[i]);
	retain_cursor_clear(&j->cursor);
	free(j->batch);
	free(j->filter);
	free(j);
}

void
retained_stop(struct sub *sub)
{
	if (sub->job != NULL)
		job_free(sub->job);
}

void
retained_clear(struct session *s)
{
	while (s->flow->retained_first != NULL)
		job_free(s->flow->retained_first);
}

static void
collect(struct message *msg, void *arg)
{
	struct retained_job *j = arg;

	j->batch[j->count++] = message_ref(msg);
}

static void
on_continue(struct worker *w, struct mail *m)
{
	struct session *s =
	    session_by_generation(w, ((struct continue_mail *)(void *)m)->generation);

	free(m);
	if (s != NULL)
		deliver_pump(s);
}

static void
continue_later(struct session *s)
{
	struct continue_mail *m = malloc(sizeof(*m));

	if (m == NULL) {
		s->conn->drain_waiting = true;
		return;
	}
	m->mail.fn = on_continue;
	m->generation = session_generation(s);
	worker_post(s->w, &m->mail);
}

/* Nobody could say: neither served nor left out; the pump comes back. */
static void
ask_again(struct retained_job *j)
{
	j->asked_at_ms = j->s->w->now_ms;
	if (!timer_armed(&j->s->flow->retry_timer))
		worker_timer(j->s->w, &j->s->flow->retry_timer, AUTHOR_RETRY_MS);
}

static void
on_author_later(void *arg, const struct decision *d)
{
	struct retained_job *j = arg;
	struct rights_answer a;

	j->pending = NULL;
	rights_from(d, &a);
	if (a.verdict == GRAPNEL_ALLOW)
		j->author_good = true;
	else if (a.verdict == GRAPNEL_UNAVAILABLE)
		ask_again(j);
	else
		message_unref(j->batch[j->at++]);
	deliver_pump(j->s);
}

/* 1: may be served; 0: not any more; -1: the answer comes later. */
static int
author_good(struct retained_job *j, struct message *msg)
{
	struct worker *w = j->s->w;
	uint64_t generation =
	    atomic_load_explicit(&w->broker->rights_generation, memory_order_relaxed);
	struct rights_question q = { .action = GRAPNEL_PUBLISH,
		.qos = msg->qos,
		.retain = true,
		.msg = msg,
		.mounted = true };
	struct rights_answer now;
	size_t skip;

	if (msg->author == NULL || !hook_used(w, HOOK_ACL) || j->author_good ||
	    atomic_load_explicit(&msg->author_checked, memory_order_relaxed) == generation)
		return 1;
	if (j->asked_at_ms != 0 && w->now_ms < j->asked_at_ms + AUTHOR_RETRY_MS) {
		if (!timer_armed(&j->s->flow->retry_timer))
			worker_timer(w, &j->s->flow->retry_timer, AUTHOR_RETRY_MS);
		return -1;
	}
	j->asked_at_ms = 0;
	skip = msg->author->site->mountpoint.len;
	q.topic = (struct grapnel_str){ msg->topic + skip, msg->topic_len - skip };
	if (!rights_ask(w, NULL, msg->author, NULL, &q, on_author_later, j, &now, &j->pending))
		return -1;
	if (now.verdict == GRAPNEL_UNAVAILABLE)
		ask_again(j);
	if (now.verdict != GRAPNEL_ALLOW)
		return now.verdict == GRAPNEL_UNAVAILABLE ? -1 : 0;
	atomic_store_explicit(&msg->author_checked, generation, memory_order_relaxed);
	return 1;
}

/* One message to its receiver. */
static void
serve(struct retained_job *j, struct message *msg)
{
	struct session *s = j->s;
	struct sub *sub = j->sub;
	uint8_t qos = msg->qos < sub->qos ? msg->qos : sub->qos;
	uint8_t flags = ENTRY_RETAIN | ENTRY_RETAINED;

	if (message_expired(msg, s->w->now_ms))
		return;
	if (sub->flags & SUB_WILD_FIRST && msg->topic_len > s->mountpoint_len &&
	    msg->topic[s->mountpoint_len] == '$')
		return;
	if (rights_read_needed(s, sub))
		flags |= ENTRY_CHECK;
	deliver(s, msg, qos, flags, subids_one(sub->id), 0);
}

void
retained_continue(struct session *s)
{
	struct retained_job *j;
	unsigned budget = CALL_BUDGET;

	if (s->pumping || s->flow->retained_first == NULL)
		return;
	s->pumping = true; /* deliver() below must not come back here */
	while ((j = s->flow->retained_first) != NULL && s->conn != NULL && j->pending == NULL) {
		if (s->conn->out_bytes > conn_output_max(s->conn, s->limits) / 4) {
			s->conn->drain_waiting = true;
			break;
		}
		if (s->flow->queue.count >= QUEUE_ENOUGH || s->deciding)
			break; /* an acknowledgement or a decision brings us back */
		if (j->at < j->count) {
			struct message *msg = j->batch[j->at];
			int good = author_good(j, msg);

			if (good < 0)
				break;
			j->author_good = false;
			j->at++;
			if (good > 0)
				serve(j, msg);
			message_unref(msg);
			continue;
		}
		if (j->cursor.done) {
			j->at = j->count = 0;
			job_free(j);
			continue;
		}
		if (budget-- == 0) {
			continue_later(s);
			break;
		}
		j->at = j->count = 0;
		if (j->batch == NULL &&
		    (j->batch = malloc(PORTION * sizeof(struct message *))) == NULL) {
			continue_later(s);
			break;
		}
		if (retain_match(s->w->broker->retain,
			(struct grapnel_str){ j->filter, j->filter_len }, &j->cursor, PORTION,
			PORTION_NODES, collect, j) != GRAPNEL_OK) {
			continue_later(s);
			break;
		}
	}
	s->pumping = false;
	/* What needed a decision went to the queue while pumping was set. */
	if (s->conn != NULL && s->flow->queue.count > 0 && !s->deciding &&
	    !(queue_peek(&s->flow->queue)->flags & ENTRY_ALLOWED))
		continue_later(s);
}
