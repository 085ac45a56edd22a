/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls - the handshake of TLS, and the stream behind it
 *
 * Reading goes on until the caller's buffer is full or OpenSSL has nothing more, so that what a record holds never waits
 * for the descriptor. Output is gathered into whole records.
 */
#include "net/tls_internal.h"

#include "base/metrics.h"
#include "core/worker.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX       16384u
#define RECORDS_PER_READ 256u /* a byte in each, and the buffer is never full */

struct tls {
	struct stream below; /* always plain: tls_socket.c reads and writes the descriptor itself */
	SSL *ssl;
	struct tls_socket *socket; /* the SSL's */
	uint32_t
	    owed;  /* bytes of the last record that are encrypted, but not counted as written yet */
	bool more; /* the last read stopped because the buffer was full */
	bool resumed; /* an earlier session, by a ticket */
};

/* ---- the stream -------------------------------------------------------------------------------- */

/* What a call of OpenSSL that gave nothing means. @return as stream_ops.read. */
static ssize_t
nothing(struct stream *s, struct tls *t, int r)
{
	switch (SSL_get_error(t->ssl, r)) {
	case SSL_ERROR_WANT_READ:
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_WANT_WRITE:
		s->want_write = true;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		ERR_clear_error();
		errno = EPROTO;
		return -1;
	}
}

static ssize_t
read_records(struct stream *s, void *buf, size_t len)
{
	struct tls *t = s->layer;
	size_t got = 0;

	t->more = false;
	ERR_clear_error();
	for (unsigned records = 0; got < len && records < RECORDS_PER_READ; records++) {
		size_t part = len - got < INT32_MAX ? len - got : INT32_MAX;
		int n = SSL_read(t->ssl, (char *)buf + got, (int)part);

		if (n <= 0) {
			ssize_t r = nothing(s, t, n);

			if (got == 0)
				return r;
			if (r == 0 || errno != EAGAIN)
				t->more = true; /* the end is told by the next read */
			return (ssize_t)got;
		}
		got += (size_t)n;
		if (!SSL_has_pending(t->ssl)) /* the descriptor will tell of the rest */
			return (ssize_t)got;
	}
	t->more = SSL_has_pending(t->ssl);
	return (ssize_t)got;
}

static ssize_t
tls_read(struct stream *s, void *buf, size_t len)
{
	struct tls *t = s->layer;
	ssize_t n = read_records(s, buf, len);

	if (t->owed == 0 && tls_socket_held(t->socket) > 0) /* an answer to a KeyUpdate */
		s->want_write = true;
	return n;
}

static ssize_t
tls_peek(struct stream *s, void *buf, size_t len)
{
	struct tls *t = s->layer;
	int n;

	ERR_clear_error();
	n = SSL_peek(t->ssl, buf, (int)len);
	if (n <= 0)
		return nothing(s, t, n);
	t->more = true;
	return n;
}

static bool
tls_pending(const struct stream *s)
{
	return ((const struct tls *)s->layer)->more;
}

/* From position *i, *off of the vector: as much as a record holds, or as lies in one piece. */
static const void *
gather(const struct iovec *iov, int n, int *i, size_t *off, uint8_t *room, size_t *len)
{
	const uint8_t *first = (const uint8_t *)iov[*i].iov_base + *off;
	size_t have = iov[*i].iov_len - *off;

	if (have >= RECORD_MAX || *i == n - 1) {
		*len = have < RECORD_MAX ? have : RECORD_MAX;
		*off += *len;
		if (*off == iov[*i].iov_len) {
			(*i)++;
			*off = 0;
		}
		return first;
	}
	*len = 0;
	while (*i < n && *len < RECORD_MAX) {
		size_t part = iov[*i].iov_len - *off;

		if (part > RECORD_MAX - *len)
			part = RECORD_MAX - *len;
		memcpy(room + *len, (const uint8_t *)iov[*i].iov_base + *off, part);
		*len += part;
		*off += part;
		if (*off == iov[*i].iov_len) {
			(*i)++;
			*off = 0;
		}
	}
	return room;
}

/* Step over bytes at the front. @return how many there were of len. */
static size_t
skip(const struct iovec *iov, int n, int *i, size_t *off, size_t len)
{
	size_t done = 0;

	while (*i < n && done < len) {
		size_t part = iov[*i].iov_len - *off;

		if (part > len - done)
			part = len - done;
		done += part;
		*off += part;
		if (*off == iov[*i].iov_len) {
			(*i)++;
			*off = 0;
		}
	}
	return done;
}

