/* SPDX-License-Identifier: Apache-2.0 */
/* own_loop: timers, watches, posts, and look-ups that a worker makes; the worker is another such loop. */
#include "../../plugins/common/own_loop.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct own_loop *loop;
static const struct grapnel_host *h; /* the loop's */
static sem_t done;

static uint64_t
now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- a host with two workers, of which the second one runs ---------------------------- */

static struct own_loop *worker; /* NULL: none of them */

struct fake_look_up {
	struct grapnel_timer *timer;
	grapnel_resolve_fn fn;
	void *arg;
	bool known;
};
static struct fake_look_up fakes[4]; /* the worker's */
static unsigned fake_count;

static int
host_post(struct grapnel_instance *self, unsigned number, grapnel_call_fn fn, void *arg)
{
	(void)self;
	return number == 1 && worker != NULL ? own_loop_post(worker, fn, arg) : GRAPNEL_ESTATE;
}

static void
on_answer_due(void *arg)
{
	struct fake_look_up *l = arg;
	struct grapnel_str addresses[20];

	for (size_t i = 0; i < 20; i++)
		addresses[i] = (struct grapnel_str){ "192.0.2.7", 9 };
	addresses[1] = (struct grapnel_str){ "2001:db8::1", 11 };
	if (l->known)
		l->fn(l->arg, GRAPNEL_OK, addresses, 20);
	else
		l->fn(l->arg, GRAPNEL_ENOENT, NULL, 0);
	own_loop_host(worker)->timer_free(l->timer);
}

static struct grapnel_resolve *
host_dns_lookup(struct grapnel_instance *self, struct grapnel_str name, uint32_t timeout_ms,
    grapnel_resolve_fn fn, void *arg)
{
	struct fake_look_up *l;
	const struct grapnel_host *hw = own_loop_host(worker);

	ck_assert_uint_ge(timeout_ms, 1);
	if (strncmp(name.data, "broken", name.len) == 0)
		return NULL;
	ck_assert_uint_lt(fake_count, 4);
	l = &fakes[fake_count++];
	l->fn = fn;
	l->arg = arg;
	l->known = strncmp(name.data, "known", name.len) == 0;
	if (strncmp(name.data, "mute", name.len) == 0)
		return (struct grapnel_resolve *)(void *)l;
	l->timer = hw->timer_new(self, on_answer_due, l);
	ck_assert_ptr_nonnull(l->timer);
	ck_assert_int_eq(hw->timer_arm(l->timer, 1), GRAPNEL_OK);
	return (struct grapnel_resolve *)(void *)l;
}

static const struct grapnel_host host = {
	.size = sizeof(host),
	.workers = 2,
	.now_ms = now_ms,
	.post = host_post,
	.dns_lookup = host_dns_lookup,
};

static void
setup(void)
{
	worker = NULL;
	ck_assert_int_eq(sem_init(&done, 0, 0), 0);
	loop = own_loop_new(&host, NULL);
	ck_assert_ptr_nonnull(loop);
	h = own_loop_host(loop);
}

static void
teardown(void)
{
	own_loop_free(loop);
	own_loop_free(worker);
	sem_destroy(&done);
}

static void
wait_done(void)
{
	while (sem_wait(&done) != 0)
		;
}

static void
on_done(void *arg)
{
	(void)arg;
	sem_post(&done);
}

static void
never(void *arg)
{
	(void)arg;
	abort();
}

static void
never_ready(void *arg, int fd, unsigned events)
{
	(void)fd;
	(void)events;
	never(arg);
}

/* Starts the loop if need be; returns when fn has returned. */
static void
run(grapnel_call_fn fn, void *arg)
{
	(void)own_loop_start(loop, "a name longer than 15 bytes");
	ck_assert_int_eq(own_loop_post(loop, fn, arg), GRAPNEL_OK);
	ck_assert_int_eq(own_loop_post(loop, on_done, NULL), GRAPNEL_OK);
	wait_done();
}

/* ---- timers --------------------------------------------------------------------------- */

struct alarm_clock {
	struct grapnel_timer *timer;
	uint64_t not_before;
	unsigned number;
	bool again;
};
static unsigned rung[16], rung_count;
static bool early;

