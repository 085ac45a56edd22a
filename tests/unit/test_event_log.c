/* SPDX-License-Identifier: Apache-2.0 */
/* Where event-log's lines go, and what waits for them. The whole plugin: tests/integration/test_event_log.py. */
#include "../plugins/event-log/backlog.h"
#include "../plugins/event-log/sink.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/test_event_log.XXXXXX", path[64];
static struct sink sink;

static void
setup(void)
{
	strcpy(strrchr(folder, '.'), ".XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/log", folder);
	sink_init(&sink, SINK_FILE);
	sink.path = path;
	sink.keep = 2;
	(void)signal(SIGXFSZ, SIG_IGN); /* the writer's thread blocks them */
	(void)signal(SIGPIPE, SIG_IGN);
}

static void
teardown(void)
{
	char command[128];

	sink_close(&sink);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static const char *
content(const char *suffix)
{
	static char text[65536];
	char name[128];
	size_t n;
	FILE *f;

	snprintf(name, sizeof(name), "%s%s", path, suffix);
	if ((f = fopen(name, "r")) == NULL)
		return NULL;
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static enum sink_result
put(const char *lines, size_t *done)
{
	return sink_write(&sink, lines, strlen(lines), done);
}

static void
put_whole(const char *lines)
{
	size_t done = 0;

	ck_assert_msg(put(lines, &done) == SINK_DONE, "%s", sink.trouble);
	ck_assert_uint_eq(done, strlen(lines));
}

static void
disk_has(rlim_t bytes)
{
	struct rlimit r;

	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &r), 0);
	r.rlim_cur = bytes;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &r), 0);
}

/* ---- the file ----------------------------------------------------------------------------------- */

START_TEST(a_file_is_made_for_its_owner_and_group_and_added_to)
{
	struct stat st;

	(void)umask(0);
	put_whole("a\nb\n");
	sink_close(&sink);
	put_whole("c\n");
	ck_assert_str_eq(content(""), "a\nb\nc\n");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0640);
}
END_TEST

START_TEST(a_file_that_was_moved_or_deleted_is_made_anew)
{
	char aside[80];

	snprintf(aside, sizeof(aside), "%s.aside", path);
	put_whole("a\n");
	ck_assert_int_eq(rename(path, aside), 0);
	put_whole("b\n");
	ck_assert_str_eq(content(".aside"), "a\n");
	ck_assert_str_eq(content(""), "b\n");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(sink_idle(&sink), SINK_DONE);
	ck_assert_str_eq(content(""), "");
}
END_TEST

START_TEST(a_file_is_put_aside_before_it_gets_too_long)
{
	sink.max_size = 8;
	put_whole("aa\nbb\n");
	put_whole("cc\n");
	put_whole("dd\nee\n");
	put_whole("a line that is longer than that\n");
	put_whole("ff\ngg\nhh\n"); /* more than a file holds at once */
	ck_assert_str_eq(content(""), "hh\n");
	ck_assert_str_eq(content(".1"), "ff\ngg\n");
	ck_assert_str_eq(content(".2"), "a line that is longer than that\n");
	ck_assert_ptr_null(content(".3"));
	ck_assert_str_eq(sink.warning, "");
}
END_TEST

START_TEST(a_file_that_cannot_be_put_aside_grows)
{
	char aside[80];

	snprintf(aside, sizeof(aside), "%s.1", path);
	ck_assert_int_eq(mkdir(aside, 0700), 0); /* a file cannot get its name */
	sink.keep = 1;
	sink.max_size = 3;
	put_whole("a\n");
	put_whole("b\n");
	ck_assert_ptr_nonnull(strstr(sink.warning, "cannot be rotated"));
	sink.warning[0] = '\0';
	put_whole("c\n");
	ck_assert_str_eq(sink.warning, ""); /* not for each line */
	ck_assert_str_eq(content(""), "a\nb\nc\n");
}
END_TEST

START_TEST(a_line_that_was_cut_is_completed_first)
{
	const char *lines = "first\nsecond\nthird\n";
	size_t done = 0;

	disk_has(8);
	ck_assert_int_eq(put(lines, &done), SINK_TROUBLE);
	ck_assert_uint_eq(done, 8);
	ck_assert_ptr_nonnull(strstr(sink.trouble, path));
	sink.max_size = 9; /* in the middle of a line it is not put aside */
	disk_has(RLIM_INFINITY);
	ck_assert_int_eq(put(lines, &done), SINK_DONE);
	ck_assert_str_eq(content(".1"), "first\nsecond\n");
	ck_assert_str_eq(content(""), "third\n");
}
END_TEST

