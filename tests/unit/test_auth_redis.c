/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of auth-redis that need neither broker nor server: addresses, keys, slots, bounded replies. */
#include "../../plugins/auth-redis/endpoint.h"
#include "../../plugins/auth-redis/key.h"
#include "../../plugins/auth-redis/reply.h"
#include "../../plugins/auth-redis/slots.h"

#include <check.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

/* ------------------------------------------------------------------------- addresses */

static const struct {
	const char *text, *shown; /* NULL: refused */
} endpoints[] = {
	{ "h", "h:6379" },
	{ "h:1", "h:1" },
	{ "h:65535", "h:65535" },
	{ "192.0.2.1:7", "192.0.2.1:7" },
	{ "[::1]:7", "[::1]:7" },
	{ "[::1]", "[::1]:6379" },
	{ "::1", "[::1]:6379" },
	{ "2001:db8::1", "[2001:db8::1]:6379" },
	{ "unix:/run/x", "unix:/run/x" },
	{ "", NULL },
	{ ":1", NULL },
	{ "h:", NULL },
	{ "h:0", NULL },
	{ "h:65536", NULL },
	{ "h:1x", NULL },
	{ "h:-1", NULL },
	{ "[::1", NULL },
	{ "[::1]7", NULL },
	{ "[]:7", NULL },
	{ "a b", NULL },
	{ "user@h", NULL },
	{ "h/x", NULL },
	{ "unix:", NULL },
	{ "unix:relative", NULL },
};

START_TEST(addresses_are_what_they_say)
{
	struct endpoint e;
	char text[ENDPOINT_TEXT_SIZE];
	bool good = endpoint_parse(str(endpoints[_i].text), 6379, &e);

	ck_assert_msg(good == (endpoints[_i].shown != NULL), "%s", endpoints[_i].text);
	if (!good)
		return;
	endpoint_text(&e, text);
	ck_assert_str_eq(text, endpoints[_i].shown);
}
END_TEST

START_TEST(a_path_or_name_that_is_too_long_is_refused)
{
	char text[512];
	struct endpoint e;

	memset(text, 'x', sizeof(text));
	memcpy(text, "unix:/", 6);
	ck_assert(endpoint_parse((struct grapnel_str){ text, 5 + ENDPOINT_PATH_MAX }, 1, &e));
	ck_assert(!endpoint_parse((struct grapnel_str){ text, 6 + ENDPOINT_PATH_MAX }, 1, &e));
	memcpy(text, "xxxxxx", 6);
	ck_assert(endpoint_parse((struct grapnel_str){ text, ENDPOINT_HOST_SIZE - 1 }, 1, &e));
	ck_assert(!endpoint_parse((struct grapnel_str){ text, ENDPOINT_HOST_SIZE }, 1, &e));
}
END_TEST

/* ------------------------------------------------------------------------------ slots */

static const struct {
	const char *key;
	unsigned slot; /* CRC-16/XMODEM modulo 16384 */
} slots[] = {
	{ "123456789", 12739 },
	{ "foo", 12182 },
	{ "{foo}", 12182 },
	{ "a{foo}b{bar}", 12182 },
	{ "{}foo", 9500 },
	{ "foo{", 7673 },
	{ "", 0 },
};

START_TEST(keys_have_the_slots_of_the_specification)
{
	ck_assert_uint_eq(slot_of(str(slots[_i].key)), slots[_i].slot);
}
END_TEST