static void
on_alarm(void *arg)
{
	struct alarm_clock *a = arg;

	early = early || now_ms() < a->not_before;
	rung[rung_count++] = a->number;
	if (a->again) {
		a->again = false;
		ck_assert_int_eq(h->timer_arm(a->timer, 0), GRAPNEL_OK);
		return;
	}
	h->timer_free(a->timer);
	if (a->number == 9)
		sem_post(&done);
}

static void
set_alarm(struct alarm_clock *a, unsigned number, uint32_t delay_ms)
{
	a->number = number;
	a->not_before = now_ms() + delay_ms;
	if (a->timer == NULL)
		a->timer = h->timer_new(NULL, on_alarm, a);
	ck_assert_ptr_nonnull(a->timer);
	ck_assert_int_eq(h->timer_arm(a->timer, delay_ms), GRAPNEL_OK);
}

static struct alarm_clock clocks[5];

static void
set_alarms(void *arg)
{
	(void)arg;
	set_alarm(&clocks[0], 9, 60);
	set_alarm(&clocks[1], 2, 20);
	set_alarm(&clocks[2], 1, 0);
	set_alarm(&clocks[3], 3, 5);
	set_alarm(&clocks[3], 3, 40); /* replaces */
	set_alarm(&clocks[4], 4, 1);
	h->timer_disarm(clocks[4].timer);
	clocks[2].again = true;
}

START_TEST(timers_come_once_in_order_and_never_early)
{
	const unsigned order[] = { 1, 1, 2, 3, 9 };

	run(set_alarms, NULL);
	wait_done();
	own_loop_stop(loop);
	ck_assert(!early);
	ck_assert_uint_eq(rung_count, 5);
	for (unsigned i = 0; i < rung_count; i++)
		ck_assert_uint_eq(rung[i], order[i]);
}
END_TEST

static void
leave_a_timer(void *arg)
{
	(void)arg;
	clocks[0].timer = h->timer_new(NULL, never, NULL);
	ck_assert_ptr_nonnull(clocks[0].timer);
}

START_TEST(elsewhere_than_on_the_loop_nothing_is_made)
{
	ck_assert_ptr_null(h->timer_new(NULL, on_done, NULL));
	ck_assert_ptr_null(h->watch_fd(NULL, 0, GRAPNEL_READABLE, never_ready, NULL));
	run(leave_a_timer, NULL);
	ck_assert_int_eq(h->timer_arm(clocks[0].timer, 1), GRAPNEL_ESTATE);
	ck_assert(h->now_ms == now_ms); /* what is not the loop's is the host's */
}
END_TEST

/* ---- descriptors ---------------------------------------------------------------------- */

static int ends[2];
static struct grapnel_watch *watch;
static unsigned seen, calls;

static void
on_ready(void *arg, int fd, unsigned events)
{
	char c;

	(void)arg;
	calls++;
	seen |= events;
	if (calls < 3) /* level-triggered: it comes again */
		return;
	if (events & GRAPNEL_HANGUP) {
		h->watch_remove(watch);
		sem_post(&done);
		return;
	}
	ck_assert_int_eq(read(fd, &c, 1), 1);
	ck_assert_int_eq(h->watch_change(watch, 0), GRAPNEL_OK); /* pause */
	sem_post(&done);
}

static void
watch_end(void *arg)
{
	(void)arg;
	watch = h->watch_fd(NULL, ends[0], GRAPNEL_READABLE, on_ready, NULL);
	ck_assert_ptr_nonnull(watch);
	ck_assert_ptr_null(h->watch_fd(NULL, -1, GRAPNEL_READABLE, on_ready, NULL));
}

static void
watch_end_again(void *arg)
{
	(void)arg;
	ck_assert_uint_eq(calls, 3); /* nothing came during the pause */
	ck_assert_uint_eq(seen, GRAPNEL_READABLE);
	ck_assert_int_eq(h->watch_change(watch, GRAPNEL_READABLE), GRAPNEL_OK);
}

START_TEST(a_descriptor_is_watched_until_it_is_not)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	run(watch_end, NULL);
	wait_done();
	close(ends[1]);
	run(watch_end_again, NULL);
	wait_done();
	ck_assert(seen & GRAPNEL_HANGUP);
	close(ends[0]);
}
END_TEST

static void
on_writable(void *arg, int fd, unsigned events)
{
	(void)arg;
	(void)fd;
	seen |= events;
	h->watch_remove(watch);
	sem_post(&done);
}

