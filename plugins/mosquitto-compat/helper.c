/* SPDX-License-Identifier: Apache-2.0 */
/* helper - mosquitto_*: what goes to an engine: helper.h */
#include "helper_functions.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t claims_lock = PTHREAD_MUTEX_INITIALIZER;
static struct claim *claims;

unsigned
grapnel_mosquitto_version(void)
{
	return HELPER_VERSION;
}

struct claim *
grapnel_mosquitto_claim(struct claim *mine, bool *left)
{
	struct claim *c;

	pthread_mutex_lock(&claims_lock);
	for (c = claims; c != NULL && strcmp(c->path, mine->path) != 0; c = c->next)
		;
	*left = c != NULL && c->left;
	if (c == NULL) {
		mine->next = claims;
		claims = mine;
	}
	pthread_mutex_unlock(&claims_lock);
	return c;
}

void
grapnel_mosquitto_leave(struct claim *mine)
{
	pthread_mutex_lock(&claims_lock);
	mine->left = true;
	pthread_mutex_unlock(&claims_lock);
}

void
grapnel_mosquitto_release(struct claim *mine)
{
	pthread_mutex_lock(&claims_lock);
	for (struct claim **at = &claims; *at != NULL; at = &(*at)->next) {
		if (*at == mine) {
			*at = mine->next;
			break;
		}
	}
	pthread_mutex_unlock(&claims_lock);
}

void
grapnel_mosquitto_mapped(struct claim *mine, const void *base)
{
	pthread_mutex_lock(&claims_lock);
	mine->base = base;
	pthread_mutex_unlock(&claims_lock);
}

void
grapnel_mosquitto_thread(struct claim *mine)
{
	pthread_mutex_lock(&claims_lock);
	mine->thread = pthread_self();
	mine->has_thread = true;
	pthread_mutex_unlock(&claims_lock);
}

/* ---- whose call it is -------------------------------------------------------------------- */

struct held {
	struct engine_head *engine; /* NULL: nobody's */
	bool locked;                /* claims_lock, so that the engine stays */
};

/* Of this thread, or, on one that a foreign plugin has started, whose code calls, or the only one there is. Under the lock. */
static struct engine_head *
find_engine(const void *base, bool *own_thread)
{
	for (const struct claim *c = claims; c != NULL; c = c->next) {
		*own_thread = c->has_thread && pthread_equal(c->thread, pthread_self());
		if (*own_thread || (base != NULL && c->base == base))
			return c->engine;
	}
	return base != NULL && claims != NULL && claims->next == NULL ? claims->engine : NULL;
}

static struct held
hold_engine(const void *caller)
{
	struct held h = { 0 };
	bool own_thread = false;
	Dl_info info;

	pthread_mutex_lock(&claims_lock);
	h.engine = find_engine(NULL, &own_thread);
	pthread_mutex_unlock(&claims_lock);
	if (h.engine != NULL || dladdr(caller, &info) == 0)
		return h;
	/* The loader has a lock of its own, which may be held by who calls us: not under ours. */
	pthread_mutex_lock(&claims_lock);
	h.engine = find_engine(info.dli_fbase, &own_thread);
	h.locked = h.engine != NULL;
	if (!h.locked)
		pthread_mutex_unlock(&claims_lock);
	return h;
}

static void
let_go(struct held h)
{
	if (h.locked)
		pthread_mutex_unlock(&claims_lock);
}

#define CALLER __builtin_return_address(0)

/* ---- callbacks, log ---------------------------------------------------------------------- */

int
mosquitto_callback_register(struct engine_head *identifier, int event, callback_fn cb_func,
    const void *event_data, void *userdata)
{
	if (identifier == NULL || cb_func == NULL)
		return MOSQ_INVAL;
	return identifier->calls->callback_register(
	    identifier, event, cb_func, event_data, userdata);
}

int
mosquitto_callback_unregister(
    struct engine_head *identifier, int event, callback_fn cb_func, const void *event_data)
{
	if (identifier == NULL || cb_func == NULL)
		return MOSQ_INVAL;
	return identifier->calls->callback_unregister(identifier, event, cb_func, event_data);
}

void
mosquitto_log_vprintf(int level, const char *fmt, va_list va)
{
	struct held h = hold_engine(CALLER);

	if (h.engine != NULL && fmt != NULL)
		h.engine->calls->log(h.engine, level, fmt, va);
	let_go(h);
}

