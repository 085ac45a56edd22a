/* SPDX-License-Identifier: Apache-2.0 */
#include "core/shared.h"

#include "base/log.h"
#include "core/durable.h"

#include <stdlib.h>
#include <string.h>

#define DRAIN_BUDGET 1024u /* messages of a group in one turn */
#define RETRY_MS     100

/* A group with what ties it to its worker. */
struct shared_group {
	struct group g; /* must be first */
	struct sub sub;
	struct worker *w;
	struct shared_group *key_next;
	struct shared_group *dirty_next, **dirty_prev; /* dirty_prev NULL: not in the list */
	uint64_t hash, serial;
	uint64_t congested_since_ms; /* 0: not congested */
	uint64_t store_id;           /* 0: it is not kept */
	uint32_t slot;
	uint32_t key_len, share_len, mountpoint_len;
	bool wild_first;
	char key[];
};

static struct shared_group *
of(struct group *g)
{
	return (struct shared_group *)(void *)g;
}

static void
dirty_add(struct shared_group *sg)
{
	struct shared_table *t = sg->w->shared;

	if (sg->dirty_prev != NULL)
		return;
	sg->dirty_next = t->dirty;
	sg->dirty_prev = &t->dirty;
	if (t->dirty != NULL)
		t->dirty->dirty_prev = &sg->dirty_next;
	t->dirty = sg;
	sg->w->flush_due = true;
}

static void
dirty_remove(struct shared_group *sg)
{
	if (sg->dirty_prev == NULL)
		return;
	*sg->dirty_prev = sg->dirty_next;
	if (sg->dirty_next != NULL)
		sg->dirty_next->dirty_prev = sg->dirty_prev;
	sg->dirty_prev = NULL;
}

/* Members can take something, and something is there. */
static void
look_again(struct shared_group *sg)
{
	if (sg->g.queue.count > 0 && sg->g.ready_count > 0)
		dirty_add(sg);
}

static struct group_terms
terms(const struct worker *w)
{
	const struct limits *l = atomic_load_explicit(&w->broker->limits, memory_order_acquire);
	uint64_t used = queued_total(w), total = l->max_total_queued_bytes;

	return (struct group_terms){
		.strategy = l->share_strategy,
		.max_messages = l->max_queued_messages,
		.max_bytes = l->max_queued_bytes,
		.total_left = used < total ? total - used : 0,
		.now_ms = w->now_ms,
		.hold = w->core->stopping,
		.memory_short = overload_level(&w->broker->overload) != OVERLOAD_NONE,
	};
}

/* ---- what a group calls --------------------------------------------------------------------- */

static void
on_queued(struct group *g, const struct message *msg, int sign)
{
	queued_add(of(g)->w, message_size(msg), sign);
}

static void
on_dropped(
    struct group *g, const struct message *msg, uint64_t address, enum metric m, const char *why)
{
	enum grapnel_event_type type = m == METRIC_MESSAGES_EXPIRED ? GRAPNEL_EVENT_MESSAGE_EXPIRED
								    : GRAPNEL_EVENT_MESSAGE_DROPPED;
	struct shared_group *sg = of(g);
	unsigned suppressed;

	durable_finished(sg->w, 0, address);
	metric_add(&sg->w->metrics, m, 1);
	if ((m == METRIC_MESSAGES_DROPPED_QUEUE_FULL ||
		m == METRIC_MESSAGES_DROPPED_MEMORY_LIMIT) &&
	    log_allowed("queue", &suppressed))
		log_at(GRAPNEL_LOG_WARNING, "message_dropped",
		    "shared group \"%.*s\": message to \"%.*s\" dropped: %s",
		    STR(((struct grapnel_str){ sg->key, sg->key_len })), STR(message_topic(msg)),
		    why);
	if (worker_self == sg->w && event_wanted(sg->w, type)) /* not at the very end */
		core_event(sg->w, type, NULL, msg, 0, why);
}

