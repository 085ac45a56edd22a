/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared.c and members.c over two real mailboxes, turned by hand. Sessions, routing and sending are doubles (the linker takes
 * ours before it looks into the library): a message that is delivered is only noted, until the test acknowledges it.
 */
#include "core/durable.h"
#include "core/shared.h"
#include "plugin/hooks.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS  2u
#define SESSIONS 4u

static struct broker broker;
static struct settings settings = { .read_buffer = 4096 };
static struct limits limits;
static struct hook_state_head hooks;
static struct session session[SESSIONS];
static struct conn conns[SESSIONS];
static struct identity *identities[SESSIONS];
static struct flow flows[SESSIONS];
static struct site *site;
static char given[8192]; /* "B12/1 ": session B got message 12 with QoS 1 */
static int resumed, congested;
static unsigned joined_count;
static int joined_err;
static uint32_t joined_token;
static unsigned home_of_groups; /* worker that the hash says */

/* ---- doubles --------------------------------------------------------------------------------- */

uint64_t
broker_hash(const struct broker *b, struct grapnel_str s)
{
	uint64_t h = 0;

	(void)b;
	for (size_t i = 0; i < s.len; i++)
		h = h * 31 + (unsigned char)s.data[i];
	return h * WORKERS + home_of_groups;
}

struct session *
session_by_generation(struct worker *w, uint64_t generation)
{
	struct session *s =
	    generation <= SESSIONS && generation > 0 ? &session[generation - 1] : NULL;

	return s != NULL && s->w == w && session_generation(s) == generation ? s : NULL;
}

struct flow *
session_flow_new(struct session *s)
{
	return s->flow; /* each has one from the start */
}

static uint32_t
number_of(const struct message *msg)
{
	uint32_t n;

	memcpy(&n, msg->payload, sizeof(n));
	return n;
}

/* As deliver.c: QoS 0 is sent at once; above that, two are in flight and the rest is queued. */
void
deliver_kept(struct session *s, struct message *msg, uint8_t qos, uint8_t flags, subids ids,
    uint16_t member, uint32_t seq, uint64_t address)
{
	struct entry e = { .ids = ids, .member = member, .qos = qos, .flags = flags, .seq = seq };
	size_t used = strlen(given);

	ck_assert_uint_eq(address, 0); /* nothing is kept here */
	snprintf(given + used, sizeof(given) - used, "%c%u/%u ", 'A' + (char)(s - session),
	    number_of(msg), qos);
	if (qos == 0) {
		shared_finished(s, member);
		return;
	}
	ck_assert_ptr_nonnull(e.msg = message_keep(msg));
	if (s->flow->queue.count > 0 || inflight_add(&s->flow->inflight, &e, 2) == NULL) {
		ck_assert_int_eq(queue_push(&s->flow->queue, &e), GRAPNEL_OK);
		metric_add(&s->w->metrics, METRIC_QUEUED_MESSAGES, 1);
		metric_add(&s->w->metrics, METRIC_QUEUED_BYTES, (int64_t)message_size(e.msg));
		atomic_fetch_add(&broker.queued_bytes, (int64_t)message_size(e.msg));
	}
}

static void
acknowledge(unsigned i)
{
	struct session *s = &session[i];
	unsigned n;
	struct inflight_entry **all = inflight_sorted(&s->flow->inflight, &n);
	uint16_t member;
	struct entry e;

	ck_assert_ptr_nonnull(all);
	member = all[0]->e.member;
	inflight_remove(&s->flow->inflight, all[0]);
	free(all);
	if (queue_pop(&s->flow->queue, &e)) {
		metric_add(&s->w->metrics, METRIC_QUEUED_MESSAGES, -1);
		metric_add(&s->w->metrics, METRIC_QUEUED_BYTES, -(int64_t)message_size(e.msg));
		atomic_fetch_sub(&broker.queued_bytes, (int64_t)message_size(e.msg));
		ck_assert_ptr_nonnull(inflight_add(&s->flow->inflight, &e, 2));
	}
	if (member != 0)
		shared_finished(s, member);
}

