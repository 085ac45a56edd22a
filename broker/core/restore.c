/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restore - from the store to sessions, at start, before any worker's thread runs
 *
 * Sessions go to the workers that are their homes now; their queues know where their messages are, and read them when they are wanted.
 * Retained messages, wills, and what is in flight with QoS 2 are made anew.
 */
#include "core/durable.h"

#include "base/log.h"
#include "core/retain.h"
#include "core/shared.h"
#include "store/batch.h"

#include <stdlib.h>
#include <string.h>

struct known {             /* by number in the store */
	uint64_t id;       /* 0: an empty slot */
	struct session *s; /* NULL: a shared group */
	unsigned worker;
};
struct sent {             /* QoS 2 that was sent, or may have been: by address */
	uint64_t address; /* 0: an empty slot */
	struct session *s;
	uint16_t packet_id;
	bool found; /* its message is there */
};
struct restore {
	struct broker *b;
	struct known *known;
	size_t known_count, known_capacity;
	struct sent *sent;
	size_t sent_count, sent_capacity;
	uint64_t sessions, subscriptions, retained, messages;
};

/* ---- two tables -------------------------------------------------------------------------------- */

static size_t
slot_of(uint64_t key, size_t capacity)
{
	return key * 0x9e3779b97f4a7c15u >> 24 & (capacity - 1);
}

static struct known *
known_find(const struct restore *r, uint64_t id)
{
	if (r->known_count == 0)
		return NULL;
	for (size_t i = slot_of(id, r->known_capacity); r->known[i].id != 0;
	     i = (i + 1) & (r->known_capacity - 1))
		if (r->known[i].id == id)
			return &r->known[i];
	return NULL;
}

static bool
known_grow(struct restore *r)
{
	struct known *old = r->known;
	size_t capacity = r->known_capacity, i;

	r->known_capacity = capacity == 0 ? 1024 : capacity * 2;
	if ((r->known = calloc(r->known_capacity, sizeof(*r->known))) == NULL) {
		r->known = old;
		r->known_capacity = capacity;
		return false;
	}
	for (size_t k = 0; k < capacity; k++) {
		if (old[k].id == 0)
			continue;
		for (i = slot_of(old[k].id, r->known_capacity); r->known[i].id != 0;
		     i = (i + 1) & (r->known_capacity - 1))
			;
		r->known[i] = old[k];
	}
	free(old);
	return true;
}

static bool
known_add(struct restore *r, const struct known *k)
{
	size_t i;

	if ((r->known_count + 1) * 2 > r->known_capacity && !known_grow(r))
		return false;
	for (i = slot_of(k->id, r->known_capacity); r->known[i].id != 0;
	     i = (i + 1) & (r->known_capacity - 1))
		;
	r->known[i] = *k;
	r->known_count++;
	return true;
}

static struct sent *
sent_find(const struct restore *r, uint64_t address, const struct session *s)
{
	if (r->sent_count == 0)
		return NULL;
	for (size_t i = slot_of(address, r->sent_capacity); r->sent[i].address != 0;
	     i = (i + 1) & (r->sent_capacity - 1))
		if (r->sent[i].address == address && (s == NULL || r->sent[i].s == s))
			return &r->sent[i];
	return NULL;
}

static bool
sent_grow(struct restore *r)
{
	struct sent *old = r->sent;
	size_t capacity = r->sent_capacity, i;

	r->sent_capacity = capacity == 0 ? 256 : capacity * 2;
	if ((r->sent = calloc(r->sent_capacity, sizeof(*r->sent))) == NULL) {
		r->sent = old;
		r->sent_capacity = capacity;
		return false;
	}
	for (size_t k = 0; k < capacity; k++) {
		if (old[k].address == 0)
			continue;
		for (i = slot_of(old[k].address, r->sent_capacity); r->sent[i].address != 0;
		     i = (i + 1) & (r->sent_capacity - 1))
			;
		r->sent[i] = old[k];
	}
	free(old);
	return true;
}

static bool
sent_add(struct restore *r, const struct sent *x)
{
	size_t i;

	if ((r->sent_count + 1) * 2 > r->sent_capacity && !sent_grow(r))
		return false;
	for (i = slot_of(x->address, r->sent_capacity); r->sent[i].address != 0;
	     i = (i + 1) & (r->sent_capacity - 1))
		;
	r->sent[i] = *x;
	r->sent_count++;
	return true;
}

/* ---- sessions ------------------------------------------------------------------------------------- */

