/* SPDX-License-Identifier: Apache-2.0 */
/* The mailbox of worker.c, with many threads: run it under ThreadSanitizer too. */
#include "core/broker.h"
#include "core/worker.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCERS 4u
#define ITEMS     20000u
#define WORKERS   3u

static struct broker broker;
static struct settings settings = { .read_buffer = 4096 };

/*
 * The subjects that worker_run calls have nothing to do here. Ours are taken instead of the library's: the linker
 * looks into an archive only for what is missing.
 */
static void (*at_flush)(struct worker *w);

void
conn_mail_handled(struct worker *w)
{
	(void)w;
}

void
conn_flush_dirty(struct worker *w)
{
	(void)w;
}
unsigned
conn_poll(struct worker *w)
{
	(void)w;
	return 0;
}
void
router_flush(struct worker *w)
{
	if (at_flush != NULL)
		at_flush(w);
}
void
durable_flush(struct worker *w)
{
	(void)w;
}

void
hooks_flush(struct worker *w)
{
	(void)w;
}
void
overload_turn(struct worker *w)
{
	(void)w;
}

struct item {
	struct mail mail;
	unsigned producer, number;
};

static struct {
	unsigned next[PRODUCERS + WORKERS];
	unsigned total;
} seen[WORKERS + 1]; /* each by its worker */

static void
stop_mail(struct worker *w, struct mail *m)
{
	free(m);
	worker_stop(w);
}

static void
post_stop(struct worker *w)
{
	struct mail *m = calloc(1, sizeof(*m));

	m->fn = stop_mail;
	worker_post(w, m);
}

static void
item_mail(struct worker *w, struct mail *m)
{
	struct item *it = (struct item *)(void *)m;

	if (worker_self != w || it->number != seen[w->index].next[it->producer])
		ck_abort_msg("worker %u: item %u of %u came instead of %u", w->index, it->number,
		    it->producer, seen[w->index].next[it->producer]);
	seen[w->index].next[it->producer]++;
	seen[w->index].total++;
	free(it);
}

static void
post_item(struct worker *w, unsigned producer, unsigned number)
{
	struct item *it = calloc(1, sizeof(*it));

	it->mail.fn = item_mail;
	it->producer = producer;
	it->number = number;
	worker_post(w, &it->mail);
}

static void
setup(void)
{
	memset(&broker, 0, sizeof(broker));
	memset(seen, 0, sizeof(seen));
	at_flush = NULL;
	broker.settings = &settings;
	broker.worker_count = WORKERS;
	for (unsigned i = 0; i <= WORKERS; i++)
		ck_assert_int_eq(worker_new(&broker.workers[i], &broker, i), GRAPNEL_OK);
	broker.main = broker.workers[WORKERS];
}

static void
teardown(void)
{
	for (unsigned i = 0; i <= WORKERS; i++)
		worker_free(broker.workers[i]);
}

static void
join_all(void)
{
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_int_eq(worker_join(broker.workers[i], 60000), GRAPNEL_OK);
}

static void *
producer_main(void *arg)
{
	unsigned producer = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < ITEMS; i++)
		for (unsigned t = 0; t < WORKERS; t++)
			post_item(broker.workers[t], producer, i);
	return NULL;
}

START_TEST(nothing_is_lost_and_each_producer_keeps_its_order)
{
	pthread_t threads[PRODUCERS];

	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_int_eq(worker_start(broker.workers[i]), GRAPNEL_OK);
	for (uintptr_t i = 0; i < PRODUCERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, producer_main, (void *)i), 0);
	for (unsigned i = 0; i < PRODUCERS; i++)
		(void)pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < WORKERS; i++)
		post_stop(broker.workers[i]);
	join_all();
	for (unsigned i = 0; i < WORKERS; i++) {
		ck_assert_uint_eq(seen[i].total, PRODUCERS * ITEMS);
		ck_assert_uint_eq(worker_mail_depth(broker.workers[i]), 0);
	}
}
END_TEST

/* Each worker posts to all, a few per turn: batches leave at the end of a turn, in order. */
static _Atomic unsigned finished;

