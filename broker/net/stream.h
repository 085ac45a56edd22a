/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream - bytes to and from a peer, whatever carries them
 *
 * TCP and Unix sockets are the plain kind: no state but the descriptor, so a struct stream is embedded in its
 * connection and costs no allocation. A kind with state of its own embeds a struct stream at its start.
 *
 * Threads: the owner of the connection. Never blocks.
 */
#ifndef BROKER_NET_STREAM_H
#define BROKER_NET_STREAM_H

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct stream;
struct stream_ops {
	const char *name; /* "plain" */
	/* > 0: bytes; 0: the peer will send no more; -1: errno, EAGAIN when there is nothing now. */
	ssize_t (*read)(struct stream *s, void *buf, size_t len);
	/* How many bytes went out, from the front; -1: errno, EAGAIN when nothing fits now. Never raises SIGPIPE. */
	ssize_t (*writev)(struct stream *s, const struct iovec *iov, int n);
	void (*close)(struct stream *s); /* also what is behind it; fd is -1 then */
};
struct stream {
	const struct stream_ops *ops;
	int fd; /* to watch; -1: closed */
};

extern const struct stream_ops stream_plain_ops;

static inline void
stream_init_plain(struct stream *s, int fd)
{
	s->ops = &stream_plain_ops;
	s->fd = fd;
}
static inline ssize_t
stream_read(struct stream *s, void *buf, size_t len)
{
	return s->ops->read(s, buf, len);
}
static inline ssize_t
stream_writev(struct stream *s, const struct iovec *iov, int n)
{
	return s->ops->writev(s, iov, n);
}
static inline void
stream_close(struct stream *s)
{
	if (s->ops != NULL)
		s->ops->close(s);
}

#endif