static void
parcel_send(struct worker *w, unsigned target)
{
	struct parcel *p = w->shared->out[target];

	w->shared->out[target] = NULL;
	p->mail.fn = members_parcel_mail;
	worker_post(w->broker->workers[target], &p->mail);
}

static enum group_given
on_give(
    struct group *g, struct group_member *gm, struct message *msg, uint32_t seq, uint64_t address)
{
	struct shared_group *sg = of(g);
	struct worker *w = sg->w;
	struct parcel *p;
	struct message *kept;

	if (gm->worker == w->index)
		return members_give(w, gm, msg, seq, address);
	if ((p = w->shared->out[gm->worker]) == NULL) {
		if ((p = malloc(sizeof(*p) + PARCEL_ITEMS * sizeof(p->items[0]))) == NULL)
			return GROUP_NO_MEMORY;
		p->from = w->index;
		p->count = 0;
		w->shared->out[gm->worker] = p;
		w->flush_due = true;
	}
	if ((kept = message_keep(msg)) == NULL)
		return GROUP_NO_MEMORY;
	p->items[p->count++] = (struct parcel_item){
		.ref = { .group = sg->slot,
		    .group_serial = sg->serial,
		    .member = gm->slot,
		    .member_serial = gm->serial },
		.generation = gm->generation,
		.msg = kept,
		.address = address,
		.index = gm->index,
		.epoch = gm->epoch,
		.seq = seq,
	};
	if (p->count == PARCEL_ITEMS)
		parcel_send(w, gm->worker);
	return GROUP_GIVEN;
}

static const struct group_ops ops = { .give = on_give, .queued = on_queued, .dropped = on_dropped };

/* ---- the table of groups ------------------------------------------------------------------------ */

static struct shared_group *
group_of(struct worker *w, const struct group_ref *ref)
{
	struct shared_table *t = w->shared;

	return ref->group < t->slot_count && t->slots[ref->group] != NULL &&
		t->slots[ref->group]->serial == ref->group_serial
	    ? t->slots[ref->group]
	    : NULL;
}

static struct shared_group *
group_find(struct shared_table *t, const struct join_mail *j)
{
	struct shared_group *sg =
	    t->bucket_count > 0 ? t->by_key[j->hash & (t->bucket_count - 1)] : NULL;

	while (sg != NULL &&
	    (sg->hash != j->hash || sg->mountpoint_len != j->mountpoint_len ||
		sg->key_len != j->key_len || memcmp(sg->key, j->key, j->key_len) != 0))
		sg = sg->key_next;
	return sg;
}

static int
table_room(struct shared_table *t)
{
	if (t->count >= t->bucket_count) {
		uint32_t n = t->bucket_count == 0 ? 16 : t->bucket_count * 2;
		struct shared_group **by_key = calloc(n, sizeof(struct shared_group *));

		if (by_key == NULL)
			return GRAPNEL_ENOMEM;
		for (uint32_t i = 0; i < t->slot_count; i++) {
			struct shared_group *sg = t->slots[i];

			if (sg == NULL)
				continue;
			sg->key_next = by_key[sg->hash & (n - 1)];
			by_key[sg->hash & (n - 1)] = sg;
		}
		free(t->by_key);
		t->by_key = by_key;
		t->bucket_count = n;
	}
	if (t->slot_count == t->slot_capacity && t->count == t->slot_count) {
		uint32_t n = t->slot_capacity == 0 ? 16 : t->slot_capacity * 2;
		struct shared_group **slots = realloc(t->slots, n * sizeof(struct shared_group *));

		if (slots == NULL)
			return GRAPNEL_ENOMEM;
		t->slots = slots;
		t->slot_capacity = n;
	}
	return GRAPNEL_OK;
}