static const struct {
	const char *error, *to; /* NULL: not followed */
	bool ask;
	unsigned slot;
} redirects[] = {
	{ "MOVED 3999 127.0.0.1:6381", "127.0.0.1:6381", false, 3999 },
	{ "ASK 16383 node-7.example:6381", "node-7.example:6381", true, 16383 },
	{ "MOVED 1 2001:db8::1:6381", "[2001:db8::1]:6381", false, 1 },
	{ "MOVED 1 :6381", "from:6381", false, 1 },
	{ "MOVED 1 ?:6381", "from:6381", false, 1 },
	{ "MOVED 16384 h:1", NULL, false, 0 },
	{ "MOVED 99999999999 h:1", NULL, false, 0 },
	{ "MOVED -1 h:1", NULL, false, 0 },
	{ "MOVED 1", NULL, false, 0 },
	{ "MOVED 1 ", NULL, false, 0 },
	{ "MOVED 1 h", NULL, false, 0 },
	{ "MOVED 1 h:", NULL, false, 0 },
	{ "MOVED 1 h:0", NULL, false, 0 },
	{ "MOVED 1 h h:1", NULL, false, 0 },
	{ "MOVED  1 h:1", NULL, false, 0 },
	{ "MOVED", NULL, false, 0 },
	{ "ERR MOVED 1 h:1", NULL, false, 0 },
	{ "", NULL, false, 0 },
};

START_TEST(redirections_are_read_with_care)
{
	struct endpoint from;
	struct redirect r;
	char text[ENDPOINT_TEXT_SIZE];
	bool good;

	ck_assert(endpoint_parse(str("from:1"), 1, &from));
	good = redirect_parse(str(redirects[_i].error), &from, &r);
	ck_assert_msg(good == (redirects[_i].to != NULL), "%s", redirects[_i].error);
	if (!good)
		return;
	endpoint_text(&r.to, text);
	ck_assert_str_eq(text, redirects[_i].to);
	ck_assert(r.ask == redirects[_i].ask);
	ck_assert_uint_eq(r.slot, redirects[_i].slot);
}
END_TEST

/* ------------------------------------------------------------------------------- keys */

static struct key_rules rules = { .names = KEY_ENCODE, .separators = { ":", 1 }, .max_key = 64 };

static struct key
key(const char *text)
{
	char error[200] = "";
	struct key k = { template_parse(str(text), TEMPLATE_ACL, error, sizeof(error)), &rules };

	ck_assert_msg(k.template != NULL, "%s: %s", text, error);
	return k;
}

/* The key of a user name; "" when there is none. */
static void
check_key(const char *text, struct grapnel_str user, const char *expected)
{
	struct grapnel_client_info client = {
		.size = sizeof(client), .username = user, .client_id = GRAPNEL_STR("c")
	};
	struct template_values v = { .client = &client };
	struct key k = key(text);
	struct grapnel_str name = { NULL, 0 };
	enum key_result result = key_fill(&k, &v, &name);

	ck_assert_int_eq(result, *expected != '\0' ? KEY_OK : KEY_NONE);
	ck_assert_uint_eq(name.len, strlen(expected));
	ck_assert(name.len == 0 || memcmp(name.data, expected, name.len) == 0);
	free((void *)(uintptr_t)name.data);
	template_free(k.template);
}

static const struct {
	const char *user, *encoded, *refused, *raw; /* "": no key */
} names[] = {
	{ "alice", "u:alice", "u:alice", "u:alice" },
	{ "alice:acl", "u:alice%3Aacl", "", "u:alice:acl" },
	{ "a*?[b]^\\{c}", "u:a%2A%3F%5Bb%5D%5E%5C%7Bc%7D", "", "u:a*?[b]^\\{c}" },
	{ "%3A", "u:%253A", "", "u:%3A" },
	{ "a b\r\n\x7f", "u:a%20b%0D%0A%7F", "", "u:a b\r\n\x7f" },
	{ "\xc3\xa4/+#$@.-_", "u:\xc3\xa4/+#$@.-_", "u:\xc3\xa4/+#$@.-_", "u:\xc3\xa4/+#$@.-_" },
	{ "", "", "", "" },
};

START_TEST(names_in_keys_have_no_separators)
{
	rules.names = KEY_ENCODE;
	check_key("u:%u", str(names[_i].user), names[_i].encoded);
	rules.names = KEY_REFUSE;
	check_key("u:%u", str(names[_i].user), names[_i].refused);
	rules.names = KEY_RAW;
	check_key("u:%u", str(names[_i].user), names[_i].raw);
	rules.names = KEY_ENCODE;
}
END_TEST

