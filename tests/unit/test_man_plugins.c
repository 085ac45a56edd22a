/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manual of each bundled plugin, man/grapnel-NAME.5, lists the options that its table has. After a change of a table,
 *	tests/unit/test_man_plugins --print NAME
 * writes the lists. A page may say more: below the lines of an option, up to the next one, any text can stand.
 *
 * A plugin is a folder of plugins/ with a README.md; nothing has to be added here for a new one. Those that this build has are
 * loaded from the folder modules/.
 */
#include <grapnel/plugin.h>

#include <check.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PLUGINS 64
#define MAX_DEPTH   4 /* of blocks in blocks */
#define MARKER      ".\\\" options"
#define END_MARKER  ".\\\" end of options\n"

static const char bundled[] = BUNDLED_PLUGINS; /* "auth-file.la auth-http.la ..." */

static const char *
from_environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value != NULL ? value : otherwise;
}

/* The whole file; NULL: there is none. Heap. */
static char *
file_text(const char *folder, const char *name)
{
	char path[4096], *text = NULL;
	size_t size = 0;
	FILE *in;

	snprintf(
	    path, sizeof(path), "%s/%s/%s", from_environment("GRAPNEL_SRC", "."), folder, name);
	in = fopen(path, "re");
	if (in == NULL)
		return NULL;
	if (getdelim(&text, &size, '\0', in) < 0) {
		free(text);
		text = NULL;
	}
	fclose(in);
	return text;
}

static char *
page_of(const char *plugin)
{
	char name[300];

	snprintf(name, sizeof(name), "grapnel-%s.5", plugin);
	return file_text("man", name);
}

static const struct grapnel_plugin *
load(const char *plugin, char *why, size_t size)
{
	char path[4096];
	void *handle;
	const struct grapnel_plugin *p;

	snprintf(
	    path, sizeof(path), "%s/%s.so", from_environment("GRAPNEL_PLUGINS", "modules"), plugin);
	handle = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* until this process ends */
	p = handle != NULL ? dlsym(handle, "grapnel_plugin") : NULL;
	if (p == NULL)
		snprintf(why, size, "%s", dlerror());
	return p;
}

/* ---------------------------------------------------------------- what the page must have */

/* How much of the text goes to this line: a sentence, at most 80 columns. */
static size_t
line_length(const char *text)
{
	size_t len = strlen(text);

	for (const char *c = text; (c = strstr(c, ". ")) != NULL; c++)
		if (c[2] >= 'A' && c[2] <= 'Z') {
			len = (size_t)(c + 1 - text);
			break;
		}
	if (len <= 80)
		return len;
	len = 80;
	while (len > 0 && text[len] != ' ')
		len--;
	return len > 0 ? len : strcspn(text, " ");
}

/* As mandoc likes it; a line that would begin with a control character does not. */
static void
put_wrapped(FILE *out, const char *text)
{
	while (*text != '\0') {
		size_t len = line_length(text);

		fputs(*text == '.' || *text == '\'' ? "\\&" : "", out);
		for (size_t i = 0; i < len; i++)
			fputs(text[i] == '\\' ? "\\e" : (char[]){ text[i], '\0' }, out);
		fputc('\n', out);
		text += len + strspn(text + len, " ");
	}
}

/* One argument of a macro. */
static void
put_argument(FILE *out, const char *text)
{
	bool quoted = strpbrk(text, " \"") != NULL;

	fputs(quoted ? "\"" : "", out);
	fputs(strlen(text) == 1 && strpbrk(text, ".,:;()[]?!|") != NULL ? "\\&" : "", out);
	for (const char *c = text; *c != '\0'; c++)
		fputs(*c == '\\' ? "\\e" : *c == '"' ? "\"\"" : (char[]){ *c, '\0' }, out);
	fputs(quoted ? "\"" : "", out);
}

