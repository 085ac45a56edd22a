/* SPDX-License-Identifier: Apache-2.0 */
#include "core/durable.h"

#include "base/log.h"
#include "mqtt/topic.h"
#include "store/batch.h"

#include <stdlib.h>
#include <string.h>

#define TICKETS_KEPT  256u
#define RELAXED_BYTES (32u * 1024u * 1024u)
#define REFUSE_BYTES  (16u * 1024u * 1024u) /* of what waits while the store fails */

/* ---- the batch ------------------------------------------------------------------------------ */

static struct store_batch *
batch_of(struct durable_worker *d)
{
	if (d->batch == NULL)
		d->batch = batch_new(d->w);
	return d->batch;
}

static void
want(struct durable_worker *d, enum store_want w)
{
	if (d->want < w)
		d->want = (uint8_t)w;
}

static struct batch_segment *
segment_for(struct durable_worker *d, size_t bytes)
{
	struct store_batch *b = batch_of(d);
	struct batch_segment *seg;

	if (b == NULL)
		return NULL;
	seg = b->last;
	if (seg != NULL && seg->record_count < SEGMENT_RECORDS &&
	    (seg->bytes == 0 || seg->bytes + bytes <= SEGMENT_BYTES))
		return seg;
	return batch_segment_add(b, store_next_segment(d->w->broker->store));
}

/* The segment of an address if it is in the batch that is being collected. */
static struct batch_segment *
segment_here(const struct durable_worker *d, uint64_t number)
{
	struct batch_segment *seg = d->batch != NULL ? d->batch->first : NULL;

	while (seg != NULL && seg->number != number)
		seg = seg->next;
	return seg;
}

static void
on_committed(struct worker *w, struct mail *m)
{
	struct store_batch *b = (struct store_batch *)(void *)m;
	struct durable_worker *d = w->durable;

	d->unwritten -= batch_bytes(b);
	if (b->last != NULL)
		d->committed = b->last->number;
	for (struct batch_segment *seg = b->first; seg != NULL; seg = seg->next) {
		for (uint32_t i = 0; i < seg->record_count; i++) {
			struct ticket *t = seg->records[i].ticket;

			seg->records[i].ticket = NULL;
			if (t != NULL)
				ticket_release(w, t);
		}
	}
	for (size_t i = 0; i < b->ticket_count; i++)
		ticket_release(w, b->tickets[i]);
	b->ticket_count = 0;
	batch_free(b);
	spill_committed(w);
}

/* Rows of sessions that have changed since; what they are now is what counts. */
static void
put_dirty(struct durable_worker *d)
{
	for (uint32_t i = 0; i < d->dirty_count; i++) {
		struct session *s = session_by_generation(d->w, d->dirty[i]);

		if (s != NULL && s->durable)
			durable_session_rows(s);
	}
	d->dirty_count = 0;
}

static void
submit(struct worker *w)
{
	struct durable_worker *d = w->durable;
	struct store_batch *b;

	d->want = d->told = 0;
	if ((d->dirty_count > 0 || d->batch_ticket != NULL) && batch_of(d) == NULL) {
		want(d, STORE_NOW); /* no memory: in the next turn */
		w->again = true;
		return;
	}
	if ((b = d->batch) == NULL)
		return;
	put_dirty(d);
	if (d->batch_ticket != NULL && batch_ticket_add(b, d->batch_ticket))
		d->batch_ticket = NULL;
	if (d->batch_ticket != NULL) { /* no memory: with the next one, in the next turn */
		want(d, STORE_NOW);
		w->again = true;
	}
	if (batch_empty(
		b)) { /* all of it was done with meanwhile; it is used on, if that costs nothing */
		if (b->first != NULL && b->first != b->last) {
			batch_free(b);
			d->batch = NULL;
		}
		return;
	}
	d->batch = NULL;
	d->unwritten += batch_bytes(b);
	b->mail.fn = on_committed;
	store_submit(w->broker->store, b);
}

void
durable_asked(struct worker *w, struct mail *m)
{
	store_ask_taken(w->broker->store, m);
	if (w->durable == NULL)
		return;
	submit(w);
	if (store_state(w->broker->store) == STORE_FAILING)
		gates_uncork(w);
}

void
durable_flush(struct worker *w)
{
	struct durable_worker *d = w->durable;

	if (d == NULL || d->want <= d->told)
		return;
	if (store_want(w->broker->store, w->index, d->want))
		submit(w);
	else
		d->told = d->want;
}

bool
durable_strict(const struct worker *w)
{
	return w->durable != NULL &&
	    store_settings(w->broker->store)->store.durability == DURABLE_STRICT;
}