void
deliver_forget_member(struct session *s, uint16_t member)
{
	for (uint32_t i = 0; i < s->flow->queue.count; i++)
		if (s->flow->queue.ring[(s->flow->queue.head + i) & (s->flow->queue.capacity - 1)]
			.member == member)
			s->flow->queue
			    .ring[(s->flow->queue.head + i) & (s->flow->queue.capacity - 1)]
			    .member = 0;
	for (uint32_t i = 0; i < s->flow->inflight.capacity; i++)
		if (s->flow->inflight.slots[i].e.member == member)
			s->flow->inflight.slots[i].e.member = 0;
}

bool
rights_member_needed(struct session *s, struct member *m)
{
	(void)s;
	(void)m;
	return false;
}

void
core_event(struct worker *w, enum grapnel_event_type type, const struct session *s,
    const struct message *msg, uint8_t reason_code, const char *reason)
{
	(void)w;
	(void)type;
	(void)s;
	(void)msg;
	(void)reason_code;
	(void)reason;
}

void
router_congested(struct worker *w)
{
	(void)w;
	congested++;
}

void
router_resume_paused(struct worker *w)
{
	(void)w;
	resumed++;
}

unsigned
conn_poll(struct worker *w)
{
	(void)w;
	return 0;
}
void
queued_add(struct worker *w, size_t size, int sign)
{
	metric_add(&w->metrics, METRIC_QUEUED_MESSAGES, sign);
	metric_add(&w->metrics, METRIC_QUEUED_BYTES, (int64_t)size * sign);
	atomic_fetch_add(&w->broker->queued_bytes, (int64_t)size * sign);
}
/* As with durability = off. */
void
durable_finished(struct worker *w, uint64_t receiver, uint64_t address)
{
	(void)w;
	(void)receiver;
	ck_assert_uint_eq(address, 0);
}
void
durable_receiver(
    struct worker *w, uint64_t receiver, bool group, bool online, struct entry *e, bool *refused)
{
	(void)w;
	(void)receiver;
	(void)group;
	(void)online;
	(void)e;
	*refused = false;
}
uint64_t
durable_group_begin(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str key)
{
	(void)w;
	(void)mountpoint;
	(void)key;
	return 0;
}
void
durable_group_end(struct worker *w, uint64_t id)
{
	(void)w;
	ck_assert_uint_eq(id, 0);
}
void
durable_subscription(struct session *s, struct grapnel_str share, struct grapnel_str filter,
    const struct sub *values, uint8_t retain_handling)
{
	(void)s;
	(void)share;
	(void)filter;
	(void)values;
	(void)retain_handling;
}
void
spill_popped(struct session *s, const struct entry *e)
{
	(void)s;
	(void)e;
}
void
durable_flush(struct worker *w)
{
	(void)w;
}
uint64_t
queued_total(const struct worker *w)
{
	return (uint64_t)atomic_load(&w->broker->queued_bytes);
}
void
conn_mail_handled(struct worker *w)
{
	(void)w;
}
void
conn_flush_dirty(struct worker *w)
{
	(void)w;
}

void
router_flush(struct worker *w)
{
	(void)w;
}

void
overload_turn(struct worker *w)
{
	(void)w;
}

void
hooks_flush(struct worker *w)
{
	(void)w;
}

/* A node has one subscription here: the group's. */
int
node_add(struct worker *w, struct topic_node *node, struct sub *sub)
{
	sub->node = node;
	ck_assert_ptr_null(topic_node_slot(node, w->index));
	return topic_node_set_slot(w->broker->index, node, w->index, sub);
}

void
node_remove(struct worker *w, struct sub *sub)
{
	ck_assert_int_eq(
	    topic_node_set_slot(w->broker->index, sub->node, w->index, NULL), GRAPNEL_OK);
}

/* ---- a broker of two workers -------------------------------------------------------------------- */

static struct worker *
worker(unsigned i)
{
	return broker.workers[i];
}

/* Turn all workers until nothing moves. */
static void
settle(void)
{
	bool any = true;

	for (unsigned turns = 0; any; turns++) {
		ck_assert_uint_lt(turns, 1000);
		any = false;
		for (unsigned i = 0; i < WORKERS; i++) {
			any |= worker_drain(worker(i));
			if (worker(i)->flush_due) {
				worker_self = worker(i);
				shared_flush(worker(i));
				any = true;
			}
		}
	}
	worker_self = NULL;
}