static struct shared_group *
shared_group_new(struct worker *w, const struct join_mail *j)
{
	struct shared_table *t = w->shared;
	struct shared_group *sg;
	struct topic_node *node;
	uint32_t skip = j->share_len + 1, slot;

	if (table_room(t) != GRAPNEL_OK || (sg = calloc(1, sizeof(*sg) + j->key_len)) == NULL)
		return NULL;
	sg->w = w;
	sg->hash = j->hash;
	sg->key_len = j->key_len;
	sg->share_len = j->share_len;
	sg->mountpoint_len = j->mountpoint_len;
	sg->wild_first = j->wild_first;
	memcpy(sg->key, j->key, j->key_len);
	sg->sub = (struct sub){ .u.group = &sg->g, .flags = SUB_GROUP };
	if (topic_index_acquire(w->broker->index,
		(struct grapnel_str){ sg->key + skip, sg->key_len - skip }, &node) != GRAPNEL_OK) {
		free(sg);
		return NULL;
	}
	if (node_add(w, node, &sg->sub) != GRAPNEL_OK) {
		topic_index_release(w->broker->index, node);
		free(sg);
		return NULL;
	}
	sg->serial = ++t->next_group_serial;
	group_init(&sg->g, &ops, sg->hash ^ sg->serial * 0x9e3779b97f4a7c15u);
	if (t->count < t->slot_count) {
		for (slot = t->hole; t->slots[slot] != NULL; slot++)
			;
		t->hole = slot + 1;
	} else {
		slot = t->slot_count++;
	}
	t->slots[slot] = sg;
	sg->slot = slot;
	t->count++;
	sg->key_next = t->by_key[sg->hash & (t->bucket_count - 1)];
	t->by_key[sg->hash & (t->bucket_count - 1)] = sg;
	metric_add(&w->metrics, METRIC_SHARED_GROUPS, 1);
	return sg;
}

/* The group ends with its last member. */
static void
shared_group_free(struct shared_group *sg)
{
	struct worker *w = sg->w;
	struct shared_table *t = w->shared;
	struct shared_group **p = &t->by_key[sg->hash & (t->bucket_count - 1)];

	while (*p != sg)
		p = &(*p)->key_next;
	*p = sg->key_next;
	t->slots[sg->slot] = NULL;
	if (sg->slot < t->hole)
		t->hole = sg->slot;
	while (t->slot_count > 0 && t->slots[t->slot_count - 1] == NULL)
		t->slot_count--;
	t->count--;
	dirty_remove(sg);
	node_remove(w, &sg->sub);
	topic_index_release(w->broker->index, sg->sub.node);
	group_fini(&sg->g);
	durable_group_end(w, sg->store_id);
	if (sg->congested_since_ms != 0 && !w->core->stopping)
		router_resume_paused(w);
	metric_add(&w->metrics, METRIC_SHARED_GROUPS, -1);
	free(sg);
}

/* It has a member whose session is kept: from now on what waits in it is, too. Perhaps it was, before a restart. */
static void
group_keep(struct shared_group *sg)
{
	struct shared_table *t = sg->w->shared;
	struct shared_orphan **p = &t->orphans, *o;
	struct entry e;

	while ((o = *p) != NULL &&
	    (o->key_len != sg->key_len || o->mountpoint_len != sg->mountpoint_len ||
		memcmp(o->key, sg->key, sg->key_len) != 0))
		p = &o->next;
	if (o == NULL) {
		sg->store_id = durable_group_begin(sg->w,
		    (struct grapnel_str){ sg->key + sg->share_len + 1, sg->mountpoint_len },
		    (struct grapnel_str){ sg->key, sg->key_len });
		return;
	}
	*p = o->next;
	sg->store_id = o->store_id;
	while (queue_pop(&o->queue, &e))
		(void)group_restore(&sg->g, e.msg, e.address);
	queue_clear(&o->queue);
	free(o);
}

/* ---- members come, change and go ----------------------------------------------------------------- */

