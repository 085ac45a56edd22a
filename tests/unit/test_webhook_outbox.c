/* SPDX-License-Identifier: Apache-2.0 */
/* The outbox of the plugin webhook, and whose turn it is there. */
#include "webhook/outbox.h"
#include "webhook/place.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/grapnel-outbox-XXXXXX", path[64], error[256], aside[256];

static void
make_folder(void)
{
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	(void)snprintf(path, sizeof(path), "%s/box", folder);
}

static void
remove_folder(void)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "rm -r '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

static struct outbox *
open_box(const char *at)
{
	struct outbox *o = outbox_open(at, error, sizeof(error), aside, sizeof(aside));

	ck_assert_msg(o != NULL, "%s", error);
	ck_assert_str_eq(aside, "");
	return o;
}

/* A row whose bytes and count are n. */
static int64_t
add(struct outbox *o, int64_t endpoint, uint32_t n)
{
	char bytes[256];
	struct chunk c = { .bytes = bytes, .len = n, .count = n, .oldest_us = n, .newest_us = n };
	int64_t row;

	memset(bytes, 'x', sizeof(bytes));
	row = outbox_add(o, endpoint, &c);
	ck_assert_int_gt(row, 0);
	return row;
}

struct seen {
	char text[256]; /* sizes of the rows */
	unsigned most;
};

static bool
see(void *arg, int64_t row, const struct chunk *c)
{
	struct seen *s = arg;
	size_t len = strlen(s->text);

	ck_assert_int_gt(row, 0);
	ck_assert_uint_eq(c->count, c->len);
	ck_assert_int_eq(c->newest_us, (int64_t)c->len);
	ck_assert_int_eq(c->bytes[c->len - 1], 'x');
	(void)snprintf(s->text + len, sizeof(s->text) - len, " %zu", c->len);
	return --s->most > 0;
}

static const char *
rows(struct outbox *o, int64_t endpoint, int64_t after, unsigned most)
{
	static struct seen s;

	s = (struct seen){ .most = most };
	ck_assert(outbox_each(o, endpoint, after, see, &s));
	return s.text;
}

static void
execute(const char *text)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

START_TEST(rows_of_an_endpoint_come_in_order_and_survive)
{
	struct outbox *o = open_box(path);
	struct outbox_sum sum;
	int64_t a, b, second;
	struct stat st;

	ck_assert(outbox_begin(o));
	a = outbox_endpoint(o, "a");
	b = outbox_endpoint(o, "b");
	ck_assert_int_ne(a, b);
	add(o, a, 10);
	second = add(o, b, 20);
	add(o, a, 30);
	add(o, a, 40);
	ck_assert(outbox_commit(o));
	outbox_close(o);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	o = open_box(path);
	ck_assert_int_eq(outbox_endpoint(o, "a"), a);
	ck_assert_str_eq(rows(o, a, 0, 99), " 10 30 40");
	ck_assert_str_eq(rows(o, a, 0, 2), " 10 30");
	ck_assert_str_eq(rows(o, a, second, 99), " 30 40");
	ck_assert(outbox_sum(o, a, 0, &sum));
	ck_assert_uint_eq(sum.rows, 3);
	ck_assert_uint_eq(sum.events, 80);
	ck_assert_uint_eq(sum.bytes, 80);
	ck_assert(outbox_remove(o, second));
	ck_assert_str_eq(rows(o, b, 0, 99), "");
	outbox_close(o);
}
END_TEST

START_TEST(what_is_rolled_back_is_not_there_and_rows_are_not_numbered_twice)
{
	struct outbox *o = open_box(NULL);
	int64_t e, row;

	ck_assert(outbox_begin(o));
	e = outbox_endpoint(o, "e");
	ck_assert(outbox_commit(o));
	ck_assert(outbox_begin(o));
	row = add(o, e, 1);
	outbox_rollback(o);
	ck_assert_str_eq(rows(o, e, 0, 99), "");
	ck_assert_int_gt(add(o, e, 2), row);
	ck_assert_str_eq(rows(o, e, 0, 99), " 2");
	ck_assert_int_gt(outbox_next_row(o), row + 1);
	outbox_start_at(o, 1000);
	outbox_start_at(o, 10);
	ck_assert_int_eq(add(o, e, 3), 1000);
	outbox_close(o);
}
END_TEST

