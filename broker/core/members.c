/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members - a session's memberships in shared groups: joining and leaving, credit, and what goes back
 */
#include "core/durable.h"
#include "core/shared.h"

#include <stdlib.h>
#include <string.h>

#define CREDIT_MAX   256u
#define BUCKETS_FROM 16u    /* memberships, from which on they are found by hash */
#define MEMBERS_MAX  65535u /* entry.member */

/* At the very end, when the threads are joined, nobody takes mail any more. */
static bool
teardown(const struct worker *w)
{
	return w->core->stopping && worker_self != w;
}

/* ---- a session's table ------------------------------------------------------------------------ */

static struct member *
member_find(const struct members *t, struct grapnel_str key, uint64_t hash)
{
	if (t == NULL)
		return NULL;
	if (t->bucket_count > 0) {
		uint32_t at = t->buckets[hash & (t->bucket_count - 1)];

		for (; at != 0; at = t->at[at - 1]->hash_next) {
			struct member *m = t->at[at - 1];

			if (m->hash == hash && m->key_len == key.len &&
			    memcmp(m->key, key.data, key.len) == 0)
				return m;
		}
		return NULL;
	}
	for (uint32_t i = 0; i < t->count; i++) {
		struct member *m = t->at[i];

		if (m != NULL && m->hash == hash && m->key_len == key.len &&
		    memcmp(m->key, key.data, key.len) == 0)
			return m;
	}
	return NULL;
}

/* NULL: it is gone, or never was. */
static struct member *
member_numbered(const struct session *s, uint32_t index)
{
	const struct members *t = s->flow->members;

	return t != NULL && index < t->count ? t->at[index] : NULL;
}

static void
bucket_put(struct members *t, struct member *m)
{
	uint32_t *bucket = &t->buckets[m->hash & (t->bucket_count - 1)];

	m->hash_next = *bucket;
	*bucket = m->index + 1;
}

static int
table_room(struct members *t)
{
	if (t->live >= BUCKETS_FROM && t->live >= t->bucket_count) {
		uint32_t n = t->bucket_count == 0 ? BUCKETS_FROM * 2 : t->bucket_count * 2;
		uint32_t *buckets = calloc(n, sizeof(*buckets));

		if (buckets == NULL)
			return GRAPNEL_ENOMEM;
		free(t->buckets);
		t->buckets = buckets;
		t->bucket_count = n;
		for (uint32_t i = 0; i < t->count; i++)
			if (t->at[i] != NULL)
				bucket_put(t, t->at[i]);
	}
	if (t->live == t->count && t->count == t->capacity) {
		uint32_t n = t->capacity == 0 ? 2 : t->capacity * 2;
		struct member **at = realloc(t->at, n * sizeof(struct member *));

		if (at == NULL)
			return GRAPNEL_ENOMEM;
		t->at = at;
		t->capacity = n;
	}
	return GRAPNEL_OK;
}

/* Takes key. */
static struct member *
member_new(struct session *s, struct grapnel_str key, uint64_t hash, uint32_t share_len)
{
	struct worker *w = s->w;
	struct flow *f = session_flow(s);
	struct members *t;
	struct member *m;
	uint32_t at;

	if (f == NULL ||
	    (f->members == NULL && (f->members = calloc(1, sizeof(*f->members))) == NULL))
		return NULL;
	t = f->members;
	at = t->count;
	if (table_room(t) != GRAPNEL_OK || (m = calloc(1, sizeof(*m))) == NULL)
		return NULL;
	if (t->live < t->count) {
		for (at = t->hole; t->at[at] != NULL; at++)
			;
		t->hole = at + 1;
	} else {
		t->count++;
	}
	m->session = s;
	m->key = (char *)(uintptr_t)key.data;
	m->key_len = (uint32_t)key.len;
	m->share_len = share_len;
	m->hash = hash;
	m->index = at;
	m->group_worker = (unsigned)(hash % w->broker->worker_count);
	m->serial = ++w->shared->next_member_serial * (WORKER_MAX + 1) + w->index;
	t->at[at] = m;
	t->live++;
	if (t->bucket_count > 0)
		bucket_put(t, m);
	atomic_fetch_add_explicit(&w->broker->subscriptions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SUBSCRIPTIONS, 1);
	return m;
}

