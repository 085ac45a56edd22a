/* SPDX-License-Identifier: Apache-2.0 */
/* The life of instances: start, reload, stop. Run it under ThreadSanitizer too. */
#include "asked.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- life and reload ------------------------------------------------------------------------- */

static _Atomic unsigned starts, stops, destroys;

static int
count_start(struct probe *p, unsigned worker)
{
	ck_assert_int_eq(p->host->this_worker(), (int)worker);
	atomic_fetch_add(&starts, 1);
	return p->ctx != NULL && worker == 1 ? GRAPNEL_ESYS : GRAPNEL_OK;
}

static void
count_stop(struct probe *p, unsigned worker)
{
	ck_assert_int_eq(p->host->this_worker(), (int)worker);
	atomic_fetch_add(&stops, 1);
}

static void
count_destroy(struct probe *p)
{
	ck_assert_int_eq(p->host->this_worker(), -1);
	atomic_fetch_add(&destroys, 1);
}

static void
lively(struct probe *p)
{
	p->worker_start = count_start;
	p->worker_stop = count_stop;
	p->destroy = count_destroy;
	atomic_store(&starts, 0);
	atomic_store(&stops, 0);
	atomic_store(&destroys, 0);
}

START_TEST(an_instance_starts_and_stops_on_every_worker)
{
	lively(&first);
	begin("", NULL);
	ck_assert_uint_eq(atomic_load(&starts), STUB_WORKERS);
	ck_assert_uint_eq(atomic_load(&stops), 0);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&stops), STUB_WORKERS);
	ck_assert_uint_eq(atomic_load(&destroys), 1);
}
END_TEST

START_TEST(a_worker_start_that_fails_keeps_the_broker_from_starting)
{
	lively(&first);
	first.ctx = &first;
	stub_settings(stub_probe("first", &first, NULL));
	ck_assert_int_eq(stub_start(), GRAPNEL_ESYS);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&stops), 1); /* where it had started */
	ck_assert_uint_eq(atomic_load(&destroys), 1);
}
END_TEST

START_TEST(a_reload_keeps_what_has_not_changed)
{
	char sections[2048];
	struct asked a;

	lively(&first);
	first.acl = second.acl = acl_next;
	second.worker_start = count_start;
	begin("note = same", NULL);
	snprintf(sections, sizeof(sections), "%s%s",
	    stub_probe("first", &first, "note = same order = 50"),
	    stub_probe("second", &second, "order = 10"));
	ck_assert_int_eq(stub_reload(sections), GRAPNEL_OK);
	ck_assert_uint_eq(atomic_load(&starts), 2 * STUB_WORKERS); /* first once, second once */
	ck_assert_uint_eq(atomic_load(&destroys), 0);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_str_eq(order, "21"); /* the order is the new one */
	stub_stop();
	ck_assert_uint_eq(atomic_load(&destroys), 1);
}
END_TEST

START_TEST(changed_options_make_a_new_instance_and_the_old_one_drains)
{
	struct asked a, b;

	lively(&first);
	lively(&second);
	second.acl = acl_allow;
	begin_hold("note = one", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(stub_reload(stub_probe("first", &second, "note = two")), GRAPNEL_OK);
	/* New questions go to the new one, the old one still has a request. */
	ask(&b, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(b.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(order, "12");
	pause_ms(50);
	ck_assert_uint_eq(atomic_load(&destroys), 0);
	ck_assert_uint_eq(atomic_load(&stops), 1); /* worker 1, where it has nothing */
	ck_assert_int_eq(first.host->acl_resolve(held_requests[0], GRAPNEL_DENY, NULL), GRAPNEL_OK);
	wait_for(&a.decided, 1);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	wait_for(&destroys, 1);
	ck_assert_uint_eq(atomic_load(&stops), 2);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&destroys), 2);
}
END_TEST

START_TEST(a_bad_reload_changes_nothing)
{
	struct asked a;
	char sections[1024];

	lively(&first);
	first.acl = acl_allow;
	begin("note = one", NULL);
	snprintf(sections, sizeof(sections),
	    "%splugin \"bad\" { enabled = yes module = refuse-magic }\n",
	    stub_probe("first", &first, "note = two"));
	ck_assert_int_eq(stub_reload(sections), GRAPNEL_EINVAL);
	ck_assert_ptr_nonnull(strstr(stub_messages(), "wrong magic"));
	ck_assert_uint_eq(atomic_load(&destroys), 1); /* the new one, never started */
	ck_assert_uint_eq(atomic_load(&starts), STUB_WORKERS);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&destroys), 2);
}
END_TEST

START_TEST(a_worker_start_that_fails_at_a_reload_leaves_the_old_set)
{
	struct asked a;
	char sections[2048];

	lively(&first);
	lively(&second);
	first.acl = acl_allow;
	second.acl = acl_deny;
	second.ctx = &second; /* fails on worker 1 */
	begin("order = 20", NULL);
	snprintf(sections, sizeof(sections), "%s%s", stub_probe("first", &first, "order = 20"),
	    stub_probe("second", &second, "order = 10"));
	ck_assert_int_eq(stub_reload(sections), GRAPNEL_ESYS);
	wait_for(&destroys, 1); /* the new one */
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(order, "1");
	stub_stop();
	ck_assert_uint_eq(atomic_load(&destroys), 2);
}
END_TEST

START_TEST(a_reload_can_take_all_plugins_away)
{
	struct asked a;

	lively(&first);
	first.acl = acl_deny;
	begin("", NULL);
	ck_assert_int_eq(stub_reload(""), GRAPNEL_OK);
	wait_for(&destroys, 1);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_NEXT);
	stub_stop();
}
END_TEST

START_TEST(a_plugin_that_never_resolves_does_not_keep_the_broker_from_stopping)
{
	struct asked a;

	lively(&first);
	begin_hold("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	on_worker(0, cancel_here, &a);
	stub_stop(); /* after the grace period */
	ck_assert_uint_eq(atomic_load(&destroys), 0);
	ck_assert_int_eq(first.host->acl_resolve(held_requests[0], GRAPNEL_ALLOW, NULL),
	    GRAPNEL_ECANCELED); /* the world is gone: still no harm */
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("switch");
	TCase *tc = tcase_create("switch");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, reset_probes, NULL);
	tcase_add_test(tc, an_instance_starts_and_stops_on_every_worker);
	tcase_add_test(tc, a_worker_start_that_fails_keeps_the_broker_from_starting);
	tcase_add_test(tc, a_reload_keeps_what_has_not_changed);
	tcase_add_test(tc, changed_options_make_a_new_instance_and_the_old_one_drains);
	tcase_add_test(tc, a_bad_reload_changes_nothing);
	tcase_add_test(tc, a_worker_start_that_fails_at_a_reload_leaves_the_old_set);
	tcase_add_test(tc, a_reload_can_take_all_plugins_away);
	tcase_add_test(tc, a_plugin_that_never_resolves_does_not_keep_the_broker_from_stopping);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
