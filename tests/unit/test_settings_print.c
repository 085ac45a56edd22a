/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is in force, as text; and what a reload may change, which is told in the same words.
 */
#include "conf_files.h"

#include "config/options.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTENER "listener \"mqtt\" { bind = \"127.0.0.1:1883\" }\n"

/* ---- reload ---------------------------------------------------------------------------------- */

#define BASE "listener \"a\" { bind = \"*:1\" }\nlistener \"u\" { bind = \"unix:/x\" }\n"

static const struct {
	const char *was, *is, *messages; /* "": can be reloaded */
} reload_cases[] = {
	{ BASE, BASE, "" },
	{ BASE "log { level = info }", BASE "log { level = debug format = json to = syslog }", "" },
	{ BASE, BASE "limits { max_qos = 0 max_sessions = 3 }", "" },
	{ BASE, BASE "sys_interval = 1s", "" },
	{ BASE, BASE "plugin \"p\" { x = 1 }", "" },
	{ BASE "plugin \"p\" { x = 1 }", BASE "plugin \"p\" { x = 2 order = 4 }", "" },
	{ BASE, "listener \"u\" { bind = \"unix:/x\" }\nlistener \"a\" { bind = \"*:1\" }",
	    "" }, /* only the order differs */
	{ BASE,
	    "listener \"a\" { bind = \"*:1\" anonymous = yes max_qos = 1 mountpoint = x backlog = "
	    "3 }\n"
	    "listener \"u\" { bind = \"unix:/x\" }",
	    "" },
	{ BASE "workers = 2", BASE "\nworkers = 3",
	    "grapnel.conf:4: \"workers\" cannot change from 2 to 3 without a restart" },
	{ BASE "workers = 1", "workers = 1\nprofile = edge\n" BASE,
	    "grapnel.conf:2: \"profile\" cannot change from server to edge without a restart\n"
	    "grapnel.conf: \"read_buffer\" cannot change from 64k to 16k without a restart" },
	{ BASE "user = a", BASE,
	    "grapnel.conf: \"user\" cannot change from \"a\" to none without a restart" },
	{ BASE, BASE "plugin_directory = /p",
	    "grapnel.conf:3: \"plugin_directory\" cannot change from \"" GRAPNEL_PLUGIN_DIR
	    "\" to \"/p\" without a restart" },
	{ BASE, BASE "store { directory = /s\ndurability = off }",
	    "grapnel.conf:3: store: \"directory\" cannot change from \"/var/lib/grapnel\" to "
	    "\"/s\" without a restart\n"
	    "grapnel.conf:4: store: \"durability\" cannot change from strict to off without a "
	    "restart" },
	{ BASE, BASE "admin { socket = none }",
	    "grapnel.conf:3: admin: \"socket\" cannot change from \"/run/grapnel/admin.sock\" to "
	    "none without a restart" },
	{ BASE,
	    "listener \"a\" {\nbind = \"*:2\" }\nlistener \"u\" { bind = \"unix:/x\" unix_mode = "
	    "0666 }",
	    "grapnel.conf:2: listener \"a\": \"bind\" cannot change from \"*:1\" to \"*:2\" "
	    "without a restart\n"
	    "grapnel.conf:3: listener \"u\": \"unix_mode\" cannot change from 0660 to 0666 without "
	    "a restart" },
	{ BASE, BASE "listener \"n\" { bind = \"*:3\" }",
	    "grapnel.conf:3: listener \"n\" cannot be added without a restart" },
	{ BASE, "listener \"a\" { bind = \"*:1\" }",
	    "grapnel.conf: listener \"u\" (grapnel.conf:2) cannot be removed without a restart" },
	{ BASE,
	    "listener \"A\" { bind = \"*:1\" }\nlistener \"u\" { bind = \"unix:/x\" }\nworkers = "
	    "200",
	    "grapnel.conf:3: \"workers\" cannot change from 1 to 200 without a restart\n"
	    "grapnel.conf:1: listener \"A\" cannot be added without a restart\n"
	    "grapnel.conf: listener \"a\" (grapnel.conf:1) cannot be removed without a restart" },
};

START_TEST(a_reload_names_what_needs_a_restart)
{
	struct conf_errors errs = { 0 };
	struct settings *was, *is;
	const char *expected = reload_cases[_i].messages;

	was = conf_files_load_text(reload_cases[_i].was);
	if (strstr(reload_cases[_i].is, "workers = 200") != NULL)
		was->workers = 1; /* was: one per CPU of this machine */
	is = conf_files_load_text(reload_cases[_i].is);
	ck_assert_int_eq(settings_reloadable(was, is, &errs), expected[0] == '\0');
	ck_assert_str_eq(conf_files_messages(&errs), expected);
	conf_errors_clear(&errs);
	settings_unref(was);
	settings_unref(is);
}
END_TEST

