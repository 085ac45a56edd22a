/* SPDX-License-Identifier: Apache-2.0 */
#include "conf_files.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Parse out of a buffer of exact size, so that a read past its end is seen. */
static struct conf_node *
parse_bytes(const char *text, size_t len, struct conf_errors *errs)
{
	char *exact = malloc(len + (len == 0));
	struct conf_node *root;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, text, len);
	root = conf_parse(exact, len, "x", errs);
	free(exact);
	return root;
}

/* A tree in one line: a=1 b=[x,y] c"t"{d=2} */
static void
dump(const struct conf_node *node, FILE *out)
{
	if (node->kind == CONF_VALUE) {
		fprintf(out, "%s=%s", node->name, node->value);
		return;
	}
	fputs(node->name, out);
	if (node->title != NULL)
		fprintf(out, "\"%s\"", node->title);
	fputs(node->kind == CONF_LIST ? "=[" : "{", out);
	for (unsigned i = 0; i < node->item_count; i++) {
		fputs(i == 0 ? "" : node->kind == CONF_LIST ? "," : " ", out);
		if (node->kind == CONF_LIST)
			fputs(node->items[i].value, out);
		else
			dump(&node->items[i], out);
	}
	fputs(node->kind == CONF_LIST ? "]" : "}", out);
}

static char dumped[65536];

static const char *
dump_text(const struct conf_node *root)
{
	FILE *out = fmemopen(dumped, sizeof(dumped), "w");

	ck_assert_ptr_nonnull(out);
	dump(root, out);
	ck_assert_int_eq(fclose(out), 0);
	return dumped;
}

/* ---- what is well-formed --------------------------------------------------------------------- */

static const struct {
	const char *text, *tree;
} good_cases[] = {
	{ "", "{}" },
	{ " \t\r\n# only a comment", "{}" },
	{ "\357\273\277a = 1\n", "{a=1}" }, /* byte order mark */
	{ "a = 1", "{a=1}" },
	{ "a=1\r\nb=2\r\n", "{a=1 b=2}" },
	{ "a = 1 b = 2", "{a=1 b=2}" },
	{ "a = 1#\n", NULL }, /* a "#" that touches a word is refused */
	{ "a = 1 # b = 2\nc = 3", "{a=1 c=3}" },
	{ "a = \"x # y\"#z", "{a=x # y}" },
	{ "a = 127.0.0.1:1883", "{a=127.0.0.1:1883}" },
	{ "a = /var/lib/x-y_z", "{a=/var/lib/x-y_z}" },
	{ "a = *:1883", "{a=*:1883}" },
	{ "a = unix:@name%eth0+~", "{a=unix:@name%eth0+~}" },
	{ "a = \"\"", "{a=}" },
	{ "a = ''", "{a=}" },
	{ "a = \"q\\\" b\\\\ d\\$ t\\t\"", "{a=q\" b\\ d$ t\t}" },
	{ "a = \"\\n\\r\"", "{a=\n\r}" },
	{ "a = \"$SYS/$x {y}\"", "{a=$SYS/$x {y}}" },
	{ "a = \"\\${HOME}\"", "{a=${HOME}}" },
	{ "a = '\\n ${HOME} \"q\"'", "{a=\\n ${HOME} \"q\"}" },
	{ "a = 'select\n  1'\nb = 2", "{a=select\n  1 b=2}" },
	{ "a = \"\303\274 \342\202\254 \360\237\230\200\"",
	    "{a=\303\274 \342\202\254 \360\237\230\200}" },
	{ "# \303\274\na = 1", "{a=1}" },
	{ "a = []", "{a=[]}" },
	{ "a = [1]", "{a=[1]}" },
	{ "a = [3.1, \"x y\", 'z',]", "{a=[3.1,x y,z]}" },
	{ "a = [ # why\n 1,\n 2 # two\n]", "{a=[1,2]}" },
	{ "a { }", "{a{}}" },
	{ "a{}b{}", "{a{} b{}}" },
	{ "a { b = 1 c { d = 2 } } e = 3", "{a{b=1 c{d=2}} e=3}" },
	{ "a \"t\" { b = 1 }", "{a\"t\"{b=1}}" },
	{ "a 't 1'\n{\n}", "{a\"t 1\"{}}" },
	{ "a = ${GRAPNEL_TEST_SET}", "{a=v 1}" },
	{ "a = x${GRAPNEL_TEST_SET}y${GRAPNEL_TEST_SET}", "{a=xv 1yv 1}" },
	{ "a = \"<${GRAPNEL_TEST_SET}>\" b = [${GRAPNEL_TEST_SET}]", "{a=<v 1> b=[v 1]}" },
	{ "a = ${GRAPNEL_TEST_NESTED}", "{a=${GRAPNEL_TEST_SET}}" }, /* replaced once, not again */
	{ "a-b = 1 a_c = 2 A9 = 3", "{a-b=1 a_c=2 A9=3}" },
};

START_TEST(well_formed_text_becomes_its_tree)
{
	struct conf_errors errs = { 0 };
	const char *text = good_cases[_i].text;
	struct conf_node *root;

	setenv("GRAPNEL_TEST_SET", "v 1", 1);
	setenv("GRAPNEL_TEST_NESTED", "${GRAPNEL_TEST_SET}", 1);
	root = parse_bytes(text, strlen(text), &errs);
	if (good_cases[_i].tree == NULL) {
		ck_assert_ptr_null(root);
	} else {
		ck_assert_msg(root != NULL, "%s: %s", text, conf_files_messages(&errs));
		ck_assert_str_eq(dump_text(root), good_cases[_i].tree);
		ck_assert_uint_eq(errs.count, 0);
	}
	conf_errors_clear(&errs);
	conf_free(root);
}
END_TEST

