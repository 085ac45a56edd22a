/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mqtt/topic.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Of exact size and without a terminator, so that ASan sees a read past the end. */
static struct grapnel_str
str_of(const char *text, size_t len)
{
	char *data = malloc(len);

	ck_assert(data != NULL || len == 0);
	if (len > 0)
		memcpy(data, text, len);
	return (struct grapnel_str){ data, len };
}

static struct grapnel_str
str(const char *text)
{
	return str_of(text, strlen(text));
}

static void
drop(struct grapnel_str s)
{
	free((char *)s.data);
}

/* ---- syntax ------------------------------------------------------------------------------ */
static const struct {
	const char *text;
	bool name, filter;        /* valid as */
	const char *share, *rest; /* of a valid filter; share NULL: not shared */
} syntax_cases[] = {
	{ "a", true, true, NULL, "a" },
	{ "/", true, true, NULL, "/" },
	{ "//", true, true, NULL, "//" },
	{ "a/b/c", true, true, NULL, "a/b/c" },
	{ "/finance", true, true, NULL, "/finance" },
	{ "sport/", true, true, NULL, "sport/" },
	{ "with space/ ", true, true, NULL, "with space/ " },
	{ "$SYS/broker", true, true, NULL, "$SYS/broker" },
	{ "stra\xc3\x9f"
	  "e",
	    true, true, NULL,
	    "stra\xc3\x9f"
	    "e" },
	{ "", false, false, NULL, NULL },
	{ "+", false, true, NULL, "+" },
	{ "#", false, true, NULL, "#" },
	{ "/#", false, true, NULL, "/#" },
	{ "+/+", false, true, NULL, "+/+" },
	{ "/+", false, true, NULL, "/+" },
	{ "sport/+/player1", false, true, NULL, "sport/+/player1" },
	{ "sport/tennis/#", false, true, NULL, "sport/tennis/#" },
	{ "+/tennis/#", false, true, NULL, "+/tennis/#" },
	{ "sport+", false, false, NULL, NULL }, /* [MQTT-4.7.1-2] */
	{ "+sport", false, false, NULL, NULL },
	{ "a/+b", false, false, NULL, NULL },
	{ "a/b+/c", false, false, NULL, NULL },
	{ "++", false, false, NULL, NULL },
	{ "sport/tennis#", false, false, NULL, NULL }, /* [MQTT-4.7.1-1] */
	{ "sport/#/ranking", false, false, NULL, NULL },
	{ "#/", false, false, NULL, NULL },
	{ "##", false, false, NULL, NULL },
	{ "a/#b", false, false, NULL, NULL },
	{ "+#", false, false, NULL, NULL },
	{ "#+", false, false, NULL, NULL },
	/* [MQTT-4.8.2-1] [MQTT-4.8.2-2] */
	{ "$share/g/a", true, true, "g", "a" },
	{ "$share/g/#", false, true, "g", "#" },
	{ "$share/g/+/b", false, true, "g", "+/b" },
	{ "$share/g//", true, true, "g", "/" },
	{ "$share/group name/a", true, true, "group name", "a" },
	{ "$share/g/$SYS/x", true, true, "g", "$SYS/x" },
	{ "$share/g", true, false, NULL, NULL },
	{ "$share/g/", true, false, NULL, NULL },
	{ "$share/", true, false, NULL, NULL },
	{ "$share//", true, false, NULL, NULL },
	{ "$share//a", true, false, NULL, NULL },
	{ "$share/+/a", false, false, NULL, NULL },
	{ "$share/#/a", false, false, NULL, NULL },
	{ "$share/g+/a", false, false, NULL, NULL },
	{ "$share/g#/a", false, false, NULL, NULL },
	{ "$share/#", false, false, NULL, NULL },
	{ "$share/g/a#", false, false, NULL, NULL },
	{ "$share/g/#/a", false, false, NULL, NULL },
	{ "$share", true, true, NULL, "$share" },
	{ "$shared/g/a", true, true, NULL, "$shared/g/a" },
	{ "$Share/g/a", true, true, NULL, "$Share/g/a" },
};