/* ---- printing -------------------------------------------------------------------------------- */

START_TEST(what_is_printed_reads_back_as_the_same)
{
	struct settings *s = conf_files_load_text(
	    "workers = 3 user = 'a \"b\" ${c} \\ $' pid_file = \"none\" "
	    "node_name = n sys_interval = 1500ms\n"
	    "admin { mode = 0601 } log { level = debug format = json to = "
	    "\"/x y\" } store { durability = relaxed }\n"
	    "limits { protocol_versions = [3.1] max_packet_size = 1025 "
	    "max_session_expiry = 90m byte_rate = 3k takeover = any }\n"
	    "listener \"a\" { bind = \"*:1\" mountpoint = \"t\\n\" max_qos = "
	    "1 share_strategy = sticky }\n"
	    "listener \"u\" { bind = \"unix:/x\" unix_owner = me }\n"
	    "listener \"t\" { bind = \"*:2\" tls = yes certificate = [a, 'b c'] "
	    "private_key = [k, l] tls_minimum = 1.3 client_ca = '/ca \"x\"' "
	    "client_certificate = optional crl = c identity = san psk_file = p "
	    "server_name \"*.Example.org\" { certificate = e private_key = f "
	    "ocsp_response = o } server_name \"x\" { certificate = g private_key = "
	    "h } }\n"
	    "plugin \"p\" { order_acl_check = 4 timeout = 250ms host = h list "
	    "= [a, 'b c'] server \"s 1\" { port = 5 in { q = '' } } listeners = all }\n"
	    "plugin \"of-one\" { listeners = u }\n");
	char *first = settings_print(s), *second;
	struct settings *again;

	ck_assert_ptr_nonnull(first);
	again = conf_files_load_text(first);
	ck_assert_str_eq(again->user, "a \"b\" ${c} \\ $");
	ck_assert_str_eq(again->pid_file, "none");
	ck_assert_mem_eq(&again->limits, &s->limits, sizeof(s->limits));
	ck_assert_mem_eq(&again->listeners[0].limits, &s->listeners[0].limits, sizeof(s->limits));
	ck_assert_str_eq(again->listeners[0].mountpoint, "t\n");
	ck_assert_uint_eq(again->listeners[2].server_name_count, 2);
	ck_assert_str_eq(again->listeners[2].server_names[0].name, "*.example.org");
	ck_assert_str_eq(again->listeners[2].server_names[0].ocsp_response, "o");
	ck_assert_str_eq(again->listeners[2].certificate.items[1], "b c");
	ck_assert_str_eq(again->listeners[2].client_ca, "/ca \"x\"");
	ck_assert_int_eq(again->listeners[2].identity, IDENTITY_SAN);
	ck_assert_uint_eq(again->plugins[0].timeout_ms, 250);
	ck_assert_uint_eq(again->plugins[0].hook_order_count, 1);
	ck_assert_uint_eq(again->plugins[0].listeners.count, 0);
	ck_assert_uint_eq(again->plugins[1].listeners.count, 1);
	ck_assert_str_eq(again->plugins[1].listeners.items[0], "u");
	second = settings_print(again);
	ck_assert_ptr_nonnull(second);
	/* Only lines that tell where a section stood may differ. */
	for (char *a = strtok(first, "\n"), *b = second; a != NULL; a = strtok(NULL, "\n")) {
		b += strspn(b, "\n");
		size_t len = strcspn(b, "\n");

		if (a[0] != '#')
			ck_assert_msg(strlen(a) == len && strncmp(a, b, len) == 0, "%s: %.*s", a,
			    (int)len, b);
		b += len;
	}
	free(first);
	free(second);
	settings_unref(again);
	settings_unref(s);
}
END_TEST

START_TEST(the_profile_in_force_is_printed_with_what_it_changes)
{
	struct settings *s = conf_files_load_text(
	    "profile = edge\n" LISTENER "plugin \"p\" { offload_queue = 7 }\n");
	char *text = settings_print(s);
	static const char *const lines[] = { "\nprofile = edge\n", "\nworkers = 1\n",
		"\nread_buffer = 16k\n", "\tmax_queued_messages = 1000\n",
		"\tretained_max_bytes = 8m\n", "\tbacklog = 128\n", "\toffload_threads = 1\n",
		"\toffload_queue = 7\n" };

	ck_assert_ptr_nonnull(text);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		ck_assert_msg(strstr(text, lines[i]) != NULL, "%s in:\n%s", lines[i], text);
	free(text);
	settings_unref(s);
}
END_TEST