START_TEST(every_node_knows_where_it_stands)
{
	static const char text[] = "a = 1\n  b \"t\" {\n\tc = [x,\n   y]\n}";
	struct conf_errors errs = { 0 };
	struct conf_node *root = parse_bytes(text, sizeof(text) - 1, &errs), *b, *c;

	ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
	ck_assert_int_eq(root->items[0].line, 1);
	ck_assert_int_eq(root->items[0].column, 1);
	b = &root->items[1];
	ck_assert_int_eq(b->line, 2);
	ck_assert_int_eq(b->column, 3);
	c = &b->items[0];
	ck_assert_int_eq(c->line, 3);
	ck_assert_int_eq(c->column, 2);
	ck_assert_int_eq(c->items[1].line, 4);
	ck_assert_int_eq(c->items[1].column, 4);
	ck_assert_str_eq(c->file, "x");
	conf_free(root);
}
END_TEST

START_TEST(a_raw_string_of_several_lines_counts_them)
{
	static const char text[] = "a = 'x\ny\n'\nb = = 1";
	struct conf_errors errs = { 0 };

	ck_assert_ptr_null(parse_bytes(text, sizeof(text) - 1, &errs));
	ck_assert_str_eq(
	    conf_files_messages(&errs), "x:4: unexpected \"=\", expected a value or \"[\"");
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(values_tell_how_they_were_written)
{
	static const char text[] =
	    "a = x b = \"x\" c = 'x' d = ${GRAPNEL_TEST_SET} e = \"${GRAPNEL_TEST_SET}\"";
	struct conf_errors errs = { 0 };
	struct conf_node *root;

	setenv("GRAPNEL_TEST_SET", "x", 1);
	root = parse_bytes(text, sizeof(text) - 1, &errs);
	ck_assert_ptr_nonnull(root);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_str_eq(root->items[i].value, "x");
		ck_assert_int_eq(root->items[i].quoted, i == 1 || i == 2 || i == 4);
		ck_assert_int_eq(root->items[i].expanded, i >= 3);
	}
	conf_free(root);
}
END_TEST

/* ---- what is not ----------------------------------------------------------------------------- */

#define BAD(text, message)                      \
	{                                       \
		text, sizeof(text) - 1, message \
	}

