/* SPDX-License-Identifier: Apache-2.0 */
/* Selections made from sections as an operator writes them, read by the broker's own parser. */
#include "../plugins/events/record.h"
#include "../plugins/events/select.h"
#include "conf_files.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct grapnel_option rows[] = { SELECT_ROW_CLIENTS, SELECT_ROW_EVENTS,
	SELECT_ROW_SAMPLE, SELECT_ROW_SAMPLE_BY, SELECT_ROW_TOPICS, SELECT_ROW_USERS, { 0 } };
static const struct grapnel_option table[] = { SELECT_ROW_CLIENTS,
	{ .name = "endpoint", .type = GRAPNEL_OPTION_BLOCK, .options = rows }, SELECT_ROW_EVENTS,
	SELECT_ROW_SAMPLE, SELECT_ROW_SAMPLE_BY, SELECT_ROW_TOPICS, SELECT_ROW_USERS, { 0 } };

static struct settings *settings;
static struct plugin_options *options;
static char errors[4096];

static struct grapnel_str
option_str(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self;
	return plugin_option_str(options, block, name);
}

static int64_t
option_int(const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self;
	return plugin_option_int(options, block, name);
}

static struct grapnel_str
option_list(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, size_t i)
{
	(void)self;
	return plugin_option_list(options, block, name, i);
}

static bool
option_given(
    const struct grapnel_instance *self, const struct grapnel_block *block, const char *name)
{
	(void)self;
	return plugin_option_given(options, block, name);
}

static void
config_error(const struct grapnel_instance *self, const struct grapnel_block *block,
    const char *name, const char *format, ...)
{
	size_t n = strlen(errors);
	va_list args;

	(void)self, (void)block;
	n += (size_t)snprintf(errors + n, sizeof(errors) - n, "%s: ", name);
	va_start(args, format);
	vsnprintf(errors + n, sizeof(errors) - n, format, args);
	va_end(args);
	strcat(errors, "\n");
}

static const struct grapnel_host host = { .size = sizeof(host),
	.option_str = option_str,
	.option_int = option_int,
	.option_list = option_list,
	.option_given = option_given,
	.config_error = config_error };

#define ALL (GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_COUNT) - 1)

static void
teardown(void)
{
	plugin_options_free(options);
	options = NULL;
	settings_unref(settings);
	settings = NULL;
	conf_files_end();
}

static struct selection *
try_selection(const char *section, uint64_t possible)
{
	struct conf_errors errs = { 0 };
	char text[4096];

	snprintf(text, sizeof(text), "listener \"a\" { bind = \"*:1\" }\nplugin \"p\" {\n%s\n}\n",
	    section);
	plugin_options_free(options);
	settings_unref(settings);
	settings = conf_files_load_text(text);
	options = plugin_options_new(&settings->plugins[0], table, &errs);
	ck_assert_msg(options != NULL, "%s", conf_files_messages(&errs));
	errors[0] = '\0';
	return select_new(&host, NULL, NULL, possible, "format = small");
}

static struct selection *
selection(const char *section)
{
	struct selection *s = try_selection(section, ALL);

	ck_assert_msg(s != NULL, "%s", errors);
	ck_assert_str_eq(errors, "");
	return s;
}

static struct grapnel_str
str(const char *s)
{
	return (struct grapnel_str){ s, s != NULL ? strlen(s) : 0 };
}

/* ---- who, what about ------------------------------------------------------------------------ */