static bool
topic_in(const struct string_list *filters, struct grapnel_str topic)
{
	for (unsigned i = 0; i < filters->count; i++)
		if (topic_matches(
			(struct grapnel_str){ filters->items[i], strlen(filters->items[i]) },
			topic))
			return true;
	return false;
}

enum durable_mode
durable_mode(const struct worker *w, const struct message *msg)
{
	const struct settings *s;

	if (w->durable == NULL)
		return DURABLE_OFF;
	s = store_settings(w->broker->store);
	if (s->store.strict.count > 0 && topic_in(&s->store.strict, message_topic(msg)))
		return DURABLE_STRICT;
	if (s->store.not_kept.count > 0 && topic_in(&s->store.not_kept, message_topic(msg)))
		return DURABLE_OFF;
	return (enum durable_mode)s->store.durability;
}

/* ---- tickets -------------------------------------------------------------------------------- */

struct ticket *
ticket_new(struct worker *w)
{
	struct durable_worker *d = w->durable;
	struct ticket *t = d->free_tickets;

	if (t != NULL) {
		d->free_tickets = t->free_next;
		d->free_count--;
	} else if ((t = malloc(sizeof(*t))) == NULL) {
		return NULL;
	}
	memset(t, 0, sizeof(*t));
	atomic_init(&t->pending, 1);
	t->worker = w->index;
	return t;
}

void
ticket_free(struct worker *w, struct ticket *t)
{
	struct durable_worker *d = w->durable;

	if (d->free_count == TICKETS_KEPT) {
		free(t);
		return;
	}
	t->free_next = d->free_tickets;
	d->free_tickets = t;
	d->free_count++;
}

static void
ticket_done(struct worker *w, struct ticket *t)
{
	if (t->hold != NULL) {
		hold_done(w, t);
		return;
	}
	gates_done(w, t);
	ticket_free(w, t);
}

static void
on_ticket(struct worker *w, struct mail *m)
{
	ticket_done(w, (struct ticket *)(void *)m);
}

void
ticket_refuse(struct ticket *t)
{
	atomic_store_explicit(&t->refused, true, memory_order_relaxed);
}

bool
ticket_waits(const struct ticket *t)
{
	return atomic_load_explicit(&t->pending, memory_order_acquire) > 1 ||
	    atomic_load_explicit(&t->refused, memory_order_relaxed);
}

void
ticket_take(struct ticket *t)
{
	atomic_fetch_add_explicit(&t->pending, 1, memory_order_relaxed);
}

void
ticket_release(struct worker *w, struct ticket *t)
{
	if (atomic_fetch_sub_explicit(&t->pending, 1, memory_order_acq_rel) != 1)
		return;
	if (t->worker == w->index) {
		ticket_done(w, t);
		return;
	}
	t->mail.fn = on_ticket;
	worker_post(w->broker->workers[t->worker], &t->mail);
}

struct ticket *
durable_batch_ticket(struct worker *w)
{
	struct durable_worker *d = w->durable;

	if (batch_of(d) == NULL)
		return NULL;
	if (d->batch_ticket == NULL)
		d->batch_ticket = ticket_new(w);
	want(d, STORE_NOW);
	return d->batch_ticket;
}

bool
durable_wait_for_batch(struct worker *w, struct ticket *t)
{
	struct durable_worker *d = w->durable;

	if (batch_of(d) == NULL || !batch_ticket_add(d->batch, t))
		return false;
	ticket_take(t);
	want(d, STORE_NOW);
	return true;
}

struct ticket *
durable_routing_ticket(struct worker *w)
{
	struct durable_worker *d = w->durable;

	if (d == NULL || !d->routing_waits)
		return NULL;
	if (d->routing == NULL)
		d->routing = ticket_new(w);
	return d->routing;
}

void
durable_routing_for(struct worker *w, struct ticket *t)
{
	w->durable->routing = t;
	w->durable->routing_waits = true;
}

void
durable_routing_done(struct worker *w, struct ticket *t)
{
	w->durable->unit = NULL;
	(void)durable_route_end(w);
	ticket_release(w, t);
}

/* ---- messages ------------------------------------------------------------------------------------ */

bool
durable_refuse(struct worker *w)
{
	struct ticket *t = durable_routing_ticket(w);

	if (t != NULL)
		ticket_refuse(t);
	return t != NULL;
}

