/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as installed: it loads, and what it shows is what the broker does by itself.
 *
 * In these files a "#" right before a name switches a line off; prose has a space behind its "#".
 */
#include "conf_files.h"

#include "config/options.h"

#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is given although it is not the default. */
static const char *const chosen[] = { "user", "enabled", "order", "tls", "certificate", "private_key",
	"identity", "proxy_protocol", "trusted_proxies" };
static const char *const shown_nowhere[] = {
	"plugin_directory", /* decided when configure ran */
	"module",           /* only for a second instance */
};

static char names[32][64]; /* "conf.d/10-listeners.conf", as installed */
static char *texts[32];
static unsigned count;

static const char *
source_folder(void)
{
	static char path[512];
	const char *top = getenv("GRAPNEL_SRC");

	snprintf(path, sizeof(path), "%s/conf.d", top != NULL ? top : ".");
	return path;
}

static void
file_add(const char *name)
{
	char path[600];
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", source_folder(), name);
	f = fopen(path, "r");
	ck_assert_msg(f != NULL, "%s", path);
	ck_assert_uint_lt(count, 32);
	texts[count] = calloc(1, 65536);
	ck_assert_ptr_nonnull(texts[count]);
	len = fread(texts[count], 1, 65535, f);
	fclose(f);
	ck_assert_uint_gt(len, 0);
	/* Numbered files go to conf.d, the main file beside it. */
	snprintf(names[count], sizeof(names[count]), "%s%.50s",
	    name[0] >= '0' && name[0] <= '9' ? "conf.d/" : "", name);
	count++;
}

static void
setup(void)
{
	DIR *d = opendir(source_folder());
	struct dirent *e;

	ck_assert_msg(d != NULL, "%s", source_folder());
	count = 0;
	while ((e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);

		if (len > 5 && strcmp(e->d_name + len - 5, ".conf") == 0)
			file_add(e->d_name);
	}
	closedir(d);
	ck_assert_uint_ge(count, 4);
	conf_files_begin();
}

static void
teardown(void)
{
	for (unsigned i = 0; i < count; i++)
		free(texts[i]);
	conf_files_end();
}

/* Switch everything on that is switched off. */
static void
switch_on(char *text)
{
	char *out = text;
	bool line_begins = true;

	for (char *c = text; *c != '\0'; c++) {
		bool off = line_begins && *c == '#' && c[1] != ' ' && c[1] != '\n' &&
		    c[1] != '\0' && c[1] != '#';

		if (*c == '\n')
			line_begins = true;
		else if (*c != ' ' && *c != '\t')
			line_begins = false;
		if (!off)
			*out++ = *c;
	}
	*out = '\0';
}

static void
write_all(void)
{
	for (unsigned i = 0; i < count; i++)
		conf_files_write(names[i], texts[i]);
}

START_TEST(the_installed_files_load)
{
	struct settings *s;

	write_all();
	s = conf_files_load();
	ck_assert_uint_eq(s->listener_count, 1);
	ck_assert_str_eq(
	    s->listeners[0].bind, "127.0.0.1:1883"); /* reached from this machine only */
	ck_assert(!s->listeners[0].anonymous);
	ck_assert_str_eq(s->admin.socket, "/run/grapnel/admin.sock");
	settings_unref(s);
}
END_TEST

START_TEST(the_installed_files_load_with_everything_switched_on)
{
	struct settings *s;

	for (unsigned i = 0; i < count; i++)
		switch_on(texts[i]);
	write_all();
	s = conf_files_load();
	ck_assert_uint_eq(s->listener_count, 6);
	ck_assert(s->listeners[1].tls);
	ck_assert_uint_eq(s->listeners[1].server_name_count, 1);
	settings_unref(s);
}
END_TEST

static bool
is_one_of(const char *name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(name, list[i]) == 0)
			return true;
	}
	return false;
}
#define IS_ONE_OF(name, list) is_one_of(name, list, sizeof(list) / sizeof((list)[0]))

/* The value in the place that its row has, against the default there. */
static void
check_value(const struct option_def *row, const struct conf_node *node)
{
	union {
		struct settings settings;
		struct limits limits;
		struct listener_settings listener;
		struct server_name_settings server_name;
		struct plugin_settings plugin;
	} shown, expected;
	struct option_def only[2] = { *row, { 0 } };
	struct conf_errors errs = { 0 };

	if (row->default_value == NULL || IS_ONE_OF(row->name, chosen))
		return;
	memset(&shown, 0, sizeof(shown));
	memset(&expected, 0, sizeof(expected));
	ck_assert(options_defaults(only, &expected));
	ck_assert(option_set(row, &shown, node, "", &errs));
	ck_assert_msg(option_equal(row, &shown, &expected),
	    "%s:%d: \"%s\" is not the default, which is %s", node->file, node->line, node->name,
	    row->default_value);
	options_fini(only, &shown);
	options_fini(only, &expected);
}

static const struct option_def *
find_row(const struct section_def *section, const char *name)
{
	const struct option_def *row = option_find(section->tables[0], name);

	return row != NULL ? row : option_find(section->tables[1], name);
}

static void
check_block(const struct conf_node *block)
{
	const struct section_def *section = section_find(block->name);

	ck_assert_ptr_nonnull(section);
	for (unsigned i = 0; i < block->item_count; i++) {
		const struct option_def *row = find_row(section, block->items[i].name);
		const struct section_def *inner = section_find(block->items[i].name);

		if (block->items[i].kind == CONF_BLOCK && inner != NULL &&
		    strcmp(inner->inside, block->name) == 0)
			check_block(&block->items[i]);
		else if (row != NULL)
			check_value(row, &block->items[i]);
		else
			ck_assert_str_eq(
			    section->name, "plugin"); /* its own options: its own tests */
	}
}

START_TEST(every_value_shown_is_the_default)
{
	for (unsigned i = 0; i < count; i++) {
		struct conf_errors errs = { 0 };
		struct conf_node *root;

		switch_on(texts[i]);
		root = conf_parse(texts[i], strlen(texts[i]), names[i], &errs);
		ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
		check_block(root);
		conf_free(root);
	}
}
END_TEST

/* Is the name of a row at the start of a line, switched on or off? */
static bool
is_shown(const char *name)
{
	for (unsigned i = 0; i < count; i++) {
		for (const char *line = texts[i]; line != NULL; line = strchr(line, '\n')) {
			line += strspn(line, "\n \t#");
			if (strncmp(line, name, strlen(name)) == 0 &&
			    strncmp(line + strlen(name), " =", 2) == 0)
				return true;
		}
	}
	return false;
}

START_TEST(every_option_is_shown_somewhere)
{
	for (const struct section_def *s = settings_sections; s->name != NULL; s++) {
		for (unsigned t = 0; t < 2; t++) {
			for (const struct option_def *row = s->tables[t];
			     row != NULL && row->name != NULL; row++) {
				if (!IS_ONE_OF(row->name, shown_nowhere) &&
				    row->type != OPTION_ORDER)
					ck_assert_msg(is_shown(row->name), "%s", row->name);
			}
		}
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("conf.d");
	TCase *tc = tcase_create("as installed");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_installed_files_load);
	tcase_add_test(tc, the_installed_files_load_with_everything_switched_on);
	tcase_add_test(tc, every_value_shown_is_the_default);
	tcase_add_test(tc, every_option_is_shown_somewhere);
	suite_add_tcase(s, tc);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
