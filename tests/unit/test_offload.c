/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The offload pool: limits per instance, deadlines, cancelling. Run it under ThreadSanitizer too.
 */
#include "core_stubs.h"
#include "plugin/instance.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct probe first, second;

struct job {
	struct probe *p;
	struct grapnel_job *handle;
	uint32_t deadline_ms;
	bool ran;
	int done_on; /* worker */
	bool refused;
	_Atomic unsigned started, done;
};

static _Atomic unsigned gate_open; /* jobs wait for it */
static _Atomic unsigned running_now, running_most;

static void
work_quick(void *arg)
{
	struct job *j = arg;

	ck_assert_int_eq(j->p->host->this_worker(), -1);
	atomic_fetch_add(&j->started, 1);
}

static void
work_gated(void *arg)
{
	struct job *j = arg;
	unsigned now = atomic_fetch_add(&running_now, 1) + 1, most = atomic_load(&running_most);

	while (now > most && !atomic_compare_exchange_weak(&running_most, &most, now))
		continue;
	atomic_fetch_add(&j->started, 1);
	for (unsigned i = 0; i < 10000 && atomic_load(&gate_open) == 0; i++)
		pause_ms(1);
	atomic_fetch_sub(&running_now, 1);
}

static void
on_done(void *arg)
{
	struct job *j = arg;

	j->ran = j->p->host->job_ran(j->handle);
	j->done_on = j->p->host->this_worker();
	atomic_fetch_add(&j->done, 1);
}

static void
submit_quick(struct worker *w, void *arg)
{
	struct job *j = arg;

	(void)w;
	j->handle = j->p->host->offload(j->p->self, j->deadline_ms, work_quick, on_done, j);
	j->refused = j->handle == NULL;
}

static void
submit_gated(struct worker *w, void *arg)
{
	struct job *j = arg;

	(void)w;
	j->handle = j->p->host->offload(j->p->self, j->deadline_ms, work_gated, on_done, j);
	j->refused = j->handle == NULL;
}

static void
cancel(struct worker *w, void *arg)
{
	struct job *j = arg;

	(void)w;
	ck_assert_uint_eq(atomic_load(&j->done), 0);
	j->p->host->offload_cancel(j->handle);
	ck_assert_uint_eq(atomic_load(&j->done), 0); /* done comes later, not from inside */
}

static void
begin(const char *more_first, const char *more_second)
{
	char sections[2048];

	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
	atomic_store(&gate_open, 0);
	atomic_store(&running_now, 0);
	atomic_store(&running_most, 0);
	snprintf(sections, sizeof(sections), "%s%s", stub_probe("first", &first, more_first),
	    stub_probe("second", &second, more_second));
	stub_settings(sections);
	ck_assert_int_eq(stub_start(), GRAPNEL_OK);
}

START_TEST(work_runs_elsewhere_and_done_where_it_was_asked)
{
	struct job a = { .p = &first }, b = { .p = &first };

	begin("", "");
	on_worker(0, submit_quick, &a);
	on_worker(1, submit_quick, &b);
	wait_for(&a.done, 1);
	wait_for(&b.done, 1);
	ck_assert(a.ran && b.ran);
	ck_assert_int_eq(a.done_on, 0);
	ck_assert_int_eq(b.done_on, 1);
	ck_assert_uint_eq(atomic_load(&a.started), 1);
	ck_assert_ptr_null(
	    first.host->offload(first.self, 0, work_quick, on_done, &a)); /* not on a worker */
	stub_stop();
}
END_TEST

START_TEST(no_more_jobs_run_at_once_than_the_instance_may)
{
	struct job jobs[6];

	memset(jobs, 0, sizeof(jobs));
	begin("offload_threads = 2 offload_queue = 10", "");
	for (int i = 0; i < 6; i++) {
		jobs[i].p = &first;
		on_worker((unsigned)i % 2, submit_gated, &jobs[i]);
		ck_assert(!jobs[i].refused);
	}
	wait_for(&running_now, 2);
	pause_ms(30);
	ck_assert_uint_eq(atomic_load(&running_now), 2);
	atomic_store(&gate_open, 1);
	for (int i = 0; i < 6; i++) {
		wait_for(&jobs[i].done, 1);
		ck_assert(jobs[i].ran);
	}
	ck_assert_uint_eq(atomic_load(&running_most), 2);
	stub_stop();
}
END_TEST

START_TEST(a_full_queue_refuses_at_once)
{
	struct job jobs[5];

	memset(jobs, 0, sizeof(jobs));
	begin("offload_threads = 1 offload_queue = 2", "");
	for (int i = 0; i < 5; i++) {
		jobs[i].p = &first;
		on_worker(0, submit_gated, &jobs[i]);
		ck_assert_int_eq(jobs[i].refused, i >= 3); /* one runs, two wait */
	}
	atomic_store(&gate_open, 1);
	for (int i = 0; i < 3; i++)
		wait_for(&jobs[i].done, 1);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&jobs[3].done) + atomic_load(&jobs[4].done),
	    0); /* refused: done does not run */
}
END_TEST

START_TEST(one_hung_instance_does_not_starve_another)
{
	struct job hung[4], quick = { .p = &second };

	memset(hung, 0, sizeof(hung));
	begin("offload_threads = 4", "offload_threads = 1");
	for (int i = 0; i < 4; i++) {
		hung[i].p = &first;
		on_worker(0, submit_gated, &hung[i]);
	}
	wait_for(&running_now, 4);
	on_worker(0, submit_quick, &quick);
	wait_for(&quick.done, 1);
	ck_assert(quick.ran);
	ck_assert_uint_eq(atomic_load(&running_now), 4);
	atomic_store(&gate_open, 1);
	for (int i = 0; i < 4; i++)
		wait_for(&hung[i].done, 1);
	stub_stop();
}
END_TEST