static const struct {
	const char *section;
	enum grapnel_event_type type;
	const char *client, *user, *topic, *filter, *author;
	bool wanted;
} cases[] = {
	/* nothing said */
	{ "", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", NULL, NULL, NULL, NULL, true },
	{ "", GRAPNEL_EVENT_MESSAGE_PUBLISHED, "c", "u", "a/b", NULL, NULL, true },
	{ "", GRAPNEL_EVENT_MESSAGE_DELIVERED, "c", "u", "$SYS/broker/x", NULL, NULL, false },
	{ "", GRAPNEL_EVENT_MESSAGE_DELIVERED, "c", "u", "$SYSTEM/x", NULL, NULL, true },
	{ "", GRAPNEL_EVENT_SUBSCRIBED, "c", "u", NULL, "$SYS/#", NULL, true },
	{ "", GRAPNEL_EVENT_BROKER_READY, NULL, NULL, NULL, NULL, NULL, true },
	/* events */
	{ "events = client_connected", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", NULL, NULL, NULL, NULL,
	    true },
	{ "events = client_connected", GRAPNEL_EVENT_CLIENT_REFUSED, "c", NULL, NULL, NULL, NULL,
	    false },
	{ "events = client_connected", GRAPNEL_EVENT_GAP, NULL, NULL, NULL, NULL, NULL, true },
	{ "events = client_connected", GRAPNEL_EVENT_BROKER_READY, NULL, NULL, NULL, NULL, NULL,
	    false },
	/* topics */
	{ "topics = 'a/#'", GRAPNEL_EVENT_MESSAGE_PUBLISHED, "c", NULL, "a/b/c", NULL, NULL, true },
	{ "topics = 'a/#'", GRAPNEL_EVENT_MESSAGE_PUBLISHED, "c", NULL, "a", NULL, NULL, true },
	{ "topics = 'a/#'", GRAPNEL_EVENT_MESSAGE_PUBLISHED, "c", NULL, "ab", NULL, NULL, false },
	{ "topics = 'a/#'", GRAPNEL_EVENT_MESSAGE_PUBLISHED, "c", NULL, "b/a", NULL, NULL, false },
	{ "topics = [x, 'a/+']", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a/", NULL, NULL, true },
	{ "topics = [x, 'a/+']", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a", NULL, NULL, false },
	{ "topics = [x, 'a/+']", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a/b/c", NULL, NULL,
	    false },
	{ "topics = '+/+'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "/x", NULL, NULL, true },
	{ "topics = '/+'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "/x", NULL, NULL, true },
	{ "topics = '+'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "/x", NULL, NULL, false },
	{ "topics = 'a/+/#'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a/b", NULL, NULL, true },
	{ "topics = 'a/+/#'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a", NULL, NULL, false },
	{ "topics = 'a/b'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "a/b/", NULL, NULL, false },
	{ "topics = 'a/#'", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", NULL, NULL, NULL, NULL, true },
	{ "topics = '#'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "$SYS/x", NULL, NULL, false },
	{ "topics = '+/x'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "$SYS/x", NULL, NULL, false },
	{ "topics = '#'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "$other/x", NULL, NULL, false },
	{ "topics = '$SYS/#'", GRAPNEL_EVENT_MESSAGE_DROPPED, "c", NULL, "$SYS/x", NULL, NULL,
	    true },
	/* subscriptions: the filter is covered */
	{ "topics = 'a/#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "a/+/b", NULL, true },
	{ "topics = 'a/#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "a/#", NULL, true },
	{ "topics = 'a/#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "#", NULL, false },
	{ "topics = 'a/+'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "a/#", NULL, false },
	{ "topics = 'a/+'", GRAPNEL_EVENT_UNSUBSCRIBED, "c", NULL, NULL, "a/+", NULL, true },
	{ "topics = 'a/b'", GRAPNEL_EVENT_UNSUBSCRIBED, "c", NULL, NULL, "a/+", NULL, false },
	{ "topics = 'a/#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "$share/g/a/b", NULL, true },
	{ "topics = '#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "$share/g/a/b", NULL, true },
	{ "topics = '#'", GRAPNEL_EVENT_SUBSCRIBED, "c", NULL, NULL, "$SYS/#", NULL, false },
	/* clients and users */
	{ "clients = 'sensor-*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "sensor-", NULL, NULL, NULL, NULL,
	    true },
	{ "clients = 'sensor-*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "sensor-1", NULL, NULL, NULL,
	    NULL, true },
	{ "clients = 'sensor-*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "xsensor-1", NULL, NULL, NULL,
	    NULL, false },
	{ "clients = 'a?c'", GRAPNEL_EVENT_CLIENT_CONNECTED, "abc", NULL, NULL, NULL, NULL, true },
	{ "clients = 'a?c'", GRAPNEL_EVENT_CLIENT_CONNECTED, "ac", NULL, NULL, NULL, NULL, false },
	{ "clients = 'a?c'", GRAPNEL_EVENT_CLIENT_CONNECTED, "abcd", NULL, NULL, NULL, NULL,
	    false },
	{ "clients = [x, '*b*d']", GRAPNEL_EVENT_CLIENT_CONNECTED, "abcbcd", NULL, NULL, NULL, NULL,
	    true },
	{ "clients = [x, '*b*d']", GRAPNEL_EVENT_CLIENT_CONNECTED, "abcbc", NULL, NULL, NULL, NULL,
	    false },
	{ "clients = '*aab'", GRAPNEL_EVENT_CLIENT_CONNECTED, "aaab", NULL, NULL, NULL, NULL,
	    true },
	{ "clients = '*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "", NULL, NULL, NULL, NULL, true },
	{ "clients = '?'", GRAPNEL_EVENT_CLIENT_CONNECTED, "", NULL, NULL, NULL, NULL, false },
	{ "clients = 'a'", GRAPNEL_EVENT_BROKER_STOPPING, NULL, NULL, NULL, NULL, NULL, true },
	{ "users = 'u*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", "u1", NULL, NULL, NULL, true },
	{ "users = 'u*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "u1", "c", NULL, NULL, NULL, false },
	{ "users = '*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", NULL, NULL, NULL, NULL, false },
	{ "users = '*'", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", "", NULL, NULL, NULL, true },
	{ "clients = c\nusers = u", GRAPNEL_EVENT_CLIENT_CONNECTED, "c", "v", NULL, NULL, NULL,
	    false },
	/* of a message that no client has at hand, its author */
	{ "clients = 'a*'", GRAPNEL_EVENT_RETAINED_SET, NULL, NULL, "t", NULL, "abc", true },
	{ "clients = 'a*'", GRAPNEL_EVENT_RETAINED_SET, NULL, NULL, "t", NULL, "xyz", false },
	{ "clients = 'a*'", GRAPNEL_EVENT_RETAINED_SET, NULL, NULL, "t", NULL, NULL, true },
	/* and of one that comes to a client, that one */
	{ "clients = 'a*'", GRAPNEL_EVENT_MESSAGE_DELIVERED, "x", NULL, "t", NULL, "abc", false },
};

START_TEST(an_event_passes_when_all_that_is_said_fits)
{
	struct selection *s = selection(cases[_i].section);
	struct grapnel_client_info client = { .client_id = str(cases[_i].client),
		.username = str(cases[_i].user) };
	struct grapnel_message_info message = { .topic_name = str(cases[_i].topic),
		.author_client_id = str(cases[_i].author) };
	struct grapnel_event ev = { .type = cases[_i].type,
		.client = cases[_i].client != NULL ? &client : NULL,
		.message = cases[_i].topic != NULL ? &message : NULL,
		.filter = str(cases[_i].filter) };

	ck_assert_msg(
	    select_wants(s, &ev) == cases[_i].wanted, "row %d: %s", _i, cases[_i].section);
	if (ev.type == GRAPNEL_EVENT_MESSAGE_PUBLISHED)
		ck_assert(select_may_want_publish(s, &client, &message) == cases[_i].wanted);
	select_free(s);
}
END_TEST

START_TEST(a_hostile_name_costs_no_more_than_its_length_allows)
{
	static char id[65535];
	struct selection *s = selection("clients = '*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b'");
	struct grapnel_client_info client = { .client_id = { id, sizeof(id) } };
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_CONNECTED, .client = &client };

	memset(id, 'a', sizeof(id));
	ck_assert(!select_wants(s, &ev)); /* exponential: it would not come back */
	select_free(s);
}
END_TEST

START_TEST(of_a_block_the_blocks_own_options_count)
{
	struct selection *outer = selection("events = client_connected\nendpoint \"e\" {\n"
					    "events = [client_refused, broker_ready]\n}"),
			 *inner;
	const struct grapnel_block *block = plugin_option_block(options, NULL, "endpoint", 0, NULL);

	inner = select_new(&host, NULL, block, ALL, "");
	ck_assert_uint_eq(select_mask(outer),
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED) |
		GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP));
	ck_assert_uint_eq(select_mask(inner),
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_REFUSED) |
		GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_BROKER_READY) |
		GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP));
	select_free(outer);
	select_free(inner);
}
END_TEST

START_TEST(without_names_all_that_is_possible_is_wanted)
{
	uint64_t possible = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_SUBSCRIBED);
	struct selection *s = try_selection("", possible);
	struct grapnel_message_info m = { .topic_name = str("a") };
	struct grapnel_client_info c = { .client_id = str("c") };

	ck_assert_uint_eq(select_mask(s), possible | GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_GAP));
	ck_assert(!select_may_want_publish(s, &c, &m));
	select_free(s);
}
END_TEST

/* ---- sampling --------------------------------------------------------------------------------- */

START_TEST(one_of_so_many_events_is_taken)
{
	struct selection *s = selection("sample = 10");
	struct grapnel_client_info client = { .client_id = str("c") };
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_CONNECTED, .client = &client };
	unsigned taken = 0;

	for (ev.id.sequence = 0; ev.id.sequence < 100000; ev.id.sequence++) {
		bool wanted = select_wants(s, &ev);

		taken += wanted;
		ck_assert(wanted == select_wants(s, &ev)); /* the same event, the same answer */
	}
	ck_assert_uint_gt(taken, 9000);
	ck_assert_uint_lt(taken, 11000);
	ev.type = GRAPNEL_EVENT_GAP;
	for (ev.id.sequence = 0; ev.id.sequence < 100; ev.id.sequence++)
		ck_assert(select_wants(s, &ev));
	select_free(s);
}
END_TEST

START_TEST(of_a_client_all_or_nothing_is_taken)
{
	struct selection *s = selection("sample = 10\nsample_by = client");
	struct grapnel_client_info client = { 0 };
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_CONNECTED, .client = &client };
	unsigned taken = 0;
	char id[16];

	for (unsigned i = 0; i < 10000; i++) {
		bool wanted;

		snprintf(id, sizeof(id), "client-%u", i);
		client.client_id = str(id);
		ev.id.sequence = i;
		wanted = select_wants(s, &ev);
		taken += wanted;
		for (ev.id.sequence = 0; ev.id.sequence < 5; ev.id.sequence++)
			ck_assert(select_wants(s, &ev) == wanted);
	}
	ck_assert_uint_gt(taken, 800);
	ck_assert_uint_lt(taken, 1200);
	ev.client = NULL;
	ck_assert(select_wants(s, &ev));
	select_free(s);
}
END_TEST

/* ---- what is refused -------------------------------------------------------------------------- */

static const struct {
	const char *section, *error;
} refused[] = {
	{ "events = client_conected",
	    "events: there is no event \"client_conected\"; \"client_connected\"?\n" },
	{ "events = [subscribed, connect]",
	    "events: there is no event \"connect\"; there are client_connected, client_refused, "
	    "client_disconnected, session_created, subscribed\n" },
	{ "events = message_published",
	    "events: format = small knows no event \"message_published\"; leave it out\n" },
	{ "events = []",
	    "events: it is empty, so that nothing would pass; leave it out when all shall\n" },
	{ "topics = ''", "topics: \"\" is no Topic Filter: it is empty\n" },
	{ "topics = [a, 'a/#/b']",
	    "topics: \"a/#/b\" is no Topic Filter: # must be its last "
	    "level\n" },
	{ "topics = 'a+'",
	    "topics: \"a+\" is no Topic Filter: + and # must have a level of their own\n" },
	{ "topics = 'a/b#'",
	    "topics: \"a/b#\" is no Topic Filter: + and # must have a level of their own\n" },
	{ "topics = '$share/g/a'",
	    "topics: \"$share/g/a\" is no Topic Filter: an event has no Shared Subscription; leave "
	    "out $share/ and the name behind it\n" },
	{ "topics = []\nusers = []",
	    "topics: it is empty, so that nothing would pass; leave it out when all shall\n"
	    "users: it is empty, so that nothing would pass; leave it out when all shall\n" },
};

START_TEST(what_makes_no_sense_is_refused_with_what_to_do)
{
	uint64_t possible = GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_CONNECTED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_REFUSED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_CLIENT_DISCONNECTED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_SESSION_CREATED) |
	    GRAPNEL_EVENT_BIT(GRAPNEL_EVENT_SUBSCRIBED);

	ck_assert_ptr_null(try_selection(refused[_i].section, possible));
	ck_assert_str_eq(errors, refused[_i].error);
}
END_TEST

#define LOOP(tc, test, rows_) \
	tcase_add_loop_test(tc, test, 0, (int)(sizeof(rows_) / sizeof((rows_)[0])))

int
main(void)
{
	Suite *s = suite_create("event_select");
	TCase *tc = tcase_create("selections");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, conf_files_begin, teardown);
	LOOP(tc, an_event_passes_when_all_that_is_said_fits, cases);
	tcase_add_test(tc, a_hostile_name_costs_no_more_than_its_length_allows);
	tcase_add_test(tc, of_a_block_the_blocks_own_options_count);
	tcase_add_test(tc, without_names_all_that_is_possible_is_wanted);
	tcase_add_test(tc, one_of_so_many_events_is_taken);
	tcase_add_test(tc, of_a_client_all_or_nothing_is_taken);
	LOOP(tc, what_makes_no_sense_is_refused_with_what_to_do, refused);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
