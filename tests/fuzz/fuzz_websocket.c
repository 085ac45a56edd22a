/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as what a peer of a WebSocket sends: the request, and frames. The first three bytes say how:
 *
 *	0	bit 0: frames only, else a request first; 1: a listener with a path, origins and proxies
 *	1	how many bytes come at a time; 0: all that are asked for
 *	2	how many bytes of ours are taken at a time; 0: all
 *
 * How the bytes are cut must not matter, and what we answer must be frames.
 */
#include "config/cidr.h"
#include "net/websocket.h"
#include "scripted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void *
must_alloc(size_t size)
{
	void *p = calloc(1, size + 1);

	must(p != NULL);
	return p;
}

/* ---- the request ------------------------------------------------------------------------------- */

static struct upgrade *
ask(const struct listener_settings *ls, const uint8_t *data, size_t size, size_t portion)
{
	struct upgrade *u = must_alloc(sizeof(*u));

	upgrade_init(u, ls, ls->websocket_path != NULL);
	while (size > 0 && u->status == UPGRADE_MORE) {
		size_t n = size < portion ? size : portion;

		must(u->len < sizeof(u->head));
		if (n > sizeof(u->head) - u->len)
			n = sizeof(u->head) - u->len;
		memcpy(u->head + u->len, data, n);
		(void)upgrade_parse(u, n);
		data += n;
		size -= n;
	}
	return u;
}

/* @return how many bytes it was; 0: not accepted. */
static size_t
request(bool strict, const uint8_t *data, size_t size, size_t portion)
{
	char path[] = "/mqtt", origin[] = "https://a.example", network[] = "10.0.0.0/8", why[64];
	char *origins = origin, *networks = network;
	struct cidr trusted;
	struct listener_settings ls = { .websocket = WEBSOCKET_YES };
	struct upgrade *all, *cut;
	size_t used = 0;

	must(cidr_parse(network, &trusted, why, sizeof(why)));
	if (strict) {
		ls.websocket_path = path;
		ls.websocket_origins = (struct string_list){ &origins, 1 };
		ls.trusted_proxies = (struct string_list){ &networks, 1 };
		ls.trusted = &trusted;
	}
	all = ask(&ls, data, size, sizeof(all->head));
	cut = ask(&ls, data, size, portion);
	must(all->status == cut->status);
	must(all->answer_len < sizeof(all->answer) && cut->answer_len < sizeof(cut->answer));
	/* Of several faults the first that is noticed is told, which depends on the cut. */
	must(all->status == UPGRADE_REFUSED ||
	    (all->answer_len == cut->answer_len &&
		memcmp(all->answer, cut->answer, all->answer_len) == 0));
	must((all->status == UPGRADE_MORE) == (all->answer_len == 0));
	if (all->status == UPGRADE_ACCEPTED) {
		used = all->used;
		must(used == cut->used && used <= all->len);
		must(all->forwarded_len == cut->forwarded_len);
		must(memcmp(&all->forwarded, &cut->forwarded, all->forwarded_len) == 0);
		must(strict || all->forwarded_len == 0);
	}
	free(all);
	free(cut);
	return used;
}

/* ---- frames ------------------------------------------------------------------------------------ */

struct result {
	uint8_t *payload, *out;
	size_t len, out_len, said; /* said: bytes of ours that were taken */
	int err;                   /* of the end; 0: no more; EAGAIN: not over */
	const char *why;
};

/* What we have to say is a running count; what was not taken is offered again, with more behind it. */
static void
speak(struct stream *s, struct result *r, size_t owed)
{
	uint8_t *mine = must_alloc(owed - r->said);
	ssize_t n;

	for (size_t i = 0; i < owed - r->said; i++)
		mine[i] = (uint8_t)(r->said + i);
	n = stream_writev(s, &(struct iovec){ mine, owed - r->said }, 1);
	must(n != 0 && n <= (ssize_t)(owed - r->said));
	if (n > 0)
		r->said += (size_t)n;
	free(mine);
}

