/* SPDX-License-Identifier: Apache-2.0 */
/* What a plugin gets from a worker beside questions; what is shown of it. */
#include "asked.h"
#include "plugin/instance.h"
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- slots, services, commands, numbers ------------------------------------------------------ */

static _Atomic unsigned slots_freed;

static void
count_slot(struct probe *p, void *data)
{
	(void)p;
	ck_assert_ptr_nonnull(data);
	atomic_fetch_add(&slots_freed, 1);
	free(data);
}

static void
slots_here(struct worker *w, void *arg)
{
	static struct grapnel_client a, b, stays;

	(void)arg;
	memset(&a, 0, sizeof(a));
	memset(&b, 0, sizeof(b));
	memset(&stays, 0, sizeof(stays));
	ck_assert_ptr_null(first.host->client_slot(first.self, &a));
	ck_assert_int_eq(first.host->client_set_slot(first.self, &a, strdup("one")), GRAPNEL_OK);
	ck_assert_int_eq(second.host->client_set_slot(second.self, &a, strdup("two")), GRAPNEL_OK);
	ck_assert_str_eq(first.host->client_slot(first.self, &a), "one");
	ck_assert_str_eq(second.host->client_slot(second.self, &a), "two");
	/* A connection attaches to a session that has a slot of its own. */
	ck_assert_int_eq(second.host->client_set_slot(second.self, &b, strdup("old")), GRAPNEL_OK);
	client_slots_move(w, &b, &a);
	ck_assert_uint_eq(atomic_load(&slots_freed), 1);
	ck_assert_str_eq(second.host->client_slot(second.self, &b), "two");
	ck_assert_str_eq(first.host->client_slot(first.self, &b), "one");
	ck_assert_ptr_null(a.kept);
	client_slots_free(w, &b);
	ck_assert_uint_eq(atomic_load(&slots_freed), 3);
	ck_assert_int_eq(
	    first.host->client_set_slot(first.self, &stays, strdup("left")), GRAPNEL_OK);
	stub_clients[0] = &stays; /* for core_each_client */
}

START_TEST(each_instance_has_one_slot_per_client)
{
	atomic_store(&slots_freed, 0);
	first.slot_free = second.slot_free = count_slot;
	begin("", "");
	on_worker(0, slots_here, NULL);
	ck_assert_int_eq(first.host->client_set_slot(first.self, stub_clients[0], NULL),
	    GRAPNEL_ESTATE); /* not a worker */
	free(stub_clients[1]);
	{
		struct grapnel_client *stays = stub_clients[0];

		stub_stop();
		ck_assert_uint_eq(atomic_load(&slots_freed), 4); /* by the instance that left */
		free(stays->kept);
	}
}
END_TEST

static _Atomic unsigned ticks, readable, posted, resolved;
static char resolved_address[64];
static int resolved_err;
static struct grapnel_watch *watch;
static struct grapnel_timer *timer;
static int pipe_fds[2];
static uint64_t armed_at;

static void
on_tick(void *arg)
{
	ck_assert_uint_ge(first.host->now_ms(), armed_at + 20); /* never early */
	if (atomic_fetch_add(&ticks, 1) == 0) {
		armed_at = first.host->now_ms();
		first.host->timer_arm(timer, 20);
	} else {
		first.host->timer_free(timer);
	}
	ck_assert_ptr_eq(arg, &ticks);
}

static void
on_readable(void *arg, int fd, unsigned events)
{
	char byte;

	(void)arg;
	ck_assert_uint_ne(events & GRAPNEL_READABLE, 0);
	if (read(fd, &byte, 1) == 0) { /* the other end was closed */
		first.host->watch_remove(watch);
		watch = NULL;
	}
	atomic_fetch_add(&readable, 1);
}

static void
on_posted(void *arg)
{
	ck_assert_int_eq(first.host->this_worker(), (int)(intptr_t)arg);
	atomic_fetch_add(&posted, 1);
}

