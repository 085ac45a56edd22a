/* SPDX-License-Identifier: Apache-2.0 */
/* The auth-file plugin against a host of the test's own, whose offload pool runs when it is told to. */
#include "core/acl.h"

#include <check.h>
#include <fcntl.h>
#include <grapnel/plugin.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern const struct grapnel_plugin grapnel_plugin;

#define ALICE \
	"alice:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n" /* correct horse */

/* ---------------------------------------------------------------------------- the host */

struct grapnel_job {
	grapnel_call_fn work, done;
	void *arg;
	bool ran, cancelled;
};
struct grapnel_request {
	void *data;
	enum grapnel_verdict resolved; /* 0: not yet */
	struct grapnel_acl_answer acl;
};

static struct {
	const char *password_file, *acl_file, *rules[3];
	char errors[8192], log[8192], disabled[200];
	struct grapnel_job *job; /* the last one, waiting */
	unsigned offloaded;
	bool refuse_offload, identity_login;
	uint32_t time_left, deadline_ms;
	char metric_names[8][40];
	int metrics;
	int64_t metric[8];
} fake;

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static const char *
option(const char *name)
{
	return strcmp(name, "password_file") == 0 ? fake.password_file
	    : strcmp(name, "acl_file") == 0       ? fake.acl_file
						  : NULL;
}

static struct grapnel_str
option_str(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self, (void)block;
	return str(option(name));
}

static bool
option_given(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self, (void)block;
	return option(name) != NULL;
}

static struct grapnel_str
option_list(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, size_t i)
{
	(void)self, (void)block;
	return str(strcmp(name, "rules") == 0 && i < 3 ? fake.rules[i] : NULL);
}

static bool
option_bool(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self, (void)block;
	ck_assert_str_eq(name, "identity_login");
	return fake.identity_login;
}

static void
append(char *to, size_t size, const char *format, va_list args)
{
	size_t n = strlen(to);

	vsnprintf(to + n, size - n, format, args);
	n = strlen(to);
	snprintf(to + n, size - n, "\n");
}

static void
host_log(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
{
	va_list args;

	(void)self, (void)level;
	va_start(args, format);
	append(fake.log, sizeof(fake.log), format, args);
	va_end(args);
}

static void
config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, const char *format, ...)
{
	va_list args;

	(void)self, (void)block, (void)name;
	va_start(args, format);
	append(fake.errors, sizeof(fake.errors), format, args);
	va_end(args);
}

static int
metric_new(struct grapnel_instance *self, enum grapnel_metric_kind kind, const char *name,
    const char *help)
{
	(void)self, (void)kind, (void)help;
	snprintf(fake.metric_names[fake.metrics], sizeof(fake.metric_names[0]), "%s", name);
	return fake.metrics++;
}

static void
metric_add(struct grapnel_instance *self, int metric, int64_t delta)
{
	(void)self;
	fake.metric[metric] += delta;
}

static int64_t
metric(const char *name)
{
	for (int i = 0; i < fake.metrics; i++)
		if (strcmp(fake.metric_names[i], name) == 0)
			return fake.metric[i];
	ck_abort_msg("no metric %s", name);
	return -1;
}

static int
hook_disable(struct grapnel_instance *self, const char *hook)
{
	(void)self;
	strcat(strcat(fake.disabled, hook), " ");
	return GRAPNEL_OK;
}

static struct grapnel_job *
offload(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work,
    grapnel_call_fn done, void *arg)
{
	(void)self;
	if (fake.refuse_offload)
		return NULL;
	ck_assert_ptr_null(fake.job);
	fake.job = calloc(1, sizeof(*fake.job));
	ck_assert_ptr_nonnull(fake.job);
	*fake.job = (struct grapnel_job){ work, done, arg, false, false };
	fake.deadline_ms = deadline_ms;
	fake.offloaded++;
	return fake.job;
}

static void
offload_cancel(struct grapnel_job *job)
{
	job->cancelled = true;
}

static bool
job_ran(const struct grapnel_job *job)
{
	return job->ran;
}

static void
run_job(void)
{
	struct grapnel_job *job = fake.job;

	ck_assert_ptr_nonnull(job);
	fake.job = NULL;
	if (!job->cancelled) {
		job->work(job->arg);
		job->ran = true;
	}
	job->done(job->arg);
	free(job);
}