/* The message without the file's name. One row, one message. */
static const struct {
	const char *text;
	size_t len;
	const char *message;
} bad_cases[] = {
	BAD("a", "1: expected \"=\" or \"{\" behind \"a\""),
	BAD("a =", "1: a value is missing behind \"=\""),
	BAD("a = ", "1: a value is missing behind \"=\""),
	BAD("a =\nb = 1", "1: a value is missing behind \"=\""),
	BAD("a { b = }", "1: a value is missing behind \"=\""),
	BAD("= 1", "1: unexpected \"=\", expected a name or the end of the file"),
	BAD("= =", "1: unexpected \"=\", expected a name or the end of the file"),
	BAD("a = = 1", "1: unexpected \"=\", expected a value or \"[\""),
	BAD("a == 1", "1: unexpected \"=\", expected a value or \"[\""),
	BAD("a b c", "1: unexpected \"c\", expected \"{\" (or is \"=\" missing?)"),
	BAD("a b\nc = 1", "1: expected \"{\" (or is \"=\" missing?) behind \"b\""),
	BAD("a 1", "1: expected \"{\" (or is \"=\" missing?) behind \"1\""),
	BAD("a = 1 2", "1: expected \"=\" or \"{\" behind \"2\""),
	BAD("a = 1, b = 2", "1: unexpected \",\", expected a name or the end of the file"),
	BAD("a = [", "1: expected a value or \"]\" behind \"[\""),
	BAD("a = [1", "1: expected \"]\" or \",\" behind \"1\""),
	BAD("a = [1 2]", "1: unexpected \"2\", expected \"]\" or \",\""),
	BAD("a = [1,,2]", "1: unexpected \",\", expected a value or \"]\""),
	BAD("a = [,1]", "1: unexpected \",\", expected a value or \"]\""),
	BAD("a = [1]]", "1: unexpected \"]\", expected a name or the end of the file"),
	BAD("a = [[1]]", "1: unexpected \"[\", expected a value or \"]\""),
	BAD("a = [1, {}]", "1: unexpected \"{\", expected a value or \"]\""),
	BAD("a = [b = 1]", "1: unexpected \"=\", expected \"]\" or \",\""),
	BAD("a = { }", "1: unexpected \"{\", expected a value or \"[\""),
	BAD("a = [ {", "1: unexpected \"{\", expected a value or \"]\""),
	BAD("a {", "1: the \"{\" here has no \"}\""),
	BAD("a { b {", "1: the \"{\" here has no \"}\""),
	BAD("a {\n b = 1\n", "1: the \"{\" here has no \"}\""),
	BAD("a { b = 1 } }", "1: unexpected \"}\": no block is open"),
	BAD("}", "1: unexpected \"}\": no block is open"),
	BAD("}\na = 1", "1: unexpected \"}\": no block is open"),
	BAD("{", "1: unexpected \"{\", expected a name or the end of the file"),
	BAD("{ a = 1 }", "1: unexpected \"{\", expected a name or the end of the file"),
	BAD("\"a\" = 1", "1: unexpected a string, expected a name or the end of the file"),
	BAD("'a' = 1", "1: unexpected a string, expected a name or the end of the file"),
	BAD("\"a\" { }", "1: unexpected a string, expected a name or the end of the file"),
	BAD("a \"t\" = 1", "1: unexpected \"=\", expected \"{\""),
	BAD("a \"t\" \"u\" { }", "1: unexpected a string, expected \"{\" (or is \"=\" missing?)"),
	BAD("a t { }", "1: put the title in quotes: a \"t\""),
	BAD("a t u { }", "1: unexpected \"u\", expected \"{\" (or is \"=\" missing?)"),
	BAD("a \"t\"", "1: expected \"{\" (or is \"=\" missing?) behind a string"),
	BAD("a \"t\" [", "1: unexpected \"[\", expected \"{\" (or is \"=\" missing?)"),
	BAD("a = \"b", "1: the string has no closing \" on this line"),
	BAD("a = \"b\nc = 1", "1: the string has no closing \" on this line"),
	BAD("a = \"b\\", "1: the string has no closing \" on this line"),
	BAD("a = \"b\\\"", "1: the string has no closing \" on this line"),
	BAD("a = \"\\q\"",
	    "1: unknown escape \"\\q\"; known are \\n \\r \\t \\\" \\\\ \\$ (or use a 'raw "
	    "string')"),
	BAD("a = \"\\x41\"",
	    "1: unknown escape \"\\x\"; known are \\n \\r \\t \\\" \\\\ \\$ (or use a 'raw "
	    "string')"),
	BAD("a = \"\\u0041\"",
	    "1: unknown escape \"\\u\"; known are \\n \\r \\t \\\" \\\\ \\$ (or use a 'raw "
	    "string')"),
	BAD("a = \"\\\351\"", "1: byte 0xe9 is not UTF-8 text"),
	BAD("a = 'b", "1: the raw string that begins here has no closing '"),
	BAD("a = 'b\nc = 1\n", "1: the raw string that begins here has no closing '"),
	BAD("a = b'c'", "1: unexpected a string, expected a name or the end of the file"),
	BAD("a = b\"c\"", "1: unexpected a string, expected a name or the end of the file"),
	BAD("a = \"b\"\"c\"", "1: unexpected a string, expected a name or the end of the file"),
	BAD("a = b#c", "1: \"#\" in \"b#\": quote the value, or put a space before the comment"),
	BAD("a = `b`", "1: unexpected character '`'; quote values that hold it"),
	BAD("a = b;", "1: unexpected character ';'; quote values that hold it"),
	BAD("a = (b)", "1: unexpected character '('; quote values that hold it"),
	BAD("a = $b", "1: unexpected character '$'; quote values that hold it"),
	BAD("a = a$b", "1: unexpected character '$'; quote values that hold it"),
	BAD("a = b\\c", "1: unexpected character '\\'; quote values that hold it"),
	BAD("a = b!", "1: unexpected character '!'; quote values that hold it"),
	BAD("a = b&c", "1: unexpected character '&'; quote values that hold it"),
	BAD("a = b|c", "1: unexpected character '|'; quote values that hold it"),
	BAD("a = <b>", "1: unexpected character '<'; quote values that hold it"),
	BAD("a = \351", "1: byte 0xe9 is not UTF-8 text"),
	BAD("\351 = 1", "1: byte 0xe9 is not UTF-8 text"),
	BAD("a = ${", "1: ${ has no closing } on this line"),
	BAD("a = ${}", "1: ${} names no variable"),
	BAD("a = ${X", "1: ${ has no closing } on this line"),
	BAD("a = \"${X\"", "1: ${ has no closing } in this string"),
	BAD("a = \"${}\"", "1: ${} names no variable"),
	BAD("a = ${GRAPNEL_TEST_UNSET}",
	    "1: the environment variable ${GRAPNEL_TEST_UNSET} is not set"),
	BAD("a = \"x${GRAPNEL_TEST_UNSET}y\"",
	    "1: the environment variable ${GRAPNEL_TEST_UNSET} is not set"),
	BAD("a = ${file:}", "1: ${file:} names no file"),
	BAD("a = ${file:/nonexistent/x}", "1: ${file:/nonexistent/x}: No such file or directory"),
	BAD("a = ${file:/}", "1: ${file:/}: not a regular file"),
	BAD("a = ${env:X}", "1: ${env:X}: only ${NAME} and ${file:PATH} are known"),
	BAD("${GRAPNEL_TEST_SET} = 1",
	    "1: \"${...}\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("1a = 1",
	    "1: \"1a\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("_a = 1",
	    "1: \"_a\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("a.b = 1",
	    "1: \"a.b\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("a: 1", "1: expected \"{\" (or is \"=\" missing?) behind \"1\""),
	BAD("3 { }",
	    "1: \"3\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("a/b { }",
	    "1: \"a/b\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("/a = 1",
	    "1: \"/a\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter"),
	BAD("a = \000", "1: the file holds a NUL byte"),
	BAD("\000", "1: the file holds a NUL byte"),
	BAD("a = \"b\000c\"", "1: the file holds a NUL byte"),
	BAD("# \000", "1: the file holds a NUL byte"),
	BAD("a = \001", "1: the file holds a control character (0x01)"),
	BAD("a = \"\007\"", "1: the file holds a control character (0x07)"),
	BAD("a = \"b\033c\"", "1: the file holds a control character (0x1b)"),
	BAD("a\177 = 1", "1: the file holds a control character (0x7f)"),
	BAD("\200", "1: byte 0x80 is not UTF-8 text"),
	BAD("a = \"\377\"", "1: byte 0xff is not UTF-8 text"),
	BAD("a = \"\303\"", "1: byte 0xc3 is not UTF-8 text"),
	BAD("a = \"\303(", "1: byte 0xc3 is not UTF-8 text"),
	BAD("a = \"\300\257\"", "1: byte 0xc0 is not UTF-8 text"),
	BAD("a = \"\355\240\200\"", "1: byte 0xed is not UTF-8 text"),
	BAD("a = \"\364\220\200\200\"", "1: byte 0xf4 is not UTF-8 text"),
	BAD("a = \"\342\202\"", "1: byte 0xe2 is not UTF-8 text"),
	BAD("a = \"\370\210\200\200\200\"", "1: byte 0xf8 is not UTF-8 text"),
	BAD("# \377", "1: byte 0xff is not UTF-8 text"),
	BAD("\377\376a\000", "1: byte 0xff is not UTF-8 text"),
	BAD("a = 1 }", "1: unexpected \"}\": no block is open"),
	BAD("a \"b { }", "1: the string has no closing \" on this line"),
	BAD("a = [1\n\nb = 2", "1: expected \"]\" or \",\" behind \"1\""),
	BAD("a = \nb {\n x = 1\n}", "1: a value is missing behind \"=\""),
	BAD("include \"x\"", "1: expected \"{\" (or is \"=\" missing?) behind a string"),
	BAD("a += 1", "1: unexpected \"=\", expected \"{\""),
	BAD("a => 1", "1: unexpected character '>'; quote values that hold it"),
	BAD("a ? 1", "1: unexpected character '?'; quote values that hold it"),
	BAD("a = @(b)", "1: unexpected character '('; quote values that hold it"),
};

