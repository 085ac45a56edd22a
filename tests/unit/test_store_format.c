/* SPDX-License-Identifier: Apache-2.0 */
/* Rows come back as they were; what was cut or has rotted is noticed, and nobody reads beyond it. */
#include "store/format.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static struct row_out o;
static struct row_author author;

static void
setup(void)
{
	memset(&o, 0, sizeof(o));
	memset(&author, 0, sizeof(author));
}

static void
teardown(void)
{
	row_free(&o);
	row_author_free(&author);
}

/* ---- what there is in rows ------------------------------------------------------------------- */

static const struct grapnel_pair pairs[] = { { .name = { "team", 4 }, .value = { "red", 3 } },
	{ .name = { "", 0 }, .value = { "\0\xff", 2 } } };

static struct grapnel_client_info
who(bool all)
{
	struct grapnel_client_info w = { .size = sizeof(w),
		.client_id = { "client", 6 },
		.mountpoint = { all ? "m/" : "", all ? 2 : 0 },
		.listener = { "mqtt", 4 },
		.peer = { "127.0.0.1:9", 11 },
		.protocol = all ? 5 : 4 };

	if (all) {
		w.username = (struct grapnel_str){ "u", 1 };
		w.attributes = pairs;
		w.attribute_count = 2;
		w.superuser = w.anonymous = true;
		w.identity_source = 3;
	}
	return w;
}

static struct row_message
message(bool all)
{
	struct row_message m = { .topic = { "a/b", 3 }, .payload = { "p", 1 } };

	if (!all)
		return m;
	m.qos = 2;
	m.retain = m.will = m.utf8 = true;
	m.props = (struct grapnel_str){ "\x01\x00", 2 };
	m.payload.len = 0;
	m.expires = (struct row_time){ true, UINT64_MAX, 12345 };
	m.has_author = true;
	m.author = who(true);
	return m;
}

static void
same_str(struct grapnel_str a, struct grapnel_str b)
{
	ck_assert_uint_eq(a.len, b.len);
	if (a.len > 0)
		ck_assert_mem_eq(a.data, b.data, a.len);
}

static void
same_who(const struct grapnel_client_info *a, const struct grapnel_client_info *b)
{
	same_str(a->client_id, b->client_id);
	same_str(a->mountpoint, b->mountpoint);
	same_str(a->listener, b->listener);
	same_str(a->peer, b->peer);
	same_str(a->username, b->username);
	ck_assert_int_eq(a->username.data == NULL, b->username.data == NULL);
	ck_assert_int_eq(a->protocol, b->protocol);
	ck_assert_int_eq(a->superuser, b->superuser);
	ck_assert_int_eq(a->anonymous, b->anonymous);
	ck_assert_int_eq(a->identity_source, b->identity_source);
	ck_assert_uint_eq(a->attribute_count, b->attribute_count);
	for (size_t i = 0; i < a->attribute_count; i++) {
		same_str(a->attributes[i].name, b->attributes[i].name);
		same_str(a->attributes[i].value, b->attributes[i].value);
	}
}

static void
same_time(const struct row_time *a, const struct row_time *b)
{
	ck_assert_int_eq(a->set, b->set);
	ck_assert_uint_eq(a->wall_ms, b->wall_ms);
	ck_assert_uint_eq(a->left_ms, b->left_ms);
}

static void
same_message(const struct row_message *a, const struct row_message *b)
{
	ck_assert_int_eq(a->qos, b->qos);
	ck_assert_int_eq(a->retain, b->retain);
	ck_assert_int_eq(a->will, b->will);
	ck_assert_int_eq(a->utf8, b->utf8);
	same_str(a->topic, b->topic);
	same_str(a->props, b->props);
	same_str(a->payload, b->payload);
	same_time(&a->expires, &b->expires);
	ck_assert_int_eq(a->has_author, b->has_author);
	if (a->has_author)
		same_who(&a->author, &b->author);
}

