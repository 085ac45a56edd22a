/* SPDX-License-Identifier: Apache-2.0 */
/*
 * durable_rows - sessions, subscriptions and what QoS 2 needs, as rows of the store
 *
 * A session that has changed is only noted; its rows are written as they are when the batch is submitted, once, however
 * often it has changed. So a row costs by commit, not by packet.
 */
#include "core/durable.h"

#include "base/log.h"
#include "core/shared.h"
#include "store/batch.h"

#include <stdlib.h>
#include <string.h>

#define DIRTY_SESSION  1u
#define DIRTY_EXCHANGE 2u

static struct row_time
deadline(const struct worker *w, uint64_t at_ms)
{
	uint64_t now_wall = (uint64_t)(clock_wall_us() / 1000);
	uint64_t left = at_ms > w->now_ms ? at_ms - w->now_ms : 0;

	if (at_ms == UINT64_MAX)
		return (struct row_time){ 0 };
	return (struct row_time){ .set = true, .wall_ms = now_wall + left, .left_ms = left };
}

/* ---- sessions ---------------------------------------------------------------------------------- */

static void
changed(struct session *s, unsigned what)
{
	struct session_extra *x = s->extra;

	if (s->w->durable == NULL)
		return;
	if (x->dirty == 0)
		durable_dirty(s);
	x->dirty |= (uint8_t)what;
}

bool
durable_session_begin(struct session *s)
{
	struct session_extra *x = session_extra(s);

	if (x == NULL)
		return false;
	if (!s->durable) {
		s->durable = true;
		x->store_id = store_next_id(s->w->broker->store);
		subs_made_durable(s);
	}
	changed(s, DIRTY_SESSION);
	return true;
}

void
durable_session_changed(struct session *s)
{
	if (s->durable)
		changed(s, DIRTY_SESSION);
}

void
durable_session_end(struct session *s)
{
	if (!s->durable)
		return;
	holds_forget(s);
	durable_row(s->w, BATCH_SESSION, true, s->extra->store_id, (struct grapnel_str){ 0 },
	    (struct grapnel_str){ 0 });
}

void
durable_exchange_changed(struct session *s)
{
	changed(s, DIRTY_EXCHANGE);
}

static void
session_row(struct session *s, struct row_out *o)
{
	struct session_extra *x = s->extra;
	const char *plugin = session_plugin_name(s->w, s->auth_plugin);
	struct row_session row = { .auth_plugin = { plugin, plugin != NULL ? strlen(plugin) : 0 },
		.expiry = session_expiry_effective(s),
		.connected_s = s->connected_s,
		.online = s->conn != NULL };

	identity_info(s->identity, &row.who);
	if (!row.online)
		row.expires = deadline(s->w, x->expires_at_ms);
	if (x->will != NULL) {
		row.has_will = true;
		row.will_delay = x->will_delay;
		store_message_row(x->will, &row.will);
		row.will.expires = (struct row_time){ .set = (x->will->flags & MSG_EXPIRES) != 0,
			.left_ms = x->will->expires_at_ms };
		if (!row.online)
			row.will_due = deadline(s->w, x->will_at_ms);
	}
	row_session(o, &row);
}

/*
 * QoS 1 may come twice, so what is in flight with it is only kept when the broker ends in good order; of a shared group's
 * message not even then, since another member may get it.
 */
static bool
in_row(const struct session *s, const struct inflight_entry *ie)
{
	if (ie->state == INFLIGHT_FREE)
		return false;
	return ie->e.qos == 2 || (s->w->core->stopping && !(ie->e.flags & ENTRY_GROUP));
}

static void
exchange_row(struct session *s, struct row_out *o)
{
	const struct flow *f = s->flow;
	struct row_exchange row = { .confirmed = s->extra->confirmed };

	for (uint32_t i = 0; i < f->received.capacity; i++)
		row.received_count +=
		    f->received.ids[i] != 0 && !hold_has(s->extra->holds, f->received.ids[i]);
	for (uint32_t i = 0; i < f->inflight.capacity; i++)
		row.sent_count += in_row(s, &f->inflight.slots[i]);
	row_exchange(o, &row);
	for (uint32_t i = 0; i < f->received.capacity; i++)
		if (f->received.ids[i] != 0 && !hold_has(s->extra->holds, f->received.ids[i]))
			row_number(o, f->received.ids[i]);
	for (uint32_t i = 0; i < f->inflight.capacity; i++) {
		const struct inflight_entry *ie = &f->inflight.slots[i];

		if (!in_row(s, ie))
			continue;
		row_number(o, ie->packet_id);
		row_number(
		    o, ie->state == INFLIGHT_WAIT_PUBCOMP ? EXCHANGE_RELEASED : EXCHANGE_SENT);
		row_number(o, ie->e.address);
	}
}