static const struct listener_settings *
listener_of(const struct settings *s, struct grapnel_str name)
{
	for (unsigned i = 0; i < s->listener_count; i++)
		if (strlen(s->listeners[i].name) == name.len &&
		    memcmp(s->listeners[i].name, name.data, name.len) == 0)
			return &s->listeners[i];
	return &s->listeners[0];
}

/* Times that began when the broker before was last seen alive: it was connected then. */
static uint64_t
left_since(const struct row_clock *c, uint64_t seconds)
{
	uint64_t down = c->now_wall_ms > c->alive_wall_ms ? c->now_wall_ms - c->alive_wall_ms : 0;

	down = down > STORE_ALIVE_MS ? down - STORE_ALIVE_MS : 0;
	return seconds * 1000 > down ? seconds * 1000 - down : 0;
}

static uint64_t
after(uint64_t now_ms, uint64_t left)
{
	return left > UINT64_MAX - now_ms ? UINT64_MAX : now_ms + left;
}

static bool
restore_times(struct session *s, const struct row_session *row, const struct row_clock *clock)
{
	struct session_extra *x = s->extra;
	uint64_t now = s->w->now_ms;

	x->expiry = row->expiry;
	x->expires_at_ms = row->expiry == UINT32_MAX ? UINT64_MAX
	    : row->online                            ? after(now, left_since(clock, row->expiry))
						     : after(now, row_left(clock, &row->expires));
	if (!row->has_will)
		return true;
	if ((x->will = store_message(&row->will, clock, now)) == NULL)
		return false;
	if (x->will->flags & MSG_EXPIRES) { /* its row has an interval */
		x->will->flags |= MSG_INTERVAL;
		x->will->expires_at_ms = row->will.expires.left_ms;
	}
	x->will_delay = row->will_delay;
	x->will_at_ms = row->will_due.set ? after(now, row_left(clock, &row->will_due))
					  : after(now, left_since(clock, row->will_delay));
	return true;
}

static bool
on_group(struct restore *r, uint64_t id, const struct row_session *row)
{
	struct grapnel_str key = row->who.client_id;
	unsigned home = (unsigned)(broker_hash(r->b, key) % r->b->worker_count);
	struct shared_orphan *o = calloc(1, sizeof(*o) + key.len);

	if (o == NULL)
		return false;
	o->store_id = id;
	o->key_len = (uint32_t)key.len;
	o->mountpoint_len = (uint32_t)row->who.mountpoint.len;
	memcpy(o->key, key.data, key.len);
	o->next = r->b->workers[home]->shared->orphans;
	r->b->workers[home]->shared->orphans = o;
	return known_add(r, &(struct known){ .id = id, .worker = home });
}

static bool
on_session(void *arg, uint64_t id, const struct row_session *row, const struct row_clock *clock)
{
	struct restore *r = arg;
	struct worker *w = r->b->workers[broker_home(r->b, row->who.client_id)];
	struct identity *identity;
	struct session *s;
	struct site *site;
	char plugin[256];

	if (known_find(r, id) != NULL)
		return true;
	if (row->group)
		return on_group(r, id, row);
	if (session_find(w, row->who.mountpoint, row->who.client_id) !=
	    NULL) { /* a later one took its place */
		durable_row(w, BATCH_SESSION, true, id, (struct grapnel_str){ 0 },
		    (struct grapnel_str){ 0 });
		return true;
	}
	if ((site = session_site(w, row->who.mountpoint, row->who.listener)) == NULL ||
	    (identity = identity_new(&row->who, site)) == NULL ||
	    (s = session_make(w, identity)) == NULL)
		return false;
	session_set_limits(s, NULL, listener_of(r->b->settings, row->who.listener));
	if (session_extra(s) == NULL || !restore_times(s, row, clock))
		return false;
	s->extra->store_id = id;
	s->durable = true;
	s->superuser = row->who.superuser;
	s->connected_s = (uint32_t)row->connected_s;
	if (row->auth_plugin.len > 0 && row->auth_plugin.len < sizeof(plugin)) {
		memcpy(plugin, row->auth_plugin.data, row->auth_plugin.len);
		plugin[row->auth_plugin.len] = '\0';
		s->auth_plugin = session_plugin_number(w, plugin);
	}
	session_restored(s);
	if (row->online) /* it is not any more: its times run */
		durable_session_changed(s);
	r->sessions++;
	return known_add(r, &(struct known){ .id = id, .s = s, .worker = w->index });
}

/* ---- subscriptions ------------------------------------------------------------------------------------ */

static void
on_joined(struct worker *w, uint64_t generation, uint32_t token, int err)
{
	(void)w;
	(void)generation;
	(void)token;
	if (err != GRAPNEL_OK)
		log_error(
		    "store: a shared subscription could not be taken up again: out of memory");
}

