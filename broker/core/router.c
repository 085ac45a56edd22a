/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router - from a message to everybody who subscribes
 *
 * The topic index yields nodes. What this worker's sessions have there is expanded at once; for each other worker the
 * message and its nodes go into one mail per turn, and that worker expands them. No session pointer leaves its thread:
 * what travels is (node, generation), and the message.
 */
#include "base/log.h"
#include "base/rcu.h"
#include "core/durable.h"
#include "core/retain.h"

#include <stdlib.h>
#include <string.h>

#define FORWARD_BYTES (64u * 1024u) /* of one mail of forwarded messages */
#define FORWARD_INLINE \
	1024u /* messages up to this are copied into it: no allocation, no shared counts */
#define MAILBOX_FULL 256 /* mails that another worker may be behind before publishers wait */

struct merged {
	struct session *s;
	subids ids;
	uint8_t qos, flags;
};

struct origin { /* who published, for back-pressure across workers */
	uint64_t serial;
	uint32_t slot, worker; /* worker UINT32_MAX: nobody */
};

struct forward_node {
	struct topic_node *node;
	uint32_t generation;
};
/*
 * Followed by its nodes, and then, if the message is in the mail itself, by a struct message and its bytes. Such
 * messages share references to their authors: one for a run of the same author's.
 */
struct forward_item {
	struct message *msg;
	struct identity
	    *author; /* with a reference; NULL: the item before has it, or none is needed */
	struct ticket *ticket; /* one of its; NULL: nobody waits */
	struct origin from;
	uint32_t count, size; /* nodes; bytes of all this */
};
struct forward {
	struct mail mail;
	struct identity *author; /* of the last item that has a reference */
	uint32_t used;
	_Alignas(16) char data[FORWARD_BYTES];
};

struct router_state {
	struct merged *merged;
	uint32_t merged_capacity;
	void **slots;
	uint32_t slot_capacity;
	struct forward *out[WORKER_MAX];
	struct origin origin; /* of the message being expanded */
	struct {
		uint32_t slot;
		uint64_t serial;
	} * paused;
	uint32_t paused_count, paused_capacity;
	struct timer pause_timer;
	struct worker *w;
	bool busy;
	bool mailbox_full; /* of a worker that something was forwarded to */
};

/* ---- publishers that wait for slow receivers -------------------------------------------------- */

struct pause_mail {
	struct mail mail;
	struct origin who;
};

static void
pause_publisher(struct worker *w, uint32_t slot, uint64_t serial)
{
	struct router_state *r = w->router;
	struct conn *c = conn_by_serial(w, slot, serial);

	if (c == NULL || c->state != CONN_ESTABLISHED || c->pause & PAUSE_CONGESTION)
		return;
	if (r->paused_count == r->paused_capacity) {
		uint32_t capacity = r->paused_capacity == 0 ? 16 : r->paused_capacity * 2;
		void *p = realloc(r->paused, capacity * sizeof(r->paused[0]));

		if (p == NULL)
			return; /* not paused: the receiver's own limits hold */
		r->paused = p;
		r->paused_capacity = capacity;
	}
	r->paused[r->paused_count].slot = slot;
	r->paused[r->paused_count++].serial = serial;
	atomic_store_explicit(
	    &w->broker->paused_publishers[w->index], r->paused_count, memory_order_relaxed);
	metric_add(&w->metrics, METRIC_PUBLISHERS_PAUSED, 1);
	conn_pause(c, PAUSE_CONGESTION);
	if (!timer_armed(&r->pause_timer))
		worker_timer(w, &r->pause_timer, c->limits->publisher_pause_ms + 10);
}

static void
on_pause_mail(struct worker *w, struct mail *m)
{
	struct pause_mail *pm = (struct pause_mail *)(void *)m;

	pause_publisher(w, pm->who.slot, pm->who.serial);
	free(pm);
}