void
member_free(struct member *m)
{
	free(m->key);
	free(m);
}

/* Out of the session's table, and of its group: to it the member itself is sent. */
static void
member_drop(struct member *m)
{
	struct members *t = m->session->flow->members;
	struct worker *w = m->session->w;

	if (t->bucket_count > 0) {
		uint32_t *p = &t->buckets[m->hash & (t->bucket_count - 1)];

		while (*p != m->index + 1)
			p = &t->at[*p - 1]->hash_next;
		*p = m->hash_next;
	}
	if (m->due_prev != NULL) {
		*m->due_prev = m->due_next;
		if (m->due_next != NULL)
			m->due_next->due_prev = m->due_prev;
	}
	t->at[m->index] = NULL;
	t->live--;
	if (m->index < t->hole)
		t->hole = m->index;
	atomic_fetch_sub_explicit(&w->broker->subscriptions, 1, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_SUBSCRIPTIONS, -1);
	m->session = NULL;
	if (m->joined && m->group_worker != w->index && !teardown(w)) {
		m->mail.fn = home_leave_mail;
		worker_post(w->broker->workers[m->group_worker], &m->mail);
		return;
	}
	if (m->joined && m->group_worker == w->index)
		home_leave(w, &m->ref);
	member_free(m); /* if an answer is still to come, it finds nobody and leaves the group */
}

/* ---- credit and state ------------------------------------------------------------------------------ */

/* How many messages a membership may have in our hands. */
static uint32_t
credit_limit(const struct session *s)
{
	uint32_t live = s->flow->members->live, limit = CREDIT_MAX,
		 share = s->limits->max_queued_messages / 2 / (live > 0 ? live : 1);

	if (limit > s->limits->max_inflight)
		limit = s->limits->max_inflight;
	if (limit > s->conn->receive_maximum)
		limit = s->conn->receive_maximum;
	if (limit > share)
		limit = share; /* all of them together must find room in the session's queue */
	return limit > 0 ? limit : 1;
}

/* Is this online receiver so far behind that others should take its share? */
static bool
session_full(const struct session *s)
{
	const struct limits *l = s->limits;

	return s->conn->out_bytes > conn_output_max(s->conn, l) / 2 ||
	    s->flow->queue.count > l->max_queued_messages / 2 ||
	    s->flow->queue.bytes > l->max_queued_bytes / 2;
}

static struct state_item
take_due(struct member *m)
{
	struct state_item item = {
		.ref = m->ref,
		.epoch = m->epoch,
		.credit = m->state_due ? m->granted : m->credit_due,
		.qos = m->qos,
		.state = m->state_due,
		.online = m->session->shared_online,
	};

	m->state_due = m->qos_due = false;
	m->credit_due = 0;
	return item;
}

/* The group must know: at once if it is here, with the next mail else. */
static void
tell(struct member *m)
{
	struct worker *w = m->session->w;

	if (!m->joined || m->due_prev != NULL)
		return; /* the answer to come looks for what is due */
	if (m->group_worker == w->index) {
		struct state_item item = take_due(m);

		home_state(w, &item);
		return;
	}
	m->due_next = w->shared->due;
	m->due_prev = &w->shared->due;
	if (m->due_next != NULL)
		m->due_next->due_prev = &m->due_next;
	w->shared->due = m;
	w->flush_due = true;
}

/* What was granted is void; what is given for it comes back. */
static void
period_begin(struct member *m)
{
	struct session *s = m->session;
	uint32_t limit = s->shared_online ? credit_limit(s) : 0;

	m->epoch++;
	m->held = false;
	m->granted = limit > m->out ? limit - m->out : 0;
	m->credit_due = 0;
	m->state_due = true;
}

static void
grant(struct member *m)
{
	uint32_t limit = credit_limit(m->session);

	if (m->granted + m->out >= limit)
		return;
	m->credit_due += limit - m->granted - m->out;
	m->granted = limit - m->out;
	tell(m);
}