static void
on_resolved(void *arg, int err, const struct grapnel_str *addresses, size_t count)
{
	(void)arg;
	resolved_err = err;
	resolved_address[0] = '\0';
	if (count > 0)
		keep(resolved_address, sizeof(resolved_address), addresses[0]);
	ck_assert((err == GRAPNEL_OK) == (count > 0));
	atomic_fetch_add(&resolved, 1);
}

static void
services_here(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	ck_assert_int_eq(first.host->this_worker(), 0);
	timer = first.host->timer_new(first.self, on_tick, &ticks);
	ck_assert_ptr_nonnull(timer);
	armed_at = first.host->now_ms();
	ck_assert_int_eq(first.host->timer_arm(timer, 20), GRAPNEL_OK);
	watch = first.host->watch_fd(first.self, pipe_fds[0], GRAPNEL_READABLE, on_readable, NULL);
	ck_assert_ptr_nonnull(watch);
	ck_assert_ptr_null(
	    first.host->watch_fd(first.self, -1, GRAPNEL_READABLE, on_readable, NULL));
}

START_TEST(timers_descriptors_and_posts_run_on_the_worker)
{
	atomic_store(&ticks, 0);
	atomic_store(&readable, 0);
	atomic_store(&posted, 0);
	ck_assert_int_eq(pipe(pipe_fds), 0);
	begin("", NULL);
	ck_assert_ptr_null(first.host->timer_new(first.self, on_tick, NULL)); /* not on a worker */
	ck_assert_int_eq(first.host->this_worker(), -1);
	on_worker(0, services_here, NULL);
	ck_assert_int_eq(write(pipe_fds[1], "x", 1), 1);
	wait_for(&readable, 1);
	close(pipe_fds[1]);
	wait_for(&readable, 2);
	wait_for(&ticks, 2);
	ck_assert_int_eq(first.host->post(first.self, 1, on_posted, (void *)1), GRAPNEL_OK);
	ck_assert_int_eq(first.host->post(first.self, 0, on_posted, (void *)0), GRAPNEL_OK);
	ck_assert_int_eq(
	    first.host->post(first.self, STUB_WORKERS, on_posted, NULL), GRAPNEL_EINVAL);
	wait_for(&posted, 2);
	pause_ms(60);
	ck_assert_uint_eq(atomic_load(&ticks), 2);
	ck_assert_ptr_null(watch);
	stub_stop();
	close(pipe_fds[0]);
}
END_TEST

static void
leave_behind(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	first.host->timer_arm(first.host->timer_new(first.self, on_tick, NULL), 60000);
	ck_assert_ptr_nonnull(first.host->watch_fd(
	    first.self, pipe_fds[0], GRAPNEL_READABLE | GRAPNEL_WRITABLE, on_readable, NULL));
	ck_assert_ptr_nonnull(first.host->dns_lookup(
	    first.self, GRAPNEL_STR("192.0.2.200"), 60000, on_resolved, NULL));
	ck_assert_ptr_nonnull(
	    first.host->subscribe(first.self, GRAPNEL_STR("a/#"), NULL, NULL) == NULL ? (void *)1
										      : NULL);
}

START_TEST(what_a_plugin_leaves_on_a_loop_goes_with_it)
{
	ck_assert_int_eq(pipe(pipe_fds), 0);
	begin("", NULL);
	on_worker(0, leave_behind, NULL);
	stub_stop(); /* ASan: nothing is leaked, nothing fires */
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}
END_TEST

static const struct {
	const char *name, *address;
	int err;
} look_ups[] = {
	{ "192.0.2.7", "192.0.2.7", GRAPNEL_OK },
	{ "2001:db8::7", "2001:db8::7", GRAPNEL_OK },
	{ "localhost", NULL, GRAPNEL_OK }, /* from /etc/hosts */
	{ "", "", GRAPNEL_ENOENT },
};

