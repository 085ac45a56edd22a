/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor below OpenSSL.
 *
 * OpenSSL 3.0 fails a connection whose peer asks for a KeyUpdate while half a record of ours waits to go out: it wants to
 * answer from within SSL_read, and cannot. So it never gets to see half a record: a write is taken whole or not at all, and
 * what the socket has no room for is held here. Only one write is ever held, so this is bounded by one record,
 * or by what OpenSSL's own buffer of a handshake holds.
 */
#include "net/tls_internal.h"

#include <errno.h>
#include <openssl/bio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct tls_socket {
	int fd;
	bool ended;    /* the peer will send no more */
	uint8_t *held; /* off to len of it: encrypted, and still to be sent */
	size_t off, len;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method; /* NULL: no memory */

struct tls_socket *
tls_socket_of(const SSL *ssl)
{
	return BIO_get_data(SSL_get_rbio(ssl));
}

size_t
tls_socket_held(const struct tls_socket *s)
{
	return s->len - s->off;
}

static ssize_t
send_some(const struct tls_socket *s, const uint8_t *data, size_t len)
{
	ssize_t n;

	do
		n = send(s->fd, data, len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n;
}

int
tls_socket_flush(struct tls_socket *s)
{
	while (s->off < s->len) {
		ssize_t n = send_some(s, s->held + s->off, s->len - s->off);

		if (n < 0)
			return -1;
		s->off += (size_t)n;
	}
	free(s->held);
	s->held = NULL;
	s->off = s->len = 0;
	return 0;
}

static int
on_write(BIO *bio, const char *data, size_t len, size_t *written)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	*written = 0;
	if (tls_socket_flush(s) < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			BIO_set_retry_write(bio);
		return 0;
	}
	if ((n = send_some(s, (const uint8_t *)data, len)) < 0) {
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			return 0;
		n = 0; /* held as a whole: what OpenSSL keeps itself counts as half a record, too */
	}
	if ((size_t)n < len) {
		if ((s->held = malloc(len - (size_t)n)) == NULL)
			return 0;
		memcpy(s->held, data + n, len - (size_t)n);
		s->len = len - (size_t)n;
	}
	*written = len;
	return 1;
}

static int
on_read(BIO *bio, char *data, size_t len, size_t *got)
{
	struct tls_socket *s = BIO_get_data(bio);
	ssize_t n;

	BIO_clear_retry_flags(bio);
	*got = 0;
	do
		n = recv(s->fd, data, len, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		*got = (size_t)n;
		return 1;
	}
	if (n == 0)
		s->ended = true;
	else if (errno == EAGAIN || errno == EWOULDBLOCK)
		BIO_set_retry_read(bio);
	return 0;
}

static long
on_ctrl(BIO *bio, int command, long number, void *arg)
{
	const struct tls_socket *s = BIO_get_data(bio);

	(void)number;
	(void)arg;
	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return s->ended;
	default:
		return 0;
	}
}

static int
on_destroy(BIO *bio)
{
	struct tls_socket *s = BIO_get_data(bio);

	if (s != NULL)
		free(s->held);
	free(s);
	BIO_set_data(bio, NULL);
	return 1;
}

static void
method_new(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "grapnel");

	if (m != NULL && BIO_meth_set_write_ex(m, on_write) == 1 &&
	    BIO_meth_set_read_ex(m, on_read) == 1 && BIO_meth_set_ctrl(m, on_ctrl) == 1 &&
	    BIO_meth_set_destroy(m, on_destroy) == 1)
		method = m;
	else
		BIO_meth_free(m);
}

bool
tls_socket_use(SSL *ssl, int fd)
{
	struct tls_socket *s = calloc(1, sizeof(*s));
	BIO *bio;

	(void)pthread_once(&once, method_new);
	bio = method != NULL && s != NULL ? BIO_new(method) : NULL;
	if (bio == NULL) {
		free(s);
		return false;
	}
	s->fd = fd;
	BIO_set_data(bio, s);
	BIO_set_init(bio, 1);
	SSL_set_bio(ssl, bio, bio); /* one reference for both */
	return true;
}
