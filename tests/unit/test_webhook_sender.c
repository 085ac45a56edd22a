/* SPDX-License-Identifier: Apache-2.0 */
/* What comes while the sender looks: nothing stays in a window for want of somebody who calls. Lanes have nothing to send here. */
#include "webhook/parts.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct webhook w;
static struct endpoint e;
static struct lane lane;
static struct grapnel_instance *const nobody = NULL;
static unsigned calls, left_to_push;
static uint64_t clock_now;
static uint32_t armed_ms; /* UINT32_MAX: the timer is not armed */

/* ---- what is around it ------------------------------------------------------------------------- */

static void
push(void)
{
	struct grapnel_event ev = { .size = sizeof(ev), .type = GRAPNEL_EVENT_CLIENT_REFUSED };
	struct chunk *c = NULL;

	ck_assert(chunk_add(&c, &ev, SIZE_MAX));
	(void)pthread_mutex_lock(&w.lock);
	ck_assert(queue_push(&e, c));
	(void)pthread_mutex_unlock(&w.lock);
}

/* Asked by the sender when it has looked into the window, and by the queue. */
static uint64_t
now_ms(void)
{
	if (left_to_push > 0) {
		left_to_push--;
		push();
	}
	return clock_now;
}

static void
metric_add(struct grapnel_instance *self, int metric, int64_t delta)
{
	ck_assert_ptr_eq(self, nobody);
	(void)metric;
	(void)delta;
}

static int
timer_arm(struct grapnel_timer *timer, uint32_t delay_ms)
{
	(void)timer;
	armed_ms = delay_ms;
	return GRAPNEL_OK;
}

static void
timer_disarm(struct grapnel_timer *timer)
{
	(void)timer;
	armed_ms = UINT32_MAX;
}

static const struct grapnel_host host = { .size = sizeof(host),
	.now_ms = now_ms,
	.metric_add = metric_add,
	.timer_arm = timer_arm,
	.timer_disarm = timer_disarm };

const struct grapnel_host *
own_loop_host(struct own_loop *loop)
{
	(void)loop;
	return &host;
}

bool
own_loop_call(struct own_loop *loop, struct own_loop_call *call)
{
	(void)loop;
	ck_assert_ptr_eq(call->arg, &w);
	calls++;
	return true;
}

struct own_loop *
own_loop_new(const struct grapnel_host *h, struct grapnel_instance *self)
{
	(void)h;
	(void)self;
	return NULL;
}

int
own_loop_start(struct own_loop *loop, const char *name)
{
	(void)loop;
	(void)name;
	return GRAPNEL_ESYS;
}

int
own_loop_post(struct own_loop *loop, grapnel_call_fn fn, void *arg)
{
	(void)loop;
	(void)fn;
	(void)arg;
	return GRAPNEL_ESTATE;
}

void
own_loop_stop(struct own_loop *loop)
{
	(void)loop;
}

void
own_loop_free(struct own_loop *loop)
{
	(void)loop;
}

struct curl_loop *
curl_loop_new(const struct grapnel_host *h, struct grapnel_instance *self,
    const struct curl_loop_limits *limits)
{
	(void)h;
	(void)self;
	(void)limits;
	return NULL;
}

void
curl_loop_free(struct curl_loop *loop)
{
	(void)loop;
}

const char *
curl_target_name(const struct curl_target *t)
{
	(void)t;
	return "";
}

void
keeper_call(struct webhook *webhook)
{
	(void)webhook;
}

uint64_t
order_key(const struct endpoint *endpoint, const struct record_view *v)
{
	(void)endpoint;
	(void)v;
	return 0;
}

void
lane_add(struct lane *l, struct item *it)
{
	(void)it;
	l->count++;
}

void
lane_parcel_end(struct parcel *p)
{
	ck_abort_msg("%p has events", (void *)p);
}

uint64_t
lane_go(struct lane *l, uint64_t now)
{
	(void)l;
	(void)now;
	return UINT64_MAX;
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void
set_up(void)
{
	memset(&w, 0, sizeof(w));
	w.host = &host;
	w.loop = (struct own_loop *)(void *)&w; /* nobody looks into it */
	ck_assert_int_eq(pthread_mutex_init(&w.lock, NULL), 0);
	ck_assert_int_eq(pthread_cond_init(&w.wake, NULL), 0);
	lane = (struct lane){ .e = &e };
	e = (struct endpoint){ .w = &w,
		.possible = UINT64_MAX,
		.memory = 100000,
		.max_bytes = 100000,
		.url_count = 1,
		.lanes = &lane,
		.lane_count = 1 };
	w.endpoints[w.endpoint_count++] = &e;
	calls = left_to_push = 0;
	clock_now = 1000;
	armed_ms = UINT32_MAX;
}

static void
tear_down(void)
{
	struct parcel *p;

	while ((p = e.parcels) != NULL) {
		e.parcels = p->next;
		p->in_window = false;
	}
	queue_free(&w);
	(void)pthread_cond_destroy(&w.wake);
	(void)pthread_mutex_destroy(&w.lock);
}

/* The answer of the only request has come: whoever pushes just before the sender has said so calls nobody. */
START_TEST(what_comes_while_the_sender_looks_is_not_left_behind)
{
	set_up();
	e.sender_busy = true;
	left_to_push = 1;
	sender_pump(&e);
	ck_assert_ptr_nonnull(e.window);
	ck_assert(!e.sender_busy);
	ck_assert_uint_eq(calls, 1);
	sender_call(&w);
	ck_assert_ptr_null(e.window);
	ck_assert_uint_eq(lane.count, 1);
	ck_assert_uint_eq(calls, 1);
	tear_down();
}
END_TEST

START_TEST(who_finds_it_idle_calls_it_once)
{
	set_up();
	push();
	push();
	ck_assert_uint_eq(calls, 1);
	sender_call(&w);
	ck_assert_uint_eq(lane.count, 2);
	ck_assert_uint_eq(calls, 1);
	tear_down();
}
END_TEST

START_TEST(nobody_calls_it_while_nothing_can_be_sent)
{
	struct url *url = &e.urls[0];

	set_up();
	url->failures = 1;
	url->down_until_ms = clock_now + 500;
	sender_pump(&e);
	ck_assert(e.sender_busy);
	ck_assert_uint_eq(armed_ms, 500);
	push();
	ck_assert_uint_eq(calls, 0);
	url->probing = true; /* its answer tells more */
	sender_pump(&e);
	ck_assert(e.sender_busy);
	ck_assert_uint_eq(armed_ms, UINT32_MAX);
	url->probing = false;
	clock_now += 500;
	sender_pump(&e);
	ck_assert(!e.sender_busy);
	e.paused = true;
	sender_pump(&e);
	push();
	ck_assert_uint_eq(calls, 0);
	e.paused = false;
	sender_pump(&e);
	push();
	ck_assert_uint_eq(calls, 1);
	sender_call(&w);
	ck_assert_uint_eq(lane.count, 3);
	tear_down();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("webhook sender");
	TCase *c = tcase_create("sender");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(c, what_comes_while_the_sender_looks_is_not_left_behind);
	tcase_add_test(c, who_finds_it_idle_calls_it_once);
	tcase_add_test(c, nobody_calls_it_while_nothing_can_be_sent);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
