/* SPDX-License-Identifier: Apache-2.0 */
#include "core/retain_order.h"
#include "core/retain_tree.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAMES 30000

/* libcheck writes a record per ck_assert: what runs very often uses this. */
#define REQUIRE(condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			ck_abort_msg("not: %s", #condition); \
	} while (0)

static struct retain_tree tree;
static struct message *sorted[NAMES]; /* each name once */
static bool present[NAMES];
static unsigned count;
static uint64_t state = 4711;

static uint32_t
random_below(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 20) % n;
}

/* Names with nothing, little, and very much in common, and with what sorts at the edges. */
static void
random_name(char *buf, size_t size)
{
	static const char *const stems[] = { "", "a", "site", "site/17", "\x01", "a!", "zz",
		"a/very/long/beginning/that/is/the/same/for/one/name/in/eight/of/all" };
	static const char *const tails[] = { "", "/", "/temperature", "/humidity", "0", "!",
		"\xc3\xbf", "\xf4\x8f\xbf\xbf" };

	snprintf(buf, size, "%s/%u%s", stems[random_below(8)], random_below(NAMES * 2),
	    tails[random_below(8)]);
}

static struct message *
message_of(const char *topic_name)
{
	struct message borrowed = { .topic = topic_name,
		.topic_len = (uint16_t)strlen(topic_name),
		.payload = "x",
		.payload_len = 1 },
		       *msg = message_keep(&borrowed);

	REQUIRE(msg != NULL);
	message_release_borrowed(&borrowed);
	return msg;
}

static int
by_name(const void *a, const void *b)
{
	return retain_compare(
	    message_topic(*(struct message *const *)a), message_topic(*(struct message *const *)b));
}

static void
setup(void)
{
	char name[128];
	unsigned kept = 0;

	retain_tree_init(&tree);
	for (count = 0; count < NAMES; count++) {
		random_name(name, sizeof(name));
		sorted[count] = message_of(name);
	}
	qsort(sorted, count, sizeof(sorted[0]), by_name);
	for (unsigned i = 0; i < count; i++) {
		if (kept > 0 && by_name(&sorted[kept - 1], &sorted[i]) == 0)
			message_unref(sorted[i]);
		else
			sorted[kept++] = sorted[i];
	}
	count = kept;
	memset(present, 0, sizeof(present));
}

static void
teardown(void)
{
	retain_tree_fini(&tree, message_unref);
	for (unsigned i = 0; i < count; i++)
		if (!present[i])
			message_unref(sorted[i]);
}

static void
insert(unsigned i)
{
	struct retain_place place;

	REQUIRE(!retain_tree_seek(&tree, message_topic(sorted[i]), &place));
	REQUIRE(retain_tree_insert(&tree, &place, sorted[i]));
	present[i] = true;
}

static void
take_out(unsigned i)
{
	struct retain_place place;

	REQUIRE(retain_tree_seek(&tree, message_topic(sorted[i]), &place));
	REQUIRE(retain_tree_remove(&tree, &place) == sorted[i]);
	present[i] = false;
}

/* Finds what is there and nothing else, by seeks, and by going through it all. */
static void
check_all(void)
{
	struct retain_place place;
	struct message *msg;

	(void)retain_tree_seek(&tree, (struct grapnel_str){ NULL, 0 }, &place);
	msg = retain_place_settle(&place);
	for (unsigned i = 0; i < count; i++) {
		struct retain_place found;

		REQUIRE(retain_tree_seek(&tree, message_topic(sorted[i]), &found) == present[i]);
		if (present[i]) {
			REQUIRE(msg == sorted[i]);
			REQUIRE(retain_place_settle(&found) == sorted[i]);
			msg = retain_place_next(&place);
		} else {
			/* between two: the one behind is where going through is now */
			REQUIRE(retain_place_settle(&found) == msg);
		}
	}
	REQUIRE(msg == NULL);
}

static void
shuffled(unsigned *order)
{
	for (unsigned i = 0; i < count; i++)
		order[i] = i;
	for (unsigned i = count; i > 1; i--) {
		unsigned k = random_below(i), t = order[i - 1];

		order[i - 1] = order[k];
		order[k] = t;
	}
}

START_TEST(what_comes_in_any_order_is_found_in_order)
{
	static unsigned order[NAMES];

	shuffled(order);
	check_all();
	for (unsigned i = 0; i < count; i++) {
		insert(_i == 0 ? i : _i == 1 ? count - 1 - i : order[i]);
		if (i == 20 || i == 200 || i == 2000)
			check_all();
	}
	check_all();
	shuffled(order);
	for (unsigned i = 0; i < count; i++) {
		take_out(_i == 0 ? i : _i == 1 ? count - 1 - i : order[i]);
		if (i == count / 2 || i == count - 200 || i == count - 20)
			check_all();
	}
	ck_assert_ptr_null(tree.root);
}
END_TEST

START_TEST(what_comes_and_goes_leaves_the_rest_in_order)
{
	for (unsigned round = 0; round < 200000; round++) {
		/* mostly in one part, which grows and shrinks */
		unsigned i = random_below(round % 3 ? count / 8 : count);

		if (present[i] && random_below(4) < 1 + round / 50000)
			take_out(i);
		else if (!present[i])
			insert(i);
		if (round % 40000 == 0)
			check_all();
	}
	check_all();
}
END_TEST