static void
look_up_here(struct worker *w, void *arg)
{
	unsigned before = atomic_load(&resolved);
	struct grapnel_str name = { arg, strlen(arg) };

	(void)w;
	ck_assert_ptr_nonnull(first.host->dns_lookup(first.self, name, 2000, on_resolved, NULL));
	ck_assert_uint_eq(atomic_load(&resolved), before); /* never inside the call */
}

START_TEST(numeric_names_and_etc_hosts_are_answered_without_a_server)
{
	atomic_store(&resolved, 0);
	begin("", NULL);
	on_worker(0, look_up_here, (void *)(uintptr_t)look_ups[_i].name);
	wait_for(&resolved, 1);
	ck_assert_int_eq(resolved_err, look_ups[_i].err);
	if (look_ups[_i].address != NULL)
		ck_assert_str_eq(resolved_address, look_ups[_i].address);
	stub_stop();
}
END_TEST

static void
cancel_look_up_here(struct worker *w, void *arg)
{
	(void)w;
	(void)arg;
	first.host->dns_cancel(
	    first.host->dns_lookup(first.self, GRAPNEL_STR("127.0.0.1"), 2000, on_resolved, NULL));
	first.host->dns_cancel(first.host->dns_lookup(
	    first.self, GRAPNEL_STR("no-such-host.invalid"), 2000, on_resolved, NULL));
}

START_TEST(a_cancelled_look_up_stays_silent)
{
	atomic_store(&resolved, 0);
	begin("", NULL);
	on_worker(0, cancel_look_up_here, NULL);
	pause_ms(100);
	ck_assert_uint_eq(atomic_load(&resolved), 0);
	stub_stop();
}
END_TEST

static int
answer_command(void *arg, const struct grapnel_command *command,
    void (*reply)(void *ctx, struct grapnel_str json), void *ctx)
{
	ck_assert_ptr_eq(arg, &first);
	ck_assert_uint_eq(command->argument_count, 0);
	reply(ctx, GRAPNEL_STR("{\"ok\":true}"));
	return GRAPNEL_OK;
}

static int
rich_create(struct probe *p)
{
	ck_assert_int_eq(
	    p->host->metric_new(p->self, GRAPNEL_COUNTER, "look_ups_total", "Look-ups"), 0);
	ck_assert_int_eq(p->host->metric_new(p->self, GRAPNEL_COUNTER, "look_ups_total", "again"),
	    GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    p->host->metric_new(p->self, GRAPNEL_COUNTER, "Bad name", "x"), GRAPNEL_EINVAL);
	ck_assert_int_eq(
	    p->host->command_new(p->self, "probe flush", "Forget it", answer_command, p),
	    GRAPNEL_OK);
	return GRAPNEL_OK;
}

/* What came of commands, in the order they ended. */
static struct {
	enum command_end end;
	int err;
	bool given;
	char text[64];
} ends[4];
static _Atomic unsigned ended;

static void
on_end(void *arg, const struct command_result *r)
{
	unsigned i = atomic_load(&ended);

	ck_assert_ptr_eq(arg, &ended);
	ck_assert_uint_lt(i, sizeof(ends) / sizeof(*ends));
	ends[i].end = r->end;
	ends[i].err = r->err;
	ends[i].given = r->given;
	keep(ends[i].text, sizeof(ends[i].text), r->text);
	atomic_store(&ended, i + 1);
}

static char metrics_text[65536];

static int
take_line(void *ctx, const char *line)
{
	(void)ctx;
	strncat(metrics_text, line, sizeof(metrics_text) - strlen(metrics_text) - 1);
	strncat(metrics_text, "\n", sizeof(metrics_text) - strlen(metrics_text) - 1);
	return 0;
}

