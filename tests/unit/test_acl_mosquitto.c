/* SPDX-License-Identifier: Apache-2.0 */
/* What Mosquitto 2.0.11 does with the same acl_file; each row was measured there. */
#include "core/acl.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define READ_  1u
#define WRITE_ 2u
#define NONE_  0u
#define BOTH_  (READ_ | WRITE_)

static const char first_file[] = "# comment\n"
				 "topic read anon/#\n"
				 "topic $SYS/#\n"
				 "\n"
				 "user alice\n"
				 "topic read a/#\n"
				 "topic deny a/secret/#\n"
				 "topic write w/+\n"
				 "topic readwrite with space\n"
				 "topic plain/both\n"
				 "topic deny pat/alice/no\n"
				 "\n"
				 "user bob\n"
				 "topic readwrite #\n"
				 "\n"
				 "pattern readwrite pat/%u/#\n"
				 "pattern read cid/%c/x\n"
				 "pattern deny pat/+/locked\n"
				 "pattern read fixed/#\n"
				 "\n"
				 "user alice\n"
				 "topic read second/section\n";

static const char second_file[] = "topic read read\n"
				  "\n"
				  "user alice\n"
				  "topic readwrite pat/alice/locked\n"
				  "topic readwrite #\n"
				  "topic readwrite $foo/#\n"
				  "topic deny d/+\n"
				  "user   carol two  \r\n"
				  "topic read   spaced  out/#  \n"
				  "user dave\n"
				  "topic read\n"
				  "topic %u/lit\n"
				  "topic +/plus\n"
				  "pattern deny pat/+/locked\n"
				  "pattern readwrite %%/%u/x\n"
				  "pattern readwrite %c/#\n"
				  "pattern readwrite pre%u/%cpost\n";

static const struct {
	const char *file, *user, *client, *topic;
	unsigned want;
} measured[] = {
	/* `topic` before the first `user`: for clients without a user name only */
	{ first_file, NULL, "c1", "anon/1", READ_ },
	{ first_file, NULL, "c1", "a/1", NONE_ },
	{ first_file, NULL, "c1", "cid/c1/x", READ_ },
	{ first_file, NULL, "c1", "fixed/1", READ_ },
	{ first_file, NULL, "c1", "pat/alice/1", NONE_ }, /* %u without a user name */
	{ first_file, NULL, "c1", "other", NONE_ },
	{ first_file, "", "c1", "anon/1", READ_ },
	{ first_file, "", "c1", "pat/alice/1", NONE_ },
	{ first_file, "alice", "c1", "anon/1", NONE_ },
	{ first_file, "carol", "c1", "anon/1", NONE_ },
	/* a user's lines, in all sections of that name */
	{ first_file, "alice", "c1", "a", READ_ },
	{ first_file, "alice", "c1", "a/1", READ_ },
	{ first_file, "alice", "c1", "a/secret/1", NONE_ }, /* deny goes first */
	{ first_file, "alice", "c1", "a/secret", NONE_ },
	{ first_file, "alice", "c1", "w/1", WRITE_ },
	{ first_file, "alice", "c1", "w/1/2", NONE_ },
	{ first_file, "alice", "c1", "with space", BOTH_ },
	{ first_file, "alice", "c1", "plain/both", BOTH_ },
	{ first_file, "alice", "c1", "second/section", READ_ },
	{ first_file, "alice", "c1", "other", NONE_ },
	{ first_file, "bob", "c1", "other", BOTH_ },
	{ first_file, "carol", "c1", "a/1", NONE_ },
	{ first_file, "carol", "c1", "second/section", NONE_ },
	/* patterns are for everyone */
	{ first_file, "alice", "c1", "pat/alice/1", BOTH_ },
	{ first_file, "alice", "c1", "pat/alice/no", NONE_ },
	{ first_file, "alice", "c1", "pat/x/y/1", NONE_ },
	{ first_file, "alice", "c1", "pat/carol", NONE_ },
	{ first_file, "alice", "c1", "cid/c1/x", READ_ },
	{ first_file, "carol", "c1", "pat/carol", BOTH_ },
	{ first_file, "carol", "c1", "pat/carol/locked", NONE_ },
	{ first_file, "carol", "c1", "fixed/1", READ_ },
	{ first_file, "x/y", "c1", "pat/x/y/1", BOTH_ },
	{ first_file, "x/y", "c1", "pat/x/1", NONE_ },
	/* and closed to names with wildcards in them, those without substitution too */
	{ first_file, "a+", "c1", "pat/a/1", NONE_ },
	{ first_file, "a+", "c1", "cid/c1/x", NONE_ },
	{ first_file, "a+", "c1", "fixed/1", NONE_ },
	{ first_file, "#", "c1", "pat/carol", NONE_ },
	{ first_file, "carol", "c+", "pat/carol", NONE_ },
	{ first_file, "carol", "c+", "fixed/1", NONE_ },
	/* the user's lines go before the patterns, a pattern's deny included */
	{ second_file, "alice", "c1", "pat/alice/locked", BOTH_ },
	{ second_file, "alice", "c1", "d/1", NONE_ },
	{ second_file, "alice", "c1", "d", BOTH_ },
	{ second_file, "alice", "c1", "d/1/2", BOTH_ },
	{ second_file, "alice", "c1", "$foo/x", BOTH_ },
	{ second_file, "alice", "c1", "$bar/x", NONE_ }, /* '#' is not for $-topics */
	{ second_file, "dave", "c1", "$bar/plus", NONE_ },
	{ second_file, "dave", "c1", "x/plus", BOTH_ },
	/* spaces: at the ends cut, inside kept; user names may have them too */
	{ second_file, "carol two", "c1", "spaced  out/1", READ_ },
	{ second_file, "carol two", "c1", "spaced  out", READ_ },
	{ second_file, "carol two", "c1", "spaced out/1", NONE_ },
	/* one word behind `topic` is the topic, whatever the word */
	{ second_file, NULL, "c1", "read", READ_ },
	{ second_file, "dave", "c1", "read", BOTH_ },
	{ second_file, NULL, "c1", "x", NONE_ },
	/* substitution in `pattern` only, and "%%" is nothing special */
	{ second_file, "dave", "c1", "%u/lit", BOTH_ },
	{ second_file, "dave", "c1", "dave/lit", NONE_ },
	{ second_file, "dave", "c1", "%%/dave/x", BOTH_ },
	{ second_file, "dave", "c1", "%/dave/x", NONE_ },
	{ second_file, NULL, "c1", "%%/u/x", NONE_ },
	{ second_file, "dave", "c1", "predave/c1post", BOTH_ },
	{ second_file, NULL, "c1", "c1", BOTH_ },
	{ second_file, NULL, "c1", "c1/1", BOTH_ },
	{ second_file, "dave", "a/b", "a/b/1", BOTH_ },
	{ second_file, "dave", "a/b", "a/b", BOTH_ },
	{ second_file, "dave", "a/b", "a", NONE_ },
	/* The one difference: Mosquitto lets a client that calls itself "$bar" write $bar/1. */
	{ second_file, "dave", "$bar", "$bar/1", NONE_ },
	{ second_file, "dave", "$bar", "$bar", NONE_ },
};

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

