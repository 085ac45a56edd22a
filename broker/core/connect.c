/* SPDX-License-Identifier: Apache-2.0 */
#include "core/connecting.h"

#include "base/log.h"
#include "core/acl.h"
#include "core/session.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

static void refused_event(struct conn *c, uint8_t reason_code, const char *why);

void
connecting_free(struct conn *c)
{
	struct connecting *k = c->connecting;

	if (k == NULL)
		return;
	timer_disarm(c->w->wheel, &k->guard_timer);
	explicit_bzero(k->packet, k->packet_len); /* holds the password */
	client_slots_free(c->w, &k->client);
	identity_unref(k->identity);
	acl_rules_unref(k->rules);
	message_unref(k->will);
	free(k->response_info);
	free(k->auth_data);
	free(k);
	c->connecting = NULL;
}

void
connecting_cancel(struct conn *c, const char *why)
{
	if (c->connecting == NULL)
		return;
	if (!c->connecting->refused && c->session == NULL)
		refused_event(c, 0, why); /* closed before CONNACK */
	hooks_cancel(c->w, c->connecting->pending);
	c->connecting->pending = NULL;
	connecting_free(c);
}

struct grapnel_client *
connecting_client(struct conn *c)
{
	return c->connecting != NULL ? &c->connecting->client : NULL;
}
/* ---- refusing ---------------------------------------------------------------------------- */

static void
refused_event(struct conn *c, uint8_t reason_code, const char *why)
{
	struct connecting *k = c->connecting;
	struct grapnel_client_info info;
	struct grapnel_event ev = { .type = GRAPNEL_EVENT_CLIENT_REFUSED,
		.client = &info,
		.reason = { why, strlen(why) },
		.reason_code = reason_code };

	if (!event_wanted(c->w, GRAPNEL_EVENT_CLIENT_REFUSED))
		return;
	identity_info(c->who, &info);
	info.protocol = c->version;
	if (k != NULL) {
		info.client_id = k->p.client_id;
		info.username = k->p.username;
		k->refused = true;
	}
	event_emit(c->w, &ev);
}

void
connect_refuse_with(struct conn *c, uint8_t reason_code, const char *why,
    struct grapnel_str server_reference, const char *plugin)
{
	struct grapnel_property props[2];
	struct mqtt_connack ack = { .reason_code = reason_code, .props = props };
	struct connecting *k = c->connecting;
	struct grapnel_str id = k != NULL ? k->p.client_id : (struct grapnel_str){ 0 };
	struct grapnel_str user = c->who->source != GRAPNEL_IDENTITY_NONE
	    ? identity_username(c->who)
	    : k != NULL ? k->p.username
			: (struct grapnel_str){ 0 };
	unsigned suppressed;
	uint8_t *p;

	metric_add(&c->w->metrics, METRIC_CONNECTS_REFUSED, 1);
	/* Of a failed login the address stands first, where no name that the Client chose can pass for it. */
	if (log_allowed(conn_peer(c), &suppressed))
		log_at(GRAPNEL_LOG_NOTICE,
		    k != NULL && k->login_failed ? "login_failed" : "connect_refused",
		    "from %s: client \"%.*s\" user \"%.*s\" refused: %s (0x%02x)%s%s%s",
		    conn_peer(c), STR(id), STR(user), why, reason_code,
		    plugin != NULL ? " by plugin " : "", plugin != NULL ? plugin : "",
		    suppressed > 0 ? " [more lines left out]" : "");
	else
		metric_add(&c->w->metrics, METRIC_LOG_SUPPRESSED, 1);
	refused_event(c, reason_code, why);
	if (c->version == 5) {
		if (c->problem_info && why != NULL)
			props[ack.prop_count++] =
			    (struct grapnel_property){ .id = PROP_REASON_STRING,
				    .u.str = { why, strlen(why) } };
		if (server_reference.data != NULL &&
		    (reason_code == RC_USE_ANOTHER_SERVER || reason_code == RC_SERVER_MOVED))
			props[ack.prop_count++] =
			    (struct grapnel_property){ .id = PROP_SERVER_REFERENCE,
				    .u.str = server_reference };
		if (c->client_max_packet != 0 && mqtt_connack_size(5, &ack) > c->client_max_packet)
			ack.prop_count = 0;
	}
	if (c->version != 0 && (c->version == 5 || reason_code != RC_MALFORMED_PACKET) &&
	    (p = conn_out(c, mqtt_connack_size(c->version, &ack))) != NULL) {
		mqtt_connack_encode(p, c->version, &ack);
		metric_add(&c->w->metrics, METRIC_PACKETS_SENT, 1);
	}
	conn_close(c, reason_code, why);
}

void
connect_refuse(struct conn *c, uint8_t reason_code, const char *why)
{
	connect_refuse_with(c, reason_code, why, (struct grapnel_str){ 0 }, NULL);
}

void
connect_fault(struct conn *c, uint8_t reason_code, const char *why)
{
	if (c->state == CONN_AUTHENTICATING && c->connecting != NULL)
		connect_refuse(c, reason_code, why);
	else
		conn_close(c, reason_code, why);
}