static void
make_session(unsigned i)
{
	struct session *s = &session[i];
	struct grapnel_client_info info = { .client_id = GRAPNEL_STR("c"),
		.session_generation = i + 1 };

	memset(s, 0, sizeof(*s));
	memset(&conns[i], 0, sizeof(conns[i]));
	memset(&flows[i], 0, sizeof(flows[i]));
	identity_unref(identities[i]);
	identities[i] = identity_new(&info, site);
	s->w = worker(i % WORKERS);
	s->flow = &flows[i];
	flows[i].session = s;
	s->identity = identities[i];
	s->limits = &limits;
	s->conn = &conns[i];
	conns[i].receive_maximum = 4;
	conns[i].session = s;
}

/* Run what follows as if on the worker of that session. */
static struct session *
on(unsigned i)
{
	worker_self = session[i].w;
	return &session[i];
}

static void
online(unsigned i)
{
	on(i)->conn = &conns[i];
	conns[i].w = session[i].w;
	shared_session_online(&session[i]);
}

static void
offline(unsigned i)
{
	shared_session_offline(on(i));
	session[i].conn = NULL;
}

static void
end(unsigned i)
{
	struct session *s = on(i);
	struct entry e;

	shared_session_end(s);
	while (queue_pop(&s->flow->queue, &e)) {
		metric_add(&s->w->metrics, METRIC_QUEUED_MESSAGES, -1);
		metric_add(&s->w->metrics, METRIC_QUEUED_BYTES, -(int64_t)message_size(e.msg));
		atomic_fetch_sub(&broker.queued_bytes, (int64_t)message_size(e.msg));
		entry_clear(&e);
	}
	queue_clear(&s->flow->queue);
	inflight_clear(&s->flow->inflight);
	s->identity->session_generation = 0;
}

static void
on_joined(struct worker *w, uint64_t generation, uint32_t token, int err)
{
	(void)w;
	(void)generation;
	joined_count++;
	joined_token = token;
	joined_err = err;
}

/* @return it replaced a membership. */
static bool
join(unsigned i, const char *filter, uint8_t qos)
{
	struct grapnel_str f = { filter, strlen(filter) };
	unsigned before = joined_count;
	bool existed = false, later = false;

	ck_assert_int_eq(
	    shared_join(on(i), GRAPNEL_STR("g"), f, qos, 0, 0, &existed, &later, on_joined, 77 + i),
	    GRAPNEL_OK);
	settle();
	if (later) {
		ck_assert_uint_eq(joined_count, before + 1);
		ck_assert_uint_eq(joined_token, 77 + i);
		ck_assert_int_eq(joined_err, GRAPNEL_OK);
	} else {
		ck_assert_uint_eq(joined_count, before);
	}
	return existed;
}

static bool
leave(unsigned i, const char *filter)
{
	return shared_leave(
	    on(i), GRAPNEL_STR("g"), (struct grapnel_str){ filter, strlen(filter) });
}

static struct sub *
group_sub(const char *filter)
{
	struct topic_node *node;
	struct sub *sub;

	ck_assert_int_eq(topic_index_acquire(
			     broker.index, (struct grapnel_str){ filter, strlen(filter) }, &node),
	    GRAPNEL_OK);
	sub = topic_node_slot(node, home_of_groups);
	topic_index_release(broker.index, node);
	return sub;
}

/* As the router does, on the group's worker; nothing else turns. */
static void
route(uint32_t n, uint8_t qos)
{
	struct message m = { .topic = "t",
		.topic_len = 1,
		.payload = (char *)&n,
		.payload_len = sizeof(n),
		.qos = qos };
	struct sub *sub = group_sub("t");

	ck_assert_ptr_nonnull(sub);
	worker_self = worker(home_of_groups);
	shared_route(sub->u.group, &m);
	worker_self = NULL;
	message_release_borrowed(&m);
}

static int64_t
sum(enum metric m)
{
	int64_t n = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		n += metric_get(&worker(i)->metrics, m);
	return n;
}

