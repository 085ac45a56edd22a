/* SPDX-License-Identifier: Apache-2.0 */
/* calls - the foreign plugin is asked, and what it says becomes an answer. On the engine's thread: engine.h */
#include "calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SAY_FAILED_MS 10000u
#define PSK_HEX_MAX   (2 * GRAPNEL_PSK_KEY_MAX + 2)

/* It is neither yes nor no: the operator hears of it, but not each time. */
static enum grapnel_verdict
failed(struct engine *e, int event, int rc)
{
	uint64_t now = engine_now_ms();

	engine_count(e, METRIC_FAILED, 1);
	if (e->said_failed_ms == 0 || now - e->said_failed_ms >= SAY_FAILED_MS) {
		e->said_failed_ms = now;
		engine_log(e, GRAPNEL_LOG_WARNING,
		    "the Mosquitto plugin returned %d (%s) to %s; this is answered with "
		    "\"unavailable\"",
		    rc, mosquitto_strerror(rc), foreign_event_name(event));
	}
	return GRAPNEL_UNAVAILABLE;
}

static enum grapnel_verdict
verdict_of(struct engine *e, int event, int rc)
{
	switch (rc) {
	case MOSQ_SUCCESS:
		return GRAPNEL_ALLOW;
	case MOSQ_PLUGIN_DEFER:
		return GRAPNEL_NEXT;
	case MOSQ_AUTH:
	case MOSQ_ACL_DENIED:
		return GRAPNEL_DENY;
	default:
		return failed(e, event, rc);
	}
}

/* The host has not taken an answer (err): of a Topic Name with wildcards, say. The request is still there. */
static void
settle(struct engine *e, const struct call *c, struct grapnel_request *req, int err)
{
	if (err != GRAPNEL_EINVAL)
		return;
	engine_count(e, METRIC_FAILED, 1);
	call_resolve(c->kind, c->host, req, GRAPNEL_UNAVAILABLE);
}

static struct mosquitto *
show(struct call *c)
{
	atomic_store(&c->client->shown, true);
	return &c->client->seen;
}

static struct grapnel_str
str(const char *text)
{
	return (struct grapnel_str){ text, text != NULL ? strlen(text) : 0 };
}

/* ---- logins ------------------------------------------------------------------------------ */

static void
resolve_auth(struct engine *e, struct call *c, enum grapnel_verdict verdict,
    struct grapnel_auth_answer *answer)
{
	struct grapnel_request *req = engine_answer(e, c);

	answer->size = sizeof(*answer);
	answer->username = str(c->client->named);
	if (req != NULL)
		settle(e, c, req, c->host->auth_resolve(req, verdict, answer));
}

static void
ask_basic_auth(struct engine *e, struct call *c)
{
	struct evt_basic_auth ed = {
		.client = show(c), .username = c->username, .password = c->password
	};
	struct grapnel_auth_answer answer = { .size = sizeof(answer) };
	int rc;

	ed.more.password_len = (uint16_t)c->password_len;
	e->in_login = c;
	rc = foreign_call(e, EVT_BASIC_AUTH, &ed, NULL, false);
	e->in_login = NULL;
	resolve_auth(e, c, verdict_of(e, EVT_BASIC_AUTH, rc), &answer);
}

static void
ask_ext_auth(struct engine *e, struct call *c)
{
	int event = c->first ? EVT_EXT_AUTH_START : EVT_EXT_AUTH_CONTINUE, rc;
	struct evt_extended_auth ed = { .client = show(c),
		.data_in = c->data,
		.data_in_len = (uint16_t)c->data_len,
		.auth_method = c->method };
	struct grapnel_auth_answer answer = { .size = sizeof(answer) };
	enum grapnel_verdict verdict;

	e->in_login = c;
	rc = foreign_call(e, event, &ed, NULL, false);
	e->in_login = NULL;
	answer.more = rc == MOSQ_AUTH_CONTINUE;
	if (ed.data_out != NULL)
		answer.data = (struct grapnel_str){ ed.data_out, ed.data_out_len };
	/* Of an unknown method a plugin of Mosquitto says that it does not support it. */
	verdict = answer.more          ? GRAPNEL_ALLOW
	    : rc == MOSQ_NOT_SUPPORTED ? GRAPNEL_NEXT
				       : verdict_of(e, event, rc);
	resolve_auth(e, c, verdict, &answer);
	if (ed.data_out != NULL)
		explicit_bzero(ed.data_out, ed.data_out_len);
	free(ed.data_out);
}

