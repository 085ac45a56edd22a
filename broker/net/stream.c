/* SPDX-License-Identifier: Apache-2.0 */
#include "net/stream.h"
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static ssize_t
plain_peek(struct stream *s, void *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(s->fd, buf, len, MSG_PEEK);
	while (n < 0 && errno == EINTR);
	return n;
}

static void
plain_shut(struct stream *s)
{
	(void)shutdown(s->fd, SHUT_WR);
}

static ssize_t
plain_read(struct stream *s, void *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(s->fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	return n;
}

static ssize_t
plain_writev(struct stream *s, const struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
		.msg_iovlen = (size_t)(n < IOV_MAX ? n : IOV_MAX) };
	ssize_t written;

	if (n == 1) { /* less work for the kernel than a message header */
		do
			written = send(s->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
		while (written < 0 && errno == EINTR);
		return written;
	}
	do
		written = sendmsg(s->fd, &msg, MSG_NOSIGNAL);
	while (written < 0 && errno == EINTR);
	return written;
}

static void
plain_close(struct stream *s)
{
	if (s->fd >= 0)
		(void)close(s->fd);
	s->fd = -1;
}

const struct stream_ops stream_plain_ops = {
	.name = "plain",
	.read = plain_read,
	.writev = plain_writev,
	.peek = plain_peek,
	.shut = plain_shut,
	.close = plain_close,
};

/* ---- counted ----------------------------------------------------------------------------------- */

struct stream_count {
	_Atomic uint32_t refs; /* one for each stream, and one */
};

struct stream_count *
stream_count_new(void)
{
	struct stream_count *n = malloc(sizeof(*n));

	if (n != NULL)
		atomic_init(&n->refs, 1);
	return n;
}

void
stream_count_unref(struct stream_count *n)
{
	if (n != NULL && atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) == 1)
		free(n);
}

uint32_t
stream_count_open(const struct stream_count *n)
{
	return atomic_load_explicit(&n->refs, memory_order_acquire) - 1;
}

static bool
counted_pending(const struct stream *s)
{
	(void)s;
	return false;
}

static void
counted_close(struct stream *s)
{
	plain_close(s);
	stream_count_unref(s->layer);
	s->layer = NULL;
}

static const struct stream_ops stream_counted_ops = {
	.name = "counted",
	.read = plain_read,
	.writev = plain_writev,
	.peek = plain_peek,
	.pending = counted_pending,
	.shut = plain_shut,
	.close = counted_close,
};

void
stream_init_counted(struct stream *s, int fd, struct stream_count *n)
{
	atomic_fetch_add_explicit(&n->refs, 1, memory_order_relaxed);
	*s = (struct stream){ .ops = &stream_counted_ops, .layer = n, .fd = fd };
}
