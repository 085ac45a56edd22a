/* SPDX-License-Identifier: Apache-2.0 */
/* Chains and answers: what plugins can do to a decision. */
#include "asked.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum grapnel_verdict
acl_unavailable(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	note(p);
	return GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
acl_nonsense(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)req;
	(void)q;
	note(p);
	return (enum grapnel_verdict)77;
}

/* ---- chains ---------------------------------------------------------------------------------- */

START_TEST(the_order_option_decides_who_is_asked_first)
{
	struct asked a;

	first.acl = second.acl = acl_next;
	begin("order = 20", "order = 10");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_str_eq(order, "21");
	ck_assert_int_eq(a.verdict, GRAPNEL_NEXT); /* nobody decided */
	ck_assert_str_eq(a.plugin, "-");
	ck_assert_uint_eq(a.steps, 2);
	stub_stop();
}
END_TEST

START_TEST(equal_orders_are_asked_as_the_files_have_them)
{
	struct asked a;

	first.acl = second.acl = acl_next;
	begin("", "");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_str_eq(order, "12");
	stub_stop();
}
END_TEST

START_TEST(a_hooks_own_order_goes_before_the_general_one)
{
	struct asked a;

	first.acl = second.acl = acl_next;
	begin("order = 10 order_acl_check = 50", "order = 20");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_str_eq(order, "21");
	stub_stop();
}
END_TEST

START_TEST(the_first_allow_or_deny_ends_the_chain)
{
	struct asked a;

	first.acl = acl_allow;
	second.acl = acl_deny;
	begin("", "");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert(a.at_once);
	ck_assert_str_eq(a.plugin, "first");
	ck_assert_str_eq(order, "1");
	stub_stop();
	first.acl = acl_deny;
	begin("", "");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert_str_eq(order, "1");
	stub_stop();
}
END_TEST

START_TEST(on_error_decides_what_trouble_means)
{
	static const struct {
		const char *on_error, *order;
		enum grapnel_verdict verdict;
	} rows[] = {
		{ "", "1", GRAPNEL_UNAVAILABLE },
		{ "on_error = unavailable", "1", GRAPNEL_UNAVAILABLE },
		{ "on_error = deny", "1", GRAPNEL_DENY },
		{ "on_error = next", "12", GRAPNEL_ALLOW },
	};
	struct asked a;

	first.acl = acl_unavailable;
	second.acl = acl_allow;
	begin(rows[_i].on_error, "");
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, rows[_i].verdict);
	ck_assert_str_eq(order, rows[_i].order);
	stub_stop();
}
END_TEST

START_TEST(a_verdict_that_does_not_exist_is_trouble)
{
	struct asked a;

	first.acl = acl_nonsense;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_UNAVAILABLE);
	stub_stop();
}
END_TEST

START_TEST(only_one_instance_is_asked_when_it_is_named)
{
	struct asked a = { .hook = HOOK_ACL, .question = &stub_acl, .only = "second" };

	first.acl = acl_deny;
	second.acl = acl_allow;
	begin("", "");
	on_worker(0, ask_here, &a);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(order, "2");
	a.only = "gone";
	on_worker(0, ask_here, &a);
	ck_assert_int_eq(a.verdict, GRAPNEL_NEXT);
	ck_assert_str_eq(order, "2");
	stub_stop();
}
END_TEST

static int
disabling_create(struct probe *p)
{
	ck_assert_int_eq(p->host->hook_disable(p->self, "no_such_hook"), GRAPNEL_ENOENT);
	return p->host->hook_disable(p->self, "acl_check");
}

START_TEST(a_disabled_hook_leaves_the_chain)
{
	struct asked a;

	first.create = disabling_create;
	first.acl = acl_deny;
	begin("", NULL);
	ck_assert(!plugins_have(stub_broker.plugins, HOOK_ACL));
	ck_assert(plugins_have(stub_broker.plugins, HOOK_AUTHENTICATE));
	ck_assert(!hook_used(stub_broker.workers[0], HOOK_ACL));
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_NEXT);
	ck_assert_str_eq(order, "");
	ck_assert_int_eq(
	    first.host->hook_disable(first.self, "acl_check"), GRAPNEL_ESTATE); /* too late */
	stub_stop();
}
END_TEST

/* ---- answers: copied, checked, merged -------------------------------------------------------- */

static enum grapnel_verdict
acl_with_details(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	char reason[] = "because", rule[] = "acl:12";
	struct grapnel_acl_answer answer = { .size = sizeof(answer), .reason_code = 0x87 };

	(void)q;
	answer.reason_string = (struct grapnel_str){ reason, 7 };
	answer.rule = (struct grapnel_str){ rule, 6 };
	ck_assert_int_eq(p->host->acl_answer(req, &answer), GRAPNEL_OK);
	memset(reason, 'x', sizeof(reason)); /* it was copied */
	memset(rule, 'x', sizeof(rule));
	return GRAPNEL_DENY;
}

START_TEST(details_are_copied)
{
	struct asked a;

	first.acl = acl_with_details;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert_str_eq(a.reason, "because");
	ck_assert_str_eq(a.rule, "acl:12");
	ck_assert_uint_eq(a.reason_code, 0x87);
	stub_stop();
}
END_TEST