/* ---- on the worker that accepted ----------------------------------------------------------- */

/* A Client Identifier nobody has, at home on this worker. */
static bool
assign_client_id(struct conn *c, struct connecting *k)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	uint8_t random[20];

	for (unsigned tries = 0; tries < 64 * WORKER_MAX; tries++) {
		struct grapnel_str id = { k->assigned_id, 0 };

		if (RAND_bytes(random, sizeof(random)) != 1)
			return false;
		memcpy(k->assigned_id, "auto", 4);
		for (unsigned i = 0; i < sizeof(random); i++)
			k->assigned_id[4 + i] = digits[random[i] & 31];
		k->assigned_id[4 + sizeof(random)] = '\0';
		id.len = strlen(k->assigned_id);
		if (broker_home(c->w->broker, id) == c->w->index)
			return true;
	}
	return false;
}

enum handled
conn_on_connect(struct conn *c, const struct mqtt_frame *f, const uint8_t *body)
{
	struct connecting *k = malloc(sizeof(*k) + f->remaining);
	struct wire w;
	uint8_t err;

	if (k == NULL) {
		connect_refuse(c, RC_SERVER_UNAVAILABLE, "out of memory");
		return HANDLED_CLOSED;
	}
	memset(k, 0, sizeof(*k));
	k->conn = c;
	k->packet_len = f->remaining;
	memcpy(k->packet, body, f->remaining);
	c->connecting = k;
	wire_init(&w, k->packet, k->packet_len);
	err = mqtt_connect_decode(&w, &k->p);
	c->version = k->p.version;
	if (err == RC_UNSUPPORTED_PROTOCOL_VERSION && c->version == 0)
		c->version = 4; /* an answer that old clients understand */
	c->problem_info = err != 0 || k->p.request_problem_info;
	c->client_max_packet = k->p.maximum_packet_size;
	if (err == 0 && !(c->ls->limits.protocols & (1u << c->version))) {
		err = RC_UNSUPPORTED_PROTOCOL_VERSION;
		w.why = "protocol version not accepted by this listener";
	}
	if (err != 0) {
		metric_add(&c->w->metrics, METRIC_PACKETS_MALFORMED, 1);
		connect_refuse(c, err, w.why != NULL ? w.why : "malformed CONNECT");
		return HANDLED_CLOSED;
	}
	if (!k->p.has_username)
		k->p.username.data = NULL;
	else if (k->p.username.data == NULL)
		k->p.username.data = "";
	if (k->p.client_id.len == 0) {
		/* 3.1 knows no empty identifier; 3.1.1 only with Clean Session 1 [v3.1.1 MQTT-3.1.3-8] */
		if (c->version == 3 || (c->version == 4 && !k->p.clean_start)) {
			connect_refuse(c, RC_CLIENT_ID_NOT_VALID,
			    "empty Client Identifier needs Clean Session");
			return HANDLED_CLOSED;
		}
		if (!assign_client_id(c, k)) {
			conn_close(c, 0, "no random bytes");
			return HANDLED_CLOSED;
		}
		k->p.client_id = (struct grapnel_str){ k->assigned_id, strlen(k->assigned_id) };
		k->home = c->w->index;
	} else {
		k->home = broker_home(c->w->broker, k->p.client_id);
	}
	return HANDLED_WAIT;
}

void
connect_go(struct conn *c)
{
	struct worker *w = c->w, *home = w->broker->workers[c->connecting->home];

	/*
	 * At home already, but with mail: a message that was acknowledged to its publisher before this CONNECT was sent may be
	 * in it, and the Session is not online for that. So the connection queues up behind it.
	 */
	if (c->no_memory) /* it is in the list of those with output here, which closes it */
		conn_close(c, 0, "out of memory");
	else if (home != w || worker_mail_depth(w) > 0)
		conn_move(c, home);
	else
		conn_on_connect_home(c);
}

/* ---- on the home worker --------------------------------------------------------------------- */

/* Without memory for new Clients. Those whose Session is here may come for what it keeps: that frees some. */
static bool
turned_away(struct conn *c)
{
	struct grapnel_str mountpoint = { c->ls->mountpoint, strlen(c->ls->mountpoint) };

	if (overload_level(&c->w->broker->overload) != OVERLOAD_FULL ||
	    session_find(c->w, mountpoint, c->connecting->p.client_id) != NULL)
		return false;
	metric_add(&c->w->metrics, METRIC_CONNECTIONS_REFUSED_MEMORY, 1);
	/* Server busy rather than Quota exceeded: it will pass. */
	connect_refuse(c, RC_SERVER_BUSY, "max_memory is reached: try again later");
	return true;
}

void
conn_on_connect_home(struct conn *c)
{
	conn_set_state(c, CONN_AUTHENTICATING, "CONNECT received");
	if (turned_away(c))
		return;
	connect_authenticate(c);
	conn_watch(c);
}
