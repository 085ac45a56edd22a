/* SPDX-License-Identifier: Apache-2.0 */
#include "core/group.h"

#include "core/overload.h"

#include <stdlib.h>
#include <string.h>

#define PROBES 64u /* members looked at for a publisher's own one before any is taken */

void
group_init(struct group *g, const struct group_ops *ops, uint64_t seed)
{
	memset(g, 0, sizeof(*g));
	g->ops = ops;
	g->random = seed | 1u;
}

void
group_fini(struct group *g)
{
	struct entry e;

	while (queue_pop(&g->queue, &e)) {
		g->ops->queued(g, e.msg, -1);
		g->ops->dropped(g, e.msg, e.address, METRIC_MESSAGES_DROPPED_OFFLINE,
		    "the last member of the shared group left");
		entry_clear(&e);
	}
	queue_clear(&g->queue);
	for (uint32_t i = 0; i < g->slots; i++)
		free(g->members[i]);
	free(g->members);
	free(g->ready);
	memset(g, 0, sizeof(*g));
}

/* ---- members ------------------------------------------------------------------------------ */

static void
ready_add(struct group *g, struct group_member *gm)
{
	if (gm->ready != GROUP_NOT_READY)
		return;
	gm->ready = g->ready_count;
	g->ready[g->ready_count++] = gm; /* there is room for all members */
}

static void
ready_put(struct group *g, uint32_t at, struct group_member *gm)
{
	g->ready[at] = gm;
	gm->ready = at;
}

/* Those that were served in this round stay before `next`, the others behind it. */
static void
ready_remove(struct group *g, struct group_member *gm)
{
	uint32_t at = gm->ready;

	if (at == GROUP_NOT_READY)
		return;
	if (at < g->next) {
		g->next--;
		ready_put(g, at, g->ready[g->next]);
		at = g->next;
	}
	if (at != --g->ready_count)
		ready_put(g, at, g->ready[g->ready_count]);
	gm->ready = GROUP_NOT_READY;
}

static int
members_grow(struct group *g)
{
	uint32_t capacity = g->capacity == 0 ? 4 : g->capacity * 2;
	struct group_member **members =
				realloc(g->members, capacity * sizeof(struct group_member *)),
			    **ready;

	if (members == NULL)
		return GRAPNEL_ENOMEM;
	g->members = members;
	if ((ready = realloc(g->ready, capacity * sizeof(struct group_member *))) == NULL)
		return GRAPNEL_ENOMEM;
	g->ready = ready;
	g->capacity = capacity;
	return GRAPNEL_OK;
}

struct group_member *
group_join(struct group *g, const struct group_member *values)
{
	struct group_member *gm;
	uint32_t slot = g->slots;

	if (g->count < g->slots) {
		for (slot = g->hole; g->members[slot] != NULL; slot++)
			;
	} else if (g->slots == g->capacity && members_grow(g) != GRAPNEL_OK) {
		return NULL;
	}
	if ((gm = malloc(sizeof(*gm))) == NULL)
		return NULL;
	g->hole = slot + 1;
	*gm = *values;
	gm->slot = slot;
	gm->ready = GROUP_NOT_READY;
	gm->credit = 0;
	gm->online = false;
	g->members[slot] = gm;
	if (slot == g->slots)
		g->slots++;
	g->count++;
	g->qos_count[gm->qos]++;
	return gm;
}

struct group_member *
group_member(struct group *g, uint32_t slot, uint64_t serial)
{
	return slot < g->slots && g->members[slot] != NULL && g->members[slot]->serial == serial
	    ? g->members[slot]
	    : NULL;
}

struct group_member *
group_by_serial(struct group *g, uint64_t serial)
{
	for (uint32_t i = 0; i < g->slots; i++)
		if (g->members[i] != NULL && g->members[i]->serial == serial)
			return g->members[i];
	return NULL;
}

/* The best QoS at which any member would get it. */
static uint8_t
effective_qos(const struct group *g, uint8_t qos)
{
	uint8_t max = g->qos_count[2] > 0 ? 2 : g->qos_count[1] > 0 ? 1 : 0;

	return qos < max ? qos : max;
}

static bool
purge_qos0(struct entry *e, void *arg)
{
	struct group *g = arg;

	if (effective_qos(g, e->qos) > 0)
		return false;
	g->ops->queued(g, e->msg, -1);
	g->ops->dropped(g, e->msg, e->address, METRIC_MESSAGES_DROPPED_OFFLINE,
	    "QoS 0, all members of the shared group are offline");
	entry_clear(e);
	return true;
}