static void
put_number(FILE *out, enum grapnel_option_type type, int64_t value)
{
	static const struct unit {
		int64_t size;
		const char *name;
	} bytes[] = {
		{ 1 << 30, "g" },
		{ 1 << 20, "m" },
		{ 1 << 10, "k" },
		{ 1, "" },
	}, times[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" }, { 1000, "s" }, { 1, "ms" } },
	  plain[] = { { 1, "" } };
	const struct unit *u = type == GRAPNEL_OPTION_BYTES ? bytes
	    : type == GRAPNEL_OPTION_DURATION               ? times
							    : plain;

	if (value == 0) {
		fputs("0", out);
		return;
	}
	while (value % u->size != 0)
		u++;
	fprintf(out, "%lld%s", (long long)(value / u->size), u->name);
}

static void
put_choices(FILE *out, const char *choices)
{
	fprintf(out, "One of");
	while (*choices != '\0') {
		size_t len = strcspn(choices, "|");

		fprintf(out, " %.*s%s", (int)len, choices, choices[len] == '|' ? "," : ".\n");
		choices += len + (choices[len] == '|');
	}
}

static void
put_row(FILE *out, const struct grapnel_option *row)
{
	static const char *const types[] = {
		[GRAPNEL_OPTION_STRING] = "text",
		[GRAPNEL_OPTION_INT] = "number",
		[GRAPNEL_OPTION_BOOL] = "yes or no",
		[GRAPNEL_OPTION_DURATION] = "duration",
		[GRAPNEL_OPTION_BYTES] = "size",
		[GRAPNEL_OPTION_LIST] = "list",
		[GRAPNEL_OPTION_ENUM] = "choice",
		[GRAPNEL_OPTION_BLOCK] = "section",
	};

	fprintf(out, ".It Ic %s ", row->name);
	if (row->type == GRAPNEL_OPTION_BLOCK)
		fputs("Qo Ar title Qc No { ... }", out);
	else if (row->default_value == NULL)
		fputs("No = Ar value", out);
	else if (row->default_value[0] == '\0')
		fputs("No = Qq", out);
	else {
		fputs("No = Cm ", out);
		put_argument(out, row->default_value);
	}
	fprintf(out, " Pq %s", types[row->type]);
	fprintf(out, "%s%s\n", row->flags & GRAPNEL_OPTION_REQUIRED ? " , required" : "",
	    row->flags & GRAPNEL_OPTION_SECRET ? " , secret" : "");
	if (row->help != NULL)
		put_wrapped(out, row->help);
	if (row->choices != NULL)
		put_choices(out, row->choices);
	if (row->min != 0 || row->max != 0) {
		fputs("From ", out);
		put_number(out, row->type, row->min);
		fputs(" to ", out);
		put_number(out, row->type, row->max);
		fputs(".\n", out);
	}
}

static char *
row_text(const struct grapnel_option *row)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	ck_assert_ptr_nonnull(out);
	put_row(out, row);
	fclose(out);
	return text;
}

/* The marker of a table: its path of blocks, "" for the section itself. */
static void
marker_of(const char *path, char *marker, size_t size)
{
	snprintf(marker, size, "%s%s%s\n", MARKER, *path != '\0' ? ": " : "", path);
}

static void
print_lists(const struct grapnel_option *table, const char *path, unsigned depth)
{
	char marker[300], below[256];

	marker_of(path, marker, sizeof(marker));
	printf("%s.Bl -tag -width Ds\n", marker);
	for (const struct grapnel_option *row = table; row->name != NULL; row++)
		put_row(stdout, row);
	printf(".El\n%s\n", END_MARKER);
	for (const struct grapnel_option *row = table; row->name != NULL; row++) {
		if (row->type == GRAPNEL_OPTION_BLOCK && depth < MAX_DEPTH) {
			snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? " " : "",
			    row->name);
			print_lists(row->options, below, depth + 1);
		}
	}
}

/* ---------------------------------------------------------------------- comparing */

static bool
begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Behind the text that an item has besides: the next .It or .El of this list. */
static const char *
behind_extra(const char *at)
{
	for (unsigned depth = 0; *at != '\0'; at += strcspn(at, "\n"), at += *at == '\n') {
		if (depth == 0 && (begins(at, ".It") || begins(at, ".El") || begins(at, ".\\\"")))
			break;
		depth += begins(at, ".Bl");
		depth -= begins(at, ".El");
	}
	return at;
}

