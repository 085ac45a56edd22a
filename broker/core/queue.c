/* SPDX-License-Identifier: Apache-2.0 */
#include "core/queue.h"

#include <stdlib.h>
#include <string.h>

#define CAPACITY_KEPT 1024 /* entries of an empty queue; queue_trim frees these too */

/* ---- Subscription Identifiers of one delivery --------------------------------------- */

struct subid_set {
	uint32_t refs, count;
	uint32_t ids[];
};

subids
subids_add(subids ids, uint32_t id)
{
	struct subid_set *set, *old;
	uint32_t count;

	if (id == 0)
		return ids;
	if (ids == SUBIDS_NONE)
		return subids_one(id);
	old = (ids & 1u) ? NULL : (struct subid_set *)ids;
	count = old != NULL ? old->count : 1;
	if (count >= SUBIDS_MAX)
		return ids;
	if ((set = malloc(sizeof(*set) + (count + 1) * sizeof(set->ids[0]))) == NULL)
		return ids;
	set->refs = 1;
	set->count = count + 1;
	if (old != NULL)
		memcpy(set->ids, old->ids, count * sizeof(set->ids[0]));
	else
		set->ids[0] = (uint32_t)(ids >> 1);
	set->ids[count] = id;
	subids_unref(ids);
	return (subids)set;
}

subids
subids_ref(subids ids)
{
	if (ids != SUBIDS_NONE && !(ids & 1u))
		((struct subid_set *)ids)->refs++;
	return ids;
}

void
subids_unref(subids ids)
{
	if (ids == SUBIDS_NONE || (ids & 1u))
		return;
	if (--((struct subid_set *)ids)->refs == 0)
		free((struct subid_set *)ids);
}

unsigned
subids_get(subids ids, uint32_t *out, unsigned max)
{
	const struct subid_set *set;
	unsigned n;

	if (ids == SUBIDS_NONE || max == 0)
		return 0;
	if (ids & 1u) {
		out[0] = (uint32_t)(ids >> 1);
		return 1;
	}
	set = (const struct subid_set *)ids;
	n = set->count < max ? set->count : max;
	memcpy(out, set->ids, n * sizeof(out[0]));
	return n;
}

void
entry_clear(struct entry *e)
{
	message_unref(e->msg);
	subids_unref(e->ids);
	memset(e, 0, sizeof(*e));
}

/* ---- the queue ------------------------------------------------------------------------ */

/* Of a full ring. A long one is not copied: realloc moves its pages, and the part that had wrapped goes to where it belongs. */
static int
queue_grow(struct queue *q)
{
	uint32_t old = q->capacity, capacity = old == 0 ? 4 : old * 2, behind = old - q->head;
	struct entry *ring;

	if (capacity < old || (ring = realloc(q->ring, (size_t)capacity * sizeof(*ring))) == NULL)
		return GRAPNEL_ENOMEM;
	if (q->head <= behind) {
		memcpy(ring + old, ring, q->head * sizeof(*ring));
	} else {
		memcpy(ring + capacity - behind, ring + q->head, behind * sizeof(*ring));
		q->head = capacity - behind;
	}
	q->ring = ring;
	q->capacity = capacity;
	return GRAPNEL_OK;
}

int
queue_push(struct queue *q, const struct entry *e)
{
	if (q->count == q->capacity && queue_grow(q) != GRAPNEL_OK)
		return GRAPNEL_ENOMEM;
	q->ring[(q->head + q->count++) & (q->capacity - 1)] = *e;
	q->bytes += entry_size(e);
	return GRAPNEL_OK;
}

int
queue_push_head(struct queue *q, const struct entry *e)
{
	if (q->count == q->capacity && queue_grow(q) != GRAPNEL_OK)
		return GRAPNEL_ENOMEM;
	q->head = (q->head - 1) & (q->capacity - 1);
	q->ring[q->head] = *e;
	q->count++;
	q->bytes += entry_size(e);
	return GRAPNEL_OK;
}

bool
queue_pop(struct queue *q, struct entry *out)
{
	if (q->count == 0)
		return false;
	*out = q->ring[q->head];
	q->head = (q->head + 1) & (q->capacity - 1);
	q->count--;
	q->bytes -= entry_size(out);
	if (q->count == 0) {
		if (q->capacity > CAPACITY_KEPT) { /* a long backlog is gone: so is its memory */
			free(q->ring);
			q->ring = NULL;
			q->capacity = 0;
		}
		q->head = 0;
	}
	return true;
}