START_TEST(what_has_no_value_or_too_long_a_one_has_no_key)
{
	char user[65];

	memset(user, 'x', sizeof(user));
	check_key("u:%u", (struct grapnel_str){ NULL, 0 }, "");
	check_key("u:%u:%{tenant}", str("a"), "");
	check_key("%u", (struct grapnel_str){ user, 65 }, "");
	check_key("u%u", (struct grapnel_str){ user, 64 }, "");
	check_key("%u", (struct grapnel_str){ "a\0b", 3 }, "a%00b");
	check_key("fixed", (struct grapnel_str){ NULL, 0 }, "fixed");
	check_key("%u%u", str("::::::::::"),
	    "%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A%3A");
	check_key("%u%u", str(":::::::::::"), "");
}
END_TEST

START_TEST(no_two_names_have_the_same_key)
{
	static const char *const parts[] = { "a", ":", "%", "3A", "%3A", "{", "b" };
	enum { PARTS = sizeof(parts) / sizeof(parts[0]), ALL = PARTS * PARTS * PARTS };
	struct grapnel_str keys[ALL];
	char texts[ALL][16];
	struct key k = key("u:%u:acl");

	for (unsigned i = 0; i < ALL; i++) {
		struct grapnel_client_info client = { .size = sizeof(client) };
		struct template_values v = { .client = &client };
		struct grapnel_str value = { NULL, 0 };

		snprintf(texts[i], sizeof(texts[i]), "%s%s%s", parts[i % PARTS],
		    parts[i / PARTS % PARTS], parts[i / PARTS / PARTS]);
		client.username = str(texts[i]);
		ck_assert_int_eq(key_fill(&k, &v, &keys[i]), KEY_OK);
		for (unsigned j = 0; j < i; j++)
			ck_assert_msg(strcmp(texts[i], texts[j]) == 0 ||
				keys[i].len != keys[j].len ||
				memcmp(keys[i].data, keys[j].data, keys[i].len) != 0,
			    "%s %s", texts[i], texts[j]);
		/* And the way back. */
		ck_assert_uint_eq(key_owner(&k, keys[i], &value), TEMPLATE_USERNAME);
		ck_assert_str_eq(value.data, texts[i]);
		free((void *)(uintptr_t)value.data);
	}
	for (unsigned i = 0; i < ALL; i++)
		free((void *)(uintptr_t)keys[i].data);
	template_free(k.template);
}
END_TEST

static const struct {
	const char *template, *name;
	unsigned field; /* UINT_MAX: anybody */
	const char *value;
} owners[] = {
	{ "u:%u", "u:alice", TEMPLATE_USERNAME, "alice" },
	{ "u:%c", "u:alice", TEMPLATE_CLIENT_ID, "alice" },
	{ "u:%u", "u:", 0, NULL },
	{ "u:%u", "v:alice", 0, NULL },
	{ "u:%u", "u:alice:acl", 0, NULL }, /* such a name would be encoded */
	{ "u:%u", "u:a%3ab", 0, NULL },
	{ "u:%u", "u:a%3", 0, NULL },
	{ "u:%u:acl", "u:alice:acl", TEMPLATE_USERNAME, "alice" },
	{ "u:%u:acl", "u:acl", 0, NULL },
	{ "u:%u:acl", "u::acl", 0, NULL },
	{ "%u", "alice", TEMPLATE_USERNAME, "alice" },
	{ "all", "all", UINT_MAX, NULL },
	{ "all", "alle", 0, NULL },
	{ "u:%u:%c", "u:a:b", UINT_MAX, NULL },
	{ "%u:%c:x", "a:b:x", UINT_MAX, NULL },
	{ "%u:%c:x", "a:b:y", 0, NULL },
};