/* What SSL_write says that took nothing. */
static ssize_t
not_written(const struct tls *t, int w)
{
	/* WANT_READ: half a KeyUpdate has come, which nobody sends who means well. */
	bool later = SSL_get_error(t->ssl, w) == SSL_ERROR_WANT_WRITE;

	ERR_clear_error();
	errno = later ? EAGAIN : EPIPE;
	return -1;
}

/*
 * A record counts as written when the last of it has left: what tls_socket.c holds is offered again by the caller and
 * stepped over then, so that nobody closes a connection in the middle of its last words.
 */
static ssize_t
tls_writev(struct stream *s, const struct iovec *iov, int n)
{
	static _Thread_local uint8_t room[RECORD_MAX];
	struct tls *t = s->layer;
	size_t written, off = 0;
	int i = 0;

	if (tls_socket_flush(t->socket) < 0)
		return -1;
	written = skip(iov, n, &i, &off, t->owed);
	t->owed -= (uint32_t)written;
	ERR_clear_error();
	while (i < n) {
		size_t len;
		const void *data = gather(iov, n, &i, &off, room, &len);
		int w = len > 0 ? SSL_write(t->ssl, data, (int)len) : 0;

		if (len > 0 && w <= 0) {
			if (written == 0)
				return not_written(t, w);
			ERR_clear_error(); /* what it is, the next call says */
			return (ssize_t)written;
		}
		if (tls_socket_held(t->socket) > 0) {
			t->owed += (uint32_t)w;
			if (written > 0)
				return (ssize_t)written;
			errno = EAGAIN;
			return -1;
		}
		written += (size_t)w;
		if ((size_t)w < len)
			return (ssize_t)written;
	}
	return (ssize_t)written;
}

static int
tls_flush(struct stream *s)
{
	struct tls *t = s->layer;

	if (tls_socket_flush(t->socket) == 0)
		return 0;
	s->want_write = errno == EAGAIN || errno == EWOULDBLOCK;
	return -1;
}

static void
tls_shut(struct stream *s)
{
	struct tls *t = s->layer;

	ERR_clear_error();
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
	stream_shut(&t->below);
}

static void
tls_close(struct stream *s)
{
	struct tls *t = s->layer;

	if (t != NULL) {
		SSL_free(t->ssl);
		stream_close(&t->below);
		free(t);
	}
	s->layer = NULL;
	s->fd = -1;
}

static void
tls_describe(const struct stream *s, char *out, size_t size)
{
	const struct tls *t = s->layer;
	size_t len = strlen(out);

	(void)snprintf(out + len, size - len, "%s %s%s", SSL_get_version(t->ssl),
	    SSL_get_cipher_name(t->ssl), t->resumed ? " resumed" : "");
}

static const struct stream_ops tls_ops = {
	.name = "tls",
	.read = tls_read,
	.writev = tls_writev,
	.peek = tls_peek,
	.pending = tls_pending,
	.flush = tls_flush,
	.shut = tls_shut,
	.close = tls_close,
	.describe = tls_describe,
};

/* ---- the handshake ----------------------------------------------------------------------------- */

struct handshake *
tls_handshake_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

static bool
tls_wanted(const struct listener_settings *ls)
{
	return ls->tls;
}

static enum handshake_status
tls_failed(struct handshake *h, SSL *ssl)
{
	long verified = SSL_get_verify_result(ssl);
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_REASON(e);
	char why[160], noted[sizeof(h->why)];

	if (h->why[0] != '\0') { /* tls_psk.c knows more than OpenSSL */
		memcpy(noted, h->why, sizeof(noted));
		ERR_clear_error();
		return handshake_fail(h, "TLS: %s", noted);
	}
	if (verified != X509_V_OK &&
	    verified != X509_V_ERR_UNSPECIFIED) /* that: a pre-shared key */
		return handshake_fail(h, "TLS: its certificate is refused: %s",
		    X509_verify_cert_error_string(verified));
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET &&
	    reason <= SSL_AD_REASON_OFFSET + UINT8_MAX) { /* an alert of its */
		ERR_clear_error();
		return handshake_fail(h, "TLS: the peer refuses: %s",
		    SSL_alert_desc_string_long(reason - SSL_AD_REASON_OFFSET));
	}
	if (e == 0 ||
	    (ERR_GET_LIB(e) == ERR_LIB_SSL && reason == SSL_R_UNEXPECTED_EOF_WHILE_READING))
		return handshake_fail(h, "TLS: the peer is gone before the handshake was done");
	return handshake_fail(h, "TLS: %s", tls_error(why, sizeof(why)));
}

