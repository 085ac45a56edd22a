/* SPDX-License-Identifier: Apache-2.0 */
/* hooks - from the host's questions to calls: hooks.h */
#include "hooks.h"

#include "calls.h"

#include <stdlib.h>
#include <string.h>

#define PROPERTIES_MAX 64 /* of a message to one client; more are not looked for its name */

static bool
wants(const struct instance *in, int event)
{
	return (atomic_load_explicit(&in->engine->events, memory_order_relaxed) & (1u << event)) !=
	    0;
}

/* Whom it is about: the one of the connection, or one for this question. */
static struct client *
client_of(struct instance *in, const struct grapnel_client_info *info)
{
	struct engine *e = in->engine;
	struct client *c = clients_find(&e->clients, info);

	return c != NULL ? c : client_new(&e->head, info);
}

/* c may lack its client, for want of memory. */
static enum grapnel_verdict
ask(struct instance *in, struct grapnel_request *req, struct call *c)
{
	if (c != NULL && c->client != NULL)
		return engine_ask(in, req, c);
	call_free(c);
	return GRAPNEL_UNAVAILABLE;
}

static struct grapnel_str
not_null(struct grapnel_str s)
{
	return s.data != NULL ? s : GRAPNEL_STR("");
}

/* ---- ends of connections ----------------------------------------------------------------- */

/*
 * In Mosquitto's words. The broker has no Reason Code for a connection that was lost, so that this looks like a normal end;
 * Mosquitto 2.0 itself says -1 of all.
 */
static int
reason_of(uint8_t reason_code)
{
	switch (reason_code) {
	case 0x00: /* Normal disconnection, or lost */
	case 0x04: /* Disconnect with Will Message */
	case 0x8e: /* Session taken over */
		return MOSQ_SUCCESS;
	case 0x80: /* Unspecified error */
		return MOSQ_CONN_LOST;
	case 0x82: /* Protocol Error */
		return MOSQ_PROTOCOL;
	case 0x87: /* Not authorized */
		return MOSQ_AUTH;
	case 0x8d: /* Keep Alive timeout */
		return MOSQ_KEEPALIVE;
	default:
		return reason_code;
	}
}

/* Takes over c. */
static void
tell_gone(struct instance *in, struct client *c, uint8_t reason_code)
{
	struct call *call = NULL;

	/* A plugin that has seen it may have put its address somewhere, and waits for its end. */
	if (wants(in, EVT_DISCONNECT))
		call = call_new(CALL_DISCONNECT, in->host, 0);
	if (call == NULL) {
		client_unref(c);
		return;
	}
	call->client = c;
	call->reason = reason_of(reason_code);
	engine_tell(in->engine, call);
}

static void
on_connected(struct instance *in, const struct grapnel_client_info *info)
{
	struct engine *e = in->engine;
	bool unwanted;
	struct client *c =
	    clients_connected(&e->clients, &e->head, info, engine_now_ms(), &unwanted);
	struct call *call = NULL;

	if (unwanted)
		(void)in->host->client_kick(
		    in->self, info->mountpoint, info->client_id, REASON_ADMINISTRATIVE);
	if (c != NULL)
		call = call_new(CALL_USERNAME, in->host, info->username.len + 1);
	if (call == NULL) {
		client_unref(c);
		return;
	}
	call->client = c;
	call->username = call_text(call, info->username);
	engine_tell(e, call);
}

size_t
hook_events(void *instance, const struct grapnel_event *const *events, size_t count)
{
	struct instance *in = instance;
	struct client *c;

	for (size_t i = 0; i < count; i++) {
		const struct grapnel_event *ev = events[i];
		bool connected = ev->type == GRAPNEL_EVENT_CLIENT_DISCONNECTED;

		if (ev->client == NULL)
			continue;
		if (ev->type == GRAPNEL_EVENT_CLIENT_CONNECTED)
			on_connected(in, ev->client);
		else if ((connected || ev->type == GRAPNEL_EVENT_CLIENT_REFUSED) &&
		    (c = clients_gone(&in->engine->clients, ev->client, connected)) != NULL)
			tell_gone(in, c, ev->reason_code);
	}
	return count;
}