/* ---- one row of each kind: write, and read and compare (full) or only read -------------------- */

static const uint32_t ids[] = { 1, 268435455, 0 };

static void
put_segment(bool all)
{
	struct row_record r = { .index = STORE_INDEX_MAX,
		.origin = all ? UINT64_MAX : 0,
		.origin_number = all ? 7 : 0,
		.message = message(all),
		.receiver_count = 2 };
	struct row_receiver one = { .session = 1, .qos = 1, .id_count = 3, .ids = ids },
			    two = { .session = UINT64_MAX, .qos = 2, .retain = true };
	size_t at;

	for (uint32_t i = 0; i < 2; i++) {
		r.index = i == 0 ? 0 : STORE_INDEX_MAX;
		row_record_begin(&o, &r, i == 1, &at);
		row_receiver(&o, &one);
		row_receiver(&o, &two);
		row_record_end(&o, at);
	}
}

static bool
get_segment(struct row_in *in, bool all, bool full)
{
	struct row_message want = message(all);
	struct row_in receivers;
	struct row_record r;
	struct row_receiver rr;
	uint32_t got[ROW_IDS_MAX];
	unsigned n = 0, k = 0;

	while (row_get_record(in, &r, &author, &receivers)) {
		if (full) {
			ck_assert_uint_eq(r.index, n == 0 ? 0 : STORE_INDEX_MAX);
			ck_assert_uint_eq(r.origin, all ? UINT64_MAX : 0);
			ck_assert_uint_eq(r.origin_number, all ? 7 : 0);
			same_message(&r.message, &want);
		}
		while (row_get_receiver(&receivers, &rr, got)) {
			ck_assert_uint_le(rr.id_count, ROW_IDS_MAX);
			if (full && k % 2 == 0) {
				ck_assert_uint_eq(rr.id_count, 3);
				ck_assert_mem_eq(rr.ids, ids, sizeof(ids));
			} else if (full) {
				ck_assert(rr.session == UINT64_MAX && rr.qos == 2 && rr.retain);
			}
			k++;
		}
		n++;
	}
	return !in->bad && n == 2 && k == 4;
}

static void
put_session(bool all)
{
	struct row_session s = {
		.who = who(all), .auth_plugin = { "p", 1 }, .expiry = UINT32_MAX, .connected_s = 99
	};

	if (all) {
		s.online = s.group = s.has_will = true;
		s.expires = (struct row_time){ true, 5, 6 };
		s.will_due = (struct row_time){ true, 7, 8 };
		s.will_delay = 9;
		s.will = message(true);
	}
	row_session(&o, &s);
}

static bool
get_session(struct row_in *in, bool all, bool full)
{
	struct grapnel_client_info want = who(all);
	struct row_message will = message(true);
	struct row_session s;

	if (!row_get_session(in, &s, &author))
		return false;
	if (!full)
		return true;
	same_who(&s.who, &want);
	ck_assert(s.online == all && s.group == all && s.has_will == all && s.expires.set == all);
	ck_assert(s.expiry == UINT32_MAX && s.connected_s == 99);
	same_str(s.auth_plugin, (struct grapnel_str){ "p", 1 });
	if (all) {
		same_time(&s.will_due, &(struct row_time){ true, 7, 8 });
		ck_assert_uint_eq(s.will_delay, 9);
		same_message(&s.will, &will);
	}
	return true;
}

static void
put_subscription(bool all)
{
	row_subscription(&o,
	    &(struct row_subscription){ .id = all ? 268435455 : 0,
		.qos = all ? 2 : 0,
		.retain_handling = all ? 2 : 0,
		.no_local = all,
		.retain_as_published = all,
		.wild_first = all });
}

static bool
get_subscription(struct row_in *in, bool all, bool full)
{
	struct row_subscription s;

	if (!row_get_subscription(in, &s))
		return false;
	ck_assert(s.qos <= 2 && s.retain_handling <= 2);
	if (full)
		ck_assert(s.id == (all ? 268435455 : 0) && s.qos == (all ? 2 : 0) &&
		    s.retain_handling == s.qos && s.no_local == all &&
		    s.retain_as_published == all && s.wild_first == all);
	return true;
}