static void
watch_other_end(void *arg)
{
	(void)arg;
	watch = h->watch_fd(NULL, ends[1], GRAPNEL_WRITABLE, on_writable, NULL);
	ck_assert_ptr_nonnull(watch);
}

START_TEST(a_descriptor_can_be_written_to)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	run(watch_other_end, NULL);
	wait_done();
	ck_assert_uint_eq(seen, GRAPNEL_WRITABLE);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

/* ---- posts ---------------------------------------------------------------------------- */

#define POSTERS 4u
#define POSTS   2000u

static unsigned expected[POSTERS], out_of_order, total;
static struct numbered {
	struct own_loop_call call;
	unsigned poster, number;
} embedded[POSTERS][POSTS];

static void
on_numbered(void *arg)
{
	const struct numbered *n = arg;

	out_of_order += n->number != expected[n->poster]++;
	total++;
}

static void *
poster(void *arg)
{
	unsigned p = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < POSTS; i++) {
		struct numbered *n = &embedded[p][i];

		*n = (struct numbered){ { .fn = on_numbered, .arg = n }, p, i };
		if (i % 2 == 0)
			ck_assert(own_loop_call(loop, &n->call));
		else
			ck_assert_int_eq(own_loop_post(loop, on_numbered, n), GRAPNEL_OK);
	}
	return NULL;
}

START_TEST(posts_of_one_thread_run_in_their_order_and_before_the_stop)
{
	pthread_t threads[POSTERS];

	ck_assert_int_eq(own_loop_post(loop, on_done, NULL), GRAPNEL_OK); /* before the start */
	ck_assert_int_eq(own_loop_start(loop, "loop"), GRAPNEL_OK);
	ck_assert_int_eq(own_loop_start(loop, "loop"), GRAPNEL_ESTATE);
	wait_done();
	for (uintptr_t i = 0; i < POSTERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, poster, (void *)i), 0);
	for (unsigned i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	own_loop_stop(loop);
	ck_assert_uint_eq(total, POSTERS * POSTS);
	ck_assert_uint_eq(out_of_order, 0);
	ck_assert_int_eq(own_loop_post(loop, on_done, NULL), GRAPNEL_ESTATE);
	ck_assert(!own_loop_call(loop, &embedded[0][0].call));
	own_loop_stop(loop);
}
END_TEST

static void
leave_things(void *arg)
{
	struct grapnel_timer *t = h->timer_new(NULL, never, NULL);

	(void)arg;
	ck_assert_int_eq(h->timer_arm(t, 3600000), GRAPNEL_OK);
	watch = h->watch_fd(NULL, ends[0], GRAPNEL_READABLE, on_ready, NULL);
	ck_assert_ptr_nonnull(watch);
	clocks[0].timer = h->timer_new(NULL, on_alarm, &clocks[0]);
}