START_TEST(a_key_tells_whose_it_is)
{
	struct key k = key(owners[_i].template);
	struct grapnel_str value = { NULL, 0 };

	ck_assert_uint_eq(key_owner(&k, str(owners[_i].name), &value), owners[_i].field);
	if (owners[_i].value != NULL)
		ck_assert_str_eq(value.data, owners[_i].value);
	else
		ck_assert_ptr_null(value.data);
	free((void *)(uintptr_t)value.data);
	template_free(k.template);
}
END_TEST

static const struct {
	const char *a, *b;
	bool safe;
} pairs[] = {
	{ "u:%u", "a:%u", true },
	{ "u:%u", "a", true },
	{ "u:%u", "u:%u", false },
	{ "u:%u", "u:acl:%u", false },
	{ "%u", "a:%u", false },
	{ "u:%u:x", "a:%u", false },
	{ "u:%u%c", "a:%u", false },
	{ "u:%u", "u:a", false },
};

START_TEST(raw_names_are_only_for_keys_that_cannot_collide)
{
	struct key a = key(pairs[_i].a), b = key(pairs[_i].b);
	const struct key *const both[] = { &a, &b }, *const turned[] = { &b, &a };

	ck_assert(keys_cannot_collide(both, 2) == pairs[_i].safe);
	ck_assert(keys_cannot_collide(turned, 2) == pairs[_i].safe);
	template_free(a.template);
	template_free(b.template);
}
END_TEST

START_TEST(patterns_take_texts_literally)
{
	struct key k = key("a*[%u]?:%c");
	char *pattern = key_pattern(&k, "__keyspace@0__:");

	ck_assert_str_eq(pattern, "__keyspace@0__:a\\*\\[*\\]\\?:*");
	free(pattern);
	template_free(k.template);
}
END_TEST

/* ---------------------------------------------------------------------------- replies */

enum outcome { GOOD, MORE, BAD };
static const struct {
	const char *bytes;
	enum outcome outcome;
} replies[] = {
	/* at most 100 bytes, 10 elements */
	{ "+OK\r\n", GOOD },
	{ "$3\r\nabc\r\n", GOOD },
	{ "$0\r\n\r\n", GOOD },
	{ "$-1\r\n", GOOD },
	{ "*0\r\n", GOOD },
	{ "*-1\r\n", GOOD },
	{ "*2\r\n$1\r\na\r\n:7\r\n", GOOD },
	{ "*1\r\n*1\r\n*1\r\n$1\r\na\r\n", GOOD },
	{ "*10\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n", GOOD },
	{ "*11\r\n", BAD },
	{ "*2147483647\r\n", BAD },
	{ "*4294967297\r\n", BAD },
	{ "*5\r\n*5\r\n*1\r\n", BAD },
	{ "*-2\r\n", BAD },
	{ "$101\r\n", MORE },
	{ "$99999999999999999999\r\n", BAD },
	{ "$-2\r\n", BAD },
	{ "?\r\n", BAD },
	{ "+O", MORE },
	{ "*1\r\n", MORE },
	{ "", MORE },
};

START_TEST(replies_are_bounded)
{
	struct reply_reader *r = reply_reader_new(100, 10);
	redisReply *reply = NULL;
	int got;

	ck_assert(reply_feed(r, replies[_i].bytes, strlen(replies[_i].bytes)));
	got = reply_next(r, &reply);
	ck_assert_msg(got ==
		(replies[_i].outcome == GOOD          ? 1
			: replies[_i].outcome == MORE ? 0
						      : -1),
	    "%s: %d", replies[_i].bytes, got);
	if (got > 0)
		reply_free(reply);
	if (got < 0)
		ck_assert_str_ne(reply_error(r), "");
	reply_reader_free(r);
}
END_TEST