static void
put_exchange(bool all)
{
	row_exchange(
	    &o, &(struct row_exchange){ all ? UINT64_MAX : 0, all ? 65535 : 0, all ? 1 : 0 });
}

static bool
get_exchange(struct row_in *in, bool all, bool full)
{
	struct row_exchange x;

	if (!row_get_exchange(in, &x))
		return false;
	ck_assert(x.received_count <= 65535 && x.sent_count <= 65535);
	if (full)
		ck_assert(x.confirmed == (all ? UINT64_MAX : 0) &&
		    x.received_count == (all ? 65535 : 0) && x.sent_count == (all ? 1 : 0));
	return true;
}

static void
put_ban(bool all)
{
	row_ban(&o, &(struct row_ban){ { true, 1, all ? UINT64_MAX : 0 }, all ? 3 : 0 });
}

static bool
get_ban(struct row_in *in, bool all, bool full)
{
	struct row_ban b;

	if (!row_get_ban(in, &b))
		return false;
	if (full)
		ck_assert(b.until.wall_ms == 1 && b.until.left_ms == (all ? UINT64_MAX : 0) &&
		    b.bans == (all ? 3 : 0));
	return true;
}

static const struct row_finished finished[] = { { 1, 65536 }, { 1, 65537 }, { 0, UINT64_MAX },
	{ UINT64_MAX, 1 }, { 5, 65536 } };

static void
put_finished(bool all)
{
	struct row_finished before = { 0 };

	for (size_t i = 0; i < (all ? 5 : 1); i++)
		row_finished(&o, &finished[i], &before);
}

static bool
get_finished(struct row_in *in, bool all, bool full)
{
	struct row_finished f, before = { 0 };
	size_t n = 0;

	for (; row_get_finished(in, &f, &before); n++)
		if (full)
			ck_assert(
			    f.receiver == finished[n].receiver && f.address == finished[n].address);
	return !in->bad && n == (all ? 5 : 1);
}

static const struct {
	const char *table;
	void (*put)(bool all);
	bool (*get)(struct row_in *in, bool all, bool full);
} kinds[] = {
	{ "log", put_segment, get_segment },
	{ "session", put_session, get_session },
	{ "subscription", put_subscription, get_subscription },
	{ "exchange", put_exchange, get_exchange },
	{ "ban", put_ban, get_ban },
	{ "finished", put_finished, get_finished },
};
#define KINDS ((int)(2 * sizeof(kinds) / sizeof(kinds[0])))

/* ---- tests ---------------------------------------------------------------------------------------- */

/* Those bytes, with nothing behind them that may be read. */
static uint8_t *
exactly(const uint8_t *data, size_t len)
{
	uint8_t *p = malloc(len > 0 ? len : 1);

	ck_assert(p != NULL);
	if (len > 0)
		memcpy(p, data, len);
	return p;
}

START_TEST(a_row_comes_back_as_it_was)
{
	const bool all = _i % 2;
	struct row_key key = row_key_number(7);
	struct row_in in;
	uint8_t *p;

	kinds[_i / 2].put(all);
	row_seal(&o, kinds[_i / 2].table, &key);
	ck_assert(!o.failed);
	p = exactly(o.data, o.len);
	ck_assert(row_open(&in, p, o.len, kinds[_i / 2].table, &key));
	ck_assert(kinds[_i / 2].get(&in, all, true));
	ck_assert(in.at == in.end);
	free(p);
}
END_TEST

