/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rows of the log are needed: segments.c beside a log that is looked at after each commit as a restart would.
 */
#include "store/internal.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS  160u /* of a run */
#define RECORDS   6u
#define RECEIVERS 3u
#define FINISHED  64u

struct row {                 /* what is in the file, and what should be known of it */
	bool written, there; /* committed at all; the row is still in the log */
	bool has[RECORDS];   /* its message is */
	uint32_t count;
	bool waits[RECORDS][RECEIVERS];  /* the truth */
	bool stored[RECORDS][RECEIVERS]; /* was among the receivers when it was written */
	bool group[RECORDS];
	size_t finished_count;
	struct row_finished finished[FINISHED];
};
struct batch {
	uint32_t first, count; /* segments */
	uint32_t in;
	size_t finished_count;
	struct row_finished finished[FINISHED];
};

static struct segments *segs;
static struct row rows[SEGMENTS + 1];
static uint32_t given; /* numbers given out */
static unsigned seed;

static unsigned
below(unsigned n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

/* ---- what a restart finds --------------------------------------------------------------------- */

static bool
done(uint64_t receiver, uint64_t address)
{
	for (uint32_t s = 1; s <= given; s++)
		for (size_t i = 0; rows[s].there && i < rows[s].finished_count; i++)
			if (rows[s].finished[i].address == address &&
			    (rows[s].finished[i].receiver == 0 ||
				rows[s].finished[i].receiver == receiver))
				return true;
	return false;
}

static bool
found(uint32_t s, uint32_t i, uint32_t r)
{
	const struct row *row = &rows[s];

	return row->there && row->has[i] && row->stored[i][r] && !done(r + 1, store_address(s, i));
}

static void
look(void)
{
	for (uint32_t s = 1; s <= given; s++)
		for (uint32_t i = 0; rows[s].written && i < rows[s].count; i++)
			for (uint32_t r = 0; r < RECEIVERS; r++)
				ck_assert_msg(found(s, i, r) == rows[s].waits[i][r],
				    "message %u.%u %s receiver %u", s, i,
				    rows[s].waits[i][r] ? "is lost for" : "comes again to", r + 1);
}

/* ---- what happens ----------------------------------------------------------------------------------- */

/* What a worker says of messages that are there, or that another worker is about to write. */
static void
finish_some(struct batch *b, unsigned n)
{
	for (; n > 0 && given > 0 && b->finished_count < FINISHED; n--) {
		uint32_t s = 1 + below(given), i, r = below(RECEIVERS);
		struct row *row = &rows[s];

		if (row->count == 0 || (s >= b->first && s < b->first + b->count))
			continue;
		i = below(row->count);
		if (!row->waits[i][r])
			continue;
		row->waits[i][r] = false;
		b->finished[b->finished_count++] =
		    (struct row_finished){ row->group[i] ? 0 : r + 1, store_address(s, i) };
	}
}

static void
segment_make(uint32_t s)
{
	struct row *row = &rows[s];

	row->count = 1 + below(RECORDS);
	for (uint32_t i = 0; i < row->count; i++) {
		row->group[i] = below(4) == 0;
		for (uint32_t r = 0; r < (row->group[i] ? 1u : RECEIVERS); r++)
			row->waits[i][r] = row->stored[i][r] = r == 0 || below(3) == 0;
	}
}

static void
batch_make(struct batch *b)
{
	*b = (struct batch){ .first = given + 1 };
	for (unsigned n = below(3); n > 0 && given < SEGMENTS - 1; n--) {
		segment_make(++given);
		b->count++;
	}
}

/* In the transaction: what is not needed goes. @return how many. */
static size_t
tidy(bool rolled_back)
{
	enum segment_op op;
	uint64_t number;
	size_t n = 0;

	while (n < 5 && segments_op(segs, &number, &op)) {
		struct row *row = &rows[number];

		n++;
		if (rolled_back)
			continue;
		if (op == SEGMENT_DELETE)
			row->there = false;
		memset(row->has, 0, sizeof(row->has));
	}
	return n;
}

static void
account(const struct batch *b)
{
	uint32_t left[RECORDS];

	if (b->in != 0)
		ck_assert(segments_carrier(segs, b->in));
	for (size_t i = 0; i < b->finished_count; i++)
		ck_assert(segments_finished(segs, b->in, &b->finished[i]));
	for (uint32_t s = b->first; s < b->first + b->count; s++) {
		for (uint32_t i = 0; i < rows[s].count; i++) {
			left[i] = 0;
			for (uint32_t r = 0; r < RECEIVERS; r++)
				left[i] += rows[s].stored[i][r];
		}
		ck_assert(segments_written(segs, s, left, rows[s].count, 10000));
	}
	if (b->in != 0)
		segments_carried(segs, b->in);
}

static void
commit(struct batch *b)
{
	size_t ops;

	if (b->finished_count > 0 && b->count == 0)
		b->in = ++given;
	else if (b->finished_count > 0)
		b->in = b->first;
	while (below(4) == 0) {
		(void)tidy(true);
		segments_op_again(segs);
	}
	ops = tidy(false);
	for (uint32_t s = b->first; s < b->first + b->count; s++) {
		rows[s].written = rows[s].there = true;
		for (uint32_t i = 0; i < rows[s].count; i++)
			rows[s].has[i] = true;
	}
	if (b->in != 0) {
		rows[b->in].there = true;
		rows[b->in].finished_count = b->finished_count;
		memcpy(rows[b->in].finished, b->finished, sizeof(b->finished));
	}
	segments_op_done(segs, ops);
	account(b);
}

static void
squeeze(void)
{
	uint64_t number = segments_sparse(segs);

	if (number == 0)
		return;
	ck_assert(rows[number].there);
	for (uint32_t i = 0; i < rows[number].count; i++)
		if (segments_left(segs, number, i) == 0)
			rows[number].has[i] = false;
	segments_squeezed(segs, number, 100);
}

/* As load.c does it. */
static void
restart(void)
{
	segments_free(segs);
	ck_assert((segs = segments_new()) != NULL);
	segments_hold(segs, true);
	for (uint32_t s = 1; s <= given; s++) {
		uint32_t left[RECORDS] = { 0 }, count = 0;

		for (uint32_t i = 0; i < rows[s].count; i++) {
			if (!rows[s].has[i])
				continue;
			count = i + 1;
			for (uint32_t r = 0; r < RECEIVERS; r++)
				left[i] += found(s, i, r);
		}
		if (rows[s].there)
			ck_assert(segments_written(segs, s, left, count, 10000));
	}
	for (uint32_t s = 1; s <= given; s++)
		for (size_t i = 0; rows[s].there && i < rows[s].finished_count; i++)
			segments_pin(segs, s, rows[s].finished[i].address);
	segments_hold(segs, false);
	segments_loaded(segs);
}

/* ---- a run ---------------------------------------------------------------------------------------------- */

static void
finish_all(void)
{
	struct batch b;

	for (unsigned n = 0; n < 200; n++) {
		b = (struct batch){ .first = given + 1 };
		for (uint32_t s = 1; s <= given && b.finished_count < FINISHED; s++)
			for (uint32_t i = 0; i < rows[s].count; i++)
				for (uint32_t r = 0; r < RECEIVERS && b.finished_count < FINISHED;
				     r++)
					if (rows[s].waits[i][r]) {
						rows[s].waits[i][r] = false;
						b.finished[b.finished_count++] =
						    (struct row_finished){ rows[s].group[i] ? 0
											    : r + 1,
							    store_address(s, i) };
					}
		if (b.finished_count == 0 && segments_waiting(segs) == 0)
			return;
		ck_assert_uint_lt(given, SEGMENTS);
		commit(&b);
		look();
	}
	ck_abort_msg("it does not end");
}

START_TEST(rows_go_when_nobody_needs_them_and_not_before)
{
	struct batch first, second;

	seed = 77777u * (unsigned)(_i + 1);
	memset(rows, 0, sizeof(rows));
	given = 0;
	ck_assert((segs = segments_new()) != NULL);
	while (given < SEGMENTS / 2) {
		/* Two workers: what one has collected may be finished by the other before it is written. */
		batch_make(&first);
		batch_make(&second);
		finish_some(&first, below(8));
		finish_some(&second, below(16));
		if (below(2) == 0) {
			struct batch swap = first;

			first = second;
			second = swap;
		}
		commit(&first);
		commit(&second);
		look();
		if (below(3) == 0)
			squeeze();
		if (below(10) == 0)
			restart();
		look();
	}
	finish_all();
	for (uint32_t s = 1; s <= given; s++)
		ck_assert_msg(!rows[s].there, "the row of segment %u stays", s);
	ck_assert_uint_eq(segments_count(segs), 0);
	segments_free(segs);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("segments");
	TCase *t = tcase_create("segments");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, rows_go_when_nobody_needs_them_and_not_before, 0, 20);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
