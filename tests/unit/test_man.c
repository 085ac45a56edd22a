/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lists of options in grapnel.conf(5) say what the tables say. After a change of a table,
 *	tests/unit/test_man --print
 * writes the lists as they must stand in man/grapnel.conf.5 between their two comments.
 */
#include "config/options.h"
#include "config/settings.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *title;
	const struct option_def *table;
} lists[] = {
	{ "top", top_options },
	{ "admin", admin_options },
	{ "log", log_options },
	{ "store", store_options },
	{ "limits", limits_options },
	{ "totals", limits_total_options },
	{ "listener", listener_options },
	{ "server_name", server_name_options },
	{ "plugin", plugin_options_common },
	{ "require", require_options },
	{ "guard", guard_options },
};
#define LISTS (sizeof(lists) / sizeof(lists[0]))

/* A number of the table's unit as one would write it in the file. */
static void
put_number(FILE *out, enum option_type type, int64_t value)
{
	static const struct {
		int64_t size;
		const char *unit;
	} bytes[] = {
		{ INT64_C(1) << 40, "t" }, { 1 << 30, "g" }, { 1 << 20, "m" }, { 1 << 10, "k" },
	}, times[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" }, { 1, "ms" } };

	if (type == OPTION_SECONDS) /* a bare number is seconds */
		fprintf(out, "%lld", (long long)value);
	else if (type == OPTION_BYTES) {
		for (size_t i = 0; i < 4; i++)
			if (value > 0 && value % bytes[i].size == 0) {
				fprintf(out, "%lld%s", (long long)(value / bytes[i].size),
				    bytes[i].unit);
				return;
			}
		fprintf(out, "%lld", (long long)value);
	} else if (type == OPTION_MS && value > 0) {
		for (size_t i = 0; i < 5; i++)
			if (value % times[i].size == 0) {
				fprintf(out, "%lld%s", (long long)(value / times[i].size),
				    times[i].unit);
				return;
			}
	} else
		fprintf(out, "%lld", (long long)value);
}

/* Lines of at most 80 columns, as mandoc likes them. */
static void
put_wrapped(FILE *out, const char *text)
{
	while (strlen(text) > 80) {
		size_t len = 80;

		while (len > 0 && text[len] != ' ')
			len--;
		if (len == 0)
			break;
		fprintf(out, "%.*s\n", (int)len, text);
		text += len + 1;
	}
	fprintf(out, "%s\n", text);
}

static void
put_row(FILE *out, const struct option_def *row)
{
	static const char *const effect[] = {
		[RELOAD_LIVE] = "",
		[RELOAD_NEW_CONNS] = "(new connections)\n",
		[RELOAD_RESTART] = "(restart)\n",
	};
	bool number = row->type == OPTION_INT || row->type == OPTION_BYTES ||
	    row->type == OPTION_MS || row->type == OPTION_SECONDS || row->type == OPTION_ORDER;

	fprintf(out, ".It Ic %s No = ", row->name);
	if (strcmp(row->name, "plugin_directory") == 0) /* configure decides */
		fprintf(out, "Ar folder\n");
	else if (row->default_value == NULL)
		fprintf(out, "Ar %s\n", number ? "number" : "value");
	else if (row->default_value[0] == '\0')
		fprintf(out, "Qq\n");
	else
		fprintf(out, "Cm %s%s\n", row->default_value,
		    row->default_value[strlen(row->default_value) - 1] == ']' ? "\\&" : "");
	put_wrapped(out, row->help);
	if (row->flags & OPTION_REQUIRED)
		fprintf(out, "Required.\n");
	if (row->choices != NULL) {
		fprintf(out, "%s", row->type == OPTION_PROTOCOLS ? "Some of" : "One of");
		for (const char *c = row->choices; *c != '\0';) {
			size_t len = strcspn(c, "|");

			fprintf(out, " %.*s%s", (int)len, c, c[len] == '|' ? "," : ".\n");
			c += len + (c[len] == '|');
		}
	} else if (number && row->max != 0) {
		fprintf(out, "From ");
		put_number(out, row->type, row->min);
		fprintf(out, " to ");
		put_number(out, row->type, row->max);
		fprintf(out, ".\n");
	}
	fputs(effect[row->reload], out);
}

/* The list as it must stand in the page, markers included. Heap. */
static char *
list_text(const char *title, const struct option_def *table)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	fprintf(out, ".\\\" options: %s\n.Bl -tag -width Ds\n", title);
	for (const struct option_def *row = table; row->name != NULL; row++)
		put_row(out, row);
	fprintf(out, ".El\n.\\\" end of options\n");
	return fclose(out) == 0 ? text : NULL;
}