START_TEST(a_cancelled_job_never_starts_and_is_done_all_the_same)
{
	struct job blocker = { .p = &first }, victim = { .p = &first };

	begin("offload_threads = 1", "");
	on_worker(0, submit_gated, &blocker);
	wait_for(&blocker.started, 1);
	on_worker(0, submit_quick, &victim);
	on_worker(0, cancel, &victim);
	wait_for(&victim.done, 1);
	ck_assert(!victim.ran);
	ck_assert_uint_eq(atomic_load(&victim.started), 0);
	on_worker(0, cancel, &blocker); /* runs already: goes on */
	ck_assert_uint_eq(atomic_load(&blocker.done), 0);
	atomic_store(&gate_open, 1);
	wait_for(&blocker.done, 1);
	ck_assert(blocker.ran);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&victim.done), 1);
	ck_assert_uint_eq(atomic_load(&victim.started), 0);
}
END_TEST

START_TEST(a_job_that_waits_past_its_deadline_is_not_started)
{
	struct job blocker = { .p = &first }, late = { .p = &first, .deadline_ms = 40 };

	begin("offload_threads = 1", "");
	on_worker(0, submit_gated, &blocker);
	wait_for(&blocker.started, 1);
	on_worker(0, submit_quick, &late);
	ck_assert(!late.refused);
	wait_for(&late.done, 1); /* while the only thread is still held */
	ck_assert(!late.ran);
	ck_assert_uint_eq(atomic_load(&blocker.done), 0);
	atomic_store(&gate_open, 1);
	wait_for(&blocker.done, 1);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&late.started), 0);
}
END_TEST

static void
work_slow(void *arg)
{
	struct job *j = arg;

	atomic_fetch_add(&j->started, 1);
	pause_ms(120);
}

static void
submit_slow(struct worker *w, void *arg)
{
	struct job *j = arg;

	(void)w;
	j->handle = j->p->host->offload(j->p->self, j->deadline_ms, work_slow, on_done, j);
	j->refused = j->handle == NULL;
}

START_TEST(a_job_that_cannot_meet_its_deadline_is_refused_at_once)
{
	struct job learn = { .p = &first }, busy = { .p = &first },
		   hopeless = { .p = &first, .deadline_ms = 20 };
	struct job patient = { .p = &first, .deadline_ms = 60000 };

	begin("offload_threads = 1", "");
	on_worker(0, submit_slow, &learn);
	wait_for(&learn.done, 1); /* now it is known what a job takes */
	on_worker(0, submit_slow, &busy);
	on_worker(0, submit_quick, &hopeless);
	ck_assert(hopeless.refused);
	on_worker(0, submit_quick, &patient);
	ck_assert(!patient.refused);
	wait_for(&patient.done, 1);
	wait_for(&busy.done, 1);
	stub_stop();
}
END_TEST

START_TEST(stopping_waits_for_what_runs_and_drops_what_waits)
{
	struct job runs = { .p = &first }, waits = { .p = &first };

	begin("offload_threads = 1", "");
	on_worker(0, submit_slow, &runs);
	wait_for(&runs.started, 1);
	on_worker(0, submit_quick, &waits);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&runs.done), 1);
	ck_assert_uint_eq(atomic_load(&waits.done), 1);
	ck_assert(runs.ran);
	ck_assert(!waits.ran);
}
END_TEST

#define CROWD 2000u
static struct job crowd[CROWD];

static void
submit_crowd(struct worker *w, void *arg)
{
	unsigned from = w->index * (CROWD / 2);

	(void)arg;
	for (unsigned i = from; i < from + CROWD / 2; i++) {
		crowd[i].p = i % 3 == 0 ? &second : &first;
		submit_quick(w, &crowd[i]);
		if (i % 5 == 0 && !crowd[i].refused)
			crowd[i].p->host->offload_cancel(crowd[i].handle);
	}
}

START_TEST(every_job_that_was_taken_is_done_exactly_once)
{
	memset(crowd, 0, sizeof(crowd));
	begin(
	    "offload_threads = 3 offload_queue = 5000", "offload_threads = 2 offload_queue = 5000");
	on_worker(0, submit_crowd, NULL);
	on_worker(1, submit_crowd, NULL);
	for (unsigned i = 0; i < CROWD; i++) {
		ck_assert(!crowd[i].refused);
		wait_for(&crowd[i].done, 1);
	}
	stub_stop();
	for (unsigned i = 0; i < CROWD; i++) {
		ck_assert_uint_eq(atomic_load(&crowd[i].done), 1);
		ck_assert_uint_eq(atomic_load(&crowd[i].started), crowd[i].ran ? 1 : 0);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("offload");
	TCase *tc = tcase_create("offload");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, work_runs_elsewhere_and_done_where_it_was_asked);
	tcase_add_test(tc, no_more_jobs_run_at_once_than_the_instance_may);
	tcase_add_test(tc, a_full_queue_refuses_at_once);
	tcase_add_test(tc, one_hung_instance_does_not_starve_another);
	tcase_add_test(tc, a_cancelled_job_never_starts_and_is_done_all_the_same);
	tcase_add_test(tc, a_job_that_waits_past_its_deadline_is_not_started);
	tcase_add_test(tc, a_job_that_cannot_meet_its_deadline_is_refused_at_once);
	tcase_add_test(tc, stopping_waits_for_what_runs_and_drops_what_waits);
	tcase_add_test(tc, every_job_that_was_taken_is_done_exactly_once);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
