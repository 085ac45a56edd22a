/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rcu.h"
#include "core/topic_index.h"
#include "core/topic_tree.h"
#include "mqtt/topic.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STR(s) ((struct grapnel_str){ (s), strlen(s) })

static struct topic_index *ix;
static struct topic_matcher *matcher;

static void
setup(void)
{
	rcu_thread_start();
	ck_assert_int_eq(topic_index_new(&ix, 3), GRAPNEL_OK);
	ck_assert_ptr_nonnull(matcher = topic_matcher_new());
}

static void
teardown(void)
{
	topic_matcher_free(matcher);
	topic_index_free(ix);
	rcu_wait();
	rcu_thread_stop();
}

static uint64_t
node_count(void)
{
	struct topic_index_stats stats;

	topic_index_stats(ix, &stats);
	return stats.nodes;
}

static uint64_t
byte_count(void)
{
	struct topic_index_stats stats;

	topic_index_stats(ix, &stats);
	return stats.bytes;
}

/* What is retired while another grace period is under way waits for the next one. */
static void
settle(void)
{
	rcu_wait();
	rcu_wait();
}

static uint32_t
random_below(uint64_t *state, uint32_t n)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 20) % n;
}

/* libcheck writes a record per ck_assert: what runs very often uses this. */
#define REQUIRE(condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			ck_abort_msg("not: %s", #condition); \
	} while (0)

static void
set_slot(struct topic_node *node, unsigned worker, void *p)
{
	REQUIRE(topic_node_set_slot(ix, node, worker, p) == GRAPNEL_OK);
}

static struct topic_node *
subscribe(const char *filter, unsigned worker, void *p)
{
	struct topic_node *node = NULL;

	REQUIRE(topic_index_acquire(ix, STR(filter), &node) == GRAPNEL_OK);
	set_slot(node, worker, p);
	return node;
}

static void
unsubscribe(struct topic_node *node, unsigned worker)
{
	set_slot(node, worker, NULL);
	topic_index_release(ix, node);
}

static bool
is_among(const struct topic_match *match, const struct topic_node *node)
{
	for (unsigned i = 0; i < match->count; i++)
		if (match->nodes[i] == node)
			return true;
	return false;
}

static unsigned
match_count(const char *topic_name)
{
	struct topic_match out;

	rcu_read_begin();
	REQUIRE(topic_index_match(ix, matcher, &STR(topic_name), 1, &out) == GRAPNEL_OK);
	rcu_read_end();
	return out.count;
}

/* ---- which filters match -------------------------------------------------------------------- */

static const struct {
	const char *filter, *topic_name;
	bool match;
} cases[] = {
	{ "a", "a", true },
	{ "a", "b", false },
	{ "a", "a/", false },
	{ "a/", "a", false },
	{ "a/", "a/", true },
	{ "/a", "/a", true },
	{ "/", "/", true },
	{ "+", "/", false },
	{ "+/+", "/", true },
	{ "/+", "/", true },
	{ "+/", "/", true },
	{ "sport/#", "sport", true }, /* # covers the parent level */
	{ "sport/#", "sport/", true },
	{ "sport/#", "sport/tennis/x", true },
	{ "sport/#", "sports", false },
	{ "sport/+", "sport", false },
	{ "sport/+", "sport/", true },
	{ "sport/+/#", "sport/a", true },
	{ "sport/+/#", "sport", false },
	{ "+/+", "/finance", true },
	{ "/+", "/finance", true },
	{ "+", "/finance", false },
	{ "#", "a", true },
	{ "#", "/", true },
	{ "#", "$SYS/clients", false }, /* [MQTT-4.7.2-1] */
	{ "+/clients", "$SYS/clients", false },
	{ "+/#", "$SYS/clients", false },
	{ "$SYS/#", "$SYS/clients", true },
	{ "$SYS/+", "$SYS/clients", true },
	{ "+/$SYS", "a/$SYS", true },
	{ "a/#", "a/$SYS", true },
	{ "$", "$", true },
	{ "#", "$", false },
	{ "12345678", "12345678", true }, /* levels as long as a word, and around it */
	{ "12345678", "1234567", false },
	{ "123456789", "123456789", true },
	{ "123456789", "12345678x", false },
	{ "1234567890abcdef", "1234567890abcdef", true },
	{ "1234567890abcdef", "1234567890abcdeg", false },
	{ "1234567890abcdef/x", "1234567890abcdef/x", true },
};