START_TEST(names_in_order_fill_the_nodes)
{
	unsigned nodes = 0;
	struct retain_place place;

	for (unsigned i = 0; i < count; i++)
		insert(i);
	(void)retain_tree_seek(&tree, (struct grapnel_str){ NULL, 0 }, &place);
	for (struct message *msg = retain_place_settle(&place); msg != NULL;
	     msg = retain_place_next(&place))
		nodes += place.at[0] == 0;
	ck_assert_uint_le(nodes, count / RETAIN_NODE_MAX + 1);
}
END_TEST

START_TEST(what_is_left_of_many_needs_few_nodes)
{
	unsigned nodes = 0, left = 0;
	struct retain_place place;

	for (unsigned i = 0; i < count; i++)
		insert(i);
	for (unsigned i = 0; i < count; i++) {
		if (i % 20 != 0)
			take_out(i);
		else
			left++;
	}
	(void)retain_tree_seek(&tree, (struct grapnel_str){ NULL, 0 }, &place);
	for (struct message *msg = retain_place_settle(&place); msg != NULL;
	     msg = retain_place_next(&place))
		nodes += place.at[0] == 0;
	ck_assert_uint_le(nodes, left / (RETAIN_NODE_MAX / 4) + 1);
}
END_TEST

START_TEST(a_step_to_a_key_is_like_a_seek)
{
	for (unsigned i = 0; i < count; i += 1 + random_below(2))
		insert(i);
	for (unsigned round = 0; round < 100000; round++) {
		unsigned from = random_below(count),
			 to = from + 1 + random_below(round % 2 ? 40 : 4000);
		struct retain_place place, there;
		struct grapnel_str key;

		if (to >= count || !present[from])
			continue;
		key = message_topic(sorted[to]);
		(void)retain_tree_seek(&tree, message_topic(sorted[from]), &place);
		(void)retain_tree_seek(&tree, key, &there);
		REQUIRE(retain_place_seek(&tree, key, &place) == retain_place_settle(&there));
	}
}
END_TEST

START_TEST(nodes_are_passed_over_only_if_a_level_does_not_occur_there)
{
	struct retain_levels needed;
	struct retain_place place;
	unsigned met = 0, expected = 0, nodes = UINT32_MAX;
	struct message *msg;

	for (unsigned i = 0; i < count; i++)
		insert(i);
	retain_levels_of(&tree.key, GRAPNEL_STR("+/+/humidity"), &needed);
	for (unsigned i = 0; i < count; i++) {
		const char *slash = memchr(sorted[i]->topic, '/', sorted[i]->topic_len);

		slash = memchr(
		    slash + 1, '/', (size_t)(sorted[i]->topic + sorted[i]->topic_len - slash) - 1);
		expected += slash != NULL && sorted[i]->topic + sorted[i]->topic_len - slash == 9 &&
		    memcmp(slash, "/humidity", 9) == 0;
	}
	(void)retain_tree_seek(&tree, (struct grapnel_str){ NULL, 0 }, &place);
	for (msg = retain_place_settle(&place); msg != NULL; msg = retain_place_next(&place)) {
		struct grapnel_str name;
		unsigned slashes = 0;

		if (place.at[0] == 0 && (msg = retain_place_skip(&place, &needed, &nodes)) == NULL)
			break;
		name = message_topic(msg);
		for (size_t i = 0; i < name.len; i++)
			slashes += name.data[i] == '/';
		met += slashes == 2 && name.len > 9 &&
		    memcmp(name.data + name.len - 9, "/humidity", 9) == 0;
	}
	ck_assert_uint_gt(expected, 0);
	ck_assert_uint_eq(met, expected);
}
END_TEST

START_TEST(heads_compare_like_the_names_behind_what_is_equal)
{
	char a[128], b[128];
	struct grapnel_str x, y;
	uint64_t head_x, head_y;
	size_t common, skip;

	for (unsigned round = 0; round < 300000; round++) {
		random_name(a, sizeof(a));
		if (round % 2 == 0) {
			random_name(b, sizeof(b));
		} else {
			memcpy(b, a, sizeof(b));
			b[random_below((uint32_t)strlen(b))] = (char)(1 + random_below(255));
		}
		x = (struct grapnel_str){ a, strlen(a) };
		y = (struct grapnel_str){ b, strlen(b) };
		REQUIRE(retain_compare(x, y) == retain_compare_common(x, y, &common));
		REQUIRE(common <= x.len && common <= y.len && memcmp(a, b, common) == 0);
		skip = random_below((uint32_t)common + 1);
		head_x = retain_head(x, skip);
		head_y = retain_head(y, skip);
		if (head_x != head_y)
			REQUIRE((head_x < head_y) == (retain_compare(x, y) < 0));
		else
			REQUIRE(common >= skip + 8 || (x.len == y.len && common == x.len) ||
			    ((uint8_t)a[common] >= 0xfd && (uint8_t)b[common] >= 0xfd));
	}
	ck_assert_uint_eq(retain_head(GRAPNEL_STR("ab"), 2), 0);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("retain_tree");
	TCase *tc = tcase_create("retain_tree");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, what_comes_in_any_order_is_found_in_order, 0, 3);
	tcase_add_test(tc, what_comes_and_goes_leaves_the_rest_in_order);
	tcase_add_test(tc, names_in_order_fill_the_nodes);
	tcase_add_test(tc, what_is_left_of_many_needs_few_nodes);
	tcase_add_test(tc, a_step_to_a_key_is_like_a_seek);
	tcase_add_test(tc, nodes_are_passed_over_only_if_a_level_does_not_occur_there);
	tcase_add_test(tc, heads_compare_like_the_names_behind_what_is_equal);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