static void
show_on_main(void *arg)
{
	struct grapnel_command command = { .size = sizeof(command),
		.name = GRAPNEL_STR("probe flush") };
	json_t *j;

	(void)arg;
	atomic_store(&ended, 0);
	plugins_command(stub_broker.plugins, &command, 1, on_end, &ended);
	ck_assert_uint_eq(atomic_load(&ended), 1);
	ck_assert_int_eq(ends[0].end, COMMAND_RAN);
	ck_assert_int_eq(ends[0].err, GRAPNEL_OK);
	ck_assert_str_eq(ends[0].text, "{\"ok\":true}");
	command.name = GRAPNEL_STR("nobody");
	plugins_command(stub_broker.plugins, &command, 1, on_end, &ended);
	ck_assert_uint_eq(atomic_load(&ended), 2);
	ck_assert_int_eq(ends[1].end, COMMAND_UNKNOWN);
	metrics_text[0] = '\0';
	ck_assert_int_eq(plugins_metrics(stub_broker.plugins, take_line, NULL), 0);
	j = plugins_json(stub_broker.plugins, NULL);
	ck_assert_ptr_nonnull(j);
	ck_assert_uint_eq(json_array_size(json_object_get(j, "plugins")), 2);
	ck_assert_str_eq(json_string_value(json_array_get(
			     json_object_get(json_object_get(j, "chains"), "acl_check"), 0)),
	    "second");
	json_decref(j);
	j = plugins_json(stub_broker.plugins, "first");
	ck_assert_str_eq(json_string_value(json_object_get(j, "plugin")), "probe");
	ck_assert_int_eq(
	    json_integer_value(json_object_get(json_object_get(j, "metrics"), "look_ups_total")),
	    5);
	json_decref(j);
	ck_assert_ptr_null(plugins_json(stub_broker.plugins, "nobody"));
}

static enum grapnel_verdict
acl_holds_the_loop(struct probe *p, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	(void)p;
	(void)req;
	(void)q;
	pause_ms(70);
	return GRAPNEL_DENY;
}

START_TEST(everything_is_counted_and_shown)
{
	struct asked a;

	first.create = rich_create;
	first.acl = acl_holds_the_loop;
	second.acl = acl_next;
	begin("order = 20", "order = 10");
	ask(&a, HOOK_ACL, &stub_acl);
	first.host->metric_add(first.self, 0, 5);
	first.host->metric_add(first.self, 99, 5); /* none: nothing */
	on_main(show_on_main, NULL);
	ck_assert_ptr_nonnull(strstr(metrics_text,
	    "grapnel_hook_answers_total{plugin=\"first\",hook=\"acl_check\",answer=\"deny\"} 1\n"));
	ck_assert_ptr_nonnull(strstr(metrics_text,
	    "grapnel_hook_answers_total{plugin=\"second\",hook=\"acl_check\",answer=\"next\"} "
	    "1\n"));
	ck_assert_ptr_nonnull(strstr(metrics_text,
	    "grapnel_hook_seconds_bucket{plugin=\"first\",hook=\"acl_check\",le=\"0.05\"} 0\n"));
	ck_assert_ptr_nonnull(strstr(metrics_text,
	    "grapnel_hook_seconds_bucket{plugin=\"first\",hook=\"acl_check\",le=\"+Inf\"} 1\n"));
	ck_assert_ptr_nonnull(
	    strstr(metrics_text, "grapnel_plugin_loop_holds_total{plugin=\"first\"} 1\n"));
	ck_assert_ptr_nonnull(
	    strstr(metrics_text, "grapnel_plugin_loop_holds_total{plugin=\"second\"} 0\n"));
	ck_assert_ptr_nonnull(
	    strstr(metrics_text, "grapnel_plugin_pending_requests{plugin=\"first\"} 0\n"));
	ck_assert_ptr_nonnull(
	    strstr(metrics_text, "grapnel_plugin_look_ups_total{plugin=\"first\"} 5\n"));
	stub_stop();
}
END_TEST

/* ---- commands that answer later -------------------------------------------------------------- */

static void (*owed_reply)(void *ctx, struct grapnel_str json);
static void *owed_ctx;