START_TEST(malformed_text_is_refused_with_line_and_reason)
{
	struct conf_errors errs = { 0 };
	struct conf_node *root;
	char expected[256];

	setenv("GRAPNEL_TEST_SET", "v", 1);
	unsetenv("GRAPNEL_TEST_UNSET");
	root = parse_bytes(bad_cases[_i].text, bad_cases[_i].len, &errs);
	ck_assert_msg(root == NULL, "row %d was accepted: %s", _i, bad_cases[_i].text);
	snprintf(expected, sizeof(expected), "x:%s", bad_cases[_i].message);
	ck_assert_str_eq(conf_files_messages(&errs), expected);
	conf_errors_clear(&errs);
}
END_TEST

/* Cut anywhere, a file is refused or accepted, but never read past its end or leaked. */
START_TEST(every_beginning_of_a_file_is_judged)
{
	static const char text[] =
	    "# c\na = \"x\\n${GRAPNEL_TEST_SET}\" b { c \"t\" { d = [1, 'r', w] } }\n"
	    "\303\274 = = } e = ${GRAPNEL_TEST_SET}";
	for (size_t len = 0; len < sizeof(text); len++) {
		struct conf_errors errs = { 0 };
		struct conf_node *root;

		setenv("GRAPNEL_TEST_SET", "v", 1);
		root = parse_bytes(text, len, &errs);
		ck_assert_int_eq(root == NULL, errs.count > 0);
		conf_free(root);
		conf_errors_clear(&errs);
	}
}
END_TEST

static const struct {
	const char *text, *messages;
} several_cases[] = {
	{ "a = 1\nb = = 2\nc = = 3\nd = 4",
	    "x:2: unexpected \"=\", expected a value or \"[\"\n"
	    "x:3: unexpected \"=\", expected a value or \"[\"" },
	{ "a { b = = 1\n c = = 2 }\nd = = 3", /* the block ends where it ends */
	    "x:1: unexpected \"=\", expected a value or \"[\"\n"
	    "x:2: unexpected \"=\", expected a value or \"[\"\n"
	    "x:3: unexpected \"=\", expected a value or \"[\"" },
	{ "a = {\n b = = 1\n c { }\n}\nd = \"\\q\"", /* a broken head takes its block along */
	    "x:1: unexpected \"{\", expected a value or \"[\"\n"
	    "x:5: unknown escape \"\\q\"; known are \\n \\r \\t \\\" \\\\ \\$ (or use a 'raw "
	    "string')" },
	{ "a =\nb = \"x\nc = `\nd { e = }", /* of every kind */
	    "x:1: a value is missing behind \"=\"\n"
	    "x:2: the string has no closing \" on this line\n"
	    "x:3: unexpected character '`'; quote values that hold it\n"
	    "x:4: a value is missing behind \"=\"" },
	{ "1 = 1\n2 = 2",
	    "x:1: \"1\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter\n"
	    "x:2: \"2\" is not a name: names have letters, digits and \"_\", and begin with a "
	    "letter" },
	{ "workers 4\nuser = = x", /* what follows on the next line is read */
	    "x:1: expected \"{\" (or is \"=\" missing?) behind \"4\"\n"
	    "x:2: unexpected \"=\", expected a value or \"[\"" },
	{ "` ` ` ' \" =\n` = 1", /* one message for a line, although the quote runs on */
	    "x:1: unexpected character '`'; quote values that hold it" },
	{ "a = ${X\n}",
	    "x:1: ${ has no closing } on this line\n"
	    "x:2: unexpected \"}\": no block is open" },
	{ "a {\n b = 1\n c {\n d = = 1\n",
	    "x:4: unexpected \"=\", expected a value or \"[\"\n"
	    "x:3: the \"{\" here has no \"}\"" },
};