static void
setup(unsigned home)
{
	memset(&broker, 0, sizeof(broker));
	memset(&limits, 0, sizeof(limits));
	limits.max_queued_messages = 100;
	limits.max_queued_bytes = limits.max_total_queued_bytes = 1000000;
	limits.max_output_bytes = 1000;
	limits.max_inflight = 100;
	limits.publisher_pause_ms = 1000;
	broker.settings = &settings;
	broker.worker_count = WORKERS;
	atomic_store(&broker.limits, &limits);
	ck_assert_int_eq(topic_index_new(&broker.index, WORKERS), GRAPNEL_OK);
	for (unsigned i = 0; i <= WORKERS; i++)
		ck_assert_int_eq(worker_new(&broker.workers[i], &broker, i), GRAPNEL_OK);
	for (unsigned i = 0; i < WORKERS; i++) {
		worker(i)->hooks = (struct hook_state *)(void *)&hooks;
		worker(i)->core = calloc(1, sizeof(struct core_worker));
		worker(i)->core->overload.output_max = UINT64_MAX;
		ck_assert_int_eq(shared_init(worker(i)), GRAPNEL_OK);
	}
	ck_assert_ptr_nonnull(site = site_new(GRAPNEL_STR(""), GRAPNEL_STR("mqtt")));
	for (unsigned i = 0; i < SESSIONS; i++) {
		make_session(i);
		online(i);
	}
	given[0] = '\0';
	resumed = congested = 0;
	joined_count = 0;
	home_of_groups = home;
}

static void
teardown(void)
{
	for (unsigned i = 0; i < SESSIONS; i++) {
		if (session_generation(&session[i]) == 0)
			continue;
		if (session[i].conn != NULL)
			offline(i);
		end(i);
	}
	settle();
	/* Nothing is left behind, whatever the test did. */
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 0);
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 0);
	ck_assert_int_eq(sum(METRIC_QUEUED_MESSAGES), 0);
	ck_assert_int_eq(sum(METRIC_QUEUED_BYTES), 0);
	ck_assert_int_eq(atomic_load(&broker.queued_bytes), 0);
	ck_assert_int_eq(atomic_load(&broker.subscriptions), 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		shared_fini(worker(i));
		free(worker(i)->core);
		worker(i)->hooks = NULL;
	}
	for (unsigned i = 0; i <= WORKERS; i++)
		worker_free(worker(i));
	topic_index_free(broker.index);
	for (unsigned i = 0; i < SESSIONS; i++)
		identity_unref(identities[i]);
	memset(identities, 0, sizeof(identities));
	site_unref(site);
}

#define ck_given(text)                           \
	do {                                     \
		ck_assert_str_eq(given, text);   \
		memset(given, 0, sizeof(given)); \
	} while (0)

/* Sessions A and C are on worker 0, B and D on worker 1; each test runs with the group on either. */

START_TEST(members_of_both_workers_take_turns)
{
	setup((unsigned)_i);
	for (unsigned i = 0; i < 3; i++)
		ck_assert(!join(i, "t", 1));
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 1);
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 3);
	for (uint32_t n = 1; n <= 3; n++) {
		route(n, 2);
		settle();
	}
	ck_given("A1/1 B2/1 C3/1 ");
	teardown();
}
END_TEST

START_TEST(a_second_subscribe_replaces_the_options_and_is_no_second_member)
{
	setup((unsigned)_i);
	ck_assert(!join(0, "t", 1));
	ck_assert(join(0, "t", 0));
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 1);
	route(1, 1);
	settle();
	ck_given("A1/0 ");
	teardown();
}
END_TEST

START_TEST(what_was_matched_after_the_join_reaches_the_member)
{
	bool existed, later;

	setup((unsigned)_i);
	ck_assert_int_eq(shared_join(on(0), GRAPNEL_STR("g"), GRAPNEL_STR("t"), 1, 0, 0, &existed,
			     &later, on_joined, 9),
	    GRAPNEL_OK);
	ck_assert(later == (home_of_groups != 0));
	/* The group's worker has joined it; the answer is still under way when a message comes. */
	worker_drain(worker(0));
	worker_drain(worker(1));
	route(1, 1);
	settle();
	ck_given("A1/1 ");
	teardown();
}
END_TEST

