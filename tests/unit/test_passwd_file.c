/* SPDX-License-Identifier: Apache-2.0 */
#include "../../plugins/common/passwd_file.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BCRYPT "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e"
#define MOSQ                                                              \
	"$7$101$9Huhl+0cJcusFb3n$Cq+QeWzICi2zY8XZK8tmRkqvAS7DmN3PqoGFyL+" \
	"7Z2m3hQUzia13emQEkYgwZXj19+Afk"                                  \
	"BuDiG6EN69VYoJOJw=="
#define ARGON "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"

#define KEY32 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define KEY64 \
	"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="
#define S256   "SCRAM-SHA-256$4096:c2FsdA==$" KEY32 ":" KEY32
#define S256_8 "SCRAM-SHA-256$8192:c2FsdA==$" KEY32 ":" KEY32
#define S512   "SCRAM-SHA-512$4096:c2FsdA==$" KEY64 ":" KEY64

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, strlen(s) };
}

static struct passwd_file *
parse(const char *text, size_t len, char *error, size_t error_size)
{
	char *copy =
	    malloc(len > 0 ? len : 1); /* exactly as long: a read behind the end is found */

	ck_assert_ptr_nonnull(copy);
	memcpy(copy, text, len);
	return passwd_file_parse(copy, len, "pw", error, error_size);
}

static bool
is(struct grapnel_str s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

START_TEST(users_are_found_by_their_exact_name)
{
	static const char text[] = "# comment: " BCRYPT "\n"
				   "\n"
				   "alice:" BCRYPT "\r\n"
				   "  bob\t: " MOSQ "  \n"
				   "   \n"
				   "ann lee:" ARGON;
	char error[200] = "";
	struct passwd_file *f = parse(text, sizeof(text) - 1, error, sizeof(error));
	struct passwd_entry e;

	ck_assert_msg(f != NULL, "%s", error);
	ck_assert_uint_eq(passwd_file_count(f), 3);
	ck_assert(passwd_file_find(f, str("alice"), &e) && is(e.hash, BCRYPT) && e.line == 3);
	ck_assert(passwd_file_find(f, str("bob"), &e) && is(e.hash, MOSQ) && e.line == 4);
	ck_assert(passwd_file_find(f, str("ann lee"), &e) && is(e.hash, ARGON) && e.line == 6);
	ck_assert(!passwd_file_find(f, str("Alice"), &e));
	ck_assert(!passwd_file_find(f, str("alic"), &e));
	ck_assert(!passwd_file_find(f, str("alice "), &e));
	ck_assert(!passwd_file_find(f, (struct grapnel_str){ "alice\0", 6 }, &e));
	ck_assert(!passwd_file_find(f, str(""), &e));
	ck_assert(!passwd_file_find(f, (struct grapnel_str){ NULL, 0 }, &e));
	ck_assert(!passwd_file_find(f, str("# comment"), &e));
	passwd_file_free(f);
}
END_TEST

START_TEST(an_empty_file_has_no_users)
{
	static const char *const texts[] = { "", "\n", "\r\n \n", "# only this" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		char error[100];
		struct passwd_file *f = parse(texts[i], strlen(texts[i]), error, sizeof(error));
		struct passwd_entry e;

		ck_assert_ptr_nonnull(f);
		ck_assert_uint_eq(passwd_file_count(f), 0);
		ck_assert(!passwd_file_find(f, str("a"), &e));
		ck_assert_ptr_null(passwd_file_typical(f, SCRAM_NONE).data);
		passwd_file_free(f);
	}
}
END_TEST

static const struct {
	const char *text, *error;
} bad[] = {
	{ "alice", "pw:1: the line has no ':'" },
	{ "\n#\nalice\n", "pw:3: the line has no ':'" },
	{ "alice:", "pw:1: user \"alice\" has no password hash" },
	{ "alice: \t\r\n", "pw:1: user \"alice\" has no password hash" },
	{ ":" BCRYPT, "pw:1: the user name is empty" },
	{ " :" BCRYPT, "pw:1: the user name is empty" },
	{ "a\x01:" BCRYPT, "pw:1: the user name has a control character" },
	{ "alice:secret",
	    "pw:1: password of user \"alice\": not a password hash that is known here" },
	{ "alice:$7$101$AAAA", "pw:1: password of user \"alice\": the hash is malformed" },
	{ "alice:$7$99999999$c2FsdHNhbHRzYWx0$AAAA",
	    "pw:1: password of user \"alice\": the hash would cost more" },
	{ "alice:" BCRYPT ":extra", "pw:1: password of user \"alice\": the hash is malformed" },
	{ "alice:" BCRYPT "\nbob:" BCRYPT "\nalice:" MOSQ,
	    "pw:3: user \"alice\" is on line 1 already" },
};

START_TEST(a_malformed_line_is_an_error_never_a_user_without_a_password)
{
	char error[200] = "";

	ck_assert_ptr_null(parse(bad[_i].text, strlen(bad[_i].text), error, sizeof(error)));
	ck_assert_msg(
	    strncmp(error, bad[_i].error, strlen(bad[_i].error)) == 0, "row %d: %s", _i, error);
	ck_assert_ptr_null(strstr(error, "secret"));
	ck_assert_ptr_null(strstr(error, "$"));
}
END_TEST

START_TEST(a_nul_is_an_error_not_the_end_of_a_line)
{
	static const char in_name[] = "al\0ice:" BCRYPT, in_hash[] = "alice:" BCRYPT "\0junk";
	char error[200];

	ck_assert_ptr_null(parse(in_name, sizeof(in_name) - 1, error, sizeof(error)));
	ck_assert_ptr_null(parse(in_hash, sizeof(in_hash) - 1, error, sizeof(error)));
}
END_TEST

START_TEST(the_typical_hash_costs_what_most_cost)
{
	static const char text[] =
	    "a:" MOSQ "\nb:" BCRYPT "\nc:" ARGON "\nd:" BCRYPT "\ne:" MOSQ "\nf:" BCRYPT "\n";
	char error[200];
	struct passwd_file *f = parse(text, sizeof(text) - 1, error, sizeof(error));

	ck_assert_ptr_nonnull(f);
	ck_assert(is(passwd_file_typical(f, SCRAM_NONE), BCRYPT));
	passwd_file_free(f);
}
END_TEST

START_TEST(a_user_has_a_line_for_each_scram_method_and_one_more)
{
	static const char text[] = "a:" S512 "\n# between\nb:" BCRYPT "\na:" S256 "\na:" MOSQ
				   "\nc:" S256_8 "\nd:" S256 "\n";
	char error[200] = "";
	struct passwd_file *f = parse(text, sizeof(text) - 1, error, sizeof(error));
	struct passwd_entry e;

	ck_assert_msg(f != NULL, "%s", error);
	ck_assert_uint_eq(passwd_file_users(f), 4);
	ck_assert_uint_eq(passwd_file_count(f), 6);
	ck_assert(passwd_file_find(f, str("a"), &e) && is(e.hash, S512)); /* the first */
	e = passwd_file_at(f, e.next - 1);
	ck_assert(is(e.name, "a") && is(e.hash, S256) && e.line == 4);
	e = passwd_file_at(f, e.next - 1);
	ck_assert(is(e.name, "a") && is(e.hash, MOSQ) && e.next == 0);
	ck_assert(passwd_file_find_scram(f, str("a"), SCRAM_SHA_256, &e) && is(e.hash, S256));
	ck_assert(passwd_file_find_scram(f, str("a"), SCRAM_SHA_512, &e) && is(e.hash, S512));
	ck_assert(!passwd_file_find_scram(f, str("b"), SCRAM_SHA_256, &e));
	ck_assert(!passwd_file_find_scram(f, str("c"), SCRAM_SHA_512, &e));
	ck_assert(!passwd_file_find_scram(f, str("x"), SCRAM_SHA_256, &e));
	ck_assert(!passwd_file_find_scram(f, str(""), SCRAM_SHA_256, &e));
	ck_assert(is(passwd_file_typical(f, SCRAM_SHA_256), S256));
	ck_assert(is(passwd_file_typical(f, SCRAM_SHA_512), S512));
	passwd_file_free(f);
}
END_TEST

START_TEST(a_second_line_of_a_kind_is_an_error)
{
	static const char *const texts[] = { "a:" S256 "\na:" S512 "\na:" S256_8 "\n",
		"a:" S256 "\na:" MOSQ "\na:" ARGON, "a:" S512 "\na:" BCRYPT "\na:" S512 };
	char error[200];

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		ck_assert_ptr_null(parse(texts[i], strlen(texts[i]), error, sizeof(error)));
		ck_assert_msg(strstr(error, "pw:3: user \"a\" is on line ") != NULL, "%s", error);
	}
}
END_TEST