void
shared_finished(struct session *s, uint16_t member)
{
	struct member *m = member_numbered(s, member - 1u);

	if (m == NULL)
		return;
	m->out--;
	if (!s->shared_online || s->shared_held)
		return;
	if (session_full(s))
		s->shared_held = true; /* the credit stays with us until it has room again */
	else
		grant(m);
}

void
shared_eased(struct session *s)
{
	const struct members *t = s->flow->members;

	s->shared_held = false;
	if (!s->shared_online || t == NULL)
		return;
	for (uint32_t i = 0; i < t->count; i++) {
		struct member *m = t->at[i];

		if (m == NULL)
			continue;
		if (m->held) {
			period_begin(m);
			tell(m);
		} else {
			grant(m);
		}
	}
}

void
members_flush(struct worker *w)
{
	struct shared_table *t = w->shared;
	struct state_mail *out[WORKER_MAX] = { 0 };
	struct member *m, *left = NULL;

	while ((m = t->due) != NULL) {
		struct state_mail *sm = out[m->group_worker];

		t->due = m->due_next;
		if (m->due_next != NULL)
			m->due_next->due_prev = &t->due;
		m->due_prev = NULL;
		if (sm == NULL) {
			if ((sm = malloc(sizeof(*sm))) == NULL) {
				m->due_next = left;
				left = m;
				continue;
			}
			sm->count = 0;
			sm->mail.fn = home_state_mail;
			out[m->group_worker] = sm;
		}
		sm->items[sm->count++] = take_due(m);
		if (sm->count == STATE_ITEMS) {
			worker_post(w->broker->workers[m->group_worker], &sm->mail);
			out[m->group_worker] = NULL;
		}
	}
	for (unsigned i = 0; i < w->broker->worker_count; i++)
		if (out[i] != NULL)
			worker_post(w->broker->workers[i], &out[i]->mail);
	if (left == NULL)
		return;
	while ((m = left) != NULL) {
		left = m->due_next;
		tell(m);
	}
	w->flush_due = false; /* not before the timer */
	shared_retry(w);
}

/* ---- joining and leaving ----------------------------------------------------------------------------- */

static int
join_send(struct member *m, bool again, shared_joined_fn joined, uint32_t token)
{
	struct session *s = m->session;
	struct worker *w = s->w;
	struct join_mail here = { .again = again }, *j = &here;
	bool local = m->group_worker == w->index;

	if (!local) {
		if ((j = malloc(sizeof(*j) + m->key_len)) == NULL)
			return GRAPNEL_ENOMEM;
		*j = here;
		j->key = (char *)(j + 1);
		memcpy(j->key, m->key, m->key_len);
	} else {
		j->key = m->key;
	}
	period_begin(m);
	m->state_due = m->qos_due = false;
	j->values = (struct group_member){ .serial = m->serial,
		.generation = session_generation(s),
		.worker = w->index,
		.index = m->index,
		.qos = m->qos };
	j->hash = m->hash;
	j->group_worker = m->group_worker;
	j->epoch = m->epoch;
	j->credit = m->granted;
	j->online = s->shared_online;
	j->key_len = m->key_len;
	j->share_len = m->share_len;
	j->mountpoint_len = s->mountpoint_len;
	j->wild_first = (m->flags & SUB_WILD_FIRST) != 0;
	j->durable = s->durable;
	if (local) {
		int err = home_join(w, j);

		m->ref = j->ref;
		m->joined = err == GRAPNEL_OK;
		return err;
	}
	j->joined = joined;
	j->token = token;
	j->mail.fn = home_join_mail;
	m->joining++;
	worker_post(w->broker->workers[m->group_worker], &j->mail);
	return GRAPNEL_OK;
}

void
members_joined_mail(struct worker *w, struct mail *mail)
{
	struct join_mail *j = (struct join_mail *)(void *)mail;
	struct session *s = session_by_generation(w, j->values.generation);
	struct member *m = s != NULL ? member_numbered(s, j->values.index) : NULL;
	shared_joined_fn joined = j->joined;
	uint64_t generation = j->values.generation;
	uint32_t token = j->token;
	int err = j->err;

	if (m == NULL || m->serial != j->values.serial) { /* it has left meanwhile */
		if (err == GRAPNEL_OK && !teardown(w)) {
			j->mail.fn = home_join_undone_mail;
			worker_post(w->broker->workers[j->group_worker], &j->mail);
			return;
		}
		free(j);
		return;
	}
	m->joining--;
	if (err == GRAPNEL_OK) {
		m->ref = j->ref;
		m->joined = true;
		if (m->state_due || m->qos_due || m->credit_due > 0)
			tell(m);
	} else if (!m->joined && m->joining == 0) {
		member_drop(m);
	}
	free(j);
	joined(w, generation, token, err);
}