static struct result
run(const uint8_t *data, size_t size, size_t portion, size_t room)
{
	struct result r = { .payload = must_alloc(size) };
	uint8_t *wire = must_alloc(size);
	struct scripted t = { .in = wire, .in_len = size, .portion = portion };
	size_t early = size / 3, owed = 0, len = portion != 0 ? portion : size + 1;
	struct stream s;

	memcpy(wire, data, size);
	t.in += early;
	t.in_len -= early;
	scripted_stream(&s, &t);
	must(websocket_stream_begin(&s, wire, early));
	for (;;) {
		/* Exactly as much as is read, so that a byte more is noticed. */
		uint8_t *buf = must_alloc(len);
		ssize_t n;

		t.room = room == 0 ? SIZE_MAX : room;
		n = stream_read(&s, buf, len);
		if (n > 0) {
			must((size_t)n <= len && r.len + (size_t)n <= size);
			memcpy(r.payload + r.len, buf, (size_t)n);
			r.len += (size_t)n;
		}
		free(buf);
		if (n > 0) {
			if (owed - r.said < 500)
				owed += 7;
			if (owed > r.said)
				speak(&s, &r, owed);
			continue;
		}
		r.err = n == 0 ? 0 : errno;
		if (r.err != EAGAIN || (t.in_len == 0 && !stream_pending(&s)))
			break;
		if (s.want_write) {
			s.want_write = false;
			(void)stream_flush(&s);
		}
	}
	r.why = r.err == EPROTO ? stream_error(&s) : NULL;
	t.room = SIZE_MAX;
	if (r.said < owed)
		speak(&s, &r, owed);
	must(r.said == owed);
	stream_close(&s);
	r.out = t.out;
	r.out_len = t.out_len;
	t.out = NULL;
	scripted_free(&t);
	free(wire);
	return r;
}

/* Our frames are whole, unmasked, and end with Close; what is in them is what was said, up to a Close. */
static void
check_output(const struct result *r)
{
	const uint8_t *p = r->out;
	size_t left = r->out_len, said = 0;
	bool closed = false;

	while (left > 0) {
		size_t head = 2, len;

		must(!closed && left >= 2);
		must(p[0] == 0x82 || p[0] == 0x8a || p[0] == 0x88);
		closed = p[0] == 0x88;
		len = p[1];
		must(len < 128 && (len < 126 || p[0] == 0x82));
		if (len == 126) {
			must(left >= 4);
			len = (size_t)p[2] << 8 | p[3];
			head = 4;
		} else if (len == 127) {
			must(left >= 10);
			len = (size_t)p[7] << 16 | (size_t)p[8] << 8 | p[9];
			head = 10;
		}
		must(left >= head + len);
		for (size_t i = 0; p[0] == 0x82 && i < len; i++)
			must(p[head + i] == (uint8_t)(said + i));
		said += p[0] == 0x82 ? len : 0;
		p += head + len;
		left -= head + len;
	}
	must(closed);
	must(said <= r->said && (said == r->said || r->err != EAGAIN));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t portion, room, used = 0;
	struct result all, cut;

	if (size < 4 || size > 65536)
		return 0;
	portion = data[1];
	room = data[2];
	if (!(data[0] & 1) &&
	    (used = request(
		 data[0] & 2, data + 3, size - 3, portion != 0 ? portion : UPGRADE_HEAD_MAX)) == 0)
		return 0;
	data += 3 + used;
	size -= 3 + used;
	all = run(data, size, 0, 0);
	cut = run(data, size, portion, room);
	must(all.len == cut.len && memcmp(all.payload, cut.payload, all.len) == 0);
	must(all.err == cut.err);
	must(all.why == cut.why || strcmp(all.why, cut.why) == 0);
	check_output(&all);
	check_output(&cut);
	free(all.payload);
	free(all.out);
	free(cut.payload);
	free(cut.out);
	return 0;
}
