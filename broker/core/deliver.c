/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deliver - from a matched message to the receiver
 *
 * The straight way: encoded into the connection's output (QoS 0), or given a Packet Identifier and sent (QoS 1, 2).
 * Where that is not possible now the message waits in the session's queue, which deliver_pump empties as the in-flight
 * window and the output allow. Messages that somebody has to be asked about (READ, message_deliver) always pass
 * the queue; up to PENDING_MAX of them are being decided at once, and leave in the order they had.
 */
#include "base/log.h"
#include "core/deciding.h"
#include "core/durable.h"

#include <stdlib.h>
#include <string.h>

#define PENDING_MAX    32
#define QUEUED_PORTION (64 * 1024)
#define PUMP_BUDGET    1024 /* messages per call, so that one session does not hold the loop */

/* ---- accounting -------------------------------------------------------------------------- */

/*
 * Workers take their share of the total in portions, since each time is a locked instruction: what is queued is never more
 * than the total says.
 */
void
queued_add(struct worker *w, size_t bytes, int sign)
{
	int64_t size = (int64_t)bytes * sign, take = 0;
	struct core_worker *cw = w->core;

	metric_add(&w->metrics, METRIC_QUEUED_MESSAGES, sign);
	metric_add(&w->metrics, METRIC_QUEUED_BYTES, size);
	cw->queued_spare -= size;
	if (cw->queued_spare < 0 || cw->queued_spare > 2 * QUEUED_PORTION)
		take = QUEUED_PORTION - cw->queued_spare;
	if (take != 0) {
		atomic_fetch_add_explicit(&w->broker->queued_bytes, take, memory_order_relaxed);
		cw->queued_spare += take;
	}
}

uint64_t
queued_total(const struct worker *w)
{
	int64_t total = atomic_load_explicit(&w->broker->queued_bytes, memory_order_relaxed) -
	    w->core->queued_spare;

	return total > 0 ? (uint64_t)total : 0;
}

static bool
pop(struct session *s, struct entry *e)
{
	if (!queue_pop(&s->flow->queue, e))
		return false;
	queued_add(s->w, entry_size(e), -1);
	if (e->flags & ENTRY_COLD)
		s->flow->cold--;
	else if (e->address != 0)
		spill_popped(s, e);
	return true;
}

/* The store may forget it. */
static void
forget(struct session *s, const struct entry *e)
{
	if (e->address != 0)
		durable_finished(s->w, e->flags & ENTRY_GROUP ? 0 : durable_id(s), e->address);
}

/* Done with: whatever became of it. */
static void
finish(struct session *s, struct entry *e)
{
	uint16_t member = e->member;

	forget(s, e);
	entry_clear(e);
	if (member != 0)
		shared_finished(s, member);
}

void
deliver_dropped(struct session *s, struct entry *e, enum metric m, const char *why)
{
	enum grapnel_event_type type = m == METRIC_MESSAGES_EXPIRED ? GRAPNEL_EVENT_MESSAGE_EXPIRED
								    : GRAPNEL_EVENT_MESSAGE_DROPPED;

	metric_add(&s->w->metrics, m, 1);
	if (event_wanted(s->w, type))
		core_event(s->w, type, s, e->msg, 0, why);
	finish(s, e);
}

void
deliver_lost(struct session *s, struct entry *e)
{
	metric_add(&s->w->metrics, METRIC_MESSAGES_DROPPED_STORE, 1);
	finish(s, e);
}

static void
on_queue_expired(struct entry *e, void *arg)
{
	struct session *s = arg;

	queued_add(s->w, entry_size(e), -1);
	spill_popped(s, e);
	deliver_dropped(s, e, METRIC_MESSAGES_EXPIRED, "expired");
}

