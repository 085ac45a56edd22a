/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "core/message.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static bool
equal(struct grapnel_str s, const char *text)
{
	return s.data != NULL && s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static struct identity *
make_author(void)
{
	struct grapnel_pair attributes[] = {
		{ GRAPNEL_STR("role"), GRAPNEL_STR("meter") },
		{ GRAPNEL_STR("site"), GRAPNEL_STR("") },
	};
	struct grapnel_client_info values = {
		.attribute_count = 2,
		.attributes = attributes,
		.client_id = GRAPNEL_STR("client"),
		.username = { NULL, 0 },
		.peer = GRAPNEL_STR("[::1]:1883"),
		.session_generation = 7,
		.protocol = 5,
		.superuser = true,
	};
	struct site *site = site_new(GRAPNEL_STR(""), GRAPNEL_STR("tls"));
	struct identity *id = identity_new(&values, site);

	site_unref(site);
	memset(attributes, 0, sizeof(attributes));
	return id;
}

START_TEST(an_identity_is_a_deep_copy_in_which_absent_and_empty_differ)
{
	struct identity *id = make_author();
	const struct grapnel_pair *attributes;

	ck_assert_ptr_nonnull(id);
	ck_assert(equal(identity_client_id(id), "client"));
	ck_assert_ptr_null(identity_username(id).data);
	ck_assert(equal(id->site->mountpoint, ""));
	ck_assert(equal(identity_peer(id), "[::1]:1883"));
	ck_assert_str_eq(identity_peer(id).data, "[::1]:1883");
	ck_assert(equal(id->site->listener, "tls"));
	ck_assert_uint_eq(id->attribute_count, 2);
	attributes = identity_attributes(id);
	ck_assert(equal(attributes[0].name, "role"));
	ck_assert(equal(attributes[0].value, "meter"));
	ck_assert(equal(attributes[1].name, "site"));
	ck_assert(equal(attributes[1].value, ""));
	ck_assert_uint_eq(id->session_generation, 7);
	ck_assert_uint_eq(id->protocol, 5);
	ck_assert(id->superuser);
	ck_assert(!id->anonymous);
	ck_assert_ptr_eq(identity_ref(id), id);
	identity_unref(id);
	ck_assert_uint_eq(id->refs, 1);
	identity_unref(id);
	identity_unref(NULL);
}
END_TEST

static struct message
borrow(char *bytes, struct identity *author)
{
	memcpy(bytes, "a/bPROPpayload", 14);
	return (struct message){
		.qos = 1,
		.flags = MSG_RETAIN | MSG_EXPIRES,
		.topic = bytes,
		.topic_len = 3,
		.props = bytes + 3,
		.props_len = 4,
		.payload = bytes + 7,
		.payload_len = 7,
		.expires_at_ms = 1000,
		.author = author,
	};
}

START_TEST(a_borrowed_message_is_copied_once_and_the_copy_outlives_it)
{
	struct identity *author = make_author();
	char bytes[14];
	struct message msg = borrow(bytes, author);
	struct message *first = message_keep(&msg), *second = message_keep(&msg), *third;

	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_eq(first, second);
	ck_assert_ptr_ne(first, &msg);
	ck_assert_uint_eq(author->refs, 2);
	message_release_borrowed(&msg);
	ck_assert_ptr_null(msg.heap);
	message_release_borrowed(&msg); /* nothing kept: nothing to do */
	memset(bytes, 'x', sizeof(bytes));

	ck_assert(equal(message_topic(first), "a/b"));
	ck_assert(equal((struct grapnel_str){ first->props, first->props_len }, "PROP"));
	ck_assert(equal((struct grapnel_str){ first->payload, first->payload_len }, "payload"));
	ck_assert_uint_eq(first->qos, 1);
	ck_assert_uint_eq(first->flags, MSG_RETAIN | MSG_EXPIRES | MSG_HEAP);
	ck_assert_uint_eq(message_size(first), sizeof(*first) + 14);
	ck_assert(!message_expired(first, 999));
	ck_assert(message_expired(first, 1000));

	third = message_keep(first); /* a heap message is its own copy */
	ck_assert_ptr_eq(third, first);
	ck_assert_uint_eq(first->refs, 3);
	message_unref(first);
	message_unref(second);
	ck_assert_uint_eq(author->refs, 2);
	message_unref(third);
	ck_assert_uint_eq(author->refs, 1);
	identity_unref(author);
	message_unref(NULL);
}
END_TEST

START_TEST(a_message_without_properties_payload_and_author_can_be_kept)
{
	struct message msg = { .topic = "t", .topic_len = 1 }, *copy = message_keep(&msg);

	message_release_borrowed(&msg);
	ck_assert_ptr_nonnull(copy);
	ck_assert(equal(message_topic(copy), "t"));
	ck_assert_uint_eq(copy->payload_len, 0);
	ck_assert_ptr_null(copy->author);
	ck_assert(!message_expired(copy, UINT64_MAX));
	message_unref(copy);
}
END_TEST

static void *
ref_and_unref(void *arg)
{
	for (int i = 0; i < 20000; i++)
		message_unref(message_ref(arg));
	message_unref(arg);
	return NULL;
}

START_TEST(the_seconds_that_are_left_are_rounded_up_and_never_more_than_there_were)
{
	struct message msg = { .flags = MSG_EXPIRES };
	uint64_t left;

	for (uint64_t ms = 500; ms <= 4000; ms += 500) {
		msg.expires_at_ms = clock_ms() + ms;
		left = message_seconds_left(&msg);
		ck_assert_uint_le(left, (ms + 999) / 1000);
		ck_assert_uint_ge(clock_ms() + left * 1000, msg.expires_at_ms);
	}
	msg.expires_at_ms = clock_ms();
	ck_assert_uint_eq(message_seconds_left(&msg), 0);
	msg.expires_at_ms = clock_ms() + (uint64_t)UINT32_MAX * 1000;
	ck_assert_uint_ge(message_seconds_left(&msg), UINT32_MAX - 600);
	/* A Will Message that is not published yet. */
	msg = (struct message){ .flags = MSG_EXPIRES | MSG_INTERVAL, .expires_at_ms = 7000 };
	ck_assert_uint_eq(message_seconds_left(&msg), 7);
}
END_TEST

START_TEST(references_of_several_threads_are_counted)
{
	struct identity *author = make_author();
	char bytes[14];
	struct message msg = borrow(bytes, author), *copy = message_keep(&msg);
	pthread_t threads[3];

	message_release_borrowed(&msg);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, ref_and_unref, message_ref(copy)), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(copy->refs, 1);
	message_unref(copy);
	ck_assert_uint_eq(author->refs, 1);
	identity_unref(author);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("message");
	TCase *tc = tcase_create("message");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, an_identity_is_a_deep_copy_in_which_absent_and_empty_differ);
	tcase_add_test(tc, a_borrowed_message_is_copied_once_and_the_copy_outlives_it);
	tcase_add_test(tc, a_message_without_properties_payload_and_author_can_be_kept);
	tcase_add_test(tc, the_seconds_that_are_left_are_rounded_up_and_never_more_than_there_were);
	tcase_add_test(tc, references_of_several_threads_are_counted);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