static void
went_offline(struct group *g, struct group_member *gm)
{
	if (!gm->online)
		return;
	gm->online = false;
	gm->credit = 0;
	ready_remove(g, gm);
	if (g->sticky == gm)
		g->sticky = NULL;
	if (--g->online == 0 && g->queue.count > 0)
		queue_filter(&g->queue, purge_qos0, g);
}

void
group_leave(struct group *g, struct group_member *gm)
{
	g->qos_count[gm->qos]--;
	went_offline(g, gm);
	g->members[gm->slot] = NULL;
	if (gm->slot < g->hole)
		g->hole = gm->slot;
	g->count--;
	while (g->slots > 0 && g->members[g->slots - 1] == NULL)
		g->slots--;
	free(gm);
}

void
group_qos(struct group *g, struct group_member *gm, uint8_t qos)
{
	g->qos_count[gm->qos]--;
	g->qos_count[qos]++;
	gm->qos = qos;
}

void
group_state(struct group *g, struct group_member *gm, bool online, uint32_t epoch, uint32_t credit)
{
	gm->epoch = epoch;
	if (!online) {
		went_offline(g, gm);
		return;
	}
	if (!gm->online) {
		gm->online = true;
		g->online++;
	}
	gm->credit = credit;
	if (credit > 0)
		ready_add(g, gm);
	else
		ready_remove(g, gm);
}

void
group_credit(struct group *g, struct group_member *gm, uint32_t epoch, uint32_t credit)
{
	if (gm->epoch != epoch || !gm->online || credit == 0)
		return;
	gm->credit += credit;
	ready_add(g, gm);
}

/* ---- choosing ------------------------------------------------------------------------------- */

static uint64_t
next_random(struct group *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return g->random;
}

static uint64_t
author_hash(const struct message *msg)
{
	struct grapnel_str id = identity_client_id(msg->author);
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < id.len; i++)
		h = (h ^ (unsigned char)id.data[i]) * 0x100000001b3u;
	return h ^ h >> 32;
}

static struct group_member *
next_in_turn(struct group *g)
{
	if (g->next >= g->ready_count)
		g->next = 0;
	return g->ready[g->next++];
}

static struct group_member *
pick(struct group *g, enum share_strategy strategy, const struct message *msg)
{
	if (g->ready_count == 0)
		return NULL;
	switch (strategy) {
	case SHARE_ROUND_ROBIN:
		break;
	case SHARE_RANDOM:
		return g->ready[next_random(g) % g->ready_count];
	case SHARE_STICKY:
		/* While the one that is stuck to lacks credit another helps out. */
		if (g->sticky == NULL)
			g->sticky = g->ready[0];
		return g->sticky->ready != GROUP_NOT_READY ? g->sticky : g->ready[0];
	case SHARE_BY_PUBLISHER:
		if (msg->author == NULL)
			break;
		/* Always the same member, as long as none joins or leaves; the next one when that one cannot. */
		for (uint64_t i = 0, start = author_hash(msg) % g->slots;
		     i < g->slots && i < PROBES; i++) {
			struct group_member *gm = g->members[(start + i) % g->slots];

			if (gm != NULL && gm->ready != GROUP_NOT_READY)
				return gm;
		}
		break;
	}
	return next_in_turn(g);
}

static enum group_given
give(struct group *g, const struct group_terms *terms, struct message *msg, uint32_t seq,
    uint64_t address)
{
	struct group_member *gm;

	while (!terms->hold && (gm = pick(g, terms->strategy, msg)) != NULL) {
		enum group_given given;

		if (--gm->credit == 0)
			ready_remove(g, gm);
		given = g->ops->give(g, gm, msg, seq, address);
		switch (given) {
		case GROUP_GIVEN:
			return given;
		case GROUP_NO_MEMORY:
			gm->credit++;
			ready_add(g, gm);
			return given;
		case GROUP_FULL:
			gm->credit = 0;
			ready_remove(g, gm);
			break;
		}
	}
	return GROUP_FULL;
}

/* ---- the queue --------------------------------------------------------------------------------- */

static void
on_expired(struct entry *e, void *arg)
{
	struct group *g = arg;

	g->ops->queued(g, e->msg, -1);
	g->ops->dropped(g, e->msg, e->address, METRIC_MESSAGES_EXPIRED, "expired");
	entry_clear(e);
}

