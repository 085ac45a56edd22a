/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane - events that must stay in order: one request at a time, the next one when it has been answered
 *
 * A request that fails is repeated as it was. One that is refused (4xx) is sent again in halves, until the event that is
 * refused stands alone: that one becomes a dead letter, and the rest goes on.
 */
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_MS    100u /* when memory is short */
#define BYTES_LEAST 1024u

/* ---- items ----------------------------------------------------------------------------------- */

uint64_t
order_key(const struct endpoint *e, const struct record_view *v)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	struct grapnel_str key = { NULL, 0 };

	if (e->order_by == ORDER_TOTAL)
		return 0;
	if (e->order_by == ORDER_NONE)
		return v->event.id.sequence;
	if (e->order_by == ORDER_TOPIC && v->event.message != NULL)
		key = v->message.topic_name;
	else if (v->event.client != NULL)
		key = v->client.client_id;
	for (size_t i = 0; i < key.len; i++)
		hash = (hash ^ (unsigned char)key.data[i]) * UINT64_C(0x100000001b3);
	return hash ^ hash >> 32;
}

void
lane_add(struct lane *l, struct item *it)
{
	it->next = NULL;
	if (l->last != NULL)
		l->last->next = it;
	else
		l->first = it;
	l->last = it;
	l->count++;
}

void
lane_parcel_end(struct parcel *p)
{
	struct endpoint *e = p->e;

	if (p->prev != NULL)
		p->prev->next = p->next;
	else
		e->parcels = p->next;
	if (p->next != NULL)
		p->next->prev = p->prev;
	(void)pthread_mutex_lock(&e->w->lock);
	queue_done(p);
	(void)pthread_mutex_unlock(&e->w->lock);
}

/* The first n are done. */
static void
lane_drop(struct lane *l, uint32_t n)
{
	while (n-- > 0) {
		struct item *it = l->first;
		struct parcel *p = it->parcel;

		l->first = it->next;
		if (l->first == NULL)
			l->last = NULL;
		l->count--;
		if (--p->left == 0)
			lane_parcel_end(p);
	}
}

/* What is older than max_age is not sent any more. */
static void
lane_expire(struct lane *l)
{
	struct endpoint *e = l->e;
	struct record_view v;
	int64_t before;
	uint32_t n = 0;

	if (e->max_age_us == 0)
		return;
	before = e->w->host->wall_us() - e->max_age_us;
	while (l->first != NULL && l->first->parcel->chunk->oldest_us < before &&
	    record_read(&v, l->first->parcel->chunk->bytes + l->first->at, l->first->len) > 0 &&
	    v.event.time_us < before) {
		lane_drop(l, 1);
		n++;
	}
	if (n == 0)
		return;
	l->sent = l->sent > n ? l->sent - n : 0;
	if (l->sent == 0)
		l->attempts = 0;
	l->careful = l->careful > n ? l->careful - n : 0;
	(void)pthread_mutex_lock(&e->w->lock);
	queue_lose(e, LOST_OLD, n);
	(void)pthread_mutex_unlock(&e->w->lock);
}

/* ---- answers --------------------------------------------------------------------------------- */

/* NULL: no memory. */
static struct dead *
dead_new(struct endpoint *e, const struct item *it, const struct curl_answer *answer)
{
	struct grapnel_str response = answer->body;
	struct dead *d = calloc(1, sizeof(*d));
	struct record_view v;

	if (d == NULL || (d->record = malloc(it->len)) == NULL) {
		free(d);
		return NULL;
	}
	d->e = e;
	d->record_len = it->len;
	memcpy(d->record, it->parcel->chunk->bytes + it->at, it->len);
	d->status = answer->status;
	if (response.len == 0)
		response = (struct grapnel_str){ answer->error, strlen(answer->error) };
	for (size_t i = 0; i < response.len && i < RESPONSE_KEPT; i++)
		d->response[i] = response.data[i] != '\0' ? response.data[i] : ' ';
	if (record_read(&v, d->record, d->record_len) > 0)
		event_id_text(d->id, &v.event.id);
	return d;
}