START_TEST(what_is_left_at_the_end_is_freed)
{
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	run(leave_things, NULL);
	own_loop_stop(loop);
	h->timer_free(clocks[0].timer); /* ending something is possible after the stop, too */
	own_loop_free(loop);
	loop = own_loop_new(&host, NULL); /* nor does one that never ran keep what was posted */
	ck_assert_int_eq(own_loop_post(loop, never, NULL), GRAPNEL_OK);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

static void
see_signals(void *arg)
{
	sigset_t *blocked = arg;

	(void)pthread_sigmask(SIG_SETMASK, NULL, blocked);
}

START_TEST(the_thread_takes_no_signals)
{
	sigset_t theirs, ours;

	run(see_signals, &theirs);
	(void)pthread_sigmask(SIG_SETMASK, NULL, &ours);
	ck_assert(sigismember(&theirs, SIGTERM) == 1 && sigismember(&theirs, SIGHUP) == 1);
	ck_assert(sigismember(&ours, SIGTERM) == 0);
}
END_TEST

/* ---- look-ups ------------------------------------------------------------------------- */

struct asked {
	const char *name;
	uint32_t timeout_ms;
	struct grapnel_resolve *look_up;
	bool inside, answered, early, cancel;
	int err;
	size_t count;
	char second[64];
};

static void
on_resolved(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	struct asked *a = arg;

	a->early = a->inside;
	ck_assert(!a->answered);
	a->answered = true;
	a->err = err;
	a->count = count;
	if (count > 1)
		memcpy(a->second, addresses[1].data, addresses[1].len);
	sem_post(&done);
}

static void
ask(void *arg)
{
	struct asked *a = arg;

	a->inside = true;
	a->look_up = h->dns_lookup(
	    NULL, (struct grapnel_str){ a->name, strlen(a->name) }, a->timeout_ms, on_resolved, a);
	a->inside = false;
	ck_assert_ptr_nonnull(a->look_up);
	if (a->cancel)
		h->dns_cancel(a->look_up);
}

static void
start_worker(void)
{
	worker = own_loop_new(&host, NULL);
	ck_assert_ptr_nonnull(worker);
	ck_assert_int_eq(own_loop_start(worker, "worker"), GRAPNEL_OK);
}

START_TEST(a_worker_that_runs_makes_a_look_up)
{
	struct asked known = { .name = "known" }, unknown = { .name = "unknown" };

	start_worker();
	run(ask, &known);
	wait_done();
	ck_assert_int_eq(known.err, GRAPNEL_OK);
	ck_assert_uint_eq(known.count, 16); /* more are not kept */
	ck_assert_str_eq(known.second, "2001:db8::1");
	ck_assert(!known.early);
	run(ask, &unknown);
	wait_done();
	ck_assert_int_eq(unknown.err, GRAPNEL_ENOENT);
	ck_assert_uint_eq(unknown.count, 0);
}
END_TEST

START_TEST(a_look_up_that_cannot_be_made_fails_later)
{
	struct asked known = { .name = "known" }, broken = { .name = "broken" };

	run(ask, &known); /* no worker runs */
	wait_done();
	ck_assert_int_eq(known.err, GRAPNEL_EFAULT);
	ck_assert(!known.early);
	start_worker();
	run(ask, &broken);
	wait_done();
	ck_assert_int_eq(broken.err, GRAPNEL_EFAULT);
}
END_TEST

START_TEST(a_look_up_that_a_worker_forgets_ends_in_time)
{
	struct asked forgotten = { .name = "mute", .timeout_ms = 1 };

	start_worker();
	run(ask, &forgotten);
	own_loop_stop(worker);
	wait_done();
	ck_assert_int_eq(forgotten.err, GRAPNEL_ETIMEOUT);
}
END_TEST

START_TEST(a_cancelled_look_up_gives_no_answer)
{
	struct asked first = { .name = "known", .cancel = true };
	struct asked second = { .name = "mute", .timeout_ms = 1, .cancel = true };
	struct asked third = { .name = "unknown" };

	start_worker();
	run(ask, &first);
	run(ask, &second);
	run(ask, &third);
	wait_done();
	ck_assert(third.answered);
	own_loop_stop(worker);
	own_loop_stop(loop);
	ck_assert(!first.answered && !second.answered);
}
END_TEST

START_TEST(a_loop_stops_with_look_ups_under_way)
{
	struct asked known = { .name = "known" }, muted = { .name = "mute" };

	start_worker();
	(void)own_loop_start(loop, "loop");
	ck_assert_int_eq(own_loop_post(loop, ask, &muted), GRAPNEL_OK);
	ck_assert_int_eq(own_loop_post(loop, ask, &known), GRAPNEL_OK);
	own_loop_stop(loop);
	own_loop_stop(worker); /* it may still answer to a loop that is there, but stopped */
	ck_assert(!muted.answered);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("own_loop");
	TCase *tc = tcase_create("own_loop");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, timers_come_once_in_order_and_never_early);
	tcase_add_test(tc, elsewhere_than_on_the_loop_nothing_is_made);
	tcase_add_test(tc, a_descriptor_is_watched_until_it_is_not);
	tcase_add_test(tc, a_descriptor_can_be_written_to);
	tcase_add_test(tc, posts_of_one_thread_run_in_their_order_and_before_the_stop);
	tcase_add_test(tc, what_is_left_at_the_end_is_freed);
	tcase_add_test(tc, the_thread_takes_no_signals);
	tcase_add_test(tc, a_worker_that_runs_makes_a_look_up);
	tcase_add_test(tc, a_look_up_that_cannot_be_made_fails_later);
	tcase_add_test(tc, a_look_up_that_a_worker_forgets_ends_in_time);
	tcase_add_test(tc, a_cancelled_look_up_gives_no_answer);
	tcase_add_test(tc, a_loop_stops_with_look_ups_under_way);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_set_fork_status(sr, CK_FORK); /* they leave things behind */
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