START_TEST(the_oldest_go_but_not_those_that_are_kept)
{
	struct outbox *o = open_box(NULL);
	struct outbox_sum gone = { 0 };
	int64_t e = outbox_endpoint(o, "e"), first = add(o, e, 10);

	for (uint32_t n = 11; n < 20; n++)
		add(o, e, n);
	ck_assert(outbox_remove_oldest(o, e, first, 20, &gone));
	ck_assert_str_eq(rows(o, e, 0, 99), " 10 13 14 15 16 17 18 19");
	ck_assert_uint_eq(gone.rows, 2);
	ck_assert_uint_eq(gone.events, 23);
	ck_assert_uint_eq(gone.bytes, 23);
	ck_assert(outbox_remove_before(o, e, first, 15, &gone));
	ck_assert_str_eq(rows(o, e, 0, 99), " 10 15 16 17 18 19");
	ck_assert_uint_eq(gone.rows, 4);
	outbox_close(o);
}
END_TEST

START_TEST(as_many_go_as_have_to)
{
	struct outbox *o = open_box(NULL);
	struct outbox_sum gone = { 0 };
	int64_t e = outbox_endpoint(o, "e");

	ck_assert(outbox_begin(o));
	for (unsigned i = 0; i < 1000; i++)
		add(o, e, 1);
	add(o, e, 2);
	ck_assert(outbox_remove_oldest(o, e, 0, 700, &gone));
	ck_assert_uint_eq(gone.rows, 700);
	ck_assert(outbox_remove_before(o, e, 0, 2, &gone));
	ck_assert_uint_eq(gone.rows, 1000);
	ck_assert_str_eq(rows(o, e, 0, 99), " 2");
	ck_assert(outbox_commit(o));
	outbox_close(o);
}
END_TEST

static bool
see_damaged(void *arg, int64_t row, const struct chunk *c)
{
	unsigned *damaged = arg;

	ck_assert_int_gt(row, 0);
	*damaged += c->bytes == NULL;
	return true;
}

START_TEST(a_row_that_is_not_as_long_as_it_says_is_damaged)
{
	struct outbox *o = open_box(path);
	int64_t e = outbox_endpoint(o, "e");
	unsigned damaged = 0;

	add(o, e, 10);
	add(o, e, 20);
	outbox_close(o);
	execute("UPDATE parcel SET bytes = bytes - 1 WHERE events = 20");
	o = open_box(path);
	ck_assert(outbox_each(o, e, 0, see_damaged, &damaged));
	ck_assert_uint_eq(damaged, 1);
	outbox_close(o);
}
END_TEST

static bool
see_dead(void *arg, const struct dead_letter *d)
{
	int64_t *id = arg;

	ck_assert_str_eq(d->response, "no \xc3\xa4");
	ck_assert_int_eq(d->status, 400);
	ck_assert_uint_eq(d->record_len, 3);
	*id = d->id;
	return true;
}

static void
see_endpoint(void *arg, int64_t id, const char *name, uint64_t events, uint64_t dead)
{
	uint64_t *sum = arg;

	ck_assert_int_gt(id, 0);
	ck_assert_str_eq(name, "e");
	ck_assert_uint_eq(dead, 0);
	*sum += events;
}

/* Whoever looks at all endpoints adds up what any row says. */
START_TEST(numbers_that_no_row_can_have_stop_nobody)
{
	struct outbox *o = open_box(path);
	int64_t e = outbox_endpoint(o, "e");
	uint64_t sum = 0;
	sqlite3 *db;

	add(o, e, 10);
	add(o, e, 20);
	outbox_close(o);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(
	    sqlite3_exec(db, "UPDATE parcel SET events = 9223372036854775807", NULL, NULL, NULL),
	    SQLITE_OK);
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
	o = open_box(path);
	ck_assert_msg(outbox_endpoints(o, see_endpoint, &sum), "%s", outbox_error(o));
	ck_assert_uint_eq(sum, 2 * (uint64_t)UINT32_MAX);
	outbox_close(o);
}
END_TEST

