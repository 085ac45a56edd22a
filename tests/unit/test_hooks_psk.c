/* SPDX-License-Identifier: Apache-2.0 */
/* The hook tls_psk_key: its chain, what an answer may be, and that a key leaves no trace. */
#include "asked.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "0123456789abcdef"

static const struct grapnel_client_info nobody = {
	.size = sizeof(nobody),
	.client_id = { "", 0 },
	.peer = { "192.0.2.1:1000", 14 },
	.listener = { "psk", 3 },
};
static const struct grapnel_tls_psk question = {
	.size = sizeof(question),
	.client = &nobody,
	.identity = { "device-1", 8 },
};

/* What the worker saw of a decision. */
static struct {
	enum grapnel_verdict verdict;
	char plugin[32], key[GRAPNEL_PSK_KEY_MAX + 1], username[64];
	const char *where; /* the key was */
	size_t len;
} seen;

static void
ask_psk(struct worker *w, void *arg)
{
	struct grapnel_request *pending;
	struct decision d;

	(void)arg;
	memset(&seen, 0, sizeof(seen));
	ck_assert(hooks_ask(w, HOOK_TLS_PSK, &question, NULL, NULL, NULL, &d, &pending));
	seen.verdict = d.verdict;
	snprintf(seen.plugin, sizeof(seen.plugin), "%s", d.plugin != NULL ? d.plugin : "-");
	keep(seen.key, sizeof(seen.key), d.psk->key);
	keep(seen.username, sizeof(seen.username), d.psk->username);
	seen.where = d.psk->key.data;
	seen.len = d.psk->key.len;
	decision_release(&d);
}

static enum grapnel_verdict
not_mine(struct probe *p, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	(void)req;
	note(p);
	ck_assert(str_is(q->identity, "device-1"));
	ck_assert(str_is(q->client->listener, "psk"));
	ck_assert_ptr_null(q->client->client);
	return GRAPNEL_NEXT;
}

static enum grapnel_verdict
knows(struct probe *p, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	const struct grapnel_psk_answer a = {
		.size = sizeof(a), .key = GRAPNEL_STR(KEY), .username = GRAPNEL_STR("one")
	};

	(void)q;
	note(p);
	ck_assert_int_eq(p->host->psk_answer(req, &a), GRAPNEL_OK);
	return GRAPNEL_ALLOW;
}

START_TEST(the_first_who_knows_the_key_decides)
{
	first.psk = not_mine;
	second.psk = knows;
	begin("order = 1", "order = 2");
	on_worker(0, ask_psk, NULL);
	ck_assert_int_eq(seen.verdict, GRAPNEL_ALLOW);
	ck_assert_str_eq(order, "12");
	ck_assert_str_eq(seen.plugin, "second");
	ck_assert_str_eq(seen.key, KEY);
	ck_assert_str_eq(seen.username, "one");
	stub_stop();
}
END_TEST

START_TEST(an_identity_that_nobody_knows_is_nobodys)
{
	first.psk = second.psk = not_mine;
	begin("order_tls_psk_key = 2", "order_tls_psk_key = 1");
	on_worker(0, ask_psk, NULL);
	ck_assert_int_eq(seen.verdict, GRAPNEL_NEXT);
	ck_assert_str_eq(order, "21");
	ck_assert_ptr_null(seen.where);
	stub_stop();
}
END_TEST

START_TEST(a_key_is_wiped_when_the_decision_is_released)
{
	first.psk = knows;
	begin("", NULL);
	on_worker(0, ask_psk, NULL);
	ck_assert_uint_eq(seen.len, strlen(KEY));
	/* It lay in the worker's pool of questions, which is there yet. */
	for (size_t i = 0; i < seen.len; i++)
		ck_assert_int_eq(seen.where[i], 0);
	stub_stop();
}
END_TEST

static const struct {
	size_t size, key_len, username_len;
	const char *username;
	int expected;
} answers[] = {
	{ sizeof(struct grapnel_psk_answer), 16, 0, NULL, GRAPNEL_OK },
	{ sizeof(struct grapnel_psk_answer), 64, 0, NULL, GRAPNEL_OK },
	{ sizeof(struct grapnel_psk_answer), 15, 0, NULL, GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 65, 0, NULL, GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 0, 0, NULL, GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer) - 1, 16, 0, NULL, GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer) + 8, 16, 0, NULL, GRAPNEL_OK },
	{ sizeof(struct grapnel_psk_answer), 16, 1, "x", GRAPNEL_OK },
	{ sizeof(struct grapnel_psk_answer), 16, 1024, NULL, GRAPNEL_OK },
	{ sizeof(struct grapnel_psk_answer), 16, 1025, NULL, GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 16, 0, "", GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 16, 2, "a\n", GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 16, 2, "a\x7f", GRAPNEL_EINVAL },
	{ sizeof(struct grapnel_psk_answer), 16, 2, "\xc3(", GRAPNEL_EINVAL },
};
static int row;

static enum grapnel_verdict
answers_row(struct probe *p, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	static char key[65], name[1025];
	struct {
		struct grapnel_psk_answer a;
		char more[8]; /* of a newer ABI */
	} answer;

	(void)q;
	memset(name, 'n', sizeof(name));
	memset(&answer, 0x55, sizeof(answer));
	answer.a.size = answers[row].size;
	answer.a.key = (struct grapnel_str){ key, answers[row].key_len };
	answer.a.username =
	    (struct grapnel_str){ answers[row].username, answers[row].username_len };
	if (answers[row].username == NULL && answers[row].username_len > 0)
		answer.a.username.data = name;
	return p->host->psk_answer(req, &answer.a) == GRAPNEL_OK ? GRAPNEL_ALLOW
								 : GRAPNEL_UNAVAILABLE;
}

START_TEST(an_answer_is_checked)
{
	row = _i;
	first.psk = answers_row;
	begin("", NULL);
	on_worker(0, ask_psk, NULL);
	ck_assert_int_eq(
	    seen.verdict, answers[_i].expected == GRAPNEL_OK ? GRAPNEL_ALLOW : GRAPNEL_UNAVAILABLE);
	stub_stop();
}
END_TEST

static enum grapnel_verdict
answers_another_question(
    struct probe *p, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	const struct grapnel_acl_answer a = { .size = sizeof(a) };

	(void)q;
	ck_assert_int_eq(p->host->acl_answer(req, &a), GRAPNEL_EINVAL);
	ck_assert_int_eq(p->host->auth_resolve(req, GRAPNEL_ALLOW, NULL), GRAPNEL_EINVAL);
	return GRAPNEL_DENY;
}

START_TEST(functions_of_other_hooks_are_refused)
{
	first.psk = answers_another_question;
	second.psk = knows;
	begin("order = 1", "order = 2");
	on_worker(0, ask_psk, NULL);
	ck_assert_int_eq(seen.verdict, GRAPNEL_DENY); /* final: the second is not asked */
	ck_assert_str_eq(order, "");
	stub_stop();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hooks_psk");
	TCase *tc = tcase_create("tls_psk_key");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, reset_probes, NULL);
	tcase_add_test(tc, the_first_who_knows_the_key_decides);
	tcase_add_test(tc, an_identity_that_nobody_knows_is_nobodys);
	tcase_add_test(tc, a_key_is_wiped_when_the_decision_is_released);
	tcase_add_loop_test(tc, an_answer_is_checked, 0, sizeof(answers) / sizeof(*answers));
	tcase_add_test(tc, functions_of_other_hooks_are_refused);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