static void
enqueue(struct session *s, struct entry *e)
{
	const struct limits *l = s->limits,
			    *total =
				atomic_load_explicit(&s->w->broker->limits, memory_order_acquire);
	size_t size = message_size(e->msg);
	enum metric m = METRIC_MESSAGES_DROPPED_QUEUE_FULL;
	struct flow *f = session_flow(s);
	const char *why = NULL;

	if (f == NULL) {
		deliver_dropped(s, e, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
		return;
	}
	if (f->queue.count >= l->max_queued_messages || f->queue.bytes + size > l->max_queued_bytes)
		queue_expire(&f->queue, s->w->now_ms, 256, on_queue_expired, s);
	if (f->queue.count >= l->max_queued_messages)
		why = "max_queued_messages reached";
	else if (f->queue.bytes + size > l->max_queued_bytes)
		why = "max_queued_bytes reached";
	else if (queued_total(s->w) + size > total->max_total_queued_bytes)
		why = "max_total_queued_bytes reached";
	else if (overload_level(&s->w->broker->overload) != OVERLOAD_NONE &&
	    (s->conn == NULL || f->queue.bytes + size > OVERLOAD_QUEUE)) {
		why = "the broker is near max_memory";
		m = METRIC_MESSAGES_DROPPED_MEMORY_LIMIT;
	}
	if (why != NULL) {
		unsigned suppressed;

		if (log_allowed("queue", &suppressed))
			log_at(GRAPNEL_LOG_WARNING, "message_dropped",
			    "client \"%.*s\": message to \"%.*s\" dropped: %s",
			    STR(identity_client_id(s->identity)), STR(message_topic(e->msg)), why);
		deliver_dropped(s, e, m, why);
		return;
	}
	if (f->queue.count == 0)
		f->queue_stamp = rights_stamp(s);
	if (queue_push(&f->queue, e) != GRAPNEL_OK) {
		deliver_dropped(s, e, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
		return;
	}
	queued_add(s->w, size, 1);
	if (e->address != 0)
		spill_check(s, size);
}

/* ---- congestion ------------------------------------------------------------------------------- */

bool
deliver_congested(struct session *s)
{
	const struct conn *c = s->conn;
	struct flow *f = s->flow;

	if (c == NULL ||
	    (c->out_bytes <= conn_output_max(c, s->limits) / 2 &&
		f->queue.count <= s->limits->max_queued_messages / 2 &&
		f->queue.bytes <= s->limits->max_queued_bytes / 2))
		return false;
	if (!s->congested) {
		if ((f = session_flow(s)) == NULL)
			return false;
		s->congested = true;
		f->congested_since_ms = s->w->now_ms;
	}
	return s->w->now_ms - f->congested_since_ms < s->limits->publisher_pause_ms;
}

void
congestion_eased(struct session *s)
{
	if ((!s->congested && !s->shared_held) || s->conn == NULL)
		return;
	if (s->conn->out_bytes > conn_output_max(s->conn, s->limits) / 4 ||
	    s->flow->queue.count > s->limits->max_queued_messages / 4 ||
	    s->flow->queue.bytes > s->limits->max_queued_bytes / 4)
		return;
	if (s->shared_held)
		shared_eased(s);
	if (s->congested) {
		s->congested = false;
		router_resume_paused(s->w);
	}
}

/* ---- sending -------------------------------------------------------------------------------------- */

static uint32_t
window(const struct session *s)
{
	uint32_t max = s->limits->max_inflight;

	return s->conn->receive_maximum < max ? s->conn->receive_maximum : max; /* [MQTT-3.3.4-9] */
}

static bool
output_full(const struct session *s)
{
	return s->conn->out_bytes > conn_output_max(s->conn, s->limits) / 2;
}

/* Send an entry whose turn it is; takes it. false: could not now (memory, no identifier): the entry is still the caller's. */
static bool
send_now(struct session *s, struct entry *e)
{
	struct conn *c = s->conn;
	struct inflight_entry *ie;
	struct flow *f;
	int err;

	if (e->qos == 0) {
		err = conn_send_publish(
		    c, e->msg, e->ids, 0, (e->flags & ENTRY_RETAIN) != 0, false, 0);
		if (err == GRAPNEL_OK)
			finish(s, e);
		else
			deliver_dropped(s, e,
			    err == GRAPNEL_EQUOTA ? METRIC_MESSAGES_DROPPED_TOO_LARGE
						  : METRIC_MESSAGES_DROPPED_MEMORY,
			    err == GRAPNEL_EQUOTA ? "larger than the client's Maximum Packet Size"
						  : "out of memory");
		return true;
	}
	if ((f = session_flow(s)) == NULL ||
	    (ie = inflight_add(&f->inflight, e, window(s))) == NULL)
		return false;
	if (e->qos == 2 && s->durable) {
		durable_exchange(s);
		if (durable_mode(s->w, e->msg) == DURABLE_STRICT) {
			/* Not before the store knows the identifier: it must mean this message after a crash, too. */
			metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, 1);
			ie->unsent = true;
			if (gate_after_batch(c))
				gate_publish(c, ie->packet_id);
			return true;
		}
	}
	err = conn_send_publish(
	    c, e->msg, e->ids, e->qos, (e->flags & ENTRY_RETAIN) != 0, false, ie->packet_id);
	if (err == GRAPNEL_OK) {
		metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, 1);
		return true;
	}
	memset(&ie->e, 0, sizeof(ie->e)); /* the references are e's again */
	inflight_remove(&f->inflight, ie);
	if (err != GRAPNEL_EQUOTA)
		return false;
	deliver_dropped(s, e, METRIC_MESSAGES_DROPPED_TOO_LARGE,
	    "larger than the client's Maximum Packet Size");
	return true;
}