static uint32_t
request_time_left(const struct grapnel_request *req)
{
	(void)req;
	return fake.time_left;
}

static void
request_set_data(struct grapnel_request *req, void *data)
{
	req->data = data;
}

static void *
request_data(const struct grapnel_request *req)
{
	return req->data;
}

static int
auth_resolve(struct grapnel_request *req, enum grapnel_verdict verdict,
    const struct grapnel_auth_answer *answer)
{
	ck_assert_int_eq(req->resolved, 0); /* exactly once */
	ck_assert_ptr_null(answer);         /* nothing that would tell users apart */
	req->resolved = verdict;
	return GRAPNEL_OK;
}

static int
acl_answer(struct grapnel_request *req, const struct grapnel_acl_answer *answer)
{
	req->acl = *answer;
	return GRAPNEL_OK;
}

static const struct grapnel_host host = {
	.size = sizeof(host),
	.abi_major = GRAPNEL_ABI_MAJOR,
	.workers = 1,
	.acl_answer = acl_answer,
	.auth_resolve = auth_resolve,
	.request_time_left = request_time_left,
	.request_set_data = request_set_data,
	.request_data = request_data,
	.option_str = option_str,
	.option_bool = option_bool,
	.option_list = option_list,
	.option_given = option_given,
	.log = host_log,
	.config_error = config_error,
	.metric_new = metric_new,
	.metric_add = metric_add,
	.offload = offload,
	.offload_cancel = offload_cancel,
	.job_ran = job_ran,
	.rules_compile = acl_rules_compile,
	.rules_ref = acl_rules_ref,
	.rules_unref = acl_rules_unref,
	.rules_check = acl_rules_check,
	.rules_scope = acl_rules_scope,
	.hook_disable = hook_disable,
};

/* --------------------------------------------------------------------------- fixtures */

static uint8_t identity_source; /* of who logs in */
static char folder[] = "/tmp/grapnel-auth-XXXXXX";
static char paths[5][PATH_MAX];
static unsigned path_count;

