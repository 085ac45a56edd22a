/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that wait: any thread, any order, exactly once. Run it under ThreadSanitizer too. */
#include "asked.h"
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(a_pending_request_is_resolved_from_any_thread)
{
	struct asked a;
	struct grapnel_acl_answer answer = { .size = sizeof(answer),
		.rule = GRAPNEL_STR("late:1") };

	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert(!a.at_once);
	ck_assert_uint_eq(atomic_load(&a.decided), 0);
	ck_assert_uint_gt(first.host->request_time_left(held_requests[0]), 5000);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, &answer), GRAPNEL_OK);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.rule, "late:1");
	ck_assert_str_eq(a.plugin, "first");
	stub_stop();
	ck_assert_uint_eq(atomic_load(&a.decided), 1);
	ck_assert_uint_eq(atomic_load(&cancelled), 0);
}
END_TEST

START_TEST(next_from_a_pending_request_goes_on_with_the_chain)
{
	struct asked a;

	second.acl = acl_deny;
	begin_hold("", "");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(first.host->acl_resolve(held_requests[0], GRAPNEL_NEXT, NULL), GRAPNEL_OK);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert_str_eq(order, "12");
	stub_stop();
}
END_TEST

struct volatile_question {
	struct asked a;
	char topic[8], id[8];
	struct grapnel_client_info client;
	struct grapnel_acl_check q;
};

static void
ask_volatile(struct worker *w, void *arg)
{
	struct volatile_question *v = arg;

	memcpy(v->topic, "a/b", 3);
	memcpy(v->id, "c1", 2);
	v->client = stub_client;
	v->client.client_id = (struct grapnel_str){ v->id, 2 };
	v->q = stub_acl;
	v->q.client = &v->client;
	v->q.topic = (struct grapnel_str){ v->topic, 3 };
	v->a.hook = HOOK_ACL;
	v->a.question = &v->q;
	ask_here(w, &v->a);
	memset(v->topic, 'x', sizeof(v->topic));
	memset(v->id, 'x', sizeof(v->id));
	memset(&v->client, 0xee, sizeof(v->client));
	memset(&v->q, 0xee, sizeof(v->q));
}

START_TEST(a_question_stays_valid_until_it_is_resolved)
{
	struct volatile_question v = { 0 };

	begin_hold("", NULL);
	on_worker(0, ask_volatile, &v);
	ck_assert(str_is(held_question->topic, "a/b"));
	ck_assert(str_is(held_question->client->client_id, "c1"));
	ck_assert(str_is(held_question->client->attributes[0].value, "blue"));
	ck_assert(str_is(held_question->message->payload, "hello"));
	/* After the asker is gone too. */
	on_worker(0, cancel_here, &v.a);
	ck_assert_uint_eq(atomic_load(&cancelled), 1);
	ck_assert(str_is(held_question->topic, "a/b"));
	ck_assert(str_is(held_question->client->client_id, "c1"));
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, NULL), GRAPNEL_ECANCELED);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&v.a.decided), 0);
}
END_TEST

START_TEST(a_cancelled_request_never_decides_anything)
{
	struct asked a;

	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	on_worker(0, cancel_here, &a);
	ck_assert_uint_eq(atomic_load(&cancelled), 1);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_DENY, NULL), GRAPNEL_ECANCELED);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_DENY, NULL), GRAPNEL_EINVAL);
	pause_ms(20);
	ck_assert_uint_eq(atomic_load(&a.decided), 0);
	stub_stop();
}
END_TEST

static void
resolve_then_cancel(struct worker *w, void *arg)
{
	/*
	 * Resolved, its mail not yet there: the plugin was told GRAPNEL_OK and is not told
	 * anything else.
	 */
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, NULL), GRAPNEL_OK);
	cancel_here(w, arg);
}

START_TEST(a_client_that_leaves_while_the_answer_is_on_its_way_is_no_trouble)
{
	struct asked a;

	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	on_worker(0, resolve_then_cancel, &a);
	pause_ms(20);
	ck_assert_uint_eq(atomic_load(&cancelled), 0);
	ck_assert_uint_eq(atomic_load(&a.decided), 0);
	stub_stop();
}
END_TEST

