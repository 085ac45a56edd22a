/* SPDX-License-Identifier: Apache-2.0 */
/* The harness from C: a plugin that is part of this program, questions made by hand, the table of the host. */
#include <check.h>
#include <grapnel/harness.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct grapnel_request *held;
static const struct grapnel_host *table;
static unsigned failures, findings;
static char last[512];

static int
unit_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	table = host;
	*instance = self;
	return host->option_bool(self, NULL, "refuse") ? GRAPNEL_EINVAL : GRAPNEL_OK;
}

static enum grapnel_verdict
unit_acl(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	const struct grapnel_acl_answer answer = { .size = sizeof(answer),
		.rule = GRAPNEL_STR("unit:1") };

	(void)instance;
	if (q->topic.len == 1) {
		held = req;
		return GRAPNEL_PENDING;
	}
	(void)table->acl_answer(req, &answer);
	return GRAPNEL_ALLOW;
}

/* The host has taken the Message Expiry Interval out of the block. */
static enum grapnel_verdict
unit_deliver(void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	struct grapnel_property p;
	size_t pos = 0;

	(void)instance;
	(void)req;
	while (table->property_next(q->message->properties, &pos, &p) == 1) {
		if (p.id == 2)
			return GRAPNEL_DENY;
	}
	return q->message->has_message_expiry && q->message->message_expiry == 60 ? GRAPNEL_ALLOW
										  : GRAPNEL_NEXT;
}

static const struct grapnel_option unit_options[] = {
	{ .name = "refuse",
	    .type = GRAPNEL_OPTION_BOOL,
	    .default_value = "no",
	    .help = "Do not start." },
	{ .name = NULL },
};
static const struct grapnel_plugin unit = {
	.magic = GRAPNEL_PLUGIN_MAGIC,
	.abi_major = GRAPNEL_ABI_MAJOR,
	.abi_minor = GRAPNEL_ABI_MINOR,
	.size = sizeof(unit),
	.name = "unit",
	.options = unit_options,
	.create = unit_create,
	.acl_check = unit_acl,
	.message_deliver = unit_deliver,
};

static void
on_report(void *arg, enum grapnel_harness_report kind, const char *where, const char *text)
{
	(void)arg;
	(void)where;
	failures += kind == GRAPNEL_HARNESS_FAILURE;
	findings += kind == GRAPNEL_HARNESS_FINDING;
	if (kind == GRAPNEL_HARNESS_FAILURE || kind == GRAPNEL_HARNESS_FINDING)
		snprintf(last, sizeof(last), "%s", text);
}

static struct grapnel_harness *
harness_new(void)
{
	const struct grapnel_harness_config config = {
		.size = sizeof(config), .plugin = &unit, .report = on_report
	};
	struct grapnel_harness *h = NULL;

	failures = findings = 0;
	last[0] = '\0';
	ck_assert_int_eq(grapnel_harness_new(&config, &h), GRAPNEL_OK);
	return h;
}

START_TEST(a_configuration_is_one_plugin)
{
	struct grapnel_harness_config config = { .size = sizeof(config) };
	struct grapnel_harness *h, *second;

	ck_assert_int_eq(grapnel_harness_new(NULL, &h), GRAPNEL_EINVAL);
	ck_assert_int_eq(grapnel_harness_new(&config, &h), GRAPNEL_EINVAL);
	config.plugin = &unit;
	config.path = "x.so";
	ck_assert_int_eq(grapnel_harness_new(&config, &h), GRAPNEL_EINVAL);
	config.path = NULL;
	ck_assert_int_eq(grapnel_harness_new(&config, &h), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_new(&config, &second), GRAPNEL_ESTATE);
	ck_assert_uint_eq(grapnel_harness_free(h), 0);
	ck_assert_uint_eq(grapnel_harness_free(NULL), 0);
}
END_TEST

START_TEST(what_the_broker_would_refuse_does_not_start)
{
	struct grapnel_plugin nobody = unit;
	const struct grapnel_harness_config config = {
		.size = sizeof(config), .plugin = &nobody, .report = on_report
	};
	struct grapnel_harness *h = NULL;

	nobody.name = NULL;
	nobody.create = NULL;
	failures = 0;
	ck_assert_int_eq(grapnel_harness_new(&config, &h), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_step(h, "start"), GRAPNEL_EFAULT);
	ck_assert_ptr_nonnull(strstr(last, "no create"));
	ck_assert_uint_eq(grapnel_harness_free(h), 1);
}
END_TEST

