/* SPDX-License-Identifier: Apache-2.0 */
#include "conf_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct grapnel_option tls_options[] = {
	{ .name = "ca_file", .type = GRAPNEL_OPTION_STRING, .flags = GRAPNEL_OPTION_REQUIRED,
	    .help = "Path of the CA." },
	{ .name = "verify", .type = GRAPNEL_OPTION_BOOL, .default_value = "yes" },
	{ 0 }
};
static const struct grapnel_option server_options[] = {
	{ .name = "port", .type = GRAPNEL_OPTION_INT, .default_value = "80", .min = 1,
	    .max = 65535, .help = "TCP port." },
	{ .name = "tls", .type = GRAPNEL_OPTION_BLOCK, .options = tls_options },
	{ 0 }
};
static const struct grapnel_option options[] = {
	{ .name = "password_file", .type = GRAPNEL_OPTION_STRING,
	    .help = "path of the password file" },
	{ .name = "greeting", .type = GRAPNEL_OPTION_STRING, .default_value = "hello there" },
	{ .name = "empty", .type = GRAPNEL_OPTION_STRING, .default_value = "" },
	{ .name = "count", .type = GRAPNEL_OPTION_INT, .default_value = "-3", .min = -5,
	    .max = 5 },
	{ .name = "any", .type = GRAPNEL_OPTION_INT },
	{ .name = "flag", .type = GRAPNEL_OPTION_BOOL, .default_value = "no" },
	{ .name = "ttl", .type = GRAPNEL_OPTION_DURATION, .default_value = "5m", .min = 1000,
	    .max = 3600000, .help = "How long an answer is kept." },
	{ .name = "size", .type = GRAPNEL_OPTION_BYTES, .default_value = "64k", .min = 1024,
	    .max = 1048576 },
	{ .name = "names", .type = GRAPNEL_OPTION_LIST, .default_value = "[a, 'b c']" },
	{ .name = "hash", .type = GRAPNEL_OPTION_ENUM, .default_value = "sha512",
	    .choices = "sha256|sha512|argon2" },
	{ .name = "code", .type = GRAPNEL_OPTION_INT, .flags = GRAPNEL_OPTION_SECRET, .min = 1,
	    .max = 9 },
	{ .name = "timeout", .type = GRAPNEL_OPTION_DURATION, .default_value = "1s" }, /* a common option, too */
	{ .name = "server", .type = GRAPNEL_OPTION_BLOCK, .options = server_options },
	{ 0 }
};
/* clang-format on */

static struct settings *settings;

/* The options of a plugin section with this text; NULL: messages say why. */
static struct plugin_options *
options_of(const char *section, const struct grapnel_option *table, struct conf_errors *errs)
{
	char text[4096];

	snprintf(text, sizeof(text), "plugin \"auth-file\" {\n%s\n}\n", section);
	conf_files_write("grapnel.conf", "listener \"a\" { bind = \"*:1\" }\n");
	conf_files_write("conf.d/20-auth-file.conf", text);
	settings_unref(settings);
	settings = conf_files_load();
	return plugin_options_new(&settings->plugins[0], table, errs);
}

static struct plugin_options *
good_options(const char *section)
{
	struct conf_errors errs = { 0 };
	struct plugin_options *o = options_of(section, options, &errs);

	ck_assert_msg(o != NULL, "%s", conf_files_messages(&errs));
	ck_assert_uint_eq(errs.count, 0);
	return o;
}

static void
teardown(void)
{
	settings_unref(settings);
	settings = NULL;
	conf_files_end();
}

static void
check_str(struct grapnel_str got, const char *expected)
{
	if (expected == NULL) {
		ck_assert_ptr_null(got.data);
		return;
	}
	ck_assert_ptr_nonnull(got.data);
	ck_assert_msg(got.len == strlen(expected) && memcmp(got.data, expected, got.len) == 0,
	    "%.*s instead of %s", (int)got.len, got.data, expected);
}