START_TEST(credit_bounds_what_a_member_has_and_acknowledgements_bring_it_back)
{
	setup((unsigned)_i);
	join(1, "t", 1); /* Receive Maximum 4 */
	for (uint32_t n = 1; n <= 7; n++)
		route(n, 1);
	settle();
	ck_given("B1/1 B2/1 B3/1 B4/1 ");
	ck_assert_uint_eq(session[1].flow->members->at[0]->out, 4);
	for (unsigned i = 0; i < 2; i++) {
		on(1);
		acknowledge(1);
	}
	settle();
	ck_given("B5/1 B6/1 ");
	for (unsigned i = 0; i < 5; i++) {
		on(1);
		acknowledge(1);
		settle();
	}
	ck_given("B7/1 ");
	ck_assert_uint_eq(session[1].flow->members->at[0]->out, 0);
	ck_assert_uint_eq(session[1].flow->members->at[0]->granted, 4);
	teardown();
}
END_TEST

START_TEST(an_offline_member_is_skipped_and_what_it_had_not_sent_goes_to_another)
{
	setup((unsigned)_i);
	join(0, "t", 1);
	for (uint32_t n = 1; n <= 4; n++)
		route(n, 1); /* 1 and 2 in flight, 3 and 4 queued at A */
	settle();
	ck_given("A1/1 A2/1 A3/1 A4/1 ");
	join(1, "t", 1);
	offline(0);
	settle();
	ck_given("B3/1 B4/1 ");
	ck_assert_uint_eq(session[0].flow->inflight.count, 2);
	ck_assert_uint_eq(session[0].flow->members->at[0]->out, 2);
	route(5, 1);
	settle();
	online(0); /* it still has two: credit for two more */
	settle();
	ck_assert_uint_eq(session[0].flow->members->at[0]->granted, 2);
	for (uint32_t n = 6; n <= 9; n++)
		route(n, 1);
	settle();
	ck_assert_uint_eq(session[0].flow->members->at[0]->out, 4);
	ck_assert_uint_eq(session[1].flow->members->at[0]->out, 4);
	teardown();
}
END_TEST

START_TEST(the_end_of_a_session_gives_back_qos_1_in_order_but_never_a_qos_2_that_was_sent)
{
	setup((unsigned)_i);
	join(2, "t", 2);
	route(1, 1);
	route(2, 2); /* in flight: must not go to anybody else [MQTT-4.8.2-5] */
	route(3, 2);
	route(4, 1); /* these two are still queued */
	route(5, 1); /* no credit: in the group */
	settle();
	ck_given("C1/1 C2/2 C3/2 C4/1 ");
	offline(2);
	settle();
	route(6, 1);
	end(2);
	settle();
	join(1, "t", 2); /* ... of a new group: the old one ended with its last member */
	settle();
	ck_given("");
	ck_assert_int_eq(sum(METRIC_MESSAGES_DROPPED_OFFLINE), 5);

	join(3, "t", 2);
	offline(1);
	settle();
	for (uint32_t n = 11; n <= 15; n++)
		route(n, n == 12 ? 2 : 1);
	settle();
	ck_given("D11/1 D12/2 D13/1 D14/1 ");
	online(1);
	settle();
	ck_given("B15/1 ");
	offline(3);
	settle();
	ck_given("B13/1 B14/1 ");
	end(3);
	settle();
	ck_given("B11/1 ");
	teardown();
}
END_TEST

START_TEST(what_comes_back_is_given_before_newer_messages)
{
	setup((unsigned)_i);
	join(0, "t", 1);
	for (uint32_t n = 1; n <= 8; n++)
		route(n, 1);
	settle();
	ck_given("A1/1 A2/1 A3/1 A4/1 ");
	conns[1].receive_maximum = 50;
	offline(1);
	join(1, "t", 1);
	offline(0);
	settle();
	end(0);
	online(1);
	settle();
	ck_given("B1/1 B2/1 B3/1 B4/1 B5/1 B6/1 B7/1 B8/1 ");
	teardown();
}
END_TEST

