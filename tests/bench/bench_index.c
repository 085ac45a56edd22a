/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_index - what a match costs and what a filter or retained message weighs
 *
 *	bench_index [most filters, default 1000000]
 */
#include "base/rcu.h"
#include "core/message.h"
#include "core/retain.h"
#include "core/topic_index.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROUNDS 200000 /* topic names per measurement */

static const struct {
	const char *name, *filter, *topic_name;
} shapes[] = {
	{ "#", "site/%u/dev/%u/#", "site/%u/dev/%u/temperature" },
	{ "exact", "site/%u/dev/%u/temperature", "site/%u/dev/%u/temperature" },
	{ "+", "site/%u/dev/%u/+", "site/%u/dev/%u/temperature" },
	{ "+/+/#", "+/%u/+/%u/#", "site/%u/dev/%u/temperature" },
	{ "deep", "a/b/c/d/e/f/g/h/%u/%u/+/j/#", "a/b/c/d/e/f/g/h/%u/%u/i/j/k" },
};

/* Processor time: what else runs on the machine counts less. */
static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t
next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	return x ^= x << 17;
}

static void
fail(const char *what)
{
	fprintf(stderr, "bench_index: %s\n", what);
	exit(1);
}

static struct grapnel_str
text(char *buf, size_t size, const char *format, unsigned i)
{
	int len = snprintf(buf, size, format, i % 97, i);

	return (struct grapnel_str){ buf, (size_t)len };
}

/* @return ns per Topic Name, matched in groups of that size: the best of a few rounds. */
static double
measure(struct topic_index *ix, struct topic_matcher *m, const char *format, unsigned filters,
    unsigned group)
{
	static char bufs[ROUNDS][64];
	static struct grapnel_str names[ROUNDS];
	struct topic_match out[TOPIC_GROUP];
	uint64_t start, found, best = UINT64_MAX;

	for (unsigned i = 0; i < ROUNDS; i++)
		names[i] =
		    text(bufs[i], sizeof(bufs[i]), format, (unsigned)(next_random() % filters));
	for (unsigned round = 0; round < 15; round++) {
		rcu_read_begin();
		found = 0;
		start = now_ns();
		for (unsigned i = 0; i + group <= ROUNDS; i += group) {
			if (topic_index_match(ix, m, names + i, group, out) != GRAPNEL_OK)
				fail("match");
			for (unsigned k = 0; k < group; k++)
				found += out[k].count;
		}
		start = now_ns() - start;
		rcu_read_end();
		if (found != ROUNDS / group * group)
			fail("a filter was not found");
		if (start < best)
			best = start;
	}
	return (double)best / ROUNDS;
}

static void
bench_filters(const char *name, const char *filter, const char *topic_name, unsigned count)
{
	struct topic_node **nodes = calloc(count, sizeof(struct topic_node *));
	struct topic_matcher *m = topic_matcher_new();
	struct topic_index_stats stats;
	struct topic_index *ix;
	double singly, grouped;
	uint64_t start;
	char buf[64];

	if (nodes == NULL || m == NULL || topic_index_new(&ix, 1) != GRAPNEL_OK)
		fail("no memory");
	start = now_ns();
	for (unsigned i = 0; i < count; i++) {
		if (topic_index_acquire(ix, text(buf, sizeof(buf), filter, i), &nodes[i]) !=
		    GRAPNEL_OK)
			fail("acquire");
		if (topic_node_set_slot(ix, nodes[i], 0, &nodes[i]) != GRAPNEL_OK)
			fail("set_slot");
	}
	start = now_ns() - start;
	topic_index_stats(ix, &stats);
	singly = measure(ix, m, topic_name, count, 1);
	grouped = measure(ix, m, topic_name, count, TOPIC_GROUP);
	printf("%-6s %8u filters: %6.1f ns per match alone, %6.1f in groups of %d; %5.1f B per "
	       "filter; %5.0f ns to add",
	    name, count, singly, grouped, TOPIC_GROUP, (double)stats.bytes / count,
	    (double)start / count);
	start = now_ns();
	for (unsigned i = 0; i < count; i++) {
		topic_node_set_slot(ix, nodes[i], 0, NULL);
		topic_index_release(ix, nodes[i]);
	}
	printf(", %5.0f to remove\n", (double)(now_ns() - start) / count);
	topic_index_free(ix);
	topic_matcher_free(m);
	free(nodes);
}

static void
count_visit(struct message *msg, void *arg)
{
	(void)msg;
	++*(uint64_t *)arg;
}

static void
walk(struct retain *st, const char *filter, uint64_t expected)
{
	struct retain_cursor c = { 0 };
	uint64_t seen = 0, start = now_ns();

	while (!c.done)
		if (retain_match(st, (struct grapnel_str){ filter, strlen(filter) }, &c, 1000, 4000,
			count_visit, &seen) != GRAPNEL_OK)
			fail("retain_match");
	retain_cursor_clear(&c);
	if (seen != expected)
		fail("a retained message was not found");
	printf("       %-28s %8" PRIu64 " visited, %6.1f ns each\n", filter, seen,
	    (double)(now_ns() - start) / (double)seen);
}

static void
bench_retained(unsigned count)
{
	struct message **msgs = calloc(count, sizeof(struct message *));
	uint64_t start, added, replaced;
	struct retain *st;
	size_t before;
	char buf[64];

	if (msgs == NULL || retain_new(&st) != GRAPNEL_OK)
		fail("no memory");
	for (unsigned i = 0; i < count; i++) {
		unsigned k = (unsigned)(i * 7919ull % count); /* not in order */
		struct grapnel_str name = text(buf, sizeof(buf), "site/%u/dev/%u/temperature", k);
		struct message msg = { .topic = name.data,
			.topic_len = (uint16_t)name.len,
			.payload = "21.5",
			.payload_len = 4 };

		if ((msgs[i] = message_keep(&msg)) == NULL)
			fail("no memory");
		message_release_borrowed(&msg);
	}
	before = mallinfo2().uordblks + mallinfo2().hblkhd;
	start = now_ns();
	for (unsigned i = 0; i < count; i++)
		if (retain_set(st, msgs[i], UINT64_MAX, UINT64_MAX, NULL, NULL) != GRAPNEL_OK)
			fail("retain_set");
	added = now_ns() - start;
	before = mallinfo2().uordblks + mallinfo2().hblkhd - before;
	start = now_ns();
	for (unsigned i = 0; i < count; i++)
		if (retain_set(st, msgs[i], UINT64_MAX, UINT64_MAX, NULL, NULL) != GRAPNEL_OK)
			fail("retain_set");
	replaced = now_ns() - start;
	printf("retain %8u messages: %5.1f B of index each; %5.0f ns to add, %5.0f to replace\n",
	    count, (double)before / count, (double)added / count, (double)replaced / count);
	walk(st, "#", count);
	walk(st, "site/+/dev/+/temperature", count);
	walk(st, "site/17/#", (count + 79) / 97);
	for (unsigned i = 0; i < count; i++)
		message_unref(msgs[i]);
	retain_free(st);
	free(msgs);
}

int
main(int argc, char **argv)
{
	unsigned most = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000000;

	rcu_thread_start();
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
		for (unsigned count = 1000; count <= most; count *= 10)
			bench_filters(
			    shapes[s].name, shapes[s].filter, shapes[s].topic_name, count);
	for (unsigned count = 10000; count <= most; count *= 10)
		bench_retained(count);
	rcu_wait();
	rcu_thread_stop();
	return 0;
}