static enum handshake_status
tls_done(struct handshake *h, SSL *ssl)
{
	struct tls *t;
	bool resumed;

	psk_ask_end(h, ssl);
	if (!tls_psk_facts(h, ssl))
		return HANDSHAKE_FAILED;
	resumed = SSL_session_reused(ssl) && h->facts.source != GRAPNEL_IDENTITY_PSK;
	if (resumed)
		metric_add(&h->worker->metrics, METRIC_TLS_RESUMED, 1);
	if (!tls_facts(h, ssl))
		return HANDSHAKE_FAILED;
	if ((t = malloc(sizeof(*t))) == NULL)
		return handshake_fail(h, "out of memory");
	h->state = NULL;
	SSL_set_app_data(ssl, NULL);
	/* More than this record may have come along with the last flight. */
	*t = (struct tls){ .below = *h->stream,
		.ssl = ssl,
		.socket = tls_socket_of(ssl),
		.resumed = resumed,
		.more = SSL_has_pending(ssl) };
	h->stream->ops = &tls_ops;
	h->stream->layer = t;
	h->stream->want_write = tls_socket_held(t->socket) > 0; /* session tickets */
	return HANDSHAKE_DONE;
}

/* Most who fail here speak something else: say what. true: TLS, as far as one can see. */
static bool
looks_like_tls(struct handshake *h, const uint8_t *first, size_t len)
{
	static const struct {
		const char *begin, *what;
	} others[] = {
		{ "\x10", "MQTT without TLS" },
		{ "GET ", "HTTP without TLS" },
		{ "HEAD ", "HTTP without TLS" },
		{ "POST ", "HTTP without TLS" },
		{ "PUT ", "HTTP without TLS" },
		{ "OPTIONS ", "HTTP without TLS" },
		{ "CONNECT ", "HTTP without TLS" },
		{ "PROXY ", "a PROXY header (this listener has proxy_protocol = no)" },
		{ "\r\n\r\n", "a PROXY header (this listener has proxy_protocol = no)" },
	};

	if (first[0] == 0x16) /* a record with a handshake message */
		return true;
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		size_t n = strlen(others[i].begin);

		if (len >= n && memcmp(first, others[i].begin, n) == 0) {
			(void)handshake_fail(h, "TLS: the peer sent %s", others[i].what);
			return false;
		}
	}
	(void)handshake_fail(
	    h, "TLS: the peer sent something that is not TLS; first byte 0x%02x", first[0]);
	return false;
}

static enum handshake_status
tls_run(struct handshake *h)
{
	SSL *ssl = h->state;
	uint8_t first[8];
	ssize_t n;
	int r;

	if (ssl == NULL) {
		n = stream_peek(h->stream, first, sizeof(first));
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return HANDSHAKE_READ;
		if (n <= 0)
			return handshake_fail(h, "TLS: the peer is gone before it sent anything");
		if (!looks_like_tls(h, first, (size_t)n))
			return HANDSHAKE_FAILED;
		if ((ssl = SSL_new(h->tls->ctx)) == NULL || !tls_socket_use(ssl, h->stream->fd)) {
			SSL_free(ssl);
			ERR_clear_error();
			return handshake_fail(h, "TLS: out of memory");
		}
		SSL_set_app_data(ssl, h);
		h->state = ssl;
		if (!psk_ask_begin(h, ssl))
			return handshake_fail(h, "TLS: out of memory");
	}
	if (tls_socket_flush(tls_socket_of(ssl)) < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return HANDSHAKE_WRITE;
		return handshake_fail(h, "TLS: %s", strerror(errno));
	}
	for (;;) {
		ERR_clear_error();
		if ((r = SSL_accept(ssl)) == 1)
			return tls_done(h, ssl);
		switch (SSL_get_error(ssl, r)) {
		case SSL_ERROR_WANT_READ: /* not before it has heard all that we said */
			return tls_socket_held(tls_socket_of(ssl)) > 0 ? HANDSHAKE_WRITE
								       : HANDSHAKE_READ;
		case SSL_ERROR_WANT_WRITE:
			return HANDSHAKE_WRITE;
		case SSL_ERROR_WANT_ASYNC:
			if (!psk_ask_wanted(h)) /* an engine of OpenSSL's; none is loaded */
				return handshake_fail(h, "TLS: OpenSSL waits for something");
			if (!psk_ask_now(h))
				return HANDSHAKE_WAIT;
			break;
		case SSL_ERROR_WANT_ASYNC_JOB:
			return handshake_fail(h, "TLS: no memory for a stack to wait on");
		default:
			return tls_failed(h, ssl);
		}
	}
}

static void
tls_cancel(struct handshake *h)
{
	psk_ask_end(h, h->state);
	SSL_free(h->state);
	h->state = NULL;
}

const struct handshake_step handshake_tls = {
	.wanted = tls_wanted,
	.run = tls_run,
	.cancel = tls_cancel,
};