/* A message of QoS 0 that was not sent. */
static __attribute__((noinline)) void
qos0_lost(struct session *s, const struct message *msg, enum metric m, const char *why)
{
	metric_add(&s->w->metrics, m, 1);
	if (event_wanted(s->w, GRAPNEL_EVENT_MESSAGE_DROPPED))
		core_event(s->w, GRAPNEL_EVENT_MESSAGE_DROPPED, s, msg, 0, why);
}

void
deliver(
    struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids, uint16_t member)
{
	struct conn *c = s->conn;
	uint64_t max;
	int err;

	if (qos > 0 || c == NULL || (flags & ENTRY_CHECK) != 0 || s->deciding ||
	    hook_used(s->w, HOOK_DELIVER)) {
		deliver_kept(s, msg, qos, flags, ids, member, 0, 0);
		return;
	}
	/* The straight way. */
	max = conn_output_max(c, s->limits);
	if (c->out_bytes > max / 8 * 7)
		qos0_lost(s, msg, METRIC_MESSAGES_DROPPED_OUTPUT_FULL, "max_output_bytes reached");
	else if ((err = conn_send_publish(c, msg, ids, 0, (flags & ENTRY_RETAIN) != 0, false, 0)) ==
	    GRAPNEL_EQUOTA)
		qos0_lost(s, msg, METRIC_MESSAGES_DROPPED_TOO_LARGE,
		    "larger than the client's Maximum Packet Size");
	else if (err != GRAPNEL_OK)
		qos0_lost(s, msg, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
	if (c->out_bytes > max / 2 && deliver_congested(s))
		router_congested(s->w);
	subids_unref(ids);
	if (member != 0)
		shared_finished(s, member);
}

/* Into the store with it, if it belongs there. @return false: it could not be, and its publisher will be told. */
static bool
keep(struct session *s, struct entry *e)
{
	bool refused;

	if (!s->durable || e->qos == 0 || e->address != 0 || e->member != 0)
		return true;
	durable_receiver(s->w, s->extra->store_id, false, s->conn != NULL, e, &refused);
	return !refused;
}

void
deliver_kept(struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids,
    uint16_t member, uint32_t seq, uint64_t address)
{
	struct conn *c = s->conn;
	struct entry e;
	bool ask;

	if (qos == 0 && address != 0) { /* nobody acknowledges that */
		durable_finished(s->w, 0, address);
		address = 0;
		flags &= (uint8_t)~ENTRY_GROUP;
	}
	e = (struct entry){ .msg = msg,
		.ids = ids,
		.member = member,
		.qos = qos,
		.flags = flags,
		.seq = seq,
		.address = address };
	ask = (flags & ENTRY_CHECK) != 0 || hook_used(s->w, HOOK_DELIVER);
	if (qos == 0 && c != NULL && !ask && !s->deciding) {
		deliver(s, msg, qos, flags, ids, member);
		return;
	}
	if (!ask)
		e.flags |= ENTRY_ALLOWED;
	if (qos == 0 && c == NULL && !s->limits->queue_qos0) {
		qos0_lost(s, msg, METRIC_MESSAGES_DROPPED_OFFLINE, "QoS 0, receiver offline");
		forget(s, &e);
		subids_unref(ids);
		if (member != 0)
			shared_finished(s, member);
		return;
	}
	if ((e.msg = message_keep(msg)) == NULL) {
		metric_add(&s->w->metrics, METRIC_MESSAGES_DROPPED_MEMORY, 1);
		if (s->durable && qos > 0)
			(void)durable_refuse(s->w);
		forget(s, &e);
		subids_unref(ids);
		if (member != 0)
			shared_finished(s, member);
		return;
	}
	if (!keep(s, &e)) {
		deliver_dropped(s, &e, METRIC_MESSAGES_DROPPED_STORE, "the store takes nothing in");
		return;
	}
	if (c != NULL && !ask && s->flow->queue.count == 0 && !s->deciding && !output_full(s) &&
	    send_now(s, &e))
		return;
	enqueue(s, &e);
	if (c == NULL)
		return;
	if (ask)
		deliver_pump(s);
	else if (output_full(s))
		c->drain_waiting = true;
	if (deliver_congested(s))
		router_congested(s->w);
}

/* ---- once more ------------------------------------------------------------------------------------ */

/* Not retransmitted: it counts as finished [MQTT-3.1.2-25]. */
static void
resend_dropped(struct session *s, struct inflight_entry *ie, enum metric m, const char *why)
{
	metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, -1);
	if (ie->e.qos == 2)
		durable_exchange(s);
	deliver_dropped(s, &ie->e, m, why);
	inflight_remove(&s->flow->inflight, ie);
}