START_TEST(messages_under_way_to_a_session_that_left_come_back)
{
	setup((unsigned)_i);
	join(1, "t", 1);
	join(0, "t", 1);
	route(1, 1); /* one for each; what is for the other worker is not there yet */
	route(2, 1);
	offline(1 - home_of_groups); /* 1: B, 0: A: the one that is remote */
	end(1 - home_of_groups);
	settle();
	ck_assert_ptr_nonnull(strstr(given, home_of_groups == 0 ? "A1/1" : "B1/1"));
	ck_assert_ptr_nonnull(strstr(given, home_of_groups == 0 ? "A2/1" : "B2/1"));
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 1);
	teardown();
}
END_TEST

START_TEST(credit_does_not_add_up_when_a_session_comes_and_goes)
{
	setup((unsigned)_i);
	join(1, "t", 1);
	for (uint32_t n = 0; n < 20; n++) {
		route(n, 1); /* under way while the session leaves and comes back */
		offline(1);
		online(1);
		if (n % 3 == 0)
			settle();
	}
	settle();
	ck_assert_uint_eq(
	    session[1].flow->members->at[0]->out + session[1].flow->members->at[0]->granted, 4);
	ck_assert_uint_eq(session[1].flow->members->at[0]->out, 4);
	ck_assert_int_eq(sum(METRIC_QUEUED_MESSAGES), 18); /* 2 are in flight */
	teardown();
}
END_TEST

START_TEST(a_member_that_is_too_far_behind_is_skipped_until_it_has_room)
{
	setup((unsigned)_i);
	join(0, "t", 0);
	join(1, "t", 0);
	conns[0].out_bytes = 600; /* more than half of max_output_bytes */
	for (uint32_t n = 1; n <= 6; n++) {
		route(n, 0);
		settle();
	}
	ck_given("B1/0 B2/0 B3/0 B4/0 B5/0 B6/0 ");
	ck_assert(session[0].shared_held);
	conns[0].out_bytes = 0;
	shared_eased(on(0));
	settle();
	route(7, 0);
	route(8, 0);
	settle();
	ck_assert_ptr_nonnull(strchr(given, 'A'));
	teardown();
}
END_TEST

START_TEST(leaving_keeps_what_was_given_and_ends_the_group_with_the_last_member)
{
	setup((unsigned)_i);
	join(0, "t", 1);
	join(1, "t", 1);
	for (uint32_t n = 1; n <= 12; n++)
		route(n, 1);
	settle();
	ck_assert(leave(0, "t"));
	ck_assert(!leave(0, "t"));
	ck_assert(!leave(0, "other"));
	settle();
	ck_assert_uint_eq(session[0].flow->inflight.count, 2);
	ck_assert_uint_eq(session[0].flow->queue.count, 2);
	on(0);
	acknowledge(0); /* no longer anybody's credit */
	settle();
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 1);
	ck_assert(leave(1, "t"));
	settle();
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 0);
	ck_assert_int_eq(sum(METRIC_MESSAGES_DROPPED_OFFLINE), 4);
	ck_assert_ptr_null(group_sub("t"));
	teardown();
}
END_TEST

START_TEST(leaving_before_the_answer_came_leaves_no_ghost)
{
	bool existed, later;

	setup((unsigned)_i);
	for (unsigned k = 0; k < 3; k++) {
		ck_assert_int_eq(shared_join(on(0), GRAPNEL_STR("g"), GRAPNEL_STR("t"), 1, 0, 0,
				     &existed, &later, on_joined, k),
		    GRAPNEL_OK);
		ck_assert(!existed);
		ck_assert(leave(0, "t"));
	}
	settle();
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 0);
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 0);
	/* Twice before the answer, and a session that ends then. */
	shared_join(
	    on(0), GRAPNEL_STR("g"), GRAPNEL_STR("t"), 1, 0, 0, &existed, &later, on_joined, 1);
	shared_join(
	    on(0), GRAPNEL_STR("g"), GRAPNEL_STR("t"), 2, 0, 0, &existed, &later, on_joined, 2);
	ck_assert(existed);
	settle();
	route(1, 2);
	settle();
	ck_given("A1/2 ");
	shared_join(
	    on(1), GRAPNEL_STR("g"), GRAPNEL_STR("t"), 1, 0, 0, &existed, &later, on_joined, 1);
	offline(1);
	end(1);
	settle();
	ck_assert_int_eq(sum(METRIC_SUBSCRIPTIONS), 1);
	teardown();
}
END_TEST