int
home_join(struct worker *w, struct join_mail *j)
{
	struct shared_group *sg = group_find(w->shared, j);
	struct group_member *gm = NULL;

	if (sg == NULL && (sg = shared_group_new(w, j)) == NULL)
		return GRAPNEL_ENOMEM;
	if (j->again && (gm = group_by_serial(&sg->g, j->values.serial)) != NULL)
		group_qos(&sg->g, gm, j->values.qos);
	if (gm == NULL && (gm = group_join(&sg->g, &j->values)) == NULL) {
		if (sg->g.count == 0)
			shared_group_free(sg);
		return GRAPNEL_ENOMEM;
	}
	if (j->durable && sg->store_id == 0)
		group_keep(sg);
	group_state(&sg->g, gm, j->online, j->epoch, j->credit);
	j->ref = (struct group_ref){ .group = sg->slot,
		.group_serial = sg->serial,
		.member = gm->slot,
		.member_serial = gm->serial };
	look_again(sg);
	return GRAPNEL_OK;
}

void
home_join_mail(struct worker *w, struct mail *m)
{
	struct join_mail *j = (struct join_mail *)(void *)m;

	j->err = home_join(w, j);
	j->mail.fn = members_joined_mail;
	worker_post(w->broker->workers[j->values.worker], &j->mail);
}

void
home_leave(struct worker *w, const struct group_ref *ref)
{
	struct shared_group *sg = group_of(w, ref);
	struct group_member *gm;

	if (sg == NULL || (gm = group_member(&sg->g, ref->member, ref->member_serial)) == NULL)
		return;
	group_leave(&sg->g, gm);
	if (sg->g.count == 0)
		shared_group_free(sg);
}

void
home_join_undone_mail(struct worker *w, struct mail *m)
{
	home_leave(w, &((struct join_mail *)(void *)m)->ref);
	free(m);
}

void
home_leave_mail(struct worker *w, struct mail *mail)
{
	struct member *m = (struct member *)(void *)mail;

	home_leave(w, &m->ref);
	member_free(m);
}

void
home_state(struct worker *w, const struct state_item *item)
{
	struct shared_group *sg = group_of(w, &item->ref);
	struct group_member *gm;

	if (sg == NULL ||
	    (gm = group_member(&sg->g, item->ref.member, item->ref.member_serial)) == NULL)
		return;
	if (gm->qos != item->qos)
		group_qos(&sg->g, gm, item->qos);
	if (item->state)
		group_state(&sg->g, gm, item->online, item->epoch, item->credit);
	else
		group_credit(&sg->g, gm, item->epoch, item->credit);
	look_again(sg);
}

void
home_state_mail(struct worker *w, struct mail *mail)
{
	struct state_mail *sm = (struct state_mail *)(void *)mail;

	for (unsigned i = 0; i < sm->count; i++)
		home_state(w, &sm->items[i]);
	free(sm);
}

void
home_returned(struct worker *w, struct parcel_item *items, uint32_t count)
{
	struct group_terms now = terms(w);

	for (uint32_t i = count; i-- > 0;) {
		struct parcel_item *it = &items[i];
		struct shared_group *sg = group_of(w, &it->ref);
		struct group_member *gm;

		if (sg == NULL) { /* its queue has ended, and so does what belongs there */
			metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_OFFLINE, 1);
			durable_finished(w, 0, it->address);
			message_unref(it->msg);
			continue;
		}
		/* It will not take more until it has said so (that may be under way), or ever. */
		gm = group_member(&sg->g, it->ref.member, it->ref.member_serial);
		if (gm != NULL && !it->gone && gm->epoch == it->epoch && gm->online)
			group_state(&sg->g, gm, true, gm->epoch, 0);
		group_return(&sg->g, &now, it->msg, it->seq, it->address);
		if (gm != NULL && it->gone)
			home_leave(w, &it->ref);
		else
			look_again(sg);
	}
}

