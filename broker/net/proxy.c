/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy - the step that takes the PROXY header off a connection
 *
 * It works on the bare socket, below TLS. Bytes are looked at first, and only those are taken that belong to the header for
 * certain: while it is incomplete that is all there are, so that the socket does not stay readable for nothing.
 *
 * Bounded: PROXY_HEADER_MAX; what has come so far is kept, no more.
 */
#include "config/cidr.h"
#include "net/handshake.h"
#include "net/proxy_header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AUTHORITY_MAX 255u

struct proxy_state {
	bool taken; /* the header: the proxy itself is here, and has not said anything yet */
	size_t len;
	uint8_t bytes[];
};

bool
handshake_proxy_trusted(const struct listener_settings *ls, const struct sockaddr *peer)
{
	return cidr_contains(ls->trusted, ls->trusted_proxies.count, peer);
}

static void
proxy_cancel(struct handshake *h)
{
	free(h->state);
	h->state = NULL;
}

/* ---- what it says ---------------------------------------------------------------------------- */

/* An opaque id: as it is if it can be shown, else in hexadecimal. */
static void
add_unique_id(struct facts *f, struct grapnel_str id)
{
	static const char digits[] = "0123456789abcdef";
	char text[2 * PROXY_UNIQUE_ID_MAX];

	if (id.len == 0 || facts_add(f, "proxy.unique_id", id.data, id.len))
		return;
	for (size_t i = 0; i < id.len; i++) {
		text[2 * i] = digits[(uint8_t)id.data[i] >> 4];
		text[2 * i + 1] = digits[(uint8_t)id.data[i] & 15];
	}
	(void)facts_add(f, "proxy.unique_id", text, 2 * id.len);
}

/* Who verifies the client's certificate: the proxy, or a step of ours that comes later? */
static bool
names_by_proxy(const struct listener_settings *ls)
{
	return ls->identity == IDENTITY_CN &&
	    !(ls->tls && ls->client_certificate != CERTIFICATE_NONE);
}

static enum handshake_status
believe(struct handshake *h, const struct proxy_header *p)
{
	struct facts *f = &h->facts;

	if (p->address_len > 0) {
		f->address = p->address;
		f->address_len = p->address_len;
	}
	if (p->authority.len > 0 && p->authority.len <= AUTHORITY_MAX)
		(void)facts_add(f, "proxy.authority", p->authority.data, p->authority.len);
	add_unique_id(f, p->unique_id);
	if (p->cn.len > 0)
		(void)facts_add(f, "proxy.cn", p->cn.data, p->cn.len);
	if (!names_by_proxy(h->ls))
		return HANDSHAKE_DONE;
	if (p->cn.len == 0)
		return handshake_fail(h,
		    "the PROXY header has no common name of a verified client certificate, which "
		    "identity = cn needs (haproxy: send-proxy-v2-ssl-cn, and verify required)");
	if (!facts_set_username(f, GRAPNEL_IDENTITY_PROXY, p->cn.data, p->cn.len))
		return handshake_fail(h,
		    "the common name in the PROXY header cannot be a user name (UTF-8 without "
		    "control characters)");
	return HANDSHAKE_DONE;
}

/* ---- reading --------------------------------------------------------------------------------- */

/*
 * Proxies look after us by connecting, speaking for nobody and closing: no failure. @return HANDSHAKE_DONE: somebody wants
 * something.
 */
static enum handshake_status
wait_for_more(struct handshake *h)
{
	struct proxy_state *s = h->state;
	uint8_t byte;
	ssize_t n = stream_peek(h->stream, &byte, 1);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
		return HANDSHAKE_OVER;
	if (n < 0 && s == NULL) {
		if ((s = malloc(sizeof(*s))) == NULL)
			return handshake_fail(h, "out of memory");
		*s = (struct proxy_state){ .taken = true };
		h->state = s;
	}
	return n < 0 ? HANDSHAKE_READ : HANDSHAKE_DONE;
}

static enum handshake_status
keep(struct handshake *h, const uint8_t *bytes, size_t len)
{
	struct proxy_state *s = realloc(h->state, sizeof(*s) + len);

	if (s == NULL)
		return handshake_fail(h, "out of memory");
	s->taken = false;
	s->len = len;
	memcpy(s->bytes, bytes, len);
	h->state = s;
	return HANDSHAKE_READ;
}

/* HANDSHAKE_DONE: *p, which borrows from room, is all that came before what is in the socket now. */
static enum handshake_status
take_header(struct handshake *h, uint8_t room[static PROXY_HEADER_MAX], struct proxy_header *p)
{
	const struct proxy_state *s = h->state;
	size_t kept = s != NULL ? s->len : 0, len, take;
	enum proxy_parsed parsed;
	ssize_t n;

	if (kept > 0)
		memcpy(room, s->bytes, kept);
	n = stream_peek(h->stream, room + kept, PROXY_HEADER_MAX - kept);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return HANDSHAKE_READ;
	if (n <= 0 && kept == 0)
		return HANDSHAKE_OVER;
	if (n <= 0)
		return handshake_fail(h, "the peer is gone before its PROXY header was whole");
	len = kept + (size_t)n;
	parsed = proxy_header_parse(room, len, p);
	if (parsed == PROXY_BAD)
		return handshake_fail(h,
		    "a PROXY header was expected, but it sent %s; proxy_protocol = yes is for "
		    "listeners behind a proxy",
		    p->why);
	take = (parsed == PROXY_OK ? p->size : len) - kept;
	if (stream_read(h->stream, room + kept, take) != (ssize_t)take)
		return handshake_fail(h, "what was in the socket is not there any more");
	return parsed == PROXY_OK ? HANDSHAKE_DONE : keep(h, room, len);
}

static enum handshake_status
proxy_run(struct handshake *h)
{
	const struct proxy_state *s = h->state;
	struct proxy_header p = { .local = true };
	uint8_t room[PROXY_HEADER_MAX];
	enum handshake_status status;

	if (!handshake_proxy_trusted(h->ls, (const struct sockaddr *)&h->facts.address))
		return handshake_fail(
		    h, "it is none of trusted_proxies, whose PROXY headers alone are believed");
	if (s == NULL || !s->taken) {
		status = take_header(h, room, &p);
		if (status != HANDSHAKE_DONE)
			return status;
		proxy_cancel(h); /* the state, not the step */
	}
	if (p.local && (status = wait_for_more(h)) != HANDSHAKE_DONE)
		return status;
	proxy_cancel(h);
	if ((status = believe(h, &p)) != HANDSHAKE_DONE)
		return status;
	return h->known(h) ? HANDSHAKE_DONE : HANDSHAKE_OVER;
}

static bool
proxy_wanted(const struct listener_settings *ls)
{
	return ls->proxy_protocol;
}

const struct handshake_step handshake_proxy = {
	.wanted = proxy_wanted,
	.run = proxy_run,
	.cancel = proxy_cancel,
};