/* Nobody could keep it now: its publisher is told, if there is one. */
static bool
refuse(struct durable_worker *d, const struct entry *e)
{
	unsigned suppressed;

	metric_add(&d->w->metrics, METRIC_STORE_REFUSED, 1);
	if (log_allowed("store_refused", &suppressed))
		log_at(GRAPNEL_LOG_WARNING, "store_refused",
		    "store: message to \"%.*s\" cannot be kept for a client that is not there: "
		    "the store is %s",
		    STR(message_topic(e->msg)),
		    store_state(d->w->broker->store) == STORE_FULL ? "at max_bytes" : "failing");
	return durable_refuse(d->w); /* else nobody can be told: it is kept in memory */
}

static struct batch_record *
record_new(struct durable_worker *d, struct batch_segment *seg, struct message *msg,
    enum durable_mode mode)
{
	struct batch_record *rec = batch_record_add(seg);

	if (rec == NULL)
		return NULL;
	rec->msg = message_ref(msg);
	rec->first = seg->receiver_count;
	if (d->routing != NULL) {
		rec->origin = d->routing->origin;
		rec->origin_number = d->routing->origin_number;
	}
	seg->bytes += message_size(msg);
	seg->alive++;
	/* Relaxed publishers that are faster than the disk wait for it, too: what is to be written is in memory until then. */
	if ((mode == DURABLE_STRICT || d->unwritten > RELAXED_BYTES) &&
	    durable_routing_ticket(d->w) != NULL) {
		rec->ticket = d->routing;
		ticket_take(rec->ticket);
	}
	return rec;
}

void
durable_receiver(
    struct worker *w, uint64_t receiver, bool group, bool online, struct entry *e, bool *refused)
{
	struct durable_worker *d = w->durable;
	enum durable_mode mode = durable_mode(w, e->msg);
	bool retained = (e->flags & ENTRY_RETAINED) != 0;
	struct batch_segment *seg;
	struct batch_record *rec;

	*refused = false;
	if (mode == DURABLE_OFF)
		return;
	if (store_state(w->broker->store) != STORE_GOOD &&
	    (!online || (d->batch != NULL && batch_bytes(d->batch) > REFUSE_BYTES))) {
		*refused = refuse(d, e);
		return;
	}
	seg = d->batch != NULL ? d->batch->last : NULL;
	rec = seg != NULL && seg->record_count > 0 ? &seg->records[seg->record_count - 1] : NULL;
	if (rec == NULL || rec->msg != e->msg || rec->count == RECORD_RECEIVERS || group ||
	    rec->group || rec->retained != retained ||
	    (retained && seg->receivers[seg->receiver_count - 1].session == receiver) ||
	    rec->origin_number != (d->routing != NULL ? d->routing->origin_number : 0)) {
		if ((seg = segment_for(d, message_size(e->msg))) == NULL ||
		    (rec = record_new(d, seg, e->msg, mode)) == NULL)
			goto no_memory;
		rec->group = group;
		rec->retained = retained;
	}
	if (!batch_receiver_add(seg, rec,
		&(struct batch_receiver){ .session = receiver,
		    .ids = e->ids,
		    .qos = e->qos,
		    .retain = (e->flags & ENTRY_RETAIN) != 0 }))
		goto no_memory;
	(void)subids_ref(e->ids);
	e->address = store_address(seg->number, (uint32_t)(rec - seg->records));
	want(d, mode == DURABLE_RELAXED ? STORE_LATER : online ? STORE_SOON : STORE_NOW);
	return;
no_memory:
	*refused = refuse(d, e);
}

static void
record_drop(struct durable_worker *d, struct batch_segment *seg, struct batch_record *rec)
{
	struct ticket *t = rec->ticket;

	seg->bytes -= message_size(rec->msg);
	seg->alive--;
	message_unref(rec->msg);
	rec->msg = NULL;
	rec->ticket = NULL;
	metric_add(&d->w->metrics, METRIC_STORE_SPARED, 1);
	if (t != NULL)
		ticket_release(d->w, t);
}

/* Receivers mostly finish in the order in which they were given it. */
static bool
record_finish(struct batch_segment *seg, struct batch_record *rec, uint64_t receiver)
{
	struct batch_receiver *r = seg->receivers + rec->first;

	if (receiver == 0) {
		rec->left = 0;
		return true;
	}
	for (uint32_t n = 0, i = rec->hint; n < rec->count;
	     n++, i = i + 1 < rec->count ? i + 1 : 0) {
		if (r[i].session != receiver || r[i].finished)
			continue;
		r[i].finished = true;
		rec->hint = i + 1 < rec->count ? i + 1 : 0;
		rec->left--;
		return true;
	}
	return false;
}