static uint64_t
make_key(const struct session *s, struct grapnel_str share, struct grapnel_str filter,
    struct grapnel_str *key)
{
	char *p = malloc(share.len + 1 + filter.len);

	*key = (struct grapnel_str){ p, share.len + 1 + filter.len };
	if (p == NULL)
		return 0;
	memcpy(p, share.data, share.len);
	p[share.len] = '/'; /* which a ShareName does not have [MQTT-4.8.2-2] */
	memcpy(p + share.len + 1, filter.data, filter.len);
	return broker_hash(s->w->broker, *key);
}

static void
on_joined_again(struct worker *w, uint64_t generation, uint32_t token, int err)
{
	(void)w;
	(void)generation;
	(void)token;
	(void)err;
}

int
shared_join(struct session *s, struct grapnel_str share, struct grapnel_str filter, uint8_t qos,
    uint32_t id, uint8_t flags, bool *existed, bool *later, shared_joined_fn joined, uint32_t token)
{
	const struct members *t = s->flow->members;
	struct grapnel_str key;
	uint64_t hash = make_key(s, share, filter, &key);
	struct member *m;
	uint8_t old_qos;
	int err;

	*existed = *later = false;
	if (key.data == NULL)
		return GRAPNEL_ENOMEM;
	if ((m = member_find(t, key, hash)) != NULL) { /* replaced [MQTT-3.8.4-3] */
		free((void *)(uintptr_t)key.data);
		if (!m->joined) {
			if (m->joining == UINT8_MAX)
				return GRAPNEL_EQUOTA;
			if ((err = join_send(m, true, joined, token)) != GRAPNEL_OK)
				return err;
			*later = true;
		}
		*existed = true;
		old_qos = m->qos;
		m->qos = qos;
		m->id = id;
		m->flags = flags;
		m->rights = rights_stamp(s);
		if (qos != old_qos) {
			m->qos_due = true;
			tell(m);
		}
		return GRAPNEL_OK;
	}
	err = t != NULL && t->live >= MEMBERS_MAX ? GRAPNEL_EQUOTA : GRAPNEL_ENOMEM;
	if (err == GRAPNEL_EQUOTA || (m = member_new(s, key, hash, (uint32_t)share.len)) == NULL) {
		free((void *)(uintptr_t)key.data);
		return err;
	}
	m->qos = qos;
	m->id = id;
	m->flags = flags;
	m->rights = rights_stamp(s);
	if ((err = join_send(m, false, joined, token)) != GRAPNEL_OK) {
		member_drop(m);
		return err;
	}
	*later = !m->joined;
	return GRAPNEL_OK;
}

bool
shared_has(struct session *s, struct grapnel_str share, struct grapnel_str filter)
{
	struct grapnel_str key;
	uint64_t hash = make_key(s, share, filter, &key);
	bool has = key.data != NULL && member_find(s->flow->members, key, hash) != NULL;

	free((void *)(uintptr_t)key.data);
	return has;
}

bool
shared_leave(struct session *s, struct grapnel_str share, struct grapnel_str filter)
{
	struct grapnel_str key;
	uint64_t hash = make_key(s, share, filter, &key);
	struct member *m = key.data != NULL ? member_find(s->flow->members, key, hash) : NULL;

	free((void *)(uintptr_t)key.data);
	if (m == NULL)
		return false;
	if (m->out > 0)
		deliver_forget_member(
		    s, (uint16_t)(m->index + 1)); /* what it was given stays with it */
	member_drop(m);
	return true;
}

/* ---- messages that come ----------------------------------------------------------------------------------- */