static bool
on_subscription(
    void *arg, uint64_t id, struct grapnel_str filter, const struct row_subscription *row)
{
	struct restore *r = arg;
	const struct known *k = known_find(r, id);
	struct sub *sub,
	    values = { .id = row->id, .qos = row->qos, .retain_handling = row->retain_handling };
	const char *slash;
	bool existed, later;

	if (k == NULL || k->s == NULL)
		return true; /* of a session that was replaced */
	values.flags = (uint8_t)((row->no_local ? SUB_NO_LOCAL : 0) |
	    (row->retain_as_published ? SUB_RETAIN_AS_PUBLISHED : 0) |
	    (row->wild_first ? SUB_WILD_FIRST : 0));
	r->subscriptions++;
	if (filter.len <= 7 || memcmp(filter.data, "$share/", 7) != 0)
		return subs_add(k->s, filter, &values, &existed, &sub) == GRAPNEL_OK;
	filter.data += 7;
	filter.len -= 7;
	if ((slash = memchr(filter.data, '/', filter.len)) == NULL)
		return true;
	shared_orphan_wanted(r->b->workers[broker_hash(r->b, filter) % r->b->worker_count], filter,
	    k->s->mountpoint_len);
	return shared_join(k->s, (struct grapnel_str){ filter.data, (size_t)(slash - filter.data) },
		   (struct grapnel_str){
		       slash + 1, filter.len - (size_t)(slash - filter.data) - 1 },
		   row->qos, row->id, values.flags, &existed, &later, on_joined, 0) == GRAPNEL_OK;
}

/* ---- QoS 2 ------------------------------------------------------------------------------------------------ */

static bool
on_exchange(void *arg, uint64_t id, const struct row_exchange *x, struct row_in *rest)
{
	struct restore *r = arg;
	const struct known *k = known_find(r, id);
	struct entry released = { .qos = 2 };
	struct flow *f;

	if (k == NULL || k->s == NULL)
		return true;
	if ((f = session_flow(k->s)) == NULL)
		return false;
	k->s->extra->confirmed = x->confirmed;
	for (uint32_t i = 0; i < x->received_count && !rest->bad; i++) {
		uint16_t packet_id = (uint16_t)row_get_number(rest);

		if (id_set_add(&f->received, packet_id) != GRAPNEL_OK ||
		    id_set_add(&f->earlier, packet_id) != GRAPNEL_OK)
			return false;
	}
	if (x->sent_count > 0)
		durable_exchange(k->s); /* without what was QoS 1, which is not kept up */
	for (uint32_t i = 0; i < x->sent_count; i++) {
		uint16_t packet_id = (uint16_t)row_get_number(rest);
		uint64_t state = row_get_number(rest), address = row_get_number(rest);

		if (rest->bad)
			break;
		if (state == EXCHANGE_RELEASED) {
			if (inflight_put(
				&f->inflight, &released, packet_id, INFLIGHT_WAIT_PUBCOMP) != NULL)
				metric_add(&k->s->w->metrics, METRIC_INFLIGHT_MESSAGES, 1);
		} else if (address != 0 && sent_find(r, address, k->s) == NULL &&
		    !sent_add(r,
			&(struct sent){ .address = address, .s = k->s, .packet_id = packet_id })) {
			return false;
		}
	}
	return true;
}

static bool
is_confirmed(void *arg, uint64_t id, uint64_t number, uint64_t address)
{
	const struct known *k = known_find(arg, id);

	/* Of a session that has ended there is nothing left to confirm. */
	if (k == NULL || k->s == NULL || k->s->extra->confirmed >= number)
		return true;
	durable_finished(k->s->w, 0, address);
	return false;
}

/* ---- messages ------------------------------------------------------------------------------------------------ */

static bool
make_ids(const struct row_receiver *r, subids *ids)
{
	*ids = SUBIDS_NONE;
	for (uint32_t i = 0; i < r->id_count; i++)
		*ids = subids_add(*ids, r->ids[i]);
	return true;
}

/* It was on its way with this identifier. */
static bool
in_flight(
    struct sent *x, const struct row_message *m, const struct row_clock *clock, struct entry *e)
{
	struct session *s = x->s;
	struct flow *f = session_flow(s);

	x->found = true;
	if (f == NULL || (e->msg = store_message(m, clock, s->w->now_ms)) == NULL)
		return false;
	if (inflight_put(&f->inflight, e, x->packet_id,
		e->qos == 2 ? INFLIGHT_WAIT_PUBREC : INFLIGHT_WAIT_PUBACK) == NULL) {
		entry_clear(
		    e); /* two messages with one identifier: the row is not to be believed */
		return true;
	}
	metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, 1);
	return true;
}