void
durable_finished(struct worker *w, uint64_t receiver, uint64_t address)
{
	struct durable_worker *d = w->durable;
	struct batch_segment *seg;
	struct batch_record *rec;

	if (address == 0 || d == NULL)
		return;
	if ((seg = segment_here(d, store_segment(address))) != NULL) {
		rec = &seg->records[store_index(address)];
		if (rec->msg != NULL && record_finish(seg, rec, receiver) && rec->left == 0)
			record_drop(d, seg, rec);
		return;
	}
	if (batch_of(d) == NULL ||
	    !batch_finished_add(d->batch, &(struct row_finished){ receiver, address }))
		log_error("store: out of memory: a delivered message may be delivered again after "
			  "a restart");
	want(d, STORE_LATER);
}

void
durable_retained(struct worker *w, struct message *kept, uint64_t seq)
{
	struct durable_worker *d = w->durable;
	enum durable_mode mode = durable_mode(w, kept);
	struct ticket *t;

	if (mode == DURABLE_OFF)
		return;
	if (batch_of(d) == NULL || !batch_retained_add(d->batch, kept, seq)) {
		log_error("store: out of memory: the retained message of \"%.*s\" is not kept",
		    STR(message_topic(kept)));
		return;
	}
	want(d, STORE_LATER);
	if (mode == DURABLE_STRICT && kept->qos > 0 && (t = durable_routing_ticket(w)) != NULL)
		(void)durable_wait_for_batch(w, t);
}

void
durable_retained_gone(struct worker *w, const struct message *msg, uint64_t seq)
{
	struct message nothing = message_view(msg), *kept;

	if (w->durable == NULL)
		return;
	nothing.payload_len = 0;
	nothing.qos = 0;
	if ((kept = message_keep(&nothing)) != NULL)
		durable_retained(w, kept, seq);
	message_unref(kept);
	message_release_borrowed(&nothing);
}

/* ---- rows ------------------------------------------------------------------------------------------- */

void
durable_row(struct worker *w, int table, bool goes, uint64_t id, struct grapnel_str text,
    struct grapnel_str row)
{
	struct durable_worker *d = w->durable;

	if (d == NULL || batch_of(d) == NULL)
		return;
	batch_row(d->batch, (enum batch_table)table, goes, id, text, row);
	if (d->batch->failed) {
		d->batch->failed = false;
		log_error("store: out of memory: a row is not kept");
	}
	want(d, STORE_LATER);
}

void
durable_dirty(struct session *s)
{
	struct durable_worker *d = s->w->durable;
	uint64_t *p;

	if (d->dirty_count == d->dirty_capacity) {
		uint32_t capacity = d->dirty_capacity == 0 ? 64 : d->dirty_capacity * 2;

		if ((p = realloc(d->dirty, capacity * sizeof(*p))) == NULL) {
			log_error("store: out of memory: what changed in a session is not kept");
			return;
		}
		d->dirty = p;
		d->dirty_capacity = capacity;
	}
	d->dirty[d->dirty_count++] = session_generation(s);
	want(d, STORE_LATER);
}

/* ---- beginning and end --------------------------------------------------------------------------------- */

int
durable_init(struct worker *w)
{
	struct durable_worker *d;

	if (w->broker->store == NULL)
		return GRAPNEL_OK;
	if ((d = calloc(1, sizeof(*d))) == NULL)
		return GRAPNEL_ENOMEM;
	d->w = w;
	d->hot_max =
	    store_settings(w->broker->store)->store.memory_for_queues / w->broker->worker_count;
	w->durable = d;
	return GRAPNEL_OK;
}

void
durable_submit_last(struct worker *w)
{
	if (w->durable != NULL)
		submit(w);
}

void
durable_let_go(struct worker *w)
{
	struct durable_worker *d = w->durable;
	struct store_batch *b = d != NULL ? d->batch : NULL;

	if (b == NULL)
		return;
	if (d->batch_ticket != NULL && batch_ticket_add(b, d->batch_ticket))
		d->batch_ticket = NULL;
	d->batch = NULL;
	on_committed(w, &b->mail);
}

void
durable_fini(struct worker *w)
{
	struct durable_worker *d = w->durable;
	struct ticket *t;

	if (d == NULL)
		return;
	if (d->batch != NULL)
		batch_free(d->batch);
	free(d->batch_ticket);
	while ((t = d->free_tickets) != NULL) {
		d->free_tickets = t->free_next;
		free(t);
	}
	free(d->dirty);
	free(d->cool);
	free(d);
	w->durable = NULL;
}