/* May this membership be given a message of that epoch? */
static bool
takes(struct member *m, uint32_t epoch)
{
	struct session *s = m->session;

	if (!s->shared_online || m->epoch != epoch)
		return false;
	if (!session_full(s))
		return true;
	m->epoch++;
	m->granted = m->credit_due = 0;
	m->held = true;
	s->shared_held = true;
	return false;
}

static void
take(struct member *m, struct message *msg, uint32_t seq, uint64_t address)
{
	struct session *s = m->session;
	uint8_t qos = msg->qos < m->qos ? msg->qos : m->qos, flags = 0;

	if (m->flags & SUB_RETAIN_AS_PUBLISHED && msg->flags & MSG_RETAIN)
		flags |= ENTRY_RETAIN;
	if (rights_member_needed(s, m))
		flags |= ENTRY_CHECK;
	if (m->granted > 0)
		m->granted--;
	m->out++;
	if (address != 0)
		flags |= ENTRY_GROUP;
	deliver_kept(s, msg, qos, flags, subids_one(m->id), (uint16_t)(m->index + 1), seq, address);
}

static struct member *
member_at(struct worker *w, uint64_t generation, uint32_t index, uint64_t serial)
{
	struct session *s = session_by_generation(w, generation);
	struct member *m = s != NULL ? member_numbered(s, index) : NULL;

	return m != NULL && m->serial == serial ? m : NULL;
}

enum group_given
members_give(struct worker *w, const struct group_member *gm, struct message *msg, uint32_t seq,
    uint64_t address)
{
	struct member *m = member_at(w, gm->generation, gm->index, gm->serial);
	struct message *kept = NULL;

	if (m == NULL || !takes(m, gm->epoch))
		return GROUP_FULL;
	/* deliver() would drop it; here it can still wait. */
	if (msg->qos > 0 && (kept = message_keep(msg)) == NULL)
		return GROUP_NO_MEMORY;
	take(m, msg, seq, address);
	message_unref(kept);
	return GROUP_GIVEN;
}

void
members_parcel_mail(struct worker *w, struct mail *mail)
{
	struct parcel *p = (struct parcel *)(void *)mail;
	uint32_t back = 0;

	for (uint32_t i = 0; i < p->count; i++) {
		struct parcel_item *it = &p->items[i];
		struct member *m = member_at(w, it->generation, it->index, it->ref.member_serial);

		if (m != NULL && takes(m, it->epoch)) {
			take(m, it->msg, it->seq, it->address);
			message_unref(it->msg);
			continue;
		}
		it->gone = m == NULL;
		p->items[back++] = *it;
	}
	p->count = back;
	if (back == 0) {
		free(p);
		return;
	}
	p->mail.fn = home_returned_mail;
	worker_post(w->broker->workers[p->from], &p->mail);
}

/* ---- messages that go back --------------------------------------------------------------------------------- */

struct returns {
	struct session *s;
	struct parcel_item *items;
	uint32_t count, capacity;
};