static int
owe(void *arg, const struct grapnel_command *command,
    void (*reply)(void *ctx, struct grapnel_str json), void *ctx)
{
	(void)arg;
	(void)command;
	owed_reply = reply;
	owed_ctx = ctx;
	return GRAPNEL_COMMAND_LATER;
}

static int
owing_create(struct probe *p)
{
	return p->host->command_new(p->self, "owe", "Later", owe, p);
}

static void
ask_to_owe(void *arg)
{
	struct grapnel_command command = { .size = sizeof(command), .name = GRAPNEL_STR("owe") };

	plugins_command(stub_broker.plugins, &command, *(uint32_t *)arg, on_end, &ended);
	ck_assert_uint_eq(atomic_load(&ended), 0);
}

static void
begin_owing(uint32_t limit_ms)
{
	atomic_store(&ended, 0);
	first.create = owing_create;
	begin("", NULL);
	on_main(ask_to_owe, &limit_ms);
}

START_TEST(a_command_may_answer_later_once_from_any_thread)
{
	begin_owing(60000);
	owed_reply(owed_ctx, GRAPNEL_STR("[1]"));
	owed_reply(owed_ctx, GRAPNEL_STR("[2]"));
	wait_for(&ended, 1);
	owed_reply(owed_ctx, GRAPNEL_STR("[3]"));
	stub_stop();
	owed_reply(owed_ctx, GRAPNEL_STR("[4]"));
	ck_assert_uint_eq(atomic_load(&ended), 1);
	ck_assert_int_eq(ends[0].end, COMMAND_RAN);
	ck_assert_int_eq(ends[0].err, GRAPNEL_OK);
	ck_assert_str_eq(ends[0].text, "[1]");
}
END_TEST

START_TEST(a_command_that_takes_too_long_is_given_up)
{
	begin_owing(20);
	wait_for(&ended, 1);
	ck_assert_int_eq(ends[0].end, COMMAND_LATE);
	ck_assert(!ends[0].given);
	owed_reply(owed_ctx, GRAPNEL_STR("[1]"));
	stub_stop();
	ck_assert_uint_eq(atomic_load(&ended), 1);
}
END_TEST

static void
reply_at_last(struct probe *p)
{
	(void)p;
	owed_reply(owed_ctx, GRAPNEL_STR("\"at last\""));
}

START_TEST(what_a_plugin_owes_at_its_end_is_answered)
{
	first.destroy = _i == 1 ? reply_at_last : NULL;
	begin_owing(60000);
	stub_stop();
	ck_assert_uint_eq(atomic_load(&ended), 1);
	ck_assert_int_eq(ends[0].end, _i == 1 ? COMMAND_RAN : COMMAND_GONE);
	ck_assert_str_eq(ends[0].text, _i == 1 ? "\"at last\"" : "");
	owed_reply(owed_ctx, GRAPNEL_STR("[1]"));
	ck_assert_uint_eq(atomic_load(&ended), 1);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("services");
	TCase *tc = tcase_create("services");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, reset_probes, NULL);
	tcase_add_test(tc, each_instance_has_one_slot_per_client);
	tcase_add_test(tc, timers_descriptors_and_posts_run_on_the_worker);
	tcase_add_test(tc, what_a_plugin_leaves_on_a_loop_goes_with_it);
	tcase_add_loop_test(tc, numeric_names_and_etc_hosts_are_answered_without_a_server, 0,
	    sizeof(look_ups) / sizeof(*look_ups));
	tcase_add_test(tc, a_cancelled_look_up_stays_silent);
	tcase_add_test(tc, everything_is_counted_and_shown);
	tcase_add_test(tc, a_command_may_answer_later_once_from_any_thread);
	tcase_add_test(tc, a_command_that_takes_too_long_is_given_up);
	tcase_add_loop_test(tc, what_a_plugin_owes_at_its_end_is_answered, 0, 2);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