START_TEST(what_was_cut_has_rotted_or_stands_elsewhere_is_noticed)
{
	const char *table = kinds[_i / 2].table;
	struct row_key key = row_key_number(7), other = row_key_number(8);
	struct row_in in;
	uint8_t *p;

	kinds[_i / 2].put(_i % 2);
	row_seal(&o, table, &key);
	for (size_t len = 0; len < o.len; len++) {
		p = exactly(o.data, len);
		ck_assert_msg(!row_open(&in, p, len, table, &key), "cut to %zu of %zu", len, o.len);
		free(p);
	}
	for (size_t bit = 0; bit < o.len * 8; bit++) {
		o.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_msg(!row_open(&in, o.data, o.len, table, &key), "bit %zu", bit);
		o.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert(!row_open(&in, o.data, o.len, table, &other));
	ck_assert(!row_open(&in, o.data, o.len, "retained", &key));
	ck_assert(!row_open(&in, NULL, 0, table, &key));
}
END_TEST

/* Somebody who can make checksums. */
START_TEST(what_is_inside_is_bounded_even_if_the_checksum_is_right)
{
	const bool all = _i % 2;
	uint8_t *p;
	size_t len;

	kinds[_i / 2].put(all);
	len = o.len;
	for (size_t n = 0; n < len; n++) {
		struct row_in in;

		p = exactly(o.data, n);
		in = (struct row_in){ p, p + n, false };
		ck_assert_msg(!kinds[_i / 2].get(&in, all, false), "cut to %zu of %zu", n, len);
		row_author_free(&author); /* it is in there */
		free(p);
	}
	for (size_t bit = 0; bit < len * 8; bit++) {
		struct row_in in;

		p = exactly(o.data, len);
		p[bit / 8] ^= (uint8_t)(1 << bit % 8);
		in = (struct row_in){ p, p + len, false };
		(void)kinds[_i / 2].get(&in, all, false);
		ck_assert(in.at <= in.end);
		row_author_free(&author);
		free(p);
	}
}
END_TEST

START_TEST(numbers_are_those_of_64_bits_and_not_longer)
{
	static const uint64_t numbers[] = { 0, 1, 127, 128, 16383, 16384, UINT32_MAX,
		UINT64_MAX - 1, UINT64_MAX };
	static const uint8_t endless[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0x01 };
	struct row_in in;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		row_number(&o, numbers[i]);
	in = (struct row_in){ o.data, o.data + o.len, false };
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		ck_assert_uint_eq(row_get_number(&in), numbers[i]);
	ck_assert(!in.bad && in.at == in.end);
	ck_assert_uint_eq(row_get_number(&in), 0);
	ck_assert(in.bad);
	in = (struct row_in){ endless, endless + sizeof(endless), false };
	(void)row_get_number(&in);
	ck_assert(in.bad);
}
END_TEST

START_TEST(a_clock_before_the_last_sign_of_life_is_not_believed)
{
	const struct row_time t = { true, 10000, 4000 }; /* written at 6000 */
	static const struct {
		uint64_t now, alive, left;
	} cases[] = { { 6000, 6000, 4000 }, { 7000, 6500, 3000 }, { 10000, 6500, 0 },
		{ 99999, 6500, 0 }, { 6499, 6500, 4000 }, { 0, 6500, 4000 }, { 1000, 1000, 4000 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(row_left(&(struct row_clock){ cases[i].now, cases[i].alive }, &t) ==
			cases[i].left,
		    "row %zu", i);
	ck_assert_uint_eq(
	    row_left(&(struct row_clock){ 1, 1 }, &(struct row_time){ 0 }), UINT64_MAX);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_format");
	TCase *t = tcase_create("store_format");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, a_row_comes_back_as_it_was, 0, KINDS);
	tcase_add_loop_test(t, what_was_cut_has_rotted_or_stands_elsewhere_is_noticed, 0, KINDS);
	tcase_add_loop_test(t, what_is_inside_is_bounded_even_if_the_checksum_is_right, 0, KINDS);
	tcase_add_test(t, numbers_are_those_of_64_bits_and_not_longer);
	tcase_add_test(t, a_clock_before_the_last_sign_of_life_is_not_believed);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
