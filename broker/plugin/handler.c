/* SPDX-License-Identifier: Apache-2.0 */
#include "handler.h"
#include "base/log.h"
#include "config/conf.h"
#include "core/broker.h"
#include "mqtt/wire.h"
#include "net/stream.h"
#include "plugins.h"
#include "request.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ATTRIBUTES_MAX 24u
#define NAME_MAX_BYTES 64u
#define VALUES_MAX     4096u
#define PEER_MAX       127u

/* ---- sockets --------------------------------------------------------------------------------- */

struct handed {
	struct instance_worker *iw;
	struct grapnel_listener listener; /* what the plugin sees */
	char text[];
};

/* The instance of that name in the chains of this worker. */
static struct instance_worker *
current(struct worker *w, const char *name)
{
	const struct chain_set *set = w->hooks->set;

	for (unsigned i = 0; i < set->member_count; i++)
		if (strcmp(set->members[i].in->name, name) == 0)
			return &set->members[i].in->workers[w->index];
	return NULL;
}

bool
handler_is_current(struct worker *w, const struct handed *h, const struct listener_settings *ls)
{
	return h != NULL && h->iw == current(w, ls->handler);
}

void
handler_give(struct worker *w, const struct listener_settings *ls, int fd, const char *address,
    struct handed **out)
{
	struct instance_worker *iw = current(w, ls->handler);
	size_t name_len = strlen(ls->name), address_len = strlen(address);
	struct handed *h = malloc(sizeof(*h) + name_len + address_len);
	uint64_t entered;
	int err;

	*out = NULL;
	if (h == NULL || iw == NULL || !instance_callable(iw)) { /* handlers_check has seen to it */
		log_error(
		    "listener \"%s\": its socket has no handler on worker %u", ls->name, w->index);
		free(h);
		return;
	}
	h->iw = iw;
	memcpy(h->text, ls->name, name_len);
	memcpy(h->text + name_len, address, address_len);
	h->listener = (struct grapnel_listener){ .size = sizeof(h->listener),
		.name = { h->text, name_len },
		.address = { h->text + name_len, address_len },
		.fd = fd,
		.worker = w->index,
		.datagram = ls->is_udp };
	entered = plugin_enter();
	err = iw->in->plugin->listener_open(iw->in->state, &h->listener);
	plugin_leave(iw, entered, "listener_open");
	if (err != GRAPNEL_OK) {
		log_error("plugin \"%s\": listener_open of listener \"%s\" failed on worker %u "
			  "(error %d); nobody is served there until the next reload",
		    iw->in->name, ls->name, w->index, err);
		free(h);
		return;
	}
	*out = h;
}

void
handler_take(struct handed *h)
{
	const struct instance *in = h != NULL ? h->iw->in : NULL;
	uint64_t entered;

	if (h == NULL)
		return;
	entered = plugin_enter();
	if (in->plugin->listener_close != NULL)
		in->plugin->listener_close(in->state, &h->listener);
	plugin_leave(h->iw, entered, "listener_close");
	free(h);
}

bool
handlers_check(const struct settings *s, const struct plugins *p, struct conf_errors *errs)
{
	bool ok = true;

	for (unsigned i = 0; i < s->listener_count; i++) {
		const struct listener_settings *l = &s->listeners[i];
		const struct instance *in = NULL;

		if (l->handler == NULL)
			continue;
		for (unsigned k = 0; k < p->count && in == NULL; k++)
			if (strcmp(p->entries[k].in->name, l->handler) == 0)
				in = p->entries[k].in;
		if (in != NULL && in->plugin->listener_open != NULL)
			continue;
		ok = false;
		if (in == NULL)
			conf_errors_add(errs,
			    "%s: listener \"%s\": handler = \"%s\": no plugin of that name is "
			    "enabled; write plugin \"%s\" { enabled = yes }, with module = \"...\" "
			    "when its file has another name",
			    l->where, l->name, l->handler, l->handler);
		else
			conf_errors_add(errs,
			    "%s: listener \"%s\": handler = \"%s\": that plugin does not take "
			    "sockets "
			    "of listeners (it has no listener_open); handler = none leaves the "
			    "socket "
			    "to the broker",
			    l->where, l->name, l->handler);
	}
	return ok;
}

/* ---- connections ----------------------------------------------------------------------------- */

bool
handler_busy(const struct instance *in)
{
	return in->connections != NULL && stream_count_open(in->connections) > 0;
}

static bool
begins(struct grapnel_str s, const char *with)
{
	size_t len = strlen(with);

	return s.len >= len && memcmp(s.data, with, len) == 0;
}

/* "prefix.name", and no prefix of what listeners see themselves. */
static bool
name_ok(struct grapnel_str name)
{
	static const char *const taken[] = { "cert.", "tls.", "proxy.", "unix." };
	const char *dot = name.len > 0 ? memchr(name.data, '.', name.len) : NULL;

	if (dot == NULL || dot == name.data || dot == name.data + name.len - 1 ||
	    name.len > NAME_MAX_BYTES)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.data[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '_' && c != '-' &&
		    c != '.')
			return false;
	}
	for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
		if (begins(name, taken[i]))
			return false;
	return true;
}

static bool
text_ok(struct grapnel_str s, size_t max)
{
	return s.data == NULL ? s.len == 0 : s.len <= max && utf8_plain(s.data, s.len);
}

static bool
connection_ok(const struct grapnel_connection *c)
{
	size_t bytes;

	if (c == NULL || c->size < sizeof(*c) || c->listener.data == NULL ||
	    !text_ok(c->peer, PEER_MAX) || !text_ok(c->username, VALUES_MAX) ||
	    (c->username.data != NULL && c->username.len == 0) ||
	    c->address_len > sizeof(struct sockaddr_storage) ||
	    (c->address == NULL && (c->address_len > 0 || c->peer.len == 0)) ||
	    (c->address != NULL && c->address_len < sizeof(sa_family_t)) ||
	    c->attribute_count > ATTRIBUTES_MAX ||
	    (c->attributes == NULL && c->attribute_count > 0))
		return false;
	bytes = c->username.len;
	for (size_t i = 0; i < c->attribute_count; i++) {
		const struct grapnel_pair *a = &c->attributes[i];

		if (a->name.data == NULL || a->value.data == NULL || !name_ok(a->name) ||
		    !text_ok(a->value, VALUES_MAX))
			return false;
		bytes += a->value.len;
	}
	return bytes <= VALUES_MAX;
}

int
handler_connection_open(
    struct instance_worker *iw, const struct grapnel_connection *connection, int *fd)
{
	struct instance *in = iw->in;
	struct stream s;
	int ends[2], err;

	if (fd == NULL || !connection_ok(connection))
		return GRAPNEL_EINVAL;
	if (in->connections == NULL) /* no listener_open: nobody's handler */
		return GRAPNEL_ENOENT;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
		return GRAPNEL_ESYS;
	stream_init_counted(&s, ends[0], in->connections);
	if ((err = core_connection_open(iw->w, in->name, connection, &s)) != GRAPNEL_OK) {
		(void)close(ends[1]);
		return err;
	}
	*fd = ends[1];
	return GRAPNEL_OK;
}