void
home_returned_mail(struct worker *w, struct mail *mail)
{
	struct parcel *p = (struct parcel *)(void *)mail;

	home_returned(w, p->items, p->count);
	free(p);
}

/* ---- messages ---------------------------------------------------------------------------------------- */

static void
congestion(struct shared_group *sg)
{
	const struct limits *l = atomic_load_explicit(&sg->w->broker->limits, memory_order_acquire);
	const struct queue *q = &sg->g.queue;

	if (sg->g.online > 0 &&
	    (q->count > l->max_queued_messages / 2 || q->bytes > l->max_queued_bytes / 2)) {
		if (sg->congested_since_ms == 0)
			sg->congested_since_ms = sg->w->now_ms;
		if (sg->w->now_ms - sg->congested_since_ms < l->publisher_pause_ms)
			router_congested(sg->w);
	} else if (sg->congested_since_ms != 0 && q->count <= l->max_queued_messages / 4 &&
	    q->bytes <= l->max_queued_bytes / 4) {
		sg->congested_since_ms = 0;
		router_resume_paused(sg->w);
	}
}

/* @return its address in the store; 0: it is not to be there. */
static uint64_t
keep(struct shared_group *sg, struct message *kept, bool *refused)
{
	struct entry e = { .msg = kept, .qos = kept->qos };

	*refused = false;
	if (sg->store_id == 0 || kept->qos == 0)
		return 0;
	durable_receiver(sg->w, sg->store_id, true, sg->g.online > 0, &e, refused);
	return e.address;
}

/* stored: address is its place already, or 0 because it has none. */
static void
route(struct shared_group *sg, struct message *msg, uint64_t address, bool stored)
{
	struct group_terms now = terms(sg->w);
	struct message *kept;
	bool refused = false;

	if (!stored && sg->store_id != 0 && msg->qos > 0 && (kept = message_keep(msg)) != NULL) {
		address = keep(sg, kept, &refused);
		message_unref(kept);
	}
	if (refused) {
		on_dropped(
		    &sg->g, msg, 0, METRIC_MESSAGES_DROPPED_STORE, "the store takes nothing in");
		return;
	}
	group_route(&sg->g, &now, msg, address);
	if (sg->g.queue.count > 0) {
		congestion(sg);
		look_again(sg);
	}
}

bool
shared_wants(const struct group *g, const struct message *msg)
{
	const struct shared_group *sg = (const struct shared_group *)(const void *)g;

	/* [MQTT-4.7.2-1], behind the mountpoint */
	return !sg->wild_first || msg->topic_len <= sg->mountpoint_len ||
	    msg->topic[sg->mountpoint_len] != '$';
}

void
shared_route(struct group *g, struct message *msg)
{
	route(of(g), msg, 0, false);
}

void
shared_orphan_wanted(struct worker *w, struct grapnel_str key, uint32_t mountpoint_len)
{
	for (struct shared_orphan *o = w->shared->orphans; o != NULL; o = o->next)
		if (o->key_len == key.len && o->mountpoint_len == mountpoint_len &&
		    memcmp(o->key, key.data, key.len) == 0)
			o->wanted = true;
}

void
shared_orphans_end(struct worker *w)
{
	struct shared_orphan **p = &w->shared->orphans, *o;
	struct entry e;

	while ((o = *p) != NULL) {
		if (o->wanted) {
			p = &o->next;
			continue;
		}
		*p = o->next;
		while (queue_pop(&o->queue, &e)) {
			metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_OFFLINE, 1);
			durable_finished(w, 0, e.address);
			entry_clear(&e);
		}
		queue_clear(&o->queue);
		durable_group_end(w, o->store_id);
		free(o);
	}
}