START_TEST(a_line_that_was_cut_is_begun_again_in_another_file)
{
	const char *lines = "first\nsecond\nthird\n";
	size_t done = 0;

	disk_has(8);
	ck_assert_int_eq(put(lines, &done), SINK_TROUBLE);
	ck_assert_int_eq(unlink(path), 0); /* somebody makes room */
	disk_has(RLIM_INFINITY);
	ck_assert_int_eq(put(lines, &done), SINK_DONE);
	ck_assert_str_eq(content(""), "second\nthird\n");
}
END_TEST

START_TEST(half_a_line_of_another_process_is_ended)
{
	FILE *f = fopen(path, "w");

	fputs("a\n{\"half", f);
	fclose(f);
	put_whole("b\n");
	put_whole("c\n");
	ck_assert_str_eq(content(""), "a\n{\"half\nb\nc\n");
}
END_TEST

START_TEST(a_folder_that_is_gone_is_said_with_what_to_do)
{
	char aside[80];
	size_t done = 0;

	snprintf(aside, sizeof(aside), "%s.aside", folder);
	put_whole("a\n");
	ck_assert_int_eq(rename(folder, aside), 0);
	ck_assert_int_eq(put("b\n", &done), SINK_TROUBLE);
	ck_assert_ptr_nonnull(strstr(sink.trouble, "make its folder"));
	ck_assert_int_eq(rename(aside, folder), 0);
	put_whole("b\n");
	ck_assert_str_eq(content(""), "a\nb\n");
}
END_TEST

START_TEST(what_cannot_be_a_file_is_refused)
{
	char long_path[5000] = "/";

	ck_assert(sink_check(&sink));
	ck_assert_ptr_null(content("")); /* a check leaves nothing behind */
	sink.path = "events.log";
	ck_assert(!sink_check(&sink));
	sink.path = folder;
	ck_assert(!sink_check(&sink));
	ck_assert_ptr_nonnull(strstr(sink.trouble, "is a folder"));
	sink.path = "/no/such/folder/log";
	ck_assert(!sink_check(&sink));
	ck_assert_ptr_nonnull(strstr(sink.trouble, "make its folder"));
	memset(long_path, '/', sizeof(long_path) - 2);
	long_path[4998] = 'a';
	sink.path = long_path;
	ck_assert(!sink_check(&sink));
}
END_TEST

/* ---- pipes ---------------------------------------------------------------------------------------- */

START_TEST(a_pipe_nobody_reads_does_not_hold_the_writer)
{
	static char lines[200000], got[200000];
	size_t done = 0, have = 0;
	int fd, n;

	for (n = 0; n < 20000; n++)
		memcpy(lines + n * 10, "123456789\n", 10);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(sink_write(&sink, lines, sizeof(lines), &done), SINK_TROUBLE);
	ck_assert_ptr_nonnull(strstr(sink.trouble, "nobody reads from it"));
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_eq(sink_write(&sink, lines, sizeof(lines), &done), SINK_LATER);
	ck_assert_uint_lt(done, sizeof(lines));
	ck_assert_int_eq(lines[done - 1], '\n'); /* whole lines, for others may write there, too */
	while (have < sizeof(got)) {
		ssize_t len = read(fd, got + have, sizeof(got) - have);

		if (len > 0)
			have += (size_t)len;
		(void)sink_write(&sink, lines, sizeof(lines), &done);
	}
	ck_assert_mem_eq(got, lines, sizeof(got));
	close(fd);
	done = 0;
	ck_assert_int_eq(sink_write(&sink, lines, sizeof(lines), &done), SINK_TROUBLE);
	ck_assert_uint_eq(done, 0);
}
END_TEST

START_TEST(stdout_is_whatever_the_process_has)
{
	int out[2], before = dup(STDOUT_FILENO);
	char got[8];

	ck_assert_int_eq(pipe(out), 0);
	ck_assert_int_eq(dup2(out[1], STDOUT_FILENO), STDOUT_FILENO);
	sink_init(&sink, SINK_STDOUT);
	ck_assert(sink_check(&sink));
	put_whole("a\n");
	ck_assert_int_eq(read(out[0], got, sizeof(got)), 2);
	sink_close(&sink);
	close(STDOUT_FILENO);
	ck_assert(!sink_check(&sink));
	ck_assert_ptr_nonnull(strstr(sink.trouble, "no stdout"));
	ck_assert_int_eq(dup2(before, STDOUT_FILENO), STDOUT_FILENO);
	close(before);
	close(out[0]);
	close(out[1]);
}
END_TEST