START_TEST(publishers_wait_for_a_group_that_is_behind)
{
	setup((unsigned)_i);
	limits.max_queued_messages = 20;
	join(0, "t", 1);
	for (uint32_t n = 1; n <= 10; n++)
		route(n, 1);
	ck_assert_int_eq(congested, 0);
	for (uint32_t n = 11; n <= 18; n++)
		route(n, 1);
	settle();
	ck_assert_int_gt(congested, 0);
	worker(home_of_groups)->now_ms += 1000; /* publisher_pause */
	congested = 0;
	route(19, 1);
	settle();
	for (unsigned i = 0; i < 12; i++) {
		on(0);
		acknowledge(0);
		settle();
	}
	ck_assert_int_gt(resumed, 0);
	teardown();
}
END_TEST

START_TEST(groups_of_different_mountpoints_are_different_groups)
{
	setup((unsigned)_i);
	session[0].mountpoint_len = 7; /* "tenant/" */
	limits.max_queued_messages = 100;
	ck_assert(!join(0, "tenant/t", 1));
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 1);
	ck_assert(!join(0, "tenant/u", 1));
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 2);
	teardown();
}
END_TEST

START_TEST(thousands_of_memberships_of_one_session_are_found_and_used_again)
{
	char filter[32];

	setup((unsigned)_i);
	for (unsigned n = 0; n < 3000; n++) {
		snprintf(filter, sizeof(filter), "f/%u", n);
		ck_assert(!join(1, filter, 1));
	}
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 3000);
	for (unsigned n = 0; n < 3000; n += 3) {
		snprintf(filter, sizeof(filter), "f/%u", n);
		ck_assert(leave(1, filter));
		ck_assert(!leave(1, filter));
	}
	settle();
	ck_assert_int_eq(sum(METRIC_SHARED_GROUPS), 2000);
	for (unsigned n = 0; n < 3000; n++) {
		snprintf(filter, sizeof(filter), "f/%u", n);
		ck_assert(join(1, filter, 1) == (n % 3 != 0));
	}
	ck_assert_uint_eq(session[1].flow->members->count, 3000);
	offline(1);
	online(1);
	settle();
	for (uint32_t i = 0; i < 3000; i++)
		ck_assert_uint_eq(
		    session[1].flow->members->at[i]->granted, 1); /* they share its queue */
	teardown();
}
END_TEST

START_TEST(nothing_is_lost_or_doubled_whatever_comes_and_goes)
{
	static uint8_t got[3000];
	uint32_t x = 99, n = 0;
	int64_t dropped;
	unsigned seen = 0;

	setup((unsigned)_i);
	limits.max_queued_messages = 100000;
	memset(got, 0, sizeof(got));
	offline(3);
	join(3, "t", 1); /* keeps the group alive */
	for (unsigned step = 0; step < 6000; step++) {
		unsigned i = (x = x * 1664525u + 1013904223u) >> 30, what = x >> 24 & 15;

		if (i == 3) { /* never takes anything: publishes */
			if (n < 3000)
				route(n++, 1);
		} else if (session_generation(&session[i]) == 0) {
			make_session(i);
			online(i);
			join(i, "t", 1);
		} else if (what < 1) {
			if (session[i].conn != NULL)
				offline(i);
			end(i);
		} else if (what < 3) {
			if (session[i].conn != NULL)
				offline(i);
			else
				online(i);
		} else if (session[i].conn != NULL && session[i].flow->inflight.count > 0) {
			struct inflight_entry **all;
			unsigned count;

			on(i);
			all = inflight_sorted(&session[i].flow->inflight, &count);
			got[number_of(all[0]->e.msg)]++;
			free(all);
			acknowledge(i);
		}
		if ((x >> 20 & 3) == 0)
			settle();
		given[0] = '\0';
	}
	for (unsigned i = 0; i < 3; i++) {
		if (session_generation(&session[i]) != 0) {
			if (session[i].conn != NULL)
				offline(i);
			end(i);
		}
	}
	settle();
	dropped = sum(METRIC_MESSAGES_DROPPED_QUEUE_FULL) + sum(METRIC_MESSAGES_DROPPED_OFFLINE) +
	    sum(METRIC_MESSAGES_DROPPED_MEMORY);
	ck_assert_int_eq(dropped, 0);
	for (uint32_t k = 0; k < n; k++) {
		ck_assert_uint_le(got[k], 1); /* acknowledged once at most */
		seen += got[k];
	}
	ck_assert_uint_gt(seen, n / 2);
	ck_assert_int_eq(
	    sum(METRIC_QUEUED_MESSAGES), n - seen); /* and what was not waits in the group */
	teardown();
}
END_TEST

