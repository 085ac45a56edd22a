/* SPDX-License-Identifier: Apache-2.0 */
#include "scripted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
must(bool condition)
{
	if (!condition)
		abort();
}

static void *
must_realloc(void *p, size_t size)
{
	must((p = realloc(p, size)) != NULL);
	return p;
}

static ssize_t
scripted_read(struct stream *s, void *buf, size_t len)
{
	struct scripted *t = s->layer;

	t->reads++;
	if (t->in_len == 0 && t->eof)
		return 0;
	if (len > t->in_len)
		len = t->in_len;
	if (t->portion != 0 && len > t->portion)
		len = t->portion;
	if (len == 0) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(buf, t->in, len);
	t->in += len;
	t->in_len -= len;
	return (ssize_t)len;
}

static ssize_t
scripted_peek(struct stream *s, void *buf, size_t len)
{
	struct scripted *t = s->layer, before = *t;
	ssize_t n = scripted_read(s, buf, len);

	*t = before;
	return n;
}

static ssize_t
scripted_writev(struct stream *s, const struct iovec *iov, int n)
{
	struct scripted *t = s->layer;
	uint8_t *all = NULL;
	size_t len = 0, taken;

	t->writes++;
	must(!t->was_shut && !t->was_closed);
	for (int i = 0; i < n; i++) {
		must(iov[i].iov_len > 0); /* wasted on the kernel */
		all = must_realloc(all, len + iov[i].iov_len);
		memcpy(all + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	must(len > 0);
	must(len >= t->refused_len &&
	    (t->refused_len == 0 || memcmp(all, t->refused, t->refused_len) == 0));
	taken = len < t->room ? len : t->room;
	t->out = must_realloc(t->out, t->out_len + taken + 1);
	memcpy(t->out + t->out_len, all, taken);
	t->out_len += taken;
	if (t->room != SIZE_MAX)
		t->room -= taken;
	free(t->refused);
	t->refused = NULL;
	t->refused_len = len - taken;
	if (taken < len) {
		t->refused = must_realloc(NULL, len - taken);
		memcpy(t->refused, all + taken, len - taken);
	}
	free(all);
	if (taken == 0) {
		errno = EAGAIN;
		return -1;
	}
	return (ssize_t)taken;
}

static bool
scripted_pending(const struct stream *s)
{
	const struct scripted *t = s->layer;

	return t->pending;
}

static void
scripted_shut(struct stream *s)
{
	((struct scripted *)s->layer)->was_shut = true;
}

static void
scripted_close(struct stream *s)
{
	((struct scripted *)s->layer)->was_closed = true;
	s->fd = -1;
}

static const struct stream_ops scripted_ops = {
	.name = "scripted",
	.read = scripted_read,
	.writev = scripted_writev,
	.peek = scripted_peek,
	.pending = scripted_pending,
	.shut = scripted_shut,
	.close = scripted_close,
};

void
scripted_stream(struct stream *s, struct scripted *script)
{
	*s = (struct stream){ .ops = &scripted_ops, .layer = script, .fd = 0 };
}

void
scripted_free(struct scripted *script)
{
	free(script->out);
	free(script->refused);
	script->out = script->refused = NULL;
}