void
router_congested(struct worker *w)
{
	struct router_state *r = w->router;
	struct pause_mail *pm;

	if (r->origin.worker == UINT32_MAX)
		return;
	if (r->origin.worker == w->index) {
		pause_publisher(w, r->origin.slot, r->origin.serial);
	} else if ((pm = malloc(sizeof(*pm))) != NULL) {
		pm->mail.fn = on_pause_mail;
		pm->who = r->origin;
		worker_post(w->broker->workers[r->origin.worker], &pm->mail);
	}
	r->origin.worker = UINT32_MAX; /* once per message is enough */
}

static void
resume_local(struct worker *w)
{
	struct router_state *r = w->router;
	uint32_t n = r->paused_count;

	r->paused_count = 0;
	atomic_store_explicit(&w->broker->paused_publishers[w->index], 0, memory_order_relaxed);
	for (uint32_t i = 0; i < n; i++) {
		struct conn *c = conn_by_serial(w, r->paused[i].slot, r->paused[i].serial);

		if (c != NULL)
			conn_resume(c,
			    PAUSE_CONGESTION); /* from the loop; if it is still too early, it is paused again */
	}
}

/* A receiver that stays slow keeps its publishers for publisher_pause at most: deliver_congested looks at the clock. */
static void
on_pause_timer(struct timer *t, void *owner)
{
	(void)owner;
	resume_local((
	    (struct router_state *)(void *)((char *)t - offsetof(struct router_state, pause_timer)))
			 ->w);
}

static void
on_resume_mail(struct worker *w, struct mail *m)
{
	free(m);
	resume_local(w);
}

void
router_resume_paused(struct worker *w)
{
	struct broker *b = w->broker;

	if (w->router->paused_count > 0)
		resume_local(w);
	for (unsigned i = 0; i < b->worker_count; i++) {
		struct mail *m;

		if (i == w->index ||
		    atomic_load_explicit(&b->paused_publishers[i], memory_order_relaxed) == 0)
			continue;
		if ((m = malloc(sizeof(*m))) != NULL) {
			m->fn = on_resume_mail;
			worker_post(b->workers[i], m);
		}
	}
}

/* ---- expanding on the worker that has the sessions ------------------------------------------------ */

static bool
same_client(const struct identity *a, const struct identity *b)
{
	if (a == NULL || a == b)
		return a != NULL;
	if (a->client_id_len != b->client_id_len ||
	    memcmp(a->bytes, b->bytes, a->client_id_len) != 0)
		return false;
	if (a->site == b->site || a->site->mountpoint.len != b->site->mountpoint.len)
		return a->site == b->site;
	return a->site->mountpoint.len == 0 ||
	    memcmp(a->site->mountpoint.data, b->site->mountpoint.data, a->site->mountpoint.len) ==
	    0;
}

/* Is this message for that subscription? Fills QoS and flags. */
static inline bool
wanted(struct sub *sub, const struct message *msg, uint8_t *qos, uint8_t *flags)
{
	struct session *s = sub->u.session;

	if (sub->flags & (SUB_NO_LOCAL | SUB_WILD_FIRST)) {
		if (sub->flags & SUB_NO_LOCAL &&
		    same_client(msg->author, s->identity)) /* [MQTT-3.8.3-3] */
			return false;
		if (sub->flags & SUB_WILD_FIRST && msg->topic_len > s->mountpoint_len &&
		    msg->topic[s->mountpoint_len] ==
			'$') /* [MQTT-4.7.2-1], behind the mountpoint */
			return false;
	}
	*qos = msg->qos < sub->qos ? msg->qos : sub->qos;
	*flags = 0;
	if (sub->flags & SUB_RETAIN_AS_PUBLISHED && msg->flags & MSG_RETAIN)
		*flags = ENTRY_RETAIN;
	if (rights_read_needed(s, sub))
		*flags |= ENTRY_CHECK;
	return true;
}