/* What is in flight once more, with its Packet Identifier. */
static void
resend(struct session *s, struct inflight_entry *ie)
{
	bool again = !ie->unsent;
	int err;

	ie->unsent = false;
	err = conn_send_publish(s->conn, ie->e.msg, ie->e.ids, ie->e.qos,
	    (ie->e.flags & ENTRY_RETAIN) != 0, again, ie->packet_id);
	if (err == GRAPNEL_EQUOTA)
		resend_dropped(s, ie, METRIC_MESSAGES_DROPPED_TOO_LARGE,
		    "larger than the client's Maximum Packet Size");
	else if (err != GRAPNEL_OK)
		conn_fail(s->conn);
}

void
deliver_gated(struct session *s, uint16_t packet_id)
{
	struct inflight_entry *ie = inflight_find(&s->flow->inflight, packet_id);

	if (ie != NULL && ie->unsent)
		resend(s, ie);
}

/* ---- the queue ------------------------------------------------------------------------------------ */

/* The first one decided, as far as it can go. false: nothing more can leave now. */
static bool
pending_finish_first(struct session *s)
{
	struct flow *f = s->flow;
	struct pending_delivery *pd = f->pending_first;
	struct inflight_entry *ie;

	if (pd->state == RETRY && !timer_armed(&f->retry_timer)) {
		pd->state = pd->stage;
		pending_go(pd);
	}
	if (pd->state != SEND && pd->state != DROP)
		return false;
	if (pd->resend_id != 0) {
		ie = inflight_find(
		    &f->inflight, pd->resend_id); /* NULL: acknowledged before it was sent again */
		/* The Client may have lowered its Receive Maximum: those that wait here are not in its hands. */
		if (ie != NULL && pd->state == SEND &&
		    (int64_t)f->inflight.count - f->resend_count >= window(s))
			return false;
		f->resend_count--;
		if (ie != NULL && ie->state != INFLIGHT_WAIT_PUBCOMP) {
			if (pd->state == DROP)
				resend_dropped(s, ie, pd->drop_metric, pd->drop_why);
			else
				resend(s, ie);
		}
		pd->e.member = 0; /* counted with the entry in flight */
		entry_clear(&pd->e);
		pending_remove_first(s);
		return true;
	}
	if (pd->state == DROP) {
		deliver_dropped(s, &pd->e, pd->drop_metric, pd->drop_why);
	} else {
		if (output_full(s)) {
			s->conn->drain_waiting = true;
			return false;
		}
		if (message_expired(pd->e.msg, s->w->now_ms))
			deliver_dropped(s, &pd->e, METRIC_MESSAGES_EXPIRED, "expired");
		else if (!send_now(s, &pd->e))
			return false;
	}
	pending_remove_first(s);
	return true;
}

