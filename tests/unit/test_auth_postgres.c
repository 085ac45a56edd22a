/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of auth-postgres that need neither broker nor server: what is notified, and libpq's messages as one line. */
#include "../../plugins/auth-postgres/listen.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *payload, *username, *client_id; /* NULL: absent */
	bool good;
} payloads[] = {
	{ "", NULL, NULL, true },
	{ "user=alice", "alice", NULL, true },
	{ "user=", "", NULL, true },
	{ "user=a=b,client=c", "a=b,client=c", NULL, true }, /* all of the rest is the name */
	{ "client=x y", NULL, "x y", true },
	{ "client=", NULL, "", true },
	{ "User=alice", NULL, NULL, false },
	{ " user=alice", NULL, NULL, false },
	{ "user", NULL, NULL, false },
	{ "alice", NULL, NULL, false },
};

static void
check_str(struct grapnel_str got, const char *wanted)
{
	if (wanted == NULL) {
		ck_assert_ptr_null(got.data);
		return;
	}
	ck_assert_ptr_nonnull(got.data);
	ck_assert_uint_eq(got.len, strlen(wanted));
	ck_assert_mem_eq(got.data, wanted, got.len);
}

START_TEST(payload_says_whom_a_change_is_about)
{
	struct grapnel_str username, client_id;

	ck_assert(
	    pg_payload_parse(payloads[_i].payload, &username, &client_id) == payloads[_i].good);
	check_str(username, payloads[_i].username);
	check_str(client_id, payloads[_i].client_id);
}
END_TEST

static const struct {
	const char *message, *shown, *hidden;
} messages[] = {
	{ "", "", "" },
	{ "no such host\n", "no such host", "no such host" },
	{ "one\ntwo\n", "one two", "one two" },
	{ "missing \"=\" after \"s3cret\" in it\n", "missing \"=\" after \"s3cret\" in it",
	    "missing \"\" after \"\" in it" },
	{ "unterminated \"s3cret", "unterminated \"s3cret", "unterminated \"" },
};

START_TEST(message_is_one_line_and_can_hide_what_is_quoted)
{
	char out[64];

	pg_message(out, sizeof(out), messages[_i].message, false);
	ck_assert_str_eq(out, messages[_i].shown);
	pg_message(out, sizeof(out), messages[_i].message, true);
	ck_assert_str_eq(out, messages[_i].hidden);
}
END_TEST

START_TEST(long_message_is_cut)
{
	char out[5];

	pg_message(out, sizeof(out), "0123456789", false);
	ck_assert_str_eq(out, "0123");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("auth-postgres");
	TCase *t = tcase_create("text");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, payload_says_whom_a_change_is_about, 0,
	    (int)(sizeof(payloads) / sizeof(payloads[0])));
	tcase_add_loop_test(t, message_is_one_line_and_can_hide_what_is_quoted, 0,
	    (int)(sizeof(messages) / sizeof(messages[0])));
	tcase_add_test(t, long_message_is_cut);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
