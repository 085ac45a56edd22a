/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/rcu.h"
#include "core/session.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SESSIONS 6
#define FILTERS  300

static struct broker *broker;
static struct worker *worker;
static struct session *sessions;

/* libcheck writes a record per ck_assert: what runs very often uses this. */
#define REQUIRE(condition)                                   \
	do {                                                 \
		if (!(condition))                            \
			ck_abort_msg("not: %s", #condition); \
	} while (0)

static void
setup(void)
{
	rcu_thread_start();
	broker = calloc(1, sizeof(*broker));
	worker = calloc(1, sizeof(*worker));
	sessions = calloc(100000, sizeof(*sessions));
	ck_assert(broker != NULL && worker != NULL && sessions != NULL);
	ck_assert_int_eq(topic_index_new(&broker->index, 2), GRAPNEL_OK);
	worker->broker = broker;
	worker->index = 1;
	for (unsigned i = 0; i < 100000; i++)
		sessions[i].w = worker;
}

static void
teardown(void)
{
	topic_index_free(broker->index);
	arena_free(worker->subs);
	free(sessions);
	free(worker);
	free(broker);
	rcu_wait();
	rcu_thread_stop();
}

static uint32_t
random_below(uint32_t n)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return (uint32_t)(x >> 20) % n;
}

static struct grapnel_str
filter_of(unsigned i, char *buf)
{
	int len = sprintf(buf, i % 3 == 0 ? "a/%u/#" : i % 3 == 1 ? "a/%u" : "+/%u/x/y", i / 3);

	return (struct grapnel_str){ buf, (size_t)len };
}

static struct sub *
subscribe(struct session *s, unsigned filter, uint32_t id, bool *existed)
{
	struct sub values = { .id = id, .qos = 1 }, *sub = NULL;
	char buf[32];

	REQUIRE(subs_add(s, filter_of(filter, buf), &values, existed, &sub) == GRAPNEL_OK);
	return sub;
}

/* How many subscriptions of this worker the filter's node has. */
static unsigned
subscribers(unsigned filter)
{
	char buf[32];
	struct topic_node *node = topic_index_find(broker->index, filter_of(filter, buf));
	struct sub *one, *const *many;

	return node == NULL ? 0 : slot_subs(topic_node_slot(node, 1), &one, &many);
}

START_TEST(subscriptions_come_and_go_like_in_a_simple_model)
{
	static uint32_t model[SESSIONS][FILTERS]; /* the identifier; 0: not subscribed */
	uint32_t total = 0;

	memset(model, 0, sizeof(model));
	for (unsigned step = 1; step < 60000; step++) {
		/* Sessions of different sizes, which grow and shrink. */
		unsigned i = random_below(SESSIONS), bound = (step / 4000) % 2 ? FILTERS : 8 + i;
		unsigned f = random_below(step % 2 ? bound : FILTERS), filter, count = 0;
		struct session *s = &sessions[i];
		bool existed;
		char buf[32];

		filter = f;
		if (f < bound && (model[i][f] == 0 || step % 5 == 0)) {
			struct sub *sub = subscribe(s, filter, step, &existed);

			REQUIRE(existed == (model[i][f] != 0));
			REQUIRE(sub->id == step && sub->u.session == s);
			total += model[i][f] == 0;
			model[i][f] = step;
		} else {
			REQUIRE(subs_remove(s, filter_of(filter, buf)) == (model[i][f] != 0));
			total -= model[i][f] != 0;
			model[i][f] = 0;
		}
		REQUIRE(subs_has(s, filter_of(filter, buf)) == (model[i][f] != 0));
		for (unsigned k = 0; k < SESSIONS; k++)
			count += model[k][f] != 0;
		REQUIRE(subscribers(filter) == count);
		REQUIRE(broker->subscriptions == total);
		for (f = 0, count = 0; f < FILTERS; f++)
			count += model[i][f] != 0;
		REQUIRE(s->sub_count == count);
		REQUIRE(s->sub_capacity == 0 || count < s->sub_capacity);
	}
	for (unsigned i = 0; i < SESSIONS; i++)
		subs_clear(&sessions[i]);
	ck_assert_uint_eq(broker->subscriptions, 0);
	for (unsigned f = 0; f < FILTERS; f++)
		REQUIRE(subscribers(f) == 0);
}
END_TEST

/* Quadratic work would take minutes here. */
START_TEST(a_filter_of_100000_sessions_is_left_in_any_order)
{
	uint64_t most;
	bool existed;
	char buf[32];

	for (unsigned i = 0; i < 100000; i++)
		subscribe(&sessions[i], 1, 1, &existed);
	ck_assert_uint_eq(subscribers(1), 100000);
	most = arena_bytes(worker->subs);
	for (unsigned i = 0; i < 100000; i++)
		REQUIRE(subs_remove(&sessions[i * 7919ull % 100000], filter_of(1, buf)));
	ck_assert_uint_eq(subscribers(1), 0);
	ck_assert_uint_eq(broker->subscriptions, 0);
	ck_assert_uint_lt(arena_bytes(worker->subs), most / 10);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("subs");
	TCase *tc = tcase_create("subs");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, subscriptions_come_and_go_like_in_a_simple_model);
	tcase_add_test(tc, a_filter_of_100000_sessions_is_left_in_any_order);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