START_TEST(defaults_are_in_force_when_nothing_is_written)
{
	struct plugin_options *o = good_options("");

	check_str(plugin_option_str(o, NULL, "password_file"), NULL);
	check_str(plugin_option_str(o, NULL, "greeting"), "hello there");
	check_str(plugin_option_str(o, NULL, "empty"), "");
	ck_assert_int_eq(plugin_option_int(o, NULL, "count"), -3);
	ck_assert_int_eq(plugin_option_int(o, NULL, "any"), 0);
	ck_assert(!plugin_option_bool(o, NULL, "flag"));
	ck_assert_int_eq(plugin_option_int(o, NULL, "ttl"), 300000);
	ck_assert_int_eq(plugin_option_int(o, NULL, "size"), 65536);
	check_str(plugin_option_list(o, NULL, "names", 0), "a");
	check_str(plugin_option_list(o, NULL, "names", 1), "b c");
	check_str(plugin_option_list(o, NULL, "names", 2), NULL);
	check_str(plugin_option_str(o, NULL, "hash"), "sha512");
	ck_assert_int_eq(plugin_option_int(o, NULL, "timeout"), 1000);
	ck_assert(!plugin_option_given(o, NULL, "greeting"));
	ck_assert_ptr_null(plugin_option_block(o, NULL, "server", 0, NULL));
	check_str(plugin_option_where(o, NULL, "greeting"),
	    "conf.d/20-auth-file.conf:1"); /* the section */
	check_str(plugin_option_where(o, NULL, NULL), "conf.d/20-auth-file.conf:1");
	plugin_options_free(o);
}
END_TEST

START_TEST(given_values_are_in_force)
{
	struct plugin_options *o = good_options(
	    "password_file = '/p'\ngreeting = ''\ncount = 5 any = -99999999999\nflag = yes\n"
	    "ttl = 2s size = 1m names = [x] hash = argon2 timeout = 7s order = 3 order_acl_check = "
	    "4");

	check_str(plugin_option_str(o, NULL, "password_file"), "/p");
	check_str(plugin_option_str(o, NULL, "greeting"), "");
	ck_assert_int_eq(plugin_option_int(o, NULL, "count"), 5);
	ck_assert_int_eq(plugin_option_int(o, NULL, "any"), INT64_C(-99999999999));
	ck_assert(plugin_option_bool(o, NULL, "flag"));
	ck_assert_int_eq(plugin_option_int(o, NULL, "ttl"), 2000);
	ck_assert_int_eq(plugin_option_int(o, NULL, "size"), 1048576);
	check_str(plugin_option_list(o, NULL, "names", 0), "x");
	check_str(plugin_option_list(o, NULL, "names", 1), NULL);
	check_str(plugin_option_str(o, NULL, "hash"), "argon2");
	ck_assert_int_eq(plugin_option_int(o, NULL, "timeout"), 7000); /* both the plugin's ... */
	ck_assert_uint_eq(settings->plugins[0].timeout_ms, 7000);      /* ... and the host's */
	ck_assert(plugin_option_given(o, NULL, "greeting"));
	check_str(plugin_option_where(o, NULL, "flag"), "conf.d/20-auth-file.conf:5");
	plugin_options_free(o);
}
END_TEST

START_TEST(one_value_is_a_list_and_a_list_may_be_empty)
{
	struct plugin_options *o = good_options("names = only");

	check_str(plugin_option_list(o, NULL, "names", 0), "only");
	check_str(plugin_option_list(o, NULL, "names", 1), NULL);
	plugin_options_free(o);
	o = good_options("names = []");
	check_str(plugin_option_list(o, NULL, "names", 0), NULL);
	ck_assert(plugin_option_given(o, NULL, "names"));
	plugin_options_free(o);
}
END_TEST

