/* SPDX-License-Identifier: Apache-2.0 */
#include "../fuzz/scripted.h"
#include "net/websocket.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- frames of the peer ------------------------------------------------------------------------ */

/* A frame with the mask 01 02 03 04. @return its length. */
static size_t
frame(uint8_t *out, unsigned first, const void *payload, size_t len)
{
	static const uint8_t mask[4] = { 1, 2, 3, 4 };
	uint8_t *p = out;

	*p++ = (uint8_t)first;
	if (len < 126) {
		*p++ = (uint8_t)(0x80 | len);
	} else if (len < 65536) {
		*p++ = 0x80 | 126;
		*p++ = (uint8_t)(len >> 8);
		*p++ = (uint8_t)len;
	} else {
		*p++ = 0x80 | 127;
		for (int shift = 56; shift >= 0; shift -= 8)
			*p++ = (uint8_t)((uint64_t)len >> shift);
	}
	memcpy(p, mask, 4);
	p += 4;
	for (size_t i = 0; i < len; i++)
		*p++ = ((const uint8_t *)payload)[i] ^ mask[i % 4];
	return (size_t)(p - out);
}

#define FIN    0x80u
#define BINARY 2u
#define TEXT   1u
#define MORE   0u
#define CLOSE  (FIN | 8u)
#define PING   (FIN | 9u)
#define PONG   (FIN | 10u)
struct part {
	unsigned first; /* byte of the header; 0 with no text: the end of the list */
	const char *payload;
	unsigned len; /* 0: of the string */
};
static const struct {
	struct part parts[5];
	const char *payload; /* what comes out, */
	const char *said;    /* and what we say, as raw bytes */
	unsigned said_len;
	const char *why; /* of the error; NULL: it ends well */
} frame_cases[] = {
	{ { { FIN | BINARY, "hello", 0 } }, "hello", "", 0, NULL },
	{ { { FIN | BINARY, "", 0 }, { FIN | BINARY, "x", 0 } }, "x", "", 0, NULL },
	{ { { BINARY, "he", 0 }, { MORE, "l", 0 }, { FIN | MORE, "lo", 0 } }, "hello", "", 0,
	    NULL },
	{ { { BINARY, "", 0 }, { MORE, "", 0 }, { FIN | MORE, "", 0 } }, "", "", 0, NULL },
	{ { { FIN | BINARY, "a", 0 }, { FIN | BINARY, "b", 0 } }, "ab", "", 0, NULL },
	{ { { BINARY, "a", 0 }, { PING, "p", 0 }, { FIN | MORE, "b", 0 } }, "ab", "\x8a\1p", 3,
	    NULL },
	{ { { PING, "", 0 } }, "", "\x8a\0", 2, NULL },
	{ { { PONG, "nobody asked", 0 }, { FIN | BINARY, "b", 0 } }, "b", "", 0, NULL },
	{ { { CLOSE, "", 0 } }, "", "\x88\0", 2, NULL },
	{ { { CLOSE, "\x03\xe8", 0 } }, "", "\x88\2\x03\xe8", 4, NULL },
	{ { { CLOSE, "\x03\xe8 bye", 0 } }, "", "\x88\2\x03\xe8", 4, NULL },
	{ { { CLOSE, "\x0b\xb8", 0 } }, "", "\x88\2\x0b\xb8", 4, NULL },
	{ { { FIN | BINARY, "a", 0 }, { CLOSE, "\x03\xe9", 0 }, { FIN | BINARY, "b", 0 } }, "a",
	    "\x88\2\x03\xe9", 4, NULL },
	{ { { BINARY, "a", 0 }, { CLOSE, "\x03\xe8", 0 } }, "a", "\x88\2\x03\xe8", 4, NULL },

	{ { { CLOSE, "x", 0 } }, "", "\x88\2\x03\xea", 4, "half a code" },
	{ { { CLOSE, "\0\0", 2 } }, "", "\x88\2\x03\xea", 4, "a code" },
	{ { { CLOSE, "\x03\xe7", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 999 */
	{ { { CLOSE, "\x03\xec", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 1004 */
	{ { { CLOSE, "\x03\xed", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 1005 */
	{ { { CLOSE, "\x03\xee", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 1006 */
	{ { { CLOSE, "\x03\xf7", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 1015 */
	{ { { CLOSE, "\x07\xd0", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 2000 */
	{ { { CLOSE, "\x13\x88", 0 } }, "", "\x88\2\x03\xea", 4, "a code" },        /* 5000 */
	{ { { CLOSE, "\x03\xe8\xc3\x28", 0 } }, "", "\x88\2\x03\xef", 4, "UTF-8" }, /* 1007 */
	{ { { CLOSE, "\x03\xe8\xed\xa0\x80", 0 } }, "", "\x88\2\x03\xef", 4, "UTF-8" },
	{ { { FIN | TEXT, "hello", 0 } }, "", "\x88\2\x03\xeb", 4, "a text frame" },
	{ { { TEXT, "he", 0 } }, "", "\x88\2\x03\xeb", 4, "a text frame" },
	{ { { FIN | MORE, "x", 0 } }, "", "\x88\2\x03\xea", 4, "continuation" },
	{ { { BINARY, "a", 0 }, { FIN | MORE, "b", 0 }, { MORE, "c", 0 } }, "ab", "\x88\2\x03\xea",
	    4, "continuation" },
	{ { { BINARY, "a", 0 }, { BINARY, "b", 0 } }, "a", "\x88\2\x03\xea", 4, "a new message" },
	{ { { BINARY, "a", 0 }, { FIN | TEXT, "b", 0 } }, "a", "\x88\2\x03\xea", 4,
	    "a new message" },
	{ { { FIN | 3u, "a", 0 } }, "", "\x88\2\x03\xea", 4, "unknown kind" },
	{ { { FIN | 7u, "a", 0 } }, "", "\x88\2\x03\xea", 4, "unknown kind" },
	{ { { FIN | 11u, "a", 0 } }, "", "\x88\2\x03\xea", 4, "unknown control" },
	{ { { FIN | 15u, "a", 0 } }, "", "\x88\2\x03\xea", 4, "unknown control" },
	{ { { FIN | 0x40u | BINARY, "a", 0 } }, "", "\x88\2\x03\xea", 4, "reserved bit" },
	{ { { FIN | 0x20u | BINARY, "a", 0 } }, "", "\x88\2\x03\xea", 4, "reserved bit" },
	{ { { FIN | 0x10u | BINARY, "a", 0 } }, "", "\x88\2\x03\xea", 4, "reserved bit" },
	{ { { 9u, "a", 0 } }, "", "\x88\2\x03\xea", 4, "in fragments" }, /* a Ping without FIN */
};

struct read_all {
	uint8_t bytes[4096];
	size_t len;
	int err;   /* of the end; 0: the peer's end */
	bool more; /* EAGAIN: it has not ended */
};

/* As a connection does: on EAGAIN it waits for the descriptor, or comes back at once for what is pending. */
static void
read_on(struct stream *s, struct scripted *t, size_t len, struct read_all *all)
{
	all->err = 0;
	all->more = false;
	for (;;) {
		uint8_t buf[1024];
		ssize_t n = stream_read(s, buf, len < sizeof(buf) ? len : sizeof(buf));

		if (n > 0) {
			ck_assert_uint_le(all->len + (size_t)n, sizeof(all->bytes));
			memcpy(all->bytes + all->len, buf, (size_t)n);
			all->len += (size_t)n;
			continue;
		}
		if (n == 0)
			return;
		if (errno != EAGAIN) {
			all->err = errno;
			return;
		}
		if (t->in_len == 0 && !stream_pending(s)) {
			all->more = true;
			return;
		}
	}
}

static struct websocket_layer *
layer_of(const struct stream *s)
{
	return s->layer;
}

START_TEST(frames_become_bytes)
{
	uint8_t wire[256];
	size_t len = 0;

	for (const struct part *p = frame_cases[_i].parts; p->payload != NULL; p++)
		len += frame(
		    wire + len, p->first, p->payload, p->len > 0 ? p->len : strlen(p->payload));
	for (size_t portion = 1; portion <= len; portion++) {
		for (size_t early = 0; early <= len; early += early == 0 ? 1 : len - 1) {
			struct scripted t = { .in = wire + early,
				.in_len = len - early,
				.portion = portion,
				.room = SIZE_MAX };
			struct read_all all = { 0 };
			struct stream s;

			scripted_stream(&s, &t);
			ck_assert(websocket_stream_begin(&s, wire, early));
			read_on(&s, &t, sizeof(all.bytes), &all);
			ck_assert_uint_eq(all.len, strlen(frame_cases[_i].payload));
			ck_assert_mem_eq(all.bytes, frame_cases[_i].payload, all.len);
			ck_assert_uint_eq(t.out_len, frame_cases[_i].said_len);
			if (t.out_len > 0)
				ck_assert_mem_eq(t.out, frame_cases[_i].said, t.out_len);
			if (frame_cases[_i].why != NULL) {
				ck_assert_int_eq(all.err, EPROTO);
				ck_assert_ptr_nonnull(
				    strstr(stream_error(&s), frame_cases[_i].why));
			} else {
				ck_assert_int_eq(all.err, 0);
				ck_assert_int_eq(all.more, t.out_len == 0 || (t.out[0] & 0xf) != 8);
			}
			/* Nothing is held between frames. */
			ck_assert_ptr_null(layer_of(&s)->in);
			ck_assert_ptr_null(layer_of(&s)->control);
			ck_assert_ptr_null(layer_of(&s)->early);
			stream_close(&s);
			ck_assert(t.was_closed);
			scripted_free(&t);
			if (len == 1)
				break;
		}
	}
}
END_TEST

static const struct {
	uint8_t wire[16];
	unsigned len;
	const char *said, *why;
} raw_cases[] = {
	{ { 0x82, 1, 'x' }, 3, "\x88\2\x03\xea", "without mask" },
	{ { 0x82, 0 }, 2, "\x88\2\x03\xea", "without mask" },
	{ { 0x89, 0xfe }, 2, "\x88\2\x03\xea", "125" }, /* a Ping of more */
	{ { 0x88, 0xff }, 2, "\x88\2\x03\xea", "125" },
	{ { 0x82, 0xfe, 0, 125 }, 4, "\x88\2\x03\xea", "shortest" },
	{ { 0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff }, 10, "\x88\2\x03\xea", "shortest" },
	{ { 0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0 }, 10, "\x88\2\x03\xea", "length" },
	{ { 0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5 }, 15,
	    "\x88\2\x03\xf1", "larger" }, /* 1009 */
	{ { 0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 5, 1, 2, 3, 4, 5 }, 15, "\x88\2\x03\xf1",
	    "larger" }, /* one byte too many */
};
START_TEST(bad_header_is_refused)
{
	for (size_t portion = 1; portion <= raw_cases[_i].len; portion++) {
		struct scripted t = { .in = raw_cases[_i].wire,
			.in_len = raw_cases[_i].len,
			.portion = portion,
			.room = SIZE_MAX };
		struct read_all all = { 0 };
		struct stream s;

		scripted_stream(&s, &t);
		ck_assert(websocket_stream_begin(&s, NULL, 0));
		read_on(&s, &t, sizeof(all.bytes), &all);
		ck_assert_int_eq(all.err, EPROTO);
		ck_assert_uint_eq(all.len, 0);
		ck_assert_ptr_nonnull(strstr(stream_error(&s), raw_cases[_i].why));
		ck_assert_uint_eq(t.out_len, 4);
		ck_assert_mem_eq(t.out, raw_cases[_i].said, 4);
		stream_close(&s);
		scripted_free(&t);
	}
}
END_TEST

START_TEST(largest_frame_is_begun)
{
	static const uint8_t wire[] = { 0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 4, 0, 0, 0, 0, 'x' };
	struct scripted t = { .in = wire, .in_len = sizeof(wire), .room = SIZE_MAX };
	struct read_all all = { 0 };
	struct stream s;

	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	read_on(&s, &t, sizeof(all.bytes), &all);
	ck_assert(all.more);
	ck_assert_uint_eq(all.len, 1);
	ck_assert_ptr_nonnull(layer_of(&s)->in); /* lent while it is half read */
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

/* What the peer sends after it broke the protocol is thrown away, until it goes. */
START_TEST(nothing_is_read_after_an_error)
{
	uint8_t wire[64];
	size_t len = frame(wire, FIN | TEXT, "no", 2);
	struct scripted t = { .in = wire, .room = SIZE_MAX };
	struct read_all all = { 0 };
	struct stream s;

	len += frame(wire + len, FIN | BINARY, "data", 4);
	t.in_len = len;
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	read_on(&s, &t, sizeof(all.bytes), &all);
	ck_assert_int_eq(all.err, EPROTO);
	t.in = wire;
	t.in_len = len;
	read_on(&s, &t, sizeof(all.bytes), &all);
	ck_assert(all.more);
	ck_assert_uint_eq(all.len, 0);
	t.eof = true;
	ck_assert_int_eq(stream_read(&s, wire, sizeof(wire)), 0);
	ck_assert_uint_eq(t.out_len, 4);
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

START_TEST(a_read_below_is_enough_for_a_read)
{
	uint8_t wire[64], buf[64];
	size_t len = frame(wire, FIN | BINARY, "a", 1);
	struct scripted t = { .in = wire, .room = SIZE_MAX, .pending = true };
	struct stream s;

	len += frame(wire + len, FIN | BINARY, "b", 1);
	len += frame(wire + len, CLOSE, "", 0);
	t.in_len = len;
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert(stream_pending(&s)); /* what is below has more */
	t.pending = false;
	ck_assert(!stream_pending(&s));
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), 2);
	ck_assert_mem_eq(buf, "ab", 2);
	ck_assert_uint_eq(t.reads, 1);
	ck_assert(stream_pending(&s)); /* the end is yet to be told */
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), 0);
	ck_assert_uint_eq(t.reads, 1);
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

/* ---- our frames -------------------------------------------------------------------------------- */

enum { CONTROLS = 64 };

/* Take our frames apart. @return bytes of binary payload; controls: opcodes and contents as text. */
static size_t
unwrap(const struct scripted *t, uint8_t *out, char controls[CONTROLS])
{
	size_t got = 0, used = 0;

	for (size_t at = 0; at < t->out_len;) {
		const uint8_t *p = t->out + at;
		size_t len = p[1], head = 2;

		ck_assert_uint_ge(t->out_len - at, 2);
		ck_assert_uint_eq(p[0] & 0xf0u, 0x80u);
		ck_assert_uint_eq(p[1] & 0x80u, 0);
		if (len == 126) {
			len = (size_t)p[2] << 8 | p[3];
			head = 4;
		} else if (len == 127) {
			len = (size_t)p[6] << 24 | (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
			head = 10;
		}
		ck_assert_uint_le(at + head + len, t->out_len);
		if ((p[0] & 0xf) == 2) {
			ck_assert_uint_gt(len, 0);
			memcpy(out + got, p + head, len);
			got += len;
		} else {
			int n = snprintf(controls + used, CONTROLS - used, "%x:%.*s ", p[0] & 0xfu,
			    (p[0] & 0xf) == 8 ? 0 : (int)len, (const char *)p + head);

			ck_assert_int_gt(n, 0);
			used += (size_t)n;
			ck_assert_uint_lt(used, CONTROLS);
		}
		at += head + len;
	}
	return got;
}

/* Write all, as a connection does, with so much room at a time. */
static void
write_all(
    struct stream *s, struct scripted *t, uint8_t *data, size_t len, size_t piece, size_t room)
{
	size_t off = 0;

	while (off < len) {
		struct iovec iov[64];
		int n = 0;
		ssize_t w;

		for (size_t at = off; at < len && n < 64; n++) {
			size_t part = len - at < piece ? len - at : piece;

			iov[n] = (struct iovec){ data + at, part };
			at += part;
		}
		t->room = room;
		w = stream_writev(s, iov, n);
		if (w < 0)
			ck_assert_int_eq(errno, EAGAIN);
		else
			off += (size_t)w;
		ck_assert_int_ne(w, 0);
	}
}

START_TEST(bytes_become_frames_whatever_fits)
{
	static const size_t sizes[] = { 1, 125, 126, 300, 1000 };
	static uint8_t data[1000], back[1000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t room = 1; room < 20; room++) {
		for (size_t piece = 1; piece < 200; piece += 33) {
			struct scripted t = { .in = NULL };
			char controls[CONTROLS] = "";
			struct stream s;

			scripted_stream(&s, &t);
			ck_assert(websocket_stream_begin(&s, NULL, 0));
			write_all(&s, &t, data, sizes[_i], piece, room);
			ck_assert(websocket_at_border(layer_of(&s)));
			ck_assert_uint_eq(unwrap(&t, back, controls), sizes[_i]);
			ck_assert_mem_eq(back, data, sizes[_i]);
			ck_assert_str_eq(controls, "");
			stream_close(&s);
			scripted_free(&t);
		}
	}
}
END_TEST

START_TEST(one_writev_below_for_one_above)
{
	static uint8_t data[600000], back[600000];
	struct iovec iov[3] = { { data, 10 }, { data + 10, 0 }, { data + 10, 1000 } };
	struct scripted t = { .room = SIZE_MAX };
	char controls[CONTROLS] = "";
	struct stream s;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i >> 8);
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert_int_eq(stream_writev(&s, iov, 3), 1010);
	ck_assert_uint_eq(t.writes, 1);
	ck_assert_uint_eq(t.out_len, 4 + 1010);
	iov[0] = (struct iovec){ data + 1010, sizeof(data) - 1010 };
	ck_assert_int_eq(stream_writev(&s, iov, 1), sizeof(data) - 1010);
	ck_assert_uint_eq(t.writes, 1 + 3); /* frames of at most WEBSOCKET_FRAME_OUT_MAX */
	ck_assert_uint_eq(unwrap(&t, back, controls), sizeof(data));
	ck_assert_mem_eq(back, data, sizeof(data));
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

/* A Pong waits for the end of a frame, and only the newest waits. */
START_TEST(pong_leaves_between_frames)
{
	uint8_t wire[64], buf[64], data[100], back[200];
	struct iovec iov = { data, sizeof(data) };
	struct scripted t = { .room = 50 };
	char controls[CONTROLS] = "";
	struct stream s;

	memset(data, 'd', sizeof(data));
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 48);
	t.in = wire;
	t.in_len = frame(wire, PING, "one", 3);
	t.in_len += frame(wire + t.in_len, PING, "two", 3);
	t.room = SIZE_MAX;
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_uint_eq(t.out_len, 50);
	ck_assert_int_eq(stream_flush(&s), 0); /* no use: writev must go on first */
	ck_assert_uint_eq(t.out_len, 50);
	iov = (struct iovec){ data + 48, 52 };
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 52);
	ck_assert_uint_eq(unwrap(&t, back, controls), 100);
	ck_assert_str_eq(controls, "a:two ");
	ck_assert_ptr_null(layer_of(&s)->control);
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

/* Between frames it leaves at once, or asks to be called when there is room; a writev takes it along. */
START_TEST(pong_waits_for_room)
{
	uint8_t wire[64], buf[64], back[64], data[3] = "abc";
	struct iovec iov = { data, 3 };
	struct scripted t = { .in = wire, .room = 2 };
	char controls[CONTROLS] = "";
	struct stream s;

	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	t.in_len = frame(wire, PING, "one", 3);
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), -1);
	ck_assert(s.want_write);
	s.want_write = false;
	ck_assert_int_eq(stream_flush(&s), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert(s.want_write);
	t.in = wire;
	t.in_len = frame(wire, PING, "two", 3); /* may not change the one under way */
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), -1);
	t.in = wire;
	t.in_len = frame(wire, PING, "three", 5);
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), -1);
	t.room = SIZE_MAX;
	t.writes = 0;
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 3);
	ck_assert_uint_eq(unwrap(&t, back, controls), 3);
	ck_assert_str_eq(controls, "a:one a:three ");
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

START_TEST(many_pings_in_one_read_are_bounded)
{
	static uint8_t wire[6 * 1000];
	static uint8_t buf[sizeof(wire)];
	struct scripted t = { .in = wire, .room = SIZE_MAX };
	struct stream s;

	for (unsigned i = 0; i < 1000; i++)
		t.in_len += frame(wire + t.in_len, PING, "", 0);
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), -1);
	ck_assert_uint_eq(t.reads, 1);
	ck_assert_uint_eq(t.writes, 17);
	ck_assert_uint_eq(t.out_len, 17 * 2);
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

START_TEST(nothing_follows_close)
{
	uint8_t wire[64], buf[64], data[100] = { 0 };
	struct iovec iov = { data, sizeof(data) };
	struct scripted t = { .room = 50 };
	struct stream s;

	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 48);
	t.in = wire;
	t.in_len = frame(wire, CLOSE, "\x03\xe8", 2);
	t.in_len += frame(wire + t.in_len, PING, "late", 4);
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), 0);
	t.room = SIZE_MAX;
	/* The frame is finished, Close follows it, and the rest goes nowhere. */
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 100);
	ck_assert_uint_eq(t.out_len, 102 + 4);
	ck_assert_mem_eq(t.out + 102, "\x88\2\x03\xe8", 4);
	ck_assert_int_eq(stream_writev(&s, &iov, 1), 100);
	stream_shut(&s);
	ck_assert(t.was_shut);
	ck_assert_uint_eq(t.out_len, 102 + 4);
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

START_TEST(shut_says_close_once)
{
	uint8_t wire[16], buf[16];
	struct scripted t = { .in = wire, .room = SIZE_MAX };
	struct stream s;

	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	stream_shut(&s);
	ck_assert_uint_eq(t.out_len, 4);
	ck_assert_mem_eq(t.out, "\x88\2\x03\xe8", 4);
	t.in_len = frame(wire, CLOSE, "\x03\xe8", 2);
	ck_assert_int_eq(stream_read(&s, buf, sizeof(buf)), 0);
	stream_close(&s);
	ck_assert_uint_eq(t.out_len, 4);
	scripted_free(&t);

	/* closed without a word: going away */
	t = (struct scripted){ .room = SIZE_MAX };
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	stream_close(&s);
	ck_assert_uint_eq(t.out_len, 4);
	ck_assert_mem_eq(t.out, "\x88\2\x03\xe9", 4);
	scripted_free(&t);

	/* in the middle of a frame nothing can be said */
	t = (struct scripted){ .room = 5 };
	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	ck_assert_int_eq(stream_writev(&s, &(struct iovec){ buf, 16 }, 1), 3);
	t.room = SIZE_MAX;
	stream_close(&s);
	ck_assert_uint_eq(t.out_len, 5);
	scripted_free(&t);
}
END_TEST

START_TEST(layers_are_described)
{
	struct scripted t = { .room = SIZE_MAX };
	char text[64] = "?";
	struct stream s;

	scripted_stream(&s, &t);
	ck_assert(websocket_stream_begin(&s, NULL, 0));
	s.ops->describe(&s, text, sizeof(text));
	ck_assert_str_eq(text, "websocket");
	stream_close(&s);
	scripted_free(&t);
}
END_TEST

#define ROWS(array) (int)(sizeof(array) / sizeof(*(array)))

int
main(void)
{
	Suite *s = suite_create("websocket_stream");
	TCase *t = tcase_create("websocket_stream");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, frames_become_bytes, 0, ROWS(frame_cases));
	tcase_add_loop_test(t, bad_header_is_refused, 0, ROWS(raw_cases));
	tcase_add_test(t, largest_frame_is_begun);
	tcase_add_test(t, nothing_is_read_after_an_error);
	tcase_add_test(t, a_read_below_is_enough_for_a_read);
	tcase_add_loop_test(t, bytes_become_frames_whatever_fits, 0, 5);
	tcase_add_test(t, one_writev_below_for_one_above);
	tcase_add_test(t, pong_leaves_between_frames);
	tcase_add_test(t, pong_waits_for_room);
	tcase_add_test(t, many_pings_in_one_read_are_bounded);
	tcase_add_test(t, nothing_follows_close);
	tcase_add_test(t, shut_says_close_once);
	tcase_add_test(t, layers_are_described);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