START_TEST(one_run_reports_all_syntax_errors)
{
	struct conf_errors errs = { 0 };

	unsetenv("GRAPNEL_TEST_UNSET");
	ck_assert_ptr_null(
	    parse_bytes(several_cases[_i].text, strlen(several_cases[_i].text), &errs));
	ck_assert_str_eq(conf_files_messages(&errs), several_cases[_i].messages);
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(a_hopeless_file_is_given_up)
{
	char text[CONF_MAX_FAULTS * 10 * 8 + 1];
	struct conf_errors errs = { 0 };
	size_t len = 0;

	for (int i = 0; i < CONF_MAX_FAULTS * 10; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "a = =\n");
	ck_assert_ptr_null(parse_bytes(text, len, &errs));
	ck_assert_uint_le(errs.count, CONF_MAX_FAULTS + 1);
	ck_assert_uint_ge(errs.count, CONF_MAX_FAULTS);
	conf_errors_clear(&errs);
	len = 0;
	for (int i = 0; i < CONF_MAX_FAULTS * 10; i++)
		len += (size_t)snprintf(
		    text + len, sizeof(text) - len, "1 = 1\n"); /* read on, but not reported */
	ck_assert_ptr_null(parse_bytes(text, len, &errs));
	ck_assert_uint_eq(errs.count, CONF_MAX_FAULTS + 1);
	ck_assert_str_eq(errs.messages[CONF_MAX_FAULTS],
	    "x:21: too many errors; the rest of the file is not checked");
	conf_errors_clear(&errs);
}
END_TEST

/* ---- limits ---------------------------------------------------------------------------------- */

static char *
nested(unsigned depth)
{
	char *text = calloc(depth, 8);

	ck_assert_ptr_nonnull(text);
	for (unsigned i = 0; i < depth; i++)
		strcat(text, "a {");
	for (unsigned i = 0; i < depth; i++)
		strcat(text, "}");
	return text;
}

START_TEST(blocks_nest_only_so_deep)
{
	struct conf_errors errs = { 0 };
	char *text = nested(CONF_MAX_DEPTH);
	struct conf_node *root = parse_bytes(text, strlen(text), &errs);

	ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
	conf_free(root);
	free(text);
	for (unsigned depth = CONF_MAX_DEPTH + 1; depth < 40000; depth *= 30) {
		text = nested(depth);
		ck_assert_ptr_null(parse_bytes(text, strlen(text), &errs));
		ck_assert_str_eq(
		    conf_files_messages(&errs), "x:1: blocks are nested more than 32 deep");
		conf_errors_clear(&errs);
		free(text);
	}
}
END_TEST

START_TEST(a_list_has_only_so_many_values)
{
	static char text[CONF_MAX_LIST * 3 + 64];
	struct conf_errors errs = { 0 };
	struct conf_node *root;
	size_t len = (size_t)sprintf(text, "a = [");

	for (unsigned i = 0; i < CONF_MAX_LIST; i++)
		len += (size_t)sprintf(text + len, "1,");
	strcpy(text + len, "]");
	root = parse_bytes(text, len + 1, &errs);
	ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
	ck_assert_uint_eq(root->items[0].item_count, CONF_MAX_LIST);
	conf_free(root);
	strcpy(text + len, "2]");
	ck_assert_ptr_null(parse_bytes(text, len + 2, &errs));
	ck_assert_str_eq(conf_files_messages(&errs), "x:1: the list has more than 10000 values");
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(a_file_has_only_so_many_bytes)
{
	char *text = malloc(CONF_MAX_FILE + 2);
	struct conf_errors errs = { 0 };
	struct conf_node *root;

	ck_assert_ptr_nonnull(text);
	memset(text, '#', CONF_MAX_FILE + 1);
	root = conf_parse(text, CONF_MAX_FILE, "x", &errs);
	ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
	conf_free(root);
	ck_assert_ptr_null(conf_parse(text, CONF_MAX_FILE + 1, "x", &errs));
	ck_assert_str_eq(conf_files_messages(&errs), "x:1: the file is larger than 1048576 bytes");
	conf_errors_clear(&errs);
	conf_files_write_bytes("grapnel.conf", text, CONF_MAX_FILE + 1);
	ck_assert_ptr_null(conf_read(conf_files_main(), true, &errs));
	ck_assert_ptr_nonnull(
	    strstr(conf_files_messages(&errs), "the file is too large (more than 1 MiB)"));
	conf_errors_clear(&errs);
	free(text);
}
END_TEST

/* ---- files ----------------------------------------------------------------------------------- */

START_TEST(conf_d_is_read_behind_the_main_file_in_the_order_of_names)
{
	struct conf_errors errs = { 0 };
	struct conf_node *root;

	conf_files_write("grapnel.conf", "a = 1\n");
	conf_files_write("conf.d/20-b.conf", "c = 3\n");
	conf_files_write("conf.d/10-z.conf", "\nb = 2\n");
	conf_files_write("conf.d/9-last.conf", "d = 4\n");
	conf_files_write("conf.d/.hidden.conf", "no\n");
	conf_files_write("conf.d/30-x.conf.dpkg-old", "no\n");
	conf_files_write("conf.d/README", "no\n");
	conf_files_write("conf.d/.conf", "no\n");
	root = conf_read(conf_files_main(), true, &errs);
	ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
	ck_assert_str_eq(dump_text(root), "{a=1 b=2 c=3 d=4}");
	ck_assert_str_eq(root->items[0].file, "grapnel.conf");
	ck_assert_str_eq(root->items[1].file, "conf.d/10-z.conf");
	ck_assert_int_eq(root->items[1].line, 2);
	ck_assert_str_eq(root->items[3].file, "conf.d/9-last.conf");
	conf_free(root);
	root = conf_read(conf_files_main(), false, &errs);
	ck_assert_ptr_nonnull(root);
	ck_assert_str_eq(dump_text(root), "{a=1}");
	conf_free(root);
}
END_TEST

START_TEST(errors_of_all_files_are_reported)
{
	struct conf_errors errs = { 0 };

	conf_files_write("grapnel.conf", "a =\n");
	conf_files_write("conf.d/10-a.conf", "\n\nb = = 1\n");
	conf_files_write("conf.d/20-b.conf", "c = 1\n");
	conf_files_write("conf.d/30-c.conf", "}\n");
	ck_assert_ptr_null(conf_read(conf_files_main(), true, &errs));
	ck_assert_str_eq(conf_files_messages(&errs),
	    "grapnel.conf:1: a value is missing behind \"=\"\n"
	    "conf.d/10-a.conf:3: unexpected \"=\", expected a value or \"[\"\n"
	    "conf.d/30-c.conf:1: unexpected \"}\": no block is open");
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(a_missing_file_is_named)
{
	struct conf_errors errs = { 0 };
	char expected[400];

	ck_assert_ptr_null(conf_read(conf_files_main(), true, &errs));
	snprintf(expected, sizeof(expected),
	    "grapnel.conf: cannot read %s: No such file or directory", conf_files_main());
	ck_assert_str_eq(conf_files_messages(&errs), expected);
	conf_errors_clear(&errs);
}
END_TEST

START_TEST(what_is_not_a_regular_file_is_refused_without_waiting)
{
	struct conf_errors errs = { 0 };
	char path[400];

	conf_files_write("grapnel.conf", "a = 1\n");
	snprintf(path, sizeof(path), "%.*sconf.d/10-fifo.conf",
	    (int)(strlen(conf_files_main()) - strlen("grapnel.conf")), conf_files_main());
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_ptr_null(conf_read(conf_files_main(), true, &errs));
	ck_assert_ptr_nonnull(
	    strstr(conf_files_messages(&errs), "10-fifo.conf: not a regular file"));
	conf_errors_clear(&errs);
}
END_TEST

static const struct {
	const char *content;
	size_t len;
	const char *value; /* NULL: refused */
} secret_cases[] = {
	{ "s3cret", 6, "s3cret" },
	{ "s3cret\n", 7, "s3cret" },
	{ "s3cret\r\n", 8, "s3cret" },
	{ "s3cret\n\n", 8, "s3cret\n" },
	{ " a b \n", 6, " a b " },
	{ "", 0, "" },
	{ "\n", 1, "" },
	{ "${HOME}\"\\n", 10, "${HOME}\"\\n" }, /* taken as it is */
	{ "a\0b", 3, NULL },
};

START_TEST(a_secret_is_the_content_of_its_file_without_the_last_newline)
{
	struct conf_errors errs = { 0 };
	struct conf_node *root;

	conf_files_write_bytes("secret", secret_cases[_i].content, secret_cases[_i].len);
	conf_files_write("grapnel.conf",
	    "a = ${file:secret} b = \"<${file:secret}>\""); /* beside grapnel.conf */
	root = conf_read(conf_files_main(), true, &errs);
	if (secret_cases[_i].value == NULL) {
		ck_assert_ptr_null(root);
		ck_assert_str_eq(conf_files_messages(&errs),
		    "grapnel.conf:1: ${file:secret}: the file holds a NUL byte\n"
		    "grapnel.conf:1: ${file:secret}: the file holds a NUL byte");
	} else {
		ck_assert_msg(root != NULL, "%s", conf_files_messages(&errs));
		ck_assert_str_eq(root->items[0].value, secret_cases[_i].value);
		ck_assert(root->items[0].expanded);
		ck_assert_uint_eq(strlen(root->items[1].value), strlen(secret_cases[_i].value) + 2);
	}
	conf_errors_clear(&errs);
	conf_free(root);
}
END_TEST

START_TEST(a_value_does_not_grow_without_bound)
{
	char *content = malloc(CONF_MAX_FILE);
	struct conf_errors errs = { 0 };

	ck_assert_ptr_nonnull(content);
	memset(content, 'x', CONF_MAX_FILE);
	conf_files_write_bytes("big", content, CONF_MAX_FILE);
	free(content);
	conf_files_write("grapnel.conf", "a = \"${file:big}${file:big}${file:big}${file:big}\"");
	ck_assert_ptr_null(conf_read(conf_files_main(), true, &errs));
	ck_assert_str_eq(
	    conf_files_messages(&errs), "grapnel.conf:1: the value is longer than 1048576 bytes");
	conf_errors_clear(&errs);
}
END_TEST

/* ---- uniqueness and merging ------------------------------------------------------------------ */

static const struct {
	const char *text, *messages; /* "": fine */
} unique_cases[] = {
	{ "a = 1\nb = 2\nc { a = 1 }\nd { a = 1 }", "" },
	{ "a = 1\na = 2", "x:2: \"a\" is already set at x:1" },
	{ "a = 1\na = [2]\na = 3",
	    "x:2: \"a\" is already set at x:1\nx:3: \"a\" is already set at x:1" },
	{ "b = 1\na = 1\na = 2\nb = 2",
	    "x:3: \"a\" is already set at x:2\nx:4: \"b\" is already set at x:1" },
	{ "c {\n a = 1\n a = 2\n}", "x:3: \"a\" is already set at x:2" },
	{ "b \"t\" { }\nb \"u\" { }\nc \"t\" { }", "" },
	{ "b \"t\" { }\nb \"t\" { }", "x:2: b \"t\" is there already, at x:1; titles are unique" },
	{ "p \"x\" {\n e \"1\" { }\n e \"1\" { }\n}",
	    "x:3: e \"1\" is there already, at x:2; titles are unique" },
	{ "p \"x\" {\n e { }\n e { }\n}", "" }, /* without a title they are a list */
	{ "a { b = 1 }\na = 1", "" },           /* said by whoever knows which one a is */
};

START_TEST(a_repetition_names_both_lines)
{
	const char *text = unique_cases[_i].text;
	struct conf_errors errs = { 0 };
	struct conf_node *root = parse_bytes(text, strlen(text), &errs);

	ck_assert_ptr_nonnull(root);
	ck_assert_int_eq(conf_check_unique(root, &errs), unique_cases[_i].messages[0] == '\0');
	ck_assert_str_eq(conf_files_messages(&errs), unique_cases[_i].messages);
	conf_errors_clear(&errs);
	conf_free(root);
}
END_TEST

START_TEST(blocks_without_title_are_merged_on_demand)
{
	static const char text[] = "l { a = 1 }\nm { x = 1 }\nl { b = 2 c = 3 }\nl \"t\" { d = 4 "
				   "}\nl { }\nl { e = 5 }\nz = 1";
	struct conf_errors errs = { 0 };
	struct conf_node *root = parse_bytes(text, sizeof(text) - 1, &errs);

	ck_assert_ptr_nonnull(root);
	ck_assert(conf_merge(root, "l"));
	ck_assert_str_eq(dump_text(root), "{l{a=1 b=2 c=3 e=5} m{x=1} l\"t\"{d=4} z=1}");
	ck_assert(conf_merge(root, "none"));
	ck_assert_uint_eq(root->item_count, 4);
	ck_assert_ptr_eq(conf_find(root, "m"), &root->items[1]);
	ck_assert_ptr_null(conf_find(root, "x"));
	conf_free(root);
}
END_TEST

/* ---- values ---------------------------------------------------------------------------------- */

#define NONE INT64_MIN /* not a value */

static const struct {
	const char *text;
	int64_t number, bytes, ms;
} number_cases[] = {
	{ "0", 0, 0, 0 },
	{ "1", 1, 1, 1000 },
	{ "007", 7, 7, 7000 },
	{ "-1", -1, NONE, NONE },
	{ "+5", 5, NONE, NONE },
	{ "", NONE, NONE, NONE },
	{ "-", NONE, NONE, NONE },
	{ "--1", NONE, NONE, NONE },
	{ " 1", NONE, NONE, NONE },
	{ "1 ", NONE, NONE, NONE },
	{ "0x10", NONE, NONE, NONE },
	{ "1.5", NONE, NONE, NONE },
	{ "1e3", NONE, NONE, NONE },
	{ "9223372036854775807", INT64_MAX, INT64_MAX, NONE },
	{ "9223372036854775808", NONE, NONE, NONE },
	{ "99999999999999999999999", NONE, NONE, NONE },
	{ "64k", NONE, 65536, NONE },
	{ "64K", NONE, 65536, NONE },
	{ "1m", NONE, 1048576, 60000 },
	{ "2g", NONE, INT64_C(2147483648), NONE },
	{ "1t", NONE, INT64_C(1099511627776), NONE },
	{ "9999999999t", NONE, NONE, NONE },
	{ "1kb", NONE, NONE, NONE },
	{ "k", NONE, NONE, NONE },
	{ "500ms", NONE, NONE, 500 },
	{ "10s", NONE, NONE, 10000 },
	{ "2h", NONE, NONE, 7200000 },
	{ "14d", NONE, NONE, 1209600000 },
	{ "9223372036854775807d", NONE, NONE, NONE },
	{ "1w", NONE, NONE, NONE },
	{ "ms", NONE, NONE, NONE },
	{ "1 s", NONE, NONE, NONE },
};

START_TEST(numbers_sizes_and_durations_are_converted_exactly)
{
	int64_t number = NONE, bytes = NONE, ms = NONE;
	const char *text = number_cases[_i].text;

	ck_assert_int_eq(conf_to_int(text, &number), number_cases[_i].number != NONE);
	ck_assert_int_eq(conf_to_bytes(text, &bytes), number_cases[_i].bytes != NONE);
	ck_assert_int_eq(conf_to_duration_ms(text, &ms), number_cases[_i].ms != NONE);
	ck_assert_int_eq(number, number_cases[_i].number); /* untouched on failure */
	ck_assert_int_eq(bytes, number_cases[_i].bytes);
	ck_assert_int_eq(ms, number_cases[_i].ms);
}
END_TEST

static const struct {
	int64_t value;
	const char *bytes, *duration;
} print_cases[] = {
	{ 0, "0", "0" },
	{ 1, "1", "1ms" },
	{ 1000, "1000", "1s" },
	{ 1024, "1k", "1024ms" },
	{ 1048576, "1m", "1048576ms" },
	{ 1048577, "1048577", "1048577ms" },
	{ 60000, "60000", "1m" },
	{ 90000, "90000", "90s" },
	{ 86400000, "84375k", "1d" },
	{ INT64_C(3) << 40, "3t", "3298534883328ms" },
};

START_TEST(sizes_and_durations_are_printed_as_they_are_read)
{
	char text[CONF_NUMBER_SIZE];
	int64_t back = -1;

	ck_assert_str_eq(conf_from_bytes(text, print_cases[_i].value), print_cases[_i].bytes);
	ck_assert(conf_to_bytes(text, &back) && back == print_cases[_i].value);
	ck_assert_str_eq(
	    conf_from_duration_ms(text, print_cases[_i].value), print_cases[_i].duration);
	ck_assert(conf_to_duration_ms(text, &back) && back == print_cases[_i].value);
}
END_TEST

START_TEST(only_yes_and_no_are_booleans)
{
	static const char *const others[] = { "", "Yes", "NO", "true", "false", "on", "off", "1",
		"0", "yess", "n" };
	bool value = false;

	ck_assert(conf_to_bool("yes", &value));
	ck_assert(value);
	ck_assert(conf_to_bool("no", &value));
	ck_assert(!value);
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		ck_assert_msg(!conf_to_bool(others[i], &value), "%s", others[i]);
}
END_TEST

static const struct {
	const char *name, *nearest;
} nearest_cases[] = {
	{ "pasword_file", "password_file" },
	{ "password_fiel", "password_file" }, /* swapped neighbours are one mistake */
	{ "passwordfile", "password_file" },
	{ "PASSWORD_FILE", NULL },
	{ "ordre", "order" },
	{ "oder", "order" },
	{ "acl", NULL },
	{ "acl_fil", "acl_file" },
	{ "ttl", NULL }, /* two mistakes in three letters are another word */
	{ "tsl", "tls" },
	{ "xyz", NULL },
	{ "completely_different", NULL },
	{ "", NULL },
};

START_TEST(a_mistyped_name_finds_the_nearest_known_one)
{
	static const char *const known[] = { "acl_file", "order", "password_file", "tls" };
	static char longest[5000];
	const char *found = conf_nearest(nearest_cases[_i].name, known, 4);

	if (nearest_cases[_i].nearest == NULL)
		ck_assert_msg(found == NULL, "%s: %s", nearest_cases[_i].name, found);
	else
		ck_assert_str_eq(found == NULL ? "nothing" : found, nearest_cases[_i].nearest);
	memset(longest, 'x', sizeof(longest) - 1);
	ck_assert_ptr_null(conf_nearest(longest, known, 4));
	ck_assert_ptr_null(conf_nearest("order", known, 0));
}
END_TEST

START_TEST(text_in_messages_is_harmless_and_short)
{
	char out[12];

	ck_assert_str_eq(conf_shown(out, sizeof(out), "plain"), "plain");
	ck_assert_str_eq(conf_shown(out, sizeof(out), "a\nb\033[1m\177"), "a?b?[1m?");
	ck_assert_str_eq(conf_shown(out, sizeof(out), "12345678901"), "12345678901");
	ck_assert_str_eq(conf_shown(out, sizeof(out), "123456789012"), "12345678...");
	ck_assert_str_eq(
	    conf_shown(out, sizeof(out), "1234567\303\274\303\274\303\274"), "1234567...");
}
END_TEST

#define LOOP(tcase, test, cases) \
	tcase_add_loop_test(tcase, test, 0, (int)(sizeof(cases) / sizeof((cases)[0])))

int
main(void)
{
	Suite *s = suite_create("conf");
	TCase *grammar = tcase_create("grammar"), *files = tcase_create("files"),
	      *values = tcase_create("values");
	SRunner *runner;
	int failed;

	LOOP(grammar, well_formed_text_becomes_its_tree, good_cases);
	tcase_add_test(grammar, every_node_knows_where_it_stands);
	tcase_add_test(grammar, a_raw_string_of_several_lines_counts_them);
	tcase_add_test(grammar, values_tell_how_they_were_written);
	LOOP(grammar, malformed_text_is_refused_with_line_and_reason, bad_cases);
	tcase_add_test(grammar, every_beginning_of_a_file_is_judged);
	LOOP(grammar, one_run_reports_all_syntax_errors, several_cases);
	tcase_add_test(grammar, a_hopeless_file_is_given_up);
	tcase_add_test(grammar, blocks_nest_only_so_deep);
	tcase_add_test(grammar, a_list_has_only_so_many_values);
	LOOP(grammar, a_repetition_names_both_lines, unique_cases);
	tcase_add_test(grammar, blocks_without_title_are_merged_on_demand);
	suite_add_tcase(s, grammar);

	tcase_add_checked_fixture(files, conf_files_begin, conf_files_end);
	tcase_add_test(files, a_file_has_only_so_many_bytes);
	tcase_add_test(files, conf_d_is_read_behind_the_main_file_in_the_order_of_names);
	tcase_add_test(files, errors_of_all_files_are_reported);
	tcase_add_test(files, a_missing_file_is_named);
	tcase_add_test(files, what_is_not_a_regular_file_is_refused_without_waiting);
	LOOP(files, a_secret_is_the_content_of_its_file_without_the_last_newline, secret_cases);
	tcase_add_test(files, a_value_does_not_grow_without_bound);
	suite_add_tcase(s, files);

	LOOP(values, numbers_sizes_and_durations_are_converted_exactly, number_cases);
	LOOP(values, sizes_and_durations_are_printed_as_they_are_read, print_cases);
	tcase_add_test(values, only_yes_and_no_are_booleans);
	LOOP(values, a_mistyped_name_finds_the_nearest_known_one, nearest_cases);
	tcase_add_test(values, text_in_messages_is_harmless_and_short);
	suite_add_tcase(s, values);

	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