static enum grapnel_verdict
ask(const struct grapnel_rules *r, const char *user, const char *client, enum grapnel_action action,
    const char *topic, uint32_t *flags)
{
	struct grapnel_rules_question q = {
		.size = sizeof(q),
		.action = action,
		.topic = str(topic),
		.client_id = str(client),
		.username = str(user),
	};

	return acl_rules_check(r, &q, flags, NULL);
}

static struct grapnel_rules *
compile(const char *text)
{
	char error[200];
	struct grapnel_rules *r =
	    acl_rules_compile(str(text), str("acl"), true, error, sizeof(error));

	ck_assert_msg(r != NULL, "%s", error);
	return r;
}

START_TEST(acl_file_means_what_it_means_to_mosquitto)
{
	struct grapnel_rules *r = compile(measured[_i].file);
	const char *user = measured[_i].user, *client = measured[_i].client;
	unsigned got = 0;

	if (ask(r, user, client, GRAPNEL_READ, measured[_i].topic, NULL) == GRAPNEL_ALLOW)
		got |= READ_;
	if (ask(r, user, client, GRAPNEL_PUBLISH, measured[_i].topic, NULL) == GRAPNEL_ALLOW)
		got |= WRITE_;
	ck_assert_msg(got == measured[_i].want, "row %d: %s %s %s: %u", _i,
	    user != NULL ? user : "(none)", client, measured[_i].topic, got);
	ck_assert_int_eq(
	    ask(r, user, client, GRAPNEL_WILL, measured[_i].topic, NULL) == GRAPNEL_ALLOW,
	    (got & WRITE_) != 0);
	acl_rules_unref(r);
}
END_TEST

START_TEST(subscribe_is_granted_to_everyone_also_where_nothing_may_be_read)
{
	static const char *const filters[] = { "nope/#", "a/secret/#", "#", "$SYS/#", "$foo/#",
		"pat/+/x" };
	static const char *const users[] = { NULL, "alice", "carol", "a+" };
	struct grapnel_rules *r = compile(first_file), *empty = compile("");

	for (size_t f = 0; f < sizeof(filters) / sizeof(*filters); f++)
		for (size_t u = 0; u < sizeof(users) / sizeof(*users); u++) {
			ck_assert_int_eq(
			    ask(r, users[u], "c1", GRAPNEL_SUBSCRIBE, filters[f], NULL),
			    GRAPNEL_ALLOW);
			ck_assert_int_eq(
			    ask(empty, users[u], "c1", GRAPNEL_SUBSCRIBE, filters[f], NULL),
			    GRAPNEL_ALLOW);
		}
	acl_rules_unref(r);
	acl_rules_unref(empty);
}
END_TEST