static enum grapnel_verdict
acl_bad_details(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_host *h = p->host;
	struct grapnel_acl_answer good = { .size = sizeof(good), .rule = GRAPNEL_STR("kept") },
				  bad = good;
	struct grapnel_auth_answer auth = { .size = sizeof(auth) };
	size_t tiny = sizeof(size_t); /* nothing behind it may be read: ASan would see */

	(void)q;
	bad.rule = GRAPNEL_STR("replaced");
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_OK);
	ck_assert_int_eq(
	    h->acl_answer(req, &good), GRAPNEL_OK); /* a second one replaces the first */
	ck_assert_int_eq(h->acl_answer(req, (const struct grapnel_acl_answer *)(const void *)&tiny),
	    GRAPNEL_EINVAL);
	bad.size = 0;
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_EINVAL);
	bad = good;
	bad.reason_code = 0x10; /* a success */
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_EINVAL);
	bad = good;
	bad.flags = 1u << 20;
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_EINVAL);
	bad = good;
	bad.reason_string = GRAPNEL_STR("\xff\xfe");
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_EINVAL);
	bad = good;
	bad.reason_string = (struct grapnel_str){ NULL, 5 };
	ck_assert_int_eq(h->acl_answer(req, &bad), GRAPNEL_EINVAL);
	ck_assert_int_eq(h->auth_answer(req, &auth), GRAPNEL_EINVAL); /* the wrong kind */
	ck_assert_int_eq(h->acl_answer(req, NULL), GRAPNEL_EINVAL);
	return GRAPNEL_ALLOW;
}

START_TEST(answers_out_of_range_are_refused_and_change_nothing)
{
	struct asked a;

	first.acl = acl_bad_details;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.rule, "kept");
	stub_stop();
}
END_TEST

/* A newer plugin's larger struct: what the host does not know is not looked at. */
static enum grapnel_verdict
acl_larger(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct {
		struct grapnel_acl_answer answer;
		char more[64];
	} larger = { .answer = { .size = sizeof(larger), .rule = GRAPNEL_STR("new") } };

	(void)q;
	memset(larger.more, 0xaa, sizeof(larger.more));
	ck_assert_int_eq(p->host->acl_answer(req, &larger.answer), GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

START_TEST(an_answer_of_a_newer_abi_is_understood)
{
	struct asked a;

	first.acl = acl_larger;
	begin("", NULL);
	ask(&a, HOOK_ACL, &stub_acl);
	ck_assert_str_eq(a.rule, "new");
	stub_stop();
}
END_TEST

static enum grapnel_verdict
publish_change(
    struct probe *p, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct grapnel_property property = { .id = 0x03, .u.str = GRAPNEL_STR("text/plain") };
	struct grapnel_publish_answer answer = {
		.size = sizeof(answer), .has_retain = true, .retain = false
	};

	if (p == &first) {
		ck_assert(str_is(q->message->topic_name, "a/b"));
		answer.topic_name = GRAPNEL_STR("changed/topic");
		answer.has_properties = true;
		answer.properties = &property;
		answer.property_count = 1;
	} else {
		struct grapnel_property seen;
		size_t pos = 0;

		ck_assert(str_is(
		    q->message->topic_name, "changed/topic")); /* what the one before it changed */
		ck_assert(str_is(q->message->payload, "hello"));
		ck_assert(!q->message->retain);
		ck_assert_int_eq(p->host->property_next(q->message->properties, &pos, &seen), 1);
		ck_assert_uint_eq(seen.id, 0x03);
		ck_assert(str_is(seen.u.str, "text/plain"));
		ck_assert_int_eq(p->host->property_next(q->message->properties, &pos, &seen), 0);
		answer.has_retain = false;
		answer.payload = GRAPNEL_STR("changed payload");
	}
	note(p);
	ck_assert_int_eq(p->host->publish_answer(req, &answer), GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

START_TEST(changes_of_all_plugins_are_merged)
{
	struct asked a;

	first.publish = second.publish = publish_change;
	begin("", "");
	ask(&a, HOOK_PUBLISH, &stub_publish);
	ck_assert_str_eq(order, "12");
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.topic, "changed/topic");
	ck_assert_str_eq(a.payload, "changed payload");
	ck_assert(a.has_retain && !a.retain);
	ck_assert_uint_eq(a.property_count, 1);
	stub_stop();
}
END_TEST

static enum grapnel_verdict
publish_drop(struct probe *p, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer), .drop = true };

	(void)q;
	note(p);
	p->host->publish_answer(req, &answer);
	return GRAPNEL_ALLOW;
}

static enum grapnel_verdict
publish_deny(struct probe *p, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.reason_code = 0x99,
		.reason_string = GRAPNEL_STR("no"),
		.topic_name = GRAPNEL_STR("ignored") };

	(void)q;
	note(p);
	p->host->publish_answer(req, &answer);
	return GRAPNEL_DENY;
}