static bool
to_group(struct restore *r, const struct known *k, const struct row_message *m,
    const struct row_clock *clock, uint64_t address)
{
	struct worker *w = r->b->workers[k->worker];
	struct message *msg = store_message(m, clock, w->now_ms);

	return msg != NULL && shared_restore(w, k->id, msg, address);
}

static bool
to_queue(struct session *s, const struct row_message *m, struct entry *e)
{
	struct flow *f = session_flow(s);
	size_t size = sizeof(struct message) + m->topic.len + m->props.len + m->payload.len;

	if (f == NULL)
		return false;
	if (f->queue.count == 0)
		f->queue_stamp = rights_stamp(s) - 1; /* rights are asked again */
	e->flags |= ENTRY_COLD;
	e->seq = (uint32_t)size;
	if (queue_push(&f->queue, e) != GRAPNEL_OK)
		return false;
	f->cold++;
	queued_add(s->w, size, 1);
	return true;
}

static bool
on_message(void *arg, uint64_t address, const struct row_message *m, const struct row_receiver *rr,
    const struct row_clock *clock, bool *known)
{
	struct restore *r = arg;
	const struct known *k = known_find(r, rr->session);
	struct entry e = {
		.address = address, .qos = rr->qos, .flags = rr->retain ? ENTRY_RETAIN : 0
	};
	struct sent *x;

	if (k == NULL)
		return true;
	*known = true;
	r->messages++;
	x = sent_find(r, address, k->s);
	if (x == NULL && k->s == NULL)
		return to_group(r, k, m, clock, address);
	if (!make_ids(rr, &e.ids))
		return false;
	if (x == NULL)
		return to_queue(k->s, m, &e);
	if (k->s == NULL) {
		e.flags |= ENTRY_GROUP;
		e.qos = 2;
	}
	return in_flight(x, m, clock, &e);
}

static bool
on_retained(void *arg, const struct row_message *m, const struct row_clock *clock, uint64_t seq)
{
	struct restore *r = arg;
	struct message *msg = store_message(m, clock, r->b->main->now_ms);
	int err;

	(void)seq;
	if (msg == NULL)
		return false;
	err = retain_set(r->b->retain, msg, UINT64_MAX, UINT64_MAX, NULL, NULL);
	message_unref(msg);
	r->retained++;
	return err == GRAPNEL_OK;
}

/*
 * The identifier was kept, but not the message, which another worker had: its publisher was told nothing. The Client may have it all
 * the same, and must be rid of the identifier before that means something else.
 */
static void
end_exchanges(struct restore *r)
{
	struct entry released = { .qos = 2 };

	for (size_t i = 0; i < r->sent_capacity; i++) {
		const struct sent *x = &r->sent[i];

		if (x->address != 0 && !x->found &&
		    inflight_put(&x->s->flow->inflight, &released, x->packet_id,
			INFLIGHT_WAIT_PUBCOMP) != NULL)
			metric_add(&x->s->w->metrics, METRIC_INFLIGHT_MESSAGES, 1);
	}
}

/* ---- all of it ------------------------------------------------------------------------------------------------- */

int
durable_restore(struct broker *b, char error[STORE_ERROR])
{
	static const struct store_loader loader = { .session = on_session,
		.subscription = on_subscription,
		.exchange = on_exchange,
		.retained = on_retained,
		.confirmed = is_confirmed,
		.message = on_message };
	struct restore r = { .b = b };
	uint64_t began = clock_ms();
	int err;

	if (b->store == NULL)
		return GRAPNEL_OK;
	err = store_load(b->store, &loader, &r, error);
	end_exchanges(&r);
	for (unsigned i = 0; err == GRAPNEL_OK && i < b->worker_count; i++)
		shared_orphans_end(b->workers[i]);
	retain_begin(b->retain, store_retained_seq(b->store));
	for (unsigned i = 0; i < b->worker_count; i++)
		b->workers[i]->durable->committed = store_next_segment(b->store) - 1;
	if (err == GRAPNEL_OK)
		log_at(GRAPNEL_LOG_NOTICE, "store_loaded",
		    "store: %llu sessions, %llu subscriptions, %llu queued and %llu retained "
		    "messages "
		    "loaded in %llu ms",
		    (unsigned long long)r.sessions, (unsigned long long)r.subscriptions,
		    (unsigned long long)r.messages, (unsigned long long)r.retained,
		    (unsigned long long)(clock_ms() - began));
	free(r.known);
	free(r.sent);
	return err;
}
