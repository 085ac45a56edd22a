/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way of events from workers to the sender, by chance: pushes, commits, commits that fail, what is read back and what is
 * done come in any order. Whatever happens events of an endpoint come in order, none twice, none is missing that is not
 * counted as lost, and what is counted is what there is.
 */
#include "webhook/keeper.h"

#include <check.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENDPOINTS 2u
#define STEPS     4000u
#define TAKEN_MAX 256u

static int64_t metrics[8];
static uint64_t clock_now;
static uint64_t chance;

static struct webhook w;
static struct keeper k;
static struct endpoint endpoints[ENDPOINTS];
static struct model {
	uint64_t pushed, lost, seen, last; /* numbers of events */
	struct parcel *taken[TAKEN_MAX];
	unsigned taken_count;
} models[ENDPOINTS];

/* ---- what is around it ------------------------------------------------------------------------- */

static unsigned
draw(unsigned below)
{
	chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (unsigned)(chance >> 33) % below;
}

static uint64_t
now_ms(void)
{
	return clock_now;
}

static int64_t
wall_us(void)
{
	return (int64_t)clock_now * 1000;
}

static void
metric_add(struct grapnel_instance *self, int metric, int64_t delta)
{
	(void)self;
	metrics[metric] += delta;
	ck_assert_int_ge(metrics[metric], 0);
}