START_TEST(a_filter_matches_what_the_standard_says)
{
	struct topic_node *node = subscribe(cases[_i].filter, 1, &ix);

	ck_assert_msg(match_count(cases[_i].topic_name) == cases[_i].match, "row %d: %s", _i,
	    cases[_i].filter);
	unsubscribe(node, 1);
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

/*
 * The key is secret, so collisions must be made: with this one only the last word of a level
 * counts.
 */
START_TEST(levels_whose_hashes_collide_are_told_apart)
{
	struct topic_node *nodes[40], *below[40];
	char filter[64];

	ix->key.full = 0;
	for (unsigned count = 1; count <= 40; count++) {
		snprintf(filter, sizeof(filter), "the same%08u same", count - 1);
		nodes[count - 1] = subscribe(filter, 0, &ix);
		snprintf(filter, sizeof(filter), "the same%08u same/the same%08u same", count - 1,
		    count - 1);
		below[count - 1] = subscribe(filter, 0, &ix);
		for (unsigned i = 0; i <= 40; i++) {
			snprintf(filter, sizeof(filter), "the same%08u same", i);
			REQUIRE(match_count(filter) == (i < count));
			snprintf(
			    filter, sizeof(filter), "the same%08u same/the same%08u same", i, i);
			REQUIRE(match_count(filter) == (i < count));
			snprintf(filter, sizeof(filter), "the same%08u same/the same%08u same", i,
			    i + 1);
			REQUIRE(match_count(filter) == 0);
		}
	}
	for (unsigned i = 0; i < 40; i++) {
		unsubscribe(nodes[i], 0);
		unsubscribe(below[i], 0);
		for (unsigned k = 0; k < 40; k++) {
			snprintf(filter, sizeof(filter), "the same%08u same", k);
			REQUIRE(match_count(filter) == (k > i));
		}
	}
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

#define FILTERS 2000
#define NAMES   1500

static const char *const words[] = { "", "a", "b", "ab", "$", "$a", "0123456789", "01234567" };

static void
random_text(uint64_t *state, char *buf, bool filter)
{
	unsigned levels = 1 + random_below(state, 5);

	*buf = '\0';
	for (unsigned i = 0; i < levels; i++) {
		uint32_t pick = random_below(state, 12);

		if (i > 0)
			strcat(buf, "/");
		if (filter && pick >= 10)
			strcat(buf, "+");
		else if (filter && pick == 9 && i == levels - 1)
			strcat(buf, "#");
		else
			strcat(buf, words[pick % 8]);
	}
	if (*buf == '\0')
		strcat(buf, "a");
}

START_TEST(random_filters_match_like_brute_force_alone_and_in_groups)
{
	static char filters[FILTERS][80], names[NAMES][80];
	static struct topic_node *nodes[FILTERS];
	static bool again[FILTERS]; /* the same filter twice is one node */
	struct topic_match one, out[TOPIC_GROUP];
	struct grapnel_str group[TOPIC_GROUP];
	uint64_t state = 4711;

	for (unsigned i = 0; i < FILTERS; i++) {
		random_text(&state, filters[i], true);
		nodes[i] = subscribe(filters[i], i % 3, filters[i]);
		for (unsigned k = 0; k < i && !again[i]; k++)
			again[i] = nodes[k] == nodes[i];
	}
	for (unsigned i = 0; i < NAMES; i++)
		random_text(&state, names[i], false);
	for (unsigned half = 0; half < 2; half++) {
		for (unsigned i = 0; i < NAMES;) {
			unsigned n = 1 + random_below(&state, TOPIC_GROUP);
			unsigned counts[TOPIC_GROUP], total;

			n = n < NAMES - i ? n : NAMES - i;
			for (unsigned k = 0; k < n; k++)
				group[k] = STR(names[i + k]);
			rcu_read_begin();
			REQUIRE(topic_index_match(ix, matcher, group, n, out) == GRAPNEL_OK);
			for (unsigned k = 0; k < n; k++) {
				total = 0;
				for (unsigned f = 0; f < FILTERS; f++) {
					bool expected = nodes[f] != NULL &&
					    topic_matches(STR(filters[f]), group[k]);

					if (expected && !is_among(&out[k], nodes[f]))
						ck_abort_msg("%s: %s", filters[f], names[i + k]);
					total += expected && !again[f];
				}
				if (total != out[k].count)
					ck_abort_msg("%s: %u instead of %u", names[i + k],
					    out[k].count, total);
				counts[k] = total;
			}
			for (unsigned k = 0; k < n; k++) {
				if (topic_index_match(ix, matcher, &group[k], 1, &one) !=
					GRAPNEL_OK ||
				    one.count != counts[k])
					ck_abort_msg("%s alone: %u instead of %u", names[i + k],
					    one.count, counts[k]);
			}
			rcu_read_end();
			i += n * 4;
		}
		for (unsigned f = 0; f < FILTERS; f++) {
			if (nodes[f] != NULL && (half == 1 || f % 3 != 0)) {
				unsubscribe(nodes[f], f % 3);
				nodes[f] = NULL;
			}
		}
		memset(again, 0, sizeof(again));
		for (unsigned f = 0; half == 0 && f < FILTERS; f++)
			for (unsigned k = 0; k < f && nodes[f] != NULL && !again[f]; k++)
				again[f] = nodes[k] == nodes[f];
	}
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

static bool
has_text(struct topic_node *node, const char *filter)
{
	char buf[400];
	size_t len = topic_index_filter(ix, node, buf, sizeof(buf));

	return len == strlen(filter) && memcmp(buf, filter, len) == 0;
}

/* Levels become branches when another filter shares them; the filter stays the same. */
START_TEST(a_filter_is_told_as_it_was_whatever_else_comes_and_goes)
{
	static char filters[FILTERS][400];
	static struct topic_node *nodes[FILTERS];
	uint64_t state = 815;

	for (unsigned step = 0; step < 20 * FILTERS; step++) {
		unsigned i = random_below(&state, FILTERS), k = random_below(&state, FILTERS);

		if (nodes[i] == NULL) {
			random_text(&state, filters[i], true);
			if (i % 10 == 0) { /* outside of its node */
				size_t len = strlen(filters[i]);

				if (filters[i][len - 1] == '#')
					filters[i][--len] = 'h';
				memset(filters[i] + len, 'l', 200);
				memcpy(filters[i] + len, "/a/", 3);
				filters[i][len + 200] = '\0';
			}
			nodes[i] = subscribe(filters[i], i % 3, filters[i]);
			REQUIRE(topic_index_find(ix, STR(filters[i])) == nodes[i]);
		} else if (step % 2 == 0) {
			unsubscribe(nodes[i], i % 3);
			nodes[i] = NULL;
		}
		REQUIRE(nodes[i] == NULL || has_text(nodes[i], filters[i]));
		REQUIRE(nodes[k] == NULL || has_text(nodes[k], filters[k]));
	}
	for (unsigned i = 0; i < FILTERS; i++) {
		if (nodes[i] != NULL) {
			REQUIRE(has_text(nodes[i], filters[i]));
			unsubscribe(nodes[i], i % 3);
			nodes[i] = NULL;
		}
	}
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

START_TEST(what_is_not_there_is_not_found)
{
	struct topic_node *node = subscribe("a/b/+/#", 0, &ix), *other;

	ck_assert_ptr_eq(topic_index_find(ix, STR("a/b/+/#")), node);
	other = subscribe("a/b/c", 0, &ix);
	ck_assert_ptr_eq(topic_index_find(ix, STR("a/b/+/#")), node);
	ck_assert_ptr_eq(topic_index_find(ix, STR("a/b/c")), other);
	ck_assert_ptr_null(topic_index_find(ix, STR("a")));
	ck_assert_ptr_null(topic_index_find(ix, STR("a/b")));
	ck_assert_ptr_null(topic_index_find(ix, STR("a/b/#")));
	ck_assert_ptr_null(topic_index_find(ix, STR("a/b/+")));
	ck_assert_ptr_null(topic_index_find(ix, STR("a/b/c/#")));
	ck_assert_ptr_null(topic_index_find(ix, STR("#")));
	ck_assert_uint_eq(node_count(), 4);
	unsubscribe(node, 0);
	unsubscribe(other, 0);
}
END_TEST

START_TEST(each_worker_has_a_slot_of_its_own)
{
	struct topic_node *node = subscribe("x", 1, &ix);

	for (unsigned i = 0; i < 3; i += 2) {
		ck_assert_ptr_null(topic_node_slot(node, i));
		subscribe("x", i, &matcher);
	}
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_ptr_eq(topic_node_slot(node, i), i == 1 ? (void *)&ix : (void *)&matcher);
		set_slot(node, i, &node);
		ck_assert_ptr_eq(topic_node_slot(node, i), &node);
	}
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(match_count("x"), 1);
		unsubscribe(node, i);
		ck_assert(!topic_node_has(node, i));
	}
	ck_assert_uint_eq(match_count("x"), 0);
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

START_TEST(a_node_without_subscribers_is_not_a_result)
{
	struct topic_node *a, *b;

	ck_assert_int_eq(topic_index_acquire(ix, STR("a"), &a), GRAPNEL_OK);
	ck_assert_uint_eq(match_count("a"), 0);
	set_slot(a, 2, &a);
	ck_assert_uint_eq(match_count("a"), 1);
	b = subscribe("a/b", 0, &b);
	unsubscribe(a, 2);
	ck_assert_uint_eq(match_count("a"), 0);
	ck_assert_uint_eq(match_count("a/b"), 1);
	unsubscribe(b, 0);
}
END_TEST

START_TEST(all_wildcard_combinations_of_a_deep_topic_name_are_found)
{
	struct topic_node *nodes[1024];
	char filter[32], *p;

	for (unsigned i = 0; i < 1024; i++) {
		p = filter;
		for (unsigned k = 0; k < 10; k++) {
			*p++ = i & 1u << k ? '+' : 'a';
			*p++ = '/';
		}
		p[-1] = '\0';
		nodes[i] = subscribe(filter, 0, &ix);
	}
	ck_assert_uint_eq(match_count("a/a/a/a/a/a/a/a/a/a"), 1024);
	ck_assert_uint_eq(match_count("a/a/a/a/a/a/a/a/a/b"), 512);
	ck_assert_uint_eq(match_count("a/a/a/a/a/a/a/a/a"), 0);
	for (unsigned i = 0; i < 1024; i++)
		unsubscribe(nodes[i], 0);
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

START_TEST(levels_of_any_length_and_any_number_work)
{
	static const unsigned lengths[] = { 7, 8, 9, 127, 128, 129, 136, 1000, 65535 };
	char *text = malloc(65536);
	struct topic_node *node, *other;

	for (unsigned i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		memset(text, 'x', lengths[i]);
		text[lengths[i]] = '\0';
		node = subscribe(text, 0, &ix);
		text[lengths[i] - 1] = 'y';
		ck_assert_uint_eq(match_count(text), 0);
		other = subscribe(text, 0, &ix);
		ck_assert_ptr_ne(node, other);
		ck_assert_uint_eq(match_count(text), 1);
		unsubscribe(node, 0);
		ck_assert_uint_eq(match_count(text), 1);
		unsubscribe(other, 0);
		ck_assert_uint_eq(node_count(), 0);
	}
	memset(text, '/', 65535);
	node = subscribe(text, 0, &ix);
	ck_assert_uint_eq(node_count(), 1);
	ck_assert_uint_eq(match_count(text), 1);
	text[65534] = '\0';
	ck_assert_uint_eq(match_count(text), 0);
	other = subscribe(text, 0, &ix); /* shares all levels but the last */
	ck_assert_uint_eq(node_count(), 65535 + 2);
	ck_assert_uint_eq(match_count(text), 1);
	ck_assert_uint_eq(topic_index_filter(ix, node, text, 65536), 65535);
	ck_assert_uint_eq(topic_index_filter(ix, other, text, 65536), 65534);
	text[65534] = '/';
	ck_assert_uint_eq(match_count(text), 1);
	unsubscribe(node, 0);
	ck_assert_uint_eq(match_count(text), 0);
	unsubscribe(other, 0);
	ck_assert_uint_eq(node_count(), 0);
	free(text);
}
END_TEST

START_TEST(a_topic_name_is_not_read_beyond_its_end)
{
	struct topic_node *node = subscribe("abcdefghij/k", 0, &ix);

	/* In a block of exactly its size, where the address sanitizer looks at each byte. */
	for (size_t len = 1; len <= 12; len++) {
		char *exact = malloc(len);
		struct topic_match out;

		memcpy(exact, "abcdefghij/k", len);
		rcu_read_begin();
		ck_assert_int_eq(
		    topic_index_match(ix, matcher, &(struct grapnel_str){ exact, len }, 1, &out),
		    GRAPNEL_OK);
		rcu_read_end();
		ck_assert_uint_eq(out.count, len == 12);
		free(exact);
	}
	unsubscribe(node, 0);
}
END_TEST

/* ---- life of nodes -------------------------------------------------------------------------- */

START_TEST(the_same_filter_is_the_same_node_until_its_last_release)
{
	struct topic_node *a = subscribe("x/+/y/#", 0, &ix), *b = subscribe("x/+/y/#", 1, &ix);

	ck_assert_ptr_eq(a, b);
	ck_assert_uint_eq(node_count(), 1);
	ck_assert_ptr_eq(topic_node_slot(a, 0), &ix);
	ck_assert(topic_node_has(a, 1));
	ck_assert(!topic_node_has(a, 2));
	unsubscribe(a, 0);
	ck_assert_uint_eq(node_count(), 1);
	ck_assert_uint_eq(match_count("x/1/y"), 1);
	unsubscribe(b, 1);
	ck_assert_uint_eq(node_count(), 0);
	ck_assert_uint_eq(match_count("x/1/y"), 0);
}
END_TEST

START_TEST(a_node_that_is_freed_answers_to_its_old_generation_no_more)
{
	struct topic_node *node = subscribe("x", 0, &ix), *again;
	uint32_t generation = topic_node_generation(node);

	ck_assert_ptr_eq(topic_node_slot_checked(node, generation, 0), &ix);
	ck_assert_ptr_null(topic_node_slot_checked(node, generation, 1));
	ck_assert_ptr_null(topic_node_slot_checked(node, generation + 1, 0));
	unsubscribe(node, 0);
	ck_assert_ptr_null(topic_node_slot_checked(node, generation, 0));
	rcu_wait();
	again = subscribe("p", 0, &matcher); /* takes the same memory */
	ck_assert_ptr_eq(again, node);
	ck_assert_ptr_null(topic_node_slot_checked(node, generation, 0));
	ck_assert_uint_ne(topic_node_generation(node), generation);
	unsubscribe(again, 0);
}
END_TEST

START_TEST(memory_of_released_filters_is_used_again)
{
	static struct topic_node *nodes[20000];
	uint64_t bytes = 0, limit = 0;
	char filter[400];

	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 20000; i++) {
			/* Some levels are so long that they lie outside of their node. */
			snprintf(filter, sizeof(filter), "site/%u/dev/%0*u/#", i % 97,
			    i % 50 == 0 ? 300 : 5, i);
			nodes[i] = subscribe(filter, 0, &ix);
		}
		ck_assert_uint_eq(match_count("site/1/dev/00001/x"), 1);
		settle();
		bytes = byte_count();
		for (unsigned i = 0; i < 20000; i++)
			unsubscribe(nodes[i], 0);
		ck_assert_uint_eq(node_count(), 0);
		settle();
		ck_assert_uint_lt(byte_count(), bytes); /* tables and long texts are free */
		if (round == 0)
			limit = bytes + bytes / 50;
		ck_assert_uint_le(bytes, limit);
	}
}
END_TEST

START_TEST(a_filter_costs_at_most_55_bytes)
{
	static struct topic_node *nodes[100000];
	struct topic_index_stats stats;
	struct topic_index *small;
	char filter[64];

	ck_assert_int_eq(topic_index_new(&small, 1), GRAPNEL_OK);
	for (unsigned i = 0; i < 100000; i++) {
		snprintf(filter, sizeof(filter), "site/%u/dev/%u/#", i % 97, i);
		REQUIRE(topic_index_acquire(small, STR(filter), &nodes[i]) == GRAPNEL_OK);
	}
	settle();
	topic_index_stats(small, &stats);
	ck_assert_uint_le(stats.bytes, 55u * 100000u);
	for (unsigned i = 0; i < 100000; i++)
		topic_index_release(small, nodes[i]);
	topic_index_free(small);
}
END_TEST

/* Children come and go: through all kinds of homes for children, up and down, and in any order. */
START_TEST(children_are_found_however_many_come_and_go)
{
	static struct topic_node *nodes[600];
	uint64_t state = 99;
	unsigned alive = 0;
	char filter[16];

	for (unsigned step = 0; step < 30000; step++) {
		/* drift between few and many */
		unsigned range = (step / 3000) % 3 == 0 ? 6 : (step / 3000) % 3 == 1 ? 20 : 600;
		unsigned i = random_below(&state, step % 2 ? range : 600);

		snprintf(filter, sizeof(filter), "p/%u", i);
		if (nodes[i] == NULL && i < range) {
			nodes[i] = subscribe(filter, 0, &ix);
			alive++;
		} else if (nodes[i] != NULL) {
			unsubscribe(nodes[i], 0);
			nodes[i] = NULL;
			alive--;
		}
		REQUIRE(match_count(filter) == (nodes[i] != NULL));
		/* A branch comes with the second filter, and goes with the last. */
		REQUIRE(node_count() == alive + 1 || (alive <= 1 && node_count() == alive));
		if (step % 500 == 0) {
			for (unsigned k = 0; k < 600; k++) {
				snprintf(filter, sizeof(filter), "p/%u", k);
				REQUIRE(match_count(filter) == (nodes[k] != NULL));
			}
		}
	}
	for (unsigned i = 0; i < 600; i++)
		if (nodes[i] != NULL)
			unsubscribe(nodes[i], 0);
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

/* Chunks and tables of the index come from here, in this program. */
static _Atomic bool no_memory;

int
posix_memalign(void **out, size_t alignment, size_t size)
{
	if (no_memory)
		return ENOMEM;
	*out = aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
	return *out != NULL ? 0 : ENOMEM;
}

void *
mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (no_memory) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

START_TEST(without_memory_an_acquire_changes_nothing)
{
	struct topic_node *node = NULL, **nodes = calloc(400000, sizeof(struct topic_node *));
	uint64_t before;
	unsigned n = 0;
	char filter[64];

	for (; n < 7; n++) {
		snprintf(filter, sizeof(filter), "p/%u", n);
		nodes[n] = subscribe(filter, 0, &ix);
	}
	before = node_count();
	no_memory = true;
	ck_assert_int_eq(
	    topic_index_acquire(ix, STR("p/7/x"), &node), GRAPNEL_ENOMEM); /* needs a table */
	ck_assert_ptr_null(node);
	ck_assert_uint_eq(node_count(), before);
	ck_assert_uint_eq(match_count("p/6"), 1);
	ck_assert_uint_eq(match_count("p/7/x"), 0);
	no_memory = false;
	nodes[n++] = subscribe("p/7/x", 0, &ix);
	ck_assert_uint_eq(match_count("p/7/x"), 1);

	/* Chunks end at any level of a filter. */
	for (unsigned round = 0; round < 12; round++) {
		for (no_memory = true;; n++) {
			snprintf(filter, sizeof(filter), "%0*u/+/d/%u/#", 1 + (int)round * 2, n, n);
			before = node_count();
			if (topic_index_acquire(ix, STR(filter), &nodes[n]) != GRAPNEL_OK)
				break;
		}
		ck_assert_uint_eq(node_count(), before);
		no_memory = false;
		ck_assert_int_eq(topic_index_acquire(ix, STR(filter), &nodes[n++]), GRAPNEL_OK);
	}
	for (unsigned i = 0; i < n; i++)
		unsubscribe(nodes[i], 0);
	ck_assert_uint_eq(node_count(), 0);
	free(nodes);
}
END_TEST

START_TEST(an_index_with_filters_left_in_it_can_be_freed)
{
	char filter[600];

	memset(filter, 'l', sizeof(filter) - 1);
	filter[sizeof(filter) - 1] = '\0';
	subscribe(filter, 0, &ix);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(filter, sizeof(filter), "left/%u/+", i);
		subscribe(filter, 0, &ix);
	}
	ck_assert_uint_eq(match_count("left/999/x"), 1);
}
END_TEST

START_TEST(a_number_of_workers_that_cannot_be_is_refused)
{
	struct topic_index *none = NULL;

	ck_assert_int_eq(topic_index_new(&none, 0), GRAPNEL_EINVAL);
	ck_assert_int_eq(topic_index_new(&none, 1000000), GRAPNEL_EINVAL);
	ck_assert_ptr_null(none);
}
END_TEST

/* ---- threads -------------------------------------------------------------------------------- */

#define STABLE 50
static _Atomic bool stop;
static _Atomic uint64_t matches;

static void *
writer_main(void *arg)
{
	unsigned worker = (unsigned)(uintptr_t)arg;
	struct topic_node *nodes[400] = { NULL };
	uint32_t generations[400] = { 0 };
	uint64_t state = 17 + worker;
	char filter[64];

	rcu_thread_start();
	while (!stop) {
		unsigned i = random_below(&state, 400);

		if (nodes[i] == NULL) {
			snprintf(filter, sizeof(filter),
			    i % 5 == 0       ? "churn/%u/+"
				: i % 5 == 1 ? "churn/%u/#"
					     : "churn/%u/x/%u",
			    i / 5, i);
			if (topic_index_acquire(ix, STR(filter), &nodes[i]) != GRAPNEL_OK)
				abort();
			set_slot(nodes[i], worker, nodes);
			generations[i] = topic_node_generation(nodes[i]);
		} else {
			if (topic_node_slot_checked(nodes[i], generations[i], worker) != nodes)
				abort();
			set_slot(nodes[i], worker, NULL);
			topic_index_release(ix, nodes[i]);
			if (topic_node_slot_checked(nodes[i], generations[i], worker) != NULL)
				abort(); /* freed, or held by the other worker only */
			nodes[i] = NULL;
		}
	}
	for (unsigned i = 0; i < 400; i++) {
		if (nodes[i] != NULL) {
			set_slot(nodes[i], worker, NULL);
			topic_index_release(ix, nodes[i]);
		}
	}
	rcu_thread_stop();
	return NULL;
}

static void *
reader_main(void *arg)
{
	struct topic_matcher *m = topic_matcher_new();
	struct grapnel_str names[TOPIC_GROUP];
	struct topic_match out[TOPIC_GROUP];
	uint64_t state = 1000 + (uint64_t)(uintptr_t)arg;
	char bufs[TOPIC_GROUP][64];

	rcu_thread_start();
	while (!stop) {
		for (unsigned i = 0; i < TOPIC_GROUP; i++) {
			unsigned k = random_below(&state, 400);

			if (i % 2)
				snprintf(bufs[i], sizeof(bufs[i]), "churn/%u/x/%u", k / 5, k);
			else
				snprintf(bufs[i], sizeof(bufs[i]), "churn/stable-%u", k % STABLE);
			names[i] = STR(bufs[i]);
		}
		rcu_read_begin();
		if (topic_index_match(ix, m, names, TOPIC_GROUP, out) != GRAPNEL_OK)
			abort();
		for (unsigned i = 0; i < TOPIC_GROUP; i++) {
			if (i % 2 == 0 && out[i].count != 1)
				abort(); /* what nobody touches is always found */
			for (unsigned k = 0; k < out[i].count; k++) {
				topic_node_generation(out[i].nodes[k]);
				matches += topic_node_has(out[i].nodes[k], 0);
			}
		}
		rcu_read_end();
	}
	rcu_thread_stop();
	topic_matcher_free(m);
	return NULL;
}

START_TEST(readers_see_a_consistent_tree_while_others_change_it)
{
	struct topic_node *stable[STABLE];
	pthread_t threads[4];
	char filter[64];

	stop = false;
	for (unsigned i = 0; i < STABLE; i++) {
		snprintf(filter, sizeof(filter), "churn/stable-%u", i);
		stable[i] = subscribe(filter, 2, &ix);
	}
	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(
		    pthread_create(&threads[i], NULL, i < 2 ? writer_main : reader_main, (void *)i),
		    0);
	nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 500000000 }, NULL);
	stop = true;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_gt(matches, 0);
	for (unsigned i = 0; i < STABLE; i++)
		unsubscribe(stable[i], 2);
	ck_assert_uint_eq(node_count(), 0);
}
END_TEST