/* ---- syslog --------------------------------------------------------------------------------------- */

static int
logger_start(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	(void)unlink(path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static const char *
logger_got(int fd)
{
	static char text[4096];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return NULL;
	text[n] = '\0';
	return text;
}

START_TEST(each_line_is_a_datagram_in_the_c_librarys_form)
{
	char tail[64];
	const char *got;
	int fd = logger_start();

	sink_init(&sink, SINK_SYSLOG);
	sink.path = path;
	sink.ident = "me";
	ck_assert(sink_check(&sink));
	put_whole("{a}\n{b}\n");
	snprintf(tail, sizeof(tail), " me[%ld]: {a}", (long)getpid());
	got = logger_got(fd);
	ck_assert_ptr_nonnull(got);
	ck_assert_int_eq(strncmp(got, "<30>", 4), 0);
	ck_assert_uint_eq(strlen(got), 4 + 15 + strlen(tail)); /* "Nov  2 07:08:09" */
	ck_assert_str_eq(got + 19, tail);
	got = logger_got(fd);
	ck_assert_str_eq(got + strlen(got) - 3, "{b}");
	ck_assert_ptr_null(logger_got(fd));
	close(fd);
}
END_TEST

START_TEST(a_logger_that_restarts_gets_what_comes_later)
{
	size_t done = 0;
	int fd = logger_start();

	sink_init(&sink, SINK_SYSLOG);
	sink.path = path;
	sink.ident = "me";
	put_whole("{a}\n");
	close(fd);
	ck_assert_int_eq(put("{b}\n", &done), SINK_TROUBLE);
	ck_assert_uint_eq(done, 0);
	ck_assert_ptr_nonnull(strstr(sink.trouble, "logger"));
	fd = logger_start();
	ck_assert_int_eq(put("{b}\n", &done), SINK_DONE);
	ck_assert_ptr_nonnull(strstr(logger_got(fd), "{b}"));
	close(fd);
}
END_TEST

START_TEST(a_logger_that_does_not_read_does_not_hold_the_writer)
{
	static char lines[30001], last[16];
	size_t done = 0, got = 0, count = 3000, len;
	unsigned queue;
	int fd = logger_start();
	FILE *f = fopen("/proc/sys/net/unix/max_dgram_qlen", "r");

	if (f != NULL && fscanf(f, "%u", &queue) == 1 && queue < 1000)
		count = (size_t)queue * 3;
	if (f != NULL)
		fclose(f);
	for (size_t n = 0; n < count; n++)
		snprintf(lines + n * 10, 11, "%09zu\n", n);
	len = count * 10;
	sink_init(&sink, SINK_SYSLOG);
	sink.path = path;
	sink.ident = "me";
	ck_assert_int_eq(sink_write(&sink, lines, len, &done), SINK_LATER);
	ck_assert_uint_lt(done, len);
	ck_assert_uint_eq(done % 10, 0);
	while (got < count) {
		const char *text;

		while ((text = logger_got(fd)) != NULL) {
			snprintf(last, sizeof(last), ": %09zu", got++);
			ck_assert_ptr_nonnull(strstr(text, last));
		}
		(void)sink_write(&sink, lines, len, &done);
	}
	close(fd);
}
END_TEST

START_TEST(a_line_that_no_datagram_holds_is_left_out)
{
	size_t len = 4u << 20;
	char *line = malloc(len + 7);
	size_t done = 0;
	int fd = logger_start();

	memset(line, 'x', len);
	strcpy(line + len, "\n{b}\n");
	sink_init(&sink, SINK_SYSLOG);
	sink.path = path;
	sink.ident = "me";
	ck_assert_int_eq(put(line, &done), SINK_DONE);
	ck_assert_uint_eq(sink.skipped, 1);
	ck_assert_ptr_nonnull(strstr(sink.warning, "lower payload_max"));
	ck_assert_ptr_nonnull(strstr(logger_got(fd), "{b}"));
	free(line);
	close(fd);
}
END_TEST

/* ---- the backlog ---------------------------------------------------------------------------------- */

static struct chunk *
chunk_of_one(uint64_t sequence)
{
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_BROKER_READY, .id = { 1, 2, sequence } };
	struct chunk *c = NULL;

	ck_assert(chunk_add(&c, &ev, 0));
	return c;
}

START_TEST(after_a_miss_nothing_goes_in_until_all_before_it_is_taken)
{
	struct missed none = { 0 }, some = { 3, { 1, 2, 7 }, 5 }, more = { 4, { 1, 2, 10 }, 6 },
		      got;
	struct backlog b;
	struct chunk *c, *taken;
	bool began;

	ck_assert(backlog_init(&b, 100000));
	ck_assert(backlog_push(&b, chunk_of_one(6), &some, &began) && began);
	ck_assert(backlog_push(&b, NULL, &more, &began) && !began);
	c = chunk_of_one(20);
	ck_assert(!backlog_push(&b, c, &none, &began));
	ck_assert(backlog_take(&b, 0, &taken, &got));
	ck_assert(taken != NULL && taken->next == NULL);
	ck_assert_uint_eq(got.count, 7);
	ck_assert_uint_eq(got.id.sequence, 7);
	ck_assert(backlog_push(&b, c, &none, &began)); /* behind the gap now */
	chunk_free(taken);
	backlog_fini(&b);
}
END_TEST

START_TEST(what_is_being_written_counts)
{
	struct missed none = { 0 }, got;
	struct chunk *c = chunk_of_one(1), *taken;
	size_t size = c->capacity;
	struct backlog b;
	bool began;

	ck_assert(backlog_init(&b, size * 2 - 1));
	ck_assert_uint_eq(backlog_room(&b), size * 2 - 1);
	ck_assert(backlog_push(&b, c, &none, &began));
	ck_assert_uint_eq(backlog_room(&b), size - 1);
	ck_assert(backlog_take(&b, 0, &taken, &got));
	c = chunk_of_one(2);
	ck_assert(!backlog_push(&b, c, &none, &began));
	backlog_done(&b, size);
	chunk_free(taken);
	ck_assert(backlog_push(&b, c, &none, &began));
	ck_assert(backlog_take(&b, 0, &taken, &got)); /* what has room is not limited to it */
	backlog_done(&b, size);
	chunk_free(taken);
	b.limit = 1;
	ck_assert(backlog_push(&b, chunk_of_one(3), &none, &began));
	ck_assert_uint_eq(backlog_room(&b), 0);
	backlog_fini(&b);
}
END_TEST

START_TEST(the_end_comes_when_all_is_taken)
{
	struct missed none = { 0 }, got;
	struct backlog b;
	struct chunk *taken;
	bool began;

	ck_assert(backlog_init(&b, 100000));
	ck_assert(backlog_take(&b, 0, &taken, &got) && taken == NULL);
	ck_assert(backlog_pause(&b, 0) && !backlog_late(&b));
	ck_assert(backlog_push(&b, chunk_of_one(1), &none, &began));
	backlog_stop(&b, 0);
	ck_assert(!backlog_pause(&b, 1000) && backlog_late(&b));
	ck_assert(backlog_take(&b, 1000, &taken, &got) && taken != NULL);
	chunk_free(taken);
	ck_assert(!backlog_take(&b, 1000, &taken, &got));
	backlog_fini(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("event_log");
	TCase *tc = tcase_create("sink"), *waiting = tcase_create("backlog");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_file_is_made_for_its_owner_and_group_and_added_to);
	tcase_add_test(tc, a_file_that_was_moved_or_deleted_is_made_anew);
	tcase_add_test(tc, a_file_is_put_aside_before_it_gets_too_long);
	tcase_add_test(tc, a_file_that_cannot_be_put_aside_grows);
	tcase_add_test(tc, a_line_that_was_cut_is_completed_first);
	tcase_add_test(tc, a_line_that_was_cut_is_begun_again_in_another_file);
	tcase_add_test(tc, half_a_line_of_another_process_is_ended);
	tcase_add_test(tc, a_folder_that_is_gone_is_said_with_what_to_do);
	tcase_add_test(tc, what_cannot_be_a_file_is_refused);
	tcase_add_test(tc, a_pipe_nobody_reads_does_not_hold_the_writer);
	tcase_add_test(tc, stdout_is_whatever_the_process_has);
	tcase_add_test(tc, each_line_is_a_datagram_in_the_c_librarys_form);
	tcase_add_test(tc, a_logger_that_restarts_gets_what_comes_later);
	tcase_add_test(tc, a_logger_that_does_not_read_does_not_hold_the_writer);
	tcase_add_test(tc, a_line_that_no_datagram_holds_is_left_out);
	suite_add_tcase(s, tc);
	tcase_add_test(waiting, after_a_miss_nothing_goes_in_until_all_before_it_is_taken);
	tcase_add_test(waiting, what_is_being_written_counts);
	tcase_add_test(waiting, the_end_comes_when_all_is_taken);
	suite_add_tcase(s, waiting);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