static void
no_log(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
{
	(void)self;
	(void)level;
	(void)format;
}

static const struct grapnel_host host = { .size = sizeof(host),
	.now_ms = now_ms,
	.wall_us = wall_us,
	.metric_add = metric_add,
	.log = no_log };

void
sender_call(void *webhook)
{
	(void)webhook;
}

bool
own_loop_call(struct own_loop *loop, struct own_loop_call *call)
{
	(void)loop;
	(void)call;
	w.sender_called = false;
	return true;
}

bool
keeper_failed(struct keeper *keeper, const char *what)
{
	(void)keeper;
	ck_abort_msg("%s", what);
	return false;
}

static void
set_up(enum when_full when_full, uint64_t max_bytes)
{
	char error[256], aside[256];

	memset(&w, 0, sizeof(w));
	memset(&k, 0, sizeof(k));
	memset(metrics, 0, sizeof(metrics));
	memset(models, 0, sizeof(models));
	clock_now = 1000000;
	w.host = &host;
	w.loop = (struct own_loop *)(void *)&w; /* nobody looks into it */
	w.m = (struct metrics){ .lost = 0, .outbox_bytes = 1, .outbox_events = 2, .memory = 3 };
	ck_assert_int_eq(pthread_mutex_init(&w.lock, NULL), 0);
	ck_assert_int_eq(pthread_cond_init(&w.wake, NULL), 0);
	k.w = &w;
	k.can_be_calm = keeper_can_be_calm();
	w.keeper = pthread_self();
	k.o = outbox_open(NULL, error, sizeof(error), aside, sizeof(aside));
	ck_assert_msg(k.o != NULL, "%s", error);
	for (unsigned i = 0; i < ENDPOINTS; i++) {
		char name[] = "a";

		name[0] = (char)('a' + i);
		endpoints[i] = (struct endpoint){ .w = &w,
			.name = name,
			.when_full = when_full,
			.max_bytes = max_bytes,
			.memory = 8000,
			.id = outbox_endpoint(k.o, name) };
		ck_assert_int_gt(endpoints[i].id, 0);
		w.endpoints[w.endpoint_count++] = &endpoints[i];
	}
}

static void
tear_down(void)
{
	batch_free(&k);
	free(k.rows);
	free(k.written);
	queue_free(&w);
	outbox_close(k.o);
	(void)pthread_cond_destroy(&w.wake);
	(void)pthread_mutex_destroy(&w.lock);
}

/* ---- steps ------------------------------------------------------------------------------------- */

static void
push(struct endpoint *e, struct model *m)
{
	static const char text[3000] = "";
	struct grapnel_event ev = { .size = sizeof(ev), .type = GRAPNEL_EVENT_CLIENT_REFUSED };
	unsigned count = 1 + draw(4);
	struct chunk *c = NULL;

	for (unsigned i = 0; i < count; i++) {
		ev.id.sequence = ++m->pushed;
		ev.time_us = wall_us();
		ev.reason = (struct grapnel_str){ text, draw(20) == 0 ? sizeof(text) : draw(300) };
		ck_assert(chunk_add(&c, &ev, SIZE_MAX));
	}
	(void)pthread_mutex_lock(&w.lock);
	(void)queue_push(e, c);
	(void)pthread_mutex_unlock(&w.lock);
}

static void finish_one(struct model *m);

/* What the keeper does; fails: the disk. The sender goes on meanwhile. */
static void
turn(bool fails)
{
	struct trimmed trimmed[MAX_ENDPOINTS];

	(void)pthread_mutex_lock(&w.lock);
	batch_take(&k);
	(void)pthread_mutex_unlock(&w.lock);
	finish_one(&models[0]);
	if (!fails) {
		keeper_calm(&k);
		ck_assert_msg(batch_write(&k, trimmed), "%s", outbox_error(k.o));
		keeper_calm_end(&k);
		(void)pthread_mutex_lock(&w.lock);
		batch_written(&k, trimmed);
		(void)pthread_mutex_unlock(&w.lock);
	}
	for (unsigned i = 0; i < ENDPOINTS; i++)
		if (fails)
			keeper_refill_unwritten(&k, &endpoints[i]);
		else
			ck_assert(keeper_refill(&k, &endpoints[i]));
}

/* The sender gets one: its events come behind all that came before. */
static void
take(struct endpoint *e, struct model *m)
{
	struct parcel *p = e->window;
	struct record_view v;
	size_t at = 0, n;
	uint32_t count = 0;

	if (p == NULL || m->taken_count == TAKEN_MAX)
		return;
	e->window = p->next_window;
	if (e->window == NULL)
		e->window_last = NULL;
	m->taken[m->taken_count++] = p;
	for (; (n = record_read(&v, p->chunk->bytes + at, p->chunk->len - at)) > 0; at += n) {
		ck_assert_uint_gt(v.event.id.sequence, m->last);
		m->last = v.event.id.sequence;
		count++;
	}
	ck_assert_uint_eq(at, p->chunk->len);
	ck_assert_uint_eq(count, p->chunk->count);
	m->seen += count;
}

static void
finish_one(struct model *m)
{
	unsigned i;

	if (m->taken_count == 0)
		return;
	i = draw(m->taken_count);
	(void)pthread_mutex_lock(&w.lock);
	queue_done(m->taken[i]);
	(void)pthread_mutex_unlock(&w.lock);
	m->taken[i] = m->taken[--m->taken_count];
}

/* ---- what is counted is what there is ------------------------------------------------------------ */

struct sums {
	size_t bytes;
	uint64_t events, stored, stored_bytes;
};

static void
add_up(struct sums *s, const struct parcel *p)
{
	s->bytes += parcel_cost(p);
	s->events += p->chunk->count;
	s->stored += p->row != 0 ? p->chunk->count : 0;
	s->stored_bytes += p->row != 0 ? p->chunk->len : 0;
}

static void
check_one(struct endpoint *e, const struct model *m)
{
	struct sums window = { 0 };
	struct outbox_sum behind = { 0 };
	size_t unwritten_bytes = 0;
	uint64_t unwritten_events = 0, untaken;

	for (const struct parcel *p = e->window; p != NULL; p = p->next_window)
		add_up(&window, p);
	untaken = window.events;
	for (unsigned i = 0; i < m->taken_count; i++)
		add_up(&window, m->taken[i]);
	for (const struct parcel *p = w.unwritten; p != NULL; p = p->next_unwritten) {
		if (p->e != e)
			continue;
		unwritten_bytes += parcel_cost(p);
		unwritten_events += p->in_window || p->done ? 0 : p->chunk->count;
	}
	ck_assert(outbox_sum(k.o, e->id, e->loaded_row, &behind));
	ck_assert_uint_eq(e->window_bytes, window.bytes);
	ck_assert_uint_eq(e->window_events, window.events);
	ck_assert_uint_eq(e->window_stored, window.stored);
	ck_assert_uint_eq(e->window_stored_bytes, window.stored_bytes);
	ck_assert_uint_eq(e->unwritten_bytes, unwritten_bytes);
	ck_assert_uint_eq(e->unwritten_events, unwritten_events);
	ck_assert_uint_eq(e->stored_events, window.stored + behind.events);
	ck_assert_uint_eq(e->stored_bytes, window.stored_bytes + behind.bytes);
	ck_assert_uint_eq(e->lost[LOST_FULL] + e->lost[LOST_OLD] + m->seen + untaken +
		behind.events + unwritten_events,
	    m->pushed);
}

static void
check_all(void)
{
	int64_t bytes = 0, events = 0, memory = 0, lost = 0;

	for (unsigned i = 0; i < ENDPOINTS; i++) {
		const struct endpoint *e = &endpoints[i];

		check_one(&endpoints[i], &models[i]);
		bytes += (int64_t)e->stored_bytes;
		events += (int64_t)e->stored_events;
		memory += (int64_t)e->window_bytes;
		lost += (int64_t)(e->lost[LOST_FULL] + e->lost[LOST_OLD]);
	}
	ck_assert_int_eq(metrics[w.m.lost], lost);
	ck_assert_int_eq(metrics[w.m.outbox_bytes], bytes);
	ck_assert_int_eq(metrics[w.m.outbox_events], events);
	ck_assert_int_eq(metrics[w.m.memory], memory);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void
one_step(bool fails)
{
	unsigned i = draw(ENDPOINTS);

	clock_now += draw(3);
	switch (draw(8)) {
	case 0:
	case 1:
	case 2:
		push(&endpoints[i], &models[i]);
		break;
	case 3:
		turn(fails);
		break;
	case 4:
	case 5:
		take(&endpoints[i], &models[i]);
		break;
	default:
		finish_one(&models[i]);
	}
}

static void
send_all(void)
{
	for (unsigned n = 0; n < 100000; n++) {
		uint64_t left = 0;

		turn(false);
		for (unsigned i = 0; i < ENDPOINTS; i++) {
			struct endpoint *e = &endpoints[i];

			take(e, &models[i]);
			finish_one(&models[i]);
			left += e->window_events + e->stored_events + e->unwritten_events;
		}
		if (left == 0 && w.unwritten == NULL && w.done_count == 0 && k.row_count == 0)
			return;
	}
	ck_abort_msg("it comes to no end");
}

static const struct {
	enum when_full when_full;
	uint64_t max_bytes;
	int64_t max_age_us;
	bool may_lose;
} kinds[] = {
	{ DROP_OLDEST, 1u << 30, 0, true }, /* but the disk may be too slow */
	{ DROP_OLDEST, 30000, 0, true },
	{ DROP_NEW, 30000, 0, true },
	{ DROP_OLDEST, 1u << 30, 200000, true },
	{ STOP_PUBLISHERS, 30000, 0, false },
};

START_TEST(events_come_in_order_and_none_is_missing_that_is_not_counted)
{
	bool fails = false;

	chance = (uint64_t)_i * 977 + 1;
	set_up(kinds[_i].when_full, kinds[_i].max_bytes);
	for (unsigned i = 0; i < ENDPOINTS; i++)
		endpoints[i].max_age_us = kinds[_i].max_age_us;
	for (unsigned n = 0; n < STEPS; n++) {
		if (draw(100) == 0)
			fails = !fails;
		one_step(fails);
		check_all();
	}
	send_all();
	check_all();
	for (unsigned i = 0; i < ENDPOINTS; i++) {
		const struct endpoint *e = &endpoints[i];
		struct outbox_sum sum = { 0 };

		ck_assert_uint_gt(models[i].seen, 0);
		ck_assert_uint_eq(
		    models[i].seen + e->lost[LOST_FULL] + e->lost[LOST_OLD], models[i].pushed);
		ck_assert(!e->spilling);
		ck_assert(outbox_sum(k.o, e->id, 0, &sum));
		ck_assert_uint_eq(sum.rows, 0);
		if (!kinds[_i].may_lose)
			ck_assert_uint_eq(models[i].seen, models[i].pushed);
	}
	tear_down();
}
END_TEST

/* While the disk fails what is not behind anything in the outbox goes on being sent. */
START_TEST(a_disk_that_fails_stops_nothing_that_is_in_memory)
{
	chance = 7;
	set_up(DROP_OLDEST, 1u << 30);
	endpoints[0].memory = 64000;
	turn(false);
	for (unsigned n = 0; n < 10; n++) /* more than the window takes */
		push(&endpoints[0], &models[0]);
	endpoints[0].spilling = true;
	for (unsigned n = 0; n < 2000; n++) {
		push(&endpoints[0], &models[0]);
		turn(true);
		take(&endpoints[0], &models[0]);
		finish_one(&models[0]);
		take(&endpoints[0], &models[0]);
		finish_one(&models[0]);
		check_all();
	}
	ck_assert_uint_eq(endpoints[0].lost[LOST_FULL], 0);
	ck_assert_uint_eq(models[0].seen, models[0].pushed);
	tear_down();
}
END_TEST

/* As when the outbox is opened anew. */
START_TEST(nothing_is_put_to_what_is_done)
{
	set_up(DROP_OLDEST, 1u << 30);
	push(&endpoints[0], &models[0]);
	take(&endpoints[0], &models[0]);
	finish_one(&models[0]);
	endpoints[0].spilling = endpoints[0].want_more = true;
	push(&endpoints[0], &models[0]);
	check_all();
	send_all();
	ck_assert_uint_eq(models[0].seen, models[0].pushed);
	tear_down();
}
END_TEST

/* Gives way while nobody waits; whoever comes to wait ends it. */
START_TEST(the_keeper_gives_way_until_it_is_called)
{
	struct dead dead = { .e = &endpoints[0] };
	struct job job = { .next = NULL };

	set_up(DROP_OLDEST, 1u << 30);
	if (!k.can_be_calm) { /* an ordinary user, with the limits of one */
		tear_down();
		return;
	}
	keeper_calm(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_IDLE);
	keeper_calm_end(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	keeper_calm(&k);
	keeper_call(&w);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	keeper_calm_end(&k);
	ck_assert(!w.calm);
	k.dead = &dead;
	keeper_calm(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	k.dead = NULL;
	k.jobs = &job;
	keeper_calm(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	k.jobs = NULL;
	w.ending = true;
	keeper_calm(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	tear_down();
}
END_TEST

START_TEST(the_keeper_does_not_give_way_while_too_much_is_unwritten)
{
	struct endpoint *e = &endpoints[0];

	set_up(DROP_OLDEST, 1u << 30);
	if (!k.can_be_calm) {
		tear_down();
		return;
	}
	e->memory = 1u << 20;
	while (e->unwritten_bytes < e->memory / QUEUE_MUCH)
		push(e, &models[0]);
	keeper_calm(&k); /* it is time to write, and to give way */
	ck_assert_int_eq(sched_getscheduler(0), SCHED_IDLE);
	while (e->unwritten_bytes < e->memory / QUEUE_TOO_MUCH) {
		ck_assert_int_eq(sched_getscheduler(0), SCHED_IDLE);
		push(e, &models[0]);
	}
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER); /* whoever pushed it called */
	keeper_calm_end(&k);
	keeper_calm(&k);
	ck_assert_int_eq(sched_getscheduler(0), SCHED_OTHER);
	keeper_calm_end(&k);
	tear_down();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("webhook queue");
	TCase *c = tcase_create("queue");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_loop_test(c, events_come_in_order_and_none_is_missing_that_is_not_counted, 0,
	    (int)(sizeof(kinds) / sizeof(kinds[0])));
	tcase_add_test(c, a_disk_that_fails_stops_nothing_that_is_in_memory);
	tcase_add_test(c, nothing_is_put_to_what_is_done);
	tcase_add_test(c, the_keeper_gives_way_until_it_is_called);
	tcase_add_test(c, the_keeper_does_not_give_way_while_too_much_is_unwritten);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
