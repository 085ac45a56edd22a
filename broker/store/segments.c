/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segments - which rows of the log are still needed
 *
 * A segment is needed while somebody waits for one of its messages, and while its `finished` names a message of a segment that
 * is still needed: else that would be delivered once more after a restart. The first is counted per message (left), the second per
 * segment (pins). What is no longer needed is put into a list of operations, in an order in which it may be done away with at any
 * time: a segment's messages before the `finished` that speak of them.
 *
 * `finished` may come before its segment, when another worker was faster: then the segment is only a place for it.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define SPARSE_LOOKS 256u /* slots per call */
#define SPARSE_BYTES 8192u

struct ref { /* so many messages of this segment are finished in that one */
	uint64_t in;
	uint32_t count;
};
struct segment {
	uint64_t number; /* 0: an empty slot */
	uint32_t *left;
	uint32_t count, live;
	uint64_t pins;
	uint64_t bytes;
	struct ref *refs;
	uint32_t ref_count, ref_capacity;
	bool written, stripped;
};
struct op {
	uint64_t number;
	enum segment_op op;
};
struct segments {
	struct segment *slots; /* open addressing, a power of two */
	uint32_t capacity, used;
	uint32_t look;
	bool held;
	struct op *ops;
	size_t op_count, op_capacity, op_at;
};

struct segments *
segments_new(void)
{
	struct segments *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->capacity = 1024;
	if ((s->slots = calloc(s->capacity, sizeof(*s->slots))) == NULL) {
		free(s);
		return NULL;
	}
	return s;
}

void
segments_free(struct segments *s)
{
	if (s == NULL)
		return;
	for (uint32_t i = 0; i < s->capacity; i++) {
		free(s->slots[i].left);
		free(s->slots[i].refs);
	}
	free(s->slots);
	free(s->ops);
	free(s);
}

/* ---- the table ---------------------------------------------------------------------------------- */

static uint32_t
home(uint64_t number, uint32_t capacity)
{
	return (uint32_t)(number * 0x9e3779b97f4a7c15u >> 32) & (capacity - 1);
}

static struct segment *
find(const struct segments *s, uint64_t number)
{
	for (uint32_t i = home(number, s->capacity);; i = (i + 1) & (s->capacity - 1)) {
		if (s->slots[i].number == number)
			return &s->slots[i];
		if (s->slots[i].number == 0)
			return NULL;
	}
}

static bool
grow(struct segments *s)
{
	uint32_t capacity = s->capacity * 2;
	struct segment *slots = calloc(capacity, sizeof(*slots));

	if (slots == NULL)
		return false;
	for (uint32_t i = 0; i < s->capacity; i++) {
		uint32_t at;

		if (s->slots[i].number == 0)
			continue;
		at = home(s->slots[i].number, capacity);
		while (slots[at].number != 0)
			at = (at + 1) & (capacity - 1);
		slots[at] = s->slots[i];
	}
	free(s->slots);
	s->slots = slots;
	s->capacity = capacity;
	return true;
}

/* Found, or made. NULL: no memory. Pointers to others are void after it. */
static struct segment *
get(struct segments *s, uint64_t number)
{
	struct segment *seg = find(s, number);
	uint32_t i;

	if (seg != NULL)
		return seg;
	if ((s->used + 1) * 4 > s->capacity * 3 && !grow(s))
		return NULL;
	for (i = home(number, s->capacity); s->slots[i].number != 0;
	     i = (i + 1) & (s->capacity - 1))
		;
	s->slots[i] = (struct segment){ .number = number };
	s->used++;
	return &s->slots[i];
}

static void
take_out(struct segments *s, struct segment *seg)
{
	uint32_t mask = s->capacity - 1, hole = (uint32_t)(seg - s->slots);

	free(seg->left);
	free(seg->refs);
	for (uint32_t i = (hole + 1) & mask; s->slots[i].number != 0; i = (i + 1) & mask) {
		uint32_t want = home(s->slots[i].number, s->capacity);

		if (((i - want) & mask) >= ((i - hole) & mask)) {
			s->slots[hole] = s->slots[i];
			hole = i;
		}
	}
	s->slots[hole] = (struct segment){ 0 };
	s->used--;
}

/* ---- what is no longer needed --------------------------------------------------------------------- */

static void
op_add(struct segments *s, uint64_t number, enum segment_op op)
{
	if (s->op_count == s->op_capacity) {
		size_t capacity = s->op_capacity == 0 ? 64 : s->op_capacity * 2;
		struct op *p = realloc(s->ops, capacity * sizeof(*p));

		if (p == NULL)
			return; /* the row stays until the next start */
		s->ops = p;
		s->op_capacity = capacity;
	}
	s->ops[s->op_count++] = (struct op){ number, op };
}

/* Its messages may have been the last that something was needed for. */
static void
settle(struct segments *s, uint64_t number)
{
	struct segment *seg = find(s, number);
	struct ref *refs;
	uint32_t count;
	bool gone;

	if (s->held || seg == NULL || !seg->written || seg->live > 0)
		return;
	gone = seg->pins == 0;
	if (!gone && seg->stripped)
		return;
	op_add(s, number, gone ? SEGMENT_DELETE : SEGMENT_STRIP);
	refs = seg->refs;
	count = seg->ref_count;
	seg->refs = NULL;
	seg->ref_count = seg->ref_capacity = 0;
	seg->stripped = true;
	if (gone)
		take_out(s, seg);
	for (uint32_t i = 0; i < count; i++) {
		struct segment *in = find(s, refs[i].in);

		if (in == NULL)
			continue;
		in->pins -= refs[i].count < in->pins ? refs[i].count : in->pins;
		if (in->pins == 0)
			settle(s, refs[i].in);
	}
	free(refs);
}