START_TEST(nested_blocks_have_their_own_options)
{
	struct plugin_options *o =
	    good_options("server \"one\" {\nport = 81\n tls { ca_file = /ca } }\n"
			 "server \"two\" { }\nserver { tls { ca_file = /b\nverify = no } }\n");
	const struct grapnel_block *server, *tls;
	struct grapnel_str title;

	server = plugin_option_block(o, NULL, "server", 0, &title);
	ck_assert_ptr_nonnull(server);
	check_str(title, "one");
	ck_assert_int_eq(plugin_option_int(o, server, "port"), 81);
	ck_assert(plugin_option_given(o, server, "port"));
	check_str(plugin_option_where(o, server, "port"), "conf.d/20-auth-file.conf:3");
	check_str(plugin_option_where(o, server, NULL), "conf.d/20-auth-file.conf:2");
	tls = plugin_option_block(o, server, "tls", 0, NULL);
	ck_assert_ptr_nonnull(tls);
	check_str(plugin_option_str(o, tls, "ca_file"), "/ca");
	ck_assert(plugin_option_bool(o, tls, "verify"));
	check_str(plugin_option_where(o, tls, "verify"), "conf.d/20-auth-file.conf:4");
	ck_assert_ptr_null(plugin_option_block(o, server, "tls", 1, NULL));

	server = plugin_option_block(o, NULL, "server", 1, &title);
	check_str(title, "two");
	ck_assert_int_eq(plugin_option_int(o, server, "port"), 80);
	ck_assert_ptr_null(plugin_option_block(o, server, "tls", 0, NULL));

	server = plugin_option_block(o, NULL, "server", 2, &title);
	check_str(title, NULL);
	tls = plugin_option_block(o, server, "tls", 0, NULL);
	ck_assert(!plugin_option_bool(o, tls, "verify"));
	ck_assert_ptr_null(plugin_option_block(o, NULL, "server", 3, &title));
	ck_assert(plugin_option_given(o, NULL, "server"));
	plugin_options_free(o);
}
END_TEST

START_TEST(a_name_of_another_type_or_unknown_is_absent)
{
	struct plugin_options *o = good_options("any = 7");

	check_str(plugin_option_str(o, NULL, "any"), NULL);
	check_str(plugin_option_str(o, NULL, "nothing"), NULL);
	check_str(plugin_option_list(o, NULL, "greeting", 0), NULL);
	ck_assert_int_eq(plugin_option_int(o, NULL, "greeting"), 0);
	ck_assert_int_eq(plugin_option_int(o, NULL, "flag"), 0);
	ck_assert(!plugin_option_bool(o, NULL, "any"));
	ck_assert(!plugin_option_given(o, NULL, "nothing"));
	ck_assert_ptr_null(plugin_option_block(o, NULL, "names", 0, NULL));
	check_str(plugin_option_where(o, NULL, "nothing"), "conf.d/20-auth-file.conf:1");
	plugin_options_free(o);
}
END_TEST

START_TEST(a_plugin_without_options_needs_no_table)
{
	struct conf_errors errs = { 0 };
	struct plugin_options *o = options_of("order = 3", NULL, &errs);

	ck_assert_msg(o != NULL, "%s", conf_files_messages(&errs));
	check_str(plugin_option_str(o, NULL, "x"), NULL);
	plugin_options_free(o);
	ck_assert_ptr_null(options_of("x = 3", NULL, &errs));
	ck_assert_uint_eq(errs.count, 1);
	conf_errors_clear(&errs);
}
END_TEST

#define AT "conf.d/20-auth-file.conf:2: plugin \"auth-file\": "