static void
setup(void)
{
	memset(&fake, 0, sizeof(fake));
	fake.time_left = 5000;
	identity_source = GRAPNEL_IDENTITY_NONE;
	path_count = 0;
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void
teardown(void)
{
	for (unsigned i = 0; i < path_count; i++)
		unlink(paths[i]);
	rmdir(folder);
}

static const char *
file(const char *name, const char *text, mode_t mode)
{
	char *path = paths[path_count++];
	int fd;

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

static void *
create(void)
{
	void *instance = NULL;
	int err = grapnel_plugin.create(&host, NULL, &instance);

	ck_assert_msg((err == GRAPNEL_OK) == (fake.errors[0] == '\0'), "%d %s", err, fake.errors);
	return err == GRAPNEL_OK ? instance : NULL;
}

static enum grapnel_verdict
authenticate(void *instance, struct grapnel_request *req, const char *user, const char *password)
{
	struct grapnel_client_info client = { .size = sizeof(client),
		.client_id = str("c1"),
		.username = str(user),
		.identity_source = identity_source };
	struct grapnel_authenticate q = {
		.size = sizeof(q), .client = &client, .password = str(password)
	};

	memset(req, 0, sizeof(*req));
	return grapnel_plugin.client_authenticate(instance, req, &q);
}

/* The verdict, whether it came at once or from the pool. */
static enum grapnel_verdict
login(void *instance, const char *user, const char *password)
{
	struct grapnel_request req;
	enum grapnel_verdict v = authenticate(instance, &req, user, password);

	if (v != GRAPNEL_PENDING)
		return v;
	ck_assert_uint_eq(fake.deadline_ms, 5000);
	run_job();
	return req.resolved;
}

static enum grapnel_verdict
check(void *instance, struct grapnel_request *req, const char *user, enum grapnel_action action,
    const char *topic)
{
	struct grapnel_pair tenant = { GRAPNEL_STR("tenant"), GRAPNEL_STR("t1") };
	struct grapnel_client_info client = {
		.size = sizeof(client),
		.client_id = str("c1"),
		.username = str(user),
		.attributes = &tenant,
		.attribute_count = 1,
	};
	struct grapnel_acl_check q = {
		.size = sizeof(q), .client = &client, .action = action, .topic = str(topic)
	};

	memset(req, 0, sizeof(*req));
	return grapnel_plugin.acl_check(instance, req, &q);
}

static bool
rule_is(const struct grapnel_request *req, const char *end)
{
	size_t n = strlen(end);

	return req->acl.rule.len >= n &&
	    memcmp(req->acl.rule.data + req->acl.rule.len - n, end, n) == 0;
}

/* ------------------------------------------------------------------------------ tests */

START_TEST(the_right_password_lets_in_a_wrong_one_is_refused)
{
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	a = create();
	ck_assert_int_eq(login(a, "alice", "correct horse"), GRAPNEL_ALLOW);
	ck_assert_int_eq(login(a, "alice", "wrong"), GRAPNEL_DENY);
	ck_assert_int_eq(login(a, "alice", ""), GRAPNEL_DENY);
	ck_assert_int_eq(login(a, "alice", NULL), GRAPNEL_DENY);
	ck_assert_uint_eq(fake.offloaded, 4);
	ck_assert_int_eq(metric("logins_accepted_total"), 1);
	ck_assert_int_eq(metric("logins_refused_total"), 3);
	ck_assert_str_eq(fake.disabled, "acl_check ");
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(an_unknown_user_costs_a_hash_and_passes_on)
{
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	a = create();
	ck_assert_int_eq(login(a, "bob", "correct horse"),
	    GRAPNEL_NEXT); /* the hash it was compared with matches */
	ck_assert_int_eq(login(a, "", "x"), GRAPNEL_NEXT);
	ck_assert_uint_eq(fake.offloaded, 2);
	ck_assert_int_eq(metric("logins_unknown_total"), 2);
	ck_assert_int_eq(
	    login(a, NULL, NULL), GRAPNEL_NEXT); /* no user name: not ours, and nothing to hide */
	ck_assert_uint_eq(fake.offloaded, 2);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(whom_the_listener_vouches_for_needs_a_line_and_no_password)
{
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	fake.identity_login = true;
	a = create();
	for (identity_source = GRAPNEL_IDENTITY_CERTIFICATE;
	     identity_source <= GRAPNEL_IDENTITY_PEER; identity_source++) {
		ck_assert_int_eq(login(a, "alice", NULL), GRAPNEL_ALLOW);
		ck_assert_int_eq(login(a, "bob", NULL), GRAPNEL_NEXT);
	}
	ck_assert_int_eq(metric("logins_accepted_total"), 3);
	ck_assert_int_eq(metric("logins_unknown_total"), 3);
	ck_assert_uint_eq(fake.offloaded, 0);
	/* The word of a proxy or a handler is not the listener's. */
	for (identity_source = GRAPNEL_IDENTITY_PROXY; identity_source <= GRAPNEL_IDENTITY_HANDLER;
	     identity_source++)
		ck_assert_int_eq(login(a, "alice", NULL), GRAPNEL_DENY);
	/* A password that is sent is checked, an empty one, too. */
	identity_source = GRAPNEL_IDENTITY_CERTIFICATE;
	ck_assert_int_eq(login(a, "alice", "correct horse"), GRAPNEL_ALLOW);
	ck_assert_int_eq(login(a, "alice", "wrong"), GRAPNEL_DENY);
	ck_assert_int_eq(login(a, "alice", ""), GRAPNEL_DENY);
	/* And who only says who it is needs one. */
	identity_source = GRAPNEL_IDENTITY_NONE;
	ck_assert_int_eq(login(a, "alice", NULL), GRAPNEL_DENY);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(an_identity_alone_lets_nobody_in_by_default)
{
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	a = create();
	identity_source = GRAPNEL_IDENTITY_CERTIFICATE;
	ck_assert_int_eq(login(a, "alice", NULL), GRAPNEL_DENY);
	ck_assert_int_eq(login(a, "alice", "correct horse"), GRAPNEL_ALLOW);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(identity_login_needs_a_password_file)
{
	fake.acl_file = file("acl", "topic a/#\n", 0600);
	fake.identity_login = true;
	ck_assert_ptr_null(create());
	ck_assert_ptr_nonnull(strstr(fake.errors, "identity_login = yes needs password_file"));
}
END_TEST

START_TEST(an_empty_password_file_knows_nobody)
{
	void *a;

	fake.password_file = file("passwd", "# none yet\n", 0600);
	a = create();
	ck_assert_int_eq(login(a, "alice", "x"), GRAPNEL_NEXT);
	ck_assert_uint_eq(fake.offloaded, 0);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(trouble_in_the_pool_is_unavailable_never_a_wrong_password)
{
	struct grapnel_request req;
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	a = create();
	fake.refuse_offload = true;
	ck_assert_int_eq(login(a, "alice", "correct horse"), GRAPNEL_UNAVAILABLE);
	fake.refuse_offload = false;
	fake.time_left = 0;
	ck_assert_int_eq(login(a, "alice", "correct horse"), GRAPNEL_UNAVAILABLE);
	fake.time_left = 5000;
	/* the client left: the job is cancelled, and the request resolved all the same */
	ck_assert_int_eq(authenticate(a, &req, "alice", "correct horse"), GRAPNEL_PENDING);
	grapnel_plugin.request_cancelled(a, &req);
	ck_assert(fake.job->cancelled);
	run_job();
	ck_assert_int_eq(req.resolved, GRAPNEL_UNAVAILABLE);
	grapnel_plugin.request_cancelled(a, &req); /* nothing is left to cancel */
	ck_assert_int_eq(metric("logins_unavailable_total"), 3);
	ck_assert_int_eq(metric("logins_refused_total"), 0);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(a_user_who_is_gone_is_revalidated_no_more)
{
	struct grapnel_client_info client = { .size = sizeof(client), .username = str("alice") };
	struct grapnel_revalidate q = { .size = sizeof(q), .client = &client };
	struct grapnel_request req = { 0 };
	void *a;

	fake.password_file = file("passwd", ALICE, 0600);
	a = create();
	ck_assert_int_eq(grapnel_plugin.client_revalidate(a, &req, &q), GRAPNEL_ALLOW);
	client.username = str("bob");
	ck_assert_int_eq(grapnel_plugin.client_revalidate(a, &req, &q), GRAPNEL_DENY);
	client.username = str(NULL);
	ck_assert_int_eq(grapnel_plugin.client_revalidate(a, &req, &q), GRAPNEL_NEXT);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(rules_decide_and_the_end_is_deny)
{
	struct grapnel_request req;
	void *a;

	fake.rules[0] =
	    file("rules", "deny read a/secret\nallow all a/#\nallow publish %{tenant}/up\n", 0600);
	a = create();
	ck_assert_str_eq(fake.disabled, "client_authenticate client_revalidate ");
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_PUBLISH, "a/b"), GRAPNEL_ALLOW);
	ck_assert(rule_is(&req, "/rules:2"));
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_READ, "a/secret"), GRAPNEL_DENY);
	ck_assert(rule_is(&req, "/rules:1"));
	ck_assert_int_eq(check(a, &req, NULL, GRAPNEL_PUBLISH, "t1/up"), GRAPNEL_ALLOW);
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_PUBLISH, "b"), GRAPNEL_DENY);
	ck_assert(rule_is(&req, "acl: default"));
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_SUBSCRIBE, "a/b/#"), GRAPNEL_ALLOW);
	ck_assert_uint_eq(req.acl.flags, GRAPNEL_ACL_COVERED);
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_SUBSCRIBE, "a/#"), GRAPNEL_ALLOW);
	ck_assert_uint_eq(req.acl.flags, 0);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(several_files_are_asked_in_turn)
{
	struct grapnel_request req;
	void *a;

	fake.rules[0] = file("r1", "deny read a/secret\n", 0600);
	fake.rules[1] = file("r2", "allow subscribe a/#\n", 0600);
	fake.acl_file = file("acl", "pattern read m/#\n", 0600);
	a = create();
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_SUBSCRIBE, "a/b"), GRAPNEL_ALLOW);
	ck_assert_uint_eq(req.acl.flags, GRAPNEL_ACL_COVERED);
	/* the first file refuses what the second one grants */
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_SUBSCRIBE, "a/+"), GRAPNEL_ALLOW);
	ck_assert_uint_eq(req.acl.flags, 0);
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_READ, "a/secret"), GRAPNEL_DENY);
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_READ, "m/1"), GRAPNEL_ALLOW);
	/* acl_file: SUBSCRIBE is granted, delivery filtered */
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_SUBSCRIBE, "x/#"), GRAPNEL_ALLOW);
	ck_assert_uint_eq(req.acl.flags, 0);
	ck_assert(rule_is(&req, "read is asked at delivery"));
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_READ, "x/1"), GRAPNEL_DENY);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(an_empty_acl_file_denies)
{
	struct grapnel_request req;
	void *a;

	fake.acl_file = file("acl", "\n", 0600);
	a = create();
	ck_assert_int_eq(check(a, &req, NULL, GRAPNEL_PUBLISH, "a"), GRAPNEL_DENY);
	ck_assert_int_eq(check(a, &req, "u", GRAPNEL_READ, "a"), GRAPNEL_DENY);
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(all_files_are_good_or_the_instance_does_not_start)
{
	fake.password_file = file("passwd", "alice\n", 0600);
	fake.rules[0] = file("rules", "allow all\n", 0600);
	fake.acl_file = file("acl", "topic read a\ntopic nonsense a\n", 0600);
	ck_assert_ptr_null(create());
	ck_assert_ptr_nonnull(strstr(fake.errors, "/passwd:1: "));
	ck_assert_ptr_nonnull(strstr(fake.errors, "/rules:1: "));
	ck_assert_ptr_nonnull(strstr(fake.errors, "/acl:2: "));
	memset(fake.errors, 0, sizeof(fake.errors));
	fake.password_file = "/nonexistent/passwd";
	fake.acl_file = "/dev/null";
	fake.rules[0] = "";
	ck_assert_ptr_null(create());
	ck_assert_ptr_nonnull(strstr(fake.errors, "/nonexistent/passwd: No such file"));
	ck_assert_ptr_nonnull(strstr(fake.errors, "/dev/null: not a regular file"));
	ck_assert_ptr_nonnull(strstr(fake.errors, "not a path"));
}
END_TEST

START_TEST(an_instance_with_nothing_to_do_is_an_error)
{
	ck_assert_ptr_null(create());
	ck_assert_ptr_nonnull(strstr(fake.errors, "password_file, acl_file or rules"));
}
END_TEST

START_TEST(files_open_to_everybody_are_warned_about)
{
	void *a;

	fake.password_file = file("passwd", ALICE, 0644);
	fake.acl_file = file("acl", "topic a\n", 0666);
	a = create();
	ck_assert_ptr_nonnull(strstr(fake.log, "/passwd can be read by every user"));
	ck_assert_ptr_nonnull(strstr(fake.log, "/acl can be changed by every user"));
	ck_assert_ptr_null(strstr(fake.log, "/acl can be read"));
	grapnel_plugin.destroy(a);
}
END_TEST

START_TEST(the_descriptor_is_one_that_a_broker_loads)
{
	ck_assert(grapnel_plugin.magic == GRAPNEL_PLUGIN_MAGIC);
	ck_assert_uint_ge(grapnel_plugin.size, GRAPNEL_PLUGIN_SIZE_1_0);
	ck_assert(grapnel_plugin.reload_always);
	for (const struct grapnel_option *o = grapnel_plugin.options; o->name != NULL; o++)
		ck_assert_ptr_nonnull(o->help);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("auth_file");
	TCase *tc = tcase_create("auth_file");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_right_password_lets_in_a_wrong_one_is_refused);
	tcase_add_test(tc, an_unknown_user_costs_a_hash_and_passes_on);
	tcase_add_test(tc, whom_the_listener_vouches_for_needs_a_line_and_no_password);
	tcase_add_test(tc, an_identity_alone_lets_nobody_in_by_default);
	tcase_add_test(tc, identity_login_needs_a_password_file);
	tcase_add_test(tc, an_empty_password_file_knows_nobody);
	tcase_add_test(tc, trouble_in_the_pool_is_unavailable_never_a_wrong_password);
	tcase_add_test(tc, a_user_who_is_gone_is_revalidated_no_more);
	tcase_add_test(tc, rules_decide_and_the_end_is_deny);
	tcase_add_test(tc, several_files_are_asked_in_turn);
	tcase_add_test(tc, an_empty_acl_file_denies);
	tcase_add_test(tc, all_files_are_good_or_the_instance_does_not_start);
	tcase_add_test(tc, an_instance_with_nothing_to_do_is_an_error);
	tcase_add_test(tc, files_open_to_everybody_are_warned_about);
	tcase_add_test(tc, the_descriptor_is_one_that_a_broker_loads);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