START_TEST(a_hundred_thousand_users_are_all_found)
{
	enum { USERS = 100000 };
	size_t size = (size_t)USERS * 80, n = 0;
	char *text = malloc(size), error[200] = "", name[32];
	struct passwd_file *f;
	struct passwd_entry e;

	ck_assert_ptr_nonnull(text);
	for (unsigned i = 0; i < USERS; i++)
		n += (size_t)snprintf(text + n, size - n, "user%u:%s\n", i, BCRYPT);
	f = passwd_file_parse(text, n, "pw", error, sizeof(error));
	ck_assert_msg(f != NULL, "%s", error);
	for (unsigned i = 0; i < USERS; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		ck_assert(passwd_file_find(f, str(name), &e));
		ck_assert_uint_eq(e.line, i + 1);
	}
	ck_assert(!passwd_file_find(f, str("user100000"), &e));
	passwd_file_free(f);
}
END_TEST

START_TEST(names_that_a_file_cannot_keep_are_told)
{
	ck_assert_ptr_null(passwd_name_problem(str("pump 7/\xc3\xa4#+")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("a:b")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("a\nb")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("a\x7f")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("#a")));
	ck_assert_ptr_nonnull(passwd_name_problem(str(" a")));
	ck_assert_ptr_nonnull(passwd_name_problem(str("a ")));
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof(*(table))))

int
main(void)
{
	Suite *s = suite_create("passwd_file");
	TCase *tc = tcase_create("passwd_file");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, users_are_found_by_their_exact_name);
	tcase_add_test(tc, an_empty_file_has_no_users);
	tcase_add_loop_test(
	    tc, a_malformed_line_is_an_error_never_a_user_without_a_password, 0, ROWS(bad));
	tcase_add_test(tc, a_nul_is_an_error_not_the_end_of_a_line);
	tcase_add_test(tc, the_typical_hash_costs_what_most_cost);
	tcase_add_test(tc, a_user_has_a_line_for_each_scram_method_and_one_more);
	tcase_add_test(tc, a_second_line_of_a_kind_is_an_error);
	tcase_add_test(tc, a_hundred_thousand_users_are_all_found);
	tcase_add_test(tc, names_that_a_file_cannot_keep_are_told);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
