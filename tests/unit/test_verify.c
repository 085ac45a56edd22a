/* SPDX-License-Identifier: Apache-2.0 */
/* verify against a host of the test's own, whose offload pool runs when it is told to. */
#include "../../plugins/common/verify.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CH     "correct horse"
#define BCRYPT "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
#define QUICK  /* Mosquitto's $6$ */                                                 \
	"$6$ESzI3UOdwg2l6JZC$y8Okne+gZKdNMlz8OHIrliz5mUBwQxqf75XwDClV25IlVfomIrNzg+" \
	"u8Gov4DIn3M5cBhdk7U4Y2NzP7A6pPlQ=="

struct grapnel_job {
	grapnel_call_fn work, done;
	void *arg;
	bool ran, cancelled;
};

static struct {
	struct grapnel_job *job;
	bool refuse;
	uint32_t deadline_ms;
	uint64_t now;
	unsigned logged;
	char log[400];
} fake;
static struct verifier v;

static struct grapnel_job *
offload(struct grapnel_instance *self, uint32_t deadline_ms, grapnel_call_fn work,
    grapnel_call_fn done, void *arg)
{
	(void)self;
	if (fake.refuse)
		return NULL;
	ck_assert_ptr_null(fake.job);
	fake.job = calloc(1, sizeof(*fake.job));
	ck_assert_ptr_nonnull(fake.job);
	*fake.job = (struct grapnel_job){ work, done, arg, false, false };
	fake.deadline_ms = deadline_ms;
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

static uint64_t
now_ms(void)
{
	return fake.now;
}

static void
host_log(const struct grapnel_instance *self, enum grapnel_log_level level, const char *format, ...)
{
	va_list args;

	(void)self, (void)level;
	va_start(args, format);
	vsnprintf(fake.log, sizeof(fake.log), format, args);
	va_end(args);
	fake.logged++;
}

static const struct grapnel_host host = {
	.size = sizeof(host),
	.offload = offload,
	.offload_cancel = offload_cancel,
	.job_ran = job_ran,
	.now_ms = now_ms,
	.log = host_log,
};

static void
setup(void)
{
	memset(&fake, 0, sizeof(fake));
	verifier_init(&v, &host, NULL);
}

static void
teardown(void)
{
	verifier_fini(&v);
}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

#define NOT_YET 99

static void
done(void *arg, enum verify_result result)
{
	int *to = arg;

	ck_assert_int_eq(*to, NOT_YET); /* exactly once */
	*to = result;
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

/* Begin to end; *offloaded says which way it went. */
static int
verify(const char *hash, const char *password, bool *offloaded)
{
	int result = NOT_YET;
	struct verify *handle = verify_start(&v, 5000, str(hash), str(password), done, &result);

	*offloaded = handle != NULL;
	if (handle != NULL) {
		ck_assert_int_eq(result, NOT_YET);
		run_job();
	}
	ck_assert_int_ne(result, NOT_YET);
	return result;
}

START_TEST(costly_hashes_go_to_the_pool_cheap_ones_do_not)
{
	bool offloaded;

	ck_assert_int_eq(verify(BCRYPT, CH, &offloaded), VERIFY_RIGHT);
	ck_assert(offloaded);
	ck_assert_uint_eq(fake.deadline_ms, 5000);
	ck_assert_int_eq(verify(BCRYPT, "correct horse ", &offloaded), VERIFY_WRONG);
	ck_assert_int_eq(verify(QUICK, CH, &offloaded), VERIFY_RIGHT);
	ck_assert(!offloaded);
	ck_assert_int_eq(verify(QUICK, "", &offloaded), VERIFY_WRONG);
}
END_TEST

START_TEST(no_hash_is_never_right_and_costs_what_the_last_one_did)
{
	bool offloaded;

	ck_assert_int_eq(verify(NULL, CH, &offloaded), VERIFY_WRONG);
	ck_assert(offloaded); /* before anybody has come: as grapnelctl's hashes */
	(void)verify(QUICK, CH, &offloaded);
	ck_assert_int_eq(
	    verify(NULL, CH, &offloaded), VERIFY_WRONG); /* though the last one's password */
	ck_assert(!offloaded);
	(void)verify(BCRYPT, CH, &offloaded);
	ck_assert_int_eq(verify("", CH, &offloaded), VERIFY_WRONG);
	ck_assert(offloaded);
	ck_assert_uint_eq(fake.logged, 0);
}
END_TEST

START_TEST(no_password_is_never_right)
{
	bool offloaded;
	/* the password "" */
	const char *empty = "$7$1$c2FsdHNhbHRzYWx0$"
			    "k1KUJgmiMVxc6V1US9BCKGslOJiWhMguawJ4lYOyRYjy5Kyg2HQu/+6TRpCl"
			    "kbLM/XoXxWsMgLqGeYGPV/9I4Q==";

	ck_assert_int_eq(verify(BCRYPT, NULL, &offloaded), VERIFY_WRONG);
	ck_assert(offloaded);
	ck_assert_int_eq(verify(empty, "", &offloaded), VERIFY_RIGHT);
	ck_assert_int_eq(verify(empty, NULL, &offloaded), VERIFY_WRONG);
	ck_assert(!offloaded);
}
END_TEST

START_TEST(trouble_is_unavailable_never_wrong)
{
	struct verify *handle;
	int result = NOT_YET;
	bool offloaded;

	fake.refuse = true;
	ck_assert_int_eq(verify(BCRYPT, CH, &offloaded), VERIFY_UNAVAILABLE);
	fake.refuse = false;
	ck_assert_ptr_null(verify_start(&v, 0, str(BCRYPT), str(CH), done, &result));
	ck_assert_int_eq(result, VERIFY_UNAVAILABLE); /* no time is left; 0 is not "no deadline" */
	result = NOT_YET;
	handle = verify_start(&v, 100, str(BCRYPT), str(CH), done, &result);
	verify_cancel(handle);
	ck_assert(fake.job->cancelled);
	run_job();
	ck_assert_int_eq(result, VERIFY_UNAVAILABLE);
}
END_TEST

START_TEST(a_hash_that_cannot_be_checked_is_logged_now_and_then)
{
	bool offloaded;

	ck_assert_int_eq(verify("plain text", CH, &offloaded), VERIFY_UNAVAILABLE);
	ck_assert_int_eq(
	    verify("$2b$31$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e", CH, &offloaded),
	    VERIFY_UNAVAILABLE);
	ck_assert_uint_eq(fake.logged, 1);
	ck_assert_ptr_null(strstr(fake.log, "plain text"));
	fake.now += 60000;
	ck_assert_int_eq(verify("plain text", CH, &offloaded), VERIFY_UNAVAILABLE);
	ck_assert_uint_eq(fake.logged, 2);
	/* and nobody who does not exist costs what such a one did */
	ck_assert_int_eq(verify(NULL, CH, &offloaded), VERIFY_WRONG);
	ck_assert(offloaded);
}
END_TEST

START_TEST(hash_and_password_are_copied)
{
	char hash[] = BCRYPT, password[] = CH;
	int result = NOT_YET;

	ck_assert_ptr_nonnull(verify_start(&v, 100, str(hash), str(password), done, &result));
	memset(hash, 'x', sizeof(hash) - 1);
	memset(password, 'x', sizeof(password) - 1);
	run_job();
	ck_assert_int_eq(result, VERIFY_RIGHT);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("verify");
	TCase *tc = tcase_create("verify");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, costly_hashes_go_to_the_pool_cheap_ones_do_not);
	tcase_add_test(tc, no_hash_is_never_right_and_costs_what_the_last_one_did);
	tcase_add_test(tc, no_password_is_never_right);
	tcase_add_test(tc, trouble_is_unavailable_never_wrong);
	tcase_add_test(tc, a_hash_that_cannot_be_checked_is_logged_now_and_then);
	tcase_add_test(tc, hash_and_password_are_copied);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