struct entry *
queue_peek(struct queue *q)
{
	return q->count == 0 ? NULL : &q->ring[q->head];
}

void
queue_trim(struct queue *q)
{
	if (q->count > 0)
		return;
	free(q->ring);
	memset(q, 0, sizeof(*q));
}

void
queue_clear(struct queue *q)
{
	for (uint32_t i = 0; i < q->count; i++)
		entry_clear(&q->ring[(q->head + i) & (q->capacity - 1)]);
	free(q->ring);
	memset(q, 0, sizeof(*q));
}

void
queue_filter(struct queue *q, bool (*fn)(struct entry *e, void *arg), void *arg)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < q->count; i++) {
		struct entry e = q->ring[(q->head + i) & (q->capacity - 1)];
		size_t size = entry_size(&e);

		if (fn(&e, arg))
			q->bytes -= size;
		else
			q->ring[(q->head + kept++) & (q->capacity - 1)] = e;
	}
	q->count = kept;
}

unsigned
queue_expire(struct queue *q, uint64_t now_ms, unsigned budget,
    void (*dropped)(struct entry *e, void *arg), void *arg)
{
	uint32_t looked = q->count < budget ? q->count : budget;
	uint32_t kept = 0;
	unsigned gone = 0;

	/* Move what stays towards the tail end of the part looked at, so that nothing behind it moves. */
	for (uint32_t i = looked; i-- > 0;) {
		struct entry *e = &q->ring[(q->head + i) & (q->capacity - 1)];

		if (e->msg != NULL && message_expired(e->msg, now_ms)) {
			q->bytes -= entry_size(e);
			dropped(e, arg); /* clears it */
			gone++;
			continue;
		}
		if (gone > 0)
			q->ring[(q->head + looked - 1 - kept) & (q->capacity - 1)] = *e;
		kept++;
	}
	if (gone > 0) {
		q->head = (q->head + gone) & (q->capacity - 1);
		q->count -= gone;
	}
	return gone;
}

/* ---- in flight ---------------------------------------------------------------------------- */

static int
inflight_grow(struct inflight *f)
{
	uint32_t capacity = f->capacity == 0 ? 4 : f->capacity * 2;
	struct inflight_entry *slots;

	if (capacity > 65536 || (slots = calloc(capacity, sizeof(*slots))) == NULL)
		return GRAPNEL_ENOMEM;
	/* Doubling splits each slot in two, so identifiers that had a slot each still do. */
	for (uint32_t i = 0; i < f->capacity; i++)
		if (f->slots[i].state != INFLIGHT_FREE)
			slots[f->slots[i].packet_id & (capacity - 1)] = f->slots[i];
	free(f->slots);
	f->slots = slots;
	f->capacity = capacity;
	return GRAPNEL_OK;
}

struct inflight_entry *
inflight_add(struct inflight *f, const struct entry *e, uint32_t max)
{
	struct inflight_entry *ie;

	if (f->count >= max || f->count >= 65535)
		return NULL;
	/* At most three quarters full, so that a free slot is near. */
	if ((f->count + 1) * 4 > f->capacity * 3 && f->capacity < 65536 &&
	    inflight_grow(f) != GRAPNEL_OK && f->count == f->capacity)
		return NULL;
	for (uint32_t tries = 0; tries <= f->capacity; tries++) {
		if (++f->next_id == 0)
			f->next_id = 1;
		ie = &f->slots[f->next_id & (f->capacity - 1)];
		if (ie->state != INFLIGHT_FREE)
			continue;
		ie->e = *e;
		ie->packet_id = f->next_id;
		ie->seq = f->next_seq++;
		ie->state = e->qos == 2 ? INFLIGHT_WAIT_PUBREC : INFLIGHT_WAIT_PUBACK;
		ie->unsent = false;
		f->count++;
		return ie;
	}
	return NULL;
}

struct inflight_entry *
inflight_put(
    struct inflight *f, const struct entry *e, uint16_t packet_id, enum inflight_state state)
{
	struct inflight_entry *ie;

	if (packet_id == 0 || f->count >= 65535)
		return NULL;
	while (f->capacity == 0 || f->slots[packet_id & (f->capacity - 1)].state != INFLIGHT_FREE) {
		if (inflight_find(f, packet_id) != NULL || inflight_grow(f) != GRAPNEL_OK)
			return NULL;
	}
	ie = &f->slots[packet_id & (f->capacity - 1)];
	ie->e = *e;
	ie->packet_id = packet_id;
	ie->seq = f->next_seq++;
	ie->state = (uint8_t)state;
	ie->unsent = false;
	f->count++;
	f->next_id = packet_id; /* new ones begin behind the last one */
	return ie;
}