START_TEST(dead_letters_are_kept_up_to_a_number)
{
	struct outbox *o = open_box(NULL);
	int64_t e = outbox_endpoint(o, "e"), other = outbox_endpoint(o, "other"), last = 0;
	const struct dead_letter d = { .time_us = 1,
		.event_id = "id",
		.status = 400,
		.response = "no \xc3\xa4",
		.record = "abc",
		.record_len = 3 };
	uint64_t removed, count;

	for (int i = 0; i < 5; i++)
		ck_assert(outbox_dead_add(o, e, &d));
	ck_assert(outbox_dead_add(o, other, &d));
	ck_assert(outbox_dead_trim(o, e, 3, &removed));
	ck_assert_uint_eq(removed, 2);
	ck_assert(outbox_dead_each(o, e, 0, see_dead, &last));
	ck_assert_int_eq(last, 5);
	ck_assert(outbox_dead_remove(o, last));
	ck_assert(outbox_dead_count(o, e, &count));
	ck_assert_uint_eq(count, 2);
	last = 0;
	ck_assert(outbox_dead_each(o, e, 4, see_dead, &last));
	ck_assert_int_eq(last, 4);
	ck_assert(outbox_dead_count(o, other, &count));
	ck_assert_uint_eq(count, 1);
	outbox_close(o);
}
END_TEST

static void
write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	for (int i = 0; i < 1000; i++)
		fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

START_TEST(what_is_no_database_is_set_aside)
{
	struct outbox *o;
	struct stat st;

	write_file("this is not a database");
	o = outbox_open(path, error, sizeof(error), aside, sizeof(aside));
	ck_assert_msg(o != NULL, "%s", error);
	ck_assert_int_eq(strncmp(aside, path, strlen(path)), 0);
	ck_assert_int_eq(stat(aside, &st), 0);
	ck_assert_int_eq(st.st_size, 22000);
	ck_assert_int_gt(outbox_endpoint(o, "e"), 0);
	outbox_close(o);
}
END_TEST

/* A page in the middle: the file opens, and who comes there knows it. */
START_TEST(what_is_damaged_within_can_be_set_aside)
{
	struct outbox *o = open_box(path);
	int64_t e = outbox_endpoint(o, "e");
	unsigned damaged = 0;
	struct stat st;
	char rubbish[16384];
	int fd;

	ck_assert(outbox_begin(o));
	for (int i = 0; i < 2000; i++)
		add(o, e, 200);
	ck_assert(outbox_commit(o));
	outbox_close(o);
	ck_assert_int_eq(stat(path, &st), 0);
	fd = open(path, O_RDWR);
	memset(rubbish, 0xa5, sizeof(rubbish));
	for (off_t at = 8 * 16384; at < 16 * 16384; at += 16384)
		ck_assert_int_eq(pwrite(fd, rubbish, sizeof(rubbish), at), (int)sizeof(rubbish));
	ck_assert_int_eq(close(fd), 0);
	o = open_box(path);
	ck_assert(!outbox_each(o, e, 0, see_damaged, &damaged));
	ck_assert(outbox_damaged(o));
	outbox_close(o);
	ck_assert(outbox_set_aside(path, aside, sizeof(aside)));
	ck_assert_int_eq(stat(aside, &st), 0);
	o = open_box(path);
	ck_assert_int_gt(outbox_endpoint(o, "e"), 0);
	ck_assert_str_eq(rows(o, e, 0, 99), "");
	outbox_close(o);
}
END_TEST

START_TEST(another_version_is_left_alone)
{
	outbox_close(open_box(path));
	execute("PRAGMA user_version = 9999");
	ck_assert_ptr_null(outbox_open(path, error, sizeof(error), aside, sizeof(aside)));
	ck_assert_ptr_nonnull(strstr(error, "another version"));
	ck_assert_str_eq(aside, "");
}
END_TEST