bool
shared_restore(struct worker *w, uint64_t store_id, struct message *msg, uint64_t address)
{
	struct shared_table *t = w->shared;
	struct entry e = { .msg = msg, .qos = msg->qos, .address = address };

	for (struct shared_orphan *o = t->orphans; o != NULL; o = o->next) {
		if (o->store_id != store_id)
			continue;
		if (queue_push(&o->queue, &e) == GRAPNEL_OK)
			return true;
		message_unref(msg);
		return false;
	}
	for (uint32_t i = 0; i < t->slot_count; i++)
		if (t->slots[i] != NULL && t->slots[i]->store_id == store_id)
			return group_restore(&t->slots[i]->g, msg, address);
	message_unref(msg); /* cannot be: it was one of the two when it was read */
	return true;
}

void
shared_hold(
    struct group *g, struct message *kept, uint32_t *slot, uint64_t *serial, uint64_t *address)
{
	bool refused;

	*slot = of(g)->slot;
	*serial = of(g)->serial;
	*address = keep(of(g), kept, &refused);
}

void
shared_route_held(
    struct worker *w, uint32_t slot, uint64_t serial, struct message *kept, uint64_t address)
{
	const struct shared_table *t = w->shared;
	struct shared_group *sg = slot < t->slot_count ? t->slots[slot] : NULL;

	if (sg == NULL || sg->serial != serial)
		durable_finished(w, 0, address);
	else
		route(sg, kept, address, true);
}

void
shared_flush(struct worker *w)
{
	struct shared_table *t = w->shared;
	struct shared_group *sg, *list = t->dirty;
	bool no_memory = false;

	w->flush_due = false;
	t->dirty = NULL;
	if (list != NULL)
		list->dirty_prev = &list;
	while ((sg = list) != NULL) {
		struct group_terms now = terms(w);

		dirty_remove(sg);
		switch (group_drain(&sg->g, &now, DRAIN_BUDGET)) {
		case GROUP_GIVEN:
			dirty_add(sg);
			break;
		case GROUP_NO_MEMORY:
			no_memory = true;
			break;
		case GROUP_FULL:
			break;
		}
		if (sg->congested_since_ms != 0)
			congestion(sg);
	}
	for (unsigned i = 0; i < w->broker->worker_count; i++)
		if (t->out[i] != NULL)
			parcel_send(w, i);
	members_flush(w);
	if (no_memory)
		shared_retry(w);
}

void
shared_retry(struct worker *w)
{
	if (!timer_armed(&w->shared->retry))
		worker_timer(w, &w->shared->retry, RETRY_MS);
}

static void
on_retry(struct timer *timer, void *owner)
{
	struct shared_table *t =
	    (struct shared_table *)(void *)((char *)timer - offsetof(struct shared_table, retry));

	(void)owner;
	for (uint32_t i = 0; i < t->slot_count; i++)
		if (t->slots[i] != NULL)
			look_again(t->slots[i]);
	t->w->flush_due = true;
}

/* ---- beginning and end ----------------------------------------------------------------------------------- */

int
shared_init(struct worker *w)
{
	struct shared_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return GRAPNEL_ENOMEM;
	t->w = w;
	timer_init(&t->retry, on_retry);
	w->shared = t;
	return GRAPNEL_OK;
}

void
shared_fini(struct worker *w)
{
	struct shared_table *t = w->shared;
	struct shared_orphan *o;

	timer_disarm(w->wheel, &t->retry);
	while (t->slot_count > 0)
		shared_group_free(t->slots[t->slot_count - 1]);
	for (unsigned i = 0; i < WORKER_MAX; i++) {
		if (t->out[i] == NULL)
			continue;
		for (uint32_t k = 0; k < t->out[i]->count; k++)
			message_unref(t->out[i]->items[k].msg);
		free(t->out[i]);
	}
	while ((o = t->orphans) != NULL) {
		t->orphans = o->next;
		queue_clear(&o->queue);
		free(o);
	}
	free(t->by_key);
	free(t->slots);
	free(t);
	w->shared = NULL;
}