/* Rights have changed since these were queued: ask about each. */
static void
queue_recheck(struct session *s)
{
	uint32_t stamp = rights_stamp(s);
	struct flow *f = s->flow;
	struct queue *q = &f->queue;

	if (q->count == 0 || f->queue_stamp == stamp)
		return;
	f->queue_stamp = stamp;
	if (s->superuser || (!s->has_rules && !hook_used(s->w, HOOK_ACL)))
		return;
	for (uint32_t i = 0; i < q->count; i++) {
		struct entry *e = &q->ring[(q->head + i) & (q->capacity - 1)];

		e->flags = (uint8_t)((e->flags & ~ENTRY_ALLOWED) | ENTRY_CHECK);
	}
}

static void
requeued(struct session *s, const struct entry *e)
{
	queued_add(s->w, entry_size(e), 1);
	if (e->address != 0)
		spill_check(s, entry_size(e));
}

void
deliver_pump(struct session *s)
{
	unsigned budget = PUMP_BUDGET;
	struct flow *f = s->flow;
	struct entry *head, e;

	if (s->conn == NULL || s->pumping || s->conn->state != CONN_ESTABLISHED)
		return;
	s->pumping = true;
	queue_recheck(s);
	while (s->deciding && pending_finish_first(s))
		;
	while ((head = queue_peek(&f->queue)) != NULL && budget-- > 0) {
		if (head->flags & ENTRY_COLD)
			break;
		if (message_expired(head->msg, s->w->now_ms)) {
			pop(s, &e);
			deliver_dropped(s, &e, METRIC_MESSAGES_EXPIRED, "expired");
			continue;
		}
		if (output_full(s)) {
			s->conn->drain_waiting = true;
			break;
		}
		if (!(head->flags & ENTRY_ALLOWED)) {
			struct pending_delivery *pd;

			if (f->pending_count >= PENDING_MAX ||
			    (pd = pending_new(s, head, 0)) == NULL)
				break;
			pop(s, &e); /* the references are in pd now */
			pending_go(pd);
			while (s->deciding && pending_finish_first(s))
				;
			continue;
		}
		if (s->deciding) /* behind one that is being decided */
			break;
		if (head->qos > 0 && f->inflight.count >= window(s))
			break;
		pop(s, &e);
		if (!send_now(s, &e)) {
			if (queue_push_head(&f->queue, &e) == GRAPNEL_OK)
				requeued(s, &e);
			else
				deliver_dropped(
				    s, &e, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
			s->conn->drain_waiting = true;
			break;
		}
	}
	if (budget == UINT32_MAX &&
	    !timer_armed(&f->retry_timer)) /* used up: go on in the next turn */
		worker_timer(s->w, &f->retry_timer, 0);
	s->pumping = false;
	if (f->cold > 0)
		spill_read(s);
	congestion_eased(s);
	retained_continue(s);
}

/* ---- coming and going ------------------------------------------------------------------------------------ */

void
deliver_resume(struct session *s)
{
	unsigned n;
	struct inflight_entry **all = inflight_sorted(&s->flow->inflight, &n);
	bool ask = !s->superuser && (s->has_rules || hook_used(s->w, HOOK_ACL));

	if (all == NULL && n > 0) {
		conn_fail(s->conn);
		return;
	}
	/* Everything unacknowledged again, in its order, with its identifier [MQTT-4.4.0-1]; but only what may still be read. */
	for (unsigned i = 0; i < n; i++) {
		struct inflight_entry *ie = all[i];

		if (ie->state == INFLIGHT_WAIT_PUBCOMP) {
			conn_send_ack(
			    s->conn, MQTT_PUBREL, ie->packet_id, 0, (struct grapnel_str){ 0 });
		} else if (ask || n > window(s)) {
			struct entry e = ie->e;
			struct pending_delivery *pd;

			e.flags |= ENTRY_HOOKED;
			if (ask)
				e.flags |= ENTRY_CHECK;
			else
				e.flags &= (uint8_t)~ENTRY_CHECK;
			message_ref(e.msg);
			subids_ref(e.ids);
			if ((pd = pending_new(s, &e, ie->packet_id)) == NULL) {
				message_unref(e.msg);
				subids_unref(e.ids);
				conn_fail(s->conn);
				break;
			}
			s->flow->resend_count++;
			pending_go(pd);
		} else {
			resend(s, ie);
		}
	}
	free(all);
	shared_session_online(s);
	deliver_pump(s);
}

void
deliver_offline(struct session *s)
{
	struct pending_delivery *pd, *next, *reversed = NULL;
	struct flow *f;

	deliver_trim(s);
	if ((f = s->flow)->session == NULL)
		return;
	timer_disarm(s->w->wheel, &f->retry_timer);
	for (pd = f->pending_first; pd != NULL; pd = next) {
		next = pd->next;
		hooks_cancel(s->w, pd->request);
		pd->next = reversed;
		reversed = pd;
	}
	f->pending_first = f->pending_last = NULL;
	f->pending_count = f->resend_count = 0;
	s->deciding = false;
	/* Undecided: back to the head of the queue, last one first. */
	for (pd = reversed; pd != NULL; pd = next) {
		next = pd->next;
		if (pd->resend_id != 0) {
			pd->e.member = 0;
			entry_clear(&pd->e);
		} else if (pd->e.qos == 0 && !s->limits->queue_qos0) {
			deliver_dropped(
			    s, &pd->e, METRIC_MESSAGES_DROPPED_OFFLINE, "QoS 0, receiver offline");
		} else if (queue_push_head(&f->queue, &pd->e) == GRAPNEL_OK) {
			requeued(s, &pd->e);
		} else {
			deliver_dropped(s, &pd->e, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
		}
		free(pd);
	}
}

void
deliver_clear(struct session *s)
{
	struct flow *f;
	struct entry e;

	deliver_offline(s);
	if ((f = s->flow)->session == NULL)
		return;
	while (pop(s, &e)) {
		e.member = 0;
		forget(s, &e);
		entry_clear(&e);
	}
	for (uint32_t i = 0; i < f->inflight.capacity; i++)
		if (f->inflight.slots[i].state != INFLIGHT_FREE)
			forget(s, &f->inflight.slots[i].e);
	queue_clear(&f->queue);
	metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, -(int64_t)f->inflight.count);
	inflight_clear(&f->inflight);
}

void
deliver_trim(struct session *s)
{
	struct flow *f = s->flow;

	if (f->session == NULL)
		return;
	queue_trim(&f->queue);
	inflight_trim(&f->inflight);
	id_set_trim(&f->received);
	id_set_trim(&f->earlier);
	if (f->queue.count == 0 && f->inflight.count == 0 && f->received.count == 0 &&
	    !s->deciding && !s->congested && f->members == NULL && f->retained_first == NULL)
		session_flow_free(s);
}

void
deliver_received(struct session *s, struct inflight_entry *ie)
{
	ie->state = INFLIGHT_WAIT_PUBCOMP;
	durable_exchange(s);
	forget(s, &ie->e);
	ie->e.address = 0;
	/* The receiver has it; only an observer of acknowledgements still wants to see it. */
	if (!event_wanted(s->w, GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED)) {
		message_unref(ie->e.msg);
		ie->e.msg = NULL;
	}
}

void
deliver_acknowledged(struct session *s, struct inflight_entry *ie, uint8_t reason_code)
{
	uint16_t member = ie->e.member;
	struct flow *f = s->flow;

	if (event_wanted(s->w, GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED))
		core_event(
		    s->w, GRAPNEL_EVENT_MESSAGE_ACKNOWLEDGED, s, ie->e.msg, reason_code, NULL);
	if (ie->e.qos == 2)
		durable_exchange(s);
	forget(s, &ie->e);
	inflight_remove(&f->inflight, ie);
	metric_add(&s->w->metrics, METRIC_INFLIGHT_MESSAGES, -1);
	if (member != 0)
		shared_finished(s, member);
	if (f->queue.count == 0 && !s->deciding && f->retained_first == NULL)
		return;
	if (s->conn != NULL && s->conn->in_dispatch)
		s->conn->pump_due = true; /* once for all acknowledgements of one read */
	else
		deliver_pump(s);
}

void
deliver_forget_member(struct session *s, uint16_t member)
{
	struct flow *f = s->flow;

	for (uint32_t i = 0; i < f->queue.count; i++) {
		struct entry *e = &f->queue.ring[(f->queue.head + i) & (f->queue.capacity - 1)];

		if (e->member == member)
			e->member = 0;
	}
	for (uint32_t i = 0; i < f->inflight.capacity; i++)
		if (f->inflight.slots[i].e.member == member)
			f->inflight.slots[i].e.member = 0;
	for (struct pending_delivery *pd = f->pending_first; pd != NULL; pd = pd->next)
		if (pd->e.member == member)
			pd->e.member = 0;
}