void
durable_session_rows(struct session *s)
{
	struct session_extra *x = s->extra;
	struct row_out o = { 0 };
	const struct grapnel_str none = { NULL, 0 };

	if (x->dirty & DIRTY_SESSION) {
		session_row(s, &o);
		if (!o.failed)
			durable_row(s->w, BATCH_SESSION, false, x->store_id, none,
			    (struct grapnel_str){ (char *)o.data, o.len });
	}
	if (x->dirty & DIRTY_EXCHANGE) {
		if (!o.failed)
			row_clear(&o);
		exchange_row(s, &o);
		if (!o.failed)
			durable_row(s->w, BATCH_EXCHANGE, false, x->store_id, none,
			    (struct grapnel_str){ (char *)o.data, o.len });
	}
	if (o.failed)
		log_error(
		    "store: out of memory: what changed in the session of \"%.*s\" is not kept",
		    STR(identity_client_id(s->identity)));
	row_free(&o);
	x->dirty = 0;
}

/* ---- subscriptions --------------------------------------------------------------------------------- */

/* "$share/group/filter", as the key of a row. */
static char *
shared_filter(struct grapnel_str share, struct grapnel_str filter, size_t *len)
{
	char *p = malloc(sizeof("$share/") + share.len + filter.len + 1), *at = p;

	if (p == NULL)
		return NULL;
	memcpy(at, "$share/", 7);
	memcpy(at + 7, share.data, share.len);
	at += 7 + share.len;
	*at++ = '/';
	memcpy(at, filter.data, filter.len);
	*len = 7 + share.len + 1 + filter.len;
	return p;
}

static void
subscription(struct session *s, struct grapnel_str share, struct grapnel_str filter, bool goes,
    struct grapnel_str row)
{
	char *text = NULL;

	if (share.data != NULL) {
		if ((text = shared_filter(share, filter, &filter.len)) == NULL) {
			log_error("store: out of memory: a subscription of \"%.*s\" is not kept",
			    STR(identity_client_id(s->identity)));
			return;
		}
		filter.data = text;
	}
	durable_row(s->w, BATCH_SUBSCRIPTION, goes, s->extra->store_id, filter, row);
	free(text);
}

void
durable_subscription(struct session *s, struct grapnel_str share, struct grapnel_str filter,
    const struct sub *values, uint8_t retain_handling)
{
	struct row_subscription row = { .id = values->id,
		.qos = values->qos,
		.retain_handling = retain_handling,
		.no_local = (values->flags & SUB_NO_LOCAL) != 0,
		.retain_as_published = (values->flags & SUB_RETAIN_AS_PUBLISHED) != 0,
		.wild_first = (values->flags & SUB_WILD_FIRST) != 0 };
	struct row_out o = { 0 };

	if (!s->durable)
		return;
	row_subscription(&o, &row);
	subscription(s, share, filter, false, (struct grapnel_str){ (char *)o.data, o.len });
	row_free(&o);
}

void
durable_unsubscription(struct session *s, struct grapnel_str share, struct grapnel_str filter)
{
	if (s->durable)
		subscription(s, share, filter, true, (struct grapnel_str){ 0 });
}

/* ---- shared groups -------------------------------------------------------------------------------------- */

uint64_t
durable_group_begin(struct worker *w, struct grapnel_str mountpoint, struct grapnel_str key)
{
	struct row_session row = { .group = true,
		.who = { .client_id = key, .mountpoint = mountpoint } };
	struct row_out o = { 0 };
	uint64_t id;

	if (w->durable == NULL)
		return 0;
	id = store_next_id(w->broker->store);
	row_session(&o, &row);
	durable_row(w, BATCH_SESSION, false, id, (struct grapnel_str){ 0 },
	    (struct grapnel_str){ (char *)o.data, o.len });
	row_free(&o);
	return id;
}

void
durable_group_end(struct worker *w, uint64_t id)
{
	if (id != 0)
		durable_row(w, BATCH_SESSION, true, id, (struct grapnel_str){ 0 },
		    (struct grapnel_str){ 0 });
}
