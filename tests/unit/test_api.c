/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/api.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* What a carrier was told. */
static struct {
	unsigned answers, finished;
	int status;
	char type[64], allow[64], body[1024];
} got;

static void
on_answer(
    void *carrier, int status, const char *content_type, const char *allow, struct grapnel_str body)
{
	ck_assert_ptr_eq(carrier, &got);
	ck_assert_uint_lt(body.len, sizeof(got.body));
	got.answers++;
	got.status = status;
	snprintf(got.type, sizeof(got.type), "%s", content_type);
	snprintf(got.allow, sizeof(got.allow), "%s", allow != NULL ? allow : "");
	memcpy(got.body, body.data, body.len);
	got.body[body.len] = '\0';
}

static void
on_finished(struct api_call *call)
{
	ck_assert_ptr_eq(call->carrier, &got);
	got.finished++;
}

static struct api_call *
call_new(enum api_method method, const char *path, const char *query, const char *body)
{
	struct api_call *call;

	memset(&got, 0, sizeof(got));
	call = api_call_new(NULL, method, path, query, (struct grapnel_str){ body, strlen(body) },
	    "uid 0", on_answer, &got);
	if (call != NULL)
		call->finished = on_finished;
	return call;
}

static const struct {
	enum api_method method;
	const char *path, *query;
	int status;
	const char *allow;
} refused[] = {
	{ API_GET, "/", NULL, 404, "" },
	{ API_GET, "/v1", NULL, 404, "" },
	{ API_GET, "/v1/statusx", NULL, 404, "" },
	{ API_GET, "/v1/status/more", NULL, 404, "" },
	{ API_GET, "/v1/%73tatu", NULL, 404, "" },
	{ API_POST, "/v1/status", NULL, 405, "GET, HEAD" },
	{ API_OTHER, "/v1/clients/x", NULL, 405, "GET, HEAD, DELETE" },
	{ API_GET, "/v1/reload", NULL, 405, "POST" },
	{ API_DELETE, "/v1/clients", NULL, 405, "GET, HEAD" },
	{ API_GET, "/v1/plugins/command/x", NULL, 405, "POST" },
	{ API_GET, "/v1/clients", "limt=1", 400, "" },
	{ API_GET, "/v1/clients", "limit=0", 400, "" },
	{ API_GET, "/v1/clients", "online=maybe", 400, "" },
	{ API_GET, "/v1/status", "a=1", 400, "" },
};
START_TEST(wrong_request_is_refused_in_json_exactly_once)
{
	struct api_call *call =
	    call_new(refused[_i].method, refused[_i].path, refused[_i].query, "");
	json_t *answer;

	ck_assert_ptr_nonnull(call);
	api_dispatch(call);
	ck_assert_uint_eq(got.answers, 1);
	ck_assert_uint_eq(got.finished, 1);
	ck_assert_msg(got.status == refused[_i].status, "%s: %d", refused[_i].path, got.status);
	ck_assert_str_eq(got.allow, refused[_i].allow);
	ck_assert_str_eq(got.type, "application/json");
	ck_assert_ptr_nonnull(answer = json_loads(got.body, 0, NULL));
	ck_assert(json_is_string(json_object_get(answer, "error")));
	json_decref(answer);
}
END_TEST

static const struct {
	const char *path, *query, *body;
} malformed[] = {
	{ "/v1/clients/%00", NULL, "" },
	{ "/v1/clients", "limit", "" },
	{ "/v1/reload", NULL, "{" },
	{ "/v1/reload", NULL, "{\"a\":1,\"a\":2}" },
	{ "/v1/reload", NULL, "{} {}" },
};
START_TEST(malformed_request_never_becomes_a_call)
{
	ck_assert_ptr_null(
	    call_new(API_POST, malformed[_i].path, malformed[_i].query, malformed[_i].body));
	ck_assert_uint_eq(got.answers, 1);
	ck_assert_int_eq(got.status, 400);
}
END_TEST

START_TEST(answer_to_a_peer_that_left_goes_nowhere)
{
	struct api_call *call = call_new(API_GET, "/v1/status", NULL, "");

	call->send = NULL;
	api_reply_error(call, 500, "too late");
	ck_assert_uint_eq(got.answers, 0);
	ck_assert_uint_eq(got.finished, 1);
}
END_TEST

START_TEST(error_text_is_json_whatever_is_in_it)
{
	struct api_call *call = call_new(API_GET, "/x", NULL, "");
	char longer[2048];
	json_t *answer;

	memset(longer, 'x', sizeof(longer));
	for (size_t i = 0; i + 1 < sizeof(longer);
	     i += 2) /* cut in the middle of a character, whichever the limit is */
		memcpy(longer + i, "\xc3\xa9", 2);
	longer[0] = '"';
	longer[1] = '\n';
	longer[sizeof(longer) - 1] = '\0';
	longer[sizeof(longer) - 2] = '\0';
	api_reply_error(call, 400, "%s", longer);
	ck_assert_int_eq(got.status, 400);
	ck_assert_ptr_nonnull(answer = json_loads(got.body, 0, NULL));
	ck_assert(
	    strncmp(json_string_value(json_object_get(answer, "error")), "\"\n\xc3\xa9", 4) == 0);
	json_decref(answer);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

int
main(void)
{
	Suite *s = suite_create("api");
	TCase *t = tcase_create("api");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, wrong_request_is_refused_in_json_exactly_once, 0, ROWS(refused));
	tcase_add_loop_test(t, malformed_request_never_becomes_a_call, 0, ROWS(malformed));
	tcase_add_test(t, answer_to_a_peer_that_left_goes_nowhere);
	tcase_add_test(t, error_text_is_json_whatever_is_in_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
