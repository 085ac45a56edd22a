/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_handled - Network Connections that a plugin speaks for, and the sockets of listeners that plugins have
 *
 * Such a connection is one like all others, under the section of its listener; only that its stream is one end of a pair
 * of sockets, and that the plugin says who is at the other one.
 */
#include "core/conn.h"
#include "core/session.h"
#include "net/acceptor.h"
#include "net/listener.h"
#include "plugin/handler.h"

#include <stdlib.h>
#include <string.h>

void
core_handlers_changed(struct worker *w)
{
	if (w->broker->listeners != NULL) /* grapneld -t has none */
		acceptor_handlers(w);
}

int
core_connection_open(
    struct worker *w, const char *handler, const struct grapnel_connection *c, struct stream *s)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	const struct listener_settings *ls;
	char text[PEER_TEXT_MAX];
	struct grapnel_client_info values = { .peer = c->peer,
		.username = c->username,
		.attributes = c->attributes,
		.attribute_count = c->attribute_count };
	bool counted = false;
	const char *why;
	int err;

	if (c->address != NULL)
		memcpy(&address, c->address, c->address_len);
	if (c->peer.len > 0) {
		memcpy(text, c->peer.data, c->peer.len);
		text[c->peer.len] = '\0';
	} else {
		peer_text(text, -1, (const struct sockaddr *)&address, (socklen_t)c->address_len);
		values.peer = (struct grapnel_str){ text, strlen(text) };
	}
	if (c->username.data != NULL)
		values.identity_source = GRAPNEL_IDENTITY_HANDLER;
	err =
	    w->core->stopping ? GRAPNEL_ESTATE : acceptor_admit(w, c->listener, handler, text, &ls);
	if (err != GRAPNEL_OK) {
		stream_close(s);
		return err;
	}
	/* It leaves by its text, which may be of the plugin's own making. */
	if (c->peer.len == 0 &&
	    !listener_address_enter(w, ls, (const struct sockaddr *)&address, &counted, &why)) {
		metric_add(&w->metrics, METRIC_CONNECTIONS_REFUSED, 1);
		listener_refusal_log(w, "connection_refused", text, ls->name, why);
		stream_close(s);
		listener_connection_closed(w->broker, ls);
		settings_unref(ls->settings);
		return GRAPNEL_EQUOTA;
	}
	return conn_handled(w, s, ls, &values, counted) ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}