/* ---- rcu ------------------------------------------------------------------------------------ */

static _Atomic int freed;
static struct rcu_item second;

static void
count_free(struct rcu_item *item)
{
	(void)item;
	freed++;
}

static void
free_and_defer(struct rcu_item *item)
{
	(void)item;
	freed++;
	rcu_defer(&second, count_free);
}

START_TEST(what_is_deferred_waits_for_readers_and_runs_once)
{
	struct rcu_item item;

	freed = 0;
	rcu_read_begin();
	rcu_read_begin(); /* sections nest */
	rcu_defer(&item, free_and_defer);
	rcu_read_end();
	nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
	ck_assert_int_eq(freed, 0);
	rcu_read_end();
	rcu_wait();
	rcu_wait();
	ck_assert_int_eq(freed, 2);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("topic_index");
	TCase *tc = tcase_create("topic_index");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(
	    tc, a_filter_matches_what_the_standard_says, 0, sizeof(cases) / sizeof(cases[0]));
	tcase_add_test(tc, levels_whose_hashes_collide_are_told_apart);
	tcase_add_test(tc, random_filters_match_like_brute_force_alone_and_in_groups);
	tcase_add_test(tc, a_filter_is_told_as_it_was_whatever_else_comes_and_goes);
	tcase_add_test(tc, what_is_not_there_is_not_found);
	tcase_add_test(tc, each_worker_has_a_slot_of_its_own);
	tcase_add_test(tc, a_node_without_subscribers_is_not_a_result);
	tcase_add_test(tc, all_wildcard_combinations_of_a_deep_topic_name_are_found);
	tcase_add_test(tc, levels_of_any_length_and_any_number_work);
	tcase_add_test(tc, a_topic_name_is_not_read_beyond_its_end);
	tcase_add_test(tc, the_same_filter_is_the_same_node_until_its_last_release);
	tcase_add_test(tc, a_node_that_is_freed_answers_to_its_old_generation_no_more);
	tcase_add_test(tc, memory_of_released_filters_is_used_again);
	tcase_add_test(tc, a_filter_costs_at_most_55_bytes);
	tcase_add_test(tc, children_are_found_however_many_come_and_go);
	tcase_add_test(tc, without_memory_an_acquire_changes_nothing);
	tcase_add_test(tc, an_index_with_filters_left_in_it_can_be_freed);
	tcase_add_test(tc, a_number_of_workers_that_cannot_be_is_refused);
	tcase_add_test(tc, readers_see_a_consistent_tree_while_others_change_it);
	tcase_add_test(tc, what_is_deferred_waits_for_readers_and_runs_once);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