static void
check_printed(const char *text, const struct option_def *table)
{
	for (const struct option_def *row = table; row != NULL && row->name != NULL; row++) {
		char line[80];

		snprintf(line, sizeof(line), "%s = ", row->name);
		if (row->type != OPTION_ORDER) /* those only when given */
			ck_assert_msg(strstr(text, line) != NULL, "%s", line);
	}
}

START_TEST(every_option_in_force_is_printed)
{
	struct settings *s =
	    conf_files_load_text("listener \"a\" { bind = \"*:1\" }\nlistener \"u\" { bind = "
				 "\"unix:/x\" }\nplugin \"p\" { own = 1 }\n"
				 "require \"all\" { plugins = [p] }\n");
	char *text = settings_print(s);

	ck_assert_ptr_nonnull(text);
	for (const struct section_def *section = settings_sections; section->name != NULL;
	     section++) {
		check_printed(text, section->tables[0]);
		check_printed(text, section->tables[1]);
	}
	ck_assert_ptr_nonnull(strstr(text, "# grapnel.conf:3\nplugin \"p\" {\n"));
	ck_assert_ptr_nonnull(strstr(text, "\town = 1\n"));
	free(text);
	settings_unref(s);
}
END_TEST

static const struct {
	const char *line, *printed;
} secret_cases[] = {
	{ "plain = value", "plain = value" },
	{ "plain = 'two words'", "plain = \"two words\"" },
	{ "x = ${GRAPNEL_TEST_SECRET}", "x = \"***\"" },
	{ "x = \"a${GRAPNEL_TEST_SECRET}b\"", "x = \"***\"" },
	{ "x = ${file:secret}", "x = \"***\"" },
	{ "password = hunter2", "password = \"***\"" },
	{ "db_Password = hunter2", "db_Password = \"***\"" },
	{ "client_secret = hunter2", "client_secret = \"***\"" },
	{ "token = hunter2", "token = \"***\"" },
	{ "api_key = hunter2", "api_key = \"***\"" },
	{ "api_keys = [hunter2, 'hunter2']", "api_keys = [\"***\", \"***\"]" },
	{ "list = [a, ${GRAPNEL_TEST_SECRET}]", "list = [a, \"***\"]" },
	{ "url = \"http://u:hunter2@h/p?q\"", "url = \"http://***@h/p?q\"" },
	{ "url = http://u:hunter2@h", "url = \"http://***@h\"" },
	{ "url = \"redis://:hunter2/@2@h\"", "url = \"redis://***@h\"" },
	{ "url = \"http://h/p\"", "url = \"http://h/p\"" },
	{ "mail = \"a@b\"", "mail = \"a@b\"" },
	{ "dsn = \"host=h password=hunter2\"", "dsn = \"***\"" },
	{ "server \"http://u:hunter2@h\" { password = hunter2 }",
	    "server \"http://***@h\" {\n\t\tpassword = \"***\"\n\t}" },
};

START_TEST(secrets_are_not_printed)
{
	char text[400], expected[400];
	struct settings *s;
	char *printed;

	setenv("GRAPNEL_TEST_SECRET", "hunter2", 1);
	conf_files_write("secret", "hunter2\n");
	snprintf(text, sizeof(text), LISTENER "plugin \"p\" { %s }\n", secret_cases[_i].line);
	snprintf(expected, sizeof(expected), "\n\t%s\n}\n", secret_cases[_i].printed);
	s = conf_files_load_text(text);
	printed = settings_print(s);
	ck_assert_ptr_nonnull(printed);
	ck_assert_msg(strstr(printed, expected) != NULL, "%s\nin %s", expected, printed);
	ck_assert_ptr_null(strstr(printed, "hunter2"));
	free(printed);
	settings_unref(s);
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("settings_print");
	TCase *tc = tcase_create("printing");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, conf_files_begin, conf_files_end);
	LOOP(tc, a_reload_names_what_needs_a_restart, reload_cases);
	tcase_add_test(tc, what_is_printed_reads_back_as_the_same);
	tcase_add_test(tc, the_profile_in_force_is_printed_with_what_it_changes);
	tcase_add_test(tc, every_option_in_force_is_printed);
	LOOP(tc, secrets_are_not_printed, secret_cases);
	suite_add_tcase(s, tc);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