static enum grapnel_verdict
publish_next_with_changes(
    struct probe *p, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.payload = GRAPNEL_STR("not mine") };

	(void)q;
	note(p);
	p->host->publish_answer(req, &answer);
	return GRAPNEL_NEXT;
}

START_TEST(a_dropped_message_is_shown_to_nobody_else)
{
	struct asked a;

	first.publish = publish_drop;
	second.publish = publish_deny;
	begin("", "");
	ask(&a, HOOK_PUBLISH, &stub_publish);
	ck_assert_str_eq(order, "1");
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert(a.drop);
	stub_stop();
}
END_TEST

START_TEST(a_denied_message_carries_the_reason_of_who_denied_it)
{
	struct asked a;

	first.publish = publish_change;
	second.publish = publish_deny;
	begin("", "");
	ask(&a, HOOK_PUBLISH, &stub_publish);
	ck_assert_str_eq(order, "12");
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert_uint_eq(a.reason_code, 0x99);
	ck_assert_str_eq(a.reason, "no");
	ck_assert_str_eq(a.plugin, "second");
	stub_stop();
}
END_TEST

START_TEST(next_changes_nothing_and_the_end_of_a_passing_chain_is_allow)
{
	struct asked a;

	first.publish = publish_next_with_changes;
	begin("", "");
	ask(&a, HOOK_PUBLISH, &stub_publish);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.payload, "");
	stub_stop();
}
END_TEST

static enum grapnel_verdict
subscribe_change(
    struct probe *p, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	struct grapnel_subscribe_answer answer = { .size = sizeof(answer) }, bad = answer;

	note(p);
	bad.filter = GRAPNEL_STR("a/#/b");
	ck_assert_int_eq(p->host->subscribe_answer(req, &bad), GRAPNEL_EINVAL);
	bad.filter = GRAPNEL_STR("$share/x");
	ck_assert_int_eq(p->host->subscribe_answer(req, &bad), GRAPNEL_EINVAL);
	if (p == &first) {
		answer.filter = GRAPNEL_STR("b/#");
	} else {
		ck_assert(str_is(q->filter, "b/#"));
		answer.has_qos = true;
		answer.qos = 1;
	}
	ck_assert_int_eq(p->host->subscribe_answer(req, &answer), GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

START_TEST(a_rewritten_filter_is_what_the_next_plugin_sees)
{
	struct asked a;

	first.subscribe = second.subscribe = subscribe_change;
	begin("", "");
	ask(&a, HOOK_SUBSCRIBE, &stub_subscribe);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.filter, "b/#");
	ck_assert(a.has_qos);
	ck_assert_uint_eq(a.qos, 1);
	stub_stop();
}
END_TEST

static unsigned char *seen_password;

static enum grapnel_verdict
authenticate_look(
    struct probe *p, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct grapnel_auth_answer answer = { .size = sizeof(answer),
		.username = GRAPNEL_STR("mapped") };

	ck_assert(str_is(q->password, "secret"));
	seen_password = (unsigned char *)(uintptr_t)q->password.data;
	ck_assert_int_eq(p->host->auth_answer(req, &answer), GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

static void
look_at_password(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	/*
	 * The block is back in the worker's pool: its memory may be looked at, what was in it is
	 * gone.
	 */
	for (int i = 0; i < 6; i++)
		ck_assert_uint_eq(seen_password[i], 0);
}

START_TEST(the_copy_of_a_password_is_wiped)
{
	struct asked a;

	first.authenticate = authenticate_look;
	begin("", NULL);
	ask(&a, HOOK_AUTHENTICATE, &stub_authenticate);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(a.username, "mapped");
	on_worker(0, look_at_password, NULL);
	stub_stop();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hooks");
	TCase *tc = tcase_create("hooks");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, reset_probes, NULL);
	tcase_add_test(tc, the_order_option_decides_who_is_asked_first);
	tcase_add_test(tc, equal_orders_are_asked_as_the_files_have_them);
	tcase_add_test(tc, a_hooks_own_order_goes_before_the_general_one);
	tcase_add_test(tc, the_first_allow_or_deny_ends_the_chain);
	tcase_add_loop_test(tc, on_error_decides_what_trouble_means, 0, 4);
	tcase_add_test(tc, a_verdict_that_does_not_exist_is_trouble);
	tcase_add_test(tc, only_one_instance_is_asked_when_it_is_named);
	tcase_add_test(tc, a_disabled_hook_leaves_the_chain);
	tcase_add_test(tc, details_are_copied);
	tcase_add_test(tc, answers_out_of_range_are_refused_and_change_nothing);
	tcase_add_test(tc, an_answer_of_a_newer_abi_is_understood);
	tcase_add_test(tc, changes_of_all_plugins_are_merged);
	tcase_add_test(tc, a_dropped_message_is_shown_to_nobody_else);
	tcase_add_test(tc, a_denied_message_carries_the_reason_of_who_denied_it);
	tcase_add_test(tc, next_changes_nothing_and_the_end_of_a_passing_chain_is_allow);
	tcase_add_test(tc, a_rewritten_filter_is_what_the_next_plugin_sees);
	tcase_add_test(tc, the_copy_of_a_password_is_wiped);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