START_TEST(the_end_of_the_broker_leaves_nothing)
{
	setup((unsigned)_i);
	join(0, "t", 1);
	join(1, "t", 1);
	for (uint32_t n = 1; n <= 20; n++)
		route(n, 1);
	settle();
	/* As core_fini: the threads are joined, nothing is posted any more. */
	worker_self = NULL;
	for (unsigned i = 0; i < WORKERS; i++) {
		worker(i)->core->stopping = true;
		for (unsigned k = i; k < SESSIONS; k += WORKERS) {
			struct entry e;

			while (queue_pop(&session[k].flow->queue, &e)) {
				atomic_fetch_sub(
				    &broker.queued_bytes, (int64_t)message_size(e.msg));
				entry_clear(&e);
			}
			shared_session_end(&session[k]);
			queue_clear(&session[k].flow->queue);
			inflight_clear(&session[k].flow->inflight);
		}
		shared_fini(worker(i));
		free(worker(i)->core);
		worker(i)->core = NULL;
		worker(i)->hooks = NULL;
	}
	ck_assert_int_eq(atomic_load(&broker.queued_bytes), 0);
	for (unsigned i = 0; i <= WORKERS; i++)
		worker_free(worker(i));
	topic_index_free(broker.index);
	for (unsigned i = 0; i < SESSIONS; i++)
		identity_unref(identities[i]);
	memset(identities, 0, sizeof(identities));
	site_unref(site);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("shared");
	TCase *tc = tcase_create("shared");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, members_of_both_workers_take_turns, 0, 2);
	tcase_add_loop_test(
	    tc, a_second_subscribe_replaces_the_options_and_is_no_second_member, 0, 2);
	tcase_add_loop_test(tc, what_was_matched_after_the_join_reaches_the_member, 0, 2);
	tcase_add_loop_test(
	    tc, credit_bounds_what_a_member_has_and_acknowledgements_bring_it_back, 0, 2);
	tcase_add_loop_test(
	    tc, an_offline_member_is_skipped_and_what_it_had_not_sent_goes_to_another, 0, 2);
	tcase_add_loop_test(tc,
	    the_end_of_a_session_gives_back_qos_1_in_order_but_never_a_qos_2_that_was_sent, 0, 2);
	tcase_add_loop_test(tc, what_comes_back_is_given_before_newer_messages, 0, 2);
	tcase_add_loop_test(tc, messages_under_way_to_a_session_that_left_come_back, 0, 2);
	tcase_add_loop_test(tc, credit_does_not_add_up_when_a_session_comes_and_goes, 0, 2);
	tcase_add_loop_test(tc, a_member_that_is_too_far_behind_is_skipped_until_it_has_room, 0, 2);
	tcase_add_loop_test(
	    tc, leaving_keeps_what_was_given_and_ends_the_group_with_the_last_member, 0, 2);
	tcase_add_loop_test(tc, leaving_before_the_answer_came_leaves_no_ghost, 0, 2);
	tcase_add_loop_test(tc, publishers_wait_for_a_group_that_is_behind, 0, 2);
	tcase_add_loop_test(tc, groups_of_different_mountpoints_are_different_groups, 0, 2);
	tcase_add_loop_test(
	    tc, thousands_of_memberships_of_one_session_are_found_and_used_again, 0, 2);
	tcase_add_loop_test(tc, nothing_is_lost_or_doubled_whatever_comes_and_goes, 0, 2);
	tcase_add_loop_test(tc, the_end_of_the_broker_leaves_nothing, 0, 2);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