/* The defaults that profile = edge changes, likewise. */
static char *
edge_text(void)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		return NULL;
	fprintf(out, ".\\\" options: edge\n.Bl -tag -width Ds -compact\n");
	for (const struct profile_default *d = edge_defaults; d->name != NULL; d++)
		fprintf(out, ".It Ic %s No = Cm %s\n", d->name, d->value);
	fprintf(out, ".El\n.\\\" end of options\n");
	return fclose(out) == 0 ? text : NULL;
}

static char *
page_read(void)
{
	const char *source = getenv("GRAPNEL_SRC");
	char path[4096], *text = NULL;
	size_t size = 0;
	FILE *in;

	snprintf(path, sizeof(path), "%s/man/grapnel.conf.5", source != NULL ? source : ".");
	in = fopen(path, "re");
	ck_assert_msg(in != NULL, "%s: %s", path, strerror(errno));
	ck_assert_int_gt(getdelim(&text, &size, '\0', in), 0);
	fclose(in);
	return text;
}

START_TEST(manual_lists_every_option_with_its_default_and_meaning)
{
	char *page = page_read(), *wanted = list_text(lists[_i].title, lists[_i].table);

	ck_assert_ptr_nonnull(wanted);
	ck_assert_msg(strstr(page, wanted) != NULL,
	    "man/grapnel.conf.5 lacks this text; run test_man --print:\n%s", wanted);
	free(wanted);
	free(page);
}
END_TEST

START_TEST(manual_lists_the_defaults_of_the_edge_profile)
{
	char *page = page_read(), *wanted = edge_text();

	ck_assert_ptr_nonnull(wanted);
	ck_assert_msg(strstr(page, wanted) != NULL,
	    "man/grapnel.conf.5 lacks this text; run test_man --print:\n%s", wanted);
	free(wanted);
	free(page);
}
END_TEST

START_TEST(manual_has_a_list_for_every_table)
{
	for (const struct section_def *s = settings_sections; s->name != NULL; s++) {
		for (unsigned i = 0; i < 2 && s->tables[i] != NULL; i++) {
			size_t k = 0;

			while (k < LISTS && lists[k].table != s->tables[i])
				k++;
			ck_assert_msg(
			    k < LISTS, "section \"%s\" has a table without a list", s->name);
		}
	}
}
END_TEST

int
main(int argc, char **argv)
{
	Suite *s;
	TCase *t;
	SRunner *r;
	char *edge;
	int failed;

	if (argc > 1 && strcmp(argv[1], "--print") == 0) {
		for (size_t i = 0; i < LISTS; i++) {
			char *text = list_text(lists[i].title, lists[i].table);

			fputs(text != NULL ? text : "no memory\n", stdout);
			free(text);
		}
		edge = edge_text();
		fputs(edge != NULL ? edge : "no memory\n", stdout);
		free(edge);
		return EXIT_SUCCESS;
	}
	s = suite_create("man");
	t = tcase_create("man");
	tcase_add_loop_test(
	    t, manual_lists_every_option_with_its_default_and_meaning, 0, (int)LISTS);
	tcase_add_test(t, manual_lists_the_defaults_of_the_edge_profile);
	tcase_add_test(t, manual_has_a_list_for_every_table);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