static void
burst_mail(struct worker *w, struct mail *m)
{
	struct item *it = (struct item *)(void *)m;

	for (unsigned i = 0; i < 7 && it->number < ITEMS; i++, it->number++)
		for (unsigned t = 0; t < WORKERS; t++)
			post_item(broker.workers[t], PRODUCERS + w->index, it->number);
	if (it->number < ITEMS) {
		worker_post(w, m);
		return;
	}
	free(it);
	if (atomic_fetch_add(&finished, 1) + 1 == WORKERS)
		for (unsigned t = 0; t <= WORKERS; t++)
			post_stop(broker.workers[t]);
}

START_TEST(workers_post_to_each_other_in_order)
{
	bool more = true;

	atomic_store(&finished, 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		struct item *it = calloc(1, sizeof(*it));

		it->mail.fn = burst_mail;
		worker_post(broker.workers[i], &it->mail);
		ck_assert_int_eq(worker_start(broker.workers[i]), GRAPNEL_OK);
	}
	worker_run(broker.main);
	join_all();
	while (more) { /* what crossed with the last worker's order to stop */
		more = false;
		for (unsigned i = 0; i <= WORKERS; i++)
			more |= worker_drain(broker.workers[i]);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_uint_eq(seen[i].total, WORKERS * ITEMS);
}
END_TEST

START_TEST(mail_of_a_worker_leaves_at_the_end_of_its_turn)
{
	worker_self = broker.main;
	post_item(broker.workers[0], 0, 0);
	ck_assert_uint_eq(worker_mail_depth(broker.workers[0]), 0);
	ck_assert(worker_drain(broker.main));
	ck_assert_uint_eq(worker_mail_depth(broker.workers[0]), 1);
	worker_self = NULL;
	ck_assert(worker_drain(broker.workers[0]));
	ck_assert_uint_eq(seen[0].total, 1);
	ck_assert(!worker_drain(broker.workers[0]));
}
END_TEST

static unsigned turns;
static bool portion_exceeded;
static void
watch_portions(struct worker *w)
{
	static unsigned before;

	if (turns++ == 0)
		before = 0;
	if (seen[w->index].total - before > 256)
		portion_exceeded = true;
	before = seen[w->index].total;
}

START_TEST(a_full_mailbox_is_drained_in_portions)
{
	turns = 0;
	portion_exceeded = false;
	at_flush = watch_portions;
	for (unsigned i = 0; i < 2000; i++)
		post_item(broker.main, 0, i);
	post_stop(broker.main);
	worker_run(broker.main);
	ck_assert(!portion_exceeded);
	ck_assert_uint_ge(turns, 2000 / 256);
	ck_assert_uint_eq(seen[WORKERS].total, 2000);
}
END_TEST

static void
on_timer(struct timer *t, void *owner)
{
	(void)t;
	worker_stop(owner);
}

START_TEST(a_timer_wakes_a_loop_that_sleeps)
{
	struct timer late, soon;
	uint64_t began = clock_ms();

	timer_init(&late, on_timer);
	timer_init(&soon, on_timer);
	worker_timer(broker.main, &late, 3600000);
	worker_timer(broker.main, &soon, 60); /* earlier than what the loop would wait for */
	worker_run(broker.main);
	ck_assert_uint_ge(clock_ms() - began, 60);
	ck_assert(!timer_armed(&soon));
	ck_assert(timer_armed(&late));
	ck_assert_int_lt(metric_get(&broker.main->metrics, METRIC_LOOP_TURNS), 20); /* it slept */
	timer_disarm(broker.main->wheel, &late);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("mailbox");
	TCase *tc = tcase_create("mailbox");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, nothing_is_lost_and_each_producer_keeps_its_order);
	tcase_add_test(tc, workers_post_to_each_other_in_order);
	tcase_add_test(tc, mail_of_a_worker_leaves_at_the_end_of_its_turn);
	tcase_add_test(tc, a_full_mailbox_is_drained_in_portions);
	tcase_add_test(tc, a_timer_wakes_a_loop_that_sleeps);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
