/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream - bytes to and from a peer, whatever carries them
 *
 * TCP and Unix sockets are the plain kind: no state but the descriptor, so a struct stream is embedded in its
 * connection and costs no allocation. Layers (tls, websocket) put themselves on top: they keep the stream that was there
 * in a state of their own, and take its place. All work on the same descriptor.
 *
 * A layer may have decoded more than was read (`pending`), and may need the descriptor to become writable for
 * reasons of its own (`want_write`: a KeyUpdate, a Pong): the connection then calls `flush` once it is.
 *
 * Threads: the owner of the connection, which may change between calls. Never blocks.
 */
#ifndef BROKER_NET_STREAM_H
#define BROKER_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct stream;
struct stream_ops {
	const char *name; /* "plain" */
	/* > 0: bytes; 0: the peer will send no more; -1: errno, EAGAIN when there is nothing now. */
	ssize_t (*read)(struct stream *s, void *buf, size_t len);
	/*
	 * How many bytes went out, from the front; -1: errno, EAGAIN when nothing fits now. Never raises SIGPIPE. What was not
	 * taken is offered again, perhaps with more behind it.
	 */
	ssize_t (*writev)(struct stream *s, const struct iovec *iov, int n);
	/* The next bytes without taking them; as read. Before the first read only. NULL: no step comes after this layer. */
	ssize_t (*peek)(struct stream *s, void *buf, size_t len);
	bool (*pending)(const struct stream *s); /* read would give something, whatever the descriptor says */
	/* What the layer itself has to say. -1: errno, EAGAIN leaves want_write set. NULL: never anything. */
	int (*flush)(struct stream *s);
	void (*shut)(struct stream *s);	 /* the peer gets to know that nothing more comes; reading goes on */
	void (*close)(struct stream *s); /* also what is below; fd is -1 then */
	void (*describe)(const struct stream *s, char *out, size_t size); /* "TLSv1.3 TLS_AES_..., websocket"; behind what is in out. NULL: nothing */
	const char *(*error)(const struct stream *s); /* what read or writev failed for, for the log. NULL: nothing to add */
};
struct stream {
	const struct stream_ops *ops;
	void *layer; /* state of a layer; NULL: plain */
	int fd;	     /* to watch; -1: closed */
	bool want_write;
};

extern const struct stream_ops stream_plain_ops;

/* The plain kind, with somebody who wants to know how many there are. Any thread. */
struct stream_count;
struct stream_count *stream_count_new(void); /* one reference; NULL: no memory */
void stream_count_unref(struct stream_count *n); /* NULL is fine */
uint32_t stream_count_open(const struct stream_count *n);
void stream_init_counted(struct stream *s, int fd, struct stream_count *n);

static inline void
stream_init_plain(struct stream *s, int fd)
{
	*s = (struct stream){ .ops = &stream_plain_ops, .fd = fd };
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
static inline ssize_t
stream_peek(struct stream *s, void *buf, size_t len)
{
	return s->ops->peek(s, buf, len);
}
static inline bool
stream_pending(const struct stream *s)
{
	return s->layer != NULL && s->ops->pending(s);
}
static inline int
stream_flush(struct stream *s)
{
	return s->ops->flush != NULL ? s->ops->flush(s) : 0;
}
static inline const char *
stream_error(const struct stream *s)
{
	return s->ops->error != NULL ? s->ops->error(s) : "connection lost";
}
static inline void
stream_shut(struct stream *s)
{
	s->ops->shut(s);
}
static inline void
stream_close(struct stream *s)
{
	if (s->ops != NULL)
		s->ops->close(s);
}

#endif