/* ---- logins ------------------------------------------------------------------------------ */

static struct client *
login(struct instance *in, const struct grapnel_client_info *info)
{
	struct engine *e = in->engine;
	uint64_t now = engine_now_ms();
	struct client *stale;

	while ((stale = clients_stale(&e->clients, now)) != NULL)
		tell_gone(in, stale, 0x80);
	return clients_login(&e->clients, &e->head, info, now);
}

enum grapnel_verdict
hook_authenticate(void *instance, struct grapnel_request *req, const struct grapnel_authenticate *q)
{
	struct instance *in = instance;
	struct call *c;

	if (!wants(in, EVT_BASIC_AUTH))
		return GRAPNEL_NEXT;
	/* It would see the part before the NUL, and that may be somebody's password. */
	if (q->password.len > 0 && memchr(q->password.data, '\0', q->password.len) != NULL)
		return GRAPNEL_NEXT;
	c = call_new(CALL_BASIC_AUTH, in->host, q->client->username.len + q->password.len + 2);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->username = call_text(c, q->client->username);
	c->password = call_text(c, q->password);
	c->password_len = q->password.len;
	c->client = login(in, q->client);
	return ask(in, req, c);
}

enum grapnel_verdict
hook_exchange(void *instance, struct grapnel_request *req, const struct grapnel_auth_exchange *q)
{
	struct instance *in = instance;
	bool first = q->phase != GRAPNEL_EXCHANGE_CONTINUE;
	struct call *c;

	if (!wants(in, first ? EVT_EXT_AUTH_START : EVT_EXT_AUTH_CONTINUE))
		return GRAPNEL_NEXT;
	c = call_new(
	    CALL_EXT_AUTH, in->host, q->method.len + q->data.len + q->client->username.len + 3);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->first = first;
	c->method = call_text(c, not_null(q->method));
	c->data = call_text(c, q->data);
	c->data_len = q->data.len;
	c->username = call_text(c, q->client->username);
	c->client =
	    q->phase == GRAPNEL_EXCHANGE_CONNECT ? login(in, q->client) : client_of(in, q->client);
	return ask(in, req, c);
}

enum grapnel_verdict
hook_psk_key(void *instance, struct grapnel_request *req, const struct grapnel_tls_psk *q)
{
	struct instance *in = instance;
	struct call *c;

	if (!wants(in, EVT_PSK_KEY))
		return GRAPNEL_NEXT;
	c = call_new(CALL_PSK, in->host, q->identity.len + q->client->username.len + 2);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->topic = call_text(c, not_null(q->identity));
	c->username = call_text(c, q->client->username);
	c->client = client_new(&in->engine->head, q->client);
	return ask(in, req, c);
}

/* ---- rights ------------------------------------------------------------------------------ */

/* With the properties of the message; NULL: no memory. */
static struct call *
call_about(struct instance *in, enum call_kind kind, const struct grapnel_client_info *info,
    struct grapnel_str topic, const struct grapnel_message_info *m)
{
	struct grapnel_str payload = m != NULL ? m->payload : (struct grapnel_str){ 0 };
	struct call *c = call_new(kind, in->host, topic.len + payload.len + info->username.len + 3);

	if (c == NULL)
		return NULL;
	c->topic = call_text(c, not_null(topic));
	c->username = call_text(c, info->username);
	if (m != NULL) {
		c->data = call_text(c, not_null(payload));
		c->data_len = payload.len;
		if (!properties_read(in->host, m->properties, &c->properties)) {
			call_free(c);
			return NULL;
		}
	}
	c->client = client_of(in, info);
	return c;
}