START_TEST(steps_are_run_as_by_printf)
{
	struct grapnel_harness *h = harness_new();

	ck_assert_int_eq(grapnel_harness_step(h, "section refuse = %s", "yes"), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_step(h, "start"), GRAPNEL_EFAULT);
	ck_assert_uint_eq(failures, 1);
	ck_assert_ptr_null(grapnel_harness_plugin(h));
	ck_assert_int_eq(grapnel_harness_step(h, "section <<END\nrefuse = no\nEND"), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_step(h, "start"), GRAPNEL_OK);
	ck_assert_str_eq(grapnel_harness_plugin(h)->name, "unit");
	ck_assert_ptr_eq(grapnel_harness_state(h), grapnel_harness_instance(h));
	ck_assert_int_eq(grapnel_harness_step(h, "client c%d", 1), GRAPNEL_OK);
	ck_assert_int_eq(
	    grapnel_harness_step(h, "acl publish c1 a/b -> allow rule=unit:1"), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_step(h, "acl publish c1 a/b -> deny"), GRAPNEL_EFAULT);
	ck_assert_str_eq(last, "acl: allow rule=unit:1");
	ck_assert_int_eq(grapnel_harness_step(
			     h, "deliver c1 a/b property.x=y property.message-expiry=60 -> allow"),
	    GRAPNEL_OK);
	ck_assert_uint_eq(grapnel_harness_failures(h), 2);
	ck_assert_uint_eq(grapnel_harness_findings(h), 0);
	ck_assert_uint_eq(grapnel_harness_free(h), 2);
}
END_TEST

START_TEST(questions_can_be_made_by_hand)
{
	struct grapnel_harness *h = harness_new();
	const struct grapnel_client_info client = { .size = sizeof(client),
		.client_id = GRAPNEL_STR("c") };
	struct grapnel_acl_check q = { .size = sizeof(q),
		.client = &client,
		.action = GRAPNEL_PUBLISH,
		.topic = GRAPNEL_STR("a/b") };
	struct grapnel_harness_answer a;
	unsigned n;

	ck_assert_int_eq(grapnel_harness_ask(h, "acl_check", 0, &q, &n), GRAPNEL_ESTATE);
	ck_assert_int_eq(grapnel_harness_step(h, "start"), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_ask(h, "message_publish", 0, &q, &n), GRAPNEL_ENOENT);
	ck_assert_int_eq(grapnel_harness_ask(h, "acl_check", 1, &q, &n), GRAPNEL_EINVAL);
	ck_assert_int_eq(grapnel_harness_ask(h, "acl_check", 0, &q, &n), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_answer(h, n, 0, &a), GRAPNEL_OK);
	ck_assert_int_eq(a.verdict, GRAPNEL_ALLOW);
	ck_assert(a.at_once && !a.cancelled);
	ck_assert_ptr_null(a.auth);
	ck_assert_uint_eq(a.acl->rule.len, strlen("unit:1"));

	q.topic = GRAPNEL_STR("x");
	ck_assert_int_eq(grapnel_harness_ask(h, "acl_check", 0, &q, &n), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_answer(h, n, 0, &a), GRAPNEL_ETIMEOUT);
	ck_assert_int_eq(a.verdict, GRAPNEL_PENDING);
	ck_assert_int_eq(
	    grapnel_harness_host(h)->acl_resolve(held, GRAPNEL_DENY, NULL), GRAPNEL_OK);
	ck_assert_int_eq(grapnel_harness_answer(h, n, 1000, &a), GRAPNEL_OK);
	ck_assert_int_eq(a.verdict, GRAPNEL_DENY);
	ck_assert(!a.at_once);
	ck_assert_int_eq(grapnel_harness_answer(h, n + 1, 0, &a), GRAPNEL_ENOENT);
	ck_assert_uint_eq(grapnel_harness_free(h), 0);
}
END_TEST

START_TEST(a_script_ends_with_stop_and_names_its_lines)
{
	static const char script[] = "start\nclient c1\nacl publish c1 x -> pending\n";
	struct grapnel_harness *h = harness_new();

	ck_assert_int_eq(
	    grapnel_harness_script(h, script, strlen(script), "unit.steps"), GRAPNEL_EFAULT);
	ck_assert_uint_eq(findings, 1);
	ck_assert_ptr_nonnull(
	    strstr(last, "leak: the request of acl_check (line 3) was left pending"));
	ck_assert_int_eq(grapnel_harness_step(h, "start"), GRAPNEL_EFAULT);
	ck_assert_uint_eq(grapnel_harness_free(h), 2);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("harness");
	TCase *tc = tcase_create("c");
	SRunner *r;
	int failed;

	tcase_add_test(tc, a_configuration_is_one_plugin);
	tcase_add_test(tc, what_the_broker_would_refuse_does_not_start);
	tcase_add_test(tc, steps_are_run_as_by_printf);
	tcase_add_test(tc, questions_can_be_made_by_hand);
	tcase_add_test(tc, a_script_ends_with_stop_and_names_its_lines);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