static const struct {
	const char *section, *messages;
} refused_cases[] = {
	{ "pasword_file = x",
	    AT "unknown option \"pasword_file\"; did you mean \"password_file\"? (path of the "
	       "password file)" },
	{ "ttI = 1s",
	    AT "unknown option \"ttI\"; did you mean \"ttl\"? (how long an answer is kept)" },
	{ "order_acl_chek = 1",
	    AT "unknown option \"order_acl_chek\"; did you mean \"order_acl_check\"? (place among "
	       "the plugins for acl_check alone)" },
	{ "enbled = no",
	    AT
	    "unknown option \"enbled\"; did you mean \"enabled\"? (whether the plugin is loaded)" },
	{ "sever { }", AT "unknown section \"sever\"; did you mean \"server\"?" },
	{ "greeting { }", AT "\"greeting\" is an option, not a section: write greeting = ..." },
	{ "server = x", AT "\"server\" is a section, not an option: write server { ... }" },
	{ "server = [x]", AT "\"server\" is a section, not an option: write server { ... }" },
	{ "greeting = [x]", AT "\"greeting\" takes one value, not a list" },
	{ "names { }", AT "\"names\" is an option, not a section: write names = ..." },
	{ "count = x", AT "\"count\" must be a whole number, not \"x\"" },
	{ "count = 1.5", AT "\"count\" must be a whole number, not \"1.5\"" },
	{ "count = 6", AT "\"count\" must be between -5 and 5, not \"6\"" },
	{ "count = -6", AT "\"count\" must be between -5 and 5, not \"-6\"" },
	{ "flag = true", AT "\"flag\" must be yes or no, not \"true\"" },
	{ "ttl = soon",
	    AT "\"ttl\" must be a duration such as 500ms, 10s, 5m, 2h or 14d, not \"soon\" (how "
	       "long an answer is kept)" },
	{ "ttl = 999ms",
	    AT "\"ttl\" must be between 1s and 1h, not \"999ms\" (how long an answer is kept)" },
	{ "ttl = 2h",
	    AT "\"ttl\" must be between 1s and 1h, not \"2h\" (how long an answer is kept)" },
	{ "size = 1x", AT "\"size\" must be a size such as 512, 64k, 1m or 2g, not \"1x\"" },
	{ "size = 2m", AT "\"size\" must be between 1k and 1m, not \"2m\"" },
	{ "hash = sha215",
	    AT
	    "\"hash\" must be sha256, sha512 or argon2, not \"sha215\"; did you mean \"sha256\"?" },
	{ "hash = sha", AT "\"hash\" must be sha256, sha512 or argon2, not \"sha\"" },
	{ "hash = ''", AT "\"hash\" must be sha256, sha512 or argon2, not \"\"" },
	{ "hash = 'sha256|sha512'",
	    AT "\"hash\" must be sha256, sha512 or argon2, not \"sha256|sha512\"" },
	{ "code = 1234",
	    AT "\"code\" must be between 1 and 9, not \"...\"" }, /* a secret is not shown */
	{ "code = abc", AT "\"code\" must be a whole number, not \"...\"" },
	{ "server \"s\" { prt = 1 }",
	    AT "server \"s\": unknown option \"prt\"; did you mean \"port\"? (TCP port)" },
	{ "server \"s\" { order = 1 }",
	    AT "server \"s\": unknown option \"order\"; known here: port, tls" },
	{ "server { port = 0 }",
	    AT "server: \"port\" must be between 1 and 65535, not \"0\" (TCP port)" },
	{ "server \"s\" { tls { } }",
	    AT "server \"s\": tls: required option \"ca_file\" is missing (path of the CA)" },
	{ "server \"s\" { tls { ca_file = x verify = 1 } }",
	    AT "server \"s\": tls: \"verify\" must be yes or no, not \"1\"" },
	{ "count = 6 flag = 1 nothing_like_it = 1 server { port = x }",
	    AT "\"count\" must be between -5 and 5, not \"6\"\n" AT
	       "\"flag\" must be yes or no, not \"1\"\n" AT
	       "unknown option \"nothing_like_it\"; known here: password_file, greeting, empty, "
	       "count, any, flag, ttl, size, names, "
	       "hash, code, timeout, server, breaker_failures, breaker_max_wait, breaker_wait, "
	       "cache, cache_jitter, cache_negative_ttl, cache_size, cache_ttl, drain, enabled, "
	       "event_queue, listeners, max_pending, max_values, max_values_bytes, module, "
	       "offload_queue, offload_threads, on_error, "
	       "order, order_acl_check, order_client_auth_exchange, ..."
	       "\n" AT "server: \"port\" must be a whole number, not \"x\" (TCP port)" },
};