void
mosquitto_log_printf(int level, const char *fmt, ...)
{
	struct held h = hold_engine(CALLER);
	va_list va;

	va_start(va, fmt);
	if (h.engine != NULL && fmt != NULL)
		h.engine->calls->log(h.engine, level, fmt, va);
	va_end(va);
	let_go(h);
}

/* ---- clients ----------------------------------------------------------------------------- */

const char *
mosquitto_client_address(const struct mosquitto *client)
{
	return client != NULL ? client->address : NULL;
}

bool
mosquitto_client_clean_session(const struct mosquitto *client)
{
	return client == NULL || client->clean_session;
}

const char *
mosquitto_client_id(const struct mosquitto *client)
{
	return client != NULL ? client->id : NULL;
}

int
mosquitto_client_keepalive(const struct mosquitto *client)
{
	return client != NULL ? client->keepalive : -1;
}

void *
mosquitto_client_certificate(const struct mosquitto *client)
{
	if (client != NULL)
		client->engine->calls->unsupported(client->engine, __func__,
		    "NULL is returned, as of a client without certificate");
	return NULL;
}

int
mosquitto_client_protocol(const struct mosquitto *client)
{
	return client != NULL ? 0 /* mp_mqtt */ : -1;
}

int
mosquitto_client_protocol_version(const struct mosquitto *client)
{
	return client != NULL ? client->protocol_version : -1;
}

int
mosquitto_client_sub_count(const struct mosquitto *client)
{
	if (client != NULL)
		client->engine->calls->unsupported(client->engine, __func__, "0 is returned");
	return 0;
}

const char *
mosquitto_client_username(const struct mosquitto *client)
{
	return client != NULL ? client->username : NULL;
}

int
mosquitto_set_username(struct mosquitto *client, const char *username)
{
	if (client == NULL || (username != NULL && *username == '\0'))
		return MOSQ_INVAL;
	return client->engine->calls->set_username(client, username);
}

int
mosquitto_kick_client_by_clientid(const char *clientid, bool with_will)
{
	struct held h = hold_engine(CALLER);
	int rc = MOSQ_UNKNOWN;

	(void)with_will;
	if (h.engine != NULL)
		rc = h.engine->calls->kick_client_id(h.engine, clientid);
	let_go(h);
	return rc;
}

int
mosquitto_kick_client_by_username(const char *username, bool with_will)
{
	struct held h = hold_engine(CALLER);
	int rc = MOSQ_UNKNOWN;

	(void)with_will;
	if (h.engine != NULL)
		rc = h.engine->calls->kick_username(h.engine, username);
	let_go(h);
	return rc;
}

/* ---- messages ---------------------------------------------------------------------------- */

static int
publish(const void *caller, const char *clientid, const char *topic, int payloadlen,
    const void *payload, int qos, bool retain, struct mqtt5__property *properties)
{
	struct held h;
	int rc = MOSQ_UNKNOWN;

	if (topic == NULL || payloadlen < 0 || (payloadlen > 0 && payload == NULL) || qos < 0 ||
	    qos > 2)
		return MOSQ_INVAL;
	h = hold_engine(caller);
	if (h.engine != NULL)
		rc = h.engine->calls->publish(
		    h.engine, clientid, topic, payloadlen, payload, qos, retain, properties);
	let_go(h);
	if (rc == MOSQ_SUCCESS)
		mosquitto_property_free_all(&properties);
	return rc;
}

int
mosquitto_broker_publish(const char *clientid, const char *topic, int payloadlen, void *payload,
    int qos, bool retain, struct mqtt5__property *properties)
{
	int rc = publish(CALLER, clientid, topic, payloadlen, payload, qos, retain, properties);

	if (rc == MOSQ_SUCCESS)
		free(payload);
	return rc;
}

int
mosquitto_broker_publish_copy(const char *clientid, const char *topic, int payloadlen,
    const void *payload, int qos, bool retain, struct mqtt5__property *properties)
{
	return publish(CALLER, clientid, topic, payloadlen, payload, qos, retain, properties);
}

/* ---- memory ------------------------------------------------------------------------------ */

void *
mosquitto_calloc(size_t nmemb, size_t size)
{
	return calloc(nmemb, size);
}

void
mosquitto_free(void *mem)
{
	free(mem);
}

void *
mosquitto_malloc(size_t size)
{
	return malloc(size);
}

void *
mosquitto_realloc(void *ptr, size_t size)
{
	return realloc(ptr, size);
}

char *
mosquitto_strdup(const char *s)
{
	return s != NULL ? strdup(s) : NULL;
}