/* Does the list below the marker say what the table says? Else `what` says what differs. Heap, NULL: it does. */
static char *
difference(const char *page, const struct grapnel_option *table, const char *path)
{
	char marker[300], *what = NULL;
	const char *at;

	marker_of(path, marker, sizeof(marker));
	at = strstr(page, marker);
	if (at == NULL) {
		ck_assert_int_ge(
		    asprintf(&what, "no list with this line before it: %s", marker), 0);
		return what;
	}
	at += strlen(marker);
	if (!begins(at, ".Bl -tag -width Ds\n"))
		return strdup("a list begins with .Bl -tag -width Ds\n");
	at += strcspn(at, "\n") + 1;
	for (const struct grapnel_option *row = table; row->name != NULL; row++) {
		char *text = row_text(row);

		if (!begins(at, text)) {
			ck_assert_int_ge(
			    asprintf(&what, "%s\nmust stand here:\n%s\ninstead of:\n%.300s", marker,
				text, at),
			    0);
			free(text);
			return what;
		}
		at = behind_extra(at + strlen(text));
		free(text);
	}
	if (!begins(at, ".El\n" END_MARKER))
		ck_assert_int_ge(
		    asprintf(&what, "%s\nthe list must end here, with %s\ninstead of:\n%.300s",
			marker, END_MARKER, at),
		    0);
	return what;
}

static unsigned
count_of(const char *page, const char *text)
{
	unsigned n = 0;

	for (const char *at = strstr(page, text); at != NULL; at = strstr(at + 1, text))
		n++;
	return n;
}

/* The table and those of its blocks. @return how many there are. */
static unsigned
compare(const char *plugin, const char *page, const struct grapnel_option *table, const char *path,
    unsigned depth)
{
	char *what = difference(page, table, path), below[256];
	unsigned n = 1;

	ck_assert_msg(what == NULL, "man/grapnel-%s.5: %s\n(test_man_plugins --print %s)", plugin,
	    what, plugin);
	for (const struct grapnel_option *row = table; row->name != NULL; row++) {
		if (row->type != GRAPNEL_OPTION_BLOCK)
			continue;
		ck_assert_uint_lt(depth, MAX_DEPTH);
		snprintf(below, sizeof(below), "%s%s%s", path, *path != '\0' ? " " : "", row->name);
		n += compare(plugin, page, row->options, below, depth + 1);
	}
	return n;
}

/* -------------------------------------------------------------------------- tests */

START_TEST(each_plugin_of_this_build_has_a_page_with_its_options)
{
	char names[sizeof(bundled)], *save = NULL, why[1024];
	unsigned seen = 0;

	memcpy(names, bundled, sizeof(bundled));
	for (char *name = strtok_r(names, " ", &save); name != NULL;
	     name = strtok_r(NULL, " ", &save)) {
		const struct grapnel_plugin *p;
		unsigned tables = 0;
		char *page;

		ck_assert_ptr_nonnull(strstr(name, ".la"));
		*strstr(name, ".la") = '\0';
		p = load(name, why, sizeof(why));
		ck_assert_msg(p != NULL, "%s", why);
		page = page_of(name);
		ck_assert_msg(page != NULL, "there is no man/grapnel-%s.5", name);
		if (p->options != NULL)
			tables = compare(name, page, p->options, "", 0);
		/* No list of a block that is gone. */
		ck_assert_msg(count_of(page, "\n" MARKER) == tables,
		    "man/grapnel-%s.5 has a list of options without a table", name);
		free(page);
		seen++;
	}
	ck_assert_uint_ge(seen, 5); /* those that need no library of their own */
}
END_TEST

START_TEST(each_plugin_has_a_page_with_all_sections_and_a_link_to_it)
{
	static const char *const wanted[] = { "NAME", "DESCRIPTION", "OPTIONS", "EXAMPLES",
		"WHEN SOMETHING IS WRONG", "FILES", "SEE ALSO" };
	char *general = file_text("man", "grapnel-plugins.7"), line[512];
	DIR *d;
	unsigned seen = 0;

	snprintf(line, sizeof(line), "%s/plugins", from_environment("GRAPNEL_SRC", "."));
	d = opendir(line);
	ck_assert_msg(d != NULL, "%s: %s", line, strerror(errno));
	ck_assert_ptr_nonnull(general);
	for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		char *readme, *page;

		snprintf(line, sizeof(line), "plugins/%s", e->d_name);
		readme = file_text(line, "README.md");
		if (e->d_name[0] == '.' || readme == NULL) { /* shared code */
			free(readme);
			continue;
		}
		free(readme);
		page = page_of(e->d_name);
		ck_assert_msg(page != NULL, "there is no man/grapnel-%s.5", e->d_name);
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
			snprintf(line, sizeof(line), "\n.Sh %s\n", wanted[i]);
			ck_assert_msg(count_of(page, line) == 1,
			    "man/grapnel-%s.5 has no section %s", e->d_name, wanted[i]);
			ck_assert_msg(strncmp(strstr(page, line) + strlen(line), ".Sh ", 4) != 0,
			    "man/grapnel-%s.5: nothing is in section %s", e->d_name, wanted[i]);
		}
		snprintf(line, sizeof(line), "Xr grapnel-%s 5", e->d_name);
		ck_assert_msg(strstr(general, line) != NULL,
		    "man/grapnel-plugins.7 does not name grapnel-%s(5)", e->d_name);
		free(page);
		seen++;
	}
	closedir(d);
	free(general);
	ck_assert_uint_ge(seen, 12);
	ck_assert_uint_le(seen, MAX_PLUGINS);
}
END_TEST

