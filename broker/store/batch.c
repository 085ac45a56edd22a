/* SPDX-License-Identifier: Apache-2.0 */
#include "store/batch.h"

#include <stdlib.h>
#include <string.h>

/* Room for one more in an array of `count`. */
static bool
room(void *array, size_t count, size_t *capacity, size_t size)
{
	void **p = array, *neu;
	size_t n = *capacity == 0 ? 16 : *capacity * 2;

	if (count < *capacity)
		return true;
	if ((neu = realloc(*p, n * size)) == NULL)
		return false;
	*p = neu;
	*capacity = n;
	return true;
}

static bool
room32(void *array, uint32_t count, uint32_t *capacity, size_t size)
{
	size_t n = *capacity;

	if (!room(array, count, &n, size))
		return false;
	*capacity = (uint32_t)n;
	return true;
}

struct store_batch *
batch_new(struct worker *w)
{
	struct store_batch *b = calloc(1, sizeof(*b));

	if (b != NULL)
		b->w = w;
	return b;
}

static void
segment_free(struct batch_segment *seg)
{
	for (uint32_t i = 0; i < seg->record_count; i++)
		message_unref(seg->records[i].msg);
	for (uint32_t i = 0; i < seg->receiver_count; i++)
		subids_unref(seg->receivers[i].ids);
	free(seg->records);
	free(seg->receivers);
	free(seg);
}

void
batch_free(struct store_batch *b)
{
	struct batch_segment *seg, *next;

	for (seg = b->first; seg != NULL; seg = next) {
		next = seg->next;
		segment_free(seg);
	}
	for (size_t i = 0; i < b->retained_count; i++)
		message_unref(b->retained[i].msg);
	free(b->retained);
	free(b->finished);
	free(b->tickets);
	row_free(&b->rows);
	free(b);
}

bool
batch_empty(const struct store_batch *b)
{
	if (b->finished_count > 0 || b->retained_count > 0 || b->ticket_count > 0 ||
	    b->rows.len > 0)
		return false;
	for (const struct batch_segment *seg = b->first; seg != NULL; seg = seg->next)
		if (seg->alive > 0)
			return false;
	return true;
}

size_t
batch_bytes(const struct store_batch *b)
{
	size_t bytes = 0;

	for (const struct batch_segment *seg = b->first; seg != NULL; seg = seg->next)
		bytes += seg->bytes;
	return bytes;
}

struct batch_segment *
batch_segment_add(struct store_batch *b, uint64_t number)
{
	struct batch_segment *seg = calloc(1, sizeof(*seg));

	if (seg == NULL)
		return NULL;
	seg->number = number;
	if (b->last == NULL)
		b->first = seg;
	else
		b->last->next = seg;
	b->last = seg;
	return seg;
}

struct batch_record *
batch_record_add(struct batch_segment *seg)
{
	if (!room32(&seg->records, seg->record_count, &seg->record_capacity, sizeof(*seg->records)))
		return NULL;
	memset(&seg->records[seg->record_count], 0, sizeof(*seg->records));
	return &seg->records[seg->record_count++];
}

bool
batch_receiver_add(
    struct batch_segment *seg, struct batch_record *rec, const struct batch_receiver *r)
{
	if (!room32(&seg->receivers, seg->receiver_count, &seg->receiver_capacity,
		sizeof(*seg->receivers)))
		return false;
	seg->receivers[seg->receiver_count++] = *r;
	rec->count++;
	rec->left++;
	return true;
}

bool
batch_finished_add(struct store_batch *b, const struct row_finished *f)
{
	if (!room(&b->finished, b->finished_count, &b->finished_capacity, sizeof(*b->finished)))
		return false;
	b->finished[b->finished_count++] = *f;
	return true;
}

bool
batch_retained_add(struct store_batch *b, struct message *kept, uint64_t seq)
{
	if (!room(&b->retained, b->retained_count, &b->retained_capacity, sizeof(*b->retained)))
		return false;
	b->retained[b->retained_count++] =
	    (struct batch_retained){ .msg = message_ref(kept), .seq = seq };
	return true;
}

bool
batch_ticket_add(struct store_batch *b, struct ticket *t)
{
	if (!room(&b->tickets, b->ticket_count, &b->ticket_capacity, sizeof(struct ticket *)))
		return false;
	b->tickets[b->ticket_count++] = t;
	return true;
}

void
batch_row(struct store_batch *b, enum batch_table table, bool goes, uint64_t id,
    struct grapnel_str text, struct grapnel_str row)
{
	size_t before = b->rows.len;

	row_number(&b->rows, (uint64_t)table << 1 | goes);
	row_number(&b->rows, id);
	row_string(&b->rows, text);
	row_string(&b->rows, row);
	if (b->rows.failed) { /* what was there stays readable */
		b->rows.len = before;
		b->rows.failed = false;
		b->failed = true;
	}
}