static int
hex(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* @return bytes; 0: it is no key that TLS here takes. */
static size_t
read_key(const char *text, char key[GRAPNEL_PSK_KEY_MAX])
{
	size_t len = strnlen(text, PSK_HEX_MAX);

	if (len % 2 != 0 || len / 2 < GRAPNEL_PSK_KEY_MIN || len / 2 > GRAPNEL_PSK_KEY_MAX)
		return 0;
	for (size_t i = 0; i < len; i += 2) {
		int high = hex(text[i]), low = hex(text[i + 1]);

		if (high < 0 || low < 0)
			return 0;
		key[i / 2] = (char)(high * 16 + low);
	}
	return len / 2;
}

static void
ask_psk(struct engine *e, struct call *c)
{
	char text[PSK_HEX_MAX] = "", key[GRAPNEL_PSK_KEY_MAX];
	struct evt_psk_key ed = { .client = show(c),
		.hint = "",
		.identity = c->topic,
		.key = text,
		.max_key_len = (int)sizeof(text) };
	int rc = foreign_call(e, EVT_PSK_KEY, &ed, NULL, false);
	struct grapnel_psk_answer answer = { .size = sizeof(answer) };
	enum grapnel_verdict verdict = verdict_of(e, EVT_PSK_KEY, rc);
	struct grapnel_request *req;

	if (verdict == GRAPNEL_ALLOW) {
		answer.key = (struct grapnel_str){ key, read_key(text, key) };
		if (answer.key.len == 0) {
			engine_log(e, GRAPNEL_LOG_WARNING,
			    "the Mosquitto plugin gave a TLS key that is not %u to %u bytes in "
			    "hexadecimal digits; the handshake fails",
			    GRAPNEL_PSK_KEY_MIN, GRAPNEL_PSK_KEY_MAX);
			verdict = GRAPNEL_DENY;
		}
	}
	if ((req = engine_answer(e, c)) != NULL)
		settle(e, c, req,
		    c->host->psk_resolve(req, verdict, verdict == GRAPNEL_ALLOW ? &answer : NULL));
	explicit_bzero(text, sizeof(text));
	explicit_bzero(key, sizeof(key));
}

/* ---- rights ------------------------------------------------------------------------------ */

static void
ask_acl(struct engine *e, struct call *c)
{
	struct evt_acl_check ed = { .client = show(c),
		.topic = c->topic,
		.payload = c->data,
		.payloadlen = (uint32_t)c->data_len,
		.properties = c->properties,
		.access = c->access,
		.qos = c->qos,
		.retain = c->retain };
	int rc = foreign_call(e, EVT_ACL_CHECK, &ed, NULL, false);
	enum grapnel_verdict verdict = verdict_of(e, EVT_ACL_CHECK, rc);
	struct grapnel_acl_answer answer = { .size = sizeof(answer),
		.rule = GRAPNEL_STR("MOSQ_EVT_ACL_CHECK") };
	struct grapnel_request *req = engine_answer(e, c);

	if (req == NULL)
		return;
	if (c->kind == CALL_ACL)
		(void)c->host->acl_resolve(req, verdict, &answer);
	else
		(void)c->host->subscribe_resolve(req, verdict, NULL);
}

/* ---- messages ---------------------------------------------------------------------------- */

static uint8_t
refusal(int rc, uint8_t reason_code)
{
	if (reason_code >= 0x80)
		return reason_code;
	return rc == MOSQ_QUOTA_EXCEEDED ? 0x97 : 0x87;
}

/* A command: it goes no further, whatever the foreign plugin says. */
static void
ask_control(struct engine *e, struct call *c)
{
	struct evt_control ed = { .client = show(c),
		.topic = c->topic,
		.payload = c->data,
		.properties = c->properties,
		.payloadlen = (uint32_t)c->data_len,
		.qos = c->qos,
		.retain = c->retain };
	bool command = foreign_commands(e, c->topic);
	int rc = foreign_call(e, EVT_CONTROL, &ed, c->topic, false);
	enum grapnel_verdict verdict =
	    command && rc == MOSQ_PLUGIN_DEFER ? GRAPNEL_ALLOW : verdict_of(e, EVT_CONTROL, rc);
	struct grapnel_publish_answer answer = { .size = sizeof(answer),
		.drop = verdict == GRAPNEL_ALLOW,
		.reason_code = verdict == GRAPNEL_DENY ? refusal(rc, ed.reason_code) : 0,
		.reason_string = str(ed.reason_string) };
	struct grapnel_request *req;

	calls_rights_changed(e);
	if ((req = engine_answer(e, c)) != NULL)
		settle(e, c, req, c->host->publish_resolve(req, verdict, &answer));
	free(ed.reason_string);
}

/* What a foreign plugin is given it may change in place, replace, or free. */
struct handed_out {
	struct evt_message ed;
	char *topic, *payload;
	struct mqtt5__property *properties;
	unsigned count, alive; /* of properties: were there, are there still */
};

static bool
hand_out(struct handed_out *h, struct call *c)
{
	memset(h, 0, sizeof(*h));
	h->topic = strdup(c->topic);
	h->payload = malloc(c->data_len + 1);
	if (h->topic == NULL || h->payload == NULL ||
	    mosquitto_property_copy_all(&h->properties, c->properties) != MOSQ_SUCCESS) {
		free(h->topic);
		free(h->payload);
		return false;
	}
	memcpy(h->payload, c->data, c->data_len + 1);
	for (struct mqtt5__property *p = h->properties; p != NULL; p = p->next) {
		p->alive = &h->alive;
		h->count++;
	}
	h->alive = h->count;
	h->ed.properties = h->properties;
	h->ed.client = show(c);
	h->ed.topic = h->topic;
	h->ed.payload = h->payload;
	h->ed.payloadlen = (uint32_t)c->data_len;
	h->ed.qos = c->qos;
	h->ed.retain = c->retain;
	return true;
}

/* Mosquitto 2.0 leaves the properties that it is given no more to the plugin, 2.1 frees them. */
static bool
has_left_behind(const struct handed_out *h)
{
	const struct mqtt5__property *p = h->ed.properties;

	while (p != NULL && p != h->properties)
		p = p->next;
	return p == NULL && h->alive == h->count;
}

/* Of each what it is now, and what it was when it is another one. */
static void
take_back(struct handed_out *h)
{
	if (has_left_behind(h))
		mosquitto_property_free_all(&h->properties);
	if (h->ed.topic != h->topic)
		free(h->topic);
	if (h->ed.payload != h->payload)
		free(h->payload);
	free(h->ed.topic);
	free(h->ed.payload);
	free(h->ed.reason_string);
	mosquitto_property_free_all(&h->ed.properties);
}

/* What differs from the question. NULL of *properties: there are none, or no memory (false). */
static bool
changes(const struct call *c, const struct evt_message *ed, struct grapnel_publish_answer *answer,
    struct grapnel_property **properties)
{
	size_t len = ed->payload != NULL ? ed->payloadlen : 0;

	if (ed->topic != NULL && strcmp(ed->topic, c->topic) != 0)
		answer->topic_name = str(ed->topic);
	if (len != c->data_len || (len > 0 && memcmp(ed->payload, c->data, len) != 0))
		answer->payload = (struct grapnel_str){ len > 0 ? ed->payload : "", len };
	if (ed->retain != c->retain) {
		answer->has_retain = true;
		answer->retain = ed->retain;
	}
	if (properties_equal(ed->properties, c->properties))
		return true;
	answer->has_properties = true;
	*properties = properties_to_host(ed->properties, &answer->property_count);
	answer->properties = *properties;
	return *properties != NULL || answer->property_count == 0;
}

static void
ask_message(struct engine *e, struct call *c)
{
	struct grapnel_publish_answer answer = { .size = sizeof(answer) };
	struct grapnel_property *properties = NULL;
	enum grapnel_verdict verdict;
	struct grapnel_request *req;
	struct handed_out h;
	int rc;

	if (!hand_out(&h, c)) {
		if ((req = engine_answer(e, c)) != NULL)
			call_resolve(c->kind, c->host, req, GRAPNEL_UNAVAILABLE);
		return;
	}
	rc = foreign_call(e, EVT_MESSAGE, &h.ed, NULL, true);
	verdict = rc == MOSQ_QUOTA_EXCEEDED ? GRAPNEL_DENY : verdict_of(e, EVT_MESSAGE, rc);
	answer.reason_string = str(h.ed.reason_string);
	if (verdict == GRAPNEL_DENY)
		answer.reason_code = refusal(rc, h.ed.reason_code);
	else if (verdict == GRAPNEL_ALLOW && !changes(c, &h.ed, &answer, &properties))
		verdict = GRAPNEL_UNAVAILABLE;
	if ((req = engine_answer(e, c)) != NULL)
		settle(e, c, req, c->host->publish_resolve(req, verdict, &answer));
	free(properties);
	take_back(&h);
}

/* ---- what it is told --------------------------------------------------------------------- */

static void
tell_disconnect(struct engine *e, struct call *c)
{
	struct evt_disconnect ed = { .client = &c->client->seen, .reason = c->reason };

	(void)foreign_tell(e, EVT_DISCONNECT, &ed);
}

void
calls_tick(struct engine *e)
{
	struct timespec now;
	struct evt_tick ed = { 0 };

	(void)clock_gettime(CLOCK_REALTIME, &now);
	ed.now_s = now.tv_sec;
	ed.now_ns = now.tv_nsec;
	(void)foreign_tell(e, EVT_TICK, &ed);
}

void
calls_reload(struct engine *e)
{
	struct evt_reload ed = { .options = e->loaded->options, .option_count = e->loaded->count };
	int rc = foreign_tell(e, EVT_RELOAD, &ed);

	if (rc != MOSQ_SUCCESS)
		engine_log(e, GRAPNEL_LOG_ERROR,
		    "the Mosquitto plugin returned %d (%s) to MOSQ_EVT_RELOAD; what it has logged "
		    "may say why",
		    rc, mosquitto_strerror(rc));
	calls_rights_changed(e);
}

void
calls_rights_changed(struct engine *e)
{
	const struct instance *in;

	(void)pthread_mutex_lock(&e->lock);
	in = e->current;
	if (in != NULL && in->purge)
		(void)in->host->cache_purge(
		    in->self, (struct grapnel_str){ 0 }, (struct grapnel_str){ 0 });
	(void)pthread_mutex_unlock(&e->lock);
}

/*
 * The name under which the client was let in may be another one than it came with, so that each question brings it along: the
 * foreign plugin never decides by one that nobody has proved. In a login, what it has called the client itself counts until the
 * last step. false: no memory.
 */
static bool
name_client(struct call *c)
{
	struct client *client = c->client;
	bool begins = c->kind == CALL_BASIC_AUTH || (c->kind == CALL_EXT_AUTH && c->first);
	const char *name = c->username;
	char *copy = NULL;

	if (c->kind == CALL_DISCONNECT)
		return true;
	if (begins) {
		free(client->named);
		client->named = NULL;
	}
	if (c->kind == CALL_EXT_AUTH && client->named != NULL)
		name = client->named;
	if (name != NULL && client->seen.username != NULL &&
	    strcmp(name, client->seen.username) == 0)
		return true;
	if (name != NULL && (copy = strdup(name)) == NULL)
		return false;
	free(client->seen.username);
	client->seen.username = copy;
	return true;
}

void
calls_run(struct engine *e, struct call *c)
{
	struct grapnel_request *req;

	if (e->loaded == NULL || !name_client(c)) {
		if (c->kind < CALL_DISCONNECT && (req = engine_answer(e, c)) != NULL)
			call_resolve(c->kind, c->host, req, GRAPNEL_UNAVAILABLE);
		call_free(c);
		return;
	}
	e->about = c->client;
	switch (c->kind) {
	case CALL_BASIC_AUTH:
		ask_basic_auth(e, c);
		break;
	case CALL_EXT_AUTH:
		ask_ext_auth(e, c);
		break;
	case CALL_ACL:
	case CALL_UNSUBSCRIBE:
		ask_acl(e, c);
		break;
	case CALL_MESSAGE:
		ask_message(e, c);
		break;
	case CALL_CONTROL:
		ask_control(e, c);
		break;
	case CALL_PSK:
		ask_psk(e, c);
		break;
	case CALL_DISCONNECT:
		tell_disconnect(e, c);
		break;
	case CALL_USERNAME: /* name_client has done it */
		break;
	}
	e->about = NULL;
	call_free(c);
}