/* That the comparison sees any difference. */
/* clang-format off */
static const struct grapnel_option some_options[] = {
	{ .name = "first", .type = GRAPNEL_OPTION_DURATION, .default_value = "5s", .max = 60000, .help = "How long." },
	{ .name = "second", .type = GRAPNEL_OPTION_ENUM, .default_value = "a b", .choices = "a b|c", .help = "Which." },
	{ .name = NULL },
};
/* clang-format on */
#define HEAD   ".Sh OPTIONS\n.\\\" options\n.Bl -tag -width Ds\n"
#define FIRST  ".It Ic first No = Cm 5s Pq duration\nHow long.\nFrom 0 to 1m.\n"
#define SECOND ".It Ic second No = Cm \"a b\" Pq choice\nWhich.\nOne of a b, c.\n"
#define TAIL   ".El\n.\\\" end of options\n"
static const struct {
	const char *page;
	bool same;
} pages[] = {
	{ HEAD FIRST SECOND TAIL, true },
	{ HEAD FIRST "More of it.\n.Bl -bullet\n.It\nx\n.El\n" SECOND "More.\n" TAIL, true },
	{ HEAD SECOND FIRST TAIL, false },
	{ HEAD FIRST TAIL, false },
	{ HEAD SECOND TAIL, false },
	{ HEAD FIRST SECOND ".It Ic third No = Cm 1 Pq number\n" TAIL, false },
	{ HEAD FIRST ".It Ic third No = Cm 1 Pq number\n" SECOND TAIL, false },
	{ HEAD ".It Ic first No = Cm 6s Pq duration\nHow long.\nFrom 0 to 1m.\n" SECOND TAIL,
	    false },
	{ HEAD ".It Ic first No = Cm 5s Pq duration\nHow short.\nFrom 0 to 1m.\n" SECOND TAIL,
	    false },
	{ HEAD ".It Ic first No = Cm 5s Pq duration\nHow long.\nFrom 0 to 2m.\n" SECOND TAIL,
	    false },
	{ HEAD
	    ".It Ic first No = Cm 5s Pq duration , secret\nHow long.\nFrom 0 to 1m.\n" SECOND TAIL,
	    false },
	{ HEAD FIRST ".It Ic second No = Cm \"a b\" Pq choice\nWhich.\nOne of a b.\n" TAIL, false },
	{ ".Sh OPTIONS\n" FIRST SECOND TAIL, false },
};

START_TEST(any_difference_is_seen)
{
	char *what = difference(pages[_i].page, some_options, "");

	ck_assert_msg((what == NULL) == pages[_i].same, "page %d: %s", _i,
	    what != NULL ? what : "no difference");
	free(what);
}
END_TEST

int
main(int argc, char **argv)
{
	Suite *s;
	TCase *t;
	SRunner *r;
	int failed;

	if (argc == 3 && strcmp(argv[1], "--print") == 0) {
		char why[1024];
		const struct grapnel_plugin *p = load(argv[2], why, sizeof(why));

		if (p == NULL) {
			fprintf(stderr, "%s\n", why);
			return EXIT_FAILURE;
		}
		if (p->options != NULL)
			print_lists(p->options, "", 0);
		return EXIT_SUCCESS;
	}
	s = suite_create("man_plugins");
	t = tcase_create("man_plugins");
	tcase_add_test(t, each_plugin_of_this_build_has_a_page_with_its_options);
	tcase_add_test(t, each_plugin_has_a_page_with_all_sections_and_a_link_to_it);
	tcase_add_loop_test(t, any_difference_is_seen, 0, (int)(sizeof(pages) / sizeof(pages[0])));
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