struct inflight_entry *
inflight_find(struct inflight *f, uint16_t packet_id)
{
	struct inflight_entry *ie;

	if (f->capacity == 0 || packet_id == 0)
		return NULL;
	ie = &f->slots[packet_id & (f->capacity - 1)];
	return ie->state != INFLIGHT_FREE && ie->packet_id == packet_id ? ie : NULL;
}

void
inflight_remove(struct inflight *f, struct inflight_entry *ie)
{
	entry_clear(&ie->e);
	ie->state = INFLIGHT_FREE;
	f->count--;
}

void
inflight_trim(struct inflight *f)
{
	if (f->count > 0)
		return;
	free(f->slots);
	f->slots = NULL;
	f->capacity = 0;
}

static int
by_seq(const void *a, const void *b)
{
	/* Serial-number comparison: seq wraps. */
	int32_t d = (int32_t)((*(struct inflight_entry *const *)a)->seq -
	    (*(struct inflight_entry *const *)b)->seq);

	return d < 0 ? -1 : d > 0;
}

struct inflight_entry **
inflight_sorted(struct inflight *f, unsigned *n)
{
	struct inflight_entry **all;
	unsigned k = 0;

	*n = f->count;
	if (f->count == 0 || (all = malloc(f->count * sizeof(struct inflight_entry *))) == NULL)
		return NULL;
	for (uint32_t i = 0; i < f->capacity; i++)
		if (f->slots[i].state != INFLIGHT_FREE)
			all[k++] = &f->slots[i];
	qsort(all, k, sizeof(struct inflight_entry *), by_seq);
	return all;
}

void
inflight_clear(struct inflight *f)
{
	for (uint32_t i = 0; i < f->capacity; i++)
		if (f->slots[i].state != INFLIGHT_FREE)
			entry_clear(&f->slots[i].e);
	free(f->slots);
	memset(f, 0, sizeof(*f));
}

/* ---- identifiers received ------------------------------------------------------------------- */

bool
id_set_has(const struct id_set *s, uint16_t id)
{
	for (uint32_t i = 0; i < s->capacity; i++) {
		uint16_t at = s->ids[(id + i) & (s->capacity - 1)];

		if (at == id)
			return true;
		if (at == 0)
			return false;
	}
	return false;
}

static void
id_set_put(uint16_t *ids, uint32_t capacity, uint16_t id)
{
	uint32_t i = id & (capacity - 1);

	while (ids[i] != 0)
		i = (i + 1) & (capacity - 1);
	ids[i] = id;
}

int
id_set_add(struct id_set *s, uint16_t id)
{
	if (id_set_has(s, id))
		return GRAPNEL_OK;
	if ((s->count + 1) * 2 > s->capacity) {
		uint32_t capacity = s->capacity == 0 ? 8 : s->capacity * 2;
		uint16_t *ids = calloc(capacity, sizeof(*ids));

		if (ids == NULL)
			return GRAPNEL_ENOMEM;
		for (uint32_t i = 0; i < s->capacity; i++)
			if (s->ids[i] != 0)
				id_set_put(ids, capacity, s->ids[i]);
		free(s->ids);
		s->ids = ids;
		s->capacity = capacity;
	}
	id_set_put(s->ids, s->capacity, id);
	s->count++;
	return GRAPNEL_OK;
}

bool
id_set_remove(struct id_set *s, uint16_t id)
{
	uint32_t mask = s->capacity - 1, i = id & mask, hole;

	if (!id_set_has(s, id))
		return false;
	while (s->ids[i] != id)
		i = (i + 1) & mask;
	/* Close the gap, so that probing never meets a hole in the middle of a run. */
	for (hole = i, i = (i + 1) & mask; s->ids[i] != 0; i = (i + 1) & mask) {
		uint32_t want = s->ids[i] & mask;

		if (((i - want) & mask) >= ((i - hole) & mask)) {
			s->ids[hole] = s->ids[i];
			hole = i;
		}
	}
	s->ids[hole] = 0;
	s->count--;
	return true;
}

void
id_set_trim(struct id_set *s)
{
	if (s->count == 0)
		id_set_clear(s);
}

void
id_set_clear(struct id_set *s)
{
	free(s->ids);
	memset(s, 0, sizeof(*s));
}