START_TEST(limits_are_of_one_reply_and_not_of_all)
{
	struct reply_reader *r = reply_reader_new(100, 10);
	char text[64] = "*6\r\n$60\r\n";
	redisReply *reply;

	for (int i = 0; i < 100; i++) {
		char bytes[200];

		memset(text, 'x', sizeof(text));
		snprintf(
		    bytes, sizeof(bytes), "*2\r\n$60\r\n%.60s\r\n$40\r\n%.40s\r\n", text, text);
		ck_assert(reply_feed(r, bytes, strlen(bytes)));
		ck_assert_int_eq(reply_next(r, &reply), 1);
		ck_assert(reply_is_texts(reply));
		reply_free(reply);
	}
	ck_assert(reply_feed(r, "*2\r\n$60\r\n", 9));
	ck_assert(reply_feed(r, text, 60));
	ck_assert(reply_feed(r, "\r\n$41\r\n", 7));
	ck_assert(reply_feed(r, text, 41));
	ck_assert(reply_feed(r, "\r\n", 2));
	ck_assert_int_eq(reply_next(r, &reply), -1);
	reply_reader_free(r);
}
END_TEST

START_TEST(what_never_ends_is_given_up)
{
	struct reply_reader *r = reply_reader_new(1000, 10);
	char text[1000];
	redisReply *reply;
	int got = 0, fed = 0;

	memset(text, 'x', sizeof(text));
	ck_assert(reply_feed(r, _i == 0 ? "$1000000000\r\n" : "+", _i == 0 ? 13 : 1));
	while (got == 0 && fed < 10) {
		ck_assert(reply_feed(r, text, sizeof(text)));
		got = reply_next(r, &reply);
		fed++;
	}
	ck_assert_int_eq(got, -1);
	reply_reader_free(r);
}
END_TEST

START_TEST(bytes_may_come_one_by_one)
{
	static const char bytes[] = "*2\r\n$3\r\na\0b\r\n-MOVED 1 h:1\r\n";
	struct reply_reader *r = reply_reader_new(100, 10);
	redisReply *reply = NULL;

	for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
		ck_assert_ptr_null(reply);
		ck_assert(reply_feed(r, bytes + i, 1));
		ck_assert_int_ge(reply_next(r, &reply), 0);
	}
	ck_assert_ptr_nonnull(reply);
	ck_assert(!reply_is_texts(reply));
	ck_assert_uint_eq(reply_text(reply->element[0]).len, 3);
	ck_assert_ptr_null(reply_text(reply->element[1]).data);
	ck_assert(reply_is_error(reply->element[1], "MOVED"));
	ck_assert(!reply_is_error(reply->element[1], "MOVE"));
	ck_assert(!reply_is_error(reply->element[0], "a"));
	reply_free(reply);
	reply_reader_free(r);
}
END_TEST

#define ROWS(table) (int)(sizeof(table) / sizeof((table)[0]))

int
main(void)
{
	Suite *s = suite_create("auth-redis");
	TCase *t = tcase_create("parts");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, addresses_are_what_they_say, 0, ROWS(endpoints));
	tcase_add_test(t, a_path_or_name_that_is_too_long_is_refused);
	tcase_add_loop_test(t, keys_have_the_slots_of_the_specification, 0, ROWS(slots));
	tcase_add_loop_test(t, redirections_are_read_with_care, 0, ROWS(redirects));
	tcase_add_loop_test(t, names_in_keys_have_no_separators, 0, ROWS(names));
	tcase_add_test(t, what_has_no_value_or_too_long_a_one_has_no_key);
	tcase_add_test(t, no_two_names_have_the_same_key);
	tcase_add_loop_test(t, a_key_tells_whose_it_is, 0, ROWS(owners));
	tcase_add_loop_test(t, raw_names_are_only_for_keys_that_cannot_collide, 0, ROWS(pairs));
	tcase_add_test(t, patterns_take_texts_literally);
	tcase_add_loop_test(t, replies_are_bounded, 0, ROWS(replies));
	tcase_add_test(t, limits_are_of_one_reply_and_not_of_all);
	tcase_add_loop_test(t, what_never_ends_is_given_up, 0, 2);
	tcase_add_test(t, bytes_may_come_one_by_one);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