START_TEST(every_error_is_named_with_file_line_and_what_to_do)
{
	struct conf_errors errs = { 0 };
	const char *got, *expected = refused_cases[_i].messages;

	ck_assert_ptr_null(options_of(refused_cases[_i].section, options, &errs));
	got = conf_files_messages(&errs);
	ck_assert_msg(strcmp(got, expected) == 0, "%.900s\ninstead of\n%.900s", got, expected);
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(what_is_required_must_be_there)
{
	/* clang-format off */
	static const struct grapnel_option table[] = {
		{ .name = "path", .type = GRAPNEL_OPTION_STRING, .flags = GRAPNEL_OPTION_REQUIRED,
		    .help = "Where it is." },
		{ .name = "bare", .type = GRAPNEL_OPTION_INT, .flags = GRAPNEL_OPTION_REQUIRED },
		{ .name = "server", .type = GRAPNEL_OPTION_BLOCK,
		    .flags = GRAPNEL_OPTION_REQUIRED, .options = server_options },
		{ 0 }
	};
	/* clang-format on */
	struct conf_errors errs = { 0 };
	struct plugin_options *o;

	ck_assert_ptr_null(options_of("", table, &errs));
	ck_assert_str_eq(conf_files_messages(&errs),
	    "conf.d/20-auth-file.conf:1: plugin \"auth-file\": required option \"path\" is missing "
	    "(where it is)\n"
	    "conf.d/20-auth-file.conf:1: plugin \"auth-file\": required option \"bare\" is "
	    "missing\n"
	    "conf.d/20-auth-file.conf:1: plugin \"auth-file\": required section \"server\" is "
	    "missing");
	conf_errors_clear(&errs);
	o = options_of("path = x bare = 0 server { }", table, &errs);
	ck_assert_msg(o != NULL, "%s", conf_files_messages(&errs));
	plugin_options_free(o);
}
END_TEST

/* clang-format off */
static const struct grapnel_option no_choices[] = {
	{ .name = "x", .type = GRAPNEL_OPTION_ENUM },
	{ 0 }
};
static const struct grapnel_option no_options[] = {
	{ .name = "x", .type = GRAPNEL_OPTION_BLOCK },
	{ 0 }
};
/* clang-format on */
static const struct grapnel_option new_type[] = {
	{ .name = "x", .type = (enum grapnel_option_type)9 }, { 0 }
};
/* clang-format off */
static const struct grapnel_option no_type[] = {
	{ .name = "x" },
	{ 0 }
};
static const struct grapnel_option twice[] = {
	{ .name = "x", .type = 1 },
	{ .name = "x", .type = 1 },
	{ 0 }
};
/* clang-format on */
static const struct grapnel_option bad_default[] = {
	{ .name = "x", .type = GRAPNEL_OPTION_INT, .default_value = "y" }, { 0 }
};
static const struct grapnel_option far_default[] = {
	{ .name = "x", .type = GRAPNEL_OPTION_INT, .default_value = "9", .min = 1, .max = 2 }, { 0 }
};
static const struct grapnel_option broken_default[] = {
	{ .name = "x", .type = GRAPNEL_OPTION_LIST, .default_value = "[a" }, { 0 }
};
static struct grapnel_option too_many[300];

static const struct {
	const struct grapnel_option *table;
	const char *why;
} table_cases[] = {
	{ no_choices, "option \"x\": it has no choices" },
	{ no_options, "option \"x\": it has no options of its own" },
	{ new_type, "option \"x\": this broker does not know its type" },
	{ no_type, "option \"x\": this broker does not know its type" },
	{ twice, "option \"x\": its name is there twice" },
	{ bad_default, "option \"x\": default:1: \"default\" must be a whole number, not \"y\"" },
	{ far_default, "option \"x\": default:1: \"default\" must be between 1 and 2, not \"9\"" },
	{ broken_default, "option \"x\": its default cannot be read" },
	{ too_many, "option \"n256\": it has too many rows" },
};

START_TEST(a_table_that_makes_no_sense_is_refused)
{
	static char names[300][8];
	struct conf_errors errs = { 0 };
	char expected[200];

	for (unsigned i = 0; i < 299; i++) {
		snprintf(names[i], sizeof(names[i]), "n%u", i);
		too_many[i] =
		    (struct grapnel_option){ .name = names[i], .type = GRAPNEL_OPTION_INT };
	}
	snprintf(expected, sizeof(expected),
	    "conf.d/20-auth-file.conf:1: plugin \"auth-file\": the plugin's table is wrong at %s",
	    table_cases[_i].why);
	ck_assert_ptr_null(options_of("", table_cases[_i].table, &errs));
	ck_assert_str_eq(conf_files_messages(&errs), expected);
	conf_errors_clear(&errs);
}
END_TEST

/* A block that may hold itself: as deep as the file, not as the table. */
static struct grapnel_option self[] = {
	{ .name = "a", .type = GRAPNEL_OPTION_INT, .default_value = "1" },
	{ .name = "self", .type = GRAPNEL_OPTION_BLOCK, .options = self }, { 0 }
};

START_TEST(a_table_may_contain_itself)
{
	struct conf_errors errs = { 0 };
	struct plugin_options *o = options_of("self { self { self { a = 2 } } }", self, &errs);
	const struct grapnel_block *b = NULL;

	ck_assert_msg(o != NULL, "%s", conf_files_messages(&errs));
	for (int depth = 0; depth < 3; depth++)
		b = plugin_option_block(o, b, "self", 0, NULL);
	ck_assert_int_eq(plugin_option_int(o, b, "a"), 2);
	ck_assert_ptr_null(plugin_option_block(o, b, "self", 0, NULL));
	plugin_options_free(o);
}
END_TEST

static const struct {
	const char *was, *is;
	bool equal;
} equal_cases[] = {
	{ "", "", true },
	{ "greeting = a", "\n\ngreeting = 'a'", true }, /* another line, other quotes */
	{ "order = 1", "order = 2", true },             /* not the plugin's own */
	{ "greeting = a", "greeting = b", false },
	{ "greeting = a", "", false },
	{ "greeting = 'hello there'", "", false }, /* option_given tells the difference */
	{ "any = 1", "any = 2", false },
	{ "flag = yes", "flag = no", false },
	{ "names = [a, b]", "names = [a, b]", true },
	{ "names = [a, b]", "names = [b, a]", false },
	{ "names = [a, b]", "names = [a]", false },
	{ "server \"x\" { }", "server \"x\" { }", true },
	{ "server \"x\" { }", "server \"y\" { }", false },
	{ "server \"x\" { }", "server { }", false },
	{ "server \"x\" { }", "", false },
	{ "server \"x\" { port = 1 }", "server \"x\" { port = 2 }", false },
	{ "server \"x\" { tls { ca_file = a } }", "server \"x\" { tls { ca_file = b } }", false },
	{ "server \"x\" { tls { ca_file = a } }", "server \"x\" { tls { ca_file = a } }", true },
};

START_TEST(a_reload_sees_whether_anything_changed)
{
	struct plugin_options *was = good_options(equal_cases[_i].was),
			      *is = good_options(equal_cases[_i].is);

	ck_assert_int_eq(plugin_options_equal(was, is), equal_cases[_i].equal);
	ck_assert_int_eq(plugin_options_equal(is, was), equal_cases[_i].equal);
	plugin_options_free(was);
	plugin_options_free(is);
}
END_TEST

START_TEST(a_known_table_decides_what_is_printed)
{
	struct plugin_options *o =
	    good_options("password_file = /p code = 5 greeting = ${GRAPNEL_TEST_HOME}");
	char *text = settings_print(settings);

	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_nonnull(
	    strstr(text, "\tpassword_file = /p\n")); /* only looks like a secret */
	ck_assert_ptr_nonnull(strstr(text, "\tcode = \"***\"\n"));
	ck_assert_ptr_nonnull(strstr(text, "\tgreeting = \"***\"\n")); /* from outside */
	free(text);
	plugin_options_free(o);
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("plugin_options");
	TCase *tc = tcase_create("options");
	SRunner *runner;
	int failed;

	setenv("GRAPNEL_TEST_HOME", "/home", 1);
	tcase_add_checked_fixture(tc, conf_files_begin, teardown);
	tcase_add_test(tc, defaults_are_in_force_when_nothing_is_written);
	tcase_add_test(tc, given_values_are_in_force);
	tcase_add_test(tc, one_value_is_a_list_and_a_list_may_be_empty);
	tcase_add_test(tc, nested_blocks_have_their_own_options);
	tcase_add_test(tc, a_name_of_another_type_or_unknown_is_absent);
	tcase_add_test(tc, a_plugin_without_options_needs_no_table);
	LOOP(tc, every_error_is_named_with_file_line_and_what_to_do, refused_cases);
	tcase_add_test(tc, what_is_required_must_be_there);
	LOOP(tc, a_table_that_makes_no_sense_is_refused, table_cases);
	tcase_add_test(tc, a_table_may_contain_itself);
	LOOP(tc, a_reload_sees_whether_anything_changed, equal_cases);
	tcase_add_test(tc, a_known_table_decides_what_is_printed);
	suite_add_tcase(s, tc);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