void
group_route(struct group *g, const struct group_terms *terms, struct message *msg, uint64_t address)
{
	struct entry e = { .qos = msg->qos, .seq = g->next_seq++, .address = address };
	enum metric m = METRIC_MESSAGES_DROPPED_QUEUE_FULL;
	size_t size = message_size(msg);
	const char *why = NULL;

	if (g->queue.count == 0 && give(g, terms, msg, e.seq, address) == GROUP_GIVEN)
		return;
	if (g->online == 0 && effective_qos(g, msg->qos) == 0) {
		g->ops->dropped(g, msg, address, METRIC_MESSAGES_DROPPED_OFFLINE,
		    "QoS 0, all members of the shared group are offline");
		return;
	}
	if (g->queue.count >= terms->max_messages || g->queue.bytes + size > terms->max_bytes)
		queue_expire(&g->queue, terms->now_ms, 256, on_expired, g);
	if (g->queue.count >= terms->max_messages)
		why = "max_queued_messages reached";
	else if (g->queue.bytes + size > terms->max_bytes)
		why = "max_queued_bytes reached";
	else if (size > terms->total_left)
		why = "max_total_queued_bytes reached";
	else if (terms->memory_short &&
	    (g->online == 0 || g->queue.bytes + size > OVERLOAD_QUEUE)) {
		why = "the broker is near max_memory";
		m = METRIC_MESSAGES_DROPPED_MEMORY_LIMIT;
	}
	if (why != NULL) {
		g->ops->dropped(g, msg, address, m, why);
		return;
	}
	if ((e.msg = message_keep(msg)) == NULL || queue_push(&g->queue, &e) != GRAPNEL_OK) {
		message_unref(e.msg);
		g->ops->dropped(g, msg, address, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
		return;
	}
	g->ops->queued(g, e.msg, 1);
}

void
group_return(struct group *g, const struct group_terms *terms, struct message *msg, uint32_t seq,
    uint64_t address)
{
	struct entry e = { .msg = msg, .qos = msg->qos, .seq = seq, .address = address };
	uint32_t mask;

	if (message_expired(msg, terms->now_ms)) {
		g->ops->dropped(g, msg, address, METRIC_MESSAGES_EXPIRED, "expired");
	} else if (g->online == 0 && effective_qos(g, msg->qos) == 0) {
		g->ops->dropped(g, msg, address, METRIC_MESSAGES_DROPPED_OFFLINE,
		    "QoS 0, all members of the shared group are offline");
	} else if (queue_push_head(&g->queue, &e) != GRAPNEL_OK) {
		g->ops->dropped(g, msg, address, METRIC_MESSAGES_DROPPED_MEMORY, "out of memory");
	} else {
		mask = g->queue.capacity - 1;
		/* Older ones that are back already stay in front. Serial-number comparison: seq wraps. */
		for (uint32_t i = 1; i < g->queue.count; i++) {
			struct entry *next = &g->queue.ring[(g->queue.head + i) & mask];

			if ((int32_t)(next->seq - seq) > 0)
				break;
			g->queue.ring[(g->queue.head + i - 1) & mask] = *next;
			*next = e;
		}
		g->ops->queued(g, msg, 1);
		return;
	}
	message_unref(msg);
}

bool
group_restore(struct group *g, struct message *msg, uint64_t address)
{
	struct entry e = { .msg = msg, .qos = msg->qos, .seq = g->next_seq++, .address = address };

	if (queue_push(&g->queue, &e) != GRAPNEL_OK) {
		message_unref(msg);
		return false;
	}
	g->ops->queued(g, msg, 1);
	return true;
}

enum group_given
group_drain(struct group *g, const struct group_terms *terms, unsigned budget)
{
	struct entry *head, e;

	while (g->ready_count > 0 && !terms->hold && (head = queue_peek(&g->queue)) != NULL) {
		if (budget-- == 0)
			return GROUP_GIVEN;
		if (message_expired(head->msg, terms->now_ms)) {
			queue_pop(&g->queue, &e);
			on_expired(&e, g);
			continue;
		}
		switch (give(g, terms, head->msg, head->seq, head->address)) {
		case GROUP_GIVEN:
			queue_pop(&g->queue, &e);
			g->ops->queued(g, e.msg, -1);
			entry_clear(&e);
			break;
		case GROUP_NO_MEMORY:
			return GROUP_NO_MEMORY;
		case GROUP_FULL:
			break;
		}
	}
	return GROUP_FULL;
}