START_TEST(topic_name_or_filter_is_well_formed_or_not)
{
	struct grapnel_str text = str(syntax_cases[_i].text), share, rest;
	const char *want = syntax_cases[_i].text;

	ck_assert_msg(topic_name_valid(text) == syntax_cases[_i].name, "name \"%s\"", want);
	ck_assert_msg(topic_filter_valid(text, &share, &rest) == syntax_cases[_i].filter,
	    "filter \"%s\"", want);
	ck_assert_msg(
	    topic_filter_valid(text, NULL, NULL) == syntax_cases[_i].filter, "filter \"%s\"", want);
	if (syntax_cases[_i].filter) {
		ck_assert_uint_eq(rest.len, strlen(syntax_cases[_i].rest));
		ck_assert_mem_eq(rest.data, syntax_cases[_i].rest, rest.len);
		ck_assert((share.data != NULL) == (syntax_cases[_i].share != NULL));
		if (share.data != NULL) {
			ck_assert_uint_eq(share.len, strlen(syntax_cases[_i].share));
			ck_assert_mem_eq(share.data, syntax_cases[_i].share, share.len);
		}
	}
	drop(text);
}
END_TEST

START_TEST(a_null_character_is_in_no_name_and_no_filter)
{
	static const struct grapnel_str bad[] = { { "\0", 1 }, { "a\0", 2 }, { "a/\0/b", 5 },
		{ "$share/\0/a", 10 }, { "$share/g/\0", 10 } };

	for (int i = 0; i < COUNT(bad); i++) {
		struct grapnel_str text = str_of(bad[i].data, bad[i].len);

		ck_assert_msg(!topic_name_valid(text), "row %d", i);
		ck_assert_msg(!topic_filter_valid(text, NULL, NULL), "row %d", i);
		drop(text);
	}
}
END_TEST

START_TEST(levels_are_separators_and_one)
{
	static const struct {
		const char *text;
		unsigned levels;
		bool wildcard;
	} cases[] = { { "a", 1, false }, { "/", 2, false }, { "a/b", 2, false },
		{ "/a/", 3, false }, { "+", 1, true }, { "a/#", 2, true }, { "a/+/b", 3, true },
		{ "////", 5, false } };

	for (int i = 0; i < COUNT(cases); i++) {
		struct grapnel_str text = str(cases[i].text);

		ck_assert_uint_eq(topic_levels(text), cases[i].levels);
		ck_assert_msg(
		    topic_has_wildcard(text) == cases[i].wildcard, "\"%s\"", cases[i].text);
		drop(text);
	}
}
END_TEST