/* Under the lock. From then on it is the keeper's. false: too many wait for the disk. */
static bool
dead_push(struct endpoint *e, struct dead *d)
{
	struct webhook *w = e->w;

	if (e->dead_waiting >= e->dead_letters ||
	    (e->dead_waiting > 0 && e->dead_waiting_bytes + DEAD_COST(d) > DEAD_MUCH(e)))
		return false;
	if (w->dead_last != NULL)
		w->dead_last->next = d;
	else
		w->dead = d;
	w->dead_last = d;
	e->dead_waiting++;
	e->dead_waiting_bytes += DEAD_COST(d);
	keeper_call(w);
	return true;
}

/* false: it is lost, and that is counted. */
static bool
dead_keep(struct endpoint *e, const struct item *it, const struct curl_answer *answer)
{
	struct dead *d = dead_new(e, it, answer);
	bool kept;

	(void)pthread_mutex_lock(&e->w->lock);
	kept = d != NULL && dead_push(e, d);
	if (!kept)
		queue_lose(e, d != NULL ? LOST_FULL : LOST_MEMORY, 1);
	(void)pthread_mutex_unlock(&e->w->lock);
	if (!kept && d != NULL)
		free(d->record);
	if (!kept)
		free(d);
	return kept;
}

static void
bury(struct lane *l, const struct curl_answer *answer)
{
	struct endpoint *e = l->e;
	struct webhook *w = e->w;
	const struct item *it = l->first;
	char id[EVENT_ID_SIZE] = "";
	struct record_view v;

	if (e->dead_letters > 0 && !dead_keep(e, it, answer))
		return;
	if (record_read(&v, it->parcel->chunk->bytes + it->at, it->len) > 0)
		event_id_text(id, &v.event.id);
	w->host->metric_add(w->self, w->m.dead, 1);
	if (w->host->now_ms() < e->dead_log_ms)
		return;
	e->dead_log_ms = w->host->now_ms() + LOG_AGAIN_MS;
	if (e->dead_letters == 0)
		w->host->log(w->self, GRAPNEL_LOG_WARNING,
		    "endpoint \"%s\": event %s was refused with status %ld and is thrown away, as "
		    "dead_letters = 0 says",
		    e->name, id, answer->status);
	else
		w->host->log(w->self, GRAPNEL_LOG_WARNING,
		    "endpoint \"%s\": event %s was refused with status %ld and is a dead letter "
		    "now; "
		    "see \"grapnelctl webhook dead-letters %s\"",
		    e->name, id, answer->status, e->name);
}

static void
went_through(struct lane *l)
{
	struct endpoint *e = l->e;
	struct webhook *w = e->w;
	uint32_t n = l->sent;

	(void)pthread_mutex_lock(&w->lock);
	e->delivered += n;
	e->delivered_us = w->host->wall_us();
	(void)pthread_mutex_unlock(&w->lock);
	w->host->metric_add(w->self, w->m.delivered, n);
	if (e->complained)
		w->host->log(w->self, GRAPNEL_LOG_NOTICE, "endpoint \"%s\": %s takes events again",
		    e->name, curl_target_name(l->url->target));
	e->complained = false;
	if (e->most_bytes < e->batch_bytes)
		e->most_bytes += e->most_bytes / 16 + 1;
	if (e->most_bytes > e->batch_bytes)
		e->most_bytes = e->batch_bytes;
	l->careful = l->careful > n ? l->careful - n : 0;
	if (l->most < l->careful)
		l->most *= 2; /* others of them may be as bad, but few are */
	l->sent = 0;
	l->attempts = 0;
	lane_drop(l, n);
	queue_tell_gap(e);
}

