/* SPDX-License-Identifier: Apache-2.0 */
/* Mosquitto's file: one that Mosquitto 2.0.11 wrote (the corpus has it), and older versions of the format. */
#include "../../ctl/store.h"

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(
    const uint8_t *data, size_t size); /* fuzz_mosquitto.c: into a store, and examined there */

static uint8_t recorded[4096];
static size_t recorded_len;

static void
read_recorded(void)
{
	const char *src = getenv("GRAPNEL_SRC");
	char path[4096];
	FILE *f;

	ck_assert_ptr_nonnull(src);
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/mosquitto/recorded", src);
	f = fopen(path, "rb");
	ck_assert_msg(f != NULL, "%s", path);
	recorded_len = fread(recorded, 1, sizeof(recorded), f);
	fclose(f);
	ck_assert_uint_gt(recorded_len, 500);
}

/* ---- what was seen, one word each ------------------------------------------------------------------ */

static char seen[4096];

static void saw(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void
saw(const char *format, ...)
{
	size_t len = strlen(seen);
	va_list ap;

	va_start(ap, format);
	vsnprintf(seen + len, sizeof(seen) - len, format, ap);
	va_end(ap);
}

#define TEXT(s) (int)(s).len, (s).len > 0 ? (s).data : ""

static bool
on_client(const struct mosquitto_client *c, void *arg)
{
	(void)arg;
	saw("client %.*s", TEXT(c->id));
	if (c->username.data != NULL && memchr(c->username.data, 0, c->username.len) == NULL)
		saw(" user %.*s", TEXT(c->username));
	saw(" %d\n", c->expiry == UINT32_MAX ? -1 : (int)c->expiry);
	return true;
}

static bool
on_message(const struct mosquitto_message *m, void *arg)
{
	(void)arg;
	saw("message %d %.*s %d %.*s%s of %.*s %.*s\n", (int)m->id, TEXT(m->topic), m->qos,
	    m->payload.len > 0 && m->payload.data[0] >= ' ' ? (int)m->payload.len : 0,
	    m->payload.data, m->retain ? " retain" : "", TEXT(m->source_id),
	    TEXT(m->source_username));
	return true;
}

static bool
on_queued(const struct mosquitto_queued *q, void *arg)
{
	(void)arg;
	saw("queued %d %.*s %s %d %d %d\n", (int)q->message, TEXT(q->client), q->out ? "out" : "in",
	    q->packet_id, q->qos, q->state);
	return true;
}

static bool
on_subscription(const struct mosquitto_subscription *s, void *arg)
{
	(void)arg;
	saw("subscription %.*s %.*s %d %d%s%s\n", TEXT(s->client), TEXT(s->filter), s->qos,
	    (int)s->id, s->no_local ? " no_local" : "", s->retain_as_published ? " rap" : "");
	return true;
}

static bool
on_retained(uint64_t message, void *arg)
{
	(void)arg;
	saw("retained %d\n", (int)message);
	return true;
}

/* From exactly as many bytes, so that ASan sees a read past them. */
static unsigned
read_bytes(const uint8_t *data, size_t len, char error[STORE_ERROR])
{
	const struct mosquitto_handler handler = { on_client, on_message, on_queued,
		on_subscription, on_retained, NULL };
	FILE *f = len > 0 ? fmemopen((void *)(uintptr_t)data, len, "r") : fopen("/dev/null", "r");
	unsigned version;

	ck_assert_ptr_nonnull(f);
	seen[0] = error[0] = '\0';
	version = mosquitto_read(f, &handler, error);
	fclose(f);
	return version;
}

START_TEST(a_file_of_mosquitto_is_understood)
{
	char error[STORE_ERROR];

	read_recorded();
	ck_assert_msg(read_bytes(recorded, recorded_len, error) == 6, "%s", error);
	ck_assert_str_eq(seen,
	    "message 55 q/2 2 in of f \n"
	    "message 54 q/1 2 2 of p bob\n"
	    "message 53 q/1 1  retain of p bob\n"
	    "client w user u -1\n"
	    "queued 53 w out 1 1 11\n"
	    "queued 54 w out 2 2 11\n"
	    "client f -1\n"
	    "queued 55 f in 2 2 7\n"
	    "queued 53 f out 1 1 3\n"
	    "queued 54 f out 2 2 9\n"
	    "subscription w q/# 2 7 no_local rap\n"
	    "subscription f q/1 2 0\n"
	    "retained 53\n");
}
END_TEST

/* The format does not say where it ends: what is cut between two chunks looks whole. */
static bool
is_boundary(size_t len)
{
	size_t at = 23;

	while (at < len)
		at += 8 + (size_t)recorded[at + 6] * 256 + recorded[at + 7];
	return at == len && len > 23;
}

START_TEST(a_file_that_is_cut_is_refused)
{
	char error[STORE_ERROR];
	unsigned whole = 0;

	read_recorded();
	for (size_t len = 0; len <= recorded_len; len++) {
		unsigned version = read_bytes(recorded, len, error);

		ck_assert_msg((version != 0) == is_boundary(len), "%zu bytes: %s", len, error);
		ck_assert((version == 0) == (error[0] != '\0'));
		if (version == 0)
			continue;
		whole++;
		LLVMFuzzerTestOneInput(recorded, len);
	}
	ck_assert_uint_eq(whole, 14);
}
END_TEST

START_TEST(a_wrong_bit_is_refused_or_does_no_harm)
{
	char error[STORE_ERROR];

	read_recorded();
	for (size_t i = 0; i < recorded_len * 8; i++) {
		recorded[i / 8] ^= (uint8_t)(1u << i % 8);
		/* Into a store of each byte one: that is slower. */
		if (read_bytes(recorded, recorded_len, error) != 0 && i % 8 == i / 8 % 8)
			LLVMFuzzerTestOneInput(recorded, recorded_len);
		recorded[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}
END_TEST

/* ---- older versions ---------------------------------------------------------------------------------- */

#define MAGIC "\0\xb5\0mosquitto db\0\0\0\0\0\0\0"

static const struct {
	const char *bytes;
	size_t len;
	unsigned version;
	const char *seen;
} older[] = {
#define ROW(version, bytes, seen)                       \
	{                                               \
		bytes, sizeof(bytes) - 1, version, seen \
	}
	ROW(3,
	    MAGIC "\3"
		  "\0\1\0\0\0\12\0\10\7\0\0\0\0\0\0\0"
		  "\0\2\0\0\0\32\5\0\0\0\0\0\0\0\0\1s\0\1\0\2\0\1t\1\1\0\0\0\2hi"
		  "\0\6\0\0\0\15\0\1c\0\3\0\0\0\0\0\0\0\0"
		  "\0\3\0\0\0\22\0\1c\5\0\0\0\0\0\0\0\0\1\1\0\1\13\0"
		  "\0\5\0\0\0\10\0\1c\0\2t+\1"
		  "\0\4\0\0\0\10\5\0\0\0\0\0\0\0",
	    "message 5 t 1 hi retain of s \nclient c -1\nqueued 5 c out 1 1 11\n"
	    "subscription c t+ 1 0\nretained 5\n"),
	ROW(4,
	    MAGIC "\4"
		  "\0\1\0\0\0\12\0\10\7\0\0\0\0\0\0\0"
		  "\0\2\0\0\0\37\5\0\0\0\0\0\0\0\0\1s\0\1u\7\x5b\0\1\0\2\0\1t\0\0\0\0\0\2hi",
	    "message 5 t 0 hi of s u\n"),
	ROW(5,
	    MAGIC "\5"
		  "\0\0\0\1\0\0\0\20\7\0\0\0\0\0\0\0\1\10\0\0\0\0\0\0"
		  "\0\0\0\6\0\0\0\21\0\0\0\0\0\0\0\0\0\0\0\74\0\0\0\1c"
		  "\0\0\0\x63\0\0\0\2??",
	    "client c 60\n"),
};

START_TEST(older_versions_are_understood)
{
	char error[STORE_ERROR];
	unsigned version = read_bytes((const uint8_t *)older[_i].bytes, older[_i].len, error);

	ck_assert_msg(version == older[_i].version, "row %d: %s", _i, error);
	ck_assert_str_eq(seen, older[_i].seen);
	LLVMFuzzerTestOneInput((const uint8_t *)older[_i].bytes, older[_i].len);
}
END_TEST

static const struct {
	const char *bytes;
	size_t len;
	const char *why;
} wrong[] = {
#define WRONG(bytes, why)                     \
	{                                     \
		bytes, sizeof(bytes) - 1, why \
	}
	WRONG("SQLite format 3\0                ", "no persistence file"),
	WRONG(MAGIC "\2", "version 2"),
	WRONG(MAGIC "\7", "version 7"),
	WRONG(MAGIC "\6", "first chunk"),
	WRONG(MAGIC "\6\0\0\0\6\0\0\0\0", "first chunk"),
	WRONG(MAGIC "\6\0\0\0\1\0\0\0\20\7\0\0\0\0\0\0\0\1\4\0\0\0\0\0\0", "order of bytes"),
	WRONG(MAGIC "\6\0\0\0\1\0\0\0\20\0\0\0\0\0\0\0\7\1\10\0\0\0\0\0\0", "order of bytes"),
	WRONG(MAGIC "\6\0\0\0\1\0\0\0\20\7\0\0\0\0\0\0\0\1\10\0\0\0\0\0\0"
		    "\0\0\0\2\x7f\xff\xff\xff",
	    "larger than any"),
	WRONG(MAGIC "\6\0\0\0\1\0\0\0\20\7\0\0\0\0\0\0\0\1\10\0\0\0\0\0\0"
		    "\0\0\0\5\0\0\0\16\0\0\0\0\0\1\0\5\0\0\0\0ct",
	    "too early"),
};

START_TEST(what_is_no_such_file_is_refused)
{
	char error[STORE_ERROR];

	ck_assert_uint_eq(read_bytes((const uint8_t *)wrong[_i].bytes, wrong[_i].len, error), 0);
	ck_assert_msg(strstr(error, wrong[_i].why) != NULL, "row %d: %s", _i, error);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("store_mosquitto");
	TCase *tc = tcase_create("store_mosquitto");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, a_file_of_mosquitto_is_understood);
	tcase_add_test(tc, a_file_that_is_cut_is_refused);
	tcase_add_test(tc, a_wrong_bit_is_refused_or_does_no_harm);
	tcase_add_loop_test(
	    tc, older_versions_are_understood, 0, (int)(sizeof(older) / sizeof(older[0])));
	tcase_add_loop_test(
	    tc, what_is_no_such_file_is_refused, 0, (int)(sizeof(wrong) / sizeof(wrong[0])));
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
