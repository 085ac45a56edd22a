/* SPDX-License-Identifier: Apache-2.0 */
#include "net/handshake.h"
#include "config/logins.h"
#include "mqtt/wire.h"
#include "net/tls_context.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From the socket upwards. */
static const struct handshake_step *const steps[] = {
	&handshake_proxy,
	&handshake_tls,
	&handshake_websocket,
};
#define STEPS (sizeof(steps) / sizeof(*steps))

bool
handshake_needed(const struct listener_settings *ls)
{
	for (unsigned i = 0; i < STEPS; i++)
		if (steps[i]->wanted(ls))
			return true;
	return false;
}

struct handshake *
handshake_new(struct worker *w, struct stream *s, const struct listener_settings *ls,
    struct tls_context *tls, const struct sockaddr *peer, socklen_t peer_len)
{
	struct handshake *h = calloc(1, sizeof(*h));

	if (h == NULL) {
		tls_context_unref(tls);
		return NULL;
	}
	h->worker = w;
	h->stream = s;
	h->ls = ls;
	(void)settings_ref(
	    ls->settings); /* a reload gives the connection another section meanwhile */
	h->tls = tls;
	facts_init(&h->facts, s->fd, ls, peer, peer_len);
	return h;
}

enum handshake_status
handshake_run(struct handshake *h)
{
	for (; h->step < STEPS; h->step++) {
		enum handshake_status status;

		if (!steps[h->step]->wanted(h->ls))
			continue;
		if ((status = steps[h->step]->run(h)) != HANDSHAKE_DONE)
			return status;
	}
	return HANDSHAKE_DONE;
}

void
handshake_free(struct handshake *h)
{
	if (h == NULL)
		return;
	if (h->state != NULL)
		steps[h->step]->cancel(h);
	facts_clear(&h->facts);
	tls_context_unref(h->tls);
	settings_unref(h->ls->settings);
	free(h);
}

enum handshake_status
handshake_fail(struct handshake *h, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(h->why, sizeof(h->why), format, ap);
	va_end(ap);
	return HANDSHAKE_FAILED;
}

/* ---- facts ------------------------------------------------------------------------------------- */

/* @return the copy; NULL: not taken. */
static const char *
keep(struct facts *f, const void *value, size_t len)
{
	char *copy;

	if (!utf8_plain(value, len) || f->bytes_len + len > FACTS_BYTES_MAX)
		return NULL;
	if (f->bytes == NULL && (f->bytes = malloc(FACTS_BYTES_MAX)) == NULL)
		return NULL;
	copy = f->bytes + f->bytes_len;
	memcpy(copy, value, len);
	f->bytes_len += len;
	return copy;
}

bool
facts_add(struct facts *f, const char *name, const void *value, size_t len)
{
	const char *copy;

	if (f->count == FACTS_MAX || (copy = keep(f, value, len)) == NULL)
		return false;
	f->attributes[f->count++] = (struct grapnel_pair){ { name, strlen(name) }, { copy, len } };
	return true;
}

bool
facts_set_username(struct facts *f, uint8_t source, const void *value, size_t len)
{
	const char *copy = len > 0 ? keep(f, value, len) : NULL;

	if (copy == NULL)
		return false;
	f->username = (struct grapnel_str){ copy, len };
	f->source = source;
	return true;
}

const struct grapnel_pair *
facts_find(const struct facts *f, const char *name)
{
	for (unsigned i = 0; i < f->count; i++)
		if (strcmp(f->attributes[i].name.data, name) == 0)
			return &f->attributes[i];
	return NULL;
}

/* Who connected, as the kernel keeps it: it is not asked for again when that process gives its socket away. */
static void
add_peer(struct facts *f, int fd, const struct listener_settings *ls)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	const char *name;
	char uid[16], gid[16], numbered[24];

	if (f->address.ss_family != AF_UNIX ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0)
		return;
	(void)snprintf(uid, sizeof(uid), "%u", (unsigned)cred.uid);
	(void)snprintf(gid, sizeof(gid), "%u", (unsigned)cred.gid);
	(void)snprintf(numbered, sizeof(numbered), "uid:%s", uid);
	(void)facts_add(f, "unix.uid", uid, strlen(uid));
	(void)facts_add(f, "unix.gid", gid, strlen(gid));
	name = logins_find(ls->settings->logins, cred.uid);
	/* A login name cannot be taken for a number: it has no colon. */
	if (name == NULL || !facts_set_username(f, GRAPNEL_IDENTITY_PEER, name, strlen(name)))
		(void)facts_set_username(f, GRAPNEL_IDENTITY_PEER, numbered, strlen(numbered));
}

void
facts_init(struct facts *f, int fd, const struct listener_settings *ls, const struct sockaddr *peer,
    socklen_t peer_len)
{
	memset(f, 0, offsetof(struct facts, attributes));
	f->bytes = NULL;
	f->bytes_len = 0;
	memcpy(&f->address, peer, peer_len);
	f->address_len = peer_len;
	if (ls->identity == IDENTITY_PEER)
		add_peer(f, fd, ls);
}

void
facts_clear(struct facts *f)
{
	free(f->bytes);
	f->bytes = NULL;
	f->bytes_len = 0;
	f->count = 0;
	f->username.data = NULL;
}