/* ---- relations --------------------------------------------------------------------------- */
static const struct {
	const char *filter, *topic_name;
	bool match;
} match_cases[] = {
	{ "sport/tennis/player1", "sport/tennis/player1", true },
	{ "sport/tennis/player1/#", "sport/tennis/player1", true },
	{ "sport/tennis/player1/#", "sport/tennis/player1/ranking", true },
	{ "sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true },
	{ "sport/tennis/player1/#", "sport/tennis/player10", false },
	{ "sport/#", "sport", true }, /* # covers the parent level */
	{ "sport/#", "sports", false },
	{ "sport/#", "sport/", true },
	{ "#", "a", true },
	{ "#", "/", true },
	{ "#", "a/b/c/d/e", true },
	{ "/#", "/", true },
	{ "/#", "/a/b", true },
	{ "/#", "a", false },
	{ "sport/tennis/+", "sport/tennis/player1", true },
	{ "sport/tennis/+", "sport/tennis/player1/ranking", false },
	{ "sport/tennis/+", "sport/tennis", false },
	{ "sport/+", "sport", false },
	{ "sport/+", "sport/", true }, /* an empty level is a level */
	{ "+/+", "/finance", true },
	{ "/+", "/finance", true },
	{ "+", "/finance", false },
	{ "+", "finance", true },
	{ "+/b", "a/b", true },
	{ "+/b", "/b", true },
	{ "a/+/c", "a/b/c", true },
	{ "a/+/c", "a//c", true },
	{ "a/+/c", "a/b/d", false },
	{ "a/+/c", "a/b", false },
	{ "a/+/#", "a", false },
	{ "a/+/#", "a/b", true },
	{ "a/+/#", "a/b/c/d", true },
	{ "+/#", "a", true },
	{ "a", "A", false }, /* case matters */
	{ "a", "a/", false },
	{ "a/", "a", false },
	{ "/a", "a", false },
	{ "a/b", "a/bc", false },
	{ "a/bc", "a/b", false },
	{ "#", "$SYS/clients", false }, /* [MQTT-4.7.2-1] */
	{ "+/clients", "$SYS/clients", false },
	{ "+/#", "$SYS/clients", false },
	{ "+", "$SYS", false },
	{ "$SYS/#", "$SYS", true },
	{ "$SYS/#", "$SYS/clients", true },
	{ "$SYS/+", "$SYS/clients", true },
	{ "$SYS/clients", "$SYS/clients", true },
	{ "a/#", "a/$b", true }, /* $ is special in front only */
	{ "+/+", "a/$b", true },
	{ "/#", "/$SYS", true },
};

START_TEST(filter_matches_topic_name)
{
	struct grapnel_str filter = str(match_cases[_i].filter);
	struct grapnel_str name = str(match_cases[_i].topic_name);
	bool want = match_cases[_i].match;

	ck_assert_msg(topic_matches(filter, name) == want, "\"%s\" and \"%s\"",
	    match_cases[_i].filter, match_cases[_i].topic_name);
	/* A Topic Name is a filter for itself alone: three questions, one answer. */
	ck_assert(topic_filter_covers(filter, name) == want);
	ck_assert(topic_filters_intersect(filter, name) == want);
	ck_assert(topic_filters_intersect(name, filter) == want);
	drop(filter);
	drop(name);
}
END_TEST

static const struct {
	const char *a, *b;
	bool a_covers_b, b_covers_a, intersect;
} relation_cases[] = {
	{ "#", "#", true, true, true },
	{ "#", "+", true, false, true },
	{ "#", "+/#", true, true, true }, /* '#' has no parent level of its own */
	{ "#", "+/+/#", true, false, true },
	{ "#", "/#", true, false, true },
	{ "+", "/#", false, false, false }, /* an empty Topic Name would be the common one */
	{ "/#", "/+/#", true, true, true },
	{ "+/+/#", "/#", true, false, true },
	{ "#", "a/#", true, false, true },
	{ "#", "$SYS/#", false, false, false },
	{ "+/#", "$SYS/#", false, false, false },
	{ "+/a", "$SYS/+", false, false, false },
	{ "$SYS/#", "$SYS/+", true, false, true },
	{ "$SYS/#", "$SYS", true, false, true },
	{ "$SYS/#", "$share/#", false, false, false },
	{ "a/#", "a", true, false, true },
	{ "a/#", "a/+", true, false, true },
	{ "a/#", "a/+/#", true, false, true }, /* "a" is matched by the first only */
	{ "a/#", "+", false, false, true },
	{ "a/#", "+/b", false, false, true },
	{ "a/#", "b/#", false, false, false },
	{ "a/#", "+/#", false, true, true },
	{ "a/+", "a/b", true, false, true },
	{ "a/+", "a/#", false, true, true },
	{ "a/+", "a", false, false, false },
	{ "a/+", "+/b", false, false, true },
	{ "a/+/c", "a/b/+", false, false, true },
	{ "a/+/c", "a/b/d", false, false, false },
	{ "a/+/c", "a/b/c", true, false, true },
	{ "a/+/c", "a/#", false, true, true },
	{ "+", "+", true, true, true },
	{ "+", "+/+", false, false, false },
	{ "+/+", "/", true, false, true },
	{ "+/+", "/+", true, false, true },
	{ "a/b/#", "a", false, false, false },
	{ "a/b/#", "a/b", true, false, true },
	{ "a/b/#", "a/+", false, false, true },
	{ "a/+/#", "a/#", false, true, true },
	{ "a/+/#", "a/+", true, false, true },
	{ "a/+/#", "a", false, false, false },
	{ "+/+/#", "+", false, false, false },
	{ "+/+/#", "+/#", false, true, true },
	{ "a", "b", false, false, false },
	{ "a", "a", true, true, true },
};

START_TEST(filters_cover_and_intersect)
{
	struct grapnel_str a = str(relation_cases[_i].a), b = str(relation_cases[_i].b);

	ck_assert_msg(topic_filter_covers(a, b) == relation_cases[_i].a_covers_b,
	    "\"%s\" covers \"%s\"", relation_cases[_i].a, relation_cases[_i].b);
	ck_assert_msg(topic_filter_covers(b, a) == relation_cases[_i].b_covers_a,
	    "\"%s\" covers \"%s\"", relation_cases[_i].b, relation_cases[_i].a);
	ck_assert_msg(topic_filters_intersect(a, b) == relation_cases[_i].intersect,
	    "\"%s\" intersects \"%s\"", relation_cases[_i].a, relation_cases[_i].b);
	ck_assert_msg(topic_filters_intersect(b, a) == relation_cases[_i].intersect,
	    "\"%s\" intersects \"%s\"", relation_cases[_i].b, relation_cases[_i].a);
	drop(a);
	drop(b);
}
END_TEST

/*
 * All filters of up to three levels against all Topic Names of up to four, over an alphabet
 * that has what matters: a literal, a literal no filter names, an empty level and two with '$'.
 * A filter is the set of the names it matches (by a matcher written another way); cover is then
 * subset and intersect a common element. Four levels and the unnamed literals are enough for
 * every difference that two filters of three levels can have.
 */
#define MAX_FILTERS 256
#define MAX_NAMES   1024
#define WORDS       (MAX_NAMES / 64)

static const char *const filter_levels[] = { "a", "", "$a", "+", "#" };
static const char *const name_levels[] = { "a", "z", "", "$a", "$z" };

struct enumerated {
	char text[MAX_NAMES][16];
	int count;
};

static void
enumerate(struct enumerated *e, const char *const *levels, int count, int depth)
{
	int from = 0;

	e->count = 0;
	for (int k = 0; k < count; k++)
		snprintf(e->text[e->count++], sizeof(e->text[0]), "%s", levels[k]);
	while (--depth > 0) {
		int to = e->count;

		/* What the last round made, with one level more. */
		for (int i = from; i < to; i++)
			for (int k = 0; k < count && strchr(e->text[i], '#') == NULL; k++) {
				size_t len = strlen(e->text[i]);

				ck_assert_int_lt(e->count, MAX_NAMES);
				ck_assert_uint_lt(len + strlen(levels[k]) + 1, sizeof(e->text[0]));
				memcpy(e->text[e->count], e->text[i], len);
				snprintf(e->text[e->count++] + len, sizeof(e->text[0]) - len, "/%s",
				    levels[k]);
			}
		from = to;
	}
}

/* Section 4.7 read as a recursion over the rest of both. */
static bool
rest_matches(const char *filter, const char *name)
{
	size_t f = strcspn(filter, "/"), n = strcspn(name, "/");

	if (filter[0] == '#')
		return true;
	if (filter[0] != '+' && (f != n || memcmp(filter, name, f) != 0))
		return false;
	if (filter[f] == '\0' || name[n] == '\0')
		return (filter[f] == '\0' && name[n] == '\0') || strcmp(filter + f, "/#") == 0;
	return rest_matches(filter + f + 1, name + n + 1);
}

static bool
matches_simply(const char *filter, const char *name)
{
	return !(name[0] == '$' && filter[0] != '$') && rest_matches(filter, name);
}

START_TEST(relations_agree_with_the_sets_of_topic_names)
{
	static struct enumerated filters, names;
	static uint64_t set[MAX_FILTERS][WORDS];
	int covers = 0, intersects = 0;

	enumerate(&filters, filter_levels, COUNT(filter_levels), 3);
	enumerate(&names, name_levels, COUNT(name_levels), 4);
	ck_assert_int_le(filters.count, MAX_FILTERS);
	for (int f = 0; f < filters.count; f++) {
		struct grapnel_str filter = str(filters.text[f]);

		if (filter.len > 0)
			for (int n = 0; n < names.count; n++) {
				struct grapnel_str name = str(names.text[n]);
				bool match =
				    name.len > 0 && matches_simply(filters.text[f], names.text[n]);

				ck_assert_msg(name.len == 0 || topic_matches(filter, name) == match,
				    "\"%s\" and \"%s\"", filters.text[f], names.text[n]);
				if (match)
					set[f][n / 64] |= UINT64_C(1) << n % 64;
				drop(name);
			}
		drop(filter);
	}
	for (int i = 0; i < filters.count; i++)
		for (int k = 0; k < filters.count; k++) {
			struct grapnel_str a = str(filters.text[i]), b = str(filters.text[k]);
			bool subset = true, common = false;

			if (a.len > 0 && b.len > 0) { /* "" is no filter */
				for (int w = 0; w < WORDS; w++) {
					subset = subset && (set[k][w] & ~set[i][w]) == 0;
					common = common || (set[k][w] & set[i][w]) != 0;
				}
				ck_assert_msg(topic_filter_covers(a, b) == subset,
				    "\"%s\" covers \"%s\"", filters.text[i], filters.text[k]);
				ck_assert_msg(topic_filters_intersect(a, b) == common,
				    "\"%s\" intersects \"%s\"", filters.text[i], filters.text[k]);
				covers += subset;
				intersects += common;
			}
			drop(a);
			drop(b);
		}
	/* Both answers occurred: the tables above would not notice an empty enumeration. */
	ck_assert_int_gt(covers, filters.count);
	ck_assert_int_gt(intersects, covers);
	ck_assert_int_lt(intersects, filters.count * filters.count);
}
END_TEST

START_TEST(very_deep_topics_need_no_stack)
{
	enum { LEN = 65535 };
	char *deep = malloc(LEN), *wild = malloc(LEN);

	ck_assert(deep != NULL && wild != NULL);
	memset(deep, '/', LEN);
	for (size_t i = 0; i < LEN; i++)
		wild[i] = i % 2 == 0 ? '+' : '/';
	struct grapnel_str d = { deep, LEN }, w = { wild, LEN };

	ck_assert_uint_eq(topic_levels(d), 65536);
	ck_assert(topic_filter_valid(d, NULL, NULL) && topic_filter_valid(w, NULL, NULL));
	ck_assert(topic_matches(d, d) && !topic_matches(w, d));
	ck_assert(topic_filter_covers(w, w) && topic_filters_intersect(w, w));
	ck_assert(topic_matches(GRAPNEL_STR("#"), d));
	free(deep);
	free(wild);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("topic");
	TCase *tables = tcase_create("tables");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tables, 60);
	tcase_add_loop_test(
	    tables, topic_name_or_filter_is_well_formed_or_not, 0, COUNT(syntax_cases));
	tcase_add_test(tables, a_null_character_is_in_no_name_and_no_filter);
	tcase_add_test(tables, levels_are_separators_and_one);
	tcase_add_loop_test(tables, filter_matches_topic_name, 0, COUNT(match_cases));
	tcase_add_loop_test(tables, filters_cover_and_intersect, 0, COUNT(relation_cases));
	tcase_add_test(tables, relations_agree_with_the_sets_of_topic_names);
	tcase_add_test(tables, very_deep_topics_need_no_stack);
	suite_add_tcase(suite, tables);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