/* Takes the reference. */
static void
returns_add(struct returns *r, struct message *msg, uint16_t member, uint32_t seq, uint64_t address)
{
	struct member *m = member_numbered(r->s, member - 1u);

	if (m != NULL)
		m->out--;
	if (r->count == r->capacity) {
		uint32_t n = r->capacity == 0 ? 32 : r->capacity * 2;
		struct parcel_item *items = realloc(r->items, n * sizeof(*items));

		if (items != NULL) {
			r->items = items;
			r->capacity = n;
		}
	}
	if (m == NULL || r->count == r->capacity) {
		metric_add(&r->s->w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		message_unref(msg);
		return;
	}
	r->items[r->count++] = (struct parcel_item){ .ref = m->ref,
		.msg = msg,
		.index = m->index,
		.worker = m->group_worker,
		.epoch = m->epoch - 1,
		.address = address,
		.seq = seq };
}

static bool
take_queued(struct entry *e, void *arg)
{
	struct returns *r = arg;

	if (e->member == 0)
		return false;
	queued_add(r->s->w, entry_size(e), -1);
	spill_popped(r->s, e);
	subids_unref(e->ids);
	returns_add(r, e->msg, e->member, e->seq, e->address);
	return true;
}

static int
by_group(const void *a, const void *b)
{
	const struct parcel_item *x = a, *y = b;

	if (x->worker != y->worker)
		return x->worker < y->worker ? -1 : 1;
	if (x->ref.group != y->ref.group)
		return x->ref.group < y->ref.group ? -1 : 1;
	return (int32_t)(x->seq - y->seq) < 0 ? -1 : x->seq != y->seq;
}

static void
returns_send(struct returns *r)
{
	struct worker *w = r->s->w;

	if (r->count > 1)
		qsort(r->items, r->count, sizeof(r->items[0]), by_group);
	for (uint32_t at = 0, n; at < r->count; at += n) {
		unsigned target = r->items[at].worker;
		struct parcel *p;

		for (n = 1; at + n < r->count && r->items[at + n].worker == target; n++)
			;
		if (target == w->index) {
			home_returned(w, r->items + at, n);
		} else if ((p = malloc(sizeof(*p) + n * sizeof(p->items[0]))) != NULL) {
			p->from = target;
			p->count = n;
			memcpy(p->items, r->items + at, n * sizeof(p->items[0]));
			p->mail.fn = home_returned_mail;
			worker_post(w->broker->workers[target], &p->mail);
		} else {
			metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, n);
			for (uint32_t i = at; i < at + n; i++)
				message_unref(r->items[i].msg);
		}
	}
	free(r->items);
}

/* ---- coming, going, ending ----------------------------------------------------------------------------------- */

static void
period_begin_all(struct session *s)
{
	const struct members *t = s->flow->members;

	for (uint32_t i = 0; t != NULL && i < t->count; i++) {
		if (t->at[i] == NULL)
			continue;
		period_begin(t->at[i]);
		tell(t->at[i]);
	}
}

void
shared_session_online(struct session *s)
{
	s->shared_online = true;
	s->shared_held = false;
	period_begin_all(s);
}

void
shared_session_offline(struct session *s)
{
	const struct members *t = s->flow->members;
	struct returns r = { .s = s };

	s->shared_online = false;
	s->shared_held = false;
	if (t == NULL || t->live == 0)
		return;
	period_begin_all(s);
	queue_filter(&s->flow->queue, take_queued,
	    &r); /* what is in flight stays with the session [MQTT-4.8.2-4] */
	returns_send(&r);
}

static void
returns_inflight(struct returns *r, struct entry *e)
{
	returns_add(r, message_ref(e->msg), e->member, e->seq, e->address);
	e->address = 0; /* the group goes on with it */
}

void
shared_session_end(struct session *s)
{
	struct flow *f = s->flow;
	struct members *t = f->members;
	struct returns r = { .s = s };

	if (t == NULL)
		return;
	if (t->live > 0 && !teardown(s->w)) {
		/*
		 * QoS 1 in flight may have arrived or not: another member gets it. QoS 2 that was sent must not go to
		 * anybody else [MQTT-4.8.2-5].
		 */
		for (uint32_t i = 0; i < f->inflight.capacity; i++) {
			struct inflight_entry *ie = &f->inflight.slots[i];

			if (ie->state == INFLIGHT_WAIT_PUBACK && ie->e.member != 0)
				returns_inflight(&r, &ie->e);
			ie->e.member = 0;
		}
		queue_filter(&f->queue, take_queued, &r);
		returns_send(&r);
	}
	for (uint32_t i = 0; i < t->count; i++)
		if (t->at[i] != NULL)
			member_drop(t->at[i]);
	free(t->at);
	free(t->buckets);
	free(t);
	f->members = NULL;
}

void
shared_made_durable(struct session *s)
{
	const struct members *t = s->flow->members;

	for (uint32_t i = 0; t != NULL && i < t->count; i++) {
		struct member *m = t->at[i];
		struct sub values;

		if (m == NULL)
			continue;
		values = (struct sub){ .id = m->id, .qos = m->qos, .flags = m->flags };
		durable_subscription(s, (struct grapnel_str){ m->key, m->share_len },
		    (struct grapnel_str){
			m->key + m->share_len + 1, m->key_len - m->share_len - 1 },
		    &values, 0);
		(void)join_send(m, true, on_joined_again, 0); /* so that its group hears of it */
	}
}