static const struct {
	const char *user, *client, *filter;
	bool covered;
} covered_cases[] = {
	{ "alice", "c1", "a/1", true },
	{ "alice", "c1", "a/#", false }, /* a/secret/# is taken out */
	{ "alice", "c1", "a/+", false }, /* a/secret */
	{ "alice", "c1", "a/x/#", true },
	{ "alice", "c1", "w/1", false }, /* write only */
	{ "alice", "c1", "#", false },
	{ "bob", "c1", "#", true },
	{ "bob", "c1", "$SYS/#", false },
	{ "carol", "c1", "pat/carol/#", false }, /* pat/carol/locked */
	{ "carol", "c1", "pat/carol/x/#", true },
	{ "carol", "c1", "cid/c1/x", true },
	{ "carol", "c1", "cid/+/x", false },
	{ "a+", "c1", "fixed/#", false },
	{ "carol", "c1", "fixed/#", true },
	{ NULL, "c1", "anon/#", true },
	{ "carol", "c1", "anon/#", false },
};

START_TEST(covered_only_where_delivery_needs_no_question)
{
	struct grapnel_rules *r = compile(first_file);
	uint32_t flags = 0;

	ck_assert_int_eq(ask(r, covered_cases[_i].user, covered_cases[_i].client, GRAPNEL_SUBSCRIBE,
			     covered_cases[_i].filter, &flags),
	    GRAPNEL_ALLOW);
	ck_assert_msg(flags == (covered_cases[_i].covered ? GRAPNEL_ACL_COVERED : 0u), "row %d: %s",
	    _i, covered_cases[_i].filter);
	acl_rules_unref(r);
}
END_TEST

START_TEST(an_empty_file_denies_instead_of_allowing)
{
	static const char *const blank[] = { "", "\n\n", "# nothing\n", " \r\n\t\n" };

	for (size_t i = 0; i < sizeof(blank) / sizeof(*blank); i++) {
		struct grapnel_rules *r = compile(blank[i]);

		ck_assert_int_eq(ask(r, NULL, "c", GRAPNEL_PUBLISH, "a", NULL), GRAPNEL_NEXT);
		ck_assert_int_eq(ask(r, "u", "c", GRAPNEL_READ, "a", NULL), GRAPNEL_NEXT);
		acl_rules_unref(r);
	}
}
END_TEST

/* Lines that Mosquitto refuses to start with, and their neighbours that it takes. */
static const struct {
	const char *line, *error; /* NULL: good */
} lines[] = {
	{ "topic", "acl:1: the topic is missing" },
	{ "topic ", "acl:1: the topic is missing" },
	{ "pattern", "acl:1: the topic is missing" },
	{ "foo x", "acl:1: \"foo\" is not known here" },
	{ "Topic read x", "acl:1: \"Topic\" is not known here" },
	{ "topic bad x", "acl:1: \"bad\" must be read, write" },
	{ "topic Read x", "acl:1: \"Read\" must be read, write" },
	{ "user", "acl:1: \"user\" needs a user name" },
	{ "user ", "acl:1: \"user\" needs a user name" },
	{ "topic a/#/b", "acl:1: \"a/#/b\": '#' must be" },
	{ "topic a+", "acl:1: \"a+\": '+' must be" },
	{ " # comment", "acl:1: \"#\" is not known here" },
	{ "\ttopic x", "acl:1: \"?topic\" is not known here" },
	{ "topic\tread\ta", "acl:1: \"topic?read?a\" is not known here" },
	{ "\n\ntopic deny a+b", "acl:3: \"a+b\": '+' must be" },
	{ "topic \xc3\x28", "acl:1: the line is not valid UTF-8" },
	{ " topic read y", NULL },
	{ "pattern deny", NULL },
	{ "topic read", NULL },
	{ "topic readwrite ", NULL },
	{ "topic read #", NULL },
	{ "topic #", NULL },
	{ "topic write $SYS/x", NULL },
	{ "pattern read %x/a", NULL },
	{ "user # x", NULL },
	{ "#x", NULL },
};

START_TEST(the_same_lines_are_refused_and_named)
{
	char error[200] = "";
	struct grapnel_rules *r =
	    acl_rules_compile(str(lines[_i].line), str("acl"), true, error, sizeof(error));

	if (lines[_i].error == NULL) {
		ck_assert_msg(r != NULL, "row %d: %s", _i, error);
		acl_rules_unref(r);
		return;
	}
	ck_assert_msg(r == NULL, "row %d: '%s'", _i, lines[_i].line);
	ck_assert_msg(
	    strncmp(error, lines[_i].error, strlen(lines[_i].error)) == 0, "row %d: %s", _i, error);
}
END_TEST

#define ROWS(table) ((int)(sizeof(table) / sizeof(*(table))))

int
main(void)
{
	Suite *s = suite_create("acl_mosquitto");
	TCase *tc = tcase_create("acl_mosquitto");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, acl_file_means_what_it_means_to_mosquitto, 0, ROWS(measured));
	tcase_add_test(tc, subscribe_is_granted_to_everyone_also_where_nothing_may_be_read);
	tcase_add_loop_test(
	    tc, covered_only_where_delivery_needs_no_question, 0, ROWS(covered_cases));
	tcase_add_test(tc, an_empty_file_denies_instead_of_allowing);
	tcase_add_loop_test(tc, the_same_lines_are_refused_and_named, 0, ROWS(lines));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