START_TEST(the_deadline_is_trouble_for_that_instance_only)
{
	struct asked a;

	second.acl = acl_allow;
	begin_hold("timeout = 50ms on_error = next", "");
	ask(&a, HOOK_ACL, &stub_acl);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.plugin, "second");
	ck_assert_str_eq(order, "12");
	ck_assert_uint_eq(atomic_load(&cancelled), 1);
	ck_assert_uint_eq(first.host->request_time_left(held_requests[0]), 0);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_DENY, NULL), GRAPNEL_ECANCELED);
	pause_ms(20);
	ck_assert_uint_eq(atomic_load(&a.decided), 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	stub_stop();
}
END_TEST

START_TEST(the_deadline_of_the_last_one_makes_it_unavailable)
{
	struct asked a;

	begin_hold("timeout = 30ms", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_UNAVAILABLE);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, NULL), GRAPNEL_ECANCELED);
	stub_stop();
}
END_TEST

START_TEST(resolving_twice_is_found_out_also_after_the_slot_was_used_again)
{
	struct asked a, b;
	struct grapnel_request *old;

	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	old = held_requests[0];
	ck_assert_int_eq(first.host->acl_resolve(old, GRAPNEL_ALLOW, NULL), GRAPNEL_OK);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(first.host->acl_resolve(old, GRAPNEL_DENY, NULL), GRAPNEL_EINVAL);
	ask(&b, HOOK_ACL, &stub_acl); /* takes the same slot */
	ck_assert_int_eq(first.host->acl_resolve(old, GRAPNEL_DENY, NULL), GRAPNEL_EINVAL);
	ck_assert_uint_eq(first.host->request_time_left(old), 0);
	ck_assert_ptr_null(first.host->request_data(old));
	ck_assert_uint_eq(atomic_load(&b.decided), 0);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[1], GRAPNEL_ALLOW, NULL), GRAPNEL_OK);
	wait_for(&b.decided, 1);
	ck_assert_int_eq(b.verdict, GRAPNEL_ALLOW);
	stub_stop();
}
END_TEST

START_TEST(a_wrong_way_to_resolve_leaves_the_request_as_it_was)
{
	struct asked a;
	struct grapnel_acl_answer bad = { .size = 3 };

	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(
	    first.host->auth_resolve(held_requests[0], GRAPNEL_ALLOW, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_PENDING, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(first.host->acl_resolve(held_requests[0], (enum grapnel_verdict)0, NULL),
	    GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, &bad), GRAPNEL_EINVAL);
	ck_assert_int_eq(first.host->acl_resolve(NULL, GRAPNEL_ALLOW, NULL), GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    first.host->acl_resolve((struct grapnel_request *)&bad, GRAPNEL_ALLOW, NULL),
	    GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    first.host->acl_answer(held_requests[0], &bad), GRAPNEL_ESTATE); /* outside its hook */
	ck_assert_uint_eq(atomic_load(&a.decided), 0);
	ck_assert_int_eq(first.host->acl_resolve(held_requests[0], GRAPNEL_DENY, NULL), GRAPNEL_OK);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	stub_stop();
}
END_TEST

static enum grapnel_verdict
acl_resolve_inside(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct grapnel_acl_answer answer = { .size = sizeof(answer),
		.rule = GRAPNEL_STR("inside") };

	(void)q;
	ck_assert_int_eq(p->host->acl_resolve(req, GRAPNEL_DENY, &answer), GRAPNEL_OK);
	ck_assert_int_eq(p->host->acl_resolve(req, GRAPNEL_ALLOW, NULL), GRAPNEL_EINVAL);
	return p->ctx != NULL ? GRAPNEL_ALLOW
			      : GRAPNEL_PENDING; /* ALLOW: a fault, what was resolved counts */
}

START_TEST(a_request_resolved_inside_its_hook_is_decided_at_once)
{
	struct asked a;

	first.acl = acl_resolve_inside;
	first.ctx = _i == 0 ? NULL : &first;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert(a.at_once);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert_str_eq(a.rule, "inside");
	stub_stop();
}
END_TEST

static void *
resolve_on_thread(void *arg)
{
	struct grapnel_request *req = arg;

	ck_assert_int_eq(first.host->acl_resolve(req, GRAPNEL_DENY, NULL), GRAPNEL_OK);
	return NULL;
}

static enum grapnel_verdict
acl_resolve_by_other_thread_inside(
    struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	pthread_t thread;

	(void)q;
	ck_assert_int_eq(pthread_create(&thread, NULL, resolve_on_thread, req), 0);
	pthread_join(thread, NULL); /* never do this in a hook; here it makes the order certain */
	return p->ctx != NULL ? GRAPNEL_ALLOW : GRAPNEL_PENDING;
}

START_TEST(another_thread_may_be_faster_than_the_hook)
{
	struct asked a;

	first.acl = acl_resolve_by_other_thread_inside;
	first.ctx = _i == 0 ? NULL : &first;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&a.decided), 1);
}
END_TEST