START_TEST(a_second_process_is_refused)
{
	struct outbox *o = open_box(path);
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct outbox *second =
		    outbox_open(path, error, sizeof(error), aside, sizeof(aside));

		_exit(second == NULL && strstr(error, "another process") != NULL && aside[0] == '\0'
			? 0
			: 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_gt(outbox_endpoint(o, "e"), 0);
	outbox_close(o);
}
END_TEST

START_TEST(an_empty_outbox_gives_its_room_back)
{
	struct outbox *o = open_box(path);
	int64_t e = outbox_endpoint(o, "e"), first = outbox_next_row(o);
	struct stat st;

	ck_assert(outbox_begin(o));
	for (int i = 0; i < 10000; i++)
		add(o, e, 250);
	ck_assert(outbox_commit(o));
	ck_assert(outbox_begin(o));
	for (int64_t row = first; row < outbox_next_row(o); row++)
		ck_assert(outbox_remove(o, row));
	ck_assert(outbox_commit(o));
	while (outbox_tidy(o))
		continue;
	outbox_close(o);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_lt(st.st_size, 300000);
}
END_TEST

/* ---- places ---------------------------------------------------------------------------------- */

START_TEST(who_waits_knows_whether_it_is_worth_it)
{
	struct place *old = place_enter("k"), *neu = place_enter("k");

	ck_assert(!place_is_near(neu));
	ck_assert(place_followed(old));
	ck_assert(place_is_near(neu));
	ck_assert(!place_leave(neu, NULL));
	ck_assert(!place_followed(old));
	ck_assert(!place_leave(old, NULL));
}
END_TEST

START_TEST(a_key_belongs_to_one_name)
{
	char whose[16];

	ck_assert(place_claim("k", "a", whose, sizeof(whose)));
	ck_assert(place_claim("other", "b", whose, sizeof(whose)));
	ck_assert(place_claim("k", "a", whose, sizeof(whose))); /* a reload */
	ck_assert(!place_claim("k", "b", whose, sizeof(whose)));
	ck_assert_str_eq(whose, "a");
	place_unclaim("k");
	ck_assert(!place_claim("k", "b", whose, sizeof(whose)));
	place_unclaim("k");
	ck_assert(place_claim("k", "b", whose, sizeof(whose)));
	place_unclaim("k");
	place_unclaim("other");
}
END_TEST

static void *
leave_later(void *arg)
{
	const struct timespec pause = { 0, 20000000 };
	struct outbox *o = (struct outbox *)(void *)path; /* any address: nobody looks into it */

	(void)nanosleep(&pause, NULL);
	ck_assert(place_leave(arg, o));
	return NULL;
}

START_TEST(the_next_one_gets_the_outbox_of_the_one_before)
{
	struct place *old = place_enter("k"), *other = place_enter("other"), *neu;
	struct outbox *o = (struct outbox *)1;
	pthread_t thread;

	ck_assert(place_wait(old, 0, &o));
	ck_assert_ptr_null(o);
	ck_assert(place_wait(other, 0, &o));
	ck_assert(!place_followed(old));
	neu = place_enter("k");
	ck_assert(place_is_near(neu)); /* it was asked already */
	ck_assert(place_followed(old));
	ck_assert(!place_followed(neu));
	ck_assert(!place_wait(neu, 1, &o));
	ck_assert_int_eq(pthread_create(&thread, NULL, leave_later, old), 0);
	ck_assert(place_wait(neu, 60000, &o));
	ck_assert_ptr_eq(o, path);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(!place_leave(neu, o));
	ck_assert(!place_leave(other, NULL));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("webhook outbox");
	TCase *c = tcase_create("outbox"), *p = tcase_create("place");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(c, make_folder, remove_folder);
	tcase_add_test(c, rows_of_an_endpoint_come_in_order_and_survive);
	tcase_add_test(c, what_is_rolled_back_is_not_there_and_rows_are_not_numbered_twice);
	tcase_add_test(c, the_oldest_go_but_not_those_that_are_kept);
	tcase_add_test(c, as_many_go_as_have_to);
	tcase_add_test(c, a_row_that_is_not_as_long_as_it_says_is_damaged);
	tcase_add_test(c, numbers_that_no_row_can_have_stop_nobody);
	tcase_add_test(c, dead_letters_are_kept_up_to_a_number);
	tcase_add_test(c, what_is_no_database_is_set_aside);
	tcase_add_test(c, what_is_damaged_within_can_be_set_aside);
	tcase_add_test(c, another_version_is_left_alone);
	tcase_add_test(c, a_second_process_is_refused);
	tcase_add_test(c, an_empty_outbox_gives_its_room_back);
	tcase_add_test(p, who_waits_knows_whether_it_is_worth_it);
	tcase_add_test(p, a_key_belongs_to_one_name);
	tcase_add_test(p, the_next_one_gets_the_outbox_of_the_one_before);
	suite_add_tcase(s, c);
	suite_add_tcase(s, p);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? 0 : 1;
}