static void
merge(struct router_state *r, uint32_t *count, struct sub *sub, const struct message *msg)
{
	struct session *s = sub->u.session;
	uint8_t qos, flags;
	struct merged *m;

	if (!wanted(sub, msg, &qos, &flags))
		return;
	if (s->merge_slot < *count && r->merged[s->merge_slot].s == s) {
		/* One copy, the highest QoS, all identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3]. Allowed by one is allowed. */
		m = &r->merged[s->merge_slot];
		if (qos > m->qos)
			m->qos = qos;
		m->flags = (uint8_t)(((m->flags | flags) & ENTRY_RETAIN) |
		    (m->flags & flags & ENTRY_CHECK));
		m->ids = subids_add(m->ids, sub->id);
		return;
	}
	if (*count == r->merged_capacity) {
		uint32_t capacity = r->merged_capacity == 0 ? 64 : r->merged_capacity * 2;
		struct merged *p = realloc(r->merged, capacity * sizeof(*p));

		if (p == NULL) {
			metric_add(&r->w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
			return;
		}
		r->merged = p;
		r->merged_capacity = capacity;
	}
	s->merge_slot = *count;
	r->merged[(*count)++] = (struct merged){ s, subids_one(sub->id), qos, flags };
}

/* To one session. held: not yet. */
static inline void
give(struct worker *w, struct session *s, struct message *msg, uint8_t qos, uint8_t flags,
    subids ids, bool held)
{
	if (held)
		hold_session(w, s, msg, qos, flags, ids);
	else
		deliver(s, msg, qos, flags, ids, 0);
}

static void
give_group(struct worker *w, struct group *g, struct message *msg, bool held)
{
	if (!shared_wants(g, msg))
		return;
	if (held)
		hold_group(w, g, msg);
	else
		shared_route(g, msg);
}

/* Give the message to all subscriptions behind these slots of this worker. */
static void
expand(struct worker *w, struct message *msg, void *const *slots, unsigned n)
{
	struct router_state *r = w->router;
	struct encoded *enc = &w->core->encoded;
	uint32_t count = 0;
	bool was_busy = r->busy, held = durable_holding(w);

	r->busy = true;
	enc->candidate = msg;
	enc->msg = NULL;
	for (unsigned i = 0; i < n; i++) {
		struct sub *one, *const *many;
		unsigned k = slot_subs(slots[i], &one, &many);

		for (unsigned j = 0; j < k; j++) {
			struct sub *sub = many[j];
			uint8_t qos, flags;

			if (j + 4 < k)
				__builtin_prefetch(many[j + 4]);
			if (j + 2 < k)
				__builtin_prefetch(many[j + 2]->u.session);
			if (sub->flags & SUB_GROUP)
				give_group(w, sub->u.group, msg, held);
			else if (sub->flags & SUB_INTERNAL)
				internal_deliver(sub->u.internal, msg);
			else if (n > 1)
				merge(r, &count, sub, msg);
			else if (wanted(sub, msg, &qos, &flags)) /* a session is in one node once */
				give(w, sub->u.session, msg, qos, flags, subids_one(sub->id), held);
		}
	}
	for (uint32_t i = 0; i < count; i++)
		give(w, r->merged[i].s, msg, r->merged[i].qos, r->merged[i].flags, r->merged[i].ids,
		    held);
	if (events_blocked(
		w)) /* what happens to it here is to be seen without loss: its publisher, on whatever worker, waits */
		router_congested(w);
	enc->candidate = NULL;
	enc->msg = NULL;
	r->busy = was_busy;
}

bool
router_busy(const struct worker *w)
{
	return w->router->busy;
}

static bool
slots_room(struct router_state *r, unsigned n)
{
	void **p;

	if (n <= r->slot_capacity)
		return true;
	if ((p = realloc(r->slots, n * 2 * sizeof(void *))) == NULL)
		return false;
	r->slots = p;
	r->slot_capacity = n * 2;
	return true;
}

/* ---- to other workers -------------------------------------------------------------------------------- */

/* The items of a mail, one after the other; NULL: no more. */
static struct forward_item *
forward_next(struct forward *f, uint32_t *at)
{
	struct forward_item *item = (struct forward_item *)(void *)(f->data + *at);

	if (*at >= f->used)
		return NULL;
	*at += item->size;
	return item;
}

static void
item_done(struct forward_item *item, struct identity **held)
{
	if (item->msg->flags & MSG_HEAP)
		message_unref(item->msg);
	else
		message_release_borrowed(item->msg);
	if (item->author != NULL) {
		identity_unref(*held);
		*held = item->author; /* the items behind it may be this author's, too */
	}
}

static void
on_forward(struct worker *w, struct mail *m)
{
	struct forward *f = (struct forward *)(void *)m;
	struct router_state *r = w->router;
	struct identity *held = NULL;
	struct forward_item *item;
	uint32_t at = 0;

	while ((item = forward_next(f, &at)) != NULL) {
		struct forward_node *nodes = (struct forward_node *)(void *)(item + 1);
		unsigned n = 0;

		/* While it stops only what is kept has a future: what was acknowledged, and the Wills of its clients. */
		if ((!w->core->stopping || w->durable != NULL) && slots_room(r, item->count)) {
			for (uint32_t i = 0; i < item->count; i++) {
				void *slot = topic_node_slot_checked(
				    nodes[i].node, nodes[i].generation, w->index);

				if (slot != NULL)
					r->slots[n++] = slot;
			}
			r->origin = item->from;
			if (item->ticket != NULL)
				durable_routing_for(w, item->ticket);
			expand(w, item->msg, r->slots, n);
			r->origin.worker = UINT32_MAX;
		} else if (item->ticket != NULL) { /* nobody has looked at it here */
			ticket_refuse(item->ticket);
		}
		if (item->ticket != NULL)
			durable_routing_done(w, item->ticket);
		item_done(item, &held);
	}
	identity_unref(held);
	free(f);
}

static void
forward_post(struct worker *w, unsigned target)
{
	struct forward *f = w->router->out[target];

	if (f == NULL)
		return;
	w->router->out[target] = NULL;
	f->mail.fn = on_forward;
	worker_post(w->broker->workers[target], &f->mail);
}

/* A mail to that worker with room for `need` bytes. NULL: no memory. */
static struct forward *
forward_room(struct worker *w, unsigned target, size_t need)
{
	struct forward *f = w->router->out[target];

	if (f != NULL && f->used + need > FORWARD_BYTES) {
		forward_post(w, target);
		f = NULL;
	}
	if (f == NULL && (f = malloc(sizeof(*f))) != NULL) {
		f->used = 0;
		f->author = NULL;
		w->router->out[target] = f;
		/* Asked once per mail: the other worker writes to what is read here. */
		if (worker_mail_depth(w->broker->workers[target]) > MAILBOX_FULL)
			w->router->mailbox_full = true;
	}
	return f;
}

/* Those of the nodes from *at on that concern the worker, `room` at most. @return how many. */
static unsigned
forward_nodes(struct forward_node *out, unsigned room, unsigned target,
    struct topic_node *const *nodes, unsigned n, unsigned *at)
{
	unsigned take = 0;

	for (; *at < n && take < room; (*at)++)
		if (topic_node_has(nodes[*at], target))
			out[take++] =
			    (struct forward_node){ nodes[*at], topic_node_generation(nodes[*at]) };
	return take;
}

/* The message itself goes into the mail. */
static void
forward_copy(struct forward *f, const struct origin *from, struct ticket *ticket,
    const struct message *msg, struct topic_node *const *nodes, unsigned n, unsigned target)
{
	struct forward_item *item = (struct forward_item *)(void *)(f->data + f->used);
	struct forward_node *out = (struct forward_node *)(void *)(item + 1);
	unsigned from_node = 0, take = forward_nodes(out, n, target, nodes, n, &from_node);
	struct message *copy = (struct message *)(void *)(out + take);
	char *bytes = (char *)(copy + 1);

	*copy = message_view(msg);
	copy->topic = memcpy(bytes, msg->topic, msg->topic_len);
	bytes += msg->topic_len;
	if (msg->props_len > 0)
		copy->props = memcpy(bytes, msg->props, msg->props_len);
	bytes += msg->props_len;
	if (msg->payload_len > 0)
		copy->payload = memcpy(bytes, msg->payload, msg->payload_len);
	bytes += msg->payload_len;
	*item =
	    (struct forward_item){ .msg = copy, .ticket = ticket, .from = *from, .count = take };
	if (msg->author != NULL && msg->author != f->author)
		item->author = f->author = identity_ref(msg->author);
	item->size = (uint32_t)((size_t)(bytes - (char *)item) + 7u) & ~7u;
	f->used += item->size;
}

/* Does somebody wait for what becomes of it there? */
static bool
forward_waits(const struct worker *w, const struct message *msg, struct topic_node *const *nodes,
    unsigned n, unsigned target)
{
	bool kept = durable_holding(w);

	if (w->durable == NULL || !w->durable->routing_waits || (msg->qos == 0 && !kept))
		return false;
	for (unsigned i = 0; i < n && !kept; i++)
		kept = topic_node_tags(nodes[i], target, SLOT_DURABLE) != 0;
	return kept;
}

/* Who published it wants to know when it is kept there, or it is held: one of the ticket's for the other worker. NULL: not so. */
static struct ticket *
forward_ticket(struct worker *w, const struct message *msg, struct topic_node *const *nodes,
    unsigned n, unsigned target)
{
	struct ticket *t;

	if (!forward_waits(w, msg, nodes, n, target) || (t = durable_routing_ticket(w)) == NULL)
		return NULL;
	if (durable_holding(w))
		hold_is_remote(w->durable->holding);
	ticket_take(t);
	return t;
}

static void
forward(struct worker *w, unsigned target, struct message *msg, struct topic_node *const *nodes,
    unsigned n)
{
	struct router_state *r = w->router;
	size_t bytes = (size_t)msg->topic_len + msg->props_len + msg->payload_len;
	size_t need = sizeof(struct forward_item) + n * sizeof(struct forward_node) +
	    sizeof(struct message) + bytes + 7u;
	struct forward *f;

	if (!(msg->flags & MSG_HEAP) && msg->heap == NULL && bytes <= FORWARD_INLINE &&
	    need <= FORWARD_BYTES && (f = forward_room(w, target, need)) != NULL) {
		forward_copy(
		    f, &r->origin, forward_ticket(w, msg, nodes, n, target), msg, nodes, n, target);
		return;
	}
	for (unsigned at = 0; at < n;) {
		struct forward_item *item;
		struct forward_node *out;
		struct message *kept;
		unsigned room, take;

		f = forward_room(w, target, sizeof(*item) + sizeof(*out));
		if (f == NULL || (kept = message_keep(msg)) == NULL) {
			metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
			if (forward_waits(w, msg, nodes, n, target))
				(void)durable_refuse(w);
			return;
		}
		item = (struct forward_item *)(void *)(f->data + f->used);
		out = (struct forward_node *)(void *)(item + 1);
		room = (unsigned)((FORWARD_BYTES - f->used - sizeof(*item)) / sizeof(*out));
		if ((take = forward_nodes(out, room, target, nodes, n, &at)) == 0) {
			message_unref(kept);
			return;
		}
		*item = (struct forward_item){ .msg = kept,
			.ticket = forward_ticket(w, msg, nodes, n, target),
			.from = r->origin,
			.count = take,
			.size = (uint32_t)(sizeof(*item) + take * sizeof(*out)) };
		f->used += item->size;
	}
}

void
router_flush(struct worker *w)
{
	if (w->router == NULL)
		return;
	for (unsigned i = 0; i < w->broker->worker_count; i++)
		forward_post(w, i);
}

/* ---- publishing ---------------------------------------------------------------------------------------- */

static bool
is_sys(const struct message *msg)
{
	return msg->topic_len >= 5 && memcmp(msg->topic, "$SYS/", 5) == 0;
}

/* The store should have it, and takes nothing in now. What is cleared makes room. */
static bool
retained_refused(struct worker *w, const struct message *msg)
{
	unsigned suppressed;

	if (w->durable == NULL || msg->payload_len == 0 ||
	    store_state(w->broker->store) == STORE_GOOD || durable_mode(w, msg) == DURABLE_OFF ||
	    is_sys(msg))
		return false;
	metric_add(&w->metrics, METRIC_RETAINED_REFUSED, 1);
	metric_add(&w->metrics, METRIC_STORE_REFUSED, 1);
	if (log_allowed("retained", &suppressed))
		log_warning("retained message for \"%.*s\" not kept: the store takes nothing in%s",
		    STR(message_topic(msg)), suppressed > 0 ? " [more lines left out]" : "");
	return true;
}

/* @return a Reason Code >= 0x80 when the message is refused. */
static uint8_t
retain_message(struct worker *w, struct message *msg, const struct conn *publisher)
{
	const struct limits *l = atomic_load_explicit(&w->broker->limits, memory_order_acquire);
	/* Then what is there may be replaced or removed, and nothing may grow. */
	bool near = overload_level(&w->broker->overload) != OVERLOAD_NONE, had = false;
	struct message *kept = message_keep(msg);
	unsigned suppressed;
	uint64_t seq;
	int err;

	if (kept == NULL)
		return RC_QUOTA_EXCEEDED;
	if (retained_refused(w, msg)) {
		message_unref(kept);
		return publisher != NULL && msg->qos > 0 ? RC_QUOTA_EXCEEDED : 0;
	}
	atomic_store_explicit(&kept->author_checked,
	    atomic_load_explicit(&w->broker->rights_generation, memory_order_relaxed),
	    memory_order_relaxed);
	err = retain_set(w->broker->retain, kept, l->retained_max_messages,
	    near ? 0 : l->retained_max_bytes, &had, &seq);
	if (err == GRAPNEL_OK && w->durable != NULL && (had || msg->payload_len > 0) &&
	    !is_sys(msg))
		durable_retained(w, kept, seq);
	message_unref(kept);
	if (err != GRAPNEL_OK) {
		metric_add(&w->metrics, METRIC_RETAINED_REFUSED, 1);
		if (log_allowed("retained", &suppressed))
			log_warning("retained message for \"%.*s\" not kept: %s%s",
			    STR(message_topic(msg)),
			    err != GRAPNEL_EQUOTA ? "out of memory"
				: near            ? "the broker is near max_memory"
				       : "retained_max_messages or retained_max_bytes reached",
			    suppressed > 0 ? " [more lines left out]" : "");
		else
			metric_add(&w->metrics, METRIC_LOG_SUPPRESSED, 1);
		/* Who can be told is told, and nothing is forwarded; for others it is a message like any other. */
		return publisher != NULL && publisher->version == 5 && msg->qos > 0
		    ? RC_QUOTA_EXCEEDED
		    : 0;
	}
	if (msg->payload_len > 0 && event_wanted(w, GRAPNEL_EVENT_RETAINED_SET))
		core_event(w, GRAPNEL_EVENT_RETAINED_SET, NULL, msg, 0, NULL);
	else if (msg->payload_len == 0 && had && event_wanted(w, GRAPNEL_EVENT_RETAINED_CLEARED))
		core_event(w, GRAPNEL_EVENT_RETAINED_CLEARED, NULL, msg, 0, NULL);
	return 0;
}

struct again_mail {
	struct mail mail;
	struct message *msg;
};

static void
on_again(struct worker *w, struct mail *m)
{
	struct again_mail *am = (struct again_mail *)(void *)m;

	router_publish_one(w, am->msg);
	message_unref(am->msg);
	free(am);
}

/* Called from inside an expansion (a will, a plugin): after it. */
static void
publish_again(struct worker *w, struct message *msg)
{
	struct again_mail *am = malloc(sizeof(*am));

	if (am == NULL || (am->msg = message_keep(msg)) == NULL) {
		free(am);
		metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		return;
	}
	am->mail.fn = on_again;
	worker_post(w, &am->mail);
}

static inline bool
same_topic(const struct message *msg, struct grapnel_str topic)
{
	return msg->topic_len == topic.len && memcmp(msg->topic, topic.data, topic.len) == 0;
}

void
router_publish(struct worker *w, struct message *const *msgs, unsigned n, struct conn *publisher,
    uint8_t *reason_codes)
{
	struct broker *b = w->broker;
	struct router_state *r = w->router;
	struct grapnel_str topics[TOPIC_GROUP];
	struct topic_match matches[TOPIC_GROUP];
	unsigned match_of[TOPIC_GROUP], topic_count = 0;
	int err;

	if (r->busy) {
		for (unsigned i = 0; i < n; i++) {
			publish_again(w, msgs[i]);
			reason_codes[i] = 0;
		}
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		/* The retained index first: a subscription that is being made sees the message in one place or both. */
		reason_codes[i] =
		    msgs[i]->flags & MSG_RETAIN ? retain_message(w, msgs[i], publisher) : 0;
		/* Many publishers send to one topic again and again: one match for a run of them. */
		if (topic_count == 0 || !same_topic(msgs[i], topics[topic_count - 1]))
			topics[topic_count++] = message_topic(msgs[i]);
		match_of[i] = topic_count - 1;
	}
	rcu_read_begin();
	err = topic_index_match(b->index, w->matcher, topics, topic_count, matches);
	if (err != GRAPNEL_OK) {
		rcu_read_end();
		metric_add(&w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, n);
		for (unsigned i = 0; i < n; i++)
			reason_codes[i] = RC_QUOTA_EXCEEDED;
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct topic_match *match = &matches[match_of[i]];
		unsigned local = 0;

		if (reason_codes[i] >= 0x80)
			continue;
		if (match->count == 0) {
			reason_codes[i] = RC_NO_MATCHING_SUBSCRIBERS;
			continue;
		}
		if (publisher != NULL)
			r->origin = (struct origin){ publisher->serial, publisher->slot, w->index };
		for (unsigned t = 0; t < b->worker_count && b->worker_count > 1; t++) {
			unsigned k = 0;

			if (t == w->index)
				continue;
			while (k < match->count && !topic_node_has(match->nodes[k], t))
				k++;
			if (k == match->count)
				continue;
			forward(w, t, msgs[i], match->nodes + k, match->count - k);
		}
		if (w->index < b->worker_count && slots_room(r, match->count)) {
			for (unsigned k = 0; k < match->count; k++) {
				void *slot = topic_node_slot(match->nodes[k], w->index);

				if (slot != NULL)
					r->slots[local++] = slot;
			}
			if (local > 0)
				expand(w, msgs[i], r->slots, local);
		}
		r->origin.worker = UINT32_MAX;
	}
	if (r->mailbox_full && publisher != NULL)
		conn_wait_for_mailbox(publisher);
	r->mailbox_full = false;
	rcu_read_end(); /* until here no node that was found can become another filter's */
}

void
router_publish_one(struct worker *w, struct message *msg)
{
	uint8_t code;

	router_publish(w, &msg, 1, NULL, &code);
}

int
router_init(struct worker *w)
{
	struct router_state *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return GRAPNEL_ENOMEM;
	w->router = r;
	r->w = w;
	r->origin.worker = UINT32_MAX;
	timer_init(&r->pause_timer, on_pause_timer);
	w->matcher = topic_matcher_new();
	return w->matcher != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

void
router_fini(struct worker *w)
{
	struct router_state *r = w->router;

	if (r == NULL)
		return;
	timer_disarm(w->wheel, &r->pause_timer);
	for (unsigned i = 0; i < WORKER_MAX; i++) {
		if (r->out[i] != NULL) {
			struct forward *f = r->out[i];
			struct identity *held = NULL;
			struct forward_item *item;
			uint32_t at = 0;

			while ((item = forward_next(f, &at)) != NULL)
				item_done(item, &held);
			identity_unref(held);
			free(f);
		}
	}
	free(r->merged);
	free(r->slots);
	free(r->paused);
	free(r);
	w->router = NULL;
	topic_matcher_free(w->matcher);
	w->matcher = NULL;
}