enum grapnel_verdict
hook_acl_check(void *instance, struct grapnel_request *req, const struct grapnel_acl_check *q)
{
	struct instance *in = instance;
	struct call *c;

	if (!wants(in, EVT_ACL_CHECK))
		return GRAPNEL_NEXT;
	c = call_about(in, CALL_ACL, q->client, q->topic, q->message);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->access = q->action == GRAPNEL_SUBSCRIBE ? ACCESS_SUBSCRIBE
	    : q->action == GRAPNEL_READ            ? ACCESS_READ
						   : ACCESS_WRITE;
	c->qos = q->qos;
	c->retain = q->retain;
	return ask(in, req, c);
}

enum grapnel_verdict
hook_unsubscribe(
    void *instance, struct grapnel_request *req, const struct grapnel_client_subscribe *q)
{
	struct instance *in = instance;
	struct call *c;

	/* Version 4 has no such question. */
	if (!wants(in, EVT_ACL_CHECK) || atomic_load(&in->engine->version) < 5)
		return GRAPNEL_NEXT;
	c = call_about(in, CALL_UNSUBSCRIBE, q->client, q->filter, NULL);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->access = ACCESS_UNSUBSCRIBE;
	return ask(in, req, c);
}

/* ---- messages ---------------------------------------------------------------------------- */

enum grapnel_verdict
hook_publish(void *instance, struct grapnel_request *req, const struct grapnel_message_publish *q)
{
	struct instance *in = instance;
	struct grapnel_str topic = q->message->topic_name;
	bool control = topic.len >= 9 && memcmp(topic.data, "$CONTROL/", 9) == 0;
	struct call *c;

	if (!wants(in, control ? EVT_CONTROL : EVT_MESSAGE))
		return GRAPNEL_NEXT;
	c = call_about(in, control ? CALL_CONTROL : CALL_MESSAGE, q->client, topic, q->message);
	if (c == NULL)
		return GRAPNEL_UNAVAILABLE;
	c->qos = q->message->qos;
	c->retain = q->message->retain;
	return ask(in, req, c);
}

static bool
contains(struct grapnel_str s, const char *text)
{
	return s.len > 0 && memmem(s.data, s.len, text, strlen(text)) != NULL;
}

/* Its name of the property, or the one that it had before a restart: what has waited since then is for nobody any more. */
static bool
is_token(const struct engine *e, struct grapnel_str name)
{
	size_t len = strlen(e->token);

	return name.len == len && memcmp(name.data, e->token, len - TOKEN_RANDOM) == 0;
}

/* A message that the foreign plugin has sent to one client: others do not get it, and it does not say so. */
enum grapnel_verdict
hook_deliver(void *instance, struct grapnel_request *req, const struct grapnel_message_deliver *q)
{
	struct instance *in = instance;
	const struct engine *e = in->engine;
	struct grapnel_property kept[PROPERTIES_MAX], p;
	struct grapnel_publish_answer answer = { .size = sizeof(answer), .has_properties = true };
	struct grapnel_str id = q->client->client_id;
	bool other = false, found = false;
	size_t at = 0;

	if (!contains(q->message->properties, TOKEN_PREFIX))
		return GRAPNEL_NEXT;
	while (in->host->property_next(q->message->properties, &at, &p) > 0) {
		if (p.id != 0x26 || !is_token(e, p.u.pair.name)) {
			if (answer.property_count < PROPERTIES_MAX)
				kept[answer.property_count++] = p;
			continue;
		}
		found = true;
		other = other || memcmp(p.u.pair.name.data, e->token, p.u.pair.name.len) != 0 ||
		    p.u.pair.value.len != id.len ||
		    memcmp(p.u.pair.value.data, id.data, id.len) != 0;
	}
	if (!found)
		return GRAPNEL_NEXT;
	answer.drop = other;
	answer.properties = kept;
	return in->host->publish_answer(req, &answer) == GRAPNEL_OK ? GRAPNEL_ALLOW
								    : GRAPNEL_UNAVAILABLE;
}

void
hook_cancelled(void *instance, struct grapnel_request *req)
{
	engine_cancel(instance, req);
}