START_TEST(more_than_max_pending_is_trouble_without_a_call)
{
	struct asked a, b, c;

	begin_hold("max_pending = 2 timeout = 10s", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ask(&b, HOOK_ACL, &stub_acl);
	ask(&c, HOOK_ACL, &stub_acl);
	ck_assert(c.at_once);
	ck_assert_int_eq(c.verdict, GRAPNEL_UNAVAILABLE);
	ck_assert_uint_eq(atomic_load(&held), 2);
	/* One that the asker gave up counts until the plugin gives it back. */
	on_worker(0, cancel_here, &a);
	ask(&c, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(c.verdict, GRAPNEL_UNAVAILABLE);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, NULL), GRAPNEL_ECANCELED);
	ask(&c, HOOK_ACL, &stub_acl);
	ck_assert(!c.at_once);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[1], GRAPNEL_ALLOW, NULL), GRAPNEL_OK);
	ck_assert_int_eq(
	    first.host->acl_resolve(held_requests[2], GRAPNEL_ALLOW, NULL), GRAPNEL_OK);
	wait_for(&b.decided, 1);
	wait_for(&c.decided, 1);
	stub_stop();
}
END_TEST

/*
 * Many at once, from a thread of the plugin's own, some resolved before their hook returns, some
 * cancelled.
 */
#define MANY 4000u
static struct asked many[MANY];

static void
ask_many(struct worker *w, void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < MANY; i++) {
		many[i].hook = i % 2 == 0 ? HOOK_ACL : HOOK_PUBLISH;
		many[i].question = i % 2 == 0 ? (const void *)&stub_acl : &stub_publish;
		ask_here(w, &many[i]);
		if (i % 7 == 0)
			cancel_here(w, &many[i]);
	}
}

START_TEST(a_plugin_with_its_own_thread_decides_each_exactly_once)
{
	unsigned cancelled_ones = 0;

	memset(many, 0, sizeof(many));
	stub_settings("plugin \"threads\" { enabled = yes }\n");
	ck_assert_int_eq(stub_start(), GRAPNEL_OK);
	on_worker(1, ask_many, NULL);
	for (unsigned i = 0; i < MANY; i++) {
		if (i % 7 == 0) {
			ck_assert_uint_le(atomic_load(&many[i].decided), 1);
			cancelled_ones++;
			continue;
		}
		wait_for(&many[i].decided, 1);
		ck_assert_int_eq(many[i].verdict, GRAPNEL_ALLOW);
	}
	ck_assert_uint_gt(cancelled_ones, 0);
	stub_stop();
	for (unsigned i = 0; i < MANY; i++)
		ck_assert_uint_le(atomic_load(&many[i].decided), 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("request");
	TCase *tc = tcase_create("request");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, reset_probes, NULL);
	tcase_add_test(tc, a_pending_request_is_resolved_from_any_thread);
	tcase_add_test(tc, next_from_a_pending_request_goes_on_with_the_chain);
	tcase_add_test(tc, a_question_stays_valid_until_it_is_resolved);
	tcase_add_test(tc, a_cancelled_request_never_decides_anything);
	tcase_add_test(tc, a_client_that_leaves_while_the_answer_is_on_its_way_is_no_trouble);
	tcase_add_test(tc, the_deadline_is_trouble_for_that_instance_only);
	tcase_add_test(tc, the_deadline_of_the_last_one_makes_it_unavailable);
	tcase_add_test(tc, resolving_twice_is_found_out_also_after_the_slot_was_used_again);
	tcase_add_test(tc, a_wrong_way_to_resolve_leaves_the_request_as_it_was);
	tcase_add_loop_test(tc, a_request_resolved_inside_its_hook_is_decided_at_once, 0, 2);
	tcase_add_loop_test(tc, another_thread_may_be_faster_than_the_hook, 0, 2);
	tcase_add_test(tc, more_than_max_pending_is_trouble_without_a_call);
	tcase_add_test(tc, a_plugin_with_its_own_thread_decides_each_exactly_once);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