static bool
refer(struct segment *seg, uint64_t in)
{
	struct ref *p;

	if (seg->ref_count > 0 && seg->refs[seg->ref_count - 1].in == in) {
		seg->refs[seg->ref_count - 1].count++;
		return true;
	}
	if (seg->ref_count == seg->ref_capacity) {
		uint32_t capacity = seg->ref_capacity == 0 ? 2 : seg->ref_capacity * 2;

		if ((p = realloc(seg->refs, capacity * sizeof(*p))) == NULL)
			return false;
		seg->refs = p;
		seg->ref_capacity = capacity;
	}
	seg->refs[seg->ref_count++] = (struct ref){ in, 1 };
	return true;
}

/* ---- what happens ----------------------------------------------------------------------------------- */

static bool
left_room(struct segment *seg, uint32_t count)
{
	uint32_t *left;

	if (count <= seg->count)
		return true;
	if ((left = realloc(seg->left, count * sizeof(*left))) == NULL)
		return false;
	memset(left + seg->count, 0, (count - seg->count) * sizeof(*left));
	seg->left = left;
	seg->count = count;
	return true;
}

bool
segments_written(
    struct segments *s, uint64_t number, const uint32_t *left, uint32_t count, uint64_t bytes)
{
	struct segment *seg = get(s, number);

	if (seg == NULL || !left_room(seg, count))
		return false;
	/* What was finished before it came stands there as a negative number. */
	for (uint32_t i = 0; i < count; i++) {
		uint32_t early = -seg->left[i];

		seg->left[i] = left[i] > early ? left[i] - early : 0;
		seg->live += seg->left[i] > 0;
	}
	seg->bytes = bytes;
	seg->written = true;
	settle(s, number);
	return true;
}

bool
segments_finished(struct segments *s, uint64_t in, const struct row_finished *f)
{
	uint64_t number = store_segment(f->address);
	uint32_t index = store_index(f->address);
	struct segment *seg = get(s, number), *carrier;

	if (seg == NULL)
		return false;
	if (!seg->written) {
		if (!left_room(seg, index + 1))
			return false;
		seg->left[index] = f->receiver == 0 ? (uint32_t)INT32_MIN : seg->left[index] - 1;
	} else if (index >= seg->count || seg->left[index] == 0) {
		return true;
	} else {
		seg->left[index] = f->receiver == 0 ? 0 : seg->left[index] - 1;
		seg->live -= seg->left[index] == 0;
	}
	if (!refer(seg, in))
		return false;
	if ((carrier = find(s, in)) != NULL)
		carrier->pins++;
	settle(s, number);
	return true;
}

bool
segments_carrier(struct segments *s, uint64_t in)
{
	return get(s, in) != NULL;
}

void
segments_carried(struct segments *s, uint64_t in)
{
	struct segment *seg = find(s, in);

	if (seg == NULL)
		return;
	seg->written = true;
	settle(s, in);
}

void
segments_pin(struct segments *s, uint64_t in, uint64_t address)
{
	struct segment *seg = find(s, store_segment(address)), *carrier = find(s, in);

	if (seg == NULL || seg->live == 0 || carrier == NULL || !refer(seg, in))
		return;
	carrier->pins++;
}

void
segments_hold(struct segments *s, bool on)
{
	s->held = on;
}

void
segments_loaded(struct segments *s)
{
	uint64_t *numbers = malloc(s->used * sizeof(*numbers) + 1);
	uint32_t n = 0;

	if (numbers == NULL)
		return;
	for (uint32_t i = 0; i < s->capacity; i++) {
		struct segment *seg = &s->slots[i];

		if (seg->number == 0)
			continue;
		numbers[n++] = seg->number;
		/* All these before the first row goes: it may say that one of them is finished. */
		if (seg->live == 0 && seg->count > 0) {
			op_add(s, seg->number, SEGMENT_STRIP);
			seg->stripped = true;
		}
	}
	for (uint32_t i = 0; i < n; i++)
		settle(s, numbers[i]);
	free(numbers);
}

bool
segments_op(struct segments *s, uint64_t *number, enum segment_op *op)
{
	if (s->op_at == s->op_count)
		return false;
	*number = s->ops[s->op_at].number;
	*op = s->ops[s->op_at].op;
	s->op_at++;
	return true;
}

void
segments_op_done(struct segments *s, size_t count)
{
	if (count > 0)
		memmove(s->ops, s->ops + count, (s->op_count - count) * sizeof(*s->ops));
	s->op_count -= count;
	s->op_at = 0;
}

void
segments_op_again(struct segments *s)
{
	s->op_at = 0;
}

size_t
segments_waiting(const struct segments *s)
{
	return s->op_count;
}

uint64_t
segments_count(const struct segments *s)
{
	return s->used;
}

/* ---- stragglers ------------------------------------------------------------------------------------------ */

uint64_t
segments_sparse(struct segments *s)
{
	for (unsigned n = 0; n < SPARSE_LOOKS && n < s->capacity; n++) {
		const struct segment *seg = &s->slots[s->look++ & (s->capacity - 1)];

		if (seg->number != 0 && seg->written && seg->live > 0 &&
		    seg->live * 4 <= seg->count && seg->bytes > SPARSE_BYTES)
			return seg->number;
	}
	return 0;
}

uint32_t
segments_left(const struct segments *s, uint64_t number, uint32_t index)
{
	const struct segment *seg = find(s, number);

	return seg != NULL && index < seg->count ? seg->left[index] : 0;
}

void
segments_squeezed(struct segments *s, uint64_t number, uint64_t bytes)
{
	struct segment *seg = find(s, number);

	if (seg != NULL)
		seg->bytes =
		    bytes < seg->bytes / 2 ? bytes : SPARSE_BYTES; /* not again and again */
}