static void
was_refused(struct lane *l, const struct curl_answer *answer)
{
	struct endpoint *e = l->e;

	if (answer->status == 413 && l->sent > 1 && l->body_len / 2 >= BYTES_LEAST)
		e->most_bytes = l->body_len / 2;
	l->attempts = 0;
	if (l->sent > 1) {
		if (l->careful == 0)
			l->careful = l->sent;
		l->most = l->sent / 2;
		l->sent = 0;
		return;
	}
	bury(l, answer);
	l->careful = l->careful > 1 ? l->careful - 1 : 0;
	l->sent = 0;
	lane_drop(l, 1);
}

static bool
is_refusal(long status)
{
	return status >= 400 && status < 500 && status != 408 && status != 425 && status != 429;
}

static void
describe(char out[ERROR_SIZE], const struct curl_answer *answer)
{
	if (answer->err != GRAPNEL_OK)
		(void)snprintf(out, ERROR_SIZE, "%s", answer->error);
	else if (answer->status >= 300 && answer->status < 400)
		(void)snprintf(out, ERROR_SIZE,
		    "status %ld: it sends elsewhere, which is not followed (redirects)",
		    answer->status);
	else
		(void)snprintf(out, ERROR_SIZE, "status %ld", answer->status);
}

static void
on_answer(void *arg, const struct curl_answer *answer)
{
	struct lane *l = arg;
	struct endpoint *e = l->e;
	char error[ERROR_SIZE];
	bool refused;

	l->call = NULL;
	if (answer->err == GRAPNEL_ECANCELED) {
		l->url->probing = false;
		return;
	}
	/* Once the status is there the body does not matter, however long it would be. */
	if (answer->status >= 200 && answer->status < 300) {
		url_answered(e, l->url, answer->status, "");
		went_through(l);
		sender_pump(e);
		return;
	}
	describe(error, answer);
	refused = is_refusal(answer->status);
	if (!refused) {
		url_failed(e, l->url, answer->retry_after_ms, answer->status, error);
		l->attempts++;
	} else {
		url_answered(e, l->url, answer->status, error);
	}
	if (refused || (e->max_attempts > 0 && l->attempts >= e->max_attempts))
		was_refused(l, answer);
	sender_pump(e);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* How many events may the next request have? 0: more are waited for, until *again_ms. */
static uint32_t
how_many(const struct lane *l, uint64_t now_ms, uint64_t *again_ms)
{
	const struct endpoint *e = l->e;
	uint32_t most = e->batch_events;

	if (l->sent > 0)
		return l->sent;
	if (l->careful > 0)
		return l->most < l->careful ? l->most : l->careful;
	*again_ms = l->first->parcel->since_ms + e->batch_time_ms;
	return l->count >= most || now_ms >= *again_ms ? most : 0;
}

uint64_t
lane_go(struct lane *l, uint64_t now_ms)
{
	struct endpoint *e = l->e;
	uint64_t again_ms = UINT64_MAX;
	struct request r;
	uint32_t most;

	if (l->call != NULL || atomic_load_explicit(&e->paused, memory_order_relaxed))
		return UINT64_MAX;
	lane_expire(l);
	if (l->first == NULL)
		return UINT64_MAX;
	if ((most = how_many(l, now_ms, &again_ms)) == 0)
		return again_ms;
	l->url = url_pick(e, now_ms);
	if (l->url == NULL)
		return url_next_ms(e);
	if (request_make(l, most, &r)) {
		l->sent = r.events;
		l->body_len = r.body.len;
		l->call = request_send(e, l->url, &r, on_answer, l);
		request_free(&r);
	}
	if (l->call == NULL) {
		l->url->probing = false;
		return now_ms + AGAIN_MS;
	}
	(void)pthread_mutex_lock(&e->w->lock);
	e->requests++;
	(void)pthread_mutex_unlock(&e->w->lock);
	e->w->host->metric_add(e->w->self, e->w->m.requests, 1);
	return UINT64_MAX;
}
